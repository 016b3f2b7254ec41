//! Functions composed of the primitives, with the definitions of `jax.numpy`, `jax.nn` and `jax.scipy.special`.

use std::panic::Location;

use super::operand::IntoAxes;
use super::tensor::Tensor;
use crate::error::Error;
use crate::graph::ReduceOp;
use crate::types::DType;

impl Tensor {
    /// The mean over all axes. Means, variances and norms convert integers and bools to f32.
    #[track_caller]
    pub fn mean(&self) -> Tensor {
        self.mean_axes(..)
    }

    /// The mean over `axes`, which are removed.
    #[track_caller]
    pub fn mean_axes(&self, axes: impl IntoAxes) -> Tensor {
        let sum = self.inexact().reduce(ReduceOp::Sum, axes);
        self.over_count(sum)
    }

    /// The mean over `axes`, which stay with extent 1 (`keepdims=True`).
    #[track_caller]
    pub fn mean_keep(&self, axes: impl IntoAxes + Clone) -> Tensor {
        let sum = self.inexact().reduce_keep(ReduceOp::Sum, axes);
        self.over_count(sum)
    }

    #[track_caller]
    fn over_count(&self, sum: Tensor) -> Tensor {
        let count = self.elements() as f64 / sum.elements().max(1) as f64;
        sum / count
    }

    /// The population variance (`ddof=0`) over `axes`, which are removed.
    #[track_caller]
    pub fn var_axes(&self, axes: impl IntoAxes + Clone) -> Tensor {
        (self.inexact() - self.mean_keep(axes.clone())).square().mean_axes(axes)
    }

    /// The population variance over `axes`, which stay with extent 1 (`keepdims=True`).
    #[track_caller]
    pub fn var_keep(&self, axes: impl IntoAxes + Clone) -> Tensor {
        (self.inexact() - self.mean_keep(axes.clone())).square().mean_keep(axes)
    }

    /// The population variance over all axes.
    #[track_caller]
    pub fn var(&self) -> Tensor {
        self.var_axes(..)
    }

    /// The population standard deviation over `axes`, which are removed.
    #[track_caller]
    pub fn std_axes(&self, axes: impl IntoAxes + Clone) -> Tensor {
        self.var_axes(axes).sqrt()
    }

    /// `log(sum(exp(x)))` over `axes`, which are removed, without overflow.
    #[track_caller]
    pub fn logsumexp(&self, axes: impl IntoAxes + Clone) -> Tensor {
        let max = finite_max(&self.inexact(), axes.clone());
        let sum = (self.inexact() - &max).exp().sum_axes(axes);
        let shape = sum.shape().to_vec();
        sum.log() + max.reshape(&shape)
    }

    /// The Euclidean (Frobenius) norm over all axes.
    #[track_caller]
    pub fn norm(&self) -> Tensor {
        self.inexact().square().sum().sqrt()
    }

    /// The lower triangle of a matrix, or of the matrices along the last two axes: zeros above the diagonal.
    #[track_caller]
    pub fn tril(&self) -> Tensor {
        let shape = self.shape();
        let [.., _, _] = shape else {
            let why = format!("takes matrices, not {}", self.ty());
            return Tensor::failed(self.ty().clone(), Error::op("tril", why, Location::caller()));
        };
        let index = |from_end| Tensor::iota(DType::I32, shape, shape.len() - from_end);
        index(2).greater_equal(index(1)).select(self, self.zeros_like())
    }

    /// Splits an axis into `parts` tensors of equal extent. A negative axis counts from the end.
    #[track_caller]
    pub fn split(&self, parts: usize, axis: isize) -> Vec<Tensor> {
        /// The limit for an axis of extent 0, which splits into any number of parts, and for poisoned results.
        const MAX_PARTS: usize = 1 << 16;
        let extent = axis.into_axes(self.rank()).map(|axes| self.shape()[axes[0]]);
        match extent {
            Ok(extent) if parts > 0 && extent % parts == 0 && parts <= extent.max(MAX_PARTS) => {
                let part = extent / parts;
                (0..parts).map(|i| self.slice_in_dim(axis, i * part..(i + 1) * part)).collect()
            }
            _ => {
                let why = format!("{} does not split into {parts} equal parts along axis {axis}", self.ty());
                let error = Error::op("split", why, Location::caller());
                // At least one result, so that the error is not lost.
                vec![Tensor::failed(self.ty().clone(), error); parts.clamp(1, MAX_PARTS)]
            }
        }
    }

    /// Shifts the elements by `shift` positions along an axis, cyclically. A negative shift moves towards the start. A
    /// negative axis counts from the end.
    #[track_caller]
    pub fn roll(&self, shift: isize, axis: isize) -> Tensor {
        let axes = match axis.into_axes(self.rank()) {
            Ok(axes) => axes,
            Err(why) => {
                let why = format!("{} {why}", self.ty());
                return Tensor::failed(self.ty().clone(), Error::op("roll", why, Location::caller()));
            }
        };
        let extent = self.shape()[axes[0]];
        let by = shift.rem_euclid(extent.max(1) as isize) as usize;
        if by == 0 {
            return self.clone();
        }
        let cut = extent - by;
        Tensor::concat(&[&self.slice_in_dim(axis, cut..extent), &self.slice_in_dim(axis, 0..cut)], axis)
    }
}

/// The maximum over `axes`, which stay with extent 1; 0 where it is infinite. Its derivative is zero.
#[track_caller]
pub(super) fn finite_max(x: &Tensor, axes: impl IntoAxes + Clone) -> Tensor {
    let max = x.max_keep(axes);
    max.is_finite().select(&max, 0.0).stop_gradient()
}

/// `max(x, 0)`; the derivative at 0 is 0.
#[track_caller]
pub fn relu(x: &Tensor) -> Tensor {
    // Not `maximum`, whose derivative at a tie is one half. NaN is not `<= 0` and propagates.
    x.less_equal(0.0).select(0.0, x)
}

/// `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`, as `jax.nn.gelu`, whose default is `approximate=True`.
#[track_caller]
pub fn gelu(x: &Tensor) -> Tensor {
    let c = (2.0 / std::f64::consts::PI).sqrt();
    let inner = (x + x.powi(3) * 0.044715) * c;
    x * (inner.tanh() + 1.0) * 0.5
}

/// `x Φ(x)` with the normal distribution function Φ, as `jax.nn.gelu(approximate=False)`.
#[track_caller]
pub fn gelu_exact(x: &Tensor) -> Tensor {
    x * (x * -std::f64::consts::FRAC_1_SQRT_2).erfc() * 0.5
}

/// `x / (1 + e^-x)`.
#[track_caller]
pub fn silu(x: &Tensor) -> Tensor {
    x * x.sigmoid()
}

/// `x` where it is positive, `e^x - 1` elsewhere: `jax.nn.elu` with α = 1.
#[track_caller]
pub fn elu(x: &Tensor) -> Tensor {
    let positive = x.greater(0.0);
    // The inner `select` avoids the derivative ∞ · 0 of the branch that is not selected, for large x.
    positive.select(x, positive.select(0.0, x).expm1())
}

/// `x` where it is not negative, `slope x` elsewhere. The default of `jax.nn.leaky_relu` is 0.01.
#[track_caller]
pub fn leaky_relu(x: &Tensor, slope: f64) -> Tensor {
    x.greater_equal(0.0).select(x, x * slope)
}

/// `log(1 / (1 + e^-x))`.
#[track_caller]
pub fn log_sigmoid(x: &Tensor) -> Tensor {
    -(-x).softplus()
}

/// `x tanh(log(1 + e^x))`.
#[track_caller]
pub fn mish(x: &Tensor) -> Tensor {
    x * x.softplus().tanh()
}

/// `x` clipped to [0, 6]. The derivative at both bounds is 0.
#[track_caller]
pub fn relu6(x: &Tensor) -> Tensor {
    x.greater_equal(6.0).select(6.0, relu(x))
}

/// `x` clipped to [-1, 1]. The derivative at both bounds is 1.
#[track_caller]
pub fn hard_tanh(x: &Tensor) -> Tensor {
    x.greater(1.0).select(1.0, x.less(-1.0).select(-1.0, x))
}

/// `x / (1 + |x|)`.
#[track_caller]
pub fn soft_sign(x: &Tensor) -> Tensor {
    x / (x.abs() + 1.0)
}

/// `e^x / sum(e^x)` over an axis, or several. A negative axis counts from the end.
#[track_caller]
pub fn softmax(x: &Tensor, axes: impl IntoAxes + Clone) -> Tensor {
    let x = &x.inexact();
    let e = (x - x.max_keep(axes.clone()).stop_gradient()).exp();
    let sum = e.sum_keep(axes);
    e / sum
}

/// `log(softmax(x))` over an axis, or several. A negative axis counts from the end.
#[track_caller]
pub fn log_softmax(x: &Tensor, axes: impl IntoAxes + Clone) -> Tensor {
    let x = &x.inexact();
    let shifted = x - x.max_keep(axes.clone()).stop_gradient();
    let log_sum = shifted.exp().sum_keep(axes).log();
    shifted - log_sum
}

/// One-hot f32 vectors of integer `labels`, of shape `[…labels, classes]`.
#[track_caller]
pub fn one_hot(labels: &Tensor, classes: usize) -> Tensor {
    one_hot_as(labels, classes, DType::F32)
}

/// As [`one_hot`], of another element type.
///
/// ```
/// # use fulgurite_jit::{DType, Tensor, one_hot_as};
/// # fn traced(labels: &Tensor) {
/// let targets = one_hot_as(labels, 10, DType::F64);
/// # }
/// ```
#[track_caller]
pub fn one_hot_as(labels: &Tensor, classes: usize, dtype: DType) -> Tensor {
    let mut shape = labels.shape().to_vec();
    shape.push(classes);
    let positions = Tensor::iota(labels.dtype(), &shape, labels.rank());
    labels.expand_dims(-1).equal(&positions).convert(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::front::trace::trace;
    use crate::interp::interpret;

    /// Evaluates `f` on a 2 × 3 matrix with the reference interpreter.
    fn of_matrix(f: impl FnOnce(&Tensor) -> Vec<Tensor>) -> crate::Result<Vec<Vec<f64>>> {
        let x = Array::from_vec(&[2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
        let traced = trace(&[x.ty().clone()], |xs| f(&xs[0]))?;
        interpret(&traced.graph, &[x])?.iter().map(Array::to_f64_vec).collect()
    }

    #[test]
    fn rolls_both_ways_and_around() {
        let rolled = of_matrix(|x| [1, -1, 4, 3, 0].iter().map(|&shift| x.roll(shift, -1)).collect());
        let (right, left, same) = ([3., 1., 2., 6., 4., 5.], [2., 3., 1., 5., 6., 4.], [1., 2., 3., 4., 5., 6.]);
        assert_eq!(rolled.expect("rolls"), [right, left, right, same, same]);
    }

    #[test]
    fn splits_into_equal_parts() {
        let parts = of_matrix(|x| x.split(3, 1)).expect("splits");
        assert_eq!(parts, [[1., 4.], [2., 5.], [3., 6.]]);
        assert_eq!(of_matrix(|x| vec![x.tril()]).expect("a matrix"), [[1., 0., 0., 4., 5., 0.]]);
    }

    #[test]
    fn errors_are_reported() {
        let message = |f: fn(&Tensor) -> Vec<Tensor>| of_matrix(f).expect_err("an error").to_string();
        assert!(message(|x| x.split(2, 1)).contains("split: f32[2,3] does not split into 2 equal parts along axis 1"));
        assert!(message(|x| x.split(0, 1)).contains("0 equal parts"));
        assert!(message(|x| vec![x.roll(1, 2)]).contains("roll: f32[2,3] has no axis 2"));
        assert!(message(|x| vec![x.sum().tril()]).contains("tril: takes matrices, not f32[]"));
    }
}
