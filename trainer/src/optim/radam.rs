//! RAdam (Liu et al. 2020), as `optax.radam` 0.2.8 computes it: Adam that leaves out the second moment until enough
//! steps have gone into it.

use fulgurite_jit::{Tensor, Tree};

use super::leaves::{map_floats, zeros_like};
use super::moments::{Scalar, correction, correction_as, descend, mean, mean_square};
use super::{AdamState, Optimizer, Schedule, first_count, next_count};

/// RAdam with a learning rate; `b1` 0.9, `b2` 0.999, `eps` 1e-8.
pub fn radam(learning_rate: impl Into<Schedule>) -> RAdam {
    RAdam { learning_rate: learning_rate.into(), b1: 0.9, b2: 0.999, eps: 1e-8 }
}

/// See [`radam`].
#[derive(Clone, Debug)]
pub struct RAdam {
    learning_rate: Schedule,
    b1: f64,
    b2: f64,
    eps: f64,
}

impl RAdam {
    /// The decay rate of the first moment.
    pub fn b1(self, b1: f64) -> Self {
        RAdam { b1, ..self }
    }

    /// The decay rate of the second moment.
    pub fn b2(self, b2: f64) -> Self {
        RAdam { b2, ..self }
    }

    /// Added to the root.
    pub fn eps(self, eps: f64) -> Self {
        RAdam { eps, ..self }
    }
}

impl Optimizer for RAdam {
    type State<P: Tree + Clone> = AdamState<P>;

    fn init<P: Tree + Clone>(&self, params: &P) -> AdamState<P> {
        AdamState { count: first_count(), mu: zeros_like(params), nu: zeros_like(params) }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: AdamState<P>, _: &P) -> (P, AdamState<P>) {
        let rate = self.learning_rate.scalar(&state.count, &grads);
        let count = next_count(&state.count);
        let mu = mean(self.b1, &state.mu, &grads);
        let nu = mean_square(self.b2, &state.nu, &grads);
        let (c1, c2) = (correction(self.b1, &count, &grads), correction(self.b2, &count, &grads));
        // The length of the average that the second moment is: at most `longest`, now `length`. Its variance is finite
        // from a length of 4 on; Optax begins at 5.
        let (b2, longest) = (self.b2, 2.0 / (1.0 - self.b2) - 1.0);
        let steps = count.clone();
        let length = move |dtype| longest - (correction_as(b2, &steps, dtype) - 1.0) * steps.convert(dtype) * 2.0;
        let spread = move |length: Tensor| {
            (&length - 4.0) * (&length - 2.0) * longest / (&length * ((longest - 4.0) * (longest - 2.0)))
        };
        let ready = Scalar::new(&grads, {
            let length = length.clone();
            move |dtype| length(dtype).greater_equal(5.0)
        });
        let rectify = Scalar::new(&grads, move |dtype| spread(length(dtype)).sqrt());
        let updates = map_floats(&grads, [&mu, &nu], |_, [mu, nu]| {
            let mean = mu * c1.of(mu);
            let root = (nu * c2.of(nu)).sqrt() + self.eps;
            descend(&rate, ready.of(mu).select(rectify.of(mu) * &mean / root, &mean))
        });
        (updates, AdamState { count, mu, nu })
    }

    fn learning_rate<P: Tree + Clone>(&self, state: &AdamState<P>) -> Option<Tensor> {
        Some(self.learning_rate.at(&state.count))
    }
}
