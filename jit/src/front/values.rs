//! Elementwise functions, comparisons and statistics of `jax.numpy` that are a few ops each.
//!
//! Tensors come in, and go out with `jax.numpy`'s types: floats for means, f32 for functions of integers.

use super::operand::{IntoAxes, Operand};
use super::tensor::Tensor;
use crate::graph::ReduceOp;
use crate::types::DType;

impl Tensor {
    /// Whether an element is NaN.
    #[track_caller]
    pub fn isnan(&self) -> Self {
        self.not_equal(self)
    }

    /// Whether an element is infinite.
    #[track_caller]
    pub fn isinf(&self) -> Self {
        if self.dtype().is_float() { self.abs().equal(f64::INFINITY) } else { self.not_equal(self) }
    }

    /// Whether an element is neither infinite nor NaN; true for all integers and bools. [`Tensor::is_finite`] is the op
    /// of floats.
    #[track_caller]
    pub fn isfinite(&self) -> Self {
        if self.dtype().is_float() { self.is_finite() } else { self.equal(self) }
    }

    /// Whether an element is ∞.
    #[track_caller]
    pub fn isposinf(&self) -> Self {
        if self.dtype().is_float() { self.equal(f64::INFINITY) } else { self.not_equal(self) }
    }

    /// Whether an element is -∞.
    #[track_caller]
    pub fn isneginf(&self) -> Self {
        if self.dtype().is_float() { self.equal(f64::NEG_INFINITY) } else { self.not_equal(self) }
    }

    /// NaN becomes 0, and infinities the greatest and the least number of the type: `jax.numpy.nan_to_num`. Where an
    /// element is replaced, its derivative is 0.
    #[track_caller]
    pub fn nan_to_num(&self) -> Self {
        let Some(format) = self.dtype().float() else { return self.clone() };
        let greatest = format.greatest();
        let number = self.isnan().select(0.0, self);
        let number = number.equal(f64::INFINITY).select(greatest, &number);
        number.equal(f64::NEG_INFINITY).select(-greatest, &number)
    }

    /// Whether elements are equal within `atol + rtol |other|`. Infinities of one sign are equal, NaN is not. The
    /// defaults of `jax.numpy.isclose` are `rtol = 1e-5` and `atol = 1e-8`.
    ///
    /// ```
    /// # fulgurite_jit::trace::trace(&[], |_| {
    /// # use fulgurite_jit::Tensor;
    /// let x = Tensor::ones(&[3]);
    /// let same = x.isclose(&x + 1e-7, 1e-5, 1e-8); // true everywhere
    /// # vec![same]
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn isclose(&self, other: impl Operand, rtol: f64, atol: f64) -> Self {
        let x = self.clone();
        let y = other.operand().into_tensor(x.dtype());
        let (x, y) = x.promoted(&y);
        if !x.dtype().is_float() {
            let (x, y) = (x.convert(DType::F64), y.convert(DType::F64));
            return (&x - &y).abs().less_equal(y.abs() * rtol + atol);
        }
        let near = (&x - &y).abs().less_equal(y.abs() * rtol + atol);
        x.isfinite().and(y.isfinite()).select(near, x.equal(&y))
    }

    /// Whether all elements are [`Tensor::isclose`], a scalar.
    #[track_caller]
    pub fn allclose(&self, other: impl Operand, rtol: f64, atol: f64) -> Self {
        self.isclose(other, rtol, atol).all()
    }

    /// Whether the shapes and all elements are equal, a scalar.
    #[track_caller]
    pub fn array_equal(&self, other: &Tensor) -> Self {
        match self.error().or(other.error()) {
            None if self.shape() != other.shape() => Tensor::full(&[], 0, DType::Bool),
            _ => self.equal(other).all(),
        }
    }

    /// Whether both are true; numbers are true where they are not 0.
    #[track_caller]
    pub fn logical_and(&self, other: &Tensor) -> Self {
        self.truth().and(other.truth())
    }

    /// Whether one or both are true; numbers are true where they are not 0.
    #[track_caller]
    pub fn logical_or(&self, other: &Tensor) -> Self {
        self.truth().or(other.truth())
    }

    /// Whether exactly one is true; numbers are true where they are not 0.
    #[track_caller]
    pub fn logical_xor(&self, other: &Tensor) -> Self {
        self.truth().xor(other.truth())
    }

    fn truth(&self) -> Self {
        if self.dtype() == DType::Bool { self.clone() } else { self.not_equal(0) }
    }

    /// Rounds to so many decimals, halves to even; a negative number of decimals rounds to tens and so on. The
    /// derivative is 0.
    #[track_caller]
    pub fn round_to(&self, decimals: i32) -> Self {
        if !self.dtype().is_float() {
            return self.clone();
        }
        if decimals == 0 {
            return self.round();
        }
        let factor = 10f64.powi(decimals);
        ((self * factor).round() / factor).stop_gradient()
    }

    /// Rounds to the nearest integer, halves away from 0: `jax.lax.round` with `AWAY_FROM_ZERO`. [`Tensor::round`]
    /// rounds them to even numbers.
    #[track_caller]
    pub fn round_away_from_zero(&self) -> Self {
        if !self.dtype().is_float() {
            return self.clone();
        }
        // Where a half was rounded to even, towards zero, the next number is meant. Both differences are exact.
        let even = self.round();
        let rest = self - &even;
        let up = rest.equal(0.5).and(self.greater(0.0));
        let down = rest.equal(-0.5).and(self.less(0.0));
        up.select(&even + 1.0, down.select(&even - 1.0, &even))
    }

    /// Rounds towards 0.
    #[track_caller]
    pub fn trunc(&self) -> Self {
        if !self.dtype().is_float() {
            return self.clone();
        }
        self.less(0.0).select(self.ceil(), self.floor())
    }

    /// Logarithm to base 2, as `jax.numpy.log2`: `log(x) / log(2)`.
    #[track_caller]
    pub fn log2(&self) -> Self {
        self.inexact().log() / std::f64::consts::LN_2
    }

    /// Logarithm to base 10, as `jax.numpy.log10`: `log(x) / log(10)`.
    #[track_caller]
    pub fn log10(&self) -> Self {
        self.inexact().log() / std::f64::consts::LN_10
    }

    /// Degrees as radians.
    #[track_caller]
    pub fn deg2rad(&self) -> Self {
        self.inexact() * (std::f64::consts::PI / 180.0)
    }

    /// Radians as degrees.
    #[track_caller]
    pub fn rad2deg(&self) -> Self {
        self.inexact() * (180.0 / std::f64::consts::PI)
    }

    /// `x^y` of floats: integers are converted to f32. See [`Tensor::pow`] for derivatives.
    #[track_caller]
    pub fn float_power(&self, other: impl Operand) -> Self {
        let x = self.inexact();
        let y = other.operand().into_tensor(x.dtype()).inexact();
        x.pow(y)
    }

    /// A tensor of this one's type and shape, filled with `value`.
    #[track_caller]
    pub fn full_like(&self, value: impl Into<crate::types::scalar::Scalar>) -> Self {
        if self.error().is_some() { self.clone() } else { Tensor::full(self.shape(), value, self.dtype()) }
    }

    // ---- statistics

    /// The maximum less the minimum over `axes`, which are removed.
    #[track_caller]
    pub fn ptp(&self, axes: impl IntoAxes + Clone) -> Self {
        self.max_axes(axes.clone()) - self.min_axes(axes)
    }

    /// The population standard deviation over all axes.
    #[track_caller]
    pub fn std(&self) -> Self {
        self.std_axes(..)
    }

    /// The population standard deviation over `axes`, which stay with extent 1 (`keepdims=True`).
    #[track_caller]
    pub fn std_keep(&self, axes: impl IntoAxes + Clone) -> Self {
        self.var_keep(axes).sqrt()
    }

    /// The variance over `axes`, which are removed: the squared errors over their number less `ddof`, which is 1 for
    /// the unbiased estimate. NaN where that is not positive.
    #[track_caller]
    pub fn var_ddof(&self, axes: impl IntoAxes + Clone, ddof: usize) -> Self {
        let sum = (self.inexact() - self.mean_keep(axes.clone())).square().sum_axes(axes);
        let count = self.elements() / sum.elements().max(1);
        if count > ddof { sum / (count - ddof) as f64 } else { &sum * f64::NAN }
    }

    /// The square root of [`Tensor::var_ddof`].
    #[track_caller]
    pub fn std_ddof(&self, axes: impl IntoAxes + Clone, ddof: usize) -> Self {
        self.var_ddof(axes, ddof).sqrt()
    }

    /// The mean over `axes`, which are removed, with weights that broadcast to this tensor: `jax.numpy.average`.
    #[track_caller]
    pub fn average(&self, weights: &Tensor, axes: impl IntoAxes + Clone) -> Self {
        let (x, weights) = self.inexact().promoted(&weights.inexact());
        let weights = weights.broadcast_to(x.shape());
        (&x * &weights).sum_axes(axes.clone()) / weights.sum_axes(axes)
    }

    /// A reduction over `axes`, which are removed, of the elements where `mask` is true and of `initial`: the arguments
    /// `where` and `initial` of `jax.numpy`'s reductions. Hidden elements have no derivative.
    ///
    /// ```
    /// # fulgurite_jit::trace::trace(&[], |_| {
    /// # use fulgurite_jit::{Tensor, graph::ReduceOp};
    /// let x = Tensor::ones(&[2, 3]);
    /// let least = x.reduce_where(ReduceOp::Min, 1, &x.greater(0.5), 9.0);
    /// # vec![least]
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn reduce_where(&self, op: ReduceOp, axes: impl IntoAxes, mask: &Tensor, initial: impl Operand) -> Self {
        let neutral = neutral(op, self.dtype());
        let reduced = mask.select(self, neutral).reduce(op, axes);
        let initial = initial.operand().into_tensor(reduced.dtype());
        match op {
            ReduceOp::Sum => reduced + initial,
            ReduceOp::Prod => reduced * initial,
            ReduceOp::Max => reduced.maximum(initial),
            ReduceOp::Min => reduced.minimum(initial),
            ReduceOp::And => reduced.and(initial.truth()),
            ReduceOp::Or => reduced.or(initial.truth()),
        }
    }

    /// The sum over `axes`, which are removed, of the elements where `mask` is true.
    #[track_caller]
    pub fn sum_where(&self, axes: impl IntoAxes, mask: &Tensor) -> Self {
        mask.select(self, self.zeros_like()).sum_axes(axes)
    }

    /// The mean over `axes`, which are removed, of the elements where `mask` is true; NaN where it is nowhere.
    #[track_caller]
    pub fn mean_where(&self, axes: impl IntoAxes + Clone, mask: &Tensor) -> Self {
        let x = self.inexact();
        let sum = x.sum_where(axes.clone(), mask);
        sum / mask.broadcast_to(self.shape()).convert(x.dtype()).sum_axes(axes)
    }
}

/// The operand of a reduction that changes nothing.
fn neutral(op: ReduceOp, dtype: DType) -> Tensor {
    let (least, greatest) = dtype.range();
    match op {
        ReduceOp::Sum | ReduceOp::Or => Tensor::literal(0, dtype),
        ReduceOp::Prod | ReduceOp::And => Tensor::literal(1, dtype),
        ReduceOp::Max => Tensor::literal(least, dtype),
        ReduceOp::Min => Tensor::literal(greatest, dtype),
    }
}

/// `n` numbers from `base^start` to `base^stop`, whose logarithms have equal distances: `jax.numpy.logspace`.
#[track_caller]
pub fn logspace(start: f64, stop: f64, n: usize, base: f64, dtype: DType) -> Tensor {
    let step = if n > 1 { (stop - start) / (n - 1) as f64 } else { 0.0 };
    let powers = Tensor::arange(dtype, n) * step + start;
    Tensor::literal(base, dtype).broadcast_to(&[n]).pow(powers)
}
