//! Rates between given points: in straight lines or half waves of a cosine, and the one-cycle schedules of Optax, which
//! are such.

use std::f64::consts::PI;

use fulgurite_jit::Tensor;

use super::Schedule;

/// How a rate goes from one point to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// In a straight line.
    Linear,
    /// In half a wave of a cosine.
    Cosine,
}

/// From `from` at step 0 to the previous value times the factor of each `(step, factor)` at that step; the last value
/// stays: `optax.piecewise_interpolate_schedule`.
///
/// ```
/// use fulgurite_trainer::optim::{schedule::{Interpolation, piecewise_interpolate}, sgd};
/// let optimizer = sgd(piecewise_interpolate(Interpolation::Cosine, 0.1, [(100, 0.5), (900, 0.1)]));
/// ```
pub fn piecewise_interpolate(
    how: Interpolation,
    from: f64,
    factors: impl IntoIterator<Item = (usize, f64)>,
) -> Schedule {
    let mut factors: Vec<(usize, f64)> = factors.into_iter().collect();
    factors.sort_by_key(|&(step, _)| step);
    Schedule::typed(move |count, dtype| {
        let (mut start, mut low) = (0, from);
        let exact = count.convert(dtype);
        let mut value = Tensor::literal(from, dtype);
        for &(end, factor) in &factors {
            let high = low * factor;
            let share = (&exact - start as f64) / (end - start).max(1) as f64;
            let between = match how {
                Interpolation::Linear => share * (high - low) + low,
                Interpolation::Cosine => ((share * PI).cos() + 1.0) * ((low - high) / 2.0) + high,
            };
            value = count.less(start).select(&value, count.less(end).select(between, high));
            (start, low) = (end, high);
        }
        value
    })
}

/// The shape of a cycle, with the defaults of Optax. The methods make it a schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneCycle {
    /// The share of the steps in which the rate rises to the peak.
    pub pct_start: f64,
    /// The share of the steps at whose end a linear cycle is back at its first rate.
    pub pct_final: f64,
    /// The peak over the first rate.
    pub div_factor: f64,
    /// The first rate over the last one.
    pub final_div_factor: f64,
}

impl Default for OneCycle {
    fn default() -> Self {
        OneCycle { pct_start: 0.3, pct_final: 0.85, div_factor: 25.0, final_div_factor: 1e4 }
    }
}

impl OneCycle {
    /// Up to `peak`, down again, and on to the last rate, in three straight lines over `steps` steps:
    /// `optax.linear_onecycle_schedule`.
    pub fn linear(self, peak: f64, steps: usize) -> Schedule {
        let at = |share: f64| (share * steps as f64) as usize;
        let (up, down) = (self.div_factor, 1.0 / self.div_factor);
        let factors = [(at(self.pct_start), up), (at(self.pct_final), down), (steps, 1.0 / self.final_div_factor)];
        piecewise_interpolate(Interpolation::Linear, peak / self.div_factor, factors)
    }

    /// Up to `peak` and down to the last rate in two waves over `steps` steps: `optax.cosine_onecycle_schedule`.
    pub fn cosine(self, peak: f64, steps: usize) -> Schedule {
        let top = (self.pct_start * steps as f64) as usize;
        let factors = [(top, self.div_factor), (steps, 1.0 / (self.div_factor * self.final_div_factor))];
        piecewise_interpolate(Interpolation::Cosine, peak / self.div_factor, factors)
    }
}
