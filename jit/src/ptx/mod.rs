//! PTX: code for NVIDIA GPUs, as data and as text.
//!
//! `inst` is the subset of PTX that the emitter uses.

pub mod inst;
