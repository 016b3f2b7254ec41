//! Bodies: kernels with what is known before they are launched.
//!
//! In: kernels. Out: what is emitted of each, its arguments, and where buffers lie. The body of a region is a body,
//! whose inputs, outputs and arena are bound by what is around it.

use hashbrown::{HashMap, HashSet};

use super::concurrent::Concurrent;
use super::emit::{Finish, Mma, Part, RowKernel};
use super::epilogue::next_follower;
use super::place::{MAX_INDEX, MemoryOf, Place, Target};
use crate::array::Array;
use crate::error::{Error, Result};
use crate::fuse::{
    BufferId, Control, GemmKernel, Kernel, Kernels, LoopKernel, Output, RegionKernel, RoutineKernel, Source,
};
use crate::lower::memory::{Location, Plan, plan};
use crate::lower::parallel::Phase;
use crate::lower::region::second_buffers;
use crate::types::product;

/// Kernels, and memory that is bound later.
pub(super) struct Body<'k> {
    pub(super) plan: Plan,
    /// What is emitted, in the order of the kernels. A kernel without rows is left out.
    pub(super) items: Vec<Item<'k>>,
    /// The constants of buffers, by their numbers among those of the module.
    constants: HashMap<BufferId, usize>,
}

/// A kernel.
pub(super) struct Item<'k> {
    /// Its number.
    pub(super) kernel: usize,
    pub(super) kind: Kind<'k>,
    /// Blocks of a launch of it alone.
    pub(super) blocks: u32,
    /// The number of its group: kernels of one group may run concurrently.
    pub(super) group: usize,
}

pub(super) enum Kind<'k> {
    /// A kernel, with its buffers and the bytes from where they begin.
    Single(Part<'k>, Vec<(BufferId, i64)>),
    /// Segments of a loop kernel, and whether their buffers are aligned.
    Segments(Vec<Segment>, bool),
    /// A loop around a body.
    Region(&'k RegionKernel, Box<Body<'k>>, Carry),
}

/// A segment of a loop kernel.
pub(super) struct Segment {
    /// The kernel with the extents of this segment.
    pub(super) kernel: LoopKernel,
    pub(super) buffers: Vec<BufferId>,
}

/// The memory of a region beside its operands and results.
pub(super) struct Carry {
    /// For each value of the carry the offset of its second buffer in the workspace; `None` if it is updated in
    /// place.
    pub(super) second: Vec<Option<usize>>,
    /// Bytes of the workspace: the arena of the body, then the second buffers.
    workspace: usize,
}

impl<'k> Body<'k> {
    /// The body of `kernels`; its constants are appended to those of the module. `is_aligned` says that every input and
    /// output begins at a multiple of 16 bytes.
    pub(super) fn new(
        kernels: &'k Kernels,
        donated: &[bool],
        is_aligned: bool,
        target: Target,
        constants: &mut Vec<Array>,
    ) -> Result<Self> {
        let mut items = Vec::new();
        let mut workspaces = vec![0; kernels.kernels.len()];
        let mut phases: Vec<Phase> = Vec::new();
        let mut concurrent = Concurrent::new(kernels, donated, target.multiprocessors);
        let mut followed = false;
        for (k, kernel) in kernels.kernels.iter().enumerate() {
            if std::mem::take(&mut followed) {
                continue;
            }
            let follower = next_follower(kernels, donated, k);
            followed = follower.is_some();
            let emitted = k..k + 1 + usize::from(followed);
            // What runs as one is simultaneous.
            phases.push(Phase { parallel: followed, ..Phase::serial(emitted.clone()) });
            let kind = match kernel {
                Kernel::Gemm(g) => {
                    let is_stored = !matches!(kernels.buffers[g.c.0.index()].source, Source::Passed);
                    let finish = Finish::new(g, is_stored, follower.as_ref(), is_aligned);
                    Kind::product(g, Mma::of(g, is_aligned, target), finish)
                }
                Kernel::Loop(kernel) => Kind::rows(kernel, is_aligned),
                Kernel::Routine(r) => Kind::routine(r),
                Kernel::Region(region) => Kind::region(region, is_aligned, target, constants),
            };
            let kind = kind.map_err(|e| e.context(format_args!("kernel k{k}")))?;
            let Some((kind, blocks)) = kind else {
                concurrent.end();
                continue;
            };
            check_index(&[blocks]).map_err(|e| e.context(format_args!("kernel k{k}")))?;
            workspaces[k] = match &kind {
                Kind::Single(part, _) => part.workspace(blocks),
                Kind::Segments(..) => 0,
                Kind::Region(_, _, carry) => carry.workspace,
            };
            match kind {
                Kind::Single(..) if concurrent.add(emitted, blocks) => {
                    let more = phases.pop().expect("it has just been added");
                    let phase = phases.last_mut().expect("that of the kernels before");
                    phase.parallel = true;
                    phase.groups.extend(more.groups);
                }
                Kind::Single(..) => {}
                Kind::Segments(..) | Kind::Region(..) => concurrent.end(),
            }
            items.push(Item { kernel: k, kind, blocks: blocks as u32, group: concurrent.number });
        }
        let plan = plan(kernels, donated, &phases, &workspaces);
        let mut numbers = HashMap::new();
        for (b, buffer) in kernels.buffers.iter().enumerate() {
            if let Source::Constant(array) = &buffer.source {
                numbers.insert(BufferId(b as u32), constants.len());
                constants.push(array.clone());
            }
        }
        Ok(Body { plan, items, constants: numbers })
    }

    /// Where a buffer lies.
    pub(super) fn place(&self, buffer: BufferId) -> Place {
        let (memory, offset) = match self.plan.locations[buffer.index()] {
            Location::Param(i) => (MemoryOf::Param(i), 0),
            Location::Output(o) => (MemoryOf::Output(o), 0),
            Location::Constant => (MemoryOf::Constant(self.constants[&buffer]), 0),
            Location::Arena(offset) => (MemoryOf::Arena, offset as i64),
        };
        Place { memory, offset }
    }

    /// Where the workspace of an item lies.
    pub(super) fn workspace(&self, item: &Item<'_>) -> Place {
        Place { memory: MemoryOf::Arena, offset: self.plan.workspaces[item.kernel] as i64 }
    }

    /// Adds the memory that an item accesses, and the constants of a loop.
    pub(super) fn memories(&self, item: &Item<'_>, memories: &mut HashSet<MemoryOf>) {
        memories.insert(MemoryOf::Arena);
        match &item.kind {
            Kind::Single(_, buffers) => memories.extend(buffers.iter().map(|(b, _)| self.place(*b).memory)),
            Kind::Segments(segments, _) => {
                let buffers = segments.iter().flat_map(|segment| &segment.buffers);
                memories.extend(buffers.map(|&b| self.place(b).memory));
            }
            Kind::Region(region, body, _) => {
                let buffers = region.operands.iter().chain(&region.results);
                memories.extend(buffers.map(|&b| self.place(b).memory));
                let mut inside = HashSet::new();
                body.items.iter().for_each(|item| body.memories(item, &mut inside));
                memories.extend(inside.into_iter().filter(|memory| matches!(memory, MemoryOf::Constant(_))));
            }
        }
    }

    /// The arguments of a kernel.
    pub(super) fn args(&self, item: &Item<'_>, part: &Part<'_>, buffers: &[(BufferId, i64)]) -> Vec<Place> {
        let mut args: Vec<Place> = buffers.iter().map(|&(b, offset)| self.place(b).plus(offset)).collect();
        if part.workspace(1) > 0 {
            args.push(self.workspace(item));
        }
        args
    }
}

/// What is emitted of a kernel, and the blocks of a launch; `None` if it has nothing to do.
type Emitted<'k> = Result<Option<(Kind<'k>, usize)>>;

impl<'k> Kind<'k> {
    fn single(part: Part<'k>, args: Vec<(BufferId, i64)>) -> Emitted<'k> {
        let blocks = part.blocks();
        Ok(Some((Kind::Single(part, args), blocks)))
    }

    fn rows(kernel: &LoopKernel, is_aligned: bool) -> Emitted<'k> {
        check_index(&kernel.extents())?;
        let (code, args) = kernel.canonical(false);
        if kernel.segments.is_empty() {
            let row = RowKernel::new(code, is_aligned);
            check_index(&[row.spread.rows()])?;
            return if row.spread.rows() == 0 {
                Ok(None)
            } else {
                Kind::single(Part::Rows(Box::new(row)), whole(args))
            };
        }
        let segment = |segment: &crate::fuse::Segment| {
            let mut kernel = code.clone();
            if let Some(extent) = segment.extent {
                kernel.dims[0].extent = extent;
            }
            Segment { kernel, buffers: segment.buffers.clone() }
        };
        check_index(&[product(code.dims.iter().filter(|dim| !dim.reduced).map(|dim| dim.extent))])?;
        let segments: Vec<Segment> =
            kernel.segments.iter().map(segment).filter(|s| !s.kernel.extents().contains(&0)).collect();
        Ok((!segments.is_empty()).then(|| (Kind::Segments(segments, is_aligned), 0)))
    }

    fn product(g: &'k GemmKernel, mma: Option<Mma>, (finish, buffers): (Finish, Vec<BufferId>)) -> Emitted<'k> {
        check_index(&g.extents)?;
        // Rows of all matrices.
        check_index(&[g.extents[0].saturating_mul(g.extents[1])])?;
        let size = g.dtype.size() as i64;
        let mut args = vec![(g.a.0, g.a.1 as i64 * size), (g.b.0, g.b.1 as i64 * size)];
        args.extend(whole(buffers));
        let finish = Box::new(finish);
        let part = match mma {
            Some(mma) => Part::Mma(g, mma, finish),
            None => Part::Gemm(g, finish),
        };
        Kind::single(part, args)
    }

    fn routine(r: &'k RoutineKernel) -> Emitted<'k> {
        check_index(&[r.routine.tasks(), r.routine.elements()])?;
        if r.routine.elements() == 0 {
            return Ok(None);
        }
        Kind::single(Part::Routine(&r.routine), whole(r.operands.iter().chain(&r.results).copied().collect()))
    }

    fn region(region: &'k RegionKernel, is_aligned: bool, target: Target, constants: &mut Vec<Array>) -> Emitted<'k> {
        let Control::Scan { num_carry, num_consts, length, .. } = region.control;
        check_index(&[length])?;
        let donated: Vec<bool> = (0..region.body.params.len()).map(|i| i < num_carry).collect();
        // Elements of the operands and results follow each other.
        let types = region.body.params.iter().skip(num_carry + num_consts);
        let results = region.body.outputs.iter().skip(num_carry).map(Output::ty);
        let is_aligned = is_aligned && types.chain(results).all(|ty| ty.bytes().is_multiple_of(16));
        let body = Body::new(&region.body, &donated, is_aligned, target, constants)?;
        let (second, workspace) = second_buffers(&body.plan, &region.body.params[..num_carry]);
        Ok(Some((Kind::Region(region, Box::new(body), Carry { second, workspace }), 0)))
    }
}

/// Buffers from their first byte on.
fn whole(buffers: Vec<BufferId>) -> Vec<(BufferId, i64)> {
    buffers.into_iter().map(|b| (b, 0)).collect()
}

fn check_index(extents: &[usize]) -> Result<()> {
    match extents.iter().find(|&&extent| extent > MAX_INDEX) {
        None => Ok(()),
        Some(extent) => Err(Error::new(format!("{extent} is more than the {MAX_INDEX} that a GPU kernel counts"))),
    }
}
