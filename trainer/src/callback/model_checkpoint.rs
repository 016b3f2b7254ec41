//! Saves checkpoints: the last, or the best by a metric.

use std::path::{Path, PathBuf};

use fulgurite_jit::Result;
use serde_json::{Value, json};

use super::{Callback, Mode, bad_state};
use crate::checkpoint;
use crate::metrics::{float_from_json, float_to_json};
use crate::run::Run;

/// Saves checkpoints into the folder `checkpoints` of the run, at the end of every epoch unless said otherwise.
///
/// | made by | looks | scores by | writes |
/// |---|---|---|---|
/// | `last()` | at the end of each epoch and of the run | | `last.safetensors`, replaced each time |
/// | `last().every_n_steps(n)` | after each `n`-th step and at the end of the run | | the same |
/// | `best(metric)` | at the end of each epoch, after its validation | the value logged in this epoch; none: it does not look | `best.safetensors`, where the score is better than ever |
/// | `best(metric of steps).every_n_steps(n)` | after each `n`-th step | the value of this very step, which is read for it | the same |
/// | `best(metric of validation).every_n_steps(n)` | at the first validation after each `n`-th step | the value of this validation | the same |
/// | any of these `best` with `save_top_k(k)` | as it | as it | `epoch=E-step=S.safetensors` where the score is among the best `k`; the one that no longer is is removed |
///
/// What it writes has the state of that moment. A score that is NaN is the worst of all. Where two of one run would write
/// the same file, the second puts its metric behind the name: `best-val_acc.safetensors`. Of a trial
/// ([`fast_dev_run`](crate::Trainer::fast_dev_run)) nothing is written.
///
/// After a resumption the scores go on. The best files so far are looked for in the callback's own
/// [`folder`](ModelCheckpoint::folder), if it has one, and beside the checkpoint that is resumed from; the new run takes
/// them along into its folder (as links to the same files, where the disk has such), so that it can be resumed in turn.
/// Files of the earlier run are never removed; those that are gone, or that have the state of another step by now, do not
/// count any more.
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
    // Has an `n`-th step gone by without a score to look at?
    is_due: bool,
    // What comes behind the names of the files, so that they are this one's alone.
    suffix: String,
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
    // The step whose state the file has.
    step: usize,
    name: String,
    // Of that name, but where the checkpoint that a run goes on from is the best itself.
    file: PathBuf,
    // Files of the run that this one goes on from are left alone.
    ours: bool,
}

impl ModelCheckpoint {
    /// Saves `last.safetensors`, at the end of each epoch and of the run.
    pub fn last() -> Self {
        ModelCheckpoint {
            watch: None,
            folder: None,
            every_n_steps: None,
            top_k: 1,
            kept: Vec::new(),
            is_due: false,
            suffix: String::new(),
            saved_at: None,
        }
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

    fn folder_in(&self, run: &Run) -> Result<PathBuf> {
        match &self.folder {
            Some(folder) => Ok(folder.clone()),
            None => Ok(run.folder()?.join("checkpoints")),
        }
    }

    /// Saves if the score says so.
    fn look(&mut self, run: &mut Run, score: f64) -> Result<()> {
        let Some(Watch { metric, mode }) = &self.watch else { return self.save_last(run) };
        let mode = mode.map_or_else(|| Mode::of(metric), Ok)?;
        // A score that is not a number is the worst of all.
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
        self.kept.insert(place, Kept { score, step: run.step(), name, file: file.clone(), ours: true });
        for dropped in self.kept.split_off(self.top_k.min(self.kept.len())) {
            if dropped.ours && dropped.file != file {
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

    /// Has the best files of an earlier run in the folder of this one, too: it can be resumed in turn.
    fn take_along(&mut self, run: &mut Run) -> Result<()> {
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
                run.take_along(std::mem::replace(&mut kept.file, file.clone()), file);
                kept.ours = true;
            }
        }
        Ok(())
    }
}

impl Callback for ModelCheckpoint {
    fn name(&self) -> String {
        let mut name = match &self.watch {
            Some(Watch { metric, mode }) => {
                let mode = mode.or_else(|| Mode::of(metric).ok()).map_or("", Mode::name);
                format!("best {metric} {mode}, top {}", self.top_k)
            }
            None => "last".to_string(),
        };
        if let Some(n) = self.every_n_steps {
            name += &format!(", every {n} steps");
        }
        // The last part alone: equal runs in different folders save equal bytes.
        if let Some(folder) = self.folder.as_ref().and_then(|folder| folder.file_name()) {
            name += &format!(", in {}", folder.to_string_lossy());
        }
        format!("ModelCheckpoint({name})")
    }

    fn on_fit_start(&mut self, run: &mut Run) -> Result<()> {
        if let Some(Watch { metric, mode: mode @ None }) = &mut self.watch {
            *mode = Some(Mode::of(metric).map_err(|e| e.context("ModelCheckpoint"))?);
        }
        let stem = match (&self.watch, self.top_k) {
            (None, _) => "last",
            (Some(_), 1) => "best",
            (Some(_), _) => "epoch=E-step=S",
        };
        let detail = match (&self.watch, self.every_n_steps) {
            // No metric can leave the folder by its name.
            (Some(watch), _) => watch.metric.replace(|c: char| c == '/' || c == '\\' || c.is_control(), "_"),
            (None, Some(n)) => format!("every={n}"),
            (None, None) => "epoch".to_string(),
        };
        // Names are told apart within the folder that the user names; that of the run is made only when it is needed.
        let folder = self.folder.clone().unwrap_or_default();
        // In a folder that the user names, a run that goes on finds the best of other callbacks, which are not overwritten.
        let goes_on = self.folder.is_some() && stem == "best" && run.step() > 0;
        let is_anothers = |name: &str| {
            let file = folder.join(format!("{name}.safetensors"));
            goes_on && file.is_file() && !self.kept.iter().any(|kept| kept.file == file)
        };
        self.suffix = run.claim(&folder, stem, &detail, is_anothers)[stem.len()..].to_string();
        if run.writes { self.take_along(run) } else { Ok(()) }
    }

    fn reads_metrics(&self, step: usize) -> bool {
        self.watch.is_some() && self.every_n_steps.is_some_and(|n| step.is_multiple_of(n))
    }

    fn on_step_end(&mut self, run: &mut Run) -> Result<()> {
        if self.every_n_steps.is_none_or(|n| !run.step().is_multiple_of(n)) || !run.writes {
            return Ok(());
        }
        let Some(watch) = &self.watch else { return self.save_last(run) };
        match run.metrics().get_of_step(&watch.metric, run.step()) {
            Some(score) => self.look(run, score),
            None => {
                self.is_due = true;
                Ok(())
            }
        }
    }

    fn on_epoch_end(&mut self, run: &mut Run) -> Result<()> {
        let Some(watch) = &self.watch else {
            return if self.every_n_steps.is_some() || !run.writes { Ok(()) } else { self.save_last(run) };
        };
        let of_epoch = run.watched("ModelCheckpoint", &watch.metric)?;
        let score = match self.every_n_steps {
            None => of_epoch,
            Some(_) if self.is_due => run.metrics().get_of_step(&watch.metric, run.step()),
            Some(_) => None,
        };
        let Some(score) = score else { return Ok(()) };
        self.is_due = false;
        if run.writes { self.look(run, score) } else { Ok(()) }
    }

    fn on_fit_end(&mut self, run: &mut Run) -> Result<()> {
        if self.watch.is_none() && run.writes && self.saved_at != Some((run.step(), run.position())) {
            self.save_last(run)?;
        }
        // All that was asked for is written by now; what somebody has removed since is not the best.
        let best = self.kept.iter().map(|kept| &kept.file).find(|file| run.writes && file.is_file());
        if let Some(file) = best {
            run.best_checkpoint.get_or_insert_with(|| file.clone());
        }
        Ok(())
    }

    fn state(&self) -> Value {
        // Names without folders: equal runs in different folders save equal bytes.
        let entry = |kept: &Kept| json!([float_to_json(kept.score), kept.name, kept.step]);
        let kept: Vec<Value> = self.kept.iter().map(entry).collect();
        if self.watch.is_some() { json!({ "kept": kept, "due": self.is_due }) } else { json!({ "kept": [] }) }
    }

    fn load_state(&mut self, state: &Value, file: &Path) -> Result<()> {
        let read = |entry: &Value| {
            let (score, name) = (float_from_json(entry.get(0)?)?, entry.get(1)?.as_str()?.to_string());
            // Older checkpoints do not have the step.
            let step = entry.get(2).map_or(Some(None), |step| Some(Some(usize::try_from(step.as_u64()?).ok()?)))?;
            // A path could name any file.
            (Path::new(&name).file_name() == Some(name.as_ref())).then_some((score, name, step))
        };
        let kept = state.get("kept").and_then(Value::as_array).map(|kept| kept.iter().map(read).collect());
        let kept: Vec<_> = Option::flatten(kept).ok_or_else(|| bad_state("ModelCheckpoint", file))?;
        // What is gone, or has another state by now, cannot be the best. The checkpoint itself can.
        let folders = [self.folder.as_deref(), file.parent()];
        let find = |(score, name, step): (f64, String, Option<usize>)| {
            let named = folders.into_iter().flatten().map(|folder| folder.join(&name));
            let itself = step.map(|_| file.to_path_buf());
            let is_it = |file: PathBuf| {
                let found = checkpoint::step_of(&file)?;
                (step.is_none() || step == Some(found)).then_some((file, found))
            };
            let (file, step) = named.chain(itself).find_map(is_it)?;
            Some(Kept { score, step, name, file, ours: false })
        };
        self.kept = kept.into_iter().filter_map(find).collect();
        self.is_due = state.get("due").and_then(Value::as_bool).unwrap_or(false);
        Ok(())
    }
}
