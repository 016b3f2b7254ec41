//! Special functions and densities of the vectors. JAX's definitions are in `jax-edge/generate.py`.

use fulgurite::special::LogSumExp;
use fulgurite::trainer::dist::{
    BernoulliLogits, CategoricalLogits, Distribution, HalfNormal, InverseGamma, LkjCholesky, LogNormal,
    MultinomialLogits, MultivariateNormal, Normal, kl_divergence,
};
use fulgurite::{DType, Tensor, grad, hessian, special, stats, vmap};

use crate::case::Params;
use crate::op::Op::{self, Binary, Many, One, Unary};

pub(crate) const OPS: &[(&str, Op)] = &[
    ("lgamma", Unary(Tensor::lgamma)),
    ("digamma", Unary(Tensor::digamma)),
    ("gammaln", Unary(special::gammaln)),
    ("psi", Unary(special::digamma)),
    ("polygamma", One(|p, x| special::polygamma(p.int("n") as usize, &x[0]))),
    ("hurwitz_zeta", One(|p, x| special::zeta(&Tensor::literal(p.float("s"), x[0].dtype()), &x[0]))),
    ("igamma", Binary(special::gammainc)),
    ("igammac", Binary(special::gammaincc)),
    ("igamma_grad_a", Binary(special::igamma_grad_a)),
    ("random_gamma_grad", Binary(special::random_gamma_grad)),
    ("bessel_i0e", Unary(Tensor::bessel_i0e)),
    ("bessel_i1e", Unary(Tensor::bessel_i1e)),
    ("i0", Unary(special::i0)),
    ("i1", Unary(special::i1)),
    (
        "betainc",
        One(|p, x| {
            let [a, b] = ["a", "b"].map(|name| Tensor::literal(p.float(name), x[0].dtype()));
            special::betainc(&a, &b, &x[0])
        }),
    ),
    ("betainc_values", One(|_, x| special::betainc(&x[0], &x[1], &x[2]))),
    ("betaln", Binary(special::betaln)),
    ("beta_function", Binary(special::beta)),
    ("gamma_function", Unary(special::gamma)),
    ("gammasgn", Unary(special::gammasgn)),
    ("factorial", Unary(special::factorial)),
    ("multigammaln", One(|p, x| special::multigammaln(&x[0], p.int("d") as usize))),
    ("poch", Binary(special::poch)),
    ("lgamma_hessian", Unary(|x| vmap(|x: Tensor| grad(|x: &Tensor| grad(special::gammaln)(x))(&x), 0)(x.clone()))),
    (
        "log_beta_hessian",
        Unary(|x| hessian(|x: &Tensor| special::betaln(&x.index_in_dim(0, 0), &x.index_in_dim(1, 0)))(x)),
    ),
    ("logit", Unary(special::logit)),
    ("expit", Unary(special::expit)),
    ("log1mexp", Unary(special::log1mexp)),
    ("xlogy", Binary(special::xlogy)),
    ("xlog1py", Binary(special::xlog1py)),
    ("entr", Unary(special::entr)),
    ("kl_div", Binary(special::kl_div)),
    ("rel_entr", Binary(special::rel_entr)),
    ("erfinv", Unary(Tensor::erf_inv)),
    ("erfc_tail", Unary(Tensor::erfc)),
    ("erfcx", Unary(special::erfcx)),
    ("ndtr", Unary(special::ndtr)),
    ("log_ndtr", Unary(special::log_ndtr)),
    ("ndtri", Unary(special::ndtri)),
    ("expi", Unary(special::expi)),
    ("exp1", Unary(special::exp1)),
    ("expn", One(|p, x| special::expn(p.int("n") as usize, &x[0]))),
    ("spence", Unary(special::spence)),
    ("sinc", Unary(special::sinc)),
    (
        "sinc_second_derivative",
        Unary(|x| vmap(|x: Tensor| grad(|x: &Tensor| grad(special::sinc)(x))(&x), 0)(x.clone())),
    ),
    (
        "logsumexp_of",
        One(|p, x| {
            LogSumExp { keepdims: p.has("keepdims") && p.flag("keepdims"), ..LogSumExp::default() }
                .of(&x[0], &p.axes("axis"))
        }),
    ),
    (
        "logsumexp_weighted",
        Many(|p, x| {
            let (log, sign) = LogSumExp { b: Some(&x[1]), ..LogSumExp::default() }.with_sign(&x[0], p.int("axis"));
            vec![log, sign]
        }),
    ),
    ("logsumexp_where", One(|p, x| LogSumExp { mask: Some(&x[1]), ..LogSumExp::default() }.of(&x[0], p.int("axis")))),
    (
        "logmeanexp",
        One(|p, x| {
            let axis = p.int("axis");
            let extent = x[0].shape()[axis.rem_euclid(x[0].rank() as isize) as usize];
            x[0].logsumexp(axis) - (extent as f64).ln()
        }),
    ),
    ("logaddexp", Binary(special::logaddexp)),
    ("logaddexp2", Binary(special::logaddexp2)),
    ("hypot", Binary(special::hypot)),
    ("cbrt_of", Unary(Tensor::cbrt)),
    ("softplus_of", Unary(Tensor::softplus)),
    ("power_of", Binary(|x, y| x.pow(y))),
    ("arctan2_of", Binary(|y, x| y.atan2(x))),
    ("safe_log_double_where", Unary(|x| x.greater(0.0).select(x.greater(0.0).select(x, 1.0).log(), 0.0))),
    // ---- densities
    ("log_prob", One(log_prob)),
    ("numpyro_log_prob", One(numpyro_log_prob)),
    (
        "normal_kl",
        One(|_, x| {
            let normal = |i: usize| Normal { loc: x[i].clone(), scale: x[i + 1].clone() };
            kl_divergence(&normal(0), &normal(2))
        }),
    ),
];

/// A function of `jax.scipy.stats`; parameters that are not there are a location of 0 and a scale of 1.
fn log_prob(p: &Params, x: &[Tensor]) -> Tensor {
    let function = if p.has("fn") { p.text("fn") } else { "logpdf" };
    let at = |i: usize, or: f64| {
        x.get(i)
            .cloned()
            .unwrap_or_else(|| Tensor::literal(or, if x[0].dtype().is_float() { x[0].dtype() } else { DType::F32 }))
    };
    match (p.text("dist"), function) {
        ("norm", "logpdf") => stats::norm::logpdf(&x[0], at(1, 0.0), at(2, 1.0)),
        ("norm", "logcdf") => stats::norm::logcdf(&x[0], at(1, 0.0), at(2, 1.0)),
        ("laplace", "logpdf") => stats::laplace::logpdf(&x[0], at(1, 0.0), at(2, 1.0)),
        ("cauchy", "logpdf") => stats::cauchy::logpdf(&x[0], at(1, 0.0), at(2, 1.0)),
        ("t", "logpdf") => stats::t::logpdf(&x[0], &x[1], at(2, 0.0), at(3, 1.0)),
        ("gamma", "logpdf") => stats::gamma::logpdf(&x[0], &x[1], at(2, 0.0), at(3, 1.0)),
        ("beta", "logpdf") => stats::beta::logpdf(&x[0], &x[1], &x[2], at(3, 0.0), at(4, 1.0)),
        ("uniform", "logpdf") => stats::uniform::logpdf(&x[0], at(1, 0.0), at(2, 1.0)),
        ("truncnorm", "logpdf") => stats::truncnorm::logpdf(&x[0], &x[1], &x[2], at(3, 0.0), at(4, 1.0)),
        ("vonmises", "logpdf") => stats::vonmises::logpdf(&x[0], &x[1]),
        ("dirichlet", "logpdf") => stats::dirichlet::logpdf(&x[0], &x[1]),
        ("multivariate_normal", "logpdf") => stats::multivariate_normal::logpdf(&x[0], &x[1], &x[2]),
        ("poisson", "logpmf") => stats::poisson::logpmf(&x[0], &x[1], 0.0),
        ("binom", "logpmf") => stats::binom::logpmf(&x[0], &x[1], &x[2], 0.0),
        ("nbinom", "logpmf") => stats::nbinom::logpmf(&x[0], &x[1], &x[2], 0.0),
        (dist, function) => panic!("no {function} of {dist}"),
    }
}

fn numpyro_log_prob(p: &Params, x: &[Tensor]) -> Tensor {
    let of = |i: usize| x[i].clone();
    let dist: Box<dyn Distribution> = match p.text("dist") {
        "BernoulliLogits" => Box::new(BernoulliLogits { logits: of(1) }),
        "CategoricalLogits" => Box::new(CategoricalLogits { logits: of(1) }),
        "MultinomialLogits" => Box::new(MultinomialLogits { logits: of(1), total_count: p.int("total_count") as u32 }),
        "HalfNormal" => Box::new(HalfNormal { scale: of(1) }),
        "LogNormal" => Box::new(LogNormal { loc: of(1), scale: of(2) }),
        "InverseGamma" => Box::new(InverseGamma { concentration: of(1), rate: of(2) }),
        "MultivariateNormal" => Box::new(MultivariateNormal { loc: of(1), scale_tril: of(2) }),
        "LKJCholesky" => Box::new(LkjCholesky { dimension: p.int("dimension") as usize, concentration: of(1) }),
        other => panic!("no distribution {other}"),
    };
    dist.log_prob(&x[0])
}
