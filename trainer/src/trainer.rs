//! The settings of a run. [`Trainer::fit`] hands them to the loop (`fit`).

use std::path::{Component, Path, PathBuf};

use fulgurite_jit::{Error, Result};

use crate::callback::Callback;
use crate::data::DataModule;
use crate::fit::{self, FitResult};
use crate::logger::Logger;
use crate::metrics::Metrics;
use crate::module::LightningModule;

/// Trains a [`LightningModule`] on a [`DataModule`].
///
/// Nothing is written that was not asked for with a logger or a callback, but for the checkpoint of a run that was
/// interrupted (Ctrl-C). What is written goes into `ROOT/NAME/version_N`: `runs/default/version_0` unless said
/// otherwise.
///
/// ```no_run
/// # use fulgurite_jit::{Key, Result, Tensor};
/// # use fulgurite_trainer::{nn::Linear, loss::mse, optim::sgd, data::MnistData};
/// # use fulgurite_trainer::{CsvLogger, EarlyStopping, LightningModule, ModelCheckpoint, Optimizer, StepCx, Trainer};
/// # #[derive(Clone)] struct Digits;
/// # impl LightningModule for Digits {
/// #     type Model = Linear;
/// #     type Batch = (Tensor, Tensor);
/// #     fn init(&self, key: Key) -> Linear { Linear::new(784, 10, key) }
/// #     fn configure_optimizers(&self) -> impl Optimizer { sgd(0.1) }
/// #     fn training_step(&self, m: &Linear, (x, _): &Self::Batch, _: &mut StepCx) -> Tensor { m.call(x).mean() }
/// # }
/// # fn main() -> Result<()> {
/// let result = Trainer::new()
///     .max_epochs(5)
///     .callback(ModelCheckpoint::best("val_acc"))
///     .callback(EarlyStopping::new("val_loss"))
///     .logger(CsvLogger::new())
///     .fit(&Digits, &MnistData::new("data/mnist").batch_size(64))?;
/// println!("{:?} after {} steps", result.metrics.get("val_acc"), result.step);
/// # Ok(())
/// # }
/// ```
pub struct Trainer {
    pub(crate) max_epochs: Option<usize>,
    pub(crate) max_steps: Option<usize>,
    pub(crate) limit_train_batches: Limit,
    pub(crate) limit_val_batches: Limit,
    pub(crate) fast_dev_run: Option<usize>,
    pub(crate) log_every_n_steps: usize,
    pub(crate) check_val_every_n_epoch: usize,
    pub(crate) num_sanity_val_steps: usize,
    pub(crate) seed: u64,
    pub(crate) callbacks: Vec<Box<dyn Callback>>,
    pub(crate) loggers: Vec<Box<dyn Logger>>,
    pub(crate) enable_progress_bar: bool,
    pub(crate) default_root_dir: PathBuf,
    pub(crate) name: String,
    pub(crate) ckpt_path: Option<PathBuf>,
}

impl Default for Trainer {
    fn default() -> Self {
        Trainer {
            max_epochs: None,
            max_steps: None,
            limit_train_batches: Limit::All,
            limit_val_batches: Limit::All,
            fast_dev_run: None,
            log_every_n_steps: 50,
            check_val_every_n_epoch: 1,
            num_sanity_val_steps: 2,
            seed: 0,
            callbacks: Vec::new(),
            loggers: Vec::new(),
            enable_progress_bar: true,
            default_root_dir: "runs".into(),
            name: "default".into(),
            ckpt_path: None,
        }
    }
}

impl Trainer {
    /// The settings as they are described below.
    pub fn new() -> Self {
        Trainer::default()
    }

    /// Ends after so many epochs. 1000, where neither this nor [`max_steps`](Trainer::max_steps) is set.
    pub fn max_epochs(self, epochs: usize) -> Self {
        Trainer { max_epochs: Some(epochs), ..self }
    }

    /// Ends after so many steps, counted from the very first, resumed or not.
    pub fn max_steps(self, steps: usize) -> Self {
        Trainer { max_steps: Some(steps), ..self }
    }

    /// Trains on this many batches of each epoch (`10`), or on this share of them (`0.1`). All, unless set.
    pub fn limit_train_batches(self, limit: impl Into<Limit>) -> Self {
        Trainer { limit_train_batches: limit.into(), ..self }
    }

    /// Validates on this many batches, or on this share of them; `0` turns validation off. All, unless set.
    pub fn limit_val_batches(self, limit: impl Into<Limit>) -> Self {
        Trainer { limit_val_batches: limit.into(), ..self }
    }

    /// A trial: `n` batches of training and `n` of validation, one epoch, no files.
    pub fn fast_dev_run(self, n: usize) -> Self {
        Trainer { fast_dev_run: Some(n), ..self }
    }

    /// Reads the metrics of every `n`-th step and hands them to the loggers. 50, unless set.
    pub fn log_every_n_steps(self, n: usize) -> Self {
        Trainer { log_every_n_steps: n, ..self }
    }

    /// Validates after every `n`-th epoch. 1, unless set.
    pub fn check_val_every_n_epoch(self, n: usize) -> Self {
        Trainer { check_val_every_n_epoch: n, ..self }
    }

    /// Validates on so many batches before training, so that a mistake there shows at once. 2, unless set.
    pub fn num_sanity_val_steps(self, n: usize) -> Self {
        Trainer { num_sanity_val_steps: n, ..self }
    }

    /// The seed of the run's key: of the model's start and of everything that steps draw. 0, unless set. The order of
    /// the data has a seed of its own ([`DataLoader::seed`](crate::DataLoader::seed)).
    ///
    /// With JAX's `split`, `init, key = split(Key::new(seed))`: `init` goes to
    /// [`LightningModule::init`](crate::LightningModule::init), and `key` is the run's. Each
    /// [`StepCx::key`](crate::StepCx::key) of a training step is the second of `key, sub = split(key)`, and what is left is
    /// the key of the next step. Validation draws from `fold_in(fold_in(key, 0x76616c), batch)` and changes nothing.
    pub fn seed(self, seed: u64) -> Self {
        Trainer { seed, ..self }
    }

    /// Adds a callback. They are called in the order in which they were added.
    pub fn callback(mut self, callback: impl Callback + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Adds a logger.
    pub fn logger(mut self, logger: impl Logger + 'static) -> Self {
        self.loggers.push(Box::new(logger));
        self
    }

    /// Shows progress on standard error: a bar on a terminal, a line now and then elsewhere. On, unless set.
    pub fn enable_progress_bar(self, enable: bool) -> Self {
        Trainer { enable_progress_bar: enable, ..self }
    }

    /// The folder that holds the runs' files. `runs`, unless set.
    pub fn default_root_dir(self, folder: impl Into<PathBuf>) -> Self {
        Trainer { default_root_dir: folder.into(), ..self }
    }

    /// The name of the run: of a folder below [`default_root_dir`](Trainer::default_root_dir). `default`, unless set.
    pub fn name(self, name: impl Into<String>) -> Self {
        Trainer { name: name.into(), ..self }
    }

    /// Goes on from a checkpoint, exactly: the run ends with the same bits as if it had never been interrupted.
    pub fn ckpt_path(self, path: impl Into<PathBuf>) -> Self {
        Trainer { ckpt_path: Some(path.into()), ..self }
    }

    /// Trains.
    ///
    /// # Errors
    /// A mistake in the settings or in a step (with the user's line), data that cannot be had, a file that cannot be
    /// written, an error of a callback.
    pub fn fit<M, D>(self, module: &M, data: &D) -> Result<FitResult<M::Model>>
    where
        M: LightningModule,
        D: DataModule<Batch = M::Batch>,
    {
        fit::fit(self.checked()?, module, module.configure_optimizers(), data)
    }

    /// [`Trainer::ckpt_path`], then [`Trainer::fit`].
    ///
    /// # Errors
    /// As [`Trainer::fit`], and when the checkpoint cannot be read or is of another model.
    pub fn fit_from<M, D>(self, path: impl Into<PathBuf>, module: &M, data: &D) -> Result<FitResult<M::Model>>
    where
        M: LightningModule,
        D: DataModule<Batch = M::Batch>,
    {
        self.ckpt_path(path).fit(module, data)
    }

    /// The scores of a model on the validation data.
    ///
    /// # Errors
    /// As [`Trainer::fit`], and when there are no validation data.
    pub fn validate<M, D>(self, module: &M, model: &M::Model, data: &D) -> Result<Metrics>
    where
        M: LightningModule,
        D: DataModule<Batch = M::Batch>,
    {
        fit::validate(self.checked()?, module, model, data)
    }

    fn checked(mut self) -> Result<Self> {
        let zero = [
            (self.log_every_n_steps, "log_every_n_steps"),
            (self.check_val_every_n_epoch, "check_val_every_n_epoch"),
            (self.fast_dev_run.unwrap_or(1), "fast_dev_run"),
        ];
        if let Some((_, name)) = zero.iter().find(|(value, _)| *value == 0) {
            return Err(Error::new(format!("trainer: `{name}` is 0, it must be at least 1")));
        }
        let mut parts = Path::new(&self.name).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(Error::new(format!(
                "trainer: the name {:?} is not that of a folder below `default_root_dir`",
                self.name
            )));
        }
        if let Some(n) = self.fast_dev_run {
            self.max_epochs = Some(1);
            self.max_steps = Some(n);
            (self.limit_train_batches, self.limit_val_batches) = (n.into(), n.into());
            self.num_sanity_val_steps = 0;
            self.loggers.clear();
        }
        if self.max_epochs.is_none() && self.max_steps.is_none() {
            self.max_epochs = Some(1000);
        }
        Ok(self)
    }
}

/// A part of the batches: a number of them, or a share of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// All of them.
    All,
    /// At most so many.
    Count(i64),
    /// This share, 0.0 to 1.0, rounded down but not to nothing.
    Share(f64),
}

impl Limit {
    /// How many of `batches`; `name` is the setting's, for messages.
    pub(crate) fn of(self, batches: usize, name: &str) -> Result<usize> {
        match self {
            Limit::All => Ok(batches),
            Limit::Count(n) => match usize::try_from(n) {
                Ok(n) => Ok(n.min(batches)),
                Err(_) => Err(Error::new(format!("trainer: `{name}` is {n}, it cannot be negative"))),
            },
            Limit::Share(0.0) => Ok(0),
            Limit::Share(share) if (0.0..=1.0).contains(&share) => {
                Ok(((batches as f64 * share) as usize).clamp(1.min(batches), batches))
            }
            Limit::Share(share) => Err(Error::new(format!(
                "trainer: `{name}` is {share}; a share lies in 0.0..=1.0, a number of batches is written without a point"
            ))),
        }
    }
}

impl From<i32> for Limit {
    fn from(count: i32) -> Self {
        Limit::Count(count.into())
    }
}

impl From<usize> for Limit {
    fn from(count: usize) -> Self {
        Limit::Count(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Limit {
    fn from(share: f64) -> Self {
        Limit::Share(share)
    }
}
