//! The front end. Functions on tensors come in, a [`Graph`](crate::graph::Graph) goes out.
//!
//! `tensor` defines the type and `data` its conversion from and to host data. `creation`, `elementwise`, `shapes`,
//! `indexing` and `reductions` define the primitive ops as methods, `linalg` and `conv` as functions; `nn`, `einsum`,
//! `random`, `special` and `stats` are composed of them. `operand` promotes and broadcasts operands as `jax.numpy`
//! does, `precision` is that of contractions. `trace` records ops, and evaluates them where no trace is active.
//! `panics` tells a user's panic from an internal one. `tree`, `statics` and `output` define the types of arguments
//! and results.

mod activations;
mod attention;
pub mod branches;
pub mod control;
pub mod conv;
mod creation;
mod cumulative;
mod data;
mod einsum;
mod elementwise;
pub mod fft;
mod indexing;
pub mod linalg;
pub mod loops;
mod nn;
mod normalise;
mod numpy;
mod operand;
mod output;
pub mod panics;
mod precision;
pub mod random;
mod reductions;
mod resize;
mod shapes;
mod sorting;
pub mod special;
mod statics;
pub mod stats;
pub mod tensor;
pub mod trace;
pub mod tree;
mod values;
mod windows;
mod x64;

pub use activations::{
    celu, elu_with, glu, hard_sigmoid, hard_silu, hard_swish, identity, selu, sigmoid, softplus, sparse_plus,
    sparse_sigmoid, squareplus, swish,
};
pub use attention::{Attention, dot_product_attention};
pub use branches::{cond, switch};
pub use control::{Scan, map, scan};
pub use cumulative::associative_scan;
pub use einsum::einsum;
pub use elementwise::{select, where_};
pub use indexing::{At, Ellipsis, Index, IndexMode, IntoIndex, Masked, NewAxis, Part, Step};
pub use linalg::{corrcoef, cov, cross, inner, outer, tensordot, vdot};
pub use loops::{LoopBound, fori_loop, while_loop};
pub use nn::{
    elu, gelu, gelu_exact, hard_tanh, leaky_relu, log_sigmoid, log_softmax, mish, one_hot, one_hot_as, relu, relu6,
    silu, soft_sign, softmax,
};
pub use normalise::{log_softmax_where, logmeanexp, softmax_where, standardize};
pub use numpy::{
    Beyond, Bins, Border, Indexing, Interp, Order, OutOfRange, PadMode, Quantile, Side, Unique, append, atleast_1d,
    atleast_2d, atleast_3d, bincount, block, column_stack, delete, dstack, ediff1d, eye, gcd, histogram,
    histogram_bin_edges, hstack, insert, interp, intersect1d, ix_, lcm, lexsort, linspace, map_coordinates, meshgrid,
    polyval, ravel_multi_index, segment_max, segment_min, segment_prod, segment_sum, select_first, select_n, setdiff1d,
    trapezoid, tri, tril_indices, triu_indices, union1d, unravel_index, vstack,
};
pub use operand::{IntoAxes, Operand};
pub use output::Output;
pub use precision::{matmul_precision, with_matmul_precision};
pub use random::Key;
pub use resize::{ResizeMethod, image_resize, scale_and_translate};
pub use sorting::sort;
pub use statics::{Bits, StaticValue};
pub use tensor::Tensor;
pub use tree::{Name, Static, Structure, Tree, Visitor, leaves, named_leaves, unflatten};
pub use values::logspace;
pub use windows::{
    Pick, Windows, avg_pool, reduce_window, reduce_window_max, reduce_window_min, reduce_window_prod,
    reduce_window_sum, select_and_gather_add, select_and_scatter_add,
};
pub use x64::{with_x64, x64};
