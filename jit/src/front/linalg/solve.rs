//! Equations: solutions, inverses, determinants.

use std::panic::Location;

use super::{
    Triangular, cholesky, diagonals, identity, lu, lu_pivots_to_permutation, one_batch, square, triangular_solve,
};
use crate::error::Error;
use crate::front::control::Scan;
use crate::front::operand::reject;
use crate::front::tensor::Tensor;
use crate::front::trace::apply;
use crate::graph::Op;
use crate::types::DType;

/// The X with A X = B: `jax.numpy.linalg.solve`.
///
/// `a` has shape `[…, n, n]`; `b` has `[n]`, one right-hand side for all matrices, or `[…, n, m]`. Batches broadcast;
/// where all share A, it is factorised once. A derivative is a solution with the same factors. A matrix that is singular
/// gives infinities and NaN.
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_jit::linalg::solve;
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let a = Tensor::from_vec(&[2, 2], vec![0.0f32, 2.0, 1.0, 0.0]).unwrap();
/// let x = solve(&a, &Tensor::from_vec(&[2], vec![4.0f32, 3.0]).unwrap()); // [3, 2]
/// # vec![x]
/// # }).unwrap();
/// ```
///
/// # Errors
/// The result stands for an error if matrices are not square, or shapes do not go together.
#[track_caller]
pub fn solve(a: &Tensor, b: &Tensor) -> Tensor {
    let (a, n) = match square("solve", a) {
        Ok(a) => a,
        Err(error) => return error,
    };
    let columns = if b.rank() == 1 { b.inexact().expand_dims(-1) } else { b.inexact() };
    if b.rank() == 0 || columns.shape()[columns.rank() - 2] != n {
        let why = format!("A X = B with {} and {}: the extents of A and of the rows of B differ", a.ty(), b.ty());
        return reject(&[&a, b], Error::op("solve", why, Location::caller()));
    }
    let x = if a.rank() == 2 && columns.rank() > 2 { solve_all(&a, &columns) } else { solve_each(&a, &columns) };
    if b.rank() == 1 { x.squeeze(-1) } else { x }
}

/// A batch of right-hand sides for one matrix: all are columns of one.
#[track_caller]
fn solve_all(a: &Tensor, b: &Tensor) -> Tensor {
    let (last, n) = (b.rank() - 2, a.shape()[0]);
    let (a, b) = a.promoted(b);
    let rows_first = b.move_axis(last, 0);
    let merged = rows_first.reshape(&[n, b.elements() / n.max(1)]);
    apply(Op::Solve { transpose_a: false }, &[&a, &merged], Location::caller())
        .reshape(rows_first.shape())
        .move_axis(0, last)
}

#[track_caller]
fn solve_each(a: &Tensor, b: &Tensor) -> Tensor {
    match one_batch("solve", (a, 2), (b, 2)) {
        Ok((a, b)) => apply(Op::Solve { transpose_a: false }, &[&a, &b], Location::caller()),
        Err(error) => error,
    }
}

/// The inverses of matrices: `jax.numpy.linalg.inv`. [`solve`] is more accurate than a product with an inverse.
///
/// `a` has shape `[…, n, n]`. A matrix that is singular gives infinities and NaN.
///
/// # Errors
/// The result stands for an error if the matrices are not square.
#[track_caller]
pub fn inv(a: &Tensor) -> Tensor {
    match square("inv", a) {
        Ok((a, _)) => apply(Op::Solve { transpose_a: false }, &[&a, &identity(&a)], Location::caller()),
        Err(error) => error,
    }
}

/// Element (i, j) of each matrix.
#[track_caller]
fn entry(a: &Tensor, i: usize, j: usize) -> Tensor {
    a.index_in_dim(j, -1).index_in_dim(i, -1)
}

#[track_caller]
fn det_2x2(a: &Tensor) -> Tensor {
    entry(a, 0, 0) * entry(a, 1, 1) - entry(a, 0, 1) * entry(a, 1, 0)
}

#[track_caller]
fn det_3x3(a: &Tensor) -> Tensor {
    let minor = |rows: [usize; 2]| {
        let [i, j] = rows;
        entry(a, i, 1) * entry(a, j, 2) - entry(a, i, 2) * entry(a, j, 1)
    };
    entry(a, 0, 0) * minor([1, 2]) - entry(a, 1, 0) * minor([0, 2]) + entry(a, 2, 0) * minor([0, 1])
}

/// The diagonal of U, and how many rows were exchanged.
#[track_caller]
fn pivots(a: &Tensor) -> (Tensor, Tensor) {
    let (lu, pivots, _) = lu(a);
    let place = Tensor::iota(DType::I32, pivots.shape(), pivots.rank() - 1);
    (diagonals(&lu), pivots.not_equal(place).convert(DType::I32).sum_axes(-1))
}

/// 1 for an even number, -1 for an odd one.
#[track_caller]
fn parity(count: &Tensor, dtype: DType) -> Tensor {
    (count % 2 * -2 + 1).convert(dtype)
}

/// The determinants of matrices: `jax.numpy.linalg.det`. Their gradients are right at singular matrices, too.
///
/// `a` has shape `[…, n, n]`, the result `[…]`.
///
/// # Errors
/// The result stands for an error if the matrices are not square.
#[track_caller]
pub fn det(a: &Tensor) -> Tensor {
    match square("det", a) {
        Ok((a, 1)) => entry(&a, 0, 0),
        Ok((a, 2)) => det_2x2(&a),
        Ok((a, 3)) => det_3x3(&a),
        Ok((a, _)) => {
            let (diagonal, exchanged) = pivots(&a);
            diagonal.prod_axes(-1) * parity(&exchanged, a.dtype())
        }
        Err(error) => error,
    }
}

/// The signs of determinants, 0 of singular matrices, and the logarithms of their magnitudes, -∞ there:
/// `jax.numpy.linalg.slogdet`.
///
/// `a` has shape `[…, n, n]`, the results `[…]`.
///
/// # Errors
/// The results stand for an error if the matrices are not square.
#[track_caller]
pub fn slogdet(a: &Tensor) -> (Tensor, Tensor) {
    let (a, n) = match square("slogdet", a) {
        Ok(a) => a,
        Err(error) => return (error.clone(), error),
    };
    if n == 1 || n == 2 {
        let det = if n == 1 { entry(&a, 0, 0) } else { det_2x2(&a) };
        return (det.sign(), det.abs().log());
    }
    let (diagonal, exchanged) = pivots(&a);
    let negative = diagonal.less(0.0).convert(DType::I32).sum_axes(-1);
    let is_singular = diagonal.equal(0.0).any_axes(-1);
    let sign = is_singular.select(0.0, parity(&(exchanged + negative), a.dtype()));
    (sign, is_singular.select(f64::NEG_INFINITY, diagonal.abs().log().sum_axes(-1)))
}

/// The logarithms of the determinants of symmetric, positive definite matrices, by their Cholesky factors: NaN of
/// others. `a` has shape `[…, n, n]`, the result `[…]`. See [`cholesky`].
///
/// # Errors
/// The result stands for an error if the matrices are not square.
#[track_caller]
pub fn logdet(a: &Tensor) -> Tensor {
    match square("logdet", a) {
        Ok((a, _)) => diagonals(&cholesky(&a)).log().sum_axes(-1) * 2.0,
        Err(error) => error,
    }
}

/// Which equations a factor stands for: A X = B or Aᵀ X = B.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transpose {
    /// A X = B.
    #[default]
    No,
    /// Aᵀ X = B.
    Yes,
}

/// The X with A X = B for triangular A, of which one triangle is read: `jax.scipy.linalg.solve_triangular`.
///
/// `a` has shape `[…, n, n]`; `b` has `[n]` or `[…, n, m]`. Batches broadcast. See [`triangular_solve`].
///
/// # Errors
/// The result stands for an error if matrices are not square, or shapes do not go together.
#[track_caller]
pub fn solve_triangular(a: &Tensor, b: &Tensor, trans: Transpose, lower: bool, unit_diagonal: bool) -> Tensor {
    let (a, _) = match square("solve_triangular", a) {
        Ok(a) => a,
        Err(error) => return error,
    };
    let columns = if b.rank() == 1 { b.inexact().expand_dims(-1) } else { b.inexact() };
    let how = Triangular { left_side: true, lower, transpose_a: trans == Transpose::Yes, unit_diagonal };
    if b.rank() == 0 {
        return triangular_solve(&a, &columns, how);
    }
    match one_batch("solve_triangular", (&a, 2), (&columns, 2)) {
        Ok((a, columns)) => {
            let x = triangular_solve(&a, &columns, how);
            if b.rank() == 1 { x.squeeze(-1) } else { x }
        }
        Err(error) => error,
    }
}

/// The X with A X = B, or Aᵀ X = B, from the results of [`lu_factor`](super::lu_factor): `jax.scipy.linalg.lu_solve`.
/// Shapes are those of [`solve`].
///
/// # Errors
/// The result stands for an error if shapes do not go together.
#[track_caller]
pub fn lu_solve((lu, pivots): (&Tensor, &Tensor), b: &Tensor, trans: Transpose) -> Tensor {
    let (lu, n) = match square("lu_solve", lu) {
        Ok(lu) => lu,
        Err(error) => return error,
    };
    let columns = if b.rank() == 1 { b.inexact().expand_dims(-1) } else { b.inexact() };
    if b.rank() == 0 || columns.shape()[columns.rank() - 2] != n {
        let why = format!("A X = B with {} and {}: the extents of A and of the rows of B differ", lu.ty(), b.ty());
        return reject(&[&lu, b], Error::op("lu_solve", why, Location::caller()));
    }
    let (lu, columns) = match one_batch("lu_solve", (&lu, 2), (&columns, 2)) {
        Ok(both) => both,
        Err(error) => return error,
    };
    let order = lu_pivots_to_permutation(pivots, n);
    let order = order.broadcast_to(&lu.shape()[..lu.rank() - 1]);
    let how =
        |lower: bool| Triangular { left_side: true, lower, transpose_a: trans == Transpose::Yes, unit_diagonal: lower };
    let rows = columns.rank() as isize - 2;
    let x = if trans == Transpose::Yes {
        let x = triangular_solve(&lu, &triangular_solve(&lu, &columns, how(false)), how(true));
        // The inverse of the order.
        let index = order.argsort(-1).expand_dims(-1).broadcast_to(columns.shape());
        x.take_along_axis(&index, rows)
    } else {
        let index = order.expand_dims(-1).broadcast_to(columns.shape());
        triangular_solve(&lu, &triangular_solve(&lu, &columns.take_along_axis(&index, rows), how(true)), how(false))
    };
    if b.rank() == 1 { x.squeeze(-1) } else { x }
}

/// The X with A X = B from the result of [`cho_factor`](super::cho_factor): `jax.scipy.linalg.cho_solve`. Shapes are
/// those of [`solve`].
///
/// # Errors
/// As [`solve`].
#[track_caller]
pub fn cho_solve((factor, lower): (&Tensor, bool), b: &Tensor) -> Tensor {
    let [first, second] = if lower { [Transpose::No, Transpose::Yes] } else { [Transpose::Yes, Transpose::No] };
    solve_triangular(factor, &solve_triangular(factor, b, first, lower, false), second, lower, false)
}

/// The X with A X = B for tridiagonal matrices A: `jax.lax.linalg.tridiagonal_solve`, with partial pivoting as LAPACK's
/// `gtsv` has it.
///
/// `dl`, `d` and `du` are the diagonals below, on and above the main one, of `[…, n]` each; the first of `dl` and the last
/// of `du` are not part of A. `b` has `[…, n, m]`.
///
/// # Errors
/// The result stands for an error if shapes or element types differ.
#[track_caller]
pub fn tridiagonal_solve(dl: &Tensor, d: &Tensor, du: &Tensor, b: &Tensor) -> Tensor {
    let location = Location::caller();
    let is_one_type = [dl, d, du].iter().all(|x| x.ty() == d.ty()) && b.dtype() == d.dtype() && d.dtype().is_float();
    if !is_one_type || d.rank() == 0 || b.rank() != d.rank() + 1 || b.shape()[..d.rank()] != *d.shape() {
        let types: Vec<String> = [dl, d, du, b].map(|x| x.ty().to_string()).into();
        let why = format!("takes diagonals of one type and right-hand sides of as many rows, not {}", types.join(", "));
        return reject(&[dl, d, du, b], Error::op("tridiagonal_solve", why, location));
    }
    let (axis, n) = (d.rank() - 1, d.shape()[d.rank() - 1]);
    if n == 0 {
        return b.clone();
    }
    // Diagonals have an axis for the columns of b, so that all broadcast. The rows are the first axis.
    let rows =
        |x: &Tensor| if x.rank() == b.rank() { x.move_axis(axis, 0) } else { x.expand_dims(-1).move_axis(axis, 0) };
    let place = Tensor::arange(DType::I32, n).reshape(&[&[n][..], &vec![1; axis + 1]].concat());
    let above = place.equal(n as i32 - 1).select(0.0, rows(du));
    let (below, diagonal, right) = (rows(dl), rows(d), rows(b));
    let head = |x: &Tensor| x.index_in_dim(0, 0);
    let tail = |x: &Tensor| x.slice_in_dim(0, 1..n);
    // Elimination: the pending row has elements at i and i + 1. Of it and the next the larger element becomes the pivot.
    type Row = (Tensor, Tensor, Tensor);
    let eliminate = |(x, y, b): Row, (next_x, next_y, next_z, next_b): (Tensor, Tensor, Tensor, Tensor)| {
        let stays = x.abs().greater_equal(next_x.abs());
        let by = stays.select(&next_x / &x, &x / &next_x);
        // The pivot row from i on, and the other one from i + 1 on.
        let (p0, p1, p2) = (stays.select(&x, &next_x), stays.select(&y, &next_y), stays.select(0.0, &next_z));
        let (q1, q2) = (stays.select(&next_y, &y), stays.select(&next_z, 0.0));
        let (pb, qb) = (stays.select(&b, &next_b), stays.select(&next_b, &b));
        let pending = (&q1 - &by * &p1, &q2 - &by * &p2, &qb - &by * &pb);
        (pending, (p0, p1, p2, pb))
    };
    let start = (head(&diagonal), head(&above), head(&right));
    let rest = (tail(&below), tail(&diagonal), tail(&above), tail(&right));
    let ((last, _, last_b), pivots) = Scan { length: Some(n - 1), reverse: false }.run(eliminate, start, rest);
    // Back substitution.
    let x_last = last_b / last;
    let substitute = |(x1, x2): (Tensor, Tensor), (p0, p1, p2, pb): (Tensor, Tensor, Tensor, Tensor)| {
        let x = (pb - p1 * &x1 - p2 * x2) / p0;
        ((x.clone(), x1), x)
    };
    let init = (x_last.clone(), x_last.zeros_like());
    let (_, xs) = Scan { length: Some(n - 1), reverse: true }.run(substitute, init, pivots);
    Tensor::concat(&[&xs, &x_last.expand_dims(0)], 0).move_axis(0, axis)
}

/// The X with `tensordot(A, X, X.ndim) = B`: `jax.numpy.linalg.tensorsolve`, without its `axes`. The axes of `a` are
/// those of `b`, then those of the result.
///
/// # Errors
/// The result stands for an error if the two lists of axes do not have as many elements.
#[track_caller]
pub fn tensorsolve(a: &Tensor, b: &Tensor) -> Tensor {
    let n = b.elements();
    let fits = a.rank() >= b.rank() && a.shape()[..b.rank()] == *b.shape() && a.elements() == n * n;
    if !fits {
        let why = format!("{} and {} are no equations with as many unknowns", a.ty(), b.ty());
        return reject(&[a, b], Error::op("tensorsolve", why, Location::caller()));
    }
    solve(&a.reshape(&[n, n]), &b.reshape(&[n])).reshape(&a.shape()[b.rank()..])
}

/// The inverse of the map of [`tensordot`](super::tensordot) over `ind` axes: `jax.numpy.linalg.tensorinv`.
///
/// # Errors
/// The result stands for an error if the first `ind` axes do not have as many elements as the others.
#[track_caller]
pub fn tensorinv(a: &Tensor, ind: usize) -> Tensor {
    let (first, rest) = a.shape().split_at(ind.min(a.rank()));
    let n: usize = first.iter().product();
    if ind == 0 || n != rest.iter().product::<usize>() {
        let why = format!("the first {ind} axes of {} do not have as many elements as the others", a.ty());
        return reject(&[a], Error::op("tensorinv", why, Location::caller()));
    }
    let shape = [rest, first].concat();
    if a.dtype().is_float() { inv(&a.reshape(&[n, n])).reshape(&shape) } else { tensorinv(&a.convert(DType::F32), ind) }
}
