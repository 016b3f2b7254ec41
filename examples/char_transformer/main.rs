//! A transformer that writes, letter by letter: `cargo run --release --example char_transformer -- --data FILE`.
//!
//! Four layers of causal attention learn to continue a text, by default the first chapters of Lewis Carroll's *Alice in
//! Wonderland* (1865). After each validation it writes some lines. Keeps `runs/char_transformer/<version>/`:
//! `metrics.csv`, checkpoints, `text.txt` with what it wrote, and `loss.png`.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/metrics.rs"]
mod metrics;
mod model;
mod plot;
mod text;

use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use common::RunArgs;
use fulgurite::prelude::*;
use fulgurite::trainer::Run;
use fulgurite::trainer::optim::schedule::warmup_cosine;
use fulgurite::trainer::{chain, optim::clip_by_global_norm};
use model::Transformer;
use text::Text;

/// Trains a transformer on the letters of a text.
#[derive(Parser)]
struct Args {
    /// A text file, UTF-8, of at least a few thousand letters.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/char_transformer/alice.txt"))]
    data: PathBuf,
    /// Times through the text.
    #[arg(long, default_value_t = 5)]
    epochs: usize,
    /// Windows of text per step.
    #[arg(long, default_value_t = 12)]
    batch_size: usize,
    /// Letters that it writes after each validation.
    #[arg(long, default_value_t = 400)]
    letters: usize,
    #[command(flatten)]
    run: RunArgs,
}

/// How many letters the transformer sees.
const CONTEXT: usize = 64;
/// Features of a letter.
const WIDTH: usize = 128;
const LAYERS: usize = 4;
const HEADS: usize = 4;
/// The part of the features that a training step does not see.
const DROPPED: f32 = 0.1;

#[derive(Clone)]
struct Writer {
    alphabet: Vec<char>,
    steps: usize,
    letters: usize,
    seed: u64,
}

impl LightningModule for Writer {
    type Model = Transformer;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Transformer {
        Transformer::new(self.alphabet.len(), CONTEXT, WIDTH, LAYERS, HEADS, key)
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        let rate = warmup_cosine(0.0, 2e-3, self.steps / 20, self.steps, 1e-4);
        chain![clip_by_global_norm(1.0), adamw(rate).weight_decay(0.1)]
    }

    fn training_step(&self, model: &Transformer, (x, y): &Self::Batch, cx: &mut StepCx) -> Tensor {
        let keys = cx.key().split_n(x.shape()[0]);
        let logits = vmap(
            |(model, x, key): (Transformer, Tensor, Tensor)| model.call(&x, Some((Key::wrap_key_data(key), DROPPED))),
            (None, 0, 0),
        )((model.clone(), x.clone(), keys));
        cross_entropy(&logits, y).mean()
    }

    fn validation_step(&self, model: &Transformer, (x, y): &Self::Batch, cx: &mut StepCx) {
        let logits =
            vmap(|(model, x): (Transformer, Tensor)| model.call(&x, None), (None, 0))((model.clone(), x.clone()));
        cx.log("val_loss", cross_entropy(&logits, y).mean());
        cx.log("val_acc", accuracy(&logits, y));
    }

    fn on_validation_end(&self, model: &Transformer, run: &mut Run) -> Result<()> {
        let n = self.letters;
        // One program: all letters are written by a loop of the compiled step.
        let write = jit(move |(model, key): (Transformer, Key)| model.write(n, 0.8, key));
        let letters = write.call((model.clone(), Key::new(self.seed).fold_in(run.step() as u32)))?;
        let letters = letters.to_vec::<i32>()?;
        let written: String = letters.iter().filter_map(|&letter| self.alphabet.get(letter as usize)).collect();
        let path = run.folder()?.join("text.txt");
        let append = || {
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
            writeln!(file, "==== after {} steps\n{written}\n", run.step())
        };
        append().map_err(|e| Error::new(format!("{}: {e}", path.display())))
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let text = Text::read(&args.data, CONTEXT, args.batch_size, args.run.seed)?;
    let steps = args.epochs * text.train_dataloader()?.batches();
    let writer = Writer { alphabet: text.alphabet.clone(), steps, letters: args.letters, seed: args.run.seed };
    let trainer = args
        .run
        .trainer("char_transformer")
        .max_epochs(args.epochs)
        .log_every_n_steps(10)
        .callback(ModelCheckpoint::best("val_loss"));
    let fit = trainer.fit(&writer, &text)?;
    println!("{}", fit.metrics);
    let Some(folder) = fit.folder else { return Ok(()) };
    if let Ok(written) = std::fs::read_to_string(folder.join("text.txt"))
        && let Some(last) = written.rsplit("==== ").next()
    {
        println!("{last}");
    }
    plot::losses(&folder)
}
