//! Ctrl-C and SIGTERM: the first ends the runs of this process after the current step, with a checkpoint; the second
//! ends the process.
//!
//! The handler is installed once, by the first run. While there is no run, a signal ends the process as usual.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

/// How many requests to end there were. A run compares it with the value at its start, so that a request concerns the
/// current runs and no later one.
static REQUESTS: AtomicUsize = AtomicUsize::new(0);
/// The number of current runs.
static RUNS: AtomicUsize = AtomicUsize::new(0);
/// Was there a signal since there was no run?
static SIGNALLED: AtomicBool = AtomicBool::new(false);

/// Ends the current runs after their current step, as the first Ctrl-C does. For programs that install their own signal
/// handlers.
pub fn interrupt() {
    REQUESTS.fetch_add(1, SeqCst);
}

/// Counts a run for as long as it lives, and tells whether it is interrupted.
#[derive(Debug)]
pub(crate) struct InterruptGuard {
    requests: usize,
}

impl InterruptGuard {
    pub(crate) fn start() -> Self {
        static INSTALL: Once = Once::new();
        // A handler that the program has installed itself stays; it may call `interrupt`.
        INSTALL.call_once(|| drop(ctrlc::set_handler(on_signal)));
        RUNS.fetch_add(1, SeqCst);
        InterruptGuard { requests: REQUESTS.load(SeqCst) }
    }

    /// Is the run to end? One relaxed load per step.
    pub(crate) fn is_interrupted(&self) -> bool {
        REQUESTS.load(Relaxed) != self.requests
    }
}

impl Drop for InterruptGuard {
    fn drop(&mut self) {
        if RUNS.fetch_sub(1, SeqCst) == 1 {
            SIGNALLED.store(false, SeqCst);
        }
    }
}

/// Runs on a thread of ctrlc, not in a signal handler: it may lock and print.
fn on_signal() {
    if RUNS.load(SeqCst) == 0 || SIGNALLED.swap(true, SeqCst) {
        std::process::exit(130); // 128 + SIGINT, as a shell reports it
    }
    interrupt();
    eprintln!("\ninterrupted: ending after this step; a second signal ends the process at once");
}
