//! The closed table of primitive ops.
//!
//! Everything that a program can do is one of these; all else (softmax, gelu, layer norm, …) is a plain function
//! composed of them. Each transformation is one exhaustive `match` over [`Op`]: result types (`infer`), the reference
//! interpreter (`interp`), lowering (`fuse`, `lane`), and in `fulgurite-autodiff` tangents, transposes and batching.
//! `jit/README.md` says how to add one. Step 0 is always: can it be a composition?

use smallvec::SmallVec;

use crate::array::Array;
use crate::types::{Axes, DType, Shape, TensorType};

/// Declares a family of ops of one arity: variant, printed name, element types it takes, what it does, and the range
/// that its samples are drawn from.
macro_rules! family {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident $text:literal $class:ident $lo:literal..$hi:literal;)* }) => {
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

            fn parse(text: &str) -> Option<$name> {
                Self::ALL.iter().copied().find(|op| op.name() == text)
            }
        }
    };
}

/// A set of element types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// f32, f64.
    Float,
    /// i32, u32.
    Int,
    /// Floats and integers.
    Number,
    /// Floats and i32.
    Signed,
    /// Integers and truth values.
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
            Class::Signed => dtype.is_float() || dtype == DType::I32,
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
            Class::Signed => "floats or i32",
            Class::Bits => "integers or bool",
            Class::Any => "anything",
        }
    }
}

family! {
    /// Elementwise ops of one operand that keep its type ([`UnaryOp::IsFinite`] gives bool).
    UnaryOp {
        /// `-x`.
        Neg "neg" Number -3..3;
        /// `|x|`.
        Abs "abs" Signed -3..3;
        /// -1, 0 or 1; keeps ±0 and NaN.
        Sign "sign" Signed -3..3;
        /// Inverts bits, or a truth value.
        Not "not" Bits -9..9;
        /// Rounds towards minus infinity.
        Floor "floor" Float -5..5;
        /// Rounds towards plus infinity.
        Ceil "ceil" Float -5..5;
        /// Rounds to nearest, ties to even.
        Round "round" Float -5..5;
        /// Is it neither infinite nor NaN?
        IsFinite "is_finite" Float -5..5;
        /// Natural exponential.
        Exp "exp" Float -5..4;
        /// Power of two.
        Exp2 "exp2" Float -5..4;
        /// `e^x - 1`, exact near 0.
        Expm1 "expm1" Float -3..3;
        /// Natural logarithm.
        Log "log" Float 0.1..9;
        /// `log(1 + x)`, exact near 0.
        Log1p "log1p" Float -0.8..9;
        /// Sine, radians.
        Sin "sin" Float -9..9;
        /// Cosine, radians.
        Cos "cos" Float -9..9;
        /// Tangent, radians.
        Tan "tan" Float -1.3..1.3;
        /// Inverse sine.
        Asin "asin" Float -0.9..0.9;
        /// Inverse cosine.
        Acos "acos" Float -0.9..0.9;
        /// Inverse tangent.
        Atan "atan" Float -5..5;
        /// Hyperbolic sine.
        Sinh "sinh" Float -3..3;
        /// Hyperbolic cosine.
        Cosh "cosh" Float -3..3;
        /// Hyperbolic tangent.
        Tanh "tanh" Float -3..3;
        /// Inverse hyperbolic sine.
        Asinh "asinh" Float -5..5;
        /// Inverse hyperbolic cosine.
        Acosh "acosh" Float 1.1..9;
        /// Inverse hyperbolic tangent.
        Atanh "atanh" Float -0.9..0.9;
        /// `1 / (1 + e^-x)`.
        Sigmoid "logistic" Float -6..6;
        /// `log(1 + e^x)`.
        Softplus "softplus" Float -6..6;
        /// Square root.
        Sqrt "sqrt" Float 0.1..9;
        /// `1 / sqrt(x)`.
        Rsqrt "rsqrt" Float 0.1..9;
        /// Cube root.
        Cbrt "cbrt" Float 0.1..9;
        /// The error function.
        Erf "erf" Float -2..2;
        /// `1 - erf(x)`.
        Erfc "erfc" Float -2..2;
        /// The inverse of the error function.
        ErfInv "erf_inv" Float -0.9..0.9;
    }
}

family! {
    /// Elementwise ops of two operands of one type, which is the result's.
    BinaryOp {
        /// `x + y`; wraps for integers.
        Add "add" Number -3..3;
        /// `x - y`; wraps for integers.
        Sub "sub" Number -3..3;
        /// `x * y`; wraps for integers.
        Mul "mul" Number -3..3;
        /// `x / y`; towards zero for integers.
        Div "div" Number 0.5..3;
        /// Remainder with the sign of `x`.
        Rem "rem" Number 0.5..9;
        /// The larger; NaN if either is.
        Max "max" Number -3..3;
        /// The smaller; NaN if either is.
        Min "min" Number -3..3;
        /// `x^y`.
        Pow "pow" Float 0.3..3;
        /// The angle of the point (y, x): `atan2(x, y)` in the order of the operands.
        Atan2 "atan2" Float 0.3..3;
        /// Bitwise and.
        And "and" Bits 0..9;
        /// Bitwise or.
        Or "or" Bits 0..9;
        /// Bitwise exclusive or.
        Xor "xor" Bits 0..9;
        /// `x << y`; 0 when `y` is 32 or more.
        Shl "shift_left" Int 0..31;
        /// Logical shift right; 0 when `y` is 32 or more.
        Shr "shift_right_logical" Int 0..31;
        /// Arithmetic shift right; the sign everywhere when `y` is 32 or more.
        Sar "shift_right_arithmetic" Int 0..31;
    }
}

family! {
    /// Elementwise comparisons of two operands of one type; the result is bool.
    CompareOp {
        /// Equal; false on NaN.
        Eq "eq" Any -2..2;
        /// Not equal; true on NaN.
        Ne "ne" Any -2..2;
        /// Less; false on NaN.
        Lt "lt" Number -2..2;
        /// Less or equal; false on NaN.
        Le "le" Number -2..2;
        /// Greater; false on NaN.
        Gt "gt" Number -2..2;
        /// Greater or equal; false on NaN.
        Ge "ge" Number -2..2;
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
    /// The position of an extreme value along one axis, as i32; the first of equals; the first NaN if there is one.
    ArgOp {
        /// Of the largest.
        Max "argmax" Number -9..9;
        /// Of the smallest.
        Min "argmin" Number -9..9;
    }
}

/// A scalar constant: an element type and its bits in the low end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Literal {
    /// The element type.
    pub dtype: DType,
    /// The bits of the element.
    pub bits: u64,
}

impl ReduceOp {
    /// What it gives for no elements.
    pub fn identity(self, dtype: DType) -> Literal {
        match self {
            ReduceOp::Sum | ReduceOp::Or => Literal::new(dtype, 0.0),
            ReduceOp::Prod => Literal::new(dtype, 1.0),
            ReduceOp::Max => Literal::least(dtype),
            ReduceOp::Min => Literal::greatest(dtype),
            ReduceOp::And => Literal::ones(dtype),
        }
    }
}

impl Literal {
    /// `value` as an element of `dtype`: rounded to nearest for f32, towards zero (saturating) for integers,
    /// `value != 0` for bool.
    pub fn new(dtype: DType, value: f64) -> Self {
        let bits = match dtype {
            DType::Bool => u64::from(value != 0.0),
            DType::I32 => (value as i32) as u32 as u64,
            DType::U32 => (value as u32) as u64,
            DType::F32 => (value as f32).to_bits() as u64,
            DType::F64 => value.to_bits(),
        };
        Literal { dtype, bits }
    }

    /// The least element of a type.
    pub fn least(dtype: DType) -> Self {
        let value = match dtype {
            DType::Bool | DType::U32 => 0.0,
            DType::I32 => f64::from(i32::MIN),
            DType::F32 | DType::F64 => f64::NEG_INFINITY,
        };
        Literal::new(dtype, value)
    }

    /// The greatest element of a type.
    pub fn greatest(dtype: DType) -> Self {
        let value = match dtype {
            DType::Bool => 1.0,
            DType::I32 => f64::from(i32::MAX),
            DType::U32 => f64::from(u32::MAX),
            DType::F32 | DType::F64 => f64::INFINITY,
        };
        Literal::new(dtype, value)
    }

    /// All bits set; of bool, true.
    pub fn ones(dtype: DType) -> Self {
        let bits = match dtype {
            DType::Bool => 1,
            DType::I32 | DType::U32 | DType::F32 => u64::from(u32::MAX),
            DType::F64 => u64::MAX,
        };
        Literal { dtype, bits }
    }

    /// The constant that a scalar array holds; `None` for an array with axes.
    pub fn of(array: &Array) -> Option<Self> {
        let bytes = array.bytes();
        (array.ty().rank() == 0).then(|| {
            let bits = bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
            Literal { dtype: array.ty().dtype, bits }
        })
    }

    /// The scalar array that holds it.
    pub fn array(self) -> Array {
        match self.dtype {
            DType::Bool => Array::scalar(self.bits != 0),
            DType::I32 => Array::scalar(self.bits as u32 as i32),
            DType::U32 => Array::scalar(self.bits as u32),
            DType::F32 => Array::scalar(f32::from_bits(self.bits as u32)),
            DType::F64 => Array::scalar(f64::from_bits(self.bits)),
        }
    }

    /// Its value; exact for every element type.
    pub fn value(self) -> f64 {
        match self.dtype {
            DType::Bool => self.bits as f64,
            DType::I32 => (self.bits as u32 as i32) as f64,
            DType::U32 => (self.bits as u32) as f64,
            DType::F32 => f32::from_bits(self.bits as u32) as f64,
            DType::F64 => f64::from_bits(self.bits),
        }
    }
}

/// A concrete array inside a program. Equal when it is the same memory, or equal bytes of a small array.
#[derive(Clone, Debug)]
pub struct Constant(pub Array);

impl Constant {
    /// Arrays up to this many bytes print their elements and compare by them.
    pub const SMALL: usize = 1024;
}

impl PartialEq for Constant {
    fn eq(&self, other: &Self) -> bool {
        self.0.ty() == other.0.ty()
            && (self.0.buffer().is_same(other.0.buffer())
                || (self.0.ty().bytes() <= Self::SMALL && self.0.bytes() == other.0.bytes()))
    }
}

impl Eq for Constant {}

impl std::hash::Hash for Constant {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.ty().hash(state);
        if self.0.ty().bytes() <= Self::SMALL {
            self.0.bytes().hash(state);
        }
    }
}

/// The axes of a contraction. The result's axes are: the batch axes in order, the free axes of the left operand, the
/// free axes of the right operand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DotAxes {
    /// Pairs of (left, right) axes that go together and stay.
    pub batch: SmallVec<[(usize, usize); 2]>,
    /// Pairs of (left, right) axes that are multiplied and summed.
    pub contract: SmallVec<[(usize, usize); 2]>,
}

impl DotAxes {
    /// The axes of the operand on `side` (0 left, 1 right) that are neither batch nor contracted, ascending.
    pub fn free(&self, side: usize, rank: usize) -> Axes {
        let pick = |pair: &(usize, usize)| if side == 0 { pair.0 } else { pair.1 };
        (0..rank).filter(|axis| !self.batch.iter().chain(&self.contract).any(|pair| pick(pair) == *axis)).collect()
    }
}

/// A primitive op with its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// An input of the graph, by number.
    Param(usize),
    /// A scalar constant.
    Literal(Literal),
    /// An array constant.
    Constant(Constant),
    /// Counts along `axis`: element `i` is `i[axis]`.
    Iota {
        /// Element type of the result, not bool.
        dtype: DType,
        /// Shape of the result.
        shape: Shape,
        /// The axis that counts.
        axis: usize,
    },
    /// See [`UnaryOp`].
    Unary(UnaryOp),
    /// See [`BinaryOp`].
    Binary(BinaryOp),
    /// See [`CompareOp`].
    Compare(CompareOp),
    /// `pred ? x : y`, elementwise; all of one shape.
    Select,
    /// To another element type: towards zero and saturating from float to integer, `x != 0` to bool.
    Convert(DType),
    /// The same bits as another element type of the same size.
    Bitcast(DType),
    /// The operand; its derivative is zero.
    StopGradient,
    /// Word 0 or 1 of threefry2x32 of a key (two u32 operands) and a counter (two u32 operands), elementwise.
    Threefry(u8),
    /// The same elements, row-major, as another shape.
    Reshape(Shape),
    /// Axis `i` of the result is axis `perm[i]` of the operand.
    Transpose(Axes),
    /// Axis `i` of the operand is axis `dims[i]` of the result, where it has the same extent or extent 1 and repeats.
    Broadcast {
        /// Shape of the result.
        shape: Shape,
        /// For each axis of the operand, its place in the result; ascending.
        dims: Axes,
    },
    /// Elements `start, start + stride, …` below `limit` of each axis.
    Slice {
        /// First index per axis.
        start: Shape,
        /// One past the last index per axis.
        limit: Shape,
        /// Step per axis, at least 1.
        stride: Shape,
    },
    /// Puts `low`, `high` and (between elements) `interior` copies of the second, scalar operand around each axis of
    /// the first; a negative `low` or `high` cuts off.
    Pad {
        /// Before the first element, per axis.
        low: SmallVec<[isize; 4]>,
        /// After the last element, per axis.
        high: SmallVec<[isize; 4]>,
        /// Between elements, per axis.
        interior: Shape,
    },
    /// One operand after the other along an axis.
    Concat(usize),
    /// Reverses axes.
    Rev(Axes),
    /// See [`ReduceOp`]; the axes ascend.
    Reduce(ReduceOp, Axes),
    /// See [`ArgOp`].
    ArgReduce(ArgOp, usize),
    /// A contraction of two float operands.
    Dot(DotAxes),
}

impl Op {
    /// The name in the graph's text.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Param(_) => "param",
            Op::Literal(_) => "literal",
            Op::Constant(_) => "constant",
            Op::Iota { .. } => "iota",
            Op::Unary(op) => op.name(),
            Op::Binary(op) => op.name(),
            Op::Compare(op) => op.name(),
            Op::Select => "select",
            Op::Convert(_) => "convert",
            Op::Bitcast(_) => "bitcast",
            Op::StopGradient => "stop_gradient",
            Op::Threefry(_) => "threefry",
            Op::Reshape(_) => "reshape",
            Op::Transpose(_) => "transpose",
            Op::Broadcast { .. } => "broadcast_in_dim",
            Op::Slice { .. } => "slice",
            Op::Pad { .. } => "pad",
            Op::Concat(_) => "concatenate",
            Op::Rev(_) => "rev",
            Op::Reduce(op, _) => op.name(),
            Op::ArgReduce(op, _) => op.name(),
            Op::Dot(_) => "dot_general",
        }
    }

    /// How many operands it takes; `None` for any number from one up.
    pub fn arity(&self) -> Option<usize> {
        match self {
            Op::Param(_) | Op::Literal(_) | Op::Constant(_) | Op::Iota { .. } => Some(0),
            Op::Unary(_)
            | Op::Convert(_)
            | Op::Bitcast(_)
            | Op::StopGradient
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Broadcast { .. }
            | Op::Slice { .. }
            | Op::Rev(_)
            | Op::Reduce(..)
            | Op::ArgReduce(..) => Some(1),
            Op::Binary(_) | Op::Compare(_) | Op::Pad { .. } | Op::Dot(_) => Some(2),
            Op::Select => Some(3),
            Op::Threefry(_) => Some(4),
            Op::Concat(_) => None,
        }
    }

    /// The op without parameters called `name`, if there is one.
    pub fn parse_plain(name: &str) -> Option<Op> {
        UnaryOp::parse(name)
            .map(Op::Unary)
            .or_else(|| BinaryOp::parse(name).map(Op::Binary))
            .or_else(|| CompareOp::parse(name).map(Op::Compare))
            .or(match name {
                "select" => Some(Op::Select),
                "stop_gradient" => Some(Op::StopGradient),
                _ => None,
            })
    }

    /// The reduction called `name`, if there is one.
    pub fn parse_reduce(name: &str) -> Option<ReduceOp> {
        ReduceOp::parse(name)
    }

    /// The arg-reduction called `name`, if there is one.
    pub fn parse_arg(name: &str) -> Option<ArgOp> {
        ArgOp::parse(name)
    }
}

/// An example of an op: its operands' types and the range that their elements are drawn from. The conformance tests
/// run every rule on every sample.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The op.
    pub op: Op,
    /// Types of the operands.
    pub operands: Vec<TensorType>,
    /// Elements are drawn from here.
    pub range: (f64, f64),
}
