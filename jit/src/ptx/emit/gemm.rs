//! Matrix products.
//!
//! In: a product. Out: its code. A block computes a tile of [`TILE`]² elements of one matrix of the batch; a
//! thread [`PART`]² of them, each in one register as one chain of `fma` over the taps and k in ascending order, as
//! on the other back ends. Slices of A and B of [`DEPTH`] terms are copied to shared memory first, zeros beyond the
//! matrices.

use super::Grid;
use super::code::{Code, class, lane_type};
use crate::fuse::GemmKernel;
use crate::lower::lane::LaneType;
use crate::ptx::inst::{
    Address, BinaryOp, Cache, Cmp, InstOp, Operand, Reg, RegClass, Rounding, Space, TernaryOp, Type,
};

/// Rows and columns of the tile of a block.
const TILE: usize = 64;

/// Rows and columns of a thread.
const PART: usize = 4;

/// Terms of a slice.
const DEPTH: usize = 16;

/// Threads of a block: 16 by 16.
pub(in crate::ptx) const THREADS: usize = (TILE / PART) * (TILE / PART);

/// The number of tiles of a product: the most blocks that have something to do.
pub(in crate::ptx) fn tiles(g: &GemmKernel) -> usize {
    let [batch, m, n, _] = g.extents;
    batch.saturating_mul(m.div_ceil(TILE)).saturating_mul(n.div_ceil(TILE))
}

/// The code of a product for these blocks, whose threads are [`THREADS`]; `args` are the addresses of A, B and C.
pub(super) fn emit(code: &mut Code, g: &GemmKernel, args: &[Reg], grid: &Grid) {
    let slice = (DEPTH * TILE * g.dtype.size()) as u32;
    let shared = [code.reserve_shared(slice), code.reserve_shared(slice)];
    code.counted(grid.block, tiles(g) as u32, grid.blocks, |code, tile| {
        Product::new(code, g, args, shared, grid.thread, tile).emit(code);
    });
}

struct Product<'a> {
    g: &'a GemmKernel,
    ty: Type,
    size: usize,
    a: Reg,
    b: Reg,
    c: Reg,
    /// Where the slices of A, transposed, and B lie in shared memory.
    shared: [u32; 2],
    thread: Reg,
    /// The first row and the first column of the block, u32.
    first: [Reg; 2],
    /// The matrix of the batch, as an s64.
    matrix: Reg,
}

impl<'a> Product<'a> {
    fn new(code: &mut Code, g: &'a GemmKernel, args: &[Reg], shared: [u32; 2], thread: Reg, tile: Reg) -> Self {
        let [_, m, n, _] = g.extents;
        let (ty, size) = (lane_type(LaneType::of(g.dtype)), g.dtype.size());
        let (rows, columns) = (m.div_ceil(TILE) as u32, n.div_ceil(TILE) as u32);
        let column = code.binary(BinaryOp::Rem, Type::U32, tile, columns);
        let tile = code.binary(BinaryOp::Div, Type::U32, tile, columns);
        let row = code.binary(BinaryOp::Rem, Type::U32, tile, rows);
        let matrix = code.binary(BinaryOp::Div, Type::U32, tile, rows);
        let first = [row, column].map(|tile| code.binary(BinaryOp::Mul, Type::U32, tile, TILE as u32));
        let matrix = code.cvt(Type::U64, Type::U32, Rounding::None, matrix);
        Product { g, ty, size, a: args[0], b: args[1], c: args[2], shared, thread, first, matrix }
    }

    fn emit(&self, code: &mut Code) {
        let [_, m, n, k] = self.g.extents;
        let column = code.binary(BinaryOp::And, Type::B32, self.thread, 15);
        let row = code.binary(BinaryOp::Shr, Type::U32, self.thread, 4);
        let sums: Vec<Reg> = (0..PART * PART).map(|_| code.mov(self.ty, Operand::Imm(0))).collect();
        let at = |code: &mut Code, i: Reg, base: u32| {
            let bytes = code.binary(BinaryOp::Mul, Type::U32, i, (PART * self.size) as u32);
            let start = code.mov(Type::U32, Operand::Shared);
            let start = code.binary(BinaryOp::Add, Type::U32, start, base);
            code.binary(BinaryOp::Add, Type::U32, start, bytes)
        };
        let (from_a, from_b) = (at(code, row, self.shared[0]), at(code, column, self.shared[1]));
        for tap in &self.g.taps {
            let a = self.offset(code, self.a, tap.a, self.g.a.2[0]);
            let b = self.offset(code, self.b, tap.b, self.g.b.2[0]);
            code.counted(0, k as u32, DEPTH as u32, |code, first| {
                let [row_a, row_b] = self.first;
                // A is m by k, with k first in shared memory; B is k by n.
                self.copy(code, a, [self.g.a.2[1], self.g.a.2[2]], (row_a, m), (first, k), self.shared[0]);
                self.copy(code, b, [self.g.b.2[2], self.g.b.2[1]], (row_b, n), (first, k), self.shared[1]);
                code.push(InstOp::Bar);
                // Terms beyond k are not added: a zero of B is not a zero of the product if A is infinite.
                let depth = code.binary(BinaryOp::Sub, Type::U32, k as u32, first);
                let depth = code.binary(BinaryOp::Min, Type::U32, depth, DEPTH as u32);
                let (step, mut pointers) = ((TILE * self.size) as u32, [from_a, from_b]);
                for pointer in &mut pointers {
                    *pointer = code.mov(Type::U32, *pointer);
                }
                code.counted(0, depth, 1, |code, _| {
                    let [x, y] = pointers.map(|pointer| self.shared_row(code, pointer));
                    for (i, sum) in sums.iter().enumerate() {
                        code.push(InstOp::Ternary {
                            op: TernaryOp::Fma,
                            ty: self.ty,
                            flush: self.ty == Type::F32,
                            d: *sum,
                            a: x[i / PART].into(),
                            b: y[i % PART].into(),
                            c: (*sum).into(),
                        });
                    }
                    for pointer in pointers {
                        code.binary_to(pointer, BinaryOp::Add, Type::U32, pointer, step);
                    }
                });
                code.push(InstOp::Bar);
            });
        }
        self.store(code, &sums, row, column, m, n);
    }

    /// The address of an operand's matrix, so many elements further.
    fn offset(&self, code: &mut Code, base: Reg, elements: isize, stride: isize) -> Reg {
        let bytes = |x: isize| Operand::Imm((x * self.size as isize) as i64 as u64);
        let base = code.ternary(TernaryOp::Mad, Type::S64, self.matrix, bytes(stride), base);
        if elements == 0 { base } else { code.binary(BinaryOp::Add, Type::S64, base, bytes(elements)) }
    }

    /// A row of a slice: the elements of this thread.
    fn shared_row(&self, code: &mut Code, pointer: Reg) -> Vec<Reg> {
        let d: Vec<Reg> = (0..PART).map(|_| code.reg(class(self.ty))).collect();
        let per_access = 16 / self.size;
        for (i, d) in d.chunks(per_access).enumerate() {
            let address = Address::Reg(pointer, (i * 16) as i32);
            let (space, cache) = (Space::Shared, Cache::Default);
            code.push(InstOp::Ld { space, cache, ty: self.ty, d: d.to_vec(), address });
        }
        d
    }

    /// Copies a slice: element `(x, t)` of `TILE` by `DEPTH`, from the rows (or columns) `x` from the first on, and
    /// the terms `t`, to row `t` and column `x` of shared memory. Adjacent threads read what is adjacent.
    fn copy(
        &self,
        code: &mut Code,
        base: Reg,
        strides: [isize; 2],
        (first_x, extent_x): (Reg, usize),
        (first_t, extent_t): (Reg, usize),
        shared: u32,
    ) {
        let along_t = strides[1] == 1 && strides[0] != 1;
        let to = code.mov(Type::U32, Operand::Shared);
        let to = code.binary(BinaryOp::Add, Type::U32, to, shared);
        for i in 0..TILE * DEPTH / THREADS {
            let e = code.binary(BinaryOp::Add, Type::U32, self.thread, (i * THREADS) as u32);
            let (x, t) = if along_t {
                let t = code.binary(BinaryOp::And, Type::B32, e, DEPTH as u32 - 1);
                (code.binary(BinaryOp::Shr, Type::U32, e, DEPTH.ilog2()), t)
            } else {
                let x = code.binary(BinaryOp::And, Type::B32, e, TILE as u32 - 1);
                (x, code.binary(BinaryOp::Shr, Type::U32, e, TILE.ilog2()))
            };
            let (global_x, global_t) =
                (code.binary(BinaryOp::Add, Type::U32, first_x, x), code.binary(BinaryOp::Add, Type::U32, first_t, t));
            let in_x = code.setp(Cmp::Lt, Type::U32, global_x, extent_x as u32);
            let in_t = code.setp(Cmp::Lt, Type::U32, global_t, extent_t as u32);
            let inside = code.binary(BinaryOp::And, Type::Pred, in_x, in_t);
            let value = code.mov(self.ty, Operand::Imm(0));
            let mut address = base;
            for (index, stride) in [(global_x, strides[0]), (global_t, strides[1])] {
                let index = code.cvt(Type::U64, Type::U32, Rounding::None, index);
                let stride = Operand::Imm((stride * self.size as isize) as i64 as u64);
                address = code.ternary(TernaryOp::Mad, Type::S64, index, stride, address);
            }
            let (space, cache, address) = (Space::Global, Cache::Default, Address::Reg(address, 0));
            code.push_if((inside, true), InstOp::Ld { space, cache, ty: self.ty, d: vec![value], address });
            let place = code.ternary(TernaryOp::Mad, Type::U32, t, TILE as u32, x);
            let place = code.ternary(TernaryOp::Mad, Type::U32, place, self.size as u32, to);
            let address = Address::Reg(place, 0);
            code.push(InstOp::St { space: Space::Shared, cache, ty: self.ty, address, a: vec![value.into()] });
        }
    }

    fn store(&self, code: &mut Code, sums: &[Reg], row: Reg, column: Reg, m: usize, n: usize) {
        let [first_row, first_column] = self.first;
        let c = self.offset(code, self.c, 0, (m * n) as isize);
        let row = code.ternary(TernaryOp::Mad, Type::U32, row, PART as u32, first_row);
        let column = code.ternary(TernaryOp::Mad, Type::U32, column, PART as u32, first_column);
        let wide = |code: &mut Code, x: Reg| code.cvt(Type::U64, Type::U32, Rounding::None, x);
        let (wide_row, wide_column) = (wide(code, row), wide(code, column));
        let bytes = |x: usize| Operand::Imm((x * self.size) as u64);
        let start = code.ternary(TernaryOp::Mad, Type::S64, wide_row, bytes(n), c);
        let start = code.ternary(TernaryOp::Mad, Type::S64, wide_column, bytes(1), start);
        let columns: Vec<Reg> = (0..PART)
            .map(|j| {
                let j = code.binary(BinaryOp::Add, Type::U32, column, j as u32);
                code.setp(Cmp::Lt, Type::U32, j, n as u32)
            })
            .collect();
        for i in 0..PART {
            let this = code.binary(BinaryOp::Add, Type::U32, row, i as u32);
            let in_rows = code.setp(Cmp::Lt, Type::U32, this, m as u32);
            let line = code.binary(BinaryOp::Add, Type::S64, start, bytes(i * n));
            for (j, in_columns) in columns.iter().enumerate() {
                let inside = code.binary(BinaryOp::And, Type::Pred, in_rows, *in_columns);
                let address = Address::Reg(line, (j * self.size) as i32);
                let a = vec![sums[i * PART + j].into()];
                let (space, cache) = (Space::Global, Cache::Default);
                code.push_if((inside, true), InstOp::St { space, cache, ty: self.ty, address, a });
            }
        }
        debug_assert_eq!(row.class, RegClass::B32);
    }
}
