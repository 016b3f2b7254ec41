//! Memory between inaccessible pages (an electric fence), for tests. Replaces `guard.rs` with the feature `fence`.
//!
//! Buffers alternate between ending and beginning at an inaccessible page, so an out-of-bounds access raises SIGSEGV at
//! the faulting instruction. The pages of a freed buffer stay inaccessible for a while. A buffer is aligned for its
//! elements only, which detects code that assumes more.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

const PAGE: usize = 4096;

/// The number of mappings of freed buffers that stay inaccessible.
const CLOSED: usize = 4000;

/// Zeroed memory.
pub(super) struct Guarded {
    /// The start address, between the inaccessible pages.
    pub(super) start: NonNull<u8>,
    mapping: Mapping,
}

impl Guarded {
    /// Allocates `len` bytes; `None` if the operating system fails to.
    pub(super) fn zeroed(len: usize) -> Option<Guarded> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        // No accessible page for 0 bytes.
        let inside = len.checked_next_multiple_of(PAGE)?;
        let mapping = Mapping::closed(inside.checked_add(2 * PAGE)?)?;
        // SAFETY: these pages lie within the mapping.
        let first = unsafe { mapping.base.add(PAGE) };
        // SAFETY: as above; the pages are not in use yet.
        if unsafe { libc::mprotect(first.as_ptr().cast(), inside, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            mapping.unmap();
            return None;
        }
        // Alternately at the end and at the beginning of the accessible pages.
        let before = if COUNT.fetch_add(1, Relaxed).is_multiple_of(2) { inside - len } else { 0 };
        // SAFETY: it lies within the accessible pages.
        Some(Guarded { start: unsafe { first.add(before) }, mapping })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        static ALL: Mutex<VecDeque<Mapping>> = Mutex::new(VecDeque::new());
        let Mapping { base, size } = self.mapping;
        // SAFETY: the pages belong to this buffer, which is dropped. Their memory is released, their addresses stay
        // reserved.
        unsafe {
            libc::mprotect(base.as_ptr().cast(), size, libc::PROT_NONE);
            libc::madvise(base.as_ptr().cast(), size, libc::MADV_DONTNEED);
        }
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back(Mapping { base, size });
        if all.len() > CLOSED
            && let Some(mapping) = all.pop_front()
        {
            mapping.unmap();
        }
    }
}

/// Pages of this process.
struct Mapping {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: a mapping belongs to the process, and only its owner unmaps it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `size` bytes of inaccessible pages.
    fn closed(size: usize) -> Option<Mapping> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping at an address that the operating system chooses.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED { None } else { Some(Mapping { base: NonNull::new(base.cast())?, size }) }
    }

    fn unmap(self) {
        // SAFETY: no pointer into it exists: the buffer was never handed out, or dropped long ago.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::PAGE;
    use crate::array::touch::{made, signal, which};

    const SIGSEGV: i32 = 11;

    #[test]
    fn a_read_beyond_a_buffer_or_of_a_dropped_one_ends_the_process() {
        if let Some(which) = which() {
            // This process runs no other tests: of two buffers one ends at a page, the other begins at one.
            let (one, other) = (made(100), made(100));
            let at_end = (one.start() as usize + 100).is_multiple_of(PAGE);
            let (ends, begins) = if at_end { (one, other) } else { (other, one) };
            let at = match which.as_str() {
                "behind" => ends.start().wrapping_add(100),
                "before" => begins.start().wrapping_sub(1),
                "empty" => made(0).start(),
                "dropped" => {
                    let start = ends.start();
                    drop(ends);
                    start
                }
                _ => begins.start(),
            };
            // SAFETY: intentionally unsound, except for the buffer's own byte: the process must be killed here.
            unsafe { at.read_volatile() };
            return;
        }
        let test = "guard::tests::a_read_beyond_a_buffer_or_of_a_dropped_one_ends_the_process";
        let closed = ["behind", "before", "empty", "dropped"].map(|which| (which, Some(SIGSEGV)));
        for (which, ends) in closed.into_iter().chain([("own", None)]) {
            assert_eq!(signal(test, which), ends, "{which}");
        }
    }
}
