//! What a user calls: transformations of functions on trees.
//!
//! Trees become lists of leaves and back, and user errors are found. The rules for single ops are in `rules`.

mod grad;
mod jacobian;
mod transpose;
mod vmap;

pub use grad::{grad, jvp, linearize, value_and_grad, value_and_grad_aux, vjp};
pub use jacobian::{hessian, jacfwd, jacrev};
pub use transpose::linear_transpose;
pub use vmap::{InAxes, TreeDef, vmap, vmap_out};
