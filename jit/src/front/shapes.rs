//! Data movement ops: reshape, transpose, broadcast, slice, pad, concatenate, and methods composed of them.

use std::ops;
use std::panic::Location;

use smallvec::SmallVec;

use super::operand::{IntoAxes, Operand, promoted_dtype, reject, resolve};
use super::tensor::Tensor;
use super::trace::{apply, poison};
use crate::error::Error;
use crate::graph::Op;
use crate::types::{Axes, DType, Shape, TensorType, join};

impl Tensor {
    /// The same elements in row-major order with another shape.
    #[track_caller]
    pub fn reshape(&self, shape: &[usize]) -> Self {
        if shape == self.shape() {
            return self.clone();
        }
        apply(Op::Reshape(Shape::from_slice(shape)), &[self], Location::caller())
    }

    /// Permutes the axes: axis `i` of the result is axis `perm[i]` of this.
    #[track_caller]
    pub fn transpose(&self, perm: &[usize]) -> Self {
        if perm.len() == self.rank() && perm.iter().enumerate().all(|(i, &axis)| i == axis) {
            return self.clone();
        }
        apply(Op::Transpose(Axes::from_slice(perm)), &[self], Location::caller())
    }

    /// Swaps the last two axes.
    #[track_caller]
    pub fn t(&self) -> Self {
        let mut perm: Axes = (0..self.rank()).collect();
        if let [.., a, b] = &mut perm[..] {
            std::mem::swap(a, b);
        }
        self.transpose(&perm)
    }

    /// Moves axis `from` to position `to`. [`Tensor::moveaxis`] takes negative axes too.
    #[track_caller]
    pub fn move_axis(&self, from: usize, to: usize) -> Self {
        let mut perm: Axes = (0..self.rank()).filter(|&axis| axis != from).collect();
        if from >= self.rank() || to >= self.rank() {
            let why = format!("{} has no axis {}", self.ty(), from.max(to));
            return self.reject("move_axis", why, Location::caller());
        }
        perm.insert(to, from);
        self.transpose(&perm)
    }

    /// Moves axis `source` to position `destination`, as `jax.numpy.moveaxis`. Negative axes count from the end.
    #[track_caller]
    pub fn moveaxis(&self, source: isize, destination: isize) -> Self {
        match (resolve(source, self.rank()), resolve(destination, self.rank())) {
            (Some(from), Some(to)) => self.move_axis(from, to),
            (None, _) => self.no_axis("moveaxis", source, Location::caller()),
            (_, None) => self.no_axis("moveaxis", destination, Location::caller()),
        }
    }

    /// Broadcasts by NumPy's rules: the shapes are aligned at their last axes.
    #[track_caller]
    pub fn broadcast_to(&self, shape: &[usize]) -> Self {
        if shape == self.shape() {
            return self.clone();
        }
        let Some(offset) = shape.len().checked_sub(self.rank()) else {
            let why = format!("cannot broadcast {} to [{}]", self.ty(), join(shape, ","));
            return self.reject("broadcast_to", why, Location::caller());
        };
        let dims: Axes = (offset..shape.len()).collect();
        self.broadcast_in_dim(shape, &dims)
    }

    /// Broadcasts along new and unit axes: axis `i` of this is axis `dims[i]` of the result.
    #[track_caller]
    pub fn broadcast_in_dim(&self, shape: &[usize], dims: &[usize]) -> Self {
        let op = Op::Broadcast { shape: Shape::from_slice(shape), dims: Axes::from_slice(dims) };
        apply(op, &[self], Location::caller())
    }

    /// Inserts an axis of extent 1 at position `axis`. A negative axis counts from the end of the result.
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

    /// Removes an axis of extent 1. A negative axis counts from the end.
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

    /// Along every axis the elements `start, start + stride, …` below `limit`.
    #[track_caller]
    pub fn slice(&self, start: &[usize], limit: &[usize], stride: &[usize]) -> Self {
        let op = Op::Slice { start: start.into(), limit: limit.into(), stride: stride.into() };
        apply(op, &[self], Location::caller())
    }

    /// The elements `range` of one axis, as `jax.lax.slice_in_dim`. A negative axis counts from the end.
    #[track_caller]
    pub fn slice_in_dim(&self, axis: isize, range: ops::Range<usize>) -> Self {
        match resolve(axis, self.rank()) {
            Some(axis) => {
                let mut start: Shape = SmallVec::from_elem(0, self.rank());
                let mut limit = self.ty().shape.clone();
                (start[axis], limit[axis]) = (range.start, range.end);
                self.slice(&start, &limit, &Shape::from_elem(1, self.rank()))
            }
            None => self.no_axis("slice_in_dim", axis, Location::caller()),
        }
    }

    /// Element `index` of one axis, which is removed, as `jax.lax.index_in_dim` with `keepdims=False`. A negative axis
    /// counts from the end.
    #[track_caller]
    pub fn index_in_dim(&self, index: usize, axis: isize) -> Self {
        match resolve(axis, self.rank()) {
            Some(_) => self.slice_in_dim(axis, index..index.saturating_add(1)).squeeze(axis),
            None => self.no_axis("index_in_dim", axis, Location::caller()),
        }
    }

    /// Inserts copies of the scalar `value` before, after and between the elements of each axis; see [`Op::Pad`].
    #[track_caller]
    pub fn pad(&self, value: impl Operand, low: &[isize], high: &[isize], interior: &[usize]) -> Self {
        let value = value.operand().into_tensor(self.dtype());
        let op = Op::Pad { low: low.into(), high: high.into(), interior: interior.into() };
        apply(op, &[self, &value], Location::caller())
    }

    /// Concatenates tensors of one element type along `axis`. A negative axis counts from the end.
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

    /// As [`Tensor::concat`], after promotion of the element types, as `jax.numpy.concatenate`.
    #[track_caller]
    pub fn concatenate(tensors: &[&Tensor], axis: isize) -> Self {
        let Some(dtype) = tensors.iter().map(|x| x.dtype()).reduce(promoted_dtype) else {
            return Tensor::concat(tensors, axis);
        };
        let mut converted = Vec::with_capacity(tensors.len());
        for x in tensors {
            converted.push(x.convert(dtype));
        }
        Tensor::concat(&converted.iter().collect::<Vec<_>>(), axis)
    }

    /// Stacks tensors of one type along a new axis. A negative axis counts from the end of the result.
    #[track_caller]
    pub fn stack(tensors: &[&Tensor], axis: isize) -> Self {
        let Some(first) = tensors.first() else {
            let error = Error::op("stack", "takes at least one operand", Location::caller());
            return poison(TensorType::scalar(DType::F32), error);
        };
        let Some(axis) = resolve(axis, first.rank() + 1) else {
            let why = format!("tensors of {} have no axis {axis} once they are stacked", first.ty());
            return reject(tensors, Error::op("stack", why, Location::caller()));
        };
        if let Some(other) = tensors.iter().find(|x| x.shape() != first.shape()) {
            let why = format!("{} and {} are not of one shape", first.ty(), other.ty());
            return reject(tensors, Error::op("stack", why, Location::caller()));
        }
        let mut expanded = Vec::with_capacity(tensors.len());
        for x in tensors {
            expanded.push(x.expand_dims(axis as isize));
        }
        Tensor::concat(&expanded.iter().collect::<Vec<_>>(), axis as isize)
    }

    /// Reverses axes (`jax.lax.rev`). [`Tensor::flip`] takes `..` and negative axes too.
    #[track_caller]
    pub fn rev(&self, axes: &[usize]) -> Self {
        apply(Op::Rev(axes.into()), &[self], Location::caller())
    }

    /// Reverses axes, as `jax.numpy.flip`. Negative axes count from the end.
    #[track_caller]
    pub fn flip(&self, axes: impl IntoAxes) -> Self {
        match axes.into_axes(self.rank()) {
            Ok(axes) => self.rev(&axes),
            Err(why) => self.reject("flip", format!("{} {why}", self.ty()), Location::caller()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::front::trace::trace;
    use crate::front::where_;
    use crate::interp::interpret;

    /// Types and elements of the results of `f` on i32 `[[1, 2, 3], [4, 5, 0]]`, by the reference interpreter.
    fn of_matrix(f: impl FnOnce(&Tensor) -> Vec<Tensor>) -> crate::Result<Vec<(String, Vec<f64>)>> {
        let x = Array::from_vec(&[2, 3], vec![1i32, 2, 3, 4, 5, 0])?;
        let traced = trace(&[x.ty().clone()], |xs| f(&xs[0]))?;
        let results = interpret(&traced.graph, &[x])?;
        results.iter().map(|x| Ok((x.ty().to_string(), x.to_f64_vec()?))).collect()
    }

    #[test]
    fn names_of_jax_numpy_behave_as_there() {
        let results = of_matrix(|x| {
            assert_eq!((x.ndim(), x.size()), (2, 6));
            vec![
                x.flip(-1),
                x.flip(..),
                x.moveaxis(-1, 0),
                x.index_in_dim(1, -1),
                Tensor::concatenate(&[x, &Tensor::ones(&[1, 3])], 0),
                where_(x, 1.5, 0),
                x.logical_not(),
                x.bitwise_not(),
                x.index_in_dim(0, 0).reciprocal(),
                x.clip(1, 3).astype(DType::U32),
            ]
        });
        let expected: [(&str, &[f64]); 10] = [
            ("i32[2,3]", &[3., 2., 1., 0., 5., 4.]),
            ("i32[2,3]", &[0., 5., 4., 3., 2., 1.]),
            ("i32[3,2]", &[1., 4., 2., 5., 3., 0.]),
            ("i32[2]", &[2., 5.]),
            ("f32[3,3]", &[1., 2., 3., 4., 5., 0., 1., 1., 1.]),
            ("f32[2,3]", &[1.5, 1.5, 1.5, 1.5, 1.5, 0.]),
            ("bool[2,3]", &[0., 0., 0., 0., 0., 1.]),
            ("i32[2,3]", &[-2., -3., -4., -5., -6., -1.]),
            ("f32[3]", &[1., 0.5, f64::from(1.0f32 / 3.0)]),
            ("u32[2,3]", &[1., 2., 3., 3., 3., 1.]),
        ];
        for ((ty, elements), (expected_ty, expected)) in results.expect("ten results").iter().zip(expected) {
            assert_eq!((ty.as_str(), &elements[..]), (expected_ty, expected));
        }
        let message = |f: fn(&Tensor) -> Tensor| of_matrix(|x| vec![f(x)]).expect_err("an error").to_string();
        assert!(message(|x| x.flip(2)).contains("flip: i32[2,3] has no axis 2"));
        assert!(message(|x| x.moveaxis(0, -3)).contains("moveaxis: i32[2,3] has no axis -3"));
        assert!(message(|x| x.index_in_dim(0, 2)).contains("index_in_dim: i32[2,3] has no axis 2"));
    }
}
