//! Loops to Cranelift code: walks [`Loops`] and maps lane instructions one to one, four lanes of 32 bits at a time
//! where the code is vectorised, and one lane for what remains.
//!
//! Comes in: the loops of one kernel. Goes out: the body of a function whose parameters are the kernel's pointers.
//! Cranelift moves loop-invariant address arithmetic out of the loops and shares equal values; it does nothing else
//! for us, so the shape of the loops is decided before (`loops`).

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::immediates::{Ieee32, Ieee64};
use cranelift_codegen::ir::{
    AbiParam, BlockArg, Endianness, ExtFuncData, ExternalName, Function, InstBuilder, MemFlagsData, Signature,
    StackSlot, StackSlotData, StackSlotKind, Type, UserExternalName, Value, types,
};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::cpu::symbol::Symbol;
use crate::fuse::Affine;
use crate::lower::lane::{
    LaneBinary, LaneCompare, LaneConvert, LaneId, LaneOp, LaneProgram, LaneType, LaneUnary, Rare, from_op,
};
use crate::lower::loops::{Accumulator, Block, Effect, Input, Loops, PARTIALS, RowId, Stmt};
use crate::types::DType;

/// Lanes of 32 bits in one of Cranelift's vectors.
const LANES: usize = 4;

/// Writes the code of `loops` into `function`, whose signature has a pointer for each argument (and scratch), and where
/// the loops are divided the first and last iteration.
pub(super) fn emit(
    loops: &Loops,
    function: &mut Function,
    context: &mut FunctionBuilderContext,
    config: TargetFrontendConfig,
) {
    let mut builder = FunctionBuilder::new(function, context);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    let mut pointers = builder.block_params(entry).to_vec();
    let part = loops.parallel.map(|_| {
        let (end, begin) = (pointers.pop().expect("an argument"), pointers.pop().expect("an argument"));
        (begin, end)
    });
    let mut emitter = Emitter {
        builder,
        loops,
        pointers,
        part,
        counters: HashMap::new(),
        rows: HashMap::new(),
        accumulators: Vec::new(),
    };
    emitter.accumulators = loops.accumulators.iter().map(|a| emitter.place(a)).collect();
    emitter.stmts(&loops.body, 1, None);
    emitter.builder.ins().return_(&[]);
    emitter.builder.seal_all_blocks();
    emitter.builder.finalize(config);
}

struct Emitter<'a, 'b> {
    builder: FunctionBuilder<'b>,
    loops: &'a Loops,
    pointers: Vec<Value>,
    /// From where to where the divided loop runs.
    part: Option<(Value, Value)>,
    /// The counter of each open loop.
    counters: HashMap<usize, Value>,
    /// The values of the current row, and how many lanes they have.
    rows: HashMap<RowId, (Value, usize)>,
    accumulators: Vec<Location>,
}

/// Where a reduction's partial results are.
#[derive(Clone, Copy)]
enum Location {
    /// [`PARTIALS`] of them, side by side in memory.
    Memory(StackSlot),
    /// One for each lane, in a register: for single lanes and for vectors.
    Registers(Variable, Variable),
}

impl Emitter<'_, '_> {
    fn place(&mut self, accumulator: &Accumulator) -> Location {
        let ty = accumulator.lane_type();
        if accumulator.interleaved.is_some() {
            let size = (PARTIALS * scalar_type(ty).bytes() as usize) as u32;
            Location::Memory(self.builder.create_sized_stack_slot(StackSlotData::new(
                StackSlotKind::ExplicitSlot,
                size,
                4,
            )))
        } else {
            let scalar = self.builder.declare_var(scalar_type(ty));
            let vector = self.builder.declare_var(if self.loops.lane_bytes == 8 {
                scalar_type(ty)
            } else {
                lane_type(ty, LANES)
            });
            Location::Registers(scalar, vector)
        }
    }

    /// Emits statements for `width` lanes along `vector`.
    fn stmts(&mut self, stmts: &[Stmt], width: usize, vector: Option<usize>) {
        for stmt in stmts {
            match stmt {
                Stmt::For { dim, vector: vectorised, body, .. } if self.loops.is_parallel(*dim) => {
                    let (begin, end) = self.part.expect("divided loops come with a part");
                    if *vectorised && self.loops.lane_bytes == 4 {
                        // Parts begin at multiples of the lanes.
                        let whole = self.builder.ins().band_imm_s(end, -(LANES as i64));
                        self.part_loop(*dim, begin, whole, LANES, body, LANES, Some(*dim));
                        let rest = self.builder.ins().umax(begin, whole);
                        self.part_loop(*dim, rest, end, 1, body, 1, vector);
                    } else {
                        self.part_loop(*dim, begin, end, 1, body, width, vector);
                    }
                }
                Stmt::For { dim, extent, vector: true, body } if self.loops.lane_bytes == 4 && *extent >= LANES => {
                    let whole = extent - extent % LANES;
                    self.for_loop(*dim, 0, whole, LANES, body, LANES, Some(*dim));
                    self.for_loop(*dim, whole, *extent, 1, body, 1, vector);
                }
                Stmt::For { dim, extent, vector: _, body } => {
                    self.for_loop(*dim, 0, *extent, 1, body, width, vector);
                }
                Stmt::Collapsed { outer, inner, body } => {
                    let part = self.part.expect("divided loops come with a part");
                    self.collapsed_loop(outer.0, *inner, part, body, width, vector);
                }
                Stmt::Block(block) => self.block(block, width, vector),
                Stmt::Init(a) => self.init(*a, width),
                Stmt::Combine { accumulator, row } => self.combine(*accumulator, *row, width),
                Stmt::Transpose(transpose) => self.stmts(&[transpose.loops()], 1, None),
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn for_loop(
        &mut self,
        dim: usize,
        begin: usize,
        end: usize,
        step: usize,
        body: &[Stmt],
        width: usize,
        vector: Option<usize>,
    ) {
        if begin >= end {
            return;
        }
        let first = self.builder.ins().iconst(types::I64, begin as i64);
        if end - begin <= step {
            self.counters.insert(dim, first);
            self.stmts(body, width, vector);
            self.counters.remove(&dim);
            return;
        }
        let last = self.builder.ins().iconst(types::I64, end as i64);
        let after = self.builder.create_block();
        self.rounds(dim, first, last, step, body, width, vector, after);
    }

    /// A loop whose bounds are known at run time only; it may be empty.
    #[allow(clippy::too_many_arguments)]
    fn part_loop(
        &mut self,
        dim: usize,
        begin: Value,
        end: Value,
        step: usize,
        body: &[Stmt],
        width: usize,
        vector: Option<usize>,
    ) {
        let (some, after) = (self.builder.create_block(), self.builder.create_block());
        let more = self.builder.ins().icmp(IntCC::UnsignedLessThan, begin, end);
        self.builder.ins().brif(more, some, &[], after, &[]);
        self.builder.switch_to_block(some);
        self.rounds(dim, begin, end, step, body, width, vector, after);
    }

    /// A part of two loops that count as one: the first's and the second's dimension, the second's extent.
    fn collapsed_loop(
        &mut self,
        first: usize,
        (second, extent): (usize, usize),
        (begin, end): (Value, Value),
        body: &[Stmt],
        width: usize,
        vector: Option<usize>,
    ) {
        let (head, after) = (self.builder.create_block(), self.builder.create_block());
        let counter = self.builder.append_block_param(head, types::I64);
        let more = self.builder.ins().icmp(IntCC::UnsignedLessThan, begin, end);
        self.builder.ins().brif(more, head, &[BlockArg::Value(begin)], after, &[]);
        self.builder.switch_to_block(head);
        let extent = self.builder.ins().iconst(types::I64, extent as i64);
        let outer = self.builder.ins().udiv(counter, extent);
        let inner = self.builder.ins().urem(counter, extent);
        self.counters.extend([(first, outer), (second, inner)]);
        self.stmts(body, width, vector);
        self.counters.remove(&first);
        self.counters.remove(&second);
        let next = self.builder.ins().iadd_imm_u(counter, 1);
        let more = self.builder.ins().icmp(IntCC::UnsignedLessThan, next, end);
        self.builder.ins().brif(more, head, &[BlockArg::Value(next)], after, &[]);
        self.builder.switch_to_block(after);
    }

    /// The body of a loop that runs at least once, and the way to `after` it.
    #[allow(clippy::too_many_arguments)]
    fn rounds(
        &mut self,
        dim: usize,
        first: Value,
        end: Value,
        step: usize,
        body: &[Stmt],
        width: usize,
        vector: Option<usize>,
        after: cranelift_codegen::ir::Block,
    ) {
        let head = self.builder.create_block();
        let counter = self.builder.append_block_param(head, types::I64);
        self.builder.ins().jump(head, &[BlockArg::Value(first)]);
        self.builder.switch_to_block(head);
        self.counters.insert(dim, counter);
        self.stmts(body, width, vector);
        self.counters.remove(&dim);
        let next = self.builder.ins().iadd_imm_u(counter, step as i64);
        let more = self.builder.ins().icmp(IntCC::UnsignedLessThan, next, end);
        self.builder.ins().brif(more, head, &[BlockArg::Value(next)], after, &[]);
        self.builder.switch_to_block(after);
    }

    /// The address of element `index` of an argument, and a constant offset in bytes.
    fn address(&mut self, arg: usize, index: &Affine, size: usize) -> (Value, i32) {
        let mut address = self.pointers[arg];
        // Outermost first, so that what does not change inside a loop is computed outside of it.
        for (dim, &stride) in index.strides.iter().enumerate() {
            let Some(&counter) = self.counters.get(&dim).filter(|_| stride != 0) else { continue };
            let bytes = self.builder.ins().imul_imm_s(counter, (stride * size as isize) as i64);
            address = self.builder.ins().iadd(address, bytes);
        }
        let offset = index.offset * size as isize;
        match i32::try_from(offset) {
            Ok(offset) => (address, offset),
            Err(_) => (self.builder.ins().iadd_imm_s(address, offset as i64), 0),
        }
    }

    fn load(&mut self, arg: usize, index: &Affine, dtype: DType, width: usize, vector: Option<usize>) -> Value {
        let (address, offset) = self.address(arg, index, dtype.size());
        let stride = vector.map_or(0, |dim| index.strides[dim]);
        self.load_at((address, offset), stride, dtype, width)
    }

    /// Elements that lie `stride` apart, from an address on.
    fn load_at(&mut self, (address, offset): (Value, i32), stride: isize, dtype: DType, width: usize) -> Value {
        let size = dtype.size();
        let flags = memory();
        if width == 1 || stride == 0 {
            let x = self.load_one(address, offset, dtype);
            return self.spread(x, LaneType::of(dtype), width);
        }
        if stride == 1 && dtype == DType::Bool {
            // Four bytes, each to 32 bits, then to a mask.
            let bytes = self.builder.ins().load(types::I32, flags, address, offset);
            let bytes = self.builder.ins().scalar_to_vector(types::I32X4, bytes);
            let bytes = self.builder.ins().bitcast(types::I8X16, little(), bytes);
            let words = self.builder.ins().uwiden_low(bytes);
            let longs = self.builder.ins().uwiden_low(words);
            let zero = self.constant(LaneType::I32, 0, width);
            return self.builder.ins().icmp(IntCC::NotEqual, longs, zero);
        }
        if stride == 1 {
            return self.builder.ins().load(lane_type(LaneType::of(dtype), width), flags, address, offset);
        }
        let ty = LaneType::of(dtype);
        let lanes: SmallVec<[Value; LANES]> = (0..width)
            .map(|lane| {
                let step = lane as isize * stride * size as isize;
                match i32::try_from(offset as isize + step) {
                    Ok(offset) => self.load_one(address, offset, dtype),
                    Err(_) => {
                        let address = self.builder.ins().iadd_imm_s(address, step as i64);
                        self.load_one(address, offset, dtype)
                    }
                }
            })
            .collect();
        self.gather(&lanes, ty)
    }

    /// Elements that lie `by` (i32, of each lane) behind a place in a table; `uniform` tells that it is the same for all.
    fn load_by(&mut self, input: &Input, by: Value, uniform: bool, width: usize, vector: Option<usize>) -> Value {
        let Input::Table { arg, index, dtype } = input else { unreachable!("a gather reads a table") };
        let size = dtype.size() as i64;
        let (address, offset) = self.address(*arg, index, dtype.size());
        let stride = vector.map_or(0, |dim| index.strides[dim]);
        let behind = |e: &mut Self, by: Value, more: i64| {
            let by = e.builder.ins().sextend(types::I64, by);
            let bytes = e.builder.ins().imul_imm_s(by, size);
            let place = e.builder.ins().iadd(address, bytes);
            if more == 0 { place } else { e.builder.ins().iadd_imm_s(place, more) }
        };
        if width == 1 || uniform {
            let by = if width == 1 { by } else { self.builder.ins().extractlane(by, 0) };
            let place = behind(self, by, 0);
            return self.load_at((place, offset), stride, *dtype, width);
        }
        let lanes: SmallVec<[Value; LANES]> = (0..width)
            .map(|lane| {
                let by = self.builder.ins().extractlane(by, lane as u8);
                let place = behind(self, by, (lane as isize * stride) as i64 * size);
                self.load_one(place, offset, *dtype)
            })
            .collect();
        self.gather(&lanes, LaneType::of(*dtype))
    }

    fn load_one(&mut self, address: Value, offset: i32, dtype: DType) -> Value {
        self.builder.ins().load(memory_type(dtype), memory(), address, offset)
    }

    fn store(&mut self, x: Value, place: (usize, &Affine, DType), width: usize, vector: Option<usize>) {
        let (arg, index, dtype) = place;
        let size = dtype.size();
        let (address, offset) = self.address(arg, index, size);
        let stride = vector.map_or(0, |dim| index.strides[dim]);
        let flags = memory();
        if width == 1 {
            self.builder.ins().store(flags, x, address, offset);
            return;
        }
        if stride == 1 && dtype == DType::Bool {
            let one = self.constant(LaneType::I32, 1, width);
            let bits = self.builder.ins().band(x, one);
            let words = self.builder.ins().snarrow(bits, bits);
            let bytes = self.builder.ins().snarrow(words, words);
            let bytes = self.builder.ins().bitcast(types::I32X4, little(), bytes);
            let bytes = self.builder.ins().extractlane(bytes, 0);
            self.builder.ins().store(flags, bytes, address, offset);
            return;
        }
        if stride == 1 {
            self.builder.ins().store(flags, x, address, offset);
            return;
        }
        for lane in 0..width {
            let mut one = self.builder.ins().extractlane(x, lane as u8);
            if dtype == DType::Bool {
                let bit = self.builder.ins().band_imm_u(one, 1);
                one = self.builder.ins().ireduce(types::I8, bit);
            }
            let step = self.builder.ins().iadd_imm_s(address, (lane as isize * stride * size as isize) as i64);
            self.builder.ins().store(flags, one, step, offset);
        }
    }

    /// The same value in all lanes.
    fn spread(&mut self, x: Value, ty: LaneType, width: usize) -> Value {
        if width == 1 {
            return x;
        }
        if ty == LaneType::Bool {
            let wide = self.builder.ins().uextend(types::I32, x);
            let all = self.builder.ins().ineg(wide);
            return self.builder.ins().splat(types::I32X4, all);
        }
        self.builder.ins().splat(lane_type(ty, width), x)
    }

    /// A vector of these scalars.
    fn gather(&mut self, lanes: &[Value], ty: LaneType) -> Value {
        let as_mask = |e: &mut Self, x: Value| {
            if ty != LaneType::Bool {
                return x;
            }
            let wide = e.builder.ins().uextend(types::I32, x);
            e.builder.ins().ineg(wide)
        };
        let vector = lane_type(ty, lanes.len());
        let first = as_mask(self, lanes[0]);
        let mut all = self.builder.ins().scalar_to_vector(vector, first);
        for (lane, &x) in lanes.iter().enumerate().skip(1) {
            let x = as_mask(self, x);
            all = self.builder.ins().insertlane(all, x, lane as u8);
        }
        all
    }

    fn constant(&mut self, ty: LaneType, bits: u64, width: usize) -> Value {
        if width == 1 {
            return match ty {
                LaneType::F32 => self.builder.ins().f32const(Ieee32::with_bits(bits as u32)),
                LaneType::F64 => self.builder.ins().f64const(Ieee64::with_bits(bits)),
                LaneType::I32 => self.builder.ins().iconst(types::I32, i64::from(bits as u32)),
                LaneType::I64 => self.builder.ins().iconst(types::I64, bits as i64),
                LaneType::Bool => self.builder.ins().iconst(types::I8, bits as i64),
            };
        }
        let lane = if ty == LaneType::Bool && bits != 0 { u32::MAX } else { bits as u32 };
        let bytes: Vec<u8> = std::iter::repeat_n(lane.to_le_bytes(), width).flatten().collect();
        let constant = self.builder.func.dfg.constants.insert(bytes.into());
        self.builder.ins().vconst(lane_type(ty, width), constant)
    }

    fn block(&mut self, block: &Block, width: usize, vector: Option<usize>) {
        let roots: SmallVec<[LaneId; 8]> = block.effects.iter().map(Effect::value).collect();
        let inputs = block.inputs.clone();
        let uniform = self.uniform(block, width, vector);
        let values = self.program(&block.program, &roots, width, &mut |e, n, by| match &inputs[n as usize] {
            Input::Load { arg, index, dtype } => e.load(*arg, index, *dtype, width, vector),
            table @ Input::Table { .. } => {
                let (lane, by) = by.expect("a table is read by a gather");
                e.load_by(table, by, uniform[lane.index()], width, vector)
            }
            Input::Iota(index) => e.counter(index, width, vector),
            Input::Row(row, ty) => {
                let (x, lanes) = e.rows[row];
                if lanes == width { x } else { e.spread(x, *ty, width) }
            }
        });
        for (effect, x) in block.effects.iter().zip(values) {
            match effect {
                Effect::Store { arg, index, dtype, .. } => self.store(x, (*arg, index, *dtype), width, vector),
                Effect::Accumulate { accumulator, .. } => self.accumulate(*accumulator, x, width),
                Effect::Row { row, .. } => {
                    self.rows.insert(*row, (x, width));
                }
            }
        }
    }

    /// For each value of a block that gathers whether all lanes have one value.
    fn uniform(&self, block: &Block, width: usize, vector: Option<usize>) -> Vec<bool> {
        if !block.program.insts.iter().any(|inst| matches!(inst.op, LaneOp::Gather(..))) {
            return vec![];
        }
        block.program.uniform(|n| match &block.inputs[n as usize] {
            Input::Load { index, .. } | Input::Table { index, .. } | Input::Iota(index) => {
                vector.is_none_or(|dim| index.strides[dim] == 0)
            }
            Input::Row(row, _) => width == 1 || self.rows.get(row).is_some_and(|(_, lanes)| *lanes == 1),
        })
    }

    /// An index as i32 lanes.
    fn counter(&mut self, index: &Affine, width: usize, vector: Option<usize>) -> Value {
        let mut sum = self.builder.ins().iconst(types::I64, index.offset as i64);
        for (dim, &stride) in index.strides.iter().enumerate() {
            if let Some(&counter) = self.counters.get(&dim).filter(|_| stride != 0) {
                let term = self.builder.ins().imul_imm_s(counter, stride as i64);
                sum = self.builder.ins().iadd(sum, term);
            }
        }
        let first = self.builder.ins().ireduce(types::I32, sum);
        let all = self.spread(first, LaneType::I32, width);
        let stride = vector.map_or(0, |dim| index.strides[dim]) as i32;
        if width == 1 || stride == 0 {
            return all;
        }
        let steps: Vec<u8> = (0..width as i32).flat_map(|lane| lane.wrapping_mul(stride).to_le_bytes()).collect();
        let constant = self.builder.func.dfg.constants.insert(steps.into());
        let steps = self.builder.ins().vconst(types::I32X4, constant);
        self.builder.ins().iadd(all, steps)
    }

    // ---- reductions

    fn init(&mut self, accumulator: usize, width: usize) {
        let a = self.loops.accumulators[accumulator];
        let bits = from_op::identity(a.op, a.dtype);
        match self.accumulators[accumulator] {
            Location::Registers(scalar, vector) => {
                let x = self.constant(a.lane_type(), bits, width);
                self.builder.def_var(if width == 1 { scalar } else { vector }, x);
            }
            Location::Memory(slot) => {
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

    fn accumulate(&mut self, accumulator: usize, x: Value, width: usize) {
        let a = self.loops.accumulators[accumulator];
        match self.accumulators[accumulator] {
            Location::Registers(scalar, vector) => {
                let variable = if width == 1 { scalar } else { vector };
                let old = self.builder.use_var(variable);
                let new = self.step(a, old, x, width);
                self.builder.def_var(variable, new);
            }
            Location::Memory(slot) => {
                // The element's position modulo the number of partial results.
                let size = scalar_type(a.lane_type()).bytes() as i64;
                let dim = a.interleaved.expect("partial results in memory are interleaved");
                let base = self.builder.ins().stack_addr(types::I64, slot, 0);
                let position = self.builder.ins().band_imm_u(self.counters[&dim], PARTIALS as i64 - 1);
                let bytes = self.builder.ins().imul_imm_s(position, size);
                let address = self.builder.ins().iadd(base, bytes);
                let old = self.builder.ins().load(lane_type(a.lane_type(), width), memory(), address, 0);
                let new = self.step(a, old, x, width);
                self.builder.ins().store(memory(), new, address, 0);
            }
        }
    }

    /// One step of a reduction, `old ⊕ x`.
    fn step(&mut self, a: Accumulator, old: Value, x: Value, width: usize) -> Value {
        let mut program = LaneProgram::new();
        let args = [program.input(0, a.lane_type()), program.input(1, a.lane_type())];
        let root = from_op::accumulate(&mut program, a.op, a.dtype, args[0], args[1]);
        self.program(&program, &[root], width, &mut |_, n, _| [old, x][n as usize])[0]
    }

    fn combine(&mut self, accumulator: usize, row: RowId, width: usize) {
        let a = self.loops.accumulators[accumulator];
        let slot = match self.accumulators[accumulator] {
            Location::Registers(scalar, vector) => {
                let x = self.builder.use_var(if width == 1 { scalar } else { vector });
                self.rows.insert(row, (x, width));
                return;
            }
            Location::Memory(slot) => slot,
        };
        let lanes = if self.loops.lane_bytes == 8 { 1 } else { LANES };
        let ty = lane_type(a.lane_type(), lanes);
        let size = scalar_type(a.lane_type()).bytes() as usize;
        let base = self.builder.ins().stack_addr(types::I64, slot, 0);
        let mut parts: Vec<Value> = (0..PARTIALS)
            .step_by(lanes)
            .map(|i| self.builder.ins().load(ty, memory(), base, (i * size) as i32))
            .collect();
        while parts.len() > 1 {
            let half = parts.len() / 2;
            parts = (0..half).map(|i| self.step(a, parts[i], parts[i + half], lanes)).collect();
        }
        let mut ones: Vec<Value> = if lanes == 1 {
            parts
        } else {
            (0..lanes).map(|lane| self.builder.ins().extractlane(parts[0], lane as u8)).collect()
        };
        while ones.len() > 1 {
            let half = ones.len() / 2;
            ones = (0..half).map(|i| self.step(a, ones[i], ones[i + half], 1)).collect();
        }
        self.rows.insert(row, (ones[0], 1));
    }

    // ---- lane programs

    /// Emits what `roots` need of a program; `input` gives its inputs, and what a gather reads by a value.
    fn program(
        &mut self,
        program: &LaneProgram,
        roots: &[LaneId],
        width: usize,
        input: &mut dyn FnMut(&mut Self, u32, Option<(LaneId, Value)>) -> Value,
    ) -> Vec<Value> {
        let live = program.live(roots);
        let mut values: Vec<Option<Value>> = vec![None; program.insts.len()];
        for (i, inst) in program.insts.iter().enumerate() {
            if !live[i] {
                continue;
            }
            let get = |x: LaneId| values[x.index()].expect("operands come earlier and are live");
            let value = match inst.op {
                LaneOp::Const(bits) => self.constant(inst.ty, bits, width),
                LaneOp::Input(n) => input(self, n, None),
                LaneOp::Gather(n, x) => input(self, n, Some((x, get(x)))),
                LaneOp::Unary(op, x) => self.unary(op, inst.ty, get(x), width),
                LaneOp::Binary(op, x, y) => self.binary(op, inst.ty, get(x), get(y), program.constant(y), width),
                LaneOp::Fma(x, y, z) => self.builder.ins().fma(get(x), get(y), get(z)),
                LaneOp::Compare(op, x, y) => self.compare(op, program.ty(x), get(x), get(y)),
                LaneOp::Select(c, x, y) => self.select(inst.ty, get(c), get(x), get(y), width),
                LaneOp::Convert(op, x) => self.convert(op, get(x), width),
                LaneOp::Rare(function, operands) => self.rare(function, inst.ty, operands.map(get), width),
            };
            values[i] = Some(value);
        }
        roots.iter().map(|x| values[x.index()].expect("a root is live")).collect()
    }

    /// `c ? function(x, y) : z`: a branch to calls for each lane, taken where `c` is true for any.
    fn rare(&mut self, function: Rare, ty: LaneType, [c, x, y, z]: [Value; 4], width: usize) -> Value {
        let (calls, after) = (self.builder.create_block(), self.builder.create_block());
        let result = self.builder.append_block_param(after, lane_type(ty, width));
        let any = if width == 1 { c } else { self.builder.ins().vany_true(c) };
        self.builder.ins().brif(any, calls, &[], after, &[BlockArg::Value(z)]);
        self.builder.set_cold_block(calls);
        self.builder.switch_to_block(calls);
        let lane = scalar_type(ty);
        let mut signature = Signature::new(self.builder.func.signature.call_conv);
        signature.params.extend([AbiParam::new(lane); 2]);
        signature.returns.push(AbiParam::new(lane));
        let signature = self.builder.import_signature(signature);
        let index = Symbol::Rare(function, ty).id().as_u32();
        let name = self.builder.func.declare_imported_user_function(UserExternalName { namespace: 0, index });
        let data = ExtFuncData { name: ExternalName::user(name), signature, colocated: false, patchable: false };
        let callee = self.builder.import_function(data);
        let call = |e: &mut Self, x: Value, y: Value| {
            let call = e.builder.ins().call(callee, &[x, y]);
            e.builder.inst_results(call)[0]
        };
        let called = self.each_lane(x, y, ty, width, call);
        let chosen = self.select(ty, c, called, z, width);
        self.builder.ins().jump(after, &[BlockArg::Value(chosen)]);
        self.builder.switch_to_block(after);
        result
    }

    fn unary(&mut self, op: LaneUnary, ty: LaneType, x: Value, width: usize) -> Value {
        let float = matches!(ty, LaneType::F32 | LaneType::F64);
        let ins = self.builder.ins();
        match op {
            LaneUnary::Neg if float => ins.fneg(x),
            LaneUnary::Neg => ins.ineg(x),
            LaneUnary::Abs if float => ins.fabs(x),
            LaneUnary::Abs => ins.iabs(x),
            LaneUnary::Sqrt => ins.sqrt(x),
            LaneUnary::Floor => ins.floor(x),
            LaneUnary::Ceil => ins.ceil(x),
            LaneUnary::Trunc => ins.trunc(x),
            LaneUnary::Nearest => ins.nearest(x),
            LaneUnary::Not if ty == LaneType::Bool && width == 1 => ins.bxor_imm_u(x, 1),
            LaneUnary::Not => ins.bnot(x),
        }
    }

    fn binary(&mut self, op: LaneBinary, ty: LaneType, x: Value, y: Value, known: Option<u64>, width: usize) -> Value {
        let float = matches!(ty, LaneType::F32 | LaneType::F64);
        match op {
            LaneBinary::Add if float => self.builder.ins().fadd(x, y),
            LaneBinary::Add => self.builder.ins().iadd(x, y),
            LaneBinary::Sub if float => self.builder.ins().fsub(x, y),
            LaneBinary::Sub => self.builder.ins().isub(x, y),
            LaneBinary::Mul if float => self.builder.ins().fmul(x, y),
            LaneBinary::Mul => self.builder.ins().imul(x, y),
            LaneBinary::Div => self.builder.ins().fdiv(x, y),
            // In exactly this order of operands these become minps and maxps.
            LaneBinary::Min => {
                let less = self.builder.ins().fcmp(FloatCC::LessThan, x, y);
                self.select(ty, less, x, y, width)
            }
            LaneBinary::Max => {
                let less = self.builder.ins().fcmp(FloatCC::LessThan, y, x);
                self.select(ty, less, x, y, width)
            }
            LaneBinary::And => self.builder.ins().band(x, y),
            LaneBinary::Or => self.builder.ins().bor(x, y),
            LaneBinary::Xor => self.builder.ins().bxor(x, y),
            LaneBinary::Shl | LaneBinary::Shr | LaneBinary::Sar => match known {
                Some(amount) => {
                    let amount = self.builder.ins().iconst(types::I32, amount as i64);
                    self.shift(op, x, amount)
                }
                None => self.each_lane(x, y, ty, width, |e, x, y| e.shift(op, x, y)),
            },
            LaneBinary::SDiv | LaneBinary::SRem | LaneBinary::UDiv | LaneBinary::URem => {
                self.each_lane(x, y, ty, width, |e, x, y| e.divide(op, x, y, known))
            }
            LaneBinary::SMin => self.extreme(IntCC::SignedLessThan, x, y, width),
            LaneBinary::SMax => self.extreme(IntCC::SignedGreaterThan, x, y, width),
            LaneBinary::UMin => self.extreme(IntCC::UnsignedLessThan, x, y, width),
            LaneBinary::UMax => self.extreme(IntCC::UnsignedGreaterThan, x, y, width),
        }
    }

    fn shift(&mut self, op: LaneBinary, x: Value, amount: Value) -> Value {
        match op {
            LaneBinary::Shl => self.builder.ins().ishl(x, amount),
            LaneBinary::Shr => self.builder.ins().ushr(x, amount),
            _ => self.builder.ins().sshr(x, amount),
        }
    }

    fn extreme(&mut self, cc: IntCC, x: Value, y: Value, width: usize) -> Value {
        let first = self.builder.ins().icmp(cc, x, y);
        self.select(LaneType::I32, first, x, y, width)
    }

    /// Integer division as XLA defines it; never traps.
    fn divide(&mut self, op: LaneBinary, x: Value, y: Value, known: Option<u64>) -> Value {
        let signed = matches!(op, LaneBinary::SDiv | LaneBinary::SRem);
        let ins = self.builder.ins();
        if known.is_some_and(|y| y != 0 && (!signed || y as u32 != u32::MAX)) {
            // A constant divisor cannot trap; Cranelift makes a multiplication of it.
            return match op {
                LaneBinary::SDiv => ins.sdiv(x, y),
                LaneBinary::SRem => ins.srem(x, y),
                LaneBinary::UDiv => ins.udiv(x, y),
                _ => ins.urem(x, y),
            };
        }
        let one = self.builder.ins().iconst(types::I32, 1);
        let zero = self.builder.ins().iconst(types::I32, 0);
        let by_zero = self.builder.ins().icmp(IntCC::Equal, y, zero);
        let all = self.builder.ins().iconst(types::I32, i64::from(u32::MAX));
        // x / -1 = -x and x % -1 = 0 hold for every x when computed so; the machine would trap on the smallest x.
        let by_minus_one = self.builder.ins().icmp(IntCC::Equal, y, all);
        let mut unsafe_divisor = by_zero;
        if signed {
            unsafe_divisor = self.builder.ins().bor(by_zero, by_minus_one);
        }
        let divisor = self.builder.ins().select(unsafe_divisor, one, y);
        match op {
            LaneBinary::SDiv => {
                let quotient = self.builder.ins().sdiv(x, divisor);
                let negated = self.builder.ins().ineg(x);
                let quotient = self.builder.ins().select(by_minus_one, negated, quotient);
                self.builder.ins().select(by_zero, all, quotient)
            }
            LaneBinary::SRem => {
                let rest = self.builder.ins().srem(x, divisor);
                self.builder.ins().select(by_zero, x, rest)
            }
            LaneBinary::UDiv => {
                let quotient = self.builder.ins().udiv(x, divisor);
                self.builder.ins().select(by_zero, all, quotient)
            }
            _ => {
                let rest = self.builder.ins().urem(x, divisor);
                self.builder.ins().select(by_zero, x, rest)
            }
        }
    }

    /// What there is for scalars of two operands only.
    fn each_lane(
        &mut self,
        x: Value,
        y: Value,
        ty: LaneType,
        width: usize,
        f: impl Fn(&mut Self, Value, Value) -> Value,
    ) -> Value {
        if width == 1 {
            return f(self, x, y);
        }
        let lanes: SmallVec<[Value; LANES]> = (0..width as u8)
            .map(|lane| {
                let x = self.builder.ins().extractlane(x, lane);
                let y = self.builder.ins().extractlane(y, lane);
                f(self, x, y)
            })
            .collect();
        self.gather(&lanes, ty)
    }

    fn compare(&mut self, op: LaneCompare, ty: LaneType, x: Value, y: Value) -> Value {
        let float = matches!(ty, LaneType::F32 | LaneType::F64);
        let (float_cc, int_cc) = match op {
            LaneCompare::Eq => (FloatCC::Equal, IntCC::Equal),
            LaneCompare::Ne => (FloatCC::NotEqual, IntCC::NotEqual),
            LaneCompare::Lt => (FloatCC::LessThan, IntCC::SignedLessThan),
            LaneCompare::Le => (FloatCC::LessThanOrEqual, IntCC::SignedLessThanOrEqual),
            LaneCompare::ULt => (FloatCC::LessThan, IntCC::UnsignedLessThan),
            LaneCompare::ULe => (FloatCC::LessThanOrEqual, IntCC::UnsignedLessThanOrEqual),
        };
        if float { self.builder.ins().fcmp(float_cc, x, y) } else { self.builder.ins().icmp(int_cc, x, y) }
    }

    fn select(&mut self, ty: LaneType, c: Value, x: Value, y: Value, width: usize) -> Value {
        if width == 1 {
            return self.builder.ins().select(c, x, y);
        }
        let mask = match ty {
            LaneType::F32 => self.builder.ins().bitcast(types::F32X4, little(), c),
            LaneType::I32 | LaneType::Bool | LaneType::F64 | LaneType::I64 => c,
        };
        self.builder.ins().bitselect(mask, x, y)
    }

    fn convert(&mut self, op: LaneConvert, x: Value, width: usize) -> Value {
        let vector = width > 1;
        let f32s = lane_type(LaneType::F32, width);
        let i32s = lane_type(LaneType::I32, width);
        match op {
            LaneConvert::F32ToF64 => self.builder.ins().fpromote(types::F64, x),
            LaneConvert::F64ToF32 => self.builder.ins().fdemote(types::F32, x),
            LaneConvert::I32ToF32 => self.builder.ins().fcvt_from_sint(f32s, x),
            LaneConvert::U32ToF32 => self.builder.ins().fcvt_from_uint(f32s, x),
            LaneConvert::I32ToF64 => self.builder.ins().fcvt_from_sint(types::F64, x),
            LaneConvert::U32ToF64 => self.builder.ins().fcvt_from_uint(types::F64, x),
            LaneConvert::F32ToI32 => self.builder.ins().fcvt_to_sint_sat(i32s, x),
            LaneConvert::F32ToU32 => self.builder.ins().fcvt_to_uint_sat(i32s, x),
            LaneConvert::F64ToI32 => self.builder.ins().fcvt_to_sint_sat(types::I32, x),
            LaneConvert::F64ToU32 => self.builder.ins().fcvt_to_uint_sat(types::I32, x),
            LaneConvert::BoolToI32 if vector => self.builder.ins().ineg(x),
            LaneConvert::BoolToI32 => self.builder.ins().uextend(types::I32, x),
            LaneConvert::U32ToI64 => self.builder.ins().uextend(types::I64, x),
            LaneConvert::I32ToI64 => self.builder.ins().sextend(types::I64, x),
            LaneConvert::I64ToI32 => self.builder.ins().ireduce(types::I32, x),
            LaneConvert::F32Bits => self.builder.ins().bitcast(i32s, little(), x),
            LaneConvert::F32FromBits => self.builder.ins().bitcast(f32s, little(), x),
            LaneConvert::F64Bits => self.builder.ins().bitcast(types::I64, little(), x),
            LaneConvert::F64FromBits => self.builder.ins().bitcast(types::F64, little(), x),
        }
    }
}

/// Flags of all our memory accesses: within bounds by construction, of any alignment, in any order with respect to
/// what Cranelift can prove to be elsewhere.
fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// Flags of a cast between vectors of different lanes.
fn little() -> MemFlagsData {
    MemFlagsData::new().with_endianness(Endianness::Little)
}

/// What an element is in memory.
fn memory_type(dtype: DType) -> Type {
    scalar_type(LaneType::of(dtype))
}

/// A single lane in a register; a truth value is 0 or 1.
fn scalar_type(ty: LaneType) -> Type {
    match ty {
        LaneType::F32 => types::F32,
        LaneType::F64 => types::F64,
        LaneType::I32 => types::I32,
        LaneType::I64 => types::I64,
        LaneType::Bool => types::I8,
    }
}

/// `width` lanes in a register; truth values are masks.
fn lane_type(ty: LaneType, width: usize) -> Type {
    if width == 1 {
        return scalar_type(ty);
    }
    match ty {
        LaneType::F32 => types::F32X4,
        LaneType::I32 | LaneType::Bool => types::I32X4,
        LaneType::F64 => types::F64X2,
        LaneType::I64 => types::I64X2,
    }
}
