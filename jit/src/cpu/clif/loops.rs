//! Statements, loops and reductions.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block as ClifBlock, BlockArg, InstBuilder, Value, types};

use super::{AccumulatorStorage, ClifEmitter, LANES, lane_type, memory, scalar_type};
use crate::lower::lane::{LaneOp, LaneProgram, from_op};
use crate::lower::loops::{Accumulator, Block, Effect, Input, PARTIALS, RowId, Stmt};

/// A loop, without its bounds.
#[derive(Clone, Copy)]
struct LoopCx<'s> {
    dim: usize,
    /// The increment of the induction variable.
    step: usize,
    body: &'s [Stmt],
    /// The number of lanes of the body, and the dimension that they run along.
    width: usize,
    vector: Option<usize>,
}

impl ClifEmitter<'_, '_> {
    /// Emits statements for `width` lanes along dimension `vector`.
    pub(super) fn stmts(&mut self, stmts: &[Stmt], width: usize, vector: Option<usize>) {
        for stmt in stmts {
            match stmt {
                Stmt::For { dim, vector: vectorised, body, .. } if self.loops.is_parallel(*dim) => {
                    let (begin, end) = self.range.expect("a parallel loop has a work range");
                    let scalar = LoopCx { dim: *dim, step: 1, body, width: 1, vector };
                    if *vectorised && self.loops.lane_bytes == 4 {
                        // Ranges begin at multiples of the lanes.
                        let vector_end = self.builder.ins().band_imm_s(end, -(LANES as i64));
                        self.range_loop(begin, vector_end, scalar.vectorised());
                        let tail = self.builder.ins().umax(begin, vector_end);
                        self.range_loop(tail, end, scalar);
                    } else {
                        self.range_loop(begin, end, LoopCx { width, ..scalar });
                    }
                }
                Stmt::For { dim, extent, vector: true, body } if self.loops.lane_bytes == 4 && *extent >= LANES => {
                    let vector_end = extent - extent % LANES;
                    let scalar = LoopCx { dim: *dim, step: 1, body, width: 1, vector };
                    self.for_loop(0, vector_end, scalar.vectorised());
                    self.for_loop(vector_end, *extent, scalar);
                }
                Stmt::For { dim, extent, vector: _, body } => {
                    self.for_loop(0, *extent, LoopCx { dim: *dim, step: 1, body, width, vector });
                }
                Stmt::Collapsed { outer, inner, body } => {
                    let range = self.range.expect("a parallel loop has a work range");
                    self.collapsed_loop(range, *inner, LoopCx { dim: outer.0, step: 1, body, width, vector });
                }
                Stmt::Block(block) => self.block(block, width, vector),
                Stmt::Init(a) => self.init(*a, width),
                Stmt::Combine { accumulator, row } => self.combine(*accumulator, *row, width),
                Stmt::Transpose(transpose) => self.stmts(&[transpose.loops()], 1, None),
            }
        }
    }

    /// A loop with constant bounds.
    fn for_loop(&mut self, begin: usize, end: usize, cx: LoopCx) {
        if begin >= end {
            return;
        }
        let first = self.builder.ins().iconst(types::I64, begin as i64);
        if end - begin <= cx.step {
            self.induction_vars.insert(cx.dim, first);
            self.stmts(cx.body, cx.width, cx.vector);
            self.induction_vars.remove(&cx.dim);
            return;
        }
        let last = self.builder.ins().iconst(types::I64, end as i64);
        let exit = self.builder.create_block();
        self.do_while(first, last, exit, cx);
    }

    /// A loop with dynamic bounds. It may be empty.
    fn range_loop(&mut self, begin: Value, end: Value, cx: LoopCx) {
        let (preheader, exit) = (self.builder.create_block(), self.builder.create_block());
        let nonempty = self.builder.ins().icmp(IntCC::UnsignedLessThan, begin, end);
        self.builder.ins().brif(nonempty, preheader, &[], exit, &[]);
        self.builder.switch_to_block(preheader);
        self.do_while(begin, end, exit, cx);
    }

    /// A range of the collapsed iteration space of two loops: `cx.dim` is the outer dimension, then the inner dimension
    /// and its extent.
    fn collapsed_loop(&mut self, (begin, end): (Value, Value), (inner_dim, extent): (usize, usize), cx: LoopCx) {
        let (header, exit) = (self.builder.create_block(), self.builder.create_block());
        let iv = self.builder.append_block_param(header, types::I64);
        let nonempty = self.builder.ins().icmp(IntCC::UnsignedLessThan, begin, end);
        self.builder.ins().brif(nonempty, header, &[BlockArg::Value(begin)], exit, &[]);
        self.builder.switch_to_block(header);
        let extent = self.builder.ins().iconst(types::I64, extent as i64);
        let outer = self.builder.ins().udiv(iv, extent);
        let inner = self.builder.ins().urem(iv, extent);
        self.induction_vars.extend([(cx.dim, outer), (inner_dim, inner)]);
        self.stmts(cx.body, cx.width, cx.vector);
        self.induction_vars.remove(&cx.dim);
        self.induction_vars.remove(&inner_dim);
        self.latch(iv, end, header, exit, cx.step);
    }

    /// A loop that runs at least once. The builder continues in `exit`.
    fn do_while(&mut self, begin: Value, end: Value, exit: ClifBlock, cx: LoopCx) {
        let header = self.builder.create_block();
        let iv = self.builder.append_block_param(header, types::I64);
        self.builder.ins().jump(header, &[BlockArg::Value(begin)]);
        self.builder.switch_to_block(header);
        self.induction_vars.insert(cx.dim, iv);
        self.stmts(cx.body, cx.width, cx.vector);
        self.induction_vars.remove(&cx.dim);
        self.latch(iv, end, header, exit, cx.step);
    }

    /// Increments the induction variable and branches back to `header` while it is below `end`.
    fn latch(&mut self, iv: Value, end: Value, header: ClifBlock, exit: ClifBlock, step: usize) {
        let next = self.builder.ins().iadd_imm_u(iv, step as i64);
        let more = self.builder.ins().icmp(IntCC::UnsignedLessThan, next, end);
        self.builder.ins().brif(more, header, &[BlockArg::Value(next)], exit, &[]);
        self.builder.switch_to_block(exit);
    }

    /// Emits a block and its effects.
    fn block(&mut self, block: &Block, width: usize, vector: Option<usize>) {
        let roots = block.roots();
        let inputs = block.inputs.clone();
        let uniform = self.uniform(block, width, vector);
        let values = self.program(&block.program, &roots, width, &mut |e, n, offset| match &inputs[n as usize] {
            Input::Load { arg, index, dtype } => e.load(*arg, index, *dtype, width, vector),
            table @ Input::Table { .. } => {
                let (id, offset) = offset.expect("a gather reads a table");
                e.gather(table, offset, uniform[id.index()], width, vector)
            }
            Input::Iota(index) => e.iota(index, width, vector),
            Input::Row(row, ty) => {
                let (x, lanes) = e.rows[row];
                if lanes == width { x } else { e.splat(x, *ty, width) }
            }
        });
        let (values, offsets) = values.split_at(block.effects.len());
        let mut offsets = offsets.iter();
        for (effect, &x) in block.effects.iter().zip(values) {
            match effect {
                Effect::Store { arg, index, dtype, offset: Some(id), .. } => {
                    let offset = *offsets.next().expect("an offset for each such store");
                    self.scatter(x, (offset, uniform[id.index()]), (*arg, index, *dtype), width, vector);
                }
                Effect::Store { arg, index, dtype, .. } => self.store(x, (*arg, index, *dtype), width, vector),
                Effect::Accumulate { accumulator, .. } => self.accumulate(*accumulator, x, width),
                Effect::Row { row, .. } => {
                    self.rows.insert(*row, (x, width));
                }
            }
        }
    }

    /// For each value of a block with gathers or scatters whether it is equal in all lanes.
    fn uniform(&self, block: &Block, width: usize, vector: Option<usize>) -> Vec<bool> {
        let gathers = block.program.insts.iter().any(|inst| matches!(inst.op, LaneOp::Gather(..)));
        if !gathers && block.effects.iter().all(|effect| effect.offset().is_none()) {
            return vec![];
        }
        block.program.uniform(|n| match &block.inputs[n as usize] {
            Input::Load { index, .. } | Input::Table { index, .. } | Input::Iota(index) => {
                vector.is_none_or(|dim| index.strides[dim] == 0)
            }
            Input::Row(row, _) => width == 1 || self.rows.get(row).is_some_and(|(_, lanes)| *lanes == 1),
        })
    }

    /// Sets the accumulators to the identity of the reduction.
    fn init(&mut self, accumulator: usize, width: usize) {
        let a = self.loops.accumulators[accumulator];
        let bits = from_op::identity(a.op, a.dtype);
        match self.accumulators[accumulator] {
            AccumulatorStorage::Variables { scalar, vector } => {
                let x = self.constant(a.lane_type(), bits, width);
                self.builder.def_var(if width == 1 { scalar } else { vector }, x);
            }
            AccumulatorStorage::StackSlot(slot) => {
                let lanes = if self.loops.lane_bytes == 8 { 1 } else { LANES };
                let x = self.constant(a.lane_type(), bits, lanes);
                let size = scalar_type(a.lane_type()).bytes() as usize;
                let base = self.builder.ins().stack_addr(types::I64, slot, 0);
                for i in (0..PARTIALS).step_by(lanes) {
                    self.builder.ins().store(memory(), x, base, (i * size) as i32);
                }
            }
        }
    }

    /// Reduces `x` into the accumulators.
    fn accumulate(&mut self, accumulator: usize, x: Value, width: usize) {
        let a = self.loops.accumulators[accumulator];
        match self.accumulators[accumulator] {
            AccumulatorStorage::Variables { scalar, vector } => {
                let variable = if width == 1 { scalar } else { vector };
                let old = self.builder.use_var(variable);
                let new = self.reduce_step(a, old, x, width);
                self.builder.def_var(variable, new);
            }
            AccumulatorStorage::StackSlot(slot) => {
                // The accumulator of an element is its position modulo their number.
                let size = scalar_type(a.lane_type()).bytes() as i64;
                let dim = a.interleaved.expect("accumulators in memory are interleaved");
                let base = self.builder.ins().stack_addr(types::I64, slot, 0);
                let position = self.builder.ins().band_imm_u(self.induction_vars[&dim], PARTIALS as i64 - 1);
                let bytes = self.builder.ins().imul_imm_s(position, size);
                let address = self.builder.ins().iadd(base, bytes);
                let old = self.builder.ins().load(lane_type(a.lane_type(), width), memory(), address, 0);
                let new = self.reduce_step(a, old, x, width);
                self.builder.ins().store(memory(), new, address, 0);
            }
        }
    }

    /// One step of a reduction, `old ⊕ x`.
    fn reduce_step(&mut self, a: Accumulator, old: Value, x: Value, width: usize) -> Value {
        let mut program = LaneProgram::new();
        let args = [program.input(0, a.lane_type()), program.input(1, a.lane_type())];
        let root = from_op::accumulate(&mut program, a.op, a.dtype, args[0], args[1]);
        self.program(&program, &[root], width, &mut |_, n, _| [old, x][n as usize])[0]
    }

    /// Reduces the accumulators to one value by halving: `i` with `i + n/2`.
    fn combine(&mut self, accumulator: usize, row: RowId, width: usize) {
        let a = self.loops.accumulators[accumulator];
        let slot = match self.accumulators[accumulator] {
            AccumulatorStorage::Variables { scalar, vector } => {
                let x = self.builder.use_var(if width == 1 { scalar } else { vector });
                self.rows.insert(row, (x, width));
                return;
            }
            AccumulatorStorage::StackSlot(slot) => slot,
        };
        let lanes = if self.loops.lane_bytes == 8 { 1 } else { LANES };
        let ty = lane_type(a.lane_type(), lanes);
        let size = scalar_type(a.lane_type()).bytes() as usize;
        let base = self.builder.ins().stack_addr(types::I64, slot, 0);
        let mut partials: Vec<Value> = (0..PARTIALS)
            .step_by(lanes)
            .map(|i| self.builder.ins().load(ty, memory(), base, (i * size) as i32))
            .collect();
        while partials.len() > 1 {
            let half = partials.len() / 2;
            partials = (0..half).map(|i| self.reduce_step(a, partials[i], partials[i + half], lanes)).collect();
        }
        let mut scalars: Vec<Value> = if lanes == 1 {
            partials
        } else {
            (0..lanes).map(|lane| self.builder.ins().extractlane(partials[0], lane as u8)).collect()
        };
        while scalars.len() > 1 {
            let half = scalars.len() / 2;
            scalars = (0..half).map(|i| self.reduce_step(a, scalars[i], scalars[i + half], 1)).collect();
        }
        self.rows.insert(row, (scalars[0], 1));
    }
}

impl LoopCx<'_> {
    /// The same loop with a vector of lanes per iteration, along its own dimension.
    fn vectorised(self) -> Self {
        LoopCx { step: LANES, width: LANES, vector: Some(self.dim), ..self }
    }
}
