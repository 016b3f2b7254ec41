//! Rules of running totals.
//!
//! Comes in: what `jvp` has of the op, and its rule for ops of two operands. Goes out: a tangent.

use fulgurite_jit::graph::{BinaryOp, CumulativeOp};
use fulgurite_jit::{Tensor, associative_scan};

/// Combines pairs of a value and its tangent.
type Combine<'a> = &'a dyn Fn(&(Tensor, Tensor), &(Tensor, Tensor)) -> (Tensor, Tensor);

/// The rule of `jvp` for ops of two operands, `x` and `y`, with tangents and the result.
type Binary = fn(BinaryOp, &Tensor, &Tensor, Option<&Tensor>, Option<&Tensor>, &Tensor) -> Option<Tensor>;

/// The tangent of the totals. That of sums is their sums. Other totals are differentiated as `jax.lax.associative_scan`
/// computes them, a tree of the op on two totals: which of several equal extremes gets which share of a tangent depends
/// on that tree, and so it is in JAX.
pub(super) fn tangent(op: CumulativeOp, axis: usize, reverse: bool, x: &Tensor, dx: &Tensor, binary: Binary) -> Tensor {
    let axis = axis as isize;
    let of_two = |op: BinaryOp, (x, dx): &(Tensor, Tensor), (y, dy): &(Tensor, Tensor)| {
        let z = x.binary(op, y);
        let dz = binary(op, x, y, Some(dx), Some(dy), &z).unwrap_or_else(|| z.zeros_like());
        (z, dz)
    };
    let totals = |combine: Combine<'_>| associative_scan(combine, &(x.clone(), dx.clone()), reverse, axis).1;
    match op {
        CumulativeOp::Sum => dx.cumulative(op, axis, reverse),
        CumulativeOp::Prod => totals(&|x, y| of_two(BinaryOp::Mul, x, y)),
        CumulativeOp::Max => totals(&|x, y| of_two(BinaryOp::Max, x, y)),
        CumulativeOp::Min => totals(&|x, y| of_two(BinaryOp::Min, x, y)),
        CumulativeOp::LogSumExp => totals(&|x, y| log_add_exp(x, y)),
    }
}

/// z = log(eˣ + eʸ): dz = e^(x - z) dx + e^(y - z) dy. An infinity is replaced by 0 in the exponents, as in JAX, so
/// that no difference of two is taken.
fn log_add_exp((x, dx): &(Tensor, Tensor), (y, dy): &(Tensor, Tensor)) -> (Tensor, Tensor) {
    let difference = x - y;
    let is_nan = difference.not_equal(&difference);
    let z = is_nan.select(x + y, x.maximum(y) + (-difference.abs()).exp().log1p());
    let finite = |x: &Tensor| x.equal(f64::INFINITY).select(0.0, x);
    let at = finite(&z);
    let dz = dx * (finite(x) - &at).exp() + dy * (finite(y) - &at).exp();
    (z, dz)
}
