//! The rules of single ops: one exhaustive `match` over the ops per transformation.
//!
//! A graph and tensors for its inputs come in; further ops are recorded in the current trace. Trees and user errors are
//! not handled here.

pub(crate) mod batch;
mod control;
mod conv;
mod cumulative;
pub(crate) mod dual;
mod factors;
mod indexing;
pub(crate) mod jvp;
mod linalg;
mod scatter;
pub(crate) mod transpose;

use fulgurite_jit::types::Axes;
use fulgurite_jit::{Shape, Tensor, TensorType};
use smallvec::SmallVec;

/// A tensor and its mapped axis; `None` if all examples share the tensor.
#[derive(Clone, Debug)]
pub(crate) struct Batched {
    pub(crate) x: Tensor,
    pub(crate) axis: Option<usize>,
}

impl Batched {
    /// The tensor with the mapped axis at `axis`; broadcast along a new one if it is not mapped.
    pub(crate) fn at(&self, axis: usize, extent: usize) -> Tensor {
        match self.axis {
            Some(from) if from == axis => self.x.clone(),
            Some(from) => self.x.move_axis(from, axis),
            None => {
                let mut shape = Shape::from_slice(self.x.shape());
                shape.insert(axis, extent);
                let dims: Axes = (0..shape.len()).filter(|&dim| dim != axis).collect();
                self.x.broadcast_in_dim(&shape, &dims)
            }
        }
    }
}

/// An operand of a linear op.
pub(crate) enum TransposeOperand<'a> {
    /// Depends on a tangent: has a cotangent, but no value here.
    Linear(&'a TensorType),
    /// A coefficient.
    Constant(&'a Tensor),
}
impl TransposeOperand<'_> {
    pub(super) fn ty(&self) -> &TensorType {
        match self {
            TransposeOperand::Linear(ty) => ty,
            TransposeOperand::Constant(x) => x.ty(),
        }
    }

    /// `ct` as the cotangent of this operand; `None` for a constant.
    pub(super) fn cotangent_if_linear(&self, ct: impl FnOnce() -> Tensor) -> Option<Tensor> {
        match self {
            TransposeOperand::Linear(_) => Some(ct()),
            TransposeOperand::Constant(_) => None,
        }
    }
}

/// Contributions to the cotangents, one per operand; `None` for the constant ones.
pub(crate) type Cotangents = SmallVec<[Option<Tensor>; 4]>;
