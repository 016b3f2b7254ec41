//! Transposed copies, in square blocks of as many rows as a vector has lanes. A block is transposed in registers.

use iced_x86::code_asm::*;

use super::width::{Width, YMM, ZMM, simd};
use super::{Access, EmitResult, SimdEmitter};
use crate::lower::loops::Transpose;

impl SimdEmitter<'_> {
    pub(super) fn transpose(&mut self, transpose: &Transpose) -> EmitResult {
        let Transpose { rows, lanes, block } = transpose;
        let from = Access::of_input(&block.inputs[0]).expect("a load");
        let to = Access::of_effect(&block.effects[0]).expect("a store");
        // The stride of lanes in the source and of rows in the destination, in bytes.
        let (lane_stride, row_stride) = (super::stride_bytes(&from, lanes.0), super::stride_bytes(&to, rows.0));
        let (step, bytes) = (self.lanes as i64, self.width.bytes() as i64);
        for (lane_blocks, first_lane, lane_count) in self.blocks(lanes.1) {
            for (row_blocks, first_row, row_count) in self.blocks(rows.1) {
                if row_count < self.lanes && self.width == Width::Zmm {
                    self.assembler.mov(eax, (1u32 << row_count) - 1)?;
                    self.assembler.kmovw(k1, eax)?;
                }
                let target = self.pointer(&to)?;
                self.assembler.mov(rdx, target)?;
                self.add(rdx, first_row as i64 * row_stride + first_lane as i64 * 4)?;
                let source = self.pointer(&from)?;
                self.assembler.mov(rax, source)?;
                self.add(rax, first_lane as i64 * lane_stride + first_row as i64 * 4)?;
                let counter = dword_ptr(rsp + self.counter_at(lanes.0));
                self.assembler.mov(counter, lane_blocks as u32)?;
                let (mut next_lanes, mut next_rows) = (self.assembler.create_label(), self.assembler.create_label());
                self.assembler.set_label(&mut next_lanes)?;
                self.assembler.mov(r15, row_blocks as i64)?;
                self.assembler.set_label(&mut next_rows)?;
                self.block_transpose(lane_count, row_count, lane_stride, row_stride)?;
                self.add(rax, bytes)?;
                self.add(rdx, step * row_stride)?;
                self.assembler.sub(r15, 1)?;
                self.assembler.jnz(next_rows)?;
                self.add(rax, step * lane_stride - row_blocks as i64 * bytes)?;
                self.add(rdx, bytes - row_blocks as i64 * step * row_stride)?;
                self.assembler.sub(counter, 1)?;
                self.assembler.jnz(next_lanes)?;
            }
        }
        Ok(())
    }

    /// Offsets are below 2³¹ bytes; see the pack statements of [`crate::lower::loops`].
    fn add(&mut self, pointer: AsmRegister64, bytes: i64) -> EmitResult {
        if bytes == 0 { Ok(()) } else { self.assembler.add(pointer, bytes as i32) }
    }

    /// Transposes `lane_count` vectors of `row_count` rows at `rax` to `row_count` vectors of `lane_count` lanes at `rdx`.
    /// It takes one register more than there are lanes; the accumulators of reductions are in higher registers.
    fn block_transpose(
        &mut self,
        lane_count: usize,
        row_count: usize,
        lane_stride: i64,
        row_stride: i64,
    ) -> EmitResult {
        let mask = YMM[self.scratch_register(0)];
        if self.width == Width::Ymm && row_count < self.lanes {
            self.tail_mask_in_scratch(row_count, 4)?;
        }
        for lane in 0..self.lanes {
            let at = rax + lane as i32 * lane_stride as i32;
            match (lane < lane_count, self.width) {
                // Lanes after the last pad the row.
                (false, _) => simd!(self, vxorps, lane, lane, lane),
                (true, Width::Zmm) if row_count < self.lanes => {
                    self.assembler.vmovups(ZMM[lane].k1().z(), zmmword_ptr(at))?;
                }
                (true, Width::Zmm) => self.assembler.vmovups(ZMM[lane], zmmword_ptr(at))?,
                (true, Width::Ymm) if row_count < self.lanes => {
                    self.assembler.vmaskmovps(YMM[lane], mask, ymmword_ptr(at))?;
                }
                (true, Width::Ymm) => self.assembler.vmovups(YMM[lane], ymmword_ptr(at))?,
            }
        }
        // The register of each vector. An exchange of two goes through the free register, and frees the first.
        let mut at: Vec<usize> = (0..self.lanes).collect();
        let mut free = self.lanes;
        // Each stage swaps halves of register pairs: single lanes, pairs of lanes, then quarters or halves of a vector.
        for stage in 0..self.lanes.ilog2() {
            let distance = 1 << stage;
            for x in (0..self.lanes).filter(|x| x & distance == 0) {
                let (a, b) = (at[x], at[x + distance]);
                match (stage, self.width) {
                    (0, _) => {
                        simd!(self, vunpcklps, free, a, b);
                        simd!(self, vunpckhps, b, a, b);
                    }
                    (1, _) => {
                        simd!(self, vunpcklpd, free, a, b);
                        simd!(self, vunpckhpd, b, a, b);
                    }
                    (_, Width::Zmm) => {
                        self.assembler.vshuff32x4(ZMM[free], ZMM[a], ZMM[b], 0x88)?;
                        self.assembler.vshuff32x4(ZMM[b], ZMM[a], ZMM[b], 0xdd)?;
                    }
                    (_, Width::Ymm) => {
                        self.assembler.vperm2f128(YMM[free], YMM[a], YMM[b], 0x20)?;
                        self.assembler.vperm2f128(YMM[b], YMM[a], YMM[b], 0x31)?;
                    }
                }
                (at[x], free) = (free, a);
            }
        }
        for row in 0..row_count {
            self.store_vector(at[vector_of(row)], rdx + row as i32 * row_stride as i32)?;
        }
        Ok(())
    }

    /// The whole blocks and the tail block: their number, their first index and their size.
    fn blocks(&self, extent: usize) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (lanes, whole) = (self.lanes, extent / self.lanes);
        [(whole, 0, lanes), (1, whole * lanes, extent % lanes)].into_iter().filter(|(count, _, size)| count * size > 0)
    }
}

/// The vector that holds a row after the transpose. Within the quarters of a vector, the first two stages swap bits 0
/// and 1 of the index.
fn vector_of(row: usize) -> usize {
    row & !3 | (row & 1) << 1 | (row & 2) >> 1
}
