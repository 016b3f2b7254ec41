//! Functions composed of the primitives, with the definitions of `jax.numpy`, `jax.nn` and `jax.scipy.special`.

use std::panic::Location;

use super::operand::IntoAxes;
use super::tensor::Tensor;
use crate::error::Error;
use crate::graph::ReduceOp;
use crate::types::DType;

impl Tensor {
    /// The arithmetic mean of all elements. Integers and truth values are averaged as f32, here as in every mean,
    /// variance and norm.
    #[track_caller]
    pub fn mean(&self) -> Tensor {
        self.mean_axes(..)
    }

    /// The arithmetic mean over axes, which vanish.
    #[track_caller]
    pub fn mean_axes(&self, axes: impl IntoAxes) -> Tensor {
        let sum = self.inexact().reduce(ReduceOp::Sum, axes);
        self.over_count(sum)
    }

    /// The arithmetic mean over axes, which stay with extent 1.
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

    /// The variance (of the population: divided by the count) over axes, which vanish.
    #[track_caller]
    pub fn var_axes(&self, axes: impl IntoAxes + Clone) -> Tensor {
        (self.inexact() - self.mean_keep(axes.clone())).square().mean_axes(axes)
    }

    /// The variance over axes, which stay with extent 1.
    #[track_caller]
    pub fn var_keep(&self, axes: impl IntoAxes + Clone) -> Tensor {
        (self.inexact() - self.mean_keep(axes.clone())).square().mean_keep(axes)
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
        let max = self.inexact().finite_max(axes.clone());
        let sum = (self.inexact() - &max).exp().sum_axes(axes);
        let shape = sum.shape().to_vec();
        sum.log() + max.reshape(&shape)
    }

    /// The root of the sum of all squares: the Euclidean (or Frobenius) norm.
    #[track_caller]
    pub fn norm(&self) -> Tensor {
        self.inexact().square().sum().sqrt()
    }

    /// A matrix (or, along the last two axes, matrices) with zeros above the diagonal.
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

    /// `parts` tensors of equal extent along an axis, in order; negative counts from the end.
    #[track_caller]
    pub fn split(&self, parts: usize, axis: isize) -> Vec<Tensor> {
        /// No elements divide into as many parts as anybody likes, and so many at most stand for a mistake.
        const MOST_PARTS: usize = 1 << 16;
        let extent = axis.into_axes(self.rank()).map(|axes| self.shape()[axes[0]]);
        match extent {
            Ok(extent) if parts > 0 && extent % parts == 0 && parts <= extent.max(MOST_PARTS) => {
                let part = extent / parts;
                (0..parts).map(|i| self.slice_axis(axis, i * part..(i + 1) * part)).collect()
            }
            _ => {
                let why = format!("{} does not split into {parts} equal parts along axis {axis}", self.ty());
                let error = Error::op("split", why, Location::caller());
                // One at least, so that the error is not lost.
                vec![Tensor::failed(self.ty().clone(), error); parts.clamp(1, MOST_PARTS)]
            }
        }
    }

    /// The elements moved on by `shift` places along an axis; those that leave at one end come in at the other.
    /// Negative shifts move towards the start, a negative axis counts from the end.
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
        Tensor::concat(&[&self.slice_axis(axis, cut..extent), &self.slice_axis(axis, 0..cut)], axis)
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

/// `x` where it is positive, `e^x - 1` elsewhere (`jax.nn.elu` with its α of 1).
#[track_caller]
pub fn elu(x: &Tensor) -> Tensor {
    let positive = x.greater(0.0);
    // The exponential of a large x, which is not chosen, would make the derivative ∞ · 0.
    positive.select(x, positive.select(0.0, x).expm1())
}

/// `x` where it is not negative, `slope x` elsewhere; `jax.nn.leaky_relu` has 0.01 by default.
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

/// `x` limited to 0 to 6; the derivative at both ends is 0.
#[track_caller]
pub fn relu6(x: &Tensor) -> Tensor {
    x.greater_equal(6.0).select(6.0, relu(x))
}

/// `x` limited to -1 to 1; the derivative at both ends is 1.
#[track_caller]
pub fn hard_tanh(x: &Tensor) -> Tensor {
    x.greater(1.0).select(1.0, x.less(-1.0).select(-1.0, x))
}

/// `x / (1 + |x|)`.
#[track_caller]
pub fn soft_sign(x: &Tensor) -> Tensor {
    x / (x.abs() + 1.0)
}

/// `e^x / sum(e^x)` along an axis; negative counts from the end.
#[track_caller]
pub fn softmax(x: &Tensor, axis: isize) -> Tensor {
    let x = &x.inexact();
    let e = (x - x.max_keep(axis).stop_gradient()).exp();
    let sum = e.sum_keep(axis);
    e / sum
}

/// `log(softmax(x))` along an axis; negative counts from the end.
#[track_caller]
pub fn log_softmax(x: &Tensor, axis: isize) -> Tensor {
    let x = &x.inexact();
    let shifted = x - x.max_keep(axis).stop_gradient();
    let log_sum = shifted.exp().sum_keep(axis).log();
    shifted - log_sum
}

/// f32 rows with a 1 at each integer of `labels` and 0 elsewhere: shape `[…labels, classes]`.
#[track_caller]
pub fn one_hot(labels: &Tensor, classes: usize) -> Tensor {
    one_hot_as(labels, classes, DType::F32)
}

/// As [`one_hot`], rows of another element type.
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

    /// `f` of a matrix of 2 × 3, by the reference interpreter.
    fn of_matrix(f: impl FnOnce(&Tensor) -> Vec<Tensor>) -> crate::Result<Vec<Vec<f64>>> {
        let x = Array::from_vec(&[2, 3], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
        let traced = trace(&[x.ty().clone()], |xs| f(&xs[0]))?;
        Ok(interpret(&traced.graph, &[x])?.iter().map(Array::to_f64_vec).collect())
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
    fn mistakes_are_told() {
        let message = |f: fn(&Tensor) -> Vec<Tensor>| of_matrix(f).expect_err("a mistake").to_string();
        assert!(message(|x| x.split(2, 1)).contains("split: f32[2,3] does not split into 2 equal parts along axis 1"));
        assert!(message(|x| x.split(0, 1)).contains("0 equal parts"));
        assert!(message(|x| vec![x.roll(1, 2)]).contains("roll: f32[2,3] has no axis 2"));
        assert!(message(|x| vec![x.sum().tril()]).contains("tril: takes matrices, not f32[]"));
    }
}
