//! The distribution function of the normal distribution, its logarithm and inverse, and scaled error functions.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::super::tensor::Tensor;
use super::{in_f64, polynomial};
use crate::types::DType;

/// The distribution function of the standard normal distribution, `erfc(-x / √2) / 2`.
#[track_caller]
pub fn ndtr(x: &Tensor) -> Tensor {
    in_f64("ndtr", [x], |[x]| (x * -FRAC_1_SQRT_2).erfc() * 0.5)
}

/// The logarithm of [`ndtr`], exact in both tails.
///
/// Below -1 it is `ln(erfcx(-x / √2) / 2) - x^2 / 2`.
#[track_caller]
pub fn log_ndtr(x: &Tensor) -> Tensor {
    in_f64("log_ndtr", [x], |[x]| {
        let infinite = x.equal(f64::NEG_INFINITY);
        let low = x.less(-1.0);
        let tail = low.and(infinite.bitwise_not()).select(&x, -1.0);
        let tail = (scaled_erfc(&(&tail * -FRAC_1_SQRT_2)) * 0.5).log() - tail.square() * 0.5;
        let rest = low.select(0.0, x) * FRAC_1_SQRT_2;
        let value = low.select(tail, (rest.erfc() * -0.5).log1p());
        infinite.select(f64::NEG_INFINITY, value)
    })
}

/// The scaled complement of the error function, `e^(x^2) erfc(x)`, also where its factors overflow and vanish.
#[track_caller]
pub fn erfcx(x: &Tensor) -> Tensor {
    in_f64("erfcx", [x], |[x]| scaled_erfc(&x))
}

/// [`erfcx`] of f64: from 8 on the asymptotic series (DLMF 7.12.1).
fn scaled_erfc(x: &Tensor) -> Tensor {
    let far = x.greater(8.0);
    let (near, large) = (&far.select(0.0, x), &far.select(x, 8.0));
    let product = near.square().exp() * near.erfc();
    // 1 - r (1 - 3 r (1 - 5 r …)), r = 1 / 2x^2.
    let inverse = large.recip();
    let r = &(inverse.square() * 0.5);
    let mut series = Tensor::literal(1.0, DType::F64).broadcast_to(x.shape());
    for k in (1..=20).rev() {
        series = 1.0 - r * series * (2 * k - 1) as f64;
    }
    far.select(series * inverse * (1.0 / libm::sqrt(PI)), product)
}

/// The coefficients of Moshier's Cephes, `ndtri`, which JAX has too: numerators and denominators around 1/2, for
/// `√(-2 ln p)` below 8, and beyond.
const P0: [f64; 5] = [
    -59.963_350_101_410_79,
    98.001_075_418_599_97,
    -56.676_285_746_907_03,
    13.931_260_938_727_968,
    -1.239_165_838_673_812_5,
];
const Q0: [f64; 9] = [
    1.0,
    1.954_488_583_381_417_6,
    4.676_279_128_988_815,
    86.360_242_139_089_06,
    -225.462_687_854_119_37,
    200.260_212_380_060_66,
    -82.037_225_616_833_33,
    15.905_622_512_621_17,
    -1.183_316_211_213_3,
];
const P1: [f64; 9] = [
    4.055_448_923_059_625,
    31.525_109_459_989_388,
    57.162_819_224_642_13,
    44.080_507_389_320_08,
    14.684_956_192_885_803,
    2.186_633_068_507_902_5,
    -0.140_256_079_171_354_5,
    -0.035_042_462_682_784_82,
    -0.000_857_456_785_154_685_4,
];
const Q1: [f64; 9] = [
    1.0,
    15.779_988_325_646_675,
    45.390_763_512_887_92,
    41.317_203_825_467_2,
    15.042_538_569_292_75,
    2.504_649_462_083_094,
    -0.142_182_922_854_787_78,
    -0.038_080_640_769_157_83,
    -0.000_933_259_480_895_457_4,
];
const P2: [f64; 9] = [
    3.237_748_917_769_46,
    6.915_228_890_689_842,
    3.938_810_252_924_744_4,
    1.333_034_608_158_075_5,
    0.201_485_389_549_179_07,
    0.012_371_663_481_782_003,
    0.000_301_581_553_508_235_4,
    2.658_069_746_867_375_5e-6,
    6.239_745_391_849_833e-9,
];
const Q2: [f64; 9] = [
    1.0,
    6.024_270_393_647_42,
    3.679_835_638_561_609,
    1.377_020_994_890_813_3,
    0.216_236_993_594_496_64,
    0.013_420_400_608_854_319,
    0.000_328_014_464_682_127_75,
    2.892_478_647_453_807e-6,
    6.790_194_080_099_813e-9,
];

/// The inverse of [`ndtr`]: infinite at 0 and 1, NaN outside.
#[track_caller]
pub fn ndtri(p: &Tensor) -> Tensor {
    in_f64("ndtri", [p], |[p]| {
        let inside = p.greater(0.0).and(p.less(1.0));
        let safe = &inside.select(&p, 0.5);
        let edge = libm::exp(-2.0);
        let upper = safe.greater(1.0 - edge);
        let tail = &upper.select(1.0 - safe, safe);
        let central = tail.greater(edge);

        // Around 1/2: x / √2π = w + w^3 P(w^2) / Q(w^2).
        let w = &central.select(tail - 0.5, 0.0);
        let square = &w.square();
        let ratio = polynomial(square, &P0) / polynomial(square, &Q0);
        let middle = (w + w * square * ratio) * libm::sqrt(2.0 * PI);

        // In the tail: -x = z - ln z / z - P(1 / z) / (z Q(1 / z)), z = √(-2 ln p).
        let z = &(central.select(edge, tail).log() * -2.0).sqrt();
        let inverse = &z.recip();
        let near = polynomial(inverse, &P1) / polynomial(inverse, &Q1);
        let far = polynomial(inverse, &P2) / polynomial(inverse, &Q2);
        let correction = z.less(8.0).select(near, far) * inverse;
        let outer = z - z.log() * inverse - correction;
        let outer = upper.select(&outer, -&outer);
        let x = central.select(middle, outer);

        let border = p.equal(1.0).select(f64::INFINITY, Tensor::literal(f64::NAN, DType::F64));
        let border = p.equal(0.0).select(f64::NEG_INFINITY, border);
        inside.select(x, border)
    })
}
