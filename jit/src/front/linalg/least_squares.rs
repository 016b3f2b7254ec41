//! What singular values say: least squares, pseudo-inverses, ranks, condition numbers.

use std::panic::Location;

use super::{MatrixNorm, inv, matrices, matrix_norm, product, qr, square, svd, svdvals, triangular_solve};
use crate::error::Error;
use crate::front::operand::reject;
use crate::front::tensor::Tensor;
use crate::graph::Triangular;
use crate::types::DType;

/// The distance of 1 and the next number.
fn epsilon(dtype: DType) -> f64 {
    if dtype == DType::F64 { f64::EPSILON } else { f32::EPSILON.into() }
}

/// The results of [`lstsq`].
#[derive(Clone, Debug)]
pub struct LeastSquares {
    /// The solution, `[n]` or `[n, k]`.
    pub x: Tensor,
    /// The sum of squares of each column of `B - A X`, `[k]`.
    pub residuals: Tensor,
    /// The rank of A, an i32.
    pub rank: Tensor,
    /// The singular values of A.
    pub s: Tensor,
}

/// The X of least norm that minimises ‖A X - B‖: `jax.numpy.linalg.lstsq`.
///
/// `a` has shape `[m, n]`, `b` `[m]` or `[m, k]`. Singular values below `rcond` times the largest are taken for 0;
/// without it, below `max(m, n)` roundings.
///
/// # Errors
/// The results stand for an error if `a` is no matrix, or shapes do not go together.
#[track_caller]
pub fn lstsq(a: &Tensor, b: &Tensor, rcond: Option<f64>) -> LeastSquares {
    let (is_vector, location) = (b.rank() == 1, Location::caller());
    let (a, b) = (a.inexact(), b.inexact());
    let (a, b) = a.promoted(&b);
    if a.rank() != 2 || !matches!(b.rank(), 1 | 2) || b.shape()[0] != a.shape()[0] {
        let why = format!("takes a matrix and as many rows, not {} and {}", a.ty(), b.ty());
        let bad = reject(&[&a, &b], Error::op("lstsq", why, location));
        return LeastSquares { x: bad.clone(), residuals: bad.clone(), rank: bad.clone(), s: bad };
    }
    let b = if is_vector { b.expand_dims(-1) } else { b };
    let (m, n) = (a.shape()[0], a.shape()[1]);
    let rcond = match rcond {
        None => epsilon(a.dtype()) * m.max(n) as f64,
        Some(rcond) if rcond < 0.0 => epsilon(a.dtype()),
        Some(rcond) => rcond,
    };
    let (u, s, vt) = svd(&a, false);
    let kept = s.greater(0.0).and(s.greater_equal(s.slice_in_dim(0, 0..s.elements().min(1)).max() * rcond));
    let inverse = kept.select(1.0 / kept.select(&s, 1.0), 0.0).expand_dims(-1);
    let x = product(&vt.t(), &(inverse * product(&u.t(), &b)));
    let residuals = (&b - product(&a, &x)).square().sum_axes(0);
    let rank = kept.convert(DType::I32).sum();
    LeastSquares { x: if is_vector { x.squeeze(-1) } else { x }, residuals, rank, s }
}

/// The pseudo-inverses of Moore and Penrose: `jax.numpy.linalg.pinv`.
///
/// `a` has shape `[…, m, n]`, the result `[…, n, m]`. Singular values up to `rtol` times the largest are taken for 0;
/// without it, `10 max(m, n)` roundings. The derivative is that at matrices of this rank; where the rank is less than it
/// could be by 2 or more, it is not accurate.
///
/// # Errors
/// The result stands for an error if `a` has no two axes.
#[track_caller]
pub fn pinv(a: &Tensor, rtol: Option<f64>) -> Tensor {
    let (a, [m, n]) = match matrices("pinv", a) {
        Ok(a) => a,
        Err(error) => return error,
    };
    if m < n {
        return pinv_tall(&a.t(), [n, m], rtol).t();
    }
    pinv_tall(&a, [m, n], rtol)
}

/// [`pinv`] of matrices with at least as many rows as columns.
#[track_caller]
fn pinv_tall(a: &Tensor, [m, n]: [usize; 2], rtol: Option<f64>) -> Tensor {
    if a.elements() == 0 {
        return a.t();
    }
    let rtol = rtol.unwrap_or(10.0 * m as f64 * epsilon(a.dtype()));
    let cutoff = svdvals(&a.stop_gradient());
    let is_full = cutoff.index_in_dim(n - 1, -1).greater(cutoff.index_in_dim(0, -1) * rtol);
    let is_full = is_full.expand_dims(-1).expand_dims(-1);
    // Of full rank it is R⁻¹ Qᵀ, which has derivatives where singular values are equal; each part sees only what it is
    // used for.
    let (row, column) = super::positions(a);
    let (q, r) = qr(&is_full.select(a, row.equal(column).convert(a.dtype())));
    let upper = Triangular { left_side: true, ..Triangular::default() };
    let of_full = triangular_solve(&r, &q.t(), upper);
    let (u, s, vt) = svd(&is_full.select(a.stop_gradient(), a), false);
    let kept = s.greater(s.slice_in_dim(-1, 0..1) * rtol);
    let inverse = kept.select(1.0 / kept.select(&s, 1.0), 0.0);
    is_full.select(of_full, product(&vt.t(), &(inverse.expand_dims(-1) * u.t())))
}

/// The ranks of matrices, i32: how many singular values are above `rtol` times the largest, or without it above
/// `max(m, n)` roundings: `jax.numpy.linalg.matrix_rank`. (JAX's `rtol` is not relative, contrary to its name and to
/// NumPy.)
///
/// # Errors
/// The result stands for an error if `a` has no two axes.
#[track_caller]
pub fn matrix_rank(a: &Tensor, rtol: Option<f64>) -> Tensor {
    let (a, [m, n]) = match matrices("matrix_rank", a) {
        Ok(a) => a,
        Err(error) => return error,
    };
    let s = svdvals(&a);
    if m.min(n) == 0 {
        return s.sum_axes(-1).convert(DType::I32);
    }
    let rtol = rtol.unwrap_or(m.max(n) as f64 * epsilon(a.dtype()));
    s.greater(s.slice_in_dim(-1, 0..1) * rtol).convert(DType::I32).sum_axes(-1)
}

/// Condition numbers in a norm, or without one in that of the singular values: `jax.numpy.linalg.cond`. Singular
/// matrices have ∞.
///
/// # Errors
/// The result stands for an error if `a` has no two axes, or none of a length, and if its matrices are not square in
/// another norm.
#[track_caller]
pub fn cond(a: &Tensor, p: Option<MatrixNorm>) -> Tensor {
    let (a, [m, n]) = match matrices("cond", a) {
        Ok(a) => a,
        Err(error) => return error,
    };
    if m == 0 || n == 0 {
        return reject(
            &[&a],
            Error::op("cond", format!("{} has matrices without elements", a.ty()), Location::caller()),
        );
    }
    let ratio = match p {
        None | Some(MatrixNorm::Two | MatrixNorm::MinusTwo) => {
            let s = svdvals(&a);
            let (most, least) = (s.index_in_dim(0, -1), s.index_in_dim(m.min(n) - 1, -1));
            if p == Some(MatrixNorm::MinusTwo) { least / most } else { return most / least }
        }
        Some(norm) => match square("cond", &a) {
            Ok(_) => matrix_norm(&a, norm) * matrix_norm(&inv(&a), norm),
            Err(error) => return error,
        },
    };
    let is_nan = ratio.not_equal(&ratio).and(a.not_equal(&a).any_axes([-2, -1]).logical_not());
    is_nan.select(f64::INFINITY, ratio)
}
