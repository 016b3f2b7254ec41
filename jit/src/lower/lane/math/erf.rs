//! The error function, its complement and its inverse.

use super::exp::{decay, exp_shifted};
use super::log::minus_log_normal;
use super::{LaneId, LaneProgram, LaneUnary, Math, PerFormat};

/// `erf(x) / x - 1` in `x^2`, for `|x|` to 0.9 (f64: 1); our fit, relative errors of `erf` 1.4e-8 and 1.3e-17.
const ERF: [f32; 6] = [-0.0006090668, 0.005011906, -0.026778912, 0.11282148, -0.37612525, 0.12837915];
const ERF_F64: [f64; 13] = [
    5.891425027617719e-11,
    -1.1334229391667748e-09,
    1.4649859280682387e-08,
    -1.6348851343210163e-07,
    1.6460864028403852e-06,
    -1.4925586858636011e-05,
    0.00012055330766345837,
    -0.0008548326971507913,
    0.005223977624658483,
    -0.026866170645060704,
    0.11283791670954794,
    -0.3761263890318375,
    0.1283791670955126,
];

/// The fourth root of `erfc(x)` in `x - 1`, from 0.9 to 3.925; our fit, absolute error of `erfc` 1.5e-8.
const ERFC_ROOT: [f32; 9] = [
    -3.2530825e-05,
    7.7983466e-05,
    0.0011655834,
    -0.0052604387,
    -0.0038990793,
    0.050871063,
    0.004315502,
    -0.4154852,
    0.6297695,
];

/// `(a + K) e^(a^2) erfc(a)` in `(a - K) / (a + K)`, `K` = 1 (f64: 3), from 0.78 to 10.2 (f64: 0.9 to 27.5). The form
/// is that of Shepherd and Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x" (1981), less a factor;
/// our fit, relative errors 2.5e-9 and 1.3e-16.
const ERFC: [f32; 10] = [
    0.0052572414,
    -0.011552742,
    0.0029099504,
    -0.0035322367,
    0.009863699,
    0.02541388,
    0.013901135,
    -0.095556155,
    -0.23768088,
    0.85516715,
];
const ERFC_F64: [f64; 20] = [
    -1.4863052406309747e-09,
    9.84336508383434e-08,
    -1.9901125482658272e-07,
    -4.7339225886492696e-07,
    9.998164754877359e-07,
    2.7985405276128865e-06,
    -4.757037173867644e-06,
    -1.747942119776566e-05,
    3.040131962641281e-05,
    0.00010756282858352114,
    -0.000276778440643739,
    -0.0005483098071514572,
    0.003034062060655473,
    -0.0012124166218800737,
    -0.026827234627546194,
    0.11952776128717382,
    -0.31046726190049745,
    0.5902283571041027,
    -0.8833944531698841,
    1.0740069070883398,
];

/// Giles, "Approximating the erfinv function" (2010), single precision: `erf_inv(x) / x` in `w - 2.5` for
/// `w = -ln(1 - x^2) < 5`, and in `sqrt(w) - 3` beyond. XLA has the same coefficients.
#[allow(clippy::excessive_precision, reason = "as published")]
const ERF_INV_CENTRE: [f32; 9] = [
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
];
#[allow(clippy::excessive_precision, reason = "as published")]
const ERF_INV_TAIL: [f32; 9] = [
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
    -0.0076224613,
    0.00943887047,
    1.00167406,
    2.83297682,
];

/// The same source, double precision: in `w - 3.125` for `w < 6.25`, in `sqrt(w) - 3.25` for `w < 16`, and in
/// `sqrt(w) - 5` beyond.
#[allow(clippy::excessive_precision, reason = "as published")]
const ERF_INV_CENTRE_F64: [f64; 23] = [
    -3.6444120640178196996e-21,
    -1.685059138182016589e-19,
    1.2858480715256400167e-18,
    1.115787767802518096e-17,
    -1.333171662854620906e-16,
    2.0972767875968561637e-17,
    6.6376381343583238325e-15,
    -4.0545662729752068639e-14,
    -8.1519341976054721522e-14,
    2.6335093153082322977e-12,
    -1.2975133253453532498e-11,
    -5.4154120542946279317e-11,
    1.051212273321532285e-09,
    -4.1126339803469836976e-09,
    -2.9070369957882005086e-08,
    4.2347877827932403518e-07,
    -1.3654692000834678645e-06,
    -1.3882523362786468719e-05,
    0.0001867342080340571352,
    -0.00074070253416626697512,
    -0.0060336708714301490533,
    0.24015818242558961693,
    1.6536545626831027356,
];
#[allow(clippy::excessive_precision, reason = "as published")]
const ERF_INV_TAIL_F64: [f64; 19] = [
    2.2137376921775787049e-09,
    9.0756561938885390979e-08,
    -2.7517406297064545428e-07,
    1.8239629214389227755e-08,
    1.5027403968909827627e-06,
    -4.013867526981545969e-06,
    2.9234449089955446044e-06,
    1.2475304481671778723e-05,
    -4.7318229009055733981e-05,
    6.8284851459573175448e-05,
    2.4031110387097893999e-05,
    -0.0003550375203628474796,
    0.00095328937973738049703,
    -0.0016882755560235047313,
    0.0024914420961078508066,
    -0.0037512085075692412107,
    0.005370914553590063617,
    1.0052589676941592334,
    3.0838856104922207635,
];
#[allow(clippy::excessive_precision, reason = "as published")]
const ERF_INV_FAR_F64: [f64; 17] = [
    -2.7109920616438573243e-11,
    -2.5556418169965252055e-10,
    1.5076572693500548083e-09,
    -3.7894654401267369937e-09,
    7.6157012080783393804e-09,
    -1.4960026627149240478e-08,
    2.9147953450901080826e-08,
    -6.7711997758452339498e-08,
    2.2900482228026654717e-07,
    -9.9298272942317002539e-07,
    4.5260625972231537039e-06,
    -1.9681778105531670567e-05,
    7.5995277030017761139e-05,
    -0.00021503011930044477347,
    -0.00013871931833623122026,
    1.0103004648645343977,
    4.8499064014085844221,
];

/// `erf(x)`: within ±0.9 (f64: ±1) an odd polynomial; beyond, 1 less a fourth power (f64: less [`erfc`]). 1.6 ulp.
pub fn erf(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let a = m.abs(x);
    let small = erf_small(m, a);
    let large = if m.wide {
        let complement = erfc_large(m, a);
        m.sub(1.0, complement)
    } else {
        let a = m.at_most(a, 3.925);
        let z = m.sub(a, 1.0);
        let root = m.poly(z, &ERFC_ROOT, &[]);
        let square = m.mul(root, root);
        let negated = m.unary(LaneUnary::Neg, square);
        m.fma(square, negated, 1.0)
    };
    let is_small = m.lt(a, PerFormat(0.9, 1.0));
    let y = m.select(is_small, small, large);
    m.signed_as(y, x)
}

/// `erf(x)` for `|x|` to 0.9 (f64: 1).
fn erf_small(m: &mut Math, x: LaneId) -> LaneId {
    let square = m.mul(x, x);
    let q = m.poly(square, &ERF, &ERF_F64);
    m.fma(q, x, x)
}

/// `erfc(a)` for `a` from 0.78 (f64: 0.9).
fn erfc_large(m: &mut Math, a: LaneId) -> LaneId {
    let a = m.at_most(a, PerFormat(10.2, 27.3));
    const K: PerFormat = PerFormat(1.0, 3.0);
    let above = m.sub(a, K);
    let below = m.add(a, K);
    let u = m.div(above, below);
    let g = m.poly(u, &ERFC, &ERFC_F64);
    let g = m.div(g, below);
    // e^-(a^2), with what the square lost.
    let negated = m.unary(LaneUnary::Neg, a);
    let minus_square = m.mul(negated, a);
    let square = m.mul(a, a);
    let lost = m.fma(negated, a, square);
    let (shift, _) = decay(m);
    let (e, s) = exp_shifted(m, minus_square, Some(lost), shift);
    let y = m.mul(g, e);
    let y = m.mul(y, s);
    m.mul(y, 2f64.powi(-shift as i32))
}

/// `erfc(x) = 1 - erf(x)`, also where that is tiny. 3.4 ulp, f64 too.
pub fn erfc(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let small = erf_small(m, x);
    let small = m.sub(1.0, small);
    let a = m.abs(x);
    let large = erfc_large(m, a);
    let reflected = m.sub(2.0, large);
    let negative = m.lt(x, 0.0);
    let large = m.select(negative, reflected, large);
    let is_small = m.lt(a, PerFormat(0.8, 0.95));
    m.select(is_small, small, large)
}

/// The inverse of [`erf`]: infinite at ±1, NaN beyond. 4.2 ulp (f64: 3), most of it that of Giles' polynomials. JAX's
/// values have relative differences of up to 5e-6, since it rounds `x^2`.
pub fn erf_inv(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    // 1 - x^2, rounded once: 0 at ±1 and normal within, so that its logarithm needs no care.
    let negated = m.unary(LaneUnary::Neg, x);
    let rest = m.fma(negated, x, 1.0);
    let w = minus_log_normal(m, rest);
    let root = m.sqrt(w);
    let z = m.sub(w, PerFormat(2.5, 3.125));
    let centre = m.poly(z, &ERF_INV_CENTRE, &ERF_INV_CENTRE_F64);
    let z = m.sub(root, PerFormat(3.0, 3.25));
    let mut tail = m.poly(z, &ERF_INV_TAIL, &ERF_INV_TAIL_F64);
    if m.wide {
        let z = m.sub(root, 5.0);
        let far = m.poly(z, &[], &ERF_INV_FAR_F64);
        let is_tail = m.lt(w, 16.0);
        tail = m.select(is_tail, tail, far);
    }
    let is_centre = m.lt(w, PerFormat(5.0, 6.25));
    let q = m.select(is_centre, centre, tail);
    let one = m.eq(rest, 0.0);
    let outside = m.select(one, f64::INFINITY, f64::NAN);
    let inside = m.lt(0.0, rest);
    let q = m.select(inside, q, outside);
    m.mul(q, x)
}
