//! Indexing by values: gathers, scatters, and slices that begin where a tensor says.
//!
//! `gather` and the scatters are the general form; `take`, `take_along_axis` and the dynamic slices are functions of
//! them, with the names and the conventions of JAX. NumPy's index expressions are beside: `part` is what they consist
//! of, `plan` what they mean for a tensor, `at` reads and writes by them. An index that is out of range never reads or
//! writes beside an array: [`IndexMode`] says what it does.

mod at;
mod part;
mod plan;

use std::panic::Location;

pub use at::At;
pub use part::{Ellipsis, Index, IntoIndex, Masked, NewAxis, Part, Step};

use crate::error::Error;
use crate::front::operand::{Arg, Operand, broadcast_shape, reject, resolve};
use crate::front::tensor::Tensor;
use crate::front::trace::apply;
use crate::graph::{GatherDims, Op, ScatterOp};
use crate::types::scalar::Scalar;
use crate::types::{Axes, DType, Kind, Shape};

/// What an index that is out of range does, as `jax.lax.GatherScatterMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum IndexMode {
    /// It reads NaN (of integers the least, of unsigned integers the largest, of bools true), and writes nothing.
    #[default]
    Fill,
    /// It reads this, and writes nothing.
    FillWith(f64),
    /// It is moved to where the window fits.
    Clip,
    /// It is taken modulo the extent.
    Wrap,
    /// There is none, the caller says. Where there is one, this is `Clip`.
    PromiseInBounds,
}

impl IndexMode {
    /// What an index that is out of range reads, if it does not read an element.
    pub(super) fn fill(self, dtype: DType) -> Option<f64> {
        match self {
            IndexMode::Clip | IndexMode::Wrap | IndexMode::PromiseInBounds => None,
            IndexMode::FillWith(fill) => Some(fill),
            // Converted to the type, an infinity is its least or its greatest value.
            IndexMode::Fill => Some(match dtype.kind() {
                Kind::Float(_) => f64::NAN,
                Kind::Int { signed: true } => f64::NEG_INFINITY,
                Kind::Int { signed: false } => f64::INFINITY,
                Kind::Bool => 1.0,
            }),
        }
    }
}

impl Tensor {
    /// Windows of these extents, at the places that the index vectors along the last axis of `indices` name, as
    /// `jax.lax.gather`.
    ///
    /// ```
    /// use fulgurite_jit::graph::GatherDims;
    /// use fulgurite_jit::{IndexMode, Tensor};
    ///
    /// // Rows of a matrix.
    /// fn rows(x: &Tensor, indices: &Tensor) -> Tensor {
    ///     let dims = GatherDims {
    ///         offset_dims: [1].into_iter().collect(),
    ///         collapsed_slice_dims: [0].into_iter().collect(),
    ///         start_index_map: [0].into_iter().collect(),
    ///         ..GatherDims::default()
    ///     };
    ///     x.gather(indices, dims, &[1, x.shape()[1]], IndexMode::Clip)
    /// }
    /// # let _ = rows;
    /// ```
    #[track_caller]
    pub fn gather(&self, indices: &Tensor, dims: GatherDims, sizes: &[usize], mode: IndexMode) -> Self {
        let place = |indices: &Tensor| {
            let op = Op::Gather { dims: dims.clone().into(), sizes: Shape::from_slice(sizes) };
            apply(op, &[self, indices], Location::caller())
        };
        let Some(indices) = indices.as_indices() else { return self.no_indices("gather", indices) };
        let Some(fill) = mode.fill(self.dtype()) else {
            let wraps = mode == IndexMode::Wrap;
            return if wraps { place(&self.wrapped(&indices, &dims)) } else { place(&indices) };
        };
        let gathered = place(&indices);
        if gathered.error().is_some() {
            return gathered;
        }
        let Some(inside) = self.windows_inside(&indices, &dims, sizes) else { return gathered };
        let inside = inside.broadcast_in_dim(gathered.shape(), &dims.batch(gathered.rank()));
        inside.select(&gathered, Tensor::literal(fill, self.dtype()))
    }

    /// This with windows of it replaced by those of `updates`, as `jax.lax.scatter`. Of several updates of one element
    /// the last is kept.
    #[track_caller]
    pub fn scatter(&self, indices: &Tensor, updates: &Tensor, dims: GatherDims, mode: IndexMode) -> Self {
        self.scatter_by(ScatterOp::Set, indices, updates, dims, mode)
    }

    /// This with those of `updates` added to windows of it, in their order, as `jax.lax.scatter_add`.
    #[track_caller]
    pub fn scatter_add(&self, indices: &Tensor, updates: &Tensor, dims: GatherDims, mode: IndexMode) -> Self {
        self.scatter_by(ScatterOp::Add, indices, updates, dims, mode)
    }

    /// This with windows of it multiplied by those of `updates`, in their order, as `jax.lax.scatter_mul`. It has
    /// derivatives where indices repeat too; they cost a loop over the updates.
    #[track_caller]
    pub fn scatter_mul(&self, indices: &Tensor, updates: &Tensor, dims: GatherDims, mode: IndexMode) -> Self {
        self.scatter_by(ScatterOp::Mul, indices, updates, dims, mode)
    }

    /// This with the smaller elements of windows of it and of `updates`, as `jax.lax.scatter_min`. NaN propagates.
    /// Equal minima share the derivative.
    #[track_caller]
    pub fn scatter_min(&self, indices: &Tensor, updates: &Tensor, dims: GatherDims, mode: IndexMode) -> Self {
        self.scatter_by(ScatterOp::Min, indices, updates, dims, mode)
    }

    /// This with the larger elements of windows of it and of `updates`, as `jax.lax.scatter_max`. NaN propagates.
    /// Equal maxima share the derivative.
    #[track_caller]
    pub fn scatter_max(&self, indices: &Tensor, updates: &Tensor, dims: GatherDims, mode: IndexMode) -> Self {
        self.scatter_by(ScatterOp::Max, indices, updates, dims, mode)
    }

    /// A scatter that combines an update with what is there as `combine` says.
    #[track_caller]
    pub(super) fn scatter_by(
        &self,
        combine: ScatterOp,
        indices: &Tensor,
        updates: &Tensor,
        dims: GatherDims,
        mode: IndexMode,
    ) -> Self {
        let Some(mut indices) = indices.as_indices() else { return self.no_indices("scatter", indices) };
        match mode {
            IndexMode::Fill | IndexMode::FillWith(_) | IndexMode::PromiseInBounds => {}
            IndexMode::Wrap => indices = self.wrapped(&indices, &dims),
            IndexMode::Clip => {
                let sizes = dims.scatter_window(self.ty(), updates.ty());
                indices = self.clamped(&indices, &dims, &sizes);
            }
        }
        apply(Op::Scatter { dims: dims.into(), combine }, &[self, &indices, updates], Location::caller())
    }

    /// The elements at `indices` along `axis`, as `jax.numpy.take`: an embedding lookup is `table.take(&ids, 0)`. A
    /// negative index counts from the end. One that is out of range reads NaN; see [`Tensor::take_with`].
    ///
    /// ```
    /// use fulgurite_jit::Tensor;
    ///
    /// fn embed(table: &Tensor, ids: &Tensor) -> Tensor {
    ///     table.take(ids, 0)
    /// }
    /// # let _ = embed;
    /// ```
    #[track_caller]
    pub fn take(&self, indices: &Tensor, axis: isize) -> Self {
        self.take_with(indices, axis, IndexMode::Fill)
    }

    /// As [`Tensor::take`], with another mode. With `Clip` negative indices are out of range.
    #[track_caller]
    pub fn take_with(&self, indices: &Tensor, axis: isize, mode: IndexMode) -> Self {
        let Some(axis) = resolve(axis, self.rank()) else { return self.no_axis("take", axis, Location::caller()) };
        let Some(indices) = indices.as_indices() else { return self.no_indices("take", indices) };
        let Some(fill) = mode.fill(self.dtype()) else { return self.take_at(&indices, axis, mode) };
        let extent = self.shape()[axis];
        let taken = self.take_at(&indices.counted_from_start(extent), axis, IndexMode::Clip);
        if taken.error().is_some() {
            return taken;
        }
        let dims: Axes = (axis..axis + indices.rank()).collect();
        let inside = indices.inside(extent).broadcast_in_dim(taken.shape(), &dims);
        inside.select(&taken, Tensor::literal(fill, self.dtype()))
    }

    /// [`Tensor::take_with`] where no index counts from the end.
    #[track_caller]
    fn take_at(&self, indices: &Tensor, axis: usize, mode: IndexMode) -> Self {
        let extent = self.shape()[axis];
        if extent == 0 && indices.elements() > 0 {
            let why = format!("takes {} elements along the empty axis {axis} of {}", indices.elements(), self.ty());
            return self.reject("take", why, Location::caller());
        }
        let mut shape = Shape::from_slice(indices.shape());
        shape.push(1);
        let mut sizes = self.ty().shape.clone();
        sizes[axis] = extent.min(1);
        if extent == 0 {
            // There are no indices either.
            let (before, after) = (&self.shape()[..axis], &self.shape()[axis + 1..]);
            let shape: Shape = before.iter().chain(indices.shape()).chain(after).copied().collect();
            return Tensor::full(&shape, 0.0, self.dtype());
        }
        let n = indices.rank();
        let dims = GatherDims {
            offset_dims: (0..axis).chain(axis + n..self.rank() + n - 1).collect(),
            collapsed_slice_dims: Axes::from_slice(&[axis]),
            start_index_map: Axes::from_slice(&[axis]),
            ..GatherDims::default()
        };
        self.gather(&indices.reshape(&shape), dims, &sizes, mode)
    }

    /// For each element of `indices` the element of this at that position along `axis`, as `jax.numpy.take_along_axis`;
    /// the other axes broadcast. A negative index counts from the end. One that is out of range reads NaN; see
    /// [`Tensor::take_along_axis_with`].
    ///
    /// ```
    /// use fulgurite_jit::{Tensor, log_softmax};
    ///
    /// // The cross-entropy of logits [n, classes] with integer labels [n].
    /// fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    ///     -log_softmax(logits, -1).take_along_axis(&labels.expand_dims(-1), -1).squeeze(-1)
    /// }
    /// # let _ = cross_entropy;
    /// ```
    #[track_caller]
    pub fn take_along_axis(&self, indices: &Tensor, axis: isize) -> Self {
        self.take_along_axis_with(indices, axis, IndexMode::Fill)
    }

    /// As [`Tensor::take_along_axis`], with another mode.
    #[track_caller]
    pub fn take_along_axis_with(&self, indices: &Tensor, axis: isize, mode: IndexMode) -> Self {
        const NAME: &str = "take_along_axis";
        let rank = self.rank();
        let Some(axis) = resolve(axis, rank) else { return self.no_axis(NAME, axis, Location::caller()) };
        let Some(indices) = indices.as_indices() else { return self.no_indices(NAME, indices) };
        let cannot = || {
            let why = format!("{} and the indices {} do not go together along axis {axis}", self.ty(), indices.ty());
            reject(&[self, &indices], Error::op(NAME, why, Location::caller()))
        };
        // The shapes without the axis broadcast.
        let without = |x: &Tensor| {
            let mut shape = Shape::from_slice(x.shape());
            if axis < shape.len() {
                shape.remove(axis);
            }
            shape
        };
        if indices.rank() != rank {
            return cannot();
        }
        let Some(mut shape) = broadcast_shape(&without(self), &without(&indices)) else { return cannot() };
        shape.insert(axis, indices.shape()[axis]);
        let extent = self.shape()[axis];
        if shape.contains(&0) {
            return Tensor::full(&shape, 0.0, self.dtype());
        }
        if extent == 0 {
            return cannot();
        }
        let counted = if mode == IndexMode::Wrap { indices.clone() } else { indices.counted_from_start(extent) };
        let inside = mode.fill(self.dtype()).map(|fill| (indices.inside(extent).broadcast_to(&shape), fill));
        let indices = counted.broadcast_to(&shape);
        // Axes along which this broadcasts are read at 0.
        let batched: Axes = (0..rank).filter(|&d| d != axis && self.shape()[d] == shape[d]).collect();
        let collapsed: Axes = (0..rank).filter(|d| !batched.contains(d)).collect();
        let mut vectors = shape.clone();
        vectors.push(1);
        let dims = GatherDims {
            offset_dims: Axes::new(),
            collapsed_slice_dims: collapsed,
            start_index_map: Axes::from_slice(&[axis]),
            operand_batching_dims: batched.clone(),
            start_indices_batching_dims: batched,
        };
        let mode = if inside.is_some() { IndexMode::Clip } else { mode };
        let taken = self.gather(&indices.reshape(&vectors), dims, &Shape::from_elem(1, rank), mode);
        match inside {
            Some((inside, fill)) if taken.error().is_none() => {
                inside.select(&taken, Tensor::literal(fill, self.dtype()))
            }
            _ => taken,
        }
    }

    /// The window of these extents that begins at `starts`, an index for each axis, as `jax.lax.dynamic_slice`.
    /// Negative indices count from the end. A window that does not fit is moved to where it fits.
    #[track_caller]
    pub fn dynamic_slice(&self, starts: &[Tensor], sizes: &[usize]) -> Self {
        let Some(starts) = self.starts(starts) else { return self.no_starts("dynamic_slice", starts) };
        let operands: Vec<&Tensor> = std::iter::once(self).chain(&starts).collect();
        apply(Op::DynamicSlice { sizes: Shape::from_slice(sizes) }, &operands, Location::caller())
    }

    /// This with the window that begins at `starts` replaced by `update`, as `jax.lax.dynamic_update_slice`. Negative
    /// indices count from the end. A window that does not fit is moved to where it fits.
    #[track_caller]
    pub fn dynamic_update_slice(&self, update: &Tensor, starts: &[Tensor]) -> Self {
        let Some(starts) = self.starts(starts) else { return self.no_starts("dynamic_update_slice", starts) };
        let operands: Vec<&Tensor> = [self, update].into_iter().chain(&starts).collect();
        apply(Op::DynamicUpdateSlice, &operands, Location::caller())
    }

    /// `size` elements of one axis from `start` on, as `jax.lax.dynamic_slice_in_dim`.
    #[track_caller]
    pub fn dynamic_slice_in_dim(&self, start: impl Operand, size: usize, axis: isize) -> Self {
        let Some(axis) = resolve(axis, self.rank()) else {
            return self.no_axis("dynamic_slice_in_dim", axis, Location::caller());
        };
        let mut sizes = self.ty().shape.clone();
        sizes[axis] = size;
        self.dynamic_slice(&self.start_along(axis, start), &sizes)
    }

    /// This with the elements of one axis from `start` on replaced by `update`, as
    /// `jax.lax.dynamic_update_slice_in_dim`.
    #[track_caller]
    pub fn dynamic_update_slice_in_dim(&self, update: &Tensor, start: impl Operand, axis: isize) -> Self {
        match resolve(axis, self.rank()) {
            Some(axis) => self.dynamic_update_slice(update, &self.start_along(axis, start)),
            None => self.no_axis("dynamic_update_slice_in_dim", axis, Location::caller()),
        }
    }

    /// Element `index` of one axis, which is removed, as `jax.lax.dynamic_index_in_dim` with `keepdims=False`. A
    /// negative index counts from the end; one that is out of range is moved to the nearest that is not.
    #[track_caller]
    pub fn dynamic_index_in_dim(&self, index: impl Operand, axis: isize) -> Self {
        match resolve(axis, self.rank()) {
            Some(_) => self.dynamic_slice_in_dim(index, 1, axis).squeeze(axis),
            None => self.no_axis("dynamic_index_in_dim", axis, Location::caller()),
        }
    }

    /// Indices as i32; none of floats.
    pub(super) fn as_indices(&self) -> Option<Tensor> {
        let dtype = self.dtype();
        if !dtype.is_int() {
            return None;
        }
        // An index beyond i32 is out of range, and so is its nearest i32.
        let fits = |x: Scalar| DType::I32.range().0 <= x && x <= DType::I32.range().1;
        let ((least, greatest), (from, to)) = (dtype.range(), DType::I32.range());
        let above = if fits(least) { self.clone() } else { self.maximum(Tensor::literal(from, dtype)) };
        let within = if fits(greatest) { above } else { above.minimum(Tensor::literal(to, dtype)) };
        Some(within.convert(DType::I32))
    }

    #[track_caller]
    fn no_indices(&self, op: &str, indices: &Tensor) -> Tensor {
        let why = format!("takes indices of integers, not {}", indices.ty());
        reject(&[self, indices], Error::op(op, why, Location::caller()))
    }

    /// Whether an index, which counts from the end if it is negative, is one of an axis.
    fn inside(&self, extent: usize) -> Tensor {
        // -n <= i < n, as one comparison: i + n is below 2n as an unsigned number.
        let shifted = (self + extent).bitcast(DType::U32);
        shifted.less(Tensor::literal(2.0 * extent as f64, DType::U32))
    }

    /// An index that counts from the end if it is negative, as one that does not.
    pub(super) fn counted_from_start(&self, extent: usize) -> Tensor {
        self.less(0).select(self + extent, self)
    }

    /// The starts of a window; none if one is no index.
    fn starts(&self, starts: &[Tensor]) -> Option<Vec<Tensor>> {
        let extents = self.shape().iter().copied().chain(std::iter::repeat(0));
        let start = |(start, extent): (&Tensor, usize)| Some(start.as_indices()?.counted_from_start(extent));
        starts.iter().zip(extents).map(start).collect()
    }

    #[track_caller]
    fn no_starts(&self, op: &str, starts: &[Tensor]) -> Tensor {
        match starts.iter().find(|start| start.as_indices().is_none()) {
            Some(start) => self.no_indices(op, start),
            None => self.clone(),
        }
    }

    /// The start along one axis, and 0 along the others.
    fn start_along(&self, axis: usize, start: impl Operand) -> Vec<Tensor> {
        let start = match start.operand() {
            Arg::Tensor(start) => start,
            weak @ Arg::Weak { .. } => weak.into_tensor(DType::I32),
        };
        let zero = Tensor::literal(0.0, DType::I32);
        (0..self.rank()).map(|d| if d == axis { start.clone() } else { zero.clone() }).collect()
    }

    /// The components of the index vectors, with the axis of this that each is a position along.
    fn components(indices: &Tensor, dims: &GatherDims) -> Vec<(usize, Tensor)> {
        let Some(last) = indices.rank().checked_sub(1) else { return vec![] };
        let count = indices.shape()[last].min(dims.start_index_map.len());
        let component = |k: usize| (dims.start_index_map[k], indices.index_in_dim(k, last as isize));
        (0..count).map(component).collect()
    }

    /// The index vectors from their components.
    fn vectors(components: &[Tensor], like: &Tensor) -> Tensor {
        match components {
            [] => like.clone(),
            [only] => only.expand_dims(-1),
            several => Tensor::stack(&several.iter().collect::<Vec<_>>(), -1),
        }
    }

    /// For each index vector whether its window fits where it is; none if every window does.
    fn windows_inside(&self, indices: &Tensor, dims: &GatherDims, sizes: &[usize]) -> Option<Tensor> {
        // 0 <= i <= last, as one comparison of unsigned numbers.
        let inside = |(axis, index): (usize, Tensor)| {
            let last = (self.shape()[axis] - sizes[axis]) as f64;
            index.bitcast(DType::U32).less_equal(Tensor::literal(last, DType::U32))
        };
        Self::components(indices, dims).into_iter().map(inside).reduce(|x, y| x.and(y))
    }

    /// The index vectors, moved to where windows fit.
    pub(crate) fn clamped(&self, indices: &Tensor, dims: &GatherDims, sizes: &[usize]) -> Tensor {
        let clamped = |(axis, index): (usize, Tensor)| {
            // An axis that there is not is the op's to report.
            let size = |shape: &[usize]| shape.get(axis).copied().unwrap_or(0);
            let last = size(self.shape()).saturating_sub(size(sizes));
            index.maximum(0).minimum(last)
        };
        let all: Vec<Tensor> = Self::components(indices, dims).into_iter().map(clamped).collect();
        Self::vectors(&all, indices)
    }

    /// The index vectors modulo the extents.
    fn wrapped(&self, indices: &Tensor, dims: &GatherDims) -> Tensor {
        let wrapped = |(axis, index): (usize, Tensor)| index.remainder(self.shape().get(axis).map_or(1, |&n| n.max(1)));
        let all: Vec<Tensor> = Self::components(indices, dims).into_iter().map(wrapped).collect();
        Self::vectors(&all, indices)
    }
}
