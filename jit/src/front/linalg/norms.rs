//! Norms of vectors and matrices.

use super::{matrices, svdvals};
use crate::front::operand::IntoAxes;
use crate::front::tensor::Tensor;

/// The norm of vectors along `axes`, which are removed: `jax.numpy.linalg.vector_norm`, and `jax.numpy.linalg.norm` along
/// one axis.
///
/// `ord` is a number: 2 for the root of the sum of squares, 1 for the sum of magnitudes, ∞ and -∞ for the largest and
/// the smallest one, 0 for the number of elements that are not 0, or another power. The derivative of the first at 0 is
/// NaN, as in JAX: see [`safe_norm`].
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_jit::linalg::vector_norm;
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let x = Tensor::from_vec(&[2, 2], vec![3.0f32, 4.0, 1.0, -1.0]).unwrap();
/// let [euclid, most] = [2.0, f64::INFINITY].map(|ord| vector_norm(&x, ord, -1)); // [5, 1.41], [4, 1]
/// # vec![euclid, most]
/// # }).unwrap();
/// ```
///
/// # Errors
/// The result stands for an error if there is no such axis.
#[track_caller]
pub fn vector_norm(x: &Tensor, ord: f64, axes: impl IntoAxes + Clone) -> Tensor {
    let x = x.inexact();
    match ord {
        2.0 => x.square().sum_axes(axes).sqrt(),
        1.0 => x.abs().sum_axes(axes),
        0.0 => x.not_equal(0.0).convert(x.dtype()).sum_axes(axes),
        // The maximum begins with 0, with which zeros share its derivative.
        f64::INFINITY => x.abs().max_axes(axes).maximum(0.0),
        f64::NEG_INFINITY => x.abs().min_axes(axes),
        ord => x.abs().pow(ord).sum_axes(axes).pow(1.0 / ord),
    }
}

/// [`vector_norm`] along `axes`, which stay with extent 1 (`keepdims=True`).
///
/// # Errors
/// As [`vector_norm`].
#[track_caller]
pub fn vector_norm_keep(x: &Tensor, ord: f64, axes: impl IntoAxes + Clone) -> Tensor {
    let norm = vector_norm(x, ord, axes.clone());
    match axes.into_axes(x.rank()) {
        Ok(axes) => {
            let mut shape = x.shape().to_vec();
            axes.iter().for_each(|&axis| shape[axis] = 1);
            norm.reshape(&shape)
        }
        Err(_) => norm,
    }
}

/// Which norm of a matrix: the `ord` of `jax.numpy.linalg.norm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatrixNorm {
    /// Of Frobenius: the root of the sum of squares.
    #[default]
    Frobenius,
    /// The sum of the singular values.
    Nuclear,
    /// The largest sum of magnitudes of a column (1).
    One,
    /// The smallest (-1).
    MinusOne,
    /// The largest singular value (2).
    Two,
    /// The smallest (-2).
    MinusTwo,
    /// The largest sum of magnitudes of a row (∞).
    Infinity,
    /// The smallest (-∞).
    MinusInfinity,
}

/// A norm of matrices: `jax.numpy.linalg.matrix_norm`. `x` has shape `[…, m, n]`, the result `[…]`.
///
/// # Errors
/// The result stands for an error if `x` has no two axes.
#[track_caller]
pub fn matrix_norm(x: &Tensor, ord: MatrixNorm) -> Tensor {
    let x = match matrices("matrix_norm", x) {
        Ok((x, _)) => x,
        Err(error) => return error,
    };
    match ord {
        MatrixNorm::Frobenius => x.square().sum_axes([-2, -1]).sqrt(),
        MatrixNorm::One => x.abs().sum_axes(-2).max_axes(-1).maximum(0.0),
        MatrixNorm::MinusOne => x.abs().sum_axes(-2).min_axes(-1),
        MatrixNorm::Infinity => x.abs().sum_axes(-1).max_axes(-1).maximum(0.0),
        MatrixNorm::MinusInfinity => x.abs().sum_axes(-1).min_axes(-1),
        MatrixNorm::Nuclear => svdvals(&x).sum_axes(-1),
        MatrixNorm::Two => svdvals(&x).max_axes(-1).maximum(0.0),
        MatrixNorm::MinusTwo => svdvals(&x).min_axes(-1),
    }
}

/// The Euclidean norm over all axes, at least `min_norm`, with derivative 0 where it is not larger: `optax.safe_norm`.
#[track_caller]
pub fn safe_norm(x: &Tensor, min_norm: f64) -> Tensor {
    let x = x.inexact();
    let is_small = x.norm().less_equal(min_norm);
    is_small.select(min_norm, is_small.select(1.0, &x).norm())
}
