//! Functions composed of the primitives, with the definitions of `jax.numpy`, `jax.nn` and `jax.scipy.special`.

use crate::graph::ReduceOp;
use crate::tensor::{IntoAxes, Tensor};
use crate::types::DType;

impl Tensor {
    /// The arithmetic mean of all elements.
    #[track_caller]
    pub fn mean(&self) -> Tensor {
        self.mean_axes(..)
    }

    /// The arithmetic mean over axes, which vanish.
    #[track_caller]
    pub fn mean_axes(&self, axes: impl IntoAxes) -> Tensor {
        let sum = self.reduce(ReduceOp::Sum, axes);
        self.over_count(sum)
    }

    /// The arithmetic mean over axes, which stay with extent 1.
    #[track_caller]
    pub fn mean_keep(&self, axes: impl IntoAxes + Clone) -> Tensor {
        let sum = self.reduce_keep(ReduceOp::Sum, axes);
        self.over_count(sum)
    }

    #[track_caller]
    fn over_count(&self, sum: Tensor) -> Tensor {
        let count = self.elements() as f64 / sum.elements().max(1) as f64;
        sum / count
    }

    /// The variance (of the population: divided by the count) over axes, which vanish.
    #[track_caller]
    pub fn var_axes(&self, axes: impl IntoAxes + Clone) -> Tensor {
        (self - self.mean_keep(axes.clone())).square().mean_axes(axes)
    }

    /// The variance over axes, which stay with extent 1.
    #[track_caller]
    pub fn var_keep(&self, axes: impl IntoAxes + Clone) -> Tensor {
        (self - self.mean_keep(axes.clone())).square().mean_keep(axes)
    }

    /// The variance of all elements.
    #[track_caller]
    pub fn var(&self) -> Tensor {
        self.var_axes(..)
    }

    /// The standard deviation over axes, which vanish.
    #[track_caller]
    pub fn std_axes(&self, axes: impl IntoAxes + Clone) -> Tensor {
        self.var_axes(axes).sqrt()
    }

    /// `log(sum(exp(x)))` over axes, which vanish, without overflow.
    #[track_caller]
    pub fn logsumexp(&self, axes: impl IntoAxes + Clone) -> Tensor {
        let max = self.finite_max(axes.clone());
        let sum = (self - &max).exp().sum_axes(axes);
        let shape = sum.shape().to_vec();
        sum.log() + max.reshape(&shape)
    }

    /// The maximum over axes (which stay with extent 1) as a constant, 0 where it is infinite.
    #[track_caller]
    fn finite_max(&self, axes: impl IntoAxes + Clone) -> Tensor {
        let max = self.max_keep(axes);
        max.is_finite().select(&max, 0.0).stop_gradient()
    }
}

/// `max(x, 0)`; the derivative at 0 is 0.
#[track_caller]
pub fn relu(x: &Tensor) -> Tensor {
    // Not `maximum`: its derivative at a tie is one half. A NaN is no `<= 0`, so it stays.
    x.less_equal(0.0).select(0.0, x)
}

/// `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`, the form that `jax.nn.gelu` has by default.
#[track_caller]
pub fn gelu(x: &Tensor) -> Tensor {
    let c = (2.0 / std::f64::consts::PI).sqrt();
    let inner = (x + x.powi(3) * 0.044715) * c;
    x * (inner.tanh() + 1.0) * 0.5
}

/// `x Φ(x)` with the exact normal distribution function Φ.
#[track_caller]
pub fn gelu_exact(x: &Tensor) -> Tensor {
    x * (x * -std::f64::consts::FRAC_1_SQRT_2).erfc() * 0.5
}

/// `x / (1 + e^-x)`.
#[track_caller]
pub fn silu(x: &Tensor) -> Tensor {
    x * x.sigmoid()
}

/// `e^x / sum(e^x)` along an axis; negative counts from the end.
#[track_caller]
pub fn softmax(x: &Tensor, axis: isize) -> Tensor {
    let e = (x - x.max_keep(axis).stop_gradient()).exp();
    let sum = e.sum_keep(axis);
    e / sum
}

/// `log(softmax(x))` along an axis; negative counts from the end.
#[track_caller]
pub fn log_softmax(x: &Tensor, axis: isize) -> Tensor {
    let shifted = x - x.max_keep(axis).stop_gradient();
    let log_sum = shifted.exp().sum_keep(axis).log();
    shifted - log_sum
}

/// f32 rows with a 1 at each integer of `labels` and 0 elsewhere: shape `[…labels, classes]`.
#[track_caller]
pub fn one_hot(labels: &Tensor, classes: usize) -> Tensor {
    let mut shape = labels.shape().to_vec();
    shape.push(classes);
    let positions = Tensor::iota(labels.dtype(), &shape, labels.rank());
    labels.expand_dims(-1).equal(&positions).convert(DType::F32)
}
