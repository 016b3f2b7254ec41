//! Reductions and contractions.

use std::panic::Location;

use smallvec::SmallVec;

use super::operand::{IntoAxes, Operand, broadcast_shape, mismatch, promote_types, reject, resolve};
use super::precision::matmul_precision;
use super::tensor::Tensor;
use super::trace::apply;
use super::x64::{default_int, summed};
use crate::error::Error;
use crate::graph::{ArgOp, DotAxes, Op, Precision, ReduceOp, infer};
use crate::types::{Axes, DType, Shape};

impl Tensor {
    /// Reduces over axes and removes them. As in `jax.numpy`, sums and products of bools and of narrow integers have at
    /// least 32 bits ([64](crate::with_x64)), the maximum of bools is `any` and the minimum is `all`.
    #[track_caller]
    pub fn reduce(&self, op: ReduceOp, axes: impl IntoAxes) -> Self {
        let op = match op {
            ReduceOp::Sum | ReduceOp::Prod if summed(self.dtype()) != self.dtype() => {
                return self.convert(summed(self.dtype())).reduce(op, axes);
            }
            ReduceOp::Max if self.dtype() == DType::Bool => ReduceOp::Or,
            ReduceOp::Min if self.dtype() == DType::Bool => ReduceOp::And,
            op => op,
        };
        let axes = match axes.into_axes(self.rank()) {
            Ok(axes) => axes,
            Err(why) => return self.reject(op.name(), format!("{} {why}", self.ty()), Location::caller()),
        };
        if axes.is_empty() {
            return self.clone();
        }
        apply(Op::Reduce(op, axes), &[self], Location::caller())
    }

    /// Reduces over axes and keeps them with extent 1 (`keepdims=True`).
    #[track_caller]
    pub fn reduce_keep(&self, op: ReduceOp, axes: impl IntoAxes + Clone) -> Self {
        let result = self.reduce(op, axes.clone());
        let mut shape = self.ty().shape.clone();
        for axis in axes.into_axes(self.rank()).unwrap_or_default() {
            shape[axis] = 1;
        }
        result.reshape(&shape)
    }

    /// The index of the maximum along an axis, i32 ([i64](crate::with_x64)). A negative axis counts from the end.
    #[track_caller]
    pub fn argmax(&self, axis: isize) -> Self {
        self.arg_reduce(ArgOp::Max, axis)
    }

    /// The index of the minimum along an axis, i32 ([i64](crate::with_x64)). A negative axis counts from the end.
    #[track_caller]
    pub fn argmin(&self, axis: isize) -> Self {
        self.arg_reduce(ArgOp::Min, axis)
    }

    #[track_caller]
    fn arg_reduce(&self, op: ArgOp, axis: isize) -> Self {
        match resolve(axis, self.rank()) {
            Some(axis) => {
                // False is below true.
                let numbers = if self.dtype() == DType::Bool { self.convert(DType::U8) } else { self.clone() };
                apply(Op::ArgReduce(op, axis), &[&numbers], Location::caller()).convert(default_int())
            }
            None => self.no_axis(op.name(), axis, Location::caller()),
        }
    }

    /// A contraction; see [`DotAxes`]. Integers wrap. For bools, as in `jax.lax.dot_general`, products are `and` and
    /// sums are `or`.
    #[track_caller]
    pub fn dot_general(&self, other: &Tensor, axes: DotAxes) -> Self {
        self.dot_general_in(other, axes, matmul_precision())
    }

    /// [`Tensor::dot_general`] in a precision, whatever that of [`with_matmul_precision`] is.
    ///
    /// [`with_matmul_precision`]: crate::with_matmul_precision
    #[track_caller]
    pub fn dot_general_in(&self, other: &Tensor, axes: DotAxes, precision: Option<Precision>) -> Self {
        if self.dtype() == other.dtype() && !self.dtype().is_float() && self.error().or(other.error()).is_none() {
            return self.dot_of_integers(other, &axes);
        }
        // Without a precision, those of f32 and f64 have all bits; those of f64 have them in any case.
        let precision = precision.filter(|&other| other != Precision::Highest && self.dtype() != DType::F64);
        apply(Op::Dot(axes, precision), &[self, other], Location::caller())
    }

    /// The op `dot_general` takes floats. For other types this broadcasts, multiplies and reduces, which fuses into one
    /// kernel.
    #[track_caller]
    fn dot_of_integers(&self, other: &Tensor, axes: &DotAxes) -> Self {
        // The checks of `dot_general` for f32 operands of these shapes apply.
        let as_floats = [self, other].map(|x| x.ty().with_dtype(DType::F32));
        if let Err(why) = infer(&Op::Dot(axes.clone(), None), &[&as_floats[0], &as_floats[1]]) {
            let why = why.replace("f32[", &format!("{}[", self.dtype()));
            return reject(&[self, other], Error::op("dot_general", why, Location::caller()));
        }
        let free = [axes.free(0, self.rank()), axes.free(1, other.rank())];
        // Both operands as [batch, free axes of the left, free axes of the right, contracted].
        let expand = |x: &Tensor, side: usize| {
            let of = |&(left, right): &(usize, usize)| if side == 0 { left } else { right };
            let (batch, contracted) = (axes.batch.iter().map(of), axes.contract.iter().map(of));
            let perm: Axes = batch.chain(free[side].iter().copied()).chain(contracted).collect();
            let mut shape: Shape = perm.iter().map(|&axis| x.shape()[axis]).collect();
            let at = axes.batch.len() + if side == 0 { free[0].len() } else { 0 };
            shape.insert_many(at, std::iter::repeat_n(1, free[1 - side].len()));
            x.transpose(&perm).reshape(&shape)
        };
        let products = expand(self, 0) * expand(other, 1);
        let contracted: Axes = (products.rank() - axes.contract.len()..products.rank()).collect();
        let sum = if self.dtype() == DType::Bool { ReduceOp::Or } else { ReduceOp::Sum };
        // As wide as its operands.
        products.reduce(sum, &contracted).convert(self.dtype())
    }

    /// The matrix product with a result of type `dtype`, and sums in it, as `jax.numpy.matmul` with
    /// `preferred_element_type`.
    #[track_caller]
    pub fn matmul_as(&self, other: &Tensor, dtype: DType) -> Self {
        self.convert(dtype).matmul(&other.convert(dtype))
    }

    /// The matrix product, as `jax.numpy.matmul`: contracts the last axis of this with the second-to-last axis of
    /// `other` (the only axis of a vector). Leading axes are batch axes and broadcast.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Self {
        let (m, n) = (self.rank(), other.rank());
        if m == 0 || n == 0 {
            let why = format!("takes matrices or vectors, not {} and {}", self.ty(), other.ty());
            return reject(&[self, other], Error::op("matmul", why, Location::caller()));
        }
        let (x, y) = promote_types(self.operand(), other.operand());
        let contract = (m - 1, n.saturating_sub(2));
        if m <= 2 && n <= 2 {
            return x.dot_general(&y, DotAxes { batch: SmallVec::new(), contract: SmallVec::from_slice(&[contract]) });
        }
        if n <= 2 {
            // One matrix for all batches: the batch axes of the left operand are collapsed into its rows.
            return x.dot_general(&y, DotAxes { batch: SmallVec::new(), contract: SmallVec::from_slice(&[contract]) });
        }
        let left = &x.shape()[..m.saturating_sub(2)];
        let right = &y.shape()[..n - 2];
        let Some(batch) = broadcast_shape(left, right) else {
            let error = mismatch("matmul", x.ty(), y.ty(), Location::caller());
            return reject(&[&x, &y], error);
        };
        let grow = |t: &Tensor, keep: usize| {
            let mut shape = batch.clone();
            shape.extend_from_slice(&t.shape()[t.rank() - keep..]);
            t.broadcast_to(&shape)
        };
        let rows = if m == 1 { 1 } else { 2 };
        let (x, y) = (grow(&x, rows), grow(&y, 2));
        let pairs = (0..batch.len()).map(|axis| (axis, axis)).collect();
        let axes = DotAxes { batch: pairs, contract: SmallVec::from_slice(&[(batch.len() + rows - 1, batch.len())]) };
        x.dot_general(&y, axes)
    }
}

macro_rules! reduce_methods {
    ($($(#[$doc:meta])* $all:ident $axes:ident $keep:ident $op:ident;)*) => {
        impl Tensor { $(
            $(#[$doc])* #[doc = "\n\nOver all axes."] #[track_caller]
            pub fn $all(&self) -> Self { self.reduce(ReduceOp::$op, ..) }
            $(#[$doc])* #[doc = "\n\nOver `axes`, which are removed."] #[track_caller]
            pub fn $axes(&self, axes: impl IntoAxes) -> Self { self.reduce(ReduceOp::$op, axes) }
            $(#[$doc])* #[doc = "\n\nOver `axes`, which stay with extent 1 (`keepdims=True`)."] #[track_caller]
            pub fn $keep(&self, axes: impl IntoAxes + Clone) -> Self { self.reduce_keep(ReduceOp::$op, axes) }
        )* }
    };
}
reduce_methods! {
    /// The sum. For bools the number of true elements; of bools and narrow integers in 32 bits.
    sum sum_axes sum_keep Sum;
    /// The product. For bools 0 or 1; of bools and narrow integers in 32 bits.
    prod prod_axes prod_keep Prod;
    /// The maximum. NaN propagates, to the derivative too. Equal maxima share the derivative.
    max max_axes max_keep Max;
    /// The minimum. NaN propagates, to the derivative too. Equal minima share the derivative.
    min min_axes min_keep Min;
    /// Whether all elements are true.
    all all_axes all_keep And;
    /// Whether any element is true.
    any any_axes any_keep Or;
}
