//! The state of a training step, its first argument and result.

use fulgurite_jit::random::Key;
use fulgurite_jit::{Tensor, Tree};

/// Everything on the device that changes from step to step: the leaves of a checkpoint.
#[derive(Clone, Debug, Tree)]
pub struct TrainState<M, S> {
    /// The model.
    pub model: M,
    /// The optimiser's state.
    pub opt_state: S,
    /// Steps taken, i32.
    pub step: Tensor,
    /// The key for the random numbers of the next step.
    pub key: Key,
}
