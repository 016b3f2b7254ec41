//! What optimisers share: running means, their bias, scalars among leaves.

use fulgurite_jit::{DType, Tensor, Tree};

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

/// `1 / (1 - decay^count)`, f32: a running mean that started at zero is too small, and times this it is right. A factor,
/// where Optax divides by its inverse: a division costs as much as ten multiplications, for every element.
#[track_caller]
pub(super) fn correction(decay: f64, count: &Tensor) -> Tensor {
    1.0 / (1.0 - Tensor::literal(decay, DType::F32).pow(count.convert(DType::F32)))
}

/// The scalar `x` as an operand of `leaf`: it takes on the leaf's type, so that an f32 rate does not turn an update
/// into something else than its parameter.
#[track_caller]
pub(super) fn like(x: &Tensor, leaf: &Tensor) -> Tensor {
    x.convert(leaf.dtype())
}

/// The update: `rate` down `direction`.
#[track_caller]
pub(super) fn descend(rate: &Tensor, direction: Tensor) -> Tensor {
    let rate = like(rate, &direction);
    direction * -rate
}

/// `direction + decay × p`; the direction itself where there is no decay.
#[track_caller]
pub(super) fn decayed(direction: Tensor, p: &Tensor, decay: f64) -> Tensor {
    if decay == 0.0 { direction } else { direction + p * decay }
}
