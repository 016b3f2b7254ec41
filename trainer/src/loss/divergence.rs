//! Divergences of distributions and losses of classes with soft targets: logits or log-probabilities and targets of one
//! shape come in, a loss for each distribution goes out. Definitions: Optax 0.2.8, `losses/_classification.py`.

use std::panic::Location;

use fulgurite_jit::{IntoAxes, Tensor, log_sigmoid, log_softmax, softmax};

use super::check_shapes;

/// `optax.softmax_cross_entropy`: the cross entropy of the softmax of `logits` over `axes`, relative to the
/// probabilities `labels`. The operands have one shape, from which `axes` are removed.
///
/// ```
/// # use fulgurite_jit::Tensor;
/// # use fulgurite_trainer::loss::{smooth_labels, softmax_cross_entropy};
/// fn loss(logits: &Tensor, one_hot: &Tensor) -> Tensor {
///     softmax_cross_entropy(logits, &smooth_labels(one_hot, 0.1), -1).mean()
/// }
/// ```
#[track_caller]
pub fn softmax_cross_entropy(logits: &Tensor, labels: &Tensor, axes: impl IntoAxes + Clone) -> Tensor {
    match check_shapes("softmax_cross_entropy", logits, labels, Location::caller()) {
        Ok(()) => -(labels * log_softmax(logits, axes.clone())).sum_axes(axes),
        Err(bad) => bad,
    }
}

/// `optax.safe_softmax_cross_entropy`: [`softmax_cross_entropy`] along the last axis, where a label of 0 hides a
/// log-probability of -∞.
#[track_caller]
pub fn safe_softmax_cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    if let Err(bad) = check_shapes("safe_softmax_cross_entropy", logits, labels, Location::caller()) {
        return bad;
    }
    let logs = log_softmax(logits, -1);
    let hidden = labels.equal(0.0).and(logs.is_finite().bitwise_not());
    -(labels * hidden.select(0.0, logs)).sum_axes(-1)
}

/// `optax.poly_loss_cross_entropy` (Leng et al., arXiv 2204.12511): [`softmax_cross_entropy`] plus
/// `epsilon (1 - p)`, where `p` is the probability of the labels. Optax's default is `epsilon = 2`.
#[track_caller]
pub fn poly_loss_cross_entropy(logits: &Tensor, labels: &Tensor, axes: impl IntoAxes + Clone, epsilon: f64) -> Tensor {
    let entropy = softmax_cross_entropy(logits, labels, axes.clone());
    let missed = (labels * (1.0 - softmax(logits, axes.clone()))).sum_axes(axes);
    entropy + missed * epsilon
}

/// `optax.kl_divergence`: `Σ targets (log targets - log_predictions)` over `axes`, which are removed. The operands have
/// one shape.
#[track_caller]
pub fn kl_divergence(log_predictions: &Tensor, targets: &Tensor, axes: impl IntoAxes) -> Tensor {
    match check_shapes("kl_divergence", log_predictions, targets, Location::caller()) {
        Ok(()) => {
            let logs = targets.equal(0.0).select(0.0, targets.log());
            (targets * (logs - log_predictions)).sum_axes(axes)
        }
        Err(bad) => bad,
    }
}

/// `optax.kl_divergence_with_log_targets`: [`kl_divergence`] with the logarithms of the targets.
#[track_caller]
pub fn kl_divergence_with_log_targets(log_predictions: &Tensor, log_targets: &Tensor, axes: impl IntoAxes) -> Tensor {
    match check_shapes("kl_divergence_with_log_targets", log_predictions, log_targets, Location::caller()) {
        Ok(()) => (log_targets.exp() * (log_targets - log_predictions)).sum_axes(axes),
        Err(bad) => bad,
    }
}

/// `optax.generalized_kl_divergence`: [`kl_divergence`] plus `Σ (predictions - targets)`, which is convex in both.
#[track_caller]
pub fn generalized_kl_divergence(log_predictions: &Tensor, targets: &Tensor, axes: impl IntoAxes + Clone) -> Tensor {
    let divergence = kl_divergence(log_predictions, targets, axes.clone());
    divergence + (log_predictions.exp() - targets).sum_axes(axes)
}

/// Alias of [`generalized_kl_divergence`], the older name in Optax.
#[track_caller]
pub fn convex_kl_divergence(log_predictions: &Tensor, targets: &Tensor, axes: impl IntoAxes + Clone) -> Tensor {
    generalized_kl_divergence(log_predictions, targets, axes)
}

/// `optax.sigmoid_focal_loss` (Lin et al., arXiv 1708.02002): [`binary_cross_entropy`](super::binary_cross_entropy) of
/// each element, times `(1 - p)^gamma`, where `p` is the probability of its label; and times `alpha` where the label is
/// 1 and `1 - alpha` where it is 0, if there is an `alpha`. Optax's default is `gamma = 2`, without `alpha`.
#[track_caller]
pub fn sigmoid_focal_loss(logits: &Tensor, labels: &Tensor, alpha: Option<f64>, gamma: f64) -> Tensor {
    if let Err(bad) = check_shapes("sigmoid_focal_loss", logits, labels, Location::caller()) {
        return bad;
    }
    let labels = &labels.convert(logits.dtype());
    let entropy = super::binary_cross_entropy(logits, labels);
    // log(1 - p) = log((1 - y) σ(x) + y (1 - σ(x))), by the greater of the two logarithms that have a weight.
    let (log_p, log_q) = (log_sigmoid(logits), log_sigmoid(&-logits));
    let inverse = &(1.0 - labels);
    let part = |weight: &Tensor, log: &Tensor| weight.equal(0.0).select(f64::NEG_INFINITY, log);
    let max = part(inverse, &log_p).maximum(part(labels, &log_q)).stop_gradient();
    let max = &max.is_finite().select(&max, 0.0);
    let term = |weight: &Tensor, log: &Tensor| {
        let seen = weight.not_equal(0.0);
        seen.select(weight * seen.select(log - max, 0.0).exp(), 0.0)
    };
    let log_missed = (term(inverse, &log_p) + term(labels, &log_q)).log() + max;
    let loss = entropy * (log_missed * gamma).exp();
    match alpha {
        Some(alpha) => (labels * alpha + inverse * (1.0 - alpha)) * loss,
        None => loss,
    }
}

/// `optax.losses.ranking_softmax_loss`: the mean over lists of `-Σ labels log softmax(logits)` along the last axis. A
/// scalar. The operands have one shape.
#[track_caller]
pub fn ranking_softmax(logits: &Tensor, labels: &Tensor) -> Tensor {
    let labels = labels.convert(if logits.dtype().is_float() { logits.dtype() } else { labels.dtype() });
    softmax_cross_entropy(logits, &labels, -1).mean()
}
