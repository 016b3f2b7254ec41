//! The processor and its threads.

pub(crate) mod denormals;
pub(crate) mod policy;
pub(crate) mod pool;

pub use pool::threads;
