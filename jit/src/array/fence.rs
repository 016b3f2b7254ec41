//! Memory with a closed page on both sides, an electric fence, for tests: in the place of `guard.rs` where the feature
//! `fence` is on.
//!
//! A buffer ends, or every other one begins, at a page that nobody may touch: code that reads or writes beyond it stops
//! with SIGSEGV at that very instruction. Pages of what was freed stay closed for a while. A buffer may be aligned for its
//! elements alone: code that relies on more is found, too.

use std::collections::VecDeque;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

const PAGE: usize = 4096;

/// So many mappings of freed buffers stay closed.
const CLOSED: usize = 4000;

/// Memory of zeros.
pub(super) struct Guarded {
    /// Where the bytes start, between the closed pages.
    pub(super) start: NonNull<u8>,
    mapping: Mapping,
}

impl Guarded {
    /// Memory for `len` bytes; `None` where the system gives none.
    pub(super) fn zeroed(len: usize) -> Option<Guarded> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        // None for no bytes: these may not be touched at all.
        let inside = len.checked_next_multiple_of(PAGE)?;
        let mapping = Mapping::closed(inside.checked_add(2 * PAGE)?)?;
        // SAFETY: these pages lie within the mapping.
        let first = unsafe { mapping.base.add(PAGE) };
        // SAFETY: as above; nobody uses the pages yet.
        if unsafe { libc::mprotect(first.as_ptr().cast(), inside, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            mapping.unmap();
            return None;
        }
        // At the end, or every other time at the beginning, of what is open.
        let before = if COUNT.fetch_add(1, Relaxed).is_multiple_of(2) { inside - len } else { 0 };
        // SAFETY: it lies within what is open.
        Some(Guarded { start: unsafe { first.add(before) }, mapping })
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        static ALL: Mutex<VecDeque<Mapping>> = Mutex::new(VecDeque::new());
        let Mapping { base, size } = self.mapping;
        // SAFETY: the pages are this buffer's, which is gone; their memory is given back, their addresses are not.
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

// SAFETY: a mapping is of the whole process, and only its owner unmaps it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// `size` bytes of pages that nobody may touch.
    fn closed(size: usize) -> Option<Mapping> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, wherever the system wants it.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
        if base == libc::MAP_FAILED { None } else { Some(Mapping { base: NonNull::new(base.cast())?, size }) }
    }

    fn unmap(self) {
        // SAFETY: nobody has a pointer into it: it was never given out, or thousands of buffers ago.
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
            // Other tests are not run in this process: of two buffers one ends at a page, the other begins at one.
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
            // SAFETY: unsound on purpose, but for the buffer's own byte: the process is to end here.
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
