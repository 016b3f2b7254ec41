//! Callbacks: host code at certain moments of a run.
//!
//! In: the run and the state of the training, by name ([`HookCx`]). Out: requests to the run (stop, save, log), and
//! leaves of the state that the module declares changeable. Code that needs the model as a typed value belongs into the
//! module's own hooks ([`LightningModule::on_validation_end`](crate::LightningModule::on_validation_end)).

mod cx;
mod early_stopping;
mod model_checkpoint;
mod progress_bar;
mod state_dict;

use std::path::Path;

use fulgurite_jit::{Error, Result};

use crate::fit::run::Run;

pub use cx::HookCx;
pub(crate) use cx::HookState;
pub use early_stopping::EarlyStopping;
pub use model_checkpoint::ModelCheckpoint;
pub use progress_bar::ProgressBar;
pub use state_dict::StateDict;

/// Host code at certain moments of a run. An error of a hook ends the run with it.
///
/// ```
/// use fulgurite_jit::Result;
/// use fulgurite_trainer::{Callback, HookCx};
///
/// /// Ends the run when the loss is small enough.
/// #[derive(Clone)]
/// struct GoodEnough(f64);
///
/// impl Callback for GoodEnough {
///     fn on_train_epoch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
///         if cx.run.metrics().get("loss").is_some_and(|loss| loss < self.0) {
///             cx.run.stop("good enough");
///         }
///         Ok(())
///     }
/// }
/// ```
pub trait Callback: Send {
    /// The name under which its state is saved. Two callbacks of one run with the same name are an error: their states
    /// could not be told apart.
    fn name(&self) -> String {
        std::any::type_name::<Self>().to_string()
    }

    /// Is it a progress bar? Then the trainer does not add its own, and calls
    /// [`Callback::on_validation_batch_start`] outside of training too.
    fn is_progress_bar(&self) -> bool {
        false
    }

    /// Before the first step, after a checkpoint was restored.
    fn on_fit_start(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Before the first step of each epoch, and before that with which a resumed run continues an epoch.
    fn on_train_epoch_start(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Before each training step: keep it short, a step may take a few microseconds.
    fn on_train_batch_start(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Does it use the metrics of this step? Then they are read, which waits for the step, before
    /// [`Callback::on_train_batch_end`]. Otherwise [`Run::metrics`] has those of the last step that was logged, and
    /// waits for that one if they are still on their way.
    fn reads_metrics(&self, step: usize) -> bool {
        let _ = step;
        false
    }

    /// After each training step: keep it short, a step may take a few microseconds.
    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Before each validation of an epoch. What a hook [sets](HookCx::set_leaf) here holds for this validation alone:
    /// the trainer restores the state after it, before [`Callback::on_validation_end`] and also where it was
    /// interrupted.
    fn on_validation_start(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Before each batch of a validation.
    fn on_validation_batch_start(&mut self, run: &mut Run) -> Result<()> {
        let _ = run;
        Ok(())
    }

    /// After each validation that was not interrupted.
    fn on_validation_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// After each epoch, and its validation if it had one.
    fn on_train_epoch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// After the last step, however the run ended, except by an error.
    fn on_fit_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// What is saved with a checkpoint.
    fn state_dict(&self) -> StateDict {
        StateDict::default()
    }

    /// Restores what [`Callback::state_dict`] gave, from the checkpoint `file`. Not called where that was empty.
    ///
    /// # Errors
    /// When it is not such a state.
    fn load_state_dict(&mut self, state: &StateDict, file: &Path) -> Result<()> {
        let _ = (state, file);
        Ok(())
    }
}

/// Whether a smaller or a larger value of a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Smaller is better: losses, errors.
    Min,
    /// Larger is better: accuracies, rewards.
    Max,
}

impl Mode {
    /// The mode that the name of a metric implies.
    ///
    /// # Errors
    /// When it implies none, or both.
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

    /// Is `new` better than `old` by more than `margin`? Not when one of them is NaN.
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
