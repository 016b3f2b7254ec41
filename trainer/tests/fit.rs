//! The fit loop: what is trained on, counted, logged, and given back.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::{Curve, assert_close, bytes, data, folder, loader, message, points, quiet};
use fulgurite_autodiff::grad;
use fulgurite_jit::{DType, Key, Result, Tensor};
use fulgurite_trainer::loss::mse;
use fulgurite_trainer::nn::Linear;
use fulgurite_trainer::optim::{manual, sgd};
use fulgurite_trainer::{
    ArrayDataset, Callback, CsvLogger, DataLoader, HookCx, LightningModule, Optimizer, Run, StateOf, StepCx,
    TrainState, Trainer, apply_updates,
};

#[test]
fn a_curve_is_learnt() -> Result<()> {
    let folder = folder();
    let result = quiet(folder.path()).max_epochs(40).fit(&Curve, &data())?;
    assert_eq!((result.step, result.epoch), (200, 40));
    assert!(!result.interrupted && result.stopped.is_none());
    let loss = result.metrics.get("loss").expect("the loss is logged by itself");
    let val_loss = result.metrics.get("val_loss").expect("a score");
    assert!(loss < 0.1 && val_loss < 0.1, "{loss} {val_loss}");
    assert!(result.metrics.get("size").is_some(), "what the step has logged");
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "only loggers and callbacks write files");

    let again = quiet(folder.path()).max_epochs(40).fit(&Curve, &data())?;
    assert_eq!(bytes(&again.model), bytes(&result.model), "one seed, one result");
    let other = quiet(folder.path()).max_epochs(1).seed(1).fit(&Curve, &data())?;
    assert_ne!(bytes(&other.model), bytes(&result.model));
    Ok(())
}

/// The mean over ragged batches is the mean over examples.
#[test]
fn scores_are_weighted_by_examples() -> Result<()> {
    let folder = folder();
    let result = quiet(folder.path()).max_epochs(1).fit(&Curve, &data())?;
    let (x, y) = points(10).arrays().clone();
    let whole = mse(&result.model.call(&x), &y);
    assert_close(&whole, &[result.metrics.get("val_loss").expect("a score")], 1e-5, 1e-7);
    let metrics = quiet(folder.path()).validate(&Curve, &result.model, &data())?;
    assert_eq!(metrics.get("val_loss"), result.metrics.get("val_loss"));
    assert!(message(quiet(folder.path()).validate(&Curve, &result.model, &loader())).contains("val_dataloader"));
    Ok(())
}

/// Counts how often its steps are traced.
#[derive(Clone, Default)]
struct Counted {
    training: Arc<AtomicUsize>,
    validation: Arc<AtomicUsize>,
}

impl LightningModule for Counted {
    type Model = Linear;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Linear {
        Linear::new(2, 1, key)
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        sgd(0.1)
    }

    fn training_step(&self, model: &Linear, (x, y): &Self::Batch, _: &mut StepCx) -> Tensor {
        self.training.fetch_add(1, Relaxed);
        mse(&model.call(x), y)
    }

    fn validation_step(&self, model: &Linear, (x, y): &Self::Batch, cx: &mut StepCx) {
        self.validation.fetch_add(1, Relaxed);
        cx.log("val_loss", mse(&model.call(x), y));
    }
}

#[test]
fn a_step_is_traced_once_per_shape() -> Result<()> {
    let folder = folder();
    let module = Counted::default();
    quiet(folder.path()).max_epochs(20).fit(&module, &data())?;
    let counts = |module: &Counted| (module.training.load(Relaxed), module.validation.load(Relaxed));
    assert_eq!(counts(&module), (2, 2), "full and ragged batches");
    let module = Counted::default();
    quiet(folder.path()).max_epochs(20).fit(&module, &loader().drop_last(true))?;
    assert_eq!(counts(&module), (1, 0));
    Ok(())
}

/// Writes down what happens.
#[derive(Clone, Default)]
struct Diary(Arc<std::sync::Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, what: &str, run: &Run) -> Result<()> {
        let line = format!("{what} {} {}", run.epoch(), run.step());
        self.0.lock().expect("no test panics with it").push(line);
        Ok(())
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no test panics with it"))
    }
}

impl Callback for Diary {
    fn on_fit_start(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        self.note("start", run)
    }
    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        self.note("step", run)
    }
    fn on_validation_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        self.note("validation", run)
    }
    fn on_train_epoch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        self.note("epoch", run)
    }
    fn on_fit_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let run = &mut *cx.run;
        self.note("end", run)
    }
}

#[test]
fn hooks_and_limits() -> Result<()> {
    let folder = folder();
    let diary = Diary::default();
    let trainer = || quiet(folder.path()).callback(diary.clone());
    let result = trainer().max_epochs(2).limit_train_batches(2).check_val_every_n_epoch(2).fit(&Curve, &data())?;
    assert_eq!((result.step, result.epoch), (4, 2));
    #[rustfmt::skip]
    assert_eq!(diary.take(), [
        "start 0 0", "step 0 1", "step 0 2", "epoch 0 2",
        "step 1 3", "step 1 4", "validation 1 4", "epoch 1 4", "end 2 4",
    ]);
    // Three of five batches; the limit on steps comes within the second epoch, which is not over then.
    let result = trainer().max_steps(4).limit_train_batches(0.7).limit_val_batches(0).fit(&Curve, &data())?;
    assert_eq!((result.step, result.epoch), (4, 1));
    #[rustfmt::skip]
    assert_eq!(diary.take(), ["start 0 0", "step 0 1", "step 0 2", "step 0 3", "epoch 0 3", "step 1 4", "end 1 4"]);
    assert!(result.metrics.get("val_loss").is_none());
    // Exactly the steps of one epoch.
    let result = trainer().max_steps(5).fit(&Curve, &data())?;
    assert_eq!((result.step, result.epoch), (5, 1));
    assert!(diary.take().contains(&"validation 0 5".to_string()));
    Ok(())
}

#[test]
fn a_trial_run() -> Result<()> {
    let folder = folder();
    let diary = Diary::default();
    let result = quiet(folder.path())
        .max_epochs(10)
        .fast_dev_run(2)
        .callback(diary.clone())
        .callback(fulgurite_trainer::ModelCheckpoint::last())
        .logger(CsvLogger::new())
        .fit(&Curve, &data())?;
    assert_eq!((result.step, result.epoch), (2, 1));
    assert_eq!(diary.take(), ["start 0 0", "step 0 1", "step 0 2", "validation 0 2", "epoch 0 2", "end 1 2"]);
    assert!(!folder.path().join("test/version_0/metrics.csv").exists());
    assert!(!folder.path().join("test/version_0/checkpoints").exists());
    Ok(())
}

#[test]
fn metrics_as_csv() -> Result<()> {
    let folder = folder();
    for _ in 0..2 {
        let trainer = quiet(folder.path()).max_epochs(2).log_every_n_steps(2).logger(CsvLogger::new());
        let result = trainer.fit(&Curve, &data())?;
        assert!(result.folder.is_some_and(|folder| folder.is_dir()));
    }
    let read =
        |version: usize| std::fs::read_to_string(folder.path().join(format!("test/version_{version}/metrics.csv")));
    let text = read(0)?;
    assert_eq!(text, read(1)?, "the same run, another version");
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(rows[0], ["step", "epoch", "loss", "size", "val_loss"]);
    let places: Vec<_> = rows[1..].iter().map(|row| (row[0], row[1], row[4].is_empty())).collect();
    #[rustfmt::skip]
    assert_eq!(places, [
        ("2", "0", true), ("4", "0", true), ("5", "0", false),
        ("6", "1", true), ("8", "1", true), ("10", "1", true), ("10", "1", false),
    ]);
    assert!(rows[1..].iter().all(|row| row.len() == 5 && (row[2].is_empty() != row[4].is_empty())));
    assert!(rows[1][2].parse::<f64>().is_ok_and(f64::is_finite), "{}", rows[1][2]);
    Ok(())
}

/// Two halves of a model, trained in turn: a step written by hand.
#[derive(Clone)]
struct InTurn;

impl LightningModule for InTurn {
    type Model = (Tensor, Tensor);
    type Batch = Tensor;

    fn init(&self, _: Key) -> (Tensor, Tensor) {
        (Tensor::zeros(&[]), Tensor::zeros(&[]))
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        manual()
    }

    fn training_step(&self, (a, b): &Self::Model, x: &Tensor, _: &mut StepCx) -> Tensor {
        (a + b - x.mean()).square()
    }

    fn step<O: Optimizer>(&self, _: &O, state: StateOf<Self, O>, batch: &Tensor, cx: &mut StepCx) -> StateOf<Self, O> {
        let slope = grad(|model: &Self::Model| self.training_step(model, batch, &mut cx.clone()))(&state.model);
        let even = (cx.step() % 2).equal(0);
        let updates = (even.select(&slope.0 * -0.5, 0.0), even.select(0.0, &slope.1 * -0.25));
        cx.log("even", even.convert(DType::F32));
        // What is said about step and key here is the trainer's to say.
        TrainState { model: apply_updates(state.model, updates), step: Tensor::scalar(100i32), ..state }
    }
}

#[test]
fn a_step_by_hand() -> Result<()> {
    let folder = folder();
    let data = DataLoader::new(ArrayDataset::new(ndarray::Array1::<f32>::ones(4))?).batch_size(4);
    let result = quiet(folder.path()).max_steps(2).fit(&InTurn, &data)?;
    // Step 0 moves a by -0.5 × 2 (0 - 1) = 1; step 1 finds no slope any more.
    assert_eq!((result.model.0.item::<f32>()?, result.model.1.item::<f32>()?), (1.0, 0.0));
    assert_eq!(result.metrics.get("even"), Some(0.0));
    assert_eq!(result.metrics.get("loss"), None);
    Ok(())
}

/// Logs what it draws.
#[derive(Clone)]
struct Draws;

impl LightningModule for Draws {
    type Model = Tensor;
    type Batch = Tensor;

    fn init(&self, key: Key) -> Tensor {
        key.uniform(&[], 0.0, 1.0)
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        sgd(0.0)
    }

    fn training_step(&self, model: &Tensor, x: &Tensor, cx: &mut StepCx) -> Tensor {
        for name in ["first", "second"] {
            let draw = cx.key().uniform(&[], 0.0, 1.0);
            cx.log(name, draw);
        }
        let step = cx.step().clone();
        cx.log("step", step);
        model * x.mean()
    }

    fn validation_step(&self, _: &Tensor, _: &Tensor, cx: &mut StepCx) {
        let draw = cx.key().uniform(&[], 0.0, 1.0);
        cx.log("val", draw);
    }
}

/// Keys are drawn as `key, sub = split(key)` draws them in JAX, whether or not there is validation.
#[test]
fn keys_of_a_run() -> Result<()> {
    let folder = folder();
    let train = DataLoader::new(ArrayDataset::new(ndarray::Array1::<f32>::ones(4))?).batch_size(4);
    let with_val = (train.clone(), train.clone());
    let trainer = || quiet(folder.path()).max_epochs(3).seed(9);
    let result = trainer().fit(&Draws, &with_val)?;

    let draw = |key: &Key| f64::from(key.uniform(&[], 0.0, 1.0).item::<f32>().expect("a number"));
    let [init, mut key] = Key::new(9).split();
    assert_eq!(f64::from(result.model.item::<f32>()?), draw(&init));
    let mut subs = Vec::new();
    for _ in 0..6 {
        let [next, sub] = key.split();
        (key, _) = (next, subs.push(sub));
    }
    assert_eq!(result.metrics.get("first"), Some(draw(&subs[4])));
    assert_eq!(result.metrics.get("second"), Some(draw(&subs[5])));
    assert_eq!(result.metrics.get("step"), Some(2.0));

    let without = trainer().fit(&Draws, &train)?;
    assert_eq!(without.metrics.get("second"), result.metrics.get("second"));
    assert!(result.metrics.get("val").is_some_and(|val| subs.iter().all(|sub| draw(sub) != val)));
    Ok(())
}

/// Steps with a mistake each.
#[derive(Clone)]
struct Faulty(&'static str);

impl LightningModule for Faulty {
    type Model = Linear;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Linear {
        Linear::new(2, 1, key)
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        sgd(0.1)
    }

    fn training_step(&self, model: &Linear, (x, y): &Self::Batch, cx: &mut StepCx) -> Tensor {
        let prediction = model.call(x);
        match self.0 {
            "shapes" => mse(&prediction, &y.index_in_dim(0, 0)),
            "vector" => (prediction - y).square(),
            "logs a vector" => {
                cx.log("all", &prediction);
                mse(&prediction, y)
            }
            "logs twice" => {
                cx.log("a", prediction.mean());
                cx.log("a", prediction.mean());
                mse(&prediction, y)
            }
            _ => mse(&prediction, y),
        }
    }

    fn validation_step(&self, model: &Linear, (x, y): &Self::Batch, cx: &mut StepCx) {
        if self.0 == "validation" {
            cx.log("val_loss", mse(&model.call(x), &y.index_in_dim(0, 0)));
        }
    }
}

#[test]
fn mistakes_in_a_step_are_returned_with_their_line() {
    let folder = folder();
    let fit = |what| message(quiet(folder.path()).max_epochs(1).fit(&Faulty(what), &data()));
    for (what, parts) in [
        ("shapes", ["mse: f32[8,1] and f32[1]", "fit.rs"]),
        ("vector", ["must give a float scalar, not f32[8,1]", ""]),
        ("logs a vector", ["`all` is f32[8,1], not a scalar", "fit.rs"]),
        ("logs twice", ["`a` is logged twice", "fit.rs"]),
        ("validation", ["checked before training", "fit.rs"]),
    ] {
        let text = fit(what);
        assert!(parts.iter().all(|part| text.contains(part)), "{what}: {text}");
    }
}

#[test]
fn a_module_without_validation_step() -> Result<()> {
    let folder = folder();
    let result = quiet(folder.path()).max_epochs(2).fit(&Faulty("none"), &data())?;
    assert_eq!(result.step, 10);
    assert!(message(quiet(folder.path()).validate(&Faulty("none"), &result.model, &data())).contains("logs nothing"));
    Ok(())
}

#[test]
fn mistakes_in_settings_are_explained() {
    let folder = folder();
    let trainer = || quiet(folder.path()).max_epochs(1);
    let fit = |trainer: Trainer| message(trainer.fit(&Curve, &data()));
    assert!(fit(trainer().log_every_n_steps(0)).contains("`log_every_n_steps` is 0"));
    assert!(fit(trainer().check_val_every_n_epoch(0)).contains("`check_val_every_n_epoch` is 0"));
    assert!(fit(trainer().limit_train_batches(1.5)).contains("a fraction lies in"));
    assert!(fit(trainer().limit_train_batches(-1)).contains("cannot be negative"));
    assert!(fit(trainer().limit_train_batches(0)).contains("no batch to train on"));
    let empty = DataLoader::new(points(0));
    let text = message(trainer().fit(&Curve, &empty));
    assert!(text.contains("training data") && text.contains("empty"), "{text}");
    let text = message(trainer().fit(&Curve, &(loader(), empty)));
    assert!(text.contains("validation data") && text.contains("empty"), "{text}");
    std::fs::write(folder.path().join("file"), "").expect("a file");
    let text =
        message(trainer().default_root_dir(folder.path().join("file")).logger(CsvLogger::new()).fit(&Curve, &data()));
    assert!(text.contains("cannot make the run's folder") && text.contains("default_root_dir"), "{text}");
}

/// Reads its model on the host.
#[derive(Clone)]
struct Watched;

impl LightningModule for Watched {
    type Model = Linear;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Linear {
        Linear::new(2, 1, key)
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        sgd(0.1)
    }

    fn training_step(&self, model: &Linear, (x, y): &Self::Batch, _: &mut StepCx) -> Tensor {
        mse(&model.call(x), y)
    }

    fn validation_step(&self, model: &Linear, (x, y): &Self::Batch, cx: &mut StepCx) {
        cx.log("val_loss", mse(&model.call(x), y));
    }

    fn on_fit_start(&self, _: &Linear, run: &mut Run) -> Result<()> {
        run.log("starts", 1.0);
        Ok(())
    }

    fn on_validation_end(&self, model: &Linear, run: &mut Run) -> Result<()> {
        let norm = model.weight.square().sum().sqrt().item::<f32>()?;
        run.log("norm", norm.into());
        Ok(())
    }

    fn on_fit_end(&self, _: &Linear, run: &mut Run) -> Result<()> {
        std::fs::write(run.folder()?.join("note"), "done")?;
        Ok(())
    }
}

#[test]
fn hooks_of_the_module_see_the_model() -> Result<()> {
    let folder = folder();
    let trainer = quiet(folder.path()).max_epochs(2).log_every_n_steps(1000).logger(CsvLogger::new());
    let result = trainer.fit(&Watched, &data())?;
    let norm = result.model.weight.square().sum().sqrt().item::<f32>()?;
    assert_eq!(result.metrics.get("norm"), Some(norm.into()));
    let text = std::fs::read_to_string(folder.path().join("test/version_0/metrics.csv"))?;
    let rows: Vec<&str> = text.lines().collect();
    assert_eq!((rows[0], rows[1]), ("step,epoch,starts,val_loss,norm", "0,0,1,,"));
    assert_eq!(rows.len(), 6, "{text}");
    assert_eq!(std::fs::read_to_string(folder.path().join("test/version_0/note"))?, "done");
    Ok(())
}
