//! What a launch executed, in numbers that a model of its time can start from.

use std::ops::AddAssign;

/// What a launch executed. Instructions are those of warps: one that 32 threads run together counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All instructions.
    pub instructions: u64,
    /// The same, counted once for each thread that runs it.
    pub thread_instructions: u64,
    /// Loads from global memory, `cp.async` and atomics with them.
    pub global_loads: u64,
    /// Stores to global memory, and atomics.
    pub global_stores: u64,
    /// Accesses of shared memory, `ldmatrix` and `cp.async` with them.
    pub shared: u64,
    /// `shfl.sync` and `vote.sync`.
    pub shuffles: u64,
    /// `bar.sync` and `bar.warp.sync`.
    pub barriers: u64,
    /// `membar`.
    pub fences: u64,
    /// `mma.sync`.
    pub mma: u64,
    /// Sectors of 32 bytes that loads from global memory touch, counted for each instruction.
    pub load_sectors: u64,
    /// Sectors of 32 bytes that stores to global memory touch, counted for each instruction.
    pub store_sectors: u64,
    /// Bytes that threads load from global memory.
    pub load_bytes: u64,
    /// Bytes that threads store to global memory.
    pub store_bytes: u64,
    /// Cycles that accesses of shared memory take beyond those that they would take without conflicts of banks.
    pub bank_conflicts: u64,
    /// Branches that only some of the running threads of a warp take.
    pub divergent_branches: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.instructions += other.instructions;
        self.thread_instructions += other.thread_instructions;
        self.global_loads += other.global_loads;
        self.global_stores += other.global_stores;
        self.shared += other.shared;
        self.shuffles += other.shuffles;
        self.barriers += other.barriers;
        self.fences += other.fences;
        self.mma += other.mma;
        self.load_sectors += other.load_sectors;
        self.store_sectors += other.store_sectors;
        self.load_bytes += other.load_bytes;
        self.store_bytes += other.store_bytes;
        self.bank_conflicts += other.bank_conflicts;
        self.divergent_branches += other.divergent_branches;
    }
}
