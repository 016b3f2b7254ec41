//! Vector loads and stores: contiguous, broadcast or strided, with all lanes active or under the tail mask.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::width::{VectorOperand, Width, XMM, YMM, ZMM, simd, with};
use super::{Access, EmitResult, SimdEmitter};

impl SimdEmitter<'_> {
    /// Loads elements of 32 or 64 bits with a stride.
    pub(super) fn load(&mut self, out: usize, access: &Access, stride: isize, unroll_index: usize) -> EmitResult {
        match stride {
            0 => {
                let base = self.pointer(access)?;
                self.load_broadcast(out, base, access.size)
            }
            1 => {
                let base = self.pointer(access)?;
                self.load_contiguous(out, base, access, unroll_index)
            }
            _ => {
                let offsets = self.strided_offsets(access, stride, unroll_index)?;
                self.load_from_rdx(out, offsets, 1, access.size, unroll_index)
            }
        }
    }

    /// Loads one element into all lanes.
    fn load_broadcast(&mut self, out: usize, base: AsmRegister64, size: usize) -> EmitResult {
        let is_64bit = size == 8;
        match self.width {
            Width::Zmm if is_64bit => self.assembler.vbroadcastsd(ZMM[out], qword_ptr(base)),
            Width::Zmm => self.assembler.vbroadcastss(ZMM[out], dword_ptr(base)),
            Width::Ymm if is_64bit => self.assembler.vbroadcastsd(YMM[out], qword_ptr(base)),
            Width::Ymm => self.assembler.vbroadcastss(YMM[out], dword_ptr(base)),
        }
    }

    /// Loads contiguous elements. `base` is the pointer of their access.
    fn load_contiguous(&mut self, out: usize, base: AsmRegister64, access: &Access, unroll_index: usize) -> EmitResult {
        let active = self.active_lanes(unroll_index);
        let at = base + r15 * access.size as i32 + self.unroll_offset(access, 1, unroll_index);
        if active == self.lanes {
            return match self.lanes * access.size {
                64 => self.assembler.vmovups(ZMM[out], zmmword_ptr(at)),
                32 => self.assembler.vmovups(YMM[out], ymmword_ptr(at)),
                _ => self.assembler.vmovups(XMM[out], xmmword_ptr(at)),
            };
        }
        match self.width {
            Width::Zmm if access.size == 8 => self.assembler.vmovupd(ZMM[out].k1().z(), zmmword_ptr(at)),
            Width::Zmm => self.assembler.vmovups(ZMM[out].k1().z(), zmmword_ptr(at)),
            Width::Ymm => {
                let mask = self.tail_mask_in_scratch(active, access.size)?;
                self.assembler.vmaskmovps(YMM[out], mask, ymmword_ptr(at))
            }
        }
    }

    /// Loads the elements at the offsets in register `offsets`, in units of `scale` bytes, from `rdx`.
    fn load_from_rdx(
        &mut self,
        out: usize,
        offsets: usize,
        scale: i32,
        size: usize,
        unroll_index: usize,
    ) -> EmitResult {
        let active = self.active_lanes(unroll_index);
        let is_64bit = size == 8;
        // Inactive lanes are zero.
        simd!(self, vxorps, out, out, out);
        match self.width {
            Width::Zmm => {
                self.tail_mask_in_k7(active)?;
                if is_64bit {
                    self.assembler.vgatherdpd(ZMM[out].k7(), zmmword_ptr(rdx + YMM[offsets] * scale))
                } else {
                    self.assembler.vgatherdps(ZMM[out].k7(), zmmword_ptr(rdx + ZMM[offsets] * scale))
                }
            }
            Width::Ymm => {
                let mask = self.tail_mask_in_scratch(active, size)?;
                if is_64bit {
                    self.assembler.vgatherdpd_3(YMM[out], ptr(rdx + XMM[offsets] * scale), mask)
                } else {
                    self.assembler.vgatherdps_3(YMM[out], ptr(rdx + YMM[offsets] * scale), mask)
                }
            }
        }
    }

    /// Loads elements with stride 0 or 1, at an offset in elements that is equal in all lanes of `offsets`.
    pub(super) fn load_at_uniform_offset(
        &mut self,
        out: usize,
        offsets: usize,
        access: &Access,
        stride: isize,
        unroll_index: usize,
    ) -> EmitResult {
        let base = self.pointer(access)?;
        self.assembler.vmovd(edx, XMM[offsets])?;
        self.assembler.movsxd(rdx, edx)?;
        self.assembler.lea(rdx, ptr(base + rdx * access.size as i32))?;
        match stride {
            0 => self.load_broadcast(out, rdx, access.size),
            _ => self.load_contiguous(out, rdx, access, unroll_index),
        }
    }

    /// Loads elements with a stride, each at its offset in elements.
    pub(super) fn load_at_offsets(
        &mut self,
        out: usize,
        offsets: usize,
        access: &Access,
        stride: isize,
        unroll_index: usize,
    ) -> EmitResult {
        self.strided_address(access, stride, unroll_index)?;
        let mut all = offsets;
        if stride != 0 {
            let lanes = self.lane_offsets(stride as i32);
            all = self.scratch_register(1);
            with!(self, vpaddd, all, offsets; lanes);
        }
        self.load_from_rdx(out, all, access.size as i32, access.size, unroll_index)
    }

    /// Stores elements of 32 or 64 bits with a stride.
    pub(super) fn store(&mut self, x: usize, access: &Access, stride: isize, unroll_index: usize) -> EmitResult {
        let active = self.active_lanes(unroll_index);
        let is_64bit = access.size == 8;
        match stride {
            0 => {
                let base = self.pointer(access)?;
                match is_64bit {
                    true => self.assembler.vmovsd(qword_ptr(base), XMM[x]),
                    false => self.assembler.vmovss(dword_ptr(base), XMM[x]),
                }
            }
            1 => {
                let at = self.contiguous_address(access, unroll_index)?;
                if active == self.lanes {
                    return match self.lanes * access.size {
                        64 => self.assembler.vmovups(zmmword_ptr(at), ZMM[x]),
                        32 => self.assembler.vmovups(ymmword_ptr(at), YMM[x]),
                        _ => self.assembler.vmovups(xmmword_ptr(at), XMM[x]),
                    };
                }
                self.store_masked(x, at, active, access.size)
            }
            _ if self.width == Width::Zmm => {
                let offsets = self.strided_offsets(access, stride, unroll_index)?;
                self.tail_mask_in_k7(active)?;
                if is_64bit {
                    self.assembler.vscatterdpd(zmmword_ptr(rdx + YMM[offsets]).k7(), ZMM[x])
                } else {
                    self.assembler.vscatterdps(zmmword_ptr(rdx + ZMM[offsets]).k7(), ZMM[x])
                }
            }
            _ => {
                self.strided_address(access, stride, unroll_index)?;
                let mut from = XMM[x];
                for lane in 0..active {
                    let byte = lane * access.size;
                    if byte == 16 {
                        from = XMM[self.scratch_register(0)];
                        self.assembler.vextractf128(from, YMM[x], 1)?;
                    }
                    match (is_64bit, byte % 16) {
                        (false, byte) => self.assembler.vextractps(dword_ptr(rdx), from, byte as i32 / 4)?,
                        (true, 0) => self.assembler.vmovlps(qword_ptr(rdx), from)?,
                        (true, _) => self.assembler.vmovhps(qword_ptr(rdx), from)?,
                    }
                    self.assembler.add(rdx, (stride * access.size as isize) as i32)?;
                }
                Ok(())
            }
        }
    }

    /// Stores the active lanes, of `size` bytes, of a register.
    pub(super) fn store_masked(&mut self, x: usize, at: AsmMemoryOperand, active: usize, size: usize) -> EmitResult {
        match self.width {
            Width::Zmm if size == 8 => self.assembler.vmovupd(zmmword_ptr(at).k1(), ZMM[x]),
            Width::Zmm => self.assembler.vmovups(zmmword_ptr(at).k1(), ZMM[x]),
            Width::Ymm => {
                let mask = self.tail_mask_in_scratch(active, size)?;
                self.assembler.vmaskmovps(ymmword_ptr(at), mask, YMM[x])
            }
        }
    }

    /// Loads elements of 1 or 2 bytes with a stride into scratch register 0, packed.
    pub(super) fn load_bytes(&mut self, access: &Access, stride: isize, unroll_index: usize) -> EmitResult {
        let active = self.active_lanes(unroll_index);
        let scratch = self.scratch_register(0);
        let (out, is_word) = (XMM[scratch], access.size == 2);
        if stride == 0 {
            let base = self.pointer(access)?;
            return match (is_word, self.lanes * access.size) {
                (true, 32) => self.assembler.vpbroadcastw(YMM[scratch], word_ptr(base)),
                (true, _) => self.assembler.vpbroadcastw(out, word_ptr(base)),
                (false, _) => self.assembler.vpbroadcastb(out, byte_ptr(base)),
            };
        }
        if stride == 1 && active == self.lanes {
            let at = self.contiguous_address(access, unroll_index)?;
            return match active * access.size {
                32 => self.assembler.vmovups(YMM[scratch], ymmword_ptr(at)),
                16 => self.assembler.vmovups(out, xmmword_ptr(at)),
                8 => self.assembler.vmovq(out, qword_ptr(at)),
                _ => self.assembler.vmovd(out, dword_ptr(at)),
            };
        }
        self.strided_address(access, stride, unroll_index)?;
        self.assembler.vxorps(out, out, out)?;
        let per_register = 16 / access.size;
        for lane in 0..active.min(per_register) {
            self.insert_bytes(out, lane, access, stride)?;
        }
        if active > per_register {
            let high = XMM[self.scratch_register(1)];
            self.assembler.vxorps(high, high, high)?;
            for lane in 0..active - per_register {
                self.insert_bytes(high, lane, access, stride)?;
            }
            // Registers from 16 on have no other encoding.
            self.assembler.vinserti32x4(YMM[scratch], YMM[scratch], high, 1)?;
        }
        Ok(())
    }

    /// Loads the element at `rdx` into a lane of a packed register, and moves `rdx` by the stride.
    fn insert_bytes(&mut self, out: AsmRegisterXmm, lane: usize, access: &Access, stride: isize) -> EmitResult {
        match access.size {
            2 => self.assembler.vpinsrw(out, out, word_ptr(rdx), lane as i32)?,
            _ => self.assembler.vpinsrb(out, out, byte_ptr(rdx), lane as i32)?,
        }
        self.assembler.add(rdx, (stride * access.size as isize) as i32)
    }

    /// Stores the elements of 1 or 2 bytes that are packed in scratch register 0, with a stride.
    pub(super) fn store_bytes(&mut self, access: &Access, stride: isize, unroll_index: usize) -> EmitResult {
        let active = self.active_lanes(unroll_index);
        let scratch = self.scratch_register(0);
        let (from, is_word) = (XMM[scratch], access.size == 2);
        if stride == 0 {
            let base = self.pointer(access)?;
            return match is_word {
                true => self.assembler.vpextrw(word_ptr(base), from, 0),
                false => self.assembler.vpextrb(byte_ptr(base), from, 0),
            };
        }
        if stride == 1 && active == self.lanes {
            let at = self.contiguous_address(access, unroll_index)?;
            return match active * access.size {
                32 => self.assembler.vmovups(ymmword_ptr(at), YMM[scratch]),
                16 => self.assembler.vmovups(xmmword_ptr(at), from),
                8 => self.assembler.vmovq(qword_ptr(at), from),
                _ => self.assembler.vmovd(dword_ptr(at), from),
            };
        }
        self.strided_address(access, stride, unroll_index)?;
        let per_register = 16 / access.size;
        for lane in 0..active {
            if lane == per_register {
                self.assembler.vextracti32x4(from, YMM[scratch], 1)?;
            }
            match is_word {
                true => self.assembler.vpextrw(word_ptr(rdx), from, (lane % per_register) as i32)?,
                false => self.assembler.vpextrb(byte_ptr(rdx), from, lane as i32)?,
            }
            self.assembler.add(rdx, (stride * access.size as isize) as i32)?;
        }
        Ok(())
    }

    /// The elements of 1 or 2 bytes in scratch register 0 as 32-bit lanes, with zeros above.
    pub(super) fn widen_bytes(&mut self, out: usize, size: usize) -> EmitResult {
        let from = self.scratch_register(0);
        match (self.width, size) {
            (Width::Zmm, 2) => self.assembler.vpmovzxwd(ZMM[out], YMM[from]),
            (Width::Zmm, _) => self.assembler.vpmovzxbd(ZMM[out], XMM[from]),
            (Width::Ymm, 2) => self.assembler.vpmovzxwd(YMM[out], XMM[from]),
            (Width::Ymm, _) => self.assembler.vpmovzxbd(YMM[out], XMM[from]),
        }
    }

    /// 32-bit lanes, whose upper bytes are zero, as packed elements of 1 or 2 bytes in scratch register 0.
    pub(super) fn narrow_bytes(&mut self, x: usize, size: usize) -> EmitResult {
        let to = self.scratch_register(0);
        match (self.width, size) {
            (Width::Zmm, 2) => self.assembler.vpmovdw(YMM[to], ZMM[x]),
            (Width::Zmm, _) => self.assembler.vpmovdb(XMM[to], ZMM[x]),
            (Width::Ymm, _) => {
                self.assembler.vextracti128(XMM[to], YMM[x], 1)?;
                self.assembler.vpackusdw(XMM[to], XMM[x], XMM[to])?;
                if size == 1 { self.assembler.vpackuswb(XMM[to], XMM[to], XMM[to]) } else { Ok(()) }
            }
        }
    }

    // ---- addresses

    /// The address of a vector of contiguous elements.
    fn contiguous_address(&mut self, access: &Access, unroll_index: usize) -> Result<AsmMemoryOperand, IcedError> {
        let base = self.pointer(access)?;
        Ok(base + r15 * access.size as i32 + self.unroll_offset(access, 1, unroll_index))
    }

    /// Sets `rdx` to the address of the first lane of strided elements.
    fn strided_address(&mut self, access: &Access, stride: isize, unroll_index: usize) -> EmitResult {
        let base = self.pointer(access)?;
        self.assembler.imul_3(rdx, r15, (stride * access.size as isize) as i32)?;
        self.assembler.lea(rdx, ptr(rdx + base + self.unroll_offset(access, stride, unroll_index)))
    }

    /// Sets `rdx` as [`Self::strided_address`] and returns a scratch register with the byte offsets of the lanes.
    fn strided_offsets(&mut self, access: &Access, stride: isize, unroll_index: usize) -> Result<usize, IcedError> {
        self.strided_address(access, stride, unroll_index)?;
        let offsets = self.lane_offsets((stride * access.size as isize) as i32);
        let register = self.scratch_register(1);
        with!(self, vmovups, register; offsets);
        Ok(register)
    }

    /// The byte offset of an unrolled vector from the first one.
    fn unroll_offset(&self, access: &Access, stride: isize, unroll_index: usize) -> i32 {
        (unroll_index * self.lanes) as i32 * stride as i32 * access.size as i32
    }

    /// Sets `k7` to the mask of the active lanes.
    fn tail_mask_in_k7(&mut self, active: usize) -> EmitResult {
        self.assembler.mov(eax, (1u32 << active) - 1)?;
        self.assembler.kmovw(k7, eax)
    }

    /// Loads the mask of the active lanes into scratch register 0.
    pub(super) fn tail_mask_in_scratch(&mut self, active: usize, size: usize) -> Result<AsmRegisterYmm, IcedError> {
        let mask = self.tail_mask(active, size);
        let register = YMM[self.scratch_register(0)];
        self.assembler.vmovups(register, mask)?;
        Ok(register)
    }
}
