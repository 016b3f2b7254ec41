//! The compiled functions of a run: its start, its training step, its validation step.
//!
//! In: a module and its optimiser. Out: functions of whole states, traced at their first call, and again for each new
//! shape of a batch.

use std::sync::Arc;

use fulgurite_jit::random::Key;
use fulgurite_jit::{DType, Tensor};
use fulgurite_runtime::{Bound, Jit};

use crate::metrics::Metric;
use crate::module::{LightningModule, StateOf, StepCx};
use crate::optim::Optimizer;
use crate::state::TrainState;

/// The run's key to the initial state.
pub(crate) fn start<M: LightningModule, O: Optimizer>(module: &M, optimizer: Arc<O>) -> Jit<Key, (), StateOf<M, O>> {
    let module = module.clone();
    Jit::with_borrowed("start", move |key: Key, (): ()| {
        let [init, key] = key.split();
        let model = module.init(init);
        let opt_state = optimizer.init(&model);
        TrainState { model, opt_state, step: Tensor::literal(0.0, DType::I32), key }
    })
}

/// State and batch to the next state and what was logged. The state is consumed, the batch borrowed.
type TrainStep<M, O> = Jit<StateOf<M, O>, <M as LightningModule>::Batch, (StateOf<M, O>, Vec<Metric>)>;

/// The training step bound to its state.
pub(crate) type Training<M, O> = Bound<StateOf<M, O>, <M as LightningModule>::Batch, Vec<Metric>>;

pub(crate) fn train_step<M: LightningModule, O: Optimizer>(module: &M, optimizer: Arc<O>) -> TrainStep<M, O> {
    let module = module.clone();
    Jit::with_borrowed("training_step", move |state: StateOf<M, O>, batch: M::Batch| {
        let step = state.step.clone();
        let mut cx = StepCx::new(state.key.clone(), step.clone());
        let next = module.step(&*optimizer, state, &batch, &mut cx);
        let (metrics, key) = cx.into_outputs();
        (TrainState { step: step + 1, key, ..next }, metrics)
    })
}

/// Model, batch, step, key and the number of the batch to what was logged. All are borrowed.
pub(crate) type ValStep<M> =
    Jit<(), (<M as LightningModule>::Model, <M as LightningModule>::Batch, Tensor, Key, Tensor), Vec<Metric>>;

pub(crate) fn val_step<M: LightningModule>(module: &M) -> ValStep<M> {
    let module = module.clone();
    Jit::with_borrowed(
        "validation_step",
        move |(): (), (model, batch, step, key, i): (M::Model, M::Batch, _, Key, _)| {
            // Training splits the run's key; validation folds into it, so that it does not change the steps.
            let mut cx = StepCx::new(key.fold_in(VALIDATION).fold_in(&i), step);
            module.validation_step(&model, &batch, &mut cx);
            cx.into_outputs().0
        },
    )
}

/// What validation folds into the run's key ("val").
const VALIDATION: u32 = 0x0076_616c;
