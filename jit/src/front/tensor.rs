//! `Tensor`: one type, inside of a traced function a tracer, which stands for a value of the program; outside of it an array.
//!
//! This file holds the type alone. No op panics on a user's mistake or returns a `Result`: the mistake poisons the result
//! and is returned by the compiled function, or by whatever reads the data.

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

/// A tensor: traced or concrete. Cloning is cheap, the data is shared.
#[derive(Clone)]
pub struct Tensor(pub(super) Repr);

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

    #[inline]
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

    /// The data, if it is there; `None` for a value of a program being traced, and for an error. To ask is no mistake,
    /// as it is with [`Tensor::array`].
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
