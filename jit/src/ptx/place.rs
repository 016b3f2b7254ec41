//! The words of a module: the GPU, launches, and the places that they are called with.

use std::fmt;

/// A GPU that code is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The compute capability, as 70 for 7.0.
    pub capability: u32,
    /// The number of multiprocessors.
    pub multiprocessors: u32,
    /// Which loops are cooperative launches.
    pub cooperative: Cooperative,
}

/// Which loops are cooperative launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cooperative {
    /// None: the device has no such launches.
    Never,
    /// Those for which it is profitable.
    Auto,
    /// All, of small kernels too: slower, with the same results. For tests.
    Always,
}

/// The version of PTX that modules are written in, as 70 for 7.0: every supported driver reads it.
pub const VERSION: u32 = 70;

/// The newest architecture of that version.
const NEWEST: u32 = 80;

impl Target {
    /// The architecture that code is written for: the newest of [`VERSION`] for those that came later, which run its
    /// code. Nothing is emitted that only they have.
    pub fn architecture(self) -> u32 {
        self.capability.min(NEWEST)
    }
}

impl Default for Target {
    /// The least that is supported, with the multiprocessors of an H100.
    fn default() -> Self {
        Target { capability: 70, multiprocessors: 132, cooperative: Cooperative::Auto }
    }
}

/// The largest number of rows, blocks and elements along an axis: indices are 32-bit integers.
pub(super) const MAX_INDEX: usize = i32::MAX as usize;

/// Threads of a block.
pub const THREADS: u32 = 256;

/// Nanoseconds that a launch adds to a run, once the graph of the run is launched.
pub const LAUNCH: usize = 1300;

/// Nanoseconds of a barrier of the grid: an atomic of each block, and the way of its last one to all. An estimate, of
/// which nothing is measured.
pub const BARRIER: usize = 1600;

/// A launch of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The kernel that it is part of.
    pub kernel: usize,
    /// The entry.
    pub entry: usize,
    /// Blocks, of [`THREADS`] threads each.
    pub grid: u32,
    /// Whether the blocks wait for each other: all are resident at once. With fewer blocks than `grid`, as many as the
    /// device has room for, it does the same.
    pub cooperative: bool,
    /// The addresses that the entry is called with.
    pub args: Vec<Place>,
}

/// An address: so many bytes from the start of some memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The memory.
    pub memory: MemoryOf,
    /// Bytes from its start.
    pub offset: i64,
}

/// The memory that a place lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryOf {
    /// An input.
    Param(usize),
    /// An output, which may be the memory of a donated input.
    Output(usize),
    /// A constant.
    Constant(usize),
    /// The arena.
    Arena,
    /// The word of the barriers of cooperative launches, a u32: 0 before the first run, and never reset.
    Barrier,
}

impl Place {
    pub(super) fn plus(self, bytes: i64) -> Self {
        Place { offset: self.offset + bytes, ..self }
    }
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let args: Vec<String> = self.args.iter().map(ToString::to_string).collect();
        let together = if self.cooperative { " together" } else { "" };
        write!(f, "k{}: entry {}, {} blocks{together} ({})", self.kernel, self.entry, self.grid, args.join(", "))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.memory {
            MemoryOf::Param(i) => write!(f, "input {i}")?,
            MemoryOf::Output(o) => write!(f, "output {o}")?,
            MemoryOf::Constant(c) => write!(f, "constant {c}")?,
            MemoryOf::Arena => write!(f, "arena")?,
            MemoryOf::Barrier => write!(f, "barrier")?,
        }
        if self.offset != 0 { write!(f, " + {}", self.offset) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn code_is_for_the_device_or_the_newest_that_the_version_knows() {
        for (capability, expected) in [(70, 70), (75, 75), (80, 80), (86, 80), (90, 80), (120, 80)] {
            assert_eq!(Target { capability, ..Target::default() }.architecture(), expected);
        }
    }
}
