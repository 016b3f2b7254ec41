//! Ops that move elements: reshape, transpose, broadcast, slice, pad and what is made of them.

use std::ops;
use std::panic::Location;

use smallvec::SmallVec;

use super::operand::refuse;
use super::operand::{Operand, resolve};
use super::tensor::Tensor;
use super::trace::{apply, poison};
use crate::error::Error;
use crate::graph::Op;
use crate::types::{Axes, DType, Shape, TensorType, join};

impl Tensor {
    /// The same elements, row-major, as another shape.
    #[track_caller]
    pub fn reshape(&self, shape: &[usize]) -> Self {
        if shape == self.shape() {
            return self.clone();
        }
        apply(Op::Reshape(Shape::from_slice(shape)), &[self], Location::caller())
    }

    /// Axis `i` of the result is axis `perm[i]` of this.
    #[track_caller]
    pub fn transpose(&self, perm: &[usize]) -> Self {
        if perm.len() == self.rank() && perm.iter().enumerate().all(|(i, &axis)| i == axis) {
            return self.clone();
        }
        apply(Op::Transpose(Axes::from_slice(perm)), &[self], Location::caller())
    }

    /// The last two axes swapped.
    #[track_caller]
    pub fn t(&self) -> Self {
        let mut perm: Axes = (0..self.rank()).collect();
        if let [.., a, b] = &mut perm[..] {
            std::mem::swap(a, b);
        }
        self.transpose(&perm)
    }

    /// Axis `from` moved to place `to`.
    #[track_caller]
    pub fn move_axis(&self, from: usize, to: usize) -> Self {
        let mut perm: Axes = (0..self.rank()).filter(|&axis| axis != from).collect();
        if from >= self.rank() || to >= self.rank() {
            let why = format!("{} has no axis {}", self.ty(), from.max(to));
            return self.refuse("move_axis", why, Location::caller());
        }
        perm.insert(to, from);
        self.transpose(&perm)
    }

    /// Repeats along new and unit axes, as NumPy does: the shapes are aligned at their ends.
    #[track_caller]
    pub fn broadcast_to(&self, shape: &[usize]) -> Self {
        if shape == self.shape() {
            return self.clone();
        }
        let Some(offset) = shape.len().checked_sub(self.rank()) else {
            let why = format!("cannot broadcast {} to [{}]", self.ty(), join(shape, ","));
            return self.refuse("broadcast_to", why, Location::caller());
        };
        let dims: Axes = (offset..shape.len()).collect();
        self.broadcast_in_dim(shape, &dims)
    }

    /// Repeats along new and unit axes: axis `i` of this is axis `dims[i]` of the result.
    #[track_caller]
    pub fn broadcast_in_dim(&self, shape: &[usize], dims: &[usize]) -> Self {
        let op = Op::Broadcast { shape: Shape::from_slice(shape), dims: Axes::from_slice(dims) };
        apply(op, &[self], Location::caller())
    }

    /// A new axis of extent 1 at place `axis`; negative counts from the end of the result.
    #[track_caller]
    pub fn expand_dims(&self, axis: isize) -> Self {
        let rank = self.rank() + 1;
        match resolve(axis, rank) {
            Some(axis) => {
                let mut shape = self.ty().shape.clone();
                shape.insert(axis, 1);
                self.reshape(&shape)
            }
            None => self.no_axis("expand_dims", axis, Location::caller()),
        }
    }

    /// Without the axis, whose extent is 1; negative counts from the end.
    #[track_caller]
    pub fn squeeze(&self, axis: isize) -> Self {
        match resolve(axis, self.rank()) {
            Some(axis) => {
                let mut shape = self.ty().shape.clone();
                shape.remove(axis);
                self.reshape(&shape)
            }
            None => self.no_axis("squeeze", axis, Location::caller()),
        }
    }

    /// Elements `start, start + stride, …` below `limit` of every axis.
    #[track_caller]
    pub fn slice(&self, start: &[usize], limit: &[usize], stride: &[usize]) -> Self {
        let op = Op::Slice { start: start.into(), limit: limit.into(), stride: stride.into() };
        apply(op, &[self], Location::caller())
    }

    /// The elements `range` of one axis; negative `axis` counts from the end.
    #[track_caller]
    pub fn slice_axis(&self, axis: isize, range: ops::Range<usize>) -> Self {
        match resolve(axis, self.rank()) {
            Some(axis) => {
                let mut start: Shape = SmallVec::from_elem(0, self.rank());
                let mut limit = self.ty().shape.clone();
                (start[axis], limit[axis]) = (range.start, range.end);
                self.slice(&start, &limit, &Shape::from_elem(1, self.rank()))
            }
            None => self.no_axis("slice_axis", axis, Location::caller()),
        }
    }

    /// Element `index` of the first axis, which vanishes.
    #[track_caller]
    pub fn index(&self, index: usize) -> Self {
        self.slice_axis(0, index..index.saturating_add(1)).squeeze(0)
    }

    /// Puts copies of the scalar `value` before, after and between the elements of each axis; see [`Op::Pad`].
    #[track_caller]
    pub fn pad(&self, value: impl Operand, low: &[isize], high: &[isize], interior: &[usize]) -> Self {
        let value = value.operand().into_tensor(self.dtype());
        let op = Op::Pad { low: low.into(), high: high.into(), interior: interior.into() };
        apply(op, &[self, &value], Location::caller())
    }

    /// One tensor after the other along `axis`; negative counts from the end.
    #[track_caller]
    pub fn concat(tensors: &[&Tensor], axis: isize) -> Self {
        let Some(first) = tensors.first() else {
            let error = Error::op("concatenate", "takes at least one operand", Location::caller());
            return poison(TensorType::scalar(DType::F32), error);
        };
        match resolve(axis, first.rank()) {
            Some(axis) => apply(Op::Concat(axis), tensors, Location::caller()),
            None => first.no_axis("concatenate", axis, Location::caller()),
        }
    }

    /// Tensors of one type along a new axis; negative counts from the end of the result.
    #[track_caller]
    pub fn stack(tensors: &[&Tensor], axis: isize) -> Self {
        let Some(first) = tensors.first() else {
            let error = Error::op("stack", "takes at least one operand", Location::caller());
            return poison(TensorType::scalar(DType::F32), error);
        };
        let Some(axis) = resolve(axis, first.rank() + 1) else {
            let why = format!("tensors of {} have no axis {axis} once they are stacked", first.ty());
            return refuse(tensors, Error::op("stack", why, Location::caller()));
        };
        if let Some(other) = tensors.iter().find(|x| x.shape() != first.shape()) {
            let why = format!("{} and {} are not of one shape", first.ty(), other.ty());
            return refuse(tensors, Error::op("stack", why, Location::caller()));
        }
        let mut expanded = Vec::with_capacity(tensors.len());
        for x in tensors {
            expanded.push(x.expand_dims(axis as isize));
        }
        Tensor::concat(&expanded.iter().collect::<Vec<_>>(), axis as isize)
    }

    /// The axes reversed.
    #[track_caller]
    pub fn rev(&self, axes: &[usize]) -> Self {
        apply(Op::Rev(axes.into()), &[self], Location::caller())
    }
}
