//! Loops to AVX machine code: 16 lanes of 32 bits or 8 of 64 per vector with AVX-512, 8 or 4 with AVX2. Loop tails run
//! under a mask.
//!
//! Comes in: the loops of one kernel. Goes out: the bytes of a function. It has the signature of the function that
//! `clif` emits, and its results are equal to the bit. Not done here: integer division. [`emit`] returns `None` for
//! such kernels, and Cranelift compiles them.
//!
//! Loops have constant strides, so each access has a pointer that the loops increment by constants, and no affine index
//! is computed (`nest`). The offset of a gather is a lane value; if it is equal in all lanes, it is added to the
//! pointer.
//! `r15` is the induction variable of the vectorised loop and indexes all accesses along it.
//! Loop-invariant values lie in the frame, as whole vectors. The number of lanes of a vector follows from the widest
//! lane type of the kernel; narrower lanes use the low part of a register. If the accumulators of a reduction take
//! several registers, the loop is unrolled by that number, and each unrolled vector has its own accumulator.
//!
//! - `unroll.rs`: a block as straight-line code, unrolled;
//! - `block.rs`: straight-line code to instructions; `compare.rs`, `convert.rs` and `memory.rs`: the instructions that
//!   differ most between the two [`Width`]s;
//! - `regalloc.rs`: register assignment and spilling;
//! - `nest.rs`: loops; `transpose.rs`: transposed copies; `rare.rs`: out-of-line calls.

mod block;
mod compare;
mod convert;
mod memory;
mod nest;
mod rare;
mod regalloc;
mod transpose;
mod unroll;
mod width;

use iced_x86::code_asm::*;
use iced_x86::{BlockEncoder, BlockEncoderOptions, IcedError, InstructionBlock};

use super::symbol::Symbol;
use crate::fuse::Affine;
use crate::graph::ReduceOp;
use crate::lower::lane::{
    LaneBinary, LaneCompare, LaneConvert, LaneId, LaneInst, LaneOp, LaneProgram, LaneType, LaneUnary, from_op,
};
use crate::lower::loops::{Accumulator, Block, Effect, Input, Loops, PARTIALS, Parallel, Stmt, Transpose};

pub(super) use width::Width;
use width::{VectorOperand, YMM, ZMM, simd, with};

type EmitResult = Result<(), IcedError>;

/// The registers that hold pointers; further pointers lie in the frame. `rax` and `rdx` are scratch registers, `r15` is
/// the induction variable of the vectorised loop.
const POINTERS: [AsmRegister64; 12] = [rbx, rbp, rcx, rsi, rdi, r8, r9, r10, r11, r12, r13, r14];

/// The registers that pass arguments.
const ARGUMENTS: [AsmRegister64; 6] = [rdi, rsi, rdx, rcx, r8, r9];

/// The maximum number of iterations of a loop.
const MOST_ITERATIONS: usize = i32::MAX as usize - PARTIALS;

/// The alignment of the code and of the constant pool.
const ALIGNMENT: usize = 64;

/// The smallest page size, and so the minimum size of a stack's guard page.
const PAGE: i32 = 4096;

/// The machine code of `loops`, or `None` if an operation has no vector instructions here.
///
/// # Errors
/// An invalid instruction, which is a bug of this emitter.
pub(super) fn emit(loops: &Loops, width: Width) -> Result<Option<Emission>, IcedError> {
    if !supported(&loops.body, None) || !loops.accumulators.iter().all(can_accumulate) {
        return Ok(None);
    }
    let mut emitter = SimdEmitter::new(loops, width)?;
    // The head needs the constants and the spill slots of the body.
    emitter.body()?;
    let body = emitter.assembler.instructions().len();
    emitter.head()?;
    let mut instructions = emitter.assembler.take_instructions();
    instructions.rotate_left(body);
    let head = instructions.len() - body;
    let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let encoded = BlockEncoder::encode(64, InstructionBlock::new(&instructions, 0), options)?;
    // The immediate of `mov` follows a prefix and an opcode of one byte each.
    let at = |instruction: usize| encoded.new_instruction_offsets[head + instruction] + 2;
    let symbols = emitter.symbols.iter().map(|&(instruction, symbol)| (at(instruction), symbol)).collect();
    Ok(Some(Emission { code: encoded.code_buffer, symbols }))
}

/// A function's code.
#[derive(Debug)]
pub(super) struct Emission {
    pub(super) code: Vec<u8>,
    /// Relocations: byte offsets and the functions whose addresses go there.
    pub(super) symbols: Vec<(u32, Symbol)>,
}

/// The disassembly, one instruction per line.
pub(super) fn disassemble(code: &[u8]) -> String {
    let mut decoder = iced_x86::Decoder::new(64, code, iced_x86::DecoderOptions::NONE);
    let mut formatter = iced_x86::FastFormatter::new();
    let mut text = String::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        text += &format!("{:6x}  ", instruction.ip());
        formatter.format(&instruction, &mut text);
        text.push('\n');
        if instruction.ip() == 0 && instruction.code() == iced_x86::Code::Jmp_rel32_64 {
            let code = instruction.near_branch_target();
            text += &format!("        {} bytes of constants\n", code as usize - ALIGNMENT);
            // The target lies within the code.
            let _ = decoder.set_position(code as usize);
            decoder.set_ip(code);
        }
    }
    text
}

fn supported(body: &[Stmt], vector: Option<usize>) -> bool {
    body.iter().all(|stmt| match stmt {
        // Loop counters have 32 bits.
        Stmt::For { dim, extent, vector: along, body } => {
            *extent <= MOST_ITERATIONS && supported(body, if *along { Some(*dim) } else { vector })
        }
        Stmt::Collapsed { outer, inner, body } => {
            outer.1.saturating_mul(inner.1) <= MOST_ITERATIONS && supported(body, vector)
        }
        Stmt::Block(block) => {
            block.program.insts.iter().all(|inst| is_supported(&block.program, inst))
                && offsets_fit(block, vector)
                && !gathers_bytes(block)
                // Stores at computed places are left to Cranelift.
                && block.effects.iter().all(|effect| effect.offset().is_none())
        }
        Stmt::Init(_) | Stmt::Combine { .. } | Stmt::Transpose(_) => true,
    })
}

/// Whether the steps of a reduction are supported.
fn can_accumulate(accumulator: &Accumulator) -> bool {
    let (program, _) = step(*accumulator);
    program.insts.iter().all(|inst| is_supported(&program, inst))
}

/// A step of a reduction: inputs 0 and 1 combined.
fn step(accumulator: Accumulator) -> (LaneProgram, LaneId) {
    let (mut program, ty) = (LaneProgram::new(), accumulator.lane_type());
    let args = [program.input(0, ty), program.input(1, ty)];
    let root = from_op::accumulate(&mut program, accumulator.op, accumulator.dtype, args[0], args[1]);
    (program, root)
}

/// Whether the byte offsets between the lanes of an unrolled iteration fit in 32 bits.
fn offsets_fit(block: &Block, vector: Option<usize>) -> bool {
    const LANES: isize = 4 * PARTIALS as isize;
    let mut accesses =
        block.inputs.iter().filter_map(Access::of_input).chain(block.effects.iter().filter_map(Access::of_effect));
    accesses.all(|access| {
        let stride = vector.map_or(0, |dim| access.index.strides[dim]).saturating_mul(access.size as isize);
        i32::try_from(stride.saturating_mul(LANES)).is_ok()
    })
}

/// Whether the block gathers elements of 1 or 2 bytes, for which there is no instruction.
fn gathers_bytes(block: &Block) -> bool {
    block.inputs.iter().any(|input| matches!(input, Input::Table { dtype, .. } if dtype.size() < 4))
}

/// Whether an instruction is supported. 64-bit integers have the operations that f64 functions need, no others.
fn is_supported(program: &LaneProgram, inst: &LaneInst) -> bool {
    use LaneBinary::*;
    use LaneConvert::*;
    match inst.op {
        LaneOp::Binary(SDiv | SRem | UDiv | URem, ..) => false,
        LaneOp::Binary(Mul | SMin | SMax | UMin | UMax, ..) => inst.ty != LaneType::I64,
        LaneOp::Binary(Shl | Shr | Sar, _, by) => inst.ty != LaneType::I64 || program.constant(by).is_some(),
        LaneOp::Unary(LaneUnary::Abs, _) => inst.ty != LaneType::I64,
        LaneOp::Convert(I64ToF32 | U64ToF32 | I64ToF64 | U64ToF64 | F64ToI64 | F64ToU64, _) => false,
        LaneOp::Compare(LaneCompare::ULt | LaneCompare::ULe, x, _) => program.ty(x) != LaneType::I64,
        _ => true,
    }
}

/// A memory access or an index, with its own pointer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Access {
    /// The argument. None for an iota, whose "pointer" is the index itself.
    arg: Option<usize>,
    index: Affine,
    /// Bytes of an element; 1 for an iota.
    size: usize,
}

/// The location of a pointer.
#[derive(Clone, Copy)]
enum Pointer {
    Register(AsmRegister64),
    Frame(i32),
}

/// An entry of the constant pool.
#[derive(Clone, Copy, PartialEq)]
enum Constant {
    /// The lane index times a stride, in each 32-bit lane.
    Iota(i32),
    /// The mask of the first lanes: a number of active lanes and the bytes of a lane.
    TailMask(usize, usize),
    /// The same bits in each lane, and the bytes of a lane.
    Splat(u64, usize),
}

struct SimdEmitter<'a> {
    assembler: CodeAssembler,
    loops: &'a Loops,
    width: Width,
    /// Bytes of the widest lane, and the number of lanes of a vector.
    lane_bytes: usize,
    lanes: usize,
    accesses: Vec<Access>,
    pointers: Vec<Pointer>,
    /// The constant pool, which precedes the code.
    constant_pool: Vec<(Constant, CodeLabel)>,
    /// The index of the first accumulator of each reduction, and the number of accumulators.
    first_accumulator: Vec<usize>,
    accumulator_count: usize,
    /// In a vectorised loop: its dimension, the unroll factor, and the number of active lanes of the last unrolled
    /// vector.
    vector: Option<usize>,
    unroll: usize,
    tail_lanes: usize,
    /// Whether loop-invariant values are equal in all lanes. Otherwise each lane is a row.
    uniform_rows: bool,
    /// The number of spill slots of the frame so far.
    spill_slots: usize,
    /// The out-of-line calls.
    rare_calls: Vec<rare::RareCall>,
    /// The instructions of the body whose immediates are addresses of functions.
    symbols: Vec<(usize, Symbol)>,
    frame: Frame,
}

/// The stack frame, as byte offsets from `rsp`. The first word is the caller's `rsp`.
struct Frame {
    arguments: i32,
    /// The work range of the parallel loop, and the end of its whole vectors.
    begin: i32,
    end: i32,
    vector_end: i32,
    pointers: i32,
    counters: i32,
    rows: i32,
    accumulators: i32,
    /// The last.
    spill_slots: i32,
}

impl<'a> SimdEmitter<'a> {
    fn new(loops: &'a Loops, width: Width) -> Result<Self, IcedError> {
        let mut accesses = Vec::new();
        collect_accesses(&loops.body, &mut accesses);
        let arguments = argument_count(loops);
        let lane_bytes = loops.lane_bytes;
        let lanes = width.bytes() / lane_bytes;
        let mut accumulator_count = 0;
        let mut first_accumulator = Vec::with_capacity(loops.accumulators.len());
        for accumulator in &loops.accumulators {
            first_accumulator.push(accumulator_count);
            accumulator_count += accumulator_registers(accumulator, lanes);
        }
        let words = |n: usize| (n * 8) as i32;
        let vectors = |n: usize| (n * width.bytes()) as i32;
        let frame = {
            let arguments_at = 8;
            let vector_end = arguments_at + words(arguments);
            let pointers = vector_end + 8;
            let counters = pointers + words(accesses.len());
            let rows = counters + words(dims(&loops.body));
            let rows = (rows + vectors(1) - 1) / vectors(1) * vectors(1);
            let accumulators = rows + vectors(row_count(&loops.body));
            let spill_slots = accumulators + vectors(accumulator_count);
            // The work range is the last two arguments.
            let (begin, end) = (vector_end - 16, vector_end - 8);
            Frame {
                arguments: arguments_at,
                begin,
                end,
                vector_end,
                pointers,
                counters,
                rows,
                accumulators,
                spill_slots,
            }
        };
        let pointers = (0..accesses.len())
            .map(|i| match POINTERS.get(i) {
                Some(&register) => Pointer::Register(register),
                None => Pointer::Frame(frame.pointers + words(i)),
            })
            .collect();
        let mut assembler = CodeAssembler::new(64)?;
        // VEX encodes registers 0 to 15 only; AVX-512 needs EVEX.
        assembler.set_prefer_vex(width == Width::Ymm);
        Ok(SimdEmitter {
            assembler,
            loops,
            width,
            lane_bytes,
            lanes,
            accesses,
            pointers,
            constant_pool: vec![],
            first_accumulator,
            accumulator_count,
            vector: None,
            unroll: 1,
            tail_lanes: lanes,
            uniform_rows: !has_vector_rows(&loops.body, false),
            spill_slots: 0,
            rare_calls: vec![],
            symbols: vec![],
            frame,
        })
    }

    /// What precedes the body: the constant pool, and the prologue, which makes the frame.
    fn head(&mut self) -> EmitResult {
        self.emit_constant_pool()?;
        for register in [rbx, rbp, r12, r13, r14, r15] {
            self.assembler.push(register)?;
        }
        self.assembler.mov(rax, rsp)?;
        // A frame larger than a page touches each of its pages, so that it cannot skip the stack's guard page.
        let mut rest = self.spill_slot(self.spill_slots);
        while rest + ALIGNMENT as i32 > PAGE {
            self.assembler.sub(rsp, PAGE)?;
            self.assembler.mov(qword_ptr(rsp), rax)?;
            rest -= PAGE;
        }
        self.assembler.sub(rsp, rest)?;
        self.assembler.and(rsp, -(self.width.bytes() as i32))?;
        self.assembler.mov(qword_ptr(rsp), rax)
    }

    fn body(&mut self) -> EmitResult {
        self.arguments()?;
        self.stmts(&self.loops.body)?;
        self.assembler.mov(rsp, qword_ptr(rsp))?;
        for register in [r15, r14, r13, r12, rbp, rbx] {
            self.assembler.pop(register)?;
        }
        // Avoids the transition penalty of SSE instructions in the caller.
        self.assembler.vzeroupper()?;
        self.assembler.ret()?;
        self.emit_rare_calls()
    }

    /// The constant pool and a jump over it. The pool precedes the code so that its entries are aligned.
    fn emit_constant_pool(&mut self) -> EmitResult {
        let mut pool = self.constant_pool.clone();
        if pool.is_empty() {
            return Ok(());
        }
        // In descending order of size, so that each constant is aligned to its size.
        pool.sort_by_key(|(constant, _)| std::cmp::Reverse(constant.bytes(self.width).len()));
        let bytes: usize = pool.iter().map(|(constant, _)| constant.bytes(self.width).len()).sum();
        let code = (ALIGNMENT + bytes).next_multiple_of(ALIGNMENT);
        let mut start = vec![0; ALIGNMENT];
        start[0] = 0xe9;
        start[1..5].copy_from_slice(&(code as u32 - 5).to_le_bytes());
        self.assembler.db(&start)?;
        for (constant, label) in &mut pool {
            self.assembler.set_label(label)?;
            self.assembler.db(&constant.bytes(self.width))?;
        }
        self.assembler.db(&vec![0; code - ALIGNMENT - bytes])
    }

    /// Saves the arguments to the frame and computes the pointer of each access.
    fn arguments(&mut self) -> EmitResult {
        let count = argument_count(self.loops);
        for i in 0..count {
            let slot = qword_ptr(rsp + (self.frame.arguments + 8 * i as i32));
            if let Some(&register) = ARGUMENTS.get(i) {
                self.assembler.mov(slot, register)?;
            }
        }
        // Stack arguments lie above the return address and the six pushed registers.
        self.assembler.mov(rax, qword_ptr(rsp))?;
        for i in ARGUMENTS.len()..count {
            self.assembler.mov(rdx, qword_ptr(rax + (56 + 8 * (i - ARGUMENTS.len()) as i32)))?;
            self.assembler.mov(qword_ptr(rsp + (self.frame.arguments + 8 * i as i32)), rdx)?;
        }
        // The frame slots with the first iteration of each parallel dimension.
        let starts: Vec<(usize, i32)> = match self.loops.parallel {
            Some(Parallel { dim, collapsed: Some((second, extent)), .. }) => {
                let (first_at, second_at) = (self.frame.vector_end, self.counter_at(second));
                self.assembler.mov(rax, qword_ptr(rsp + self.frame.begin))?;
                self.assembler.xor(edx, edx)?;
                self.assembler.mov(r15, extent as i64)?;
                self.assembler.div(r15)?;
                self.assembler.mov(qword_ptr(rsp + first_at), rax)?;
                self.assembler.mov(qword_ptr(rsp + second_at), rdx)?;
                vec![(dim, first_at), (second, second_at)]
            }
            Some(Parallel { dim, collapsed: None, grain: 1, .. }) => vec![(dim, self.frame.begin)],
            // Pointers do not move along the vectorised dimension.
            Some(_) | None => vec![],
        };
        for (i, access) in self.accesses.clone().iter().enumerate() {
            let offset = (access.index.offset * access.size as isize) as i64;
            match access.arg {
                Some(arg) => {
                    self.assembler.mov(rax, qword_ptr(rsp + (self.frame.arguments + 8 * arg as i32)))?;
                    if offset != 0 {
                        self.assembler.mov(rdx, offset)?;
                        self.assembler.add(rax, rdx)?;
                    }
                }
                None => self.assembler.mov(rax, offset)?,
            }
            for &(dim, from) in &starts {
                if access.index.strides[dim] != 0 {
                    self.assembler.mov(rdx, stride_bytes(access, dim))?;
                    self.assembler.imul_2(rdx, qword_ptr(rsp + from))?;
                    self.assembler.add(rax, rdx)?;
                }
            }
            match self.pointers[i] {
                Pointer::Register(register) => self.assembler.mov(register, rax)?,
                Pointer::Frame(at) => self.assembler.mov(qword_ptr(rsp + at), rax)?,
            }
        }
        Ok(())
    }

    // ---- constants and frame slots

    /// The label of a constant in the pool.
    fn pool_label(&mut self, constant: Constant) -> CodeLabel {
        if let Some((_, label)) = self.constant_pool.iter().find(|(known, _)| *known == constant) {
            return *label;
        }
        let label = self.assembler.create_label();
        self.constant_pool.push((constant, label));
        label
    }

    /// A constant in all lanes of `size` bytes, as a memory operand.
    fn constant(&mut self, bits: u64, size: usize) -> VectorOperand {
        VectorOperand::Memory(self.constant_at(bits, size))
    }

    fn constant_at(&mut self, bits: u64, size: usize) -> AsmMemoryOperand {
        let label = self.pool_label(Constant::Splat(bits, size));
        match self.width {
            Width::Zmm if size == 8 => qword_bcst(label),
            Width::Zmm => dword_bcst(label),
            Width::Ymm => ymmword_ptr(label),
        }
    }

    /// A constant in all lanes of a register.
    fn splat_constant(&mut self, register: usize, bits: u64, size: usize) -> EmitResult {
        let label = self.pool_label(Constant::Splat(bits, size));
        match self.width {
            Width::Zmm if size == 8 => self.assembler.vbroadcastsd(ZMM[register], qword_ptr(label)),
            Width::Zmm => self.assembler.vbroadcastss(ZMM[register], dword_ptr(label)),
            Width::Ymm => self.assembler.vmovups(YMM[register], ymmword_ptr(label)),
        }
    }

    /// The lane indices times `stride`, in 32-bit lanes.
    fn lane_offsets(&mut self, stride: i32) -> VectorOperand {
        let label = self.pool_label(Constant::Iota(stride));
        VectorOperand::Memory(match self.width {
            Width::Zmm => zmmword_ptr(label),
            Width::Ymm => ymmword_ptr(label),
        })
    }

    /// The mask of the first `active` lanes of `size` bytes (AVX2).
    fn tail_mask(&mut self, active: usize, size: usize) -> AsmMemoryOperand {
        ymmword_ptr(self.pool_label(Constant::TailMask(active, size)))
    }

    /// Scratch register 0 or 1.
    fn scratch_register(&self, n: usize) -> usize {
        self.width.pool() + n
    }

    /// The number of active lanes of an unrolled vector.
    fn active_lanes(&self, unroll_index: usize) -> usize {
        if unroll_index + 1 == self.unroll { self.tail_lanes } else { self.lanes }
    }

    fn vector_ptr(&self, at: AsmMemoryOperand) -> AsmMemoryOperand {
        match self.width {
            Width::Zmm => zmmword_ptr(at),
            Width::Ymm => ymmword_ptr(at),
        }
    }

    /// Stores a whole vector register.
    fn store_vector(&mut self, register: usize, at: AsmMemoryOperand) -> EmitResult {
        let at = self.vector_ptr(at);
        match self.width {
            Width::Zmm => self.assembler.vmovups(at, ZMM[register]),
            Width::Ymm => self.assembler.vmovups(at, YMM[register]),
        }
    }

    /// The place of a spill slot in the frame.
    fn spill_slot(&self, slot: usize) -> i32 {
        self.frame.spill_slots + (slot * self.width.bytes()) as i32
    }

    fn row(&self, row: u32) -> AsmMemoryOperand {
        rsp + (self.frame.rows + row as i32 * self.width.bytes() as i32)
    }

    // ---- reductions

    /// The accumulator of an unrolled vector.
    fn accumulator_of(&self, a: usize, unroll_index: usize) -> usize {
        let accumulators = self.accumulators_of(a);
        accumulators.start + unroll_index % accumulators.len()
    }

    /// The location of an accumulator: a register or a frame slot.
    fn accumulator(&self, index: usize) -> VectorOperand {
        if index < self.width.accumulators() {
            VectorOperand::Register(self.width.pool() - 1 - index)
        } else {
            let at = self.frame.accumulators + (index * self.width.bytes()) as i32;
            VectorOperand::Memory(self.vector_ptr(rsp + at))
        }
    }

    /// The accumulators of a reduction.
    fn accumulators_of(&self, a: usize) -> std::ops::Range<usize> {
        let first = self.first_accumulator[a];
        first..first + accumulator_registers(&self.loops.accumulators[a], self.lanes)
    }

    /// Sets the accumulators of a reduction to its identity.
    fn init(&mut self, a: usize) -> EmitResult {
        let accumulator = self.loops.accumulators[a];
        let bits = from_op::identity(accumulator.op, accumulator.dtype);
        let size = self.size(accumulator.lane_type());
        for i in self.accumulators_of(a) {
            match self.accumulator(i) {
                VectorOperand::Register(register) => self.splat_constant(register, bits, size)?,
                VectorOperand::Memory(slot) => {
                    let register = self.scratch_register(0);
                    self.splat_constant(register, bits, size)?;
                    self.store_vector(register, slot)?;
                }
            }
        }
        Ok(())
    }

    /// Reduces the accumulators to one value by halving: `i` with `i + 8`, `i + 4`, `i + 2`, `i + 1`. First whole
    /// registers, then within a register, where the remaining lanes are ignored.
    fn combine(&mut self, a: usize, row: u32) -> EmitResult {
        let accumulator = self.loops.accumulators[a];
        let accumulators = self.accumulators_of(a);
        let mut distance = accumulators.len() / 2;
        while distance > 0 {
            for i in accumulators.start..accumulators.start + distance {
                with!(self, vmovups, 0; self.accumulator(i));
                with!(self, vmovups, 1; self.accumulator(i + distance));
                self.combine_step(accumulator)?;
                match self.accumulator(i) {
                    VectorOperand::Register(register) => simd!(self, vmovaps, register, 0),
                    VectorOperand::Memory(slot) => self.store_vector(0, slot)?,
                }
            }
            distance /= 2;
        }
        with!(self, vmovups, 0; self.accumulator(accumulators.start));
        if accumulator.interleaved.is_some() {
            let size = self.size(accumulator.lane_type());
            let mut distance = self.lanes / 2 * size;
            while distance >= size {
                match (self.width, distance) {
                    (Width::Zmm, 32) => self.assembler.vshuff32x4(zmm1, zmm0, zmm0, 0x4e)?,
                    (Width::Zmm, 16) => self.assembler.vshuff32x4(zmm1, zmm0, zmm0, 0xb1)?,
                    (Width::Ymm, 16) => self.assembler.vperm2f128(ymm1, ymm0, ymm0, 1)?,
                    (_, 8) => simd!(self, vpermilps, 1, 0; 0x4e),
                    _ => simd!(self, vpermilps, 1, 0; 0xb1),
                }
                self.combine_step(accumulator)?;
                distance /= 2;
            }
            match (self.width, size) {
                (Width::Zmm, 8) => self.assembler.vbroadcastsd(zmm0, xmm0)?,
                (Width::Zmm, _) => self.assembler.vbroadcastss(zmm0, xmm0)?,
                (Width::Ymm, 8) => self.assembler.vbroadcastsd(ymm0, xmm0)?,
                (Width::Ymm, _) => self.assembler.vbroadcastss(ymm0, xmm0)?,
            }
        }
        let slot = self.row(row);
        self.store_vector(0, slot)
    }

    /// Register 0 ⊕ register 1, to register 0.
    fn combine_step(&mut self, accumulator: Accumulator) -> EmitResult {
        match (accumulator.op, accumulator.lane_type()) {
            (ReduceOp::Sum, LaneType::F32) => simd!(self, vaddps, 0, 0, 1),
            (ReduceOp::Sum, LaneType::F64) => simd!(self, vaddpd, 0, 0, 1),
            _ => {
                let (program, root) = step(accumulator);
                self.register_program(&program, root)?;
            }
        }
        Ok(())
    }
}

impl Constant {
    /// The bytes of the entry.
    fn bytes(self, width: Width) -> Vec<u8> {
        match self {
            Constant::Iota(stride) => {
                (0..width.bytes() as i32 / 4).flat_map(|lane| lane.wrapping_mul(stride).to_le_bytes()).collect()
            }
            Constant::TailMask(active, size) => {
                (0..width.bytes()).map(|i| if i < active * size { 0xff } else { 0 }).collect()
            }
            Constant::Splat(bits, size) => {
                let lane = &bits.to_le_bytes()[..size];
                // AVX-512 instructions broadcast memory operands.
                lane.repeat(if width == Width::Zmm { 1 } else { width.bytes() / size })
            }
        }
    }
}

/// The number of registers that the accumulators of a reduction take.
fn accumulator_registers(accumulator: &Accumulator, lanes: usize) -> usize {
    if accumulator.interleaved.is_some() { PARTIALS / lanes } else { 1 }
}

/// The distinct accesses of some statements, in order.
fn collect_accesses(stmts: &[Stmt], accesses: &mut Vec<Access>) {
    for stmt in stmts {
        match stmt {
            Stmt::For { body, .. } | Stmt::Collapsed { body, .. } => collect_accesses(body, accesses),
            Stmt::Block(block) | Stmt::Transpose(Transpose { block, .. }) => {
                let loads = block.inputs.iter().filter_map(Access::of_input);
                for access in loads.chain(block.effects.iter().filter_map(Access::of_effect)) {
                    if !accesses.contains(&access) {
                        accesses.push(access);
                    }
                }
            }
            Stmt::Init(_) | Stmt::Combine { .. } => {}
        }
    }
}

impl Access {
    fn of_input(input: &Input) -> Option<Access> {
        match input {
            Input::Load { arg, index, dtype } | Input::Table { arg, index, dtype } => {
                Some(Access { arg: Some(*arg), index: index.clone(), size: dtype.size() })
            }
            Input::Iota(index) => Some(Access { arg: None, index: index.clone(), size: 1 }),
            Input::Row(..) => None,
        }
    }

    fn of_effect(effect: &Effect) -> Option<Access> {
        match effect {
            Effect::Store { arg, index, dtype, .. } => {
                Some(Access { arg: Some(*arg), index: index.clone(), size: dtype.size() })
            }
            Effect::Accumulate { .. } | Effect::Row { .. } => None,
        }
    }
}

/// Whether loop-invariant values are computed inside of a vectorised loop.
fn has_vector_rows(stmts: &[Stmt], vectorised: bool) -> bool {
    stmts.iter().any(|stmt| match stmt {
        Stmt::For { vector, body, .. } => has_vector_rows(body, vectorised || *vector),
        Stmt::Collapsed { body, .. } => has_vector_rows(body, vectorised),
        Stmt::Block(block) => vectorised && rows_of(block) > 0,
        Stmt::Combine { .. } => vectorised,
        Stmt::Init(_) | Stmt::Transpose(_) => false,
    })
}

/// The number of arguments of the function: pointers, scratch memory, the work range.
fn argument_count(loops: &Loops) -> usize {
    loops.args.len() + usize::from(loops.scratch > 0) + 2 * usize::from(loops.parallel.is_some())
}

/// The stride of an access along a dimension, in bytes.
fn stride_bytes(access: &Access, dim: usize) -> i64 {
    (access.index.strides[dim] * access.size as isize) as i64
}

/// The number of loop dimensions: one more than the largest.
fn dims(stmts: &[Stmt]) -> usize {
    stmts
        .iter()
        .map(|stmt| match stmt {
            Stmt::For { dim, body, .. } => dims(body).max(dim + 1),
            Stmt::Collapsed { outer, inner, body } => dims(body).max(outer.0.max(inner.0) + 1),
            Stmt::Transpose(Transpose { rows, lanes, .. }) => rows.0.max(lanes.0) + 1,
            Stmt::Block(_) | Stmt::Init(_) | Stmt::Combine { .. } => 0,
        })
        .max()
        .unwrap_or(0)
}

/// The number of loop-invariant values: one more than the largest index.
fn row_count(stmts: &[Stmt]) -> usize {
    stmts
        .iter()
        .map(|stmt| match stmt {
            Stmt::For { body, .. } | Stmt::Collapsed { body, .. } => row_count(body),
            Stmt::Block(block) => rows_of(block),
            Stmt::Combine { row, .. } => *row as usize + 1,
            Stmt::Init(_) | Stmt::Transpose(_) => 0,
        })
        .max()
        .unwrap_or(0)
}

fn rows_of(block: &Block) -> usize {
    let set = block.effects.iter().map(|e| match e {
        Effect::Row { row, .. } => *row as usize + 1,
        Effect::Store { .. } | Effect::Accumulate { .. } => 0,
    });
    set.max().unwrap_or(0)
}
