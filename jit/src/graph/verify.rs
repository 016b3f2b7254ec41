//! Checks that a graph is one. After this, no later stage needs to doubt what is listed here:
//!
//! 1. an operand is an earlier value (so there are no cycles, and evaluation in order works);
//! 2. an op has as many operands as its arity says;
//! 3. the type of a value is what [`infer()`] says, and no type is larger than memory can be;
//! 4. input `i` is an [`Op::Param`] numbered `i`, and there is no other `Op::Param`;
//! 5. a literal holds no bits beyond its element type's, and a truth value is 0 or 1;
//! 6. results are values of the graph;
//! 7. of an op with several results, only projections are used;
//! 8. all of this holds for the graphs among the parameters of ops.
//!
//! Not checked, since passes may leave them behind for others to remove: dead values, and equal values.
//! The graph comes in and is not changed; the first fault goes out, naming the pass and the value's printed line.

use super::literal::Literal;
use super::op::{Op, OpClass};
use super::print::line;
use super::{Graph, ValueId};
use crate::error::{Error, Result};
use crate::types::DType;

/// Checks every invariant listed above.
///
/// # Errors
/// The first fault, as a bug of `pass`, after which the graph was looked at.
pub fn verify(graph: &Graph, pass: &str) -> Result<()> {
    for id in graph.ids() {
        for inner in graph.node(id).op.graphs() {
            verify(inner, pass)?;
        }
        value(graph, id).map_err(|why| Error::compiler(pass, format!("{}: {why}", line(graph, id))))?;
    }
    for (i, &id) in graph.params.iter().enumerate() {
        let is_param = graph.nodes.get(id.index()).is_some_and(|node| node.op == Op::Param(i));
        if !is_param {
            return Err(Error::compiler(pass, format!("{}: is listed as input {i}", line(graph, id))));
        }
    }
    for (i, &id) in graph.outputs.iter().enumerate() {
        if graph.nodes.get(id.index()).is_none_or(|node| node.results() > 1) {
            return Err(Error::compiler(pass, format!("{}: is listed as result {i}", line(graph, id))));
        }
    }
    Ok(())
}

fn value(graph: &Graph, id: ValueId) -> std::result::Result<(), String> {
    let node = graph.node(id);
    for &x in &node.operands {
        if x >= id {
            return Err(format!("operand {x} is not an earlier value"));
        }
    }
    if let Some(arity) = node.op.arity()
        && arity != node.operands.len()
    {
        return Err(format!("it has {} operands, not {arity}", node.operands.len()));
    }
    node.ty.check_size()?;
    match &node.op {
        Op::Param(i) if graph.params.get(*i) == Some(&id) => return Ok(()),
        Op::Param(i) => return Err(format!("it is not listed as input {i}")),
        Op::Literal(literal) if !is_canonical(*literal) => {
            return Err(format!("it has the bits {:#x}, which no {} has", literal.bits, literal.dtype));
        }
        _ => {}
    }
    for (i, &x) in node.operands.iter().enumerate() {
        if graph.node(x).results() > 1 && node.op.class() != OpClass::Projection {
            return Err(format!("operand {i}, {x}, has several results, of which only `result` makes a value"));
        }
    }
    match graph.infer(&node.op, &node.operands) {
        Ok(ty) if ty == node.ty => Ok(()),
        Ok(ty) => Err(format!("its type should be {ty}")),
        Err(why) => Err(why),
    }
}

fn is_canonical(literal: Literal) -> bool {
    match literal.dtype {
        DType::Bool => literal.bits <= 1,
        DType::I32 | DType::U32 | DType::F32 => literal.bits <= u64::from(u32::MAX),
        DType::F64 => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parse;

    /// A graph that verifies, after which `damage` must make it fail with this message.
    fn check(damage: impl Fn(&mut Graph), expected: &str) {
        let text = "fn main(%0: f32[4], %1: f32[]) -> (f32[4]) {\n  %2: f32[4] = broadcast_in_dim %1 [shape=4, dims=]\n  \
                    %3: bool[] = literal true\n  %4: f32[4] = add %0, %2\n  return %4\n}\n";
        let mut graph = parse(text).unwrap();
        verify(&graph, "test").unwrap();
        damage(&mut graph);
        let error = verify(&graph, "test").unwrap_err().to_string();
        assert!(error.starts_with("compiler error after test: ") && error.contains(expected), "{error}");
    }

    #[test]
    fn each_invariant() {
        check(
            |g| g.nodes[2].operands[0] = ValueId(2),
            "broadcast_in_dim %2 [shape=4, dims=]: operand %2 is not an earlier",
        );
        check(|g| g.nodes[2].operands[0] = ValueId(99), "operand %99 is not an earlier value");
        check(|g| g.nodes[4].operands.truncate(1), "%4: f32[4] = add %0: it has 1 operands, not 2");
        check(|g| g.nodes[4].ty.shape[0] = 5, "%4: f32[5] = add %0, %2: its type should be f32[4]");
        check(|g| g.nodes[4].operands[1] = ValueId(1), "f32[4] and f32[] differ in shape");
        check(|g| g.nodes[0].ty.shape.extend([usize::MAX, 0]), "larger than memory");
        check(|g| g.params.swap(0, 1), "%0: f32[4] = param 0: it is not listed as input 0");
        check(|g| g.params.push(ValueId(2)), "dims=]: is listed as input 2");
        check(|g| g.params.push(ValueId(99)), "%99 (there is no such value): is listed as input 2");
        check(|g| g.outputs.push(ValueId(5)), "%5 (there is no such value): is listed as result 1");
        check(
            |g| g.nodes[3].op = Op::Literal(Literal { dtype: DType::Bool, bits: 2 }),
            "the bits 0x2, which no bool has",
        );
        check(|g| g.nodes[3].op = Op::Literal(Literal { dtype: DType::F32, bits: 1 << 32 }), "which no f32 has");
    }
}
