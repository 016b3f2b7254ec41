//! Loops to AVX code: 16 lanes of 32 bits at a time or 8 of 64 (AVX-512), 8 or 4 where vectors are half as wide (AVX2),
//! remainders under a mask.
//!
//! Comes in: the loops of one kernel. Goes out: the bytes of a function with the same signature and the same results to
//! the bit as the one that `emit` makes through Cranelift, which has vectors of 128 bits only and goes lane by lane where
//! lanes have 64. Kernels with integer division are left to Cranelift ([`emit`] says so with `None`).
//!
//! How it is done: the loops have constant bounds, so every access has a pointer that is moved by constants as the
//! loops go round, and the affine part of an index is never computed (`nest`). What a gather adds to it is a lane value:
//! where all lanes have the same, it is added to the pointer, and the elements are loaded as any others. The vectorised dimension is counted in `r15`, which addresses
//! all accesses along it. Values that are computed once per row lie in the frame with all lanes equal (or one row per
//! lane). A vector has as many lanes as there is room for the widest in the kernel; narrower ones lie in its low part.
//! Where the partial results of a reduction take several registers, so many vectors are computed in one round, each for
//! its own.
//!
//! `straight` makes of a block the code of one vector, or of some side by side; `lanes` maps it to instructions
//! (`truth`, `convert` and `memory` those that differ most between the two [`Width`]s), to which `registers` gives out
//! registers; `transpose` copies what is read across its rows; `rare` calls what hardly any lane needs.

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
use iced_x86::{BlockEncoderOptions, IcedError};

use super::symbol::Symbol;
use crate::fuse::Affine;
use crate::graph::ReduceOp;
use crate::lower::lane::{LaneBinary, LaneCompare, LaneInst, LaneOp, LaneProgram, LaneType, LaneUnary, from_op};
use crate::lower::loops::{Accumulator, Block, Effect, Input, Loops, PARTIALS, Parallel, Stmt, Transpose};

pub(super) use width::Width;
use width::{Operand, YMM, ZMM, simd, with};

type Emitted = Result<(), IcedError>;

/// The registers that hold pointers; more lie in the frame. `rax` and `rdx` are for passing use, `r15` counts lanes.
const POINTERS: [AsmRegister64; 12] = [rbx, rbp, rcx, rsi, rdi, r8, r9, r10, r11, r12, r13, r14];

/// The registers that arguments come in.
const ARGUMENTS: [AsmRegister64; 6] = [rdi, rsi, rdx, rcx, r8, r9];

/// The most iterations of a loop.
const MOST_ITERATIONS: usize = i32::MAX as usize - PARTIALS;

/// What code and constants begin at multiples of.
const ALIGNMENT: usize = 64;

/// The smallest page of the machine, and so the least that guards a stack.
const PAGE: i32 = 4096;

/// The machine code of `loops`, if these instructions can do what it asks for.
///
/// # Errors
/// A fault of this emitter: an instruction that there is not.
pub(super) fn emit(loops: &Loops, width: Width) -> Result<Option<Emission>, IcedError> {
    if !supported(&loops.body, None) {
        return Ok(None);
    }
    // The frame's size is known only after all spills are, and so are the constants: once for these, once for the code.
    let mut dry = Emitter::new(loops, width, 0, vec![])?;
    dry.function()?;
    let mut emitter = Emitter::new(loops, width, dry.spills, dry.data.into_iter().map(|(datum, _)| datum).collect())?;
    emitter.function()?;
    let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let inner = emitter.assembler.assemble_options(0, options)?.inner;
    // The constant of `mov` follows its prefix and its opcode, a byte each.
    let at = |instruction: usize| inner.new_instruction_offsets[instruction] + 2;
    let symbols = emitter.symbols.iter().map(|&(instruction, symbol)| (at(instruction), symbol)).collect();
    Ok(Some(Emission { code: inner.code_buffer, symbols }))
}

/// A function's code.
#[derive(Debug)]
pub(super) struct Emission {
    pub(super) code: Vec<u8>,
    /// At which byte the address of which function is to be put.
    pub(super) symbols: Vec<(u32, Symbol)>,
}

/// The code as text, an instruction a line.
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
            // The decoder was given all that there is.
            let _ = decoder.set_position(code as usize);
            decoder.set_ip(code);
        }
    }
    text
}

fn supported(body: &[Stmt], vector: Option<usize>) -> bool {
    body.iter().all(|stmt| match stmt {
        // Counters are of 32 bits.
        Stmt::For { dim, extent, vector: along, body } => {
            *extent <= MOST_ITERATIONS && supported(body, if *along { Some(*dim) } else { vector })
        }
        Stmt::Collapsed { outer, inner, body } => {
            outer.1.saturating_mul(inner.1) <= MOST_ITERATIONS && supported(body, vector)
        }
        Stmt::Block(block) => {
            block.program.insts.iter().all(|inst| has(&block.program, inst))
                && reaches(block, vector)
                && !gathers_bytes(block)
        }
        Stmt::Init(_) | Stmt::Combine { .. } | Stmt::Transpose(_) => true,
    })
}

/// Do the lanes of a round lie near enough? From the first to another the way is of 32 bits.
fn reaches(block: &Block, vector: Option<usize>) -> bool {
    const LANES: isize = 4 * PARTIALS as isize;
    let mut accesses =
        block.inputs.iter().filter_map(Access::of_input).chain(block.effects.iter().filter_map(Access::of_effect));
    accesses.all(|access| {
        let step = vector.map_or(0, |dim| access.index.strides[dim]).saturating_mul(access.size as isize);
        i32::try_from(step.saturating_mul(LANES)).is_ok()
    })
}

/// Are there elements of a byte at computed places? No instruction loads several of them.
fn gathers_bytes(block: &Block) -> bool {
    block.inputs.iter().any(|input| matches!(input, Input::Table { dtype, .. } if dtype.size() == 1))
}

/// Are there instructions for it? Of 64-bit integers there is what f64 functions are made of.
fn has(program: &LaneProgram, inst: &LaneInst) -> bool {
    use LaneBinary::*;
    match inst.op {
        LaneOp::Binary(SDiv | SRem | UDiv | URem, ..) => false,
        LaneOp::Binary(Mul | SMin | SMax | UMin | UMax, ..) => inst.ty != LaneType::I64,
        LaneOp::Binary(Shl | Shr | Sar, _, by) => inst.ty != LaneType::I64 || program.constant(by).is_some(),
        LaneOp::Unary(LaneUnary::Abs, _) => inst.ty != LaneType::I64,
        LaneOp::Compare(LaneCompare::ULt | LaneCompare::ULe, x, _) => program.ty(x) != LaneType::I64,
        _ => true,
    }
}

/// Something addressed by a pointer of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Access {
    /// The argument, or none for a counter: then the "pointer" is the index itself.
    arg: Option<usize>,
    index: Affine,
    /// Bytes of an element; 1 for a counter.
    size: usize,
}

/// Where a pointer is.
#[derive(Clone, Copy)]
enum Pointer {
    Register(AsmRegister64),
    Frame(i32),
}

/// A constant in memory.
#[derive(Clone, Copy, PartialEq)]
enum Datum {
    /// The lane numbers times a stride.
    Steps(i32),
    /// Ones in the first so many lanes of so many bytes.
    First(usize, usize),
    /// Low bits for each lane of so many bytes.
    Each(u64, usize),
}

struct Emitter<'a> {
    assembler: CodeAssembler,
    loops: &'a Loops,
    width: Width,
    /// Bytes of the widest lane, and lanes of a vector.
    lane: usize,
    lanes: usize,
    accesses: Vec<Access>,
    pointers: Vec<Pointer>,
    /// The constants, before the code.
    data: Vec<(Datum, CodeLabel)>,
    /// The first register of each reduction's partial results, and how many there are in all.
    first_part: Vec<usize>,
    parts: usize,
    /// The dimension along which lanes lie now, if any; how many vectors are computed in one round, and how many lanes
    /// of the last of them count.
    vector: Option<usize>,
    copies: usize,
    last: usize,
    /// Have values that are computed once per row one value in all lanes? Or is each lane a row?
    uniform_rows: bool,
    /// Spill slots in the frame, and how many this run has used.
    room: usize,
    spills: usize,
    /// What code jumps to, where a lane needs it.
    calls: Vec<rare::Call>,
    /// The instructions whose constants are addresses, and of what.
    symbols: Vec<(usize, Symbol)>,
    frame: Frame,
}

/// Byte offsets from `rsp`. The first word is the caller's `rsp`.
struct Frame {
    arguments: i32,
    /// The part of the divided loop: from where, to where; and where its whole vectors end.
    begin: i32,
    end: i32,
    whole: i32,
    pointers: i32,
    counters: i32,
    rows: i32,
    accumulators: i32,
    spills: i32,
    size: i32,
}

impl<'a> Emitter<'a> {
    fn new(loops: &'a Loops, width: Width, room: usize, data: Vec<Datum>) -> Result<Self, IcedError> {
        let mut accesses = Vec::new();
        collect(&loops.body, &mut accesses);
        let arguments = argument_count(loops);
        let lane = loops.lane_bytes;
        let lanes = width.bytes() / lane;
        let mut parts = 0;
        let mut first_part = Vec::with_capacity(loops.accumulators.len());
        for accumulator in &loops.accumulators {
            first_part.push(parts);
            parts += registers(accumulator, lanes);
        }
        let words = |n: usize| (n * 8) as i32;
        let vectors = |n: usize| (n * width.bytes()) as i32;
        let frame = {
            let arguments_at = 8;
            let whole = arguments_at + words(arguments);
            let pointers = whole + 8;
            let counters = pointers + words(accesses.len());
            let rows = counters + words(dims(&loops.body));
            let rows = (rows + vectors(1) - 1) / vectors(1) * vectors(1);
            let accumulators = rows + vectors(row_count(&loops.body));
            let spills = accumulators + vectors(parts);
            let size = spills + vectors(room);
            // The part comes last.
            let (begin, end) = (whole - 16, whole - 8);
            Frame { arguments: arguments_at, begin, end, whole, pointers, counters, rows, accumulators, spills, size }
        };
        let pointers = (0..accesses.len())
            .map(|i| match POINTERS.get(i) {
                Some(&register) => Pointer::Register(register),
                None => Pointer::Frame(frame.pointers + words(i)),
            })
            .collect();
        let mut assembler = CodeAssembler::new(64)?;
        // Only the other encodings reach registers 16 to 31.
        assembler.set_prefer_vex(width == Width::Ymm);
        let data = data.into_iter().map(|datum| (datum, assembler.create_label())).collect();
        Ok(Emitter {
            assembler,
            loops,
            width,
            lane,
            lanes,
            accesses,
            pointers,
            data,
            first_part,
            parts,
            vector: None,
            copies: 1,
            last: lanes,
            uniform_rows: !has_rows(&loops.body, false),
            room,
            spills: 0,
            calls: vec![],
            symbols: vec![],
            frame,
        })
    }

    fn function(&mut self) -> Emitted {
        self.constants()?;
        for register in [rbx, rbp, r12, r13, r14, r15] {
            self.assembler.push(register)?;
        }
        self.assembler.mov(rax, rsp)?;
        // A frame of more than a page touches each of its pages, so that it does not step over the guard of the stack.
        let mut rest = self.frame.size;
        while rest + ALIGNMENT as i32 > PAGE {
            self.assembler.sub(rsp, PAGE)?;
            self.assembler.mov(qword_ptr(rsp), rax)?;
            rest -= PAGE;
        }
        self.assembler.sub(rsp, rest)?;
        self.assembler.and(rsp, -(self.width.bytes() as i32))?;
        self.assembler.mov(qword_ptr(rsp), rax)?;
        self.arguments()?;
        self.stmts(&self.loops.body)?;
        self.assembler.mov(rsp, qword_ptr(rsp))?;
        for register in [r15, r14, r13, r12, rbp, rbx] {
            self.assembler.pop(register)?;
        }
        // The caller's code mixes in instructions that would wait for the upper halves.
        self.assembler.vzeroupper()?;
        self.assembler.ret()?;
        self.rare_calls()
    }

    /// A jump to the code, and the constants that are known: in front of the code, so that they are aligned.
    fn constants(&mut self) -> Emitted {
        let mut data = self.data.clone();
        if data.is_empty() {
            return Ok(());
        }
        // Larger ones first: they begin at multiples of their size.
        data.sort_by_key(|(datum, _)| std::cmp::Reverse(datum.bytes(self.width).len()));
        let bytes: usize = data.iter().map(|(datum, _)| datum.bytes(self.width).len()).sum();
        let code = (ALIGNMENT + bytes).next_multiple_of(ALIGNMENT);
        let mut start = vec![0; ALIGNMENT];
        start[0] = 0xe9;
        start[1..5].copy_from_slice(&(code as u32 - 5).to_le_bytes());
        self.assembler.db(&start)?;
        for (datum, label) in &mut data {
            self.assembler.set_label(label)?;
            self.assembler.db(&datum.bytes(self.width))?;
        }
        self.assembler.db(&vec![0; code - ALIGNMENT - bytes])
    }

    /// Saves the arguments and makes a pointer of each access.
    fn arguments(&mut self) -> Emitted {
        let count = argument_count(self.loops);
        for i in 0..count {
            let slot = qword_ptr(rsp + (self.frame.arguments + 8 * i as i32));
            if let Some(&register) = ARGUMENTS.get(i) {
                self.assembler.mov(slot, register)?;
            }
        }
        // Above the return address and the six registers that were pushed.
        self.assembler.mov(rax, qword_ptr(rsp))?;
        for i in ARGUMENTS.len()..count {
            self.assembler.mov(rdx, qword_ptr(rax + (56 + 8 * (i - ARGUMENTS.len()) as i32)))?;
            self.assembler.mov(qword_ptr(rsp + (self.frame.arguments + 8 * i as i32)), rdx)?;
        }
        // Where the part begins, for each dimension that it divides, in the frame.
        let starts: Vec<(usize, i32)> = match self.loops.parallel {
            Some(Parallel { dim, collapsed: Some((second, extent)), .. }) => {
                let (first_at, second_at) = (self.frame.whole, self.counter_at(second));
                self.assembler.mov(rax, qword_ptr(rsp + self.frame.begin))?;
                self.assembler.xor(edx, edx)?;
                self.assembler.mov(r15, extent as i64)?;
                self.assembler.div(r15)?;
                self.assembler.mov(qword_ptr(rsp + first_at), rax)?;
                self.assembler.mov(qword_ptr(rsp + second_at), rdx)?;
                vec![(dim, first_at), (second, second_at)]
            }
            Some(Parallel { dim, collapsed: None, grain: 1, .. }) => vec![(dim, self.frame.begin)],
            // Along the vectorised dimension pointers stay where they are.
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
                    self.assembler.mov(rdx, step_of(access, dim))?;
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

    // ---- constants, and places in the frame

    fn datum(&mut self, datum: Datum) -> CodeLabel {
        if let Some((_, label)) = self.data.iter().find(|(known, _)| *known == datum) {
            return *label;
        }
        let label = self.assembler.create_label();
        self.data.push((datum, label));
        label
    }

    /// A constant in all lanes of `size` bytes.
    fn constant(&mut self, bits: u64, size: usize) -> Operand {
        Operand::Memory(self.constant_at(bits, size))
    }

    fn constant_at(&mut self, bits: u64, size: usize) -> AsmMemoryOperand {
        let label = self.datum(Datum::Each(bits, size));
        match self.width {
            Width::Zmm if size == 8 => qword_bcst(label),
            Width::Zmm => dword_bcst(label),
            Width::Ymm => ymmword_ptr(label),
        }
    }

    /// The same in a register.
    fn fill(&mut self, register: usize, bits: u64, size: usize) -> Emitted {
        let label = self.datum(Datum::Each(bits, size));
        match self.width {
            Width::Zmm if size == 8 => self.assembler.vbroadcastsd(ZMM[register], qword_ptr(label)),
            Width::Zmm => self.assembler.vbroadcastss(ZMM[register], dword_ptr(label)),
            Width::Ymm => self.assembler.vmovups(YMM[register], ymmword_ptr(label)),
        }
    }

    /// A vector of the lane numbers times `step`.
    fn steps(&mut self, step: i32) -> Operand {
        let label = self.datum(Datum::Steps(step));
        Operand::Memory(match self.width {
            Width::Zmm => zmmword_ptr(label),
            Width::Ymm => ymmword_ptr(label),
        })
    }

    /// Ones in the first `live` lanes of `size` bytes (256 bits only).
    fn first_lanes(&mut self, live: usize, size: usize) -> AsmMemoryOperand {
        ymmword_ptr(self.datum(Datum::First(live, size)))
    }

    /// A register for passing use: 0 or 1.
    fn spare(&self, n: usize) -> usize {
        self.width.pool() + n
    }

    /// How many lanes of the vector of that number count.
    fn live(&self, copy: usize) -> usize {
        if copy + 1 == self.copies { self.last } else { self.lanes }
    }

    fn whole(&self, at: AsmMemoryOperand) -> AsmMemoryOperand {
        match self.width {
            Width::Zmm => zmmword_ptr(at),
            Width::Ymm => ymmword_ptr(at),
        }
    }

    /// Stores a whole register.
    fn save(&mut self, register: usize, at: AsmMemoryOperand) -> Emitted {
        let at = self.whole(at);
        match self.width {
            Width::Zmm => self.assembler.vmovups(at, ZMM[register]),
            Width::Ymm => self.assembler.vmovups(at, YMM[register]),
        }
    }

    fn spill_slot(&self, slot: usize) -> AsmMemoryOperand {
        // The first run has no room yet.
        let slot = slot.min(self.room.max(1) - 1);
        rsp + (self.frame.spills + (slot * self.width.bytes()) as i32)
    }

    fn row(&self, row: u32) -> AsmMemoryOperand {
        rsp + (self.frame.rows + row as i32 * self.width.bytes() as i32)
    }

    // ---- reductions

    /// Which of the registers of partial results is that of a vector.
    fn part(&self, a: usize, copy: usize) -> usize {
        let parts = self.parts_of(a);
        parts.start + copy % parts.len()
    }

    /// Where partial results are, by the number of their register.
    fn accumulator(&self, part: usize) -> Operand {
        if part < self.width.accumulators() {
            Operand::Register(self.width.pool() - 1 - part)
        } else {
            let at = self.frame.accumulators + (part * self.width.bytes()) as i32;
            Operand::Memory(self.whole(rsp + at))
        }
    }

    fn parts_of(&self, a: usize) -> std::ops::Range<usize> {
        let first = self.first_part[a];
        first..first + registers(&self.loops.accumulators[a], self.lanes)
    }

    fn init(&mut self, a: usize) -> Emitted {
        let accumulator = self.loops.accumulators[a];
        let bits = from_op::identity(accumulator.op, accumulator.dtype);
        let size = self.size(accumulator.lane_type());
        for part in self.parts_of(a) {
            match self.accumulator(part) {
                Operand::Register(register) => self.fill(register, bits, size)?,
                Operand::Memory(slot) => {
                    let register = self.spare(0);
                    self.fill(register, bits, size)?;
                    self.save(register, slot)?;
                }
            }
        }
        Ok(())
    }

    /// Element `i` with `i + 8`, `i + 4`, `i + 2`, `i + 1`: first whole registers, then within one, where all other
    /// lanes go along for nothing.
    fn combine(&mut self, a: usize, row: u32) -> Emitted {
        let accumulator = self.loops.accumulators[a];
        let parts = self.parts_of(a);
        let mut distance = parts.len() / 2;
        while distance > 0 {
            for part in parts.start..parts.start + distance {
                with!(self, vmovups, 0; self.accumulator(part));
                with!(self, vmovups, 1; self.accumulator(part + distance));
                self.combine_step(accumulator)?;
                match self.accumulator(part) {
                    Operand::Register(register) => simd!(self, vmovaps, register, 0),
                    Operand::Memory(slot) => self.save(0, slot)?,
                }
            }
            distance /= 2;
        }
        with!(self, vmovups, 0; self.accumulator(parts.start));
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
        self.save(0, slot)
    }

    /// The first register ⊕ the second, to the first.
    fn combine_step(&mut self, accumulator: Accumulator) -> Emitted {
        match (accumulator.op, accumulator.lane_type()) {
            (ReduceOp::Sum, LaneType::F32) => simd!(self, vaddps, 0, 0, 1),
            (ReduceOp::Sum, LaneType::F64) => simd!(self, vaddpd, 0, 0, 1),
            (op, ty) => {
                let mut program = LaneProgram::new();
                let args = [program.input(0, ty), program.input(1, ty)];
                let root = from_op::accumulate(&mut program, op, accumulator.dtype, args[0], args[1]);
                self.between_registers(&program, root)?;
            }
        }
        Ok(())
    }
}

impl Datum {
    /// What lies in memory.
    fn bytes(self, width: Width) -> Vec<u8> {
        match self {
            Datum::Steps(step) => {
                (0..width.bytes() as i32 / 4).flat_map(|lane| lane.wrapping_mul(step).to_le_bytes()).collect()
            }
            Datum::First(live, size) => (0..width.bytes()).map(|i| if i < live * size { 0xff } else { 0 }).collect(),
            Datum::Each(bits, size) => {
                let one = &bits.to_le_bytes()[..size];
                // Instructions for vectors of 512 bits repeat an element by themselves.
                one.repeat(if width == Width::Zmm { 1 } else { width.bytes() / size })
            }
        }
    }
}

/// How many registers the partial results of a reduction take.
fn registers(accumulator: &Accumulator, lanes: usize) -> usize {
    if accumulator.interleaved.is_some() { PARTIALS / lanes } else { 1 }
}

/// The distinct accesses of some code, in order.
fn collect(stmts: &[Stmt], accesses: &mut Vec<Access>) {
    for stmt in stmts {
        match stmt {
            Stmt::For { body, .. } | Stmt::Collapsed { body, .. } => collect(body, accesses),
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

/// Are values computed once per row inside of a vectorised loop?
fn has_rows(stmts: &[Stmt], vectorised: bool) -> bool {
    stmts.iter().any(|stmt| match stmt {
        Stmt::For { vector, body, .. } => has_rows(body, vectorised || *vector),
        Stmt::Collapsed { body, .. } => has_rows(body, vectorised),
        Stmt::Block(block) => vectorised && rows_of(block) > 0,
        Stmt::Combine { .. } => vectorised,
        Stmt::Init(_) | Stmt::Transpose(_) => false,
    })
}

/// How many arguments the code takes: pointers, scratch, the part of the divided loop.
fn argument_count(loops: &Loops) -> usize {
    loops.args.len() + usize::from(loops.scratch > 0) + 2 * usize::from(loops.parallel.is_some())
}

/// Bytes from one iteration of a dimension to the next.
fn step_of(access: &Access, dim: usize) -> i64 {
    (access.index.strides[dim] * access.size as isize) as i64
}

/// One more than the largest dimension that is looped over.
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

/// One more than the largest row.
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
