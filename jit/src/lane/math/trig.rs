//! Trigonometric functions and their inverses.
//!
//! `sin`, `cos` and `tan` write `|x| = n pi/2 + r`, and need a polynomial for the sine of `r` and one for its cosine; `n`
//! says which to take, and its sign. `pi/2` is subtracted in three parts (Cody and Waite): the first difference is exact,
//! as it is a multiple of the last place of `x` or of the first part, whichever is less, and small; the others are each
//! rounded once. So `r` is right to its last bits however close `x` is to a multiple of `pi/2`.
//!
//! That holds as long as `n` is found with an error well below one half: for `|x|` below 2^21 (f64: 2^48). **Beyond, the
//! result is NaN**, and not some number: neighbouring floats are then a quarter (f64: a sixteenth) or more apart, and a
//! phase means little. A right answer would take some 70 more instructions in every kernel with a sine.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, PI};

use super::{Each, LaneCompare, LaneId, LaneProgram, Math};

/// Where `sin`, `cos` and `tan` end.
const LIMIT: Each = Each(2097152.0, 281474976710656.0);

/// `pi/2` cut into parts, each truncated, so that `0 - n * part` is -0 for `n = 0`.
const FRAC_PI_2_PARTS: [Each; 3] = [
    Each(1.5707963, 1.5707963267948966),
    Each(7.5497894e-8, 6.123233995736765e-17),
    Each(5.3903025e-15, 1.0828566739219139e-32),
];

/// `(sin(r) - r) / r^3` in `r^2`, for `|r|` to 0.88; our fit, relative errors 9.8e-9 and 7e-18.
const SIN: [f32; 3] = [-0.00019433972, 0.008331505, -0.16666643];
const SIN_F64: [f64; 7] = [
    -7.561035441746119e-13,
    1.605797069455347e-10,
    -2.5052101444350212e-08,
    2.7557319199280775e-06,
    -0.00019841269841222746,
    0.00833333333333329,
    -0.16666666666666666,
];

/// `(cos(r) - 1 + r^2 / 2) / r^4` in `r^2`, for `|r|` to 0.88; our fit, relative errors 4.1e-10 and 2e-18.
const COS: [f32; 3] = [2.4333145e-05, -0.001388634, 0.041666623];
const COS_F64: [f64; 7] = [
    4.727006480728547e-14,
    -1.1470016240687397e-11,
    2.0876751602911315e-09,
    -2.755731920140543e-07,
    2.4801587301534223e-05,
    -0.0013888888888888824,
    0.041666666666666664,
];

/// `(atan(x) - x) / x^3` in `x^2`, on [0, 1]; our fit, relative errors 1.7e-8 and 2.4e-17.
const ATAN: [f32; 8] =
    [0.0029194772, -0.016363332, 0.043204863, -0.075516656, 0.1066577, -0.14211002, 0.19993767, -0.33333153];
const ATAN_F64: [f64; 21] = [
    -8.653763542130782e-06,
    0.0001038671627285107,
    -0.0005928697264571521,
    0.0021515159331518905,
    -0.005612234823180266,
    0.011317414586328673,
    -0.01861392317742074,
    0.026151418642314826,
    -0.03278525511555887,
    0.03820996878479714,
    -0.042863868178354816,
    0.04744924731836297,
    -0.05259433425119083,
    0.058817160807560206,
    -0.06666583711631607,
    0.07692299710511401,
    -0.0909090854715094,
    0.11111111086441273,
    -0.14285714285036394,
    0.19999999999990442,
    -0.33333333333333287,
];

/// `(asin(x) - x) / x^3` in `x^2`, on [0, 1/2]; our fit, relative errors 4.9e-9 and 2e-18.
const ASIN: [f32; 5] = [0.042158388, 0.024184743, 0.045469154, 0.074953094, 0.16666752];
const ASIN_F64: [f64; 13] = [
    0.0326285148893008,
    -0.02099887500344218,
    0.021707304878084012,
    0.003706471115337478,
    0.010780235337523808,
    0.011398915459391678,
    0.01398082014662204,
    0.017351612046606745,
    0.02237221498588962,
    0.030381942707841617,
    0.04464285717461075,
    0.07499999999970801,
    0.1666666666666676,
];

/// Sine and cosine of the remainder `r` of `|x|`, the integer that ends in the bits of `n`, and whether `x` is in range.
struct Reduced {
    sin: LaneId,
    cos: LaneId,
    n: LaneId,
    in_range: LaneId,
}

fn reduce(m: &mut Math, x: LaneId) -> Reduced {
    let a = m.abs(x);
    let in_range = m.lt(a, LIMIT);
    let rounder = m.rounder(0);
    let t = m.fma(a, FRAC_2_PI, rounder);
    let n = m.sub(t, rounder);
    let mut r = a;
    for part in FRAC_PI_2_PARTS {
        r = m.fma(n, Each(-part.0, -part.1), r);
    }
    let square = m.mul(r, r);
    let q = m.poly(square, &SIN, &SIN_F64);
    let cube = m.mul(square, r);
    let sin = m.fma(cube, q, r);
    let q = m.poly(square, &COS, &COS_F64);
    let q = m.fma(q, square, -0.5);
    let cos = m.fma(q, square, 1.0);
    Reduced { sin, cos, n: m.bits(t), in_range }
}

impl Reduced {
    /// Whether `n` is even.
    fn is_even(&self, m: &mut Math) -> LaneId {
        let parity = m.and(self.n, 1i64);
        m.eq(parity, 0i64)
    }

    /// `y` with its sign flipped where the sign bit of `flip` is set, in range.
    fn finish(&self, m: &mut Math, y: LaneId, flip: LaneId) -> LaneId {
        let sign = m.and(flip, m.sign_bit());
        let bits = m.bits(y);
        let bits = m.xor(bits, sign);
        let y = m.from_bits(bits);
        m.select(self.in_range, y, f64::NAN)
    }
}

/// `sin x`, for `|x|` below [`LIMIT`].
pub fn sin(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let r = reduce(m, x);
    let even = r.is_even(m);
    let y = m.select(even, r.sin, r.cos);
    // The second bit of `n` flips the sign, and so does the sign of `x`.
    let turn = m.shl(r.n, m.width() - 2);
    let bits = m.bits(x);
    let flip = m.xor(turn, bits);
    r.finish(m, y, flip)
}

/// `cos x`, for `|x|` below [`LIMIT`].
pub fn cos(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let r = reduce(m, x);
    let even = r.is_even(m);
    let y = m.select(even, r.cos, r.sin);
    // A quarter turn ahead of the sine.
    let n = m.add(r.n, 1i64);
    let flip = m.shl(n, m.width() - 2);
    r.finish(m, y, flip)
}

/// `tan x`, for `|x|` below [`LIMIT`].
pub fn tan(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let r = reduce(m, x);
    let even = r.is_even(m);
    let above = m.select(even, r.sin, r.cos);
    let below = m.select(even, r.cos, r.sin);
    let y = m.div(above, below);
    // For odd `n` it is minus the cotangent of `r`.
    let turn = m.shl(r.n, m.width() - 1);
    let bits = m.bits(x);
    let flip = m.xor(turn, bits);
    r.finish(m, y, flip)
}

/// `atan(a)` for `a` in [0, 1].
fn atan_unit(m: &mut Math, a: LaneId) -> LaneId {
    let square = m.mul(a, a);
    let q = m.poly(square, &ATAN, &ATAN_F64);
    let cube = m.mul(square, a);
    m.fma(cube, q, a)
}

/// `atan(x)`: `pi/2 - atan(1/|x|)` beyond ±1.
pub fn atan(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let a = m.abs(x);
    let inverse = m.div(1.0, a);
    let large = m.lt(1.0, a);
    let unit = m.select(large, inverse, a);
    let small = atan_unit(m, unit);
    let rest = m.sub(FRAC_PI_2, small);
    let y = m.select(large, rest, small);
    m.signed_as(y, x)
}

/// The angle of the point `(x, y)`, with every special case of C's `atan2`.
pub fn atan2(p: &mut LaneProgram, y: LaneId, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let (a, b) = (m.abs(x), m.abs(y));
    let steep = m.lt(a, b);
    let above = m.select(steep, a, b);
    let below = m.select(steep, b, a);
    let quotient = m.div(above, below);
    // At the origin the angle of x, and between infinities that of the diagonal.
    let origin = m.eq(below, 0.0);
    let quotient = m.select(origin, 0.0, quotient);
    let diagonal = m.eq(above, f64::INFINITY);
    let quotient = m.select(diagonal, 1.0, quotient);
    let angle = atan_unit(m, quotient);
    let rest = m.sub(FRAC_PI_2, angle);
    let angle = m.select(steep, rest, angle);
    // The sign bit counts, so that -0 is on the left.
    let bits = m.bits(x);
    let left = m.compare(LaneCompare::Lt, bits, 0i64);
    let rest = m.sub(PI, angle);
    let angle = m.select(left, rest, angle);
    m.signed_as(angle, y)
}

/// `asin(a)` for `a` in [0, 1] or, above 1/2, half of `pi/2` minus it; and which it is. NaN above 1.
///
/// `asin(a) = pi/2 - 2 asin(sqrt((1 - a) / 2))`.
fn asin_unit(m: &mut Math, a: LaneId) -> (LaneId, LaneId) {
    let large = m.lt(0.5, a);
    let square = m.mul(a, a);
    let other = m.fma(a, -0.5, 0.5);
    let square = m.select(large, other, square);
    let root = m.sqrt(other);
    let unit = m.select(large, root, a);
    let q = m.poly(square, &ASIN, &ASIN_F64);
    let cube = m.mul(square, unit);
    (m.fma(cube, q, unit), large)
}

/// `asin(x)`, NaN beyond ±1.
pub fn asin(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let a = m.abs(x);
    let (y, large) = asin_unit(m, a);
    let rest = m.fma(y, -2.0, FRAC_PI_2);
    let y = m.select(large, rest, y);
    m.signed_as(y, x)
}

/// `acos(x)`, NaN beyond ±1.
pub fn acos(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let a = m.abs(x);
    let (y, large) = asin_unit(m, a);
    let negative = m.lt(x, 0.0);
    // pi/2 -+ y, 2 y or pi - 2 y.
    let signed = m.signed_as(y, x);
    let small = m.sub(FRAC_PI_2, signed);
    let twice = m.add(y, y);
    let left = m.sub(PI, twice);
    let far = m.select(negative, left, twice);
    m.select(large, far, small)
}
