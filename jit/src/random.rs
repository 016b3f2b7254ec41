//! Random numbers as JAX draws them: threefry2x32 with explicit keys, in the partitionable layout, bit for bit
//! (`jax/_src/prng.py`, `jax/_src/random.py` of JAX 0.10). A key is used once: split it for more.

use crate::graph::Op;
use crate::tensor::Tensor;
use crate::trace::apply;
use crate::tree::{Tree, Visitor};
use crate::types::DType;

/// A random key: two u32 words. The same key always gives the same numbers.
#[derive(Clone, Debug)]
pub struct Key(Tensor);

impl Tree for Key {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        self.0.visit(visitor);
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        Key(f(&self.0))
    }
}

impl Key {
    /// The key of a seed (`jax.random.key(seed)`).
    pub fn new(seed: u64) -> Self {
        let words = vec![(seed >> 32) as u32, seed as u32];
        Key(Tensor::from_vec(&[2], words).expect("two words fill u32[2]"))
    }

    /// The key whose words are `data`, `u32[2]`.
    pub fn from_data(data: Tensor) -> Self {
        Key(data)
    }

    /// The two words, `u32[2]`.
    pub fn data(&self) -> &Tensor {
        &self.0
    }

    /// `N` new keys.
    #[track_caller]
    pub fn split<const N: usize>(&self) -> [Key; N] {
        let keys = self.split_n(N);
        std::array::from_fn(|i| Key(keys.index(i)))
    }

    /// `n` new keys as the rows of u32\[n, 2\], to be mapped over with `vmap`.
    #[track_caller]
    pub fn split_n(&self, n: usize) -> Tensor {
        // Key i is threefry of the 64-bit counter i.
        let count = Tensor::arange(DType::U32, n);
        let [a, b] = self.threefry(&count);
        Tensor::stack(&[&a, &b], 1)
    }

    /// A new key from this one and a number.
    #[track_caller]
    pub fn fold_in(&self, data: impl Into<FoldIn>) -> Key {
        let FoldIn(count) = data.into();
        let [a, b] = self.threefry(&count.convert(DType::U32));
        Key(Tensor::stack(&[&a, &b], 0))
    }

    /// Both words of threefry2x32 of this key and the 64-bit counter with high word 0 and low words `count`.
    #[track_caller]
    fn threefry(&self, count: &Tensor) -> [Tensor; 2] {
        let location = std::panic::Location::caller();
        let word = |i: usize| self.0.slice_axis(0, i..i + 1).reshape(&[]).broadcast_to(count.shape());
        let (k0, k1, high) = (word(0), word(1), count.zeros_like());
        [0, 1].map(|w| apply(Op::Threefry(w), &[&k0, &k1, &high, count], location))
    }

    /// u32 of `shape`, all bits random.
    #[track_caller]
    pub fn bits(&self, shape: &[usize]) -> Tensor {
        // The counter of an element is its row-major position.
        let count = Tensor::arange(DType::U32, shape.iter().product());
        let [a, b] = self.threefry(&count);
        a.xor(&b).reshape(shape)
    }

    /// f32 of `shape`, uniform in `low..high`.
    #[track_caller]
    pub fn uniform(&self, shape: &[usize], low: f32, high: f32) -> Tensor {
        (self.unit(shape) * (high - low) + low).maximum(low)
    }

    /// f32 of `shape`, uniform in 0..1: multiples of 2^-23.
    #[track_caller]
    fn unit(&self, shape: &[usize]) -> Tensor {
        // 23 random bits as the mantissa of a number in 1..2.
        let mantissa = self.bits(shape).shift_right_logical(9u32).or(1.0f32.to_bits());
        mantissa.bitcast(DType::F32) - 1.0
    }

    /// f32 of `shape`, standard normal.
    #[track_caller]
    pub fn normal(&self, shape: &[usize]) -> Tensor {
        // The low end of `uniform` is a possible result and must not be -1, whose inverse is infinite.
        let uniform = self.uniform(shape, (-1.0f32).next_up(), 1.0);
        uniform.erf_inv() * std::f64::consts::SQRT_2
    }

    /// f32 of `shape`, standard normal given that it lies between `low` and `high`; neither of them is drawn.
    #[track_caller]
    pub fn truncated_normal(&self, shape: &[usize], low: f32, high: f32) -> Tensor {
        // Uniform between the distribution function at `low` and that at `high` (both as 2Φ - 1), and back.
        let [from, to] = [low, high].map(|x| (Tensor::scalar(x) / std::f64::consts::SQRT_2).erf());
        let uniform = (self.unit(shape) * (to - &from) + &from).maximum(&from);
        (uniform.erf_inv() * std::f64::consts::SQRT_2).clamp(low.next_up(), high.next_down())
    }

    /// f32 of `shape`, exponential with mean 1.
    #[track_caller]
    pub fn exponential(&self, shape: &[usize]) -> Tensor {
        // 1 - u is in (0, 1], where u in [0, 1) could be 0, whose logarithm is infinite.
        -(-self.uniform(shape, 0.0, 1.0)).log1p()
    }

    /// f32 of `shape`, Gumbel: the largest of many exponentials, less the logarithm of how many.
    #[track_caller]
    pub fn gumbel(&self, shape: &[usize]) -> Tensor {
        -(-self.uniform(shape, f32::MIN_POSITIVE, 1.0).log()).log()
    }

    /// A class for each row of unnormalised log-probabilities: logits `[…, classes]` (f32) give i32 `[…]`.
    #[track_caller]
    pub fn categorical(&self, logits: &Tensor) -> Tensor {
        // Class i has the largest sum of logit and Gumbel noise with probability softmax(logits)[i].
        (self.gumbel(logits.shape()) + logits).argmax(-1)
    }

    /// bool of `shape`, true with probability `p`.
    #[track_caller]
    pub fn bernoulli(&self, shape: &[usize], p: f32) -> Tensor {
        self.uniform(shape, 0.0, 1.0).less(p)
    }

    /// i32 of `shape`, uniform in `low..high`.
    #[track_caller]
    pub fn randint(&self, shape: &[usize], low: i32, high: i32) -> Tensor {
        // Two draws make the modulus' bias negligible: (high % span) * (2^32 % span) + low % span, all modulo 2^32.
        let [a, b] = self.split();
        let (upper, lower) = (a.bits(shape), b.bits(shape));
        let span = high.wrapping_sub(low).max(0) as u32;
        let span = if high <= low { 1 } else { span };
        let multiplier = ((1u64 << 16) % u64::from(span)) as u32;
        let multiplier = multiplier.wrapping_mul(multiplier) % span;
        let offset = (upper % span * multiplier + lower % span) % span;
        offset.convert(DType::I32) + low
    }
}

/// What can be folded into a key: a number, or a traced integer scalar.
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
