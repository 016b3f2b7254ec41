//! Whether a program runs on all threads or on the caller's alone, by what its calls take.
//!
//! The compiler's cost model says what is worth sharing between cores that talk to each other in some 50 ns. Not all do:
//! on two sockets, or where a hypervisor moves its virtual cores about, it may be six times that, and then a small step
//! is faster alone. Where other programs hold the cores, threads that wait for one that does not run are slower by far.
//! So a program begins alone, and after its first calls, and now and then later, a few are made the other way and
//! compared; and where calls on all threads become slow, the comparison is made at once. Results do not depend on it.

use std::time::Duration;

/// Calls of a trial; the first does not count, since memory has to move to other caches.
const TRIAL: u32 = 3;

/// Calls from one trial to the next, at most.
const PERIOD: u32 = 1_000;

/// Calls before the first trial. The first of them finds its memory not yet there.
const WARM: u32 = 2;

/// Calls from a trial that changed the way to the next, since something else may have held up the machine just then.
/// After each that did not change it they are twice as many as before.
const FIRST: u32 = 10;

/// How much shorter the other way must be; and by how much longer a call ends its trial at once, or the first one, which
/// moves the memory.
const BETTER: f64 = 0.97;
const WORSE: f64 = 1.2;
const FAR: f64 = 4.0;

/// Calls of a trial in which the other threads may fail to come: at first they may be asleep.
const MISSING: u32 = 2;

/// Calls on all threads, one after the other, that take so much longer than the shortest one: then a thread of them
/// waits for another that does not run, and being alone is tried.
const SLOW: (u32, f64) = (2, 2.0);

/// Seconds that it takes to wake the other threads.
const PATIENCE: f64 = 60e-6;

/// Seconds from which on a call counts although memory had to move for it.
const LONG: f64 = 1e-3;

/// Decides for one program.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Nothing is measured.
    is_fixed: bool,
    alone: bool,
    /// Calls until the next trial; negative during one.
    left: i32,
    /// How many they were at first.
    period: u32,
    /// The shortest of the last calls before a trial, and of its own.
    now: f64,
    other: f64,
    /// The shortest call since the last trial, and how many at the end were slow beside it.
    best: f64,
    slow: u32,
    /// How often the other threads did not come in this trial.
    missing: u32,
    /// How often all threads were given up because calls became slow.
    given_up: u32,
}

impl Default for Pace {
    fn default() -> Self {
        // The period of one that has never been tried is a little shorter than all others.
        Pace::until(WARM, true, FIRST - 1)
    }
}

impl Pace {
    fn until(left: u32, alone: bool, period: u32) -> Self {
        let none = f64::INFINITY;
        Pace {
            is_fixed: false,
            alone,
            left: left as i32,
            period,
            now: none,
            other: none,
            best: none,
            slow: 0,
            missing: 0,
            given_up: 0,
        }
    }

    /// Is the next call to see whether all threads are there before it shares anything with them?
    fn doubts(&self) -> bool {
        if self.alone { self.left <= 0 } else { self.slow > 0 && self.left > 0 }
    }

    /// Where it is in doubt whether the other threads come: how long the next call waits for them. To wake them takes as
    /// long as [`PATIENCE`], or more where they have slept for long; a long call has the time for that.
    pub(crate) fn patience(&self) -> Option<Duration> {
        let call = self.now.min(self.best);
        let patience = if call.is_finite() { PATIENCE.max(call / 8.0) } else { PATIENCE };
        self.doubts().then(|| Duration::from_secs_f64(patience))
    }

    /// Notes that they were not, so that the call is made alone.
    pub(crate) fn note_missing(&mut self) {
        if !self.alone {
            // Being alone is tried now, not only after another slow call.
            self.left = 0;
            return;
        }
        self.missing += 1;
        if self.missing == MISSING {
            self.end_trial(false);
        }
    }

    fn end_trial(&mut self, changes: bool) {
        let given_up = match (self.alone, changes) {
            (false, false) => 0,
            // Each time it takes twice as long until they are tried again.
            (false, true) if self.slow >= SLOW.0 => self.given_up + 1,
            _ => self.given_up,
        };
        let period = match changes {
            true => PERIOD.min(FIRST << given_up.min(10)),
            false => PERIOD.min(2 * self.period),
        };
        *self = Pace { given_up, ..Pace::until(period, self.alone != changes, period) };
    }

    /// One that knows: all threads are used for good.
    pub(crate) fn together() -> Self {
        Pace { is_fixed: true, ..Pace::until(1, false, FIRST) }
    }

    /// Is the next call run alone?
    pub(crate) fn is_alone(&self) -> bool {
        self.alone != (self.left <= 0)
    }

    /// Notes what the call took.
    pub(crate) fn note(&mut self, took: Duration) {
        if self.is_fixed {
            return;
        }
        let took = took.as_secs_f64();
        self.left -= 1;
        if self.left >= 0 {
            return self.note_usual(took);
        }
        let counts = self.left != -1 || took > LONG;
        if counts {
            self.other = self.other.min(took);
        }
        let is_worse = took > self.now * if counts { WORSE } else { FAR };
        if is_worse || self.left == -(TRIAL as i32) {
            self.end_trial(!is_worse && self.other < self.now * BETTER);
        }
    }

    /// A call between trials.
    fn note_usual(&mut self, took: f64) {
        if self.left < TRIAL as i32 - 1 {
            self.now = self.now.min(took);
        }
        self.slow = if took > self.best * SLOW.1 { self.slow + 1 } else { 0 };
        self.best = self.best.min(took);
        if !self.alone && self.slow >= SLOW.0 {
            // Compared with what it takes at present, not with what it took.
            self.left = 0;
            self.now = took;
        }
        // So long that its memory is no matter, and a second one alone is more than need be.
        if self.alone && self.best == took && self.period < FIRST && took > LONG {
            self.left = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `calls` of which number `i` takes `times(i)` alone and together, in microseconds; gives what each took, and
    /// how many were alone.
    fn run(pace: &mut Pace, calls: u32, times: impl Fn(u32) -> (u64, u64)) -> (Vec<u64>, u32) {
        let mut took = Vec::new();
        let mut times_alone = 0;
        for i in 0..calls {
            let (alone, together) = times(i);
            let is_alone = pace.is_alone();
            times_alone += u32::from(is_alone);
            took.push(if is_alone { alone } else { together });
            pace.note(Duration::from_micros(took[i as usize]));
        }
        (took, times_alone)
    }

    #[test]
    fn the_faster_way_is_found_and_left_again() {
        let mut pace = Pace::default();
        assert!(run(&mut pace, 10 * PERIOD, |_| (20, 10)).1 < PERIOD / 20);
        assert!(run(&mut pace, 10 * PERIOD, |_| (10, 20)).1 > 8 * PERIOD);
        assert!(run(&mut pace, 10 * PERIOD, |_| (20, 10)).1 < 2 * PERIOD);
    }

    #[test]
    fn the_first_calls_on_a_busy_machine_are_as_good_as_alone() {
        for (alone, together, most) in [(10, 100, 2), (50, 500, 2), (300, 900, 2), (400, 8_000, 1), (5_000, 12_000, 1)]
        {
            let (took, _) = run(&mut Pace::default(), 20, |_| (alone, together));
            let slow = took.iter().filter(|&&took| took == together).count();
            assert!(slow <= 2 * most, "{alone} against {together}: {took:?}");
            let mut sorted = took.clone();
            sorted.sort_unstable();
            assert_eq!(sorted[10], alone, "the median of {took:?}");
            assert_eq!(took[0], alone, "the first of {took:?}");
        }
    }

    #[test]
    fn on_an_idle_machine_all_threads_are_in_use_soon() {
        let (took, alone) = run(&mut Pace::default(), 20, |i| (if i == 0 { 90 } else { 20 }, 11));
        assert!(alone <= 4, "{took:?}");
        // A long call is tried at once.
        let (took, _) = run(&mut Pace::default(), 4, |_| (2_000_000, 1_100_000));
        assert_eq!(took, [2_000_000, 1_100_000, 1_100_000, 1_100_000]);
    }

    #[test]
    fn a_machine_that_becomes_busy_is_noticed_at_once() {
        let mut pace = Pace::default();
        run(&mut pace, 5 * PERIOD, |_| (20, 11));
        assert!(!pace.is_alone());
        let (took, alone) = run(&mut pace, 20, |_| (20, 200));
        assert!(alone >= 16, "{took:?}");
        // And that it is idle again, within a trial's time.
        assert!(!run(&mut pace, PERIOD, |_| (20, 11)).0.ends_with(&[20]));
        // Where both ways become slow, all threads stay in use but for the trials.
        let (took, alone) = run(&mut pace, 100, |_| (90, 50));
        assert!(alone <= 12, "{took:?}");
    }

    #[test]
    fn threads_that_do_not_come_are_not_waited_for_again_and_again() {
        let (mut pace, mut waits) = (Pace::default(), 0);
        for _ in 0..100 {
            if !pace.is_alone() && pace.doubts() {
                waits += 1;
                pace.note_missing();
            } else {
                assert!(pace.is_alone());
                pace.note(Duration::from_micros(50));
            }
        }
        assert!(waits <= 4 * MISSING, "{waits} of 100");
        // Once they come, a slow call is enough to doubt it again.
        run(&mut pace, 2 * PERIOD, |_| (20, 11));
        assert!(!pace.is_alone() && !pace.doubts());
        pace.note(Duration::from_micros(800));
        assert!(!pace.is_alone() && pace.doubts());
        pace.note_missing();
        assert!(pace.is_alone());
    }

    #[test]
    fn a_machine_that_is_busy_now_and_then_is_left_alone_longer_each_time() {
        // All threads are fast whenever they are tried, and slow soon after.
        let (mut pace, mut slow, mut since) = (Pace::default(), 0, 0);
        for _ in 0..2_000 {
            since = if pace.is_alone() { 0 } else { since + 1 };
            let took = if pace.is_alone() {
                20
            } else if since <= 5 {
                11
            } else {
                2_000
            };
            slow += u32::from(took == 2_000);
            pace.note(Duration::from_micros(took));
        }
        assert!(slow <= 30, "{slow} of 2000");
    }

    #[test]
    fn one_that_is_fixed_uses_all_threads_whatever_they_take() {
        let mut pace = Pace::together();
        assert_eq!(run(&mut pace, 3 * PERIOD, |i| (10, if i % 7 < 3 { 1_000 } else { 20 })).1, 0);
        assert!(!pace.doubts());
    }

    #[test]
    fn one_slow_call_is_no_reason_to_change() {
        let mut pace = Pace::default();
        run(&mut pace, 5 * PERIOD, |_| (20, 11));
        let (_, alone) = run(&mut pace, 200, |i| (20, if i % 20 == 7 { 900 } else { 11 }));
        assert!(alone < 20, "{alone} of 200 alone");
    }
}
