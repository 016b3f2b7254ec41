//! Creation of tensors, and conversion of their element types.

use std::panic::Location;

use super::operand::reject;
use super::tensor::Tensor;
use super::trace::apply;
use crate::error::Error;
use crate::graph::{Literal, Op, ReduceOp};
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

    /// Reinterprets the bits as another type, as `jax.lax.bitcast_convert_type`: a narrower one gets a new last axis,
    /// of the parts of an element from the lowest on, a wider one takes that axis. Not between bool and others.
    ///
    /// ```
    /// # use fulgurite_jit::{DType, Tensor};
    /// # fn traced(x: &Tensor) {
    /// let bytes = x.bitcast(DType::U8); // of f32[3], u8[3,4]
    /// # }
    /// ```
    #[track_caller]
    pub fn bitcast(&self, dtype: DType) -> Self {
        let (from, to) = (self.dtype(), dtype);
        if from.size() == to.size() || from == DType::Bool || to == DType::Bool || self.error().is_some() {
            return apply(Op::Bitcast(dtype), &[self], Location::caller());
        }
        let [of_from, of_to] = [from, to].map(|of| of.int_of_size(false));
        let parts = from.size().max(to.size()) / from.size().min(to.size());
        let wide = if from.size() > to.size() { of_from } else { of_to };
        // How far each part is from the lowest bit.
        let places = Tensor::arange(wide, parts) * (wide.width() as usize / parts);
        if from.size() > to.size() {
            let parts = self.bitcast(of_from).expand_dims(-1).shift_right_logical(places);
            return parts.convert(of_to).bitcast(to);
        }
        if self.shape().last() != Some(&parts) {
            let why = format!("{} as {to} needs a last axis of {parts}", self.ty());
            return self.reject("bitcast", why, Location::caller());
        }
        let parts = self.bitcast(of_from).convert(of_to).shift_left(places);
        parts.reduce(ReduceOp::Or, [-1]).bitcast(to)
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
