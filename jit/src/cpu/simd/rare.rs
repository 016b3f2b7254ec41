//! Out-of-line calls of [`Rare`] functions, after the function's code. The code branches there if any lane needs one.
//!
//! A call saves and restores all registers, so it costs the main path a test and a branch only. The callee reads its
//! operands from the saved registers, and writes its result to the saved result register.

use iced_x86::code_asm::*;

use super::super::symbol::Symbol;
use super::regalloc::Registers;
use super::width::{MASK, Width, YMM, ZMM, simd};
use super::{EmitResult, SimdEmitter};
use crate::lower::lane::{LaneId, LaneType, Rare};

/// The caller-saved general registers, and `rbx`, which holds the stack pointer during the call.
const GENERAL: [AsmRegister64; 10] = [rax, rcx, rdx, rsi, rdi, r8, r9, r10, r11, rbx];

/// A pending out-of-line call.
pub(super) struct RareCall {
    from: CodeLabel,
    back: CodeLabel,
    function: Rare,
    ty: LaneType,
    /// The registers of the condition, of the operands and of the result.
    condition: usize,
    operands: [usize; 2],
    result: usize,
}

impl SimdEmitter<'_> {
    /// `c ? function(x, y) : z`.
    pub(super) fn rare(
        &mut self,
        r: &mut Registers,
        id: LaneId,
        at: usize,
        function: Rare,
        all: [LaneId; 4],
    ) -> EmitResult {
        let [c, x, y, z] = all;
        let condition = self.register(r, c, &all)?;
        let operands = [self.register(r, x, &all)?, self.register(r, y, &all)?];
        let other = self.register(r, z, &all)?;
        // Not a register of an operand: the call reads the operands after the result register is written.
        let result = self.new_register(r, 0, &all)?;
        simd!(self, vmovaps, result, other);
        let (from, mut back) = (self.assembler.create_label(), self.assembler.create_label());
        match (self.width, self.lane_bytes) {
            (Width::Zmm, 8) => self.assembler.kortestb(MASK[condition], MASK[condition])?,
            (Width::Zmm, _) => self.assembler.kortestw(MASK[condition], MASK[condition])?,
            (Width::Ymm, _) => self.assembler.vptest(YMM[condition], YMM[condition])?,
        }
        self.assembler.jnz(from)?;
        self.assembler.set_label(&mut back)?;
        // The next statement may begin with a label, and an instruction takes one label only.
        self.assembler.zero_bytes()?;
        self.rare_calls.push(RareCall { from, back, function, ty: r.program.ty(id), condition, operands, result });
        r.assign(id, result);
        r.release(&all, at);
        Ok(())
    }

    /// Emits the calls, after the last instruction of the function.
    pub(super) fn emit_rare_calls(&mut self) -> EmitResult {
        for mut call in std::mem::take(&mut self.rare_calls) {
            self.assembler.set_label(&mut call.from)?;
            self.emit_rare_call(&call)?;
            self.assembler.jmp(call.back)?;
        }
        Ok(())
    }

    fn emit_rare_call(&mut self, call: &RareCall) -> EmitResult {
        let (bytes, count) = (self.width.bytes() as i32, self.width.pool() as i32 + 2);
        for register in GENERAL {
            self.assembler.push(register)?;
        }
        self.assembler.mov(rbx, rsp)?;
        self.assembler.sub(rsp, bytes * count + 8 * MASK.len() as i32)?;
        self.assembler.and(rsp, -64)?;
        for i in 0..count {
            self.store_vector(i as usize, rsp + bytes * i)?;
        }
        // The lanes that need the call.
        match (self.width, self.lane_bytes) {
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
            let at = self.vector_ptr(rsp + bytes * i);
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

    /// Loads the address of a precompiled function, which a relocation fills in.
    fn address(&mut self, register: AsmRegister64, symbol: Symbol) -> EmitResult {
        self.symbols.push((self.assembler.instructions().len(), symbol));
        self.assembler.mov(register, u64::MAX >> 1)
    }
}
