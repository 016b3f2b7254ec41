//! Concurrent kernels: which of those that follow each other are one launch, each on blocks that no other has.
//!
//! In: kernels in their order, with the blocks of each. Out: groups. The kernels of a group need nothing of each other,
//! and none of them fills the device. They are simultaneous for the memory plan, so that they share no memory either.

use std::ops::Range;

use super::epilogue::may_update;
use crate::fuse::{BufferId, Kernel, Kernels};

/// The most kernels of a group: the driver takes long to compile large entries.
const MAX_MEMBERS: usize = 16;

/// The most buffers of a group, which are the parameters of its entry.
const MAX_BUFFERS: usize = 256;

/// The most blocks of a group, for each multiprocessor: more would wait for each other, with the registers of the
/// kernel that needs most.
const BLOCKS_PER_MULTIPROCESSOR: usize = 2;

/// A group under construction.
pub(super) struct Concurrent<'k> {
    kernels: &'k Kernels,
    donated: &'k [bool],
    multiprocessors: usize,
    /// The number of the group.
    pub(super) number: usize,
    members: usize,
    blocks: usize,
    reads: Vec<BufferId>,
    writes: Vec<BufferId>,
}

impl<'k> Concurrent<'k> {
    pub(super) fn new(kernels: &'k Kernels, donated: &'k [bool], multiprocessors: u32) -> Self {
        let (multiprocessors, reads, writes) = (multiprocessors as usize, vec![], vec![]);
        Concurrent { kernels, donated, multiprocessors, number: 0, members: 0, blocks: 0, reads, writes }
    }

    /// Ends the group.
    pub(super) fn end(&mut self) {
        self.number += 1;
        (self.members, self.blocks) = (0, 0);
        self.reads.clear();
        self.writes.clear();
    }

    /// Adds kernels that are emitted as one, with so many blocks. Whether they are in the group of those before.
    pub(super) fn add(&mut self, kernels: Range<usize>, blocks: usize) -> bool {
        let kernels = &self.kernels.kernels[kernels];
        let reads: Vec<BufferId> = kernels.iter().flat_map(Kernel::reads).collect();
        let writes: Vec<BufferId> = kernels.iter().flat_map(Kernel::writes).collect();
        let joins = self.members > 0 && self.takes(&reads, &writes, blocks);
        if !joins {
            self.end();
        }
        (self.members, self.blocks) = (self.members + 1, self.blocks + blocks);
        self.reads.extend(reads);
        self.writes.extend(writes);
        joins
    }

    fn takes(&self, reads: &[BufferId], writes: &[BufferId], blocks: usize) -> bool {
        let buffers = self.reads.len() + self.writes.len() + reads.len() + writes.len();
        let fits = self.members < MAX_MEMBERS
            && buffers <= MAX_BUFFERS
            && self.blocks.max(blocks) <= self.multiprocessors
            && self.blocks + blocks <= self.multiprocessors * BLOCKS_PER_MULTIPROCESSOR;
        let updates = |writes: &[BufferId], reads: &[BufferId]| {
            reads.iter().any(|&b| writes.contains(&b) || may_update(self.kernels, self.donated, writes, b))
        };
        fits && !updates(&self.writes, reads)
            && !updates(writes, &self.reads)
            && !self.writes.iter().any(|b| writes.contains(b))
    }
}
