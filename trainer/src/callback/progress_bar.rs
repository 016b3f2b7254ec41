//! The progress of a run on standard error: a bar on a terminal, a line at intervals elsewhere.
//!
//! Drawing takes many times as long as a short step. After a step this reads the clock (some 25 ns), and draws a few
//! times a second.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use fulgurite_jit::Result;
use indicatif::{ProgressDrawTarget, ProgressFinish, ProgressStyle};

use super::{Callback, HookCx};
use crate::fit::run::Run;
use crate::metrics::Short;

/// The time between two frames of the bar.
const FRAME: Duration = Duration::from_millis(100);
/// The time between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(10);
/// The least time between two lines of epochs.
const EPOCH_LINE: Duration = Duration::from_secs(1);

/// Shows progress, speed and metrics. The trainer adds one unless
/// [`enable_progress_bar(false)`](crate::Trainer::enable_progress_bar) is set or a callback
/// [is a progress bar](Callback::is_progress_bar) itself.
#[derive(Debug, Default)]
pub struct ProgressBar {
    /// Made by the first hook.
    shown: Option<Shown>,
}

impl ProgressBar {
    /// A progress bar for one run.
    pub fn new() -> Self {
        ProgressBar::default()
    }

    fn shown(&mut self) -> &mut Shown {
        self.shown.get_or_insert_with(Shown::new)
    }
}

/// A copy shows nothing yet.
impl Clone for ProgressBar {
    fn clone(&self) -> Self {
        ProgressBar::new()
    }
}

impl Callback for ProgressBar {
    fn name(&self) -> String {
        "ProgressBar".into()
    }

    fn is_progress_bar(&self) -> bool {
        true
    }

    fn on_train_epoch_start(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        self.shown().start_epoch(cx.run);
        Ok(())
    }

    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let now = Instant::now();
        let shown = self.shown();
        if now >= shown.next {
            shown.step(now, cx.run);
        }
        Ok(())
    }

    fn on_validation_batch_start(&mut self, run: &mut Run) -> Result<()> {
        let now = Instant::now();
        let shown = self.shown();
        if now >= shown.next {
            shown.validation(now, run);
        }
        Ok(())
    }

    fn on_train_epoch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        self.shown().end_epoch(cx.run);
        Ok(())
    }

    fn on_fit_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        self.shown().finish(cx.run);
        Ok(())
    }
}

#[derive(Debug)]
struct Shown {
    /// `None`: lines.
    bar: Option<indicatif::ProgressBar>,
    /// When something is drawn next.
    next: Instant,
    last_line: Instant,
    /// The start of the epoch.
    epoch: Mark,
    /// The last frame.
    frame: Mark,
    /// The last epoch, where it has no line yet.
    pending: Option<Epoch>,
}

/// A moment, and how many steps had been taken.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    step: usize,
}

/// An epoch that has ended.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    epoch: usize,
    steps: usize,
    took: Duration,
}

impl Shown {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(bar);
        let now = Instant::now();
        let mark = Mark { at: now, step: 0 };
        let mut shown = Shown { bar, next: now, last_line: now, epoch: mark, frame: mark, pending: None };
        shown.schedule(now);
        shown
    }

    fn schedule(&mut self, now: Instant) {
        self.next = now + if self.bar.is_some() { FRAME } else { LINE };
    }

    fn start_epoch(&mut self, run: &Run) {
        self.epoch = Mark { at: Instant::now(), step: run.step() };
        if self.frame.step == 0 {
            self.frame = self.epoch;
        }
    }

    fn step(&mut self, now: Instant, run: &mut Run) {
        self.schedule(now);
        let rate = rate(run.step() - self.frame.step, now - self.frame.at);
        self.frame = Mark { at: now, step: run.step() };
        let (done, all) = (run.batch(), run.batches());
        let left = (all - done) as f64 / rate;
        let times = format!("[{}<{}, {}]", clock((now - self.epoch.at).as_secs_f64()), clock(left), per_second(rate));
        let title = title(run, run.epoch());
        // The metrics of this step, so that the values change between the steps that are logged.
        let values = run.step_metrics().unwrap_or_default().iter().map(|(name, value)| (&**name, *value));
        let values = show(values);
        match &self.bar {
            Some(bar) => bar.set_message(format!("{title}: {} {times}{values}", gauge(done, all))),
            None => self.line(&format!("{title}: {}% {done}/{all} {times}{values}", 100 * done / all.max(1))),
        }
    }

    fn validation(&mut self, now: Instant, run: &Run) {
        self.schedule(now);
        if let Some(bar) = &self.bar {
            bar.set_message(format!("Validation: {}", gauge(run.val_batch(), run.val_batches())));
        }
    }

    fn end_epoch(&mut self, run: &Run) {
        let now = Instant::now();
        let (steps, took) = (run.step() - self.epoch.step, now - self.epoch.at);
        self.pending = Some(Epoch { epoch: run.epoch(), steps, took });
        if now - self.last_line >= EPOCH_LINE {
            self.epoch_line(run);
        }
    }

    /// A permanent line for an epoch, if there is one without.
    fn epoch_line(&mut self, run: &Run) {
        let Some(Epoch { epoch, steps, took }) = self.pending.take() else { return };
        let speed = per_second(rate(steps, took));
        let (title, values) = (title(run, epoch), show(run.metrics().iter()));
        self.line(&format!("{title}: step {} [{}, {speed}]{values}", run.step(), clock(took.as_secs_f64())));
    }

    fn finish(&mut self, run: &Run) {
        self.epoch_line(run);
        if let Some(reason) = run.stop_reason() {
            self.line(&format!("stopped at step {}: {reason}", run.step()));
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// A permanent line.
    fn line(&mut self, text: &str) {
        self.last_line = Instant::now();
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }
}

/// As in Lightning, epochs count from 0: the last of five is `Epoch 4/4`.
fn title(run: &Run, epoch: usize) -> String {
    match run.max_epochs() {
        Some(epochs) => format!("Epoch {epoch}/{}", epochs.saturating_sub(1)),
        None => format!("Epoch {epoch}"),
    }
}

fn bar() -> indicatif::ProgressBar {
    // Every message is drawn: the caller has checked the time. The bar is cleared when it is dropped, so that an error
    // message starts on a new line.
    let bar = indicatif::ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(60));
    let bar = bar.with_finish(ProgressFinish::AndClear);
    // The line is one message, which is drawn once per frame. `wide_msg` cuts it to the width of the terminal.
    match ProgressStyle::with_template("{wide_msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar, // unreachable for a constant template; the default style works too
    }
}

/// ` loss=0.1230 acc=0.9000`, as many as fit on one line.
fn show<'a>(metrics: impl Iterator<Item = (&'a str, f64)>) -> String {
    metrics.take(6).map(|(name, value)| format!(" {name}={}", Short(value))).collect()
}

/// ` 40% ████████░░░░░░░░░░░░ 40/100`
fn gauge(done: usize, all: usize) -> String {
    const WIDTH: usize = 20;
    let fraction = |of: usize| of * done / all.max(1);
    let filled = fraction(WIDTH);
    format!("{:>3}% {}{} {done}/{all}", fraction(100), "█".repeat(filled), "░".repeat(WIDTH - filled))
}

fn rate(steps: usize, took: Duration) -> f64 {
    steps as f64 / took.as_secs_f64().max(1e-9)
}

fn per_second(rate: f64) -> String {
    if rate >= 10.0 || rate == 0.0 { format!("{rate:.0} it/s") } else { format!("{rate:.2} it/s") }
}

/// Minutes and seconds, with hours from one hour on.
fn clock(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "?".into();
    }
    let seconds = seconds as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes:02}:{seconds:02}") }
}
