//! `Tensor`: one type, inside a traced function a stand-in for a value of the program, outside of it an array.
//!
//! This file holds the type, what goes in and out of it, and how it is made. The primitive ops are methods: `elementwise`,
//! `shapes` and `reductions`, with broadcasting and promotion of element types as in `jax.numpy` (`operand`);
//! `functions` has what is composed of them. No method panics on a user's mistake or returns a
//! `Result`: the mistake poisons the result and is returned by the compiled function, or by whatever reads the data.

mod elementwise;
mod operand;
mod reductions;
mod shapes;

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

pub use operand::{IntoAxes, Operand};

use crate::array::{Array, Element, copied};
use crate::error::{Error, Result};
use crate::graph::{Literal, Op, ValueId};
use crate::trace::{ENDED, TraceId, apply, goes_on, keep, poison};
use crate::types::{DType, Shape, TensorType};
use operand::refuse;

/// A tensor: traced or concrete. Cloning is cheap, the data is shared.
#[derive(Clone)]
pub struct Tensor(Repr);

/// What stands behind a tensor.
#[derive(Clone)]
pub(crate) enum Repr {
    /// An array.
    Concrete(Array),
    /// A value of a program being traced.
    Traced { trace: TraceId, value: ValueId, ty: Arc<TensorType> },
    /// What an error left; `ty` is the best guess.
    Poisoned { ty: Arc<TensorType>, error: Arc<Error> },
}

impl Tensor {
    pub(crate) fn traced(trace: TraceId, value: ValueId, ty: TensorType) -> Self {
        Tensor(Repr::Traced { trace, value, ty: ty.into() })
    }

    pub(crate) fn poisoned(ty: TensorType, error: Error) -> Self {
        Tensor(Repr::Poisoned { ty: ty.into(), error: Arc::new(error) })
    }

    pub(crate) fn repr(&self) -> &Repr {
        &self.0
    }

    /// The error that this tensor stands for, if it does.
    pub fn error(&self) -> Option<&Error> {
        match &self.0 {
            Repr::Poisoned { error, .. } => Some(error),
            Repr::Concrete(_) | Repr::Traced { .. } => None,
        }
    }

    /// A tensor in place of a result that could not be had: it poisons what is made of it, and the compiled function
    /// (or whoever reads the data) returns `error`. `ty` is the best guess of the result's type.
    pub fn failed(ty: TensorType, error: Error) -> Self {
        poison(ty, error)
    }

    // ---- what it is

    /// Element type and shape.
    #[inline]
    pub fn ty(&self) -> &TensorType {
        match &self.0 {
            Repr::Concrete(array) => array.ty(),
            Repr::Traced { ty, .. } | Repr::Poisoned { ty, .. } => ty,
        }
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.ty().dtype
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        &self.ty().shape
    }

    /// How many axes.
    pub fn rank(&self) -> usize {
        self.ty().rank()
    }

    /// How many elements.
    pub fn elements(&self) -> usize {
        self.ty().elements()
    }

    // ---- data in and out

    /// A scalar.
    pub fn scalar<T: Element>(value: T) -> Self {
        Array::scalar(value).into()
    }

    /// A tensor of `shape` with these elements, row-major; takes over the vector's memory.
    ///
    /// # Errors
    /// When the number of elements is not the shape's.
    pub fn from_vec<T: Element>(shape: &[usize], data: Vec<T>) -> Result<Self> {
        Array::from_vec(shape, data).map(Tensor::from)
    }

    /// The data, if it is there; `None` for a value of a program being traced, and for an error. To ask is no mistake,
    /// as it is with [`Tensor::array`].
    #[inline]
    pub fn concrete(&self) -> Option<&Array> {
        match &self.0 {
            Repr::Concrete(array) => Some(array),
            Repr::Traced { .. } | Repr::Poisoned { .. } => None,
        }
    }

    /// The data.
    ///
    /// # Errors
    /// When the tensor stands for an error, or for a value of a program being traced: there is nothing to read yet, and
    /// what the function would do next with the refusal must not become part of the program. So the trace keeps it, and
    /// the call of the traced function returns it.
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
            Repr::Traced { .. } | Repr::Poisoned { .. } => Err(self.refuse_to_read(how, Location::caller())),
        }
    }

    #[cold]
    fn refuse_to_read(&self, how: &str, location: &'static Location<'static>) -> Error {
        let error = match &self.0 {
            Repr::Poisoned { error, .. } => (**error).clone(),
            Repr::Concrete(_) | Repr::Traced { .. } => Error::op(how, self.no_data(), location),
        };
        keep(&error);
        error
    }

    /// Why [`Tensor::concrete`] gives nothing.
    #[cold]
    pub fn no_data(&self) -> Error {
        match &self.0 {
            Repr::Poisoned { error, .. } => (**error).clone(),
            Repr::Traced { trace, .. } if !goes_on(*trace) => Error::new(ENDED),
            Repr::Traced { ty, .. } => Error::new(format!(
                "a traced {ty} has no data yet: return it from the compiled function, and read it there; to choose by \
                 its value inside, use `select`"
            )),
            Repr::Concrete(array) => Error::new(format!("{} has data", array.ty())),
        }
    }

    /// The data, taken out. See [`Tensor::array`].
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
    /// As [`Tensor::array`], when `T` is not the element type, and when there is no memory for the copy.
    #[track_caller]
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        copied(self.read("to_vec")?.as_slice::<T>()?, || format!("a copy of {}", self.ty()))
            .map_err(|e| e.context("to_vec"))
    }

    /// The only element of a tensor with one element.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`], and when there is not exactly one element.
    #[track_caller]
    pub fn item<T: Element>(&self) -> Result<T> {
        match self.read("item")?.as_slice::<T>()? {
            [item] => Ok(*item),
            items => Err(Error::new(format!("item: {} has {} elements, not one", self.ty(), items.len()))),
        }
    }

    /// As `ndarray`, moved where possible; see [`Array::into_ndarray`].
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    #[track_caller]
    pub fn into_ndarray<T: Element>(self) -> Result<ndarray::ArrayD<T>> {
        match self.0 {
            Repr::Concrete(array) => array.into_ndarray(),
            Repr::Traced { .. } | Repr::Poisoned { .. } => self.read("into_ndarray")?.clone().into_ndarray(),
        }
    }

    // ---- creation

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

    fn no_axis(&self, op: &str, axis: isize, location: &'static Location<'static>) -> Self {
        self.refuse(op, format!("{} has no axis {axis}", self.ty()), location)
    }

    fn refuse(&self, op: &str, why: String, location: &'static Location<'static>) -> Self {
        refuse(&[self], Error::op(op, why, location))
    }
}

impl From<Array> for Tensor {
    #[inline]
    fn from(array: Array) -> Self {
        Tensor(Repr::Concrete(array))
    }
}

impl<T: Element, D: ndarray::Dimension> From<ndarray::Array<T, D>> for Tensor {
    /// Takes over the memory of a row-major array.
    fn from(array: ndarray::Array<T, D>) -> Self {
        let ty = TensorType::new(T::DTYPE, array.shape());
        Array::from_ndarray(array).map_or_else(|error| Tensor::failed(ty, error), Tensor::from)
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Concrete(array) => write!(f, "{array}"),
            Repr::Traced { value, ty, .. } => write!(f, "traced {value}: {ty}"),
            Repr::Poisoned { error, .. } => write!(f, "error: {error}"),
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
