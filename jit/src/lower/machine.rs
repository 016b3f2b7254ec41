//! The machine that code is compiled for, as data: instruction set, threads, caches, costs. Nothing here asks which machine
//! this is.

/// An instruction set that code is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// 512-bit vectors and masks (AVX-512F).
    Avx512,
    /// 256-bit vectors and fused multiply-add (AVX2, FMA).
    Avx2,
    /// The baseline of the target.
    Portable,
}

impl Isa {
    /// The name in `FULGURITE_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        }
    }

    /// Bytes of a vector register.
    pub fn vector_bytes(self) -> usize {
        match self {
            Isa::Avx512 => 64,
            Isa::Avx2 => 32,
            Isa::Portable => 16,
        }
    }
}

/// Which kernels run in parallel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parallelism {
    /// Those of profitable phases.
    Auto,
    /// All kernels of every size; for tests.
    Always,
}

/// The maximum number of threads of a step.
pub const MAX_THREADS: usize = 1024;

/// What code is compiled for. Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The instruction set.
    pub isa: Isa,
    /// The number of threads that run a step: 1 to [`MAX_THREADS`].
    pub threads: usize,
    /// Which kernels run on all threads.
    pub parallelism: Parallelism,
}

/// A target, its caches and what things cost on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Instruction set and threads.
    pub target: Target,
    /// Bytes of a first-level data cache.
    pub l1: usize,
    /// Bytes of the part of a second-level cache that a kernel's data should fit in.
    pub l2: usize,
    /// The costs.
    pub cost: Cost,
}

/// Costs, in nanoseconds. They decide what runs in parallel, and no result.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// A call of a loop kernel.
    pub call: f64,
    /// A vector instruction of a loop kernel.
    pub instruction: f64,
    /// A call of a matrix product.
    pub product: f64,
    /// A floating-point operation of a matrix product.
    pub flop: f64,
    /// An operation of a routine.
    pub scalar: f64,
    /// Kernels of less are small.
    pub small: f64,
    /// The work that a parallel phase is worth.
    pub min_parallel: f64,
    /// A barrier of all threads.
    pub barrier: f64,
    /// A phase that reads from the caches of other cores.
    pub cache_transfer: f64,
    /// The gain that waking the threads is worth.
    pub wake: f64,
}

impl From<Target> for Machine {
    /// With the caches and costs of Zen 4, on which they were measured.
    fn from(target: Target) -> Self {
        let cost = Cost {
            call: 20.0,
            // 8 multiply-adds of a matrix product.
            instruction: 0.25,
            product: 50.0,
            flop: 0.01,
            scalar: 0.5,
            small: 1_000.0,
            min_parallel: 2_000.0,
            barrier: 400.0,
            cache_transfer: 400.0,
            wake: 4_000.0,
        };
        Machine { target, l1: 32 << 10, l2: 512 << 10, cost }
    }
}
