//! Ops of the group `edge_nn`: activations, the softmax family, losses, schedules, initialisers, attention.

use fulgurite::trainer::loss::{self, Ctc};
use fulgurite::trainer::nn::initializers::{self, Distribution, Fan, Initializer};
use fulgurite::trainer::optim::schedule::{self, Interpolation, OneCycle, Schedule};
use fulgurite::{
    Attention, DType, Key, Tensor, celu, dot_product_attention, elu_with, gelu, glu, grad, hard_sigmoid, hard_silu,
    hard_tanh, leaky_relu, log_sigmoid, log_softmax_where, logmeanexp, mish, one_hot, relu, relu6, selu, sigmoid, silu,
    soft_sign, softmax, softmax_where, softplus, sparse_plus, sparse_sigmoid, squareplus, standardize, vmap,
};

use crate::case::Params;
use crate::op::Op::{self, One};
use crate::op::key;
use crate::steps::rates;

pub(crate) const OPS: &[(&str, Op)] = &[
    ("activation", One(|p, x| activation(p, p.text("fn"), &x[0]))),
    (
        "activation_derivatives",
        One(|p, x| {
            let slopes = |name: &str| vmap(|x: Tensor| grad(|x: &Tensor| activation(p, name, x))(&x), 0)(x[0].clone());
            let rows: Vec<Tensor> = p.texts("fns").into_iter().map(slopes).collect();
            Tensor::stack(&rows.iter().collect::<Vec<_>>(), 0)
        }),
    ),
    ("softmax_axes", One(|p, x| softmax(&x[0], &p.ints_of("axis")[..]))),
    ("softmax_where", One(|p, x| softmax_where(&x[0], p.int("axis"), &x[1]))),
    ("log_softmax_where", One(|p, x| log_softmax_where(&x[0], p.int("axis"), &x[1]))),
    ("standardize", One(|p, x| standardize(&x[0], &p.ints_of("axis")[..], p.float("epsilon")))),
    ("glu", One(|p, x| glu(&x[0], p.int("axis")))),
    ("logmeanexp", One(|p, x| logmeanexp(&x[0], p.int("axis")))),
    (
        "gumbel_softmax",
        One(|p, x| {
            let noisy = (&x[1] + key(x).gumbel(x[1].shape())) / p.float("tau");
            let soft = softmax(&noisy, -1);
            if !p.flag("hard") {
                return soft;
            }
            let hard = one_hot(&soft.argmax(-1), soft.shape()[soft.rank() - 1]);
            (hard - &soft).stop_gradient() + soft
        }),
    ),
    ("loss", One(|p, x| loss_of(p, p.text("fn"), x))),
    ("ctc_loss", One(|_, x| Ctc::default().loss(&x[0], &x[1], &x[2], &x[3]))),
    ("ctc_loss_grad", One(|_, x| grad(|logits: &Tensor| loss::ctc_loss(logits, &x[1], &x[2], &x[3]).sum())(&x[0]))),
    ("schedule_of", One(|p, x| rates(schedule_of(p, p.text("fn")), &x[0]))),
    ("initializer", One(|p, x| initializer(p, p.text("fn"), &Key::wrap_key_data(x[0].clone())))),
    (
        "attention",
        One(|p, x| dot_product_attention(&x[0], &x[1], &x[2], &Attention { bias: x.get(3).cloned(), ..how(p) })),
    ),
    (
        "attention_masked",
        One(|p, x| dot_product_attention(&x[0], &x[1], &x[2], &Attention { mask: Some(x[3].clone()), ..how(p) })),
    ),
    (
        "attention_lengths",
        One(|p, x| {
            let (query_seq_lengths, key_value_seq_lengths) = (Some(x[3].clone()), Some(x[4].clone()));
            let how = Attention { query_seq_lengths, key_value_seq_lengths, ..how(p) };
            dot_product_attention(&x[0], &x[1], &x[2], &how)
        }),
    ),
    (
        "dropout_grad",
        One(|p, x| {
            let kept = 1.0 - p.float("rate");
            let loss = |y: &Tensor| key(x).bernoulli(y.shape(), kept).select(y / kept, 0.0).square().sum();
            grad(loss)(&x[1])
        }),
    ),
];

fn activation(p: &Params, name: &str, x: &Tensor) -> Tensor {
    let or = |name: &str, default: f64| if p.has(name) { p.float(name) } else { default };
    match name {
        "relu" => relu(x),
        "relu6" => relu6(x),
        "hard_tanh" => hard_tanh(x),
        "leaky_relu" => leaky_relu(x, or("negative_slope", 0.01)),
        "elu" => elu_with(x, or("alpha", 1.0)),
        "celu" => celu(x, or("alpha", 1.0)),
        "selu" => selu(x),
        "gelu" => gelu(x),
        "silu" => silu(x),
        "softplus" => softplus(x),
        "log_sigmoid" => log_sigmoid(x),
        "sigmoid" => sigmoid(x),
        "mish" => mish(x),
        "hard_sigmoid" => hard_sigmoid(x),
        "hard_silu" => hard_silu(x),
        "soft_sign" => soft_sign(x),
        "squareplus" => squareplus(x, or("b", 4.0)),
        "sparse_plus" => sparse_plus(x),
        "sparse_sigmoid" => sparse_sigmoid(x),
        other => panic!("no activation {other}"),
    }
}

fn loss_of(p: &Params, name: &str, x: &[Tensor]) -> Tensor {
    let epsilon = || if p.has("epsilon") { p.float("epsilon") } else { 0.0 };
    match (name, x) {
        ("squared_error", [x, y]) => loss::squared_error(x, y),
        ("l2_loss", [x]) => loss::l2_loss(x, &x.zeros_like()),
        ("l2_loss", [x, y]) => loss::l2_loss(x, y),
        ("huber_loss", [x, y]) => loss::huber(x, y, p.float("delta")),
        ("log_cosh", [x, y]) => loss::log_cosh(x, y),
        ("hinge_loss", [x, y]) => loss::hinge(x, y),
        ("perceptron_loss", [x, y]) => loss::perceptron(x, y),
        ("kl_divergence", [x, y]) => loss::kl_divergence(x, y, -1),
        ("kl_divergence_with_log_targets", [x, y]) => loss::kl_divergence_with_log_targets(x, y, -1),
        ("convex_kl_divergence", [x, y]) => loss::convex_kl_divergence(x, y, -1),
        ("cosine_similarity", [x, y]) => loss::cosine_similarity(x, y, -1, epsilon()),
        ("cosine_distance", [x, y]) => loss::cosine_distance(x, y, -1, epsilon()),
        ("sigmoid_focal_loss", [x, y]) => {
            loss::sigmoid_focal_loss(x, y, p.has("alpha").then(|| p.float("alpha")), p.float("gamma"))
        }
        ("poly_loss_cross_entropy", [x, y]) => loss::poly_loss_cross_entropy(x, y, -1, epsilon()),
        ("softmax_cross_entropy", [x, y]) => loss::softmax_cross_entropy(x, y, -1),
        ("safe_softmax_cross_entropy", [x, y]) => loss::safe_softmax_cross_entropy(x, y),
        ("softmax_cross_entropy_with_integer_labels", [x, y]) => {
            loss::cross_entropy_along(x, y, if p.has("axis") { p.int("axis") } else { -1 })
        }
        ("sigmoid_binary_cross_entropy", [x, y]) => loss::binary_cross_entropy(x, y),
        ("multiclass_hinge_loss", [x, y]) => loss::multiclass_hinge(x, y),
        ("multiclass_perceptron_loss", [x, y]) => loss::multiclass_perceptron(x, y),
        ("multiclass_sparsemax_loss", [x, y]) => loss::multiclass_sparsemax(x, y),
        ("sparsemax_loss", [x, y]) => loss::sparsemax(x, y),
        ("smooth_labels", [x]) => loss::smooth_labels(x, p.float("alpha")),
        ("triplet_margin_loss", [x, y, z]) => loss::triplet_margin(x, y, z, -1, p.float("margin")),
        ("ranking_softmax_loss", [x, y]) => loss::ranking_softmax(x, y),
        ("ntxent", [x, y]) => loss::ntxent(x, y, p.float("temperature")),
        (other, _) => panic!("no loss {other}"),
    }
}

fn schedule_of(p: &Params, name: &str) -> Schedule {
    let or = |name: &str, default: f64| if p.has(name) { p.float(name) } else { default };
    let steps = |name: &str| p.int(name) as usize;
    let factors = || {
        let factors = p.json("boundaries_and_scales").as_object().expect("an object");
        let factor = |(step, factor): (&String, &serde_json::Value)| {
            (step.parse().expect("a step"), factor.as_f64().expect("a factor"))
        };
        factors.iter().map(factor).collect::<Vec<(usize, f64)>>()
    };
    let exponential = |from: f64| {
        let (every, rate) = (steps("transition_steps"), p.float("decay_rate"));
        let staircase = p.has("staircase") && p.flag("staircase");
        let decay = match staircase {
            true => schedule::exponential_staircase(from, every, rate),
            false => schedule::exponential_decay(from, every, rate),
        };
        let decay = if p.has("transition_begin") { decay.after(steps("transition_begin")) } else { decay };
        if p.has("end_value") { decay.at_least(p.float("end_value")) } else { decay }
    };
    let from = || p.float("init_value");
    let cycle =
        || OneCycle { pct_start: or("pct_start", 0.3), pct_final: or("pct_final", 0.85), ..OneCycle::default() };
    match name {
        "join_schedules" => {
            let parts =
                [schedule::linear(0.0, 1.0, 4), schedule::exponential_decay(1.0, 2, 0.5), schedule::constant(0.25)];
            let [first, second] = p.axes("boundaries")[..] else { panic!("two boundaries") };
            schedule::join_schedules(parts, [first, second])
        }
        "cosine_decay_schedule" => {
            schedule::cosine_decay_power(from(), or("alpha", 0.0), steps("decay_steps"), or("exponent", 1.0))
        }
        "exponential_decay" => exponential(from()),
        "polynomial_schedule" => {
            schedule::polynomial(from(), p.float("end_value"), p.float("power"), steps("transition_steps"))
                .after(steps("transition_begin"))
        }
        "linear_onecycle_schedule" => cycle().linear(p.float("peak_value"), steps("transition_steps")),
        "cosine_onecycle_schedule" => cycle().cosine(p.float("peak_value"), steps("transition_steps")),
        "warmup_constant_schedule" => schedule::warmup_constant(from(), p.float("peak_value"), steps("warmup_steps")),
        "warmup_exponential_decay_schedule" => {
            let peak = p.float("peak_value");
            schedule::warmup(from(), peak, steps("warmup_steps"), exponential(peak))
        }
        "warmup_cosine_decay_schedule" => schedule::warmup_cosine_power(
            from(),
            p.float("peak_value"),
            steps("warmup_steps"),
            steps("decay_steps"),
            or("end_value", 0.0),
            or("exponent", 1.0),
        ),
        "piecewise_interpolate_schedule" => {
            let how = match p.text("interpolate_type") {
                "linear" => Interpolation::Linear,
                "cosine" => Interpolation::Cosine,
                other => panic!("no interpolation {other}"),
            };
            schedule::piecewise_interpolate(how, from(), factors())
        }
        "piecewise_constant_schedule" => schedule::piecewise_constant(from(), factors()),
        other => panic!("no schedule {other}"),
    }
}

fn initializer(p: &Params, name: &str, key: &Key) -> Tensor {
    let or = |name: &str, default: f64| if p.has(name) { p.float(name) } else { default };
    let recipe: Initializer = match name {
        "zeros" => initializers::zeros(),
        "ones" => initializers::ones(),
        "constant" => initializers::constant(p.float("value")),
        "uniform" => initializers::uniform(or("scale", 0.01)),
        "normal" => initializers::normal(or("stddev", 0.01)),
        "truncated_normal" => initializers::truncated_normal(or("stddev", 0.01), or("lower", -2.0), or("upper", 2.0)),
        "glorot_uniform" => initializers::glorot_uniform(),
        "glorot_normal" => initializers::glorot_normal(),
        "lecun_uniform" => initializers::lecun_uniform(),
        "lecun_normal" => initializers::lecun_normal(),
        "he_uniform" => initializers::he_uniform(),
        "he_normal" => initializers::he_normal(),
        "orthogonal" => initializers::orthogonal(or("scale", 1.0)).out_axis([or("column_axis", -1.0) as isize]),
        "delta_orthogonal" => initializers::delta_orthogonal(or("scale", 1.0)),
        "variance_scaling" => {
            let mode = match p.text("mode") {
                "fan_in" => Fan::In,
                "fan_out" => Fan::Out,
                "fan_avg" => Fan::Avg,
                other => panic!("no mode {other}"),
            };
            let distribution = match p.text("distribution") {
                "truncated_normal" => Distribution::TruncatedNormal,
                "normal" => Distribution::Normal,
                _ => Distribution::Uniform,
            };
            initializers::variance_scaling(p.float("scale"), mode, distribution)
        }
        other => panic!("no initialiser {other}"),
    };
    let recipe = if p.has("in_axis") { recipe.in_axis(p.ints_of("in_axis")) } else { recipe };
    let recipe = if p.has("out_axis") { recipe.out_axis(p.ints_of("out_axis")) } else { recipe };
    let recipe = if p.has("batch_axis") { recipe.batch_axis(p.ints_of("batch_axis")) } else { recipe };
    recipe.init_as(key, &p.axes("shape"), DType::F32)
}

/// How the case's attention scales and hides.
fn how(p: &Params) -> Attention {
    let window = (!p.is_none("local_window_size")).then(|| {
        let [before, after] = p.axes("local_window_size")[..] else { panic!("two sides") };
        (before, after)
    });
    Attention {
        scale: (!p.is_none("scale")).then(|| p.float("scale")),
        is_causal: p.flag("is_causal"),
        local_window_size: window,
        ..Attention::default()
    }
}
