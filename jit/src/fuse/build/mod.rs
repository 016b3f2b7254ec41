//! Builds a kernel for each materialised value: its expression down to other materialised values, over its own loops.
//!
//! Comes in: a normalised graph. Goes out: kernels in program order. Kernels are not fused here (`merge` does that).

mod conv;
mod gather;
mod region;

use hashbrown::{HashMap, HashSet};
use smallvec::{SmallVec, smallvec};

use super::index::{Affine, Coords, Index, flatten, reshape};
use super::kernel::{
    Buffer, BufferId, Dim, GemmKernel, Kernel, KernelOp, KernelValue, Kernels, Levels, LoopKernel, Order, Output, Slot,
    Source, Store, Tap,
};
use super::materialise::{
    Element, element, is_elementwise, is_indexing, is_movement, is_opaque, is_single, materialised, reshape_base,
};
use super::routine::{Routine, RoutineKernel};
use crate::graph::{ArgOp, BinaryOp, CompareOp, Graph, Literal, Op, OpClass, Precision, ReduceOp, ValueId, results};
use crate::types::scalar::Scalar;
use crate::types::{DType, TensorType};

/// The kernels of the materialised values of `graph`, which is normalised.
pub(super) fn build(graph: &Graph) -> Kernels {
    build_counting(graph).0
}

/// As [`build`], with the number of rounds.
fn build_counting(graph: &Graph) -> (Kernels, usize) {
    let mut must_materialise = vec![false; graph.nodes.len()];
    for round in 1.. {
        let mut builder = KernelBuilder::new(graph, materialised(graph, &must_materialise));
        builder.run();
        if builder.must_materialise.is_empty() {
            return (builder.result, round);
        }
        // Some reshapes or products need an operand in memory: another round materialises it.
        let is_new = builder.must_materialise.iter().any(|id| !must_materialise[id.index()]);
        assert!(is_new, "materialised values are missing: {:?}\n{graph}", builder.must_materialise);
        for id in builder.must_materialise {
            must_materialise[id.index()] = true;
        }
    }
    unreachable!("each round materialises another value")
}

pub(super) struct KernelBuilder<'a> {
    pub(super) graph: &'a Graph,
    materialised: Vec<bool>,
    buffers: HashMap<ValueId, BufferId>,
    /// The buffers of the results of ops that no loop computes.
    results: HashMap<(ValueId, u32), BufferId>,
    /// Values that the next round has to materialise.
    pub(super) must_materialise: Vec<ValueId>,
    result: Kernels,
}

/// The buffers of an op that no loop computes.
struct Opaque {
    operands: Vec<BufferId>,
    results: Vec<BufferId>,
}

/// A kernel under construction, with the slots of the values that it computes.
pub(super) struct Body {
    kernel: LoopKernel,
    /// The extents of the dimensions: those of the loops, then those of computed coordinates.
    pub(super) extents: SmallVec<[usize; 6]>,
    /// The slots of the computed coordinates.
    coordinates: Vec<Slot>,
    known: HashMap<KernelValue, Slot>,
    done: HashMap<(ValueId, Coords), Slot>,
}

impl Body {
    fn new(dims: Vec<Dim>) -> Self {
        let kernel = LoopKernel { order: Order::of(&dims), dims, ..LoopKernel::default() };
        let extents = kernel.extents();
        Body { kernel, extents, coordinates: vec![], known: HashMap::new(), done: HashMap::new() }
    }

    /// The value `slot`, an i32 in `0..extent`, as a coordinate.
    pub(super) fn computed(&mut self, slot: Slot, extent: usize) -> Affine {
        let k = self.coordinates.iter().position(|&known| known == slot).unwrap_or_else(|| {
            self.coordinates.push(slot);
            self.extents.push(extent);
            self.coordinates.len() - 1
        });
        Affine::induction_variable(self.kernel.dims.len() + k, self.extents.len())
    }

    /// The part of an index over the loops, and the computed values with their strides.
    pub(super) fn split(&self, index: &Affine) -> (Affine, SmallVec<[(Slot, isize); 2]>) {
        let loops = self.kernel.dims.len();
        let mut base = Affine::zero(loops);
        base.add_scaled(index, 1);
        let strides = index.strides.iter().skip(loops);
        (base, self.coordinates.iter().copied().zip(strides.copied()).filter(|(_, stride)| *stride != 0).collect())
    }

    pub(super) fn load(&mut self, buffer: BufferId, index: &Affine, dtype: DType) -> Slot {
        let (base, computed) = self.split(index);
        let by = computed.iter().map(|(_, stride)| *stride).collect();
        let operands: SmallVec<[Slot; 4]> = computed.iter().map(|(slot, _)| *slot).collect();
        self.push(KernelOp::Load(buffer, Index { base, by }), &operands, dtype)
    }

    pub(super) fn push(&mut self, op: KernelOp, operands: &[Slot], dtype: DType) -> Slot {
        self.kernel.push(&mut self.known, KernelValue { op, operands: operands.into(), dtype })
    }

    pub(super) fn literal(&mut self, dtype: DType, value: impl Into<Scalar>) -> Slot {
        self.push(KernelOp::Literal(Literal::new(dtype, value)), &[], dtype)
    }

    /// The identity coordinates: axis d is the induction variable of dimension d.
    pub(super) fn identity_coords(&self) -> Coords {
        (0..self.extents.len()).map(|d| Affine::induction_variable(d, self.extents.len())).collect()
    }
}

impl<'a> KernelBuilder<'a> {
    fn new(graph: &'a Graph, materialised: Vec<bool>) -> Self {
        let result = Kernels { params: graph.param_types(), buffers: vec![], kernels: vec![], outputs: vec![] };
        KernelBuilder {
            graph,
            materialised,
            buffers: HashMap::new(),
            results: HashMap::new(),
            must_materialise: Vec::new(),
            result,
        }
    }

    pub(super) fn buffer(&mut self, id: ValueId, source: Source) -> BufferId {
        let buffer = BufferId(self.result.buffers.len() as u32);
        self.result.buffers.push(Buffer { ty: self.graph.ty(id).clone(), source });
        self.buffers.insert(id, buffer);
        buffer
    }

    fn run(&mut self) {
        for id in self.graph.ids() {
            match &self.graph.node(id).op {
                Op::Param(i) => {
                    self.buffer(id, Source::Param(*i));
                }
                Op::Constant(c) => {
                    self.buffer(id, Source::Constant(c.array().clone()));
                }
                Op::Result(index) if is_opaque(self.graph, id) => {
                    let buffer = self.results[&(self.graph.node(id).operands[0], *index)];
                    self.buffers.insert(id, buffer);
                }
                _ if self.materialised[id.index()] => self.kernels_for(id),
                _ => {}
            }
        }
        if !self.must_materialise.is_empty() {
            return self.extend_must_materialise();
        }
        for &output in &self.graph.outputs {
            let ty = self.graph.ty(output).clone();
            let base = reshape_base(self.graph, output);
            let output = match &self.graph.node(base).op {
                Op::Param(i) => Output::Param(*i, ty.into()),
                Op::Constant(c) => Output::Constant(c.array().reshaped(ty)),
                _ => Output::Computed(self.buffers[&base], ty.into()),
            };
            self.result.outputs.push(output);
        }
    }

    /// Adds the values that those in `must_materialise` need in memory in turn, so that a chain of reshapes does not
    /// take a round for each.
    fn extend_must_materialise(&mut self) {
        let mut known: HashSet<ValueId> = HashSet::new();
        let mut next = 0;
        while let Some(&id) = self.must_materialise.get(next) {
            next += 1;
            let node = self.graph.node(id);
            let inlined = is_elementwise(self.graph, id) || is_movement(&node.op) || is_indexing(&node.op);
            if known.insert(id) && inlined {
                let mut body = self.body(&node.ty.shape, &[]);
                let coords = body.identity_coords();
                self.compute(&mut body, id, &coords);
            }
        }
    }

    /// The kernels that write `id`.
    fn kernels_for(&mut self, id: ValueId) {
        let node = self.graph.node(id);
        match node.op.class() {
            OpClass::Routine => return self.routine(id),
            OpClass::Control => return self.region(id),
            _ => {}
        }
        if node.ty.elements() == 0 {
            // No kernel writes a value without elements.
            self.buffer(id, Source::Computed);
            return;
        }
        match &node.op {
            Op::Dot(..) => self.gemm(id),
            Op::Conv(dims, precision) => self.conv(id, dims, *precision),
            Op::Reduce(op, axes) => self.reduce(id, *op, axes),
            Op::ArgReduce(op, axis) => self.arg_reduce(id, *op, *axis),
            Op::Pad { low, high: _, interior } => self.pad(id, low, interior),
            Op::Concat(axis) => self.concat(id, *axis),
            Op::Scatter { dims, combine } if !is_single(self.graph, node) => self.scatter(id, dims, *combine),
            _ => {
                let mut body = self.body(&node.ty.shape, &[]);
                let coords = body.identity_coords();
                let value = self.compute(&mut body, id, &coords);
                let buffer = self.buffer(id, Source::Computed);
                let index = flatten(&coords, &node.ty.shape, coords.len());
                self.finish(body, value, buffer, index);
            }
        }
    }

    pub(super) fn body(&self, shape: &[usize], reduced: &[usize]) -> Body {
        let dim = |(axis, &extent): (usize, &usize)| Dim { extent, reduced: reduced.contains(&axis) };
        Body::new(shape.iter().enumerate().map(dim).collect())
    }

    pub(super) fn finish(&mut self, mut body: Body, value: Slot, buffer: BufferId, index: Affine) {
        body.kernel.stores.push(Store { value, buffer, index, by: SmallVec::new() });
        self.result.kernels.push(Kernel::Loop(body.kernel));
    }

    /// As [`Self::finish`], for iterations in order and an index with computed parts.
    pub(super) fn finish_serial(&mut self, mut body: Body, value: Slot, buffer: BufferId, index: &Affine) {
        let (index, by) = body.split(index);
        body.kernel.stores.push(Store { value, buffer, index, by });
        body.kernel.serial = true;
        self.result.kernels.push(Kernel::Loop(body.kernel));
    }

    /// The value `id` at `coords` as an operand: a load if it is materialised.
    pub(super) fn read(&mut self, body: &mut Body, id: ValueId, coords: &Coords) -> Slot {
        if let Some(&buffer) = self.buffers.get(&id) {
            let ty = self.graph.ty(id);
            let index = flatten(coords, &ty.shape, body.extents.len());
            return body.load(buffer, &index, ty.dtype);
        }
        let key = (id, coords.clone());
        if let Some(&slot) = body.done.get(&key) {
            return slot;
        }
        let slot = self.compute(body, id, coords);
        body.done.insert(key, slot);
        slot
    }

    /// The value `id` at `coords`, computed from its operands.
    fn compute(&mut self, body: &mut Body, id: ValueId, coords: &Coords) -> Slot {
        let node = self.graph.node(id);
        let dims = body.extents.len();
        match &node.op {
            Op::Literal(literal) => body.push(KernelOp::Literal(*literal), &[], literal.dtype),
            Op::Iota { dtype, axis, .. } => {
                let index = body.coordinate(&coords[*axis]);
                self.convert(body, index, DType::I32, *dtype)
            }
            Op::StopGradient => self.read(body, node.operands[0], coords),
            _ if is_elementwise(self.graph, id) => {
                let Element { op, index, operands } = element(self.graph, id);
                let operands: SmallVec<[Slot; 4]> = operands.iter().map(|&x| self.read(body, x, coords)).collect();
                body.push(KernelOp::Apply(op.clone(), index), &operands, node.ty.dtype)
            }
            Op::Broadcast { dims: axes, .. } => {
                let x = node.operands[0];
                let shape = &self.graph.ty(x).shape;
                let coord = |(axis, &to): (usize, &usize)| {
                    if shape[axis] == 1 { Affine::zero(dims) } else { coords[to].clone() }
                };
                let coords = axes.iter().enumerate().map(coord).collect();
                self.read(body, x, &coords)
            }
            Op::Transpose(perm) => {
                let mut permuted: Coords = coords.clone();
                for (to, &from) in perm.iter().enumerate() {
                    permuted[from] = coords[to].clone();
                }
                self.read(body, node.operands[0], &permuted)
            }
            Op::Slice { start, stride, .. } => {
                let shift = |axis: usize| {
                    let mut index = Affine { offset: start[axis] as isize, ..Affine::zero(dims) };
                    // With fewer than two elements the stride has no effect, and it may be of any size.
                    let step = if node.ty.shape[axis] < 2 { 1 } else { stride[axis] as isize };
                    index.add_scaled(&coords[axis], step);
                    index
                };
                self.read(body, node.operands[0], &(0..coords.len()).map(shift).collect())
            }
            Op::Rev(axes) => {
                let mut flipped = coords.clone();
                for &axis in axes {
                    let mut index = Affine { offset: node.ty.shape[axis] as isize - 1, ..Affine::zero(dims) };
                    index.add_scaled(&coords[axis], -1);
                    flipped[axis] = index;
                }
                self.read(body, node.operands[0], &flipped)
            }
            Op::Reshape(shape) => {
                let x = node.operands[0];
                if let Some(&buffer) = self.buffers.get(&reshape_base(self.graph, x)) {
                    let index = flatten(coords, shape, dims);
                    return body.load(buffer, &index, node.ty.dtype);
                }
                let from = &self.graph.ty(x).shape;
                match reshape(coords, shape, from, &body.extents) {
                    Some(coords) => self.read(body, x, &coords),
                    None => {
                        let (base, before) = (reshape_base(self.graph, x), self.must_materialise.len());
                        let slot = self.read_reshaped(body, base, shape, coords);
                        if self.must_materialise.len() > before {
                            self.must_materialise.truncate(before);
                            self.must_materialise.push(base);
                        }
                        slot
                    }
                }
            }
            op if is_indexing(op) => self.indexed(body, id, coords),
            _ => {
                // All others are materialised before they are read.
                self.must_materialise.push(id);
                body.literal(node.ty.dtype, 0.0)
            }
        }
    }

    /// The element at `coords` of a reshape of `id` to `shape` whose coordinates are not affine. A reshape of an
    /// elementwise op is the op of reshapes; a reshape of a materialised value is a view.
    fn read_reshaped(&mut self, body: &mut Body, id: ValueId, shape: &[usize], coords: &Coords) -> Slot {
        let id = reshape_base(self.graph, id);
        let node = self.graph.node(id);
        if let Some(&buffer) = self.buffers.get(&id) {
            let index = flatten(coords, shape, body.extents.len());
            return body.load(buffer, &index, node.ty.dtype);
        }
        match &node.op {
            Op::Literal(literal) => body.push(KernelOp::Literal(*literal), &[], literal.dtype),
            Op::Broadcast { .. } if self.graph.ty(node.operands[0]).elements() == 1 => {
                let zero =
                    SmallVec::from_elem(Affine::zero(body.extents.len()), self.graph.ty(node.operands[0]).rank());
                self.read(body, node.operands[0], &zero)
            }
            _ if is_elementwise(self.graph, id) => {
                let key = (id, coords.clone());
                if let Some(&slot) = body.done.get(&key) {
                    return slot;
                }
                let Element { op, index, operands } = element(self.graph, id);
                let read = |&x: &ValueId| self.read_reshaped(body, x, shape, coords);
                let operands: SmallVec<[Slot; 4]> = operands.iter().map(read).collect();
                let slot = match op {
                    Op::StopGradient => operands[0],
                    op => body.push(KernelOp::Apply(op.clone(), index), &operands, node.ty.dtype),
                };
                body.done.insert(key, slot);
                slot
            }
            _ => {
                self.must_materialise.push(id);
                body.literal(node.ty.dtype, 0.0)
            }
        }
    }

    fn convert(&self, body: &mut Body, x: Slot, from: DType, to: DType) -> Slot {
        if from == to { x } else { body.push(KernelOp::Apply(Op::Convert(to), 0), &[x], to) }
    }

    fn reduce(&mut self, id: ValueId, op: ReduceOp, axes: &[usize]) {
        let node = self.graph.node(id);
        let x = node.operands[0];
        let mut body = self.body(&self.graph.ty(x).shape, axes);
        let coords = body.identity_coords();
        let element = self.read(&mut body, x, &coords);
        let value = body.push(KernelOp::Reduce(op), &[element], node.ty.dtype);
        self.store_reduced(id, body, value, &coords, axes);
    }

    fn store_reduced(&mut self, id: ValueId, body: Body, value: Slot, coords: &Coords, axes: &[usize]) {
        let shape = &self.graph.ty(id).shape;
        let free: Coords = (0..coords.len()).filter(|a| !axes.contains(a)).map(|a| coords[a].clone()).collect();
        let index = flatten(&free, shape, coords.len());
        let buffer = self.buffer(id, Source::Computed);
        self.finish(body, value, buffer, index);
    }

    /// The first index whose element is the extreme, or NaN: `min over i of (x[i] = extreme or x[i] ≠ x[i]) ? i : ∞`.
    fn arg_reduce(&mut self, id: ValueId, op: ArgOp, axis: usize) {
        let x = self.graph.node(id).operands[0];
        let dtype = self.graph.ty(x).dtype;
        let mut body = self.body(&self.graph.ty(x).shape, &[axis]);
        let coords = body.identity_coords();
        let element = self.read(&mut body, x, &coords);
        let reduce = match op {
            ArgOp::Max => ReduceOp::Max,
            ArgOp::Min => ReduceOp::Min,
        };
        let extreme = body.push(KernelOp::Reduce(reduce), &[element], dtype);
        let equal = body.push(KernelOp::Apply(Op::Compare(CompareOp::Eq), 0), &[element, extreme], DType::Bool);
        let nan = body.push(KernelOp::Apply(Op::Compare(CompareOp::Ne), 0), &[element, element], DType::Bool);
        let found = body.push(KernelOp::Apply(Op::Binary(BinaryOp::Or), 0), &[equal, nan], DType::Bool);
        let position = body.push(KernelOp::Iota(coords[axis].clone()), &[], DType::I32);
        let none = body.literal(DType::I32, i32::MAX);
        let candidate = body.push(KernelOp::Apply(Op::Select, 0), &[found, position, none], DType::I32);
        let value = body.push(KernelOp::Reduce(ReduceOp::Min), &[candidate], DType::I32);
        self.store_reduced(id, body, value, &coords, &[axis]);
    }

    /// Two kernels with partial writes: one fills the result, one writes the elements of the operand.
    fn pad(&mut self, id: ValueId, low: &[isize], interior: &[usize]) {
        let node = self.graph.node(id);
        let (x, value) = (node.operands[0], node.operands[1]);
        let shape = node.ty.shape.clone();

        let mut body = self.body(&shape, &[]);
        let coords = body.identity_coords();
        let fill = self.read(&mut body, value, &Coords::new());
        let index = flatten(&coords, &shape, coords.len());
        let buffer = BufferId(self.result.buffers.len() as u32);
        self.result.buffers.push(Buffer { ty: node.ty.clone(), source: Source::Computed });
        self.finish(body, fill, buffer, index);

        // Element i of the operand has index low + i (interior + 1). A negative low drops the first elements.
        let from = self.graph.ty(x).shape.clone();
        let step = |axis: usize| if from[axis] < 2 { 1 } else { interior[axis] as isize + 1 };
        let mut first: SmallVec<[usize; 4]> = smallvec![];
        let mut count: SmallVec<[usize; 4]> = smallvec![];
        for axis in 0..from.len() {
            let step = step(axis);
            let begin = (-low[axis]).max(0).div_euclid(step) + isize::from((-low[axis]).max(0) % step != 0);
            let last = shape[axis] as isize - 1 - low[axis];
            let end = if last < 0 { 0 } else { last / step + 1 }.min(from[axis] as isize);
            first.push(begin as usize);
            count.push((end - begin).max(0) as usize);
        }
        if count.iter().all(|&n| n > 0) {
            let mut body = self.body(&count, &[]);
            let coords = body.identity_coords();
            let (mut source, mut target) = (coords.clone(), coords);
            for axis in 0..from.len() {
                source[axis].offset += first[axis] as isize;
                let mut index = Affine { offset: low[axis], ..Affine::zero(from.len()) };
                index.add_scaled(&source[axis], step(axis));
                target[axis] = index;
            }
            let value = self.read(&mut body, x, &source);
            let index = flatten(&target, &shape, target.len());
            self.finish(body, value, buffer, index);
        }
        self.buffers.insert(id, buffer);
    }

    /// A kernel with a partial write for each operand.
    fn concat(&mut self, id: ValueId, axis: usize) {
        let node = self.graph.node(id);
        let buffer = BufferId(self.result.buffers.len() as u32);
        self.result.buffers.push(Buffer { ty: node.ty.clone(), source: Source::Computed });
        let mut start = 0;
        for &x in &node.operands {
            let shape = self.graph.ty(x).shape.clone();
            let mut body = self.body(&shape, &[]);
            let mut coords = body.identity_coords();
            let value = self.read(&mut body, x, &coords);
            coords[axis].offset += start as isize;
            start += shape[axis];
            let index = flatten(&coords, &node.ty.shape, coords.len());
            self.finish(body, value, buffer, index);
        }
        self.buffers.insert(id, buffer);
    }

    fn routine(&mut self, id: ValueId) {
        let node = self.graph.node(id);
        let Opaque { operands, results } = self.opaque(id);
        let types: SmallVec<[&TensorType; 4]> = node.operands.iter().map(|&x| self.graph.ty(x)).collect();
        let routine = Routine::new(&node.op, &types);
        // No kernel writes values without elements.
        if routine.tasks() > 0 && routine.elements() > 0 && !results.is_empty() {
            let (operands, results) = (operands.into(), results.into());
            self.result.kernels.push(Kernel::Routine(RoutineKernel { routine, operands, results }));
        }
    }

    /// The buffers of the operands of an op that no loop computes, which are materialised, and new ones of its results.
    fn opaque(&mut self, id: ValueId) -> Opaque {
        let node = self.graph.node(id);
        let operand = |&x: &ValueId| self.buffers.get(&reshape_base(self.graph, x)).copied();
        let Some(operands) = node.operands.iter().map(operand).collect::<Option<Vec<BufferId>>>() else {
            unreachable!("operands of {} are materialised", node.op.name());
        };
        let types: SmallVec<[&TensorType; 4]> = node.operands.iter().map(|&x| self.graph.ty(x)).collect();
        let types = results(&node.op, &types).expect("the graph is verified");
        let mut buffers = Vec::with_capacity(types.len());
        for (index, ty) in (0..).zip(types) {
            let buffer = BufferId(self.result.buffers.len() as u32);
            self.result.buffers.push(Buffer { ty, source: Source::Computed });
            self.results.insert((id, index), buffer);
            buffers.push(buffer);
        }
        self.buffers.insert(id, buffers[0]);
        Opaque { operands, results: buffers }
    }

    fn gemm(&mut self, id: ValueId) {
        let node = self.graph.node(id);
        let (x, y) = (node.operands[0], node.operands[1]);
        let [b, m, k] = self.graph.ty(x).shape[..] else { return self.must_materialise.push(id) };
        let precision = match node.op {
            Op::Dot(_, Some(precision)) if node.ty.dtype == DType::F32 => precision,
            _ => Precision::Highest,
        };
        let n = node.ty.shape[2];
        let a = self.view(x);
        let bb = self.view(y);
        let c = self.buffer(id, Source::Computed);
        if let (Some(a), Some(bb)) = (a, bb) {
            let gemm = GemmKernel {
                extents: [b, m, n, k],
                dtype: node.ty.dtype,
                precision,
                a,
                b: bb,
                taps: smallvec![Tap::default()],
                c: (c, 0, [(m * n) as isize, n as isize, 1]),
                levels: Levels::default(),
            };
            self.result.kernels.push(Kernel::Gemm(gemm));
        }
    }

    /// The matrix `x` (rank 3) as buffer, offset and strides. `None` if it is not such a view yet: then a value that
    /// has to be materialised is noted.
    ///
    /// `x` may be a reshape of a value with more axes, its base. The base is read along its own axes, and each run of
    /// them that makes an axis of `x` must be contiguous.
    fn view(&mut self, x: ValueId) -> Option<(BufferId, isize, [isize; 3])> {
        let node = self.graph.node(x);
        let base = match node.op {
            // A reshape of a materialised value is a view.
            Op::Reshape(_) if !self.buffers.contains_key(&reshape_base(self.graph, x)) => node.operands[0],
            _ => x,
        };
        let shape = self.graph.ty(base).shape.clone();
        let mut body = self.body(&shape, &[]);
        let coords = body.identity_coords();
        let before = self.must_materialise.len();
        let slot = self.read(&mut body, base, &coords);
        if self.must_materialise.len() > before {
            // A reshape in between needs its operand in memory.
            return None;
        }
        let strides = match &body.kernel.values[slot as usize].op {
            KernelOp::Load(buffer, index) => index.affine().and_then(|index| {
                merge_axes(&shape, &index.strides, &node.ty.shape)
                    .map(|strides| (*buffer, index.offset, [strides[0], strides[1], strides[2]]))
            }),
            _ => None,
        };
        if strides.is_none() {
            self.must_materialise.push(base);
        }
        strides
    }
}

/// The strides of the axes of `merged`, each of which is a run of axes of `shape`; `None` if a run is not contiguous,
/// or runs do not match.
fn merge_axes(shape: &[usize], strides: &[isize], merged: &[usize]) -> Option<SmallVec<[isize; 3]>> {
    let mut axis = 0;
    let mut result = SmallVec::new();
    for &extent in merged {
        let mut elements = 1;
        // The stride of the last axis of the run that is longer than 1.
        let mut run: Option<isize> = None;
        while axis < shape.len() && (elements < extent || shape[axis] == 1) {
            if shape[axis] > 1 {
                if run.is_some_and(|before| before != strides[axis] * shape[axis] as isize) {
                    return None;
                }
                run = Some(strides[axis]);
                elements *= shape[axis];
            }
            axis += 1;
        }
        if elements != extent {
            return None;
        }
        result.push(run.unwrap_or(0));
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::{build_counting, merge_axes};

    #[test]
    fn a_reshape_may_split_the_axes_of_a_product() {
        let text = "fn main(%0: f32[16,11,14]) -> (f32[1,16,14], f32[1,16,11,16]) {
  %1: f32[1,16,11,14] = reshape %0 [shape=1,16,11,14]
  %2: f32[11,1,14,16] = transpose %1 [perm=2,0,3,1]
  %3: f32[1,16,14] = dot_general %1, %1 [batch=0:0,1:1,3:3, contract=2:2]
  %4: f32[1,16,11,16] = dot_general %3, %2 [batch=0:1, contract=2:2]
  return %3, %4
}";
        let kernels = crate::fuse::fuse(&crate::graph::parse(text).expect("a graph"));
        // The first is a product of vectors, which becomes a product and a sum.
        assert_eq!(kernels.kernels.iter().filter(|k| matches!(k, super::Kernel::Gemm(_))).count(), 1);
    }

    #[test]
    fn a_chain_of_non_affine_reshapes_takes_as_many_rounds_as_one() {
        let rounds = |length: usize| {
            let mut text = String::from("fn main(%0: f32[4,6]) -> (f32[4,6]) {\n");
            for i in 0..length {
                let (x, y, z) = (2 * i, 2 * i + 1, 2 * i + 2);
                text += &format!("%{y}: f32[6,4] = transpose %{x} [perm=1,0]\n");
                text += &format!("%{z}: f32[4,6] = reshape %{y} [shape=4,6]\n");
            }
            text += &format!("%{0}: f32[4,6] = neg %{1}\nreturn %{0}\n}}", 2 * length + 1, 2 * length);
            build_counting(&crate::graph::parse(&text).expect("a graph")).1
        };
        assert_eq!(rounds(100), rounds(2));
    }

    #[test]
    fn contiguous_axes_merge() {
        // [4, 64, 49] read as [49, 4, 64] and reshaped to [1, 49, 256].
        assert_eq!(merge_axes(&[49, 4, 64], &[1, 3136, 49], &[1, 49, 256]).as_deref(), Some(&[0, 1, 49][..]));
        assert_eq!(merge_axes(&[4, 64, 49], &[3136, 1, 64], &[1, 256, 49]), None);
        assert_eq!(merge_axes(&[5, 1, 16], &[16, 0, 1], &[5, 1, 16]).as_deref(), Some(&[16, 0, 1][..]));
    }
}
