//! Times three training steps in Burn on this CPU: the same as in `../../workloads/mod.rs` and in `peers.py`, timed the
//! same way.
//!
//! `cargo run --release [-- NAME …]` prints one JSON object per workload: the median of five groups of steps, and what
//! the first step takes once the parameters are there. `-- --ndarray` takes Burn's older CPU backend instead of flex.
//! `compare.py --rust-peers` builds and runs it.

use std::time::Instant;

use burn::module::Param;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::prelude::*;
use burn::tensor::Distribution;
use burn::tensor::activation::{gelu_approximate, softplus};

/// Runs a training step once, and fetches its loss.
type Step = Box<dyn FnMut() -> f32>;

const NORMAL: Distribution = Distribution::Normal(0.0, 1.0);

/// Forward, backward and Adam.
fn training<M: Module + 'static>(model: M, loss: impl Fn(&M) -> Tensor<1> + 'static) -> Step {
    // Burn's own epsilon is a thousand times that of the others.
    let mut adam = AdamConfig::new().with_epsilon(1e-8).init();
    let mut model = Some(model);
    Box::new(move || {
        let current = model.take().expect("a step gives the model back");
        let loss = loss(&current);
        let grads = GradientsParams::from_grads(loss.backward(), &current);
        model = Some(adam.step(1e-3, current, grads));
        loss.into_scalar()
    })
}

/// A perceptron that classifies, with gelu between its layers.
fn mlp(sizes: &[usize], batch: usize, device: &Device) -> Step {
    let layer = |io: &[usize]| {
        let initializer = Initializer::Normal { mean: 0.0, std: (io[0] as f64).powf(-0.5) };
        let linear = LinearConfig::new(io[0], io[1]).with_initializer(initializer).init(device);
        Linear { bias: Some(Param::from_tensor(Tensor::zeros([io[1]], device))), ..linear }
    };
    let layers: Vec<Linear> = sizes.windows(2).map(layer).collect();
    let x = Tensor::<2>::random([batch, sizes[0]], NORMAL, device);
    let y = Tensor::<1>::random([batch], Distribution::Uniform(0.0, 10.0), device).int();
    let cross_entropy = CrossEntropyLossConfig::new().init(device);
    training(layers, move |layers| {
        let mut h = x.clone();
        for (n, layer) in layers.iter().enumerate() {
            h = layer.forward(h);
            if n + 1 < layers.len() {
                h = gelu_approximate(h);
            }
        }
        cross_entropy.forward(h, y.clone())
    })
}

/// A layer whose weights are normally distributed.
#[derive(Module, Debug)]
struct Bayes {
    wm: Param<Tensor<2>>,
    wr: Param<Tensor<2>>,
    bm: Param<Tensor<1>>,
    br: Param<Tensor<1>>,
}

impl Bayes {
    fn new(i: usize, o: usize, device: &Device) -> Bayes {
        let wm = Tensor::random([o, i], NORMAL, device) / ((i + o) as f64).sqrt();
        Bayes {
            wm: Param::from_tensor(wm),
            wr: Param::from_tensor(Tensor::full([o, i], -3.0, device)),
            bm: Param::from_tensor(Tensor::random([o], NORMAL, device) * 0.1),
            br: Param::from_tensor(Tensor::full([o], -3.0, device)),
        }
    }

    /// `x` is `[draw, row, feature]`; each draw has its own sample of the weights.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let device = x.device();
        let ([draws, _, i], [o]) = (x.dims(), self.bm.dims());
        let w = self.wm.val().unsqueeze()
            + softplus(self.wr.val(), 1.0).unsqueeze() * Tensor::<3>::random([draws, o, i], NORMAL, &device);
        let b = self.bm.val().unsqueeze()
            + softplus(self.br.val(), 1.0).unsqueeze() * Tensor::<3>::random([draws, 1, o], NORMAL, &device);
        x.matmul(w.swap_dims(1, 2)) + b
    }

    fn kl(&self) -> Tensor<1> {
        let s = softplus(self.wr.val(), 1.0);
        ((s.clone().square() + self.wm.val().square()) / 2.0 - s.log() - 0.5).sum()
    }
}

/// JaxLightning's Bayesian net: five draws.
fn bnn(device: &Device) -> Step {
    let sizes = [1, 51, 51, 51, 51, 1];
    let layers: Vec<Bayes> = sizes.windows(2).map(|io| Bayes::new(io[0], io[1], device)).collect();
    let x = Tensor::<3>::random([5, 16, 1], NORMAL, device);
    let y = Tensor::<3>::random([1, 16, 1], NORMAL, device);
    training(layers, move |layers| {
        let mut h = x.clone();
        for (n, layer) in layers.iter().enumerate() {
            h = layer.forward(h);
            if n + 1 < layers.len() {
                h = gelu_approximate(h);
            }
        }
        let variance = h.clone().detach().var_bias(0);
        let fit = ((y.clone() - h.mean_dim(0)).square() * 0.5 / variance).sum() * 200.0;
        layers.iter().fold(fit, |sum, layer| sum + layer.kl())
    })
}

/// Microseconds per step: after two steps the median of five groups of 0.3 s, or of three steps if that is longer.
fn time(step: &mut Step) -> f64 {
    step();
    let start = Instant::now();
    step();
    let count = ((0.3 / start.elapsed().as_secs_f64().max(1e-7)) as usize).max(3);
    let mut groups: Vec<f64> = (0..5)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..count {
                step();
            }
            start.elapsed().as_secs_f64() / count as f64
        })
        .collect();
    groups.sort_by(f64::total_cmp);
    groups[2] * 1e6
}

/// A workload by name, ready to run; `mlp@64` is `mlp` with a batch of 64.
fn workload(name: &str, device: &Device) -> Option<Step> {
    Some(match name {
        "bnn" => bnn(device),
        "mlp_tiny" => mlp(&[8, 32, 32, 10], 16, device),
        "mlp" => mlp(&[784, 128, 64, 10], 32, device),
        _ => mlp(&[784, 128, 64, 10], name.strip_prefix("mlp@")?.parse().ok()?, device),
    })
}

fn main() {
    let (flags, mut names): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|a| a.starts_with("--"));
    if names.is_empty() {
        names = ["bnn", "mlp_tiny", "mlp"].map(String::from).to_vec();
    }
    #[allow(deprecated)] // Burn means to drop ndarray for flex one day.
    let device = if flags.iter().any(|a| a == "--ndarray") { Device::ndarray() } else { Device::flex() }.autodiff();
    for name in names {
        let Some(mut step) = workload(&name, &device) else { continue };
        let start = Instant::now();
        let loss = step();
        let first = start.elapsed().as_secs_f64() * 1e3;
        let us = time(&mut step);
        // The loss goes to where it disturbs no program, and says that the step learns.
        eprintln!("{name}: loss {loss} at first, {} at last", step());
        println!("{{\"name\":\"{name}\",\"us\":{us:.3},\"first_ms\":{first:.3}}}");
    }
}
