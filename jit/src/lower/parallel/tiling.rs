//! Chains: kernels that need each other and still run between two meetings of the threads, because every thread runs all
//! of them for a slice of its own, the same samples of a batch for instance, and no slice needs another's results.
//!
//! Comes in: kernels, what each needs, and how each can be sliced. Goes out: which of them make a chain, and in how many
//! slices. A chain saves meetings; and where its data is larger than a cache, slice after slice goes through all its
//! kernels while it is near.

use smallvec::SmallVec;

use super::{BARRIER, CACHE_TRANSFER, PROFITABLE, Parallelism, Work};
use crate::fuse::{BufferId, Kernel, Kernels};

/// The most kernels in a chain: what waits for it to end, and the memory that this holds, are as large as it is long.
const LONGEST: usize = 8;

/// Bytes that a kernel should touch in a slice: half of a small second-level cache.
const SLICE_BYTES: usize = 512 << 10;

/// Rows that a product of a slice should have, at least, and in all slices together.
const PRODUCT_ROWS: usize = 32;
const SLICED_ROWS: usize = 128;

/// Bytes of a second operand that all slices of a product read, at most.
const SHARED_BYTES: usize = 512 << 10;

/// How much longer than all threads on average the busiest may work because of one more kernel in a chain; and from
/// when on what need not be in it is better divided by itself.
const MOST_IDLE: f64 = 1.25;
const LITTLE_IDLE: f64 = 1.1;

/// How a kernel can be cut into slices, equal parts of its work that go with equal parts of its buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Into how many; and into any divisor of it.
    pub slices: usize,
    /// Into how many at most.
    pub most: usize,
    /// The buffers of which a slice reads more than its own part.
    pub whole: SmallVec<[BufferId; 4]>,
}

impl Tiling {
    /// How kernel `k` can be sliced along its outermost axis. `parallel` is the dimension along which a loop kernel is
    /// divided, and how many of its iterations stay together.
    pub fn of(kernels: &Kernels, k: usize, parallel: Option<(usize, usize)>) -> Option<Tiling> {
        let elements = |b: BufferId| kernels.buffers[b.index()].ty.elements() as isize;
        let mut whole: SmallVec<[BufferId; 4]> = SmallVec::new();
        let (slices, most) = match &kernels.kernels[k] {
            Kernel::Loop(kernel) => {
                let (0, grain) = parallel? else { return None };
                let extents = kernel.extents();
                let is_sliced =
                    |b: BufferId, offset: isize, strides: &[isize]| is_sliced(elements(b), offset, strides, &extents);
                if !kernel.stores.iter().all(|s| is_sliced(s.buffer, s.index.offset, &s.index.strides)) {
                    return None;
                }
                whole.extend(kernel.loads().filter(|(b, i)| !is_sliced(*b, i.offset, &i.strides)).map(|(b, _)| b));
                (extents[0].is_multiple_of(grain).then_some(extents[0] / grain)?, usize::MAX)
            }
            Kernel::Gemm(g) => {
                let [batch, m, n, depth] = g.extents;
                let ((a, a_at, [a_b, a_m, a_k]), (b, b_at, [b_b, b_k, b_n])) = (g.a, g.b);
                if batch > 1 {
                    if !is_sliced(elements(a), a_at, &[a_b, a_m, a_k], &[batch, m, depth]) {
                        whole.push(a);
                    }
                    if !is_sliced(elements(b), b_at, &[b_b, b_k, b_n], &[batch, depth, n]) {
                        whole.push(b);
                    }
                    (batch, usize::MAX)
                } else {
                    let large = n * depth * g.dtype.size() > SHARED_BYTES;
                    if large || m < SLICED_ROWS || !is_sliced(elements(a), a_at, &[a_m, a_k], &[m, depth]) {
                        return None;
                    }
                    whole.push(b);
                    (m, m / PRODUCT_ROWS)
                }
            }
        };
        (slices > 1).then_some(Tiling { slices, most, whole })
    }
}

/// Do equal parts of the outermost loop go with equal parts of a buffer of so many elements?
fn is_sliced(elements: isize, offset: isize, strides: &[isize], extents: &[usize]) -> bool {
    let reach = strides[1..].iter().zip(&extents[1..]).map(|(stride, &extent)| stride * (extent as isize - 1).max(0));
    let (below, above) = reach.fold((offset, offset), |(low, high), r| (low + r.min(0), high + r.max(0)));
    strides[0] * extents[0] as isize == elements && below >= 0 && above < strides[0]
}

/// A chain.
pub(super) struct Chain {
    /// Its kernels, in order.
    pub(super) kernels: Vec<usize>,
    /// Into how many slices each is cut.
    pub(super) slices: usize,
    /// How many slices go through the chain at once.
    pub(super) step: usize,
}

/// What there is to make chains of.
pub(super) struct TilingCx<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) work: &'a [Work],
    pub(super) tiling: &'a [Option<Tiling>],
    /// For each kernel those that must have run before it.
    pub(super) needs: &'a [SmallVec<[usize; 4]>],
    /// For each kernel those of them that must have because it overwrites what they read.
    pub(super) overwritten: &'a [SmallVec<[usize; 4]>],
    pub(super) threads: usize,
    pub(super) parallelism: Parallelism,
}

impl TilingCx<'_> {
    /// The chain that begins with kernel `first`, if that is worth it. `waiting` are the kernels that have not run, in
    /// order; whether others have, `done` says.
    pub(super) fn chain(&self, first: usize, waiting: &[usize], done: &[bool]) -> Option<Chain> {
        let &Tiling { mut slices, mut most, .. } = self.tiling[first].as_ref()?;
        let mut idle = self.least_idle(slices, most)?;
        let mut members = vec![first];
        for &k in waiting.iter().filter(|&&k| k > first) {
            let Some(tiling) = &self.tiling[k] else { continue };
            if !self.needs[k].iter().any(|k| members.contains(k)) {
                continue;
            }
            let (inside, outside): (Vec<usize>, Vec<usize>) = self.needs[k].iter().partition(|k| members.contains(k));
            if !outside.iter().all(|&k| done[k]) || !self.slice_by_slice(k, tiling, &inside) {
                continue;
            }
            let (fewer, most_of_both) = (gcd(slices, tiling.slices), most.min(tiling.most));
            if let Some(of_both) = self.least_idle(fewer, most_of_both).filter(|&i| i <= idle.max(MOST_IDLE)) {
                (slices, most, idle) = (fewer, most_of_both, of_both);
                members.push(k);
            }
            if members.len() == LONGEST {
                break;
            }
        }
        if idle > LITTLE_IDLE {
            self.drop_ends(&mut members);
        }
        let depth = self.depths(&members).into_iter().max()?;
        let sum: f64 = members.iter().map(|&k| self.work[k].nanoseconds).sum();
        let saved = (depth - 1) as f64 * (BARRIER + CACHE_TRANSFER);
        let lost = sum * (idle - 1.0) / self.threads as f64;
        let pays = self.parallelism == Parallelism::Always || sum >= PROFITABLE && saved > lost;
        let bytes = members.iter().map(|&k| self.kernels.bytes_moved(k)).max()?;
        let slices = self.cut(slices, most, idle, bytes)?;
        let step = if bytes > SLICE_BYTES * self.threads { 1 } else { slices };
        (depth > 1 && pays).then_some(Chain { kernels: members, slices, step })
    }

    /// Does a slice of `k` need no more than the same slice of `before`, and overwrite nothing that they read?
    fn slice_by_slice(&self, k: usize, tiling: &Tiling, before: &[usize]) -> bool {
        let kernel = &self.kernels.kernels[k];
        before.iter().all(|&before| {
            let written = self.kernels.kernels[before].writes();
            let is_written = |b: &BufferId| written.contains(b);
            kernel.reads().iter().any(is_written)
                && !kernel.writes().iter().any(is_written)
                && !tiling.whole.iter().any(is_written)
                && !self.overwritten[k].contains(&before)
        })
    }

    /// What ends before the chain does, and divides evenly by itself, need not be divided as unevenly as the chain.
    fn drop_ends(&self, members: &mut Vec<usize>) {
        let depths = self.depths(members);
        let most = depths.iter().max().copied().unwrap_or(0);
        let all = members.clone();
        let is_needed = |k: usize| all.iter().any(|&user| self.needs[user].contains(&k));
        let mut depth = depths.iter();
        members.retain(|&k| {
            let is_last = depth.next() == Some(&most);
            is_last || is_needed(k) || self.work[k].units < 8 * self.threads
        });
    }

    /// How many members one after the other lead to each member.
    fn depths(&self, members: &[usize]) -> Vec<usize> {
        let mut depths: Vec<usize> = Vec::with_capacity(members.len());
        for &k in members {
            let before = members.iter().zip(&depths).filter(|(before, _)| self.needs[k].contains(before));
            depths.push(1 + before.map(|(_, &depth)| depth).max().unwrap_or(0));
        }
        depths
    }

    /// How much longer than all threads on average the busiest works, when so many slices are divided between them.
    fn idle(&self, slices: usize) -> f64 {
        (slices.div_ceil(self.threads) * self.threads) as f64 / slices as f64
    }

    /// That for the number of slices that divides best.
    fn least_idle(&self, slices: usize, most: usize) -> Option<f64> {
        divisors(slices, most).map(|count| self.idle(count)).min_by(f64::total_cmp)
    }

    /// Into how many slices to cut: as few as divide well, which is like `least`, and touch few bytes at a time.
    fn cut(&self, slices: usize, most: usize, least: f64, bytes: usize) -> Option<usize> {
        let even: Vec<usize> = divisors(slices, most).filter(|&count| self.idle(count) <= least * 1.02).collect();
        even.iter().copied().find(|count| bytes / count <= SLICE_BYTES).or(even.last().copied())
    }
}

/// The divisors from 2 to `most` (which need not be many more than there are threads), ascending.
fn divisors(n: usize, most: usize) -> impl Iterator<Item = usize> {
    (2..=n.min(most).min(512)).filter(move |&c| n.is_multiple_of(c))
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_parts_of_a_loop_go_with_equal_parts_of_a_buffer() {
        // Row-major over [4, 3, 5], all of it or within the rows.
        assert!(is_sliced(60, 0, &[15, 5, 1], &[4, 3, 5]));
        assert!(is_sliced(60, 2, &[15, 5, 0], &[4, 3, 5]));
        assert!(is_sliced(60, 14, &[15, -5, -1], &[4, 3, 5]), "backwards within a row");
        // Of the next row, of all rows, of a part of the buffer, in another order.
        assert!(!is_sliced(60, 1, &[15, 5, 1], &[4, 3, 5]));
        assert!(!is_sliced(60, 0, &[0, 5, 1], &[4, 3, 5]));
        assert!(!is_sliced(120, 0, &[15, 5, 1], &[4, 3, 5]));
        assert!(!is_sliced(60, 0, &[1, 20, 4], &[4, 3, 5]));
    }

    #[test]
    fn divisors_ascend_up_to_the_most() {
        assert_eq!(divisors(12, usize::MAX).collect::<Vec<_>>(), [2, 3, 4, 6, 12]);
        assert_eq!(divisors(12, 4).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(gcd(3136, 4096), 64);
    }
}
