//! What the tests share: comparisons, and a small module that trains in microseconds.
#![allow(dead_code, unreachable_pub, missing_docs)]

use fulgurite_jit::{DType, Key, Result, Tensor, gelu, leaves};
use fulgurite_trainer::loss::mse;
use fulgurite_trainer::nn::Mlp;
use fulgurite_trainer::optim::{adam, manual, schedule::cosine_decay};
use fulgurite_trainer::{ArrayDataset, DataLoader, LightningModule, Optimizer, StateOf, StepCx, TrainState, Trainer};
use ndarray::Array2;

/// Panics where `|actual - expected| > atol + rtol |expected|`.
#[track_caller]
pub fn assert_close(actual: &Tensor, expected: &[f64], rtol: f64, atol: f64) {
    let actual = actual.array().expect("a tensor with data").to_f64_vec().unwrap();
    assert_eq!(actual.len(), expected.len(), "numbers of elements");
    for (i, (x, y)) in actual.iter().zip(expected).enumerate() {
        let equal = (x - y).abs() <= atol + rtol * y.abs() || (x.is_nan() && y.is_nan());
        assert!(equal, "element {i}: {x} instead of {y}\nactual   {actual:?}\nexpected {expected:?}");
    }
}

/// The bytes of all leaves.
pub fn bytes(tree: &impl fulgurite_jit::Tree) -> Vec<u8> {
    leaves(tree).iter().flat_map(|x| x.array().expect("data").bytes().expect("on the host").to_vec()).collect()
}

/// Fits a curve, with noise on the inputs so that the run's keys matter.
#[derive(Clone)]
pub struct Curve;

impl LightningModule for Curve {
    type Model = Mlp;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Mlp {
        Mlp::new(2, 1, 8, 2, gelu, key)
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        adam(cosine_decay(1e-2, 200))
    }

    fn training_step(&self, model: &Mlp, (x, y): &Self::Batch, cx: &mut StepCx) -> Tensor {
        let noise = cx.key().normal(x.shape()) * 0.01;
        let prediction = model.call(&(x + noise));
        cx.log("size", prediction.square().mean());
        mse(&prediction, y)
    }

    fn validation_step(&self, model: &Mlp, (x, y): &Self::Batch, cx: &mut StepCx) {
        cx.log("val_loss", mse(&model.call(x), y));
    }
}

/// Its only parameter counts steps; with one step to an epoch, the `score` of an epoch is what the script says.
#[derive(Clone)]
pub struct Script(pub Vec<f32>);

impl LightningModule for Script {
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

    fn step<O: Optimizer>(&self, _: &O, state: StateOf<Self, O>, _: &Tensor, _: &mut StepCx) -> StateOf<Self, O> {
        TrainState { model: state.model + 1.0, ..state }
    }

    fn validation_step(&self, epoch: &Tensor, _: &Tensor, cx: &mut StepCx) {
        cx.log("score", at(&self.0, &(epoch - 1.0)));
    }
}

/// What a script says of a place.
pub fn at(script: &[f32], place: &Tensor) -> Tensor {
    let numbers = Tensor::from_vec(&[script.len()], script.to_vec()).expect("a vector");
    Tensor::arange(DType::F32, script.len()).equal(place).select(&numbers, 0.0).sum()
}

/// Training and validation data of one batch of one example.
pub fn one_batch() -> (DataLoader<Tensor>, DataLoader<Tensor>) {
    let loader = DataLoader::new(ArrayDataset::new(ndarray::Array1::<f32>::ones(1)).expect("a dataset"));
    (loader.clone(), loader)
}

/// `n` points of a smooth function of two variables.
pub fn points(n: usize) -> ArrayDataset<(Tensor, Tensor)> {
    let x = Array2::from_shape_fn((n, 2), |(i, j)| ((i * 7 + j * 3) % 23) as f32 / 11.5 - 1.0);
    let y = x.map_axis(ndarray::Axis(1), |row| (row[0] * 2.0).sin() + row[1] * row[1]);
    let y = y.insert_axis(ndarray::Axis(1));
    ArrayDataset::new((x, y)).expect("arrays of one length")
}

/// 37 points in batches of 8: five batches, the last of 5.
pub fn loader() -> Points {
    DataLoader::new(points(37)).batch_size(8).shuffle(true).seed(3)
}

/// Loads points.
pub type Points = DataLoader<(Tensor, Tensor)>;

/// Training and validation data.
pub fn data() -> (Points, Points) {
    (loader(), DataLoader::new(points(10)).batch_size(4))
}

/// A trainer that shows nothing and keeps its files in `folder`.
pub fn quiet(folder: &std::path::Path) -> Trainer {
    Trainer::new().enable_progress_bar(false).default_root_dir(folder).name("test")
}

/// A folder that is removed at the end of the test.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The message of an error.
#[track_caller]
pub fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("there is no error"),
        Err(error) => error.to_string(),
    }
}
