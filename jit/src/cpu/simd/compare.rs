//! Bools: bits of mask registers with AVX-512; with AVX2 lane masks, all ones or all zeros, as wide as the widest lane of
//! the kernel.

use iced_x86::code_asm::*;

use super::regalloc::Registers;
use super::width::{MASK, VectorOperand, Width, XMM, YMM, ZMM, simd, with};
use super::{EmitResult, SimdEmitter};
use crate::lower::lane::{LaneBinary, LaneCompare, LaneId, LaneType};

impl SimdEmitter<'_> {
    pub(super) fn compare(
        &mut self,
        r: &mut Registers,
        id: LaneId,
        at: usize,
        op: LaneCompare,
        x: LaneId,
        y: LaneId,
    ) -> EmitResult {
        use LaneCompare::*;
        let ty = r.program.ty(x);
        let a = self.register(r, x, &[x, y])?;
        // The predicates of integer comparisons, and the quiet predicates of float comparisons.
        let (integer, float) = match op {
            Eq => (0, 0),
            Ne => (4, 4),
            Lt | ULt => (1, 0x11),
            Le | ULe => (2, 0x12),
        };
        if self.width == Width::Zmm {
            let b = self.operand(r, y);
            let k = MASK[self.result(r, id, at, &[x, y])?];
            macro_rules! compare {
                ($name:ident, $predicate:expr) => {
                    match b {
                        VectorOperand::Register(b) => self.assembler.$name(k, ZMM[a], ZMM[b], $predicate),
                        VectorOperand::Memory(b) => self.assembler.$name(k, ZMM[a], b, $predicate),
                    }
                };
            }
            return match (ty, op) {
                (LaneType::F32, _) => compare!(vcmpps, float),
                (LaneType::F64, _) => compare!(vcmppd, float),
                (LaneType::I64, _) => compare!(vpcmpq, integer),
                (_, ULt | ULe) => compare!(vpcmpud, integer),
                _ => compare!(vpcmpd, integer),
            };
        }
        let b = self.register(r, y, &[x, y])?;
        let out = self.result(r, id, at, &[x, y])?;
        let (to, a, b, min) = (YMM[out], YMM[a], YMM[b], YMM[self.scratch_register(0)]);
        let negated = match (ty, op) {
            (LaneType::F32, _) => self.assembler.vcmpps(to, a, b, float).map(|()| false)?,
            (LaneType::F64, _) => self.assembler.vcmppd(to, a, b, float).map(|()| false)?,
            (LaneType::I64, Eq | Ne) => self.assembler.vpcmpeqq(to, a, b).map(|()| op == Ne)?,
            (LaneType::I64, Lt | ULt) => self.assembler.vpcmpgtq(to, b, a).map(|()| false)?,
            (LaneType::I64, Le | ULe) => self.assembler.vpcmpgtq(to, a, b).map(|()| true)?,
            (_, Eq | Ne) => self.assembler.vpcmpeqd(to, a, b).map(|()| op == Ne)?,
            (_, Lt) => self.assembler.vpcmpgtd(to, b, a).map(|()| false)?,
            (_, Le) => self.assembler.vpcmpgtd(to, a, b).map(|()| true)?,
            // x < y is min(x, y) ≠ y; x ≤ y is min(x, y) = x.
            (_, ULt) => {
                self.assembler.vpminud(min, a, b)?;
                self.assembler.vpcmpeqd(to, min, b).map(|()| true)?
            }
            (_, ULe) => {
                self.assembler.vpminud(min, a, b)?;
                self.assembler.vpcmpeqd(to, min, a).map(|()| false)?
            }
        };
        if negated {
            with!(self, vxorps, out, out; self.constant(u64::MAX, 4));
        }
        if self.size(ty) < self.lane_bytes {
            self.assembler.vpmovsxdq(to, XMM[out])?;
        }
        Ok(())
    }

    /// Logic of masks in mask registers.
    pub(super) fn logic(
        &mut self,
        r: &mut Registers,
        id: LaneId,
        at: usize,
        op: LaneBinary,
        x: LaneId,
        y: LaneId,
    ) -> EmitResult {
        let (a, b) = (MASK[self.register(r, x, &[x, y])?], MASK[self.register(r, y, &[x, y])?]);
        let k = MASK[self.result(r, id, at, &[x, y])?];
        match op {
            LaneBinary::And => self.assembler.kandw(k, a, b),
            LaneBinary::Or => self.assembler.korw(k, a, b),
            _ => self.assembler.kxorw(k, a, b),
        }
    }

    pub(super) fn select(
        &mut self,
        r: &mut Registers,
        id: LaneId,
        at: usize,
        c: LaneId,
        x: LaneId,
        y: LaneId,
    ) -> EmitResult {
        let all = [c, x, y];
        let condition = self.register(r, c, &all)?;
        if r.bank(id) == 1 {
            let (a, b) = (MASK[self.register(r, x, &all)?], MASK[self.register(r, y, &all)?]);
            // (c ∧ x) ∨ (¬c ∧ y), the second term in k7.
            self.assembler.kandnw(k7, MASK[condition], b)?;
            let k = MASK[self.result(r, id, at, &all)?];
            self.assembler.kandw(k, MASK[condition], a)?;
            return self.assembler.korw(k, k, k7);
        }
        let other = self.register(r, y, &all)?;
        let chosen = self.operand(r, x);
        let is_64bit = self.size(r.program.ty(id)) == 8;
        match self.width {
            Width::Zmm => {
                let out = masked(ZMM[self.result(r, id, at, &all)?], MASK[condition]);
                match chosen {
                    VectorOperand::Register(chosen) if is_64bit => {
                        self.assembler.vblendmpd(out, ZMM[other], ZMM[chosen])
                    }
                    VectorOperand::Memory(chosen) if is_64bit => self.assembler.vblendmpd(out, ZMM[other], chosen),
                    VectorOperand::Register(chosen) => self.assembler.vblendmps(out, ZMM[other], ZMM[chosen]),
                    VectorOperand::Memory(chosen) => self.assembler.vblendmps(out, ZMM[other], chosen),
                }
            }
            Width::Ymm => {
                let condition = if !is_64bit && self.lane_bytes == 8 {
                    self.narrow(self.scratch_register(0), condition)?;
                    YMM[self.scratch_register(0)]
                } else {
                    YMM[condition]
                };
                let out = YMM[self.result(r, id, at, &all)?];
                // The sign bit of each 32-bit lane selects; all bits of a lane are equal.
                match chosen {
                    VectorOperand::Register(chosen) => {
                        self.assembler.vblendvps(out, YMM[other], YMM[chosen], condition)
                    }
                    VectorOperand::Memory(chosen) => self.assembler.vblendvps(out, YMM[other], chosen, condition),
                }
            }
        }
    }

    /// A mask to 32-bit integers, 0 or 1.
    pub(super) fn mask_to_i32(&mut self, r: &mut Registers, id: LaneId, at: usize, x: LaneId) -> EmitResult {
        let from = self.register(r, x, &[x])?;
        let out = self.result(r, id, at, &[x])?;
        match self.width {
            Width::Zmm => {
                let one = self.pool_label(super::Constant::Splat(1, 4));
                self.assembler.vpbroadcastd(masked(ZMM[out], MASK[from]).z(), dword_ptr(one))
            }
            Width::Ymm => {
                let mut from = from;
                if self.lane_bytes == 8 {
                    self.narrow(out, from)?;
                    from = out;
                }
                self.assembler.vpsrld(YMM[out], YMM[from], 31)
            }
        }
    }

    /// Truncates 64-bit lanes to contiguous 32-bit lanes (AVX2).
    pub(super) fn narrow(&mut self, out: usize, from: usize) -> EmitResult {
        self.assembler.vpshufd(YMM[out], YMM[from], 0x08)?;
        self.assembler.vpermq(YMM[out], YMM[out], 0x08)
    }

    /// The mask of the nonzero bytes in scratch register 0.
    pub(super) fn mask_from_bytes(&mut self, out: usize) -> EmitResult {
        let bytes = XMM[self.scratch_register(0)];
        match self.width {
            Width::Zmm => self.assembler.vptestmb(MASK[out], bytes, bytes),
            Width::Ymm => {
                let zero = self.scratch_register(1);
                simd!(self, vxorps, zero, zero, zero);
                if self.lane_bytes == 8 {
                    self.assembler.vpmovzxbq(YMM[out], bytes)?;
                    self.assembler.vpcmpgtq(YMM[out], YMM[out], YMM[zero])
                } else {
                    self.assembler.vpmovzxbd(YMM[out], bytes)?;
                    self.assembler.vpcmpgtd(YMM[out], YMM[out], YMM[zero])
                }
            }
        }
    }

    /// A mask to bytes, 0 or 1, in scratch register 0.
    pub(super) fn bytes_from_mask(&mut self, from: usize) -> EmitResult {
        let bytes = XMM[self.scratch_register(0)];
        match self.width {
            Width::Zmm => self.assembler.vpmovm2b(bytes, MASK[from])?,
            Width::Ymm => {
                if self.lane_bytes == 8 {
                    self.narrow(self.scratch_register(0), from)?;
                    self.assembler.vpackssdw(bytes, bytes, bytes)?;
                } else {
                    self.assembler.vextracti128(bytes, YMM[from], 1)?;
                    self.assembler.vpackssdw(bytes, XMM[from], bytes)?;
                }
                self.assembler.vpacksswb(bytes, bytes, bytes)?;
            }
        }
        self.assembler.vpabsb(bytes, bytes)
    }
}

/// The register as the destination of a masked instruction.
fn masked(register: AsmRegisterZmm, mask: AsmRegisterK) -> AsmRegisterZmm {
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
