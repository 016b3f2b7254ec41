//! Rules of decompositions: tangents of LU, QR, eigenvalue and singular value factors, and of solutions.
//!
//! Comes in: a matrix, its factors, and a tangent. Goes out: the tangents of the factors. Where JAX has rules, these are
//! its formulas. Eigenvectors of equal eigenvalues, and singular vectors of equal singular values, have no derivative:
//! it is NaN or infinite, as in JAX; those of the values are right. All products have all bits, as they are parts of
//! solutions.

use std::panic::Location;

use fulgurite_jit::graph::{Node, Op};
use fulgurite_jit::linalg::Triangular;
use fulgurite_jit::trace::{apply, poison};
use fulgurite_jit::{Error, Tensor};
use smallvec::{SmallVec, smallvec};

use super::linalg::{self, positions, product};

const UPPER_ON_RIGHT: Triangular =
    Triangular { left_side: false, lower: false, transpose_a: false, unit_diagonal: false };

/// The op `solve`.
#[track_caller]
pub(super) fn solve(transpose_a: bool, a: &Tensor, b: &Tensor) -> Tensor {
    apply(Op::Solve { transpose_a }, &[a, b], Location::caller())
}

/// From A X = B: dX = A⁻¹ (dB - dA X): another solution with the same factors.
pub(super) fn tangent_of_solution(
    transpose_a: bool,
    a: &Tensor,
    x: &Tensor,
    da: Option<&Tensor>,
    db: Option<&Tensor>,
) -> Option<Tensor> {
    let change = da.map(|da| product(&if transpose_a { da.t() } else { da.clone() }, x));
    let right_hand_side = match (db, change) {
        (Some(db), Some(change)) => db - change,
        (None, Some(change)) => -change,
        (Some(db), None) => db.clone(),
        (None, None) => return None,
    };
    Some(solve(transpose_a, a, &right_hand_side))
}

/// The tangents of the results of a decomposition of `a`.
pub(super) fn tangents(node: &Node, a: &Tensor, results: &[Tensor], da: &Tensor) -> SmallVec<[Option<Tensor>; 3]> {
    let has_elements = a.elements() > 0;
    match (&node.op, results) {
        (Op::Lu, [lu, _, permutation]) if has_elements => smallvec![Some(of_lu(lu, permutation, da)), None, None],
        (Op::Qr { .. }, [q, r]) if has_elements => match is_unique(node, a, "q") {
            Ok(()) => of_qr(a, q, r, da).map(Some).into_iter().collect(),
            Err(error) => [q, r].map(|x| Some(poison(x.ty().clone(), error.clone()))).into_iter().collect(),
        },
        (Op::Eigh, [w, v]) => of_eigh(w, v, da).map(Some).into_iter().collect(),
        (Op::Svd { .. }, [u, s, vt]) => match is_unique(node, a, "u") {
            Ok(()) => of_svd(a, u, s, vt, da).map(Some).into_iter().collect(),
            Err(error) => [u, s, vt].map(|x| Some(poison(x.ty().clone(), error.clone()))).into_iter().collect(),
        },
        // Nothing depends on a matrix without elements.
        (_, results) => results.iter().map(|_| None).collect(),
    }
}

/// Columns behind those that the matrix determines have no derivative.
fn is_unique(node: &Node, a: &Tensor, name: &str) -> Result<(), Error> {
    let (m, n) = extents(a);
    match node.op {
        Op::Qr { full_matrices: true } | Op::Svd { full_matrices: true } if m > n && n > 0 => {
            let why = format!("with full_matrices has no derivative for {}: {name} has columns of any choice", a.ty());
            Err(Error::op(node.op.name(), why, node.location_or_caller()))
        }
        _ => Ok(()),
    }
}

/// The extents of the last two axes.
fn extents(a: &Tensor) -> (usize, usize) {
    let [.., m, n] = a.shape() else { unreachable!("the op takes matrices") };
    (*m, *n)
}

/// The first so many rows and columns of the matrices.
fn corner(x: &Tensor, rows: usize, columns: usize) -> Tensor {
    x.slice_in_dim(-2, 0..rows).slice_in_dim(-1, 0..columns)
}

/// The matrices with zeros after the last row, and the last column.
fn grown(x: &Tensor, rows: usize, columns: usize) -> Tensor {
    let (m, n) = extents(x);
    let mut high = vec![0; x.rank()];
    (high[x.rank() - 2], high[x.rank() - 1]) = ((rows - m) as isize, (columns - n) as isize);
    x.pad(0.0, &vec![0; x.rank()], &high, &vec![0; x.rank()])
}

/// The tangent of the packed factors. With `X = L⁻¹ P dA U⁻¹`: dL = L stril X, dU = triu X U, where `stril` is the part
/// below the diagonal; L and U of rectangular matrices are made square with ones on the diagonal. As triu X U is
/// `L⁻¹ P dA - stril X U`, the last pivot divides nothing of a square matrix: so the derivative of the determinant of a
/// matrix of rank n - 1 is right, too.
fn of_lu(lu: &Tensor, permutation: &Tensor, da: &Tensor) -> Tensor {
    let (m, n) = extents(lu);
    let k = m.min(n);
    let (row, column) = positions(lu);
    let below = row.greater(&column);
    let l = grown(&corner(&below.select(lu, 0.0), m, k), m, m);
    let u = grown(&corner(&below.select(0.0, lu), k, n), n, n);
    // Ones on the diagonal behind the factor, and, of a matrix without rows behind the last pivot, for that.
    let (row, column) = positions(&u);
    let is_one = row.equal(&column).and(row.greater_equal(if m <= n { k - 1 } else { k } as i32));
    let divisor = is_one.select(1.0, &u);
    let unit = Triangular { left_side: true, lower: true, transpose_a: false, unit_diagonal: true };
    let y = linalg::solve(unit, &l, &permuted(da, permutation));
    let x = linalg::solve(UPPER_ON_RIGHT, &divisor, &y);
    let (row, column) = positions(&y);
    let below = row.greater(&column);
    let strict = below.select(x, 0.0);
    // L has ones on the diagonal, which are not in `l`.
    let dl = product(&l, &strict) + &strict;
    let du = y - product(&strict, &u);
    below.select(dl, du)
}

/// The rows in another order: row i is row `order[i]`.
fn permuted(x: &Tensor, order: &Tensor) -> Tensor {
    let m = extents(x).0;
    // A product with a matrix of zeros and ones would spoil what is infinite.
    let index = order.expand_dims(-1).broadcast_to(x.shape());
    debug_assert_eq!(index.shape()[x.rank() - 2], m);
    x.take_along_axis(&index, x.rank() as isize - 2)
}

/// With X = dA R⁻¹ and D = stril(Qᵀ X): dQ = Q (D - Dᵀ - Qᵀ X) + X and dR = (Qᵀ X - D + Dᵀ) R: Walter, Lehmann,
/// "Algorithmic differentiation of linear algebra functions with application in optimum experimental design"
/// (arXiv 1001.1654); Townsend, "Differentiating the QR decomposition" (2018). Columns behind the first m of a wide
/// matrix have R = Qᵀ A.
fn of_qr(a: &Tensor, q: &Tensor, r: &Tensor, da: &Tensor) -> [Tensor; 2] {
    let (m, n) = extents(a);
    let k = m.min(n);
    let (r_first, da_first) = (corner(r, k, k), corner(da, m, k));
    let x = linalg::solve(UPPER_ON_RIGHT, &r_first, &da_first);
    let qx = product(&q.t(), &x);
    let (row, column) = positions(&qx);
    let strict = row.greater(&column).select(&qx, 0.0);
    let change = &strict - strict.t();
    let dq = product(q, &(&change - &qx)) + x;
    let dr = product(&(qx - change), &r_first);
    if n <= m {
        return [dq, dr];
    }
    let rest = |x: &Tensor| x.slice_in_dim(-1, k..n);
    let dr_rest = product(&dq.t(), &rest(a)) + product(&q.t(), &rest(da));
    let dr = Tensor::concat(&[&dr, &dr_rest], -1);
    [dq, dr]
}

/// dw = diag(Vᵀ dA V) and dV = V (F ∘ Vᵀ dA V), with F = 1 / (wⱼ - wᵢ) off the diagonal: Giles, "An extended collection
/// of matrix derivative results for forward and reverse mode algorithmic differentiation", NA-08-01 (2008), 3.1. Of A
/// the lower triangle is read, and so it is of dA.
fn of_eigh(w: &Tensor, v: &Tensor, da: &Tensor) -> [Tensor; 2] {
    let (row, column) = positions(da);
    let da = row.greater_equal(&column).select(da, da.t());
    let inner = product(&product(&v.t(), &da), v);
    let difference = w.expand_dims(-2) - w.expand_dims(-1);
    let dv = product(v, &(reciprocal(&difference) * &inner));
    [diagonal(&inner), dv]
}

/// The reciprocals of the elements off the diagonal, which is 0.
fn reciprocal(x: &Tensor) -> Tensor {
    let (row, column) = positions(x);
    let is_diagonal = row.equal(&column);
    is_diagonal.select(0.0, 1.0 / is_diagonal.select(1.0, x))
}

/// The diagonals of square matrices.
fn diagonal(x: &Tensor) -> Tensor {
    let (row, column) = positions(x);
    row.equal(&column).select(x, 0.0).sum_axes(-1)
}

/// With P = Uᵀ dA V: ds = diag P, dU = U (F ∘ (P S + S Pᵀ)) + (1 - U Uᵀ) dA V S⁻¹ and dV = V (F ∘ (S P + Pᵀ S)), with
/// F = 1 / (sⱼ² - sᵢ²) off the diagonal: Giles (2008), 3.2; Townsend, "Differentiating the singular value decomposition"
/// (2016).
fn of_svd(a: &Tensor, u: &Tensor, s: &Tensor, vt: &Tensor, da: &Tensor) -> [Tensor; 3] {
    let (m, n) = extents(a);
    let (v, ut) = (vt.t(), u.t());
    let dav = product(da, &v);
    let p = product(&ut, &dav);
    let (by_column, by_row) = (s.expand_dims(-2), s.expand_dims(-1));
    let f = reciprocal(&((&by_column + &by_row) * (&by_column - &by_row)));
    let (ps, sp) = (&p * &by_column, &p * &by_row);
    let mut du = product(u, &(&f * (&ps + ps.t())));
    let dv = product(&v, &(&f * (&sp + sp.t())));
    if m > n {
        du = du + (&dav - product(u, &p)) / by_column;
    }
    [du, diagonal(&p), dv.t()]
}
