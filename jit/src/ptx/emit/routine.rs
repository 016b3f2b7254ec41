//! Routines.
//!
//! In: a routine. Out: its code, for the addresses of its operands, of its results and, of a sort, of its workspace.
//! Results have the bits of the other back ends: a sort is stable and of the same order, and an element of a factor or
//! a solution is the same chain of products and differences.

use super::code::{Code, lane_type, loaded};
use super::{Grid, THREADS, matrices};
use crate::fuse::Routine;
use crate::graph::Triangular;
use crate::lower::lane::{LaneType, storage};
use crate::ptx::inst::{
    Address, BinaryOp, Cache, Cmp, InstOp, Label, Operand, Reg, RegClass, Rounding, Space, TernaryOp, Type, UnaryOp,
};
use crate::types::{DType, Kind};

/// The most blocks of a sort: each has a workspace.
const MAX_BLOCKS: usize = 1024;

/// The most blocks that have something to do.
pub(in crate::ptx) fn blocks(routine: &Routine) -> usize {
    match routine {
        Routine::Sort { outer, inner, .. } => outer.saturating_mul(*inner).min(MAX_BLOCKS),
        Routine::Cholesky { batch, .. } => *batch,
        Routine::TriangularSolve { batch, columns, .. } => batch.saturating_mul(*columns).div_ceil(THREADS as usize),
        Routine::Matrices(routine) => matrices::blocks(routine),
    }
}

/// Bytes of the workspace of so many blocks, whose address is the argument after the results; 0 if there is none.
pub(in crate::ptx) fn workspace(routine: &Routine, blocks: usize) -> usize {
    match routine {
        Routine::Sort { length, .. } => blocks.saturating_mul(8).saturating_mul(*length),
        Routine::Cholesky { .. } | Routine::TriangularSolve { .. } => 0,
        Routine::Matrices(routine) => matrices::workspace(routine, blocks),
    }
}

/// The code of a routine for these blocks.
pub(super) fn emit(code: &mut Code, routine: &Routine, args: &[Reg], grid: &Grid) {
    match routine {
        Routine::Sort { outer, length, inner, keys, dtypes } => {
            code.take_registers();
            Sort::new(code, [*length, *inner, *keys], dtypes, args, grid).emit(code, outer * inner, grid);
        }
        Routine::Cholesky { batch, order, dtype } => cholesky(code, *batch, *order, *dtype, args, grid),
        Routine::TriangularSolve { how, batch, order, columns, dtype } => {
            triangular_solve(code, *how, [*batch, *order, *columns], *dtype, args, grid);
        }
        Routine::Matrices(routine) => matrices::emit(code, routine, args, grid),
    }
}

/// The address of element `i`, a u32, of `size` bytes each.
fn element(code: &mut Code, base: Reg, i: Reg, size: usize) -> Address {
    let size = code.mov(Type::U32, size as u32);
    Address::Reg(code.ternary(TernaryOp::MadWide, Type::U32, i, size, base), 0)
}

fn load(code: &mut Code, ty: Type, address: Address) -> Reg {
    let d = code.reg(loaded(ty));
    code.push(InstOp::Ld { space: Space::Global, cache: Cache::Default, ty, d: vec![d], address });
    d
}

fn store(code: &mut Code, ty: Type, address: Address, a: impl Into<Operand>) {
    code.push(InstOp::St { space: Space::Global, cache: Cache::Default, ty, address, a: vec![a.into()] });
}

/// The type that moves an element.
fn moved(dtype: DType) -> Type {
    match storage::Storage::of(dtype) {
        storage::Storage::Byte | storage::Storage::Low(1) => Type::U8,
        storage::Storage::Low(_) => Type::U16,
        storage::Storage::Lane => match dtype.size() {
            8 => Type::B64,
            _ => Type::B32,
        },
    }
}

// ---- sorting

/// A merge sort of indices: a block sorts a line. In each pass runs of `width` indices are merged in pairs: the
/// place of an index is its place in its run, and the number of those in the other run that precede it, which a
/// binary search finds.
struct Sort<'a> {
    length: usize,
    inner: usize,
    keys: usize,
    dtypes: &'a [DType],
    operands: Vec<Reg>,
    results: Vec<Reg>,
    /// The two arrays of indices of this block.
    indices: [Reg; 2],
    /// The first element of the line.
    start: Reg,
}

impl<'a> Sort<'a> {
    fn new(code: &mut Code, [length, inner, keys]: [usize; 3], dtypes: &'a [DType], args: &[Reg], grid: &Grid) -> Self {
        let count = dtypes.len();
        let (operands, results) = (args[..count].to_vec(), args[count..2 * count].to_vec());
        let workspace = args[2 * count];
        let bytes = Operand::Imm(8 * length as u64);
        let block = code.cvt(Type::U64, Type::U32, Rounding::None, grid.block);
        let first = code.ternary(TernaryOp::Mad, Type::S64, block, bytes, workspace);
        let second = code.binary(BinaryOp::Add, Type::S64, first, Operand::Imm(4 * length as u64));
        let start = code.reg(RegClass::B32);
        Sort { length, inner, keys, dtypes, operands, results, indices: [first, second], start }
    }

    fn emit(&self, code: &mut Code, lines: usize, grid: &Grid) {
        let Grid { block, blocks, thread } = *grid;
        let (length, inner) = (self.length as u32, self.inner as u32);
        code.counted(block, lines as u32, blocks, |code, line| {
            let outer = code.binary(BinaryOp::Div, Type::U32, line, inner);
            let rest = code.binary(BinaryOp::Rem, Type::U32, line, inner);
            let start = code.ternary(TernaryOp::Mad, Type::U32, outer, length * inner, rest);
            code.mov_to(self.start, Type::U32, start);
            let [from, to] = self.indices.map(|indices| code.mov(Type::U64, indices));
            code.counted(thread, length, THREADS, |code, i| {
                let address = element(code, from, i, 4);
                store(code, Type::U32, address, i);
            });
            code.push(InstOp::Bar);
            let width = code.mov(Type::U32, 1);
            let (top, end) = (code.label(), code.label());
            code.place(top);
            let done = code.setp(Cmp::Ge, Type::U32, width, length);
            code.branch_if(done, true, end);
            code.counted(thread, length, THREADS, |code, i| self.merge(code, from, to, width, i));
            code.push(InstOp::Bar);
            let swap = code.mov(Type::U64, from);
            code.mov_to(from, Type::U64, to);
            code.mov_to(to, Type::U64, swap);
            code.binary_to(width, BinaryOp::Add, Type::U32, width, width);
            code.push(InstOp::Bra { target: top });
            code.place(end);
            code.counted(thread, length, THREADS, |code, i| {
                let address = element(code, from, i, 4);
                let index = load(code, Type::U32, address);
                for ((&x, &y), &dtype) in self.operands.iter().zip(&self.results).zip(self.dtypes) {
                    let address = self.at(code, x, index, dtype);
                    let value = load(code, moved(dtype), address);
                    let address = self.at(code, y, i, dtype);
                    store(code, moved(dtype), address, value);
                }
            });
            // The next line overwrites the indices.
            code.push(InstOp::Bar);
        });
    }

    /// The address of element `i` of the line.
    fn at(&self, code: &mut Code, base: Reg, i: Reg, dtype: DType) -> Address {
        let i = code.ternary(TernaryOp::Mad, Type::U32, i, self.inner as u32, self.start);
        element(code, base, i, dtype.size())
    }

    /// Puts index number `i` of `from` to its place in `to`.
    fn merge(&self, code: &mut Code, from: Reg, to: Reg, width: Reg, i: Reg) {
        let both = code.binary(BinaryOp::Add, Type::U32, width, width);
        let mask = code.unary(UnaryOp::Neg, Type::S32, both);
        let base = code.binary(BinaryOp::And, Type::B32, i, mask);
        let offset = code.binary(BinaryOp::Sub, Type::U32, i, base);
        let is_left = code.setp(Cmp::Lt, Type::U32, offset, width);
        let middle = code.binary(BinaryOp::Add, Type::U32, base, width);
        let middle = code.binary(BinaryOp::Min, Type::U32, middle, self.length as u32);
        let end = code.binary(BinaryOp::Add, Type::U32, base, both);
        let end = code.binary(BinaryOp::Min, Type::U32, end, self.length as u32);
        let first = code.selp(Type::B32, middle, base, is_left);
        let last = code.selp(Type::B32, end, middle, is_left);
        let (low, high) = (code.mov(Type::U32, first), code.mov(Type::U32, last));
        let address = element(code, from, i, 4);
        let index = load(code, Type::U32, address);
        let key = self.key(code, index);
        let (top, found): (Label, Label) = (code.label(), code.label());
        code.place(top);
        let done = code.setp(Cmp::Ge, Type::U32, low, high);
        code.branch_if(done, true, found);
        let sum = code.binary(BinaryOp::Add, Type::U32, low, high);
        let mid = code.binary(BinaryOp::Shr, Type::U32, sum, 1);
        let address = element(code, from, mid, 4);
        let other = load(code, Type::U32, address);
        let other = self.key(code, other);
        // In the right run precedes what is less; in the left run, whose indices are smaller, also what is equal.
        let less = self.less(code, &other, &key);
        let greater = self.less(code, &key, &other);
        let not_greater = code.unary(UnaryOp::Not, Type::Pred, greater);
        let less = code.binary(BinaryOp::And, Type::Pred, less, is_left);
        let not_left = code.unary(UnaryOp::Not, Type::Pred, is_left);
        let not_greater = code.binary(BinaryOp::And, Type::Pred, not_greater, not_left);
        let precedes = code.binary(BinaryOp::Or, Type::Pred, less, not_greater);
        let above = code.binary(BinaryOp::Add, Type::U32, mid, 1);
        let new_low = code.selp(Type::B32, above, low, precedes);
        let new_high = code.selp(Type::B32, high, mid, precedes);
        code.mov_to(low, Type::U32, new_low);
        code.mov_to(high, Type::U32, new_high);
        code.push(InstOp::Bra { target: top });
        code.place(found);
        let rank = code.binary(BinaryOp::Sub, Type::U32, low, first);
        let own = code.selp(Type::B32, 0, width, is_left);
        let own = code.binary(BinaryOp::Sub, Type::U32, offset, own);
        let place = code.binary(BinaryOp::Add, Type::U32, own, rank);
        let place = code.binary(BinaryOp::Add, Type::U32, place, base);
        let address = element(code, to, place, 4);
        store(code, Type::U32, address, index);
    }

    /// The keys of element `i` of the line, as unsigned integers of the same order.
    fn key(&self, code: &mut Code, i: Reg) -> Vec<Reg> {
        let key = |k: usize| {
            let dtype = self.dtypes[k];
            let address = self.at(code, self.operands[k], i, dtype);
            let bits = load(code, moved(dtype), address);
            order_bits(code, dtype, bits)
        };
        (0..self.keys).map(key).collect()
    }

    /// Whether `x` precedes `y`.
    fn less(&self, code: &mut Code, x: &[Reg], y: &[Reg]) -> Reg {
        let mut result: Option<Reg> = None;
        for (&x, &y) in x.iter().zip(y).rev() {
            let ty = if x.class == RegClass::B64 { Type::U64 } else { Type::U32 };
            let less = code.setp(Cmp::Lt, ty, x, y);
            result = Some(match result {
                None => less,
                Some(rest) => {
                    let equal = code.setp(Cmp::Eq, ty, x, y);
                    let rest = code.binary(BinaryOp::And, Type::Pred, equal, rest);
                    code.binary(BinaryOp::Or, Type::Pred, less, rest)
                }
            });
        }
        result.expect("a sort has a key")
    }
}

/// Unsigned integers in the order of elements: see `interp::sort::order_bits`.
fn order_bits(code: &mut Code, dtype: DType, bits: Reg) -> Reg {
    let (b, u) = if bits.class == RegClass::B64 { (Type::B64, Type::U64) } else { (Type::B32, Type::U32) };
    let sign = 1u64 << (dtype.width() - 1);
    let imm = |x: u64| Operand::Imm(x & dtype.ones());
    match dtype.kind() {
        Kind::Bool | Kind::Int { signed: false } => bits,
        Kind::Int { signed: true } => code.binary(BinaryOp::Xor, b, bits, imm(sign)),
        Kind::Float(_) => {
            let magnitude = code.binary(BinaryOp::And, b, bits, imm(!sign));
            let negative = code.setp(Cmp::Ge, u, bits, imm(sign));
            let mut flipped = code.unary(UnaryOp::Not, b, bits);
            if dtype.width() < 32 {
                // The upper bits of the register are not the element's.
                flipped = code.binary(BinaryOp::And, b, flipped, imm(u64::MAX));
            }
            let positive = code.binary(BinaryOp::Or, b, bits, imm(sign));
            let key = code.selp(b, flipped, positive, negative);
            let is_zero = code.setp(Cmp::Eq, u, magnitude, imm(0));
            let key = code.selp(b, imm(sign), key, is_zero);
            let is_nan = code.setp(Cmp::Gt, u, magnitude, imm(dtype.bits(f64::INFINITY)));
            code.selp(b, imm(dtype.ones()), key, is_nan)
        }
    }
}

// ---- matrices

/// Factorises a matrix per block, in place in the result: column by column, each of which is then subtracted from
/// those behind it.
fn cholesky(code: &mut Code, batch: usize, n: usize, dtype: DType, args: &[Reg], grid: &Grid) {
    let (ty, size) = (lane_type(LaneType::of(dtype)), dtype.size());
    let Grid { block, blocks, thread } = *grid;
    let [a, l] = [args[0], args[1]];
    let elements = (n * n) as u32;
    code.counted(block, batch as u32, blocks, |code, matrix| {
        let wide = code.cvt(Type::U64, Type::U32, Rounding::None, matrix);
        let bytes = Operand::Imm((n * n * size) as u64);
        let [a, l] = [a, l].map(|base| code.ternary(TernaryOp::Mad, Type::S64, wide, bytes, base));
        // The lower triangle; zeros above.
        code.counted(thread, elements, THREADS, |code, i| {
            let row = code.binary(BinaryOp::Div, Type::U32, i, n as u32);
            let column = code.binary(BinaryOp::Rem, Type::U32, i, n as u32);
            let address = element(code, a, i, size);
            let value = load(code, ty, address);
            let above = code.setp(Cmp::Gt, Type::U32, column, row);
            let value = code.selp(ty, Operand::Imm(0), value, above);
            let address = element(code, l, i, size);
            store(code, ty, address, value);
        });
        code.push(InstOp::Bar);
        let bad = code.mov(Type::U32, 0);
        code.counted(0, n as u32, 1, |code, k| {
            let diagonal = code.ternary(TernaryOp::Mad, Type::U32, k, n as u32, k);
            let address = element(code, l, diagonal, size);
            let pivot = load(code, ty, address);
            let positive = code.setp(Cmp::Gt, ty, pivot, Operand::Imm(0));
            let now_bad = code.selp(Type::B32, bad, 1, positive);
            code.mov_to(bad, Type::U32, now_bad);
            let root = code.unary(UnaryOp::Sqrt, ty, pivot);
            code.push(InstOp::Bar);
            // Rows from k on of column k.
            let first = code.binary(BinaryOp::Add, Type::U32, k, thread);
            code.counted(first, n as u32, THREADS, |code, row| {
                let i = code.ternary(TernaryOp::Mad, Type::U32, row, n as u32, k);
                let address = element(code, l, i, size);
                let x = load(code, ty, address);
                let x = code.binary(BinaryOp::Div, ty, x, root);
                store(code, ty, address, x);
            });
            code.push(InstOp::Bar);
            // The triangle behind: rows and columns above k.
            let next = code.binary(BinaryOp::Add, Type::U32, k, 1);
            let rest = code.binary(BinaryOp::Sub, Type::U32, n as u32, next);
            let count = code.binary(BinaryOp::Mul, Type::U32, rest, rest);
            code.counted(thread, count, THREADS, |code, e| {
                let row = code.binary(BinaryOp::Div, Type::U32, e, rest);
                let column = code.binary(BinaryOp::Rem, Type::U32, e, rest);
                let outside = code.setp(Cmp::Gt, Type::U32, column, row);
                let skip = code.label();
                code.branch_if(outside, true, skip);
                let [row, column] = [row, column].map(|x| code.binary(BinaryOp::Add, Type::U32, x, next));
                let [x, y] = [row, column].map(|line| {
                    let i = code.ternary(TernaryOp::Mad, Type::U32, line, n as u32, k);
                    let address = element(code, l, i, size);
                    load(code, ty, address)
                });
                let product = code.binary(BinaryOp::Mul, ty, y, x);
                let i = code.ternary(TernaryOp::Mad, Type::U32, row, n as u32, column);
                let address = element(code, l, i, size);
                let old = load(code, ty, address);
                let new = code.binary(BinaryOp::Sub, ty, old, product);
                store(code, ty, address, new);
                code.place(skip);
            });
            code.push(InstOp::Bar);
        });
        let is_bad = code.setp(Cmp::Ne, Type::U32, bad, 0);
        let done = code.label();
        code.branch_if(is_bad, false, done);
        code.counted(thread, elements, THREADS, |code, i| {
            let row = code.binary(BinaryOp::Div, Type::U32, i, n as u32);
            let column = code.binary(BinaryOp::Rem, Type::U32, i, n as u32);
            let above = code.setp(Cmp::Gt, Type::U32, column, row);
            let nan = code.mov(ty, Operand::Imm(dtype.bits(f64::NAN)));
            let value = code.selp(ty, Operand::Imm(0), nan, above);
            let address = element(code, l, i, size);
            store(code, ty, address, value);
        });
        code.place(done);
    });
}

/// A thread solves for a column of unknowns.
fn triangular_solve(
    code: &mut Code,
    how: Triangular,
    [batch, n, columns]: [usize; 3],
    dtype: DType,
    args: &[Reg],
    grid: &Grid,
) {
    let (ty, size) = (lane_type(LaneType::of(dtype)), dtype.size());
    let [a, b, x] = [args[0], args[1], args[2]];
    let threads = grid.threads(code);
    code.counted(threads.index, (batch * columns) as u32, threads.count, |code, task| {
        let matrix = code.binary(BinaryOp::Div, Type::U32, task, columns as u32);
        let column = code.binary(BinaryOp::Rem, Type::U32, task, columns as u32);
        let wide = code.cvt(Type::U64, Type::U32, Rounding::None, matrix);
        let base = |code: &mut Code, base: Reg, elements: usize| {
            code.ternary(TernaryOp::Mad, Type::S64, wide, Operand::Imm((elements * size) as u64), base)
        };
        let (a, b, x) = (base(code, a, n * n), base(code, b, n * columns), base(code, x, n * columns));
        // Equation i has the unknowns 0 to i: where the last equation has a single one, they are numbered from the
        // end.
        let numbered = |code: &mut Code, i: Reg| match how.is_forward() {
            true => i,
            false => code.binary(BinaryOp::Sub, Type::U32, n as u32 - 1, i),
        };
        let of_a = |code: &mut Code, i: Reg, k: Reg| {
            let (i, k) = if how.is_transposed() { (k, i) } else { (i, k) };
            let i = code.ternary(TernaryOp::Mad, Type::U32, i, n as u32, k);
            let address = element(code, a, i, size);
            load(code, ty, address)
        };
        let unknown = |code: &mut Code, base: Reg, i: Reg| {
            let i = match how.left_side {
                true => code.ternary(TernaryOp::Mad, Type::U32, i, columns as u32, column),
                false => code.ternary(TernaryOp::Mad, Type::U32, column, n as u32, i),
            };
            element(code, base, i, size)
        };
        code.counted(0, n as u32, 1, |code, i| {
            let row = numbered(code, i);
            let address = unknown(code, b, row);
            let sum = load(code, ty, address);
            code.counted(0, i, 1, |code, k| {
                let k = numbered(code, k);
                let by = of_a(code, row, k);
                let address = unknown(code, x, k);
                let known = load(code, ty, address);
                let product = code.binary(BinaryOp::Mul, ty, by, known);
                code.binary_to(sum, BinaryOp::Sub, ty, sum, product);
            });
            let mut result = sum;
            if !how.unit_diagonal {
                let pivot = of_a(code, row, row);
                result = code.binary(BinaryOp::Div, ty, sum, pivot);
            }
            let address = unknown(code, x, row);
            store(code, ty, address, result);
        });
    });
}
