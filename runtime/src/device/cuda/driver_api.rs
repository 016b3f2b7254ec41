//! The driver of CUDA, as it is installed on this machine.
//!
//! Comes in: the library `libcuda.so.1` (`nvcuda.dll`), which is opened when a GPU is first asked for. Goes out: a
//! [`Driver`]. Every call is checked; no library, a symbol that it lacks and a version that is too old are errors.
//!
//! The functions are declared here, and their results are numbers: bindings whose results are a Rust `enum` (cudarc's)
//! are wrong with a driver that has an error which the `enum` lacks, and those panic without the library.
//!
//! The driver compiles PTX once and keeps the result on disk, by the text, the device and its own version
//! (`CUDA_CACHE_PATH`, `~/.nv/ComputeCache`); nothing is kept here besides.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use libloading::Library;

use super::driver::{
    Context, Driver, DriverError, ErrorKind, FunctionHandle, GraphHandle, Loaded, ModuleHandle, Node, Properties,
    Result,
};

/// `CUresult`.
type Code = c_uint;
/// `CUdevice`.
type DeviceNumber = c_int;
/// Pointers to what the driver does not show: contexts, streams, modules, functions, graphs and their nodes.
type Opaque = *mut c_void;

const SUCCESS: Code = 0;
const OUT_OF_MEMORY: Code = 2;
const NO_DEVICE: Code = 100;

/// Errors after which a context only repeats them: of the process that ends, of memory and of links that cannot be
/// corrected, of kernels.
const STICKY: [Code; 15] = [4, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721];

/// CUDA 11.4, as the driver counts. Graphs that are instantiated with flags came with it.
const LEAST_VERSION: c_int = 11040;

// Numbers of cuda.h.
const ATTRIBUTE_MULTIPROCESSORS: c_uint = 16;
const ATTRIBUTE_CAPABILITY_MAJOR: c_uint = 75;
const ATTRIBUTE_CAPABILITY_MINOR: c_uint = 76;
const ATTRIBUTE_MEMORY_POOLS: c_uint = 115;
const STREAM_NON_BLOCKING: c_uint = 1;
const EVENT_WITHOUT_TIMING: c_uint = 2;
const JIT_ERROR_LOG: c_uint = 5;
const JIT_ERROR_LOG_SIZE: c_uint = 6;

/// Bytes for what the driver says about a module that it does not compile.
const LOG_BYTES: usize = 4096;

/// Bytes of each staging buffer, and how many there are: so many bytes may be on their way to the device.
const STAGING_BYTES: usize = 1 << 20;
const STAGING_BUFFERS: usize = 4;

/// `CUDA_KERNEL_NODE_PARAMS_v1`.
#[repr(C)]
struct KernelNodeParams {
    function: Opaque,
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared_bytes: c_uint,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
}

/// Declares the functions that are looked up in the library.
macro_rules! functions {
    ($($name:ident: $symbol:literal ($($arg:ty),*);)*) => {
        /// The functions of the driver.
        struct Functions {
            $($name: unsafe extern "C" fn($($arg),*) -> Code,)*
        }

        impl Functions {
            /// Looks them up.
            ///
            /// # Safety
            /// The library is CUDA's driver, and stays open.
            unsafe fn find(library: &Library) -> std::result::Result<Self, String> {
                let missing = |symbol: &str| format!("the installed driver of CUDA is too old: it has no {symbol}");
                Ok(Functions {
                    // SAFETY: the functions have these types, by CUDA's manual of the driver API.
                    $($name: *unsafe { library.get($symbol) }.map_err(|_| missing($symbol))?,)*
                })
            }
        }
    };
}

functions! {
    init: "cuInit"(c_uint);
    error_name: "cuGetErrorName"(Code, *mut *const c_char);
    error_string: "cuGetErrorString"(Code, *mut *const c_char);
    device_count: "cuDeviceGetCount"(*mut c_int);
    device_get: "cuDeviceGet"(*mut DeviceNumber, c_int);
    device_name: "cuDeviceGetName"(*mut c_char, c_int, DeviceNumber);
    device_attribute: "cuDeviceGetAttribute"(*mut c_int, c_uint, DeviceNumber);
    device_memory: "cuDeviceTotalMem_v2"(*mut usize, DeviceNumber);
    context_retain: "cuDevicePrimaryCtxRetain"(*mut Opaque, DeviceNumber);
    context_release: "cuDevicePrimaryCtxRelease_v2"(DeviceNumber);
    context_set: "cuCtxSetCurrent"(Opaque);
    stream_create: "cuStreamCreate"(*mut Opaque, c_uint);
    stream_destroy: "cuStreamDestroy_v2"(Opaque);
    stream_wait: "cuStreamSynchronize"(Opaque);
    allocate: "cuMemAlloc_v2"(*mut u64, usize);
    free: "cuMemFree_v2"(u64);
    allocate_async: "cuMemAllocAsync"(*mut u64, usize, Opaque);
    free_async: "cuMemFreeAsync"(u64, Opaque);
    write: "cuMemcpyHtoDAsync_v2"(u64, *const c_void, usize, Opaque);
    read: "cuMemcpyDtoHAsync_v2"(*mut c_void, u64, usize, Opaque);
    copy: "cuMemcpyDtoDAsync_v2"(u64, u64, usize, Opaque);
    host_allocate: "cuMemHostAlloc"(*mut Opaque, usize, c_uint);
    host_free: "cuMemFreeHost"(Opaque);
    event_create: "cuEventCreate"(*mut Opaque, c_uint);
    event_record: "cuEventRecord"(Opaque, Opaque);
    event_wait: "cuEventSynchronize"(Opaque);
    event_destroy: "cuEventDestroy_v2"(Opaque);
    module_load: "cuModuleLoadDataEx"(*mut Opaque, *const c_void, c_uint, *mut c_uint, *mut *mut c_void);
    module_function: "cuModuleGetFunction"(*mut Opaque, Opaque, *const c_char);
    module_unload: "cuModuleUnload"(Opaque);
    graph_create: "cuGraphCreate"(*mut Opaque, c_uint);
    graph_destroy: "cuGraphDestroy"(Opaque);
    graph_add_kernel: "cuGraphAddKernelNode"(*mut Opaque, Opaque, *const Opaque, usize, *const KernelNodeParams);
    graph_instantiate: "cuGraphInstantiateWithFlags"(*mut Opaque, Opaque, c_ulonglong);
    graph_set_kernel: "cuGraphExecKernelNodeSetParams"(Opaque, Opaque, *const KernelNodeParams);
    graph_launch: "cuGraphLaunch"(Opaque, Opaque);
    exec_destroy: "cuGraphExecDestroy"(Opaque);
}

/// The driver of this machine.
pub(crate) struct CudaDriver {
    api: Arc<Api>,
}

struct Api {
    functions: Functions,
    /// Whether there is a device at all.
    has_devices: bool,
    /// The functions are in it.
    _library: Library,
}

/// Opens the driver of this machine.
///
/// # Errors
/// Why there is none that can be used.
pub(crate) fn load() -> std::result::Result<CudaDriver, String> {
    let names: &[&str] = if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] };
    let mut why = String::new();
    for name in names {
        // SAFETY: what is called so is CUDA's driver, whose initialisers may run at any time.
        match unsafe { Library::new(*name) } {
            Ok(library) => return Api::new(library).map(|api| CudaDriver { api: Arc::new(api) }),
            // The source has the words of the system.
            Err(error) if why.is_empty() => {
                why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            }
            Err(_) => {}
        }
    }
    Err(format!("the driver of CUDA is not installed ({why})"))
}

impl Api {
    fn new(library: Library) -> std::result::Result<Api, String> {
        let mut version = 0;
        {
            let symbol = "cuDriverGetVersion";
            // SAFETY: the function has this type, by CUDA's manual of the driver API.
            let get = unsafe { library.get::<unsafe extern "C" fn(*mut c_int) -> Code>(symbol) };
            let get = get.map_err(|_| format!("the installed driver of CUDA is too old: it has no {symbol}"))?;
            // SAFETY: the number is written to a live variable. It needs no initialisation.
            let code = unsafe { get(&raw mut version) };
            if code != SUCCESS {
                return Err(format!("the driver of CUDA does not tell its version (error {code})"));
            }
        }
        check_version(version)?;
        // SAFETY: the library is CUDA's driver, and is kept beside the functions.
        let functions = unsafe { Functions::find(&library)? };
        let mut api = Api { functions, has_devices: true, _library: library };
        // SAFETY: it takes no pointers.
        match unsafe { (api.functions.init)(0) } {
            SUCCESS => {}
            NO_DEVICE => api.has_devices = false,
            code => return Err(format!("the driver of CUDA does not start: {}", api.message(code))),
        }
        Ok(api)
    }

    /// What an error is called, and what the driver says about it.
    fn message(&self, code: Code) -> String {
        let text = |get: unsafe extern "C" fn(Code, *mut *const c_char) -> Code| {
            let mut text = null();
            // SAFETY: the pointer is written to a live variable.
            let found = unsafe { get(code, &raw mut text) } == SUCCESS && !text.is_null();
            // SAFETY: the driver's texts end with a zero, and are never freed.
            found.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        match (text(self.functions.error_name), text(self.functions.error_string)) {
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
        let code = unsafe { (self.api.functions.device_count)(&raw mut count) };
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

/// The primary context of a device, with a stream.
struct CudaContext {
    api: Arc<Api>,
    device: DeviceNumber,
    context: Opaque,
    stream: Opaque,
    /// Whether allocations are in the order of the stream.
    has_pools: bool,
    properties: Properties,
    /// By handle.
    graphs: Mutex<BTreeMap<u64, CudaGraph>>,
    staging: Mutex<Staging>,
}

// SAFETY: handles of the driver may be used by every thread, several at a time; graphs and staging buffers,
// which may not, are in locks.
unsafe impl Send for CudaContext {}
// SAFETY: as above.
unsafe impl Sync for CudaContext {}

/// Locked memory of the host, from which the device copies on its own. When it has copied from other memory is not
/// promised.
#[derive(Default)]
struct Staging {
    buffers: Vec<StagingBuffer>,
    /// The one that is used next.
    next: usize,
}

#[derive(Clone, Copy)]
struct StagingBuffer {
    start: Opaque,
    /// Recorded behind the last copy from it.
    copied: Opaque,
}

struct CudaGraph {
    graph: Opaque,
    exec: Opaque,
    nodes: Vec<Opaque>,
}

impl CudaContext {
    fn open(api: &Arc<Api>, number: u32) -> Result<CudaContext> {
        let f = &api.functions;
        let mut device = 0;
        // SAFETY: the number is written to a live variable.
        api.check("cuDeviceGet", unsafe { (f.device_get)(&raw mut device, number as c_int) })?;
        let attribute = |attribute: c_uint| {
            let mut value = 0;
            // SAFETY: the number is written to a live variable; the driver has told the device.
            let code = unsafe { (f.device_attribute)(&raw mut value, attribute, device) };
            api.check("cuDeviceGetAttribute", code).map(|()| u32::try_from(value).unwrap_or(0))
        };
        let mut name = [0 as c_char; 256];
        // SAFETY: the buffer is as long as it says, one byte less, and zero before.
        api.check("cuDeviceGetName", unsafe { (f.device_name)(name.as_mut_ptr(), 255, device) })?;
        // SAFETY: the last byte is zero.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let mut memory = 0;
        // SAFETY: the number is written to a live variable.
        api.check("cuDeviceTotalMem", unsafe { (f.device_memory)(&raw mut memory, device) })?;
        let capability = attribute(ATTRIBUTE_CAPABILITY_MAJOR)? * 10 + attribute(ATTRIBUTE_CAPABILITY_MINOR)?;
        let multiprocessors = attribute(ATTRIBUTE_MULTIPROCESSORS)?;
        let has_pools = attribute(ATTRIBUTE_MEMORY_POOLS)? != 0;
        let mut context = null_mut();
        // SAFETY: the pointer is written to a live variable.
        api.check("cuDevicePrimaryCtxRetain", unsafe { (f.context_retain)(&raw mut context, device) })?;
        let properties = Properties { name, capability, multiprocessors, memory };
        // From here on `drop` gives the context back.
        let (api, stream) = (api.clone(), null_mut());
        let (graphs, staging) = (Mutex::default(), Mutex::default());
        let mut opened = CudaContext { api, device, context, stream, has_pools, properties, graphs, staging };
        let mut stream = null_mut();
        let f = opened.functions()?;
        // SAFETY: the pointer is written to a live variable.
        opened.api.check("cuStreamCreate", unsafe { (f.stream_create)(&raw mut stream, STREAM_NON_BLOCKING) })?;
        opened.stream = stream;
        Ok(opened)
    }

    /// The functions of the driver, for calls that this thread makes of the context.
    fn functions(&self) -> Result<&Functions> {
        let f = &self.api.functions;
        // SAFETY: the context is retained until this is dropped.
        self.api.check("cuCtxSetCurrent", unsafe { (f.context_set)(self.context) })?;
        Ok(f)
    }

    fn graphs(&self) -> MutexGuard<'_, BTreeMap<u64, CudaGraph>> {
        self.graphs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new staging buffer.
    fn staging_buffer(&self, f: &Functions) -> Result<StagingBuffer> {
        let (mut start, mut copied) = (null_mut(), null_mut());
        // SAFETY: the pointer is written to a live variable.
        let code = unsafe { (f.event_create)(&raw mut copied, EVENT_WITHOUT_TIMING) };
        self.api.check("cuEventCreate", code)?;
        // SAFETY: as above.
        let code = unsafe { (f.host_allocate)(&raw mut start, STAGING_BYTES, 0) };
        self.api.check("cuMemHostAlloc", code).inspect_err(|_| {
            // SAFETY: it was created above, and is used by no one. The error that is told is the first.
            let _ = unsafe { (f.event_destroy)(copied) };
        })?;
        Ok(StagingBuffer { start, copied })
    }

    /// The function of a name.
    fn function(&self, module: Opaque, name: &str) -> Result<FunctionHandle> {
        let f = self.functions()?;
        let message = "a name with a zero in it".to_owned();
        let invalid = DriverError { call: "cuModuleGetFunction", message, kind: ErrorKind::Refused };
        let c_name = CString::new(name).map_err(|_| invalid)?;
        let mut function = null_mut();
        // SAFETY: the pointer is written to a live variable; the name ends with a zero.
        let code = unsafe { (f.module_function)(&raw mut function, module, c_name.as_ptr()) };
        self.api.check("cuModuleGetFunction", code)?;
        Ok(FunctionHandle(function.expose_provenance() as u64))
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
                unsafe { (f.graph_add_kernel)(&raw mut new, graph.graph, before, count, params) }
            });
            self.api.check("cuGraphAddKernelNode", code)?;
            graph.nodes.push(new);
        }
        // SAFETY: the pointer is written to a live place.
        let code = unsafe { (f.graph_instantiate)(&raw mut graph.exec, graph.graph, 0) };
        self.api.check("cuGraphInstantiateWithFlags", code)
    }

    fn destroy_graph(&self, f: &Functions, graph: &CudaGraph) -> Result<()> {
        let mut result = Ok(());
        if !graph.exec.is_null() {
            // SAFETY: it is destroyed once. The driver waits for launches that run.
            result = self.api.check("cuGraphExecDestroy", unsafe { (f.exec_destroy)(graph.exec) });
        }
        // SAFETY: it is destroyed once.
        let destroyed = self.api.check("cuGraphDestroy", unsafe { (f.graph_destroy)(graph.graph) });
        result.and(destroyed)
    }
}

/// Calls `call` with a node as the driver takes it.
fn with_params<R>(node: &Node<'_>, call: impl FnOnce(*const KernelNodeParams) -> R) -> R {
    let mut params: Vec<*mut c_void> = node.args.iter().map(|arg| (&raw const *arg).cast_mut().cast()).collect();
    let params = KernelNodeParams {
        function: pointer(node.function.0),
        grid: [node.grid, 1, 1],
        block: [node.block, 1, 1],
        shared_bytes: 0,
        params: params.as_mut_ptr(),
        extra: null_mut(),
    };
    call(&raw const params)
}

/// The pointer that a handle was made of.
fn pointer(handle: u64) -> Opaque {
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
            let code = unsafe { (f.allocate_async)(&raw mut address, bytes, self.stream) };
            self.api.check("cuMemAllocAsync", code)?;
        } else {
            // SAFETY: as above.
            self.api.check("cuMemAlloc", unsafe { (f.allocate)(&raw mut address, bytes) })?;
        }
        Ok(address)
    }

    unsafe fn free(&self, address: u64) -> Result<()> {
        let f = self.functions()?;
        if self.has_pools {
            // SAFETY: the caller's promise.
            return self.api.check("cuMemFreeAsync", unsafe { (f.free_async)(address, self.stream) });
        }
        self.wait()?;
        // SAFETY: the caller's promise; all that was asked for before is done.
        self.api.check("cuMemFree", unsafe { (f.free)(address) })
    }

    unsafe fn write(&self, to: u64, from: &[u8]) -> Result<()> {
        let f = self.functions()?;
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        for (i, part) in from.chunks(STAGING_BYTES).enumerate() {
            if staging.buffers.len() < STAGING_BUFFERS && staging.next == staging.buffers.len() {
                let buffer = self.staging_buffer(f)?;
                staging.buffers.push(buffer);
            }
            let StagingBuffer { start, copied } = staging.buffers[staging.next];
            // SAFETY: the event is this context's. One that was never recorded is complete.
            self.api.check("cuEventSynchronize", unsafe { (f.event_wait)(copied) })?;
            // SAFETY: the buffer has that many bytes. The lock keeps other threads from it, and the last copy is done.
            unsafe { start.cast::<u8>().copy_from_nonoverlapping(part.as_ptr(), part.len()) };
            let to = to + (i * STAGING_BYTES) as u64;
            // SAFETY: the caller's promise; the buffer is not written before the event below.
            let code = unsafe { (f.write)(to, start, part.len(), self.stream) };
            self.api.check("cuMemcpyHtoDAsync", code)?;
            // SAFETY: event and stream are this context's.
            let recorded = self.api.check("cuEventRecord", unsafe { (f.event_record)(copied, self.stream) });
            if recorded.is_err() {
                self.wait()?;
            }
            staging.next = (staging.next + 1) % STAGING_BUFFERS;
        }
        Ok(())
    }

    unsafe fn read(&self, from: u64, to: &mut [u8]) -> Result<()> {
        let f = self.functions()?;
        // SAFETY: the caller's promise; as many bytes are written as there are, before this returns.
        let code = unsafe { (f.read)(to.as_mut_ptr().cast(), from, to.len(), self.stream) };
        let copied = self.api.check("cuMemcpyDtoHAsync", code);
        // After an error too: nothing is written later.
        self.wait().and(copied)
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        let f = self.functions()?;
        // SAFETY: the caller's promise.
        self.api.check("cuMemcpyDtoDAsync", unsafe { (f.copy)(to, from, bytes, self.stream) })
    }

    fn load(&self, text: &str, entries: &[&str]) -> Result<Loaded> {
        const CALL: &str = "cuModuleLoadDataEx";
        let f = self.functions()?;
        let invalid = |message: String| DriverError { call: CALL, message, kind: ErrorKind::Refused };
        let text = CString::new(text).map_err(|_| invalid("a text with a zero in it".into()))?;
        let mut log = vec![0u8; LOG_BYTES];
        let mut options = [JIT_ERROR_LOG, JIT_ERROR_LOG_SIZE];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), std::ptr::without_provenance_mut(LOG_BYTES)];
        let mut module = null_mut();
        // SAFETY: the text ends with a zero; two options with two values, of which the first is a buffer of the size
        // that the second says.
        let code = unsafe {
            (f.module_load)(&raw mut module, text.as_ptr().cast(), 2, options.as_mut_ptr(), values.as_mut_ptr())
        };
        if let Err(mut error) = self.api.check(CALL, code) {
            let log = log.split(|&byte| byte == 0).next().unwrap_or_default();
            let log = String::from_utf8_lossy(log);
            if !log.trim().is_empty() {
                error.message = format!("{}: {}", error.message, log.trim());
            }
            return Err(error);
        }
        let functions = entries.iter().map(|name| self.function(module, name)).collect::<Result<Vec<_>>>();
        let module_handle = ModuleHandle(module.expose_provenance() as u64);
        if functions.is_err() {
            // SAFETY: its functions were given to no one. The error that is told is the first.
            let _ = unsafe { (f.module_unload)(module) };
        }
        Ok(Loaded { module: module_handle, functions: functions? })
    }

    unsafe fn unload(&self, module: ModuleHandle) -> Result<()> {
        // Its code may still run.
        self.wait()?;
        let f = self.functions()?;
        // SAFETY: the caller's promise; nothing runs.
        self.api.check("cuModuleUnload", unsafe { (f.module_unload)(pointer(module.0)) })
    }

    unsafe fn build(&self, nodes: &[Node<'_>]) -> Result<GraphHandle> {
        let f = self.functions()?;
        let mut graph = CudaGraph { graph: null_mut(), exec: null_mut(), nodes: Vec::with_capacity(nodes.len()) };
        // SAFETY: the pointer is written to a live place.
        self.api.check("cuGraphCreate", unsafe { (f.graph_create)(&raw mut graph.graph, 0) })?;
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
        let code = with_params(&node, |params| unsafe { (f.graph_set_kernel)(graph.exec, of, params) });
        self.api.check(CALL, code)
    }

    unsafe fn launch(&self, graph: GraphHandle) -> Result<()> {
        let f = self.functions()?;
        let graphs = self.graphs();
        let graph = graphs.get(&graph.0).ok_or_else(|| no_graph("cuGraphLaunch"))?;
        // SAFETY: the caller's promise; the lock keeps others from changing the graph.
        self.api.check("cuGraphLaunch", unsafe { (f.graph_launch)(graph.exec, self.stream) })
    }

    unsafe fn destroy(&self, graph: GraphHandle) -> Result<()> {
        let f = self.functions()?;
        let graph = self.graphs().remove(&graph.0).ok_or_else(|| no_graph("cuGraphExecDestroy"))?;
        self.destroy_graph(f, &graph)
    }

    fn wait(&self) -> Result<()> {
        let f = self.functions()?;
        // SAFETY: the stream is this context's.
        self.api.check("cuStreamSynchronize", unsafe { (f.stream_wait)(self.stream) })
    }
}

impl Drop for CudaContext {
    fn drop(&mut self) {
        let staging = std::mem::take(self.staging.get_mut().unwrap_or_else(PoisonError::into_inner));
        // Nothing can be done about a failure.
        if let Ok(f) = self.functions()
            && !self.stream.is_null()
        {
            // SAFETY: no one else has the stream.
            let _ = unsafe { (f.stream_wait)(self.stream) };
            for StagingBuffer { start, copied } in staging.buffers {
                // SAFETY: no copy from it runs any more; it is freed once.
                let _ = unsafe { (f.host_free)(start) };
                // SAFETY: it is destroyed once.
                let _ = unsafe { (f.event_destroy)(copied) };
            }
            // SAFETY: as above; it is destroyed once.
            let _ = unsafe { (f.stream_destroy)(self.stream) };
        }
        // SAFETY: it was retained once, and all that was in it has been given back.
        let _ = unsafe { (self.api.functions.context_release)(self.device) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            Err(why) => assert!(why.contains("driver of CUDA"), "{why}"),
            Ok(driver) => assert!(driver.count().is_ok()),
        }
    }
}
