//! Conversions between lane types.

use iced_x86::code_asm::*;

use super::regalloc::Registers;
use super::width::{VectorOperand, Width, XMM, YMM, ZMM, simd, with};
use super::{EmitResult, SimdEmitter};
use crate::lower::lane::{LaneConvert, LaneId};

/// Predicates of `vcmpps`: greater or equal, and ordered.
const GE: i32 = 0x1d;
const ORDERED: i32 = 7;

/// 2⁵². The low bits of the sum of it and an integer below it are that integer.
const SHIFT: f64 = 4_503_599_627_370_496.0;

impl SimdEmitter<'_> {
    pub(super) fn convert(
        &mut self,
        r: &mut Registers,
        id: LaneId,
        at: usize,
        op: LaneConvert,
        x: LaneId,
    ) -> EmitResult {
        use LaneConvert::*;
        if op == BoolToI32 {
            return self.mask_to_i32(r, id, at, x);
        }
        // A bitcast is free if it can reuse the register.
        let same = matches!(op, F32Bits | F32FromBits | F64Bits | F64FromBits);
        if same && r.is_last_use(x, at) {
            r.reuse(x, id, &[x], at);
            return Ok(());
        }
        let a = self.register(r, x, &[x])?;
        let out = self.result(r, id, at, &[x])?;
        match (op, self.width) {
            (BoolToI32, _) => unreachable!("done above"),
            (I64ToF32 | U64ToF32 | I64ToF64 | U64ToF64 | F64ToI64 | F64ToU64, _) => {
                unreachable!("kernels with these conversions are not emitted here")
            }
            (F32Bits | F32FromBits | F64Bits | F64FromBits, _) => simd!(self, vmovaps, out, a),
            (I32ToF32, _) => simd!(self, vcvtdq2ps, out, a),
            (F32ToI32, _) => self.f32_to_i32(out, a)?,
            (U32ToF32, Width::Zmm) => self.assembler.vcvtudq2ps(ZMM[out], ZMM[a])?,
            (U32ToF32, Width::Ymm) => {
                // Both 16-bit halves convert exactly; the fused multiply-add rounds once.
                let high = self.scratch_register(0);
                simd!(self, vpsrld, high, a; 16);
                simd!(self, vcvtdq2ps, high, high);
                with!(self, vandps, out, a; self.constant(0xffff, 4));
                simd!(self, vcvtdq2ps, out, out);
                with!(self, vfmadd231ps, out, high; self.constant(65536f32.to_bits().into(), 4));
            }
            (F32ToU32, Width::Zmm) => {
                // max(x, 0) maps NaN to 0. The instruction saturates values above u32::MAX.
                let zero = self.scratch_register(0);
                simd!(self, vxorps, zero, zero, zero);
                simd!(self, vmaxps, out, a, zero);
                self.assembler.vcvttps2udq(ZMM[out], ZMM[out])?;
            }
            (F32ToU32, Width::Ymm) => self.f32_to_u32(out, a)?,
            (F32ToF64, Width::Zmm) => self.assembler.vcvtps2pd(ZMM[out], YMM[a])?,
            (F32ToF64, Width::Ymm) => self.assembler.vcvtps2pd(YMM[out], XMM[a])?,
            (F64ToF32, Width::Zmm) => self.assembler.vcvtpd2ps(YMM[out], ZMM[a])?,
            (F64ToF32, Width::Ymm) => self.assembler.vcvtpd2ps(XMM[out], YMM[a])?,
            (I32ToF64, Width::Zmm) => self.assembler.vcvtdq2pd(ZMM[out], YMM[a])?,
            (I32ToF64, Width::Ymm) => self.assembler.vcvtdq2pd(YMM[out], XMM[a])?,
            (U32ToF64, Width::Zmm) => self.assembler.vcvtudq2pd(ZMM[out], YMM[a])?,
            (U32ToF64, Width::Ymm) => {
                self.assembler.vpmovzxdq(YMM[out], XMM[a])?;
                with!(self, vorpd, out, out; self.constant(SHIFT.to_bits(), 8));
                with!(self, vsubpd, out, out; self.constant(SHIFT.to_bits(), 8));
            }
            (F64ToI32, _) => {
                // Maps NaN to 0 and clamps to i32::MAX. The instruction yields i32::MIN for values below it.
                self.ordered_f64(out, a)?;
                with!(self, vminpd, out, out; self.constant(f64::from(i32::MAX).to_bits(), 8));
                match self.width {
                    Width::Zmm => self.assembler.vcvttpd2dq(YMM[out], ZMM[out])?,
                    Width::Ymm => self.assembler.vcvttpd2dq(XMM[out], YMM[out])?,
                }
            }
            (F64ToU32, _) => {
                // Clamps to 0..=u32::MAX, truncates, then adds 2⁵²: the low word of the sum is the result.
                let zero = self.scratch_register(0);
                simd!(self, vxorps, zero, zero, zero);
                simd!(self, vmaxpd, out, a, zero);
                with!(self, vminpd, out, out; self.constant(f64::from(u32::MAX).to_bits(), 8));
                // Rounds towards zero.
                self.round(out, VectorOperand::Register(out), 11, true)?;
                with!(self, vaddpd, out, out; self.constant(SHIFT.to_bits(), 8));
                self.low_words(out, out)?;
            }
            (U32ToI64, Width::Zmm) => self.assembler.vpmovzxdq(ZMM[out], YMM[a])?,
            (U32ToI64, Width::Ymm) => self.assembler.vpmovzxdq(YMM[out], XMM[a])?,
            (I32ToI64, Width::Zmm) => self.assembler.vpmovsxdq(ZMM[out], YMM[a])?,
            (I32ToI64, Width::Ymm) => self.assembler.vpmovsxdq(YMM[out], XMM[a])?,
            (I64ToI32, _) => self.low_words(out, a)?,
        }
        Ok(())
    }

    /// Saturating conversion; NaN becomes 0. The instruction yields i32::MIN for values out of range, which is right
    /// for values below it only.
    fn f32_to_i32(&mut self, out: usize, a: usize) -> EmitResult {
        let bound = self.constant_at(2_147_483_648f32.to_bits().into(), 4);
        let scratch = self.scratch_register(0);
        match self.width {
            Width::Zmm => {
                let max = self.pool_label(super::Constant::Splat(i32::MAX as u64, 4));
                self.assembler.vcvttps2dq(ZMM[scratch], ZMM[a])?;
                self.assembler.vcmpps(k7, ZMM[a], bound, GE)?;
                self.assembler.vpbroadcastd(ZMM[scratch].k7(), dword_ptr(max))?;
                self.assembler.vcmpps(k7, ZMM[a], ZMM[a], ORDERED)?;
                self.assembler.vmovdqa32(ZMM[out].k7().z(), ZMM[scratch])
            }
            Width::Ymm => {
                // i32::MAX is the complement of i32::MIN.
                let large = self.scratch_register(1);
                self.assembler.vcmpps(YMM[large], YMM[a], bound, GE)?;
                self.assembler.vcmpps(YMM[scratch], YMM[a], YMM[a], ORDERED)?;
                self.assembler.vcvttps2dq(YMM[out], YMM[a])?;
                simd!(self, vxorps, out, out, large);
                simd!(self, vandps, out, out, scratch);
                Ok(())
            }
        }
    }

    /// Values below 2³¹ convert as signed. For larger values that yields the sign bit only; the low bits are those of
    /// x - 2³¹. Values from 2³² on saturate to all ones.
    fn f32_to_u32(&mut self, out: usize, a: usize) -> EmitResult {
        let (x, rest) = (self.scratch_register(0), self.scratch_register(1));
        simd!(self, vxorps, x, x, x);
        simd!(self, vmaxps, x, a, x);
        with!(self, vsubps, rest, x; self.constant(2_147_483_648f32.to_bits().into(), 4));
        simd!(self, vcvttps2dq, rest, rest);
        simd!(self, vcvttps2dq, out, x);
        // The low bits of x - 2³¹ apply only if the sign bit is set.
        let above = self.constant_at(4_294_967_296f32.to_bits().into(), 4);
        self.assembler.vcmpps(YMM[x], YMM[x], above, GE)?;
        simd!(self, vorps, x, x, rest);
        simd!(self, vpsrad, rest, out; 31);
        simd!(self, vandps, x, x, rest);
        simd!(self, vorps, out, out, x);
        Ok(())
    }

    /// Maps NaN to 0.
    fn ordered_f64(&mut self, out: usize, a: usize) -> EmitResult {
        match self.width {
            Width::Zmm => {
                self.assembler.vcmppd(k7, ZMM[a], ZMM[a], ORDERED)?;
                self.assembler.vmovapd(ZMM[out].k7().z(), ZMM[a])
            }
            Width::Ymm => {
                let ordered = YMM[self.scratch_register(0)];
                self.assembler.vcmppd(ordered, YMM[a], YMM[a], ORDERED)?;
                self.assembler.vandpd(YMM[out], YMM[a], ordered)
            }
        }
    }

    /// Truncates 64-bit lanes to contiguous 32-bit lanes.
    fn low_words(&mut self, out: usize, from: usize) -> EmitResult {
        match self.width {
            Width::Zmm => self.assembler.vpmovqd(YMM[out], ZMM[from]),
            Width::Ymm => self.narrow(out, from),
        }
    }
}
