//! Common subexpression elimination: values with the same op and operands, in any order if the op is commutative, are
//! replaced by the first of them, which keeps its source location.

use super::rebuild::rebuild;
use crate::graph::Graph;

/// Removes duplicate values, in one walk with a hash table.
pub fn cse(graph: &Graph) -> Graph {
    rebuild(graph, |new, node, operands| new.intern(node.op.clone(), operands, node.ty.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parse;

    #[test]
    fn equal_values_become_one() {
        let text = "fn f(%0: f32[4], %1: f32[4]) -> (f32[4]) {
            %2: f32[4] = add %0, %1
            %3: f32[4] = add %1, %0
            %4: f32[4] = sub %2, %3
            %5: f32[4] = sub %3, %2
            %6: f32[4] = sub %0, %1
            %7: f32[4] = sub %1, %0
            %8: f32[4] = mul %4, %5
            %9: f32[4] = mul %6, %7
            %10: f32[4] = mul %8, %9
            return %10
        }";
        let expected = "fn main(%0: f32[4], %1: f32[4]) -> (f32[4]) {
  %2: f32[4] = add %0, %1
  %3: f32[4] = sub %2, %2
  %4: f32[4] = sub %0, %1
  %5: f32[4] = sub %1, %0
  %6: f32[4] = mul %3, %3
  %7: f32[4] = mul %4, %5
  %8: f32[4] = mul %6, %7
  return %8
}
";
        assert_eq!(cse(&parse(text).unwrap()).to_string(), expected);
    }

    #[test]
    fn literals_are_equal_by_their_bits() {
        let text = "fn f() -> (f32[], f32[], f32[], f32[]) {
            %0: f32[] = literal 0.0
            %1: f32[] = literal -0.0
            %2: f32[] = literal nan
            %3: f32[] = literal nan
            return %0, %1, %2, %3
        }";
        let graph = cse(&parse(text).unwrap());
        assert_eq!(graph.nodes.len(), 3);
        assert_eq!(graph.outputs[2], graph.outputs[3]);
    }
}
