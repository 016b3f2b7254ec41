//! AdaDelta (Zeiler 2012), as `optax.adadelta` 0.2.8 computes it.

use fulgurite_jit::{Tensor, Tree};

use super::leaves::{map_floats, zeros_like};
use super::moments::{descend, mean_square};
use super::{Optimizer, Schedule, first_count, next_count};

/// AdaDelta with a learning rate (1.0 in the paper); `rho` 0.9, `eps` 1e-6.
pub fn adadelta(learning_rate: impl Into<Schedule>) -> AdaDelta {
    AdaDelta { learning_rate: learning_rate.into(), rho: 0.9, eps: 1e-6 }
}

/// See [`adadelta`].
#[derive(Clone, Debug)]
pub struct AdaDelta {
    learning_rate: Schedule,
    rho: f64,
    eps: f64,
}

impl AdaDelta {
    /// The decay rate of both means.
    pub fn rho(self, rho: f64) -> Self {
        AdaDelta { rho, ..self }
    }

    /// Added to both means, under the roots.
    pub fn eps(self, eps: f64) -> Self {
        AdaDelta { eps, ..self }
    }
}

/// The state of AdaDelta.
#[derive(Clone, Debug, Tree)]
pub struct AdaDeltaState<P> {
    /// Steps taken, i32.
    pub count: Tensor,
    /// The running mean of the squared gradient.
    pub squared_grads: P,
    /// The running mean of the squared update, before the learning rate.
    pub squared_steps: P,
}

impl Optimizer for AdaDelta {
    type State<P: Tree + Clone> = AdaDeltaState<P>;

    fn init<P: Tree + Clone>(&self, params: &P) -> AdaDeltaState<P> {
        AdaDeltaState { count: first_count(), squared_grads: zeros_like(params), squared_steps: zeros_like(params) }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: AdaDeltaState<P>, _: &P) -> (P, AdaDeltaState<P>) {
        let rate = self.learning_rate.scalar(&state.count, &grads);
        let count = next_count(&state.count);
        let squared_grads = mean_square(self.rho, &state.squared_grads, &grads);
        let steps = map_floats(&grads, [&squared_grads, &state.squared_steps], |g, [grad, step]| {
            (step + self.eps).sqrt() / (grad + self.eps).sqrt() * g
        });
        let squared_steps = mean_square(self.rho, &state.squared_steps, &steps);
        let updates = map_floats(&steps, [], |step, []| descend(&rate, step.clone()));
        (updates, AdaDeltaState { count, squared_grads, squared_steps })
    }

    fn learning_rate<P: Tree + Clone>(&self, state: &AdaDeltaState<P>) -> Option<Tensor> {
        Some(self.learning_rate.at(&state.count))
    }
}
