//! Derivatives and batching of pure functions on tensors.
//!
//! Comes in: a function, written against `Tensor`. Goes out: a function that computes its derivatives ([`grad`],
//! [`jvp`], [`vjp`], [`hessian`], …) or applies it to a batch ([`vmap`]). Nothing here runs a program or sees a device.
//!
//! Every transformation does the same three things:
//!
//! 1. it traces the function on stand-ins, in a trace of its own, which gives a `Graph`;
//! 2. it walks the graph, and for each op records other ops *in the trace around it*: those that compute the tangent
//!    (`jvp`), the cotangent (`transpose`), or the op for a whole batch (`batch`). Each of the three is one exhaustive
//!    `match` over the ops;
//! 3. that is all. What is recorded are plain ops, so every transformation can be applied to what another made, in any
//!    order and to any depth.
//!
//! **Reverse mode is linearise + transpose** (`linearize`): the tangent rules, run on stand-ins for the tangents, give
//! a graph in which whatever depends on a tangent is linear in it. That part is run backwards, each linear op replaced
//! by its transpose. There is no second table of derivatives to keep consistent with the first.
//!
//! **Nesting is by traces.** A tensor of a trace further out that a function uses becomes an input of the function's
//! own graph, and has no tangent there: an inner derivative never mixes up its perturbation with an outer one's.
//!
//! On concrete tensors, outside of any trace, each transformed function runs as one program.

#![warn(clippy::wildcard_enum_match_arm)]

mod api;
mod flat;
mod linearize;
mod rules;

pub use api::{
    InAxes, Parts, grad, hessian, jacfwd, jacrev, jvp, linearize, value_and_grad, value_and_grad_aux, vjp, vmap,
    vmap_out,
};
