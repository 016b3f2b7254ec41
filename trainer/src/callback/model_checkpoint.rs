//! Saves checkpoints: the last, or the best by a metric.

use std::path::{Path, PathBuf};

use fulgurite_jit::Result;
use serde_json::{Value, json};

use super::{Callback, Mode, bad_state};
use crate::metrics::{float_from_json, float_to_json};
use crate::run::Run;

/// Saves checkpoints into the folder `checkpoints` of the run, at the end of every epoch unless said otherwise.
///
/// ```
/// use fulgurite_trainer::ModelCheckpoint;
/// let last = ModelCheckpoint::last().every_n_steps(1_000); // last.safetensors, replaced each time
/// let best = ModelCheckpoint::best("val_acc");             // best.safetensors
/// let top = ModelCheckpoint::best("val_loss").save_top_k(3); // epoch=4-step=500.safetensors, …
/// ```
#[derive(Clone, Debug)]
pub struct ModelCheckpoint {
    watch: Option<Watch>,
    folder: Option<PathBuf>,
    every_n_steps: Option<usize>,
    top_k: usize,
    kept: Vec<Kept>,
    // The step and the place in the data of the last checkpoint: at the end of an epoch the step alone does not tell.
    saved_at: Option<(usize, (usize, usize))>,
}

#[derive(Clone, Debug)]
struct Watch {
    metric: String,
    mode: Option<Mode>,
}

/// One of the best so far.
#[derive(Clone, Debug)]
struct Kept {
    score: f64,
    file: PathBuf,
    // Files of the run that this one goes on from are left alone.
    ours: bool,
}

impl ModelCheckpoint {
    /// Saves `last.safetensors`, at the end of each epoch and of the run.
    pub fn last() -> Self {
        ModelCheckpoint { watch: None, folder: None, every_n_steps: None, top_k: 1, kept: Vec::new(), saved_at: None }
    }

    /// Saves `best.safetensors` whenever the metric is better than ever; the mode is what its name says.
    pub fn best(metric: impl Into<String>) -> Self {
        ModelCheckpoint { watch: Some(Watch { metric: metric.into(), mode: None }), ..ModelCheckpoint::last() }
    }

    /// Is a smaller or a larger metric better?
    pub fn mode(self, mode: Mode) -> Self {
        let watch = self.watch.map(|watch| Watch { mode: Some(mode), ..watch });
        ModelCheckpoint { watch, ..self }
    }

    /// Another folder than `checkpoints` in that of the run.
    pub fn folder(self, folder: impl Into<PathBuf>) -> Self {
        ModelCheckpoint { folder: Some(folder.into()), ..self }
    }

    /// Saves (or looks at the metric) every `n` steps instead of at the end of every epoch.
    pub fn every_n_steps(self, n: usize) -> Self {
        ModelCheckpoint { every_n_steps: Some(n.max(1)), ..self }
    }

    /// Keeps the best `k` instead of one, each under a name with its epoch and step.
    pub fn save_top_k(self, k: usize) -> Self {
        ModelCheckpoint { top_k: k, ..self }
    }

    fn folder_in(&self, run: &mut Run) -> Result<PathBuf> {
        match &self.folder {
            Some(folder) => Ok(folder.clone()),
            None => Ok(run.folder()?.join("checkpoints")),
        }
    }

    /// Saves if there is a reason to.
    fn look(&mut self, run: &mut Run) -> Result<()> {
        let Some(Watch { metric, mode }) = &self.watch else { return self.save_last(run) };
        let Some(score) = run.metrics().get_of_epoch(metric, run.epoch()) else { return Ok(()) };
        let mode = mode.map_or_else(|| Mode::of(metric), Ok)?;
        // A score that is not a number is the worst of all.
        let place = self.kept.iter().position(|kept| kept.score.is_nan() || mode.improves(score, kept.score, 0.0));
        let place = if score.is_nan() { self.kept.len() } else { place.unwrap_or(self.kept.len()) };
        if place >= self.top_k {
            return Ok(());
        }
        let name = match self.top_k {
            1 => "best.safetensors".to_string(),
            _ => format!("epoch={}-step={}.safetensors", run.epoch(), run.step()),
        };
        let file = self.folder_in(run)?.join(name);
        run.save(&file);
        self.kept.insert(place, Kept { score, file: file.clone(), ours: true });
        for dropped in self.kept.split_off(self.top_k.min(self.kept.len())) {
            if dropped.ours && dropped.file != file {
                run.remove(dropped.file);
            }
        }
        Ok(())
    }

    fn save_last(&mut self, run: &mut Run) -> Result<()> {
        let file = self.folder_in(run)?.join("last.safetensors");
        run.save(&file);
        self.saved_at = Some((run.step(), run.position()));
        self.kept = vec![Kept { score: f64::NAN, file, ours: true }];
        Ok(())
    }

    /// The best file so far, or the last one where no metric is watched.
    fn file(&self) -> Option<&Path> {
        self.kept.first().map(|kept| kept.file.as_path())
    }
}

impl Callback for ModelCheckpoint {
    fn name(&self) -> String {
        match &self.watch {
            Some(watch) => format!("ModelCheckpoint(best {})", watch.metric),
            None => "ModelCheckpoint(last)".to_string(),
        }
    }

    fn on_fit_start(&mut self, _: &mut Run) -> Result<()> {
        if let Some(Watch { metric, mode: mode @ None }) = &mut self.watch {
            *mode = Some(Mode::of(metric).map_err(|e| e.context("ModelCheckpoint"))?);
        }
        Ok(())
    }

    fn on_step_end(&mut self, run: &mut Run) -> Result<()> {
        match self.every_n_steps {
            Some(n) if run.step().is_multiple_of(n) => self.look(run),
            Some(_) | None => Ok(()),
        }
    }

    fn on_epoch_end(&mut self, run: &mut Run) -> Result<()> {
        if let Some(watch) = &self.watch {
            run.watched("ModelCheckpoint", &watch.metric)?;
        }
        if self.every_n_steps.is_some() { Ok(()) } else { self.look(run) }
    }

    fn on_fit_end(&mut self, run: &mut Run) -> Result<()> {
        if self.watch.is_none() && self.saved_at != Some((run.step(), run.position())) {
            self.save_last(run)?;
        }
        if self.watch.is_some()
            && let Some(file) = self.file()
        {
            run.best_checkpoint = Some(file.to_path_buf());
        }
        Ok(())
    }

    fn state(&self) -> Value {
        // Names without folders: equal runs in different folders save equal bytes.
        let name = |file: &Path| file.file_name().map(|name| name.to_string_lossy().into_owned());
        let kept: Vec<Value> = self.kept.iter().map(|k| json!([float_to_json(k.score), name(&k.file)])).collect();
        if self.watch.is_some() { json!({ "kept": kept }) } else { json!({ "kept": [] }) }
    }

    fn load_state(&mut self, state: &Value, file: &Path) -> Result<()> {
        let folder = file.parent().unwrap_or(Path::new(""));
        let read = |entry: &Value| {
            let (score, name) = (float_from_json(entry.get(0)?)?, entry.get(1)?.as_str()?);
            Some(Kept { score, file: folder.join(name), ours: false })
        };
        let kept = state.get("kept").and_then(Value::as_array).map(|kept| kept.iter().map(read).collect());
        self.kept = kept.flatten().ok_or_else(|| bad_state("ModelCheckpoint", file))?;
        Ok(())
    }
}
