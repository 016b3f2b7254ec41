//! Which loops a kernel becomes: around what, in which passes, along what vectors lie, and what divides between threads.
//!
//! Comes in: a [`LoopKernel`]. Goes out: its [`Loops`].

use hashbrown::HashMap;

use super::pack::pack;
use super::{Accumulator, Block, Effect, Input, Loops, PARTIALS, Parallel, Row, Stmt};
use crate::fuse::{Affine, BufferId, KernelOp, LoopKernel, Order, Slot};
use crate::lower::lane::{LaneId, LaneOp, LaneProgram, LaneType, from_op};
use crate::types::{DType, product};

/// From this cost on, a value that two passes need is kept in scratch memory.
const DEAR: usize = 6;

/// The loops of a kernel.
pub fn schedule(kernel: &LoopKernel) -> Loops {
    let shape = Shape::of(kernel);
    Scheduler::new(kernel, shape).run()
}

/// Which dimensions are looped over where.
struct Shape {
    /// Dimensions around the passes, outermost first.
    outer: Vec<usize>,
    /// Dimensions inside each pass, outermost first.
    inner: Vec<usize>,
    /// The vectorised dimension, the last of either.
    vector: Option<usize>,
    /// How many of the outer dimensions, the last ones, run inside each pass, within the inner ones.
    walked: usize,
}

/// With more elements than this in a row, and more bytes than a first-level cache holds in all rows, rows are walked
/// together.
const MANY_ELEMENTS: usize = 16;
const MANY_BYTES: usize = 32 << 10;

/// At most so many rows are walked together.
const WALKED_ROWS: usize = 4096;

/// From this extent on, the outermost loop is the one to divide, whatever the others are; or from this one on, if then
/// what is read across the rows can be staged.
const WIDE_ENOUGH: usize = 16;
const ENOUGH: usize = 4;

impl Shape {
    fn of(kernel: &LoopKernel) -> Self {
        let dims = 0..kernel.dims.len();
        if !kernel.reduces() {
            let mut outer: Vec<usize> = dims.collect();
            let inner: Vec<usize> = outer.pop().into_iter().collect();
            return Shape { vector: inner.last().copied(), outer, inner, walked: 0 };
        }
        let (inner, outer): (Vec<usize>, Vec<usize>) = dims.partition(|&d| kernel.dims[d].reduced);
        // The order of the reduction decides: vectors are its partial results, or results side by side.
        match Order::of(&kernel.dims) {
            Order::Ascending => {
                let walked = Shape::walked(kernel, &outer, &inner);
                Shape { vector: outer.last().copied(), outer, inner, walked }
            }
            Order::Interleaved(_) => Shape { vector: inner.last().copied(), outer, inner, walked: 0 },
        }
    }

    /// How many of the outer dimensions are worth to be walked through inside the passes.
    fn walked(kernel: &LoopKernel, outer: &[usize], inner: &[usize]) -> usize {
        let extent = |dims: &[usize]| product(dims.iter().map(|&d| kernel.dims[d].extent));
        let mut walked = 0;
        while walked < outer.len() && extent(&outer[outer.len() - walked - 1..]) <= WALKED_ROWS {
            walked += 1;
        }
        let rows = extent(&outer[outer.len() - walked..]);
        let elements = extent(inner);
        let many = elements > MANY_ELEMENTS && elements.saturating_mul(rows) * 4 > MANY_BYTES;
        if many { walked } else { 0 }
    }

    /// Is anything read whose elements lie side by side along `rows` and not along vectors?
    fn reads_across(&self, kernel: &LoopKernel, rows: usize) -> bool {
        let apart = |index: &Affine| self.vector.is_some_and(|vector| index.strides[vector] > 1);
        kernel.loads().any(|(_, index)| index.strides[rows] == 1 && apart(index))
    }

    /// The loop to divide between threads: an outer one that is long, or else that with most parts.
    fn parallel(&self, kernel: &LoopKernel) -> Option<Parallel> {
        // Two short outer loops divide as one, as the rows of a batch of products do; the first alone where that serves.
        if let [first, second, ..] = self.outer[..self.outer.len() - self.walked]
            && self.vector != Some(second)
            && kernel.dims[first].extent < WIDE_ENOUGH
        {
            let (extent, within) = (kernel.dims[first].extent, kernel.dims[second].extent);
            return if extent >= ENOUGH && self.reads_across(kernel, second) {
                Some(Parallel { dim: first, within: None, extent, grain: 1 })
            } else {
                Some(Parallel { dim: first, within: Some((second, within)), extent: extent * within, grain: 1 })
                    .filter(|parallel| parallel.extent > 1)
            };
        }
        let candidates = self.outer.iter().copied().chain(self.vector.filter(|&d| !kernel.dims[d].reduced));
        let mut best: Option<Parallel> = None;
        for dim in candidates {
            let grain = if self.vector == Some(dim) { PARTIALS } else { 1 };
            let this = Parallel { dim, within: None, extent: kernel.dims[dim].extent, grain };
            if this.units() > best.map_or(1, |best| best.units()) {
                best = Some(this);
            }
            if this.units() >= WIDE_ENOUGH {
                break;
            }
        }
        best
    }
}

struct Scheduler<'a> {
    kernel: &'a LoopKernel,
    shape: Shape,
    /// Does a value change inside a pass?
    element: Vec<bool>,
    /// The first pass in which an element can be computed; how many passes a row's value comes after.
    ready: Vec<usize>,
    /// Elements kept for later passes: the pass that computes them, and where.
    kept: HashMap<Slot, (usize, Affine)>,
    rows: HashMap<Slot, Row>,
    row_count: Row,
    /// Where rows are walked together: the rows' values in scratch memory.
    spread: HashMap<Slot, Affine>,
    loops: Loops,
}

impl<'a> Scheduler<'a> {
    fn new(kernel: &'a LoopKernel, shape: Shape) -> Self {
        let changes = |index: &Affine| shape.inner.iter().any(|&d| index.strides[d] != 0 && kernel.dims[d].extent != 1);
        let mut element: Vec<bool> = Vec::new();
        let mut ready: Vec<usize> = Vec::new();
        for value in &kernel.values {
            let last = value.operands.iter().map(|&x| ready[x as usize]).max().unwrap_or(0);
            let (is_element, at) = match &value.op {
                KernelOp::Load(_, index) | KernelOp::Iota(index) => (changes(index), 0),
                KernelOp::Literal(_) => (false, 0),
                KernelOp::Apply(..) => (value.operands.iter().any(|&x| element[x as usize]), last),
                KernelOp::Reduce(_) => (false, last + 1),
            };
            element.push(is_element);
            ready.push(at);
        }
        let args = kernel.buffers();
        let parallel = shape.parallel(kernel);
        let loops = Loops { args, scratch: 0, accumulators: vec![], body: vec![], wide: false, parallel };
        let (kept, rows, spread) = Default::default();
        Scheduler { kernel, shape, element, ready, kept, rows, row_count: 0, spread, loops }
    }

    fn run(mut self) -> Loops {
        let changes = |index: &Affine| self.shape.inner.iter().any(|&d| index.strides[d] != 0);
        // Stores of elements, and the pass they happen in; stores of rows, and the passes they come after.
        let stores: Vec<(bool, usize)> = self
            .kernel
            .stores
            .iter()
            .map(|s| (changes(&s.index) || self.element[s.value as usize], self.ready[s.value as usize]))
            .collect();
        let reduces: Vec<Slot> = (0..self.kernel.values.len() as Slot)
            .filter(|&v| matches!(self.kernel.values[v as usize].op, KernelOp::Reduce(_)))
            .collect();
        let pass_of = |v: Slot| self.ready[self.kernel.values[v as usize].operands[0] as usize];
        let passes = stores
            .iter()
            .filter(|(element, _)| *element)
            .map(|(_, at)| at + 1)
            .chain(reduces.iter().map(|&v| pass_of(v) + 1))
            .max()
            .unwrap_or(0);

        let roots: Vec<Vec<Slot>> = (0..passes)
            .map(|pass| {
                let stored =
                    self.kernel.stores.iter().zip(&stores).filter(|(_, s)| **s == (true, pass)).map(|(s, _)| s.value);
                let reduced = reduces
                    .iter()
                    .filter(|&&v| pass_of(v) == pass)
                    .map(|&v| self.kernel.values[v as usize].operands[0]);
                stored.chain(reduced).collect()
            })
            .collect();
        self.keep_for_later(&roots);

        let mut body = Vec::new();
        for pass in 0..=passes {
            self.row_block(pass, &stores, &mut body);
            if pass == passes {
                break;
            }
            let reduced: Vec<Slot> = reduces
                .iter()
                .copied()
                .filter(|&v| self.ready[self.kernel.values[v as usize].operands[0] as usize] == pass)
                .collect();
            self.pass(pass, &stores, &reduced, &mut body);
        }
        let around = &self.shape.outer[..self.shape.outer.len() - self.shape.walked];
        self.loops.body = match (self.loops.parallel, around) {
            (Some(Parallel { dim, within: Some(inner), extent, .. }), [_, _, rest @ ..]) => {
                let outer = (dim, extent / inner.1);
                vec![Stmt::Collapsed { outer, inner, body: self.nest(rest, body) }]
            }
            _ => self.nest(around, body),
        };
        self.loops.wide =
            has_wide_lanes(&self.loops.body) || self.loops.accumulators.iter().any(|a| a.lane_type() == LaneType::F64);
        if !self.loops.wide {
            pack(&mut self.loops);
        }
        self.loops
    }

    /// Loops over `dims`, outermost first, around `body`.
    fn nest(&self, dims: &[usize], mut body: Vec<Stmt>) -> Vec<Stmt> {
        for &dim in dims.iter().rev() {
            let extent = self.kernel.dims[dim].extent;
            body = vec![Stmt::For { dim, extent, vector: self.shape.vector == Some(dim), body }];
        }
        body
    }

    /// The dimensions of rows that are walked together; none where each row is run by itself.
    fn walked(&self) -> &[usize] {
        &self.shape.outer[self.shape.outer.len() - self.shape.walked..]
    }

    /// Chooses the elements that an earlier pass keeps for a later one.
    fn keep_for_later(&mut self, roots: &[Vec<Slot>]) {
        let mut first: HashMap<Slot, usize> = HashMap::new();
        let mut cost: Vec<usize> = Vec::new();
        for value in &self.kernel.values {
            let own = match &value.op {
                KernelOp::Apply(..) => {
                    // Measured by what it lowers to.
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
        // In vectors of rows a kept element would need a vector's room; there it is computed again.
        let along = self.shape.inner.last().copied().filter(|_| self.shape.vector == self.shape.inner.last().copied());
        for (pass, roots) in roots.iter().enumerate() {
            let mut seen = vec![false; self.kernel.values.len()];
            let mut stack = roots.clone();
            while let Some(v) = stack.pop() {
                if !self.element[v as usize] || std::mem::replace(&mut seen[v as usize], true) {
                    continue;
                }
                let at = *first.entry(v).or_insert(pass);
                if at < pass && cost[v as usize] >= DEAR && along.is_some() {
                    if !self.kept.contains_key(&v) {
                        let inner = self.shape.inner.clone();
                        let index = self.reserve(&inner, self.kernel.values[v as usize].dtype);
                        self.kept.insert(v, (at, index));
                    }
                    continue;
                }
                stack.extend(&self.kernel.values[v as usize].operands);
            }
        }
    }

    /// Room for a value of each row that is walked.
    fn reserve_rows(&mut self, dtype: DType) -> Affine {
        let rows = self.walked().to_vec();
        self.reserve(&rows, dtype)
    }

    /// Room for an array over `dims` in scratch memory: the index of an element.
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

    /// What is computed once per row after `pass` passes.
    fn row_block(&mut self, pass: usize, stores: &[(bool, usize)], body: &mut Vec<Stmt>) {
        let kernel = self.kernel;
        let mut block = Builder::new(None);
        // Row values that a pass will want: operands of elements, and operands of row values that come later.
        let mut wanted: Vec<Slot> = Vec::new();
        let mut needed = vec![false; kernel.values.len()];
        for (v, value) in kernel.values.iter().enumerate() {
            for &x in &value.operands {
                let later = self.element[v]
                    || matches!(value.op, KernelOp::Reduce(_))
                    || self.ready[v] > self.ready[x as usize];
                if !self.element[x as usize] && later {
                    needed[x as usize] = true;
                }
            }
        }
        for (store, &(element, _)) in kernel.stores.iter().zip(stores) {
            if element && !self.element[store.value as usize] {
                needed[store.value as usize] = true;
            }
        }
        for (v, value) in kernel.values.iter().enumerate() {
            let computed = matches!(value.op, KernelOp::Load(..) | KernelOp::Iota(_) | KernelOp::Apply(..));
            if needed[v] && self.ready[v] == pass && computed {
                wanted.push(v as Slot);
            }
        }
        for v in wanted {
            let value = self.lane(&mut block, v);
            if self.shape.walked > 0 {
                let dtype = kernel.values[v as usize].dtype;
                let index = self.reserve_rows(dtype);
                block.effects.push(Effect::Store { arg: self.loops.args.len(), index: index.clone(), dtype, value });
                self.spread.insert(v, index);
            } else {
                let row = self.new_row(v);
                block.effects.push(Effect::Row { row, value });
            }
        }
        self.stores_at((false, pass), stores, &mut block);
        if !block.effects.is_empty() {
            body.extend(self.nest(self.walked(), vec![Stmt::Block(block.finish())]));
        }
    }

    /// The kernel's stores that happen there: of elements, or of rows; in or after which pass.
    fn stores_at(&mut self, here: (bool, usize), stores: &[(bool, usize)], block: &mut Builder) {
        let kernel = self.kernel;
        for (store, _) in kernel.stores.iter().zip(stores).filter(|(_, at)| **at == here) {
            let value = self.lane(block, store.value);
            let arg = self.arg(store.buffer);
            let dtype = kernel.values[store.value as usize].dtype;
            block.effects.push(Effect::Store { arg, index: store.index.clone(), dtype, value });
        }
    }

    fn pass(&mut self, pass: usize, stores: &[(bool, usize)], reduced: &[Slot], body: &mut Vec<Stmt>) {
        let kernel = self.kernel;
        let mut block = Builder::new(Some(pass));
        self.stores_at((true, pass), stores, &mut block);
        let along = self.shape.inner.last().copied();
        let interleaved = along.filter(|_| self.shape.vector == along);
        let mut combines = Vec::new();
        let mut reduced_here: Vec<(Slot, Affine)> = Vec::new();
        let mut begin = Builder::new(None);
        for &v in reduced {
            let x = kernel.values[v as usize].operands[0];
            let KernelOp::Reduce(op) = kernel.values[v as usize].op else { unreachable!("only reductions are listed") };
            let dtype = kernel.values[v as usize].dtype;
            let mut value = self.lane(&mut block, x);
            if dtype == DType::Bool {
                value = block.program.convert(crate::lower::lane::LaneConvert::BoolToI32, value);
            }
            if self.shape.walked > 0 {
                // The partial results are an array, one for each row.
                let (arg, kept) = (self.loops.args.len(), if dtype == DType::Bool { DType::I32 } else { dtype });
                let index = self.reserve_rows(kept);
                let identity = begin.program.bits(LaneType::of(kept), from_op::identity(op, dtype));
                let store = |value| Effect::Store { arg, index: index.clone(), dtype: kept, value };
                begin.effects.push(store(identity));
                let old = Input::Load { arg, index: index.clone(), dtype: kept };
                let old = block.input(old, LaneType::of(kept));
                let new = from_op::accumulate(&mut block.program, op, dtype, old, value);
                block.effects.push(store(new));
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
        let mut kept: Vec<(Slot, Affine)> =
            self.kept.iter().filter(|(_, (at, _))| *at == pass).map(|(&v, (_, index))| (v, index.clone())).collect();
        kept.sort_unstable_by_key(|(v, _)| *v);
        for (v, index) in kept {
            let value = self.lane(&mut block, v);
            let dtype = kernel.values[v as usize].dtype;
            block.effects.push(Effect::Store { arg: self.loops.args.len(), index, dtype, value });
        }
        // All loads come before all stores of a block, so that in-place updates are safe.
        if !begin.effects.is_empty() {
            body.extend(self.nest(self.walked(), vec![Stmt::Block(begin.finish())]));
        }
        if self.shape.walked == 0
            && let Some(once) = self.hoist(&mut block)
        {
            body.push(Stmt::Block(once));
        }
        let inside = self.nest(self.walked(), vec![Stmt::Block(block.finish())]);
        body.extend(self.nest(&self.shape.inner, inside));
        body.append(&mut combines);
        self.spread.extend(reduced_here);
    }

    /// Moves the instructions of a pass that depend on rows' values alone out of it: what is left of `block` takes their
    /// results as rows' values from the block that is returned. (An op of a row's values alone is no element and is not
    /// here; but threefry's keys, say, become other keys before they meet a counter.)
    fn hoist(&mut self, block: &mut Builder) -> Option<Block> {
        let program = &block.program;
        let mut fixed: Vec<bool> = Vec::with_capacity(program.insts.len());
        for inst in &program.insts {
            fixed.push(match inst.op {
                LaneOp::Const(_) => true,
                LaneOp::Input(n) => matches!(block.inputs[n as usize], Input::Row(..)),
                _ => inst.op.operands().iter().all(|x| fixed[x.index()]),
            });
        }
        let is_computed = |x: LaneId| !matches!(program.insts[x.index()].op, LaneOp::Const(_) | LaneOp::Input(_));
        let roots: Vec<LaneId> = block.effects.iter().map(Effect::value).collect();
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

    fn new_row(&mut self, v: Slot) -> Row {
        if let Some(&row) = self.rows.get(&v) {
            return row;
        }
        let row = self.next_row();
        self.rows.insert(v, row);
        row
    }

    fn next_row(&mut self) -> Row {
        self.row_count += 1;
        self.row_count - 1
    }

    /// The value `v` in a block.
    fn lane(&mut self, block: &mut Builder, v: Slot) -> LaneId {
        if let Some(&x) = block.done.get(&v) {
            return x;
        }
        let value = &self.kernel.values[v as usize];
        let ty = LaneType::of(value.dtype);
        let known = match (self.rows.get(&v), self.spread.get(&v)) {
            (Some(&row), _) => Some((Input::Row(row, ty), Input::Row(row, LaneType::I32))),
            (None, Some(index)) => {
                let load = |dtype| Input::Load { arg: self.loops.args.len(), index: index.clone(), dtype };
                Some((load(value.dtype), load(DType::I32)))
            }
            (None, None) => None,
        };
        let lane = if let Some((plain, integer)) = known {
            // Truth values are reduced as integers.
            if matches!(value.op, KernelOp::Reduce(_)) && value.dtype == DType::Bool {
                let x = block.input(integer, LaneType::I32);
                let zero = block.program.i32(0);
                block.program.compare(crate::lower::lane::LaneCompare::Ne, x, zero)
            } else {
                block.input(plain, ty)
            }
        } else if let Some((at, index)) = self.kept.get(&v)
            && block.pass.is_some_and(|pass| *at < pass)
        {
            block.input(Input::Load { arg: self.loops.args.len(), index: index.clone(), dtype: value.dtype }, ty)
        } else {
            match &value.op {
                KernelOp::Load(buffer, index) => {
                    let input = Input::Load { arg: self.arg(*buffer), index: index.clone(), dtype: value.dtype };
                    block.input(input, ty)
                }
                KernelOp::Iota(index) => block.input(Input::Iota(index.clone()), ty),
                KernelOp::Literal(literal) => from_op::literal(&mut block.program, *literal),
                KernelOp::Apply(..) => {
                    let args: Vec<LaneId> = value.operands.iter().map(|&x| self.lane(block, x)).collect();
                    self.apply(&mut block.program, value, &args)
                }
                KernelOp::Reduce(_) => unreachable!("a reduction's result is a row's value by the time it is used"),
            }
        };
        block.done.insert(v, lane);
        lane
    }
}

struct Builder {
    pass: Option<usize>,
    program: LaneProgram,
    inputs: Vec<Input>,
    effects: Vec<Effect>,
    done: HashMap<Slot, LaneId>,
}

impl Builder {
    fn new(pass: Option<usize>) -> Self {
        Builder { pass, program: LaneProgram::new(), inputs: vec![], effects: vec![], done: HashMap::new() }
    }

    fn input(&mut self, input: Input, ty: LaneType) -> LaneId {
        let n = self.inputs.iter().position(|i| *i == input).unwrap_or_else(|| {
            self.inputs.push(input);
            self.inputs.len() - 1
        });
        self.program.input(n as u32, ty)
    }

    fn finish(self) -> Block {
        Block { program: self.program, inputs: self.inputs, effects: self.effects }
    }
}

/// Is there a 64-bit lane anywhere?
fn has_wide_lanes(body: &[Stmt]) -> bool {
    body.iter().any(|stmt| match stmt {
        Stmt::For { body, .. } | Stmt::Collapsed { body, .. } => has_wide_lanes(body),
        Stmt::Block(block) => block.program.insts.iter().any(|i| matches!(i.ty, LaneType::F64 | LaneType::I64)),
        Stmt::Init(_) | Stmt::Combine { .. } | Stmt::Transpose(_) => false,
    })
}
