//! The tiles of a product.
//!
//! In: a product, rows and columns of a tile. Out: how many tiles there are, and the code of each for the blocks that
//! share them.

use super::Grid;
use super::code::Code;
use crate::fuse::{GemmKernel, Level, Levels};
use crate::ptx::inst::{BinaryOp, Operand, Reg, Rounding, TernaryOp, Type};

/// A tile.
pub(super) struct Tile {
    /// The first row and the first column, u32.
    pub(super) first: [Reg; 2],
    /// The matrix of the batch, a u32.
    pub(super) matrix: Reg,
}

/// The number of tiles: the most blocks that have something to do.
pub(super) fn tiles(tile: [usize; 2], g: &GemmKernel) -> usize {
    in_matrix(tile, g).into_iter().fold(g.extents[0], usize::saturating_mul)
}

/// The number of tiles down and across a matrix.
fn in_matrix(tile: [usize; 2], g: &GemmKernel) -> [usize; 2] {
    let [_, m, n, _] = g.extents;
    [m.div_ceil(tile[0]), n.div_ceil(tile[1])]
}

/// The code that `body` gives for each tile of this block.
pub(super) fn each_tile(
    code: &mut Code,
    grid: &Grid,
    tile: [usize; 2],
    g: &GemmKernel,
    body: impl FnOnce(&mut Code, Tile),
) {
    code.counted(grid.block, tiles(tile, g) as u32, grid.blocks, |code, number| {
        let [down, across] = in_matrix(tile, g).map(|count| count as u32);
        let column = code.binary(BinaryOp::Rem, Type::U32, number, across);
        let line = code.binary(BinaryOp::Div, Type::U32, number, across);
        let row = code.binary(BinaryOp::Rem, Type::U32, line, down);
        let matrix = code.binary(BinaryOp::Div, Type::U32, line, down);
        let [rows, columns] = tile.map(|extent| extent as u32);
        let first =
            [code.binary(BinaryOp::Mul, Type::U32, row, rows), code.binary(BinaryOp::Mul, Type::U32, column, columns)];
        body(code, Tile { first, matrix });
    });
}

/// The addresses of matrix number `matrix` of operands, each with its base, the stride of the batch, and the step of a
/// level, both in elements of `size` bytes.
pub(super) fn matrices<const N: usize>(
    code: &mut Code,
    levels: &Levels,
    matrix: Reg,
    size: usize,
    operands: [(Reg, isize, fn(&Level) -> isize); N],
) -> [Reg; N] {
    let bytes = |elements: isize| Operand::Imm((elements * size as isize) as i64 as u64);
    if levels.0.is_empty() {
        let matrix = code.cvt(Type::U64, Type::U32, Rounding::None, matrix);
        return operands.map(|(base, stride, _)| code.ternary(TernaryOp::Mad, Type::S64, matrix, bytes(stride), base));
    }
    let mut addresses = operands.map(|(base, ..)| base);
    let mut rest = matrix;
    for (n, level) in levels.0.iter().enumerate().rev() {
        let mut at = rest;
        if n > 0 {
            at = code.binary(BinaryOp::Rem, Type::U32, rest, level.extent as u32);
            rest = code.binary(BinaryOp::Div, Type::U32, rest, level.extent as u32);
        }
        let at = code.cvt(Type::U64, Type::U32, Rounding::None, at);
        for (address, (_, _, step)) in addresses.iter_mut().zip(&operands) {
            if step(level) != 0 {
                *address = code.ternary(TernaryOp::Mad, Type::S64, at, bytes(step(level)), *address);
            }
        }
    }
    addresses
}
