//! A run as hooks see it: its position, its metrics, and what hooks may request of it.
//!
//! Not done here: the requests. The fit loop carries them out after all hooks of a moment have run, so that a
//! checkpoint holds the state of every callback after that moment, whatever their order.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fulgurite_jit::{Error, Result};

use crate::config::Config;
use crate::metrics::{self, History, Metric, Metrics, Record, Values};

/// The position and the metrics of a run. Hooks may request to [`stop`](Run::stop) it or to [`save`](Run::save) a
/// checkpoint.
#[derive(Debug)]
pub struct Run {
    pub(crate) step: usize,
    pub(crate) epoch: usize,
    pub(crate) batch: usize,
    pub(crate) batches: usize,
    pub(crate) epoch_over: bool,
    pub(crate) validates: bool,
    /// Does it write files? One of `fast_dev_run` does not.
    pub(crate) persists: bool,
    max_epochs: Option<usize>,
    /// The batch of the current validation, and how many it has.
    pub(crate) val_batch: usize,
    pub(crate) val_batches: usize,
    pub(crate) validations: usize,
    pub(crate) metrics: History,
    /// What the last step has logged, on the device.
    step_metrics: Vec<Metric>,
    /// The same on the host, once it was read.
    fetched: Option<Vec<(Arc<str>, f64)>>,
    pub(crate) stop: Option<String>,
    pub(crate) interrupted: bool,
    pub(crate) best_checkpoint: Option<PathBuf>,
    pub(crate) logged: Vec<(Arc<str>, f64)>,
    pub(crate) requests: Vec<Request>,
    /// Files that callbacks have reserved.
    claimed: Vec<PathBuf>,
    /// The folder of the run's files, below the parent, made when it is first needed.
    folder: OnceLock<PathBuf>,
    parent: PathBuf,
}

/// What a hook requests.
#[derive(Debug)]
pub(crate) enum Request {
    /// Write a checkpoint to this path.
    Save(PathBuf),
    /// Remove this file.
    Remove(PathBuf),
    /// Make the first file available under the second path too.
    Link(PathBuf, PathBuf),
}

impl Run {
    /// A run at its start. Its files go into the first free `version_N` of the run's name.
    pub(crate) fn new(config: &Config) -> Self {
        Run {
            step: 0,
            epoch: 0,
            batch: 0,
            batches: 0,
            epoch_over: false,
            validates: false,
            persists: config.persists(),
            max_epochs: config.max_epochs,
            val_batch: 0,
            val_batches: 0,
            validations: 0,
            metrics: History::default(),
            step_metrics: Vec::new(),
            fetched: None,
            stop: None,
            interrupted: false,
            best_checkpoint: None,
            logged: Vec::new(),
            requests: Vec::new(),
            claimed: Vec::new(),
            folder: OnceLock::new(),
            parent: config.parent_dir(),
        }
    }

    /// Steps taken so far.
    pub fn step(&self) -> usize {
        self.step
    }

    /// The current epoch, from 0.
    pub fn epoch(&self) -> usize {
        self.epoch
    }

    /// Batches of this epoch that have been trained on.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The number of training batches in an epoch.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// The number of epochs, where it is limited.
    pub fn max_epochs(&self) -> Option<usize> {
        self.max_epochs
    }

    /// The batch of the current validation, from 0.
    pub fn val_batch(&self) -> usize {
        self.val_batch
    }

    /// The number of batches of the current validation.
    pub fn val_batches(&self) -> usize {
        self.val_batches
    }

    /// The reason for which a callback has [stopped](Run::stop) the run.
    pub fn stop_reason(&self) -> Option<&str> {
        self.stop.as_deref()
    }

    /// The metrics of the last training step. The first call after a step waits for the step.
    ///
    /// # Errors
    /// When a metric has no value.
    pub fn step_metrics(&mut self) -> Result<&[(Arc<str>, f64)]> {
        let fetched = match self.fetched.take() {
            Some(fetched) => fetched,
            None => metrics::read(&self.step_metrics)?,
        };
        Ok(self.fetched.insert(fetched))
    }

    /// Starts to read the metrics of the last training step.
    pub(crate) fn record_step(&mut self, is_logged: bool) {
        let values = Values::of(self.step_metrics.clone());
        self.record(values, is_logged);
    }

    /// Adds values to the metrics.
    pub(crate) fn record(&mut self, values: Values, is_logged: bool) {
        let Run { step, epoch, .. } = *self;
        self.metrics.push(Record { step, epoch, is_logged, values });
    }

    pub(crate) fn set_step_metrics(&mut self, metrics: Vec<Metric>) {
        (self.step_metrics, self.fetched) = (metrics, None);
    }

    /// The latest value of each metric. Those of training steps are read every `log_every_n_steps` and after the last
    /// step of an epoch; see [`Run::step_metrics`] for the others. On a GPU they are on their way for a while, and the
    /// first call waits for them.
    pub fn metrics(&self) -> &Metrics {
        self.metrics.latest()
    }

    /// Logs a number from the host.
    pub fn log(&mut self, name: impl Into<Arc<str>>, value: f64) {
        let name = name.into();
        self.record(Values::Read(vec![(name.clone(), value)]), false);
        self.logged.push((name, value));
    }

    /// Ends the run after this moment's hooks. A checkpoint does not hold the request: a callback that is to stop the
    /// resumed run as well keeps the reason in its [state](crate::Callback::state_dict), as
    /// [`EarlyStopping`](crate::EarlyStopping) does.
    pub fn stop(&mut self, reason: impl Into<String>) {
        self.stop.get_or_insert(reason.into());
    }

    /// Writes a checkpoint after this moment's hooks.
    pub fn save(&mut self, file: impl Into<PathBuf>) {
        self.requests.push(Request::Save(file.into()));
    }

    /// Removes a checkpoint after this moment's hooks. A file that does not exist is no error.
    pub fn remove(&mut self, file: impl Into<PathBuf>) {
        self.requests.push(Request::Remove(file.into()));
    }

    /// The folder of this run's files, `ROOT/NAME/version_N`. It is made by the first call.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self) -> Result<&Path> {
        match self.folder.get() {
            Some(folder) => Ok(folder),
            None => {
                let made = make_version(&self.parent)?;
                Ok(self.folder.get_or_init(|| made))
            }
        }
    }

    /// Links (or copies) a checkpoint of an earlier run to a path of this one, after this moment's hooks.
    pub(crate) fn link(&mut self, from: PathBuf, to: PathBuf) {
        self.requests.push(Request::Link(from, to));
    }

    /// Reserves a file for one callback: `folder/STEM.safetensors`, or with `detail` and a number where another
    /// callback has reserved that, or where the name is `rejected`. Two paths of one existing folder count as one.
    pub(crate) fn claim(&mut self, folder: &Path, stem: &str, detail: &str, rejected: impl Fn(&str) -> bool) -> String {
        let folder = folder.canonicalize().or_else(|_| std::path::absolute(folder));
        let folder = folder.unwrap_or_default();
        let with_detail = format!("{stem}-{detail}");
        let numbered = (1..).map(|i| format!("{with_detail}-v{i}"));
        let names = [stem.to_string(), with_detail.clone()].into_iter().chain(numbered);
        for name in names {
            let file = folder.join(&name);
            if !self.claimed.contains(&file) && !rejected(&name) {
                self.claimed.push(file);
                return name;
            }
        }
        unreachable!("there are more numbers than callbacks")
    }

    /// The folder, if it exists.
    pub(crate) fn folder_if_made(&self) -> Option<PathBuf> {
        self.folder.get().cloned()
    }

    /// At the end of an epoch: the value of the metric `name`, if it was logged in this epoch. `callback` is the name
    /// of the callback that monitors it, for error messages.
    ///
    /// # Errors
    /// When no metric has that name, and validation (which may log it) has already run or will not run.
    pub fn monitored(&self, callback: &str, name: &str) -> Result<Option<f64>> {
        let metrics = self.metrics();
        let value = metrics.get_of_epoch(name, self.epoch);
        if metrics.get(name).is_none() && (self.validations > 0 || !self.validates) {
            let known = metrics.names();
            let known = if known.is_empty() { "nothing was logged".into() } else { format!("logged were: {known}") };
            return Err(Error::new(format!("{callback} monitors the metric `{name}`, which does not exist; {known}")));
        }
        Ok(value)
    }

    /// Has the run been stopped or interrupted?
    pub(crate) fn is_over(&self) -> bool {
        self.stop.is_some() || self.interrupted
    }

    /// The epoch and the batch to continue with. After the end of an epoch that is the start of the next.
    pub(crate) fn position(&self) -> (usize, usize) {
        if self.epoch_over { (self.epoch + 1, 0) } else { (self.epoch, self.batch) }
    }
}

/// Makes the first free `version_N`. Two runs that start at the same time get different ones.
fn make_version(parent: &Path) -> Result<PathBuf> {
    let cannot = |path: &Path, e: std::io::Error| {
        Error::new(format!("cannot make the run's folder {}: {e}; `default_root_dir` sets another", path.display()))
    };
    std::fs::create_dir_all(parent).map_err(|e| cannot(parent, e))?;
    let mut version = 0;
    loop {
        let path = parent.join(format!("version_{version}"));
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => version += 1,
            Err(e) => return Err(cannot(&path, e)),
        }
    }
}
