//! A SIMT interpreter of PTX: runs a kernel as a GPU would, on plain memory, and checks it.
//!
//! In comes an [`Entry`](super::inst::Entry), out come the bytes that it leaves in [`Memory`] and [`Counts`] of what
//! it executed. It is the oracle by which kernels are tested without a GPU: arithmetic is exact, and what PTX leaves
//! open is an error, with the kernel, the block, the thread and the instruction:
//!
//! - accesses outside of allocations, misaligned ones, reads of what was never written;
//! - races of threads, loads with `.nc` of what the launch writes, results of `cp.async` before they are waited for;
//! - barriers, shuffles and products of matrices that not all threads run together;
//! - registers without a value, divisions by zero, shuffles from lanes outside of the mask;
//! - operands that do not fit the type of the instruction.
//!
//! Time is not modelled, and neither are caches and the precision of tensor cores. The blocks of a cooperative launch
//! are all resident, and take turns; what fences and atomics order between them is known to the search for races.
//!
//! The files in the order of the data: `decode` makes `code` of an entry (with `alu`, `convert`, `float`), `launch`
//! runs blocks, `exec` instructions, `access`, `sync` and `matrix` the greater ones; `warp`, `context` and `memory`
//! hold the state, `race` who accessed what, `grid` what is ordered between blocks.

mod access;
mod alu;
mod code;
mod context;
mod convert;
mod counts;
mod decode;
mod exec;
mod float;
mod grid;
mod launch;
mod matrix;
mod memory;
mod name;
mod race;
mod sync;
#[cfg(test)]
mod tests;
mod warp;

pub use counts::Counts;
pub use launch::{Launch, Options, run, run_ordered, run_with};
pub use memory::Memory;
