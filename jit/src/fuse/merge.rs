//! Joins kernels over the same loops.
//!
//! Kernels are taken in order; each joins the latest kernel it can, if the two have something to share: one reads what
//! the other stores, at the same element, or both read the same memory. Then the value is passed on inside the kernel,
//! and a store that nobody else reads vanishes. Loops match when they are the same but for unit dimensions; a kernel
//! without reductions also matches the rows of one that has them, and a kernel with reductions takes in one that
//! computes all its elements, or its rows. Where a reduction is in chunks, the elements are divided as it is.

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::index::Affine;
use super::kernel::{BufferId, Dim, Kernel, KernelOp, KernelValue, Kernels, LoopKernel, Output, Slot, Source, Store};
use super::reductions::Order;
use crate::types::product;

/// A kernel is not grown past this many values, so that compile time stays linear and registers suffice.
const LARGEST: usize = 600;

/// A kernel over many elements does not touch more than this many buffers: each is a stream of its own, and a cache
/// holds lines of so many at the same offset of their pages.
const STREAMS: usize = 24;

/// From this many elements on a stream counts.
const LONG: usize = 512;

/// A kernel tries to join so many at most, the latest: what a thousand kernels read would make each look at all others.
const CANDIDATES: usize = 256;

/// Joins what can be joined, and removes stores that nobody reads.
pub(super) fn merge(mut kernels: Kernels) -> Kernels {
    let mut groups: Vec<Group> = Vec::new();
    // The last group that writes each buffer, and all groups that read it, in order.
    let mut writer: HashMap<BufferId, usize> = HashMap::new();
    let mut readers: HashMap<BufferId, SmallVec<[usize; 4]>> = HashMap::new();
    let partial = partly_written(&kernels);

    for kernel in scalars_first(std::mem::take(&mut kernels.kernels)) {
        let kernel = match kernel {
            Kernel::Loop(kernel) => drop_unit_dims(kernel),
            Kernel::Gemm(gemm) => {
                let at = groups.len();
                note(&Kernel::Gemm(gemm.clone()), at, &mut writer, &mut readers);
                groups.push(Group::Gemm(gemm));
                continue;
            }
        };
        // It must run after all that it depends on: what it reads, and earlier parts of what it writes.
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
            if let Group::Loop(group) = &mut groups[at]
                && group.join(&kernel, &partial)
            {
                joined = Some(at);
                break;
            }
        }
        let at = joined.unwrap_or(groups.len());
        if joined.is_none() {
            groups.push(Group::Loop(Box::new(LoopGroup::new(kernel.clone()))));
        }
        note(&Kernel::Loop(kernel), at, &mut writer, &mut readers);
    }

    kernels.kernels = groups.into_iter().map(Group::finish).collect();
    remove_unread_stores(&mut kernels);
    drop_unused_buffers(&mut kernels);
    for kernel in &mut kernels.kernels {
        if let Kernel::Loop(kernel) = kernel {
            fuse_dims(kernel);
        }
    }
    kernels
}

/// The kernels with those of one element as early as they can be: what depends on a step's counter then can join what
/// depends on a gradient.
fn scalars_first(kernels: Vec<Kernel>) -> Vec<Kernel> {
    let mut written: HashMap<BufferId, usize> = HashMap::new();
    let mut keyed: Vec<(usize, Kernel)> = Vec::with_capacity(kernels.len());
    for (k, kernel) in kernels.into_iter().enumerate() {
        let is_scalar = matches!(&kernel, Kernel::Loop(kernel) if kernel.dims.iter().all(|d| d.extent == 1));
        let touched = kernel.reads().into_iter().chain(kernel.writes());
        let after = touched.filter_map(|b| written.get(&b).copied()).max().unwrap_or(0);
        let key = if is_scalar { after } else { k };
        for buffer in kernel.writes() {
            written.insert(buffer, key);
        }
        keyed.push((key, kernel));
    }
    // Stable: what a scalar depends on came before it.
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, kernel)| kernel).collect()
}

fn note(
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
        if let Err(place) = all.binary_search(&at) {
            all.insert(place, at);
        }
    }
}

/// Buffers that more than one kernel writes (pads, concatenations): their values are not passed on inside a kernel.
fn partly_written(kernels: &Kernels) -> HashSet<BufferId> {
    let mut once = HashSet::new();
    let mut more = HashSet::new();
    for buffer in kernels.kernels.iter().flat_map(Kernel::writes) {
        if !once.insert(buffer) {
            more.insert(buffer);
        }
    }
    more
}

enum Group {
    Loop(Box<LoopGroup>),
    Gemm(super::kernel::GemmKernel),
}

impl Group {
    fn finish(self) -> Kernel {
        match self {
            Group::Loop(group) => Kernel::Loop(group.kernel),
            Group::Gemm(gemm) => Kernel::Gemm(gemm),
        }
    }
}

struct LoopGroup {
    kernel: LoopKernel,
    /// The kernel's values; empty until another kernel joins.
    known: HashMap<KernelValue, Slot>,
    /// What the kernel stores, and where.
    stored: HashMap<BufferId, (Slot, Affine)>,
    /// All that it reads or stores.
    touched: HashSet<BufferId>,
}

impl LoopGroup {
    fn new(kernel: LoopKernel) -> Self {
        let stored = kernel.stores.iter().map(|s| (s.buffer, (s.value, s.index.clone()))).collect();
        let touched = kernel.buffers().into_iter().collect();
        LoopGroup { kernel, known: HashMap::new(), stored, touched }
    }

    /// Takes `other` in, if it fits, or does when the dimensions of the one are divided as those of the other.
    fn join(&mut self, other: &LoopKernel, partial: &HashSet<BufferId>) -> bool {
        if self.join_alike(other, partial) {
            return true;
        }
        match (self.kernel.reduces(), other.reduces()) {
            (true, false) => divided(other, &self.kernel.dims).is_some_and(|other| self.join_alike(&other, partial)),
            (false, true) => divided(&self.kernel, &other.dims).is_some_and(|kernel| {
                let mut group = LoopGroup::new(kernel);
                let joins = group.join_alike(other, partial);
                if joins {
                    *self = group;
                }
                joins
            }),
            (true, true) | (false, false) => false,
        }
    }

    fn join_alike(&mut self, other: &LoopKernel, partial: &HashSet<BufferId>) -> bool {
        if self.kernel.values.len() + other.values.len() > LARGEST {
            return false;
        }
        let Some((map, dims)) = match_dims(&self.kernel, other) else { return false };
        if product(dims.iter().map(|d| d.extent)) >= LONG {
            let new = other.buffers().iter().filter(|&b| !self.touched.contains(b)).count();
            if new > 0 && self.touched.len() + new > STREAMS {
                return false;
            }
        }
        // All that it reads of ours must be read at the element where we store it.
        for (buffer, index) in other.loads() {
            if let Some((_, at)) = self.stored.get(&buffer)
                && (partial.contains(&buffer) || index.remap(&map, dims.len()) != *at)
            {
                return false;
            }
        }
        // Two parts of one buffer stay apart, so that their order is that of the kernels.
        if other.stores.iter().any(|s| partial.contains(&s.buffer) && self.stored.contains_key(&s.buffer)) {
            return false;
        }
        if self.known.is_empty() {
            self.known = self.kernel.values.iter().enumerate().map(|(i, v)| (v.clone(), i as Slot)).collect();
        }
        self.touched.extend(other.buffers());
        self.kernel.dims = dims;
        let mut moved: Vec<Slot> = Vec::with_capacity(other.values.len());
        for value in &other.values {
            if let KernelOp::Load(buffer, _) = &value.op
                && let Some(&(slot, _)) = self.stored.get(buffer)
            {
                moved.push(slot);
                continue;
            }
            let mut value = value.clone();
            match &mut value.op {
                KernelOp::Load(_, index) | KernelOp::Iota(index) => *index = index.remap(&map, self.kernel.dims.len()),
                KernelOp::Literal(_) | KernelOp::Apply(..) | KernelOp::Reduce(_) => {}
            }
            for x in &mut value.operands {
                *x = moved[*x as usize];
            }
            moved.push(self.kernel.push(&mut self.known, value));
        }
        for store in &other.stores {
            let index = store.index.remap(&map, self.kernel.dims.len());
            let value = moved[store.value as usize];
            self.stored.insert(store.buffer, (value, index.clone()));
            self.kernel.stores.push(Store { value, buffer: store.buffer, index });
        }
        true
    }
}

/// Where the dimensions of `other` lie among those of `group`, and the dimensions of the two together; `None` where the
/// two do not match.
fn match_dims(group: &LoopKernel, other: &LoopKernel) -> Option<(SmallVec<[usize; 6]>, Vec<Dim>)> {
    let extents = group.extents();
    let others = other.extents();
    let all: SmallVec<[usize; 6]> = (0..extents.len()).collect();
    let rows: SmallVec<[usize; 6]> = (0..extents.len()).filter(|&d| !group.dims[d].reduced).collect();
    match (group.reduces(), other.reduces()) {
        (true, true) => (group.dims == other.dims).then(|| (all, group.dims.clone())),
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
        // The group takes on the reduced dimensions. Its values are elements, if the loops are the same. (Where they are
        // the rows only, the dimensions would have to be renumbered; such kernels are rare and stay apart.)
        (false, true) => (extents == others).then(|| (all, other.dims.clone())),
    }
}

/// The kernel with each of its dimensions divided into the ones of `dims` that it consists of; `None` where they are no
/// division of its own.
fn divided(kernel: &LoopKernel, dims: &[Dim]) -> Option<LoopKernel> {
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
    let divide = |index: &mut Affine| {
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
        if let KernelOp::Load(_, index) | KernelOp::Iota(index) = &mut value.op {
            divide(index);
        }
    }
    result.stores.iter_mut().for_each(|store| divide(&mut store.index));
    Some(result)
}

/// The kernel without dimensions of extent 1.
pub(super) fn drop_unit_dims(mut kernel: LoopKernel) -> LoopKernel {
    // A reduction over unit dimensions only is a copy, but keeps one of them, so that there is something to reduce.
    let mut keep: Vec<bool> = kernel.dims.iter().map(|d| d.extent != 1).collect();
    let reduces = kernel.values.iter().any(|v| matches!(v.op, KernelOp::Reduce(_)));
    if reduces && !kernel.dims.iter().zip(&keep).any(|(d, &k)| k && d.reduced) {
        let one = kernel.dims.iter().position(|d| d.reduced).expect("a reduction has reduced dimensions");
        keep[one] = true;
    }
    let squeeze = |index: &mut Affine| {
        let strides = index.strides.iter().zip(&keep).filter(|(_, k)| **k).map(|(s, _)| *s).collect();
        index.strides = strides;
    };
    for value in &mut kernel.values {
        if let KernelOp::Load(_, index) | KernelOp::Iota(index) = &mut value.op {
            squeeze(index);
        }
    }
    for store in &mut kernel.stores {
        squeeze(&mut store.index);
    }
    kernel.dims = kernel.dims.iter().zip(&keep).filter(|(_, k)| **k).map(|(d, _)| *d).collect();
    kernel
}

/// Joins neighbouring dimensions that every index walks through as if they were one, where that leaves the order of
/// reductions as it is.
fn fuse_dims(kernel: &mut LoopKernel) {
    let mut d = 0;
    while d + 1 < kernel.dims.len() {
        let inner = kernel.dims[d + 1];
        let one = |index: &Affine| index.strides[d] == index.strides[d + 1] * inner.extent as isize;
        let same_kind = kernel.dims[d].reduced == inner.reduced
            && (!inner.reduced || Order::of(&kernel.dims).may_join(d, inner.extent));
        let indices = kernel.values.iter().filter_map(|v| match &v.op {
            KernelOp::Load(_, index) | KernelOp::Iota(index) => Some(index),
            KernelOp::Literal(_) | KernelOp::Apply(..) | KernelOp::Reduce(_) => None,
        });
        if same_kind && indices.chain(kernel.stores.iter().map(|s| &s.index)).all(one) {
            kernel.dims[d].extent *= inner.extent;
            kernel.dims.remove(d + 1);
            for value in &mut kernel.values {
                if let KernelOp::Load(_, index) | KernelOp::Iota(index) = &mut value.op {
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

fn remove_unread_stores(kernels: &mut Kernels) {
    let mut needed: HashSet<BufferId> = HashSet::new();
    for output in &kernels.outputs {
        if let Output::Computed(buffer, _) = output {
            needed.insert(*buffer);
        }
    }
    // Backwards, so that a kernel that nobody needs does not keep others alive.
    for at in (0..kernels.kernels.len()).rev() {
        match &mut kernels.kernels[at] {
            Kernel::Loop(kernel) => {
                kernel.stores.retain(|s| needed.contains(&s.buffer));
                kernel.prune();
                needed.extend(kernel.reads());
            }
            Kernel::Gemm(gemm) => {
                if needed.contains(&gemm.c) {
                    needed.extend([gemm.a.0, gemm.b.0]);
                }
            }
        }
    }
    kernels.kernels.retain(|kernel| match kernel {
        Kernel::Loop(kernel) => !kernel.stores.is_empty(),
        Kernel::Gemm(gemm) => needed.contains(&gemm.c),
    });
}

/// Drops computed buffers and constants that no kernel touches any more and that are no output, and renumbers the rest.
fn drop_unused_buffers(kernels: &mut Kernels) {
    let mut used = vec![false; kernels.buffers.len()];
    for output in &kernels.outputs {
        // One without elements is written by nobody.
        if let Output::Computed(buffer, _) = output {
            used[buffer.index()] = true;
        }
    }
    for kernel in &kernels.kernels {
        for buffer in kernel.reads().into_iter().chain(kernel.writes()) {
            used[buffer.index()] = true;
        }
    }
    let mut moved = vec![BufferId(u32::MAX); used.len()];
    let mut kept = Vec::new();
    for (i, buffer) in std::mem::take(&mut kernels.buffers).into_iter().enumerate() {
        if used[i] || matches!(buffer.source, Source::Param(_)) {
            moved[i] = BufferId(kept.len() as u32);
            kept.push(buffer);
        }
    }
    kernels.buffers = kept;
    let rename = |buffer: &mut BufferId| *buffer = moved[buffer.index()];
    for kernel in &mut kernels.kernels {
        match kernel {
            Kernel::Loop(kernel) => {
                for value in &mut kernel.values {
                    if let KernelOp::Load(buffer, _) = &mut value.op {
                        rename(buffer);
                    }
                }
                kernel.stores.iter_mut().for_each(|s| rename(&mut s.buffer));
            }
            Kernel::Gemm(gemm) => {
                rename(&mut gemm.a.0);
                rename(&mut gemm.b.0);
                rename(&mut gemm.c);
            }
        }
    }
    for output in &mut kernels.outputs {
        if let Output::Computed(buffer, _) = output {
            rename(buffer);
        }
    }
}
