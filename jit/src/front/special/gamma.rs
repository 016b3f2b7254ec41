//! The gamma function, its logarithmic derivatives, what is made of them, and Bessel functions.

use std::f64::consts::PI;

use super::super::tensor::Tensor;
use super::{constants, in_f64, polynomial};
use crate::types::DType;

/// Half the logarithm of 2 pi.
pub(super) const HALF_LN_2PI: f64 = 0.918_938_533_204_672_7;

/// `ln |gamma(x)|`, as `jax.scipy.special.gammaln`: infinite at 0 and at negative integers.
///
/// ```
/// # use fulgurite_jit::{Tensor, special};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let x = Tensor::from_vec(&[3], vec![1.0f32, 4.0, 0.5]).unwrap();
/// let y = special::gammaln(&x); // 0, ln 6, ln √π
/// # vec![y]
/// # }).unwrap();
/// ```
#[track_caller]
pub fn gammaln(x: &Tensor) -> Tensor {
    x.inexact().lgamma()
}

/// The derivative of [`gammaln`]: NaN at 0 and at negative integers.
#[track_caller]
pub fn digamma(x: &Tensor) -> Tensor {
    x.inexact().digamma()
}

/// The sign of the gamma function: ±1 at ±0, NaN at negative integers and at minus infinity.
#[track_caller]
pub fn gammasgn(x: &Tensor) -> Tensor {
    let x = &x.inexact().stop_gradient();
    let floor = x.floor();
    let half = &floor * 0.5;
    let odd = half.floor().not_equal(&half);
    let negative = x.less(0.0);
    let sign = negative.and(odd).or(x.equal(0.0).and(x.recip().less(0.0)));
    let sign = sign.select(Tensor::literal(-1.0, x.dtype()), 1.0);
    let nan = negative.and(floor.equal(x)).or(x.not_equal(x));
    nan.select(f64::NAN, sign)
}

/// The gamma function: NaN at negative integers, ±infinity at ±0.
#[track_caller]
pub fn gamma(x: &Tensor) -> Tensor {
    in_f64("gamma", [x], |[x]| gammasgn(&x) * x.lgamma().exp())
}

/// `n! = gamma(n + 1)`; 0 for a negative `n`.
#[track_caller]
pub fn factorial(n: &Tensor) -> Tensor {
    in_f64("factorial", [n], |[n]| {
        let negative = n.less(0.0);
        let safe = negative.select(0.0, &n);
        negative.select(0.0, (safe + 1.0).lgamma().exp())
    })
}

/// The number of ways to choose `k` of `n`: 0 where `k < 0` or `k > n`.
#[track_caller]
pub fn comb(n: &Tensor, k: &Tensor) -> Tensor {
    in_f64("comb", [n, k], |[n, k]| {
        let outside = k.less(0.0).or(k.greater(&n)).or(n.less(0.0));
        let (n, k) = (outside.select(1.0, n), outside.select(0.0, k));
        let log = -(&n + 1.0).log() - log_beta(&(&n - &k + 1.0), &(k + 1.0));
        outside.select(0.0, log.exp())
    })
}

/// The Pochhammer symbol `gamma(z + m) / gamma(z)`; 1 for `m = 0`.
#[track_caller]
pub fn poch(z: &Tensor, m: &Tensor) -> Tensor {
    in_f64("poch", [z, m], |[z, m]| {
        let end = &z + &m;
        let ratio = (end.lgamma() - z.lgamma()).exp() * gammasgn(&end) * gammasgn(&z);
        m.equal(0.0).select(1.0, ratio)
    })
}

/// The logarithm of the multivariate gamma function of dimension `d`.
///
/// It is `d (d - 1) / 4 ln pi + Σ gammaln(a - i / 2)` over `i < d`.
#[track_caller]
pub fn multigammaln(a: &Tensor, d: usize) -> Tensor {
    in_f64("multigammaln", [a], |[a]| {
        let halves: Vec<f64> = (0..d).map(|i| i as f64 / 2.0).collect();
        let sum = (a.expand_dims(-1) - constants(&halves)).lgamma().sum_axes(-1);
        sum + (d * d.saturating_sub(1)) as f64 / 4.0 * libm::log(PI)
    })
}

/// The derivative of order `n` of [`digamma`].
///
/// `(-1)^(n + 1) n! zeta(n + 1, x)`; at a pole infinite for an odd `n` and NaN for an even one, as in JAX.
#[track_caller]
pub fn polygamma(n: usize, x: &Tensor) -> Tensor {
    if n == 0 {
        return digamma(x);
    }
    in_f64("polygamma", [x], |[x]| {
        let factorial: f64 = (1..=n).map(|k| k as f64).product();
        let s = Tensor::literal((n + 1) as f64, DType::F64).broadcast_to(x.shape());
        hurwitz(&s, &x) * if n % 2 == 1 { factorial } else { -factorial }
    })
}

/// The zeta function of Hurwitz, `Σ (q + k)^-s` over `k >= 0`.
///
/// Infinite for `s = 1`, NaN for `s < 1`, and for a negative `q` unless `s` is an integer.
#[track_caller]
pub fn zeta(s: &Tensor, q: &Tensor) -> Tensor {
    in_f64("zeta", [s, q], |[s, q]| {
        let z = hurwitz(&s, &q);
        let unknown = s.less(1.0).or(q.less_equal(0.0).and(s.floor().not_equal(&s)));
        s.equal(1.0).select(f64::INFINITY, unknown.select(f64::NAN, z))
    })
}

/// `B(2k) / (2k)!` of the formula of Euler and Maclaurin, from `k = 12` down to 1.
const EULER_MACLAURIN: [f64; 12] = [
    -236364091.0 / 1.693_824_136_731_743_7e27,
    77683.0 / 1.410_110_003_939_180_5e22,
    -174611.0 / 8.028_576_626_982_912e20,
    43867.0 / 5.109_094_217_170_944e18,
    -3617.0 / 1.067_062_284_288e16,
    1.0 / 74_724_249_600.0,
    -691.0 / 1_307_674_368_000.0,
    1.0 / 47_900_160.0,
    -1.0 / 1_209_600.0,
    1.0 / 30_240.0,
    -1.0 / 720.0,
    1.0 / 12.0,
];

/// [`zeta`] for `s > 1`: 16 terms, and the rest by the formula of Euler and Maclaurin (DLMF 25.11.5).
fn hurwitz(s: &Tensor, q: &Tensor) -> Tensor {
    const TERMS: usize = 16;
    let infinite = q.equal(f64::INFINITY);
    let pole = q.less_equal(0.0).and(q.floor().equal(q));
    let q = &infinite.or(&pole).select(1.0, q);
    let terms = q.expand_dims(-1) + Tensor::arange(DType::F64, TERMS);
    let sum = terms.pow(-s.expand_dims(-1)).sum_axes(-1);
    let w = &(q + TERMS as f64);
    let inverse = w.square().recip();
    let mut series = Tensor::literal(0.0, DType::F64).broadcast_to(q.shape());
    for (k, c) in (0..EULER_MACLAURIN.len()).rev().zip(EULER_MACLAURIN) {
        let step = (2 * k + 1) as f64;
        series = series * ((s + step) * (s + (step + 1.0)) * &inverse) + c;
    }
    let rest = w / (s - 1.0) + 0.5 + s / w * series;
    let value = sum + w.pow(-s) * rest;
    let half = s * 0.5;
    let at_pole = half.floor().equal(&half).select(Tensor::literal(f64::INFINITY, DType::F64), f64::NAN);
    pole.select(at_pole, infinite.select(0.0, value))
}

/// Stirling's series without its main terms, `Σ B(2k) / (2k (2k - 1) x^(2k - 1))`; its error from 16 on is 1e-17.
pub(super) fn stirling_rest(x: &Tensor) -> Tensor {
    const C: [f64; 6] = [-691.0 / 360360.0, 1.0 / 1188.0, -1.0 / 1680.0, 1.0 / 1260.0, -1.0 / 360.0, 1.0 / 12.0];
    let inverse = x.recip();
    polynomial(&inverse.square(), &C) * inverse
}

/// The logarithm of the beta function, `ln gamma(a) + ln gamma(b) - ln gamma(a + b)`, also where that cancels.
#[track_caller]
pub fn betaln(a: &Tensor, b: &Tensor) -> Tensor {
    in_f64("betaln", [a, b], |[a, b]| log_beta(&a, &b))
}

/// [`betaln`] of f64: from 16 on the main terms of Stirling's series cancel on paper.
pub(super) fn log_beta(a: &Tensor, b: &Tensor) -> Tensor {
    let ordered = a.less(b);
    let (p, q) = (&ordered.select(a, b), &ordered.select(b, a));
    let (far, both) = (q.greater_equal(16.0), p.greater_equal(16.0));
    // Each branch has operands where it has a value.
    let (big_q, small_q) = (&far.select(q, 16.0), &far.select(1.0, q));
    let (big_p, small_p) = (&both.select(p, 16.0), &both.select(1.0, p));

    // (q - 1/2) ln q - (p + q - 1/2) ln(p + q) + p, with the rests of both.
    let sum = &(p + big_q);
    let step = (p / big_q).log1p() * (big_q - 0.5);
    let rests = stirling_rest(big_q) - stirling_rest(sum);
    let near_p = small_p.lgamma();
    let one_far = &near_p + p - p * sum.log() - &step + &rests;
    let both_far = stirling_rest(big_p) + rests + HALF_LN_2PI - big_p.log() * 0.5 - (q / big_p).log1p() * big_p - step;
    let near = near_p + small_q.lgamma() - (small_p + small_q).lgamma();
    both.select(both_far, far.select(one_far, near))
}

/// The modified Bessel function of the first kind of order 0, times `e^-|x|`.
#[track_caller]
pub fn i0e(x: &Tensor) -> Tensor {
    x.inexact().bessel_i0e()
}

/// The modified Bessel function of the first kind of order 1, times `e^-|x|`.
#[track_caller]
pub fn i1e(x: &Tensor) -> Tensor {
    x.inexact().bessel_i1e()
}

/// The modified Bessel function of the first kind of order 0.
#[track_caller]
pub fn i0(x: &Tensor) -> Tensor {
    let x = &x.inexact();
    x.abs().exp() * x.bessel_i0e()
}

/// The modified Bessel function of the first kind of order 1.
#[track_caller]
pub fn i1(x: &Tensor) -> Tensor {
    let x = &x.inexact();
    x.abs().exp() * x.bessel_i1e()
}
