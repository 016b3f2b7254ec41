//! Batches on their way to the device.
//!
//! In: the batches of a loader. Out: the same on the device of the run. On a GPU the next batch is copied while a step
//! runs; on the processor each is taken as it is.

use fulgurite_jit::{Result, Tree};
use fulgurite_runtime::{PrefetchToDevice, prefetch_to_device};

use crate::data::Batches;

/// A batch, and the number of its examples.
#[derive(Tree)]
pub(super) struct Loaded<B> {
    pub(super) batch: B,
    #[tree(static)]
    pub(super) examples: usize,
}

/// The next `count` batches, at most.
///
/// # Errors
/// When the device cannot be opened.
pub(super) fn feed<B: Tree + Clone + Send + 'static>(
    batches: &mut Batches<B>,
    count: usize,
) -> Result<PrefetchToDevice<Loaded<B>, impl Iterator<Item = Result<Loaded<B>>>>> {
    let loaded = batches.by_ref().take(count).map(|next| {
        let (batch, examples) = next?;
        Ok(Loaded { batch, examples })
    });
    // One, besides the batch of the step.
    prefetch_to_device(loaded, 1)
}
