//! A graph as text, in the syntax that [`parse`](super::parse()) reads.
//!
//! Every parameter of every op prints, and elements print so that they read back to the same bits. What does not print:
//! the user's source lines, and the elements of constants above [`Constant::SMALL`] bytes, of which a hash stands for
//! the elements. A graph that breaks its invariants still prints: the verifier shows its faults with these functions.

use std::fmt::{self, Write};

use super::literal::{Constant, Literal};
use super::op::Op;
use super::parameter::Functions;
use super::{Graph, ValueId};
use crate::types::scalar::Scalar;
use crate::types::{DType, Kind, join};

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut functions = Functions::default();
        function("main", self, &mut functions, f)?;
        // A function may name further ones.
        let mut next = 0;
        while let Some((name, graph)) = functions.get(next) {
            function(&name, &graph, &mut functions, f)?;
            next += 1;
        }
        Ok(())
    }
}

fn function(name: &str, graph: &Graph, functions: &mut Functions, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let params: Vec<String> = graph.params.iter().map(|&p| format!("{p}: {}", type_text(graph, p))).collect();
    let results: Vec<String> = graph.outputs.iter().map(|&x| type_text(graph, x)).collect();
    writeln!(f, "fn {name}({}) -> ({}) {{", params.join(", "), results.join(", "))?;
    for id in graph.ids() {
        // Inputs stand in the head; one that is not listed there is a fault, which must show.
        let in_head = matches!(graph.node(id).op, Op::Param(i) if graph.params.get(i) == Some(&id));
        if !in_head {
            writeln!(f, "  {}", line_of(graph, id, functions))?;
        }
    }
    writeln!(f, "  return{}{}", if graph.outputs.is_empty() { "" } else { " " }, join(&graph.outputs, ", "))?;
    writeln!(f, "}}")
}

/// The line of one value: `%3: f32[4] = add %0, %2`.
pub(crate) fn line(graph: &Graph, id: ValueId) -> String {
    line_of(graph, id, &mut Functions::default())
}

fn line_of(graph: &Graph, id: ValueId, functions: &mut Functions) -> String {
    let Some(node) = graph.nodes.get(id.index()) else {
        return format!("{id} (there is no such value)");
    };
    let mut text = format!("{id}: {} = {}", node.ty, node.op.name());
    let operands = elements_text(&node.op).unwrap_or_else(|| join(&node.operands, ", "));
    if !operands.is_empty() {
        text.push(' ');
        text.push_str(&operands);
    }
    let mut parameters: Vec<String> = Vec::new();
    node.op.parameters(&mut |key, value| parameters.push(format!("{key}={}", value.text(functions))));
    if !parameters.is_empty() {
        write!(text, " [{}]", parameters.join(", ")).expect("a string takes all text");
    }
    text
}

fn type_text(graph: &Graph, id: ValueId) -> String {
    graph.nodes.get(id.index()).map_or_else(|| "?".into(), |node| node.ty.to_string())
}

/// What is printed instead of operands for ops that hold their elements.
fn elements_text(op: &Op) -> Option<String> {
    match op {
        Op::Literal(literal) => Some(element_text(*literal)),
        Op::Constant(constant) => Some(constant_text(constant)),
        Op::Param(number) => Some(number.to_string()),
        _ => None,
    }
}

fn constant_text(constant: &Constant) -> String {
    let bytes = constant.bytes();
    if bytes.len() > Constant::SMALL {
        return format!("{{…{} bytes, hash {:08x}}}", bytes.len(), hash(bytes));
    }
    let dtype = constant.ty().dtype;
    let elements = constant.to_bits().into_iter().map(|bits| element_text(Literal { dtype, bits }));
    format!("{{{}}}", elements.collect::<Vec<_>>().join(", "))
}

/// The shortest text that reads back to the same bits. `nan` is the quiet NaN without a payload; any other NaN prints
/// its bits.
fn element_text(element: Literal) -> String {
    let Literal { dtype, bits } = element;
    match (dtype.kind(), element.value()) {
        (Kind::Bool, _) => (bits != 0).to_string(),
        (Kind::Float(format), _) if bits == format.nan() => "nan".into(),
        (Kind::Float(format), _) if format.is_nan(bits) => format!("bits:{bits:#x}"),
        // Digits that tell the number from other f32, not from all f64.
        (Kind::Float(_), Scalar::Float(x)) if DType::F32.represents(dtype) => format!("{:?}", x as f32),
        (Kind::Float(_), Scalar::Float(x)) => format!("{x:?}"),
        (Kind::Int { .. } | Kind::Float(_), x) => x.to_string(),
    }
}

/// FNV-1a, folded to 32 bits: the same on every machine of one byte order, unlike the hashes of `std`.
fn hash(bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    (hash ^ (hash >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Array;
    use crate::graph::Node;
    use crate::types::TensorType;

    fn leaf(graph: &mut Graph, op: Op, ty: TensorType) -> ValueId {
        graph.push(Node { op, operands: Default::default(), ty, location: None })
    }

    #[test]
    fn elements_print_shortest() {
        let f32s = [1.5f32, -0.0, 0.1, 1e-7, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::from_bits(0xffc0_0001)];
        let array = Array::from_vec(&[8], f32s.to_vec()).unwrap();
        let text = constant_text(&Constant::new(&array).unwrap());
        assert_eq!(text, "{1.5, -0.0, 0.1, 1e-7, inf, -inf, nan, bits:0xffc00001}");
        assert_eq!(element_text(Literal::new(DType::I32, -7.0)), "-7");
        assert_eq!(element_text(Literal::new(DType::Bool, 1.0)), "true");
    }

    #[test]
    fn big_constants_print_a_hash() {
        let array = Array::from_vec(&[300], vec![1.0f32; 300]).unwrap();
        let mut graph = Graph::new();
        let ty = array.ty().clone();
        let id = leaf(&mut graph, Op::Constant(Constant::new(&array).unwrap()), ty);
        let text = line(&graph, id);
        assert!(text.starts_with("%0: f32[300] = constant {…1200 bytes, hash "), "{text}");
    }

    #[test]
    fn faulty_graphs_print() {
        let mut graph = Graph::new();
        leaf(&mut graph, Op::Param(3), TensorType::scalar(DType::F32));
        graph.outputs.push(ValueId(9));
        assert_eq!(graph.to_string(), "fn main() -> (?) {\n  %0: f32[] = param 3\n  return %9\n}\n");
        assert_eq!(line(&graph, ValueId(9)), "%9 (there is no such value)");
    }
}
