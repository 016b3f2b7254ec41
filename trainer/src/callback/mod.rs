//! Callbacks: host code at certain moments of a run.
//!
//! In: the [`Run`]. Out: requests to it (stop, save, log). Code that wants the model itself belongs into the module's
//! own hooks ([`LightningModule::on_validation_end`](crate::LightningModule::on_validation_end)).

mod early_stopping;
mod model_checkpoint;

use std::path::Path;

use fulgurite_jit::{Error, Result};
use serde_json::Value;

use crate::metrics::no_state;
use crate::run::Run;

pub use early_stopping::EarlyStopping;
pub use model_checkpoint::ModelCheckpoint;

/// Host code at certain moments of a run. An error of a hook ends the run with it.
///
/// ```
/// use fulgurite_jit::Result;
/// use fulgurite_trainer::{Callback, Run};
///
/// /// Ends the run when the loss is small enough.
/// struct GoodEnough(f64);
///
/// impl Callback for GoodEnough {
///     fn on_epoch_end(&mut self, run: &mut Run) -> Result<()> {
///         if run.metrics().get("loss").is_some_and(|loss| loss < self.0) {
///             run.stop("good enough");
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Callback: Send {
    /// What its state is saved under. Two callbacks of one run with the same name are an error: neither could tell which
    /// state is its own.
    fn name(&self) -> String {
        std::any::type_name::<Self>().to_string()
    }

    /// Before the first step, after a checkpoint was restored.
    fn on_fit_start(&mut self, run: &mut Run) -> Result<()> {
        let _ = run;
        Ok(())
    }

    /// Does it look at the metrics after this step? Then they are read, which waits for the step, before
    /// [`Callback::on_step_end`]; others are those of the last step that was logged.
    fn reads_metrics(&self, step: usize) -> bool {
        let _ = step;
        false
    }

    /// After each training step: keep it short, a step may take a few microseconds.
    fn on_step_end(&mut self, run: &mut Run) -> Result<()> {
        let _ = run;
        Ok(())
    }

    /// After each validation.
    fn on_validation_end(&mut self, run: &mut Run) -> Result<()> {
        let _ = run;
        Ok(())
    }

    /// After each epoch, and its validation if it had one.
    fn on_epoch_end(&mut self, run: &mut Run) -> Result<()> {
        let _ = run;
        Ok(())
    }

    /// After the last step, however the run came to its end (but for an error).
    fn on_fit_end(&mut self, run: &mut Run) -> Result<()> {
        let _ = run;
        Ok(())
    }

    /// What is to be saved with a checkpoint. Neither times nor absolute paths: equal runs save equal bytes.
    fn state(&self) -> Value {
        no_state()
    }

    /// Takes over what [`Callback::state`] gave, from the checkpoint `file`.
    ///
    /// # Errors
    /// When it is not such a state.
    fn load_state(&mut self, state: &Value, file: &Path) -> Result<()> {
        let _ = (state, file);
        Ok(())
    }
}

/// Is a metric better when it is smaller, or when it is larger?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Smaller is better: losses, errors.
    Min,
    /// Larger is better: accuracies, rewards.
    Max,
}

impl Mode {
    /// What the name of a metric says.
    ///
    /// # Errors
    /// When it says nothing, or both.
    pub fn of(metric: &str) -> Result<Mode> {
        const SMALLER: [&str; 8] = ["loss", "error", "err", "mse", "rmse", "mae", "nll", "perplexity"];
        const LARGER: [&str; 9] = ["acc", "accuracy", "auc", "f1", "iou", "precision", "recall", "reward", "score"];
        let metric_lower = metric.to_lowercase();
        let has = |words: &[&str]| metric_lower.split(|c: char| !c.is_alphanumeric()).any(|part| words.contains(&part));
        match (has(&SMALLER), has(&LARGER)) {
            (true, false) => Ok(Mode::Min),
            (false, true) => Ok(Mode::Max),
            (_, _) => Err(Error::new(format!(
                "is a smaller or a larger `{metric}` better? Its name does not say; set `.mode(Mode::Min)` or \
                 `.mode(Mode::Max)`"
            ))),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Min => "min",
            Mode::Max => "max",
        }
    }

    /// Is `new` better than `old` by more than `margin`? Never when one is NaN.
    pub(crate) fn improves(self, new: f64, old: f64, margin: f64) -> bool {
        match self {
            Mode::Min => new < old - margin,
            Mode::Max => new > old + margin,
        }
    }
}

/// The error of a state that cannot be read.
fn bad_state(name: &str, file: &Path) -> Error {
    Error::new(format!("checkpoint {}: the state of {name} cannot be read", file.display()))
}
