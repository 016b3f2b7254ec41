//! The compiler of fulgurite.
//!
//! A pure function on tensors is traced into a [`graph::Graph`] ([`mod@front`]), transformed (`fulgurite-autodiff`),
//! optimised ([`opt`]), fused into kernels ([`fuse`]), lowered to loops, phases and a memory plan ([`lower`]) and
//! emitted as machine code ([`cpu`]), or as the text and launches of a GPU's program ([`ptx`]). Every stage is a pure
//! function from one printable value to the next:
//!
//! ```text
//! fn ─trace─▶ Graph ─autodiff─▶ Graph ─opt─▶ Graph ─fuse─▶ Kernels ─lower─▶ Module ─cpu─▶ code
//!                                                                      └─ptx─▶ text, launches
//! ```
//!
//! **Invariant:** except for the reference interpreter [`mod@interp`], nothing here runs a program, opens a device or
//! does I/O other than printing dumps. **Invariant:** no stage panics on a verified graph.

pub mod array;
pub mod cpu;
pub mod dump;
mod error;
pub mod export;
pub mod front;
pub mod fuse;
pub mod graph;
pub mod interp;
pub mod lower;
pub mod opt;
pub mod ptx;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod types;

extern crate self as fulgurite_jit;

pub use array::{Array, Element};
pub use error::{Error, Result};
pub use front::{
    At, Bits, IndexMode, IntoAxes, Key, LoopBound, Name, Operand, Output, Scan, Static, StaticValue, Structure, Tensor,
    Tree, Visitor, branches, cond, control, conv, einsum, elu, fft, fori_loop, gelu, gelu_exact, hard_tanh, leaky_relu,
    leaves, linalg, log_sigmoid, log_softmax, loops, map, matmul_precision, mish, named_leaves, one_hot, one_hot_as,
    panics, random, relu, relu6, scan, select, silu, soft_sign, softmax, sort, special, stats, switch, trace, tree,
    unflatten, where_, while_loop, with_matmul_precision, with_x64, x64,
};
pub use front::{
    Attention, celu, dot_product_attention, elu_with, glu, hard_sigmoid, hard_silu, hard_swish, identity,
    log_softmax_where, logmeanexp, logspace, selu, sigmoid, softmax_where, softplus, sparse_plus, sparse_sigmoid,
    squareplus, standardize, swish,
};
pub use front::{
    Beyond, Bins, Border, Ellipsis, Index, Indexing, Interp, IntoIndex, Masked, NewAxis, Order, OutOfRange, PadMode,
    Part, Quantile, Side, Step, Unique, append, atleast_1d, atleast_2d, atleast_3d, bincount, block, column_stack,
    corrcoef, cov, cross, delete, dstack, ediff1d, eye, gcd, histogram, histogram_bin_edges, hstack, inner, insert,
    interp, intersect1d, ix_, lcm, lexsort, linspace, map_coordinates, meshgrid, outer, polyval, ravel_multi_index,
    segment_max, segment_min, segment_prod, segment_sum, select_first, select_n, setdiff1d, tensordot, trapezoid, tri,
    tril_indices, triu_indices, union1d, unravel_index, vdot, vstack,
};
pub use front::{
    Pick, ResizeMethod, Windows, associative_scan, avg_pool, image_resize, reduce_window, reduce_window_max,
    reduce_window_min, reduce_window_prod, reduce_window_sum, scale_and_translate, select_and_gather_add,
    select_and_scatter_add,
};
pub use fulgurite_macros::Tree;
pub use graph::Precision;
pub use half::{bf16, f16};
pub use types::scalar::Scalar;
pub use types::{DType, Shape, TensorType};
