//! Adam and AdamW (Kingma & Ba 2015, Loshchilov & Hutter 2019), as `optax.adam` and `optax.adamw` 0.2.8 compute them.

use fulgurite_jit::{DType, Tensor, Tree};

use super::leaves::{map_floats, zeros_like};
use super::{Optimizer, Schedule, first_count, next_count};

/// Adam with a learning rate (a number or a [`Schedule`]); `b1` 0.9, `b2` 0.999, `eps` 1e-8.
///
/// ```
/// use fulgurite_trainer::optim::{adam, warmup_cosine};
/// let plain = adam(1e-3);
/// let tuned = adam(warmup_cosine(0.0, 3e-4, 100, 10_000, 0.0)).betas(0.9, 0.95).eps(1e-6);
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
    /// The decay rates of the first and second moment.
    pub fn betas(self, b1: f64, b2: f64) -> Self {
        Adam { b1, b2, ..self }
    }

    /// What is added to the root of the second moment.
    pub fn eps(self, eps: f64) -> Self {
        Adam { eps, ..self }
    }

    /// What is added under the root, for derivatives through the optimiser (0 otherwise).
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

/// What Adam remembers.
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
        let rate = self.learning_rate.at(&state.count);
        let count = next_count(&state.count);
        let mu = map_floats(&state.mu, [&grads], |mu, [g]| g * (1.0 - b1) + mu * b1);
        let nu = map_floats(&state.nu, [&grads], |nu, [g]| g.square() * (1.0 - b2) + nu * b2);

        // Both means start at zero; dividing by 1 - b^t takes that bias out.
        let (c1, c2) = (unbias(b1, &count), unbias(b2, &count));
        let c1_next = self.nesterov.then(|| unbias(b1, &next_count(&count)));
        let updates = map_floats(&grads, [&mu, &nu, params], |g, [mu, nu, p]| {
            let mean = match &c1_next {
                Some(c1_next) => mu / like(c1_next, mu) * b1 + g / like(&c1, g) * (1.0 - b1),
                None => mu / like(&c1, mu),
            };
            let square = nu / like(&c2, nu);
            let root = if self.eps_root == 0.0 { square.sqrt() } else { (square + self.eps_root).sqrt() };
            let mut direction = mean / (root + self.eps);
            if self.weight_decay != 0.0 {
                direction = direction + p * self.weight_decay;
            }
            direction * -like(&rate, g)
        });
        (updates, AdamState { count, mu, nu })
    }
}

/// `1 - decay^count`, f32.
fn unbias(decay: f64, count: &Tensor) -> Tensor {
    1.0 - Tensor::literal(decay, DType::F32).pow(count.convert(DType::F32))
}

/// The scalar `x` as an operand of `leaf`: it takes on the leaf's type, so that an f32 rate does not turn an update
/// into something else than its parameter.
pub(super) fn like(x: &Tensor, leaf: &Tensor) -> Tensor {
    x.convert(leaf.dtype())
}
