//! Attention: `jax.nn.dot_product_attention`.
//!
//! Queries, keys and values come in, a mean of the values for each query goes out. It is composed of two products of
//! matrices and a softmax; nothing is kept from one call to the next.

use std::panic::Location;

use super::einsum::einsum;
use super::nn::softmax;
use super::operand::reject;
use super::tensor::Tensor;
use crate::error::Error;
use crate::types::DType;

/// What hides keys from queries, and how scores are scaled. The default hides nothing.
#[derive(Clone, Debug, Default)]
pub struct Attention {
    /// Added to the scaled scores: `[batch, heads, queries, keys]`, each 1 or whole.
    pub bias: Option<Tensor>,
    /// Where a query sees a key, bool: `[batch, heads, queries, keys]`, each 1 or whole.
    pub mask: Option<Tensor>,
    /// The factor of the scores; `1 / √size` where it is not given.
    pub scale: Option<f64>,
    /// A query sees keys up to its own position.
    pub is_causal: bool,
    /// The number of queries of each example, i32 `[batch]`; the results behind them are 0.
    pub query_seq_lengths: Option<Tensor>,
    /// The number of keys of each example, i32 `[batch]`.
    pub key_value_seq_lengths: Option<Tensor>,
    /// A query sees so many keys before and after its own position.
    pub local_window_size: Option<(usize, usize)>,
}

/// `softmax(scale · Q Kᵀ + bias) V` for each head (Vaswani et al., arXiv 1706.03762), as
/// `jax.nn.dot_product_attention`: queries `[batch, queries, heads, size]`, keys and values
/// `[batch, keys, groups, size]` give `[batch, queries, heads, size]`. Operands of rank 3 have no batch axis. Where
/// there are fewer groups than heads, consecutive heads share one. A query that sees no key gets the mean
/// of all values.
///
/// ```
/// use fulgurite_jit::{Attention, Tensor, dot_product_attention};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let (q, k) = (Tensor::ones(&[2, 5, 4, 8]), Tensor::ones(&[2, 5, 2, 8]));
/// let causal = Attention { is_causal: true, ..Attention::default() };
/// let y = dot_product_attention(&q, &k, &k, &causal);
/// assert_eq!(y.shape(), [2, 5, 4, 8]);
/// # vec![y]
/// # }).unwrap();
/// ```
///
/// # Errors
/// The result stands for an error if operands are not of the same floats, shapes do not match, or the heads do not
/// divide into groups.
#[track_caller]
pub fn dot_product_attention(query: &Tensor, key: &Tensor, value: &Tensor, how: &Attention) -> Tensor {
    let fail = |why: String| reject(&[query, key, value], Error::op("dot_product_attention", why, Location::caller()));
    if query.error().or(key.error()).or(value.error()).is_some() {
        return fail(String::new());
    }
    if let Some(why) = mistake(query, key, value, how) {
        return fail(why);
    }
    if query.rank() == 3 {
        let [q, k, v] = [query, key, value].map(|x| x.expand_dims(0));
        return dot_product_attention(&q, &k, &v, how).squeeze(0);
    }
    let &[batch, queries, heads, size] = query.shape() else { unreachable!("ranks are checked") };
    let (keys, groups) = (key.shape()[1], key.shape()[2]);
    let scale = how.scale.unwrap_or(1.0 / (size as f64).sqrt());

    let grouped = query.reshape(&[batch, queries, groups, heads / groups, size]);
    let scores = einsum("btkgh,bskh->bkgts", &[&grouped, key]).reshape(&[batch, heads, queries, keys]) * scale;
    let scores = how.bias.as_ref().map_or(scores.clone(), |bias| &scores + bias.convert(scores.dtype()));
    // Hidden scores are finite: a row of nothing else is uniform.
    let hidden = -0.7 * f64::from(f32::MAX);
    let scores = match seen(batch, queries, keys, how) {
        Some(seen) => seen.select(&scores, hidden),
        None => scores,
    };
    let weights = softmax(&scores, -1).reshape(&[batch, groups, heads / groups, queries, keys]);
    let result = einsum("bkgts,bskh->btkgh", &[&weights, value]).reshape(query.shape());
    let Some(lengths) = &how.query_seq_lengths else { return result };
    let time = Tensor::iota(DType::I32, &[batch, queries, 1, 1], 1);
    time.less(lengths.reshape(&[batch, 1, 1, 1])).select(&result, 0.0)
}

/// Where queries see keys, if anything is hidden: a bool that broadcasts to `[batch, heads, queries, keys]`.
#[track_caller]
fn seen(batch: usize, queries: usize, keys: usize, how: &Attention) -> Option<Tensor> {
    let place = |axis: usize| Tensor::iota(DType::I32, &[1, 1, queries, keys], axis);
    let mut masks: Vec<Tensor> = how.mask.iter().cloned().collect();
    if how.is_causal {
        masks.push(place(2).greater_equal(place(3)));
    }
    if let Some((before, after)) = how.local_window_size {
        masks.push(place(2).less_equal(place(3) + before as i32));
        masks.push(place(2).greater_equal(place(3) - after as i32));
    }
    let lengths = [(2, &how.query_seq_lengths), (3, &how.key_value_seq_lengths)];
    masks.extend(
        lengths
            .into_iter()
            .filter_map(|(axis, lengths)| Some(place(axis).less(lengths.as_ref()?.reshape(&[batch, 1, 1, 1])))),
    );
    masks.into_iter().reduce(|x, y| x.and(y))
}

/// What is wrong with the operands.
fn mistake(query: &Tensor, key: &Tensor, value: &Tensor, how: &Attention) -> Option<String> {
    let types = format!("{}, {} and {}", query.ty(), key.ty(), value.ty());
    let rank = query.rank();
    if !query.dtype().is_float() || [key, value].iter().any(|x| x.dtype() != query.dtype()) {
        return Some(format!("takes queries, keys and values of one float type, not {types}"));
    }
    if !matches!(rank, 3 | 4) || key.rank() != rank || key.shape() != value.shape() {
        return Some(format!(
            "takes queries [batch, queries, heads, size] and two of [batch, keys, groups, size]: {types}"
        ));
    }
    let (q, k) = (query.shape(), key.shape());
    if q[..rank - 3] != k[..rank - 3] || q[rank - 1] != k[rank - 1] {
        return Some(format!("the batches or the sizes of heads differ: {types}"));
    }
    let (heads, groups) = (q[rank - 2], k[rank - 2]);
    if groups == 0 || heads % groups != 0 {
        return Some(format!("{heads} heads do not divide into {groups} groups: {types}"));
    }
    let batch = if rank == 4 { q[0] } else { 1 };
    let full = [batch, heads, q[rank - 3], k[rank - 3]];
    let broadcasts =
        |x: &Tensor| x.rank() <= 4 && x.shape().iter().rev().zip(full.iter().rev()).all(|(&n, &to)| n == 1 || n == to);
    if let Some(x) = how.bias.iter().chain(&how.mask).find(|x| x.error().is_none() && !broadcasts(x)) {
        return Some(format!("a bias or a mask, {}, does not broadcast to {full:?}", x.ty()));
    }
    if let Some(mask) = how.mask.iter().find(|x| x.error().is_none() && x.dtype() != DType::Bool) {
        return Some(format!("the mask is {}, not of bools", mask.ty()));
    }
    let lengths = how.query_seq_lengths.iter().chain(&how.key_value_seq_lengths);
    let bad = lengths.into_iter().find(|x| x.error().is_none() && (!x.dtype().is_int() || x.shape() != [batch]));
    bad.map(|x| format!("lengths are integers [{batch}], not {}", x.ty()))
}
