//! Sorting: `sort`, `argsort`, `top_k`, and sorting of several tensors together.

use std::panic::Location;

use super::operand::{reject, resolve};
use super::tensor::Tensor;
use super::trace::apply_all;
use super::x64::default_int;
use crate::error::Error;
use crate::graph::Op;
use crate::types::{DType, TensorType};

/// Sorts tensors of one shape together along `axis`, in ascending order of the first `num_keys` of them: of elements
/// that are equal in the first, by the next. Stable. Zeros of either sign are equal, and NaN comes last:
/// `jax.lax.sort`.
///
/// ```
/// use fulgurite_jit::{Tensor, sort};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let key = Tensor::from_vec(&[3], vec![3i32, 1, 2]).unwrap();
/// let value = Tensor::from_vec(&[3], vec![0.5f32, 1.5, 2.5]).unwrap();
/// let sorted = sort(&[&key, &value], 0, 1); // [1, 2, 3] and [1.5, 2.5, 0.5]
/// assert_eq!(sorted.len(), 2);
/// # sorted
/// # }).unwrap();
/// ```
///
/// # Errors
/// The results stand for an error if there is no operand, no such axis, or more keys than operands, and if shapes
/// differ.
#[track_caller]
pub fn sort(operands: &[&Tensor], axis: isize, num_keys: usize) -> Vec<Tensor> {
    let location = Location::caller();
    let Some(first) = operands.first() else {
        let error = Error::op("sort", "takes at least one operand".to_string(), location);
        return vec![Tensor::failed(TensorType::scalar(DType::F32), error)];
    };
    match resolve(axis, first.rank()) {
        Some(axis) => apply_all(Op::Sort { axis, keys: num_keys }, operands, location).into_vec(),
        None => {
            let error = Error::op("sort", format!("{} has no axis {axis}", first.ty()), location);
            operands.iter().map(|_| reject(operands, error.clone())).collect()
        }
    }
}

impl Tensor {
    /// The elements in ascending order along an axis, NaN last: `jax.numpy.sort`. `x.sort(-1).flip(-1)` is in
    /// descending order.
    #[track_caller]
    pub fn sort(&self, axis: isize) -> Self {
        sort(&[self], axis, 1).swap_remove(0)
    }

    /// The indices that sort along an axis, i32; equal elements stay in order: `jax.numpy.argsort`.
    #[track_caller]
    pub fn argsort(&self, axis: isize) -> Self {
        match resolve(axis, self.rank()) {
            Some(along) => {
                let positions = Tensor::iota(DType::I32, self.shape(), along);
                sort(&[&self.stop_gradient(), &positions], axis, 1).swap_remove(1).convert(default_int())
            }
            None => self.no_axis("argsort", axis, Location::caller()),
        }
    }

    /// The `k` largest elements along the last axis, in descending order, and their indices, i32: `jax.lax.top_k`. Of
    /// equal elements the first comes first; NaN is larger than any number.
    #[track_caller]
    pub fn top_k(&self, k: usize) -> (Self, Self) {
        let location = Location::caller();
        let extent = self.shape().last().copied();
        if extent.is_none_or(|extent| k > extent) && self.error().is_none() {
            let error = Error::op("top_k", format!("{} has no {k} elements along its last axis", self.ty()), location);
            let x = reject(&[self], error);
            return (x.clone(), x);
        }
        let Some(axis) = self.rank().checked_sub(1) else { return (self.clone(), self.clone()) };
        let positions = Tensor::iota(DType::I32, self.shape(), axis);
        // Reversed, an ascending order is a descending one; and of equal elements the last is the first.
        let (x, positions) = (self.rev(&[axis]), positions.rev(&[axis]));
        let sorted = sort(&[&x, &positions], -1, 1);
        let [values, positions] = [0, 1].map(|i| sorted[i].rev(&[axis]).slice_in_dim(-1, 0..k));
        (values, positions)
    }
}
