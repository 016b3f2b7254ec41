//! Lion (Chen et al. 2023), as `optax.lion` 0.2.8 computes it: the sign of the momentum as the update.

use fulgurite_jit::{Tensor, Tree};

use super::leaves::{map_floats, zeros_like};
use super::moments::{decayed, descend, mean};
use super::{Optimizer, Schedule, first_count, next_count};

/// Lion with a learning rate; `b1` 0.9, `b2` 0.99, decoupled weight decay 1e-3.
pub fn lion(learning_rate: impl Into<Schedule>) -> Lion {
    Lion { learning_rate: learning_rate.into(), b1: 0.9, b2: 0.99, weight_decay: 1e-3 }
}

/// See [`lion`].
#[derive(Clone, Debug)]
pub struct Lion {
    learning_rate: Schedule,
    b1: f64,
    b2: f64,
    weight_decay: f64,
}

impl Lion {
    /// The decay rate that the update is computed with.
    pub fn b1(self, b1: f64) -> Self {
        Lion { b1, ..self }
    }

    /// The decay rate of the running mean.
    pub fn b2(self, b2: f64) -> Self {
        Lion { b2, ..self }
    }

    /// The decoupled weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Lion { weight_decay, ..self }
    }
}

/// The state of Lion.
#[derive(Clone, Debug, Tree)]
pub struct LionState<P> {
    /// Steps taken, i32.
    pub count: Tensor,
    /// The running mean of the gradient.
    pub mu: P,
}

impl Optimizer for Lion {
    type State<P: Tree + Clone> = LionState<P>;

    fn init<P: Tree + Clone>(&self, params: &P) -> LionState<P> {
        LionState { count: first_count(), mu: zeros_like(params) }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: LionState<P>, params: &P) -> (P, LionState<P>) {
        let rate = self.learning_rate.scalar(&state.count, &grads);
        let count = next_count(&state.count);
        // The update interpolates with b1, the running mean with b2.
        let updates = map_floats(&grads, [&state.mu, params], |g, [mu, p]| {
            let ahead = g * (1.0 - self.b1) + mu * self.b1;
            descend(&rate, decayed(ahead.sign(), p, self.weight_decay))
        });
        let mu = mean(self.b2, &state.mu, &grads);
        (updates, LionState { count, mu })
    }

    fn learning_rate<P: Tree + Clone>(&self, state: &LionState<P>) -> Option<Tensor> {
        Some(self.learning_rate.at(&state.count))
    }
}
