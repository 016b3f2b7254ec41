//! Layers: structs of tensors with `new(…, key)` and `call(&self, x)`, as in Equinox, with its initialisation.
//!
//! [`Linear`], [`Mlp`], [`Embedding`], pools and norms over last axes take one example or a batch; other layers take
//! one example, and `vmap` a batch of them. [`BatchNorm`] takes a batch. Activations are plain functions of the
//! compiler crate (`relu`, `gelu`, `silu`, …).

mod attention;
mod batch_norm;
mod conv;
mod dropout;
mod embedding;
pub mod initializers;
mod linear;
mod mlp;
mod norm;
mod pool;
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
pub use pool::{
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d,
    AvgPool1d, AvgPool2d, AvgPool3d, MaxPool1d, MaxPool2d, MaxPool3d,
};
pub use rnn::{GruCell, LstmCell};
