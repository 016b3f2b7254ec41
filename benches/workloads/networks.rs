//! Training steps of networks that look things up: a transformer on letters, a graph network.
//!
//! Their twins in JAX and PyTorch are in `benches/peers/peers.py`, with the same sizes.

use fulgurite::prelude::*;
use fulgurite::trainer::nn::{Embedding, LayerNorm, MultiheadAttention};

// ---- transformer: batch 12, 64 letters of 65, 4 layers of 128 features, 4 heads

#[derive(Tree, Clone)]
struct Block {
    norm: LayerNorm,
    attention: MultiheadAttention,
    hidden_norm: LayerNorm,
    hidden: Linear,
    out: Linear,
}

#[derive(Tree, Clone)]
pub(crate) struct Transformer {
    letters: Embedding,
    positions: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    out: Linear,
}

const LETTERS: usize = 65;
const CONTEXT: usize = 64;
const WIDTH: usize = 128;

impl Transformer {
    fn new() -> Self {
        let block = |seed: u64| {
            let [attention, hidden, out] = Key::new(seed).split();
            Block {
                norm: LayerNorm::new(&[WIDTH]),
                attention: MultiheadAttention::new(4, WIDTH, attention),
                hidden_norm: LayerNorm::new(&[WIDTH]),
                hidden: Linear::new(WIDTH, 4 * WIDTH, hidden),
                out: Linear::new(4 * WIDTH, WIDTH, out),
            }
        };
        Transformer {
            letters: Embedding::new(LETTERS, WIDTH, Key::new(10)),
            positions: Key::new(11).normal(&[CONTEXT, WIDTH]) * 0.02,
            blocks: (0..4).map(block).collect(),
            norm: LayerNorm::new(&[WIDTH]),
            out: Linear::new(WIDTH, LETTERS, Key::new(12)),
        }
    }

    /// i32\[context\] to \[context, letters\].
    fn call(&self, letters: &Tensor) -> Tensor {
        let is_past = Tensor::full(&[CONTEXT, CONTEXT], 1.0, DType::Bool).tril();
        let mut x = self.letters.call(letters) + &self.positions;
        for block in &self.blocks {
            let seen = block.norm.call(&x);
            x = x + block.attention.call(&seen, &seen, &seen, Some(&is_past));
            let hidden = gelu(&block.hidden.call(&block.hidden_norm.call(&x)));
            x = x + block.out.call(&hidden);
        }
        self.out.call(&self.norm.call(&x))
    }
}

pub(crate) fn transformer_state(batch: usize) -> (Transformer, (Tensor, Tensor)) {
    let letters = |seed: u64| Key::new(seed).randint(&[batch, CONTEXT], 0, LETTERS as i64);
    (Transformer::new(), (letters(20), letters(21)))
}

pub(crate) fn transformer_loss(model: &Transformer, (x, y): &(Tensor, Tensor)) -> Tensor {
    let logits = vmap(|(model, x): (Transformer, Tensor)| model.call(&x), (None, 0))((model.clone(), x.clone()));
    fulgurite::trainer::loss::cross_entropy(&logits, y).mean()
}

/// Multiplications and additions of its products: forward, and twice that backward.
pub(crate) fn transformer_flops(batch: usize) -> f64 {
    let (t, d) = (CONTEXT as f64, WIDTH as f64);
    let of_letter = 4.0 * (12.0 * d * d + 2.0 * t * d) + d * LETTERS as f64;
    3.0 * 2.0 * batch as f64 * t * of_letter
}

// ---- graph: 256 nodes of 32 features, 1,024 edges, three rounds of messages, a score for each of 16 graphs

#[derive(Tree, Clone)]
struct Round {
    message: Linear,
    update: Linear,
}

/// A network that sends messages along edges and adds them up at nodes.
#[derive(Tree, Clone)]
pub(crate) struct GraphNet {
    rounds: Vec<Round>,
    out: Linear,
}

const NODES: usize = 256;
const EDGES: usize = 1024;
const GRAPHS: usize = 16;
const FEATURES: usize = 32;

/// Features of the nodes, the edges' ends, the nodes' graphs, the graphs' scores.
pub(crate) type Graphs = (Tensor, Tensor, Tensor, Tensor, Tensor);

pub(crate) fn graph_state() -> (GraphNet, Graphs) {
    let round = |seed: u64| {
        let [message, update] = Key::new(seed).split();
        let (message, update) =
            (Linear::new(2 * FEATURES, FEATURES, message), Linear::new(2 * FEATURES, FEATURES, update));
        Round { message, update }
    };
    let net = GraphNet { rounds: (0..3).map(round).collect(), out: Linear::new(FEATURES, 1, Key::new(5)) };
    let ends = |seed: u64| Key::new(seed).randint(&[EDGES], 0, NODES as i64);
    let graphs = Tensor::iota(DType::I32, &[NODES], 0).floor_divide((NODES / GRAPHS) as i32);
    let data = (Key::new(6).normal(&[NODES, FEATURES]), ends(7), ends(8), graphs, Key::new(9).normal(&[GRAPHS, 1]));
    (net, data)
}

pub(crate) fn graph_loss(net: &GraphNet, (x, from, to, graphs, scores): &Graphs) -> Tensor {
    let sums = |x: &Tensor, at: &Tensor, n: usize| Tensor::zeros(&[n, x.shape()[1]]).at(at).add(x);
    let mut x = x.clone();
    for round in &net.rounds {
        let ends = Tensor::concat(&[&x.at(from).get(), &x.at(to).get()], 1);
        let received = sums(&fulgurite::relu(&round.message.call(&ends)), to, NODES);
        x = fulgurite::relu(&round.update.call(&Tensor::concat(&[&x, &received], 1)));
    }
    (net.out.call(&sums(&x, graphs, GRAPHS)) - scores).square().mean()
}
