//! The front end. Functions on tensors come in, a [`Graph`](crate::graph::Graph) goes out.
//!
//! `tensor` defines the type and `data` its conversion from and to host data. `creation`, `elementwise`, `shapes`,
//! `indexing` and `reductions` define the primitive ops as methods, `linalg` as functions; `nn`, `einsum`, `random`,
//! `special` and `stats` are composed of them. `operand` promotes and broadcasts operands as `jax.numpy` does, `precision` is that of
//! contractions. `trace` records ops, and evaluates them where no trace is active. `panics` tells a user's panic from
//! an internal one. `tree`, `statics` and `output` define the types of arguments and results.

pub mod control;
mod creation;
mod data;
mod einsum;
mod elementwise;
mod indexing;
pub mod linalg;
mod nn;
mod operand;
mod output;
pub mod panics;
mod precision;
pub mod random;
mod reductions;
mod shapes;
mod sorting;
pub mod special;
mod statics;
pub mod stats;
pub mod tensor;
pub mod trace;
pub mod tree;

pub use control::{Scan, scan};
pub use einsum::einsum;
pub use elementwise::{select, where_};
pub use indexing::{At, IndexMode};
pub use nn::{
    elu, gelu, gelu_exact, hard_tanh, leaky_relu, log_sigmoid, log_softmax, mish, one_hot, one_hot_as, relu, relu6,
    silu, soft_sign, softmax,
};
pub use operand::{IntoAxes, Operand};
pub use output::Output;
pub use precision::{matmul_precision, with_matmul_precision};
pub use random::Key;
pub use sorting::sort;
pub use statics::{Bits, StaticValue};
pub use tensor::Tensor;
pub use tree::{Name, Static, Structure, Tree, Visitor, leaves, named_leaves, unflatten};
