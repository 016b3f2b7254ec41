//! What a user defines: the model, the loss, the optimiser. [`Trainer::fit`](crate::Trainer::fit) makes a step of them.
//!
//! Not done here: compiling and calling that step (`fit`), and everything on the host.

use std::borrow::Borrow;
use std::panic::Location;
use std::sync::Arc;

use fulgurite_autodiff::value_and_grad_aux;
use fulgurite_jit::random::Key;
use fulgurite_jit::trace::{is_same_value, location};
use fulgurite_jit::{DType, Error, Result, Tensor, TensorType, Tree, leaves, unflatten};

use crate::fit::run::Run;
use crate::metrics::Metric;
use crate::optim::{Optimizer, apply_updates};
use crate::state::TrainState;

/// The state of a run of module `M` with optimiser `O`.
pub type StateOf<M, O> =
    TrainState<<M as LightningModule>::Model, <O as Optimizer>::State<<M as LightningModule>::Model>>;

/// A model together with how it is trained.
///
/// The type holds settings (sizes, rates). Tensors belong into [`LightningModule::Model`], an argument and result of
/// the compiled step. `Clone`, because the compiled step keeps a copy of the settings it was traced with.
///
/// ```
/// use fulgurite_jit::{Key, Tensor, gelu};
/// use fulgurite_trainer::loss::{accuracy, cross_entropy};
/// use fulgurite_trainer::nn::Mlp;
/// use fulgurite_trainer::optim::{adam, clip_by_global_norm, schedule::cosine_decay};
/// use fulgurite_trainer::{LightningModule, Optimizer, StepCx, chain};
///
/// #[derive(Clone)]
/// struct Digits { width: usize }
///
/// impl LightningModule for Digits {
///     type Model = Mlp;
///     type Batch = (Tensor, Tensor);
///
///     fn init(&self, key: Key) -> Mlp {
///         Mlp::new(784, 10, self.width, 2, gelu, key)
///     }
///     fn configure_optimizers(&self) -> impl Optimizer {
///         chain![clip_by_global_norm(1.0), adam(cosine_decay(1e-3, 5_000))]
///     }
///     fn training_step(&self, model: &Mlp, (x, y): &Self::Batch, cx: &mut StepCx) -> Tensor {
///         let logits = model.call(x);
///         cx.log("acc", accuracy(&logits, y));
///         cross_entropy(&logits, y).mean()
///     }
///     fn validation_step(&self, model: &Mlp, (x, y): &Self::Batch, cx: &mut StepCx) {
///         cx.log("val_acc", accuracy(&model.call(x), y));
///     }
/// }
/// ```
pub trait LightningModule: Clone + Send + Sync + Sized + 'static {
    /// The parameters, and other tensors that live from step to step.
    type Model: Tree + Clone + 'static;
    /// The batches of the data loader.
    type Batch: Tree + Clone + Send + 'static;

    /// The model before training. Traced and compiled, as the steps are.
    fn init(&self, key: Key) -> Self::Model;

    /// The optimiser; several in a row with [`chain!`](crate::chain), [`manual`](crate::optim::manual) for none.
    fn configure_optimizers(&self) -> impl Optimizer;

    /// The loss of a batch, a float scalar. Traced; it is logged as `loss`.
    fn training_step(&self, model: &Self::Model, batch: &Self::Batch, cx: &mut StepCx) -> Tensor;

    /// Logs scores of a batch; each is averaged over the validation data, weighted by the examples in the batches.
    /// Traced. Without one there is no validation.
    fn validation_step(&self, model: &Self::Model, batch: &Self::Batch, cx: &mut StepCx) {
        let _ = (model, batch, cx);
    }

    /// The whole training step: from the state before to the state after. Traced.
    ///
    /// By default: the gradient of [`LightningModule::training_step`], and the optimiser's updates, applied. Define it
    /// for what does not fit that form (Lightning's manual optimisation): several losses, alternating updates, no
    /// gradient at all. [`default_step`] is the default, to be called by a step that adds to it;
    /// [`StepCx::value_and_grad`] is its gradient, with the logs and keys of the differentiated function. Leaves of the
    /// model that are not trained (running means, say) are set in the state that is returned. The counter `step` and
    /// the `key` are the trainer's; what is returned in them is ignored.
    fn step<O: Optimizer>(
        &self,
        optimizer: &O,
        state: StateOf<Self, O>,
        batch: &Self::Batch,
        cx: &mut StepCx,
    ) -> StateOf<Self, O> {
        default_step(self, optimizer, state, batch, cx)
    }

    /// The parts of the state that callbacks may set ([`HookCx::set_leaf`](crate::HookCx::set_leaf)): names of leaves,
    /// or of parts that hold them, such as `model`, `model.layers.0.weight` or `opt_state.learning_rate`; `*` stands
    /// for any one component. None, unless defined. The step count and the key cannot be set.
    fn changeable(&self) -> &[&str] {
        &[]
    }

    /// Before the first step, on the host: the initial model, or that of the checkpoint.
    fn on_fit_start(&self, model: &Self::Model, run: &mut Run) -> Result<()> {
        let _ = (model, run);
        Ok(())
    }

    /// After each validation, on the host, with the model that was validated: for samples, plots, and scores that need
    /// more than a step.
    fn on_validation_end(&self, model: &Self::Model, run: &mut Run) -> Result<()> {
        let _ = (model, run);
        Ok(())
    }

    /// After the last step, on the host.
    fn on_fit_end(&self, model: &Self::Model, run: &mut Run) -> Result<()> {
        let _ = (model, run);
        Ok(())
    }
}

/// The default [`LightningModule::step`]: the gradient of [`LightningModule::training_step`], and the optimiser's
/// updates, applied.
///
/// ```
/// use fulgurite_jit::{Key, Tensor, Tree};
/// use fulgurite_trainer::{LightningModule, Optimizer, StateOf, StepCx, TrainState, default_step, optim::sgd};
///
/// #[derive(Tree, Clone)]
/// struct Model { weight: Tensor, seen: Tensor } // `seen` counts, and is not trained
///
/// #[derive(Clone)]
/// struct Counting;
///
/// impl LightningModule for Counting {
///     type Model = Model;
///     type Batch = Tensor;
///     fn init(&self, key: Key) -> Model { Model { weight: key.normal(&[3]), seen: Tensor::scalar(0.0f32) } }
///     fn configure_optimizers(&self) -> impl Optimizer { sgd(0.1) }
///     fn training_step(&self, model: &Model, x: &Tensor, _: &mut StepCx) -> Tensor {
///         (x * &model.weight).square().mean()
///     }
///     fn step<O: Optimizer>(
///         &self, optimizer: &O, state: StateOf<Self, O>, x: &Tensor, cx: &mut StepCx,
///     ) -> StateOf<Self, O> {
///         let seen = &state.model.seen + x.shape()[0] as f32;
///         let next = default_step(self, optimizer, state, x, cx);
///         cx.log("seen", &seen);
///         TrainState { model: Model { seen, ..next.model }, ..next }
///     }
/// }
/// ```
#[track_caller]
pub fn default_step<M: LightningModule, O: Optimizer>(
    module: &M,
    optimizer: &O,
    state: StateOf<M, O>,
    batch: &M::Batch,
    cx: &mut StepCx,
) -> StateOf<M, O> {
    let (loss, grads) = cx.value_and_grad(|model, cx| module.training_step(model, batch, cx), &state.model);
    cx.log_loss(loss);
    let (updates, opt_state) = optimizer.update(grads, state.opt_state, &state.model);
    let model = cx.with_set_leaves(&state.model, apply_updates(state.model.clone(), updates));
    TrainState { model, opt_state, step: state.step, key: state.key }
}

/// The context of a step: random keys, the step count, logging.
#[derive(Clone, Debug)]
pub struct StepCx {
    key: Key,
    step: Tensor,
    metrics: Vec<Metric>,
    /// Leaves of the model, and what they are after the step.
    set: Vec<(Tensor, Tensor)>,
}

/// What a leaf of the model, by number, is after the step.
#[derive(Clone, Debug, Tree)]
struct SetLeaf {
    #[tree(static)]
    leaf: usize,
    value: Tensor,
}

impl StepCx {
    /// The context of a step that takes its random keys from `key`, after `step` others (an i32 scalar). The trainer
    /// makes those of its steps; a step without a trainer makes one to call layers that ask for it, and applies
    /// [`StepCx::with_set_leaves`] at its end.
    pub fn new(key: Key, step: Tensor) -> Self {
        StepCx { key, step, metrics: Vec::new(), set: Vec::new() }
    }

    /// Logs a traced scalar under a name. It is a result of the step, and is read when the trainer logs it. A tensor
    /// that is not a scalar, or a name that is logged twice, is an error of the step.
    #[track_caller]
    pub fn log(&mut self, name: impl Into<Arc<str>>, value: impl Borrow<Tensor>) {
        let (name, mut value) = (name.into(), value.borrow().clone());
        let reason = if self.has_logged(&name) {
            format!("`{name}` is logged twice in one step")
        } else if value.rank() > 0 && value.error().is_none() {
            format!("`{name}` is {}, not a scalar: take its mean() or sum()", value.ty())
        } else {
            String::new()
        };
        if !reason.is_empty() {
            let error = Error::op("log", reason, Location::caller());
            value = Tensor::failed(TensorType::scalar(DType::F32), error);
        }
        self.metrics.push(Metric { name, value });
    }

    /// The value of `loss` at `model`, which is a float scalar, and its gradient. What it logs and the keys it takes
    /// from its `cx` are those of this step.
    #[track_caller]
    pub fn value_and_grad<M: Tree>(&mut self, loss: impl Fn(&M, &mut StepCx) -> Tensor, model: &M) -> (Tensor, M) {
        let ((loss, ()), grads) = self.value_and_grad_aux(|model, cx| (loss(model, cx), ()), model);
        (loss, grads)
    }

    /// As [`StepCx::value_and_grad`] for a function with a second result, such as the next running means:
    /// `((loss, aux), gradient)`.
    #[track_caller]
    pub fn value_and_grad_aux<M: Tree, A: Tree>(
        &mut self,
        loss: impl Fn(&M, &mut StepCx) -> (Tensor, A),
        model: &M,
    ) -> ((Tensor, A), M) {
        let here = Location::caller();
        // Metrics and the key of the gradient's trace are results of it, beside the loss.
        let ((loss, (aux, (outputs, set))), grads) = value_and_grad_aux(|model: &M| {
            let mut inner = StepCx { set: Vec::new(), ..self.clone() };
            let (loss, aux) = loss(model, &mut inner);
            let set = inner.numbered(model);
            (checked_loss(loss, here), (aux, (inner.into_outputs(), set)))
        })(model);
        self.set_outputs(outputs);
        let of_model = leaves(model);
        self.set.extend(set.into_iter().map(|SetLeaf { leaf, value }| (of_model[leaf].clone(), value)));
        ((loss, aux), grads)
    }

    /// Sets a leaf of the model that is not trained, such as a running mean: after the step it is `value`, whatever the
    /// optimiser makes of it. `leaf` is the tensor as it is in the model that the step was given; it and `value` have
    /// one type. Of several values the last one counts. A [step](LightningModule::step) other than the default applies
    /// them by [`StepCx::with_set_leaves`].
    #[track_caller]
    pub fn set(&mut self, leaf: &Tensor, value: impl Borrow<Tensor>) {
        let mut value = value.borrow().clone();
        if value.ty() != leaf.ty() && value.error().or(leaf.error()).is_none() {
            let why = format!("a leaf of the type {} cannot become {}", leaf.ty(), value.ty());
            value = Tensor::failed(leaf.ty().clone(), Error::op("set", why, Location::caller()));
        }
        self.set.push((leaf.clone(), value));
    }

    /// The model `after`, in which leaves are what they were [set](StepCx::set) to. `before` is the model that the
    /// step was given, whose leaves these are; a tensor that is none of them is an error of the step.
    #[track_caller]
    pub fn with_set_leaves<M: Tree>(&mut self, before: &M, after: M) -> M {
        if self.set.is_empty() {
            return after;
        }
        let mut values = leaves(&after);
        for SetLeaf { leaf, value } in self.numbered(before) {
            values[leaf] = value;
        }
        self.set.clear();
        unflatten(&after, values)
    }

    /// What has been set, by the numbers of the leaves. What is no leaf becomes an error, as the value of the first.
    #[track_caller]
    fn numbered<M: Tree>(&self, model: &M) -> Vec<SetLeaf> {
        let all = leaves(model);
        let number = |(tensor, value): &(Tensor, Tensor)| {
            let found = all.iter().position(|leaf| is_same_value(leaf, tensor));
            let Some(first) = all.first().filter(|_| found.is_none()) else {
                return found.map(|leaf| SetLeaf { leaf, value: value.clone() });
            };
            let why = format!("{} is no leaf of the model that the step was given", tensor.ty());
            let error = Error::op("set", why, location(value).unwrap_or(Location::caller()));
            Some(SetLeaf { leaf: 0, value: Tensor::failed(first.ty().clone(), error) })
        };
        self.set.iter().filter_map(number).collect()
    }

    /// Logs the loss as the first metric, unless the step has logged that name itself.
    fn log_loss(&mut self, loss: Tensor) {
        if !self.has_logged("loss") {
            self.metrics.insert(0, Metric { name: "loss".into(), value: loss });
        }
    }

    /// Has this name been logged in this step?
    pub fn has_logged(&self, name: &str) -> bool {
        self.metrics.iter().any(|metric| &*metric.name == name)
    }

    /// A random key of this step, a new one at each call.
    ///
    /// It is the `sub` of JAX's idiom `key, sub = split(key)`, with the run's key, which is part of the state.
    #[track_caller]
    pub fn key(&mut self) -> Key {
        let [key, sub] = self.key.split();
        self.key = key;
        sub
    }

    /// The number of steps before this one, an i32 scalar.
    pub fn step(&self) -> &Tensor {
        &self.step
    }

    /// What the step has logged, and the next key.
    pub(crate) fn into_outputs(self) -> (Vec<Metric>, Key) {
        (self.metrics, self.key)
    }

    pub(crate) fn set_outputs(&mut self, (metrics, key): (Vec<Metric>, Key)) {
        (self.metrics, self.key) = (metrics, key);
    }
}

/// The loss, if it is a float scalar; an error at the line that made it if not.
fn checked_loss(loss: Tensor, otherwise: &'static Location<'static>) -> Tensor {
    if loss.error().is_some() || (loss.rank() == 0 && loss.dtype().is_float()) {
        return loss;
    }
    let what = if loss.rank() > 0 { ": take its mean() or sum()" } else { "" };
    let reason = format!("the module's loss: it must give a float scalar, not {}{what}", loss.ty());
    let at = location(&loss).unwrap_or(otherwise);
    Tensor::failed(TensorType::scalar(DType::F32), Error::op("training_step", reason, at))
}
