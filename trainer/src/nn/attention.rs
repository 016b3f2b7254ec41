//! Attention of several heads.

use std::panic::Location;

use fulgurite_jit::random::Key;
use fulgurite_jit::{Error, Tensor, Tree, einsum, softmax};

use super::Linear;

/// Attention of several heads (Vaswani et al., arXiv 1706.03762): `softmax(Q Kᵀ / √size) V` for each head, between
/// linear maps without biases, with the numbers that `eqx.nn.MultiheadAttention` draws.
///
/// ```
/// use fulgurite_jit::{DType, Key, Tensor};
/// use fulgurite_trainer::nn::MultiheadAttention;
///
/// let attention = MultiheadAttention::new(4, 32, Key::new(0));
/// let x = Key::new(1).normal(&[10, 32]);
/// let is_past = Tensor::full(&[10, 10], 1.0, DType::Bool).tril();
/// assert_eq!(attention.call(&x, &x, &x, Some(&is_past)).shape(), [10, 32]);
/// ```
#[derive(Clone, Debug, Tree)]
pub struct MultiheadAttention {
    /// Of the queries.
    pub query_proj: Linear,
    /// Of the keys.
    pub key_proj: Linear,
    /// Of the values.
    pub value_proj: Linear,
    /// Of the heads' results, one after the other.
    pub output_proj: Linear,
    /// The number of heads.
    #[tree(static)]
    pub num_heads: usize,
}

impl MultiheadAttention {
    /// `num_heads` heads on `size` features, of which each takes `size / num_heads`.
    #[track_caller]
    pub fn new(num_heads: usize, size: usize, key: Key) -> Self {
        let [q, k, v, o] = key.split();
        let of_heads = size.checked_div(num_heads).unwrap_or(0) * num_heads;
        MultiheadAttention {
            query_proj: Linear::without_bias(size, of_heads, q),
            key_proj: Linear::without_bias(size, of_heads, k),
            value_proj: Linear::without_bias(size, of_heads, v),
            output_proj: Linear::without_bias(of_heads, size, o),
            num_heads,
        }
    }

    /// One sequence: queries `[queries, size]`, keys and values `[keys, size]` give `[queries, size]`. Where `mask`, a
    /// bool `[queries, keys]`, is false, a query does not see a key.
    #[track_caller]
    pub fn call(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>) -> Tensor {
        for x in [query, key, value] {
            if x.rank() != 2 && x.error().is_none() {
                let why = format!("takes sequences of vectors, not {}: use vmap for a batch", x.ty());
                return Tensor::failed(x.ty().clone(), Error::op("attention", why, Location::caller()));
            }
        }
        let [q, k, v] =
            [(&self.query_proj, query), (&self.key_proj, key), (&self.value_proj, value)].map(|(proj, x)| {
                let x = proj.call(x);
                let (rows, features) = (x.shape().first().copied(), x.shape().last().copied());
                let size = features.unwrap_or(0).checked_div(self.num_heads).unwrap_or(0);
                x.reshape(&[rows.unwrap_or(0), self.num_heads, size])
            });
        let size = q.shape()[2] as f64;
        let scores = einsum("shd,Shd->hsS", &[&(q / size.sqrt()), &k]);
        // The lowest float, not -inf: a query that sees nothing is a mean of all, as in Equinox.
        let scores =
            mask.map_or(scores.clone(), |mask| mask.broadcast_to(scores.shape()).select(&scores, f64::from(f32::MIN)));
        let heads = einsum("hsS,Shd->shd", &[&softmax(&scores, -1), &v]);
        let (rows, features) = (heads.shape()[0], heads.shape()[1] * heads.shape()[2]);
        self.output_proj.call(&heads.reshape(&[rows, features]))
    }
}
