//! Grids and flat positions: `meshgrid`, `ix_`, and the indices of a position in an array and back.
//!
//! Definitions are those of `jax.numpy`.

use std::panic::Location;

use crate::front::operand::{Operand, promote_numbers, reject};
use crate::front::tensor::Tensor;
use crate::types::{DType, Shape};
use crate::{Error, IndexMode};

/// The order of the axes of a [`meshgrid`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Indexing {
    /// Cartesian: the second vector varies along the first axis, and the first along the second.
    #[default]
    Xy,
    /// Of matrices: each vector varies along the axis with its number.
    Ij,
}

/// What [`ravel_multi_index`] does with an index that is out of range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRange {
    /// It is moved to the nearest that is in range.
    #[default]
    Clip,
    /// It is taken modulo the extent.
    Wrap,
}

/// `n` numbers from `start` to `stop`, scalars or tensors that broadcast, along a new first axis, with `stop` if
/// `endpoint`: `jax.numpy.linspace`.
#[track_caller]
pub fn linspace(start: impl Operand, stop: impl Operand, n: usize, endpoint: bool) -> Tensor {
    let (start, stop) = promote_numbers("linspace", start.operand(), stop.operand());
    let (start, stop) = (start.inexact(), stop.inexact());
    let dtype = start.dtype();
    let steps = if endpoint { n.saturating_sub(1) } else { n };
    let shape: Shape = std::iter::once(steps.max(1)).chain(start.shape().iter().map(|_| 1)).collect();
    let part = (Tensor::arange(dtype, steps.max(1)) / steps.max(1) as f64).reshape(&shape);
    let all = start.expand_dims(0) * (1.0 - &part) + stop.expand_dims(0) * part;
    match (endpoint, n) {
        (_, 0) => all.slice_in_dim(0, 0..0),
        (true, 2..) => Tensor::concat(&[&all, &stop.expand_dims(0)], 0),
        _ => all,
    }
}

/// The coordinates of a grid, from vectors along its axes, each in the shape of the grid, or broadcastable to it if
/// `sparse`: `jax.numpy.meshgrid`.
///
/// # Errors
/// The results stand for an error if one is not a vector or a scalar.
#[track_caller]
pub fn meshgrid(vectors: &[&Tensor], indexing: Indexing, sparse: bool) -> Vec<Tensor> {
    if let Some(other) = vectors.iter().find(|x| x.rank() > 1) {
        let error = Error::op("meshgrid", format!("takes vectors, not {}", other.ty()), Location::caller());
        return vec![reject(vectors, error); vectors.len()];
    }
    let n = vectors.len();
    let axis = |i: usize| match indexing {
        Indexing::Xy if n > 1 && i < 2 => 1 - i,
        Indexing::Xy | Indexing::Ij => i,
    };
    let mut grid = Shape::from_elem(1, n);
    vectors.iter().enumerate().for_each(|(i, x)| grid[axis(i)] = x.size());
    let along = |(i, x): (usize, &&Tensor)| {
        let mut shape = Shape::from_elem(1, n);
        shape[axis(i)] = x.size();
        let thin = x.reshape(&shape);
        if sparse { thin } else { thin.broadcast_to(&grid) }
    };
    vectors.iter().enumerate().map(along).collect()
}

/// The vectors in shapes that broadcast to the grid of all combinations, to index with: `x.i(ix_(&[&rows, &columns]))`
/// are whole rows and columns. `jax.numpy.ix_`.
#[track_caller]
pub fn ix_(indices: &[&Tensor]) -> Vec<crate::front::indexing::Part> {
    let grid = meshgrid(indices, Indexing::Ij, true);
    grid.into_iter().map(crate::front::indexing::Part::Tensor).collect()
}

/// The indices along the axes of `shape` of row-major positions; a negative one counts from the end, one that is out of
/// range is moved to the nearest that is not: `jax.numpy.unravel_index`.
///
/// ```
/// use fulgurite_jit::{Tensor, unravel_index};
///
/// // Row and column of the largest element.
/// fn peak(x: &Tensor) -> Vec<Tensor> {
///     unravel_index(&x.ravel().argmax(0), x.shape())
/// }
/// # let _ = peak;
/// ```
#[track_caller]
pub fn unravel_index(indices: &Tensor, shape: &[usize]) -> Vec<Tensor> {
    let mut rest = indices.clone();
    let mut all = vec![indices.clone(); shape.len()];
    for (axis, &extent) in shape.iter().enumerate().rev() {
        let extent = Tensor::literal(extent, indices.dtype());
        (rest, all[axis]) = (rest.floor_divide(&extent), rest.remainder(&extent));
    }
    let above = rest.greater(0);
    let below = if rest.dtype().is_signed_int() { rest.less(-1) } else { above.zeros_like() };
    let bounded = |(index, &extent): (&Tensor, &usize)| {
        let last = Tensor::literal(extent.saturating_sub(1), index.dtype());
        above.select(last, below.select(index.zeros_like(), index))
    };
    all.iter().zip(shape).map(bounded).collect()
}

/// The row-major position in an array of `shape` of an index along each axis; the inverse of [`unravel_index`]:
/// `jax.numpy.ravel_multi_index`.
///
/// # Errors
/// The result stands for an error if there is not an index for each axis, or no axis.
#[track_caller]
pub fn ravel_multi_index(indices: &[&Tensor], shape: &[usize], mode: OutOfRange) -> Tensor {
    if indices.len() != shape.len() || shape.is_empty() {
        let why = format!("takes an index for each of {} axes, at least one, not {}", shape.len(), indices.len());
        let error = Error::op("ravel_multi_index", why, Location::caller());
        let ty = crate::types::TensorType::scalar(DType::I32);
        return if indices.is_empty() { Tensor::failed(ty, error) } else { reject(indices, error) };
    }
    let mut position: Option<Tensor> = None;
    for (index, &extent) in indices.iter().zip(shape) {
        let index = match mode {
            OutOfRange::Clip => index.maximum(0).minimum(extent.saturating_sub(1)),
            OutOfRange::Wrap => index.remainder(extent),
        };
        position = Some(position.map_or_else(|| index.clone(), |position| position * extent + &index));
    }
    position.expect("an axis")
}

impl Tensor {
    /// This with the elements at `indices` along `axis` replaced by `values`; indices and values broadcast to the shape
    /// of this along the other axes: `jax.numpy.put_along_axis`. Negative indices count from the end; what is out of
    /// range is not written.
    ///
    /// # Errors
    /// The result stands for an error if there is no such axis, or if the shapes do not broadcast.
    #[track_caller]
    pub fn put_along_axis(&self, indices: &Tensor, values: impl crate::Operand, axis: isize) -> Self {
        let Some(along) = crate::front::operand::resolve(axis, self.rank()) else {
            return self.no_axis("put_along_axis", axis, Location::caller());
        };
        if indices.rank() != self.rank() {
            let why = format!("{} and the indices {} are not of one rank", self.ty(), indices.ty());
            return reject(&[self, indices], Error::op("put_along_axis", why, Location::caller()));
        }
        let mut shape = Shape::from_slice(self.shape());
        shape[along] = indices.shape()[along];
        let indices = indices.broadcast_to(&shape);
        // The places along the other axes.
        let part = |axis: usize| {
            if axis == along { indices.clone() } else { Tensor::iota(DType::I32, &shape, axis) }
        };
        let parts: Vec<Tensor> = (0..self.rank()).map(part).collect();
        let parts: Vec<crate::front::indexing::Part> =
            parts.into_iter().map(crate::front::indexing::Part::Tensor).collect();
        self.at(parts).mode(IndexMode::Fill).set(values)
    }
}
