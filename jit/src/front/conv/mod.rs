//! Convolutions, with the definitions of `jax.lax`, `jax.numpy` and `jax.scipy.signal`.
//!
//! In: operands, and a [`Conv`]. Out: one op, `conv`, or a few. The layers are in the trainer's `nn`.

mod signal;

use std::panic::Location;

pub use signal::{Mode, convolve, convolve2d, correlate, correlate2d};

use super::operand::reject;
use super::precision::matmul_precision;
use super::tensor::Tensor;
use super::trace::apply;
use crate::error::Error;
use crate::graph::{ConvDims, Op, Precision, dilated, infer};
use crate::types::{Axes, DType, Shape, TensorType, product};

/// What is around the left operand of a convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding<'a> {
    /// Nothing: every window is inside.
    #[default]
    Valid,
    /// So many zeros that there are `⌈extent / stride⌉` results: half of them before, and the odd one after.
    Same,
    /// As [`Padding::Same`], the odd one before.
    SameLower,
    /// Zeros before and after, per spatial axis; negative numbers cut off.
    Explicit(&'a [(isize, isize)]),
}

impl Padding<'_> {
    /// Zeros before and after, per spatial axis, as `jax.lax.padtype_to_pads`: for operands of these extents, windows
    /// of these extents (with their dilation) and these strides.
    pub fn pads(&self, extents: &[usize], windows: &[usize], strides: &[usize]) -> Vec<(isize, isize)> {
        let same = |axis: usize, lower: bool| {
            let (extent, window, stride) = (extents[axis], windows[axis], strides[axis].max(1));
            let results = extent.div_ceil(stride) as i128;
            let total = (results - 1) * stride as i128 + window as i128 - extent as i128;
            let total = total.clamp(0, isize::MAX as i128) as isize;
            let low = if lower { total - total / 2 } else { total / 2 };
            (low, total - low)
        };
        match *self {
            Padding::Valid => vec![(0, 0); extents.len()],
            Padding::Same => (0..extents.len()).map(|axis| same(axis, false)).collect(),
            Padding::SameLower => (0..extents.len()).map(|axis| same(axis, true)).collect(),
            Padding::Explicit(pads) => pads.to_vec(),
        }
    }
}

/// How operands are convolved: the arguments of `jax.lax.conv_general_dilated`, with its defaults.
///
/// ```
/// use fulgurite_jit::conv::{Conv, Padding};
/// let depthwise = |channels: usize| Conv {
///     padding: Padding::Same,
///     dimension_numbers: Some(["NHWC", "HWIO", "NHWC"]),
///     feature_group_count: channels,
///     ..Conv::default()
/// };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Conv<'a> {
    /// How far the window moves, per spatial axis; 1 where it is empty.
    pub window_strides: &'a [usize],
    /// What is around the left operand.
    pub padding: Padding<'a>,
    /// Steps from one element of the left operand to the next, with zeros between, per spatial axis; 1 where it is
    /// empty. More than 1 makes a transposed convolution.
    pub lhs_dilation: &'a [usize],
    /// Steps from one element of the window to the next, likewise.
    pub rhs_dilation: &'a [usize],
    /// The axes of the left operand, the right one and the result, a letter each: `N` batch, `C` features, and in the
    /// right one `O` features of the result and `I` of the left operand; any other letter is a spatial axis, in the
    /// order of the right operand. `["NCHW", "OIHW", "NCHW"]` and the like where it is `None`.
    pub dimension_numbers: Option<[&'a str; 3]>,
    /// In how many groups the features are divided; each group of results is of a group of features.
    pub feature_group_count: usize,
    /// In how many groups the batch is divided; each gives a group of features of the result.
    pub batch_group_count: usize,
    /// The element type of sums and result; that of the operands where it is `None`.
    pub preferred_element_type: Option<DType>,
    /// The precision of products of f32; that of [`with_matmul_precision`](crate::with_matmul_precision) where it is
    /// `None`.
    pub precision: Option<Precision>,
}

impl Default for Conv<'_> {
    fn default() -> Self {
        Conv {
            window_strides: &[],
            padding: Padding::Valid,
            lhs_dilation: &[],
            rhs_dilation: &[],
            dimension_numbers: None,
            feature_group_count: 1,
            batch_group_count: 1,
            preferred_element_type: None,
            precision: None,
        }
    }
}

/// A convolution: `jax.lax.conv_general_dilated`. As in machine learning, the kernel is not reversed.
///
/// Both operands have one element type, numbers, and `n + 2` axes for `n` spatial ones, `n` from 0 to 6. The left one
/// is `[N, C, …]`, the right one, the kernel, is `[O, C / feature_group_count, …]`, the result
/// `[N / batch_group_count, O, …]`, unless [`Conv::dimension_numbers`] says otherwise. Along each spatial axis there
/// are `⌊(padded - window) / stride⌋ + 1` results, or none where the window does not fit. Integers wrap. Sums of bf16
/// and f16 are of f32, rounded once.
///
/// ```
/// use fulgurite_jit::conv::{Conv, Padding, conv_general_dilated};
/// use fulgurite_jit::Tensor;
///
/// fn layer(images: &Tensor, kernel: &Tensor) -> Tensor {
///     // [16, 3, 32, 32] with [8, 3, 3, 3] gives [16, 8, 16, 16].
///     let how = Conv { window_strides: &[2, 2], padding: Padding::Same, ..Conv::default() };
///     conv_general_dilated(images, kernel, how)
/// }
/// # use fulgurite_jit::{DType, TensorType};
/// # let types = [&[16, 3, 32, 32][..], &[8, 3, 3, 3]].map(|shape| TensorType::new(DType::F32, shape));
/// # let graph = fulgurite_jit::trace::trace(&types, |x| vec![layer(&x[0], &x[1])]).unwrap().graph;
/// # assert_eq!(graph.output_types()[0].shape[..], [16, 8, 16, 16]);
/// ```
///
/// # Errors
/// The result stands for an error if the operands differ in type or are bools, if axes, groups or features do not go
/// together, if a list has not an entry per spatial axis, if a stride or a dilation is 0, and if `Same` padding goes
/// with a dilation of the left operand.
#[track_caller]
pub fn conv_general_dilated(lhs: &Tensor, rhs: &Tensor, how: Conv<'_>) -> Tensor {
    let location = Location::caller();
    match dims(lhs.shape(), rhs.shape(), &how) {
        Ok(dims) => recorded(lhs, rhs, dims, &how, location),
        Err(why) => reject(&[lhs, rhs], Error::op("conv_general_dilated", why, location)),
    }
}

/// The op, in the element type that is preferred.
fn recorded(
    lhs: &Tensor,
    rhs: &Tensor,
    dims: ConvDims,
    how: &Conv<'_>,
    location: &'static Location<'static>,
) -> Tensor {
    if lhs.dtype() != rhs.dtype() {
        return apply(Op::Conv(Box::new(dims), None), &[lhs, rhs], location);
    }
    let given = lhs.dtype();
    let wanted = how.preferred_element_type.unwrap_or(given);
    // Products of narrow floats are exact in f32, where they are summed, and the sum is rounded once.
    let narrow = given.is_narrow_float();
    let within = if narrow && (!wanted.is_float() || wanted.size() < DType::F32.size()) { DType::F32 } else { wanted };
    let precision = how.precision.or(matmul_precision());
    let precision = precision.filter(|&other| other != Precision::Highest && within == DType::F32 && !narrow);
    let op = Op::Conv(Box::new(dims), precision);
    let result = apply(op, &[&lhs.convert(within), &rhs.convert(within)], location);
    result.convert(wanted)
}

/// The axes and windows that `how` means for operands of these shapes, or why it means none.
fn dims(lhs: &[usize], rhs: &[usize], how: &Conv<'_>) -> Result<ConvDims, String> {
    if lhs.len() < 2 || rhs.len() != lhs.len() {
        return Err(format!("operands of {} and {} axes have no common spatial ones", lhs.len(), rhs.len()));
    }
    let spatial = lhs.len() - 2;
    let mut dims = ConvDims::plain(spatial);
    if let Some(names) = how.dimension_numbers {
        [dims.lhs_spec, dims.rhs_spec, dims.out_spec] = specs(names, lhs.len())?;
    }
    let steps = |what: &str, given: &[usize]| -> Result<Shape, String> {
        match given.len() {
            0 => Ok(Shape::from_elem(1, spatial)),
            n if n == spatial => Ok(given.into()),
            n => Err(format!("{n} {what} are not those of {spatial} spatial axes")),
        }
    };
    dims.strides = steps("strides", how.window_strides)?;
    dims.lhs_dilation = steps("dilations", how.lhs_dilation)?;
    dims.rhs_dilation = steps("dilations", how.rhs_dilation)?;
    dims.feature_groups = how.feature_group_count;
    dims.batch_groups = how.batch_group_count;
    let is_computed = matches!(how.padding, Padding::Same | Padding::SameLower);
    if is_computed && dims.lhs_dilation.iter().any(|&step| step != 1) {
        return Err("`Same` padding is not defined with a dilation of the left operand".into());
    }
    let of = |spec: &Axes, shape: &[usize]| -> Vec<usize> { spec[2..].iter().map(|&axis| shape[axis]).collect() };
    let (extents, windows) = (of(&dims.lhs_spec, lhs), of(&dims.rhs_spec, rhs));
    let windows: Vec<usize> = windows.iter().zip(&dims.rhs_dilation).map(|(&k, &r)| dilated(k, r)).collect();
    let pads = how.padding.pads(&extents, &windows, &dims.strides);
    if pads.len() != spatial {
        return Err(format!("{} pairs of padding are not those of {spatial} spatial axes", pads.len()));
    }
    (dims.low, dims.high) = pads.into_iter().unzip();
    Ok(dims)
}

/// The axes that letters name.
fn specs(names: [&str; 3], rank: usize) -> Result<[Axes; 3], String> {
    let [lhs, rhs, out] = names.map(|name| name.chars().collect::<Vec<char>>());
    let is_spatial = |c: &char, two: [char; 2]| !two.contains(c);
    let spec = |letters: &[char], two: [char; 2]| -> Result<Axes, String> {
        let text: String = letters.iter().collect();
        let position = |c: char| letters.iter().position(|&letter| letter == c);
        let twice = letters.iter().enumerate().any(|(i, c)| letters[..i].contains(c));
        let (Some(first), Some(second), false) = (position(two[0]), position(two[1]), twice || letters.len() != rank)
        else {
            return Err(format!("`{text}` does not name {rank} axes, `{}` and `{}` among them, once", two[0], two[1]));
        };
        let mut axes: Axes = [first, second].into_iter().collect();
        for &c in rhs.iter().filter(|c| is_spatial(c, ['O', 'I'])) {
            let axis = position(c).filter(|_| is_spatial(&c, two));
            axes.push(axis.ok_or_else(|| format!("`{text}` has no spatial axis `{c}`"))?);
        }
        Ok(axes)
    };
    Ok([spec(&lhs, ['N', 'C'])?, spec(&rhs, ['O', 'I'])?, spec(&out, ['N', 'C'])?])
}

/// `jax.lax.conv`: a convolution of `[N, C, …]` with `[O, C, …]`, with these strides.
///
/// # Errors
/// As [`conv_general_dilated`].
#[track_caller]
pub fn conv(lhs: &Tensor, rhs: &Tensor, window_strides: &[usize], padding: Padding<'_>) -> Tensor {
    conv_general_dilated(lhs, rhs, Conv { window_strides, padding, ..Conv::default() })
}

/// `jax.lax.conv_with_general_padding`: as [`conv`], with dilations of both operands.
///
/// # Errors
/// As [`conv_general_dilated`].
#[track_caller]
pub fn conv_with_general_padding(
    lhs: &Tensor,
    rhs: &Tensor,
    window_strides: &[usize],
    padding: Padding<'_>,
    lhs_dilation: &[usize],
    rhs_dilation: &[usize],
) -> Tensor {
    conv_general_dilated(lhs, rhs, Conv { window_strides, padding, lhs_dilation, rhs_dilation, ..Conv::default() })
}

/// A transposed convolution: `jax.lax.conv_transpose`. The strides of `how` are dilations of the left operand.
///
/// The default layout is `NHWC` by `HWIO`, or the like. [`Padding::Same`] and [`Padding::Valid`] are those of the
/// convolution that this one transposes; explicit ones are those of the dilated operand. With `transpose_kernel` the
/// kernel is the one of that convolution: its spatial axes are reversed, and its features change places.
///
/// ```
/// use fulgurite_jit::conv::{Conv, Padding, conv_transpose};
/// use fulgurite_jit::Tensor;
///
/// fn twice_as_large(images: &Tensor, kernel: &Tensor) -> Tensor {
///     // [16, 8, 8, 32] with [3, 3, 32, 16] gives [16, 16, 16, 16].
///     let how = Conv { window_strides: &[2, 2], padding: Padding::Same, ..Conv::default() };
///     conv_transpose(images, kernel, how, false)
/// }
/// ```
///
/// # Errors
/// As [`conv_general_dilated`]; and for [`Padding::SameLower`], for a dilation of the left operand or groups in `how`,
/// which are not defined here, and for more than three spatial axes without dimension numbers.
#[track_caller]
pub fn conv_transpose(lhs: &Tensor, rhs: &Tensor, how: Conv<'_>, transpose_kernel: bool) -> Tensor {
    let location = Location::caller();
    match transposed(lhs, rhs, &how, transpose_kernel) {
        Ok((dims, rhs)) => recorded(lhs, &rhs, dims, &how, location),
        Err(why) => reject(&[lhs, rhs], Error::op("conv_transpose", why, location)),
    }
}

fn transposed(lhs: &Tensor, rhs: &Tensor, how: &Conv<'_>, turn: bool) -> Result<(ConvDims, Tensor), String> {
    let layouts = [["NC", "IO", "NC"], ["NHC", "HIO", "NHC"], ["NHWC", "HWIO", "NHWC"], ["NHWDC", "HWDIO", "NHWDC"]];
    if how.padding == Padding::SameLower || !how.lhs_dilation.is_empty() || how.batch_group_count != 1 {
        return Err("takes no `SameLower` padding, no dilation of the left operand and no groups of the batch".into());
    }
    let default = lhs.rank().checked_sub(2).and_then(|spatial| layouts.get(spatial)).copied();
    let dimension_numbers = how.dimension_numbers.or(default);
    if dimension_numbers.is_none() {
        return Err("more than three spatial axes need dimension numbers".into());
    }
    let plain = Conv { padding: Padding::Valid, dimension_numbers, ..*how };
    let mut dims = dims(lhs.shape(), rhs.shape(), &plain)?;
    dims.lhs_dilation = std::mem::replace(&mut dims.strides, Shape::from_elem(1, lhs.rank() - 2));
    for axis in 0..dims.spatial() {
        let window = dilated(rhs.shape()[dims.rhs_spec[axis + 2]], dims.rhs_dilation[axis]) as isize;
        let stride = dims.lhs_dilation[axis] as isize;
        let (low, total) = match how.padding {
            Padding::Valid => (window - 1, window + stride - 2 + (window - stride).max(0)),
            Padding::Same | Padding::SameLower => {
                let total = window + stride - 2;
                (if stride > window - 1 { window - 1 } else { total - total / 2 }, total)
            }
            Padding::Explicit(pads) => {
                let count = dims.spatial();
                let why = || format!("{} pairs of padding are not those of {count} spatial axes", pads.len());
                let &(low, high) = pads.get(axis).filter(|_| pads.len() == count).ok_or_else(why)?;
                (low, low.saturating_add(high))
            }
        };
        (dims.low[axis], dims.high[axis]) = (low, total.saturating_sub(low));
    }
    if !turn {
        return Ok((dims, rhs.clone()));
    }
    let mut perm: Vec<usize> = (0..rhs.rank()).collect();
    perm.swap(dims.rhs_spec[0], dims.rhs_spec[1]);
    Ok((dims.clone(), rhs.rev(&dims.rhs_spec[2..]).transpose(&perm)))
}

/// The windows themselves: `jax.lax.conv_general_dilated_patches`. Instead of the features the result has, for each of
/// them, the elements of its window of extents `filter_shape`, in row-major order: `[N, C · window, …]`.
///
/// No products are computed: a window in the padding has zeros, and infinities stay where they are.
///
/// ```
/// use fulgurite_jit::conv::{Conv, conv_general_dilated_patches};
/// use fulgurite_jit::Tensor;
///
/// fn patches(images: &Tensor) -> Tensor {
///     // [16, 3, 32, 32] gives [16, 48, 8, 8].
///     conv_general_dilated_patches(images, &[4, 4], Conv { window_strides: &[4, 4], ..Conv::default() })
/// }
/// ```
///
/// # Errors
/// As [`conv_general_dilated`]; and for groups, which are not defined here.
#[track_caller]
pub fn conv_general_dilated_patches(lhs: &Tensor, filter_shape: &[usize], how: Conv<'_>) -> Tensor {
    let location = Location::caller();
    let fail = |why: String| reject(&[lhs], Error::op("conv_general_dilated_patches", why, location));
    if filter_shape.len() + 2 != lhs.rank() || how.feature_group_count != 1 || how.batch_group_count != 1 {
        let rank = lhs.rank();
        return fail(format!("takes a window of {} extents without groups, not {filter_shape:?}", rank.max(2) - 2));
    }
    // Of a kernel of one feature the spec is read, and the extents of the result.
    let mut kernel = Shape::from_elem(1, lhs.rank());
    let spec = match how.dimension_numbers.map(|names| specs(names, lhs.rank())) {
        Some(Err(why)) => return fail(why),
        Some(Ok([_, rhs, _])) => rhs,
        None => (0..lhs.rank()).collect(),
    };
    for (&axis, &extent) in spec[2..].iter().zip(filter_shape) {
        kernel[axis] = extent;
    }
    let dims = match dims(lhs.shape(), &kernel, &how) {
        Ok(dims) => dims,
        Err(why) => return fail(why),
    };
    let channels = lhs.shape()[dims.lhs_spec[1]];
    let window = product(filter_shape.iter().copied());
    kernel[dims.rhs_spec[0]] = channels;
    let depthwise = ConvDims { feature_groups: channels.max(1), ..dims.clone() };
    let types = [lhs.ty().clone(), TensorType::new(lhs.dtype(), &kernel)];
    let result = match infer(&Op::Conv(Box::new(depthwise), None), &[&types[0], &types[1]]) {
        Ok(ty) => ty,
        Err(why) => return fail(why),
    };
    let counts: Shape = dims.out_spec[2..].iter().map(|&axis| result.shape[axis]).collect();
    let batch = lhs.shape()[dims.lhs_spec[0]];
    // [N, C, …] with its padding.
    let spread = |axis: usize| dims.lhs_dilation[axis] - 1;
    let (mut low, mut high, mut interior) = (vec![0, 0], vec![0, 0], vec![0, 0]);
    for axis in 0..dims.spatial() {
        low.push(dims.low[axis]);
        high.push(dims.high[axis]);
        interior.push(spread(axis));
    }
    let ordered = lhs.transpose(&dims.lhs_spec);
    let is_empty = counts.contains(&0) || window == 0 || ordered.elements() == 0;
    let mut shape: Vec<usize> = vec![batch, channels, window];
    shape.extend(&counts);
    let patches = if is_empty {
        Tensor::full(&shape, 0.0, lhs.dtype())
    } else {
        let padded = ordered.pad(Tensor::literal(0.0, lhs.dtype()), &low, &high, &interior);
        let patch = |number: usize| {
            let (mut start, mut limit, mut stride) = (vec![0, 0], vec![batch, channels], vec![1, 1]);
            let mut rest = number;
            let mut at = vec![0; filter_shape.len()];
            for axis in (0..filter_shape.len()).rev() {
                at[axis] = rest % filter_shape[axis] * dims.rhs_dilation[axis];
                rest /= filter_shape[axis];
            }
            for axis in 0..filter_shape.len() {
                let step = if counts[axis] < 2 { 1 } else { dims.strides[axis] };
                start.push(at[axis]);
                limit.push(at[axis] + (counts[axis] - 1) * step + 1);
                stride.push(step);
            }
            padded.slice(&start, &limit, &stride)
        };
        let all: Vec<Tensor> = (0..window).map(patch).collect();
        Tensor::stack(&all.iter().collect::<Vec<_>>(), 2)
    };
    let mut merged: Vec<usize> = vec![batch, channels * window];
    merged.extend(&counts);
    let mut perm = vec![0; lhs.rank()];
    for (from, &to) in dims.out_spec.iter().enumerate() {
        perm[to] = from;
    }
    let patches = patches.reshape(&merged).transpose(&perm);
    how.preferred_element_type.map_or(patches.clone(), |dtype| patches.convert(dtype))
}
