//! What an index expression means for a tensor: a view, and places in it.
//!
//! Comes in: the parts of the expression, and the tensor. Goes out: the region that integers and ranges name, the index
//! vectors of tensors and masks, and the shape of what the expression names, by NumPy's rules. Integers and ranges are
//! checked here; an index in a tensor is not, the mode says what one that is out of range does.

use super::part::Part;
use crate::front::operand::broadcast_shape;
use crate::front::tensor::Tensor;
use crate::graph::GatherDims;
use crate::types::{Axes, DType, Shape, join};

/// The elements `start, start + stride, …` of each axis, in reverse order along some.
#[derive(Clone, Debug)]
pub(super) struct Region {
    start: Shape,
    extents: Shape,
    stride: Shape,
    reversed: Axes,
}

/// An index expression, resolved for a tensor.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    region: Region,
    /// The shape of the region without the axes that integers remove.
    view: Shape,
    /// For axes of the view, the indices along them, i32 and of the shape `batch`, from the start of the axis.
    indices: Vec<(usize, Tensor)>,
    /// The shape of the indices, which broadcast.
    batch: Shape,
    /// How many axes of the window come before those of the indices.
    before: usize,
    /// The shape of what the expression names.
    pub(super) shape: Shape,
}

/// An axis of what an expression names.
enum Named {
    /// An axis of the view.
    Kept(usize),
    New,
}

impl Plan {
    /// The meaning of the parts for `x`, or why there is none.
    pub(super) fn new(x: &Tensor, parts: &[Part]) -> Result<Plan, String> {
        let parts = expanded(x, parts)?;
        let rank = x.rank();
        let mut region = Region {
            start: Shape::from_elem(0, rank),
            extents: Shape::from_slice(x.shape()),
            stride: Shape::from_elem(1, rank),
            reversed: Axes::new(),
        };
        // Next to tensors an integer is one of the indices: it has a say in where their axes go.
        let has_tensor = parts.iter().any(|part| matches!(part, Part::Tensor(_) | Part::Masked(..)));
        let (mut view, mut named, mut indices) = (Shape::new(), Vec::new(), Vec::new());
        let (mut axis, mut first, mut last, mut contiguous) = (0, None, None, true);
        for (position, part) in parts.iter().enumerate() {
            if !matches!(part, Part::Slice { .. } | Part::NewAxis) && has_tensor {
                first.get_or_insert(named.len());
                contiguous &= last.is_none_or(|last| last + 1 == position);
                last = Some(position);
            }
            match part {
                Part::NewAxis => named.push(Named::New),
                Part::Ellipsis => {}
                Part::At(index) => {
                    let extent = x.shape()[axis];
                    let counted = if *index < 0 { index.saturating_add(extent as isize) } else { *index };
                    let inside = usize::try_from(counted).ok().filter(|&index| index < extent);
                    region.start[axis] = inside.ok_or_else(|| format!("axis {axis} of {} has no {index}", x.ty()))?;
                    region.extents[axis] = 1;
                    axis += 1;
                }
                Part::Slice { start, stop, step } => {
                    region.slice(axis, [*start, *stop], *step)?;
                    named.push(Named::Kept(view.len()));
                    view.push(region.extents[axis]);
                    axis += 1;
                }
                Part::Tensor(_) | Part::Masked(..) => {
                    for index in tensors(part, &x.shape()[axis..])? {
                        indices.push((view.len(), index.counted_from_start(x.shape()[axis])));
                        view.push(x.shape()[axis]);
                        axis += 1;
                    }
                }
            }
        }
        let mut batch = Shape::new();
        for (_, index) in &indices {
            batch = broadcast_shape(&batch, index.shape()).ok_or_else(|| {
                let shapes: Vec<String> = indices.iter().map(|(_, x)| x.ty().to_string()).collect();
                format!("the indices {} do not broadcast", shapes.join(", "))
            })?;
        }
        for (_, index) in &mut indices {
            *index = index.broadcast_to(&batch);
        }
        let at = if contiguous { first.unwrap_or(0) } else { 0 };
        let extent = |axis: &Named| if let Named::Kept(axis) = axis { view[*axis] } else { 1 };
        let (left, right) = named.split_at(at);
        let before = left.iter().filter(|axis| matches!(axis, Named::Kept(_))).count();
        let shape = left.iter().map(extent).chain(batch.iter().copied()).chain(right.iter().map(extent)).collect();
        Ok(Plan { region, view, indices, batch, before, shape })
    }

    /// Are there tensors among the parts?
    pub(super) fn has_indices(&self) -> bool {
        !self.indices.is_empty()
    }

    /// How many places the tensors among the parts name.
    pub(super) fn places(&self) -> usize {
        self.batch.iter().product()
    }

    /// An empty axis that tensors index, if they name places.
    pub(super) fn empty_axis(&self) -> Option<usize> {
        let empty = self.indices.iter().map(|(axis, _)| *axis).find(|&axis| self.view[axis] == 0);
        empty.filter(|_| self.places() > 0)
    }

    /// The part of `x` that integers and ranges name, without the axes of integers.
    #[track_caller]
    pub(super) fn view(&self, x: &Tensor) -> Tensor {
        self.region.of(x).reshape(&self.view)
    }

    /// `x` with this instead of its view.
    #[track_caller]
    pub(super) fn put(&self, x: &Tensor, view: &Tensor) -> Tensor {
        self.region.put(x, &view.reshape(&self.region.extents))
    }

    /// The index vectors, the axes of a gather from the view, and the extents of its window.
    #[track_caller]
    pub(super) fn gather(&self) -> (Tensor, GatherDims, Shape) {
        let columns: Vec<Tensor> = self.indices.iter().map(|(_, index)| index.expand_dims(-1)).collect();
        let dims = self.dims(self.batch.len());
        (Tensor::concat(&columns.iter().collect::<Vec<_>>(), -1), dims, self.window())
    }

    /// The index vectors of all places, one after the other, and the axes of a gather of one of them.
    #[track_caller]
    pub(super) fn each(&self) -> (Tensor, GatherDims, Shape) {
        let (vectors, ..) = self.gather();
        (vectors.reshape(&[self.places(), self.indices.len()]), self.dims(0), self.window())
    }

    /// What a gather gives, in the shape of the expression.
    #[track_caller]
    pub(super) fn named(&self, gathered: &Tensor) -> Tensor {
        gathered.reshape(&self.shape)
    }

    /// The other direction: updates as a scatter takes them.
    #[track_caller]
    pub(super) fn updates(&self, named: &Tensor) -> Tensor {
        let kept: Axes = self.kept();
        let extents = kept.iter().map(|&axis| self.view[axis]);
        let mut shape: Shape = extents.collect();
        shape.insert_many(self.before, self.batch.iter().copied());
        named.reshape(&shape)
    }

    fn kept(&self) -> Axes {
        (0..self.view.len()).filter(|axis| !self.indices.iter().any(|(indexed, _)| indexed == axis)).collect()
    }

    fn window(&self) -> Shape {
        let mut sizes = self.view.clone();
        self.indices.iter().for_each(|(axis, _)| sizes[*axis] = 1);
        sizes
    }

    /// The axes of a gather whose indices have so many batch axes.
    fn dims(&self, batch: usize) -> GatherDims {
        let (indexed, kept): (Axes, usize) = (self.indices.iter().map(|(axis, _)| *axis).collect(), self.kept().len());
        GatherDims {
            offset_dims: (0..self.before).chain(self.before + batch..kept + batch).collect(),
            collapsed_slice_dims: indexed.clone(),
            start_index_map: indexed,
            ..GatherDims::default()
        }
    }
}

/// The parts with whole axes for the ellipsis, or for the axes that are left at the end.
fn expanded(x: &Tensor, parts: &[Part]) -> Result<Vec<Part>, String> {
    let axes = |part: &Part| match part {
        Part::At(_) | Part::Slice { .. } => 1,
        Part::NewAxis | Part::Ellipsis => 0,
        Part::Tensor(mask) if mask.dtype() == DType::Bool => mask.rank(),
        Part::Tensor(_) => 1,
        Part::Masked(mask, _) => mask.rank(),
    };
    let used: usize = parts.iter().map(axes).sum();
    let rest = x.rank().checked_sub(used).ok_or_else(|| format!("{used} axes are indexed, {} has fewer", x.ty()))?;
    let whole = std::iter::repeat_n(Part::Slice { start: None, stop: None, step: 1 }, rest);
    let mut all = parts.to_vec();
    let mut ellipses = parts.iter().enumerate().filter(|(_, part)| matches!(part, Part::Ellipsis)).map(|(i, _)| i);
    match (ellipses.next(), ellipses.next()) {
        (_, Some(_)) => return Err("there are two ellipses".into()),
        (Some(at), None) => drop(all.splice(at..=at, whole)),
        (None, None) => all.extend(whole),
    }
    Ok(all)
}

/// The index tensors of a part, one for each axis that it indexes.
fn tensors(part: &Part, shape: &[usize]) -> Result<Vec<Tensor>, String> {
    let fits = |mask: &Tensor| match shape.get(..mask.rank()) {
        Some(shape) if shape == mask.shape() && mask.rank() > 0 => Ok(()),
        _ => Err(format!("the mask {} is not of the shape of the axes [{}]", mask.ty(), join(shape, ","))),
    };
    match part {
        Part::Tensor(mask) if mask.dtype() == DType::Bool => {
            fits(mask)?;
            let array = mask.concrete().ok_or_else(|| {
                let why = "is computed, so how many elements it names is not known:";
                format!("the mask {} {why} use `Masked`, `where_` or `nonzero`", mask.ty())
            })?;
            let bits = array.to_f64_vec().map_err(|error| error.to_string())?;
            let places: Vec<usize> = (0..bits.len()).filter(|&i| bits[i] != 0.0).collect();
            let strides = crate::types::row_major_strides(mask.shape());
            let along = |axis: usize| {
                let index: Vec<i32> = places.iter().map(|&i| (i / strides[axis] % shape[axis]) as i32).collect();
                Tensor::from_vec(&[places.len()], index).map_err(|error| error.to_string())
            };
            (0..mask.rank()).map(along).collect()
        }
        Part::Masked(mask, size) => {
            fits(mask)?;
            let strides = crate::types::row_major_strides(mask.shape());
            let flat = mask.flat_nonzero(*size);
            let none = flat.less(0);
            let along = |axis: usize| none.select(i32::MAX, &flat / strides[axis] % shape[axis]);
            Ok((0..mask.rank()).map(along).collect())
        }
        Part::Tensor(index) => match index.as_indices() {
            Some(index) => Ok(vec![index]),
            None => Err(format!("takes indices of integers, or masks of bools, not {}", index.ty())),
        },
        Part::At(_) | Part::Slice { .. } | Part::NewAxis | Part::Ellipsis => Ok(vec![]),
    }
}

impl Region {
    /// Restricts an axis to a slice of Python.
    fn slice(&mut self, axis: usize, [start, stop]: [Option<isize>; 2], step: isize) -> Result<(), String> {
        if step == 0 {
            return Err("the step of a slice is 0".into());
        }
        let n = self.extents[axis] as isize;
        // What a slice of this direction begins at and ends before.
        let (first, end) = if step > 0 { (0, n) } else { (n - 1, -1) };
        let limit = |i: isize| (if i < 0 { i.saturating_add(n) } else { i }).clamp(first.min(end), first.max(end));
        let (start, stop) = (start.map_or(first, limit), stop.map_or(end, limit));
        let count = (stop - start).signum() * step.signum();
        let count = if count > 0 { (stop - start).unsigned_abs().div_ceil(step.unsigned_abs()) } else { 0 };
        let last = start + step.saturating_mul(count.saturating_sub(1) as isize);
        self.start[axis] = if count == 0 { 0 } else { start.min(last) as usize };
        (self.extents[axis], self.stride[axis]) = (count, if count > 1 { step.unsigned_abs() } else { 1 });
        if step < 0 && count > 1 {
            self.reversed.push(axis);
        }
        Ok(())
    }

    fn is_whole(&self, x: &Tensor) -> bool {
        self.extents[..] == *x.shape() && self.reversed.is_empty()
    }

    fn of(&self, x: &Tensor) -> Tensor {
        if self.is_whole(x) {
            return x.clone();
        }
        let end = |axis: usize| self.start[axis] + self.extents[axis].saturating_sub(1) * self.stride[axis];
        let limit: Shape = (0..x.rank()).map(|axis| end(axis) + self.extents[axis].min(1)).collect();
        let forward = x.slice(&self.start, &limit, &self.stride);
        if self.reversed.is_empty() { forward } else { forward.rev(&self.reversed) }
    }

    fn put(&self, x: &Tensor, new: &Tensor) -> Tensor {
        if self.is_whole(x) {
            return new.clone();
        }
        if self.extents.contains(&0) {
            return x.clone();
        }
        let new = if self.reversed.is_empty() { new.clone() } else { new.rev(&self.reversed) };
        if self.stride.iter().all(|&stride| stride == 1) {
            let starts: Vec<Tensor> = self.start.iter().map(|&at| Tensor::literal(at, DType::I32)).collect();
            return x.dynamic_update_slice(&new, &starts);
        }
        // The elements where they go, and where that is.
        let low: Vec<isize> = self.start.iter().map(|&at| at as isize).collect();
        let between: Shape = self.stride.iter().map(|stride| stride - 1).collect();
        let span = |axis: usize| self.start[axis] + (self.extents[axis] - 1) * self.stride[axis] + 1;
        let high: Vec<isize> = (0..x.rank()).map(|axis| x.shape()[axis] as isize - span(axis) as isize).collect();
        let placed = |x: &Tensor| x.pad(Tensor::literal(0, x.dtype()), &low, &high, &between);
        placed(&Tensor::full(new.shape(), true, DType::Bool)).select(placed(&new), x)
    }
}
