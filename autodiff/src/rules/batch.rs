//! Batching rules: the op on a batch for each op on one example.
//!
//! Comes in: a graph over single examples, and for each input a tensor with its mapped axis, or none if all examples
//! share it. Goes out: the results, likewise, recorded in the current trace. Trees and axes of users are not handled
//! here.
//!
//! The mapped axis is moved only where operands disagree: moving costs a transposition of data unless it is fused away.
//! Shared operands are broadcast only where an op needs it; a contraction of mapped with shared operands does not.

#![deny(clippy::wildcard_enum_match_arm)]

use fulgurite_jit::control::{body_types, record_scan};
use fulgurite_jit::graph::infer::scan_types;
use fulgurite_jit::graph::{DotAxes, Env, Graph, Node, Op};
use fulgurite_jit::trace::{apply_all, poison, reapply, trace};
use fulgurite_jit::types::Axes;
use fulgurite_jit::{DType, Scan, Shape, Tensor};
use smallvec::{SmallVec, smallvec};

use crate::rules::{Batched, control, conv, factors, indexing, linalg};

/// Records `graph` for a batch of `extent` examples in the current trace.
pub(crate) fn batch(graph: &Graph, inputs: &[Batched], extent: usize) -> Vec<Batched> {
    let mut env: Env<Batched> = Env::new(graph);
    for id in graph.ids() {
        env.compute(graph, id, inputs, |node, operands| batch_op(node, operands, extent));
    }
    graph.outputs.iter().map(|&x| env.get(x).clone()).collect()
}

/// The results of one op. The axes of the op are those of one example: axis `i` of an example is axis `i` of the batch
/// if it precedes the mapped axis, and `i + 1` otherwise.
fn batch_op(node: &Node, operands: &[&Batched], extent: usize) -> SmallVec<[Batched; 1]> {
    let location = node.location_or_caller();
    let results =
        |xs: SmallVec<[Tensor; 1]>, axis: Option<usize>| xs.into_iter().map(|x| Batched { x, axis }).collect();
    let record = |op: Op, operands: &[&Tensor], axis: usize| results(apply_all(op, operands, location), Some(axis));
    let Some(axis) = operands.iter().find_map(|operand| operand.axis) else {
        return results(reapply(node, &operands.iter().map(|operand| &operand.x).collect::<Vec<_>>()), None);
    };
    // For ops of one operand, which is mapped.
    let x = &operands[0].x;
    let shifted = |i: usize| if i < axis { i } else { i + 1 };

    match &node.op {
        Op::Param(_) | Op::Literal(_) | Op::Constant(_) | Op::Iota { .. } | Op::Result(_) => {
            unreachable!("{} has no operand that is mapped", node.op.name())
        }

        Op::Unary(_)
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::Select
        | Op::Convert(_)
        | Op::Bitcast(_)
        | Op::StopGradient
        | Op::Threefry => record(node.op.clone(), &refs(&aligned(operands, axis, extent)), axis),
        Op::Sort { axis: along, keys } => {
            let op = Op::Sort { axis: shifted(*along), keys: *keys };
            record(op, &refs(&aligned(operands, axis, extent)), axis)
        }

        // Axes before the last are a batch.
        Op::Fft { .. } => record(node.op.clone(), &refs(&aligned(operands, 0, extent)), 0),
        // Axes before the matrices are a batch.
        Op::Cholesky | Op::Lu | Op::Qr { .. } | Op::Eigh | Op::Svd { .. } => {
            record(node.op.clone(), &[&operands[0].at(0, extent)], 0)
        }
        Op::Solve { transpose_a } => {
            let solve = |a: &Tensor, b: &Tensor| factors::solve(*transpose_a, a, b);
            smallvec![linalg::batched_columns(solve, true, operands[0], operands[1], extent)]
        }
        Op::TriangularSolve(how) => smallvec![linalg::batched_solve(*how, operands[0], operands[1], extent)],

        Op::Reshape(shape) => {
            // The mapped axis can stay if some leading axes of the new shape have as many elements as the axes before
            // it.
            let before: usize = x.shape()[..axis].iter().product();
            let position = (0..=shape.len()).find(|&i| shape[..i].iter().product::<usize>() == before);
            let to = if before == 0 { None } else { position };
            let x = if to.is_some() { x.clone() } else { x.move_axis(axis, 0) };
            let mut batched = shape.clone();
            batched.insert(to.unwrap_or(0), extent);
            record(Op::Reshape(batched), &[&x], to.unwrap_or(0))
        }
        Op::Transpose(perm) => {
            let perm = std::iter::once(axis).chain(perm.iter().map(|&i| shifted(i)));
            record(Op::Transpose(perm.collect()), &[x], 0)
        }
        Op::Broadcast { shape, dims } => {
            // The dims of a broadcast ascend: the mapped axis goes behind the axis before it.
            let to = if axis == 0 { 0 } else { dims[axis - 1] + 1 };
            let mut dims: Axes = dims.iter().map(|&dim| if dim < to { dim } else { dim + 1 }).collect();
            dims.insert(axis, to);
            let mut shape = shape.clone();
            shape.insert(to, extent);
            record(Op::Broadcast { shape, dims }, &[x], to)
        }
        Op::Slice { start, limit, stride } => {
            let (mut start, mut limit, mut stride) = (start.clone(), limit.clone(), stride.clone());
            start.insert(axis, 0);
            limit.insert(axis, extent);
            stride.insert(axis, 1);
            record(Op::Slice { start, limit, stride }, &[x], axis)
        }
        Op::Pad { low, high, interior } => {
            smallvec![pad(low, high, interior, operands[0], operands[1], extent)]
        }
        Op::Concat(along) => record(Op::Concat(shifted(*along)), &refs(&aligned(operands, axis, extent)), axis),
        Op::Rev(axes) => record(Op::Rev(axes.iter().map(|&i| shifted(i)).collect()), &[x], axis),
        Op::Shear { axis: along, by, stride, step, extent: to } => {
            let (along, by) = (shifted(*along), shifted(*by));
            record(Op::Shear { axis: along, by, stride: *stride, step: *step, extent: *to }, &[x], axis)
        }
        Op::Unshear { axis: along, by, stride, step, extent: to } => {
            let (along, by) = (shifted(*along), shifted(*by));
            record(Op::Unshear { axis: along, by, stride: *stride, step: *step, extent: *to }, &[x], axis)
        }
        Op::Cumulative(op, along, reverse) => record(Op::Cumulative(*op, shifted(*along), *reverse), &[x], axis),
        Op::Reduce(op, axes) => {
            let removed = axes.iter().filter(|&&i| i < axis).count();
            record(Op::Reduce(*op, axes.iter().map(|&i| shifted(i)).collect()), &[x], axis - removed)
        }
        Op::ArgReduce(op, along) => {
            record(Op::ArgReduce(*op, shifted(*along)), &[x], if *along < axis { axis - 1 } else { axis })
        }
        Op::Dot(axes, precision) => {
            let (axes, axis) = dot(axes, operands[0], operands[1]);
            record(Op::Dot(axes, *precision), &[x, &operands[1].x], axis)
        }
        Op::Conv(dims, precision) => {
            smallvec![conv::batched(dims, *precision, operands[0], operands[1], extent, location)]
        }
        Op::Gather { dims, sizes } => {
            let (op, operands, axis) = indexing::batched_gather(dims, sizes, operands[0], operands[1], extent);
            record(op, &refs(&operands), axis)
        }
        Op::Scatter { dims, combine } => {
            let (dims, operands) = indexing::batched_scatter(dims, operands, extent);
            record(Op::Scatter { dims: dims.into(), combine: *combine }, &refs(&operands), 0)
        }
        Op::DynamicSlice { sizes } => {
            let (op, operands, axis) = indexing::batched_slice(sizes, operands, extent);
            record(op, &refs(&operands), axis)
        }
        Op::Scan { body, num_consts, num_carry, length, reverse } => {
            let trips = Scan { length: Some(*length), reverse: *reverse };
            scan(node, body, operands, [*num_consts, *num_carry], trips, extent)
        }
        Op::While { body, num_consts } => control::while_batch(node, body, operands, *num_consts, extent, batch),
        Op::Cond { branches } => control::cond_batch(node, branches, operands, extent, batch),
        Op::DynamicUpdateSlice => {
            let (op, operands, axis) = indexing::batched_update(operands, extent);
            record(op, &refs(&operands), axis)
        }
    }
}

/// A loop over the body of the batch. A value of the carry is mapped if it is so before or after a trip. Its mapped
/// axis is the first, and that of an element is the first too.
fn scan(
    node: &Node,
    body: &Graph,
    operands: &[&Batched],
    [num_consts, num_carry]: [usize; 2],
    trips: Scan,
    extent: usize,
) -> SmallVec<[Batched; 1]> {
    let location = node.location_or_caller();
    let (consts, rest) = operands.split_at(num_consts);
    let (init, xs) = rest.split_at(num_carry);
    let xs_mapped: Vec<bool> = xs.iter().map(|x| x.axis.is_some()).collect();
    let xs: Vec<Tensor> = xs.iter().map(|x| if x.axis.is_some() { x.at(1, extent) } else { x.x.clone() }).collect();
    let mut carry_mapped: Vec<bool> = init.iter().map(|x| x.axis.is_some()).collect();
    loop {
        let before = carry_mapped.clone();
        let at_first = |(x, &mapped): (&Batched, &bool)| if mapped { x.at(0, extent) } else { x.x.clone() };
        let init: Vec<Tensor> = init.iter().copied().zip(&before).map(at_first).collect();
        let mut ys_mapped = Vec::new();
        let traced = trace(&body_types(&init, &xs), |params| {
            let mapped = before.iter().chain(&xs_mapped);
            let mapped =
                params.iter().zip(mapped).map(|(x, &mapped)| Batched { x: x.clone(), axis: mapped.then_some(0) });
            let inputs: Vec<Batched> = consts.iter().map(|&x| x.clone()).chain(mapped).collect();
            let results = batch(body, &inputs, extent);
            let (carry, ys) = results.split_at(num_carry);
            carry_mapped.iter_mut().zip(carry).for_each(|(mapped, x)| *mapped |= x.axis.is_some());
            ys_mapped = ys.iter().map(|y| y.axis.is_some()).collect();
            results.iter().zip(before.iter().chain(&ys_mapped)).map(at_first).collect()
        });
        if before != carry_mapped {
            continue;
        }
        let mapped = before.iter().map(|mapped| mapped.then_some(0)).chain(ys_mapped.iter().map(|y| y.then_some(1)));
        return match traced {
            Ok(traced) => {
                let results = record_scan(traced, &init, &xs, trips, location);
                results.into_iter().zip(mapped).map(|(x, axis)| Batched { x, axis }).collect()
            }
            Err(error) => {
                let types = scan_types(body, num_carry, trips.length.unwrap_or(0)).into_iter();
                types.map(|ty| Batched { x: poison(ty, error.clone()), axis: None }).collect()
            }
        };
    }
}

/// All operands with the mapped axis at `axis`.
fn aligned(operands: &[&Batched], axis: usize, extent: usize) -> Vec<Tensor> {
    operands.iter().map(|operand| operand.at(axis, extent)).collect()
}

fn refs(tensors: &[Tensor]) -> Vec<&Tensor> {
    tensors.iter().collect()
}

fn pad(low: &[isize], high: &[isize], interior: &[usize], x: &Batched, value: &Batched, extent: usize) -> Batched {
    // No padding along the mapped axis.
    let grown = |x: &Tensor, axis: usize, value: &Tensor| {
        let (mut low, mut high): (SmallVec<[isize; 4]>, SmallVec<[isize; 4]>) = (low.into(), high.into());
        let mut interior = Shape::from_slice(interior);
        low.insert(axis, 0);
        high.insert(axis, 0);
        interior.insert(axis, 0);
        x.pad(value, &low, &high, &interior)
    };
    let axis = x.axis.unwrap_or(0);
    let data = x.at(axis, extent);
    if value.axis.is_none() {
        return Batched { x: grown(&data, axis, &value.x), axis: Some(axis) };
    }
    // The padding value is mapped, and an op pads with one scalar: pad with 0, and select by a mask.
    let padded = grown(&data, axis, &Tensor::literal(0.0, data.dtype()));
    let shape = Shape::from_slice(data.shape());
    let outside = grown(&Tensor::full(&shape, 0.0, DType::Bool), axis, &Tensor::scalar(true));
    let values = value.x.broadcast_in_dim(padded.shape(), &[axis]);
    Batched { x: outside.select(values, padded), axis: Some(axis) }
}

/// The axes of the contraction for the batch, and the mapped axis of its result: a batch axis if both operands are
/// mapped, a free one if one is.
fn dot(axes: &DotAxes, x: &Batched, y: &Batched) -> (DotAxes, usize) {
    let shift = |i: usize, axis: Option<usize>| if axis.is_some_and(|axis| i >= axis) { i + 1 } else { i };
    let both = |&(i, j): &(usize, usize)| (shift(i, x.axis), shift(j, y.axis));
    let mut batched =
        DotAxes { batch: axes.batch.iter().map(both).collect(), contract: axes.contract.iter().map(both).collect() };
    let position = |free: &[usize], axis: usize| free.iter().position(|&i| i == axis).unwrap_or(0);
    let (left, right) = (batched.free(0, x.x.rank()), batched.free(1, y.x.rank()));
    let axis = match (x.axis, y.axis) {
        (Some(i), Some(j)) => {
            batched.batch.insert(0, (i, j));
            0
        }
        (Some(i), None) => batched.batch.len() + position(&left, i),
        (None, Some(j)) => batched.batch.len() + left.len() + position(&right, j),
        (None, None) => 0,
    };
    (batched, axis)
}
