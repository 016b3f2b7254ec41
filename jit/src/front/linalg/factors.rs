//! Decompositions: LU, QR, eigenvalues of symmetric matrices, singular values, packed Cholesky factors.

use std::panic::Location;

use super::{matrices, square};
use crate::error::Error;
use crate::front::control::scan;
use crate::front::operand::reject;
use crate::front::tensor::Tensor;
use crate::front::trace::{apply, apply_all};
use crate::graph::Op;
use crate::types::DType;

/// The results of an op that has three, or two of them.
#[track_caller]
fn results<const N: usize>(op: Op, a: &Tensor) -> [Tensor; N] {
    let results = apply_all(op, &[a], Location::caller());
    std::array::from_fn(|i| results[i].clone())
}

/// LU factors with partial pivoting, `A[p] = L U`: `jax.lax.linalg.lu`.
///
/// `a` has shape `[…, m, n]`. The results are the packed factors `[…, m, n]`, L below the diagonal, where it has ones,
/// and U on and above it; the rows that were exchanged, i32 `[…, min(m, n)]`; and the order p of the rows, i32
/// `[…, m]`. A matrix that is singular gives a U that is.
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_jit::linalg::lu;
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let a = Tensor::from_vec(&[2, 2], vec![1.0f32, 2.0, 4.0, 4.0]).unwrap();
/// let (lu, pivots, order) = lu(&a); // [[4, 4], [0.25, 1]], [1, 1], [1, 0]
/// # vec![lu, pivots, order]
/// # }).unwrap();
/// ```
///
/// # Errors
/// The results stand for an error if `a` has no two axes.
#[track_caller]
pub fn lu(a: &Tensor) -> (Tensor, Tensor, Tensor) {
    match matrices("lu", a) {
        Ok((a, _)) => {
            let [lu, pivots, order] = results(Op::Lu, &a);
            (lu, pivots, order)
        }
        Err(error) => (error.clone(), error.clone(), error),
    }
}

/// The packed factors and the rows that were exchanged, of square matrices: `jax.scipy.linalg.lu_factor`. See [`lu`].
///
/// # Errors
/// As [`lu`].
#[track_caller]
pub fn lu_factor(a: &Tensor) -> (Tensor, Tensor) {
    let (lu, pivots, _) = lu(a);
    (lu, pivots)
}

/// The order of `size` rows after row i was exchanged with row `pivots[i]`, for each i in turn:
/// `jax.lax.linalg.lu_pivots_to_permutation`. `pivots` is of i32, `[…, k]`; the result `[…, size]`.
///
/// # Errors
/// The result stands for an error if `pivots` has no axis, is of another type, or more than `size`.
#[track_caller]
pub fn lu_pivots_to_permutation(pivots: &Tensor, size: usize) -> Tensor {
    let location = Location::caller();
    let count = pivots.shape().last().copied();
    if pivots.dtype() != DType::I32 || count.is_none_or(|count| count > size) {
        let why = format!("takes i32 numbers of at most {size} rows along the last axis, not {}", pivots.ty());
        return reject(&[pivots], Error::op("lu_pivots_to_permutation", why, location));
    }
    let mut shape = pivots.shape().to_vec();
    let axis = shape.len() - 1;
    shape[axis] = size;
    let start = Tensor::iota(DType::I32, &shape, axis);
    let steps = Tensor::arange(DType::I32, count.unwrap_or(0));
    let place = start.clone();
    let exchange = |order: Tensor, (step, pivot): (Tensor, Tensor)| {
        let (here, there) = (place.equal(&step), place.equal(pivot.expand_dims(-1)));
        let at = |mask: &Tensor| mask.select(&order, 0).sum_keep(-1);
        let (x, y) = (at(&here), at(&there));
        (here.select(y, there.select(x, &order)), ())
    };
    scan(exchange, start, (steps, pivots.move_axis(axis, 0))).0
}

/// QR factors: Q with orthonormal columns and R, upper triangular, `A = Q R`: `jax.numpy.linalg.qr`.
///
/// `a` has shape `[…, m, n]`; with `k = min(m, n)`, Q has `[…, m, k]` and R `[…, k, n]`. The signs are LAPACK's: the
/// diagonal of R has any. [`qr_complete`] gives a square Q, and [`qr_r`] R alone.
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_jit::linalg::qr;
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let a = Tensor::from_vec(&[2, 1], vec![3.0f32, 4.0]).unwrap();
/// let (q, r) = qr(&a); // [[-0.6], [-0.8]] and [[-5]]
/// # vec![q, r]
/// # }).unwrap();
/// ```
///
/// # Errors
/// The results stand for an error if `a` has no two axes.
#[track_caller]
pub fn qr(a: &Tensor) -> (Tensor, Tensor) {
    qr_of(a, false)
}

/// QR factors with a square Q: `jax.numpy.linalg.qr` with `mode="complete"`. With `a` of `[…, m, n]`, Q has `[…, m, m]`
/// and R `[…, m, n]`. See [`qr`].
///
/// # Errors
/// As [`qr`]; and the derivative for matrices with more rows than columns is one, as it is in JAX.
#[track_caller]
pub fn qr_complete(a: &Tensor) -> (Tensor, Tensor) {
    qr_of(a, true)
}

/// The factor R of [`qr`]: `jax.numpy.linalg.qr` with `mode="r"`.
///
/// # Errors
/// As [`qr`].
#[track_caller]
pub fn qr_r(a: &Tensor) -> Tensor {
    qr_of(a, false).1
}

#[track_caller]
fn qr_of(a: &Tensor, full_matrices: bool) -> (Tensor, Tensor) {
    match matrices("qr", a) {
        Ok((a, _)) => {
            let [q, r] = results(Op::Qr { full_matrices }, &a);
            (q, r)
        }
        Err(error) => (error.clone(), error),
    }
}

/// The eigenvalues, ascending, and the eigenvectors, in columns, of symmetric matrices: `jax.numpy.linalg.eigh`.
///
/// `a` has shape `[…, n, n]`, and is made symmetric first, `(A + Aᵀ) / 2`; the results have `[…, n]` and `[…, n, n]`.
/// Of the elements of an eigenvector the largest is positive. Eigenvectors of equal eigenvalues have no derivative: it
/// is infinite or NaN, as in JAX. The eigenvalues have one, except that of equal ones it is that of some order.
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_jit::linalg::eigh;
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let a = Tensor::from_vec(&[2, 2], vec![0.0f32, 2.0, 2.0, 0.0]).unwrap();
/// let (w, v) = eigh(&a); // [-2, 2]
/// # vec![w, v]
/// # }).unwrap();
/// ```
///
/// # Errors
/// The results stand for an error if the matrices are not square.
#[track_caller]
pub fn eigh(a: &Tensor) -> (Tensor, Tensor) {
    match square("eigh", a) {
        Ok((a, _)) => {
            let [w, v] = results(Op::Eigh, &((&a + a.t()) / 2.0));
            (w, v)
        }
        Err(error) => (error.clone(), error),
    }
}

/// The eigenvalues of [`eigh`]: `jax.numpy.linalg.eigvalsh`.
///
/// # Errors
/// As [`eigh`].
#[track_caller]
pub fn eigvalsh(a: &Tensor) -> Tensor {
    eigh(a).0
}

/// The singular value decomposition, `A = U diag(s) Vᵀ`, with s descending: `jax.numpy.linalg.svd`.
///
/// `a` has shape `[…, m, n]`; with `k = min(m, n)`, U has `[…, m, k]`, s `[…, k]` and Vᵀ `[…, k, n]`, or `[…, m, m]` and
/// `[…, n, n]` with `full_matrices`. Of the elements of a singular vector (of the shorter of U's and V's) the largest is
/// positive. Vectors of equal singular values have no derivative: it is infinite or NaN, as in JAX.
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_jit::linalg::svd;
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let a = Tensor::from_vec(&[1, 2], vec![3.0f32, 4.0]).unwrap();
/// let (u, s, vt) = svd(&a, false); // [[1]], [5], [[0.6, 0.8]]
/// # vec![u, s, vt]
/// # }).unwrap();
/// ```
///
/// # Errors
/// The results stand for an error if `a` has no two axes; and so does the derivative with `full_matrices` of matrices
/// that are not square, as in JAX.
#[track_caller]
pub fn svd(a: &Tensor, full_matrices: bool) -> (Tensor, Tensor, Tensor) {
    let (a, [m, n]) = match matrices("svd", a) {
        Ok(a) => a,
        Err(error) => return (error.clone(), error.clone(), error),
    };
    if m < n {
        // Aᵀ = V diag(s) Uᵀ.
        let [v, s, ut] = results(Op::Svd { full_matrices }, &a.t());
        return (ut.t(), s, v.t());
    }
    let [u, s, vt] = results(Op::Svd { full_matrices }, &a);
    (u, s, vt)
}

/// The singular values, descending: `jax.numpy.linalg.svdvals`.
///
/// # Errors
/// As [`svd`].
#[track_caller]
pub fn svdvals(a: &Tensor) -> Tensor {
    svd(a, false).1
}

/// The Cholesky factor of symmetric, positive definite matrices, and whether it is the lower one, for
/// [`cho_solve`](super::cho_solve): `jax.scipy.linalg.cho_factor`. Of `a` the triangle named by `lower` is read. See
/// [`cholesky`](super::cholesky).
///
/// # Errors
/// The result stands for an error if the matrices are not square.
#[track_caller]
pub fn cho_factor(a: &Tensor, lower: bool) -> (Tensor, bool) {
    let a = match square("cho_factor", a) {
        Ok((a, _)) => a,
        Err(error) => return (error, lower),
    };
    let location = Location::caller();
    if lower {
        (apply(Op::Cholesky, &[&a], location), true)
    } else {
        (apply(Op::Cholesky, &[&a.t()], location).t(), false)
    }
}
