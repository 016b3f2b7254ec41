//! The devices that programs run on, behind one trait.
//!
//! Comes in: kernels. Goes out: an [`Executable`], which takes and returns arrays. Graphs are optimised and fused in
//! `program`. Each device is a folder here.

pub(crate) mod cpu;

use std::time::Duration;

use fulgurite_jit::fuse::Kernels;
use fulgurite_jit::{Array, Result};

/// Where a program runs and its arrays are. It is part of the signature of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Device {
    /// The processor, with its threads.
    #[default]
    Cpu,
}

/// A compiled program on a device. Several threads may run it at once.
pub(crate) trait Executable: Send + Sync {
    /// The kernels of a run, with the types of inputs and outputs.
    fn kernels(&self) -> &Kernels;

    /// Bytes of the arena of a run, and their lower bound for this order of the kernels.
    fn arena_bytes(&self) -> (usize, usize);

    /// The time of each stage of compilation.
    fn compile_times(&self) -> &[(&'static str, Duration)];

    /// Is each of the first `count` outputs written in place of the input of the same number (or is that input), and is
    /// the memory of the others separate from these and from other inputs?
    fn updates_in_place(&self, count: usize) -> bool;

    /// Runs the program. A donated input is overwritten if its array is the only handle to its buffer, and copied
    /// otherwise.
    ///
    /// # Errors
    /// When an allocation fails, or the device does. Nothing has been overwritten in the first case.
    ///
    /// # Safety
    /// The inputs have the number and types of `kernels().params`. Each donated one has a second handle while this
    /// runs, or is borrowed by the caller alone.
    unsafe fn run(&self, inputs: &[&Array]) -> Result<Vec<Array>>;

    /// Runs a program that [updates](Executable::updates_in_place) `state`, its first inputs and outputs, in place.
    /// Arrays with other handles are replaced by copies. Returns the other outputs.
    ///
    /// # Errors
    /// As [`Executable::run`]; the values of the state are unchanged when an allocation fails.
    ///
    /// # Safety
    /// The program updates as many inputs in place. `state` followed by `borrowed` has the number and types of
    /// `kernels().params`.
    unsafe fn run_in_place(&self, state: &mut [Array], borrowed: &[&Array]) -> Result<Vec<Array>>;
}
