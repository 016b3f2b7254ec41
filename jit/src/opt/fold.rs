//! Constant folding: ops on constants are evaluated at compile time, bit-identical to compiled code.
//!
//! Scalars and arrays of up to [`Constant::SMALL`] bytes are folded. Not folded: `iota` and broadcasts, which are
//! cheaper to compute than to load, and sums and products of several floats, whose order of evaluation the schedule
//! defines. Elementwise ops run their lane program. The interpreter evaluates data movement, and reductions that are
//! exact in any order.

use smallvec::{SmallVec, smallvec};

use super::rebuild::rebuild;
use crate::array::Array;
use crate::graph::{Constant, Graph, Literal, Node, Op, OpClass, Operands, ReduceOp, ValueId};
use crate::interp::interpret;
use crate::lower::lane::from_op::lower;
use crate::lower::lane::storage::{from_lane, to_lane};
use crate::lower::lane::{LaneId, LaneProgram, LaneType, run};
use crate::types::scalar::FloatFormat;
use crate::types::{DType, TensorType};

/// Replaces ops on constants by their results.
pub fn fold(graph: &Graph) -> Graph {
    rebuild(graph, |new, node, operands| {
        let op = folded(new.graph(), node, &operands);
        match op {
            Some(op) => new.intern(op, Operands::new(), node.ty.clone()),
            None => new.intern(node.op.clone(), operands, node.ty.clone()),
        }
    })
}

/// The result of `node` on these operands, if it is a constant.
fn folded(graph: &Graph, node: &Node, operands: &[ValueId]) -> Option<Op> {
    if operands.is_empty() || !is_foldable(&node.op, operands.len(), node.ty.dtype) || !is_small(&node.ty) {
        return None;
    }
    // Of an op with several results, one.
    let (op, index, operands) = match node.op {
        Op::Result(index) => (&graph.node(operands[0]).op, index, &graph.node(operands[0]).operands[..]),
        _ => (&node.op, 0, operands),
    };
    if op.class() == OpClass::Control {
        return None;
    }
    // Broadcast literals alone do not make an array constant: `simplify` applies the op to
    // the literals.
    let has_array = operands.iter().any(|&x| matches!(graph.node(x).op, Op::Constant(_)));
    let all_literals = operands.iter().all(|&x| matches!(graph.node(x).op, Op::Literal(_)));
    let worth_it = has_array || (all_literals && node.ty.rank() == 0);
    if !worth_it {
        return None;
    }
    let inputs: Option<SmallVec<[Array; 4]>> = operands.iter().map(|&x| known(graph, x)).collect();
    let result = evaluate(op, index, &inputs?, &node.ty)?;
    Some(if node.ty.rank() == 0 { Op::Literal(literal(&result)?) } else { Op::Constant(Constant::new(&result).ok()?) })
}

/// The value of `x`, if it is a small constant.
fn known(graph: &Graph, x: ValueId) -> Option<Array> {
    let node = graph.node(x);
    if !is_small(&node.ty) {
        return None;
    }
    match &node.op {
        Op::Literal(_) => evaluate(&node.op, 0, &[], &node.ty),
        Op::Constant(constant) => Some(constant.array().clone()),
        Op::Broadcast { .. } => evaluate(&node.op, 0, &[known(graph, node.operands[0])?], &node.ty),
        _ => None,
    }
}

/// Whether an op with a result of type `dtype` can be folded.
fn is_foldable(op: &Op, operands: usize, dtype: DType) -> bool {
    match op.class() {
        // A loop may be long.
        OpClass::Leaf | OpClass::Control => false,
        // A broadcast is cheaper computed than loaded.
        OpClass::Movement => !matches!(op, Op::Broadcast { .. }),
        // In which order floats add, the program knows.
        OpClass::Reduction => {
            let adds = matches!(op, Op::Reduce(ReduceOp::Sum | ReduceOp::Prod, _) | Op::Cumulative(..));
            !(adds && dtype.is_float())
        }
        OpClass::Contraction => !dtype.is_float(),
        // Sums at the same place may be of several floats.
        OpClass::Indexing => !(matches!(op, Op::Scatter { .. }) && dtype.is_float()),
        // In which order floats add, the routine knows; a sort adds nothing.
        OpClass::Routine => matches!(op, Op::Sort { .. }) && op.results(operands) == 1,
        OpClass::Elementwise | OpClass::Assembly => op.results(operands) == 1,
        OpClass::Projection => true,
    }
}

fn is_small(ty: &TensorType) -> bool {
    ty.bytes() <= Constant::SMALL
}

/// Evaluates a scalar op on literals.
pub(super) fn on_literals(op: &Op, x: &[Literal], dtype: DType) -> Option<Literal> {
    let scalars: Option<Vec<Array>> =
        x.iter().map(|x| evaluate(&Op::Literal(*x), 0, &[], &TensorType::scalar(x.dtype))).collect();
    literal(&evaluate(op, 0, &scalars?, &TensorType::scalar(dtype))?)
}

/// A result, of this type, of one op on arrays; `None` where that is better left to the program.
fn evaluate(op: &Op, index: u32, inputs: &[Array], ty: &TensorType) -> Option<Array> {
    if let Some((program, result)) = lanes(op, index, inputs) {
        let elements: SmallVec<[Vec<u64>; 4]> = inputs.iter().map(|x| x.to_bits().ok()).collect::<Option<_>>()?;
        // Programs flush subnormal numbers to zero; the evaluation here does not.
        let flushed = |bits: &[u64], dtype: DType| {
            dtype.float().is_some_and(|format| bits.iter().any(|&bits| format.is_subnormal(bits)))
        };
        if elements.iter().zip(inputs).any(|(bits, x)| flushed(bits, x.ty().dtype)) {
            return None;
        }
        let element = |i: usize| {
            let inputs: SmallVec<[u64; 4]> =
                elements.iter().zip(inputs).map(|(bits, x)| to_lane(x.ty().dtype, bits[i])).collect();
            one_nan(ty.dtype, from_lane(ty.dtype, run(&program, &inputs, &[result])[0]))
        };
        let bits: Vec<u64> = (0..ty.elements()).map(element).collect();
        return if flushed(&bits, ty.dtype) { None } else { Array::from_bits(ty, &bits).ok() };
    }
    let mut graph = Graph::new();
    let operands: Operands = inputs.iter().map(|input| graph.param(input.ty().clone())).collect();
    let first = graph.infer(op, &operands).ok()?;
    let mut id = graph.push(Node { op: op.clone(), operands, ty: first, location: None });
    if op.results(inputs.len()) > 1 {
        id = graph.push(Node { op: Op::Result(index), operands: smallvec![id], ty: ty.clone(), location: None });
    }
    graph.outputs.push(id);
    interpret(&graph, inputs).ok()?.pop()
}

/// The code of one element of `op`, and the result of this number; `None` for what is no op of one element.
fn lanes(op: &Op, index: u32, inputs: &[Array]) -> Option<(LaneProgram, LaneId)> {
    let mut program = LaneProgram::new();
    let types = inputs.iter().map(|x| LaneType::of(x.ty().dtype));
    let args: SmallVec<[LaneId; 4]> = (0..).zip(types).map(|(i, ty)| program.input(i, ty)).collect();
    let result = lower(&mut program, op, index, inputs.get(op.typed_operand())?.ty().dtype, &args)?;
    Some((program, result))
}

/// Canonicalises NaN, since processors differ in the NaN they produce.
fn one_nan(dtype: DType, bits: u64) -> u64 {
    dtype.float().filter(|format| format.is_nan(bits)).map_or(bits, FloatFormat::nan)
}

/// The first element as a literal.
pub(super) fn literal(array: &Array) -> Option<Literal> {
    Some(Literal { dtype: array.ty().dtype, bits: *array.to_bits().ok()?.first()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parse;
    use crate::opt::dce;

    fn check(body: &str, result: &str, expected: &str) {
        let text = format!("fn f(%0: f32[2]) -> ({result}) {{\n{body}\nreturn %r\n}}");
        let folded = dce(&fold(&parse(&text).unwrap())).to_string();
        let lines: Vec<&str> = folded.lines().map(str::trim).collect();
        assert_eq!(lines[1..lines.len() - 2].join("; "), expected);
    }

    #[test]
    fn scalars_fold() {
        check(
            "%1: f32[] = literal 2.0\n%2: f32[] = mul %1, %1\n%r: f32[] = log %2",
            "f32[]",
            "%1: f32[] = literal 1.3862944",
        );
        // The first test vector of threefry2x32.
        check(
            "%1: u32[] = literal 0\n%2: u32[] = threefry %1, %1, %1, %1\n%r: u32[] = result %2 [index=1]",
            "u32[]",
            "%1: u32[] = literal 2579123966",
        );
        check("%1: f32[] = literal 0.0\n%r: f32[] = div %1, %1", "f32[]", "%1: f32[] = literal nan");
    }

    #[test]
    fn small_arrays_fold() {
        check("%1: i32[2] = constant {1, 2}\n%r: i32[] = reduce_sum %1 [axes=0]", "i32[]", "%1: i32[] = literal 3");
        check(
            "%1: f32[2] = constant {1.0, 2.0}\n%2: f32[] = literal 3.0\n%3: f32[2] = broadcast_in_dim %2 [shape=2, dims=]\n\
             %r: f32[2] = mul %1, %3",
            "f32[2]",
            "%1: f32[2] = constant {3.0, 6.0}",
        );
    }

    #[test]
    fn sums_of_floats_stay() {
        let sum = "%1: f32[2] = constant {1.0, 2.0}; %2: f32[] = reduce_sum %1 [axes=0]";
        check(&sum.replace("; ", "\n").replace("%2", "%r"), "f32[]", sum);
    }

    #[test]
    fn cheap_and_big_values_stay() {
        let broadcast = "%1: f32[] = literal 3.0; %2: f32[4] = broadcast_in_dim %1 [shape=4, dims=]";
        check("%1: f32[] = literal 3.0\n%r: f32[4] = broadcast_in_dim %1 [shape=4, dims=]", "f32[4]", broadcast);
        check(
            "%r: f32[4] = iota [dtype=f32, shape=4, axis=0]",
            "f32[4]",
            "%1: f32[4] = iota [dtype=f32, shape=4, axis=0]",
        );
        let pad = "%1: f32[2] = constant {1.0, 2.0}; %2: f32[] = literal 3.0; \
                   %3: f32[999] = pad %1, %2 [low=0, high=997, interior=0]";
        check(&pad.replace("; ", "\n").replace("%3", "%r"), "f32[999]", pad);
    }
}
