//! The end of a product: what becomes of its elements.
//!
//! In: a product, and the loop kernel that takes its elements, if one does. Out: code for adjacent elements in
//! registers: they are stored, or go through the kernel of one element, or both. Every kernel of products ends with it.

use smallvec::SmallVec;

use super::code::{Code, lane_type};
use super::loops::{Given, RowKernel};
use super::tiles::matrices;
use crate::fuse::{BufferId, GemmKernel, Level, Levels, LoopKernel};
use crate::lower::lane::LaneType;
use crate::ptx::inst::{Address, BinaryOp, Cache, Cmp, InstOp, Operand, Reg, Rounding, Space, TernaryOp, Type};
use crate::types::product;

/// What becomes of the elements of a product.
#[derive(Clone)]
pub(in crate::ptx) struct Finish {
    ty: Type,
    size: usize,
    /// Rows and columns of a matrix of the product.
    rows: usize,
    columns: usize,
    is_stored: bool,
    is_aligned: bool,
    follower: Option<Emitted>,
    /// Where the result is, unless it fills its buffer.
    apart: Option<Apart>,
}

/// Where the result of a product is.
#[derive(Clone)]
struct Apart {
    offset: isize,
    /// Strides of batch, rows, columns.
    strides: [isize; 3],
    levels: Levels,
}

/// A kernel that takes the elements of a product.
pub(in crate::ptx) struct Follower {
    /// The kernel, with its loops in the order of the elements.
    pub(in crate::ptx) kernel: LoopKernel,
    /// The loop that was its last one, if it has more than one iteration.
    pub(in crate::ptx) along: Option<usize>,
}

/// The same, as it is emitted.
#[derive(Clone)]
struct Emitted {
    row: RowKernel,
    /// The argument that stands for the product's result, and the number of arguments beside it.
    given: usize,
    others: usize,
    /// The most adjacent elements that it takes together.
    together: usize,
}

impl Finish {
    /// What becomes of the elements of `g`, and the buffers that it accesses. `follower` steps through them in their
    /// order. `is_aligned` says that every buffer begins at 16 bytes.
    pub(in crate::ptx) fn new(
        g: &GemmKernel,
        is_stored: bool,
        follower: Option<&Follower>,
        is_aligned: bool,
    ) -> (Self, Vec<BufferId>) {
        let mut buffers = if is_stored { vec![g.c.0] } else { vec![] };
        let follower = follower.map(|&Follower { ref kernel, along }| {
            let (kernel, mut others) = kernel.canonical(false);
            let given = others.iter().position(|&b| b == g.c.0).expect("it reads the result");
            others.remove(given);
            buffers.extend(&others);
            let row = RowKernel::along(kernel, along, is_aligned);
            let together = if is_aligned { row.most_together() } else { 1 };
            Emitted { row, given, others: others.len(), together }
        });
        let (ty, size) = (lane_type(LaneType::of(g.dtype)), g.dtype.size());
        let (_, offset, strides) = g.c;
        let apart = (!g.fills(product(g.extents[..3].iter().copied()))).then(|| Apart {
            offset,
            strides,
            levels: g.levels.clone(),
        });
        let [_, rows, columns, _] = g.extents;
        (Finish { ty, size, rows, columns, is_stored, is_aligned, follower, apart }, buffers)
    }

    /// Whether every buffer of the product begins at 16 bytes.
    pub(super) fn is_aligned(&self) -> bool {
        self.is_aligned
    }

    /// The most adjacent elements, a power of two, that are stored together wherever they are.
    pub(super) fn most_together(&self) -> usize {
        let Some(Apart { offset, strides, levels }) = &self.apart else { return usize::MAX };
        let steps = levels.0.iter().map(|level| level.c).chain([*offset, strides[0], strides[1]]);
        let aligned = |width: usize| steps.clone().all(|step| step % width as isize == 0);
        [4, 2].into_iter().find(|&width| aligned(width)).unwrap_or(1)
    }

    /// The code for the part of a matrix that a thread has: `lines` are its rows, `columns` where the groups of
    /// `together` adjacent elements of each begin, all counted from the first row and column of `place`.
    pub(super) fn emit_part(
        &self,
        code: &mut Code,
        args: &[Reg],
        (matrix, [row, column]): (Reg, [Reg; 2]),
        together: usize,
        columns: impl Iterator<Item = u32>,
        lines: impl Iterator<Item = (u32, impl AsRef<[Reg]>)>,
    ) {
        let [rows, all] = [self.rows, self.columns].map(|extent| extent as u32);
        let mut args: SmallVec<[Reg; 8]> = SmallVec::from_slice(args);
        if let Some(Apart { offset, strides, levels }) = &self.apart {
            let base = code.binary(BinaryOp::Add, Type::S64, args[0], self.bytes(*offset));
            let [at] = matrices(code, levels, matrix, self.size, [(base, strides[0], |level: &Level| level.c)]);
            args[0] = at;
        }
        let args = &args[..];
        let columns: Vec<[Reg; 2]> = columns
            .map(|nth| {
                let at = code.binary(BinaryOp::Add, Type::U32, column, nth);
                [at, code.setp(Cmp::Lt, Type::U32, at, all)]
            })
            .collect();
        for (nth, values) in lines {
            let at = code.binary(BinaryOp::Add, Type::U32, row, nth);
            let in_rows = code.setp(Cmp::Lt, Type::U32, at, rows);
            let at = match self.apart {
                Some(_) => at,
                None => code.ternary(TernaryOp::Mad, Type::U32, matrix, rows, at),
            };
            for (values, &[column, in_columns]) in values.as_ref().chunks(together).zip(&columns) {
                let inside = code.binary(BinaryOp::And, Type::Pred, in_rows, in_columns);
                self.emit(code, args, [at, column], values, inside);
            }
        }
    }

    /// The code for `values`, 1, 2 or 4 elements of at most 16 bytes, in adjacent columns of a row, where `inside`
    /// holds. `place` is the row among those of all matrices of the batch, and the first column, both u32. The column
    /// and the number of columns are multiples of the number of values. `args` are the addresses of the buffers.
    fn emit(&self, code: &mut Code, args: &[Reg], place: [Reg; 2], values: &[Reg], inside: Reg) {
        let Some(follower) = &self.follower else { return self.store(code, args[0], place, values, inside) };
        let skip = code.label();
        code.branch_if(inside, false, skip);
        let mut args: SmallVec<[Reg; 8]> = SmallVec::from_slice(args);
        let result = args[0];
        if self.is_stored {
            self.store(code, result, place, values, inside);
            args.remove(0);
        }
        debug_assert_eq!(args.len(), follower.others);
        // An address that stands for the result; nothing is read there.
        args.insert(follower.given, result);
        for (n, values) in values.chunks(follower.together).enumerate() {
            let column = match n {
                0 => place[1],
                n => code.binary(BinaryOp::Add, Type::U32, place[1], (n * follower.together) as u32),
            };
            let given = Given { arg: follower.given, values };
            let mut coordinate =
                |code: &mut Code, stride, extent| self.coordinate(code, [place[0], column], stride, extent);
            follower.row.emit_given(code, &args, given, &mut coordinate);
        }
        code.place(skip);
    }

    fn store(&self, code: &mut Code, c: Reg, place: [Reg; 2], values: &[Reg], inside: Reg) {
        let [row, column] = place.map(|x| code.cvt(Type::U64, Type::U32, Rounding::None, x));
        let line = self.apart.as_ref().map_or(self.columns as isize, |apart| apart.strides[1]);
        let [line, element] = [line, 1].map(|elements| self.bytes(elements));
        let at = code.ternary(TernaryOp::Mad, Type::S64, row, line, c);
        let at = code.ternary(TernaryOp::Mad, Type::S64, column, element, at);
        let (space, cache, address) = (Space::Global, Cache::Default, Address::Reg(at, 0));
        let a = values.iter().map(|&value| value.into()).collect();
        code.push_if((inside, true), InstOp::St { space, cache, ty: self.ty, address, a });
    }

    fn bytes(&self, elements: isize) -> Operand {
        Operand::Imm((elements * self.size as isize) as i64 as u64)
    }

    /// The induction variable of a loop whose iterations are so many elements each.
    fn coordinate(&self, code: &mut Code, [row, column]: [Reg; 2], stride: usize, extent: usize) -> Reg {
        let all = stride * extent;
        let (from, stride, wraps) = if stride.is_multiple_of(self.columns) {
            (row, stride / self.columns, true)
        } else if self.columns.is_multiple_of(all) {
            (column, stride, all != self.columns)
        } else {
            (code.ternary(TernaryOp::Mad, Type::U32, row, self.columns as u32, column), stride, true)
        };
        let from = if stride == 1 { from } else { code.binary(BinaryOp::Div, Type::U32, from, stride as u32) };
        if wraps { code.binary(BinaryOp::Rem, Type::U32, from, extent as u32) } else { from }
    }
}
