//! Datasets, loaders, files.

mod common;

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::{folder, message, points};
use fulgurite_jit::{Array, DType, Result, Tensor, TensorType, Tree};
use fulgurite_trainer::data::{BatchBuffers, MnistData, read_idx};
use fulgurite_trainer::{ArrayDataset, DataLoader, DataModule, Dataset};
use ndarray::{Array1, Array2, s};

fn numbers(n: usize) -> DataLoader<Tensor> {
    DataLoader::new(ArrayDataset::new(Array1::from_iter(0..n as i32)).expect("a dataset"))
}

fn epoch(loader: &DataLoader<Tensor>, epoch: usize, from: usize) -> Result<Vec<Vec<i32>>> {
    let mut batches = loader.iter()?;
    batches.seek(epoch, from);
    batches.map(|batch| batch?.0.to_vec::<i32>()).collect()
}

#[test]
fn batches_in_order() -> Result<()> {
    let loader = numbers(7).batch_size(3);
    assert_eq!(loader.batches(), 3);
    assert_eq!(epoch(&loader, 0, 0)?, [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
    assert_eq!(epoch(&loader, 5, 1)?, [vec![3, 4, 5], vec![6]]);
    let loader = loader.drop_last(true);
    assert_eq!((loader.batches(), epoch(&loader, 0, 0)?.len()), (2, 2));
    Ok(())
}

#[test]
fn shuffles_are_functions_of_seed_and_epoch() -> Result<()> {
    let loader = numbers(100).batch_size(9).shuffle(true).seed(4);
    let first = epoch(&loader, 0, 0)?;
    let mut all = first.concat();
    assert_ne!(all, (0..100).collect::<Vec<_>>());
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>(), "every example once");
    assert_eq!(epoch(&loader, 0, 0)?, first);
    assert_ne!(epoch(&loader, 1, 0)?, first);
    assert_ne!(epoch(&loader.clone().seed(5), 0, 0)?, first);
    // Seed 5 in epoch 0 is not seed 4 in epoch 1, nor is any of the next few.
    assert!((0..20).all(|e| epoch(&loader.clone().seed(5), 0, 0).ok() != epoch(&loader, e, 0).ok()));
    // From anywhere in the middle: what would have come.
    let third = epoch(&loader, 3, 0)?;
    for from in 0..loader.batches() {
        assert_eq!(epoch(&loader, 3, from)?, third[from..]);
    }
    // One iterator over several epochs, and back.
    let mut batches = loader.iter()?;
    for e in [0, 1, 3, 0] {
        batches.seek(e, 0);
        let got: Result<Vec<_>> = batches.by_ref().map(|batch| batch?.0.to_vec::<i32>()).collect();
        assert_eq!(got?, epoch(&loader, e, 0)?);
    }
    Ok(())
}

/// All permutations of four come up about equally often.
#[test]
fn shuffles_are_uniform() {
    let loader = numbers(4).shuffle(true);
    let mut counts = std::collections::BTreeMap::<Vec<usize>, usize>::new();
    for epoch in 0..24_000 {
        *counts.entry(loader.order(epoch).collect()).or_default() += 1;
    }
    assert_eq!(counts.len(), 24);
    // A thousand each, give or take five standard deviations.
    assert!(counts.values().all(|&n| (840..1160).contains(&n)), "{counts:?}");
}

#[derive(Clone, Tree)]
struct Batch {
    image: Tensor,
    flag: Tensor,
}

#[test]
fn batches_of_any_form() -> Result<()> {
    let x = Array2::from_shape_fn((5, 2), |(i, j)| (10 * i + j) as f32);
    // A view in another memory order is copied into rows.
    let transposed = x.t().to_owned().reversed_axes();
    let data = ArrayDataset::new((x, transposed, Array1::from_iter((0..5).map(|i| i % 2 == 0))))?;
    let (a, b, c) = data.gather(&[4, 0], &mut BatchBuffers::default())?;
    assert_eq!(a.to_vec::<f32>()?, [40.0, 41.0, 0.0, 1.0]);
    assert_eq!(b.to_vec::<f32>()?, a.to_vec::<f32>()?);
    assert_eq!(c.to_vec::<bool>()?, [true, true]);

    let tree = Batch { image: Tensor::zeros(&[5, 2, 2]), flag: Tensor::from_vec(&[5], vec![1u32; 5])? };
    let data = ArrayDataset::from_tree(tree)?;
    let batch = data.gather(&[1, 2, 3], &mut BatchBuffers::default())?;
    assert_eq!((batch.image.shape(), batch.flag.shape()), (&[3, 2, 2][..], &[3][..]));
    assert_eq!(data.slice(1..3)?.len(), 2);
    assert!(message(data.slice(3..6)).contains("3..6 of 5"));
    Ok(())
}

#[test]
fn memory_is_used_again_once_it_is_free() -> Result<()> {
    let address = |x: &Tensor| x.array().map(|a| a.buffer().start() as usize);
    let loader = numbers(50).batch_size(8);
    let mut batches = loader.iter()?;
    let first = batches.next().expect("a batch")?.0;
    let held = address(&first)?;
    let second = batches.next().expect("a batch")?.0;
    assert_ne!(address(&second)?, held, "the first batch is still alive");
    assert_eq!(first.to_vec::<i32>()?, (0..8).collect::<Vec<_>>());
    let place = address(&second)?;
    drop(second);
    for batch in batches {
        assert_eq!(address(&batch?.0)?, place, "ragged or not, the same memory");
    }
    Ok(())
}

#[test]
fn mistakes_are_explained() {
    let empty = numbers(0).batch_size(3);
    assert!(message(empty.iter().map(drop)).contains("the dataset is empty"));
    assert!(message(numbers(5).batch_size(0).iter().map(drop)).contains("batch size is 0"));
    let text = message(numbers(5).batch_size(6).drop_last(true).iter().map(drop));
    assert!(text.contains("5 examples do not fill a batch of 6"), "{text}");
    let text = message(ArrayDataset::new((Array1::<f32>::zeros(5), Array2::<i32>::zeros((4, 2)))));
    assert!(text.contains("`1` has 4 examples") && text.contains("`0` has 5"), "{text}");
    let text = message(ArrayDataset::new(Tensor::scalar(1.0f32)));
    assert!(text.contains("no axis of examples"), "{text}");
    assert!(message(ArrayDataset::from_tree(())).contains("no array"));
}

/// A dataset that computes its examples, and one of them badly.
struct Squares;

impl Dataset for Squares {
    type Batch = Tensor;

    fn len(&self) -> usize {
        10
    }

    fn gather(&self, indices: &[u32], memory: &mut BatchBuffers) -> Result<Tensor> {
        if indices.contains(&9) {
            return Err(fulgurite_jit::Error::new("nine is missing"));
        }
        let ty = TensorType::new(fulgurite_jit::DType::U32, &[indices.len()]);
        let squares: Vec<u8> = indices.iter().flat_map(|i| (i * i).to_ne_bytes()).collect();
        Ok(memory.tensor(ty, |bytes| bytes.copy_from_slice(&squares)))
    }
}

#[test]
fn datasets_of_ones_own() -> Result<()> {
    let loader = DataLoader::new(Squares).batch_size(4);
    let mut batches = loader.iter()?;
    assert_eq!(batches.next().expect("a batch")?.0.to_vec::<u32>()?, [0, 1, 4, 9]);
    let text = message(batches.nth(1).expect("a batch"));
    assert_eq!(text, "batch 2 of epoch 0: nine is missing");
    Ok(())
}

/// Says another number of examples each time that it is asked.
struct Changing(AtomicUsize, fn(usize) -> usize);

impl Dataset for Changing {
    type Batch = Tensor;

    fn len(&self) -> usize {
        self.1(self.0.fetch_add(1, Relaxed))
    }

    fn gather(&self, indices: &[u32], _: &mut BatchBuffers) -> Result<Tensor> {
        Tensor::from_vec(&[indices.len()], indices.to_vec())
    }
}

/// The epoch is of as many examples as there were when it began to be ordered.
#[test]
fn a_dataset_that_changes_its_length_does_not_change_an_epoch() -> Result<()> {
    let sizes: [fn(usize) -> usize; 4] = [|n| 3 + n, |n| 100 - n, |n| 65_530 + n, |n| [5, 0][n % 2]];
    for (size, shuffle) in sizes.into_iter().flat_map(|size| [(size, false), (size, true)]) {
        let loader = DataLoader::new(Changing(0.into(), size)).batch_size(7).shuffle(shuffle);
        let mut all = Vec::new();
        let mut batches = loader.iter()?;
        batches.by_ref().try_for_each(|batch| batch?.0.to_vec::<u32>().map(|batch| all.extend(batch)))?;
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..all.len() as u32) && !all.is_empty());
        batches.seek(1, 0);
        assert_eq!(batches.map(|batch| batch.map(|(_, n)| n)).sum::<Result<usize>>()?, all.len());
    }
    Ok(())
}

fn idx(shape: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, shape.len() as u8];
    bytes.extend(shape.iter().flat_map(|n| n.to_be_bytes()));
    bytes.extend(data);
    bytes
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("a vector takes everything");
    encoder.finish().expect("a vector takes everything")
}

#[test]
fn idx_files() -> Result<()> {
    let folder = folder();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("a file in a temporary folder");
        path
    };
    let plain = idx(&[2, 3], &[1, 2, 3, 4, 5, 6]);
    let array = read_idx(write("plain", &plain))?;
    assert_eq!(array, ndarray::array![[1u8, 2, 3], [4, 5, 6]].into_dyn());
    assert_eq!(read_idx(write("zipped.gz", &gz(&plain)))?, array);
    for (bytes, why) in [
        (plain[..plain.len() - 1].to_vec(), "5 bytes of data, which do not fill [2, 3]"),
        (plain[..6].to_vec(), "ends within"),
        (b"<html>".to_vec(), "is no IDX file"),
        ([&[0, 0, 0x0d][..], &plain[3..]].concat(), "0x0d"),
        (gz(&plain)[..20].to_vec(), "cannot be decompressed"),
        (idx(&[u32::MAX, u32::MAX, u32::MAX], &[]), "do not fill"),
    ] {
        let text = message(read_idx(write("bad", &bytes)));
        assert!(text.contains(why) && text.contains("bad"), "{text}");
    }
    assert!(message(read_idx(folder.path().join("nowhere"))).contains("nowhere"));
    Ok(())
}

#[test]
fn mnist_from_its_files() -> Result<()> {
    let folder = folder();
    let text = message(MnistData::new(folder.path().join("mnist")).train_dataloader());
    assert!(text.contains("there is no such folder") && text.contains("train-images-idx3-ubyte.gz"), "{text}");

    let pixels: Vec<u8> = (0..20 * 4).map(|i| (i * 3) as u8).collect();
    let labels: Vec<u8> = (0..20).map(|i| i % 10).collect();
    std::fs::write(folder.path().join("t10k-images-idx3-ubyte.gz"), gz(&idx(&[20, 2, 2], &pixels)))?;
    let text = message(MnistData::new(folder.path()).val_dataloader());
    assert!(text.contains("t10k-labels-idx1-ubyte") && text.contains("no such file"), "{text}");

    std::fs::write(folder.path().join("t10k-labels-idx1-ubyte"), idx(&[20], &labels))?;
    let data = MnistData::new(folder.path()).batch_size(6);
    assert_eq!(data.train_dataloader()?.examples(), 18, "nine tenths, where there are no training files");
    let val = data.val_dataloader()?.expect("validation data");
    let (images, labels) = val.iter()?.next().expect("a batch")?.0;
    assert_eq!(images.ty().to_string(), "f32[2,4]");
    assert_eq!(labels.to_vec::<i32>()?, [8, 9]);
    assert_eq!(images.to_vec::<f32>()?[0], f32::from(pixels[18 * 4]) / 255.0);

    for (name, bytes) in [
        ("train-images-idx3-ubyte", idx(&[3, 1, 1], &[0, 51, 255])),
        ("train-labels-idx1-ubyte", idx(&[3], &[1, 2, 3])),
    ] {
        std::fs::write(folder.path().join(name), bytes)?;
    }
    assert_eq!(data.train_dataloader()?.examples(), 3);
    assert_eq!(data.val_dataloader()?.expect("validation data").examples(), 20);
    Ok(())
}

#[test]
fn arrays_keep_what_they_were_given() -> Result<()> {
    let data = points(6);
    let x: &Array = data.arrays().0.array()?;
    assert_eq!(x.view::<f32>()?.slice(s![0, ..]).len(), 2);
    Ok(())
}

#[test]
fn a_batch_that_there_is_no_memory_for_is_an_error_and_the_next_is_not() -> Result<()> {
    let mut memory = BatchBuffers::default();
    let ones = |memory: &mut BatchBuffers, shape: &[usize]| {
        memory.tensor(TensorType::new(DType::Bool, shape), |to| to.fill(1))
    };
    for _ in 0..2 {
        // More than any machine has, more than memory can be, and that hidden by an extent of 0.
        for shape in [&[1 << 52][..], &[1 << 40, 1 << 40], &[1 << 40, 1 << 40, 0]] {
            let error = ones(&mut memory, shape).to_vec::<bool>().expect_err("too large").to_string();
            assert!(error.starts_with("batch: ") && error.contains(&format!("bool[{}", shape[0])), "{error}");
            assert_eq!(ones(&mut memory, &[2]).to_vec::<bool>()?, [true; 2]);
            assert_eq!(ones(&mut memory, &[0, 3]).to_vec::<bool>()?, [true; 0]);
        }
    }
    Ok(())
}
