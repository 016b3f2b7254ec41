//! What [`Op::Cumulative`] and [`Op::Unshear`] mean, by their definitions.
//!
//! [`Op::Cumulative`]: crate::graph::Op::Cumulative
//! [`Op::Unshear`]: crate::graph::Op::Unshear

use super::scalar::{binary, float_binary, round};
use super::{flatten, unflatten};
use crate::graph::CumulativeOp;
use crate::types::TensorType;

/// The total of each element and those before it, or behind it; floats in f64.
pub(super) fn cumulative(ty: &TensorType, x: &[u64], op: CumulativeOp, axis: usize, reverse: bool) -> Vec<u64> {
    let (dtype, extent) = (ty.dtype, ty.shape[axis]);
    let inner: usize = ty.shape[axis + 1..].iter().product();
    let mut result = x.to_vec();
    // The elements whose position along the axis is 0.
    let firsts = (0..x.len()).filter(|i| (i / inner).is_multiple_of(extent));
    for first in firsts {
        let place = |k: usize| first + inner * if reverse { extent - 1 - k } else { k };
        if dtype.is_float() {
            let number = |k: usize| dtype.value(x[place(k)]).to_f64();
            let mut total = number(0);
            for k in 1..extent {
                total = match op.binary() {
                    Some(op) => float_binary(op, total, number(k)),
                    None => log_add_exp(total, number(k)),
                };
                result[place(k)] = round(dtype, total);
            }
        } else if let Some(op) = op.binary() {
            for k in 1..extent {
                result[place(k)] = binary(op, dtype, result[place(k - 1)], x[place(k)]);
            }
        }
    }
    result
}

/// log(eˣ + eʸ).
fn log_add_exp(x: f64, y: f64) -> f64 {
    let difference = x - y;
    // Two infinities of one sign, or NaN.
    if difference.is_nan() { x + y } else { x.max(y) + libm::log1p(libm::exp(-difference.abs())) }
}

pub(super) fn unshear(
    ty: &TensorType,
    x: &[u64],
    from: &TensorType,
    [axis, by]: [usize; 2],
    [stride, step]: [usize; 2],
) -> Vec<u64> {
    let mut result = vec![ty.dtype.bits(0.0); ty.elements()];
    for (i, &x) in x.iter().enumerate() {
        let mut at = unflatten(i, &from.shape);
        at[axis] = stride * at[axis] + step * at[by];
        result[flatten(&at, &ty.shape)] = x;
    }
    result
}
