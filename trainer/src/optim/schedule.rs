//! Learning rates as functions of the step count, with the definitions of Optax 0.2.8.
//!
//! A schedule maps the traced count (i32, 0 in the first step) to a traced scalar of the parameters' type. It is part of
//! the program, not of its inputs: no step is compiled again because the rate changed.

use std::f64::consts::PI;
use std::fmt;
use std::sync::Arc;

use fulgurite_jit::{DType, Tensor, Tree};

use super::moments::Scalar;

/// A value for every step. A number converts to a constant one.
///
/// ```
/// use fulgurite_trainer::optim::{Schedule, sgd};
/// let halving = Schedule::typed(|count, dtype| 0.1 / (count.convert(dtype) + 1.0));
/// let optimizer = sgd(halving);
/// ```
#[derive(Clone)]
pub struct Schedule(Arc<Value>);

/// The value at a step count, in an element type.
type Value = dyn Fn(&Tensor, DType) -> Tensor + Send + Sync;

impl Schedule {
    /// The schedule that computes `f` of the step count, an i32 scalar. What `f` computes in f32 keeps its rounding where
    /// it is the rate of an f64 parameter: see [`Schedule::typed`].
    pub fn new(f: impl Fn(&Tensor) -> Tensor + Send + Sync + 'static) -> Self {
        Schedule::typed(move |count, dtype| f(count).convert(dtype))
    }

    /// The schedule that computes `f` of the step count, an i32 scalar, in the type that it is given: f64 for the rate of
    /// f64 parameters.
    pub fn typed(f: impl Fn(&Tensor, DType) -> Tensor + Send + Sync + 'static) -> Self {
        Schedule(Arc::new(f))
    }

    /// The value at step `count` (i32 scalar), an f32 scalar.
    pub fn at(&self, count: &Tensor) -> Tensor {
        self.at_as(count, DType::F32)
    }

    /// The value at step `count` (i32 scalar), computed in `dtype` (f32 or f64).
    pub fn at_as(&self, count: &Tensor, dtype: DType) -> Tensor {
        (self.0)(count, dtype)
    }

    /// The value at step `count`, for the leaves of `tree`.
    pub(super) fn scalar<P: Tree>(&self, count: &Tensor, tree: &P) -> Scalar {
        let (schedule, count) = (self.clone(), count.clone());
        Scalar::new(tree, move |dtype| schedule.at_as(&count, dtype))
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Schedule(..)")
    }
}

impl From<f64> for Schedule {
    fn from(value: f64) -> Self {
        constant(value)
    }
}

impl From<f32> for Schedule {
    fn from(value: f32) -> Self {
        constant(value.into())
    }
}

/// `value` at every step.
pub fn constant(value: f64) -> Schedule {
    Schedule::typed(move |_, dtype| Tensor::literal(value, dtype))
}

/// From `from` to `to` in a straight line over `steps` steps, then `to`. With 0 steps it is constantly `from`.
pub fn linear(from: f64, to: f64, steps: usize) -> Schedule {
    polynomial(from, to, 1, steps)
}

/// `(from - to) (1 - count / steps)^power + to` over `steps` steps, then `to`. With 0 steps it is constantly `from`.
pub fn polynomial(from: f64, to: f64, power: i32, steps: usize) -> Schedule {
    if steps == 0 {
        return constant(from);
    }
    Schedule::typed(move |count, dtype| {
        let count = count.convert(dtype).clamp(0.0, steps as f64);
        let left: Tensor = 1.0 - count / steps as f64;
        left.powi(power) * (from - to) + to
    })
}

/// Half a cosine wave from `from` down to 0 over `steps` steps, then 0.
pub fn cosine_decay(from: f64, steps: usize) -> Schedule {
    cosine_decay_to(from, 0.0, steps)
}

/// Half a cosine wave from `from` down to `fraction × from` over `steps` steps, which then stays. 0 steps count as 1.
pub fn cosine_decay_to(from: f64, fraction: f64, steps: usize) -> Schedule {
    let steps = steps.max(1) as f64;
    Schedule::typed(move |count, dtype| {
        let count = count.convert(dtype).minimum(steps);
        let wave = ((count * PI / steps).cos() + 1.0) * 0.5;
        (wave * (1.0 - fraction) + fraction) * from
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

/// A straight line from `from` to `peak` over `warmup` steps, then half a cosine wave down to `end`, reached at step
/// `steps` (which counts the warm-up).
pub fn warmup_cosine(from: f64, peak: f64, warmup: usize, steps: usize, end: f64) -> Schedule {
    let fraction = if peak == 0.0 { 0.0 } else { end / peak };
    let decay = cosine_decay_to(peak, fraction, steps.saturating_sub(warmup));
    join_schedules([linear(from, peak, warmup), decay], [warmup])
}

/// One cycle (Smith & Topin 2018) over `steps` steps: a cosine wave up from `peak / 25` to `peak` in the first 30 %, and
/// another down to `peak / 250,000`.
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

/// One schedule after the other: each begins anew, at its count 0, at its boundary (ascending, one fewer than there
/// are schedules).
pub fn join_schedules<const N: usize, const M: usize>(schedules: [Schedule; N], boundaries: [usize; M]) -> Schedule {
    const { assert!(N == M + 1, "there is a boundary between every two schedules") };
    Schedule::typed(move |count, dtype| {
        let mut value = schedules[0].at_as(count, dtype);
        for (schedule, &boundary) in schedules[1..].iter().zip(&boundaries) {
            value = count.less(boundary).select(&value, schedule.at_as(&(count - boundary), dtype));
        }
        value
    })
}
