//! Transposition rules: from the cotangent of the result of a linear op to those of its linear operands.
//!
//! Comes in: a node of the linear part of a graph, which of its operands are linear and what the others are, and the
//! cotangent `ct` of its result. Goes out: for each linear operand a contribution to its cotangent, recorded in the
//! current trace. If the op maps dx to A dx, the rule maps ct to Aᵀ ct, where ⟨A dx, ct⟩ = ⟨dx, Aᵀ ct⟩.
//!
//! Ops that are not linear have no rule: `jvp` never applies them to a tangent. One that is found here is a compiler
//! error.

#![deny(clippy::wildcard_enum_match_arm)]

use fulgurite_jit::control::{body_types, record_scan};
use fulgurite_jit::graph::{
    BinaryOp, CumulativeOp, DotAxes, Env, Graph, Node, Op, Precision, ReduceOp, ScatterOp, UnaryOp, ValueId,
};
use fulgurite_jit::trace::{apply_all, trace};
use fulgurite_jit::types::Axes;
use fulgurite_jit::{DType, Error, IndexMode, Result, Scan, Shape, Tensor, TensorType};
use smallvec::{SmallVec, smallvec};

use crate::flat::{add, linear_part, live, replay, residuals};
use crate::rules::jvp::inverse;
use crate::rules::{Cotangents, TransposeOperand, control, conv, factors, indexing, linalg};

use TransposeOperand::{Constant, Linear};

/// The transpose of one op, from the cotangents of its results; `None` is zero.
///
/// # Errors
/// A compiler error when the op is not linear in the `Linear` operands.
pub(crate) fn transpose(node: &Node, operands: &[TransposeOperand<'_>], cts: &[Option<Tensor>]) -> Result<Cotangents> {
    match (&node.op, cts) {
        (Op::Sort { axis, keys }, _) => sort(node, *axis, *keys, operands, cts),
        (Op::Scan { body, num_consts, num_carry, length, reverse }, _) => {
            let back = Scan { length: Some(*length), reverse: !reverse };
            scan(node, body, operands, [*num_consts, *num_carry], back, cts)
        }
        (Op::While { .. }, _) => Err(control::while_transpose(node)),
        (Op::Cond { branches }, _) => {
            let back =
                |branch: &Graph, linear: &[bool], values: &Env<Tensor>, cts| backward(branch, linear, values, cts);
            control::cond_transpose(node, branches, operands, cts, back)
        }
        (Op::Fft { inverse }, _) => {
            // The matrix of the transform is symmetric: that of both parts is transposed by the other sign.
            let zeros = || Tensor::full(&node.ty.shape, 0.0, node.ty.dtype);
            let [re, im] = [0, 1].map(|i| cts[i].clone().unwrap_or_else(zeros));
            let back = apply_all(Op::Fft { inverse: !inverse }, &[&re, &im], node.location_or_caller());
            let of = |(x, ct): (&TransposeOperand<'_>, Tensor)| x.cotangent_if_linear(|| ct);
            Ok(operands.iter().zip(back).map(of).collect())
        }
        (_, [Some(ct)]) => transpose_one(node, operands, ct),
        (_, [None] | [] | [_, _, ..]) => Ok(smallvec![None; operands.len()]),
    }
}

/// Per node and result, the cotangents of the linear values of a graph from those of some of them. `values` has the
/// others that the linear ones use.
///
/// # Errors
/// As [`transpose`].
pub(crate) fn backward(
    graph: &Graph,
    linear: &[bool],
    values: &Env<Tensor>,
    cts: impl IntoIterator<Item = (ValueId, Tensor)>,
) -> Result<Vec<SmallVec<[Option<Tensor>; 1]>>> {
    let mut totals: Vec<SmallVec<[Option<Tensor>; 1]>> =
        graph.nodes.iter().map(|node| smallvec![None; node.results()]).collect();
    let accumulate = |total: &mut Option<Tensor>, ct: Option<Tensor>| *total = add(total.take(), ct);
    for (id, ct) in cts {
        accumulate(&mut totals[id.index()][0], Some(ct));
    }
    for id in graph.ids().rev().filter(|id| linear[id.index()]) {
        let node = graph.node(id);
        if node.operands.is_empty() {
            continue;
        }
        // The cotangent of a value is the sum over its uses. It is complete here: all uses come later in the graph.
        let cts = std::mem::take(&mut totals[id.index()]);
        if cts.iter().all(Option::is_none) {
            continue;
        }
        if let (Op::Result(index), [ct]) = (&node.op, &cts[..]) {
            accumulate(&mut totals[node.operands[0].index()][*index as usize], ct.clone());
            continue;
        }
        let operand = |x: &ValueId| match linear[x.index()] {
            true => TransposeOperand::Linear(graph.ty(*x)),
            false => TransposeOperand::Constant(values.get(*x)),
        };
        let operands: SmallVec<[TransposeOperand<'_>; 4]> = node.operands.iter().map(operand).collect();
        for (x, ct) in node.operands.iter().zip(transpose(node, &operands, &cts)?) {
            if ct.is_some() {
                accumulate(&mut totals[x.index()][0], ct);
            }
        }
    }
    Ok(totals)
}

/// A loop that is linear in its carry, and in some constants and elements. Its transpose runs the other way: its carry
/// is the cotangent of the carry, and the sums of those of the linear constants.
fn scan(
    node: &Node,
    body: &Graph,
    operands: &[TransposeOperand<'_>],
    [num_consts, num_carry]: [usize; 2],
    back: Scan,
    cts: &[Option<Tensor>],
) -> Result<Cotangents> {
    let zeros = |ty: &TensorType| Tensor::full(&ty.shape, 0.0, ty.dtype);
    let (consts, xs) = (0..num_consts, num_consts + num_carry..operands.len());
    let carries = consts.end..xs.start;
    let is_linear = |i: &usize| carries.contains(i) || matches!(operands[*i], Linear(_));
    let (linear_consts, linear_xs): (Vec<usize>, Vec<usize>) =
        (consts.filter(is_linear).collect(), xs.clone().filter(is_linear).collect());
    let constants = |i: usize| if let Constant(x) = operands[i] { Some((i, x.clone())) } else { None };
    let constant_xs: Vec<(usize, Tensor)> = xs.filter_map(constants).collect();
    let given: Vec<(usize, Tensor)> =
        (num_carry..cts.len()).filter_map(|o| cts[o].as_ref().map(|ct| (o, ct.clone()))).collect();

    let carry_cts = (0..num_carry).map(|c| cts[c].clone().unwrap_or_else(|| zeros(operands[num_consts + c].ty())));
    let sums = linear_consts.iter().map(|&i| zeros(operands[i].ty()));
    let init: Vec<Tensor> = carry_cts.chain(sums).collect();
    let elements: Vec<Tensor> = constant_xs.iter().chain(&given).map(|(_, x)| x.clone()).collect();

    let mut linear = vec![false; body.nodes.len()];
    (0..operands.len()).filter(is_linear).for_each(|i| linear[body.params[i].index()] = true);
    let linear = linear_part(body, linear, &body.outputs);

    let mut failed = None;
    let traced = trace(&body_types(&init, &elements), |params| {
        let (carry, elements) = params.split_at(init.len());
        let (carry_cts, sums) = carry.split_at(num_carry);
        let (constant_elements, given_elements) = elements.split_at(constant_xs.len());
        let mut values: Env<Tensor> = Env::new(body);
        for (i, x) in (0..num_consts).filter_map(constants) {
            values.set(body.params[i], x);
        }
        for ((i, _), x) in constant_xs.iter().zip(constant_elements) {
            values.set(body.params[*i], x.clone());
        }
        replay(body, &live(body, residuals(body, &linear)), &mut values);
        let given = given.iter().map(|(o, _)| *o).zip(given_elements);
        let cts = carry_cts.iter().enumerate().chain(given).map(|(o, ct)| (body.outputs[o], ct.clone()));
        let cts = cts.filter(|(id, _)| linear[id.index()]);
        let totals = match backward(body, &linear, &values, cts) {
            Ok(totals) => totals,
            Err(error) => {
                failed = Some(error);
                return Vec::new();
            }
        };
        let ct = |i: usize| totals[body.params[i].index()].first().cloned().flatten();
        let or_zeros = |i: usize| ct(i).unwrap_or_else(|| zeros(body.ty(body.params[i])));
        let sums = sums.iter().zip(&linear_consts).map(|(sum, &i)| ct(i).map_or_else(|| sum.clone(), |ct| sum + ct));
        carries.clone().map(or_zeros).chain(sums).chain(linear_xs.iter().map(|&i| or_zeros(i))).collect()
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let results = record_scan(traced?, &init, &elements, back, node.location_or_caller());
    let order = carries.clone().chain(linear_consts.iter().copied()).chain(linear_xs.iter().copied());
    let mut all: Cotangents = smallvec![None; operands.len()];
    for (i, ct) in order.zip(results) {
        all[i] = operands[i].cotangent_if_linear(|| ct);
    }
    Ok(all)
}

/// A sort by constant keys permutes the other operands; its transpose permutes them back.
fn sort(
    node: &Node,
    axis: usize,
    keys: usize,
    operands: &[TransposeOperand<'_>],
    cts: &[Option<Tensor>],
) -> Result<Cotangents> {
    let keys: Option<SmallVec<[&Tensor; 2]>> =
        operands[..keys].iter().map(|x| if let Constant(x) = x { Some(*x) } else { None }).collect();
    let Some(keys) = keys else { return nonlinear(node, operands) };
    let location = node.location_or_caller();
    let positions = Tensor::iota(DType::I32, keys[0].shape(), axis);
    // Result `i` is element `p[i]`: sorting by p puts it back.
    let sorted = apply_all(Op::Sort { axis, keys: keys.len() }, &[&keys[..], &[&positions]].concat(), location);
    let p = &sorted[keys.len()];
    let given: Vec<&Tensor> = cts.iter().flatten().collect();
    let mut back = apply_all(Op::Sort { axis, keys: 1 }, &[&[p], &given[..]].concat(), location).into_iter().skip(1);
    let place = |(x, ct): (&TransposeOperand<'_>, &Option<Tensor>)| {
        let ct = ct.as_ref().and_then(|_| back.next());
        if let Linear(_) = x { ct } else { None }
    };
    Ok(operands.iter().zip(cts).map(place).collect())
}

/// The transpose of an op with one result.
fn transpose_one(node: &Node, operands: &[TransposeOperand<'_>], ct: &Tensor) -> Result<Cotangents> {
    let one = |ct: Tensor| Ok(smallvec![Some(ct)]);
    match &node.op {
        Op::Unary(UnaryOp::Neg) => one(-ct),
        Op::Binary(BinaryOp::Add) => Ok(operands.iter().map(|x| x.cotangent_if_linear(|| ct.clone())).collect()),
        Op::Binary(BinaryOp::Sub) => {
            Ok(smallvec![operands[0].cotangent_if_linear(|| ct.clone()), operands[1].cotangent_if_linear(|| -ct)])
        }
        Op::Binary(BinaryOp::Mul) => match operands {
            [Linear(_), Constant(y)] => Ok(smallvec![Some(ct * *y), None]),
            [Constant(x), Linear(_)] => Ok(smallvec![None, Some(ct * *x)]),
            [..] => nonlinear(node, operands),
        },
        Op::Binary(BinaryOp::Div) => match operands {
            [Linear(_), Constant(y)] => Ok(smallvec![Some(ct / *y), None]),
            [..] => nonlinear(node, operands),
        },
        Op::Select => match operands {
            [Constant(pred), x, y] => Ok(smallvec![
                None,
                x.cotangent_if_linear(|| pred.select(ct, 0.0)),
                y.cotangent_if_linear(|| pred.select(0.0, ct)),
            ]),
            [..] => nonlinear(node, operands),
        },
        Op::Convert(_) => one(ct.convert(operands[0].ty().dtype)),
        Op::Reshape(_) => one(ct.reshape(&operands[0].ty().shape)),
        Op::Transpose(perm) => one(ct.transpose(&inverse(perm))),
        Op::Broadcast { dims, .. } => one(broadcast(dims, operands[0].ty(), ct)),
        Op::Slice { start, limit: _, stride } => one(slice(start, stride, operands[0].ty(), ct)),
        Op::Pad { low, high, interior } => Ok(pad((low, high, interior), operands, ct)),
        Op::Concat(axis) => {
            let mut start = 0;
            let part = |x: &TransposeOperand<'_>| {
                let range = start..start + x.ty().shape[*axis];
                start = range.end;
                x.cotangent_if_linear(|| ct.slice_in_dim(*axis as isize, range))
            };
            Ok(operands.iter().map(part).collect())
        }
        Op::Rev(axes) => one(ct.rev(axes)),
        Op::Shear { axis, by, stride, step, extent: _ } => {
            let extent = operands[0].ty().shape[*axis];
            let op = Op::Unshear { axis: *axis, by: *by, stride: *stride, step: *step, extent };
            one(apply_all(op, &[ct], node.location_or_caller()).swap_remove(0))
        }
        Op::Unshear { axis, by, stride, step, extent: _ } => {
            let extent = operands[0].ty().shape[*axis];
            let op = Op::Shear { axis: *axis, by: *by, stride: *stride, step: *step, extent };
            one(apply_all(op, &[ct], node.location_or_caller()).swap_remove(0))
        }
        Op::Cumulative(CumulativeOp::Sum, axis, reverse) => {
            one(ct.cumulative(CumulativeOp::Sum, *axis as isize, !reverse))
        }
        Op::Reduce(ReduceOp::Sum, axes) => {
            let x = operands[0].ty();
            let kept: Axes = (0..x.rank()).filter(|axis| !axes.contains(axis)).collect();
            one(ct.broadcast_in_dim(&x.shape, &kept))
        }
        Op::Dot(axes, precision) => match operands {
            [Linear(x), Constant(y)] => Ok(smallvec![Some(dot(axes, *precision, 0, x, y, ct)), None]),
            [Constant(x), Linear(y)] => Ok(smallvec![None, Some(dot(axes, *precision, 1, y, x, ct))]),
            [..] => nonlinear(node, operands),
        },
        Op::Conv(dims, precision) => {
            let location = node.location_or_caller();
            match operands {
                [Linear(x), Constant(w)] => {
                    Ok(smallvec![Some(conv::cotangent_of_left(dims, *precision, x, w, ct, location)), None])
                }
                [Constant(x), Linear(w)] => {
                    Ok(smallvec![None, Some(conv::cotangent_of_right(dims, *precision, x, w, ct, location))])
                }
                [..] => nonlinear(node, operands),
            }
        }
        Op::Gather { dims, sizes } => match operands {
            [Linear(x), Constant(indices)] => Ok(smallvec![Some(indexing::gather(dims, sizes, x, indices, ct)), None]),
            [..] => nonlinear(node, operands),
        },
        Op::Scatter { dims, combine } => match operands {
            [Linear(_), Constant(indices), Constant(updates)] if *combine == ScatterOp::Mul => {
                Ok(smallvec![Some(ct.scatter_mul(indices, updates, (**dims).clone(), IndexMode::Fill)), None, None])
            }
            [x, Constant(indices), updates] if matches!(combine, ScatterOp::Add | ScatterOp::Set) => {
                let [x, updates] = indexing::scatter(dims, *combine, [x, updates], indices, ct);
                Ok(smallvec![x, None, updates])
            }
            [..] => nonlinear(node, operands),
        },
        Op::TriangularSolve(how) => match operands {
            [Constant(a), Linear(_)] => Ok(smallvec![None, Some(linalg::cotangent_of_right_hand_side(*how, a, ct))]),
            [..] => nonlinear(node, operands),
        },
        Op::Solve { transpose_a } => match operands {
            [Constant(a), Linear(_)] => Ok(smallvec![None, Some(factors::solve(!transpose_a, a, ct))]),
            [..] => nonlinear(node, operands),
        },
        Op::DynamicSlice { .. } => match (&operands[0], indexing::constants(&operands[1..])) {
            (Linear(x), Some(starts)) => {
                let zeros = Tensor::full(&x.shape, 0.0, x.dtype);
                Ok(indexing::cotangents([Some(indexing::updated(&zeros, ct, &starts))], starts.len()))
            }
            (Linear(_) | Constant(_), _) => nonlinear(node, operands),
        },
        Op::DynamicUpdateSlice => match indexing::constants(&operands[2..]) {
            Some(starts) => {
                let update = operands[1].ty();
                let of_x = operands[0].cotangent_if_linear(|| {
                    indexing::updated(ct, &Tensor::full(&update.shape, 0.0, update.dtype), &starts)
                });
                let of_update = operands[1].cotangent_if_linear(|| indexing::sliced(ct, &update.shape, &starts));
                Ok(indexing::cotangents([of_x, of_update], starts.len()))
            }
            None => nonlinear(node, operands),
        },

        Op::Param(_)
        | Op::Literal(_)
        | Op::Constant(_)
        | Op::Iota { .. }
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::Bitcast(_)
        | Op::StopGradient
        | Op::Threefry
        | Op::Sort { .. }
        | Op::Fft { .. }
        | Op::Scan { .. }
        | Op::While { .. }
        | Op::Cond { .. }
        | Op::Cholesky
        | Op::Lu
        | Op::Qr { .. }
        | Op::Eigh
        | Op::Svd { .. }
        | Op::Result(_)
        | Op::Cumulative(..)
        | Op::Reduce(..)
        | Op::ArgReduce(..) => nonlinear(node, operands),
    }
}

fn nonlinear(node: &Node, operands: &[TransposeOperand<'_>]) -> Result<Cotangents> {
    let show = |x: &TransposeOperand<'_>| match x {
        Linear(ty) => format!("{ty} (linear)"),
        Constant(x) => x.ty().to_string(),
    };
    let operands: Vec<String> = operands.iter().map(show).collect();
    let message = format!("cannot transpose {} of {}", node.op.name(), operands.join(", "));
    Err(Error::compiler("linearize", message))
}

/// Sums over new axes, and over those that had extent 1.
fn broadcast(dims: &[usize], x: &TensorType, ct: &Tensor) -> Tensor {
    let stays = |axis: usize| dims.iter().position(|&dim| dim == axis).is_some_and(|i| x.shape[i] == ct.shape()[axis]);
    let summed: Axes = (0..ct.rank()).filter(|&axis| !stays(axis)).collect();
    ct.sum_axes(&summed).reshape(&x.shape)
}

/// Elements outside of the slice have cotangent zero.
fn slice(start: &[usize], stride: &[usize], x: &TensorType, ct: &Tensor) -> Tensor {
    let low: SmallVec<[isize; 4]> = start.iter().map(|&n| n as isize).collect();
    let interior: Shape = stride.iter().map(|n| n - 1).collect();
    let high = (0..x.rank()).map(|axis| {
        let extent = ct.shape()[axis] as isize;
        let padded = extent + (extent - 1).max(0) * interior[axis] as isize;
        x.shape[axis] as isize - low[axis] - padded
    });
    ct.pad(0.0, &low, &high.collect::<SmallVec<[isize; 4]>>(), &interior)
}

/// The operand gets the elements at its positions, the padding value the sum of all others.
fn pad(config: (&[isize], &[isize], &[usize]), operands: &[TransposeOperand<'_>], ct: &Tensor) -> Cotangents {
    let (low, high, interior) = config;
    let of_operand = || {
        // Undo the edges first: elements that were cut off have cotangent zero, which negative padding inserts.
        let negate = |edge: &[isize]| edge.iter().map(|n| -n).collect::<SmallVec<[isize; 4]>>();
        let padded = ct.pad(0.0, &negate(low), &negate(high), &Axes::from_elem(0, low.len()));
        let stride: Shape = interior.iter().map(|n| n + 1).collect();
        let limit = Shape::from_slice(padded.shape());
        padded.slice(&Axes::from_elem(0, low.len()), &limit, &stride)
    };
    let of_value = || {
        let inside = Tensor::full(&operands[0].ty().shape, 0.0, DType::Bool);
        inside.pad(true, low, high, interior).select(ct, 0.0).sum()
    };
    smallvec![operands[0].cotangent_if_linear(of_operand), operands[1].cotangent_if_linear(of_value)]
}

/// The contraction of `ct` with the constant operand `other`, for the operand on `side` (0 left, 1 right) of type `x`.
///
/// The axes of `ct` are the batch axes, the free axes of the left and those of the right operand. `ct` and `other`
/// share the batch axes and are contracted along the free axes of `other`. What remains are the free axes of `x` and
/// those that were contracted with `x`: all axes of `x`, in some order.
fn dot(
    axes: &DotAxes,
    precision: Option<Precision>,
    side: usize,
    x: &TensorType,
    other: &Tensor,
    ct: &Tensor,
) -> Tensor {
    // Pairs as (axis of x, axis of other).
    let pair = |&(left, right): &(usize, usize)| if side == 0 { (left, right) } else { (right, left) };
    let batch: SmallVec<[(usize, usize); 2]> = axes.batch.iter().map(pair).collect();
    let mut contract: SmallVec<[(usize, usize); 2]> = axes.contract.iter().map(pair).collect();
    contract.sort_unstable_by_key(|&(_, of_other)| of_other);
    let free = axes.free(side, x.rank());
    let free_other = axes.free(1 - side, other.rank());
    let other_starts = batch.len() + if side == 0 { free.len() } else { 0 };

    // Both operand orders give the same values. Use the one whose result has the axes in the order of `x`, if any.
    let batch_pairs = batch.iter().enumerate().map(|(i, &(_, of_other))| (i, of_other));
    let contracted = free_other.iter().enumerate().map(|(i, &of_other)| (other_starts + i, of_other));
    let ct_first = DotAxes { batch: batch_pairs.collect(), contract: contracted.collect() };
    let order = |free_first: bool| -> Axes {
        let batch = batch.iter().map(|&(of_x, _)| of_x);
        let contracted = contract.iter().map(|&(of_x, _)| of_x);
        match free_first {
            true => batch.chain(free.iter().copied()).chain(contracted).collect(),
            false => batch.chain(contracted).chain(free.iter().copied()).collect(),
        }
    };
    let other_first = order(false);
    if other_first.iter().enumerate().all(|(i, &axis)| i == axis) {
        let swap = |pairs: &[(usize, usize)]| pairs.iter().map(|&(a, b)| (b, a)).collect();
        let axes = DotAxes { batch: swap(&ct_first.batch), contract: swap(&ct_first.contract) };
        return other.dot_general_in(ct, axes, precision);
    }
    ct.dot_general_in(other, ct_first, precision).transpose(&inverse(&order(true)))
}
