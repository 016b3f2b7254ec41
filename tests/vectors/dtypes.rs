//! Ops of the vectors that are about element types: promotion, conversion, integers, floats of 16 bits, bits of floats.
//! JAX's definitions are in `jax-edge/generate.py`.

use fulgurite::{DType, Tensor, gcd, gelu, grad, lcm, linspace, softmax, where_};
use serde_json::Value;

use crate::case::Params;
use crate::op::Op::{self, Binary, Many, One, Unary};

pub(crate) const OPS: &[(&str, Op)] = &[
    (
        "promote_add_row",
        Many(|p, x| {
            let left = x[0].convert(p.dtype("left"));
            let rights = p.texts("rights").into_iter().map(|name| DType::parse(name).expect("an element type"));
            stored(p, rights.zip(&x[1..]).map(|(right, y)| &left + y.convert(right)).collect())
        }),
    ),
    (
        "promote_python_scalars",
        Many(|p, x| {
            let x = x[0].convert(p.dtype("dtype"));
            let scalars = p.json("scalars").as_array().expect("a list").iter();
            let sum = |scalar: &Value| match scalar {
                Value::Bool(scalar) => &x + Tensor::scalar(*scalar),
                scalar => match scalar.as_i64() {
                    Some(scalar) => &x + scalar as i32,
                    None => &x + scalar.as_f64().expect("a number"),
                },
            };
            stored(p, scalars.map(sum).collect())
        }),
    ),
    (
        "convert_to",
        Many(|p, x| {
            let x = if p.is_none("via") { x[0].clone() } else { x[0].convert(p.dtype("via")) };
            stored(p, vec![x.convert(p.dtype("to"))])
        }),
    ),
    ("bitcast_to", One(|p, x| x[0].bitcast(p.dtype("to")))),
    ("bitcast_bf16", Unary(|x| x.convert(DType::BF16).bitcast(DType::U16).convert(DType::I32))),
    ("wrapping", Many(|_, x| vec![&x[0] + &x[1], &x[0] - &x[1], &x[0] * &x[1], -&x[0], x[0].abs()])),
    ("lax_div", Binary(|x, y| x / y)),
    ("lax_rem", Binary(|x, y| x % y)),
    ("fmod", Binary(|x, y| x % y)),
    ("floor_divide", Binary(|x, y| x.floor_divide(y))),
    ("remainder", Binary(|x, y| x.remainder(y))),
    ("divmod", Many(|_, x| x[0].divmod(&x[1]).to_vec())),
    (
        "promote_divide",
        Many(|p, x| {
            let [x, y] = [x[0].clone(), &x[0] + &x[0]].map(|x| x.convert(p.dtype("dtype")));
            stored(p, vec![x.true_divide(y)])
        }),
    ),
    ("integer_power", One(|p, x| x[0].powi(p.int("n") as i32))),
    ("power_ints", Binary(|x, y| x.pow(y))),
    ("bitwise", Many(|_, x| vec![x[0].and(&x[1]), x[0].or(&x[1]), x[0].xor(&x[1]), x[0].bitwise_not()])),
    (
        "shifts",
        Many(|_, x| {
            let (x, by) = (&x[0], &x[1]);
            vec![x.shift_left(by), x.shift_right_logical(by), x.shift_right_arithmetic(by)]
        }),
    ),
    ("bit_counts", Many(|_, x| vec![x[0].population_count(), x[0].clz()])),
    (
        "compare_all",
        Many(|_, x| {
            let (x, y) = (&x[0], &x[1]);
            let tests = [x.less(y), x.less_equal(y), x.equal(y), x.not_equal(y)];
            [&tests[..], &[x.maximum(y), x.minimum(y), x.sign()]].concat()
        }),
    ),
    ("gcd_lcm", Many(|_, x| vec![gcd(&x[0], &x[1]), lcm(&x[0], &x[1])])),
    ("clip_ints", One(|p, x| x[0].clip(p.int("lo") as i32, p.int("hi") as i32))),
    ("where_promotes", One(|_, x| where_(&x[0], &x[1], &x[2]))),
    ("mean_var_ints", Many(|_, x| vec![x[0].mean(), x[0].var(), x[0].std()])),
    (
        "reduction_dtypes",
        Many(|p, x| {
            let x = x[0].convert(p.dtype("dtype"));
            stored(p, vec![x.sum(), x.prod(), x.mean(), x.max(), x.cumsum(-1), x.argmax(-1)])
        }),
    ),
    (
        "matmul_dtype",
        Many(|p, x| {
            let dtype = p.dtype("dtype");
            let [x, y] = [&x[0], &x[1]].map(|x| x.convert(dtype));
            let result = if p.is_none("result") { dtype } else { p.dtype("result") };
            stored(p, vec![x.matmul_as(&y, result)])
        }),
    ),
    ("unary_dtype", Many(|p, x| stored(p, vec![function(p.text("fn"), &x[0].convert(p.dtype("dtype")))]))),
    (
        "binary_dtype",
        Many(|p, x| {
            let [x, y] = [&x[0], &x[1]].map(|x| x.convert(p.dtype("dtype")));
            let result = match p.text("fn") {
                "add" => x + y,
                "mul" => x * y,
                "div" => x / y,
                "pow" => x.pow(y),
                "max" => x.maximum(y),
                other => panic!("no function {other}"),
            };
            stored(p, vec![result])
        }),
    ),
    (
        "layer_norm_dtype",
        Many(|p, x| {
            let x = x[0].convert(p.dtype("dtype"));
            let scale = (x.var_keep(-1) + Tensor::literal(1e-5, x.dtype())).rsqrt();
            stored(p, vec![(&x - x.mean_keep(-1)) * scale])
        }),
    ),
    (
        "mixed_precision_grad",
        One(|_, x| {
            let half = |x: &Tensor| x.convert(DType::BF16);
            grad(|w: &Tensor| half(w).matmul(&half(&x[1])).tanh().convert(DType::F32).square().sum())(&x[0])
        }),
    ),
    ("grad_through_integers", Unary(|x| grad(|x: &Tensor| (x * x.convert(DType::I32).convert(x.dtype())).sum())(x))),
    (
        "nan_to_num",
        Unary(|x| {
            let number = x.not_equal(x).select(0.0, x);
            let number = number.equal(f64::INFINITY).select(f32::MAX, &number);
            number.equal(f64::NEG_INFINITY).select(f32::MIN, &number)
        }),
    ),
    ("copysign", Binary(|x, y| x.copysign(y))),
    ("signbit", Unary(Tensor::signbit)),
    ("nextafter", Binary(|x, y| x.nextafter(y))),
    ("frexp", Many(|_, x| x[0].frexp().to_vec())),
    ("ldexp", Binary(|x, y| x.ldexp(y))),
    ("modf", Many(|_, x| x[0].modf().to_vec())),
    ("heaviside", Binary(|x, y| x.heaviside(y))),
    ("round_half", Many(|_, x| vec![x[0].round(), x[0].round_away_from_zero(), x[0].trunc()])),
    ("round_decimals", One(|p, x| x[0].round_to(p.int("decimals") as i32))),
    ("reduce_precision", One(|p, x| x[0].reduce_precision(p.int("exponent") as u32, p.int("mantissa") as u32))),
    ("linspace", One(|p, x| linspace(&x[0], &x[1], p.int("n") as usize, p.flag("endpoint")))),
    (
        "arange_f32",
        One(|p, x| {
            let (start, stop, step) = (p.float("start"), p.float("stop"), p.float("step"));
            let count = ((stop - start) / step).ceil() as usize;
            &x[0] + (Tensor::arange(DType::F32, count) * step + start)
        }),
    ),
];

/// The results as a file holds them, with floats of 16 bits as f32, after a look at their types.
pub(crate) fn stored(p: &Params, results: Vec<Tensor>) -> Vec<Tensor> {
    if p.has("result_dtypes") {
        let found: Vec<&str> = results.iter().map(|x| x.dtype().name()).collect();
        assert_eq!(found, p.texts("result_dtypes"), "element types of the results");
    }
    let wide = |x: Tensor| if x.dtype().is_float() && x.dtype().size() < 4 { x.convert(DType::F32) } else { x };
    results.into_iter().map(wide).collect()
}

fn function(name: &str, x: &Tensor) -> Tensor {
    match name {
        "exp" => x.exp(),
        "tanh" => x.tanh(),
        "logistic" => x.sigmoid(),
        "log1p" => x.log1p(),
        "sqrt" => x.sqrt(),
        "rsqrt" => x.rsqrt(),
        "softmax" => softmax(x, -1),
        "logsumexp" => x.logsumexp(..),
        "mean" => x.mean(),
        "var" => x.var(),
        "sum" => x.sum(),
        "gelu" => gelu(x),
        "double" => x + x,
        "square" => x.square(),
        other => panic!("no function {other}"),
    }
}
