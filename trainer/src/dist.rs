//! Distributions of NumPyro: their parameters as a struct, and the logarithm of their density.
//!
//! Comes in: parameters and a value, tensors that broadcast. Goes out: a tensor, of the shape of the value without the
//! axes of an event. Values outside of the support are not looked for, as in NumPyro without validation. The functions
//! of `jax.scipy.stats` are in [`fulgurite_jit::stats`]. Not here: draws.
//!
//! ```
//! # use fulgurite_jit::Tensor;
//! # use fulgurite_trainer::dist::{Distribution, Normal, kl_divergence};
//! fn elbo(value: &Tensor, mean: &Tensor, scale: &Tensor) -> Tensor {
//!     let posterior = Normal { loc: mean.clone(), scale: scale.clone() };
//!     let prior = Normal { loc: Tensor::scalar(0.0f32), scale: Tensor::scalar(1.0f32) };
//!     prior.log_prob(value) - kl_divergence(&posterior, &prior)
//! }
//! ```

use std::f64::consts::{LN_2, PI};

use fulgurite_jit::stats::{multivariate_normal, norm};
use fulgurite_jit::{DType, Tensor, log_softmax, special};

/// A distribution with a density.
pub trait Distribution {
    /// The logarithm of the density, or of the probability, of `value`.
    fn log_prob(&self, value: &Tensor) -> Tensor;
}

/// The normal distribution.
#[derive(Clone, Debug)]
pub struct Normal {
    /// The mean.
    pub loc: Tensor,
    /// The standard deviation.
    pub scale: Tensor,
}

impl Distribution for Normal {
    #[track_caller]
    fn log_prob(&self, value: &Tensor) -> Tensor {
        norm::logpdf(value, &self.loc, &self.scale)
    }
}

/// The divergence of Kullback and Leibler of `p` from `q`: the mean of `ln p - ln q` under `p`.
///
/// `(r + d² - 1 - ln r) / 2` with the ratio of the variances, `r`, and the distance of the means over the deviation of
/// `q`, `d`.
#[track_caller]
pub fn kl_divergence(p: &Normal, q: &Normal) -> Tensor {
    let ratio = (&p.scale / &q.scale).square();
    let distance = ((&p.loc - &q.loc) / &q.scale).square();
    (&ratio + distance - 1.0 - ratio.log()) * 0.5
}

/// The absolute value of a normal distribution around 0.
#[derive(Clone, Debug)]
pub struct HalfNormal {
    /// The standard deviation of the normal distribution.
    pub scale: Tensor,
}

impl Distribution for HalfNormal {
    #[track_caller]
    fn log_prob(&self, value: &Tensor) -> Tensor {
        norm::logpdf(value, 0.0, &self.scale) + LN_2
    }
}

/// The exponential of a normal distribution.
#[derive(Clone, Debug)]
pub struct LogNormal {
    /// The mean of the logarithm.
    pub loc: Tensor,
    /// The standard deviation of the logarithm.
    pub scale: Tensor,
}

impl Distribution for LogNormal {
    #[track_caller]
    fn log_prob(&self, value: &Tensor) -> Tensor {
        let log = value.log();
        norm::logpdf(&log, &self.loc, &self.scale) - log
    }
}

/// The inverse of a gamma distribution.
#[derive(Clone, Debug)]
pub struct InverseGamma {
    /// The shape of the gamma distribution.
    pub concentration: Tensor,
    /// The inverse scale of the gamma distribution.
    pub rate: Tensor,
}

impl Distribution for InverseGamma {
    #[track_caller]
    fn log_prob(&self, value: &Tensor) -> Tensor {
        let (a, rate) = (&self.concentration, &self.rate);
        a * rate.log() - a.lgamma() - (a + 1.0) * value.log() - rate / value
    }
}

/// The distribution of Bernoulli, with log-odds of 1.
#[derive(Clone, Debug)]
pub struct BernoulliLogits {
    /// The log-odds.
    pub logits: Tensor,
}

impl Distribution for BernoulliLogits {
    #[track_caller]
    fn log_prob(&self, value: &Tensor) -> Tensor {
        let value = value.convert(self.logits.dtype());
        // Not `softplus`, whose derivative at 0 is 1/2: the sum of these, as in NumPyro, has 0 there.
        let x = &self.logits;
        x * value - (x.maximum(0.0) + (-x.abs()).exp().log1p())
    }
}

/// The distribution of classes along the last axis of `logits`, logarithms of probabilities up to a constant.
#[derive(Clone, Debug)]
pub struct CategoricalLogits {
    /// The logits, `[…, classes]`.
    pub logits: Tensor,
}

impl Distribution for CategoricalLogits {
    /// Of class numbers, `[…]`. That of a number outside of the classes is NaN.
    #[track_caller]
    fn log_prob(&self, value: &Tensor) -> Tensor {
        let log = log_softmax(&self.logits, -1);
        let hit = value.expand_dims(-1).equal(Tensor::iota(value.dtype(), log.shape(), log.rank().saturating_sub(1)));
        let picked = hit.select(log, 0.0).sum_axes(-1);
        hit.any_axes(-1).select(picked, f64::NAN)
    }
}

/// The distribution of the counts of classes in `total_count` draws.
#[derive(Clone, Debug)]
pub struct MultinomialLogits {
    /// The logits, `[…, classes]`.
    pub logits: Tensor,
    /// How many draws there are.
    pub total_count: u32,
}

impl Distribution for MultinomialLogits {
    /// Of counts, `[…, classes]`.
    #[track_caller]
    fn log_prob(&self, value: &Tensor) -> Tensor {
        let value = value.convert(self.logits.dtype());
        let n = f64::from(self.total_count);
        let total = Tensor::literal(n + 1.0, self.logits.dtype()).lgamma();
        let terms = &self.logits * &value - (value + 1.0).lgamma();
        terms.sum_axes(-1) - self.logits.logsumexp(-1) * n + total
    }
}

/// The multivariate normal distribution, by the Cholesky factor of its covariance.
#[derive(Clone, Debug)]
pub struct MultivariateNormal {
    /// The mean, `[…, n]`.
    pub loc: Tensor,
    /// The lower triangular factor, `[…, n, n]`.
    pub scale_tril: Tensor,
}

impl Distribution for MultivariateNormal {
    #[track_caller]
    fn log_prob(&self, value: &Tensor) -> Tensor {
        multivariate_normal::with_factor(&(value - &self.loc), &self.scale_tril)
    }
}

/// The distribution of Lewandowski, Kurowicka and Joe ("Generating random correlation matrices based on vines and
/// extended onion method", 2009) of the Cholesky factors of correlation matrices.
#[derive(Clone, Debug)]
pub struct LkjCholesky {
    /// The rows of the matrices.
    pub dimension: usize,
    /// 1 for a uniform distribution of correlation matrices; larger ones favour weak correlations.
    pub concentration: Tensor,
}

impl Distribution for LkjCholesky {
    /// Of lower triangular factors, `[…, dimension, dimension]`: `Π Lᵢᵢ^(2η - 2 + n - i)` for `i` from 2 on, with the
    /// constant of the source.
    #[track_caller]
    fn log_prob(&self, value: &Tensor) -> Tensor {
        let n = self.dimension;
        let steps = n.saturating_sub(1);
        let eta = &self.concentration;
        // Both with the axes of the matrix, of which all but the diagonal from its second element on are 0.
        let rank = value.rank();
        let index = |from_end: usize| Tensor::iota(DType::I32, value.shape(), rank.saturating_sub(from_end));
        let (row, column) = (index(2), index(1));
        let diagonal = row.equal(&column).and(row.greater(0));
        let order = (eta * 2.0).expand_dims(-1).expand_dims(-1) + ((n as f64 - 3.0) - column.convert(value.dtype()));
        let logs = diagonal.select(value, 1.0).log();
        let unnormalised = diagonal.select(order * logs, 0.0).sum_axes([-2, -1]);
        let alpha = eta + steps as f64 / 2.0;
        let norm = special::multigammaln(&(&alpha - 0.5), steps) - alpha.lgamma() * steps as f64;
        unnormalised - norm - steps as f64 / 2.0 * PI.ln()
    }
}
