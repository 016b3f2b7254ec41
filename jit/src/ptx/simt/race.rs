//! Races: who last read and wrote each word of memory, and whether a barrier lies between that and an access.
//!
//! Time is a number that grows at every barrier of a block or warp and at the start of every block and launch. Of each
//! word (or byte, once a smaller access than a word was seen) the last writes and reads are kept that are not ordered
//! with each other: one thread, several of a warp, of a block, or of several blocks.
//!
//! Two accesses are ordered if one thread makes them, if a barrier of their block lies between them, if they are of
//! one warp and a barrier or shuffle of the warp lies between them, if they are of blocks that are resident together
//! and what `grid` says lies between them, or if they are of different launches. Otherwise they are a race if one is a
//! write, except that accesses that are both strong are none: atomics, and volatile ones of global memory.
//!
//! Of threads that read unordered with each other only the latest time is kept; where barriers of parts of a warp
//! order some of them, a race can be reported that is none.

use std::rc::Rc;

use super::grid::Known;

/// Accesses that are not ordered with each other.
#[derive(Clone, Copy, Debug, Default)]
struct Access {
    /// The latest time; 0 is never.
    time: u32,
    /// The block, if it is one.
    block: u32,
    /// The latest phase: see `grid`.
    phase: u32,
    /// The lanes, if they are of one warp.
    lanes: u32,
    /// The warp, [`WARPS`] or [`BLOCKS`].
    warp: u16,
    /// All are atomics or, in global memory, volatile.
    strong: bool,
}

/// Threads of several warps of a block.
const WARPS: u16 = u16::MAX;
/// Threads of several blocks.
const BLOCKS: u16 = u16::MAX - 1;

/// Times up to which lane `i` is ordered after lane `j` of its warp.
pub(super) type Order = [[u32; 32]; 32];

/// Who accesses memory, and what came before.
pub(super) struct Now<'a> {
    /// The time.
    pub(super) time: u32,
    /// The time at which the launch began; for shared memory, the block.
    pub(super) launch: u32,
    /// The block.
    pub(super) block: u32,
    /// What it knows of the others, if several are resident.
    pub(super) others: Option<Rc<Known>>,
    /// The time after the last barrier of the block.
    pub(super) barrier: u32,
    /// The time after the last barrier of the warp.
    pub(super) warp_barrier: u32,
    /// The warp in its block.
    pub(super) warp: u16,
    /// What barriers of parts of the warp ordered.
    pub(super) order: Option<&'a Order>,
}

impl Now<'_> {
    /// Whether the accesses come before what `lanes` do now.
    fn after(&self, past: &Access, lanes: u32) -> bool {
        if past.time < self.launch {
            return true;
        }
        if past.warp == BLOCKS {
            return self.others.as_ref().is_some_and(|others| past.phase < others.of_all());
        }
        if past.block != self.block {
            return self.others.as_ref().is_some_and(|others| past.phase < others.of(past.block));
        }
        if past.time < self.barrier {
            return true;
        }
        if past.warp != self.warp {
            return false;
        }
        if past.time < self.warp_barrier || (past.lanes == lanes && lanes.is_power_of_two()) {
            return true;
        }
        match self.order {
            None => false,
            Some(order) => (0..32).filter(|i| lanes >> i & 1 == 1).all(|i: usize| {
                (0..32).filter(|&j| j != i && past.lanes >> j & 1 == 1).all(|j| past.time < order[i][j])
            }),
        }
    }

    /// What is kept of accesses when `lanes` make another.
    fn kept(&self, past: &Access, lanes: u32, strong: bool) -> Access {
        let phase = self.others.as_ref().map_or(0, |others| others.phase());
        let now = Access { time: self.time, block: self.block, phase, lanes, warp: self.warp, strong };
        if self.after(past, lanes) {
            now
        } else if past.warp == BLOCKS || past.block != self.block {
            Access { warp: BLOCKS, phase: phase.max(past.phase), strong: strong && past.strong, ..now }
        } else if past.warp == self.warp {
            Access { lanes: lanes | past.lanes, strong: strong && past.strong, ..now }
        } else {
            Access { warp: WARPS, strong: strong && past.strong, ..now }
        }
    }
}

/// What a race is with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Conflict {
    /// Threads that write.
    Written(Who),
    /// Threads that read.
    Read(Who),
    /// A load with `.nc`.
    NonCoherent,
    /// A `cp.async` that is still reading.
    Copy,
}

/// Who made earlier accesses.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    /// A thread of the block.
    Thread(u32),
    /// Several threads of a warp of the block.
    Warp(u32),
    /// Threads of several warps of the block.
    Block,
    /// Threads of another block.
    OtherBlock(u32),
    /// Threads of several blocks.
    Grid,
}

/// The accesses of a word or byte.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    write: Access,
    read: Access,
    /// The time of the last load with `.nc`.
    non_coherent: u32,
    /// How many `cp.async` are reading it.
    copies: u32,
}

/// How memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A load; `true` if it is strong.
    Read(bool),
    /// A load with `.nc`.
    ReadOnly,
    /// A store; `true` if it is strong.
    Write(bool),
    /// An atomic.
    Atomic,
}

impl Cell {
    fn access(&mut self, now: &Now<'_>, lanes: u32, mode: Mode) -> Result<(), Conflict> {
        let (reads, writes, strong) = match mode {
            Mode::Read(strong) => (true, false, strong),
            Mode::ReadOnly => (true, false, false),
            Mode::Write(strong) => (false, true, strong),
            Mode::Atomic => (true, true, true),
        };
        if mode == Mode::ReadOnly {
            if self.write.time >= now.launch {
                return Err(Conflict::NonCoherent);
            }
            self.non_coherent = now.time;
        }
        if !(now.after(&self.write, lanes) || (strong && self.write.strong)) {
            return Err(Conflict::Written(who(&self.write, now)));
        }
        if writes {
            if self.non_coherent >= now.launch {
                return Err(Conflict::NonCoherent);
            }
            if self.copies > 0 {
                return Err(Conflict::Copy);
            }
            if !(now.after(&self.read, lanes) || (strong && self.read.strong)) {
                return Err(Conflict::Read(who(&self.read, now)));
            }
            self.write = now.kept(&self.write, lanes, strong);
        }
        // What an atomic reads, it writes: whoever conflicts with the read conflicts with the write.
        if reads && !writes {
            self.read = now.kept(&self.read, lanes, strong);
        }
        Ok(())
    }
}

fn who(past: &Access, now: &Now<'_>) -> Who {
    if past.warp == BLOCKS {
        Who::Grid
    } else if past.block != now.block {
        Who::OtherBlock(past.block)
    } else if past.warp == WARPS {
        Who::Block
    } else if past.lanes.is_power_of_two() {
        Who::Thread(u32::from(past.warp) * 32 + past.lanes.trailing_zeros())
    } else {
        Who::Warp(u32::from(past.warp))
    }
}

/// Bytes of a chunk. No access lies in two: it is aligned, and shorter.
const CHUNK: usize = 4096;

/// The accesses of a chunk.
#[derive(Clone, Debug, Default)]
struct Chunk {
    /// One for each word, or for each byte; empty before the first access.
    cells: Vec<Cell>,
    bytes: bool,
}

impl Chunk {
    /// The cells of `len` bytes from `at` on.
    fn cells(&mut self, at: usize, len: usize) -> &mut [Cell] {
        if self.cells.is_empty() {
            self.cells = vec![Cell::default(); CHUNK / 4];
        }
        if !self.bytes && !(at | len).is_multiple_of(4) {
            self.cells = self.cells.iter().flat_map(|&cell| [cell; 4]).collect();
            self.bytes = true;
        }
        if self.bytes { &mut self.cells[at..at + len] } else { &mut self.cells[at / 4..(at + len) / 4] }
    }
}

/// The accesses of a range of memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Shadow {
    /// Empty before the first access.
    chunks: Vec<Chunk>,
}

impl Shadow {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.chunks.clear();
    }

    /// The cells of `len` bytes from `at` on, in a range of `size` bytes.
    fn cells(&mut self, at: usize, len: usize, size: usize) -> &mut [Cell] {
        if self.chunks.is_empty() {
            self.chunks = vec![Chunk::default(); size.div_ceil(CHUNK)];
        }
        self.chunks[at / CHUNK].cells(at % CHUNK, len)
    }

    /// An access of `len` bytes from `at` on, in a range of `size` bytes.
    pub(super) fn access(
        &mut self,
        (at, len, size): (usize, usize, usize),
        now: &Now<'_>,
        lanes: u32,
        mode: Mode,
    ) -> Result<(), Conflict> {
        self.cells(at, len, size).iter_mut().try_for_each(|cell| cell.access(now, lanes, mode))
    }

    /// A `cp.async` begins to read `len` bytes from `at` on.
    pub(super) fn begin_copy(&mut self, at: usize, len: usize, size: usize) {
        self.cells(at, len, size).iter_mut().for_each(|cell| cell.copies += 1);
    }

    /// A `cp.async` has read `len` bytes from `at` on.
    pub(super) fn end_copy(&mut self, at: usize, len: usize, size: usize) {
        self.cells(at, len, size).iter_mut().for_each(|cell| cell.copies = cell.copies.saturating_sub(1));
    }
}
