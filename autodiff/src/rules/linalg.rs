//! Rules of linear algebra: tangents, transposes and batches of Cholesky factors and triangular systems of equations.
//!
//! Comes in: what `jvp`, `transpose` and `batch` have of the op. Goes out: a tangent, a cotangent, or the op on a
//! batch.

use std::panic::Location;

use fulgurite_jit::graph::{DotAxes, Op, Precision};
use fulgurite_jit::linalg::Triangular;
use fulgurite_jit::trace::apply;
use fulgurite_jit::{DType, Tensor};

use super::Batched;

/// The op `triangular_solve`.
#[track_caller]
pub(super) fn solve(how: Triangular, a: &Tensor, b: &Tensor) -> Tensor {
    apply(Op::TriangularSolve(how), &[a, b], Location::caller())
}

/// The product of the matrices along the last two axes, with all bits, as in JAX: they are part of a solution.
pub(super) fn product(x: &Tensor, y: &Tensor) -> Tensor {
    let axis = x.rank() - 2;
    let axes = DotAxes { batch: (0..axis).map(|axis| (axis, axis)).collect(), contract: [(axis + 1, axis)][..].into() };
    x.dot_general_in(y, axes, Some(Precision::Highest))
}

/// The row and the column of each element of the matrices along the last two axes.
pub(super) fn positions(x: &Tensor) -> (Tensor, Tensor) {
    let index = |from_end: usize| Tensor::iota(DType::I32, x.shape(), x.rank() - from_end);
    (index(2), index(1))
}

/// From L Lᵀ = A: dL = L Φ(L⁻¹ dA L⁻ᵀ), where Φ is the lower triangle with half of the diagonal: Murray,
/// "Differentiation of the Cholesky decomposition", arXiv 1602.07527 (2016), equation 8. dA is symmetric, as A is; what
/// it is worth where it is not, is JAX's.
pub(super) fn tangent_of_cholesky(l: &Tensor, da: &Tensor) -> Tensor {
    let (row, column) = positions(da);
    let right = Triangular { lower: true, transpose_a: true, ..Triangular::default() };
    let left = Triangular { left_side: true, lower: true, ..Triangular::default() };
    let inner = solve(left, l, &solve(right, l, da));
    let half = row.equal(&column).select(&inner * 0.5, 0.0);
    product(l, &row.greater(&column).select(inner, half))
}

/// From A X = B: dX = A⁻¹ (dB - dA X), and from X A = B: dX = (dB - X dA) A⁻¹.
pub(super) fn tangent_of_solution(
    how: Triangular,
    a: &Tensor,
    x: &Tensor,
    da: Option<&Tensor>,
    db: Option<&Tensor>,
) -> Option<Tensor> {
    let change = da.map(|da| {
        let (row, column) = positions(da);
        let is_read = match (how.lower, how.unit_diagonal) {
            (true, false) => row.greater_equal(&column),
            (true, true) => row.greater(&column),
            (false, false) => row.less_equal(&column),
            (false, true) => row.less(&column),
        };
        let da = is_read.select(da, 0.0);
        let da = if how.transpose_a { da.t() } else { da };
        if how.left_side { product(&da, x) } else { product(x, &da) }
    });
    let right_hand_side = match (db, change) {
        (Some(db), Some(change)) => db - change,
        (None, Some(change)) => -change,
        (Some(db), None) => db.clone(),
        (None, None) => return None,
    };
    Some(solve(how, a, &right_hand_side))
}

/// The map B to A⁻¹ B has the transpose A⁻ᵀ.
pub(super) fn cotangent_of_right_hand_side(how: Triangular, a: &Tensor, ct: &Tensor) -> Tensor {
    solve(Triangular { transpose_a: !how.transpose_a, ..how }, a, ct)
}

/// The solutions of a batch.
pub(super) fn batched_solve(how: Triangular, a: &Batched, b: &Batched, extent: usize) -> Batched {
    batched_columns(|a, b| solve(how, a, b), how.left_side, a, b, extent)
}

/// The solutions of a batch. Where all examples share A, the right-hand sides of all are columns of one.
pub(super) fn batched_columns(
    solve: impl Fn(&Tensor, &Tensor) -> Tensor,
    left_side: bool,
    a: &Batched,
    b: &Batched,
    extent: usize,
) -> Batched {
    if a.axis.is_some() {
        return Batched { x: solve(&a.at(0, extent), &b.at(0, extent)), axis: Some(0) };
    }
    // Behind the columns of one example, or before its rows where A is on the right.
    let axis = a.x.rank() - if left_side { 0 } else { 2 };
    let columns = b.at(axis, extent);
    let mut merged = columns.shape().to_vec();
    merged.remove(axis);
    merged[a.x.rank() - if left_side { 1 } else { 2 }] *= extent;
    let x = solve(&a.x, &columns.reshape(&merged)).reshape(columns.shape());
    Batched { x, axis: Some(axis) }
}
