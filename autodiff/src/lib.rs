//! Derivatives and batching of pure functions on tensors.
//!
//! Comes in: a function, written against `Tensor`. Goes out: a function that computes its derivatives ([`grad`],
//! [`jvp`], [`vjp`], [`hessian`], …) or applies it to a batch ([`vmap`]). No program runs here, and no device is used.
//!
//! Every transformation works in two steps:
//!
//! 1. it traces the function on tracers in a new trace, which gives a `Graph`;
//! 2. it walks the graph, and for each op records other ops *in the trace around it*: those that compute the tangent
//!    (`jvp`), the cotangent (`transpose`), or the op for a whole batch (`batch`). Each of the three is one exhaustive
//!    `match` over the ops.
//!
//! The recorded ops are plain ops, so transformations compose in any order and to any depth.
//!
//! **Reverse mode is linearise + transpose** (`linearize`): the tangent rules, run on tracers for the tangents, give
//! a graph in which every value that depends on a tangent is linear in it. That part is run backwards, each linear op
//! replaced by its transpose. There is no second table of derivatives.
//!
//! **Nesting is by traces.** A tensor of an outer trace that a function uses becomes an input of the function's graph,
//! without a tangent there: perturbations of an inner and an outer derivative are never confused.
//!
//! On concrete tensors, outside of any trace, each transformed function runs as one program.

#![warn(clippy::wildcard_enum_match_arm)]

mod api;
mod flat;
mod linearize;
mod partial;
mod partial_cond;
mod rules;

pub use api::{
    InAxes, TreeDef, grad, hessian, jacfwd, jacrev, jvp, linearize, value_and_grad, value_and_grad_aux, vjp, vmap,
    vmap_out,
};
