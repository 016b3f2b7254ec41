//! The kernels of a convolution: sums of products over taps, of operands that are read in place.
//!
//! Comes in: a convolution without padding (`normalise` puts it around the left operand, and cuts off by coordinates).
//! Goes out: products of matrices with taps (`products`), or loops. No operand is gathered into a matrix of windows.
//!
//! **Phases.** Where the left operand is dilated, the results whose windows fall on elements in the same way are a
//! convolution of their own, without zeros between elements: `z[o]` sums over the `k` with
//! `o s + k r - low ≡ 0 (mod d)`, which for all `o` of one residue modulo `d / gcd(d, s)` are every `d / gcd(d, r)`th
//! `k`. Each is written to its places in the result.
//!
//! **Order.** The terms of an element are added in an order that depends on extents alone: over the window and within
//! it over the features, or the other way round where the window is the longer one (gradients by the kernel). Sums of
//! many terms are cut into pieces, which are added up, so that their error does not grow.

mod products;

use smallvec::{SmallVec, smallvec};

use super::KernelBuilder;
use crate::fuse::index::{Affine, Coords, flatten};
use crate::fuse::kernel::{Buffer, BufferId, Dim, Kernel, KernelOp, KernelValue, LoopKernel, Order, Source, Store};
use crate::graph::{BinaryOp, ConvDims, Literal, Op, Precision, ReduceOp, ValueId};
use crate::types::{DType, Shape, TensorType, gcd, product};

/// The most terms of one sum of products, and the fewest of a piece of a longer one.
const LONGEST: usize = 1 << 12;
const PIECE: usize = 1 << 8;

/// The most terms of one sum in a loop, and those of a piece of a longer one.
const LONGEST_LOOP: usize = 512;
const LOOP_PIECE: usize = 256;

/// The most pieces that are added up at once.
const PIECES: usize = 256;

/// A window of so many elements is one of results, as of a gradient by the kernel.
const LARGE_WINDOW: usize = 49;

/// The fewest adjacent results that a loop computes in columns.
const COLUMNS: usize = 4;

/// What a loop steps through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Groups: all three.
    Group,
    /// Batch and space: the left operand and the result.
    Rows,
    /// Features of the result: the right operand and the result.
    Columns,
    /// Terms: both operands.
    Term,
}

/// A loop, and its steps in elements of the left operand, the right one and the result.
#[derive(Clone, Copy, Debug)]
struct Loop {
    extent: usize,
    role: Role,
    x: isize,
    w: isize,
    z: isize,
}

/// A sum of products over loops. Loops of terms are in the order in which they are added.
#[derive(Clone, Debug)]
struct Sum {
    loops: Vec<Loop>,
    x: (BufferId, isize),
    w: (BufferId, isize),
    z: (BufferId, isize),
    dtype: DType,
    precision: Precision,
}

/// The results of one residue along a spatial axis.
#[derive(Clone, Copy)]
struct Phase {
    /// The first result, the step to the next, and their number.
    first: usize,
    step: usize,
    count: usize,
    /// The first element of the window, the step to the next, and their number.
    tap: usize,
    tap_step: usize,
    taps: usize,
    /// Where the left operand is read: for the first of both, and steps for the next result and the next tap.
    at: isize,
    of_result: isize,
    of_tap: isize,
}

/// The phases along spatial axis `axis`, of a window and a result of these extents.
fn phases(dims: &ConvDims, axis: usize, window: usize, result: usize) -> Vec<Phase> {
    let [s, d, r] = [dims.strides[axis], dims.lhs_dilation[axis], dims.rhs_dilation[axis]];
    let low = dims.low[axis];
    let (step, tap_step) = (d / gcd(d, s), d / gcd(d, r));
    let phase = |first: usize| {
        // The position in the dilated operand. With one result, or one tap, its step has no effect and any size.
        let position = |tap: usize| first as isize * s as isize + tap as isize * r as isize - low;
        let tap = (0..tap_step.min(window)).find(|&tap| position(tap) % d as isize == 0);
        let count = (result - first).div_ceil(step);
        let taps = tap.map_or(0, |tap| (window - tap).div_ceil(tap_step));
        let tap = tap.unwrap_or(0);
        let scaled = |by: usize, step: usize, count: usize| if count < 2 { 0 } else { (by * step / d) as isize };
        Phase {
            first,
            step,
            count,
            tap,
            tap_step,
            taps,
            at: position(tap).div_euclid(d as isize),
            of_result: scaled(s, step, count),
            of_tap: scaled(r, tap_step, taps),
        }
    };
    (0..step.min(result)).map(phase).collect()
}

impl KernelBuilder<'_> {
    pub(in crate::fuse) fn conv(&mut self, id: ValueId, dims: &ConvDims, precision: Option<Precision>) {
        let node = self.graph.node(id);
        let (x, w) = (node.operands[0], node.operands[1]);
        let out = ConvDims::extents(&dims.out_spec, &node.ty);
        let window = ConvDims::extents(&dims.rhs_spec, self.graph.ty(w));
        let dtype = node.ty.dtype;
        let buffer = self.buffer(id, Source::Computed);
        let along: Vec<Vec<Phase>> =
            (0..dims.spatial()).map(|axis| phases(dims, axis, window[axis + 2], out[axis + 2])).collect();
        if along.iter().flatten().any(|phase| phase.taps == 0) {
            self.fill(buffer);
        }
        let all: usize = along.iter().map(Vec::len).product();
        for number in 0..all {
            let mut rest = number;
            let pick = |phases: &Vec<Phase>| {
                let phase = phases[rest % phases.len()];
                rest /= phases.len();
                phase
            };
            let phase: SmallVec<[Phase; 3]> = along.iter().map(pick).collect();
            if phase.iter().any(|phase| phase.taps == 0) {
                continue;
            }
            let Some(sum) = self.sum(id, x, w, buffer, dims, &phase) else { return };
            let precision =
                if dtype == DType::F32 { precision.unwrap_or(Precision::Highest) } else { Precision::Highest };
            self.emit(Sum { dtype, precision, ..sum });
        }
    }

    /// The sum of a phase; `None` if an operand has to be materialised first.
    fn sum(
        &mut self,
        id: ValueId,
        x: ValueId,
        w: ValueId,
        buffer: BufferId,
        dims: &ConvDims,
        phase: &[Phase],
    ) -> Option<Sum> {
        let ty = self.graph.ty(id).clone();
        let rhs = ConvDims::extents(&dims.rhs_spec, self.graph.ty(w));
        let out = ConvDims::extents(&dims.out_spec, &ty);
        let (batch, inputs) = (out[0], rhs[1]);
        let groups = dims.feature_groups.max(dims.batch_groups);
        let outputs = rhs[0] / groups;
        let spatial = dims.spatial();

        // Groups, batch, features of the result, space; then the terms.
        let mut extents = vec![groups, batch, outputs];
        extents.extend(phase.iter().map(|phase| phase.count));
        let taps = phase.iter().map(|phase| phase.taps);
        let window = product(taps.clone());
        let features_first = window > 2 * inputs || window >= LARGE_WINDOW && 4 * window > inputs;
        let (first_tap, feature) =
            if features_first { (4 + spatial, 3 + spatial) } else { (3 + spatial, 3 + 2 * spatial) };
        extents.extend(features_first.then_some(inputs));
        extents.extend(taps);
        extents.extend((!features_first).then_some(inputs));

        let count = extents.len();
        let variable = |dim: usize, step: isize| {
            let mut affine = Affine::zero(count);
            affine.add_scaled(&Affine::induction_variable(dim, count), step);
            affine
        };
        let both = |a: Affine, b: Affine| {
            let mut sum = a;
            sum.add_scaled(&b, 1);
            sum
        };
        let [mut at_x, mut at_w, mut at_z]: [Coords; 3] =
            [&dims.lhs_spec, &dims.rhs_spec, &dims.out_spec].map(|spec| smallvec![Affine::zero(count); spec.len()]);
        let is_batched = dims.batch_groups > 1;
        let of_group = |size: usize| variable(0, size as isize);
        at_x[dims.lhs_spec[0]] = both(variable(1, 1), of_group(if is_batched { batch } else { 0 }));
        at_x[dims.lhs_spec[1]] = both(variable(feature, 1), of_group(if is_batched { 0 } else { inputs }));
        at_w[dims.rhs_spec[0]] = both(variable(2, 1), of_group(outputs));
        at_w[dims.rhs_spec[1]] = variable(feature, 1);
        at_z[dims.out_spec[0]] = variable(1, 1);
        at_z[dims.out_spec[1]] = both(variable(2, 1), of_group(outputs));
        for (i, phase) in phase.iter().enumerate() {
            let (o, k) = (3 + i, first_tap + i);
            let at = both(variable(o, phase.of_result), variable(k, phase.of_tap));
            at_x[dims.lhs_spec[2 + i]] = Affine { offset: phase.at, ..at };
            let step = if phase.taps < 2 { 0 } else { phase.tap_step as isize };
            at_w[dims.rhs_spec[2 + i]] = Affine { offset: phase.tap as isize, ..variable(k, step) };
            let step = if phase.count < 2 { 0 } else { phase.step as isize };
            at_z[dims.out_spec[2 + i]] = Affine { offset: phase.first as isize, ..variable(o, step) };
        }
        let (x, w) = (self.place(x, &at_x, &extents), self.place(w, &at_w, &extents));
        let ((x, of_x), (w, of_w)) = (x?, w?);
        let of_z = flatten(&at_z, &ty.shape, count);
        let role = |dim: usize| match dim {
            0 => Role::Group,
            2 => Role::Columns,
            dim if dim < 3 + spatial => Role::Rows,
            _ => Role::Term,
        };
        let one = |dim: usize| Loop {
            extent: extents[dim],
            role: role(dim),
            x: of_x.strides[dim],
            w: of_w.strides[dim],
            z: of_z.strides[dim],
        };
        Some(Sum {
            loops: (0..count).map(one).filter(|l| l.extent != 1).collect(),
            x: (x, of_x.offset),
            w: (w, of_w.offset),
            z: (buffer, of_z.offset),
            dtype: ty.dtype,
            precision: Precision::Highest,
        })
    }

    /// The buffer and the position of the element of `x` at `coords`, over loops of these extents. `None` if it is in
    /// no buffer at an affine position yet: then the value that has to be materialised is noted.
    fn place(&mut self, x: ValueId, coords: &Coords, extents: &[usize]) -> Option<(BufferId, Affine)> {
        let mut body = self.body(extents, &[]);
        let before = self.must_materialise.len();
        let slot = self.read(&mut body, x, coords);
        if self.must_materialise.len() > before {
            return None;
        }
        if let KernelOp::Load(buffer, index) = &body.kernel.values[slot as usize].op
            && let Some(index) = index.affine()
        {
            return Some((*buffer, index.clone()));
        }
        self.must_materialise.push(x);
        None
    }

    fn emit(&mut self, sum: Sum) {
        if !sum.is_product() {
            return self.emit_in_pieces(sum, LONGEST_LOOP, LOOP_PIECE, Self::loops);
        }
        let [rows, columns] = [Role::Rows, Role::Columns].map(|role| sum.count(role).max(1));
        let piece = PIECE.max(4 * rows * columns / (rows + columns)).min(LONGEST);
        self.emit_in_pieces(sum, LONGEST, piece, Self::product);
    }

    /// The sum by `emit`; one of more terms than `longest` as the sum of pieces of about `piece` terms.
    fn emit_in_pieces(&mut self, sum: Sum, longest: usize, piece: usize, emit: fn(&mut Self, Sum)) {
        if !sum.dtype.is_float() || sum.count(Role::Term) <= longest {
            return emit(self, sum);
        }
        let terms: Vec<usize> = (0..sum.loops.len()).filter(|&l| sum.loops[l].role == Role::Term).collect();
        let behind = |n: usize| product(terms[n..].iter().map(|&l| sum.loops[l].extent));
        // The innermost loop of which a piece has several iterations, or one that is long enough.
        let cut = (0..terms.len()).rev().find(|&n| behind(n) >= piece).unwrap_or(0);
        let (at, inner) = (terms[cut], behind(cut + 1));
        let extent = sum.loops[at].extent;
        let least = piece.div_ceil(inner).clamp(1, extent);
        let within = (least..=(2 * least).min(extent)).find(|&n| extent.is_multiple_of(n)).unwrap_or(least);

        // The results of pieces: an axis for each loop before the cut, one for its pieces, then those of the result.
        let pieces: Vec<usize> =
            terms[..cut].iter().map(|&l| sum.loops[l].extent).chain([extent.div_ceil(within)]).collect();
        let mut kept: Vec<usize> = (0..sum.loops.len()).filter(|&l| sum.loops[l].role != Role::Term).collect();
        kept.sort_by_key(|&l| std::cmp::Reverse(sum.loops[l].z));
        let size = product(kept.iter().map(|&l| sum.loops[l].extent));
        let buffer = self.temporary(&pieces, &kept, &sum);

        let mut of_piece = Sum { z: (buffer, 0), ..sum.clone() };
        let mut step = 1;
        for &l in kept.iter().rev() {
            of_piece.loops[l].z = step as isize;
            step *= sum.loops[l].extent;
        }
        let mut stride = size;
        for (n, &count) in pieces.iter().enumerate().rev() {
            if n < cut {
                of_piece.loops[terms[n]] = Loop { role: Role::Group, z: stride as isize, ..sum.loops[terms[n]] };
            }
            stride *= count;
        }
        let (whole, rest) = (extent / within, extent % within);
        let split = sum.loops[at];
        for (count, length, skipped) in [(whole, within, 0), (usize::from(rest > 0), rest, whole)] {
            if count == 0 {
                continue;
            }
            let by = (skipped * within) as isize;
            let mut part = of_piece.clone();
            part.x.1 += by * split.x;
            part.w.1 += by * split.w;
            part.z.1 += (skipped * size) as isize;
            part.loops[at].extent = length;
            let steps = within as isize;
            let over =
                Loop { extent: count, role: Role::Group, x: split.x * steps, w: split.w * steps, z: size as isize };
            part.loops.push(over);
            part.loops.retain(|l| l.extent != 1);
            emit(self, part);
        }
        let kept: Vec<(usize, isize)> = kept.iter().map(|&l| (sum.loops[l].extent, sum.loops[l].z)).collect();
        self.add_pieces(buffer, &pieces, &kept, sum.z, sum.dtype);
    }

    /// The sums over the leading axes, of these extents, of what is in `buffer`; the others are kept, each with its
    /// extent and its stride in the result.
    fn add_pieces(
        &mut self,
        mut buffer: BufferId,
        pieces: &[usize],
        kept: &[(usize, isize)],
        (result, offset): (BufferId, isize),
        dtype: DType,
    ) {
        let size = product(kept.iter().map(|(extent, _)| *extent));
        let mut pieces = pieces.to_vec();
        // The last axis first, while there are too many.
        while pieces.len() > 1 && product(pieces.iter().copied()) > PIECES {
            let last = pieces.pop().unwrap_or(1);
            let outer = product(pieces.iter().copied());
            let ty = TensorType::new(dtype, &[outer, size]);
            let next = self.new_buffer(ty);
            let dims = [(outer, false), (last, true), (size, false)];
            self.reduce_pieces(buffer, &dims, &[size as isize, 0, 1], (next, 0), dtype);
            buffer = next;
        }
        let dims: Vec<(usize, bool)> = [(product(pieces.iter().copied()), true)]
            .into_iter()
            .chain(kept.iter().map(|(extent, _)| (*extent, false)))
            .collect();
        let strides: Vec<isize> = [0].into_iter().chain(kept.iter().map(|(_, stride)| *stride)).collect();
        self.reduce_pieces(buffer, &dims, &strides, (result, offset), dtype);
    }

    /// A sum of what is row-major in `buffer`, over the marked ones of its axes, to these strides.
    fn reduce_pieces(
        &mut self,
        buffer: BufferId,
        dims: &[(usize, bool)],
        strides: &[isize],
        (result, offset): (BufferId, isize),
        dtype: DType,
    ) {
        let shape: Shape = dims.iter().map(|(extent, _)| *extent).collect();
        let reduced: Vec<usize> = (0..dims.len()).filter(|&d| dims[d].1).collect();
        let mut body = self.body(&shape, &reduced);
        let index = flatten(&body.identity_coords(), &shape, shape.len());
        let piece = body.load(buffer, &index, dtype);
        let value = body.push(KernelOp::Reduce(ReduceOp::Sum), &[piece], dtype);
        self.finish(body, value, result, Affine { offset, strides: strides.iter().copied().collect() });
    }

    /// A buffer for pieces of a sum.
    fn temporary(&mut self, pieces: &[usize], kept: &[usize], sum: &Sum) -> BufferId {
        let shape: Shape = pieces.iter().copied().chain(kept.iter().map(|&l| sum.loops[l].extent)).collect();
        self.new_buffer(TensorType::new(sum.dtype, &shape))
    }

    fn new_buffer(&mut self, ty: TensorType) -> BufferId {
        let buffer = BufferId(self.result.buffers.len() as u32);
        self.result.buffers.push(Buffer { ty, source: Source::Computed });
        buffer
    }

    /// Zeros in all of a buffer.
    fn fill(&mut self, buffer: BufferId) {
        let ty = self.result.buffers[buffer.index()].ty.clone();
        let mut body = self.body(&ty.shape, &[]);
        let index = flatten(&body.identity_coords(), &ty.shape, ty.rank());
        let zero = body.push(KernelOp::Literal(Literal::new(ty.dtype, 0.0)), &[], ty.dtype);
        self.finish(body, zero, buffer, index);
    }

    /// A sum as a loop kernel: integers, and what fills no matrices.
    fn loops(&mut self, sum: Sum) {
        let mut kept: Vec<Loop> = sum.loops.iter().copied().filter(|l| l.role != Role::Term).collect();
        kept.sort_by_key(|l| std::cmp::Reverse(l.z));
        let terms = sum.loops.iter().copied().filter(|l| l.role == Role::Term);
        // Adjacent results are columns behind the terms.
        let columns = kept.pop_if(|l| l.z == 1 && l.extent >= COLUMNS);
        let all: Vec<Loop> = kept.into_iter().chain(terms).chain(columns).collect();
        let dims: Vec<Dim> = all.iter().map(|l| Dim { extent: l.extent, reduced: l.role == Role::Term }).collect();
        let index =
            |offset: isize, step: fn(&Loop) -> isize| Affine { offset, strides: all.iter().map(step).collect() };
        let dtype = sum.dtype;
        let value = |op: KernelOp, operands: &[u32]| KernelValue { op, operands: operands.into(), dtype };
        let mut values = vec![
            value(KernelOp::Load(sum.x.0, index(sum.x.1, |l| l.x).into()), &[]),
            value(KernelOp::Load(sum.w.0, index(sum.w.1, |l| l.w).into()), &[]),
            value(KernelOp::Apply(Op::Binary(BinaryOp::Mul), 0), &[0, 1]),
        ];
        let order = Order::of(&dims);
        if order.is_some() {
            values.push(value(KernelOp::Reduce(ReduceOp::Sum), &[2]));
        }
        let stores = vec![Store {
            value: values.len() as u32 - 1,
            buffer: sum.z.0,
            index: index(sum.z.1, |l| l.z),
            by: SmallVec::new(),
        }];
        let kernel = LoopKernel { dims, order, values, stores, ..LoopKernel::default() };
        self.result.kernels.push(Kernel::Loop(kernel));
    }
}

impl Sum {
    /// How many iterations the loops of a role have.
    fn count(&self, role: Role) -> usize {
        product(self.loops.iter().filter(|l| l.role == role).map(|l| l.extent))
    }

    /// Whether it is computed by products of matrices: of floats, unless its matrices are tiny, or vectors.
    fn is_product(&self) -> bool {
        let [groups, rows, columns] = [Role::Group, Role::Rows, Role::Columns].map(|role| self.count(role));
        // Features in a group, which are summed together with the window.
        let terms = self.count(Role::Term);
        self.dtype.is_float() && terms > 1 && rows.max(columns) > 1 && (groups == 1 || columns > 1 || terms > 128)
    }

    /// Loops that are one another's continuation become one.
    fn merged(mut self) -> Sum {
        while let Some((outer, inner)) = self.mergeable() {
            let (a, b) = (self.loops[outer], self.loops[inner]);
            self.loops[inner] = Loop { extent: a.extent * b.extent, ..b };
            self.loops.remove(outer);
        }
        self
    }

    /// Two loops of a role of which the first is the continuation of the second; terms keep their order.
    fn mergeable(&self) -> Option<(usize, usize)> {
        let loops = &self.loops;
        let continues = |a: &Loop, b: &Loop| {
            let extent = b.extent as isize;
            a.role == b.role && a.x == extent * b.x && a.w == extent * b.w && a.z == extent * b.z
        };
        (0..loops.len())
            .flat_map(|a| (0..loops.len()).map(move |b| (a, b)))
            .find(|&(a, b)| a != b && (loops[a].role != Role::Term || b == a + 1) && continues(&loops[a], &loops[b]))
    }
}
