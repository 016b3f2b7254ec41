//! The threads that share the work of a step.
//!
//! One pool for the process, started when a step first wants it. [`team`] lends it to one step at a time; a step that
//! finds it lent runs on its own thread alone, with the same results. Between steps the helpers spin for a moment, so
//! that the next step of a tight loop finds them awake, and then sleep.
//!
//! `FULGURITE_THREADS` says how many threads there are, the caller's among them; by default as many as the machine runs
//! at once.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use fulgurite_jit::cpu::MOST_THREADS;

use super::denormals::Flush;

/// How long a helper waits awake for the next step.
const AWAKE: Duration = Duration::from_micros(200);

/// How often a waiting thread looks before it lets others run.
const LOOKS: usize = 4_000;

/// How often one looks between two looks at the clock.
const FEW_LOOKS: usize = 100;

/// How many threads share a step.
pub fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        match std::env::var("FULGURITE_THREADS") {
            Err(_) => all,
            Ok(text) => text.trim().parse().ok().filter(|&n| (1..=MOST_THREADS).contains(&n)).unwrap_or_else(|| {
                eprintln!(
                    "FULGURITE_THREADS: {text:?} is not a number of threads from 1 to {MOST_THREADS}; there are {all}"
                );
                all
            }),
        }
    })
}

/// What the driver calls between two phases, and what with.
pub(crate) type Meeting = (unsafe extern "C" fn(*const u8), *const u8);

/// The pool, lent to one step.
pub(crate) struct Team {
    _lent: MutexGuard<'static, Vec<&'static Pool>>,
    pool: &'static Pool,
}

/// One for each number of threads that was ever asked for: in a program one, in tests several.
static POOLS: Mutex<Vec<&'static Pool>> = Mutex::new(Vec::new());

/// Starts the pool with `threads` threads, so that they are there when a step first wants them.
pub(crate) fn prepare(threads: usize) {
    drop(team(threads));
}

/// The pool with `threads` threads, if no other step has it, and all of them are done with the last one.
pub(crate) fn team(threads: usize) -> Option<Team> {
    let mut pools = match POOLS.try_lock() {
        Ok(pools) => pools,
        // A step has panicked; that says nothing about the pools.
        Err(TryLockError::Poisoned(pools)) => pools.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    let pool = match pools.iter().find(|pool| pool.threads == threads) {
        Some(pool) => pool,
        None => {
            let pool = Pool::start(threads)?;
            pools.push(pool);
            pool
        }
    };
    (pool.left.load(Acquire) == 0).then_some(Team { _lent: pools, pool })
}

/// What helpers are to run: a function of the number of the thread.
type Job<'a> = &'a (dyn Fn(usize) + Sync);

struct Pool {
    threads: usize,
    /// The step at hand; valid while `left` is not 0.
    job: AtomicPtr<Job<'static>>,
    /// Counts steps.
    step: AtomicUsize,
    /// Helpers that are not done with the step.
    left: AtomicUsize,
    helpers: Vec<Helper>,
    barrier: Barrier,
}

struct Helper {
    thread: OnceLock<Thread>,
    asleep: AtomicBool,
}

impl Pool {
    /// A pool of this many threads, for good; none where they cannot be started.
    fn start(threads: usize) -> Option<&'static Pool> {
        let helper = || Helper { thread: OnceLock::new(), asleep: AtomicBool::new(false) };
        let pool: &'static Pool = Box::leak(Box::new(Pool {
            threads,
            job: AtomicPtr::default(),
            step: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            helpers: (1..threads).map(|_| helper()).collect(),
            barrier: Barrier {
                threads,
                arrived: AtomicUsize::new(0),
                round: AtomicUsize::new(0),
                is_off: AtomicBool::new(false),
            },
        }));
        for (i, helper) in pool.helpers.iter().enumerate() {
            let name = format!("fulgurite-{}", i + 1);
            // Without helpers there is no team, and steps run alone.
            let started = std::thread::Builder::new().name(name).spawn(move || pool.help(i + 1)).ok()?;
            let _ = helper.thread.set(started.thread().clone());
        }
        Some(pool)
    }

    /// Gives all helpers a job, which is to be valid while `left` is not 0.
    fn give(&self, job: *mut Job<'static>) {
        self.job.store(job, Relaxed);
        self.left.store(self.helpers.len(), Relaxed);
        self.step.fetch_add(1, SeqCst);
        for helper in &self.helpers {
            if helper.asleep.load(SeqCst)
                && let Some(thread) = helper.thread.get()
            {
                thread.unpark();
            }
        }
    }

    /// What a helper does for all its life.
    fn help(&self, number: usize) {
        let helper = &self.helpers[number - 1];
        let _flush = Flush::on();
        let mut seen = 0;
        loop {
            let mut since = Instant::now();
            let mut looks = 0;
            while self.step.load(Acquire) == seen {
                std::hint::spin_loop();
                looks += 1;
                if looks % LOOKS == 0 && since.elapsed() > AWAKE {
                    helper.asleep.store(true, SeqCst);
                    // Looked at again after the note, so that a step which did not see the note is not missed.
                    while self.step.load(SeqCst) == seen {
                        std::thread::park();
                    }
                    helper.asleep.store(false, Relaxed);
                    since = Instant::now();
                }
            }
            seen = self.step.load(Acquire);
            let job = self.job.load(Relaxed);
            // SAFETY: whoever counted the step up keeps the job alive until `left` is 0, and this thread has not yet
            // counted itself out.
            let done = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)(number) }));
            if done.is_err() {
                // The thread lives on, nobody waits for it, and whoever gave the job hears of it.
                self.barrier.is_off.store(true, Release);
            }
            self.left.fetch_sub(1, Release);
        }
    }
}

impl Team {
    /// Runs `job` with each thread's number at once, and returns when all are done. When it panics on one of them, the
    /// others no longer wait for each other, and this panics when all are done.
    pub(crate) fn run(&self, job: Job) {
        let pool = self.pool;
        let job: *const Job = &job;
        pool.give(job.cast_mut().cast());
        // SAFETY: `job` is the reference of this call's argument.
        let done = catch_unwind(AssertUnwindSafe(|| unsafe { (*job)(0) }));
        if done.is_err() {
            pool.barrier.is_off.store(true, Release);
        }
        // Even after a panic: the others look at the job.
        wait_until(|| pool.left.load(Acquire) == 0);
        if pool.barrier.is_off.swap(false, AcqRel) {
            pool.barrier.arrived.store(0, Relaxed);
            match done {
                Ok(()) => panic!("a thread of the pool panicked"),
                Err(panic) => resume_unwind(panic),
            }
        }
    }

    /// Are all threads there within this time? One that other programs keep from running is not. The team is of no use
    /// then, until it has come.
    pub(crate) fn comes_within(&self, patience: Duration) -> bool {
        static NOTHING: Job<'static> = &|_| {};
        let pool = self.pool;
        pool.give((&raw const NOTHING).cast_mut());
        let since = Instant::now();
        let mut looks = 0;
        while pool.left.load(Acquire) != 0 {
            std::hint::spin_loop();
            looks += 1;
            if looks % FEW_LOOKS == 0 && since.elapsed() > patience {
                return false;
            }
        }
        true
    }

    /// Where the threads of this team meet.
    pub(crate) fn meeting(&self) -> Meeting {
        (meet, (&raw const self.pool.barrier).cast())
    }
}

/// Where threads wait for each other.
struct Barrier {
    threads: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
    /// A thread has panicked and will not come.
    is_off: AtomicBool,
}

/// Returns when all threads of the team have called it.
///
/// # Safety
/// `barrier` is the second part of [`Team::meeting`], of a team that is running.
unsafe extern "C" fn meet(barrier: *const u8) {
    // SAFETY: the caller's promise; pools are never freed.
    let barrier = unsafe { &*barrier.cast::<Barrier>() };
    let round = barrier.round.load(Relaxed);
    if barrier.arrived.fetch_add(1, AcqRel) + 1 == barrier.threads {
        barrier.arrived.store(0, Relaxed);
        barrier.round.store(round.wrapping_add(1), Release);
    } else {
        wait_until(|| barrier.round.load(Acquire) != round || barrier.is_off.load(Relaxed));
    }
}

fn wait_until(done: impl Fn() -> bool) {
    let mut looks = 0;
    while !done() {
        std::hint::spin_loop();
        looks += 1;
        if looks % LOOKS == 0 {
            // There may be fewer cores than threads.
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_run_and_meet() {
        for threads in [1, 2, 3, 7] {
            let team = loop {
                if let Some(team) = team(threads) {
                    break team;
                }
            };
            for _ in 0..200 {
                let (first, second) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let (meet, barrier) = team.meeting();
                let barrier = barrier as usize;
                team.run(&|number| {
                    first.fetch_add(number + 1, Relaxed);
                    // SAFETY: as `meeting` asks.
                    unsafe { meet(barrier as *const u8) };
                    let all = threads * (threads + 1) / 2;
                    second.fetch_add(usize::from(first.load(Relaxed) == all), Relaxed);
                });
                assert_eq!(second.load(Relaxed), threads);
            }
        }
    }

    #[test]
    fn a_panic_on_a_thread_comes_to_the_caller_and_leaves_the_pool_usable() {
        for (threads, bad) in [(1, 0), (2, 0), (2, 1), (5, 3)] {
            let team = loop {
                if let Some(team) = team(threads) {
                    break team;
                }
            };
            let (meet, barrier) = team.meeting();
            let barrier = barrier as usize;
            let done = AtomicUsize::new(0);
            let run = |bad: Option<usize>| {
                catch_unwind(AssertUnwindSafe(|| {
                    team.run(&|number| {
                        assert_ne!(Some(number), bad, "this thread is bad");
                        // SAFETY: as `meeting` asks.
                        unsafe { meet(barrier as *const u8) };
                        done.fetch_add(1, Relaxed);
                    });
                }))
            };
            for _ in 0..20 {
                done.store(0, Relaxed);
                assert!(run(Some(bad)).is_err());
                assert_eq!(done.load(Relaxed), threads - 1);
                assert!(run(None).is_ok());
                assert_eq!(done.load(Relaxed), 2 * threads - 1);
            }
            // A panic that passes the lent pool by does not keep it from others.
            let passed = catch_unwind(AssertUnwindSafe(move || {
                let team = team;
                team.run(&|_| panic!("all are bad"));
            }));
            assert!(passed.is_err());
        }
    }

    #[test]
    fn a_team_is_there_within_a_time_or_of_no_use_until_it_is() {
        for threads in [1, 2, 4] {
            let team = || loop {
                if let Some(team) = team(threads) {
                    break team;
                }
            };
            assert!(team().comes_within(Duration::from_secs(600)));
            let ran = AtomicUsize::new(0);
            for i in 0..100 {
                // Whether they come in no time is as it may be; the next one to ask gets them when they have.
                let _ = team().comes_within(Duration::ZERO);
                team().run(&|_| {
                    ran.fetch_add(1, Relaxed);
                });
                assert_eq!(ran.load(Relaxed), threads * (i + 1));
            }
        }
    }

    #[test]
    fn a_second_step_does_not_wait() {
        if let Some(_lent) = team(2) {
            assert!(team(2).is_none());
        }
    }
}
