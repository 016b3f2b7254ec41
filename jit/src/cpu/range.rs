//! The memory of a program's code: one range of addresses. Functions call each other at 32-bit distances, so all of them
//! must lie within 2 GiB; mapped one by one, they lie wherever there is a gap, which may be further apart.
//!
//! Finished functions come in, and are kept until all are there; then the range is reserved, as large as they are, and
//! they are put into it. Only code is emitted: constants lie within their functions.

use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use cranelift_jit::{ArenaMemoryProvider, BranchProtection, JITMemoryKind, JITMemoryProvider, JITModule};
use cranelift_module::{FuncId, Module, ModuleError, ModuleReloc, ModuleResult};

use crate::error::{Error, Result};

/// What functions are aligned to at least.
const ALIGN: usize = 64;

/// The most that anything is aligned to: the range begins at a page, which has as much on every system.
const PAGE: usize = 4096;

/// Room at a function's end for calls that go further than an instruction reaches, for each: on ARM64 only.
const VENEER: usize = 24;

/// Functions that wait for their place.
#[derive(Default)]
pub(super) struct Pending {
    functions: Vec<Function>,
    /// Bytes that they take, known to the range as well.
    bytes: Arc<AtomicUsize>,
}

struct Function {
    id: FuncId,
    alignment: u64,
    code: Vec<u8>,
    relocs: Vec<ModuleReloc>,
}

impl Pending {
    /// The memory that these functions will be put into.
    pub(super) fn range(&self) -> Box<Range> {
        Box::new(Range { bytes: self.bytes.clone(), arena: None, start: AtomicPtr::default(), used: 0 })
    }

    /// Another function.
    pub(super) fn push(&mut self, id: FuncId, alignment: u64, code: Vec<u8>, relocs: Vec<ModuleReloc>) {
        // Where it begins is not known yet, but no more than this lies before it.
        let padding = usize::try_from(alignment).map_or(ALIGN, |alignment| alignment.max(ALIGN));
        self.bytes.fetch_add(padding + code.len() + relocs.len() * VENEER, Relaxed);
        self.functions.push(Function { id, alignment, code, relocs });
    }

    /// Puts all of them into the range, which is `module`'s memory.
    ///
    /// # Errors
    /// When the system does not give it; otherwise only by a fault of the compiler.
    pub(super) fn define(self, module: &mut JITModule) -> Result<()> {
        let bytes = self.bytes.load(Relaxed);
        let fault = |error: ModuleError| match error {
            ModuleError::Allocation { err } => {
                Error::new(format!("no memory for the code of a program, {bytes} bytes: {err}"))
            }
            other => Error::compiler("emit", other),
        };
        for Function { id, alignment, code, relocs } in self.functions {
            module.define_function_bytes(id, alignment, &code, &relocs).map_err(fault)?;
        }
        module.finalize_definitions().map_err(fault)
    }
}

/// A range of addresses, reserved when the first function is put into it.
pub(super) struct Range {
    /// How large it must be.
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
            // All of it at once: the arena would protect each piece by itself.
            *self.start.get_mut() = arena.allocate(most, ALIGN as u64, JITMemoryKind::Executable)?;
            self.arena = Some(arena);
        }
        let at = self.used.next_multiple_of(align);
        match at.checked_add(size).filter(|&end| end <= most) {
            Some(end) => {
                self.used = end;
                Ok(self.start.get_mut().wrapping_add(at))
            }
            None => Err(io::Error::other("more code than there was said to be")),
        }
    }

    unsafe fn free_memory(&mut self) {
        if let Some(mut arena) = self.arena.take() {
            // SAFETY: the caller's promise, that nothing of it is used again.
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

    /// More than an allocator keeps in stock: each is a mapping of its own.
    const PIECE: usize = 64 << 20;

    /// Memory that nobody touches, so that it is none: only addresses. A system that promises no more than it has may
    /// refuse; then there is nothing between.
    fn reserve(bytes: usize, all: &mut Vec<Vec<u8>>) -> usize {
        let mut piece = Vec::new();
        let _ = piece.try_reserve_exact(bytes);
        // Or the compiler sees that nobody uses it.
        all.push(std::hint::black_box(piece));
        all.last().map_or(0, |piece| piece.as_ptr().addr())
    }

    /// Where a provider's pieces of code lie, if there are mappings of 3 GiB before each.
    fn with_mappings_between(provider: &mut dyn JITMemoryProvider) -> io::Result<Vec<usize>> {
        let mut between = Vec::new();
        let large = reserve(3 << 30, &mut between);
        // The gaps above it are filled, so that what comes next lies below.
        while between.len() < 4096 && reserve(PIECE, &mut between) > large {}
        (0..4)
            .map(|_| {
                reserve(3 << 30, &mut between);
                provider.allocate(PIECE, 64, JITMemoryKind::Executable).map(<*mut u8>::addr)
            })
            .collect()
    }

    #[test]
    fn code_is_near_itself_while_large_mappings_lie_between() -> io::Result<()> {
        let distance = |places: &[usize]| places.iter().max().zip(places.iter().min()).map_or(0, |(x, y)| x - y);
        let pending = Pending::default();
        pending.bytes.store(4 * PIECE, Relaxed);
        let mut range = pending.range();
        let places = with_mappings_between(&mut *range)?;
        assert_eq!(distance(&places), 3 * PIECE);
        // SAFETY: nothing was put there.
        unsafe { range.free_memory() };
        // What there was before. Where it puts them is the system's choice: further apart than a call reaches, as a rule.
        let mut system = cranelift_jit::SystemMemoryProvider::new();
        let places = with_mappings_between(&mut system)?;
        println!("mapped one by one, functions lie {} MiB apart", distance(&places) >> 20);
        // SAFETY: as above.
        unsafe { system.free_memory() };
        Ok(())
    }

    #[test]
    fn functions_lie_in_one_range_of_the_size_that_was_said() -> io::Result<()> {
        let pending = Pending::default();
        pending.bytes.store(3 * 5000, Relaxed);
        let mut range = pending.range();
        let mut places = Vec::new();
        for (size, align) in [(1, 1), (4096, 64), (0, 1), (5000, 16), (100, 128)] {
            let place = range.allocate(size, align, JITMemoryKind::Executable)?.addr();
            assert_eq!(place % align as usize, 0);
            assert!(places.last().is_none_or(|&(begin, size)| begin + size <= place), "{places:?}, {place}");
            places.push((place, size));
        }
        let first = places[0].0;
        assert!(places.iter().all(|(begin, size)| begin + size <= first + 3 * 5000));
        assert!(range.allocate(3 * 5000, 1, JITMemoryKind::Executable).is_err());
        assert!(range.allocate(1, 1, JITMemoryKind::Writable).is_err());
        assert!(range.allocate(1, 1 << 20, JITMemoryKind::Executable).is_err());
        // SAFETY: nothing was put there.
        unsafe { range.free_memory() };
        Ok(())
    }
}
