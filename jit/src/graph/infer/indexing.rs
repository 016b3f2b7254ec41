//! The types of the results of gathers, scatters and dynamic slices, or why they cannot be applied.

use super::super::dims::{GatherDims, ScatterOp};
use super::{Inferred, check, check_axes};
use crate::types::{Axes, DType, Shape, TensorType, join};

impl GatherDims {
    /// The type of the result of a gather.
    pub(super) fn gather(&self, x: &TensorType, indices: &TensorType, sizes: &[usize]) -> Inferred {
        let rank = indices.rank().saturating_sub(1) + self.offset_dims.len();
        self.check(x, indices, rank)?;
        self.check_window(x, sizes)?;
        let mut shape = Shape::from_elem(0, rank);
        for (axis, &of_result) in self.window(x.rank()).iter().zip(&self.offset_dims) {
            shape[of_result] = sizes[*axis];
        }
        for (&of_result, &extent) in self.batch(rank).iter().zip(&indices.shape) {
            shape[of_result] = extent;
        }
        Ok(TensorType::new(x.dtype, &shape))
    }

    /// The type of the result of a scatter.
    pub(super) fn scatter(
        &self,
        op: ScatterOp,
        x: &TensorType,
        indices: &TensorType,
        updates: &TensorType,
    ) -> Inferred {
        check(x.dtype == updates.dtype, || format!("{x} and the updates {updates} differ in element type"))?;
        check(op == ScatterOp::Set || x.dtype != DType::Bool, || format!("cannot {} bools to {x}", op.name()))?;
        self.check(x, indices, updates.rank())?;
        let batch: Shape = self.batch(updates.rank()).iter().map(|&axis| updates.shape[axis]).collect();
        check(batch[..] == indices.shape[..indices.rank() - 1], || {
            format!("the batch axes of the updates {updates} are not those of the indices {indices}")
        })?;
        self.check_window(x, &self.scatter_window(x, updates))?;
        Ok(x.clone())
    }

    fn check_window(&self, x: &TensorType, sizes: &[usize]) -> Result<(), String> {
        check(sizes.len() == x.rank(), || format!("needs an extent of the window for each axis of {x}"))?;
        for (axis, (&size, &extent)) in sizes.iter().zip(&x.shape).enumerate() {
            check(size <= extent, || format!("a window of {size} does not fit into axis {axis} of {x}"))?;
            let one = if self.operand_batching_dims.contains(&axis) { extent.min(1) } else { 1 };
            let kept = !self.collapsed_slice_dims.contains(&axis) && !self.operand_batching_dims.contains(&axis);
            check(kept || size == one, || format!("the window has extent {size}, not 1, along axis {axis} of {x}"))?;
        }
        Ok(())
    }

    fn check(&self, x: &TensorType, indices: &TensorType, rank: usize) -> Result<(), String> {
        check(indices.dtype == DType::I32, || format!("takes indices of i32, not {indices}"))?;
        check_indexable(x)?;
        let ascends = |axes: &[usize]| axes.windows(2).all(|w| w[0] < w[1]);
        check(indices.shape.last() == Some(&self.start_index_map.len()), || {
            format!(
                "the last axis of {indices} has no index for each of the axes [{}]",
                join(&self.start_index_map, ",")
            )
        })?;
        let named = |axes: [&Axes; 2]| axes.into_iter().flatten().copied().collect::<Axes>();
        check_axes(&named([&self.collapsed_slice_dims, &self.operand_batching_dims]), x)?;
        check_axes(&named([&self.start_index_map, &self.operand_batching_dims]), x)?;
        check(ascends(&self.collapsed_slice_dims) && ascends(&self.offset_dims), || "axes do not ascend".into())?;
        let batch = TensorType::new(DType::I32, &indices.shape[..indices.rank() - 1]);
        check_axes(&self.start_indices_batching_dims, &batch)?;
        let pairs = self.operand_batching_dims.iter().zip(&self.start_indices_batching_dims);
        let agree = self.operand_batching_dims.len() == self.start_indices_batching_dims.len()
            && pairs.clone().all(|(&of_x, &of_indices)| x.shape[of_x] == indices.shape[of_indices]);
        check(agree, || {
            let pairs: Vec<String> = pairs.map(|(a, b)| format!("{a}:{b}")).collect();
            format!("the axes {} of {x} and {indices} do not go together", pairs.join(","))
        })?;
        let window = self.window(x.rank()).len();
        let fits = self.offset_dims.len() == window
            && self.offset_dims.iter().all(|&axis| axis < rank)
            && rank == batch.rank() + window;
        check(fits, || {
            format!(
                "windows of {x} have {window} axes, and [{}] are not such axes of {rank}, {} of which are batch axes",
                join(&self.offset_dims, ","),
                batch.rank()
            )
        })
    }
}

/// Positions of elements are i32.
fn check_indexable(x: &TensorType) -> Result<(), String> {
    check(x.elements() <= i32::MAX as usize, || format!("cannot index the elements of {x} in i32"))
}

/// The starts of a window: a scalar for each axis.
fn check_starts(x: &TensorType, starts: &[&TensorType]) -> Result<(), String> {
    check_indexable(x)?;
    let scalars = starts.len() == x.rank() && starts.iter().all(|s| s.dtype == DType::I32 && s.rank() == 0);
    check(scalars, || {
        let starts: Vec<String> = starts.iter().map(ToString::to_string).collect();
        format!("needs a start, an i32 scalar, for each axis of {x}, not [{}]", starts.join(", "))
    })
}

/// The type of the result of a dynamic slice; the operands after the first are the starts.
pub(super) fn dynamic_slice(operands: &[&TensorType], sizes: &[usize]) -> Inferred {
    let x = operands[0];
    check_starts(x, &operands[1..])?;
    let fits = sizes.len() == x.rank() && sizes.iter().zip(&x.shape).all(|(size, extent)| size <= extent);
    check(fits, || format!("a window of [{}] does not fit into {x}", join(sizes, ",")))?;
    Ok(TensorType::new(x.dtype, sizes))
}

/// The type of the result of an update of a slice; the operands after the first two are the starts.
pub(super) fn dynamic_update_slice(operands: &[&TensorType]) -> Inferred {
    let [x, update, starts @ ..] = operands else { return Err("takes an operand, an update and its starts".into()) };
    check_starts(x, starts)?;
    let fits = update.dtype == x.dtype
        && update.rank() == x.rank()
        && update.shape.iter().zip(&x.shape).all(|(size, extent)| size <= extent);
    check(fits, || format!("the update {update} does not fit into {x}"))?;
    Ok((*x).clone())
}
