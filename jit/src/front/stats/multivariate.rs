//! Distributions of vectors.

/// The distribution of Dirichlet.
pub mod dirichlet {
    use std::panic::Location;

    use crate::error::Error;
    use crate::front::operand::reject;
    use crate::front::special::xlogy;
    use crate::front::tensor::Tensor;

    /// The logarithm of the density of `x`, of shape `[n, …]`, for `alpha` of shape `[n]`. If `x` has an element less
    /// along its first axis, the last one is what is missing to 1. Outside of the simplex it is minus infinity.
    #[track_caller]
    pub fn logpdf(x: &Tensor, alpha: &Tensor) -> Tensor {
        let (x, alpha) = x.inexact().promoted(&alpha.inexact());
        let n = alpha.elements();
        let fits = alpha.rank() == 1 && x.rank() > 0 && (x.shape()[0] == n || x.shape()[0] + 1 == n);
        if !fits {
            let why = format!("{} has not the elements of alpha, {}, along its first axis", x.ty(), alpha.ty());
            return reject(&[&x, &alpha], Error::op("dirichlet.logpdf", why, Location::caller()));
        }
        let x = if x.shape()[0] == n { x } else { Tensor::concat(&[&x, &(1.0 - x.sum_keep(0))], 0) };
        let norm = alpha.lgamma().sum_axes(0) - alpha.sum_axes(0).lgamma();
        let alpha = alpha.broadcast_in_dim(x.shape(), &[0]);
        let value = xlogy(&(alpha - 1.0), &x).sum_axes(0) - norm;
        let positive = x.min_axes(0).greater(0.0);
        let simplex = positive.and((x.sum_axes(0) - 1.0).abs().less(1e-6));
        simplex.select(value, f64::NEG_INFINITY)
    }

    /// The density.
    #[track_caller]
    pub fn pdf(x: &Tensor, alpha: &Tensor) -> Tensor {
        logpdf(x, alpha).exp()
    }
}

/// The multivariate normal distribution.
pub mod multivariate_normal {
    use std::f64::consts::PI;
    use std::panic::Location;

    use crate::error::Error;
    use crate::front::linalg::{Triangular, cholesky, triangular_solve};
    use crate::front::operand::{broadcast_shape, reject};
    use crate::front::tensor::Tensor;
    use crate::types::DType;

    /// The logarithm of the density of `x`, of shape `[…, n]`, for a mean of shape `[…, n]` and a covariance of shape
    /// `[…, n, n]`, or a variance that is a scalar. A covariance that is not positive definite gives NaN.
    #[track_caller]
    pub fn logpdf(x: &Tensor, mean: &Tensor, cov: &Tensor) -> Tensor {
        let (x, cov) = x.inexact().promoted(&cov.inexact());
        let (x, mean) = x.promoted(&mean.inexact());
        let cov = cov.convert(x.dtype());
        if mean.rank() == 0 && cov.rank() == 0 {
            return ((x - mean).square() / &cov + (cov * (2.0 * PI)).log()) * -0.5;
        }
        let y = &x - &mean;
        let [.., n] = *y.shape() else { return y };
        if cov.rank() == 0 {
            return (y.square().sum_axes(-1) / &cov + (cov * (2.0 * PI)).log() * n as f64) * -0.5;
        }
        if cov.rank() < 2 || cov.shape()[cov.rank() - 2..] != [n, n] {
            let why = format!("{} is no covariance of vectors of {n}", cov.ty());
            return reject(&[&x, &mean, &cov], Error::op("multivariate_normal.logpdf", why, Location::caller()));
        }
        with_factor(&y, &cholesky(&cov))
    }

    /// The logarithm of the density at a distance `y` from the mean, of shape `[…, n]`, for the lower Cholesky factor
    /// of the covariance, of shape `[…, n, n]`.
    #[track_caller]
    pub fn with_factor(y: &Tensor, factor: &Tensor) -> Tensor {
        let (y, factor) = y.inexact().promoted(&factor.inexact());
        let rank = factor.rank();
        let fits = rank >= 2 && y.rank() >= 1 && factor.shape()[rank - 2..] == [y.shape()[y.rank() - 1]; 2];
        let batch = if fits { broadcast_shape(&y.shape()[..y.rank() - 1], &factor.shape()[..rank - 2]) } else { None };
        let Some(batch) = batch else {
            let why = format!("{} is no factor of a covariance of {}", factor.ty(), y.ty());
            return reject(&[&y, &factor], Error::op("multivariate_normal", why, Location::caller()));
        };
        let n = y.shape()[y.rank() - 1];
        let lower = Triangular { left_side: true, lower: true, ..Triangular::default() };
        // One factor for all: the vectors are the columns of one system of equations.
        let solved = if rank == 2 {
            let rows = y.elements() / n.max(1);
            triangular_solve(&factor, &y.reshape(&[rows, n]).t(), lower).square().sum_axes(0).reshape(&batch)
        } else {
            let shape = |tail: &[usize]| [&batch[..], tail].concat();
            let y = y.broadcast_to(&shape(&[n])).expand_dims(-1);
            triangular_solve(&factor.broadcast_to(&shape(&[n, n])), &y, lower).square().sum_axes([-2, -1])
        };
        let index = |axis| Tensor::iota(DType::I32, factor.shape(), axis);
        let diagonal = index(rank - 2).equal(index(rank - 1));
        let log_det = diagonal.select(&factor, 1.0).log().sum_axes([-2, -1]);
        solved * -0.5 - n as f64 * 0.5 * libm::log(2.0 * PI) - log_det
    }

    /// The density.
    #[track_caller]
    pub fn pdf(x: &Tensor, mean: &Tensor, cov: &Tensor) -> Tensor {
        logpdf(x, mean, cov).exp()
    }
}

/// The multinomial distribution.
pub mod multinomial {
    use crate::front::special::xlogy;
    use crate::front::stats::arguments;
    use crate::front::tensor::Tensor;

    /// The logarithm of the probability of the counts `x` of `n` tries, of probabilities `p`, both along the last axis.
    /// It is minus infinity where the counts do not add up to `n`.
    #[track_caller]
    pub fn logpmf(x: &Tensor, n: &Tensor, p: &Tensor) -> Tensor {
        let (x, [p]) = match arguments("multinomial.logpmf", x, [super::super::super::operand::Arg::Tensor(p.clone())])
        {
            Ok(all) => all,
            Err(poisoned) => return poisoned,
        };
        let n = n.convert(x.dtype());
        let terms = xlogy(&x, &p) - (&x + 1.0).lgamma();
        let value = (&n + 1.0).lgamma() + terms.sum_axes(-1);
        n.equal(x.sum_axes(-1)).select(value, f64::NEG_INFINITY)
    }

    /// The probability.
    #[track_caller]
    pub fn pmf(x: &Tensor, n: &Tensor, p: &Tensor) -> Tensor {
        logpmf(x, n, p).exp()
    }
}
