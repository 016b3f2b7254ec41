//! Rules of linear algebra: tangents, transposes and batches of Cholesky factors and triangular systems of equations.
//!
//! Comes in: what `jvp`, `transpose` and `batch` have of the op. Goes out: a tangent, a cotangent, or the op on a batch.

use std::panic::Location;

use fulgurite_jit::graph::{DotAxes, Op};
use fulgurite_jit::linalg::Triangular;
use fulgurite_jit::trace::apply;
use fulgurite_jit::{DType, Tensor};

use super::Batched;

/// The op `triangular_solve`.
#[track_caller]
fn solve(how: Triangular, a: &Tensor, b: &Tensor) -> Tensor {
    apply(Op::TriangularSolve(how), &[a, b], Location::caller())
}

/// The product of the matrices along the last two axes.
fn product(x: &Tensor, y: &Tensor) -> Tensor {
    let batch = x.rank() - 2;
    x.dot_general(
        y,
        DotAxes { batch: (0..batch).map(|axis| (axis, axis)).collect(), contract: [(batch + 1, batch)][..].into() },
    )
}

/// Of the matrices along the last two axes: the elements below (or above) the diagonal, those on it times `diagonal`,
/// and 0 elsewhere.
fn triangle(x: &Tensor, lower: bool, diagonal: f64) -> Tensor {
    let index = |from_end: usize| Tensor::iota(DType::I32, x.shape(), x.rank() - from_end);
    let (row, column) = (index(2), index(1));
    let inside = if lower { row.greater(&column) } else { row.less(&column) };
    let on_diagonal = if diagonal == 0.0 { x.zeros_like() } else { row.equal(&column).select(x * diagonal, 0.0) };
    inside.select(x, on_diagonal)
}

/// From L Lᵀ = A: dL = L Φ(L⁻¹ dA L⁻ᵀ), where Φ is the lower triangle with half of the diagonal: Murray,
/// "Differentiation of the Cholesky decomposition", arXiv 1602.07527 (2016), equation 8. Of A the lower triangle is
/// read, so dA is what it is the lower triangle of.
pub(super) fn tangent_of_cholesky(l: &Tensor, da: &Tensor) -> Tensor {
    let da = triangle(da, true, 1.0) + triangle(da, true, 0.0).t();
    let right = Triangular { lower: true, transpose_a: true, ..Triangular::default() };
    let left = Triangular { left_side: true, lower: true, ..Triangular::default() };
    let inner = solve(left, l, &solve(right, l, &da));
    product(l, &triangle(&inner, true, 0.5))
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
        let da = triangle(da, how.lower, if how.unit_diagonal { 0.0 } else { 1.0 });
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

/// The solutions of a batch. Where all examples share A, the right-hand sides of all are columns of one.
pub(super) fn batched_solve(how: Triangular, a: &Batched, b: &Batched, extent: usize) -> Batched {
    if a.axis.is_some() {
        return Batched { x: solve(how, &a.at(0, extent), &b.at(0, extent)), axis: Some(0) };
    }
    // Behind the columns of one example, or before its rows where A is on the right.
    let axis = a.x.rank() - if how.left_side { 0 } else { 2 };
    let columns = b.at(axis, extent);
    let mut merged = columns.shape().to_vec();
    merged.remove(axis);
    merged[a.x.rank() - if how.left_side { 1 } else { 2 }] *= extent;
    let x = solve(how, &a.x, &columns.reshape(&merged)).reshape(columns.shape());
    Batched { x, axis: Some(axis) }
}
