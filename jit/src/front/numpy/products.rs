//! Products of vectors, differences, sums by a rule, and statistics of samples.
//!
//! Definitions are those of `jax.numpy`.

use std::panic::Location;

use smallvec::SmallVec;

use crate::error::Error;
use crate::front::control::scan;
use crate::front::operand::{reject, resolve};
use crate::front::tensor::Tensor;
use crate::graph::DotAxes;
use crate::types::{DType, Shape};

/// The sum over the last axes of `x` and the first of `y`, so many of each: `jax.numpy.tensordot(x, y, axes)`.
#[track_caller]
pub fn tensordot(x: &Tensor, y: &Tensor, axes: usize) -> Tensor {
    let Some(first) = x.rank().checked_sub(axes) else {
        let why = format!("{} has no {axes} axes", x.ty());
        return reject(&[x, y], Error::op("tensordot", why, Location::caller()));
    };
    let (x, y) = x.promoted(y);
    let contract = (0..axes).map(|axis| (first + axis, axis)).collect();
    x.dot_general(&y, DotAxes { batch: SmallVec::new(), contract })
}

/// The sum over pairs of axes: `jax.numpy.tensordot(x, y, (axes_x, axes_y))`. Negative axes count from the end.
///
/// # Errors
/// The result stands for an error if there is no such axis, or if the lists are not of one length.
#[track_caller]
pub fn tensordot_axes(x: &Tensor, y: &Tensor, axes_x: &[isize], axes_y: &[isize]) -> Tensor {
    let pair = |(&a, &b): (&isize, &isize)| Some((resolve(a, x.rank())?, resolve(b, y.rank())?));
    let contract: Option<SmallVec<_>> = axes_x.iter().zip(axes_y).map(pair).collect();
    match contract.filter(|_| axes_x.len() == axes_y.len()) {
        Some(contract) => {
            let (x, y) = x.promoted(y);
            x.dot_general(&y, DotAxes { batch: SmallVec::new(), contract })
        }
        None => {
            let why = format!("{} and {} have no axes {axes_x:?} and {axes_y:?} that go together", x.ty(), y.ty());
            reject(&[x, y], Error::op("tensordot", why, Location::caller()))
        }
    }
}

/// The sum of products along the last axes: `jax.numpy.inner`. A scalar multiplies.
#[track_caller]
pub fn inner(x: &Tensor, y: &Tensor) -> Tensor {
    if x.rank() == 0 || y.rank() == 0 { x * y } else { tensordot_axes(x, y, &[-1], &[-1]) }
}

/// The products of all pairs of elements, as a matrix: `jax.numpy.outer`.
#[track_caller]
pub fn outer(x: &Tensor, y: &Tensor) -> Tensor {
    x.ravel().expand_dims(1) * y.ravel()
}

/// The sum of the products of all elements: `jax.numpy.vdot`.
#[track_caller]
pub fn vdot(x: &Tensor, y: &Tensor) -> Tensor {
    x.ravel().matmul(&y.ravel())
}

/// The cross product of vectors of two or three components along an axis: `jax.numpy.cross`. The other axes broadcast.
/// Of vectors of two components it is the third component, without the axis.
///
/// # Errors
/// The result stands for an error if there is no such axis, or if it has another extent.
#[track_caller]
pub fn cross(x: &Tensor, y: &Tensor, axis: isize) -> Tensor {
    let extent = |x: &Tensor| resolve(axis, x.rank()).map(|axis| x.shape()[axis]);
    let (Some(m @ (2 | 3)), Some(n @ (2 | 3))) = (extent(x), extent(y)) else {
        let why = format!("takes vectors of 2 or 3 components along axis {axis}, not {} and {}", x.ty(), y.ty());
        return reject(&[x, y], Error::op("cross", why, Location::caller()));
    };
    let part = |x: &Tensor, i: usize| x.index_in_dim(i, axis);
    let minor = |i: usize, j: usize| part(x, i) * part(y, j) - part(x, j) * part(y, i);
    let third = minor(0, 1);
    if (m, n) == (2, 2) {
        return third;
    }
    // A vector of two components has 0 for the third.
    let first = match (m, n) {
        (3, 3) => minor(1, 2),
        (3, _) => -(part(x, 2) * part(y, 1)),
        _ => part(x, 1) * part(y, 2),
    };
    let second = match (m, n) {
        (3, 3) => minor(2, 0),
        (3, _) => part(x, 2) * part(y, 0),
        _ => -(part(x, 0) * part(y, 2)),
    };
    // The axis goes back to where it is in an operand of the result's rank.
    let axis = if axis < 0 { axis } else { axis - x.rank().min(y.rank()) as isize };
    Tensor::stack(&[&first, &second, &third], axis)
}

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
    let shape: Option<Shape> = super::super::operand::broadcast_shape(&coefficients.shape()[1..], x.shape());
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

/// The covariances of variables, the rows of a matrix, of which the columns are samples: `jax.numpy.cov`. A vector is
/// one variable, its variance a scalar. The sums are divided by the number of samples less 1.
///
/// # Errors
/// The result stands for an error if `x` has more than two axes.
#[track_caller]
pub fn cov(x: &Tensor) -> Tensor {
    if x.rank() > 2 {
        return x.reject("cov", format!("takes a matrix, not {}", x.ty()), Location::caller());
    }
    let x = super::atleast_2d(&x.inexact());
    let centred = &x - x.mean_keep(-1);
    let sums = centred.matmul(&centred.t());
    let cov = sums / (x.shape()[1] as f64 - 1.0);
    if x.shape()[0] == 1 { cov.reshape(&[]) } else { cov }
}

/// The correlations of variables, the rows of a matrix: `jax.numpy.corrcoef`.
///
/// # Errors
/// As [`cov`].
#[track_caller]
pub fn corrcoef(x: &Tensor) -> Tensor {
    let cov = cov(x);
    if cov.rank() == 0 {
        return &cov / &cov;
    }
    let deviation = cov.diag(0).sqrt();
    (cov / deviation.expand_dims(1) / deviation).clamp(-1.0, 1.0)
}
