//! The emitter: kernels as code.
//!
//! In: a kernel. Out: its code, for a grid of blocks of [`THREADS`] threads. `code` builds instructions, `lane` has
//! those of one lane, `rare` and `trig` the slow paths of functions; `loops`, `gemm`, `mma` and `routine` are the
//! kinds of kernels, and `taps` and `finish` parts of products. `entry` makes entries of them: of one kernel, of the
//! segments of one, of several that one block or a whole grid runs.

mod code;
mod entry;
mod finish;
mod gemm;
mod lane;
mod loops;
mod matrices;
mod mma;
mod rare;
mod routine;
mod taps;
mod tiles;
// Coefficients are written as their sources have them.
#[allow(clippy::excessive_precision, clippy::approx_constant)]
mod trig;

pub(super) use entry::{
    Pointed, Pointers, Segments, Step, Trips, block_entry, concurrent_entry, cooperative_entry, kernel_entry,
    segments_entry,
};
pub(super) use finish::{Finish, Follower};
pub(super) use loops::RowKernel;
pub(super) use mma::Mma;

use super::inst::{BinaryOp, Operand, Reg, Special, TernaryOp, Type};
use super::place::THREADS;
use crate::fuse::{GemmKernel, Routine};
use code::Code;

/// The blocks that run a kernel.
#[derive(Clone, Copy)]
struct Grid {
    /// The number of this block, a u32.
    block: Reg,
    /// How many there are.
    blocks: Operand,
    /// The number of this thread in its block, a u32.
    thread: Reg,
}

/// All threads of a grid.
#[derive(Clone, Copy)]
struct Threads {
    /// The number of this thread, a u32.
    index: Reg,
    /// How many there are.
    count: Operand,
}

impl Grid {
    /// All blocks of the launch.
    fn of_launch(code: &mut Code) -> Grid {
        let [block, blocks, thread] =
            [Special::Ctaid, Special::Nctaid, Special::Tid].map(|special| code.special(special));
        Grid { block, blocks: blocks.into(), thread }
    }

    /// One block.
    fn of_block(code: &mut Code) -> Grid {
        let thread = code.special(Special::Tid);
        Grid { block: code.mov(Type::U32, 0), blocks: Operand::Imm(1), thread }
    }

    fn threads(&self, code: &mut Code) -> Threads {
        let index = code.ternary(TernaryOp::Mad, Type::U32, self.block, THREADS, self.thread);
        let count = match self.blocks {
            Operand::Imm(blocks) => Operand::Imm(blocks * u64::from(THREADS)),
            blocks => code.binary(BinaryOp::Mul, Type::U32, blocks, THREADS).into(),
        };
        Threads { index, count }
    }
}

/// A kernel that is emitted.
#[derive(Clone)]
pub(super) enum Part<'a> {
    /// A loop kernel, or one segment of it.
    Rows(Box<RowKernel>),
    /// A product, and what becomes of its elements.
    Gemm(&'a GemmKernel, Box<Finish>),
    /// The same by tensor cores.
    Mma(&'a GemmKernel, Mma, Box<Finish>),
    /// A routine.
    Routine(&'a Routine),
}

impl Part<'_> {
    /// The most blocks that have something to do.
    pub(super) fn blocks(&self) -> usize {
        match self {
            Part::Rows(row) => row.spread.blocks(None),
            Part::Gemm(g, _) => gemm::blocks(g),
            Part::Mma(g, mma, _) => mma.blocks(g),
            Part::Routine(routine) => routine::blocks(routine),
        }
    }

    /// Bytes of the workspace of so many blocks.
    pub(super) fn workspace(&self, blocks: usize) -> usize {
        match self {
            Part::Rows(_) | Part::Gemm(..) | Part::Mma(..) => 0,
            Part::Routine(routine) => routine::workspace(routine, blocks),
        }
    }

    fn emit(&self, code: &mut Code, args: &[Reg], grid: &Grid) {
        match self {
            Part::Rows(row) => row.emit(code, args, grid, None),
            Part::Gemm(g, finish) => gemm::emit(code, g, finish, args, grid),
            Part::Mma(g, mma, finish) => mma::emit(code, g, mma, finish, args, grid),
            Part::Routine(routine) => routine::emit(code, routine, args, grid),
        }
    }
}
