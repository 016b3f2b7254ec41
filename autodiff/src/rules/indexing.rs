//! Rules of indexing ops: transposes and batches of gathers, scatters and dynamic slices.
//!
//! Comes in: what `transpose` and `batch` have of the op. Goes out: cotangents, or the op on a batch with its operands.
//! A gather and a scatter that adds are transposes of each other, as are a slice and an update of zeros. A gather moves
//! a window that does not fit, and a scatter drops it; the rules restore the one where they use the other.

use fulgurite_jit::graph::{GatherDims, Op, ScatterOp};
use fulgurite_jit::types::Axes;
use fulgurite_jit::{DType, IndexMode, Shape, Tensor, TensorType};
use smallvec::SmallVec;

use super::{Batched, Cotangents, TransposeOperand};

/// The cotangents of the first operands, and none of as many others.
pub(super) fn cotangents<const N: usize>(first: [Option<Tensor>; N], others: usize) -> Cotangents {
    first.into_iter().chain(std::iter::repeat_n(None, others)).collect()
}

/// The operands, if none of them is linear.
pub(super) fn constants(operands: &[TransposeOperand<'_>]) -> Option<Vec<Tensor>> {
    let constant = |operand: &TransposeOperand<'_>| match operand {
        TransposeOperand::Constant(x) => Some((*x).clone()),
        TransposeOperand::Linear(_) => None,
    };
    operands.iter().map(constant).collect()
}

/// The op `dynamic_slice`; its starts do not count from the end.
#[track_caller]
pub(super) fn sliced(x: &Tensor, sizes: &[usize], starts: &[Tensor]) -> Tensor {
    let operands: Vec<&Tensor> = std::iter::once(x).chain(starts).collect();
    let op = Op::DynamicSlice { sizes: Shape::from_slice(sizes) };
    fulgurite_jit::trace::apply(op, &operands, std::panic::Location::caller())
}

/// The op `dynamic_update_slice`; its starts do not count from the end.
#[track_caller]
pub(super) fn updated(x: &Tensor, update: &Tensor, starts: &[Tensor]) -> Tensor {
    let operands: Vec<&Tensor> = [x, update].into_iter().chain(starts).collect();
    fulgurite_jit::trace::apply(Op::DynamicUpdateSlice, &operands, std::panic::Location::caller())
}

/// The cotangent of the operand `x` of a gather: what its elements were read for, summed.
pub(super) fn gather(dims: &GatherDims, sizes: &[usize], x: &TensorType, indices: &Tensor, ct: &Tensor) -> Tensor {
    let zeros = Tensor::full(&x.shape, 0.0, x.dtype);
    debug_assert_eq!(dims.scatter_window(x, ct.ty())[..], *sizes);
    zeros.scatter_add(indices, ct, dims.clone(), IndexMode::Clip)
}

/// The cotangents of the operand and of the updates of a scatter. `y = x + S u` where it adds, with `S` the scatter.
/// Where it sets, `y = m x + S n u`, with `m` 0 where an update is, and `n` 1 for the update that is kept of each
/// element. The others are not linear in both.
pub(super) fn scatter(
    dims: &GatherDims,
    combine: ScatterOp,
    [x, updates]: [&TransposeOperand<'_>; 2],
    indices: &Tensor,
    ct: &Tensor,
) -> [Option<Tensor>; 2] {
    let ty = updates.ty();
    let sizes = dims.scatter_window(x.ty(), ty);
    let read = |from: &Tensor, mode| from.gather(indices, dims.clone(), &sizes, mode);
    match combine {
        ScatterOp::Add => {
            [x.cotangent_if_linear(|| ct.clone()), updates.cotangent_if_linear(|| read(ct, IndexMode::FillWith(0.0)))]
        }
        ScatterOp::Set | ScatterOp::Mul | ScatterOp::Min | ScatterOp::Max => {
            let of_x = || ct.scatter(indices, &Tensor::full(&ty.shape, 0.0, ty.dtype), dims.clone(), IndexMode::Fill);
            let of_updates = || {
                // Each update has a number, from 1: the update that is kept finds its own.
                let numbers = Tensor::iota(DType::I32, &[ty.elements()], 0).reshape(&ty.shape) + 1;
                let none = Tensor::full(&x.ty().shape, 0.0, DType::I32);
                let kept = none.scatter(indices, &numbers, dims.clone(), IndexMode::Fill);
                let is_kept = read(&kept, IndexMode::FillWith(0.0)).equal(&numbers);
                is_kept.select(read(ct, IndexMode::FillWith(0.0)), 0.0)
            };
            [x.cotangent_if_linear(of_x), updates.cotangent_if_linear(of_updates)]
        }
    }
}

/// The axes of a batch: those of one example behind the mapped axis.
fn behind(axes: &Axes) -> Axes {
    axes.iter().map(|axis| axis + 1).collect()
}

/// The axes where operand, indices and result have the mapped axis first.
fn with_batch_axis(dims: &GatherDims) -> GatherDims {
    let first = |axes: &Axes| std::iter::once(0).chain(behind(axes)).collect();
    GatherDims {
        offset_dims: behind(&dims.offset_dims),
        collapsed_slice_dims: behind(&dims.collapsed_slice_dims),
        start_index_map: behind(&dims.start_index_map),
        operand_batching_dims: first(&dims.operand_batching_dims),
        start_indices_batching_dims: first(&dims.start_indices_batching_dims),
    }
}

fn inserted(sizes: &[usize], at: usize, size: usize) -> Shape {
    let mut sizes = Shape::from_slice(sizes);
    sizes.insert(at, size);
    sizes
}

/// The gather of a batch, its operands, and the mapped axis of its result.
pub(super) fn batched_gather(
    dims: &GatherDims,
    sizes: &[usize],
    x: &Batched,
    indices: &Batched,
    extent: usize,
) -> (Op, [Tensor; 2], usize) {
    match (x.axis, indices.axis) {
        // The mapped axis is part of the window.
        (Some(axis), None) => {
            let shifted = |axes: &Axes| axes.iter().map(|&a| if a < axis { a } else { a + 1 }).collect::<Axes>();
            let (collapsed, batching) = (shifted(&dims.collapsed_slice_dims), shifted(&dims.operand_batching_dims));
            // Where it comes among the axes of the window, and so of the result.
            let before = (0..axis).filter(|a| !collapsed.contains(a) && !batching.contains(a)).count();
            let to = if before == 0 { 0 } else { dims.offset_dims[before - 1] + 1 };
            let mut offset: Axes = dims.offset_dims.iter().map(|&a| if a < to { a } else { a + 1 }).collect();
            offset.insert(before, to);
            let dims = GatherDims {
                offset_dims: offset,
                collapsed_slice_dims: collapsed,
                start_index_map: shifted(&dims.start_index_map),
                operand_batching_dims: batching,
                start_indices_batching_dims: dims.start_indices_batching_dims.clone(),
            };
            let sizes = inserted(sizes, axis, extent);
            (Op::Gather { dims: dims.into(), sizes }, [x.x.clone(), indices.x.clone()], to)
        }
        // The mapped axis is the first of the batch axes.
        (None, Some(_)) => {
            let dims = GatherDims {
                offset_dims: behind(&dims.offset_dims),
                start_indices_batching_dims: behind(&dims.start_indices_batching_dims),
                ..dims.clone()
            };
            (Op::Gather { dims: dims.into(), sizes: Shape::from_slice(sizes) }, [x.x.clone(), indices.at(0, extent)], 0)
        }
        (Some(_) | None, _) => {
            let op = Op::Gather { dims: with_batch_axis(dims).into(), sizes: inserted(sizes, 0, extent.min(1)) };
            (op, [x.at(0, extent), indices.at(0, extent)], 0)
        }
    }
}

/// The axes of a scatter of a batch, and its operands; the mapped axis is the first of all.
pub(super) fn batched_scatter(dims: &GatherDims, operands: &[&Batched], extent: usize) -> (GatherDims, Vec<Tensor>) {
    (with_batch_axis(dims), operands.iter().map(|operand| operand.at(0, extent)).collect())
}

/// The index vectors of the starts of a batch of windows, and the axes of the window.
fn vectors(starts: &[&Batched], extent: usize) -> (Tensor, GatherDims) {
    let rank = starts.len();
    let starts: Vec<Tensor> = starts.iter().map(|start| start.at(0, extent)).collect();
    let dims = GatherDims {
        offset_dims: (1..rank + 1).collect(),
        start_index_map: (0..rank).collect(),
        ..GatherDims::default()
    };
    (Tensor::stack(&starts.iter().collect::<Vec<_>>(), -1), dims)
}

/// A slice of each example of a batch, its operands, and the mapped axis of its result.
pub(super) fn batched_slice(sizes: &[usize], operands: &[&Batched], extent: usize) -> (Op, Vec<Tensor>, usize) {
    let (x, starts) = (operands[0], &operands[1..]);
    match x.axis {
        Some(axis) if starts.iter().all(|start| start.axis.is_none()) => {
            let mut all = vec![x.x.clone()];
            all.extend(starts.iter().map(|start| start.x.clone()));
            all.insert(1 + axis, Tensor::literal(0.0, DType::I32));
            (Op::DynamicSlice { sizes: inserted(sizes, axis, extent) }, all, axis)
        }
        None => {
            let (indices, dims) = vectors(starts, extent);
            (Op::Gather { dims: dims.into(), sizes: Shape::from_slice(sizes) }, vec![x.x.clone(), indices], 0)
        }
        Some(_) => {
            let (indices, dims) = vectors(starts, extent);
            let dims = paired(&dims);
            (
                Op::Gather { dims: dims.into(), sizes: inserted(sizes, 0, extent.min(1)) },
                vec![x.at(0, extent), indices],
                0,
            )
        }
    }
}

/// The axes where the first axis of the operand goes together with that of the index vectors.
fn paired(dims: &GatherDims) -> GatherDims {
    GatherDims {
        start_index_map: behind(&dims.start_index_map),
        operand_batching_dims: Axes::from_slice(&[0]),
        start_indices_batching_dims: Axes::from_slice(&[0]),
        ..dims.clone()
    }
}

/// An update of a slice of each example of a batch, its operands, and the mapped axis of its result.
pub(super) fn batched_update(operands: &[&Batched], extent: usize) -> (Op, Vec<Tensor>, usize) {
    let (x, update, starts) = (operands[0], operands[1], &operands[2..]);
    if starts.iter().all(|start| start.axis.is_none()) {
        let axis = x.axis.or(update.axis).unwrap_or(0);
        let mut all = vec![x.at(axis, extent), update.at(axis, extent)];
        all.extend(starts.iter().map(|start| start.x.clone()));
        all.insert(2 + axis, Tensor::literal(0.0, DType::I32));
        return (Op::DynamicUpdateSlice, all, axis);
    }
    let (x, update) = (x.at(0, extent), update.at(0, extent));
    // A scatter drops what an update moves.
    let moved: SmallVec<[Batched; 4]> = starts
        .iter()
        .enumerate()
        .map(|(axis, start)| {
            let last = x.shape()[axis + 1] - update.shape()[axis + 1];
            Batched { x: start.x.maximum(0).minimum(last), axis: start.axis }
        })
        .collect();
    let (indices, dims) = vectors(&moved.iter().collect::<Vec<_>>(), extent);
    (Op::Scatter { dims: paired(&dims).into(), combine: ScatterOp::Set }, vec![x, indices, update], 0)
}
