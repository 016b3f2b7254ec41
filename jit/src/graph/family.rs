//! Families of ops of one arity, which differ in what they do to an element: a row each.

use crate::types::DType;

/// Declares a family of ops of one arity: variant, printed name, element types it takes, the range that its samples are
/// drawn from, and for elementwise ops its cost.
macro_rules! family {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$vdoc:meta])* $variant:ident $text:literal $class:ident $lo:literal..$hi:literal $(, $cost:literal)?;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl $name {
            /// Every member of the family.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            /// The name in the graph's text.
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }

            /// The element types it takes.
            pub fn class(self) -> Class {
                match self { $($name::$variant => Class::$class),* }
            }

            /// The range of operands that samples are drawn from.
            pub fn range(self) -> (f64, f64) {
                match self { $($name::$variant => ($lo as f64, $hi as f64)),* }
            }

            /// An estimate of its lane instructions; 0 where it is not elementwise.
            pub fn cost(self) -> u32 {
                match self { $($name::$variant => 0 $(+ $cost)?),* }
            }

            /// The member of this name.
            pub(super) fn parse(text: &str) -> Option<$name> {
                Self::ALL.iter().copied().find(|op| op.name() == text)
            }
        }
    };
}

/// A set of element types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Floats.
    Float,
    /// Integers, with and without a sign.
    Int,
    /// Floats and integers.
    Number,
    /// Floats and integers with a sign.
    Signed,
    /// Integers and bools.
    Bits,
    /// All.
    Any,
}

impl Class {
    /// Is `dtype` in the set?
    pub fn contains(self, dtype: DType) -> bool {
        match self {
            Class::Float => dtype.is_float(),
            Class::Int => dtype.is_int(),
            Class::Number => dtype != DType::Bool,
            Class::Signed => dtype.is_float() || dtype.is_signed_int(),
            Class::Bits => !dtype.is_float(),
            Class::Any => true,
        }
    }

    /// How messages call it.
    pub fn describe(self) -> &'static str {
        match self {
            Class::Float => "floats",
            Class::Int => "integers",
            Class::Number => "numbers",
            Class::Signed => "floats or signed integers",
            Class::Bits => "integers or bool",
            Class::Any => "anything",
        }
    }
}

family! {
    /// Elementwise ops of one operand that keep its type ([`UnaryOp::IsFinite`] gives bool).
    UnaryOp {
        /// `-x`.
        Neg "neg" Number -3..3, 1;
        /// `|x|`.
        Abs "abs" Signed -3..3, 1;
        /// -1, 0 or 1; keeps ±0 and NaN.
        Sign "sign" Signed -3..3, 3;
        /// Inverts bits, or a bool.
        Not "not" Bits -9..9, 1;
        /// Rounds towards minus infinity.
        Floor "floor" Float -5..5, 1;
        /// Rounds towards plus infinity.
        Ceil "ceil" Float -5..5, 1;
        /// Rounds to nearest, ties to even.
        Round "round" Float -5..5, 1;
        /// Is it neither infinite nor NaN?
        IsFinite "is_finite" Float -5..5, 3;
        /// Natural exponential.
        Exp "exp" Float -5..4, 20;
        /// Power of two.
        Exp2 "exp2" Float -5..4, 20;
        /// `e^x - 1`, exact near 0.
        Expm1 "expm1" Float -3..3, 20;
        /// Natural logarithm.
        Log "log" Float 0.1..9, 20;
        /// `log(1 + x)`, exact near 0.
        Log1p "log1p" Float -0.8..9, 20;
        /// Sine, radians.
        Sin "sin" Float -9..9, 20;
        /// Cosine, radians.
        Cos "cos" Float -9..9, 20;
        /// Tangent, radians.
        Tan "tan" Float -1.3..1.3, 20;
        /// Inverse sine.
        Asin "asin" Float -0.9..0.9, 20;
        /// Inverse cosine.
        Acos "acos" Float -0.9..0.9, 20;
        /// Inverse tangent.
        Atan "atan" Float -5..5, 20;
        /// Hyperbolic sine.
        Sinh "sinh" Float -3..3, 20;
        /// Hyperbolic cosine.
        Cosh "cosh" Float -3..3, 20;
        /// Hyperbolic tangent.
        Tanh "tanh" Float -3..3, 20;
        /// Inverse hyperbolic sine.
        Asinh "asinh" Float -5..5, 20;
        /// Inverse hyperbolic cosine.
        Acosh "acosh" Float 1.1..9, 20;
        /// Inverse hyperbolic tangent.
        Atanh "atanh" Float -0.9..0.9, 20;
        /// `1 / (1 + e^-x)`.
        Sigmoid "logistic" Float -6..6, 20;
        /// `log(1 + e^x)`.
        Softplus "softplus" Float -6..6, 20;
        /// Square root.
        Sqrt "sqrt" Float 0.1..9, 5;
        /// `1 / sqrt(x)`.
        Rsqrt "rsqrt" Float 0.1..9, 8;
        /// Cube root.
        Cbrt "cbrt" Float 0.1..9, 20;
        /// The error function.
        Erf "erf" Float -2..2, 20;
        /// `1 - erf(x)`.
        Erfc "erfc" Float -2..2, 20;
        /// The inverse of the error function.
        ErfInv "erf_inv" Float -0.9..0.9, 20;
        /// `ln |gamma(x)|`.
        Lgamma "lgamma" Float 0.4..9, 80;
        /// The derivative of [`UnaryOp::Lgamma`].
        Digamma "digamma" Float 0.4..9, 80;
        /// `e^-|x|` times the modified Bessel function of the first kind of order 0.
        BesselI0e "bessel_i0e" Float -9..9, 120;
        /// The same of order 1.
        BesselI1e "bessel_i1e" Float -9..9, 120;
    }
}

family! {
    /// Elementwise ops of two operands of one type, which is the result's.
    BinaryOp {
        /// `x + y`; wraps for integers.
        Add "add" Number -3..3, 1;
        /// `x - y`; wraps for integers.
        Sub "sub" Number -3..3, 1;
        /// `x * y`; wraps for integers.
        Mul "mul" Number -3..3, 1;
        /// `x / y`; towards zero for integers.
        Div "div" Number 0.5..3, 4;
        /// Remainder with the sign of `x`.
        Rem "rem" Number 0.5..9, 10;
        /// The larger; NaN if either is.
        Max "max" Number -3..3, 2;
        /// The smaller; NaN if either is.
        Min "min" Number -3..3, 2;
        /// `x^y`.
        Pow "pow" Float 0.3..3, 60;
        /// The angle of the point (y, x): `atan2(x, y)` in the order of the operands.
        Atan2 "atan2" Float 0.3..3, 30;
        /// Bitwise and.
        And "and" Bits 0..9, 1;
        /// Bitwise or.
        Or "or" Bits 0..9, 1;
        /// Bitwise exclusive or.
        Xor "xor" Bits 0..9, 1;
        /// `x << y`; 0 when `y` is 32 or more.
        Shl "shift_left" Int 0..31, 1;
        /// Logical shift right; 0 when `y` is 32 or more.
        Shr "shift_right_logical" Int 0..31, 1;
        /// Arithmetic shift right; the sign everywhere when `y` is 32 or more.
        Sar "shift_right_arithmetic" Int 0..31, 1;
    }
}

family! {
    /// Elementwise comparisons of two operands of one type; the result is bool.
    CompareOp {
        /// Equal; false on NaN.
        Eq "eq" Any -2..2, 1;
        /// Not equal; true on NaN.
        Ne "ne" Any -2..2, 1;
        /// Less; false on NaN.
        Lt "lt" Number -2..2, 1;
        /// Less or equal; false on NaN.
        Le "le" Number -2..2, 1;
        /// Greater; false on NaN.
        Gt "gt" Number -2..2, 1;
        /// Greater or equal; false on NaN.
        Ge "ge" Number -2..2, 1;
    }
}

family! {
    /// Reductions over a set of axes, which vanish.
    ReduceOp {
        /// Sum.
        Sum "reduce_sum" Number -2..2;
        /// Product.
        Prod "reduce_prod" Number 0.5..2;
        /// Largest; NaN if any is. Of nothing: the smallest value there is.
        Max "reduce_max" Number -2..2;
        /// Smallest; NaN if any is. Of nothing: the largest value there is.
        Min "reduce_min" Number -2..2;
        /// All true.
        And "reduce_and" Bits 0..1;
        /// Any true.
        Or "reduce_or" Bits 0..1;
    }
}

family! {
    /// Running totals along one axis: each element is the total of those up to it.
    CumulativeOp {
        /// Sums.
        Sum "cumsum" Number -2..2;
        /// Products.
        Prod "cumprod" Number 0.5..2;
        /// The largest so far; NaN from the first NaN on.
        Max "cummax" Number -9..9;
        /// The smallest so far; NaN from the first NaN on.
        Min "cummin" Number -9..9;
        /// Logarithms of the sums of exponentials.
        LogSumExp "cumlogsumexp" Float -5..5;
    }
}

impl CumulativeOp {
    /// How an element is combined with the total before it; `None` for [`CumulativeOp::LogSumExp`], which takes
    /// several ops.
    pub fn binary(self) -> Option<BinaryOp> {
        match self {
            CumulativeOp::Sum => Some(BinaryOp::Add),
            CumulativeOp::Prod => Some(BinaryOp::Mul),
            CumulativeOp::Max => Some(BinaryOp::Max),
            CumulativeOp::Min => Some(BinaryOp::Min),
            CumulativeOp::LogSumExp => None,
        }
    }
}

family! {
    /// The position of an extreme value along one axis, as i32; the first of equals; the first NaN if there is one.
    ArgOp {
        /// Of the largest.
        Max "argmax" Number -9..9;
        /// Of the smallest.
        Min "argmin" Number -9..9;
    }
}
