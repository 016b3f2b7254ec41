//! Padding by what is there: `jax.numpy.pad` with its modes.
//!
//! Axes are padded one after the other, the later ones with what the earlier ones were padded with. Copies are slices
//! that are concatenated, so nothing is read at a computed place.

use std::panic::Location;

use crate::front::tensor::Tensor;
use crate::types::{DType, Kind, Shape};

/// What [`Tensor::pad_with`] puts around a tensor; the modes of `jax.numpy.pad`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// This number.
    Constant(f64),
    /// The element at the edge.
    Edge,
    /// The elements from the other end on.
    Wrap,
    /// The elements mirrored at the one at the edge, which is not repeated; if `odd`, twice that one less each of them.
    Reflect {
        /// Mirrored in value too.
        odd: bool,
    },
    /// The elements mirrored at the edge; if `odd`, twice the one at the edge less each of them.
    Symmetric {
        /// Mirrored in value too.
        odd: bool,
    },
    /// Equal steps from the element at the edge to this number.
    LinearRamp(f64),
    /// The maximum along the axis, of so many elements at that end if there is a number.
    Maximum(Option<usize>),
    /// The minimum, as [`PadMode::Maximum`].
    Minimum(Option<usize>),
    /// The mean, as [`PadMode::Maximum`].
    Mean(Option<usize>),
    /// The median, as [`PadMode::Maximum`].
    Median(Option<usize>),
}

impl Tensor {
    /// This with so many elements before and after those of each axis, which `mode` says: `jax.numpy.pad`.
    /// [`Tensor::pad`] is `jax.lax.pad`.
    ///
    /// ```
    /// use fulgurite_jit::{PadMode, Tensor};
    ///
    /// // Images [n, h, w] with a mirrored border of two.
    /// fn bordered(x: &Tensor) -> Tensor {
    ///     x.pad_with(&[(0, 0), (2, 2), (2, 2)], PadMode::Reflect { odd: false })
    /// }
    /// # let _ = bordered;
    /// ```
    ///
    /// # Errors
    /// The result stands for an error if there is not a pair for each axis, if an axis to be padded by copies is empty,
    /// and for a statistic of no elements.
    #[track_caller]
    pub fn pad_with(&self, width: &[(usize, usize)], mode: PadMode) -> Self {
        let location = Location::caller();
        if width.len() != self.rank() {
            let why = format!("takes two widths for each axis of {}, not {} pairs", self.ty(), width.len());
            return self.reject("pad", why, location);
        }
        if let PadMode::Constant(value) = mode {
            let value = Tensor::literal(value, self.dtype());
            let signed = |n: usize| isize::try_from(n).unwrap_or(isize::MAX);
            let (low, high): (Vec<isize>, Vec<isize>) = width.iter().map(|&(a, b)| (signed(a), signed(b))).unzip();
            return self.pad(value, &low, &high, &Shape::from_elem(0, self.rank()));
        }
        if matches!(
            mode,
            PadMode::Maximum(Some(0)) | PadMode::Minimum(Some(0)) | PadMode::Mean(Some(0)) | PadMode::Median(Some(0))
        ) {
            return self.reject("pad", "the statistic of no elements is no value".into(), location);
        }
        let mut x = self.clone();
        for (axis, &(before, after)) in width.iter().enumerate().filter(|(_, (before, after))| before + after > 0) {
            if x.shape()[axis] == 0 {
                return self.reject("pad", format!("axis {axis} of {} has no element to copy", self.ty()), location);
            }
            x = padded(&x, axis, [before, after], mode);
        }
        x
    }
}

/// The tensor with so many elements before and after those of one axis, which has some.
#[track_caller]
fn padded(x: &Tensor, axis: usize, [before, after]: [usize; 2], mode: PadMode) -> Tensor {
    let along = axis as isize;
    let n = x.shape()[axis];
    let part = |range: std::ops::Range<usize>| x.slice_in_dim(along, range);
    let around = |low: Tensor, high: Tensor| Tensor::concat(&[&low, x, &high], along);
    match mode {
        PadMode::Constant(_) => x.clone(),
        PadMode::Edge => around(part(0..1).repeat(before, along), part(n - 1..n).repeat(after, along)),
        PadMode::Wrap => {
            let mut parts = vec![part(n - before % n..n)];
            parts.extend(std::iter::repeat_n(x.clone(), before / n + 1 + after / n));
            parts.push(part(0..after % n));
            Tensor::concat(&parts.iter().collect::<Vec<_>>(), along)
        }
        PadMode::Reflect { odd } => {
            mirrored(&mirrored(x, axis, before, [true, n > 1, odd]), axis, after, [false, n > 1, odd])
        }
        PadMode::Symmetric { odd } => {
            mirrored(&mirrored(x, axis, before, [true, false, odd]), axis, after, [false, false, odd])
        }
        PadMode::LinearRamp(end) => {
            let float = if x.dtype().is_float() { x.dtype() } else { DType::F32 };
            let ramp = |edge: Tensor, count: usize| {
                let mut shape = Shape::from_elem(1, x.rank());
                shape[axis] = count;
                let share = Tensor::iota(float, &shape, axis) / count.max(1) as f64;
                let ramp = (1.0 - &share) * end + edge.convert(float) * share;
                if x.dtype().is_float() { ramp } else { ramp.floor().convert(x.dtype()) }
            };
            around(ramp(part(0..1), before), ramp(part(n - 1..n), after).rev(&[axis]))
        }
        PadMode::Maximum(length) => statistic(x, axis, [before, after], length, |x| x.max_keep(along)),
        PadMode::Minimum(length) => statistic(x, axis, [before, after], length, |x| x.min_keep(along)),
        PadMode::Mean(length) => statistic(x, axis, [before, after], length, |x| x.mean_keep(along)),
        PadMode::Median(length) => statistic(x, axis, [before, after], length, |x| x.median(along).expand_dims(along)),
    }
}

/// One side padded by mirroring what is there, as often as needed.
#[track_caller]
fn mirrored(x: &Tensor, axis: usize, width: usize, [before, skips_edge, odd]: [bool; 3]) -> Tensor {
    let along = axis as isize;
    let n = x.shape()[axis];
    let offset = usize::from(skips_edge);
    let end = |x: &Tensor, first: bool| {
        let extent = x.shape()[axis];
        if first { x.slice_in_dim(along, 0..1) } else { x.slice_in_dim(along, extent - 1..extent) }
    };
    let (mut x, mut edge, mut rest) = (x.clone(), end(x, before), width);
    while rest > 0 {
        let count = rest.min(n - offset);
        let extent = x.shape()[axis];
        let range = if before { offset..offset + count } else { extent - count - offset..extent - offset };
        let mut copy = x.slice_in_dim(along, range).rev(&[axis]);
        if odd {
            copy = &edge + &edge - copy;
            if n > 1 {
                edge = end(&copy, before);
            }
        }
        x = if before { Tensor::concat(&[&copy, &x], along) } else { Tensor::concat(&[&x, &copy], along) };
        rest -= count;
    }
    x
}

/// Padded by a statistic of the elements at each end.
#[track_caller]
fn statistic(
    x: &Tensor,
    axis: usize,
    [before, after]: [usize; 2],
    length: Option<usize>,
    of: impl Fn(&Tensor) -> Tensor,
) -> Tensor {
    let (along, n) = (axis as isize, x.shape()[axis]);
    let length = length.unwrap_or(n).min(n);
    let value = |range: std::ops::Range<usize>| {
        let value = of(&x.slice_in_dim(along, range));
        let value = if let Kind::Int { .. } = x.dtype().kind() { value.inexact_round() } else { value };
        value.convert(x.dtype())
    };
    let (low, high) = (value(0..length), value(n - length..n));
    Tensor::concat(&[&low.repeat(before, along), x, &high.repeat(after, along)], along)
}

impl Tensor {
    /// Rounded, if it is of floats.
    #[track_caller]
    fn inexact_round(&self) -> Self {
        if self.dtype().is_float() { self.round() } else { self.clone() }
    }
}
