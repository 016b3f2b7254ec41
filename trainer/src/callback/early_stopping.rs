//! Ends a run when a metric gets no better.

use std::path::Path;

use fulgurite_jit::{Error, Result};
use serde_json::{Value, json};

use super::{Callback, Mode, bad_state};
use crate::metrics::{float_from_json, float_to_json};
use crate::run::Run;

/// Ends the run when a metric has not got better for a number of epochs (in which it was logged), or is not finite.
///
/// A checkpoint of a run that was ended holds why; a run that goes on from it ends at once, for the same reason, and
/// [`FitResult::stopped`](crate::FitResult::stopped) says so. To go on all the same, leave the callback out or give it other
/// settings: what it remembers belongs to one metric, mode, patience, margin and threshold.
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
    waited: usize,
    /// Why it has ended the run.
    stopped: Option<String>,
}

impl EarlyStopping {
    /// Watches a metric; the mode is what its name says, the patience 3 epochs.
    pub fn new(metric: impl Into<String>) -> Self {
        EarlyStopping {
            metric: metric.into(),
            mode: None,
            patience: 3,
            min_delta: 0.0,
            check_finite: true,
            threshold: None,
            best: None,
            waited: 0,
            stopped: None,
        }
    }

    /// Is smaller or larger better?
    pub fn mode(self, mode: Mode) -> Self {
        EarlyStopping { mode: Some(mode), ..self }
    }

    /// How many epochs in a row may bring nothing better.
    pub fn patience(self, patience: usize) -> Self {
        EarlyStopping { patience, ..self }
    }

    /// By how much a value must be better to count as such.
    pub fn min_delta(self, min_delta: f64) -> Self {
        EarlyStopping { min_delta: min_delta.abs(), ..self }
    }

    /// End the run when the metric is NaN or infinite? As it stands, yes.
    pub fn check_finite(self, check_finite: bool) -> Self {
        EarlyStopping { check_finite, ..self }
    }

    /// Ends the run as soon as the metric is better than this.
    pub fn stopping_threshold(self, threshold: f64) -> Self {
        EarlyStopping { threshold: Some(threshold), ..self }
    }

    fn stop(&mut self, run: &mut Run, why: String) {
        run.stop(why.clone());
        self.stopped.get_or_insert(why);
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

    fn on_fit_start(&mut self, run: &mut Run) -> Result<()> {
        self.mode = Some(self.resolved_mode().map_err(|e| e.context("EarlyStopping"))?);
        if self.min_delta.is_nan() || self.threshold.is_some_and(f64::is_nan) {
            return Err(Error::new(
                "EarlyStopping: no value is better than NaN: `min_delta` or `stopping_threshold` is it",
            ));
        }
        // A run that had ended this way and is resumed has nothing left to do.
        if let Some(why) = &self.stopped {
            run.stop(format!("it had ended before: {why}"));
        }
        Ok(())
    }

    fn on_epoch_end(&mut self, run: &mut Run) -> Result<()> {
        let Some(value) = run.watched("EarlyStopping", &self.metric)? else { return Ok(()) };
        let (metric, mode) = (self.metric.clone(), self.resolved_mode()?);
        if self.check_finite && !value.is_finite() {
            let why = format!("`{metric}` is {value}");
            self.stop(run, why);
            return Ok(());
        }
        if self.threshold.is_some_and(|threshold| mode.improves(value, threshold, 0.0)) {
            let why = format!("`{metric}` is {value}, which is good enough");
            self.stop(run, why);
        }
        if self.best.is_none_or(|best| best.is_nan() || mode.improves(value, best, self.min_delta)) {
            (self.best, self.waited) = (Some(value), 0);
            return Ok(());
        }
        self.waited = self.waited.saturating_add(1);
        if self.waited >= self.patience {
            let why = format!("`{metric}` has not got better for {} epochs", self.waited);
            self.stop(run, why);
        }
        Ok(())
    }

    fn state(&self) -> Value {
        json!({ "best": self.best.map(float_to_json), "waited": self.waited, "stopped": self.stopped })
    }

    fn load_state(&mut self, state: &Value, file: &Path) -> Result<()> {
        let bad = || bad_state("EarlyStopping", file);
        self.best = match state.get("best").ok_or_else(bad)? {
            Value::Null => None,
            best => Some(float_from_json(best).ok_or_else(bad)?),
        };
        self.stopped = state.get("stopped").and_then(Value::as_str).map(String::from);
        self.waited = state.get("waited").and_then(Value::as_u64).ok_or_else(bad)? as usize;
        Ok(())
    }
}
