//! Locked memory of the host: a device copies from it, and to it, on its own. When it has copied from other memory is
//! not promised.
//!
//! Comes in: bytes. Goes out: copies to the device that were asked for, and memory for copies to the host. It is kept
//! and used again once the event behind its last copy is over; what is larger than all that copies to the device use is
//! freed then. The pool is not locked while the host waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// Locked memory by size, the longest unused first.
type Kept = BTreeMap<usize, VecDeque<Locked>>;

/// Locked memory that is kept.
#[derive(Default)]
pub(super) struct LockedPool(Mutex<Kept>);

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
            self.keep(context, locked);
            asked?;
        }
        Ok(())
    }

    /// Locked memory of at least so many bytes, which no copy uses.
    pub(super) fn take(&self, context: &dyn Context, bytes: usize) -> Result<Locked> {
        let bytes = match bytes > PART {
            true => bytes.next_multiple_of(PART),
            false => bytes.next_power_of_two().max(LEAST),
        };
        let (first, is_full) = {
            let mut pool = self.pool();
            let kept = pool.entry(bytes).or_default();
            let is_full = kept.len() * bytes >= IN_USE;
            (kept.pop_front(), is_full)
        };
        if let Some(first) = first {
            let is_free = match is_full {
                // SAFETY: its event is one of this context.
                true => unsafe { context.join(first.copied) }.map(|()| true),
                // SAFETY: as above.
                false => unsafe { context.is_over(first.copied) },
            };
            if matches!(is_free, Ok(true)) {
                return Ok(first);
            }
            self.pool().entry(bytes).or_default().push_front(first);
            is_free?;
        }
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

    /// Keeps memory whose event is [recorded](LockedPool::mark) behind its last copy, or frees it.
    pub(super) fn keep(&self, context: &dyn Context, locked: Locked) {
        // SAFETY: its event is one of this context.
        if locked.bytes > IN_USE && matches!(unsafe { context.is_over(locked.copied) }, Ok(true)) {
            // SAFETY: its last copy is done, and the caller has the only handle.
            return unsafe { free(context, locked) };
        }
        self.pool().entry(locked.bytes).or_default().push_back(locked);
    }

    /// Frees what is kept. No copy uses it any more.
    pub(super) fn clear(&mut self, context: &dyn Context) {
        let pool = std::mem::take(self.0.get_mut().unwrap_or_else(PoisonError::into_inner));
        for locked in pool.into_values().flatten() {
            // SAFETY: the pool had the only handle.
            unsafe { free(context, locked) };
        }
    }

    fn pool(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frees locked memory.
///
/// # Safety
/// It is memory of this context, which no copy uses any more, and is not used after this.
unsafe fn free(context: &dyn Context, Locked { memory, copied, .. }: Locked) {
    // SAFETY: the caller's promise. Nothing can be done about a failure.
    let _ = unsafe { context.unlock(memory) };
    // SAFETY: as above.
    let _ = unsafe { context.forget(copied) };
}
