//! Constant, polynomial, exponential and piecewise constant rates.

use fulgurite_jit::Tensor;

use super::Schedule;

/// `value` at every step.
pub fn constant(value: f64) -> Schedule {
    Schedule::typed(move |_, dtype| Tensor::literal(value, dtype))
}

/// From `from` to `to` in a straight line over `steps` steps, then `to`. With 0 steps it is constantly `from`.
pub fn linear(from: f64, to: f64, steps: usize) -> Schedule {
    polynomial(from, to, 1, steps)
}

/// `(from - to) (1 - count / steps)^power + to` over `steps` steps, then `to`. With 0 steps it is constantly `from`.
pub fn polynomial(from: f64, to: f64, power: impl Into<f64>, steps: usize) -> Schedule {
    if steps == 0 {
        return constant(from);
    }
    let power = power.into();
    let whole = power as i32;
    Schedule::typed(move |count, dtype| {
        let count = count.convert(dtype).clip(0.0, steps as f64);
        let left: Tensor = 1.0 - count / steps as f64;
        let left = if f64::from(whole) == power { left.powi(whole) } else { left.pow(power) };
        left * (from - to) + to
    })
}

/// `from × rate^(count / steps)`. With 0 steps or a rate of 0 it is constantly `from`.
pub fn exponential_decay(from: f64, steps: usize, rate: f64) -> Schedule {
    if steps == 0 || rate == 0.0 {
        return constant(from);
    }
    Schedule::typed(move |count, dtype| {
        let power = Tensor::literal(rate, dtype).pow(count.convert(dtype) / steps as f64);
        count.less_equal(0).select(Tensor::literal(from, dtype), power * from)
    })
}

/// As [`exponential_decay`], in steps: `from × rate^⌊count / steps⌋`.
pub fn exponential_staircase(from: f64, steps: usize, rate: f64) -> Schedule {
    if steps == 0 || rate == 0.0 {
        return constant(from);
    }
    Schedule::typed(move |count, dtype| {
        let power = Tensor::literal(rate, dtype).pow((count.convert(dtype) / steps as f64).floor());
        count.less_equal(0).select(Tensor::literal(from, dtype), power * from)
    })
}

/// `from`, multiplied by the factor of each `(step, factor)` from that step on.
pub fn piecewise_constant(from: f64, factors: impl IntoIterator<Item = (usize, f64)>) -> Schedule {
    let mut factors: Vec<(usize, f64)> = factors.into_iter().collect();
    factors.sort_by_key(|&(step, _)| step);
    Schedule::typed(move |count, dtype| {
        factors.iter().fold(Tensor::literal(from, dtype), |value, &(step, factor)| {
            count.less(step).select(&value, &value * factor)
        })
    })
}
