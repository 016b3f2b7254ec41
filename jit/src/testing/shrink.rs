//! Makes a failing program small: fewer results, values as inputs, values left out, until nothing more can go.

use std::collections::HashMap;

use crate::array::Array;
use crate::graph::{Graph, Node, Op, ValueId, verify};
use crate::interp::interpret_each;

/// The smallest program found that still `fails`.
pub fn shrink(graph: &Graph, inputs: &[Array], fails: impl Fn(&Graph, &[Array]) -> bool) -> (Graph, Vec<Array>) {
    let mut best = (graph.clone(), inputs.to_vec());
    while let Some(smaller) = candidates(&best.0, &best.1).into_iter().find(|(graph, inputs)| fails(graph, inputs)) {
        best = smaller;
    }
    best
}

/// What replaces a value.
#[derive(Clone, Copy)]
enum Change {
    /// An input with its elements.
    Input(ValueId),
    /// Another value of its type.
    Other(ValueId, ValueId),
    /// Nothing: all stays.
    None,
}

fn candidates(graph: &Graph, inputs: &[Array]) -> Vec<(Graph, Vec<Array>)> {
    let mut values: Vec<Array> = Vec::new();
    let interpreted = interpret_each(graph, inputs, &mut |_, value| {
        values.push(value.clone());
        Ok(())
    });
    if interpreted.is_err() {
        return vec![];
    }
    let mut all = Vec::new();
    let size = |graph: &Graph| (graph.nodes.len() - graph.params.len(), graph.outputs.len(), graph.params.len());
    let mut add = |outputs: &[ValueId], change: Change| {
        let candidate = rebuild(graph, &values, outputs, change);
        if size(&candidate.0) < size(graph) && verify(&candidate.0, "shrinking").is_ok() {
            all.push(candidate);
        }
    };
    for &output in &graph.outputs {
        add(&[output], Change::None);
    }
    for i in 0..graph.outputs.len() {
        let mut outputs = graph.outputs.clone();
        outputs.remove(i);
        if !outputs.is_empty() {
            add(&outputs, Change::None);
        }
    }
    for id in graph.ids().filter(|id| !matches!(graph.node(*id).op, Op::Param(_))) {
        // Late values first: what is before them goes at once.
        for &x in &graph.node(id).operands {
            if graph.ty(x) == graph.ty(id) {
                add(&graph.outputs, Change::Other(id, x));
            }
        }
    }
    for id in graph.ids().rev().filter(|id| !matches!(graph.node(*id).op, Op::Param(_))) {
        add(&graph.outputs, Change::Input(id));
        // The result is the value itself.
        if !graph.outputs.contains(&id) {
            add(&[id], Change::None);
        }
    }
    all
}

/// The graph of these outputs with one change, without what they do not need; and its inputs.
fn rebuild(graph: &Graph, values: &[Array], outputs: &[ValueId], change: Change) -> (Graph, Vec<Array>) {
    let at = |id: ValueId| match change {
        Change::Other(from, to) if from == id => to,
        Change::Other(..) | Change::Input(_) | Change::None => id,
    };
    let is_input = |id: ValueId| matches!(change, Change::Input(input) if input == id);
    let mut needed = vec![false; graph.nodes.len()];
    outputs.iter().for_each(|&id| needed[at(id).index()] = true);
    for id in graph.ids().rev().filter(|&id| !is_input(id)) {
        if needed[id.index()] {
            graph.node(id).operands.iter().for_each(|&x| needed[at(x).index()] = true);
        }
    }
    let mut result = Graph::new();
    let mut inputs = Vec::new();
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    for id in graph.ids().filter(|id| needed[id.index()]) {
        let node = graph.node(id);
        let new = if matches!(node.op, Op::Param(_)) || is_input(id) {
            inputs.push(values[id.index()].clone());
            result.param(node.ty.clone())
        } else {
            let operands = node.operands.iter().map(|&x| map[&at(x)]).collect();
            result.push(Node { op: node.op.clone(), operands, ty: node.ty.clone(), location: None })
        };
        map.insert(id, new);
    }
    result.outputs = outputs.iter().map(|&id| map[&at(id)]).collect();
    (result, inputs)
}
