//! Dead code elimination: values that no result depends on are removed. Inputs stay, since the caller passes them.

use crate::graph::{Graph, Node, Op, ValueId};

/// Removes values that no result depends on.
pub fn dce(graph: &Graph) -> Graph {
    let mut live = vec![false; graph.nodes.len()];
    for x in &graph.outputs {
        live[x.index()] = true;
    }
    for id in graph.ids().rev() {
        let node = graph.node(id);
        live[id.index()] |= matches!(node.op, Op::Param(_));
        if live[id.index()] {
            for x in &node.operands {
                live[x.index()] = true;
            }
        }
    }
    let mut new = Graph::new();
    let mut remap: Vec<Option<ValueId>> = vec![None; graph.nodes.len()];
    let find =
        |remap: &[Option<ValueId>], x: &ValueId| remap[x.index()].expect("the operands of a live value are live");
    for id in graph.ids().filter(|id| live[id.index()]) {
        let node = graph.node(id);
        let operands = node.operands.iter().map(|x| find(&remap, x)).collect();
        remap[id.index()] = Some(new.push(Node { operands, ..node.clone() }));
    }
    new.params = graph.params.iter().map(|x| find(&remap, x)).collect();
    new.outputs = graph.outputs.iter().map(|x| find(&remap, x)).collect();
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parse;

    #[test]
    fn dead_values_are_removed_and_inputs_stay() {
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
