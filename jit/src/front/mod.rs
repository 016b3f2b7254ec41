//! The front: what a user calls. Functions on tensors come in, a [`Graph`](crate::graph::Graph) goes out.
//!
//! `tensor` has the type, `data` what goes in and out of it, `creation`, `elementwise`, `shapes` and `reductions` the
//! primitive ops as methods, `nn`, `einsum` and `random` what is composed of them. `operand` converts and broadcasts
//! operands as `jax.numpy` does. `trace` records ops, or has them evaluated where there is no trace; `panics` tells a
//! user's panic from a fault of ours. `tree`, `statics` and `output` say what arguments and results may be.

mod creation;
mod data;
mod einsum;
mod elementwise;
mod nn;
mod operand;
mod output;
pub mod panics;
pub mod random;
mod reductions;
mod shapes;
mod statics;
pub mod tensor;
pub mod trace;
pub mod tree;

pub use einsum::einsum;
pub use nn::{
    elu, gelu, gelu_exact, hard_tanh, leaky_relu, log_sigmoid, log_softmax, mish, one_hot, one_hot_as, relu, relu6,
    silu, soft_sign, softmax,
};
pub use operand::{IntoAxes, Operand};
pub use output::Output;
pub use random::Key;
pub use statics::{Bits, StaticValue};
pub use tensor::Tensor;
pub use tree::{Name, Static, Structure, Tree, Visitor, leaves, named_leaves, unflatten};
