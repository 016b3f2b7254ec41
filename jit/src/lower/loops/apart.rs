//! Which iterations of a kernel that runs in order touch different elements, whatever is computed.
//!
//! Rows that are added to a matrix, for instance, are added column by column: an iteration touches elements of its
//! column only. So columns can run at the same time, and the order in each of them stays.

use smallvec::SmallVec;

use crate::fuse::{Affine, KernelOp, KernelValue, LoopKernel, Slot};
use crate::types::gcd;

/// The loops of which different positions touch different elements of the arrays that the kernel stores to. Their
/// iterations have no order with each other.
pub fn apart(kernel: &LoopKernel) -> SmallVec<[usize; 4]> {
    if !kernel.serial {
        return SmallVec::new();
    }
    let mut places: Vec<(&Affine, SmallVec<[isize; 2]>)> = Vec::new();
    for store in &kernel.stores {
        places.push((&store.index, store.by.iter().map(|(_, stride): &(Slot, isize)| *stride).collect()));
        places.extend(kernel.values.iter().filter_map(|value| match &value.op {
            KernelOp::Load(buffer, index) if *buffer == store.buffer => Some((&index.base, index.by.clone())),
            _ => None,
        }));
    }
    let is_apart = |&d: &usize| {
        let mut columns = places.iter().map(|(index, by)| column(kernel, d, index, by));
        let first = columns.next().flatten();
        first.is_some() && columns.all(|column| column == first)
    };
    (0..kernel.dims.len()).filter(is_apart).collect()
}

/// Whether the iterations of a loop of a kernel that runs in order may be lanes of a vector: they store different
/// elements, as those of one window do, and none loads what another stores.
pub(super) fn may_be_lanes(kernel: &LoopKernel, d: usize) -> bool {
    let same_place = |value: &KernelValue| match &value.op {
        KernelOp::Load(buffer, index) => kernel.stores.iter().filter(|store| store.buffer == *buffer).all(|store| {
            let by = value.operands.iter().copied().zip(index.by.iter().copied());
            index.base == store.index && by.eq(store.by.iter().copied())
        }),
        _ => true,
    };
    let differ = kernel.stores.iter().all(|store| store.index.strides[d] != 0);
    differ && (kernel.values.iter().all(same_place) || apart(kernel).contains(&d))
}

/// How a place tells the position `i` of a loop: with the result `[s, m, r]`, as `⌊(place mod m) / s⌋ - r`, where 0 for
/// `m` stands for no modulus. `None` if it does not.
fn column(kernel: &LoopKernel, d: usize, index: &Affine, by: &[isize]) -> Option<[isize; 3]> {
    let stride = index.strides[d];
    if stride <= 0 {
        return None;
    }
    let extent = |e: usize| kernel.dims[e].extent as isize;
    let others = || (0..kernel.dims.len()).filter(|&e| e != d && extent(e) > 1).map(|e| (index.strides[e], extent(e)));
    // A loop that goes down touches the places of one that goes up.
    let first: isize = index.offset + others().map(|(s, extent)| s.min(0) * (extent - 1)).sum::<isize>();
    let others = || others().map(|(s, extent)| (s.abs(), extent));
    let inside: isize = others().filter(|(s, _)| *s < stride).map(|(s, extent)| s * (extent - 1)).sum();
    let large = others().map(|(s, _)| s).filter(|s| *s >= stride).chain(by.iter().copied());
    let modulus = large.fold(0, |a, b| gcd(a, b.unsigned_abs())) as isize;
    let rest = if modulus == 0 { first } else { first.rem_euclid(modulus) };
    let fits = rest.rem_euclid(stride) + inside < stride;
    let wraps = modulus != 0 && rest + stride * (extent(d) - 1) + inside >= modulus;
    (fits && !wraps).then_some([stride, modulus, rest.div_euclid(stride)])
}
