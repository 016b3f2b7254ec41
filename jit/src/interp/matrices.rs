//! What [`Op::Cholesky`] and [`Op::TriangularSolve`] mean, by their definitions.
//!
//! [`Op::Cholesky`]: crate::graph::Op::Cholesky
//! [`Op::TriangularSolve`]: crate::graph::Op::TriangularSolve

use super::scalar::round;
use crate::graph::Triangular;
use crate::types::TensorType;

/// The elements as numbers.
pub(super) fn numbers(ty: &TensorType, x: &[u64]) -> Vec<f64> {
    x.iter().map(|&x| ty.dtype.value(x).to_f64()).collect()
}

/// The extents of the matrices along the last two axes.
pub(super) fn extents(ty: &TensorType) -> [usize; 2] {
    let [.., m, n] = ty.shape[..] else { unreachable!("the graph is verified") };
    [m, n]
}

pub(super) fn cholesky(ty: &TensorType, x: &[u64]) -> Vec<u64> {
    let [n, _] = extents(ty);
    let mut result = vec![0.0; x.len()];
    if x.is_empty() {
        return vec![];
    }
    for (a, l) in numbers(ty, x).chunks(n * n).zip(result.chunks_mut(n * n)) {
        let mut is_definite = true;
        for i in 0..n {
            for j in 0..=i {
                let rest = (0..j).fold(a[i * n + j], |rest, k| rest - l[i * n + k] * l[j * n + k]);
                l[i * n + j] = if i == j { rest.sqrt() } else { rest / l[j * n + j] };
            }
            is_definite &= l[i * n + i] > 0.0;
        }
        if !is_definite {
            (0..n).for_each(|i| l[i * n..=i * n + i].fill(f64::NAN));
        }
    }
    result.into_iter().map(|x| round(ty.dtype, x)).collect()
}

pub(super) fn triangular_solve(ty: &TensorType, how: Triangular, x: &[Vec<u64>]) -> Vec<u64> {
    let [rows, columns] = extents(ty);
    let n = if how.left_side { rows } else { columns };
    let (a, mut b) = (numbers(ty, &x[0]), numbers(ty, &x[1]));
    if b.is_empty() {
        return vec![];
    }
    for (a, x) in a.chunks(n * n).zip(b.chunks_mut(rows * columns)) {
        let of_a = |i: usize, k: usize| if how.is_transposed() { a[k * n + i] } else { a[i * n + k] };
        for c in 0..rows * columns / n {
            let at = |i: usize| if how.left_side { i * columns + c } else { c * columns + i };
            for step in 0..n {
                // Equations whose other unknowns are known first.
                let (i, known) = if how.is_forward() { (step, 0..step) } else { (n - 1 - step, n - step..n) };
                let rest = known.fold(x[at(i)], |rest, k| rest - of_a(i, k) * x[at(k)]);
                x[at(i)] = if how.unit_diagonal { rest } else { rest / of_a(i, i) };
            }
        }
    }
    b.into_iter().map(|x| round(ty.dtype, x)).collect()
}
