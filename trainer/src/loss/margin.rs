//! Losses by margins and by projections on the simplex: scores and labels come in, a loss for each example goes out.
//! Definitions: Optax 0.2.8, `losses/_classification.py`.

use std::panic::Location;

use fulgurite_jit::{DType, Tensor, one_hot_as, sparse_plus};

use super::{check_labels, check_shapes};

/// `optax.hinge_loss`: `max(0, 1 - y x)` for each element; targets are -1 or 1. The operands have one shape.
#[track_caller]
pub fn hinge(predictions: &Tensor, targets: &Tensor) -> Tensor {
    match check_shapes("hinge", predictions, targets, Location::caller()) {
        Ok(()) => (1.0 - predictions * targets).maximum(0.0),
        Err(bad) => bad,
    }
}

/// `optax.perceptron_loss`: `max(0, -y x)` for each element; targets are -1 or 1. The operands have one shape.
#[track_caller]
pub fn perceptron(predictions: &Tensor, targets: &Tensor) -> Tensor {
    match check_shapes("perceptron", predictions, targets, Location::caller()) {
        Ok(()) => (-predictions * targets).maximum(0.0),
        Err(bad) => bad,
    }
}

/// `optax.losses.multiclass_hinge_loss` (Crammer & Singer 2001): by how much the score of another class, plus 1, is
/// greater than that of the label. Scores `[…, classes]`, integer labels `[…]` give `[…]`.
#[track_caller]
pub fn multiclass_hinge(scores: &Tensor, labels: &Tensor) -> Tensor {
    if let Err(bad) = check_labels("multiclass_hinge", scores, labels, Location::caller()) {
        return bad;
    }
    let hot = hot(scores, labels);
    (scores + 1.0 - &hot).max_axes(-1) - (scores * hot).sum_axes(-1)
}

/// `optax.losses.multiclass_perceptron_loss`: by how much the greatest score is greater than that of the label. Scores
/// `[…, classes]`, integer labels `[…]` give `[…]`.
#[track_caller]
pub fn multiclass_perceptron(scores: &Tensor, labels: &Tensor) -> Tensor {
    match check_labels("multiclass_perceptron", scores, labels, Location::caller()) {
        Ok(()) => scores.max_axes(-1) - (scores * hot(scores, labels)).sum_axes(-1),
        Err(bad) => bad,
    }
}

/// `optax.losses.sparsemax_loss`: the sparsemax loss of each element for two classes (Martins & Astudillo,
/// arXiv 1602.02068); labels are 0 or 1, of any type. The operands have one shape.
#[track_caller]
pub fn sparsemax(logits: &Tensor, labels: &Tensor) -> Tensor {
    match check_shapes("sparsemax", logits, labels, Location::caller()) {
        Ok(()) => {
            let is_one = if labels.dtype() == DType::Bool { labels.clone() } else { labels.not_equal(0) };
            sparse_plus(&is_one.select(-logits, logits))
        }
        Err(bad) => bad,
    }
}

/// `optax.losses.multiclass_sparsemax_loss` (Martins & Astudillo, arXiv 1602.02068). Scores `[…, classes]`, integer
/// labels `[…]` give `[…]`. Its derivative is the projection of the scores on the simplex less the label's vertex.
#[track_caller]
pub fn multiclass_sparsemax(scores: &Tensor, labels: &Tensor) -> Tensor {
    if let Err(bad) = check_labels("multiclass_sparsemax", scores, labels, Location::caller()) {
        return bad;
    }
    let p = projection_simplex(scores);
    let hot = hot(scores, labels);
    let relative = scores - (scores * hot).sum_keep(-1);
    (&p * p.not_equal(0.0).select(relative, 0.0)).sum_axes(-1) + (1.0 - p.square().sum_axes(-1)) * 0.5
}

/// `optax.projections.projection_simplex`: the nearest vector whose elements are not negative and sum to 1, for each
/// vector along the last axis (Duchi et al., ICML 2008).
#[track_caller]
pub fn projection_simplex(x: &Tensor) -> Tensor {
    let shape = x.shape();
    let Some(&n) = shape.last().filter(|&&n| n > 0) else { return x.clone() };
    // An element is in the support if it is greater than the threshold that it and the greater ones would give: its
    // rank k and their sum say so. Ranks and sums come from all pairs, in which equal elements are ordered by position.
    let pairs = [&shape[..shape.len() - 1], &[n, n]].concat();
    let fixed = x.stop_gradient();
    let (one, other) = (fixed.expand_dims(-1), fixed.expand_dims(-2));
    let place = |axis| Tensor::iota(DType::I32, &pairs, axis);
    let (row, column) = (pairs.len() - 2, pairs.len() - 1);
    let not_below = other.greater(&one).or(other.equal(&one).and(place(column).less_equal(place(row))));
    let count = not_below.convert(x.dtype()).sum_axes(-1);
    let sum = not_below.select(other, 0.0).sum_axes(-1);
    let support = (&fixed * &count - sum).greater(-1.0);
    let size = support.convert(x.dtype()).sum_keep(-1);
    let threshold = (support.select(x, 0.0).sum_keep(-1) - 1.0) / size;
    support.select(x - threshold, 0.0)
}

fn hot(scores: &Tensor, labels: &Tensor) -> Tensor {
    one_hot_as(labels, scores.shape().last().copied().unwrap_or(0), scores.dtype())
}
