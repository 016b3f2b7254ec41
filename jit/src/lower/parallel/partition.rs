//! The partition of a phase between threads.
//!
//! Comes in: the work of each group. Goes out: for each group and thread a range of chunks. Which groups make a phase
//! is decided in the parent module.

use std::ops::Range;

use super::Work;

/// The partition of a phase: for each group and thread a range of chunks.
pub struct Partition {
    /// The range of each thread, for each group of the phase.
    pub parts: Vec<Vec<Range<usize>>>,
    /// The time of the busiest thread, in nanoseconds.
    pub busiest: f64,
}

/// Partitions the groups of a phase by their work. Adjacent groups go to the same thread where that is as balanced:
/// then adjacent memory does too, and the hardware prefetcher of one core takes fewer cache lines from another.
pub fn partition(work: &[Work], threads: usize) -> Partition {
    let (even, runs) = (partition_evenly(work, threads), partition_in_runs(work, threads));
    if runs.busiest <= even.busiest * 1.02 { runs } else { even }
}

/// Balances the threads group by group, as well as chunks allow. Groups of the largest chunks come first.
fn partition_evenly(work: &[Work], threads: usize) -> Partition {
    let mut loads = vec![0.0; threads];
    let mut parts = vec![vec![0..0; threads]; work.len()];
    let mut coarsest: Vec<usize> = (0..work.len()).collect();
    coarsest.sort_by(|&x, &y| work[y].chunk().total_cmp(&work[x].chunk()));
    for i in coarsest {
        let Work { nanoseconds, chunks, .. } = work[i];
        let chunk = work[i].chunk();
        let level = (loads.iter().sum::<f64>() + nanoseconds) / threads as f64;
        let mut counts: Vec<usize> = loads.iter().map(|load| ((level - load) / chunk).max(0.0) as usize).collect();
        let mut given: usize = counts.iter().sum();
        while given > chunks {
            let most = (0..threads).max_by_key(|&t| counts[t]).expect("there are threads");
            counts[most] -= 1;
            given -= 1;
        }
        while given < chunks {
            let ahead = |t: &usize| loads[*t] + counts[*t] as f64 * chunk;
            let least = (0..threads).min_by(|x, y| ahead(x).total_cmp(&ahead(y))).expect("there are threads");
            counts[least] += 1;
            given += 1;
        }
        let mut begin = 0;
        for (thread, count) in counts.into_iter().enumerate() {
            parts[i][thread] = begin..begin + count;
            begin += count;
            loads[thread] += count as f64 * chunk;
        }
    }
    Partition { parts, busiest: loads.into_iter().fold(0.0, f64::max) }
}

/// Groups of many chunks are divided equally between all threads. The others are laid end to end and cut into one run
/// per thread.
fn partition_in_runs(work: &[Work], threads: usize) -> Partition {
    let mut loads = vec![0.0; threads];
    let mut parts = vec![vec![0..0; threads]; work.len()];
    let has_many = |i: usize| work[i].chunks >= 8 * threads;
    let rest: f64 = (0..work.len()).filter(|&i| !has_many(i)).map(|i| work[i].nanoseconds).sum();
    let mut before = 0.0;
    for (i, parts) in parts.iter_mut().enumerate() {
        let Work { nanoseconds, chunks, .. } = work[i];
        // The first chunk of thread `t`: by an equal division of the kernel, or of the run of the others.
        let cut = |t: usize| {
            let at = t as f64 / threads as f64;
            let at = if has_many(i) { at } else { (at * rest - before) / nanoseconds };
            ((at.clamp(0.0, 1.0) * chunks as f64).round() as usize).min(chunks)
        };
        for (thread, part) in parts.iter_mut().enumerate() {
            let end = if thread + 1 == threads { chunks } else { cut(thread + 1) };
            *part = if thread == 0 { 0 } else { cut(thread) }..end;
            loads[thread] += part.len() as f64 * work[i].chunk();
        }
        before += if has_many(i) { 0.0 } else { nanoseconds };
    }
    Partition { parts, busiest: loads.into_iter().fold(0.0, f64::max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_balanced() {
        let work = |nanoseconds: f64, chunks: usize| Work { nanoseconds, chunks, collective: false };
        let all = [work(9_000.0, 3), work(4_000.0, 100), work(3_000.0, 1)];
        for threads in [1, 2, 3, 7] {
            for Partition { parts, .. } in [partition_evenly(&all, threads), partition_in_runs(&all, threads)] {
                for (part, work) in parts.iter().zip(&all) {
                    assert_eq!(part.len(), threads);
                    assert_eq!((part[0].start, part[threads - 1].end), (0, work.chunks), "every chunk is run");
                    assert!(part.windows(2).all(|w| w[0].end == w[1].start), "no chunk is run twice");
                }
            }
            let busiest = partition(&all, threads).busiest;
            assert!(busiest >= 16_000.0 / threads as f64 - 1.0);
            if threads == 2 {
                assert!(busiest < 8_100.0, "{busiest}");
            }
        }
    }
}
