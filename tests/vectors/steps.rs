//! Ops of the vectors that are trainings: one compiled step, called in a loop, as the trainer calls it. And the
//! learning rates of their schedules.

use fulgurite::trainer::optim::schedule::{
    Schedule, cosine_decay, cosine_decay_to, exponential_decay, join_schedules, linear, one_cycle, piecewise_constant,
    polynomial, warmup_cosine,
};
use fulgurite::trainer::optim::{
    Optimizer, adabelief, adadelta, adagrad, adam, adamax, adamw, amsgrad, apply_updates, clip, clip_by_global_norm,
    lamb, lion, multi_steps, radam, rmsprop, sgd, yogi,
};
use fulgurite::{Error, Jit, Key, Result, Tensor, Tree, gelu, value_and_grad, vmap};

use crate::case::Params;
use crate::op::Op::{self, Loop, Unary};

pub(crate) const OPS: &[(&str, Op)] = &[
    ("sgd", Loop(|p, x| descend(sgd(0.05), p, x))),
    ("momentum", Loop(|p, x| descend(sgd(0.05).momentum(0.9), p, x))),
    ("nesterov", Loop(|p, x| descend(sgd(0.05).momentum(0.9).nesterov(true), p, x))),
    ("adam", Loop(|p, x| descend(adam(0.1), p, x))),
    ("adamw", Loop(|p, x| descend(adamw(0.1).weight_decay(1e-2), p, x))),
    ("nadam", Loop(|p, x| descend(adam(0.1).nesterov(true), p, x))),
    ("adabelief", Loop(|p, x| descend(adabelief(0.1), p, x))),
    ("rmsprop", Loop(|p, x| descend(rmsprop(0.05).decay(0.9), p, x))),
    ("adagrad", Loop(|p, x| descend(adagrad(0.3), p, x))),
    ("adamax", Loop(|p, x| descend(adamax(0.1), p, x))),
    ("radam", Loop(|p, x| descend(radam(0.1), p, x))),
    ("lion", Loop(|p, x| descend(lion(0.02), p, x))),
    ("lamb", Loop(|p, x| descend(lamb(0.1), p, x))),
    ("adadelta", Loop(|p, x| descend(adadelta(1.0), p, x))),
    ("amsgrad", Loop(|p, x| descend(amsgrad(0.1), p, x))),
    ("yogi", Loop(|p, x| descend(yogi(0.1), p, x))),
    ("adam_every_3", Loop(|p, x| descend(multi_steps(adam(0.1), 3), p, x))),
    ("clip_global_norm_adam", Loop(|p, x| descend((clip_by_global_norm(1.0), adam(0.1)), p, x))),
    ("clip_value_sgd", Loop(|p, x| descend((clip(0.5), sgd(0.05)), p, x))),
    ("adam_cosine", Loop(|p, x| descend(adam(cosine_decay(0.1, 10)), p, x))),
    ("adam_warmup_cosine", Loop(|p, x| descend(adam(warmup_cosine(0.0, 0.1, 4, 12, 0.01)), p, x))),
    ("sgd_exponential", Loop(|p, x| descend(sgd(exponential_decay(0.1, 5, 0.5)), p, x))),
    ("sgd_piecewise", Loop(|p, x| descend(sgd(piecewise_constant(0.1, [(4, 0.1), (8, 0.5)])), p, x))),
    ("schedule_cosine", Unary(|count| rates(cosine_decay_to(0.1, 0.1, 10), count))),
    ("schedule_linear", Unary(|count| rates(linear(0.1, 0.01, 8), count))),
    ("schedule_exponential", Unary(|count| rates(exponential_decay(0.1, 5, 0.5), count))),
    ("schedule_warmup_cosine", Unary(|count| rates(warmup_cosine(0.0, 0.1, 4, 12, 0.01), count))),
    ("schedule_onecycle", Unary(|count| rates(one_cycle(0.1, 20), count))),
    ("schedule_polynomial", Unary(|count| rates(polynomial(0.1, 0.01, 2, 9), count))),
    (
        "schedule_sgdr",
        Unary(|count| {
            let cycle = warmup_cosine(0.0, 0.1, 2, 8, 0.0);
            rates(join_schedules([cycle.clone(), cycle], [8]), count)
        }),
    ),
    ("bnn_30_steps", Loop(bayesian_net)),
];

/// The schedule at each of these counts.
pub(crate) fn rates(schedule: Schedule, counts: &Tensor) -> Tensor {
    vmap(|count: Tensor| schedule.at(&count), 0)(counts.clone())
}

/// Minimises `sum(a (p - b)²)`; gives the loss before and the parameters after each step.
fn descend<O: Optimizer>(optimizer: O, params: &Params, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let [p, a, b] = inputs else { return Err(Error::new("parameters, a and b")) };
    let mut state = (p.clone(), optimizer.init(p));
    let step =
        Jit::with_borrowed("descend", move |(p, state): (Tensor, O::State<Tensor>), (a, b): (Tensor, Tensor)| {
            let (loss, gradient) = value_and_grad(|p: &Tensor| (&a * (p - &b).square()).sum())(&p);
            let (updates, state) = optimizer.update(gradient, state, &p);
            ((apply_updates(p, updates), state), loss)
        });
    let (mut losses, mut path) = (Vec::new(), Vec::new());
    for _ in 0..params.int("steps") {
        let loss;
        (state, loss) = step.call_with(state, (a.clone(), b.clone()))?;
        losses.push(loss);
        path.push(state.0.clone());
    }
    assert_eq!(step.traces(), 1, "a step is compiled once");
    Ok(vec![stack(&losses), stack(&path)])
}

fn stack(tensors: &[Tensor]) -> Tensor {
    Tensor::stack(&tensors.iter().collect::<Vec<_>>(), 0)
}

/// A layer whose weights and biases are normally distributed, with a standard deviation of `softplus(rho)`.
#[derive(Clone, Tree)]
struct Layer {
    bias_mu: Tensor,
    bias_rho: Tensor,
    weight_mu: Tensor,
    weight_rho: Tensor,
}

impl Layer {
    fn call(&self, x: &Tensor, key: &Key) -> Tensor {
        let [weight_key, bias_key] = key.split();
        let draw = |mu: &Tensor, rho: &Tensor, key: Key| mu + rho.softplus() * key.normal(mu.shape());
        let weight = draw(&self.weight_mu, &self.weight_rho, weight_key);
        let bias = draw(&self.bias_mu, &self.bias_rho, bias_key);
        x.matmul(&weight.t()) + bias
    }

    /// The divergence of the weights' distribution from the standard normal one.
    fn kl(&self) -> Tensor {
        let sigma = self.weight_rho.softplus();
        (-sigma.log() + (sigma.square() + self.weight_mu.square()) / 2.0 - 0.5).sum()
    }
}

/// The net of `generate.py`: JaxLightning's Bayesian regression, 30 steps of Adam. Gives the losses, the first layer's
/// `weight_mu` and the last one's `bias_rho`.
fn bayesian_net(params: &Params, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let [x, y, key, parameters @ ..] = inputs else { return Err(Error::new("x, y, key and parameters")) };
    let layer = |p: &[Tensor; 4]| {
        let [bias_mu, bias_rho, weight_mu, weight_rho] = p.clone();
        Layer { bias_mu, bias_rho, weight_mu, weight_rho }
    };
    let model: Vec<Layer> = parameters.as_chunks().0.iter().map(layer).collect();
    let (draws, examples) = (params.int("mc") as usize, params.float("n"));
    let optimizer = adam(params.float("lr"));

    let net = |(model, x, key): (Vec<Layer>, Tensor, Key)| {
        let keys = key.split_n(model.len());
        model.iter().enumerate().fold(x, |x, (i, layer)| {
            let x = if i > 0 { gelu(&x) } else { x };
            layer.call(&x, &Key::wrap_key_data(keys.index_in_dim(i, 0)))
        })
    };
    let loss = move |model: &Vec<Layer>, x: &Tensor, y: &Tensor, key: &Key| {
        let keys = Key::wrap_key_data(key.split_n(draws));
        let predictions = vmap(net, (None, None, 0))((model.clone(), x.clone(), keys));
        let variance = predictions.std_axes(0).stop_gradient().square();
        let error = (y - predictions.mean_axes(0)).square();
        let divergence = model.iter().map(Layer::kl).reduce(|x, y| x + y).expect("a net has layers");
        (error * 0.5 / variance).sum() * examples + divergence
    };

    let mut state = (model.clone(), optimizer.init(&model), Key::wrap_key_data(key.clone()));
    let step = Jit::with_borrowed("bayesian_net", move |(model, state, key), (x, y): (Tensor, Tensor)| {
        let key: Key = key;
        let [key, draw] = key.split();
        let (loss, gradients) = value_and_grad(|model: &Vec<Layer>| loss(model, &x, &y, &draw))(&model);
        let (updates, state) = optimizer.update(gradients, state, &model);
        ((apply_updates(model, updates), state, key), loss)
    });
    let mut losses = Vec::new();
    for _ in 0..30 {
        let loss;
        (state, loss) = step.call_with(state, (x.clone(), y.clone()))?;
        losses.push(loss);
    }
    assert_eq!(step.traces(), 1, "a step is compiled once");
    let (model, ..) = state;
    Ok(vec![stack(&losses), model[0].weight_mu.clone(), model[model.len() - 1].bias_rho.clone()])
}
