//! Ops of the edge vectors: the same primitives at the points that implementations get wrong, and JAX's functions that
//! are a few of ours. JAX's definitions are in `jax-edge/generate.py`.

use fulgurite::linalg::{self, Triangular};
use fulgurite::trainer::{loss, optim};
use fulgurite::{
    DType, Key, Tensor, einsum, elu, gelu, gelu_exact, grad, hessian, jacfwd, jvp, leaky_relu, mish, one_hot, relu,
    relu6, silu, softmax, sort, vjp, vmap, vmap_out,
};
use serde_json::Value;

use crate::case::Params;
use crate::op::Op::{self, Binary, Many, One, Unary};
use crate::op::key;
use crate::steps::rates;

pub(crate) const OPS: &[(&str, Op)] = &[
    // ---- element types and integers
    ("jnp_sort", One(|p, x| descending(p, x[0].sort(p.int("axis"))))),
    (
        "jnp_argsort",
        One(|p, x| {
            // Equal elements stay in order: reversed before and after.
            let axis = p.int("axis");
            if !p.has("descending") {
                return x[0].argsort(axis);
            }
            let last = (x[0].shape()[axis as usize] - 1) as i32;
            Tensor::scalar(last) - x[0].flip(axis).argsort(axis).flip(axis)
        }),
    ),
    ("lax_sort", Many(|p, x| sort(&x.iter().collect::<Vec<_>>(), p.int("dimension"), p.int("num_keys") as usize))),
    (
        "lexsort",
        One(|p, x| {
            // The last key is the first.
            let positions = Tensor::iota(DType::I32, x[0].shape(), x[0].rank() - 1);
            let keys: Vec<&Tensor> = x.iter().rev().chain([&positions]).collect();
            sort(&keys, p.int("axis"), x.len()).pop().expect("the positions")
        }),
    ),
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
    ("convert_to", One(|p, x| x[0].convert(p.dtype("to")))),
    ("bitcast_to", One(|p, x| x[0].bitcast(p.dtype("to")))),
    ("wrapping", Many(|_, x| vec![&x[0] + &x[1], &x[0] - &x[1], &x[0] * &x[1], -&x[0], x[0].abs()])),
    ("lax_div", Binary(|x, y| x / y)),
    ("lax_rem", Binary(|x, y| x % y)),
    ("floor_divide", Binary(|x, y| x.floor_divide(y))),
    ("remainder", Binary(|x, y| x.remainder(y))),
    ("promote_divide", Unary(|x| x.true_divide(x + x))),
    (
        "promote_python_scalars",
        Many(|p, x| {
            assert_eq!(p.dtype("dtype"), x[0].dtype());
            let scalars = p.json("scalars").as_array().expect("a list").iter();
            let sum = |scalar: &Value| match scalar {
                Value::Bool(scalar) => &x[0] + Tensor::scalar(*scalar),
                scalar => match scalar.as_i64() {
                    Some(scalar) => &x[0] + scalar as i32,
                    None => &x[0] + scalar.as_f64().expect("a number"),
                },
            };
            scalars.map(sum).collect()
        }),
    ),
    ("integer_power", One(|p, x| x[0].powi(p.int("n") as i32))),
    ("bitwise", Many(|_, x| vec![x[0].and(&x[1]), x[0].or(&x[1]), x[0].xor(&x[1]), x[0].logical_not()])),
    (
        "shifts",
        Many(|_, x| {
            let (x, by) = (&x[0], &x[1]);
            vec![x.shift_left(by), x.shift_right_logical(by), x.shift_right_arithmetic(by)]
        }),
    ),
    (
        "compare_all",
        Many(|_, x| {
            let (x, y) = (&x[0], &x[1]);
            let tests = [x.less(y), x.less_equal(y), x.equal(y), x.not_equal(y)];
            [&tests[..], &[x.maximum(y), x.minimum(y), x.sign()]].concat()
        }),
    ),
    (
        "nan_to_num",
        Unary(|x| {
            let number = x.not_equal(x).select(0.0, x);
            let number = number.equal(f64::INFINITY).select(f32::MAX, &number);
            number.equal(f64::NEG_INFINITY).select(f32::MIN, &number)
        }),
    ),
    // ---- shapes and static indices
    ("getitem_slices", One(|p, x| sliced(&x[0], p.json("index")))),
    ("where_mask", One(|_, x| x[0].select(&x[1], &x[2]))),
    ("jnp_roll", One(rolled)),
    ("tile", One(|p, x| tiled(&x[0], &p.axes("reps")))),
    (
        "one_hot_of",
        One(|p, x| {
            let rows = one_hot(&x[0], p.int("classes") as usize);
            let last = rows.rank() as isize - 1;
            rows.move_axis(last as usize, (p.int("axis") + last + 1).rem_euclid(last + 1) as usize)
        }),
    ),
    (
        "at_static_mask_add",
        One(|p, x| {
            let rows = p.json("mask").as_array().expect("rows").iter().flat_map(|row| row.as_array().expect("a row"));
            let mask = rows.map(|flag| flag.as_bool().expect("a truth value")).collect();
            Tensor::from_vec(x[0].shape(), mask).expect("a mask of x").select(&x[0] + &x[1], &x[0])
        }),
    ),
    (
        "meshgrid",
        Many(|_, x| {
            // Indexing `xy`: the first two axes change places.
            let axis = |i: usize| [1, 0].get(i).copied().unwrap_or(i);
            let mut shape = vec![0; x.len()];
            x.iter().enumerate().for_each(|(i, x)| shape[axis(i)] = x.elements());
            x.iter().enumerate().map(|(i, x)| x.broadcast_in_dim(&shape, &[axis(i)])).collect()
        }),
    ),
    (
        "block",
        One(|_, x| Tensor::concat(&[&Tensor::concat(&[&x[0], &x[1]], 1), &Tensor::concat(&[&x[2], &x[3]], 1)], 0)),
    ),
    ("max_of", One(|p, x| if p.is_none("axis") { x[0].max() } else { x[0].max_axes(p.int("axis")) })),
    ("argmax_of", One(|p, x| x[0].argmax(p.int("axis")))),
    ("prod", One(|p, x| x[0].prod_axes(p.int("axis")))),
    ("prod_hessian", Unary(|x| hessian(|x: &Tensor| x.prod())(x))),
    (
        "diff",
        One(|p, x| {
            (0..p.int("n")).fold(x[0].clone(), |x, _| {
                let axis = p.int("axis").rem_euclid(x.rank() as isize);
                let n = x.shape()[axis as usize];
                x.slice_in_dim(axis, 1..n) - x.slice_in_dim(axis, 0..n - 1)
            })
        }),
    ),
    // ---- norms and products
    ("vecmat", Binary(Tensor::matmul)),
    ("global_norm", Many(|_, x| vec![optim::global_norm(&(x[0].clone(), x[1].clone()))])),
    ("vector_norm", One(vector_norm)),
    (
        "safe_norm",
        One(|p, x| {
            let small = x[0].norm().less_equal(p.float("min_norm"));
            small.select(p.float("min_norm"), small.select(1.0, &x[0]).norm())
        }),
    ),
    (
        "kron",
        Binary(|x, y| {
            let shape: Vec<usize> = x.shape().iter().zip(y.shape()).map(|(x, y)| x * y).collect();
            einsum("ij,kl->ikjl", &[x, y]).reshape(&shape)
        }),
    ),
    (
        "trace",
        One(|p, x| {
            let index = |axis| Tensor::iota(DType::I32, x[0].shape(), axis);
            (index(0) + p.int("offset") as i32).equal(index(1)).select(&x[0], 0.0).sum()
        }),
    ),
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
    ("bits_dtype", One(|p, x| of_dtype(p, DType::U32, key(x).bits(&p.axes("shape"))))),
    (
        "randint_dtype",
        One(|p, x| {
            let (low, high) = (p.int("lo") as i64, p.int("hi") as i64);
            key(x).randint_as(&p.axes("shape"), low, high, p.dtype("dtype"))
        }),
    ),
    ("uniform_dtype", One(|p, x| key(x).uniform_as(&p.axes("shape"), p.float("lo"), p.float("hi"), p.dtype("dtype")))),
    ("normal_dtype", One(|p, x| key(x).normal_as(&p.axes("shape"), p.dtype("dtype")))),
    (
        "gumbel_of",
        One(|p, x| {
            assert_eq!(p.text("mode"), "low", "the only mode");
            key(x).gumbel(&p.axes("shape"))
        }),
    ),
    (
        "normal_per_key",
        One(|p, x| vmap(|key: Tensor| Key::wrap_key_data(key).normal(&p.axes("shape")), 0)(x[0].clone())),
    ),
    // ---- activations, losses, attention
    ("activation", One(|p, x| activation(p.text("fn"))(&x[0]))),
    ("softmax_axes", One(|p, x| softmax(&x[0], p.int("axis")))),
    (
        "softmax_where",
        One(|p, x| {
            let (x, mask, axis) = (&x[0], &x[1], p.int("axis"));
            let masked = mask.select(x, f64::NEG_INFINITY);
            let exp = mask.select((x - masked.max_keep(axis)).exp(), 0.0);
            mask.select(&exp / exp.sum_keep(axis), 0.0)
        }),
    ),
    (
        "glu",
        One(|p, x| {
            let halves = x[0].split(2, p.int("axis"));
            &halves[0] * halves[1].sigmoid()
        }),
    ),
    (
        "loss",
        One(|p, x| match p.text("fn") {
            "log_cosh" => {
                let error = &x[0] - &x[1];
                &error + (&error * -2.0).softplus() - 2f64.ln()
            }
            "sigmoid_binary_cross_entropy" => loss::binary_cross_entropy(&x[0], &x[1]),
            other => panic!("no loss {other}"),
        }),
    ),
    (
        "schedule_of",
        One(|p, x| {
            assert_eq!(p.text("fn"), "join_schedules", "no such schedule");
            let parts = [
                optim::schedule::linear(0.0, 1.0, 4),
                optim::schedule::exponential_decay(1.0, 2, 0.5),
                optim::schedule::constant(0.25),
            ];
            let [first, second] = p.axes("boundaries")[..] else { panic!("two boundaries") };
            rates(optim::schedule::join_schedules(parts, [first, second]), &x[0])
        }),
    ),
    ("attention", One(|p, x| attention(p, x, None))),
    ("attention_masked", One(|p, x| attention(p, x, Some(x[3].clone())))),
    (
        "attention_lengths",
        One(|p, x| {
            // f32[batch, heads, queries, keys]; what is behind the last query is 0.
            let (batch, queries, keys) = (x[0].shape()[0], x[0].shape()[1], x[1].shape()[1]);
            let shape = [batch, 1, queries, keys];
            let seen = |axis, lengths: &Tensor| {
                Tensor::iota(DType::I32, &shape, axis).less(lengths.reshape(&[batch, 1, 1, 1]))
            };
            let result = attention(p, x, Some(seen(2, &x[3]).and(seen(3, &x[4]))));
            let time = Tensor::iota(DType::I32, result.shape(), 1);
            time.less(x[3].reshape(&[batch, 1, 1, 1])).select(&result, 0.0)
        }),
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
                    "clip" => |x| x.maximum(-1.0).minimum(1.0),
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
        "grad_of_inner_minimum",
        Unary(|x| {
            let inner = |x: &Tensor| {
                let energy = |y: &Tensor| ((y - x).square() + y.powi(4) * 0.1).sum();
                (0..8).fold(x.zeros_like(), |y, _| &y - grad(energy)(&y) * 0.2)
            };
            grad(|x: &Tensor| inner(x).square().sum())(x)
        }),
    ),
    (
        "maml_grad",
        One(|_, x| {
            let loss = |w: &Tensor| (x[1].matmul(w).tanh() - &x[2]).square().mean();
            grad(|w: &Tensor| loss(&(w - grad(loss)(w) * 0.1)))(&x[0])
        }),
    ),
];

/// In descending order, if the case says so.
fn descending(p: &Params, sorted: Tensor) -> Tensor {
    if p.has("descending") && p.flag("descending") { sorted.flip(p.int("axis")) } else { sorted }
}

fn logaddexp(x: &Tensor, y: &Tensor) -> Tensor {
    Tensor::stack(&[x, y], 0).logsumexp(0)
}

/// The derivative of order `n` of `f` at a scalar.
fn derivative(f: fn(&Tensor) -> Tensor, n: isize, x: &Tensor) -> Tensor {
    if n == 0 { f(x) } else { grad(|x: &Tensor| derivative(f, n - 1, x))(x) }
}

fn activation(name: &str) -> fn(&Tensor) -> Tensor {
    match name {
        "relu" => relu,
        "relu6" => relu6,
        "elu" => elu,
        "leaky_relu" => |x| leaky_relu(x, 0.01),
        "gelu" => gelu_exact,
        "silu" => silu,
        "softplus" => Tensor::softplus,
        "mish" => mish,
        other => panic!("no activation {other}"),
    }
}

/// The tensor, if the case's `dtype` is this one, which is the only one that there is.
fn of_dtype(params: &Params, dtype: DType, x: Tensor) -> Tensor {
    assert_eq!(params.dtype("dtype"), dtype, "no other type");
    x
}

/// NumPy's indexing by integers and slices, which may go backwards.
fn sliced(x: &Tensor, index: &Value) -> Tensor {
    let parts = index.as_array().expect("an index for every axis");
    // From the last axis on: an integer removes its axis.
    parts.iter().enumerate().rev().fold(x.clone(), |x, (axis, part)| {
        let n = x.shape()[axis] as i64;
        let wrap = |i: i64| if i < 0 { i + n } else { i };
        let Some(slice) = part.as_array() else {
            let at = wrap(part.as_i64().expect("an integer")) as usize;
            return x.slice_in_dim(axis as isize, at..at + 1).squeeze(axis as isize);
        };
        let [start, stop, step] = [0, 1, 2].map(|i| slice[i].as_i64());
        let step = step.unwrap_or(1);
        // The ends of the axis that a slice of this direction begins at and stops before.
        let (first, end) = if step > 0 { (0, n) } else { (n - 1, -1) };
        let limit = |i: i64| wrap(i).clamp(first.min(end), first.max(end));
        let (start, stop) = (start.map_or(first, limit), stop.map_or(end, limit));
        let count = ((stop - start + step - step.signum()) / step).max(0);
        let (low, high) = match count {
            0 => (0, 0),
            _ => (start.min(start + (count - 1) * step), start.max(start + (count - 1) * step) + 1),
        };
        let mut range = (vec![0; x.rank()], x.shape().to_vec(), vec![1; x.rank()]);
        (range.0[axis], range.1[axis], range.2[axis]) = (low as usize, high as usize, step.unsigned_abs() as usize);
        let forward = x.slice(&range.0, &range.1, &range.2);
        if step < 0 { forward.rev(&[axis]) } else { forward }
    })
}

/// `jnp.roll` by several axes, or of all elements in order.
fn rolled(params: &Params, x: &[Tensor]) -> Tensor {
    if params.is_none("axis") {
        let flat = x[0].reshape(&[x[0].elements()]);
        return flat.roll(params.int("shift"), 0).reshape(x[0].shape());
    }
    let shifts = params.ints("shift").into_iter().zip(params.ints("axis"));
    shifts.fold(x[0].clone(), |x, (shift, axis)| x.roll(shift, axis))
}

/// `jnp.tile`: each axis so many times, with axes before the first where there are more numbers than axes.
fn tiled(x: &Tensor, times: &[usize]) -> Tensor {
    let rank = x.rank().max(times.len());
    let fill = |list: &[usize]| [vec![1; rank - list.len()], list.to_vec()].concat();
    let (shape, times) = (fill(x.shape()), fill(times));
    // An axis for the copies before each axis.
    let pairs: Vec<usize> = times.iter().zip(&shape).flat_map(|(&times, &n)| [times, n]).collect();
    let places: Vec<usize> = (0..rank).map(|axis| 2 * axis + 1).collect();
    let all: Vec<usize> = times.iter().zip(&shape).map(|(times, n)| times * n).collect();
    x.reshape(&shape).broadcast_in_dim(&pairs, &places).reshape(&all)
}

/// `jnp.linalg.norm` of vectors along an axis.
fn vector_norm(params: &Params, x: &[Tensor]) -> Tensor {
    let (x, axis) = (&x[0], params.int("axis"));
    let norm = match params.json("ord") {
        Value::Null => x.square().sum_keep(axis).sqrt(),
        Value::Number(p) => {
            let p = p.as_f64().expect("a number");
            x.abs().pow(p).sum_keep(axis).pow(1.0 / p)
        }
        // The maximum's initial value is 0, with which zeros share its derivative.
        _ if params.text("ord") == "inf" => x.abs().max_keep(axis).maximum(0.0),
        other => panic!("no norm {other}"),
    };
    if params.flag("keepdims") { norm } else { norm.squeeze(axis) }
}

/// `jax.nn.dot_product_attention`: f32\[batch, time, heads, size\], with as many or fewer heads of keys and values.
fn attention(params: &Params, x: &[Tensor], mask: Option<Tensor>) -> Tensor {
    let [q, k, v, ..] = x else { panic!("queries, keys and values") };
    let ([batch, queries, heads, size], [_, keys, groups, _]) = (q.shape(), k.shape()) else { panic!("four axes") };
    let scale = if params.is_none("scale") { (*size as f64).sqrt().recip() } else { params.float("scale") };
    let grouped = q.reshape(&[*batch, *queries, *groups, heads / groups, *size]);
    let scores = einsum("btkgh,bskh->bkgts", &[&grouped, k]).reshape(&[*batch, *heads, *queries, *keys]) * scale;
    let place = |axis: usize| Tensor::iota(DType::I32, &[*queries, *keys], axis);
    let mut masks: Vec<Tensor> = mask.into_iter().collect();
    if params.flag("is_causal") {
        masks.push(place(0).greater_equal(place(1)));
    }
    if !params.is_none("local_window_size") {
        let [left, right] = params.ints("local_window_size")[..] else { panic!("two sides") };
        masks.push(place(0).less_equal(place(1) + left as i32));
        masks.push(place(0).greater_equal(place(1) - right as i32));
    }
    // Masked scores are finite: a row without any is their uniform mean.
    let hidden = -0.7 * f64::from(f32::MAX);
    let scores = masks.into_iter().fold(scores, |scores, mask| mask.select(&scores, hidden));
    let weights = softmax(&scores, -1).reshape(&[*batch, *groups, heads / groups, *queries, *keys]);
    einsum("bkgts,bskh->btkgh", &[&weights, v]).reshape(q.shape())
}
