//! `FULGURITE_DUMP=time`: the time of each kernel by itself on one thread, and of each phase on all threads.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use fulgurite_jit::cpu::Code;
use fulgurite_jit::dump::{Stage, dump};
use fulgurite_jit::fuse::Kernel;

use crate::pool::Meeting;

/// So many calls run kernel by kernel, and then so many phase by phase; the first half of each warms up.
const CALLS: u32 = 8;

/// The sums of times over calls.
#[derive(Default)]
pub(crate) struct Timing {
    calls: u32,
    kernels: Vec<Duration>,
    phases: Vec<Duration>,
}

/// How a call is timed.
#[derive(PartialEq)]
pub(crate) enum Turn {
    /// Each kernel by itself, on one thread.
    Kernels,
    /// As always, on all threads, with a look at the clock between phases.
    Phases,
}

impl Timing {
    /// Begins a call. Does it run kernel by kernel, or phase by phase?
    pub(crate) fn begin(&mut self) -> Turn {
        self.calls += 1;
        if self.calls <= CALLS { Turn::Kernels } else { Turn::Phases }
    }

    fn counts(&self) -> bool {
        (self.calls - 1) % CALLS >= CALLS / 2 && self.calls <= 2 * CALLS
    }

    /// Notes the times of the kernels of a call.
    pub(crate) fn kernels(&mut self, took: &[Duration]) {
        if self.counts() {
            add(&mut self.kernels, took.iter().copied());
        }
    }

    /// Notes when each phase of a call ended, after the begin.
    pub(crate) fn phases(&mut self, marks: &[Instant]) {
        if self.counts() {
            add(&mut self.phases, marks.windows(2).map(|pair| pair[1] - pair[0]));
        }
    }

    /// Prints everything, once, after the last call that counts.
    pub(crate) fn print(&self, name: &str, code: &Code) {
        if self.calls != 2 * CALLS {
            return;
        }
        let micros = |d: Duration| d.as_secs_f64() * 1e6 / f64::from(CALLS / 2);
        let mut lines = String::new();
        for (k, (kernel, &sum)) in code.kernels.kernels.iter().zip(&self.kernels).enumerate() {
            lines += &format!("k{k:<4} {:9.2} us  {}\n", micros(sum), title(kernel));
        }
        lines += &format!("{:<5} {:9.2} us", "all", micros(self.kernels.iter().sum()));
        dump(Stage::Time, &format!("{name}: time per kernel, each called by itself on one thread"), &lines);
        if self.phases.is_empty() {
            return;
        }
        let mut lines = String::new();
        for (phase, &sum) in code.phases.iter().zip(&self.phases) {
            let alone: Duration = self.kernels[phase.kernels()].iter().sum();
            lines += &format!("{:9.2} us, {:9.2} one by one  {phase}\n", micros(sum), micros(alone));
        }
        lines += &format!("{:9.2} us in all", micros(self.phases.iter().sum()));
        dump(Stage::Time, &format!("{name}: time per phase, on {} threads", code.ranges.len()), &lines);
    }
}

fn add(sums: &mut Vec<Duration>, took: impl ExactSizeIterator<Item = Duration>) {
    sums.resize(took.len(), Duration::ZERO);
    for (sum, took) in sums.iter_mut().zip(took) {
        *sum += took;
    }
}

/// Stands between the driver of one thread and the team's meetings, and notes when they end.
pub(crate) struct Watch {
    over: Meeting,
    marks: RefCell<Vec<Instant>>,
}

impl Watch {
    /// A watch over these meetings, which begins now.
    pub(crate) fn start(over: Meeting) -> Self {
        Watch { over, marks: RefCell::new(vec![Instant::now()]) }
    }

    /// What the watched thread calls in place of the team's meeting.
    pub(crate) fn meeting(&self) -> Meeting {
        (watched, std::ptr::from_ref(self).cast())
    }

    /// When each phase ended, after the begin; the last one now.
    pub(crate) fn marks(&self) -> Vec<Instant> {
        let mut marks = self.marks.borrow().clone();
        marks.push(Instant::now());
        marks
    }
}

/// # Safety
/// `watch` is the second part of [`Watch::meeting`], of a watch that is still there, on the watched thread.
unsafe extern "C" fn watched(watch: *const u8) {
    // SAFETY: the caller's promise, and that of the meeting behind.
    unsafe {
        let watch = &*watch.cast::<Watch>();
        (watch.over.0)(watch.over.1);
        watch.marks.borrow_mut().push(Instant::now());
    }
}

/// One line about a kernel.
fn title(kernel: &Kernel) -> String {
    match kernel {
        Kernel::Gemm(gemm) => gemm.to_string(),
        Kernel::Loop(kernel) => {
            let dims: Vec<String> =
                kernel.dims.iter().map(|d| format!("{}{}", d.extent, if d.reduced { "r" } else { "" })).collect();
            format!("loop [{}], {} values, {} stores", dims.join(", "), kernel.values.len(), kernel.stores.len())
        }
    }
}
