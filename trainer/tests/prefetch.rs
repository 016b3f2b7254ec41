//! Batches gathered on a thread of the loader: the same ones, in the same order, and nothing that hangs.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{Curve, bytes, data, folder, loader, message, points, quiet};
use fulgurite_jit::{DType, Error, Result, Tensor, TensorType};
use fulgurite_trainer::data::BatchBuffers;
use fulgurite_trainer::{Callback, DataLoader, Dataset, HookCx, ModelCheckpoint};

/// Each example is its own number. Counts the calls, and may sleep, fail or panic.
#[derive(Clone, Default)]
struct Numbers {
    calls: Arc<AtomicUsize>,
    sleep: Duration,
    fails_at: Option<u32>,
    panics_at: Option<u32>,
}

impl Dataset for Numbers {
    type Batch = Tensor;

    fn len(&self) -> usize {
        20
    }

    fn gather(&self, indices: &[u32], buffers: &mut BatchBuffers) -> Result<Tensor> {
        self.calls.fetch_add(1, SeqCst);
        std::thread::sleep(self.sleep);
        if self.fails_at.is_some_and(|bad| indices.contains(&bad)) {
            return Err(Error::new("it cannot be read"));
        }
        assert!(self.panics_at.is_none_or(|bad| !indices.contains(&bad)), "a bug of the dataset");
        let numbers: Vec<u8> = indices.iter().flat_map(|i| i.to_ne_bytes()).collect();
        Ok(buffers.tensor(TensorType::new(DType::U32, &[indices.len()]), |bytes| bytes.copy_from_slice(&numbers)))
    }
}

fn epoch(loader: &DataLoader<Tensor>, epoch: usize, from: usize) -> Result<Vec<Vec<u32>>> {
    let mut batches = loader.iter()?;
    batches.seek(epoch, from);
    batches.map(|batch| batch?.0.to_vec::<u32>()).collect()
}

#[test]
fn the_order_is_that_without_prefetching() -> Result<()> {
    for shuffle in [false, true] {
        let plain = DataLoader::new(Numbers::default()).batch_size(3).shuffle(shuffle).seed(5);
        for n in [1, 2, 7, 100] {
            let ahead = plain.clone().prefetch(n);
            for (e, from) in [(0, 0), (2, 0), (1, 4), (3, 6), (0, 7)] {
                assert_eq!(epoch(&ahead, e, from)?, epoch(&plain, e, from)?, "{n} ahead, from {from} of {e}");
            }
        }
    }
    Ok(())
}

/// From epoch to epoch, back, from the middle, and after a part of an epoch: what was gathered before does not count.
#[test]
fn seeking_discards_what_is_ahead() -> Result<()> {
    let plain = DataLoader::new(Numbers::default()).batch_size(2).shuffle(true);
    let mut ahead = plain.clone().prefetch(3).iter()?;
    for (e, from, taken) in
        [(0, 0, 10), (1, 0, 4), (2, 0, 10), (0, 5, 1), (0, 5, 3), (0, 8, 2), (7, 9, 5), (7, 10, 1), (1, 0, 10)]
    {
        ahead.seek(e, from);
        ahead.seek(e, from);
        let got: Vec<Vec<u32>> =
            ahead.by_ref().take(taken).map(|batch| batch?.0.to_vec::<u32>()).collect::<Result<_>>()?;
        let want = epoch(&plain, e, from)?;
        assert_eq!(got, want[..taken.min(want.len())], "from {from} of {e}");
    }
    Ok(())
}

/// All batches are kept: none is overwritten.
#[test]
fn a_batch_that_is_held_is_not_overwritten() -> Result<()> {
    let loader = DataLoader::new(Numbers::default()).batch_size(2).prefetch(2);
    let mut batches = loader.iter()?;
    let mut held = Vec::new();
    for e in 0..3 {
        batches.seek(e, 0);
        held.extend(batches.by_ref().collect::<Result<Vec<_>>>()?);
    }
    let got: Vec<u32> = held.iter().map(|(batch, _)| batch.to_vec::<u32>()).collect::<Result<Vec<_>>>()?.concat();
    assert_eq!(got, (0..3).flat_map(|_| 0..20).collect::<Vec<u32>>());
    Ok(())
}

#[test]
fn at_most_n_batches_are_gathered_ahead() -> Result<()> {
    for n in [1, 2, 4] {
        let numbers = Numbers::default();
        let mut batches = DataLoader::new(numbers.clone()).prefetch(n).iter()?;
        let settle = || {
            std::thread::sleep(Duration::from_millis(30));
            numbers.calls.load(SeqCst)
        };
        assert_eq!(settle(), 0, "nothing before the first request");
        batches.seek(0, 0);
        assert_eq!(settle(), n);
        drop(batches.next());
        assert_eq!(settle(), n + 1);
    }
    Ok(())
}

#[test]
fn errors_and_panics_are_those_of_their_batch() -> Result<()> {
    let failing = Numbers { fails_at: Some(5), panics_at: Some(9), ..Numbers::default() };
    let mut batches = DataLoader::new(failing.clone()).batch_size(2).prefetch(3).iter()?;
    for i in 0..10 {
        let batch = batches.next().expect("ten batches");
        match i {
            2 => assert_eq!(message(batch), "batch 2 of epoch 0: it cannot be read"),
            4 => assert_eq!(message(batch), "batch 4 of epoch 0: the dataset has panicked: a bug of the dataset"),
            _ => assert_eq!(batch?.0.to_vec::<u32>()?, [2 * i, 2 * i + 1], "the batches after it are as ever"),
        }
    }
    assert!(batches.next().is_none());
    Ok(())
}

/// The examples of [`points`], of which one cannot be had.
#[derive(Clone)]
struct Bad {
    panics: bool,
}

impl Dataset for Bad {
    type Batch = (Tensor, Tensor);

    fn len(&self) -> usize {
        37
    }

    fn gather(&self, indices: &[u32], buffers: &mut BatchBuffers) -> Result<Self::Batch> {
        if indices.contains(&20) {
            assert!(!self.panics, "example {} is broken", 20);
            return Err(Error::new("example 20 is broken"));
        }
        points(37).gather(indices, buffers)
    }
}

#[test]
fn a_fit_ends_with_the_error_of_the_dataset() {
    for (panics, why) in [(false, "example 20 is broken"), (true, "the dataset has panicked: example 20 is broken")] {
        let root = folder();
        let data = DataLoader::new(Bad { panics }).batch_size(8).prefetch(2);
        let text = message(quiet(root.path()).max_epochs(2).fit(&Curve, &data));
        assert_eq!(text, format!("batch 2 of epoch 0: {why}"));
    }
}

#[test]
fn dropping_early_does_not_hang() -> Result<()> {
    let slow = Numbers { sleep: Duration::from_millis(5), ..Numbers::default() };
    for taken in [0, 1, 3, 20] {
        for seek in [false, true] {
            let mut batches = DataLoader::new(slow.clone()).prefetch(4).iter()?;
            if seek {
                batches.seek(1, 0);
            }
            assert_eq!(batches.by_ref().take(taken).count(), taken);
        }
    }
    // The thread has ended with the batches: nothing is gathered any more.
    let calls = slow.calls.load(SeqCst);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(slow.calls.load(SeqCst), calls);
    Ok(())
}

#[test]
fn a_run_has_the_same_bits_and_is_resumed_anywhere() -> Result<()> {
    let root = folder();
    let (train, val) = data();
    let ahead = (train.clone().prefetch(3), val.clone().prefetch(1));
    let trainer = |steps| quiet(root.path()).max_steps(steps).callback(ModelCheckpoint::last());
    let expected = trainer(17).fit(&Curve, &(train.clone(), val.clone()))?;
    let whole = trainer(17).fit(&Curve, &ahead)?;
    assert_eq!(bytes(&whole.model), bytes(&expected.model));
    assert_eq!(whole.metrics, expected.metrics);
    let file = |result: &Option<std::path::PathBuf>| std::fs::read(result.as_ref().expect("a last"));
    assert!(file(&whole.last_checkpoint)? == file(&expected.last_checkpoint)?);
    for steps in [1, 4, 5, 6, 13] {
        // With and without, in both orders.
        let part = trainer(steps).fit(&Curve, &ahead)?.last_checkpoint.expect("a last");
        let rest = trainer(17).ckpt_path(&part).fit(&Curve, &(train.clone(), val.clone()))?;
        assert_eq!(bytes(&rest.model), bytes(&expected.model), "{steps}");
        let part = trainer(steps).fit(&Curve, &(train.clone(), val.clone()))?.last_checkpoint.expect("a last");
        let rest = trainer(17).ckpt_path(&part).fit(&Curve, &ahead)?;
        assert_eq!(bytes(&rest.model), bytes(&expected.model), "{steps}");
    }
    // Limits cut epochs short.
    let limited = |data: &(common::Points, common::Points)| {
        quiet(root.path()).max_epochs(3).limit_train_batches(3).limit_val_batches(2).fit(&Curve, data)
    };
    assert_eq!(bytes(&limited(&ahead)?.model), bytes(&limited(&(train, val))?.model));
    Ok(())
}

/// Ends the process at once, as `kill -9` does.
#[derive(Clone)]
struct Abort(usize);

impl Callback for Abort {
    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        if cx.run.step() == self.0 {
            std::process::abort();
        }
        Ok(())
    }
}

#[test]
fn a_run_that_was_killed_is_resumed_with_the_same_bits() -> Result<()> {
    const INSIDE: &str = "FULGURITE_TEST_PREFETCH";
    let trainer = |root: &std::path::Path, abort| {
        let last = ModelCheckpoint::last().every_n_train_steps(1);
        quiet(root).max_epochs(3).callback(last).callback(Abort(abort))
    };
    let ahead = loader().prefetch(4);
    if let Some(root) = std::env::var_os(INSIDE) {
        // The process below.
        trainer(std::path::Path::new(&root), 8).fit(&Curve, &ahead)?;
        return Ok(());
    }
    let root = folder();
    let mut inside = std::process::Command::new(std::env::current_exe()?);
    inside.args(["--exact", "a_run_that_was_killed_is_resumed_with_the_same_bits"]).env(INSIDE, root.path());
    let status = inside.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status()?;
    assert!(!status.success());
    let last = root.path().join("test/version_0/checkpoints/last.safetensors");
    let rest = trainer(root.path(), 0).ckpt_path(last).fit(&Curve, &ahead)?;
    let expected = trainer(root.path(), 0).fit(&Curve, &loader())?;
    assert_eq!((rest.step, bytes(&rest.model)), (15, bytes(&expected.model)));
    Ok(())
}
