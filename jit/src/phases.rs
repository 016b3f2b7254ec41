//! Phases: in what order kernels run, and which of them at once.
//!
//! Comes in: kernels, what each costs and into how many parts it divides. Goes out: the kernels' order, cut into phases.
//! In a phase that is worth it all threads take their share of every kernel; what is small runs between such phases on
//! one thread. Threads meet once from phase to phase, so fewer and larger phases are better: kernels that do not need
//! each other come together even where the program had others between them.
//!
//! Which thread runs what changes no result: a part computes what it would as a part of the whole.

use std::fmt;
use std::ops::Range;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::fuse::{BufferId, Kernels, Output, Source};

/// Nanoseconds from which on a kernel is not small. Measured on Zen 4, like the others: threads meet in about 300.
const SMALL: f64 = 1_000.0;

/// Nanoseconds of work that are worth a phase of all threads.
const WORTH: f64 = 2_000.0;

/// Nanoseconds that each meeting of the threads costs.
const MEETING: f64 = 400.0;

/// Nanoseconds that a step must gain for threads to be called at all.
const CALL: f64 = 4_000.0;

/// How many kernels may wait while later ones are drawn forward.
const WINDOW: usize = 64;

/// What threads share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Phases that are worth more than calling the threads costs.
    WherePays,
    /// Every kernel, however small: for tests.
    Everything,
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
    /// Which, by position in the order.
    pub kernels: Range<usize>,
    /// Do all threads take part? Else one runs the kernels in their order.
    pub together: bool,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.together { "all threads" } else { "one thread" };
        write!(f, "k{}..k{}: {who}", self.kernels.start, self.kernels.end)
    }
}

/// The order of the kernels, and the phases over that order. For one thread it is the program's order and one phase.
pub fn arrange(
    kernels: &Kernels,
    work: &[Work],
    donated: &[bool],
    threads: usize,
    sharing: Sharing,
) -> (Vec<usize>, Vec<Phase>) {
    let n = work.len();
    let alone = || ((0..n).collect(), vec![Phase { kernels: 0..n, together: false }]);
    let pays = sharing == Sharing::WherePays;
    if threads <= 1 || (pays && work.iter().map(|w| w.nanoseconds).sum::<f64>() < CALL + WORTH) {
        return alone();
    }
    let needs = dependences(kernels, donated);
    let mut order: Vec<usize> = Vec::with_capacity(n);
    let mut phases: Vec<Phase> = Vec::new();
    let mut done = vec![false; n];
    let mut pending: Vec<usize> = (0..n).collect();
    let mut gain = 0.0;
    while !pending.is_empty() {
        let ready = |k: &usize| needs[*k].iter().all(|&before| done[before]);
        let ready: Vec<usize> = pending.iter().take(WINDOW).copied().filter(ready).collect();
        let sum = |of: &[usize]| of.iter().map(|&k| work[k].nanoseconds).sum::<f64>();
        let small: Vec<usize> = ready.iter().copied().filter(|&k| work[k].nanoseconds < SMALL).collect();
        let together = !pays || sum(&ready) >= WORTH && (small.is_empty() || sum(&small) >= WORTH);
        let run = if together {
            ready
        } else if small.is_empty() {
            ready[..1].to_vec()
        } else {
            small
        };
        if together {
            gain += sum(&run) - share(&run, work, threads).busiest - 2.0 * MEETING;
        }
        let begin = order.len();
        order.extend(&run);
        for &k in &run {
            done[k] = true;
        }
        pending.retain(|&k| !done[k]);
        match phases.last_mut() {
            Some(last) if !last.together && !together => last.kernels.end = order.len(),
            _ => phases.push(Phase { kernels: begin..order.len(), together }),
        }
    }
    if pays && gain < CALL { alone() } else { (order, phases) }
}

/// Who runs what of a phase's kernels: for each kernel and thread a range of its units.
pub struct Shares {
    /// For each kernel of the phase, for each thread.
    pub parts: Vec<Vec<Range<usize>>>,
    /// The time of the busiest thread, in nanoseconds.
    pub busiest: f64,
}

/// Shares a phase out. Neighbouring kernels go to one thread where that is as even, because neighbouring memory then
/// does: a core that reads ahead past the end of its own arrays takes the next one's lines away from another.
pub fn share(kernels: &[usize], work: &[Work], threads: usize) -> Shares {
    let (even, runs) = (share_evenly(kernels, work, threads), share_in_runs(kernels, work, threads));
    if runs.busiest <= even.busiest * 1.02 { runs } else { even }
}

/// Each kernel so that all threads are as far as each other as its parts allow, the coarsest first.
fn share_evenly(kernels: &[usize], work: &[Work], threads: usize) -> Shares {
    let mut loads = vec![0.0; threads];
    let mut parts = vec![vec![0..0; threads]; kernels.len()];
    let mut coarsest: Vec<usize> = (0..kernels.len()).collect();
    coarsest.sort_by(|&x, &y| work[kernels[y]].unit().total_cmp(&work[kernels[x]].unit()));
    for i in coarsest {
        let Work { nanoseconds, units } = work[kernels[i]];
        let unit = work[kernels[i]].unit();
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
    Shares { parts, busiest: loads.into_iter().fold(0.0, f64::max) }
}

/// What divides finely into equal parts, the rest one after the other to one thread after the other.
fn share_in_runs(kernels: &[usize], work: &[Work], threads: usize) -> Shares {
    let mut loads = vec![0.0; threads];
    let mut parts = vec![vec![0..0; threads]; kernels.len()];
    let is_fine = |i: usize| work[kernels[i]].units >= 8 * threads;
    let rest: f64 = (0..kernels.len()).filter(|&i| !is_fine(i)).map(|i| work[kernels[i]].nanoseconds).sum();
    let mut before = 0.0;
    for (i, parts) in parts.iter_mut().enumerate() {
        let Work { nanoseconds, units } = work[kernels[i]];
        // Where thread `t` begins: at an equal share of the kernel, or of all of the rest.
        let cut = |t: usize| {
            let at = t as f64 / threads as f64;
            let at = if is_fine(i) { at } else { (at * rest - before) / nanoseconds };
            ((at.clamp(0.0, 1.0) * units as f64).round() as usize).min(units)
        };
        for (thread, part) in parts.iter_mut().enumerate() {
            let end = if thread + 1 == threads { units } else { cut(thread + 1) };
            *part = if thread == 0 { 0 } else { cut(thread) }..end;
            loads[thread] += part.len() as f64 * work[kernels[i]].unit();
        }
        before += if is_fine(i) { 0.0 } else { nanoseconds };
    }
    Shares { parts, busiest: loads.into_iter().fold(0.0, f64::max) }
}

/// For each kernel those that must have run before it.
fn dependences(kernels: &Kernels, donated: &[bool]) -> Vec<SmallVec<[usize; 4]>> {
    let mut writers: HashMap<BufferId, SmallVec<[usize; 2]>> = HashMap::new();
    let mut readers: HashMap<BufferId, SmallVec<[usize; 4]>> = HashMap::new();
    // A result that may be written over the input it comes from must wait for all that reads that input.
    let mut param = HashMap::new();
    for (b, buffer) in kernels.buffers.iter().enumerate() {
        if let Source::Param(i) = buffer.source {
            param.insert(i, BufferId(b as u32));
        }
    }
    let mut over: HashMap<BufferId, BufferId> = HashMap::new();
    for (o, output) in kernels.outputs.iter().enumerate() {
        if let (Output::Computed(b, _), Some(true), Some(&input)) = (output, donated.get(o), param.get(&o)) {
            over.insert(*b, input);
        }
    }
    let mut needs = Vec::with_capacity(kernels.kernels.len());
    for (k, kernel) in kernels.kernels.iter().enumerate() {
        let mut before: SmallVec<[usize; 4]> = SmallVec::new();
        let (reads, writes) = (kernel.reads(), kernel.writes());
        for buffer in reads.iter().chain(&writes) {
            before.extend(writers.get(buffer).into_iter().flatten().copied());
        }
        for buffer in &writes {
            let input = over.get(buffer).and_then(|input| readers.get(input));
            before.extend(input.into_iter().flatten().copied());
            writers.entry(*buffer).or_default().push(k);
        }
        for buffer in reads {
            readers.entry(buffer).or_default().push(k);
        }
        before.sort_unstable();
        before.dedup();
        before.retain(|before| *before != k);
        needs.push(before);
    }
    needs
}

/// What there is of each kernel, in the order of [`arrange`].
pub(crate) fn in_order<T>(items: Vec<T>, order: &[usize]) -> Vec<T> {
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    order.iter().map(|&k| items[k].take().expect("each kernel once")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_shared_out_evenly() {
        let work = |nanoseconds: f64, units: usize| Work { nanoseconds, units };
        let all = [work(9_000.0, 3), work(4_000.0, 100), work(3_000.0, 1)];
        for threads in [1, 2, 3, 7] {
            for Shares { parts, .. } in
                [share_evenly(&[0, 1, 2], &all, threads), share_in_runs(&[0, 1, 2], &all, threads)]
            {
                for (part, work) in parts.iter().zip(&all) {
                    assert_eq!(part.len(), threads);
                    assert_eq!((part[0].start, part[threads - 1].end), (0, work.units), "everything is run");
                    assert!(part.windows(2).all(|w| w[0].end == w[1].start), "and nothing twice");
                }
            }
            let busiest = share(&[0, 1, 2], &all, threads).busiest;
            assert!(busiest >= 16_000.0 / threads as f64 - 1.0);
            if threads == 2 {
                assert!(busiest < 8_100.0, "{busiest}");
            }
        }
    }
}
