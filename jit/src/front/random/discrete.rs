//! Draws of integers, of bools and of elements of tensors: the algorithms, and so the bits, of `jax.random`
//! 0.10.
//!
//! A key, a shape and parameters come in; integers, bools or elements of a tensor go out. Draws that need a rejection
//! loop are in `counts`.

use std::panic::Location;

use super::super::operand::{Arg, Operand, reject as rejected, resolve};
use super::super::tensor::Tensor;
use super::super::trace::as_one_program;
use super::{Key, reject};
use crate::error::Error;
use crate::types::{DType, join, product};

impl Key {
    /// i32 of `shape`: -1 or 1, each with probability 1/2.
    #[track_caller]
    pub fn rademacher(&self, shape: &[usize]) -> Tensor {
        self.rademacher_as(shape, DType::I32)
    }

    /// As [`Key::rademacher`], of any signed type of numbers.
    #[track_caller]
    pub fn rademacher_as(&self, shape: &[usize], dtype: DType) -> Tensor {
        if !dtype.is_float() && !dtype.is_signed_int() {
            return reject("rademacher", "floats or signed integers", shape, dtype);
        }
        (self.bernoulli(shape, 0.5).convert(DType::I32) * 2 - 1).convert(dtype)
    }

    /// bool of `shape`, true with probability `p`, from twice the random bits: exact for `p` near 0.
    /// `jax.random.bernoulli(mode="high")`.
    #[track_caller]
    pub fn bernoulli_high(&self, shape: &[usize], p: impl Operand) -> Tensor {
        self.sample("bernoulli", shape, [p.operand()], DType::F32, |key, [p]| {
            let u = key.unit(&[&[2], shape].concat(), DType::F32);
            (u.index_in_dim(1, 0) * f64::from(f32::EPSILON)).less(p - u.index_in_dim(0, 0))
        })
    }

    /// bool of `shape`, true with the probabilities `p`, which broadcast to it.
    #[track_caller]
    pub(super) fn bernoulli_within(&self, shape: &[usize], p: Arg) -> Tensor {
        let dtype = match &p {
            Arg::Tensor(p) if p.dtype().is_float() => p.dtype(),
            _ => DType::F32,
        };
        self.sample("bernoulli", shape, [p], dtype, |key, [p]| key.uniform_as(shape, 0.0, 1.0, dtype).less(p))
    }

    /// i32 of `shape`: the number of trials of success probability `p` up to the first success, at least 1.
    #[track_caller]
    pub fn geometric(&self, shape: &[usize], p: impl Operand) -> Tensor {
        let drawn = self.sample("geometric", shape, [p.operand()], DType::F32, |key, [p]| {
            let u = key.unit(shape, DType::F32);
            let u = u.equal(0.0).select(1.0, &u);
            (u.log() / (-p).log1p()).floor() + 1.0
        });
        drawn.convert(DType::I32)
    }

    /// Integers of `shape`, uniform in `low..high`, integer tensors of one type that broadcast to it; `low` where
    /// `high <= low`: the case of `jax.random.randint` with bounds that are arrays.
    ///
    /// ```
    /// # use fulgurite_jit::{Key, Tensor};
    /// # fn traced(key: Key) {
    /// let high = Tensor::from_vec(&[3], vec![2i32, 10, 100]).unwrap();
    /// let digits = key.randint_within(&[5, 3], &high.zeros_like(), &high);
    /// # }
    /// ```
    #[track_caller]
    pub fn randint_within(&self, shape: &[usize], low: &Tensor, high: &Tensor) -> Tensor {
        let dtype = low.dtype();
        if high.dtype() != dtype || !dtype.is_int() {
            let why = format!("takes bounds of one type of integers, not {} and {}", low.ty(), high.ty());
            return rejected(&[low, high], Error::op("randint", why, Location::caller()));
        }
        if dtype.size() < DType::I32.size() {
            let [low, high] = [low, high].map(|bound| bound.convert(DType::I32));
            return self.randint_within(shape, &low, &high).convert(dtype);
        }
        let inputs = [self.0.clone(), low.clone(), high.clone()];
        let drawn = as_one_program(&inputs, |inputs| {
            let [low, high] = [1, 2].map(|i| inputs[i].broadcast_to(shape));
            let unsigned = dtype.int_of_size(false);
            let [upper, lower] = Key(inputs[0].clone()).split().map(|key| key.bits_as(shape, unsigned));
            let span = high.less_equal(&low).select(1, (&high - &low).bitcast(unsigned));
            // As for numbers: (upper % span) (2^n % span) + lower % span, modulo 2^n.
            let half = Tensor::literal(1u64 << (unsigned.width() / 2), unsigned) % &span;
            let factor = (&half * &half) % &span;
            let offset = (upper % &span * factor + lower % &span) % &span;
            vec![low + offset.bitcast(dtype)]
        });
        drawn.into_iter().next().expect("one draw")
    }

    /// Class indices, i32, for each vector of unnormalised log-probabilities along `axis`: `draws` of them, as
    /// `[draws…, …logits without the axis]`: `jax.random.categorical(key, logits, axis, shape, replace)`. Without
    /// replacement, no class is drawn twice for a vector.
    ///
    /// ```
    /// # use fulgurite_jit::{Key, Tensor};
    /// # fn traced(key: Key, logits: &Tensor) {
    /// let three = key.categorical_with(logits, -1, &[3], false); // f32[8,5] gives i32[3,8]
    /// # }
    /// ```
    ///
    /// # Errors
    /// The result stands for an error if there is no such axis, the logits are no floats, or more classes are to be
    /// drawn without replacement than there are.
    #[track_caller]
    pub fn categorical_with(&self, logits: &Tensor, axis: isize, draws: &[usize], replace: bool) -> Tensor {
        let fail = |why: String| rejected(&[logits], Error::op("categorical", why, Location::caller()));
        let Some(along) = resolve(axis, logits.rank()) else {
            return fail(format!("{} has no axis {axis}", logits.ty()));
        };
        if !logits.dtype().is_float() {
            return fail(format!("the logits are {}, not floats", logits.ty()));
        }
        let (shape, classes, count) = (logits.shape(), logits.shape()[along], product(draws.iter().copied()));
        if !replace && count > classes {
            return fail(format!("{count} draws without replacement of {classes} classes"));
        }
        let drawn = as_one_program(&[self.0.clone(), logits.clone()], |inputs| {
            let (key, logits) = (Key(inputs[0].clone()), &inputs[1]);
            if replace {
                let noise = key.gumbel_as(&[draws, shape].concat(), logits.dtype());
                return vec![(noise + logits).argmax((draws.len() + along) as isize)];
            }
            let noisy = (key.gumbel_as(shape, logits.dtype()) + logits).moveaxis(along as isize, -1);
            let batch = noisy.shape()[..noisy.rank() - 1].to_vec();
            let (_, indices) = noisy.top_k(count);
            vec![indices.moveaxis(-1, 0).reshape(&[draws, &batch].concat())]
        });
        drawn.into_iter().next().expect("one draw")
    }

    /// Elements of `a` along its first axis, drawn with replacement or without: `jax.random.choice(key, a, shape,
    /// replace)`. `a[n, …]` gives `[shape…, …]`.
    ///
    /// ```
    /// # use fulgurite_jit::{Key, Tensor};
    /// # fn traced(key: Key, examples: &Tensor) {
    /// let batch = key.choice(examples, &[32], false);
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Key::choice_with`].
    #[track_caller]
    pub fn choice(&self, a: &Tensor, shape: &[usize], replace: bool) -> Tensor {
        self.choice_with(a, shape, replace, None, 0)
    }

    /// Numbers in `0..n`, i32 of `shape`, drawn with replacement or without: `jax.random.choice(key, n, shape,
    /// replace)`.
    ///
    /// # Errors
    /// See [`Key::choice_with`].
    #[track_caller]
    pub fn choice_of(&self, n: usize, shape: &[usize], replace: bool) -> Tensor {
        self.choice(&Tensor::arange(DType::I32, n), shape, replace)
    }

    /// As [`Key::choice`], along an axis, with the probabilities `p` (`[n]`, which need not sum to 1 without
    /// replacement): `jax.random.choice(key, a, shape, replace, p, axis)`.
    ///
    /// # Errors
    /// The result stands for an error if there is no such axis, nothing to draw from, fewer elements than are drawn
    /// without replacement, or `p` is not one float for each.
    #[track_caller]
    pub fn choice_with(&self, a: &Tensor, shape: &[usize], replace: bool, p: Option<&Tensor>, axis: isize) -> Tensor {
        let fail = |why: String| rejected(&[a], Error::op("choice", why, Location::caller()));
        let Some(along) = resolve(axis, a.rank()) else { return fail(format!("{} has no axis {axis}", a.ty())) };
        let (n, draws) = (a.shape()[along], product(shape.iter().copied()));
        if n == 0 && draws > 0 {
            return fail(format!("{} has no elements along axis {axis} to draw from", a.ty()));
        }
        if !replace && draws > n {
            return fail(format!("{draws} draws ([{}]) without replacement of {n} elements", join(shape, ",")));
        }
        if let Some(p) = p.filter(|p| p.error().is_none() && (p.shape() != [n] || !p.dtype().is_float())) {
            return fail(format!("there is to be one probability for each of {n} elements, not {}", p.ty()));
        }
        let mut inputs = vec![self.0.clone(), a.clone()];
        inputs.extend(p.cloned());
        let drawn = as_one_program(&inputs, |inputs| {
            let (key, a) = (Key(inputs[0].clone()), &inputs[1]);
            let indices = match (inputs.get(2), replace) {
                _ if draws == 0 => Tensor::full(shape, 0, DType::I32),
                (None, true) => key.randint(shape, 0, n as i64),
                (None, false) => key.permutation(n).slice_in_dim(0, 0..draws).reshape(shape),
                (Some(p), true) => {
                    let sums = cumulative(p);
                    let (least, dtype) = (sums.slice_in_dim(0, n - 1..n).reshape(&[]), p.dtype());
                    let r = (1.0 - key.uniform_as(shape, 0.0, 1.0, dtype)) * least;
                    // The first sum that is not below r.
                    sums.less(r.expand_dims(-1)).convert(DType::I32).sum_axes(-1)
                }
                (Some(p), false) => (key.gumbel_as(&[n], p.dtype()) + p.log()).top_k(draws).1.reshape(shape),
            };
            vec![a.take(&indices, along as isize)]
        });
        drawn.into_iter().next().expect("one draw")
    }
}

/// The sums of the elements up to each, along the first axis.
pub(super) fn cumulative(x: &Tensor) -> Tensor {
    let n = x.shape()[0];
    let mut sums = x.clone();
    let mut by = 1;
    let zeros = vec![0; x.rank()];
    let no_interior = vec![0; x.rank()];
    while by < n {
        let mut low = zeros.clone();
        low[0] = by as isize;
        let before = sums.slice_in_dim(0, 0..n - by).pad(0.0, &low, &zeros, &no_interior);
        sums = sums + before;
        by *= 2;
    }
    sums
}
