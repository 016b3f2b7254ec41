//! The compiler of fulgurite.
//!
//! A pure function on tensors is traced into a [`graph::Graph`] ([`trace`]), transformed (`fulgurite-autodiff`),
//! optimised ([`opt`]), grouped into kernels ([`fuse`]), given memory ([`memory`]) and emitted as machine code
//! ([`cpu`]). Every stage is a pure function from one printable value to the next:
//!
//! ```text
//! fn ─trace─▶ Graph ─autodiff─▶ Graph ─opt─▶ Graph ─fuse─▶ Kernels ─memory─▶ Plan ─cpu─▶ code
//! ```
//!
//! **Invariant:** nothing here runs a program (the reference interpreter [`interp`] aside), opens a device or does I/O
//! other than printing dumps. **Invariant:** a verified graph never makes a later stage panic.

pub mod array;
pub mod cpu;
pub mod dump;
mod einsum;
mod error;
mod functions;
pub mod fuse;
pub mod graph;
pub mod interp;
pub mod lane;
pub mod loops;
pub mod memory;
pub mod opt;
mod output;
pub mod panics;
pub mod phases;
pub mod random;
mod statics;
pub mod tensor;
pub mod trace;
pub mod tree;
pub mod types;

extern crate self as fulgurite_jit;

pub use array::{Array, Element};
pub use einsum::einsum;
pub use error::{Error, Result};
pub use fulgurite_macros::Tree;
pub use functions::{
    elu, gelu, gelu_exact, hard_tanh, leaky_relu, log_sigmoid, log_softmax, mish, one_hot, one_hot_as, relu, relu6,
    silu, soft_sign, softmax,
};
pub use output::Output;
pub use random::Key;
pub use statics::{Bits, StaticValue};
pub use tensor::{IntoAxes, Operand, Tensor};
pub use tree::{Name, Static, Structure, Tree, Visitor, leaves, named_leaves, unflatten};
pub use types::{DType, Shape, TensorType};
