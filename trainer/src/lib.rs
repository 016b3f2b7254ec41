//! The trainer of fulgurite: layers, losses, optimisers, data, and the loop.
//!
//! A user writes a [`LightningModule`] (a model, its loss, its optimiser) and a [`DataModule`] (host arrays in
//! batches); [`Trainer::fit`] traces the step, compiles it once per batch shape, and calls it once per batch. All that
//! is inside the step ([`nn`], [`loss`], [`optim`], [`StepCx`]) is traced; all that is outside ([`data`], [`callback`],
//! [`logger`], [`checkpoint`]) is host code.
//!
//! ```text
//!            Dataset ─▶ DataLoader ─ batch ─┐
//!                                           ▼
//!  init(key) ─▶ TrainState ──────▶ one compiled step ──▶ TrainState, metrics ─▶ callbacks, loggers, progress
//!                   ▲                                        │
//!                   └────────────────────────────────────────┘
//! ```
//!
//! **Invariant:** the state of a run is the [`TrainState`], the position in the data and the states of the callbacks;
//! a checkpoint holds all three, so a run that was killed and resumed ends with the same bits as one that was not.

pub mod callback;
pub mod checkpoint;
pub mod data;
mod fit;
pub mod interrupt;
pub mod logger;
pub mod loss;
mod metrics;
mod module;
pub mod nn;
pub mod optim;
mod programs;
mod progress;
mod run;
mod state;
mod trainer;
mod validation;

pub use callback::{Callback, EarlyStopping, Mode, ModelCheckpoint};
pub use checkpoint::Checkpoint;
pub use data::{ArrayDataset, DataLoader, DataModule, Dataset};
pub use fit::FitResult;
pub use logger::{CsvLogger, Logger};
pub use metrics::Metrics;
pub use module::{LightningModule, StateOf, StepCx, default_step};
// What interfaces here speak of: host arrays, and the state of callbacks.
pub use optim::{Optimizer, apply_updates};
pub use run::Run;
pub use state::TrainState;
pub use trainer::{Limit, Trainer};
pub use {ndarray, serde_json};
