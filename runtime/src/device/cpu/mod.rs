//! The processor and its threads.
//!
//! Comes in: kernels, then arrays. Goes out: [`CpuExecutable`](executable::CpuExecutable), the first implementation of
//! [`Executable`](super::Executable).

mod denormals;
pub(crate) mod executable;
pub(crate) mod policy;
pub(crate) mod pool;

pub use pool::threads;
