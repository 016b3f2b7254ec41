//! Memory with canaries on both sides.
//!
//! With debug assertions every buffer lies between two canaries, which are checked when it is freed: a write before or
//! after the buffer has changed them. Without them memory comes straight from the allocator. With the feature `fence`,
//! `fence.rs` replaces this file.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// The alignment of allocations: a cache line, and an AVX-512 register.
const ALIGN: usize = 64;

/// The size of the canary on each side, in bytes.
const GUARD: usize = if cfg!(debug_assertions) { ALIGN } else { 0 };

const CANARY: u8 = 0xa7;

/// Zeroed memory.
pub(super) struct Guarded {
    /// The start address, between the canaries.
    pub(super) start: NonNull<u8>,
    len: usize,
}

impl Guarded {
    /// Allocates `len` bytes; `None` if the allocator fails to.
    pub(super) fn zeroed(len: usize) -> Option<Guarded> {
        let layout = Self::layout(len)?;
        // SAFETY: the layout is not of size zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        // SAFETY: the layout has `GUARD` bytes before the buffer and after it.
        let start = unsafe { base.add(GUARD) };
        let guarded = Guarded { start, len };
        // SAFETY: the canaries lie within the layout.
        guarded.guards().into_iter().for_each(|guard| unsafe { guard.write_bytes(CANARY, GUARD) });
        Some(guarded)
    }

    /// The layout of the allocation for `len` bytes.
    fn layout(len: usize) -> Option<Layout> {
        let size = len.max(1).checked_next_multiple_of(ALIGN)?.checked_add(2 * GUARD)?;
        Layout::from_size_align(size, ALIGN).ok()
    }

    /// The addresses of the canaries: directly before and after the buffer.
    fn guards(&self) -> [*mut u8; 2] {
        // SAFETY: the layout has `GUARD` bytes before the buffer and after its `len` bytes.
        unsafe { [self.start.as_ptr().sub(GUARD), self.start.as_ptr().add(self.len)] }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        for (guard, side) in self.guards().into_iter().zip(["before", "behind"]) {
            // SAFETY: the canary lies within the layout and was initialised at allocation.
            let canaries = unsafe { std::slice::from_raw_parts(guard, GUARD) };
            if canaries.iter().any(|&byte| byte != CANARY) {
                eprintln!("memory {side} a buffer of {} bytes was overwritten", self.len);
                std::process::abort();
            }
        }
        let layout = Self::layout(self.len).expect("it was allocated by it");
        // SAFETY: the memory came from the global allocator with this layout, `GUARD` bytes before the buffer.
        unsafe { dealloc(self.start.as_ptr().sub(GUARD), layout) }
    }
}

#[cfg(all(test, unix, debug_assertions))]
mod tests {
    use crate::array::touch::{made, signal, which};

    const SIGABRT: i32 = 6;

    #[test]
    fn a_write_beside_a_buffer_ends_the_process_when_it_is_dropped() {
        if let Some(offset) = which() {
            let at = made(100);
            // SAFETY: bytes of the buffer and its canaries.
            unsafe { *at.start().offset(offset.parse().expect("an offset")) = 1 }
            return;
        }
        for (offset, ends) in [("-1", Some(SIGABRT)), ("0", None), ("99", None), ("100", Some(SIGABRT))] {
            let test = "guard::tests::a_write_beside_a_buffer_ends_the_process_when_it_is_dropped";
            assert_eq!(signal(test, offset), ends, "byte {offset} of 100");
        }
    }
}
