//! The runtime of fulgurite: caches compiled functions, allocates their memory, calls them.
//!
//! Comes in: a function on trees of tensors. Goes out: [`Jit`], which traces and compiles it on the first call with
//! given structure, types and static values, and makes one machine-code call of every later one; [`Bound`], which keeps
//! a state resident between calls. Ops on tensors outside of a traced function run here too, each as a small program.
//!
//! **Invariant:** nothing here inspects an op; the meaning of a program is known to `fulgurite-jit` only.

mod bound;
mod cache;
mod device;
mod eager;
mod jit;
mod lower;
mod nested;
mod profile;
mod program;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod trace;
mod transfer;

pub use bound::Bound;
pub use device::cpu::threads;
pub use device::select::{synchronize, with_device};
pub use fulgurite_jit::array::Device;
pub use jit::{Jit, jit};
pub use lower::{Lowered, lower};
pub use program::Program;
pub use transfer::{HostCopy, PrefetchToDevice, Transfer, copy_to_host_async, device_put, prefetch_to_device};

#[doc(no_inline)]
pub use fulgurite_jit::{Bits, Output, Result, Static, Tree};
/// Compiles a function; see [`Jit`].
pub use fulgurite_macros::jit;

extern crate self as fulgurite_runtime;
