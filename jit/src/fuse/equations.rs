//! Solutions of equations as steps: factors, exchanged rows, two substitutions. Those of one matrix, such as a solution
//! and its derivative, share the factors.
//!
//! In: an op `solve`. Out: the ops that it is made of. Small matrices are left to one routine, which takes less time
//! than several kernels.

use hashbrown::HashMap;
use smallvec::smallvec;

use super::normalise::Emit;
use crate::graph::{GatherDims, Node, Op, Operands, ScatterOp, Triangular, ValueId, results};
use crate::types::{Axes, Shape};

impl Emit<'_> {
    /// The X with A X = B or Aᵀ X = B. `factors` has the packed factors of matrices, and the orders of their rows.
    pub(super) fn solve(
        &mut self,
        factors: &mut HashMap<ValueId, [ValueId; 2]>,
        transpose_a: bool,
        a: ValueId,
        b: ValueId,
    ) -> ValueId {
        let [lu, order] = *factors.entry(a).or_insert_with(|| self.factorised(a));
        let ty = self.ty(b);
        let batch = ty.rank() - 2;
        // Rows of each matrix, by their numbers.
        let leading: Axes = (0..batch).collect();
        let dims = GatherDims {
            offset_dims: smallvec![batch + 1],
            collapsed_slice_dims: smallvec![batch],
            start_index_map: smallvec![batch],
            operand_batching_dims: leading.clone(),
            start_indices_batching_dims: leading,
        };
        let mut shape = self.ty(order).shape;
        shape.push(1);
        let index = self.reshape(order, &shape);
        let how = |lower: bool| Triangular { left_side: true, lower, transpose_a, unit_diagonal: lower };
        if transpose_a {
            // Uᵀ Lᵀ P X = B.
            let x = self.push(Op::TriangularSolve(how(false)), &[lu, b]);
            let x = self.push(Op::TriangularSolve(how(true)), &[lu, x]);
            let zeros = self.zeros(ty.dtype, &ty.shape);
            return self.push(Op::Scatter { dims: dims.into(), combine: ScatterOp::Set }, &[zeros, index, x]);
        }
        let mut sizes = Shape::from_elem(1, ty.rank());
        sizes[batch + 1] = ty.shape[batch + 1];
        let x = self.push(Op::Gather { dims: dims.into(), sizes }, &[b, index]);
        let x = self.push(Op::TriangularSolve(how(true)), &[lu, x]);
        self.push(Op::TriangularSolve(how(false)), &[lu, x])
    }

    fn factorised(&mut self, a: ValueId) -> [ValueId; 2] {
        let types = results(&Op::Lu, &[self.graph.ty(a)]).expect("the matrices of a verified graph");
        let operands: Operands = smallvec![a];
        let lu = Node { op: Op::Lu, operands, ty: types[0].clone(), location: self.node.location };
        let lu = self.graph.push(lu);
        let [lu, _, order] = self.graph.project(lu, types)[..] else { unreachable!("three results") };
        [lu, order]
    }
}
