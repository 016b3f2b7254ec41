//! Images of another size: `jax.image.resize` and `jax.image.scale_and_translate`.
//!
//! Comes in: an array and the shape that it is to have. Goes out: along each axis that changes, a product with a matrix
//! of weights, which a kernel (triangular, cubic, Lanczos, overlap) has at the distance of each new place from each old
//! one. The nearest neighbours are gathered.

use std::f64::consts::PI;
use std::panic::Location;

use super::indexing::IndexMode;
use super::operand::{reject, resolve};
use super::tensor::Tensor;
use crate::error::Error;
use crate::graph::{DotAxes, Precision};
use crate::types::DType;

/// How an image is resampled: `jax.image.ResizeMethod`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResizeMethod {
    /// The nearest element.
    Nearest,
    /// Linear interpolation.
    Linear,
    /// Lanczos' kernel of radius 3.
    Lanczos3,
    /// Lanczos' kernel of radius 5.
    Lanczos5,
    /// Cubic interpolation by Keys' kernel with a = -½: R. G. Keys, "Cubic convolution interpolation for digital image
    /// processing", IEEE Transactions on Acoustics, Speech, and Signal Processing 29(6), 1981.
    Cubic,
    /// As PyTorch: with antialiasing as [`ResizeMethod::Cubic`], without it a = -¾, and edges repeat.
    CubicPytorch,
    /// The mean of the area of each element.
    Area,
}

impl ResizeMethod {
    /// How many elements its kernel reaches.
    fn radius(self) -> usize {
        match self {
            ResizeMethod::Nearest | ResizeMethod::Linear | ResizeMethod::Area => 1,
            ResizeMethod::Cubic | ResizeMethod::CubicPytorch => 2,
            ResizeMethod::Lanczos3 => 3,
            ResizeMethod::Lanczos5 => 5,
        }
    }

    /// The weight of an element at a distance `x` ≥ 0.
    #[track_caller]
    fn weight(self, x: &Tensor) -> Tensor {
        match self {
            ResizeMethod::Lanczos3 | ResizeMethod::Lanczos5 => {
                // radius sin(πx) sin(πx/radius) / (πx)², and 1 around 0.
                let radius = self.radius() as f64;
                let y = (x * PI).sin() * (x * PI / radius).sin() * radius;
                let square = x.not_equal(0.0).select(x.square() * (PI * PI), 1.0);
                let out = x.greater(1e-3).select(y / square, 1.0);
                x.greater(radius).select(0.0, out)
            }
            ResizeMethod::Cubic => {
                let out = (x * 1.5 - 2.5) * x * x + 1.0;
                let out = x.greater_equal(1.0).select(((x * -0.5 + 2.5) * x - 4.0) * x + 2.0, out);
                x.greater_equal(2.0).select(0.0, out)
            }
            ResizeMethod::CubicPytorch => {
                let a = -0.75;
                let out = (x * (a + 2.0) - (a + 3.0)) * x * x + 1.0;
                let out = x.greater_equal(1.0).select(((x * a - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a, out);
                x.greater_equal(2.0).select(0.0, out)
            }
            ResizeMethod::Nearest | ResizeMethod::Linear | ResizeMethod::Area => (1.0_f64 - x).maximum(0.0),
        }
    }
}

/// How the `m` elements of an axis make `n` others.
struct Resampling<'a> {
    m: usize,
    n: usize,
    scale: &'a Tensor,
    translation: &'a Tensor,
    method: ResizeMethod,
    antialias: bool,
}

impl Resampling<'_> {
    /// The weights `[m, n]` of each old element in each new one.
    #[track_caller]
    fn weights(&self) -> Tensor {
        let (m, n, dtype) = (self.m, self.n, self.scale.dtype());
        // Keys' kernel of PyTorch is the one without antialiasing; there edges repeat.
        let repeats = self.method == ResizeMethod::CubicPytorch && !self.antialias;
        let method =
            if repeats || self.method != ResizeMethod::CubicPytorch { self.method } else { ResizeMethod::Cubic };
        let inverse = self.scale.recip();
        let shift = self.translation * &inverse;
        let sample = (Tensor::arange(dtype, n) + 0.5) * &inverse - &shift - 0.5;
        let beyond = if repeats { method.radius() } else { 0 };
        let count = m + 2 * beyond;
        let old = (Tensor::arange(dtype, count) - beyond as f64).reshape(&[count, 1]);
        let weights = if method == ResizeMethod::Area {
            // The overlap of the new element, [left, right], with the old one, [old, old + 1].
            let left = (Tensor::arange(dtype, n) * &inverse - &shift).reshape(&[1, n]);
            let right = &left + &inverse;
            (right.minimum(&old + 1.0) - left.maximum(&old)).maximum(0.0)
        } else {
            let distance = (sample.reshape(&[1, n]) - &old).abs();
            let wide = if self.antialias { distance / inverse.maximum(1.0) } else { distance };
            method.weight(&wide)
        };
        let weights = if beyond > 0 { folded(&weights, beyond) } else { weights };
        let total = weights.sum_keep(0);
        let is_some = total.abs().greater(1000.0 * f64::from(f32::EPSILON));
        let normal = &weights / total.equal(0.0).select(1.0, &total);
        let weights = is_some.broadcast_to(weights.shape()).select(normal, 0.0);
        if repeats {
            return weights;
        }
        // New elements beside the old ones are 0.
        let inside = sample.greater_equal(-0.5).and(sample.less_equal(m as f64 - 0.5));
        inside.reshape(&[1, n]).broadcast_to(weights.shape()).select(weights, 0.0)
    }
}

/// The weights of elements beyond the edges are those of the elements at the edges.
#[track_caller]
fn folded(weights: &Tensor, beyond: usize) -> Tensor {
    let m = weights.shape()[0] - 2 * beyond;
    if m < 2 {
        return weights.sum_keep(0);
    }
    let first = weights.slice_in_dim(0, 0..beyond + 1).sum_keep(0);
    let last = weights.slice_in_dim(0, beyond + m - 1..2 * beyond + m).sum_keep(0);
    Tensor::concat(&[&first, &weights.slice_in_dim(0, beyond + 1..beyond + m - 1), &last], 0)
}

/// The product along `axis` with the weights of each old element in each new one.
#[track_caller]
fn resampled(x: &Tensor, axis: usize, how: &Resampling<'_>) -> Tensor {
    let weights = how.weights().convert(x.dtype());
    let axes = DotAxes { contract: std::iter::once((axis, 0)).collect(), ..DotAxes::default() };
    x.dot_general_in(&weights, axes, Some(Precision::Highest)).moveaxis(-1, axis as isize)
}

/// The float type in which places are computed.
fn places(x: &Tensor) -> DType {
    if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 }
}

/// `image` of another shape: `jax.image.resize`. Integers become f32, but for [`ResizeMethod::Nearest`].
///
/// `antialias` says whether a smaller image is made of the means of several elements; [`ResizeMethod::Nearest`] and
/// [`ResizeMethod::Area`] do not ask for it.
///
/// ```
/// use fulgurite_jit::{ResizeMethod, Tensor, image_resize};
///
/// /// Images `[batch, rows, columns, channels]` of half the size.
/// fn halved(x: &Tensor) -> Tensor {
///     let [batch, rows, columns, channels] = x.shape() else { panic!("no images: {}", x.ty()) };
///     image_resize(x, &[*batch, rows / 2, columns / 2, *channels], ResizeMethod::Linear, true)
/// }
/// # let ty = fulgurite_jit::TensorType::new(fulgurite_jit::DType::F32, &[2, 8, 6, 3]);
/// # fulgurite_jit::trace::trace(&[ty], |x| vec![halved(&x[0])]).unwrap();
/// ```
///
/// # Errors
/// The result stands for an error if the shape has another number of axes, and if an axis of extent 0 is to have
/// elements.
#[track_caller]
pub fn image_resize(image: &Tensor, shape: &[usize], method: ResizeMethod, antialias: bool) -> Tensor {
    if let Err(why) = check(image, shape) {
        return reject(&[image], Error::op("image_resize", why, Location::caller()));
    }
    let mut x = if method == ResizeMethod::Nearest { image.clone() } else { image.inexact() };
    let dtype = places(&x);
    for (axis, &n) in shape.iter().enumerate() {
        let m = x.shape()[axis];
        if m == n {
            continue;
        }
        if method == ResizeMethod::Nearest {
            // In f32, as in JAX.
            let nearest = |i: usize| ((i as f32 + 0.5) * m as f32 / n as f32).floor() as i32;
            let nearest = Tensor::from_vec(&[n], (0..n).map(nearest).collect::<Vec<i32>>());
            x = match nearest {
                Ok(nearest) => x.take_with(&nearest, axis as isize, IndexMode::Clip),
                Err(error) => return reject(&[image], error),
            };
            continue;
        }
        let scale = Tensor::literal(if n == 0 { 1.0 } else { n as f64 / m as f64 }, dtype);
        let translation = Tensor::literal(0.0, dtype);
        let how = Resampling { m, n, scale: &scale, translation: &translation, method, antialias };
        x = resampled(&x, axis, &how);
    }
    x
}

/// `image` of another shape, with its axes `spatial_dims` scaled and moved: element `x` is at `x scale + translation`,
/// elements being half a unit from their edges: `jax.image.scale_and_translate`. What lies beside the image is 0.
///
/// `scale` and `translation` have an element for each of `spatial_dims`, and derivatives. Other axes keep their extent.
///
/// # Errors
/// As [`image_resize`]; and for [`ResizeMethod::Nearest`], an axis that is not there, or named twice, other axes whose
/// extents change, and another number of scales or translations.
#[track_caller]
pub fn scale_and_translate(
    image: &Tensor,
    shape: &[usize],
    spatial_dims: &[isize],
    scale: &Tensor,
    translation: &Tensor,
    method: ResizeMethod,
    antialias: bool,
) -> Tensor {
    let axes: Option<Vec<usize>> = spatial_dims.iter().map(|&axis| resolve(axis, image.rank())).collect();
    let why = match &axes {
        _ if method == ResizeMethod::Nearest => Err("does not take the nearest elements".to_string()),
        None => Err(format!("{} has not all of the axes {spatial_dims:?}", image.ty())),
        Some(axes) if (1..axes.len()).any(|i| axes[..i].contains(&axes[i])) => {
            Err(format!("an axis of {spatial_dims:?} is named twice"))
        }
        Some(axes) if [scale, translation].iter().any(|x| x.shape() != [axes.len()]) => {
            let (scale, translation) = (scale.ty(), translation.ty());
            Err(format!("{} axes are scaled by {scale} and moved by {translation}", axes.len()))
        }
        Some(axes) => check(image, shape).and_then(|()| {
            let other = (0..shape.len()).find(|axis| !axes.contains(axis) && shape[*axis] != image.shape()[*axis]);
            other.map_or(Ok(()), |axis| Err(format!("axis {axis} of {} is not to be scaled", image.ty())))
        }),
    };
    if let Err(why) = why {
        return reject(&[image, scale, translation], Error::op("scale_and_translate", why, Location::caller()));
    }
    let mut x = image.inexact();
    let (scale, translation) = scale.inexact().promoted(&translation.inexact());
    for (i, axis) in axes.into_iter().flatten().enumerate() {
        let (scale, translation) = (scale.index_in_dim(i, 0), translation.index_in_dim(i, 0));
        let (m, n) = (x.shape()[axis], shape[axis]);
        let how = Resampling { m, n, scale: &scale, translation: &translation, method, antialias };
        x = resampled(&x, axis, &how);
    }
    x
}

fn check(image: &Tensor, shape: &[usize]) -> Result<(), String> {
    if shape.len() != image.rank() {
        return Err(format!("{} and the shape {shape:?} differ in rank", image.ty()));
    }
    match (0..shape.len()).find(|&axis| image.shape()[axis] == 0 && shape[axis] > 0) {
        Some(axis) => Err(format!("axis {axis} of {} has no elements to make others of", image.ty())),
        None => Ok(()),
    }
}
