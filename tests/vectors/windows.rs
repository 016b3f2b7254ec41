//! Ops of the vectors along an axis and over windows: running totals, pools, images of another size. JAX's definitions
//! are in `jax/generate.py` and `jax-edge/generate.py`.

use fulgurite::autodiff::linear_transpose;
use fulgurite::compiler::graph::CumulativeOp;
use fulgurite::trainer::nn;
use fulgurite::{
    DType, ResizeMethod, Tensor, Windows, associative_scan, avg_pool, grad, image_resize, linearize, reduce_window_max,
    reduce_window_min, reduce_window_prod, reduce_window_sum, scale_and_translate,
};

use crate::case::Params;
use crate::op::Op::{self, Binary, Many, One, Unary};

pub(crate) const OPS: &[(&str, Op)] = &[
    ("cumsum", One(|p, x| running(CumulativeOp::Sum, p, x))),
    ("cumprod", One(|p, x| running(CumulativeOp::Prod, p, x))),
    ("cummax", One(|p, x| running(CumulativeOp::Max, p, x))),
    ("cummin", One(|p, x| running(CumulativeOp::Min, p, x))),
    ("cumlogsumexp", One(|p, x| running(CumulativeOp::LogSumExp, p, x))),
    (
        "jnp_cumsum",
        One(|p, x| match p.is_none("axis") {
            true => x[0].reshape(&[x[0].elements()]).cumsum(0),
            false => x[0].cumsum(p.int("axis")),
        }),
    ),
    ("jnp_cumprod", One(|p, x| x[0].cumprod(p.int("axis")))),
    ("nancumsum", One(|p, x| x[0].nancumsum(p.int("axis")))),
    ("nancumprod", One(|p, x| x[0].nancumprod(p.int("axis")))),
    ("cumulative_sum", One(|p, x| x[0].cumulative_sum(p.int("axis"), p.flag("include_initial")))),
    (
        "cumsum_second_derivative",
        Unary(|x| {
            let slope = grad(|x: &Tensor| x.cumsum(0).powi(3).sum());
            grad(move |x: &Tensor| slope(x).square().sum())(x)
        }),
    ),
    ("matrix_products", One(|p, x| associative_scan(Tensor::matmul, &x[0], p.flag("reverse"), 0))),
    (
        "affine_scan",
        Many(|p, x| {
            let after = |p: &(Tensor, Tensor), q: &(Tensor, Tensor)| (&p.0 * &q.0, &q.0 * &p.1 + &q.1);
            let (a, b) = associative_scan(after, &(x[0].clone(), x[1].clone()), false, p.int("axis"));
            vec![a, b]
        }),
    ),
    (
        "scan_max_by_value",
        Many(|_, x| {
            let larger =
                |p: &(Tensor, Tensor), q: &(Tensor, Tensor)| (p.0.maximum(&q.0), q.0.greater(&p.0).select(&q.1, &p.1));
            let (values, indices) = associative_scan(larger, &(x[0].clone(), x[1].clone()), false, 0);
            vec![values, indices]
        }),
    ),
    (
        "associative_sum_of_squares",
        One(|p, x| {
            let norm = |a: &Tensor, b: &Tensor| (a * a + b * b).sqrt();
            associative_scan(norm, &x[0], p.flag("reverse"), p.int("axis"))
        }),
    ),
    (
        "linearize_twice",
        Many(|_, x| {
            let (y, f) = linearize(|x: &Tensor| x.sin() * x.cumsum(0), &x[0]);
            vec![y, f(&x[1]), f(&x[2])]
        }),
    ),
    (
        "linear_transpose",
        Binary(|x, ct| linear_transpose(|x: &Tensor| x.flip(0).cumsum(0).slice_in_dim(0, 0..3) * 2.0, x)(ct)),
    ),
    (
        "reduction_dtypes",
        Many(|p, x| {
            let x = x[0].convert(p.dtype("dtype"));
            let flat = x.reshape(&[x.elements()]);
            vec![x.sum(), x.prod(), x.mean(), x.max(), flat.cumsum(0), argmax(&flat)]
        }),
    ),
    // ---- windows
    ("reduce_window", One(|p, x| reduced(p.text("kind"), &x[0], &windows(p)))),
    ("max_pool", One(|p, x| reduce_window_max(&x[0], &images(p)))),
    ("sum_pool", One(|p, x| reduce_window_sum(&x[0], &images(p)))),
    ("avg_pool", One(|p, x| avg_pool(&x[0], &windows(p), p.flag("count_include_pad")))),
    ("logsumexp_pool", One(|p, x| reduce_window_sum(&x[0].exp(), &windows(p)).log())),
    (
        "lp_pool",
        One(|p, x| {
            let power = p.int("p") as i32;
            reduce_window_sum(&x[0].abs().powi(power), &windows(p)).pow(1.0 / f64::from(power))
        }),
    ),
    (
        "max_pool_second_derivative",
        One(|p, x| {
            let windows = windows(p);
            let slope = grad(move |x: &Tensor| reduce_window_max(x, &windows).powi(3).sum());
            grad(move |x: &Tensor| slope(x).square().sum())(&x[0])
        }),
    ),
    ("eqx_pool", One(eqx_pool)),
    ("eqx_adaptive_pool", One(eqx_adaptive_pool)),
    // ---- images
    (
        "image_resize",
        One(|p, x| {
            let antialias = p.is_none("antialias") || p.flag("antialias");
            image_resize(&x[0], &p.axes("shape"), method(p), antialias)
        }),
    ),
    (
        "scale_and_translate",
        One(|p, x| scale_and_translate(&x[0], &p.axes("shape"), &p.ints("dims"), &x[1], &x[2], method(p), true)),
    ),
];

fn running(op: CumulativeOp, p: &Params, x: &[Tensor]) -> Tensor {
    x[0].cumulative(op, p.int("axis"), p.flag("reverse"))
}

/// As `jnp.argmax`, which takes bools.
fn argmax(x: &Tensor) -> Tensor {
    if x.dtype() == DType::Bool { x.convert(DType::I32).argmax(0) } else { x.argmax(0) }
}

fn reduced(kind: &str, x: &Tensor, windows: &Windows) -> Tensor {
    match kind {
        "max" => reduce_window_max(x, windows),
        "min" => reduce_window_min(x, windows),
        "add" => reduce_window_sum(x, windows),
        "mul" => reduce_window_prod(x, windows),
        kind => panic!("there is no reduction by {kind}"),
    }
}

/// Pairs of numbers, or numbers that stand for both of a pair.
fn pairs(p: &Params, name: &str) -> Vec<(isize, isize)> {
    let list = p.json(name).as_array().expect("a list");
    let number = |x: &serde_json::Value| x.as_i64().expect("an integer") as isize;
    let pair =
        |x: &serde_json::Value| if x.is_array() { (number(&x[0]), number(&x[1])) } else { (number(x), number(x)) };
    list.iter().map(pair).collect()
}

fn windows(p: &Params) -> Windows {
    let mut windows = Windows::new(&p.axes("window")).strides(&p.axes("stride"));
    if !p.is_none("padding") {
        windows = windows.padding(&pairs(p, "padding"));
    }
    if !p.is_none("base_dilation") {
        windows = windows.base_dilation(&p.axes("base_dilation"));
    }
    if !p.is_none("window_dilation") {
        windows = windows.window_dilation(&p.axes("window_dilation"));
    }
    windows
}

/// Windows of images, whose batch and channels come first.
fn images(p: &Params) -> Windows {
    let with = |last: &[usize]| [&[1, 1][..], last].concat();
    let padding = [&[(0, 0), (0, 0)][..], &pairs(p, "padding")].concat();
    Windows::new(&with(&p.axes("window"))).strides(&with(&p.axes("stride"))).padding(&padding)
}

/// A number for each of `N` axes, or one for all.
fn each<const N: usize>(p: &Params, name: &str) -> [usize; N] {
    match p.json(name).as_u64() {
        Some(all) => [all as usize; N],
        None => p.axes(name)[..].try_into().expect("a number for each axis"),
    }
}

fn padding_of<const N: usize>(p: &Params) -> [(usize, usize); N] {
    if p.is_none("padding") || !p.json("padding").is_array() {
        let all = if p.is_none("padding") { 0 } else { p.int("padding") as usize };
        return [(all, all); N];
    }
    let pairs: Vec<_> = pairs(p, "padding").into_iter().map(|(low, high)| (low as usize, high as usize)).collect();
    pairs.try_into().expect("a pair for each axis")
}

fn eqx_pool(p: &Params, x: &[Tensor]) -> Tensor {
    macro_rules! layer {
        ($name:ident) => {
            nn::$name::new(each(p, "kernel_size"))
                .stride(each(p, "stride"))
                .padding(padding_of(p))
                .use_ceil(p.flag("use_ceil"))
                .call(&x[0])
        };
    }
    match p.text("kind") {
        "MaxPool1d" => layer!(MaxPool1d),
        "MaxPool2d" => layer!(MaxPool2d),
        "MaxPool3d" => layer!(MaxPool3d),
        "AvgPool1d" => layer!(AvgPool1d),
        "AvgPool2d" => layer!(AvgPool2d),
        "AvgPool3d" => layer!(AvgPool3d),
        kind => panic!("there is no layer {kind}"),
    }
}

fn eqx_adaptive_pool(p: &Params, x: &[Tensor]) -> Tensor {
    macro_rules! layer {
        ($name:ident) => {
            nn::$name::new(each(p, "target_shape")).call(&x[0])
        };
    }
    match p.text("kind") {
        "AdaptiveMaxPool1d" => layer!(AdaptiveMaxPool1d),
        "AdaptiveMaxPool2d" => layer!(AdaptiveMaxPool2d),
        "AdaptiveMaxPool3d" => layer!(AdaptiveMaxPool3d),
        "AdaptiveAvgPool1d" => layer!(AdaptiveAvgPool1d),
        "AdaptiveAvgPool2d" => layer!(AdaptiveAvgPool2d),
        "AdaptiveAvgPool3d" => layer!(AdaptiveAvgPool3d),
        kind => panic!("there is no layer {kind}"),
    }
}

fn method(p: &Params) -> ResizeMethod {
    match p.text("method") {
        "nearest" => ResizeMethod::Nearest,
        "linear" => ResizeMethod::Linear,
        "cubic" => ResizeMethod::Cubic,
        "lanczos3" => ResizeMethod::Lanczos3,
        "lanczos5" => ResizeMethod::Lanczos5,
        method => panic!("there is no method {method}"),
    }
}
