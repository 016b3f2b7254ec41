//! A run, as hooks see it: where it is, what was measured, and what they may ask of it.
//!
//! Hooks ask; the fit loop carries out after all hooks of that moment have run, so that a checkpoint holds the state of
//! every callback after that moment, whatever their order.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fulgurite_jit::{Error, Result};

use crate::metrics::Metrics;

/// Where a run is and what it has measured. Hooks get it, and ask it to [`stop`](Run::stop) or to [`save`](Run::save).
#[derive(Debug)]
pub struct Run {
    pub(crate) step: usize,
    pub(crate) epoch: usize,
    pub(crate) batch: usize,
    pub(crate) batches: usize,
    pub(crate) epoch_over: bool,
    pub(crate) validates: bool,
    /// Does it write files? A trial does not.
    pub(crate) writes: bool,
    pub(crate) validations: usize,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Option<String>,
    pub(crate) interrupted: bool,
    pub(crate) best_checkpoint: Option<PathBuf>,
    pub(crate) logged: Vec<(Arc<str>, f64)>,
    pub(crate) requests: Vec<Request>,
    /// Files that callbacks write, each one's own.
    claimed: Vec<PathBuf>,
    /// The folder of the run's files, made when it is first needed, below the parent.
    folder: OnceLock<PathBuf>,
    parent: PathBuf,
}

/// What a hook has asked for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Write a checkpoint there.
    Save(PathBuf),
    /// Remove this one.
    Remove(PathBuf),
    /// Have the first under the name of the second, too.
    TakeAlong(PathBuf, PathBuf),
}

impl Run {
    /// A run that keeps its files in the first free `version_N` below `parent`.
    pub(crate) fn new(parent: PathBuf) -> Self {
        Run {
            step: 0,
            epoch: 0,
            batch: 0,
            batches: 0,
            epoch_over: false,
            validates: false,
            writes: true,
            validations: 0,
            metrics: Metrics::default(),
            stop: None,
            interrupted: false,
            best_checkpoint: None,
            logged: Vec::new(),
            requests: Vec::new(),
            claimed: Vec::new(),
            folder: OnceLock::new(),
            parent,
        }
    }

    /// Steps taken so far.
    pub fn step(&self) -> usize {
        self.step
    }

    /// The epoch that is on, from 0.
    pub fn epoch(&self) -> usize {
        self.epoch
    }

    /// Batches of this epoch that have been trained on.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Batches that this epoch has.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// The latest value of everything that was logged. Values of training steps are read every `log_every_n_steps`
    /// and in the last step of an epoch.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Logs a number from the host, beside those of the steps.
    pub fn log(&mut self, name: impl Into<Arc<str>>, value: f64) {
        let name = name.into();
        self.metrics.set(&name, value, self.epoch, self.step);
        self.logged.push((name, value));
    }

    /// Ends the run after this moment's hooks. A run that goes on from its checkpoint is ended again only by a callback that
    /// has kept why in its [state](crate::Callback::state), as [`EarlyStopping`](crate::EarlyStopping) does.
    pub fn stop(&mut self, why: impl Into<String>) {
        self.stop.get_or_insert(why.into());
    }

    /// Writes a checkpoint after this moment's hooks.
    pub fn save(&mut self, file: impl Into<PathBuf>) {
        self.requests.push(Request::Save(file.into()));
    }

    /// Removes a checkpoint after this moment's hooks; one that is not there is no error.
    pub fn remove(&mut self, file: impl Into<PathBuf>) {
        self.requests.push(Request::Remove(file.into()));
    }

    /// The folder of this run's files, `ROOT/NAME/version_N`. It is made when first asked for.
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

    /// Takes over a checkpoint of an earlier run under a name of this one, after this moment's hooks.
    pub(crate) fn take_along(&mut self, from: PathBuf, to: PathBuf) {
        self.requests.push(Request::TakeAlong(from, to));
    }

    /// A file for one callback alone: `folder/STEM.safetensors`, or with `detail` and a number where another has that, or
    /// where the name is `refused`. A folder that is there counts as one, by whatever name it is called.
    pub(crate) fn claim(&mut self, folder: &Path, stem: &str, detail: &str, refused: impl Fn(&str) -> bool) -> String {
        let folder = folder.canonicalize().or_else(|_| std::path::absolute(folder));
        let folder = folder.unwrap_or_default();
        let with_detail = format!("{stem}-{detail}");
        let numbered = (1..).map(|i| format!("{with_detail}-v{i}"));
        let names = [stem.to_string(), with_detail.clone()].into_iter().chain(numbered);
        for name in names {
            let file = folder.join(&name);
            if !self.claimed.contains(&file) && !refused(&name) {
                self.claimed.push(file);
                return name;
            }
        }
        unreachable!("there are more numbers than callbacks")
    }

    /// The folder, if it was made.
    pub(crate) fn folder_if_made(&self) -> Option<PathBuf> {
        self.folder.get().cloned()
    }

    /// At the end of an epoch: the value of a metric that `who` watches, if it was logged in this epoch.
    ///
    /// # Errors
    /// When no metric has that name, and validation (which may log it) has already run or will not.
    pub fn watched(&self, who: &str, name: &str) -> Result<Option<f64>> {
        let value = self.metrics.get_of_epoch(name, self.epoch);
        if self.metrics.get(name).is_none() && (self.validations > 0 || !self.validates) {
            let known = self.metrics.names();
            let known = if known.is_empty() { "nothing was logged".into() } else { format!("logged were: {known}") };
            return Err(Error::new(format!("{who} watches the metric `{name}`, which does not exist; {known}")));
        }
        Ok(value)
    }

    /// Is the run to end?
    pub(crate) fn is_over(&self) -> bool {
        self.stop.is_some() || self.interrupted
    }

    /// Where the data goes on: epoch and batch. After the end of an epoch that is the start of the next.
    pub(crate) fn position(&self) -> (usize, usize) {
        if self.epoch_over { (self.epoch + 1, 0) } else { (self.epoch, self.batch) }
    }
}

/// Makes the first free `version_N`. Of two runs that start at once, each gets its own.
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
