//! AdaMax (Kingma & Ba 2015, section 7), as `optax.adamax` 0.2.8 computes it: Adam with a decaying maximum of the
//! gradients in place of the root of the mean square.

use fulgurite_jit::{Tensor, Tree};

use super::leaves::{map_floats, zeros_like};
use super::moments::{correction, descend, mean};
use super::{AdamState, Optimizer, Schedule, first_count, next_count};

/// AdaMax with a learning rate; `b1` 0.9, `b2` 0.999, `eps` 1e-8.
pub fn adamax(learning_rate: impl Into<Schedule>) -> AdaMax {
    AdaMax { learning_rate: learning_rate.into(), b1: 0.9, b2: 0.999, eps: 1e-8 }
}

/// See [`adamax`].
#[derive(Clone, Debug)]
pub struct AdaMax {
    learning_rate: Schedule,
    b1: f64,
    b2: f64,
    eps: f64,
}

impl AdaMax {
    /// The decay rate of the running mean.
    pub fn b1(self, b1: f64) -> Self {
        AdaMax { b1, ..self }
    }

    /// The decay rate of the infinity norm.
    pub fn b2(self, b2: f64) -> Self {
        AdaMax { b2, ..self }
    }

    /// Added to the absolute value of each gradient.
    pub fn eps(self, eps: f64) -> Self {
        AdaMax { eps, ..self }
    }
}

impl Optimizer for AdaMax {
    type State<P: Tree + Clone> = AdamState<P>;

    fn init<P: Tree + Clone>(&self, params: &P) -> AdamState<P> {
        AdamState { count: first_count(), mu: zeros_like(params), nu: zeros_like(params) }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: AdamState<P>, _: &P) -> (P, AdamState<P>) {
        let rate = self.learning_rate.scalar(&state.count, &grads);
        let count = next_count(&state.count);
        let mu = mean(self.b1, &state.mu, &grads);
        let nu = map_floats(&state.nu, [&grads], |nu, [g]| (g.abs() + self.eps).maximum(nu * self.b2));
        let c1 = correction(self.b1, &count, &grads);
        let updates = map_floats(&grads, [&mu, &nu], |_, [mu, nu]| descend(&rate, mu * c1.of(mu) / nu));
        (updates, AdamState { count, mu, nu })
    }

    fn learning_rate<P: Tree + Clone>(&self, state: &AdamState<P>) -> Option<Tensor> {
        Some(self.learning_rate.at(&state.count))
    }
}
