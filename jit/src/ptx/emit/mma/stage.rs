//! Slices of the operands of a product, copied to shared memory.
//!
//! In: where an operand lies. Out: the code that copies what this thread has of a slice, in groups of four elements
//! that are adjacent in shared memory. What is outside of the matrix is zero there.

use super::{Tile, bytes};
use crate::ptx::emit::code::{Code, class};
use crate::ptx::inst::{Address, BinaryOp, Cache, Cmp, InstOp, Operand, Reg, Rounding, Space, TernaryOp, Type};
use crate::ptx::place::THREADS;

/// Elements of a group.
const GROUP: usize = 4;

/// What this thread copies of each slice of an operand.
pub(super) struct Copies {
    /// What elements are rounded to.
    ty: Type,
    along_terms: bool,
    is_wide: bool,
    /// How many groups.
    groups: usize,
    /// The address of the first group: moves by a slice after each.
    from: Reg,
    /// Where it goes in the first stage of shared memory.
    to: Reg,
    /// Bytes from group to group there, and here.
    apart: (i64, usize),
    /// Bytes from element to element of a group.
    element: i64,
    /// Bytes from slice to slice.
    slice: i64,
    /// Whether this thread has a group; `None` if all have.
    takes: Option<Reg>,
    /// Whether the lines of the groups, or of their elements, are in the matrix; `None` where all are.
    inside: Vec<Option<Reg>>,
    /// The terms of the elements of a group in a slice, or of the groups.
    terms: Vec<Reg>,
}

impl Copies {
    /// Of operand `i`, whose matrix is at an address.
    pub(super) fn new(code: &mut Code, tile: &Tile<'_>, i: usize, base: Reg) -> Copies {
        let (mma, g) = (tile.mma, tile.g);
        let side = mma.sides[i];
        let [line_stride, term_stride] = if i == 0 { [g.a.2[1], g.a.2[2]] } else { [g.b.2[2], g.b.2[1]] };
        let extent = g.extents[1 + i];
        let (lines, depth) = (mma.tile[i], mma.depth());
        // Threads have adjacent groups of a row of shared memory, then those of the next rows.
        let (in_row, rows) = if side.along_terms { (depth / GROUP, lines) } else { (lines / GROUP, depth) };
        let total = in_row * rows;
        let threads = THREADS as usize;
        let (groups, rows_apart) = (total.div_ceil(threads), threads / in_row);
        let piece = code.binary(BinaryOp::And, Type::B32, tile.thread, in_row as u32 - 1);
        let place = code.binary(BinaryOp::Mul, Type::U32, piece, GROUP as u32);
        let row = code.binary(BinaryOp::Shr, Type::U32, tile.thread, in_row.ilog2());
        let takes = (total < threads).then(|| code.setp(Cmp::Lt, Type::U32, tile.thread, total as u32));

        let swizzle = mma.swizzle(code, i, row);
        let to = code.binary(BinaryOp::Mul, Type::U32, place, mma.size() as u32);
        let to = code.binary(BinaryOp::Xor, Type::B32, to, swizzle);
        let to = code.ternary(TernaryOp::Mad, Type::U32, row, mma.row_bytes(i) as u32, to);
        let to = code.binary(BinaryOp::Add, Type::U32, to, tile.shared);
        let to = code.binary(BinaryOp::Add, Type::U32, to, mma.part(i) as u32);

        let (line, term) = if side.along_terms { (row, place) } else { (place, row) };
        let line = code.binary(BinaryOp::Add, Type::U32, line, tile.first[i]);
        let mut from = base;
        for (index, stride) in [(line, line_stride), (term, term_stride)] {
            let index = code.cvt(Type::U64, Type::U32, Rounding::None, index);
            from = code.ternary(TernaryOp::Mad, Type::S64, index, bytes(stride), from);
        }
        let elements = if side.is_wide { 1 } else { GROUP };
        let (rows_apart_of_lines, line_count, term_count) =
            if side.along_terms { (rows_apart, groups, elements) } else { (1, elements, groups) };
        let rows_apart_of_terms = if side.along_terms { 1 } else { rows_apart };
        let is_inside = |code: &mut Code, n: usize| {
            let line = code.binary(BinaryOp::Add, Type::U32, line, (n * rows_apart_of_lines) as u32);
            let inside = code.setp(Cmp::Lt, Type::U32, line, extent as u32);
            takes.map_or(inside, |takes| code.binary(BinaryOp::And, Type::Pred, takes, inside))
        };
        let all_inside = extent % lines == 0;
        let inside = (0..line_count).map(|n| if all_inside { takes } else { Some(is_inside(code, n)) }).collect();
        let is_ragged = g.extents[3] % depth != 0;
        let term_of = |n| code.binary(BinaryOp::Add, Type::U32, term, (n * rows_apart_of_terms) as u32);
        let terms = if is_ragged { (0..term_count).map(term_of).collect() } else { vec![] };
        let [row_stride, element_stride] =
            if side.along_terms { [line_stride, term_stride] } else { [term_stride, line_stride] };
        Copies {
            ty: mma.ty,
            along_terms: side.along_terms,
            is_wide: side.is_wide,
            groups,
            from,
            to,
            apart: (rows_apart as i64 * row_stride as i64 * 4, rows_apart * mma.row_bytes(i)),
            element: element_stride as i64 * 4,
            slice: depth as i64 * term_stride as i64 * 4,
            takes,
            inside,
            terms,
        }
    }

    /// Registers for the elements of all groups.
    pub(super) fn registers(&self, code: &mut Code) -> Vec<[Reg; GROUP]> {
        (0..self.groups).map(|_| [(); GROUP].map(|()| code.reg(class(Type::F32)))).collect()
    }

    /// Begins to copy a slice to a stage, of which so many terms are left.
    pub(super) fn begin(&self, code: &mut Code, stage: Reg, left: Option<Reg>) {
        let to = code.binary(BinaryOp::Add, Type::U32, self.to, stage);
        let guards = self.guards(code, left);
        for n in 0..self.groups {
            let (d, a) = (self.target(to, n), self.source(code, n, 0));
            let inside = self.guard(code, &guards, n, 0);
            let from = inside.map(|inside| code.selp(Type::U32, 16, 0, inside).into());
            self.push(code, InstOp::CpAsync { bytes: 16, d, a, from });
        }
    }

    /// Loads a slice, of which so many terms are left.
    pub(super) fn load(&self, code: &mut Code, values: &[[Reg; GROUP]], left: Option<Reg>) {
        let guards = self.guards(code, left);
        for (n, values) in values.iter().enumerate() {
            let together = if self.is_wide { GROUP } else { 1 };
            for (e, values) in values.chunks(together).enumerate() {
                let inside = self.guard(code, &guards, n, e);
                let address = self.source(code, n, e);
                let (space, cache, d) = (Space::Global, Cache::Default, values.to_vec());
                let load = InstOp::Ld { space, cache, ty: Type::F32, d, address };
                match inside {
                    None => code.push(load),
                    Some(inside) => {
                        values.iter().for_each(|&value| code.mov_to(value, Type::F32, Operand::Imm(0)));
                        code.push_if((inside, true), load);
                    }
                }
            }
        }
    }

    /// Rounds a slice and stores it to a stage.
    pub(super) fn store(&self, code: &mut Code, values: &[[Reg; GROUP]], stage: Reg) {
        let to = code.binary(BinaryOp::Add, Type::U32, self.to, stage);
        for (n, values) in values.iter().enumerate() {
            let a: Vec<Operand> = match self.ty {
                Type::Tf32 => values.iter().map(|&value| tf32(code, value).into()).collect(),
                ty => values.as_chunks::<2>().0.iter().map(|&[low, high]| pair(code, ty, low, high).into()).collect(),
            };
            let address = self.target(to, n);
            let (space, cache) = (Space::Shared, Cache::Default);
            self.push(code, InstOp::St { space, cache, ty: Type::B32, address, a });
        }
    }

    /// Moves on to the next slice.
    pub(super) fn advance(&self, code: &mut Code) {
        code.binary_to(self.from, BinaryOp::Add, Type::S64, self.from, Operand::Imm(self.slice as u64));
    }

    /// An instruction of the threads that have a group.
    fn push(&self, code: &mut Code, op: InstOp) {
        match self.takes {
            None => code.push(op),
            Some(takes) => code.push_if((takes, true), op),
        }
    }

    /// Where group `n` goes.
    fn target(&self, to: Reg, n: usize) -> Address {
        Address::Reg(to, (n * self.apart.1) as i32)
    }

    /// Where element `e` of group `n` comes from.
    fn source(&self, code: &mut Code, n: usize, e: usize) -> Address {
        let offset = n as i64 * self.apart.0 + e as i64 * self.element;
        match i32::try_from(offset) {
            Ok(offset) => Address::Reg(self.from, offset),
            Err(_) => {
                let far = code.binary(BinaryOp::Add, Type::S64, self.from, Operand::Imm(offset as u64));
                Address::Reg(far, 0)
            }
        }
    }

    /// Whether the terms of elements, or of groups, are among those that are left.
    fn guards(&self, code: &mut Code, left: Option<Reg>) -> Vec<Reg> {
        let Some(left) = left else { return vec![] };
        self.terms.iter().map(|&term| code.setp(Cmp::Lt, Type::U32, term, left)).collect()
    }

    /// Whether element `e` of group `n` is in the matrix; `None` if it is in any case.
    fn guard(&self, code: &mut Code, guards: &[Reg], n: usize, e: usize) -> Option<Reg> {
        let (line, term) = if self.along_terms { (n, e) } else { (e, n) };
        match (self.inside[line], guards.get(term)) {
            (Some(line), Some(&term)) => Some(code.binary(BinaryOp::And, Type::Pred, line, term)),
            (line, term) => line.or(term.copied()),
        }
    }
}

/// The tf32 next to an f32.
pub(super) fn tf32(code: &mut Code, a: Reg) -> Reg {
    let d = code.reg(class(Type::Tf32));
    code.push(InstOp::Cvt { to: Type::Tf32, from: Type::F32, rounding: Rounding::Rna, flush: false, d, a });
    d
}

/// Two f32 as the halves of a register.
fn pair(code: &mut Code, ty: Type, low: Reg, high: Reg) -> Reg {
    let to = if ty == Type::F16 { Type::F16x2 } else { Type::Bf16x2 };
    let d = code.reg(class(to));
    code.push(InstOp::CvtPair { to, d, a: high, b: low });
    d
}
