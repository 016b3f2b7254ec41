//! Phases: in what order kernels run, and which of them at once.
//!
//! Comes in: kernels, what each costs and into how many parts it divides. Goes out: the kernels' order, cut into phases.
//! In a phase that is worth it all threads take their share of every kernel; what is small runs between such phases on
//! one thread. Threads meet once from phase to phase, so fewer and larger phases are better: kernels that do not need
//! each other come together even where the program had others between them.
//!
//! Which thread runs what changes no result: a part computes what it would as a part of the whole.

mod tiling;

use std::fmt;
use std::ops::Range;

use hashbrown::HashMap;
use smallvec::SmallVec;

pub use tiling::Tiling;
use tiling::TilingCx;

use crate::fuse::{BufferId, Kernels, Output, Source};

/// Nanoseconds from which on a kernel is not small. Measured on Zen 4, like the others: threads meet in about 300.
const SMALL: f64 = 1_000.0;

/// Nanoseconds of work that are worth a phase of all threads.
const PROFITABLE: f64 = 2_000.0;

/// Nanoseconds that each meeting of the threads costs.
const BARRIER: f64 = 400.0;

/// Nanoseconds that a phase takes longer because what it reads lies in other cores' caches.
const CACHE_TRANSFER: f64 = 400.0;

/// Nanoseconds that a step must gain for threads to be called at all.
const WAKE: f64 = 4_000.0;

/// How many kernels may wait while later ones are drawn forward.
const WINDOW: usize = 256;

/// What threads share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parallelism {
    /// Phases that are worth more than calling the threads costs.
    Auto,
    /// Every kernel, however small: for tests.
    Always,
}

/// What a kernel costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Estimated time on one thread.
    pub nanoseconds: f64,
    /// Into how many parts it divides; 1 where it does not.
    pub units: usize,
}

impl Work {
    /// Time of one part.
    fn unit(&self) -> f64 {
        self.nanoseconds / self.units.max(1) as f64
    }
}

/// Kernels between two meetings of the threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// What runs, in order.
    pub groups: Vec<Group>,
    /// Do all threads take part? Else one runs everything.
    pub parallel: bool,
}

/// Kernels that divide between threads as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Which, by position in the order.
    pub kernels: Range<usize>,
    /// Into how many slices all of them are cut, if they are a chain.
    pub chain: Option<Tiles>,
}

/// How a chain is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    /// Into how many slices each kernel is cut.
    pub count: usize,
    /// How many slices go through all kernels at once.
    pub step: usize,
}

impl Phase {
    /// One thread runs these kernels.
    pub fn serial(kernels: Range<usize>) -> Self {
        Phase { groups: kernels.map(Group::single).collect(), parallel: false }
    }

    /// Its kernels, by position in the order.
    pub fn kernels(&self) -> Range<usize> {
        let begin = self.groups.first().map_or(0, |group| group.kernels.start);
        begin..self.groups.last().map_or(begin, |group| group.kernels.end)
    }
}

impl Group {
    fn single(k: usize) -> Self {
        Group { kernels: k..k + 1, chain: None }
    }

    /// What it costs, given what each kernel does.
    pub(crate) fn work(&self, work: &[Work]) -> Work {
        let kernels = &work[self.kernels.clone()];
        let units = self.chain.map_or(kernels[0].units, |slices| slices.count);
        Work { nanoseconds: kernels.iter().map(|work| work.nanoseconds).sum(), units }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernels = self.kernels();
        let who = if self.parallel { "all threads" } else { "one thread" };
        write!(f, "k{}..k{}: {who}", kernels.start, kernels.end)?;
        for (group, Tiles { count, step }) in self.groups.iter().filter_map(|g| g.chain.map(|chain| (g, chain))) {
            write!(f, ", k{}..k{} in {count} slices, {step} at once", group.kernels.start, group.kernels.end)?;
        }
        Ok(())
    }
}

/// The order of the kernels, and the phases over that order. For one thread it is the program's order and one phase.
pub fn arrange(
    kernels: &Kernels,
    work: &[Work],
    tiling: &[Option<Tiling>],
    donated: &[bool],
    threads: usize,
    parallelism: Parallelism,
) -> (Vec<usize>, Vec<Phase>) {
    let n = work.len();
    let alone = || ((0..n).collect(), vec![Phase::serial(0..n)]);
    let pays = parallelism == Parallelism::Auto;
    if threads <= 1 || (pays && work.iter().map(|w| w.nanoseconds).sum::<f64>() < WAKE + PROFITABLE) {
        return alone();
    }
    let (needs, overwritten) = dependences(kernels, donated);
    let links = TilingCx { kernels, work, tiling, needs: &needs, overwritten: &overwritten, threads, parallelism };
    let mut order: Vec<usize> = Vec::with_capacity(n);
    let mut in_order: Vec<Work> = Vec::with_capacity(n);
    let mut phases: Vec<Phase> = Vec::new();
    let mut done = vec![false; n];
    // The first kernels that have not run; and how many of what each needs have not.
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
        let sum = |of: &[usize]| of.iter().map(|&k| work[k].nanoseconds).sum::<f64>();
        let small: Vec<usize> = ready.iter().copied().filter(|&k| work[k].nanoseconds < SMALL).collect();
        let chain = ready.iter().find_map(|&k| links.chain(k, &window, &done));
        let parallel =
            !pays || chain.is_some() || sum(&ready) >= PROFITABLE && (small.is_empty() || sum(&small) >= PROFITABLE);
        let mut groups = Vec::new();
        let begin = order.len();
        if let Some(chain) = chain {
            order.extend(&chain.kernels);
            let slices = Tiles { count: chain.slices, step: chain.step };
            groups.push(Group { kernels: begin..order.len(), chain: Some(slices) });
        }
        let singles = if parallel {
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
            gain += sum(&order[begin..]) - share(&work, threads).busiest - 2.0 * BARRIER;
        }
        match phases.last_mut() {
            Some(last) if !last.parallel && !parallel => last.groups.extend(groups),
            _ => phases.push(Phase { groups, parallel }),
        }
    }
    if pays && gain < WAKE { alone() } else { (order, phases) }
}

/// Who runs what of a phase: for each group and thread a range of its units.
pub struct Partition {
    /// For each group of the phase, for each thread.
    pub parts: Vec<Vec<Range<usize>>>,
    /// The time of the busiest thread, in nanoseconds.
    pub busiest: f64,
}

/// Shares a phase's groups out, given the work of each. Neighbouring ones go to one thread where that is as even, because
/// neighbouring memory then does: a core that reads ahead past the end of its own arrays takes the next one's lines away
/// from another.
pub fn share(work: &[Work], threads: usize) -> Partition {
    let (even, runs) = (partition_evenly(work, threads), partition_in_runs(work, threads));
    if runs.busiest <= even.busiest * 1.02 { runs } else { even }
}

/// Each so that all threads are as far as each other as its parts allow, the coarsest first.
fn partition_evenly(work: &[Work], threads: usize) -> Partition {
    let mut loads = vec![0.0; threads];
    let mut parts = vec![vec![0..0; threads]; work.len()];
    let mut coarsest: Vec<usize> = (0..work.len()).collect();
    coarsest.sort_by(|&x, &y| work[y].unit().total_cmp(&work[x].unit()));
    for i in coarsest {
        let Work { nanoseconds, units } = work[i];
        let unit = work[i].unit();
        let level = (loads.iter().sum::<f64>() + nanoseconds) / threads as f64;
        let mut counts: Vec<usize> = loads.iter().map(|load| ((level - load) / unit).max(0.0) as usize).collect();
        let mut given: usize = counts.iter().sum();
        while given > units {
            let most = (0..threads).max_by_key(|&t| counts[t]).expect("there are threads");
            counts[most] -= 1;
            given -= 1;
        }
        while given < units {
            let ahead = |t: &usize| loads[*t] + counts[*t] as f64 * unit;
            let least = (0..threads).min_by(|x, y| ahead(x).total_cmp(&ahead(y))).expect("there are threads");
            counts[least] += 1;
            given += 1;
        }
        let mut begin = 0;
        for (thread, count) in counts.into_iter().enumerate() {
            parts[i][thread] = begin..begin + count;
            begin += count;
            loads[thread] += count as f64 * unit;
        }
    }
    Partition { parts, busiest: loads.into_iter().fold(0.0, f64::max) }
}

/// What divides finely into equal parts, the rest one after the other to one thread after the other.
fn partition_in_runs(work: &[Work], threads: usize) -> Partition {
    let mut loads = vec![0.0; threads];
    let mut parts = vec![vec![0..0; threads]; work.len()];
    let is_fine = |i: usize| work[i].units >= 8 * threads;
    let rest: f64 = (0..work.len()).filter(|&i| !is_fine(i)).map(|i| work[i].nanoseconds).sum();
    let mut before = 0.0;
    for (i, parts) in parts.iter_mut().enumerate() {
        let Work { nanoseconds, units } = work[i];
        // Where thread `t` begins: at an equal share of the kernel, or of all of the rest.
        let cut = |t: usize| {
            let at = t as f64 / threads as f64;
            let at = if is_fine(i) { at } else { (at * rest - before) / nanoseconds };
            ((at.clamp(0.0, 1.0) * units as f64).round() as usize).min(units)
        };
        for (thread, part) in parts.iter_mut().enumerate() {
            let end = if thread + 1 == threads { units } else { cut(thread + 1) };
            *part = if thread == 0 { 0 } else { cut(thread) }..end;
            loads[thread] += part.len() as f64 * work[i].unit();
        }
        before += if is_fine(i) { 0.0 } else { nanoseconds };
    }
    Partition { parts, busiest: loads.into_iter().fold(0.0, f64::max) }
}

/// For each kernel some others.
type Others = Vec<SmallVec<[usize; 4]>>;

/// For each kernel those that need it.
fn users(needs: &Others) -> Others {
    let mut users: Others = vec![SmallVec::new(); needs.len()];
    for (k, needs) in needs.iter().enumerate() {
        needs.iter().for_each(|&before| users[before].push(k));
    }
    users
}

/// For each kernel those that must have run before it, and those of them that read what it may overwrite. What one of
/// these needs itself is left out where it goes without saying: of the parts of a buffer, which are written in order,
/// the last one stands for all before it, and for the readers that those have waited for.
fn dependences(kernels: &Kernels, donated: &[bool]) -> (Others, Others) {
    let mut writer: HashMap<BufferId, usize> = HashMap::new();
    let mut readers: HashMap<BufferId, SmallVec<[usize; 4]>> = HashMap::new();
    // A result that may be written over the input it comes from must wait for all that reads that input.
    let mut param = HashMap::new();
    for (b, buffer) in kernels.buffers.iter().enumerate() {
        if let Source::Param(i) = buffer.source {
            param.insert(i, BufferId(b as u32));
        }
    }
    // The input that a result may be written over, and how many of its readers the result's earlier parts wait for.
    let mut over: HashMap<BufferId, (BufferId, usize)> = HashMap::new();
    for (o, output) in kernels.outputs.iter().enumerate() {
        if let (Output::Computed(b, _), Some(true), Some(&input)) = (output, donated.get(o), param.get(&o)) {
            over.insert(*b, (input, 0));
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
            if let Some((input, waited)) = over.get_mut(buffer)
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

/// What there is of each kernel, in the order of [`arrange`].
pub(crate) fn in_order<T>(items: Vec<T>, order: &[usize]) -> Vec<T> {
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    order.iter().map(|&k| items[k].take().expect("each kernel once")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::fuse;
    use crate::graph::parse;

    #[test]
    fn what_a_buffer_of_many_parts_needs_grows_with_their_number_alone() {
        for parts in [10, 1_000] {
            // The result is written in parts over its input, which each of them reads; then it is read as a whole.
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
                "the part before is waited for"
            );
            let count = |others: &Others| others.iter().map(|others| others.len()).sum::<usize>();
            assert!(count(&needs) <= 2 * parts && count(&overwritten) <= parts, "{}", count(&needs));
        }
    }

    #[test]
    fn work_is_shared_out_evenly() {
        let work = |nanoseconds: f64, units: usize| Work { nanoseconds, units };
        let all = [work(9_000.0, 3), work(4_000.0, 100), work(3_000.0, 1)];
        for threads in [1, 2, 3, 7] {
            for Partition { parts, .. } in [partition_evenly(&all, threads), partition_in_runs(&all, threads)] {
                for (part, work) in parts.iter().zip(&all) {
                    assert_eq!(part.len(), threads);
                    assert_eq!((part[0].start, part[threads - 1].end), (0, work.units), "everything is run");
                    assert!(part.windows(2).all(|w| w[0].end == w[1].start), "and nothing twice");
                }
            }
            let busiest = share(&all, threads).busiest;
            assert!(busiest >= 16_000.0 / threads as f64 - 1.0);
            if threads == 2 {
                assert!(busiest < 8_100.0, "{busiest}");
            }
        }
    }
}
