//! Elements of gathers, scatters and dynamic slices, computed where they are used.
//!
//! Comes in: the index of an element of the result. Goes out: the element, as an expression over the loops of a kernel.
//! The operand of a gather is read at a place of which some coordinates are computed values. Each of them is clamped
//! first, in the kernel, so that no index reads beside the operand. A scatter of one window is a selection between the
//! operand and the update at each element. A scatter of several is two kernels: a copy of the operand, and one that
//! updates it in the order of the windows.

use smallvec::SmallVec;

use super::super::index::{Affine, Coords, flatten};
use super::super::kernel::{KernelOp, Slot, Source};
use super::super::materialise::is_single;
use super::{Body, KernelBuilder};
use crate::graph::{BinaryOp, CompareOp, GatherDims, Node, Op, ScatterOp, ValueId};
use crate::types::{Axes, DType};

impl Body {
    /// A coordinate as a value, i32.
    pub(super) fn coordinate(&mut self, coord: &Affine) -> Slot {
        let (base, computed) = self.split(coord);
        let mut sum = None;
        if base.offset != 0 || !base.is_constant() || computed.is_empty() {
            sum = Some(self.push(KernelOp::Iota(base), &[], DType::I32));
        }
        for (slot, stride) in computed {
            let factor = self.literal(DType::I32, stride as f64);
            let term = if stride == 1 { slot } else { self.integers(BinaryOp::Mul, slot, factor) };
            sum = Some(sum.map_or(term, |sum| self.integers(BinaryOp::Add, sum, term)));
        }
        sum.unwrap_or_else(|| self.literal(DType::I32, 0.0))
    }

    fn integers(&mut self, op: BinaryOp, x: Slot, y: Slot) -> Slot {
        self.push(KernelOp::Apply(Op::Binary(op), 0), &[x, y], DType::I32)
    }

    fn test(&mut self, op: CompareOp, x: Slot, y: usize) -> Slot {
        let y = self.literal(DType::I32, y as f64);
        self.push(KernelOp::Apply(Op::Compare(op), 0), &[x, y], DType::Bool)
    }

    /// `x` in `0..=last`.
    fn clamped(&mut self, x: Slot, last: usize) -> Slot {
        let (zero, last) = (self.literal(DType::I32, 0.0), self.literal(DType::I32, last as f64));
        let x = self.integers(BinaryOp::Max, x, zero);
        self.integers(BinaryOp::Min, x, last)
    }

    /// The same as a coordinate, which is known to be in range.
    fn clamped_coordinate(&mut self, x: Slot, last: usize) -> Affine {
        if last == 0 {
            return Affine::zero(self.extents.len());
        }
        let x = self.clamped(x, last);
        self.computed(x, last + 1)
    }

    fn both(&mut self, x: Option<Slot>, y: Slot) -> Option<Slot> {
        let both = |x| self.push(KernelOp::Apply(Op::Binary(BinaryOp::And), 0), &[x, y], DType::Bool);
        Some(x.map_or(y, both))
    }
}

/// The sum of two coordinates.
fn sum(body: &Body, x: &Affine, y: &Affine) -> Affine {
    let mut sum = Affine::zero(body.extents.len());
    sum.add_scaled(x, 1);
    sum.add_scaled(y, 1);
    sum
}

impl KernelBuilder<'_> {
    /// An element of a gather, a scatter of one window, or a dynamic slice or update.
    pub(super) fn indexed(&mut self, body: &mut Body, id: ValueId, coords: &Coords) -> Slot {
        let node = self.graph.node(id);
        match &node.op {
            Op::Gather { dims, sizes } => self.gathered(body, node, dims, sizes, coords),
            Op::DynamicSlice { sizes } => {
                let x = node.operands[0];
                let mut source = Coords::new();
                for (axis, coord) in coords.iter().enumerate() {
                    let start = self.start(body, node.operands[1 + axis], self.graph.ty(x).shape[axis] - sizes[axis]);
                    source.push(sum(body, &start, coord));
                }
                self.read(body, x, &source)
            }
            Op::DynamicUpdateSlice => self.updated(body, node, coords),
            Op::Scatter { dims, combine } if is_single(self.graph, node) => {
                self.scattered(body, node, dims, *combine, coords)
            }
            _ => {
                self.must_materialise.push(id);
                body.literal(node.ty.dtype, 0.0)
            }
        }
    }

    /// The kernels of a scatter of several windows. The second runs through the batch axes in row-major order, each
    /// with its window; a window that does not fit stores what is there.
    pub(super) fn scatter(&mut self, id: ValueId, dims: &GatherDims, combine: ScatterOp) {
        let node = self.graph.node(id);
        let (x, indices, updates) = (node.operands[0], node.operands[1], node.operands[2]);
        let (shape, dtype) = (&node.ty.shape, node.ty.dtype);
        let mut body = self.body(shape, &[]);
        let all = body.identity_coords();
        let value = self.read(&mut body, x, &all);
        let buffer = self.buffer(id, Source::Computed);
        self.finish(body, value, buffer, flatten(&all, shape, all.len()));
        let ty = self.graph.ty(updates);
        if ty.shape.contains(&0) {
            return;
        }

        let batch_axes = dims.batch(ty.rank());
        let order: Axes = batch_axes.iter().chain(&dims.offset_dims).copied().collect();
        let extents: Axes = order.iter().map(|&axis| ty.shape[axis]).collect();
        let mut body = self.body(&extents, &[]);
        let mut coords: Coords = SmallVec::from_elem(Affine::zero(order.len()), order.len());
        for (dim, &axis) in order.iter().enumerate() {
            coords[axis] = Affine::induction_variable(dim, order.len());
        }
        let batch: Coords = batch_axes.iter().map(|&axis| coords[axis].clone()).collect();
        let sizes = dims.scatter_window(&node.ty, ty);
        let (mut inside, mut target) = (None, Coords::new());
        for (axis, c) in dims.coordinates(shape.len(), ty.rank()).iter().enumerate() {
            let mut coord = Affine::zero(body.extents.len());
            if let Some(component) = c.component {
                let (start, last) = (self.component(&mut body, indices, &batch, component), shape[axis] - sizes[axis]);
                let (after, before) = (body.test(CompareOp::Ge, start, 0), body.test(CompareOp::Le, start, last));
                inside = body.both(inside, after);
                inside = body.both(inside, before);
                coord = body.clamped_coordinate(start, last);
            }
            target.push(match c.axis {
                Some(of) => sum(&body, &coord, &coords[of]),
                None => coord,
            });
        }
        let mut value = self.read(&mut body, updates, &coords);
        let place = flatten(&target, shape, body.extents.len());
        let before = body.load(buffer, &place, dtype);
        if let Some(op) = combine.binary() {
            value = body.push(KernelOp::Apply(Op::Binary(op), 0), &[before, value], dtype);
        }
        if let Some(inside) = inside {
            value = body.push(KernelOp::Apply(Op::Select, 0), &[inside, value, before], dtype);
        }
        self.finish_serial(body, value, buffer, &place);
    }

    /// Where a window begins along an axis, with room for `last` starts after the first.
    fn start(&mut self, body: &mut Body, start: ValueId, last: usize) -> Affine {
        if last == 0 {
            return Affine::zero(body.extents.len());
        }
        let start = self.read(body, start, &Coords::new());
        body.clamped_coordinate(start, last)
    }

    /// A component of an index vector; `batch` are the coordinates along the other axes of the indices.
    fn component(&mut self, body: &mut Body, indices: ValueId, batch: &[Affine], component: usize) -> Slot {
        let last = Affine { offset: component as isize, ..Affine::zero(body.extents.len()) };
        let mut coords: Coords = batch.iter().cloned().collect();
        coords.push(last);
        // Components that were concatenated are read where they come from.
        let node = self.graph.node(indices);
        if let Op::Concat(axis) = node.op
            && axis == batch.len()
            && node.operands.len() == node.ty.shape[axis]
            && node.operands.iter().all(|&x| self.graph.ty(x).shape[axis] == 1)
        {
            coords[axis].offset = 0;
            return self.read(body, node.operands[component], &coords);
        }
        self.read(body, indices, &coords)
    }

    fn gathered(&mut self, body: &mut Body, node: &Node, dims: &GatherDims, sizes: &[usize], coords: &Coords) -> Slot {
        let (x, indices) = (node.operands[0], node.operands[1]);
        let shape = &self.graph.ty(x).shape;
        let batch: Coords = dims.batch(coords.len()).iter().map(|&axis| coords[axis].clone()).collect();
        let mut source = Coords::new();
        for (axis, from) in dims.coordinates(shape.len(), coords.len()).iter().enumerate() {
            let last = shape[axis] - sizes[axis];
            let start = match from.component {
                Some(component) if last > 0 => {
                    let index = self.component(body, indices, &batch, component);
                    body.clamped_coordinate(index, last)
                }
                _ => Affine::zero(body.extents.len()),
            };
            source.push(match from.axis {
                Some(of) => sum(body, &start, &coords[of]),
                None => start,
            });
        }
        self.read(body, x, &source)
    }

    /// The element of the update where there is one, or else of the operand.
    fn updated(&mut self, body: &mut Body, node: &Node, coords: &Coords) -> Slot {
        let (x, update) = (node.operands[0], node.operands[1]);
        let (from, sizes) = (&self.graph.ty(x).shape, &self.graph.ty(update).shape);
        if sizes.contains(&0) {
            return self.read(body, x, coords);
        }
        let (mut inside, mut source) = (None, Coords::new());
        for (axis, coord) in coords.iter().enumerate() {
            if sizes[axis] == from[axis] {
                source.push(coord.clone());
                continue;
            }
            let start = self.read(body, node.operands[2 + axis], &Coords::new());
            let start = body.clamped(start, from[axis] - sizes[axis]);
            let (relative, within) = self.relative(body, coord, start, sizes[axis]);
            inside = body.both(inside, within);
            source.push(relative);
        }
        let updated = self.read(body, update, &source);
        self.choose(body, inside, updated, node, coords)
    }

    /// The coordinate less `start`, within a window of `size`, and whether it is in the window.
    fn relative(&mut self, body: &mut Body, coord: &Affine, start: Slot, size: usize) -> (Affine, Slot) {
        let position = body.coordinate(coord);
        if size == 1 {
            let within = body.push(KernelOp::Apply(Op::Compare(CompareOp::Eq), 0), &[position, start], DType::Bool);
            return (Affine::zero(body.extents.len()), within);
        }
        // A difference that wraps is negative.
        let relative = body.integers(BinaryOp::Sub, position, start);
        let after = body.test(CompareOp::Ge, relative, 0);
        let before = body.test(CompareOp::Lt, relative, size);
        let within = body.push(KernelOp::Apply(Op::Binary(BinaryOp::And), 0), &[after, before], DType::Bool);
        (body.clamped_coordinate(relative, size - 1), within)
    }

    /// `inside ? updated : x`, with the operand's element at `coords`.
    fn choose(&mut self, body: &mut Body, inside: Option<Slot>, updated: Slot, node: &Node, coords: &Coords) -> Slot {
        let Some(inside) = inside else { return updated };
        let x = self.read(body, node.operands[0], coords);
        body.push(KernelOp::Apply(Op::Select, 0), &[inside, updated, x], node.ty.dtype)
    }

    fn scattered(
        &mut self,
        body: &mut Body,
        node: &Node,
        dims: &GatherDims,
        combine: ScatterOp,
        coords: &Coords,
    ) -> Slot {
        let (x, indices, updates) = (node.operands[0], node.operands[1], node.operands[2]);
        let ty = self.graph.ty(updates);
        if ty.shape.contains(&0) {
            return self.read(body, x, coords);
        }
        let from = self.graph.ty(x).shape.clone();
        let sizes = dims.scatter_window(self.graph.ty(x), ty);
        // Along the axes of the indices that no axis of the operand goes together with there is one window.
        let mut batch: Coords =
            SmallVec::from_elem(Affine::zero(body.extents.len()), self.graph.ty(indices).rank() - 1);
        for (&axis, &of_indices) in dims.operand_batching_dims.iter().zip(&dims.start_indices_batching_dims) {
            batch[of_indices] = coords[axis].clone();
        }
        let mut source: Coords = SmallVec::from_elem(Affine::zero(0), ty.rank());
        let mut inside = None;
        for (axis, c) in dims.coordinates(from.len(), ty.rank()).iter().enumerate() {
            let within_window = if dims.operand_batching_dims.contains(&axis)
                || sizes[axis] == from[axis] && c.component.is_none()
            {
                coords[axis].clone()
            } else {
                let start = match c.component {
                    Some(component) => self.component(body, indices, &batch, component),
                    None => body.literal(DType::I32, 0.0),
                };
                if c.component.is_some() && sizes[axis] > 1 {
                    // A window that does not fit has no effect.
                    let (after, before) =
                        (body.test(CompareOp::Ge, start, 0), body.test(CompareOp::Le, start, from[axis] - sizes[axis]));
                    inside = body.both(inside, after);
                    inside = body.both(inside, before);
                }
                let (relative, within) = self.relative(body, &coords[axis], start, sizes[axis]);
                inside = body.both(inside, within);
                relative
            };
            if let Some(of) = c.axis {
                source[of] = within_window;
            }
        }
        let mut updated = self.read(body, updates, &source);
        if let Some(op) = combine.binary() {
            let before = self.read(body, x, coords);
            updated = body.push(KernelOp::Apply(Op::Binary(op), 0), &[before, updated], node.ty.dtype);
        }
        self.choose(body, inside, updated, node, coords)
    }
}
