//! Compiled training steps for Rust.
//!
//! Write a pure step function on tensors; the first call traces it, differentiates, fuses and compiles it; every later
//! call is one call of machine code. A thin trainer in the manner of PyTorch Lightning calls it once per batch.
//!
//! This crate re-exports the parts; see the README for a tour, and `fulgurite_jit` for how it works. The trainer is the
//! feature `trainer`, on by default; NVIDIA GPUs are the feature `cuda`, off by default.

pub use fulgurite_autodiff as autodiff;
pub use fulgurite_jit as compiler;
pub use fulgurite_runtime as runtime;
#[cfg(feature = "trainer")]
pub use fulgurite_trainer as trainer;

pub use fulgurite_autodiff::{
    grad, hessian, jacfwd, jacrev, jvp, linear_transpose, linearize, value_and_grad, value_and_grad_aux, vjp, vmap,
    vmap_out,
};
pub use fulgurite_jit::{
    Array, At, Bits, DType, Element, Error, IndexMode, Key, LoopBound, Name, Output, Precision, Result, Scan, Static,
    StaticValue, Tensor, TensorType, Tree, Visitor, bf16, cond, conv, einsum, elu, f16, fft, fori_loop, gelu,
    gelu_exact, hard_tanh, leaky_relu, leaves, linalg, log_sigmoid, log_softmax, map, matmul_precision, mish,
    named_leaves, one_hot, one_hot_as, relu, relu6, scan, select, silu, soft_sign, softmax, sort, special, stats,
    switch, where_, while_loop, with_matmul_precision, with_x64, x64,
};
pub use fulgurite_jit::{
    Attention, celu, dot_product_attention, elu_with, glu, hard_sigmoid, hard_silu, hard_swish, identity,
    log_softmax_where, logmeanexp, logspace, selu, sigmoid, softmax_where, softplus, sparse_plus, sparse_sigmoid,
    squareplus, standardize, swish,
};
pub use fulgurite_jit::{
    Beyond, Bins, Border, Ellipsis, Index, Indexing, Interp, IntoIndex, Masked, NewAxis, Order, OutOfRange, PadMode,
    Part, Quantile, Side, Step, Unique, append, atleast_1d, atleast_2d, atleast_3d, bincount, block, column_stack,
    corrcoef, cov, cross, delete, dstack, ediff1d, eye, gcd, histogram, histogram_bin_edges, hstack, inner, insert,
    interp, intersect1d, ix_, lcm, lexsort, linspace, map_coordinates, meshgrid, outer, polyval, ravel_multi_index,
    segment_max, segment_min, segment_prod, segment_sum, select_first, select_n, setdiff1d, tensordot, trapezoid, tri,
    tril_indices, triu_indices, union1d, unravel_index, vdot, vstack,
};
pub use fulgurite_jit::{
    Pick, ResizeMethod, Windows, associative_scan, avg_pool, image_resize, reduce_window, reduce_window_max,
    reduce_window_min, reduce_window_prod, reduce_window_sum, scale_and_translate, select_and_gather_add,
    select_and_scatter_add,
};
pub use fulgurite_runtime::{
    Bound, Device, Jit, Lowered, copy_to_host_async, device_put, jit, lower, prefetch_to_device, synchronize,
    with_device,
};
#[cfg(feature = "trainer")]
pub use fulgurite_trainer::{ndarray, serde_json};

/// All that a training program usually needs.
pub mod prelude {
    #[cfg(feature = "trainer")]
    pub use crate::trainer::{
        Accelerator, ArrayDataset, Callback, CsvLogger, DataLoader, DataModule, EarlyStopping, LightningModule, Mode,
        ModelCheckpoint, StepCx, TrainState, Trainer,
        loss::{accuracy, cross_entropy, mse},
        nn::{Linear, Mlp},
        optim::{Optimizer, adam, adamw, apply_updates, sgd},
    };
    pub use crate::{
        DType, Error, Jit, Key, Result, Static, Tensor, Tree, gelu, grad, jit, jvp, leaves, log_softmax, one_hot, relu,
        softmax, value_and_grad, value_and_grad_aux, vjp, vmap,
    };
}

/// The README's program, so that it compiles and runs.
#[cfg(all(doctest, feature = "trainer"))]
#[doc = include_str!("../README.md")]
struct Readme;
