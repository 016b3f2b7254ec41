//! Constant folding: values of constants are computed here, to the bits that compiled code would have given.
//!
//! Only scalars and arrays up to [`Constant::SMALL`] bytes are folded, and never an `iota` or a broadcast, which are
//! cheaper computed than loaded. An op of one element runs its lane program; what moves elements, and reductions that
//! are exact in any order, the interpreter evaluates. Sums and products of several floats are left to the program, which
//! knows in which order they add.

use smallvec::SmallVec;

use super::rebuild::rebuild;
use crate::array::Array;
use crate::graph::{Constant, Graph, Literal, Node, Op, Operands, ReduceOp, ValueId};
use crate::interp::{array_of, bits_of, interpret};
use crate::lower::lane::from_op::lower;
use crate::lower::lane::{LaneId, LaneProgram, LaneType, run};
use crate::types::{DType, TensorType};

/// The graph with every value of constants computed, where that makes it smaller.
pub fn fold(graph: &Graph) -> Graph {
    rebuild(graph, |new, node, operands| {
        let op = folded(new.graph(), node, &operands);
        match op {
            Some(op) => new.intern(op, Operands::new(), node.ty.clone()),
            None => new.intern(node.op.clone(), operands, node.ty.clone()),
        }
    })
}

/// The constant that `node` is on these operands, if it is one.
fn folded(graph: &Graph, node: &Node, operands: &[ValueId]) -> Option<Op> {
    if !is_foldable(&node.op, node.ty.dtype) || !is_small(&node.ty) || operands.is_empty() {
        return None;
    }
    // Broadcast literals alone do not make an array constant: the op is better done on the literals, which `simplify`
    // sees to.
    let has_array = operands.iter().any(|&x| matches!(graph.node(x).op, Op::Constant(_)));
    let all_literals = operands.iter().all(|&x| matches!(graph.node(x).op, Op::Literal(_)));
    let worth_it = has_array || (all_literals && node.ty.rank() == 0);
    if !worth_it {
        return None;
    }
    let inputs: Option<SmallVec<[Array; 4]>> = operands.iter().map(|&x| known(graph, x)).collect();
    let result = evaluate(&node.op, &inputs?, &node.ty)?;
    Some(if node.ty.rank() == 0 { Op::Literal(literal(&result)?) } else { Op::Constant(Constant(result)) })
}

/// The elements of `x`, if they are known and few.
fn known(graph: &Graph, x: ValueId) -> Option<Array> {
    let node = graph.node(x);
    if !is_small(&node.ty) {
        return None;
    }
    match &node.op {
        Op::Literal(_) => evaluate(&node.op, &[], &node.ty),
        Op::Constant(constant) => Some(constant.0.clone()),
        Op::Broadcast { .. } => evaluate(&node.op, &[known(graph, node.operands[0])?], &node.ty),
        Op::Param(_)
        | Op::Iota { .. }
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::Select
        | Op::Convert(_)
        | Op::Bitcast(_)
        | Op::StopGradient
        | Op::Threefry(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Concat(_)
        | Op::Rev(_)
        | Op::Reduce(..)
        | Op::ArgReduce(..)
        | Op::Dot(_) => None,
    }
}

/// May an op that gives a `dtype` be replaced by its result?
fn is_foldable(op: &Op, dtype: DType) -> bool {
    match op {
        Op::Param(_) | Op::Literal(_) | Op::Constant(_) | Op::Iota { .. } | Op::Broadcast { .. } => false,
        Op::Reduce(ReduceOp::Sum | ReduceOp::Prod, _) | Op::Dot(_) => !dtype.is_float(),
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::Select
        | Op::Convert(_)
        | Op::Bitcast(_)
        | Op::StopGradient
        | Op::Threefry(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Concat(_)
        | Op::Rev(_)
        | Op::Reduce(..)
        | Op::ArgReduce(..) => true,
    }
}

fn is_small(ty: &TensorType) -> bool {
    ty.bytes() <= Constant::SMALL
}

/// A scalar op on literals.
pub(super) fn on_literals(op: &Op, x: &[Literal], dtype: DType) -> Option<Literal> {
    let scalars: Option<Vec<Array>> =
        x.iter().map(|x| evaluate(&Op::Literal(*x), &[], &TensorType::scalar(x.dtype))).collect();
    literal(&evaluate(op, &scalars?, &TensorType::scalar(dtype))?)
}

/// One op on arrays; `None` where that is better left to the program.
fn evaluate(op: &Op, inputs: &[Array], ty: &TensorType) -> Option<Array> {
    if let Some((program, result)) = lanes(op, inputs) {
        let elements: SmallVec<[Vec<u64>; 4]> = inputs.iter().map(|x| bits_of(x.ty().dtype, x.bytes())).collect();
        // Programs run with numbers below the smallest normal one as zeros, and nothing here does.
        let flushed = |bits: &[u64], dtype: DType| bits.iter().any(|&bits| is_subnormal(dtype, bits));
        if elements.iter().zip(inputs).any(|(bits, x)| flushed(bits, x.ty().dtype)) {
            return None;
        }
        let element = |i: usize| {
            let inputs: SmallVec<[u64; 4]> = elements.iter().map(|bits| bits[i]).collect();
            one_nan(ty.dtype, run(&program, &inputs, &[result])[0])
        };
        let bits: Vec<u64> = (0..ty.elements()).map(element).collect();
        return if flushed(&bits, ty.dtype) { None } else { array_of(ty, &bits).ok() };
    }
    let mut graph = Graph::new();
    let operands = inputs.iter().map(|input| graph.param(input.ty().clone())).collect();
    let id = graph.push(Node { op: op.clone(), operands, ty: ty.clone(), location: None });
    graph.outputs.push(id);
    interpret(&graph, inputs).ok()?.pop()
}

/// The code of one element of `op`, and its result; `None` for what is no op of one element.
fn lanes(op: &Op, inputs: &[Array]) -> Option<(LaneProgram, LaneId)> {
    let mut program = LaneProgram::new();
    let types = inputs.iter().map(|x| LaneType::of(x.ty().dtype));
    let args: SmallVec<[LaneId; 4]> = (0..).zip(types).map(|(i, ty)| program.input(i, ty)).collect();
    // The element type that `lower` asks for: a selection's first operand is its condition.
    let first = if *op == Op::Select { inputs.get(1) } else { inputs.first() };
    let result = lower(&mut program, op, first?.ty().dtype, &args)?;
    Some((program, result))
}

fn is_subnormal(dtype: DType, bits: u64) -> bool {
    match dtype {
        DType::F32 => f32::from_bits(bits as u32).is_subnormal(),
        DType::F64 => f64::from_bits(bits).is_subnormal(),
        DType::Bool | DType::I32 | DType::U32 => false,
    }
}

/// The element, any NaN as the usual quiet one: which NaN a processor gives is not the same everywhere.
fn one_nan(dtype: DType, bits: u64) -> u64 {
    match dtype {
        DType::F32 if f32::from_bits(bits as u32).is_nan() => u64::from(f32::NAN.to_bits()),
        DType::F64 if f64::from_bits(bits).is_nan() => f64::NAN.to_bits(),
        DType::Bool | DType::I32 | DType::U32 | DType::F32 | DType::F64 => bits,
    }
}

/// The first element as a literal.
pub(super) fn literal(array: &Array) -> Option<Literal> {
    let dtype = array.ty().dtype;
    let first = array.bytes().get(..dtype.size())?;
    Some(Literal { dtype, bits: *bits_of(dtype, first).first()? })
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
            "%1: u32[] = literal 0\n%r: u32[] = threefry %1, %1, %1, %1 [word=1]",
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
