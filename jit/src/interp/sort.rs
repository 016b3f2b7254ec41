//! Sorting: what [`Op::Sort`](crate::graph::Op::Sort) means.

use smallvec::SmallVec;

use crate::types::{DType, Kind, TensorType, product};

/// Sorts arrays of `shape`, given as the bits of their elements.
pub(super) fn sort(
    shape: &[usize],
    axis: usize,
    keys: usize,
    types: &[TensorType],
    x: &[Vec<u64>],
) -> SmallVec<[Vec<u64>; 2]> {
    let (outer, length) = (product(shape[..axis].iter().copied()), shape[axis]);
    let inner = product(shape[axis + 1..].iter().copied());
    let mut results: SmallVec<[Vec<u64>; 2]> = x.iter().cloned().collect();
    for line in 0..outer * inner {
        let at = |i: usize| (line / inner * length + i) * inner + line % inner;
        let mut order: Vec<usize> = (0..length).collect();
        order.sort_by_cached_key(|&i| (0..keys).map(|k| order_bits(types[k].dtype, x[k][at(i)])).collect::<Vec<u64>>());
        for (result, x) in results.iter_mut().zip(x) {
            for (to, &from) in order.iter().enumerate() {
                result[at(to)] = x[at(from)];
            }
        }
    }
    results
}

/// Unsigned integers in the order of the elements: zeros of either sign are one, and so are NaNs, which come last.
pub(crate) fn order_bits(dtype: DType, bits: u64) -> u64 {
    let sign = 1 << (dtype.width() - 1);
    match dtype.kind() {
        Kind::Bool | Kind::Int { signed: false } => bits,
        Kind::Int { signed: true } => bits ^ sign,
        Kind::Float(format) if format.is_nan(bits) => dtype.ones(),
        Kind::Float(_) if bits & !sign == 0 => sign,
        Kind::Float(_) if bits & sign != 0 => !bits & dtype.ones(),
        Kind::Float(_) => bits | sign,
    }
}
