//! The truncated normal distribution.

use super::continuous::distribution;
use crate::front::special::log_ndtr;
use crate::front::tensor::Tensor;

distribution! {
    /// The normal distribution between `loc + a scale` and `loc + b scale`.
    truncnorm {
        /// The logarithm of the density.
        logpdf(x, a, b, loc, scale) {
            let y = (&x - &loc) / &scale;
            let value = super::super::norm::logpdf(&x, loc, scale) - super::log_mass(&a, &b);
            let value = inside(&y.less(&a).or(y.greater(&b)), value);
            a.less(&b).select(value, f64::NAN)
        }
        /// The density.
        pdf(x, a, b, loc, scale) { logpdf(&x, a, b, loc, scale).exp() }
        /// The logarithm of the distribution function.
        logcdf(x, a, b, loc, scale) {
            let x = (x - loc) / scale;
            let (above, below) = (x.greater_equal(&b), x.less_equal(&a));
            // Between the bounds, where both masses are.
            let within = above.or(&below).select((&a + &b) * 0.5, &x);
            let total = super::log_mass(&a, &b);
            let lower = super::log_mass(&a, &within) - &total;
            let upper = super::log_mass(&within, &b) - total;
            let value = lower.greater(-0.1).select((-upper.exp()).log1p(), lower);
            let value = above.select(0.0, inside(&below, value));
            a.less(&b).select(value, f64::NAN)
        }
        /// The distribution function.
        cdf(x, a, b, loc, scale) { logcdf(&x, a, b, loc, scale).exp() }
        /// The logarithm of the survival function, `1 - cdf`.
        logsf(x, a, b, loc, scale) { logcdf(&-x, -b, -a, -loc, scale) }
        /// The survival function, `1 - cdf`.
        sf(x, a, b, loc, scale) { logsf(&x, a, b, loc, scale).exp() }
    }
}

/// The logarithm of the standard normal probability from `a` to `b`: in the tail on the right by that on the left.
fn log_mass(a: &Tensor, b: &Tensor) -> Tensor {
    let right = a.greater(0.0);
    let (low, high) = (right.select(-b, a), right.select(-a, b));
    let (low, high) = (log_ndtr(&low), log_ndtr(&high));
    &high + (-(low - &high).exp()).log1p()
}
