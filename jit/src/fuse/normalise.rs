//! Brings a graph into the form that kernels are built from. Contractions become batched matrix products
//! (`canonicalise`), Fourier transforms passes of sums (`fourier`), long reductions several short ones (`reductions`),
//! solutions of equations factors and substitutions (`equations`), and values without elements are constants. Sums and
//! products of floats of 16 bits are of f32.
//!
//! All of this depends on shapes alone. So the order of a sum does not depend on what it is fused with. What is
//! computed from a convolution has the order of axes that it chose (`convolution`, `layout`).

use hashbrown::HashMap;
use smallvec::smallvec;

use super::matrices::MatrixRoutine;
use crate::graph::{Graph, Literal, Node, Op, Operands, Precision, ReduceOp, ValueId};
use crate::types::{Axes, DType, TensorType};

/// The normalised graph.
pub(super) fn normalise(graph: &Graph) -> Graph {
    let mut result = Graph::new();
    // Matrices that are factorised once, whatever is solved with them.
    let mut factors = HashMap::new();
    let mut map: Vec<ValueId> = Vec::with_capacity(graph.nodes.len());
    let (mut layouts, mut padded) = (Layouts::new(), HashMap::new());
    // The results of ops of several that are separate values now.
    let mut several: HashMap<ValueId, [ValueId; 2]> = HashMap::new();
    for node in &graph.nodes {
        let operands: Operands = node.operands.iter().map(|x| map[x.index()]).collect();
        let mut emit = Emit { graph: &mut result, node, layouts: &mut layouts, padded: &mut padded };
        let value = match &node.op {
            Op::Param(_) => emit.graph.push(node.clone()),
            _ if node.ty.elements() == 0 && node.results() == 1 => emit.zeros(node.ty.dtype, &node.ty.shape),
            Op::Scan { num_consts, num_carry: 1.., length: 0, .. } if node.results() == 1 => operands[*num_consts],
            Op::Fft { inverse } => {
                let [re, im] = [operands[0], operands[1]];
                let results = match node.ty.elements() {
                    0 => [re, im],
                    _ => emit.fft(*inverse, [re, im]),
                };
                several.insert(ValueId(map.len() as u32), results);
                results[0]
            }
            Op::Result(index) if several.contains_key(&node.operands[0]) => several[&node.operands[0]][*index as usize],
            // Of a loop without trips the carry is what it was; the other results have no elements.
            Op::Result(index) => match &graph.node(node.operands[0]) {
                Node { op: Op::Scan { num_consts, length: 0, .. }, operands, .. } => {
                    map[operands[num_consts + *index as usize].index()]
                }
                _ => emit.graph.push(Node { operands, ..node.clone() }),
            },
            Op::Solve { transpose_a } if MatrixRoutine::has_steps(graph.ty(node.operands[0])) => {
                emit.solve(&mut factors, *transpose_a, operands[0], operands[1])
            }
            Op::Dot(axes, precision) => match Precision::exact(node.ty.dtype) {
                // Products of narrow floats are exact in f32; their sums are rounded once.
                Some(exact) => emit.in_f32(&operands, |emit, x| emit.dot(axes, Some(exact), x[0], x[1])),
                None => emit.dot(axes, *precision, operands[0], operands[1]),
            },
            Op::Conv(dims, precision) => emit.conv(dims, *precision, operands[0], operands[1]),
            Op::Reduce(op @ (ReduceOp::Sum | ReduceOp::Prod), axes) if node.ty.dtype.is_narrow_float() => {
                emit.in_f32(&operands, |emit, x| emit.reduce(*op, axes, x[0]))
            }
            Op::Cumulative(..) if node.ty.dtype.is_narrow_float() => {
                emit.in_f32(&operands, |emit, x| emit.push(node.op.clone(), x))
            }
            Op::Reduce(op, axes) => match emit.reduce_stored(*op, axes, operands[0]) {
                Some(value) => value,
                None => emit.reduce(*op, axes, operands[0]),
            },
            _ => match emit.elementwise(&operands).or_else(|| emit.moved(&operands)) {
                Some(value) => value,
                None => emit.graph.push(Node { operands, ..node.clone() }),
            },
        };
        map.push(value);
    }
    result.params = graph.params.iter().map(|x| map[x.index()]).collect();
    result.outputs = graph.outputs.iter().map(|x| map[x.index()]).collect();
    result
}

/// A value with its axes in the order in which they are in memory.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) value: ValueId,
    /// Axis `i` of the graph's value is axis `perm[i]` of this one.
    pub(super) perm: Axes,
}

/// The values in another order, by their transposes in the order of the graph.
pub(super) type Layouts = HashMap<ValueId, Stored>;

/// Emits the nodes that replace `node`.
pub(super) struct Emit<'a> {
    pub(super) graph: &'a mut Graph,
    pub(super) node: &'a Node,
    /// What is in memory in another order of axes.
    pub(super) layouts: &'a mut Layouts,
    /// Operands of convolutions as they are stored for them: pads, and transposes.
    pub(super) padded: &'a mut HashMap<(ValueId, Op), ValueId>,
}

impl Emit<'_> {
    pub(super) fn push(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let ty = self.graph.infer(&op, operands).expect("an op of a verified graph, or a view of its result");
        self.graph.push(Node { op, operands: operands.into(), ty, location: self.node.location })
    }

    /// What `f` makes of the operands as f32, rounded to the type of the node.
    fn in_f32(&mut self, operands: &[ValueId], f: impl FnOnce(&mut Self, &[ValueId]) -> ValueId) -> ValueId {
        let wide: Operands = operands.iter().map(|&x| self.push(Op::Convert(DType::F32), &[x])).collect();
        let result = f(self, &wide);
        self.push(Op::Convert(self.node.ty.dtype), &[result])
    }

    pub(super) fn ty(&self, x: ValueId) -> TensorType {
        self.graph.ty(x).clone()
    }

    pub(super) fn transpose(&mut self, x: ValueId, perm: Axes) -> ValueId {
        if perm.windows(2).all(|w| w[0] < w[1]) { x } else { self.push(Op::Transpose(perm), &[x]) }
    }

    pub(super) fn reshape(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        if self.graph.ty(x).shape[..] == *shape { x } else { self.push(Op::Reshape(shape.into()), &[x]) }
    }

    /// The elements `range` of `axis`.
    pub(super) fn slice(&mut self, x: ValueId, axis: usize, range: std::ops::Range<usize>) -> ValueId {
        let shape = self.ty(x).shape;
        let mut start: Axes = smallvec![0; shape.len()];
        let (mut limit, stride) = (shape.clone(), smallvec![1; shape.len()]);
        (start[axis], limit[axis]) = (range.start, range.end);
        self.push(Op::Slice { start, limit, stride }, &[x])
    }

    /// A broadcast of a literal.
    pub(super) fn full(&mut self, literal: Literal, shape: &[usize]) -> ValueId {
        let ty = TensorType::scalar(literal.dtype);
        let location = self.node.location;
        let x = self.graph.push(Node { op: Op::Literal(literal), operands: Operands::new(), ty, location });
        self.push(Op::Broadcast { shape: shape.into(), dims: Axes::new() }, &[x])
    }

    pub(super) fn zeros(&mut self, dtype: DType, shape: &[usize]) -> ValueId {
        self.full(Literal::new(dtype, 0.0), shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_keep_their_numbers() {
        // The body of a loop may list them in another order than it uses them.
        let mut graph = Graph::new();
        for number in [1, 0] {
            let ty = TensorType::new(DType::F32, &[number + 2]);
            graph.push(Node { op: Op::Param(number), operands: Operands::new(), ty, location: None });
        }
        graph.params = vec![ValueId(1), ValueId(0)];
        graph.outputs = graph.params.clone();
        assert_eq!(normalise(&graph), graph);
    }
}
