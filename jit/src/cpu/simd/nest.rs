//! The loops: counters, pointers, whole vectors and what remains.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::{Access, Emitted, Emitter, Pointer, Width, collect, registers, step_of};
use crate::lower::loops::{Effect, Stmt};

impl Emitter<'_> {
    pub(super) fn stmts(&mut self, stmts: &[Stmt]) -> Emitted {
        for stmt in stmts {
            match stmt {
                Stmt::For { extent: 0, .. } => {}
                Stmt::For { dim, extent, vector: true, body } if self.loops.is_parallel(*dim) => {
                    self.vector_part(*dim, *extent, body)?
                }
                Stmt::For { dim, extent, vector: true, body } => self.vector_loop(*dim, *extent, body)?,
                Stmt::For { dim, extent, vector: false, body } => self.plain_loop(*dim, *extent, body)?,
                Stmt::Collapsed { outer, inner, body } => self.collapsed_loop(outer.0, *inner, body)?,
                Stmt::Block(block) => self.block(block)?,
                Stmt::Init(a) => self.init(*a)?,
                Stmt::Combine { accumulator, row } => self.combine(*accumulator, *row)?,
                Stmt::Transpose(transpose) => self.transpose(transpose)?,
            }
        }
        Ok(())
    }

    fn vector_loop(&mut self, dim: usize, extent: usize, body: &[Stmt]) -> Emitted {
        self.vector = Some(dim);
        self.assembler.xor(r15d, r15d)?;
        let mut done = 0;
        for copies in self.rounds(body) {
            let step = copies * self.lanes;
            let rounds = (extent - done) / step;
            done += rounds * step;
            let mut head = self.assembler.create_label();
            if rounds > 0 {
                self.assembler.set_label(&mut head)?;
                self.vectors(copies, body)?;
            }
            if rounds > 1 {
                self.assembler.cmp(r15, done as i32)?;
                self.assembler.jb(head)?;
            }
        }
        if extent > done {
            self.remainder(extent - done, body)?;
        }
        self.vector = None;
        Ok(())
    }

    /// The vectorised loop, from a multiple of the lanes to another or to the end. Nothing is reduced along it.
    fn vector_part(&mut self, dim: usize, extent: usize, body: &[Stmt]) -> Emitted {
        self.vector = Some(dim);
        let whole = qword_ptr(rsp + self.frame.whole);
        self.assembler.mov(rax, qword_ptr(rsp + self.frame.end))?;
        self.assembler.and(rax, -(self.lanes as i32))?;
        self.assembler.mov(whole, rax)?;
        self.assembler.mov(r15, qword_ptr(rsp + self.frame.begin))?;
        for copies in self.rounds(body) {
            let (mut head, mut after) = (self.assembler.create_label(), self.assembler.create_label());
            let step = (copies * self.lanes) as i32;
            self.assembler.lea(rax, ptr(r15 + step))?;
            self.assembler.cmp(rax, whole)?;
            self.assembler.ja(after)?;
            self.assembler.set_label(&mut head)?;
            self.vectors(copies, body)?;
            self.assembler.lea(rax, ptr(r15 + step))?;
            self.assembler.cmp(rax, whole)?;
            self.assembler.jbe(head)?;
            self.assembler.set_label(&mut after)?;
            // Two labels may not meet on one instruction.
            self.assembler.nop()?;
        }
        if !extent.is_multiple_of(self.lanes) {
            let mut after = self.assembler.create_label();
            self.assembler.cmp(r15, qword_ptr(rsp + self.frame.end))?;
            self.assembler.jae(after)?;
            self.remainder(extent % self.lanes, body)?;
            self.assembler.set_label(&mut after)?;
            self.assembler.nop()?;
        }
        self.vector = None;
        Ok(())
    }

    /// How many vectors a round of a loop computes: twice as many as must be in one round, where that is of use, then
    /// as many.
    fn rounds(&self, body: &[Stmt]) -> Vec<usize> {
        let least = self.least_copies(body);
        match body {
            [Stmt::Block(block)] if self.pairs(block, 2 * least) => vec![2 * least, least],
            _ => vec![least],
        }
    }

    /// One vector, or one for each register of the partial results of what is reduced along the loop.
    fn least_copies(&self, body: &[Stmt]) -> usize {
        let of = |stmt: &Stmt| match stmt {
            Stmt::For { body, .. } | Stmt::Collapsed { body, .. } => self.least_copies(body),
            Stmt::Block(block) => {
                let reductions = block.effects.iter().filter_map(|effect| match effect {
                    Effect::Accumulate { accumulator, .. } => Some(&self.loops.accumulators[*accumulator]),
                    Effect::Store { .. } | Effect::Row { .. } => None,
                });
                reductions.map(|a| registers(a, self.lanes)).max().unwrap_or(1)
            }
            Stmt::Init(_) | Stmt::Combine { .. } | Stmt::Transpose(_) => 1,
        };
        body.iter().map(of).max().unwrap_or(1)
    }

    /// So many whole vectors in one round.
    fn vectors(&mut self, copies: usize, body: &[Stmt]) -> Emitted {
        self.copies = copies;
        self.stmts(body)?;
        self.copies = 1;
        self.assembler.add(r15, (copies * self.lanes) as i32)
    }

    /// The last few lanes: less than a round of vectors, the last one under a mask.
    fn remainder(&mut self, lanes: usize, body: &[Stmt]) -> Emitted {
        self.copies = lanes.div_ceil(self.lanes);
        self.last = lanes - (self.copies - 1) * self.lanes;
        if self.width == Width::Zmm {
            self.assembler.mov(eax, (1u32 << self.last) - 1)?;
            self.assembler.kmovw(k1, eax)?;
        }
        self.stmts(body)?;
        (self.copies, self.last) = (1, self.lanes);
        Ok(())
    }

    fn plain_loop(&mut self, dim: usize, extent: usize, body: &[Stmt]) -> Emitted {
        if extent == 1 {
            return self.stmts(body);
        }
        let counter = dword_ptr(rsp + self.counter_at(dim));
        let divided = self.loops.is_parallel(dim);
        if divided {
            self.assembler.mov(rax, qword_ptr(rsp + self.frame.end))?;
            self.assembler.sub(rax, qword_ptr(rsp + self.frame.begin))?;
            self.assembler.mov(counter, eax)?;
        } else {
            self.assembler.mov(counter, extent as u32)?;
        }
        let mut head = self.assembler.create_label();
        self.assembler.set_label(&mut head)?;
        self.stmts(body)?;
        let mut inside = Vec::new();
        collect(body, &mut inside);
        let moved: Vec<(usize, i64)> = (0..self.accesses.len())
            .filter(|&i| inside.contains(&self.accesses[i]))
            .map(|i| (i, step_of(&self.accesses[i], dim)))
            .filter(|(_, step)| *step != 0)
            .collect();
        for &(i, step) in &moved {
            self.move_pointer(i, step)?;
        }
        self.assembler.sub(counter, 1)?;
        self.assembler.jnz(head)?;
        for &(i, step) in &moved {
            if divided {
                self.assembler.mov(rdx, qword_ptr(rsp + self.frame.begin))?;
                self.assembler.sub(rdx, qword_ptr(rsp + self.frame.end))?;
                self.assembler.mov(rax, step)?;
                self.assembler.imul_2(rdx, rax)?;
                match self.pointers[i] {
                    Pointer::Register(register) => self.assembler.add(register, rdx)?,
                    Pointer::Frame(at) => self.assembler.add(qword_ptr(rsp + at), rdx)?,
                }
            } else {
                self.move_pointer(i, -step * extent as i64)?;
            }
        }
        Ok(())
    }

    /// A part of two loops that count as one, around everything else: pointers need no way back.
    fn collapsed_loop(&mut self, first: usize, (second, extent): (usize, usize), body: &[Stmt]) -> Emitted {
        let (left, until_next) = (self.counter_at(first), self.counter_at(second));
        self.assembler.mov(rax, qword_ptr(rsp + self.frame.end))?;
        self.assembler.sub(rax, qword_ptr(rsp + self.frame.begin))?;
        self.assembler.mov(qword_ptr(rsp + left), rax)?;
        self.assembler.mov(eax, extent as u32)?;
        self.assembler.sub(rax, qword_ptr(rsp + until_next))?;
        self.assembler.mov(qword_ptr(rsp + until_next), rax)?;
        let (mut head, mut same) = (self.assembler.create_label(), self.assembler.create_label());
        self.assembler.set_label(&mut head)?;
        self.stmts(body)?;
        for i in 0..self.accesses.len() {
            let step = step_of(&self.accesses[i], second);
            if step != 0 {
                self.move_pointer(i, step)?;
            }
        }
        self.assembler.sub(dword_ptr(rsp + until_next), 1)?;
        self.assembler.jnz(same)?;
        self.assembler.mov(dword_ptr(rsp + until_next), extent as u32)?;
        for i in 0..self.accesses.len() {
            let access = &self.accesses[i];
            let step = step_of(access, first) - step_of(access, second) * extent as i64;
            if step != 0 {
                self.move_pointer(i, step)?;
            }
        }
        self.assembler.set_label(&mut same)?;
        self.assembler.sub(dword_ptr(rsp + left), 1)?;
        self.assembler.jnz(head)
    }

    /// Where a loop's counter lies in the frame.
    pub(super) fn counter_at(&self, dim: usize) -> i32 {
        self.frame.counters + 8 * dim as i32
    }

    fn move_pointer(&mut self, i: usize, step: i64) -> Emitted {
        match (self.pointers[i], i32::try_from(step)) {
            (Pointer::Register(register), Ok(step)) => self.assembler.add(register, step),
            (Pointer::Frame(at), Ok(step)) => self.assembler.add(qword_ptr(rsp + at), step),
            (Pointer::Register(register), Err(_)) => {
                self.assembler.mov(rax, step)?;
                self.assembler.add(register, rax)
            }
            (Pointer::Frame(at), Err(_)) => {
                self.assembler.mov(rax, step)?;
                self.assembler.add(qword_ptr(rsp + at), rax)
            }
        }
    }

    /// The register that holds an access's pointer; `rax` if it had to be fetched.
    pub(super) fn pointer(&mut self, access: &Access) -> Result<AsmRegister64, IcedError> {
        let i = self.accesses.iter().position(|a| a == access).expect("all accesses were collected");
        match self.pointers[i] {
            Pointer::Register(register) => Ok(register),
            Pointer::Frame(at) => {
                self.assembler.mov(rax, qword_ptr(rsp + at))?;
                Ok(rax)
            }
        }
    }
}
