//! The fit loop.
//!
//! In: settings, a module, its optimiser, data. Out: the trained model and what was measured. The three compiled
//! functions of a run (start, training step, validation step) are made in `programs`; the loop itself calls the
//! training step once per batch, bound to its state, which stays in place.
//!
//! What happens per step besides that call takes well under a microsecond: a batch is gathered into memory that is
//! used again, metrics stay on the device until they are due, hooks that have nothing to do return, the clock is read
//! for the progress bar, one flag for Ctrl-C. Whatever costs more belongs to the moments that come less often.

use std::path::PathBuf;
use std::sync::Arc;

use fulgurite_jit::{Error, Key, Result, Tensor, Tree, named_leaves, unflatten};

use crate::callback::Callback;
use crate::checkpoint::{self, Checkpoint, HostState, Reader};
use crate::data::{Batches, DataLoader, DataModule};
use crate::interrupt::Running;
use crate::logger::Logger;
use crate::metrics::{self, Metrics};
use crate::module::{LightningModule, Metric};
use crate::optim::Optimizer;
use crate::programs::{self, Training};
use crate::progress::Progress;
use crate::run::{Request, Run};
use crate::state::TrainState;
use crate::trainer::Trainer;
use crate::validation::{Scores, Validation};

/// What a run came to.
#[derive(Clone, Debug)]
pub struct FitResult<M> {
    /// The model after the last step.
    pub model: M,
    /// The optimiser's state after the last step, leaf by leaf under their paths; [`FitResult::opt_state_as`] makes one of
    /// it again.
    pub opt_state: Vec<(String, Tensor)>,
    /// The latest value of everything that was logged.
    pub metrics: Metrics,
    /// Steps taken, those before a resumption included.
    pub step: usize,
    /// Epochs finished.
    pub epoch: usize,
    /// Was it ended by Ctrl-C or SIGTERM?
    pub interrupted: bool,
    /// Why it ended early, where a callback ended it.
    pub stopped: Option<String>,
    /// The folder of its files, if it wrote any.
    pub folder: Option<PathBuf>,
    /// The checkpoint written last.
    pub last_checkpoint: Option<PathBuf>,
    /// The best checkpoint, where [`ModelCheckpoint::best`](crate::ModelCheckpoint::best) kept one; of several callbacks
    /// that of the first. The file is there when the run ends.
    pub best_checkpoint: Option<PathBuf>,
}

impl<M> FitResult<M> {
    /// The optimiser's state in the structure of `like`, such as `optimizer.init(&model)`.
    ///
    /// # Errors
    /// When its leaves are others: with the first that does not fit, and both types.
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

/// Trains; see [`Trainer::fit`].
pub(crate) fn fit<M, D, O>(trainer: Trainer, module: &M, optimizer: O, data: &D) -> Result<FitResult<M::Model>>
where
    M: LightningModule,
    D: DataModule<Batch = M::Batch>,
    O: Optimizer,
{
    let train = data.train_loader().map_err(|e| e.context("training data"))?;
    let val = data.val_loader().map_err(|e| e.context("validation data"))?;
    let optimizer = Arc::new(optimizer);
    let mut batches = train.iter().map_err(|e| e.context("training data"))?;
    let state = programs::start(module, optimizer.clone()).call_with(Key::new(trainer.seed), ())?;
    let training = programs::train_step(module, optimizer).bind(state);
    let mut fit = Fit::<M, O>::new(&trainer, module, training, &train, val)?;
    fit.callbacks = trainer.callbacks;
    let names: Vec<String> = fit.callbacks.iter().map(|callback| callback.name()).collect();
    if let Some((_, name)) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        return Err(Error::new(format!(
            "trainer: two callbacks are called `{name}`, under which their states are saved; give one another name \
             (`Callback::name`) or other settings"
        )));
    }
    fit.loggers = trainer.loggers;

    match &trainer.ckpt_path {
        Some(path) => fit.resume(&Checkpoint::read(path)?)?,
        None => fit.sanity_check(trainer.num_sanity_val_steps)?,
    }
    fit.start()?;
    while fit.has_more_to_do() {
        fit.train_epoch(&mut batches)?;
        if fit.run.batch < fit.run.batches || !fit.validate_epoch()? {
            break; // within the epoch: a checkpoint says so, and a resumed run goes on there
        }
        fit.end_epoch()?;
    }
    fit.finish()?;
    Ok(fit.result())
}

/// Validates; see [`Trainer::validate`].
pub(crate) fn validate<M, D>(trainer: Trainer, module: &M, model: &M::Model, data: &D) -> Result<Metrics>
where
    M: LightningModule,
    D: DataModule<Batch = M::Batch>,
{
    let running = Running::start();
    let loader = data.val_loader().map_err(|e| e.context("validation data"))?;
    let loader = loader.ok_or_else(|| Error::new("validate: the data module has no `val_loader`"))?;
    let val = Validation::new(module, &loader, trainer.limit_val_batches)?;
    let mut val = val.ok_or_else(|| Error::new("validate: `limit_val_batches` is 0"))?;
    let mut progress = Progress::new(trainer.enable_progress_bar, None);
    let (step, key) = (Tensor::scalar(0i32), Key::new(trainer.seed));
    let state = TrainState { model: model.clone(), opt_state: (), step, key };
    let scores = val.run(&state, usize::MAX, &running, &mut progress)?;
    progress.finish();
    match scores {
        Scores::Mean(values) => Ok(values.into_iter().collect()),
        Scores::Nothing => Err(Error::new("validate: the module's `validation_step` logs nothing")),
        Scores::Interrupted => Err(Error::new("validate: interrupted")),
    }
}

/// A run: its programs, its place, and who watches it.
struct Fit<'a, M: LightningModule, O: Optimizer> {
    module: &'a M,
    /// The training step and its state.
    training: Training<M, O>,
    val: Option<Validation<M>>,
    run: Run,
    running: Running,
    loader: String,
    max_epochs: usize,
    max_steps: usize,
    log_every: usize,
    val_every: usize,
    last: Vec<Metric>,
    last_is_read: bool,
    last_save: Option<(PathBuf, usize)>,
    callbacks: Vec<Box<dyn Callback>>,
    loggers: Vec<Box<dyn Logger>>,
    progress: Progress,
}

impl<'a, M: LightningModule, O: Optimizer> Fit<'a, M, O> {
    fn new(
        trainer: &Trainer,
        module: &'a M,
        training: Training<M, O>,
        train: &DataLoader<M::Batch>,
        val: Option<DataLoader<M::Batch>>,
    ) -> Result<Self> {
        let mut run = Run::new(trainer.default_root_dir.join(&trainer.name));
        run.batches = trainer.limit_train_batches.of(train.batches(), "limit_train_batches")?;
        if run.batches == 0 {
            return Err(Error::new("trainer: `limit_train_batches` leaves no batch to train on"));
        }
        let val = match val {
            Some(loader) => Validation::new(module, &loader, trainer.limit_val_batches)?,
            None => None,
        };
        run.validates = val.is_some();
        run.writes = trainer.fast_dev_run.is_none();
        Ok(Fit {
            module,
            training,
            val,
            run,
            running: Running::start(),
            loader: train.describe(),
            max_epochs: trainer.max_epochs.unwrap_or(usize::MAX),
            max_steps: trainer.max_steps.unwrap_or(usize::MAX),
            log_every: trainer.log_every_n_steps,
            val_every: trainer.check_val_every_n_epoch,
            last: Vec::new(),
            last_is_read: true,
            last_save: None,
            callbacks: Vec::new(),
            loggers: Vec::new(),
            progress: Progress::new(trainer.enable_progress_bar, trainer.max_epochs),
        })
    }

    /// Is there a step left to take, or the end of an epoch to see to (of one that a resumed run finds trained)?
    fn has_more_to_do(&self) -> bool {
        let run = &self.run;
        run.epoch < self.max_epochs && (run.step < self.max_steps || run.batch >= run.batches) && !run.is_over()
    }

    /// The rest of the epoch, batch by batch.
    fn train_epoch(&mut self, batches: &mut Batches<M::Batch>) -> Result<()> {
        batches.seek(self.run.epoch, self.run.batch);
        self.progress.start_epoch(&self.run);
        while self.run.batch < self.run.batches && self.run.step < self.max_steps && !self.run.is_over() {
            let Some(batch) = batches.next() else { break };
            let (batch, _) = batch?;
            self.last = self.training.call(batch)?;
            self.last_is_read = false;
            self.run.step += 1;
            self.run.batch += 1;
            let step = self.run.step;
            let is_last = self.run.batch == self.run.batches
                || self.run.step == self.max_steps
                || self.callbacks.iter().any(|callback| callback.reads_metrics(step));
            if is_last || self.run.step.is_multiple_of(self.log_every) {
                self.read_last()?;
            }
            for callback in &mut self.callbacks {
                callback.on_step_end(&mut self.run)?;
            }
            self.carry_out()?;
            self.progress.tick(&self.run, &self.last);
            self.run.interrupted |= self.running.is_asked_to_end();
        }
        Ok(())
    }

    /// Validates if it is time to. Gives false when it was interrupted: then the epoch is not over.
    fn validate_epoch(&mut self) -> Result<bool> {
        let Some(val) = &mut self.val else { return Ok(true) };
        if !(self.run.epoch + 1).is_multiple_of(self.val_every) {
            return Ok(true);
        }
        let state = self.training.state();
        match val.run(&state, usize::MAX, &self.running, &mut self.progress)? {
            Scores::Mean(values) => self.log(values)?,
            Scores::Nothing => {
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
        self.hooks(|callback, run| callback.on_validation_end(run))?;
        Ok(true)
    }

    /// After the last batch of an epoch and its validation. Checkpoints are written once all hooks have run, with the
    /// start of the next epoch as their place.
    fn end_epoch(&mut self) -> Result<()> {
        self.run.epoch_over = true;
        self.hooks(|callback, run| callback.on_epoch_end(run))?;
        self.carry_out()?;
        self.run.interrupted |= self.running.is_asked_to_end();
        let is_last = self.run.epoch + 1 >= self.max_epochs || self.run.step >= self.max_steps || self.run.is_over();
        self.progress.end_epoch(&self.run, is_last);
        (self.run.epoch, self.run.batch) = self.run.position();
        self.run.epoch_over = false;
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        if !self.loggers.is_empty() {
            let folder = self.run.folder()?.to_path_buf();
            self.loggers.iter_mut().try_for_each(|logger| logger.start(&folder))?;
        }
        self.module.on_fit_start(&self.training.state().model, &mut self.run)?;
        self.hooks(|callback, run| callback.on_fit_start(run))?;
        self.carry_out()
    }

    fn finish(&mut self) -> Result<()> {
        self.read_last()?;
        self.module.on_fit_end(&self.training.state().model, &mut self.run)?;
        self.hooks(|callback, run| callback.on_fit_end(run))?;
        self.carry_out()?;
        if self.run.interrupted && self.run.writes {
            self.save_interrupted()?;
        }
        self.loggers.iter_mut().try_for_each(|logger| logger.finish())?;
        if let Some(why) = &self.run.stop {
            self.progress.line(&format!("stopped at step {}: {why}", self.run.step));
        }
        self.progress.finish();
        Ok(())
    }

    /// A checkpoint to go on from, unless there is one of this very step.
    fn save_interrupted(&mut self) -> Result<()> {
        let path = match &self.last_save {
            Some((path, step)) if *step == self.run.step => path.clone(),
            _ => {
                let path = self.run.folder()?.join("checkpoints").join("last.safetensors");
                self.run.save(&path);
                self.carry_out()?;
                path
            }
        };
        let Run { step, epoch, batch, .. } = self.run;
        eprintln!(
            "interrupted after step {step} (epoch {epoch}, batch {batch}); to go on: .ckpt_path({:?})",
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
            metrics: self.run.metrics,
            stopped: self.run.stop,
            best_checkpoint: self.run.best_checkpoint,
        }
    }

    /// Runs the validation step on a few batches, for its mistakes alone.
    fn sanity_check(&mut self, batches: usize) -> Result<()> {
        let Some(val) = &mut self.val else { return Ok(()) };
        let scores = val.run(&self.training.state(), batches, &self.running, &mut self.progress);
        scores.map(drop).map_err(|e| e.context("validation step (checked before training)"))
    }

    /// Takes over a checkpoint.
    fn resume(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let state = checkpoint.restore(&self.training.state(), "", Reader::Run)?;
        let host = checkpoint.host();
        let refuse = |why: String| Err(Error::new(format!("checkpoint {}: {why}", checkpoint.path().display())));
        let (epoch, batch) = host.position;
        if state.step.item::<i32>()? as usize != host.step {
            return refuse("it holds a model, but not the place of a run to go on from".into());
        }
        if batch > 0 && host.loader != self.loader {
            return refuse(format!(
                "it was saved after batch {batch} of epoch {epoch}, and the data now come in another order; then: {}; \
                 now: {}",
                host.loader, self.loader
            ));
        }
        (self.run.step, self.run.epoch, self.run.batch) = (host.step, epoch, batch);
        self.run.validations = host.validations;
        self.run.metrics = Metrics::from_json(&host.metrics).unwrap_or_default();
        for callback in &mut self.callbacks {
            let name = callback.name();
            if let Some((_, saved)) = host.callbacks.iter().find(|(saved, _)| *saved == name) {
                callback.load_state(saved, checkpoint.path())?;
            }
        }
        self.training.set_state(state);
        Ok(())
    }

    fn hooks(&mut self, mut hook: impl FnMut(&mut dyn Callback, &mut Run) -> Result<()>) -> Result<()> {
        for callback in &mut self.callbacks {
            hook(callback.as_mut(), &mut self.run)?;
        }
        Ok(())
    }

    /// Reads the metrics of the last step, if that was not done. Loggers get those of every `log_every`-th step.
    fn read_last(&mut self) -> Result<()> {
        if self.last_is_read {
            return Ok(());
        }
        self.last_is_read = true;
        let values = metrics::read(&self.last)?;
        if self.run.step.is_multiple_of(self.log_every) {
            return self.log(values);
        }
        self.keep(&values);
        Ok(())
    }

    /// Hands values to the loggers and keeps them as the latest.
    fn log(&mut self, values: Vec<(Arc<str>, f64)>) -> Result<()> {
        self.keep(&values);
        let (step, epoch) = (self.run.step, self.run.epoch);
        self.loggers.iter_mut().try_for_each(|logger| logger.log(step, epoch, &values))
    }

    fn keep(&mut self, values: &[(Arc<str>, f64)]) {
        for (name, value) in values {
            self.run.metrics.set(name, *value, self.run.epoch, self.run.step);
        }
    }

    /// Does what the hooks have asked for.
    fn carry_out(&mut self) -> Result<()> {
        if self.run.logged.is_empty() && self.run.requests.is_empty() {
            return Ok(());
        }
        let logged = std::mem::take(&mut self.run.logged);
        if !logged.is_empty() {
            self.log(logged)?;
        }
        for request in std::mem::take(&mut self.run.requests) {
            match request {
                _ if !self.run.writes => {}
                Request::Save(path) => self.save(path)?,
                Request::TakeAlong(from, to) => checkpoint::take_along(&from, &to)?,
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
        let host = HostState {
            step: self.run.step,
            position: self.run.position(),
            loader: self.loader.clone(),
            validations: self.run.validations,
            metrics: self.run.metrics.to_json(),
            callbacks: self.callbacks.iter().map(|callback| (callback.name(), callback.state())).collect(),
        };
        checkpoint::write(&path, named_leaves(&self.training.state()), &host)?;
        self.last_save = Some((path, self.run.step));
        Ok(())
    }
}
