//! The kernel IR: the output of fusion, printed by `FULGURITE_DUMP=kernels`.
//!
//! In: what `build` and `merge` construct. Out: queries that later stages ask. Nothing here decides what is fused.

use std::fmt;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use smallvec::{SmallVec, smallvec};

pub use super::buffer::BufferId;
use super::index::{Affine, Index};
use super::routine::RoutineKernel;
use crate::array::Array;
use crate::graph::{Literal, Op, Precision, ReduceOp};
use crate::types::{DType, TensorType, join, product};

/// The origin of the contents of a buffer.
#[derive(Clone, Debug)]
pub enum Source {
    /// An input of the program.
    Param(usize),
    /// An array constant.
    Constant(Array),
    /// A kernel writes it.
    Computed,
    /// A kernel hands each element to the next kernel as it is computed: it has no memory.
    Passed,
}

/// A materialised value.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Its type; the layout is row-major.
    pub ty: TensorType,
    /// Its origin.
    pub source: Source,
}

/// An output of a program.
#[derive(Clone, Debug)]
pub enum Output {
    /// A computed buffer as this type, which has the same number of elements.
    Computed(BufferId, Arc<TensorType>),
    /// An input, unchanged, as this type.
    Param(usize, Arc<TensorType>),
    /// A constant.
    Constant(Array),
}

impl Output {
    /// Its type.
    pub fn ty(&self) -> &TensorType {
        match self {
            Output::Computed(_, ty) | Output::Param(_, ty) => ty,
            Output::Constant(array) => array.ty(),
        }
    }
}

/// A program as kernels, in the order in which they run.
#[derive(Clone, Debug)]
pub struct Kernels {
    /// The types of the inputs.
    pub params: Vec<TensorType>,
    /// The buffers.
    pub buffers: Vec<Buffer>,
    /// The kernels.
    pub kernels: Vec<Kernel>,
    /// The results.
    pub outputs: Vec<Output>,
}

/// One kernel.
#[derive(Clone, Debug)]
pub enum Kernel {
    /// A loop nest.
    Loop(LoopKernel),
    /// A batched matrix product.
    Gemm(GemmKernel),
    /// A library kernel.
    Routine(RoutineKernel),
    /// Kernels inside of a kernel.
    Region(RegionKernel),
}

/// A loop dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dim {
    /// The number of iterations.
    pub extent: usize,
    /// Whether the reductions of the kernel reduce it.
    pub reduced: bool,
}

/// The number of accumulators of an interleaved reduction.
pub const PARTIALS: usize = 16;

/// The order of the additions of a reduction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Ascending, with one accumulator per result.
    Ascending,
    /// In [`PARTIALS`] accumulators, by the position along the last reduced dimension modulo their number.
    Interleaved,
}

/// A value inside a loop kernel, by position.
pub type Slot = u32;

/// The op of a value inside a loop kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KernelOp {
    /// An element of a buffer. Its operands are the computed values of the index.
    Load(BufferId, Index),
    /// An index as an element.
    Iota(Affine),
    /// A constant.
    Literal(Literal),
    /// A result, by number, of an elementwise op.
    Apply(Op, u32),
    /// A reduction over all reduced dimensions.
    Reduce(ReduceOp),
}

impl KernelOp {
    /// The affine part of its index, if it has one.
    pub fn affine(&self) -> Option<&Affine> {
        match self {
            KernelOp::Load(_, Index { base, .. }) | KernelOp::Iota(base) => Some(base),
            KernelOp::Literal(_) | KernelOp::Apply(..) | KernelOp::Reduce(_) => None,
        }
    }

    /// As [`KernelOp::affine`].
    pub fn affine_mut(&mut self) -> Option<&mut Affine> {
        match self {
            KernelOp::Load(_, Index { base, .. }) | KernelOp::Iota(base) => Some(base),
            KernelOp::Literal(_) | KernelOp::Apply(..) | KernelOp::Reduce(_) => None,
        }
    }
}

/// A value inside a loop kernel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KernelValue {
    /// Its op.
    pub op: KernelOp,
    /// Its operands; they are earlier values.
    pub operands: SmallVec<[Slot; 4]>,
    /// Its element type.
    pub dtype: DType,
}

/// A store of a value to a buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Store {
    /// The value.
    pub value: Slot,
    /// The buffer.
    pub buffer: BufferId,
    /// The element; its affine part where `by` is not empty.
    pub index: Affine,
    /// Computed values, and a multiple of each that is part of the index. Only a serial kernel has them.
    pub by: SmallVec<[(Slot, isize); 2]>,
}

/// A loop nest around a straight-line program of one element, with reductions. A value that does not depend on reduced
/// dimensions is loop-invariant in them and computed once per row, an iteration of the other dimensions. The result of
/// a reduction is such a value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LoopKernel {
    /// The loops, outermost first.
    pub dims: Vec<Dim>,
    /// The order in which its reductions add, if it has reduced dimensions. It defines the bits of the results.
    pub order: Option<Order>,
    /// The values; operands precede their users.
    pub values: Vec<KernelValue>,
    /// The stores.
    pub stores: Vec<Store>,
    /// Whether the iterations run in order: an iteration may load what an earlier one stored. Such a kernel has no
    /// reductions.
    pub serial: bool,
    /// If not empty, the kernel runs once for each, on its buffers instead of [`LoopKernel::buffers`]. The first
    /// has the buffers of the kernel. No segment depends on another, and they run in any order.
    pub segments: Vec<Segment>,
}

/// A part of a loop kernel of several.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// The extent of the loop of a flat kernel. All segments of another kernel have its extents.
    pub extent: Option<usize>,
    /// The buffers, in the order of [`LoopKernel::buffers`].
    pub buffers: Vec<BufferId>,
}

/// A term of a matrix product: the offsets in elements of its operands from those of the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tap {
    /// The offset of A.
    pub a: isize,
    /// The offset of B.
    pub b: isize,
}

/// A loop over matrices of a batch: the extent, and steps in elements from one to the next.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Level {
    /// The number of iterations.
    pub extent: usize,
    /// From matrix to matrix of A.
    pub a: isize,
    /// Of B.
    pub b: isize,
    /// Of C.
    pub c: isize,
}

/// The loops over the matrices of a batch, outermost first, where one stride for each operand does not say where they
/// are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels(pub SmallVec<[Level; 2]>);

impl Levels {
    /// The offsets of A, B and C of matrix `at`.
    pub fn offsets(&self, mut at: usize) -> [isize; 3] {
        let mut offsets = [0; 3];
        for level in self.0.iter().rev() {
            let i = (at % level.extent) as isize;
            at /= level.extent;
            offsets = [offsets[0] + i * level.a, offsets[1] + i * level.b, offsets[2] + i * level.c];
        }
        offsets
    }
}

/// No levels add nothing.
impl std::hash::Hash for Levels {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|level| level.hash(state));
    }
}

/// A batched matrix product `C[b, m, n] = Σ_tap Σ_k A[tap.a + (b, m, k)] B[tap.b + (b, k, n)]`. Each element is one
/// chain of `fma`: over the taps in their order, and within a tap over k in ascending order. In a lower precision the
/// operands are rounded first, and the order is that of the hardware.
#[derive(Clone, Debug)]
pub struct GemmKernel {
    /// Extents of batch, m, n, k.
    pub extents: [usize; 4],
    /// The element type, f32 or f64.
    pub dtype: DType,
    /// How precise products of f32 are; those of f64 have the highest precision.
    pub precision: Precision,
    /// The left operand: buffer, offset, strides of batch, m, k in elements.
    pub a: (BufferId, isize, [isize; 3]),
    /// The right operand: buffer, offset, strides of batch, k, n in elements.
    pub b: (BufferId, isize, [isize; 3]),
    /// The terms of the sum, at least one. A plain product has one, without offsets; a convolution has one for each
    /// element of its window.
    pub taps: SmallVec<[Tap; 1]>,
    /// The result: buffer, offset, strides of batch, m, n in elements; the last is 1.
    pub c: (BufferId, isize, [isize; 3]),
    /// The loops over the batch, if it has several. The strides of the batch are those of the innermost then.
    pub levels: Levels,
}

impl GemmKernel {
    /// Whether the elements of the result, row-major, are all of a buffer of so many.
    pub fn fills(&self, elements: usize) -> bool {
        let (_, offset, strides) = self.c;
        let [batch, m, n, _] = self.extents;
        let mut inner = m * n;
        let is_plain = |stride: isize, extent: usize, inner: usize| extent < 2 || stride == inner as isize;
        let mut levels = self.levels.0.iter().rev();
        let plain_batch = match self.levels.0.is_empty() {
            true => is_plain(strides[0], batch, inner),
            false => levels.all(|level| {
                let plain = is_plain(level.c, level.extent, inner);
                inner *= level.extent;
                plain
            }),
        };
        offset == 0 && is_plain(strides[1], m, n) && plain_batch && product([batch, m, n]) == elements
    }
}

/// How often a region runs its body, and on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Control {
    /// A fixed number of trips. The first inputs of the body are the carry, then come the constants, then elements of
    /// the other operands, an element per trip. The first outputs are the next carry, the others are elements of the
    /// other results.
    Scan {
        /// How many inputs and outputs are the carry.
        num_carry: usize,
        /// How many inputs are the same in all trips.
        num_consts: usize,
        /// The number of trips, at least 1.
        length: usize,
        /// Whether the trips go from the last element to the first.
        reverse: bool,
    },
}

/// Kernels inside of a kernel. To those around it a region is one kernel, which reads its operands and writes its
/// results. Its body is a program with separate buffers, whose inputs and outputs are bound to memory for each run.
#[derive(Clone, Debug)]
pub struct RegionKernel {
    /// How often the body runs, and on what.
    pub control: Control,
    /// The body. Each of its outputs is a computed buffer, and no two are the same.
    pub body: Box<Kernels>,
    /// The buffers that are read, one for each input of the body. Those of the carry are its values before the first
    /// trip.
    pub operands: Vec<BufferId>,
    /// The buffers that are written, each in full, one for each output of the body.
    pub results: Vec<BufferId>,
}

impl Control {
    /// How often the body runs.
    pub fn trips(self) -> usize {
        match self {
            Control::Scan { length, .. } => length,
        }
    }
}

impl RegionKernel {
    /// The sum of a property of the body's kernels, in all trips.
    fn sum(&self, of: fn(&Kernels, usize) -> usize) -> usize {
        let trip = (0..self.body.kernels.len()).map(|k| of(&self.body, k)).fold(0, usize::saturating_add);
        trip.saturating_mul(self.control.trips())
    }
}

impl LoopKernel {
    /// Adds a value, or returns an equal one.
    pub fn push(&mut self, known: &mut HashMap<KernelValue, Slot>, value: KernelValue) -> Slot {
        *known.entry(value).or_insert_with_key(|value| {
            self.values.push(value.clone());
            self.values.len() as Slot - 1
        })
    }

    /// The extents of the loops.
    pub fn extents(&self) -> SmallVec<[usize; 6]> {
        self.dims.iter().map(|d| d.extent).collect()
    }

    /// Whether there are reductions.
    pub fn reduces(&self) -> bool {
        self.order.is_some()
    }

    /// Whether it has one loop and no reductions. Then its code depends on the extent modulo [`PARTIALS`] alone.
    pub fn is_flat(&self) -> bool {
        self.dims.len() == 1 && !self.reduces() && !self.serial
    }

    /// The number of iterations of the loops that `which` picks, in all segments.
    fn iterations(&self, which: impl Fn(&Dim) -> bool) -> usize {
        let one = product(self.dims.iter().filter(|d| which(d)).map(|d| d.extent));
        let parts = self.segments.iter().map(|segment| segment.extent.unwrap_or(one));
        if self.segments.is_empty() { one } else { parts.fold(0, usize::saturating_add) }
    }

    /// Whether an index varies along reduced dimensions.
    pub fn varies_inside(&self, index: &Affine) -> bool {
        index.strides.iter().zip(&self.dims).any(|(&s, d)| s != 0 && d.reduced && d.extent > 1)
    }

    /// Whether one sweep over the reduced dimensions suffices: no reduction and no store of a varying element depends
    /// on the result of a reduction.
    pub fn is_one_sweep(&self) -> bool {
        let after = self.after_reductions();
        let needs_one = |value: &KernelValue| value.operands.iter().any(|&x| after[x as usize]);
        let again = self.values.iter().any(|value| matches!(value.op, KernelOp::Reduce(_)) && needs_one(value));
        !again && self.stores.iter().all(|s| !after[s.value as usize] || !self.varies_inside(&s.index))
    }

    /// For each value whether it is the result of a reduction or depends on one.
    pub fn after_reductions(&self) -> Vec<bool> {
        let mut after: Vec<bool> = Vec::with_capacity(self.values.len());
        for value in &self.values {
            let reduces = matches!(value.op, KernelOp::Reduce(_));
            after.push(reduces || value.operands.iter().any(|&x| after[x as usize]));
        }
        after
    }

    /// Removes dead values; the order of the others stays.
    pub fn prune(&mut self) {
        let mut live = vec![false; self.values.len()];
        for store in &self.stores {
            live[store.value as usize] = true;
            store.by.iter().for_each(|(x, _)| live[*x as usize] = true);
        }
        for i in (0..self.values.len()).rev() {
            if live[i] {
                for &x in &self.values[i].operands {
                    live[x as usize] = true;
                }
            }
        }
        let mut renumbered = vec![Slot::MAX; self.values.len()];
        let mut values = Vec::new();
        for (i, mut value) in std::mem::take(&mut self.values).into_iter().enumerate() {
            if live[i] {
                for x in &mut value.operands {
                    *x = renumbered[*x as usize];
                }
                renumbered[i] = values.len() as Slot;
                values.push(value);
            }
        }
        self.values = values;
        for store in &mut self.stores {
            store.value = renumbered[store.value as usize];
            store.by.iter_mut().for_each(|(x, _)| *x = renumbered[*x as usize]);
        }
    }

    /// The loads: buffer and element; none where it is computed, and may be any.
    pub fn loads(&self) -> impl Iterator<Item = (BufferId, Option<&Affine>)> {
        self.values.iter().filter_map(|value| match &value.op {
            KernelOp::Load(buffer, index) => Some((*buffer, index.affine())),
            KernelOp::Iota(_) | KernelOp::Literal(_) | KernelOp::Apply(..) | KernelOp::Reduce(_) => None,
        })
    }

    /// Renames every buffer.
    pub fn map_buffers(&mut self, f: &mut dyn FnMut(&mut BufferId)) {
        for value in &mut self.values {
            if let KernelOp::Load(buffer, _) = &mut value.op {
                f(buffer);
            }
        }
        self.stores.iter_mut().for_each(|store| f(&mut store.buffer));
        self.segments.iter_mut().flat_map(|segment| &mut segment.buffers).for_each(f);
    }

    /// The buffers that are read, without duplicates, in order of first use.
    pub fn reads(&self) -> Vec<BufferId> {
        self.in_segments(distinct(self.loads().map(|(buffer, _)| buffer)))
    }

    /// The buffers that are written, in full or in part.
    pub fn writes(&self) -> Vec<BufferId> {
        self.in_segments(self.stores.iter().map(|s| s.buffer).collect())
    }

    /// Some buffers of the kernel, and what stands for them in each segment.
    fn in_segments(&self, buffers: Vec<BufferId>) -> Vec<BufferId> {
        if self.segments.is_empty() {
            return buffers;
        }
        let all = self.buffers();
        let positions: Vec<usize> = (0..all.len()).filter(|&i| buffers.contains(&all[i])).collect();
        distinct(self.segments.iter().flat_map(|segment| positions.iter().map(|&i| segment.buffers[i])))
    }

    /// The segments that access a buffer, and the buffer of the kernel that it stands for.
    pub fn locate(&self, buffer: BufferId) -> SmallVec<[(usize, BufferId); 1]> {
        if self.segments.is_empty() {
            return smallvec![(0, buffer)];
        }
        let all = self.buffers();
        let at = |segment: &Segment| segment.buffers.iter().position(|&b| b == buffer).map(|i| all[i]);
        self.segments.iter().enumerate().filter_map(|(i, segment)| Some((i, at(segment)?))).collect()
    }

    /// The kernel of one segment with its buffers renumbered in argument order, and the buffers in that order. With
    /// `any_extent`, a flat kernel gets an extent that all extents of the same code have in common.
    pub fn canonical(&self, any_extent: bool) -> (LoopKernel, Vec<BufferId>) {
        let args = self.buffers();
        let number = |b: &BufferId| BufferId(args.iter().position(|a| a == b).expect("all are listed") as u32);
        let mut kernel = LoopKernel { segments: vec![], ..self.clone() };
        kernel.map_buffers(&mut |buffer| *buffer = number(buffer));
        if any_extent && kernel.is_flat() {
            let extent = &mut kernel.dims[0].extent;
            // More than one chunk, so that the code takes a range.
            *extent = PARTIALS + 1 + (*extent + PARTIALS - 1) % PARTIALS;
        }
        (kernel, args)
    }

    /// The buffers that are read or written, without duplicates: the arguments of the code of the kernel, in order.
    pub fn buffers(&self) -> Vec<BufferId> {
        distinct(self.loads().map(|(buffer, _)| buffer).chain(self.stores.iter().map(|store| store.buffer)))
    }
}

/// The buffers without duplicates, in order of first occurrence.
fn distinct(buffers: impl Iterator<Item = BufferId>) -> Vec<BufferId> {
    /// Up to this many a linear search is faster than a hash table.
    const FEW: usize = 16;
    let (mut list, mut known) = (Vec::new(), HashSet::new());
    for buffer in buffers {
        let is_new = if list.len() < FEW { !list.contains(&buffer) } else { !known.contains(&buffer) };
        if is_new {
            list.push(buffer);
            if list.len() == FEW {
                known.extend(&list);
            } else if list.len() > FEW {
                known.insert(buffer);
            }
        }
    }
    list
}

impl Kernels {
    /// Bytes that kernel `k` moves: those of each buffer that it reads and of each that it writes; for a region, those
    /// that its kernels move in all trips.
    pub fn bytes_moved(&self, k: usize) -> usize {
        let kernel = &self.kernels[k];
        if let Kernel::Region(region) = kernel {
            return region.sum(Kernels::bytes_moved);
        }
        let mut buffers: Vec<BufferId> = kernel.reads();
        buffers.extend(kernel.writes());
        let buffers = buffers.iter().map(|b| &self.buffers[b.index()]);
        let in_memory = buffers.filter(|buffer| !matches!(buffer.source, Source::Passed));
        in_memory.map(|buffer| buffer.ty.bytes()).fold(0, usize::saturating_add)
    }

    /// Arithmetic operations of kernel `k`: a multiplication and an addition of a product count as one each, as does
    /// each elementwise op and each step of a reduction, at any cost.
    pub fn operations(&self, k: usize) -> usize {
        match &self.kernels[k] {
            Kernel::Gemm(gemm) => product(gemm.extents).saturating_mul(2).saturating_mul(gemm.taps.len()),
            Kernel::Routine(kernel) => kernel.routine.operations(),
            Kernel::Region(region) => region.sum(Kernels::operations),
            Kernel::Loop(kernel) => {
                let rows = kernel.iterations(|d| !d.reduced);
                let elements = kernel.iterations(|_| true);
                let mut inside: Vec<bool> = Vec::with_capacity(kernel.values.len());
                let mut sum = 0usize;
                for value in &kernel.values {
                    let (is_element, operations) = match &value.op {
                        KernelOp::Load(_, Index { base: index, .. }) | KernelOp::Iota(index) => {
                            let computed = value.operands.iter().any(|&x| inside[x as usize]);
                            (computed || kernel.varies_inside(index), 0)
                        }
                        KernelOp::Literal(_) => (false, 0),
                        KernelOp::Apply(..) => {
                            let is_element = value.operands.iter().any(|&x| inside[x as usize]);
                            (is_element, if is_element { elements } else { rows })
                        }
                        KernelOp::Reduce(_) => (false, elements),
                    };
                    inside.push(is_element);
                    sum = sum.saturating_add(operations);
                }
                sum
            }
        }
    }
}

impl Kernel {
    /// The buffers that are read.
    pub fn reads(&self) -> Vec<BufferId> {
        match self {
            Kernel::Loop(k) => k.reads(),
            Kernel::Gemm(g) => vec![g.a.0, g.b.0],
            Kernel::Routine(r) => distinct(r.operands.iter().copied()),
            Kernel::Region(r) => distinct(r.operands.iter().copied()),
        }
    }

    /// The buffers that are written, in full or in part.
    pub fn writes(&self) -> Vec<BufferId> {
        match self {
            Kernel::Loop(k) => k.writes(),
            Kernel::Gemm(g) => vec![g.c.0],
            Kernel::Routine(r) => r.results.to_vec(),
            Kernel::Region(r) => r.results.clone(),
        }
    }

    /// Renames every buffer.
    pub fn map_buffers(&mut self, f: &mut dyn FnMut(&mut BufferId)) {
        match self {
            Kernel::Loop(kernel) => kernel.map_buffers(f),
            Kernel::Gemm(g) => [&mut g.a.0, &mut g.b.0, &mut g.c.0].into_iter().for_each(f),
            Kernel::Routine(r) => r.operands.iter_mut().chain(&mut r.results).for_each(f),
            Kernel::Region(r) => r.operands.iter_mut().chain(&mut r.results).for_each(f),
        }
    }
}

impl fmt::Display for Affine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut terms: Vec<String> = Vec::new();
        for (d, &stride) in self.strides.iter().enumerate() {
            match stride {
                0 => {}
                1 => terms.push(format!("i{d}")),
                _ => terms.push(format!("{stride}*i{d}")),
            }
        }
        if self.offset != 0 || terms.is_empty() {
            terms.push(self.offset.to_string());
        }
        f.write_str(&terms.join(" + "))
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, buffer) in self.buffers.iter().enumerate() {
            let source = match &buffer.source {
                Source::Param(n) => format!("input {n}"),
                Source::Constant(_) => "constant".into(),
                Source::Passed => "passed".into(),
                Source::Computed => continue,
            };
            writeln!(f, "b{i}: {} = {source}", buffer.ty)?;
        }
        for (i, kernel) in self.kernels.iter().enumerate() {
            let reads: Vec<String> = kernel.reads().iter().map(ToString::to_string).collect();
            let writes: Vec<String> =
                kernel.writes().iter().map(|&b| format!("{b}: {}", self.buffers[b.index()].ty)).collect();
            write!(f, "kernel k{i} (reads {}) (writes {}): ", reads.join(" "), writes.join(", "))?;
            match kernel {
                Kernel::Loop(k) => writeln!(f, "{k}")?,
                Kernel::Gemm(g) => writeln!(f, "{g}")?,
                Kernel::Routine(r) => writeln!(f, "{r}")?,
                Kernel::Region(r) => writeln!(f, "{r}")?,
            }
        }
        let outputs: Vec<String> = self
            .outputs
            .iter()
            .map(|output| match output {
                Output::Computed(b, ty) => format!("{b}: {ty}"),
                Output::Param(i, ty) => format!("input {i}: {ty}"),
                Output::Constant(a) => format!("constant {}", a.ty()),
            })
            .collect();
        writeln!(f, "return {}", outputs.join(", "))
    }
}

/// An index as text: its affine part, and the multiples of computed values.
fn place(base: &Affine, computed: impl Iterator<Item = (Slot, isize)>) -> String {
    let mut text = base.to_string();
    for (x, stride) in computed {
        let term = if stride == 1 { format!("%{x}") } else { format!("{stride}*%{x}") };
        text = if text == "0" { term } else { format!("{text} + {term}") };
    }
    text
}

impl fmt::Display for LoopKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> =
            self.dims.iter().map(|d| format!("{}{}", d.extent, if d.reduced { "r" } else { "" })).collect();
        let how = match (self.order, self.serial) {
            (Some(Order::Ascending), _) => " ascending",
            (Some(Order::Interleaved), _) => " interleaved",
            (None, true) => " in order",
            (None, false) => "",
        };
        writeln!(f, "loop [{}]{how} {{", dims.join(", "))?;
        for (i, value) in self.values.iter().enumerate() {
            let operands: Vec<String> = value.operands.iter().map(|x| format!("%{x}")).collect();
            let what = match &value.op {
                KernelOp::Load(buffer, Index { base, by }) => {
                    let computed = value.operands.iter().copied().zip(by.iter().copied());
                    format!("load {buffer}[{}]", place(base, computed))
                }
                KernelOp::Iota(index) => format!("iota {index}"),
                KernelOp::Literal(literal) => format!("literal {}", literal.value()),
                KernelOp::Apply(op, index) => {
                    let index = if *index == 0 { String::new() } else { format!(".{index}") };
                    format!("{}{index} {}", op.name(), operands.join(", "))
                }
                KernelOp::Reduce(op) => format!("{} {}", op.name(), operands.join(", ")),
            };
            writeln!(f, "  %{i}: {} = {what}", value.dtype)?;
        }
        for store in &self.stores {
            let place = place(&store.index, store.by.iter().copied());
            writeln!(f, "  store %{} -> {}[{place}]", store.value, store.buffer)?;
        }
        write!(f, "}}")?;
        for Segment { extent, buffers } in &self.segments {
            let extent = extent.map_or(String::new(), |extent| format!(" [{extent}]"));
            write!(f, "\nsegment{extent} {}", join(buffers, ", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for GemmKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [batch, m, n, k] = self.extents;
        let operand = |(buffer, offset, strides): &(BufferId, isize, [isize; 3])| {
            format!("{buffer}[{offset} by {}]", join(strides, ","))
        };
        write!(f, "gemm {} {batch}x{m}x{n}x{k} {} · {}", self.dtype, operand(&self.a), operand(&self.b))?;
        if self.precision != Precision::Highest {
            write!(f, " in {}", self.precision.name())?;
        }
        if self.taps[..] != [Tap::default()] {
            let taps = self.taps.iter().map(|tap| format!("({}, {})", tap.a, tap.b));
            write!(f, " at {}", taps.collect::<Vec<_>>().join(" "))?;
        }
        for Level { extent, a, b, c } in &self.levels.0 {
            write!(f, " over {extent} by {a},{b},{c}")?;
        }
        let (_, offset, strides) = self.c;
        if !self.fills(product([batch, m, n])) {
            write!(f, " to {offset} by {}", join(&strides, ","))?;
        }
        Ok(())
    }
}

impl fmt::Display for RegionKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Control::Scan { num_carry, num_consts, length, reverse } = self.control;
        let (carry, rest) = self.operands.split_at(num_carry);
        let (consts, xs) = rest.split_at(num_consts);
        write!(f, "scan [{length}]{}", if reverse { " in reverse" } else { "" })?;
        for (what, buffers) in [("carry", carry), ("constants", consts), ("elements", xs)] {
            if !buffers.is_empty() {
                write!(f, " {what} {}", join(buffers, " "))?;
            }
        }
        writeln!(f, " {{")?;
        for line in self.body.to_string().lines() {
            writeln!(f, "  {line}")?;
        }
        write!(f, "}}")
    }
}
