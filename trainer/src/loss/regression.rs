//! Losses of numbers: predictions and targets of one shape come in, a loss for each element goes out, or for each
//! vector of them. Definitions: Optax 0.2.8, `losses/_regression.py`.

use std::panic::Location;

use fulgurite_jit::{DType, IntoAxes, Tensor};

use super::check_shapes;

/// `optax.squared_error`: the square of the error of each element. The operands have one shape.
#[track_caller]
pub fn squared_error(predictions: &Tensor, targets: &Tensor) -> Tensor {
    match check_shapes("squared_error", predictions, targets, Location::caller()) {
        Ok(()) => (predictions - targets).square(),
        Err(bad) => bad,
    }
}

/// `optax.l2_loss`: half of [`squared_error`].
#[track_caller]
pub fn l2_loss(predictions: &Tensor, targets: &Tensor) -> Tensor {
    squared_error(predictions, targets) * 0.5
}

/// `optax.huber_loss`: Huber's loss of each element, `e² / 2` for errors up to `delta` and linear beyond. The operands
/// have one shape.
#[track_caller]
pub fn huber(predictions: &Tensor, targets: &Tensor, delta: f64) -> Tensor {
    if let Err(bad) = check_shapes("huber", predictions, targets, Location::caller()) {
        return bad;
    }
    let error = (predictions - targets).abs();
    let quadratic = error.minimum(delta);
    let linear = &error - &quadratic;
    quadratic.square() * 0.5 + linear * delta
}

/// `optax.log_cosh`: the logarithm of the hyperbolic cosine of each error, without overflow. The operands have one
/// shape.
#[track_caller]
pub fn log_cosh(predictions: &Tensor, targets: &Tensor) -> Tensor {
    if let Err(bad) = check_shapes("log_cosh", predictions, targets, Location::caller()) {
        return bad;
    }
    let error = predictions - targets;
    // log((eˣ + e⁻ˣ) / 2) = x + log(1 + e^(-2x)) - log 2, on the side where x is positive.
    let positive = error.greater(0.0).select(&error, -&error);
    &positive + (&positive * -2.0).softplus() - std::f64::consts::LN_2
}

/// `optax.cosine_similarity`: the cosine of the angle between vectors along `axes`, which are removed. Their squared
/// norms count as at least `epsilon`, for which Optax's default is 0. The operands broadcast.
#[track_caller]
pub fn cosine_similarity(predictions: &Tensor, targets: &Tensor, axes: impl IntoAxes + Clone, epsilon: f64) -> Tensor {
    let unit = |x: &Tensor| x / x.square().sum_keep(axes.clone()).maximum(epsilon).sqrt();
    (unit(predictions) * unit(targets)).sum_axes(axes.clone())
}

/// `optax.cosine_distance`: 1 less [`cosine_similarity`].
#[track_caller]
pub fn cosine_distance(predictions: &Tensor, targets: &Tensor, axes: impl IntoAxes + Clone, epsilon: f64) -> Tensor {
    1.0 - cosine_similarity(predictions, targets, axes, epsilon)
}

/// `optax.smooth_labels`: `(1 - alpha) labels + alpha / classes`, where the classes are the last axis.
#[track_caller]
pub fn smooth_labels(labels: &Tensor, alpha: f64) -> Tensor {
    let classes = labels.shape().last().copied().unwrap_or(1);
    labels * (1.0 - alpha) + alpha / classes as f64
}

/// `optax.losses.triplet_margin_loss` (Schroff et al., arXiv 1503.03832): how much nearer than `margin` an anchor is to
/// the negative example than to the positive one, in the Euclidean norm along `axis`, which is removed. The operands
/// have one shape.
#[track_caller]
pub fn triplet_margin(anchors: &Tensor, positives: &Tensor, negatives: &Tensor, axis: isize, margin: f64) -> Tensor {
    for other in [positives, negatives] {
        if let Err(bad) = check_shapes("triplet_margin", anchors, other, Location::caller()) {
            return bad;
        }
    }
    // 1e-6 keeps the root's derivative finite, as in Optax.
    let distance = |other: &Tensor| ((anchors - other).square().sum_axes(axis) + 1e-6).sqrt();
    (distance(positives) - distance(negatives) + margin).maximum(0.0)
}

/// `optax.losses.ntxent` (Chen et al., arXiv 2002.05709): the normalised, temperature-scaled cross entropy of
/// embeddings `[examples, size]`, of which those with equal labels (`[examples]`) are to be near each other. A scalar.
#[track_caller]
pub fn ntxent(embeddings: &Tensor, labels: &Tensor, temperature: f64) -> Tensor {
    let n = match embeddings.shape() {
        &[n, _] if labels.shape() == [n] || labels.error().is_some() => n,
        _ if embeddings.error().is_some() => return embeddings.clone(),
        _ => {
            let why = "takes [examples, size] and a label for each example";
            return super::failed("ntxent", embeddings, labels, why, Location::caller());
        }
    };
    let epsilon = f64::from(f32::EPSILON);
    let (rows, columns) = (embeddings.expand_dims(0), embeddings.expand_dims(1));
    let cosines = cosine_similarity(&rows, &columns, -1, epsilon) / temperature;
    let same = labels.expand_dims(1).equal(labels.expand_dims(0));
    let place = |axis| Tensor::iota(DType::I32, &[n, n], axis);
    let matches = same.and(place(0).not_equal(place(1)));
    let [others, matching] = [&same.bitwise_not(), &matches].map(|mask| mask.select(&cosines, f64::NEG_INFINITY));
    let max = others.max_keep(1).maximum(matching.max_keep(1)).stop_gradient();
    let (others, matching) = (others - &max, matching - &max);
    let sum = others.exp().sum_keep(1) + matching.exp();
    // What is selected only where it is finite: elsewhere log(0) would have no derivative.
    let matching = matches.select(&matching, 0.0);
    let terms = matches.select(matching - matches.select(sum, 1.0).log(), 0.0);
    -terms.sum() / matches.convert(embeddings.dtype()).sum()
}
