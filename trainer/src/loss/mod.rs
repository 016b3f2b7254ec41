//! Losses and scores: functions of predictions and targets, with the definitions of Optax 0.2.8.
//!
//! Shapes are checked and not broadcast: a loss of `[64, 1]` against `[64]` is a mistake that broadcasting would hide.
//! The compiled step returns the error, with the user's line.

use std::panic::Location;

use fulgurite_jit::{DType, Error, IntoAxes, Tensor, TensorType};

mod ctc;
mod divergence;
mod margin;
mod regression;

pub use ctc::{Ctc, ctc_loss};
pub use divergence::{
    convex_kl_divergence, generalized_kl_divergence, kl_divergence, kl_divergence_with_log_targets,
    poly_loss_cross_entropy, ranking_softmax, safe_softmax_cross_entropy, sigmoid_focal_loss, softmax_cross_entropy,
};
pub use margin::{
    hinge, multiclass_hinge, multiclass_perceptron, multiclass_sparsemax, perceptron, projection_simplex, sparsemax,
};
pub use regression::{
    cosine_distance, cosine_similarity, huber, l2_loss, log_cosh, ntxent, smooth_labels, squared_error, triplet_margin,
};

/// `optax.softmax_cross_entropy_with_integer_labels`: the negative log-likelihood of integer labels, one per example.
/// Logits `[…, classes]`, labels `[…]` (integers) give `[…]`. Take `.mean()` for the loss of a batch. The loss of a
/// label outside of `0..classes` is NaN.
///
/// ```
/// # use fulgurite_jit::Tensor;
/// # use fulgurite_trainer::loss::cross_entropy;
/// fn loss(logits: &Tensor, labels: &Tensor) -> Tensor {
///     cross_entropy(logits, labels).mean()
/// }
/// ```
#[track_caller]
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    if let Err(bad) = check_labels("cross_entropy", logits, labels, Location::caller()) {
        return bad;
    }
    // Picking with a comparison and a sum, not a gather: it fuses with the logsumexp over the same rows, and its
    // derivative is elementwise. `select`, not a product: a logit of -inf that is not picked must not become NaN.
    let classes = Tensor::iota(labels.dtype(), logits.shape(), logits.rank() - 1);
    let hit = labels.expand_dims(-1).equal(&classes);
    let picked = hit.select(logits, 0.0).sum_axes(-1);
    let picked = hit.any_axes(-1).select(&picked, f64::NAN);
    logits.logsumexp(-1) - picked
}

/// [`cross_entropy`] with the classes along `axes`: `optax.softmax_cross_entropy_with_integer_labels(logits, labels,
/// axis)`. Several axes of classes are numbered in row-major order.
///
/// # Errors
/// The result stands for an error as that of [`cross_entropy`], and if there are no such axes.
#[track_caller]
pub fn cross_entropy_along(logits: &Tensor, labels: &Tensor, axes: impl IntoAxes) -> Tensor {
    if let Some(bad) = [logits, labels].into_iter().find(|x| x.error().is_some()) {
        return bad.clone();
    }
    let axes = match axes.into_axes(logits.rank()) {
        Ok(axes) if !axes.is_empty() => axes,
        Ok(_) => return failed("cross_entropy", logits, labels, "there is no axis of classes", Location::caller()),
        Err(why) => {
            let why = format!("the operand of logits {why}");
            return failed("cross_entropy", logits, labels, &why, Location::caller());
        }
    };
    let batch: Vec<usize> = (0..logits.rank()).filter(|axis| !axes.contains(axis)).collect();
    let classes = axes.iter().map(|&axis| logits.shape()[axis]).product();
    let perm: Vec<usize> = batch.iter().chain(&axes).copied().collect();
    let mut shape: Vec<usize> = batch.iter().map(|&axis| logits.shape()[axis]).collect();
    shape.push(classes);
    cross_entropy(&logits.transpose(&perm).reshape(&shape), labels)
}

/// `optax.squared_error`, and its mean, a scalar. The operands have one shape.
#[track_caller]
pub fn mse(predictions: &Tensor, targets: &Tensor) -> Tensor {
    if let Err(bad) = check_shapes("mse", predictions, targets, Location::caller()) {
        return bad;
    }
    (predictions - targets).square().mean()
}

/// `optax.sigmoid_binary_cross_entropy`: the binary cross entropy of each element. Logits and targets (probabilities in
/// 0..=1) have one shape.
#[track_caller]
pub fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Tensor {
    if let Err(bad) = check_shapes("binary_cross_entropy", logits, targets, Location::caller()) {
        return bad;
    }
    // -t log σ(x) - (1 - t) log(1 - σ(x)), where log σ(x) = -softplus(-x) and log(1 - σ(x)) = -softplus(x).
    targets * (-logits).softplus() + (1.0 - targets) * logits.softplus()
}

/// The fraction of examples whose largest logit is that of their label, an f32 scalar: logits `[…, classes]`, labels
/// `[…]`.
#[track_caller]
pub fn accuracy(logits: &Tensor, labels: &Tensor) -> Tensor {
    if let Err(bad) = check_labels("accuracy", logits, labels, Location::caller()) {
        return bad;
    }
    logits.argmax(-1).equal(labels).convert(DType::F32).mean()
}

fn check_labels(op: &str, logits: &Tensor, labels: &Tensor, at: &'static Location<'static>) -> Result<(), Tensor> {
    let reason = match logits.shape() {
        _ if logits.error().or(labels.error()).is_some() => return Ok(()),
        _ if !logits.dtype().is_float() => "the logits are not floats".to_string(),
        [] => "the logits have no axis of classes".to_string(),
        [examples @ .., _] if examples != labels.shape() => {
            "there is to be one label per row of logits, and only that".to_string()
        }
        _ if labels.dtype().is_int() => return Ok(()),
        _ => "the labels are to be integers".to_string(),
    };
    Err(failed(op, logits, labels, &reason, at))
}

fn check_shapes(op: &str, x: &Tensor, y: &Tensor, at: &'static Location<'static>) -> Result<(), Tensor> {
    if x.shape() == y.shape() || x.error().or(y.error()).is_some() {
        return Ok(());
    }
    Err(failed(op, x, y, "the shapes differ; `reshape` or `squeeze` one of them", at))
}

/// A poisoned scalar in place of a loss that cannot be computed.
fn failed(op: &str, x: &Tensor, y: &Tensor, reason: &str, at: &'static Location<'static>) -> Tensor {
    Tensor::failed(TensorType::scalar(DType::F32), Error::op(op, format!("{} and {}: {reason}", x.ty(), y.ty()), at))
}
