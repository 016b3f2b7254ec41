//! The transformer: letters in, the logits of the next letter out, and a loop that writes.

use fulgurite::prelude::*;
use fulgurite::scan;
use fulgurite::trainer::nn::{Dropout, Embedding, LayerNorm, MultiheadAttention};

/// Attention to the past and a hidden layer, each added to what comes in, which they see normalised.
#[derive(Tree, Clone)]
struct Block {
    norm: LayerNorm,
    attention: MultiheadAttention,
    hidden_norm: LayerNorm,
    hidden: Linear,
    out: Linear,
}

impl Block {
    fn new(width: usize, heads: usize, key: Key) -> Self {
        let [attention, hidden, out] = key.split();
        Block {
            norm: LayerNorm::new(&[width]),
            attention: MultiheadAttention::new(heads, width, attention),
            hidden_norm: LayerNorm::new(&[width]),
            hidden: Linear::new(width, 4 * width, hidden),
            out: Linear::new(4 * width, width, out),
        }
    }

    fn call(&self, x: &Tensor, drop: &mut dyn FnMut(Tensor) -> Tensor) -> Tensor {
        let n = x.shape()[0];
        let is_past = Tensor::full(&[n, n], 1.0, DType::Bool).tril();
        let seen = self.norm.call(x);
        let x = x + drop(self.attention.call(&seen, &seen, &seen, Some(&is_past)));
        let hidden = gelu(&self.hidden.call(&self.hidden_norm.call(&x)));
        x + drop(self.out.call(&hidden))
    }
}

#[derive(Tree, Clone)]
pub(crate) struct Transformer {
    letters: Embedding,
    /// `[context, width]`.
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    out: Linear,
}

impl Transformer {
    pub(crate) fn new(
        alphabet: usize,
        context: usize,
        width: usize,
        layers: usize,
        heads: usize,
        key: Key,
    ) -> Transformer {
        let [letters, positions, blocks, out] = key.split();
        let keys = blocks.split_n(layers);
        let block = |i| Block::new(width, heads, Key::wrap_key_data(keys.index_in_dim(i, 0)));
        Transformer {
            letters: Embedding { weight: letters.normal(&[alphabet, width]) * 0.02 },
            positions: positions.normal(&[context, width]) * 0.02,
            blocks: (0..layers).map(block).collect(),
            norm: LayerNorm::new(&[width]),
            out: Linear::new(width, alphabet, out),
        }
    }

    /// Letters, i32\[context\], to the logits of what follows each, \[context, alphabet\]. In training with a key, and
    /// the part of the features that is dropped.
    pub(crate) fn call(&self, letters: &Tensor, dropout: Option<(Key, f32)>) -> Tensor {
        let mut count = 0;
        let mut drop = |x: Tensor| {
            count += 1;
            dropout.as_ref().map_or(x.clone(), |(key, p)| Dropout::new(*p).call(&x, key.fold_in(count)))
        };
        let x = drop(self.letters.call(letters) + &self.positions);
        let x = self.blocks.iter().fold(x, |x, block| block.call(&x, &mut drop));
        self.out.call(&self.norm.call(&x))
    }

    /// So many letters, i32, each drawn from what the transformer expects after those before; it begins with a line
    /// break, letter 0.
    pub(crate) fn write(&self, letters: usize, temperature: f64, key: Key) -> Tensor {
        let context = self.positions.shape()[0];
        // What has been written lies at the start of the window until it is full; then it moves.
        let start = (Tensor::zeros(&[context]).convert(DType::I32), Tensor::scalar(0i32));
        let keys = key.split_n(letters);
        let step = |(window, last): (Tensor, Tensor), key: Tensor| {
            let logits = self.call(&window, None).dynamic_index_in_dim(&last, 0);
            let letter = Key::wrap_key_data(key).categorical(&(logits / temperature));
            let is_full = last.equal(context as i32 - 1);
            let moved = is_full.broadcast_to(&[context]).select(window.roll(-1, 0), &window);
            let last = (&last + 1).minimum(context as i32 - 1);
            let window = moved.dynamic_update_slice(&letter.reshape(&[1]), std::slice::from_ref(&last));
            ((window, last), letter)
        };
        scan(step, start, keys).1
    }
}
