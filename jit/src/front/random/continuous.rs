//! Draws from continuous distributions: the algorithms, and so the bits, of `jax.random` 0.10.
//!
//! A key, a shape and parameters come in; parameters are numbers or tensors, which broadcast to the shape and have
//! derivatives. Floats of the shape go out: f32, or for `…_as` of the given type. Distributions that need a rejection
//! loop are in `gamma`.

use super::super::operand::{Arg, Operand};
use super::super::tensor::Tensor;
use super::super::trace::as_one_program;
use super::{Key, check_float, next_up};
use crate::types::DType;
use crate::types::scalar::FloatFormat;

draws! {
    /// Laplace: the density is `e^-|x| / 2`.
    laplace laplace_as = |key, shape, dtype| {
        // The lower bound is a possible result, and must not be -1, where the logarithm is infinite.
        let u = key.uniform_as(shape, next_up(-1.0, dtype), 1.0, dtype);
        u.sign() * (-u.abs()).log1p()
    };
    /// Standard Cauchy: the density is `1 / (π (1 + x²))`.
    cauchy cauchy_as = |key, shape, dtype| {
        let u = key.uniform_as(shape, epsilon(dtype), 1.0, dtype);
        ((u - 0.5) * std::f64::consts::PI).tan()
    };
    /// Standard logistic: the distribution function is the sigmoid.
    logistic logistic_as = |key, shape, dtype| {
        let u = key.uniform_as(shape, least_normal(dtype), 1.0, dtype);
        u.log() - (-u).log1p()
    };
    /// Maxwell: the norm of three standard normal numbers.
    maxwell maxwell_as = |key, shape, dtype| {
        key.normal_as(&[shape, &[3]].concat(), dtype).square().sum_axes(-1).sqrt()
    };
    /// Standard Gumbel from twice the random bits, with all large values that the type has:
    /// `jax.random.gumbel(mode="high")`. [`Key::gumbel`] is the mode "low".
    gumbel_high gumbel_high_as = |key, shape, dtype| {
        let u = key.uniform_as(&[&[2], shape].concat(), 0.0, 1.0, dtype);
        let (high, low) = (u.index_in_dim(0, 0), u.index_in_dim(1, 0));
        let fine = &high + low * epsilon(dtype) + least_normal(dtype);
        let x = high.greater_equal(0.5).select(&high, fine);
        -(-(-x).log1p()).log()
    };
}

draws_with! {
    /// Rayleigh: the length of a vector of two normal numbers of standard deviation `scale`.
    ///
    /// ```
    /// # use fulgurite_jit::{Key, Tensor};
    /// # fn traced(key: Key, scales: &Tensor) {
    /// let one = key.rayleigh(&[4, 2], 1.5);
    /// let each = key.rayleigh(&[4, 2], scales); // f32[2]
    /// # }
    /// ```
    rayleigh rayleigh_as(scale) = |key, shape, dtype| scale * (key.unit(shape, dtype).log() * -2.0).sqrt();
    /// Weibull: `scale (-log(1 - u))^(1 / concentration)` of a uniform `u`.
    weibull_min weibull_min_as(scale, concentration) = |key, shape, dtype| {
        (-(-key.unit(shape, dtype)).log1p()).pow(concentration.recip()) * scale
    };
    /// Log-normal: `e^(sigma z)` of a standard normal `z`.
    lognormal lognormal_as(sigma) = |key, shape, dtype| (key.normal_as(shape, dtype) * sigma).exp();
    /// Pareto with the least value 1 and the tail index `b`.
    pareto pareto_as(b) = |key, shape, dtype| (key.exponential_as(shape, dtype) / b).exp();
    /// Triangular between `left` and `right`, most dense at `mode`.
    triangular triangular_as(left, mode, right) = |key, shape, dtype| {
        let u = key.unit(shape, dtype);
        let range = &right - &left;
        let rising = &left + (&u * &range * (&mode - &left)).sqrt();
        let falling = &right - ((1.0 - &u) * &range * (&right - &mode)).sqrt();
        u.less((&mode - &left) / &range).select(rising, falling)
    };
    /// Wald (inverse Gaussian) of this mean and shape parameter 1 (Michael, Schucany, Haas 1976).
    wald wald_as(mean) = |key, shape, dtype| {
        let [normal, uniform] = key.split();
        let y = normal.normal_as(shape, dtype).square();
        let z = uniform.unit(shape, dtype);
        let square = mean.square();
        let root = (&mean * 4.0 * &y + &square * y.square()).sqrt();
        let x = &mean + &square * &y / 2.0 - &mean / 2.0 * root;
        z.less_equal(&mean / (&mean + &x)).select(&x, square / &x)
    };
    /// Maxwell on both sides of `loc`, `scale` times as wide.
    double_sided_maxwell double_sided_maxwell_as(loc, scale) = |key, shape, dtype| {
        let [size, sign] = key.split();
        sign.rademacher_as(shape, dtype) * size.maxwell_as(shape, dtype) * scale + loc
    };
}

impl Key {
    /// Uniform in `low..high`, tensors that broadcast to `shape`: the case of [`Key::uniform`] where a bound is one.
    #[track_caller]
    pub(super) fn uniform_within(&self, shape: &[usize], bounds: [Arg; 2], dtype: DType) -> Tensor {
        self.sample("uniform", shape, bounds, dtype, |key, [low, high]| {
            (key.unit(shape, dtype) * (high - &low) + &low).maximum(&low)
        })
    }

    /// As [`Key::truncated_normal_as`], where a bound is a tensor. The derivative of what a bound cuts is 0.
    #[track_caller]
    pub(super) fn truncated_normal_within(&self, shape: &[usize], bounds: [Arg; 2], dtype: DType) -> Tensor {
        self.sample("truncated_normal", shape, bounds, dtype, |key, [low, high]| {
            let [from, to] = [&low, &high].map(|x| (x / std::f64::consts::SQRT_2).erf());
            let uniform = (key.unit(shape, dtype) * (to - &from) + &from).maximum(&from);
            let normal = uniform.erf_inv() * std::f64::consts::SQRT_2;
            let [low, high] = [low.stop_gradient(), high.stop_gradient()];
            normal.clip(above(&low), -above(&-high))
        })
    }

    /// f32 `[shape…, n]`: normal vectors of this mean `[…, n]` and covariance `[…, n, n]`, which broadcast to `shape`,
    /// by the Cholesky factor: `jax.random.multivariate_normal`. A covariance that is not positive definite gives NaN.
    ///
    /// ```
    /// # use fulgurite_jit::{Key, Tensor};
    /// # fn traced(key: Key) {
    /// let covariance = Tensor::from_vec(&[2, 2], vec![2.0f32, 0.5, 0.5, 1.0]).unwrap();
    /// let points = key.multivariate_normal(&[100], &Tensor::zeros(&[2]), &covariance); // f32[100,2]
    /// # }
    /// ```
    #[track_caller]
    pub fn multivariate_normal(&self, shape: &[usize], mean: &Tensor, covariance: &Tensor) -> Tensor {
        let (mean, covariance) = mean.inexact().promoted(&covariance.inexact());
        let (n, dtype) = (mean.shape().last().copied().unwrap_or(1), mean.dtype());
        let results = as_one_program(&[self.0.clone(), mean, covariance], |inputs| {
            let [key, mean, covariance] = inputs else { unreachable!("three inputs") };
            let factor = crate::front::linalg::cholesky(covariance);
            let z = Key(key.clone()).normal_as(&[shape, &[n]].concat(), dtype);
            vec![mean + factor.matmul(&z.expand_dims(-1)).squeeze(-1)]
        });
        results.into_iter().next().expect("one draw")
    }

    /// f32 `[shape…, n, m]`: matrices whose columns, or if `n < m` rows, are orthonormal, uniform among all such:
    /// `jax.random.orthogonal(key, n, shape, m=m)`. Its bits depend on how the QR decomposition rounds.
    ///
    /// ```
    /// # use fulgurite_jit::Key;
    /// # fn traced(key: Key) {
    /// let rotations = key.orthogonal(&[10], 3, 3); // f32[10,3,3]
    /// # }
    /// ```
    #[track_caller]
    pub fn orthogonal(&self, shape: &[usize], n: usize, m: usize) -> Tensor {
        self.orthogonal_as(shape, n, m, DType::F32)
    }

    /// As [`Key::orthogonal`], of a float type.
    #[track_caller]
    pub fn orthogonal_as(&self, shape: &[usize], n: usize, m: usize, dtype: DType) -> Tensor {
        let tall = [shape, &[n.max(m), n.min(m)]].concat();
        self.sample("orthogonal", &tall, [], dtype, |key, []| {
            let (q, r) = crate::front::linalg::qr(&key.normal_as(&tall, dtype));
            // The signs make the decomposition unique, without which the draws would not be uniform.
            let signs = r.diagonal(0, -2, -1).sign().expand_dims(-2);
            let matrix = q * signs;
            if n < m { matrix.t() } else { matrix }
        })
    }

    /// Draws with parameters that are broadcast to `shape`, outside of any trace as one program.
    #[track_caller]
    pub(super) fn sample<const N: usize>(
        &self,
        op: &str,
        shape: &[usize],
        params: [Arg; N],
        dtype: DType,
        draw: impl FnOnce(&Key, [Tensor; N]) -> Tensor,
    ) -> Tensor {
        if let Err(rejected) = check_float(op, shape, dtype) {
            return rejected;
        }
        let mut inputs = vec![self.0.clone()];
        inputs.extend(params.into_iter().map(|param| param.into_tensor(dtype).convert(dtype)));
        let location = std::panic::Location::caller();
        let drawn = as_one_program(&inputs, |inputs| {
            let params: Vec<Tensor> = inputs[1..].iter().map(|param| param.broadcast_to(shape)).collect();
            let params = <[Tensor; N]>::try_from(params).expect("as many as there were");
            vec![draw(&Key(inputs[0].clone()), params)]
        });
        let drawn = drawn.into_iter().next().expect("one draw");
        match drawn.error() {
            Some(error) => Tensor::failed(drawn.ty().clone(), error.clone().at(location)),
            None => drawn,
        }
    }
}

/// The smallest positive normal number; 0 for a type that is no float.
fn least_normal(dtype: DType) -> f64 {
    dtype.float().map_or(0.0, FloatFormat::least_normal)
}

/// The distance from 1 to the next number above it.
fn epsilon(dtype: DType) -> f64 {
    next_up(1.0, dtype) - 1.0
}

/// The next number above each element, but for those near the least normal number, where it is farther off (Rump,
/// Zimmermann, Boldo, Melquiond: Computing predecessor and successor in rounding to nearest, 2009).
fn above(x: &Tensor) -> Tensor {
    let half = epsilon(x.dtype()) / 2.0;
    x + (x.abs() * (half * (1.0 + 2.0 * half))).maximum(least_normal(x.dtype()))
}
