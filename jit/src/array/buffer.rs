//! Raw memory of arrays, behind a safe interface: 64-byte aligned memory of our own, or a `Vec` taken over from the
//! user. All the unsafe code of arrays is here. Counts what it allocates, so that a test can show that a step does not.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::any::Any;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::Element;

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

/// The alignment of memory that we allocate, a cache line and an AVX-512 register.
const ALIGN: usize = 64;

/// Bytes of memory with an owner.
pub struct Buffer {
    start: NonNull<u8>,
    len: usize,
    owner: Owner,
}

enum Owner {
    /// Memory from the global allocator with this layout.
    Own(Layout),
    /// A `Vec<T>`, as `Box<dyn Any>`; `start` points into it.
    Vec(Box<dyn Any + Send + Sync>),
}

// SAFETY: a buffer owns plain bytes; shared access is read-only but through `start`, whose users promise exclusivity.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zero bytes, 64-byte aligned.
    pub fn zeroed(len: usize) -> Self {
        let layout =
            Layout::from_size_align(len.max(1).next_multiple_of(ALIGN), ALIGN).expect("a buffer below isize::MAX");
        // SAFETY: the layout is not of size zero.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        Self::count(Buffer { start, len, owner: Owner::Own(layout) })
    }

    /// Takes over a vector's memory.
    pub fn from_vec<T: Element>(mut data: Vec<T>) -> Self {
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

    /// Where the bytes start. Writing through it needs exclusive access to the buffer.
    #[inline]
    pub fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The memory as elements. Bytes of buffers are always valid elements: every way in checks truth values.
    pub fn as_slice<T: Plain>(&self) -> &[T] {
        assert_eq!(self.start.as_ptr() as usize % align_of::<T>(), 0, "a buffer is aligned for its elements");
        // SAFETY: the memory is `len` initialised bytes, aligned as asserted, and any bits are a valid T (`Plain`).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<T>(), self.len / size_of::<T>()) }
    }

    /// The bytes, to be written by the only owner.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `&mut self` is exclusive and the memory is `len` initialised bytes.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// The first `elements` elements as a vector: the taken-over one if there is one, else a copy.
    pub fn into_vec<T: Element>(mut self, elements: usize) -> Vec<T> {
        if let Owner::Vec(owner) = &mut self.owner
            && let Some(data) = owner.downcast_mut::<Vec<T>>()
            && data.len() == elements
        {
            return std::mem::take(data);
        }
        // SAFETY: the memory holds at least `elements` valid elements (checked by the array that owned it).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast::<T>(), elements) }.to_vec()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        LIVE.fetch_sub(self.len, Relaxed);
        if let Owner::Own(layout) = self.owner {
            // SAFETY: `start` came from the global allocator with this layout.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

/// Types whose values buffers may be read as: the elements and bytes. Sealed by this module's privacy.
pub trait Plain: Copy {}
impl Plain for u8 {}
impl<T: Element> Plain for T {}
