//! Partial evaluation of branches: those of values and their tangents become two, one of the values and one that is
//! linear in the tangents.
//!
//! The first hands over what the second one uses. Branches use different values, so a place that one of them does not
//! fill is 0 there; values of one type share places.

use fulgurite_jit::branches::record_cond;
use fulgurite_jit::control::body_types;
use fulgurite_jit::graph::{Env, Graph, Node, Op, OpClass, ValueId};
use fulgurite_jit::trace::{Traced, trace};
use fulgurite_jit::{Result, Tensor, TensorType};
use smallvec::SmallVec;

use crate::flat::{dependent_on, linear_part, live, replay, residuals};

/// A value of the graph whose loops and branches are split.
#[derive(Clone)]
pub(crate) struct Value {
    pub(crate) x: Tensor,
    /// Whether it depends on a tangent.
    pub(crate) is_linear: bool,
}

/// Splits what is in a graph, of whose inputs some are tangents.
type Split = fn(Graph, &dyn Fn(usize) -> bool) -> Result<Graph>;

/// A branch, and what of it is where.
struct Branch {
    graph: Graph,
    /// What the linear branch computes.
    again: Vec<bool>,
    /// Values that the first branch hands over, and their places.
    saved: Vec<(ValueId, usize)>,
    /// The inputs that the linear branch uses.
    uses: Vec<bool>,
}

/// The two ops of one. Gives all its results.
pub(crate) fn split_cond(node: &Node, operands: &[&Value], split: Split) -> Result<SmallVec<[Value; 1]>> {
    let Op::Cond { branches } = &node.op else { unreachable!("branches") };
    let location = node.location_or_caller();
    let (index, inputs) = operands.split_first().expect("an index");
    let graphs: Result<Vec<Graph>> =
        branches.iter().map(|branch| split((**branch).clone(), &|i| inputs[i].is_linear)).collect();
    let graphs = graphs?;
    let count = graphs[0].outputs.len();
    let depends: Vec<Vec<bool>> = graphs.iter().map(|graph| dependent_on(graph, |i| inputs[i].is_linear)).collect();
    let is_linear: Vec<bool> = (0..count)
        .map(|o| graphs.iter().zip(&depends).any(|(graph, depends)| depends[graph.outputs[o].index()]))
        .collect();
    let (linear, known): (Vec<usize>, Vec<usize>) = (0..count).partition(|&o| is_linear[o]);
    let mut places: Vec<TensorType> = Vec::new();
    let branches: Vec<Branch> = graphs
        .into_iter()
        .zip(depends)
        .map(|(graph, depends)| Branch::new(graph, depends, &linear, &mut places))
        .collect();

    // The first: of what does not depend on a tangent.
    let of_known: Vec<usize> = (0..inputs.len()).filter(|&i| !inputs[i].is_linear).collect();
    let values: Vec<Tensor> = of_known.iter().map(|&i| inputs[i].x.clone()).collect();
    let first = |branch: &Branch| {
        trace(&body_types(&values, &[]), |params| {
            let graph = &branch.graph;
            let mut env: Env<Tensor> = Env::new(graph);
            of_known.iter().zip(params).for_each(|(&i, x)| env.set(graph.params[i], x.clone()));
            let outputs: Vec<ValueId> = known.iter().map(|&o| graph.outputs[o]).collect();
            let saved = branch.saved.iter().map(|(id, _)| *id);
            replay(graph, &live(graph, outputs.iter().copied().chain(saved)), &mut env);
            let mut results: Vec<Tensor> = outputs.iter().map(|&x| env.get(x).clone()).collect();
            results.extend(places.iter().enumerate().map(|(place, ty)| {
                let saved = branch.saved.iter().find(|(_, at)| *at == place);
                saved.map_or_else(|| Tensor::full(&ty.shape, 0.0, ty.dtype), |(id, _)| env.get(*id).clone())
            }));
            results
        })
    };
    let traced: Result<Vec<Traced>> = branches.iter().map(first).collect();
    let mut results = record_cond(traced?, &index.x, &values, location);
    let saved = results.split_off(known.len());

    // The second: linear in the tangents.
    let used: Vec<usize> = (0..inputs.len()).filter(|&i| branches.iter().any(|branch| branch.uses[i])).collect();
    let mut values: Vec<Tensor> = used.iter().map(|&i| inputs[i].x.clone()).collect();
    values.extend(saved);
    let second = |branch: &Branch| {
        trace(&body_types(&values, &[]), |params| {
            let graph = &branch.graph;
            let mut env: Env<Tensor> = Env::new(graph);
            let (of_inputs, of_places) = params.split_at(used.len());
            used.iter().zip(of_inputs).for_each(|(&i, x)| env.set(graph.params[i], x.clone()));
            branch.saved.iter().for_each(|(id, place)| env.set(*id, of_places[*place].clone()));
            replay(graph, &branch.again, &mut env);
            linear.iter().map(|&o| env.get(graph.outputs[o]).clone()).collect()
        })
    };
    let traced: Result<Vec<Traced>> = branches.iter().map(second).collect();
    let tangents = record_cond(traced?, &index.x, &values, location);

    let (mut known, mut tangents) = (results.into_iter(), tangents.into_iter());
    let value = |&is_linear: &bool| {
        let x = if is_linear { tangents.next() } else { known.next() };
        Value { x: x.expect("each result is of one of them"), is_linear }
    };
    Ok(is_linear.iter().map(value).collect())
}

impl Branch {
    /// What the results `linear` need; `places` are those of the branches before.
    fn new(graph: Graph, depends: Vec<bool>, linear: &[usize], places: &mut Vec<TensorType>) -> Branch {
        let outputs: Vec<ValueId> = linear.iter().map(|&o| graph.outputs[o]).collect();
        let mut again = linear_part(&graph, depends.clone(), &outputs);
        let mut needed = vec![false; graph.nodes.len()];
        residuals(&graph, &again).iter().for_each(|x| needed[x.index()] = true);
        outputs.iter().filter(|x| !depends[x.index()]).for_each(|x| needed[x.index()] = true);
        let (mut saved, mut taken) = (Vec::new(), vec![false; places.len()]);
        let mut uses: Vec<bool> = graph.params.iter().map(|x| needed[x.index()] || again[x.index()]).collect();
        for id in graph.ids().rev().filter(|id| !depends[id.index()]) {
            let node = graph.node(id);
            if !needed[id.index()] {
                continue;
            }
            if let Op::Param(i) = node.op {
                uses[i] = true;
            } else if node.op.class() == OpClass::Leaf || matches!(node.op, Op::Broadcast { .. }) {
                // Cheap: computed again.
                again[id.index()] = true;
                node.operands.iter().for_each(|x| needed[x.index()] = true);
            } else {
                let place = (0..places.len()).find(|&place| !taken[place] && places[place] == node.ty);
                let place = place.unwrap_or_else(|| {
                    places.push(node.ty.clone());
                    taken.push(false);
                    places.len() - 1
                });
                taken[place] = true;
                saved.push((id, place));
            }
        }
        Branch { graph, again, saved, uses }
    }
}
