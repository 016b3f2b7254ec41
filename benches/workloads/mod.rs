//! The workloads of `benches/peers/peers.py`, each one training step: forward, backward, Adam. Shared by the
//! measurements in `benches/` and by the tests that count kernels.

// A model that is a vector is a `Vec` wherever it goes, and steps have the types they have.
#![allow(clippy::ptr_arg, clippy::type_complexity)]

use fulgurite::compiler::trace::tracing;
use fulgurite::prelude::*;
use fulgurite::trainer::optim::{Adam, AdamState, Optimizer, adam, apply_updates};
use fulgurite::{gelu, relu, scan};

mod cnn;
mod kernels;
mod networks;
mod time;

pub use kernels::{OfSize, Run};
pub use time::median_seconds;

use kernels::{here, kernel, repeated};
use networks::{graph_loss, graph_state, transformer_flops, transformer_loss, transformer_state};

/// What a workload needs to be run and looked at.
pub struct Workload {
    /// The name in `peers.py`.
    pub name: &'static str,
    /// Makes the state and the compiled step.
    pub start: fn() -> Run,
    /// Every stage of the step, without running it.
    pub lower: fn() -> Result<Lowered>,
    /// Floating point operations of a step (matrix products only, or elementwise where there are none).
    pub flops: f64,
    /// Bytes that a step must move at least: state read and written once, inputs read.
    pub bytes: f64,
}

use fulgurite::{Lowered, lower};

/// A step on parameters, Adam's state and a batch.
fn training<P, B>(
    lr: f64,
    loss: impl Fn(&P, &B) -> Tensor + Clone + Send + Sync + 'static,
) -> impl Fn((P, AdamState<P>), B) -> ((P, AdamState<P>), Tensor) + Send + Sync + Clone
where
    P: Tree + Clone + Send + Sync + 'static,
    B: Tree,
{
    let optimiser: Adam = adam(lr);
    move |(params, state), batch| {
        let (value, grads) = value_and_grad(|p: &P| loss(p, &batch))(&params);
        let (updates, state) = optimiser.update(grads, state, &params);
        ((apply_updates(params, updates), state), value)
    }
}

fn start<P, B>(params: P, batch: B, lr: f64, loss: impl Fn(&P, &B) -> Tensor + Clone + Send + Sync + 'static) -> Run
where
    P: Tree + Clone + Send + Sync + 'static,
    B: Tree + Clone + Send + Sync + 'static,
{
    assert!(!tracing());
    let state = adam(lr).init(&params);
    let mut step = Jit::with_borrowed("step", training(lr, loss)).bind((params, state));
    let batch = here(batch);
    Box::new(move || step.call(batch.clone()).map(drop))
}

fn look<P, B>(
    params: P,
    batch: B,
    lr: f64,
    loss: impl Fn(&P, &B) -> Tensor + Clone + Send + Sync + 'static,
) -> Result<Lowered>
where
    P: Tree + Clone + Send + Sync + 'static,
    B: Tree + Clone + Send + Sync + 'static,
{
    let state = adam(lr).init(&params);
    let step = training(lr, loss);
    lower(move |(state, batch): ((P, AdamState<P>), B)| step(state, batch), &((params, state), batch))
}

// ---- dispatch

fn dispatch_start() -> Run {
    repeated("dispatch", Tensor::ones(&[4]), |x: Tensor| x + 1.0)
}

fn dispatch_lower() -> Result<Lowered> {
    lower(|x: Tensor| x + 1.0, &Tensor::ones(&[4]))
}

// ---- bnn

/// A layer whose weights are normally distributed.
#[derive(Tree, Clone)]
pub(crate) struct Bayes {
    wm: Tensor,
    wr: Tensor,
    bm: Tensor,
    br: Tensor,
}

impl Bayes {
    fn new(inp: usize, out: usize, key: &Key) -> Self {
        let [a, b] = key.split();
        Bayes {
            wm: a.normal(&[out, inp]) / ((inp + out) as f64).sqrt(),
            wr: Tensor::full(&[out, inp], -3.0, DType::F32),
            bm: b.normal(&[out]) * 0.1,
            br: Tensor::full(&[out], -3.0, DType::F32),
        }
    }

    fn call(&self, x: &Tensor, key: &Key) -> Tensor {
        let w = &self.wm + self.wr.softplus() * key.normal(self.wm.shape());
        let b = &self.bm + self.br.softplus() * key.normal(self.bm.shape());
        x.matmul(&w.t()) + b
    }

    fn kl(&self) -> Tensor {
        let s = self.wr.softplus();
        (-s.log() + (s.square() + self.wm.square()) / 2.0 - 0.5).sum()
    }
}

type BnnBatch = (Tensor, Tensor, Tensor);

fn bnn_loss(layers: &Vec<Bayes>, (x, y, keys): &BnnBatch) -> Tensor {
    let net = |(layers, x, key): (Vec<Bayes>, Tensor, Tensor)| {
        let key = Key::wrap_key_data(key);
        let mut h = x;
        for (n, layer) in layers.iter().enumerate() {
            h = layer.call(&h, &key.fold_in(n as u32));
            if n + 1 < layers.len() {
                h = gelu(&h);
            }
        }
        h
    };
    let pred = vmap(net, (None, 0, 0))((layers.clone(), x.clone(), keys.clone()));
    let std = pred.std_axes(0).stop_gradient();
    let mse = (y - pred.mean_axes(0)).square();
    let nll = (mse * 0.5 / std.square()).sum() * 200.0;
    layers.iter().fold(nll, |sum, layer| sum + layer.kl())
}

fn bnn_state(rows: usize) -> (Vec<Bayes>, BnnBatch) {
    let sizes = [1, 51, 51, 51, 51, 1];
    let keys: [Key; 5] = Key::new(0).split();
    let layers = (0..5).map(|i| Bayes::new(sizes[i], sizes[i + 1], &keys[i])).collect();
    let x = Key::new(1).normal(&[5, rows, 1]);
    let y = Key::new(2).normal(&[rows, 1]);
    (layers, (x, y, Key::new(3).split_n(5)))
}

fn bnn_start() -> Run {
    let (params, batch) = bnn_state(16);
    start(params, batch, 1e-3, bnn_loss)
}

fn bnn_lower() -> Result<Lowered> {
    let (params, batch) = bnn_state(16);
    look(params, batch, 1e-3, bnn_loss)
}

// ---- mlp

fn mlp_loss(layers: &Vec<(Tensor, Tensor)>, (x, y): &(Tensor, Tensor)) -> Tensor {
    let mut h = x.clone();
    for (n, (w, b)) in layers.iter().enumerate() {
        h = h.matmul(w) + b;
        if n + 1 < layers.len() {
            h = gelu(&h);
        }
    }
    fulgurite::trainer::loss::cross_entropy(&h, y).mean()
}

type MlpState = (Vec<(Tensor, Tensor)>, (Tensor, Tensor));

fn mlp_state(sizes: &[usize], batch: usize) -> MlpState {
    let layers = sizes
        .windows(2)
        .enumerate()
        .map(|(n, io)| {
            let w = Key::new(n as u64).normal(&[io[0], io[1]]) / (io[0] as f64).sqrt();
            (w, Tensor::zeros(&[io[1]]))
        })
        .collect();
    let x = Key::new(11).normal(&[batch, sizes[0]]);
    (layers, (x, Key::new(12).randint(&[batch], 0, 10)))
}

/// The `mlp` workload with another batch size.
pub fn mlp_with_batch(batch: usize) -> Run {
    let (params, data) = mlp_state(&[784, 128, 64, 10], batch);
    start(params, data, 1e-3, mlp_loss)
}

fn mlp_start() -> Run {
    mlp_with_batch(32)
}

fn mlp_lower() -> Result<Lowered> {
    let (params, data) = mlp_state(&[784, 128, 64, 10], 32);
    look(params, data, 1e-3, mlp_loss)
}

/// In f64, where the others are in f32.
fn mlp_f64_state() -> MlpState {
    let (layers, (x, y)) = mlp_state(&[784, 128, 64, 10], 32);
    let double = |x: &Tensor| x.convert(DType::F64);
    (layers.iter().map(|(w, b)| (double(w), double(b))).collect(), (double(&x), y))
}

fn mlp_f64_start() -> Run {
    let (params, data) = mlp_f64_state();
    start(params, data, 1e-3, mlp_loss)
}

fn mlp_f64_lower() -> Result<Lowered> {
    let (params, data) = mlp_f64_state();
    look(params, data, 1e-3, mlp_loss)
}

fn mlp_tiny_start() -> Run {
    let (params, data) = mlp_state(&[8, 32, 32, 10], 16);
    start(params, data, 1e-3, mlp_loss)
}

fn mlp_tiny_lower() -> Result<Lowered> {
    let (params, data) = mlp_state(&[8, 32, 32, 10], 16);
    look(params, data, 1e-3, mlp_loss)
}

// ---- adam_many

fn adam_many_state() -> (Vec<Tensor>, ()) {
    ((0..100).map(|i| Key::new(i).normal(&[1000])).collect(), ())
}

fn adam_many_loss(params: &Vec<Tensor>, (): &()) -> Tensor {
    let squares = params.iter().map(|p| p.square().sum());
    squares.reduce(|a, b| a + b).unwrap_or_else(|| Tensor::zeros(&[]))
}

fn adam_many_start() -> Run {
    let (params, batch) = adam_many_state();
    start(params, batch, 1e-3, adam_many_loss)
}

fn adam_many_lower() -> Result<Lowered> {
    let (params, batch) = adam_many_state();
    look(params, batch, 1e-3, adam_many_loss)
}

// ---- mixer; its two patch convolutions are a reshape and a product

#[derive(Tree, Clone)]
struct MixerBlock {
    p1: Tensor,
    pb1: Tensor,
    p2: Tensor,
    pb2: Tensor,
    h1: Tensor,
    hb1: Tensor,
    h2: Tensor,
    hb2: Tensor,
    g1: Tensor,
    b1: Tensor,
    g2: Tensor,
    b2: Tensor,
}

/// The score model of JaxLightning's second example.
#[derive(Tree, Clone)]
pub(crate) struct Mixer {
    cin: Tensor,
    cinb: Tensor,
    cout: Tensor,
    coutb: Tensor,
    ng: Tensor,
    nb: Tensor,
    blocks: Vec<MixerBlock>,
}

fn mixer_state(batch: usize) -> (Mixer, (Tensor, Key)) {
    let (c, p, h) = (64, 49, 512);
    let mut count = 0;
    let mut n = |shape: &[usize]| {
        count += 1;
        Key::new(count).normal(shape) * 0.05
    };
    let (zeros, ones) = (Tensor::zeros, Tensor::ones);
    let blocks = (0..4)
        .map(|_| MixerBlock {
            p1: n(&[p, h]),
            pb1: zeros(&[h]),
            p2: n(&[h, p]),
            pb2: zeros(&[p]),
            h1: n(&[c, h]),
            hb1: zeros(&[h]),
            h2: n(&[h, c]),
            hb2: zeros(&[c]),
            g1: ones(&[c, p]),
            b1: zeros(&[c, p]),
            g2: ones(&[p, c]),
            b2: zeros(&[p, c]),
        })
        .collect();
    let mixer = Mixer {
        cin: n(&[c, 2, 4, 4]),
        cinb: zeros(&[c, 1]),
        cout: n(&[1, c, 4, 4]),
        coutb: zeros(&[1, 1, 1]),
        ng: ones(&[c, p]),
        nb: zeros(&[c, p]),
        blocks,
    };
    (mixer, (Key::new(1001).normal(&[batch, 1, 28, 28]), Key::new(5)))
}

fn norm(x: &Tensor, g: &Tensor, b: &Tensor) -> Tensor {
    (x - x.mean()) * (x.var() + 1e-5).rsqrt() * g + b
}

impl Mixer {
    /// `t`: f32\[\], `y`: f32\[1, 28, 28\].
    fn call(&self, t: &Tensor, y: &Tensor) -> Tensor {
        let t = (t / 10.0).broadcast_to(&[1, 28, 28]);
        let y = Tensor::concat(&[y, &t], 0);
        // A convolution of 4x4 patches with stride 4: [2, 7, 4, 7, 4] -> [2·4·4, 7·7].
        let patches = y.reshape(&[2, 7, 4, 7, 4]).transpose(&[0, 2, 4, 1, 3]).reshape(&[32, 49]);
        let mut y = self.cin.reshape(&[64, 32]).matmul(&patches) + &self.cinb;
        for b in &self.blocks {
            let h = norm(&y, &b.g1, &b.b1);
            y = y + relu(&(h.matmul(&b.p1) + &b.pb1)).matmul(&b.p2) + &b.pb2;
            y = y.t();
            let h = norm(&y, &b.g2, &b.b2);
            y = y + relu(&(h.matmul(&b.h1) + &b.hb1)).matmul(&b.h2) + &b.hb2;
            y = y.t();
        }
        let y = norm(&y, &self.ng, &self.nb);
        // The transposed convolution: each of the 49 positions gives a 4x4 patch.
        let out = self.cout.reshape(&[64, 16]).t().matmul(&y);
        out.reshape(&[4, 4, 7, 7]).transpose(&[2, 0, 3, 1]).reshape(&[1, 28, 28]) + &self.coutb
    }
}

fn mixer_loss(mixer: &Mixer, (data, key): &(Tensor, Key)) -> Tensor {
    let batch = data.shape()[0];
    let [tk, lk] = key.split();
    let width = 10.0 / batch as f32;
    let t = tk.uniform(&[batch], 0.0, width) + Tensor::arange(DType::F32, batch) * width;
    let single = |(mixer, data, t, key): (Mixer, Tensor, Tensor, Tensor)| {
        let mean = &data * (&t * -0.5).exp();
        let weight = 1.0 - (-&t).exp();
        let std = weight.maximum(1e-5).sqrt();
        let noise = Key::wrap_key_data(key).normal(data.shape());
        let pred = mixer.call(&t, &(mean + &std * &noise));
        weight * (pred + noise / std).square().mean()
    };
    vmap(single, (None, 0, 0, 0))((mixer.clone(), data.clone(), t, lk.split_n(batch))).mean()
}

fn mixer_start() -> Run {
    let (params, batch) = mixer_state(64);
    start(params, batch, 3e-4, mixer_loss)
}

fn mixer_lower() -> Result<Lowered> {
    let (params, batch) = mixer_state(64);
    look(params, batch, 3e-4, mixer_loss)
}

fn mixer_b4_start() -> Run {
    let (params, batch) = mixer_state(4);
    start(params, batch, 3e-4, mixer_loss)
}

fn mixer_b4_lower() -> Result<Lowered> {
    let (params, batch) = mixer_state(4);
    look(params, batch, 3e-4, mixer_loss)
}

// ---- networks

fn transformer_start() -> Run {
    let (params, batch) = transformer_state(12);
    start(params, batch, 1e-3, transformer_loss)
}

fn transformer_lower() -> Result<Lowered> {
    let (params, batch) = transformer_state(12);
    look(params, batch, 1e-3, transformer_loss)
}

fn graph_start() -> Run {
    let (params, batch) = graph_state();
    start(params, batch, 1e-3, graph_loss)
}

fn graph_lower() -> Result<Lowered> {
    let (params, batch) = graph_state();
    look(params, batch, 1e-3, graph_loss)
}

// ---- elementwise

fn elementwise(x: &Tensor, g: &Tensor, b: &Tensor) -> Tensor {
    let m = x.mean_keep(-1);
    let v = x.var_keep(-1);
    let y = (x - m) * (v + 1e-5).rsqrt() * g + b;
    let y = gelu(&y);
    let y = y.tanh() + y.sigmoid() * &y;
    softmax(&y, -1)
}

fn elementwise_args(rows: usize, columns: usize) -> (Tensor, Tensor, Tensor) {
    (Key::new(0).normal(&[rows, columns]), Tensor::ones(&[columns]), Tensor::zeros(&[columns]))
}

fn elementwise_run(rows: usize, columns: usize) -> Run {
    let args = elementwise_args(rows, columns);
    repeated("elementwise", args, |(x, g, b): (Tensor, Tensor, Tensor)| elementwise(&x, &g, &b))
}

fn elementwise_lower(rows: usize, columns: usize) -> Result<Lowered> {
    lower(|(x, g, b): (Tensor, Tensor, Tensor)| elementwise(&x, &g, &b), &elementwise_args(rows, columns))
}

// ---- scan

/// A thousand trips of a small body.
fn recurrence(h: Tensor, w: &Tensor, xs: Tensor) -> Tensor {
    scan(|h: Tensor, x: Tensor| ((h * w + x).tanh(), ()), h, xs).0
}

fn scan_args() -> (Tensor, Tensor, Tensor) {
    (Tensor::zeros(&[16]), Tensor::full(&[16], 0.9, DType::F32), Key::new(0).normal(&[1000, 16]))
}

fn scan_start() -> Run {
    repeated("scan", scan_args(), |(h, w, xs): (Tensor, Tensor, Tensor)| recurrence(h, &w, xs))
}

fn scan_lower() -> Result<Lowered> {
    lower(|(h, w, xs): (Tensor, Tensor, Tensor)| recurrence(h, &w, xs), &scan_args())
}

/// All workloads, in the order of `peers.py`. FLOPs and bytes are derived in `benches/README.md`.
pub const WORKLOADS: &[Workload] = &[
    Workload { name: "dispatch", start: dispatch_start, lower: dispatch_lower, flops: 4.0, bytes: 32.0 },
    Workload { name: "bnn", start: bnn_start, lower: bnn_lower, flops: 3.79e6, bytes: 390e3 },
    Workload { name: "mlp_tiny", start: mlp_tiny_start, lower: mlp_tiny_lower, flops: 145.4e3, bytes: 40.8e3 },
    Workload { name: "mlp", start: mlp_start, lower: mlp_lower, flops: 14.54e6, bytes: 2.73e6 },
    Workload { name: "mlp_f64", start: mlp_f64_start, lower: mlp_f64_lower, flops: 14.54e6, bytes: 5.35e6 },
    Workload { name: "adam_many", start: adam_many_start, lower: adam_many_lower, flops: 1.7e6, bytes: 2.4e6 },
    Workload { name: "cnn", start: || cnn::with_batch(16), lower: cnn::lowered, flops: 254.9e6, bytes: 781e3 },
    Workload { name: "mixer", start: mixer_start, lower: mixer_lower, flops: 9.91e9, bytes: 12.8e6 },
    Workload { name: "mixer_b4", start: mixer_b4_start, lower: mixer_b4_lower, flops: 619e6, bytes: 12.7e6 },
    Workload { name: "transformer", start: transformer_start, lower: transformer_lower, flops: 3.964e9, bytes: 19.6e6 },
    Workload { name: "graph", start: graph_start, lower: graph_lower, flops: 47.2e6, bytes: 342e3 },
    Workload {
        name: "elementwise",
        start: || elementwise_run(64, 512),
        lower: || elementwise_lower(64, 512),
        flops: 3.3e6,
        bytes: 266e3,
    },
    Workload {
        name: "elementwise_big",
        start: || elementwise_run(4096, 1024),
        lower: || elementwise_lower(4096, 1024),
        flops: 420e6,
        bytes: 33.6e6,
    },
    Workload { name: "scan", start: scan_start, lower: scan_lower, flops: 352e3, bytes: 64.2e3 },
];

/// The workload or kernel `name` of another size, if it has one: the batch of a training step; the rows of
/// `elementwise` and `elementwise_big`; the size of a single kernel (`product`, `axpy`, `tanh`, `row_sum`,
/// `column_sum`, `softmax`, `layer_norm`). FLOPs and bytes are derived in `benches/README.md`.
pub fn with_size(name: &str, size: usize) -> Option<OfSize> {
    let n = size as f64;
    let elementwise = |columns: usize| {
        let elements = n * columns as f64;
        (elementwise_run(size, columns), 100.0 * elements, 8.0 * (elements + columns as f64))
    };
    let (run, flops, bytes) = match name {
        "mlp" => (mlp_with_batch(size), 454_400.0 * n, 24.0 * 109_386.0 + 3_140.0 * n),
        "mlp_tiny" => {
            let (params, data) = mlp_state(&[8, 32, 32, 10], size);
            (start(params, data, 1e-3, mlp_loss), 9_088.0 * n, 24.0 * 1_674.0 + 36.0 * n)
        }
        "bnn" => {
            let (params, data) = bnn_state(size);
            (start(params, data, 1e-3, bnn_loss), 236_640.0 * n, 24.0 * 16_220.0 + 24.0 * n)
        }
        "cnn" => (cnn::with_batch(size), 15_929_088.0 * n, 24.0 * 24_346.0 + 12_292.0 * n),
        "mixer" => {
            let (params, data) = mixer_state(size);
            (start(params, data, 3e-4, mixer_loss), 154_843_136.0 * n, 24.0 * 526_981.0 + 3_136.0 * n)
        }
        "transformer" => {
            let (params, data) = transformer_state(size);
            (start(params, data, 1e-3, transformer_loss), transformer_flops(size), 19.6e6)
        }
        "elementwise" => elementwise(512),
        "elementwise_big" => elementwise(1024),
        _ => return kernel(name, size),
    };
    Some(OfSize { run, flops, bytes })
}
