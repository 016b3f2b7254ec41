//! Incomplete gamma and beta functions, by integrals whose integrand falls steadily.
//!
//! Each function is a power of `x` and a factor times the integral of `e^-h(s)` over `s >= 0`, where `s` is the
//! distance from `ln x` (beta: from the logit of `x`) and `h` is convex with `h(0) = 0`. The integral ends at
//! `h = 40`, which Newton's method finds from above. For that, `x` is below the mode, or else the complement is
//! computed. Eight steps of the recurrence in `a` come first, since for a small `a` the integrand falls slowly.

use super::super::tensor::Tensor;
use super::gamma::{HALF_LN_2PI, gammasgn, log_beta, stirling_rest};
use super::{in_f64, integral};
use crate::types::DType;

/// Where integrals end, as the negative logarithm of the integrand.
const END: f64 = 40.0;

/// Steps of the recurrence in `a`.
const STEPS: usize = 8;

/// The parts of an incomplete gamma function of `a > 0` at `x > 0`.
struct Gamma {
    a: Tensor,
    x: Tensor,
    /// Whether the lower function is computed, the upper being its complement, or the reverse.
    lower: Tensor,
    /// `x^a e^-x / gamma(a)`.
    front: Tensor,
    /// `a + STEPS` for the lower function, `a` for the upper one.
    shifted: Tensor,
    /// 1 for the lower function and -1 for the upper one.
    side: Tensor,
    /// Where the integral ends.
    end: Tensor,
}

impl Gamma {
    fn new(a: &Tensor, x: &Tensor) -> Gamma {
        let lower = x.less(a + 1.0);
        let shifted = lower.select(a + STEPS as f64, a);
        let side = lower.select(Tensor::literal(1.0, DType::F64), -1.0);
        let end = gamma_end(&shifted.stop_gradient(), &x.stop_gradient(), &lower, &side);
        Gamma { a: a.clone(), x: x.clone(), lower, front: front(a, x).exp(), shifted, side, end }
    }

    /// The integral of `s^n e^-h(s)`.
    fn integral(&self, n: i32) -> Tensor {
        let (shifted, x, side) = (self.shifted.expand_dims(-1), self.x.expand_dims(-1), self.side.expand_dims(-1));
        integral(&self.end, |s| {
            let signed = s * side;
            let value = (-(x * (-&signed).expm1()) - shifted * signed).exp();
            if n == 0 { value } else { value * s.powi(n) }
        })
    }

    /// The lower function over `front / a`, and the upper one over `front`: what [`Gamma::lower`] says.
    fn sum(&self) -> Tensor {
        let integral = self.integral(0);
        let mut sum = &self.shifted * &integral;
        // Where the other function is computed, a large x would overflow.
        let x = &self.lower.select(&self.x, 1.0);
        for step in (1..=STEPS).rev() {
            sum = sum * (x / (&self.a + step as f64)) + 1.0;
        }
        self.lower.select(sum, integral)
    }

    /// The two functions.
    fn both(&self) -> (Tensor, Tensor) {
        let value = self.sum() * self.lower.select(&self.front / &self.a, &self.front);
        let rest = 1.0 - &value;
        (self.lower.select(&value, &rest), self.lower.select(rest, value))
    }

    /// The derivative of the lower function with respect to `a`, over `front`.
    fn by_a(&self) -> Tensor {
        let (integral, moment) = (self.integral(0), self.integral(1));
        let x = &self.lower.select(&self.x, 1.0);
        let (mut sum, mut slope) = (&self.shifted * &integral, &integral - &self.shifted * &moment);
        for step in (1..=STEPS).rev() {
            let below = &self.a + step as f64;
            let ratio = x / &below;
            slope = (slope - &sum / below) * &ratio;
            sum = sum * ratio + 1.0;
        }
        let log = self.x.log();
        let of_lower = (sum * (&log - (&self.a + 1.0).digamma()) + slope) / &self.a;
        let of_upper = integral * (log - self.a.digamma()) + moment;
        self.lower.select(of_lower, -of_upper)
    }
}

/// The `s` where `h` is [`END`], from above: `h = side a s + x expm1(-side s)`.
fn gamma_end(a: &Tensor, x: &Tensor, lower: &Tensor, side: &Tensor) -> Tensor {
    // Bounds from h'(0) s <= h; below 1 from h''; and for large s.
    let rate = side * (a - x);
    let by_rate = END / &rate;
    let by_curve = (3.0 * END / x).sqrt();
    let by_curve = by_curve.less(1.0).select(by_curve, f64::INFINITY);
    let far = lower.select((x + END) / a, (END / rate.minimum(x)).log1p());
    let mut s = by_rate.minimum(by_curve).minimum(far);
    for _ in 0..4 {
        let fall = -(&s * side);
        let exp = fall.expm1();
        let h = x * &exp - a * &fall;
        let slope = side * (a - x - x * exp);
        s = &s - (h - END) / slope;
    }
    s
}

/// `a ln x - x - ln gamma(a)`; from 16 on by Stirling's series, in which the main terms cancel on paper.
fn front(a: &Tensor, x: &Tensor) -> Tensor {
    let large = a.greater_equal(16.0);
    let (big, small) = (&large.select(a, 16.0), &large.select(1.0, a));
    let distance = &(x - big);
    let log = log_ratio(&(distance / big), &(x / big));
    let stirling = big * log - distance + big.log() * 0.5 - HALF_LN_2PI - stirling_rest(big);
    let plain = small * x.log() - x - small.lgamma();
    large.select(stirling, plain)
}

/// `ln(1 + d)` where `ratio` is `1 + d`: by the one that is exact.
fn log_ratio(d: &Tensor, ratio: &Tensor) -> Tensor {
    let near = d.greater(-0.5);
    near.select(near.select(d, 0.0).log1p(), near.select(1.0, ratio).log())
}

/// Applies `f` to `a` and `x` where both are positive and finite; elsewhere the result is `at_zero` for `x = 0`,
/// `at_infinity` for an infinite `x`, and NaN outside.
#[track_caller]
fn gamma_function(
    name: &str,
    a: &Tensor,
    x: &Tensor,
    [at_zero, at_infinity]: [f64; 2],
    f: impl FnOnce(Gamma) -> Tensor,
) -> Tensor {
    in_f64(name, [a, x], |[a, x]| {
        let inside = a.greater(0.0).and(a.less(f64::INFINITY)).and(x.greater(0.0)).and(x.less(f64::INFINITY));
        let value = f(Gamma::new(&inside.select(&a, 1.0), &inside.select(&x, 1.0)));
        let known = a.greater(0.0);
        let zero = known.and(x.equal(0.0));
        let infinite = known.and(x.equal(f64::INFINITY)).and(a.less(f64::INFINITY));
        let edge = zero.select(at_zero, infinite.select(at_infinity, Tensor::literal(f64::NAN, DType::F64)));
        inside.select(value, edge)
    })
}

/// The lower incomplete gamma function over the gamma function: `jax.scipy.special.gammainc`, `jax.lax.igamma`.
///
/// NaN for `a <= 0` and for `x < 0`. DLMF 8.2.4; in f64 its error is some 1e-14 of the result for `a` to 10 and grows
/// with it.
///
/// ```
/// # use fulgurite_jit::{Tensor, special};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let (a, x) = (Tensor::scalar(1.0f32), Tensor::scalar(2.0f32));
/// let p = special::gammainc(&a, &x); // 1 - e^-2
/// # vec![p]
/// # }).unwrap();
/// ```
#[track_caller]
pub fn gammainc(a: &Tensor, x: &Tensor) -> Tensor {
    gamma_function("gammainc", a, x, [0.0, 1.0], |parts| parts.both().0)
}

/// `1 -` [`gammainc`], also where that is tiny: `jax.scipy.special.gammaincc`, `jax.lax.igammac`.
#[track_caller]
pub fn gammaincc(a: &Tensor, x: &Tensor) -> Tensor {
    gamma_function("gammaincc", a, x, [1.0, 0.0], |parts| parts.both().1)
}

/// The derivative of [`gammainc`] with respect to `a`: `jax.lax.igamma_grad_a`.
#[track_caller]
pub fn igamma_grad_a(a: &Tensor, x: &Tensor) -> Tensor {
    gamma_function("igamma_grad_a", a, x, [0.0, 0.0], |parts| parts.by_a() * &parts.front)
}

/// The derivative with respect to `a` of a draw `x` of the gamma distribution: `jax.lax.random_gamma_grad`.
///
/// It is that of [`gammainc`] with respect to `a` over that with respect to `x`, negated: a draw with a fixed
/// probability below it.
#[track_caller]
pub fn random_gamma_grad(a: &Tensor, x: &Tensor) -> Tensor {
    gamma_function("random_gamma_grad", a, x, [0.0, f64::NAN], |parts| -(parts.by_a() * &parts.x))
}

/// The beta function, `gamma(a) gamma(b) / gamma(a + b)`.
#[track_caller]
pub fn beta(a: &Tensor, b: &Tensor) -> Tensor {
    in_f64("beta", [a, b], |[a, b]| gammasgn(&a) * gammasgn(&b) * gammasgn(&(&a + &b)) * log_beta(&a, &b).exp())
}

/// The incomplete beta function over the beta function: `jax.scipy.special.betainc`.
///
/// NaN for `a <= 0`, `b <= 0` and for an `x` outside of [0, 1]. DLMF 8.17.2. It has derivatives with respect to all
/// three arguments; JAX's has one with respect to `x` only.
#[track_caller]
pub fn betainc(a: &Tensor, b: &Tensor, x: &Tensor) -> Tensor {
    in_f64("betainc", [a, b, x], |[a, b, x]| {
        let known = a.greater(0.0).and(b.greater(0.0)).and(a.less(f64::INFINITY)).and(b.less(f64::INFINITY));
        let inside = known.and(x.greater(0.0)).and(x.less(1.0));
        let value = beta_inside(&inside.select(&a, 1.0), &inside.select(&b, 1.0), &inside.select(&x, 0.5));
        let edge = x.equal(1.0).select(1.0, Tensor::literal(f64::NAN, DType::F64));
        let edge = known.select(x.equal(0.0).select(0.0, edge), f64::NAN);
        inside.select(value, edge)
    })
}

fn beta_inside(a: &Tensor, b: &Tensor, x: &Tensor) -> Tensor {
    // Above the mean, the complement: of 1 - x, with a and b exchanged.
    let swapped = x.greater((a + 1.0) / (a + b + 2.0));
    let rest = &(1.0 - x);
    let (a, b) = (&swapped.select(b, a), &swapped.select(a, b));
    let (x, y) = (&swapped.select(rest, x), &swapped.select(x, rest));

    // h(s) = A s + (A + b) ln(1 + x expm1(-s)), A = a + STEPS.
    let shifted = &(a + STEPS as f64);
    let both = &(shifted + b);
    let end = beta_end(&shifted.stop_gradient(), &both.stop_gradient(), &x.stop_gradient());
    let (wide_a, wide_both, wide_x) = (shifted.expand_dims(-1), both.expand_dims(-1), x.expand_dims(-1));
    let integral = integral(&end, |s| {
        let log = ((-s).expm1() * wide_x).log1p();
        (-(wide_a * s) - wide_both * log).exp()
    });
    let mut sum = shifted * integral;
    for step in (0..STEPS).rev() {
        let ratio = x * (a + b + step as f64) / (a + (step + 1) as f64);
        sum = sum * ratio + 1.0;
    }
    let value = beta_front(a, b, x, y).exp() / a * sum;
    swapped.select(1.0 - &value, value)
}

/// The `s` where `h` is [`END`], from above.
fn beta_end(a: &Tensor, both: &Tensor, x: &Tensor) -> Tensor {
    let rate = a - both * x;
    let far = (END - both * (-x).log1p()) / a;
    // h >= (A + b) x (1 - x) s^2 / 2e for s up to 1.
    let curve = (2.0 * std::f64::consts::E * END / (both * x * (1.0 - x))).sqrt();
    let curve = curve.less(1.0).select(curve, f64::INFINITY);
    let mut s = far.minimum(END / rate).minimum(curve);
    for _ in 0..5 {
        let fall = (-&s).expm1() * x;
        let h = a * &s + both * fall.log1p();
        let slope = a - both * (x + &fall) / (fall + 1.0);
        s = &s - (h - END) / slope;
    }
    s
}

/// `a ln x + b ln y - betaln(a, b)`, `y = 1 - x`; where both are at least 16, the main terms cancel on paper.
fn beta_front(a: &Tensor, b: &Tensor, x: &Tensor, y: &Tensor) -> Tensor {
    let large = a.greater_equal(16.0).and(b.greater_equal(16.0));
    let (big_a, big_b) = (&large.select(a, 16.0), &large.select(b, 16.0));
    let (small_a, small_b) = (&large.select(1.0, a), &large.select(1.0, b));
    let total = &(big_a + big_b);
    // The distance of x from the mean, times a + b.
    let d = &(big_b * x - big_a * y);
    let of_a = log_ratio(&(d / big_a), &(x * total / big_a));
    let of_b = log_ratio(&-(d / big_b), &(y * total / big_b));
    let rests = stirling_rest(big_a) + stirling_rest(big_b) - stirling_rest(total);
    let half = (total / (big_a * big_b)).log() * 0.5 + HALF_LN_2PI;
    let stirling = big_a * of_a + big_b * of_b - half - rests;
    let plain = small_a * x.log() + small_b * y.log() - log_beta(small_a, small_b);
    large.select(stirling, plain)
}
