//! The devices that programs run on, behind one trait.
//!
//! Comes in: kernels. Goes out: an [`Executable`], which takes and returns arrays. Graphs are optimised and fused in
//! `program`. Each device is a folder here.

pub(crate) mod cpu;
#[cfg(any(test, feature = "testing", feature = "cuda"))]
pub(crate) mod cuda;
pub(crate) mod select;

use std::sync::Arc;
use std::time::Duration;

use fulgurite_jit::array::Device;
use fulgurite_jit::fuse::{Kernels, Output};
use fulgurite_jit::lower::memory::{Location, Plan};
use fulgurite_jit::{Array, Result};

use select::Opened;

/// Why there is no GPU in a build without the feature `cuda`.
#[cfg(not(feature = "cuda"))]
pub(crate) const NO_CUDA: &str = "this build has no back end for NVIDIA GPUs; the feature `cuda` adds it";

/// Opens the GPU of a number.
///
/// # Errors
/// When this build has no back end for it, there is no such device, or it fails.
fn open_cuda(number: u32) -> Result<Arc<dyn Accelerator>> {
    #[cfg(any(test, feature = "testing", feature = "cuda"))]
    return cuda::registry::open(number).map(|gpu| gpu as Arc<dyn Accelerator>);
    #[cfg(not(any(test, feature = "testing", feature = "cuda")))]
    return Err(fulgurite_jit::Error::new(format!("{}: {NO_CUDA}", Device::Cuda(number))));
}

/// The device that programs run on unless another is chosen: the first GPU, if there is one that works. A driver that
/// cannot be used is told of once, on standard error.
fn find() -> Option<Arc<dyn Accelerator>> {
    #[cfg(any(test, feature = "testing", feature = "cuda"))]
    return cuda::registry::find().map(|gpu| gpu as Arc<dyn Accelerator>);
    #[cfg(not(any(test, feature = "testing", feature = "cuda")))]
    return None;
}

/// The device that holds an array, if it is one that was opened here.
pub(crate) fn holder(array: &Array) -> Option<Arc<dyn Accelerator>> {
    #[cfg(any(test, feature = "testing", feature = "cuda"))]
    return cuda::holder(array);
    #[cfg(not(any(test, feature = "testing", feature = "cuda")))]
    return (array.device() != Device::Cpu).then_some(None).flatten();
}

/// A device other than the processor, with separate memory.
pub(crate) trait Accelerator: Send + Sync {
    /// Which device it is.
    fn device(&self) -> Device;

    /// Tells it from every other device that was opened in this process; not 0.
    fn id(&self) -> u64;

    /// Is the array in its memory?
    fn holds(&self, array: &Array) -> bool;

    /// A copy of an array from elsewhere in its memory.
    ///
    /// # Errors
    /// When memory for the copy is not available, or a device fails.
    fn put(self: Arc<Self>, array: &Array) -> Result<Array>;

    /// Starts to copy arrays from the host, beside the programs that were asked for. No program takes the copies before
    /// [`Upload::before_programs`].
    ///
    /// # Errors
    /// As [`Accelerator::put`].
    fn put_ahead(self: Arc<Self>, arrays: &[&Array]) -> Result<(Vec<Array>, Box<dyn Upload>)>;

    /// Starts to copy arrays of its memory to the host. They may be dropped, and overwritten by later programs.
    ///
    /// # Errors
    /// When the device fails, or an array is elsewhere.
    fn fetch(self: Arc<Self>, arrays: &[&Array]) -> Result<Box<dyn Download>>;

    /// Compiles kernels. `name` is for dumps, `donated` says which inputs may be overwritten by outputs.
    ///
    /// # Errors
    /// A compiler error; when the device fails.
    fn compile(self: Arc<Self>, name: &str, kernels: Kernels, donated: &[bool]) -> Result<Box<dyn Executable>>;

    /// Waits until all that was asked for is done.
    ///
    /// # Errors
    /// When the device fails.
    fn synchronize(&self) -> Result<()>;
}

/// Copies to a device that were asked for.
pub(crate) trait Upload: Send + Sync {
    /// Programs that are asked for from now on run when the copies are done. The host does not wait.
    ///
    /// # Errors
    /// When the device fails.
    fn before_programs(&self) -> Result<()>;
}

/// Copies of arrays to the host that were asked for.
pub(crate) trait Download: Send + Sync {
    /// Are they done?
    ///
    /// # Errors
    /// When the device fails.
    fn is_ready(&self) -> Result<bool>;

    /// The arrays on the host, when the copies are done.
    ///
    /// # Errors
    /// When the device fails, or the host has no memory for them.
    fn wait(&self) -> Result<Vec<Array>>;
}

/// Calls `run` with `arrays` on `device`: themselves where they are there, or copies. A copy is the only handle to its
/// buffer.
///
/// # Errors
/// As [`Opened::put`]; those of `run`.
#[inline]
pub(crate) fn with_arrays_on<R>(
    device: &Opened,
    arrays: &[&Array],
    run: impl FnOnce(&[&Array]) -> Result<R>,
) -> Result<R> {
    if device.holds_all() || arrays.iter().all(|x| device.holds(x)) {
        return run(arrays);
    }
    let copies = arrays.iter().map(|x| if device.holds(x) { Ok(None) } else { device.put(x).map(Some) });
    let copies = copies.collect::<Result<Vec<_>>>()?;
    run(&arrays.iter().zip(&copies).map(|(x, copy)| copy.as_ref().unwrap_or(x)).collect::<Vec<_>>())
}

/// Is each of the first `count` outputs written in place of the input of the same number (or is that input), and is the
/// memory of the others separate from these and from other inputs?
pub(crate) fn updates_in_place(kernels: &Kernels, plan: &Plan, count: usize) -> bool {
    let is_in_place = |(o, output): (usize, &Output)| match output {
        Output::Computed(b, _) if o < count => {
            plan.aliases[o] == Some(o) && plan.locations[b.index()] == Location::Output(o)
        }
        Output::Computed(b, _) => {
            plan.aliases[o].is_none() && !matches!(plan.locations[b.index()], Location::Output(first) if first < count)
        }
        Output::Param(i, _) => {
            if o < count {
                *i == o
            } else {
                *i >= count
            }
        }
        Output::Constant(_) => o >= count,
    };
    kernels.outputs.len() >= count && kernels.outputs.iter().enumerate().all(is_in_place)
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
