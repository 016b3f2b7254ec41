//! Normalisation over axes, with masks: the softmax family and `standardize`, as in `jax.nn`.
//!
//! A tensor and, for functions called `…_where`, a bool mask that broadcasts to it come in. What the mask hides takes
//! no part: it is 0 (-∞ as a logarithm) in the result and in all derivatives.

use super::nn::finite_max;
use super::operand::IntoAxes;
use super::tensor::Tensor;
use crate::graph::ReduceOp;

/// [`softmax`](super::softmax) over the elements where `mask` is true; 0 elsewhere, and everywhere in a row that is
/// hidden whole: `jax.nn.softmax(x, axis, where=mask)`.
///
/// ```
/// # fulgurite_jit::trace::trace(&[], |_| {
/// use fulgurite_jit::{Tensor, softmax_where};
/// let scores = Tensor::ones(&[2, 3]);
/// let weights = softmax_where(&scores, -1, &scores.greater(0.5));
/// # vec![weights]
/// # }).unwrap();
/// ```
#[track_caller]
pub fn softmax_where(x: &Tensor, axes: impl IntoAxes + Clone, mask: &Tensor) -> Tensor {
    let x = &x.inexact();
    let seen = mask.select(x, f64::NEG_INFINITY);
    let max = seen.max_keep(axes.clone()).stop_gradient();
    // The exponent is replaced too: a hidden ∞ - ∞ has no derivative, and 0 times NaN is NaN.
    let e = mask.select(mask.select(x - max, 0.0).exp(), 0.0);
    let sum = e.sum_keep(axes);
    mask.select(&e / sum.equal(0.0).select(1.0, &sum), 0.0)
}

/// The logarithm of [`softmax_where`]; -∞ where `mask` is false: `jax.nn.log_softmax(x, axis, where=mask)`.
#[track_caller]
pub fn log_softmax_where(x: &Tensor, axes: impl IntoAxes + Clone, mask: &Tensor) -> Tensor {
    let x = &x.inexact();
    let max = mask.select(x, f64::NEG_INFINITY).max_keep(axes.clone()).stop_gradient();
    let shifted = mask.select(x - max, 0.0);
    let sum = mask.select(shifted.exp(), 0.0).sum_keep(axes);
    mask.select(&shifted - sum.equal(0.0).select(1.0, &sum).log(), f64::NEG_INFINITY)
}

/// `log(mean(exp(x)))` over `axes`, which are removed, without overflow: `jax.nn.logmeanexp`.
#[track_caller]
pub fn logmeanexp(x: &Tensor, axes: impl IntoAxes + Clone) -> Tensor {
    let sum = x.logsumexp(axes);
    let count = x.elements() as f64 / sum.elements().max(1) as f64;
    sum - count.ln()
}

/// `(x - mean) / √(variance + epsilon)` over `axes`, where the variance is `mean(x²) - mean²`, at least 0:
/// `jax.nn.standardize`, whose default is `epsilon = 1e-5`.
#[track_caller]
pub fn standardize(x: &Tensor, axes: impl IntoAxes + Clone, epsilon: f64) -> Tensor {
    let x = &x.inexact();
    let mean = x.mean_keep(axes.clone());
    let variance = (x.square().mean_keep(axes) - mean.square()).maximum(0.0);
    (x - mean) * (variance + epsilon).rsqrt()
}

impl Tensor {
    /// `log(sum(exp(x)))` over `axes`, which stay with extent 1, without overflow.
    #[track_caller]
    pub fn logsumexp_keep(&self, axes: impl IntoAxes + Clone) -> Tensor {
        let x = self.inexact();
        let max = finite_max(&x, axes.clone());
        (&x - &max).exp().reduce_keep(ReduceOp::Sum, axes).log() + max
    }
}
