//! What has a bound, and what says so: orders of many examples, files of data, names of folders, columns of logs.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};

use common::{Curve, bytes, data, folder, loader, message, quiet};
use fulgurite_jit::{DType, Key, Result, Tensor, TensorType};
use fulgurite_trainer::data::{BatchBuffers, MnistData, read_idx};
use fulgurite_trainer::loss::mse;
use fulgurite_trainer::nn::Linear;
use fulgurite_trainer::optim::adam;
use fulgurite_trainer::{
    ArrayDataset, Callback, CsvLogger, DataLoader, DataModule, Dataset, HookCx, LightningModule, ModelCheckpoint,
    Optimizer, Run, StepCx,
};

/// As many examples as one likes: each is its own number.
struct Numbers(usize);

impl Dataset for Numbers {
    type Batch = Tensor;

    fn len(&self) -> usize {
        self.0
    }

    fn gather(&self, indices: &[u32], memory: &mut BatchBuffers) -> Result<Tensor> {
        let numbers: Vec<u8> = indices.iter().flat_map(|i| i.to_ne_bytes()).collect();
        Ok(memory.tensor(TensorType::new(DType::U32, &[indices.len()]), |bytes| bytes.copy_from_slice(&numbers)))
    }
}

fn batch(loader: &DataLoader<Tensor>, epoch: usize, batch: usize) -> Result<Vec<u32>> {
    let mut batches = loader.iter()?;
    batches.seek(epoch, batch);
    batches.next().expect("a batch")?.0.to_vec::<u32>()
}

#[test]
fn billions_of_examples_are_not_listed() -> Result<()> {
    for n in [1usize << 31, u32::MAX as usize] {
        let plain = DataLoader::new(Numbers(n)).batch_size(5);
        assert_eq!(batch(&plain, 3, 0)?, [0, 1, 2, 3, 4]);
        let last = plain.batches() - 1;
        let rest: Vec<u32> = (5 * last..n).map(|i| i as u32).collect();
        assert_eq!(batch(&plain, 0, last)?, rest);
        let shuffled = plain.clone().shuffle(true).seed(2);
        let first = batch(&shuffled, 0, last)?;
        assert_eq!(batch(&shuffled, 0, last)?, first);
        assert!(first.iter().all(|&i| (i as usize) < n) && first != rest);
        assert_ne!(batch(&shuffled, 1, last)?, first);
        assert!(plain.order(0).next() == Some(0) && shuffled.order(0).len() == n);
    }
    let text = message(DataLoader::new(Numbers(1 << 32)).iter().map(drop));
    assert!(text.contains("4294967296 examples are more than the 2³² - 1"), "{text}");
    Ok(())
}

#[test]
fn batches_larger_than_the_dataset() -> Result<()> {
    for shuffle in [false, true] {
        let mut all = batch(&DataLoader::new(Numbers(9)).batch_size(usize::MAX).shuffle(shuffle), 1, 0)?;
        all.sort_unstable();
        assert_eq!(all, (0..9).collect::<Vec<_>>());
        let loader = DataLoader::new(Numbers(1)).shuffle(shuffle);
        assert_eq!(batch(&loader, 4, 0)?, [0]);
        let mut batches = loader.iter()?;
        batches.seek(0, usize::MAX);
        assert!(batches.next().is_none());
    }
    Ok(())
}

/// A run over more examples than a table holds is resumed in the middle of an epoch with the same bits.
#[test]
fn many_examples_are_resumed_exactly() -> Result<()> {
    let folder = folder();
    let n = 70_000;
    let x = ndarray::Array2::from_shape_fn((n, 2), |(i, j)| ((i * 7 + j * 3) % 23) as f32 / 11.5 - 1.0);
    let y = x.map_axis(ndarray::Axis(1), |row| row[0] - row[1]).insert_axis(ndarray::Axis(1));
    let data = DataLoader::new(ArrayDataset::new((x, y))?).batch_size(7_000).shuffle(true).seed(1);
    let trainer = |steps| quiet(folder.path()).max_steps(steps).callback(ModelCheckpoint::last());
    let whole = trainer(24).fit(&Curve, &data)?;
    let first = trainer(13).fit(&Curve, &data)?;
    let rest = trainer(24).ckpt_path(first.last_checkpoint.expect("a checkpoint")).fit(&Curve, &data)?;
    assert_eq!(bytes(&rest.model), bytes(&whole.model));
    Ok(())
}

#[test]
fn an_example_that_is_not_there_is_an_error() -> Result<()> {
    for shape in [vec![10], vec![10, 2], vec![10, 3], vec![10, 0]] {
        let data = ArrayDataset::new(Tensor::zeros(&shape))?;
        assert_eq!(data.gather(&[9, 0], &mut BatchBuffers::default())?.shape()[0], 2);
        for bad in [10, u32::MAX] {
            let text = message(data.gather(&[0, bad], &mut BatchBuffers::default()));
            assert!(text.contains(&format!("there is no example {bad}")) && text.contains("10"), "{text}");
        }
    }
    let empty = ArrayDataset::new(Tensor::zeros(&[0, 3]))?;
    assert!(message(empty.gather(&[0], &mut BatchBuffers::default())).contains("no example 0"));
    assert_eq!(empty.gather(&[], &mut BatchBuffers::default())?.shape(), [0, 3]);
    Ok(())
}

fn idx(shape: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, shape.len() as u8];
    bytes.extend(shape.iter().flat_map(|n| n.to_be_bytes()));
    bytes.extend(data);
    bytes
}

#[test]
fn mnist_of_any_rank_is_read_or_explained() -> Result<()> {
    let images: [&[u32]; 4] = [&[], &[0], &[2], &[2, 0, 3]];
    for shape in images {
        let folder = folder();
        let elements = shape.iter().product::<u32>() as usize;
        std::fs::write(folder.path().join("train-images-idx3-ubyte"), idx(shape, &vec![1; elements]))?;
        for labels in [&[][..], &[2]] {
            let count = labels.iter().product::<u32>() as usize;
            std::fs::write(folder.path().join("train-labels-idx1-ubyte"), idx(labels, &vec![1; count]))?;
            let read = MnistData::new(folder.path()).train_dataloader();
            if shape.first() == labels.first() && !labels.is_empty() {
                assert_eq!(read?.examples(), 2);
            } else {
                assert!(message(read).contains(&folder.path().display().to_string()), "{shape:?} {labels:?}");
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_read_of_a_file_has_a_bound() -> Result<()> {
    let folder = folder();
    // 64 MiB of zeros in 64 KiB.
    let bomb = folder.path().join("bomb.gz");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&idx(&[1 << 26], &[]))?;
    for _ in 0..64 {
        encoder.write_all(&vec![0; 1 << 20])?;
    }
    std::fs::write(&bomb, encoder.finish()?)?;
    let text = message(read_idx(&bomb));
    assert!(text.contains("bomb.gz") && text.contains("bytes that are read of it"), "{text}");
    // A small file may become as long as it likes.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&idx(&[1 << 20], &vec![0; 1 << 20]))?;
    std::fs::write(&bomb, encoder.finish()?)?;
    assert_eq!(read_idx(&bomb)?.len(), 1 << 20);
    Ok(())
}

/// Devices without an end and pipes without a writer are rejected, and not read.
#[cfg(unix)]
#[test]
fn data_are_read_of_regular_files_alone() -> Result<()> {
    let folder = folder();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status()?.success());
    for path in [Path::new("/dev/zero"), &pipe, folder.path()] {
        let text = message(read_idx(path));
        assert!(text.contains("is no regular file") && text.contains(&path.display().to_string()), "{text}");
    }
    Ok(())
}

#[test]
fn the_name_of_a_run_stays_below_its_root() -> Result<()> {
    let folder = folder();
    let root = folder.path().join("root");
    for name in ["../x", "..", ".", "", "/x", "a/../../x", "x/.."] {
        let trainer = quiet(&root).name(name).max_steps(1).logger(CsvLogger::new());
        let text = message(trainer.fit(&Curve, &data()));
        assert!(text.contains(&format!("{name:?}")) && text.contains("default_root_dir"), "{text}");
    }
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "nothing was written");
    for name in ["...", "a b", "x.y"] {
        let result = quiet(&root).name(name).max_steps(1).logger(CsvLogger::new()).fit(&Curve, &data())?;
        assert_eq!(result.folder, Some(root.join(name).join("version_0")));
    }
    Ok(())
}

/// Logs under names that a table has to quote.
#[derive(Clone)]
struct Quoted;

const NAMES: [&str; 6] = ["a,b", "say \"x\"", "pre:fix/of/a.b", "ünïcode", "step", "step (metric)"];

impl LightningModule for Quoted {
    type Model = Linear;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Linear {
        Linear::new(2, 1, key)
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        adam(0.1)
    }

    fn training_step(&self, model: &Linear, (x, y): &Self::Batch, cx: &mut StepCx) -> Tensor {
        for (i, name) in NAMES.into_iter().enumerate() {
            cx.log(name, Tensor::full(&[], i as f64, DType::F32));
        }
        mse(&model.call(x), y)
    }
}

/// Logs one more, from the host, later: the table gets wider.
#[derive(Clone)]
struct Later;

impl Callback for Later {
    fn on_train_epoch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        // The folder can be had from a shared reference.
        let shared: &Run = run;
        let folder: PathBuf = shared.folder()?.to_path_buf();
        run.log("later, \"and\" twice", f64::from(u8::from(folder.is_dir())));
        run.log("later, \"and\" twice", 2.0);
        Ok(())
    }
}

#[test]
fn names_of_metrics_survive_the_table() -> Result<()> {
    let folder = folder();
    let trainer = quiet(folder.path()).max_epochs(2).log_every_n_steps(5).logger(CsvLogger::new()).callback(Later);
    let result = trainer.fit(&Quoted, &loader())?;
    let mut reader =
        csv::Reader::from_path(result.folder.expect("a folder").join("metrics.csv")).expect("a table that is there");
    let header: Vec<String> = reader.headers().expect("a header").iter().map(String::from).collect();
    let mut expected = vec!["step", "epoch", "loss"];
    expected.extend(&NAMES[..4]);
    // Metrics that are called as a column is have separate columns.
    expected.extend(["step (metric)", "step (metric) (metric)"]);
    expected.push("later, \"and\" twice");
    assert_eq!(header, expected);
    let rows: Vec<Vec<String>> =
        reader.records().map(|row| row.expect("a row").iter().map(String::from).collect()).collect();
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0][3..], ["0", "1", "2", "3", "4", "5", ""]);
    assert_eq!(rows[1][3..], ["", "", "", "", "", "", "2"]);
    Ok(())
}
