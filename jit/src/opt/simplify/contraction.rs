//! Rules for reductions over no axes, over unit axes, of broadcasts and of reductions; and for contractions of
//! transposed operands. Not done: contractions over a broadcast batch.

use super::{Rewrite, Rule};
use crate::graph::{BinaryOp, DotAxes, Literal, Op, ReduceOp, ValueId};
use crate::types::Axes;
use crate::types::scalar::Scalar;

type Rewritten = Option<ValueId>;

pub(super) const RULES: &[Rule] = &[
    Rule { name: "reduce over nothing", apply: reduce_nothing },
    Rule { name: "reduce over unit axes", apply: reduce_units },
    Rule { name: "reduce twice", apply: reduce_twice },
    Rule { name: "reduce a broadcast", apply: reduce_broadcast },
    Rule { name: "contract a transpose", apply: dot_transpose },
];

/// A reduction over no axes. (A sum starts from +0, which turns -0 into +0, but the sum of one element is the element.)
fn reduce_nothing(_: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    matches!(op, Op::Reduce(_, axes) if axes.is_empty()).then(|| x[0])
}

/// A reduction over unit axes is a reshape.
fn reduce_units(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Reduce(_, axes) = op else { return None };
    let shape = w.shape(x[0]);
    if axes.iter().any(|&axis| shape[axis] != 1) {
        return None;
    }
    let shape: Axes = (0..shape.len()).filter(|axis| !axes.contains(axis)).map(|axis| shape[axis]).collect();
    w.reshape(x[0], &shape)
}

/// A reduction of a reduction by the same op is one over the axes of both, if the inner result has no other use. Sums
/// and products of floats are excluded: their order of evaluation would depend on the rest of the program.
fn reduce_twice(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Reduce(reduction, axes) = op else { return None };
    let Op::Reduce(first, first_axes) = w.op(x[0]) else { return None };
    let rounds = w.dtype(x[0]).is_float() && matches!(reduction, ReduceOp::Sum | ReduceOp::Prod);
    if first != reduction || rounds || !w.has_one_use(x[0]) {
        return None;
    }
    let inner = w.operand(x[0]);
    let kept: Axes = (0..w.ty(inner).rank()).filter(|axis| !first_axes.contains(axis)).collect();
    let mut all = first_axes.clone();
    all.extend(axes.iter().map(|&axis| kept[axis]));
    all.sort_unstable();
    w.add(Op::Reduce(*reduction, all), &[inner])
}

/// `reduce (broadcast x) = broadcast (reduce x)` over the axes of `x`, which has fewer elements. The other reduced axes
/// repeat every element `n` times: a sum is multiplied by `n`; max, min, and, or do not change. `n` is not 0. A product
/// would be a power and is excluded.
///
/// The multiplication by `n` rounds once, the sum up to `n` times: the result can differ in the last bits.
fn reduce_broadcast(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Reduce(reduction, axes) = op else { return None };
    let Op::Broadcast { shape, dims } = w.op(x[0]) else { return None };
    let (shape, dims) = (shape.clone(), dims.clone());
    let inner = w.operand(x[0]);
    // The broadcast axes: those that x does not have, or has with extent 1.
    let repeats = |axis: usize| {
        let own = dims.iter().position(|&dim| dim == axis);
        own.is_none_or(|own| w.shape(inner)[own] != shape[axis])
    };
    let n: usize = axes.iter().filter(|&&axis| repeats(axis)).map(|&axis| shape[axis]).product();
    let times_n = match reduction {
        ReduceOp::Sum => n != 1,
        ReduceOp::Max | ReduceOp::Min | ReduceOp::And | ReduceOp::Or => false,
        ReduceOp::Prod if n == 1 => false,
        ReduceOp::Prod => return None,
    };
    let dtype = w.dtype(x[0]);
    // A float of 16 bits may have no such number.
    if n == 0 || (times_n && dtype.is_float() && dtype.value(dtype.bits(n)) != Scalar::Float(n as f64)) {
        return None;
    }
    let own = (0..dims.len()).filter(|&axis| axes.contains(&dims[axis])).collect();
    let mut result = w.add(Op::Reduce(*reduction, own), &[inner])?;
    if times_n {
        // Integers wrap, and so does `n`.
        let n = w.full(Literal::new(dtype, n), &w.shape(result).clone())?;
        result = w.add(Op::Binary(BinaryOp::Mul), &[result, n])?;
    }
    // Broadcast to the axes that are not reduced, some of which x may not have.
    let kept: Axes = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
    let kept_shape: Axes = kept.iter().map(|&axis| shape[axis]).collect();
    let kept_dims: Axes = dims.iter().filter_map(|dim| kept.iter().position(|axis| axis == dim)).collect();
    w.broadcast(result, &kept_shape, &kept_dims)
}

/// A contraction of a transposed operand is a contraction of the operand with permuted axes, if the free axes keep
/// their order. The products and the order of the sum do not change.
fn dot_transpose(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Dot(axes, precision) = op else { return None };
    for side in [0, 1] {
        let Op::Transpose(perm) = w.op(x[side]) else { continue };
        let free = axes.free(side, perm.len());
        if !free.iter().map(|&axis| perm[axis]).is_sorted() {
            continue;
        }
        let rename = |&(a, b): &(usize, usize)| if side == 0 { (perm[a], b) } else { (a, perm[b]) };
        let batch = axes.batch.iter().map(rename).collect();
        let contract = axes.contract.iter().map(rename).collect();
        let mut operands = [x[0], x[1]];
        operands[side] = w.operand(x[side]);
        return w.add(Op::Dot(DotAxes { batch, contract }, *precision), &operands);
    }
    None
}

/// An example of every rule: its name, the inputs, the value before and after.
#[cfg(test)]
pub(super) const CASES: &[super::tests::Case] = &[
    ("reduce over nothing", "%0: f32[2]", "%r: f32[2] = reduce_sum %0 [axes=]", "%0"),
    (
        "reduce over unit axes",
        "%0: f32[1,3,1]",
        "%r: f32[3] = reduce_max %0 [axes=0,2]",
        "%r: f32[3] = reshape %0 [shape=3]",
    ),
    (
        "reduce twice",
        "%0: f32[2,3,4]",
        "%1: f32[2,4] = reduce_max %0 [axes=1]; %r: f32[2] = reduce_max %1 [axes=1]",
        "%r: f32[2] = reduce_max %0 [axes=1,2]",
    ),
    (
        "reduce a broadcast",
        "%0: f32[]",
        "%1: f32[3,4] = broadcast_in_dim %0 [shape=3,4, dims=]; %r: f32[] = reduce_sum %1 [axes=0,1]",
        "%1: f32[] = literal 12.0; %r: f32[] = mul %0, %1",
    ),
    (
        "reduce a broadcast",
        "%0: i32[2,1]",
        "%1: i32[5,2,3] = broadcast_in_dim %0 [shape=5,2,3, dims=1,2]; %r: i32[5] = reduce_sum %1 [axes=1,2]",
        "%2: i32[] = reduce_sum %0 [axes=0,1]; %3: i32[] = literal 3; %4: i32[] = mul %2, %3; \
         %r: i32[5] = broadcast_in_dim %4 [shape=5, dims=]",
    ),
    (
        "reduce a broadcast",
        "%0: f32[2,3]",
        "%1: f32[2,4,3] = broadcast_in_dim %0 [shape=2,4,3, dims=0,2]; %r: f32[2,4] = reduce_prod %1 [axes=2]",
        "%1: f32[2] = reduce_prod %0 [axes=1]; %r: f32[2,4] = broadcast_in_dim %1 [shape=2,4, dims=0]",
    ),
    (
        "reduce a broadcast",
        "%0: f32[2]",
        "%1: f32[2,3] = broadcast_in_dim %0 [shape=2,3, dims=0]; %r: f32[2] = reduce_max %1 [axes=1]",
        "%0",
    ),
    (
        "contract a transpose",
        "%0: f32[3,2]; %1: f32[4,3]",
        "%2: f32[2,3] = transpose %0 [perm=1,0]; %3: f32[3,4] = transpose %1 [perm=1,0]; \
         %r: f32[2,4] = dot_general %2, %3 [batch=, contract=1:0]",
        "%r: f32[2,4] = dot_general %0, %1 [batch=, contract=0:1]",
    ),
];
