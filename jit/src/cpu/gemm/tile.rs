//! The microkernel: one register tile of a product, generic over the register file.
//!
//! Comes in: a [`Tile`]. Each step of k reads `MR` scalars of A, which are broadcast, and `NV` vectors of B. Goes out: the
//! `MR` a `NV` tile of C, held in registers from the first k to the last. Cache blocks, packing and the transposition of
//! the problem are handled in `nest.rs`.

use super::vector::{SimdVector, Tile};

/// The body of every microkernel.
///
/// # Safety
/// The machine has the instruction set of `V`, and all memory that the tile describes is valid.
#[inline(always)]
pub(super) unsafe fn run<V: SimdVector, const MR: usize, const NV: usize>(tile: &Tile<V::Scalar>) {
    // SAFETY: the caller's promise.
    unsafe {
        if V::FREE_MASK || tile.last < V::WIDTH {
            body::<V, MR, NV, true>(tile)
        } else {
            body::<V, MR, NV, false>(tile)
        }
    }
}

#[inline(always)]
unsafe fn body<V: SimdVector, const MR: usize, const NV: usize, const MASKED: bool>(tile: &Tile<V::Scalar>) {
    // SAFETY: the caller's promise; only the active lanes of the last vector are accessed.
    unsafe {
        let mask = V::mask(tile.last);
        let mut acc = [[V::zero(); NV]; MR];
        if tile.resume {
            for r in 0..MR {
                acc[r] = load::<V, NV, MASKED>(tile.c.offset(r as isize * tile.c_row), mask);
            }
        } else if tile.non_temporal {
            for r in 0..MR {
                for v in 0..NV {
                    prefetch_write(tile.c.wrapping_offset(r as isize * tile.c_row).wrapping_add(v * V::WIDTH));
                }
            }
        }
        let (a_row, a_k, b_k) = (tile.a_row, tile.a_k, tile.b_k);
        let mut next_line = tile.prefetch;
        for t in 0..tile.tap_count {
            let tap = *tile.taps.add(t);
            // The pointers leave the array after the last k, so they advance by wrapping arithmetic.
            let mut a = tile.a.wrapping_offset(tap.a);
            let mut b = tile.b.wrapping_offset(tap.b);
            for _ in 0..tile.k {
                prefetch(next_line);
                next_line = next_line.wrapping_offset(tile.prefetch_stride);
                let columns = load::<V, NV, MASKED>(b, mask);
                for r in 0..MR {
                    let scalar = V::splat(a.offset(r as isize * a_row));
                    for v in 0..NV {
                        acc[r][v] = scalar.fma(columns[v], acc[r][v]);
                    }
                }
                a = a.wrapping_offset(a_k);
                b = b.wrapping_offset(b_k);
            }
        }
        for r in 0..MR {
            let c = tile.c.offset(r as isize * tile.c_row);
            for v in 0..NV {
                let c = c.add(v * V::WIDTH);
                // Masked stores are slow even where masked loads are free, so whole vectors are stored
                // unmasked.
                if v == NV - 1 && tile.last < V::WIDTH {
                    acc[r][v].store_masked(c, mask);
                } else {
                    acc[r][v].store(c);
                }
            }
        }
    }
}

/// Prefetches the line at `from` into the second-level cache. The address may be invalid.
#[inline(always)]
fn prefetch<S>(from: *const S) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint and does not fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// Prefetches the line at `to` for writing. The address may be invalid.
#[inline(always)]
fn prefetch_write<S>(to: *mut S) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as above.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_ET0>(to.cast_const().cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = to;
}

/// `NV` vectors, the last of them masked.
#[inline(always)]
unsafe fn load<V: SimdVector, const NV: usize, const MASKED: bool>(from: *const V::Scalar, mask: V::Mask) -> [V; NV] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut vectors = [V::zero(); NV];
        for v in 0..NV {
            let from = from.add(v * V::WIDTH);
            vectors[v] = if MASKED && v == NV - 1 { V::load_masked(from, mask) } else { V::load(from) };
        }
        vectors
    }
}

/// The microkernel for few rows if the columns of B are strided and its k is contiguous, as in a matrix-vector product.
/// It computes one vector of columns, whose `WIDTH` streams of k are transposed in registers block by block. In the tile,
/// `b_k` is the stride of columns, and there is one tap.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
pub(super) unsafe fn run_strided<V: SimdVector, const MR: usize>(tile: &Tile<V::Scalar>) {
    // SAFETY: the caller's promise; the last block and the last vector are masked to the active lanes.
    unsafe {
        let mask = V::mask(tile.last);
        let mut acc = [V::zero(); MR];
        if tile.resume {
            for r in 0..MR {
                acc[r] = V::load_masked(tile.c.offset(r as isize * tile.c_row), mask);
            }
        }
        let (a_row, a_k, b_column) = (tile.a_row, tile.a_k, tile.b_k);
        let (mut a, mut b) = (tile.a, tile.b);
        if tile.last == V::WIDTH {
            for _ in 0..tile.k / V::WIDTH {
                let block = V::transpose(b, b_column, V::WIDTH, V::WIDTH);
                for column in 0..V::WIDTH {
                    for r in 0..MR {
                        let scalar = V::splat(a.offset(r as isize * a_row));
                        acc[r] = scalar.fma(block.as_ref()[column], acc[r]);
                    }
                    a = a.wrapping_offset(a_k);
                }
                b = b.wrapping_add(V::WIDTH);
            }
        }
        let mut remaining = tile.k - b.offset_from_unsigned(tile.b);
        while remaining > 0 {
            let columns = remaining.min(V::WIDTH);
            let block = V::transpose(b, b_column, tile.last, columns);
            // The trip count stays constant so that the block stays in registers.
            for column in 0..V::WIDTH {
                if column < columns {
                    for r in 0..MR {
                        let scalar = V::splat(a.offset(r as isize * a_row));
                        acc[r] = scalar.fma(block.as_ref()[column], acc[r]);
                    }
                    a = a.wrapping_offset(a_k);
                }
            }
            b = b.wrapping_add(columns);
            remaining -= columns;
        }
        for r in 0..MR {
            acc[r].store_masked(tile.c.offset(r as isize * tile.c_row), mask);
        }
    }
}
