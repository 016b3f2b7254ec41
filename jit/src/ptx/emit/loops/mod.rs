//! Loop kernels: rows over threads.
//!
//! In: a loop kernel, the loops of one of its rows, the addresses of its buffers. Out: code for all threads.
//!
//! A row is an iteration of the loops that are not reduced. `spread` says how many threads compute one:
//!
//! - One, for a row or for several adjacent ones, with accesses of up to 16 bytes (`row`).
//! - [`PARTIALS`] (half of a warp) if reductions are interleaved: thread `l` has accumulator `l`, and the sixteen are
//!   combined by shuffles in the order of the other back ends. So a result has the same bits on every device.
//! - A block if such a row is long (`block`).
//! - A block for a tile of rows, if some loads are contiguous along other rows than the stores (`tile`).
//!
//! Of a kernel whose iterations run in order, a row is what iterations that touch different elements have for
//! themselves. Where the elements are known at run time only, several threads go through the same iterations, and each
//! has a share of the elements.

mod block;
mod element;
mod member;
mod row;
mod spread;
mod tile;

use super::code::Code;
use super::{Grid, THREADS};
use crate::fuse::{LoopKernel, PARTIALS};
use crate::lower::lane::LaneOp;
use crate::lower::loops::{Block, Kept, Loops, Stmt, apart, schedule_row};
use crate::ptx::inst::{BinaryOp, Cmp, Operand, Reg, Special, Type};
use crate::types::product;
use member::Member;
use row::Emitter;
pub(in crate::ptx) use spread::Spread;
use spread::{Outer, Owners, Team, Tiles};

/// About how many instructions the slow path of a function has.
const SLOW_PATH: usize = 100;

/// Bytes of local memory in which a thread keeps elements of a row for later sweeps.
const KEPT_BY_THREAD: usize = 2048;

/// A kernel with what is known before it is emitted.
#[derive(Clone)]
pub(in crate::ptx) struct RowKernel {
    kernel: LoopKernel,
    loops: Loops,
    /// Loops over rows, outermost first. Dimensions that every index steps through as through one are one: its extent,
    /// and the last dimension, which stands for all.
    outer: Outer,
    tiles: Option<Tiles>,
    /// Threads that share the elements of a row whose iterations run in order.
    owners: Owners,
    pub(in crate::ptx) spread: Spread,
}

/// Elements of an argument that are in registers instead of memory: one for each row that is taken at a time.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) arg: usize,
    pub(super) values: &'a [Reg],
}

/// The value of a loop whose iterations are so many elements each, and so many iterations.
pub(super) type Coordinate<'c> = dyn FnMut(&mut Code, usize, usize) -> Reg + 'c;

impl RowKernel {
    /// The kernel. `is_aligned` says that every buffer begins at [`spread::ACCESS_BYTES`].
    pub(in crate::ptx) fn new(kernel: LoopKernel, is_aligned: bool) -> Self {
        let along = kernel.dims.len().checked_sub(1);
        RowKernel::along(kernel, along, is_aligned)
    }

    /// The same of a kernel whose loops had another order: the last one was `along`, if it has more than one iteration.
    pub(in crate::ptx) fn along(kernel: LoopKernel, along: Option<usize>, is_aligned: bool) -> Self {
        let exchanged = spread::exchanged(&kernel);
        let kept = match exchanged {
            Some(_) => Kept { bytes: spread::KEPT, loads: true },
            None => Kept { bytes: PARTIALS * KEPT_BY_THREAD, loads: false },
        };
        let loops = schedule_row(&kernel, along, kept);
        let apart = apart(&kernel);
        let rows = (0..kernel.dims.len()).filter(|d| !kernel.dims[*d].reduced && (!kernel.serial || apart.contains(d)));
        let indices = spread::indices(&loops.body);
        let mut outer = Outer::new();
        for d in rows {
            let extent = kernel.dims[d].extent;
            let joins = |last: usize| indices.iter().all(|(i, _)| i.strides[last] == i.strides[d] * extent as isize);
            match outer.last_mut() {
                Some((all, last)) if joins(*last) => (*all, *last) = (*all * extent, d),
                _ => outer.push((extent, d)),
            }
        }
        let rows = product(outer.iter().map(|(extent, _)| *extent));
        let owners = spread::owners(&kernel, &apart, rows);
        let is_plain = !kernel.reduces() && !kernel.serial;
        let tiles = if is_plain { spread::tiles(&outer, &loops) } else { None };
        let is_interleaved = loops.accumulators.iter().any(|a| a.interleaved.is_some());
        let team = match (&tiles, exchanged) {
            (Some(tiles), _) => Team::Tile(spread::count(tiles, &outer)),
            (None, Some(elements)) => Team::Block(elements),
            (None, None) if is_interleaved => Team::HalfWarp,
            (None, None) if is_plain && is_aligned => Team::Thread(spread::width(&outer, &indices)),
            (None, None) => Team::Thread(1),
        };
        RowKernel {
            kernel,
            loops,
            outer,
            tiles,
            owners,
            spread: Spread { rows: rows.saturating_mul(owners.count), team },
        }
    }

    pub(in crate::ptx) fn kernel(&self) -> &LoopKernel {
        &self.kernel
    }

    /// About how many instructions an iteration has.
    pub(in crate::ptx) fn instructions(&self) -> usize {
        fn of(stmts: &[Stmt]) -> usize {
            let of_block = |block: &Block| {
                let live = block.program.live(&block.roots());
                let insts = block.program.insts.iter().zip(live).filter(|(_, live)| *live);
                insts.map(|(inst, _)| if matches!(inst.op, LaneOp::Rare(..)) { SLOW_PATH } else { 1 }).sum()
            };
            let of_stmt = |stmt: &Stmt| match stmt {
                Stmt::For { body, .. } | Stmt::Collapsed { body, .. } => of(body),
                Stmt::Block(block) => of_block(block),
                Stmt::Init(_) | Stmt::Combine { .. } | Stmt::Transpose(_) => 0,
            };
            stmts.iter().map(of_stmt).sum()
        }
        of(&self.loops.body)
    }

    /// The most rows that [`RowKernel::emit_given`] takes at a time.
    pub(in crate::ptx::emit) fn most_together(&self) -> usize {
        let Some(&(extent, _)) = self.outer.last() else { return 1 };
        let full = spread::full_access(&spread::indices(&self.loops.body));
        if extent.is_multiple_of(full) { full } else { 1 }
    }

    /// Emits adjacent rows of a kernel without reductions whose loops step through the elements of an argument in their
    /// order: those whose elements are given. `coordinate` says where the first row is.
    pub(in crate::ptx::emit) fn emit_given(
        &self,
        code: &mut Code,
        args: &[Reg],
        given: Given<'_>,
        coordinate: &mut Coordinate<'_>,
    ) {
        let mut stride = 1;
        let mut vars = vec![None; self.kernel.dims.len()];
        for &(extent, dim) in self.outer.iter().rev() {
            vars[dim] = Some(coordinate(code, stride, extent));
            stride *= extent;
        }
        Emitter::new(self, args, Member::Alone).emit_given(code, vars, given);
    }

    /// How many iterations of a thread run in order, beside those of reductions.
    pub(in crate::ptx) fn in_order(&self) -> usize {
        let rows = product(self.outer.iter().map(|(extent, _)| *extent)).max(1);
        let iterations = product(self.kernel.dims.iter().map(|dim| dim.extent));
        if self.kernel.serial { iterations / rows } else { 1 }
    }

    /// Emits the kernel for these blocks; `args` are the addresses of the buffers of the loops. `extent` is that of a
    /// flat kernel, if it is known at run time only.
    pub(in crate::ptx::emit) fn emit(&self, code: &mut Code, args: &[Reg], grid: &Grid, extent: Option<Reg>) {
        match self.spread.team {
            Team::Thread(width) => self.by_threads(code, args, grid, extent, width),
            Team::HalfWarp => self.by_half_warps(code, args, grid),
            Team::Block(elements) => self.by_blocks(code, args, grid, elements),
            Team::Tile(count) => self.by_tiles(code, args, grid, count),
        }
    }

    fn by_threads(&self, code: &mut Code, args: &[Reg], grid: &Grid, extent: Option<Reg>, width: usize) {
        let rows = self.spread.rows;
        let threads = grid.threads(code);
        let mut emitter = Emitter::new(self, args, Member::Alone);
        // The rest is not empty only if the rows are one loop.
        let (whole, rest): (Operand, Operand) = match extent {
            Some(extent) => (
                code.binary(BinaryOp::Shr, Type::U32, extent, width.ilog2()).into(),
                code.binary(BinaryOp::And, Type::B32, extent, width as u32 - 1).into(),
            ),
            None => (Operand::Imm((rows / width) as u64), Operand::Imm((rows % width) as u64)),
        };
        code.counted(threads.index, whole, threads.count, |code, i| emitter.emit_row(code, i, width));
        if width > 1 && rest != Operand::Imm(0) {
            let first = match whole {
                Operand::Imm(whole) => Operand::Imm(whole * width as u64),
                whole => code.binary(BinaryOp::Mul, Type::U32, whole, width as u32).into(),
            };
            code.counted(threads.index, rest, threads.count, |code, i| {
                let i = code.binary(BinaryOp::Add, Type::U32, i, first);
                emitter.emit_row(code, i, 1);
            });
        }
    }

    fn by_half_warps(&self, code: &mut Code, args: &[Reg], grid: &Grid) {
        let threads = grid.threads(code);
        let lane = code.binary(BinaryOp::And, Type::B32, threads.index, PARTIALS as u32 - 1);
        let first = code.binary(BinaryOp::Shr, Type::U32, threads.index, PARTIALS.ilog2());
        let step = match threads.count {
            Operand::Imm(count) => Operand::Imm(count / PARTIALS as u64),
            count => code.binary(BinaryOp::Shr, Type::U32, count, PARTIALS.ilog2()).into(),
        };
        // The bits of the half warp that this thread is in.
        let warp_lane = code.special(Special::Laneid);
        let half = code.binary(BinaryOp::And, Type::B32, warp_lane, PARTIALS as u32);
        let ones = code.mov(Type::B32, (1 << PARTIALS) - 1);
        let mask = code.binary(BinaryOp::Shl, Type::B32, ones, half);
        let is_first = code.setp(Cmp::Eq, Type::U32, lane, 0);
        let mut emitter = Emitter::new(self, args, Member::HalfWarp { lane, mask, is_first });
        code.counted(first, self.spread.rows as u32, step, |code, i| emitter.emit_row(code, i, 1));
    }
}
