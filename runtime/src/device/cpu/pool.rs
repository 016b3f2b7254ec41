//! The thread pool.
//!
//! Comes in: a task. Goes out: a run of it on all threads, which synchronise at barriers. Whether a program is parallel is
//! decided in `policy`.
//!
//! One pool for the process, started on first use. [`lease`] leases it to one call at a time; a call that finds it leased
//! runs serially, with the same results. Between calls the workers spin for a moment, so that the next call of a tight
//! loop finds them awake, and then sleep.
//!
//! `FULGURITE_THREADS` is the number of threads, the caller included; by default the machine's parallelism.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::*};
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use fulgurite_jit::cpu::MAX_THREADS;

use super::denormals::Flush;

/// How long a worker spins before it sleeps.
const SPIN_TIME: Duration = Duration::from_micros(200);

/// Spins of a waiting thread before it yields.
const SPINS_PER_YIELD: usize = 4_000;

/// Spins between two reads of the clock.
const SPINS_PER_CLOCK: usize = 100;

/// The number of threads of a parallel call.
pub fn threads() -> usize {
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| {
        let all = std::thread::available_parallelism().map_or(1, usize::from);
        match std::env::var("FULGURITE_THREADS") {
            Err(_) => all,
            Ok(text) => text.trim().parse().ok().filter(|&n| (1..=MAX_THREADS).contains(&n)).unwrap_or_else(|| {
                eprintln!(
                    "FULGURITE_THREADS: {text:?} is not a number of threads from 1 to {MAX_THREADS}; there are {all}"
                );
                all
            }),
        }
    })
}

/// What the driver calls between two phases: a function and its argument.
pub(crate) type BarrierCall = (unsafe extern "C" fn(*const u8), *const u8);

/// The threads of the pool, leased to one call.
pub(crate) struct Workers {
    _lease: MutexGuard<'static, Vec<&'static Pool>>,
    pool: &'static Pool,
}

/// One per number of threads: in a program one, in tests several.
static POOLS: Mutex<Vec<&'static Pool>> = Mutex::new(Vec::new());

/// Starts the pool with `threads` threads ahead of the first call.
pub(crate) fn start_pool(threads: usize) {
    drop(lease(threads));
}

/// The pool with `threads` threads, unless another call holds it or a worker has not finished its last task.
pub(crate) fn lease(threads: usize) -> Option<Workers> {
    let mut pools = match POOLS.try_lock() {
        Ok(pools) => pools,
        // A task panicked; the pools are unaffected.
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
    (pool.pending.load(Acquire) == 0).then_some(Workers { _lease: pools, pool })
}

/// What threads run: a function of the thread number.
type Task<'a> = &'a (dyn Fn(usize) + Sync);

struct Pool {
    threads: usize,
    /// The current task; valid while `pending` is not 0.
    task: AtomicPtr<Task<'static>>,
    /// Counts tasks.
    step: AtomicUsize,
    /// Workers that have not finished the task.
    pending: AtomicUsize,
    workers: Vec<Worker>,
    barrier: Barrier,
}

struct Worker {
    thread: OnceLock<Thread>,
    is_asleep: AtomicBool,
}

impl Pool {
    /// A pool of this many threads, which is never freed; `None` where they cannot be started.
    fn start(threads: usize) -> Option<&'static Pool> {
        let worker = || Worker { thread: OnceLock::new(), is_asleep: AtomicBool::new(false) };
        let pool: &'static Pool = Box::leak(Box::new(Pool {
            threads,
            task: AtomicPtr::default(),
            step: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            workers: (1..threads).map(|_| worker()).collect(),
            barrier: Barrier {
                threads,
                arrived: AtomicUsize::new(0),
                round: AtomicUsize::new(0),
                is_broken: AtomicBool::new(false),
            },
        }));
        for (i, worker) in pool.workers.iter().enumerate() {
            let name = format!("fulgurite-{}", i + 1);
            // Without workers calls are serial.
            let started = std::thread::Builder::new().name(name).spawn(move || pool.run_worker(i + 1)).ok()?;
            let _ = worker.thread.set(started.thread().clone());
        }
        Some(pool)
    }

    /// Posts a task to all workers. It must be valid while `pending` is not 0.
    fn post(&self, task: *mut Task<'static>) {
        self.task.store(task, Relaxed);
        self.pending.store(self.workers.len(), Relaxed);
        self.step.fetch_add(1, SeqCst);
        for worker in &self.workers {
            if worker.is_asleep.load(SeqCst)
                && let Some(thread) = worker.thread.get()
            {
                thread.unpark();
            }
        }
    }

    /// The loop of a worker.
    fn run_worker(&self, number: usize) {
        let worker = &self.workers[number - 1];
        let _flush = Flush::on();
        let mut seen = 0;
        loop {
            let mut since = Instant::now();
            let mut spins = 0;
            while self.step.load(Acquire) == seen {
                std::hint::spin_loop();
                spins += 1;
                if spins % SPINS_PER_YIELD == 0 && since.elapsed() > SPIN_TIME {
                    worker.is_asleep.store(true, SeqCst);
                    // Read again after the store, or a task whose poster did not see the store is missed.
                    while self.step.load(SeqCst) == seen {
                        std::thread::park();
                    }
                    worker.is_asleep.store(false, Relaxed);
                    since = Instant::now();
                }
            }
            seen = self.step.load(Acquire);
            let task = self.task.load(Relaxed);
            // SAFETY: the poster keeps the task alive until `pending` is 0, and this thread has not yet decremented it.
            let done = catch_unwind(AssertUnwindSafe(|| unsafe { (*task)(number) }));
            if done.is_err() {
                // The thread stays alive, no barrier waits for it, and `Workers::run` panics.
                self.barrier.is_broken.store(true, Release);
            }
            self.pending.fetch_sub(1, Release);
        }
    }
}

impl Workers {
    /// Runs `task` on all threads with their numbers, and returns when all are done. If it panics on one of them, the others
    /// no longer wait at barriers, and this panics when all are done.
    pub(crate) fn run(&self, task: Task) {
        let pool = self.pool;
        let task: *const Task = &task;
        pool.post(task.cast_mut().cast());
        // SAFETY: `task` is the reference of this call's argument.
        let done = catch_unwind(AssertUnwindSafe(|| unsafe { (*task)(0) }));
        if done.is_err() {
            pool.barrier.is_broken.store(true, Release);
        }
        // Even after a panic: the workers read the task.
        wait_until(|| pool.pending.load(Acquire) == 0);
        if pool.barrier.is_broken.swap(false, AcqRel) {
            pool.barrier.arrived.store(0, Relaxed);
            match done {
                Ok(()) => panic!("a thread of the pool panicked"),
                Err(panic) => resume_unwind(panic),
            }
        }
    }

    /// Do all workers run within this time? One that is descheduled does not; the pool cannot be leased until it has run.
    pub(crate) fn ready_within(&self, timeout: Duration) -> bool {
        static NOTHING: Task<'static> = &|_| {};
        let pool = self.pool;
        pool.post((&raw const NOTHING).cast_mut());
        let since = Instant::now();
        let mut spins = 0;
        while pool.pending.load(Acquire) != 0 {
            std::hint::spin_loop();
            spins += 1;
            if spins % SPINS_PER_CLOCK == 0 && since.elapsed() > timeout {
                return false;
            }
        }
        true
    }

    /// Where the threads of this workers wait_at_barrier.
    pub(crate) fn barrier_call(&self) -> BarrierCall {
        (wait_at_barrier, (&raw const self.pool.barrier).cast())
    }
}

/// A spinning barrier.
struct Barrier {
    threads: usize,
    arrived: AtomicUsize,
    round: AtomicUsize,
    /// A thread has panicked and will not arrive.
    is_broken: AtomicBool,
}

/// Returns when all threads of the pool have called it.
///
/// # Safety
/// `barrier` is the argument of [`Workers::barrier_call`] of a pool that is leased.
unsafe extern "C" fn wait_at_barrier(barrier: *const u8) {
    // SAFETY: the caller's promise; pools are never freed.
    let barrier = unsafe { &*barrier.cast::<Barrier>() };
    let round = barrier.round.load(Relaxed);
    if barrier.arrived.fetch_add(1, AcqRel) + 1 == barrier.threads {
        barrier.arrived.store(0, Relaxed);
        barrier.round.store(round.wrapping_add(1), Release);
    } else {
        wait_until(|| barrier.round.load(Acquire) != round || barrier.is_broken.load(Relaxed));
    }
}

fn wait_until(done: impl Fn() -> bool) {
    let mut spins = 0;
    while !done() {
        std::hint::spin_loop();
        spins += 1;
        if spins % SPINS_PER_YIELD == 0 {
            // There may be fewer cores than threads.
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_threads_run_and_reach_the_barrier() {
        for threads in [1, 2, 3, 7] {
            let workers = loop {
                if let Some(workers) = lease(threads) {
                    break workers;
                }
            };
            for _ in 0..200 {
                let (first, second) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let (wait_at_barrier, barrier) = workers.barrier_call();
                let barrier = barrier as usize;
                workers.run(&|number| {
                    first.fetch_add(number + 1, Relaxed);
                    // SAFETY: as `barrier_call` asks.
                    unsafe { wait_at_barrier(barrier as *const u8) };
                    let all = threads * (threads + 1) / 2;
                    second.fetch_add(usize::from(first.load(Relaxed) == all), Relaxed);
                });
                assert_eq!(second.load(Relaxed), threads);
            }
        }
    }

    #[test]
    fn a_panic_on_a_thread_reaches_the_caller_and_leaves_the_pool_usable() {
        for (threads, bad) in [(1, 0), (2, 0), (2, 1), (5, 3)] {
            let workers = loop {
                if let Some(workers) = lease(threads) {
                    break workers;
                }
            };
            let (wait_at_barrier, barrier) = workers.barrier_call();
            let barrier = barrier as usize;
            let done = AtomicUsize::new(0);
            let run = |bad: Option<usize>| {
                catch_unwind(AssertUnwindSafe(|| {
                    workers.run(&|number| {
                        assert_ne!(Some(number), bad, "this thread is bad");
                        // SAFETY: as `barrier_call` asks.
                        unsafe { wait_at_barrier(barrier as *const u8) };
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
            // A panic that unwinds through the lease releases it.
            let passed = catch_unwind(AssertUnwindSafe(move || {
                let workers = workers;
                workers.run(&|_| panic!("all are bad"));
            }));
            assert!(passed.is_err());
        }
    }

    #[test]
    fn workers_are_ready_within_a_time_or_not_leased_until_they_are() {
        for threads in [1, 2, 4] {
            let workers = || loop {
                if let Some(workers) = lease(threads) {
                    break workers;
                }
            };
            assert!(workers().ready_within(Duration::from_secs(600)));
            let ran = AtomicUsize::new(0);
            for i in 0..100 {
                // They may or may not be ready in no time; the next lease succeeds once they have run.
                let _ = workers().ready_within(Duration::ZERO);
                workers().run(&|_| {
                    ran.fetch_add(1, Relaxed);
                });
                assert_eq!(ran.load(Relaxed), threads * (i + 1));
            }
        }
    }

    #[test]
    fn a_second_call_does_not_wait() {
        if let Some(_lease) = lease(2) {
            assert!(lease(2).is_none());
        }
    }
}
