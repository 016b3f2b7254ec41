//! `Tensor`: a tracer inside a traced function, which stands for a value of the program; an array outside of one.
//!
//! This file defines the type only. An op neither panics on a user's error nor returns a `Result`: its result is
//! poisoned, and the compiled function, or the method that reads the data, returns the error.

use std::fmt;
use std::sync::Arc;

use crate::array::Array;
use crate::error::Error;
use crate::graph::ValueId;
use crate::types::{DType, TensorType};

/// Which trace a tensor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TraceId(u64);

impl TraceId {
    pub(super) fn new(number: u64) -> Self {
        TraceId(number)
    }
}

/// A tensor, traced or concrete. Clones share the data.
#[derive(Clone)]
pub struct Tensor(pub(super) Repr);

/// The representation of a tensor.
#[derive(Clone)]
pub(crate) enum Repr {
    /// An array.
    Concrete(Array),
    /// A value of a program being traced.
    Traced { trace: TraceId, value: ValueId, ty: Arc<TensorType> },
    /// The result of a failed op; `ty` is inferred as far as possible.
    Poisoned { ty: Arc<TensorType>, error: Arc<Error> },
}

impl Tensor {
    pub(crate) fn traced(trace: TraceId, value: ValueId, ty: TensorType) -> Self {
        Tensor(Repr::Traced { trace, value, ty: ty.into() })
    }

    pub(crate) fn poisoned(ty: TensorType, error: Error) -> Self {
        Tensor(Repr::Poisoned { ty: ty.into(), error: Arc::new(error) })
    }

    #[inline]
    pub(crate) fn repr(&self) -> &Repr {
        &self.0
    }

    /// The error of a poisoned tensor.
    pub fn error(&self) -> Option<&Error> {
        match &self.0 {
            Repr::Poisoned { error, .. } => Some(error),
            Repr::Concrete(_) | Repr::Traced { .. } => None,
        }
    }

    // ---- type

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

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.ty().rank()
    }

    /// Alias of [`Tensor::rank`], the name in `jax.numpy`.
    pub fn ndim(&self) -> usize {
        self.rank()
    }

    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.ty().elements()
    }

    /// Alias of [`Tensor::elements`], the name in `jax.numpy`.
    pub fn size(&self) -> usize {
        self.elements()
    }

    /// The data; `None` for a traced or poisoned tensor. Unlike [`Tensor::array`], this records no error.
    #[inline]
    pub fn concrete(&self) -> Option<&Array> {
        match &self.0 {
            Repr::Concrete(array) => Some(array),
            Repr::Traced { .. } | Repr::Poisoned { .. } => None,
        }
    }
}

impl From<Array> for Tensor {
    #[inline]
    fn from(array: Array) -> Self {
        Tensor(Repr::Concrete(array))
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
