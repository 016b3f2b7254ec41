//! The validation of a run: the mean scores of a model over the validation data.

use std::sync::Arc;

use fulgurite_jit::{Result, Tensor};

use crate::data::{Batches, DataLoader};
use crate::interrupt::Running;
use crate::metrics::WeightedMean;
use crate::module::LightningModule;
use crate::programs::{ValStep, val_step};
use crate::progress::Progress;
use crate::state::TrainState;
use crate::trainer::Limit;

/// The validation step and its data.
pub(crate) struct Validation<M: LightningModule> {
    step: ValStep<M>,
    batches: Batches<M::Batch>,
    limit: usize,
}

/// What a validation came to.
pub(crate) enum Scores {
    /// The mean of each score, weighted by examples.
    Mean(Vec<(Arc<str>, f64)>),
    /// The module logs nothing: it has no validation step.
    Nothing,
    /// Ctrl-C came before the end.
    Interrupted,
}

impl<M: LightningModule> Validation<M> {
    /// The validation on `loader`; `None` where `limit` leaves nothing of it.
    pub(crate) fn new(module: &M, loader: &DataLoader<M::Batch>, limit: Limit) -> Result<Option<Self>> {
        let batches = loader.iter().map_err(|e| e.context("validation data"))?;
        let limit = limit.of(loader.batches(), "limit_val_batches")?;
        Ok((limit > 0).then(|| Validation { step: val_step(module), batches, limit }))
    }

    /// The scores of the model of `state`, at its step and with its key, on at most `most` batches.
    pub(crate) fn run<S>(
        &mut self,
        state: &TrainState<M::Model, S>,
        most: usize,
        running: &Running,
        progress: &mut Progress,
    ) -> Result<Scores> {
        let TrainState { model, step, key, .. } = state;
        let mut mean = WeightedMean::default();
        let limit = self.limit.min(most);
        self.batches.seek(0, 0);
        for (i, batch) in self.batches.by_ref().take(limit).enumerate() {
            if running.is_asked_to_end() {
                return Ok(Scores::Interrupted);
            }
            progress.validating(i, limit);
            let (batch, examples) = batch?;
            let number = Tensor::scalar(i as u32);
            let logged = self.step.call_with((), (model.clone(), batch, step.clone(), key.clone(), number))?;
            if logged.is_empty() {
                return Ok(Scores::Nothing);
            }
            mean.add(logged, examples);
        }
        mean.finish().map(Scores::Mean)
    }
}
