//! Brings every contraction into the form of one batched matrix product, `[b, m, k] · [b, k, n]`, with transposes and
//! reshapes around it, which are free where they are views. A contraction without a sum (an outer product, a scaling)
//! becomes a product of broadcasts; a product of vectors becomes a product and a sum, which fuse.
//!
//! A matrix product adds over k in ascending order. So that its error does not grow with k, a product of a long k is
//! split: the products of its pieces are added by a reduction.

use smallvec::smallvec;

use super::normalise::Emit;
use crate::graph::{BinaryOp, DotAxes, Op, Precision, ReduceOp, ValueId};
use crate::types::{Axes, Shape};

/// The longest k of one product, and the shortest piece of a longer one. The results of the pieces have a quarter of
/// the elements of the operands.
const LONGEST: usize = 1 << 12;
const PIECE: usize = 1 << 7;

impl Emit<'_> {
    /// A `dot_general` as `[b, m, k] · [b, k, n]` (batch 0:0, contract 2:1).
    pub(super) fn dot(&mut self, axes: &DotAxes, precision: Option<Precision>, x: ValueId, y: ValueId) -> ValueId {
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
        let result = if k == 0 {
            self.zeros(tx.dtype, &[b, m, n])
        } else if k == 1 {
            let x = self.reshape(x, &[b, m, 1]);
            let y = self.reshape(y, &[b, 1, n]);
            let all = Op::Broadcast { shape: smallvec![b, m, n], dims: smallvec![0, 1, 2] };
            let x = self.push(all.clone(), &[x]);
            let y = self.push(all, &[y]);
            self.push(Op::Binary(BinaryOp::Mul), &[x, y])
        } else if m == 1 && n == 1 {
            let x = self.reshape(x, &[b, k]);
            let y = self.reshape(y, &[b, k]);
            let products = self.push(Op::Binary(BinaryOp::Mul), &[x, y]);
            self.reduce(ReduceOp::Sum, &[1], products)
        } else {
            let x = self.reshape(x, &[b, m, k]);
            let y = self.reshape(y, &[b, k, n]);
            self.product(precision, x, y)
        };
        self.reshape(result, &self.node.ty.shape.clone())
    }

    /// `[b, m, k] · [b, k, n]`, split along a long k.
    fn product(&mut self, precision: Option<Precision>, x: ValueId, y: ValueId) -> ValueId {
        let (tx, ty) = (self.ty(x).shape, self.ty(y).shape);
        let (b, m, k, n) = (tx[0], tx[1], tx[2], ty[2]);
        let op = || Op::Dot(DotAxes { batch: smallvec![(0, 0)], contract: smallvec![(2, 1)] }, precision);
        if k <= LONGEST {
            return self.push(op(), &[x, y]);
        }
        let least = PIECE.max(4 * m * n / (m + n));
        if k <= least {
            return self.push(op(), &[x, y]);
        }
        let piece = (least..=2 * least).find(|piece| k.is_multiple_of(*piece)).unwrap_or(least).min(k);
        let (pieces, rest) = (k / piece, k % piece);
        if rest > 0 {
            let mut part = |range: std::ops::Range<usize>| {
                let (x, y) = (self.slice(x, 2, range.clone()), self.slice(y, 1, range));
                self.product(precision, x, y)
            };
            let results = [part(0..k - rest), part(k - rest..k)];
            return self.push(Op::Binary(BinaryOp::Add), &results);
        }
        if pieces == 1 {
            return self.push(op(), &[x, y]);
        }
        let x = self.reshape(x, &[b, m, pieces, piece]);
        let x = self.push(Op::Transpose(smallvec![0, 2, 1, 3]), &[x]);
        let x = self.reshape(x, &[b * pieces, m, piece]);
        let y = self.reshape(y, &[b * pieces, piece, n]);
        let products = self.push(op(), &[x, y]);
        let products = self.reshape(products, &[b, pieces, m, n]);
        self.reduce(ReduceOp::Sum, &[1], products)
    }
}
