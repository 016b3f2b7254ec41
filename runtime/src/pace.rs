//! Whether a program runs on all threads or on the caller's alone, by what its calls take.
//!
//! The compiler's cost model says what is worth sharing between cores that talk to each other in some 50 ns. Not all do:
//! on two sockets, or where a hypervisor moves its virtual cores about, it may be six times that, and then a small step
//! is faster alone. So now and then a few calls are made the other way and compared. Results do not depend on it.

use std::time::Duration;

/// Calls of a trial; the first does not count, since memory has to move to other caches.
const TRIAL: u32 = 3;

/// Calls from one trial to the next, at most.
const PERIOD: u32 = 1_000;

/// Calls before the first trial. After one that changed the way it is as many again, since something else may have held
/// up the machine just then; after each that did not, twice as many as before.
const FIRST: u32 = 10;

/// How much shorter the other way must be; and by how much longer a call ends its trial at once.
const BETTER: f64 = 0.97;
const WORSE: f64 = 1.2;

/// Seconds from which on a call counts although memory had to move for it.
const LONG: f64 = 1e-3;

/// Decides for one program.
#[derive(Debug)]
pub(crate) struct Pace {
    alone: bool,
    /// Calls until the next trial; negative during one.
    left: i32,
    /// How many they were at first.
    period: u32,
    /// The shortest of the last calls before a trial, and of its own.
    now: f64,
    other: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { alone: false, left: FIRST as i32, period: FIRST, now: f64::INFINITY, other: f64::INFINITY }
    }
}

impl Pace {
    /// Is the next call run alone?
    pub(crate) fn is_alone(&self) -> bool {
        self.alone != (self.left <= 0)
    }

    /// Notes what the call took.
    pub(crate) fn note(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.left -= 1;
        let counts = self.left != -1 || took > LONG;
        if self.left >= 0 {
            if self.left < TRIAL as i32 - 1 {
                self.now = self.now.min(took);
            }
        } else if counts {
            self.other = self.other.min(took);
        }
        let is_worse = self.left < 0 && counts && took > self.now * WORSE;
        if is_worse || self.left == -(TRIAL as i32) {
            let changes = self.other < self.now * BETTER;
            let period = if changes { FIRST } else { PERIOD.min(2 * self.period) };
            *self = Pace { alone: self.alone != changes, left: period as i32, period, ..Pace::default() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_way_is_found_and_left_again() {
        let mut pace = Pace::default();
        let mut run = |alone: u64, together: u64| {
            let mut times_alone = 0;
            for _ in 0..10 * PERIOD {
                let is_alone = pace.is_alone();
                times_alone += u32::from(is_alone);
                pace.note(Duration::from_micros(if is_alone { alone } else { together }));
            }
            times_alone
        };
        assert!(run(20, 10) < PERIOD / 20);
        assert!(run(10, 20) > 8 * PERIOD);
        assert!(run(20, 10) < 2 * PERIOD);
    }
}
