//! Reductions of windows, as in `jax.lax`: sums, products, extremes, means, any function.
//!
//! Comes in: a tensor and [`Windows`]. Goes out: one element for each window. The windows are a view (`shear` of copies
//! along new, leading axes, which no kernel makes), so a window's reduction is one loop, and its derivative another.
//! An extreme is the element of the window that is chosen, the first of several: so its derivatives of every order are
//! those of that element.

use std::panic::Location;

use smallvec::SmallVec;

use super::operand::{Operand, reject};
use super::tensor::Tensor;
use super::trace::apply;
use crate::error::Error;
use crate::graph::{Op, ReduceOp};
use crate::types::{Axes, DType, Shape};

/// Where the windows of an array lie: the parameters of `jax.lax.reduce_window`, by their names.
///
/// ```
/// use fulgurite_jit::{Tensor, Windows, reduce_window_max};
///
/// // 3 x 3 windows at every second row and column of images `[batch, channels, rows, columns]`.
/// fn pool(x: &Tensor) -> Tensor {
///     let windows = Windows::new(&[1, 1, 3, 3]).strides(&[1, 1, 2, 2]).padding(&[(0, 0), (0, 0), (1, 1), (1, 1)]);
///     reduce_window_max(x, &windows)
/// }
/// # let ty = fulgurite_jit::TensorType::new(fulgurite_jit::DType::F32, &[2, 3, 8, 8]);
/// # let graph = fulgurite_jit::trace::trace(&[ty], |x| vec![pool(&x[0])]).unwrap().graph;
/// # assert_eq!(graph.output_types()[0].shape[..], [2, 3, 4, 4]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Windows {
    dimensions: Shape,
    strides: Shape,
    padding: SmallVec<[(isize, isize); 4]>,
    base_dilation: Shape,
    window_dilation: Shape,
}

impl Windows {
    /// Windows of this extent along each axis, at every position, without padding.
    pub fn new(window_dimensions: &[usize]) -> Self {
        let rank = window_dimensions.len();
        let ones = Shape::from_elem(1, rank);
        Windows {
            dimensions: Shape::from_slice(window_dimensions),
            strides: ones.clone(),
            padding: SmallVec::from_elem((0, 0), rank),
            base_dilation: ones.clone(),
            window_dilation: ones,
        }
    }

    /// From one window to the next, per axis.
    pub fn strides(self, window_strides: &[usize]) -> Self {
        Windows { strides: Shape::from_slice(window_strides), ..self }
    }

    /// Before the first and behind the last element, per axis; what is negative cuts off. Padding has the value with
    /// which the reduction begins.
    pub fn padding(self, padding: &[(isize, isize)]) -> Self {
        Windows { padding: padding.into(), ..self }
    }

    /// The padding `"SAME"` for an array of this shape: there are as many windows as strides begin within the array.
    pub fn same(self, shape: &[usize]) -> Self {
        let each = |((&extent, &size), (&stride, &dilation)): ((&usize, &usize), (&usize, &usize))| {
            let (span, stride) = (size.saturating_sub(1) * dilation + 1, stride.max(1));
            let total = (extent.div_ceil(stride).saturating_sub(1) * stride + span).saturating_sub(extent) as isize;
            (total / 2, total - total / 2)
        };
        let sizes = shape.iter().zip(&self.dimensions);
        let padding = sizes.zip(self.strides.iter().zip(&self.window_dilation)).map(each).collect();
        Windows { padding, ..self }
    }

    /// From one element of the array to the next, per axis; padding lies between.
    pub fn base_dilation(self, base_dilation: &[usize]) -> Self {
        Windows { base_dilation: Shape::from_slice(base_dilation), ..self }
    }

    /// From one element of a window to the next, per axis.
    pub fn window_dilation(self, window_dilation: &[usize]) -> Self {
        Windows { window_dilation: Shape::from_slice(window_dilation), ..self }
    }

    /// What is wrong with them for `x`.
    fn check(&self, x: &Tensor) -> Result<(), String> {
        let lengths = [&self.dimensions, &self.strides, &self.base_dilation, &self.window_dilation].map(|x| x.len());
        if lengths.iter().chain(&[self.padding.len()]).any(|&n| n != x.rank()) {
            let what = "window, strides, padding and dilations";
            return Err(format!("needs {what} for each of the {} axes of {}", x.rank(), x.ty()));
        }
        let positive = [&self.dimensions, &self.strides, &self.base_dilation, &self.window_dilation];
        if positive.iter().any(|extents| extents.contains(&0)) {
            return Err("extents, strides and dilations of windows are at least 1".into());
        }
        let large = |&extent: &usize| extent > i32::MAX as usize;
        if positive.iter().any(|extents| extents.iter().any(large)) {
            return Err("extents, strides and dilations of windows are below 2³¹".into());
        }
        Ok(())
    }

    /// `x` between its padding.
    #[track_caller]
    fn padded(&self, x: &Tensor, value: &Tensor) -> Tensor {
        if self.padding.iter().all(|&pair| pair == (0, 0)) && self.base_dilation.iter().all(|&step| step == 1) {
            return x.clone();
        }
        let (low, high): (SmallVec<[isize; 4]>, SmallVec<[isize; 4]>) = self.padding.iter().copied().unzip();
        let interior: Shape = self.base_dilation.iter().map(|step| step - 1).collect();
        x.pad(value, &low, &high, &interior)
    }

    /// The number of windows along an axis of the padded array.
    fn count(&self, axis: usize, extent: usize) -> usize {
        let span = (self.dimensions[axis] - 1) * self.window_dilation[axis] + 1;
        extent.checked_sub(span).map_or(0, |rest| rest / self.strides[axis] + 1)
    }

    /// Whether the windows along an axis are a partition of it.
    fn is_partition(&self, axis: usize) -> bool {
        let size = self.dimensions[axis];
        size > 1 && self.strides[axis] == size && self.window_dilation[axis] == 1
    }

    /// The axes that have windows: those along which they overlap or have gaps, and those that they partition.
    fn axes(&self) -> (Axes, Axes) {
        let several = (0..self.dimensions.len()).filter(|&axis| self.dimensions[axis] > 1);
        several.partition(|&axis| !self.is_partition(axis))
    }

    /// The positions in a window as leading axes, in the order of [`Self::axes`]; behind them one for each window.
    #[track_caller]
    fn of(&self, padded: &Tensor) -> Tensor {
        let (overlapping, partitioned) = self.axes();
        let counts: Axes = padded.shape().iter().enumerate().map(|(axis, &n)| self.count(axis, n)).collect();
        // One element for each window along other axes; whole windows along those that are partitioned.
        let (mut limit, mut stride) = (Shape::from_slice(padded.shape()), Shape::from_elem(1, padded.rank()));
        for axis in 0..padded.rank() {
            if self.dimensions[axis] == 1 {
                stride[axis] = self.strides[axis];
            } else if partitioned.contains(&axis) {
                limit[axis] = counts[axis] * self.dimensions[axis];
            }
        }
        let mut x = padded.slice(&Shape::from_elem(0, padded.rank()), &limit, &stride);
        if !partitioned.is_empty() {
            let (shape, perm) = self.split(x.shape(), &partitioned);
            x = x.reshape(&shape).transpose(&perm);
        }
        if !overlapping.is_empty() {
            let mut shape: Shape = overlapping.iter().map(|&axis| self.dimensions[axis]).collect();
            shape.extend_from_slice(x.shape());
            let dims: Axes = (overlapping.len()..shape.len()).collect();
            x = x.broadcast_in_dim(&shape, &dims);
        }
        for (by, &of) in overlapping.iter().enumerate() {
            let (stride, step) = (self.strides[of], self.window_dilation[of]);
            let axis = overlapping.len() + partitioned.len() + of;
            x = apply(Op::Shear { axis, by, stride, step, extent: counts[of] }, &[&x], Location::caller());
        }
        x
    }

    /// The shape in which each axis that is partitioned is two, and the permutation that puts the second of each first.
    fn split(&self, shape: &[usize], partitioned: &[usize]) -> (Shape, Axes) {
        let (mut split, mut leading, mut rest) = (Shape::new(), Axes::new(), Axes::new());
        for (axis, &extent) in shape.iter().enumerate() {
            rest.push(split.len());
            if partitioned.contains(&axis) {
                split.push(extent / self.dimensions[axis]);
                leading.push(split.len());
                split.push(self.dimensions[axis]);
            } else {
                split.push(extent);
            }
        }
        leading.extend(rest);
        (split, leading)
    }

    /// The transpose of [`Self::of`] after [`Self::padded`], for an array of `shape`: elements of windows are added to
    /// the elements of the array that they are.
    #[track_caller]
    fn overlapped(&self, windows: &Tensor, shape: &[usize]) -> Tensor {
        let (overlapping, partitioned) = self.axes();
        let padded: Shape = (0..shape.len())
            .map(|axis| {
                let (low, high) = self.padding[axis];
                let spread = shape[axis] + shape[axis].saturating_sub(1) * (self.base_dilation[axis] - 1);
                (spread as isize + low + high).max(0) as usize
            })
            .collect();
        let leading = overlapping.len() + partitioned.len();
        let mut x = windows.clone();
        for (by, &of) in overlapping.iter().enumerate() {
            let (stride, step) = (self.strides[of], self.window_dilation[of]);
            let op = Op::Unshear { axis: leading + of, by, stride, step, extent: padded[of] };
            x = apply(op, &[&x], Location::caller());
        }
        x = x.sum_axes(&(0..overlapping.len()).collect::<Axes>());
        if !partitioned.is_empty() {
            let mut whole: Shape = Shape::from_slice(&x.shape()[partitioned.len()..]);
            partitioned.iter().for_each(|&axis| whole[axis] *= self.dimensions[axis]);
            let (_, perm) = self.split(&whole, &partitioned);
            let mut back = Axes::from_elem(0, perm.len());
            perm.iter().enumerate().for_each(|(to, &from)| back[from] = to);
            x = x.transpose(&back).reshape(&whole);
        }
        // What the view left out, and then what is padding.
        let (mut high, mut interior) = (Axes::from_elem(0, shape.len()), Shape::from_elem(0, shape.len()));
        let none: SmallVec<[isize; 4]> = SmallVec::from_elem(0, shape.len());
        for axis in 0..shape.len() {
            if self.dimensions[axis] == 1 {
                interior[axis] = self.strides[axis] - 1;
            }
            let extent = x.shape()[axis];
            high[axis] = padded[axis] - (extent + extent.saturating_sub(1) * interior[axis]).min(padded[axis]);
        }
        let high: SmallVec<[isize; 4]> = high.iter().map(|&n| n as isize).collect();
        x = x.pad(0, &none, &high, &interior);
        let (low, high): (SmallVec<[isize; 4]>, SmallVec<[isize; 4]>) =
            self.padding.iter().map(|&(low, high)| (-low, -high)).unzip();
        x = x.pad(0, &low, &high, &Shape::from_elem(0, shape.len()));
        let limit = Shape::from_slice(x.shape());
        x.slice(&Shape::from_elem(0, shape.len()), &limit, &self.base_dilation)
    }

    /// The leading axes of [`Self::of`].
    fn positions(&self) -> Axes {
        (0..self.dimensions.iter().filter(|&&size| size > 1).count()).collect()
    }

    /// Which element of each window is its extreme: the first of several; NaN if there is one.
    #[track_caller]
    fn chosen(&self, windows: &Tensor, op: ReduceOp) -> Tensor {
        let (positions, shape) = (self.positions(), windows.shape());
        let kept: Axes = (positions.len()..windows.rank()).collect();
        let x = windows.stop_gradient();
        let extreme = x.reduce(op, &positions).broadcast_in_dim(shape, &kept);
        let mut found = x.equal(extreme);
        if x.dtype().is_float() {
            found = found.or(x.not_equal(&x));
        }
        let (overlapping, partitioned) = self.axes();
        let mut position = Tensor::literal(0, DType::I32).broadcast_to(shape);
        for (leading, axis) in overlapping.into_iter().chain(partitioned).enumerate() {
            let step: usize = self.dimensions[axis + 1..].iter().product();
            let along = Tensor::iota(DType::I32, shape, leading);
            position = position + if step == 1 { along } else { along * step };
        }
        let first = found.select(&position, i32::MAX).reduce(ReduceOp::Min, &positions);
        position.equal(first.broadcast_in_dim(shape, &kept))
    }
}

/// How the element of a window is chosen: [`Pick::Ge`] the largest, [`Pick::Le`] the smallest; the first of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pick {
    /// An element stays that is greater than or equal to those behind it.
    Ge,
    /// An element stays that is less than or equal to those behind it.
    Le,
}

impl Pick {
    fn op(self) -> ReduceOp {
        match self {
            Pick::Ge => ReduceOp::Max,
            Pick::Le => ReduceOp::Min,
        }
    }
}

/// The reduction of each window by `f`, from `init` on, in row-major order of the window: `jax.lax.reduce_window`.
///
/// `f` takes and gives tensors of one shape, and of the type of `x`; `init` is a number or a scalar tensor, and the
/// value of padding. The kernel has an application of `f` for each element of a window. For sums and extremes there are
/// [`reduce_window_sum`], [`reduce_window_max`] and [`reduce_window_min`], whose kernels are loops.
///
/// ```
/// use fulgurite_jit::{Tensor, Windows, reduce_window};
///
/// /// The largest magnitude of three neighbours.
/// fn peak(x: &Tensor) -> Tensor {
///     reduce_window(x, 0.0, |x, y| x.abs().maximum(y.abs()), &Windows::new(&[3]))
/// }
/// # let ty = fulgurite_jit::TensorType::new(fulgurite_jit::DType::F32, &[8]);
/// # fulgurite_jit::trace::trace(&[ty], |x| vec![peak(&x[0])]).unwrap();
/// ```
///
/// # Errors
/// The result stands for an error if the windows are not of the rank of `x`, or if one of their numbers is 0.
#[track_caller]
pub fn reduce_window(
    x: &Tensor,
    init: impl Operand,
    f: impl Fn(&Tensor, &Tensor) -> Tensor,
    windows: &Windows,
) -> Tensor {
    if let Err(why) = windows.check(x) {
        return reject(&[x], Error::op("reduce_window", why, Location::caller()));
    }
    let init = init.operand().into_tensor(x.dtype());
    let padded = windows.padded(x, &init);
    let counts: Shape = padded.shape().iter().enumerate().map(|(axis, &n)| windows.count(axis, n)).collect();
    let mut total = init.broadcast_to(&counts);
    if total.elements() == 0 {
        return total;
    }
    let taps: usize = windows.dimensions.iter().product();
    for tap in 0..taps {
        let (mut rest, mut start, mut limit) = (tap, Shape::from_elem(0, counts.len()), counts.clone());
        for axis in (0..counts.len()).rev() {
            start[axis] = rest % windows.dimensions[axis] * windows.window_dilation[axis];
            limit[axis] = start[axis] + (counts[axis] - 1) * windows.strides[axis] + 1;
            rest /= windows.dimensions[axis];
        }
        total = f(&total, &padded.slice(&start, &limit, &windows.strides));
    }
    total
}

/// A reduction of each window by an op, which is differentiated as the op is.
#[track_caller]
fn reduced(x: &Tensor, op: ReduceOp, windows: &Windows) -> Tensor {
    if let Err(why) = windows.check(x) {
        return reject(&[x], Error::op("reduce_window", why, Location::caller()));
    }
    let padded = windows.padded(x, &op.identity(x.dtype()).array().into());
    windows.of(&padded).reduce(op, &windows.positions())
}

/// The extreme of each window, differentiated as the element that it is.
#[track_caller]
fn extreme(x: &Tensor, pick: Pick, windows: &Windows) -> Tensor {
    if x.dtype().is_float() { select_and_gather_add(x, x, pick, windows) } else { reduced(x, pick.op(), windows) }
}

/// The sum of each window: `jax.lax.reduce_window` by `add`, from 0 on. Integers wrap.
///
/// # Errors
/// The result stands for an error if the windows are not of the rank of `x`, if one of their numbers is 0, or if `x` is
/// of bools.
#[track_caller]
pub fn reduce_window_sum(x: &Tensor, windows: &Windows) -> Tensor {
    reduced(x, ReduceOp::Sum, windows)
}

/// The product of each window: `jax.lax.reduce_window` by `mul`, from 1 on.
///
/// # Errors
/// As [`reduce_window_sum`].
#[track_caller]
pub fn reduce_window_prod(x: &Tensor, windows: &Windows) -> Tensor {
    reduced(x, ReduceOp::Prod, windows)
}

/// The largest element of each window, NaN if there is one: `jax.lax.reduce_window` by `max`, from the least value on.
/// The derivative is that of the first of equal elements.
///
/// # Errors
/// As [`reduce_window_sum`].
#[track_caller]
pub fn reduce_window_max(x: &Tensor, windows: &Windows) -> Tensor {
    extreme(x, Pick::Ge, windows)
}

/// The smallest element of each window, NaN if there is one: `jax.lax.reduce_window` by `min`, from the greatest value
/// on. The derivative is that of the first of equal elements.
///
/// # Errors
/// As [`reduce_window_sum`].
#[track_caller]
pub fn reduce_window_min(x: &Tensor, windows: &Windows) -> Tensor {
    extreme(x, Pick::Le, windows)
}

/// The mean of each window. Padding counts as elements of 0 if `count_include_pad`, or else not at all:
/// `flax.linen.avg_pool`.
///
/// # Errors
/// As [`reduce_window_sum`].
#[track_caller]
pub fn avg_pool(x: &Tensor, windows: &Windows, count_include_pad: bool) -> Tensor {
    let sums = reduce_window_sum(x, windows);
    let size: usize = windows.dimensions.iter().product();
    if count_include_pad { sums / size as f64 } else { sums / reduce_window_sum(&x.ones_like(), windows) }
}

/// Of each window of `operand` an element is chosen, and the result is the element of `tangents` at its place: the
/// tangent of [`reduce_window_max`] and [`reduce_window_min`], as `select_and_gather_add` is in JAX. Where padding is
/// chosen it is 0; of `operand` as tangents, it is the padding.
///
/// # Errors
/// As [`reduce_window_sum`], and if the shapes of `tangents` and `operand` differ.
#[track_caller]
pub fn select_and_gather_add(tangents: &Tensor, operand: &Tensor, pick: Pick, windows: &Windows) -> Tensor {
    if let Err(why) = windows.check(operand) {
        return reject(&[operand], Error::op("reduce_window", why, Location::caller()));
    }
    if tangents.shape() != operand.shape() {
        let why = format!("{} and {} differ in shape", tangents.ty(), operand.ty());
        return reject(&[tangents, operand], Error::op("select_and_gather_add", why, Location::caller()));
    }
    let value: Tensor = pick.op().identity(operand.dtype()).array().into();
    let of_operand = windows.of(&windows.padded(operand, &value));
    let is_same = tangents.dtype() == operand.dtype() && std::ptr::eq(tangents, operand);
    let of_tangents = match is_same {
        true => of_operand.clone(),
        false => windows.of(&windows.padded(tangents, &Tensor::literal(0, tangents.dtype()))),
    };
    let positions = windows.positions();
    if positions.is_empty() {
        return of_tangents;
    }
    windows.chosen(&of_operand, pick.op()).select(of_tangents, 0).reduce(ReduceOp::Sum, &positions)
}

/// Of each window of `operand` an element is chosen, and the element of `source` for the window is added at its place
/// to an array of zeros of the shape of `operand`: `select_and_scatter` of StableHLO and `select_and_scatter_add` of
/// JAX, the gradient of max pooling.
///
/// # Errors
/// As [`reduce_window_sum`], and if `source` has not an element for each window.
#[track_caller]
pub fn select_and_scatter_add(operand: &Tensor, source: &Tensor, pick: Pick, windows: &Windows) -> Tensor {
    if let Err(why) = windows.check(operand) {
        return reject(&[operand], Error::op("select_and_scatter_add", why, Location::caller()));
    }
    let value: Tensor = pick.op().identity(operand.dtype()).array().into();
    let of_operand = windows.of(&windows.padded(operand, &value));
    let positions = windows.positions();
    if of_operand.shape()[positions.len()..] != *source.shape() {
        let why = format!("{} has not an element for each window of {}", source.ty(), operand.ty());
        return reject(&[operand, source], Error::op("select_and_scatter_add", why, Location::caller()));
    }
    let kept: Axes = (positions.len()..of_operand.rank()).collect();
    let mut added = source.broadcast_in_dim(of_operand.shape(), &kept);
    if !positions.is_empty() {
        added = windows.chosen(&of_operand, pick.op()).select(added, 0);
    }
    windows.overlapped(&added, operand.shape())
}
