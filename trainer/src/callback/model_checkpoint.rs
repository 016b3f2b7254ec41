//! Saves checkpoints: the last, or the best by a metric.

use std::path::{Path, PathBuf};

use fulgurite_jit::Result;
use serde_json::{Value, json};

use super::{Callback, HookCx, Mode, StateDict, bad_state};
use crate::checkpoint;
use crate::fit::run::Run;
use crate::metrics::{float_from_json, float_to_json};

/// Saves checkpoints into the folder `checkpoints` of the run, at the end of every epoch unless said otherwise.
///
/// | constructor | is due | score | writes |
/// |---|---|---|---|
/// | `last()` | at the end of each epoch and of the run | | `last.safetensors`, replaced each time |
/// | `last().every_n_train_steps(n)` | after each `n`-th step and at the end of the run | | the same |
/// | `best(metric)` | at the end of each epoch, after its validation | the value logged in this epoch; without one it is not due | `best.safetensors`, where the score is the best so far |
/// | `best(metric of steps).every_n_train_steps(n)` | after each `n`-th step | the value of this step, which is read for it | the same |
/// | `best(metric of validation).every_n_train_steps(n)` | at the first validation after each `n`-th step | the value of this validation | the same |
/// | any of these with `save_top_k(k)` | the same | the same | `epoch=E-step=S.safetensors` where the score is among the best `k`; the one that drops out is removed |
///
/// A file holds the state of the moment at which it was due. A score that is NaN is the worst. Where two callbacks of
/// one run would write the same file, the second appends its metric to the name: `best-val_acc.safetensors`. A
/// [`fast_dev_run`](crate::Trainer::fast_dev_run) writes nothing.
///
/// A resumed run keeps the scores. The best files so far are searched in the callback's
/// [`dirpath`](ModelCheckpoint::dirpath), if it has one, and beside the checkpoint that is resumed from; the new run
/// links them into its folder (or copies them, where the file system has no links), so that it can be resumed in turn.
/// Files of the earlier run are never removed; those that are missing, or hold the state of another step, no longer
/// count.
///
/// ```
/// use fulgurite_trainer::ModelCheckpoint;
/// let last = ModelCheckpoint::last().every_n_train_steps(1_000); // last.safetensors, replaced each time
/// let best = ModelCheckpoint::best("val_acc");             // best.safetensors
/// let top = ModelCheckpoint::best("val_loss").save_top_k(3); // epoch=4-step=500.safetensors, …
/// ```
#[derive(Clone, Debug)]
pub struct ModelCheckpoint {
    monitor: Option<Monitor>,
    dirpath: Option<PathBuf>,
    every_n_train_steps: Option<usize>,
    top_k: usize,
    kept: Vec<Kept>,
    // Has an `n`-th step passed without a score?
    is_due: bool,
    // Appended to the names of the files, so that no other callback has the same.
    suffix: String,
    // Step and position of the last checkpoint: the step alone is the same before and after the end of an epoch.
    saved_at: Option<(usize, (usize, usize))>,
}

#[derive(Clone, Debug)]
struct Monitor {
    metric: String,
    mode: Option<Mode>,
}

/// One of the best so far.
#[derive(Clone, Debug)]
struct Kept {
    score: f64,
    // The step whose state the file holds.
    step: usize,
    name: String,
    // Has that name, unless the checkpoint that the run was resumed from is the best itself.
    file: PathBuf,
    // Was it written by this run? Files of an earlier run are not removed.
    is_own: bool,
}

impl ModelCheckpoint {
    /// Saves `last.safetensors`, at the end of each epoch and of the run.
    pub fn last() -> Self {
        ModelCheckpoint {
            monitor: None,
            dirpath: None,
            every_n_train_steps: None,
            top_k: 1,
            kept: Vec::new(),
            is_due: false,
            suffix: String::new(),
            saved_at: None,
        }
    }

    /// Saves `best.safetensors` whenever the metric is the best so far, with the mode that its name implies.
    pub fn best(metric: impl Into<String>) -> Self {
        ModelCheckpoint::last().monitor(metric)
    }

    /// Monitors a metric: [`ModelCheckpoint::best`] as a setting.
    pub fn monitor(self, metric: impl Into<String>) -> Self {
        ModelCheckpoint { monitor: Some(Monitor { metric: metric.into(), mode: None }), ..self }
    }

    /// Whether smaller or larger values are better.
    pub fn mode(self, mode: Mode) -> Self {
        let monitor = self.monitor.map(|monitor| Monitor { mode: Some(mode), ..monitor });
        ModelCheckpoint { monitor, ..self }
    }

    /// The folder of the files. `checkpoints` in that of the run, unless set.
    pub fn dirpath(self, folder: impl Into<PathBuf>) -> Self {
        ModelCheckpoint { dirpath: Some(folder.into()), ..self }
    }

    /// Saves (or scores) every `n` steps instead of at the end of every epoch.
    pub fn every_n_train_steps(self, n: usize) -> Self {
        ModelCheckpoint { every_n_train_steps: Some(n.max(1)), ..self }
    }

    /// Keeps the best `k` instead of one, each under a name with its epoch and step.
    pub fn save_top_k(self, k: usize) -> Self {
        ModelCheckpoint { top_k: k, ..self }
    }

    fn folder_in(&self, run: &Run) -> Result<PathBuf> {
        match &self.dirpath {
            Some(folder) => Ok(folder.clone()),
            None => Ok(run.folder()?.join("checkpoints")),
        }
    }

    /// Saves if the score is among the best.
    fn maybe_save(&mut self, run: &mut Run, score: f64) -> Result<()> {
        let Some(Monitor { metric, mode }) = &self.monitor else { return self.save_last(run) };
        let mode = mode.map_or_else(|| Mode::of(metric), Ok)?;
        // A score that is NaN is the worst.
        let place = self.kept.iter().position(|kept| kept.score.is_nan() || mode.improves(score, kept.score, 0.0));
        let place = if score.is_nan() { self.kept.len() } else { place.unwrap_or(self.kept.len()) };
        if place >= self.top_k {
            return Ok(());
        }
        let name = match self.top_k {
            1 => self.best_name(),
            _ => format!("epoch={}-step={}{}.safetensors", run.epoch(), run.step(), self.suffix),
        };
        let file = self.folder_in(run)?.join(&name);
        run.save(&file);
        self.kept.insert(place, Kept { score, step: run.step(), name, file: file.clone(), is_own: true });
        for dropped in self.kept.split_off(self.top_k.min(self.kept.len())) {
            if dropped.is_own && dropped.file != file {
                run.remove(dropped.file);
            }
        }
        Ok(())
    }

    fn save_last(&mut self, run: &mut Run) -> Result<()> {
        let file = self.folder_in(run)?.join(format!("last{}.safetensors", self.suffix));
        run.save(&file);
        self.saved_at = Some((run.step(), run.position()));
        Ok(())
    }

    fn best_name(&self) -> String {
        format!("best{}.safetensors", self.suffix)
    }

    /// Links the best files of an earlier run into the folder of this one, so that it can be resumed in turn.
    fn adopt(&mut self, run: &mut Run) -> Result<()> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let folder = self.folder_in(run)?;
        let best = self.best_name();
        for kept in &mut self.kept {
            if self.top_k == 1 {
                kept.name.clone_from(&best);
            }
            let file = folder.join(&kept.name);
            if kept.file != file {
                run.link(std::mem::replace(&mut kept.file, file.clone()), file);
                kept.is_own = true;
            }
        }
        Ok(())
    }
}

impl Callback for ModelCheckpoint {
    fn name(&self) -> String {
        let mut name = match &self.monitor {
            Some(Monitor { metric, mode }) => {
                let mode = mode.or_else(|| Mode::of(metric).ok()).map_or("", Mode::name);
                format!("best {metric} {mode}, top {}", self.top_k)
            }
            None => "last".to_string(),
        };
        if let Some(n) = self.every_n_train_steps {
            name += &format!(", every {n} steps");
        }
        // Without its parents: equal runs in different folders save equal bytes.
        if let Some(folder) = self.dirpath.as_ref().and_then(|folder| folder.file_name()) {
            name += &format!(", in {}", folder.to_string_lossy());
        }
        format!("ModelCheckpoint({name})")
    }

    fn on_fit_start(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        if let Some(Monitor { metric, mode: mode @ None }) = &mut self.monitor {
            *mode = Some(Mode::of(metric).map_err(|e| e.context("ModelCheckpoint"))?);
        }
        let stem = match (&self.monitor, self.top_k) {
            (None, _) => "last",
            (Some(_), 1) => "best",
            (Some(_), _) => "epoch=E-step=S",
        };
        let detail = match (&self.monitor, self.every_n_train_steps) {
            // No name of a metric leads out of the folder.
            (Some(monitor), _) => monitor.metric.replace(|c: char| c == '/' || c == '\\' || c.is_control(), "_"),
            (None, Some(n)) => format!("every={n}"),
            (None, None) => "epoch".to_string(),
        };
        // Names differ within a folder that the user gives; that of the run is made only when it is needed.
        let folder = self.dirpath.clone().unwrap_or_default();
        // In such a folder a resumed run finds the best files of other callbacks, and does not overwrite them.
        let is_resumed = self.dirpath.is_some() && stem == "best" && cx.run.step() > 0;
        let is_anothers = |name: &str| {
            let file = folder.join(format!("{name}.safetensors"));
            is_resumed && file.is_file() && !self.kept.iter().any(|kept| kept.file == file)
        };
        self.suffix = cx.run.claim(&folder, stem, &detail, is_anothers)[stem.len()..].to_string();
        if cx.run.persists { self.adopt(cx.run) } else { Ok(()) }
    }

    fn reads_metrics(&self, step: usize) -> bool {
        self.monitor.is_some() && self.every_n_train_steps.is_some_and(|n| step.is_multiple_of(n))
    }

    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        if self.every_n_train_steps.is_none_or(|n| !run.step().is_multiple_of(n)) || !run.persists {
            return Ok(());
        }
        let Some(monitor) = &self.monitor else { return self.save_last(run) };
        match run.metrics().get_of_step(&monitor.metric, run.step()) {
            Some(score) => self.maybe_save(run, score),
            None => {
                self.is_due = true;
                Ok(())
            }
        }
    }

    fn on_train_epoch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        let Some(monitor) = &self.monitor else {
            return if self.every_n_train_steps.is_some() || !run.persists { Ok(()) } else { self.save_last(run) };
        };
        let of_epoch = run.monitored("ModelCheckpoint", &monitor.metric)?;
        let score = match self.every_n_train_steps {
            None => of_epoch,
            Some(_) if self.is_due => run.metrics().get_of_step(&monitor.metric, run.step()),
            Some(_) => None,
        };
        let Some(score) = score else { return Ok(()) };
        self.is_due = false;
        if run.persists { self.maybe_save(run, score) } else { Ok(()) }
    }

    fn on_fit_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        if self.monitor.is_none() && run.persists && self.saved_at != Some((run.step(), run.position())) {
            self.save_last(run)?;
        }
        // All requests are carried out by now. A file that was removed since is not the best.
        let best = self.kept.iter().map(|kept| &kept.file).find(|file| run.persists && file.is_file());
        if let Some(file) = best {
            run.best_checkpoint.get_or_insert_with(|| file.clone());
        }
        Ok(())
    }

    fn state_dict(&self) -> StateDict {
        // Names without folders: equal runs in different folders save equal bytes.
        let entry = |kept: &Kept| json!([float_to_json(kept.score), kept.name, kept.step]);
        let kept: Vec<Value> = self.kept.iter().map(entry).collect();
        let value = match self.monitor {
            Some(_) => json!({ "kept": kept, "due": self.is_due }),
            None => json!({ "kept": [] }),
        };
        value.into()
    }

    fn load_state_dict(&mut self, state: &StateDict, file: &Path) -> Result<()> {
        let read = |entry: &Value| {
            let (score, name) = (float_from_json(entry.get(0)?)?, entry.get(1)?.as_str()?.to_string());
            // Older checkpoints do not have the step.
            let step = entry.get(2).map_or(Some(None), |step| Some(Some(usize::try_from(step.as_u64()?).ok()?)))?;
            // A path could name any file; only names are accepted.
            (Path::new(&name).file_name() == Some(name.as_ref())).then_some((score, name, step))
        };
        let kept = state.get("kept").and_then(Value::as_array).map(|kept| kept.iter().map(read).collect());
        let kept: Vec<_> = Option::flatten(kept).ok_or_else(|| bad_state("ModelCheckpoint", file))?;
        // A file that is missing, or holds another state, cannot be the best. The checkpoint itself can.
        let folders = [self.dirpath.as_deref(), file.parent()];
        let find = |(score, name, step): (f64, String, Option<usize>)| {
            let named = folders.into_iter().flatten().map(|folder| folder.join(&name));
            let itself = step.map(|_| file.to_path_buf());
            let is_it = |file: PathBuf| {
                let found = checkpoint::step_of(&file)?;
                (step.is_none() || step == Some(found)).then_some((file, found))
            };
            let (file, step) = named.chain(itself).find_map(is_it)?;
            Some(Kept { score, step, name, file, is_own: false })
        };
        self.kept = kept.into_iter().filter_map(find).collect();
        self.is_due = state.get("due").and_then(Value::as_bool).unwrap_or(false);
        Ok(())
    }
}
