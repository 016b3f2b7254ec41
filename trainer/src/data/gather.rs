//! One batch after another, on the thread of whoever asks.
//!
//! In: a dataset, the order of its examples, the position of a batch. Out: the batch, and the number of its examples.
//! The memory of batches is reused in turn. Not done here: which position comes next (`loader.rs`), threads
//! (`prefetch.rs`).

use std::sync::Arc;

use fulgurite_jit::{Result, Tree};

use super::order::Order;
use super::{BatchBuffers, Dataset};

/// Gathers batches at any position.
pub(super) struct Gather<B> {
    dataset: Arc<dyn Dataset<Batch = B>>,
    batch_size: usize,
    order: Order,
    epoch: usize,
    /// The examples of the current batch.
    indices: Vec<u32>,
    /// The memory of the last batches, used in turn.
    buffers: Vec<BatchBuffers>,
    turn: usize,
}

impl<B: Tree + Clone + Send + 'static> Gather<B> {
    /// At epoch 0, whose order is given. `buffers` batches may be in use at a time.
    pub(super) fn new(dataset: Arc<dyn Dataset<Batch = B>>, batch_size: usize, order: Order, buffers: usize) -> Self {
        Gather {
            dataset,
            batch_size,
            order,
            epoch: 0,
            indices: Vec::new(),
            buffers: std::iter::repeat_with(BatchBuffers::default).take(buffers).collect(),
            turn: 0,
        }
    }

    /// Batch `batch` of epoch `epoch`, which exists, and the number of its examples.
    pub(super) fn batch(&mut self, epoch: usize, batch: usize) -> Result<(B, usize)> {
        if epoch != self.epoch {
            self.order.go_to(epoch);
            self.epoch = epoch;
        }
        let start = batch * self.batch_size;
        let end = start.saturating_add(self.batch_size).min(self.order.examples());
        self.indices.clear();
        self.indices.extend((start..end).map(|place| self.order.at(place) as u32));
        self.turn = (self.turn + 1) % self.buffers.len();
        let buffers = &mut self.buffers[self.turn];
        buffers.start_batch();
        let gathered = self.dataset.gather(&self.indices, buffers);
        let gathered = gathered.map_err(|e| e.context(format!("batch {batch} of epoch {epoch}")))?;
        Ok((gathered, end - start))
    }
}
