//! Differences, integrals by a rule, and polynomials. Definitions are those of `jax.numpy`.

use std::panic::Location;

use crate::error::Error;
use crate::front::control::scan;
use crate::front::operand::{broadcast_shape, reject, resolve};
use crate::front::tensor::Tensor;
use crate::types::{DType, Shape};

impl Tensor {
    /// The differences of neighbours along an axis, `n` times: `jax.numpy.diff`. Of bools, whether they differ.
    ///
    /// # Errors
    /// The result stands for an error if there is no such axis.
    #[track_caller]
    pub fn diff(&self, n: usize, axis: isize) -> Self {
        let Some(along) = resolve(axis, self.rank()) else { return self.no_axis("diff", axis, Location::caller()) };
        (0..n).fold(self.clone(), |x, _| {
            let extent = x.shape()[along];
            let (low, high) = (x.slice_in_dim(axis, 0..extent.max(1) - 1), x.slice_in_dim(axis, extent.min(1)..extent));
            if x.dtype() == DType::Bool { high.not_equal(low) } else { high - low }
        })
    }
}

/// The differences of neighbours in row-major order, with elements before and after them: `jax.numpy.ediff1d`.
#[track_caller]
pub fn ediff1d(x: &Tensor, to_begin: Option<&Tensor>, to_end: Option<&Tensor>) -> Tensor {
    let inner = x.ravel().diff(1, 0);
    let end = |part: Option<&Tensor>| part.map(|part| part.ravel().convert(x.dtype()));
    let parts: Vec<Tensor> = end(to_begin).into_iter().chain([inner]).chain(end(to_end)).collect();
    Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
}

/// The integral of `y` along an axis by the trapezoidal rule, at the points `x`, or at a distance of 1:
/// `jax.numpy.trapezoid`. The points are a vector along the axis, or of the shape of `y`.
///
/// # Errors
/// The result stands for an error if there is no such axis, or if the points do not broadcast.
#[track_caller]
pub fn trapezoid(y: &Tensor, x: Option<&Tensor>, axis: isize) -> Tensor {
    if resolve(axis, y.rank()).is_none() {
        return y.no_axis("trapezoid", axis, Location::caller());
    }
    let y = y.inexact().moveaxis(axis, -1);
    let n = y.shape()[y.rank() - 1];
    let sums = y.slice_in_dim(-1, n.min(1)..n) + y.slice_in_dim(-1, 0..n.max(1) - 1);
    let widths = x.map(|x| if x.rank() > 1 { x.moveaxis(axis, -1).diff(1, -1) } else { x.diff(1, -1) });
    let areas = widths.map_or_else(|| sums.clone(), |widths| &sums * widths);
    areas.sum_axes(-1) * 0.5
}

/// The values at `x` of the polynomial with these coefficients, that of the highest power first: `jax.numpy.polyval`.
///
/// # Errors
/// The result stands for an error if there are no coefficients, a tensor without axes.
#[track_caller]
pub fn polyval(coefficients: &Tensor, x: &Tensor) -> Tensor {
    /// Longer ones are a loop.
    const MOST: usize = 32;
    let Some(&n) = coefficients.shape().first() else {
        let why = format!("takes a vector of coefficients, not {}", coefficients.ty());
        return reject(&[coefficients, x], Error::op("polyval", why, Location::caller()));
    };
    let (coefficients, x) = coefficients.promoted(x);
    let shape: Option<Shape> = broadcast_shape(&coefficients.shape()[1..], x.shape());
    let Some(shape) = shape else {
        let why = format!("the coefficients {} and {} do not broadcast", coefficients.ty(), x.ty());
        return reject(&[&coefficients, &x], Error::op("polyval", why, Location::caller()));
    };
    let zero = Tensor::full(&shape, 0, x.dtype());
    let step = |y: Tensor, c: Tensor| y * &x + c;
    if n > MOST {
        return scan(|y: Tensor, c: Tensor| (step(y, c), ()), zero, coefficients).0;
    }
    (0..n).fold(zero, |y, i| step(y, coefficients.index_in_dim(i, 0)))
}
