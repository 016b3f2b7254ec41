//! PTX: code for NVIDIA GPUs.
//!
//! Comes in: kernels. Goes out: a [`Module`]: the text that the driver compiles, and the launches of a run. Nothing
//! here needs a GPU or a driver.
//!
//! `inst` is the subset of PTX that the emitter uses, as data, and `names` has its words; `emit` makes it from kernels.
//! `epilogue` finds the loop kernels that are the end of a product. `body` says where their buffers lie, `launch` which
//! of them run together, `module` is the program, in the words of `place`; `print` writes it as text, and `parse` reads
//! that text. `simt` runs it on a processor, for tests.

mod body;
mod concurrent;
mod emit;
mod epilogue;
pub mod inst;
mod launch;
pub mod module;
pub mod names;
pub mod parse;
pub mod place;
pub mod print;
pub mod simt;

#[cfg(test)]
mod text_tests;

pub use module::Module;
pub use place::{BARRIER, Cooperative, LAUNCH, Launch, MemoryOf, Place, THREADS, Target, VERSION};
