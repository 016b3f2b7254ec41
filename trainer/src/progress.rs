//! The progress bar on a terminal; a line now and then where there is none.
//!
//! Drawing takes many times as long as a short step, so the loop's part of it is to look at the clock
//! ([`Progress::tick`], some 25 ns); a few times a second something is drawn.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use crate::metrics::{self, Short};
use crate::module::Metric;
use crate::run::Run;

/// How often the bar is drawn.
const FRAME: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(10);
/// Epochs shorter than this do not get a line each.
const EPOCH_LINE: Duration = Duration::from_secs(1);

pub(crate) struct Progress {
    shown: Shown,
    epochs: Option<usize>,
    next: Instant,
    last_line: Instant,
    epoch: Mark,
    frame: Mark,
}

enum Shown {
    Nothing,
    Lines,
    Bar(ProgressBar),
}

/// A moment, and how many steps had been taken.
#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    step: usize,
}

impl Progress {
    /// A bar if `enabled`; of how many epochs, where that is known.
    pub(crate) fn new(enabled: bool, epochs: Option<usize>) -> Self {
        let shown = match (enabled, std::io::stderr().is_terminal()) {
            (false, _) => Shown::Nothing,
            (true, false) => Shown::Lines,
            (true, true) => Shown::Bar(bar()),
        };
        let now = Instant::now();
        let mark = Mark { at: now, step: 0 };
        let mut progress = Progress { shown, epochs, next: now, last_line: now, epoch: mark, frame: mark };
        progress.schedule(now);
        progress
    }

    /// An epoch begins, or goes on.
    pub(crate) fn start_epoch(&mut self, run: &Run) {
        self.epoch = Mark { at: Instant::now(), step: run.step };
        if self.frame.step == 0 {
            self.frame = self.epoch;
        }
    }

    /// After each step.
    pub(crate) fn tick(&mut self, run: &Run, logged: &[Metric]) {
        if let Shown::Nothing = self.shown {
            return;
        }
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.schedule(now);
        let rate = rate(run.step - self.frame.step, now - self.frame.at);
        self.frame = Mark { at: now, step: run.step };
        let left = (run.batches - run.batch) as f64 / rate;
        let times = format!("[{}<{}, {}]", clock((now - self.epoch.at).as_secs_f64()), clock(left), per_second(rate));
        // Live values where they can be read, so that the bar moves between the steps that are logged.
        let live = metrics::read(logged).unwrap_or_default();
        let values = live.iter().map(|(name, value)| (&**name, *value));
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                let done = gauge(run.batch, run.batches);
                bar.set_message(format!("{}: {done} {times}{}", self.title(run), show(values)));
            }
            Shown::Lines => {
                let percent = 100 * run.batch / run.batches.max(1);
                let (title, done) = (self.title(run), format!("{}/{}", run.batch, run.batches));
                self.line(&format!("{title}: {percent}% {done} {times}{}", show(values)));
            }
        }
    }

    /// During validation, before batch `i` of `n`.
    pub(crate) fn validating(&mut self, i: usize, n: usize) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.schedule(now);
        if let Shown::Bar(bar) = &self.shown {
            bar.set_message(format!("Validation: {}", gauge(i, n)));
        }
    }

    /// After an epoch and its validation: a line that stays.
    pub(crate) fn end_epoch(&mut self, run: &Run, last: bool) {
        let now = Instant::now();
        if !last && now - self.last_line < EPOCH_LINE {
            return;
        }
        let (steps, took) = (run.step - self.epoch.step, now - self.epoch.at);
        let speed = per_second(rate(steps, took));
        let title = self.title(run);
        self.line(&format!(
            "{title}: step {} [{}, {speed}]{}",
            run.step,
            clock(took.as_secs_f64()),
            show(run.metrics.iter())
        ));
    }

    /// A line that stays, if anything is shown at all.
    pub(crate) fn line(&mut self, text: &str) {
        self.last_line = Instant::now();
        match &self.shown {
            Shown::Nothing => {}
            Shown::Lines => eprintln!("{text}"),
            Shown::Bar(bar) => bar.println(text),
        }
    }

    /// The run is over.
    pub(crate) fn finish(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }

    fn schedule(&mut self, now: Instant) {
        self.next = now
            + match self.shown {
                Shown::Nothing | Shown::Lines => LINE,
                Shown::Bar(_) => FRAME,
            };
    }

    /// As in Lightning, epochs count from 0: the last of five is `Epoch 4/4`.
    fn title(&self, run: &Run) -> String {
        match self.epochs {
            Some(epochs) => format!("Epoch {}/{}", run.epoch, epochs.saturating_sub(1)),
            None => format!("Epoch {}", run.epoch),
        }
    }
}

fn bar() -> ProgressBar {
    // Drawn when we say so: the loop has already looked at the clock.
    // Cleared when it is dropped, so that the message of an error stands on a line of its own.
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(60));
    let bar = bar.with_finish(ProgressFinish::AndClear);
    // The whole line is the message: setting one thing draws once. `wide_msg` cuts it to the terminal's width.
    match ProgressStyle::with_template("{wide_msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar, // never: the template is a constant; the default style would do
    }
}

/// ` loss=0.1230 acc=0.9000`: few enough for one line.
fn show<'a>(metrics: impl Iterator<Item = (&'a str, f64)>) -> String {
    metrics.take(6).map(|(name, value)| format!(" {name}={}", Short(value))).collect()
}

/// ` 40% ████████░░░░░░░░░░░░ 40/100`
fn gauge(done: usize, all: usize) -> String {
    const WIDTH: usize = 20;
    let share = |of: usize| of * done / all.max(1);
    let filled = share(WIDTH);
    format!("{:>3}% {}{} {done}/{all}", share(100), "█".repeat(filled), "░".repeat(WIDTH - filled))
}

fn rate(steps: usize, took: Duration) -> f64 {
    steps as f64 / took.as_secs_f64().max(1e-9)
}

fn per_second(rate: f64) -> String {
    if rate >= 10.0 || rate == 0.0 { format!("{rate:.0} it/s") } else { format!("{rate:.2} it/s") }
}

/// Minutes and seconds, and hours where there are some.
fn clock(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "?".into();
    }
    let seconds = seconds as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes:02}:{seconds:02}") }
}
