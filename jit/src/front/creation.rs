//! How tensors are made, and their element types changed.

use std::panic::Location;

use super::operand::refuse;
use super::tensor::Tensor;
use super::trace::apply;
use crate::error::Error;
use crate::graph::{Literal, Op};
use crate::types::{DType, Shape};

impl Tensor {
    /// Every element `value`.
    #[track_caller]
    pub fn full(shape: &[usize], value: f64, dtype: DType) -> Self {
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
        self.filled(0.0)
    }

    /// Ones of this tensor's type.
    #[track_caller]
    pub fn ones_like(&self) -> Self {
        self.filled(1.0)
    }

    /// What stands for an error has no type to go by.
    #[track_caller]
    fn filled(&self, value: f64) -> Self {
        if self.error().is_some() { self.clone() } else { Tensor::full(self.shape(), value, self.dtype()) }
    }

    /// A scalar of `dtype`.
    pub fn literal(value: f64, dtype: DType) -> Self {
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

    /// The same elements as another type; see [`Op::Convert`].
    #[track_caller]
    pub fn convert(&self, dtype: DType) -> Self {
        if dtype == self.dtype() {
            return self.clone();
        }
        apply(Op::Convert(dtype), &[self], Location::caller())
    }

    /// The same bits as another type of the same size.
    #[track_caller]
    pub fn bitcast(&self, dtype: DType) -> Self {
        apply(Op::Bitcast(dtype), &[self], Location::caller())
    }

    /// The tensor, as a constant to every derivative.
    #[track_caller]
    pub fn stop_gradient(&self) -> Self {
        apply(Op::StopGradient, &[self], Location::caller())
    }

    pub(super) fn no_axis(&self, op: &str, axis: isize, location: &'static Location<'static>) -> Self {
        self.refuse(op, format!("{} has no axis {axis}", self.ty()), location)
    }

    pub(super) fn refuse(&self, op: &str, why: String, location: &'static Location<'static>) -> Self {
        refuse(&[self], Error::op(op, why, location))
    }
}
