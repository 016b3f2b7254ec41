//! Convolutions and correlations of two arrays: those of `jax.numpy` for vectors, and of `jax.scipy.signal`.
//!
//! In: arrays. Out: a convolution of one example of one feature, whose kernel is the second array, reversed.

use std::panic::Location;

use super::{Conv, Padding, conv_general_dilated};
use crate::error::Error;
use crate::front::Tensor;
use crate::front::operand::{Operand, promote_types, reject};
use crate::types::DType;

/// Which results of a convolution of two arrays there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All that depend on an element of each.
    #[default]
    Full,
    /// As many as the larger operand has elements (in [`convolve2d`], the first one), those in the middle.
    Same,
    /// Those that depend on all elements of the smaller operand.
    Valid,
}

/// `jax.numpy.convolve`: `z[n] = Σ_k a[k] v[n - k]` for vectors. Integers become f32.
///
/// ```
/// use fulgurite_jit::conv::{Mode, convolve};
/// use fulgurite_jit::Tensor;
/// let smooth = |x: &Tensor| convolve(x, &Tensor::literal(0.2, x.dtype()).broadcast_to(&[5]), Mode::Same);
/// ```
///
/// # Errors
/// The result stands for an error if an operand is no vector or is empty.
#[track_caller]
pub fn convolve(a: &Tensor, v: &Tensor, mode: Mode) -> Tensor {
    let location = Location::caller();
    let (a, v) = floats(a, v);
    if let Err(why) = vectors(&a, &v) {
        return reject(&[&a, &v], Error::op("convolve", why, location));
    }
    let (a, v) = if a.elements() < v.elements() { (v, a) } else { (a, v) };
    slid(&a, &v.rev(&[0]), &along(&v, mode))
}

/// `jax.numpy.correlate`: `z[n] = Σ_k a[n + k] v[k]` for vectors. Integers become f32.
///
/// # Errors
/// As [`convolve`].
#[track_caller]
pub fn correlate(a: &Tensor, v: &Tensor, mode: Mode) -> Tensor {
    let location = Location::caller();
    let (a, v) = floats(a, v);
    if let Err(why) = vectors(&a, &v) {
        return reject(&[&a, &v], Error::op("correlate", why, location));
    }
    if a.elements() < v.elements() {
        return slid(&v, &a, &along(&a, mode)).rev(&[0]);
    }
    slid(&a, &v, &along(&v, mode))
}

/// `jax.scipy.signal.convolve2d` (and `convolve`), with zeros outside: as [`convolve`], for arrays of as many axes, at
/// most 6. Of [`Mode::Same`], there are as many results as the first array has elements.
///
/// # Errors
/// The result stands for an error if the operands differ in rank, if one is empty, or if neither is the smaller one
/// along every axis.
#[track_caller]
pub fn convolve2d(a: &Tensor, v: &Tensor, mode: Mode) -> Tensor {
    let location = Location::caller();
    let (a, v) = floats(a, v);
    if let Err(why) = ordered(&a, &v) {
        return reject(&[&a, &v], Error::op("convolve2d", why, location));
    }
    convolved(&a, &v, mode)
}

/// `jax.scipy.signal.correlate2d` (and `correlate`), with zeros outside: as [`correlate`], for arrays of as many axes.
///
/// # Errors
/// As [`convolve2d`].
#[track_caller]
pub fn correlate2d(a: &Tensor, v: &Tensor, mode: Mode) -> Tensor {
    let location = Location::caller();
    let (a, v) = floats(a, v);
    if let Err(why) = ordered(&a, &v) {
        return reject(&[&a, &v], Error::op("correlate2d", why, location));
    }
    // As in SciPy, the larger operand is the one that is convolved with the other, reversed.
    let is_smaller = a.shape() != v.shape() && a.shape().iter().zip(v.shape()).all(|(a, v)| a <= v);
    match mode {
        Mode::Full | Mode::Valid if is_smaller => convolved(&turned(&v), &a, mode),
        Mode::Full | Mode::Valid | Mode::Same => turned(&convolved(&turned(&a), &v, mode)),
    }
}

/// Reversed along every axis.
#[track_caller]
fn turned(x: &Tensor) -> Tensor {
    x.rev(&(0..x.rank()).collect::<Vec<_>>())
}

/// The arrays are of one rank, with elements, and one is the smaller along every axis.
fn ordered(a: &Tensor, v: &Tensor) -> Result<(), String> {
    let pairs = || a.shape().iter().zip(v.shape());
    let is_ordered = pairs().all(|(a, v)| a >= v) || pairs().all(|(a, v)| a <= v);
    if a.rank() == v.rank() && a.elements() > 0 && v.elements() > 0 && is_ordered {
        return Ok(());
    }
    let (a, v) = (a.ty(), v.ty());
    Err(format!("takes arrays of one rank, one of them the smaller along every axis, not {a} and {v}"))
}

#[track_caller]
fn convolved(a: &Tensor, v: &Tensor, mode: Mode) -> Tensor {
    let second = v.shape().to_vec();
    let swap = a.shape().iter().zip(v.shape()).all(|(a, v)| a <= v);
    let (a, v) = if swap { (v, a) } else { (a, v) };
    let pad = |(&window, &second): (&usize, &usize)| {
        let (window, second) = (window as isize, second as isize);
        match mode {
            Mode::Valid => (0, 0),
            Mode::Same => (window - 1 - (second - 1) / 2, window - second + (second - 1) / 2),
            Mode::Full => (window - 1, window - 1),
        }
    };
    let pads: Vec<(isize, isize)> = v.shape().iter().zip(&second).map(pad).collect();
    slid(a, &turned(v), &pads)
}

/// Both as floats of one type.
#[track_caller]
fn floats(a: &Tensor, v: &Tensor) -> (Tensor, Tensor) {
    let (a, v) = promote_types(a.operand(), v.operand());
    if a.dtype().is_float() { (a, v) } else { (a.convert(DType::F32), v.convert(DType::F32)) }
}

fn vectors(a: &Tensor, v: &Tensor) -> Result<(), String> {
    let fits = |x: &Tensor| x.rank() == 1 && x.elements() > 0;
    if fits(a) && fits(v) { Ok(()) } else { Err(format!("takes vectors with elements, not {} and {}", a.ty(), v.ty())) }
}

/// The padding of the longer of two vectors.
fn along(v: &Tensor, mode: Mode) -> [(isize, isize); 1] {
    let n = v.elements() as isize;
    [match mode {
        Mode::Valid => (0, 0),
        Mode::Same => (n / 2, n - n / 2 - 1),
        Mode::Full => (n - 1, n - 1),
    }]
}

/// A convolution of one example of one feature.
#[track_caller]
fn slid(a: &Tensor, v: &Tensor, pads: &[(isize, isize)]) -> Tensor {
    let one = |x: &Tensor| x.reshape(&[&[1, 1], x.shape()].concat());
    let result = conv_general_dilated(&one(a), &one(v), Conv { padding: Padding::Explicit(pads), ..Conv::default() });
    if result.error().is_some() { result } else { result.reshape(&result.shape()[2..]) }
}
