//! `Tensor`: one type, inside a traced function a stand-in for a value of the program, outside of it an array.
//!
//! This file holds the type and the primitive ops as methods, with broadcasting and promotion of element types as in
//! `jax.numpy`; `functions` has what is composed of them. No method panics on a user's mistake or returns a `Result`:
//! the mistake poisons the result and is returned by the compiled function, or by whatever reads the data.

use std::fmt;
use std::ops;
use std::panic::Location;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::array::{Array, Element};
use crate::error::{Error, Result};
use crate::graph::{ArgOp, BinaryOp, CompareOp, DotAxes, Literal, Op, ReduceOp, UnaryOp, ValueId};
use crate::trace::{TraceId, apply, poison};
use crate::types::{Axes, DType, Shape, TensorType, join};

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

    /// The data.
    ///
    /// # Errors
    /// When the tensor stands for a value of a program being traced, or for an error.
    #[inline]
    pub fn array(&self) -> Result<&Array> {
        match &self.0 {
            Repr::Concrete(array) => Ok(array),
            Repr::Traced { .. } | Repr::Poisoned { .. } => Err(self.has_no_array()),
        }
    }

    #[cold]
    fn has_no_array(&self) -> Error {
        match &self.0 {
            Repr::Concrete(_) => unreachable!("it has one"),
            Repr::Traced { ty, .. } => Error::new(format!(
                "a traced {ty} has no data yet: return it from the compiled function, and read it there"
            )),
            Repr::Poisoned { error, .. } => (**error).clone(),
        }
    }

    /// The data, taken out. See [`Tensor::array`].
    pub fn into_array(self) -> Result<Array> {
        match self.0 {
            Repr::Concrete(array) => Ok(array),
            Repr::Traced { .. } | Repr::Poisoned { .. } => self.array().cloned(),
        }
    }

    /// The elements, row-major.
    ///
    /// # Errors
    /// As [`Tensor::array`], and when `T` is not the element type.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        Ok(self.array()?.as_slice::<T>()?.to_vec())
    }

    /// The only element of a tensor with one element.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`], and when there is not exactly one element.
    pub fn item<T: Element>(&self) -> Result<T> {
        match self.array()?.as_slice::<T>()? {
            [item] => Ok(*item),
            items => Err(Error::new(format!("item: {} has {} elements, not one", self.ty(), items.len()))),
        }
    }

    /// As `ndarray`, moved where possible; see [`Array::into_ndarray`].
    pub fn into_ndarray<T: Element>(self) -> Result<ndarray::ArrayD<T>> {
        self.into_array()?.into_ndarray()
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
        Tensor::full(self.shape(), 0.0, self.dtype())
    }

    /// Ones of this tensor's type.
    #[track_caller]
    pub fn ones_like(&self) -> Self {
        Tensor::full(self.shape(), 1.0, self.dtype())
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

    // ---- elementwise

    /// Applies a primitive of one operand.
    #[track_caller]
    pub fn unary(&self, op: UnaryOp) -> Self {
        apply(Op::Unary(op), &[self], Location::caller())
    }

    /// Applies a primitive of two operands after promotion and broadcasting.
    #[track_caller]
    pub fn binary(&self, op: BinaryOp, other: impl Operand) -> Self {
        let (x, y) = promote(op.name(), self.operand(), other.operand());
        apply(Op::Binary(op), &[&x, &y], Location::caller())
    }

    /// Applies a comparison after promotion and broadcasting; gives bool.
    #[track_caller]
    pub fn compare(&self, op: CompareOp, other: impl Operand) -> Self {
        let (x, y) = promote(op.name(), self.operand(), other.operand());
        apply(Op::Compare(op), &[&x, &y], Location::caller())
    }

    /// `self ? x : y`, elementwise, after promotion and broadcasting of all three; `self` is bool.
    #[track_caller]
    pub fn select(&self, x: impl Operand, y: impl Operand) -> Self {
        let (x, y) = promote("select", x.operand(), y.operand());
        let Some(shape) = broadcast_shape(self.shape(), x.shape()) else {
            let error = mismatch("select", self.ty(), x.ty(), Location::caller());
            return refuse(&[self, &x, &y], error);
        };
        let (pred, x, y) = (self.broadcast_to(&shape), x.broadcast_to(&shape), y.broadcast_to(&shape));
        apply(Op::Select, &[&pred, &x, &y], Location::caller())
    }

    /// Limits every element to `low..=high`.
    #[track_caller]
    pub fn clamp(&self, low: impl Operand, high: impl Operand) -> Self {
        self.maximum(low).minimum(high)
    }

    /// `x * x`.
    #[track_caller]
    pub fn square(&self) -> Self {
        self * self
    }

    /// `x^n` by repeated squaring.
    #[track_caller]
    pub fn powi(&self, n: i32) -> Self {
        if n < 0 {
            return self.powi(-n).recip();
        }
        let mut result: Option<Tensor> = None;
        let mut base = self.clone();
        let mut rest = n;
        while rest > 0 {
            if rest & 1 == 1 {
                result = Some(result.map_or_else(|| base.clone(), |r| &r * &base));
            }
            rest >>= 1;
            if rest > 0 {
                base = base.square();
            }
        }
        result.unwrap_or_else(|| self.ones_like())
    }

    /// `1 / x`.
    #[track_caller]
    pub fn recip(&self) -> Self {
        self.ones_like().binary(BinaryOp::Div, self)
    }

    // ---- shapes

    /// The same elements, row-major, as another shape.
    #[track_caller]
    pub fn reshape(&self, shape: &[usize]) -> Self {
        if shape == self.shape() {
            return self.clone();
        }
        apply(Op::Reshape(Shape::from_slice(shape)), &[self], Location::caller())
    }

    /// Axis `i` of the result is axis `perm[i]` of this.
    #[track_caller]
    pub fn transpose(&self, perm: &[usize]) -> Self {
        if perm.len() == self.rank() && perm.iter().enumerate().all(|(i, &axis)| i == axis) {
            return self.clone();
        }
        apply(Op::Transpose(Axes::from_slice(perm)), &[self], Location::caller())
    }

    /// The last two axes swapped.
    #[track_caller]
    pub fn t(&self) -> Self {
        let mut perm: Axes = (0..self.rank()).collect();
        if let [.., a, b] = &mut perm[..] {
            std::mem::swap(a, b);
        }
        self.transpose(&perm)
    }

    /// Axis `from` moved to place `to`.
    #[track_caller]
    pub fn move_axis(&self, from: usize, to: usize) -> Self {
        let mut perm: Axes = (0..self.rank()).filter(|&axis| axis != from).collect();
        if from >= self.rank() || to >= self.rank() {
            let why = format!("{} has no axis {}", self.ty(), from.max(to));
            return self.refuse("move_axis", why, Location::caller());
        }
        perm.insert(to, from);
        self.transpose(&perm)
    }

    /// Repeats along new and unit axes, as NumPy does: the shapes are aligned at their ends.
    #[track_caller]
    pub fn broadcast_to(&self, shape: &[usize]) -> Self {
        if shape == self.shape() {
            return self.clone();
        }
        let Some(offset) = shape.len().checked_sub(self.rank()) else {
            let why = format!("cannot broadcast {} to [{}]", self.ty(), join(shape, ","));
            return self.refuse("broadcast_to", why, Location::caller());
        };
        let dims: Axes = (offset..shape.len()).collect();
        self.broadcast_in_dim(shape, &dims)
    }

    /// Repeats along new and unit axes: axis `i` of this is axis `dims[i]` of the result.
    #[track_caller]
    pub fn broadcast_in_dim(&self, shape: &[usize], dims: &[usize]) -> Self {
        let op = Op::Broadcast { shape: Shape::from_slice(shape), dims: Axes::from_slice(dims) };
        apply(op, &[self], Location::caller())
    }

    /// A new axis of extent 1 at place `axis`; negative counts from the end of the result.
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

    /// Without the axis, whose extent is 1; negative counts from the end.
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

    /// Elements `start, start + stride, …` below `limit` of every axis.
    #[track_caller]
    pub fn slice(&self, start: &[usize], limit: &[usize], stride: &[usize]) -> Self {
        let op = Op::Slice { start: start.into(), limit: limit.into(), stride: stride.into() };
        apply(op, &[self], Location::caller())
    }

    /// The elements `range` of one axis; negative `axis` counts from the end.
    #[track_caller]
    pub fn slice_axis(&self, axis: isize, range: ops::Range<usize>) -> Self {
        match resolve(axis, self.rank()) {
            Some(axis) => {
                let mut start: Shape = SmallVec::from_elem(0, self.rank());
                let mut limit = self.ty().shape.clone();
                (start[axis], limit[axis]) = (range.start, range.end);
                self.slice(&start, &limit, &Shape::from_elem(1, self.rank()))
            }
            None => self.no_axis("slice_axis", axis, Location::caller()),
        }
    }

    /// Element `index` of the first axis, which vanishes.
    #[track_caller]
    pub fn index(&self, index: usize) -> Self {
        self.slice_axis(0, index..index + 1).squeeze(0)
    }

    /// Puts copies of the scalar `value` before, after and between the elements of each axis; see [`Op::Pad`].
    #[track_caller]
    pub fn pad(&self, value: impl Operand, low: &[isize], high: &[isize], interior: &[usize]) -> Self {
        let value = value.operand().into_tensor(self.dtype());
        let op = Op::Pad { low: low.into(), high: high.into(), interior: interior.into() };
        apply(op, &[self, &value], Location::caller())
    }

    /// One tensor after the other along `axis`; negative counts from the end.
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

    /// Tensors of one type along a new axis; negative counts from the end of the result.
    #[track_caller]
    pub fn stack(tensors: &[&Tensor], axis: isize) -> Self {
        let expanded: Vec<Tensor> = tensors.iter().map(|x| x.expand_dims(axis)).collect();
        let axis = if axis < 0 { axis + tensors.first().map_or(0, |x| x.rank() as isize + 1) } else { axis };
        Tensor::concat(&expanded.iter().collect::<Vec<_>>(), axis)
    }

    /// The axes reversed.
    #[track_caller]
    pub fn rev(&self, axes: &[usize]) -> Self {
        apply(Op::Rev(axes.into()), &[self], Location::caller())
    }

    // ---- reductions and contractions

    /// Reduces over axes, which vanish.
    #[track_caller]
    pub fn reduce(&self, op: ReduceOp, axes: impl IntoAxes) -> Self {
        let Some(axes) = axes.into_axes(self.rank()) else {
            let why = format!("{} has no such axis, or it is named twice", self.ty());
            return self.refuse(op.name(), why, Location::caller());
        };
        if axes.is_empty() {
            return self.clone();
        }
        apply(Op::Reduce(op, axes), &[self], Location::caller())
    }

    /// Reduces over axes, which stay with extent 1.
    #[track_caller]
    pub fn reduce_keep(&self, op: ReduceOp, axes: impl IntoAxes + Clone) -> Self {
        let result = self.reduce(op, axes.clone());
        let mut shape = self.ty().shape.clone();
        for axis in axes.into_axes(self.rank()).unwrap_or_default() {
            shape[axis] = 1;
        }
        result.reshape(&shape)
    }

    /// The position of the largest element along an axis, i32; negative counts from the end.
    #[track_caller]
    pub fn argmax(&self, axis: isize) -> Self {
        self.arg_reduce(ArgOp::Max, axis)
    }

    /// The position of the smallest element along an axis, i32; negative counts from the end.
    #[track_caller]
    pub fn argmin(&self, axis: isize) -> Self {
        self.arg_reduce(ArgOp::Min, axis)
    }

    #[track_caller]
    fn arg_reduce(&self, op: ArgOp, axis: isize) -> Self {
        match resolve(axis, self.rank()) {
            Some(axis) => apply(Op::ArgReduce(op, axis), &[self], Location::caller()),
            None => self.no_axis(op.name(), axis, Location::caller()),
        }
    }

    /// A contraction; see [`DotAxes`].
    #[track_caller]
    pub fn dot_general(&self, other: &Tensor, axes: DotAxes) -> Self {
        apply(Op::Dot(axes), &[self, other], Location::caller())
    }

    /// The matrix product as NumPy has it: the last axis of this with the last but one of `other` (its only one, if
    /// it has one); the axes before are batch axes and broadcast.
    #[track_caller]
    pub fn matmul(&self, other: &Tensor) -> Self {
        let (m, n) = (self.rank(), other.rank());
        if m == 0 || n == 0 {
            let why = format!("takes matrices or vectors, not {} and {}", self.ty(), other.ty());
            return refuse(&[self, other], Error::op("matmul", why, Location::caller()));
        }
        let (x, y) = promote_types(self.operand(), other.operand());
        let contract = (m - 1, n.saturating_sub(2));
        if m <= 2 && n <= 2 {
            return x.dot_general(&y, DotAxes { batch: SmallVec::new(), contract: SmallVec::from_slice(&[contract]) });
        }
        if n <= 2 {
            // A matrix for all batches: the batch axes of the left are more rows.
            return x.dot_general(&y, DotAxes { batch: SmallVec::new(), contract: SmallVec::from_slice(&[contract]) });
        }
        let left = &x.shape()[..m.saturating_sub(2)];
        let right = &y.shape()[..n - 2];
        let Some(batch) = broadcast_shape(left, right) else {
            let error = mismatch("matmul", x.ty(), y.ty(), Location::caller());
            return refuse(&[&x, &y], error);
        };
        let grow = |t: &Tensor, keep: usize| {
            let mut shape = batch.clone();
            shape.extend_from_slice(&t.shape()[t.rank() - keep..]);
            t.broadcast_to(&shape)
        };
        let rows = if m == 1 { 1 } else { 2 };
        let (x, y) = (grow(&x, rows), grow(&y, 2));
        let pairs = (0..batch.len()).map(|axis| (axis, axis)).collect();
        let axes = DotAxes { batch: pairs, contract: SmallVec::from_slice(&[(batch.len() + rows - 1, batch.len())]) };
        x.dot_general(&y, axes)
    }

    fn no_axis(&self, op: &str, axis: isize, location: &'static Location<'static>) -> Self {
        self.refuse(op, format!("{} has no axis {axis}", self.ty()), location)
    }

    fn refuse(&self, op: &str, why: String, location: &'static Location<'static>) -> Self {
        refuse(&[self], Error::op(op, why, location))
    }
}

macro_rules! unary_methods {
    ($($(#[$doc:meta])* $name:ident $op:ident;)*) => {
        impl Tensor { $($(#[$doc])* #[track_caller] pub fn $name(&self) -> Self { self.unary(UnaryOp::$op) })* }
    };
}
unary_methods! {
    /// `|x|`.
    abs Abs;
    /// -1, 0 or 1.
    sign Sign;
    /// Inverts bits, or truth values.
    logical_not Not;
    /// Rounds towards minus infinity.
    floor Floor;
    /// Rounds towards plus infinity.
    ceil Ceil;
    /// Rounds to nearest, ties to even.
    round Round;
    /// Is it neither infinite nor NaN?
    is_finite IsFinite;
    /// Natural exponential.
    exp Exp;
    /// Power of two.
    exp2 Exp2;
    /// `e^x - 1`.
    expm1 Expm1;
    /// Natural logarithm.
    log Log;
    /// `log(1 + x)`.
    log1p Log1p;
    /// Sine, radians.
    sin Sin;
    /// Cosine, radians.
    cos Cos;
    /// Tangent, radians.
    tan Tan;
    /// Inverse sine.
    asin Asin;
    /// Inverse cosine.
    acos Acos;
    /// Inverse tangent.
    atan Atan;
    /// Hyperbolic sine.
    sinh Sinh;
    /// Hyperbolic cosine.
    cosh Cosh;
    /// Hyperbolic tangent.
    tanh Tanh;
    /// Inverse hyperbolic sine.
    asinh Asinh;
    /// Inverse hyperbolic cosine.
    acosh Acosh;
    /// Inverse hyperbolic tangent.
    atanh Atanh;
    /// `1 / (1 + e^-x)`.
    sigmoid Sigmoid;
    /// `log(1 + e^x)`.
    softplus Softplus;
    /// Square root.
    sqrt Sqrt;
    /// `1 / sqrt(x)`.
    rsqrt Rsqrt;
    /// Cube root.
    cbrt Cbrt;
    /// The error function.
    erf Erf;
    /// `1 - erf(x)`.
    erfc Erfc;
    /// The inverse of the error function.
    erf_inv ErfInv;
}

macro_rules! binary_methods {
    ($kind:ident $op:ident: $($(#[$doc:meta])* $name:ident $variant:ident;)*) => {
        impl Tensor { $($(#[$doc])* #[track_caller] pub fn $name(&self, other: impl Operand) -> Self { self.$kind($op::$variant, other) })* }
    };
}
binary_methods! { binary BinaryOp:
    /// The larger, elementwise; NaN if either is.
    maximum Max;
    /// The smaller, elementwise; NaN if either is.
    minimum Min;
    /// `x^y`.
    pow Pow;
    /// The angle of the point `(other, self)`.
    atan2 Atan2;
    /// Bitwise (or logical) and.
    and And;
    /// Bitwise (or logical) or.
    or Or;
    /// Bitwise (or logical) exclusive or.
    xor Xor;
    /// `x << y`.
    shift_left Shl;
    /// Logical shift right.
    shift_right_logical Shr;
    /// Arithmetic shift right.
    shift_right_arithmetic Sar;
}
binary_methods! { compare CompareOp:
    /// `x == y`.
    equal Eq;
    /// `x != y`.
    not_equal Ne;
    /// `x < y`.
    less Lt;
    /// `x <= y`.
    less_equal Le;
    /// `x > y`.
    greater Gt;
    /// `x >= y`.
    greater_equal Ge;
}

macro_rules! reduce_methods {
    ($($(#[$doc:meta])* $all:ident $axes:ident $keep:ident $op:ident;)*) => {
        impl Tensor { $(
            $(#[$doc])* #[doc = "\n\nOf all elements."] #[track_caller]
            pub fn $all(&self) -> Self { self.reduce(ReduceOp::$op, ..) }
            $(#[$doc])* #[doc = "\n\nOver axes, which vanish."] #[track_caller]
            pub fn $axes(&self, axes: impl IntoAxes) -> Self { self.reduce(ReduceOp::$op, axes) }
            $(#[$doc])* #[doc = "\n\nOver axes, which stay with extent 1."] #[track_caller]
            pub fn $keep(&self, axes: impl IntoAxes + Clone) -> Self { self.reduce_keep(ReduceOp::$op, axes) }
        )* }
    };
}
reduce_methods! {
    /// The sum.
    sum sum_axes sum_keep Sum;
    /// The product.
    prod prod_axes prod_keep Prod;
    /// The largest; NaN if any is.
    max max_axes max_keep Max;
    /// The smallest; NaN if any is.
    min min_axes min_keep Min;
    /// Are all true?
    all all_axes all_keep And;
    /// Is any true?
    any any_axes any_keep Or;
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
        Array::from(array).into()
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

// ---- operands, promotion, broadcasting

/// An operand as it was written: a tensor, or a number that takes on the type of what it meets.
#[derive(Clone, Debug)]
pub enum Arg {
    /// A tensor.
    Tensor(Tensor),
    /// A number without a fixed type; a float makes integers it meets f32.
    Weak {
        /// Its value.
        value: f64,
        /// Was it written as a float?
        float: bool,
    },
}

impl Arg {
    /// As a tensor, in the company of `dtype`.
    fn into_tensor(self, dtype: DType) -> Tensor {
        match self {
            Arg::Tensor(x) => x,
            Arg::Weak { value, float } => Tensor::literal(value, weak_dtype(dtype, float)),
        }
    }
}

/// What may stand on the right of an operator: tensors and numbers.
pub trait Operand {
    /// As an operand.
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
    ($($t:ty: $float:literal),*) => { $(
        impl Operand for $t {
            fn operand(self) -> Arg {
                Arg::Weak { value: self as f64, float: $float }
            }
        }
    )* };
}
weak!(f32: true, f64: true, i32: false, u32: false, usize: false);

impl Operand for bool {
    fn operand(self) -> Arg {
        Arg::Tensor(Tensor::scalar(self))
    }
}

/// The type that a number gets in the company of `dtype`.
fn weak_dtype(dtype: DType, float: bool) -> DType {
    match (dtype, float) {
        (DType::Bool, false) => DType::I32,
        (DType::Bool | DType::I32 | DType::U32, true) => DType::F32,
        (other, _) => other,
    }
}

/// The type of the result of an op on these two: bool < u32, i32 < f32 < f64; u32 with i32 is i32 (JAX without x64).
fn promoted_dtype(x: DType, y: DType) -> DType {
    use DType::{Bool, F32, F64, I32, U32};
    match (x, y) {
        (F64, _) | (_, F64) => F64,
        (F32, _) | (_, F32) => F32,
        (I32, _) | (_, I32) => I32,
        (U32, _) | (_, U32) => U32,
        (Bool, Bool) => Bool,
    }
}

#[track_caller]
fn promote_types(x: Arg, y: Arg) -> (Tensor, Tensor) {
    let (x, y) = match (x, y) {
        (Arg::Tensor(x), y) => {
            let y = y.into_tensor(x.dtype());
            (x, y)
        }
        (x, Arg::Tensor(y)) => (x.into_tensor(y.dtype()), y),
        (x, y) => {
            let float = matches!(x, Arg::Weak { float: true, .. }) || matches!(y, Arg::Weak { float: true, .. });
            let dtype = if float { DType::F32 } else { DType::I32 };
            (x.into_tensor(dtype), y.into_tensor(dtype))
        }
    };
    let dtype = promoted_dtype(x.dtype(), y.dtype());
    (x.convert(dtype), y.convert(dtype))
}

/// Both operands at their common type and shape.
#[track_caller]
fn promote(op: &str, x: Arg, y: Arg) -> (Tensor, Tensor) {
    let (x, y) = promote_types(x, y);
    match broadcast_shape(x.shape(), y.shape()) {
        Some(shape) => (x.broadcast_to(&shape), y.broadcast_to(&shape)),
        None => {
            let bad = refuse(&[&x, &y], mismatch(op, x.ty(), y.ty(), Location::caller()));
            (bad.clone(), bad)
        }
    }
}

/// In place of the result of an op that cannot be applied to `operands`. If one of them already stands for an error,
/// that is passed on: it came first.
fn refuse(operands: &[&Tensor], error: Error) -> Tensor {
    let first = operands.iter().find_map(|x| x.error()).cloned();
    poison(operands[0].ty().clone(), first.unwrap_or(error))
}

fn mismatch(op: &str, x: &TensorType, y: &TensorType, location: &'static Location<'static>) -> Error {
    Error::op(op, format!("cannot broadcast {x} and {y} to one shape"), location)
}

/// The shape that both broadcast to, as NumPy has it; `None` when there is none.
pub fn broadcast_shape(x: &[usize], y: &[usize]) -> Option<Shape> {
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

/// The axis that a possibly negative number means.
fn resolve(axis: isize, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as isize } else { axis };
    usize::try_from(axis).ok().filter(|&a| a < rank)
}

/// A choice of axes: `..` for all, a number, or a list; negative numbers count from the end.
pub trait IntoAxes {
    /// The axes, ascending; `None` where one does not exist or is named twice.
    fn into_axes(self, rank: usize) -> Option<Axes>;
}

impl IntoAxes for ops::RangeFull {
    fn into_axes(self, rank: usize) -> Option<Axes> {
        Some((0..rank).collect())
    }
}

impl IntoAxes for isize {
    fn into_axes(self, rank: usize) -> Option<Axes> {
        [self].into_axes(rank)
    }
}

impl IntoAxes for &[isize] {
    fn into_axes(self, rank: usize) -> Option<Axes> {
        let mut axes = self.iter().map(|&axis| resolve(axis, rank)).collect::<Option<Axes>>()?;
        axes.sort_unstable();
        axes.windows(2).all(|w| w[0] < w[1]).then_some(axes)
    }
}

impl<const N: usize> IntoAxes for [isize; N] {
    fn into_axes(self, rank: usize) -> Option<Axes> {
        self[..].into_axes(rank)
    }
}

impl IntoAxes for &Axes {
    fn into_axes(self, rank: usize) -> Option<Axes> {
        self.iter().all(|&axis| axis < rank).then(|| self.clone())
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $op:ident),*) => { $(
        impl<R: Operand> ops::$trait<R> for &Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: R) -> Tensor {
                self.binary(BinaryOp::$op, other)
            }
        }
        impl<R: Operand> ops::$trait<R> for Tensor {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: R) -> Tensor {
                (&self).binary(BinaryOp::$op, other)
            }
        }
        // Not for f32: with two kinds of float, `1.0 - &x` would be ambiguous.
        operators!(@left $trait $method $op f64 i32);
    )* };
    (@left $trait:ident $method:ident $op:ident $($t:ty)*) => { $(
        impl ops::$trait<&Tensor> for $t {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: &Tensor) -> Tensor {
                let (x, y) = promote(BinaryOp::$op.name(), self.operand(), other.operand());
                apply(Op::Binary(BinaryOp::$op), &[&x, &y], Location::caller())
            }
        }
        impl ops::$trait<Tensor> for $t {
            type Output = Tensor;
            #[track_caller]
            fn $method(self, other: Tensor) -> Tensor {
                ops::$trait::$method(self, &other)
            }
        }
    )* };
}
operators!(Add add Add, Sub sub Sub, Mul mul Mul, Div div Div, Rem rem Rem);

impl ops::Neg for &Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        self.unary(UnaryOp::Neg)
    }
}

impl ops::Neg for Tensor {
    type Output = Tensor;
    #[track_caller]
    fn neg(self) -> Tensor {
        self.unary(UnaryOp::Neg)
    }
}
