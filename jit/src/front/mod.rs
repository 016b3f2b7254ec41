//! The front end. Functions on tensors come in, a [`Graph`](crate::graph::Graph) goes out.
//!
//! `tensor` defines the type and `data` its conversion from and to host data. `creation`, `elementwise`, `shapes`,
//! `indexing` and `reductions` define the primitive ops as methods, `linalg` and `conv` as functions; `nn`, `einsum`,
//! `random`, `special` and `stats` are composed of them. `operand` promotes and broadcasts operands as `jax.numpy` does,
//! `precision` is that of contractions. `trace` records ops, and evaluates them where no trace is active. `panics` tells
//! a user's panic from an internal one. `tree`, `statics` and `output` define the types of arguments and results.

pub mod control;
pub mod conv;
mod creation;
mod data;
mod einsum;
mod elementwise;
pub mod fft;
mod indexing;
pub mod linalg;
mod nn;
mod numpy;
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
pub use indexing::{At, Ellipsis, Index, IndexMode, IntoIndex, Masked, NewAxis, Part, Step};
pub use nn::{
    elu, gelu, gelu_exact, hard_tanh, leaky_relu, log_sigmoid, log_softmax, mish, one_hot, one_hot_as, relu, relu6,
    silu, soft_sign, softmax,
};
pub use numpy::{
    Beyond, Bins, Border, Indexing, Interp, Order, OutOfRange, PadMode, Quantile, Side, Unique, append, atleast_1d,
    atleast_2d, atleast_3d, bincount, block, column_stack, corrcoef, cov, cross, delete, dstack, ediff1d, eye,
    histogram, histogram_bin_edges, hstack, inner, insert, interp, ix_, lexsort, map_coordinates, meshgrid, outer,
    polyval, ravel_multi_index, segment_max, segment_min, segment_prod, segment_sum, select_first, select_n, tensordot,
    tensordot_axes, trapezoid, tri, tril_indices, triu_indices, unravel_index, vdot, vstack,
};
pub use operand::{IntoAxes, Operand};
pub use output::Output;
pub use precision::{matmul_precision, with_matmul_precision};
pub use random::Key;
pub use sorting::sort;
pub use statics::{Bits, StaticValue};
pub use tensor::Tensor;
pub use tree::{Name, Static, Structure, Tree, Visitor, leaves, named_leaves, unflatten};
