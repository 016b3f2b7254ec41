//! Rates that follow half waves of a cosine.

use std::f64::consts::PI;

use super::join::in_sequence;
use super::{Schedule, join_schedules, warmup};

/// Half a cosine wave from `from` down to 0 over `steps` steps, then 0.
pub fn cosine_decay(from: f64, steps: usize) -> Schedule {
    cosine_decay_to(from, 0.0, steps)
}

/// Half a cosine wave from `from` down to `fraction × from` over `steps` steps, which then stays. 0 steps count as 1.
pub fn cosine_decay_to(from: f64, fraction: f64, steps: usize) -> Schedule {
    cosine_decay_power(from, fraction, steps, 1.0)
}

/// As [`cosine_decay_to`], with the wave to the power `exponent`: `optax.cosine_decay_schedule(from, steps, fraction,
/// exponent)`.
pub fn cosine_decay_power(from: f64, fraction: f64, steps: usize, exponent: f64) -> Schedule {
    let steps = steps.max(1) as f64;
    Schedule::typed(move |count, dtype| {
        let count = count.convert(dtype).minimum(steps);
        let wave = ((count * PI / steps).cos() + 1.0) * 0.5;
        let wave = if exponent == 1.0 { wave } else { wave.pow(exponent) };
        (wave * (1.0 - fraction) + fraction) * from
    })
}

/// A straight line from `from` to `peak` over `warmup` steps, then half a cosine wave down to `end`, reached at step
/// `steps` (which counts the warm-up).
pub fn warmup_cosine(from: f64, peak: f64, warmup: usize, steps: usize, end: f64) -> Schedule {
    warmup_cosine_power(from, peak, warmup, steps, end, 1.0)
}

/// As [`warmup_cosine`], with the wave to the power `exponent`: `optax.warmup_cosine_decay_schedule`.
pub fn warmup_cosine_power(from: f64, peak: f64, warmup: usize, steps: usize, end: f64, exponent: f64) -> Schedule {
    let fraction = if peak == 0.0 { 0.0 } else { end / peak };
    let decay = cosine_decay_power(peak, fraction, steps.saturating_sub(warmup), exponent);
    self::warmup(from, peak, warmup, decay)
}

/// Stochastic gradient descent with warm restarts (Loshchilov & Hutter, arXiv 1608.03983), as `optax.sgdr_schedule`: a
/// [`warmup_cosine`] for each cycle `(from, peak, warmup, steps, end)`, one after the other.
///
/// ```
/// use fulgurite_trainer::optim::{schedule::sgdr, sgd};
/// let optimizer = sgd(sgdr([(0.0, 0.1, 10, 100, 0.0), (0.0, 0.05, 10, 200, 0.0)]));
/// ```
pub fn sgdr(cycles: impl IntoIterator<Item = (f64, f64, usize, usize, f64)>) -> Schedule {
    let (mut schedules, mut ends, mut end) = (Vec::new(), Vec::new(), 0);
    for (from, peak, warmup, steps, last) in cycles {
        schedules.push(warmup_cosine(from, peak, warmup, steps, last));
        end += steps;
        ends.push(end);
    }
    ends.pop();
    in_sequence(schedules, ends)
}

/// One cycle (Smith & Topin 2018) over `steps` steps: a cosine wave up from `peak / 25` to `peak` in the first 30 %,
/// and another down to `peak / 250,000`.
pub fn one_cycle(peak: f64, steps: usize) -> Schedule {
    let top = (0.3 * steps as f64) as usize;
    let wave = |from: f64, to: f64, steps: usize| {
        let steps = steps.max(1) as f64;
        Schedule::typed(move |count, dtype| {
            let share = count.convert(dtype).minimum(steps) / steps;
            ((share * PI).cos() + 1.0) * ((from - to) / 2.0) + to
        })
    };
    join_schedules([wave(peak / 25.0, peak, top), wave(peak, peak / 25.0 / 1e4, steps - top)], [top])
}
