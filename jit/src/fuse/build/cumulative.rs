//! Running totals: two kernels, of which the second runs through the axis in order.
//!
//! Comes in: a cumulative op. Goes out: a kernel that stores the first element of each line, and one that combines each
//! further element with the total before it, which it loads from the result. What the operand is computed from is part
//! of both. The axis is their outermost loop, so that the lines are lanes of a vector, and rows on a GPU; the order
//! along the axis is the same everywhere.

use super::super::index::{Affine, Coords, flatten};
use super::super::kernel::{KernelOp, Slot, Source};
use super::{Body, KernelBuilder};
use crate::graph::{BinaryOp, CompareOp, CumulativeOp, Op, UnaryOp, ValueId};
use crate::types::{Axes, DType, Shape};

impl KernelBuilder<'_> {
    pub(super) fn cumulative(&mut self, id: ValueId, op: CumulativeOp, axis: usize, reverse: bool) {
        let node = self.graph.node(id);
        let (x, shape, dtype) = (node.operands[0], &node.ty.shape, node.ty.dtype);
        let count = shape[axis] as isize;
        let others: Axes = (0..shape.len()).filter(|&other| other != axis).collect();
        let buffer = self.buffer(id, Source::Computed);
        for (first, positions) in [(0, 1), (1, count - 1)] {
            if positions == 0 {
                continue;
            }
            let mut extents: Shape = std::iter::once(positions as usize).collect();
            extents.extend(others.iter().map(|&other| shape[other]));
            let mut body = self.body(&extents, &[]);
            let dims = extents.len();
            // The coordinates of the element at position `first + i0`, counted in the direction of the total.
            let at = |first: isize| {
                let mut coords: Coords = shape.iter().map(|_| Affine::zero(dims)).collect();
                let (start, step) = if reverse { (count - 1 - first, -1) } else { (first, 1) };
                coords[axis].offset = start;
                coords[axis].strides[0] = step;
                for (dim, &other) in others.iter().enumerate() {
                    coords[other] = Affine::induction_variable(1 + dim, dims);
                }
                coords
            };
            let coords = at(first);
            let element = self.read(&mut body, x, &coords);
            let place = flatten(&coords, shape, body.extents.len());
            if first == 0 {
                let (place, _) = body.split(&place);
                self.finish(body, element, buffer, place);
                continue;
            }
            let before = flatten(&at(first - 1), shape, body.extents.len());
            let before = body.load(buffer, &before, dtype);
            let value = body.combined(op, before, element, dtype);
            self.finish_serial(body, value, buffer, &place);
        }
    }
}

impl Body {
    /// The total `x` before an element, and the element.
    fn combined(&mut self, op: CumulativeOp, x: Slot, y: Slot, dtype: DType) -> Slot {
        match op.binary() {
            Some(op) => self.push(KernelOp::Apply(Op::Binary(op), 0), &[x, y], dtype),
            None => self.log_add_exp(x, y, dtype),
        }
    }

    /// log(eˣ + eʸ) = max(x, y) + log(1 + e^-|x - y|); the sum where the difference is NaN: of infinities of one sign.
    fn log_add_exp(&mut self, x: Slot, y: Slot, dtype: DType) -> Slot {
        let binary = |body: &mut Body, op, x, y| body.push(KernelOp::Apply(Op::Binary(op), 0), &[x, y], dtype);
        let unary = |body: &mut Body, op, x| body.push(KernelOp::Apply(Op::Unary(op), 0), &[x], dtype);
        let difference = binary(self, BinaryOp::Sub, x, y);
        let distance = unary(self, UnaryOp::Abs, difference);
        let distance = unary(self, UnaryOp::Neg, distance);
        let small = unary(self, UnaryOp::Exp, distance);
        let rest = unary(self, UnaryOp::Log1p, small);
        let larger = binary(self, BinaryOp::Max, x, y);
        let (total, sum) = (binary(self, BinaryOp::Add, larger, rest), binary(self, BinaryOp::Add, x, y));
        let differ = KernelOp::Apply(Op::Compare(CompareOp::Ne), 0);
        let is_nan = self.push(differ, &[difference, difference], DType::Bool);
        self.push(KernelOp::Apply(Op::Select, 0), &[is_nan, sum, total], dtype)
    }
}
