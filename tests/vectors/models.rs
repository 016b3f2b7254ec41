//! Ops of the vectors that are small models: layers, losses, and transformations of functions.

use fulgurite::trainer::{loss, nn};
use fulgurite::{DType, Tensor, grad, hessian, jacfwd, jacrev, jvp, leaves, softmax, vmap};

use crate::op::Op::{self, Binary, Many, One, Unary};
use crate::op::key;

pub(crate) const OPS: &[(&str, Op)] = &[
    // ---- layers and losses
    (
        "layer_norm",
        One(|p, x| {
            let (weight, bias) = (Some(x[1].clone()), Some(x[2].clone()));
            nn::LayerNorm { weight, bias, shape: x[1].shape().to_vec(), eps: p.float("eps") }.call(&x[0])
        }),
    ),
    (
        "rms_norm",
        One(|p, x| {
            let (weight, shape) = (Some(x[1].clone()), x[1].shape().to_vec());
            nn::RmsNorm { weight, bias: None, shape, eps: p.float("eps") }.call(&x[0])
        }),
    ),
    (
        "batch_norm_train",
        One(|p, x| {
            let channels = |w: &Tensor| w.reshape(&[w.elements(), 1, 1]);
            normalised(&x[0], &[0, 2, 3], p.float("eps")) * channels(&x[1]) + channels(&x[2])
        }),
    ),
    (
        "group_norm",
        One(|p, x| {
            let groups = p.int("groups") as usize;
            nn::GroupNorm { weight: None, bias: None, groups, eps: p.float("eps") }.call(&x[0])
        }),
    ),
    ("causal_attention", One(|_, x| attention(&x[0], &x[1], &x[2]))),
    ("cross_entropy", Binary(|logits, labels| loss::cross_entropy(logits, labels).mean())),
    ("binary_cross_entropy", Binary(|logits, targets| loss::binary_cross_entropy(logits, targets).mean())),
    ("huber", One(|p, x| loss::huber(&x[0], &x[1], p.float("delta")).mean())),
    ("linear_init", Many(|p, x| leaves(&nn::Linear::new(p.int("inp") as usize, p.int("out") as usize, key(x))))),
    ("lstm_cell", Many(|_, x| lstm(x))),
    ("gru_cell", One(|_, x| gru(x))),
    // ---- transformations
    ("grad_rosenbrock", Unary(|x| grad(rosenbrock)(x))),
    ("hessian_rosenbrock", Unary(|x| hessian(rosenbrock)(x))),
    ("hvp_rosenbrock", Binary(|x, v| jvp(grad(rosenbrock), x, v).1)),
    ("jacfwd_mlp", One(|_, x| jacfwd(|y: &Tensor| mlp(y, &x[1], &x[2]))(&x[0]))),
    ("jacrev_mlp", One(|_, x| jacrev(|y: &Tensor| mlp(y, &x[1], &x[2]))(&x[0]))),
    (
        "per_example_grads",
        One(|_, x| {
            let gradient = |(w, x, v): (Tensor, Tensor, Tensor)| grad(|w: &Tensor| mlp(&x, w, &v).sum())(&w);
            vmap(gradient, (None, 0, None))((x[1].clone(), x[0].clone(), x[2].clone()))
        }),
    ),
    (
        "laplacian_mlp",
        One(|_, x| {
            let curvature = hessian(|y: &Tensor| mlp(y, &x[1], &x[2]).sum())(&x[0]);
            let index = |axis| Tensor::iota(DType::I32, curvature.shape(), axis);
            index(0).equal(index(1)).select(&curvature, 0.0).sum()
        }),
    ),
    (
        "fourth_derivative",
        Unary(|x| {
            let f = |x: &Tensor| x.sin() * (-x / 3.0).exp();
            let fourth = grad(grad(grad(grad(f))));
            vmap(|x: Tensor| fourth(&x), 0)(x.clone())
        }),
    ),
    ("stop_gradient", Unary(|x| grad(|x: &Tensor| (x.sin().stop_gradient() * x).sum())(x))),
];

/// Mean 0 and variance 1 over axes.
fn normalised(x: &Tensor, axes: &[isize], eps: f64) -> Tensor {
    (x - x.mean_keep(axes)) * (x.var_keep(axes) + eps).rsqrt()
}

fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let steps = q.shape()[q.rank() - 2];
    let scores = q.matmul(&k.t()) / (q.shape()[q.rank() - 1] as f64).sqrt();
    let seen = Tensor::full(&[steps, steps], 1.0, DType::Bool).tril();
    softmax(&seen.select(&scores, -1e9), -1).matmul(v)
}

/// `eqx.nn.LSTMCell`: input, hidden state, cell state, and the three weights; gives hidden and cell state.
fn lstm(x: &[Tensor]) -> Vec<Tensor> {
    let [x, h, c, weight_ih, weight_hh, bias] = x else { panic!("six inputs") };
    let [weight_ih, weight_hh, bias] = [weight_ih, weight_hh, bias].map(Tensor::clone);
    let (h, c) = nn::LstmCell { weight_ih, weight_hh, bias }.call(x, (h, c));
    vec![h, c]
}

/// `eqx.nn.GRUCell`: input, hidden state, and the four weights.
fn gru(x: &[Tensor]) -> Tensor {
    let [x, h, weight_ih, weight_hh, bias, bias_n] = x else { panic!("six inputs") };
    let [weight_ih, weight_hh, bias, bias_n] = [weight_ih, weight_hh, bias, bias_n].map(Tensor::clone);
    nn::GruCell { weight_ih, weight_hh, bias, bias_n }.call(x, h)
}

fn mlp(x: &Tensor, w: &Tensor, v: &Tensor) -> Tensor {
    x.matmul(w).tanh().matmul(v).tanh()
}

fn rosenbrock(x: &Tensor) -> Tensor {
    let n = x.elements();
    let (first, next) = (x.slice_in_dim(0, 0..n - 1), x.slice_in_dim(0, 1..n));
    ((next - first.square()).square() * 100.0 + (1.0 - first).square()).sum()
}
