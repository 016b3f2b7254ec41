//! Fuses kernels over the same loops.
//!
//! Comes in: a kernel per materialised value. Goes out: fewer kernels. Each kernel in order joins the latest group that
//! it can and that it shares memory with: it reads what the group stores, at the same element (vertical fusion), or
//! both read the same buffer (horizontal fusion). A value is then passed in a register, and a store without other
//! readers is dead. Loops match if they are equal up to unit dimensions. A kernel without reductions also matches the
//! outer loops of a kernel with reductions, and a group with reductions accepts a kernel that computes all its
//! elements, or one element per row. Where a reduction is split into chunks, the dimensions of the elementwise kernel
//! are split in the same way.

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::index::Affine;
use super::kernel::{
    BufferId, Dim, Kernel, KernelOp, KernelValue, Kernels, LoopKernel, Order, Output, PARTIALS, Slot, Source, Store,
};
use crate::types::product;

/// The most values of a kernel: so compile time is linear and registers suffice.
const LARGEST: usize = 600;

/// The most buffers of a kernel over many elements. Each is a memory stream, and a cache has few lines for the same
/// offset of different pages.
const STREAMS: usize = 24;

/// The fewest elements of a stream.
const LONG: usize = 512;

/// The most groups that a kernel tries to join, latest first: so a buffer with many readers costs linear time.
const CANDIDATES: usize = 256;

/// Fuses kernels, and removes dead stores.
pub(super) fn merge(mut kernels: Kernels) -> Kernels {
    let mut groups: Vec<FusionGroup> = Vec::new();
    // The last group that writes each buffer, and all groups that read it, in order.
    let mut writer: HashMap<BufferId, usize> = HashMap::new();
    let mut readers: HashMap<BufferId, SmallVec<[usize; 4]>> = HashMap::new();
    let partial = partial_writes(&kernels);

    for kernel in scalars_first(std::mem::take(&mut kernels.kernels)) {
        let kernel = match kernel {
            Kernel::Loop(kernel) => drop_unit_dims(kernel),
            kernel => {
                let at = groups.len();
                record(&kernel, at, &mut writer, &mut readers);
                groups.push(FusionGroup::Single(Box::new(kernel)));
                continue;
            }
        };
        // It runs after the kernels that write what it reads, and after earlier partial writes of what it writes.
        let reads = kernel.reads();
        let needs = reads.iter().chain(kernel.stores.iter().map(|s| &s.buffer));
        let earliest = needs.filter_map(|b| writer.get(b).copied()).max().unwrap_or(0);
        let mut candidates: Vec<usize> = Vec::new();
        for buffer in &reads {
            if kernels.buffers[buffer.index()].ty.elements() > 1 || writer.contains_key(buffer) {
                let readers = readers.get(buffer).map_or(&[][..], |readers| readers);
                let near = readers.iter().rev().take(CANDIDATES).chain(writer.get(buffer));
                candidates.extend(near.copied().filter(|&at| at >= earliest));
            }
        }
        candidates.sort_unstable_by(|a, b| b.cmp(a));
        candidates.dedup();
        let mut joined = None;
        for at in candidates.into_iter().take(CANDIDATES) {
            if let FusionGroup::Loop(group) = &mut groups[at]
                && group.join(&kernel, &partial)
            {
                joined = Some(at);
                break;
            }
        }
        let at = joined.unwrap_or(groups.len());
        if joined.is_none() {
            groups.push(FusionGroup::Loop(Box::new(LoopGroup::new(kernel.clone()))));
        }
        record(&Kernel::Loop(kernel), at, &mut writer, &mut readers);
    }

    kernels.kernels = groups.into_iter().map(FusionGroup::finish).collect();
    remove_dead_stores(&mut kernels);
    drop_unused_buffers(&mut kernels);
    for kernel in &mut kernels.kernels {
        if let Kernel::Loop(kernel) = kernel {
            merge_dims(kernel);
        }
    }
    kernels
}

/// Hoists kernels of one element as far as their dependences allow: so a kernel that depends on a scalar of the step
/// count can join one that depends on a gradient.
fn scalars_first(kernels: Vec<Kernel>) -> Vec<Kernel> {
    let mut written: HashMap<BufferId, usize> = HashMap::new();
    let mut keyed: Vec<(usize, Kernel)> = Vec::with_capacity(kernels.len());
    for (k, kernel) in kernels.into_iter().enumerate() {
        let is_scalar = matches!(&kernel, Kernel::Loop(kernel) if kernel.dims.iter().all(|d| d.extent == 1));
        let accessed = kernel.reads().into_iter().chain(kernel.writes());
        let after = accessed.filter_map(|b| written.get(&b).copied()).max().unwrap_or(0);
        let key = if is_scalar { after } else { k };
        for buffer in kernel.writes() {
            written.insert(buffer, key);
        }
        keyed.push((key, kernel));
    }
    // The sort is stable, so a scalar follows its dependences.
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, kernel)| kernel).collect()
}

/// Records the buffers that the group at `at` reads and writes.
fn record(
    kernel: &Kernel,
    at: usize,
    writer: &mut HashMap<BufferId, usize>,
    readers: &mut HashMap<BufferId, SmallVec<[usize; 4]>>,
) {
    for buffer in kernel.writes() {
        let last = writer.entry(buffer).or_insert(at);
        *last = at.max(*last);
    }
    for buffer in kernel.reads() {
        let all = readers.entry(buffer).or_default();
        if let Err(position) = all.binary_search(&at) {
            all.insert(position, at);
        }
    }
}

/// Buffers that more than one kernel writes (pads, concatenations): their values are not forwarded inside a kernel.
fn partial_writes(kernels: &Kernels) -> HashSet<BufferId> {
    let mut once = HashSet::new();
    let mut more = HashSet::new();
    for buffer in kernels.kernels.iter().flat_map(Kernel::writes) {
        if !once.insert(buffer) {
            more.insert(buffer);
        }
    }
    more
}

enum FusionGroup {
    Loop(Box<LoopGroup>),
    /// A kernel that nothing joins.
    Single(Box<Kernel>),
}

impl FusionGroup {
    fn finish(self) -> Kernel {
        match self {
            FusionGroup::Loop(group) => Kernel::Loop(group.kernel),
            FusionGroup::Single(kernel) => *kernel,
        }
    }
}

struct LoopGroup {
    kernel: LoopKernel,
    /// The slots of its values; empty until another kernel joins.
    known: HashMap<KernelValue, Slot>,
    /// The value and the index of each store, by buffer.
    stores: HashMap<BufferId, (Slot, Affine)>,
    /// The buffers that it accesses.
    buffers: HashSet<BufferId>,
}

impl LoopGroup {
    fn new(kernel: LoopKernel) -> Self {
        let stores = kernel.stores.iter().map(|s| (s.buffer, (s.value, s.index.clone()))).collect();
        let buffers = kernel.buffers().into_iter().collect();
        LoopGroup { kernel, known: HashMap::new(), stores, buffers }
    }

    /// Joins `other` if its loops match, if necessary after the dimensions of one kernel are split as those of the
    /// other.
    fn join(&mut self, other: &LoopKernel, partial: &HashSet<BufferId>) -> bool {
        if self.join_matching(other, partial) {
            return true;
        }
        match (self.kernel.reduces(), other.reduces()) {
            (true, false) => {
                split_dims(other, &self.kernel.dims).is_some_and(|other| self.join_matching(&other, partial))
            }
            (false, true) => split_dims(&self.kernel, &other.dims).is_some_and(|kernel| {
                let mut group = LoopGroup::new(kernel);
                let joins = group.join_matching(other, partial);
                if joins {
                    *self = group;
                }
                joins
            }),
            (true, true) | (false, false) => false,
        }
    }

    fn join_matching(&mut self, other: &LoopKernel, partial: &HashSet<BufferId>) -> bool {
        if self.kernel.values.len() + other.values.len() > LARGEST || self.kernel.serial || other.serial {
            return false;
        }
        let Some((map, dims)) = match_dims(&self.kernel, other) else { return false };
        if product(dims.iter().map(|d| d.extent)) >= LONG {
            let new = other.buffers().iter().filter(|&b| !self.buffers.contains(b)).count();
            if new > 0 && self.buffers.len() + new > STREAMS {
                return false;
            }
        }
        // A load of a value of this group must be at the index of its store.
        for (buffer, index) in other.loads() {
            if let Some((_, at)) = self.stores.get(&buffer)
                && (partial.contains(&buffer) || index.is_none_or(|index| index.remap(&map, dims.len()) != *at))
            {
                return false;
            }
        }
        // Partial writes of one buffer stay in separate kernels, which keeps their order.
        if other.stores.iter().any(|s| partial.contains(&s.buffer) && self.stores.contains_key(&s.buffer)) {
            return false;
        }
        if self.known.is_empty() {
            self.known = self.kernel.values.iter().enumerate().map(|(i, v)| (v.clone(), i as Slot)).collect();
        }
        self.buffers.extend(other.buffers());
        self.kernel.dims = dims;
        self.kernel.order = self.kernel.order.or(other.order);
        let mut slots: Vec<Slot> = Vec::with_capacity(other.values.len());
        for value in &other.values {
            if let KernelOp::Load(buffer, _) = &value.op
                && let Some(&(slot, _)) = self.stores.get(buffer)
            {
                slots.push(slot);
                continue;
            }
            let mut value = value.clone();
            if let Some(index) = value.op.affine_mut() {
                *index = index.remap(&map, self.kernel.dims.len());
            }
            for x in &mut value.operands {
                *x = slots[*x as usize];
            }
            slots.push(self.kernel.push(&mut self.known, value));
        }
        for store in &other.stores {
            let index = store.index.remap(&map, self.kernel.dims.len());
            let value = slots[store.value as usize];
            self.stores.insert(store.buffer, (value, index.clone()));
            self.kernel.stores.push(Store { value, buffer: store.buffer, index, by: SmallVec::new() });
        }
        true
    }
}

/// The map from the dimensions of `other` to those of both together, and the latter; `None` if the loops do not match.
fn match_dims(group: &LoopKernel, other: &LoopKernel) -> Option<(SmallVec<[usize; 6]>, Vec<Dim>)> {
    let extents = group.extents();
    let others = other.extents();
    let all: SmallVec<[usize; 6]> = (0..extents.len()).collect();
    let rows: SmallVec<[usize; 6]> = (0..extents.len()).filter(|&d| !group.dims[d].reduced).collect();
    match (group.reduces(), other.reduces()) {
        (true, true) => (group.dims == other.dims && group.order == other.order).then(|| (all, group.dims.clone())),
        (false, false) => (extents == others).then(|| (all, group.dims.clone())),
        (true, false) => {
            if extents == others {
                Some((all, group.dims.clone()))
            } else if rows.iter().map(|&d| extents[d]).eq(others.iter().copied()) {
                Some((rows, group.dims.clone()))
            } else {
                None
            }
        }
        // The group takes the reduced dimensions, and its values become elements. (If its loops match the outer loops
        // only, its dimensions would have to be renumbered; this case is rare and is not fused.)
        (false, true) => (extents == others).then(|| (all, other.dims.clone())),
    }
}

/// The kernel with each dimension split into a run of `dims`; `None` if `dims` are not such a split.
fn split_dims(kernel: &LoopKernel, dims: &[Dim]) -> Option<LoopKernel> {
    let mut runs: SmallVec<[std::ops::Range<usize>; 6]> = SmallVec::new();
    let mut next = 0;
    for dim in &kernel.dims {
        let (start, mut extent) = (next, 1);
        while extent < dim.extent && next < dims.len() {
            extent *= dims[next].extent;
            next += 1;
        }
        if extent != dim.extent {
            return None;
        }
        runs.push(start..next);
    }
    if next != dims.len() || dims.len() == kernel.dims.len() {
        return None;
    }
    let split = |index: &mut Affine| {
        let mut strides = SmallVec::from_elem(0, dims.len());
        for (run, &stride) in runs.iter().zip(&index.strides) {
            let mut step = stride;
            for d in run.clone().rev() {
                strides[d] = step;
                step *= dims[d].extent as isize;
            }
        }
        index.strides = strides;
    };
    let mut result = kernel.clone();
    result.dims = dims.iter().map(|d| Dim { reduced: false, ..*d }).collect();
    for value in &mut result.values {
        if let Some(index) = value.op.affine_mut() {
            split(index);
        }
    }
    result.stores.iter_mut().for_each(|store| split(&mut store.index));
    Some(result)
}

/// The kernel without dimensions of extent 1.
pub(super) fn drop_unit_dims(mut kernel: LoopKernel) -> LoopKernel {
    // A reduction over unit dimensions only keeps one of them, since a reduction has a reduced dimension.
    let mut retained: Vec<bool> = kernel.dims.iter().map(|d| d.extent != 1).collect();
    let reduces = kernel.values.iter().any(|v| matches!(v.op, KernelOp::Reduce(_)));
    if reduces && !kernel.dims.iter().zip(&retained).any(|(d, &k)| k && d.reduced) {
        let one = kernel.dims.iter().position(|d| d.reduced).expect("a reduction has reduced dimensions");
        retained[one] = true;
    }
    let squeeze = |index: &mut Affine| {
        let strides = index.strides.iter().zip(&retained).filter(|(_, k)| **k).map(|(s, _)| *s).collect();
        index.strides = strides;
    };
    for value in &mut kernel.values {
        if let Some(index) = value.op.affine_mut() {
            squeeze(index);
        }
    }
    for store in &mut kernel.stores {
        squeeze(&mut store.index);
    }
    kernel.dims = kernel.dims.iter().zip(&retained).filter(|(_, k)| **k).map(|(d, _)| *d).collect();
    kernel
}

/// Merges adjacent dimensions that are contiguous in every index, if that does not change the order of a reduction.
fn merge_dims(kernel: &mut LoopKernel) {
    if kernel.serial {
        return;
    }
    let mut d = 0;
    while d + 1 < kernel.dims.len() {
        let inner = kernel.dims[d + 1];
        let is_contiguous = |index: &Affine| index.strides[d] == index.strides[d + 1] * inner.extent as isize;
        // Accumulators are numbered by positions along the last reduced dimension.
        let is_last = !kernel.dims[d + 2..].iter().any(|d| d.reduced);
        let keeps_order = kernel.order != Some(Order::Interleaved) || !is_last || inner.extent.is_multiple_of(PARTIALS);
        let same_kind = kernel.dims[d].reduced == inner.reduced && (!inner.reduced || keeps_order);
        let indices = kernel.values.iter().filter_map(|v| v.op.affine());
        if same_kind && indices.chain(kernel.stores.iter().map(|s| &s.index)).all(is_contiguous) {
            kernel.dims[d].extent *= inner.extent;
            kernel.dims.remove(d + 1);
            for value in &mut kernel.values {
                if let Some(index) = value.op.affine_mut() {
                    index.strides.remove(d);
                }
            }
            for store in &mut kernel.stores {
                store.index.strides.remove(d);
            }
        } else {
            d += 1;
        }
    }
}

/// Removes stores to buffers that no kernel reads and that are no output, and kernels without stores.
fn remove_dead_stores(kernels: &mut Kernels) {
    let mut live: HashSet<BufferId> = HashSet::new();
    for output in &kernels.outputs {
        if let Output::Computed(buffer, _) = output {
            live.insert(*buffer);
        }
    }
    // In reverse, so that a dead kernel does not keep others alive.
    for at in (0..kernels.kernels.len()).rev() {
        match &mut kernels.kernels[at] {
            Kernel::Loop(kernel) => {
                kernel.stores.retain(|s| live.contains(&s.buffer));
                kernel.prune();
                live.extend(kernel.reads());
            }
            kernel => {
                if kernel.writes().iter().any(|b| live.contains(b)) {
                    live.extend(kernel.reads());
                }
            }
        }
    }
    kernels.kernels.retain(|kernel| match kernel {
        Kernel::Loop(kernel) => !kernel.stores.is_empty(),
        kernel => kernel.writes().iter().any(|b| live.contains(b)),
    });
}

/// Drops computed buffers and constants that no kernel accesses and that are no output, and renumbers the others.
fn drop_unused_buffers(kernels: &mut Kernels) {
    let mut used = vec![false; kernels.buffers.len()];
    for output in &kernels.outputs {
        // No kernel writes an output without elements.
        if let Output::Computed(buffer, _) = output {
            used[buffer.index()] = true;
        }
    }
    for kernel in &kernels.kernels {
        for buffer in kernel.reads().into_iter().chain(kernel.writes()) {
            used[buffer.index()] = true;
        }
    }
    let mut renumbered = vec![BufferId(u32::MAX); used.len()];
    let mut buffers = Vec::new();
    for (i, buffer) in std::mem::take(&mut kernels.buffers).into_iter().enumerate() {
        if used[i] || matches!(buffer.source, Source::Param(_)) {
            renumbered[i] = BufferId(buffers.len() as u32);
            buffers.push(buffer);
        }
    }
    kernels.buffers = buffers;
    let rename = |buffer: &mut BufferId| *buffer = renumbered[buffer.index()];
    for kernel in &mut kernels.kernels {
        kernel.map_buffers(&mut |buffer| rename(buffer));
    }
    for output in &mut kernels.outputs {
        if let Output::Computed(buffer, _) = output {
            rename(buffer);
        }
    }
}
