//! A thread among those of its row, and what they share.

use crate::ptx::inst::Reg;
use crate::types::DType;

/// This thread among those of its row.
#[derive(Clone, Copy)]
pub(super) enum Member {
    /// It is the only one.
    Alone,
    /// It has accumulator `lane`; `mask` has the bits of this half of its warp.
    HalfWarp { lane: Reg, mask: Reg, is_first: Reg },
    /// It is one of a block.
    Block(Shared),
}

/// The memory of a block, and this thread in it.
#[derive(Clone, Copy)]
pub(super) struct Shared {
    /// The number of this thread.
    pub(super) thread: Reg,
    pub(super) is_first: Reg,
    /// Whether it has accumulators.
    pub(super) adds: Reg,
    /// The address of shared memory.
    pub(super) base: Reg,
    /// Where elements begin that are kept for later sweeps.
    pub(super) kept: u32,
    /// The elements that are exchanged at a time.
    pub(super) elements: usize,
    /// The address of the buffer in which they are exchanged now: one of two in turn.
    pub(super) buffer: Reg,
    /// The exclusive or of both addresses.
    pub(super) other: Reg,
    /// Where the results of reductions are.
    pub(super) results: u32,
}

/// The portion of a row that threads compute now, and hand over.
pub(super) struct Portion {
    /// The loop over its elements.
    pub(super) dim: usize,
    /// For each accumulator, the address at which the element at position 0 would be.
    pub(super) starts: Vec<(usize, Reg)>,
}

/// Where the elements of an input are, for a thread.
#[derive(Clone, Copy)]
pub(super) struct Tiled {
    pub(super) dtype: DType,
    /// The loop that it is contiguous along.
    pub(super) dim: usize,
    /// The address of the element at its position 0.
    pub(super) start: Reg,
    /// Bytes from one to the next.
    pub(super) step: u32,
}
