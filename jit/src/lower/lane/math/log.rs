//! Logarithms and inverse hyperbolic functions.
//!
//! All write the argument as `2^k m` with `m` in [2/3, 4/3), and use `k ln 2 + ln m`, a polynomial in `m - 1` for the
//! latter. If `k` is 0, that polynomial alone is the result, so there is no cancellation near 1. The interval from 2/3
//! to 4/3 has the largest relative distance to the singularity at 0, and so the shortest polynomial.

use std::f64::consts::LN_2;

use super::{LaneBinary, LaneCompare, LaneConvert, LaneId, LaneProgram, Math, PerFormat, rescaled_f32, rescaled_f64};

/// `(ln(1 + f) - f) / f^2` on ±1/3; our fit, relative errors of `ln(1 + f)` 2.7e-8 and 5e-18.
const LOG: [f32; 8] =
    [0.13999711, -0.15391251, 0.1400301, -0.16415317, 0.20010546, -0.25007874, 0.33333215, -0.49999934];
const LOG_F64: [f64; 21] = [
    -0.08348714436623932,
    0.08503791428311407,
    -0.03830109568330886,
    0.04173083881682456,
    -0.05749461673567436,
    0.06052332889226546,
    -0.06230284772937909,
    0.06650578657459201,
    -0.0714414680920871,
    0.07693272805454623,
    -0.08333278576154575,
    0.09090872305649322,
    -0.10000001478934264,
    0.1111111197493532,
    -0.12499999975885187,
    0.1428571427408922,
    -0.1666666666688097,
    0.20000000000077325,
    -0.24999999999999156,
    0.33333333333333154,
    -0.5,
];

/// The bits of 2/3.
const TWO_THIRDS: (i64, i64) = (0x3f2a_aaab, 0x3fe5_5555_5555_5555);

/// `ln x`, also of denormal `x`. 1.1 ulp.
pub fn log(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    // A denormal argument is scaled into the normal range. The scale is subtracted from the exponent in its bits, which
    // then are those of a float with an unbounded exponent.
    let lift = m.digits() + 1;
    let lifted = m.mul(x, 2f64.powi(lift as i32));
    let lifted = m.bits(lifted);
    let lifted = m.sub(lifted, lift << m.digits());
    let bits = m.bits(x);
    let denormal = m.lt(x, PerFormat(f32::MIN_POSITIVE, f64::MIN_POSITIVE));
    let bits = m.select(denormal, lifted, bits);
    let (k, f) = exponent_and_rest(m, bits);
    let l = log_of_rest(m, f);
    let y = m.fma(k, k_unit(m), l);
    let zero = m.eq(x, 0.0);
    let outside = m.select(zero, f64::NEG_INFINITY, f64::NAN);
    let positive = m.lt(0.0, x);
    let y = m.select(positive, y, outside);
    // The logarithms of infinity and NaN are infinity and NaN.
    let finite = m.lt(x, f64::INFINITY);
    m.select(finite, y, x)
}

/// `-ln x` for normal positive `x`; unspecified elsewhere. In f32 with an absolute error of 3e-7 near 1, in f64 as
/// [`log`].
pub(super) fn minus_log_normal(m: &mut Math, x: LaneId) -> LaneId {
    /// [`LOG`] with two terms less; our fit of the absolute error of `ln(1 + f)`, 2.5e-7.
    const SHORT: [f32; 6] = [0.17611918, -0.19642505, 0.19713591, -0.24806139, 0.33340865, -0.50003415];
    const MIRRORED: [f32; 6] = rescaled_f32(SHORT, -1.0, -1.0);
    const MIRRORED_F64: [f64; 21] = rescaled_f64(LOG_F64, -1.0, -1.0);
    let bits = m.bits(x);
    let (high, rest) = split(m, bits);
    let k = exponent(m, high);
    // With g = -f: g - g^2 q(-g).
    let g = m.sub(1.0, rest);
    let q = m.poly(g, &MIRRORED, &MIRRORED_F64);
    let square = m.mul(g, g);
    let l = m.fma(square, q, g);
    m.fma(k, -k_unit(m), l)
}

/// `k` (in units of [`k_unit`] over ln 2) and `m - 1` of a float given by its bits.
pub(super) fn exponent_and_rest(m: &mut Math, bits: LaneId) -> (LaneId, LaneId) {
    let (high, rest) = split(m, bits);
    let k = exponent(m, high);
    (k, m.sub(rest, 1.0))
}

/// The bits of `k`, where the exponent stands, and `m`.
fn split(m: &mut Math, bits: LaneId) -> (LaneId, LaneId) {
    let above = m.sub(bits, two_thirds(m));
    let high = m.and(above, -1i64 << m.digits());
    let rest = m.sub(bits, high);
    (high, m.as_float(rest))
}

fn two_thirds(m: &Math) -> i64 {
    if m.wide { TWO_THIRDS.1 } else { TWO_THIRDS.0 }
}

/// `k` as a float, from its bits at the place of the exponent: in f32 still multiplied by 2^23, which is exact and
/// saves a shift.
fn exponent(m: &mut Math, high: LaneId) -> LaneId {
    if m.wide {
        let k = m.binary(LaneBinary::Sar, high, 52i64);
        let k = m.convert(LaneConvert::I64ToI32, k);
        m.convert(LaneConvert::I32ToF64, k)
    } else {
        m.convert(LaneConvert::I32ToF32, high)
    }
}

/// What to multiply [`exponent`] by for `k ln 2`.
pub(super) fn k_unit(m: &Math) -> f64 {
    if m.wide { LN_2 } else { LN_2 / (1 << 23) as f64 }
}

/// `ln(1 + f)` for `f` in ±1/3.
fn log_of_rest(m: &mut Math, f: LaneId) -> LaneId {
    let q = m.poly(f, &LOG, &LOG_F64);
    let square = m.mul(f, f);
    m.fma(square, q, f)
}

/// `ln(1 + x)`. 1.7 ulp.
///
/// `k` is taken from the rounded sum `1 + x`, but `m - 1 = (2^-k - 1) + 2^-k x` from `x` itself, with one rounding
/// where it matters: both terms are exact unless they are huge. (The power is four times too large, so that it exists
/// for every `k`; `x` is scaled by its bits: where `k` is not 0, `x` is normal.)
pub fn log1p(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let sum = m.add(x, 1.0);
    let bits = m.bits(sum);
    let above = m.sub(bits, two_thirds(m));
    let high = m.and(above, -1i64 << m.digits());
    let four = (m.bias() + 2) << m.digits();
    let power = m.sub(four, high);
    let power = m.as_float(power);
    let shift = m.fma(power, 0.25, -1.0);
    let bits = m.bits(x);
    let scaled = m.sub(bits, high);
    let scaled = m.as_float(scaled);
    let f = m.add(shift, scaled);
    // The rounding error of the sum.
    let lost = m.sub(shift, f);
    let lost = m.add(lost, scaled);
    let k = exponent(m, high);
    let l = log_of_rest(m, f);
    let l = m.add(l, lost);
    let y = m.fma(k, k_unit(m), l);
    // Zeros (with their sign) and infinity are returned as they are: they equal twice themselves.
    let double = m.add(x, x);
    let own = m.eq(double, x);
    let y = m.select(own, x, y);
    let pole = m.eq(x, -1.0);
    let outside = m.select(pole, f64::NEG_INFINITY, f64::NAN);
    let inside = m.lt(-1.0, x);
    m.select(inside, y, outside)
}

/// `asinh(x)`, as `ln(1 + u)` with `u = a + a^2 / (1 + sqrt(1 + a^2))`, `a = |x|`. 1.8 ulp.
pub fn asinh(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let a = m.abs(x);
    let square = m.mul(a, a);
    let root = m.fma(a, a, 1.0);
    let root = m.sqrt(root);
    let below = m.add(root, 1.0);
    let quotient = m.div(square, below);
    let u = m.add(a, quotient);
    let y = log1p_or_log_twice(m, a, u);
    m.signed_as(y, x)
}

/// `acosh(x)`, as `ln(1 + u)` with `u = t + sqrt(2 t + t^2)`, `t = x - 1`. 1.7 ulp.
pub fn acosh(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let t = m.sub(x, 1.0);
    let double = m.add(t, t);
    let root = m.fma(t, t, double);
    let root = m.sqrt(root);
    let u = m.add(t, root);
    let y = log1p_or_log_twice(m, x, u);
    let inside = m.compare(LaneCompare::Le, 1.0, x);
    m.select(inside, y, f64::NAN)
}

/// `ln(1 + u)`, or `ln 2x` where `x` is large; there, `ln(1 + x)` is `ln x` to the last bit.
fn log1p_or_log_twice(m: &mut Math, x: LaneId, u: LaneId) -> LaneId {
    let large = m.lt(PerFormat(1e10, 1e20), x);
    let u = m.select(large, x, u);
    let y = log1p(m.p, u);
    let twice = m.add(y, LN_2);
    m.select(large, twice, y)
}

/// `atanh(x)`, as `ln(1 + 2a / (1 - a)) / 2`, `a = |x|`. 1.9 ulp.
pub fn atanh(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let a = m.abs(x);
    // 2a + 2a a / (1 - a), so that the rounding of the quotient matters less.
    let below = m.sub(1.0, a);
    let quotient = m.div(a, below);
    let twice = m.add(a, a);
    let u = m.fma(twice, quotient, twice);
    let y = log1p(m.p, u);
    let y = m.mul(y, 0.5);
    let inside = m.compare(LaneCompare::Le, a, 1.0);
    let y = m.select(inside, y, f64::NAN);
    m.signed_as(y, x)
}
