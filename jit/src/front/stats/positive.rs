//! Distributions of positive numbers and of proportions.

use super::continuous::distribution;

distribution! {
    /// The gamma distribution, of shape `a`.
    gamma {
        /// The logarithm of the density.
        logpdf(x, a, loc, scale) {
            let outside = x.less(&loc);
            let y = outside.select(1.0, (&x - &loc) / &scale);
            inside(&outside, xlogy(&(&a - 1.0), &y) - y - (a.lgamma() + scale.log()))
        }
        /// The density.
        pdf(x, a, loc, scale) { logpdf(&x, a, loc, scale).exp() }
        /// The distribution function.
        cdf(x, a, loc, scale) { special::gammainc(&a, &((x - loc) / scale).maximum(0.0)) }
        /// The logarithm of the distribution function.
        logcdf(x, a, loc, scale) { cdf(&x, a, loc, scale).log() }
        /// The survival function, `1 - cdf`.
        sf(x, a, loc, scale) { special::gammaincc(&a, &((x - loc) / scale).maximum(0.0)) }
        /// The logarithm of the survival function.
        logsf(x, a, loc, scale) { sf(&x, a, loc, scale).log() }
    }
}

distribution! {
    /// The beta distribution, of shapes `a` and `b`: NaN unless they and the scale are positive.
    beta {
        /// The logarithm of the density.
        logpdf(x, a, b, loc, scale) {
            let outside = x.less(&loc).or(x.greater(&loc + &scale));
            let y = outside.select(0.5, (&x - &loc) / &scale);
            let value = xlogy(&(&a - 1.0), &y) + xlog1py(&(&b - 1.0), &-y) - special::betaln(&a, &b) - scale.log();
            let positive = a.greater(0.0).and(b.greater(0.0)).and(scale.greater(0.0));
            positive.select(inside(&outside, value), f64::NAN)
        }
        /// The density.
        pdf(x, a, b, loc, scale) { logpdf(&x, a, b, loc, scale).exp() }
        /// The distribution function.
        cdf(x, a, b, loc, scale) { special::betainc(&a, &b, &((x - loc) / scale).clamp(0.0, 1.0)) }
        /// The logarithm of the distribution function.
        logcdf(x, a, b, loc, scale) { cdf(&x, a, b, loc, scale).log() }
        /// The survival function, `1 - cdf`.
        sf(x, a, b, loc, scale) { special::betainc(&b, &a, &(1.0 - ((x - loc) / scale).clamp(0.0, 1.0))) }
        /// The logarithm of the survival function.
        logsf(x, a, b, loc, scale) { sf(&x, a, b, loc, scale).log() }
    }
}

distribution! {
    /// The chi-squared distribution, of `df` degrees of freedom.
    chi2 {
        /// The logarithm of the density.
        logpdf(x, df, loc, scale) {
            let outside = x.less(&loc);
            let y = outside.select(1.0, (&x - &loc) / &scale);
            let half = &df * 0.5;
            let norm = half.lgamma() + &half * LN_2 + scale.log();
            inside(&outside, (half - 1.0) * y.log() - y * 0.5 - norm)
        }
        /// The density.
        pdf(x, df, loc, scale) { logpdf(&x, df, loc, scale).exp() }
        /// The distribution function.
        cdf(x, df, loc, scale) { special::gammainc(&(df * 0.5), &((x - loc) / scale * 0.5).maximum(0.0)) }
        /// The logarithm of the distribution function.
        logcdf(x, df, loc, scale) { cdf(&x, df, loc, scale).log() }
        /// The survival function, `1 - cdf`.
        sf(x, df, loc, scale) { special::gammaincc(&(df * 0.5), &((x - loc) / scale * 0.5).maximum(0.0)) }
        /// The logarithm of the survival function.
        logsf(x, df, loc, scale) { sf(&x, df, loc, scale).log() }
    }
}

distribution! {
    /// The distribution of Pareto, of shape `b`, from `loc + scale` on.
    pareto {
        /// The logarithm of the density.
        logpdf(x, b, loc, scale) {
            let outside = x.less(&loc + &scale);
            let y = outside.select(1.0, (&x - &loc) / &scale);
            inside(&outside, -((scale / &b).log() + (b + 1.0) * y.log()))
        }
        /// The density.
        pdf(x, b, loc, scale) { logpdf(&x, b, loc, scale).exp() }
        /// The distribution function.
        cdf(x, b, loc, scale) { -logsf(&x, b, loc, scale).expm1() }
        /// The logarithm of the distribution function.
        logcdf(x, b, loc, scale) { special::log1mexp(&-logsf(&x, b, loc, scale)) }
        /// The survival function, `1 - cdf`.
        sf(x, b, loc, scale) { logsf(&x, b, loc, scale).exp() }
        /// The logarithm of the survival function.
        logsf(x, b, loc, scale) {
            let outside = x.less(&loc + &scale);
            let y = outside.select(1.0, (&x - &loc) / &scale);
            outside.select(0.0, -(b * y.log()))
        }
        /// The quantile: the inverse of `cdf`.
        ppf(q, b, loc, scale) { quantile(&q, ((-&q).log1p() / -b).exp() * scale + loc) }
    }
}
