//! Schedules in sequence.

use super::{Schedule, constant, linear};

/// One schedule after the other: each begins anew, at its count 0, at its boundary (ascending, one fewer than there
/// are schedules).
pub fn join_schedules<const N: usize, const M: usize>(schedules: [Schedule; N], boundaries: [usize; M]) -> Schedule {
    const { assert!(N == M + 1, "there is a boundary between every two schedules") };
    in_sequence(schedules.into(), boundaries.into())
}

/// [`join_schedules`] of a list; 0 if it is empty.
pub(super) fn in_sequence(schedules: Vec<Schedule>, boundaries: Vec<usize>) -> Schedule {
    let mut schedules = schedules.into_iter();
    let first = schedules.next().unwrap_or_else(|| constant(0.0));
    let rest: Vec<(Schedule, usize)> = schedules.zip(boundaries).collect();
    Schedule::typed(move |count, dtype| {
        rest.iter().fold(first.at_as(count, dtype), |value, (schedule, boundary)| {
            count.less(*boundary).select(&value, schedule.at_as(&(count - *boundary), dtype))
        })
    })
}

/// A straight line from `from` to `peak` over `steps` steps, then the schedule `then`, from its count 0 on. With an
/// exponential decay it is `optax.warmup_exponential_decay_schedule`.
///
/// ```
/// use fulgurite_trainer::optim::{adam, schedule::{exponential_decay, warmup}};
/// let optimizer = adam(warmup(0.0, 1e-3, 100, exponential_decay(1e-3, 1_000, 0.9).at_least(1e-5)));
/// ```
pub fn warmup(from: f64, peak: f64, steps: usize, then: Schedule) -> Schedule {
    join_schedules([linear(from, peak, steps), then], [steps])
}

/// A straight line from `from` to `peak` over `steps` steps, then `peak`: `optax.warmup_constant_schedule`.
pub fn warmup_constant(from: f64, peak: f64, steps: usize) -> Schedule {
    linear(from, peak, steps)
}
