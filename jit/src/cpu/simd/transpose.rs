//! Transposed copies, a block of as many rows as a vector has lanes at a time, in registers.

use iced_x86::code_asm::*;

use super::width::{Width, YMM, ZMM, simd};
use super::{Access, Emitted, Emitter};
use crate::lower::loops::Transpose;

impl Emitter<'_> {
    pub(super) fn transpose(&mut self, transpose: &Transpose) -> Emitted {
        let Transpose { rows, lanes, block } = transpose;
        let from = Access::of_input(&block.inputs[0]).expect("a load");
        let to = Access::of_effect(&block.effects[0]).expect("a store");
        // Bytes from lane to lane on one side, and from row to row on the other.
        let (lane_step, pitch) = (super::step_of(&from, lanes.0), super::step_of(&to, rows.0));
        let (step, bytes) = (self.lanes as i64, self.width.bytes() as i64);
        for (lane_blocks, first_lane, wide) in self.blocks(lanes.1) {
            for (row_blocks, first_row, high) in self.blocks(rows.1) {
                if high < self.lanes && self.width == Width::Zmm {
                    self.assembler.mov(eax, (1u32 << high) - 1)?;
                    self.assembler.kmovw(k1, eax)?;
                }
                let target = self.pointer(&to)?;
                self.assembler.mov(rdx, target)?;
                self.add(rdx, first_row as i64 * pitch + first_lane as i64 * 4)?;
                let source = self.pointer(&from)?;
                self.assembler.mov(rax, source)?;
                self.add(rax, first_lane as i64 * lane_step + first_row as i64 * 4)?;
                let counter = dword_ptr(rsp + self.counter_at(lanes.0));
                self.assembler.mov(counter, lane_blocks as u32)?;
                let (mut next_lanes, mut next_rows) = (self.assembler.create_label(), self.assembler.create_label());
                self.assembler.set_label(&mut next_lanes)?;
                self.assembler.mov(r15, row_blocks as i64)?;
                self.assembler.set_label(&mut next_rows)?;
                self.block_transpose(wide, high, lane_step, pitch)?;
                self.add(rax, bytes)?;
                self.add(rdx, step * pitch)?;
                self.assembler.sub(r15, 1)?;
                self.assembler.jnz(next_rows)?;
                self.add(rax, step * lane_step - row_blocks as i64 * bytes)?;
                self.add(rdx, bytes - row_blocks as i64 * step * pitch)?;
                self.assembler.sub(counter, 1)?;
                self.assembler.jnz(next_lanes)?;
            }
        }
        Ok(())
    }

    /// Steps are of less than 2^31 bytes, see [`crate::lower::loops`]' staging.
    fn add(&mut self, pointer: AsmRegister64, bytes: i64) -> Emitted {
        if bytes == 0 { Ok(()) } else { self.assembler.add(pointer, bytes as i32) }
    }

    /// `wide` vectors of `high` rows from `rax`, to `high` vectors of `wide` lanes at `rdx`. It takes one register more
    /// than there are lanes; the partial results of reductions lie above.
    fn block_transpose(&mut self, wide: usize, high: usize, lane_step: i64, pitch: i64) -> Emitted {
        let mask = YMM[self.spare(0)];
        if self.width == Width::Ymm && high < self.lanes {
            self.first_in_spare(high, 4)?;
        }
        for lane in 0..self.lanes {
            let at = rax + lane as i32 * lane_step as i32;
            match (lane < wide, self.width) {
                // Lanes after the last are room to fill up a row.
                (false, _) => simd!(self, vxorps, lane, lane, lane),
                (true, Width::Zmm) if high < self.lanes => {
                    self.assembler.vmovups(ZMM[lane].k1().z(), zmmword_ptr(at))?;
                }
                (true, Width::Zmm) => self.assembler.vmovups(ZMM[lane], zmmword_ptr(at))?,
                (true, Width::Ymm) if high < self.lanes => {
                    self.assembler.vmaskmovps(YMM[lane], mask, ymmword_ptr(at))?;
                }
                (true, Width::Ymm) => self.assembler.vmovups(YMM[lane], ymmword_ptr(at))?,
            }
        }
        // Which vector lies in which register: the exchange of two goes through the spare one, which then is the first.
        let mut at: Vec<usize> = (0..self.lanes).collect();
        let mut spare = self.lanes;
        // The halves of pairs change places: single lanes, pairs of lanes, then quarters or halves of a vector.
        for stage in 0..self.lanes.ilog2() {
            let distance = 1 << stage;
            for x in (0..self.lanes).filter(|x| x & distance == 0) {
                let (a, b) = (at[x], at[x + distance]);
                match (stage, self.width) {
                    (0, _) => {
                        simd!(self, vunpcklps, spare, a, b);
                        simd!(self, vunpckhps, b, a, b);
                    }
                    (1, _) => {
                        simd!(self, vunpcklpd, spare, a, b);
                        simd!(self, vunpckhpd, b, a, b);
                    }
                    (_, Width::Zmm) => {
                        self.assembler.vshuff32x4(ZMM[spare], ZMM[a], ZMM[b], 0x88)?;
                        self.assembler.vshuff32x4(ZMM[b], ZMM[a], ZMM[b], 0xdd)?;
                    }
                    (_, Width::Ymm) => {
                        self.assembler.vperm2f128(YMM[spare], YMM[a], YMM[b], 0x20)?;
                        self.assembler.vperm2f128(YMM[b], YMM[a], YMM[b], 0x31)?;
                    }
                }
                (at[x], spare) = (spare, a);
            }
        }
        for row in 0..high {
            self.save(at[place_of(row)], rdx + row as i32 * pitch as i32)?;
        }
        Ok(())
    }

    /// How many blocks, from where on, of how many lanes: the whole ones, and what remains.
    fn blocks(&self, extent: usize) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (lanes, whole) = (self.lanes, extent / self.lanes);
        [(whole, 0, lanes), (1, whole * lanes, extent % lanes)].into_iter().filter(|(count, _, size)| count * size > 0)
    }
}

/// Which of the vectors a row is in the end: within the quarters of a vector, the first two stages sort by the second
/// bit before the first.
fn place_of(row: usize) -> usize {
    row & !3 | (row & 1) << 1 | (row & 2) >> 1
}
