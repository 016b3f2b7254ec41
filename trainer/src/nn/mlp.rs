//! A multi-layer perceptron.

use fulgurite_jit::random::Key;
use fulgurite_jit::{DType, Tensor, Tree};

use super::Linear;

/// An elementwise function between layers: `relu`, `gelu`, or any `fn` of one tensor.
pub type Activation = fn(&Tensor) -> Tensor;

/// Linear layers with an activation after each but the last.
///
/// ```
/// use fulgurite_jit::{Key, gelu};
/// use fulgurite_trainer::nn::Mlp;
/// let new = |key: Key| Mlp::new(784, 10, 128, 2, gelu, key); // 784 → 128 → 128 → 10
/// ```
#[derive(Clone, Debug, Tree)]
pub struct Mlp {
    /// `depth + 1` layers.
    pub layers: Vec<Linear>,
    /// Between the layers.
    #[tree(static)]
    pub activation: Activation,
}

impl Mlp {
    /// From `inp` features to `out` through `depth` hidden layers of `width` features each; `eqx.nn.MLP`'s numbers.
    #[track_caller]
    pub fn new(inp: usize, out: usize, width: usize, depth: usize, activation: Activation, key: Key) -> Self {
        Mlp::new_as(inp, out, width, depth, activation, key, DType::F32)
    }

    /// As [`Mlp::new`], of another float type; see [`Linear::new_as`].
    #[track_caller]
    pub fn new_as(
        inp: usize,
        out: usize,
        width: usize,
        depth: usize,
        activation: Activation,
        key: Key,
        dtype: DType,
    ) -> Self {
        let keys = key.split_n(depth + 1);
        let layer = |i: usize| {
            let from = if i == 0 { inp } else { width };
            let to = if i == depth { out } else { width };
            Linear::new_as(from, to, Key::wrap_key_data(keys.index_in_dim(i, 0)), dtype)
        };
        Mlp { layers: (0..=depth).map(layer).collect(), activation }
    }

    /// `[…, in]` gives `[…, out]`.
    #[track_caller]
    pub fn call(&self, x: &Tensor) -> Tensor {
        let mut layers = self.layers.iter();
        let Some(first) = layers.next() else { return x.clone() };
        layers.fold(first.call(x), |x, layer| layer.call(&(self.activation)(&x)))
    }
}
