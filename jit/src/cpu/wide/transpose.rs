//! Transposed copies, a block of 16 rows by 16 lanes at a time, in registers.

use iced_x86::code_asm::*;

use super::{Access, BYTES, Emitted, Emitter, LANES, ZMM};
use crate::loops::Transpose;

/// The register beside those of the block; the partial results of reductions lie above.
const SPARE: AsmRegisterZmm = zmm16;

impl Emitter<'_> {
    pub(super) fn transpose(&mut self, transpose: &Transpose) -> Emitted {
        let Transpose { rows, lanes, block } = transpose;
        let from = Access::of_input(&block.inputs[0]).expect("a load");
        let to = Access::of_effect(&block.effects[0]).expect("a store");
        // Bytes from lane to lane on one side, and from row to row on the other.
        let (lane_step, pitch) = (super::step_of(&from, lanes.0), super::step_of(&to, rows.0));
        let step = LANES as i64;
        for (lane_blocks, first_lane, width) in blocks(lanes.1) {
            for (row_blocks, first_row, height) in blocks(rows.1) {
                if height < LANES {
                    self.assembler.mov(eax, (1u32 << height) - 1)?;
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
                self.block_transpose(width, height, lane_step, pitch)?;
                self.add(rax, i64::from(BYTES))?;
                self.add(rdx, step * pitch)?;
                self.assembler.sub(r15, 1)?;
                self.assembler.jnz(next_rows)?;
                self.add(rax, step * lane_step - row_blocks as i64 * i64::from(BYTES))?;
                self.add(rdx, i64::from(BYTES) - row_blocks as i64 * step * pitch)?;
                self.assembler.sub(counter, 1)?;
                self.assembler.jnz(next_lanes)?;
            }
        }
        Ok(())
    }

    /// Steps are of less than 2^31 bytes, see [`crate::loops`]' staging.
    fn add(&mut self, pointer: AsmRegister64, bytes: i64) -> Emitted {
        if bytes == 0 { Ok(()) } else { self.assembler.add(pointer, bytes as i32) }
    }

    /// `width` vectors of `height` rows from `rax`, to `height` vectors of `width` lanes at `rdx`.
    fn block_transpose(&mut self, width: usize, height: usize, lane_step: i64, pitch: i64) -> Emitted {
        for (lane, &vector) in ZMM[..LANES].iter().enumerate() {
            let at = zmmword_ptr(rax + lane as i32 * lane_step as i32);
            match lane < width {
                true if height < LANES => self.assembler.vmovups(vector.k1().z(), at)?,
                true => self.assembler.vmovups(vector, at)?,
                // Lanes after the last are room to fill up a row.
                false => self.assembler.vpxord(vector, vector, vector)?,
            }
        }
        // Which vector lies in which register: the exchange of two goes through the spare one, which then is the first.
        let mut at: Vec<AsmRegisterZmm> = ZMM[..LANES].to_vec();
        let mut spare = SPARE;
        // Four times, the halves of pairs: single lanes, pairs of lanes, and quarters of a vector twice.
        for stage in 0..4 {
            let distance = 1 << stage;
            for x in (0..LANES).filter(|x| x & distance == 0) {
                let (a, b) = (at[x], at[x + distance]);
                match stage {
                    0 => {
                        self.assembler.vunpcklps(spare, a, b)?;
                        self.assembler.vunpckhps(b, a, b)?;
                    }
                    1 => {
                        self.assembler.vunpcklpd(spare, a, b)?;
                        self.assembler.vunpckhpd(b, a, b)?;
                    }
                    _ => {
                        self.assembler.vshuff32x4(spare, a, b, 0x88)?;
                        self.assembler.vshuff32x4(b, a, b, 0xdd)?;
                    }
                }
                (at[x], spare) = (spare, a);
            }
        }
        for row in 0..height {
            let vector = at[place_of(row)];
            self.assembler.vmovups(zmmword_ptr(rdx + row as i32 * pitch as i32), vector)?;
        }
        Ok(())
    }
}

/// Which of the vectors a row is in the end: within the quarters of a vector, the first two stages sort by the second
/// bit before the first.
fn place_of(row: usize) -> usize {
    row & !3 | (row & 1) << 1 | (row & 2) >> 1
}

/// How many blocks, from where on, of how many lanes: the whole ones, and what remains.
fn blocks(extent: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let whole = extent / LANES;
    [(whole, 0, LANES), (1, whole * LANES, extent % LANES)].into_iter().filter(|(count, _, size)| count * size > 0)
}
