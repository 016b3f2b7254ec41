//! Straight-line code to instructions. Most lane instructions map to one machine instruction. Registers are assigned in
//! one pass. If none is free, the value with the farthest next use is evicted (Belady). Constants and loop-invariant
//! values are not spilled: they are rematerialised, mostly as memory operands.

use std::ops::Range;

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::regalloc::{MASKS, Registers, ValueLocation, rotation};
use super::unroll::{InputSource, StraightLine};
use super::width::{MASK, VectorOperand, Width, XMM, YMM, ZMM, simd, with};
use super::{Access, EmitResult, SimdEmitter};
use crate::lower::lane::storage::Storage;
use crate::lower::lane::{LaneBinary, LaneId, LaneOp, LaneProgram, LaneType, LaneUnary};
use crate::lower::loops::{Block, Effect, Input};

/// The minimum number of instructions of a block, unrolled twice, for which unrolling is profitable. The reorder window
/// of the processor covers shorter ones.
const MIN_UNROLLED: usize = 40;

impl SimdEmitter<'_> {
    pub(super) fn block(&mut self, block: &Block) -> EmitResult {
        let all = self.straight_line(block, 0..self.unroll);
        let registers = self.registers_for(&all);
        if self.unroll == 1 || self.fits(&registers) {
            return self.vectors_of(block, &all, registers);
        }
        // The vectors are not interleaved if that takes too many registers.
        for unroll_index in 0..self.unroll {
            let one = self.straight_line(block, unroll_index..unroll_index + 1);
            self.vectors_of(block, &one, self.registers_for(&one))?;
        }
        Ok(())
    }

    /// Whether unrolling the block's loop by `unroll` is possible without spills, and profitable.
    pub(super) fn should_unroll(&self, block: &Block, unroll: usize) -> bool {
        let straight_line = self.straight_line(block, 0..unroll);
        let r = self.registers_for(&straight_line);
        r.live_positions().len() >= MIN_UNROLLED && self.fits(&r)
    }

    /// The interleaved code of some unrolled vectors.
    fn straight_line(&self, block: &Block, unroll_indices: Range<usize>) -> StraightLine {
        StraightLine::of(block, self.loops, self.vector, unroll_indices, |a, i| self.accumulator_of(a, i))
    }

    /// An empty register assignment.
    fn registers_for<'s>(&self, straight_line: &'s StraightLine) -> Registers<'s> {
        let roots: Vec<LaneId> = straight_line.sinks.iter().map(|sink| sink.value).collect();
        Registers::new(&straight_line.program, &roots, self.width, self.pool())
    }

    /// Whether all values fit in registers.
    fn fits(&self, r: &Registers) -> bool {
        let (vectors, masks) = r.pressure();
        vectors <= self.pool() && masks <= MASKS.len()
    }

    /// Emits the straight-line code of a block, whose register assignment is empty.
    fn vectors_of(&mut self, block: &Block, straight_line: &StraightLine, mut r: Registers) -> EmitResult {
        let uniform = straight_line.uniform(block, self.vector, self.uniform_rows);
        for i in r.live_positions() {
            let id = LaneId(i as u32);
            match straight_line.program.insts[i].op {
                LaneOp::Gather(n, offset) => {
                    let InputSource::Input(n, unroll_index) = straight_line.inputs[n as usize] else {
                        unreachable!("a gather reads a table")
                    };
                    let offset = (offset, uniform[offset.index()]);
                    self.gather(&mut r, id, i, (&block.inputs[n], unroll_index), offset)?;
                }
                LaneOp::Const(bits) if r.bank(id) == 0 => r.location[i] = self.constant_location(&r, id, bits),
                LaneOp::Input(n) => match straight_line.inputs[n as usize] {
                    InputSource::Accumulator(index) => r.location[i] = ValueLocation::Accumulator(index),
                    InputSource::Input(n, unroll_index) => match &block.inputs[n] {
                        Input::Row(row, _) if r.bank(id) == 0 => r.location[i] = ValueLocation::Row(*row),
                        input => self.input(&mut r, id, input, unroll_index)?,
                    },
                },
                _ => self.inst(&mut r, id, i)?,
            }
        }
        for (n, sink) in straight_line.sinks.iter().enumerate() {
            let at = straight_line.program.insts.len() + n;
            self.effect(&mut r, &block.effects[sink.effect], sink.value, sink.unroll_index, at)?;
        }
        self.spill_slots = self.spill_slots.max(r.spill_slots);
        Ok(())
    }

    /// The number of allocatable vector registers.
    fn pool(&self) -> usize {
        self.width.pool() - self.accumulator_count.min(self.width.accumulators())
    }

    /// Emits a program whose inputs are in registers 0 and 1. Its result goes to register 0.
    pub(super) fn register_program(&mut self, program: &LaneProgram, root: LaneId) -> EmitResult {
        let mut r = Registers::new(program, &[root], self.width, self.pool());
        r.reserve(2);
        for i in r.live_positions() {
            let id = LaneId(i as u32);
            match program.insts[i].op {
                LaneOp::Const(bits) if r.bank(id) == 0 => r.location[i] = self.constant_location(&r, id, bits),
                LaneOp::Input(n) => r.location[i] = ValueLocation::Fixed(n as usize),
                _ => self.inst(&mut r, id, i)?,
            }
        }
        let result = self.register(&mut r, root, &[])?;
        simd!(self, vmovaps, 0, result);
        self.spill_slots = self.spill_slots.max(r.spill_slots);
        Ok(())
    }

    // ---- registers

    /// The location of a constant. A bool is a lane mask, all ones or all zeros.
    fn constant_location(&self, r: &Registers, id: LaneId, bits: u64) -> ValueLocation {
        match r.program.ty(id) {
            LaneType::Bool => ValueLocation::Constant(if bits == 0 { 0 } else { u64::MAX }),
            _ => ValueLocation::Constant(bits),
        }
    }

    /// Bytes of a lane of this type in a vector register.
    pub(super) fn size(&self, ty: LaneType) -> usize {
        match ty {
            LaneType::F32 | LaneType::I32 => 4,
            LaneType::F64 | LaneType::I64 => 8,
            LaneType::Bool => self.lane_bytes,
        }
    }

    /// A free register. Evicts a value if there is none, but not a `locked` one.
    pub(super) fn new_register(
        &mut self,
        r: &mut Registers,
        bank: usize,
        locked: &[LaneId],
    ) -> Result<usize, IcedError> {
        if let Some(free) = r.free(bank) {
            return Ok(free);
        }
        let victim = r.eviction_candidate(bank, locked);
        let id = r.banks[bank][victim].expect("all registers are in use");
        if r.location[id.index()] == ValueLocation::Nowhere {
            let slot = r.spill_slots;
            r.spill_slots += 1;
            r.location[id.index()] = ValueLocation::SpillSlot(slot);
            let at = rsp + self.spill_slot(slot);
            match bank {
                0 => self.store_vector(victim, at)?,
                _ => self.assembler.kmovw(word_ptr(at), MASK[victim])?,
            }
        }
        r.register[id.index()] = None;
        r.banks[bank][victim] = None;
        Ok(victim)
    }

    /// The value as an operand in a vector register or in memory.
    pub(super) fn operand(&mut self, r: &Registers, id: LaneId) -> VectorOperand {
        if let Some(register) = r.register[id.index()] {
            return VectorOperand::Register(register);
        }
        match r.location[id.index()] {
            ValueLocation::Constant(bits) => self.constant(bits, self.size(r.program.ty(id))),
            ValueLocation::Row(row) => VectorOperand::Memory(self.vector_ptr(self.row(row))),
            ValueLocation::Accumulator(index) => self.accumulator(index),
            ValueLocation::SpillSlot(slot) => VectorOperand::Memory(self.vector_ptr(rsp + self.spill_slot(slot))),
            ValueLocation::Fixed(register) => VectorOperand::Register(register),
            ValueLocation::Nowhere => unreachable!("a value without a register has a location"),
        }
    }

    /// Loads the value into a register of its bank, unless it is in one.
    pub(super) fn register(&mut self, r: &mut Registers, id: LaneId, locked: &[LaneId]) -> Result<usize, IcedError> {
        let bank = r.bank(id);
        if let Some(register) = r.register[id.index()] {
            return Ok(register);
        }
        if let (0, VectorOperand::Register(register)) = (bank, self.operand(r, id)) {
            return Ok(register);
        }
        let register = self.new_register(r, bank, locked)?;
        match r.location[id.index()] {
            ValueLocation::Constant(bits) => self.splat_constant(register, bits, self.size(r.program.ty(id)))?,
            ValueLocation::SpillSlot(slot) if bank == 1 => {
                let at = rsp + self.spill_slot(slot);
                self.assembler.kmovw(MASK[register], word_ptr(at))?;
            }
            _ => with!(self, vmovups, register; self.operand(r, id)),
        }
        r.assign(id, register);
        Ok(register)
    }

    /// A register for the result of the instruction at `at`. Frees the registers of operands that are dead after it.
    pub(super) fn result(
        &mut self,
        r: &mut Registers,
        id: LaneId,
        at: usize,
        operands: &[LaneId],
    ) -> Result<usize, IcedError> {
        r.release(operands, at);
        let register = self.new_register(r, r.bank(id), operands)?;
        r.assign(id, register);
        Ok(register)
    }

    // ---- inputs and effects

    fn input(&mut self, r: &mut Registers, id: LaneId, input: &Input, unroll_index: usize) -> EmitResult {
        let register = self.new_register(r, r.bank(id), &[])?;
        match input {
            // A loop-invariant mask. Vectors are memory operands instead.
            Input::Row(row, _) => {
                let at = self.row(*row);
                self.assembler.kmovw(MASK[register], word_ptr(at))?;
            }
            Input::Iota(index) => {
                let access = Access::of_input(input).expect("an iota has a pointer");
                let base = self.pointer(&access)?;
                let stride = self.vector.map_or(0, |dim| index.strides[dim]) as i32;
                if stride == 0 {
                    self.assembler.mov(rax, base)?;
                    self.splat(register, eax)?;
                } else {
                    self.assembler.imul_3(edx, r15d, stride)?;
                    self.assembler.lea(rdx, ptr(rdx + base + (unroll_index * self.lanes) as i32 * stride))?;
                    self.splat(register, edx)?;
                    let offsets = self.lane_offsets(stride);
                    with!(self, vpaddd, register, register; offsets);
                }
            }
            Input::Load { dtype, index, .. } => {
                let access = Access::of_input(input).expect("a load has a pointer");
                let stride = self.vector.map_or(0, |dim| index.strides[dim]);
                match Storage::of(*dtype) {
                    Storage::Byte => {
                        self.load_bytes(&access, stride, unroll_index)?;
                        self.mask_from_bytes(register)?;
                    }
                    Storage::Low(_) => {
                        self.load_bytes(&access, stride, unroll_index)?;
                        self.widen_bytes(register, access.size)?;
                    }
                    Storage::Lane => self.load(register, &access, stride, unroll_index)?,
                }
            }
            Input::Table { .. } => unreachable!("a table is read by gathers"),
        }
        r.assign(id, register);
        Ok(())
    }

    /// Loads the elements at `offset` from an element of a table.
    fn gather(
        &mut self,
        r: &mut Registers,
        id: LaneId,
        at: usize,
        (table, unroll_index): (&Input, usize),
        (offset, uniform): (LaneId, bool),
    ) -> EmitResult {
        let access = Access::of_input(table).expect("a table has a pointer");
        let stride = self.vector.map_or(0, |dim| access.index.strides[dim]);
        let offsets = self.register(r, offset, &[offset])?;
        // The instruction requires different registers for offsets and elements.
        let out = self.new_register(r, 0, &[offset])?;
        if uniform && matches!(stride, 0 | 1) {
            self.load_at_uniform_offset(out, offsets, &access, stride, unroll_index)?;
        } else {
            self.load_at_offsets(out, offsets, &access, stride, unroll_index)?;
        }
        r.release(&[offset], at);
        r.assign(id, out);
        Ok(())
    }

    /// An integer in all 32-bit lanes.
    fn splat(&mut self, register: usize, from: AsmRegister32) -> EmitResult {
        match self.width {
            Width::Zmm => self.assembler.vpbroadcastd(ZMM[register], from),
            Width::Ymm => {
                let low = XMM[register];
                self.assembler.vmovd(low, from)?;
                self.assembler.vpbroadcastd(YMM[register], low)
            }
        }
    }

    fn effect(
        &mut self,
        r: &mut Registers,
        effect: &Effect,
        root: LaneId,
        unroll_index: usize,
        at: usize,
    ) -> EmitResult {
        let x = self.register(r, root, &[])?;
        match effect {
            Effect::Row { row, .. } => {
                let at = self.row(*row);
                match r.bank(root) {
                    0 => self.store_vector(x, at)?,
                    _ => self.assembler.kmovw(word_ptr(at), MASK[x])?,
                }
            }
            Effect::Accumulate { accumulator, .. } => {
                let index = self.accumulator_of(*accumulator, unroll_index);
                self.accumulate(index, x, unroll_index, self.size(r.program.ty(root)))?;
            }
            Effect::Store { index, dtype, .. } => {
                let access = Access::of_effect(effect).expect("a store has a pointer");
                let stride = self.vector.map_or(0, |dim| index.strides[dim]);
                match Storage::of(*dtype) {
                    Storage::Byte => {
                        self.bytes_from_mask(x)?;
                        self.store_bytes(&access, stride, unroll_index)?;
                    }
                    Storage::Low(_) => {
                        self.narrow_bytes(x, access.size)?;
                        self.store_bytes(&access, stride, unroll_index)?;
                    }
                    Storage::Lane => self.store(x, &access, stride, unroll_index)?,
                }
            }
        }
        r.release(&[root], at);
        Ok(())
    }

    /// Writes an accumulator, in the active lanes.
    fn accumulate(&mut self, index: usize, x: usize, unroll_index: usize, size: usize) -> EmitResult {
        let active = self.active_lanes(unroll_index);
        let all = active == self.lanes;
        match (self.accumulator(index), self.width) {
            (VectorOperand::Register(a), _) if all => simd!(self, vmovaps, a, x),
            (VectorOperand::Memory(slot), _) if all => self.store_vector(x, slot)?,
            (VectorOperand::Memory(slot), _) => self.store_masked(x, slot, active, size)?,
            (VectorOperand::Register(a), Width::Zmm) if size == 8 => self.assembler.vmovapd(ZMM[a].k1(), ZMM[x])?,
            (VectorOperand::Register(a), Width::Zmm) => self.assembler.vmovaps(ZMM[a].k1(), ZMM[x])?,
            (VectorOperand::Register(a), Width::Ymm) => {
                // One bit per 32-bit word to write.
                let words = (1i32 << (active * size / 4)) - 1;
                self.assembler.vblendps(YMM[a], YMM[a], YMM[x], words)?;
            }
        }
        Ok(())
    }

    // ---- instructions

    fn inst(&mut self, r: &mut Registers, id: LaneId, at: usize) -> EmitResult {
        let inst = r.program.insts[id.index()];
        match inst.op {
            // Masks only; other constants are memory operands.
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

    fn unary(&mut self, r: &mut Registers, id: LaneId, at: usize, op: LaneUnary, x: LaneId) -> EmitResult {
        use LaneUnary::*;
        let ty = r.program.ty(x);
        if r.bank(id) == 1 {
            let a = MASK[self.register(r, x, &[x])?];
            let k = MASK[self.result(r, id, at, &[x])?];
            return self.assembler.knotw(k, a);
        }
        let is_64bit = self.size(ty) == 8;
        if let Sqrt | Floor | Ceil | Trunc | Nearest = op {
            let from = self.operand(r, x);
            let out = self.result(r, id, at, &[x])?;
            // Bits 0 and 1 are the rounding mode; bit 3 suppresses the inexact exception.
            let mode = match op {
                Floor => 9,
                Ceil => 10,
                Trunc => 11,
                _ => 8,
            };
            match (op, from) {
                (Sqrt, from) if is_64bit => with!(self, vsqrtpd, out; from),
                (Sqrt, from) => with!(self, vsqrtps, out; from),
                (_, from) => self.round(out, from, mode, is_64bit)?,
            }
            return Ok(());
        }
        let from = self.register(r, x, &[x])?;
        let out = self.result(r, id, at, &[x])?;
        let float = matches!(ty, LaneType::F32 | LaneType::F64);
        let sign = if is_64bit { 1u64 << 63 } else { 1 << 31 };
        let size = self.size(ty);
        match op {
            // The element size of a broadcast operand follows from the instruction.
            Neg if float && is_64bit => with!(self, vxorpd, out, from; self.constant(sign, size)),
            Neg if float => with!(self, vxorps, out, from; self.constant(sign, size)),
            Abs if float && is_64bit => with!(self, vandpd, out, from; self.constant(sign - 1, size)),
            Abs if float => with!(self, vandps, out, from; self.constant(sign - 1, size)),
            Neg => {
                let zero = self.scratch_register(0);
                simd!(self, vxorps, zero, zero, zero);
                if is_64bit { simd!(self, vpsubq, out, zero, from) } else { simd!(self, vpsubd, out, zero, from) }
            }
            Abs => simd!(self, vpabsd, out, from),
            _ => with!(self, vxorps, out, from; self.constant(u64::MAX, 4)),
        }
        Ok(())
    }

    pub(super) fn round(&mut self, out: usize, from: VectorOperand, mode: i32, is_64bit: bool) -> EmitResult {
        match (self.width, from) {
            (Width::Zmm, VectorOperand::Register(from)) if is_64bit => {
                self.assembler.vrndscalepd(ZMM[out], ZMM[from], mode)
            }
            (Width::Zmm, VectorOperand::Memory(from)) if is_64bit => self.assembler.vrndscalepd(ZMM[out], from, mode),
            (Width::Zmm, VectorOperand::Register(from)) => self.assembler.vrndscaleps(ZMM[out], ZMM[from], mode),
            (Width::Zmm, VectorOperand::Memory(from)) => self.assembler.vrndscaleps(ZMM[out], from, mode),
            (Width::Ymm, VectorOperand::Register(from)) if is_64bit => {
                self.assembler.vroundpd(YMM[out], YMM[from], mode)
            }
            (Width::Ymm, VectorOperand::Memory(from)) if is_64bit => self.assembler.vroundpd(YMM[out], from, mode),
            (Width::Ymm, VectorOperand::Register(from)) => self.assembler.vroundps(YMM[out], YMM[from], mode),
            (Width::Ymm, VectorOperand::Memory(from)) => self.assembler.vroundps(YMM[out], from, mode),
        }
    }

    fn binary(&mut self, r: &mut Registers, id: LaneId, at: usize, op: LaneBinary, x: LaneId, y: LaneId) -> EmitResult {
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
        // The last operand may be in memory.
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

    fn shift(&mut self, op: LaneBinary, ty: LaneType, out: usize, from: usize, by: i32) -> EmitResult {
        match (op, ty) {
            (LaneBinary::Shl, LaneType::I64) => simd!(self, vpsllq, out, from; by),
            (LaneBinary::Shl, _) => simd!(self, vpslld, out, from; by),
            (LaneBinary::Shr, LaneType::I64) => simd!(self, vpsrlq, out, from; by),
            (LaneBinary::Shr, _) => simd!(self, vpsrld, out, from; by),
            (_, LaneType::I64) if self.width == Width::Ymm => {
                // AVX2 has no 64-bit arithmetic shift: a logical shift, and the sign mask in the upper bits.
                let sign = self.scratch_register(0);
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

    /// `x·y + z`. Overwrites an operand that is dead after it, or a copy of `z`.
    fn fma(&mut self, r: &mut Registers, id: LaneId, at: usize, x: LaneId, y: LaneId, z: LaneId) -> EmitResult {
        let is_64bit = r.program.ty(id) == LaneType::F64;
        let all = [x, y, z];
        // The instruction overwrites one operand, and one operand may be in memory. The product commutes.
        let (x, y) = if r.register[x.index()].is_none() { (y, x) } else { (x, y) };
        if r.is_last_use(z, at) && z != x && z != y {
            let a = self.register(r, x, &all)?;
            let b = self.operand(r, y);
            let out = self.register(r, z, &all)?;
            r.reuse(z, id, &all, at);
            if is_64bit {
                with!(self, vfmadd231pd, out, a; b)
            } else {
                with!(self, vfmadd231ps, out, a; b)
            }
            return Ok(());
        }
        let (x, y) = if r.is_last_use(y, at) && !r.is_last_use(x, at) { (y, x) } else { (x, y) };
        if r.is_last_use(x, at) && x != y && x != z {
            if r.register[y.index()].is_some() || r.register[z.index()].is_none() {
                let b = self.register(r, y, &all)?;
                let c = self.operand(r, z);
                let out = self.register(r, x, &all)?;
                r.reuse(x, id, &all, at);
                if is_64bit { with!(self, vfmadd213pd, out, b; c) } else { with!(self, vfmadd213ps, out, b; c) }
            } else {
                let c = self.register(r, z, &all)?;
                let b = self.operand(r, y);
                let out = self.register(r, x, &all)?;
                r.reuse(x, id, &all, at);
                if is_64bit { with!(self, vfmadd132pd, out, c; b) } else { with!(self, vfmadd132ps, out, c; b) }
            }
            return Ok(());
        }
        // All operands are live after it: overwrite a copy of z.
        let a = self.register(r, x, &all)?;
        let out = self.new_register(r, 0, &all)?;
        let b = self.operand(r, y);
        match (r.register[z.index()], r.location[z.index()]) {
            (None, ValueLocation::Constant(bits)) => self.splat_constant(out, bits, self.size(r.program.ty(z)))?,
            _ => with!(self, vmovups, out; self.operand(r, z)),
        }
        if is_64bit {
            with!(self, vfmadd231pd, out, a; b)
        } else {
            with!(self, vfmadd231ps, out, a; b)
        }
        r.release(&all, at);
        r.assign(id, out);
        Ok(())
    }
}
