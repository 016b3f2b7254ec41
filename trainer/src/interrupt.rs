//! Ctrl-C and SIGTERM: the first ends the runs of this process cleanly, after the step they are in and with a
//! checkpoint; the second ends the process.
//!
//! The handler is installed once, by the first run. While no run is on, a signal ends the process as it always did.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

static REQUESTED: AtomicBool = AtomicBool::new(false);
static RUNS: AtomicUsize = AtomicUsize::new(0);

/// Asks the runs that are on to end cleanly, as the first Ctrl-C does: for programs with signal handlers of their own.
pub fn interrupt() {
    REQUESTED.store(true, Relaxed);
}

/// Are the runs to end? One relaxed load, for every step.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Relaxed)
}

/// Says that a run is on, for as long as it lives.
pub(crate) struct Running(());

impl Running {
    pub(crate) fn start() -> Self {
        static INSTALL: Once = Once::new();
        // Where the program has a handler of its own, it keeps it, and may call `interrupt`.
        INSTALL.call_once(|| drop(ctrlc::set_handler(on_signal)));
        if RUNS.fetch_add(1, SeqCst) == 0 {
            REQUESTED.store(false, SeqCst);
        }
        Running(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNS.fetch_sub(1, SeqCst);
    }
}

/// Runs on ctrlc's own thread, so it may do what a signal handler may not.
fn on_signal() {
    if RUNS.load(SeqCst) == 0 || REQUESTED.swap(true, SeqCst) {
        std::process::exit(130); // 128 + SIGINT, as a shell reports it
    }
    eprintln!("\ninterrupted: ending after this step; once more to quit at once");
}
