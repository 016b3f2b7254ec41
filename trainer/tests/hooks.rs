//! Hooks and the state: leaves by name, what may be set, and two callbacks written outside of the crate that need both:
//! averaged weights, and a monitor of the learning rate.

mod common;

use std::path::Path;
use std::sync::{Arc, Mutex};

use common::{Curve, assert_close, bytes, data, folder, loader, message, quiet};
use fulgurite_jit::{Error, Key, Result, Tensor, Tree, named_leaves};
use fulgurite_trainer::loss::mse;
use fulgurite_trainer::nn::{Linear, Mlp};
use fulgurite_trainer::optim::{adam, multi_steps, schedule, sgd};
use fulgurite_trainer::{
    Callback, Checkpoint, HookCx, LightningModule, ModelCheckpoint, Optimizer, Run, StateDict, StepCx, chain,
    serde_json,
};

/// [`Curve`], with a model that callbacks may set.
#[derive(Clone)]
struct Open;

impl LightningModule for Open {
    type Model = Mlp;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Mlp {
        Curve.init(key)
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        Curve.configure_optimizers()
    }

    fn training_step(&self, model: &Mlp, batch: &Self::Batch, cx: &mut StepCx) -> Tensor {
        Curve.training_step(model, batch, cx)
    }

    fn validation_step(&self, model: &Mlp, batch: &Self::Batch, cx: &mut StepCx) {
        Curve.validation_step(model, batch, cx);
    }

    fn changeable(&self) -> &[&str] {
        &["model"]
    }
}

/// The exponential moving average of the model: `average ← decay × average + (1 - decay) × weights` after each step.
/// Validation uses the average.
#[derive(Clone)]
struct Ema {
    decay: f32,
    averages: Vec<(String, Tensor)>,
    /// The averages after the run, for the test.
    out: Arc<Mutex<Vec<(String, Tensor)>>>,
}

impl Ema {
    fn new(decay: f32) -> Self {
        Ema { decay, averages: Vec::new(), out: Arc::default() }
    }
}

impl Callback for Ema {
    fn name(&self) -> String {
        format!("Ema({})", self.decay)
    }

    fn on_fit_start(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        if self.averages.is_empty() {
            let names: Vec<String> =
                cx.leaf_names().filter(|name| name.starts_with("model.")).map(String::from).collect();
            self.averages = names.into_iter().map(|name| Ok((name.clone(), cx.leaf(&name)?))).collect::<Result<_>>()?;
        }
        Ok(())
    }

    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        for (name, average) in &mut self.averages {
            *average = &*average * self.decay + cx.leaf(name)? * (1.0 - self.decay);
        }
        Ok(())
    }

    fn on_validation_start(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        self.averages.iter().try_for_each(|(name, average)| cx.set_leaf(name, average.clone()))
    }

    fn on_fit_end(&mut self, _: &mut HookCx<'_>) -> Result<()> {
        self.out.lock().expect("one thread").clone_from(&self.averages);
        Ok(())
    }

    fn state_dict(&self) -> StateDict {
        StateDict { value: serde_json::json!({ "decay": self.decay }), tensors: self.averages.clone() }
    }

    fn load_state_dict(&mut self, state: &StateDict, _: &Path) -> Result<()> {
        self.averages.clone_from(&state.tensors);
        Ok(())
    }
}

fn flat(leaves: &[(String, Tensor)]) -> Vec<u8> {
    let mut leaves: Vec<_> = leaves.to_vec();
    leaves.sort_by(|(x, _), (y, _)| x.cmp(y));
    leaves.iter().flat_map(|(_, leaf)| bytes(leaf)).collect()
}

#[test]
fn averaged_weights_are_validated_and_training_does_not_see_them() -> Result<()> {
    let root = folder();
    let plain = quiet(root.path()).max_epochs(3).fit(&Open, &data())?;
    let ema = Ema::new(0.9);
    let with = quiet(root.path()).max_epochs(3).callback(ema.clone()).fit(&Open, &data())?;
    assert_eq!(bytes(&with.model), bytes(&plain.model), "the weights are back after validation");
    assert_eq!(with.metrics.get("loss"), plain.metrics.get("loss"));
    assert_ne!(with.metrics.get("val_loss"), plain.metrics.get("val_loss"));
    let averages = ema.out.lock().expect("one thread").clone();
    let names = named_leaves(&with.model);
    assert_eq!(averages.len(), names.len());
    assert!(averages.iter().zip(&names).all(|((average, _), (name, _))| *average == format!("model.{name}")));
    // The score is that of the averaged model.
    let mut leaves = averages.iter().map(|(_, leaf)| leaf.clone());
    let averaged = with.model.map(&mut |_| leaves.next().expect("as many"));
    let expected = quiet(root.path()).validate(&Open, &averaged, &data())?;
    assert_eq!(with.metrics.get("val_loss"), expected.get("val_loss"));
    Ok(())
}

/// The averages by hand: after one step, `0.5 × initial + 0.5 × after`.
#[test]
fn the_average_is_what_it_says() -> Result<()> {
    #[derive(Clone, Default)]
    struct First(Arc<Mutex<Vec<(String, Tensor)>>>);
    impl Callback for First {
        fn on_fit_start(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
            let names: Vec<String> = cx.leaf_names().map(String::from).collect();
            let mut first = self.0.lock().expect("one thread");
            for name in names {
                let leaf = cx.leaf(&name)?;
                first.push((name, leaf));
            }
            Ok(())
        }
    }
    let root = folder();
    let (ema, first) = (Ema::new(0.5), First::default());
    let result = quiet(root.path()).max_steps(1).callback(ema.clone()).callback(first.clone()).fit(&Open, &data())?;
    let first = first.0.lock().expect("one thread");
    assert!(["step", "key", "opt_state.count"].iter().all(|name| first.iter().any(|(leaf, _)| leaf == name)));
    for ((name, average), (_, after)) in ema.out.lock().expect("one thread").iter().zip(named_leaves(&result.model)) {
        let (_, before) = first.iter().find(|(leaf, _)| leaf == name).expect("it was there at the start");
        // The handle was kept over the step, which has copied the leaf.
        assert_ne!(bytes(before), bytes(&after), "{name}");
        let expected: Tensor = (before + &after) * 0.5;
        assert_close(average, &expected.array()?.to_f64_vec().unwrap(), 1e-6, 1e-7);
    }
    Ok(())
}

#[test]
fn averages_are_resumed_with_the_same_bits() -> Result<()> {
    #[derive(Clone)]
    struct Crash(usize);
    impl Callback for Crash {
        fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
            if cx.run.step() == self.0 { Err(Error::new("crash")) } else { Ok(()) }
        }
    }
    let root = folder();
    let trainer = |ema: &Ema, crash| {
        let last = ModelCheckpoint::last().every_n_train_steps(1);
        quiet(root.path()).max_epochs(3).callback(ema.clone()).callback(last).callback(Crash(crash))
    };
    let whole = Ema::new(0.9);
    let expected = trainer(&whole, 0).fit(&Open, &data())?;
    let file = std::fs::read(expected.last_checkpoint.as_ref().expect("a last"))?;
    let first = Checkpoint::read(expected.last_checkpoint.as_ref().expect("a last"))?;
    assert!(first.tensors().any(|(name, _)| name == "callbacks.0.model.layers.0.weight"));
    for (version, crash) in [(1, 3), (3, 6), (5, 13)] {
        assert_eq!(message(trainer(&whole, crash).fit(&Open, &data())), "crash");
        let from = root.path().join(format!("test/version_{version}/checkpoints/last.safetensors"));
        let ema = Ema::new(0.9);
        let rest = trainer(&ema, 0).ckpt_path(from).fit(&Open, &data())?;
        assert_eq!(rest.metrics, expected.metrics);
        assert_eq!(flat(&ema.out.lock().expect("one thread")), flat(&whole.out.lock().expect("one thread")));
        assert!(std::fs::read(rest.last_checkpoint.expect("a last"))? == file, "the files differ");
    }
    // A run without the callback resumes from the same file.
    let last = root.path().join("test/version_0/checkpoints/last.safetensors");
    assert_eq!(quiet(root.path()).max_epochs(4).ckpt_path(last).fit(&Open, &data())?.step, 20);
    Ok(())
}

/// A checkpoint before a failing validation of the averages holds the weights.
#[test]
fn an_error_in_a_validation_with_averages_leaves_the_checkpoint() -> Result<()> {
    #[derive(Clone)]
    struct Fails;
    impl Callback for Fails {
        fn on_validation_batch_start(&mut self, run: &mut Run) -> Result<()> {
            if run.val_batch() == 1 { Err(Error::new("in validation")) } else { Ok(()) }
        }
    }
    let root = folder();
    let plain = quiet(root.path()).max_steps(5).fit(&Open, &data())?;
    let last = ModelCheckpoint::last().every_n_train_steps(5);
    let trainer = quiet(root.path()).max_steps(5).callback(Ema::new(0.9)).callback(last).callback(Fails);
    assert_eq!(message(trainer.fit(&Open, &data())), "in validation");
    let saved = Checkpoint::read(root.path().join("test/version_0/checkpoints/last.safetensors"))?;
    assert_eq!(bytes(&saved.model(&plain.model)?), bytes(&plain.model));
    Ok(())
}

/// Sets a leaf after the first step.
#[derive(Clone)]
struct Sets(&'static str, Tensor);

impl Callback for Sets {
    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        if cx.run.step() == 1 {
            cx.set_leaf(self.0, self.1.clone())?;
            assert_eq!(bytes(&cx.leaf(self.0)?), bytes(&self.1), "hooks of the same moment see it");
        }
        Ok(())
    }
}

/// A straight line with a learning rate in the optimiser's state, as `optax.inject_hyperparams` has it.
#[derive(Clone)]
struct Injected;

#[derive(Clone)]
struct InjectedSgd(f64);

#[derive(Clone, Tree)]
struct InjectedState {
    learning_rate: Tensor,
}

impl Optimizer for InjectedSgd {
    type State<P: Tree + Clone> = InjectedState;

    fn init<P: Tree + Clone>(&self, _: &P) -> InjectedState {
        InjectedState { learning_rate: Tensor::full(&[], self.0, fulgurite_jit::DType::F32) }
    }

    fn update<P: Tree + Clone>(&self, grads: P, state: InjectedState, _: &P) -> (P, InjectedState) {
        (grads.map(&mut |g| -(g * &state.learning_rate)), state)
    }

    fn learning_rate<P: Tree + Clone>(&self, state: &InjectedState) -> Option<Tensor> {
        Some(state.learning_rate.clone())
    }
}

impl LightningModule for Injected {
    type Model = Linear;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Linear {
        Linear::new(2, 1, key)
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        InjectedSgd(0.25)
    }

    fn training_step(&self, model: &Linear, (x, y): &Self::Batch, _: &mut StepCx) -> Tensor {
        mse(&model.call(x), y)
    }

    fn changeable(&self) -> &[&str] {
        &["opt_state.learning_rate", "model.*as"]
    }
}

#[test]
fn what_may_be_set() -> Result<()> {
    let root = folder();
    let fit = |callback: Sets| quiet(root.path()).max_steps(3).callback(callback).fit(&Open, &data());
    let zeros = Tensor::zeros(&[8, 2]);
    let plain = quiet(root.path()).max_steps(3).fit(&Open, &data())?;
    let result = fit(Sets("model.layers.0.weight", zeros.clone()))?;
    assert_ne!(bytes(&result.model), bytes(&plain.model));
    for (name, value, why) in [
        (
            "model.layers.0.weight",
            Tensor::zeros(&[2, 8]),
            "`model.layers.0.weight` is f32[8,2], and cannot be set to f32[2,8]",
        ),
        ("model.layers.0.weight", Tensor::full(&[8, 2], 0.0, fulgurite_jit::DType::F64), "cannot be set to f64[8,2]"),
        ("model.layers.7.weight", zeros.clone(), "the state has no leaf `model.layers.7.weight`"),
        (
            "opt_state.mu.layers.0.weight",
            zeros.clone(),
            "`opt_state.mu.layers.0.weight` cannot be set: the module declares [\"model\"]",
        ),
        ("step", Tensor::scalar(7i32), "`step` cannot be set: it is the trainer's"),
    ] {
        let text = message(fit(Sets(name, value)));
        assert!(text.contains(why), "{text}");
    }
    // A module declares nothing unless it says so.
    let text =
        message(quiet(root.path()).max_steps(3).callback(Sets("model.layers.0.weight", zeros)).fit(&Curve, &data()));
    assert!(text.contains("the module declares [] changeable"), "{text}");
    // A pattern that matches no leaf is a mistake.
    let text = message(quiet(root.path()).max_steps(3).fit(&Injected, &loader()));
    assert!(text.contains("declares `model.*as` changeable") && text.contains("model.weight, model.bias"), "{text}");
    Ok(())
}

/// Logs the learning rate of every step, under Lightning's name.
#[derive(Clone, Default)]
struct LearningRateMonitor {
    rate: Option<f64>,
    rates: Arc<Mutex<Vec<f64>>>,
}

impl Callback for LearningRateMonitor {
    fn on_train_batch_start(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        self.rate = cx.learning_rate()?;
        Ok(())
    }

    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        if let Some(rate) = self.rate {
            cx.run.log("lr", rate);
            self.rates.lock().expect("one thread").push(rate);
        }
        Ok(())
    }
}

/// [`Injected`] or [`Curve`] with an optimiser of the test's choice.
#[derive(Clone)]
struct With<O>(O);

impl<O: Optimizer + Clone> LightningModule for With<O> {
    type Model = Linear;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Linear {
        Linear::new(2, 1, key)
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        self.0.clone()
    }

    fn training_step(&self, model: &Linear, (x, y): &Self::Batch, _: &mut StepCx) -> Tensor {
        mse(&model.call(x), y)
    }

    fn changeable(&self) -> &[&str] {
        &["opt_state"]
    }
}

fn rates<O: Optimizer + Clone>(optimizer: O, callback: impl Callback + Clone + 'static) -> Result<Vec<f64>> {
    let root = folder();
    let monitor = LearningRateMonitor::default();
    let trainer = quiet(root.path()).max_steps(6).callback(monitor.clone()).callback(callback);
    let result = trainer.fit(&With(optimizer), &loader())?;
    let rates = monitor.rates.lock().expect("one thread").clone();
    assert_eq!(result.metrics.get("lr"), rates.last().copied());
    Ok(rates)
}

#[derive(Clone)]
struct Idle;

impl Callback for Idle {}

#[test]
fn the_learning_rate_of_each_step() -> Result<()> {
    let close = |got: Vec<f64>, want: [f64; 6]| {
        assert_eq!(got.len(), 6);
        assert!(got.iter().zip(want).all(|(x, y)| (x - y).abs() < 1e-7), "{got:?} {want:?}");
    };
    close(rates(sgd(0.1), Idle)?, [0.1; 6]);
    let linear = || schedule::linear(1.0, 0.0, 4);
    close(rates(adam(linear()), Idle)?, [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]);
    close(rates(chain![fulgurite_trainer::optim::clip(1.0), sgd(linear())], Idle)?, [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]);
    close(rates(multi_steps(sgd(linear()), 2), Idle)?, [1.0, 1.0, 0.75, 0.75, 0.5, 0.5]);
    close(rates(InjectedSgd(0.25), Idle)?, [0.25; 6]);
    // A callback sets it after the first step.
    let halve = Sets("opt_state.learning_rate", Tensor::scalar(0.125f32));
    close(rates(InjectedSgd(0.25), halve)?, [0.25, 0.125, 0.125, 0.125, 0.125, 0.125]);
    assert!(rates(fulgurite_trainer::optim::manual(), Idle).is_err(), "nothing was logged, so there is no `lr`");
    Ok(())
}

/// Setting the rate has the effect of having it from the start.
#[test]
fn a_rate_that_is_set_is_the_rate_of_the_next_step() -> Result<()> {
    let root = folder();
    let data = loader();
    let set = Sets("opt_state.learning_rate", Tensor::scalar(0.0f32));
    let one = quiet(root.path()).max_steps(1).fit(&With(InjectedSgd(0.25)), &data)?;
    let three = quiet(root.path()).max_steps(3).callback(set).fit(&With(InjectedSgd(0.25)), &data)?;
    assert_eq!(bytes(&three.model), bytes(&one.model), "no step after the first changes anything");
    Ok(())
}

/// A trainer stays as it is: each fit starts with copies of its callbacks.
#[test]
fn one_trainer_fits_twice() -> Result<()> {
    let root = folder();
    let ema = Ema::new(0.9);
    let trainer = quiet(root.path()).max_epochs(2).callback(ema.clone()).callback(ModelCheckpoint::best("val_loss"));
    let first = trainer.fit(&Open, &data())?;
    let averages = flat(&ema.out.lock().expect("one thread"));
    let second = trainer.fit(&Open, &data())?;
    assert_eq!(bytes(&first.model), bytes(&second.model));
    assert_eq!(averages, flat(&ema.out.lock().expect("one thread")));
    assert_eq!(first.metrics, second.metrics);
    assert_ne!(first.folder, second.folder);
    Ok(())
}

/// A custom progress bar replaces the default one.
#[test]
fn a_custom_progress_bar() -> Result<()> {
    #[derive(Clone, Default)]
    struct Dots(Arc<Mutex<String>>);
    impl Callback for Dots {
        fn is_progress_bar(&self) -> bool {
            true
        }
        fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
            let loss = cx.run.step_metrics()?.iter().any(|(name, value)| &**name == "loss" && value.is_finite());
            self.0.lock().expect("one thread").push(if loss { '.' } else { '?' });
            Ok(())
        }
        fn on_validation_batch_start(&mut self, run: &mut Run) -> Result<()> {
            self.0.lock().expect("one thread").push_str(&format!("{}/{} ", run.val_batch(), run.val_batches()));
            Ok(())
        }
    }
    let root = folder();
    let dots = Dots::default();
    let trainer = fulgurite_trainer::Trainer::new().default_root_dir(root.path()).max_epochs(1).callback(dots.clone());
    trainer.fit(&Curve, &data())?;
    assert_eq!(*dots.0.lock().expect("one thread"), "0/2 1/2 .....0/3 1/3 2/3 ");
    Ok(())
}
