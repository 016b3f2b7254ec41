//! Raw memory of arrays, behind a safe interface: 64-byte aligned memory of our own, or a `Vec` taken over from the
//! user. All the unsafe code of arrays is here. Counts what it allocates, so that a test can show that a step does not.

use std::any::Any;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Acquire, Ordering::Relaxed, fence};

use super::Element;
use super::guard::Guarded;
use super::room::refused;
use crate::error::{Error, Result};
use crate::types::TensorType;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);

/// How many buffers this process has made so far (allocated, or taken over).
pub fn allocations() -> usize {
    ALLOCATIONS.load(Relaxed)
}

/// How many bytes of buffers are alive.
pub fn live_bytes() -> usize {
    LIVE.load(Relaxed)
}

/// Bytes of memory with an owner.
pub struct Buffer {
    start: NonNull<u8>,
    len: usize,
    owner: Owner,
}

enum Owner {
    /// Memory that was allocated for it, which is freed with it.
    Own { _memory: Guarded },
    /// A `Vec<T>`, as `Box<dyn Any>`; `start` points into it.
    Vec(Box<dyn Any + Send + Sync>),
}

// SAFETY: a buffer owns plain bytes, and a vector of elements, which are `Send` and `Sync`; shared access is read-only
// but through `start`, whose users promise exclusivity.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zero bytes for `what`, 64-byte aligned (but for those of tests with the feature `fence`).
    ///
    /// # Errors
    /// When there is no such memory, without the process being ended for it: see [`has_room`].
    pub fn zeroed(len: usize, what: impl Fn() -> String) -> Result<Self> {
        has_room(len, &what)?;
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

    fn count(buffer: Buffer) -> Buffer {
        ALLOCATIONS.fetch_add(1, Relaxed);
        LIVE.fetch_add(buffer.len, Relaxed);
        buffer
    }

    /// The number of bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Has it no bytes?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Is it as large as an array of `ty`, and aligned for its elements?
    pub(super) fn fits(&self, ty: &TensorType) -> bool {
        let is_aligned = self.start.as_ptr().addr().is_multiple_of(ty.dtype.size());
        is_aligned && ty.check_size().is_ok() && self.len >= ty.bytes()
    }

    /// Where the bytes start. Writing through it needs exclusive access to the buffer.
    #[inline]
    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The first `elements` elements.
    ///
    /// # Safety
    /// Where `T` is `bool`, so many bytes are 0 or 1.
    pub(super) unsafe fn as_slice<T: Plain>(&self, elements: usize) -> &[T] {
        assert_eq!(self.start.as_ptr() as usize % align_of::<T>(), 0, "a buffer is aligned for its elements");
        assert!(elements <= self.len / size_of::<T>(), "a buffer is as large as its elements");
        // SAFETY: the memory is so many initialised bytes, aligned as asserted, and holds valid elements: any bits are a
        // number (`Plain`), and the caller answers for truth values. Nobody writes to it while it is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<T>(), elements) }
    }

    /// The bytes, to be written by the only owner.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `&mut self` is exclusive and the memory is `len` initialised bytes.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// The first `elements` elements as a vector: the taken-over one if there is one, else a copy.
    ///
    /// # Errors
    /// When there is no memory for the copy.
    ///
    /// # Safety
    /// Where `T` is `bool`, every byte is 0 or 1.
    pub(super) unsafe fn into_vec<T: Element>(mut self, elements: usize, what: impl Fn() -> String) -> Result<Vec<T>> {
        if let Owner::Vec(owner) = &mut self.owner
            && let Some(data) = owner.downcast_mut::<Vec<T>>()
            && data.len() == elements
        {
            return Ok(std::mem::take(data));
        }
        // SAFETY: the caller's promise.
        copied(unsafe { self.as_slice::<T>(elements) }, what)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        LIVE.fetch_sub(self.len, Relaxed);
    }
}

/// A handle to a buffer, of which there may be several. There are no weak ones, and none is made but from another, so
/// that the owner of the only handle can know that nobody sees the buffer or will. It is no [`Arc`] to the outside, which
/// could have weak ones:
///
/// ```compile_fail,E0308
/// let x = fulgurite_jit::Array::scalar(1.0f32);
/// let later = std::sync::Arc::downgrade(x.buffer());
/// ```
///
/// Nor can what is in the buffer be read through it, or while it is a tensor's be written:
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

    /// How many handles there are; others may make more of theirs, or drop them, at any time. If there are no others, all
    /// that was done through them has happened before this returns.
    #[inline]
    pub fn handles(&self) -> usize {
        let count = Arc::strong_count(&self.0);
        // Whoever dropped the other handles did so after his last look at the buffer (a release, in `Arc`).
        fence(Acquire);
        count
    }

    /// Are these handles to one buffer?
    #[inline]
    pub fn is_same(&self, other: &Shared) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The buffer to write to, if this is the only handle.
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

/// Is there memory for `len` more bytes, beside what the buffers alive have? Memory that the system promises and then
/// does not have would end the process when it is written to, so it is not asked for.
///
/// # Errors
/// When there is not, naming `what` it is for, and the bytes.
#[inline]
pub fn has_room(len: usize, what: impl Fn() -> String) -> Result<()> {
    match refused(len, live_bytes()) {
        None => Ok(()),
        Some(why) => Err(no_memory(len, what, &why)),
    }
}

#[cold]
fn no_memory(len: usize, what: impl Fn() -> String, why: &str) -> Error {
    Error::new(format!("no memory for {}, {len} bytes: {why}", what()))
}

/// A copy of elements, for `what`.
///
/// # Errors
/// When there is no memory for it.
pub fn copied<T: Copy>(from: &[T], what: impl Fn() -> String) -> Result<Vec<T>> {
    let len = size_of_val(from);
    has_room(len, &what)?;
    let mut copy = Vec::new();
    match copy.try_reserve_exact(from.len()) {
        Ok(()) => copy.extend_from_slice(from),
        Err(_) => return Err(no_memory(len, what, "the system does not give it")),
    }
    Ok(copy)
}

/// Types whose values buffers may be read as: the elements and bytes.
pub(super) trait Plain: Copy {}
impl Plain for u8 {}
impl<T: Element> Plain for T {}
