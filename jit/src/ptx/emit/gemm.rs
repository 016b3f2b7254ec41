//! Matrix products.
//!
//! In: a product. Out: its code. A block computes a tile of one matrix of the batch; 16 by 16 threads have a part of it
//! each, every element in one register as one chain of `fma` over the taps and k in ascending order, as on the other
//! back ends. Slices of A and B are copied to shared memory first; while one is used, the next is loaded to registers.

use super::Grid;
use super::code::{Code, class, lane_type};
use super::finish::Finish;
use crate::fuse::GemmKernel;
use crate::lower::lane::LaneType;
use crate::ptx::inst::{Address, BinaryOp, Cache, Cmp, InstOp, Operand, Reg, Rounding, Space, TernaryOp, Type};
use crate::ptx::place::THREADS;

/// Threads along each side of a tile.
const SIDE: usize = 16;
const _: () = assert!(SIDE * SIDE == THREADS as usize);

/// Parts of 8 by 8 are profitable from this number of tiles on: with fewer, multiprocessors would be idle.
const MANY_TILES: usize = 128;

/// With fewer tiles than this, parts are smaller.
const FEW_TILES: usize = 32;

/// Elements between two rows of a slice in shared memory, beside those of the row: columns of adjacent rows then lie in
/// other banks, and rows begin at 16 bytes.
const PADDING: usize = 4;

/// How a product is cut.
#[derive(Clone, Copy)]
struct Tiling {
    /// Rows and columns of a thread, powers of two.
    part: [usize; 2],
    /// Terms of a slice.
    depth: usize,
}

impl Tiling {
    fn of(g: &GemmKernel) -> Tiling {
        let [batch, m, n, _] = g.extents;
        let mut part = [m, n].map(|extent| extent.div_ceil(SIDE).next_power_of_two().min(4));
        // Smaller parts, where larger ones leave most multiprocessors without a tile.
        let tiles = |part: [usize; 2]| {
            batch.saturating_mul(m.div_ceil(part[0] * SIDE)).saturating_mul(n.div_ceil(part[1] * SIDE))
        };
        while part[0] * part[1] > 1 && tiles(part) < FEW_TILES {
            let larger = usize::from(part[1] > part[0]);
            part[larger] /= 2;
        }
        let large = 8 * SIDE;
        let many = batch.saturating_mul(m / large).saturating_mul(n / large) >= MANY_TILES;
        match g.dtype.size() == 4 && many {
            true => Tiling { part: [8, 8], depth: 8 },
            false => Tiling { part, depth: 16 },
        }
    }

    /// Rows and columns of a tile.
    fn tile(self) -> [usize; 2] {
        self.part.map(|part| part * SIDE)
    }

    /// The number of tiles down and across a matrix.
    fn tiles(self, g: &GemmKernel) -> [usize; 2] {
        let [_, m, n, _] = g.extents;
        [m.div_ceil(self.tile()[0]), n.div_ceil(self.tile()[1])]
    }
}

/// The number of tiles of a product: the most blocks that have something to do.
pub(super) fn tiles(g: &GemmKernel) -> usize {
    Tiling::of(g).tiles(g).into_iter().fold(g.extents[0], usize::saturating_mul)
}

/// The code of a product for these blocks; `args` are the addresses of A, of B and of what `finish` accesses.
pub(super) fn emit(code: &mut Code, g: &GemmKernel, finish: &Finish, args: &[Reg], grid: &Grid) {
    code.take_registers();
    let tiling = Tiling::of(g);
    let size = g.dtype.size();
    let shared = tiling.tile().map(|tile| {
        let start = code.reserve_shared((tiling.depth * (tile + PADDING) * size) as u32);
        let base = code.mov(Type::U32, Operand::Shared);
        code.binary(BinaryOp::Add, Type::U32, base, start)
    });
    let column = code.binary(BinaryOp::And, Type::B32, grid.thread, SIDE as u32 - 1);
    let row = code.binary(BinaryOp::Shr, Type::U32, grid.thread, SIDE.ilog2());
    code.counted(grid.block, tiles(g) as u32, grid.blocks, |code, tile| {
        let [down, across] = tiling.tiles(g).map(|count| count as u32);
        let tile_column = code.binary(BinaryOp::Rem, Type::U32, tile, across);
        let tile = code.binary(BinaryOp::Div, Type::U32, tile, across);
        let tile_row = code.binary(BinaryOp::Rem, Type::U32, tile, down);
        let matrix = code.binary(BinaryOp::Div, Type::U32, tile, down);
        let [rows, columns] = tiling.tile().map(|tile| tile as u32);
        let first = [
            code.binary(BinaryOp::Mul, Type::U32, tile_row, rows),
            code.binary(BinaryOp::Mul, Type::U32, tile_column, columns),
        ];
        let ty = lane_type(LaneType::of(g.dtype));
        let place = [row, column];
        let product = Product { g, finish, tiling, ty, size, shared, thread: grid.thread, place, first, matrix };
        product.emit(code, args);
    });
}

/// A tile of a product.
struct Product<'a> {
    g: &'a GemmKernel,
    finish: &'a Finish,
    tiling: Tiling,
    ty: Type,
    size: usize,
    /// Where the slices of A, transposed, and B are in shared memory.
    shared: [Reg; 2],
    thread: Reg,
    /// The row and the column of this thread among those of the block.
    place: [Reg; 2],
    /// The first row and the first column of the tile, u32.
    first: [Reg; 2],
    /// The matrix of the batch, a u32.
    matrix: Reg,
}

/// An element of a slice that this thread copies.
struct Copied {
    /// Where it comes from: moves by a slice after each.
    from: Reg,
    /// Where it goes in shared memory.
    to: Address,
    /// Whether its row or column is in the matrix; its term in the slice.
    inside: Reg,
    term: Reg,
    value: Reg,
    /// Bytes from slice to slice.
    step: i64,
}

impl Product<'_> {
    fn emit(&self, code: &mut Code, args: &[Reg]) {
        let [_, m, n, k] = self.g.extents;
        let [part_m, part_n] = self.tiling.part;
        let depth = self.tiling.depth;
        let sums: Vec<Reg> = (0..part_m * part_n).map(|_| code.mov(self.ty, Operand::Imm(0))).collect();
        let read = [0, 1].map(|i| {
            let bytes = (self.tiling.part[i] * self.size) as u32;
            code.ternary(TernaryOp::Mad, Type::U32, self.place[i], bytes, self.shared[i])
        });
        for tap in &self.g.taps {
            let a = self.offset(code, args[0], tap.a, self.g.a.2[0]);
            let b = self.offset(code, args[1], tap.b, self.g.b.2[0]);
            // A is m by k, with k first in shared memory; B is k by n.
            let mut copied = self.copied(code, 0, a, [self.g.a.2[1], self.g.a.2[2]], m);
            copied.extend(self.copied(code, 1, b, [self.g.b.2[2], self.g.b.2[1]], n));
            let (whole, rest) = (k / depth, k % depth);
            if whole > 0 {
                load(code, self.ty, &copied, None);
                code.counted(0, whole as u32, 1, |code, slice| {
                    store(code, self.ty, &copied);
                    code.push(InstOp::Bar);
                    advance(code, &copied);
                    let next = code.binary(BinaryOp::Add, Type::U32, slice, 1);
                    let is_last = code.setp(Cmp::Ge, Type::U32, next, whole as u32);
                    let skip = code.label();
                    code.branch_if(is_last, true, skip);
                    load(code, self.ty, &copied, None);
                    code.place(skip);
                    for t in 0..depth {
                        self.term(code, read, t, &sums);
                    }
                    code.push(InstOp::Bar);
                });
            }
            if rest > 0 {
                load(code, self.ty, &copied, Some(rest as u32));
                store(code, self.ty, &copied);
                code.push(InstOp::Bar);
                // Terms beyond k are not added: a zero of B is not a zero of the product if A is infinite.
                for t in 0..rest {
                    self.term(code, read, t, &sums);
                }
                code.push(InstOp::Bar);
            }
        }
        self.finish(code, &args[2..], &sums);
    }

    /// The address of an operand's matrix, so many elements further.
    fn offset(&self, code: &mut Code, base: Reg, elements: isize, stride: isize) -> Reg {
        let matrix = code.cvt(Type::U64, Type::U32, Rounding::None, self.matrix);
        let base = code.ternary(TernaryOp::Mad, Type::S64, matrix, self.bytes(stride), base);
        if elements == 0 { base } else { code.binary(BinaryOp::Add, Type::S64, base, self.bytes(elements)) }
    }

    fn bytes(&self, elements: isize) -> Operand {
        Operand::Imm((elements * self.size as isize) as i64 as u64)
    }

    /// Adds term `t` of a slice to all elements of this thread.
    fn term(&self, code: &mut Code, read: [Reg; 2], t: usize, sums: &[Reg]) {
        let [x, y] = [0, 1].map(|i| {
            let start = t * (self.tiling.tile()[i] + PADDING) * self.size;
            let d: Vec<Reg> = (0..self.tiling.part[i]).map(|_| code.reg(class(self.ty))).collect();
            for (n, d) in d.chunks(16 / self.size).enumerate() {
                let address = Address::Reg(read[i], (start + n * 16) as i32);
                let (space, cache) = (Space::Shared, Cache::Default);
                code.push(InstOp::Ld { space, cache, ty: self.ty, d: d.to_vec(), address });
            }
            d
        });
        for (i, &sum) in sums.iter().enumerate() {
            let (a, b) = (x[i / y.len()].into(), y[i % y.len()].into());
            let (op, ty, flush) = (TernaryOp::Fma, self.ty, self.ty == Type::F32);
            code.push(InstOp::Ternary { op, ty, flush, d: sum, a, b, c: sum.into() });
        }
    }

    /// The elements that this thread copies of slices of operand `i`: element `(x, t)` from the row or column `x` of
    /// the tile and the term `t` to row `t` and column `x` of shared memory. Adjacent threads read what is adjacent.
    fn copied(&self, code: &mut Code, i: usize, base: Reg, strides: [isize; 2], extent: usize) -> Vec<Copied> {
        let (tile, depth) = (self.tiling.tile()[i], self.tiling.depth);
        let along_terms = strides[1] == 1 && strides[0] != 1;
        let threads = THREADS as usize;
        let one = |n: usize| {
            let e = code.binary(BinaryOp::Add, Type::U32, self.thread, (n * threads) as u32);
            let inner = if along_terms { depth } else { tile };
            let low = code.binary(BinaryOp::And, Type::B32, e, inner as u32 - 1);
            let high = code.binary(BinaryOp::Shr, Type::U32, e, inner.ilog2());
            let (x, term) = if along_terms { (high, low) } else { (low, high) };
            let row = code.binary(BinaryOp::Add, Type::U32, self.first[i], x);
            let inside = code.setp(Cmp::Lt, Type::U32, row, extent as u32);
            let mut from = base;
            for (index, stride) in [(row, strides[0]), (term, strides[1])] {
                let index = code.cvt(Type::U64, Type::U32, Rounding::None, index);
                from = code.ternary(TernaryOp::Mad, Type::S64, index, self.bytes(stride), from);
            }
            let to = code.ternary(TernaryOp::Mad, Type::U32, term, (tile + PADDING) as u32, x);
            let to = code.ternary(TernaryOp::Mad, Type::U32, to, self.size as u32, self.shared[i]);
            let value = code.mov(self.ty, Operand::Imm(0));
            let step = depth as i64 * strides[1] as i64 * self.size as i64;
            Copied { from, to: Address::Reg(to, 0), inside, term, value, step }
        };
        (0..(tile * depth).div_ceil(threads)).map(one).collect()
    }

    /// Hands on the elements of this thread.
    fn finish(&self, code: &mut Code, args: &[Reg], sums: &[Reg]) {
        let [_, m, n, _] = self.g.extents;
        let part_n = self.tiling.part[1];
        let [row, column] = [0, 1]
            .map(|i| code.ternary(TernaryOp::Mad, Type::U32, self.place[i], self.tiling.part[i] as u32, self.first[i]));
        // Columns that are finished together: all of them are in the matrix, or none.
        let together = (16 / self.size).min(part_n);
        let together = if n % together == 0 { together } else { 1 };
        let columns: Vec<[Reg; 2]> = (0..part_n)
            .step_by(together)
            .map(|j| {
                let j = code.binary(BinaryOp::Add, Type::U32, column, j as u32);
                [j, code.setp(Cmp::Lt, Type::U32, j, n as u32)]
            })
            .collect();
        for (i, sums) in sums.chunks(part_n).enumerate() {
            let this = code.binary(BinaryOp::Add, Type::U32, row, i as u32);
            let in_rows = code.setp(Cmp::Lt, Type::U32, this, m as u32);
            let this = code.ternary(TernaryOp::Mad, Type::U32, self.matrix, m as u32, this);
            for (sums, &[column, in_columns]) in sums.chunks(together).zip(&columns) {
                let inside = code.binary(BinaryOp::And, Type::Pred, in_rows, in_columns);
                self.finish.emit(code, args, [this, column], sums, inside);
            }
        }
    }
}

/// Loads a slice to registers, or so many terms of it.
fn load(code: &mut Code, ty: Type, copied: &[Copied], terms: Option<u32>) {
    for element in copied {
        let inside = match terms {
            None => element.inside,
            Some(terms) => {
                let in_terms = code.setp(Cmp::Lt, Type::U32, element.term, terms);
                code.binary(BinaryOp::And, Type::Pred, element.inside, in_terms)
            }
        };
        let (space, cache, address) = (Space::Global, Cache::Default, Address::Reg(element.from, 0));
        code.push_if((inside, true), InstOp::Ld { space, cache, ty, d: vec![element.value], address });
    }
}

/// Stores a slice from registers to shared memory.
fn store(code: &mut Code, ty: Type, copied: &[Copied]) {
    for &Copied { to, value, .. } in copied {
        let (space, cache) = (Space::Shared, Cache::Default);
        code.push(InstOp::St { space, cache, ty, address: to, a: vec![value.into()] });
    }
}

/// Moves on to the next slice.
fn advance(code: &mut Code, copied: &[Copied]) {
    for element in copied {
        let step = Operand::Imm(element.step as u64);
        code.binary_to(element.from, BinaryOp::Add, Type::S64, element.from, step);
    }
}
