//! Tiled groups: kernels that depend on each other and run in one phase, tile by tile (tile-and-fuse, `compute_at` in
//! Halide). A tile is a range of the outermost axis, the samples of a batch for instance, and no tile of a kernel needs
//! another tile of an earlier kernel of its group. So a thread runs all kernels for its tiles without a barrier.
//!
//! Comes in: kernels, their dependences, and how each can be tiled. Goes out: the kernels of a group and the number of
//! tiles. A tiled group saves barriers; where its data exceeds the caches, a tile stays in cache from kernel to kernel.

use smallvec::SmallVec;

use super::super::machine::{Machine, Parallelism};
use super::{Tiles, Work};
use crate::fuse::{Affine, BufferId, Kernel, Kernels};
use crate::types::gcd;

/// The most kernels in a group. The kernels that wait for its end, and the memory that it holds, grow with its length.
const LONGEST: usize = 8;

/// The fewest rows of a matrix product in one tile, and in all tiles together.
const MIN_TILE_ROWS: usize = 32;
const MIN_ROWS: usize = 128;

/// The imbalance of a group is the time of the busiest thread over the average. The most that one more kernel may
/// cause; and from where on kernels that the group can do without are partitioned on their own.
const MAX_IMBALANCE: f64 = 1.25;
const LOW_IMBALANCE: f64 = 1.1;

/// How a kernel can be tiled: into equal ranges of its work, each of which reads and writes the same range of its
/// buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// The finest tiling; its divisors are possible too.
    pub tiles: usize,
    /// The most tiles that are profitable.
    pub max: usize,
    /// The broadcast operands: buffers that every tile reads in full or beyond its own range.
    pub broadcast: SmallVec<[BufferId; 4]>,
}

impl Tiling {
    /// The tiling of kernel `k` along its outermost axis. `parallel` is the dimension and the grain of the parallel
    /// loop of a loop kernel.
    pub fn of(kernels: &Kernels, k: usize, parallel: Option<(usize, usize)>, l2: usize) -> Option<Tiling> {
        let elements = |b: BufferId| kernels.buffers[b.index()].ty.elements() as isize;
        let mut broadcast: SmallVec<[BufferId; 4]> = SmallVec::new();
        let (tiles, max) = match &kernels.kernels[k] {
            Kernel::Loop(kernel) => {
                let (0, grain) = parallel? else { return None };
                let extents = kernel.extents();
                let is_tiled =
                    |b: BufferId, offset: isize, strides: &[isize]| is_tiled(elements(b), offset, strides, &extents);
                let is_one = kernel.segments.is_empty() && !kernel.serial;
                if !is_one || !kernel.stores.iter().all(|s| is_tiled(s.buffer, s.index.offset, &s.index.strides)) {
                    return None;
                }
                let is_broadcast = |(b, index): &(BufferId, Option<&Affine>)| {
                    index.is_none_or(|index| !is_tiled(*b, index.offset, &index.strides))
                };
                broadcast.extend(kernel.loads().filter(is_broadcast).map(|(b, _)| b));
                (extents[0].is_multiple_of(grain).then_some(extents[0] / grain)?, usize::MAX)
            }
            Kernel::Routine(_) | Kernel::Region(_) => return None,
            Kernel::Gemm(g) => {
                let [batch, m, n, depth] = g.extents;
                if !g.fills(elements(g.c.0) as usize) {
                    return None;
                }
                let ((a, a_at, [a_b, a_m, a_k]), (b, b_at, [b_b, b_k, b_n])) = (g.a, g.b);
                let a_is_tiled = |strides: &[isize], extents: &[usize]| {
                    g.taps.iter().all(|tap| is_tiled(elements(a), a_at + tap.a, strides, extents))
                };
                let b_is_tiled = |strides: &[isize], extents: &[usize]| {
                    g.taps.iter().all(|tap| is_tiled(elements(b), b_at + tap.b, strides, extents))
                };
                if !g.levels.0.is_empty() {
                    broadcast.extend([a, b]);
                    (batch, usize::MAX)
                } else if batch > 1 {
                    if !a_is_tiled(&[a_b, a_m, a_k], &[batch, m, depth]) {
                        broadcast.push(a);
                    }
                    if !b_is_tiled(&[b_b, b_k, b_n], &[batch, depth, n]) {
                        broadcast.push(b);
                    }
                    (batch, usize::MAX)
                } else {
                    let large = n * depth * g.dtype.size() > l2;
                    if large || m < MIN_ROWS || !a_is_tiled(&[a_m, a_k], &[m, depth]) {
                        return None;
                    }
                    broadcast.push(b);
                    (m, m / MIN_TILE_ROWS)
                }
            }
        };
        (tiles > 1).then_some(Tiling { tiles, max, broadcast })
    }
}

/// Whether equal ranges of the outermost loop access equal ranges of a buffer of `elements` elements.
fn is_tiled(elements: isize, offset: isize, strides: &[isize], extents: &[usize]) -> bool {
    let reach = strides[1..].iter().zip(&extents[1..]).map(|(stride, &extent)| stride * (extent as isize - 1).max(0));
    let (below, above) = reach.fold((offset, offset), |(low, high), r| (low + r.min(0), high + r.max(0)));
    strides[0] * extents[0] as isize == elements && below >= 0 && above < strides[0]
}

/// Kernels that run tile by tile.
pub(super) struct TiledGroup {
    /// The kernels, in order.
    pub(super) kernels: Vec<usize>,
    /// The tile loop.
    pub(super) tiles: Tiles,
}

/// The inputs of the search for tiled groups.
pub(super) struct TilingCx<'a> {
    pub(super) kernels: &'a Kernels,
    pub(super) work: &'a [Work],
    pub(super) tiling: &'a [Option<Tiling>],
    /// For each kernel the kernels that must run before it.
    pub(super) needs: &'a [SmallVec<[usize; 4]>],
    /// For each kernel those of them that read memory that it overwrites.
    pub(super) overwritten: &'a [SmallVec<[usize; 4]>],
    pub(super) machine: &'a Machine,
}

impl TilingCx<'_> {
    /// The profitable group that begins with kernel `first`, if any. `waiting` are the kernels that are not scheduled,
    /// in order; `done` marks the scheduled ones.
    pub(super) fn tiled_group(&self, first: usize, waiting: &[usize], done: &[bool]) -> Option<TiledGroup> {
        let &Tiling { mut tiles, mut max, .. } = self.tiling[first].as_ref()?;
        let mut imbalance = self.least_imbalance(tiles, max)?;
        let mut members = vec![first];
        for &k in waiting.iter().filter(|&&k| k > first) {
            let Some(tiling) = &self.tiling[k] else { continue };
            if !self.needs[k].iter().any(|k| members.contains(k)) {
                continue;
            }
            let (inside, outside): (Vec<usize>, Vec<usize>) = self.needs[k].iter().partition(|k| members.contains(k));
            if !outside.iter().all(|&k| done[k]) || !self.is_tile_local(k, tiling, &inside) {
                continue;
            }
            let (common, common_max) = (gcd(tiles, tiling.tiles), max.min(tiling.max));
            let limit = imbalance.max(MAX_IMBALANCE);
            if let Some(least) = self.least_imbalance(common, common_max).filter(|&least| least <= limit) {
                (tiles, max, imbalance) = (common, common_max, least);
                members.push(k);
            }
            if members.len() == LONGEST {
                break;
            }
        }
        if imbalance > LOW_IMBALANCE {
            self.drop_independent_tails(&mut members);
        }
        let depth = self.depths(&members).into_iter().max()?;
        let sum: f64 = members.iter().map(|&k| self.work[k].nanoseconds).sum();
        let saved = (depth - 1) as f64 * (self.machine.cost.barrier + self.machine.cost.cache_transfer);
        let lost = sum * (imbalance - 1.0) / self.machine.target.threads as f64;
        let is_profitable = self.machine.target.parallelism == Parallelism::Always
            || sum >= self.machine.cost.min_parallel && saved > lost;
        let bytes = members.iter().map(|&k| self.kernels.bytes_moved(k)).max()?;
        let count = self.tile_count(tiles, max, imbalance, bytes)?;
        let step = if bytes > self.machine.l2 * self.machine.target.threads { 1 } else { count };
        (depth > 1 && is_profitable).then_some(TiledGroup { kernels: members, tiles: Tiles { count, step } })
    }

    /// Whether a tile of `k` reads only the same tile of each kernel in `before`, and overwrites nothing that they
    /// read.
    fn is_tile_local(&self, k: usize, tiling: &Tiling, before: &[usize]) -> bool {
        let kernel = &self.kernels.kernels[k];
        before.iter().all(|&before| {
            let written = self.kernels.kernels[before].writes();
            let is_written = |b: &BufferId| written.contains(b);
            kernel.reads().iter().any(is_written)
                && !kernel.writes().iter().any(is_written)
                && !tiling.broadcast.iter().any(is_written)
                && !self.overwritten[k].contains(&before)
        })
    }

    /// Drops kernels that no member depends on, that end before the group does, and that divide into many chunks on
    /// their own: they need not inherit the imbalance of the group.
    fn drop_independent_tails(&self, members: &mut Vec<usize>) {
        let depths = self.depths(members);
        let most = depths.iter().max().copied().unwrap_or(0);
        let all = members.clone();
        let is_needed = |k: usize| all.iter().any(|&user| self.needs[user].contains(&k));
        let mut depth = depths.iter();
        members.retain(|&k| {
            let is_last = depth.next() == Some(&most);
            is_last || is_needed(k) || self.work[k].chunks < 8 * self.machine.target.threads
        });
    }

    /// The length of the longest path of dependences to each member.
    fn depths(&self, members: &[usize]) -> Vec<usize> {
        let mut depths: Vec<usize> = Vec::with_capacity(members.len());
        for &k in members {
            let before = members.iter().zip(&depths).filter(|(before, _)| self.needs[k].contains(before));
            depths.push(1 + before.map(|(_, &depth)| depth).max().unwrap_or(0));
        }
        depths
    }

    /// The imbalance of this number of tiles.
    fn imbalance(&self, tiles: usize) -> f64 {
        (tiles.div_ceil(self.machine.target.threads) * self.machine.target.threads) as f64 / tiles as f64
    }

    /// The imbalance of the best number of tiles.
    fn least_imbalance(&self, tiles: usize, max: usize) -> Option<f64> {
        divisors(tiles, max).map(|count| self.imbalance(count)).min_by(f64::total_cmp)
    }

    /// The number of tiles: the fewest whose imbalance is close to `least` and whose working set fits.
    fn tile_count(&self, tiles: usize, max: usize, least: f64, bytes: usize) -> Option<usize> {
        let even: Vec<usize> = divisors(tiles, max).filter(|&count| self.imbalance(count) <= least * 1.02).collect();
        even.iter().copied().find(|count| bytes / count <= self.machine.l2).or(even.last().copied())
    }
}

/// The divisors from 2 to `max`, ascending. Those above 512 are left out: it need not exceed the number of threads by
/// much.
fn divisors(n: usize, max: usize) -> impl Iterator<Item = usize> {
    (2..=n.min(max).min(512)).filter(move |&c| n.is_multiple_of(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ranges_of_a_loop_access_equal_ranges_of_a_buffer() {
        // Row-major over [4, 3, 5], in full or with an offset inside of the outermost axis.
        assert!(is_tiled(60, 0, &[15, 5, 1], &[4, 3, 5]));
        assert!(is_tiled(60, 2, &[15, 5, 0], &[4, 3, 5]));
        assert!(is_tiled(60, 14, &[15, -5, -1], &[4, 3, 5]), "backwards within a row");
        // Beyond the own range, broadcast, a part of the buffer, another order of axes.
        assert!(!is_tiled(60, 1, &[15, 5, 1], &[4, 3, 5]));
        assert!(!is_tiled(60, 0, &[0, 5, 1], &[4, 3, 5]));
        assert!(!is_tiled(120, 0, &[15, 5, 1], &[4, 3, 5]));
        assert!(!is_tiled(60, 0, &[1, 20, 4], &[4, 3, 5]));
    }

    #[test]
    fn divisors_ascend_up_to_the_maximum() {
        assert_eq!(divisors(12, usize::MAX).collect::<Vec<_>>(), [2, 3, 4, 6, 12]);
        assert_eq!(divisors(12, 4).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(gcd(3136, 4096), 64);
    }
}
