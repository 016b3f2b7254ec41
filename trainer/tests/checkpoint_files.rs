//! Checkpoints as files: headers that lie, names in hostile states, who may remove what a writer has left, and files of
//! earlier runs.

mod common;

use std::fs::File;
use std::path::Path;

use common::{Curve, Script, bytes, data, folder, message, one_batch, quiet};
use fulgurite_jit::{Error, Result, Tensor};
use fulgurite_trainer::checkpoint::{load, save};
use fulgurite_trainer::{Callback, Checkpoint, EarlyStopping, FitResult, HookCx, Mode, ModelCheckpoint};

/// A safetensors file of a header, as many bytes of data as are given, and a length of the file (the rest is a hole).
fn hostile(path: &Path, header: &str, data: &[u8], length: Option<u64>) -> Result<()> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    std::fs::write(path, bytes)?;
    if let Some(length) = length {
        File::options().write(true).open(path)?.set_len(length)?;
    }
    Ok(())
}

#[test]
fn headers_that_lie_about_sizes_are_errors() -> Result<()> {
    let folder = folder();
    let path = folder.path().join("hostile.safetensors");
    let tensor = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#"{{"x":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{from},{to}]}}}}"#)
    };
    let most = u64::MAX;
    // Tensors whose ends are within eight bytes of the largest number.
    let each = (1u64 << 61) - 1;
    let whole: Vec<String> = (0..8)
        .map(|i| {
            let (from, to) = (i * each, (i + 1) * each);
            format!(r#""x{i}":{{"dtype":"U8","shape":[{each}],"data_offsets":[{from},{to}]}}"#)
        })
        .collect();
    let headers = [
        tensor("F32", "2", 0, 4),
        tensor("F32", "2", 8, 0),
        tensor("F32", "2", 4, 12),
        tensor("F32", "2", most - 8, most),
        tensor("F32", "2", most - 7, most),
        tensor("F32", "1000000", 0, 4_000_000),
        tensor("F32", &format!("{},2", (1u64 << 63) + 1), 0, 8),
        tensor("F32", "0,4611686018427387904,4611686018427387904", 0, 0),
        tensor("F32", &format!("{most}"), 0, 8),
        tensor("F32", "-2", 0, 8),
        tensor("F32", "2.5", 0, 8),
        tensor("BF16", "4", 0, 8),
        tensor("BOOL", "8", 0, 8),
        format!("{{{}}}", whole.join(",")),
        r#"{"x":{"dtype":"F32","shape":[2]}}"#.into(),
        r#"{"x":3}"#.into(),
        "[]".into(),
        "[".repeat(100_000),
        String::new(),
    ];
    for header in headers {
        hostile(&path, &header, &[7; 8], None)?;
        let text = message(load(&path, &Tensor::zeros(&[2])));
        assert!(text.contains("hostile.safetensors"), "{}: {text}", &header[..header.len().min(80)]);
    }
    for length in [most, most - 8, 1 << 40, 100_000_001, 9] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([b'{', b'}'].repeat(2));
        std::fs::write(&path, bytes)?;
        assert!(message(load(&path, &Tensor::zeros(&[2]))).contains("hostile.safetensors"));
    }
    Ok(())
}

/// A file may be far longer than the memory: nothing of it is read that its header does not promise, and what it
/// promises is asked for before it is read.
#[cfg(target_os = "linux")]
#[test]
fn a_file_longer_than_the_memory_is_an_error() -> Result<()> {
    let folder = folder();
    let path = folder.path().join("long.safetensors");
    let length = 1u64 << 42;
    let small = r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    // One that promises all of it: there is no such memory, where the system does not promise what it has not got.
    let honest = format!(r#"{{"x":{{"dtype":"F32","shape":[{0}],"data_offsets":[0,{1}]}}}}"#, 1u64 << 40, 1u64 << 42);
    let (length_of_honest, overcommit) = (length + 8 + honest.len() as u64, "/proc/sys/vm/overcommit_memory");
    if std::fs::read_to_string(overcommit).is_ok_and(|how| how.trim() != "1") {
        hostile(&path, &honest, &[], Some(length_of_honest))?;
        let text = message(Checkpoint::read(&path));
        assert!(text.contains(&format!("there is no memory for its {length_of_honest} bytes")), "{text}");
    }
    for (header, data) in [("", &[][..]), (small, &[0; 8])] {
        hostile(&path, header, data, Some(length))?;
        let start = std::time::Instant::now();
        let text = message(Checkpoint::read(&path));
        assert!(text.contains("long.safetensors"), "{text}");
        assert!(start.elapsed().as_secs() < 5, "it was read");
    }
    Ok(())
}

fn best() -> ModelCheckpoint {
    ModelCheckpoint::best("score").mode(Mode::Max)
}

fn step_of_best<M>(result: &FitResult<M>) -> Result<usize> {
    Ok(Checkpoint::read(result.best_checkpoint.as_ref().expect("a best"))?.step())
}

#[test]
fn the_best_is_remembered_however_often_a_run_is_resumed() -> Result<()> {
    let module = Script(vec![3.0, 9.0, 1.0, 2.0, 4.0, 3.0]);
    for k in [1, 2] {
        let root = folder();
        let mut from = None;
        for epochs in 1..=6 {
            let trainer = quiet(root.path()).max_epochs(epochs);
            let trainer = trainer.callback(ModelCheckpoint::last()).callback(best().save_top_k(k));
            let trainer = match from.take() {
                Some(file) => trainer.ckpt_path(file),
                None => trainer,
            };
            let result = trainer.fit(&module, &one_batch())?;
            assert_eq!(step_of_best(&result)?, epochs.min(2), "top {k}, {epochs} epochs");
            from = Some(result.last_checkpoint.expect("a last").with_file_name("last.safetensors"));
        }
        // The run that came first may go: each has all that it needs.
        std::fs::remove_dir_all(root.path().join("test/version_0"))?;
        let trainer = quiet(root.path()).max_epochs(6).ckpt_path(from.expect("a last"));
        let result = trainer.callback(best().save_top_k(k)).fit(&module, &one_batch())?;
        assert_eq!(step_of_best(&result)?, 2);
    }
    Ok(())
}

/// `best.safetensors` of one folder is not that of another.
#[test]
fn the_best_of_another_folder_is_not_taken_for_ones_own() -> Result<()> {
    let root = folder();
    let own = root.path().join("own");
    let module = Script(vec![3.0, 9.0, 1.0, 2.0]);
    let fit = |epochs, from: Option<std::path::PathBuf>| {
        let trainer = quiet(root.path()).max_epochs(epochs).callback(ModelCheckpoint::last());
        let trainer = trainer.callback(ModelCheckpoint::best("score").mode(Mode::Min).dirpath(&own));
        let trainer = trainer.callback(best());
        match from {
            Some(file) => trainer.ckpt_path(file).fit(&module, &one_batch()),
            None => trainer.fit(&module, &one_batch()),
        }
    };
    fit(3, None)?;
    let last = root.path().join("test/version_0/checkpoints/last.safetensors");
    let result = fit(4, Some(last))?;
    assert_eq!(Checkpoint::read(own.join("best.safetensors"))?.step(), 3, "1.0 is the least");
    assert_eq!(result.best_checkpoint, Some(own.join("best.safetensors")), "that of the first that has one");
    assert_eq!(Checkpoint::read(root.path().join("test/version_1/checkpoints/best.safetensors"))?.step(), 2);
    Ok(())
}

/// A run resumed from before the best: the file holds the state of another step by now.
#[test]
fn a_file_that_was_replaced_since_does_not_count() -> Result<()> {
    let root = folder();
    let module = Script(vec![3.0, 9.0]);
    #[derive(Clone)]
    struct Keep;
    impl Callback for Keep {
        fn on_train_epoch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
            let run = &mut *cx.run;
            let file = run.folder()?.join(format!("checkpoints/kept-{}.safetensors", run.step()));
            run.save(file);
            Ok(())
        }
    }
    quiet(root.path()).max_epochs(2).callback(best()).callback(Keep).fit(&module, &one_batch())?;
    let early = root.path().join("test/version_0/checkpoints/kept-1.safetensors");
    let again = quiet(root.path()).max_epochs(2).callback(best()).ckpt_path(&early);
    let result = again.fit(&Script(vec![3.0, 1.0]), &one_batch())?;
    assert_eq!(step_of_best(&result)?, 1, "3.0 was of step 1, and the checkpoint itself is of that step");
    Ok(())
}

#[test]
fn a_trial_names_no_files_and_makes_no_folder() -> Result<()> {
    let root = folder();
    let trainer = quiet(root.path()).fast_dev_run(1).callback(ModelCheckpoint::last()).callback(best());
    let result = trainer.fit(&Script(vec![1.0]), &one_batch())?;
    assert_eq!((result.best_checkpoint, result.last_checkpoint, result.folder), (None, None, None));
    assert_eq!(std::fs::read_dir(root.path())?.count(), 0);
    Ok(())
}

#[test]
fn a_best_that_was_removed_is_not_named() -> Result<()> {
    let root = folder();
    let own = root.path().join("own");
    #[derive(Clone)]
    struct Remove(std::path::PathBuf);
    impl Callback for Remove {
        fn on_fit_end(&mut self, _: &mut HookCx<'_>) -> Result<()> {
            std::fs::remove_file(&self.0).map_err(Error::from)
        }
    }
    let trainer = quiet(root.path()).max_epochs(2).callback(Remove(own.join("best.safetensors")));
    let result = trainer.callback(best().dirpath(&own)).fit(&Script(vec![2.0, 1.0]), &one_batch())?;
    assert_eq!(result.best_checkpoint, None);
    Ok(())
}

/// One folder by two names is one folder.
#[cfg(unix)]
#[test]
fn a_folder_has_one_name() -> Result<()> {
    let root = folder();
    let (own, link) = (root.path().join("own"), root.path().join("link"));
    std::fs::create_dir(&own)?;
    std::os::unix::fs::symlink(&own, &link)?;
    for other in [own.join("."), root.path().join("x/../own"), link] {
        std::fs::create_dir_all(root.path().join("x"))?;
        quiet(root.path())
            .max_epochs(3)
            .callback(best().dirpath(&own))
            .callback(ModelCheckpoint::best("score").mode(Mode::Min).dirpath(&other))
            .fit(&Script(vec![2.0, 3.0, 1.0]), &one_batch())?;
        assert_eq!(Checkpoint::read(own.join("best.safetensors"))?.step(), 2);
        assert_eq!(Checkpoint::read(own.join("best-score.safetensors"))?.step(), 3);
        std::fs::remove_dir_all(&own)?;
        std::fs::create_dir(&own)?;
    }
    Ok(())
}

/// Writes `state` over the states of all callbacks in a checkpoint of a run of one epoch.
fn with_metadata(path: &Path, change: impl Fn(&mut serde_json::Value)) -> Result<()> {
    let bytes = std::fs::read(path)?;
    let n = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + n]).expect("a header");
    let text = header["__metadata__"]["fulgurite"].as_str().expect("metadata").to_string();
    let mut host: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    change(&mut host);
    header["__metadata__"]["fulgurite"] = host.to_string().into();
    hostile(path, &header.to_string(), &bytes[8 + n..], None)
}

#[test]
fn numbers_in_the_metadata_that_lie_are_errors() -> Result<()> {
    let root = folder();
    let trainer = || {
        let trainer = quiet(root.path()).max_epochs(3).callback(ModelCheckpoint::last());
        trainer.callback(EarlyStopping::new("score").mode(Mode::Max).patience(9)).callback(best())
    };
    let module = Script(vec![3.0, 2.0, 1.0]);
    let first = trainer().max_epochs(1).fit(&module, &one_batch())?;
    let file = first.last_checkpoint.expect("a last").with_file_name("last.safetensors");
    let good = std::fs::read(&file)?;
    for name in ["step", "epoch", "batch", "validations"] {
        for lie in [u64::MAX, u64::MAX - 1, i64::MAX as u64 + 1] {
            std::fs::write(&file, &good)?;
            with_metadata(&file, |host| host[name] = lie.into())?;
            let text = message(trainer().ckpt_path(&file).fit(&module, &one_batch()));
            assert!(text.contains("last.safetensors"), "{name} {lie}: {text}");
        }
    }
    std::fs::write(&file, &good)?;
    with_metadata(&file, |host| {
        for callback in host["callbacks"].as_array_mut().expect("callbacks") {
            if callback[1].get("wait_count").is_some() {
                callback[1]["wait_count"] = u64::MAX.into();
            }
        }
    })?;
    let result = trainer().ckpt_path(&file).fit(&module, &one_batch())?;
    assert_eq!(result.epoch, 2, "it has waited long enough");
    Ok(())
}

/// The names of files in a state are names, not paths.
#[test]
fn a_state_names_no_files_elsewhere() -> Result<()> {
    let root = folder();
    let trainer = || quiet(root.path()).max_epochs(2).callback(ModelCheckpoint::last()).callback(best());
    let module = Script(vec![3.0, 2.0]);
    let first = trainer().max_epochs(1).fit(&module, &one_batch())?;
    let file = first.last_checkpoint.expect("a last").with_file_name("last.safetensors");
    let elsewhere = root.path().join("elsewhere.safetensors");
    std::fs::copy(&file, &elsewhere)?;
    let good = std::fs::read(&file)?;
    for name in ["../../../elsewhere.safetensors", elsewhere.to_str().expect("a name"), "..", ".", "", "/"] {
        std::fs::write(&file, &good)?;
        with_metadata(&file, |host| {
            for callback in host["callbacks"].as_array_mut().expect("callbacks") {
                if let Some(kept) = callback[1].get_mut("kept").and_then(|kept| kept.get_mut(0)) {
                    kept[1] = name.into();
                }
            }
        })?;
        let text = message(trainer().ckpt_path(&file).fit(&module, &one_batch()));
        assert!(text.contains("the state of ModelCheckpoint cannot be read"), "{name}: {text}");
    }
    Ok(())
}

#[test]
fn what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not() -> Result<()> {
    let root = folder();
    let path = root.path().join("model.safetensors");
    let gone = {
        let mut child = std::process::Command::new("true").spawn()?;
        child.wait()?;
        child.id()
    };
    let temporary = |number: usize| root.path().join(format!(".model.safetensors.{gone}-{number}.tmp"));
    std::fs::write(temporary(0), "half")?;
    // Its process is in another container: it cannot be seen, but it holds its file.
    let held = File::create(temporary(1))?;
    held.lock()?;
    save(&path, &Tensor::scalar(1.0f32))?;
    assert!(!temporary(0).exists());
    assert!(temporary(1).exists());
    drop(held);
    save(&path, &Tensor::scalar(2.0f32))?;
    assert_eq!(std::fs::read_dir(root.path())?.count(), 1);
    Ok(())
}

/// A process in another container may have the same number: the names it has taken are left to it.
#[test]
fn a_temporary_name_that_is_taken_is_passed_over() -> Result<()> {
    let root = folder();
    let path = root.path().join("model.safetensors");
    let taken = |number: usize| root.path().join(format!(".model.safetensors.{}-{number}.tmp", std::process::id()));
    (0..200).try_for_each(|number| std::fs::write(taken(number), "theirs"))?;
    save(&path, &Tensor::scalar(1.0f32))?;
    assert_eq!(load(&path, &Tensor::scalar(0.0f32))?.item::<f32>()?, 1.0);
    for number in 0..200 {
        assert_eq!(std::fs::read_to_string(taken(number))?, "theirs");
    }
    Ok(())
}

/// The hints do not depend on what leaves are called, nor on whether the optimiser has a state.
#[test]
fn what_to_call_is_said_for_every_tree() -> Result<()> {
    let root = folder();
    let module = Script(vec![1.0]);
    quiet(root.path()).max_epochs(1).callback(ModelCheckpoint::last()).fit(&module, &one_batch())?;
    let run = root.path().join("test/version_0/checkpoints/last.safetensors");
    #[derive(Clone, fulgurite_jit::Tree)]
    struct Own {
        models: Tensor,
        step: Tensor,
    }
    let own = Own { models: Tensor::zeros(&[2]), step: Tensor::scalar(0i32) };
    assert!(message(load(&run, &own)).contains("Checkpoint::read(path)?.model("));
    let alone = root.path().join("alone.safetensors");
    for file in [save(&alone, &own), save(&alone, &Tensor::zeros(&[3]))] {
        file?;
        let text = message(quiet(root.path()).max_epochs(2).ckpt_path(&alone).fit(&module, &one_batch()));
        assert!(text.contains("read it by `checkpoint::load`"), "{text}");
        let text = message(Checkpoint::read(&alone)?.model(&Tensor::scalar(0.0f32)));
        assert!(text.contains("read it by `checkpoint::load`"), "{text}");
    }
    Ok(())
}

#[test]
fn the_optimizer_state_of_another_model_names_the_leaf() -> Result<()> {
    let root = folder();
    let result = quiet(root.path()).max_steps(2).callback(ModelCheckpoint::last()).fit(&Curve, &data())?;
    let file = result.last_checkpoint.expect("a last");
    assert!(!bytes(&result.model).is_empty());
    let mut header = std::fs::read(&file)?;
    // The same model, another optimiser: `mu` is called otherwise.
    let place = |bytes: &[u8]| bytes.windows(13).position(|part| part == b"opt_state.mu.");
    while let Some(at) = place(&header) {
        header[at..at + 13].copy_from_slice(b"opt_state.my.");
    }
    std::fs::write(&file, header)?;
    let text = message(quiet(root.path()).max_steps(3).ckpt_path(&file).fit(&Curve, &data()));
    assert!(text.contains("`opt_state.mu.layers.0.bias` (f32[8]) is missing in the file"), "{text}");
    Ok(())
}
