//! Random numbers with explicit keys: threefry2x32 in the partitionable layout, bit for bit as in JAX
//! (`jax/_src/prng.py`, `jax/_src/random.py` of JAX 0.10). A key is used once: split it to draw again.

#[macro_use]
mod macros;

mod continuous;
mod counts;
mod discrete;
mod gamma;

use std::panic::Location;

use super::operand::{Arg, Operand};
use super::sorting::sort;
use super::tensor::Tensor;
use super::trace::{apply_all, as_one_program, tracing};
use super::tree::{Tree, Visitor};
use crate::error::Error;
use crate::graph::Op;
use crate::types::scalar::{FloatFormat, Scalar};
use crate::types::{DType, TensorType, join, product};

/// A random key: two u32 words. Equal keys give equal numbers.
#[derive(Clone, Debug)]
pub struct Key(Tensor);

impl Tree for Key {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        self.0.visit(visitor);
    }
    fn visit_mut<'t>(&'t mut self, visitor: &mut dyn Visitor<'t>) {
        self.0.visit_mut(visitor);
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        Key(f(&self.0))
    }
}

impl Key {
    /// The key of a seed, as `jax.random.key(seed)`.
    pub fn new(seed: u64) -> Self {
        let words = vec![(seed >> 32) as u32, seed as u32];
        Key(Tensor::from_vec(&[2], words).expect("two words fill u32[2]"))
    }

    /// The key with the words `data`, `u32[2]`, as `jax.random.wrap_key_data(data)`.
    pub fn wrap_key_data(data: Tensor) -> Self {
        Key(data)
    }

    /// The words of the key, `u32[2]`, as `jax.random.key_data(key)`.
    pub fn key_data(&self) -> &Tensor {
        &self.0
    }

    /// `N` new keys, as `jax.random.split(key, N)`.
    #[track_caller]
    pub fn split<const N: usize>(&self) -> [Key; N] {
        let keys = self.split_n(N);
        std::array::from_fn(|i| Key(keys.index_in_dim(i, 0)))
    }

    /// The words of `n` new keys as the rows of `u32[n,2]`: the key data of `jax.random.split(key, n)`, for a number of
    /// keys that is not a constant, or for `vmap`. [`Key::wrap_key_data`] makes a key of each row.
    #[track_caller]
    pub fn split_n(&self, n: usize) -> Tensor {
        // Key i is threefry of the 64-bit counter i.
        if let Some(error) = check_count("split", &[n], Location::caller()) {
            return Tensor::failed(TensorType::new(DType::U32, &[n, 2]), error);
        }
        let count = Tensor::arange(DType::U32, n);
        let [a, b] = self.threefry(&count);
        Tensor::stack(&[&a, &b], 1)
    }

    /// A new key from this key and a number, as `jax.random.fold_in(key, data)`.
    #[track_caller]
    pub fn fold_in(&self, data: impl Into<FoldIn>) -> Key {
        let FoldIn(count) = data.into();
        let [a, b] = self.threefry(&count.convert(DType::U32));
        Key(Tensor::stack(&[&a, &b], 0))
    }

    /// Both words of threefry2x32 for this key and a 64-bit counter with high word 0 and low word `count`.
    #[track_caller]
    fn threefry(&self, count: &Tensor) -> [Tensor; 2] {
        let location = Location::caller();
        let word = |i: usize| self.0.slice_in_dim(0, i..i + 1).reshape(&[]).broadcast_to(count.shape());
        let (k0, k1, high) = (word(0), word(1), count.zeros_like());
        let words = apply_all(Op::Threefry, &[&k0, &k1, &high, count], location);
        <[Tensor; 2]>::try_from(words.into_vec()).expect("threefry has two results")
    }

    /// u32 of `shape` with random bits.
    #[track_caller]
    pub fn bits(&self, shape: &[usize]) -> Tensor {
        let [a, b] = self.words(shape);
        a.xor(&b)
    }

    /// Unsigned integers of `shape` with random bits; see [`Key::uniform_as`] for u64.
    ///
    /// ```
    /// # use fulgurite_jit::{DType, Key};
    /// # fn traced(key: Key) {
    /// let bytes = key.bits_as(&[16], DType::U8);
    /// # }
    /// ```
    #[track_caller]
    pub fn bits_as(&self, shape: &[usize], dtype: DType) -> Tensor {
        if !dtype.is_unsigned_int() {
            let what = format!("unsigned integers ({})", DType::names(DType::is_unsigned_int));
            return reject("bits", &what, shape, dtype);
        }
        if dtype.size() <= DType::U32.size() {
            return self.bits(shape).convert(dtype);
        }
        let [high, low] = self.words(shape).map(|word| word.convert(dtype));
        high.shift_left(32).or(low)
    }

    /// Both random words of each element. JAX's 64 random bits are the two words; its 32 random bits are their
    /// exclusive or.
    #[track_caller]
    fn words(&self, shape: &[usize]) -> [Tensor; 2] {
        if let Some(error) = check_count("bits", shape, Location::caller()) {
            return [0, 1].map(|_| Tensor::failed(TensorType::new(DType::U32, shape), error.clone()));
        }
        // The counter of an element is its row-major position.
        let count = product(shape.iter().copied());
        let [a, b] = self.threefry(&Tensor::arange(DType::U32, count));
        [a.reshape(shape), b.reshape(shape)]
    }

    /// f32 of `shape`, uniform in `low..high`: numbers, or tensors that broadcast to `shape`, with derivatives.
    #[track_caller]
    pub fn uniform(&self, shape: &[usize], low: impl Operand, high: impl Operand) -> Tensor {
        self.uniform_as(shape, low, high, DType::F32)
    }

    /// Floats of `shape`, uniform in `low..high`, as [`Key::uniform`]. f64 has the bits that JAX draws with
    /// `jax_enable_x64`, which differ from those of f32.
    ///
    /// ```
    /// # use fulgurite_jit::{DType, Key};
    /// # fn traced(key: Key) {
    /// let angles = key.uniform_as(&[16], 0.0, std::f64::consts::TAU, DType::F64);
    /// # }
    /// ```
    #[track_caller]
    pub fn uniform_as(&self, shape: &[usize], low: impl Operand, high: impl Operand, dtype: DType) -> Tensor {
        match (low.operand(), high.operand()) {
            (Arg::Weak(low), Arg::Weak(high)) => self.uniform_between(shape, [low.to_f64(), high.to_f64()], dtype),
            (low, high) => self.uniform_within(shape, [low, high], dtype),
        }
    }

    #[track_caller]
    fn uniform_between(&self, shape: &[usize], bounds: [f64; 2], dtype: DType) -> Tensor {
        if !tracing() {
            return self.draw_eagerly(|key| key.uniform_between(shape, bounds, dtype));
        }
        if let Err(rejected) = check_float("uniform", shape, dtype) {
            return rejected;
        }
        let [low, high] = bounds.map(|x| rounded(x, dtype));
        (self.unit(shape, dtype) * rounded(high - low, dtype) + low).maximum(low)
    }

    /// Floats of `shape`, uniform in 0..1: multiples of 2^-23, or of the last place of another type.
    #[track_caller]
    fn unit(&self, shape: &[usize], dtype: DType) -> Tensor {
        match dtype {
            DType::F64 => {
                // 52 random bits as a fraction: 32 of one word and 20 of the other.
                let [high, low] = self.words(shape);
                let low = low.shift_right_logical(12u32).convert(DType::F64) * 2f64.powi(-52);
                high.convert(DType::F64) * 2f64.powi(-32) + low
            }
            DType::F32 => {
                // 23 random bits as the mantissa of a number in 1..2, minus 1.
                let mantissa = self.bits(shape).shift_right_logical(9u32).or(1.0f32.to_bits());
                mantissa.bitcast(DType::F32) - 1.0
            }
            _ => {
                // As many of the low 8 or 16 bits as the fraction has.
                let fraction = dtype.float().expect("other types are rejected before").fraction;
                let bits: u32 = if fraction < 8 { 8 } else { 16 };
                let places = self.bits(shape).and((1u32 << bits) - 1).shift_right_logical(bits - fraction);
                (places.convert(DType::F32) * 2f64.powi(-(fraction as i32))).convert(dtype)
            }
        }
    }

    /// f32 of `shape`, standard normal.
    #[track_caller]
    pub fn normal(&self, shape: &[usize]) -> Tensor {
        self.normal_as(shape, DType::F32)
    }

    /// Floats of `shape`, standard normal; see [`Key::uniform_as`] for f64.
    #[track_caller]
    pub fn normal_as(&self, shape: &[usize], dtype: DType) -> Tensor {
        if !tracing() {
            return self.draw_eagerly(|key| key.normal_as(shape, dtype));
        }
        if let Err(rejected) = check_float("normal", shape, dtype) {
            return rejected;
        }
        // The lower bound of `uniform` is a possible result and must not be -1, where `erf_inv` is infinite.
        let uniform = self.uniform_as(shape, next_up(-1.0, dtype), 1.0, dtype);
        uniform.erf_inv() * std::f64::consts::SQRT_2
    }

    /// f32 of `shape`, standard normal truncated to the open interval (`low`, `high`): numbers, or tensors that
    /// broadcast to `shape`, with derivatives.
    #[track_caller]
    pub fn truncated_normal(&self, shape: &[usize], low: impl Operand, high: impl Operand) -> Tensor {
        self.truncated_normal_as(shape, low, high, DType::F32)
    }

    /// Floats of `shape`, as [`Key::truncated_normal`]; see [`Key::uniform_as`] for f64.
    #[track_caller]
    pub fn truncated_normal_as(&self, shape: &[usize], low: impl Operand, high: impl Operand, dtype: DType) -> Tensor {
        match (low.operand(), high.operand()) {
            (Arg::Weak(low), Arg::Weak(high)) => {
                self.truncated_normal_between(shape, [low.to_f64(), high.to_f64()], dtype)
            }
            (low, high) => self.truncated_normal_within(shape, [low, high], dtype),
        }
    }

    #[track_caller]
    fn truncated_normal_between(&self, shape: &[usize], bounds: [f64; 2], dtype: DType) -> Tensor {
        if !tracing() {
            return self.draw_eagerly(|key| key.truncated_normal_between(shape, bounds, dtype));
        }
        if let Err(rejected) = check_float("truncated_normal", shape, dtype) {
            return rejected;
        }
        // Inverse transform sampling: uniform between 2Φ(low) - 1 and 2Φ(high) - 1.
        let [low, high] = bounds;
        let [from, to] = bounds.map(|x| (Tensor::literal(x, dtype) / std::f64::consts::SQRT_2).erf());
        let uniform = (self.unit(shape, dtype) * (to - &from) + &from).maximum(&from);
        let normal = uniform.erf_inv() * std::f64::consts::SQRT_2;
        normal.clip(next_up(low, dtype), -next_up(-high, dtype))
    }

    /// f32 of `shape`, exponential with mean 1.
    #[track_caller]
    pub fn exponential(&self, shape: &[usize]) -> Tensor {
        self.exponential_as(shape, DType::F32)
    }

    /// Floats of `shape`, exponential with mean 1; see [`Key::uniform_as`] for f64.
    #[track_caller]
    pub fn exponential_as(&self, shape: &[usize], dtype: DType) -> Tensor {
        if !tracing() {
            return self.draw_eagerly(|key| key.exponential_as(shape, dtype));
        }
        // log(1 - u), since u in [0, 1) can be 0, where log(u) is infinite.
        -(-self.uniform_as(shape, 0.0, 1.0, dtype)).log1p()
    }

    /// f32 of `shape`, standard Gumbel.
    #[track_caller]
    pub fn gumbel(&self, shape: &[usize]) -> Tensor {
        self.gumbel_as(shape, DType::F32)
    }

    /// Floats of `shape`, standard Gumbel; see [`Key::uniform_as`] for f64.
    #[track_caller]
    pub fn gumbel_as(&self, shape: &[usize], dtype: DType) -> Tensor {
        if !tracing() {
            return self.draw_eagerly(|key| key.gumbel_as(shape, dtype));
        }
        // A type that has none is rejected below.
        let least = dtype.float().map_or(0.0, FloatFormat::least_normal);
        -(-self.uniform_as(shape, least, 1.0, dtype).log()).log()
    }

    /// A class index for each vector of unnormalised log-probabilities: logits `[…, classes]` (f32 or f64) give i32
    /// `[…]`.
    #[track_caller]
    pub fn categorical(&self, logits: &Tensor) -> Tensor {
        // The Gumbel-max trick: class i has the largest logit plus noise with probability softmax(logits)[i].
        let dtype = if logits.dtype().is_float() { logits.dtype() } else { DType::F32 };
        (self.gumbel_as(logits.shape(), dtype) + logits).argmax(-1)
    }

    /// bool of `shape`, true with probability `p`: a number, or a tensor that broadcasts to `shape`.
    #[track_caller]
    pub fn bernoulli(&self, shape: &[usize], p: impl Operand) -> Tensor {
        match p.operand() {
            Arg::Weak(p) => self.uniform(shape, 0.0, 1.0).less(p.to_f64()),
            p => self.bernoulli_within(shape, p),
        }
    }

    /// i32 of `shape`, uniform in `low..high`; `low` if `high <= low`. Bounds are clamped to the range of i32:
    /// `i32::MIN` and `1_i64 << 31` draw from all values.
    ///
    /// ```
    /// # use fulgurite_jit::Key;
    /// # fn traced(key: Key) {
    /// let digits = key.randint(&[64], 0, 10);
    /// # }
    /// ```
    #[track_caller]
    pub fn randint(&self, shape: &[usize], low: impl Into<i128>, high: impl Into<i128>) -> Tensor {
        self.randint_as(shape, low, high, DType::I32)
    }

    /// As [`Key::randint`], of any integer type.
    #[track_caller]
    pub fn randint_as(&self, shape: &[usize], low: impl Into<i128>, high: impl Into<i128>, dtype: DType) -> Tensor {
        let (Scalar::Int(least), Scalar::Int(greatest), true) = (dtype.range().0, dtype.range().1, dtype.is_int())
        else {
            let what = format!("integers ({})", DType::names(DType::is_int));
            return reject("randint", &what, shape, dtype);
        };
        if dtype.size() < DType::I32.size() {
            // Drawn in i32, so that the bias is that of more bits. One more than the greatest is a bound there.
            let (low, high) = (low.into().clamp(least, greatest), high.into().clamp(least, greatest + 1));
            return self.randint_as(shape, low, high, DType::I32).convert(dtype);
        }
        let (low, beyond) = (low.into().clamp(least, greatest), high.into());
        let high = beyond.clamp(least, greatest);
        let unsigned = dtype.int_of_size(false);
        // The number of values modulo 2^n, of n bits: 0 for all of them.
        let span = if high <= low { 1 } else { (high - low + i128::from(beyond > greatest)) as u64 & unsigned.ones() };
        // Two draws make the modulo bias negligible: (first % span) * (2^n % span) + second % span, modulo 2^n.
        let [a, b] = self.split();
        let (upper, lower) = (a.bits_as(shape, unsigned), b.bits_as(shape, unsigned));
        let offset = if span == 0 {
            lower
        } else {
            let half = (1u64 << (dtype.width() / 2)) % span;
            let multiplier = (half.wrapping_mul(half) & unsigned.ones()) % span;
            let [span, multiplier] = [span, multiplier].map(|x| Tensor::literal(x, unsigned));
            (upper % &span * multiplier + lower % &span) % span
        };
        offset.convert(dtype) + Tensor::literal(low, dtype)
    }

    /// `0..n` in a random order, i32: `jax.random.permutation(key, n)`.
    #[track_caller]
    pub fn permutation(&self, n: usize) -> Tensor {
        if !tracing() {
            return self.draw_eagerly(|key| key.permutation(n));
        }
        // Each round sorts by random words. Of so many, equal words are rare enough.
        let rounds = (3.0 * (n.max(1) as f64).ln() / f64::from(u32::MAX).ln()).ceil() as usize;
        let (mut key, mut x) = (self.clone(), Tensor::arange(DType::I32, n));
        for _ in 0..rounds {
            let [next, draw] = key.split();
            x = sort(&[&draw.bits(&[n]), &x], 0, 1).swap_remove(1);
            key = next;
        }
        x
    }

    /// Draws outside of any trace. The ops run as one program, as inside a compiled function, so that both give the
    /// same bits.
    #[track_caller]
    fn draw_eagerly(&self, draw: impl FnOnce(&Key) -> Tensor) -> Tensor {
        let drawn = as_one_program(std::slice::from_ref(&self.0), |key| vec![draw(&Key(key[0].clone()))]);
        let drawn = drawn.into_iter().next().expect("one draw");
        match drawn.error() {
            Some(error) => Tensor::failed(drawn.ty().clone(), error.clone().at(Location::caller())),
            None => drawn,
        }
    }
}

/// The error for a draw of `shape`, if it has more elements than there are counters.
fn check_count(op: &str, shape: &[usize], location: &'static Location<'static>) -> Option<Error> {
    (product(shape.iter().copied()) as u64 > 1 << 32).then(|| {
        let why = format!("[{}] has more elements than a key has numbers (2^32)", join(shape, ","));
        Error::op(op, why, location)
    })
}

/// `x` rounded to `dtype`.
fn rounded(x: f64, dtype: DType) -> f64 {
    dtype.value(dtype.bits(x)).to_f64()
}

/// The smallest number of `dtype` above `x`.
fn next_up(x: f64, dtype: DType) -> f64 {
    dtype.float().map_or(x, |format| format.next_up(x))
}

/// Checks that `dtype` is a float type. The error is the poisoned result.
#[track_caller]
fn check_float(op: &str, shape: &[usize], dtype: DType) -> Result<(), Tensor> {
    if dtype.is_float() {
        return Ok(());
    }
    let what = format!("floats ({})", DType::names(DType::is_float));
    Err(reject(op, &what, shape, dtype))
}

#[track_caller]
fn reject(op: &str, what: &str, shape: &[usize], dtype: DType) -> Tensor {
    let error = Error::op(op, format!("draws {what}, not {dtype}"), Location::caller());
    Tensor::failed(TensorType::new(dtype, shape), error)
}

/// The data of [`Key::fold_in`]: a number, or a traced integer scalar.
pub struct FoldIn(Tensor);

impl From<u32> for FoldIn {
    fn from(x: u32) -> Self {
        FoldIn(Tensor::scalar(x))
    }
}

impl From<&Tensor> for FoldIn {
    fn from(x: &Tensor) -> Self {
        FoldIn(x.clone())
    }
}
