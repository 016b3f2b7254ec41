//! The types of sheared arrays: from the operand's type and the shear.

use super::{Inferred, check, check_axes, check_counter};
use crate::types::{DType, TensorType};

/// The operand as the windows of an array that has `from` elements along the axis, and `windows` of them.
fn check_fits(
    x: &TensorType,
    [stride, step]: [usize; 2],
    from: usize,
    windows: usize,
    size: usize,
) -> Result<(), String> {
    check(stride > 0, || "needs a stride of at least 1".into())?;
    check_counter(from, DType::I32)?;
    if windows == 0 || size == 0 {
        return Ok(());
    }
    let [stride, step, last, end] = [stride as u128, step as u128, windows as u128 - 1, size as u128 - 1];
    check(stride.saturating_mul(last).saturating_add(step.saturating_mul(end)) < from as u128, || {
        format!("{x}: {windows} windows of {size} at every {stride}, by {step}, are not within {from} elements")
    })
}

pub(super) fn shear(x: &TensorType, [axis, by]: [usize; 2], steps: [usize; 2], extent: usize) -> Inferred {
    check_axes(&[axis, by], x)?;
    check_fits(x, steps, x.shape[axis], extent, x.shape[by])?;
    let mut result = x.clone();
    result.shape[axis] = extent;
    Ok(result)
}

pub(super) fn unshear(x: &TensorType, [axis, by]: [usize; 2], steps: [usize; 2], extent: usize) -> Inferred {
    check_axes(&[axis, by], x)?;
    check_fits(x, steps, extent, x.shape[axis], x.shape[by])?;
    let mut result = x.clone();
    result.shape[axis] = extent;
    Ok(result)
}
