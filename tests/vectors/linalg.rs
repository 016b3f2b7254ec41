//! Ops of linear algebra: what is composed of the primitives has JAX's names in `fulgurite::linalg`, too.

use fulgurite::linalg::{self, MatrixNorm, Transpose};
use fulgurite::{Tensor, hessian};
use serde_json::Value;

use crate::case::Params;
use crate::op::Op::{self, Binary, Many, One, Unary};

pub(crate) const OPS: &[(&str, Op)] = &[
    ("solve", Binary(linalg::solve)),
    ("inv", Unary(linalg::inv)),
    ("slogdet", Unary(|a| linalg::slogdet(a).1)),
    ("eigvalsh", Unary(linalg::eigvalsh)),
    ("jnp_solve", Binary(linalg::solve)),
    ("jnp_inv", Unary(linalg::inv)),
    ("det", Unary(linalg::det)),
    (
        "jnp_slogdet",
        Many(|_, x| {
            let (sign, logdet) = linalg::slogdet(&x[0]);
            vec![sign, logdet]
        }),
    ),
    (
        "lax_lu",
        Many(|_, x| {
            let (lu, pivots, order) = linalg::lu(&x[0]);
            vec![lu, pivots, order]
        }),
    ),
    (
        "qr",
        Many(|p, x| {
            let pair = |(q, r)| vec![q, r];
            match p.text("mode") {
                "reduced" => pair(linalg::qr(&x[0])),
                "complete" => pair(linalg::qr_complete(&x[0])),
                "r" => vec![linalg::qr_r(&x[0])],
                other => panic!("no mode {other}"),
            }
        }),
    ),
    (
        "eigh_squares",
        Many(|_, x| {
            let (w, v) = linalg::eigh(&x[0]);
            vec![w, v.square()]
        }),
    ),
    (
        "eigh_exp",
        Unary(|a| {
            let (w, v) = linalg::eigh(a);
            (&v * w.exp().expand_dims(-2)).matmul(&v.t())
        }),
    ),
    ("eigvalsh_of", Unary(linalg::eigvalsh)),
    ("svd_values", Unary(linalg::svdvals)),
    (
        "svd_rank",
        One(|p, x| {
            let (u, s, vt) = linalg::svd(&x[0], false);
            let k = p.int("k") as usize;
            let scaled = u.slice_in_dim(-1, 0..k) * s.slice_in_dim(-1, 0..k).expand_dims(-2);
            scaled.matmul(&vt.slice_in_dim(-2, 0..k))
        }),
    ),
    ("lstsq", Binary(|a, b| linalg::lstsq(a, b, None).x)),
    (
        "lstsq_qr",
        Binary(|a, b| {
            let (q, r) = linalg::qr(a);
            linalg::solve_triangular(&r, &q.t().matmul(b), Transpose::No, false, false)
        }),
    ),
    ("pinv", Unary(|a| linalg::pinv(a, None))),
    ("matrix_power", One(|p, x| linalg::matrix_power(&x[0], p.int("n") as i32))),
    ("expm", Unary(linalg::expm)),
    ("vector_norm", One(vector_norm)),
    ("matrix_norm", One(|p, x| linalg::matrix_norm(&x[0], matrix_order(p)))),
    ("safe_norm", One(|p, x| linalg::safe_norm(&x[0], p.float("min_norm")))),
    ("kron", Binary(linalg::kron)),
    ("trace", One(|p, x| linalg::trace(&x[0], p.int("offset")))),
    ("cross", Binary(|x, y| linalg::cross(x, y, -1))),
    ("outer", Binary(linalg::outer)),
    ("multi_dot", One(|_, x| linalg::multi_dot(&x.iter().collect::<Vec<_>>()))),
    (
        "tensordot",
        One(|p, x| {
            let pairs: Vec<(isize, isize)> = match p.json("axes") {
                Value::Number(_) => {
                    let n = p.int("axes");
                    (0..n).map(|i| (i - n, i)).collect()
                }
                lists => {
                    let list =
                        |i: usize| lists[i].as_array().expect("a list").iter().map(|x| x.as_i64().expect("an axis"));
                    list(0).zip(list(1)).map(|(a, b)| (a as isize, b as isize)).collect()
                }
            };
            linalg::tensordot(&x[0], &x[1], &pairs)
        }),
    ),
    ("vdot", Binary(linalg::vdot)),
    (
        "cho_solve",
        Binary(|a, b| {
            let (factor, lower) = linalg::cho_factor(a, false);
            linalg::cho_solve((&factor, lower), b)
        }),
    ),
    ("tridiagonal_solve", One(|_, x| linalg::tridiagonal_solve(&x[0], &x[1], &x[2], &x[3]))),
    ("block_diag", Binary(|x, y| linalg::block_diag(&[x, y]))),
    ("toeplitz", Binary(linalg::toeplitz)),
    ("vander", One(|p, x| linalg::vander(&x[0], p.int("n") as usize, false))),
    ("cov", Unary(|x| linalg::cov(x, 1))),
    ("corrcoef", Unary(linalg::corrcoef)),
    ("logdet_by_cholesky", Unary(linalg::logdet)),
    (
        "gaussian_log_likelihood_hessian",
        Binary(|s, y| {
            let n = y.shape()[0];
            let eye = Tensor::iota(fulgurite::DType::I32, &[n, n], 0);
            let eye = eye.equal(Tensor::iota(fulgurite::DType::I32, &[n, n], 1)).convert(s.dtype());
            let likelihood = |s: &Tensor| {
                let covariance = s.matmul(&s.t()) + &eye;
                y.matmul(&linalg::solve(&covariance, y)) * -0.5 - linalg::slogdet(&covariance).1 * 0.5
            };
            hessian(likelihood)(s)
        }),
    ),
];

fn vector_norm(p: &Params, x: &[Tensor]) -> Tensor {
    let ord = match p.json("ord") {
        Value::Null => 2.0,
        Value::Number(ord) => ord.as_f64().expect("a number"),
        _ => p.text("ord").parse().expect("a number, or inf"),
    };
    match p.flag("keepdims") {
        true => linalg::vector_norm_keep(&x[0], ord, p.int("axis")),
        false => linalg::vector_norm(&x[0], ord, p.int("axis")),
    }
}

fn matrix_order(p: &Params) -> MatrixNorm {
    let text = match p.json("ord") {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match &text[..] {
        "fro" => MatrixNorm::Frobenius,
        "nuc" => MatrixNorm::Nuclear,
        "1" => MatrixNorm::One,
        "-1" => MatrixNorm::MinusOne,
        "2" => MatrixNorm::Two,
        "-2" => MatrixNorm::MinusTwo,
        "inf" => MatrixNorm::Infinity,
        "-inf" => MatrixNorm::MinusInfinity,
        other => panic!("no norm {other}"),
    }
}
