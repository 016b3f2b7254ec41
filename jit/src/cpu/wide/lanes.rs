//! Straight-line code to instructions: one to one for most lane instructions, with registers given out as the code
//! goes along. When none is free, the value whose next use is farthest away makes room (Belady); constants and rows'
//! values are never saved, since they can be had again, and mostly are operands straight from memory.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::registers::{Home, MASKS, POOL, Registers, rotation};
use super::straight::{Straight, Whence};
use super::{Access, BYTES, Emitted, Emitter, LANES, MASK, XMM, ZMM};
use crate::lane::{LaneBinary, LaneCompare, LaneConvert, LaneId, LaneOp, LaneProgram, LaneType, LaneUnary};
use crate::loops::{Block, Effect, Input};
use crate::types::DType;

/// A block of fewer instructions for two vectors is short: the processor by itself works on the second before the first
/// is done.
const LONG: usize = 40;

/// A vector operand.
#[derive(Clone, Copy)]
pub(super) enum Operand {
    /// In a register.
    Register(AsmRegisterZmm),
    /// In memory: a whole vector, or one element for all lanes.
    Memory(AsmMemoryOperand),
}

/// An instruction whose last operand may be in memory.
macro_rules! with {
    ($e:expr, $name:ident, $($fixed:expr),*; $last:expr $(; $imm:expr)?) => {
        match $last {
            Operand::Register(last) => $e.assembler.$name($($fixed,)* last $(, $imm)?)?,
            Operand::Memory(last) => $e.assembler.$name($($fixed,)* last $(, $imm)?)?,
        }
    };
}

impl Emitter<'_> {
    pub(super) fn block(&mut self, block: &Block) -> Emitted {
        let straight = Straight::of(block, self.loops, self.vector, self.copies);
        let roots: Vec<LaneId> = straight.ends.iter().map(|end| end.value).collect();
        let mut r = Registers::new(&straight.program, &roots, self.pool());
        for i in r.live_positions() {
            let id = LaneId(i as u32);
            match straight.program.insts[i].op {
                LaneOp::Const(bits) if straight.program.insts[i].ty != LaneType::Bool => {
                    r.home[i] = Home::Constant(bits as u32);
                }
                LaneOp::Input(n) => match straight.inputs[n as usize] {
                    Whence::Accumulator(a) => r.home[i] = Home::Accumulator(a),
                    Whence::Input(n, copy) => match &block.inputs[n] {
                        Input::Row(row, ty) if *ty != LaneType::Bool => r.home[i] = Home::Row(*row),
                        input => self.input(&mut r, id, input, copy)?,
                    },
                },
                _ => self.inst(&mut r, id, i)?,
            }
        }
        for (n, end) in straight.ends.iter().enumerate() {
            self.effect(&mut r, &block.effects[end.effect], end.value, end.copy, straight.program.insts.len() + n)?;
        }
        self.spills = self.spills.max(r.spills);
        Ok(())
    }

    /// Can two vectors of the block's loop be computed side by side, and is that of use?
    pub(super) fn pairs(&self, block: &Block) -> bool {
        let straight = Straight::of(block, self.loops, self.vector, 2);
        let roots: Vec<LaneId> = straight.ends.iter().map(|end| end.value).collect();
        let r = Registers::new(&straight.program, &roots, self.pool());
        let (vectors, masks) = r.pressure();
        r.live_positions().len() >= LONG && vectors <= self.pool() && masks <= MASKS.len()
    }

    /// How many vector registers are given out.
    fn pool(&self) -> usize {
        POOL - self.loops.accumulators.len().min(super::ACCUMULATORS)
    }

    /// A program of two inputs in `zmm0` and `zmm1`, its result to `zmm0`.
    pub(super) fn between_registers(&mut self, program: &LaneProgram, root: LaneId) -> Emitted {
        let mut r = Registers::new(program, &[root], self.pool());
        // The two inputs' registers are not given out.
        r.vectors[0] = Some(LaneId(u32::MAX));
        r.vectors[1] = Some(LaneId(u32::MAX));
        for i in r.live_positions() {
            match program.insts[i].op {
                LaneOp::Const(bits) if program.insts[i].ty != LaneType::Bool => {
                    r.home[i] = Home::Constant(bits as u32);
                }
                LaneOp::Input(n) => r.home[i] = Home::Given(n as usize),
                _ => self.inst(&mut r, LaneId(i as u32), i)?,
            }
        }
        let result = self.vector(&mut r, root, &[])?;
        self.assembler.vmovaps(zmm0, result)?;
        self.spills = self.spills.max(r.spills);
        Ok(())
    }

    // ---- registers

    fn spill_slot(&self, slot: usize) -> AsmMemoryOperand {
        zmmword_ptr(rsp + (self.frame.spills + (slot.min(self.room.max(1) - 1)) as i32 * BYTES))
    }

    /// A free vector register; `pinned` values keep theirs.
    fn new_vector(&mut self, r: &mut Registers, pinned: &[LaneId]) -> Result<usize, IcedError> {
        if let Some(free) = r.vectors.iter().position(Option::is_none) {
            return Ok(free);
        }
        let victim = r.farthest(&r.vectors, pinned);
        let id = r.vectors[victim].expect("all registers are taken");
        if r.home[id.index()] == Home::Nowhere {
            let slot = r.spills;
            r.spills += 1;
            r.home[id.index()] = Home::Spill(slot);
            let at = self.spill_slot(slot);
            self.assembler.vmovups(at, ZMM[victim])?;
        }
        r.register[id.index()] = None;
        r.vectors[victim] = None;
        Ok(victim)
    }

    /// A free mask register.
    fn new_mask(&mut self, r: &mut Registers, pinned: &[LaneId]) -> Result<usize, IcedError> {
        if let Some(free) = MASKS.clone().find(|&k| r.masks[k].is_none()) {
            return Ok(free);
        }
        let victim = r.farthest(&r.masks, pinned);
        let id = r.masks[victim].expect("all registers are taken");
        if r.home[id.index()] == Home::Nowhere {
            let slot = r.spills;
            r.spills += 1;
            r.home[id.index()] = Home::Spill(slot);
            let at = self.frame.spills + (slot.min(self.room.max(1) - 1)) as i32 * BYTES;
            self.assembler.kmovw(word_ptr(rsp + at), MASK[victim])?;
        }
        r.register[id.index()] = None;
        r.masks[victim] = None;
        Ok(victim)
    }

    /// The value as an operand: where it is, in a register or in memory.
    fn operand(&mut self, r: &Registers, id: LaneId) -> Operand {
        if let Some(register) = r.register[id.index()] {
            return Operand::Register(ZMM[register]);
        }
        match r.home[id.index()] {
            Home::Constant(bits) => Operand::Memory(dword_bcst(self.constant(bits))),
            Home::Row(row) => Operand::Memory(self.row(row)),
            Home::Accumulator(a) => self.accumulator(a),
            Home::Spill(slot) => Operand::Memory(self.spill_slot(slot)),
            Home::Given(register) => Operand::Register(ZMM[register]),
            Home::Nowhere => unreachable!("a value without a register has a home"),
        }
    }

    /// The value in a register.
    fn vector(&mut self, r: &mut Registers, id: LaneId, pinned: &[LaneId]) -> Result<AsmRegisterZmm, IcedError> {
        let from = match self.operand(r, id) {
            Operand::Register(register) => return Ok(register),
            Operand::Memory(from) => from,
        };
        let register = self.new_vector(r, pinned)?;
        match r.home[id.index()] {
            Home::Constant(bits) => {
                let label = self.constant(bits);
                self.assembler.vbroadcastss(ZMM[register], dword_ptr(label))?;
            }
            _ => self.assembler.vmovups(ZMM[register], from)?,
        }
        r.give(id, register);
        Ok(ZMM[register])
    }

    /// The truth value in a mask register.
    fn mask(&mut self, r: &mut Registers, id: LaneId, pinned: &[LaneId]) -> Result<AsmRegisterK, IcedError> {
        if let Some(register) = r.register[id.index()] {
            return Ok(MASK[register]);
        }
        let register = self.new_mask(r, pinned)?;
        let Home::Spill(slot) = r.home[id.index()] else { unreachable!("a truth value is in a register or saved") };
        let at = self.frame.spills + (slot.min(self.room.max(1) - 1)) as i32 * BYTES;
        self.assembler.kmovw(MASK[register], word_ptr(rsp + at))?;
        r.give(id, register);
        Ok(MASK[register])
    }

    /// A register for the result of instruction `at`, whose operands are no more needed where this was their last use.
    fn result(&mut self, r: &mut Registers, id: LaneId, at: usize, operands: &[LaneId]) -> Result<usize, IcedError> {
        r.release(operands, at);
        let mask = r.program.ty(id) == LaneType::Bool;
        let register = if mask { self.new_mask(r, operands)? } else { self.new_vector(r, operands)? };
        r.give(id, register);
        Ok(register)
    }

    // ---- inputs and effects

    fn input(&mut self, r: &mut Registers, id: LaneId, input: &Input, copy: usize) -> Emitted {
        match input {
            Input::Row(row, _) => {
                // A row's truth value: only those are not used straight from the frame.
                let register = self.new_mask(r, &[])?;
                let at = self.frame.rows + *row as i32 * BYTES;
                self.assembler.kmovw(MASK[register], word_ptr(rsp + at))?;
                r.give(id, register);
            }
            Input::Counter(index) => {
                let access = Access::of_input(input).expect("a counter has a pointer");
                let base = self.pointer(&access)?;
                let stride = self.vector.map_or(0, |dim| index.strides[dim]) as i32;
                let register = self.new_vector(r, &[])?;
                let out = ZMM[register];
                if stride == 0 {
                    self.assembler.mov(rax, base)?;
                    self.assembler.vpbroadcastd(out, eax)?;
                } else {
                    self.assembler.imul_3(edx, r15d, stride)?;
                    self.assembler.lea(rdx, ptr(rdx + base + copy as i32 * LANES as i32 * stride))?;
                    self.assembler.vpbroadcastd(out, edx)?;
                    let steps = self.steps(stride);
                    self.assembler.vpaddd(out, out, zmmword_ptr(steps))?;
                }
                r.give(id, register);
            }
            Input::Load { dtype, index, .. } => {
                let access = Access::of_input(input).expect("a load has a pointer");
                let stride = self.vector.map_or(0, |dim| index.strides[dim]);
                self.load(r, id, &access, stride, *dtype, copy)?;
            }
        }
        Ok(())
    }

    fn load(
        &mut self,
        r: &mut Registers,
        id: LaneId,
        access: &Access,
        stride: isize,
        dtype: DType,
        copy: usize,
    ) -> Emitted {
        let base = self.pointer(access)?;
        let first = first_byte(copy, stride, dtype);
        if dtype == DType::Bool {
            let register = self.new_mask(r, &[])?;
            match stride {
                0 => {
                    self.assembler.movzx(eax, byte_ptr(base))?;
                    self.assembler.vpbroadcastd(zmm31, eax)?;
                }
                1 if self.masked => self.assembler.vpmovzxbd(zmm31.k1().z(), xmmword_ptr(base + r15 + first))?,
                1 => self.assembler.vpmovzxbd(zmm31, xmmword_ptr(base + r15 + first))?,
                _ => {
                    // Byte by byte, through the vector's memory in the frame: rare enough not to be worth more.
                    self.gather_bytes(base, stride, first)?;
                }
            }
            self.assembler.vptestmd(MASK[register], zmm31, zmm31)?;
            r.give(id, register);
            return Ok(());
        }
        let register = self.new_vector(r, &[])?;
        let out = ZMM[register];
        match stride {
            0 => self.assembler.vbroadcastss(out, dword_ptr(base))?,
            1 if self.masked => self.assembler.vmovups(out.k1().z(), zmmword_ptr(base + r15 * 4 + first))?,
            1 => self.assembler.vmovups(out, zmmword_ptr(base + r15 * 4 + first))?,
            _ => {
                self.lane_addresses(base, stride * 4, first)?;
                self.assembler.vgatherdps(out.k7(), zmmword_ptr(rdx + zmm31))?;
                if self.masked {
                    // What was not gathered is whatever was there: make it nothing.
                    self.assembler.vmovaps(out.k1().z(), out)?;
                }
            }
        }
        r.give(id, register);
        Ok(())
    }

    /// `rdx` to the first lane's element, byte offsets of the others in `zmm31`, the lanes that count in `k7`.
    fn lane_addresses(&mut self, base: AsmRegister64, step: isize, first: i32) -> Emitted {
        self.assembler.imul_3(rdx, r15, step as i32)?;
        self.assembler.lea(rdx, ptr(rdx + base + first))?;
        let steps = self.steps(step as i32);
        self.assembler.vmovups(zmm31, zmmword_ptr(steps))?;
        if self.masked { self.assembler.kmovw(k7, k1) } else { self.assembler.kxnorw(k7, k7, k7) }
    }

    /// Bytes `stride` apart to 32-bit lanes of `zmm31`. The address of each is that of a 32-bit word whose low byte it
    /// is, so the three bytes after an element are read too; near the end of an array that could be out of bounds, so
    /// the lanes are loaded one after the other.
    fn gather_bytes(&mut self, base: AsmRegister64, stride: isize, first: i32) -> Emitted {
        self.assembler.imul_3(rdx, r15, stride as i32)?;
        self.assembler.lea(rdx, ptr(rdx + base + first))?;
        self.assembler.vpxord(zmm31, zmm31, zmm31)?;
        for lane in 0..LANES {
            let mut skip = self.assembler.create_label();
            if self.masked {
                self.assembler.kmovw(eax, k1)?;
                self.assembler.test(eax, 1i32 << lane)?;
                self.assembler.jz(skip)?;
            }
            self.assembler.movzx(eax, byte_ptr(rdx))?;
            self.assembler.add(rdx, stride as i32)?;
            // Into this lane only.
            self.assembler.vpbroadcastd(zmm30, eax)?;
            self.assembler.mov(eax, 1i32 << lane)?;
            self.assembler.kmovw(k7, eax)?;
            self.assembler.vmovdqa32(zmm31.k7(), zmm30)?;
            if self.masked {
                self.assembler.set_label(&mut skip)?;
                self.assembler.zero_bytes()?;
            }
        }
        Ok(())
    }

    fn effect(&mut self, r: &mut Registers, effect: &Effect, root: LaneId, copy: usize, at: usize) -> Emitted {
        let mask = r.program.ty(root) == LaneType::Bool;
        match effect {
            Effect::Row { row, .. } => {
                let offset = self.frame.rows + *row as i32 * BYTES;
                if mask {
                    let k = self.mask(r, root, &[])?;
                    self.assembler.kmovw(word_ptr(rsp + offset), k)?;
                } else {
                    let x = self.vector(r, root, &[])?;
                    self.assembler.vmovups(zmmword_ptr(rsp + offset), x)?;
                }
            }
            Effect::Accumulate { accumulator, .. } => {
                let x = self.vector(r, root, &[])?;
                match self.accumulator(*accumulator) {
                    Operand::Register(register) if self.masked => self.assembler.vmovaps(register.k1(), x)?,
                    Operand::Register(register) => self.assembler.vmovaps(register, x)?,
                    Operand::Memory(slot) if self.masked => self.assembler.vmovups(slot.k1(), x)?,
                    Operand::Memory(slot) => self.assembler.vmovups(slot, x)?,
                }
            }
            Effect::Store { index, dtype, .. } => {
                let access = Access::of_effect(effect).expect("a store has a pointer");
                let stride = self.vector.map_or(0, |dim| index.strides[dim]);
                let register = if mask {
                    // Masks are stored as bytes 0 and 1.
                    let k = self.mask(r, root, &[])?;
                    let one = self.constant(1);
                    self.assembler.vpbroadcastd(under(zmm30, k).z(), dword_ptr(one))?;
                    zmm30
                } else {
                    self.vector(r, root, &[])?
                };
                self.store(register, &access, stride, *dtype, copy)?;
            }
        }
        r.release(&[root], at);
        Ok(())
    }

    fn store(&mut self, x: AsmRegisterZmm, access: &Access, stride: isize, dtype: DType, copy: usize) -> Emitted {
        let base = self.pointer(access)?;
        let first = first_byte(copy, stride, dtype);
        let number = ZMM.iter().position(|&z| z == x).expect("one of the 32");
        let bytes = dtype == DType::Bool;
        match stride {
            0 if bytes => {
                self.assembler.vmovd(edx, XMM[number])?;
                self.assembler.mov(byte_ptr(base), dl)
            }
            0 => self.assembler.vmovss(dword_ptr(base), XMM[number]),
            1 if bytes && self.masked => self.assembler.vpmovdb(xmmword_ptr(base + r15 + first).k1(), x),
            1 if bytes => self.assembler.vpmovdb(xmmword_ptr(base + r15 + first), x),
            1 if self.masked => self.assembler.vmovups(zmmword_ptr(base + r15 * 4 + first).k1(), x),
            1 => self.assembler.vmovups(zmmword_ptr(base + r15 * 4 + first), x),
            _ if bytes => self.scatter_bytes(x, base, stride, first),
            _ => {
                self.lane_addresses(base, stride * 4, first)?;
                self.assembler.vscatterdps(zmmword_ptr(rdx + zmm31).k7(), x)
            }
        }
    }

    /// The low bytes of 32-bit lanes to places `stride` apart, one after the other.
    fn scatter_bytes(&mut self, x: AsmRegisterZmm, base: AsmRegister64, stride: isize, first: i32) -> Emitted {
        self.assembler.imul_3(rdx, r15, stride as i32)?;
        self.assembler.lea(rdx, ptr(rdx + base + first))?;
        for lane in 0..LANES {
            let mut skip = self.assembler.create_label();
            if self.masked {
                self.assembler.kmovw(eax, k1)?;
                self.assembler.test(eax, 1i32 << lane)?;
                self.assembler.jz(skip)?;
            }
            self.assembler.mov(eax, 1i32 << lane)?;
            self.assembler.kmovw(k7, eax)?;
            self.assembler.vpcompressd(zmm31.k7(), x)?;
            self.assembler.vmovd(eax, xmm31)?;
            self.assembler.mov(byte_ptr(rdx), al)?;
            self.assembler.add(rdx, stride as i32)?;
            if self.masked {
                self.assembler.set_label(&mut skip)?;
                self.assembler.zero_bytes()?;
            }
        }
        Ok(())
    }

    // ---- instructions

    fn inst(&mut self, r: &mut Registers, id: LaneId, at: usize) -> Emitted {
        let inst = r.program.insts[id.index()];
        match inst.op {
            // Truth values only; others are operands in memory.
            LaneOp::Const(bits) => {
                let k = MASK[self.result(r, id, at, &[])?];
                if bits != 0 { self.assembler.kxnorw(k, k, k) } else { self.assembler.kxorw(k, k, k) }
            }
            LaneOp::Input(_) => unreachable!("inputs are handled where they are known"),
            LaneOp::Unary(op, x) => self.unary(r, id, at, op, x),
            LaneOp::Binary(op, x, y) if inst.ty == LaneType::Bool => {
                let (a, b) = (self.mask(r, x, &[x, y])?, self.mask(r, y, &[x, y])?);
                let k = MASK[self.result(r, id, at, &[x, y])?];
                match op {
                    LaneBinary::And => self.assembler.kandw(k, a, b),
                    LaneBinary::Or => self.assembler.korw(k, a, b),
                    _ => self.assembler.kxorw(k, a, b),
                }
            }
            LaneOp::Binary(op, x, y) => self.binary(r, id, at, op, x, y),
            LaneOp::Fma(x, y, z) => self.fma(r, id, at, x, y, z),
            LaneOp::Compare(op, x, y) => self.compare(r, id, at, op, x, y),
            LaneOp::Select(c, x, y) if inst.ty == LaneType::Bool => {
                let (c_, a, b) =
                    (self.mask(r, c, &[c, x, y])?, self.mask(r, x, &[c, x, y])?, self.mask(r, y, &[c, x, y])?);
                // (c ∧ x) ∨ (¬c ∧ y), the second part waiting in k7.
                self.assembler.kandnw(k7, c_, b)?;
                let k = MASK[self.result(r, id, at, &[c, x, y])?];
                self.assembler.kandw(k, c_, a)?;
                self.assembler.korw(k, k, k7)
            }
            LaneOp::Select(c, x, y) => {
                let k = self.mask(r, c, &[c, x, y])?;
                let other = self.vector(r, y, &[c, x, y])?;
                let chosen = self.operand(r, x);
                let out = under(ZMM[self.result(r, id, at, &[c, x, y])?], k);
                with!(self, vblendmps, out, other; chosen);
                Ok(())
            }
            LaneOp::Convert(op, x) => self.convert(r, id, at, op, x),
        }
    }

    fn unary(&mut self, r: &mut Registers, id: LaneId, at: usize, op: LaneUnary, x: LaneId) -> Emitted {
        let ty = r.program.ty(x);
        if ty == LaneType::Bool {
            let a = self.mask(r, x, &[x])?;
            let k = MASK[self.result(r, id, at, &[x])?];
            return self.assembler.knotw(k, a);
        }
        let float = ty == LaneType::F32;
        if let LaneUnary::Sqrt | LaneUnary::Floor | LaneUnary::Ceil | LaneUnary::Trunc | LaneUnary::Nearest = op {
            let from = self.operand(r, x);
            let out = ZMM[self.result(r, id, at, &[x])?];
            match op {
                LaneUnary::Sqrt => with!(self, vsqrtps, out; from),
                // The low bits choose the direction, the next keeps quiet about inexact results.
                LaneUnary::Floor => with!(self, vrndscaleps, out; from; 9),
                LaneUnary::Ceil => with!(self, vrndscaleps, out; from; 10),
                LaneUnary::Trunc => with!(self, vrndscaleps, out; from; 11),
                _ => with!(self, vrndscaleps, out; from; 8),
            }
            return Ok(());
        }
        let from = self.vector(r, x, &[x])?;
        let out = ZMM[self.result(r, id, at, &[x])?];
        match op {
            LaneUnary::Neg if float => {
                let sign = self.constant(0x8000_0000);
                self.assembler.vpxord(out, from, dword_bcst(sign))
            }
            LaneUnary::Neg => {
                self.assembler.vpxord(zmm31, zmm31, zmm31)?;
                self.assembler.vpsubd(out, zmm31, from)
            }
            LaneUnary::Abs if float => {
                let rest = self.constant(0x7fff_ffff);
                self.assembler.vpandd(out, from, dword_bcst(rest))
            }
            LaneUnary::Abs => self.assembler.vpabsd(out, from),
            _ => {
                let ones = self.constant(u32::MAX);
                self.assembler.vpxord(out, from, dword_bcst(ones))
            }
        }
    }

    fn binary(&mut self, r: &mut Registers, id: LaneId, at: usize, op: LaneBinary, x: LaneId, y: LaneId) -> Emitted {
        let float = r.program.ty(x) == LaneType::F32;
        // A rotation by a constant is one instruction.
        if let Some((from, by)) = rotation(r.program, id) {
            let unrotated = self.vector(r, from, &[from])?;
            let out = ZMM[self.result(r, id, at, &[from])?];
            return self.assembler.vprold(out, unrotated, by);
        }
        let shift = matches!(op, LaneBinary::Shl | LaneBinary::Shr | LaneBinary::Sar);
        if let Some(by) = r.program.constant(y).filter(|_| shift) {
            let from = self.vector(r, x, &[x])?;
            let out = ZMM[self.result(r, id, at, &[x, y])?];
            let by = by as i32;
            return match op {
                LaneBinary::Shl => self.assembler.vpslld(out, from, by),
                LaneBinary::Shr => self.assembler.vpsrld(out, from, by),
                _ => self.assembler.vpsrad(out, from, by),
            };
        }
        let commutes =
            matches!(op, LaneBinary::Add | LaneBinary::Mul | LaneBinary::And | LaneBinary::Or | LaneBinary::Xor);
        // What is in memory goes last, where it needs no register.
        let (x, y) = if commutes && r.register[x.index()].is_none() { (y, x) } else { (x, y) };
        let a = self.vector(r, x, &[x, y])?;
        let b = self.operand(r, y);
        let out = ZMM[self.result(r, id, at, &[x, y])?];
        match op {
            LaneBinary::Add if float => with!(self, vaddps, out, a; b),
            LaneBinary::Add => with!(self, vpaddd, out, a; b),
            LaneBinary::Sub if float => with!(self, vsubps, out, a; b),
            LaneBinary::Sub => with!(self, vpsubd, out, a; b),
            LaneBinary::Mul if float => with!(self, vmulps, out, a; b),
            LaneBinary::Mul => with!(self, vpmulld, out, a; b),
            LaneBinary::Div => with!(self, vdivps, out, a; b),
            LaneBinary::Min => with!(self, vminps, out, a; b),
            LaneBinary::Max => with!(self, vmaxps, out, a; b),
            LaneBinary::And => with!(self, vpandd, out, a; b),
            LaneBinary::Or => with!(self, vpord, out, a; b),
            LaneBinary::Xor => with!(self, vpxord, out, a; b),
            LaneBinary::Shl => with!(self, vpsllvd, out, a; b),
            LaneBinary::Shr => with!(self, vpsrlvd, out, a; b),
            LaneBinary::Sar => with!(self, vpsravd, out, a; b),
            LaneBinary::SMin => with!(self, vpminsd, out, a; b),
            LaneBinary::SMax => with!(self, vpmaxsd, out, a; b),
            LaneBinary::UMin => with!(self, vpminud, out, a; b),
            LaneBinary::UMax => with!(self, vpmaxud, out, a; b),
            LaneBinary::SDiv | LaneBinary::SRem | LaneBinary::UDiv | LaneBinary::URem => {
                unreachable!("kernels with integer division are not emitted here")
            }
        }
        Ok(())
    }

    /// `x·y + z`, over the operand that is used for the last time here, or over a copy.
    fn fma(&mut self, r: &mut Registers, id: LaneId, at: usize, x: LaneId, y: LaneId, z: LaneId) -> Emitted {
        let all = [x, y, z];
        // The instruction overwrites one of its operands and takes one from memory; the product commutes.
        let (x, y) = if r.register[x.index()].is_none() { (y, x) } else { (x, y) };
        if r.ends(z, at) && z != x && z != y {
            let a = self.vector(r, x, &all)?;
            let b = self.operand(r, y);
            let out = self.vector(r, z, &all)?;
            r.pass_on(z, id, &all, at);
            with!(self, vfmadd231ps, out, a; b);
            return Ok(());
        }
        let (x, y) = if r.ends(y, at) && !r.ends(x, at) { (y, x) } else { (x, y) };
        if r.ends(x, at) && x != y && x != z {
            if r.register[y.index()].is_some() || r.register[z.index()].is_none() {
                let b = self.vector(r, y, &all)?;
                let c = self.operand(r, z);
                let out = self.vector(r, x, &all)?;
                r.pass_on(x, id, &all, at);
                with!(self, vfmadd213ps, out, b; c);
            } else {
                let c = self.vector(r, z, &all)?;
                let b = self.operand(r, y);
                let out = self.vector(r, x, &all)?;
                r.pass_on(x, id, &all, at);
                with!(self, vfmadd132ps, out, c; b);
            }
            return Ok(());
        }
        // None may be overwritten: a copy of z.
        let a = self.vector(r, x, &all)?;
        let out = self.new_vector(r, &all)?;
        let b = self.operand(r, y);
        match (self.operand(r, z), r.home[z.index()]) {
            (Operand::Memory(_), Home::Constant(bits)) => {
                let label = self.constant(bits);
                self.assembler.vbroadcastss(ZMM[out], dword_ptr(label))?;
            }
            (Operand::Memory(from), _) => self.assembler.vmovups(ZMM[out], from)?,
            (Operand::Register(from), _) => self.assembler.vmovaps(ZMM[out], from)?,
        }
        with!(self, vfmadd231ps, ZMM[out], a; b);
        r.release(&all, at);
        r.give(id, out);
        Ok(())
    }

    fn compare(&mut self, r: &mut Registers, id: LaneId, at: usize, op: LaneCompare, x: LaneId, y: LaneId) -> Emitted {
        let ty = r.program.ty(x);
        let a = self.vector(r, x, &[x, y])?;
        let b = self.operand(r, y);
        let k = MASK[self.result(r, id, at, &[x, y])?];
        if ty == LaneType::F32 {
            // Quiet predicates: equal, not equal or unordered, less, less or equal.
            match op {
                LaneCompare::Eq => with!(self, vcmpps, k, a; b; 0),
                LaneCompare::Ne => with!(self, vcmpps, k, a; b; 4),
                LaneCompare::Lt | LaneCompare::ULt => with!(self, vcmpps, k, a; b; 0x11),
                LaneCompare::Le | LaneCompare::ULe => with!(self, vcmpps, k, a; b; 0x12),
            }
        } else {
            match op {
                LaneCompare::Eq => with!(self, vpcmpd, k, a; b; 0),
                LaneCompare::Ne => with!(self, vpcmpd, k, a; b; 4),
                LaneCompare::Lt => with!(self, vpcmpd, k, a; b; 1),
                LaneCompare::Le => with!(self, vpcmpd, k, a; b; 2),
                LaneCompare::ULt => with!(self, vpcmpud, k, a; b; 1),
                LaneCompare::ULe => with!(self, vpcmpud, k, a; b; 2),
            }
        }
        Ok(())
    }

    fn convert(&mut self, r: &mut Registers, id: LaneId, at: usize, op: LaneConvert, x: LaneId) -> Emitted {
        if op == LaneConvert::BoolToI32 {
            let k = self.mask(r, x, &[x])?;
            let out = ZMM[self.result(r, id, at, &[x])?];
            let one = self.constant(1);
            return self.assembler.vpbroadcastd(under(out, k).z(), dword_ptr(one));
        }
        let a = self.vector(r, x, &[x])?;
        match op {
            LaneConvert::I32ToF32 => {
                let out = ZMM[self.result(r, id, at, &[x])?];
                self.assembler.vcvtdq2ps(out, a)
            }
            LaneConvert::U32ToF32 => {
                let out = ZMM[self.result(r, id, at, &[x])?];
                self.assembler.vcvtudq2ps(out, a)
            }
            LaneConvert::F32ToI32 => {
                // The instruction gives the smallest integer for all that does not fit; larger ones saturate, NaN is 0.
                let (bound, most) = (self.constant(2_147_483_648.0f32.to_bits()), self.constant(i32::MAX as u32));
                self.assembler.vcvttps2dq(zmm31, a)?;
                self.assembler.vcmpps(k7, a, dword_bcst(bound), 0x1d)?;
                self.assembler.vpbroadcastd(zmm31.k7(), dword_ptr(most))?;
                self.assembler.vcmpps(k7, a, a, 7)?;
                let out = ZMM[self.result(r, id, at, &[x])?];
                self.assembler.vmovdqa32(out.k7().z(), zmm31)
            }
            LaneConvert::F32ToU32 => {
                // max(x, 0), which makes 0 of NaN; what is too large becomes the largest by itself.
                self.assembler.vpxord(zmm31, zmm31, zmm31)?;
                let out = ZMM[self.result(r, id, at, &[x])?];
                self.assembler.vmaxps(out, a, zmm31)?;
                self.assembler.vcvttps2udq(out, out)
            }
            // The bits are there already.
            _ if r.ends(x, at) => {
                r.pass_on(x, id, &[x], at);
                Ok(())
            }
            _ => {
                let out = ZMM[self.result(r, id, at, &[x])?];
                self.assembler.vmovaps(out, a)
            }
        }
    }
}

/// Where the vector of that number begins, in bytes from the first of those side by side.
fn first_byte(copy: usize, stride: isize, dtype: DType) -> i32 {
    (copy * LANES) as i32 * stride as i32 * dtype.size() as i32
}

/// The register as the target of an instruction under a mask.
fn under(register: AsmRegisterZmm, mask: AsmRegisterK) -> AsmRegisterZmm {
    match MASK.iter().position(|&k| k == mask) {
        Some(1) => register.k1(),
        Some(2) => register.k2(),
        Some(3) => register.k3(),
        Some(4) => register.k4(),
        Some(5) => register.k5(),
        Some(6) => register.k6(),
        Some(7) => register.k7(),
        _ => register,
    }
}
