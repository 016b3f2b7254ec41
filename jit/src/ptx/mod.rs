//! PTX: code for NVIDIA GPUs, as data and as text.
//!
//! `inst` is the subset of PTX that the emitter uses, `names` has its words, `print` writes a module as text and
//! `parse` reads that text.

pub mod inst;
pub mod names;
pub mod parse;
pub mod print;

#[cfg(test)]
mod text_tests;
