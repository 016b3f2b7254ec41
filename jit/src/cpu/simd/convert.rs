//! Changes of type.

use iced_x86::code_asm::*;

use super::regalloc::Registers;
use super::width::{Operand, Width, XMM, YMM, ZMM, simd, with};
use super::{Emitted, Emitter};
use crate::lower::lane::{LaneConvert, LaneId};

/// `vcmpps`' predicates: not less (or not comparable: never here), and comparable.
const GE: i32 = 0x1d;
const ORDERED: i32 = 7;

/// 2⁵²: added to an integer below it, the integer is the low bits of the sum.
const SHIFT: f64 = 4_503_599_627_370_496.0;

impl Emitter<'_> {
    pub(super) fn convert(&mut self, r: &mut Registers, id: LaneId, at: usize, op: LaneConvert, x: LaneId) -> Emitted {
        use LaneConvert::*;
        if op == BoolToI32 {
            return self.number_of_truth(r, id, at, x);
        }
        // The bits are there already.
        let same = matches!(op, F32Bits | F32FromBits | F64Bits | F64FromBits);
        if same && r.ends(x, at) {
            r.pass_on(x, id, &[x], at);
            return Ok(());
        }
        let a = self.register(r, x, &[x])?;
        let out = self.result(r, id, at, &[x])?;
        match (op, self.width) {
            (BoolToI32, _) => unreachable!("done above"),
            (F32Bits | F32FromBits | F64Bits | F64FromBits, _) => simd!(self, vmovaps, out, a),
            (I32ToF32, _) => simd!(self, vcvtdq2ps, out, a),
            (F32ToI32, _) => self.f32_to_i32(out, a)?,
            (U32ToF32, Width::Zmm) => self.assembler.vcvtudq2ps(ZMM[out], ZMM[a])?,
            (U32ToF32, Width::Ymm) => {
                // Both halves are exact; one rounding brings them together.
                let high = self.spare(0);
                simd!(self, vpsrld, high, a; 16);
                simd!(self, vcvtdq2ps, high, high);
                with!(self, vandps, out, a; self.constant(0xffff, 4));
                simd!(self, vcvtdq2ps, out, out);
                with!(self, vfmadd231ps, out, high; self.constant(65536f32.to_bits().into(), 4));
            }
            (F32ToU32, Width::Zmm) => {
                // max(x, 0), which makes 0 of NaN; what is too large becomes the largest by itself.
                let zero = self.spare(0);
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
                // Nothing for NaN, at most the largest integer; below the smallest the instruction gives that.
                self.ordered_f64(out, a)?;
                with!(self, vminpd, out, out; self.constant(f64::from(i32::MAX).to_bits(), 8));
                match self.width {
                    Width::Zmm => self.assembler.vcvttpd2dq(YMM[out], ZMM[out])?,
                    Width::Ymm => self.assembler.vcvttpd2dq(XMM[out], YMM[out])?,
                }
            }
            (F64ToU32, _) => {
                // Between 0 and the largest, then in whole numbers, the low bits.
                let zero = self.spare(0);
                simd!(self, vxorps, zero, zero, zero);
                simd!(self, vmaxpd, out, a, zero);
                with!(self, vminpd, out, out; self.constant(f64::from(u32::MAX).to_bits(), 8));
                // Towards zero.
                self.round(out, Operand::Register(out), 11, true)?;
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

    /// The instruction gives the smallest integer for all that does not fit; larger ones saturate, NaN is 0.
    fn f32_to_i32(&mut self, out: usize, a: usize) -> Emitted {
        let bound = self.constant_at(2_147_483_648f32.to_bits().into(), 4);
        let spare = self.spare(0);
        match self.width {
            Width::Zmm => {
                let most = self.datum(super::Datum::Each(i32::MAX as u64, 4));
                self.assembler.vcvttps2dq(ZMM[spare], ZMM[a])?;
                self.assembler.vcmpps(k7, ZMM[a], bound, GE)?;
                self.assembler.vpbroadcastd(ZMM[spare].k7(), dword_ptr(most))?;
                self.assembler.vcmpps(k7, ZMM[a], ZMM[a], ORDERED)?;
                self.assembler.vmovdqa32(ZMM[out].k7().z(), ZMM[spare])
            }
            Width::Ymm => {
                // The largest integer is what the smallest is not.
                let large = self.spare(1);
                self.assembler.vcmpps(YMM[large], YMM[a], bound, GE)?;
                self.assembler.vcmpps(YMM[spare], YMM[a], YMM[a], ORDERED)?;
                self.assembler.vcvttps2dq(YMM[out], YMM[a])?;
                simd!(self, vxorps, out, out, large);
                simd!(self, vandps, out, out, spare);
                Ok(())
            }
        }
    }

    /// Below 2³¹ as if signed. From there on that gives just the highest bit, and the rest follows from what is above
    /// 2³¹; beyond 2³² all bits are one.
    fn f32_to_u32(&mut self, out: usize, a: usize) -> Emitted {
        let (x, rest) = (self.spare(0), self.spare(1));
        simd!(self, vxorps, x, x, x);
        simd!(self, vmaxps, x, a, x);
        with!(self, vsubps, rest, x; self.constant(2_147_483_648f32.to_bits().into(), 4));
        simd!(self, vcvttps2dq, rest, rest);
        simd!(self, vcvttps2dq, out, x);
        // What is above counts only where the highest bit is set.
        let above = self.constant_at(4_294_967_296f32.to_bits().into(), 4);
        self.assembler.vcmpps(YMM[x], YMM[x], above, GE)?;
        simd!(self, vorps, x, x, rest);
        simd!(self, vpsrad, rest, out; 31);
        simd!(self, vandps, x, x, rest);
        simd!(self, vorps, out, out, x);
        Ok(())
    }

    /// The number, or 0 for NaN.
    fn ordered_f64(&mut self, out: usize, a: usize) -> Emitted {
        match self.width {
            Width::Zmm => {
                self.assembler.vcmppd(k7, ZMM[a], ZMM[a], ORDERED)?;
                self.assembler.vmovapd(ZMM[out].k7().z(), ZMM[a])
            }
            Width::Ymm => {
                let ordered = YMM[self.spare(0)];
                self.assembler.vcmppd(ordered, YMM[a], YMM[a], ORDERED)?;
                self.assembler.vandpd(YMM[out], YMM[a], ordered)
            }
        }
    }

    /// The low halves of 64-bit lanes, side by side.
    fn low_words(&mut self, out: usize, from: usize) -> Emitted {
        match self.width {
            Width::Zmm => self.assembler.vpmovqd(YMM[out], ZMM[from]),
            Width::Ymm => self.narrow(out, from),
        }
    }
}
