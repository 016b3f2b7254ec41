//! Special functions, with the names and the definitions of `jax.scipy.special` (and of `jax.lax`, `jax.nn` and
//! `jax.numpy` for a few). All are elementwise on operands that are promoted and broadcast; integers become f32.
//!
//! Comes in: tensors. Goes out: their values, recorded as primitive ops, from which derivatives and batches follow.
//! Almost all are computed in f64, whatever the type of the result, so that what cancels leaves f32 its last place.
//! Where a function is an integral or a series, its terms lie along a separate axis, which is summed: programs stay
//! small, and there are no loops whose length depends on data. Derivatives with respect to every argument of floats
//! exist, also where JAX has none.
//!
//! `gamma` has the gamma function and its logarithmic derivatives, `incomplete` the incomplete gamma and beta
//! functions, `exponential` exponential integrals, `normal` the normal distribution and the error function, `entropy`
//! what is made of logarithms. Not here: complex arguments, Bessel functions of higher orders, hypergeometric
//! functions.

mod entropy;
mod exponential;
mod gamma;
mod incomplete;
mod normal;
#[cfg(test)]
mod tests;

pub use entropy::{
    LogSumExp, boxcox, boxcox1p, entr, expit, hypot, kl_div, log1mexp, logaddexp, logaddexp2, logit, rel_entr, sinc,
    xlog1py, xlogy,
};
pub use exponential::{exp1, expi, expn, spence};
pub use gamma::{
    betaln, comb, digamma, factorial, gamma, gammaln, gammasgn, i0, i0e, i1, i1e, multigammaln, poch, polygamma, zeta,
};
pub use incomplete::{beta, betainc, gammainc, gammaincc, igamma_grad_a, random_gamma_grad};
pub use normal::{erfcx, log_ndtr, ndtr, ndtri};

use std::panic::Location;

use super::operand::{broadcast_shape, mismatch, promoted_dtype, reject};
use super::tensor::Tensor;
use crate::types::{DType, Shape};

/// The operands with one element type, that of their promotion (floats), and one shape; or a poisoned result.
#[track_caller]
pub(super) fn common<const N: usize>(name: &str, xs: [&Tensor; N]) -> Result<[Tensor; N], Tensor> {
    let dtype = xs.iter().map(|x| x.dtype()).reduce(promoted_dtype).expect("an operand");
    let dtype = if dtype.is_float() { dtype } else { DType::F32 };
    let mut shape = Shape::from_slice(xs[0].shape());
    for x in &xs[1..] {
        match broadcast_shape(&shape, x.shape()) {
            Some(both) => shape = both,
            None => return Err(reject(&xs, mismatch(name, xs[0].ty(), x.ty(), Location::caller()))),
        }
    }
    Ok(xs.map(|x| x.convert(dtype).broadcast_to(&shape)))
}

/// `f` of the operands in f64, in their promoted type.
#[track_caller]
fn in_f64<const N: usize>(name: &str, xs: [&Tensor; N], f: impl FnOnce([Tensor; N]) -> Tensor) -> Tensor {
    match common(name, xs) {
        Ok(xs) => {
            let dtype = xs[0].dtype();
            f(xs.map(|x| x.convert(DType::F64))).convert(dtype)
        }
        Err(poisoned) => poisoned,
    }
}

/// A polynomial in `x` with these coefficients, highest order first.
fn polynomial(x: &Tensor, c: &[f64]) -> Tensor {
    let (first, rest) = c.split_first().expect("a coefficient");
    rest.iter().fold(Tensor::literal(*first, DType::F64).broadcast_to(x.shape()), |y, &c| y * x + c)
}

/// An f64 vector of constants, to be broadcast along a new last axis.
fn constants(values: &[f64]) -> Tensor {
    Tensor::from_vec(&[values.len()], values.to_vec()).expect("as many elements as the shape has")
}

/// `∫ f(s) ds` from 0 to `end`, elementwise, of an `f` whose operand has the points along a new last axis: the rule of
/// Gauss and Legendre of 32 points. Its error is below 1e-15 of the integral where `f` falls from 1 by e^-40 without
/// turns.
fn integral(end: &Tensor, f: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
    let points = end.expand_dims(-1) * constants(&POINTS);
    (f(&points) * constants(&WEIGHTS)).sum_axes(-1) * end
}

/// The zeros of the Legendre polynomial of degree 32, on [0, 1]; computed with 40 digits.
const POINTS: [f64; 32] = [
    0.001368069075259218,
    0.007194244227365833,
    0.017618872206246784,
    0.03254696203113015,
    0.05183942211697394,
    0.07531619313371501,
    0.1027581020160288,
    0.13390894062985517,
    0.1684778665348924,
    0.20614212137961885,
    0.2465500455338853,
    0.2893243619346823,
    0.33406569885893617,
    0.38035631887393145,
    0.42776401920860174,
    0.4758461671561308,
    0.5241538328438692,
    0.5722359807913983,
    0.6196436811260685,
    0.6659343011410638,
    0.7106756380653176,
    0.7534499544661147,
    0.7938578786203812,
    0.8315221334651076,
    0.8660910593701449,
    0.8972418979839712,
    0.924683806866285,
    0.9481605778830261,
    0.9674530379688698,
    0.9823811277937532,
    0.9928057557726342,
    0.9986319309247408,
];

/// The weights that belong to [`POINTS`].
const WEIGHTS: [f64; 32] = [
    0.003509305004735048,
    0.008137197365452835,
    0.01269603265463103,
    0.017136931456510716,
    0.02141794901111334,
    0.025499029631188087,
    0.029342046739267776,
    0.032911111388180925,
    0.03617289705442425,
    0.039096947893535156,
    0.04165596211347338,
    0.043826046502201906,
    0.045586939347881945,
    0.04692219954040228,
    0.04781936003963743,
    0.0482700442573639,
    0.0482700442573639,
    0.04781936003963743,
    0.04692219954040228,
    0.045586939347881945,
    0.043826046502201906,
    0.04165596211347338,
    0.039096947893535156,
    0.03617289705442425,
    0.032911111388180925,
    0.029342046739267776,
    0.025499029631188087,
    0.02141794901111334,
    0.017136931456510716,
    0.01269603265463103,
    0.008137197365452835,
    0.003509305004735048,
];
