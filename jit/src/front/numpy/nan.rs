//! Reductions that leave out NaN. Definitions are those of `jax.numpy`; integers have no NaN and are reduced as they are.

use crate::front::numpy::find::is_nan;
use crate::front::operand::IntoAxes;
use crate::front::tensor::Tensor;
use crate::types::DType;

impl Tensor {
    /// With another value instead of NaN.
    #[track_caller]
    fn without_nan(&self, value: f64) -> Self {
        is_nan(self).select(Tensor::literal(value, self.dtype()), self)
    }

    /// The reduction of the elements that are not NaN; NaN if there is none.
    #[track_caller]
    fn nan_extreme<A: IntoAxes + Clone>(&self, worst: f64, axes: A, reduce: impl Fn(&Tensor, A) -> Tensor) -> Self {
        if !self.dtype().is_float() {
            return reduce(self, axes);
        }
        let none = is_nan(self).all_axes(axes.clone());
        none.select(f64::NAN, reduce(&self.without_nan(worst), axes))
    }

    /// The sum of the elements that are not NaN: `jax.numpy.nansum`.
    #[track_caller]
    pub fn nansum(&self, axes: impl IntoAxes) -> Self {
        if self.dtype().is_float() { self.without_nan(0.0).sum_axes(axes) } else { self.sum_axes(axes) }
    }

    /// The product of the elements that are not NaN: `jax.numpy.nanprod`.
    #[track_caller]
    pub fn nanprod(&self, axes: impl IntoAxes) -> Self {
        if self.dtype().is_float() { self.without_nan(1.0).prod_axes(axes) } else { self.prod_axes(axes) }
    }

    /// The maximum of the elements that are not NaN; NaN if there is none: `jax.numpy.nanmax`.
    #[track_caller]
    pub fn nanmax(&self, axes: impl IntoAxes + Clone) -> Self {
        self.nan_extreme(f64::NEG_INFINITY, axes, |x, axes| x.max_axes(axes))
    }

    /// The minimum of the elements that are not NaN; NaN if there is none: `jax.numpy.nanmin`.
    #[track_caller]
    pub fn nanmin(&self, axes: impl IntoAxes + Clone) -> Self {
        self.nan_extreme(f64::INFINITY, axes, |x, axes| x.min_axes(axes))
    }

    /// The index of the first maximum of the elements along an axis that are not NaN, i32; -1 if there is none:
    /// `jax.numpy.nanargmax`.
    #[track_caller]
    pub fn nanargmax(&self, axis: isize) -> Self {
        if !self.dtype().is_float() {
            return self.argmax(axis);
        }
        is_nan(self).all_axes(axis).select(-1, self.without_nan(f64::NEG_INFINITY).argmax(axis))
    }

    /// The index of the first minimum of the elements along an axis that are not NaN, i32; -1 if there is none:
    /// `jax.numpy.nanargmin`.
    #[track_caller]
    pub fn nanargmin(&self, axis: isize) -> Self {
        if !self.dtype().is_float() {
            return self.argmin(axis);
        }
        is_nan(self).all_axes(axis).select(-1, self.without_nan(f64::INFINITY).argmin(axis))
    }

    /// The mean of the elements that are not NaN; NaN if there is none: `jax.numpy.nanmean`.
    #[track_caller]
    pub fn nanmean(&self, axes: impl IntoAxes + Clone) -> Self {
        if !self.dtype().is_float() {
            return self.mean_axes(axes);
        }
        let count = is_nan(self).logical_not().convert(self.dtype()).sum_axes(axes.clone());
        self.nansum(axes) / count
    }

    /// The variance of the elements that are not NaN, of which `ddof` are not counted; NaN if none is left:
    /// `jax.numpy.nanvar`.
    #[track_caller]
    pub fn nanvar(&self, axes: impl IntoAxes + Clone, ddof: usize) -> Self {
        let x = self.inexact();
        let number = is_nan(&x).logical_not();
        let count = number.convert(DType::I32);
        let mean = x.without_nan(0.0).sum_keep(axes.clone()) / count.sum_keep(axes.clone()).convert(x.dtype());
        // The derivative of what is left out is 0, not 0 times NaN.
        let squares = number.select(&x - mean, 0.0).square().sum_axes(axes.clone());
        let count = count.sum_axes(axes) - ddof as i32;
        let none = count.less_equal(0);
        none.select(f64::NAN, squares) / none.select(1, &count).convert(x.dtype())
    }

    /// The square root of [`Tensor::nanvar`]: `jax.numpy.nanstd`.
    #[track_caller]
    pub fn nanstd(&self, axes: impl IntoAxes + Clone, ddof: usize) -> Self {
        self.nanvar(axes, ddof).sqrt()
    }
}
