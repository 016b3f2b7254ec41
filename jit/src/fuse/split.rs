//! Long reductions in two steps: first each of several dozen chunks by itself, then the chunks' results.
//!
//! A reduction of thousands of rows to one is work that no two threads could share, or, where the row is long, each
//! would read its columns of all of it. In chunks they share it by rows, as they do what is done to the same rows
//! before and after. How many chunks there are is decided by the extents alone, so results do not depend on threads.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::index::{Affine, flatten};
use super::kernel::{Buffer, BufferId, Dim, Kernel, KernelOp, KernelValue, Kernels, LoopKernel, Slot, Source, Store};
use super::merge::drop_unit_dims;
use crate::types::{TensorType, product};

/// A reduction is split from this many elements on, or from so many operations on elements.
const ELEMENTS: usize = 1 << 15;
const OPERATIONS: usize = 1 << 14;

/// And from this many for each result.
const PER_RESULT: usize = 128;

/// So many chunks at least and at most; where there are few elements, as few of these as can be.
const CHUNKS: std::ops::RangeInclusive<usize> = 8..=64;
const FEW_CHUNKS: std::ops::RangeInclusive<usize> = 16..=64;

/// Splits the kernels that are worth it.
pub(super) fn split(kernels: &mut Kernels) {
    let mut result = Vec::with_capacity(kernels.kernels.len());
    for kernel in std::mem::take(&mut kernels.kernels) {
        match kernel {
            Kernel::Loop(kernel) => match chunks(&kernel) {
                Some((dim, chunks)) => {
                    let (first, second) = Split::new(&kernel, dim, chunks).run(&mut kernels.buffers);
                    result.extend([Kernel::Loop(first), Kernel::Loop(second)]);
                }
                None => result.push(Kernel::Loop(kernel)),
            },
            Kernel::Gemm(gemm) => result.push(Kernel::Gemm(gemm)),
        }
    }
    kernels.kernels = result;
}

/// Which dimension is split, into how many chunks.
fn chunks(kernel: &LoopKernel) -> Option<(usize, usize)> {
    let extent = |reduced: bool| product(kernel.dims.iter().filter(|d| !reduced || d.reduced).map(|d| d.extent));
    let (elements, per_result) = (extent(false), extent(true));
    let applied = kernel.values.iter().filter(|value| matches!(value.op, KernelOp::Apply(_))).count();
    // What is done to the elements after a reduction would have to wait for all chunks.
    let many = elements >= ELEMENTS || elements.saturating_mul(applied) >= OPERATIONS;
    if !many || per_result < PER_RESULT || !kernel.is_one_pass() {
        return None;
    }
    let dim = kernel.dims.iter().position(|d| d.reduced)?;
    let extent = kernel.dims[dim].extent;
    let fits = |chunks: &usize| extent.is_multiple_of(*chunks);
    let chunks = if elements >= ELEMENTS { CHUNKS.rev().find(fits)? } else { FEW_CHUNKS.clone().find(fits)? };
    (per_result > chunks).then_some((dim, chunks))
}

struct Split<'a> {
    kernel: &'a LoopKernel,
    dim: usize,
    chunks: usize,
    /// Does a value depend on a reduction?
    after: Vec<bool>,
}

impl<'a> Split<'a> {
    fn new(kernel: &'a LoopKernel, dim: usize, chunks: usize) -> Self {
        Split { kernel, dim, chunks, after: kernel.after_reductions() }
    }

    fn run(&self, buffers: &mut Vec<Buffer>) -> (LoopKernel, LoopKernel) {
        let (kernel, dim, chunks) = (self.kernel, self.dim, self.chunks);
        // The first kernel: the dimension becomes chunks, and what is within one.
        let within = kernel.dims[dim].extent / chunks;
        let mut first = LoopKernel { dims: kernel.dims.clone(), ..LoopKernel::default() };
        first.dims.splice(dim..=dim, [Dim { extent: chunks, reduced: false }, Dim { extent: within, reduced: true }]);
        let widen = |index: &Affine| {
            let mut index = index.clone();
            let step = index.strides[dim];
            index.strides.insert(dim, step * within as isize);
            index
        };
        // The second: chunks, then the rows.
        let rows: Vec<usize> = (0..kernel.dims.len()).filter(|&d| !kernel.dims[d].reduced).collect();
        let mut second = LoopKernel { dims: vec![Dim { extent: chunks, reduced: true }], ..LoopKernel::default() };
        second.dims.extend(rows.iter().map(|&d| kernel.dims[d]));
        let narrow = |index: &Affine| {
            let strides = std::iter::once(0).chain(rows.iter().map(|&d| index.strides[d])).collect();
            Affine { offset: index.offset, strides }
        };
        // Where a chunk's result lies: row-major over chunks and rows.
        let shape: SmallVec<[usize; 6]> =
            std::iter::once(chunks).chain(rows.iter().map(|&d| kernel.dims[d].extent)).collect();
        let place = |dims: usize, of: &dyn Fn(usize) -> usize| {
            let coords: Vec<Affine> = (0..shape.len()).map(|axis| Affine::counter(of(axis), dims)).collect();
            flatten(&coords, &shape, dims)
        };
        let moved = |d: usize| if d < dim { d } else { d + 1 };
        let in_first = place(first.dims.len(), &|axis| if axis == 0 { dim } else { moved(rows[axis - 1]) });
        let in_second = place(second.dims.len(), &|axis| axis);

        let (mut known_first, mut known_second) = (HashMap::new(), HashMap::new());
        let mut slots_first: Vec<Slot> = vec![Slot::MAX; kernel.values.len()];
        let mut slots_second: Vec<Slot> = vec![Slot::MAX; kernel.values.len()];
        for (v, value) in kernel.values.iter().enumerate() {
            let copy = |into: &mut LoopKernel, known: &mut _, slots: &mut [Slot], index: &dyn Fn(&Affine) -> Affine| {
                let op = match &value.op {
                    KernelOp::Load(buffer, at) => KernelOp::Load(*buffer, index(at)),
                    KernelOp::Counter(at) => KernelOp::Counter(index(at)),
                    op => op.clone(),
                };
                let operands = value.operands.iter().map(|&x| slots[x as usize]).collect();
                slots[v] = into.push(known, KernelValue { op, operands, dtype: value.dtype });
            };
            if let KernelOp::Reduce(op) = value.op {
                copy(&mut first, &mut known_first, &mut slots_first, &widen);
                let buffer = BufferId(buffers.len() as u32);
                buffers.push(Buffer { ty: TensorType::new(value.dtype, &shape), source: Source::Computed });
                first.stores.push(Store { value: slots_first[v], buffer, index: in_first.clone() });
                let load = KernelOp::Load(buffer, in_second.clone());
                let load = KernelValue { op: load, operands: SmallVec::new(), dtype: value.dtype };
                let operands = smallvec::smallvec![second.push(&mut known_second, load)];
                let reduce = KernelValue { op: KernelOp::Reduce(op), operands, dtype: value.dtype };
                slots_second[v] = second.push(&mut known_second, reduce);
                continue;
            }
            if !self.after[v] {
                copy(&mut first, &mut known_first, &mut slots_first, &widen);
            }
            // Elements are not known there; what is not used is pruned.
            copy(&mut second, &mut known_second, &mut slots_second, &narrow);
        }
        for store in &kernel.stores {
            let Store { value, buffer, ref index } = *store;
            if !self.after[value as usize] && kernel.varies_inside(index) {
                first.stores.push(Store { value: slots_first[value as usize], buffer, index: widen(index) });
            } else {
                second.stores.push(Store { value: slots_second[value as usize], buffer, index: narrow(index) });
            }
        }
        first.prune();
        second.prune();
        (drop_unit_dims(first), second)
    }
}
