//! Linear algebra on the matrices along the last two axes, with the names and definitions of `jax.numpy.linalg`,
//! `jax.scipy.linalg` and `jax.lax.linalg`.
//!
//! Axes before the last two are a batch. Matrices are of f32 or f64; integers and bools become f32. No function fails at
//! run time: what is singular, or not finite, gives infinities and NaN, without an error.
//!
//! `triangular`, `factors` and `solve` are the ops and what is next to them; `least_squares`, `functions`, `norms`,
//! `products` and `special` are composed of those.

mod factors;
mod functions;
mod least_squares;
mod norms;
mod products;
mod solve;
mod special;
mod triangular;

pub use crate::graph::Triangular;
pub use factors::{
    cho_factor, eigh, eigvalsh, lu, lu_factor, lu_pivots_to_permutation, qr, qr_complete, qr_r, svd, svdvals,
};
pub use functions::{expm, matrix_power};
pub use least_squares::{LeastSquares, cond, lstsq, matrix_rank, pinv};
pub use norms::{MatrixNorm, matrix_norm, safe_norm, vector_norm, vector_norm_keep};
pub use products::{cross, inner, kron, multi_dot, outer, tensordot, vdot, vecdot};
pub use solve::{
    Transpose, cho_solve, det, inv, logdet, lu_solve, slogdet, solve, solve_triangular, tensorinv, tensorsolve,
    tridiagonal_solve,
};
pub use special::{block_diag, corrcoef, cov, diagonal, toeplitz, trace, vander};
pub use triangular::{cholesky, triangular_solve};

use std::panic::Location;

use super::operand::{broadcast_shape, reject};
use super::tensor::Tensor;
use crate::error::Error;
use crate::graph::{DotAxes, Precision};
use crate::types::{DType, Shape};

/// The matrices as floats, and their extents.
///
/// # Errors
/// Where there are no two axes: the result of `name` that stands for this.
#[track_caller]
fn matrices(name: &str, a: &Tensor) -> Result<(Tensor, [usize; 2]), Tensor> {
    match *a.shape() {
        [.., m, n] if a.error().is_none() => Ok((a.inexact(), [m, n])),
        _ => {
            let why = format!("takes matrices along the last two axes, not {}", a.ty());
            Err(reject(&[a], Error::op(name, why, Location::caller())))
        }
    }
}

/// As [`matrices`], of square ones.
#[track_caller]
fn square(name: &str, a: &Tensor) -> Result<(Tensor, usize), Tensor> {
    match *a.shape() {
        [.., m, n] if m == n && a.error().is_none() => Ok((a.inexact(), n)),
        _ => {
            let why = format!("takes square matrices along the last two axes, not {}", a.ty());
            Err(reject(&[a], Error::op(name, why, Location::caller())))
        }
    }
}

/// The product of matrices of one batch, with all bits.
#[track_caller]
fn product(x: &Tensor, y: &Tensor) -> Tensor {
    let axis = x.rank() - 2;
    let axes = DotAxes { batch: (0..axis).map(|axis| (axis, axis)).collect(), contract: [(axis + 1, axis)][..].into() };
    x.dot_general_in(y, axes, Some(Precision::Highest))
}

/// The row and the column of each element of the matrices.
#[track_caller]
fn positions(x: &Tensor) -> (Tensor, Tensor) {
    let rank = x.rank();
    (Tensor::iota(DType::I32, x.shape(), rank - 2), Tensor::iota(DType::I32, x.shape(), rank - 1))
}

/// Identity matrices of the type of square ones.
#[track_caller]
fn identity(x: &Tensor) -> Tensor {
    let (row, column) = positions(x);
    row.equal(&column).convert(x.dtype())
}

/// The diagonals of matrices, of the smaller extent.
#[track_caller]
fn diagonals(x: &Tensor) -> Tensor {
    let (m, n) = (x.shape()[x.rank() - 2], x.shape()[x.rank() - 1]);
    let x = x.slice_in_dim(-2, 0..m.min(n)).slice_in_dim(-1, 0..m.min(n));
    let (row, column) = positions(&x);
    row.equal(&column).select(&x, 0.0).sum_axes(-1)
}

/// Two tensors of one element type, with the axes before the last `x_axes` and `y_axes` broadcast.
///
/// # Errors
/// The result that stands for batches that do not go together.
#[track_caller]
fn one_batch(name: &str, x: (&Tensor, usize), y: (&Tensor, usize)) -> Result<(Tensor, Tensor), Tensor> {
    let (a, b) = x.0.promoted(y.0);
    let (of_a, of_b) = (a.rank() - x.1, b.rank() - y.1);
    let Some(batch) = broadcast_shape(&a.shape()[..of_a], &b.shape()[..of_b]) else {
        let why = format!("cannot broadcast the batches of {} and {}", a.ty(), b.ty());
        return Err(reject(&[&a, &b], Error::op(name, why, Location::caller())));
    };
    let grown = |axes: &[usize]| -> Shape { batch.iter().chain(axes).copied().collect() };
    let (shape_a, shape_b) = (grown(&a.shape()[of_a..]), grown(&b.shape()[of_b..]));
    Ok((a.broadcast_to(&shape_a), b.broadcast_to(&shape_b)))
}
