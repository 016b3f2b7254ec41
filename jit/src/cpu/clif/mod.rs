//! Loops to Cranelift IR, one lane instruction to one CLIF instruction. A vectorised loop runs four 32-bit lanes at a
//! time; its tail runs one lane at a time.
//!
//! Comes in: the loops of one kernel. Goes out: the body of a function whose parameters are the kernel's pointers.
//! Cranelift hoists loop-invariant address arithmetic and removes common subexpressions. No other optimisation is left
//! to it: the loop structure is decided by `lower::loops`.
//!
//! - `mod.rs`: the function, memory accesses, constants and types;
//! - `loops.rs`: statements, loops and reductions;
//! - `lanes.rs`: lane programs.

mod lanes;
mod loops;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::immediates::{Ieee32, Ieee64};
use cranelift_codegen::ir::{
    Endianness, Function, InstBuilder, MemFlagsData, StackSlot, StackSlotData, StackSlotKind, Type, Value, types,
};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::fuse::Affine;
use crate::lower::lane::LaneType;
use crate::lower::lane::storage::Storage;
use crate::lower::loops::{Accumulator, Input, Loops, PARTIALS, RowId};
use crate::types::DType;

/// 32-bit lanes of a Cranelift vector.
const LANES: usize = 4;

/// Emits `loops` into `function`. Its signature has a pointer for each argument, a pointer to scratch memory if there
/// is any, and the begin and end of the work range if a loop is parallel.
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
    let range = loops.parallel.map(|_| {
        let (end, begin) = (pointers.pop().expect("an argument"), pointers.pop().expect("an argument"));
        (begin, end)
    });
    let mut emitter = ClifEmitter {
        builder,
        loops,
        pointers,
        range,
        induction_vars: HashMap::new(),
        rows: HashMap::new(),
        accumulators: Vec::new(),
    };
    emitter.accumulators = loops.accumulators.iter().map(|a| emitter.allocate_accumulator(a)).collect();
    emitter.stmts(&loops.body, 1, None);
    emitter.builder.ins().return_(&[]);
    emitter.builder.seal_all_blocks();
    emitter.builder.finalize(config);
}

struct ClifEmitter<'a, 'b> {
    builder: FunctionBuilder<'b>,
    loops: &'a Loops,
    pointers: Vec<Value>,
    /// The work range of the parallel loop: begin and end.
    range: Option<(Value, Value)>,
    /// The induction variable of each open loop, by dimension.
    induction_vars: HashMap<usize, Value>,
    /// The loop-invariant values that are in scope, and their numbers of lanes.
    rows: HashMap<RowId, (Value, usize)>,
    accumulators: Vec<AccumulatorStorage>,
}

/// Where the accumulators of a reduction are.
#[derive(Clone, Copy)]
enum AccumulatorStorage {
    /// [`PARTIALS`] contiguous accumulators in a stack slot.
    StackSlot(StackSlot),
    /// One accumulator per lane, in a scalar variable and in a vector variable.
    Variables { scalar: Variable, vector: Variable },
}

impl ClifEmitter<'_, '_> {
    fn allocate_accumulator(&mut self, accumulator: &Accumulator) -> AccumulatorStorage {
        let ty = accumulator.lane_type();
        if accumulator.interleaved.is_some() {
            let size = (PARTIALS * scalar_type(ty).bytes() as usize) as u32;
            let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, size, 4);
            AccumulatorStorage::StackSlot(self.builder.create_sized_stack_slot(slot))
        } else {
            let scalar = self.builder.declare_var(scalar_type(ty));
            let vector = self.builder.declare_var(if self.loops.lane_bytes == 8 {
                scalar_type(ty)
            } else {
                lane_type(ty, LANES)
            });
            AccumulatorStorage::Variables { scalar, vector }
        }
    }

    /// The address of element `index` of an argument: a pointer and a constant byte offset.
    fn address(&mut self, arg: usize, index: &Affine, size: usize) -> (Value, i32) {
        let mut address = self.pointers[arg];
        // Outermost dimension first, so that the sum of the outer dimensions is loop-invariant.
        for (dim, &stride) in index.strides.iter().enumerate() {
            let Some(&iv) = self.induction_vars.get(&dim).filter(|_| stride != 0) else { continue };
            let bytes = self.builder.ins().imul_imm_s(iv, (stride * size as isize) as i64);
            address = self.builder.ins().iadd(address, bytes);
        }
        let offset = index.offset * size as isize;
        match i32::try_from(offset) {
            Ok(offset) => (address, offset),
            Err(_) => (self.builder.ins().iadd_imm_s(address, offset as i64), 0),
        }
    }

    pub(super) fn load(
        &mut self,
        arg: usize,
        index: &Affine,
        dtype: DType,
        width: usize,
        vector: Option<usize>,
    ) -> Value {
        let (address, offset) = self.address(arg, index, dtype.size());
        let stride = vector.map_or(0, |dim| index.strides[dim]);
        self.load_at((address, offset), stride, dtype, width)
    }

    /// Loads elements with a stride, from an address on.
    fn load_at(&mut self, (address, offset): (Value, i32), stride: isize, dtype: DType, width: usize) -> Value {
        let size = dtype.size();
        let flags = memory();
        if width == 1 || stride == 0 {
            let x = self.load_scalar(address, offset, dtype);
            return self.splat(x, LaneType::raw(dtype), width);
        }
        let ty = LaneType::raw(dtype);
        if stride == 1 {
            return match Storage::of(dtype) {
                Storage::Lane => self.builder.ins().load(lane_type(ty, width), flags, address, offset),
                Storage::Byte => {
                    let longs = self.load_low(1, address, offset);
                    let zero = self.constant(LaneType::I32, 0, width);
                    self.builder.ins().icmp(IntCC::NotEqual, longs, zero)
                }
                Storage::Low(bytes) => self.load_low(bytes, address, offset),
            };
        }
        let lanes: SmallVec<[Value; LANES]> = (0..width)
            .map(|lane| {
                let step = lane as isize * stride * size as isize;
                match i32::try_from(offset as isize + step) {
                    Ok(offset) => self.load_scalar(address, offset, dtype),
                    Err(_) => {
                        let address = self.builder.ins().iadd_imm_s(address, step as i64);
                        self.load_scalar(address, offset, dtype)
                    }
                }
            })
            .collect();
        self.build_vector(&lanes, ty)
    }

    /// Loads four elements of 1 or 2 bytes into 32-bit lanes, with zeros above.
    fn load_low(&mut self, bytes: usize, address: Value, offset: i32) -> Value {
        if bytes == 2 {
            return self.builder.ins().uload16x4(memory(), address, offset);
        }
        let bytes = self.builder.ins().load(types::I32, memory(), address, offset);
        let bytes = self.builder.ins().scalar_to_vector(types::I32X4, bytes);
        let bytes = self.builder.ins().bitcast(types::I8X16, little(), bytes);
        let words = self.builder.ins().uwiden_low(bytes);
        self.builder.ins().uwiden_low(words)
    }

    /// A lane of a vector as an element in memory.
    fn element(&mut self, x: Value, lane: u8, dtype: DType) -> Value {
        let scalar = self.builder.ins().extractlane(x, lane);
        match Storage::of(dtype) {
            Storage::Byte => {
                let bit = self.builder.ins().band_imm_u(scalar, 1);
                self.builder.ins().ireduce(types::I8, bit)
            }
            Storage::Lane | Storage::Low(_) => scalar,
        }
    }

    /// Stores an element.
    fn store_scalar(&mut self, x: Value, address: Value, offset: i32, dtype: DType) {
        match Storage::of(dtype) {
            Storage::Lane | Storage::Byte => self.builder.ins().store(memory(), x, address, offset),
            Storage::Low(1) => self.builder.ins().istore8(memory(), x, address, offset),
            Storage::Low(_) => self.builder.ins().istore16(memory(), x, address, offset),
        };
    }

    /// Loads the elements at `offset` (i32, per lane) from an element of a table. `uniform`: it is equal in all lanes.
    pub(super) fn gather(
        &mut self,
        table: &Input,
        offset: Value,
        uniform: bool,
        width: usize,
        vector: Option<usize>,
    ) -> Value {
        let Input::Table { arg, index, dtype } = table else { unreachable!("a gather reads a table") };
        let size = dtype.size();
        let (base, constant) = self.address(*arg, index, size);
        let stride = vector.map_or(0, |dim| index.strides[dim]);
        if width == 1 || uniform {
            let offset = if width == 1 { offset } else { self.builder.ins().extractlane(offset, 0) };
            let address = self.offset_by(base, offset, size);
            return self.load_at((address, constant), stride, *dtype, width);
        }
        let lanes: SmallVec<[Value; LANES]> = (0..width)
            .map(|lane| {
                let offset = self.builder.ins().extractlane(offset, lane as u8);
                let address = self.offset_by(base, offset, size);
                let step = (lane as isize * stride * size as isize) as i64;
                let address = if step == 0 { address } else { self.builder.ins().iadd_imm_s(address, step) };
                self.load_scalar(address, constant, *dtype)
            })
            .collect();
        self.build_vector(&lanes, LaneType::raw(*dtype))
    }

    /// Stores each lane at its `offset` (i32) from an element, one after the other. `uniform`: it is equal in all
    /// lanes.
    pub(super) fn scatter(
        &mut self,
        x: Value,
        (offset, uniform): (Value, bool),
        (arg, index, dtype): (usize, &Affine, DType),
        width: usize,
        vector: Option<usize>,
    ) {
        let size = dtype.size();
        let (base, constant) = self.address(arg, index, size);
        let stride = vector.map_or(0, |dim| index.strides[dim]);
        if width > 1 && uniform && stride == 1 && Storage::of(dtype) == Storage::Lane {
            let elements = self.builder.ins().extractlane(offset, 0);
            let address = self.offset_by(base, elements, size);
            self.builder.ins().store(memory(), x, address, constant);
            return;
        }
        for lane in 0..width {
            let (mut scalar, mut elements) = (x, offset);
            if width > 1 {
                scalar = self.element(x, lane as u8, dtype);
                elements = self.builder.ins().extractlane(offset, lane as u8);
            }
            let address = self.offset_by(base, elements, size);
            let step = (lane as isize * stride * size as isize) as i64;
            let address = if step == 0 { address } else { self.builder.ins().iadd_imm_s(address, step) };
            self.store_scalar(scalar, address, constant, dtype);
        }
    }

    /// An address and so many elements, an i32.
    fn offset_by(&mut self, address: Value, elements: Value, size: usize) -> Value {
        let elements = self.builder.ins().sextend(types::I64, elements);
        let bytes = self.builder.ins().imul_imm_s(elements, size as i64);
        self.builder.ins().iadd(address, bytes)
    }

    fn load_scalar(&mut self, address: Value, offset: i32, dtype: DType) -> Value {
        match Storage::of(dtype) {
            Storage::Lane | Storage::Byte => {
                self.builder.ins().load(scalar_type(LaneType::of(dtype)), memory(), address, offset)
            }
            Storage::Low(1) => self.builder.ins().uload8(types::I32, memory(), address, offset),
            Storage::Low(_) => self.builder.ins().uload16(types::I32, memory(), address, offset),
        }
    }

    pub(super) fn store(
        &mut self,
        x: Value,
        (arg, index, dtype): (usize, &Affine, DType),
        width: usize,
        vector: Option<usize>,
    ) {
        let size = dtype.size();
        let (address, offset) = self.address(arg, index, size);
        let stride = vector.map_or(0, |dim| index.strides[dim]);
        if width == 1 {
            self.store_scalar(x, address, offset, dtype);
            return;
        }
        if stride == 1 {
            let stored = match Storage::of(dtype) {
                Storage::Lane => x,
                Storage::Byte => {
                    let one = self.constant(LaneType::I32, 1, width);
                    let bits = self.builder.ins().band(x, one);
                    let words = self.builder.ins().snarrow(bits, bits);
                    let bytes = self.builder.ins().snarrow(words, words);
                    let bytes = self.builder.ins().bitcast(types::I32X4, little(), bytes);
                    self.builder.ins().extractlane(bytes, 0)
                }
                // The upper bytes are zero, so that nothing saturates.
                Storage::Low(bytes) => {
                    let words = self.builder.ins().unarrow(x, x);
                    if bytes == 1 {
                        let bytes = self.builder.ins().unarrow(words, words);
                        let bytes = self.builder.ins().bitcast(types::I32X4, little(), bytes);
                        self.builder.ins().extractlane(bytes, 0)
                    } else {
                        let words = self.builder.ins().bitcast(types::I64X2, little(), words);
                        self.builder.ins().extractlane(words, 0)
                    }
                }
            };
            self.builder.ins().store(memory(), stored, address, offset);
            return;
        }
        for lane in 0..width {
            let scalar = self.element(x, lane as u8, dtype);
            let step = self.builder.ins().iadd_imm_s(address, (lane as isize * stride * size as isize) as i64);
            self.store_scalar(scalar, step, offset, dtype);
        }
    }

    /// A scalar in all lanes.
    pub(super) fn splat(&mut self, x: Value, ty: LaneType, width: usize) -> Value {
        if width == 1 {
            return x;
        }
        if ty == LaneType::Bool {
            let extended = self.builder.ins().uextend(types::I32, x);
            let mask = self.builder.ins().ineg(extended);
            return self.builder.ins().splat(types::I32X4, mask);
        }
        self.builder.ins().splat(lane_type(ty, width), x)
    }

    /// A vector with these lanes.
    pub(super) fn build_vector(&mut self, lanes: &[Value], ty: LaneType) -> Value {
        let as_mask = |e: &mut Self, x: Value| {
            if ty != LaneType::Bool {
                return x;
            }
            let extended = e.builder.ins().uextend(types::I32, x);
            e.builder.ins().ineg(extended)
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

    /// A constant in all lanes.
    pub(super) fn constant(&mut self, ty: LaneType, bits: u64, width: usize) -> Value {
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

    /// An index as 32-bit lanes.
    pub(super) fn iota(&mut self, index: &Affine, width: usize, vector: Option<usize>) -> Value {
        let mut sum = self.builder.ins().iconst(types::I64, index.offset as i64);
        for (dim, &stride) in index.strides.iter().enumerate() {
            if let Some(&iv) = self.induction_vars.get(&dim).filter(|_| stride != 0) {
                let term = self.builder.ins().imul_imm_s(iv, stride as i64);
                sum = self.builder.ins().iadd(sum, term);
            }
        }
        let first = self.builder.ins().ireduce(types::I32, sum);
        let all = self.splat(first, LaneType::I32, width);
        let stride = vector.map_or(0, |dim| index.strides[dim]) as i32;
        if width == 1 || stride == 0 {
            return all;
        }
        let offsets: Vec<u8> = (0..width as i32).flat_map(|lane| lane.wrapping_mul(stride).to_le_bytes()).collect();
        let constant = self.builder.func.dfg.constants.insert(offsets.into());
        let offsets = self.builder.ins().vconst(types::I32X4, constant);
        self.builder.ins().iadd(all, offsets)
    }
}

/// The flags of all memory accesses: they do not trap, since they are in bounds by construction. They may be unaligned,
/// and Cranelift orders them unless it proves that they do not alias.
fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

/// The flags of a bitcast between vector types.
fn little() -> MemFlagsData {
    MemFlagsData::new().with_endianness(Endianness::Little)
}

/// The type of a single lane; a bool is 0 or 1.
fn scalar_type(ty: LaneType) -> Type {
    match ty {
        LaneType::F32 => types::F32,
        LaneType::F64 => types::F64,
        LaneType::I32 => types::I32,
        LaneType::I64 => types::I64,
        LaneType::Bool => types::I8,
    }
}

/// The type of `width` lanes; bools are lane masks.
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
