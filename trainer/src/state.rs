//! The state that a training step takes and gives back.

use fulgurite_jit::random::Key;
use fulgurite_jit::{Tensor, Tree};

/// All that changes from step to step on the device: the leaves of a checkpoint.
#[derive(Clone, Debug, Tree)]
pub struct TrainState<M, S> {
    /// The model.
    pub model: M,
    /// The optimiser's state.
    pub opt_state: S,
    /// Steps taken, i32.
    pub step: Tensor,
    /// Where the random numbers of the next step come from.
    pub key: Key,
}
