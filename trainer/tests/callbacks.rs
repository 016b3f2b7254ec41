//! The callbacks that come with the trainer.

mod common;

use common::{Curve, Script, data, folder, loader, message, one_batch, quiet};
use fulgurite_jit::{Result, Tensor, Tree};
use fulgurite_trainer::checkpoint::load;
use fulgurite_trainer::{Callback, Checkpoint, EarlyStopping, HookCx, Mode, ModelCheckpoint};

fn epochs(script: &[f32], callback: EarlyStopping) -> Result<(usize, Option<String>)> {
    let folder = folder();
    let trainer = quiet(folder.path()).max_epochs(script.len()).callback(callback);
    let result = trainer.fit(&Script(script.to_vec()), &one_batch())?;
    Ok((result.epoch, result.stopped))
}

#[test]
fn early_stopping() -> Result<()> {
    let smaller = || EarlyStopping::new("score").mode(Mode::Min);
    let (epoch, why) = epochs(&[5.0, 4.0, 4.5, 3.0, 3.5, 3.0, 3.1, 1.0, 1.0], smaller())?;
    assert_eq!(epoch, 7, "the third in a row that is not below 3");
    assert!(why.is_some_and(|why| why.contains("`score` has not improved for 3 epochs")));
    assert_eq!(epochs(&[5.0, 4.0, 3.0, 2.0], smaller())?, (4, None));
    assert_eq!(epochs(&[5.0, 4.5, 4.2, 4.1, 0.0], smaller().min_delta(1.0).patience(3))?.0, 4);
    assert_eq!(epochs(&[1.0, 2.0, 2.0, 3.0], smaller().mode(Mode::Max).patience(1))?.0, 3);
    let (epoch, why) = epochs(&[1.0, f32::NAN, 0.5], smaller())?;
    assert_eq!((epoch, why.as_deref()), (2, Some("`score` is NaN")));
    assert_eq!(epochs(&[1.0, f32::NAN, 0.5, 0.4], smaller().check_finite(false))?.0, 4);
    assert_eq!(epochs(&[3.0, 2.0, 0.9, 0.8], smaller().stopping_threshold(1.0))?.0, 3);
    Ok(())
}

#[test]
fn thresholds_that_are_nan_are_errors() {
    let stopping = || EarlyStopping::new("score").mode(Mode::Min);
    for callback in [stopping().min_delta(f64::NAN), stopping().stopping_threshold(f64::NAN)] {
        assert!(message(epochs(&[1.0], callback)).contains("no value is better than NaN"));
    }
}

/// A run that was stopped early stops again when it is resumed; one that was killed earlier keeps its wait count.
#[test]
fn early_stopping_is_resumed() -> Result<()> {
    let folder = folder();
    let module = Script(vec![1.0, 2.0, 3.0, 0.5, 4.0, 4.0, 4.0, 4.0]);
    let trainer = |epochs| {
        let callback = EarlyStopping::new("score").mode(Mode::Min).patience(3);
        quiet(folder.path()).max_epochs(epochs).callback(callback).callback(ModelCheckpoint::last())
    };
    let whole = trainer(8).fit(&module, &one_batch())?;
    assert_eq!(whole.epoch, 7);
    let part = trainer(6).fit(&module, &one_batch())?;
    assert_eq!((part.epoch, part.stopped), (6, None));
    let rest = trainer(8).ckpt_path(part.last_checkpoint.expect("a checkpoint")).fit(&module, &one_batch())?;
    assert_eq!((rest.epoch, &rest.stopped), (7, &whole.stopped));
    let again = trainer(8).ckpt_path(rest.last_checkpoint.expect("a checkpoint")).fit(&module, &one_batch())?;
    assert_eq!(again.epoch, 7);
    Ok(())
}

fn kept(folder: &std::path::Path) -> Vec<String> {
    let files = std::fs::read_dir(folder.join("test/version_0/checkpoints")).expect("a folder");
    let mut names: Vec<String> =
        files.map(|file| file.expect("a file").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn best_and_last() -> Result<()> {
    let folder = folder();
    let module = Script(vec![0.5, 0.9, f32::NAN, 0.7, 0.8]);
    let result = quiet(folder.path())
        .max_epochs(5)
        .callback(ModelCheckpoint::last())
        .callback(ModelCheckpoint::best("score"))
        .fit(&module, &one_batch())?;
    assert_eq!(kept(folder.path()), ["best.safetensors", "last.safetensors"]);
    let best = Checkpoint::read(result.best_checkpoint.expect("a best"))?;
    assert_eq!(best.model(&Tensor::zeros(&[]))?.item::<f32>()?, 2.0, "epoch 1 had 0.9");
    let last = Checkpoint::read(result.last_checkpoint.expect("a last"))?;
    assert_eq!(last.model(&Tensor::zeros(&[]))?.item::<f32>()?, 5.0);
    Ok(())
}

#[test]
fn the_best_few() -> Result<()> {
    let folder = folder();
    let module = Script(vec![5.0, 3.0, 4.0, 6.0, 3.5]);
    let trainer = quiet(folder.path()).max_epochs(5);
    let callback = ModelCheckpoint::best("score").mode(Mode::Min).save_top_k(2);
    let result = trainer.callback(callback).fit(&module, &one_batch())?;
    assert_eq!(kept(folder.path()), ["epoch=1-step=2.safetensors", "epoch=4-step=5.safetensors"]);
    assert!(result.best_checkpoint.is_some_and(|path| path.ends_with("epoch=1-step=2.safetensors")));
    Ok(())
}

#[test]
fn every_few_steps() -> Result<()> {
    let folder = folder();
    let own = folder.path().join("own");
    let result = quiet(folder.path())
        .max_steps(7)
        .callback(ModelCheckpoint::last().every_n_train_steps(3).dirpath(&own))
        .fit(&Curve, &data())?;
    assert_eq!(Checkpoint::read(own.join("last.safetensors"))?.step(), 7, "and at the end");
    assert_eq!(result.last_checkpoint, Some(own.join("last.safetensors")));
    assert_eq!(result.folder, None, "the run had no need of one");
    Ok(())
}

#[test]
fn a_folder_that_cannot_be_written() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let callback = ModelCheckpoint::last().dirpath(&file);
    let text = message(quiet(folder.path()).max_steps(1).callback(callback).fit(&Curve, &data()));
    assert!(text.contains("cannot write the checkpoint") && text.contains("file/last.safetensors"), "{text}");
}

#[test]
fn names_of_metrics() {
    let folder = folder();
    let fit =
        |callback: EarlyStopping| message(quiet(folder.path()).max_epochs(2).callback(callback).fit(&Curve, &data()));
    let text = fit(EarlyStopping::new("val_los").mode(Mode::Min));
    assert!(text.contains("`val_los`, which does not exist") && text.contains("loss, size, val_loss"), "{text}");
    let text = fit(EarlyStopping::new("quality"));
    assert!(text.contains("smaller or a larger `quality`"), "{text}");
    let text =
        message(quiet(folder.path()).max_epochs(2).callback(ModelCheckpoint::best("val_acc")).fit(&Curve, &loader()));
    assert!(text.contains("ModelCheckpoint monitors the metric `val_acc`"), "{text}");
    // It may come with the first validation, in the second epoch.
    let later = quiet(folder.path()).max_epochs(2).check_val_every_n_epoch(2);
    assert!(later.callback(EarlyStopping::new("val_loss")).fit(&Curve, &data()).is_ok());
    for (name, mode) in
        [("val_loss", Mode::Min), ("acc", Mode::Max), ("test/F1", Mode::Max), ("mean_reward", Mode::Max)]
    {
        assert_eq!(Mode::of(name), Ok(mode));
    }
    assert!(Mode::of("acc_loss").is_err() && Mode::of("lossy").is_err());
}

/// Stops, logs from the host, and saves.
#[derive(Clone)]
struct Busy;

impl Callback for Busy {
    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        if run.step() == 3 {
            run.log("host", 0.25);
            let file = run.folder()?.join("three.safetensors");
            run.save(file);
            run.stop("enough");
        }
        Ok(())
    }
}

#[test]
fn a_callback_of_ones_own() -> Result<()> {
    let folder = folder();
    let result = quiet(folder.path()).callback(Busy).fit(&Curve, &data())?;
    assert_eq!((result.step, result.epoch), (3, 0));
    assert_eq!(result.stopped.as_deref(), Some("enough"));
    assert_eq!(result.metrics.get("host"), Some(0.25));
    let file = folder.path().join("test/version_0/three.safetensors");
    assert_eq!(result.last_checkpoint.as_deref(), Some(&*file));

    // A checkpoint is a safetensors file of named leaves: part of it can be read by itself.
    #[derive(Clone, Tree)]
    struct Other {
        step: Tensor,
    }
    assert!(message(load(&file, &Other { step: Tensor::scalar(0i32) })).contains("`key` is in the file"));
    assert_eq!(Checkpoint::read(&file)?.step(), 3);
    Ok(())
}
