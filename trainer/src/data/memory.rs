//! The memory of batches, used again: once a step is done with a batch, the next one is gathered into its place.

use std::sync::Arc;

use fulgurite_jit::array::Buffer;
use fulgurite_jit::{Array, Tensor, TensorType};

/// Lends memory for the tensors of a batch, in the order in which they are asked for.
#[derive(Default)]
pub struct Memory {
    buffers: Vec<Arc<Buffer>>,
    next: usize,
}

impl Memory {
    /// A tensor of type `ty` whose bytes `fill` writes, row-major; all of them, since they hold what an earlier batch
    /// left there. For truth values, every byte must be 0 or 1.
    pub fn tensor(&mut self, ty: TensorType, fill: impl FnOnce(&mut [u8])) -> Tensor {
        let (place, bytes) = (self.next, ty.bytes());
        self.next += 1;
        if place == self.buffers.len() {
            self.buffers.push(Arc::new(Buffer::zeroed(bytes)));
        }
        // A ragged last batch fits into the memory of a full one. Memory that something still holds is left to it.
        let slot = &mut self.buffers[place];
        if slot.len() < bytes || Arc::get_mut(slot).is_none() {
            *slot = Arc::new(Buffer::zeroed(bytes));
        }
        if let Some(buffer) = Arc::get_mut(slot) {
            fill(&mut buffer.bytes_mut()[..bytes]);
        }
        Array::new(ty, slot.clone()).into()
    }

    /// The next tensor is the first of another batch.
    pub(crate) fn start_batch(&mut self) {
        self.next = 0;
    }
}
