//! Branches: they are optimised, and what none of them needs is taken away.
//!
//! - Of branches whose number is known, one is left, without the others and without a branch.
//! - Results that nothing uses are dropped, and operands that no branch uses.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::smallvec;

use super::fixpoint;
use super::scan::{reached, used_results};
use crate::graph::{Graph, Node, Op, Operands, ValueId};

/// Stands for a value that is not live.
const NONE: ValueId = ValueId(u32::MAX);

/// Optimises the branches of a graph; `None` if there are none.
pub fn cond(graph: &Graph) -> Option<Graph> {
    let is_cond = |op: &Op| matches!(op, Op::Cond { .. });
    graph.nodes.iter().find(|node| is_cond(&node.op))?;
    let live = reached(graph, graph.outputs.iter().copied(), |_| false);
    let used = used_results(graph, &live, is_cond);
    let mut new = Graph::new();
    let mut map: Vec<ValueId> = Vec::with_capacity(graph.nodes.len());
    let mut conds: HashMap<ValueId, Vec<Option<ValueId>>> = HashMap::new();
    for id in graph.ids() {
        let node = graph.node(id);
        let operands: Operands = node.operands.iter().map(|x| map.get(x.index()).copied().unwrap_or(NONE)).collect();
        let value = match &node.op {
            // Nothing refers to it.
            op if !live[id.index()] && !matches!(op, Op::Param(_)) => NONE,
            Op::Cond { branches } => {
                let results = optimised(&mut new, node, branches, &operands, &used[&id]);
                let first = results.iter().flatten().next().copied();
                conds.insert(id, results);
                // Of several results, the projections below stand for the node.
                first.unwrap_or(NONE)
            }
            Op::Result(index) if conds.contains_key(&node.operands[0]) => {
                conds[&node.operands[0]][*index as usize].unwrap_or(NONE)
            }
            _ => new.push(Node { operands, ..node.clone() }),
        };
        map.push(value);
    }
    new.params = graph.params.iter().map(|x| map[x.index()]).collect();
    new.outputs = graph.outputs.iter().map(|x| map[x.index()]).collect();
    Some(new)
}

/// Adds the optimised branches to the graph around them. Gives their results; `None` where one is not used.
fn optimised(
    new: &mut Graph,
    node: &Node,
    branches: &[Arc<Graph>],
    operands: &[ValueId],
    used: &[bool],
) -> Vec<Option<ValueId>> {
    let (index, inputs) = (operands[0], &operands[1..]);
    let only = match &new.node(index).op {
        _ if branches.len() == 1 => Some(0),
        Op::Literal(literal) => {
            let index = usize::try_from(literal.bits as u32 as i32).unwrap_or(0);
            Some(index.min(branches.len() - 1))
        }
        _ => None,
    };
    let outputs: Vec<usize> = (0..used.len()).filter(|&o| used[o]).collect();
    if let Some(only) = only {
        let branch = &branches[only];
        let needed = reached(branch, outputs.iter().map(|&o| branch.outputs[o]), |_| false);
        let map = copied(new, branch, &needed, |i| inputs[i]);
        return (0..used.len()).map(|o| if used[o] { Some(map[branch.outputs[o].index()]) } else { None }).collect();
    }
    let branches: Vec<Graph> = branches.iter().map(|branch| fixpoint(branch, &mut |_, _, _, _| {})).collect();
    let needed: Vec<Vec<bool>> =
        branches.iter().map(|branch| reached(branch, outputs.iter().map(|&o| branch.outputs[o]), |_| false)).collect();
    let is_needed = |i: &usize| branches.iter().zip(&needed).any(|(branch, needed)| needed[branch.params[*i].index()]);
    let kept: Vec<usize> = (0..inputs.len()).filter(is_needed).collect();
    let inside = |(branch, needed): (&Graph, &Vec<bool>)| {
        let mut inner = Graph::new();
        let params: HashMap<usize, ValueId> =
            kept.iter().map(|&i| (i, inner.param(branch.ty(branch.params[i]).clone()))).collect();
        let map = copied(&mut inner, branch, needed, |i| params[&i]);
        inner.outputs = outputs.iter().map(|&o| map[branch.outputs[o].index()]).collect();
        Arc::new(inner)
    };
    let branches: Vec<Arc<Graph>> = branches.iter().zip(&needed).map(inside).collect();
    let types = branches[0].output_types();
    let values: Operands = std::iter::once(index).chain(kept.iter().map(|&i| inputs[i])).collect();
    let location = node.location;
    let id = new.push(Node { op: Op::Cond { branches }, operands: values, ty: types[0].clone(), location });
    let mut all = vec![None; used.len()];
    for (i, (&o, ty)) in (0..).zip(outputs.iter().zip(&types)) {
        all[o] = Some(match outputs.len() {
            1 => id,
            _ => new.push(Node { op: Op::Result(i), operands: smallvec![id], ty: ty.clone(), location }),
        });
    }
    all
}

/// Copies the needed values of a graph; `input` gives those of its inputs.
fn copied(new: &mut Graph, graph: &Graph, needed: &[bool], input: impl Fn(usize) -> ValueId) -> Vec<ValueId> {
    let mut map = vec![NONE; graph.nodes.len()];
    for id in graph.ids().filter(|id| needed[id.index()]) {
        let node = graph.node(id);
        map[id.index()] = match node.op {
            Op::Param(i) => input(i),
            _ => {
                let operands = node.operands.iter().map(|x| map[x.index()]).collect();
                new.push(Node { operands, ..node.clone() })
            }
        };
    }
    map
}
