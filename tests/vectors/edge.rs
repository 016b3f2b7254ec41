//! Ops of the edge vectors: the same primitives at the points that implementations get wrong, and JAX's functions that
//! are a few of ours. JAX's definitions are in `jax-edge/generate.py`.

use crate::dtypes::stored;
use crate::op::Op::{self, Binary, Many, One, Unary};
use crate::op::key;
use fulgurite::linalg::{self, Triangular};
use fulgurite::trainer::optim;
use fulgurite::{DType, Key, Tensor, gelu, grad, hessian, jacfwd, jvp, relu, softmax, sort, vjp, vmap, vmap_out};

pub(crate) const OPS: &[(&str, Op)] = &[
    // ---- element types and integers
    ("lax_sort", Many(|p, x| sort(&x.iter().collect::<Vec<_>>(), p.int("dimension"), p.int("num_keys") as usize))),
    (
        "sort_weighted",
        One(|p, x| {
            let sorted = x[0].sort(-1);
            (if p.flag("descending") { sorted.flip(-1) } else { sorted } * &x[1]).sum()
        }),
    ),
    ("argsort_weighted", Unary(|x| (x.argsort(-1) * x).sum())),
    // ---- linear algebra
    (
        "jnp_cholesky",
        One(|p, x| {
            let factor = linalg::cholesky(&x[0]);
            if p.flag("upper") { factor.t() } else { factor }
        }),
    ),
    (
        "jnp_triangular_solve",
        One(|p, x| {
            let [left_side, lower, transpose_a, unit_diagonal] =
                ["left_side", "lower", "transpose_a", "unit_diagonal"].map(|name| p.flag(name));
            linalg::triangular_solve(&x[0], &x[1], Triangular { left_side, lower, transpose_a, unit_diagonal })
        }),
    ),
    ("prod", One(|p, x| x[0].prod_axes(p.int("axis")))),
    ("prod_hessian", Unary(|x| hessian(|x: &Tensor| x.prod())(x))),
    // ---- norms and products
    ("vecmat", Binary(Tensor::matmul)),
    ("global_norm", Many(|_, x| vec![optim::global_norm(&(x[0].clone(), x[1].clone()))])),
    // ---- random numbers
    (
        "keys_of_seeds",
        One(|p, _| {
            // Without 64-bit types JAX takes the low word of a seed.
            let word = |seed: isize| if p.flag("x64") { seed as u64 } else { u64::from(seed as u32) };
            let keys: Vec<Tensor> =
                p.ints("seeds").into_iter().map(|seed| Key::new(word(seed)).key_data().clone()).collect();
            Tensor::stack(&keys.iter().collect::<Vec<_>>(), 0)
        }),
    ),
    (
        "split_shape",
        One(|p, x| {
            let shape = p.axes("shape");
            key(x).split_n(shape.iter().product()).reshape(&[&shape[..], &[2]].concat())
        }),
    ),
    ("fold_in_each", One(|_, x| vmap(|data: Tensor| key(x).fold_in(&data).key_data().clone(), 0)(x[1].clone()))),
    ("bits_dtype", One(|p, x| key(x).bits_as(&p.axes("shape"), p.dtype("dtype")))),
    (
        "randint_dtype",
        One(|p, x| {
            let (low, high) = (p.int("lo") as i64, p.int("hi") as i64);
            key(x).randint_as(&p.axes("shape"), low, high, p.dtype("dtype"))
        }),
    ),
    (
        "uniform_dtype",
        Many(|p, x| {
            stored(p, vec![key(x).uniform_as(&p.axes("shape"), p.float("lo"), p.float("hi"), p.dtype("dtype"))])
        }),
    ),
    ("normal_dtype", Many(|p, x| stored(p, vec![key(x).normal_as(&p.axes("shape"), p.dtype("dtype"))]))),
    (
        "normal_per_key",
        One(|p, x| vmap(|key: Tensor| Key::wrap_key_data(key).normal(&p.axes("shape")), 0)(x[0].clone())),
    ),
    (
        "rotary_embedding",
        One(|p, x| {
            let (x, position) = (&x[0], &x[1]);
            let half = x.shape()[x.rank() - 1] / 2;
            let power = Tensor::arange(DType::F32, half) / -(half as f64);
            let angle = position.expand_dims(-1) * Tensor::literal(p.float("theta"), DType::F32).pow(power);
            let (cos, sin) = (angle.cos(), angle.sin());
            let [a, b] = &x.split(2, -1)[..] else { panic!("two halves") };
            Tensor::concat(&[&(a * &cos - b * &sin), &(b * &cos + a * &sin)], -1)
        }),
    ),
    // ---- transformations
    (
        "derivative_of_order",
        One(|p, x| {
            let f: fn(&Tensor) -> Tensor = match p.text("fn") {
                "tanh" => Tensor::tanh,
                "sigmoid" => Tensor::sigmoid,
                "exp_sin" => |x| x.sin().exp(),
                "rational" => |x| 1.0 / (x * x + 1.0),
                "power" => |x| x.pow(2.5),
                "integer_power" => |x| x.powi(5),
                "softplus" => Tensor::softplus,
                "gelu" => gelu,
                "sqrt" => |x| (x * x + 1.0).sqrt(),
                other => panic!("no function {other}"),
            };
            vmap(|x: Tensor| derivative(f, p.int("n"), &x), 0)(x[0].clone())
        }),
    ),
    (
        "tie_gradients",
        Many(|p, x| {
            let slopes = |name: &str| {
                let f: fn(&Tensor, &Tensor) -> Tensor = match name {
                    "maximum" | "lax_max" => |x, y| x.maximum(y),
                    "minimum" | "lax_min" => |x, y| x.minimum(y),
                    "where_gt" => |x, y| x.greater(y).select(x, y),
                    "logaddexp" => logaddexp,
                    "arctan2" => |y, x| y.atan2(x),
                    other => panic!("no function {other}"),
                };
                let slope = |pair: (Tensor, Tensor)| grad(|(x, y): &(Tensor, Tensor)| f(x, y))(&pair);
                let (dx, dy) = vmap(slope, 0)((x[0].clone(), x[1].clone()));
                Tensor::stack(&[&dx, &dy], 0)
            };
            p.texts("fns").into_iter().map(slopes).collect()
        }),
    ),
    (
        "kink_derivatives",
        One(|p, x| {
            let slopes = |name: &str| {
                let f: fn(&Tensor) -> Tensor = match name {
                    "abs" => Tensor::abs,
                    "sign" => Tensor::sign,
                    "relu" => relu,
                    "clip" => |x| x.clip(-1.0, 1.0),
                    "clamp" => |x| x.clamp(-1.0, 1.0),
                    "floor" => Tensor::floor,
                    "round" => Tensor::round,
                    "norm" => |x| Tensor::stack(&[x, x], 0).norm(),
                    "mod" => |x| x.remainder(1.0),
                    "max_self" => |x| x.maximum(x),
                    other => panic!("no function {other}"),
                };
                vmap(|x: Tensor| grad(f)(&x), 0)(x[0].clone())
            };
            let rows: Vec<Tensor> = p.texts("fns").into_iter().map(slopes).collect();
            Tensor::stack(&rows.iter().collect::<Vec<_>>(), 0)
        }),
    ),
    ("hessian_of_softmax_entry", Unary(|x| hessian(|x: &Tensor| softmax(x, 0).index_in_dim(1, 0))(x))),
    (
        "hessian_forward_over_reverse_tree",
        Many(|_, x| {
            let f = |(a, b): &(Tensor, Tensor)| ((a * b.index_in_dim(0, 0)).sin() + b.sum().square()).sum();
            let slope = |a: &Tensor, b: &Tensor| grad(f)(&(a.clone(), b.clone()));
            let (a, b) = (&x[0], &x[1]);
            vec![
                jacfwd(|a: &Tensor| slope(a, b).0)(a),
                jacfwd(|b: &Tensor| slope(a, b).0)(b),
                jacfwd(|a: &Tensor| slope(a, b).1)(a),
                jacfwd(|b: &Tensor| slope(a, b).1)(b),
            ]
        }),
    ),
    (
        "jvp_of_vjp",
        Many(|_, x| {
            let f = |y: &Tensor| (y.matmul(&x[2]).sin().matmul(&x[3])).tanh().square().sum();
            let pulled = |y: &Tensor| vjp(f, y).1(&Tensor::scalar(1.0f32));
            let (value, tangent) = jvp(pulled, &x[0], &x[1]);
            vec![value, tangent]
        }),
    ),
    (
        "vmap_out_axes",
        Many(|_, x| {
            let f = |(a, b): (Tensor, Tensor)| (&a + &b, a.sin(), b.sum());
            let (sum, sin, total) = vmap_out(f, (-1, None), (1, -1, 0))((x[0].clone(), x[1].clone()));
            vec![sum, sin, total]
        }),
    ),
    (
        "vmap_nested_axes",
        Binary(|x, y| {
            let dot = |(a, b): (Tensor, Tensor)| a.matmul(&b);
            vmap(|pair: (Tensor, Tensor)| vmap(dot, (None, 1))(pair), (0, None))((x.clone(), y.clone()))
        }),
    ),
    (
        "vmap_of_constant",
        Many(|_, x| {
            let (two, rows) = vmap_out(|row: Tensor| (Tensor::scalar(2.0f32), row), 0, (0, 1))(x[0].clone());
            vec![two, rows]
        }),
    ),
    (
        "vmap_matmul_both",
        Binary(|x, y| vmap_out(|(x, y): (Tensor, Tensor)| x.matmul(&y), (2, 0), 1)((x.clone(), y.clone()))),
    ),
    ("vmap_random", One(|_, x| vmap(|row: Tensor| Key::wrap_key_data(row).normal(&[2]), 0)(key(x).split_n(3)))),
    (
        "stop_gradient_straight_through",
        Unary(|x| grad(|x: &Tensor| (x + (x.round() - x).stop_gradient()).square().sum())(x)),
    ),
    ("grad_stops_at_integers", Unary(|x| grad(|x: &Tensor| (x * x.argmax(0)).sum())(x))),
    (
        "maml_grad",
        One(|_, x| {
            let loss = |w: &Tensor| (x[1].matmul(w).tanh() - &x[2]).square().mean();
            grad(|w: &Tensor| loss(&(w - grad(loss)(w) * 0.1)))(&x[0])
        }),
    ),
];

fn logaddexp(x: &Tensor, y: &Tensor) -> Tensor {
    Tensor::stack(&[x, y], 0).logsumexp(0)
}

/// The derivative of order `n` of `f` at a scalar.
fn derivative(f: fn(&Tensor) -> Tensor, n: isize, x: &Tensor) -> Tensor {
    if n == 0 { f(x) } else { grad(|x: &Tensor| derivative(f, n - 1, x))(x) }
}
