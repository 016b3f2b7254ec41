//! The trainer of fulgurite: layers, losses, optimisers, data, and the loop.
//!
//! A user writes a [`LightningModule`] (a model, its loss, its optimiser) and a [`DataModule`] (host arrays in
//! batches); [`Trainer::fit`] traces the step, compiles it once per batch shape, and calls it once per batch.
//! Code inside the step ([`nn`], [`loss`], [`dist`], [`optim`], [`StepCx`]) is traced; code outside of it ([`data`],
//! [`callback`], [`logger`], [`checkpoint`]) runs on the host.
//!
//! ```text
//!            Dataset ─▶ DataLoader ─ batch ─┐
//!                                           ▼
//!  init(key) ─▶ TrainState ──────▶ one compiled step ──▶ TrainState, metrics ─▶ callbacks, loggers
//!                   ▲                                        │
//!                   └────────────────────────────────────────┘
//! ```
//!
//! **Invariant:** the state of a run is the [`TrainState`], the position in the data and the states of the callbacks;
//! a checkpoint holds all three, so a run that was killed and resumed ends with the same bits as one that was not.
//!
//! Callbacks get a [`HookCx`]: the run, and the state by the names of its leaves. They may set what the module declares
//! [`changeable`](LightningModule::changeable).

mod accelerator;
pub mod callback;
pub mod checkpoint;
mod config;
pub mod data;
pub mod dist;
mod fit;
pub mod logger;
pub mod loss;
mod metrics;
mod module;
pub mod nn;
pub mod optim;
mod precision;
mod state;
mod trainer;

pub use accelerator::Accelerator;
pub use callback::{Callback, EarlyStopping, HookCx, Mode, ModelCheckpoint, ProgressBar, StateDict};
pub use checkpoint::Checkpoint;
pub use config::Limit;
pub use data::{ArrayDataset, DataLoader, DataModule, Dataset};
pub use fit::run::Run;
pub use fit::{FitResult, interrupt};
pub use logger::{CsvLogger, Logger};
pub use metrics::Metrics;
pub use module::{LightningModule, StateOf, StepCx, default_step};
pub use optim::{Optimizer, apply_updates};
pub use state::TrainState;
pub use trainer::Trainer;
// Types in interfaces here: host arrays, and the states of callbacks.
pub use {ndarray, serde_json};
