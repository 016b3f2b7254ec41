//! The type of the result of a convolution, or why it cannot be applied.

use super::super::conv::{ConvDims, dilated};
use super::{Inferred, check};
use crate::types::{DType, MAX_BYTES, Shape, TensorType, join};

impl ConvDims {
    /// The type of the result.
    pub(super) fn infer(&self, lhs: &TensorType, rhs: &TensorType) -> Inferred {
        check(lhs.dtype == rhs.dtype && lhs.dtype != DType::Bool, || {
            format!("takes two operands of one type of numbers, not {lhs} and {rhs}")
        })?;
        check(!lhs.dtype.is_narrow_float(), || {
            format!("sums of {} are of f32: it takes operands that are converted", lhs.dtype)
        })?;
        self.check_specs(lhs, rhs)?;
        let (x, w) = (Self::extents(&self.lhs_spec, lhs), Self::extents(&self.rhs_spec, rhs));
        self.check_groups([lhs, rhs], &x, &w)?;
        let mut shape = Shape::from_elem(0, lhs.rank());
        let mut padded = lhs.clone();
        shape[self.out_spec[0]] = x[0] / self.batch_groups;
        shape[self.out_spec[1]] = w[0];
        for axis in 0..self.spatial() {
            let cannot = || format!("spatial axis {axis} of {lhs} would get more elements than memory can have");
            let size = self.extent(axis, x[axis + 2], w[axis + 2]).ok_or_else(cannot)?;
            shape[self.out_spec[axis + 2]] = size;
            let [stored, before, after] = match self.is_spread() {
                true => {
                    let pads = [self.low[axis], self.high[axis]].map(|pad| pad.max(0).unsigned_abs());
                    [dilated(x[axis + 2], self.lhs_dilation[axis]), pads[0], pads[1]]
                }
                false => {
                    let [before, after] = self.whole_padding(axis);
                    [x[axis + 2], before, after]
                }
            };
            let grown = stored.saturating_add(before).saturating_add(after);
            padded.shape[self.lhs_spec[axis + 2]] = grown;
        }
        // The padding may be stored.
        padded.check_size()?;
        Ok(TensorType::new(lhs.dtype, &shape))
    }

    /// The extent of the result along a spatial axis of these extents; `None` where numbers overflow.
    fn extent(&self, axis: usize, x: usize, w: usize) -> Option<usize> {
        let of = |extent: usize, dilation: usize| -> Option<i128> {
            let (extent, dilation) = (extent as i128, dilation as i128);
            if extent == 0 { Some(0) } else { (extent - 1).checked_mul(dilation)?.checked_add(1) }
        };
        let most = MAX_BYTES as i128;
        let (low, high) = (self.low[axis] as i128, self.high[axis] as i128);
        let (x, w) = (of(x, self.lhs_dilation[axis])?, of(w, self.rhs_dilation[axis])?);
        // No position within the padding or the window overflows.
        if x.checked_add(w)?.checked_add(low.abs() + high.abs())? > most {
            return None;
        }
        let room = x + low + high - w;
        Some(if room < 0 { 0 } else { (room / self.strides[axis] as i128 + 1) as usize })
    }

    fn check_specs(&self, lhs: &TensorType, rhs: &TensorType) -> Result<(), String> {
        let rank = self.spatial() + 2;
        for (what, spec, ty) in [("left", &self.lhs_spec, Some(lhs)), ("right", &self.rhs_spec, Some(rhs))]
            .into_iter()
            .chain([("result's", &self.out_spec, None)])
        {
            check(spec.len() == rank && (0..rank).all(|axis| spec.contains(&axis)), || {
                format!("[{}] are no {what} axes of {} spatial axes and two more", join(spec, ","), self.spatial())
            })?;
            check(ty.is_none_or(|ty| ty.rank() == rank), || {
                format!("{lhs} and {rhs} have not {} spatial axes and two more", self.spatial())
            })?;
        }
        let given = [self.low.len(), self.high.len(), self.lhs_dilation.len(), self.rhs_dilation.len()];
        check(given.iter().all(|&count| count == self.spatial()), || {
            format!("needs padding and dilations for each of the {} spatial axes", self.spatial())
        })?;
        let steps = self.strides.iter().chain(&self.lhs_dilation).chain(&self.rhs_dilation);
        let fits = |step: &usize| (1..=MAX_BYTES).contains(step);
        check(steps.clone().all(fits), || "strides and dilations are at least 1".to_string())
    }

    fn check_groups(&self, [lhs, rhs]: [&TensorType; 2], x: &[usize], w: &[usize]) -> Result<(), String> {
        let (features, batch) = (self.feature_groups, self.batch_groups);
        check(features >= 1 && batch >= 1 && (features == 1 || batch == 1), || {
            format!("cannot have {features} groups of features and {batch} of the batch")
        })?;
        check(w[1].checked_mul(features) == Some(x[1]), || {
            format!("{} features of {lhs} in {features} groups are not the {} of the kernel {rhs}", x[1], w[1])
        })?;
        check(w[0].is_multiple_of(features) && w[0].is_multiple_of(batch), || {
            let groups = features.max(batch);
            format!("the {} features that the kernel {rhs} gives do not divide into {groups} groups", w[0])
        })?;
        check(x[0].is_multiple_of(batch), || format!("the batch of {lhs} does not divide into {batch} groups"))
    }
}
