//! Raw memory of arrays behind a safe interface: a 64-byte aligned allocation, a `Vec` taken over from the user, or
//! memory of a device. All unsafe code of raw array memory is here. Allocations on the host are counted, for tests that
//! a step does not allocate.

use std::any::Any;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Acquire, Ordering::Relaxed, fence};
use std::sync::{Arc, OnceLock};

use super::Element;
use super::device::{Device, DeviceBuffer};
use super::guard::Guarded;
use super::limit::exceeded;
use crate::error::{Error, Result};
use crate::types::{DType, TensorType};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// The number of buffers created by this process so far, including those taken over.
pub fn allocations() -> usize {
    ALLOCATIONS.load(Relaxed)
}

/// The total size of live buffers in bytes.
pub fn live_bytes() -> usize {
    LIVE.load(Relaxed)
}

/// An owned block of memory.
pub struct Buffer {
    start: NonNull<u8>,
    len: usize,
    owner: Owner,
}

enum Owner {
    /// An allocation of this buffer, freed when it is dropped.
    Own { _memory: Guarded },
    /// A `Vec<T>` as `Box<dyn Any>`. `start` points into it.
    Vec(Box<dyn Any + Send + Sync>),
    /// Memory of a device. On the host the buffer has no bytes; `start` dangles.
    Remote(Box<Remote>),
}

// SAFETY: a buffer owns plain bytes, or a vector of elements, which are `Send` and `Sync`. Shared access is read-only,
// except through `start`, whose callers guarantee exclusive access.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Allocates `len` zero bytes for `what`, 64-byte aligned (except with the test feature `fence`).
    ///
    /// # Errors
    /// If the memory is not available; see [`check_available`].
    pub fn zeroed(len: usize, what: impl Fn() -> String) -> Result<Self> {
        check_available(len, &what)?;
        let memory = Guarded::zeroed(len).ok_or_else(|| no_memory(len, what, "the system does not give it"))?;
        Ok(Self::count(Buffer { start: memory.start, len, owner: Owner::Own { _memory: memory } }))
    }

    /// Takes over a vector's memory.
    pub fn from_vec<T: Element>(mut data: Vec<T>) -> Self {
        if cfg!(feature = "fence")
            && let Ok(mut buffer) = Buffer::zeroed(size_of_val(data.as_slice()), String::new)
        {
            let bytes = data.as_ptr().cast::<u8>();
            // SAFETY: the vector's elements are so many bytes.
            buffer
                .bytes_mut()
                .copy_from_slice(unsafe { std::slice::from_raw_parts(bytes, size_of_val(data.as_slice())) });
            return buffer;
        }
        let start = NonNull::new(data.as_mut_ptr().cast::<u8>()).expect("a vector's pointer is not null");
        let len = size_of_val(data.as_slice());
        Self::count(Buffer { start, len, owner: Owner::Vec(Box::new(data)) })
    }

    /// The memory of a device. Not counted.
    pub(super) fn remote(remote: Remote) -> Self {
        Buffer { start: NonNull::<u64>::dangling().cast(), len: 0, owner: Owner::Remote(Box::new(remote)) }
    }

    /// The memory of a device, if it is on one.
    #[inline]
    pub(super) fn as_remote(&self) -> Option<&Remote> {
        match &self.owner {
            Owner::Remote(remote) => Some(remote),
            Owner::Own { .. } | Owner::Vec(_) => None,
        }
    }

    /// The device whose memory it is.
    #[inline]
    pub fn device(&self) -> Device {
        self.as_remote().map_or(Device::Cpu, |remote| remote.device)
    }

    /// The memory of a device other than the host.
    pub fn device_buffer(&self) -> Option<&dyn DeviceBuffer> {
        self.as_remote().map(|remote| &*remote.buffer)
    }

    fn count(buffer: Buffer) -> Buffer {
        ALLOCATIONS.fetch_add(1, Relaxed);
        LIVE.fetch_add(buffer.len, Relaxed);
        buffer
    }

    /// The size on the host in bytes: 0 for the memory of a device.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the size on the host is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether its size and alignment fit an array of `ty`.
    pub(super) fn fits(&self, ty: &TensorType) -> bool {
        let is_aligned = self.start.as_ptr().addr().is_multiple_of(ty.dtype.size());
        self.as_remote().is_none() && is_aligned && ty.check_size().is_ok() && self.len >= ty.bytes()
    }

    /// The start address on the host; of memory of a device, an address of nothing. Writing through it requires
    /// exclusive access to the buffer.
    #[inline]
    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The first `elements` elements.
    ///
    /// # Safety
    /// If `T` is `bool`, these bytes must be 0 or 1.
    pub(super) unsafe fn as_slice<T: Element>(&self, elements: usize) -> &[T] {
        assert_eq!(self.start.as_ptr() as usize % align_of::<T>(), 0, "a buffer is aligned for its elements");
        assert!(elements <= self.len / size_of::<T>(), "a buffer is as large as its elements");
        // SAFETY: the memory is initialised, large enough and aligned, as asserted. Every bit pattern is a valid number
        // (`Element`), and the caller guarantees valid bools. It is not written while it is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<T>(), elements) }
    }

    /// The bytes, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `&mut self` is exclusive and the memory is `len` initialised bytes.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Converts the first `elements` elements to a vector: the one that was taken over, or else a copy.
    ///
    /// # Errors
    /// If memory for the copy is not available.
    ///
    /// # Safety
    /// If `T` is `bool`, every byte must be 0 or 1.
    pub(super) unsafe fn into_vec<T: Element>(mut self, elements: usize, what: impl Fn() -> String) -> Result<Vec<T>> {
        if let Owner::Vec(owner) = &mut self.owner
            && let Some(data) = owner.downcast_mut::<Vec<T>>()
            && data.len() == elements
        {
            return Ok(std::mem::take(data));
        }
        // SAFETY: guaranteed by the caller.
        copied(unsafe { self.as_slice::<T>(elements) }, what)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        LIVE.fetch_sub(self.len, Relaxed);
    }
}

/// The memory of an array on a device, with its copy on the host.
pub(super) struct Remote {
    /// The type that the array was created with. Other arrays of the same memory have as many elements of its type.
    ty: Arc<TensorType>,
    device: Device,
    buffer: Box<dyn DeviceBuffer>,
    /// What the first read of the array has copied. It stays until the memory is freed.
    host: OnceLock<Shared>,
}

impl Remote {
    /// The memory of an array of `ty` on `device`, which is not the host.
    pub(super) fn new(ty: Arc<TensorType>, device: Device, buffer: Box<dyn DeviceBuffer>) -> Self {
        Remote { ty, device, buffer, host: OnceLock::new() }
    }

    /// The copy on the host.
    pub(super) fn host(&self) -> Result<&Shared> {
        if let Some(host) = self.host.get() {
            return Ok(host);
        }
        let copy = self.copy();
        match (self.host.get(), copy) {
            // Another thread was faster; the bytes are the same.
            (Some(host), _) => Ok(host),
            (None, copy) => {
                let copy = copy?;
                Ok(self.host.get_or_init(|| Shared::new(copy)))
            }
        }
    }

    fn copy(&self) -> Result<Buffer> {
        let Remote { ty, device, .. } = self;
        let mut copy = Buffer::zeroed(ty.bytes(), || format!("a copy of {ty} from {device}"))?;
        self.buffer.read(copy.bytes_mut()).map_err(|e| e.context(format_args!("reading {ty} from {device}")))?;
        if ty.dtype == DType::Bool {
            normalise_bools(copy.bytes_mut());
        }
        Ok(copy)
    }
}

/// Turns every byte other than 0 into 1.
pub(super) fn normalise_bools(bytes: &mut [u8]) {
    bytes.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
}

/// A reference-counted handle to a buffer. There are no weak handles, and a handle is only created from another one, so
/// the owner of the only handle has exclusive access. The inner [`Arc`], which could create weak handles, is private:
///
/// ```compile_fail,E0308
/// let x = fulgurite_jit::Array::scalar(1.0f32);
/// let later = std::sync::Arc::downgrade(x.buffer());
/// ```
///
/// The bytes of a tensor's buffer are not readable or writable through a handle:
///
/// ```compile_fail,E0624
/// let x = fulgurite_jit::Array::scalar(1.0f32);
/// let bytes: &[u8] = unsafe { x.buffer().as_slice(4) };
/// ```
#[derive(Clone)]
pub struct Shared(Arc<Buffer>);

impl Shared {
    /// The first handle.
    pub fn new(buffer: Buffer) -> Self {
        Shared(Arc::new(buffer))
    }

    /// The number of handles. Another thread can clone or drop its handles at any time. If this is the only handle, all
    /// accesses through former handles happen before this returns.
    #[inline]
    pub fn handles(&self) -> usize {
        let count = Arc::strong_count(&self.0);
        // Synchronises with the release decrement of `Arc` in the drop of the other handles.
        fence(Acquire);
        count
    }

    /// Whether both are handles to the same buffer.
    #[inline]
    pub fn is_same(&self, other: &Shared) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Mutable access to the buffer, if this is the only handle.
    #[inline]
    pub fn get_mut(&mut self) -> Option<&mut Buffer> {
        Arc::get_mut(&mut self.0)
    }

    /// The buffer, if this is the only handle.
    pub(super) fn into_buffer(self) -> std::result::Result<Buffer, Self> {
        Arc::try_unwrap(self.0).map_err(Shared)
    }
}

impl Deref for Shared {
    type Target = Buffer;

    #[inline]
    fn deref(&self) -> &Buffer {
        &self.0
    }
}

/// Checks that `len` more bytes are available in addition to the live buffers. An operating system that overcommits
/// kills the process when it writes to memory that is not available, so the check precedes the allocation.
///
/// # Errors
/// If they are not available. The message names `what` they are for and their number.
#[inline]
pub fn check_available(len: usize, what: impl Fn() -> String) -> Result<()> {
    match exceeded(len, live_bytes()) {
        None => Ok(()),
        Some(why) => Err(no_memory(len, what, &why)),
    }
}

#[cold]
fn no_memory(len: usize, what: impl Fn() -> String, why: &str) -> Error {
    Error::new(format!("no memory for {}, {len} bytes: {why}", what()))
}

/// Copies elements into a vector for `what`.
///
/// # Errors
/// If memory for the copy is not available.
pub fn copied<T: Copy>(from: &[T], what: impl Fn() -> String) -> Result<Vec<T>> {
    let len = size_of_val(from);
    check_available(len, &what)?;
    let mut copy = Vec::new();
    match copy.try_reserve_exact(from.len()) {
        Ok(()) => copy.extend_from_slice(from),
        Err(_) => return Err(no_memory(len, what, "the system does not give it")),
    }
    Ok(copy)
}
