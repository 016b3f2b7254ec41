//! AMSGrad (Reddi, Kale & Kumar 2018), as `optax.amsgrad` 0.2.8 computes it: Adam whose second moment never shrinks.

use fulgurite_jit::{Tensor, Tree};

use super::leaves::{map_floats, zeros_like};
use super::moments::{correction, descend, mean, mean_square};
use super::{Optimizer, Schedule, first_count, next_count};

/// AMSGrad with a learning rate; `b1` 0.9, `b2` 0.999, `eps` 1e-8.
pub fn amsgrad(learning_rate: impl Into<Schedule>) -> AmsGrad {
    AmsGrad { learning_rate: learning_rate.into(), b1: 0.9, b2: 0.999, eps: 1e-8 }
}

/// See [`amsgrad`].
#[derive(Clone, Debug)]
pub struct AmsGrad {
    learning_rate: Schedule,
    b1: f64,
    b2: f64,
    eps: f64,
}

impl AmsGrad {
    /// The decay rate of the first moment.
    pub fn b1(self, b1: f64) -> Self {
        AmsGrad { b1, ..self }
    }

    /// The decay rate of the second moment.
    pub fn b2(self, b2: f64) -> Self {
        AmsGrad { b2, ..self }
    }

    /// Added to the root.
    pub fn eps(self, eps: f64) -> Self {
        AmsGrad { eps, ..self }
    }
}

/// The state of AMSGrad.
#[derive(Clone, Debug, Tree)]
pub struct AmsGradState<P> {
    /// Steps taken, i32.
    pub count: Tensor,
    /// The running mean of the gradient.
    pub mu: P,
    /// The running mean of the squared gradient.
    pub nu: P,
    /// The largest that it was, without its bias.
    pub nu_max: P,
}

impl Optimizer for AmsGrad {
    type State<P: Tree + Clone> = AmsGradState<P>;

    fn init<P: Tree + Clone>(&self, params: &P) -> AmsGradState<P> {
        let zeros = || zeros_like(params);
        AmsGradState { count: first_count(), mu: zeros(), nu: zeros(), nu_max: zeros() }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: AmsGradState<P>, _: &P) -> (P, AmsGradState<P>) {
        let rate = self.learning_rate.scalar(&state.count, &grads);
        let count = next_count(&state.count);
        let mu = mean(self.b1, &state.mu, &grads);
        let nu = mean_square(self.b2, &state.nu, &grads);
        let (c1, c2) = (correction(self.b1, &count, &grads), correction(self.b2, &count, &grads));
        let nu_max = map_floats(&state.nu_max, [&nu], |max, [nu]| max.maximum(nu * c2.of(nu)));
        let updates =
            map_floats(&grads, [&mu, &nu_max], |_, [mu, max]| descend(&rate, mu * c1.of(mu) / (max.sqrt() + self.eps)));
        (updates, AmsGradState { count, mu, nu, nu_max })
    }

    fn learning_rate<P: Tree + Clone>(&self, state: &AmsGradState<P>) -> Option<Tensor> {
        Some(self.learning_rate.at(&state.count))
    }
}
