//! Shared by optimisers: running means, their bias correction, scalars as operands of leaves.

use fulgurite_jit::{DType, Tensor, Tree, leaves};

use super::leaves::map_floats;

/// The running mean of the gradient: `decay × mean + (1 - decay) × g`.
#[track_caller]
pub(super) fn mean<P: Tree>(decay: f64, means: &P, grads: &P) -> P {
    map_floats(means, [grads], |mean, [g]| g * (1.0 - decay) + mean * decay)
}

/// The running mean of the squared gradient: `decay × mean + (1 - decay) × g²`.
#[track_caller]
pub(super) fn mean_square<P: Tree>(decay: f64, means: &P, grads: &P) -> P {
    map_floats(means, [grads], |mean, [g]| g.square() * (1.0 - decay) + mean * decay)
}

/// A scalar of the step, computed in the type of each leaf that it is an operand of: an f64 parameter is trained in
/// f64, and an update has the type of its parameter.
pub(super) struct Scalar {
    value: Box<dyn Fn(DType) -> Tensor>,
    known: Vec<(DType, Tensor)>,
}

impl Scalar {
    /// `value` of an element type, computed once for each float type of the leaves of `tree`.
    #[track_caller]
    pub(super) fn new<P: Tree>(tree: &P, value: impl Fn(DType) -> Tensor + 'static) -> Scalar {
        let has = |dtype: DType| leaves(tree).iter().any(|leaf| leaf.dtype() == dtype);
        let known = DType::ALL.into_iter().filter(|&dtype| dtype.is_float() && has(dtype));
        let known = known.map(|dtype| (dtype, value(dtype)));
        Scalar { known: known.collect(), value: Box::new(value) }
    }

    /// The scalar as an operand of `leaf`.
    #[track_caller]
    pub(super) fn of(&self, leaf: &Tensor) -> Tensor {
        let known = self.known.iter().find(|(dtype, _)| *dtype == leaf.dtype());
        known.map_or_else(|| (self.value)(leaf.dtype()), |(_, value)| value.clone())
    }
}

/// `1 / (1 - decay^count)`, the bias correction of a running mean that started at zero. A factor, where Optax divides
/// by the inverse: a division costs as much as ten multiplications, for every element.
#[track_caller]
pub(super) fn correction<P: Tree>(decay: f64, count: &Tensor, tree: &P) -> Scalar {
    let count = count.clone();
    Scalar::new(tree, move |dtype| correction_as(decay, &count, dtype))
}

/// See [`correction`].
#[track_caller]
pub(super) fn correction_as(decay: f64, count: &Tensor, dtype: DType) -> Tensor {
    1.0 / (1.0 - Tensor::literal(decay, dtype).pow(count.convert(dtype)))
}

/// The update: `rate` down `direction`.
#[track_caller]
pub(super) fn descend(rate: &Scalar, direction: Tensor) -> Tensor {
    let rate = rate.of(&direction);
    direction * -rate
}

/// `direction + decay × p`; the direction itself where there is no decay.
#[track_caller]
pub(super) fn decayed(direction: Tensor, p: &Tensor, decay: f64) -> Tensor {
    if decay == 0.0 { direction } else { direction + p * decay }
}
