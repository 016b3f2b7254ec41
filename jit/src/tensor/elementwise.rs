//! Elementwise ops as methods and as operators.

use std::ops;
use std::panic::Location;

use super::Tensor;
use super::operand::{Operand, broadcast_shape, mismatch, promote, refuse};
use crate::graph::{BinaryOp, CompareOp, Op, UnaryOp};
use crate::trace::apply;

impl Tensor {
    /// Applies a primitive of one operand.
    #[track_caller]
    pub fn unary(&self, op: UnaryOp) -> Self {
        apply(Op::Unary(op), &[self], Location::caller())
    }

    /// Applies a primitive of two operands after promotion and broadcasting.
    #[track_caller]
    pub fn binary(&self, op: BinaryOp, other: impl Operand) -> Self {
        let (x, y) = promote(op.name(), self.operand(), other.operand());
        apply(Op::Binary(op), &[&x, &y], Location::caller())
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

    /// `x * x`.
    #[track_caller]
    pub fn square(&self) -> Self {
        self * self
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
    /// `|x|`.
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
    /// `x^y`.
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
    ($($trait:ident $method:ident $op:ident),*) => { $(
        impl<R: Operand> ops::$trait<R> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: R) -> Tensor {
                self.binary(BinaryOp::$op, other)
            }
        }
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
operators!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div, Rem rem Rem);

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
