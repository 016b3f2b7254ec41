//! The memory plan: where each buffer of a program lies.
//!
//! Comes in: kernels, and which inputs are donated. Goes out: for each buffer an input's memory, an output's, a
//! constant's, or a place in one arena; buffers whose lifetimes do not overlap share places. An output takes the place
//! of a donated input where the kernel that writes it reads that input at the same element at most, and nobody reads
//! the input later: then the update happens in place.

use std::fmt;

use crate::fuse::{BufferId, Kernel, Kernels, Output, Source};
use crate::phases::Phase;

/// Alignment of places in the arena, in bytes.
const ALIGN: usize = 64;

/// Where a buffer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
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
    pub places: Vec<Place>,
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
            uses.when[k] = if phase.together { (all.start, all.end - 1) } else { (k, k) };
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

    let mut places: Vec<Option<Place>> = kernels
        .buffers
        .iter()
        .map(|b| match b.source {
            Source::Param(i) => Some(Place::Param(i)),
            Source::Constant(_) => Some(Place::Constant),
            Source::Computed => None,
        })
        .collect();
    let mut in_place = vec![None; kernels.outputs.len()];
    let mut taken = vec![false; kernels.params.len()];
    // An input that is itself a result must stay as it is.
    for output in &kernels.outputs {
        if let Output::Param(i, _) = output {
            taken[*i] = true;
        }
    }
    for (o, output) in kernels.outputs.iter().enumerate() {
        if let Output::Computed(b, _) = output
            && places[b.index()].is_none()
        {
            // Where the same value is returned twice, the first has the memory.
            places[b.index()] = Some(Place::Output(o));
        }
    }
    // A step's state comes out in the order in which it went in: then every tensor stays where it is. Only what is left
    // takes the place of others.
    for same in [true, false] {
        for (o, output) in kernels.outputs.iter().enumerate() {
            let Output::Computed(b, _) = output else { continue };
            if places[b.index()] != Some(Place::Output(o)) || in_place[o].is_some() {
                continue;
            }
            let bytes = kernels.buffers[b.index()].ty.bytes();
            let found = kernels.buffers.iter().enumerate().find_map(|(p, buffer)| match buffer.source {
                Source::Param(i) => {
                    let fits = (i == o || !same) && donated[i] && !taken[i] && buffer.ty.bytes() == bytes && bytes > 0;
                    (fits && may_replace(kernels, *b, BufferId(p as u32), &uses)).then_some(i)
                }
                Source::Constant(_) | Source::Computed => None,
            });
            if let Some(i) = found {
                in_place[o] = Some(i);
                taken[i] = true;
            }
        }
    }

    // Largest first, each at the lowest place that is free over its lifetime.
    struct Item {
        buffer: usize,
        bytes: usize,
        begin: usize,
        end: usize,
    }
    let mut items: Vec<Item> = (0..n)
        .filter(|&b| places[b].is_none() && first[b] != usize::MAX)
        .map(|b| Item { buffer: b, bytes: kernels.buffers[b].ty.bytes(), begin: first[b], end: last[b] })
        .collect();
    items.sort_by_key(|item| (std::cmp::Reverse(item.bytes), item.begin));
    let mut placed: Vec<(usize, usize, usize, usize)> = Vec::new();
    let mut arena = 0;
    for item in &items {
        let bytes = item.bytes.max(1).next_multiple_of(ALIGN);
        let mut busy: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(_, _, begin, end)| *begin <= item.end && item.begin <= *end)
            .map(|&(at, size, ..)| (at, at + size))
            .collect();
        busy.sort_unstable();
        let mut at = 0;
        for (begin, end) in busy {
            if at + bytes <= begin {
                break;
            }
            at = at.max(end);
        }
        placed.push((at, bytes, item.begin, item.end));
        arena = arena.max(at + bytes);
        places[item.buffer] = Some(Place::Arena(at));
    }
    let in_use = |k: usize| placed.iter().filter(|(_, _, b, e)| *b <= k && k <= *e).map(|p| p.1).sum::<usize>();
    let peak = (0..kernels.kernels.len()).map(in_use).max().unwrap_or(0);
    let places = places.into_iter().map(|p| p.unwrap_or(Place::Arena(0))).collect();
    Plan { places, in_place, arena, peak }
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
        let same_type = kernels.buffers[b.index()].ty.dtype.size() == kernels.buffers[p.index()].ty.dtype.size();
        same_type && kernel.loads().all(|(buffer, index)| buffer != p || *index == store.index)
    })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "arena {} bytes (at least {})", self.arena, self.peak)?;
        for (b, place) in self.places.iter().enumerate() {
            match place {
                Place::Param(i) => writeln!(f, "b{b}: input {i}")?,
                Place::Output(o) => match self.in_place[*o] {
                    Some(i) => writeln!(f, "b{b}: output {o}, in place of input {i}")?,
                    None => writeln!(f, "b{b}: output {o}")?,
                },
                Place::Constant => writeln!(f, "b{b}: constant")?,
                Place::Arena(at) => writeln!(f, "b{b}: arena at {at}")?,
            }
        }
        Ok(())
    }
}
