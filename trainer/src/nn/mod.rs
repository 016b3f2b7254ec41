//! Layers: structs of tensors with `new(…, key)` and `call(&self, x)`, as in Equinox, with its initialisation.
//!
//! [`Linear`], [`Mlp`], [`Embedding`] and the norms over last axes take one example or a batch; other layers take one
//! example, and `vmap` a batch of them. [`BatchNorm`] takes a batch. Activations are plain functions of the compiler
//! crate (`relu`, `gelu`, `silu`, …).

mod attention;
mod batch_norm;
mod conv;
mod dropout;
mod embedding;
mod linear;
mod mlp;
mod norm;
mod rnn;

pub use attention::MultiheadAttention;
pub use batch_norm::BatchNorm;
pub use conv::{
    Conv, Conv1d, Conv2d, Conv3d, ConvConfig, ConvPadding, ConvTranspose, ConvTranspose1d, ConvTranspose2d,
    ConvTranspose3d, PaddingMode,
};
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use linear::Linear;
use linear::uniform;
pub use mlp::{Activation, Mlp};
pub use norm::{GroupNorm, LayerNorm, RmsNorm};
pub use rnn::{GruCell, LstmCell};
