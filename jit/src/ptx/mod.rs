//! PTX: code for NVIDIA GPUs.
//!
//! Comes in: kernels. Goes out: a [`Module`]: the text that the driver compiles, and the launches of a run. Nothing here
//! needs a GPU or a driver.
//!
//! `inst` is the subset of PTX that the emitter uses, as data; `emit` makes it from kernels, `module` makes a program of
//! the parts.

mod emit;
pub mod inst;
pub mod module;

pub use module::{Launch, Module, Target};
