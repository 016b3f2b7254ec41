//! Checkpoints: what they hold, and that a resumed run ends with the same bits.

mod common;

use std::path::{Path, PathBuf};

use common::{Curve, bytes, data, folder, loader, message, quiet};
use fulgurite_jit::{DType, Error, Key, Result, Tensor, Tree, gelu};
use fulgurite_trainer::checkpoint::{load, save};
use fulgurite_trainer::nn::Mlp;
use fulgurite_trainer::{Callback, Checkpoint, EarlyStopping, FitResult, HookCx, ModelCheckpoint, Trainer};

/// Ends the run with an error after a step, as a crash would: nothing is saved at the end.
#[derive(Clone)]
struct Crash {
    at: usize,
}

impl Callback for Crash {
    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        if run.step() == self.at { Err(Error::new("crash")) } else { Ok(()) }
    }
}

/// Four epochs of five steps, with everything that has a state.
fn trainer(folder: &Path, crash: usize) -> Trainer {
    quiet(folder)
        .max_epochs(4)
        .log_every_n_steps(3)
        .callback(ModelCheckpoint::last().every_n_train_steps(1))
        .callback(ModelCheckpoint::best("val_loss").save_top_k(2))
        .callback(EarlyStopping::new("loss").patience(100))
        .callback(Crash { at: crash })
}

fn checkpoint(folder: &Path, version: usize) -> PathBuf {
    folder.join(format!("test/version_{version}/checkpoints/last.safetensors"))
}

#[test]
fn a_resumed_run_ends_with_the_same_bits() -> Result<()> {
    let whole = folder();
    let expected = trainer(whole.path(), usize::MAX).fit(&Curve, &data())?;
    let expected_file = std::fs::read(checkpoint(whole.path(), 0))?;
    // In an epoch, at its end (before its validation), at its start; once, and twice.
    for crashes in [vec![1], vec![4], vec![5], vec![6], vec![13], vec![20], vec![3, 5], vec![5, 10, 15]] {
        let folder = folder();
        let mut from: Option<PathBuf> = None;
        let mut attempt = |version: usize, crash: usize| -> Result<FitResult<Mlp>> {
            let trainer = trainer(folder.path(), crash);
            let trainer = match &from {
                Some(path) => trainer.ckpt_path(path),
                None => trainer,
            };
            // The crash comes in the step's hooks, before its checkpoint is written: the last one is that of the step
            // before.
            let result = trainer.fit(&Curve, &data());
            let file = checkpoint(folder.path(), version);
            if file.exists() {
                from = Some(file);
            }
            result
        };
        for (version, &crash) in crashes.iter().enumerate() {
            assert_eq!(message(attempt(version, crash)), "crash");
        }
        let result = attempt(crashes.len(), usize::MAX)?;
        assert_eq!(bytes(&result.model), bytes(&expected.model), "{crashes:?}");
        assert_eq!(result.metrics, expected.metrics, "{crashes:?}");
        assert_eq!((result.step, result.epoch), (20, 4));
        let file = std::fs::read(checkpoint(folder.path(), crashes.len()))?;
        assert!(file == expected_file, "{crashes:?}: the files differ");
        assert!(result.best_checkpoint.is_some_and(|path| path.exists()));
    }
    Ok(())
}

#[test]
fn a_finished_run_has_nothing_left_to_do() -> Result<()> {
    let folder = folder();
    let done = trainer(folder.path(), usize::MAX).fit(&Curve, &data())?;
    let again = trainer(folder.path(), usize::MAX).ckpt_path(checkpoint(folder.path(), 0)).fit(&Curve, &data())?;
    assert_eq!(bytes(&again.model), bytes(&done.model));
    assert_eq!((again.step, again.epoch), (20, 4));
    let more = trainer(folder.path(), usize::MAX)
        .max_epochs(6)
        .ckpt_path(checkpoint(folder.path(), 0))
        .fit(&Curve, &data())?;
    assert_eq!((more.step, more.epoch), (30, 6));
    Ok(())
}

#[test]
fn equal_runs_write_equal_files() -> Result<()> {
    let folder = folder();
    for _ in 0..2 {
        trainer(folder.path(), usize::MAX).fit(&Curve, &data())?;
    }
    let files = |version| -> Result<Vec<(PathBuf, Vec<u8>)>> {
        let root = folder.path().join(format!("test/version_{version}"));
        let mut files = Vec::new();
        for entry in std::fs::read_dir(root.join("checkpoints"))? {
            let path = entry?.path();
            let name = path.strip_prefix(&root).expect("in the folder").to_path_buf();
            files.push((name, std::fs::read(path)?));
        }
        files.sort();
        Ok(files)
    };
    assert_eq!(files(0)?.len(), 3, "the last and the best two");
    assert!(files(0)? == files(1)?);
    Ok(())
}

#[test]
fn the_model_of_a_run() -> Result<()> {
    let folder = folder();
    let result = trainer(folder.path(), usize::MAX).fit(&Curve, &data())?;
    let checkpoint = Checkpoint::read(checkpoint(folder.path(), 0))?;
    assert_eq!((checkpoint.step(), checkpoint.epoch()), (20, 4));
    let like = Mlp::new(2, 1, 8, 2, gelu, Key::new(0));
    assert_eq!(bytes(&checkpoint.model(&like)?), bytes(&result.model));
    let names: Vec<&str> = checkpoint.tensors().map(|(name, _)| name).collect();
    for name in ["model.layers.0.weight", "opt_state.mu.layers.2.bias", "opt_state.count", "step", "key"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let wider = Mlp::new(2, 1, 9, 2, gelu, Key::new(0));
    let text = message(checkpoint.model(&wider));
    assert!(text.contains("`model.layers.0.weight` is f32[8,2] in the file, f32[9,2] in the model"), "{text}");
    let deeper = Mlp::new(2, 1, 8, 3, gelu, Key::new(0));
    let text = message(checkpoint.model(&deeper));
    assert!(text.contains("`model.layers.3.weight` (f32[1,8]) is missing in the file"), "{text}");
    let shallower = Mlp::new(2, 1, 8, 1, gelu, Key::new(0));
    let text = message(checkpoint.model(&shallower));
    assert!(text.contains("`model.layers.2.weight` is in the file, but not in the model"), "{text}");
    Ok(())
}

#[test]
fn what_cannot_be_resumed_is_rejected() -> Result<()> {
    let folder = folder();
    quiet(folder.path()).max_steps(7).callback(ModelCheckpoint::last()).fit(&Curve, &data())?;
    let path = checkpoint(folder.path(), 0);
    let other_order = loader().batch_size(4);
    let text = message(quiet(folder.path()).max_steps(9).ckpt_path(&path).fit(&Curve, &other_order));
    assert!(text.contains("after batch 2 of epoch 1") && text.contains("batch_size 4"), "{text}");
    // At the border of an epoch the data may change.
    quiet(folder.path()).max_steps(5).callback(ModelCheckpoint::last()).fit(&Curve, &data())?;
    let result = quiet(folder.path()).max_steps(9).ckpt_path(checkpoint(folder.path(), 1)).fit(&Curve, &other_order)?;
    assert_eq!(result.step, 9);

    let text = message(quiet(folder.path()).ckpt_path(folder.path().join("none")).fit(&Curve, &data()));
    assert!(text.contains("checkpoint") && text.contains("none"), "{text}");
    Ok(())
}

#[derive(Clone, Tree)]
struct Always {
    floats: Vec<Tensor>,
    flags: Tensor,
    none: Option<Tensor>,
    key: Key,
    empty: Tensor,
}

fn everything() -> Result<Always> {
    Ok(Always {
        floats: vec![Tensor::from_vec(&[2], vec![f32::NAN, -0.0])?, Tensor::full(&[], 0.1, DType::F64)],
        flags: Tensor::from_vec(&[3], vec![true, false, true])?,
        none: None,
        key: Key::new(u64::MAX),
        empty: Tensor::from_vec(&[0, 3], Vec::<i32>::new())?,
    })
}

#[test]
fn any_tree_survives_the_round_trip() -> Result<()> {
    let folder = folder();
    let (path, second) = (folder.path().join("deep/er/tree.safetensors"), folder.path().join("second"));
    let tree = everything()?;
    save(&path, &tree)?;
    let again = load(&path, &tree)?;
    assert_eq!(bytes(&again), bytes(&tree));
    assert_eq!(again.empty.shape(), [0, 3]);
    save(&second, &again)?;
    assert!(std::fs::read(&path)? == std::fs::read(&second)?);
    save(&path, &Tensor::scalar(5u32))?;
    assert_eq!(load(&path, &Tensor::scalar(0u32))?.item::<u32>()?, 5);
    let names: Vec<_> = std::fs::read_dir(folder.path().join("deep/er"))?.map(|e| e.map(|e| e.file_name())).collect();
    assert_eq!(names.len(), 1, "no temporary file stays: {names:?}");
    Ok(())
}

#[test]
fn damaged_files_are_rejected() -> Result<()> {
    let folder = folder();
    let path = folder.path().join("file.safetensors");
    let tree = everything()?;
    save(&path, &tree)?;
    let whole = std::fs::read(&path)?;
    for cut in [0, 5, 40, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut])?;
        let text = message(load(&path, &tree));
        assert!(text.contains("file.safetensors"), "{cut}: {text}");
    }
    // Any one byte may be wrong: an error or other numbers, but no panic.
    for i in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[i] ^= 0x55;
        std::fs::write(&path, damaged)?;
        let _ = load(&path, &tree);
    }
    Ok(())
}

/// What was there before stays whole when the disk is full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_old_file() -> Result<()> {
    const INSIDE: &str = "FULGURITE_TEST_FULL_DISK";
    if let Some(path) = std::env::var_os(INSIDE) {
        // The process below, whose files cannot become longer than a few KiB.
        let text = message(save(&path, &Tensor::zeros(&[100_000])));
        assert!(text.contains("cannot write the checkpoint") && text.contains("model.safetensors"), "{text}");
        return Ok(());
    }
    let folder = folder();
    let path = folder.path().join("model.safetensors");
    let old = Tensor::scalar(1.0f32);
    save(&path, &old)?;
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" --exact a_full_disk_leaves_the_old_file";
    let mut inside = std::process::Command::new("sh");
    inside.args(["-c", script]).arg(std::env::current_exe()?).env(INSIDE, &path);
    let status = inside.stdout(std::process::Stdio::null()).status()?;
    assert!(status.success(), "{status}");
    assert_eq!(load(&path, &old)?.item::<f32>()?, 1.0);
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 1, "nothing else is left");
    save(&path, &Tensor::scalar(2.0f32))?;
    assert_eq!(load(&path, &old)?.item::<f32>()?, 2.0);
    Ok(())
}

/// What is no regular file is neither written through nor replaced, nor read.
#[cfg(unix)]
#[test]
fn links_and_pipes_are_left_alone() -> Result<()> {
    let folder = folder();
    let (path, victim) = (folder.path().join("model.safetensors"), folder.path().join("victim"));
    std::fs::write(&victim, "mine")?;
    // Where other programs write before they rename.
    std::os::unix::fs::symlink(&victim, folder.path().join(".model.safetensors.tmp"))?;
    save(&path, &Tensor::scalar(1.0f32))?;
    let link = folder.path().join("link.safetensors");
    std::os::unix::fs::symlink(&victim, &link)?;
    let text = message(save(&link, &Tensor::scalar(1.0f32)));
    assert!(text.contains("is a link") && text.contains("link.safetensors"), "{text}");
    assert_eq!(std::fs::read_to_string(&victim)?, "mine");
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success());
    for text in [message(load(&pipe, &Tensor::scalar(1.0f32))), message(load("/dev/zero", &Tensor::scalar(1.0f32)))] {
        assert!(text.contains("is no regular file"), "{text}");
    }
    for other in [&pipe, Path::new("/dev/null"), folder.path()] {
        let text = message(save(other, &Tensor::scalar(1.0f32)));
        assert!(text.contains("a link, a folder, a device or a pipe, and is not replaced"), "{text}");
    }
    Ok(())
}

/// Of many writers of one file each leaves a whole one.
#[test]
fn writers_of_one_file_do_not_tear_it() -> Result<()> {
    let folder = folder();
    let path = folder.path().join("model.safetensors");
    let tree = |i: usize| Tensor::full(&[10_000], i as f64, DType::F32);
    std::thread::scope(|scope| {
        for i in 0..4 {
            let path = &path;
            scope.spawn(move || (0..10).for_each(|_| save(path, &tree(i)).expect("it is written")));
        }
        for _ in 0..40 {
            if let Ok(read) = load(&path, &tree(0)) {
                let read = read.to_vec::<f32>().expect("floats");
                assert!(read.iter().all(|&x| x == read[0]));
            }
        }
    });
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 1);
    Ok(())
}

#[test]
fn a_file_of_another_kind_says_how_to_read_it() -> Result<()> {
    let folder = folder();
    let result = quiet(folder.path()).max_steps(2).callback(ModelCheckpoint::last()).fit(&Curve, &data())?;
    let text = message(load(checkpoint(folder.path(), 0), &result.model));
    assert!(text.contains("Checkpoint::read(path)?.model("), "{text}");
    let alone = folder.path().join("alone.safetensors");
    save(&alone, &result.model)?;
    let text = message(quiet(folder.path()).max_steps(3).ckpt_path(&alone).fit(&Curve, &data()));
    assert!(text.contains("read it by `checkpoint::load`"), "{text}");
    let text = message(Checkpoint::read(&alone)?.model(&result.model));
    assert!(text.contains("read it by `checkpoint::load`"), "{text}");
    Ok(())
}

/// A run killed between its last step and the validation of that epoch makes up for it.
#[test]
fn the_last_validation_is_made_up_for() -> Result<()> {
    let folder = folder();
    #[derive(Clone)]
    struct CrashInValidation;
    impl Callback for CrashInValidation {
        fn on_validation_end(&mut self, _: &mut HookCx<'_>) -> Result<()> {
            Err(Error::new("crash"))
        }
    }
    let trainer = || quiet(folder.path()).max_steps(5).callback(ModelCheckpoint::last().every_n_train_steps(1));
    let whole = trainer().fit(&Curve, &data())?;
    assert_eq!(message(trainer().callback(CrashInValidation).fit(&Curve, &data())), "crash");
    let rest = trainer().ckpt_path(checkpoint(folder.path(), 1)).fit(&Curve, &data())?;
    assert_eq!((rest.step, rest.epoch), (5, 1));
    assert_eq!(rest.metrics, whole.metrics);
    Ok(())
}
