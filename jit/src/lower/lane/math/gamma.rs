//! The logarithm of the gamma function, and its derivative.
//!
//! f32 lanes are computed in f64, since the terms cancel near zeros and poles. Errors are 0.51 ulp in f32; in f64 some
//! 1e-15 of the result or, near its zeros (but those of `lgamma` at 1 and 2), of 1.

use std::f64::consts::PI;

use super::trig::{sin, tan};
use super::{IntoLane, LaneConvert, LaneId, LaneProgram, LaneType, LaneUnary, Math, log};

/// `ln gamma(2 + z) / z` on ±1/2; our fit, relative error 1.8e-17.
const LN_GAMMA: [f64; 18] = [
    2.9770728464791957e-07,
    -5.806145861773612e-07,
    8.99900521407754e-07,
    -1.974824053381064e-06,
    4.393521155647152e-06,
    -9.45607988848118e-06,
    2.050354399176408e-05,
    -4.492377171362812e-05,
    9.945794416367344e-05,
    -0.00022315497228666796,
    0.0005096694951165189,
    -0.0011927539013279523,
    0.002890510331841414,
    -0.007385551028925229,
    0.020580808427765968,
    -0.06735230105319576,
    0.3224670334241133,
    0.42278433509846713,
];

/// Stirling's series, `B(2k) / (2k (2k - 1))` in `1 / y^2`, times `1 / y`: its error from 8 on is 1e-16.
const STIRLING: [f64; 8] = [
    -3617.0 / 122400.0,
    1.0 / 156.0,
    -691.0 / 360360.0,
    1.0 / 1188.0,
    -1.0 / 1680.0,
    1.0 / 1260.0,
    -1.0 / 360.0,
    1.0 / 12.0,
];

/// The same for the derivative: `B(2k) / 2k` in `1 / y^2`, times `1 / y^2`.
const DIGAMMA: [f64; 8] =
    [-3617.0 / 8160.0, 1.0 / 12.0, -691.0 / 32760.0, 1.0 / 132.0, -1.0 / 240.0, 1.0 / 252.0, -1.0 / 120.0, 1.0 / 12.0];

/// `ln |gamma(x)|`: infinite at 0, at negative integers and at infinities.
///
/// From 8 on by Stirling's series; below, `gamma(y + 1) = y gamma(y)` leads to [1.5, 2.5]; and below 1/2,
/// `gamma(x) gamma(1 - x) = pi / sin(pi x)` leads there from above.
pub fn lgamma(p: &mut LaneProgram, x: LaneId) -> LaneId {
    through_f64(p, x, |p, x| {
        let m = &mut Math::of(p, x);
        let reflected = m.lt(x, 0.5);
        let mirror = m.sub(1.0, x);
        let y = m.select(reflected, mirror, x);

        // Down to [1.5, 2.5]: the product (y - 1) (y - 2) … of as many factors as it takes.
        let mut product = 1.0.lane(m);
        let mut z = y;
        for step in 1..=6 {
            let above = m.lt(step as f64 + 1.5, y);
            let next = m.sub(y, step as f64);
            let longer = m.mul(product, next);
            product = m.select(above, longer, product);
            z = m.select(above, next, z);
        }
        // Or up to there, from below 1.5: then the logarithm of `y` is subtracted.
        let below = m.lt(y, 1.5);
        let next = m.add(y, 1.0);
        z = m.select(below, next, z);
        let factor = m.select(below, y, product);

        let large = m.lt(8.0, y);
        let argument = m.select(large, y, factor);
        let l = log(m.p, argument);

        let z = m.sub(z, 2.0);
        let q = m.poly(z, &[], &LN_GAMMA);
        let negated = m.unary(LaneUnary::Neg, l);
        let signed = m.select(below, negated, l);
        let small = m.fma(z, q, signed);

        // (y - 1/2) ln y - y + ln(2 pi) / 2 + …
        let inverse = m.div(1.0, y);
        let square = m.mul(inverse, inverse);
        let series = m.poly(square, &[], &STIRLING);
        let series = m.fma(series, inverse, 0.5 * LN_2PI);
        let half = m.fma(l, -0.5, series);
        let rest = m.sub(l, 1.0);
        let stirling = m.fma(y, rest, half);
        let direct = m.select(large, stirling, small);

        let pi_x = pi_times_fraction(m, x);
        let sine = sin(m.p, pi_x);
        let sine = m.abs(sine);
        let quotient = m.div(PI, sine);
        let l = log(m.p, quotient);
        let mirrored = m.sub(l, direct);
        let y = m.select(reflected, mirrored, direct);
        let magnitude = m.abs(x);
        let infinite = m.eq(magnitude, f64::INFINITY);
        m.select(infinite, f64::INFINITY, y)
    })
}

const LN_2PI: f64 = 1.8378770664093453;

/// The derivative of [`lgamma`]: NaN at 0 and at negative integers, as in XLA.
///
/// The asymptotic series from 8 on; below, `digamma(y) = digamma(y + 8) - (1 / y + … + 1 / (y + 7))`, the sum as one
/// fraction; and below 1/2, `digamma(x) = digamma(1 - x) - pi / tan(pi x)`.
pub fn digamma(p: &mut LaneProgram, x: LaneId) -> LaneId {
    through_f64(p, x, |p, x| {
        let m = &mut Math::of(p, x);
        let reflected = m.lt(x, 0.5);
        let mirror = m.sub(1.0, x);
        let y = m.select(reflected, mirror, x);

        let mut above = 1.0.lane(m);
        let mut below = y;
        for step in 1..8 {
            let next = m.add(y, step as f64);
            above = m.fma(above, next, below);
            below = m.mul(below, next);
        }
        let sum = m.div(above, below);
        let large = m.lt(8.0, y);
        let sum = m.select(large, 0.0, sum);
        let moved = m.add(y, 8.0);
        let y = m.select(large, y, moved);

        let l = log(m.p, y);
        let inverse = m.div(1.0, y);
        let square = m.mul(inverse, inverse);
        let series = m.poly(square, &[], &DIGAMMA);
        let y = m.fma(inverse, -0.5, l);
        let negated = m.unary(LaneUnary::Neg, square);
        let y = m.fma(series, negated, y);
        let y = m.sub(y, sum);

        let pi_x = pi_times_fraction(m, x);
        let tangent = tan(m.p, pi_x);
        let step = m.div(PI, tangent);
        let mirrored = m.sub(y, step);
        let y = m.select(reflected, mirrored, y);
        let whole = m.unary(LaneUnary::Floor, x);
        let whole = m.eq(whole, x);
        let positive = m.lt(0.0, x);
        let not_positive = m.unary(LaneUnary::Not, positive);
        let pole = m.and(whole, not_positive);
        m.select(pole, f64::NAN, y)
    })
}

/// `pi` times the distance of `x` from the nearest integer.
fn pi_times_fraction(m: &mut Math, x: LaneId) -> LaneId {
    let whole = m.unary(LaneUnary::Nearest, x);
    let fraction = m.sub(x, whole);
    m.mul(fraction, PI)
}

/// `f` on f64 lanes, whichever `x` are.
pub(super) fn through_f64(p: &mut LaneProgram, x: LaneId, f: impl Fn(&mut LaneProgram, LaneId) -> LaneId) -> LaneId {
    if p.ty(x) == LaneType::F32 {
        let x = p.convert(LaneConvert::F32ToF64, x);
        let y = f(p, x);
        p.convert(LaneConvert::F64ToF32, y)
    } else {
        f(p, x)
    }
}
