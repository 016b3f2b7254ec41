//! Rules for data movement ops: no-ops are removed, two ops of one kind are merged, movement of a broadcast becomes a
//! broadcast, and ops that only insert, remove or permute unit axes become a reshape.

use smallvec::SmallVec;

use super::{Rewrite, Rule};
use crate::graph::{DotAxes, Op, ValueId};
use crate::types::{Axes, Shape};

type Rewritten = Option<ValueId>;

pub(super) const RULES: &[Rule] = &[
    Rule { name: "moved scalar", apply: moved_scalar },
    Rule { name: "reshape to the same", apply: reshape_same },
    Rule { name: "reshape twice", apply: reshape_twice },
    Rule { name: "reshape of a broadcast", apply: reshape_broadcast },
    Rule { name: "transpose nothing", apply: transpose_nothing },
    Rule { name: "transpose twice", apply: transpose_twice },
    Rule { name: "transpose unit axes", apply: transpose_units },
    Rule { name: "transpose of a broadcast", apply: transpose_broadcast },
    Rule { name: "transpose of a contraction", apply: transpose_dot },
    Rule { name: "broadcast to the same", apply: broadcast_same },
    Rule { name: "broadcast twice", apply: broadcast_twice },
    Rule { name: "broadcast to unit axes", apply: broadcast_units },
    Rule { name: "broadcast of one element", apply: broadcast_one },
    Rule { name: "broadcast of a reshape", apply: broadcast_reshape },
    Rule { name: "slice of everything", apply: slice_everything },
    Rule { name: "slice twice", apply: slice_twice },
    Rule { name: "pad by nothing", apply: pad_nothing },
    Rule { name: "pad with the same", apply: pad_same },
    Rule { name: "concatenation of one", apply: concat_one },
    Rule { name: "concatenation of the same", apply: concat_same },
    Rule { name: "reverse unit axes", apply: rev_units },
    Rule { name: "reverse twice", apply: rev_twice },
];

/// Movement of a splat is a splat: reshape, transpose, slice and rev become a broadcast of the scalar to the new shape.
fn moved_scalar(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let shape = match op {
        Op::Reshape(shape) => shape.clone(),
        Op::Transpose(perm) => perm.iter().map(|&axis| w.shape(x[0])[axis]).collect(),
        Op::Slice { start, limit, stride } => {
            (0..start.len()).map(|axis| (limit[axis] - start[axis]).div_ceil(stride[axis])).collect()
        }
        Op::Rev(_) => w.shape(x[0]).clone(),
        // A broadcast of a broadcast is another rule's.
        _ => return None,
    };
    let scalar = w.splat(x[0])?;
    w.broadcast(scalar, &shape, &[])
}

/// A reshape to the same shape.
fn reshape_same(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    matches!(op, Op::Reshape(shape) if shape == w.shape(x[0])).then(|| x[0])
}

/// `reshape (reshape x) = reshape x`
fn reshape_twice(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let applies = matches!(op, Op::Reshape(_)) && matches!(w.op(x[0]), Op::Reshape(_));
    if applies { w.add(op.clone(), &[w.operand(x[0])]) } else { None }
}

/// A reshape of a broadcast that only inserts or removes unit axes is a broadcast to the new shape. The operand loses
/// the unit axes that are unit axes of the broadcast too.
fn reshape_broadcast(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Reshape(to) = op else { return None };
    let Op::Broadcast { shape, dims } = w.op(x[0]) else { return None };
    if !others(shape).eq(others(to)) {
        return None;
    }
    // The axis of `to` for each axis of `shape` that is not a unit axis.
    let mut place = Shape::from_elem(0, shape.len());
    for ((from, _), (axis, _)) in others_with_axes(shape).zip(others_with_axes(to)) {
        place[from] = axis;
    }
    let inner = w.operand(x[0]);
    let kept: Axes = (0..dims.len()).filter(|&axis| shape[dims[axis]] != 1).collect();
    let dims: Axes = kept.iter().map(|&axis| place[dims[axis]]).collect();
    let inner_shape: Shape = kept.iter().map(|&axis| w.shape(inner)[axis]).collect();
    let inner = w.reshape(inner, &inner_shape)?;
    w.broadcast(inner, to, &dims)
}

/// The extents other than 1.
fn others(shape: &[usize]) -> impl Iterator<Item = usize> {
    shape.iter().copied().filter(|&extent| extent != 1)
}

/// As [`others`], as pairs of axis and extent.
fn others_with_axes(shape: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    shape.iter().copied().enumerate().filter(|&(_, extent)| extent != 1)
}

/// A transpose by the identity permutation.
fn transpose_nothing(_: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    matches!(op, Op::Transpose(perm) if perm.iter().copied().eq(0..perm.len())).then(|| x[0])
}

/// Axis `i` of the result is axis `perm[i]` of the first transpose, which is axis `first[perm[i]]` of its operand.
fn transpose_twice(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Transpose(perm) = op else { return None };
    let Op::Transpose(first) = w.op(x[0]) else { return None };
    let perm = perm.iter().map(|&axis| first[axis]).collect();
    w.add(Op::Transpose(perm), &[w.operand(x[0])])
}

/// A transpose that permutes unit axes only keeps the order of the elements: a reshape.
fn transpose_units(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Transpose(perm) = op else { return None };
    let shape = w.shape(x[0]);
    if !perm.iter().filter(|&&axis| shape[axis] != 1).is_sorted() {
        return None;
    }
    let shape: Shape = perm.iter().map(|&axis| shape[axis]).collect();
    w.reshape(x[0], &shape)
}

/// `transpose (broadcast x) = broadcast (transpose x)`: `x` has fewer elements, and no transpose is left if its
/// axes keep their order.
fn transpose_broadcast(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Transpose(perm) = op else { return None };
    let Op::Broadcast { shape, dims } = w.op(x[0]) else { return None };
    let shape: Shape = perm.iter().map(|&axis| shape[axis]).collect();
    // The axes of x, ordered by their position in the result.
    let mut moved: SmallVec<[(usize, usize); 4]> =
        (0..perm.len()).filter_map(|place| Some((place, dims.iter().position(|&dim| dim == perm[place])?))).collect();
    moved.sort_unstable();
    let dims: Axes = moved.iter().map(|&(place, _)| place).collect();
    let inner = w.add(Op::Transpose(moved.iter().map(|&(_, axis)| axis).collect()), &[w.operand(x[0])])?;
    w.broadcast(inner, &shape, &dims)
}

/// `(x y)ᵀ = yᵀ xᵀ`: a transpose that swaps the free axes of the two operands of a contraction is the contraction of
/// the swapped operands. The products and the order of the sum do not change.
fn transpose_dot(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Transpose(perm) = op else { return None };
    let Op::Dot(axes, precision) = w.op(x[0]) else { return None };
    if !w.has_one_use(x[0]) {
        return None;
    }
    let [left, right] = w.node(x[0]).operands[..] else { return None };
    let batch = axes.batch.len();
    let free_left = axes.free(0, w.ty(left).rank()).len();
    let exchanged = (0..batch).chain(batch + free_left..perm.len()).chain(batch..batch + free_left);
    if !perm.iter().copied().eq(exchanged) {
        return None;
    }
    let swap = |pairs: &[(usize, usize)]| pairs.iter().map(|&(a, b)| (b, a)).collect();
    let axes = DotAxes { batch: swap(&axes.batch), contract: swap(&axes.contract) };
    let swapped = Op::Dot(axes, *precision);
    w.add(swapped, &[right, left])
}

/// A broadcast to the same shape.
fn broadcast_same(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    matches!(op, Op::Broadcast { shape, .. } if shape == w.shape(x[0])).then(|| x[0])
}

/// Axis `i` of `x` is axis `first[i]` of the first broadcast, which is axis `dims[first[i]]` of the second.
fn broadcast_twice(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Broadcast { shape, dims } = op else { return None };
    let Op::Broadcast { dims: first, .. } = w.op(x[0]) else { return None };
    let dims: Axes = first.iter().map(|&axis| dims[axis]).collect();
    w.broadcast(w.operand(x[0]), shape, &dims)
}

/// A broadcast that only inserts unit axes is a reshape. Broadcasts of scalars stay, since other rules match them.
fn broadcast_units(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Broadcast { shape, .. } = op else { return None };
    let applies = w.ty(x[0]).rank() > 0 && others(w.shape(x[0])).eq(others(shape));
    if applies { w.reshape(x[0], shape) } else { None }
}

/// A broadcast of one element is a broadcast of a scalar.
fn broadcast_one(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Broadcast { shape, .. } = op else { return None };
    if w.ty(x[0]).rank() == 0 || w.ty(x[0]).elements() != 1 {
        return None;
    }
    let scalar = w.reshape(x[0], &[])?;
    w.broadcast(scalar, shape, &[])
}

/// A broadcast of a reshape that only inserts unit axes is a broadcast of the reshape's operand.
fn broadcast_reshape(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Broadcast { shape, dims } = op else { return None };
    if !matches!(w.op(x[0]), Op::Reshape(_)) {
        return None;
    }
    let inner = w.operand(x[0]);
    let mut missing = w.shape(inner).iter().peekable();
    let mut places = Axes::new();
    for (axis, extent) in w.shape(x[0]).iter().enumerate() {
        if missing.next_if_eq(&extent).is_some() {
            places.push(dims[axis]);
        } else if *extent != 1 {
            return None;
        }
    }
    if missing.next().is_some() {
        return None;
    }
    w.broadcast(inner, shape, &places)
}

/// A slice of the whole operand, which is the only slice that keeps the shape.
fn slice_everything(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Slice { start, limit, stride } = op else { return None };
    let keeps = |axis: usize| (limit[axis] - start[axis]).div_ceil(stride[axis]) == w.shape(x[0])[axis];
    (0..start.len()).all(keeps).then(|| x[0])
}

/// Element `i` of the second slice is element `start + i stride` of the first, which is element
/// `first_start + start first_stride + i stride first_stride` of its operand.
fn slice_twice(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Slice { start, limit, stride } = op else { return None };
    let Op::Slice { start: first_start, stride: first_stride, .. } = w.op(x[0]) else { return None };
    let (mut starts, mut limits, mut strides) = (Shape::new(), Shape::new(), Shape::new());
    for axis in 0..start.len() {
        let count = (limit[axis] - start[axis]).div_ceil(stride[axis]);
        let begin = first_start[axis] + start[axis] * first_stride[axis];
        // With fewer than two elements the stride is not used and can be arbitrary.
        let step = if count < 2 { 1 } else { stride[axis] * first_stride[axis] };
        // The limit is one past the last element. For no elements, any limit within the operand is valid.
        let begin = if count == 0 { 0 } else { begin };
        starts.push(begin);
        limits.push(if count == 0 { 0 } else { begin + (count - 1) * step + 1 });
        strides.push(step);
    }
    w.add(Op::Slice { start: starts, limit: limits, stride: strides }, &[w.operand(x[0])])
}

/// A pad of width 0. Interior padding applies between elements only, so it has no effect on fewer than two.
fn pad_nothing(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Pad { low, high, interior } = op else { return None };
    let shape = w.shape(x[0]);
    let nothing = |axis: usize| low[axis] == 0 && high[axis] == 0 && (interior[axis] == 0 || shape[axis] < 2);
    (0..low.len()).all(nothing).then(|| x[0])
}

/// A splat, padded with the same scalar.
fn pad_same(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Pad { low, high, interior } = op else { return None };
    if w.splat(x[0])? != x[1] {
        return None;
    }
    let extent = |(axis, &extent): (usize, &usize)| {
        let spread = extent + extent.saturating_sub(1) * interior[axis];
        usize::try_from(spread as isize + low[axis] + high[axis]).ok()
    };
    let shape: Option<Shape> = w.shape(x[0]).iter().enumerate().map(extent).collect();
    w.broadcast(x[1], &shape?, &[])
}

/// A concatenation of one operand.
fn concat_one(_: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    (matches!(op, Op::Concat(_)) && x.len() == 1).then(|| x[0])
}

/// A concatenation of splats of the same scalar.
fn concat_same(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Concat(axis) = op else { return None };
    let scalar = w.splat(x[0])?;
    if !x.iter().all(|&x| w.splat(x) == Some(scalar)) {
        return None;
    }
    let mut shape = w.shape(x[0]).clone();
    shape[*axis] = x.iter().map(|&x| w.shape(x)[*axis]).sum();
    w.broadcast(scalar, &shape, &[])
}

/// Reversal of a unit axis has no effect.
fn rev_units(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Rev(axes) = op else { return None };
    let kept: Axes = axes.iter().copied().filter(|&axis| w.shape(x[0])[axis] > 1).collect();
    if kept.is_empty() {
        Some(x[0])
    } else if kept.len() < axes.len() {
        w.add(Op::Rev(kept), &[x[0]])
    } else {
        None
    }
}

/// Two reversals reverse the axes that are in exactly one of them.
fn rev_twice(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Rev(axes) = op else { return None };
    let Op::Rev(first) = w.op(x[0]) else { return None };
    let once = (0..w.ty(x[0]).rank()).filter(|axis| axes.contains(axis) != first.contains(axis)).collect();
    w.add(Op::Rev(once), &[w.operand(x[0])])
}

/// An example of every rule: its name, the inputs, the value before and after.
#[cfg(test)]
pub(super) const CASES: &[super::tests::Case] = &[
    (
        "moved scalar",
        "%0: f32[]",
        "%1: f32[2,3] = broadcast_in_dim %0 [shape=2,3, dims=]; %2: f32[3,2] = transpose %1 [perm=1,0]; \
         %3: f32[6] = reshape %2 [shape=6]; %4: f32[6] = rev %3 [axes=0]; \
         %r: f32[2] = slice %4 [start=1, limit=4, stride=2]",
        "%r: f32[2] = broadcast_in_dim %0 [shape=2, dims=]",
    ),
    (
        "moved scalar",
        "%0: f32[]",
        "%r: f32[1,1] = reshape %0 [shape=1,1]",
        "%r: f32[1,1] = broadcast_in_dim %0 [shape=1,1, dims=]",
    ),
    ("reshape to the same", "%0: f32[2,3]", "%r: f32[2,3] = reshape %0 [shape=2,3]", "%0"),
    ("reshape twice", "%0: f32[2,3]", "%1: f32[6] = reshape %0 [shape=6]; %r: f32[2,3] = reshape %1 [shape=2,3]", "%0"),
    (
        "reshape of a broadcast",
        "%0: f32[1,3]",
        "%1: f32[1,3,4] = broadcast_in_dim %0 [shape=1,3,4, dims=0,1]; %r: f32[3,1,4] = reshape %1 [shape=3,1,4]",
        "%1: f32[3] = reshape %0 [shape=3]; %r: f32[3,1,4] = broadcast_in_dim %1 [shape=3,1,4, dims=0]",
    ),
    ("transpose nothing", "%0: f32[2,3]", "%r: f32[2,3] = transpose %0 [perm=0,1]", "%0"),
    (
        "transpose twice",
        "%0: f32[2,3,4]",
        "%1: f32[4,2,3] = transpose %0 [perm=2,0,1]; %r: f32[2,4,3] = transpose %1 [perm=1,0,2]",
        "%r: f32[2,4,3] = transpose %0 [perm=0,2,1]",
    ),
    (
        "transpose unit axes",
        "%0: f32[2,1,4]",
        "%r: f32[1,2,4] = transpose %0 [perm=1,0,2]",
        "%r: f32[1,2,4] = reshape %0 [shape=1,2,4]",
    ),
    (
        "transpose of a broadcast",
        "%0: f32[2,3]",
        "%1: f32[2,4,3] = broadcast_in_dim %0 [shape=2,4,3, dims=0,2]; %r: f32[3,4,2] = transpose %1 [perm=2,1,0]",
        "%1: f32[3,2] = transpose %0 [perm=1,0]; %r: f32[3,4,2] = broadcast_in_dim %1 [shape=3,4,2, dims=0,2]",
    ),
    (
        "transpose of a broadcast",
        "%0: f32[3]",
        "%1: f32[3,4] = broadcast_in_dim %0 [shape=3,4, dims=0]; %r: f32[4,3] = transpose %1 [perm=1,0]",
        "%r: f32[4,3] = broadcast_in_dim %0 [shape=4,3, dims=1]",
    ),
    (
        "transpose of a contraction",
        "%0: f32[5,2,3]; %1: f32[3,5,4]",
        "%2: f32[5,2,4] = dot_general %0, %1 [batch=0:1, contract=2:0]; %r: f32[5,4,2] = transpose %2 [perm=0,2,1]",
        "%r: f32[5,4,2] = dot_general %1, %0 [batch=1:0, contract=0:2]",
    ),
    ("broadcast to the same", "%0: f32[2,3]", "%r: f32[2,3] = broadcast_in_dim %0 [shape=2,3, dims=0,1]", "%0"),
    (
        "broadcast twice",
        "%0: f32[1,3]",
        "%1: f32[1,4,3] = broadcast_in_dim %0 [shape=1,4,3, dims=0,2]; \
         %r: f32[2,4,5,3] = broadcast_in_dim %1 [shape=2,4,5,3, dims=0,1,3]",
        "%r: f32[2,4,5,3] = broadcast_in_dim %0 [shape=2,4,5,3, dims=0,3]",
    ),
    (
        "broadcast to unit axes",
        "%0: f32[2,3]",
        "%r: f32[2,1,3] = broadcast_in_dim %0 [shape=2,1,3, dims=0,2]",
        "%r: f32[2,1,3] = reshape %0 [shape=2,1,3]",
    ),
    (
        "broadcast of one element",
        "%0: f32[1,1]",
        "%r: f32[2,3] = broadcast_in_dim %0 [shape=2,3, dims=0,1]",
        "%1: f32[] = reshape %0 [shape=]; %r: f32[2,3] = broadcast_in_dim %1 [shape=2,3, dims=]",
    ),
    (
        "broadcast of a reshape",
        "%0: f32[1,3]",
        "%1: f32[1,1,3] = reshape %0 [shape=1,1,3]; %r: f32[2,5,3] = broadcast_in_dim %1 [shape=2,5,3, dims=0,1,2]",
        "%r: f32[2,5,3] = broadcast_in_dim %0 [shape=2,5,3, dims=0,2]",
    ),
    ("slice of everything", "%0: f32[3,1]", "%r: f32[3,1] = slice %0 [start=0,0, limit=3,1, stride=1,7]", "%0"),
    (
        "slice twice",
        "%0: f32[20]",
        "%1: f32[6] = slice %0 [start=2, limit=19, stride=3]; %r: f32[2] = slice %1 [start=1, limit=5, stride=2]",
        "%r: f32[2] = slice %0 [start=5, limit=12, stride=6]",
    ),
    ("pad by nothing", "%0: f32[3,1]; %1: f32[]", "%r: f32[3,1] = pad %0, %1 [low=0,0, high=0,0, interior=0,2]", "%0"),
    (
        "pad with the same",
        "%0: f32[]",
        "%1: f32[3] = broadcast_in_dim %0 [shape=3, dims=]; %r: f32[6] = pad %1, %0 [low=2, high=-1, interior=1]",
        "%r: f32[6] = broadcast_in_dim %0 [shape=6, dims=]",
    ),
    ("concatenation of one", "%0: f32[3]", "%r: f32[3] = concatenate %0 [axis=0]", "%0"),
    (
        "concatenation of the same",
        "%0: f32[]",
        "%1: f32[3] = broadcast_in_dim %0 [shape=3, dims=]; %2: f32[4] = broadcast_in_dim %0 [shape=4, dims=]; \
         %r: f32[7] = concatenate %1, %2 [axis=0]",
        "%r: f32[7] = broadcast_in_dim %0 [shape=7, dims=]",
    ),
    ("reverse unit axes", "%0: f32[2,1]", "%r: f32[2,1] = rev %0 [axes=1,0]", "%r: f32[2,1] = rev %0 [axes=0]"),
    ("reverse unit axes", "%0: f32[2,1]", "%r: f32[2,1] = rev %0 [axes=1]", "%0"),
    (
        "reverse twice",
        "%0: f32[2,3,4]",
        "%1: f32[2,3,4] = rev %0 [axes=2,0]; %r: f32[2,3,4] = rev %1 [axes=0,1]",
        "%r: f32[2,3,4] = rev %0 [axes=1,2]",
    ),
];
