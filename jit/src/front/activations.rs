//! Activations beyond those of `nn`, with the definitions and the derivatives at kinks of `jax.nn`.
//!
//! A tensor comes in, one of the same shape goes out ([`glu`] halves an axis). Integers and bools are converted to f32.

use super::nn::relu6;
use super::tensor::Tensor;

/// `x` where it is positive, `alpha (e^x - 1)` elsewhere, as `jax.nn.elu(x, alpha)`.
///
/// ```
/// # fulgurite_jit::trace::trace(&[], |_| {
/// use fulgurite_jit::{Tensor, elu_with};
/// let y = elu_with(&Tensor::ones(&[2, 3]), 1.5);
/// # vec![y]
/// # }).unwrap();
/// ```
#[track_caller]
pub fn elu_with(x: &Tensor, alpha: f64) -> Tensor {
    let x = &x.inexact();
    let positive = x.greater(0.0);
    // The inner `select` avoids the derivative ∞ · 0 of the branch that is not selected, for large x.
    positive.select(x, positive.select(0.0, x).expm1() * alpha)
}

/// `max(x, 0) + alpha (e^(min(x, 0) / alpha) - 1)` (Barron, arXiv 1704.07483). The derivative at 0 is 1.
#[track_caller]
pub fn celu(x: &Tensor, alpha: f64) -> Tensor {
    let x = &x.inexact();
    x.maximum(0.0) + (x.minimum(0.0) / alpha).expm1() * alpha
}

/// `scale · elu(x, alpha)` with the constants of self-normalising networks (Klambauer et al., arXiv 1706.02515).
#[track_caller]
pub fn selu(x: &Tensor) -> Tensor {
    elu_with(x, 1.673_263_242_354_377_2) * 1.050_700_987_355_480_5
}

/// `relu6(x + 3) / 6`. The derivative at both bounds is 0.
#[track_caller]
pub fn hard_sigmoid(x: &Tensor) -> Tensor {
    relu6(&(x.inexact() + 3.0)) / 6.0
}

/// `x · hard_sigmoid(x)` (Howard et al., arXiv 1905.02244); also called hard swish.
#[track_caller]
pub fn hard_silu(x: &Tensor) -> Tensor {
    x * hard_sigmoid(x)
}

/// Alias of [`hard_silu`], the other name in `jax.nn`.
#[track_caller]
pub fn hard_swish(x: &Tensor) -> Tensor {
    hard_silu(x)
}

/// Alias of [`silu`](super::silu), the other name in `jax.nn`.
#[track_caller]
pub fn swish(x: &Tensor) -> Tensor {
    super::silu(x)
}

/// `1 / (1 + e^-x)`: [`Tensor::sigmoid`] as a function; integers are converted to f32.
#[track_caller]
pub fn sigmoid(x: &Tensor) -> Tensor {
    x.inexact().sigmoid()
}

/// `log(1 + e^x)`: [`Tensor::softplus`] as a function; integers are converted to f32.
#[track_caller]
pub fn softplus(x: &Tensor) -> Tensor {
    x.inexact().softplus()
}

/// `x`.
#[track_caller]
pub fn identity(x: &Tensor) -> Tensor {
    x.clone()
}

/// `(x + √(x² + b)) / 2`. The default of `jax.nn.squareplus` is `b = 4`.
#[track_caller]
pub fn squareplus(x: &Tensor, b: f64) -> Tensor {
    let x = &x.inexact();
    (x + (x.square() + b).sqrt()) / 2.0
}

/// 0 up to -1, `(x + 1)² / 4` between -1 and 1, `x` from 1 on.
#[track_caller]
pub fn sparse_plus(x: &Tensor) -> Tensor {
    let x = &x.inexact();
    let middle = (x + 1.0).square() / 4.0;
    x.less_equal(-1.0).select(0.0, x.greater_equal(1.0).select(x, middle))
}

/// `(x + 1) / 2` clipped to [0, 1]: the derivative of [`sparse_plus`]. Its own derivative at both bounds is 1/4.
#[track_caller]
pub fn sparse_sigmoid(x: &Tensor) -> Tensor {
    (x.inexact() + 1.0).maximum(0.0).minimum(2.0) * 0.5
}

/// The first half along `axis`, times the sigmoid of the second (Dauphin et al., arXiv 1612.08083). A negative axis
/// counts from the end. An axis of an odd extent is an error.
#[track_caller]
pub fn glu(x: &Tensor, axis: isize) -> Tensor {
    let halves = x.inexact().split(2, axis);
    match &halves[..] {
        [first, second] => first * second.sigmoid(),
        _ => halves[0].clone(),
    }
}
