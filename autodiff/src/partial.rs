//! Partial evaluation of control flow: a loop over values and their tangents becomes two, one over the values and one
//! that is linear in the tangents; and so do branches (`partial_cond`).
//!
//! Comes in: a graph, and which of its inputs are tangents. Goes out: a graph with the same inputs and results, in
//! which no op but a linear one depends on a tangent. The first loop hands the values that the second one uses in each
//! trip, its *residuals*, over as further results. What is cheap or the same in all trips is computed again instead.
//! A loop whose number of trips is not known has no residuals: the second loop computes all again and has no
//! transpose.

use fulgurite_jit::control::{body_types, record_scan};
use fulgurite_jit::graph::{Env, Graph, Node, Op, OpClass, ValueId, results};
use fulgurite_jit::loops::record_while;
use fulgurite_jit::trace::{poison, reapply, trace};
use fulgurite_jit::{Result, Scan, Tensor, TensorType};
use smallvec::SmallVec;

use crate::flat::{dependent_on, linear_part, live, replay, residuals};
use crate::partial_cond::{Value, split_cond};

/// Splits a loop or a branch.
type SplitNode = fn(&Node, &[&Value]) -> Result<SmallVec<[Value; 1]>>;

/// Splits the loops and the branches of `graph` that depend on a tangent, and those inside of them.
///
/// # Errors
/// A result that is larger than memory can be.
pub(crate) fn split_scans(graph: Graph, is_tangent: &dyn Fn(usize) -> bool) -> Result<Graph> {
    let depends = dependent_on(&graph, is_tangent);
    if !graph.ids().any(|id| depends[id.index()] && graph.node(id).op.class() == OpClass::Control) {
        return Ok(graph);
    }
    let traced = trace(&graph.param_types(), |params| {
        let mut env: Env<Value> = Env::new(&graph);
        let params: Vec<Value> =
            params.iter().enumerate().map(|(i, x)| Value { x: x.clone(), is_linear: is_tangent(i) }).collect();
        for id in graph.ids() {
            env.compute(&graph, id, &params, |node, operands| {
                let is_linear = operands.iter().any(|operand| operand.is_linear);
                let split: Option<SplitNode> = if matches!(node.op, Op::Scan { .. }) {
                    Some(split)
                } else if matches!(node.op, Op::While { .. }) {
                    Some(split_while)
                } else if matches!(node.op, Op::Cond { .. }) {
                    Some(|node, operands| split_cond(node, operands, split_scans))
                } else {
                    None
                };
                if let (true, Some(split)) = (is_linear, split) {
                    return split(node, operands).unwrap_or_else(|error| {
                        let failed = |ty| Value { x: poison(ty, error.clone()), is_linear };
                        let types: Vec<&TensorType> = operands.iter().map(|operand| operand.x.ty()).collect();
                        let types = results(&node.op, &types).expect("the graph is verified");
                        types.into_iter().map(failed).collect()
                    });
                }
                let xs: Vec<&Tensor> = operands.iter().map(|operand| &operand.x).collect();
                reapply(node, &xs).into_iter().map(|x| Value { x, is_linear }).collect()
            });
        }
        graph.outputs.iter().map(|&x| env.get(x).x.clone()).collect()
    })?;
    Ok(traced.graph)
}

/// The two loops of one. Gives all its results.
fn split(node: &Node, operands: &[&Value]) -> Result<SmallVec<[Value; 1]>> {
    let Op::Scan { body, num_consts, num_carry, length, reverse } = &node.op else { unreachable!("a scan") };
    let (num_consts, num_carry) = (*num_consts, *num_carry);
    let trips = Scan { length: Some(*length), reverse: *reverse };
    let (consts, carries) = (0..num_consts, num_consts..num_consts + num_carry);
    let xs = carries.end..operands.len();
    // A value of the carry is linear if it is so before or after a trip.
    let mut linear: Vec<bool> = operands.iter().map(|operand| operand.is_linear).collect();
    let (body, depends) = loop {
        let body = split_scans((**body).clone(), &|i| linear[i])?;
        let depends = dependent_on(&body, |i| linear[i]);
        let grown = (0..num_carry).filter(|&c| depends[body.outputs[c].index()] && !linear[num_consts + c]);
        let grown: Vec<usize> = grown.collect();
        if grown.is_empty() {
            break (body, depends);
        }
        grown.into_iter().for_each(|c| linear[num_consts + c] = true);
    };
    let is_linear_output =
        |o: usize| if o < num_carry { linear[num_consts + o] } else { depends[body.outputs[o].index()] };
    let (linear_outputs, known_outputs): (Vec<usize>, Vec<usize>) =
        (0..body.outputs.len()).partition(|&o| is_linear_output(o));
    let linear_values: Vec<ValueId> = linear_outputs.iter().map(|&o| body.outputs[o]).collect();
    let in_linear = linear_part(&body, depends.clone(), &linear_values);

    // What the linear loop needs: saved by the first, or computed again.
    let mut needed = vec![false; body.nodes.len()];
    residuals(&body, &in_linear).iter().for_each(|x| needed[x.index()] = true);
    linear_values.iter().filter(|x| !depends[x.index()]).for_each(|x| needed[x.index()] = true);
    let varies = dependent_on(&body, |i| !consts.contains(&i));
    let (mut again, mut saved) = (in_linear.clone(), Vec::new());
    for id in body.ids().rev().filter(|id| !depends[id.index()]) {
        let node = body.node(id);
        let is_input = |i: &usize| consts.contains(i) || xs.contains(i);
        if !needed[id.index()] || matches!(&node.op, Op::Param(i) if is_input(i)) {
            continue;
        }
        let is_cheap = node.op.class() == OpClass::Leaf || matches!(node.op, Op::Broadcast { .. });
        if !matches!(node.op, Op::Param(_)) && (is_cheap || !varies[id.index()]) {
            again[id.index()] = true;
            node.operands.iter().for_each(|x| needed[x.index()] = true);
        } else {
            saved.push(id);
        }
    }

    let pick = |range: std::ops::Range<usize>, of: bool| -> Vec<usize> { range.filter(|&i| linear[i] == of).collect() };
    let tensors = |indices: &[usize]| -> Vec<Tensor> { indices.iter().map(|&i| operands[i].x.clone()).collect() };
    let with_consts =
        |env: &mut Env<Tensor>| consts.clone().for_each(|i| env.set(body.params[i], operands[i].x.clone()));

    let mut outputs: Vec<ValueId> = known_outputs.iter().map(|&o| body.outputs[o]).collect();
    let known_carry = pick(carries.clone(), false);
    let places: Vec<usize> = saved
        .iter()
        .map(|id| {
            let known = outputs.iter().skip(known_carry.len()).position(|output| output == id);
            known.map_or_else(
                || {
                    outputs.push(*id);
                    outputs.len() - 1
                },
                |place| place + known_carry.len(),
            )
        })
        .collect();
    let known_xs = pick(xs.clone(), false);
    let (carry, elements) = (tensors(&known_carry), tensors(&known_xs));
    let traced = trace(&body_types(&carry, &elements), |params| {
        let mut env: Env<Tensor> = Env::new(&body);
        with_consts(&mut env);
        known_carry.iter().chain(&known_xs).zip(params).for_each(|(&i, x)| env.set(body.params[i], x.clone()));
        replay(&body, &live(&body, outputs.iter().copied()), &mut env);
        outputs.iter().map(|&x| env.get(x).clone()).collect()
    })?;
    let known = record_scan(traced, &carry, &elements, trips, node.location_or_caller());

    let linear_carry = pick(carries, true);
    let used_xs: Vec<usize> = xs.filter(|&i| linear[i] || needed[body.params[i].index()]).collect();
    let carry = tensors(&linear_carry);
    let mut elements = tensors(&used_xs);
    elements.extend(places.iter().map(|&place| known[place].clone()));
    let traced = trace(&body_types(&carry, &elements), |params| {
        let mut env: Env<Tensor> = Env::new(&body);
        with_consts(&mut env);
        let ids = linear_carry.iter().chain(&used_xs).map(|&i| body.params[i]).chain(saved.iter().copied());
        ids.zip(params).for_each(|(id, x)| env.set(id, x.clone()));
        replay(&body, &again, &mut env);
        linear_values.iter().map(|&x| env.get(x).clone()).collect()
    })?;
    let tangents = record_scan(traced, &carry, &elements, trips, node.location_or_caller());

    let value = |is_linear| move |(o, x): (usize, Tensor)| (o, Value { x, is_linear });
    let known = known_outputs.into_iter().zip(known).map(value(false));
    let tangents = linear_outputs.into_iter().zip(tangents).map(value(true));
    let mut results: Vec<(usize, Value)> = known.chain(tangents).collect();
    results.sort_by_key(|(o, _)| *o);
    Ok(results.into_iter().map(|(_, value)| value).collect())
}

/// A loop over the values of the carry that do not depend on a tangent, and the whole loop for the others.
fn split_while(node: &Node, operands: &[&Value]) -> Result<SmallVec<[Value; 1]>> {
    let Op::While { body, num_consts } = &node.op else { unreachable!("a loop") };
    let num_consts = *num_consts;
    let mut linear: Vec<bool> = operands.iter().map(|operand| operand.is_linear).collect();
    let body = &loop {
        // What is inside is split too: else all results of a loop in it would depend on a tangent.
        let body = split_scans((**body).clone(), &|i| linear[i])?;
        let depends = dependent_on(&body, |i| linear[i]);
        let grown = (num_consts..linear.len()).filter(|&i| depends[body.outputs[i - num_consts].index()] && !linear[i]);
        let grown: Vec<usize> = grown.collect();
        if grown.is_empty() {
            break body;
        }
        grown.into_iter().for_each(|i| linear[i] = true);
    };
    let xs: Vec<&Tensor> = operands.iter().map(|operand| &operand.x).collect();
    let all = reapply(node, &xs);
    let known: Vec<usize> = (num_consts..linear.len()).filter(|&i| !linear[i]).collect();
    let carry: Vec<Tensor> = known.iter().map(|&i| operands[i].x.clone()).collect();
    let outputs: Vec<ValueId> = known.iter().map(|&i| body.outputs[i - num_consts]).collect();
    let traced = trace(&body_types(&carry, &[]), |params| {
        let mut env: Env<Tensor> = Env::new(body);
        (0..num_consts).filter(|&i| !linear[i]).for_each(|i| env.set(body.params[i], operands[i].x.clone()));
        known.iter().zip(params).for_each(|(&i, x)| env.set(body.params[i], x.clone()));
        replay(body, &live(body, outputs.iter().copied()), &mut env);
        outputs.iter().map(|&x| env.get(x).clone()).collect()
    })?;
    let mut known = record_while(traced, &carry, node.location_or_caller()).into_iter();
    let value = |(x, &is_linear): (Tensor, &bool)| {
        let x = if is_linear { x } else { known.next().expect("each of the carry") };
        Value { x, is_linear }
    };
    Ok(all.into_iter().zip(&linear[num_consts..]).map(value).collect())
}
