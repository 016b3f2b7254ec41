//! Indexing ops: gathers, scatters and slices at computed places.
//!
//! Comes in: elements as bits, and the types of the operands. Goes out: the elements of the result. A window that does
//! not fit at its place is moved by a gather and a slice, and dropped by a scatter.

use super::{flatten, scalar, unflatten};
use crate::array::Array;
use crate::graph::{BinaryOp, GatherDims, ScatterOp};
use crate::types::{Axes, Shape, TensorType};

/// The first index of a window of `size` elements at `start`, moved to where it fits.
fn clamped(start: i64, extent: usize, size: usize) -> usize {
    start.clamp(0, (extent - size) as i64) as usize
}

fn integers(bits: &[u64]) -> Vec<i64> {
    bits.iter().map(|&bits| i64::from(bits as u32 as i32)).collect()
}

/// The components of the index vector of the element at `at`, of the result of a gather or of updates.
fn index_vector<'a>(
    dims: &GatherDims,
    indices: &'a [i64],
    components: usize,
    ty: &TensorType,
    at: &[usize],
) -> &'a [i64] {
    let batch = dims.batch(ty.rank());
    let row = batch.iter().fold(0, |row, &axis| row * ty.shape[axis] + at[axis]);
    &indices[row * components..(row + 1) * components]
}

pub(super) fn gather(
    ty: &TensorType,
    x: &[Vec<u64>],
    operands: &[&Array],
    dims: &GatherDims,
    sizes: &[usize],
) -> Vec<u64> {
    let shape = &operands[0].ty().shape;
    let indices = integers(&x[1]);
    let coordinates = dims.coordinates(shape.len(), ty.rank());
    let element = |i: usize| {
        let at = unflatten(i, &ty.shape);
        let vector = index_vector(dims, &indices, dims.start_index_map.len(), ty, &at);
        let coordinate = |(axis, c): (usize, &crate::graph::Coordinate)| {
            let start = c.component.map_or(0, |k| clamped(vector[k], shape[axis], sizes[axis]));
            start + c.axis.map_or(0, |axis| at[axis])
        };
        x[0][flatten(&coordinates.iter().enumerate().map(coordinate).collect::<Shape>(), shape)]
    };
    (0..ty.elements()).map(element).collect()
}

pub(super) fn scatter(
    ty: &TensorType,
    x: &[Vec<u64>],
    operands: &[&Array],
    dims: &GatherDims,
    combine: ScatterOp,
) -> Vec<u64> {
    let updates = operands[2].ty();
    let indices = integers(&x[1]);
    let sizes = dims.scatter_window(ty, updates);
    let coordinates = dims.coordinates(ty.rank(), updates.rank());
    // Floats are summed in f64 and rounded once.
    let is_float = ty.dtype.is_float() && combine == ScatterOp::Add;
    let mut sums: Vec<f64> = if is_float { x[0].iter().map(|&x| ty.dtype.value(x).to_f64()).collect() } else { vec![] };
    let mut changed = vec![false; if is_float { x[0].len() } else { 0 }];
    let mut result = x[0].clone();
    // Window after window, in row-major order of the batch axes.
    let order: Axes = dims.batch(updates.rank()).into_iter().chain(dims.offset_dims.iter().copied()).collect();
    let extents: Shape = order.iter().map(|&axis| updates.shape[axis]).collect();
    'updates: for i in 0..updates.elements() {
        let mut at = Shape::from_elem(0, order.len());
        for (&axis, &position) in order.iter().zip(&unflatten(i, &extents)) {
            at[axis] = position;
        }
        let update = x[2][flatten(&at, &updates.shape)];
        let vector = index_vector(dims, &indices, dims.start_index_map.len(), updates, &at);
        let mut place = Shape::new();
        for (axis, c) in coordinates.iter().enumerate() {
            let start = c.component.map_or(0, |k| vector[k]);
            if start != clamped(start, ty.shape[axis], sizes[axis]) as i64 {
                continue 'updates;
            }
            place.push(start as usize + c.axis.map_or(0, |axis| at[axis]));
        }
        let place = flatten(&place, &ty.shape);
        match combine.binary() {
            None => result[place] = update,
            Some(BinaryOp::Add) if is_float => {
                sums[place] += ty.dtype.value(update).to_f64();
                changed[place] = true;
            }
            Some(op) => result[place] = scalar::binary(op, ty.dtype, result[place], update),
        }
    }
    for (i, _) in changed.iter().enumerate().filter(|(_, changed)| **changed) {
        result[i] = scalar::round(ty.dtype, sums[i]);
    }
    result
}

/// The first index of the window along each axis, from scalar operands.
fn starts(x: &[Vec<u64>], shape: &[usize], sizes: &[usize]) -> Shape {
    x.iter().enumerate().map(|(axis, x)| clamped(integers(x)[0], shape[axis], sizes[axis])).collect()
}

pub(super) fn dynamic_slice(ty: &TensorType, x: &[Vec<u64>], operands: &[&Array]) -> Vec<u64> {
    let shape = &operands[0].ty().shape;
    let starts = starts(&x[1..], shape, &ty.shape);
    let element = |i: usize| {
        let at: Shape = unflatten(i, &ty.shape).iter().zip(&starts).map(|(at, start)| at + start).collect();
        x[0][flatten(&at, shape)]
    };
    (0..ty.elements()).map(element).collect()
}

pub(super) fn dynamic_update_slice(ty: &TensorType, x: &[Vec<u64>], operands: &[&Array]) -> Vec<u64> {
    let sizes = &operands[1].ty().shape;
    let starts = starts(&x[2..], &ty.shape, sizes);
    let mut result = x[0].clone();
    for (i, &update) in x[1].iter().enumerate() {
        let at: Shape = unflatten(i, sizes).iter().zip(&starts).map(|(at, start)| at + start).collect();
        result[flatten(&at, &ty.shape)] = update;
    }
    result
}
