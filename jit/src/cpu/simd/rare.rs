//! Calls of [`Rare`] functions, behind the code: a lane that needs one makes the code jump there and back.
//!
//! All registers are saved around a call and come back as they were, so that the code in front neither knows of it nor
//! pays for it. Arguments are read from where they were saved, and results written to where the result's register was.

use iced_x86::code_asm::*;

use super::super::symbol::Symbol;
use super::regalloc::Registers;
use super::width::{MASK, Width, YMM, ZMM, simd};
use super::{Emitted, Emitter};
use crate::lower::lane::{LaneId, LaneType, Rare};

/// The general registers that a called function may change and code here uses; the last one is for the place of the
/// others.
const GENERAL: [AsmRegister64; 10] = [rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, rbx];

/// A call that is still to be emitted.
pub(super) struct Call {
    from: CodeLabel,
    back: CodeLabel,
    function: Rare,
    ty: LaneType,
    /// The registers of the condition, the operands and the result.
    condition: usize,
    operands: [usize; 2],
    result: usize,
}

impl Emitter<'_> {
    /// `c ? function(x, y) : z`.
    pub(super) fn rare(
        &mut self,
        r: &mut Registers,
        id: LaneId,
        at: usize,
        function: Rare,
        all: [LaneId; 4],
    ) -> Emitted {
        let [c, x, y, z] = all;
        let condition = self.register(r, c, &all)?;
        let operands = [self.register(r, x, &all)?, self.register(r, y, &all)?];
        let other = self.register(r, z, &all)?;
        // Not a register of an operand: they are still to be read once the result is there.
        let result = self.new_register(r, 0, &all)?;
        simd!(self, vmovaps, result, other);
        let (from, mut back) = (self.assembler.create_label(), self.assembler.create_label());
        match (self.width, self.lane) {
            (Width::Zmm, 8) => self.assembler.kortestb(MASK[condition], MASK[condition])?,
            (Width::Zmm, _) => self.assembler.kortestw(MASK[condition], MASK[condition])?,
            (Width::Ymm, _) => self.assembler.vptest(YMM[condition], YMM[condition])?,
        }
        self.assembler.jnz(from)?;
        self.assembler.set_label(&mut back)?;
        // What comes next may begin with a label, and two at one place are not allowed.
        self.assembler.zero_bytes()?;
        self.calls.push(Call { from, back, function, ty: r.program.ty(id), condition, operands, result });
        r.give(id, result);
        r.release(&all, at);
        Ok(())
    }

    /// The calls, after the last instruction of the function.
    pub(super) fn rare_calls(&mut self) -> Emitted {
        for mut call in std::mem::take(&mut self.calls) {
            self.assembler.set_label(&mut call.from)?;
            self.rare_call(&call)?;
            self.assembler.jmp(call.back)?;
        }
        Ok(())
    }

    fn rare_call(&mut self, call: &Call) -> Emitted {
        let (bytes, count) = (self.width.bytes() as i32, self.width.pool() as i32 + 2);
        for register in GENERAL {
            self.assembler.push(register)?;
        }
        self.assembler.mov(rbx, rsp)?;
        self.assembler.sub(rsp, bytes * count + 8 * MASK.len() as i32)?;
        self.assembler.and(rsp, -64)?;
        for i in 0..count {
            self.save(i as usize, rsp + bytes * i)?;
        }
        // Which lanes ask.
        match (self.width, self.lane) {
            (Width::Zmm, _) => {
                for (k, &mask) in (0..).zip(&MASK).skip(1) {
                    self.assembler.kmovw(word_ptr(rsp + (bytes * count + 8 * k)), mask)?;
                }
                self.assembler.kmovw(r8d, MASK[call.condition])?;
            }
            (Width::Ymm, 8) => self.assembler.vmovmskpd(r8d, YMM[call.condition])?,
            (Width::Ymm, _) => self.assembler.vmovmskps(r8d, YMM[call.condition])?,
        }
        self.assembler.and(r8d, (1 << self.lanes) - 1)?;
        self.address(rdi, Symbol::Rare(call.function, call.ty))?;
        self.assembler.lea(rsi, ptr(rsp + bytes * call.operands[0] as i32))?;
        self.assembler.lea(rdx, ptr(rsp + bytes * call.operands[1] as i32))?;
        self.assembler.lea(rcx, ptr(rsp + bytes * call.result as i32))?;
        self.address(rax, Symbol::Each(call.ty))?;
        self.assembler.vzeroupper()?;
        self.assembler.call(rax)?;
        for i in 0..count {
            let at = self.whole(rsp + bytes * i);
            match self.width {
                Width::Zmm => self.assembler.vmovups(ZMM[i as usize], at)?,
                Width::Ymm => self.assembler.vmovups(YMM[i as usize], at)?,
            }
        }
        if self.width == Width::Zmm {
            for (k, &mask) in (0..).zip(&MASK).skip(1) {
                self.assembler.kmovw(mask, word_ptr(rsp + (bytes * count + 8 * k)))?;
            }
        }
        self.assembler.mov(rsp, rbx)?;
        for register in GENERAL.into_iter().rev() {
            self.assembler.pop(register)?;
        }
        Ok(())
    }

    /// The address of a precompiled function, which is filled in where the code is put.
    fn address(&mut self, register: AsmRegister64, symbol: Symbol) -> Emitted {
        self.symbols.push((self.assembler.instructions().len(), symbol));
        self.assembler.mov(register, u64::MAX >> 1)
    }
}
