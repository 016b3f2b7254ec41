//! Yogi (Zaheer et al. 2018), as `optax.yogi` 0.2.8 computes it: Adam whose second moment moves by steps of the squared
//! gradient's size.

use fulgurite_jit::{Tensor, Tree};

use super::leaves::map_floats;
use super::moments::{correction, descend, mean};
use super::{AdamState, Optimizer, Schedule, first_count, next_count};

/// Yogi with a learning rate; `b1` 0.9, `b2` 0.999, `eps` 1e-3.
pub fn yogi(learning_rate: impl Into<Schedule>) -> Yogi {
    Yogi { learning_rate: learning_rate.into(), b1: 0.9, b2: 0.999, eps: 1e-3 }
}

/// See [`yogi`].
#[derive(Clone, Debug)]
pub struct Yogi {
    learning_rate: Schedule,
    b1: f64,
    b2: f64,
    eps: f64,
}

impl Yogi {
    /// The decay rate of the first moment.
    pub fn b1(self, b1: f64) -> Self {
        Yogi { b1, ..self }
    }

    /// The decay rate of the second moment.
    pub fn b2(self, b2: f64) -> Self {
        Yogi { b2, ..self }
    }

    /// Added to the root.
    pub fn eps(self, eps: f64) -> Self {
        Yogi { eps, ..self }
    }
}

impl Optimizer for Yogi {
    type State<P: Tree + Clone> = AdamState<P>;

    fn init<P: Tree + Clone>(&self, params: &P) -> AdamState<P> {
        // Optax starts both moments at 1e-6.
        let start = || map_floats(params, [], |p, []| Tensor::full(p.shape(), 1e-6, p.dtype()));
        AdamState { count: first_count(), mu: start(), nu: start() }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: AdamState<P>, _: &P) -> (P, AdamState<P>) {
        let rate = self.learning_rate.scalar(&state.count, &grads);
        let count = next_count(&state.count);
        let mu = mean(self.b1, &state.mu, &grads);
        let nu = map_floats(&state.nu, [&grads], |nu, [g]| {
            let square = g.square();
            nu - (nu - &square).sign() * &square * (1.0 - self.b2)
        });
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
