//! Runs that are equal to the bit: with one seed twice, stopped and resumed, killed and resumed.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fulgurite::prelude::*;
use fulgurite::trainer::Checkpoint;

/// Where the process that is to be killed keeps its files.
const FOLDER: &str = "DETERMINISM_FOLDER";

const STEPS: usize = 2_000;
const SAMPLES: usize = 5;
const POINTS: usize = 200;

/// A layer of the net of `examples/bnn`: every weight is `mu + softplus(rho) * epsilon`.
#[derive(Tree, Clone)]
struct Bayes {
    mu: Linear,
    rho: Linear,
}

impl Bayes {
    fn new(inp: usize, out: usize, key: Key) -> Self {
        let mu = Linear::new(inp, out, key);
        let rho = mu.map(&mut |leaf| Tensor::full(leaf.shape(), -3.0, DType::F32));
        Bayes { mu, rho }
    }

    fn draw(&self, key: &Key) -> Linear {
        let keys: [Key; 2] = key.split();
        let mut rho = leaves(&self.rho).into_iter().zip(&keys);
        self.mu.map(&mut |mu| match rho.next() {
            Some((rho, key)) => mu + rho.softplus() * key.normal(mu.shape()),
            None => mu.clone(),
        })
    }

    fn kl(&self) -> Tensor {
        let s = leaves(&self.rho)[0].softplus();
        (-s.log() + (s.square() + leaves(&self.mu)[0].square()) / 2.0 - 0.5).sum()
    }
}

/// The training of `examples/bnn`, on data that need no drawing.
#[derive(Clone)]
struct Regression;

impl LightningModule for Regression {
    type Model = Vec<Bayes>;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Self::Model {
        let keys: [Key; 5] = key.split();
        let sizes = [1, 51, 51, 51, 51, 1];
        sizes.windows(2).zip(keys).map(|(io, key)| Bayes::new(io[0], io[1], key)).collect()
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        adam(1e-3)
    }

    fn training_step(&self, layers: &Self::Model, (x, y): &Self::Batch, cx: &mut StepCx) -> Tensor {
        let net = |key: Tensor| {
            let keys: [Key; 5] = Key::wrap_key_data(key).split();
            let mut h = x.clone();
            for (n, (layer, key)) in layers.iter().zip(&keys).enumerate() {
                h = layer.draw(key).call(&if n > 0 { gelu(&h) } else { h });
            }
            h
        };
        let pred = vmap(net, 0)(cx.key().split_n(SAMPLES));
        let std = pred.std_axes(0).stop_gradient();
        let nll = ((y - pred.mean_axes(0)).square() * 0.5 / std.square()).sum() * POINTS;
        cx.log("nll", &nll);
        layers.iter().map(Bayes::kl).fold(nll, |sum, kl| sum + kl)
    }
}

fn data() -> Result<DataLoader<(Tensor, Tensor)>> {
    let x: Vec<f32> = (0..POINTS).map(|i| i as f32 / 100.0 - 1.0).collect();
    let y: Vec<f32> = x.iter().map(|x| x + (x * 6.0).sin() * 0.3).collect();
    let dataset = ArrayDataset::from_tree((Tensor::from_vec(&[POINTS, 1], x)?, Tensor::from_vec(&[POINTS, 1], y)?))?;
    Ok(DataLoader::new(dataset).batch_size(16).shuffle(true))
}

/// Trains up to `steps`, from a checkpoint or from the start; gives the path of the last checkpoint.
fn train(folder: &Path, steps: usize, from: Option<&Path>) -> Result<PathBuf> {
    let mut trainer = Trainer::new()
        .default_root_dir(folder)
        .seed(7)
        .max_steps(steps)
        .enable_progress_bar(false)
        .callback(ModelCheckpoint::last().every_n_train_steps(50));
    if let Some(path) = from {
        trainer = trainer.ckpt_path(path);
    }
    let result = trainer.fit(&Regression, &data()?)?;
    assert_eq!(result.step, steps);
    result.last_checkpoint.ok_or_else(|| Error::new("there is no checkpoint"))
}

#[test]
fn equal_runs_end_with_equal_bits() -> Result<()> {
    let folder = common::folder("determinism");
    let whole = std::fs::read(train(&folder, STEPS, None)?)?;
    let again = std::fs::read(train(&folder, STEPS, None)?)?;
    assert!(again == whole, "two runs with one seed");

    // In the middle of an epoch, which is 13 steps long.
    let first = train(&folder, 1_234, None)?;
    assert_eq!(Checkpoint::read(&first)?.step(), 1_234);
    let resumed = std::fs::read(train(&folder, STEPS, Some(&first))?)?;
    assert!(resumed == whole, "a run that was stopped and resumed");

    let killed = killed_run(&common::folder("determinism-killed"))?;
    let step = Checkpoint::read(&killed)?.step();
    let resumed = std::fs::read(train(&folder, STEPS, Some(&killed))?)?;
    assert!(resumed == whole, "a run that was killed, and resumed at step {step}");
    Ok(())
}

/// Starts the run in another process and kills that without a warning; gives the path of what it left.
fn killed_run(folder: &Path) -> Result<PathBuf> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--exact", "the_run_that_is_killed"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .spawn()?;
    let checkpoint = folder.join("default/version_0/checkpoints/last.safetensors");
    let start = Instant::now();
    while !checkpoint.exists() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Somewhere in the middle of its 2,000 steps: in one of them, or in writing a checkpoint.
    std::thread::sleep(Duration::from_millis(50));
    child.kill()?;
    child.wait()?;
    Ok(checkpoint)
}

/// Does nothing but in the process that [`killed_run`] starts.
#[test]
fn the_run_that_is_killed() -> Result<()> {
    match std::env::var_os(FOLDER) {
        Some(folder) => train(Path::new(&folder), STEPS, None).map(drop),
        None => Ok(()),
    }
}
