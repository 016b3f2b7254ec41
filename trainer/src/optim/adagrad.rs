//! AdaGrad (Duchi, Hazan & Singer 2011), as `optax.adagrad` 0.2.8 computes it.

use fulgurite_jit::{Tensor, Tree};

use super::leaves::map_floats;
use super::moments::descend;
use super::{Optimizer, Schedule, first_count, next_count};

/// AdaGrad with a learning rate; the sum of squares begins at 0.1, `eps` 1e-7.
pub fn adagrad(learning_rate: impl Into<Schedule>) -> AdaGrad {
    AdaGrad { learning_rate: learning_rate.into(), initial: 0.1, eps: 1e-7 }
}

/// See [`adagrad`].
#[derive(Clone, Debug)]
pub struct AdaGrad {
    learning_rate: Schedule,
    initial: f64,
    eps: f64,
}

impl AdaGrad {
    /// The initial sum of squares.
    pub fn initial(self, initial: f64) -> Self {
        AdaGrad { initial, ..self }
    }

    /// Added to the sum, under the root.
    pub fn eps(self, eps: f64) -> Self {
        AdaGrad { eps, ..self }
    }
}

/// The state of AdaGrad.
#[derive(Clone, Debug, Tree)]
pub struct AdaGradState<P> {
    /// Steps taken, i32.
    pub count: Tensor,
    /// The sum of the squared gradients.
    pub sum: P,
}

impl Optimizer for AdaGrad {
    type State<P: Tree + Clone> = AdaGradState<P>;

    fn init<P: Tree + Clone>(&self, params: &P) -> AdaGradState<P> {
        let sum = map_floats(params, [], |p, []| Tensor::full(p.shape(), self.initial, p.dtype()));
        AdaGradState { count: first_count(), sum }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: AdaGradState<P>, _: &P) -> (P, AdaGradState<P>) {
        let rate = self.learning_rate.scalar(&state.count, &grads);
        let count = next_count(&state.count);
        let sum = map_floats(&state.sum, [&grads], |sum, [g]| g.square() + sum);
        let updates = map_floats(&grads, [&sum], |g, [sum]| {
            descend(&rate, sum.greater(0.0).select((sum + self.eps).rsqrt(), 0.0) * g)
        });
        (updates, AdaGradState { count, sum })
    }

    fn learning_rate<P: Tree + Clone>(&self, state: &AdaGradState<P>) -> Option<Tensor> {
        Some(self.learning_rate.at(&state.count))
    }
}
