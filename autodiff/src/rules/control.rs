//! The rules of loops that end by what they compute, and of branches.
//!
//! What runs the rules over the graphs in an op is given: `jvp`, `batch` and `backward`. As for `scan`, a value of a
//! carry has a tangent, or is mapped, if it is so before or after a trip.

use std::sync::Arc;

use fulgurite_jit::branches::record_cond;
use fulgurite_jit::control::body_types;
use fulgurite_jit::graph::{BinaryOp, Env, Graph, Node, Op, ReduceOp, ValueId};
use fulgurite_jit::loops::record_while;
use fulgurite_jit::trace::{Traced, apply_all, poison, trace};
use fulgurite_jit::{DType, Error, Result, Tensor, TensorType};
use smallvec::{SmallVec, smallvec};

use crate::flat::{linear_part, live, replay, residuals};
use crate::rules::TransposeOperand::{Constant, Linear};
use crate::rules::dual::{Dual, duals, flattened, tangents};
use crate::rules::{Batched, Cotangents, TransposeOperand};

/// Records a graph and its tangents.
type Jvp = fn(&Graph, &[Dual]) -> Vec<Dual>;

/// Records a graph for a batch.
type Batch = fn(&Graph, &[Batched], usize) -> Vec<Batched>;

/// Per node and result of a graph the cotangents.
type Totals = Vec<SmallVec<[Option<Tensor>; 1]>>;

/// A loop with the tangents of its carry beside them.
pub(super) fn while_jvp(
    node: &Node,
    body: &Graph,
    operands: &[&Dual],
    num_consts: usize,
    jvp: Jvp,
) -> SmallVec<[Dual; 1]> {
    let (consts, init) = operands.split_at(num_consts);
    let mut has = tangents(init);
    loop {
        let before = has.clone();
        let carry = flattened(init, &before);
        let traced = trace(&body_types(&carry, &[]), |params| {
            let params = duals(params, &before);
            let results = jvp(body, &consts.iter().map(|&x| x.clone()).chain(params).collect::<Vec<_>>());
            let results: Vec<&Dual> = results.iter().collect();
            has.iter_mut().zip(tangents(&results)).for_each(|(has, after)| *has |= after);
            flattened(&results, &before)
        });
        if before != has {
            continue;
        }
        return match traced {
            Ok(traced) => duals(&record_while(traced, &carry, node.location_or_caller()), &before).into(),
            Err(error) => failed(&body.output_types(), &error).map(|x| Dual { x, dx: None }).collect(),
        };
    }
}

fn failed<'a>(types: &'a [TensorType], error: &'a Error) -> impl Iterator<Item = Tensor> + 'a {
    types.iter().map(|ty| poison(ty.clone(), error.clone()))
}

/// A loop over the body of the batch. If examples differ in whether there is a trip, all of the carry that a trip
/// changes is mapped; the loop runs until all examples have ended, and those that have are left alone.
pub(super) fn while_batch(
    node: &Node,
    body: &Graph,
    operands: &[&Batched],
    num_consts: usize,
    extent: usize,
    batch: Batch,
) -> SmallVec<[Batched; 1]> {
    let location = node.location_or_caller();
    let (consts, init) = operands.split_at(num_consts);
    let changes: Vec<bool> = (0..init.len()).map(|c| body.outputs[c] != body.params[num_consts + c]).collect();
    let mut mapped: Vec<bool> = init.iter().map(|x| x.axis.is_some()).collect();
    let or = |lanes: &Tensor| apply_all(Op::Reduce(ReduceOp::Or, smallvec![0]), &[lanes], location).swap_remove(0);
    loop {
        let differ = mapped[0];
        mapped.iter_mut().zip(&changes).for_each(|(mapped, changes)| *mapped |= differ && *changes);
        let before = mapped.clone();
        let at_first = |(x, &mapped): (&Batched, &bool)| if mapped { x.at(0, extent) } else { x.x.clone() };
        let mut carry: Vec<Tensor> = init.iter().copied().zip(&before).map(at_first).collect();
        if differ {
            // Whether there is a trip for any example comes before whether there is one for each.
            carry.insert(0, or(&carry[0]));
        }
        let traced = trace(&body_types(&carry, &[]), |params| {
            let carry = &params[usize::from(differ)..];
            let inputs = carry.iter().zip(&before);
            let inputs = inputs.map(|(x, &mapped)| Batched { x: x.clone(), axis: mapped.then_some(0) });
            let inputs: Vec<Batched> = consts.iter().map(|&x| x.clone()).chain(inputs).collect();
            let results = batch(body, &inputs, extent);
            mapped.iter_mut().zip(&results).for_each(|(mapped, x)| *mapped |= x.axis.is_some());
            let mut results: Vec<Tensor> = results.iter().zip(&before).map(at_first).collect();
            if differ {
                let lanes = &carry[0];
                for c in (1..results.len()).filter(|&c| before[c] && changes[c]) {
                    let running = lanes.broadcast_in_dim(results[c].shape(), &[0]);
                    results[c] = running.select(results[c].clone(), carry[c].clone());
                }
                results[0] = apply_all(Op::Binary(BinaryOp::And), &[lanes, &results[0]], location).swap_remove(0);
                results.insert(0, or(&results[0]));
            }
            results
        });
        if before != mapped {
            continue;
        }
        let types = body.output_types();
        let results = match traced {
            Ok(traced) => record_while(traced, &carry, location).split_off(usize::from(differ)),
            Err(error) => {
                return failed(&types, &error).map(|x| Batched { x, axis: None }).collect();
            }
        };
        let axes = before.iter().map(|mapped| mapped.then_some(0));
        return results.into_iter().zip(axes).map(|(x, axis)| Batched { x, axis }).collect();
    }
}

/// Branches with the tangents of their results beside these. A result has a tangent if it has one in any branch.
pub(super) fn cond_jvp(node: &Node, branches: &[Arc<Graph>], operands: &[&Dual], jvp: Jvp) -> SmallVec<[Dual; 1]> {
    let (index, inputs) = operands.split_first().expect("an index");
    let inputs_have = tangents(inputs);
    let flat = flattened(inputs, &inputs_have);
    let mut has = vec![false; branches[0].outputs.len()];
    loop {
        let before = has.clone();
        let one = |branch: &Arc<Graph>| {
            trace(&body_types(&flat, &[]), |params| {
                let results = jvp(branch, &duals(params, &inputs_have));
                let results: Vec<&Dual> = results.iter().collect();
                has.iter_mut().zip(tangents(&results)).for_each(|(has, of_branch)| *has |= of_branch);
                flattened(&results, &before)
            })
        };
        let traced: Result<Vec<Traced>> = branches.iter().map(one).collect();
        if before != has {
            continue;
        }
        return match traced {
            Ok(traced) => duals(&record_cond(traced, &index.x, &flat, node.location_or_caller()), &before).into(),
            Err(error) => failed(&branches[0].output_types(), &error).map(|x| Dual { x, dx: None }).collect(),
        };
    }
}

/// Branches for a batch: if examples run different ones, all of them run and their results are selected.
pub(super) fn cond_batch(
    node: &Node,
    branches: &[Arc<Graph>],
    operands: &[&Batched],
    extent: usize,
    batch: Batch,
) -> SmallVec<[Batched; 1]> {
    let location = node.location_or_caller();
    let (index, inputs) = operands.split_first().expect("an index");
    if index.axis.is_some() {
        let inputs: Vec<Batched> = inputs.iter().map(|&x| x.clone()).collect();
        let index = index.at(0, extent);
        let all = |branch: &Arc<Graph>| -> Vec<Tensor> {
            batch(branch, &inputs, extent).iter().map(|x| x.at(0, extent)).collect()
        };
        let mut all: Vec<Vec<Tensor>> = branches.iter().map(all).collect();
        let mut results = all.pop().expect("a branch");
        for (number, branch) in all.into_iter().enumerate().rev() {
            let number = Tensor::literal(number, DType::I32);
            let is_up_to = index.less_equal(number);
            for (result, x) in results.iter_mut().zip(branch) {
                *result = is_up_to.broadcast_in_dim(x.shape(), &[0]).select(x, result.clone());
            }
        }
        return results.into_iter().map(|x| Batched { x, axis: Some(0) }).collect();
    }
    let axes: Vec<Option<usize>> = inputs.iter().map(|x| x.axis).collect();
    let inputs: Vec<Tensor> = inputs.iter().map(|x| x.x.clone()).collect();
    let mut mapped = vec![false; branches[0].outputs.len()];
    loop {
        let before = mapped.clone();
        let one = |branch: &Arc<Graph>| {
            trace(&body_types(&inputs, &[]), |params| {
                let params = params.iter().zip(&axes).map(|(x, &axis)| Batched { x: x.clone(), axis });
                let results = batch(branch, &params.collect::<Vec<_>>(), extent);
                mapped.iter_mut().zip(&results).for_each(|(mapped, x)| *mapped |= x.axis.is_some());
                let at_first = |(x, &mapped): (&Batched, &bool)| if mapped { x.at(0, extent) } else { x.x.clone() };
                results.iter().zip(&before).map(at_first).collect()
            })
        };
        let traced: Result<Vec<Traced>> = branches.iter().map(one).collect();
        if before != mapped {
            continue;
        }
        return match traced {
            Ok(traced) => {
                let results = record_cond(traced, &index.x, &inputs, location);
                let axes = before.iter().map(|mapped| mapped.then_some(0));
                results.into_iter().zip(axes).map(|(x, axis)| Batched { x, axis }).collect()
            }
            Err(error) => failed(&branches[0].output_types(), &error).map(|x| Batched { x, axis: None }).collect(),
        };
    }
}

/// The transpose of branches that are linear in some operands: branches of their transposes.
///
/// # Errors
/// As `transpose`.
pub(super) fn cond_transpose(
    node: &Node,
    branches: &[Arc<Graph>],
    operands: &[TransposeOperand<'_>],
    cts: &[Option<Tensor>],
    backward: impl Fn(&Graph, &[bool], &Env<Tensor>, Vec<(ValueId, Tensor)>) -> Result<Totals>,
) -> Result<Cotangents> {
    let Constant(index) = operands[0] else {
        return Err(Error::compiler("transposition", "a branch is chosen by a tangent"));
    };
    let given: Vec<(usize, Tensor)> =
        cts.iter().enumerate().filter_map(|(o, ct)| ct.as_ref().map(|ct| (o, ct.clone()))).collect();
    let constants: Vec<(usize, Tensor)> = operands[1..]
        .iter()
        .enumerate()
        .filter_map(|(i, x)| if let Constant(x) = x { Some((i, (*x).clone())) } else { None })
        .collect();
    let linear_inputs: Vec<usize> = (0..operands.len() - 1).filter(|&i| matches!(operands[i + 1], Linear(_))).collect();
    let inputs: Vec<Tensor> = constants.iter().chain(&given).map(|(_, x)| x.clone()).collect();
    let mut error = None;
    let one = |branch: &Arc<Graph>| {
        let mut linear = vec![false; branch.nodes.len()];
        linear_inputs.iter().for_each(|&i| linear[branch.params[i].index()] = true);
        let linear = linear_part(branch, linear, &branch.outputs);
        trace(&body_types(&inputs, &[]), |params| {
            let (of_constants, of_given) = params.split_at(constants.len());
            let mut values: Env<Tensor> = Env::new(branch);
            for ((i, _), x) in constants.iter().zip(of_constants) {
                values.set(branch.params[*i], x.clone());
            }
            replay(branch, &live(branch, residuals(branch, &linear)), &mut values);
            let cts = given.iter().zip(of_given).map(|((o, _), ct)| (branch.outputs[*o], ct.clone()));
            let totals = match backward(branch, &linear, &values, cts.filter(|(id, _)| linear[id.index()]).collect()) {
                Ok(totals) => totals,
                Err(why) => {
                    error = Some(why);
                    return Vec::new();
                }
            };
            let ct = |i: &usize| {
                let ty = branch.ty(branch.params[*i]);
                let total = totals[branch.params[*i].index()].first().cloned().flatten();
                total.unwrap_or_else(|| Tensor::full(&ty.shape, 0.0, ty.dtype))
            };
            linear_inputs.iter().map(ct).collect()
        })
    };
    let traced: Result<Vec<Traced>> = branches.iter().map(one).collect();
    if let Some(error) = error {
        return Err(error);
    }
    let results = record_cond(traced?, index, &inputs, node.location_or_caller());
    let mut all: Cotangents = smallvec![None; operands.len()];
    linear_inputs.iter().zip(results).for_each(|(&i, ct)| all[i + 1] = Some(ct));
    Ok(all)
}

/// Why a loop has no transpose.
pub(super) fn while_transpose(node: &Node) -> Error {
    let why = "reverse-mode differentiation does not work for a loop whose number of trips is not known when it is \
               traced; use scan, or fori_loop between numbers, or differentiate in forward mode (jvp)";
    Error::op("while_loop", why, node.location_or_caller())
}
