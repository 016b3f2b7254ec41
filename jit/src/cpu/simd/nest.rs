//! Loops: counters, pointers, unrolled vectors and the tail.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use super::{Access, EmitResult, Pointer, SimdEmitter, Width, accumulator_registers, collect_accesses, stride_bytes};
use crate::lower::loops::{Effect, Stmt};

impl SimdEmitter<'_> {
    pub(super) fn stmts(&mut self, stmts: &[Stmt]) -> EmitResult {
        for stmt in stmts {
            match stmt {
                Stmt::For { extent: 0, .. } => {}
                Stmt::For { dim, extent, vector: true, body } if self.loops.is_parallel(*dim) => {
                    self.vector_range_loop(*dim, *extent, body)?
                }
                Stmt::For { dim, extent, vector: true, body } => self.vector_loop(*dim, *extent, body)?,
                Stmt::For { dim, extent, vector: false, body } => self.scalar_loop(*dim, *extent, body)?,
                Stmt::Collapsed { outer, inner, body } => self.collapsed_loop(outer.0, *inner, body)?,
                Stmt::Block(block) => self.block(block)?,
                Stmt::Init(a) => self.init(*a)?,
                Stmt::Combine { accumulator, row } => self.combine(*accumulator, *row)?,
                Stmt::Transpose(transpose) => self.transpose(transpose)?,
            }
        }
        Ok(())
    }

    fn vector_loop(&mut self, dim: usize, extent: usize, body: &[Stmt]) -> EmitResult {
        self.vector = Some(dim);
        self.assembler.xor(r15d, r15d)?;
        let mut done = 0;
        for unroll in self.unroll_factors(body) {
            let step = unroll * self.lanes;
            let trip_count = (extent - done) / step;
            done += trip_count * step;
            let mut head = self.assembler.create_label();
            if trip_count > 0 {
                self.assembler.set_label(&mut head)?;
                self.unrolled(unroll, body)?;
            }
            if trip_count > 1 {
                self.assembler.cmp(r15, done as i32)?;
                self.assembler.jb(head)?;
            }
        }
        if extent > done {
            self.tail(extent - done, body)?;
        }
        self.vector = None;
        Ok(())
    }

    /// A vectorised loop over the work range. The range begins at a multiple of the lanes and ends at one or at the extent.
    /// There is no reduction along it.
    fn vector_range_loop(&mut self, dim: usize, extent: usize, body: &[Stmt]) -> EmitResult {
        self.vector = Some(dim);
        let vector_end = qword_ptr(rsp + self.frame.vector_end);
        self.assembler.mov(rax, qword_ptr(rsp + self.frame.end))?;
        self.assembler.and(rax, -(self.lanes as i32))?;
        self.assembler.mov(vector_end, rax)?;
        self.assembler.mov(r15, qword_ptr(rsp + self.frame.begin))?;
        for unroll in self.unroll_factors(body) {
            let (mut head, mut after) = (self.assembler.create_label(), self.assembler.create_label());
            let step = (unroll * self.lanes) as i32;
            self.assembler.lea(rax, ptr(r15 + step))?;
            self.assembler.cmp(rax, vector_end)?;
            self.assembler.ja(after)?;
            self.assembler.set_label(&mut head)?;
            self.unrolled(unroll, body)?;
            self.assembler.lea(rax, ptr(r15 + step))?;
            self.assembler.cmp(rax, vector_end)?;
            self.assembler.jbe(head)?;
            self.assembler.set_label(&mut after)?;
            // An instruction takes one label only.
            self.assembler.nop()?;
        }
        if !extent.is_multiple_of(self.lanes) {
            let mut after = self.assembler.create_label();
            self.assembler.cmp(r15, qword_ptr(rsp + self.frame.end))?;
            self.assembler.jae(after)?;
            self.tail(extent % self.lanes, body)?;
            self.assembler.set_label(&mut after)?;
            self.assembler.nop()?;
        }
        self.vector = None;
        Ok(())
    }

    /// The unroll factors of a loop, in order: twice the minimum if profitable, then the minimum.
    fn unroll_factors(&self, body: &[Stmt]) -> Vec<usize> {
        let min = self.min_unroll(body);
        match body {
            [Stmt::Block(block)] if self.should_unroll(block, 2 * min) => vec![2 * min, min],
            _ => vec![min],
        }
    }

    /// The minimum unroll factor: the number of accumulator registers of the reductions along the loop, or 1.
    fn min_unroll(&self, body: &[Stmt]) -> usize {
        let of = |stmt: &Stmt| match stmt {
            Stmt::For { body, .. } | Stmt::Collapsed { body, .. } => self.min_unroll(body),
            Stmt::Block(block) => {
                let reductions = block.effects.iter().filter_map(|effect| match effect {
                    Effect::Accumulate { accumulator, .. } => Some(&self.loops.accumulators[*accumulator]),
                    Effect::Store { .. } | Effect::Row { .. } => None,
                });
                reductions.map(|a| accumulator_registers(a, self.lanes)).max().unwrap_or(1)
            }
            Stmt::Init(_) | Stmt::Combine { .. } | Stmt::Transpose(_) => 1,
        };
        body.iter().map(of).max().unwrap_or(1)
    }

    /// The body, unrolled, on whole vectors.
    fn unrolled(&mut self, unroll: usize, body: &[Stmt]) -> EmitResult {
        self.unroll = unroll;
        self.stmts(body)?;
        self.unroll = 1;
        self.assembler.add(r15, (unroll * self.lanes) as i32)
    }

    /// The tail of a loop: fewer lanes than an unrolled iteration, the last vector under a mask.
    fn tail(&mut self, lanes: usize, body: &[Stmt]) -> EmitResult {
        self.unroll = lanes.div_ceil(self.lanes);
        self.tail_lanes = lanes - (self.unroll - 1) * self.lanes;
        if self.width == Width::Zmm {
            self.assembler.mov(eax, (1u32 << self.tail_lanes) - 1)?;
            self.assembler.kmovw(k1, eax)?;
        }
        self.stmts(body)?;
        (self.unroll, self.tail_lanes) = (1, self.lanes);
        Ok(())
    }

    fn scalar_loop(&mut self, dim: usize, extent: usize, body: &[Stmt]) -> EmitResult {
        if extent == 1 {
            return self.stmts(body);
        }
        let counter = dword_ptr(rsp + self.counter_at(dim));
        let is_parallel = self.loops.is_parallel(dim);
        if is_parallel {
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
        collect_accesses(body, &mut inside);
        let moved: Vec<(usize, i64)> = (0..self.accesses.len())
            .filter(|&i| inside.contains(&self.accesses[i]))
            .map(|i| (i, stride_bytes(&self.accesses[i], dim)))
            .filter(|(_, step)| *step != 0)
            .collect();
        for &(i, step) in &moved {
            self.move_pointer(i, step)?;
        }
        self.assembler.sub(counter, 1)?;
        self.assembler.jnz(head)?;
        for &(i, step) in &moved {
            if is_parallel {
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

    /// A range of the collapsed iteration space of two loops. They are the outermost loops, so pointers are not reset.
    fn collapsed_loop(&mut self, first: usize, (second, extent): (usize, usize), body: &[Stmt]) -> EmitResult {
        let (remaining, inner_remaining) = (self.counter_at(first), self.counter_at(second));
        self.assembler.mov(rax, qword_ptr(rsp + self.frame.end))?;
        self.assembler.sub(rax, qword_ptr(rsp + self.frame.begin))?;
        self.assembler.mov(qword_ptr(rsp + remaining), rax)?;
        self.assembler.mov(eax, extent as u32)?;
        self.assembler.sub(rax, qword_ptr(rsp + inner_remaining))?;
        self.assembler.mov(qword_ptr(rsp + inner_remaining), rax)?;
        let (mut head, mut same) = (self.assembler.create_label(), self.assembler.create_label());
        self.assembler.set_label(&mut head)?;
        self.stmts(body)?;
        for i in 0..self.accesses.len() {
            let step = stride_bytes(&self.accesses[i], second);
            if step != 0 {
                self.move_pointer(i, step)?;
            }
        }
        self.assembler.sub(dword_ptr(rsp + inner_remaining), 1)?;
        self.assembler.jnz(same)?;
        self.assembler.mov(dword_ptr(rsp + inner_remaining), extent as u32)?;
        for i in 0..self.accesses.len() {
            let access = &self.accesses[i];
            let step = stride_bytes(access, first) - stride_bytes(access, second) * extent as i64;
            if step != 0 {
                self.move_pointer(i, step)?;
            }
        }
        self.assembler.set_label(&mut same)?;
        self.assembler.sub(dword_ptr(rsp + remaining), 1)?;
        self.assembler.jnz(head)
    }

    /// The frame offset of a loop's counter.
    pub(super) fn counter_at(&self, dim: usize) -> i32 {
        self.frame.counters + 8 * dim as i32
    }

    fn move_pointer(&mut self, i: usize, step: i64) -> EmitResult {
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

    /// The register that holds the pointer of an access: `rax` if the pointer is loaded from the frame.
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
