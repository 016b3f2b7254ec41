//! The types of decompositions of matrices and of solutions of linear equations: from those of the operands.

use super::{Inferred, check};
use crate::graph::op::Triangular;
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
