//! Convolutions: the transposes in both operands, and batches of either or both. All of them are convolutions.
//!
//! With a kernel of extent K, dilations `d` and `r`, stride `s` and padding `low`,
//! `z[o] = Σ_k x[(o s + k r - low) / d] w[k]`. So the cotangent of x at `i` sums over the `k` and `o` with
//! `i d = o s + k r - low`: over the reversed kernel, `k = K - 1 - l`, `o = (i d + l r - ((K - 1) r - low)) / s`, which
//! is a convolution of the cotangent with stride d and dilations s and r. That of w at `k` sums over `o`, with
//! `(k r + o s - low) / d`: a convolution with stride r and dilations d and s, whose window is the cotangent.

use std::panic::Location;

use fulgurite_jit::graph::{ConvDims, Op, Precision, dilated, infer};
use fulgurite_jit::trace::apply;
use fulgurite_jit::types::Axes;
use fulgurite_jit::{Shape, Tensor, TensorType};

use super::Batched;

type Caller = &'static Location<'static>;

/// The cotangent of the left operand, of type `x`, from that of the result.
pub(super) fn cotangent_of_left(
    dims: &ConvDims,
    precision: Option<Precision>,
    x: &TensorType,
    w: &Tensor,
    ct: &Tensor,
    location: Caller,
) -> Tensor {
    if x.elements() == 0 || w.elements() == 0 || ct.elements() == 0 {
        return Tensor::full(&x.shape, 0.0, x.dtype);
    }
    let groups = dims.feature_groups.max(dims.batch_groups);
    // The features of the result are summed now, those of the operand are the kernel's results: groups go along.
    let w = regrouped(w, &dims.rhs_spec, groups).rev(&dims.rhs_spec[2..]);
    let mut back = ConvDims {
        lhs_spec: dims.out_spec.clone(),
        rhs_spec: swapped(&dims.rhs_spec),
        out_spec: dims.lhs_spec.clone(),
        strides: dims.lhs_dilation.clone(),
        lhs_dilation: dims.strides.clone(),
        feature_groups: groups,
        batch_groups: 1,
        ..dims.clone()
    };
    for axis in 0..dims.spatial() {
        let window = dilated(w.shape()[dims.rhs_spec[axis + 2]], dims.rhs_dilation[axis]) as isize;
        let of_x = dilated(x.shape[dims.lhs_spec[axis + 2]], dims.lhs_dilation[axis]) as isize;
        let of_ct = dilated(ct.shape()[dims.out_spec[axis + 2]], dims.strides[axis]) as isize;
        back.low[axis] = window - 1 - dims.low[axis];
        // As many results as x has elements.
        back.high[axis] = of_x + window - 1 - of_ct - back.low[axis];
    }
    let result = apply(Op::Conv(Box::new(back), precision), &[ct, &w], location);
    match dims.batch_groups {
        1 => result,
        groups => regrouped(&result, &swapped(&dims.lhs_spec), groups),
    }
}

/// The cotangent of the right operand, of type `w`, from that of the result.
pub(super) fn cotangent_of_right(
    dims: &ConvDims,
    precision: Option<Precision>,
    x: &Tensor,
    w: &TensorType,
    ct: &Tensor,
    location: Caller,
) -> Tensor {
    if x.elements() == 0 || w.elements() == 0 || ct.elements() == 0 {
        return Tensor::full(&w.shape, 0.0, w.dtype);
    }
    // The batch is summed, and the features of x are the batch: groups of the one are groups of the other.
    let mut back = ConvDims {
        lhs_spec: swapped(&dims.lhs_spec),
        rhs_spec: swapped(&dims.out_spec),
        out_spec: swapped(&dims.rhs_spec),
        strides: dims.rhs_dilation.clone(),
        rhs_dilation: dims.strides.clone(),
        feature_groups: dims.batch_groups,
        batch_groups: dims.feature_groups,
        ..dims.clone()
    };
    for axis in 0..dims.spatial() {
        let window = dilated(w.shape[dims.rhs_spec[axis + 2]], dims.rhs_dilation[axis]) as isize;
        let of_x = dilated(x.shape()[dims.lhs_spec[axis + 2]], dims.lhs_dilation[axis]) as isize;
        let of_ct = dilated(ct.shape()[dims.out_spec[axis + 2]], dims.strides[axis]) as isize;
        // As many results as the kernel has elements.
        back.high[axis] = window - 1 + of_ct - of_x - dims.low[axis];
    }
    apply(Op::Conv(Box::new(back), precision), &[x, ct], location)
}

/// A spec with its first two axes exchanged.
fn swapped(spec: &Axes) -> Axes {
    let mut spec = spec.clone();
    spec.swap(0, 1);
    spec
}

/// Groups of the first axis of the spec become groups of the second.
fn regrouped(x: &Tensor, spec: &[usize], groups: usize) -> Tensor {
    if groups == 1 {
        return x.clone();
    }
    let (from, to) = (spec[0], spec[1]);
    let mut shape = Shape::from_slice(x.shape());
    shape[from] /= groups;
    shape.insert(from, groups);
    let split = x.reshape(&shape);
    // The groups' axis goes in front of the other one, which it then merges with.
    let mut perm: Axes = (0..shape.len()).filter(|&axis| axis != from).collect();
    let place = perm.iter().position(|&axis| axis == if to < from { to } else { to + 1 }).unwrap_or(0);
    perm.insert(place, from);
    let mut merged = Shape::from_slice(x.shape());
    merged[from] /= groups;
    merged[to] *= groups;
    split.transpose(&perm).reshape(&merged)
}

/// The convolutions of a batch: as more examples if the left operand is mapped, as more features if the right one is,
/// as groups if both are.
pub(super) fn batched(
    dims: &ConvDims,
    precision: Option<Precision>,
    x: &Batched,
    w: &Batched,
    extent: usize,
    location: Caller,
) -> Batched {
    let mut dims = dims.clone();
    let groups = dims.feature_groups.max(dims.batch_groups);
    let conv =
        |dims: &ConvDims, x: &Tensor, w: &Tensor| apply(Op::Conv(Box::new(dims.clone()), precision), &[x, w], location);
    let (result, axis, outer) = match (x.axis, w.axis) {
        (Some(_), _) | (_, Some(_)) if extent == 0 => {
            let example = |x: &Batched| {
                let mut ty = x.x.ty().clone();
                x.axis.map(|axis| ty.shape.remove(axis));
                ty
            };
            let op = Op::Conv(Box::new(dims), precision);
            let ty = infer(&op, &[&example(x), &example(w)]).expect("the op of an example is verified");
            let mut shape = ty.shape;
            shape.insert(0, 0);
            return Batched { x: Tensor::full(&shape, 0.0, ty.dtype), axis: Some(0) };
        }
        (Some(at), None) => {
            let x = folded(&x.x, at, dims.lhs_spec[0], dims.batch_groups);
            (conv(&dims, &x, &w.x), dims.out_spec[0], 1)
        }
        (None, Some(at)) => {
            let w = folded(&w.x, at, dims.rhs_spec[0], groups);
            (conv(&dims, &x.x, &w), dims.out_spec[1], groups)
        }
        (Some(of_x), Some(of_w)) => {
            let into = if dims.batch_groups > 1 { dims.lhs_spec[0] } else { dims.lhs_spec[1] };
            let (x, w) = (folded(&x.x, of_x, into, 1), folded(&w.x, of_w, dims.rhs_spec[0], 1));
            if dims.batch_groups > 1 {
                dims.batch_groups *= extent;
            } else {
                dims.feature_groups *= extent;
            }
            (conv(&dims, &x, &w), dims.out_spec[1], 1)
        }
        (None, None) => return Batched { x: conv(&dims, &x.x, &w.x), axis: None },
    };
    Batched { x: unfolded(&result, axis, outer, extent), axis: Some(0) }
}

/// The mapped axis `at` becomes a part of the example's axis `into`, behind so many groups of it.
fn folded(x: &Tensor, at: usize, into: usize, groups: usize) -> Tensor {
    let extent = x.shape()[at];
    let mut perm: Axes = (0..x.rank()).filter(|&axis| axis != at).collect();
    let mut shape: Shape = perm.iter().map(|&axis| x.shape()[axis]).collect();
    let mut merged = shape.clone();
    merged[into] *= extent;
    // (groups, n): the groups stay outside.
    shape[into] /= groups;
    shape.insert(into, groups);
    let moved = x.move_axis(at, 0);
    let mut split = shape.clone();
    split.insert(0, extent);
    perm = (1..=into + 1).chain([0]).chain(into + 2..split.len()).collect();
    moved.reshape(&split).transpose(&perm).reshape(&merged)
}

/// The inverse of [`folded`], with the mapped axis in front.
fn unfolded(x: &Tensor, axis: usize, groups: usize, extent: usize) -> Tensor {
    let mut result = Shape::from_slice(x.shape());
    result[axis] /= extent;
    let inner = result[axis] / groups;
    let mut split = result.clone();
    split[axis] = inner;
    split.insert(axis, extent);
    split.insert(axis, groups);
    let perm: Axes = [axis + 1].into_iter().chain((0..split.len()).filter(|&a| a != axis + 1)).collect();
    result.insert(0, extent);
    x.reshape(&split).transpose(&perm).reshape(&result)
}
