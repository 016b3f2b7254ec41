//! Handwritten digits: `cargo run --release --example mnist -- --data FOLDER_OF_MNIST`.
//!
//! A 784-128-10 classifier with validation, checkpoints and resumption. Ctrl-C ends it with a checkpoint; go on with
//! `--resume runs/mnist/version_0/checkpoints/last.safetensors`. Writes `runs/mnist/<version>/`: `metrics.csv`, the
//! last and the best checkpoint, and `digits.png`, the accuracy over the steps and what the net reads.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/metrics.rs"]
mod metrics;
mod plot;

use std::path::PathBuf;

use clap::Parser;
use common::RunArgs;
use fulgurite::prelude::*;
use fulgurite::trainer::data::MnistData;
use fulgurite::trainer::optim::schedule::cosine_decay;

/// Trains a classifier of handwritten digits.
#[derive(Parser)]
struct Args {
    /// The folder with the IDX files of MNIST, plain or gzipped.
    #[arg(long, default_value = "data/mnist")]
    data: PathBuf,
    /// Times through the training data.
    #[arg(long, default_value_t = 40)]
    epochs: usize,
    /// Digits per step.
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Tree, Clone)]
struct Classifier {
    hidden: Linear,
    out: Linear,
}

impl Classifier {
    fn call(&self, x: &Tensor) -> Tensor {
        self.out.call(&gelu(&self.hidden.call(x)))
    }
}

/// The part of the pixels that a training step does not see.
const DROPPED: f32 = 0.2;

#[derive(Clone)]
struct Digits {
    /// The learning rate falls to 0 over this many steps.
    steps: usize,
}

impl LightningModule for Digits {
    type Model = Classifier;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Classifier {
        let [a, b] = key.split();
        Classifier { hidden: Linear::new(784, 128, a), out: Linear::new(128, 10, b) }
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        adam(cosine_decay(2e-3, self.steps))
    }

    fn training_step(&self, model: &Classifier, (x, y): &Self::Batch, cx: &mut StepCx) -> Tensor {
        // 9,000 digits are soon known by heart; with a fifth of the pixels missing, every time others, they are not.
        let kept = cx.key().bernoulli(x.shape(), 1.0 - DROPPED);
        let logits = model.call(&(kept.select(x, 0.0) / (1.0 - DROPPED)));
        cx.log("acc", accuracy(&logits, y));
        cross_entropy(&logits, y).mean()
    }

    fn validation_step(&self, model: &Classifier, (x, y): &Self::Batch, cx: &mut StepCx) {
        let logits = model.call(x);
        cx.log("val_acc", accuracy(&logits, y));
        cx.log("val_loss", cross_entropy(&logits, y).mean());
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let data = MnistData::new(args.data).batch_size(args.batch_size).seed(args.run.seed);
    let digits = Digits { steps: args.epochs * data.train_dataloader()?.batches() };
    let trainer = args
        .run
        .trainer("mnist")
        .max_epochs(args.epochs)
        .log_every_n_steps(10)
        .callback(ModelCheckpoint::best("val_acc"));
    let fit = trainer.fit(&digits, &data)?;
    println!("{}", fit.metrics);
    if let Some(path) = fit.best_checkpoint {
        println!("best: {}", path.display());
    }
    let (Some(folder), Some(val)) = (fit.folder, data.val_dataloader()?) else { return Ok(()) };
    let read = jit(|(model, x): (Classifier, Tensor)| model.call(&x).argmax(-1));
    let mut seen = Vec::new();
    for batch in val.iter()? {
        let ((x, y), _) = batch?;
        let guesses = read.call((fit.model.clone(), x.clone()))?.to_vec::<i32>()?;
        let images = x.to_vec::<f32>()?;
        let digits = images.chunks(images.len() / guesses.len()).zip(y.to_vec::<i32>()?).zip(guesses);
        seen.extend(digits.map(|((pixels, label), guess)| plot::Digit { pixels: pixels.to_vec(), label, guess }));
    }
    plot::digits(&folder, &seen)
}
