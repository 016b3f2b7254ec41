//! Locked memory of the host: a device copies from it, and to it, on its own. When it has copied from other memory is
//! not promised.
//!
//! Comes in: bytes. Goes out: copies to the device that were asked for, and memory for copies to the host. It is kept
//! and used again once the event behind its last copy is over.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::driver::{Context, EventHandle, HostHandle, Result, Stream};

/// A longer copy to the device is cut into parts of so many bytes.
const PART: usize = 1 << 20;

/// The least memory that is locked at a time.
const LEAST: usize = 4096;

/// Bytes of one size that may be in use by copies to the device: the next one waits for the first of them.
const IN_USE: usize = 4 << 20;

/// Locked memory.
#[derive(Clone, Copy)]
pub(crate) struct Locked {
    pub(super) memory: HostHandle,
    bytes: usize,
    /// Recorded behind the last copy.
    pub(super) copied: EventHandle,
}

/// Locked memory that is kept, by size, the longest unused first.
#[derive(Default)]
pub(super) struct LockedPool(Mutex<BTreeMap<usize, VecDeque<Locked>>>);

impl LockedPool {
    /// Copies from the host on a stream. The bytes may change as soon as this returns.
    ///
    /// # Safety
    /// The destination is inside of an allocation of the context, which is that of every call.
    pub(super) unsafe fn write(&self, context: &dyn Context, stream: Stream, to: u64, from: &[u8]) -> Result<()> {
        for (i, part) in from.chunks(PART).enumerate() {
            let locked = self.take(context, part.len())?;
            // SAFETY: the memory is as large as the part, and its last copy is done.
            unsafe { context.fill(locked.memory, part) };
            // SAFETY: the caller's promise; the memory is not used again before the event that is recorded below.
            let asked = unsafe { context.upload(stream, to + (i * PART) as u64, locked.memory, part.len()) };
            // Memory that a copy may use still is lost.
            LockedPool::mark(context, stream, locked)?;
            self.keep(locked);
            asked?;
        }
        Ok(())
    }

    /// Locked memory of at least so many bytes, which no copy uses.
    pub(super) fn take(&self, context: &dyn Context, bytes: usize) -> Result<Locked> {
        let bytes = bytes.next_power_of_two().max(LEAST);
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = pool.entry(bytes).or_default();
        if let Some(&first) = kept.front() {
            let is_full = kept.len() * bytes >= IN_USE;
            if is_full {
                // SAFETY: its event is one of this context.
                unsafe { context.join(first.copied)? };
            }
            // SAFETY: as above.
            if is_full || unsafe { context.is_over(first.copied)? } {
                kept.pop_front();
                return Ok(first);
            }
        }
        drop(pool);
        let copied = context.event()?;
        let memory = context.lock(bytes).inspect_err(|_| {
            // SAFETY: it was made above. The error that is told is the first.
            let _ = unsafe { context.forget(copied) };
        })?;
        Ok(Locked { memory, bytes, copied })
    }

    /// Records the event of the memory behind what was asked for on the stream, or else waits for that.
    pub(super) fn mark(context: &dyn Context, stream: Stream, locked: Locked) -> Result<()> {
        // SAFETY: the event is one of this context.
        unsafe { context.record(locked.copied, stream) }.or_else(|_| context.wait())
    }

    /// Keeps memory whose event is [recorded](LockedPool::mark) behind its last copy.
    pub(super) fn keep(&self, locked: Locked) {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pool.entry(locked.bytes).or_default().push_back(locked);
    }

    /// Frees what is kept. No copy uses it any more.
    pub(super) fn clear(&mut self, context: &dyn Context) {
        let pool = std::mem::take(self.0.get_mut().unwrap_or_else(PoisonError::into_inner));
        for Locked { memory, copied, .. } in pool.into_values().flatten() {
            // SAFETY: the pool had the only handle. Nothing can be done about a failure.
            let _ = unsafe { context.unlock(memory) };
            // SAFETY: as above.
            let _ = unsafe { context.forget(copied) };
        }
    }
}
