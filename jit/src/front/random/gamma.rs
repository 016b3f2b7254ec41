//! Draws from the gamma distribution and those made of it: the algorithms, and so the bits, of `jax.random` 0.10.
//!
//! A key, a shape and parameters come in, floats of the shape go out, as in `continuous`. Each element has its key
//! and a loop that ends when its draw is accepted (Marsaglia & Tsang: A simple method for generating gamma
//! variables, 2000); the loops of all elements are one.

use super::super::loops::while_loop;
use super::super::nn::softmax;
use super::super::operand::{Arg, Operand};
use super::super::tensor::Tensor;
use super::super::trace::{apply_all, tracing};
use super::{Key, next_up, rounded};
use crate::graph::Op;
use crate::types::{DType, product};

draws_with! {
    /// Beta with the parameters `a` and `b`.
    beta beta_as(a, b) = |key, shape, dtype| {
        let [of_a, of_b] = key.split();
        let (x, y) = (of_a.loggamma_as(shape, a, dtype), of_b.loggamma_as(shape, b, dtype));
        let max = x.maximum(&y);
        let (x, y) = ((x - &max).exp(), (y - &max).exp());
        &x / (&x + y)
    };
    /// Student's t with `df` degrees of freedom.
    t t_as(df) = |key, shape, dtype| {
        let [normal, gamma] = key.split();
        let half = df / 2.0;
        normal.normal_as(shape, dtype) * (&half / gamma.gamma_as(shape, &half, dtype)).sqrt()
    };
    /// Chi-square with `df` degrees of freedom.
    chisquare chisquare_as(df) = |key, shape, dtype| key.loggamma_as(shape, df / 2.0, dtype).exp() * 2.0;
    /// F with `dfnum` and `dfden` degrees of freedom.
    f f_as(dfnum, dfden) = |key, shape, dtype| {
        let [of_den, of_num] = key.split();
        let num = of_num.chisquare_as(shape, &dfnum, dtype) / &dfnum;
        num / (of_den.chisquare_as(shape, &dfden, dtype) / &dfden)
    };
}

impl Key {
    /// Gamma with the shape parameter `a` and scale 1.
    ///
    /// f32 of `shape`, to which `a` broadcasts. The derivative by `a` is the implicit one, of the draw at a fixed value
    /// of its distribution function (Figurnov et al., arXiv 1805.08498).
    ///
    /// ```
    /// # use fulgurite_jit::{Key, Tensor};
    /// # fn traced(key: Key, shapes: &Tensor) {
    /// let draws = key.gamma(&[100, 3], shapes); // f32[3]
    /// # }
    /// ```
    #[track_caller]
    pub fn gamma(&self, shape: &[usize], a: impl Operand) -> Tensor {
        self.gamma_as(shape, a, DType::F32)
    }

    /// As [`Key::gamma`], of a float type; see [`Key::uniform_as`] for f64.
    #[track_caller]
    pub fn gamma_as(&self, shape: &[usize], a: impl Operand, dtype: DType) -> Tensor {
        let a = a.operand();
        let fixed = !tracing() || matches!(a, Arg::Weak(_));
        self.sample("gamma", shape, [a], dtype, |key, [a]| elements(key, &a, false, fixed))
    }

    /// The logarithm of [`Key::gamma`], exact for small `a`.
    #[track_caller]
    pub fn loggamma(&self, shape: &[usize], a: impl Operand) -> Tensor {
        self.loggamma_as(shape, a, DType::F32)
    }

    /// As [`Key::loggamma`], of a float type.
    #[track_caller]
    pub fn loggamma_as(&self, shape: &[usize], a: impl Operand, dtype: DType) -> Tensor {
        let a = a.operand();
        let fixed = !tracing() || matches!(a, Arg::Weak(_));
        self.sample("loggamma", shape, [a], dtype, |key, [a]| elements(key, &a, true, fixed))
    }

    /// f32 `[shape…, n]`: Dirichlet vectors with the parameters `alpha` `[…, n]`, which broadcast.
    ///
    /// ```
    /// # use fulgurite_jit::{Key, Tensor};
    /// # fn traced(key: Key) {
    /// let weights = key.dirichlet(&[100], &Tensor::ones(&[3])); // f32[100,3], each of the sum 1
    /// # }
    /// ```
    #[track_caller]
    pub fn dirichlet(&self, shape: &[usize], alpha: &Tensor) -> Tensor {
        self.dirichlet_as(shape, alpha, DType::F32)
    }

    /// As [`Key::dirichlet`], of a float type.
    #[track_caller]
    pub fn dirichlet_as(&self, shape: &[usize], alpha: &Tensor, dtype: DType) -> Tensor {
        let full = [shape, &alpha.shape()[alpha.rank().saturating_sub(1)..]].concat();
        self.sample("dirichlet", &full, [alpha.operand()], dtype, |key, [alpha]| {
            softmax(&key.loggamma_as(&full, alpha, dtype), -1)
        })
    }

    /// f32 of `shape` with the density proportional to `e^(-|x|^p)`.
    #[track_caller]
    pub fn generalized_normal(&self, shape: &[usize], p: f64) -> Tensor {
        self.generalized_normal_as(shape, p, DType::F32)
    }

    /// As [`Key::generalized_normal`], of a float type.
    #[track_caller]
    pub fn generalized_normal_as(&self, shape: &[usize], p: f64, dtype: DType) -> Tensor {
        self.sample("generalized_normal", shape, [], dtype, |key, []| {
            let [size, sign] = key.split();
            sign.rademacher_as(shape, dtype) * size.gamma_as(shape, 1.0 / p, dtype).pow(1.0 / p)
        })
    }

    /// f32 `[shape…, d]`: uniform in the unit ball of the p-norm of `d` dimensions.
    #[track_caller]
    pub fn ball(&self, shape: &[usize], d: usize, p: f64) -> Tensor {
        self.ball_as(shape, d, p, DType::F32)
    }

    /// As [`Key::ball`], of a float type.
    #[track_caller]
    pub fn ball_as(&self, shape: &[usize], d: usize, p: f64, dtype: DType) -> Tensor {
        let full = [shape, &[d]].concat();
        self.sample("ball", &full, [], dtype, |key, []| {
            let [point, radius] = key.split();
            let g = point.generalized_normal_as(&full, p, dtype);
            let e = radius.exponential_as(shape, dtype);
            let norm = (g.abs().pow(p).sum_axes(-1) + e).pow(1.0 / p);
            g / norm.expand_dims(-1)
        })
    }
}

/// A key for each element: two words.
type Keys = [Tensor; 2];

/// Key `i` of the keys that each key splits into.
fn split(keys: &Keys, i: u32) -> Keys {
    let high = keys[0].zeros_like();
    let count = Tensor::full(high.shape(), i, DType::U32);
    let words = apply_all(Op::Threefry, &[&keys[0], &keys[1], &high, &count], std::panic::Location::caller());
    <Keys>::try_from(words.into_vec()).expect("threefry has two results")
}

/// A number in 0..1 from each key: [`Key::unit`] of a scalar.
fn unit(keys: &Keys, dtype: DType) -> Tensor {
    let [high, low] = split(keys, 0);
    if dtype == DType::F64 {
        let low = low.shift_right_logical(12u32).convert(dtype) * 2f64.powi(-52);
        return high.convert(dtype) * 2f64.powi(-32) + low;
    }
    let mantissa = high.xor(&low).shift_right_logical(9u32).or(1.0f32.to_bits());
    (mantissa.bitcast(DType::F32) - 1.0).convert(dtype)
}

/// A standard normal number from each key: [`Key::normal_as`] of a scalar.
fn normal(keys: &Keys, dtype: DType) -> Tensor {
    let low = next_up(-1.0, dtype);
    let uniform = (unit(keys, dtype) * rounded(1.0 - low, dtype) + low).maximum(low);
    uniform.erf_inv() * std::f64::consts::SQRT_2
}

/// A draw for each element of `a`, or its logarithm; with a derivative by `a` unless that is fixed.
fn elements(key: &Key, a: &Tensor, log: bool, fixed: bool) -> Tensor {
    let (shape, dtype, n) = (a.shape(), a.dtype(), product(a.shape().iter().copied()));
    let own = key.split_n(n);
    let own: Keys = [0, 1].map(|word| own.index_in_dim(word, 1));
    // The derivative is that of the result, not of the way to it.
    let alpha = a.reshape(&[n]).stop_gradient();
    let whole = alpha.greater_equal(1.0);
    let boosted = whole.select(&alpha, &alpha + 1.0);
    let third = rounded(1.0 / 3.0, dtype);
    let d = boosted - third;
    let c = third / d.sqrt();

    let (first, last) = (split(&own, 0), split(&own, 1));
    let keys = [0, 1, 2].map(|i| split(&first, i));
    let [next_key, of_x, of_u] = keys;
    let init: State = (next_key, of_x, of_u, d.ones_like(), Tensor::full(&[n], false, DType::Bool));
    let (.., v, _) = while_loop(|(.., done): &State| done.bitwise_not().any(), |state| next(state, &c, &d), init);
    let u = unit(&last, dtype);
    let sample = if log {
        let logs = (-u).log1p();
        let boost = whole.or(logs.equal(0.0)).select(0.0, &logs * (1.0 / &alpha));
        d.log() + v.log() + boost
    } else {
        let boost = whole.select(1.0, (1.0 - u).pow(1.0 / &alpha));
        d * v * boost
    };
    if fixed {
        return sample.reshape(shape);
    }
    let slope = if log {
        log_slope(&alpha, &sample)
    } else {
        sample.equal(0.0).select(0.0, &sample * log_slope(&alpha, &sample.log()))
    };
    // The value stays: it is 0 that is added.
    let flat = a.reshape(&[n]);
    (sample + (&flat - &alpha) * slope).reshape(shape)
}

/// The derivative by `a` of the logarithm of a draw `x`: `-∂P(a, x)/∂a / (x p(x))`, with the distribution function
/// `P = x^a e^-x / Γ(a) Σ x^n / (a (a + 1) … (a + n))` and the density `p`. In f64, as terms cancel.
fn log_slope(a: &Tensor, log_x: &Tensor) -> Tensor {
    let [wide, log] = [a, log_x].map(|x| x.stop_gradient().convert(DType::F64));
    let x = log.exp();
    let first = 1.0 / &wide;
    // The number of the term, the term, Σ 1/(a + i) up to it, the sum of the terms, and that of its derivative by a.
    let init = [wide.ones_like(), first.clone(), first.clone(), first.clone(), -first.square()];
    let [.., sum, by_a] = while_loop(
        |[_, term, harmonic, _, by_a]: &[Tensor; 5]| (term * harmonic).greater(by_a.abs() * 1e-17).any(),
        |[n, term, harmonic, sum, by_a]| {
            let divisor = &wide + &n;
            let term = term * &x / &divisor;
            let harmonic = harmonic + 1.0 / divisor;
            let by_a = by_a - &term * &harmonic;
            [n + 1.0, term.clone(), harmonic, sum + term, by_a]
        },
        init,
    );
    let slope = -(sum * (log - wide.digamma()) + by_a);
    slope.is_finite().select(&slope, 0.0).convert(a.dtype())
}

/// The loops of all elements, between two trips: the keys that the next attempt's come from; those of this attempt, of
/// the normal numbers, of which the first that is great enough counts, and of the uniform one; what was accepted; which
/// are done.
type State = (Keys, Keys, Keys, Tensor, Tensor);

/// A further trip: one normal number for each element that is not done.
fn next((key, of_x, of_u, accepted, done): State, c: &Tensor, d: &Tensor) -> State {
    let dtype = d.dtype();
    let (of_next_x, draw) = (split(&of_x, 0), split(&of_x, 1));
    let x = normal(&draw, dtype);
    let v = &x * c + 1.0;
    let counts = v.less_equal(0.0).bitwise_not();
    let (x, v) = (x.square(), &v * &v * &v);
    let u = unit(&of_u, dtype);
    let outside = u.greater_equal(1.0 - x.square() * 0.0331);
    let above = u.log().greater_equal(&x * 0.5 + d * (1.0 - &v + v.log()));
    let rejected = outside.and(above);
    let running = done.bitwise_not();
    let again = running.and(&counts).and(&rejected);
    let accepts = running.and(&counts).and(rejected.bitwise_not());
    let choose = |when: &Tensor, new: &Keys, old: &Keys| [0, 1].map(|word| when.select(&new[word], &old[word]));
    (
        choose(&again, &split(&key, 0), &key),
        choose(&again, &split(&key, 1), &choose(&running, &of_next_x, &of_x)),
        choose(&again, &split(&key, 2), &of_u),
        accepts.select(v, &accepted),
        done.or(accepts),
    )
}
