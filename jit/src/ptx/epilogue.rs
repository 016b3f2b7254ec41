//! Epilogues: which loop kernels take the elements of a product as it computes them.
//!
//! In: kernels. Out: the same kernels in an order in which such a loop kernel follows its product; both are then
//! emitted as one, whose registers hold what one hands to the other. A result that nothing else reads is passed, and
//! has no memory. A loop kernel qualifies if it has one iteration for each element, which reads that element alone of
//! the product's result. Its iterations are independent, so blocks of the product may run them in any order; A and B
//! live as long as what it writes, so nothing of them is overwritten.

use super::emit::{Follower, RowKernel};
use super::place::MAX_INDEX;
use crate::fuse::{Affine, BufferId, Control, Kernel, Kernels, Output, Source};
use crate::types::product;

/// The most instructions for an element. They are written out for each of up to 64 elements of a thread, and the driver
/// takes long to compile large entries.
const MAX_INSTRUCTIONS: usize = 192;

/// Moves kernels behind the products whose elements they take, in the bodies of loops too. `donated` marks the inputs
/// that may be overwritten.
pub(super) fn pair(kernels: &mut Kernels, donated: &[bool]) {
    for kernel in &mut kernels.kernels {
        if let Kernel::Region(region) = kernel {
            let Control::Scan { num_carry, .. } = region.control;
            let donated: Vec<bool> = (0..region.body.params.len()).map(|i| i < num_carry).collect();
            pair(&mut region.body, &donated);
        }
    }
    let mut order = Order::new(kernels, donated);
    let mut passed = Vec::new();
    for (k, kernel) in kernels.kernels.iter().enumerate() {
        let Kernel::Gemm(g) = kernel else { continue };
        let readers = &order.readers[g.c.0.index()];
        let is_passed = readers.len() == 1 && !is_output(kernels, g.c.0);
        let followers: Vec<usize> =
            readers.iter().copied().filter(|&f| follower(kernels, donated, k, f).is_some()).collect();
        if followers.into_iter().any(|f| order.join(k, f)) && is_passed {
            passed.push(g.c.0);
        }
    }
    let sorted: Vec<usize> = order.units.iter().flatten().copied().collect();
    let mut taken: Vec<Option<Kernel>> = std::mem::take(&mut kernels.kernels).into_iter().map(Some).collect();
    kernels.kernels = sorted.into_iter().filter_map(|k| taken[k].take()).collect();
    for buffer in passed {
        kernels.buffers[buffer.index()].source = Source::Passed;
    }
}

/// The kernel that takes the elements of kernel `k`, if the next one does: its loops step through them in their order.
pub(super) fn next_follower(kernels: &Kernels, donated: &[bool], k: usize) -> Option<Follower> {
    follower(kernels, donated, k, k + 1)
}

/// Kernel `f`, if it takes the elements of product `k`.
fn follower(kernels: &Kernels, donated: &[bool], k: usize, f: usize) -> Option<Follower> {
    let (Kernel::Gemm(g), Kernel::Loop(kernel)) = (&kernels.kernels[k], kernels.kernels.get(f)?) else { return None };
    if kernel.reduces() || kernel.serial || !kernel.segments.is_empty() {
        return None;
    }
    if !g.fills(kernels.buffers[g.c.0.index()].ty.elements()) {
        return None;
    }
    // What the product reads is not updated in place by what runs at the same time.
    let mut operands = [g.a.0, g.b.0].into_iter();
    if operands.any(|b| kernel.reads().contains(&b) && may_update(kernels, donated, &kernel.writes(), b)) {
        return None;
    }
    let mut index = None;
    for (_, read) in kernel.loads().filter(|(buffer, _)| *buffer == g.c.0) {
        if *index.get_or_insert(read?) != read? {
            return None;
        }
    }
    let mut dims: Vec<usize> = (0..kernel.dims.len()).filter(|&d| kernel.dims[d].extent != 1).collect();
    dims.sort_by_key(|&d| std::cmp::Reverse(index.map_or(0, |index| index.strides[d])));
    let in_order =
        |index: &Affine| Affine { offset: index.offset, strides: dims.iter().map(|&d| index.strides[d]).collect() };
    let elements = product(g.extents[..3].iter().copied());
    let mut stride = 1;
    for &d in dims.iter().rev() {
        if index?.strides[d] != stride as isize {
            return None;
        }
        stride *= kernel.dims[d].extent;
    }
    let overwrites = kernel.stores.iter().any(|store| [g.a.0, g.b.0, g.c.0].contains(&store.buffer));
    if index?.offset != 0 || stride != elements || !(1..=MAX_INDEX).contains(&elements) || overwrites {
        return None;
    }
    let mut kernel = kernel.clone();
    kernel.values.iter_mut().filter_map(|value| value.op.affine_mut()).for_each(|index| *index = in_order(index));
    kernel.stores.iter_mut().for_each(|store| store.index = in_order(&store.index));
    let along = dims.iter().position(|&d| d + 1 == kernel.dims.len());
    kernel.dims = dims.iter().map(|&d| kernel.dims[d]).collect();
    let row = RowKernel::along(kernel.canonical(false).0, along, false);
    (row.instructions() <= MAX_INSTRUCTIONS).then_some(Follower { kernel, along })
}

fn is_output(kernels: &Kernels, buffer: BufferId) -> bool {
    kernels.outputs.iter().any(|output| matches!(output, Output::Computed(b, _) if *b == buffer))
}

/// Whether a kernel that writes these may update `buffer` in place: a donated input of the size of a result among them.
pub(super) fn may_update(kernels: &Kernels, donated: &[bool], writes: &[BufferId], buffer: BufferId) -> bool {
    let buffer = &kernels.buffers[buffer.index()];
    let is_like = |b: &BufferId| kernels.buffers[b.index()].ty.bytes() == buffer.ty.bytes();
    matches!(buffer.source, Source::Param(i) if donated[i])
        && writes.iter().any(|&b| is_like(&b) && is_output(kernels, b))
}

/// An order of kernels under construction.
struct Order<'k> {
    kernels: &'k Kernels,
    donated: &'k [bool],
    /// For each buffer the kernels that read and that write it.
    readers: Vec<Vec<usize>>,
    writers: Vec<Vec<usize>>,
    /// Kernels, and products with the kernel that follows each, in their order.
    units: Vec<Vec<usize>>,
    /// The unit of each kernel.
    at: Vec<usize>,
}

impl<'k> Order<'k> {
    fn new(kernels: &'k Kernels, donated: &'k [bool]) -> Self {
        let count = kernels.kernels.len();
        let [mut readers, mut writers] = [(); 2].map(|()| vec![vec![]; kernels.buffers.len()]);
        for (k, kernel) in kernels.kernels.iter().enumerate() {
            kernel.reads().iter().for_each(|b| readers[b.index()].push(k));
            kernel.writes().iter().for_each(|b| writers[b.index()].push(k));
        }
        let units = (0..count).map(|k| vec![k]).collect();
        Order { kernels, donated, readers, writers, units, at: (0..count).collect() }
    }

    /// The kernels that do not change places with kernel `k`: they read what it writes, write what it reads, or write
    /// what it writes.
    fn depend_on(&self, k: usize) -> impl Iterator<Item = usize> {
        let kernel = &self.kernels.kernels[k];
        let writes =
            kernel.writes().into_iter().flat_map(|b| self.readers[b.index()].iter().chain(&self.writers[b.index()]));
        let reads = kernel.reads().into_iter().flat_map(|b| &self.writers[b.index()]);
        writes.chain(reads).copied().filter(move |&other| other != k)
    }

    /// The kernels that read what kernel `k` may update in place.
    fn read_updated(&self, k: usize) -> impl Iterator<Item = usize> {
        let updated = match &self.kernels.kernels[k] {
            Kernel::Loop(kernel) => {
                let writes = kernel.writes();
                let may_update = |b: &BufferId| may_update(self.kernels, self.donated, &writes, *b);
                kernel.reads().into_iter().filter(may_update).collect()
            }
            Kernel::Gemm(_) | Kernel::Routine(_) | Kernel::Region(_) => vec![],
        };
        updated.into_iter().flat_map(|b| &self.readers[b.index()]).copied().filter(move |&other| other != k)
    }

    /// Joins product `g` and kernel `f` to one unit, if none of the kernels between is in the way: the product moves
    /// down behind those that `f` waits for, and `f` moves up to it. An update in place stays one.
    fn join(&mut self, g: usize, f: usize) -> bool {
        let (from, to) = (self.at[g], self.at[f]);
        if from >= to || self.units[from].len() > 1 || self.units[to].len() > 1 {
            return false;
        }
        let before = self.depend_on(f).chain(self.read_updated(f)).map(|k| self.at[k]);
        let place = before.filter(|&at| at < to).max().unwrap_or(from).max(from);
        let mut between = self.units[from + 1..=place].iter().flatten();
        if between.any(|&k| self.depend_on(k).chain(self.read_updated(k)).any(|other| other == g)) {
            return false;
        }
        self.units.remove(to);
        self.units[from..=place].rotate_left(1);
        self.units[place].push(f);
        for at in from..self.units.len() {
            self.units[at].iter().for_each(|&k| self.at[k] = at);
        }
        true
    }
}
