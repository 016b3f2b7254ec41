//! The driver of CUDA, as it is installed on this machine.
//!
//! Comes in: the library of the driver, which is opened when a GPU is first asked for. Goes out: a [`Driver`]. Every
//! call is checked; no library, a symbol that it lacks and a version that is too old are errors. The types and the
//! library are cudarc's; `functions` says how its functions are called.
//!
//! PTX is compiled by the driver's linker, which gives the machine code of a module: `cubins` keeps it.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cudarc::driver::sys::{
    self, CUDA_KERNEL_NODE_PARAMS, CUcontext, CUdevice, CUdevice_attribute, CUevent, CUevent_flags, CUgraph,
    CUgraphExec, CUgraphNode, CUjit_option, CUjitInputType, CUkernelNodeAttrID, CUkernelNodeAttrValue, CUlinkState,
    CUmodule, CUresult, CUstream, CUstream_flags,
};

use super::driver::{
    Context, Driver, DriverError, ErrorKind, EventHandle, FunctionHandle, GraphHandle, HostHandle, Loaded,
    ModuleHandle, NoDriver, Node, Properties, Result, Stream,
};
use super::functions::{Code, Functions, Symbol, call, error_text, open, typed};

const SUCCESS: Code = CUresult::CUDA_SUCCESS as Code;
const OUT_OF_MEMORY: Code = CUresult::CUDA_ERROR_OUT_OF_MEMORY as Code;
const NO_DEVICE: Code = CUresult::CUDA_ERROR_NO_DEVICE as Code;
const NOT_READY: Code = CUresult::CUDA_ERROR_NOT_READY as Code;

/// Errors after which a context only repeats them: of the process that ends, of memory and of links that cannot be
/// corrected, of kernels.
const STICKY: [Code; 15] = [4, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721];

/// CUDA 11.4, as the driver counts. Graphs that are instantiated with flags came with it.
const LEAST_VERSION: c_int = 11040;

/// Bytes for what the driver says about a module that it does not compile.
const LOG_BYTES: usize = 4096;

/// The driver of this machine.
pub(crate) struct CudaDriver {
    api: Arc<Api>,
}

struct Api {
    functions: Functions,
    /// Whether there is a device at all.
    has_devices: bool,
    version: u32,
}

/// Opens the driver of this machine.
///
/// # Errors
/// Why there is none that can be used.
pub(crate) fn load() -> std::result::Result<CudaDriver, NoDriver> {
    let missing = || NoDriver::NotInstalled("the driver of CUDA is not installed: its library cannot be opened".into());
    let look = open().ok_or_else(missing)?;
    // SAFETY: the library is CUDA's driver.
    let api = unsafe { Api::new(look).map_err(NoDriver::Unusable)? };
    Ok(CudaDriver { api: Arc::new(api) })
}

impl Api {
    /// Looks up the functions, and starts the driver.
    ///
    /// # Safety
    /// What is looked up are functions of CUDA's driver, by their names there.
    unsafe fn new(look: impl Fn(&str) -> Option<Symbol>) -> std::result::Result<Api, String> {
        let missing = |symbol: &str| format!("the installed driver of CUDA is too old: it has no {symbol}");
        // The version comes first, so that an old driver is told by it.
        let symbol = "cuDriverGetVersion";
        let symbol = look(symbol).ok_or_else(|| missing(symbol))?;
        // SAFETY: the caller's promise.
        let get = unsafe { typed(sys::cuDriverGetVersion as unsafe fn(_) -> _, symbol) };
        let mut version = 0;
        // SAFETY: the number is written to a live variable. It needs no initialisation.
        let code = unsafe { get(&raw mut version) };
        if code != SUCCESS {
            return Err(format!("the driver of CUDA does not tell its version (error {code})"));
        }
        check_version(version)?;
        let functions = Functions::find(look).map_err(missing)?;
        let mut api = Api { functions, has_devices: true, version: version as u32 };
        // SAFETY: it takes no pointers.
        match unsafe { call!(api.functions, cuInit(0)) } {
            SUCCESS => {}
            NO_DEVICE => api.has_devices = false,
            code => return Err(format!("the driver of CUDA does not start: {}", api.message(code))),
        }
        Ok(api)
    }

    /// What an error is called, and what the driver says about it.
    fn message(&self, code: Code) -> String {
        let f = &self.functions;
        // SAFETY: the symbols are those of these functions.
        let name = unsafe { error_text(sys::cuGetErrorName, f.cuGetErrorName) };
        // SAFETY: as above.
        let words = unsafe { error_text(sys::cuGetErrorString, f.cuGetErrorString) };
        let text = |get: unsafe extern "C" fn(Code, *mut *const c_char) -> Code| {
            let mut text = null();
            // SAFETY: the pointer is written to a live variable.
            let found = unsafe { get(code, &raw mut text) } == SUCCESS && !text.is_null();
            // SAFETY: the driver's texts end with a zero, and are never freed.
            found.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        match (text(name), text(words)) {
            (Some(name), Some(words)) => format!("{name} ({words})"),
            (Some(name), None) => name,
            (None, _) => format!("error {code}"),
        }
    }

    /// The result of a call.
    fn check(&self, call: &'static str, code: Code) -> Result<()> {
        if code == SUCCESS {
            return Ok(());
        }
        Err(DriverError { call, message: self.message(code), kind: kind(code) })
    }
}

/// What an error means for what follows.
fn kind(code: Code) -> ErrorKind {
    match code {
        OUT_OF_MEMORY => ErrorKind::OutOfMemory,
        code if STICKY.contains(&code) => ErrorKind::Sticky,
        _ => ErrorKind::Refused,
    }
}

fn check_version(version: c_int) -> std::result::Result<(), String> {
    if version >= LEAST_VERSION {
        return Ok(());
    }
    let [major, minor] = [version / 1000, version % 1000 / 10];
    Err(format!("the installed driver is for CUDA {major}.{minor} and too old: 11.4 is the least that is supported"))
}

impl Driver for CudaDriver {
    fn count(&self) -> Result<u32> {
        if !self.api.has_devices {
            return Ok(0);
        }
        let mut count = 0;
        // SAFETY: the number is written to a live variable.
        let code = unsafe { call!(self.api.functions, cuDeviceGetCount(&raw mut count)) };
        if code == NO_DEVICE {
            return Ok(0);
        }
        self.api.check("cuDeviceGetCount", code)?;
        Ok(u32::try_from(count).unwrap_or(0))
    }

    fn open(&self, number: u32) -> Result<Box<dyn Context>> {
        Ok(Box::new(CudaContext::open(&self.api, number)?))
    }
}

/// The primary context of a device, with its streams.
struct CudaContext {
    api: Arc<Api>,
    device: CUdevice,
    context: CUcontext,
    /// The stream of the steps, and that of copies.
    streams: [CUstream; 2],
    /// Whether allocations are in the order of the stream.
    has_pools: bool,
    properties: Properties,
    /// By handle.
    graphs: Mutex<BTreeMap<u64, CudaGraph>>,
}

// SAFETY: handles of the driver may be used by every thread, several at a time; graphs, which may not, are in a
// lock.
unsafe impl Send for CudaContext {}
// SAFETY: as above.
unsafe impl Sync for CudaContext {}

struct CudaGraph {
    graph: CUgraph,
    exec: CUgraphExec,
    nodes: Vec<CUgraphNode>,
}

impl CudaContext {
    fn open(api: &Arc<Api>, number: u32) -> Result<CudaContext> {
        let f = &api.functions;
        let mut device = 0;
        // SAFETY: the number is written to a live variable.
        api.check("cuDeviceGet", unsafe { call!(f, cuDeviceGet(&raw mut device, number as c_int)) })?;
        let attribute = |attribute: CUdevice_attribute| {
            let mut value = 0;
            // SAFETY: the number is written to a live variable; the driver has told the device.
            let code = unsafe { call!(f, cuDeviceGetAttribute(&raw mut value, attribute, device)) };
            api.check("cuDeviceGetAttribute", code).map(|()| u32::try_from(value).unwrap_or(0))
        };
        let mut name = [0 as c_char; 256];
        // SAFETY: the buffer is as long as it says, one byte less, and zero before.
        api.check("cuDeviceGetName", unsafe { call!(f, cuDeviceGetName(name.as_mut_ptr(), 255, device)) })?;
        // SAFETY: the last byte is zero.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let mut memory = 0;
        // SAFETY: the number is written to a live variable.
        api.check("cuDeviceTotalMem", unsafe { call!(f, cuDeviceTotalMem_v2(&raw mut memory, device)) })?;
        let capability = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)? * 10
            + attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let multiprocessors = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
        let cooperative = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH)? != 0;
        let has_pools = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED)? != 0;
        // Where a driver does not tell them, times are not compared with them.
        let peak = |number| attribute(number).unwrap_or(0);
        let clock = peak(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
        let memory_clock = peak(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
        let memory_bits = peak(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
        let mut context = null_mut();
        // SAFETY: the pointer is written to a live variable.
        api.check("cuDevicePrimaryCtxRetain", unsafe { call!(f, cuDevicePrimaryCtxRetain(&raw mut context, device)) })?;
        let properties = Properties {
            name,
            capability,
            multiprocessors,
            cooperative,
            memory,
            driver: api.version,
            clock,
            memory_clock,
            memory_bits,
        };
        // From here on `drop` gives the context back.
        let (api, streams, graphs) = (api.clone(), [null_mut(); 2], Mutex::default());
        let mut opened = CudaContext { api, device, context, streams, has_pools, properties, graphs };
        for number in 0..2 {
            let mut stream = null_mut();
            let f = opened.functions()?;
            // SAFETY: the pointer is written to a live variable.
            opened.api.check("cuStreamCreate", unsafe {
                call!(f, cuStreamCreate(&raw mut stream, CUstream_flags::CU_STREAM_NON_BLOCKING as c_uint))
            })?;
            opened.streams[number] = stream;
        }
        Ok(opened)
    }

    /// The functions of the driver, for calls that this thread makes of the context.
    fn functions(&self) -> Result<&Functions> {
        let f = &self.api.functions;
        // SAFETY: the context is retained until this is dropped.
        self.api.check("cuCtxSetCurrent", unsafe { call!(f, cuCtxSetCurrent(self.context)) })?;
        Ok(f)
    }

    fn graphs(&self) -> MutexGuard<'_, BTreeMap<u64, CudaGraph>> {
        self.graphs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream(&self, stream: Stream) -> CUstream {
        match stream {
            Stream::Steps => self.streams[0],
            Stream::Copies => self.streams[1],
        }
    }

    /// Waits for a stream.
    fn synchronize(&self, stream: Stream) -> Result<()> {
        let (f, stream) = (self.functions()?, self.stream(stream));
        // SAFETY: the stream is this context's.
        self.api.check("cuStreamSynchronize", unsafe { call!(f, cuStreamSynchronize(stream)) })
    }

    /// The function of a name.
    fn function(&self, module: CUmodule, name: &str) -> Result<FunctionHandle> {
        let f = self.functions()?;
        let message = "a name with a zero in it".to_owned();
        let invalid = DriverError { call: "cuModuleGetFunction", message, kind: ErrorKind::Refused };
        let c_name = CString::new(name).map_err(|_| invalid)?;
        let mut function = null_mut();
        // SAFETY: the pointer is written to a live variable; the name ends with a zero.
        let code = unsafe { call!(f, cuModuleGetFunction(&raw mut function, module, c_name.as_ptr())) };
        self.api.check("cuModuleGetFunction", code)?;
        Ok(FunctionHandle(function.expose_provenance() as u64))
    }

    /// What the linker makes of a text that ends with a zero.
    fn link(&self, f: &Functions, linker: CUlinkState, text: &CStr) -> Result<Vec<u8>> {
        let (data, bytes) = (text.as_ptr().cast_mut().cast(), text.to_bytes_with_nul().len());
        let input = CUjitInputType::CU_JIT_INPUT_PTX;
        // SAFETY: the text has so many bytes, and is only read; no name and no options are given.
        let code = unsafe { call!(f, cuLinkAddData_v2(linker, input, data, bytes, null(), 0, null_mut(), null_mut())) };
        self.api.check("cuLinkAddData", code)?;
        let (mut start, mut bytes) = (null_mut::<c_void>(), 0);
        // SAFETY: address and size are written to live variables.
        let code = unsafe { call!(f, cuLinkComplete(linker, &raw mut start, &raw mut bytes)) };
        self.api.check("cuLinkComplete", code)?;
        if start.is_null() {
            return Ok(Vec::new());
        }
        // SAFETY: the linker's result has so many bytes, and stays until the linker is destroyed.
        Ok(unsafe { std::slice::from_raw_parts(start.cast::<u8>(), bytes) }.to_vec())
    }

    /// Adds nodes to a new graph, and makes it launchable.
    ///
    /// # Safety
    /// As [`Context::build`].
    unsafe fn fill(&self, f: &Functions, graph: &mut CudaGraph, nodes: &[Node<'_>]) -> Result<()> {
        for node in nodes {
            let mut new = null_mut();
            let before = graph.nodes.last().map_or(null(), |node| &raw const *node);
            let count = usize::from(!graph.nodes.is_empty());
            let code = with_params(node, |params| {
                // SAFETY: the parameters live until this returns, and are copied; one node is before, or none.
                unsafe { call!(f, cuGraphAddKernelNode(&raw mut new, graph.graph, before, count, params)) }
            });
            self.api.check("cuGraphAddKernelNode", code)?;
            graph.nodes.push(new);
            if node.cooperative {
                let (attribute, value) = (
                    CUkernelNodeAttrID::CU_KERNEL_NODE_ATTRIBUTE_COOPERATIVE,
                    CUkernelNodeAttrValue { cooperative: 1 },
                );
                // SAFETY: the node was added above; the value is read before this returns, by what the attribute has.
                let code = unsafe { call!(f, cuGraphKernelNodeSetAttribute(new, attribute, &raw const value)) };
                self.api.check("cuGraphKernelNodeSetAttribute", code)?;
            }
        }
        // SAFETY: the pointer is written to a live place.
        let code = unsafe { call!(f, cuGraphInstantiateWithFlags(&raw mut graph.exec, graph.graph, 0)) };
        self.api.check("cuGraphInstantiateWithFlags", code)
    }

    /// Launches nodes, each between two of the events that it adds, waits, and reads the times between them.
    ///
    /// # Safety
    /// As [`Context::time`].
    unsafe fn time_with(&self, f: &Functions, nodes: &[Node<'_>], events: &mut Vec<CUevent>) -> Result<Vec<Duration>> {
        // Events are what may run out, so they come first.
        for _ in 0..=nodes.len() {
            let mut event = null_mut();
            // SAFETY: the pointer is written to a live variable.
            self.api.check("cuEventCreate", unsafe { call!(f, cuEventCreate(&raw mut event, 0)) })?;
            events.push(event);
        }
        let stream = self.stream(Stream::Steps);
        // SAFETY: events and stream are this context's.
        let record = |event| self.api.check("cuEventRecord", unsafe { call!(f, cuEventRecord(event, stream)) });
        record(events[0])?;
        for (n, node) in nodes.iter().enumerate() {
            let (mut args, function) = (arguments(node), pointer(node.function.0));
            let (grid, block, args) = (node.grid, node.block, args.as_mut_ptr());
            // SAFETY: the caller's promise; the arguments live until this returns, and are copied.
            let code = unsafe {
                if node.cooperative {
                    call!(f, cuLaunchCooperativeKernel(function, grid, 1, 1, block, 1, 1, 0, stream, args))
                } else {
                    call!(f, cuLaunchKernel(function, grid, 1, 1, block, 1, 1, 0, stream, args, null_mut()))
                }
            };
            let launched = self.api.check("cuLaunchKernel", code).and_then(|()| record(events[n + 1]));
            // After the first launch, memory is that of no step.
            launched.map_err(|error| if n == 0 { error } else { DriverError { kind: ErrorKind::Sticky, ..error } })?;
        }
        self.wait()?;
        let time = |pair: &[CUevent]| {
            let mut milliseconds = 0.0f32;
            // SAFETY: both events are recorded and done; the number is written to a live variable.
            let code = unsafe { call!(f, cuEventElapsedTime(&raw mut milliseconds, pair[0], pair[1])) };
            self.api.check("cuEventElapsedTime", code)?;
            Ok(Duration::try_from_secs_f64(f64::from(milliseconds) / 1e3).unwrap_or_default())
        };
        events.windows(2).map(time).collect()
    }

    fn destroy_graph(&self, f: &Functions, graph: &CudaGraph) -> Result<()> {
        let mut result = Ok(());
        if !graph.exec.is_null() {
            // SAFETY: it is destroyed once. The driver waits for launches that run.
            result = self.api.check("cuGraphExecDestroy", unsafe { call!(f, cuGraphExecDestroy(graph.exec)) });
        }
        // SAFETY: it is destroyed once.
        let destroyed = self.api.check("cuGraphDestroy", unsafe { call!(f, cuGraphDestroy(graph.graph)) });
        result.and(destroyed)
    }
}

/// Pointers to the arguments of a node, as the driver takes them.
fn arguments(node: &Node<'_>) -> Vec<*mut c_void> {
    node.args.iter().map(|arg| (&raw const *arg).cast_mut().cast()).collect()
}

/// Calls `call` with a node as the driver takes it.
fn with_params<R>(node: &Node<'_>, call: impl FnOnce(*const CUDA_KERNEL_NODE_PARAMS) -> R) -> R {
    let mut params = arguments(node);
    let params = CUDA_KERNEL_NODE_PARAMS {
        func: pointer(node.function.0),
        gridDimX: node.grid,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: node.block,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        kernelParams: params.as_mut_ptr(),
        extra: null_mut(),
    };
    call(&raw const params)
}

/// The pointer that a handle was made of.
fn pointer<T>(handle: u64) -> *mut T {
    std::ptr::with_exposed_provenance_mut(handle as usize)
}

/// The error of a graph that is none.
fn no_graph(call: &'static str) -> DriverError {
    DriverError { call, message: "there is no such graph".into(), kind: ErrorKind::Refused }
}

impl Context for CudaContext {
    fn properties(&self) -> &Properties {
        &self.properties
    }

    fn allocate(&self, bytes: usize) -> Result<u64> {
        let f = self.functions()?;
        let mut address = 0;
        if self.has_pools {
            // SAFETY: the address is written to a live variable.
            let code = unsafe { call!(f, cuMemAllocAsync(&raw mut address, bytes, self.stream(Stream::Steps))) };
            self.api.check("cuMemAllocAsync", code)?;
        } else {
            // SAFETY: as above.
            self.api.check("cuMemAlloc", unsafe { call!(f, cuMemAlloc_v2(&raw mut address, bytes)) })?;
        }
        Ok(address)
    }

    unsafe fn free(&self, address: u64) -> Result<()> {
        let f = self.functions()?;
        if self.has_pools {
            // SAFETY: the caller's promise.
            return self
                .api
                .check("cuMemFreeAsync", unsafe { call!(f, cuMemFreeAsync(address, self.stream(Stream::Steps))) });
        }
        self.wait()?;
        // SAFETY: the caller's promise; all that was asked for before is done.
        self.api.check("cuMemFree", unsafe { call!(f, cuMemFree_v2(address)) })
    }

    fn lock(&self, bytes: usize) -> Result<HostHandle> {
        let f = self.functions()?;
        let mut start = null_mut();
        // SAFETY: the pointer is written to a live variable.
        self.api.check("cuMemHostAlloc", unsafe { call!(f, cuMemHostAlloc(&raw mut start, bytes, 0)) })?;
        Ok(HostHandle(start.expose_provenance() as u64))
    }

    unsafe fn unlock(&self, memory: HostHandle) -> Result<()> {
        let f = self.functions()?;
        // SAFETY: the caller's promise.
        self.api.check("cuMemFreeHost", unsafe { call!(f, cuMemFreeHost(pointer(memory.0))) })
    }

    unsafe fn fill(&self, memory: HostHandle, from: &[u8]) {
        // SAFETY: the caller's promise.
        unsafe { pointer::<u8>(memory.0).copy_from_nonoverlapping(from.as_ptr(), from.len()) }
    }

    unsafe fn take(&self, memory: HostHandle, offset: usize, to: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { pointer::<u8>(memory.0).add(offset).copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) }
    }

    unsafe fn upload(&self, stream: Stream, to: u64, from: HostHandle, bytes: usize) -> Result<()> {
        let (f, from) = (self.functions()?, pointer::<c_void>(from.0));
        // SAFETY: the caller's promise.
        let code = unsafe { call!(f, cuMemcpyHtoDAsync_v2(to, from, bytes, self.stream(stream))) };
        self.api.check("cuMemcpyHtoDAsync", code)
    }

    unsafe fn download(&self, from: u64, to: HostHandle, offset: usize, bytes: usize) -> Result<()> {
        let (f, to) = (self.functions()?, pointer::<c_void>(to.0 + offset as u64));
        // SAFETY: the caller's promise.
        let code = unsafe { call!(f, cuMemcpyDtoHAsync_v2(to, from, bytes, self.stream(Stream::Steps))) };
        self.api.check("cuMemcpyDtoHAsync", code)
    }

    fn event(&self) -> Result<EventHandle> {
        let f = self.functions()?;
        let mut event = null_mut();
        // SAFETY: the pointer is written to a live variable.
        let code = unsafe { call!(f, cuEventCreate(&raw mut event, CUevent_flags::CU_EVENT_DISABLE_TIMING as c_uint)) };
        self.api.check("cuEventCreate", code)?;
        Ok(EventHandle(event.expose_provenance() as u64))
    }

    unsafe fn record(&self, event: EventHandle, stream: Stream) -> Result<()> {
        let f = self.functions()?;
        // SAFETY: the caller's promise; the stream is this context's.
        let code = unsafe { call!(f, cuEventRecord(pointer(event.0), self.stream(stream))) };
        self.api.check("cuEventRecord", code)
    }

    unsafe fn wait_for(&self, stream: Stream, event: EventHandle) -> Result<()> {
        let f = self.functions()?;
        // SAFETY: as above.
        let code = unsafe { call!(f, cuStreamWaitEvent(self.stream(stream), pointer(event.0), 0)) };
        self.api.check("cuStreamWaitEvent", code)
    }

    unsafe fn is_over(&self, event: EventHandle) -> Result<bool> {
        let f = self.functions()?;
        // SAFETY: the caller's promise.
        match unsafe { call!(f, cuEventQuery(pointer(event.0))) } {
            NOT_READY => Ok(false),
            code => self.api.check("cuEventQuery", code).map(|()| true),
        }
    }

    unsafe fn join(&self, event: EventHandle) -> Result<()> {
        let f = self.functions()?;
        // SAFETY: the caller's promise.
        self.api.check("cuEventSynchronize", unsafe { call!(f, cuEventSynchronize(pointer(event.0))) })
    }

    unsafe fn forget(&self, event: EventHandle) -> Result<()> {
        let f = self.functions()?;
        // SAFETY: the caller's promise.
        self.api.check("cuEventDestroy", unsafe { call!(f, cuEventDestroy_v2(pointer(event.0))) })
    }

    unsafe fn read(&self, from: u64, to: &mut [u8]) -> Result<()> {
        let f = self.functions()?;
        // SAFETY: the caller's promise; as many bytes are written as there are, before this returns.
        let code = unsafe {
            call!(f, cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast(), from, to.len(), self.stream(Stream::Steps)))
        };
        let copied = self.api.check("cuMemcpyDtoHAsync", code);
        // After an error too: nothing is written later.
        self.synchronize(Stream::Steps).and(copied)
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        let f = self.functions()?;
        // SAFETY: the caller's promise.
        let code = unsafe { call!(f, cuMemcpyDtoDAsync_v2(to, from, bytes, self.stream(Stream::Steps))) };
        self.api.check("cuMemcpyDtoDAsync", code)
    }

    fn compile(&self, text: &str) -> Result<Vec<u8>> {
        const CALL: &str = "cuLinkCreate";
        let f = self.functions()?;
        let invalid = |message: &str| DriverError { call: CALL, message: message.into(), kind: ErrorKind::Refused };
        let text = CString::new(text).map_err(|_| invalid("a text with a zero in it"))?;
        let mut log = vec![0u8; LOG_BYTES];
        let mut options = [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(LOG_BYTES)];
        let mut linker = null_mut();
        // SAFETY: two options with two values, of which the first is a buffer of the size that the second says. They
        // live until the linker is destroyed. The handle is written to a live variable.
        let code = unsafe { call!(f, cuLinkCreate_v2(2, options.as_mut_ptr(), values.as_mut_ptr(), &raw mut linker)) };
        self.api.check(CALL, code)?;
        let linked = self.link(f, linker, &text);
        // SAFETY: it is destroyed once, and its result has been copied. Nothing can be done about a failure.
        let _ = unsafe { call!(f, cuLinkDestroy(linker)) };
        linked.map_err(|mut error| {
            let log = log.split(|&byte| byte == 0).next().unwrap_or_default();
            let log = String::from_utf8_lossy(log);
            if !log.trim().is_empty() {
                error.message = format!("{}: {}", error.message, log.trim());
            }
            error
        })
    }

    unsafe fn load(&self, module: &[u8], entries: &[&str]) -> Result<Loaded> {
        let f = self.functions()?;
        let data = module.as_ptr().cast();
        let mut module = null_mut();
        // SAFETY: the caller's promise; the module says itself how long it is. The handle is written to a live place.
        let code = unsafe { call!(f, cuModuleLoadData(&raw mut module, data)) };
        self.api.check("cuModuleLoadData", code)?;
        let functions = entries.iter().map(|name| self.function(module, name)).collect::<Result<Vec<_>>>();
        let module_handle = ModuleHandle(module.expose_provenance() as u64);
        if functions.is_err() {
            // SAFETY: its functions were given to no one. The error that is told is the first.
            let _ = unsafe { call!(f, cuModuleUnload(module)) };
        }
        Ok(Loaded { module: module_handle, functions: functions? })
    }

    unsafe fn resident(&self, function: FunctionHandle, block: u32) -> Result<u32> {
        const CALL: &str = "cuOccupancyMaxActiveBlocksPerMultiprocessor";
        let f = self.functions()?;
        let mut blocks = 0;
        // SAFETY: the number is written to a live variable; the caller's promise.
        let code = unsafe {
            call!(
                f,
                cuOccupancyMaxActiveBlocksPerMultiprocessor(&raw mut blocks, pointer(function.0), block as c_int, 0)
            )
        };
        self.api.check(CALL, code)?;
        Ok(u32::try_from(blocks).unwrap_or(0))
    }

    unsafe fn unload(&self, module: ModuleHandle) -> Result<()> {
        // Its code may still run.
        self.wait()?;
        let f = self.functions()?;
        // SAFETY: the caller's promise; nothing runs.
        self.api.check("cuModuleUnload", unsafe { call!(f, cuModuleUnload(pointer(module.0))) })
    }

    unsafe fn build(&self, nodes: &[Node<'_>]) -> Result<GraphHandle> {
        let f = self.functions()?;
        let mut graph = CudaGraph { graph: null_mut(), exec: null_mut(), nodes: Vec::with_capacity(nodes.len()) };
        // SAFETY: the pointer is written to a live place.
        self.api.check("cuGraphCreate", unsafe { call!(f, cuGraphCreate(&raw mut graph.graph, 0)) })?;
        // SAFETY: the caller's promise.
        if let Err(error) = unsafe { self.fill(f, &mut graph, nodes) } {
            // The error that is told is the first.
            let _ = self.destroy_graph(f, &graph);
            return Err(error);
        }
        let handle = graph.exec.addr() as u64;
        self.graphs().insert(handle, graph);
        Ok(GraphHandle(handle))
    }

    unsafe fn update(&self, graph: GraphHandle, number: usize, node: Node<'_>) -> Result<()> {
        const CALL: &str = "cuGraphExecKernelNodeSetParams";
        let f = self.functions()?;
        let graphs = self.graphs();
        let graph = graphs.get(&graph.0).ok_or_else(|| no_graph(CALL))?;
        let of = *graph.nodes.get(number).ok_or_else(|| no_graph(CALL))?;
        // SAFETY: the caller's promise; the parameters live until this returns, and are copied.
        let code =
            with_params(&node, |params| unsafe { call!(f, cuGraphExecKernelNodeSetParams(graph.exec, of, params)) });
        self.api.check(CALL, code)
    }

    unsafe fn launch(&self, graph: GraphHandle) -> Result<()> {
        let f = self.functions()?;
        let graphs = self.graphs();
        let graph = graphs.get(&graph.0).ok_or_else(|| no_graph("cuGraphLaunch"))?;
        // SAFETY: the caller's promise; the lock keeps others from changing the graph.
        self.api.check("cuGraphLaunch", unsafe { call!(f, cuGraphLaunch(graph.exec, self.stream(Stream::Steps))) })
    }

    unsafe fn time(&self, nodes: &[Node<'_>]) -> Result<Vec<Duration>> {
        let f = self.functions()?;
        let mut events = Vec::new();
        // SAFETY: the caller's promise.
        let times = unsafe { self.time_with(f, nodes, &mut events) };
        // After an error too: what was launched is done when this returns.
        let done = self.wait();
        for event in events {
            // SAFETY: it is destroyed once. Nothing can be done about a failure.
            let _ = unsafe { call!(f, cuEventDestroy_v2(event)) };
        }
        times.and_then(|times| done.map(|()| times))
    }

    unsafe fn destroy(&self, graph: GraphHandle) -> Result<()> {
        let f = self.functions()?;
        let graph = self.graphs().remove(&graph.0).ok_or_else(|| no_graph("cuGraphExecDestroy"))?;
        self.destroy_graph(f, &graph)
    }

    fn wait(&self) -> Result<()> {
        let copies = self.synchronize(Stream::Copies);
        self.synchronize(Stream::Steps).and(copies)
    }
}

impl Drop for CudaContext {
    fn drop(&mut self) {
        // Nothing can be done about a failure.
        if let Ok(f) = self.functions() {
            for stream in self.streams.into_iter().filter(|stream| !stream.is_null()) {
                // SAFETY: no one else has the stream.
                let _ = unsafe { call!(f, cuStreamSynchronize(stream)) };
                // SAFETY: as above; it is destroyed once.
                let _ = unsafe { call!(f, cuStreamDestroy_v2(stream)) };
            }
        }
        // SAFETY: it was retained once, and all that was in it has been given back.
        let _ = unsafe { call!(self.api.functions, cuDevicePrimaryCtxRelease_v2(self.device)) };
    }
}

#[cfg(test)]
mod tests {
    use std::mem::transmute;

    use super::*;

    unsafe extern "C" fn version(version: *mut c_int) -> Code {
        // SAFETY: it is called with a pointer to a number.
        unsafe { version.write(LEAST_VERSION) };
        SUCCESS
    }

    unsafe extern "C" fn start(_flags: c_uint) -> Code {
        4321
    }

    unsafe extern "C" fn no_text(_error: Code, _text: *mut *const c_char) -> Code {
        1
    }

    unsafe extern "C" fn not_called() {}

    /// A driver that does not start, and that lacks a symbol.
    fn broken_driver(missing: &str) -> Option<String> {
        let look = |name: &str| {
            // SAFETY: they are called as what they are.
            let symbol = unsafe {
                match name {
                    "cuDriverGetVersion" => transmute::<unsafe extern "C" fn(*mut c_int) -> Code, Symbol>(version),
                    "cuInit" => transmute::<unsafe extern "C" fn(c_uint) -> Code, Symbol>(start),
                    "cuGetErrorName" | "cuGetErrorString" => {
                        transmute::<unsafe extern "C" fn(Code, *mut *const c_char) -> Code, Symbol>(no_text)
                    }
                    _ => not_called,
                }
            };
            (name != missing).then_some(symbol)
        };
        // SAFETY: those that are called have the types of the driver's.
        unsafe { Api::new(look) }.err()
    }

    #[test]
    fn a_missing_symbol_is_an_error() {
        for symbol in ["cuDriverGetVersion", "cuInit", "cuMemAllocAsync", "cuGraphExecDestroy"] {
            let why = format!("the installed driver of CUDA is too old: it has no {symbol}");
            assert_eq!(broken_driver(symbol), Some(why));
        }
    }

    #[test]
    fn an_unknown_result_is_an_error() {
        assert_eq!(broken_driver(""), Some("the driver of CUDA does not start: error 4321".into()));
    }

    #[test]
    fn versions() {
        assert_eq!(check_version(13000), Ok(()));
        assert_eq!(check_version(11040), Ok(()));
        let old = "the installed driver is for CUDA 10.2 and too old: 11.4 is the least that is supported";
        assert_eq!(check_version(10020), Err(old.into()));
    }

    #[test]
    fn errors_are_sticky_or_not() {
        assert_eq!([2, 700, 1, 100].map(kind)[..2], [ErrorKind::OutOfMemory, ErrorKind::Sticky]);
        assert_eq!([1, 100, 218, 701].map(kind), [ErrorKind::Refused; 4]);
    }

    #[test]
    fn without_a_driver_there_is_an_error() {
        match load() {
            Err(none) => assert!(none.to_string().contains("driver of CUDA"), "{none}"),
            Ok(driver) => assert!(driver.count().is_ok()),
        }
    }
}
