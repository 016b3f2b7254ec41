//! Elementwise ops as methods and as operators.

use std::ops;
use std::panic::Location;

use super::operand::{Operand, broadcast_shape, mismatch, promote, promote_numbers, refuse};
use super::tensor::Tensor;
use super::trace::apply;
use crate::graph::{BinaryOp, CompareOp, Op, UnaryOp};
use crate::types::DType;

impl Tensor {
    /// Applies a primitive of one operand.
    #[track_caller]
    pub fn unary(&self, op: UnaryOp) -> Self {
        apply(Op::Unary(op), &[self], Location::caller())
    }

    /// Applies a primitive of two operands after promotion and broadcasting. As in `jax.numpy`, the sum and the larger
    /// of two truth values is whether either is true, their product and the smaller whether both are.
    #[track_caller]
    pub fn binary(&self, op: BinaryOp, other: impl Operand) -> Self {
        let (x, y) = promote(op.name(), self.operand(), other.operand());
        let op = match op {
            BinaryOp::Add | BinaryOp::Max if x.dtype() == DType::Bool => BinaryOp::Or,
            BinaryOp::Mul | BinaryOp::Min if x.dtype() == DType::Bool => BinaryOp::And,
            op => op,
        };
        apply(Op::Binary(op), &[&x, &y], Location::caller())
    }

    /// `x / y` as a real number, as `jax.numpy.true_divide` (Python's `/`) has it: integers and truth values become f32.
    /// The operator `/` keeps to integers instead.
    ///
    /// ```
    /// # use fulgurite_jit::Tensor;
    /// # fn traced(hits: &Tensor, tries: &Tensor) {
    /// let share = hits.true_divide(tries); // i32 by i32 gives f32
    /// # }
    /// ```
    #[track_caller]
    pub fn true_divide(&self, other: impl Operand) -> Self {
        let (x, y) = promote("true_divide", self.operand(), other.operand());
        x.inexact().binary(BinaryOp::Div, y.inexact())
    }

    /// The largest whole number not above `x / y`, as `jax.numpy.floor_divide` (Python's `//`) has it; truth values count
    /// as i32. Integers divided by 0 give what [`BinaryOp::Div`] has, less 1 where the signs differ.
    #[track_caller]
    pub fn floor_divide(&self, other: impl Operand) -> Self {
        let (x, y) = promote_numbers("floor_divide", self.operand(), other.operand());
        let remainder = &x % &y;
        if x.dtype().is_float() {
            // As in CPython's `float_divmod`: the quotient of what is left without the remainder is whole but for its
            // rounding.
            let left = y.equal(0).select(&x, &x - &remainder);
            let quotient = left / &y;
            let below = remainder.not_equal(0).and(y.sign().not_equal(remainder.sign()));
            return below.select(&quotient - 1, &quotient).round();
        }
        let quotient = &x / &y;
        if x.dtype() != DType::I32 {
            return quotient;
        }
        let below = x.sign().not_equal(y.sign()).and(remainder.not_equal(0));
        below.select(&quotient - 1, &quotient)
    }

    /// What [`Tensor::floor_divide`] leaves, with the sign of `y`, as `jax.numpy.remainder` (Python's `%`) has it; truth
    /// values count as i32. Of integers by 0 it is 0, of floats NaN. The operator `%` has the sign of `x` instead.
    ///
    /// ```
    /// # use fulgurite_jit::Tensor;
    /// # fn traced(angle: &Tensor) {
    /// let turned = angle.remainder(std::f64::consts::TAU); // in 0..2π, below 0 as well
    /// # }
    /// ```
    #[track_caller]
    pub fn remainder(&self, other: impl Operand) -> Self {
        let (x, y) = promote_numbers("remainder", self.operand(), other.operand());
        let y = if y.dtype().is_float() { y } else { y.equal(0).select(1, &y) };
        let remainder = x % &y;
        if y.dtype() == DType::U32 {
            return remainder;
        }
        let other_side = remainder.less(0).not_equal(y.less(0)).and(remainder.not_equal(0));
        other_side.select(&remainder + y, &remainder)
    }

    /// As floats: integers and truth values as f32.
    #[track_caller]
    pub(crate) fn inexact(&self) -> Self {
        if self.dtype().is_float() { self.clone() } else { self.convert(DType::F32) }
    }

    /// Applies a comparison after promotion and broadcasting; gives bool.
    #[track_caller]
    pub fn compare(&self, op: CompareOp, other: impl Operand) -> Self {
        let (x, y) = promote(op.name(), self.operand(), other.operand());
        apply(Op::Compare(op), &[&x, &y], Location::caller())
    }

    /// `self ? x : y`, elementwise, after promotion and broadcasting of all three; `self` is bool.
    #[track_caller]
    pub fn select(&self, x: impl Operand, y: impl Operand) -> Self {
        let (x, y) = promote("select", x.operand(), y.operand());
        let Some(shape) = broadcast_shape(self.shape(), x.shape()) else {
            let error = mismatch("select", self.ty(), x.ty(), Location::caller());
            return refuse(&[self, &x, &y], error);
        };
        let (pred, x, y) = (self.broadcast_to(&shape), x.broadcast_to(&shape), y.broadcast_to(&shape));
        apply(Op::Select, &[&pred, &x, &y], Location::caller())
    }

    /// Limits every element to `low..=high`.
    #[track_caller]
    pub fn clamp(&self, low: impl Operand, high: impl Operand) -> Self {
        self.maximum(low).minimum(high)
    }

    /// `x * x`; of truth values as i32.
    #[track_caller]
    pub fn square(&self) -> Self {
        let x = if self.dtype() == DType::Bool { self.convert(DType::I32) } else { self.clone() };
        &x * &x
    }

    /// `x^n` by repeated squaring.
    #[track_caller]
    pub fn powi(&self, n: i32) -> Self {
        let power = self.power(n.unsigned_abs());
        if n < 0 { power.recip() } else { power }
    }

    #[track_caller]
    fn power(&self, n: u32) -> Self {
        let mut result: Option<Tensor> = None;
        let mut base = self.clone();
        let mut rest = n;
        while rest > 0 {
            if rest & 1 == 1 {
                result = Some(result.map_or_else(|| base.clone(), |r| &r * &base));
            }
            rest >>= 1;
            if rest > 0 {
                base = base.square();
            }
        }
        result.unwrap_or_else(|| self.ones_like())
    }

    /// `1 / x`.
    #[track_caller]
    pub fn recip(&self) -> Self {
        self.ones_like().binary(BinaryOp::Div, self)
    }
}

macro_rules! unary_methods {
    ($($(#[$doc:meta])* $name:ident $op:ident;)*) => {
        impl Tensor { $($(#[$doc])* #[track_caller] pub fn $name(&self) -> Self { self.unary(UnaryOp::$op) })* }
    };
}
unary_methods! {
    /// `|x|`. Its derivative at 0 is 1, as in JAX.
    abs Abs;
    /// -1, 0 or 1.
    sign Sign;
    /// Inverts bits, or truth values.
    logical_not Not;
    /// Rounds towards minus infinity.
    floor Floor;
    /// Rounds towards plus infinity.
    ceil Ceil;
    /// Rounds to nearest, ties to even.
    round Round;
    /// Is it neither infinite nor NaN?
    is_finite IsFinite;
    /// Natural exponential.
    exp Exp;
    /// Power of two.
    exp2 Exp2;
    /// `e^x - 1`.
    expm1 Expm1;
    /// Natural logarithm.
    log Log;
    /// `log(1 + x)`.
    log1p Log1p;
    /// Sine, radians.
    sin Sin;
    /// Cosine, radians.
    cos Cos;
    /// Tangent, radians.
    tan Tan;
    /// Inverse sine.
    asin Asin;
    /// Inverse cosine.
    acos Acos;
    /// Inverse tangent.
    atan Atan;
    /// Hyperbolic sine.
    sinh Sinh;
    /// Hyperbolic cosine.
    cosh Cosh;
    /// Hyperbolic tangent.
    tanh Tanh;
    /// Inverse hyperbolic sine.
    asinh Asinh;
    /// Inverse hyperbolic cosine.
    acosh Acosh;
    /// Inverse hyperbolic tangent.
    atanh Atanh;
    /// `1 / (1 + e^-x)`.
    sigmoid Sigmoid;
    /// `log(1 + e^x)`.
    softplus Softplus;
    /// Square root.
    sqrt Sqrt;
    /// `1 / sqrt(x)`.
    rsqrt Rsqrt;
    /// Cube root.
    cbrt Cbrt;
    /// The error function.
    erf Erf;
    /// `1 - erf(x)`.
    erfc Erfc;
    /// The inverse of the error function.
    erf_inv ErfInv;
}

macro_rules! binary_methods {
    ($kind:ident $op:ident: $($(#[$doc:meta])* $name:ident $variant:ident;)*) => {
        impl Tensor { $($(#[$doc])* #[track_caller] pub fn $name(&self, other: impl Operand) -> Self { self.$kind($op::$variant, other) })* }
    };
}
binary_methods! { binary BinaryOp:
    /// The larger, elementwise; NaN if either is.
    maximum Max;
    /// The smaller, elementwise; NaN if either is.
    minimum Min;
    /// `x^y`. As in JAX, its derivative by `y` is 0 at `x = 0`, and NaN below; that by `x` is NaN at
    /// `x = y = 0`, and 0 there where `y` is not differentiated.
    pow Pow;
    /// The angle of the point `(other, self)`.
    atan2 Atan2;
    /// Bitwise (or logical) and.
    and And;
    /// Bitwise (or logical) or.
    or Or;
    /// Bitwise (or logical) exclusive or.
    xor Xor;
    /// `x << y`.
    shift_left Shl;
    /// Logical shift right.
    shift_right_logical Shr;
    /// Arithmetic shift right.
    shift_right_arithmetic Sar;
}
binary_methods! { compare CompareOp:
    /// `x == y`.
    equal Eq;
    /// `x != y`.
    not_equal Ne;
    /// `x < y`.
    less Lt;
    /// `x <= y`.
    less_equal Le;
    /// `x > y`.
    greater Gt;
    /// `x >= y`.
    greater_equal Ge;
}
macro_rules! operators {
    ($($(#[$doc:meta])* $trait:ident $method:ident $op:ident),*) => { $(
        $(#[$doc])*
        impl<R: Operand> ops::$trait<R> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: R) -> Tensor {
                self.binary(BinaryOp::$op, other)
            }
        }
        $(#[$doc])*
        impl<R: Operand> ops::$trait<R> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: R) -> Tensor {
                (&self).binary(BinaryOp::$op, other)
            }
        }
        // Not for f32: with two kinds of float, `1.0 - &x` would be ambiguous.
        operators!(@left $trait $method $op f64 i32);
    )* };
    (@left $trait:ident $method:ident $op:ident $($t:ty)*) => { $(
        impl ops::$trait<&Tensor> for $t {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                let (x, y) = promote(BinaryOp::$op.name(), self.operand(), other.operand());
                apply(Op::Binary(BinaryOp::$op), &[&x, &y], Location::caller())
            }
        }
        impl ops::$trait<Tensor> for $t {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                ops::$trait::$method(self, &other)
            }
        }
    )* };
}
operators!(
    /// The sum; wraps for integers. Of truth values, as in `jax.numpy`, whether either is true.
    Add add Add,
    /// The difference; wraps for integers.
    Sub sub Sub,
    /// The product; wraps for integers. Of truth values, as in `jax.numpy`, whether both are true.
    Mul mul Mul,
    /// The quotient, of integers as Rust has it: they stay integers, and it is rounded towards zero. Unlike in Rust no
    /// quotient panics: `x / 0` has all bits set, and `MIN / -1` is `MIN`, as in `jax.lax.div`. [`Tensor::true_divide`]
    /// and [`Tensor::floor_divide`] are `/` and `//` of `jax.numpy`.
    Div div Div,
    /// The remainder, as Rust has it: with the sign of `x`, so that it is what `/` of integers leaves. Exact for floats.
    /// Unlike in Rust none panics: the remainder of integers by 0 is `x`, as in `jax.lax.rem`. [`Tensor::remainder`] is
    /// `%` of `jax.numpy`.
    Rem rem Rem
);

impl ops::Neg for &Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        self.unary(UnaryOp::Neg)
    }
}

impl ops::Neg for Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        self.unary(UnaryOp::Neg)
    }
}
