//! Fragments: what a warp reads of a slice for its instructions, in the layouts of the manual.
//!
//! In: how a slice lies in shared memory. Out: the code that reads it. `ldmatrix` reads what has 16 bits, and words
//! where the terms of a line are adjacent; words of which the lines of a term are adjacent are loaded one by one.

use super::stage::tf32;
use super::{SHAPE, SLICE, STEPS, Tile, WARPS};
use crate::ptx::emit::code::{Code, class};
use crate::ptx::inst::{Address, BinaryOp, Cache, InstOp, Operand, Reg, Space, TernaryOp, Type};

/// The reads of an operand.
pub(super) struct Fragments {
    how: How,
    /// Whether the tf32 of the slice are f32 yet.
    rounds: bool,
    /// How many fragments.
    count: usize,
    /// Registers of a fragment: 4 of A, 2 of B.
    registers: usize,
    /// Bytes of a row.
    row: usize,
    /// Addresses in the first stage.
    places: Vec<Reg>,
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    /// `ldmatrix`, a place for each step.
    Matrices,
    /// `ldmatrix.trans`, a place for 16 lines.
    Transposed,
    /// Loads, a place for 8 lines.
    Words,
}

impl Fragments {
    /// Of operand `i`.
    pub(super) fn new(code: &mut Code, tile: &Tile<'_>, i: usize) -> Fragments {
        let mma = tile.mma;
        let how = match (mma.sides[i].along_terms, mma.ty) {
            (true, _) => How::Matrices,
            (false, Type::Tf32) => How::Words,
            (false, _) => How::Transposed,
        };
        let lines = mma.tile[i] / WARPS[i];
        let row = mma.row_bytes(i);
        let start = code.binary(BinaryOp::Add, Type::U32, tile.shared, mma.part(i) as u32);
        let mut places = Vec::new();
        // The place in a row, of this lane's row, in the order of banks.
        let mut add = |code: &mut Code, in_row: Reg, at: Reg, swizzle: Reg| {
            let swizzled = code.binary(BinaryOp::Xor, Type::B32, in_row, swizzle);
            let place = code.ternary(TernaryOp::Mad, Type::U32, at, row as u32, swizzled);
            places.push(code.binary(BinaryOp::Add, Type::U32, place, start));
        };
        let bits = |code: &mut Code, shift: u32, mask: u32| {
            let shifted = code.binary(BinaryOp::Shr, Type::U32, tile.lane, shift);
            code.binary(BinaryOp::And, Type::B32, shifted, mask)
        };
        // A lane names a row of one of four matrices: of two times 8 lines and two times 8 terms. Of A the second one
        // has the next lines, of B the next terms.
        let second = bits(code, 3, 1);
        let third = bits(code, 4, 1);
        let in_eight = bits(code, 0, 7);
        let (eight_lines, eight_terms) = if i == 0 { (second, third) } else { (third, second) };
        match how {
            How::Matrices => {
                let at = code.ternary(TernaryOp::Mad, Type::U32, eight_lines, 8, in_eight);
                let at = code.binary(BinaryOp::Add, Type::U32, at, tile.part[i]);
                let swizzle = mma.swizzle(code, i, at);
                for step in 0..STEPS {
                    let first = (step * SLICE / STEPS) as u32;
                    let in_row = code.ternary(TernaryOp::Mad, Type::U32, eight_terms, 16, first);
                    add(code, in_row, at, swizzle);
                }
            }
            How::Transposed => {
                let at = code.ternary(TernaryOp::Mad, Type::U32, eight_terms, 8, in_eight);
                let swizzle = mma.swizzle(code, i, at);
                let first = code.ternary(TernaryOp::Mad, Type::U32, eight_lines, 8, tile.part[i]);
                let first = code.binary(BinaryOp::Mul, Type::U32, first, mma.size() as u32);
                for n in 0..lines / 16 {
                    let in_row = code.binary(BinaryOp::Add, Type::U32, first, (n * 16 * mma.size()) as u32);
                    add(code, in_row, at, swizzle);
                }
            }
            How::Words => {
                let at = bits(code, 0, 3);
                let swizzle = mma.swizzle(code, i, at);
                let line = bits(code, 2, 7);
                let first = code.binary(BinaryOp::Add, Type::U32, line, tile.part[i]);
                let first = code.binary(BinaryOp::Mul, Type::U32, first, mma.size() as u32);
                for n in 0..lines / 8 {
                    let in_row = code.binary(BinaryOp::Add, Type::U32, first, (n * 8 * mma.size()) as u32);
                    add(code, in_row, at, swizzle);
                }
            }
        }
        let (rounds, count, registers) = (mma.is_async(), lines / SHAPE[i], if i == 0 { 4 } else { 2 });
        Fragments { how, rounds, count, registers, row, places }
    }

    /// The addresses in a stage.
    pub(super) fn in_stage(&self, code: &mut Code, stage: Reg) -> Vec<Reg> {
        self.places.iter().map(|&place| code.binary(BinaryOp::Add, Type::U32, place, stage)).collect()
    }

    /// The registers of all fragments of a step, from these addresses.
    pub(super) fn read(&self, code: &mut Code, at: &[Reg], step: usize) -> Vec<Reg> {
        let matrices = self.count * self.registers / 4;
        match self.how {
            How::Matrices => {
                let address = |n: usize| Address::Reg(at[step], (n * 16 * self.row) as i32);
                (0..matrices).flat_map(|n| self.matrices(code, false, address(n))).collect()
            }
            How::Transposed => {
                let address = |n: usize| Address::Reg(at[n], (step * 16 * self.row) as i32);
                (0..matrices).flat_map(|n| self.matrices(code, true, address(n))).collect()
            }
            How::Words => {
                // Of A, 8 terms of two times 8 lines; of B of 8 lines.
                let lines = self.registers / 2;
                let mut word = |n: usize| {
                    let (fragment, r) = (n / self.registers, n % self.registers);
                    let terms = (step * 8 + r / lines * 4) * self.row;
                    self.word(code, Address::Reg(at[fragment * lines + r % lines], terms as i32))
                };
                (0..self.count * self.registers).map(&mut word).collect()
            }
        }
    }

    fn matrices(&self, code: &mut Code, transposed: bool, address: Address) -> [Reg; 4] {
        let d = [(); 4].map(|()| code.reg(class(Type::B32)));
        code.push(InstOp::LdMatrix { transposed, d: d.to_vec(), address });
        if !self.rounds {
            return d;
        }
        d.map(|word| {
            let value = code.reg(class(Type::F32));
            code.push(InstOp::Mov { ty: Type::B32, d: value, a: Operand::Reg(word) });
            tf32(code, value)
        })
    }

    fn word(&self, code: &mut Code, address: Address) -> Reg {
        let ty = if self.rounds { Type::F32 } else { Type::B32 };
        let d = code.reg(class(ty));
        code.push(InstOp::Ld { space: Space::Shared, cache: Cache::Default, ty, d: vec![d], address });
        if self.rounds { tf32(code, d) } else { d }
    }
}
