//! A driver without a GPU, for tests: memory and launches are those of the SIMT interpreter.
//!
//! Comes in: what the runtime asks of a driver. Goes out: the same bytes as from a GPU, counts of the calls, and faults
//! where a test asks for them. A module is compiled by writing words before its text, and loaded by parsing that. As
//! on a GPU, work is queued and done when a user waits, so that memory which is given back too early is noticed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fulgurite_jit::ptx::inst::PtxModule;
use fulgurite_jit::ptx::parse::parse;
use fulgurite_jit::ptx::simt::{self, Memory, Options};

use super::driver::{
    Context, Driver, DriverError, ErrorKind, FunctionHandle, GraphHandle, Loaded, ModuleHandle, Node, Properties,
    Result,
};

/// How often each call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Allocations of memory.
    pub allocations: usize,
    /// Frees of memory.
    pub frees: usize,
    /// Copies from the host.
    pub writes: usize,
    /// Copies to the host.
    pub reads: usize,
    /// Copies on the device.
    pub copies: usize,
    /// Modules compiled.
    pub compiles: usize,
    /// Modules loaded.
    pub loads: usize,
    /// Modules given back.
    pub unloads: usize,
    /// Graphs built.
    pub builds: usize,
    /// Graphs given back.
    pub destroys: usize,
    /// Nodes of graphs whose arguments were changed.
    pub updates: usize,
    /// Launches of graphs.
    pub launches: usize,
    /// Launches that were measured.
    pub timed: usize,
}

/// A call that fails when a test asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The device is not opened.
    Open,
    /// There is no memory: every allocation fails.
    Allocate,
    /// A copy from the host.
    Write,
    /// A copy to the host.
    Read,
    /// A copy on the device.
    Copy,
    /// The driver does not compile a module.
    Compile,
    /// It does not load one.
    Load,
    /// A graph is not built.
    Build,
    /// The arguments of a node are not changed.
    Update,
    /// A graph is not launched.
    Launch,
    /// Launches are not measured.
    Time,
    /// A kernel fails while it runs, which is noticed by whoever waits, and breaks the context.
    Kernel,
}

/// Another way to fail than a call has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// For want of memory, until there is some.
    OutOfMemory,
    /// With an error that breaks the context.
    Lost,
}

/// The fake driver.
pub(crate) struct FakeDriver {
    /// Its devices.
    pub(crate) devices: Vec<Arc<FakeDevice>>,
}

impl FakeDriver {
    /// A driver with so many devices.
    pub(crate) fn new(devices: u32) -> Self {
        FakeDriver { devices: (0..devices).map(|number| Arc::new(FakeDevice::new(number))).collect() }
    }
}

impl Driver for FakeDriver {
    fn count(&self) -> Result<u32> {
        Ok(self.devices.len() as u32)
    }

    fn open(&self, number: u32) -> Result<Box<dyn Context>> {
        let device = self.devices[number as usize].clone();
        device.state().begin("cuDevicePrimaryCtxRetain", Fault::Open)?;
        Ok(Box::new(FakeContext(device)))
    }
}

/// A device of the fake driver.
pub(crate) struct FakeDevice {
    properties: Properties,
    state: Mutex<State>,
}

struct FakeContext(Arc<FakeDevice>);

#[derive(Default)]
struct State {
    memory: Memory,
    /// Bytes of each allocation that the driver knows to be in use.
    live: BTreeMap<u64, usize>,
    queue: Vec<Work>,
    modules: BTreeMap<u64, Arc<PtxModule>>,
    graphs: BTreeMap<u64, Vec<QueuedNode>>,
    /// The last handle.
    handle: u64,
    counts: Counts,
    /// How many calls of each kind succeed before one fails. Allocations fail from then on.
    faults: BTreeMap<Fault, (usize, Option<Failure>)>,
    broken: Option<DriverError>,
}

enum Work {
    Write(u64, Vec<u8>),
    Copy(u64, u64, usize),
    Launch(Vec<QueuedNode>),
    Free(u64),
    Fail,
}

#[derive(Clone)]
struct QueuedNode {
    module: Arc<PtxModule>,
    function: FunctionHandle,
    grid: u32,
    block: u32,
    args: Vec<u64>,
}

/// What a compiled module begins with.
const COMPILED: &str = "compiled by a fake driver: ";

/// Function handles are a module's handle, and the number of an entry.
const ENTRY_BITS: u32 = 20;

impl FakeDevice {
    fn new(number: u32) -> Self {
        let name = format!("fake GPU {number}");
        let properties = Properties {
            name,
            capability: 90,
            multiprocessors: 4,
            memory: 1 << 30,
            driver: 12040,
            clock: 1_000_000,
            memory_clock: 500_000,
            memory_bits: 64,
        };
        FakeDevice { properties, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often each call was made.
    pub(crate) fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Bytes of allocations that were not given back.
    pub(crate) fn live_bytes(&self) -> usize {
        self.state().live.values().sum()
    }

    /// Copies and launches that no one has waited for.
    pub(crate) fn queued(&self) -> usize {
        self.state().queue.len()
    }

    /// Makes a call fail after `after` more of them.
    pub(crate) fn fail(&self, fault: Fault, after: usize) {
        self.state().faults.insert(fault, (after, None));
    }

    /// Makes the next call fail in another way than it would.
    pub(crate) fn fail_as(&self, fault: Fault, failure: Failure) {
        self.state().faults.insert(fault, (0, Some(failure)));
    }

    /// No call fails any more, unless the context is broken.
    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }
}

impl State {
    fn new_handle(&mut self) -> u64 {
        self.handle += 1;
        self.handle
    }

    /// An error, if the context is broken, or a test asks for one at this call.
    fn begin(&mut self, call: &'static str, fault: Fault) -> Result<()> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let kind = match self.faults.get_mut(&fault) {
            None => return Ok(()),
            Some((0, kind)) => *kind,
            Some((after, _)) => {
                *after -= 1;
                return Ok(());
            }
        };
        let (message, kind) = match fault {
            _ if kind == Some(Failure::Lost) => ("CUDA_ERROR_LAUNCH_FAILED (unspecified)", ErrorKind::Sticky),
            _ if kind == Some(Failure::OutOfMemory) => {
                ("CUDA_ERROR_OUT_OF_MEMORY (out of memory)", ErrorKind::OutOfMemory)
            }
            Fault::Allocate => ("CUDA_ERROR_OUT_OF_MEMORY (out of memory)", ErrorKind::OutOfMemory),
            Fault::Compile => ("CUDA_ERROR_INVALID_PTX (a PTX JIT compilation failed)", ErrorKind::Refused),
            Fault::Load => ("CUDA_ERROR_INVALID_IMAGE (device kernel image is invalid)", ErrorKind::Refused),
            _ => ("CUDA_ERROR_UNKNOWN (unknown error)", ErrorKind::Refused),
        };
        // Memory is missing until there is some.
        if kind != ErrorKind::OutOfMemory {
            self.faults.remove(&fault);
        }
        if fault == Fault::Kernel {
            self.queue.push(Work::Fail);
            return Ok(());
        }
        let error = DriverError { call, message: message.into(), kind };
        if kind == ErrorKind::Sticky {
            self.broken = Some(error.clone());
        }
        Err(error)
    }

    /// Does what is queued. An error breaks the context.
    fn flush(&mut self, call: &'static str) -> Result<()> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        for work in std::mem::take(&mut self.queue) {
            let done = match work {
                Work::Write(to, bytes) => self.memory.write(to, &bytes),
                Work::Copy(from, to, bytes) => {
                    let mut copied = vec![0; bytes];
                    self.memory.read(from, &mut copied).and_then(|()| self.memory.write(to, &copied))
                }
                Work::Launch(nodes) => nodes.iter().try_for_each(|node| self.run(node).map(drop)),
                Work::Free(address) => {
                    self.memory.free(address);
                    Ok(())
                }
                Work::Fail => Err(fulgurite_jit::Error::new("an illegal memory access was encountered")),
            };
            done.map_err(|error| self.break_with(call, &error))?;
        }
        Ok(())
    }

    /// Breaks the context.
    fn break_with(&mut self, call: &'static str, error: &fulgurite_jit::Error) -> DriverError {
        let message = format!("CUDA_ERROR_ILLEGAL_ADDRESS ({error})");
        let error = DriverError { call, message, kind: ErrorKind::Sticky };
        self.broken = Some(error.clone());
        error
    }

    /// Runs a node. Its time on the clock of this driver is a microsecond, and a nanosecond for each instruction of a
    /// warp.
    fn run(&mut self, node: &QueuedNode) -> fulgurite_jit::Result<Duration> {
        let entry = &node.module.entries[(node.function.0 & ((1 << ENTRY_BITS) - 1)) as usize];
        let launch = simt::Launch { entry, grid: node.grid, block: node.block, params: &node.args };
        let counts = simt::run_with(&mut self.memory, &launch, &Options { races: false, ..Options::default() })?;
        Ok(Duration::from_nanos(1000 + counts.instructions))
    }

    /// A node with the code of its function.
    fn node(&self, call: &'static str, node: &Node<'_>) -> Result<QueuedNode> {
        let module = self.modules.get(&(node.function.0 >> ENTRY_BITS)).ok_or_else(|| stale(call))?.clone();
        let Node { function, grid, block, args } = *node;
        Ok(QueuedNode { module, function, grid, block, args: args.to_vec() })
    }
}

/// The error of a handle that is none.
fn stale(call: &'static str) -> DriverError {
    DriverError { call, message: "CUDA_ERROR_INVALID_HANDLE".into(), kind: ErrorKind::Refused }
}

impl Context for FakeContext {
    fn properties(&self) -> &Properties {
        &self.0.properties
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        let mut state = self.0.state();
        state.begin("cuMemAllocAsync", Fault::Allocate)?;
        if state.live.values().sum::<usize>().saturating_add(bytes) > self.0.properties.memory {
            let message = "CUDA_ERROR_OUT_OF_MEMORY (out of memory)".into();
            return Err(DriverError { call: "cuMemAllocAsync", message, kind: ErrorKind::OutOfMemory });
        }
        state.counts.allocations += 1;
        let address = state.memory.alloc_unwritten(bytes);
        state.live.insert(address, bytes);
        Ok(address)
    }

    unsafe fn free(&self, address: u64) -> Result<()> {
        let mut state = self.0.state();
        if state.broken.is_none() {
            assert!(state.live.remove(&address).is_some(), "{address:#x} is freed, and is no allocation");
        }
        state.counts.frees += 1;
        state.queue.push(Work::Free(address));
        Ok(())
    }

    unsafe fn write(&self, to: u64, from: &[u8]) -> Result<()> {
        let mut state = self.0.state();
        state.begin("cuMemcpyHtoDAsync", Fault::Write)?;
        state.counts.writes += 1;
        state.queue.push(Work::Write(to, from.to_vec()));
        Ok(())
    }

    unsafe fn read(&self, from: u64, to: &mut [u8]) -> Result<()> {
        let mut state = self.0.state();
        state.begin("cuMemcpyDtoHAsync", Fault::Read)?;
        state.counts.reads += 1;
        state.flush("cuStreamSynchronize")?;
        let invalid = |e| DriverError { call: "cuMemcpyDtoHAsync", message: format!("{e}"), kind: ErrorKind::Refused };
        state.memory.read(from, to).map_err(invalid)
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        let mut state = self.0.state();
        state.begin("cuMemcpyDtoDAsync", Fault::Copy)?;
        state.counts.copies += 1;
        state.queue.push(Work::Copy(from, to, bytes));
        Ok(())
    }

    fn compile(&self, text: &str) -> Result<Vec<u8>> {
        const CALL: &str = "cuLinkAddData";
        let mut state = self.0.state();
        state.begin(CALL, Fault::Compile)?;
        let invalid = |message: String| DriverError { call: CALL, message, kind: ErrorKind::Refused };
        let module = parse(text).map_err(|e| invalid(format!("CUDA_ERROR_INVALID_PTX ({e})")))?;
        // PTX 7.0 has no later architecture than sm_80, and a device runs the code of earlier ones.
        if module.version < 70 || module.target > self.0.properties.capability.min(80) {
            let (version, target) = (module.version, module.target);
            return Err(invalid(format!("CUDA_ERROR_INVALID_PTX (sm_{target} in a module of version {version})")));
        }
        state.counts.compiles += 1;
        Ok([COMPILED.as_bytes(), text.as_bytes()].concat())
    }

    unsafe fn load(&self, module: &[u8], entries: &[&str]) -> Result<Loaded> {
        const CALL: &str = "cuModuleLoadData";
        let mut state = self.0.state();
        state.begin(CALL, Fault::Load)?;
        let invalid = |message: String| DriverError { call: CALL, message, kind: ErrorKind::Refused };
        let text = std::str::from_utf8(module).ok().and_then(|module| module.strip_prefix(COMPILED));
        let module = text.and_then(|text| parse(text).ok());
        let module = module.ok_or_else(|| invalid("CUDA_ERROR_INVALID_IMAGE".into()))?;
        let handle = state.new_handle();
        let find = |name: &&str| {
            let found = module.entries.iter().position(|entry| entry.name == **name);
            let entry = found.ok_or_else(|| invalid(format!("CUDA_ERROR_NOT_FOUND ({name})")))?;
            Ok(FunctionHandle(handle << ENTRY_BITS | entry as u64))
        };
        let functions = entries.iter().map(find).collect::<Result<Vec<_>>>()?;
        state.counts.loads += 1;
        state.modules.insert(handle, Arc::new(module));
        Ok(Loaded { module: ModuleHandle(handle), functions })
    }

    unsafe fn unload(&self, module: ModuleHandle) -> Result<()> {
        let mut state = self.0.state();
        state.counts.unloads += 1;
        state.modules.remove(&module.0).map(drop).ok_or_else(|| stale("cuModuleUnload"))
    }

    unsafe fn build(&self, nodes: &[Node<'_>]) -> Result<GraphHandle> {
        let mut state = self.0.state();
        state.begin("cuGraphInstantiate", Fault::Build)?;
        let nodes = nodes.iter().map(|node| state.node("cuGraphAddKernelNode", node)).collect::<Result<Vec<_>>>()?;
        state.counts.builds += 1;
        let handle = state.new_handle();
        state.graphs.insert(handle, nodes);
        Ok(GraphHandle(handle))
    }

    unsafe fn update(&self, graph: GraphHandle, number: usize, node: Node<'_>) -> Result<()> {
        const CALL: &str = "cuGraphExecKernelNodeSetParams";
        let mut state = self.0.state();
        state.begin(CALL, Fault::Update)?;
        let node = state.node(CALL, &node)?;
        let before = state.graphs.get_mut(&graph.0).and_then(|nodes| nodes.get_mut(number));
        let before = before.ok_or_else(|| stale(CALL))?;
        assert!(before.function == node.function && (before.grid, before.block) == (node.grid, node.block));
        *before = node;
        state.counts.updates += 1;
        Ok(())
    }

    unsafe fn launch(&self, graph: GraphHandle) -> Result<()> {
        let mut state = self.0.state();
        state.begin("cuGraphLaunch", Fault::Kernel)?;
        state.begin("cuGraphLaunch", Fault::Launch)?;
        let nodes = state.graphs.get(&graph.0).ok_or_else(|| stale("cuGraphLaunch"))?.clone();
        state.counts.launches += 1;
        state.queue.push(Work::Launch(nodes));
        Ok(())
    }

    unsafe fn time(&self, nodes: &[Node<'_>]) -> Result<Vec<Duration>> {
        const CALL: &str = "cuLaunchKernel";
        let mut state = self.0.state();
        state.begin(CALL, Fault::Kernel)?;
        state.begin(CALL, Fault::Time)?;
        let nodes = nodes.iter().map(|node| state.node(CALL, node)).collect::<Result<Vec<_>>>()?;
        state.flush("cuStreamSynchronize")?;
        state.counts.timed += nodes.len();
        let mut run = |node| state.run(node).map_err(|error| state.break_with("cuStreamSynchronize", &error));
        nodes.iter().map(&mut run).collect()
    }

    unsafe fn destroy(&self, graph: GraphHandle) -> Result<()> {
        let mut state = self.0.state();
        state.counts.destroys += 1;
        state.graphs.remove(&graph.0).map(drop).ok_or_else(|| stale("cuGraphExecDestroy"))
    }

    fn wait(&self) -> Result<()> {
        self.0.state().flush("cuStreamSynchronize")
    }
}
