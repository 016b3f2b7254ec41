//! The auto-tuner that chooses between parallel and serial calls of a program.
//!
//! Comes in: the time of each call. Goes out: whether the next call is parallel. Results of programs do not depend on
//! it, and no thread is started here.
//!
//! The compiler's cost model assumes cores that synchronise in some 50 ns. On two sockets, or on virtual cores, it may
//! take six times that, and a small step is faster serial. Where other processes hold the cores, a barrier waits for
//! threads that do not run. So a program starts serial and is probed after its first calls and then periodically: a few
//! calls run in the other mode and are compared. Parallel calls that become slow are probed at once.

use std::time::Duration;

/// Calls of a probe. The first does not count: its data moves to other caches.
const PROBE_CALLS: u32 = 3;

/// Maximum number of calls between probes.
const PERIOD: u32 = 1_000;

/// Calls before the first probe. In the first of them memory is not yet mapped.
const WARMUP: u32 = 2;

/// Calls from a probe that changed the mode to the next probe: the machine may have been busy during the first. Each
/// probe that does not change the mode doubles the period.
const FIRST_PERIOD: u32 = 10;

/// Time ratios to the current mode. The other mode must be below `BETTER`. A call above `WORSE` ends its probe, the
/// first call, whose data moves, above `MUCH_WORSE`.
const BETTER: f64 = 0.97;
const WORSE: f64 = 1.2;
const MUCH_WORSE: f64 = 4.0;

/// Calls of a probe for which the workers may be absent: at first they may be asleep.
const MAX_ABSENT: u32 = 2;

/// Consecutive parallel calls, and their time ratio to the shortest one, from which on a worker is taken to be
/// descheduled and serial calls are probed.
const SLOW_CALLS: (u32, f64) = (2, 2.0);

/// Seconds that it takes to wake the workers.
const WAKE_TIME: f64 = 60e-6;

/// Seconds from which on the first call of a probe counts.
const LONG: f64 = 1e-3;

/// The policy of one program.
#[derive(Debug)]
pub(crate) struct ParallelPolicy {
    /// Never changes the mode.
    is_fixed: bool,
    serial: bool,
    /// Calls until the next probe; negative during one.
    left: i32,
    /// The initial value of `left`.
    period: u32,
    /// The shortest of the last calls before a probe, and of the probe.
    now: f64,
    other: f64,
    /// The shortest call since the last probe, and the number of slow calls since it.
    best: f64,
    slow: u32,
    /// Calls of this probe with absent workers.
    absent: u32,
    /// Changes to serial because calls became slow.
    fallbacks: u32,
}

impl Default for ParallelPolicy {
    fn default() -> Self {
        // Below all other periods: marks a program that has never been probed.
        ParallelPolicy::with_period(WARMUP, true, FIRST_PERIOD - 1)
    }
}

impl ParallelPolicy {
    fn with_period(left: u32, serial: bool, period: u32) -> Self {
        let none = f64::INFINITY;
        ParallelPolicy {
            is_fixed: false,
            serial,
            left: left as i32,
            period,
            now: none,
            other: none,
            best: none,
            slow: 0,
            absent: 0,
            fallbacks: 0,
        }
    }

    /// Must the next call check that the workers run?
    fn checks_workers(&self) -> bool {
        if self.serial { self.left <= 0 } else { self.slow > 0 && self.left > 0 }
    }

    /// How long the next call waits for the workers, if it checks them. Waking them takes [`WAKE_TIME`], or longer
    /// after a long sleep, for which a long call has the time.
    pub(crate) fn worker_timeout(&self) -> Option<Duration> {
        let call = self.now.min(self.best);
        let worker_timeout = if call.is_finite() { WAKE_TIME.max(call / 8.0) } else { WAKE_TIME };
        self.checks_workers().then(|| Duration::from_secs_f64(worker_timeout))
    }

    /// Records that workers were absent, so that the call is serial.
    pub(crate) fn record_absent(&mut self) {
        if !self.serial {
            // Serial calls are probed now, not after another slow call.
            self.left = 0;
            return;
        }
        self.absent += 1;
        if self.absent == MAX_ABSENT {
            self.end_probe(false);
        }
    }

    fn end_probe(&mut self, changes: bool) {
        let fallbacks = match (self.serial, changes) {
            (false, false) => 0,
            // Each time the period before the next probe doubles.
            (false, true) if self.slow >= SLOW_CALLS.0 => self.fallbacks + 1,
            _ => self.fallbacks,
        };
        let period = match changes {
            true => PERIOD.min(FIRST_PERIOD << fallbacks.min(10)),
            false => PERIOD.min(2 * self.period),
        };
        *self = ParallelPolicy { fallbacks, ..ParallelPolicy::with_period(period, self.serial != changes, period) };
    }

    /// A policy that is parallel for all calls.
    pub(crate) fn always_parallel() -> Self {
        ParallelPolicy { is_fixed: true, ..ParallelPolicy::with_period(1, false, FIRST_PERIOD) }
    }

    /// Is the next call serial?
    pub(crate) fn is_serial(&self) -> bool {
        self.serial != (self.left <= 0)
    }

    /// Records the time of a call.
    pub(crate) fn record(&mut self, took: Duration) {
        if self.is_fixed {
            return;
        }
        let took = took.as_secs_f64();
        self.left -= 1;
        if self.left >= 0 {
            return self.record_between_probes(took);
        }
        let counts = self.left != -1 || took > LONG;
        if counts {
            self.other = self.other.min(took);
        }
        let is_worse = took > self.now * if counts { WORSE } else { MUCH_WORSE };
        if is_worse || self.left == -(PROBE_CALLS as i32) {
            self.end_probe(!is_worse && self.other < self.now * BETTER);
        }
    }

    /// A call between probes.
    fn record_between_probes(&mut self, took: f64) {
        if self.left < PROBE_CALLS as i32 - 1 {
            self.now = self.now.min(took);
        }
        self.slow = if took > self.best * SLOW_CALLS.1 { self.slow + 1 } else { 0 };
        self.best = self.best.min(took);
        if !self.serial && self.slow >= SLOW_CALLS.0 {
            // Compared with its present time, not with the shortest.
            self.left = 0;
            self.now = took;
        }
        // Memory does not matter to a call this long: no second serial call is needed.
        if self.serial && self.best == took && self.period < FIRST_PERIOD && took > LONG {
            self.left = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `calls` of which number `i` takes `times(i)` (serial, parallel) microseconds; returns the time of each, and
    /// how many were serial.
    fn run(policy: &mut ParallelPolicy, calls: u32, times: impl Fn(u32) -> (u64, u64)) -> (Vec<u64>, u32) {
        let mut took = Vec::new();
        let mut times_serial = 0;
        for i in 0..calls {
            let (serial, parallel) = times(i);
            let is_serial = policy.is_serial();
            times_serial += u32::from(is_serial);
            took.push(if is_serial { serial } else { parallel });
            policy.record(Duration::from_micros(took[i as usize]));
        }
        (took, times_serial)
    }

    #[test]
    fn the_faster_mode_is_found_and_left_again() {
        let mut policy = ParallelPolicy::default();
        assert!(run(&mut policy, 10 * PERIOD, |_| (20, 10)).1 < PERIOD / 20);
        assert!(run(&mut policy, 10 * PERIOD, |_| (10, 20)).1 > 8 * PERIOD);
        assert!(run(&mut policy, 10 * PERIOD, |_| (20, 10)).1 < 2 * PERIOD);
    }

    #[test]
    fn the_first_calls_on_a_busy_machine_are_as_fast_as_serial_ones() {
        for (serial, parallel, most) in [(10, 100, 2), (50, 500, 2), (300, 900, 2), (400, 8_000, 1), (5_000, 12_000, 1)]
        {
            let (took, _) = run(&mut ParallelPolicy::default(), 20, |_| (serial, parallel));
            let slow = took.iter().filter(|&&took| took == parallel).count();
            assert!(slow <= 2 * most, "{serial} against {parallel}: {took:?}");
            let mut sorted = took.clone();
            sorted.sort_unstable();
            assert_eq!(sorted[10], serial, "the median of {took:?}");
            assert_eq!(took[0], serial, "the first of {took:?}");
        }
    }

    #[test]
    fn on_an_idle_machine_calls_are_parallel_soon() {
        let (took, serial) = run(&mut ParallelPolicy::default(), 20, |i| (if i == 0 { 90 } else { 20 }, 11));
        assert!(serial <= 4, "{took:?}");
        // A long call is probed at once.
        let (took, _) = run(&mut ParallelPolicy::default(), 4, |_| (2_000_000, 1_100_000));
        assert_eq!(took, [2_000_000, 1_100_000, 1_100_000, 1_100_000]);
    }

    #[test]
    fn a_machine_that_becomes_busy_is_noticed_at_once() {
        let mut policy = ParallelPolicy::default();
        run(&mut policy, 5 * PERIOD, |_| (20, 11));
        assert!(!policy.is_serial());
        let (took, serial) = run(&mut policy, 20, |_| (20, 200));
        assert!(serial >= 16, "{took:?}");
        // And that it is idle again, within a period.
        assert!(!run(&mut policy, PERIOD, |_| (20, 11)).0.ends_with(&[20]));
        // Where both modes become slow, calls stay parallel except for probes.
        let (took, serial) = run(&mut policy, 100, |_| (90, 50));
        assert!(serial <= 12, "{took:?}");
    }

    #[test]
    fn absent_workers_are_not_waited_for_repeatedly() {
        let (mut policy, mut waits) = (ParallelPolicy::default(), 0);
        for _ in 0..100 {
            if !policy.is_serial() && policy.checks_workers() {
                waits += 1;
                policy.record_absent();
            } else {
                assert!(policy.is_serial());
                policy.record(Duration::from_micros(50));
            }
        }
        assert!(waits <= 4 * MAX_ABSENT, "{waits} of 100");
        // Once they run, one slow call triggers the check again.
        run(&mut policy, 2 * PERIOD, |_| (20, 11));
        assert!(!policy.is_serial() && !policy.checks_workers());
        policy.record(Duration::from_micros(800));
        assert!(!policy.is_serial() && policy.checks_workers());
        policy.record_absent();
        assert!(policy.is_serial());
    }

    #[test]
    fn the_period_grows_on_a_machine_that_is_busy_now_and_then() {
        // Parallel calls are fast in each probe, and slow soon after.
        let (mut policy, mut slow, mut since) = (ParallelPolicy::default(), 0, 0);
        for _ in 0..2_000 {
            since = if policy.is_serial() { 0 } else { since + 1 };
            let took = if policy.is_serial() {
                20
            } else if since <= 5 {
                11
            } else {
                2_000
            };
            slow += u32::from(took == 2_000);
            policy.record(Duration::from_micros(took));
        }
        assert!(slow <= 30, "{slow} of 2000");
    }

    #[test]
    fn a_fixed_policy_is_parallel_for_all_times() {
        let mut policy = ParallelPolicy::always_parallel();
        assert_eq!(run(&mut policy, 3 * PERIOD, |i| (10, if i % 7 < 3 { 1_000 } else { 20 })).1, 0);
        assert!(!policy.checks_workers());
    }

    #[test]
    fn one_slow_call_does_not_change_the_mode() {
        let mut policy = ParallelPolicy::default();
        run(&mut policy, 5 * PERIOD, |_| (20, 11));
        let (_, serial) = run(&mut policy, 200, |i| (20, if i % 20 == 7 { 900 } else { 11 }));
        assert!(serial < 20, "{serial} of 200 serial");
    }
}
