//! Roots and powers.

use std::f64::consts::LN_2;

use super::exp::{EXP_LEAST, exp_parts, scale_twice};
use super::log::{exponent_and_rest, k_unit};
use super::{IntoLane, LaneBinary, LaneConvert, LaneId, LaneProgram, LaneUnary, Math, PerFormat};

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
/// A third of the bits of `|x|`, read as an integer, is 5 bits of the root's, but for a constant (Kahan; the constants
/// are those of FreeBSD's `cbrt`). Halley's rule `y + y (a - y^3) / (2 y^3 + a)` triples the bits each time.
pub fn cbrt(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let magnitude = m.abs(x);
    // Towards 1 by a cube of a power of two: so that it is not denormal and three times it is finite.
    let small = m.lt(magnitude, 1.0);
    let up = PerFormat(2f32.powi(24), 2f64.powi(54));
    let factor = m.select(small, up, PerFormat(1.0 / up.0, 1.0 / up.1));
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
    let back = PerFormat(2f32.powi(8), 2f64.powi(18));
    let factor = m.select(small, PerFormat(1.0 / back.0, 1.0 / back.1), back);
    let y = m.mul(y, factor);
    let y = m.signed_as(y, x);
    // Zeros and infinities equal twice themselves, and are their own roots.
    let double = m.add(x, x);
    let own = m.eq(double, x);
    m.select(own, x, y)
}

/// `x^y`, with every special case of IEEE 754: `pow(x, 0) = pow(1, y) = 1` even for NaN; a negative `x` requires an
/// integer `y`, and the result is negative for an odd one. 1.9 ulp (f64: 2.4).
pub fn pow(p: &mut LaneProgram, x: LaneId, y: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let a = m.abs(x);
    // An infinite exponent, whose product with ln 1 = 0 is NaN, acts as a huge finite one.
    let bounded = m.at_least(y, PerFormat(-1e38, -1e300));
    let bounded = m.at_most(bounded, PerFormat(1e38, 1e300));
    let power = pow_magnitude(m, a, bounded);

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

/// `a^y` for `a >= 0` as `e^(y ln a)`, the logarithm and the product as sums of two floats.
fn pow_magnitude(m: &mut Math, a: LaneId, y: LaneId) -> LaneId {
    /// `ln 2` to 16 (42) bits, so that its multiples by exponents are exact; and its low part.
    const LN_2_SHORT: PerFormat = PerFormat(0.693145751953125, 0.693147180559890330187045037746429443359375);
    const LN_2_REST: PerFormat = PerFormat(1.428606820309417e-6, 5.497923018708371e-14);
    // Of a denormal the exponent is 24 (54) less than that of its multiple.
    let lift = m.digits() + if m.wide { 2 } else { 1 };
    let lifted = m.mul(a, 2f64.powi(lift as i32));
    let denormal = m.lt(a, PerFormat(f32::MIN_POSITIVE, f64::MIN_POSITIVE));
    let normal = m.select(denormal, lifted, a);
    let bits = m.bits(normal);
    let (k, f) = exponent_and_rest(m, bits);
    let unit = k_unit(m) / LN_2;
    let lift = m.select(denormal, -lift as f64 / unit, 0.0);
    let k = m.add(k, lift);

    let (first, rest) = log_in_two(m, f);
    let multiple = m.mul(k, LN_2_SHORT.times(unit));
    let (high, lost) = sum_in_two(m, multiple, first);
    let low = m.add(rest, lost);
    let low = m.fma(k, LN_2_REST.times(unit), low);
    let (l, low) = sum_in_two(m, high, low);
    let l = log_edges(m, a, l);

    let (z, lost) = product_in_two(m, y, l);
    let lost = m.fma(y, low, lost);
    // If the result is 0, infinite or NaN, `z` alone decides.
    let size = m.abs(z);
    let ordinary = m.lt(size, PerFormat(170.0, 1400.0));
    let lost = m.select(ordinary, lost, 0.0);
    let z = m.at_least(z, EXP_LEAST);
    let z = m.at_most(z, PerFormat(90.0, 711.0));
    let (e, half) = exp_parts(m, z, Some(lost));
    scale_twice(m, e, half)
}

/// `ln(1 + f)` for `f` in ±1/3 as the sum of two floats, to some 2^-35 (2^-64) of itself.
///
/// It is `2 artanh s = 2 s (1 + s^2 / 3 + s^4 / 5 + ...)` with `s = f / (2 + f)`; all up to `s^2 / 3` is in two floats,
/// and what is not is at most 0.0004 of the whole.
fn log_in_two(m: &mut Math, f: LaneId) -> (LaneId, LaneId) {
    /// The series of `artanh`, from `s^5 / s^5` on, highest power first.
    const ARTANH: [f32; 5] = [1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0];
    const ARTANH_F64: [f64; 12] = [
        1.0 / 27.0,
        1.0 / 25.0,
        1.0 / 23.0,
        1.0 / 21.0,
        1.0 / 19.0,
        1.0 / 17.0,
        1.0 / 15.0,
        1.0 / 13.0,
        1.0 / 11.0,
        1.0 / 9.0,
        1.0 / 7.0,
        1.0 / 5.0,
    ];
    const THIRD: PerFormat = PerFormat(1.0 / 3.0, 1.0 / 3.0);
    /// Their low parts.
    const THIRD_REST: PerFormat = PerFormat(-9.934108e-9, 1.850371707708594e-17);
    // s, and its low part.
    let (below, below_low) = sum_in_two(m, 2f64, f);
    let inverse = m.div(1.0, below);
    let s = m.mul(f, inverse);
    let negated = m.unary(LaneUnary::Neg, s);
    let rest = m.fma(negated, below, f);
    let rest = m.fma(negated, below_low, rest);
    let s_low = m.mul(rest, inverse);
    // w = s^2 (1/3 + s^2 / 5 + ...).
    let (square, lost) = product_in_two(m, s, s);
    let double = m.add(s, s);
    let square_low = m.fma(double, s_low, lost);
    let q = m.poly(square, &ARTANH, &ARTANH_F64);
    let q = m.fma(square, q, THIRD_REST);
    let (u, u_low) = sum_in_two(m, THIRD, q);
    let (w, lost) = product_in_two(m, square, u);
    let lost = m.fma(square, u_low, lost);
    let w_low = m.fma(square_low, u, lost);
    // s + s w, times two.
    let (more, lost) = product_in_two(m, s, w);
    let lost = m.fma(s, w_low, lost);
    let lost = m.fma(s_low, w, lost);
    let lost = m.add(lost, s_low);
    let (l, lost_again) = sum_in_two(m, s, more);
    let low = m.add(lost_again, lost);
    (m.add(l, l), m.add(low, low))
}

/// `x + y` as a float and its rounding error, where `y` is not the larger (or `x` is 0).
fn sum_in_two(m: &mut Math, x: impl IntoLane, y: LaneId) -> (LaneId, LaneId) {
    let x = x.lane(m);
    let sum = m.add(x, y);
    let taken = m.sub(x, sum);
    (sum, m.add(taken, y))
}

/// `x y` as a float and its rounding error.
fn product_in_two(m: &mut Math, x: LaneId, y: LaneId) -> (LaneId, LaneId) {
    let product = m.mul(x, y);
    let negated = m.unary(LaneUnary::Neg, product);
    (product, m.fma(x, y, negated))
}

/// `l`, or the logarithm of 0, infinity and NaN.
fn log_edges(m: &mut Math, a: LaneId, l: LaneId) -> LaneId {
    let zero = m.eq(a, 0.0);
    let l = m.select(zero, f64::NEG_INFINITY, l);
    let finite = m.lt(a, f64::INFINITY);
    m.select(finite, l, a)
}
