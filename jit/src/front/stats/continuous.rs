//! Distributions on the real line and on the circle.

/// The imports of each distribution.
macro_rules! distribution {
    ($(#[$doc:meta])* $module:ident { $($functions:tt)* }) => {
        $(#[$doc])*
        pub mod $module {
            #[allow(unused_imports, reason = "not every distribution needs all")]
            use std::f64::consts::{FRAC_PI_2, LN_2, PI};

            #[allow(unused_imports, reason = "not every distribution needs all")]
            use crate::front::special::{self, xlog1py, xlogy};
            #[allow(unused_imports, reason = "not every distribution needs all")]
            use crate::front::stats::{arguments, functions, inside, quantile};
            use crate::front::operand::Operand;
            use crate::front::tensor::Tensor;

            functions! { $module: $($functions)* }
        }
    };
}
pub(super) use distribution;

distribution! {
    /// The normal distribution.
    norm {
        /// The logarithm of the density.
        logpdf(x, loc, scale) {
            let variance = scale.square();
            ((&variance * (2.0 * PI)).log() + (x - loc).square() / variance) * -0.5
        }
        /// The density.
        pdf(x, loc, scale) { logpdf(&x, loc, scale).exp() }
        /// The distribution function.
        cdf(x, loc, scale) { special::ndtr(&((x - loc) / scale)) }
        /// The logarithm of the distribution function.
        logcdf(x, loc, scale) { special::log_ndtr(&((x - loc) / scale)) }
        /// The survival function, `1 - cdf`.
        sf(x, loc, scale) { special::ndtr(&((loc - x) / scale)) }
        /// The logarithm of the survival function.
        logsf(x, loc, scale) { special::log_ndtr(&((loc - x) / scale)) }
        /// The quantile: the inverse of `cdf`.
        ppf(q, loc, scale) { special::ndtri(&q) * scale + loc }
        /// The inverse of `sf`.
        isf(q, loc, scale) { loc - special::ndtri(&q) * scale }
    }
}

distribution! {
    /// The distribution of Laplace.
    laplace {
        /// The logarithm of the density.
        logpdf(x, loc, scale) { -((x - loc).abs() / &scale + (scale * 2.0).log()) }
        /// The density.
        pdf(x, loc, scale) { logpdf(&x, loc, scale).exp() }
        /// The distribution function.
        cdf(x, loc, scale) {
            let y = (x - loc) / scale;
            let tail = (-y.abs()).exp() * 0.5;
            y.less_equal(0.0).select(&tail, 1.0 - &tail)
        }
    }
}

distribution! {
    /// The distribution of Cauchy.
    cauchy {
        /// The logarithm of the density.
        logpdf(x, loc, scale) { -((&scale * PI).log() + ((x - loc) / &scale).square().log1p()) }
        /// The density.
        pdf(x, loc, scale) { logpdf(&x, loc, scale).exp() }
        /// The distribution function.
        cdf(x, loc, scale) { ((x - loc) / scale).atan() * (1.0 / PI) + 0.5 }
        /// The logarithm of the distribution function.
        logcdf(x, loc, scale) { cdf(&x, loc, scale).log() }
        /// The survival function, `1 - cdf`.
        sf(x, loc, scale) { cdf(&-x, -loc, scale) }
        /// The logarithm of the survival function.
        logsf(x, loc, scale) { sf(&x, loc, scale).log() }
        /// The quantile: the inverse of `cdf`.
        ppf(q, loc, scale) { (q * PI - FRAC_PI_2).tan() * scale + loc }
        /// The inverse of `sf`.
        isf(q, loc, scale) { (FRAC_PI_2 - q * PI).tan() * scale + loc }
    }
}

distribution! {
    /// The logistic distribution.
    logistic {
        /// The logarithm of the density.
        logpdf(x, loc, scale) {
            let half = (x - loc) / &scale * 0.5;
            // -2 log(e^half + e^-half) - log scale
            let magnitude = half.abs();
            -((&magnitude * -2.0).softplus() + magnitude) * 2.0 - scale.log()
        }
        /// The density.
        pdf(x, loc, scale) { logpdf(&x, loc, scale).exp() }
        /// The distribution function.
        cdf(x, loc, scale) { ((x - loc) / scale).sigmoid() }
        /// The survival function, `1 - cdf`.
        sf(x, loc, scale) { ((loc - x) / scale).sigmoid() }
        /// The quantile: the inverse of `cdf`.
        ppf(q, loc, scale) { special::logit(&q) * scale + loc }
        /// The inverse of `sf`.
        isf(q, loc, scale) { loc - special::logit(&q) * scale }
    }
}

distribution! {
    /// The distribution of Gumbel of the smallest.
    gumbel_l {
        /// The logarithm of the density.
        logpdf(x, loc, scale) {
            let z = (x - loc) / &scale;
            scale.greater(0.0).select(&z - z.exp() - scale.log(), f64::NAN)
        }
        /// The density.
        pdf(x, loc, scale) { logpdf(&x, loc, scale).exp() }
        /// The logarithm of the distribution function.
        logcdf(x, loc, scale) {
            let z = (x - loc) / &scale;
            scale.greater(0.0).select(special::log1mexp(&z.exp()), f64::NAN)
        }
        /// The distribution function.
        cdf(x, loc, scale) { logcdf(&x, loc, scale).exp() }
        /// The logarithm of the survival function, `1 - cdf`.
        logsf(x, loc, scale) { scale.greater(0.0).select(-((x - loc) / &scale).exp(), f64::NAN) }
        /// The survival function, `1 - cdf`.
        sf(x, loc, scale) { logsf(&x, loc, scale).exp() }
        /// The quantile: the inverse of `cdf`.
        ppf(p, loc, scale) {
            p.greater(0.0).and(p.less(1.0)).select((-(-&p).log1p()).log() * scale + loc, f64::NAN)
        }
    }
}

distribution! {
    /// The distribution of Gumbel of the largest.
    gumbel_r {
        /// The logarithm of the density.
        logpdf(x, loc, scale) {
            let z = (x - loc) / &scale;
            scale.greater(0.0).select(-(&z + (-&z).exp()) - scale.log(), f64::NAN)
        }
        /// The density.
        pdf(x, loc, scale) { logpdf(&x, loc, scale).exp() }
        /// The logarithm of the distribution function.
        logcdf(x, loc, scale) { scale.greater(0.0).select(-((loc - x) / &scale).exp(), f64::NAN) }
        /// The distribution function.
        cdf(x, loc, scale) { logcdf(&x, loc, scale).exp() }
        /// The logarithm of the survival function, `1 - cdf`.
        logsf(x, loc, scale) {
            let z = (loc - x) / &scale;
            scale.greater(0.0).select(special::log1mexp(&z.exp()), f64::NAN)
        }
        /// The survival function, `1 - cdf`.
        sf(x, loc, scale) {
            let z = (loc - x) / &scale;
            scale.greater(0.0).select(-(-z.exp()).expm1(), f64::NAN)
        }
        /// The quantile: the inverse of `cdf`.
        ppf(p, loc, scale) {
            p.greater(0.0).and(p.less(1.0)).select(loc - (-p.log()).log() * scale, f64::NAN)
        }
    }
}

distribution! {
    /// The exponential distribution.
    expon {
        /// The logarithm of the density.
        logpdf(x, loc, scale) { inside(&x.less(&loc), -((&x - &loc) / &scale + scale.log())) }
        /// The density.
        pdf(x, loc, scale) { logpdf(&x, loc, scale).exp() }
        /// The distribution function.
        cdf(x, loc, scale) { x.less(&loc).select(0.0, -((&loc - &x) / scale).expm1()) }
        /// The logarithm of the distribution function.
        logcdf(x, loc, scale) { (-sf(&x, loc, scale)).log1p() }
        /// The survival function, `1 - cdf`.
        sf(x, loc, scale) { logsf(&x, loc, scale).exp() }
        /// The logarithm of the survival function.
        logsf(x, loc, scale) { x.less(&loc).select(0.0, (&loc - &x) / scale) }
        /// The quantile: the inverse of `cdf`.
        ppf(q, loc, scale) { quantile(&q, loc - (-&q).log1p() * scale) }
    }
}

distribution! {
    /// The uniform distribution, from `loc` to `loc + scale`.
    uniform {
        /// The logarithm of the density.
        logpdf(x, loc, scale) { inside(&x.greater(&loc + &scale).or(x.less(&loc)), -scale.log()) }
        /// The density.
        pdf(x, loc, scale) { logpdf(&x, loc, scale).exp() }
        /// The distribution function.
        cdf(x, loc, scale) {
            let within = x.greater(&loc + &scale).select(1.0, (&x - &loc) / &scale);
            x.less(loc).select(0.0, within)
        }
        /// The quantile: the inverse of `cdf`.
        ppf(q, loc, scale) { quantile(&q, loc + scale * &q) }
    }
}

distribution! {
    /// Student's t distribution, of `df` degrees of freedom.
    t {
        /// The logarithm of the density.
        logpdf(x, df, loc, scale) {
            let y = (x - loc) / &scale;
            let half = &df * 0.5;
            let more = &half + 0.5;
            let norm = half.lgamma() + (scale.square() * PI * &df).log() * 0.5 - more.lgamma();
            -(norm + more * (y.square() / df).log1p())
        }
        /// The density.
        pdf(x, df, loc, scale) { logpdf(&x, df, loc, scale).exp() }
    }
}

distribution! {
    /// The generalised normal distribution, of density proportional to `e^-|x|^beta`.
    gennorm {
        /// The logarithm of the density.
        logpdf(x, beta) { (&beta * 0.5).log() - beta.recip().lgamma() - x.abs().pow(&beta) }
        /// The density.
        pdf(x, beta) { logpdf(&x, beta).exp() }
        /// The distribution function.
        cdf(x, beta) { (x.sign() * special::gammainc(&beta.recip(), &x.abs().pow(&beta)) + 1.0) * 0.5 }
    }
}

distribution! {
    /// The distribution of von Mises, on the circle: NaN unless `kappa` is positive.
    vonmises {
        /// The logarithm of the density.
        logpdf(x, kappa) {
            let value = &kappa * (x.cos() - 1.0) - (kappa.bessel_i0e() * (2.0 * PI)).log();
            kappa.greater(0.0).select(value, f64::NAN)
        }
        /// The density.
        pdf(x, kappa) { logpdf(&x, kappa).exp() }
    }
}

distribution! {
    /// The wrapped distribution of Cauchy, from 0 to 2 pi: NaN unless `c` is between 0 and 1.
    wrapcauchy {
        /// The logarithm of the density.
        logpdf(x, c) {
            let square = c.square();
            let value = (1.0 - &square).log() - libm::log(2.0 * PI) - (square + 1.0 - &c * x.cos() * 2.0).log();
            let value = inside(&x.less(0.0).or(x.greater(2.0 * PI)), value);
            c.greater(0.0).and(c.less(1.0)).select(value, f64::NAN)
        }
        /// The density.
        pdf(x, c) { logpdf(&x, c).exp() }
    }
}
