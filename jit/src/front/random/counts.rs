//! Draws of counts: the algorithms, and so the bits, of `jax.random` 0.10.
//!
//! A key, a shape and parameters come in, counts go out. Small means count events one by one; large ones are drawn by
//! transformed rejection (Hörmann: The transformed rejection method for generating Poisson random variables, 1993; The
//! generation of binomial random variates, 1993). Both loops run until all elements are done.

use std::panic::Location;

use super::super::control::scan;
use super::super::loops::while_loop;
use super::super::operand::{Operand, reject};
use super::super::tensor::Tensor;
use super::super::trace::as_one_program;
use super::Key;
use super::discrete::cumulative;
use crate::error::Error;
use crate::types::DType;

impl Key {
    /// i32 of `shape`: Poisson with the mean `lam`. A mean that is NaN gives -1.
    ///
    /// ```
    /// # use fulgurite_jit::{Key, Tensor};
    /// # fn traced(key: Key, means: &Tensor) {
    /// let counts = key.poisson(&[100, 3], means); // f32[3]
    /// # }
    /// ```
    #[track_caller]
    pub fn poisson(&self, shape: &[usize], lam: impl Operand) -> Tensor {
        let drawn = self.sample("poisson", shape, [lam.operand()], DType::F32, |key, [lam]| {
            let small = lam.not_equal(&lam).or(lam.less(10.0));
            let counted = events(key, &small.select(&lam, 0.0));
            let accepted = poisson_by_rejection(key, &small.select(1e5, &lam));
            let drawn = small.select(counted, accepted);
            lam.equal(0.0).select(0.0, drawn)
        });
        drawn.convert(DType::I32)
    }

    /// f32 of `shape`: the number of successes in `n` trials of the probability `p`. NaN where there is no such
    /// distribution.
    #[track_caller]
    pub fn binomial(&self, shape: &[usize], n: impl Operand, p: impl Operand) -> Tensor {
        self.binomial_as(shape, n, p, DType::F32)
    }

    /// As [`Key::binomial`], of a float type.
    #[track_caller]
    pub fn binomial_as(&self, shape: &[usize], n: impl Operand, p: impl Operand, dtype: DType) -> Tensor {
        self.sample("binomial", shape, [n.operand(), p.operand()], dtype, |key, [n, p]| binomial(key, &n, &p))
    }

    /// Floats `[…, k]`: how many of `n` trials have each of `k` outcomes of the probabilities `p` `[…, k]`; `n`
    /// broadcasts to `[…]`.
    ///
    /// ```
    /// # use fulgurite_jit::{Key, Tensor};
    /// # fn traced(key: Key) {
    /// let p = Tensor::from_vec(&[3], vec![0.2f32, 0.5, 0.3]).unwrap();
    /// let counts = key.multinomial(20.0, &p); // f32[3], of the sum 20
    /// # }
    /// ```
    #[track_caller]
    pub fn multinomial(&self, n: impl Operand, p: &Tensor) -> Tensor {
        let p = p.inexact();
        let n = n.operand().into_tensor(p.dtype()).convert(p.dtype());
        let (batch, outcomes) = match p.shape() {
            [batch @ .., outcomes] => (batch.to_vec(), *outcomes),
            [] => {
                let why = format!("takes a vector of probabilities, not {}", p.ty());
                return reject(&[&p], Error::op("multinomial", why, Location::caller()));
            }
        };
        let drawn = as_one_program(&[self.0.clone(), n, p], |inputs| {
            let p = inputs[2].moveaxis(-1, 0);
            // What is left for this outcome and those after it.
            let left = cumulative(&p.flip(0)).flip(0);
            let ratios = p / left.equal(0.0).select(1.0, &left);
            let keys = Key(inputs[0].clone()).split_n(outcomes);
            let draw = |n: Tensor, (ratio, key): (Tensor, Tensor)| {
                let count = binomial(&Key(key), &n, &ratio.clip(0.0, 1.0));
                (n - &count, count)
            };
            let (_, counts) = scan(draw, inputs[1].broadcast_to(&batch), (ratios, keys));
            vec![counts.moveaxis(0, -1)]
        });
        drawn.into_iter().next().expect("one draw")
    }
}

/// The number of events of a Poisson process of the rate 1 up to `lam`, by the product of uniform numbers (Knuth).
fn events(key: &Key, lam: &Tensor) -> Tensor {
    let shape = lam.shape().to_vec();
    let end = -lam;
    let init = (Tensor::full(&shape, 0.0, DType::F32), key.clone(), Tensor::full(&shape, 0.0, DType::F32));
    let (count, ..) = while_loop(
        |(_, _, log): &(Tensor, Key, Tensor)| log.greater(&end).any(),
        |(count, key, log)| {
            let [key, draw] = key.split();
            let count = log.greater(&end).select(&count + 1.0, &count);
            (count, key, log + draw.unit(&shape, DType::F32).log())
        },
        init,
    );
    count - 1.0
}

/// The rejection loop of two uniform numbers a trip: `attempt` gives the count and whether it is accepted.
fn until_accepted(key: &Key, like: &Tensor, attempt: impl FnOnce(&Tensor, &Tensor) -> (Tensor, Tensor)) -> Tensor {
    let (shape, dtype) = (like.shape().to_vec(), like.dtype());
    let init = (Tensor::full(&shape, -1.0, dtype), Tensor::full(&shape, false, DType::Bool), key.clone());
    let (count, ..) = while_loop(
        |(_, done, _): &(Tensor, Tensor, Key)| done.bitwise_not().any(),
        |(count, done, key)| {
            let [key, of_u, of_v] = key.split();
            let u = of_u.unit(&shape, dtype) - 0.5;
            let (k, accept) = attempt(&u, &of_v.unit(&shape, dtype));
            // A later draw that is accepted replaces an earlier one, as in JAX.
            (accept.select(k, count), done.or(accept), key)
        },
        init,
    );
    count
}

fn poisson_by_rejection(key: &Key, lam: &Tensor) -> Tensor {
    let log_lam = lam.log();
    let b = lam.sqrt() * 2.53 + 0.931;
    let a = &b * 0.02483 - 0.059;
    let inv_alpha = 1.1328 / (&b - 3.4) + 1.1239;
    let v_r = 0.9277 - 3.6224 / (&b - 2.0);
    until_accepted(key, lam, |u, v| {
        let shifted = 0.5 - u.abs();
        let k = ((&a * 2.0 / &shifted + &b) * u + lam + 0.43).floor();
        let s = (v * &inv_alpha / (&a / shifted.square() + &b)).log();
        let t = &k * &log_lam - lam - log_factorial(&k);
        let quick = shifted.greater_equal(0.07).and(v.less_equal(&v_r));
        let reject = k.less(0.0).or(shifted.less(0.013).and(v.greater(&shifted)));
        (k, quick.or(reject.bitwise_not().and(s.less_equal(t))))
    })
}

/// `log k!` by Stirling's series, of `k + 8` where `k` is small (Abramowitz & Stegun 6.1.41).
fn log_factorial(k: &Tensor) -> Tensor {
    let z = k.maximum(0.0) + 1.0;
    let small = z.less(8.0);
    let low = small.select(&z, 1.0);
    let product = (0..8).fold(z.ones_like(), |product, i| product * (&low + f64::from(i)));
    let y = small.select(&z + 8.0, &z);
    let square = y.square();
    let tail = (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / 1260.0 / &square) / &square) / &y;
    let series = (&y - 0.5) * y.log() - &y + 0.5 * std::f64::consts::TAU.ln() + tail;
    series - small.select(product.log(), 0.0)
}

/// The number of successes, by the smaller of both probabilities.
fn binomial(key: &Key, count: &Tensor, p: &Tensor) -> Tensor {
    let rare = p.less(0.5);
    let q = rare.select(p, 1.0 - p);
    let no_count = count.not_equal(count).or(count.less(0.0));
    let endless = count.equal(f64::INFINITY);
    let (no_p, negative) = (q.not_equal(&q), q.less(0.0));
    let q = no_p.or(&negative).select(0.01, &q);
    let few = no_count.or((count * &q).less_equal(10.0));
    let count = count.floor();
    let counted = by_gaps(key, &few.select(&count, 0.0), &q);
    let accepted = binomial_by_rejection(key, &few.select(1e4, &count), &few.select(0.5, &q));
    let drawn = few.select(counted, accepted);
    let invalid = negative.or(&no_p).or(&no_count);
    let drawn = invalid.select(f64::NAN, drawn);
    let drawn = endless.and(invalid.bitwise_not()).select(f64::INFINITY, drawn);
    rare.or(no_count).or(no_p).or(endless).select(&drawn, &count - &drawn)
}

/// Counts successes by the numbers of trials between them, which are geometric.
fn by_gaps(key: &Key, count: &Tensor, p: &Tensor) -> Tensor {
    let (shape, dtype) = (p.shape().to_vec(), p.dtype());
    let log_missed = (-p).log1p();
    let init = (Tensor::full(&shape, 0.0, dtype), Tensor::full(&shape, 0.0, dtype), key.clone());
    let (number, ..) = while_loop(
        |(_, sum, _): &(Tensor, Tensor, Key)| sum.less_equal(count).any(),
        |(number, sum, key)| {
            let [draw, key] = key.split();
            let number = sum.less_equal(count).select(&number + 1.0, &number);
            let gap = (draw.unit(&shape, dtype).log() / &log_missed).ceil();
            (number, sum + gap, key)
        },
        init,
    );
    number - 1.0
}

fn binomial_by_rejection(key: &Key, count: &Tensor, p: &Tensor) -> Tensor {
    let stddev = (count * p * (1.0 - p)).sqrt();
    let b = &stddev * 2.53 + 1.15;
    let a = &b * 0.0248 - 0.0873 + p * 0.01;
    let c = count * p + 0.5;
    let v_r = 0.92 - 4.2 / &b;
    let r = p / (1.0 - p);
    let alpha = (5.1 / &b + 2.83) * stddev;
    let m = ((count + 1.0) * p).floor();
    until_accepted(key, p, |u, v| {
        let shifted = 0.5 - u.abs();
        let quick = shifted.greater_equal(0.07).and(v.less_equal(&v_r));
        let k = ((&a * 2.0 / &shifted + &b) * u + &c).floor();
        let reject = k.less(0.0).or(k.greater(count));
        let v = (v * &alpha / (&a / shifted.square() + &b)).log();
        let bound = (&m + 0.5) * ((&m + 1.0) / (&r * (count - &m + 1.0))).log()
            + (count + 1.0) * ((count - &m + 1.0) / (count - &k + 1.0)).log()
            + (&k + 0.5) * (&r * (count - &k + 1.0) / (&k + 1.0)).log()
            + tail(&m)
            + tail(&(count - &m))
            - tail(&k)
            - tail(&(count - &k));
        (k, quick.or(reject.bitwise_not().and(v.less_equal(bound))))
    })
}

/// What Stirling's formula for `log k!` misses: from a table up to 9, else from its series.
fn tail(k: &Tensor) -> Tensor {
    const TABLE: [f64; 10] = [
        0.0810614667953272,
        0.0413406959554092,
        0.0276779256849983,
        0.02079067210376509,
        0.0166446911898211,
        0.0138761288230707,
        0.0118967099458917,
        0.0104112652619720,
        0.00925546218271273,
        0.00833056343336287,
    ];
    let small = k.less_equal(9.0);
    let near = k.maximum(0.0).minimum(9.0);
    let square = (&near + 1.0).square();
    let series = (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / 1260.0 / &square) / &square) / (&near + 1.0);
    let whole = near.floor();
    let table = (1..10)
        .fold(Tensor::full(k.shape(), TABLE[0], k.dtype()), |value, i| whole.equal(i as f64).select(TABLE[i], &value));
    small.select(table, series)
}
