//! Optimisers: pure pairs of `init` and `update`, as in Optax, traced into the step with everything else.
//!
//! In: gradients, the optimiser's state, the parameters. Out: updates, which [`apply_updates`] adds to the parameters,
//! and the new state. Optimisers chain ([`chain!`](crate::chain)); formulas and defaults are those of Optax 0.2.8, so
//! that a run ported from JAX takes the same path. Leaves that are not floats (keys, counters) are not changed.
//!
//! A learning rate is a number or a [`Schedule`] of the step count, which is part of the state, so
//! that no step is compiled again when it changes. Rates and bias corrections are computed in the type of the
//! parameter: f64 parameters train as in Optax with `jax_enable_x64`.

mod adabelief;
mod adadelta;
mod adagrad;
mod adam;
mod adamax;
mod amsgrad;
mod chain;
mod clip;
mod lamb;
mod leaves;
mod lion;
mod moments;
mod multi_steps;
mod radam;
mod rmsprop;
pub mod schedule;
mod sgd;
mod yogi;

use fulgurite_jit::{DType, Tensor, Tree};
use schedule::Schedule;

pub use adabelief::{AdaBelief, adabelief};
pub use adadelta::{AdaDelta, AdaDeltaState, adadelta};
pub use adagrad::{AdaGrad, AdaGradState, adagrad};
pub use adam::{Adam, AdamState, adam, adamw};
pub use adamax::{AdaMax, adamax};
pub use amsgrad::{AmsGrad, AmsGradState, amsgrad};
pub use chain::{Manual, manual};
pub use clip::{Clip, ClipByGlobalNorm, Scale, clip, clip_by_global_norm, global_norm, scale};
pub use lamb::{Lamb, lamb};
pub use lion::{Lion, LionState, lion};
pub use multi_steps::{MultiSteps, MultiStepsState, multi_steps};
pub use radam::{RAdam, radam};
pub use rmsprop::{RmsProp, RmsPropState, rmsprop};
pub use sgd::{Sgd, SgdState, sgd};
pub use yogi::{Yogi, yogi};

/// A rule that turns gradients into updates.
///
/// Both methods are pure functions on trees and run inside the traced step.
///
/// ```
/// use fulgurite_trainer::optim::{Optimizer, adam, schedule::cosine_decay};
/// use fulgurite_trainer::apply_updates;
/// use fulgurite_jit::Tensor;
///
/// // One update of a model that is a single tensor.
/// fn update(model: Tensor, gradient: Tensor) -> Tensor {
///     let optimizer = adam(cosine_decay(1e-3, 5_000));
///     let state = optimizer.init(&model);
///     let (updates, _state) = optimizer.update(gradient, state, &model);
///     apply_updates(model, updates)
/// }
/// ```
pub trait Optimizer: Send + Sync + 'static {
    /// The state of the optimiser, for parameters of the structure `P`.
    type State<P: Tree + Clone>: Tree + Clone;

    /// The state before the first step.
    #[track_caller]
    fn init<P: Tree + Clone>(&self, params: &P) -> Self::State<P>;

    /// The updates to be added to `params`, and the next state. `grads` has the structure and types of `params`;
    /// trees of another structure or other shapes are an error of the step.
    #[track_caller]
    fn update<P: Tree + Clone>(&self, grads: P, state: Self::State<P>, params: &P) -> (P, Self::State<P>);

    /// The learning rate of the next update, an f32 scalar; `None` where there is none. Chains give that of their first
    /// link that has one.
    #[track_caller]
    fn learning_rate<P: Tree + Clone>(&self, state: &Self::State<P>) -> Option<Tensor> {
        let _ = state;
        None
    }
}

/// `params + updates`, leaf by leaf, in the type of the parameter. Leaves that are not floats are not changed. Trees of
/// another structure or other shapes are an error of the step.
#[track_caller]
pub fn apply_updates<P: Tree>(params: P, updates: P) -> P {
    leaves::map_floats(&params, [&updates], |p, [u]| (p + u).convert(p.dtype()))
}

/// The counter before the first step: i32, 0.
fn first_count() -> Tensor {
    Tensor::literal(0.0, DType::I32)
}

/// The counter after one more step. It saturates at the largest i32.
#[track_caller]
fn next_count(count: &Tensor) -> Tensor {
    count.less(i32::MAX).select(count + 1, count)
}
