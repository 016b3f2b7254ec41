//! When `ModelCheckpoint` looks, scores and writes: a test for each row of its table.

mod common;

use common::{Curve, data, folder, message, quiet};
use fulgurite_jit::{Error, Result};
use fulgurite_trainer::{Callback, Checkpoint, EarlyStopping, Mode, ModelCheckpoint, Run};

/// The files in the folder of the checkpoints of `version_N`, sorted.
fn files(root: &std::path::Path, version: usize) -> Result<Vec<String>> {
    let folder = root.join(format!("test/version_{version}/checkpoints"));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn step_of(root: &std::path::Path, name: &str) -> Result<usize> {
    Ok(Checkpoint::read(root.join("test/version_0/checkpoints").join(name))?.step())
}

#[test]
fn last_is_of_the_end_of_the_run_however_often_it_is_saved() -> Result<()> {
    for callback in [ModelCheckpoint::last(), ModelCheckpoint::last().every_n_steps(2)] {
        let folder = folder();
        quiet(folder.path()).max_steps(7).callback(callback).fit(&Curve, &data())?;
        assert_eq!(files(folder.path(), 0)?, ["last.safetensors"]);
        assert_eq!(step_of(folder.path(), "last.safetensors")?, 7);
    }
    Ok(())
}

/// Notes the loss of each step.
struct Losses(std::sync::Arc<std::sync::Mutex<Vec<f64>>>);

impl Callback for Losses {
    fn reads_metrics(&self, _: usize) -> bool {
        true
    }
    fn on_step_end(&mut self, run: &mut Run) -> Result<()> {
        let loss = run.metrics().get("loss").ok_or_else(|| Error::new("no loss"))?;
        self.0.lock().expect("nobody has panicked").push(loss);
        Ok(())
    }
}

#[test]
fn a_metric_of_steps_scores_the_step_itself() -> Result<()> {
    let folder = folder();
    let losses = std::sync::Arc::<std::sync::Mutex<Vec<f64>>>::default();
    quiet(folder.path())
        .max_steps(12)
        .log_every_n_steps(5)
        .callback(ModelCheckpoint::best("loss").every_n_steps(3))
        .callback(Losses(losses.clone()))
        .fit(&Curve, &data())?;
    let losses = losses.lock().expect("nobody has panicked").clone();
    let best = [3, 6, 9, 12].into_iter().min_by(|&a: &usize, &b| losses[a - 1].total_cmp(&losses[b - 1]));
    assert_eq!(files(folder.path(), 0)?, ["best.safetensors"]);
    assert_eq!(Some(step_of(folder.path(), "best.safetensors")?), best, "{losses:?}");
    Ok(())
}

#[test]
fn a_metric_of_validation_scores_at_the_first_validation_after_each_nth_step() -> Result<()> {
    let folder = folder();
    quiet(folder.path())
        .max_epochs(3)
        .callback(ModelCheckpoint::best("val_loss").every_n_steps(2).save_top_k(9))
        .fit(&Curve, &data())?;
    assert_eq!(files(folder.path(), 0)?.len(), 3, "each epoch has steps enough");
    Ok(())
}

#[test]
fn two_of_a_run_write_files_of_their_own() -> Result<()> {
    let folder = folder();
    quiet(folder.path())
        .max_epochs(3)
        .callback(ModelCheckpoint::best("val_loss"))
        .callback(ModelCheckpoint::best("loss"))
        .callback(ModelCheckpoint::best("val_loss").mode(Mode::Max))
        .fit(&Curve, &data())?;
    assert_eq!(files(folder.path(), 0)?, ["best-loss.safetensors", "best-val_loss.safetensors", "best.safetensors"]);
    let twice = quiet(folder.path()).max_epochs(3);
    let twice = twice.callback(ModelCheckpoint::best("val_loss").save_top_k(2));
    let twice = twice.callback(ModelCheckpoint::best("val_loss").mode(Mode::Max).save_top_k(2));
    twice.fit(&Curve, &data())?;
    assert_eq!(files(folder.path(), 1)?.len(), 4);
    let same = quiet(folder.path()).max_epochs(1).callback(ModelCheckpoint::last()).callback(ModelCheckpoint::last());
    let text = message(same.fit(&Curve, &data()));
    assert!(text.contains("two callbacks are called `ModelCheckpoint(last)`"), "{text}");
    Ok(())
}

#[test]
fn after_a_resumption_the_best_is_a_file_that_is_there() -> Result<()> {
    let folder = folder();
    let trainer = |epochs| {
        let trainer = quiet(folder.path()).max_epochs(epochs).callback(ModelCheckpoint::last());
        trainer.callback(ModelCheckpoint::best("val_loss").mode(Mode::Max))
    };
    let first = trainer(2).fit(&Curve, &data())?;
    let last = first.last_checkpoint.clone().expect("a last").with_file_name("last.safetensors");
    std::fs::remove_file(first.best_checkpoint.expect("a best"))?;
    let second = trainer(3).ckpt_path(&last).fit(&Curve, &data())?;
    assert!(second.best_checkpoint.is_some_and(|best| best.is_file()));
    Ok(())
}

#[test]
fn a_run_that_was_ended_stays_ended() -> Result<()> {
    let folder = folder();
    let trainer = || {
        let trainer = quiet(folder.path()).max_epochs(9).callback(ModelCheckpoint::last());
        trainer.callback(EarlyStopping::new("val_loss").stopping_threshold(1e9))
    };
    let first = trainer().fit(&Curve, &data())?;
    assert_eq!(first.epoch, 1);
    let second = trainer().ckpt_path(first.last_checkpoint.expect("a last")).fit(&Curve, &data())?;
    assert_eq!((second.epoch, second.step), (first.epoch, first.step));
    assert!(second.stopped.is_some_and(|why| why.contains("it had ended before") && why.contains("good enough")));
    Ok(())
}
