//! The axes of gathers and scatters, in the general form of HLO: for each axis of the operand, where its coordinate
//! comes from. What types go together is in `infer`.

use smallvec::SmallVec;

use super::family::BinaryOp;
use crate::types::{Axes, Shape, TensorType};

/// The axes of a gather, or a scatter: windows of the operand begin at places that index vectors name. An index vector
/// lies along the last axis of the indices. The other axes of the indices, the batch axes, and the axes of the window
/// are those of the result of a gather, or of the updates of a scatter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GatherDims {
    /// The axes of the result that are axes of the window, ascending; the others are batch axes.
    pub offset_dims: Axes,
    /// Axes of the operand along which the window has one element, and which the result does not have; ascending.
    pub collapsed_slice_dims: Axes,
    /// For each component of an index vector the axis of the operand that it is a position along.
    pub start_index_map: Axes,
    /// Axes of the operand that go together with batch axes of the indices; the result does not have them again.
    pub operand_batching_dims: Axes,
    /// Those axes of the indices.
    pub start_indices_batching_dims: Axes,
}

/// How a scatter combines an update with the element at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScatterOp {
    /// The sum.
    Add,
    /// The product.
    Mul,
    /// The smaller one. NaN propagates.
    Min,
    /// The larger one. NaN propagates.
    Max,
    /// The update. Of several updates of one element, in row-major order of the batch axes, the last.
    Set,
}

impl ScatterOp {
    /// All of them.
    pub const ALL: [ScatterOp; 5] = [ScatterOp::Add, ScatterOp::Set, ScatterOp::Mul, ScatterOp::Min, ScatterOp::Max];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            ScatterOp::Add => "add",
            ScatterOp::Mul => "mul",
            ScatterOp::Min => "min",
            ScatterOp::Max => "max",
            ScatterOp::Set => "set",
        }
    }

    /// The op of the element and the update, in this order; none where the update is the result.
    pub fn binary(self) -> Option<BinaryOp> {
        match self {
            ScatterOp::Add => Some(BinaryOp::Add),
            ScatterOp::Mul => Some(BinaryOp::Mul),
            ScatterOp::Min => Some(BinaryOp::Min),
            ScatterOp::Max => Some(BinaryOp::Max),
            ScatterOp::Set => None,
        }
    }

    pub(super) fn parse(name: &str) -> Option<ScatterOp> {
        ScatterOp::ALL.into_iter().find(|op| op.name() == name)
    }
}

/// The coordinate along an axis of the operand: the sum of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coordinate {
    /// The coordinate along this axis of the result.
    pub axis: Option<usize>,
    /// This component of the index vector.
    pub component: Option<usize>,
}

impl GatherDims {
    /// The axes of an operand of this rank that are axes of the window.
    pub fn window(&self, rank: usize) -> Axes {
        let is_window =
            |axis: &usize| !self.collapsed_slice_dims.contains(axis) && !self.operand_batching_dims.contains(axis);
        (0..rank).filter(is_window).collect()
    }

    /// The batch axes of a result of this rank: axis `i` of the indices is the `i`th.
    pub fn batch(&self, rank: usize) -> Axes {
        (0..rank).filter(|axis| !self.offset_dims.contains(axis)).collect()
    }

    /// For each axis of an operand of rank `operand` where its coordinate comes from, for a result of rank `result`.
    pub fn coordinates(&self, operand: usize, result: usize) -> SmallVec<[Coordinate; 4]> {
        let mut all: SmallVec<[Coordinate; 4]> = SmallVec::from_elem(Coordinate::default(), operand);
        for (&axis, &of_result) in self.window(operand).iter().zip(&self.offset_dims) {
            all[axis].axis = Some(of_result);
        }
        let batch = self.batch(result);
        for (&axis, &of_indices) in self.operand_batching_dims.iter().zip(&self.start_indices_batching_dims) {
            all[axis].axis = Some(batch[of_indices]);
        }
        for (component, &axis) in self.start_index_map.iter().enumerate() {
            all[axis].component = Some(component);
        }
        all
    }

    /// The extents of the window of a scatter: those of the updates, and 1 along the other axes.
    pub fn scatter_window(&self, x: &TensorType, updates: &TensorType) -> Shape {
        let mut sizes: Shape = x.shape.iter().map(|&extent| extent.min(1)).collect();
        for &axis in self.collapsed_slice_dims.iter().filter(|axis| **axis < x.rank()) {
            sizes[axis] = 1;
        }
        for (&axis, &of_updates) in self.window(x.rank()).iter().zip(&self.offset_dims) {
            sizes[axis] = updates.shape.get(of_updates).copied().unwrap_or(0);
        }
        sizes
    }
}
