//! Straight-line code to instructions: one to one for most lane instructions, with registers given out as the code
//! goes along. When none is free, the value whose next use is farthest away makes room (Belady); constants and rows'
//! values are never saved, since they can be had again, and mostly are operands straight from memory.

use std::ops::Range;

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::regalloc::{Home, MASKS, Registers, rotation};
use super::unroll::{InputSource, Straight};
use super::width::{MASK, Operand, Width, XMM, YMM, ZMM, simd, with};
use super::{Access, Emitted, Emitter};
use crate::lower::lane::{LaneBinary, LaneId, LaneOp, LaneProgram, LaneType, LaneUnary};
use crate::lower::loops::{Block, Effect, Input};
use crate::types::DType;

/// A block of fewer instructions for two vectors is short: the processor by itself works on the second before the first
/// is done.
const LONG: usize = 40;

impl Emitter<'_> {
    pub(super) fn block(&mut self, block: &Block) -> Emitted {
        let all = self.straight(block, 0..self.copies);
        if self.copies == 1 || self.fits(&self.registers_for(&all)) {
            return self.vectors_of(block, &all);
        }
        // Vectors that must be computed in one round are not side by side where that takes too many registers.
        for copy in 0..self.copies {
            self.vectors_of(block, &self.straight(block, copy..copy + 1))?;
        }
        Ok(())
    }

    /// Can so many vectors of the block's loop be computed side by side, and is that of use?
    pub(super) fn pairs(&self, block: &Block, copies: usize) -> bool {
        let straight = self.straight(block, 0..copies);
        let r = self.registers_for(&straight);
        r.live_positions().len() >= LONG && self.fits(&r)
    }

    /// The code of some of the vectors, side by side.
    fn straight(&self, block: &Block, copies: Range<usize>) -> Straight {
        Straight::of(block, self.loops, self.vector, copies, |a, copy| self.part(a, copy))
    }

    /// Its registers, none of which is taken yet.
    fn registers_for<'s>(&self, straight: &'s Straight) -> Registers<'s> {
        let roots: Vec<LaneId> = straight.ends.iter().map(|end| end.value).collect();
        Registers::new(&straight.program, &roots, self.width, self.pool())
    }

    /// Are there registers for all values?
    fn fits(&self, r: &Registers) -> bool {
        let (vectors, masks) = r.pressure();
        vectors <= self.pool() && masks <= MASKS.len()
    }

    /// Emits straight-line code of the block.
    fn vectors_of(&mut self, block: &Block, straight: &Straight) -> Emitted {
        let mut r = self.registers_for(straight);
        let uniform = straight.uniform(block, self.vector, self.uniform_rows);
        for i in r.live_positions() {
            let id = LaneId(i as u32);
            match straight.program.insts[i].op {
                LaneOp::Gather(n, by) => {
                    let InputSource::Input(n, copy) = straight.inputs[n as usize] else {
                        unreachable!("a gather reads a table")
                    };
                    self.gather(&mut r, id, i, (&block.inputs[n], copy), (by, uniform[by.index()]))?;
                }
                LaneOp::Const(bits) if r.bank(id) == 0 => r.home[i] = self.constant_home(&r, id, bits),
                LaneOp::Input(n) => match straight.inputs[n as usize] {
                    InputSource::Accumulator(part) => r.home[i] = Home::Accumulator(part),
                    InputSource::Input(n, copy) => match &block.inputs[n] {
                        Input::Row(row, _) if r.bank(id) == 0 => r.home[i] = Home::Row(*row),
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

    /// How many vector registers are given out.
    fn pool(&self) -> usize {
        self.width.pool() - self.parts.min(self.width.accumulators())
    }

    /// A program of two inputs in the first two registers, its result to the first.
    pub(super) fn between_registers(&mut self, program: &LaneProgram, root: LaneId) -> Emitted {
        let mut r = Registers::new(program, &[root], self.width, self.pool());
        r.reserve(2);
        for i in r.live_positions() {
            let id = LaneId(i as u32);
            match program.insts[i].op {
                LaneOp::Const(bits) if r.bank(id) == 0 => r.home[i] = self.constant_home(&r, id, bits),
                LaneOp::Input(n) => r.home[i] = Home::Given(n as usize),
                _ => self.inst(&mut r, id, i)?,
            }
        }
        let result = self.register(&mut r, root, &[])?;
        simd!(self, vmovaps, 0, result);
        self.spills = self.spills.max(r.spills);
        Ok(())
    }

    // ---- registers

    /// A truth value that is a lane is all ones or all zeros.
    fn constant_home(&self, r: &Registers, id: LaneId, bits: u64) -> Home {
        match r.program.ty(id) {
            LaneType::Bool => Home::Constant(if bits == 0 { 0 } else { u64::MAX }),
            _ => Home::Constant(bits),
        }
    }

    /// Bytes of a value's lane in a vector register.
    pub(super) fn size(&self, ty: LaneType) -> usize {
        match ty {
            LaneType::F32 | LaneType::I32 => 4,
            LaneType::F64 | LaneType::I64 => 8,
            LaneType::Bool => self.lane,
        }
    }

    /// A free register; `pinned` values keep theirs.
    pub(super) fn new_register(
        &mut self,
        r: &mut Registers,
        bank: usize,
        pinned: &[LaneId],
    ) -> Result<usize, IcedError> {
        if let Some(free) = r.free(bank) {
            return Ok(free);
        }
        let victim = r.farthest(bank, pinned);
        let id = r.banks[bank][victim].expect("all registers are taken");
        if r.home[id.index()] == Home::Nowhere {
            let slot = r.spills;
            r.spills += 1;
            r.home[id.index()] = Home::Spill(slot);
            let at = self.spill_slot(slot);
            match bank {
                0 => self.save(victim, at)?,
                _ => self.assembler.kmovw(word_ptr(at), MASK[victim])?,
            }
        }
        r.register[id.index()] = None;
        r.banks[bank][victim] = None;
        Ok(victim)
    }

    /// The value as an operand: where it is, in a vector register or in memory.
    pub(super) fn operand(&mut self, r: &Registers, id: LaneId) -> Operand {
        if let Some(register) = r.register[id.index()] {
            return Operand::Register(register);
        }
        match r.home[id.index()] {
            Home::Constant(bits) => self.constant(bits, self.size(r.program.ty(id))),
            Home::Row(row) => Operand::Memory(self.whole(self.row(row))),
            Home::Accumulator(part) => self.accumulator(part),
            Home::Spill(slot) => Operand::Memory(self.whole(self.spill_slot(slot))),
            Home::Given(register) => Operand::Register(register),
            Home::Nowhere => unreachable!("a value without a register has a home"),
        }
    }

    /// The value in a register of its bank.
    pub(super) fn register(&mut self, r: &mut Registers, id: LaneId, pinned: &[LaneId]) -> Result<usize, IcedError> {
        let bank = r.bank(id);
        if let Some(register) = r.register[id.index()] {
            return Ok(register);
        }
        if let (0, Operand::Register(register)) = (bank, self.operand(r, id)) {
            return Ok(register);
        }
        let register = self.new_register(r, bank, pinned)?;
        match r.home[id.index()] {
            Home::Constant(bits) => self.fill(register, bits, self.size(r.program.ty(id)))?,
            Home::Spill(slot) if bank == 1 => {
                let at = self.spill_slot(slot);
                self.assembler.kmovw(MASK[register], word_ptr(at))?;
            }
            _ => with!(self, vmovups, register; self.operand(r, id)),
        }
        r.give(id, register);
        Ok(register)
    }

    /// A register for the result of instruction `at`, whose operands are no more needed where this was their last use.
    pub(super) fn result(
        &mut self,
        r: &mut Registers,
        id: LaneId,
        at: usize,
        operands: &[LaneId],
    ) -> Result<usize, IcedError> {
        r.release(operands, at);
        let register = self.new_register(r, r.bank(id), operands)?;
        r.give(id, register);
        Ok(register)
    }

    // ---- inputs and effects

    fn input(&mut self, r: &mut Registers, id: LaneId, input: &Input, copy: usize) -> Emitted {
        let register = self.new_register(r, r.bank(id), &[])?;
        match input {
            // A row's truth value in a mask register: only those are not used straight from the frame.
            Input::Row(row, _) => {
                let at = self.row(*row);
                self.assembler.kmovw(MASK[register], word_ptr(at))?;
            }
            Input::Iota(index) => {
                let access = Access::of_input(input).expect("a counter has a pointer");
                let base = self.pointer(&access)?;
                let stride = self.vector.map_or(0, |dim| index.strides[dim]) as i32;
                if stride == 0 {
                    self.assembler.mov(rax, base)?;
                    self.spread(register, eax)?;
                } else {
                    self.assembler.imul_3(edx, r15d, stride)?;
                    self.assembler.lea(rdx, ptr(rdx + base + (copy * self.lanes) as i32 * stride))?;
                    self.spread(register, edx)?;
                    let steps = self.steps(stride);
                    with!(self, vpaddd, register, register; steps);
                }
            }
            Input::Load { dtype, index, .. } => {
                let access = Access::of_input(input).expect("a load has a pointer");
                let stride = self.vector.map_or(0, |dim| index.strides[dim]);
                match dtype {
                    DType::Bool => {
                        self.load_bytes(&access, stride, copy)?;
                        self.truth_of_bytes(register)?;
                    }
                    DType::F32 | DType::F64 | DType::I32 | DType::U32 => self.load(register, &access, stride, copy)?,
                }
            }
            Input::Table { .. } => unreachable!("a table is read by gathers"),
        }
        r.give(id, register);
        Ok(())
    }

    /// Elements that lie `by` behind a place in a table, for the vector numbered `copy`.
    fn gather(
        &mut self,
        r: &mut Registers,
        id: LaneId,
        at: usize,
        (input, copy): (&Input, usize),
        (by, uniform): (LaneId, bool),
    ) -> Emitted {
        let access = Access::of_input(input).expect("a table has a pointer");
        let stride = self.vector.map_or(0, |dim| access.index.strides[dim]);
        let offsets = self.register(r, by, &[by])?;
        // Offsets and elements are in different registers, as the instruction requires.
        let out = self.new_register(r, 0, &[by])?;
        if uniform && matches!(stride, 0 | 1) {
            self.load_behind(out, offsets, &access, stride, copy)?;
        } else {
            self.load_apart(out, offsets, &access, stride, copy)?;
        }
        r.release(&[by], at);
        r.give(id, out);
        Ok(())
    }

    /// An integer to all 32-bit lanes.
    fn spread(&mut self, register: usize, from: AsmRegister32) -> Emitted {
        match self.width {
            Width::Zmm => self.assembler.vpbroadcastd(ZMM[register], from),
            Width::Ymm => {
                let low = XMM[register];
                self.assembler.vmovd(low, from)?;
                self.assembler.vpbroadcastd(YMM[register], low)
            }
        }
    }

    fn effect(&mut self, r: &mut Registers, effect: &Effect, root: LaneId, copy: usize, at: usize) -> Emitted {
        let x = self.register(r, root, &[])?;
        match effect {
            Effect::Row { row, .. } => {
                let at = self.row(*row);
                match r.bank(root) {
                    0 => self.save(x, at)?,
                    _ => self.assembler.kmovw(word_ptr(at), MASK[x])?,
                }
            }
            Effect::Accumulate { accumulator, .. } => {
                let part = self.part(*accumulator, copy);
                self.accumulate(part, x, copy, self.size(r.program.ty(root)))?;
            }
            Effect::Store { index, dtype, .. } => {
                let access = Access::of_effect(effect).expect("a store has a pointer");
                let stride = self.vector.map_or(0, |dim| index.strides[dim]);
                match dtype {
                    DType::Bool => {
                        self.bytes_of_truth(x)?;
                        self.store_bytes(&access, stride, copy)?;
                    }
                    DType::F32 | DType::F64 | DType::I32 | DType::U32 => self.store(x, &access, stride, copy)?,
                }
            }
        }
        r.release(&[root], at);
        Ok(())
    }

    /// New partial results, for the lanes that count.
    fn accumulate(&mut self, part: usize, x: usize, copy: usize, size: usize) -> Emitted {
        let live = self.live(copy);
        let all = live == self.lanes;
        match (self.accumulator(part), self.width) {
            (Operand::Register(a), _) if all => simd!(self, vmovaps, a, x),
            (Operand::Memory(slot), _) if all => self.save(x, slot)?,
            (Operand::Memory(slot), _) => self.save_first(x, slot, live, size)?,
            (Operand::Register(a), Width::Zmm) if size == 8 => self.assembler.vmovapd(ZMM[a].k1(), ZMM[x])?,
            (Operand::Register(a), Width::Zmm) => self.assembler.vmovaps(ZMM[a].k1(), ZMM[x])?,
            (Operand::Register(a), Width::Ymm) => {
                // A bit for each 32-bit word that is new.
                let words = (1i32 << (live * size / 4)) - 1;
                self.assembler.vblendps(YMM[a], YMM[a], YMM[x], words)?;
            }
        }
        Ok(())
    }

    // ---- instructions

    fn inst(&mut self, r: &mut Registers, id: LaneId, at: usize) -> Emitted {
        let inst = r.program.insts[id.index()];
        match inst.op {
            // Truth values in mask registers only; others are operands in memory.
            LaneOp::Const(bits) => {
                let k = MASK[self.result(r, id, at, &[])?];
                if bits != 0 { self.assembler.kxnorw(k, k, k) } else { self.assembler.kxorw(k, k, k) }
            }
            LaneOp::Input(_) | LaneOp::Gather(..) => unreachable!("inputs are handled where they are known"),
            LaneOp::Unary(op, x) => self.unary(r, id, at, op, x),
            LaneOp::Binary(op, x, y) if r.bank(id) == 1 => self.logic(r, id, at, op, x, y),
            LaneOp::Binary(op, x, y) => self.binary(r, id, at, op, x, y),
            LaneOp::Fma(x, y, z) => self.fma(r, id, at, x, y, z),
            LaneOp::Compare(op, x, y) => self.compare(r, id, at, op, x, y),
            LaneOp::Select(c, x, y) => self.select(r, id, at, c, x, y),
            LaneOp::Convert(op, x) => self.convert(r, id, at, op, x),
            LaneOp::Rare(function, operands) => self.rare(r, id, at, function, operands),
        }
    }

    fn unary(&mut self, r: &mut Registers, id: LaneId, at: usize, op: LaneUnary, x: LaneId) -> Emitted {
        use LaneUnary::*;
        let ty = r.program.ty(x);
        if r.bank(id) == 1 {
            let a = MASK[self.register(r, x, &[x])?];
            let k = MASK[self.result(r, id, at, &[x])?];
            return self.assembler.knotw(k, a);
        }
        let wide = self.size(ty) == 8;
        if let Sqrt | Floor | Ceil | Trunc | Nearest = op {
            let from = self.operand(r, x);
            let out = self.result(r, id, at, &[x])?;
            // The low bits choose the direction, the next keeps quiet about inexact results.
            let direction = match op {
                Floor => 9,
                Ceil => 10,
                Trunc => 11,
                _ => 8,
            };
            match (op, from) {
                (Sqrt, from) if wide => with!(self, vsqrtpd, out; from),
                (Sqrt, from) => with!(self, vsqrtps, out; from),
                (_, from) => self.round(out, from, direction, wide)?,
            }
            return Ok(());
        }
        let from = self.register(r, x, &[x])?;
        let out = self.result(r, id, at, &[x])?;
        let float = matches!(ty, LaneType::F32 | LaneType::F64);
        let sign = if wide { 1u64 << 63 } else { 1 << 31 };
        let size = self.size(ty);
        match op {
            // An element that is repeated is as wide as the instruction says.
            Neg if float && wide => with!(self, vxorpd, out, from; self.constant(sign, size)),
            Neg if float => with!(self, vxorps, out, from; self.constant(sign, size)),
            Abs if float && wide => with!(self, vandpd, out, from; self.constant(sign - 1, size)),
            Abs if float => with!(self, vandps, out, from; self.constant(sign - 1, size)),
            Neg => {
                let zero = self.spare(0);
                simd!(self, vxorps, zero, zero, zero);
                if wide { simd!(self, vpsubq, out, zero, from) } else { simd!(self, vpsubd, out, zero, from) }
            }
            Abs => simd!(self, vpabsd, out, from),
            _ => with!(self, vxorps, out, from; self.constant(u64::MAX, 4)),
        }
        Ok(())
    }

    pub(super) fn round(&mut self, out: usize, from: Operand, direction: i32, wide: bool) -> Emitted {
        match (self.width, from) {
            (Width::Zmm, Operand::Register(from)) if wide => self.assembler.vrndscalepd(ZMM[out], ZMM[from], direction),
            (Width::Zmm, Operand::Memory(from)) if wide => self.assembler.vrndscalepd(ZMM[out], from, direction),
            (Width::Zmm, Operand::Register(from)) => self.assembler.vrndscaleps(ZMM[out], ZMM[from], direction),
            (Width::Zmm, Operand::Memory(from)) => self.assembler.vrndscaleps(ZMM[out], from, direction),
            (Width::Ymm, Operand::Register(from)) if wide => self.assembler.vroundpd(YMM[out], YMM[from], direction),
            (Width::Ymm, Operand::Memory(from)) if wide => self.assembler.vroundpd(YMM[out], from, direction),
            (Width::Ymm, Operand::Register(from)) => self.assembler.vroundps(YMM[out], YMM[from], direction),
            (Width::Ymm, Operand::Memory(from)) => self.assembler.vroundps(YMM[out], from, direction),
        }
    }

    fn binary(&mut self, r: &mut Registers, id: LaneId, at: usize, op: LaneBinary, x: LaneId, y: LaneId) -> Emitted {
        use LaneBinary::*;
        use LaneType::*;
        let ty = r.program.ty(x);
        // A rotation by a constant is one instruction.
        if let Some((from, by)) = rotation(r.program, id, self.width) {
            let unrotated = self.register(r, from, &[from])?;
            let out = self.result(r, id, at, &[from])?;
            return self.assembler.vprold(ZMM[out], ZMM[unrotated], by);
        }
        let shift = matches!(op, Shl | Shr | Sar);
        if let Some(by) = r.program.constant(y).filter(|_| shift) {
            let from = self.register(r, x, &[x])?;
            let out = self.result(r, id, at, &[x, y])?;
            return self.shift(op, ty, out, from, by as i32);
        }
        let commutes = matches!(op, Add | Mul | And | Or | Xor);
        // What is in memory goes last, where it needs no register.
        let (x, y) = if commutes && r.register[x.index()].is_none() { (y, x) } else { (x, y) };
        let a = self.register(r, x, &[x, y])?;
        let b = self.operand(r, y);
        let out = self.result(r, id, at, &[x, y])?;
        match (op, ty) {
            (Add, F32) => with!(self, vaddps, out, a; b),
            (Add, F64) => with!(self, vaddpd, out, a; b),
            (Add, I64) => with!(self, vpaddq, out, a; b),
            (Add, _) => with!(self, vpaddd, out, a; b),
            (Sub, F32) => with!(self, vsubps, out, a; b),
            (Sub, F64) => with!(self, vsubpd, out, a; b),
            (Sub, I64) => with!(self, vpsubq, out, a; b),
            (Sub, _) => with!(self, vpsubd, out, a; b),
            (Mul, F32) => with!(self, vmulps, out, a; b),
            (Mul, F64) => with!(self, vmulpd, out, a; b),
            (Mul, _) => with!(self, vpmulld, out, a; b),
            (Div, F64) => with!(self, vdivpd, out, a; b),
            (Div, _) => with!(self, vdivps, out, a; b),
            (Min, F64) => with!(self, vminpd, out, a; b),
            (Min, _) => with!(self, vminps, out, a; b),
            (Max, F64) => with!(self, vmaxpd, out, a; b),
            (Max, _) => with!(self, vmaxps, out, a; b),
            (And, F64 | I64) => with!(self, vandpd, out, a; b),
            (And, _) => with!(self, vandps, out, a; b),
            (Or, F64 | I64) => with!(self, vorpd, out, a; b),
            (Or, _) => with!(self, vorps, out, a; b),
            (Xor, F64 | I64) => with!(self, vxorpd, out, a; b),
            (Xor, _) => with!(self, vxorps, out, a; b),
            (Shl, _) => with!(self, vpsllvd, out, a; b),
            (Shr, _) => with!(self, vpsrlvd, out, a; b),
            (Sar, _) => with!(self, vpsravd, out, a; b),
            (SMin, _) => with!(self, vpminsd, out, a; b),
            (SMax, _) => with!(self, vpmaxsd, out, a; b),
            (UMin, _) => with!(self, vpminud, out, a; b),
            (UMax, _) => with!(self, vpmaxud, out, a; b),
            (SDiv | SRem | UDiv | URem, _) => unreachable!("kernels with integer division are not emitted here"),
        }
        Ok(())
    }

    fn shift(&mut self, op: LaneBinary, ty: LaneType, out: usize, from: usize, by: i32) -> Emitted {
        match (op, ty) {
            (LaneBinary::Shl, LaneType::I64) => simd!(self, vpsllq, out, from; by),
            (LaneBinary::Shl, _) => simd!(self, vpslld, out, from; by),
            (LaneBinary::Shr, LaneType::I64) => simd!(self, vpsrlq, out, from; by),
            (LaneBinary::Shr, _) => simd!(self, vpsrld, out, from; by),
            (_, LaneType::I64) if self.width == Width::Ymm => {
                // There is none of 64 bits: ones where the number is negative, moved up, and the rest moved down.
                let sign = self.spare(0);
                simd!(self, vxorps, sign, sign, sign);
                self.assembler.vpcmpgtq(YMM[sign], YMM[sign], YMM[from])?;
                simd!(self, vpsllq, sign, sign; 64 - by);
                simd!(self, vpsrlq, out, from; by);
                simd!(self, vorps, out, out, sign);
            }
            (_, LaneType::I64) => self.assembler.vpsraq(ZMM[out], ZMM[from], by)?,
            _ => simd!(self, vpsrad, out, from; by),
        }
        Ok(())
    }

    /// `x·y + z`, over the operand that is used for the last time here, or over a copy.
    fn fma(&mut self, r: &mut Registers, id: LaneId, at: usize, x: LaneId, y: LaneId, z: LaneId) -> Emitted {
        let wide = r.program.ty(id) == LaneType::F64;
        let all = [x, y, z];
        // The instruction overwrites one of its operands and takes one from memory; the product commutes.
        let (x, y) = if r.register[x.index()].is_none() { (y, x) } else { (x, y) };
        if r.ends(z, at) && z != x && z != y {
            let a = self.register(r, x, &all)?;
            let b = self.operand(r, y);
            let out = self.register(r, z, &all)?;
            r.pass_on(z, id, &all, at);
            if wide {
                with!(self, vfmadd231pd, out, a; b)
            } else {
                with!(self, vfmadd231ps, out, a; b)
            }
            return Ok(());
        }
        let (x, y) = if r.ends(y, at) && !r.ends(x, at) { (y, x) } else { (x, y) };
        if r.ends(x, at) && x != y && x != z {
            if r.register[y.index()].is_some() || r.register[z.index()].is_none() {
                let b = self.register(r, y, &all)?;
                let c = self.operand(r, z);
                let out = self.register(r, x, &all)?;
                r.pass_on(x, id, &all, at);
                if wide { with!(self, vfmadd213pd, out, b; c) } else { with!(self, vfmadd213ps, out, b; c) }
            } else {
                let c = self.register(r, z, &all)?;
                let b = self.operand(r, y);
                let out = self.register(r, x, &all)?;
                r.pass_on(x, id, &all, at);
                if wide { with!(self, vfmadd132pd, out, c; b) } else { with!(self, vfmadd132ps, out, c; b) }
            }
            return Ok(());
        }
        // None may be overwritten: a copy of z.
        let a = self.register(r, x, &all)?;
        let out = self.new_register(r, 0, &all)?;
        let b = self.operand(r, y);
        match (r.register[z.index()], r.home[z.index()]) {
            (None, Home::Constant(bits)) => self.fill(out, bits, self.size(r.program.ty(z)))?,
            _ => with!(self, vmovups, out; self.operand(r, z)),
        }
        if wide {
            with!(self, vfmadd231pd, out, a; b)
        } else {
            with!(self, vfmadd231ps, out, a; b)
        }
        r.release(&all, at);
        r.give(id, out);
        Ok(())
    }
}
