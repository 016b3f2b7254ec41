//! Gradient accumulation, as `optax.MultiSteps` 0.2.8 computes it.

use fulgurite_jit::{Tensor, Tree, leaves, unflatten};

use super::leaves::{map_floats, zeros_like};
use super::{Optimizer, first_count, next_count};

/// `inner`, applied in every `k`-th step to the mean of the last `k` gradients; the other steps change nothing.
///
/// ```
/// use fulgurite_trainer::optim::{adam, multi_steps};
/// let optimizer = multi_steps(adam(1e-3), 4); // four batches of 16 are one of 64
/// ```
pub fn multi_steps<O: Optimizer>(inner: O, k: usize) -> MultiSteps<O> {
    MultiSteps { inner, k: i32::try_from(k.max(1)).unwrap_or(i32::MAX) }
}

/// See [`multi_steps`].
#[derive(Clone, Debug)]
pub struct MultiSteps<O> {
    inner: O,
    k: i32,
}

/// The state of [`MultiSteps`].
#[derive(Clone, Debug, Tree)]
pub struct MultiStepsState<P, S> {
    /// Gradients since the last update, i32.
    pub mini_step: Tensor,
    /// Updates so far, i32.
    pub count: Tensor,
    /// The state of the inner optimiser.
    pub inner: S,
    /// The mean of the gradients since the last update.
    pub mean: P,
}

impl<O: Optimizer> Optimizer for MultiSteps<O> {
    type State<P: Tree + Clone> = MultiStepsState<P, O::State<P>>;

    fn init<P: Tree + Clone>(&self, params: &P) -> Self::State<P> {
        let inner = self.inner.init(params);
        MultiStepsState { mini_step: first_count(), count: first_count(), inner, mean: zeros_like(params) }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: Self::State<P>, params: &P) -> (P, Self::State<P>) {
        // Welford's mean: mean + (g - mean) / n.
        let share = &state.mini_step + 1;
        let mean = map_floats(&grads, [&state.mean], |g, [mean]| mean + (g - mean) / share.convert(g.dtype()));
        let due = state.mini_step.equal(self.k - 1);
        let zero = |x: &Tensor| x.zeros_like();

        // The inner update is computed in every step and used in every k-th: it costs little beside a gradient, and
        // fuses with the select.
        let (updates, inner) = self.inner.update(mean.clone(), state.inner.clone(), params);
        let updates = map_floats(&updates, [], |u, []| due.select(u, zero(u)));
        let chosen = leaves(&inner).into_iter().zip(leaves(&state.inner)).map(|(new, old)| due.select(new, old));
        let inner = unflatten(&inner, chosen.collect::<Vec<_>>());
        let mean = map_floats(&mean, [], |mean, []| due.select(zero(mean), mean));
        let mini_step = due.select(0, share);
        let count = due.select(next_count(&state.count), state.count);
        (updates, MultiStepsState { mini_step, count, inner, mean })
    }

    fn learning_rate<P: Tree + Clone>(&self, state: &Self::State<P>) -> Option<Tensor> {
        self.inner.learning_rate(&state.inner)
    }
}
