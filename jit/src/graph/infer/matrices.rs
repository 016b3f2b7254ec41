//! The types of decompositions of matrices and of solutions of linear equations: from those of the operands.

use super::{Inferred, Results, check};
use crate::graph::op::{Op, Triangular};
use crate::types::{DType, TensorType};

/// The matrices of `x`, along its last two axes, are square and of f32 or f64.
fn check_square(x: &TensorType) -> Result<(), String> {
    check_float(x)?;
    let is_square = matches!(x.shape[..], [.., m, n] if m == n);
    check(is_square, || format!("takes square matrices along the last two axes, not {x}"))
}

fn check_float(x: &TensorType) -> Result<(), String> {
    check(matches!(x.dtype, DType::F32 | DType::F64), || format!("takes f32 or f64, not {x}"))
}

pub(super) fn cholesky(x: &TensorType) -> Inferred {
    check_square(x)?;
    Ok(x.clone())
}

pub(super) fn triangular_solve(how: Triangular, a: &TensorType, b: &TensorType) -> Inferred {
    check_square(a)?;
    check_float(b)?;
    check(a.dtype == b.dtype, || format!("{a} and {b} differ in element type"))?;
    check(a.rank() == b.rank(), || format!("{a} and {b} differ in rank"))?;
    let batch = a.rank() - 2;
    check(a.shape[..batch] == b.shape[..batch], || format!("{a} and {b} differ in the axes before the last two"))?;
    let (axis, equation) = if how.left_side { (batch, "A X = B") } else { (batch + 1, "X A = B") };
    let (order, extent) = (a.shape[batch], b.shape[axis]);
    check(order == extent, || format!("{equation} with {a} and {b}: axis {axis} has extent {extent}, not {order}"))?;
    Ok(b.clone())
}

/// The types of the results of an op that decomposes matrices.
pub(super) fn decomposition(op: &Op, x: &TensorType) -> Result<Results, String> {
    check_float(x)?;
    check(x.rank() >= 2, || format!("takes matrices along the last two axes, not {x}"))?;
    let last = x.rank() - 2;
    let (m, n) = (x.shape[last], x.shape[last + 1]);
    let k = m.min(n);
    // Results have these axes instead of the last two.
    let of = |dtype: DType, axes: &[usize]| TensorType::new(dtype, &[&x.shape[..last], axes].concat());
    let results: Results = match op {
        Op::Lu => [x.clone(), of(DType::I32, &[k]), of(DType::I32, &[m])].into_iter().collect(),
        Op::Qr { full_matrices } => {
            let width = if *full_matrices { m } else { k };
            [of(x.dtype, &[m, width]), of(x.dtype, &[width, n])].into_iter().collect()
        }
        Op::Eigh => {
            check_square(x)?;
            [of(x.dtype, &[n]), x.clone()].into_iter().collect()
        }
        Op::Svd { full_matrices } => {
            check(m >= n, || format!("takes at least as many rows as columns, not {x}"))?;
            let width = if *full_matrices { m } else { n };
            [of(x.dtype, &[m, width]), of(x.dtype, &[n]), of(x.dtype, &[n, n])].into_iter().collect()
        }
        op => unreachable!("{} does not decompose matrices", op.name()),
    };
    results.iter().try_for_each(TensorType::check_size)?;
    Ok(results)
}

pub(super) fn solve(a: &TensorType, b: &TensorType) -> Inferred {
    triangular_solve(Triangular { left_side: true, ..Triangular::default() }, a, b)
}
