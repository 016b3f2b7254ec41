//! Lowering: kernels to loops of lane programs, in an order, with memory. Nothing here knows an instruction set or holds
//! an address.
//!
//! `lane` is the program of one element, `loops` what is run around it, `parallel` the order of kernels and what several
//! threads run, `memory` where buffers lie.

pub mod lane;
pub mod loops;
pub mod memory;
pub mod parallel;
