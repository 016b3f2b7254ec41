//! LAMB (You et al. 2020), as `optax.lamb` 0.2.8 computes it: Adam with the update of each leaf scaled to the norm of
//! the leaf.

use fulgurite_jit::{Tensor, Tree};

use super::leaves::{map_floats, zeros_like};
use super::moments::{correction, decayed, descend, mean, mean_square};
use super::{AdamState, Optimizer, Schedule, first_count, next_count};

/// LAMB with a learning rate; `b1` 0.9, `b2` 0.999, `eps` 1e-6, no weight decay.
pub fn lamb(learning_rate: impl Into<Schedule>) -> Lamb {
    Lamb { learning_rate: learning_rate.into(), b1: 0.9, b2: 0.999, eps: 1e-6, weight_decay: 0.0 }
}

/// See [`lamb`].
#[derive(Clone, Debug)]
pub struct Lamb {
    learning_rate: Schedule,
    b1: f64,
    b2: f64,
    eps: f64,
    weight_decay: f64,
}

impl Lamb {
    /// The decay rate of the first moment.
    pub fn b1(self, b1: f64) -> Self {
        Lamb { b1, ..self }
    }

    /// The decay rate of the second moment.
    pub fn b2(self, b2: f64) -> Self {
        Lamb { b2, ..self }
    }

    /// Added to the root.
    pub fn eps(self, eps: f64) -> Self {
        Lamb { eps, ..self }
    }

    /// The decoupled weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Lamb { weight_decay, ..self }
    }
}

impl Optimizer for Lamb {
    type State<P: Tree + Clone> = AdamState<P>;

    fn init<P: Tree + Clone>(&self, params: &P) -> AdamState<P> {
        AdamState { count: first_count(), mu: zeros_like(params), nu: zeros_like(params) }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: AdamState<P>, params: &P) -> (P, AdamState<P>) {
        let rate = self.learning_rate.scalar(&state.count, &grads);
        let count = next_count(&state.count);
        let mu = mean(self.b1, &state.mu, &grads);
        let nu = mean_square(self.b2, &state.nu, &grads);
        let (c1, c2) = (correction(self.b1, &count, &grads), correction(self.b2, &count, &grads));
        let updates = map_floats(&grads, [&mu, &nu, params], |_, [mu, nu, p]| {
            let root = (nu * c2.of(nu)).sqrt() + self.eps;
            let direction = decayed(mu * c1.of(mu) / root, p, self.weight_decay);
            // 1 where one of the norms is 0.
            let (norm, step) = (p.square().sum().sqrt(), direction.square().sum().sqrt());
            let ratio = norm.equal(0.0).or(step.equal(0.0)).select(1.0, &norm / &step);
            descend(&rate, direction * ratio)
        });
        (updates, AdamState { count, mu, nu })
    }

    fn learning_rate<P: Tree + Clone>(&self, state: &AdamState<P>) -> Option<Tensor> {
        Some(self.learning_rate.at(&state.count))
    }
}
