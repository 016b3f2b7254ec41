//! Draws matrices whose factors and whose equations can be computed well.

use super::program::Maker;
use crate::front::Tensor;
use crate::graph::{Op, Triangular, ValueId};
use crate::types::{DType, TensorType};

/// The most rows of a matrix.
const ROWS: usize = 40;

impl Maker {
    /// The type of square matrices whose other axes are those of `x`.
    fn square(&mut self, x: ValueId) -> Option<TensorType> {
        let mut ty = self.of(x);
        if !ty.dtype.is_float() {
            return None;
        }
        let n = match ty.shape.last() {
            Some(&n) if n <= ROWS => n,
            _ => self.random.below(5),
        };
        ty.shape.truncate(ty.rank().saturating_sub(2));
        ty.shape.extend([n, n]);
        Some(ty)
    }

    /// Matrices with a large diagonal; in one of two cases, with nothing beside it.
    fn dominant(&mut self, ty: &TensorType) -> Option<ValueId> {
        let x = self.like(ty)?;
        let (n, rank, only_diagonal) = (ty.shape[ty.rank() - 1], ty.rank(), self.random.one_in(2));
        let results = self.call(&[x], |x| {
            let axis = |axis: usize| Tensor::iota(DType::I32, x[0].shape(), axis);
            let is_diagonal = axis(rank - 2).equal(axis(rank - 1));
            let others = if only_diagonal { x[0].zeros_like() } else { x[0].clamp(-0.25, 0.25) };
            let large = if only_diagonal { 4.0 } else { n as f64 + 1.0 };
            vec![is_diagonal.select(Tensor::literal(large, x[0].dtype()), others)]
        });
        self.any(results?)
    }

    pub(super) fn cholesky(&mut self, x: ValueId) -> Option<ValueId> {
        let ty = self.square(x)?;
        let a = self.dominant(&ty)?;
        self.push(Op::Cholesky, &[a])
    }

    pub(super) fn triangular_solve(&mut self, x: ValueId) -> Option<ValueId> {
        let ty = self.square(x)?;
        let a = self.dominant(&ty)?;
        let mut flag = || self.random.one_in(2);
        let how = Triangular { left_side: flag(), lower: flag(), transpose_a: flag(), unit_diagonal: flag() };
        let (mut of_b, columns) = (ty.clone(), self.extent());
        let axis = ty.rank() - if how.left_side { 1 } else { 2 };
        of_b.shape[axis] = columns;
        let b = self.like(&of_b)?;
        self.push(Op::TriangularSolve(how), &[a, b])
    }

    pub(super) fn solve(&mut self, x: ValueId) -> Option<ValueId> {
        let ty = self.square(x)?;
        let a = self.dominant(&ty)?;
        let mut of_b = ty.clone();
        of_b.shape[ty.rank() - 1] = self.extent();
        let b = self.like(&of_b)?;
        let transpose_a = self.random.one_in(2);
        self.push(Op::Solve { transpose_a }, &[a, b])
    }

    /// A result of a decomposition. Matrices whose eigenvectors are asked for have eigenvalues that are well apart.
    pub(super) fn decomposition(&mut self, kind: &Op, x: ValueId) -> Option<ValueId> {
        let ty = self.square(x)?;
        let mut a = self.dominant(&ty)?;
        let full_matrices = self.random.one_in(2);
        let op = match kind {
            Op::Qr { .. } => Op::Qr { full_matrices },
            Op::Svd { .. } => Op::Svd { full_matrices },
            other => other.clone(),
        };
        if let Op::Eigh | Op::Svd { .. } = op {
            let rank = ty.rank();
            let results = self.call(&[a], |a| {
                let axis = |axis: usize| Tensor::iota(DType::I32, a[0].shape(), axis);
                let others = axis(rank - 2).equal(axis(rank - 1)).select(axis(rank - 1) * 4 + 4, 0);
                vec![&a[0] + others.convert(a[0].dtype())]
            });
            a = self.any(results?)?;
        }
        let count = op.results(1) as u32;
        let results = self.push(op, &[a])?;
        let index = self.random.below(count as usize) as u32;
        self.push(Op::Result(index), &[results])
    }
}
