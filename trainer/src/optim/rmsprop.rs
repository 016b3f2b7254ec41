//! RMSProp (Hinton 2012), as `optax.rmsprop` 0.2.8 computes it.

use fulgurite_jit::{Tensor, Tree};

use super::leaves::{map_floats, zeros_like};
use super::moments::{descend, mean_square};
use super::{Optimizer, Schedule, first_count, next_count};

/// RMSProp with a learning rate; `decay` 0.9, `eps` 1e-8, no momentum.
pub fn rmsprop(learning_rate: impl Into<Schedule>) -> RmsProp {
    RmsProp { learning_rate: learning_rate.into(), decay: 0.9, eps: 1e-8, momentum: None }
}

/// See [`rmsprop`].
#[derive(Clone, Debug)]
pub struct RmsProp {
    learning_rate: Schedule,
    decay: f64,
    eps: f64,
    momentum: Option<f64>,
}

impl RmsProp {
    /// The decay rate of the mean square.
    pub fn decay(self, decay: f64) -> Self {
        RmsProp { decay, ..self }
    }

    /// What is added to the mean square, under the root.
    pub fn eps(self, eps: f64) -> Self {
        RmsProp { eps, ..self }
    }

    /// Follows the trace of past updates, which decays at this rate.
    pub fn momentum(self, momentum: f64) -> Self {
        RmsProp { momentum: Some(momentum), ..self }
    }
}

/// The state of RMSProp.
#[derive(Clone, Debug, Tree)]
pub struct RmsPropState<P> {
    /// Steps taken, i32.
    pub count: Tensor,
    /// The running mean of the squared gradient.
    pub nu: P,
    /// The trace of past updates, where there is momentum.
    pub trace: Option<P>,
}

impl Optimizer for RmsProp {
    type State<P: Tree + Clone> = RmsPropState<P>;

    fn init<P: Tree + Clone>(&self, params: &P) -> RmsPropState<P> {
        RmsPropState { count: first_count(), nu: zeros_like(params), trace: self.momentum.map(|_| zeros_like(params)) }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: RmsPropState<P>, _: &P) -> (P, RmsPropState<P>) {
        let rate = self.learning_rate.scalar(&state.count, &grads);
        let count = next_count(&state.count);
        let nu = mean_square(self.decay, &state.nu, &grads);
        let updates = map_floats(&grads, [&nu], |g, [nu]| descend(&rate, (nu + self.eps).rsqrt() * g));
        let updates = match (self.momentum, &state.trace) {
            (Some(momentum), Some(trace)) => map_floats(&updates, [trace], |u, [trace]| u + trace * momentum),
            (_, _) => updates,
        };
        let trace = state.trace.map(|_| updates.clone());
        (updates, RmsPropState { count, nu, trace })
    }

    fn learning_rate<P: Tree + Clone>(&self, state: &RmsPropState<P>) -> Option<Tensor> {
        Some(self.learning_rate.at(&state.count))
    }
}
