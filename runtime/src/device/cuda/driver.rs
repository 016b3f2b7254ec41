//! The calls of CUDA that the runtime makes, as traits.
//!
//! Comes in: numbers of bytes, the text of modules, launches. Goes out: addresses and handles of the driver, or its
//! errors as values. Who owns what, and what is still in use, is kept in `gpu`. The driver itself is `driver_api`, and
//! `fake` one without a GPU.
//!
//! A [`Context`] has two streams. What is asked for on one of them happens in the order in which it is asked for,
//! whichever thread asks, and later than the calls return. Launches, copies on the device and frees are on that of the
//! steps; batches are copied on the other one. Between the two there is no order, besides that of events. Reads and
//! [`Context::wait`] wait for all before them.

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

/// A device, and its streams. Dropping it waits for them, and gives back what the driver holds for it.
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

    /// So many bytes of locked memory of the host, from which and to which the device copies on its own.
    fn lock(&self, bytes: usize) -> Result<HostHandle>;

    /// Frees locked memory.
    ///
    /// # Safety
    /// It is memory of this context, which no copy uses any more.
    unsafe fn unlock(&self, memory: HostHandle) -> Result<()>;

    /// Writes to the start of locked memory, at once.
    ///
    /// # Safety
    /// It is as large, and no copy uses it.
    unsafe fn fill(&self, memory: HostHandle, from: &[u8]);

    /// Reads locked memory from a place on, at once.
    ///
    /// # Safety
    /// The bytes are inside of it, and no copy writes them.
    unsafe fn take(&self, memory: HostHandle, offset: usize, to: &mut [u8]);

    /// Copies from the start of locked memory.
    ///
    /// # Safety
    /// The destination is inside of an allocation. The source is as large, and is not written before this is done.
    unsafe fn upload(&self, stream: Stream, to: u64, from: HostHandle, bytes: usize) -> Result<()>;

    /// Copies to a place in locked memory, on the stream of the steps.
    ///
    /// # Safety
    /// The source is inside of an allocation. The destination is as large, and is not used before this is done.
    unsafe fn download(&self, from: u64, to: HostHandle, offset: usize, bytes: usize) -> Result<()>;

    /// A new event, which counts as over until it is recorded.
    fn event(&self) -> Result<EventHandle>;

    /// The event is over when all that was asked for on the stream before is done.
    ///
    /// # Safety
    /// It is an event of this context.
    unsafe fn record(&self, event: EventHandle, stream: Stream) -> Result<()>;

    /// What is asked for on the stream later happens when the event, as it was last recorded, is over.
    ///
    /// # Safety
    /// It is an event of this context.
    unsafe fn wait_for(&self, stream: Stream, event: EventHandle) -> Result<()>;

    /// Is the event over?
    ///
    /// # Safety
    /// It is an event of this context.
    unsafe fn is_over(&self, event: EventHandle) -> Result<bool>;

    /// Waits until the event is over.
    ///
    /// # Safety
    /// It is an event of this context.
    unsafe fn join(&self, event: EventHandle) -> Result<()>;

    /// Gives back an event.
    ///
    /// # Safety
    /// It is an event of this context, and is not used after this.
    unsafe fn forget(&self, event: EventHandle) -> Result<()>;

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

    /// How many blocks of so many threads of a function are resident on a multiprocessor at once.
    ///
    /// # Safety
    /// The function is of a loaded module of this context.
    unsafe fn resident(&self, function: FunctionHandle, block: u32) -> Result<u32>;

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

    /// Launches nodes one after another, without a graph, and measures the time of each on the device. Waits. An error
    /// after the first launch breaks the context.
    ///
    /// # Safety
    /// As [`Context::build`] and [`Context::launch`].
    unsafe fn time(&self, nodes: &[Node<'_>]) -> Result<Vec<Duration>>;

    /// Gives back a graph. A launch that has been asked for still runs.
    ///
    /// # Safety
    /// The graph is one of this context, and is not used after this.
    unsafe fn destroy(&self, graph: GraphHandle) -> Result<()>;

    /// Waits until all that was asked for is done, on both streams.
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
    /// Whether it has cooperative launches.
    pub(crate) cooperative: bool,
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

/// What happens in the order in which it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Launches, and all copies that programs wait for.
    Steps,
    /// Copies of what later steps take.
    Copies,
}

/// Locked memory of the host, as the driver knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostHandle(pub(crate) u64);

/// An event, as the driver knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventHandle(pub(crate) u64);

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
    /// Whether all blocks are resident at once. More than there is room for are an error.
    pub(crate) cooperative: bool,
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
