//! Times three training steps in Candle on this CPU: the same as in `../../workloads/mod.rs` and in `peers.py`, timed
//! the same way.
//!
//! `cargo run --release [-- NAME …]` prints one JSON object per workload: the median of five groups of steps, and what
//! the first step takes once the parameters are there. `compare.py --rust-peers` builds and runs it.

use std::time::Instant;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, loss::cross_entropy};

/// Runs a training step once, and fetches its loss.
type Step = Box<dyn FnMut() -> Result<f32>>;

const CPU: Device = Device::Cpu;

/// Forward, backward and Adam: AdamW without decay is Adam. The gradients are those of `loss`.
fn training(vars: Vec<Var>, loss: impl Fn() -> Result<Tensor> + 'static) -> Result<Step> {
    let mut adam = AdamW::new(vars, ParamsAdamW { weight_decay: 0.0, ..ParamsAdamW::default() })?;
    Ok(Box::new(move || {
        let loss = loss()?;
        adam.backward_step(&loss)?;
        loss.to_scalar()
    }))
}

fn normal(std: f64, shape: &[usize]) -> Result<Var> {
    Var::randn_f64(0.0, std, shape, DType::F32, &CPU)
}

/// A perceptron that classifies, with gelu between its layers.
fn mlp(sizes: &[usize], batch: usize) -> Result<Step> {
    let (mut vars, mut layers) = (Vec::new(), Vec::new());
    for io in sizes.windows(2) {
        let w = normal((io[0] as f64).powf(-0.5), &[io[1], io[0]])?;
        let b = Var::zeros(io[1], DType::F32, &CPU)?;
        layers.push(Linear::new(w.as_tensor().clone(), Some(b.as_tensor().clone())));
        vars.extend([w, b]);
    }
    let x = Tensor::randn(0f32, 1.0, (batch, sizes[0]), &CPU)?;
    let y = Tensor::rand(0f32, 10.0, batch, &CPU)?.to_dtype(DType::U32)?;
    training(vars, move || {
        let mut h = x.clone();
        for (n, layer) in layers.iter().enumerate() {
            h = layer.forward(&h)?;
            if n + 1 < layers.len() {
                h = h.gelu()?; // The tanh form; `gelu_erf` is the other.
            }
        }
        cross_entropy(&h, &y)
    })
}

/// A layer whose weights are normally distributed.
struct Bayes {
    wm: Var,
    wr: Var,
    bm: Var,
    br: Var,
}

/// `log(1 + exp(x))`, which Candle lacks; the spreads that go in are small.
fn softplus(x: &Tensor) -> Result<Tensor> {
    (x.exp()? + 1.0)?.log()
}

impl Bayes {
    fn new(i: usize, o: usize) -> Result<Bayes> {
        let spread = |shape: &[usize]| Var::from_tensor(&Tensor::full(-3f32, shape, &CPU)?);
        Ok(Bayes {
            wm: normal(((i + o) as f64).powf(-0.5), &[o, i])?,
            wr: spread(&[o, i])?,
            bm: normal(0.1, &[o])?,
            br: spread(&[o])?,
        })
    }

    /// `x` is `[draw, row, feature]`; each draw has its own sample of the weights.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let draws = x.dim(0)?;
        let (o, i) = self.wm.dims2()?;
        let sample = |mean: &Var, spread: &Var, shape: &[usize]| {
            let noise = Tensor::randn(0f32, 1.0, shape, &CPU)?;
            noise.broadcast_mul(&softplus(spread)?)?.broadcast_add(mean)
        };
        let w = sample(&self.wm, &self.wr, &[draws, o, i])?;
        let b = sample(&self.bm, &self.br, &[draws, 1, o])?;
        x.matmul(&w.t()?)?.broadcast_add(&b)
    }

    fn kl(&self) -> Result<Tensor> {
        let s = softplus(&self.wr)?;
        ((((s.sqr()? + self.wm.sqr()?)? / 2.0)? - s.log()?)? - 0.5)?.sum_all()
    }
}

/// JaxLightning's Bayesian net: five draws.
fn bnn() -> Result<Step> {
    let sizes = [1, 51, 51, 51, 51, 1];
    let layers = sizes.windows(2).map(|io| Bayes::new(io[0], io[1])).collect::<Result<Vec<_>>>()?;
    let vars = layers.iter().flat_map(|l| [&l.wm, &l.wr, &l.bm, &l.br]).cloned().collect();
    let (x, y) = (Tensor::randn(0f32, 1.0, (5, 16, 1), &CPU)?, Tensor::randn(0f32, 1.0, (16, 1), &CPU)?);
    training(vars, move || {
        let mut h = x.clone();
        for (n, layer) in layers.iter().enumerate() {
            h = layer.forward(&h)?;
            if n + 1 < layers.len() {
                h = h.gelu()?;
            }
        }
        let mean = h.mean(0)?;
        // Candle's `var` divides by one less; the loss wants the variance of these draws.
        let variance = h.detach().broadcast_sub(&mean.detach())?.sqr()?.mean(0)?;
        let fit = (((&y - mean)?.sqr()? * 0.5)? / variance)?.sum(D::Minus1)?.sum_all()?;
        layers.iter().try_fold((fit * 200.0)?, |sum, layer| sum + layer.kl()?)
    })
}

/// Microseconds per step: after two steps the median of five groups of 0.3 s, or of three steps if that is longer.
fn time(step: &mut Step) -> Result<f64> {
    step()?;
    let start = Instant::now();
    step()?;
    let count = ((0.3 / start.elapsed().as_secs_f64().max(1e-7)) as usize).max(3);
    let mut groups = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..count {
            step()?;
        }
        groups.push(start.elapsed().as_secs_f64() / count as f64);
    }
    groups.sort_by(f64::total_cmp);
    Ok(groups[2] * 1e6)
}

/// A workload by name, ready to run; `mlp@64` is `mlp` with a batch of 64.
fn workload(name: &str) -> Option<Result<Step>> {
    Some(match name {
        "bnn" => bnn(),
        "mlp_tiny" => mlp(&[8, 32, 32, 10], 16),
        "mlp" => mlp(&[784, 128, 64, 10], 32),
        _ => mlp(&[784, 128, 64, 10], name.strip_prefix("mlp@")?.parse().ok()?),
    })
}

fn main() -> Result<()> {
    let mut names: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if names.is_empty() {
        names = ["bnn", "mlp_tiny", "mlp"].map(String::from).to_vec();
    }
    for name in names {
        let Some(made) = workload(&name) else { continue };
        let mut step = made?;
        let start = Instant::now();
        let loss = step()?;
        let first = start.elapsed().as_secs_f64() * 1e3;
        let us = time(&mut step)?;
        // The loss goes to where it disturbs no program, and says that the step learns.
        eprintln!("{name}: loss {loss} at first, {} at last", step()?);
        println!("{{\"name\":\"{name}\",\"us\":{us:.3},\"first_ms\":{first:.3}}}");
    }
    Ok(())
}
