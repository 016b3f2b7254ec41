//! The table of `ModelCheckpoint`, row by row: after which moment which file has the state of which step.

mod common;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::{at, folder, message, quiet};
use fulgurite_jit::{Key, Result, Tensor};
use fulgurite_trainer::optim::manual;
use fulgurite_trainer::{
    ArrayDataset, Callback, Checkpoint, DataLoader, EarlyStopping, HookCx, LightningModule, Mode, ModelCheckpoint,
    Optimizer, StateOf, StepCx, TrainState, Trainer,
};

/// Its only parameter counts steps. Each step logs `of_step` and each validation `val`, as the scripts say.
#[derive(Clone)]
struct Scripts {
    steps: Vec<f32>,
    epochs: Vec<f32>,
}

/// Nine steps, three to an epoch.
fn scripts() -> Scripts {
    Scripts { steps: vec![5.0, 3.0, 4.0, 1.0, 9.0, 6.0, 2.0, 7.0, 8.0], epochs: vec![2.0, 9.0, 4.0] }
}

/// Three batches for training, one for validation.
fn data() -> (DataLoader<Tensor>, DataLoader<Tensor>) {
    let loader = |n| DataLoader::new(ArrayDataset::new(ndarray::Array1::<f32>::ones(n)).expect("a dataset"));
    (loader(3).batch_size(1), loader(1))
}

impl LightningModule for Scripts {
    type Model = Tensor;
    type Batch = Tensor;

    fn init(&self, _: Key) -> Tensor {
        Tensor::zeros(&[])
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        manual()
    }

    fn training_step(&self, _: &Tensor, x: &Tensor, _: &mut StepCx) -> Tensor {
        x.mean()
    }

    fn step<O: Optimizer>(&self, _: &O, state: StateOf<Self, O>, _: &Tensor, cx: &mut StepCx) -> StateOf<Self, O> {
        cx.log("of_step", at(&self.steps, &state.model));
        TrainState { model: state.model + 1.0, ..state }
    }

    fn validation_step(&self, step: &Tensor, _: &Tensor, cx: &mut StepCx) {
        cx.log("val", at(&self.epochs, &(step / 3.0 - 1.0)));
    }
}

/// Notes what has changed in a folder, and after which moment.
#[derive(Clone)]
struct Watcher {
    folder: PathBuf,
    moment: String,
    seen: Vec<String>,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Watcher {
    /// What the hooks of one moment ask for is done before those of the next are called.
    fn look(&mut self, next: String) -> Result<()> {
        let mut files = Vec::new();
        for entry in self.folder.read_dir().into_iter().flatten() {
            let file = entry?.path();
            let stem = file.file_stem().expect("a name").to_string_lossy().into_owned();
            files.push(format!("{stem} of {}", Checkpoint::read(file)?.step()));
        }
        files.sort();
        if files != self.seen {
            let note = format!("{}: {}", self.moment, files.join(", "));
            self.notes.lock().expect("no thread has panicked").push(note);
            self.seen = files;
        }
        self.moment = next;
        Ok(())
    }
}

impl Callback for Watcher {
    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        self.look(format!("step {}", run.step()))
    }

    fn on_validation_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        self.look(format!("validation {}", run.epoch()))
    }

    fn on_train_epoch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        self.look(format!("epoch {}", run.epoch()))
    }

    fn on_fit_end(&mut self, _: &mut HookCx<'_>) -> Result<()> {
        self.look("run".into())
    }
}

/// What `callback` writes, and when.
fn written(callback: ModelCheckpoint, module: &Scripts, set: impl Fn(Trainer) -> Trainer) -> Result<Vec<String>> {
    let root = folder();
    written_in(root.path(), callback, module, set)
}

fn written_in(
    root: &Path,
    callback: ModelCheckpoint,
    module: &Scripts,
    set: impl Fn(Trainer) -> Trainer,
) -> Result<Vec<String>> {
    let own = root.join("own");
    let notes = Arc::<Mutex<Vec<String>>>::default();
    let mut watcher = Watcher { folder: own.clone(), moment: String::new(), seen: Vec::new(), notes: notes.clone() };
    watcher.look("start".into())?;
    notes.lock().expect("no thread has panicked").clear();
    let trainer = set(quiet(root).max_epochs(3)).callback(watcher).callback(callback.dirpath(&own));
    trainer.fit(module, &data())?;
    // After the run, once more.
    let seen = notes.lock().expect("no thread has panicked").last().cloned().unwrap_or_default();
    let mut last = Watcher { folder: own, moment: "run".into(), seen: Vec::new(), notes: notes.clone() };
    last.look(String::new())?;
    let mut notes = notes.lock().expect("no thread has panicked").clone();
    // Nothing new at the end of the run is no note.
    let files = |note: &str| note.split_once(": ").map(|(_, files)| files.to_string());
    if notes.last().is_some_and(|note| note.starts_with("run: ") && files(note) == files(&seen)) {
        notes.pop();
    }
    Ok(notes)
}

fn best(metric: &str) -> ModelCheckpoint {
    ModelCheckpoint::best(metric).mode(Mode::Max)
}

#[test]
fn last_is_written_at_the_end_of_each_epoch_and_of_the_run() -> Result<()> {
    let notes = written(ModelCheckpoint::last(), &scripts(), |trainer| trainer.max_steps(8))?;
    assert_eq!(notes, ["epoch 0: last of 3", "epoch 1: last of 6", "run: last of 8"]);
    Ok(())
}

#[test]
fn last_every_n_steps_is_written_after_each_nth_step_and_at_the_end_of_the_run() -> Result<()> {
    let last = ModelCheckpoint::last().every_n_train_steps(2);
    let notes = written(last, &scripts(), |trainer| trainer.max_steps(7))?;
    assert_eq!(notes, ["step 2: last of 2", "step 4: last of 4", "step 6: last of 6", "run: last of 7"]);
    Ok(())
}

#[test]
fn best_is_scored_at_the_end_of_each_epoch_after_its_validation() -> Result<()> {
    let notes = written(best("val"), &scripts(), |trainer| trainer)?;
    assert_eq!(notes, ["epoch 0: best of 3", "epoch 1: best of 6"]);
    // A metric of steps: that of the last step of the epoch (4, 6, 8).
    let notes = written(best("of_step"), &scripts(), |trainer| trainer.log_every_n_steps(2))?;
    assert_eq!(notes, ["epoch 0: best of 3", "epoch 1: best of 6", "epoch 2: best of 9"]);
    let notes = written(best("of_step").mode(Mode::Min), &scripts(), |trainer| trainer.log_every_n_steps(2))?;
    assert_eq!(notes, ["epoch 0: best of 3"]);
    Ok(())
}

#[test]
fn best_does_not_look_in_an_epoch_without_a_value() -> Result<()> {
    let notes = written(best("val"), &scripts(), |trainer| trainer.check_val_every_n_epoch(2))?;
    assert_eq!(notes, ["epoch 1: best of 6"]);
    // The value of epoch 1 does not count in epoch 2.
    let module = Scripts { epochs: vec![0.0, 1.0, 5.0], ..scripts() };
    let notes = written(best("val").save_top_k(3), &module, |trainer| trainer.check_val_every_n_epoch(2))?;
    assert_eq!(notes, ["epoch 1: epoch=1-step=6 of 6"]);
    Ok(())
}

#[test]
fn best_of_steps_every_n_steps_is_scored_by_the_very_step() -> Result<()> {
    // Of steps 2, 4, 6, 8: 3, 1, 6, 7. The neighbours (5, 4, 9, 2, 8) would say otherwise.
    for log_every in [1, 3, 50] {
        let set = |trainer: Trainer| trainer.log_every_n_steps(log_every);
        let notes = written(best("of_step").every_n_train_steps(2), &scripts(), set)?;
        assert_eq!(notes, ["step 2: best of 2", "step 6: best of 6", "step 8: best of 8"]);
        let notes = written(best("of_step").mode(Mode::Min).every_n_train_steps(2), &scripts(), set)?;
        assert_eq!(notes, ["step 2: best of 2", "step 4: best of 4"]);
    }
    Ok(())
}

#[test]
fn best_of_validation_every_n_steps_is_scored_at_the_next_validation() -> Result<()> {
    // After steps 4 and 8 come the validations of epochs 1 and 2; epoch 0, the least, is not looked at.
    let least = || best("val").mode(Mode::Min);
    let notes = written(least().every_n_train_steps(4), &scripts(), |trainer| trainer)?;
    assert_eq!(notes, ["epoch 1: best of 6", "epoch 2: best of 9"]);
    let notes = written(least().every_n_train_steps(1), &scripts(), |trainer| trainer)?;
    assert_eq!(notes, ["epoch 0: best of 3"]);
    let notes = written(least().every_n_train_steps(7), &scripts(), |trainer| trainer)?;
    assert_eq!(notes, ["epoch 2: best of 9"]);
    let notes = written(least().every_n_train_steps(10), &scripts(), |trainer| trainer)?;
    assert!(notes.is_empty(), "{notes:?}");
    // Validation in epoch 1 alone: step 2 waits for it.
    let notes = written(least().every_n_train_steps(2), &scripts(), |trainer| trainer.check_val_every_n_epoch(2))?;
    assert_eq!(notes, ["epoch 1: best of 6"]);
    Ok(())
}

/// The run is stopped between the step and the validation, and resumed.
#[test]
fn what_waits_for_a_validation_waits_after_a_resumption() -> Result<()> {
    let root = folder();
    let callback = || best("val").mode(Mode::Min).every_n_train_steps(4);
    let notes = written_in(root.path(), callback(), &scripts(), |trainer| {
        trainer.max_steps(5).callback(ModelCheckpoint::last())
    })?;
    assert!(notes.is_empty(), "{notes:?}");
    let last = root.path().join("test/version_0/checkpoints/last.safetensors");
    let notes = written_in(root.path(), callback(), &scripts(), |trainer| trainer.ckpt_path(&last))?;
    assert_eq!(notes, ["epoch 1: best of 6", "epoch 2: best of 9"]);
    Ok(())
}

#[test]
fn save_top_k_keeps_the_best_k_and_removes_the_one_that_no_longer_is() -> Result<()> {
    let notes = written(best("val").save_top_k(2), &scripts(), |trainer| trainer)?;
    let (first, second, third) = ("epoch=0-step=3 of 3", "epoch=1-step=6 of 6", "epoch=2-step=9 of 9");
    assert_eq!(
        notes,
        [format!("epoch 0: {first}"), format!("epoch 1: {first}, {second}"), format!("epoch 2: {second}, {third}"),]
    );
    let notes = written(best("of_step").every_n_train_steps(2).save_top_k(2), &scripts(), |trainer| trainer)?;
    let of = |epoch: usize, step: usize| format!("epoch={epoch}-step={step} of {step}");
    assert_eq!(
        notes,
        [
            format!("step 2: {}", of(0, 2)),
            format!("step 4: {}, {}", of(0, 2), of(1, 4)),
            format!("step 6: {}, {}", of(0, 2), of(1, 6)),
            format!("step 8: {}, {}", of(1, 6), of(2, 8)),
        ]
    );
    let notes = written(best("val").save_top_k(0), &scripts(), |trainer| trainer)?;
    assert!(notes.is_empty(), "{notes:?}");
    Ok(())
}

#[test]
fn a_score_that_is_nan_is_the_worst_of_all() -> Result<()> {
    for mode in [Mode::Min, Mode::Max] {
        let nan = f32::NAN;
        // A script is a sum over places, one of which counts: NaN elsewhere is not selected.
        let module = Scripts { epochs: vec![nan, 2.0, nan], ..scripts() };
        let notes = written(best("val").mode(mode), &module, |trainer| trainer)?;
        assert_eq!(notes, ["epoch 0: best of 3", "epoch 1: best of 6"]);
        let notes = written(best("val").mode(mode).save_top_k(2), &module, |trainer| trainer)?;
        assert_eq!(notes.last().map(String::as_str), Some("epoch 1: epoch=0-step=3 of 3, epoch=1-step=6 of 6"));
    }
    Ok(())
}

#[test]
fn files_of_an_earlier_run_are_never_removed() -> Result<()> {
    let root = folder();
    let callback = || best("val").save_top_k(1);
    let top = || best("val").save_top_k(2);
    let module = Scripts { epochs: vec![1.0, 2.0, 3.0], ..scripts() };
    let fit = |epochs: usize, from: Option<&Path>| {
        let trainer = quiet(root.path()).max_epochs(epochs).callback(ModelCheckpoint::last());
        let trainer = trainer.callback(callback()).callback(top());
        match from {
            Some(file) => trainer.ckpt_path(file).fit(&module, &data()),
            None => trainer.fit(&module, &data()),
        }
    };
    fit(2, None)?;
    let earlier = root.path().join("test/version_0/checkpoints");
    let names = |folder: &Path| -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            files.push((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?));
        }
        files.sort();
        Ok(files)
    };
    let before = names(&earlier)?;
    let result = fit(3, Some(&earlier.join("last.safetensors")))?;
    assert!(names(&earlier)? == before);
    let later = root.path().join("test/version_1/checkpoints");
    let later: Vec<String> = names(&later)?.into_iter().map(|(name, _)| name).collect();
    let top = ["epoch=1-step=6.safetensors", "epoch=2-step=9.safetensors"];
    assert_eq!(later, ["best.safetensors", top[0], top[1], "last.safetensors"]);
    assert_eq!(Checkpoint::read(result.best_checkpoint.expect("a best"))?.step(), 9);
    Ok(())
}

/// For every reason: NaN, the threshold, the patience.
#[test]
fn a_run_that_was_ended_for_any_reason_is_over_when_it_is_resumed() -> Result<()> {
    let stopping = || EarlyStopping::new("val").mode(Mode::Max);
    let reasons: [(EarlyStopping, Vec<f32>, &str); 4] = [
        (stopping(), vec![f32::NAN, 1.0, 2.0], "`val` is NaN"),
        (stopping(), vec![f32::INFINITY, 1.0, 2.0], "`val` is inf"),
        (stopping().stopping_threshold(3.0), vec![4.0, 5.0, 6.0], "good enough"),
        (stopping().patience(1), vec![1.0, 1.0, 6.0], "not improved for 1 epochs"),
    ];
    for (callback, epochs, why) in reasons {
        let root = folder();
        let module = Scripts { epochs, ..scripts() };
        let trainer = || {
            // The checkpoint is requested before there is a reason, and holds it.
            quiet(root.path()).max_epochs(3).callback(ModelCheckpoint::last()).callback(callback.clone())
        };
        let first = trainer().fit(&module, &data())?;
        assert!(first.stopped.as_ref().is_some_and(|text| text.contains(why)), "{:?}", first.stopped);
        let mut from = first.last_checkpoint.clone().expect("a last");
        for _ in 0..2 {
            let again = trainer().ckpt_path(&from).fit(&module, &data())?;
            assert_eq!((again.step, again.epoch), (first.step, first.epoch));
            let text = again.stopped.expect("a reason");
            assert_eq!(text, format!("it had ended before: {}", first.stopped.clone().expect("a reason")));
            from = again.last_checkpoint.expect("a last");
        }
        // Without it, or with other settings, the run continues.
        let rest = quiet(root.path()).max_epochs(3).ckpt_path(&from).fit(&module, &data())?;
        assert_eq!((rest.epoch, rest.stopped), (3, None));
        let other = callback.clone().patience(9).check_finite(false).stopping_threshold(100.0);
        let rest = quiet(root.path()).max_epochs(3).callback(other).ckpt_path(&from).fit(&module, &data())?;
        assert_eq!((rest.epoch, rest.stopped), (3, None));
    }
    Ok(())
}

/// Both reasons at once: the checkpoint has the one that the run gives.
#[test]
fn the_first_reason_is_the_one_that_is_kept() -> Result<()> {
    let root = folder();
    let callback = || EarlyStopping::new("val").mode(Mode::Max).patience(0).min_delta(10.0).stopping_threshold(1.5);
    let module = Scripts { epochs: vec![1.0, 2.0, 3.0], ..scripts() };
    let trainer = || quiet(root.path()).max_epochs(3).callback(callback()).callback(ModelCheckpoint::last());
    let first = trainer().fit(&module, &data())?;
    let again = trainer().ckpt_path(first.last_checkpoint.expect("a last")).fit(&module, &data())?;
    let why = first.stopped.expect("a reason");
    assert!(why.contains("good enough"), "{why}");
    assert_eq!(again.stopped, Some(format!("it had ended before: {why}")));
    Ok(())
}

/// Two on one metric, each with its own state.
#[test]
fn callbacks_of_other_settings_have_states_of_their_own() -> Result<()> {
    let root = folder();
    let module = Scripts { epochs: vec![1.0, 0.5, 0.25], ..scripts() };
    let trainer = |epochs| {
        let stopping = || EarlyStopping::new("val").mode(Mode::Max);
        quiet(root.path())
            .max_epochs(epochs)
            .callback(ModelCheckpoint::last())
            .callback(stopping().patience(2))
            .callback(stopping().patience(2).stopping_threshold(9.0))
            .callback(stopping().patience(2).min_delta(0.5))
            .callback(stopping().patience(2).check_finite(false))
            .callback(stopping().patience(2).mode(Mode::Min))
            .callback(best("val"))
            .callback(best("val").mode(Mode::Min))
            .callback(best("val").save_top_k(2))
            .callback(best("val").every_n_train_steps(2))
    };
    let first = trainer(2).fit(&module, &data())?;
    let rest = trainer(3).ckpt_path(first.last_checkpoint.expect("a checkpoint")).fit(&module, &data())?;
    assert_eq!((rest.epoch, rest.step), (3, 9));
    let folder = root.path().join("test/version_1/checkpoints");
    let step = |name: &str| Ok::<_, fulgurite_jit::Error>(Checkpoint::read(folder.join(name))?.step());
    assert_eq!((step("best.safetensors")?, step("best-val.safetensors")?), (3, 9));
    assert_eq!(step("best-val-v1.safetensors")?, 3);
    Ok(())
}

#[test]
fn two_of_a_run_write_files_of_their_own() -> Result<()> {
    let root = folder();
    let names = |version: usize| -> Result<Vec<String>> {
        let folder = root.path().join(format!("test/version_{version}/checkpoints"));
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    };
    let trainer = || quiet(root.path()).max_epochs(3);
    let three = trainer().callback(best("val")).callback(best("of_step")).callback(best("val").mode(Mode::Min));
    three.fit(&scripts(), &data())?;
    assert_eq!(names(0)?, ["best-of_step.safetensors", "best-val.safetensors", "best.safetensors"]);
    let twice = trainer().callback(best("val").save_top_k(2)).callback(best("val").mode(Mode::Min).save_top_k(2));
    twice.fit(&scripts(), &data())?;
    assert_eq!(names(1)?.len(), 4);
    Ok(())
}

/// Two callbacks share a folder, in either order in the resumed run, and where one of them is new.
#[test]
fn the_best_of_another_callback_is_not_overwritten_after_a_resumption() -> Result<()> {
    let module = Scripts { epochs: vec![9.0, 1.0, 2.0], ..scripts() };
    for both_at_first in [false, true] {
        let root = folder();
        let own = root.path().join("own");
        // `val` is best after epoch 0; `of_step` gets better in each epoch.
        let (val, of_step) = (|| best("val").dirpath(&own), || best("of_step").dirpath(&own));
        let trainer = |epochs| quiet(root.path()).max_epochs(epochs).log_every_n_steps(1);
        let first = trainer(2).callback(val()).callback(ModelCheckpoint::last());
        let first = if both_at_first { first.callback(of_step()) } else { first }.fit(&module, &data())?;
        let from = first.last_checkpoint.expect("a last");
        let from =
            if from.starts_with(&own) { root.path().join("test/version_0/checkpoints/last.safetensors") } else { from };
        trainer(3).callback(of_step()).callback(val()).ckpt_path(&from).fit(&module, &data())?;
        let step = |name: &str| Ok::<_, fulgurite_jit::Error>(Checkpoint::read(own.join(name))?.step());
        assert_eq!((step("best.safetensors")?, step("best-of_step.safetensors")?), (3, 9), "{both_at_first}");
    }
    Ok(())
}

#[test]
fn after_a_resumption_the_best_is_a_file_that_is_there() -> Result<()> {
    let root = folder();
    let trainer =
        |epochs| quiet(root.path()).max_epochs(epochs).callback(ModelCheckpoint::last()).callback(best("val"));
    let first = trainer(2).fit(&scripts(), &data())?;
    let last = first.last_checkpoint.expect("a last").with_file_name("last.safetensors");
    std::fs::remove_file(first.best_checkpoint.expect("a best"))?;
    let second = trainer(3).ckpt_path(&last).fit(&scripts(), &data())?;
    assert!(second.best_checkpoint.is_some_and(|best| best.is_file()));
    Ok(())
}

/// Does nothing, under the name of its type.
#[derive(Clone)]
struct Nothing;

impl Callback for Nothing {}

#[test]
fn a_callback_of_a_name_that_is_there_is_an_error_that_names_it() {
    let root = folder();
    let twice = quiet(root.path()).max_steps(1).callback(Nothing).callback(ModelCheckpoint::last()).callback(Nothing);
    let text = message(twice.fit(&scripts(), &data()));
    let last = || quiet(root.path()).max_steps(1).callback(ModelCheckpoint::last());
    let lasts = message(last().callback(ModelCheckpoint::last()).fit(&scripts(), &data()));
    assert!(lasts.contains("two callbacks are called `ModelCheckpoint(last)`"), "{lasts}");
    assert!(text.contains("two callbacks are called `") && text.contains("Nothing`"), "{text}");
    assert_eq!(std::fs::read_dir(root.path()).map(Iterator::count).ok(), Some(0));
}
