//! Brings every contraction into the form of one batched matrix product: `[b, m, k] · [b, k, n]`, by transposes and
//! reshapes around it, which cost nothing where they are views. A contraction without a sum (an outer product, a
//! scaling) becomes a product of broadcasts, which fuses.

use smallvec::{SmallVec, smallvec};

use crate::graph::{BinaryOp, DotAxes, Graph, Node, Op, Operands, ValueId, infer};
use crate::types::{Axes, Shape};

/// The graph with every `dot_general` as `[b, m, k] · [b, k, n]` (batch 0:0, contract 2:1).
pub(super) fn normalise(graph: &Graph) -> Graph {
    let mut result = Graph::new();
    let mut map: Vec<ValueId> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let operands: Operands = node.operands.iter().map(|x| map[x.index()]).collect();
        let value = match &node.op {
            Op::Dot(axes) => Emit { graph: &mut result, node }.dot(axes, operands[0], operands[1]),
            Op::Param(_) => result.param(node.ty.clone()),
            op => result.push(Node { op: op.clone(), operands, ty: node.ty.clone(), location: node.location }),
        };
        map.push(value);
    }
    result.outputs = graph.outputs.iter().map(|x| map[x.index()]).collect();
    result
}

struct Emit<'a> {
    graph: &'a mut Graph,
    node: &'a Node,
}

impl Emit<'_> {
    fn push(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let ty = {
            let types: SmallVec<[_; 4]> = operands.iter().map(|&x| self.graph.ty(x)).collect();
            infer(&op, &types).expect("an op of a verified graph, or a view of its result")
        };
        self.graph.push(Node { op, operands: operands.into(), ty, location: self.node.location })
    }

    fn transpose(&mut self, x: ValueId, perm: Axes) -> ValueId {
        if perm.windows(2).all(|w| w[0] < w[1]) { x } else { self.push(Op::Transpose(perm), &[x]) }
    }

    fn reshape(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        if self.graph.ty(x).shape[..] == *shape { x } else { self.push(Op::Reshape(shape.into()), &[x]) }
    }

    fn dot(&mut self, axes: &DotAxes, x: ValueId, y: ValueId) -> ValueId {
        let (tx, ty) = (self.graph.ty(x).clone(), self.graph.ty(y).clone());
        let (free_x, free_y) = (axes.free(0, tx.rank()), axes.free(1, ty.rank()));
        let left = |pairs: &[(usize, usize)]| -> Axes { pairs.iter().map(|p| p.0).collect() };
        let right = |pairs: &[(usize, usize)]| -> Axes { pairs.iter().map(|p| p.1).collect() };
        let size = |shape: &Shape, axes: &[usize]| -> usize { axes.iter().map(|&a| shape[a]).product() };
        let b = size(&tx.shape, &left(&axes.batch));
        let (m, n) = (size(&tx.shape, &free_x), size(&ty.shape, &free_y));
        let k = size(&tx.shape, &left(&axes.contract));

        let perm_x: Axes = left(&axes.batch).into_iter().chain(free_x).chain(left(&axes.contract)).collect();
        let perm_y: Axes = right(&axes.batch).into_iter().chain(right(&axes.contract)).chain(free_y).collect();
        let x = self.transpose(x, perm_x);
        let y = self.transpose(y, perm_y);
        let result = if k == 1 {
            let x = self.reshape(x, &[b, m, 1]);
            let y = self.reshape(y, &[b, 1, n]);
            let all = Op::Broadcast { shape: smallvec![b, m, n], dims: smallvec![0, 1, 2] };
            let x = self.push(all.clone(), &[x]);
            let y = self.push(all, &[y]);
            self.push(Op::Binary(BinaryOp::Mul), &[x, y])
        } else {
            let x = self.reshape(x, &[b, m, k]);
            let y = self.reshape(y, &[b, k, n]);
            let axes = DotAxes { batch: smallvec![(0, 0)], contract: smallvec![(2, 1)] };
            self.push(Op::Dot(axes), &[x, y])
        };
        self.reshape(result, &self.node.ty.shape.clone())
    }
}
