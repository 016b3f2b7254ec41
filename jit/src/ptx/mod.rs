//! PTX: code for NVIDIA GPUs, as data and as text.
//!
//! `inst` is the subset of PTX that the emitter uses, `simt` runs it.

pub mod inst;
pub mod simt;
