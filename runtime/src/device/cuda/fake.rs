//! A driver without a GPU, for tests: memory and launches are those of the SIMT interpreter.
//!
//! Comes in: what the runtime asks of a driver. Goes out: the same bytes as from a GPU, counts of the calls, and faults
//! where a test asks for them. A module is compiled by writing words before its text, and loaded by parsing that. As
//! on a GPU, work is queued, so that memory which is given back too early is noticed. Two streams are as far apart as
//! events allow, by [`Schedule`]: all work is done as late as the host allows, or copies as early as events do.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fulgurite_jit::ptx::inst::PtxModule;
use fulgurite_jit::ptx::parse::parse;
use fulgurite_jit::ptx::simt::{self, Memory, Options};

use super::driver::{
    Context, Driver, DriverError, ErrorKind, EventHandle, FunctionHandle, GraphHandle, HostHandle, Loaded,
    ModuleHandle, Node, Properties, Result, Stream,
};

/// How often each call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Allocations of memory.
    pub allocations: usize,
    /// Frees of memory.
    pub frees: usize,
    /// Copies from the host on the stream of the steps.
    pub writes: usize,
    /// Copies from the host on the stream of copies.
    pub uploads: usize,
    /// Bytes of copies from the host, on both streams.
    pub written_bytes: usize,
    /// Copies to the host that it waits for.
    pub reads: usize,
    /// Copies to the host that it does not wait for.
    pub downloads: usize,
    /// Times that the host has waited for the device.
    pub waits: usize,
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
    /// Nodes of these.
    pub nodes: usize,
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
    /// Memory of the host is not locked.
    Lock,
    /// There is no event.
    Event,
    /// An event is not recorded.
    Record,
    /// A stream does not wait for an event.
    WaitFor,
    /// A copy on the device.
    Copy,
    /// The driver does not compile a module.
    Compile,
    /// It does not load one.
    Load,
    /// What is resident is not told.
    Resident,
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

/// When queued work is done, where events leave it open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// As late as possible: when the host waits for it.
    #[default]
    Late,
    /// The stream of copies is as far ahead of the steps as it may be.
    CopiesFirst,
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
    steps: Queue,
    copies: Queue,
    schedule: Schedule,
    /// Do streams wait for events? Tests show what happens if they do not.
    ignores_events: bool,
    /// Locked memory of the host.
    host: BTreeMap<u64, Vec<u8>>,
    /// Events: how much of which stream was queued when they were recorded.
    events: BTreeMap<u64, Option<Moment>>,
    /// When memory that the driver knows was allocated, on the stream of the steps.
    allocated: BTreeMap<u64, usize>,
    modules: BTreeMap<u64, Arc<PtxModule>>,
    graphs: BTreeMap<u64, Vec<QueuedNode>>,
    /// The last handle.
    handle: u64,
    counts: Counts,
    /// How many calls of each kind succeed before one fails. Allocations fail from then on.
    faults: BTreeMap<Fault, (usize, Option<Failure>)>,
    broken: Option<DriverError>,
}

/// A stream: what is queued, how much of it ever was, and how much is done.
#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    asked: usize,
    done: usize,
}

/// A stream, and how much of it is done then.
type Moment = (Stream, usize);

enum Work {
    Upload(u64, HostHandle, usize),
    Download(u64, HostHandle, usize, usize),
    Copy(u64, u64, usize),
    Launch(Vec<QueuedNode>),
    Free(u64),
    Wait(Moment),
    Fail,
}

#[derive(Clone)]
struct QueuedNode {
    module: Arc<PtxModule>,
    function: FunctionHandle,
    grid: u32,
    block: u32,
    cooperative: bool,
    args: Vec<u64>,
}

/// Blocks that are resident on a multiprocessor at once; a GPU has room for more.
const RESIDENT: u32 = 2;

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
            cooperative: true,
            memory: 1 << 30,
            driver: 12040,
            clock: 1_000_000,
            memory_clock: 500_000,
            memory_bits: 64,
        };
        FakeDevice { properties, state: Mutex::default() }
    }

    /// Whether the blocks that wait for each other can all be resident.
    fn have_room(&self, call: &'static str, nodes: &[QueuedNode]) -> Result<()> {
        let most = RESIDENT * self.properties.multiprocessors;
        if nodes.iter().all(|node| !node.cooperative || node.grid <= most) {
            return Ok(());
        }
        let message = "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE (too many blocks in cooperative launch)".into();
        Err(DriverError { call, message, kind: ErrorKind::Refused })
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
        let state = self.state();
        state.steps.work.len() + state.copies.work.len()
    }

    /// Copies from the host on the stream of copies that were not done.
    pub(crate) fn queued_uploads(&self) -> usize {
        let state = self.state();
        state.copies.work.iter().filter(|work| matches!(work, Work::Upload(..))).count()
    }

    /// Events and locked memory that were not given back.
    pub(crate) fn held(&self) -> usize {
        let state = self.state();
        state.events.len() + state.host.len()
    }

    /// When queued work is done.
    pub(crate) fn schedule(&self, schedule: Schedule) {
        self.state().schedule = schedule;
    }

    /// Streams do not wait for each other.
    pub(crate) fn ignore_events(&self) {
        self.state().ignores_events = true;
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
            self.push(Stream::Steps, Work::Fail)?;
            return Ok(());
        }
        let error = DriverError { call, message: message.into(), kind };
        if kind == ErrorKind::Sticky {
            self.broken = Some(error.clone());
        }
        Err(error)
    }

    fn queue(&mut self, stream: Stream) -> &mut Queue {
        match stream {
            Stream::Steps => &mut self.steps,
            Stream::Copies => &mut self.copies,
        }
    }

    /// Queues work, and does what the schedule wants done.
    fn push(&mut self, stream: Stream, work: Work) -> Result<()> {
        let queue = self.queue(stream);
        queue.work.push_back(work);
        queue.asked += 1;
        if self.schedule == Schedule::CopiesFirst {
            while let Some(work) = self.copies.work.front() {
                if matches!(work, Work::Wait(moment) if !self.is_over(*moment)) {
                    break;
                }
                self.flush("cuStreamQuery", (Stream::Copies, self.copies.done + 1))?;
            }
        }
        Ok(())
    }

    fn is_over(&self, (stream, count): Moment) -> bool {
        let queue = if stream == Stream::Steps { &self.steps } else { &self.copies };
        queue.done >= count
    }

    /// Does what is queued until a moment, and on the other stream what it waits for. An error breaks the context.
    fn flush(&mut self, call: &'static str, moment: Moment) -> Result<()> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let stream = moment.0;
        while !self.is_over(moment) {
            let Some(work) = self.queue(stream).work.pop_front() else { break };
            if let Work::Wait(other) = work {
                self.flush(call, other)?;
            } else if let Err(error) = self.execute(work, stream) {
                return Err(self.break_with(call, &error));
            }
            self.queue(stream).done += 1;
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

    fn execute(&mut self, work: Work, stream: Stream) -> fulgurite_jit::Result<()> {
        match work {
            Work::Upload(to, from, bytes) => {
                let allocated = self.allocated.range(..=to).next_back().map_or(0, |(_, &count)| count);
                if stream == Stream::Copies && !self.is_over((Stream::Steps, allocated)) {
                    return Err(fulgurite_jit::Error::new("memory is written before it is allocated"));
                }
                let Some(from) = self.host.get(&from.0) else {
                    return Err(fulgurite_jit::Error::new("locked memory is freed before it is copied"));
                };
                self.memory.write(to, &from[..bytes])
            }
            Work::Download(from, to, offset, bytes) => {
                let mut copied = vec![0; bytes];
                self.memory.read(from, &mut copied)?;
                let Some(to) = self.host.get_mut(&to.0) else {
                    return Err(fulgurite_jit::Error::new("locked memory is freed before it is written"));
                };
                to[offset..offset + bytes].copy_from_slice(&copied);
                Ok(())
            }
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
            // Whoever takes it from the queue waits.
            Work::Wait(_) => Ok(()),
        }
    }

    /// Waits for all that is queued on a stream.
    fn synchronize(&mut self, stream: Stream) -> Result<()> {
        let count = self.queue(stream).asked;
        self.flush("cuStreamSynchronize", (stream, count))
    }

    /// Runs a node. Its time on the clock of this driver is a microsecond, and a nanosecond for each instruction of a
    /// warp.
    fn run(&mut self, node: &QueuedNode) -> fulgurite_jit::Result<Duration> {
        let entry = &node.module.entries[(node.function.0 & ((1 << ENTRY_BITS) - 1)) as usize];
        let QueuedNode { grid, block, cooperative, .. } = *node;
        let launch = simt::Launch { entry, grid, block, cooperative, params: &node.args };
        let counts = simt::run_with(&mut self.memory, &launch, &Options { races: false, ..Options::default() })?;
        Ok(Duration::from_nanos(1000 + counts.instructions))
    }

    /// A node with the code of its function.
    fn node(&self, call: &'static str, node: &Node<'_>) -> Result<QueuedNode> {
        let module = self.modules.get(&(node.function.0 >> ENTRY_BITS)).ok_or_else(|| stale(call))?.clone();
        let Node { function, grid, block, cooperative, args } = *node;
        Ok(QueuedNode { module, function, grid, block, cooperative, args: args.to_vec() })
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
        let now = state.steps.asked;
        state.allocated.insert(address, now);
        Ok(address)
    }

    unsafe fn free(&self, address: u64) -> Result<()> {
        let mut state = self.0.state();
        if state.broken.is_none() {
            assert!(state.live.remove(&address).is_some(), "{address:#x} is freed, and is no allocation");
        }
        state.counts.frees += 1;
        state.push(Stream::Steps, Work::Free(address))
    }

    fn lock(&self, bytes: usize) -> Result<HostHandle> {
        let mut state = self.0.state();
        state.begin("cuMemHostAlloc", Fault::Lock)?;
        let handle = state.new_handle();
        state.host.insert(handle, vec![0; bytes]);
        Ok(HostHandle(handle))
    }

    unsafe fn unlock(&self, memory: HostHandle) -> Result<()> {
        self.0.state().host.remove(&memory.0).map(drop).ok_or_else(|| stale("cuMemFreeHost"))
    }

    unsafe fn fill(&self, memory: HostHandle, from: &[u8]) {
        let mut state = self.0.state();
        let memory = state.host.get_mut(&memory.0).expect("the memory is locked");
        memory[..from.len()].copy_from_slice(from);
    }

    unsafe fn take(&self, memory: HostHandle, offset: usize, to: &mut [u8]) {
        let state = self.0.state();
        let memory = state.host.get(&memory.0).expect("the memory is locked");
        to.copy_from_slice(&memory[offset..offset + to.len()]);
    }

    unsafe fn upload(&self, stream: Stream, to: u64, from: HostHandle, bytes: usize) -> Result<()> {
        let mut state = self.0.state();
        state.begin("cuMemcpyHtoDAsync", Fault::Write)?;
        match stream {
            Stream::Steps => state.counts.writes += 1,
            Stream::Copies => state.counts.uploads += 1,
        }
        state.counts.written_bytes += bytes;
        state.push(stream, Work::Upload(to, from, bytes))
    }

    unsafe fn download(&self, from: u64, to: HostHandle, offset: usize, bytes: usize) -> Result<()> {
        let mut state = self.0.state();
        state.begin("cuMemcpyDtoHAsync", Fault::Read)?;
        state.counts.downloads += 1;
        state.push(Stream::Steps, Work::Download(from, to, offset, bytes))
    }

    fn event(&self) -> Result<EventHandle> {
        let mut state = self.0.state();
        state.begin("cuEventCreate", Fault::Event)?;
        let handle = state.new_handle();
        state.events.insert(handle, None);
        Ok(EventHandle(handle))
    }

    unsafe fn record(&self, event: EventHandle, stream: Stream) -> Result<()> {
        let mut state = self.0.state();
        state.begin("cuEventRecord", Fault::Record)?;
        let now = (stream, state.queue(stream).asked);
        let event = state.events.get_mut(&event.0).ok_or_else(|| stale("cuEventRecord"))?;
        *event = Some(now);
        Ok(())
    }

    unsafe fn wait_for(&self, stream: Stream, event: EventHandle) -> Result<()> {
        let mut state = self.0.state();
        state.begin("cuStreamWaitEvent", Fault::WaitFor)?;
        match *state.events.get(&event.0).ok_or_else(|| stale("cuStreamWaitEvent"))? {
            Some(moment) if !state.ignores_events => state.push(stream, Work::Wait(moment)),
            _ => Ok(()),
        }
    }

    unsafe fn is_over(&self, event: EventHandle) -> Result<bool> {
        let state = self.0.state();
        if let Some(error) = &state.broken {
            return Err(error.clone());
        }
        let event = state.events.get(&event.0).ok_or_else(|| stale("cuEventQuery"))?;
        Ok(event.is_none_or(|moment| state.is_over(moment)))
    }

    unsafe fn join(&self, event: EventHandle) -> Result<()> {
        let mut state = self.0.state();
        match *state.events.get(&event.0).ok_or_else(|| stale("cuEventSynchronize"))? {
            None => Ok(()),
            Some(moment) => {
                state.counts.waits += 1;
                state.flush("cuEventSynchronize", moment)
            }
        }
    }

    unsafe fn forget(&self, event: EventHandle) -> Result<()> {
        self.0.state().events.remove(&event.0).map(drop).ok_or_else(|| stale("cuEventDestroy"))
    }

    unsafe fn read(&self, from: u64, to: &mut [u8]) -> Result<()> {
        let mut state = self.0.state();
        state.begin("cuMemcpyDtoHAsync", Fault::Read)?;
        state.counts.reads += 1;
        state.counts.waits += 1;
        state.synchronize(Stream::Steps)?;
        let invalid = |e| DriverError { call: "cuMemcpyDtoHAsync", message: format!("{e}"), kind: ErrorKind::Refused };
        state.memory.read(from, to).map_err(invalid)
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        let mut state = self.0.state();
        state.begin("cuMemcpyDtoDAsync", Fault::Copy)?;
        state.counts.copies += 1;
        state.push(Stream::Steps, Work::Copy(from, to, bytes))
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

    unsafe fn resident(&self, function: FunctionHandle, _block: u32) -> Result<u32> {
        const CALL: &str = "cuOccupancyMaxActiveBlocksPerMultiprocessor";
        let mut state = self.0.state();
        state.begin(CALL, Fault::Resident)?;
        if state.modules.contains_key(&(function.0 >> ENTRY_BITS)) { Ok(RESIDENT) } else { Err(stale(CALL)) }
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
        self.0.have_room("cuGraphInstantiate", &nodes)?;
        state.counts.builds += 1;
        state.counts.nodes += nodes.len();
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
        let shape = |node: &QueuedNode| (node.function, node.grid, node.block, node.cooperative);
        assert_eq!(shape(before), shape(&node));
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
        state.push(Stream::Steps, Work::Launch(nodes))
    }

    unsafe fn time(&self, nodes: &[Node<'_>]) -> Result<Vec<Duration>> {
        const CALL: &str = "cuLaunchKernel";
        let mut state = self.0.state();
        state.begin(CALL, Fault::Kernel)?;
        state.begin(CALL, Fault::Time)?;
        let nodes = nodes.iter().map(|node| state.node(CALL, node)).collect::<Result<Vec<_>>>()?;
        self.0.have_room(CALL, &nodes)?;
        state.synchronize(Stream::Steps)?;
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
        let mut state = self.0.state();
        state.counts.waits += 1;
        state.synchronize(Stream::Copies)?;
        state.synchronize(Stream::Steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_that_wait_for_each_other_have_room() -> Result<()> {
        let context = FakeDriver::new(1).open(0)?;
        let text =
            ".version 7.0\n.target sm_70\n.address_size 64\n\n.visible .entry k()\n.maxntid 256, 1, 1\n{\n  ret;\n}\n";
        let image = context.compile(text)?;
        // SAFETY: the driver has made it.
        let function = unsafe { context.load(&image, &["k"])? }.functions[0];
        // SAFETY: the module stays loaded, and the function has no arguments.
        let resident = 4 * unsafe { context.resident(function, 256)? };
        for (grid, cooperative, fits) in [(resident, true, true), (resident + 1, true, false), (1000, false, true)] {
            // SAFETY: as above.
            match unsafe { context.build(&[Node { function, grid, block: 256, cooperative, args: &[] }]) } {
                Ok(_) => assert!(fits),
                Err(error) => {
                    let expected = "cuGraphInstantiate: CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE (too many blocks in \
                                    cooperative launch)";
                    assert_eq!((error.to_string(), fits), (expected.into(), false));
                }
            }
        }
        Ok(())
    }
}
