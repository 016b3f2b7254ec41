//! The schedule of kernels: their order, and which of them run in parallel.
//!
//! Comes in: kernels, with an estimate of the work of each and the number of chunks that it divides into. Goes out: the
//! order of the kernels, cut into phases. In a parallel phase every thread runs a range of the chunks of every kernel
//! (see `partition`); all other kernels run on one thread between parallel phases. There is one barrier between two
//! phases, so few large phases are better: independent kernels are hoisted into the same phase.
//!
//! The schedule does not change results: a chunk computes the same bits whichever thread runs it.

mod partition;
mod tiling;

use std::fmt;
use std::ops::Range;

use hashbrown::HashMap;
use smallvec::SmallVec;

pub use partition::{Partition, partition};
pub use tiling::Tiling;
use tiling::TilingCx;

use super::machine::{Machine, Parallelism, Target};
use crate::fuse::{BufferId, Kernels, Output, Source};

/// How many kernels the scheduler looks ahead for kernels to hoist.
const WINDOW: usize = 256;

/// The work of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Estimated time on one thread.
    pub nanoseconds: f64,
    /// The number of chunks that it divides into; 1 for a serial kernel.
    pub chunks: usize,
    /// Whether all threads run the kernel together, which it divides between them itself.
    pub collective: bool,
}

impl Work {
    /// Time of one chunk.
    fn chunk(&self) -> f64 {
        self.nanoseconds / self.chunks.max(1) as f64
    }
}

/// The kernels between two barriers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// The groups, in order.
    pub groups: Vec<Group>,
    /// Whether all threads run it; otherwise one thread does.
    pub parallel: bool,
}

/// Kernels that are partitioned between threads as one: a single kernel or a tiled group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Positions in the order.
    pub kernels: Range<usize>,
    /// The tiles of a tiled group.
    pub tiles: Option<Tiles>,
}

/// The tile loop of a tiled group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// The number of tiles of each kernel.
    pub count: usize,
    /// The number of tiles in one iteration of the tile loop.
    pub step: usize,
}

impl Phase {
    /// A phase of one thread.
    pub fn serial(kernels: Range<usize>) -> Self {
        Phase { groups: kernels.map(Group::single).collect(), parallel: false }
    }

    /// Its kernels, as positions in the order.
    pub fn kernels(&self) -> Range<usize> {
        let begin = self.groups.first().map_or(0, |group| group.kernels.start);
        begin..self.groups.last().map_or(begin, |group| group.kernels.end)
    }
}

impl Group {
    fn single(k: usize) -> Self {
        Group { kernels: k..k + 1, tiles: None }
    }

    /// Its work, from the work of each kernel in the order.
    pub(crate) fn work(&self, work: &[Work]) -> Work {
        let kernels = &work[self.kernels.clone()];
        let chunks = self.tiles.map_or(kernels[0].chunks, |tiles| tiles.count);
        Work {
            nanoseconds: kernels.iter().map(|work| work.nanoseconds).sum(),
            chunks,
            collective: kernels[0].collective,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernels = self.kernels();
        let mode = if self.parallel { "parallel" } else { "serial" };
        write!(f, "k{}..k{}: {mode}", kernels.start, kernels.end)?;
        for (group, Tiles { count, step }) in self.groups.iter().filter_map(|g| g.tiles.map(|tiles| (g, tiles))) {
            write!(f, ", k{}..k{} in {count} tiles, step {step}", group.kernels.start, group.kernels.end)?;
        }
        Ok(())
    }
}

/// The order of the kernels, and the phases over that order. For one thread it is the order of the program and one
/// phase.
pub fn arrange(
    kernels: &Kernels,
    work: &[Work],
    tiling: &[Option<Tiling>],
    donated: &[bool],
    machine: &Machine,
) -> (Vec<usize>, Vec<Phase>) {
    let n = work.len();
    let serial = || ((0..n).collect(), vec![Phase::serial(0..n)]);
    let Target { threads, parallelism, .. } = machine.target;
    let cost = &machine.cost;
    let must_gain = parallelism == Parallelism::Auto;
    // A collective kernel is known to gain.
    let is_parallel = work.iter().any(|work| work.collective);
    let is_small = |gain: f64, least: f64| must_gain && !is_parallel && gain < least;
    if threads <= 1 || is_small(work.iter().map(|w| w.nanoseconds).sum(), cost.wake + cost.min_parallel) {
        return serial();
    }
    let (needs, overwritten) = dependences(kernels, donated);
    let cx = TilingCx { kernels, work, tiling, needs: &needs, overwritten: &overwritten, machine };
    let mut order: Vec<usize> = Vec::with_capacity(n);
    let mut in_order: Vec<Work> = Vec::with_capacity(n);
    let mut phases: Vec<Phase> = Vec::new();
    let mut done = vec![false; n];
    // The first kernels that are not scheduled; and for each kernel how many of its dependences are not.
    let (mut window, mut rest): (Vec<usize>, _) = (Vec::new(), 0..n);
    let mut unmet: Vec<usize> = needs.iter().map(|needs| needs.len()).collect();
    let users = users(&needs);
    let mut gain = 0.0;
    loop {
        window.extend(rest.by_ref().take(WINDOW - window.len()));
        if window.is_empty() {
            break;
        }
        let ready: Vec<usize> = window.iter().copied().filter(|&k| unmet[k] == 0).collect();
        // It is a phase by itself.
        let collective = ready.iter().copied().find(|&k| work[k].collective);
        let sum = |of: &[usize]| of.iter().map(|&k| work[k].nanoseconds).sum::<f64>();
        let small: Vec<usize> = ready.iter().copied().filter(|&k| work[k].nanoseconds < cost.small).collect();
        let find_tiled = || ready.iter().find_map(|&k| cx.tiled_group(k, &window, &done));
        let tiled = if collective.is_some() { None } else { find_tiled() };
        let parallel = !must_gain
            || collective.is_some()
            || tiled.is_some()
            || sum(&ready) >= cost.min_parallel && (small.is_empty() || sum(&small) >= cost.min_parallel);
        let mut groups = Vec::new();
        let begin = order.len();
        if let Some(tiled) = tiled {
            order.extend(&tiled.kernels);
            groups.push(Group { kernels: begin..order.len(), tiles: Some(tiled.tiles) });
        }
        let singles = if let Some(k) = collective {
            vec![k]
        } else if parallel {
            ready
        } else if small.is_empty() {
            ready[..1].to_vec()
        } else {
            small
        };
        for k in singles {
            if !order[begin..].contains(&k) {
                groups.push(Group::single(order.len()));
                order.push(k);
            }
        }
        for &k in &order[begin..] {
            done[k] = true;
            users[k].iter().for_each(|&user| unmet[user] -= 1);
        }
        window.retain(|&k| !done[k]);
        in_order.extend(order[begin..].iter().map(|&k| work[k]));
        if parallel {
            let work: Vec<Work> = groups.iter().map(|group| group.work(&in_order)).collect();
            gain += sum(&order[begin..]) - partition(&work, threads).busiest - 2.0 * cost.barrier;
        }
        match phases.last_mut() {
            Some(last) if !last.parallel && !parallel => last.groups.extend(groups),
            _ => phases.push(Phase { groups, parallel }),
        }
    }
    if is_small(gain, cost.wake) { serial() } else { (order, phases) }
}

/// For each kernel a list of other kernels.
type Others = Vec<SmallVec<[usize; 4]>>;

/// For each kernel the kernels that depend on it.
fn users(needs: &Others) -> Others {
    let mut users: Others = vec![SmallVec::new(); needs.len()];
    for (k, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|&before| users[before].push(k));
    }
    users
}

/// For each kernel the kernels that must run before it; and those of them that read memory that it may overwrite.
/// Transitive dependences are left out where many kernels write one buffer in part: they run in order, so the last one
/// stands for the earlier ones and for the readers that those wait for.
fn dependences(kernels: &Kernels, donated: &[bool]) -> (Others, Others) {
    let mut writer: HashMap<BufferId, usize> = HashMap::new();
    let mut readers: HashMap<BufferId, SmallVec<[usize; 4]>> = HashMap::new();
    // A result that may alias an input must wait for all readers of that input.
    let mut param = HashMap::new();
    for (b, buffer) in kernels.buffers.iter().enumerate() {
        if let Source::Param(i) = buffer.source {
            param.insert(i, BufferId(b as u32));
        }
    }
    // The input that a result may alias, and how many of its readers the earlier partial writes of the result wait for.
    let mut aliases: HashMap<BufferId, (BufferId, usize)> = HashMap::new();
    for (o, output) in kernels.outputs.iter().enumerate() {
        if let (Output::Computed(b, _), Some(true), Some(&input)) = (output, donated.get(o), param.get(&o)) {
            aliases.insert(*b, (input, 0));
        }
    }
    let (mut needs, mut overwritten) = (Vec::new(), Vec::new());
    for (k, kernel) in kernels.kernels.iter().enumerate() {
        let (mut before, mut read_before): (SmallVec<[usize; 4]>, SmallVec<[usize; 4]>) = Default::default();
        let (reads, writes) = (kernel.reads(), kernel.writes());
        for buffer in reads.iter().chain(&writes) {
            before.extend(writer.get(buffer).copied());
        }
        for buffer in &writes {
            if let Some((input, waited)) = aliases.get_mut(buffer)
                && let Some(readers) = readers.get(input)
            {
                read_before.extend_from_slice(&readers[*waited..]);
                *waited = readers.len();
            }
            writer.insert(*buffer, k);
        }
        for buffer in reads {
            readers.entry(buffer).or_default().push(k);
        }
        before.extend(read_before.iter().copied());
        before.sort_unstable();
        before.dedup();
        before.retain(|before| *before != k);
        needs.push(before);
        overwritten.push(read_before);
    }
    (needs, overwritten)
}

/// One item per kernel, permuted into the order of [`arrange`].
pub(crate) fn permute<T>(items: Vec<T>, order: &[usize]) -> Vec<T> {
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    order.iter().map(|&k| items[k].take().expect("each kernel once")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::fuse;
    use crate::graph::parse;

    #[test]
    fn the_dependences_of_partial_writes_grow_linearly() {
        for parts in [10, 1_000] {
            // Each partial write of the result reads the input, which the result aliases; then all of it is read.
            let mut text = format!("fn main(%0: f32[{parts}]) -> (f32[{parts}], f32[]) {{\n");
            for i in 0..parts {
                let (x, y) = (2 * i + 1, 2 * i + 2);
                text += &format!("%{x}: f32[1] = slice %0 [start={i}, limit={}, stride=1]\n", i + 1);
                text += &format!("%{y}: f32[1] = sin %{x}\n");
            }
            let all: Vec<String> = (0..parts).map(|i| format!("%{}", 2 * i + 2)).collect();
            let last = 2 * parts + 1;
            text += &format!("%{last}: f32[{parts}] = concatenate {} [axis=0]\n", all.join(", "));
            text += &format!("%{0}: f32[] = reduce_sum %{last} [axes=0]\nreturn %{last}, %{0}\n}}", last + 1);
            let kernels = fuse(&parse(&text).expect("a graph"));
            let (needs, overwritten) = dependences(&kernels, &[true]);
            assert_eq!(needs.len(), parts + 1);
            assert!(
                needs[1..].iter().enumerate().all(|(k, needs)| needs.contains(&k)),
                "each partial write waits for the one before"
            );
            let count = |others: &Others| others.iter().map(|others| others.len()).sum::<usize>();
            assert!(count(&needs) <= 2 * parts && count(&overwritten) <= parts, "{}", count(&needs));
        }
    }
}
