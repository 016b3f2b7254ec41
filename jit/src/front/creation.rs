//! Creation of tensors, and conversion of their element types.

use std::panic::Location;

use super::operand::reject;
use super::tensor::Tensor;
use super::trace::apply;
use crate::error::Error;
use crate::graph::{Literal, Op};
use crate::types::scalar::Scalar;
use crate::types::{DType, Shape};

impl Tensor {
    /// A tensor filled with `value`, converted as by [`Tensor::convert`].
    #[track_caller]
    pub fn full(shape: &[usize], value: impl Into<Scalar>, dtype: DType) -> Self {
        Tensor::literal(value, dtype).broadcast_to(shape)
    }

    /// f32 zeros.
    #[track_caller]
    pub fn zeros(shape: &[usize]) -> Self {
        Tensor::full(shape, 0.0, DType::F32)
    }

    /// f32 ones.
    #[track_caller]
    pub fn ones(shape: &[usize]) -> Self {
        Tensor::full(shape, 1.0, DType::F32)
    }

    /// Zeros of this tensor's type.
    #[track_caller]
    pub fn zeros_like(&self) -> Self {
        self.filled(0)
    }

    /// Ones of this tensor's type.
    #[track_caller]
    pub fn ones_like(&self) -> Self {
        self.filled(1)
    }

    /// A poisoned tensor has no reliable type and is returned as is.
    #[track_caller]
    fn filled(&self, value: i32) -> Self {
        if self.error().is_some() { self.clone() } else { Tensor::full(self.shape(), value, self.dtype()) }
    }

    /// A scalar of `dtype`. Integers of any size are exact.
    pub fn literal(value: impl Into<Scalar>, dtype: DType) -> Self {
        Literal::new(dtype, value).array().into()
    }

    /// `0, 1, 2, …` along `axis` of a tensor of `shape`.
    #[track_caller]
    pub fn iota(dtype: DType, shape: &[usize], axis: usize) -> Self {
        apply(Op::Iota { dtype, shape: Shape::from_slice(shape), axis }, &[], Location::caller())
    }

    /// `0, 1, …, n - 1`.
    #[track_caller]
    pub fn arange(dtype: DType, n: usize) -> Self {
        Tensor::iota(dtype, &[n], 0)
    }

    // ---- element types

    /// Converts the elements to another type; see [`Op::Convert`].
    #[track_caller]
    pub fn convert(&self, dtype: DType) -> Self {
        if dtype == self.dtype() {
            return self.clone();
        }
        apply(Op::Convert(dtype), &[self], Location::caller())
    }

    /// Alias of [`Tensor::convert`], the name in `jax.numpy`.
    #[track_caller]
    pub fn astype(&self, dtype: DType) -> Self {
        self.convert(dtype)
    }

    /// Reinterprets the bits as another type of the same size (`jax.lax.bitcast_convert_type`).
    #[track_caller]
    pub fn bitcast(&self, dtype: DType) -> Self {
        apply(Op::Bitcast(dtype), &[self], Location::caller())
    }

    /// The identity, with a derivative of zero.
    #[track_caller]
    pub fn stop_gradient(&self) -> Self {
        apply(Op::StopGradient, &[self], Location::caller())
    }

    pub(super) fn no_axis(&self, op: &str, axis: isize, location: &'static Location<'static>) -> Self {
        self.reject(op, format!("{} has no axis {axis}", self.ty()), location)
    }

    pub(super) fn reject(&self, op: &str, why: String, location: &'static Location<'static>) -> Self {
        reject(&[self], Error::op(op, why, location))
    }
}
