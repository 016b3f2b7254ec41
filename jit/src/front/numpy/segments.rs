//! Sums and other reductions over segments, and counts of elements by their value.
//!
//! Definitions are those of `jax.ops.segment_sum` and its like, and of `jax.numpy`. Elements are combined in order, so
//! the results are the same on any number of threads.

use std::panic::Location;

use crate::error::Error;
use crate::front::indexing::IndexMode;
use crate::front::numpy::find::Side;
use crate::front::numpy::grids::linspace;
use crate::front::operand::reject;
use crate::front::tensor::Tensor;
use crate::graph::{GatherDims, ScatterOp};
use crate::types::scalar::Scalar;
use crate::types::{Axes, DType, Kind, Shape};

/// The sums of the elements of `data` with equal segment numbers, along the first axis: `jax.ops.segment_sum`. What has
/// a number that is out of range is in no segment. Of a segment without elements the sum is 0.
///
/// ```
/// use fulgurite_jit::{Tensor, segment_sum};
///
/// // The mean of the rows of each of 10 groups.
/// fn means(rows: &Tensor, groups: &Tensor) -> Tensor {
///     let count = segment_sum(&groups.ones_like(), groups, 10);
///     segment_sum(rows, groups, 10) / count.maximum(1).expand_dims(-1)
/// }
/// # let _ = means;
/// ```
///
/// # Errors
/// The result stands for an error if the shape of the numbers is not how that of the data begins.
#[track_caller]
pub fn segment_sum(data: &Tensor, segment_ids: &Tensor, num_segments: usize) -> Tensor {
    segments(ScatterOp::Add, data, segment_ids, num_segments)
}

/// The products over segments, as [`segment_sum`]; 1 without elements: `jax.ops.segment_prod`.
#[track_caller]
pub fn segment_prod(data: &Tensor, segment_ids: &Tensor, num_segments: usize) -> Tensor {
    segments(ScatterOp::Mul, data, segment_ids, num_segments)
}

/// The maxima over segments, as [`segment_sum`]; the least value of the type without elements: `jax.ops.segment_max`.
/// Equal maxima share the derivative.
#[track_caller]
pub fn segment_max(data: &Tensor, segment_ids: &Tensor, num_segments: usize) -> Tensor {
    segments(ScatterOp::Max, data, segment_ids, num_segments)
}

/// The minima over segments, as [`segment_sum`]; the largest value of the type without elements: `jax.ops.segment_min`.
/// Equal minima share the derivative.
#[track_caller]
pub fn segment_min(data: &Tensor, segment_ids: &Tensor, num_segments: usize) -> Tensor {
    segments(ScatterOp::Min, data, segment_ids, num_segments)
}

#[track_caller]
fn segments(combine: ScatterOp, data: &Tensor, ids: &Tensor, count: usize) -> Tensor {
    let n = ids.rank();
    let location = Location::caller();
    let cannot = |why: String| reject(&[data, ids], Error::op("segment", why, location));
    let Some(indices) = ids.as_indices() else {
        return cannot(format!("takes segment numbers of integers, not {}", ids.ty()));
    };
    if data.shape().get(..n) != Some(ids.shape()) {
        return cannot(format!("the segment numbers {} do not go with {}", ids.ty(), data.ty()));
    }
    // Bools: sums and maxima are `or`.
    let data = if data.dtype() == DType::Bool { data.convert(DType::I32) } else { data.clone() };
    let dtype = data.dtype();
    let shape: Shape = std::iter::once(count).chain(data.shape()[n..].iter().copied()).collect();
    let initial = match combine {
        ScatterOp::Add | ScatterOp::Set => Tensor::literal(0, dtype),
        ScatterOp::Mul => Tensor::literal(1, dtype),
        ScatterOp::Max => extreme(dtype, false),
        ScatterOp::Min => extreme(dtype, true),
    };
    let initial = initial.broadcast_to(&shape);
    if count == 0 {
        return initial;
    }
    let dims = GatherDims {
        offset_dims: (n..data.rank()).collect(),
        collapsed_slice_dims: Axes::from_slice(&[0]),
        start_index_map: Axes::from_slice(&[0]),
        ..GatherDims::default()
    };
    initial.scatter_by(combine, &indices.expand_dims(-1), &data, dims, IndexMode::Fill)
}

/// The largest or the least value of an element type, infinite for floats.
pub(super) fn extreme(dtype: DType, largest: bool) -> Tensor {
    match dtype.kind() {
        Kind::Float(_) => Tensor::literal(if largest { f64::INFINITY } else { f64::NEG_INFINITY }, dtype),
        Kind::Bool => Tensor::literal(largest, dtype),
        Kind::Int { .. } => {
            let bits = 8 * dtype.size() as u32 - u32::from(dtype.is_signed_int());
            let most = ((1u128 << bits) - 1) as i128;
            let value = match (largest, dtype.is_signed_int()) {
                (true, _) => most,
                (false, true) => -most - 1,
                (false, false) => 0,
            };
            Tensor::literal(Scalar::Int(value), dtype)
        }
    }
}

/// How often each of the numbers `0, 1, …, length - 1` occurs among integers, i32, or the sums of the weights of
/// those: `jax.numpy.bincount`. A negative number counts as 0, one that is too large not at all.
///
/// # Errors
/// The result stands for an error if the weights are not of the shape of the numbers, or those are not integers.
#[track_caller]
pub fn bincount(x: &Tensor, weights: Option<&Tensor>, length: usize) -> Tensor {
    let ones = Tensor::full(x.shape(), 1, DType::I32);
    if let Some(weights) = weights.filter(|weights| weights.shape() != x.shape()) {
        let why = format!("the weights {} are not of the shape of {}", weights.ty(), x.ty());
        return reject(&[x, weights], Error::op("bincount", why, Location::caller()));
    }
    let x = if x.dtype().is_signed_int() { x.maximum(Tensor::literal(0, x.dtype())) } else { x.clone() };
    segment_sum(weights.unwrap_or(&ones), &x, length)
}

/// The bins of a histogram.
#[derive(Clone, Copy, Debug)]
pub enum Bins<'a> {
    /// So many of equal width, from the least to the largest element.
    Count(usize),
    /// So many of equal width between two numbers.
    Between(usize, f64, f64),
    /// Those between these edges, ascending.
    Edges(&'a Tensor),
}

/// The edges of bins for the elements of `x`: `jax.numpy.histogram_bin_edges`.
///
/// # Errors
/// The result stands for an error if there is no bin.
#[track_caller]
pub fn histogram_bin_edges(x: &Tensor, bins: Bins<'_>) -> Tensor {
    let x = x.inexact();
    let dtype = x.dtype();
    let (count, low, high) = match bins {
        Bins::Edges(edges) => return edges.convert(dtype),
        Bins::Count(count) => (count, x.min(), x.max()),
        Bins::Between(count, low, high) => (count, Tensor::literal(low, dtype), Tensor::literal(high, dtype)),
    };
    if count == 0 {
        return x.reject("histogram", "takes at least one bin".into(), Location::caller());
    }
    let same = low.equal(&high);
    let (low, high) = (same.select(&low - 0.5, &low), same.select(&high + 0.5, &high));
    linspace(low, high, count + 1, true)
}

/// How many elements of `x`, or the sum of the weights of those that, lie in each bin, and the edges of the bins:
/// `jax.numpy.histogram`. A bin contains its lower edge, the last one its upper edge too. Counts are of the float type
/// of the edges, as in JAX; elements outside of all bins do not count.
#[track_caller]
pub fn histogram(x: &Tensor, bins: Bins<'_>, weights: Option<&Tensor>) -> (Tensor, Tensor) {
    let edges = histogram_bin_edges(x, bins);
    let (x, ones) = (x.inexact().ravel(), x.inexact().ones_like());
    let count = edges.size();
    if count == 0 {
        return (edges.clone(), edges);
    }
    let at = edges.searchsorted(&x, Side::Right);
    let at = x.equal(edges.i(-1)).select((count - 1) as i32, &at);
    let sums = segment_sum(&weights.unwrap_or(&ones).ravel(), &at, count);
    (sums.slice_in_dim(0, 1..count), edges)
}
