//! The calls of CUDA that the runtime makes, as traits.
//!
//! Comes in: numbers of bytes, the text of modules, launches. Goes out: addresses and handles of the driver, or its
//! errors as values. Who owns what, and what is still in use, is kept in `gpu`. The driver itself is `driver_api`, and
//! `fake` one without a GPU.
//!
//! A [`Context`] has one stream: copies, launches and frees happen in the order in which they are asked for, whichever
//! thread asks, and later than the calls return. Reads and [`Context::wait`] wait for all before them.

use std::fmt;
use std::time::Duration;

/// Why there is no driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoDriver {
    /// It is not installed, or this build has no back end for it.
    NotInstalled(String),
    /// It is installed, and too old or broken.
    Unusable(String),
}

impl fmt::Display for NoDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (NoDriver::NotInstalled(why) | NoDriver::Unusable(why)) = self;
        f.write_str(why)
    }
}

/// A driver, with its devices.
pub(crate) trait Driver: Send + Sync {
    /// The number of devices.
    fn count(&self) -> Result<u32>;

    /// Opens the device of this number, which is below the count.
    fn open(&self, number: u32) -> Result<Box<dyn Context>>;
}

/// A device, and its stream. Dropping it waits for the stream, and gives back what the driver holds for it.
pub(crate) trait Context: Send + Sync {
    /// What is known of the device.
    fn properties(&self) -> &Properties;

    /// The address of so many bytes, at least one, aligned to 256. They may be used by whatever is asked for later.
    fn allocate(&self, bytes: usize) -> Result<u64>;

    /// Frees an allocation when all that was asked for before is done.
    ///
    /// # Safety
    /// The address is that of an allocation of this context, which is not used by what is asked for later.
    unsafe fn free(&self, address: u64) -> Result<()>;

    /// Copies from the host. The bytes may change as soon as this returns.
    ///
    /// # Safety
    /// The destination is inside of an allocation.
    unsafe fn write(&self, to: u64, from: &[u8]) -> Result<()>;

    /// Copies to the host. Waits until it is done.
    ///
    /// # Safety
    /// The source is inside of an allocation.
    unsafe fn read(&self, from: u64, to: &mut [u8]) -> Result<()>;

    /// Copies so many bytes from one allocation to another.
    ///
    /// # Safety
    /// Both ranges are inside of allocations, and do not overlap.
    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()>;

    /// Compiles the text of a module, of PTX, for the device.
    fn compile(&self, text: &str) -> Result<Vec<u8>>;

    /// Loads a compiled module. The functions are those of `entries`, in their order.
    ///
    /// # Safety
    /// The module is whole as a driver has compiled it, if for another device.
    unsafe fn load(&self, module: &[u8], entries: &[&str]) -> Result<Loaded>;

    /// Gives back a module.
    ///
    /// # Safety
    /// It is one of this context, whose functions are in no graph and in no launch that is asked for later.
    unsafe fn unload(&self, module: ModuleHandle) -> Result<()>;

    /// A graph of these nodes, each of which runs when the one before it is done.
    ///
    /// # Safety
    /// The functions are of loaded modules of this context, and the arguments are addresses that they may be called
    /// with whenever the graph is launched.
    unsafe fn build(&self, nodes: &[Node<'_>]) -> Result<GraphHandle>;

    /// Changes the arguments of a node, for later launches.
    ///
    /// # Safety
    /// As [`Context::build`]; the graph has the node, and the function and the grid are the same.
    unsafe fn update(&self, graph: GraphHandle, number: usize, node: Node<'_>) -> Result<()>;

    /// Launches a graph.
    ///
    /// # Safety
    /// The graph is one of this context. The memory of its arguments is allocated, and accessed by nothing outside of
    /// the stream until the launch is done.
    unsafe fn launch(&self, graph: GraphHandle) -> Result<()>;

    /// Launches nodes one after another, without a graph, and measures the time of each on the device. Waits.
    ///
    /// # Safety
    /// As [`Context::build`] and [`Context::launch`].
    unsafe fn time(&self, nodes: &[Node<'_>]) -> Result<Vec<Duration>>;

    /// Gives back a graph. A launch that has been asked for still runs.
    ///
    /// # Safety
    /// The graph is one of this context, and is not used after this.
    unsafe fn destroy(&self, graph: GraphHandle) -> Result<()>;

    /// Waits until all that was asked for is done.
    fn wait(&self) -> Result<()>;
}

/// What is known of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    /// Its name.
    pub(crate) name: String,
    /// The compute capability, as 70 for 7.0.
    pub(crate) capability: u32,
    /// The number of multiprocessors.
    pub(crate) multiprocessors: u32,
    /// Bytes of its memory.
    pub(crate) memory: usize,
    /// The version of CUDA that its driver is for, as 12040 for 12.4.
    pub(crate) driver: u32,
    /// The clock of the multiprocessors at most, in kHz.
    pub(crate) clock: u32,
    /// The clock of the memory at most, in kHz.
    pub(crate) memory_clock: u32,
    /// Bits that the memory moves in each half of a cycle.
    pub(crate) memory_bits: u32,
}

impl Properties {
    /// Bytes that the memory moves in a second at most.
    pub(crate) fn bandwidth(&self) -> f64 {
        2.0 * f64::from(self.memory_clock) * 1e3 * f64::from(self.memory_bits) / 8.0
    }

    /// Operations of f32 in a second at most: a multiplication and an addition in each cycle of each lane.
    pub(crate) fn operations(&self) -> f64 {
        let lanes = if self.capability <= 80 { 64.0 } else { 128.0 };
        2.0 * lanes * f64::from(self.multiprocessors) * f64::from(self.clock) * 1e3
    }
}

/// A function of a loaded module, as the driver knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FunctionHandle(pub(crate) u64);

/// A module, as the driver knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ModuleHandle(pub(crate) u64);

/// A graph that can be launched, as the driver knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GraphHandle(pub(crate) u64);

/// A module that is loaded.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The module.
    pub(crate) module: ModuleHandle,
    /// Its functions, in the order of the names that were asked for.
    pub(crate) functions: Vec<FunctionHandle>,
}

/// A launch of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node<'a> {
    /// The function.
    pub(crate) function: FunctionHandle,
    /// Blocks.
    pub(crate) grid: u32,
    /// Threads of a block.
    pub(crate) block: u32,
    /// The addresses that it is called with.
    pub(crate) args: &'a [u64],
}

/// The result of a call of the driver.
pub(crate) type Result<T> = std::result::Result<T, DriverError>;

/// An error of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DriverError {
    /// The call, by its name in CUDA.
    pub(crate) call: &'static str,
    /// The name of the error, as `CUDA_ERROR_OUT_OF_MEMORY`, and what the driver says about it.
    pub(crate) message: String,
    /// What it means for what follows.
    pub(crate) kind: ErrorKind,
}

/// What an error means for what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// Memory is missing; freeing some may help.
    OutOfMemory,
    /// The call had no effect; others work.
    Refused,
    /// The context is broken: every later call fails.
    Sticky,
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.call.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.call, self.message) }
    }
}
