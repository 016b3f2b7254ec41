//! What a hook gets: the run, and the state by name.

use fulgurite_jit::{Array, Error, Result, Tensor};

use crate::fit::run::Run;

/// The state behind a [`HookCx`].
pub(crate) trait HookState {
    /// The leaves under their names.
    fn leaves(&mut self) -> &mut [(String, Tensor)];
    /// Sets a leaf.
    fn set(&mut self, name: &str, value: Tensor) -> Result<()>;
    /// The learning rate of the next step.
    fn learning_rate(&self) -> Option<Tensor>;
}

/// What a hook of a [`Callback`](super::Callback) gets: the run, and the state of the training.
///
/// The state is read when a method here is called, and not before: hooks that do not look at it cost nothing. Names are
/// those of a checkpoint: `model.layers.0.weight`, `opt_state.mu.layers.0.weight`, `step`, `key`.
///
/// A leaf is a handle to memory that the next step writes to. While a callback keeps the handle, that step copies the
/// leaf first; drop handles that are no longer used.
pub struct HookCx<'a> {
    /// The run: where it is, its metrics, and what a hook may request of it.
    pub run: &'a mut Run,
    state: &'a mut dyn HookState,
}

impl<'a> HookCx<'a> {
    pub(crate) fn new(run: &'a mut Run, state: &'a mut dyn HookState) -> Self {
        HookCx { run, state }
    }

    /// The names of all leaves of the state, in order.
    pub fn leaf_names(&mut self) -> impl Iterator<Item = &str> {
        self.state.leaves().iter().map(|(name, _)| name.as_str())
    }

    /// The leaf of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn leaf(&mut self, name: &str) -> Result<Tensor> {
        let leaf = self.state.leaves().iter().find(|(leaf, _)| leaf == name);
        let leaf = leaf.ok_or_else(|| Error::new(format!("the state has no leaf `{name}`")))?;
        Ok(leaf.1.clone())
    }

    /// Sets a leaf that the module declares
    /// [changeable](crate::LightningModule::changeable). Later hooks of the same moment and the next step see the
    /// value.
    ///
    /// # Errors
    /// When there is no such leaf, the module does not declare it changeable, or the value has another type.
    pub fn set_leaf(&mut self, name: &str, value: Tensor) -> Result<()> {
        self.state.set(name, value)
    }

    /// The learning rate of the next step: in [`on_train_batch_start`](super::Callback::on_train_batch_start) that of
    /// the step which begins. `None` where the optimiser has none
    /// ([`Optimizer::learning_rate`](crate::Optimizer::learning_rate)).
    ///
    /// # Errors
    /// When it cannot be computed.
    pub fn learning_rate(&self) -> Result<Option<f64>> {
        let Some(rate) = self.state.learning_rate() else { return Ok(None) };
        let values = rate.array().and_then(Array::to_f64_vec).map_err(|e| e.context("the learning rate"))?;
        Ok(values.first().copied())
    }
}
