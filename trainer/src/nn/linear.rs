//! `x Wᵀ + b`.

use fulgurite_jit::graph::DotAxes;
use fulgurite_jit::random::Key;
use fulgurite_jit::{DType, Tensor, Tree};

/// A linear map with a bias.
///
/// ```
/// use fulgurite_jit::{Key, Tensor};
/// use fulgurite_trainer::nn::Linear;
///
/// fn hidden(x: &Tensor, key: Key) -> Tensor {
///     Linear::new(784, 128, key).call(x) // [64, 784] gives [64, 128], [784] gives [128]
/// }
/// ```
#[derive(Clone, Debug, Tree)]
pub struct Linear {
    /// `[out, in]`, as in Equinox and PyTorch.
    pub weight: Tensor,
    /// `[out]`, where there is one.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// From `inp` features to `out`, f32, weight and bias uniform in ±1/√inp: the numbers that `eqx.nn.Linear` draws.
    #[track_caller]
    pub fn new(inp: usize, out: usize, key: Key) -> Self {
        Linear::new_as(inp, out, key, DType::F32)
    }

    /// As [`Linear::new`], of another float type: f64 has the numbers that `eqx.nn.Linear` draws with
    /// `jax_enable_x64`.
    ///
    /// ```
    /// # use fulgurite_jit::{DType, Key};
    /// # use fulgurite_trainer::nn::Linear;
    /// let double = |key: Key| Linear::new_as(2, 32, key, DType::F64);
    /// ```
    #[track_caller]
    pub fn new_as(inp: usize, out: usize, key: Key, dtype: DType) -> Self {
        let [weight_key, bias_key] = key.split();
        let weight = uniform(&weight_key, &[out, inp], inp, dtype);
        Linear { weight, bias: Some(uniform(&bias_key, &[out], inp, dtype)) }
    }

    /// As [`Linear::new`], without a bias.
    #[track_caller]
    pub fn without_bias(inp: usize, out: usize, key: Key) -> Self {
        Linear::without_bias_as(inp, out, key, DType::F32)
    }

    /// As [`Linear::new_as`], without a bias.
    #[track_caller]
    pub fn without_bias_as(inp: usize, out: usize, key: Key, dtype: DType) -> Self {
        // The key is split all the same: the weight is that of the layer with a bias, as in Equinox.
        let [weight_key, _] = key.split();
        Linear { weight: uniform(&weight_key, &[out, inp], inp, dtype), bias: None }
    }

    /// `[…, in]` gives `[…, out]`, of the type that input and weight have in common, as in [`Tensor::matmul`].
    #[track_caller]
    pub fn call(&self, x: &Tensor) -> Tensor {
        // Contracting both last axes reads the weight as it is stored: nothing is transposed.
        let last = x.rank().saturating_sub(1);
        let axes = DotAxes { batch: Default::default(), contract: std::iter::once((last, 1)).collect() };
        let (x, weight) = x.promoted(&self.weight);
        let y = x.dot_general(&weight, axes);
        match &self.bias {
            Some(bias) => y + bias,
            None => y,
        }
    }
}

/// Floats of `shape`, uniform in ±1/√inp. With no inputs at all the limit is 1, as in Equinox.
#[track_caller]
pub(super) fn uniform(key: &Key, shape: &[usize], inp: usize, dtype: DType) -> Tensor {
    let limit = if inp == 0 { 1.0 } else { 1.0 / (inp as f64).sqrt() };
    key.uniform_as(shape, -limit, limit, dtype)
}
