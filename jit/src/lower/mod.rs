//! Lowering: from kernels to loop nests of lane programs, with a schedule and a memory plan. Nothing here depends on an
//! instruction set or holds an address.
//!
//! `lane` is the program of one element, `loops` the loop nest around it, `parallel` the schedule of kernels, `memory`
//! the location of each buffer.

pub mod lane;
pub mod loops;
pub mod memory;
pub mod parallel;
