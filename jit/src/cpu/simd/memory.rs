//! Loads and stores of a vector's elements: side by side, one for all, or apart; all lanes or the first few.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::width::{Operand, Width, XMM, YMM, ZMM, simd, with};
use super::{Access, Emitted, Emitter};

impl Emitter<'_> {
    /// Elements of 32 or 64 bits, `stride` apart.
    pub(super) fn load(&mut self, out: usize, access: &Access, stride: isize, copy: usize) -> Emitted {
        match stride {
            0 => {
                let base = self.pointer(access)?;
                self.load_one(out, base, access.size)
            }
            1 => {
                let base = self.pointer(access)?;
                self.load_side_by_side(out, base, access, copy)
            }
            _ => {
                let steps = self.apart(access, stride, copy)?;
                self.load_from_rdx(out, steps, 1, access.size, copy)
            }
        }
    }

    /// An element, in all lanes.
    fn load_one(&mut self, out: usize, base: AsmRegister64, size: usize) -> Emitted {
        let wide = size == 8;
        match self.width {
            Width::Zmm if wide => self.assembler.vbroadcastsd(ZMM[out], qword_ptr(base)),
            Width::Zmm => self.assembler.vbroadcastss(ZMM[out], dword_ptr(base)),
            Width::Ymm if wide => self.assembler.vbroadcastsd(YMM[out], qword_ptr(base)),
            Width::Ymm => self.assembler.vbroadcastss(YMM[out], dword_ptr(base)),
        }
    }

    /// Elements side by side, where `base` points to that of counter 0.
    fn load_side_by_side(&mut self, out: usize, base: AsmRegister64, access: &Access, copy: usize) -> Emitted {
        let live = self.live(copy);
        let at = base + r15 * access.size as i32 + self.first_byte(access, 1, copy);
        if live == self.lanes {
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
                let first = self.first_in_spare(live, access.size)?;
                self.assembler.vmaskmovps(YMM[out], first, ymmword_ptr(at))
            }
        }
    }

    /// Elements at the offsets in register `steps`, in units of `scale` bytes, from `rdx` on.
    fn load_from_rdx(&mut self, out: usize, steps: usize, scale: i32, size: usize, copy: usize) -> Emitted {
        let live = self.live(copy);
        let wide = size == 8;
        // Lanes that do not count are nothing.
        simd!(self, vxorps, out, out, out);
        match self.width {
            Width::Zmm => {
                self.count_in_k7(live)?;
                if wide {
                    self.assembler.vgatherdpd(ZMM[out].k7(), zmmword_ptr(rdx + YMM[steps] * scale))
                } else {
                    self.assembler.vgatherdps(ZMM[out].k7(), zmmword_ptr(rdx + ZMM[steps] * scale))
                }
            }
            Width::Ymm => {
                let first = self.first_in_spare(live, size)?;
                if wide {
                    self.assembler.vgatherdpd_3(YMM[out], ptr(rdx + XMM[steps] * scale), first)
                } else {
                    self.assembler.vgatherdps_3(YMM[out], ptr(rdx + YMM[steps] * scale), first)
                }
            }
        }
    }

    /// Elements that lie an offset behind those of an access, `stride` (0 or 1) apart; all lanes of register `offsets`
    /// have the same.
    pub(super) fn load_behind(
        &mut self,
        out: usize,
        offsets: usize,
        access: &Access,
        stride: isize,
        copy: usize,
    ) -> Emitted {
        let base = self.pointer(access)?;
        self.assembler.vmovd(edx, XMM[offsets])?;
        self.assembler.movsxd(rdx, edx)?;
        self.assembler.lea(rdx, ptr(base + rdx * access.size as i32))?;
        match stride {
            0 => self.load_one(out, rdx, access.size),
            _ => self.load_side_by_side(out, rdx, access, copy),
        }
    }

    /// Elements that lie an offset behind those of an access, which are `stride` apart; each lane has its own.
    pub(super) fn load_apart(
        &mut self,
        out: usize,
        offsets: usize,
        access: &Access,
        stride: isize,
        copy: usize,
    ) -> Emitted {
        self.first_apart(access, stride, copy)?;
        let mut steps = offsets;
        if stride != 0 {
            let lanes = self.steps(stride as i32);
            steps = self.spare(1);
            with!(self, vpaddd, steps, offsets; lanes);
        }
        self.load_from_rdx(out, steps, access.size as i32, access.size, copy)
    }

    /// The opposite.
    pub(super) fn store(&mut self, x: usize, access: &Access, stride: isize, copy: usize) -> Emitted {
        let live = self.live(copy);
        let wide = access.size == 8;
        match stride {
            0 => {
                let base = self.pointer(access)?;
                match wide {
                    true => self.assembler.vmovsd(qword_ptr(base), XMM[x]),
                    false => self.assembler.vmovss(dword_ptr(base), XMM[x]),
                }
            }
            1 => {
                let at = self.side_by_side(access, copy)?;
                if live == self.lanes {
                    return match self.lanes * access.size {
                        64 => self.assembler.vmovups(zmmword_ptr(at), ZMM[x]),
                        32 => self.assembler.vmovups(ymmword_ptr(at), YMM[x]),
                        _ => self.assembler.vmovups(xmmword_ptr(at), XMM[x]),
                    };
                }
                self.save_first(x, at, live, access.size)
            }
            _ if self.width == Width::Zmm => {
                let steps = self.apart(access, stride, copy)?;
                self.count_in_k7(live)?;
                if wide {
                    self.assembler.vscatterdpd(zmmword_ptr(rdx + YMM[steps]).k7(), ZMM[x])
                } else {
                    self.assembler.vscatterdps(zmmword_ptr(rdx + ZMM[steps]).k7(), ZMM[x])
                }
            }
            _ => {
                self.first_apart(access, stride, copy)?;
                let mut from = XMM[x];
                for lane in 0..live {
                    let byte = lane * access.size;
                    if byte == 16 {
                        from = XMM[self.spare(0)];
                        self.assembler.vextractf128(from, YMM[x], 1)?;
                    }
                    match (wide, byte % 16) {
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

    /// Stores the first lanes, of `size` bytes, of a register.
    pub(super) fn save_first(&mut self, x: usize, at: AsmMemoryOperand, live: usize, size: usize) -> Emitted {
        match self.width {
            Width::Zmm if size == 8 => self.assembler.vmovupd(zmmword_ptr(at).k1(), ZMM[x]),
            Width::Zmm => self.assembler.vmovups(zmmword_ptr(at).k1(), ZMM[x]),
            Width::Ymm => {
                let first = self.first_in_spare(live, size)?;
                self.assembler.vmaskmovps(ymmword_ptr(at), first, YMM[x])
            }
        }
    }

    /// Bytes, `stride` apart, to the first spare register.
    pub(super) fn load_bytes(&mut self, access: &Access, stride: isize, copy: usize) -> Emitted {
        let live = self.live(copy);
        let out = XMM[self.spare(0)];
        if stride == 0 {
            let base = self.pointer(access)?;
            return self.assembler.vpbroadcastb(out, byte_ptr(base));
        }
        if stride == 1 && live == self.lanes {
            let at = self.side_by_side(access, copy)?;
            return match live {
                16 => self.assembler.vmovups(out, xmmword_ptr(at)),
                8 => self.assembler.vmovq(out, qword_ptr(at)),
                _ => self.assembler.vmovd(out, dword_ptr(at)),
            };
        }
        self.first_apart(access, stride, copy)?;
        self.assembler.vxorps(out, out, out)?;
        for lane in 0..live {
            self.assembler.vpinsrb(out, out, byte_ptr(rdx), lane as i32)?;
            self.assembler.add(rdx, stride as i32)?;
        }
        Ok(())
    }

    /// The opposite.
    pub(super) fn store_bytes(&mut self, access: &Access, stride: isize, copy: usize) -> Emitted {
        let live = self.live(copy);
        let from = XMM[self.spare(0)];
        if stride == 0 {
            let base = self.pointer(access)?;
            return self.assembler.vpextrb(byte_ptr(base), from, 0);
        }
        if stride == 1 && live == self.lanes {
            let at = self.side_by_side(access, copy)?;
            return match live {
                16 => self.assembler.vmovups(xmmword_ptr(at), from),
                8 => self.assembler.vmovq(qword_ptr(at), from),
                _ => self.assembler.vmovd(dword_ptr(at), from),
            };
        }
        self.first_apart(access, stride, copy)?;
        for lane in 0..live {
            self.assembler.vpextrb(byte_ptr(rdx), from, lane as i32)?;
            self.assembler.add(rdx, stride as i32)?;
        }
        Ok(())
    }

    // ---- addresses

    /// Where a vector of elements side by side begins.
    fn side_by_side(&mut self, access: &Access, copy: usize) -> Result<AsmMemoryOperand, IcedError> {
        let base = self.pointer(access)?;
        Ok(base + r15 * access.size as i32 + self.first_byte(access, 1, copy))
    }

    /// `rdx` to the first lane's element of those `stride` apart.
    fn first_apart(&mut self, access: &Access, stride: isize, copy: usize) -> Emitted {
        let base = self.pointer(access)?;
        self.assembler.imul_3(rdx, r15, (stride * access.size as isize) as i32)?;
        self.assembler.lea(rdx, ptr(rdx + base + self.first_byte(access, stride, copy)))
    }

    /// The same, with the byte offsets of all lanes in a spare register, which it names.
    fn apart(&mut self, access: &Access, stride: isize, copy: usize) -> Result<usize, IcedError> {
        self.first_apart(access, stride, copy)?;
        let steps = self.steps((stride * access.size as isize) as i32);
        let register = self.spare(1);
        with!(self, vmovups, register; steps);
        Ok(register)
    }

    /// Where the vector of that number begins, in bytes from the first of those side by side.
    fn first_byte(&self, access: &Access, stride: isize, copy: usize) -> i32 {
        (copy * self.lanes) as i32 * stride as i32 * access.size as i32
    }

    /// So many lanes in `k7`.
    fn count_in_k7(&mut self, live: usize) -> Emitted {
        self.assembler.mov(eax, (1u32 << live) - 1)?;
        self.assembler.kmovw(k7, eax)
    }

    /// Ones in so many lanes, in the first spare register.
    pub(super) fn first_in_spare(&mut self, live: usize, size: usize) -> Result<AsmRegisterYmm, IcedError> {
        let first = self.first_lanes(live, size);
        let register = YMM[self.spare(0)];
        self.assembler.vmovups(register, first)?;
        Ok(register)
    }
}
