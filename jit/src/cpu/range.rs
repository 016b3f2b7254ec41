//! The memory of a program's code: one address range. Functions call each other with 32-bit displacements, so all of them
//! must lie within 2 GiB. Functions that are mapped one by one may lie further apart.
//!
//! Comes in: compiled functions, collected until all are known. Goes out: one reservation of their total size, with the
//! functions defined in it. There is no data section: constants lie within their functions.

use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use cranelift_jit::{ArenaMemoryProvider, BranchProtection, JITMemoryKind, JITMemoryProvider, JITModule};
use cranelift_module::{FuncId, Module, ModuleError, ModuleReloc, ModuleResult};

use crate::error::{Error, Result};

/// The minimum alignment of a function.
const ALIGN: usize = 64;

/// The maximum alignment of a function: the range begins at a page boundary, and no system has smaller pages.
const PAGE: usize = 4096;

/// Bytes of a veneer: at the end of a function, for each call whose displacement an instruction cannot encode. ARM64
/// only.
const VENEER: usize = 24;

/// Functions that are compiled but not yet defined in the module.
#[derive(Default)]
pub(super) struct Pending {
    functions: Vec<Function>,
    /// Upper bound of their size in bytes, shared with the range.
    bytes: Arc<AtomicUsize>,
}

struct Function {
    id: FuncId,
    alignment: u64,
    code: Vec<u8>,
    relocs: Vec<ModuleReloc>,
}

impl Pending {
    /// The memory provider of these functions.
    pub(super) fn range(&self) -> Box<Range> {
        Box::new(Range { bytes: self.bytes.clone(), arena: None, start: AtomicPtr::default(), used: 0 })
    }

    /// Adds a function.
    pub(super) fn push(&mut self, id: FuncId, alignment: u64, code: Vec<u8>, relocs: Vec<ModuleReloc>) {
        // Its offset is not known yet; this is an upper bound of the padding before it.
        let padding = usize::try_from(alignment).map_or(ALIGN, |alignment| alignment.max(ALIGN));
        self.bytes.fetch_add(padding + code.len() + relocs.len() * VENEER, Relaxed);
        self.functions.push(Function { id, alignment, code, relocs });
    }

    /// Defines all functions in `module`, whose memory provider is [`Pending::range`].
    ///
    /// # Errors
    /// If the system has no memory for them. Any other error is a compiler bug.
    pub(super) fn define(self, module: &mut JITModule) -> Result<()> {
        let bytes = self.bytes.load(Relaxed);
        let fault = |error: ModuleError| match error {
            ModuleError::Allocation { err } => {
                Error::new(format!("no memory for the code of a program, {bytes} bytes: {err}"))
            }
            other => Error::compiler("link", other),
        };
        for Function { id, alignment, code, relocs } in self.functions {
            module.define_function_bytes(id, alignment, &code, &relocs).map_err(fault)?;
        }
        module.finalize_definitions().map_err(fault)
    }
}

/// An address range, reserved when the first function is allocated.
pub(super) struct Range {
    /// The size to reserve.
    bytes: Arc<AtomicUsize>,
    arena: Option<ArenaMemoryProvider>,
    start: AtomicPtr<u8>,
    used: usize,
}

impl JITMemoryProvider for Range {
    fn allocate(&mut self, size: usize, align: u64, kind: JITMemoryKind) -> io::Result<*mut u8> {
        let align = usize::try_from(align).map_or(usize::MAX, |align| align.max(1));
        let most = self.bytes.load(Relaxed);
        if !matches!(kind, JITMemoryKind::Executable) || align > PAGE {
            return Err(io::Error::other("only code is emitted, aligned to a page at most"));
        }
        if self.arena.is_none() {
            let mut arena = ArenaMemoryProvider::new_with_size(most).map_err(io::Error::other)?;
            // One allocation for all functions: the arena sets the protection per allocation.
            *self.start.get_mut() = arena.allocate(most, ALIGN as u64, JITMemoryKind::Executable)?;
            self.arena = Some(arena);
        }
        let at = self.used.next_multiple_of(align);
        match at.checked_add(size).filter(|&end| end <= most) {
            Some(end) => {
                self.used = end;
                Ok(self.start.get_mut().wrapping_add(at))
            }
            None => Err(io::Error::other("the code is larger than the reserved range")),
        }
    }

    unsafe fn free_memory(&mut self) {
        if let Some(mut arena) = self.arena.take() {
            // SAFETY: the caller guarantees that no code of the range is used again.
            unsafe { arena.free_memory() }
        }
        *self.start.get_mut() = ptr::null_mut();
    }

    fn finalize(&mut self, branch_protection: BranchProtection) -> ModuleResult<()> {
        match &mut self.arena {
            Some(arena) => JITMemoryProvider::finalize(arena, branch_protection),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Larger than an allocator's cache, so that each piece is a separate mapping.
    const PIECE: usize = 64 << 20;

    /// Reserves addresses. The memory is never touched, so it is not committed. A system without overcommit may refuse;
    /// then nothing is reserved.
    fn reserve(bytes: usize, all: &mut Vec<Vec<u8>>) -> usize {
        let mut piece = Vec::new();
        let _ = piece.try_reserve_exact(bytes);
        // Keeps the compiler from removing the unused allocation.
        all.push(std::hint::black_box(piece));
        all.last().map_or(0, |piece| piece.as_ptr().addr())
    }

    /// The addresses of a provider's allocations, with a mapping of 3 GiB before each.
    fn with_mappings_between(provider: &mut dyn JITMemoryProvider) -> io::Result<Vec<usize>> {
        let mut between = Vec::new();
        let large = reserve(3 << 30, &mut between);
        // Fills the gaps above it, so that the next mappings lie below.
        while between.len() < 4096 && reserve(PIECE, &mut between) > large {}
        (0..4)
            .map(|_| {
                reserve(3 << 30, &mut between);
                provider.allocate(PIECE, 64, JITMemoryKind::Executable).map(<*mut u8>::addr)
            })
            .collect()
    }

    #[test]
    fn code_stays_within_reach_between_large_mappings() -> io::Result<()> {
        let distance =
            |addresses: &[usize]| addresses.iter().max().zip(addresses.iter().min()).map_or(0, |(x, y)| x - y);
        let pending = Pending::default();
        pending.bytes.store(4 * PIECE, Relaxed);
        let mut range = pending.range();
        let addresses = with_mappings_between(&mut *range)?;
        assert_eq!(distance(&addresses), 3 * PIECE);
        // SAFETY: the range holds no code.
        unsafe { range.free_memory() };
        // For comparison: the system places separate mappings, usually further apart than a call reaches.
        let mut system = cranelift_jit::SystemMemoryProvider::new();
        let addresses = with_mappings_between(&mut system)?;
        println!("mapped one by one, functions lie {} MiB apart", distance(&addresses) >> 20);
        // SAFETY: as above.
        unsafe { system.free_memory() };
        Ok(())
    }

    #[test]
    fn functions_lie_in_one_range_of_the_pending_size() -> io::Result<()> {
        let pending = Pending::default();
        pending.bytes.store(3 * 5000, Relaxed);
        let mut range = pending.range();
        let mut addresses = Vec::new();
        for (size, align) in [(1, 1), (4096, 64), (0, 1), (5000, 16), (100, 128)] {
            let address = range.allocate(size, align, JITMemoryKind::Executable)?.addr();
            assert_eq!(address % align as usize, 0);
            assert!(addresses.last().is_none_or(|&(begin, size)| begin + size <= address), "{addresses:?}, {address}");
            addresses.push((address, size));
        }
        let first = addresses[0].0;
        assert!(addresses.iter().all(|(begin, size)| begin + size <= first + 3 * 5000));
        assert!(range.allocate(3 * 5000, 1, JITMemoryKind::Executable).is_err());
        assert!(range.allocate(1, 1, JITMemoryKind::Writable).is_err());
        assert!(range.allocate(1, 1 << 20, JITMemoryKind::Executable).is_err());
        // SAFETY: the range holds no code.
        unsafe { range.free_memory() };
        Ok(())
    }
}
