//! What is ordered between blocks that are resident together.
//!
//! The accesses of a block are in phases. A thread that fences behind a barrier of its block begins one, and gives the
//! phases before it, and all that the block knows of others, to whoever reads what it then writes by an atomic or a
//! volatile store. A thread takes what it reads by an atomic or a volatile load when it fences; behind its next barrier
//! the block knows. A barrier of the grid is made of these.
//!
//! Between the barrier and the fence the block accesses nothing, or the fence begins no phase: then less counts as
//! ordered than is.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

/// For each block the number of its first phase that does not come before.
#[derive(Clone, Debug, Default)]
struct Clock(Vec<u32>);

impl Clock {
    fn join(&mut self, other: &Clock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (phase, other) in self.0.iter_mut().zip(&other.0) {
            *phase = (*phase).max(*other);
        }
    }
}

/// The phase of a block, and what it knows of the others.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    phase: u32,
    clock: Clock,
    /// The least of the clock and the phase.
    least: u32,
}

impl Known {
    /// The phase of the block.
    pub(super) fn phase(&self) -> u32 {
        self.phase
    }

    /// The first phase of another block that does not come before.
    pub(super) fn of(&self, block: u32) -> u32 {
        self.clock.0.get(block as usize).copied().unwrap_or(0)
    }

    /// The first phase of any block, this one too, that does not come before.
    pub(super) fn of_all(&self) -> u32 {
        self.least
    }

    /// Enters a phase of block `number`.
    fn enter(&mut self, number: u32, phase: u32) {
        self.phase = phase;
        let others = self.clock.0.iter().enumerate().filter(|(other, _)| *other != number as usize);
        self.least = others.map(|(_, &phase)| phase).min().unwrap_or(0).min(phase);
    }
}

/// What a thread gives and takes.
#[derive(Debug, Default)]
struct Thread {
    /// At its last fence.
    given: Clock,
    /// Since its last fence.
    read: Clock,
}

#[derive(Debug, Default)]
struct Block {
    known: Rc<Known>,
    /// Whether it has accessed memory since its last barrier.
    accessed: bool,
    /// What its threads have taken since its last barrier.
    taken: Clock,
    /// The threads that give and take.
    threads: BTreeMap<u32, Thread>,
}

/// The blocks of a launch that are resident together.
#[derive(Debug)]
pub(super) struct Grid {
    blocks: Vec<Block>,
    /// What was given at an address.
    given: HashMap<u64, Clock>,
}

impl Grid {
    /// So many blocks that know nothing of each other.
    pub(super) fn new(blocks: u32) -> Grid {
        Grid { blocks: (0..blocks).map(|_| Block::default()).collect(), given: HashMap::new() }
    }

    /// What a block knows when it accesses memory.
    pub(super) fn access(&mut self, block: u32) -> Rc<Known> {
        let block = &mut self.blocks[block as usize];
        block.accessed = true;
        block.known.clone()
    }

    /// A fence of threads of a block.
    pub(super) fn fence(&mut self, number: u32, threads: impl Iterator<Item = u32>) {
        let count = self.blocks.len();
        let block = &mut self.blocks[number as usize];
        if !block.accessed {
            let known = Rc::make_mut(&mut block.known);
            known.enter(number, known.phase + 1);
        }
        let mut given = block.known.clock.clone();
        given.0.resize(count, 0);
        given.0[number as usize] = block.known.phase;
        for thread in threads {
            let thread = block.threads.entry(thread).or_default();
            thread.given = given.clone();
            block.taken.join(&std::mem::take(&mut thread.read));
        }
    }

    /// An atomic or volatile access of a thread.
    pub(super) fn strong(&mut self, (block, thread): (u32, u32), address: u64, reads: bool, writes: bool) {
        let thread = self.blocks[block as usize].threads.entry(thread).or_default();
        let given = self.given.entry(address).or_default();
        if reads {
            thread.read.join(given);
        }
        match (reads, writes) {
            // What was given before an atomic is still given after it.
            (true, true) => given.join(&thread.given),
            (false, true) => *given = thread.given.clone(),
            (_, false) => {}
        }
    }

    /// A barrier of a block.
    pub(super) fn barrier(&mut self, number: u32) {
        let Block { known, taken, accessed, .. } = &mut self.blocks[number as usize];
        *accessed = false;
        if taken.0.is_empty() {
            return;
        }
        let known = Rc::make_mut(known);
        known.clock.join(&std::mem::take(taken));
        // Blocks that met have one phase.
        known.enter(number, known.clock.0.iter().copied().fold(known.phase, u32::max));
    }
}
