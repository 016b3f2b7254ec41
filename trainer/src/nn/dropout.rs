//! Dropout.

use fulgurite_jit::random::Key;
use fulgurite_jit::{Tensor, Tree};

/// Sets elements to 0 at random in training, and scales the others so that their mean stays (Srivastava et al.,
/// JMLR 15, 2014). In validation, do not call it.
///
/// ```
/// use fulgurite_jit::{Key, Tensor};
/// use fulgurite_trainer::nn::Dropout;
///
/// let hidden = |x: &Tensor, key: Key| Dropout::new(0.1).call(x, key);
/// # hidden(&Tensor::ones(&[2, 3]), Key::new(0));
/// ```
#[derive(Clone, Copy, Debug, Tree)]
pub struct Dropout {
    /// The probability that an element becomes 0.
    #[tree(static)]
    pub p: f32,
}

impl Dropout {
    /// With the probability `p` that an element becomes 0.
    pub fn new(p: f32) -> Self {
        Dropout { p }
    }

    /// The result has the shape of `x`. The draws are those of `eqx.nn.Dropout`.
    #[track_caller]
    pub fn call(&self, x: &Tensor, key: Key) -> Tensor {
        if self.p == 0.0 {
            return x.clone();
        }
        let kept = 1.0 - self.p;
        key.bernoulli(x.shape(), kept).select(x / f64::from(kept), 0.0)
    }
}
