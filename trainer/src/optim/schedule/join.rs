//! Schedules in sequence.

use super::Schedule;

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
