//! Matrix products by tensor cores.
//!
//! In: a product of f32 in tf32, bf16 or f16. Out: its code, for sm_80 and later. A block computes a tile of one matrix
//! of the batch, its 8 warps 2 by 4 parts of it, each as `mma.sync` of 16 by 8 elements with sums in f32. Slices of A
//! and B pass through shared memory (`stage`), from where warps read fragments (`fragment`).
//!
//! A slice has 64 bytes of terms for a row or column: two steps, of the terms of an instruction each. Slices of tf32
//! that may be copied 16 bytes at a time arrive by `cp.async` in three stages, and are rounded as fragments. Others
//! pass through registers into one of two stages, and are rounded there.

mod fragment;
mod stage;
#[cfg(test)]
mod tests;

use super::Grid;
use super::code::Code;
use super::finish::Finish;
use super::taps::each_tap;
use super::tiles::{self, each_tile, tiles};
use crate::fuse::{GemmKernel, Level};
use crate::graph::Precision;
use crate::ptx::inst::{BinaryOp, Cmp, InstOp, MmaShape, Operand, Reg, Type};
use crate::ptx::place::{THREADS, Target};
use fragment::Fragments;
use stage::Copies;

/// Rows and columns of tiles, the largest first.
const TILES: [[usize; 2]; 3] = [[128, 128], [64, 64], [32, 64]];

/// Warps down and across a tile.
const WARPS: [usize; 2] = [2, 4];
const _: () = assert!(WARPS[0] * WARPS[1] * 32 == THREADS as usize);

/// Rows and columns of an instruction.
const SHAPE: [usize; 2] = [16, 8];

/// Bytes of the terms of a slice, of a row of A or a column of B.
const SLICE: usize = 64;

/// Steps of a slice: the terms of an instruction each.
const STEPS: usize = 2;

/// How tensor cores compute a product.
#[derive(Clone, Copy)]
pub(in crate::ptx) struct Mma {
    /// What the operands are rounded to.
    ty: Type,
    /// Rows and columns of a tile.
    tile: [usize; 2],
    /// A and B.
    sides: [Side; 2],
}

/// How an operand lies in memory. The rows of A and the columns of B are its lines.
#[derive(Clone, Copy)]
struct Side {
    /// Whether groups of adjacent terms of a line are copied, not of adjacent lines of a term. Shared memory has them
    /// in the same order.
    along_terms: bool,
    /// Whether a group is 16 aligned bytes, inside of the matrix or outside.
    is_wide: bool,
}

impl Side {
    /// Of an operand with these strides of batch, lines and terms, and so many of them, which begins at these offsets.
    fn of(strides: [isize; 3], extents: [usize; 3], mut offsets: impl Iterator<Item = isize>) -> Side {
        let along_terms = strides[2] == 1 || strides[1] != 1;
        let axis = if along_terms { 2 } else { 1 };
        let steps = |a: usize| a == axis || extents[a] == 1 || strides[a] % 4 == 0;
        let is_whole = strides[axis] == 1 && extents[axis].is_multiple_of(4);
        Side { along_terms, is_wide: is_whole && (0..3).all(steps) && offsets.all(|offset| offset % 4 == 0) }
    }
}

impl Mma {
    /// How the target computes a product by tensor cores; `None` if it has none that do, or all bits are asked for.
    /// `is_aligned` says that buffers begin at multiples of 16 bytes.
    pub(in crate::ptx) fn of(g: &GemmKernel, is_aligned: bool, target: Target) -> Option<Mma> {
        let ty = match g.precision {
            Precision::Tf32 => Type::Tf32,
            Precision::Bf16 => Type::Bf16,
            Precision::F16 => Type::F16,
            Precision::Highest => return None,
        };
        if target.capability < 80 {
            return None;
        }
        let [batch, m, n, k] = g.extents;
        // The largest tile that is not half empty, and of which there is one for each multiprocessor.
        let fits = |tile: &[usize; 2]| {
            m > tile[0] / 2 && n > tile[1] / 2 && tiles(*tile, g) >= target.multiprocessors as usize
        };
        let tile = TILES.into_iter().find(fits).unwrap_or(TILES[TILES.len() - 1]);
        let (_, _, [matrix, term, column]) = g.b;
        let steps = |step: fn(&Level) -> isize| g.levels.0.iter().map(step);
        let mut sides = [
            Side::of(g.a.2, [batch, m, k], g.taps.iter().map(|tap| g.a.1 + tap.a).chain(steps(|level| level.a))),
            Side::of(
                [matrix, column, term],
                [batch, n, k],
                g.taps.iter().map(|tap| g.b.1 + tap.b).chain(steps(|level| level.b)),
            ),
        ];
        sides.iter_mut().for_each(|side| side.is_wide &= is_aligned);
        Some(Mma { ty, tile, sides })
    }

    /// The number of tiles of a product: the most blocks that have something to do.
    pub(super) fn blocks(&self, g: &GemmKernel) -> usize {
        tiles(self.tile, g)
    }

    /// Bytes of an element in shared memory.
    fn size(&self) -> usize {
        if self.ty == Type::Tf32 { 4 } else { 2 }
    }

    /// Terms of a slice.
    fn depth(&self) -> usize {
        SLICE / self.size()
    }

    /// Whether slices arrive by `cp.async`, which does not round.
    fn is_async(&self) -> bool {
        self.ty == Type::Tf32 && self.sides.iter().all(|side| side.is_wide)
    }

    /// How many slices there is memory for.
    fn stages(&self) -> usize {
        if self.is_async() { 3 } else { 2 }
    }

    /// Bytes of a slice of A and one of B.
    fn stage_bytes(&self) -> usize {
        (self.tile[0] + self.tile[1]) * SLICE
    }

    /// Where the part of operand `i` begins in a slice.
    fn part(&self, i: usize) -> usize {
        i * self.tile[0] * SLICE
    }

    /// Bytes of a row of shared memory: the terms of a line, or the lines of a term.
    fn row_bytes(&self, i: usize) -> usize {
        if self.sides[i].along_terms { SLICE } else { self.tile[i] * self.size() }
    }

    /// What the places in a row of shared memory are combined with by exclusive or, so that what is accessed together
    /// lies in different banks: pieces of 16 bytes of 8 adjacent rows for `ldmatrix`; for loads of words, 4 rows.
    fn swizzle(&self, code: &mut Code, i: usize, row: Reg) -> Reg {
        let (shift, mask) = match (self.row_bytes(i), self.ty) {
            (SLICE, _) => (3, 0x30),
            (_, Type::Tf32) => (5, 0x60),
            (_, _) => (4, 0x70),
        };
        let shifted = code.binary(BinaryOp::Shl, Type::B32, row, shift);
        code.binary(BinaryOp::And, Type::B32, shifted, mask)
    }

    /// Instructions down and across the part of a warp.
    fn fragments(&self) -> [usize; 2] {
        [0, 1].map(|i| self.tile[i] / WARPS[i] / SHAPE[i])
    }
}

/// The code of a product for these blocks; `args` are the addresses of A, of B and of what `finish` accesses.
pub(super) fn emit(code: &mut Code, g: &GemmKernel, mma: &Mma, finish: &Finish, args: &[Reg], grid: &Grid) {
    code.take_registers();
    let start = code.reserve_shared((mma.stages() * mma.stage_bytes()) as u32);
    let shared = code.mov(Type::U32, Operand::Shared);
    let shared = code.binary(BinaryOp::Add, Type::U32, shared, start);
    let lane = code.binary(BinaryOp::And, Type::B32, grid.thread, 31);
    let warp = code.binary(BinaryOp::Shr, Type::U32, grid.thread, 5);
    let down = code.binary(BinaryOp::And, Type::B32, warp, WARPS[0] as u32 - 1);
    let across = code.binary(BinaryOp::Shr, Type::U32, warp, WARPS[0].ilog2());
    let [rows, columns] = [0, 1].map(|i| (mma.tile[i] / WARPS[i]) as u32);
    let part =
        [code.binary(BinaryOp::Mul, Type::U32, down, rows), code.binary(BinaryOp::Mul, Type::U32, across, columns)];
    each_tile(code, grid, mma.tile, g, |code, tiles::Tile { first, matrix }| {
        Tile { g, mma, finish, shared, thread: grid.thread, lane, part, first, matrix }.emit(code, args);
    });
}

/// A tile of a product.
struct Tile<'a> {
    g: &'a GemmKernel,
    mma: &'a Mma,
    finish: &'a Finish,
    /// Where slices are in shared memory.
    shared: Reg,
    thread: Reg,
    /// The number of this thread in its warp.
    lane: Reg,
    /// The first row and column of the warp's part in the tile.
    part: [Reg; 2],
    /// The first row and the first column of the tile.
    first: [Reg; 2],
    /// The matrix of the batch.
    matrix: Reg,
}

impl Tile<'_> {
    fn emit(&self, code: &mut Code, args: &[Reg]) {
        let [down, across] = self.mma.fragments();
        let sums: Vec<[Reg; 4]> =
            (0..down * across).map(|_| [(); 4].map(|()| code.mov(Type::F32, Operand::Imm(0)))).collect();
        let fragments = [0, 1].map(|i| Fragments::new(code, self, i));
        let operands: [(_, _, fn(&Level) -> isize); 2] =
            [(args[0], self.g.a.2[0], |level| level.a), (args[1], self.g.b.2[0], |level| level.b)];
        let from = tiles::matrices(code, &self.g.levels, self.matrix, 4, operands);
        each_tap(code, &self.g.taps, 4, from, &|code, from| {
            let copies = [0, 1].map(|i| Copies::new(code, self, i, from[i]));
            match self.mma.is_async() {
                true => self.slices_by_copies(code, &copies, &fragments, &sums),
                false => self.slices_by_registers(code, &copies, &fragments, &sums),
            }
            // The memory of slices is used again.
            code.push(InstOp::Bar);
        });
        self.finish(code, &args[2..], &sums);
    }

    fn slices(&self) -> usize {
        self.g.extents[3].div_ceil(self.mma.depth())
    }

    /// Adds all slices, each of which is copied to shared memory two slices ahead.
    fn slices_by_copies(&self, code: &mut Code, copies: &[Copies; 2], fragments: &[Fragments; 2], sums: &[[Reg; 4]]) {
        let (slices, ahead) = (self.slices(), self.mma.stages() - 1);
        let left = self.left(code);
        let begin = |code: &mut Code, copies: &[Copies; 2], stage: Reg| {
            copies.iter().for_each(|copies| copies.begin(code, stage, left));
            self.advance(code, copies, left);
        };
        for slice in 0..ahead {
            if slice < slices {
                let stage = code.mov(Type::U32, (slice * self.mma.stage_bytes()) as u32);
                begin(code, copies, stage);
            }
            code.push(InstOp::CpAsyncCommit);
        }
        let read = code.mov(Type::U32, 0);
        let write = code.mov(Type::U32, (ahead * self.mma.stage_bytes()) as u32);
        code.counted(0, slices as u32, 1, |code, slice| {
            code.push(InstOp::NoUnroll);
            code.push(InstOp::CpAsyncWait { groups: ahead as u32 - 1 });
            code.push(InstOp::Bar);
            self.if_there_are(code, slice, ahead, |code| begin(code, copies, write));
            code.push(InstOp::CpAsyncCommit);
            self.add(code, fragments, read, sums);
            self.next(code, read);
            self.next(code, write);
        });
    }

    /// Adds all slices, each of which is loaded to registers one slice ahead.
    fn slices_by_registers(
        &self,
        code: &mut Code,
        copies: &[Copies; 2],
        fragments: &[Fragments; 2],
        sums: &[[Reg; 4]],
    ) {
        let slices = self.slices();
        let left = self.left(code);
        let values = [0, 1].map(|i| copies[i].registers(code));
        let load = |code: &mut Code, copies: &[Copies; 2]| {
            copies.iter().zip(&values).for_each(|(copies, values)| copies.load(code, values, left));
            self.advance(code, copies, left);
        };
        let store = |code: &mut Code, copies: &[Copies; 2], stage: Reg| {
            copies.iter().zip(&values).for_each(|(copies, values)| copies.store(code, values, stage));
        };
        let read = code.mov(Type::U32, 0);
        let write = code.mov(Type::U32, self.mma.stage_bytes() as u32);
        if slices > 0 {
            load(code, copies);
            store(code, copies, read);
        }
        code.counted(0, slices as u32, 1, |code, slice| {
            // Loops of few slices would be unrolled, and take all registers.
            code.push(InstOp::NoUnroll);
            code.push(InstOp::Bar);
            self.if_there_are(code, slice, 1, |code| load(code, copies));
            self.add(code, fragments, read, sums);
            self.if_there_are(code, slice, 1, |code| store(code, copies, write));
            self.next(code, read);
            self.next(code, write);
        });
    }

    /// The number of terms from the slice on that is copied next; `None` if all slices are whole.
    fn left(&self, code: &mut Code) -> Option<Reg> {
        let k = self.g.extents[3];
        (!k.is_multiple_of(self.mma.depth())).then(|| code.mov(Type::U32, k as u32))
    }

    /// Moves on to the next slice.
    fn advance(&self, code: &mut Code, copies: &[Copies; 2], left: Option<Reg>) {
        copies.iter().for_each(|copies| copies.advance(code));
        if let Some(left) = left {
            code.binary_to(left, BinaryOp::Sub, Type::U32, left, self.mma.depth() as u32);
        }
    }

    /// What is done if there are so many slices after this one.
    fn if_there_are(&self, code: &mut Code, slice: Reg, ahead: usize, then: impl FnOnce(&mut Code)) {
        let end = code.label();
        let last = self.slices().saturating_sub(ahead);
        let is_late = code.setp(Cmp::Ge, Type::U32, slice, last as u32);
        code.branch_if(is_late, true, end);
        then(code);
        code.place(end);
    }

    /// Moves on to the next stage.
    fn next(&self, code: &mut Code, stage: Reg) {
        let bytes = self.mma.stage_bytes();
        code.binary_to(stage, BinaryOp::Add, Type::U32, stage, bytes as u32);
        let is_over = code.setp(Cmp::Ge, Type::U32, stage, (self.mma.stages() * bytes) as u32);
        code.push_if((is_over, true), InstOp::Mov { ty: Type::U32, d: stage, a: Operand::Imm(0) });
    }

    /// Adds the products of a slice.
    fn add(&self, code: &mut Code, fragments: &[Fragments; 2], stage: Reg, sums: &[[Reg; 4]]) {
        let at = [0, 1].map(|i| fragments[i].in_stage(code, stage));
        let (shape, ty) = match self.mma.ty {
            Type::Tf32 => (MmaShape::M16N8K8, Type::Tf32),
            ty => (MmaShape::M16N8K16, ty),
        };
        for step in 0..STEPS {
            let [a, b] = [0, 1].map(|i| fragments[i].read(code, &at[i], step));
            let (a, b) = (a.as_chunks::<4>().0, b.as_chunks::<2>().0);
            for (&sums, (&a, &b)) in sums.iter().zip(a.iter().flat_map(|a| b.iter().map(move |b| (a, b)))) {
                code.push(InstOp::Mma { shape, ty, d: sums, a, b, c: sums });
            }
        }
    }

    /// Hands on the elements of this thread: of each instruction, two adjacent ones of two rows.
    fn finish(&self, code: &mut Code, args: &[Reg], sums: &[[Reg; 4]]) {
        let (n, across) = (self.g.extents[2], self.mma.fragments()[1]);
        let in_row = code.binary(BinaryOp::And, Type::B32, self.lane, 3);
        let places =
            [code.binary(BinaryOp::Shr, Type::U32, self.lane, 2), code.binary(BinaryOp::Shl, Type::B32, in_row, 1)];
        let [row, column] = [0, 1].map(|i| {
            let first = code.binary(BinaryOp::Add, Type::U32, self.first[i], self.part[i]);
            code.binary(BinaryOp::Add, Type::U32, first, places[i])
        });
        // Columns that are finished together: both are in the matrix, or none.
        let together = if n % 2 == 0 && self.finish.most_together() >= 2 { 2 } else { 1 };
        let columns = (0..across * 2).step_by(together).map(|e| (e / 2 * SHAPE[1] + e % 2) as u32);
        let line = |sums: &[[Reg; 4]], half: usize| -> Vec<Reg> {
            sums.iter().flat_map(|sums| [sums[2 * half], sums[2 * half + 1]]).collect()
        };
        let lines = sums
            .chunks(across)
            .enumerate()
            .flat_map(|(i, sums)| [0, 1].map(|half| ((i * SHAPE[0] + half * SHAPE[0] / 2) as u32, line(sums, half))));
        self.finish.emit_part(code, args, (self.matrix, [row, column]), together, columns, lines);
    }
}

/// Bytes of elements in global memory.
fn bytes(elements: isize) -> Operand {
    Operand::Imm((elements * 4) as i64 as u64)
}
