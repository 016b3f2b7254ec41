//! Roots and powers.

use std::f64::consts::LOG2_E;

use super::exp::{EXP_LEAST, exp_parts, scale_twice};
use super::log::{LOG_F64, exponent_and_rest};
use super::{Each, LaneBinary, LaneConvert, LaneId, LaneProgram, LaneType, LaneUnary, Math, Operand};

/// `1 / sqrt(x)`: two instructions, each rounded. 1.5 ulp.
pub fn rsqrt(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let root = m.sqrt(x);
    m.div(1.0, root)
}

/// `x^n` by repeated squaring; `1 / x^-n` for negative `n`, as JAX has it.
pub fn powi(p: &mut LaneProgram, x: LaneId, n: i32) -> LaneId {
    let m = &mut Math::of(p, x);
    let mut rest = n.unsigned_abs();
    let mut power = x;
    let mut y = None;
    while rest > 0 {
        if rest & 1 == 1 {
            y = Some(match y {
                Some(y) => m.mul(y, power),
                None => power,
            });
        }
        rest >>= 1;
        if rest > 0 {
            power = m.mul(power, power);
        }
    }
    let y = match y {
        Some(y) => y,
        None => return 1.0.lane(m),
    };
    if n < 0 { m.div(1.0, y) } else { y }
}

/// The cube root. 0.8 ulp.
///
/// A third of the bits of `|x|`, read as an integer, is 5 bits of the root's, but for a constant (Kahan; the constants are
/// those of FreeBSD's `cbrt`). Halley's rule `y + y (a - y^3) / (2 y^3 + a)` triples the bits each time.
pub fn cbrt(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let magnitude = m.abs(x);
    // Towards 1 by a cube of a power of two: so that it is not denormal, and three times it is finite.
    let small = m.lt(magnitude, 1.0);
    let up = Each(2f32.powi(24), 2f64.powi(54));
    let factor = m.select(small, up, Each(1.0 / up.0, 1.0 / up.1));
    let a = m.mul(magnitude, factor);
    let bits = m.bits(a);
    let mut y = if m.wide {
        let high = m.binary(LaneBinary::Shr, bits, 32i64);
        let high = m.convert(LaneConvert::I64ToI32, high);
        let high = m.convert(LaneConvert::I32ToF64, high);
        let high = m.fma(high, 1.0 / 3.0, 715094163.0);
        let high = m.convert(LaneConvert::F64ToI32, high);
        let high = m.convert(LaneConvert::I32ToI64, high);
        m.shl(high, 32)
    } else {
        let bits = m.convert(LaneConvert::I32ToF32, bits);
        let bits = m.fma(bits, 1.0 / 3.0, 709958130.0);
        m.convert(LaneConvert::F32ToI32, bits)
    };
    y = m.as_float(y);
    let negated = m.unary(LaneUnary::Neg, a);
    for _ in 0..if m.wide { 3 } else { 2 } {
        let square = m.mul(y, y);
        let above = m.fma(square, y, negated);
        let cube = m.mul(square, y);
        let below = m.fma(cube, -2.0, negated);
        let step = m.div(above, below);
        y = m.fma(y, step, y);
    }
    let back = Each(2f32.powi(8), 2f64.powi(18));
    let factor = m.select(small, Each(1.0 / back.0, 1.0 / back.1), back);
    let y = m.mul(y, factor);
    let y = m.signed_as(y, x);
    // Zeros and infinities are their own doubles, and their own roots.
    let double = m.add(x, x);
    let own = m.eq(double, x);
    m.select(own, x, y)
}

/// `x^y`, with every special case of IEEE 754: `pow(x, 0) = pow(1, y) = 1` even for NaN; a negative `x` takes integers
/// only, and an odd one keeps its sign. f32 goes through f64 lanes, and is off by 0.51 ulp; f64 by 30.
pub fn pow(p: &mut LaneProgram, x: LaneId, y: LaneId) -> LaneId {
    if p.ty(x) == LaneType::F32 {
        let x = p.convert(LaneConvert::F32ToF64, x);
        let y = p.convert(LaneConvert::F32ToF64, y);
        let power = pow_wide(p, x, y, pow_magnitude_single);
        p.convert(LaneConvert::F64ToF32, power)
    } else {
        pow_wide(p, x, y, pow_magnitude_double)
    }
}

fn pow_wide(p: &mut LaneProgram, x: LaneId, y: LaneId, magnitude: fn(&mut Math, LaneId, LaneId) -> LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let a = m.abs(x);
    // An infinite exponent, which would make NaN of ln 1 = 0, acts as a huge one.
    let bounded = m.at_least(y, -1e300);
    let bounded = m.at_most(bounded, 1e300);
    let power = magnitude(m, a, bounded);

    let whole = m.trunc(y);
    let integer = m.eq(whole, y);
    let half = m.mul(y, 0.5);
    let whole = m.trunc(half);
    let even = m.eq(whole, half);
    let odd = m.unary(LaneUnary::Not, even);
    let odd = m.and(odd, integer);
    let bits = m.bits(x);
    let sign = m.and(bits, m.sign_bit());
    let sign = m.select(odd, sign, 0i64);
    let bits = m.bits(power);
    let bits = m.xor(bits, sign);
    let power = m.as_float(bits);

    let negative = m.lt(x, 0.0);
    let finite = m.lt(f64::NEG_INFINITY, x);
    let broken = m.unary(LaneUnary::Not, integer);
    let outside = m.and(negative, finite);
    let outside = m.and(outside, broken);
    let power = m.select(outside, f64::NAN, power);

    let base = m.eq(x, 1.0);
    let exponent = m.eq(y, 0.0);
    let one = m.or(base, exponent);
    m.select(one, 1.0, power)
}

/// `a^y` for `a >= 0`, for results that are to be f32s: `2^(y log2 a)` with a relative error near 1e-9.
fn pow_magnitude_single(m: &mut Math, a: LaneId, y: LaneId) -> LaneId {
    /// `(ln(1 + f) - f) / f^2` on ±1/3; our fit, relative error of `ln(1 + f)` 1.6e-11.
    const LOG: [f64; 12] = [
        0.10904692288890779,
        -0.11504663130607223,
        0.08570530026165742,
        -0.09531009884533025,
        0.11151266649401492,
        -0.12532159947747615,
        0.14284161149514862,
        -0.16665611701444777,
        0.20000027712456894,
        -0.25000014634666295,
        0.33333333165381746,
        -0.4999999994346559,
    ];
    /// `2^r` on ±1/2; our fit, relative error 2.3e-10.
    const EXP2: [f64; 8] = [
        1.335951213871236e-05,
        0.00015461367747479402,
        0.0013341952414896885,
        0.009618056918993227,
        0.0555040037363715,
        0.2402265092078633,
        0.6931471838172372,
        1.0,
    ];
    let bits = m.bits(a);
    let (k, f) = exponent_and_rest(m, bits);
    let q = m.poly(f, &[], &LOG);
    let square = m.mul(f, f);
    let l = m.fma(square, q, f);
    let l = m.fma(l, LOG2_E, k);
    let l = log_edges(m, a, l);
    let z = m.mul(y, l);
    let z = m.at_least(z, -1000.0);
    let z = m.at_most(z, 1000.0);
    let rounder = m.rounder(m.bias());
    let t = m.fma(z, 1.0, rounder);
    let n = m.sub(t, rounder);
    let r = m.sub(z, n);
    let e = m.poly(r, &[], &EXP2);
    let s = m.power_of_two(t);
    m.mul(e, s)
}

/// `a^y` for `a >= 0` as `e^(y ln a)`, the logarithm and the product as sums of two floats.
///
/// `ln(1 + f) = f - f^2 / 2 + f^3 p`: the first two terms and their rounding errors are kept exactly, and the third is at
/// most 0.013, so that its rounding errors are 2^-59.
fn pow_magnitude_double(m: &mut Math, a: LaneId, y: LaneId) -> LaneId {
    /// `ln 2` to 42 bits, so that its multiples by exponents are exact; and what it lacks.
    const LN_2_SHORT: f64 = 0.693147180559890330187045037746429443359375;
    const LN_2_REST: f64 = 5.497923018708371e-14;
    let lifted = m.mul(a, 18014398509481984.0);
    let denormal = m.lt(a, f64::MIN_POSITIVE);
    let normal = m.select(denormal, lifted, a);
    let bits = m.bits(normal);
    let (k, f) = exponent_and_rest(m, bits);
    let lift = m.select(denormal, -54.0, 0.0);
    let k = m.add(k, lift);

    let square = m.mul(f, f);
    let negated = m.unary(LaneUnary::Neg, square);
    let square_low = m.fma(f, f, negated);
    let first = m.fma(square, -0.5, f);
    let lost = m.sub(f, first);
    let lost = m.fma(square, -0.5, lost);
    let lost = m.fma(square_low, -0.5, lost);
    let q = m.poly(f, &[], &LOG_F64[..LOG_F64.len() - 1]);
    let cube = m.mul(square, f);
    let low = m.fma(cube, q, lost);

    let multiple = m.mul(k, LN_2_SHORT);
    let high = m.add(multiple, first);
    let lost = m.sub(multiple, high);
    let lost = m.add(lost, first);
    let low = m.add(low, lost);
    let low = m.fma(k, LN_2_REST, low);
    let l = m.add(high, low);
    let lost = m.sub(high, l);
    let low = m.add(lost, low);
    let l = log_edges(m, a, l);

    let z = m.mul(y, l);
    let negated = m.unary(LaneUnary::Neg, z);
    let lost = m.fma(y, l, negated);
    let lost = m.fma(y, low, lost);
    // Where the result is 0, infinite or NaN, `z` says so alone.
    let size = m.abs(z);
    let ordinary = m.lt(size, 1000.0);
    let lost = m.select(ordinary, lost, 0.0);
    let z = m.at_least(z, EXP_LEAST);
    let z = m.at_most(z, 711.0);
    let (e, half) = exp_parts(m, z, Some(lost));
    scale_twice(m, e, half)
}

/// `l`, or the logarithm of 0, infinity and NaN.
fn log_edges(m: &mut Math, a: LaneId, l: LaneId) -> LaneId {
    let zero = m.eq(a, 0.0);
    let l = m.select(zero, f64::NEG_INFINITY, l);
    let finite = m.lt(a, f64::INFINITY);
    m.select(finite, l, a)
}
