//! Memory of a device that is written on the stream of copies, while steps that were asked for before still read other
//! memory.
//!
//! Comes in: memory that was dropped. Goes out: memory that no step uses when later copies happen. What is dropped
//! rests until the stream of copies waits for the steps that were asked for by then. It begins to wait when the copies
//! of the moment have been asked for, so that it holds back those that come later alone: copies run beside the last
//! step, and a loop of steps has two blocks for each array of a batch.

use std::collections::{BTreeMap, VecDeque};

/// Blocks of memory: their address and their bytes.
type Block = (u64, usize);

/// Memory that is not in use.
#[derive(Default)]
pub(super) struct Rotation {
    /// Steps that were asked for may use it.
    resting: Vec<Block>,
    /// Addresses by size, the longest unused first.
    free: BTreeMap<usize, VecDeque<u64>>,
}

impl Rotation {
    /// Memory of this size that copies which are asked for from now on may write.
    pub(super) fn take(&mut self, bytes: usize) -> Option<u64> {
        self.free.get_mut(&bytes)?.pop_front()
    }

    /// Keeps memory that steps which were asked for may use.
    pub(super) fn rest(&mut self, address: u64, bytes: usize) {
        self.resting.push((address, bytes));
    }

    /// Is there memory that rests?
    pub(super) fn has_resting(&self) -> bool {
        !self.resting.is_empty()
    }

    /// Copies that are asked for from now on wait for the steps that were asked for.
    pub(super) fn end_rest(&mut self) {
        for (address, bytes) in self.resting.drain(..) {
            self.free.entry(bytes).or_default().push_back(address);
        }
    }

    /// All of it, for whoever waits for both streams.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = u64> + use<> {
        let Rotation { resting, free } = std::mem::take(self);
        resting.into_iter().map(|(address, _)| address).chain(free.into_values().flatten())
    }
}
