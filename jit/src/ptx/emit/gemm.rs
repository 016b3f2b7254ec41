//! Matrix products.
//!
//! In: a product. Out: its code. A block computes a tile of one matrix of the batch; 16 by 16 threads have a part of it
//! each, every element in one register as one chain of `fma` over the taps and k in ascending order, as on the other
//! back ends. Slices of A and B are copied to shared memory first, which holds two of each; while one is used,
//! the next is loaded to registers.

use super::Grid;
use super::code::{Code, class, lane_type};
use super::finish::Finish;
use super::taps::each_tap;
use super::tiles::{Tile, each_tile, matrices, tiles};
use crate::fuse::{GemmKernel, Level, Tap};
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

/// Bytes of the largest access.
const ACCESS_BYTES: usize = 16;

/// How a product is cut.
#[derive(Clone, Copy)]
struct Tiling {
    /// Rows and columns of a thread, powers of two.
    part: [usize; 2],
    /// Terms of a slice, a power of two.
    depth: usize,
}

impl Tiling {
    fn of(g: &GemmKernel) -> Tiling {
        let [batch, m, n, k] = g.extents;
        let mut part = [m, n].map(|extent| extent.div_ceil(SIDE).next_power_of_two().min(4));
        // Smaller parts, where larger ones leave most multiprocessors without a tile.
        while part[0] * part[1] > 1 && tiles(part.map(|part| part * SIDE), g) < FEW_TILES {
            let larger = usize::from(part[1] > part[0]);
            part[larger] /= 2;
        }
        let large = 8 * SIDE;
        let many = batch.saturating_mul(m / large).saturating_mul(n / large) >= MANY_TILES;
        if g.dtype.size() == 4 && many {
            return Tiling { part: [8, 8], depth: 8 };
        }
        // The memory is waited for once in a slice, so those of small tiles are deep.
        let mut depth = 4 * SIDE / part[0].max(part[1]);
        while depth > SIDE && depth / 2 >= k {
            depth /= 2;
        }
        Tiling { part, depth }
    }

    /// Rows and columns of a tile.
    fn tile(self) -> [usize; 2] {
        self.part.map(|part| part * SIDE)
    }

    /// Adjacent rows or columns of a thread: as many as an access has. Those of the next thread follow, so that a warp
    /// reads what is adjacent.
    fn adjacent(self, i: usize, size: usize) -> usize {
        self.part[i].min(ACCESS_BYTES / size)
    }

    /// Where row or column `n` of a thread is in the tile, from its first one on.
    fn nth(self, i: usize, size: usize, n: usize) -> usize {
        let adjacent = self.adjacent(i, size);
        n / adjacent * adjacent * SIDE + n % adjacent
    }
}

/// How slices of an operand are copied.
#[derive(Clone, Copy)]
struct Copies {
    /// Whether adjacent threads read along the terms, or along the rows of A or the columns of B.
    along_terms: bool,
    /// Adjacent elements that a thread reads at a time.
    width: usize,
    /// Elements from term to term in shared memory. Where threads store along the terms, there are more than those of a
    /// tile, such that they store to other banks.
    pitch: usize,
}

impl Copies {
    /// For operand `i` of a product. `is_aligned` says that every buffer begins at 16 bytes.
    fn new(g: &GemmKernel, tiling: Tiling, i: usize, is_aligned: bool) -> Copies {
        let (offset, [batch, x, term]) = match i {
            0 => (g.a.1, g.a.2),
            _ => (g.b.1, [g.b.2[0], g.b.2[2], g.b.2[1]]),
        };
        let (tile, size) = (tiling.tile()[i], g.dtype.size());
        let along_terms = term == 1 && x != 1;
        let (unit, other, extent) = if along_terms { (term, x, g.extents[3]) } else { (x, term, g.extents[1 + i]) };
        let mut width = (ACCESS_BYTES / size).min(tile * tiling.depth / THREADS as usize);
        let tap = |tap: &Tap| if i == 0 { tap.a } else { tap.b };
        let step = |level: &Level| if i == 0 { level.a } else { level.b };
        let begins = g.taps.iter().map(tap).chain([offset, batch, other]).chain(g.levels.0.iter().map(step));
        let begins: Vec<isize> = begins.chain([extent as isize]).collect();
        while width > 1 && !(is_aligned && unit == 1 && begins.iter().all(|x| x % width as isize == 0)) {
            width /= 2;
        }
        let pitch = if along_terms { tile + tiling.adjacent(i, size) } else { tile };
        Copies { along_terms, width, pitch }
    }
}

/// The most blocks that have something to do.
pub(super) fn blocks(g: &GemmKernel) -> usize {
    tiles(Tiling::of(g).tile(), g)
}

/// The code of a product for these blocks; `args` are the addresses of A, of B and of what `finish` accesses.
pub(super) fn emit(code: &mut Code, g: &GemmKernel, finish: &Finish, args: &[Reg], grid: &Grid) {
    code.take_registers();
    let tiling = Tiling::of(g);
    let size = g.dtype.size();
    let copies = [0, 1].map(|i| Copies::new(g, tiling, i, finish.is_aligned()));
    let [first, second] =
        [(); 2].map(|()| copies.map(|copies| code.reserve_shared((tiling.depth * copies.pitch * size) as u32)));
    let shared = first.map(|start| {
        let base = code.mov(Type::U32, Operand::Shared);
        code.binary(BinaryOp::Add, Type::U32, base, start)
    });
    let other = code.mov(Type::U32, second[0] - first[0]);
    let column = code.binary(BinaryOp::And, Type::B32, grid.thread, SIDE as u32 - 1);
    let row = code.binary(BinaryOp::Shr, Type::U32, grid.thread, SIDE.ilog2());
    each_tile(code, grid, tiling.tile(), g, |code, Tile { first, matrix }| {
        let ty = lane_type(LaneType::of(g.dtype));
        let place = [row, column];
        let thread = grid.thread;
        Product { g, finish, tiling, copies, ty, size, shared, other, thread, place, first, matrix }.emit(code, args);
    });
}

/// A tile of a product.
struct Product<'a> {
    g: &'a GemmKernel,
    finish: &'a Finish,
    tiling: Tiling,
    copies: [Copies; 2],
    ty: Type,
    size: usize,
    /// Where the slices of A, transposed, and B are in shared memory, and bytes from there to the next ones, an s32.
    shared: [Reg; 2],
    other: Reg,
    thread: Reg,
    /// The row and the column of this thread among those of the block.
    place: [Reg; 2],
    /// The first row and the first column of the tile, u32.
    first: [Reg; 2],
    /// The matrix of the batch, a u32.
    matrix: Reg,
}

/// Adjacent elements of a slice that this thread copies.
struct Copied {
    /// Where they come from: moves by a slice after each.
    from: Reg,
    /// Where they go in shared memory, and bytes from one to the next.
    to: Reg,
    pitch: usize,
    /// Whether their rows or columns are in the matrix; the first term in the slice.
    inside: Reg,
    term: Reg,
    values: Vec<Reg>,
    /// Bytes from slice to slice.
    step: i64,
}

impl Product<'_> {
    fn emit(&self, code: &mut Code, args: &[Reg]) {
        let [part_m, part_n] = self.tiling.part;
        let sums: Vec<Reg> = (0..part_m * part_n).map(|_| code.mov(self.ty, Operand::Imm(0))).collect();
        let read = [0, 1].map(|i| {
            let bytes = (self.tiling.adjacent(i, self.size) * self.size) as u32;
            code.ternary(TernaryOp::Mad, Type::U32, self.place[i], bytes, self.shared[i])
        });
        let operands: [(_, _, fn(&Level) -> isize); 2] =
            [(args[0], self.g.a.2[0], |level| level.a), (args[1], self.g.b.2[0], |level| level.b)];
        let from = self.matrices(code, operands);
        each_tap(code, &self.g.taps, self.size, from, &|code, from| self.tap(code, from, read, &sums));
        self.finish(code, &args[2..], &sums);
    }

    /// Adds the terms of a tap, with the matrices at `from`.
    fn tap(&self, code: &mut Code, from: [Reg; 2], read: [Reg; 2], sums: &[Reg]) {
        let ([_, m, n, k], depth) = (self.g.extents, self.tiling.depth);
        // A is m by k, with k first in shared memory; B is k by n.
        let mut copied = self.copied(code, 0, from[0], [self.g.a.2[1], self.g.a.2[2]], m);
        copied.extend(self.copied(code, 1, from[1], [self.g.b.2[2], self.g.b.2[1]], n));
        let (whole, rest) = (k / depth, k % depth);
        if whole > 0 {
            load(code, self.ty, &copied, None);
            code.counted(0, whole as u32, 1, |code, slice| {
                store(code, self.ty, &copied, self.size);
                code.push(InstOp::Bar);
                advance(code, &copied);
                let next = code.binary(BinaryOp::Add, Type::U32, slice, 1);
                let is_last = code.setp(Cmp::Ge, Type::U32, next, whole as u32);
                let skip = code.label();
                code.branch_if(is_last, true, skip);
                load(code, self.ty, &copied, None);
                code.place(skip);
                self.terms(code, read, depth, sums);
                self.turn(code, read, &copied);
            });
        }
        if rest > 0 {
            load(code, self.ty, &copied, Some(rest as u32));
            store(code, self.ty, &copied, self.size);
            code.push(InstOp::Bar);
            // Terms beyond k are not added: a zero of B is not a zero of the product if A is infinite.
            self.terms(code, read, rest, sums);
            self.turn(code, read, &copied);
        }
    }

    /// Turns to the other slices in shared memory. The barrier behind the next stores is behind the last reads of what
    /// the stores after it overwrite, so a slice has one barrier.
    fn turn(&self, code: &mut Code, read: [Reg; 2], copied: &[Copied]) {
        for at in self.shared.into_iter().chain(read).chain(copied.iter().map(|copied| copied.to)) {
            code.binary_to(at, BinaryOp::Add, Type::S32, at, self.other);
        }
        code.binary_to(self.other, BinaryOp::Sub, Type::S32, 0, self.other);
    }

    /// Adds so many terms of a slice to all elements of this thread. Where most of a tile is outside of the matrix,
    /// threads without an element go on.
    fn terms(&self, code: &mut Code, read: [Reg; 2], count: usize, sums: &[Reg]) {
        let small: Vec<usize> = (0..2).filter(|&i| self.g.extents[1 + i] <= self.tiling.tile()[i] / 2).collect();
        let skip = code.label();
        for &i in &small {
            let adjacent = self.tiling.adjacent(i, self.size) as u32;
            let at = code.binary(BinaryOp::Mul, Type::U32, self.place[i], adjacent);
            let outside = code.setp(Cmp::Ge, Type::U32, at, self.g.extents[1 + i] as u32);
            code.branch_if(outside, true, skip);
        }
        for t in 0..count {
            self.term(code, read, t, sums);
        }
        code.place(skip);
    }

    /// The addresses of the operands' matrices.
    fn matrices(&self, code: &mut Code, [a, b]: [(Reg, isize, fn(&Level) -> isize); 2]) -> [Reg; 2] {
        let one = |code: &mut Code, operand| {
            let [address] = matrices(code, &self.g.levels, self.matrix, self.size, [operand]);
            address
        };
        [one(code, a), one(code, b)]
    }

    fn bytes(&self, elements: isize) -> Operand {
        Operand::Imm((elements * self.size as isize) as i64 as u64)
    }

    /// Adds term `t` of a slice to all elements of this thread.
    fn term(&self, code: &mut Code, read: [Reg; 2], t: usize, sums: &[Reg]) {
        let [x, y] = [0, 1].map(|i| {
            let d: Vec<Reg> = (0..self.tiling.part[i]).map(|_| code.reg(class(self.ty))).collect();
            let adjacent = self.tiling.adjacent(i, self.size);
            for (n, d) in d.chunks(adjacent).enumerate() {
                let at = t * self.copies[i].pitch + self.tiling.nth(i, self.size, n * adjacent);
                let address = Address::Reg(read[i], (at * self.size) as i32);
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

    /// What this thread copies of slices of operand `i`: element `(x, t)` from the row or column `x` of the tile and
    /// the term `t` to row `t` and column `x` of shared memory.
    fn copied(&self, code: &mut Code, i: usize, base: Reg, strides: [isize; 2], extent: usize) -> Vec<Copied> {
        let (tile, depth) = (self.tiling.tile()[i], self.tiling.depth);
        let Copies { along_terms, width, pitch } = self.copies[i];
        let threads = THREADS as usize;
        // Along the terms, a warp has so many accesses of each row that it stores to all banks.
        let line = match (along_terms, width * self.size) {
            (true, ACCESS_BYTES) => (8 / self.tiling.adjacent(i, self.size)).min(depth / width),
            (true, _) => depth / width,
            (false, _) => tile / width,
        };
        let one = |n: usize| {
            let e = code.binary(BinaryOp::Add, Type::U32, self.thread, (n * threads) as u32);
            let low = code.binary(BinaryOp::And, Type::B32, e, line as u32 - 1);
            let high = code.binary(BinaryOp::Shr, Type::U32, e, line.ilog2());
            let (x, term) = if along_terms {
                let x = code.binary(BinaryOp::And, Type::B32, high, tile as u32 - 1);
                let more = code.binary(BinaryOp::Shr, Type::U32, high, tile.ilog2());
                let group = code.ternary(TernaryOp::Mad, Type::U32, more, line as u32, low);
                (x, code.binary(BinaryOp::Mul, Type::U32, group, width as u32))
            } else {
                (code.binary(BinaryOp::Mul, Type::U32, low, width as u32), high)
            };
            let row = code.binary(BinaryOp::Add, Type::U32, self.first[i], x);
            let inside = code.setp(Cmp::Lt, Type::U32, row, extent as u32);
            let mut from = base;
            for (index, stride) in [(row, strides[0]), (term, strides[1])] {
                let index = code.cvt(Type::U64, Type::U32, Rounding::None, index);
                from = code.ternary(TernaryOp::Mad, Type::S64, index, self.bytes(stride), from);
            }
            let to = code.ternary(TernaryOp::Mad, Type::U32, term, pitch as u32, x);
            let to = code.ternary(TernaryOp::Mad, Type::U32, to, self.size as u32, self.shared[i]);
            let values = (0..width).map(|_| code.mov(self.ty, Operand::Imm(0))).collect();
            let step = depth as i64 * strides[1] as i64 * self.size as i64;
            let pitch = if along_terms { pitch * self.size } else { self.size };
            Copied { from, to, pitch, inside, term, values, step }
        };
        (0..tile * depth / width / threads).map(one).collect()
    }

    /// Hands on the elements of this thread.
    fn finish(&self, code: &mut Code, args: &[Reg], sums: &[Reg]) {
        let (n, part_n) = (self.g.extents[2], self.tiling.part[1]);
        let [row, column] = [0, 1].map(|i| {
            let adjacent = self.tiling.adjacent(i, self.size) as u32;
            code.ternary(TernaryOp::Mad, Type::U32, self.place[i], adjacent, self.first[i])
        });
        // Columns that are finished together: all of them are in the matrix, or none.
        let together = self.tiling.adjacent(1, self.size);
        let together = if n % together == 0 { together.min(self.finish.most_together()) } else { 1 };
        let nth = |i: usize, n: usize| self.tiling.nth(i, self.size, n) as u32;
        let columns = (0..part_n).step_by(together).map(|j| nth(1, j));
        let lines = sums.chunks(part_n).enumerate().map(|(i, sums)| (nth(0, i), sums));
        self.finish.emit_part(code, args, (self.matrix, [row, column]), together, columns, lines);
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
        let d = element.values.clone();
        code.push_if((inside, true), InstOp::Ld { space, cache, ty, d, address });
    }
}

/// Stores a slice from registers to shared memory.
fn store(code: &mut Code, ty: Type, copied: &[Copied], size: usize) {
    for element in copied {
        // Adjacent ones together.
        let width = if element.pitch == size { element.values.len() } else { 1 };
        for (n, values) in element.values.chunks(width).enumerate() {
            let (space, cache, address) =
                (Space::Shared, Cache::Default, Address::Reg(element.to, (n * element.pitch) as i32));
            let a = values.iter().map(|&value| value.into()).collect();
            code.push(InstOp::St { space, cache, ty, address, a });
        }
    }
}

/// Moves on to the next slice.
fn advance(code: &mut Code, copied: &[Copied]) {
    for element in copied {
        let step = Operand::Imm(element.step as u64);
        code.binary_to(element.from, BinaryOp::Add, Type::S64, element.from, step);
    }
}
