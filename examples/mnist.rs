//! Handwritten digits: `cargo run --release --example mnist -- --data ../shared/data/mnist`.
//!
//! A 784-128-10 classifier with validation, checkpoints and resumption. Ctrl-C ends it with a checkpoint; go on with
//! `--resume runs/mnist/version_0/last.safetensors`.

use std::path::PathBuf;

use clap::Parser;
use fulgurite::prelude::*;
use fulgurite::trainer::data::MnistData;

/// Trains a classifier of handwritten digits.
#[derive(Parser)]
struct Args {
    /// The folder with the IDX files of MNIST, plain or gzipped.
    #[arg(long, default_value = "data/mnist")]
    data: PathBuf,
    /// Times through the training data.
    #[arg(long, default_value_t = 10)]
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

#[derive(Clone)]
struct Digits;

impl LightningModule for Digits {
    type Model = Classifier;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Classifier {
        let [a, b] = key.split();
        Classifier { hidden: Linear::new(784, 128, a), out: Linear::new(128, 10, b) }
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        adam(1e-3)
    }

    fn training_step(&self, model: &Classifier, (x, y): &Self::Batch, cx: &mut StepCx) -> Tensor {
        let logits = model.call(x);
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
    let fit = trainer.fit(&Digits, &MnistData::new(args.data).batch_size(args.batch_size))?;
    for (name, value) in fit.metrics.iter() {
        println!("{name} = {value:.4}");
    }
    if let Some(path) = fit.best_checkpoint {
        println!("best: {}", path.display());
    }
    Ok(())
}
