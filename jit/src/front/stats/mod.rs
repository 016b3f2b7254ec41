//! Densities and distribution functions, with the names and the definitions of `jax.scipy.stats`: a module for each
//! distribution, in which `logpdf(x, …)` (`logpmf` of integers) takes the parameters in JAX's order.
//!
//! Comes in: a tensor and parameters, tensors or numbers, which are promoted to floats and broadcast. Goes out: a
//! tensor of the common shape. Outside of the support a logarithm is minus infinity. Not here: draws, which are in
//! `random`.
//!
//! ```
//! # use fulgurite_jit::{Tensor, stats};
//! # fulgurite_jit::trace::trace(&[], |_| {
//! let x = Tensor::from_vec(&[3], vec![-1.0f32, 0.0, 2.0]).unwrap();
//! let density = stats::norm::logpdf(&x, 0.0, 1.0);
//! let tail = stats::t::logpdf(&x, 3.0, 0.0, 1.0);
//! # vec![density, tail]
//! # }).unwrap();
//! ```

mod continuous;
mod discrete;
mod multivariate;
mod positive;
mod truncated;

pub use continuous::{
    cauchy, expon, gennorm, gumbel_l, gumbel_r, laplace, logistic, norm, t, uniform, vonmises, wrapcauchy,
};
pub use discrete::{bernoulli, betabinom, binom, geom, nbinom, poisson};
pub use multivariate::{dirichlet, multinomial, multivariate_normal};
pub use positive::{beta, chi2, gamma, pareto};
pub use truncated::truncnorm;

use super::operand::Arg;
use super::special::common;
use super::tensor::Tensor;

/// The arguments of a function with one float type and one shape; or a poisoned result.
#[track_caller]
fn arguments<const N: usize>(name: &str, x: &Tensor, parameters: [Arg; N]) -> Result<(Tensor, [Tensor; N]), Tensor> {
    // A number takes the type of the tensors.
    let x = x.inexact();
    let tensors = parameters.map(|p| p.into_tensor(x.dtype()));
    // Two steps, since the number of all is no constant expression of stable Rust.
    let mut both = Vec::with_capacity(N);
    let mut first = x;
    for p in &tensors {
        let [a, _] = common(name, [&first, p])?;
        first = a;
    }
    for p in &tensors {
        let [_, p] = common(name, [&first, p])?;
        both.push(p);
    }
    Ok((first, both.try_into().expect("as many as there were")))
}

/// Declares functions of `x` and parameters. Their bodies have all as tensors of one float type and one shape.
macro_rules! functions {
    ($module:ident: $($(#[$doc:meta])* $name:ident($x:ident $(, $p:ident)*) $body:block)*) => { $(
        $(#[$doc])*
        #[track_caller]
        pub fn $name($x: &Tensor $(, $p: impl Operand)*) -> Tensor {
            let name = concat!(stringify!($module), ".", stringify!($name));
            match arguments(name, $x, [$($p.operand()),*]) {
                Ok(($x, [$($p),*])) => $body,
                Err(poisoned) => poisoned,
            }
        }
    )* };
}
use functions;

/// Minus infinity where `outside`, else `x`.
fn inside(outside: &Tensor, x: Tensor) -> Tensor {
    outside.select(f64::NEG_INFINITY, x)
}

/// NaN where a probability is outside of [0, 1], else `x`.
fn quantile(q: &Tensor, x: Tensor) -> Tensor {
    q.greater_equal(0.0).and(q.less_equal(1.0)).select(x, f64::NAN)
}
