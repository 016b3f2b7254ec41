//! The exponential and functions of it.
//!
//! All use `e^x = 2^n e^r` with `n` the integer nearest to `x / ln 2` and `r = x - n ln 2`, a polynomial for `e^r`, and
//! an integer shift for `2^n`. `ln 2` is subtracted in two parts: `n` times the high part is exact inside the first
//! `fma`, and so is its difference from `x`.

use std::f32::consts::LN_2 as LN_2_F32;
use std::f64::consts::{LN_2, LOG2_E};

use super::{LaneId, LaneProgram, LaneUnary, Math, PerFormat, rescaled_f32, rescaled_f64};

/// `ln 2` and its low part.
const LN_2_PARTS: [PerFormat; 2] = [PerFormat(LN_2_F32, LN_2), PerFormat(-1.9046542e-9, 2.3190468138462996e-17)];

/// `2 ln 2` and its low part.
const LN_4_PARTS: [PerFormat; 2] =
    [PerFormat(2.0 * LN_2_F32, 2.0 * LN_2), PerFormat(-3.8093084e-9, 4.638093627692599e-17)];

/// `e^r` on ±ln 2; our fit, relative errors 1.5e-8 and 1.6e-17.
const EXP_WIDE: [f32; 8] = [0.00019639115, 0.0014105864, 0.008335921, 0.041661177, 0.16666616, 0.50000036, 1.0, 1.0];
const EXP_WIDE_F64: [f64; 14] = [
    1.5935682802969362e-10,
    2.1062272601980567e-09,
    2.5055030357321704e-08,
    2.7556158785100193e-07,
    2.7557300677044752e-06,
    2.480159082649927e-05,
    0.00019841269892688086,
    0.0013888888883584222,
    0.008333333333270049,
    0.041666666666702025,
    0.16666666666666935,
    0.4999999999999993,
    1.0,
    1.0,
];

/// `e^r` on ±ln 2 / 2; our fit, relative errors 3.2e-9 and 1.1e-17.
const EXP: [f32; 7] = [0.0013839063, 0.008369201, 0.041668102, 0.16666517, 0.49999994, 1.0, 1.0];
const EXP_F64: [f64; 12] = [
    2.4999989571774664e-08,
    2.763023271221734e-07,
    2.7557586536144083e-06,
    2.4801493140223093e-05,
    0.000198412695064707,
    0.001388888894359305,
    0.008333333333494477,
    0.04166666666653029,
    0.16666666666666413,
    0.5000000000000011,
    1.0,
    1.0,
];

/// `2^r` on ±1; our fit, relative errors 1.6e-8 and 1.4e-17.
const EXP2: [f32; 8] =
    [1.4921137e-05, 0.00015643418, 0.0013340224, 0.009616881, 0.055503856, 0.24022667, LN_2_F32, 1.0];
const EXP2_F64: [f64; 14] = [
    1.3582546376750317e-12,
    2.590840196342255e-11,
    4.4460780400379115e-10,
    7.0546090792663544e-09,
    1.0178078740950533e-07,
    1.3215488731357162e-06,
    1.525273384740431e-05,
    0.00015403530387162677,
    0.0013333558146310116,
    0.009618129107637444,
    0.055504108664822825,
    0.2402265069591003,
    LN_2,
    1.0,
];

/// `(e^r - 1 - r) / r^2` on ±ln 2 / 2; our fit, relative errors of `e^r - 1` 1.4e-8 and 9e-19.
const EXPM1: [f32; 5] = [0.0013870657, 0.008366262, 0.041667435, 0.16666546, 0.49999997];
const EXPM1_F64: [f64; 11] = [
    2.0875377397094345e-09,
    2.5108968157956593e-08,
    2.755740245040384e-07,
    2.755724440245437e-06,
    2.4801587172809494e-05,
    0.00019841269885940453,
    0.0013888888888962212,
    0.0083333333333217,
    0.04166666666666651,
    0.16666666666666677,
    0.5,
];

/// `(ln(1 + x) - x) / x^2` on [0, 1]; our fit, relative errors of `ln(1 + x)` 5e-9 and 3e-17.
const LOG1P: [f32; 9] =
    [-0.0032905359, 0.020086432, -0.05745743, 0.10661137, -0.15344882, 0.19692102, -0.24958019, 0.33330464, -0.4999993];
const LOG1P_F64: [f64; 21] = [
    -1.659906441765878e-05,
    0.00019944909043374015,
    -0.0011396548545304953,
    0.0041398645013533885,
    -0.010807981265515734,
    0.02180829660421729,
    -0.035877217332834006,
    0.050390546264481126,
    -0.06310931178353428,
    0.07341410032090004,
    -0.08212638583170545,
    0.0905747311892941,
    -0.09992646684129054,
    0.11109850097333247,
    -0.12499835223552191,
    0.14285698376122916,
    -0.166666655787122,
    0.1999999995043541,
    -0.24999999998631847,
    0.33333333333313947,
    -0.499999999999999,
];

/// `(sinh(x) - x) / x^3` in `x^2`, on ±1; our fit, relative errors 3e-10 and 1e-17.
const SINH: [f32; 4] = [2.7822305e-06, 0.00019842894, 0.0083333105, 0.16666667];
const SINH_F64: [f64; 7] = [
    7.758748453527554e-13,
    1.6057259781363624e-10,
    2.5052123136541752e-08,
    2.7557319157073174e-06,
    0.00019841269841431867,
    0.008333333333333148,
    0.16666666666666669,
];

/// `e^x`. 1.7 ulp.
pub fn exp(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let x = m.at_least(x, EXP_LEAST);
    let x = m.at_most(x, PerFormat(90.0, 711.0));
    let (y, half) = exp_parts(m, x, None);
    scale_twice(m, y, half)
}

/// The least argument: there `2^n` is 0, so the result is an exact 0 without an underflow, which is slow on many
/// processors.
pub(super) const EXP_LEAST: PerFormat = PerFormat(-176.0, -1418.0);

/// `e^(x + low) = y h^2`, with `h` a power of two, for `x` from [`EXP_LEAST`] to 176 (1418).
///
/// Here `n` is a multiple of two, and so `r` in ±ln 2: half of `n` always has a power of two, so that infinities and
/// denormal results follow from two products, with one rounding.
pub(super) fn exp_parts(m: &mut Math, x: LaneId, low: Option<LaneId>) -> (LaneId, LaneId) {
    let rounder = m.rounder(m.bias());
    let t = m.fma(x, 0.5 * LOG2_E, rounder);
    let n = m.sub(t, rounder);
    let mut r = x;
    for part in LN_4_PARTS {
        r = m.fma(n, PerFormat(-part.0, -part.1), r);
    }
    if let Some(low) = low {
        r = m.add(r, low);
    }
    let y = m.poly(r, &EXP_WIDE, &EXP_WIDE_F64);
    (y, m.power_of_two(t))
}

/// `y h^2`.
pub(super) fn scale_twice(m: &mut Math, y: LaneId, half: LaneId) -> LaneId {
    let y = m.mul(y, half);
    m.mul(y, half)
}

/// `e^(x + low) = y s / 2^shift`, with `s` a power of two, for `x` where that exists: with `n` from `-bias - shift`
/// (where it is 0) to `bias + 1 - shift` (where it is infinite).
///
/// One multiplication by the shift, which is a constant, then gives correct denormal results. This is shorter than
/// [`exp_parts`] and has an error smaller by a third, but covers infinities or denormal results, and not both.
pub(super) fn exp_shifted(m: &mut Math, x: LaneId, low: Option<LaneId>, shift: i64) -> (LaneId, LaneId) {
    let rounder = m.rounder(m.bias() + shift);
    let t = m.fma(x, LOG2_E, rounder);
    let n = m.sub(t, rounder);
    let mut r = x;
    for part in LN_2_PARTS {
        r = m.fma(n, PerFormat(-part.0, -part.1), r);
    }
    if let Some(low) = low {
        r = m.add(r, low);
    }
    let y = m.poly(r, &EXP, &EXP_F64);
    (y, m.power_of_two(t))
}

/// The shift for `e^-a`, and the largest `a` for it: there, the result is an exact 0, as at [`EXP_LEAST`].
pub(super) fn decay(m: &Math) -> (i64, PerFormat) {
    (m.digits() + 1, PerFormat(104.6, 745.8))
}

/// `2^x`. 1.3 ulp; exact where `x` is an integer.
pub fn exp2(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let x = m.at_least(x, PerFormat(-254.0, -2046.0));
    let x = m.at_most(x, PerFormat(130.0, 1030.0));
    // As in `exp_parts`, but that the reduction is exact.
    let rounder = m.rounder(m.bias());
    let t = m.fma(x, 0.5, rounder);
    let n = m.sub(t, rounder);
    let r = m.fma(n, -2.0, x);
    let y = m.poly(r, &EXP2, &EXP2_F64);
    let half = m.power_of_two(t);
    scale_twice(m, y, half)
}

/// `e^x - 1`. 1.6 ulp.
///
/// With `s = 2^(n-1)`, it is `2 (s (e^r - 1) + s - 1/2)`, where `s` is finite as long as the result is.
pub fn expm1(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let z = m.at_least(x, PerFormat(-18.0, -38.0));
    let z = m.at_most(z, PerFormat(89.0, 710.0));
    let rounder = m.rounder(m.bias() - 1);
    let t = m.fma(z, LOG2_E, rounder);
    let n = m.sub(t, rounder);
    let mut r = z;
    for part in LN_2_PARTS {
        r = m.fma(n, PerFormat(-part.0, -part.1), r);
    }
    let q = m.poly(r, &EXPM1, &EXPM1_F64);
    let square = m.mul(r, r);
    let e = m.fma(square, q, r);
    let s = m.power_of_two(t);
    let shift = m.sub(s, 0.5);
    let y = m.fma(s, e, shift);
    let y = m.add(y, y);
    m.signed_as(y, x)
}

/// `1 / (1 + e^-x)`. 2.0 ulp.
///
/// Computed as `c / (c + c e^-x)` with `c = 2^-24` (f64: `2^-53`), so that `c e^-x` is finite as long as the result is
/// not 0. With `n` and `u = x + n ln 2`, `e^-x = 2^n (1 - h)`, where `h = 1 - e^-u` is small; so the sum is
/// `(c - c 2^n h) + c 2^n`, and `e^-x` itself is not rounded.
pub fn sigmoid(p: &mut LaneProgram, x: LaneId) -> LaneId {
    const MIRRORED: [f32; 5] = rescaled_f32(EXPM1, -1.0, -1.0);
    const MIRRORED_F64: [f64; 11] = rescaled_f64(EXPM1_F64, -1.0, -1.0);
    let m = &mut Math::of(p, x);
    // From the largest finite power of two, where the result underflows, to the power 0, where it is 1.
    let x = m.at_least(x, PerFormat(-104.9, -745.9));
    let x = m.at_most(x, PerFormat(71.0, 672.0));
    let shift = -(m.digits() + 1);
    // Adding 256 (f64: 2048) sets the sign bit: what is found is minus the power of two.
    let negative = 1 << (m.width() - 1 - m.digits());
    let rounder = m.rounder(m.bias() + shift + negative);
    let t = m.fma(x, -LOG2_E, rounder);
    let n = m.sub(t, rounder);
    let mut u = x;
    for part in LN_2_PARTS {
        u = m.fma(n, part, u);
    }
    let q = m.poly(u, &MIRRORED, &MIRRORED_F64);
    let square = m.mul(u, u);
    let h = m.fma(square, q, u);
    let s = m.power_of_two(t);
    let c = 2f64.powi(shift as i32);
    let sum = m.fma(s, h, c);
    let sum = m.sub(sum, s);
    m.div(c, sum)
}

/// `ln(1 + e^x)`, as `max(x, 0) + ln(1 + e^-|x|)`. 1.9 ulp.
pub fn softplus(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let a = m.abs(x);
    let (shift, most) = decay(m);
    let a = m.at_most(a, most);
    let negated = m.unary(LaneUnary::Neg, a);
    let (e, s) = exp_shifted(m, negated, None, shift);
    let e = m.mul(e, s);
    let e = m.mul(e, 2f64.powi(-shift as i32));
    let q = m.poly(e, &LOG1P, &LOG1P_F64);
    let square = m.mul(e, e);
    let l = m.fma(square, q, e);
    let ramp = m.at_least(x, 0.0);
    m.add(ramp, l)
}

/// `tanh(x)`: in f32 the same bits as in XLA. 4.9 ulp (f64: 3.5), and never outside ±1.
///
/// A smaller error would differ from JAX: where `1 - |tanh x|` is small (in the derivative of gelu, for instance), its
/// value is mostly the error of this function.
pub fn tanh(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    if m.wide { tanh_double(m, x) } else { tanh_single(m, x) }
}

/// The quotient of polynomials that XLA has for CPUs (its `EmitFastTanh`, from Eigen's `generic_fast_tanh_float`). It
/// is 1 at 7.9988 and is not evaluated beyond.
fn tanh_single(m: &mut Math, x: LaneId) -> LaneId {
    const NUMERATOR: [f32; 7] =
        [-2.7607684e-16, 2.000188e-13, -8.604672e-11, 5.1222973e-8, 1.48572235e-5, 0.00063726195, 0.0048935246];
    const DENOMINATOR: [f32; 4] = [1.1982584e-6, 0.00011853471, 0.0022684347, 0.004893525];
    const ONE_FROM: f32 = 7.9988117;
    let limited = m.at_least(x, PerFormat(-ONE_FROM, 0.0));
    let limited = m.at_most(limited, PerFormat(ONE_FROM, 0.0));
    let square = m.mul(limited, limited);
    let above = m.poly(square, &NUMERATOR, &[]);
    let above = m.mul(limited, above);
    let below = m.poly(square, &DENOMINATOR, &[]);
    let y = m.div(above, below);
    let a = m.abs(x);
    let tiny = m.lt(a, 0.0004);
    m.select(tiny, x, y)
}

/// `E / (E + 1)` with `E = (e^2a - 1) / 2`, `a = |x|`, which is right for small and for large `a` alike. With
/// `h = a - n ln 2 / 2` and `W = (e^2h - 1) / 2`, `E = 2^n W + (2^n - 1) / 2`. One part of `ln 2` is enough: where `n`
/// is large, the result is 1.
fn tanh_double(m: &mut Math, x: LaneId) -> LaneId {
    /// `((e^2h - 1) / 2 - h) / h^2`.
    const DOUBLED: [f64; 11] = rescaled_f64(EXPM1_F64, 2.0, 2.0);
    let a = m.abs(x);
    let a = m.at_most(a, 20.0);
    let rounder = m.rounder(m.bias());
    let t = m.fma(a, 2.0 * LOG2_E, rounder);
    let n = m.sub(t, rounder);
    let h = m.fma(n, -0.5 * LN_2, a);
    let q = m.poly(h, &[], &DOUBLED);
    let square = m.mul(h, h);
    let w = m.fma(square, q, h);
    let s = m.power_of_two(t);
    let shift = m.fma(s, 0.5, -0.5);
    let e = m.fma(s, w, shift);
    let below = m.add(e, 1.0);
    let y = m.div(e, below);
    m.signed_as(y, x)
}

/// `sinh(x)`: a polynomial within ±1, `(e^|x| - e^-|x|) / 2` beyond. 1.7 ulp.
pub fn sinh(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let a = m.abs(x);
    let square = m.mul(a, a);
    let q = m.poly(square, &SINH, &SINH_F64);
    let cube = m.mul(square, a);
    let small = m.fma(cube, q, a);
    let h = half_exp(m, a);
    let inverse = m.div(-0.25, h);
    let large = m.add(h, inverse);
    let is_small = m.lt(a, 1.0);
    let y = m.select(is_small, small, large);
    m.signed_as(y, x)
}

/// `cosh(x)`, as `(e^|x| + e^-|x|) / 2`. 1.4 ulp.
pub fn cosh(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let a = m.abs(x);
    let h = half_exp(m, a);
    let inverse = m.div(0.25, h);
    m.add(h, inverse)
}

/// `e^a / 2` for `a >= 0`, finite as long as the result is.
fn half_exp(m: &mut Math, a: LaneId) -> LaneId {
    let a = m.at_most(a, PerFormat(90.0, 711.0));
    let (y, s) = exp_shifted(m, a, None, -2);
    let y = m.mul(y, s);
    m.add(y, y)
}
