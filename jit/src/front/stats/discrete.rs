//! Distributions of whole numbers.

use super::continuous::distribution;

distribution! {
    /// The distribution of Bernoulli, of probability `p` of 1.
    bernoulli {
        /// The logarithm of the probability of `k`.
        logpmf(k, p, loc) {
            let x = k - loc;
            inside(&x.less(0.0).or(x.greater(1.0)), xlogy(&x, &p) + xlog1py(&(1.0 - &x), &-p))
        }
        /// The probability of `k`.
        pmf(k, p, loc) { logpmf(&k, p, loc).exp() }
        /// The distribution function.
        cdf(k, p) {
            let step = k.less(0.0).select(0.0, k.less(1.0).select(1.0 - &p, 1.0));
            quantile(&p, k.not_equal(&k).select(f64::NAN, step))
        }
        /// The quantile: the inverse of `cdf`.
        ppf(q, p) {
            let value = q.less_equal(1.0 - &p).select(p.zeros_like(), 1.0);
            quantile(&q, quantile(&p, value))
        }
    }
}

distribution! {
    /// The binomial distribution, of `n` tries of probability `p`.
    binom {
        /// The logarithm of the probability of `k`.
        logpmf(k, n, p, loc) {
            let y = &k - &loc;
            let comb = (&n + 1.0).lgamma() - ((&y + 1.0).lgamma() + (&n - &y + 1.0).lgamma());
            let linear = xlogy(&y, &p) + xlog1py(&(&n - &y), &-&p);
            let certain = y.equal(0.0).and(n.equal(0.0)).or(linear.equal(0.0));
            let value = certain.select(0.0, comb + linear);
            let within = k.greater_equal(&loc).and(k.less(loc + n + 1.0));
            inside(&within.bitwise_not(), value)
        }
        /// The probability of `k`.
        pmf(k, n, p, loc) { logpmf(&k, n, p, loc).exp() }
    }
}

distribution! {
    /// The negative binomial distribution: failures before `n` successes of probability `p`.
    nbinom {
        /// The logarithm of the probability of `k`.
        logpmf(k, n, p, loc) {
            let outside = k.less(&loc);
            let y = k - loc;
            let comb = (&y + &n).lgamma() - n.lgamma() - (&y + 1.0).lgamma();
            inside(&outside, comb + xlogy(&n, &p) + xlogy(&y, &(1.0 - &p)))
        }
        /// The probability of `k`.
        pmf(k, n, p, loc) { logpmf(&k, n, p, loc).exp() }
    }
}

distribution! {
    /// The geometric distribution: tries up to the first success of probability `p`.
    geom {
        /// The logarithm of the probability of `k`.
        logpmf(k, p, loc) {
            let x = k - loc;
            inside(&x.less_equal(0.0), xlog1py(&(&x - 1.0), &-&p) + p.log())
        }
        /// The probability of `k`.
        pmf(k, p, loc) { logpmf(&k, p, loc).exp() }
    }
}

distribution! {
    /// The distribution of Poisson, of mean `mu`.
    poisson {
        /// The logarithm of the probability of `k`.
        logpmf(k, mu, loc) {
            let x = &k - loc;
            let value = xlogy(&x, &mu) - (&x + 1.0).lgamma() - mu;
            inside(&x.less(0.0).or(k.round().not_equal(&k)), value)
        }
        /// The probability of `k`.
        pmf(k, mu, loc) { logpmf(&k, mu, loc).exp() }
        /// The distribution function.
        cdf(k, mu, loc) {
            let x = k - loc;
            let outside = x.less(0.0);
            let shape = outside.select(1.0, (x + 1.0).floor());
            outside.select(0.0, special::gammaincc(&shape, &mu))
        }
    }
}

distribution! {
    /// The binomial distribution of `n` tries whose probability has a beta distribution.
    betabinom {
        /// The logarithm of the probability of `k`.
        logpmf(k, n, a, b, loc) {
            let y = k.floor() - &loc;
            let comb = -(n.log1p() + special::betaln(&(&n - &y + 1.0), &(&y + 1.0)));
            let betas = special::betaln(&(&y + &a), &(&n - &y + &b)) - special::betaln(&a, &b);
            let value = y.equal(0.0).and(n.equal(0.0)).select(0.0, comb + betas);
            let value = inside(&y.less(-loc).or(y.greater(&n)).or((&y + &a).less_equal(0.0)), value);
            n.less(0.0).or(a.less_equal(0.0)).or(b.less_equal(0.0)).select(f64::NAN, value)
        }
        /// The probability of `k`.
        pmf(k, n, a, b, loc) { logpmf(&k, n, a, b, loc).exp() }
    }
}
