//! Cholesky factors and triangular systems of equations.

use std::panic::Location;

use crate::error::Error;
use crate::front::operand::reject;
use crate::front::tensor::Tensor;
use crate::front::trace::apply;
use crate::graph::{Op, Triangular, infer};

/// The lower triangular `L` with `L Lᵀ = A` of each symmetric, positive definite matrix `A`:
/// `jax.numpy.linalg.cholesky`.
///
/// `a` has shape `[…, n, n]` and is of f32 or f64; so is the result. It is made symmetric first, `(A + Aᵀ) / 2`, and so
/// is its gradient. A matrix that is not positive definite gives NaN on and below the diagonal, without an error.
///
/// The logarithm of a multivariate normal density, of covariance `Σ = L Lᵀ` and at a distance `d` from the mean, is
/// `-½ (‖L⁻¹ d‖² + log det Σ + n log 2π)`, with `log det Σ = 2 Σᵢ log Lᵢᵢ`:
///
/// ```
/// use fulgurite_jit::linalg::{Triangular, cholesky, triangular_solve};
/// use fulgurite_jit::{DType, Tensor};
///
/// fn log_density(distance: &Tensor, covariance: &Tensor) -> Tensor {
///     let n = distance.elements();
///     let factor = cholesky(covariance);
///     let lower = Triangular { left_side: true, lower: true, ..Triangular::default() };
///     let scaled = triangular_solve(&factor, distance, lower);
///     let eye = Tensor::iota(DType::I32, &[n, n], 0).equal(Tensor::iota(DType::I32, &[n, n], 1));
///     let log_det = eye.select(&factor, 1.0).log().sum() * 2.0;
///     (scaled.square().sum() + log_det + n as f64 * std::f64::consts::TAU.ln()) * -0.5
/// }
/// # let types = [&[2][..], &[2, 2]].map(|shape| fulgurite_jit::TensorType::new(DType::F64, shape));
/// # let graph = fulgurite_jit::trace::trace(&types, |x| vec![log_density(&x[0], &x[1])]).unwrap().graph;
/// # let array = fulgurite_jit::Array::from_vec::<f64>;
/// # let x = [array(&[2], vec![1.0, 2.0]).unwrap(), array(&[2, 2], vec![2.0, 1.0, 1.0, 5.0]).unwrap()];
/// # let density = fulgurite_jit::interp::interpret(&graph, &x).unwrap()[0].to_f64_vec().unwrap()[0];
/// # // dᵀ Σ⁻¹ d = 1, det Σ = 9.
/// # assert!((density + 0.5 * (1.0 + 9f64.ln() + 2.0 * std::f64::consts::TAU.ln())).abs() < 1e-14);
/// ```
///
/// # Errors
/// The result stands for an error if `a` is of integers or bools, or if its matrices are not square.
#[track_caller]
pub fn cholesky(a: &Tensor) -> Tensor {
    let location = Location::caller();
    if let Err(why) = infer(&Op::Cholesky, &[a.ty()]) {
        return reject(&[a], Error::op("cholesky", why, location));
    }
    apply(Op::Cholesky, &[&((a + a.t()) / 2.0)], location)
}

/// The `X` with `op(A) X = B`, or `X op(A) = B` where A is not on the [left](Triangular::left_side), for triangular
/// matrices `A`: `jax.lax.linalg.triangular_solve`. `op(A)` is A, or its transpose.
///
/// `a` has shape `[…, n, n]`; one triangle of it is read. `b` has shape `[…, n, m]`, or `[…, m, n]` where A is on the
/// right, or `[…, n]` for one column (or row). Both are of f32 or of f64; the result has the type of `b`. A zero on the
/// diagonal gives infinities and NaN, without an error.
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_jit::linalg::{Triangular, triangular_solve};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let a = Tensor::from_vec(&[2, 2], vec![2.0f32, 0.0, 1.0, 4.0]).unwrap();
/// let b = Tensor::from_vec(&[2], vec![2.0f32, 9.0]).unwrap();
/// let x = triangular_solve(&a, &b, Triangular { left_side: true, lower: true, ..Triangular::default() }); // [1, 2]
/// # vec![x]
/// # }).unwrap();
/// ```
///
/// # Errors
/// The result stands for an error if the operands are of integers or bools, or of different types, if matrices are not
/// square, and if shapes do not go together.
#[track_caller]
pub fn triangular_solve(a: &Tensor, b: &Tensor, how: Triangular) -> Tensor {
    let location = Location::caller();
    let op = Op::TriangularSolve(how);
    if a.rank() < 2 || b.rank() + 1 != a.rank() {
        return apply(op, &[a, b], location);
    }
    let axis = if how.left_side { -1 } else { -2 };
    apply(op, &[a, &b.expand_dims(axis)], location).squeeze(axis)
}
