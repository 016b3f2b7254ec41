//! The emitter: kernels as code.
//!
//! In: a kernel. Out: its entry, and how many threads it wants. `code` builds instructions, `lane` has those of one
//! lane, `rare` and `trig` the slow paths of functions; `loops`, `gemm` and `routine` are the kinds of kernels.

mod code;
mod gemm;
mod lane;
pub(super) mod loops;
mod rare;
mod routine;
mod trig;

pub(super) use gemm::gemm;
pub(super) use loops::RowKernel;
pub(super) use routine::routine;

use super::inst::{BinaryOp, Entry, Operand, Reg, RegClass, Special, TernaryOp, Type};
use code::Code;
use loops::Threads;

/// Threads of a block, unless a kernel has reasons for another number.
pub(super) const BLOCK: u32 = 128;

/// The entry of a loop kernel, whose parameters are the addresses of its buffers.
pub(super) fn loop_entry(name: String, kernel: &RowKernel<'_>, args: usize) -> Entry {
    let mut code = Code::default();
    let args: Vec<Reg> = (0..args as u32).map(|n| code.pointer(n)).collect();
    let threads = all_threads(&mut code);
    kernel.emit(&mut code, &args, threads);
    code.finish(name, args.len(), BLOCK)
}

/// The threads of all blocks.
fn all_threads(code: &mut Code) -> Threads {
    let (block, size) = (code.special(Special::Ctaid), code.special(Special::Ntid));
    let (thread, blocks) = (code.special(Special::Tid), code.special(Special::Nctaid));
    let index = code.ternary(TernaryOp::Mad, Type::U32, block, size, thread);
    let count = code.binary(BinaryOp::Mul, Type::U32, blocks, size);
    debug_assert_eq!(index.class, RegClass::B32);
    Threads { index, count: Operand::Reg(count) }
}
