//! Matrices of a special form, and what is read off matrices.

use std::panic::Location;

use super::{positions, product};
use crate::error::Error;
use crate::front::operand::{promoted_dtype, reject};
use crate::front::tensor::Tensor;
use crate::types::{DType, TensorType};

/// The elements of each matrix `offset` columns right of the diagonal, or rows below it where it is negative:
/// `jax.numpy.diagonal` along the last two axes.
///
/// # Errors
/// The result stands for an error if `x` has no two axes.
#[track_caller]
pub fn diagonal(x: &Tensor, offset: isize) -> Tensor {
    let [.., m, n] = *x.shape() else {
        let why = format!("takes matrices along the last two axes, not {}", x.ty());
        return reject(&[x], Error::op("diagonal", why, Location::caller()));
    };
    let (down, right) = (offset.min(0).unsigned_abs().min(m), offset.max(0).unsigned_abs().min(n));
    let count = (m - down).min(n - right);
    let x = x.slice_in_dim(-2, down..down + count).slice_in_dim(-1, right..right + count);
    let (row, column) = positions(&x);
    let selected = row.equal(&column).select(&x, x.zeros_like());
    if x.dtype() == DType::Bool { selected.any_axes(-1) } else { selected.sum_axes(-1).convert(x.dtype()) }
}

/// The sum of a diagonal of each matrix: `jax.numpy.trace` along the last two axes. See [`diagonal`].
///
/// # Errors
/// The result stands for an error if `x` has no two axes.
#[track_caller]
pub fn trace(x: &Tensor, offset: isize) -> Tensor {
    if x.dtype() == DType::Bool {
        return trace(&x.convert(DType::I32), offset);
    }
    let diagonal = diagonal(x, offset);
    if diagonal.rank() == 0 { diagonal } else { diagonal.sum_axes(-1) }
}

/// Matrices along the diagonal of one, with zeros elsewhere: `jax.scipy.linalg.block_diag`. Vectors are rows, and
/// scalars are matrices of one element.
///
/// # Errors
/// The result stands for an error if there is no operand, or one has more than two axes.
#[track_caller]
pub fn block_diag(blocks: &[&Tensor]) -> Tensor {
    let location = Location::caller();
    let Some(first) = blocks.first() else {
        let error = Error::op("block_diag", "takes at least one operand", location);
        return Tensor::failed(TensorType::scalar(DType::F32), error);
    };
    if let Some(bad) = blocks.iter().find(|x| x.rank() > 2) {
        let why = format!("takes matrices, not {}", bad.ty());
        return reject(blocks, Error::op("block_diag", why, location));
    }
    let dtype = blocks.iter().map(|x| x.dtype()).fold(first.dtype(), promoted_dtype);
    let shape = |x: &Tensor| match *x.shape() {
        [m, n] => [m, n],
        [n] => [1, n],
        _ => [1, 1],
    };
    let width: usize = blocks.iter().map(|x| shape(x)[1]).sum();
    let mut rows = Vec::new();
    let mut before = 0;
    for x in blocks {
        let [m, n] = shape(x);
        let x = x.reshape(&[m, n]).convert(dtype);
        let (low, high) = ([0, before as isize], [0, (width - before - n) as isize]);
        rows.push(if dtype == DType::Bool {
            x.pad(false, &low, &high, &[0, 0])
        } else {
            x.pad(0, &low, &high, &[0, 0])
        });
        before += n;
    }
    Tensor::concat(&rows.iter().collect::<Vec<_>>(), 0)
}

/// The matrices whose element (i, j) is `c[i - j]`, or `r[j - i]` above the diagonal: `jax.scipy.linalg.toeplitz`. `c`
/// has `[…, m]` and `r` has `[…, n]`, whose first element is not read.
///
/// # Errors
/// The result stands for an error if an operand has no axis.
#[track_caller]
pub fn toeplitz(c: &Tensor, r: &Tensor) -> Tensor {
    let location = Location::caller();
    if c.rank() == 0 || r.rank() == 0 {
        let why = format!("takes a column and a row, not {} and {}", c.ty(), r.ty());
        return reject(&[c, r], Error::op("toeplitz", why, location));
    }
    let (c, r) = match super::one_batch("toeplitz", (c, 1), (r, 1)) {
        Ok(both) => both,
        Err(error) => return error,
    };
    let (m, n) = (c.shape()[c.rank() - 1], r.shape()[r.rank() - 1]);
    if m == 0 || n == 0 {
        let mut shape = c.shape().to_vec();
        shape.push(n);
        return Tensor::full(&shape, 0, c.dtype());
    }
    // Elements from the last of the column to the last of the row; row i of the result begins at m - 1 - i.
    let line = Tensor::concat(&[&c.flip(-1), &r.slice_in_dim(-1, 1..n)], -1);
    let mut rows = Vec::new();
    for i in 0..m {
        rows.push(line.slice_in_dim(-1, m - 1 - i..m - 1 - i + n));
    }
    Tensor::stack(&rows.iter().collect::<Vec<_>>(), -2)
}

/// The matrix of powers of the elements of a vector, `n` of each, from `n - 1` to 0, or from 0 on where they are to be
/// increasing: `jax.numpy.vander`.
///
/// # Errors
/// The result stands for an error if `x` is no vector.
#[track_caller]
pub fn vander(x: &Tensor, n: usize, increasing: bool) -> Tensor {
    if x.rank() != 1 {
        let why = format!("takes a vector, not {}", x.ty());
        return reject(&[x], Error::op("vander", why, Location::caller()));
    }
    if n == 0 {
        return Tensor::full(&[x.elements(), 0], 0, x.dtype());
    }
    let mut powers = Vec::new();
    for k in 0..n {
        let k = if increasing { k } else { n - 1 - k };
        powers.push(if k == 0 { x.ones_like() } else { x.powi(k as i32) });
    }
    Tensor::stack(&powers.iter().collect::<Vec<_>>(), 1)
}

/// The covariance matrix of variables, the rows of `x`, from observations, its columns: `jax.numpy.cov`. `ddof` is what
/// the number of observations is reduced by; JAX's default is 1. A vector is one variable, whose variance is a scalar.
///
/// # Errors
/// The result stands for an error if `x` has more than two axes, or none.
#[track_caller]
pub fn cov(x: &Tensor, ddof: usize) -> Tensor {
    let location = Location::caller();
    let x = x.inexact();
    if x.rank() != 2 {
        if x.rank() == 1 {
            return cov(&x.expand_dims(0), ddof);
        }
        let why = format!("takes a matrix of variables and observations, not {}", x.ty());
        return reject(&[&x], Error::op("cov", why, location));
    }
    let count = x.shape()[1] as f64 - ddof as f64;
    let centred = &x - x.mean_keep(-1);
    let cov = product(&centred, &centred.t()) / count;
    if x.shape()[0] == 1 { cov.reshape(&[]) } else { cov }
}

/// The correlation coefficients of variables: [`cov`], divided by the standard deviations, and at most 1:
/// `jax.numpy.corrcoef`.
///
/// # Errors
/// As [`cov`].
#[track_caller]
pub fn corrcoef(x: &Tensor) -> Tensor {
    let c = cov(x, 1);
    if c.rank() < 2 {
        // 1, or NaN without a variance.
        return c.true_divide(&c);
    }
    let deviation = diagonal(&c, 0).sqrt();
    (c / deviation.expand_dims(1) / deviation.expand_dims(0)).clip(-1.0, 1.0)
}
