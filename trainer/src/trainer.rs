//! The builder of a run: settings, callbacks and loggers. [`Trainer::fit`] hands them to the fit loop.

use std::path::PathBuf;

use fulgurite_jit::Result;

use crate::accelerator::Accelerator;
use crate::callback::{Callback, ProgressBar};
use crate::config::{Config, Limit};
use crate::data::DataModule;
use crate::fit::{self, FitResult, Plan};
use crate::logger::Logger;
use crate::metrics::Metrics;
use crate::module::LightningModule;
use crate::precision;

/// Trains a [`LightningModule`] on a [`DataModule`].
///
/// Only loggers and callbacks write files, with one exception: the checkpoint of a run that was interrupted (Ctrl-C).
/// Files go into `ROOT/NAME/version_N`, `runs/default/version_0` by default.
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
#[derive(Default)]
pub struct Trainer {
    config: Config,
    callbacks: Vec<Make<dyn Callback>>,
    loggers: Vec<Make<dyn Logger>>,
}

/// Makes the callback or logger of one run, as a copy of the one that was added.
type Make<T> = Box<dyn Fn() -> Box<T> + Send>;

impl Trainer {
    /// A trainer with the default settings, which are given below.
    pub fn new() -> Self {
        Trainer::default()
    }

    /// Ends after so many epochs. 1000, where neither this nor [`max_steps`](Trainer::max_steps) is set.
    pub fn max_epochs(mut self, epochs: usize) -> Self {
        self.config.max_epochs = Some(epochs);
        self
    }

    /// Ends after so many steps, counted from the very first, resumed or not.
    pub fn max_steps(mut self, steps: usize) -> Self {
        self.config.max_steps = Some(steps);
        self
    }

    /// Trains on this many batches of each epoch (`10`), or on this fraction of them (`0.1`). All, unless set.
    pub fn limit_train_batches(mut self, limit: impl Into<Limit>) -> Self {
        self.config.limit_train_batches = limit.into();
        self
    }

    /// Validates on this many batches, or on this fraction of them; `0` turns validation off. All, unless set.
    pub fn limit_val_batches(mut self, limit: impl Into<Limit>) -> Self {
        self.config.limit_val_batches = limit.into();
        self
    }

    /// A test run: one epoch of `n` training and `n` validation batches, which writes no files.
    pub fn fast_dev_run(mut self, n: usize) -> Self {
        self.config.fast_dev_run = Some(n);
        self
    }

    /// Reads the metrics of every `n`-th step and hands them to the loggers. 50, unless set.
    pub fn log_every_n_steps(mut self, n: usize) -> Self {
        self.config.log_every_n_steps = n;
        self
    }

    /// Validates after every `n`-th epoch. 1, unless set.
    pub fn check_val_every_n_epoch(mut self, n: usize) -> Self {
        self.config.check_val_every_n_epoch = n;
        self
    }

    /// Validates on this many batches before training, which shows mistakes in the validation step early. 2, unless
    /// set.
    pub fn num_sanity_val_steps(mut self, n: usize) -> Self {
        self.config.num_sanity_val_steps = n;
        self
    }

    /// The seed of the run's key, from which the initial model and all random numbers of steps come. 0, unless set. The
    /// order of the data has another seed, [`DataLoader::seed`](crate::DataLoader::seed).
    ///
    /// With JAX's `split`, `init, key = split(Key::new(seed))`: `init` goes to
    /// [`LightningModule::init`](crate::LightningModule::init), and `key` is the run's. Each
    /// [`StepCx::key`](crate::StepCx::key) of a training step is the second of `key, sub = split(key)`, and the
    /// first is the key of the next step. Validation draws from `fold_in(fold_in(key, 0x76616c), batch)` and changes
    /// nothing.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    /// Where the run's programs run: steps, validation, operations of callbacks. [`Accelerator::Auto`], unless set. The
    /// data stays on the host, and each batch is copied while the step before it runs; the state stays on the device,
    /// and is read where a checkpoint or a callback needs it. Metrics that are [due](Trainer::log_every_n_steps) come
    /// to the host while later steps run: loggers get them when they are there, at the latest at the end of the epoch.
    ///
    /// ```no_run
    /// # use fulgurite_trainer::{Accelerator, Trainer};
    /// let trainer = Trainer::new().accelerator(Accelerator::Cuda(0)).devices(1);
    /// # drop(trainer);
    /// ```
    ///
    /// [`Trainer::fit`] fails where there is no such device, with the reason.
    pub fn accelerator(mut self, accelerator: impl Into<Accelerator>) -> Self {
        self.config.accelerator = accelerator.into();
        self
    }

    /// On how many devices to train. A run takes one so far: [`Trainer::fit`] fails with any other number. Which one it
    /// is, [`Accelerator::Cuda`] says.
    pub fn devices(mut self, devices: usize) -> Self {
        self.config.devices = devices;
        self
    }

    /// What products of f32 are computed in, on a GPU with tensor cores. Lightning's names: `32-true`, all bits;
    /// `bf16-mixed`, bf16 with sums, parameters and everything else in f32. The names of torch's
    /// `set_float32_matmul_precision`: `highest`, all bits; `high`, tf32; `medium`, bf16. That of
    /// [`with_matmul_precision`](fulgurite_jit::with_matmul_precision) around the run, unless set, and else all bits.
    ///
    /// The processor computes with all bits. There is no `16-mixed`, which would need scaled losses, and no model whose
    /// parameters are shorter than f32. [`Trainer::fit`] fails with any other name.
    pub fn precision(mut self, precision: impl Into<String>) -> Self {
        self.config.precision = Some(precision.into());
        self
    }

    /// Adds a callback. They are called in the order in which they were added. Each run starts with a copy of the
    /// callback as it is now.
    pub fn callback(mut self, callback: impl Callback + Clone + 'static) -> Self {
        self.callbacks.push(Box::new(move || Box::new(callback.clone())));
        self
    }

    /// Adds a logger. Each run starts with a copy of it, as with callbacks.
    pub fn logger(mut self, logger: impl Logger + Clone + 'static) -> Self {
        self.loggers.push(Box::new(move || Box::new(logger.clone())));
        self
    }

    /// Adds the default [`ProgressBar`], after the other callbacks, unless one of them
    /// [is a progress bar](Callback::is_progress_bar) itself. On, unless set.
    pub fn enable_progress_bar(mut self, enable: bool) -> Self {
        self.config.enable_progress_bar = enable;
        self
    }

    /// The folder that holds the runs' files. `runs`, unless set.
    pub fn default_root_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.config.default_root_dir = folder.into();
        self
    }

    /// The name of the run: of a folder below [`default_root_dir`](Trainer::default_root_dir). `default`, unless set.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    /// Resumes from a checkpoint, exactly: the run ends with the same bits as one that was not interrupted.
    pub fn ckpt_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.ckpt_path = Some(path.into());
        self
    }

    /// Trains. Every call is a separate run: the trainer stays as it is, and two calls with equal arguments give
    /// equal results.
    ///
    /// # Errors
    /// A mistake in the settings or in a step (with the user's line), a device that is not there, data that cannot be
    /// loaded, a file that cannot be written, a checkpoint that cannot be read or is of another model, an error of a
    /// callback.
    pub fn fit<M, D>(&self, module: &M, data: &D) -> Result<FitResult<M::Model>>
    where
        M: LightningModule,
        D: DataModule<Batch = M::Batch>,
    {
        self.run(|plan| fit::fit(plan, module, module.configure_optimizers(), data))
    }

    /// The scores of a model on the validation data.
    ///
    /// # Errors
    /// As [`Trainer::fit`], and when there are no validation data.
    pub fn validate<M, D>(&self, module: &M, model: &M::Model, data: &D) -> Result<Metrics>
    where
        M: LightningModule,
        D: DataModule<Batch = M::Batch>,
    {
        self.run(|plan| fit::validate(plan, module, model, data))
    }

    /// Calls `f` on the device and with the precision of a run.
    fn run<R>(&self, f: impl FnOnce(Plan) -> Result<R>) -> Result<R> {
        let plan = self.plan()?;
        let precision = plan.config.precision.as_deref().map(precision::parse).transpose()?;
        plan.config.accelerator.run(|| precision::within(precision, || f(plan)))
    }

    /// The checked settings, and copies of the callbacks and loggers for one run.
    fn plan(&self) -> Result<Plan> {
        let config = self.config.checked()?;
        let mut callbacks: Vec<Box<dyn Callback>> = self.callbacks.iter().map(|make| make()).collect();
        if config.enable_progress_bar && !callbacks.iter().any(|callback| callback.is_progress_bar()) {
            callbacks.push(Box::new(ProgressBar::new()));
        }
        let loggers = match config.persists() {
            true => self.loggers.iter().map(|make| make()).collect(),
            false => Vec::new(),
        };
        Ok(Plan { config, callbacks, loggers })
    }
}
