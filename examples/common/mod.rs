//! What the examples share: the part of the command line that every training has, and pictures.
//!
//! In: `--seed`, `--device`, `--out`, `--resume`. Out: a trainer that is set up by them, and drawing helpers
//! ([`plot`]). How long to train (`--steps` or `--epochs`) and where the data is (`--data`) each example says itself.

pub(crate) mod plot;

use std::path::PathBuf;

use fulgurite::prelude::*;

/// The command line of a training.
#[derive(clap::Args)]
pub(crate) struct RunArgs {
    /// Seed of weights, data order and sampling.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where it trains: `cpu`, `cuda` or `cuda:N`; `auto` is the device of FULGURITE_DEVICE, or what there is.
    #[arg(long, default_value_t = Accelerator::Auto)]
    pub(crate) device: Accelerator,
    /// Where runs are kept.
    #[arg(long, default_value = "runs")]
    pub(crate) out: PathBuf,
    /// Continue from this checkpoint.
    #[arg(long)]
    pub(crate) resume: Option<PathBuf>,
}

impl RunArgs {
    /// A trainer that keeps `OUT/NAME/version_N/`, with metrics and the last checkpoint.
    pub(crate) fn trainer(&self, name: &str) -> Trainer {
        let trainer = Trainer::new()
            .name(name)
            .default_root_dir(&self.out)
            .seed(self.seed)
            .accelerator(self.device)
            .logger(CsvLogger::new())
            .callback(ModelCheckpoint::last());
        match &self.resume {
            Some(path) => trainer.ckpt_path(path),
            None => trainer,
        }
    }
}
