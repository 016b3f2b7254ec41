//! Operands: promotion of their types and broadcasting of their shapes, as in `jax.numpy`; and lists of axes.

use std::ops;
use std::panic::Location;

use super::tensor::Tensor;
use super::trace::{poison, tracing};
use super::x64::{default_float, default_int};
use crate::array::check_available;
use crate::error::Error;
use crate::types::scalar::Scalar;
use crate::types::{Axes, DType, Kind, Shape, TensorType};

/// An operand: a tensor, or a weakly typed number, which takes the type of the other operand.
#[derive(Clone, Debug)]
pub enum Arg {
    /// A tensor.
    Tensor(Tensor),
    /// A weakly typed number; a float promotes an integer operand to f32.
    Weak(Scalar),
}

impl Arg {
    /// Converts to a tensor, given the other operand's `dtype`.
    pub(super) fn into_tensor(self, dtype: DType) -> Tensor {
        match self {
            Arg::Tensor(x) => x,
            // An integer out of range of the type wraps, as in JAX.
            Arg::Weak(value) => Tensor::literal(value, weak_dtype(dtype, value)),
        }
    }
}

/// A right-hand side of an operator: a tensor or a number.
pub trait Operand {
    /// Converts to an operand.
    fn operand(self) -> Arg;
}

impl Operand for Tensor {
    fn operand(self) -> Arg {
        Arg::Tensor(self)
    }
}

impl Operand for &Tensor {
    fn operand(self) -> Arg {
        Arg::Tensor(self.clone())
    }
}

macro_rules! weak {
    ($($t:ty),*) => { $(
        impl Operand for $t {
            fn operand(self) -> Arg {
                Arg::Weak(self.into())
            }
        }
    )* };
}
weak!(f32, f64, i32, u32, i64, u64, usize);

impl Operand for bool {
    fn operand(self) -> Arg {
        Arg::Tensor(Tensor::scalar(self))
    }
}

/// The type of a weakly typed number, given the other operand's `dtype`.
fn weak_dtype(dtype: DType, value: Scalar) -> DType {
    match (dtype.kind(), value) {
        (Kind::Bool, Scalar::Int(_)) => default_int(),
        (Kind::Bool | Kind::Int { .. }, Scalar::Float(_)) => default_float(),
        (Kind::Int { .. }, Scalar::Int(_)) | (Kind::Float(_), _) => dtype,
    }
}

/// The promoted type of two element types, as in JAX: bool < integers < floats. Two floats or two integers become the
/// narrowest type that represents both; u64 and a signed type the default float. Without [`x64`](super::x64()) nothing
/// becomes wider than both and than i32: u32 and i32 become i32.
pub(super) fn promoted_dtype(x: DType, y: DType) -> DType {
    match (x.kind(), y.kind()) {
        (Kind::Bool, _) | (Kind::Int { .. }, Kind::Float(_)) => y,
        (_, Kind::Bool) | (Kind::Float(_), Kind::Int { .. }) => x,
        (Kind::Float(_), Kind::Float(_)) => {
            let both = DType::ALL.into_iter().filter(|to| to.is_float() && to.represents(x) && to.represents(y));
            both.min_by_key(|to| to.size()).expect("f64 represents every float")
        }
        (Kind::Int { .. }, Kind::Int { .. }) => {
            let both = DType::ALL.into_iter().filter(|to| to.is_int() && to.represents(x) && to.represents(y));
            let Some(narrowest) = both.min_by_key(|to| to.size()) else { return default_float() };
            let most = x.size().max(y.size()).max(default_int().size());
            if narrowest.size() > most { default_int() } else { narrowest }
        }
    }
}

#[track_caller]
pub(super) fn promote_types(x: Arg, y: Arg) -> (Tensor, Tensor) {
    let (x, y) = match (x, y) {
        (Arg::Tensor(x), y) => {
            let y = y.into_tensor(x.dtype());
            (x, y)
        }
        (x, Arg::Tensor(y)) => (x.into_tensor(y.dtype()), y),
        (x, y) => {
            let float = [&x, &y].iter().any(|arg| matches!(arg, Arg::Weak(Scalar::Float(_))));
            let dtype = if float { default_float() } else { default_int() };
            (x.into_tensor(dtype), y.into_tensor(dtype))
        }
    };
    let dtype = promoted_dtype(x.dtype(), y.dtype());
    (x.convert(dtype), y.convert(dtype))
}

impl Tensor {
    /// Both tensors promoted to their common element type, as an operator or [`Tensor::matmul`] promotes its operands.
    #[track_caller]
    pub fn promoted(&self, other: &Tensor) -> (Tensor, Tensor) {
        promote_types(self.operand(), other.operand())
    }
}

/// Both operands promoted to their common type and broadcast to their common shape.
#[track_caller]
pub(super) fn promote(op: &str, x: Arg, y: Arg) -> (Tensor, Tensor) {
    let (x, y) = promote_types(x, y);
    match broadcast_shape(x.shape(), y.shape()) {
        Some(shape) if shape[..] == *x.shape() && shape[..] == *y.shape() => (x, y),
        Some(shape) => match fits(&TensorType::new(x.dtype(), &shape)) {
            Ok(()) => (x.broadcast_to(&shape), y.broadcast_to(&shape)),
            Err(why) => {
                let bad = reject(&[&x, &y], Error::op(op, why, Location::caller()));
                (bad.clone(), bad)
            }
        },
        None => {
            let bad = reject(&[&x, &y], mismatch(op, x.ty(), y.ty(), Location::caller()));
            (bad.clone(), bad)
        }
    }
}

/// Checks that a result of this type fits into memory. Called before the operands are broadcast, so that the error
/// names the operator.
fn fits(ty: &TensorType) -> Result<(), String> {
    ty.check_size()?;
    if tracing() {
        return Ok(());
    }
    check_available(ty.bytes(), || format!("the result, {ty}")).map_err(|e| e.message().into())
}

/// As [`promote`], with bool converted to the default integer.
#[track_caller]
pub(super) fn promote_numbers(op: &str, x: Arg, y: Arg) -> (Tensor, Tensor) {
    let (x, y) = promote(op, x, y);
    if x.dtype() == DType::Bool { (x.convert(default_int()), y.convert(default_int())) } else { (x, y) }
}

/// The poisoned result of an op that cannot be applied to `operands`. The error of a poisoned operand takes precedence.
pub(super) fn reject(operands: &[&Tensor], error: Error) -> Tensor {
    let first = operands.iter().find_map(|x| x.error()).cloned();
    poison(operands[0].ty().clone(), first.unwrap_or(error))
}

pub(super) fn mismatch(op: &str, x: &TensorType, y: &TensorType, location: &'static Location<'static>) -> Error {
    Error::op(op, format!("cannot broadcast {x} and {y} to one shape"), location)
}

/// The broadcast shape by NumPy's rules; `None` for incompatible shapes.
pub(super) fn broadcast_shape(x: &[usize], y: &[usize]) -> Option<Shape> {
    let rank = x.len().max(y.len());
    let extent = |s: &[usize], axis: usize| (axis + s.len()).checked_sub(rank).map_or(1, |a| s[a]);
    (0..rank)
        .map(|axis| match (extent(x, axis), extent(y, axis)) {
            (a, b) if a == b => Some(a),
            (1, b) => Some(b),
            (a, 1) => Some(a),
            _ => None,
        })
        .collect()
}

/// Normalises an axis: a negative one counts from the end.
pub(super) fn resolve(axis: isize, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as isize } else { axis };
    usize::try_from(axis).ok().filter(|&a| a < rank)
}

/// A set of axes: `..` for all, a number, or a list. Negative numbers count from the end.
pub trait IntoAxes {
    /// The axes in ascending order.
    ///
    /// # Errors
    /// For an axis that is out of range or repeated. The message is the predicate of a sentence: "has no axis 3".
    fn into_axes(self, rank: usize) -> Result<Axes, String>;
}

impl IntoAxes for ops::RangeFull {
    fn into_axes(self, rank: usize) -> Result<Axes, String> {
        Ok((0..rank).collect())
    }
}

impl IntoAxes for isize {
    fn into_axes(self, rank: usize) -> Result<Axes, String> {
        [self].into_axes(rank)
    }
}

impl IntoAxes for &[isize] {
    fn into_axes(self, rank: usize) -> Result<Axes, String> {
        let found = |&axis: &isize| resolve(axis, rank).ok_or_else(|| format!("has no axis {axis}"));
        let mut axes = self.iter().map(found).collect::<Result<Axes, String>>()?;
        axes.sort_unstable();
        match axes.windows(2).find(|w| w[0] == w[1]) {
            Some(twice) => Err(format!("has axis {} once, and it is named twice", twice[0])),
            None => Ok(axes),
        }
    }
}

impl<const N: usize> IntoAxes for [isize; N] {
    fn into_axes(self, rank: usize) -> Result<Axes, String> {
        self[..].into_axes(rank)
    }
}

impl IntoAxes for &Axes {
    fn into_axes(self, rank: usize) -> Result<Axes, String> {
        match self.iter().find(|&&axis| axis >= rank) {
            Some(axis) => Err(format!("has no axis {axis}")),
            None => Ok(self.clone()),
        }
    }
}
