//! JaxLightning's Bayesian regression: `cargo run --release --example bnn`.
//!
//! A net whose weights are normal distributions is trained by sampling: each step draws five nets, runs them with
//! `vmap`, and follows the gradient of the evidence bound. Writes `runs/bnn/<version>/`: `metrics.csv`, a checkpoint,
//! and `fit.png`, the functions it believes in before and after.

#[path = "../common/mod.rs"]
mod common;
mod plot;

use clap::Parser;
use common::RunArgs;
use fulgurite::prelude::*;

/// Trains a Bayesian neural network on 200 points.
#[derive(Parser)]
struct Args {
    /// Training steps.
    #[arg(long, default_value_t = 4_000)]
    steps: usize,
    #[command(flatten)]
    run: RunArgs,
}

/// Monte Carlo samples per step, and points of data.
const SAMPLES: usize = 5;
const POINTS: usize = 200;

/// A linear layer whose every weight and bias is `mu + softplus(rho) * epsilon` with a normal `epsilon`.
#[derive(Tree, Clone)]
struct BayesLinear {
    weight_mu: Tensor,
    weight_rho: Tensor,
    bias_mu: Tensor,
    bias_rho: Tensor,
}

impl BayesLinear {
    fn new(inp: usize, out: usize, key: &Key) -> Self {
        let [wkey, bkey] = key.split();
        BayesLinear {
            weight_mu: wkey.normal(&[out, inp]) / ((out + inp) as f64).sqrt(),
            weight_rho: Tensor::full(&[out, inp], -3.0, DType::F32),
            bias_mu: bkey.normal(&[out]) * 0.1,
            bias_rho: Tensor::full(&[out], -3.0, DType::F32),
        }
    }

    /// One draw of the layer, applied to `x`.
    fn call(&self, x: &Tensor, key: &Key) -> Tensor {
        let [wkey, bkey] = key.split();
        let weight = &self.weight_mu + self.weight_rho.softplus() * wkey.normal(self.weight_mu.shape());
        let bias = &self.bias_mu + self.bias_rho.softplus() * bkey.normal(self.bias_mu.shape());
        x.matmul(&weight.t()) + bias
    }

    /// How far the weights are from a standard normal prior (Kullback-Leibler divergence).
    fn kl(&self) -> Tensor {
        let s = self.weight_rho.softplus();
        (-s.log() + (s.square() + self.weight_mu.square()) / 2.0 - 0.5).sum()
    }
}

/// One draw of the net, applied to `x`: f32[batch, 1] to f32[batch, 1].
fn net(layers: &[BayesLinear], x: &Tensor, key: &Key) -> Tensor {
    let keys: [Key; 5] = key.split();
    let mut h = x.clone();
    for (n, (layer, key)) in layers.iter().zip(&keys).enumerate() {
        h = layer.call(&h, key);
        if n + 1 < layers.len() {
            h = gelu(&h);
        }
    }
    h
}

/// Draws of the net, one for each row of `keys`: f32[keys, batch, 1].
fn draws(layers: &[BayesLinear], x: &Tensor, keys: Tensor) -> Tensor {
    vmap(|key: Tensor| net(layers, x, &Key::wrap_key_data(key)), 0)(keys)
}

#[derive(Clone)]
struct Regression;

impl LightningModule for Regression {
    type Model = Vec<BayesLinear>;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Self::Model {
        let sizes = [1, 51, 51, 51, 51, 1];
        let keys: [Key; 5] = key.split();
        (0..5).map(|i| BayesLinear::new(sizes[i], sizes[i + 1], &keys[i])).collect()
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        adam(1e-3)
    }

    fn training_step(&self, layers: &Self::Model, (x, y): &Self::Batch, cx: &mut StepCx) -> Tensor {
        let pred = draws(layers, x, cx.key().split_n(SAMPLES));
        let std = pred.std_axes(0).stop_gradient();
        let mse = (y - pred.mean_axes(0)).square();
        let nll = (&mse * 0.5 / std.square()).sum() * POINTS;
        let kl = layers.iter().map(BayesLinear::kl).fold(Tensor::scalar(0.0f32), |sum, kl| sum + kl);
        cx.log("nll", &nll);
        cx.log("kl", &kl);
        cx.log("std", std.mean());
        cx.log("mse", mse.mean());
        nll + kl
    }
}

/// `y = x + 0.3 sin 2π(x + ε) + 0.3 sin 4π(x + ε) + ε'`, standardised as JaxLightning does it: f32[200, 1] each.
fn data() -> Result<(Tensor, Tensor)> {
    #[jit]
    fn make(key: Key) -> (Tensor, Tensor) {
        let [noise_x, noise_y] = key.split();
        let ramp = Tensor::arange(DType::F32, POINTS) / (POINTS - 1);
        let x = &ramp * 0.9 - 0.35;
        let shifted = &x + noise_x.normal(&[POINTS]) * 0.01;
        let tau = std::f64::consts::TAU;
        let noise = noise_y.normal(&[POINTS]) * ramp * 0.2;
        let y = &x + (&shifted * tau).sin() * 0.3 + (&shifted * (2.0 * tau)).sin() * 0.3 + noise;
        let x = (&x - x.mean()) / x.var().sqrt();
        // As in the original, y is centred by the mean of the x that is centred already.
        let y = (&y - x.mean()) / y.var().sqrt();
        (x.reshape(&[POINTS, 1]), y.reshape(&[POINTS, 1]))
    }
    make(Key::new(7))
}

fn main() -> Result<()> {
    let args = Args::parse();
    let (x, y) = data()?;
    let loader = DataLoader::new(ArrayDataset::from_tree((x.clone(), y.clone()))?).batch_size(16).shuffle(true);
    let points: Vec<(f32, f32)> = x.to_vec()?.into_iter().zip(y.to_vec()?).collect();

    // 201 functions on [-4, 4] that the net believes in.
    let grid = jit(|(layers, key): (Vec<BayesLinear>, Key)| {
        let x = Tensor::arange(DType::F32, plot::GRID) / (plot::GRID - 1) * 8.0 - 4.0;
        draws(&layers, &x.reshape(&[plot::GRID, 1]), key.split_n(201)).squeeze(-1)
    });
    let start = jit(|key: Key| Regression.init(key)).call(Key::new(args.run.seed))?;
    let before = grid.call((start, Key::new(2)))?.into_ndarray::<f32>()?;

    let trainer = args.run.trainer("bnn").max_steps(args.steps).log_every_n_steps(10);
    let fit = trainer.fit(&Regression, &loader)?;

    let after = grid.call((fit.model, Key::new(2)))?.into_ndarray::<f32>()?;
    if let Some(folder) = fit.folder {
        plot::fit(&folder.join("fit.png"), &points, &before, &after)?;
    }
    Ok(())
}
