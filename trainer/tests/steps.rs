//! Custom steps, what they return, and trees that do not fit together.

mod common;

use common::{Curve, assert_close, bytes, folder, loader, message, quiet};
use fulgurite_jit::{DType, Key, Result, Tensor, Tree, gelu};
use fulgurite_runtime::jit;
use fulgurite_trainer::loss::mse;
use fulgurite_trainer::nn::{Linear, Mlp};
use fulgurite_trainer::optim::*;
use fulgurite_trainer::{LightningModule, StateOf, StepCx, TrainState, chain, default_step};

/// [`Curve`] with a custom step: one that calls the default step, or one written by hand.
#[derive(Clone)]
struct ByHand {
    default: bool,
}

impl LightningModule for ByHand {
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

    fn step<O: Optimizer>(
        &self,
        optimizer: &O,
        state: StateOf<Self, O>,
        batch: &Self::Batch,
        cx: &mut StepCx,
    ) -> StateOf<Self, O> {
        if self.default {
            let next = default_step(self, optimizer, state, batch, cx);
            cx.log("weight", next.model.layers[0].weight.sum());
            return next;
        }
        let (loss, grads) = cx.value_and_grad(|model, cx| self.training_step(model, batch, cx), &state.model);
        cx.log("loss", loss);
        let (updates, opt_state) = optimizer.update(grads, state.opt_state, &state.model);
        TrainState { model: apply_updates(state.model, updates), opt_state, ..state }
    }
}

#[test]
fn a_step_on_top_of_the_modules_own_is_the_same_to_the_bit() -> Result<()> {
    let folder = folder();
    let plain = quiet(folder.path()).max_epochs(3).fit(&Curve, &loader())?;
    for default in [true, false] {
        let own = quiet(folder.path()).max_epochs(3).fit(&ByHand { default }, &loader())?;
        assert_eq!(bytes(&own.model), bytes(&plain.model), "its keys are the same");
        for name in ["loss", "size"] {
            assert!(own.metrics.get(name).is_some() && own.metrics.get(name) == plain.metrics.get(name), "{name}");
        }
        assert_eq!(own.metrics.get("weight").is_some(), default);
    }
    Ok(())
}

/// A scale that is trained, and a running mean of the data that is not.
#[derive(Clone, Tree)]
struct Centred {
    scale: Tensor,
    mean: Tensor,
    seen: Tensor,
}

#[derive(Clone)]
struct Centring;

impl Centring {
    fn loss(model: &Centred, x: &Tensor) -> (Tensor, Tensor) {
        let mean = &model.mean.stop_gradient() * 0.5 + x.mean() * 0.5;
        (((x - &mean) * &model.scale).square().mean(), mean)
    }
}

impl LightningModule for Centring {
    type Model = Centred;
    type Batch = Tensor;

    fn init(&self, _: Key) -> Centred {
        Centred { scale: Tensor::scalar(1.0f32), mean: Tensor::scalar(0.0f32), seen: Tensor::scalar(0i32) }
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        adamw(0.1).weight_decay(0.5)
    }

    fn training_step(&self, model: &Centred, x: &Tensor, _: &mut StepCx) -> Tensor {
        Centring::loss(model, x).0
    }

    fn step<O: Optimizer>(
        &self,
        optimizer: &O,
        state: StateOf<Self, O>,
        x: &Tensor,
        cx: &mut StepCx,
    ) -> StateOf<Self, O> {
        let old = state.model;
        let ((loss, mean), grads) = cx.value_and_grad_aux(|model, _| Centring::loss(model, x), &old);
        cx.log("loss", loss);
        let seen = &old.seen + x.shape()[0] as i32;
        let (updates, opt_state) = optimizer.update(grads, state.opt_state, &old);
        TrainState { model: Centred { mean, seen, ..apply_updates(old, updates) }, opt_state, ..state }
    }
}

#[test]
fn state_that_is_not_trained_is_what_the_step_returns() -> Result<()> {
    let folder = folder();
    let x = ndarray::Array1::from_vec(vec![1.0f32, 3.0, 4.0, 8.0]);
    let data = fulgurite_trainer::DataLoader::new(fulgurite_trainer::ArrayDataset::new(x)?).batch_size(2);
    let result = quiet(folder.path()).max_epochs(1).fit(&Centring, &data)?;
    // 0.5 × 0 + 0.5 × 2 = 1, then 0.5 × 1 + 0.5 × 6 = 3.5: neither the rate nor the decay has a part in it.
    assert_eq!(result.model.mean.item::<f32>()?, 3.5);
    assert_eq!(result.model.seen.item::<i32>()?, 4);
    assert!(result.model.scale.item::<f32>()? < 1.0);
    Ok(())
}

#[test]
fn the_optimisers_state_can_be_had_and_goes_on() -> Result<()> {
    let folder = folder();
    let result = quiet(folder.path()).max_epochs(2).fit(&Curve, &loader())?;
    let optimizer = adam(schedule::cosine_decay(1e-2, 200));
    let state = result.opt_state_as(&optimizer.init(&result.model))?;
    assert_eq!(state.count.item::<i32>()?, 10);
    assert_eq!(state.mu.layers.len(), result.model.layers.len());
    // One more update of it is one of the run's.
    let (_, next) = optimizer.update(result.model.clone(), state, &result.model);
    assert_eq!(next.count.item::<i32>()?, 11);

    let text = message(result.opt_state_as(&sgd(0.1).init(&result.model)));
    assert!(text.contains("does not fit"), "{text}");
    let other = Mlp::new(2, 1, 9, 2, gelu, Key::new(0));
    let text = message(result.opt_state_as(&optimizer.init(&other)));
    assert!(text.contains("`mu.layers.0.weight`") && text.contains("f32[8,2]") && text.contains("f32[9,2]"), "{text}");
    Ok(())
}

type Layers = Vec<Tensor>;

fn layers(n: usize, width: usize) -> Layers {
    (0..n).map(|_| Tensor::full(&[width], 1.0, DType::F32)).collect()
}

/// One compiled update with gradients, a state and parameters of these models.
fn update<O: Optimizer + Clone>(optimizer: &O, grads: Layers, of_state: &Layers, params: Layers) -> String {
    let optimizer = optimizer.clone();
    let state = optimizer.init(of_state);
    let step = jit(move |(grads, state, params): (Layers, _, Layers)| {
        let (updates, state) = optimizer.update(grads, state, &params);
        (updates, state)
    });
    step.call((grads, state, params)).map_or_else(|e| e.to_string(), |_| String::new())
}

fn rejects_other_models<O: Optimizer + Clone>(name: &str, optimizer: &O, has_moments: bool) {
    let fits = update(optimizer, layers(2, 3), &layers(2, 3), layers(2, 3));
    assert_eq!(fits, "", "{name}");
    let mut faults = vec![];
    if has_moments {
        faults.extend([
            ("fewer gradients", update(optimizer, layers(1, 3), &layers(2, 3), layers(2, 3))),
            ("more gradients", update(optimizer, layers(3, 3), &layers(2, 3), layers(2, 3))),
            ("a state of fewer", update(optimizer, layers(2, 3), &layers(1, 3), layers(2, 3))),
            ("a state of more", update(optimizer, layers(2, 3), &layers(3, 3), layers(2, 3))),
            ("a state of others", update(optimizer, layers(2, 3), &layers(2, 1), layers(2, 3))),
        ]);
    }
    for (what, text) in faults {
        let says = text.contains("not of one model") && text.contains("leaf ") && text.contains("steps.rs");
        assert!(says, "{name}, {what}: {text:?}");
    }
}

#[test]
fn optimisers_reject_trees_of_other_models_with_the_users_line() {
    rejects_other_models("adam", &adam(0.1), true);
    rejects_other_models("adamw", &adamw(0.1), true);
    rejects_other_models("momentum", &sgd(0.1).momentum(0.9), true);
    rejects_other_models("adabelief", &adabelief(0.1), true);
    rejects_other_models("adadelta", &adadelta(0.1), true);
    rejects_other_models("adagrad", &adagrad(0.1), true);
    rejects_other_models("adamax", &adamax(0.1), true);
    rejects_other_models("amsgrad", &amsgrad(0.1), true);
    rejects_other_models("lamb", &lamb(0.1), true);
    rejects_other_models("lion", &lion(0.1), true);
    rejects_other_models("radam", &radam(0.1), true);
    rejects_other_models("rmsprop", &rmsprop(0.1), true);
    rejects_other_models("yogi", &yogi(0.1), true);
    rejects_other_models("multi_steps", &multi_steps(adam(0.1), 2), true);
    rejects_other_models("chain", &chain![clip_by_global_norm(1.0), adam(0.1)], true);
    rejects_other_models("sgd", &sgd(0.1), false);
}

#[test]
fn updates_of_another_model_are_rejected() -> Result<()> {
    let apply = |params: Layers, updates: Layers| {
        jit(|(params, updates): (Layers, Layers)| apply_updates(params, updates)).call((params, updates))
    };
    assert_eq!(apply(layers(2, 3), layers(2, 3))?[1].to_vec::<f32>()?, [2.0; 3]);
    assert!(apply(Vec::new(), Vec::new())?.is_empty());
    for (params, updates) in [
        (layers(2, 3), layers(1, 3)),
        (layers(1, 3), layers(2, 3)),
        (layers(2, 3), layers(2, 1)),
        (layers(2, 1), layers(2, 3)),
        (layers(2, 3), Vec::new()),
        (layers(2, 0), layers(2, 1)),
    ] {
        let text = message(apply(params, updates));
        assert!(text.contains("not of one model") && text.contains("steps.rs"), "{text}");
    }
    // The parameter's type decides, as in Optax.
    let (half, whole) = (Tensor::full(&[2], 0.5, DType::F64), Tensor::full(&[2], 1.0, DType::F32));
    let sum = apply_updates(whole, half);
    assert_eq!(sum.dtype(), DType::F32);
    assert_close(&sum, &[1.5, 1.5], 0.0, 0.0);
    Ok(())
}

/// A module whose loss is a vector, made on one line and given back on another.
#[derive(Clone)]
struct VectorLoss(bool);

impl LightningModule for VectorLoss {
    type Model = Linear;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Linear {
        Linear::new(2, 1, key)
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        adam(0.1)
    }

    fn training_step(&self, model: &Linear, (x, y): &Self::Batch, _: &mut StepCx) -> Tensor {
        let error = model.call(x) - y;
        if self.0 { error.square() } else { mse(&error, y).convert(DType::I32) }
    }
}

/// A module whose own step makes a mistake.
#[derive(Clone)]
struct Mistaken;

impl LightningModule for Mistaken {
    type Model = Tensor;
    type Batch = (Tensor, Tensor);

    fn init(&self, _: Key) -> Tensor {
        Tensor::zeros(&[3])
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        adam(0.1)
    }

    fn training_step(&self, model: &Tensor, _: &Self::Batch, _: &mut StepCx) -> Tensor {
        model.sum()
    }

    fn step<O: Optimizer>(&self, _: &O, state: StateOf<Self, O>, _: &Self::Batch, _: &mut StepCx) -> StateOf<Self, O> {
        TrainState { model: state.model + Tensor::zeros(&[2]), ..state }
    }
}

#[test]
fn a_mistake_in_a_step_of_ones_own_is_named_with_the_users_line() {
    let text = message(quiet(folder().path()).max_steps(1).fit(&Mistaken, &loader()));
    assert!(text.contains("add: ") && text.contains("steps.rs:") && !text.contains("src/"), "{text}");
}

#[test]
fn a_loss_that_is_no_float_scalar_is_named_with_the_users_line() {
    let folder = folder();
    for (vector, ty) in [(true, "f32[8,1]"), (false, "i32")] {
        let text = message(quiet(folder.path()).max_steps(1).fit(&VectorLoss(vector), &loader()));
        let says = text.contains("training_step") && text.contains("float scalar") && text.contains(ty);
        assert!(says && text.contains("steps.rs:") && !text.contains("src/"), "{text}");
    }
}
