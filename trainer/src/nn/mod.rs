//! Layers: structs of tensors with `new(…, key)` and `call(&self, x)`, as in Equinox, with its initialisation.
//!
//! A layer acts on the last axis of its argument, so it takes one example or a batch. Activations are plain
//! functions of the compiler crate (`relu`, `gelu`, `silu`, …).

mod linear;
mod mlp;
mod pool;

pub use linear::Linear;
pub use mlp::{Activation, Mlp};
pub use pool::{
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d,
    AvgPool1d, AvgPool2d, AvgPool3d, MaxPool1d, MaxPool2d, MaxPool3d,
};
