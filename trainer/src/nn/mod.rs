//! Layers: structs of tensors with `new(…, key)` and `call(&self, x)`, as in Equinox, with its initialisation.
//!
//! A layer acts on the last axis of its argument, so it takes one example or a batch; a convolution takes one example,
//! and a batch by `vmap`. Activations are plain
//! functions of the compiler crate (`relu`, `gelu`, `silu`, …).

mod conv;
mod linear;
mod mlp;

pub use conv::{
    Conv, Conv1d, Conv2d, Conv3d, ConvConfig, ConvPadding, ConvTranspose, ConvTranspose1d, ConvTranspose2d,
    ConvTranspose3d, PaddingMode,
};
pub use linear::Linear;
use linear::uniform;
pub use mlp::{Activation, Mlp};
