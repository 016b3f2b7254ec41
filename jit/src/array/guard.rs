//! Memory with a guard on both sides, for tests.
//!
//! In a build with debug assertions every buffer lies between two rows of known bytes (canaries), which are looked at
//! when it is freed: code that wrote before or behind it has written there. With the feature `fence` a buffer ends, or
//! every other one begins, at a page that nobody may touch: code that reads or writes beyond it stops with SIGSEGV at
//! that very instruction; and pages of what was freed stay closed for a while. In other builds memory is the allocator's.

use std::alloc::Layout;
#[cfg(not(feature = "fence"))]
use std::alloc::{alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// The alignment of memory that we allocate, a cache line and an AVX-512 register. (A fenced buffer may have less: that
/// of its elements. No code relies on more.)
const ALIGN: usize = 64;

/// How many bytes of canaries there are on each side: none without debug assertions.
const GUARD: usize = if cfg!(all(debug_assertions, not(feature = "fence"))) { ALIGN } else { 0 };

const CANARY: u8 = 0xa7;

/// Memory of zeros.
pub(super) struct Guarded {
    /// Where the bytes start, between the guards.
    pub(super) start: NonNull<u8>,
    len: usize,
    base: NonNull<u8>,
    #[cfg_attr(feature = "fence", expect(dead_code, reason = "pages are not the allocator's"))]
    layout: Layout,
}

impl Guarded {
    /// Memory for `len` bytes; `None` where the system gives none. An error is a size that no memory can have.
    pub(super) fn zeroed(len: usize) -> Result<Option<Guarded>, TooLarge> {
        let size = len.max(1).checked_next_multiple_of(ALIGN).and_then(|size| size.checked_add(2 * GUARD));
        let layout = size.and_then(|size| Layout::from_size_align(size, ALIGN).ok()).ok_or(TooLarge)?;
        #[cfg(feature = "fence")]
        return Ok(fence::map(len).map(|(base, start)| Guarded { start, len, base, layout }));
        #[cfg(not(feature = "fence"))]
        {
            // SAFETY: the layout is not of size zero.
            let Some(base) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { return Ok(None) };
            // SAFETY: the layout has so many bytes before the buffer and behind it.
            let start = unsafe { base.add(GUARD) };
            let guarded = Guarded { start, len, base, layout };
            // SAFETY: the guards lie within the layout.
            guarded.guards().into_iter().for_each(|guard| unsafe { guard.write_bytes(CANARY, GUARD) });
            Ok(Some(guarded))
        }
    }

    /// Where the canaries begin: right before the buffer, right behind it.
    fn guards(&self) -> [*mut u8; 2] {
        // SAFETY: the layout has `GUARD` bytes before the buffer and behind its `len`.
        unsafe { [self.start.as_ptr().sub(GUARD), self.start.as_ptr().add(self.len)] }
    }
}

/// A size that no memory can have.
pub(super) struct TooLarge;

impl Drop for Guarded {
    fn drop(&mut self) {
        if GUARD > 0 {
            for (guard, side) in self.guards().into_iter().zip(["before", "behind"]) {
                // SAFETY: the guard lies within the layout, and was written when it was allocated.
                let canaries = unsafe { std::slice::from_raw_parts(guard, GUARD) };
                if canaries.iter().any(|&byte| byte != CANARY) {
                    eprintln!("memory {side} a buffer of {} bytes was overwritten", self.len);
                    std::process::abort();
                }
            }
        }
        #[cfg(feature = "fence")]
        fence::close(self.base, self.len);
        #[cfg(not(feature = "fence"))]
        // SAFETY: `base` came from the global allocator with this layout.
        unsafe {
            dealloc(self.base.as_ptr(), self.layout);
        }
    }
}

#[cfg(feature = "fence")]
mod fence {
    use std::collections::VecDeque;
    use std::ptr::NonNull;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    const PAGE: usize = 4096;

    /// So many mappings of freed buffers stay closed.
    const CLOSED: usize = 4000;

    fn pages(len: usize) -> usize {
        len.max(1).div_ceil(PAGE) * PAGE
    }

    /// The mapping and where the buffer starts in it.
    pub(super) fn map(len: usize) -> Option<(NonNull<u8>, NonNull<u8>)> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let inside = pages(len);
        // SAFETY: a new mapping of memory, of which the pages between the first and the last are opened.
        let base = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let base = libc::mmap(std::ptr::null_mut(), inside + 2 * PAGE, libc::PROT_NONE, flags, -1, 0);
            if base == libc::MAP_FAILED {
                return None;
            }
            let base = base.cast::<u8>();
            if libc::mprotect(base.add(PAGE).cast(), inside, libc::PROT_READ | libc::PROT_WRITE) != 0 {
                return None;
            }
            NonNull::new(base)?
        };
        // At the end, or every other time at the beginning, of what is open.
        let before = if COUNT.fetch_add(1, Relaxed).is_multiple_of(2) { inside - len } else { 0 };
        // SAFETY: it lies within the mapping.
        Some((base, unsafe { base.add(PAGE + before) }))
    }

    pub(super) fn close(base: NonNull<u8>, len: usize) {
        static ALL: Mutex<VecDeque<(usize, usize)>> = Mutex::new(VecDeque::new());
        let size = pages(len) + 2 * PAGE;
        let Ok(mut all) = ALL.lock() else { return };
        // SAFETY: the mapping is this buffer's, which is gone; its memory is given back, its addresses are not.
        unsafe {
            libc::mprotect(base.as_ptr().cast(), size, libc::PROT_NONE);
            libc::madvise(base.as_ptr().cast(), size, libc::MADV_DONTNEED);
        }
        all.push_back((base.as_ptr() as usize, size));
        if all.len() > CLOSED
            && let Some((base, size)) = all.pop_front()
        {
            // SAFETY: nobody has had a pointer into it for thousands of buffers.
            unsafe { libc::munmap(base as *mut _, size) };
        }
    }
}
