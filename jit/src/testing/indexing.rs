//! Draws gathers, scatters, slices at computed places, and sorts. Some of the indices are out of range.

use super::program::Maker;
use crate::front::IndexMode;
use crate::graph::{GatherDims, Literal, Op, ScatterOp, ValueId};
use crate::types::{Axes, DType, Shape, TensorType};

/// The axes of a gather of windows of these extents, and what belongs to them.
struct Windows {
    dims: GatherDims,
    sizes: Shape,
    /// The extents of the batch axes.
    batch: Shape,
}

impl Maker {
    /// Indices into an axis of `extent` elements: numbers of the program, or constants.
    pub(super) fn places(&mut self, shape: &[usize], extent: usize) -> Option<ValueId> {
        let ty = TensorType::new(DType::I32, shape);
        match self.random.below(3) {
            0 => self.like(&ty),
            _ if shape.is_empty() => {
                let place = self.random.below(extent + 4) as i64 - 2;
                self.push(Op::Literal(Literal::new(DType::I32, place)), &[])
            }
            _ => {
                let indices = self.random.indices(shape, extent);
                self.held(indices)
            }
        }
    }

    /// What an index that is out of range means.
    pub(super) fn mode(&mut self) -> IndexMode {
        self.random.one_of(&[IndexMode::Fill, IndexMode::Clip, IndexMode::PromiseInBounds])
    }

    /// The extent of a window along an axis.
    fn window(&mut self, extent: usize) -> usize {
        match self.random.below(3) {
            0 => extent,
            1 => extent.min(1),
            _ => self.random.below(extent + 1),
        }
    }

    /// Windows of an array of this shape, and the places where they begin.
    fn windows(&mut self, shape: &[usize]) -> Option<(Windows, ValueId)> {
        let (mut sizes, mut dims) = (Shape::new(), GatherDims::default());
        let mut batch: Vec<(usize, Option<usize>)> = Vec::new();
        for (axis, &extent) in shape.iter().enumerate() {
            match self.random.below(6) {
                0 => {
                    dims.operand_batching_dims.push(axis);
                    batch.push((extent, Some(axis)));
                    sizes.push(extent.min(1));
                }
                1 | 2 if extent > 0 => {
                    dims.collapsed_slice_dims.push(axis);
                    sizes.push(1);
                }
                _ => sizes.push(self.window(extent)),
            }
        }
        for _ in 0..self.random.below(3) {
            batch.push((self.extent(), None));
        }
        let batch = self.random.shuffled(batch);
        let of = |axis: &usize| batch.iter().position(|(_, of)| *of == Some(*axis)).expect("it was added");
        dims.start_indices_batching_dims = dims.operand_batching_dims.iter().map(of).collect();
        let free = (0..shape.len()).filter(|axis| !dims.operand_batching_dims.contains(axis));
        let named: Vec<usize> = free.filter(|_| !self.random.one_in(3)).collect();
        dims.start_index_map = self.random.shuffled(named).into();
        let window = dims.window(shape.len()).len();
        let mut offset_dims = self.random.shuffled(0..batch.len() + window);
        offset_dims.truncate(window);
        offset_dims.sort_unstable();
        dims.offset_dims = offset_dims.into();

        let mut indices: Shape = batch.iter().map(|(extent, _)| *extent).collect();
        indices.push(dims.start_index_map.len());
        // So many that they are in range as often as not.
        let room = |&axis: &usize| shape[axis] - sizes[axis];
        let most = dims.start_index_map.iter().map(room).max().unwrap_or(0);
        let extent = self.random.one_of(&[most, most + 1, 1]);
        let indices = self.places(&indices, extent)?;
        let batch = batch.iter().map(|(extent, _)| *extent).collect();
        Some((Windows { dims, sizes, batch }, indices))
    }

    pub(super) fn gather(&mut self, x: ValueId) -> Option<ValueId> {
        let shape = self.of(x).shape;
        let (Windows { dims, sizes, .. }, indices) = self.windows(&shape)?;
        self.push(Op::Gather { dims: Box::new(dims), sizes }, &[x, indices])
    }

    pub(super) fn scatter(&mut self, x: ValueId) -> Option<ValueId> {
        let ty = self.of(x);
        let (Windows { dims, sizes, batch }, indices) = self.windows(&ty.shape)?;
        let mut updates = Shape::from_elem(0, batch.len() + dims.offset_dims.len());
        let window = dims.window(ty.rank());
        for (&axis, &of_updates) in window.iter().zip(&dims.offset_dims) {
            updates[of_updates] = sizes[axis];
        }
        for (&axis, &extent) in dims.batch(updates.len()).iter().zip(&batch) {
            updates[axis] = extent;
        }
        let updates = self.like(&TensorType::new(ty.dtype, &updates))?;
        let combine = self.random.one_of(&ScatterOp::ALL);
        self.push(Op::Scatter { dims: Box::new(dims), combine }, &[x, indices, updates])
    }

    /// The operands, and a start for each axis.
    fn at_starts(&mut self, operands: &[ValueId], shape: &[usize]) -> Option<Vec<ValueId>> {
        let mut operands = operands.to_vec();
        for &extent in shape {
            operands.push(self.places(&[], extent)?);
        }
        Some(operands)
    }

    pub(super) fn dynamic_slice(&mut self, x: ValueId) -> Option<ValueId> {
        let shape = self.of(x).shape;
        let sizes = shape.iter().map(|&extent| self.window(extent)).collect();
        let operands = self.at_starts(&[x], &shape)?;
        self.push(Op::DynamicSlice { sizes }, &operands)
    }

    pub(super) fn dynamic_update_slice(&mut self, x: ValueId) -> Option<ValueId> {
        let ty = self.of(x);
        let sizes: Shape = ty.shape.iter().map(|&extent| self.window(extent)).collect();
        let update = self.like(&TensorType::new(ty.dtype, &sizes))?;
        let operands = self.at_starts(&[x, update], &ty.shape)?;
        self.push(Op::DynamicUpdateSlice, &operands)
    }

    /// A sort of `x`, alone or with others.
    pub(super) fn sort(&mut self, x: ValueId) -> Option<ValueId> {
        let ty = self.of(x);
        let mut operands = vec![x];
        for _ in 0..self.random.below(3) {
            let dtype = self.random.one_of(&self.dtypes);
            operands.push(self.like(&ty.with_dtype(dtype))?);
        }
        let operands = self.random.shuffled(operands);
        let (axis, keys) = (self.random.below(ty.rank().max(1)), 1 + self.random.below(operands.len()));
        let sorted = self.push(Op::Sort { axis, keys }, &operands)?;
        if operands.len() == 1 {
            return Some(sorted);
        }
        // One is used at least, and all of them often.
        let used: Axes = (0..operands.len()).filter(|_| !self.random.one_in(4)).collect();
        let last = self.random.below(operands.len());
        let mut result = None;
        for index in used.into_iter().chain([last]) {
            result = self.push(Op::Result(index as u32), &[sorted]);
        }
        result
    }
}
