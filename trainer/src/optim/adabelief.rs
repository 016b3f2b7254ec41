//! AdaBelief (Zhuang et al. 2020), as `optax.adabelief` 0.2.8 computes it: Adam with the variance of the gradient
//! around its mean in place of the mean square.

use fulgurite_jit::{Tensor, Tree};

use super::leaves::{map_floats, zeros_like};
use super::moments::{correction, descend, mean, mean_square};
use super::{AdamState, Optimizer, Schedule, first_count, next_count};

/// AdaBelief with a learning rate; `b1` 0.9, `b2` 0.999, `eps` and `eps_root` 1e-16.
pub fn adabelief(learning_rate: impl Into<Schedule>) -> AdaBelief {
    AdaBelief { learning_rate: learning_rate.into(), b1: 0.9, b2: 0.999, eps: 1e-16, eps_root: 1e-16 }
}

/// See [`adabelief`].
#[derive(Clone, Debug)]
pub struct AdaBelief {
    learning_rate: Schedule,
    b1: f64,
    b2: f64,
    eps: f64,
    eps_root: f64,
}

impl AdaBelief {
    /// The decay rate of the first moment.
    pub fn b1(self, b1: f64) -> Self {
        AdaBelief { b1, ..self }
    }

    /// The decay rate of the second moment.
    pub fn b2(self, b2: f64) -> Self {
        AdaBelief { b2, ..self }
    }

    /// Added to the root.
    pub fn eps(self, eps: f64) -> Self {
        AdaBelief { eps, ..self }
    }

    /// Added to the variance in every step.
    pub fn eps_root(self, eps_root: f64) -> Self {
        AdaBelief { eps_root, ..self }
    }
}

impl Optimizer for AdaBelief {
    type State<P: Tree + Clone> = AdamState<P>;

    fn init<P: Tree + Clone>(&self, params: &P) -> AdamState<P> {
        AdamState { count: first_count(), mu: zeros_like(params), nu: zeros_like(params) }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: AdamState<P>, _: &P) -> (P, AdamState<P>) {
        let rate = self.learning_rate.scalar(&state.count, &grads);
        let count = next_count(&state.count);
        let mu = mean(self.b1, &state.mu, &grads);
        let surprise = map_floats(&grads, [&mu], |g, [mu]| g - mu);
        let nu = mean_square(self.b2, &state.nu, &surprise);
        let nu = map_floats(&nu, [], |nu, []| nu + self.eps_root);
        let (c1, c2) = (correction(self.b1, &count, &grads), correction(self.b2, &count, &grads));
        let updates = map_floats(&grads, [&mu, &nu], |_, [mu, nu]| {
            let root = (nu * c2.of(nu)).sqrt() + self.eps;
            descend(&rate, mu * c1.of(mu) / root)
        });
        (updates, AdamState { count, mu, nu })
    }

    fn learning_rate<P: Tree + Clone>(&self, state: &AdamState<P>) -> Option<Tensor> {
        Some(self.learning_rate.at(&state.count))
    }
}
