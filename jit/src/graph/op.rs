//! The closed table of primitive ops.
//!
//! Everything that a program can do is one of these; all else (softmax, gelu, layer norm, …) is a plain function
//! composed of them. Each transformation is one exhaustive `match` over [`Op`]: result types (`infer`), the reference
//! interpreter (`interp`), lowering (`fuse`, `lower`), and in `fulgurite-autodiff` tangents, transposes and batching.
//! What kind of op it is, passes ask [`Op::class`]. `jit/README.md` says how to add one. Step 0 is always: can it be a
//! composition?

use std::sync::Arc;

use smallvec::SmallVec;

use super::Graph;
use super::conv::ConvDims;
use super::dims::{GatherDims, ScatterOp};
use super::family::{ArgOp, BinaryOp, CompareOp, ReduceOp, UnaryOp};
use super::literal::{Constant, Literal};
use super::parameter::{Named, Parameter, Parameters};
use super::precision::Precision;
use crate::error::Result;
use crate::types::{Axes, DType, Shape, TensorType};

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

/// The side that a triangular matrix is on, and how it is read: the keywords of `jax.lax.linalg.triangular_solve`, with
/// its defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Triangular {
    /// Solves `A X = B`, not `X A = B`.
    pub left_side: bool,
    /// The lower triangle is read, not the upper one.
    pub lower: bool,
    /// The transpose of the matrix is meant. Which triangle is read does not depend on it.
    pub transpose_a: bool,
    /// The diagonal is 1 and not read.
    pub unit_diagonal: bool,
}

impl Triangular {
    /// Whether the equations of a column of unknowns have the transpose of A: X A = B is Aᵀ Xᵀ = Bᵀ.
    pub fn is_transposed(self) -> bool {
        self.transpose_a == self.left_side
    }

    /// Whether the first of these equations is the one with a single unknown, not the last.
    pub fn is_forward(self) -> bool {
        self.lower != self.is_transposed()
    }
}

/// What kind of op it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpClass {
    /// Has no operands: an input, a constant, a count.
    Leaf,
    /// An element of a result is a function of the operands' elements at the same place.
    Elementwise,
    /// A view: an element of the result is the element of the operand at an index that depends on its own alone.
    Movement,
    /// Elements of several operands, concatenated.
    Assembly,
    /// Many elements become one.
    Reduction,
    /// A sum of products.
    Contraction,
    /// Elements at places that other elements name.
    Indexing,
    /// Computed as a whole by library code.
    Routine,
    /// Runs the graphs among its parameters.
    Control,
    /// One result of an op that has several.
    Projection,
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
    /// threefry2x32 of a key (two u32 operands) and a counter (two u32 operands), elementwise: two words of u32.
    Threefry,
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
    /// A contraction of two float operands, in a precision: that of their type where there is none.
    Dot(DotAxes, Option<Precision>),
    /// A convolution of two operands of one type of numbers, in a precision: that of their type where there is none.
    Conv(Box<ConvDims>, Option<Precision>),
    /// Windows of the first operand, at the places that the second names. A window that does not fit at its place is
    /// moved to where it fits.
    Gather {
        /// The axes.
        dims: Box<GatherDims>,
        /// The extents of the window.
        sizes: Shape,
    },
    /// The first operand, with windows of it, at the places that the second names, combined with those of the third,
    /// in row-major order of the batch axes. A window that does not fit at its place has no effect.
    Scatter {
        /// The axes.
        dims: Box<GatherDims>,
        /// How they are combined.
        combine: ScatterOp,
    },
    /// The window of this shape of the first operand that begins at the other operands, a scalar for each axis. A
    /// window that does not fit there is moved to where it fits.
    DynamicSlice {
        /// The extents of the window.
        sizes: Shape,
    },
    /// The first operand, with the window that begins at the operands after the second replaced by the second. A window
    /// that does not fit there is moved to where it fits.
    DynamicUpdateSlice,
    /// Sorts any number of operands of one shape together along an axis, in ascending order of the first `keys` of them
    /// (of equal ones in the first, by the next). Stable. Zeros of either sign are equal; NaN is equal to NaN and comes
    /// last.
    Sort {
        /// The axis.
        axis: usize,
        /// How many operands are keys, at least 1.
        keys: usize,
    },
    /// A loop of `length` trips. The operands are constants, the carry before the first trip, and arrays whose first
    /// axis has an element per trip. A trip is `body` on the constants, the carry and an element of each array; it
    /// gives the next carry and an element of each further result. The results are the last carry, then those elements
    /// along a new first axis.
    Scan {
        /// What a trip computes.
        body: Arc<Graph>,
        /// How many operands are constants.
        num_consts: usize,
        /// How many operands are the carry.
        num_carry: usize,
        /// The number of trips.
        length: usize,
        /// Whether the trips go from the last element to the first.
        reverse: bool,
    },
    /// The lower triangular L with L Lᵀ = A, of the matrices along the last two axes, which are symmetric: their lower
    /// triangle is read. Above the diagonal is 0. A matrix that is not positive definite gives NaN in the lower
    /// triangle.
    Cholesky,
    /// The X with A X = B or X A = B, of the matrices along the last two axes, A being triangular.
    TriangularSolve(Triangular),
    /// The discrete Fourier transform along the last axis: of the real and the imaginary parts, two results of their
    /// shape. `y[k] = Σ_j x[j] e^{-2πi jk/n}`; the inverse has the other sign, and neither is scaled.
    Fft {
        /// Whether the sign of the exponent is positive.
        inverse: bool,
    },
    /// The factors of the matrices A along the last two axes, with rows exchanged: `A[p] = L U`. Three results: L, which
    /// has ones on the diagonal, below the diagonal and U on and above it; for each step the row that is exchanged with
    /// its own, i32; and the order p of the rows, i32. The first of the largest elements becomes the pivot.
    Lu,
    /// The X with A X = B, or Aᵀ X = B, of the matrices along the last two axes, by the factors of [`Op::Lu`].
    Solve {
        /// The equations have the transpose of A.
        transpose_a: bool,
    },
    /// The factors Q, with orthonormal columns, and R, upper triangular, of the matrices along the last two axes, with
    /// the signs of LAPACK.
    Qr {
        /// Q is square, not of the smaller extent only.
        full_matrices: bool,
    },
    /// The eigenvalues, ascending, and the eigenvectors, in columns, of the matrices along the last two axes, which are
    /// symmetric. Of the elements of an eigenvector, the largest is positive.
    Eigh,
    /// U, the singular values, descending, and Vᵀ, of the matrices along the last two axes, which have at least as many
    /// rows as columns. Of the elements of a column of V, the largest is positive.
    Svd {
        /// U is square, not of the smaller extent only.
        full_matrices: bool,
    },
    /// A result, by number, of the operand: an op with several results.
    Result(u32),
}

/// The header of every op: name, parameters, number of operands (`_`: one or more), class, and the parameters that are
/// printed, by their names. From these rows come [`Op::name`], [`Op::arity`], [`Op::class`], printing and parsing.
macro_rules! headers {
    (
        held { $($held:literal $hvariant:ident $hfields:tt;)* }
        ops { $($name:literal $variant:ident $fields:tt: $arity:tt $class:ident [$($key:ident),*];)* }
        families { $($family:ident $fvariant:ident $ffields:tt $op:ident: $farity:tt $fclass:ident [$($fkey:ident),*];)* }
    ) => {
        #[allow(unused_variables, reason = "each row names all parameters of its op")]
        impl Op {
            /// The names of the rows; families have their own.
            #[cfg(test)]
            pub(super) const NAMES: &[&str] = &[$($held,)* $($name),*];

            /// The name in the graph's text.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Op::$hvariant $hfields => $held,)*
                    $(Op::$variant $fields => $name,)*
                    $(Op::$fvariant $ffields => $op.name(),)*
                }
            }

            /// How many operands it takes; `None` for any number, of which only control flow takes none.
            pub fn arity(&self) -> Option<usize> {
                match self {
                    $(Op::$hvariant $hfields => Some(0),)*
                    $(Op::$variant $fields => arity!($arity),)*
                    $(Op::$fvariant $ffields => arity!($farity),)*
                }
            }

            /// What kind of op it is.
            pub fn class(&self) -> OpClass {
                match self {
                    $(Op::$hvariant $hfields => OpClass::Leaf,)*
                    $(Op::$variant $fields => OpClass::$class,)*
                    $(Op::$fvariant $ffields => OpClass::$fclass,)*
                }
            }

            /// The parameters that are printed, in order.
            pub(super) fn parameters(&self, each: &mut dyn FnMut(&'static str, &dyn Parameter)) {
                match self {
                    $(Op::$hvariant $hfields => {})*
                    $(Op::$variant $fields => { $($key.each(stringify!($key), each);)* })*
                    $(Op::$fvariant $ffields => { $($fkey.each(stringify!($fkey), each);)* })*
                }
            }

            /// The op called `name` with these parameters; `None` if there is no such op, or the text has its elements.
            pub(super) fn read(name: &str, p: &mut Parameters<'_>) -> Result<Option<Op>> {
                $(if name == $name {
                    $(let $key = Named::take(stringify!($key), p)?;)*
                    return Ok(Some(Op::$variant $fields));
                })*
                $(if let Some($op) = $family::parse(name) {
                    $(let $fkey = Named::take(stringify!($fkey), p)?;)*
                    return Ok(Some(Op::$fvariant $ffields));
                })*
                Ok(None)
            }
        }
    };
}

macro_rules! arity {
    (_) => {
        None
    };
    ($n:literal) => {
        Some($n)
    };
}

headers! {
    held {
        "param" Param(_);
        "literal" Literal(_);
        "constant" Constant(_);
    }
    ops {
        "iota" Iota { dtype, shape, axis }: 0 Leaf [dtype, shape, axis];
        "select" Select {}: 3 Elementwise [];
        "convert" Convert(dtype): 1 Elementwise [dtype];
        "bitcast" Bitcast(dtype): 1 Elementwise [dtype];
        "stop_gradient" StopGradient {}: 1 Elementwise [];
        "threefry" Threefry {}: 4 Elementwise [];
        "reshape" Reshape(shape): 1 Movement [shape];
        "transpose" Transpose(perm): 1 Movement [perm];
        "broadcast_in_dim" Broadcast { shape, dims }: 1 Movement [shape, dims];
        "slice" Slice { start, limit, stride }: 1 Movement [start, limit, stride];
        "pad" Pad { low, high, interior }: 2 Assembly [low, high, interior];
        "concatenate" Concat(axis): _ Assembly [axis];
        "rev" Rev(axes): 1 Movement [axes];
        "dot_general" Dot(DotAxes { batch, contract }, precision): 2 Contraction [batch, contract, precision];
        "conv" Conv(dims, precision): 2 Contraction [dims, precision];
        "gather" Gather { dims, sizes }: 2 Indexing [dims, sizes];
        "scatter" Scatter { dims, combine }: 3 Indexing [combine, dims];
        "dynamic_slice" DynamicSlice { sizes }: _ Indexing [sizes];
        "dynamic_update_slice" DynamicUpdateSlice {}: _ Indexing [];
        "sort" Sort { axis, keys }: _ Routine [axis, keys];
        "scan" Scan { body, num_consts, num_carry, length, reverse }: _ Control
            [body, num_consts, num_carry, length, reverse];
        "cholesky" Cholesky {}: 1 Routine [];
        "triangular_solve" TriangularSolve(Triangular { left_side, lower, transpose_a, unit_diagonal }): 2 Routine [
            left_side,
            lower,
            transpose_a,
            unit_diagonal
        ];
        "fft" Fft { inverse }: 2 Contraction [inverse];
        "lu" Lu {}: 1 Routine [];
        "solve" Solve { transpose_a }: 2 Routine [transpose_a];
        "qr" Qr { full_matrices }: 1 Routine [full_matrices];
        "eigh" Eigh {}: 1 Routine [];
        "svd" Svd { full_matrices }: 1 Routine [full_matrices];
        "result" Result(index): 1 Projection [index];
    }
    families {
        UnaryOp Unary(op) op: 1 Elementwise [];
        BinaryOp Binary(op) op: 2 Elementwise [];
        CompareOp Compare(op) op: 2 Elementwise [];
        ReduceOp Reduce(op, axes) op: 1 Reduction [axes];
        ArgOp ArgReduce(op, axis) op: 1 Reduction [axis];
    }
}

impl Op {
    /// How many results it has, of so many operands. Those of an op with several are values of [`Op::Result`], and
    /// nothing else uses it.
    pub fn results(&self, operands: usize) -> usize {
        match self {
            Op::Threefry | Op::Fft { .. } | Op::Qr { .. } | Op::Eigh => 2,
            Op::Lu | Op::Svd { .. } => 3,
            Op::Sort { .. } => operands,
            Op::Scan { body, .. } => body.outputs.len(),
            _ => 1,
        }
    }

    /// The graphs among its parameters.
    pub fn graphs(&self) -> &[Arc<Graph>] {
        match self {
            Op::Scan { body, .. } => std::slice::from_ref(body),
            _ => &[],
        }
    }

    /// The operand whose element type the op works on: a selection's first operand is its condition.
    pub fn typed_operand(&self) -> usize {
        usize::from(*self == Op::Select)
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
