//! Ctrl-C and SIGTERM: the first ends the runs of this process cleanly, after the step they are in and with a
//! checkpoint; the second ends the process.
//!
//! The handler is installed once, by the first run. While no run is on, a signal ends the process as it always did.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

/// How often an end has been asked for. Each run compares it with what it was when the run began, so that a request
/// concerns the runs that are on, and no later one.
static REQUESTS: AtomicUsize = AtomicUsize::new(0);
/// How many runs are on.
static RUNS: AtomicUsize = AtomicUsize::new(0);
/// Was there a signal since the last time that no run was on?
static SIGNALLED: AtomicBool = AtomicBool::new(false);

/// Asks the runs that are on to end cleanly, as the first Ctrl-C does: for programs with signal handlers of their own.
pub fn interrupt() {
    REQUESTS.fetch_add(1, SeqCst);
}

/// A run that is on, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Running {
    requests: usize,
}

impl Running {
    pub(crate) fn start() -> Self {
        static INSTALL: Once = Once::new();
        // Where the program has a handler of its own, it keeps it, and may call `interrupt`.
        INSTALL.call_once(|| drop(ctrlc::set_handler(on_signal)));
        RUNS.fetch_add(1, SeqCst);
        Running { requests: REQUESTS.load(SeqCst) }
    }

    /// Is the run to end? One relaxed load, for every step.
    pub(crate) fn is_asked_to_end(&self) -> bool {
        REQUESTS.load(Relaxed) != self.requests
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if RUNS.fetch_sub(1, SeqCst) == 1 {
            SIGNALLED.store(false, SeqCst);
        }
    }
}

/// Runs on a thread of ctrlc's, so it may do what a signal handler may not.
fn on_signal() {
    if RUNS.load(SeqCst) == 0 || SIGNALLED.swap(true, SeqCst) {
        std::process::exit(130); // 128 + SIGINT, as a shell reports it
    }
    interrupt();
    eprintln!("\ninterrupted: ending after this step; once more to quit at once");
}
