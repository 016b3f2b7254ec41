//! Tangents of scatters that multiply or take an extreme.
//!
//! Comes in: the operands of the scatter, the tangents of those that have one, and its result. Goes out: the tangent of
//! the result, by ops that are linear in the tangents and that `transpose` has rules for.

use fulgurite_jit::graph::{GatherDims, ScatterOp};
use fulgurite_jit::types::Axes;
use fulgurite_jit::{DType, IndexMode, Scan, Tensor};

/// A scatter: its axes, operand, indices and updates.
pub(super) struct Scatter<'a> {
    pub(super) dims: &'a GatherDims,
    pub(super) x: &'a Tensor,
    pub(super) indices: &'a Tensor,
    pub(super) updates: &'a Tensor,
}

impl Scatter<'_> {
    /// Of `z = x · ∏ uₖ`, at each element: `dz = dx · ∏ uₖ + x · ∑ₖ duₖ ∏_{j ≠ k} uⱼ`. The products of all updates but
    /// one are of those before and those after it, so no update is divided by, which may be 0.
    pub(super) fn tangent_of_product(&self, dx: Option<&Tensor>, du: Option<&Tensor>) -> Option<Tensor> {
        let (x, dims) = (self.x, self.dims);
        let of_x = dx.map(|dx| dx.scatter_mul(self.indices, self.updates, dims.clone(), IndexMode::Fill));
        let of_updates = du.map(|du| {
            let others = self.products(false) * self.products(true);
            x * x.zeros_like().scatter_add(self.indices, &(others * du), dims.clone(), IndexMode::Fill)
        });
        match (of_x, of_updates) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        }
    }

    /// For each update the product of those of the same element before it, or after it.
    fn products(&self, reverse: bool) -> Tensor {
        let (rank, shape) = (self.updates.rank(), self.updates.shape());
        let batch = self.dims.batch(rank);
        let extents: Vec<usize> = batch.iter().map(|&axis| shape[axis]).collect();
        let count: usize = extents.iter().product();
        // One window at a time: the batch axes become one, in front, and axes that go together with it components.
        let along = |&axis: &usize| Tensor::iota(DType::I32, &extents, axis).expand_dims(-1);
        let mut columns = vec![self.indices.clone()];
        columns.extend(self.dims.start_indices_batching_dims.iter().map(along));
        let vectors = Tensor::concat(&columns.iter().collect::<Vec<_>>(), -1);
        let vectors = vectors.reshape(&[count, vectors.shape()[batch.len()]]);
        let perm: Axes = batch.iter().chain(&self.dims.offset_dims).copied().collect();
        let updates = self.updates.transpose(&perm);
        let window: Vec<usize> = self.dims.offset_dims.iter().map(|&axis| shape[axis]).collect();
        let flat: Vec<usize> = std::iter::once(count).chain(window.iter().copied()).collect();
        let of_x = self.dims.operand_batching_dims.iter();
        let mut collapsed: Axes = self.dims.collapsed_slice_dims.iter().chain(of_x.clone()).copied().collect();
        collapsed.sort_unstable();
        let dims = GatherDims {
            offset_dims: (0..window.len()).collect(),
            collapsed_slice_dims: collapsed,
            start_index_map: self.dims.start_index_map.iter().chain(of_x).copied().collect(),
            ..GatherDims::default()
        };
        let sizes = dims.scatter_window(self.x.ty(), &fulgurite_jit::TensorType::new(self.x.dtype(), &window));
        let trip = |product: Tensor, (vector, update): (Tensor, Tensor)| {
            let so_far = product.gather(&vector, dims.clone(), &sizes, IndexMode::FillWith(1.0));
            (product.scatter_mul(&vector, &update, dims.clone(), IndexMode::Fill), so_far)
        };
        let (_, products) =
            Scan { length: Some(count), reverse }.run(trip, self.x.ones_like(), (vectors, updates.reshape(&flat)));
        let mut inverse = Axes::from_elem(0, rank);
        perm.iter().enumerate().for_each(|(i, &axis)| inverse[axis] = i);
        let transposed: Vec<usize> = perm.iter().map(|&axis| shape[axis]).collect();
        products.reshape(&transposed).transpose(&inverse)
    }

    /// Of the extreme `z` of an element and its updates: the mean of the tangents of those that are equal to it, as
    /// JAX has it.
    pub(super) fn tangent_of_extreme(&self, dx: Option<&Tensor>, du: Option<&Tensor>, z: &Tensor) -> Option<Tensor> {
        let (x, dims, dtype) = (self.x, self.dims, self.x.dtype());
        let sizes = dims.scatter_window(x.ty(), self.updates.ty());
        // An update that is out of range is compared with some element, and dropped.
        let won = self.updates.equal(z.gather(self.indices, dims.clone(), &sizes, IndexMode::Clip)).convert(dtype);
        let kept = x.equal(z).or(x.not_equal(x)).convert(dtype);
        let sum = |updates: &Tensor| {
            Tensor::full(x.shape(), 0.0, dtype).scatter_add(self.indices, updates, dims.clone(), IndexMode::Fill)
        };
        // None is equal to NaN.
        let count = (&kept + sum(&won)).maximum(1.0);
        let of_x = dx.map(|dx| dx * &kept);
        let of_updates = du.map(|du| sum(&(du * &won)));
        let total = match (of_x, of_updates) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        total.map(|total| total / count)
    }

    /// The tangent, where the scatter is not linear in its tangents.
    pub(super) fn tangent(
        &self,
        combine: ScatterOp,
        dx: Option<&Tensor>,
        du: Option<&Tensor>,
        z: &Tensor,
    ) -> Option<Tensor> {
        match combine {
            ScatterOp::Mul => self.tangent_of_product(dx, du),
            ScatterOp::Min | ScatterOp::Max => self.tangent_of_extreme(dx, du, z),
            ScatterOp::Add | ScatterOp::Set => None,
        }
    }
}
