//! A block for a tile of rows.
//!
//! What is contiguous along other rows than the stores goes through shared memory: the block reads a square of it along
//! its rows, and then takes elements along those of the stores, each of which has one element more than the tile, so
//! that threads find their elements in different banks.

use super::super::code::Code;
use super::element::{Value, load, load_word, memory_type, store_word};
use super::member::{Member, Tiled};
use super::row::Emitter;
use super::spread::TILE;
use super::{Grid, RowKernel, THREADS};
use crate::lower::loops::{Input, Stmt};
use crate::ptx::inst::{Address, BinaryOp, Cmp, InstOp, Operand, Reg, Space, TernaryOp, Type};
use crate::types::DType;

/// The lines of a tile that a block reads at a time.
const LINES: usize = THREADS as usize / TILE;

impl RowKernel {
    pub(super) fn by_tiles(&self, code: &mut Code, args: &[Reg], grid: &Grid, count: usize) {
        let tiles = self.tiles.as_ref().expect("the kernel has tiles");
        let column = code.binary(BinaryOp::And, Type::B32, grid.thread, TILE as u32 - 1);
        let line = code.binary(BinaryOp::Shr, Type::U32, grid.thread, TILE.ilog2());
        let base = code.mov(Type::U32, Operand::Shared);
        let size = |dtype: DType| dtype.size().max(4) as u32;
        let starts: Vec<u32> = tiles
            .loads
            .iter()
            .map(|(_, dtype)| code.reserve_shared((TILE * (TILE + 1)) as u32 * size(*dtype)))
            .collect();
        let mut emitter = Emitter::new(self, args, Member::Alone);
        code.counted(grid.block, count as u32, grid.blocks, |code, tile| {
            let [row, first] = self.begin_tile(code, &mut emitter, tile);
            emitter.read_tile(code, [column, line], [row, first], base, &starts);
            code.push(InstOp::Bar);
            for (&(n, dtype), &start) in tiles.loads.iter().zip(&starts) {
                let size = size(dtype);
                let at = code.ternary(TernaryOp::Mad, Type::U32, column, (TILE as u32 + 1) * size, base);
                let before = code.binary(BinaryOp::Mul, Type::U32, row, size);
                let at = code.binary(BinaryOp::Sub, Type::U32, at, before);
                let start = code.binary(BinaryOp::Add, Type::U32, at, start);
                emitter.tiled.insert(n, Tiled { dtype, dim: self.outer[tiles.along].1, start, step: size });
            }
            emitter.compute_tile(code, [column, line], [row, first]);
            code.push(InstOp::Bar);
        });
    }

    /// The first row and column of a tile; sets the variables of the other loops.
    fn begin_tile(&self, code: &mut Code, emitter: &mut Emitter<'_>, tile: Reg) -> [Reg; 2] {
        let along = self.tiles.as_ref().expect("the kernel has tiles").along;
        let mut first = [tile; 2];
        let mut rest = tile;
        for (n, &(extent, dim)) in self.outer.iter().enumerate().rev() {
            let is_column = n + 1 == self.outer.len();
            let is_tiled = is_column || n == along;
            let extent = if is_tiled { extent.div_ceil(TILE) } else { extent } as u32;
            let var = if n == 0 { rest } else { code.binary(BinaryOp::Rem, Type::U32, rest, extent) };
            if n > 0 {
                rest = code.binary(BinaryOp::Div, Type::U32, rest, extent);
            }
            if is_tiled {
                first[usize::from(is_column)] = code.binary(BinaryOp::Mul, Type::U32, var, TILE as u32);
            } else {
                emitter.vars[dim] = Some(var);
            }
        }
        first
    }
}

impl Emitter<'_> {
    /// The loops of a tile, along its loads and along its stores: extents and dimensions.
    fn sides(&self) -> [(usize, usize); 2] {
        let along = self.row.tiles.as_ref().expect("the kernel has tiles").along;
        [self.row.outer[along], *self.row.outer.last().expect("the kernel has tiles")]
    }

    /// Reads a tile of each load.
    fn read_tile(
        &mut self,
        code: &mut Code,
        [column, line]: [Reg; 2],
        [row, first]: [Reg; 2],
        base: Reg,
        starts: &[u32],
    ) {
        let tiles = self.row.tiles.clone().expect("the kernel has tiles");
        let [(rows, along), (columns, last)] = self.sides();
        let [Stmt::Block(block)] = &self.row.loops.body[..] else { unreachable!("the kernel has tiles") };
        let position = code.binary(BinaryOp::Add, Type::U32, row, column);
        self.vars[along] = Some(position);
        let is_inside = (rows % TILE != 0).then(|| code.setp(Cmp::Lt, Type::U32, position, rows as u32));
        let mut read: Vec<(Type, Reg, Address, Option<Reg>)> = Vec::new();
        for part in 0..TILE / LINES {
            let at = code.binary(BinaryOp::Add, Type::U32, line, (part * LINES) as u32);
            let position = code.binary(BinaryOp::Add, Type::U32, first, at);
            self.vars[last] = Some(position);
            let fits = (columns % TILE != 0).then(|| code.setp(Cmp::Lt, Type::U32, position, columns as u32));
            let guard = match (is_inside, fits) {
                (Some(p), Some(q)) => Some(code.binary(BinaryOp::And, Type::Pred, p, q)),
                (p, q) => p.or(q),
            };
            let at = code.ternary(TernaryOp::Mad, Type::U32, at, TILE as u32 + 1, column);
            for (&(n, dtype), &start) in tiles.loads.iter().zip(starts) {
                let Input::Load { arg, index, .. } = &block.inputs[n] else { unreachable!("tiles are of loads") };
                let from = self.address(code, *arg, index, dtype.size(), None);
                let ty = memory_type(dtype);
                let word = load_word(code, Space::Global, ty, from, guard);
                let to = code.ternary(TernaryOp::Mad, Type::U32, at, dtype.size().max(4) as u32, base);
                read.push((ty, word, Address::Reg(to, start as i32), guard));
            }
        }
        for (ty, word, to, guard) in read {
            store_word(code, ty, to, word, guard);
        }
    }

    /// Computes the rows of a tile.
    fn compute_tile(&mut self, code: &mut Code, [column, line]: [Reg; 2], [row, first]: [Reg; 2]) {
        let [(rows, along), (columns, last)] = self.sides();
        let [Stmt::Block(block)] = &self.row.loops.body[..] else { unreachable!("the kernel has tiles") };
        let position = code.binary(BinaryOp::Add, Type::U32, first, column);
        self.vars[last] = Some(position);
        let end = code.label();
        if columns % TILE != 0 {
            let fits = code.setp(Cmp::Lt, Type::U32, position, columns as u32);
            code.branch_if(fits, false, end);
        }
        let begin = code.binary(BinaryOp::Add, Type::U32, row, line);
        if rows % TILE == 0 && self.unrolled(block) > 1 {
            self.together(code, block, along, (begin, LINES), TILE / LINES);
        } else {
            let after = code.binary(BinaryOp::Add, Type::U32, row, TILE as u32);
            let after = code.binary(BinaryOp::Min, Type::U32, after, rows as u32);
            code.counted(begin, after, LINES as u32, |code, i| self.together(code, block, along, (i, LINES), 1));
        }
        code.place(end);
    }

    /// An input of this row, from a tile.
    pub(super) fn tiled_input(&self, code: &mut Code, tiled: Tiled) -> Value {
        let position = self.vars[tiled.dim].expect("it is a loop over rows");
        let at = code.ternary(TernaryOp::Mad, Type::U32, position, tiled.step, tiled.start);
        load(code, Space::Shared, tiled.dtype, Address::Reg(at, 0), 1)
    }
}
