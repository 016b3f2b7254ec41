//! The memory of a device: allocations with addresses, which of their bytes were written, and who accessed them.

use super::race::{Conflict, Mode, Now, Shadow};
use crate::{Error, Result};

/// Where the first allocation lies.
const FIRST: u64 = 0x7f00_0000_0000;
/// What addresses of allocations are multiples of.
const ALIGN: u64 = 256;
/// The least number of addresses between two allocations.
const GAP: u64 = 4096;

/// What is known of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It was never written.
    Unwritten,
    /// It has a value.
    Written,
    /// A `cp.async` is going to write it.
    Pending,
}

/// A contiguous range of memory.
#[derive(Clone, Debug)]
pub(super) struct Region {
    base: u64,
    bytes: Vec<u8>,
    /// Of each byte.
    states: Vec<State>,
    /// All bytes are written; `states` need not be looked at.
    complete: bool,
    shadow: Shadow,
}

/// Why an access of a region fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mistake {
    /// It reads a byte that has no value: this one from the start of the access on.
    Unwritten(usize),
    /// A `cp.async` has not finished writing a byte: this one from the start of the access on.
    Pending(usize),
    /// A race.
    Race(Conflict),
}

/// Bytes of an access from the start of a region on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// The first.
    pub(super) at: usize,
    /// How many.
    pub(super) len: usize,
}

impl Region {
    /// `len` bytes at an address, none of them written.
    pub(super) fn new(base: u64, len: usize) -> Region {
        let states = vec![State::Unwritten; len];
        Region { base, bytes: vec![0; len], states, complete: len == 0, shadow: Shadow::default() }
    }

    /// Forgets what was written.
    pub(super) fn reset(&mut self) {
        self.states.fill(State::Unwritten);
        self.complete = self.states.is_empty();
    }

    /// The bytes of an access, if all lie in here.
    pub(super) fn span(&self, address: u64, len: usize) -> Option<Span> {
        let at = usize::try_from(address.checked_sub(self.base)?).ok()?;
        (at.checked_add(len)? <= self.bytes.len()).then_some(Span { at, len })
    }

    /// An access by `lanes`; races are looked for if `now` is given.
    pub(super) fn access(
        &mut self,
        span: Span,
        now: Option<&Now<'_>>,
        lanes: u32,
        mode: Mode,
    ) -> std::result::Result<(), Mistake> {
        let reads = matches!(mode, Mode::Read(_) | Mode::ReadOnly | Mode::Atomic);
        if !self.complete {
            for (i, state) in self.states[span.at..span.at + span.len].iter().enumerate() {
                match state {
                    State::Pending => return Err(Mistake::Pending(i)),
                    State::Unwritten if reads => return Err(Mistake::Unwritten(i)),
                    State::Unwritten | State::Written => {}
                }
            }
        }
        match now {
            None => Ok(()),
            Some(now) => {
                let range = (span.at, span.len, self.bytes.len());
                self.shadow.access(range, now, lanes, mode).map_err(Mistake::Race)
            }
        }
    }

    /// The value of at most 8 bytes.
    pub(super) fn value(&self, at: usize, len: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&self.bytes[at..at + len]);
        u64::from_le_bytes(bytes)
    }

    /// The bytes of a span.
    pub(super) fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.at..span.at + span.len]
    }

    /// Writes the low `len` bytes of a value.
    pub(super) fn set_value(&mut self, at: usize, len: usize, value: u64) {
        self.set(at, &value.to_le_bytes()[..len]);
    }

    /// Writes bytes.
    pub(super) fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        if !self.complete {
            self.states[at..at + bytes.len()].fill(State::Written);
        }
    }

    /// A `cp.async` is going to write a span.
    pub(super) fn expect_copy(&mut self, span: Span) {
        self.states[span.at..span.at + span.len].fill(State::Pending);
    }

    /// A `cp.async` begins to read a span.
    pub(super) fn begin_copy(&mut self, span: Span) {
        self.shadow.begin_copy(span.at, span.len, self.bytes.len());
    }

    /// A `cp.async` has read a span.
    pub(super) fn end_copy(&mut self, span: Span) {
        self.shadow.end_copy(span.at, span.len, self.bytes.len());
    }
}

/// The memory of a device.
#[derive(Clone, Debug)]
pub struct Memory {
    /// By address.
    regions: Vec<Region>,
    /// Where the next allocation lies.
    next: u64,
    /// The region that was found last.
    last: usize,
    /// The time of the last access.
    pub(super) time: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new()
    }
}

impl Memory {
    /// Memory without allocations.
    pub fn new() -> Self {
        Memory { regions: Vec::new(), next: FIRST, last: 0, time: 0 }
    }

    /// The address of new memory that holds `bytes`. It is a multiple of 256, and no allocation adjoins it.
    pub fn alloc(&mut self, bytes: &[u8]) -> u64 {
        let base = self.alloc_unwritten(bytes.len());
        if let Some(region) = self.regions.last_mut() {
            region.set(0, bytes);
            region.complete = true;
            region.states = Vec::new();
        }
        base
    }

    /// The address of new memory of `len` bytes that have no values: a kernel that reads one before it writes it is
    /// wrong.
    pub fn alloc_unwritten(&mut self, len: usize) -> u64 {
        let base = self.next;
        self.next += (len as u64).next_multiple_of(ALIGN) + GAP;
        self.regions.push(Region::new(base, len));
        base
    }

    /// Frees the allocation that begins at an address; another address is ignored.
    pub fn free(&mut self, address: u64) {
        self.regions.retain(|region| region.base != address);
    }

    /// Copies memory to the host. Bytes that were never written are zeros.
    pub fn read(&self, address: u64, to: &mut [u8]) -> Result<()> {
        for region in &self.regions {
            if let Some(span) = region.span(address, to.len()) {
                to.copy_from_slice(region.bytes(span));
                return Ok(());
            }
        }
        Err(outside("read", address, to.len()))
    }

    /// Copies memory from the host.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        for region in &mut self.regions {
            if let Some(span) = region.span(address, bytes.len()) {
                region.set(span.at, bytes);
                return Ok(());
            }
        }
        Err(outside("write", address, bytes.len()))
    }

    /// Whether all of the bytes are in one allocation and have values.
    pub fn is_written(&self, address: u64, len: usize) -> bool {
        self.regions.iter().any(|region| {
            region.span(address, len).is_some_and(|span| {
                region.complete || region.states[span.at..span.at + len].iter().all(|&s| s == State::Written)
            })
        })
    }

    /// The allocation that holds all of the bytes, and where they lie in it.
    pub(super) fn find(&mut self, address: u64, len: usize) -> Option<(&mut Region, Span)> {
        let inside = |region: &Region| region.span(address, len).is_some();
        if !self.regions.get(self.last).is_some_and(inside) {
            self.last = self.regions.partition_point(|region| region.base <= address).checked_sub(1)?;
        }
        let region = &mut self.regions[self.last];
        let span = region.span(address, len)?;
        Some((region, span))
    }

    /// The time at which a launch begins, later than all accesses.
    pub(super) fn begin_launch(&mut self) -> u32 {
        if self.time > u32::MAX / 2 {
            self.forget_accesses();
        }
        self.time += 1;
        self.time
    }

    /// Forgets who accessed what.
    pub(super) fn forget_accesses(&mut self) {
        self.time = 0;
        self.regions.iter_mut().for_each(|region| region.shadow.clear());
    }
}

fn outside(what: &str, address: u64, len: usize) -> Error {
    Error::new(format!("{what} of {len} bytes at {address:#x}: not inside of one allocation"))
}
