//! PTX: code for NVIDIA GPUs.
//!
//! Comes in: kernels. Goes out: a [`Module`]: the text that the driver compiles, and the launches of a run. Nothing
//! here needs a GPU or a driver.
//!
//! `inst` is the subset of PTX that the emitter uses, as data, and `names` has its words; `emit` makes it from kernels,
//! `module` makes a program of the parts; `print` writes it as text, and `parse` reads that text. `simt` runs it on a
//! processor, for tests.

mod emit;
pub mod inst;
pub mod module;
pub mod names;
pub mod parse;
pub mod print;
pub mod simt;

#[cfg(test)]
mod text_tests;

pub use module::{Launch, Module, Target};
