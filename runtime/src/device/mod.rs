//! The devices that programs run on, behind one trait.
//!
//! Comes in: kernels. Goes out: an [`Executable`], which takes and returns arrays. Graphs are optimised and fused in
//! `program`. Each device is a folder here.

pub(crate) mod cpu;

use std::time::Duration;

use fulgurite_jit::array::Device;
use fulgurite_jit::fuse::Kernels;
use fulgurite_jit::{Array, Error, Result};

/// The array on `device`: itself, if it is there, or a copy. JAX: `jax.device_put`.
///
/// # Errors
/// When memory for the copy is not available, or a device fails.
pub(crate) fn put(array: &Array, device: Device) -> Result<Array> {
    match device {
        Device::Cpu => array.to_host(),
        Device::Cuda(_) => Err(no_back_end(device)),
    }
}

/// Calls `run` with `arrays` on `device`: themselves where they are there, or copies. A copy is the only handle to its
/// buffer.
///
/// # Errors
/// As [`put`]; those of `run`.
#[inline]
pub(crate) fn with_arrays_on<R>(
    device: Device,
    arrays: &[&Array],
    run: impl FnOnce(&[&Array]) -> Result<R>,
) -> Result<R> {
    if arrays.iter().all(|x| x.device() == device) {
        return run(arrays);
    }
    let copies = arrays.iter().map(|x| if x.device() == device { Ok(None) } else { put(x, device).map(Some) });
    let copies = copies.collect::<Result<Vec<_>>>()?;
    run(&arrays.iter().zip(&copies).map(|(x, copy)| copy.as_ref().unwrap_or(x)).collect::<Vec<_>>())
}

/// The error of a device that this build has no back end for.
#[cold]
pub(crate) fn no_back_end(device: Device) -> Error {
    Error::new(format!("this build has no back end for {device}"))
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
    /// The inputs are on the device and have the number and types of `kernels().params`. Each donated one has a second
    /// handle while this runs, or is borrowed by the caller alone.
    unsafe fn run(&self, inputs: &[&Array]) -> Result<Vec<Array>>;

    /// Runs a program that [updates](Executable::updates_in_place) `state`, its first inputs and outputs, in place.
    /// Arrays with other handles are replaced by copies. Returns the other outputs.
    ///
    /// # Errors
    /// As [`Executable::run`]; the values of the state are unchanged when an allocation fails.
    ///
    /// # Safety
    /// The program updates as many inputs in place. `state` followed by `borrowed` is on the device and has the number
    /// and types of `kernels().params`.
    unsafe fn run_in_place(&self, state: &mut [Array], borrowed: &[&Array]) -> Result<Vec<Array>>;
}
