//! Trigonometric functions and their inverses.
//!
//! `sin`, `cos` and `tan` write `|x| = n pi/2 + r`, and need a polynomial for the sine of `r` and one for its cosine;
//! `n` says which to take, and its sign. `pi/2` is subtracted in three parts (Cody and Waite): the first difference is
//! exact, as it is a multiple of the last place of `x` or of the first part, whichever is less, and small; the second
//! is rounded once; the third is kept separate. So `r` is right to its last bit however close `x` is to a multiple of
//! `pi/2`.
//!
//! That holds as long as `n` is found with an error well below one half: for `|x|` below 2^21 (f64: 2^48). Beyond, a
//! lane takes the slow path ([`Rare`]), which reduces with as many digits of `2/pi` as needed (Payne and Hanek).

use std::f32::consts::FRAC_PI_2 as FRAC_PI_2_F32;
use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, PI};

use super::{LaneCompare, LaneId, LaneProgram, LaneUnary, Math, PerFormat, Rare};

/// The least argument for which `sin`, `cos` and `tan` take the slow path.
const LIMIT: PerFormat = PerFormat(2097152.0, 281474976710656.0);

/// Minus `pi/2`, as the sum of three.
const MINUS_FRAC_PI_2: [PerFormat; 3] = [
    PerFormat(-FRAC_PI_2_F32, -FRAC_PI_2),
    PerFormat(4.371139e-8, -6.123233995736766e-17),
    PerFormat(1.7151245e-15, 1.4973849048591698e-33),
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

/// `(tan(r) - r) / r^3` in `r^2`, for `|r|` to 0.88; our fit, relative errors 1.1e-8 and 1.7e-17.
const TAN: [f32; 7] = [0.006051952, -0.0036601522, 0.014107905, 0.019883288, 0.0543605, 0.13329719, 0.33333445];
const TAN_F64: [f64; 19] = [
    1.0329558535572538e-06,
    -5.444115470114343e-06,
    1.5167736454818651e-05,
    -2.5360087178821716e-05,
    3.201475337347108e-05,
    -2.4654812683310402e-05,
    2.4589933181168726e-05,
    6.665441850011736e-06,
    4.2925444970800786e-05,
    9.580409375192165e-05,
    0.00023938953736655035,
    0.0005899810253281215,
    0.0014558405663957997,
    0.0035921274383730285,
    0.008863235570387339,
    0.021869488534348967,
    0.05396825396830238,
    0.13333333333333267,
    0.3333333333333333,
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

/// `(asin(x) - x) / x^3` in `x^2`, on [0, 0.55]; our fit, relative errors 1.3e-9 and 6e-18.
const ASIN: [f32; 6] = [0.045293767, 0.008577721, 0.033443388, 0.044310994, 0.07501627, 0.1666664];
const ASIN_F64: [f64; 14] = [
    0.05288514866713271,
    -0.062273472372770505,
    0.055139398038381034,
    -0.014308855417919148,
    0.014860155743064672,
    0.00840624334432976,
    0.01175360834972499,
    0.01394349995235373,
    0.017354344841901338,
    0.02237207958569429,
    0.030381947025522806,
    0.04464285709328174,
    0.07500000000048057,
    0.16666666666666505,
];

/// An argument as `|x| = n pi/2 + r`.
struct Reduced {
    r: LaneId,
    /// The low part of `r`, which matters if `r` is tiny.
    low: LaneId,
    /// An integer whose lowest bits are those of `n`.
    n: LaneId,
    is_even: LaneId,
    /// The argument, and whether it takes the slow path.
    x: LaneId,
    is_large: LaneId,
}

fn reduce(m: &mut Math, x: LaneId) -> Reduced {
    let a = m.abs(x);
    let is_large = m.compare(LaneCompare::Le, LIMIT, a);
    let rounder = m.rounder(0);
    let t = m.fma(a, FRAC_2_PI, rounder);
    let n = m.sub(t, rounder);
    let [first, second, third] = MINUS_FRAC_PI_2;
    let exact = m.fma(n, first, a);
    let r = m.fma(n, second, exact);
    let low = m.mul(n, third);
    let n = m.bits(t);
    let parity = m.and(n, 1i64);
    let is_even = m.eq(parity, 0i64);
    Reduced { r, low, n, is_even, x, is_large }
}

impl Reduced {
    fn sin(&self, m: &mut Math) -> LaneId {
        let r = self.r;
        let square = m.mul(r, r);
        let q = m.poly(square, &SIN, &SIN_F64);
        let cube = m.mul(square, r);
        let rest = m.fma(cube, q, self.low);
        m.add(r, rest)
    }

    fn cos(&self, m: &mut Math) -> LaneId {
        let r = self.r;
        let square = m.mul(r, r);
        let q = m.poly(square, &COS, &COS_F64);
        let q = m.fma(q, square, -0.5);
        m.fma(q, square, 1.0)
    }

    /// The tangent, and its low part.
    fn tan(&self, m: &mut Math) -> (LaneId, LaneId) {
        let square = m.mul(self.r, self.r);
        let q = m.poly(square, &TAN, &TAN_F64);
        let cube = m.mul(square, self.r);
        let rest = m.fma(cube, q, self.low);
        let tan = m.add(self.r, rest);
        let lost = m.sub(self.r, tan);
        (tan, m.add(lost, rest))
    }

    /// `y` with its sign flipped where the sign bit of `flip` is set; on the slow path the result of `function`.
    fn finish(&self, m: &mut Math, y: LaneId, flip: LaneId, function: Rare) -> LaneId {
        let sign = m.and(flip, m.sign_bit());
        let bits = m.bits(y);
        let bits = m.xor(bits, sign);
        let y = m.as_float(bits);
        m.p.rare(function, self.is_large, self.x, self.x, y)
    }
}

/// `sin x`. 1.6 ulp.
pub fn sin(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let r = reduce(m, x);
    let (even, odd) = (r.sin(m), r.cos(m));
    let y = m.select(r.is_even, even, odd);
    // The second bit of `n` flips the sign, and so does the sign of `x`.
    let turn = m.shl(r.n, m.width() - 2);
    let bits = m.bits(x);
    let flip = m.xor(turn, bits);
    r.finish(m, y, flip, Rare::Sin)
}

/// `cos x`. 1.6 ulp.
pub fn cos(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let r = reduce(m, x);
    let (even, odd) = (r.cos(m), r.sin(m));
    let y = m.select(r.is_even, even, odd);
    // A quarter turn ahead of the sine.
    let n = m.add(r.n, 1i64);
    let flip = m.shl(n, m.width() - 2);
    r.finish(m, y, flip, Rare::Cos)
}

/// `tan x`. 2.0 ulp.
pub fn tan(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let r = reduce(m, x);
    let (even, low) = r.tan(m);
    // For odd `n` it is minus the cotangent of `r`: a quotient, and a Newton step with its low part and that of the
    // tangent.
    let quotient = m.div(1.0, even);
    let negated = m.unary(LaneUnary::Neg, quotient);
    let error = m.fma(negated, even, 1.0);
    let error = m.fma(negated, low, error);
    let odd = m.fma(quotient, error, quotient);
    let y = m.select(r.is_even, even, odd);
    let turn = m.shl(r.n, m.width() - 1);
    let bits = m.bits(x);
    let flip = m.xor(turn, bits);
    r.finish(m, y, flip, Rare::Tan)
}

/// `atan(a)` for `a` in [0, 1].
fn atan_unit(m: &mut Math, a: LaneId) -> LaneId {
    let square = m.mul(a, a);
    let q = m.poly(square, &ATAN, &ATAN_F64);
    let cube = m.mul(square, a);
    m.fma(cube, q, a)
}

/// `atan(x)`: `pi/2 - atan(1/|x|)` beyond ±1. 2.0 ulp.
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

/// The angle of the point `(x, y)`, with every special case of C's `atan2`. 2.0 ulp.
pub fn atan2(p: &mut LaneProgram, y: LaneId, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let (a, b) = (m.abs(x), m.abs(y));
    let steep = m.lt(a, b);
    let above = m.select(steep, a, b);
    let below = m.select(steep, b, a);
    let quotient = m.div(above, below);
    // The quotient of equal operands is 1, also of infinities; of zeros it is 0.
    let away = m.lt(0.0, below);
    let diagonal = m.select(away, 1.0, 0.0);
    let same = m.eq(above, below);
    let quotient = m.select(same, diagonal, quotient);
    let angle = atan_unit(m, quotient);
    let rest = m.sub(FRAC_PI_2, angle);
    let angle = m.select(steep, rest, angle);
    // The sign bit decides, so -0 is on the left.
    let bits = m.bits(x);
    let left = m.compare(LaneCompare::Lt, bits, 0i64);
    let rest = m.sub(PI, angle);
    let angle = m.select(left, rest, angle);
    m.signed_as(angle, y)
}

/// `asin(a)` or, for `a` above 0.55 (the second result says where), `y` such that it is `pi/2 - 2 y`. NaN above 1.
///
/// `asin(a) = pi/2 - 2 asin(sqrt((1 - a) / 2))`.
fn arcsine(m: &mut Math, a: LaneId) -> (LaneId, LaneId) {
    let large = m.lt(0.55, a);
    let square = m.mul(a, a);
    let other = m.fma(a, -0.5, 0.5);
    let square = m.select(large, other, square);
    let root = m.sqrt(other);
    let unit = m.select(large, root, a);
    let q = m.poly(square, &ASIN, &ASIN_F64);
    let cube = m.mul(square, unit);
    (m.fma(cube, q, unit), large)
}

/// `asin(x)`, NaN beyond ±1. 1.4 ulp.
pub fn asin(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let a = m.abs(x);
    let (y, large) = arcsine(m, a);
    // Where the result is small, the first difference is exact, and the rest of pi/2 counts.
    let rest = m.fma(y, -2.0, FRAC_PI_2);
    let rest = m.add(rest, PerFormat(-4.371139e-8, 6.123233995736766e-17));
    let y = m.select(large, rest, y);
    m.signed_as(y, x)
}

/// `acos(x)`, NaN beyond ±1. 1.4 ulp.
pub fn acos(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let a = m.abs(x);
    let (y, large) = arcsine(m, a);
    let negative = m.lt(x, 0.0);
    // pi/2 -+ y, 2 y or pi - 2 y.
    let signed = m.signed_as(y, x);
    let small = m.sub(FRAC_PI_2, signed);
    let twice = m.add(y, y);
    let left = m.sub(PI, twice);
    let far = m.select(negative, left, twice);
    m.select(large, far, small)
}
