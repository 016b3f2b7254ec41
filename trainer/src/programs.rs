//! The compiled functions of a run: its start, its training step, its validation step.
//!
//! In: a module and its optimiser. Out: functions on whole states, traced when they are first called, and once more for
//! each other shape of a batch.

use std::sync::Arc;

use fulgurite_jit::random::Key;
use fulgurite_jit::{DType, Tensor};
use fulgurite_runtime::{Bound, Jit};

use crate::module::{LightningModule, Metric, StateOf, StepCx};
use crate::optim::Optimizer;
use crate::state::TrainState;

/// Makes the first state of the run's key.
pub(crate) fn start<M: LightningModule, O: Optimizer>(module: &M, optimizer: Arc<O>) -> Jit<Key, (), StateOf<M, O>> {
    let module = module.clone();
    Jit::with_borrowed("start", move |key: Key, (): ()| {
        let [init, key] = key.split();
        let model = module.init(init);
        let opt_state = optimizer.init(&model);
        TrainState { model, opt_state, step: Tensor::literal(0.0, DType::I32), key }
    })
}

/// State and batch to the next state and what was logged. The state is given away, the batch is lent.
type TrainStep<M, O> = Jit<StateOf<M, O>, <M as LightningModule>::Batch, (StateOf<M, O>, Vec<Metric>)>;

/// The training step with the state that goes round.
pub(crate) type Training<M, O> = Bound<StateOf<M, O>, <M as LightningModule>::Batch, Vec<Metric>>;

pub(crate) fn train_step<M: LightningModule, O: Optimizer>(module: &M, optimizer: Arc<O>) -> TrainStep<M, O> {
    let module = module.clone();
    Jit::with_borrowed("training_step", move |state: StateOf<M, O>, batch: M::Batch| {
        let step = state.step.clone();
        let mut cx = StepCx::new(state.key.clone(), step.clone());
        let next = module.step(&*optimizer, state, &batch, &mut cx);
        let (metrics, key) = cx.into_drawn();
        (TrainState { step: step + 1, key, ..next }, metrics)
    })
}

/// Model, batch, step, key and the number of the batch to what was logged. All are lent.
pub(crate) type ValStep<M> =
    Jit<(), (<M as LightningModule>::Model, <M as LightningModule>::Batch, Tensor, Key, Tensor), Vec<Metric>>;

pub(crate) fn val_step<M: LightningModule>(module: &M) -> ValStep<M> {
    let module = module.clone();
    Jit::with_borrowed(
        "validation_step",
        move |(): (), (model, batch, step, key, i): (M::Model, M::Batch, _, Key, _)| {
            // Validation draws from a branch of the run's key that training, which splits it, does not come to: whether
            // there is validation makes no difference to the steps.
            let mut cx = StepCx::new(key.fold_in(VALIDATION).fold_in(&i), step);
            module.validation_step(&model, &batch, &mut cx);
            cx.into_drawn().0
        },
    )
}

/// The branch of the run's key that validation draws from ("val").
const VALIDATION: u32 = 0x0076_616c;
