//! `FULGURITE_DUMP=time`: the time of each kernel on one thread, and of each phase on all threads.
//!
//! Comes in: the times of kernels, and a timestamp per phase. Goes out: their means, printed once per program; those of
//! kernels go into a trace too. Times of compiler passes are not here; what a GPU prints is in `cuda/profile.rs`.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use fulgurite_jit::array::Device;
use fulgurite_jit::cpu::Code;
use fulgurite_jit::dump::{Stage, dump};
use fulgurite_jit::fuse::Kernel;

use crate::device::cpu::pool::BarrierCall;
use crate::trace::{self, Span};

/// Calls per mode; the first half of them warms up.
const CALLS: u32 = 8;

/// The sums of times over calls.
#[derive(Default)]
pub(crate) struct Profile {
    calls: u32,
    kernels: Vec<Duration>,
    phases: Vec<Duration>,
}

/// What a call measures.
#[derive(PartialEq)]
pub(crate) enum Mode {
    /// Each kernel separately, on one thread.
    Kernels,
    /// Each phase, on all threads, with a timestamp at each barrier.
    Phases,
}

impl Profile {
    /// Begins a call and returns its mode.
    pub(crate) fn begin_call(&mut self) -> Mode {
        self.calls += 1;
        if self.calls <= CALLS { Mode::Kernels } else { Mode::Phases }
    }

    /// Takes back the begin of a call that has failed.
    #[cfg(any(test, feature = "testing", feature = "cuda"))]
    pub(crate) fn forget_call(&mut self) {
        self.calls -= 1;
    }

    fn is_counted(&self) -> bool {
        (self.calls - 1) % CALLS >= CALLS / 2 && self.calls <= 2 * CALLS
    }

    /// Records the times of the kernels of a call.
    pub(crate) fn kernels(&mut self, times: &[Duration]) {
        if self.is_counted() {
            add(&mut self.kernels, times.iter().copied());
        }
    }

    /// The mean time of each kernel, after the last call that measures them.
    pub(crate) fn means(&self) -> Option<Vec<Duration>> {
        let mean = |sum: &Duration| *sum / (CALLS / 2);
        (self.calls == CALLS).then(|| self.kernels.iter().map(mean).collect())
    }

    /// Records the begin of a call and the end of each phase.
    pub(crate) fn phases(&mut self, timestamps: &[Instant]) {
        if self.is_counted() {
            add(&mut self.phases, timestamps.windows(2).map(|pair| pair[1] - pair[0]));
        }
    }

    /// Adds the kernels to a trace, after the last call that measures them.
    pub(crate) fn trace(&self, name: &str, code: &Code) {
        let Some(means) = self.means() else { return };
        let kernels = &code.module().kernels;
        let span = |(k, (kernel, time)): (usize, (&Kernel, Duration))| {
            let details = vec![("bytes", kernels.bytes_moved(k) as f64), ("operations", kernels.operations(k) as f64)];
            Span { name: format!("k{k} {}", title(kernel)), time, details }
        };
        trace::add(name, Device::Cpu, || kernels.kernels.iter().zip(means).enumerate().map(span).collect());
    }

    /// Prints everything once, after the last call.
    pub(crate) fn print(&self, name: &str, code: &Code) {
        if self.calls != 2 * CALLS {
            return;
        }
        let micros = |d: Duration| d.as_secs_f64() * 1e6 / f64::from(CALLS / 2);
        let mut lines = String::new();
        for (k, (kernel, &sum)) in code.module().kernels.kernels.iter().zip(&self.kernels).enumerate() {
            lines += &format!("k{k:<4} {:9.2} us  {}\n", micros(sum), title(kernel));
        }
        lines += &format!("{:<5} {:9.2} us", "all", micros(self.kernels.iter().sum()));
        dump(Stage::Time, &format!("{name}: time per kernel, each called by itself on one thread"), &lines);
        if self.phases.is_empty() {
            return;
        }
        let mut lines = String::new();
        for (phase, &sum) in code.module().phases.iter().zip(&self.phases) {
            let serial: Duration = self.kernels[phase.kernels()].iter().sum();
            lines += &format!("{:9.2} us, {:9.2} one by one  {phase}\n", micros(sum), micros(serial));
        }
        lines += &format!("{:9.2} us in all", micros(self.phases.iter().sum()));
        dump(Stage::Time, &format!("{name}: time per phase, on {} threads", code.module().ranges.len()), &lines);
    }
}

fn add(sums: &mut Vec<Duration>, times: impl ExactSizeIterator<Item = Duration>) {
    sums.resize(times.len(), Duration::ZERO);
    for (sum, times) in sums.iter_mut().zip(times) {
        *sum += times;
    }
}

/// Wraps the barrier of one thread and records when it returns.
pub(crate) struct PhaseTimer {
    inner: BarrierCall,
    timestamps: RefCell<Vec<Instant>>,
}

impl PhaseTimer {
    /// A timer around this barrier, which begins now.
    pub(crate) fn start(inner: BarrierCall) -> Self {
        PhaseTimer { inner, timestamps: RefCell::new(vec![Instant::now()]) }
    }

    /// The barrier that the timed thread calls.
    pub(crate) fn barrier_call(&self) -> BarrierCall {
        (timed_barrier, std::ptr::from_ref(self).cast())
    }

    /// The begin, and the end of each phase; the last one ends now.
    pub(crate) fn timestamps(&self) -> Vec<Instant> {
        let mut timestamps = self.timestamps.borrow().clone();
        timestamps.push(Instant::now());
        timestamps
    }
}

/// # Safety
/// `timer` is the argument of [`PhaseTimer::barrier_call`] of a live timer, on the timed thread.
unsafe extern "C" fn timed_barrier(timer: *const u8) {
    // SAFETY: the caller's promise, and that of the inner barrier.
    unsafe {
        let timer = &*timer.cast::<PhaseTimer>();
        (timer.inner.0)(timer.inner.1);
        timer.timestamps.borrow_mut().push(Instant::now());
    }
}

/// One line about a kernel.
pub(crate) fn title(kernel: &Kernel) -> String {
    match kernel {
        Kernel::Gemm(gemm) => gemm.to_string(),
        Kernel::Routine(routine) => routine.to_string(),
        Kernel::Region(region) => format!("{} trips of {} kernels", region.control.trips(), region.body.kernels.len()),
        Kernel::Loop(kernel) => {
            let dims: Vec<String> =
                kernel.dims.iter().map(|d| format!("{}{}", d.extent, if d.reduced { "r" } else { "" })).collect();
            let of = match kernel.segments.len() {
                0 => String::new(),
                segments => format!(" in {segments} segments"),
            };
            format!("loop [{}]{of}, {} values, {} stores", dims.join(", "), kernel.values.len(), kernel.stores.len())
        }
    }
}
