//! A table of vectors, looked up by number.

use fulgurite_jit::random::Key;
use fulgurite_jit::{IndexMode, Tensor, Tree};

/// A vector for each of a number of symbols.
///
/// ```
/// use fulgurite_jit::{Key, Tensor};
/// use fulgurite_trainer::nn::Embedding;
///
/// let letters = Embedding::new(26, 8, Key::new(0));
/// let word = Tensor::from_vec(&[3], vec![2i32, 0, 19])?;
/// assert_eq!(letters.call(&word).shape(), [3, 8]);
/// # Ok::<(), fulgurite_jit::Error>(())
/// ```
#[derive(Clone, Debug, Tree)]
pub struct Embedding {
    /// `[symbols, size]`.
    pub weight: Tensor,
}

impl Embedding {
    /// Vectors of `size` elements for `symbols` symbols, normally distributed, f32: the numbers that
    /// `eqx.nn.Embedding` draws.
    #[track_caller]
    pub fn new(symbols: usize, size: usize, key: Key) -> Self {
        Embedding { weight: key.normal(&[symbols, size]) }
    }

    /// Integers `[…]` give `[…, size]`. A number that is out of range reads the nearest symbol, as in Equinox.
    #[track_caller]
    pub fn call(&self, symbols: &Tensor) -> Tensor {
        self.weight.take_with(symbols, 0, IndexMode::Clip)
    }
}
