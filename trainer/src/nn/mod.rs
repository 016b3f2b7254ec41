//! Layers: structs of tensors with `new(…, key)` and `call(&self, x)`, as in Equinox, with its initialisation.
//!
//! A layer acts on the last axis of its argument, so it takes one example or a batch. Activations are plain
//! functions of the compiler crate (`relu`, `gelu`, `silu`, …).

mod linear;
mod mlp;

pub use linear::Linear;
pub use mlp::{Activation, Mlp};
