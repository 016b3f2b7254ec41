//! The memory plan: where each buffer of a program lies.
//!
//! Comes in: kernels, and which inputs are donated. Goes out: for each buffer an input's memory, an output's, a
//! constant's, or a place in one arena; buffers whose lifetimes do not overlap share places. An output takes the place
//! of a donated input where the kernel that writes it reads that input at the same element at most, and nobody reads
//! the input later: then the update happens in place.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;

use hashbrown::HashMap;

use crate::fuse::{BufferId, Kernel, Kernels, Output, Source};
use crate::lower::parallel::Phase;
use crate::types::TensorType;

/// Alignment of places in the arena, in bytes.
const ALIGN: usize = 64;

/// Where a buffer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// In the memory of an input.
    Param(usize),
    /// In the memory of an output, by number among the program's outputs.
    Output(usize),
    /// In a constant.
    Constant,
    /// At this byte of the arena.
    Arena(usize),
}

/// Where everything lies.
#[derive(Clone, Debug)]
pub struct Plan {
    /// For each buffer.
    pub places: Vec<Location>,
    /// For each output that is computed in the memory of a donated input: that input.
    pub in_place: Vec<Option<usize>>,
    /// Bytes of the arena.
    pub arena: usize,
    /// The most bytes of it that are in use at once: a lower bound of `arena`.
    pub peak: usize,
}

/// Plans the memory of a program. `donated` says which inputs may be overwritten. Kernels of a phase that all threads
/// run count as running at the same time.
pub fn plan(kernels: &Kernels, donated: &[bool], phases: &[Phase]) -> Plan {
    let n = kernels.buffers.len();
    let mut first = vec![usize::MAX; n];
    let mut last = vec![0; n];
    let mut uses = Uses { when: vec![(0, 0); kernels.kernels.len()], writer: vec![None; n], readers: vec![vec![]; n] };
    for phase in phases {
        let all = phase.kernels();
        for k in all.clone() {
            uses.when[k] = if phase.parallel { (all.start, all.end - 1) } else { (k, k) };
        }
    }
    for (k, kernel) in kernels.kernels.iter().enumerate() {
        let (begin, end) = uses.when[k];
        for b in kernel.writes() {
            first[b.index()] = first[b.index()].min(begin);
            last[b.index()] = last[b.index()].max(end);
            uses.writer[b.index()].get_or_insert(k);
        }
        for b in kernel.reads() {
            last[b.index()] = last[b.index()].max(end);
            uses.readers[b.index()].push(k);
        }
    }

    let mut places: Vec<Option<Location>> = kernels
        .buffers
        .iter()
        .map(|b| match b.source {
            Source::Param(i) => Some(Location::Param(i)),
            Source::Constant(_) => Some(Location::Constant),
            Source::Computed => None,
        })
        .collect();
    for (o, output) in kernels.outputs.iter().enumerate() {
        if let Output::Computed(b, _) = output
            && places[b.index()].is_none()
        {
            // Where the same value is returned twice, the first has the memory.
            places[b.index()] = Some(Location::Output(o));
        }
    }
    let in_place = replacements(kernels, donated, &places, &uses);

    let lives: Vec<LiveRange> = (0..n)
        .filter(|&b| places[b].is_none() && first[b] != usize::MAX)
        .map(|b| {
            let bytes = kernels.buffers[b].ty.bytes().max(1).next_multiple_of(ALIGN);
            LiveRange { buffer: b, bytes, begin: first[b], end: last[b] }
        })
        .collect();
    // From the first kernel to the last or from the last to the first, whichever takes less.
    let turned = |life: &LiveRange| {
        let (begin, end) = (kernels.kernels.len() - life.end, kernels.kernels.len() - life.begin);
        LiveRange { begin, end, ..*life }
    };
    let [forwards, backwards] = [allocate(lives.clone()), allocate(lives.iter().map(turned).collect())];
    let Allocation { places: at, arena, peak } = if backwards.arena < forwards.arena { backwards } else { forwards };
    for (buffer, at) in at {
        places[buffer] = Some(Location::Arena(at));
    }
    let places = places.into_iter().map(|p| p.unwrap_or(Location::Arena(0))).collect();
    Plan { places, in_place, arena, peak }
}

/// For each output the donated input in whose memory it is computed, if any.
fn replacements(kernels: &Kernels, donated: &[bool], places: &[Option<Location>], uses: &Uses) -> Vec<Option<usize>> {
    // The inputs that may be overwritten, by the sizes of their elements and of themselves. Memory of smaller elements may
    // not be aligned for larger ones; and what was a truth value, which its tree may still show, stays one.
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
    // One that is itself a result must stay as it is.
    for output in &kernels.outputs {
        if let Output::Param(i, ty) = output
            && let Some(inputs) = inputs.get_mut(&size(ty))
        {
            inputs.remove(i);
        }
    }
    let mut in_place = vec![None; kernels.outputs.len()];
    // A step's state comes out in the order in which it went in: then every tensor stays where it is. Only what is left
    // takes the place of others.
    for same in [true, false] {
        for (o, output) in kernels.outputs.iter().enumerate() {
            let Output::Computed(b, _) = output else { continue };
            if places[b.index()] != Some(Location::Output(o)) || in_place[o].is_some() {
                continue;
            }
            let Some(inputs) = inputs.get_mut(&size(&kernels.buffers[b.index()].ty)) else { continue };
            let range = if same { o..o + 1 } else { 0..usize::MAX };
            let found = inputs.range(range).find(|(_, input)| may_replace(kernels, *b, **input, uses));
            if let Some(i) = found.map(|(i, _)| *i) {
                inputs.remove(&i);
                in_place[o] = Some(i);
            }
        }
    }
    in_place
}

/// A buffer that wants memory, and from which kernel to which.
#[derive(Clone, Copy)]
struct LiveRange {
    buffer: usize,
    bytes: usize,
    begin: usize,
    end: usize,
}

/// Where buffers lie, how far that reaches, and the most bytes that are in use at once.
struct Allocation {
    places: Vec<(usize, usize)>,
    arena: usize,
    peak: usize,
}

/// Gives each life a place in the order in which they begin, where it fits best at that time.
fn allocate(mut lives: Vec<LiveRange>) -> Allocation {
    // Of those that begin together, the largest first.
    lives.sort_by_key(|life| (life.begin, Reverse(life.bytes)));
    let (mut places, mut arena, mut used, mut peak) = (Vec::with_capacity(lives.len()), 0, 0, 0);
    let mut free = Free::default();
    let mut ends: BinaryHeap<Reverse<(usize, usize, usize)>> = BinaryHeap::new();
    for life in lives {
        while let Some(&Reverse((end, at, bytes))) = ends.peek()
            && end < life.begin
        {
            ends.pop();
            free.give(at, bytes);
            used -= bytes;
        }
        let at = free.take(life.bytes).unwrap_or_else(|| {
            // What is free at the arena's end becomes part of it.
            let at = free.take_last(arena).unwrap_or(arena);
            // More than there can be is as good as the most: nobody gets the memory to run it.
            arena = at.saturating_add(life.bytes);
            at
        });
        used = life.bytes.saturating_add(used);
        peak = peak.max(used);
        ends.push(Reverse((life.end, at, life.bytes)));
        places.push((life.buffer, at));
    }
    Allocation { places, arena, peak }
}

/// The free pieces of the arena; no two touch.
#[derive(Default)]
struct Free {
    /// Bytes by where they begin, and the other way round.
    places: BTreeMap<usize, usize>,
    sizes: BTreeSet<(usize, usize)>,
}

impl Free {
    fn remove(&mut self, at: usize) -> usize {
        let bytes = self.places.remove(&at).expect("a free piece");
        self.sizes.remove(&(bytes, at));
        bytes
    }

    fn insert(&mut self, at: usize, bytes: usize) {
        self.places.insert(at, bytes);
        self.sizes.insert((bytes, at));
    }

    /// Gives back a piece, which becomes one with its neighbours.
    fn give(&mut self, mut at: usize, mut bytes: usize) {
        if let Some((&before, &size)) = self.places.range(..at).next_back()
            && before + size == at
        {
            self.remove(before);
            (at, bytes) = (before, bytes + size);
        }
        if self.places.contains_key(&(at + bytes)) {
            bytes += self.remove(at + bytes);
        }
        self.insert(at, bytes);
    }

    /// The first bytes of the smallest piece that has so many.
    fn take(&mut self, bytes: usize) -> Option<usize> {
        let &(size, at) = self.sizes.range((bytes, 0)..).next()?;
        self.remove(at);
        if size > bytes {
            self.insert(at + bytes, size - bytes);
        }
        Some(at)
    }

    /// All of the piece that ends at `end`.
    fn take_last(&mut self, end: usize) -> Option<usize> {
        let (&at, &bytes) = self.places.iter().next_back()?;
        (at + bytes == end).then(|| {
            self.remove(at);
            at
        })
    }
}

/// Who touches what, and when.
struct Uses {
    /// For each kernel the first and last of those that may run at the same time.
    when: Vec<(usize, usize)>,
    /// For each buffer the first kernel that writes it.
    writer: Vec<Option<usize>>,
    /// For each buffer the kernels that read it.
    readers: Vec<Vec<usize>>,
}

/// May output buffer `b` be written over input buffer `p`?
fn may_replace(kernels: &Kernels, b: BufferId, p: BufferId, uses: &Uses) -> bool {
    let Some(write) = uses.writer[b.index()] else { return false };
    uses.readers[p.index()].iter().all(|&read| {
        if read != write {
            return uses.when[read].1 < uses.when[write].0;
        }
        // Both in one kernel: every element must be read before it is overwritten, and by the same iteration.
        let Kernel::Loop(kernel) = &kernels.kernels[write] else { return false };
        let Some(store) = kernel.stores.iter().find(|s| s.buffer == b) else { return false };
        // An element may be read again in a later pass over its row; what is read once per row is not.
        if kernel.varies_inside(&store.index) && !kernel.is_one_pass() {
            return false;
        }
        kernel.loads().all(|(buffer, index)| buffer != p || *index == store.index)
    })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "arena {} bytes (at least {})", self.arena, self.peak)?;
        for (b, place) in self.places.iter().enumerate() {
            match place {
                Location::Param(i) => writeln!(f, "b{b}: input {i}")?,
                Location::Output(o) => match self.in_place[*o] {
                    Some(i) => writeln!(f, "b{b}: output {o}, in place of input {i}")?,
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
    fn what_lives_at_once_lies_apart() {
        let mut state = 1usize;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for count in [0, 1, 2, 10, 100, 300] {
            let lives: Vec<LiveRange> = (0..count)
                .map(|buffer| {
                    let begin = draw(50);
                    LiveRange { buffer, bytes: ALIGN * (1 + draw(20)), begin, end: begin + draw(20) }
                })
                .collect();
            let Allocation { places, arena, peak } = allocate(lives.clone());
            assert_eq!(places.len(), count);
            for &(x, at) in &places {
                let life = &lives[x];
                assert!(at % ALIGN == 0 && at + life.bytes <= arena);
                let apart = |&(y, other): &(usize, usize)| {
                    let neighbour = &lives[y];
                    let at_once = life.begin <= neighbour.end && neighbour.begin <= life.end;
                    x == y || !at_once || at + life.bytes <= other || other + neighbour.bytes <= at
                };
                assert!(places.iter().all(apart));
            }
            assert!(peak <= arena && arena <= peak + peak / 4, "{arena} bytes for {peak}");
        }
    }
}
