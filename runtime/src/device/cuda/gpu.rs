//! A GPU that is open: its memory, and what the driver holds for it, behind a safe interface.
//!
//! Comes in: a [`Context`] of a driver. Goes out: allocations, copies, modules and graphs that are given back when they
//! are dropped. An error that breaks the context marks the device as lost: every later call says so. What programs do
//! with the memory is in `executable`.
//!
//! Memory that is dropped is kept for later allocations of the same size. The stream makes that safe at once: what is
//! asked for later happens later. Of several free blocks the one of the lowest address is taken, so that a loop gets
//! the same addresses in every trip, and its graphs stay as they are. When memory runs out, free blocks go back to the
//! driver.
//!
//! The memory of a batch is written on the other stream, that of copies. Events order the two: see `rotation` and
//! `transfer`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use fulgurite_jit::array::Device;
use fulgurite_jit::{Error, Result};

use super::cubins::{Cubins, Key};
use super::driver::{
    Context, Driver, DriverError, ErrorKind, EventHandle, FunctionHandle, GraphHandle, Loaded, ModuleHandle, Node,
    Properties, Stream,
};
use super::locked::{Locked, LockedPool};
use super::rotation::Rotation;

/// Allocations are multiples of this many bytes.
const GRANULE: usize = 256;

/// A GPU that is open.
pub(crate) struct Gpu {
    number: u32,
    id: u64,
    context: Box<dyn Context>,
    /// What the driver has compiled for it, in this process and others.
    cubins: Option<Arc<Cubins>>,
    /// The error that broke the context.
    lost: OnceLock<DriverError>,
    free: Mutex<Free>,
    arena: Mutex<Option<Block>>,
    /// Memory that is written on the stream of copies.
    ahead: Mutex<Rotation>,
    locked: LockedPool,
    /// Events that are not in use.
    events: Mutex<Vec<EventHandle>>,
}

/// A range of memory that the driver has given.
#[derive(Clone, Copy)]
struct Block {
    address: u64,
    bytes: usize,
}

/// Blocks that are not in use: addresses by size.
type Free = BTreeMap<usize, BTreeSet<u64>>;

/// Memory of a GPU, which is given back when it is dropped.
pub(crate) struct Allocation {
    gpu: Arc<Gpu>,
    block: Block,
    /// Was it written on the stream of copies?
    is_ahead: bool,
}

/// A moment of a stream: that of all that was asked for there before.
pub(crate) struct Event {
    gpu: Arc<Gpu>,
    handle: EventHandle,
}

/// The memory that a launch works in: one for all programs of a device, since the stream runs one at a time. Held until
/// the launch has been asked for.
pub(crate) struct Arena<'g>(MutexGuard<'g, Option<Block>>);

/// A module that is loaded.
pub(crate) struct LoadedModule {
    gpu: Arc<Gpu>,
    loaded: Loaded,
}

/// A graph that can be launched.
pub(crate) struct Graph {
    gpu: Arc<Gpu>,
    handle: GraphHandle,
    /// The functions of its nodes are of this module.
    _module: Arc<LoadedModule>,
}

impl Gpu {
    /// Opens a device of a driver.
    ///
    /// # Errors
    /// When there is no such device, or the driver fails.
    pub(crate) fn open(driver: &dyn Driver, number: u32, cubins: Option<Arc<Cubins>>) -> Result<Arc<Gpu>> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let device = Device::Cuda(number);
        let failed = |e: DriverError| Error::new(format!("{device}: {e}"));
        let count = driver.count().map_err(failed)?;
        if number >= count {
            let there_are = match count {
                0 => "no CUDA device".to_owned(),
                1 => "one CUDA device, cuda:0".to_owned(),
                _ => format!("{count} CUDA devices, cuda:0 to cuda:{}", count - 1),
            };
            return Err(Error::new(format!("{device}: there is no such device; this machine has {there_are}")));
        }
        let context = driver.open(number).map_err(failed)?;
        let capability = context.properties().capability;
        if capability < 70 {
            let name = &context.properties().name;
            let [major, minor] = [capability / 10, capability % 10];
            return Err(Error::new(format!(
                "{device}: {name} has compute capability {major}.{minor}, and 7.0 is the least that is supported"
            )));
        }
        let id = IDS.fetch_add(1, Relaxed);
        let (lost, free, arena) = (OnceLock::new(), Mutex::default(), Mutex::default());
        let (ahead, locked, events) = (Mutex::default(), LockedPool::default(), Mutex::default());
        Ok(Arc::new(Gpu { number, id, context, cubins, lost, free, arena, ahead, locked, events }))
    }

    /// Which device it is.
    pub(crate) fn device(&self) -> Device {
        Device::Cuda(self.number)
    }

    /// Tells it from every other that was opened in this process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// What is known of the device.
    pub(crate) fn properties(&self) -> &Properties {
        self.context.properties()
    }

    /// Waits until all that was asked for is done.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn wait(&self) -> Result<()> {
        self.call(|context| context.wait())
    }

    /// Memory for `what`, without values.
    ///
    /// # Errors
    /// When the device does not have it, or fails.
    pub(crate) fn allocate(self: &Arc<Self>, bytes: usize, what: impl Fn() -> String) -> Result<Arc<Allocation>> {
        let block = match self.block(bytes) {
            Ok(block) => block,
            Err(error) if error.kind == ErrorKind::OutOfMemory => {
                // The arena, unless a launch is just being asked for in it.
                if let Ok(mut arena) = self.arena.try_lock()
                    && let Some(block) = arena.take()
                {
                    self.keep(block);
                    self.release();
                }
                self.block(bytes).map_err(|e| self.no_memory(bytes, &what(), &e))?
            }
            Err(error) => return Err(self.no_memory(bytes, &what(), &error)),
        };
        Ok(Arc::new(Allocation { gpu: self.clone(), block, is_ahead: false }))
    }

    /// Memory for `what`, to be written on the stream of copies. Says whether copies that are asked for now may do so;
    /// else they have to [follow](Gpu::follow_steps) the steps.
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    pub(crate) fn allocate_ahead(
        self: &Arc<Self>,
        bytes: usize,
        what: impl Fn() -> String,
    ) -> Result<(Arc<Allocation>, bool)> {
        let kept = self.ahead().take(granules(bytes)).map(|address| Block { address, bytes: granules(bytes) });
        let is_ready = kept.is_some();
        let block = kept.map_or_else(|| self.block(bytes).map_err(|e| self.no_memory(bytes, &what(), &e)), Ok)?;
        Ok((Arc::new(Allocation { gpu: self.clone(), block, is_ahead: true }), is_ready))
    }

    /// Copies that are asked for from now on happen after the steps that were asked for.
    ///
    /// # Errors
    /// When the driver fails.
    pub(crate) fn follow_steps(self: &Arc<Self>) -> Result<()> {
        let event = self.event()?;
        let mut ahead = self.ahead();
        // SAFETY: the event is one of this context.
        let followed = unsafe { self.context.record(event.handle, Stream::Steps) }
            // SAFETY: as above.
            .and_then(|()| unsafe { self.context.wait_for(Stream::Copies, event.handle) });
        self.told(followed)?;
        ahead.end_rest();
        Ok(())
    }

    /// Has memory been dropped since copies have last followed the steps?
    pub(crate) fn has_resting(&self) -> bool {
        self.ahead().has_resting()
    }

    fn ahead(&self) -> MutexGuard<'_, Rotation> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event, which was not recorded.
    fn event(self: &Arc<Self>) -> Result<Event> {
        let kept = self.events.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let handle = kept.map_or_else(|| self.call(|context| context.event()), Ok)?;
        Ok(Event { gpu: self.clone(), handle })
    }

    /// The moment of the stream of copies that is now.
    ///
    /// # Errors
    /// When the driver fails.
    pub(crate) fn copies_so_far(self: &Arc<Self>) -> Result<Event> {
        let event = self.event()?;
        // SAFETY: the event is one of this context.
        self.call(|context| unsafe { context.record(event.handle, Stream::Copies) })?;
        Ok(event)
    }

    /// Copies the first bytes of allocations to locked memory, one after the other, in the order of the stream.
    ///
    /// # Errors
    /// When the device does not lock the memory, or fails.
    pub(crate) fn download(&self, parts: &[(&Allocation, usize)]) -> Result<Locked> {
        let total = parts.iter().map(|(_, bytes)| bytes).sum();
        assert!(parts.iter().all(|(from, bytes)| *bytes <= from.block.bytes && std::ptr::eq(&*from.gpu, self)));
        self.call(|context| {
            let locked = self.locked.take(context, total)?;
            let (mut offset, mut asked) = (0, Ok(()));
            for &(from, bytes) in parts.iter().filter(|(_, bytes)| *bytes > 0) {
                // SAFETY: the source is inside of its allocation, as asserted, and the destination inside of the locked
                // memory, which is not read before its event.
                asked =
                    asked.and_then(|()| unsafe { context.download(from.block.address, locked.memory, offset, bytes) });
                offset += bytes;
            }
            // Memory that a copy may write still is lost.
            LockedPool::mark(context, Stream::Steps, locked)?;
            asked.map(|()| locked).inspect_err(|_| self.locked.keep(context, locked))
        })
    }

    /// Is the last copy of locked memory done?
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn is_copied(&self, locked: Locked) -> Result<bool> {
        // SAFETY: the event is one of this context.
        self.call(|context| unsafe { context.is_over(locked.copied) })
    }

    /// Waits until the last copy of locked memory is done.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn join(&self, locked: Locked) -> Result<()> {
        // SAFETY: the event is one of this context.
        self.call(|context| unsafe { context.join(locked.copied) })
    }

    /// Reads locked memory whose last copy is done.
    ///
    /// # Safety
    /// The bytes are inside of what was copied there.
    pub(crate) unsafe fn take_locked(&self, locked: Locked, offset: usize, to: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { self.context.take(locked.memory, offset, to) }
    }

    /// Keeps locked memory for other copies.
    pub(crate) fn keep_locked(&self, locked: Locked) {
        self.locked.keep(&*self.context, locked);
    }

    /// Memory of at least so many bytes for intermediate results, which no other launch uses until it is dropped.
    ///
    /// # Errors
    /// As [`Gpu::allocate`].
    pub(crate) fn arena(&self, bytes: usize) -> Result<Arena<'_>> {
        let mut arena = self.arena.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes > 0 && arena.is_none_or(|block| block.bytes < bytes) {
            if let Some(small) = arena.take() {
                self.keep(small);
            }
            *arena = Some(self.block(bytes).map_err(|e| self.no_memory(bytes, "intermediate results", &e))?);
        }
        Ok(Arena(arena))
    }

    /// A free block, or a new one. If there is none, the free ones of other sizes are given back first.
    fn block(&self, bytes: usize) -> std::result::Result<Block, DriverError> {
        if let Some(error) = self.lost.get() {
            return Err(error.clone());
        }
        let bytes = granules(bytes);
        {
            let mut free = self.free();
            if let Some(addresses) = free.get_mut(&bytes)
                && let Some(address) = addresses.pop_first()
            {
                return Ok(Block { address, bytes });
            }
        }
        let result = match self.context.allocate(bytes) {
            Err(error) if error.kind == ErrorKind::OutOfMemory && self.release() => self.context.allocate(bytes),
            result => result,
        };
        result.map(|address| Block { address, bytes }).inspect_err(|error| self.note(error))
    }

    fn no_memory(&self, bytes: usize, what: &str, error: &DriverError) -> Error {
        match error.kind {
            ErrorKind::OutOfMemory => {
                let total = self.properties().memory;
                let device = self.device();
                Error::new(format!("no memory for {what}, {bytes} bytes on {device}, which has {total}: {error}"))
            }
            ErrorKind::Refused | ErrorKind::Sticky => self.error(error),
        }
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a block that is not in use.
    fn keep(&self, block: Block) {
        self.free().entry(block.bytes).or_default().insert(block.address);
    }

    /// Gives the free blocks back to the driver. Are there any?
    fn release(&self) -> bool {
        let free = std::mem::take(&mut *self.free());
        let ahead: Vec<u64> = self.ahead().take_all().collect();
        if !ahead.is_empty() {
            // Frees are in the order of the steps, copies are not.
            let _ = self.context.wait().inspect_err(|error| self.note(error));
        }
        let mut any = false;
        for address in free.into_values().flatten().chain(ahead) {
            any = true;
            // SAFETY: the address is that of an allocation. A block is free when its last handle has been dropped, so
            // nothing that is asked for later uses it. That a block cannot be given back loses no more than the block.
            let _ = unsafe { self.context.free(address) };
        }
        // Blocks are given back when what was asked for before is done.
        let _ = self.context.wait().inspect_err(|error| self.note(error));
        any
    }

    /// Makes a call of the driver, unless the device is lost. If memory is missing, free blocks are given back first.
    fn call<R>(&self, mut call: impl FnMut(&dyn Context) -> std::result::Result<R, DriverError>) -> Result<R> {
        if let Some(error) = self.lost.get() {
            return Err(self.error(error));
        }
        let result = match call(&*self.context) {
            Err(error) if error.kind == ErrorKind::OutOfMemory && self.release() => call(&*self.context),
            result => result,
        };
        self.told(result)
    }

    /// The result of a call of the driver.
    fn told<R>(&self, result: std::result::Result<R, DriverError>) -> Result<R> {
        result.map_err(|error| {
            self.note(&error);
            self.error(&error)
        })
    }

    /// Remembers an error after which nothing works.
    fn note(&self, error: &DriverError) {
        if error.kind == ErrorKind::Sticky {
            // The first is the cause.
            let _ = self.lost.set(error.clone());
        }
    }

    #[cold]
    fn error(&self, error: &DriverError) -> Error {
        let device = self.device();
        match self.lost.get() {
            Some(cause) => Error::new(format!(
                "{device} is lost, and with it the arrays that were not read: {cause}. Start the process again to use \
                 the device"
            )),
            None => Error::new(format!("{device}: {error}")),
        }
    }

    /// Loads a module from its text: what has been kept of it, or what the driver compiles.
    ///
    /// # Errors
    /// When the driver does not compile it, or fails.
    pub(crate) fn load(self: &Arc<Self>, text: &str, entries: &[&str]) -> Result<Arc<LoadedModule>> {
        // SAFETY: the module comes from this driver, or from a file which has the hash of what a driver has compiled.
        let load = |module: &[u8]| self.call(|context| unsafe { context.load(module, entries) });
        let cubins = self.cubins.as_ref().map(|cubins| (cubins, Key::new(text, self.properties())));
        let kept = cubins.and_then(|(cubins, key)| cubins.find(key));
        let loaded = match kept.map(|module| load(&module)) {
            Some(Ok(loaded)) => loaded,
            // One that the driver does not take is compiled again. If the device is lost, that says so.
            Some(Err(_)) | None => {
                let module = self.call(|context| context.compile(text))?;
                if let Some((cubins, key)) = cubins {
                    cubins.keep(key, &module);
                }
                load(&module)?
            }
        };
        Ok(Arc::new(LoadedModule { gpu: self.clone(), loaded }))
    }

    /// Builds a graph of functions of `module`.
    ///
    /// # Errors
    /// When the driver fails.
    ///
    /// # Safety
    /// The functions may be called with these arguments whenever the graph is launched.
    pub(crate) unsafe fn build(self: &Arc<Self>, module: &Arc<LoadedModule>, nodes: &[Node<'_>]) -> Result<Graph> {
        // SAFETY: the caller's promise about the arguments. The graph keeps the module loaded.
        let handle = self.call(|context| unsafe { context.build(nodes) })?;
        Ok(Graph { gpu: self.clone(), handle, _module: module.clone() })
    }

    /// Launches functions of a module one after another, without a graph, and measures each. Waits.
    ///
    /// # Errors
    /// When the driver fails.
    ///
    /// # Safety
    /// As [`Gpu::build`] and [`Graph::launch`].
    pub(crate) unsafe fn time(&self, _module: &LoadedModule, nodes: &[Node<'_>]) -> Result<Vec<Duration>> {
        // SAFETY: the caller's promise. The module is loaded until this returns, and the launches are done then.
        self.call(|context| unsafe { context.time(nodes) })
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        if let Some(block) = self.arena.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            self.keep(block);
        }
        self.release();
        self.locked.clear(&*self.context);
        for event in std::mem::take(self.events.get_mut().unwrap_or_else(PoisonError::into_inner)) {
            // SAFETY: no one else has the handle. Nothing can be done about a failure.
            let _ = unsafe { self.context.forget(event) };
        }
    }
}

impl Event {
    /// Steps that are asked for from now on happen after it.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn before_steps(&self) -> Result<()> {
        // SAFETY: the event is one of this context.
        let asked = self.gpu.call(|context| unsafe { context.wait_for(Stream::Steps, self.handle) });
        // SAFETY: as above.
        asked.or_else(|_| self.gpu.call(|context| unsafe { context.join(self.handle) }))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.gpu.events.lock().unwrap_or_else(PoisonError::into_inner).push(self.handle);
    }
}

impl Allocation {
    /// The device.
    pub(crate) fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> u64 {
        self.block.address
    }

    /// The size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.block.bytes
    }

    /// Is this the only handle to it? If so, all that others have asked for is before what is asked for next.
    pub(crate) fn is_unique(self: &Arc<Self>) -> bool {
        // There are no weak handles, and a handle is only made of another one.
        let is_unique = Arc::strong_count(self) == 1;
        // Synchronises with the release decrement of `Arc` in the drop of the other handles.
        fence(Acquire);
        is_unique
    }

    /// Copies from the host, in the order of the stream.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn write(&self, from: &[u8]) -> Result<()> {
        self.write_on(Stream::Steps, from)
    }

    /// Copies from the host, in the order of the stream of copies.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn write_ahead(&self, from: &[u8]) -> Result<()> {
        self.write_on(Stream::Copies, from)
    }

    fn write_on(&self, stream: Stream, from: &[u8]) -> Result<()> {
        assert!(from.len() <= self.block.bytes, "the bytes fit the allocation");
        // SAFETY: the destination is inside of this allocation, as asserted.
        self.gpu.call(|context| unsafe { self.gpu.locked.write(context, stream, self.block.address, from) })
    }

    /// Copies to the host. Waits for all that was asked for before.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn read(&self, to: &mut [u8]) -> Result<()> {
        assert!(to.len() <= self.block.bytes, "the bytes are in the allocation");
        // SAFETY: the source is inside of this allocation, as asserted.
        self.gpu.call(|context| unsafe { context.read(self.block.address, to) })
    }

    /// Copies the first bytes of another allocation of the device, in the order of the stream.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn copy_from(&self, other: &Allocation, bytes: usize) -> Result<()> {
        assert!(bytes <= self.block.bytes.min(other.block.bytes) && Arc::ptr_eq(&self.gpu, &other.gpu));
        // SAFETY: both ranges are inside of their allocations, as asserted; two allocations do not overlap.
        self.gpu.call(|context| unsafe { context.copy(other.block.address, self.block.address, bytes) })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let Block { address, bytes } = self.block;
        match self.is_ahead {
            true => self.gpu.ahead().rest(address, bytes),
            false => self.gpu.keep(self.block),
        }
    }
}

/// Bytes of a block for so many.
fn granules(bytes: usize) -> usize {
    bytes.max(1).checked_next_multiple_of(GRANULE).unwrap_or(usize::MAX / GRANULE * GRANULE)
}

impl Arena<'_> {
    /// Where it begins; 0 if it has no bytes.
    pub(crate) fn address(&self) -> u64 {
        self.0.map_or(0, |block| block.address)
    }
}

impl LoadedModule {
    /// Its functions, in the order of the names that were asked for.
    pub(crate) fn functions(&self) -> &[FunctionHandle] {
        &self.loaded.functions
    }

    /// How many blocks of so many threads of a function are resident on the device at once.
    ///
    /// # Errors
    /// When the driver fails.
    pub(crate) fn resident(&self, function: usize, block: u32) -> Result<u32> {
        let function = self.functions()[function];
        // SAFETY: the function is of this module, which is loaded.
        let blocks = self.gpu.call(|context| unsafe { context.resident(function, block) })?;
        Ok(blocks.saturating_mul(self.gpu.properties().multiprocessors))
    }

    fn handle(&self) -> ModuleHandle {
        self.loaded.module
    }
}

impl Drop for LoadedModule {
    fn drop(&mut self) {
        // SAFETY: every graph of its functions holds it, so there is none, and none can be launched. Nothing can be
        // done about a failure.
        let _ = self.gpu.call(|context| unsafe { context.unload(self.handle()) });
    }
}

impl Graph {
    /// Changes the arguments of a node.
    ///
    /// # Errors
    /// When the driver fails.
    ///
    /// # Safety
    /// As [`Gpu::build`]; `node` is node `number` with other arguments.
    pub(crate) unsafe fn update(&mut self, number: usize, node: Node<'_>) -> Result<()> {
        // SAFETY: the caller's promise.
        self.gpu.call(|context| unsafe { context.update(self.handle, number, node) })
    }

    /// Launches it.
    ///
    /// # Errors
    /// When the driver fails.
    ///
    /// # Safety
    /// The memory of its arguments is allocated, and nothing outside of the stream accesses it until the launch is
    /// done: what the launch writes has no other handles.
    pub(crate) unsafe fn launch(&mut self) -> Result<()> {
        // SAFETY: the caller's promise; the graph is one of this context.
        self.gpu.call(|context| unsafe { context.launch(self.handle) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: no one else has the handle. Nothing can be done about a failure.
        let _ = self.gpu.call(|context| unsafe { context.destroy(self.handle) });
    }
}
