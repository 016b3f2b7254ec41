//! Ops of the vectors that convolve. JAX's definitions are in `jax/generate.py` and `jax-edge/generate.py`.

use fulgurite::conv::{self, Conv, Mode, Padding};
use fulgurite::trainer::nn;
use fulgurite::{DType, Tensor, grad, jvp};
use serde_json::Value;

use crate::case::Params;
use crate::dtypes::stored;
use crate::op::Op::{self, Many, One};

pub(crate) const OPS: &[(&str, Op)] = &[
    ("conv", One(|p, x| general(p, "groups", &x[0], &x[1]))),
    (
        "conv_dtype",
        Many(|p, x| {
            let [x, w] = [&x[0], &x[1]].map(|x| x.convert(p.dtype("dtype")));
            stored(p, vec![general(p, "feature_groups", &x, &w)])
        }),
    ),
    ("conv_general_dilated", One(|p, x| general(p, "feature_groups", &x[0], &x[1]))),
    (
        "conv_transpose",
        One(|p, x| {
            with(p, "feature_groups", |how| conv::conv_transpose(&x[0], &x[1], how, p.flag("transpose_kernel")))
        }),
    ),
    (
        "conv_grad_of_grad",
        One(|p, x| {
            let cubes = |x: &Tensor, w: &Tensor| general(p, "feature_groups", x, w).powi(3).sum();
            grad(|w: &Tensor| grad(|x: &Tensor| cubes(x, w))(&x[0]).sin().sum())(&x[1])
        }),
    ),
    (
        "conv_hvp_x",
        One(|p, x| {
            let cubes = |y: &Tensor| general(p, "feature_groups", y, &x[1]).powi(3).sum();
            jvp(grad(cubes), &x[0], &x[2]).1
        }),
    ),
    ("eqx_conv", One(layer)),
    ("eqx_conv_transpose", One(transposed_layer)),
    ("convolve", One(|p, x| conv::convolve(&x[0], &x[1], mode(p)))),
    ("correlate", One(|p, x| conv::correlate(&x[0], &x[1], mode(p)))),
    ("convolve2d", One(|p, x| conv::convolve2d(&x[0], &x[1], mode(p)))),
    (
        "conv_patches",
        One(|p, x| with(p, "groups", |how| conv::conv_general_dilated_patches(&x[0], &p.axes("filter"), how))),
    ),
];

/// `jax.lax.conv_general_dilated` with the parameters of a case.
fn general(p: &Params, groups: &str, x: &Tensor, w: &Tensor) -> Tensor {
    with(p, groups, |how| conv::conv_general_dilated(x, w, how))
}

/// What `f` makes of the parameters of a case; `groups` is the name of the number of feature groups.
fn with<T>(p: &Params, groups: &str, f: impl FnOnce(Conv<'_>) -> T) -> T {
    let axes = |name: &str| if p.is_none(name) { vec![] } else { p.axes(name).to_vec() };
    let count = |name: &str| if p.is_none(name) { 1 } else { p.int(name) as usize };
    let (strides, lhs, rhs) = (axes("stride"), axes("lhs_dilation"), axes("rhs_dilation"));
    let pads = pads(p.json("padding"));
    let names = if p.is_none("dimension_numbers") { vec![] } else { p.texts("dimension_numbers") };
    f(Conv {
        window_strides: &strides,
        padding: match p.json("padding").as_str() {
            Some("SAME") => Padding::Same,
            Some("SAME_LOWER") => Padding::SameLower,
            Some("VALID") => Padding::Valid,
            Some(other) => panic!("there is no padding {other}"),
            None => Padding::Explicit(&pads),
        },
        lhs_dilation: &lhs,
        rhs_dilation: &rhs,
        dimension_numbers: names.try_into().ok(),
        feature_group_count: count(groups),
        batch_group_count: count("batch_groups"),
        preferred_element_type: if p.is_none("result") { None } else { DType::parse(p.text("result")) },
        precision: None,
    })
}

/// Pairs of padding; none where it is a name.
fn pads(padding: &Value) -> Vec<(isize, isize)> {
    let number = |x: &Value| x.as_i64().expect("a number") as isize;
    padding.as_array().map_or(vec![], |pads| pads.iter().map(|pair| (number(&pair[0]), number(&pair[1]))).collect())
}

fn mode(p: &Params) -> Mode {
    match p.text("mode") {
        "full" => Mode::Full,
        "same" => Mode::Same,
        "valid" => Mode::Valid,
        mode => panic!("there is no mode {mode}"),
    }
}

/// One number for all axes, or one per axis.
fn each<const N: usize>(p: &Params, name: &str) -> [usize; N] {
    match p.json(name).as_u64() {
        Some(n) => [n as usize; N],
        None => p.axes(name)[..].try_into().expect("a number per axis"),
    }
}

fn config<const N: usize>(p: &Params) -> nn::ConvConfig<N> {
    let padding = p.json("padding");
    let number = |x: &Value| x.as_i64().expect("a number") as isize;
    nn::ConvConfig {
        stride: each(p, "stride"),
        padding: match padding {
            Value::String(name) if name == "SAME" => nn::ConvPadding::Same,
            Value::String(name) if name == "SAME_LOWER" => nn::ConvPadding::SameLower,
            Value::String(name) => panic!("there is no padding {name}"),
            Value::Array(pads) => nn::ConvPadding::Explicit(std::array::from_fn(|axis| match &pads[axis] {
                Value::Array(pair) => (number(&pair[0]), number(&pair[1])),
                pad => (number(pad), number(pad)),
            })),
            pad => (number(pad) as usize).into(),
        },
        padding_mode: match if p.is_none("padding_mode") { "ZEROS" } else { p.text("padding_mode") } {
            "ZEROS" => nn::PaddingMode::Zeros,
            "REFLECT" => nn::PaddingMode::Reflect,
            "REPLICATE" => nn::PaddingMode::Replicate,
            "CIRCULAR" => nn::PaddingMode::Circular,
            mode => panic!("there is no padding mode {mode}"),
        },
        dilation: each(p, "dilation"),
        groups: if p.is_none("groups") { 1 } else { p.int("groups") as usize },
        ..nn::ConvConfig::default()
    }
}

/// A layer of Equinox with these weights.
fn layer(p: &Params, x: &[Tensor]) -> Tensor {
    fn of<const N: usize>(p: &Params, x: &[Tensor]) -> Tensor {
        nn::Conv::<N> { weight: x[1].clone(), bias: Some(x[2].clone()), config: config(p) }.call(&x[0])
    }
    match p.text("kind") {
        "Conv1d" => of::<1>(p, x),
        "Conv2d" => of::<2>(p, x),
        "Conv3d" => of::<3>(p, x),
        kind => panic!("there is no layer {kind}"),
    }
}

fn transposed_layer(p: &Params, x: &[Tensor]) -> Tensor {
    fn of<const N: usize>(p: &Params, x: &[Tensor]) -> Tensor {
        let (weight, bias) = (x[1].clone(), Some(x[2].clone()));
        nn::ConvTranspose::<N> { weight, bias, output_padding: each(p, "output_padding"), config: config(p) }
            .call(&x[0])
    }
    match p.text("kind") {
        "ConvTranspose1d" => of::<1>(p, x),
        "ConvTranspose2d" => of::<2>(p, x),
        "ConvTranspose3d" => of::<3>(p, x),
        kind => panic!("there is no layer {kind}"),
    }
}
