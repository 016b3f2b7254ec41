//! Dead values: what no result needs is dropped. Inputs stay, used or not, since the caller passes them.

use crate::graph::{Graph, Node, Op, ValueId};

/// The graph without values that no result needs.
pub fn dce(graph: &Graph) -> Graph {
    let mut needed = vec![false; graph.nodes.len()];
    for x in &graph.outputs {
        needed[x.index()] = true;
    }
    for id in graph.ids().rev() {
        let node = graph.node(id);
        needed[id.index()] |= matches!(node.op, Op::Param(_));
        if needed[id.index()] {
            for x in &node.operands {
                needed[x.index()] = true;
            }
        }
    }
    let mut new = Graph::new();
    let mut becomes: Vec<Option<ValueId>> = vec![None; graph.nodes.len()];
    let find =
        |becomes: &[Option<ValueId>], x: &ValueId| becomes[x.index()].expect("a needed value's operands are needed");
    for id in graph.ids().filter(|id| needed[id.index()]) {
        let node = graph.node(id);
        let operands = node.operands.iter().map(|x| find(&becomes, x)).collect();
        becomes[id.index()] = Some(new.push(Node { operands, ..node.clone() }));
    }
    new.params = graph.params.iter().map(|x| find(&becomes, x)).collect();
    new.outputs = graph.outputs.iter().map(|x| find(&becomes, x)).collect();
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parse;

    #[test]
    fn dead_values_go_and_inputs_stay() {
        let text = "fn f(%0: f32[4], %1: f32[4]) -> (f32[4]) {
            %2: f32[4] = exp %1
            %3: f32[4] = neg %1
            %4: f32[4] = exp %2
            return %3
        }";
        let expected = "fn main(%0: f32[4], %1: f32[4]) -> (f32[4]) {\n  %2: f32[4] = neg %1\n  return %2\n}\n";
        assert_eq!(dce(&parse(text).unwrap()).to_string(), expected);
    }
}
