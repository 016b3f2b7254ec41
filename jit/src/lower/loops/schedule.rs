//! The schedule of a kernel: its loop order, its sweeps, and its vectorised and parallel dimensions.
//!
//! Comes in: a [`LoopKernel`]. Goes out: its [`Loops`].

use hashbrown::HashMap;

use super::apart::{apart, may_be_lanes};
use super::pack::pack;
use super::{Accumulator, Block, Effect, Input, Loops, PARTIALS, Parallel, RowId, Stmt};
use crate::fuse::{Affine, BufferId, Index, KernelOp, LoopKernel, Order, Slot};
use crate::graph::{BinaryOp, Op};
use crate::lower::lane::{LaneId, LaneOp, LaneProgram, LaneType, from_op, storage};
use crate::lower::machine::Machine;
use crate::types::{DType, product};

/// From this cost on, a value that two sweeps use is spilled to scratch memory.
const EXPENSIVE: usize = 6;

/// The values of a row that are kept in scratch memory for later sweeps.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The most bytes.
    pub bytes: usize,
    /// Whether elements that are loaded are kept too, not only what is expensive.
    pub loads: bool,
}

/// The loops of a kernel, for a processor.
pub fn schedule(kernel: &LoopKernel, machine: &Machine) -> Loops {
    let nest = LoopNest::of(kernel, machine);
    Scheduler::new(kernel, nest, machine.l1).run()
}

/// The loops of one row of a kernel, for a machine with a thread for each row, or with [`PARTIALS`] threads for
/// each row of a kernel whose reductions are interleaved, or more: these are then the lanes of the vector loop. The
/// loops over the rows are not part of it. Iterations that run in order are one row, but for those that are [`apart`].
///
/// Products are rounded where the processor rounds them: those that it computes in another block than the sum which
/// takes them. `along` is the last loop of a kernel without reductions, around which it has its other blocks.
pub fn schedule_row(kernel: &LoopKernel, along: Option<usize>, kept: Kept) -> Loops {
    let nest = LoopNest::of_row(kernel, kept);
    let mut scheduler = Scheduler::new(kernel, nest, 0);
    if kernel.order.is_none() {
        let along: Vec<usize> = along.into_iter().collect();
        scheduler.invariant = invariant(kernel, &along).0;
        // All is one block.
        scheduler.varying.fill(false);
    }
    scheduler.run()
}

/// The order of the loops.
struct LoopNest {
    /// Dimensions around the sweeps, outermost first.
    outer: Vec<usize>,
    /// Dimensions inside each sweep, outermost first.
    inner: Vec<usize>,
    /// The vectorised dimension, the last of either list.
    vector: Option<usize>,
    /// The number of outer dimensions, the last ones, that are interchanged: they run innermost, inside each sweep.
    interchanged: usize,
    /// What is kept, if these are the loops of one row, which is not divided between threads of the CPU.
    row: Option<Kept>,
}

/// Rows are interchanged if a row has more elements than this, and all rows more bytes than a first-level cache.
const MANY_ELEMENTS: usize = 16;

/// The most rows that are interchanged.
const MAX_INTERCHANGED: usize = 4096;

/// The outermost loop is the parallel loop from this extent on, whatever the others are; or from the second extent
/// on, if strided loads can then be packed.
const MIN_EXTENT: usize = 16;
const MIN_EXTENT_PACKED: usize = 4;

/// The fewest lines that run together, each in order.
const MIN_LINES: usize = 4;

impl LoopNest {
    fn of(kernel: &LoopKernel, machine: &Machine) -> Self {
        let (mut inner, mut outer): (Vec<usize>, Vec<usize>) =
            (0..kernel.dims.len()).partition(|&d| kernel.dims[d].reduced);
        // The order of the reductions decides whether the lanes of a vector are accumulators or adjacent results.
        match kernel.order {
            Some(Order::Ascending) => {
                let interchanged = LoopNest::interchanged(kernel, &outer, &inner, machine.l1);
                LoopNest { vector: outer.last().copied(), outer, inner, interchanged, row: None }
            }
            Some(Order::Interleaved) => {
                LoopNest { vector: inner.last().copied(), outer, inner, interchanged: 0, row: None }
            }
            None if let Some(axis) = LoopNest::line(kernel) => {
                outer.retain(|&d| d != axis);
                let vector = outer.last().copied().filter(|&d| may_be_lanes(kernel, d));
                LoopNest { vector, outer, inner: vec![axis], interchanged: 0, row: None }
            }
            None => {
                inner.extend(outer.pop());
                let lanes = |&d: &usize| !kernel.serial || may_be_lanes(kernel, d);
                LoopNest { vector: inner.last().copied().filter(lanes), outer, inner, interchanged: 0, row: None }
            }
        }
    }

    /// The loop of a kernel that runs through lines in order, if the elements of a line are next to each other: it is
    /// the innermost one, so that memory is read in its order.
    fn line(kernel: &LoopKernel) -> Option<usize> {
        let apart = apart(kernel);
        let mut in_order = (0..kernel.dims.len()).filter(|d| !apart.contains(d) && kernel.dims[*d].extent > 1);
        let (Some(axis), None, true) = (in_order.next(), in_order.next(), kernel.serial) else { return None };
        let lanes = (0..kernel.dims.len()).rfind(|&d| d != axis).map_or(1, |d| kernel.dims[d].extent);
        let are_lines = kernel.stores.iter().all(|store| store.by.is_empty() && store.index.strides[axis].abs() == 1);
        (lanes >= MIN_LINES && are_lines).then_some(axis)
    }

    /// The order of the loops of one row.
    fn of_row(kernel: &LoopKernel, kept: Kept) -> Self {
        let (inner, outer): (Vec<usize>, Vec<usize>) = (0..kernel.dims.len()).partition(|&d| kernel.dims[d].reduced);
        let vector = inner.last().copied().filter(|_| kernel.order == Some(Order::Interleaved));
        let apart = apart(kernel);
        let in_order = |d: &usize| kernel.serial && !apart.contains(d);
        let outer = outer.into_iter().filter(in_order).collect();
        LoopNest { outer, inner, vector, interchanged: 0, row: Some(kept) }
    }

    /// The number of outer dimensions that are profitable to interchange.
    fn interchanged(kernel: &LoopKernel, outer: &[usize], inner: &[usize], l1: usize) -> usize {
        let extent = |dims: &[usize]| product(dims.iter().map(|&d| kernel.dims[d].extent));
        let mut interchanged = 0;
        while interchanged < outer.len() && extent(&outer[outer.len() - interchanged - 1..]) <= MAX_INTERCHANGED {
            interchanged += 1;
        }
        let rows = extent(&outer[outer.len() - interchanged..]);
        let elements = extent(inner);
        let many = elements > MANY_ELEMENTS && elements.saturating_mul(rows) * 4 > l1;
        if many { interchanged } else { 0 }
    }

    /// Whether a load is contiguous along `rows` and strided along vectors.
    fn has_strided_loads(&self, kernel: &LoopKernel, rows: usize) -> bool {
        let is_strided = |index: &Affine| self.vector.is_some_and(|vector| index.strides[vector] > 1);
        kernel.loads().filter_map(|(_, index)| index).any(|index| index.strides[rows] == 1 && is_strided(index))
    }

    /// The parallel loop: the first outer loop that is long, or else the loop with the most chunks.
    fn parallel(&self, kernel: &LoopKernel) -> Option<Parallel> {
        let apart = apart(kernel);
        let is_apart = |d: &usize| apart.contains(d) || kernel.dims[*d].extent == 1;
        if self.row.is_some() || (kernel.serial && !self.outer.iter().all(is_apart)) {
            return None;
        }
        // Two short outer loops are collapsed into one, for instance the rows of a batch of products; the first alone
        // if loads that are strided along the second can then be packed.
        if let [first, second, ..] = self.outer[..self.outer.len() - self.interchanged]
            && self.vector != Some(second)
            && kernel.dims[first].extent < MIN_EXTENT
        {
            let (extent, inner) = (kernel.dims[first].extent, kernel.dims[second].extent);
            return if extent >= MIN_EXTENT_PACKED && self.has_strided_loads(kernel, second) {
                Some(Parallel { dim: first, collapsed: None, extent, grain: 1 })
            } else {
                Some(Parallel { dim: first, collapsed: Some((second, inner)), extent: extent * inner, grain: 1 })
                    .filter(|parallel| parallel.extent > 1)
            };
        }
        let candidates = self.outer.iter().copied().chain(self.vector.filter(|&d| !kernel.dims[d].reduced));
        let mut best: Option<Parallel> = None;
        for dim in candidates {
            let grain = if self.vector == Some(dim) { PARTIALS } else { 1 };
            let this = Parallel { dim, collapsed: None, extent: kernel.dims[dim].extent, grain };
            if this.chunks() > best.map_or(1, |best| best.chunks()) {
                best = Some(this);
            }
            if this.chunks() >= MIN_EXTENT {
                break;
            }
        }
        best
    }
}

struct Scheduler<'a> {
    kernel: &'a LoopKernel,
    /// Bytes of a first-level cache.
    l1: usize,
    nest: LoopNest,
    /// Whether a value varies inside a sweep.
    varying: Vec<bool>,
    /// Whether the processor computes a value outside of its sweeps.
    invariant: Vec<bool>,
    /// The first sweep that can compute a varying value; the number of sweeps before a loop-invariant one.
    ready: Vec<usize>,
    /// Values spilled for later sweeps: the sweep that computes them, and their index in scratch memory.
    spilled: HashMap<Slot, (usize, Affine)>,
    /// Those that the processor spills, for which there may be no space here: the sweep that computes them there.
    expensive: HashMap<Slot, usize>,
    rows: HashMap<Slot, RowId>,
    row_count: RowId,
    /// The index in scratch memory of each loop-invariant value of interchanged rows, an array with one element per
    /// row.
    per_row: HashMap<Slot, Affine>,
    loops: Loops,
}

impl<'a> Scheduler<'a> {
    fn new(kernel: &'a LoopKernel, nest: LoopNest, l1: usize) -> Self {
        let (invariant, ready) = invariant(kernel, &nest.inner);
        let varying = invariant.iter().map(|invariant| !invariant).collect();
        let args = kernel.buffers();
        let parallel = nest.parallel(kernel);
        let loops = Loops { args, scratch: 0, accumulators: vec![], body: vec![], lane_bytes: 4, parallel };
        let (spilled, expensive, rows, per_row) = Default::default();
        Scheduler {
            kernel,
            l1,
            nest,
            varying,
            invariant,
            ready,
            spilled,
            expensive,
            rows,
            row_count: 0,
            per_row,
            loops,
        }
    }

    fn run(mut self) -> Loops {
        let changes = |index: &Affine| self.nest.inner.iter().any(|&d| index.strides[d] != 0);
        // For each store whether it runs inside a sweep, and in which; or else after how many sweeps.
        let stores: Vec<(bool, usize)> = self
            .kernel
            .stores
            .iter()
            .map(|s| {
                let varies = |x: Slot| self.varying[x as usize];
                let in_sweep = changes(&s.index) || varies(s.value) || s.by.iter().any(|&(x, _)| varies(x));
                (in_sweep, self.ready[s.value as usize])
            })
            .collect();
        let reduces: Vec<Slot> = (0..self.kernel.values.len() as Slot)
            .filter(|&v| matches!(self.kernel.values[v as usize].op, KernelOp::Reduce(_)))
            .collect();
        let sweep_of = |v: Slot| self.ready[self.kernel.values[v as usize].operands[0] as usize];
        let sweeps = stores
            .iter()
            .filter(|(in_sweep, _)| *in_sweep)
            .map(|(_, at)| at + 1)
            .chain(reduces.iter().map(|&v| sweep_of(v) + 1))
            .max()
            .unwrap_or(0);

        let roots: Vec<Vec<Slot>> = (0..sweeps)
            .map(|sweep| {
                let stored =
                    self.kernel.stores.iter().zip(&stores).filter(|(_, s)| **s == (true, sweep)).map(|(s, _)| s.value);
                let reduced = reduces
                    .iter()
                    .filter(|&&v| sweep_of(v) == sweep)
                    .map(|&v| self.kernel.values[v as usize].operands[0]);
                stored.chain(reduced).collect()
            })
            .collect();
        self.choose_spills(&roots);

        let mut body = Vec::new();
        for sweep in 0..=sweeps {
            self.row_block(sweep, &stores, &mut body);
            if sweep == sweeps {
                break;
            }
            let reduced: Vec<Slot> = reduces
                .iter()
                .copied()
                .filter(|&v| self.ready[self.kernel.values[v as usize].operands[0] as usize] == sweep)
                .collect();
            self.sweep(sweep, &stores, &reduced, &mut body);
        }
        let outer = &self.nest.outer[..self.nest.outer.len() - self.nest.interchanged];
        self.loops.body = match (self.loops.parallel, outer) {
            (Some(Parallel { dim, collapsed: Some(inner), extent, .. }), [_, _, rest @ ..]) => {
                let outer = (dim, extent / inner.1);
                vec![Stmt::Collapsed { outer, inner, body: self.around(rest, body) }]
            }
            _ => self.around(outer, body),
        };
        let is_wide =
            has_wide_lanes(&self.loops.body) || self.loops.accumulators.iter().any(|a| a.lane_type() == LaneType::F64);
        self.loops.lane_bytes = if is_wide { 8 } else { 4 };
        // A copy would not have what earlier iterations store.
        if !is_wide && !self.kernel.serial && self.nest.row.is_none() {
            pack(&mut self.loops, self.l1);
        }
        self.loops
    }

    /// Loops over `dims`, outermost first, around `body`.
    fn around(&self, dims: &[usize], mut body: Vec<Stmt>) -> Vec<Stmt> {
        for &dim in dims.iter().rev() {
            let extent = self.kernel.dims[dim].extent;
            body = vec![Stmt::For { dim, extent, vector: self.nest.vector == Some(dim), body }];
        }
        body
    }

    /// The dimensions that are interchanged.
    fn interchanged(&self) -> &[usize] {
        &self.nest.outer[self.nest.outer.len() - self.nest.interchanged..]
    }

    /// Chooses the values that an earlier sweep spills for a later one.
    fn choose_spills(&mut self, roots: &[Vec<Slot>]) {
        let mut first: HashMap<Slot, usize> = HashMap::new();
        let mut cost: Vec<usize> = Vec::new();
        for value in &self.kernel.values {
            let own = match &value.op {
                KernelOp::Apply(..) => {
                    // The number of instructions that it lowers to.
                    let mut p = LaneProgram::new();
                    let args: Vec<LaneId> = value
                        .operands
                        .iter()
                        .enumerate()
                        .map(|(i, &x)| p.input(i as u32, LaneType::of(self.kernel.values[x as usize].dtype)))
                        .collect();
                    let before = p.insts.len();
                    self.apply(&mut p, value, &args);
                    p.insts.len() - before
                }
                KernelOp::Load(..) | KernelOp::Iota(_) | KernelOp::Literal(_) | KernelOp::Reduce(_) => 0,
            };
            cost.push(own + value.operands.iter().map(|&x| cost[x as usize]).max().unwrap_or(0));
        }
        // Where the lanes of a vector are rows, a spill takes a vector per element; there the value is recomputed.
        let along = self.nest.inner.last().copied().filter(|_| self.nest.vector == self.nest.inner.last().copied());
        for (sweep, roots) in roots.iter().enumerate() {
            let mut seen = vec![false; self.kernel.values.len()];
            let mut stack = roots.clone();
            while let Some(v) = stack.pop() {
                if !self.varying[v as usize] || std::mem::replace(&mut seen[v as usize], true) {
                    continue;
                }
                let at = *first.entry(v).or_insert(sweep);
                if at < sweep && cost[v as usize] >= EXPENSIVE && along.is_some() {
                    self.expensive.insert(v, at);
                }
                let fits = || self.nest.row.is_none_or(|kept| self.loops.scratch + self.row_bytes(v) <= kept.bytes);
                let is_load = matches!(self.kernel.values[v as usize].op, KernelOp::Load(..));
                let is_kept =
                    cost[v as usize] >= EXPENSIVE || (is_load && self.nest.row.is_some_and(|kept| kept.loads));
                if at < sweep && is_kept && along.is_some() && (self.spilled.contains_key(&v) || fits()) {
                    if !self.spilled.contains_key(&v) {
                        let inner = self.nest.inner.clone();
                        let index = self.reserve(&inner, self.kernel.values[v as usize].dtype);
                        self.spilled.insert(v, (at, index));
                    }
                    continue;
                }
                stack.extend(&self.kernel.values[v as usize].operands);
            }
        }
    }

    /// Bytes of a value for each element of a row.
    fn row_bytes(&self, v: Slot) -> usize {
        let elements = product(self.nest.inner.iter().map(|&d| self.kernel.dims[d].extent));
        elements.saturating_mul(self.kernel.values[v as usize].dtype.size())
    }

    /// Scratch memory for a value of each interchanged row.
    fn reserve_rows(&mut self, dtype: DType) -> Affine {
        let rows = self.interchanged().to_vec();
        self.reserve(&rows, dtype)
    }

    /// Scratch memory for an array over `dims`: the index of an element.
    fn reserve(&mut self, dims: &[usize], dtype: DType) -> Affine {
        let mut index = Affine::zero(self.kernel.dims.len());
        let mut elements = 1;
        for &d in dims.iter().rev() {
            index.strides[d] = elements as isize;
            elements *= self.kernel.dims[d].extent;
        }
        let start = self.loops.reserve(elements * dtype.size());
        index.offset = (start / dtype.size()) as isize;
        index
    }

    /// The lane instructions of an `Apply`.
    fn apply(&self, p: &mut LaneProgram, value: &crate::fuse::KernelValue, args: &[LaneId]) -> LaneId {
        let KernelOp::Apply(op, index) = &value.op else { unreachable!("only called for Apply") };
        let dtype = self.kernel.values[value.operands[op.typed_operand()] as usize].dtype;
        from_op::lower(p, op, *index, dtype, args).expect("an elementwise op")
    }

    /// The loop-invariant values that are computed after `sweep` sweeps.
    fn row_block(&mut self, sweep: usize, stores: &[(bool, usize)], body: &mut Vec<Stmt>) {
        let kernel = self.kernel;
        let mut block = BlockBuilder::new(None);
        // Those that a later block uses: operands of varying values, and of loop-invariant values of later sweeps.
        let mut wanted: Vec<Slot> = Vec::new();
        let mut needed = vec![false; kernel.values.len()];
        for (v, value) in kernel.values.iter().enumerate() {
            for &x in &value.operands {
                let later = self.varying[v]
                    || matches!(value.op, KernelOp::Reduce(_))
                    || self.ready[v] > self.ready[x as usize];
                if !self.varying[x as usize] && later {
                    needed[x as usize] = true;
                }
            }
        }
        for (store, &(in_sweep, _)) in kernel.stores.iter().zip(stores) {
            for x in std::iter::once(store.value).chain(store.by.iter().map(|(x, _)| *x)) {
                if in_sweep && !self.varying[x as usize] {
                    needed[x as usize] = true;
                }
            }
        }
        for (v, value) in kernel.values.iter().enumerate() {
            let computed = matches!(value.op, KernelOp::Load(..) | KernelOp::Iota(_) | KernelOp::Apply(..));
            if needed[v] && self.ready[v] == sweep && computed {
                wanted.push(v as Slot);
            }
        }
        for v in wanted {
            let value = self.lane(&mut block, v);
            if self.nest.interchanged > 0 {
                let dtype = kernel.values[v as usize].dtype;
                let index = self.reserve_rows(dtype);
                let (arg, index_of_row) = (self.loops.args.len(), index.clone());
                block.store(arg, index_of_row, dtype, value, None);
                self.per_row.insert(v, index);
            } else {
                let row = self.new_row(v);
                block.effects.push(Effect::Row { row, value });
            }
        }
        self.stores_at((false, sweep), stores, &mut block);
        if !block.effects.is_empty() {
            body.extend(self.around(self.interchanged(), vec![Stmt::Block(block.finish())]));
        }
    }

    /// The stores that run at `here`: inside a sweep or not, and in or after which one.
    fn stores_at(&mut self, here: (bool, usize), stores: &[(bool, usize)], block: &mut BlockBuilder) {
        let kernel = self.kernel;
        for (store, _) in kernel.stores.iter().zip(stores).filter(|(_, at)| **at == here) {
            let value = self.lane(block, store.value);
            let arg = self.arg(store.buffer);
            let dtype = kernel.values[store.value as usize].dtype;
            let by = store.by.iter().copied();
            let offset = (!store.by.is_empty()).then(|| self.offset(block, by));
            block.store(arg, store.index.clone(), dtype, value, offset);
        }
    }

    fn sweep(&mut self, sweep: usize, stores: &[(bool, usize)], reduced: &[Slot], body: &mut Vec<Stmt>) {
        let kernel = self.kernel;
        let mut block = BlockBuilder::new(Some(sweep));
        self.stores_at((true, sweep), stores, &mut block);
        let along = self.nest.inner.last().copied();
        let interleaved = along.filter(|_| self.nest.vector == along);
        let mut combines = Vec::new();
        let mut reduced_here: Vec<(Slot, Affine)> = Vec::new();
        let mut begin = BlockBuilder::new(None);
        for &v in reduced {
            let x = kernel.values[v as usize].operands[0];
            let KernelOp::Reduce(op) = kernel.values[v as usize].op else { unreachable!("only reductions are listed") };
            let dtype = kernel.values[v as usize].dtype;
            let value = self.lane(&mut block, x);
            let value = storage::to_accumulator(&mut block.program, dtype, value);
            if self.nest.interchanged > 0 {
                // The accumulators are an array, one per row.
                let (arg, acc_dtype) = (self.loops.args.len(), storage::accumulator(dtype));
                let index = self.reserve_rows(acc_dtype);
                let identity = begin.program.bits(LaneType::of(acc_dtype), from_op::identity(op, dtype));
                begin.store(arg, index.clone(), acc_dtype, identity, None);
                let old = block.load(arg, index.clone(), acc_dtype);
                let new = from_op::accumulate(&mut block.program, op, dtype, old, value);
                block.store(arg, index.clone(), acc_dtype, new, None);
                reduced_here.push((v, index));
                continue;
            }
            let accumulator = self.loops.accumulators.len();
            self.loops.accumulators.push(Accumulator { op, dtype, interleaved });
            body.push(Stmt::Init(accumulator));
            block.effects.push(Effect::Accumulate { accumulator, value });
            let row = self.new_row(v);
            combines.push(Stmt::Combine { accumulator, row });
        }
        let mut spilled: Vec<(Slot, Affine)> = self
            .spilled
            .iter()
            .filter(|(_, (at, _))| *at == sweep)
            .map(|(&v, (_, index))| (v, index.clone()))
            .collect();
        spilled.sort_unstable_by_key(|(v, _)| *v);
        for (v, index) in spilled {
            let value = self.lane(&mut block, v);
            let dtype = kernel.values[v as usize].dtype;
            let arg = self.loops.args.len();
            block.store(arg, index, dtype, value, None);
        }
        // All loads of a block precede its stores, so in-place updates are safe.
        if !begin.effects.is_empty() {
            body.extend(self.around(self.interchanged(), vec![Stmt::Block(begin.finish())]));
        }
        if self.nest.interchanged == 0
            && let Some(once) = self.hoist(&mut block)
        {
            body.push(Stmt::Block(once));
        }
        let inside = self.around(self.interchanged(), vec![Stmt::Block(block.finish())]);
        body.extend(self.around(&self.nest.inner, inside));
        body.append(&mut combines);
        self.per_row.extend(reduced_here);
    }

    /// Hoists the loop-invariant instructions of a sweep: `block` takes their results from the block that is
    /// returned. (An op whose operands are all loop-invariant is not in a sweep at all. This finds the invariant
    /// instructions inside of an op, as the key schedule of threefry.)
    fn hoist(&mut self, block: &mut BlockBuilder) -> Option<Block> {
        let program = &block.program;
        let mut fixed: Vec<bool> = Vec::with_capacity(program.insts.len());
        for inst in &program.insts {
            fixed.push(match inst.op {
                LaneOp::Const(_) => true,
                LaneOp::Input(n) => matches!(block.inputs[n as usize], Input::Row(..)),
                // The place that it counts from may vary.
                LaneOp::Gather(..) => false,
                _ => inst.op.operands().iter().all(|x| fixed[x.index()]),
            });
        }
        let is_computed = |x: LaneId| !matches!(program.insts[x.index()].op, LaneOp::Const(_) | LaneOp::Input(_));
        let values = block.effects.iter().map(Effect::value);
        let roots: Vec<LaneId> = values.chain(block.effects.iter().filter_map(Effect::offset)).collect();
        let live = program.live(&roots);
        let mut wanted: Vec<LaneId> = roots;
        for ((inst, live), fixed) in program.insts.iter().zip(&live).zip(&fixed) {
            if *live && !fixed {
                wanted.extend(inst.op.operands());
            }
        }
        wanted.retain(|&x| fixed[x.index()] && is_computed(x));
        wanted.sort_unstable_by_key(|x| x.index());
        wanted.dedup();
        if wanted.is_empty() {
            return None;
        }
        let mut once = Block { program: program.clone(), inputs: block.inputs.clone(), effects: vec![] };
        for value in wanted {
            let row = self.next_row();
            once.effects.push(Effect::Row { row, value });
            let inst = &mut block.program.insts[value.index()];
            inst.op = LaneOp::Input(block.inputs.len() as u32);
            block.inputs.push(Input::Row(row, inst.ty));
        }
        Some(once)
    }

    fn arg(&self, buffer: BufferId) -> usize {
        self.loops.args.iter().position(|&b| b == buffer).expect("every buffer of the kernel is an argument")
    }

    fn new_row(&mut self, v: Slot) -> RowId {
        if let Some(&row) = self.rows.get(&v) {
            return row;
        }
        let row = self.next_row();
        self.rows.insert(v, row);
        row
    }

    fn next_row(&mut self) -> RowId {
        self.row_count += 1;
        self.row_count - 1
    }

    /// The sum of multiples of values, in elements.
    fn offset(&mut self, block: &mut BlockBuilder, computed: impl Iterator<Item = (Slot, isize)>) -> LaneId {
        let mut offset = None;
        for (x, stride) in computed {
            let x = self.lane(block, x);
            let p = &mut block.program;
            let factor = p.i32(stride as i32);
            let term = if stride == 1 { x } else { p.mul(x, factor) };
            offset = Some(offset.map_or(term, |sum| p.add(sum, term)));
        }
        offset.expect("an index with computed values")
    }

    /// Whether the processor computes operand `x` of `v` in a block before that of `v`.
    fn is_rounded(&self, v: Slot, x: Slot, sweep: Option<usize>) -> bool {
        let [own, of_x] = [v, x].map(|v| self.expensive.get(&v).copied());
        let is_outside = self.invariant[x as usize]
            && (!self.invariant[v as usize] || self.ready[v as usize] > self.ready[x as usize]);
        is_outside || of_x.is_some_and(|of_x| own.or(sweep).is_some_and(|sweep| of_x < sweep))
    }

    /// The value `v` in a block.
    fn lane(&mut self, block: &mut BlockBuilder, v: Slot) -> LaneId {
        if let Some(&x) = block.done.get(&v) {
            return x;
        }
        let value = &self.kernel.values[v as usize];
        // A reduction's value is that of its accumulator.
        let is_reduced = matches!(value.op, KernelOp::Reduce(_));
        let dtype = if is_reduced { storage::accumulator(value.dtype) } else { value.dtype };
        let known = match (self.rows.get(&v), self.per_row.get(&v)) {
            (Some(&row), _) => Some(block.input(Input::Row(row, LaneType::of(dtype)), LaneType::of(dtype))),
            (None, Some(index)) => Some(block.load(self.loops.args.len(), index.clone(), dtype)),
            (None, None) => None,
        };
        let lane = if let Some(x) = known {
            if is_reduced { storage::from_accumulator(&mut block.program, value.dtype, x) } else { x }
        } else if let Some((at, index)) = self.spilled.get(&v)
            && block.sweep.is_some_and(|sweep| *at < sweep)
        {
            block.load(self.loops.args.len(), index.clone(), value.dtype)
        } else {
            match &value.op {
                KernelOp::Load(buffer, Index { base, by }) => {
                    let (arg, index, dtype) = (self.arg(*buffer), base.clone(), value.dtype);
                    if by.is_empty() {
                        block.load(arg, index, dtype)
                    } else {
                        let computed = value.operands.iter().copied().zip(by.iter().copied());
                        let offset = self.offset(block, computed);
                        let table = block.number(Input::Table { arg, index, dtype });
                        let raw = block.program.push(LaneOp::Gather(table, offset), LaneType::raw(dtype));
                        storage::widened(&mut block.program, dtype, raw)
                    }
                }
                KernelOp::Iota(index) => block.input(Input::Iota(index.clone()), LaneType::I32),
                KernelOp::Literal(literal) => from_op::literal(&mut block.program, *literal),
                KernelOp::Apply(op, _) => {
                    let args: Vec<LaneId> = value.operands.iter().map(|&x| self.lane(block, x)).collect();
                    match (op, &args[..], &value.operands[..]) {
                        (Op::Binary(BinaryOp::Add), &[x, y], &[of_x, of_y])
                            if matches!(value.dtype, DType::F32 | DType::F64) =>
                        {
                            let rounded = [of_x, of_y].map(|x| self.is_rounded(v, x, block.sweep));
                            from_op::add(&mut block.program, [x, y], rounded)
                        }
                        _ => self.apply(&mut block.program, value, &args),
                    }
                }
                KernelOp::Reduce(_) => {
                    unreachable!("the result of a reduction is loop-invariant by the time it is used")
                }
            }
        };
        block.done.insert(v, lane);
        lane
    }
}

/// For each value whether it is the same in all iterations of the `inner` loops, and how many sweeps are before it.
fn invariant(kernel: &LoopKernel, inner: &[usize]) -> (Vec<bool>, Vec<usize>) {
    let changes = |index: &Affine| inner.iter().any(|&d| index.strides[d] != 0 && kernel.dims[d].extent != 1);
    let mut invariant: Vec<bool> = Vec::new();
    let mut ready: Vec<usize> = Vec::new();
    for value in &kernel.values {
        let last = value.operands.iter().map(|&x| ready[x as usize]).max().unwrap_or(0);
        let all = value.operands.iter().all(|&x| invariant[x as usize]);
        let (is_invariant, at) = match &value.op {
            KernelOp::Load(_, Index { base: index, .. }) | KernelOp::Iota(index) => {
                // An element that an earlier iteration may have stored is loaded in each.
                let stored = |b: BufferId| kernel.serial && kernel.stores.iter().any(|s| s.buffer == b);
                let again = matches!(value.op, KernelOp::Load(buffer, _) if stored(buffer));
                (!again && !changes(index) && all, last)
            }
            KernelOp::Literal(_) => (true, 0),
            KernelOp::Apply(..) => (all, last),
            KernelOp::Reduce(_) => (true, last + 1),
        };
        invariant.push(is_invariant);
        ready.push(at);
    }
    (invariant, ready)
}

/// A block under construction.
struct BlockBuilder {
    sweep: Option<usize>,
    program: LaneProgram,
    inputs: Vec<Input>,
    effects: Vec<Effect>,
    done: HashMap<Slot, LaneId>,
}

impl BlockBuilder {
    fn new(sweep: Option<usize>) -> Self {
        BlockBuilder { sweep, program: LaneProgram::new(), inputs: vec![], effects: vec![], done: HashMap::new() }
    }

    fn input(&mut self, input: Input, ty: LaneType) -> LaneId {
        let n = self.number(input);
        self.program.input(n, ty)
    }

    /// An element of an argument.
    fn load(&mut self, arg: usize, index: Affine, dtype: DType) -> LaneId {
        let raw = self.input(Input::Load { arg, index, dtype }, LaneType::raw(dtype));
        storage::widened(&mut self.program, dtype, raw)
    }

    /// Stores the element `value`.
    fn store(&mut self, arg: usize, index: Affine, dtype: DType, value: LaneId, offset: Option<LaneId>) {
        let value = storage::narrowed(&mut self.program, dtype, value);
        self.effects.push(Effect::Store { arg, index, dtype, value, offset });
    }

    /// The number of an input.
    fn number(&mut self, input: Input) -> u32 {
        let known = self.inputs.iter().position(|i| *i == input);
        let n = known.unwrap_or_else(|| {
            self.inputs.push(input);
            self.inputs.len() - 1
        });
        n as u32
    }

    fn finish(self) -> Block {
        Block { program: self.program, inputs: self.inputs, effects: self.effects }
    }
}

/// Whether there are 64-bit lanes.
fn has_wide_lanes(body: &[Stmt]) -> bool {
    body.iter().any(|stmt| match stmt {
        Stmt::For { body, .. } | Stmt::Collapsed { body, .. } => has_wide_lanes(body),
        Stmt::Block(block) => block.program.insts.iter().any(|i| matches!(i.ty, LaneType::F64 | LaneType::I64)),
        Stmt::Init(_) | Stmt::Combine { .. } | Stmt::Transpose(_) => false,
    })
}
