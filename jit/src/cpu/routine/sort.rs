//! Sorting lines of several arrays by the first of them.
//!
//! Keys become unsigned integers of the same order. With one key, each is joined with its index, so that an unstable
//! sort is stable; with several, indices are sorted by their keys.

use std::ops::Range;
use std::slice;

use crate::interp::sort::order_bits;
use crate::types::DType;

/// Sorts the lines `tasks`. A line has `length` elements, `inner` apart.
///
/// # Safety
/// `buffers` are the addresses of as many operands as there are dtypes, then of the results; each has the elements of
/// all lines. `scratch` has `length * (16 + 8 * keys)` bytes and is aligned to 64.
pub(super) unsafe fn sort(
    length: usize,
    inner: usize,
    keys: usize,
    dtypes: &[DType],
    buffers: &[*mut u8],
    scratch: *mut u8,
    tasks: Range<usize>,
) {
    let (operands, results) = buffers.split_at(dtypes.len());
    // SAFETY: the caller's promise; zeros are initialised, and the two arrays do not overlap.
    let (joined, bits) = unsafe {
        std::ptr::write_bytes(scratch, 0, length * (16 + 8 * keys));
        let joined = slice::from_raw_parts_mut(scratch.cast::<u128>(), length);
        (joined, slice::from_raw_parts_mut(scratch.add(16 * length).cast::<u64>(), length * keys))
    };
    for line in tasks {
        let start = line / inner * length * inner + line % inner;
        let at = |i: usize| start + i * inner;
        if let [dtype, ..] = dtypes
            && keys == 1
        {
            for (i, joined) in joined.iter_mut().enumerate() {
                // SAFETY: an element of the line.
                let key = order_bits(*dtype, unsafe { read(operands[0], *dtype, at(i)) });
                *joined = u128::from(key) << 32 | i as u128;
            }
            joined.sort_unstable();
        } else {
            for k in 0..keys {
                for i in 0..length {
                    // SAFETY: as above.
                    bits[i * keys + k] = order_bits(dtypes[k], unsafe { read(operands[k], dtypes[k], at(i)) });
                }
            }
            for (i, joined) in joined.iter_mut().enumerate() {
                *joined = i as u128;
            }
            let key = |i: u128| &bits[i as usize * keys..][..keys];
            joined.sort_unstable_by(|&x, &y| key(x).cmp(key(y)).then(x.cmp(&y)));
        }
        for ((&from, &to), dtype) in operands.iter().zip(results).zip(dtypes) {
            for (i, joined) in joined.iter().enumerate() {
                // SAFETY: elements of the line; results overlap nothing.
                unsafe { copy(from, at(*joined as u32 as usize), to, at(i), dtype.size()) };
            }
        }
    }
}

/// The bits of element `i`.
///
/// # Safety
/// `from` has that many elements of `dtype`.
unsafe fn read(from: *const u8, dtype: DType, i: usize) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        match dtype.size() {
            1 => u64::from(*from.add(i)),
            2 => u64::from(*from.cast::<u16>().add(i)),
            4 => u64::from(*from.cast::<u32>().add(i)),
            _ => *from.cast::<u64>().add(i),
        }
    }
}

/// Copies element `i` to element `j`.
///
/// # Safety
/// Both have that many elements of so many bytes.
unsafe fn copy(from: *const u8, i: usize, to: *mut u8, j: usize, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        match bytes {
            1 => *to.add(j) = *from.add(i),
            2 => *to.cast::<u16>().add(j) = *from.cast::<u16>().add(i),
            4 => *to.cast::<u32>().add(j) = *from.cast::<u32>().add(i),
            _ => *to.cast::<u64>().add(j) = *from.cast::<u64>().add(i),
        }
    }
}
