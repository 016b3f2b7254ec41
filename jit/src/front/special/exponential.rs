//! Exponential integrals and the dilogarithm.

use std::f64::consts::PI;

use super::super::tensor::Tensor;
use super::{constants, in_f64, integral, polynomial};
use crate::types::DType;

/// Euler's constant.
const EULER: f64 = 0.577_215_664_901_532_9;

/// `E1(x)`, the integral of `e^-t / t` from `x` to infinity: infinite at 0, NaN below.
#[track_caller]
pub fn exp1(x: &Tensor) -> Tensor {
    expn(1, x)
}

/// The generalised exponential integral `En(x)`, of `e^-xt / t^n` from 1 to infinity: NaN for a negative `x`.
///
/// DLMF 8.19. From `x = 1` on by quadrature, below by the series of `E1` and the recurrence in `n`.
#[track_caller]
pub fn expn(n: usize, x: &Tensor) -> Tensor {
    in_f64("expn", [x], |[x]| {
        if n == 0 {
            let negative = x.less(0.0);
            return negative.select(f64::NAN, (-&x).exp() / x);
        }
        let inside = x.greater(0.0).and(x.less(800.0));
        let value = expn_inside(n, &inside.select(&x, 1.0));
        let at_zero = if n == 1 { f64::INFINITY } else { 1.0 / (n - 1) as f64 };
        let outside = x.greater(0.0).select(0.0, Tensor::literal(f64::NAN, DType::F64));
        inside.select(value, x.equal(0.0).select(at_zero, outside))
    })
}

/// [`expn`] for `n >= 1` and a positive, finite `x`.
fn expn_inside(n: usize, x: &Tensor) -> Tensor {
    let large = x.greater_equal(1.0);
    let (big, small) = (&large.select(x, 1.0), &large.select(0.5, x));

    // e^-x times the integral of e^-h, h(s) = x expm1(s) + (n - 1) s, to where h is 40: Newton's method from above.
    const END: f64 = 40.0;
    let power = (n - 1) as f64;
    let x0 = big.stop_gradient();
    let mut end = (END / (&x0 + power)).minimum((END / &x0).log1p());
    for _ in 0..4 {
        let exp = end.expm1();
        let h = &x0 * &exp + &end * power;
        end = &end - (h - END) / (&x0 * (exp + 1.0) + power);
    }
    let wide = big.expand_dims(-1);
    let value = (-big).exp() * integral(&end, |s| (-(wide * s.expm1()) - s * power).exp());

    // E1 = -γ - ln x - Σ (-x)^k / (k k!), then n E(n + 1) = e^-x - x En.
    let mut factorial = 1.0;
    let mut terms: Vec<f64> = (1..=20)
        .map(|k| {
            factorial *= k as f64;
            (if k % 2 == 1 { 1.0 } else { -1.0 }) / (k as f64 * factorial)
        })
        .collect();
    terms.reverse();
    let mut near = polynomial(small, &terms) * small - small.log() - EULER;
    let exp = (-small).exp();
    for k in 1..n {
        near = (&exp - small * near) / k as f64;
    }
    large.select(value, near)
}

/// `Ei(x)`, the principal value of the integral of `e^t / t` up to `x`: minus infinity at 0.
///
/// For a positive `x` to 40 by its series, beyond by the asymptotic one, for a negative one `-E1(-x)`. DLMF 6.6, 6.12.
#[track_caller]
pub fn expi(x: &Tensor) -> Tensor {
    in_f64("expi", [x], |[x]| {
        let positive = x.greater(0.0);
        let negative = x.less(0.0);
        let below = -exp1(&negative.select(-&x, 1.0));
        let far = x.greater(40.0);
        let near = positive.and(x.less_equal(40.0));
        let (small, big) = (&near.select(&x, 1.0), &far.select(&x, 50.0));

        // The terms of both, as exponentials of their logarithms.
        let (mut log, mut series, mut asymptotic) = (0.0, Vec::new(), vec![0.0]);
        for k in 1..=160u32 {
            log += libm::log(f64::from(k));
            series.push(-log - libm::log(f64::from(k)));
            if k <= 40 {
                asymptotic.push(log);
            }
        }
        let k = Tensor::arange(DType::F64, series.len()) + 1.0;
        let sum = (k * small.log().expand_dims(-1) + constants(&series)).exp().sum_axes(-1);
        let sum = sum + small.log() + EULER;
        let k = Tensor::arange(DType::F64, asymptotic.len());
        let tail = (constants(&asymptotic) - k * big.log().expand_dims(-1)).exp().sum_axes(-1);
        let infinite = x.equal(f64::INFINITY);
        let tail = infinite.select(f64::INFINITY, big.exp() * (tail / big));

        let edge = x.equal(0.0).select(f64::NEG_INFINITY, Tensor::literal(f64::NAN, DType::F64));
        positive.select(far.select(tail, sum), negative.select(below, edge))
    })
}

/// Spence's function, the integral of `ln t / (1 - t)` from 1 to `x`: NaN for a negative `x`.
///
/// The rational approximation of Moshier's Cephes on [1/2, 3/2], led to by the relations of DLMF 25.12.
#[track_caller]
pub fn spence(x: &Tensor) -> Tensor {
    const A: [f64; 8] = [
        4.651_285_860_739_900_5e-5,
        7.315_890_452_380_947e-3,
        1.338_476_395_783_090_2e-1,
        8.796_913_117_545_303e-1,
        2.711_498_511_965_534_7,
        4.256_971_560_081_218,
        3.297_713_409_852_251,
        1.0,
    ];
    const B: [f64; 8] = [
        6.909_904_889_125_533e-4,
        2.540_437_639_325_444e-2,
        2.829_748_606_025_681e-1,
        1.411_725_977_518_310_7,
        3.638_005_333_451_37,
        5.032_788_801_433_169,
        3.547_713_409_852_251,
        1.0,
    ];
    in_f64("spence", [x], |[x]| {
        let inside = x.greater(0.0).and(x.less(f64::INFINITY));
        let safe = inside.select(&x, 1.0);
        let inverted = safe.greater(2.0);
        let y = &inverted.select(safe.recip(), &safe);
        let (high, low) = (y.greater(1.5), y.less(0.5));
        let w = &high.select(y.recip() - 1.0, low.select(-y, y - 1.0));
        let poly = -(w * polynomial(w, &A) / polynomial(w, &B));
        // The logarithm of 1 - y where that is used only.
        let rest = (1.0 - low.select(y, 0.25)).log();
        let by_log = PI * PI / 6.0 - y.log() * rest - &poly;
        let value = low.select(by_log, &poly);
        let value = inverted.or(high).select(y.log().square() * -0.5 - &value, value);
        let edge = x.equal(0.0).select(PI * PI / 6.0, Tensor::literal(f64::NAN, DType::F64));
        let edge = x.equal(f64::INFINITY).select(f64::NEG_INFINITY, edge);
        inside.select(value, edge)
    })
}
