//! Conversion of tensors from and to host data.

use std::panic::Location;

use super::tensor::{Repr, Tensor};
use super::trace::{poison, record_error};
use crate::array::{Array, Element, copied};
use crate::error::{Error, Result};
use crate::types::TensorType;

impl Tensor {
    /// A scalar.
    pub fn scalar<T: Element>(value: T) -> Self {
        Array::scalar(value).into()
    }

    /// A tensor of `shape` from row-major elements. Takes over the vector's memory.
    ///
    /// # Errors
    /// If the number of elements does not match the shape.
    pub fn from_vec<T: Element>(shape: &[usize], data: Vec<T>) -> Result<Self> {
        Array::from_vec(shape, data).map(Tensor::from)
    }

    /// The data.
    ///
    /// # Errors
    /// If the tensor is poisoned or traced. A tracer has no data, and what the function computes from the `Err` must
    /// not become part of the program: the trace records the error, and the call of the traced function returns it.
    #[inline]
    #[track_caller]
    pub fn array(&self) -> Result<&Array> {
        self.read("array")
    }

    #[inline]
    #[track_caller]
    fn read(&self, how: &str) -> Result<&Array> {
        match &self.0 {
            Repr::Concrete(array) => Ok(array),
            Repr::Traced { .. } | Repr::Poisoned { .. } => Err(self.unreadable(how, Location::caller())),
        }
    }

    /// The data, on the host.
    #[track_caller]
    fn read_bytes(&self, how: &str) -> Result<&Array> {
        let array = self.read(how)?;
        // What a traced function computes from a device's failure must not become part of the program either.
        array.bytes().inspect_err(record_error)?;
        Ok(array)
    }

    #[cold]
    fn unreadable(&self, how: &str, location: &'static Location<'static>) -> Error {
        let error = match &self.0 {
            Repr::Poisoned { error, .. } => (**error).clone(),
            Repr::Concrete(_) | Repr::Traced { .. } => Error::op(how, self.no_data(), location),
        };
        record_error(&error);
        error
    }

    /// Consumes the tensor and returns its data; see [`Tensor::array`].
    ///
    /// # Errors
    /// As [`Tensor::array`].
    #[track_caller]
    pub fn into_array(self) -> Result<Array> {
        match self.0 {
            Repr::Concrete(array) => Ok(array),
            Repr::Traced { .. } | Repr::Poisoned { .. } => self.read("into_array").cloned(),
        }
    }

    /// The elements, row-major.
    ///
    /// # Errors
    /// As [`Tensor::array`]; if `T` is not the element type; if memory for the copy cannot be allocated; if the data is
    /// on a device that fails.
    #[track_caller]
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        copied(self.read_bytes("to_vec")?.as_slice::<T>()?, || format!("a copy of {}", self.ty()))
            .map_err(|e| e.context("to_vec"))
    }

    /// The only element of a tensor with one element.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`], and if there is not exactly one element.
    #[track_caller]
    pub fn item<T: Element>(&self) -> Result<T> {
        match self.read_bytes("item")?.as_slice::<T>()? {
            [item] => Ok(*item),
            items => Err(Error::new(format!("item: {} has {} elements, not one", self.ty(), items.len()))),
        }
    }

    /// Converts to an `ndarray`, without a copy if possible; see [`Array::into_ndarray`].
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    #[track_caller]
    pub fn into_ndarray<T: Element>(self) -> Result<ndarray::ArrayD<T>> {
        self.read_bytes("into_ndarray")?;
        match self.0 {
            Repr::Concrete(array) => array.into_ndarray(),
            Repr::Traced { .. } | Repr::Poisoned { .. } => self.read("into_ndarray")?.clone().into_ndarray(),
        }
    }

    /// A poisoned tensor, as the result of a failed op. Every result computed from it is poisoned; the compiled
    /// function, or the method that reads the data, returns `error`. `ty` is the type that the result would have had.
    pub fn failed(ty: TensorType, error: Error) -> Self {
        poison(ty, error)
    }
}

impl<T: Element, D: ndarray::Dimension> From<ndarray::Array<T, D>> for Tensor {
    /// Takes over the memory of a row-major array.
    fn from(array: ndarray::Array<T, D>) -> Self {
        let ty = TensorType::new(T::DTYPE, array.shape());
        Array::from_ndarray(array).map_or_else(|error| Tensor::failed(ty, error), Tensor::from)
    }
}
