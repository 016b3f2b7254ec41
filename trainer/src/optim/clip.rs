//! Links of a chain that clip or scale gradients: they have no state.

use fulgurite_jit::{DType, Tensor, Tree, leaves};

use super::Optimizer;
use super::leaves::map_floats;

/// Scales all gradients by one factor so that their [`global_norm`] is at most `max_norm`
/// (`optax.clip_by_global_norm`).
pub fn clip_by_global_norm(max_norm: f64) -> ClipByGlobalNorm {
    ClipByGlobalNorm { max_norm }
}

/// Limits every element to `-max_delta..=max_delta` (`optax.clip`).
pub fn clip(max_delta: f64) -> Clip {
    Clip { max_delta }
}

/// Multiplies everything by `factor` (`optax.scale`).
pub fn scale(factor: f64) -> Scale {
    Scale { factor }
}

/// The Euclidean norm of all float leaves taken as one vector, a scalar.
#[track_caller]
pub fn global_norm(tree: &impl Tree) -> Tensor {
    let squares = leaves(tree).into_iter().filter(|x| x.dtype().is_float()).map(|x| x.square().sum());
    squares.reduce(|x, y| x + y).unwrap_or_else(|| Tensor::literal(0.0, DType::F32)).sqrt()
}

/// See [`clip_by_global_norm`].
#[derive(Clone, Copy, Debug)]
pub struct ClipByGlobalNorm {
    max_norm: f64,
}

impl Optimizer for ClipByGlobalNorm {
    type State<P: Tree + Clone> = ();

    fn init<P: Tree + Clone>(&self, _: &P) {}

    fn update<P: Tree + Clone>(&self, grads: P, (): (), _: &P) -> (P, ()) {
        let norm = global_norm(&grads);
        let small = norm.less(self.max_norm);
        (map_floats(&grads, [], |g, []| small.select(g, g / norm.convert(g.dtype()) * self.max_norm)), ())
    }
}

/// See [`clip`].
#[derive(Clone, Copy, Debug)]
pub struct Clip {
    max_delta: f64,
}

impl Optimizer for Clip {
    type State<P: Tree + Clone> = ();

    fn init<P: Tree + Clone>(&self, _: &P) {}

    fn update<P: Tree + Clone>(&self, grads: P, (): (), _: &P) -> (P, ()) {
        (map_floats(&grads, [], |g, []| g.clip(-self.max_delta, self.max_delta)), ())
    }
}

/// See [`scale`].
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    factor: f64,
}

impl Optimizer for Scale {
    type State<P: Tree + Clone> = ();

    fn init<P: Tree + Clone>(&self, _: &P) {}

    fn update<P: Tree + Clone>(&self, grads: P, (): (), _: &P) -> (P, ()) {
        (map_floats(&grads, [], |g, []| g * self.factor), ())
    }
}
