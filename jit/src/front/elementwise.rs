//! Elementwise ops as methods and as operators.

use std::ops;
use std::panic::Location;

use super::operand::{Operand, broadcast_shape, mismatch, promote, promote_numbers, reject};
use super::tensor::Tensor;
use super::trace::apply;
use super::x64::default_float;
use crate::graph::{BinaryOp, CompareOp, Op, UnaryOp};
use crate::types::DType;

impl Tensor {
    /// Applies a unary op. As in `jax.numpy`, unsigned integers are their absolute values, and have the signs 0 and 1.
    #[track_caller]
    pub fn unary(&self, op: UnaryOp) -> Self {
        match op {
            UnaryOp::Abs if self.dtype().is_unsigned_int() => return self.clone(),
            UnaryOp::Sign if self.dtype().is_unsigned_int() => return self.not_equal(0).convert(self.dtype()),
            _ => {}
        }
        apply(Op::Unary(op), &[self], Location::caller())
    }

    /// Applies a binary op after promotion and broadcasting. As in `jax.numpy`, `add` and `max` of bools are `or`,
    /// `mul` and `min` are `and`.
    #[track_caller]
    pub fn binary(&self, op: BinaryOp, other: impl Operand) -> Self {
        let (x, y) = promote(op.name(), self.operand(), other.operand());
        let op = match op {
            BinaryOp::Add | BinaryOp::Max if x.dtype() == DType::Bool => BinaryOp::Or,
            BinaryOp::Mul | BinaryOp::Min if x.dtype() == DType::Bool => BinaryOp::And,
            BinaryOp::Pow if x.dtype().is_int() => return x.power_of_ints(&y),
            op => op,
        };
        apply(Op::Binary(op), &[&x, &y], Location::caller())
    }

    /// `x / y`, as `jax.numpy.true_divide` (Python's `/`): integers and bools are converted to f32. The operator `/` on
    /// integers is integer division.
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

    /// `floor(x / y)`, as `jax.numpy.floor_divide` (Python's `//`). Bools are converted to i32. Division of an integer
    /// by 0 gives the result of [`BinaryOp::Div`], less 1 where the signs differ.
    #[track_caller]
    pub fn floor_divide(&self, other: impl Operand) -> Self {
        let (x, y) = promote_numbers("floor_divide", self.operand(), other.operand());
        let remainder = &x % &y;
        if x.dtype().is_float() {
            // As in CPython's `float_divmod`: `(x - remainder) / y` is an integer up to rounding.
            let multiple = y.equal(0).select(&x, &x - &remainder);
            let quotient = multiple / &y;
            let below = remainder.not_equal(0).and(y.sign().not_equal(remainder.sign()));
            return below.select(&quotient - 1, &quotient).round();
        }
        let quotient = &x / &y;
        if !x.dtype().is_signed_int() {
            return quotient;
        }
        let below = x.sign().not_equal(y.sign()).and(remainder.not_equal(0));
        below.select(&quotient - 1, &quotient)
    }

    /// The remainder of [`Tensor::floor_divide`], with the sign of `y`, as `jax.numpy.remainder` (Python's `%`). Bools
    /// are converted to i32. The remainder by 0 is 0 for integers and NaN for floats. The operator `%` has the sign of
    /// `x`.
    ///
    /// ```
    /// # use fulgurite_jit::Tensor;
    /// # fn traced(angle: &Tensor) {
    /// let wrapped = angle.remainder(std::f64::consts::TAU); // in 0..2π, for negative angles too
    /// # }
    /// ```
    #[track_caller]
    pub fn remainder(&self, other: impl Operand) -> Self {
        let (x, y) = promote_numbers("remainder", self.operand(), other.operand());
        let y = if y.dtype().is_float() { y } else { y.equal(0).select(1, &y) };
        let remainder = x % &y;
        if y.dtype().is_unsigned_int() {
            return remainder;
        }
        let other_side = remainder.less(0).not_equal(y.less(0)).and(remainder.not_equal(0));
        other_side.select(&remainder + y, &remainder)
    }

    /// The quotient and the remainder of [`Tensor::floor_divide`]: `jax.numpy.divmod`.
    #[track_caller]
    pub fn divmod(&self, other: impl Operand) -> [Self; 2] {
        let (x, y) = promote_numbers("divmod", self.operand(), other.operand());
        [x.floor_divide(&y), x.remainder(&y)]
    }

    /// Converts integers and bools to f32, or integers of 64 bits to the [default float](crate::with_x64); floats stay
    /// as they are.
    #[track_caller]
    pub(crate) fn inexact(&self) -> Self {
        let is_wide = self.dtype().size() == DType::F64.size();
        match self.dtype().is_float() {
            true => self.clone(),
            false => self.convert(if is_wide { default_float() } else { DType::F32 }),
        }
    }

    /// Applies a comparison after promotion and broadcasting. The result is bool.
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
            return reject(&[self, &x, &y], error);
        };
        let (pred, x, y) = (self.broadcast_to(&shape), x.broadcast_to(&shape), y.broadcast_to(&shape));
        apply(Op::Select, &[&pred, &x, &y], Location::caller())
    }

    /// `min(max(x, low), high)`, as `jax.lax.clamp`: the derivative with respect to `x` at its bounds is 0.
    /// [`Tensor::clip`] has 1/2 there.
    #[track_caller]
    pub fn clamp(&self, low: impl Operand, high: impl Operand) -> Self {
        let [low, high] = [low.operand(), high.operand()].map(|bound| bound.into_tensor(self.dtype()));
        let inside = self.greater(&low).and(self.less(&high));
        // Outside, it is a bound, with its derivative; on a bound it is neither's.
        let outside = self.stop_gradient();
        let on_bound = self.equal(&low).or(self.equal(&high));
        inside.select(self, on_bound.select(&outside, outside.maximum(low).minimum(high)))
    }

    /// `min(max(x, min), max)`, as `jax.numpy.clip`: the derivative at its bounds is 1/2. [`Tensor::clamp`] has 0
    /// there.
    #[track_caller]
    pub fn clip(&self, min: impl Operand, max: impl Operand) -> Self {
        self.maximum(min).minimum(max)
    }

    /// Logical not, as `jax.numpy.logical_not`: whether an element is 0. The result is bool.
    #[track_caller]
    pub fn logical_not(&self) -> Self {
        if self.dtype() == DType::Bool { self.bitwise_not() } else { self.equal(0) }
    }

    /// `x * x`. Bools are converted to i32.
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

    /// `1 / x` of the same element type. [`Tensor::reciprocal`] converts integers to f32 first.
    #[track_caller]
    pub fn recip(&self) -> Self {
        self.ones_like().binary(BinaryOp::Div, self)
    }

    /// `1 / x`, as `jax.numpy.reciprocal`: integers and bools are converted to f32.
    #[track_caller]
    pub fn reciprocal(&self) -> Self {
        self.inexact().recip()
    }
}

/// Selects `x` where `condition` is true, `y` elsewhere, as `jax.numpy.where`: a condition that is not bool is compared
/// with 0, `x` and `y` are promoted, and all three are broadcast.
#[track_caller]
pub fn where_(condition: &Tensor, x: impl Operand, y: impl Operand) -> Tensor {
    if condition.dtype() == DType::Bool { condition.select(x, y) } else { condition.not_equal(0).select(x, y) }
}

/// [`Tensor::select`] as a function, with the argument order of `jax.lax.select`.
#[track_caller]
pub fn select(condition: &Tensor, on_true: impl Operand, on_false: impl Operand) -> Tensor {
    condition.select(on_true, on_false)
}

macro_rules! unary_methods {
    ($($(#[$doc:meta])* $name:ident $op:ident;)*) => {
        impl Tensor { $($(#[$doc])* #[track_caller] pub fn $name(&self) -> Self { self.unary(UnaryOp::$op) })* }
    };
}
unary_methods! {
    /// `|x|`. Its derivative at 0 is 1, as in JAX.
    abs Abs;
    /// The sign: -1, 0 or 1.
    sign Sign;
    /// Bitwise not of integers; logical not of bools.
    bitwise_not Not;
    /// Rounds towards negative infinity.
    floor Floor;
    /// Rounds towards positive infinity.
    ceil Ceil;
    /// Rounds to nearest, ties to even.
    round Round;
    /// Whether an element is neither infinite nor NaN.
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
    /// `ln |gamma(x)|`, as `jax.lax.lgamma`: infinite at 0 and at negative integers.
    lgamma Lgamma;
    /// The derivative of [`Tensor::lgamma`], as `jax.lax.digamma`: NaN at 0 and at negative integers.
    digamma Digamma;
    /// `e^-|x| I0(x)`, of the modified Bessel function of the first kind, as `jax.lax.bessel_i0e`.
    bessel_i0e BesselI0e;
    /// `e^-|x| I1(x)`, as `jax.lax.bessel_i1e`.
    bessel_i1e BesselI1e;
}

macro_rules! binary_methods {
    ($kind:ident $op:ident: $($(#[$doc:meta])* $name:ident $variant:ident;)*) => {
        impl Tensor { $($(#[$doc])* #[track_caller] pub fn $name(&self, other: impl Operand) -> Self { self.$kind($op::$variant, other) })* }
    };
}
binary_methods! { binary BinaryOp:
    /// The elementwise maximum. NaN propagates.
    maximum Max;
    /// The elementwise minimum. NaN propagates.
    minimum Min;
    /// `x^y`. As in JAX, the derivative with respect to `y` is 0 for `x = 0` and NaN for `x < 0`. The derivative with
    /// respect to `x` at `x = y = 0` is NaN, or 0 if `y` is not differentiated.
    pow Pow;
    /// The angle of the point `(other, self)`, in radians.
    atan2 Atan2;
    /// Bitwise and of integers; logical and of bools.
    and And;
    /// Bitwise or of integers; logical or of bools.
    or Or;
    /// Bitwise exclusive or of integers; logical exclusive or of bools.
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
        // Not for f32: with two float types, `1.0 - &x` would be ambiguous.
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
    /// The sum. Integers wrap. For bools, as in `jax.numpy`, logical or.
    Add add Add,
    /// The difference. Integers wrap.
    Sub sub Sub,
    /// The product. Integers wrap. For bools, as in `jax.numpy`, logical and.
    Mul mul Mul,
    /// The quotient. For integers it is rounded towards zero, as in Rust, but never panics: as in `jax.lax.div`, `x /
    /// 0` has all bits set, and `MIN / -1` is `MIN`. [`Tensor::true_divide`] and [`Tensor::floor_divide`] are `/` and
    /// `//` of `jax.numpy`.
    Div div Div,
    /// The remainder of `/`, with the sign of `x`, as in Rust, but never panics: as in `jax.lax.rem`, the remainder of
    /// an integer by 0 is `x`. Exact for floats. [`Tensor::remainder`] is `%` of `jax.numpy`.
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
