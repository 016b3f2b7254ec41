//! Gradient descent, with momentum if wanted, as `optax.sgd` 0.2.8 computes it.

use fulgurite_jit::{Tensor, Tree};

use super::leaves::{map_floats, zeros_like};
use super::moments::descend;
use super::{Optimizer, Schedule, first_count, next_count};

/// Plain gradient descent with a learning rate (a number or a [`Schedule`]).
///
/// ```
/// use fulgurite_trainer::optim::sgd;
/// let plain = sgd(0.1);
/// let heavy = sgd(0.1).momentum(0.9).nesterov(true);
/// ```
pub fn sgd(learning_rate: impl Into<Schedule>) -> Sgd {
    Sgd { learning_rate: learning_rate.into(), momentum: None, nesterov: false }
}

/// See [`sgd`].
#[derive(Clone, Debug)]
pub struct Sgd {
    learning_rate: Schedule,
    momentum: Option<f64>,
    nesterov: bool,
}

impl Sgd {
    /// Follows `trace ← gradient + momentum × trace` instead of the gradient.
    pub fn momentum(self, momentum: f64) -> Self {
        Sgd { momentum: Some(momentum), ..self }
    }

    /// Nesterov's momentum: follows `gradient + momentum × trace`. Without momentum it has no effect.
    pub fn nesterov(self, nesterov: bool) -> Self {
        Sgd { nesterov, ..self }
    }
}

/// The state of gradient descent.
#[derive(Clone, Debug, Tree)]
pub struct SgdState<P> {
    /// Steps taken, i32: what a schedule depends on.
    pub count: Tensor,
    /// The trace of past gradients, where there is momentum.
    pub trace: Option<P>,
}

impl Optimizer for Sgd {
    type State<P: Tree + Clone> = SgdState<P>;

    fn init<P: Tree + Clone>(&self, params: &P) -> SgdState<P> {
        SgdState { count: first_count(), trace: self.momentum.map(|_| zeros_like(params)) }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: SgdState<P>, _: &P) -> (P, SgdState<P>) {
        let rate = self.learning_rate.scalar(&state.count, &grads);
        let count = next_count(&state.count);
        let (direction, trace) = match (self.momentum, &state.trace) {
            (Some(momentum), Some(trace)) => {
                let follow = |g: &Tensor, [trace]: [&Tensor; 1]| g + trace * momentum;
                let trace = map_floats(&grads, [trace], follow);
                let direction = if self.nesterov { map_floats(&grads, [&trace], follow) } else { trace.clone() };
                (direction, Some(trace))
            }
            (_, _) => (grads, None),
        };
        let updates = map_floats(&direction, [], |d, []| descend(&rate, d.clone()));
        (updates, SgdState { count, trace })
    }

    fn learning_rate<P: Tree + Clone>(&self, state: &SgdState<P>) -> Option<Tensor> {
        Some(self.learning_rate.at(&state.count))
    }
}
