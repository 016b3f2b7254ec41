//! The fit loop.
//!
//! In: settings, a module, its optimiser, data. Out: the trained model and its metrics. `programs` makes the three
//! compiled functions of a run (start, training step, validation step); the loop calls the training step once per
//! batch, bound to its state, which is updated in place.
//!
//! Per step, the loop adds well under a microsecond to that call: a batch is gathered into memory that is reused (and
//! copied to a GPU while the step before it runs), metrics stay on the device until they are read, hooks without work
//! return at once, and an interrupt is one flag. Everything that costs more happens less often.

mod feed;
pub mod interrupt;
mod live_state;
mod programs;
pub(crate) mod run;
mod validation;

use std::path::PathBuf;
use std::sync::Arc;

use fulgurite_jit::{Error, Key, Result, Tensor, Tree, named_leaves, unflatten};

use self::feed::{Loaded, feed};
use self::interrupt::InterruptGuard;
use self::live_state::{LiveState, check_changeable};
use self::programs::Training;
use self::run::{Request, Run};
use self::validation::{Scores, Validation};
use crate::callback::{Callback, HookCx};
use crate::checkpoint::{self, Checkpoint, HostState, Reader};
use crate::config::Config;
use crate::data::{Batches, DataLoader, DataModule};
use crate::logger::Logger;
use crate::metrics::{History, Metrics, Named, Values};
use crate::module::{LightningModule, StateOf};
use crate::optim::Optimizer;
use crate::state::TrainState;

/// The result of a run.
#[derive(Clone, Debug)]
pub struct FitResult<M> {
    /// The model after the last step.
    pub model: M,
    /// The leaves of the optimiser's state after the last step, with their names; see [`FitResult::opt_state_as`].
    pub opt_state: Vec<(String, Tensor)>,
    /// The latest value of everything that was logged.
    pub metrics: Metrics,
    /// Steps taken, including those before a resumption.
    pub step: usize,
    /// Epochs finished.
    pub epoch: usize,
    /// Was it ended by Ctrl-C or SIGTERM?
    pub interrupted: bool,
    /// The reason, where a callback ended it early.
    pub stopped: Option<String>,
    /// The folder of its files, if it wrote any.
    pub folder: Option<PathBuf>,
    /// The checkpoint that was written last.
    pub last_checkpoint: Option<PathBuf>,
    /// The best checkpoint of the first [`ModelCheckpoint::best`](crate::ModelCheckpoint::best) that has one. The file
    /// exists when the run ends.
    pub best_checkpoint: Option<PathBuf>,
}

impl<M> FitResult<M> {
    /// The optimiser's state in the structure of `like`, such as `optimizer.init(&model)`.
    ///
    /// # Errors
    /// When names or types differ; the error names the first leaf that does not fit.
    pub fn opt_state_as<S: Tree>(&self, like: &S) -> Result<S> {
        let wanted = named_leaves(like);
        let named = |list: &[(String, Tensor)], i: usize| match list.get(i) {
            Some((name, leaf)) => format!("`{name}`: {}", leaf.ty()),
            None => "no more leaf".to_string(),
        };
        let fits = |i: &usize| match (wanted.get(*i), self.opt_state.get(*i)) {
            (Some((name, leaf)), Some((own, state))) => name == own && leaf.ty() == state.ty(),
            _ => false,
        };
        match (0..wanted.len().max(self.opt_state.len())).find(|i| !fits(i)) {
            None => Ok(unflatten(like, self.opt_state.iter().map(|(_, leaf)| leaf.clone()))),
            Some(i) => Err(Error::new(format!(
                "the optimiser's state does not fit: it has {}, wanted is {}",
                named(&self.opt_state, i),
                named(&wanted, i)
            ))),
        }
    }
}

/// What a trainer gives to one run.
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) callbacks: Vec<Box<dyn Callback>>,
    pub(crate) loggers: Vec<Box<dyn Logger>>,
}

/// Trains; see [`Trainer::fit`](crate::Trainer::fit).
pub(crate) fn fit<M, D, O>(plan: Plan, module: &M, optimizer: O, data: &D) -> Result<FitResult<M::Model>>
where
    M: LightningModule,
    D: DataModule<Batch = M::Batch>,
    O: Optimizer,
{
    let train = data.train_dataloader().map_err(|e| e.context("training data"))?;
    let val = data.val_dataloader().map_err(|e| e.context("validation data"))?;
    let mut batches = train.iter().map_err(|e| e.context("training data"))?;
    let mut fit = Fit::new(plan, module, optimizer, &train, val)?;
    match &fit.config.ckpt_path {
        Some(path) => fit.resume(&Checkpoint::read(path)?)?,
        None => fit.sanity_check()?,
    }
    let trained = fit.start().and_then(|()| fit.train(&mut batches)).and_then(|()| fit.finish());
    if trained.is_err() {
        // What was logged before is not lost. The error that is told is the first.
        let _ = fit.log_records(true);
    }
    trained?;
    Ok(fit.result())
}

/// Validates; see [`Trainer::validate`](crate::Trainer::validate).
pub(crate) fn validate<M, D>(plan: Plan, module: &M, model: &M::Model, data: &D) -> Result<Metrics>
where
    M: LightningModule,
    D: DataModule<Batch = M::Batch>,
{
    let Plan { config, mut callbacks, .. } = plan;
    let interrupt = InterruptGuard::start();
    let loader = data.val_dataloader().map_err(|e| e.context("validation data"))?;
    let loader = loader.ok_or_else(|| Error::new("validate: the data module has no `val_dataloader`"))?;
    let val = Validation::new(module, &loader, config.limit_val_batches)?;
    let mut val = val.ok_or_else(|| Error::new("validate: `limit_val_batches` is 0"))?;
    let mut run = Run::new(&config);
    callbacks.retain(|callback| callback.is_progress_bar());
    let (step, key) = (Tensor::scalar(0i32), Key::new(config.seed));
    let state = TrainState { model: model.clone(), opt_state: (), step, key };
    let scores =
        val.run(&state, usize::MAX, &interrupt, &mut |i, n| start_val_batch(&mut callbacks, &mut run, i, n))?;
    match scores {
        Scores::Mean(values) => Ok(values.into_iter().collect()),
        Scores::NoMetrics => Err(Error::new("validate: the module's `validation_step` logs nothing")),
        Scores::Interrupted => Err(Error::new("validate: interrupted")),
    }
}

/// The hooks before batch `i` of `n` of a validation.
fn start_val_batch(callbacks: &mut [Box<dyn Callback>], run: &mut Run, i: usize, n: usize) -> Result<()> {
    (run.val_batch, run.val_batches) = (i, n);
    callbacks.iter_mut().try_for_each(|callback| callback.on_validation_batch_start(run))
}

/// A run: its programs, its position, and its callbacks and loggers.
struct Fit<'a, M: LightningModule, O: Optimizer> {
    config: Config,
    module: &'a M,
    optimizer: Arc<O>,
    /// The training step and its state.
    training: Training<M, O>,
    val: Option<Validation<M>>,
    run: Run,
    interrupt: InterruptGuard,
    /// What the order of the data depends on.
    data: String,
    /// Are the metrics of the last step recorded in the run's?
    is_recorded: bool,
    last_save: Option<(PathBuf, usize)>,
    callbacks: Vec<Box<dyn Callback>>,
    loggers: Vec<Box<dyn Logger>>,
}

impl<'a, M: LightningModule, O: Optimizer> Fit<'a, M, O> {
    fn new(
        plan: Plan,
        module: &'a M,
        optimizer: O,
        train: &DataLoader<M::Batch>,
        val: Option<DataLoader<M::Batch>>,
    ) -> Result<Self> {
        let Plan { config, callbacks, loggers } = plan;
        let names: Vec<String> = callbacks.iter().map(|callback| callback.name()).collect();
        if let Some((_, name)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            return Err(Error::new(format!(
                "trainer: two callbacks are called `{name}`, under which their states are saved; give one another name \
                 (`Callback::name`) or other settings"
            )));
        }
        let optimizer = Arc::new(optimizer);
        let state = programs::start(module, optimizer.clone()).call_with(Key::new(config.seed), ())?;
        let training = programs::train_step(module, optimizer.clone()).bind(state);
        let mut run = Run::new(&config);
        run.batches = config.limit_train_batches.of(train.batches(), "limit_train_batches")?;
        if run.batches == 0 {
            return Err(Error::new("trainer: `limit_train_batches` leaves no batch to train on"));
        }
        let val = match val {
            Some(loader) => Validation::new(module, &loader, config.limit_val_batches)?,
            None => None,
        };
        run.validates = val.is_some();
        let (interrupt, data) = (InterruptGuard::start(), train.fingerprint());
        let (is_recorded, last_save) = (true, None);
        Ok(Fit {
            config,
            module,
            optimizer,
            training,
            val,
            run,
            interrupt,
            data,
            is_recorded,
            last_save,
            callbacks,
            loggers,
        })
    }

    /// Is there a step left, or an epoch to end (which a resumed run may find trained but not validated)?
    fn has_more_to_do(&self) -> bool {
        let run = &self.run;
        let is_within_steps = !self.is_at_max_steps() || run.batch >= run.batches;
        run.epoch < self.config.max_epochs.unwrap_or(usize::MAX) && is_within_steps && !run.is_over()
    }

    fn is_at_max_steps(&self) -> bool {
        self.config.max_steps.is_some_and(|steps| self.run.step >= steps)
    }

    /// The epochs.
    fn train(&mut self, batches: &mut Batches<M::Batch>) -> Result<()> {
        while self.has_more_to_do() {
            self.train_epoch(batches)?;
            if self.run.batch < self.run.batches || !self.validate_epoch()? {
                break; // within the epoch: a checkpoint holds the position, and a resumed run continues there
            }
            self.end_epoch()?;
        }
        Ok(())
    }

    /// The rest of the epoch, batch by batch.
    fn train_epoch(&mut self, batches: &mut Batches<M::Batch>) -> Result<()> {
        batches.seek(self.run.epoch, self.run.batch);
        self.hooks(|callback, cx| callback.on_train_epoch_start(cx))?;
        let steps_left = self.config.max_steps.map_or(usize::MAX, |steps| steps.saturating_sub(self.run.step));
        let mut batches = feed(batches, steps_left.min(self.run.batches.saturating_sub(self.run.batch)))?;
        while !self.run.is_over() {
            let Some(next) = batches.next() else { break };
            let Loaded { batch, .. } = next?;
            self.hooks(|callback, cx| callback.on_train_batch_start(cx))?;
            // Those of the step before are in the memory that this step's are written to.
            self.run.set_step_metrics(Vec::new());
            let metrics = self.training.call(batch)?;
            batches.fill();
            self.run.set_step_metrics(metrics);
            self.is_recorded = false;
            self.run.step += 1;
            self.run.batch += 1;
            let step = self.run.step;
            let is_used = self.callbacks.iter().any(|callback| callback.reads_metrics(step));
            let is_read = is_used
                || self.run.batch == self.run.batches
                || self.is_at_max_steps()
                || step.is_multiple_of(self.config.log_every_n_steps);
            if is_read {
                self.record_step(is_used)?;
            }
            self.hooks(|callback, cx| callback.on_train_batch_end(cx))?;
            self.flush_requests()?;
            self.run.interrupted |= self.interrupt.is_interrupted();
        }
        Ok(())
    }

    /// Validates if this epoch is one to validate. False when it was interrupted: then the epoch is not over.
    fn validate_epoch(&mut self) -> Result<bool> {
        if self.val.is_none() || !(self.run.epoch + 1).is_multiple_of(self.config.check_val_every_n_epoch) {
            return Ok(true);
        }
        // What hooks set here holds for this validation alone, however it ends.
        let before = self.hooks(|callback, cx| callback.on_validation_start(cx))?;
        let state = self.training.state();
        if let Some(before) = before {
            self.training.set_state(before);
        }
        match self.run_validation(&state, usize::MAX, |_| true)? {
            Scores::Mean(values) => self.log(values)?,
            Scores::NoMetrics => {
                (self.val, self.run.validates) = (None, false);
                return Ok(true);
            }
            Scores::Interrupted => {
                self.run.interrupted = true;
                return Ok(false);
            }
        }
        self.run.validations += 1;
        self.module.on_validation_end(&state.model, &mut self.run)?;
        drop(state);
        self.hooks(|callback, cx| callback.on_validation_end(cx))?;
        Ok(true)
    }

    /// Validates `state`; the callbacks that are `shown` it have their hooks called.
    fn run_validation(
        &mut self,
        state: &StateOf<M, O>,
        max_batches: usize,
        shown: impl Fn(&dyn Callback) -> bool,
    ) -> Result<Scores> {
        let Fit { val, run, callbacks, interrupt, .. } = self;
        let Some(val) = val else { return Ok(Scores::NoMetrics) };
        val.run(state, max_batches, interrupt, &mut |i, n| {
            (run.val_batch, run.val_batches) = (i, n);
            let shown = callbacks.iter_mut().filter(|callback| shown(callback.as_ref()));
            shown.into_iter().try_for_each(|callback| callback.on_validation_batch_start(run))
        })
    }

    /// After the last batch of an epoch and its validation. Checkpoints are written after all hooks have run, with the
    /// start of the next epoch as their position.
    fn end_epoch(&mut self) -> Result<()> {
        self.log_records(true)?;
        self.run.epoch_over = true;
        self.hooks(|callback, cx| callback.on_train_epoch_end(cx))?;
        self.flush_requests()?;
        self.run.interrupted |= self.interrupt.is_interrupted();
        (self.run.epoch, self.run.batch) = self.run.position();
        self.run.epoch_over = false;
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let changeable = self.module.changeable();
        if !changeable.is_empty() {
            check_changeable(changeable, &named_leaves(&self.training.state()))?;
        }
        if !self.loggers.is_empty() {
            let folder = self.run.folder()?.to_path_buf();
            self.loggers.iter_mut().try_for_each(|logger| logger.start(&folder))?;
        }
        self.module.on_fit_start(&self.training.state().model, &mut self.run)?;
        self.hooks(|callback, cx| callback.on_fit_start(cx))?;
        self.flush_requests()
    }

    fn finish(&mut self) -> Result<()> {
        self.record_step(true)?;
        self.module.on_fit_end(&self.training.state().model, &mut self.run)?;
        self.hooks(|callback, cx| callback.on_fit_end(cx))?;
        self.flush_requests()?;
        if self.run.interrupted && self.run.persists {
            self.save_interrupted()?;
        }
        self.loggers.iter_mut().try_for_each(|logger| logger.finish())
    }

    /// A checkpoint to resume from, unless there is one of this step.
    fn save_interrupted(&mut self) -> Result<()> {
        let path = match &self.last_save {
            Some((path, step)) if *step == self.run.step => path.clone(),
            _ => {
                let path = self.run.folder()?.join("checkpoints").join("last.safetensors");
                self.run.save(&path);
                self.flush_requests()?;
                path
            }
        };
        let Run { step, epoch, batch, .. } = self.run;
        eprintln!(
            "interrupted after step {step} (epoch {epoch}, batch {batch}); to resume: .ckpt_path({:?})",
            path.display().to_string()
        );
        Ok(())
    }

    fn result(self) -> FitResult<M::Model> {
        let state = self.training.into_state();
        FitResult {
            opt_state: named_leaves(&state.opt_state),
            model: state.model,
            step: self.run.step,
            epoch: self.run.epoch,
            interrupted: self.run.interrupted,
            folder: self.run.folder_if_made(),
            last_checkpoint: self.last_save.map(|(path, _)| path),
            metrics: self.run.metrics.latest().clone(),
            stopped: self.run.stop,
            best_checkpoint: self.run.best_checkpoint,
        }
    }

    /// Runs the validation step on a few batches, to find its mistakes before training.
    fn sanity_check(&mut self) -> Result<()> {
        let state = self.training.state();
        let scores =
            self.run_validation(&state, self.config.num_sanity_val_steps, |callback| callback.is_progress_bar());
        scores.map(drop).map_err(|e| e.context("validation step (checked before training)"))
    }

    /// Restores a checkpoint.
    fn resume(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let state = checkpoint.restore(&self.training.state(), "", Reader::Run)?;
        let host = checkpoint.host();
        let reject = |reason: String| Err(Error::new(format!("checkpoint {}: {reason}", checkpoint.path().display())));
        let (epoch, batch) = host.position;
        if state.step.item::<i32>()? as usize != host.step {
            return reject("it holds a model, but not the position of a run to resume".into());
        }
        if batch > 0 && host.loader != self.data {
            return reject(format!(
                "it was saved after batch {batch} of epoch {epoch}, and the data now come in another order; then: {}; \
                 now: {}",
                host.loader, self.data
            ));
        }
        (self.run.step, self.run.epoch, self.run.batch) = (host.step, epoch, batch);
        self.run.validations = host.validations;
        self.run.metrics = History::new(Metrics::from_json(&host.metrics).unwrap_or_default());
        for callback in &mut self.callbacks {
            if let Some(saved) = checkpoint.callback(&callback.name())? {
                callback.load_state_dict(&saved, checkpoint.path())?;
            }
        }
        self.training.set_state(state);
        Ok(())
    }

    /// Calls a hook of every callback. Where one of them changed the state, gives the state before.
    fn hooks(
        &mut self,
        mut hook: impl FnMut(&mut dyn Callback, &mut HookCx<'_>) -> Result<()>,
    ) -> Result<Option<StateOf<M, O>>> {
        let mut state = LiveState::<M, O>::new(&self.training, &*self.optimizer, self.module.changeable());
        let mut cx = HookCx::new(&mut self.run, &mut state);
        for callback in &mut self.callbacks {
            hook(callback.as_mut(), &mut cx)?;
        }
        let Some(leaves) = state.into_changed() else { return Ok(None) };
        let before = self.training.state();
        self.training.set_state(unflatten(&before, leaves));
        Ok(Some(before))
    }

    /// Records the metrics of the last step, if that is not done. Loggers get those of every `log_every_n_steps`-th
    /// step.
    fn record_step(&mut self, waits: bool) -> Result<()> {
        if !self.is_recorded {
            self.is_recorded = true;
            self.run.record_step(self.run.step.is_multiple_of(self.config.log_every_n_steps));
        }
        self.log_records(waits)
    }

    /// Gives values to the loggers, and records them as the latest.
    fn log(&mut self, values: Named) -> Result<()> {
        self.run.record(Values::Read(values), true);
        self.log_records(false)
    }

    /// Gives to the loggers what was recorded and is on the host; all of it, where `waits` says so.
    fn log_records(&mut self, waits: bool) -> Result<()> {
        while let Some((record, values)) = self.run.metrics.pop(waits)? {
            if record.is_logged {
                self.loggers.iter_mut().try_for_each(|logger| logger.log(record.step, record.epoch, &values))?;
            }
        }
        Ok(())
    }

    /// Carries out what the hooks have requested.
    fn flush_requests(&mut self) -> Result<()> {
        if self.run.logged.is_empty() && self.run.requests.is_empty() {
            return Ok(());
        }
        let logged = std::mem::take(&mut self.run.logged);
        if !logged.is_empty() {
            self.log(logged)?;
        }
        for request in std::mem::take(&mut self.run.requests) {
            match request {
                _ if !self.run.persists => {}
                Request::Save(path) => self.save(path)?,
                Request::Link(from, to) => checkpoint::link_or_copy(&from, &to)?,
                Request::Remove(path) => match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::from(e).context(format!("cannot remove {}", path.display())));
                    }
                    Ok(()) | Err(_) => {}
                },
            }
        }
        Ok(())
    }

    fn save(&mut self, path: PathBuf) -> Result<()> {
        self.log_records(true)?;
        let states = self.callbacks.iter().map(|callback| (callback.name(), callback.state_dict()));
        let host = HostState {
            step: self.run.step,
            position: self.run.position(),
            loader: self.data.clone(),
            validations: self.run.validations,
            metrics: self.run.metrics().to_json(),
            callbacks: Vec::new(),
        };
        checkpoint::write_run(&path, named_leaves(&self.training.state()), host, states)?;
        self.last_save = Some((path, self.run.step));
        Ok(())
    }
}
