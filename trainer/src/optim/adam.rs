//! Adam and AdamW (Kingma & Ba 2015, Loshchilov & Hutter 2019), as `optax.adam` and `optax.adamw` 0.2.8 compute them.

use fulgurite_jit::{Tensor, Tree};

use super::leaves::{map_floats, zeros_like};
use super::moments::{correction, decayed, descend, mean, mean_square};
use super::{Optimizer, Schedule, first_count, next_count};

/// Adam with a learning rate (a number or a [`Schedule`]); `b1` 0.9, `b2` 0.999, `eps` 1e-8.
///
/// ```
/// use fulgurite_trainer::optim::{adam, schedule::warmup_cosine};
/// let plain = adam(1e-3);
/// let tuned = adam(warmup_cosine(0.0, 3e-4, 100, 10_000, 0.0)).b1(0.9).b2(0.95).eps(1e-6);
/// ```
pub fn adam(learning_rate: impl Into<Schedule>) -> Adam {
    Adam {
        learning_rate: learning_rate.into(),
        b1: 0.9,
        b2: 0.999,
        eps: 1e-8,
        eps_root: 0.0,
        nesterov: false,
        weight_decay: 0.0,
    }
}

/// [`adam`] with decoupled weight decay (1e-4 unless said otherwise): every parameter also shrinks by
/// `learning rate × decay` of itself in each step.
pub fn adamw(learning_rate: impl Into<Schedule>) -> Adam {
    adam(learning_rate).weight_decay(1e-4)
}

/// See [`adam`].
#[derive(Clone, Debug)]
pub struct Adam {
    learning_rate: Schedule,
    b1: f64,
    b2: f64,
    eps: f64,
    eps_root: f64,
    nesterov: bool,
    weight_decay: f64,
}

impl Adam {
    /// The decay rate of the first moment.
    pub fn b1(self, b1: f64) -> Self {
        Adam { b1, ..self }
    }

    /// The decay rate of the second moment.
    pub fn b2(self, b2: f64) -> Self {
        Adam { b2, ..self }
    }

    /// Added to the root of the second moment.
    pub fn eps(self, eps: f64) -> Self {
        Adam { eps, ..self }
    }

    /// Added under the root, for derivatives through the optimiser. 0, unless set.
    pub fn eps_root(self, eps_root: f64) -> Self {
        Adam { eps_root, ..self }
    }

    /// With Nesterov's momentum (NAdam).
    pub fn nesterov(self, nesterov: bool) -> Self {
        Adam { nesterov, ..self }
    }

    /// The decoupled weight decay.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Adam { weight_decay, ..self }
    }
}

/// The state of Adam.
#[derive(Clone, Debug, Tree)]
pub struct AdamState<P> {
    /// Steps taken, i32.
    pub count: Tensor,
    /// The running mean of the gradient.
    pub mu: P,
    /// The running mean of the squared gradient.
    pub nu: P,
}

impl Optimizer for Adam {
    type State<P: Tree + Clone> = AdamState<P>;

    fn init<P: Tree + Clone>(&self, params: &P) -> AdamState<P> {
        AdamState { count: first_count(), mu: zeros_like(params), nu: zeros_like(params) }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: AdamState<P>, params: &P) -> (P, AdamState<P>) {
        let Adam { b1, b2, .. } = *self;
        let rate = self.learning_rate.scalar(&state.count, &grads);
        let count = next_count(&state.count);
        let mu = mean(b1, &state.mu, &grads);
        let nu = mean_square(b2, &state.nu, &grads);
        let (c1, c2) = (correction(b1, &count, &grads), correction(b2, &count, &grads));
        let c1_next = self.nesterov.then(|| correction(b1, &next_count(&count), &grads));
        let updates = map_floats(&grads, [&mu, &nu, params], |g, [mu, nu, p]| {
            let mean = match &c1_next {
                Some(c1_next) => mu * c1_next.of(mu) * b1 + g * c1.of(g) * (1.0 - b1),
                None => mu * c1.of(mu),
            };
            let root = (nu * c2.of(nu) + self.eps_root).sqrt();
            descend(&rate, decayed(mean / (root + self.eps), p, self.weight_decay))
        });
        (updates, AdamState { count, mu, nu })
    }

    fn learning_rate<P: Tree + Clone>(&self, state: &AdamState<P>) -> Option<Tensor> {
        Some(self.learning_rate.at(&state.count))
    }
}
