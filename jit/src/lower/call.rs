//! Calls of kernels: which code, with which buffers, for which part of the work.

use std::ops::Range;

use super::Module;
use super::gemm::Gemm;
use super::loops::Loops;
use super::machine::{Cost, Isa};
use super::parallel::{Group, Phase, Work, partition};
use super::region::Region;
use crate::fuse::{BufferId, GemmKernel, Routine, Segment};
use crate::types::DType;

/// A call of a kernel: its code and its arguments.
#[derive(Clone, Debug)]
pub enum Call {
    /// A loop nest.
    Loop {
        /// The index of the loops.
        code: usize,
        /// The buffers.
        args: Vec<BufferId>,
        /// If not empty, the code is called for each, with its buffers instead of `args`. Its chunks follow those of
        /// the one before.
        segments: Vec<Segment>,
    },
    /// A matrix product; the buffers of its operands and its result, each with a byte offset.
    Gemm {
        /// The plan.
        gemm: Box<Gemm>,
        /// f32 or f64.
        dtype: DType,
        /// The buffers and byte offsets of A, B and C.
        args: [(BufferId, i64); 3],
    },
    /// A routine.
    Routine {
        /// What is computed.
        routine: Box<Routine>,
        /// The operands, then the results.
        args: Vec<BufferId>,
    },
    /// A region.
    Region(Box<Region>),
}

impl Call {
    pub(crate) fn work(&self, loops: &[Loops], cost: &Cost) -> Work {
        let nanoseconds = match self {
            Call::Loop { code, segments, .. } => {
                let nest = &loops[*code];
                // How often the code's own number of iterations is run.
                let runs = self.chunks(loops) as f64 / nest.chunks() as f64;
                segments.len().max(1) as f64 * cost.call + runs * nest.instructions() as f64 * cost.instruction
            }
            Call::Gemm { gemm, .. } => cost.product + gemm.flops() as f64 * cost.flop,
            Call::Routine { routine, .. } => cost.product + routine.operations() as f64 * cost.scalar,
            Call::Region(region) => region.module.nanoseconds * region.control.trips() as f64,
        };
        Work { nanoseconds, chunks: self.chunks(loops), collective: self.collective().is_some() }
    }

    /// The region, if all threads run it together: one that has parallel phases. Any other runs on one thread.
    pub(crate) fn collective(&self) -> Option<&Region> {
        match self {
            Call::Region(region) if region.module.is_parallel() => Some(region),
            Call::Region(_) | Call::Loop { .. } | Call::Gemm { .. } | Call::Routine { .. } => None,
        }
    }

    /// Bytes of memory that it uses besides its buffers, common to all threads.
    pub(crate) fn workspace(&self) -> usize {
        match self {
            Call::Region(region) => region.workspace,
            Call::Loop { .. } | Call::Gemm { .. } | Call::Routine { .. } => 0,
        }
    }

    /// The number of chunks that the work divides into.
    pub(crate) fn chunks(&self, loops: &[Loops]) -> usize {
        match self {
            Call::Loop { code, segments, .. } if segments.is_empty() => loops[*code].chunks(),
            Call::Loop { code, segments, .. } => segments.iter().map(|s| loops[*code].segment_chunks(s)).sum(),
            Call::Gemm { gemm, .. } => gemm.tasks(),
            Call::Routine { routine, .. } => routine.tasks(),
            Call::Region(_) => 1,
        }
    }

    /// The dimension of the parallel loop and its grain.
    pub(crate) fn outermost(&self, loops: &[Loops]) -> Option<(usize, usize)> {
        match self {
            Call::Loop { code, .. } => loops[*code].parallel.map(|parallel| (parallel.dim, parallel.grain)),
            Call::Gemm { .. } | Call::Routine { .. } | Call::Region(_) => None,
        }
    }

    pub(crate) fn scratch(&self, loops: &[Loops]) -> usize {
        match self {
            Call::Loop { code, .. } => loops[*code].scratch,
            Call::Gemm { gemm, .. } => gemm.scratch_bytes(),
            Call::Routine { routine, .. } => routine.scratch_bytes(),
            Call::Region(region) => region.module.scratch,
        }
    }

    /// A range of chunks as the begin and end that the code is called with; the chunks themselves where there are
    /// segments.
    pub(crate) fn range(&self, loops: &[Loops], chunks: Range<usize>) -> [usize; 2] {
        match self {
            Call::Loop { code, segments, .. } => match loops[*code].parallel.filter(|_| segments.is_empty()) {
                Some(p) => [(chunks.start * p.grain).min(p.extent), (chunks.end * p.grain).min(p.extent)],
                None => [chunks.start, chunks.end],
            },
            Call::Gemm { .. } | Call::Routine { .. } | Call::Region(_) => [chunks.start, chunks.end],
        }
    }

    /// The begin and end of all chunks.
    pub(crate) fn full_range(&self, loops: &[Loops]) -> [usize; 2] {
        self.range(loops, 0..self.chunks(loops))
    }
}

/// The work ranges of each thread, as [`Launch::ranges`].
pub(crate) fn work_ranges(
    threads: usize,
    phases: &[Phase],
    calls: &[Call],
    work: &[Work],
    loops: &[Loops],
) -> Vec<Vec<usize>> {
    let mut words = vec![Vec::new(); threads];
    for phase in phases {
        if phase.parallel {
            let all: Vec<Work> = phase.groups.iter().map(|group| group.work(work)).collect();
            for (group, parts) in phase.groups.iter().zip(partition(&all, threads).parts) {
                if let Some(region) = calls[group.kernels.start].collective() {
                    let Module { ranges, serial_ranges, .. } = &region.module;
                    for (thread, words) in words.iter_mut().enumerate() {
                        words.extend(if threads == 1 { serial_ranges } else { &ranges[thread] });
                    }
                    continue;
                }
                for (words, chunks) in words.iter_mut().zip(parts) {
                    words.extend(match group.tiles {
                        Some(_) => [chunks.start, chunks.end],
                        None => calls[group.kernels.start].range(loops, chunks),
                    });
                }
            }
        } else {
            for (thread, words) in words.iter_mut().enumerate() {
                words.push(usize::from(thread == 0));
            }
        }
    }
    words
}

/// The number of words of a group of a parallel phase in each thread's work ranges.
pub(crate) fn group_words(group: &Group, calls: &[Call]) -> usize {
    calls[group.kernels.start].collective().map_or(2, |region| region.module.serial_ranges.len())
}

/// The plan of a matrix product. A product that is tiled along its rows becomes a batch, since a batch divides into
/// tasks evenly.
pub(super) fn plan_gemm(g: &GemmKernel, isa: Isa, tiles: Option<usize>) -> Gemm {
    let [mut batch, mut m, n, k] = g.extents;
    let mut a = g.a.2;
    if let Some(tiles) = tiles.filter(|_| batch == 1) {
        (batch, m) = (tiles, m / tiles);
        a[0] = a[1] * m as isize;
    }
    let b = if g.extents[0] == 1 { [0, g.b.2[1], g.b.2[2]] } else { g.b.2 };
    let mut c = g.c.2;
    if batch != g.extents[0] {
        c[0] = c[1] * m as isize;
    }
    let collapse = tiles.is_none() && g.levels.0.is_empty();
    Gemm::new(batch, m, n, k, a, b, c, &g.taps, g.dtype.size(), isa, collapse).over(&g.levels)
}
