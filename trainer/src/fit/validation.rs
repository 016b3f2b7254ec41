//! The validation of a run: the mean of each metric of the validation step over the validation data.

use fulgurite_jit::{Result, Tensor};

use super::feed::{Loaded, feed};
use super::interrupt::InterruptGuard;
use super::programs::{ValStep, val_step};
use crate::config::Limit;
use crate::data::{Batches, DataLoader};
use crate::metrics::{Named, WeightedMean};
use crate::module::LightningModule;
use crate::state::TrainState;

/// The validation step and its data.
pub(crate) struct Validation<M: LightningModule> {
    step: ValStep<M>,
    batches: Batches<M::Batch>,
    limit: usize,
}

/// The result of a validation.
pub(crate) enum Scores {
    /// The mean of each metric, weighted by examples.
    Mean(Named),
    /// The validation step logs nothing: the module does not define one.
    NoMetrics,
    /// It was interrupted.
    Interrupted,
}

impl<M: LightningModule> Validation<M> {
    /// The validation on `loader`; `None` where `limit` leaves no batch.
    pub(crate) fn new(module: &M, loader: &DataLoader<M::Batch>, limit: Limit) -> Result<Option<Self>> {
        let batches = loader.iter().map_err(|e| e.context("validation data"))?;
        let limit = limit.of(loader.batches(), "limit_val_batches")?;
        Ok((limit > 0).then(|| Validation { step: val_step(module), batches, limit }))
    }

    /// The scores of the model of `state`, at its step and with its key, on at most `max_batches` batches.
    /// `on_batch_start` gets the number of each batch and the number of batches.
    pub(crate) fn run<S>(
        &mut self,
        state: &TrainState<M::Model, S>,
        max_batches: usize,
        interrupt: &InterruptGuard,
        on_batch_start: &mut dyn FnMut(usize, usize) -> Result<()>,
    ) -> Result<Scores> {
        let TrainState { model, step, key, .. } = state;
        let mut mean = WeightedMean::default();
        let limit = self.limit.min(max_batches);
        self.batches.seek(0, 0);
        let mut batches = feed(&mut self.batches, limit)?;
        for i in 0.. {
            let Some(next) = batches.next() else { break };
            if interrupt.is_interrupted() {
                return Ok(Scores::Interrupted);
            }
            on_batch_start(i, limit)?;
            let Loaded { batch, examples } = next?;
            let index = Tensor::scalar(i as u32);
            let logged = self.step.call_with((), (model.clone(), batch, step.clone(), key.clone(), index))?;
            batches.fill();
            if logged.is_empty() {
                return Ok(Scores::NoMetrics);
            }
            mean.add(logged, examples)?;
        }
        mean.finish().map(Scores::Mean)
    }
}
