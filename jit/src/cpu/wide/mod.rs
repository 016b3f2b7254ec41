//! Loops to AVX-512 code: sixteen lanes of 32 bits at a time, remainders under a mask.
//!
//! Comes in: the loops of one kernel. Goes out: the bytes of a function with the same signature and the same results to
//! the bit as the one that `emit` makes through Cranelift, which has vectors of 128 bits only. Kernels with 64-bit
//! lanes or integer division are left to Cranelift ([`emit`] says so with `None`).
//!
//! How it is done: the loops have constant bounds, so every access has a pointer that is moved by constants as the
//! loops go round, and no index is ever computed. The vectorised dimension is counted in `r15`, which addresses all
//! accesses along it. Values that are computed once per row lie in the frame with all lanes equal (or one row per lane).
//! `straight` makes of a block the code of one vector, or of two side by side; `lanes` maps it to instructions, to which
//! `registers` gives out registers; `transpose` copies what is read across its rows.

mod lanes;
mod registers;
mod straight;
mod transpose;

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use crate::fuse::Affine;
use crate::graph::ReduceOp;
use crate::lane::{LaneBinary, LaneOp, LaneProgram, LaneType, lower};
use crate::loops::{Accumulator, Block, Effect, Input, Loops, Parallel, Stmt, Transpose};
use crate::types::DType;

type Emitted = Result<(), IcedError>;

/// Lanes of a vector.
const LANES: usize = 16;

/// Bytes of a vector.
const BYTES: i32 = 64;

/// Reductions whose partial results stay in registers; the rest lie in the frame.
const ACCUMULATORS: usize = 8;

/// The registers that hold pointers; more lie in the frame. `rax` and `rdx` are for passing use, `r15` counts lanes.
const POINTERS: [AsmRegister64; 12] = [rbx, rbp, rcx, rsi, rdi, r8, r9, r10, r11, r12, r13, r14];

/// The registers that arguments come in.
const ARGUMENTS: [AsmRegister64; 6] = [rdi, rsi, rdx, rcx, r8, r9];

const ZMM: [AsmRegisterZmm; 32] = [
    zmm0, zmm1, zmm2, zmm3, zmm4, zmm5, zmm6, zmm7, zmm8, zmm9, zmm10, zmm11, zmm12, zmm13, zmm14, zmm15, zmm16, zmm17,
    zmm18, zmm19, zmm20, zmm21, zmm22, zmm23, zmm24, zmm25, zmm26, zmm27, zmm28, zmm29, zmm30, zmm31,
];

const XMM: [AsmRegisterXmm; 32] = [
    xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15, xmm16, xmm17,
    xmm18, xmm19, xmm20, xmm21, xmm22, xmm23, xmm24, xmm25, xmm26, xmm27, xmm28, xmm29, xmm30, xmm31,
];

const MASK: [AsmRegisterK; 8] = [k0, k1, k2, k3, k4, k5, k6, k7];

/// Can this machine run the code?
pub(super) fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        cfg!(unix)
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// The machine code of `loops`, if these instructions can do what it asks for.
///
/// # Errors
/// A fault of this emitter: an instruction that there is not.
pub(super) fn emit(loops: &Loops) -> Result<Option<Vec<u8>>, IcedError> {
    if loops.scalar || !supported(&loops.body) {
        return Ok(None);
    }
    // The frame's size is known only after all spills are: once for the count, once for the code.
    let mut dry = Emitter::new(loops, 0)?;
    dry.function()?;
    let mut emitter = Emitter::new(loops, dry.spills)?;
    emitter.function()?;
    emitter.assembler.assemble(0).map(Some)
}

/// The code as text, an instruction a line; constants at the end look like instructions.
pub(super) fn disassemble(code: &[u8]) -> String {
    let mut decoder = iced_x86::Decoder::new(64, code, iced_x86::DecoderOptions::NONE);
    let mut formatter = iced_x86::FastFormatter::new();
    let mut text = String::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        text += &format!("{:6x}  ", instruction.ip());
        formatter.format(&instruction, &mut text);
        text.push('\n');
    }
    text
}

fn supported(body: &[Stmt]) -> bool {
    body.iter().all(|stmt| match stmt {
        Stmt::For { body, .. } => supported(body),
        Stmt::Block(block) => block.program.insts.iter().all(|inst| {
            let divides = matches!(
                inst.op,
                LaneOp::Binary(LaneBinary::SDiv | LaneBinary::SRem | LaneBinary::UDiv | LaneBinary::URem, ..)
            );
            !divides && !matches!(inst.ty, LaneType::F64 | LaneType::I64)
        }),
        Stmt::Init(_) | Stmt::Combine { .. } | Stmt::Transpose(_) => true,
    })
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

struct Emitter<'a> {
    assembler: CodeAssembler,
    loops: &'a Loops,
    accesses: Vec<Access>,
    pointers: Vec<Pointer>,
    /// Lane constants, and vectors of lane numbers times a stride, after the code.
    constants: Vec<(u32, CodeLabel)>,
    steps: Vec<(i32, CodeLabel)>,
    /// The dimension along which lanes lie now, if any; and whether only some of them count (mask `k1`).
    vector: Option<usize>,
    masked: bool,
    /// How many vectors are computed side by side now.
    copies: usize,
    /// Spill slots in the frame, and how many this run has used.
    room: usize,
    spills: usize,
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
    fn new(loops: &'a Loops, room: usize) -> Result<Self, IcedError> {
        let mut accesses = Vec::new();
        collect(&loops.body, &mut accesses);
        let arguments = argument_count(loops);
        let words = |n: usize| (n * 8) as i32;
        let vectors = |n: usize| n as i32 * BYTES;
        let frame = {
            let arguments_at = 8;
            let whole = arguments_at + words(arguments);
            let pointers = whole + 8;
            let counters = pointers + words(accesses.len());
            let rows = (counters + words(dims(&loops.body)) + BYTES - 1) / BYTES * BYTES;
            let accumulators = rows + vectors(row_count(&loops.body));
            let spills = accumulators + vectors(loops.accumulators.len());
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
        // Only these encodings reach registers 16 to 31.
        assembler.set_prefer_vex(false);
        Ok(Emitter {
            assembler,
            loops,
            accesses,
            pointers,
            constants: Vec::new(),
            steps: Vec::new(),
            vector: None,
            masked: false,
            copies: 1,
            room,
            spills: 0,
            frame,
        })
    }

    fn function(&mut self) -> Emitted {
        for register in [rbx, rbp, r12, r13, r14, r15] {
            self.assembler.push(register)?;
        }
        self.assembler.mov(rax, rsp)?;
        self.assembler.sub(rsp, self.frame.size)?;
        self.assembler.and(rsp, -BYTES)?;
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
        for (bits, mut label) in std::mem::take(&mut self.constants) {
            self.assembler.set_label(&mut label)?;
            self.assembler.dd(&[bits])?;
        }
        for (step, mut label) in std::mem::take(&mut self.steps) {
            self.assembler.set_label(&mut label)?;
            let lanes: Vec<u32> = (0..LANES as i32).map(|lane| lane.wrapping_mul(step) as u32).collect();
            self.assembler.dd(&lanes)?;
        }
        Ok(())
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
            Some(Parallel { dim, within: Some((second, extent)), .. }) => {
                let (first_at, second_at) = (self.frame.whole, self.counter_at(second));
                self.assembler.mov(rax, qword_ptr(rsp + self.frame.begin))?;
                self.assembler.xor(edx, edx)?;
                self.assembler.mov(r15, extent as i64)?;
                self.assembler.div(r15)?;
                self.assembler.mov(qword_ptr(rsp + first_at), rax)?;
                self.assembler.mov(qword_ptr(rsp + second_at), rdx)?;
                vec![(dim, first_at), (second, second_at)]
            }
            Some(Parallel { dim, within: None, grain: 1, .. }) => vec![(dim, self.frame.begin)],
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

    fn stmts(&mut self, stmts: &[Stmt]) -> Emitted {
        for stmt in stmts {
            match stmt {
                Stmt::For { extent: 0, .. } => {}
                Stmt::For { dim, extent, vector: true, body } if self.loops.is_divided(*dim) => {
                    self.vector_part(*dim, *extent, body)?
                }
                Stmt::For { dim, extent, vector: true, body } => self.vector_loop(*dim, *extent, body)?,
                Stmt::For { dim, extent, vector: false, body } => match self.loops.divided_with(*dim, body) {
                    Some((within, body)) => self.flat_loop(*dim, within, body)?,
                    None => self.plain_loop(*dim, *extent, body)?,
                },
                Stmt::Block(block) => self.block(block)?,
                Stmt::Init(a) => self.init(*a)?,
                Stmt::Combine { accumulator, row } => self.combine(*accumulator, *row)?,
                Stmt::Transpose(transpose) => self.transpose(transpose)?,
            }
        }
        Ok(())
    }

    fn vector_loop(&mut self, dim: usize, extent: usize, body: &[Stmt]) -> Emitted {
        self.vector = Some(dim);
        self.assembler.xor(r15d, r15d)?;
        let mut done = 0;
        for &copies in self.copies_of(body) {
            let step = copies * LANES;
            let rounds = (extent - done) / step;
            done += rounds * step;
            let mut head = self.assembler.create_label();
            if rounds > 0 {
                self.assembler.set_label(&mut head)?;
                self.vectors(copies, body)?;
            }
            if rounds > 1 {
                self.assembler.cmp(r15, done as i32)?;
                self.assembler.jb(head)?;
            }
        }
        if extent > done {
            self.remainder(extent - done, body)?;
        }
        self.vector = None;
        Ok(())
    }

    /// The vectorised loop, from a multiple of the lanes to another or to the end.
    fn vector_part(&mut self, dim: usize, extent: usize, body: &[Stmt]) -> Emitted {
        self.vector = Some(dim);
        let whole = qword_ptr(rsp + self.frame.whole);
        self.assembler.mov(rax, qword_ptr(rsp + self.frame.end))?;
        self.assembler.and(rax, -(LANES as i32))?;
        self.assembler.mov(whole, rax)?;
        self.assembler.mov(r15, qword_ptr(rsp + self.frame.begin))?;
        for &copies in self.copies_of(body) {
            let (mut head, mut after) = (self.assembler.create_label(), self.assembler.create_label());
            let step = (copies * LANES) as i32;
            self.assembler.lea(rax, ptr(r15 + step))?;
            self.assembler.cmp(rax, whole)?;
            self.assembler.ja(after)?;
            self.assembler.set_label(&mut head)?;
            self.vectors(copies, body)?;
            self.assembler.lea(rax, ptr(r15 + step))?;
            self.assembler.cmp(rax, whole)?;
            self.assembler.jbe(head)?;
            self.assembler.set_label(&mut after)?;
            // Two labels may not meet on one instruction.
            self.assembler.nop()?;
        }
        if !extent.is_multiple_of(LANES) {
            let mut after = self.assembler.create_label();
            self.assembler.cmp(r15, qword_ptr(rsp + self.frame.end))?;
            self.assembler.jae(after)?;
            self.remainder(extent % LANES, body)?;
            self.assembler.set_label(&mut after)?;
            self.assembler.nop()?;
        }
        self.vector = None;
        Ok(())
    }

    /// How many vectors a loop computes side by side: as many as there are, then fewer.
    fn copies_of(&self, body: &[Stmt]) -> &'static [usize] {
        match body {
            [Stmt::Block(block)] if self.pairs(block) => &[2, 1],
            _ => &[1],
        }
    }

    /// So many whole vectors side by side.
    fn vectors(&mut self, copies: usize, body: &[Stmt]) -> Emitted {
        self.copies = copies;
        self.stmts(body)?;
        self.copies = 1;
        self.assembler.add(r15, (copies * LANES) as i32)
    }

    /// The last few lanes, under a mask.
    fn remainder(&mut self, lanes: usize, body: &[Stmt]) -> Emitted {
        self.assembler.mov(eax, (1u32 << lanes) - 1)?;
        self.assembler.kmovw(k1, eax)?;
        self.masked = true;
        self.stmts(body)?;
        self.masked = false;
        Ok(())
    }

    fn plain_loop(&mut self, dim: usize, extent: usize, body: &[Stmt]) -> Emitted {
        if extent == 1 {
            return self.stmts(body);
        }
        let counter = dword_ptr(rsp + self.counter_at(dim));
        let divided = self.loops.is_divided(dim);
        if divided {
            self.assembler.mov(rax, qword_ptr(rsp + self.frame.end))?;
            self.assembler.sub(rax, qword_ptr(rsp + self.frame.begin))?;
            self.assembler.mov(counter, eax)?;
        } else {
            self.assembler.mov(counter, extent as u32)?;
        }
        let mut head = self.assembler.create_label();
        self.assembler.set_label(&mut head)?;
        self.stmts(body)?;
        let mut inside = Vec::new();
        collect(body, &mut inside);
        let moved: Vec<(usize, i64)> = (0..self.accesses.len())
            .filter(|&i| inside.contains(&self.accesses[i]))
            .map(|i| (i, step_of(&self.accesses[i], dim)))
            .filter(|(_, step)| *step != 0)
            .collect();
        for &(i, step) in &moved {
            self.move_pointer(i, step)?;
        }
        self.assembler.sub(counter, 1)?;
        self.assembler.jnz(head)?;
        for &(i, step) in &moved {
            if divided {
                self.assembler.mov(rdx, qword_ptr(rsp + self.frame.begin))?;
                self.assembler.sub(rdx, qword_ptr(rsp + self.frame.end))?;
                self.assembler.mov(rax, step)?;
                self.assembler.imul_2(rdx, rax)?;
                match self.pointers[i] {
                    Pointer::Register(register) => self.assembler.add(register, rdx)?,
                    Pointer::Frame(at) => self.assembler.add(qword_ptr(rsp + at), rdx)?,
                }
            } else {
                self.move_pointer(i, -step * extent as i64)?;
            }
        }
        Ok(())
    }

    /// A part of two loops that count as one, around everything else: pointers need no way back.
    fn flat_loop(&mut self, first: usize, (second, extent): (usize, usize), body: &[Stmt]) -> Emitted {
        let (left, until_next) = (self.counter_at(first), self.counter_at(second));
        self.assembler.mov(rax, qword_ptr(rsp + self.frame.end))?;
        self.assembler.sub(rax, qword_ptr(rsp + self.frame.begin))?;
        self.assembler.mov(qword_ptr(rsp + left), rax)?;
        self.assembler.mov(eax, extent as u32)?;
        self.assembler.sub(rax, qword_ptr(rsp + until_next))?;
        self.assembler.mov(qword_ptr(rsp + until_next), rax)?;
        let (mut head, mut same) = (self.assembler.create_label(), self.assembler.create_label());
        self.assembler.set_label(&mut head)?;
        self.stmts(body)?;
        for i in 0..self.accesses.len() {
            let step = step_of(&self.accesses[i], second);
            if step != 0 {
                self.move_pointer(i, step)?;
            }
        }
        self.assembler.sub(dword_ptr(rsp + until_next), 1)?;
        self.assembler.jnz(same)?;
        self.assembler.mov(dword_ptr(rsp + until_next), extent as u32)?;
        for i in 0..self.accesses.len() {
            let access = &self.accesses[i];
            let step = step_of(access, first) - step_of(access, second) * extent as i64;
            if step != 0 {
                self.move_pointer(i, step)?;
            }
        }
        self.assembler.set_label(&mut same)?;
        self.assembler.sub(dword_ptr(rsp + left), 1)?;
        self.assembler.jnz(head)
    }

    /// Where a loop's counter lies in the frame.
    fn counter_at(&self, dim: usize) -> i32 {
        self.frame.counters + 8 * dim as i32
    }

    fn move_pointer(&mut self, i: usize, step: i64) -> Emitted {
        match (self.pointers[i], i32::try_from(step)) {
            (Pointer::Register(register), Ok(step)) => self.assembler.add(register, step),
            (Pointer::Frame(at), Ok(step)) => self.assembler.add(qword_ptr(rsp + at), step),
            (Pointer::Register(register), Err(_)) => {
                self.assembler.mov(rax, step)?;
                self.assembler.add(register, rax)
            }
            (Pointer::Frame(at), Err(_)) => {
                self.assembler.mov(rax, step)?;
                self.assembler.add(qword_ptr(rsp + at), rax)
            }
        }
    }

    /// The register that holds an access's pointer; `rax` if it had to be fetched.
    fn pointer(&mut self, access: &Access) -> Result<AsmRegister64, IcedError> {
        let i = self.accesses.iter().position(|a| a == access).expect("all accesses were collected");
        match self.pointers[i] {
            Pointer::Register(register) => Ok(register),
            Pointer::Frame(at) => {
                self.assembler.mov(rax, qword_ptr(rsp + at))?;
                Ok(rax)
            }
        }
    }

    fn constant(&mut self, bits: u32) -> CodeLabel {
        if let Some((_, label)) = self.constants.iter().find(|(known, _)| *known == bits) {
            return *label;
        }
        let label = self.assembler.create_label();
        self.constants.push((bits, label));
        label
    }

    /// A vector of the lane numbers times `step`.
    fn steps(&mut self, step: i32) -> CodeLabel {
        if let Some((_, label)) = self.steps.iter().find(|(known, _)| *known == step) {
            return *label;
        }
        let label = self.assembler.create_label();
        self.steps.push((step, label));
        label
    }

    fn row(&self, row: u32) -> AsmMemoryOperand {
        zmmword_ptr(rsp + (self.frame.rows + row as i32 * BYTES))
    }

    /// The register or frame slot of a reduction's partial results.
    fn accumulator(&self, a: usize) -> lanes::Operand {
        if a < ACCUMULATORS {
            lanes::Operand::Register(ZMM[registers::POOL - 1 - a])
        } else {
            lanes::Operand::Memory(zmmword_ptr(rsp + (self.frame.accumulators + a as i32 * BYTES)))
        }
    }

    fn init(&mut self, a: usize) -> Emitted {
        let accumulator = self.loops.accumulators[a];
        let bits = lower::identity(accumulator.op, accumulator.dtype) as u32;
        let label = self.constant(bits);
        match self.accumulator(a) {
            lanes::Operand::Register(register) => self.assembler.vbroadcastss(register, dword_ptr(label)),
            lanes::Operand::Memory(slot) => {
                self.assembler.vbroadcastss(zmm31, dword_ptr(label))?;
                self.assembler.vmovups(slot, zmm31)
            }
        }
    }

    fn combine(&mut self, a: usize, row: u32) -> Emitted {
        let accumulator = self.loops.accumulators[a];
        let partial = self.accumulator(a);
        match partial {
            lanes::Operand::Register(register) => self.assembler.vmovaps(zmm0, register)?,
            lanes::Operand::Memory(slot) => self.assembler.vmovups(zmm0, slot)?,
        }
        if accumulator.interleaved.is_some() {
            // Lane i with lane i + 8, i + 4, i + 2, i + 1; all other lanes go along for nothing.
            for step in 0..4 {
                match step {
                    0 => self.assembler.vshuff32x4(zmm1, zmm0, zmm0, 0x4e)?,
                    1 => self.assembler.vshuff32x4(zmm1, zmm0, zmm0, 0xb1)?,
                    2 => self.assembler.vpermilps(zmm1, zmm0, 0x4e)?,
                    _ => self.assembler.vpermilps(zmm1, zmm0, 0xb1)?,
                }
                self.combine_step(accumulator)?;
            }
            self.assembler.vbroadcastss(zmm0, xmm0)?;
        }
        let slot = self.row(row);
        self.assembler.vmovups(slot, zmm0)
    }

    /// `zmm0 = zmm0 ⊕ zmm1`.
    fn combine_step(&mut self, accumulator: Accumulator) -> Emitted {
        let float = matches!(accumulator.dtype, DType::F32);
        match accumulator.op {
            ReduceOp::Sum if float => self.assembler.vaddps(zmm0, zmm0, zmm1),
            ReduceOp::Prod if float => self.assembler.vmulps(zmm0, zmm0, zmm1),
            _ => {
                let mut program = LaneProgram::new();
                let ty = accumulator.lane_type();
                let args = [program.input(0, ty), program.input(1, ty)];
                let root = lower::accumulate(&mut program, accumulator.op, accumulator.dtype, args[0], args[1]);
                self.between_registers(&program, root)
            }
        }
    }
}

/// The distinct accesses of some code, in order.
fn collect(stmts: &[Stmt], accesses: &mut Vec<Access>) {
    for stmt in stmts {
        match stmt {
            Stmt::For { body, .. } => collect(body, accesses),
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
            Input::Load { arg, index, dtype } => {
                Some(Access { arg: Some(*arg), index: index.clone(), size: dtype.size() })
            }
            Input::Counter(index) => Some(Access { arg: None, index: index.clone(), size: 1 }),
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
            Stmt::For { body, .. } => row_count(body),
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
