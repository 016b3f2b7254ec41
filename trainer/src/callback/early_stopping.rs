//! Ends a run when a metric stops improving.

use std::path::Path;

use fulgurite_jit::{Error, Result};
use serde_json::{Value, json};

use super::{Callback, HookCx, Mode, StateDict, bad_state};
use crate::fit::run::Run;
use crate::metrics::{float_from_json, float_to_json};

/// Ends the run when a metric has not improved for a number of epochs (in which it was logged), or is not finite.
///
/// A checkpoint of a run that was ended holds the reason; a run resumed from it ends at once, for the same reason,
/// which [`FitResult::stopped`](crate::FitResult::stopped) gives. To continue training, leave the callback out or give
/// it other settings: its state belongs to one metric, mode, patience, margin and threshold.
///
/// ```
/// use fulgurite_trainer::EarlyStopping;
/// let callback = EarlyStopping::new("val_loss").patience(5).min_delta(1e-4);
/// ```
#[derive(Clone, Debug)]
pub struct EarlyStopping {
    metric: String,
    mode: Option<Mode>,
    patience: usize,
    min_delta: f64,
    check_finite: bool,
    threshold: Option<f64>,
    best: Option<f64>,
    wait_count: usize,
    /// The reason for which it has ended the run.
    stopped: Option<String>,
}

impl EarlyStopping {
    /// Monitors a metric, with the mode that its name implies and a patience of 3 epochs.
    pub fn new(metric: impl Into<String>) -> Self {
        EarlyStopping {
            metric: metric.into(),
            mode: None,
            patience: 3,
            min_delta: 0.0,
            check_finite: true,
            threshold: None,
            best: None,
            wait_count: 0,
            stopped: None,
        }
    }

    /// Whether smaller or larger values are better.
    pub fn mode(self, mode: Mode) -> Self {
        EarlyStopping { mode: Some(mode), ..self }
    }

    /// How many epochs in a row without improvement end the run.
    pub fn patience(self, patience: usize) -> Self {
        EarlyStopping { patience, ..self }
    }

    /// The least difference that counts as an improvement.
    pub fn min_delta(self, min_delta: f64) -> Self {
        EarlyStopping { min_delta: min_delta.abs(), ..self }
    }

    /// Whether the run ends when the metric is NaN or infinite. True, unless set.
    pub fn check_finite(self, check_finite: bool) -> Self {
        EarlyStopping { check_finite, ..self }
    }

    /// Ends the run as soon as the metric is better than this.
    pub fn stopping_threshold(self, threshold: f64) -> Self {
        EarlyStopping { threshold: Some(threshold), ..self }
    }

    fn stop(&mut self, run: &mut Run, reason: String) {
        run.stop(reason.clone());
        self.stopped.get_or_insert(reason);
    }

    fn resolved_mode(&self) -> Result<Mode> {
        self.mode.map_or_else(|| Mode::of(&self.metric), Ok)
    }
}

impl Callback for EarlyStopping {
    fn name(&self) -> String {
        let mode = self.resolved_mode().map_or("", |mode| mode.name());
        let mut name = format!("EarlyStopping({} {mode}, patience {}", self.metric, self.patience);
        if self.min_delta != 0.0 {
            name += &format!(", better by {}", self.min_delta);
        }
        if let Some(threshold) = self.threshold {
            name += &format!(", good enough at {threshold}");
        }
        if !self.check_finite {
            name += ", finite or not";
        }
        name + ")"
    }

    fn on_fit_start(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        self.mode = Some(self.resolved_mode().map_err(|e| e.context("EarlyStopping"))?);
        if self.min_delta.is_nan() || self.threshold.is_some_and(f64::is_nan) {
            return Err(Error::new(
                "EarlyStopping: no value is better than NaN: `min_delta` or `stopping_threshold` is it",
            ));
        }
        // A resumed run that this callback had ended has nothing left to do.
        if let Some(reason) = &self.stopped {
            cx.run.stop(format!("it had ended before: {reason}"));
        }
        Ok(())
    }

    fn on_train_epoch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let Some(value) = cx.run.monitored("EarlyStopping", &self.metric)? else { return Ok(()) };
        let (metric, mode) = (self.metric.clone(), self.resolved_mode()?);
        if self.check_finite && !value.is_finite() {
            let reason = format!("`{metric}` is {value}");
            self.stop(cx.run, reason);
            return Ok(());
        }
        if self.threshold.is_some_and(|threshold| mode.improves(value, threshold, 0.0)) {
            let reason = format!("`{metric}` is {value}, which is good enough");
            self.stop(cx.run, reason);
        }
        if self.best.is_none_or(|best| best.is_nan() || mode.improves(value, best, self.min_delta)) {
            (self.best, self.wait_count) = (Some(value), 0);
            return Ok(());
        }
        self.wait_count = self.wait_count.saturating_add(1);
        if self.wait_count >= self.patience {
            let reason = format!("`{metric}` has not improved for {} epochs", self.wait_count);
            self.stop(cx.run, reason);
        }
        Ok(())
    }

    fn state_dict(&self) -> StateDict {
        json!({ "best": self.best.map(float_to_json), "wait_count": self.wait_count, "stopped": self.stopped }).into()
    }

    fn load_state_dict(&mut self, state: &StateDict, file: &Path) -> Result<()> {
        let bad = || bad_state("EarlyStopping", file);
        self.best = match state.get("best").ok_or_else(bad)? {
            Value::Null => None,
            best => Some(float_from_json(best).ok_or_else(bad)?),
        };
        self.stopped = state.get("stopped").and_then(Value::as_str).map(String::from);
        self.wait_count = state.get("wait_count").and_then(Value::as_u64).ok_or_else(bad)? as usize;
        Ok(())
    }
}
