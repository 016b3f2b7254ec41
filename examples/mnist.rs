//! Handwritten digits: `cargo run --release --example mnist -- --data ../shared/data/mnist`.
//!
//! A 784-128-10 classifier with validation, checkpoints and resumption. Ctrl-C ends it with a checkpoint; go on with
//! `--resume runs/mnist/version_0/checkpoints/last.safetensors`.

use std::path::PathBuf;

use clap::Parser;
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
    /// Continue from this checkpoint.
    #[arg(long)]
    resume: Option<PathBuf>,
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
    let mut trainer = Trainer::new()
        .name("mnist")
        .max_epochs(args.epochs)
        .logger(CsvLogger::new())
        .callback(ModelCheckpoint::last())
        .callback(ModelCheckpoint::best("val_acc"));
    if let Some(path) = args.resume {
        trainer = trainer.ckpt_path(path);
    }
    let data = MnistData::new(args.data).batch_size(args.batch_size);
    let digits = Digits { steps: args.epochs * data.train_dataloader()?.batches() };
    let fit = trainer.fit(&digits, &data)?;
    println!("{}", fit.metrics);
    if let Some(path) = fit.best_checkpoint {
        println!("best: {}", path.display());
    }
    Ok(())
}
