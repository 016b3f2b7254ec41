//! Memory planning: the location of each buffer of a program.
//!
//! Comes in: kernels, and which inputs are donated. Goes out: for each buffer the memory of an input, of an output or
//! of a constant, or an offset in one arena, in which buffers with disjoint live ranges share memory. An output aliases
//! a donated input if the kernel that writes it reads the input at most at the element that it writes, and no later
//! kernel reads the input: then the update is in place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;

use hashbrown::HashMap;

use crate::fuse::{BufferId, Kernel, Kernels, Output, Source};
use crate::lower::parallel::Phase;
use crate::types::TensorType;

/// Alignment of buffers in the arena, in bytes.
const ALIGN: usize = 64;

/// The next aligned offset. One that saturates exceeds every machine, and is rejected when the program runs.
pub(super) fn aligned(offset: usize) -> usize {
    offset.checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX / ALIGN * ALIGN)
}

/// The location of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// The memory of an input.
    Param(usize),
    /// The memory of an output, by position among the outputs of the program.
    Output(usize),
    /// The memory of a constant.
    Constant,
    /// A byte offset in the arena.
    Arena(usize),
}

/// The locations of all buffers.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The location of each buffer.
    pub locations: Vec<Location>,
    /// For each output the donated input that it aliases, if any.
    pub aliases: Vec<Option<usize>>,
    /// For each kernel the offset of its workspace in the arena; 0 if it has none.
    pub workspaces: Vec<usize>,
    /// The size of the arena in bytes.
    pub arena: usize,
    /// The most bytes that are live at once: a lower bound of `arena`.
    pub peak: usize,
}

/// Plans the memory of a program. `donated` marks the inputs that may be overwritten. The kernels of a parallel phase
/// count as simultaneous. `workspaces` are the bytes that each kernel uses besides its buffers.
pub fn plan(kernels: &Kernels, donated: &[bool], phases: &[Phase], workspaces: &[usize]) -> Plan {
    let n = kernels.buffers.len();
    let mut first = vec![usize::MAX; n];
    let mut last = vec![0; n];
    let mut liveness =
        Liveness { when: vec![(0, 0); kernels.kernels.len()], writer: vec![None; n], readers: vec![vec![]; n] };
    for phase in phases {
        let all = phase.kernels();
        for k in all.clone() {
            liveness.when[k] = if phase.parallel { (all.start, all.end - 1) } else { (k, k) };
        }
    }
    for (k, kernel) in kernels.kernels.iter().enumerate() {
        let (begin, end) = liveness.when[k];
        for b in kernel.writes() {
            first[b.index()] = first[b.index()].min(begin);
            last[b.index()] = last[b.index()].max(end);
            liveness.writer[b.index()].get_or_insert(k);
        }
        for b in kernel.reads() {
            last[b.index()] = last[b.index()].max(end);
            liveness.readers[b.index()].push(k);
        }
    }

    let mut locations: Vec<Option<Location>> = kernels
        .buffers
        .iter()
        .map(|b| match b.source {
            Source::Param(i) => Some(Location::Param(i)),
            Source::Constant(_) => Some(Location::Constant),
            Source::Computed | Source::Passed => None,
        })
        .collect();
    for (o, output) in kernels.outputs.iter().enumerate() {
        if let Output::Computed(b, _) = output
            && locations[b.index()].is_none()
        {
            // A buffer that is returned twice lies in the memory of the first output.
            locations[b.index()] = Some(Location::Output(o));
        }
    }
    let aliases = input_output_aliases(kernels, donated, &locations, &liveness);

    let is_passed = |b: usize| matches!(kernels.buffers[b].source, Source::Passed);
    let mut ranges: Vec<LiveRange> = (0..n)
        .filter(|&b| locations[b].is_none() && first[b] != usize::MAX && !is_passed(b))
        .map(|b| {
            let bytes = kernels.buffers[b].ty.bytes().max(1).next_multiple_of(ALIGN);
            LiveRange { buffer: b, bytes, begin: first[b], end: last[b] }
        })
        .collect();
    // A workspace is numbered after the buffers.
    for (k, &bytes) in workspaces.iter().enumerate().filter(|(_, bytes)| **bytes > 0) {
        let (begin, end) = liveness.when[k];
        ranges.push(LiveRange { buffer: n + k, bytes: aligned(bytes), begin, end });
    }
    // Allocation in program order and in reverse; the smaller arena wins.
    let reversed = |range: &LiveRange| {
        let (begin, end) = (kernels.kernels.len() - range.end, kernels.kernels.len() - range.begin);
        LiveRange { begin, end, ..*range }
    };
    let [forwards, backwards] = [allocate(ranges.clone()), allocate(ranges.iter().map(reversed).collect())];
    let Allocation { offsets, arena, peak } = if backwards.arena < forwards.arena { backwards } else { forwards };
    let mut workspace_offsets = vec![0; workspaces.len()];
    for (buffer, at) in offsets {
        match buffer.checked_sub(n) {
            Some(k) => workspace_offsets[k] = at,
            None => locations[buffer] = Some(Location::Arena(at)),
        }
    }
    let locations = locations.into_iter().map(|p| p.unwrap_or(Location::Arena(0))).collect();
    Plan { locations, aliases, workspaces: workspace_offsets, arena, peak }
}

/// For each output the donated input that it aliases, if any.
fn input_output_aliases(
    kernels: &Kernels,
    donated: &[bool],
    locations: &[Option<Location>],
    liveness: &Liveness,
) -> Vec<Option<usize>> {
    // The donated inputs, by element size and size. An output of another element size may need a larger alignment; and
    // a leaf that was of type bool may be read as one by its owner, so it stays one.
    let size = |ty: &TensorType| (ty.dtype.size(), ty.bytes());
    let mut inputs: HashMap<(usize, usize), BTreeMap<usize, BufferId>> = HashMap::new();
    for (b, buffer) in kernels.buffers.iter().enumerate() {
        if let Source::Param(i) = buffer.source
            && donated[i]
            && buffer.ty.bytes() > 0
        {
            inputs.entry(size(&buffer.ty)).or_default().insert(i, BufferId(b as u32));
        }
    }
    // An input that is also an output is not overwritten.
    for output in &kernels.outputs {
        if let Output::Param(i, ty) = output
            && let Some(inputs) = inputs.get_mut(&size(ty))
        {
            inputs.remove(i);
        }
    }
    let mut aliases = vec![None; kernels.outputs.len()];
    // A training step returns its state in the order of its inputs, so output i aliases input i where it can; then the
    // remaining outputs alias any remaining input. In a step of a fixed structure no leaf changes its memory.
    for same in [true, false] {
        for (o, output) in kernels.outputs.iter().enumerate() {
            let Output::Computed(b, _) = output else { continue };
            if locations[b.index()] != Some(Location::Output(o)) || aliases[o].is_some() {
                continue;
            }
            let Some(inputs) = inputs.get_mut(&size(&kernels.buffers[b.index()].ty)) else { continue };
            let range = if same { o..o + 1 } else { 0..usize::MAX };
            let found = inputs.range(range).find(|(_, input)| can_alias(kernels, *b, **input, liveness));
            if let Some(i) = found.map(|(i, _)| *i) {
                inputs.remove(&i);
                aliases[o] = Some(i);
            }
        }
    }
    aliases
}

/// The first and last kernel that access a buffer of the arena.
#[derive(Clone, Copy)]
struct LiveRange {
    buffer: usize,
    bytes: usize,
    begin: usize,
    end: usize,
}

/// An assignment of arena offsets.
struct Allocation {
    /// Buffers and their offsets.
    offsets: Vec<(usize, usize)>,
    arena: usize,
    peak: usize,
}

/// Allocates live ranges in the order of their begin, best fit first.
fn allocate(mut ranges: Vec<LiveRange>) -> Allocation {
    // Of ranges with the same begin, the largest first.
    ranges.sort_by_key(|range| (range.begin, Reverse(range.bytes)));
    let (mut offsets, mut arena, mut used, mut peak) = (Vec::with_capacity(ranges.len()), 0, 0, 0);
    let mut free = FreeList::default();
    let mut ends: BinaryHeap<Reverse<(usize, usize, usize)>> = BinaryHeap::new();
    for range in ranges {
        while let Some(&Reverse((end, at, bytes))) = ends.peek()
            && end < range.begin
        {
            ends.pop();
            free.free(at, bytes);
            used -= bytes;
        }
        let at = free.alloc(range.bytes).unwrap_or_else(|| {
            // The arena grows from its last free block.
            let at = free.alloc_last(arena).unwrap_or(arena);
            // A sum that saturates exceeds every machine, and is rejected when the program runs.
            arena = at.saturating_add(range.bytes);
            at
        });
        used = range.bytes.saturating_add(used);
        peak = peak.max(used);
        ends.push(Reverse((range.end, at, range.bytes)));
        offsets.push((range.buffer, at));
    }
    Allocation { offsets, arena, peak }
}

/// The free blocks of the arena; no two are adjacent.
#[derive(Default)]
struct FreeList {
    /// The size of each block by offset.
    blocks: BTreeMap<usize, usize>,
    /// Blocks as size and offset.
    sizes: BTreeSet<(usize, usize)>,
}

impl FreeList {
    fn remove(&mut self, at: usize) -> usize {
        let bytes = self.blocks.remove(&at).expect("a free block");
        self.sizes.remove(&(bytes, at));
        bytes
    }

    fn insert(&mut self, at: usize, bytes: usize) {
        self.blocks.insert(at, bytes);
        self.sizes.insert((bytes, at));
    }

    /// Frees a block and merges it with its neighbours.
    fn free(&mut self, mut at: usize, mut bytes: usize) {
        if let Some((&before, &size)) = self.blocks.range(..at).next_back()
            && before + size == at
        {
            self.remove(before);
            (at, bytes) = (before, bytes + size);
        }
        if self.blocks.contains_key(&(at + bytes)) {
            bytes += self.remove(at + bytes);
        }
        self.insert(at, bytes);
    }

    /// Allocates from the smallest block that is large enough.
    fn alloc(&mut self, bytes: usize) -> Option<usize> {
        let &(size, at) = self.sizes.range((bytes, 0)..).next()?;
        self.remove(at);
        if size > bytes {
            self.insert(at + bytes, size - bytes);
        }
        Some(at)
    }

    /// Allocates all of the block that ends at `end`.
    fn alloc_last(&mut self, end: usize) -> Option<usize> {
        let (&at, &bytes) = self.blocks.iter().next_back()?;
        (at + bytes == end).then(|| {
            self.remove(at);
            at
        })
    }
}

/// When kernels run, and which of them access each buffer.
struct Liveness {
    /// For each kernel the first and last kernel that may run at the same time.
    when: Vec<(usize, usize)>,
    /// For each buffer the first kernel that writes it.
    writer: Vec<Option<usize>>,
    /// For each buffer the kernels that read it.
    readers: Vec<Vec<usize>>,
}

/// Whether output buffer `b` can alias input buffer `p`.
fn can_alias(kernels: &Kernels, b: BufferId, p: BufferId, liveness: &Liveness) -> bool {
    let Some(write) = liveness.writer[b.index()] else { return false };
    liveness.readers[p.index()].iter().all(|&read| {
        if read != write {
            return liveness.when[read].1 < liveness.when[write].0;
        }
        // One kernel reads and writes: the iteration that overwrites an element must be the only one that reads it.
        let Kernel::Loop(kernel) = &kernels.kernels[write] else { return false };
        // Of several segments, the one that writes must be the only one that reads.
        let ([(writing, b)], [(reading, p)]) = (&kernel.locate(b)[..], &kernel.locate(p)[..]) else { return false };
        if writing != reading {
            return false;
        }
        let Some(store) = kernel.stores.iter().find(|s| s.buffer == *b && s.by.is_empty()) else { return false };
        // A later sweep over the reduced dimensions reads elements again; loop-invariant loads happen once.
        if kernel.varies_inside(&store.index) && !kernel.is_one_sweep() {
            return false;
        }
        kernel.loads().all(|(buffer, index)| buffer != *p || index == Some(&store.index))
    })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "arena {} bytes (lower bound {})", self.arena, self.peak)?;
        for (b, location) in self.locations.iter().enumerate() {
            match location {
                Location::Param(i) => writeln!(f, "b{b}: input {i}")?,
                Location::Output(o) => match self.aliases[*o] {
                    Some(i) => writeln!(f, "b{b}: output {o}, aliases input {i}")?,
                    None => writeln!(f, "b{b}: output {o}")?,
                },
                Location::Constant => writeln!(f, "b{b}: constant")?,
                Location::Arena(at) => writeln!(f, "b{b}: arena at {at}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simultaneous_live_ranges_do_not_overlap() {
        let mut state = 1usize;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for count in [0, 1, 2, 10, 100, 300] {
            let ranges: Vec<LiveRange> = (0..count)
                .map(|buffer| {
                    let begin = draw(50);
                    LiveRange { buffer, bytes: ALIGN * (1 + draw(20)), begin, end: begin + draw(20) }
                })
                .collect();
            let Allocation { offsets, arena, peak } = allocate(ranges.clone());
            assert_eq!(offsets.len(), count);
            for &(x, at) in &offsets {
                let range = &ranges[x];
                assert!(at % ALIGN == 0 && at + range.bytes <= arena);
                let disjoint = |&(y, other): &(usize, usize)| {
                    let neighbour = &ranges[y];
                    let simultaneous = range.begin <= neighbour.end && neighbour.begin <= range.end;
                    x == y || !simultaneous || at + range.bytes <= other || other + neighbour.bytes <= at
                };
                assert!(offsets.iter().all(disjoint));
            }
            assert!(peak <= arena && arena <= peak + peak / 4, "{arena} bytes for {peak}");
        }
    }
}
