//! Brings convolutions into the form that kernels are built from: the padding is around the left operand, where it is
//! in memory, so that every window is inside of it. What is cut off stays a negative padding: it costs nothing.

use smallvec::{SmallVec, smallvec};

use super::normalise::Emit;
use crate::graph::{ConvDims, Literal, Node, Op, Operands, Precision, ValueId};
use crate::types::{Shape, TensorType};

impl Emit<'_> {
    pub(super) fn conv(&mut self, dims: &ConvDims, precision: Option<Precision>, x: ValueId, w: ValueId) -> ValueId {
        let (tx, tw) = (self.ty(x), self.ty(w));
        if tx.elements() == 0 || tw.elements() == 0 {
            let ty = self.node.ty.clone();
            return self.zeros(ty.dtype, &ty.shape);
        }
        let mut dims = dims.clone();
        let rank = tx.rank();
        let [mut low, mut high]: [SmallVec<[isize; 4]>; 2] = [(); 2].map(|()| smallvec![0; rank]);
        let mut interior = Shape::from_elem(0, rank);
        let spread = dims.is_spread();
        for i in 0..dims.spatial() {
            let axis = dims.lhs_spec[i + 2];
            if spread {
                interior[axis] = dims.lhs_dilation[i] - 1;
                dims.lhs_dilation[i] = 1;
            }
            let step = dims.lhs_dilation[i] as isize;
            let [before, after] = dims.whole_padding(i).map(|count| count as isize);
            (low[axis], high[axis]) = (before, after);
            dims.low[i] -= before * step;
            dims.high[i] -= after * step;
        }
        let is_padded = low.iter().chain(&high).any(|&count| count != 0) || interior.iter().any(|&count| count != 0);
        let x = if is_padded {
            let literal = Literal::new(tx.dtype, 0.0);
            let (ty, location) = (TensorType::scalar(tx.dtype), self.node.location);
            let zero = self.graph.push(Node { op: Op::Literal(literal), operands: Operands::new(), ty, location });
            self.push(Op::Pad { low, high, interior }, &[x, zero])
        } else {
            x
        };
        self.push(Op::Conv(Box::new(dims), precision), &[x, w])
    }
}
