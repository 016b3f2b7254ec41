//! Special functions of one element, in f64: what the compiled ones are tested against.

use std::f64::consts::PI;

/// `ln |gamma(x)|`.
pub(super) fn lgamma(x: f64) -> f64 {
    if x.is_infinite() { f64::INFINITY } else { libm::lgamma(x) }
}

/// The derivative of [`lgamma`]: by the recurrence to 12 and the asymptotic series there, by reflection below 1/2.
pub(super) fn digamma(x: f64) -> f64 {
    if x <= 0.0 && x == x.floor() {
        return f64::NAN;
    }
    if x < 0.5 {
        return digamma(1.0 - x) - PI / libm::tan(PI * (x - libm::rint(x)));
    }
    let (mut sum, mut y) = (0.0, x);
    while y < 12.0 {
        sum -= 1.0 / y;
        y += 1.0;
    }
    let s = 1.0 / (y * y);
    let terms = [1.0 / 12.0, -691.0 / 32760.0, 1.0 / 132.0, -1.0 / 240.0, 1.0 / 252.0, -1.0 / 120.0, 1.0 / 12.0];
    sum + libm::log(y) - 0.5 / y - s * terms.into_iter().fold(0.0, |series, term| series * s + term)
}

/// `e^-|x| I(x)` of the modified Bessel function of the first kind of order 0 or 1: by its power series, and beyond 30
/// by its asymptotic one.
pub(super) fn bessel(order: u32, x: f64) -> f64 {
    let (a, order) = (x.abs(), f64::from(order));
    if a.is_nan() {
        return a;
    }
    let value = if a < 30.0 {
        let (mut term, mut sum, mut k) = (if order == 0.0 { 1.0 } else { a / 2.0 }, 0.0, 0.0);
        while k < 100.0 {
            sum += term;
            k += 1.0;
            term *= a * a / (4.0 * k * (k + order));
        }
        sum * libm::exp(-a)
    } else {
        let (mut term, mut sum) = (1.0, 0.0);
        for k in 1..20 {
            sum += term;
            let odd = f64::from(2 * k - 1);
            term *= (odd * odd - 4.0 * order) / (8.0 * a * f64::from(k));
        }
        sum / libm::sqrt(2.0 * PI * a)
    };
    if order == 1.0 && x.is_sign_negative() { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let close = |x: f64, y: f64| assert!((x / y - 1.0).abs() < 1e-14, "{x} for {y}");
        close(digamma(1.0), -0.577_215_664_901_532_9);
        close(digamma(0.25), -4.227_453_533_376_265);
        close(bessel(0, 1.0), 1.266_065_877_752_008_4 * libm::exp(-1.0));
        close(bessel(1, -1.0), -0.565_159_103_992_485_1 * libm::exp(-1.0));
        close(bessel(0, 30f64.next_down()), bessel(0, 30.0));
        close(bessel(1, 30f64.next_down()), bessel(1, 30.0));
        assert!(lgamma(f64::NEG_INFINITY).is_infinite() && digamma(-2.0).is_nan());
    }
}
