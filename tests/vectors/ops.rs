//! What the ops of the vectors are in fulgurite: one table from name to function. JAX's definitions are in
//! `generate.py` beside the vectors.

use fulgurite::compiler::graph::DotAxes;
use fulgurite::linalg::{self, Triangular};
use fulgurite::{
    Tensor, einsum, elu, gelu, gelu_exact, hard_tanh, leaky_relu, log_sigmoid, log_softmax, mish, one_hot, relu, relu6,
    silu, soft_sign, softmax,
};

use crate::op::Op::{self, Binary, Many, One, Unary};
use crate::op::key;

/// The op called `name`.
pub(crate) fn find(name: &str) -> Option<Op> {
    let tables = [
        OPS,
        crate::control::OPS,
        crate::conv::OPS,
        crate::dtypes::OPS,
        crate::edge::OPS,
        crate::fourier::OPS,
        crate::indexing::OPS,
        crate::linalg::OPS,
        crate::models::OPS,
        crate::nn::OPS,
        crate::order::OPS,
        crate::random::OPS,
        crate::special::OPS,
        crate::steps::OPS,
        crate::windows::OPS,
    ];
    tables.into_iter().flatten().find(|(op, _)| *op == name).map(|&(_, op)| op)
}

const OPS: &[(&str, Op)] = &[
    // ---- elementwise, one operand
    ("neg", Unary(|x| -x)),
    ("abs", Unary(Tensor::abs)),
    ("sign", Unary(Tensor::sign)),
    ("exp", Unary(Tensor::exp)),
    ("exp2", Unary(Tensor::exp2)),
    ("expm1", Unary(Tensor::expm1)),
    ("log", Unary(Tensor::log)),
    ("log1p", Unary(Tensor::log1p)),
    ("sin", Unary(Tensor::sin)),
    ("cos", Unary(Tensor::cos)),
    ("tan", Unary(Tensor::tan)),
    ("asin", Unary(Tensor::asin)),
    ("acos", Unary(Tensor::acos)),
    ("atan", Unary(Tensor::atan)),
    ("sinh", Unary(Tensor::sinh)),
    ("cosh", Unary(Tensor::cosh)),
    ("tanh", Unary(Tensor::tanh)),
    ("asinh", Unary(Tensor::asinh)),
    ("acosh", Unary(Tensor::acosh)),
    ("atanh", Unary(Tensor::atanh)),
    ("logistic", Unary(Tensor::sigmoid)),
    ("sqrt", Unary(Tensor::sqrt)),
    ("rsqrt", Unary(Tensor::rsqrt)),
    ("cbrt", Unary(Tensor::cbrt)),
    ("square", Unary(Tensor::square)),
    ("erf", Unary(Tensor::erf)),
    ("erfc", Unary(Tensor::erfc)),
    ("erf_inv", Unary(Tensor::erf_inv)),
    ("floor", Unary(Tensor::floor)),
    ("ceil", Unary(Tensor::ceil)),
    ("round", Unary(Tensor::round)),
    ("is_finite", Unary(Tensor::is_finite)),
    ("relu", Unary(relu)),
    ("gelu_tanh", Unary(gelu)),
    ("gelu", Unary(gelu_exact)),
    ("silu", Unary(silu)),
    ("softplus", Unary(Tensor::softplus)),
    ("elu", Unary(elu)),
    ("leaky_relu", Unary(|x| leaky_relu(x, 0.01))),
    ("log_sigmoid", Unary(log_sigmoid)),
    ("mish", Unary(mish)),
    ("relu6", Unary(relu6)),
    ("hard_tanh", Unary(hard_tanh)),
    ("softsign", Unary(soft_sign)),
    ("integer_pow", One(|p, x| x[0].powi(p.int("exponent") as i32))),
    ("clamp", One(|p, x| x[0].clamp(p.float("lo"), p.float("hi")))),
    ("convert", One(|p, x| x[0].convert(p.dtype("to")))),
    ("bitcast", One(|p, x| x[0].bitcast(p.dtype("to")))),
    // ---- elementwise, several operands
    ("add", Binary(|x, y| x + y)),
    ("sub", Binary(|x, y| x - y)),
    ("mul", Binary(|x, y| x * y)),
    ("div", Binary(|x, y| x / y)),
    ("rem", Binary(|x, y| x % y)),
    ("max", Binary(|x, y| x.maximum(y))),
    ("min", Binary(|x, y| x.minimum(y))),
    ("pow", Binary(|x, y| x.pow(y))),
    ("atan2", Binary(|x, y| x.atan2(y))),
    ("and", Binary(|x, y| x.and(y))),
    ("or", Binary(|x, y| x.or(y))),
    ("xor", Binary(|x, y| x.xor(y))),
    ("shift_left", Binary(|x, y| x.shift_left(y))),
    ("shift_right_logical", Binary(|x, y| x.shift_right_logical(y))),
    ("shift_right_arithmetic", Binary(|x, y| x.shift_right_arithmetic(y))),
    ("eq", Binary(|x, y| x.equal(y))),
    ("ne", Binary(|x, y| x.not_equal(y))),
    ("lt", Binary(|x, y| x.less(y))),
    ("le", Binary(|x, y| x.less_equal(y))),
    ("gt", Binary(|x, y| x.greater(y))),
    ("ge", Binary(|x, y| x.greater_equal(y))),
    ("select", One(|_, x| x[0].select(&x[1], &x[2]))),
    // ---- reductions
    ("sort", One(|p, x| x[0].sort(p.int("axis")))),
    ("argsort", One(|p, x| x[0].argsort(p.int("axis")))),
    (
        "top_k",
        Many(|p, x| {
            let (values, indices) = x[0].top_k(p.int("k") as usize);
            vec![values, indices]
        }),
    ),
    ("permutation", One(|p, x| key(x).permutation(p.int("n") as usize))),
    ("reduce_sum", One(|p, x| x[0].sum_axes(&p.axes("axes")))),
    ("reduce_prod", One(|p, x| x[0].prod_axes(&p.axes("axes")))),
    ("reduce_max", One(|p, x| x[0].max_axes(&p.axes("axes")))),
    ("reduce_min", One(|p, x| x[0].min_axes(&p.axes("axes")))),
    ("reduce_and", One(|p, x| x[0].all_axes(&p.axes("axes")))),
    ("reduce_or", One(|p, x| x[0].any_axes(&p.axes("axes")))),
    ("mean", One(|p, x| x[0].mean_axes(&p.axes("axes")))),
    ("var", One(|p, x| x[0].var_axes(&p.axes("axes")))),
    ("logsumexp", One(|p, x| x[0].logsumexp(&p.axes("axes")))),
    ("argmax", One(|p, x| x[0].argmax(p.int("axis")))),
    ("argmin", One(|p, x| x[0].argmin(p.int("axis")))),
    ("softmax", One(|p, x| softmax(&x[0], p.int("axis")))),
    ("log_softmax", One(|p, x| log_softmax(&x[0], p.int("axis")))),
    ("norm", Unary(Tensor::norm)),
    // ---- linear algebra
    ("cholesky", Unary(linalg::cholesky)),
    (
        "triangular_solve",
        One(|p, x| {
            let (lower, transpose_a) = (p.flag("lower"), p.flag("transpose_a"));
            let how = Triangular { left_side: true, lower, transpose_a, ..Triangular::default() };
            linalg::triangular_solve(&x[0], &x[1], how)
        }),
    ),
    // ---- shapes
    ("reshape", One(|p, x| x[0].reshape(&p.axes("shape")))),
    ("transpose", One(|p, x| x[0].transpose(&p.axes("perm")))),
    ("broadcast_in_dim", One(|p, x| x[0].broadcast_in_dim(&p.axes("shape"), &p.axes("dims")))),
    ("rev", One(|p, x| x[0].rev(&p.axes("dims")))),
    ("concatenate", One(|p, x| Tensor::concat(&x.iter().collect::<Vec<_>>(), p.int("axis")))),
    ("pad", One(|p, x| x[0].pad(p.float("value"), &p.ints("low"), &p.ints("high"), &p.axes("interior")))),
    ("slice", One(|p, x| x[0].slice(&p.axes("start"), &p.axes("limit"), &p.axes("stride")))),
    // Two ops have this name: the other one splits random keys.
    (
        "split",
        Many(|p, x| match p.has("parts") {
            true => x[0].split(p.int("parts") as usize, p.int("axis")),
            false => vec![key(x).split_n(p.int("n") as usize)],
        }),
    ),
    ("roll", One(|p, x| x[0].roll(p.int("shift"), p.int("axis")))),
    ("tril", Unary(Tensor::tril)),
    ("one_hot", One(|p, x| one_hot(&x[0], p.int("classes") as usize))),
    ("iota", One(|p, _| Tensor::iota(p.dtype("dtype"), &p.axes("shape"), p.int("axis") as usize))),
    // ---- contractions
    ("matmul", Binary(Tensor::matmul)),
    (
        "dot_general",
        One(|p, x| x[0].dot_general(&x[1], DotAxes { batch: p.pairs("batch"), contract: p.pairs("contract") })),
    ),
    ("einsum", One(|p, x| einsum(p.text("spec"), &x.iter().collect::<Vec<_>>()))),
    // ---- random numbers
    ("fold_in", One(|p, x| key(x).fold_in(p.int("data") as u32).key_data().clone())),
    ("bits", One(|p, x| key(x).bits(&p.axes("shape")))),
    ("uniform", One(|p, x| key(x).uniform(&p.axes("shape"), p.float("lo"), p.float("hi")))),
    ("normal", One(|p, x| key(x).normal(&p.axes("shape")))),
    ("bernoulli", One(|p, x| key(x).bernoulli(&p.axes("shape"), p.float("p")))),
    ("randint", One(|p, x| key(x).randint(&p.axes("shape"), p.int("lo") as i32, p.int("hi") as i32))),
    ("categorical", One(|_, x| key(x).categorical(&x[1]))),
    ("gumbel", One(|p, x| key(x).gumbel(&p.axes("shape")))),
    ("truncated_normal", One(|p, x| key(x).truncated_normal(&p.axes("shape"), p.float("lo"), p.float("hi")))),
];
