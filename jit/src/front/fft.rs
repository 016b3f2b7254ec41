//! Fourier transforms, with the definitions of `jax.numpy.fft`.
//!
//! Complex numbers are pairs of tensors, [`Complex`]: there is no complex element type. Everything here is composed of
//! one op, `fft`, along the last axis; derivatives and batches follow.

use std::panic::Location;

use super::operand::{IntoAxes, reject};
use super::tensor::Tensor;
use super::trace::apply_all;
use super::tree::{Name, Tree, Visitor};
use crate::error::Error;
use crate::graph::Op;
use crate::types::{DType, Shape};

/// Complex numbers: two tensors of one shape and float type.
#[derive(Clone, Debug)]
pub struct Complex {
    /// The real parts.
    pub re: Tensor,
    /// The imaginary parts.
    pub im: Tensor,
}

impl Tree for Complex {
    fn visit<'t>(&'t self, visitor: &mut dyn Visitor<'t>) {
        for (name, part) in [("re", &self.re), ("im", &self.im)] {
            visitor.enter(Name::Field(name));
            part.visit(visitor);
            visitor.leave();
        }
    }
    fn visit_mut<'t>(&'t mut self, visitor: &mut dyn Visitor<'t>) {
        for (name, part) in [("re", &mut self.re), ("im", &mut self.im)] {
            visitor.enter(Name::Field(name));
            part.visit_mut(visitor);
            visitor.leave();
        }
    }
    fn map(&self, f: &mut dyn FnMut(&Tensor) -> Tensor) -> Self {
        Complex { re: f(&self.re), im: f(&self.im) }
    }
}

impl From<Tensor> for Complex {
    /// Real numbers, with imaginary parts of 0.
    fn from(re: Tensor) -> Self {
        let im = re.zeros_like();
        Complex { re, im }
    }
}

impl From<&Tensor> for Complex {
    fn from(re: &Tensor) -> Self {
        re.clone().into()
    }
}

impl Complex {
    /// Of both parts.
    pub fn new(re: Tensor, im: Tensor) -> Self {
        Complex { re, im }
    }

    /// With the imaginary parts negated.
    #[track_caller]
    pub fn conj(&self) -> Complex {
        Complex { re: self.re.clone(), im: -&self.im }
    }

    /// The magnitude, `√(re² + im²)`.
    #[track_caller]
    pub fn abs(&self) -> Tensor {
        (self.re.square() + self.im.square()).sqrt()
    }

    /// The angle, in radians from -π to π.
    #[track_caller]
    pub fn angle(&self) -> Tensor {
        self.im.atan2(&self.re)
    }

    #[track_caller]
    fn scaled(&self, by: f64) -> Complex {
        if by == 1.0 { self.clone() } else { Complex { re: &self.re * by, im: &self.im * by } }
    }

    fn each(&self, f: impl Fn(&Tensor) -> Tensor) -> Complex {
        Complex { re: f(&self.re), im: f(&self.im) }
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident |$x:ident, $y:ident| $result:expr;)*) => {$(
        impl std::ops::$trait<&Complex> for &Complex {
            type Output = Complex;
            #[track_caller]
            fn $method(self, other: &Complex) -> Complex {
                let ($x, $y) = (self, other);
                $result
            }
        }
        impl std::ops::$trait for Complex {
            type Output = Complex;
            #[track_caller]
            fn $method(self, other: Complex) -> Complex {
                std::ops::$trait::$method(&self, &other)
            }
        }
    )*};
}
operators! {
    Add add |x, y| Complex { re: &x.re + &y.re, im: &x.im + &y.im };
    Sub sub |x, y| Complex { re: &x.re - &y.re, im: &x.im - &y.im };
    Mul mul |x, y| Complex { re: &x.re * &y.re - &x.im * &y.im, im: &x.re * &y.im + &x.im * &y.re };
}

/// How the sums are scaled: JAX's argument `norm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Norm {
    /// The inverse is divided by the length.
    #[default]
    Backward,
    /// Both are divided by the square root of the length.
    Ortho,
    /// The forward transform is divided by the length.
    Forward,
}

impl Norm {
    fn factor(self, inverse: bool, n: usize) -> f64 {
        match (self, inverse) {
            (Norm::Backward, true) | (Norm::Forward, false) => 1.0 / n as f64,
            (Norm::Ortho, _) => 1.0 / (n as f64).sqrt(),
            (Norm::Backward, false) | (Norm::Forward, true) => 1.0,
        }
    }
}

/// The discrete Fourier transform along an axis, `y[k] = Σ_j x[j] e^{-2πi jk/n}`: `jax.numpy.fft.fft`. A negative axis
/// counts from the end. With `n` the axis is cut off or filled up with zeros to that length first.
///
/// `x` is of f32 or f64, complex or real; the result has its type, and its shape but for `n`.
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_jit::fft::{Norm, fft};
/// # fulgurite_jit::trace::trace(&[], |_| {
/// let x = Tensor::from_vec(&[4], vec![1.0f32, 2.0, 3.0, 4.0]).unwrap();
/// let y = fft(x, None, -1, Norm::Backward); // 10, -2 + 2i, -2, -2 - 2i
/// # vec![y.re]
/// # }).unwrap();
/// ```
///
/// # Errors
/// The result stands for an error if `x` is of another type, has no such axis, or `n` is 0.
#[track_caller]
pub fn fft(x: impl Into<Complex>, n: Option<usize>, axis: isize, norm: Norm) -> Complex {
    along("fft", false, &x.into(), n, axis, norm)
}

/// The inverse of [`fft`]: `jax.numpy.fft.ifft`.
///
/// # Errors
/// As [`fft`].
#[track_caller]
pub fn ifft(x: impl Into<Complex>, n: Option<usize>, axis: isize, norm: Norm) -> Complex {
    along("ifft", true, &x.into(), n, axis, norm)
}

/// The first `n / 2 + 1` elements of the transform of real numbers, which determine the others:
/// `jax.numpy.fft.rfft`.
///
/// # Errors
/// As [`fft`].
#[track_caller]
pub fn rfft(x: &Tensor, n: Option<usize>, axis: isize, norm: Norm) -> Complex {
    let y = along("rfft", false, &x.into(), n, axis, norm);
    match axis.into_axes(y.re.rank()) {
        Ok(axes) if y.re.error().is_none() => {
            let half = y.re.shape()[axes[0]] / 2 + 1;
            y.each(|part| part.slice_in_dim(axis, 0..half))
        }
        _ => y,
    }
}

/// The inverse of [`rfft`]: `n` real numbers, by default twice as many as elements but one: `jax.numpy.fft.irfft`.
///
/// # Errors
/// As [`fft`].
#[track_caller]
pub fn irfft(x: impl Into<Complex>, n: Option<usize>, axis: isize, norm: Norm) -> Tensor {
    let x = x.into();
    let Ok(axes) = axis.into_axes(x.re.rank()) else { return no_axis("irfft", &x, axis, Location::caller()).re };
    let n = n.unwrap_or(2 * x.re.shape()[axes[0]].saturating_sub(1));
    let half = cut("irfft", &x, n / 2 + 1, axes[0], Location::caller());
    // The other half is conjugate, in reverse.
    let mirrored = |part: &Tensor| part.slice_in_dim(axis, 1..n.div_ceil(2).max(1)).flip(axis);
    let all = Complex {
        re: Tensor::concat(&[&half.re, &mirrored(&half.re)], axis),
        im: Tensor::concat(&[&half.im, &-mirrored(&half.im)], axis),
    };
    along("irfft", true, &all, Some(n), axis, norm).re
}

/// [`fft`] along several axes, all of them unless given, each of the length in `s` where there is one:
/// `jax.numpy.fft.fftn`.
///
/// # Errors
/// As [`fft`], and if there are not as many lengths as axes.
#[track_caller]
pub fn fftn(x: impl Into<Complex>, s: Option<&[usize]>, axes: impl IntoAxes, norm: Norm) -> Complex {
    several("fftn", false, x.into(), s, axes, norm)
}

/// The inverse of [`fftn`]: `jax.numpy.fft.ifftn`.
///
/// # Errors
/// As [`fftn`].
#[track_caller]
pub fn ifftn(x: impl Into<Complex>, s: Option<&[usize]>, axes: impl IntoAxes, norm: Norm) -> Complex {
    several("ifftn", true, x.into(), s, axes, norm)
}

/// [`rfft`] along the last of the axes, [`fft`] along the others: `jax.numpy.fft.rfftn`.
///
/// # Errors
/// As [`fftn`].
#[track_caller]
pub fn rfftn(x: &Tensor, s: Option<&[usize]>, axes: impl IntoAxes, norm: Norm) -> Complex {
    match list("rfftn", &x.into(), s, axes, Location::caller()) {
        Err(error) => error,
        Ok(list) => {
            let Some((&(axis, n), others)) = list.split_last() else { return x.into() };
            let y = rfft(x, n, axis as isize, norm);
            others.iter().rev().fold(y, |y, &(axis, n)| along("rfftn", false, &y, n, axis as isize, norm))
        }
    }
}

/// The inverse of [`rfftn`]: `jax.numpy.fft.irfftn`.
///
/// # Errors
/// As [`fftn`].
#[track_caller]
pub fn irfftn(x: impl Into<Complex>, s: Option<&[usize]>, axes: impl IntoAxes, norm: Norm) -> Tensor {
    let x = x.into();
    match list("irfftn", &x, s, axes, Location::caller()) {
        Err(error) => error.re,
        Ok(list) => {
            let Some((&(axis, n), others)) = list.split_last() else { return x.re };
            let y = others.iter().fold(x, |y, &(axis, n)| along("irfftn", true, &y, n, axis as isize, norm));
            irfft(y, n, axis as isize, norm)
        }
    }
}

/// The frequencies of [`fft`] in cycles per unit of the sample spacing `d`, f32\[n\]: `jax.numpy.fft.fftfreq`.
#[track_caller]
pub fn fftfreq(n: usize, d: f64) -> Tensor {
    let number = Tensor::iota(DType::I32, &[n], 0);
    let wrapped = number.less(n.div_ceil(2) as i32).select(&number, &number - n as i32);
    wrapped.convert(DType::F32) / (d * n as f64)
}

/// The frequencies of [`rfft`], f32\[n / 2 + 1\]: `jax.numpy.fft.rfftfreq`.
#[track_caller]
pub fn rfftfreq(n: usize, d: f64) -> Tensor {
    Tensor::iota(DType::I32, &[n / 2 + 1], 0).convert(DType::F32) / (d * n as f64)
}

impl Tensor {
    /// Moves frequency 0 to the middle of each axis: `jax.numpy.fft.fftshift`.
    #[track_caller]
    pub fn fftshift(&self, axes: impl IntoAxes) -> Self {
        self.shifted("fftshift", axes, |n| n / 2)
    }

    /// The inverse of [`Tensor::fftshift`]: `jax.numpy.fft.ifftshift`.
    #[track_caller]
    pub fn ifftshift(&self, axes: impl IntoAxes) -> Self {
        self.shifted("ifftshift", axes, |n| n - n / 2)
    }

    #[track_caller]
    fn shifted(&self, op: &str, axes: impl IntoAxes, by: impl Fn(usize) -> usize) -> Self {
        match axes.into_axes(self.rank()) {
            Ok(axes) => axes.iter().fold(self.clone(), |x, &axis| x.roll(by(x.shape()[axis]) as isize, axis as isize)),
            Err(why) => reject(&[self], Error::op(op, why, Location::caller())),
        }
    }
}

/// A transform along one axis.
#[track_caller]
fn along(op: &str, inverse: bool, x: &Complex, n: Option<usize>, axis: isize, norm: Norm) -> Complex {
    let location = Location::caller();
    let rank = x.re.rank();
    let Ok(axes) = axis.into_axes(rank) else { return no_axis(op, x, axis, location) };
    let n = n.unwrap_or(x.re.shape()[axes[0]]);
    if n == 0 {
        let why = format!("{} has no elements along axis {axis}", x.re.ty());
        let error = Error::op(op, why, location);
        return x.each(|part| reject(&[part], error.clone()));
    }
    let x = cut(op, x, n, axes[0], location);
    let last = |part: &Tensor, from: usize, to: usize| if from == to { part.clone() } else { part.move_axis(from, to) };
    let parts = [&x.re, &x.im].map(|part| last(part, axes[0], rank - 1));
    let mut results = apply_all(Op::Fft { inverse }, &[&parts[0], &parts[1]], location).into_iter();
    let mut part = || results.next().map_or_else(|| parts[0].clone(), |part| last(&part, rank - 1, axes[0]));
    let y = Complex { re: part(), im: part() };
    y.scaled(norm.factor(inverse, n))
}

#[track_caller]
fn several(
    op: &'static str,
    inverse: bool,
    x: Complex,
    s: Option<&[usize]>,
    axes: impl IntoAxes,
    norm: Norm,
) -> Complex {
    match list(op, &x, s, axes, Location::caller()) {
        Err(error) => error,
        Ok(list) => list.iter().rev().fold(x, |x, &(axis, n)| along(op, inverse, &x, n, axis as isize, norm)),
    }
}

/// The axes and their lengths, or the poisoned result.
fn list(
    op: &str,
    x: &Complex,
    s: Option<&[usize]>,
    axes: impl IntoAxes,
    location: &'static Location<'static>,
) -> Result<Vec<(usize, Option<usize>)>, Complex> {
    let failed = |why: String| {
        let error = Error::op(op, why, location);
        x.each(|part| reject(&[part], error.clone()))
    };
    let axes = axes.into_axes(x.re.rank()).map_err(&failed)?;
    match s {
        Some(s) if s.len() != axes.len() => Err(failed(format!("{} lengths for {} axes", s.len(), axes.len()))),
        Some(s) => Ok(axes.iter().copied().zip(s.iter().copied().map(Some)).collect()),
        None => Ok(axes.iter().map(|&axis| (axis, None)).collect()),
    }
}

/// `x` cut off or filled up with zeros to `n` elements along an axis.
fn cut(op: &str, x: &Complex, n: usize, axis: usize, location: &'static Location<'static>) -> Complex {
    x.each(|part| {
        let extent = part.shape()[axis];
        if extent == n || part.error().is_some() {
            return part.clone();
        }
        if n > isize::MAX as usize || !part.dtype().is_float() {
            let why = format!("{} cannot have {n} elements along axis {axis}", part.ty());
            return reject(&[part], Error::op(op, why, location));
        }
        let mut high: Shape = part.shape().iter().map(|_| 0).collect();
        let low: Vec<isize> = vec![0; high.len()];
        if n < extent {
            return part.slice_in_dim(axis as isize, 0..n);
        }
        high[axis] = n - extent;
        let high: Vec<isize> = high.iter().map(|&x| x as isize).collect();
        part.pad(0.0, &low, &high, &vec![0; low.len()])
    })
}

fn no_axis(op: &str, x: &Complex, axis: isize, location: &'static Location<'static>) -> Complex {
    let error = Error::op(op, format!("{} has no axis {axis}", x.re.ty()), location);
    x.each(|part| reject(&[part], error.clone()))
}
