//! The microkernel: one register tile of a product, written once for every register file.
//!
//! In comes a [`Tile`]: for each step of k, `MR` scalars of x, each broadcast, and `NV` vectors of
//! y.  Out goes the `MR` x `NV` tile of d = x·y, held in registers from the first k to the last.
//! Nothing here knows about cache blocks, packing, or which of A and B plays x: that is `nest.rs`.

use super::lanes::{Lanes, Tile};

/// The most rows for which transposing y in registers, again for every tile, beats packing it.
pub(super) const MOST_STRIDED_ROWS: usize = 4;

/// The body of every microkernel.
///
/// # Safety
/// The instruction set of `V`, and that all the memory the tile describes is there.
#[inline(always)]
pub(super) unsafe fn run<V: Lanes, const MR: usize, const NV: usize>(tile: &Tile<V::Scalar>) {
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
unsafe fn body<V: Lanes, const MR: usize, const NV: usize, const MASKED: bool>(tile: &Tile<V::Scalar>) {
    // SAFETY: the caller's promise; only lanes within `last` are touched in the last vector.
    unsafe {
        let mask = V::mask(tile.last);
        let mut sums = [[V::zero(); NV]; MR];
        if tile.resume {
            for r in 0..MR {
                sums[r] = load::<V, NV, MASKED>(tile.d.offset(r as isize * tile.d_row), mask);
            }
        } else if tile.far_d {
            for r in 0..MR {
                for v in 0..NV {
                    prefetch_write(tile.d.wrapping_offset(r as isize * tile.d_row).wrapping_add(v * V::WIDTH));
                }
            }
        }
        let (x_row, x_k, y_k) = (tile.x_row, tile.x_k, tile.y_k);
        let mut ahead = tile.ahead;
        for t in 0..tile.term_count {
            let term = *tile.terms.add(t);
            // The steps past the last k leave the array, so they wrap instead of promising
            // otherwise.
            let mut x = tile.x.wrapping_offset(term.x);
            let mut y = tile.y.wrapping_offset(term.y);
            for _ in 0..tile.k {
                prefetch(ahead);
                ahead = ahead.wrapping_offset(tile.ahead_step);
                let ys = load::<V, NV, MASKED>(y, mask);
                for r in 0..MR {
                    let scalar = V::splat(x.offset(r as isize * x_row));
                    for v in 0..NV {
                        sums[r][v] = scalar.fma(ys[v], sums[r][v]);
                    }
                }
                x = x.wrapping_offset(x_k);
                y = y.wrapping_offset(y_k);
            }
        }
        for r in 0..MR {
            let d = tile.d.offset(r as isize * tile.d_row);
            for v in 0..NV {
                let d = d.add(v * V::WIDTH);
                // Masked stores are slow where masked loads are not, so whole vectors never use
                // one.
                if v == NV - 1 && tile.last < V::WIDTH {
                    sums[r][v].store_masked(d, mask);
                } else {
                    sums[r][v].store(d);
                }
            }
        }
    }
}

/// Asks for the line at `from`, which need not be there, for a later time.
#[inline(always)]
fn prefetch<S>(from: *const S) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing that could fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// Asks for the line at `to`, which need not be there, to be written to soon.
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
unsafe fn load<V: Lanes, const NV: usize, const MASKED: bool>(from: *const V::Scalar, mask: V::Mask) -> [V; NV] {
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

/// The kernel for few rows where the lanes of y lie apart and its k is contiguous, as in a matrix
/// times a vector: one vector of lanes, whose `WIDTH` streams of k are transposed in registers,
/// each block just before it is used.  In the tile, `y_k` is the stride from lane to lane, and
/// there is one term.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
pub(super) unsafe fn run_strided<V: Lanes, const MR: usize>(tile: &Tile<V::Scalar>) {
    // SAFETY: the caller's promise; the last block and the last vector are cut to what exists.
    unsafe {
        let mask = V::mask(tile.last);
        let mut sums = [V::zero(); MR];
        if tile.resume {
            for r in 0..MR {
                sums[r] = V::load_masked(tile.d.offset(r as isize * tile.d_row), mask);
            }
        }
        let (x_row, x_k, y_lane) = (tile.x_row, tile.x_k, tile.y_k);
        let (mut x, mut y) = (tile.x, tile.y);
        if tile.last == V::WIDTH {
            for _ in 0..tile.k / V::WIDTH {
                let block = V::transpose(y, y_lane, V::WIDTH, V::WIDTH);
                for c in 0..V::WIDTH {
                    for r in 0..MR {
                        let scalar = V::splat(x.offset(r as isize * x_row));
                        sums[r] = scalar.fma(block.as_ref()[c], sums[r]);
                    }
                    x = x.wrapping_offset(x_k);
                }
                y = y.wrapping_add(V::WIDTH);
            }
        }
        let mut left = tile.k - y.offset_from_unsigned(tile.y);
        while left > 0 {
            let columns = left.min(V::WIDTH);
            let block = V::transpose(y, y_lane, tile.last, columns);
            // The trip count stays constant so that the block stays in registers.
            for c in 0..V::WIDTH {
                if c < columns {
                    for r in 0..MR {
                        let scalar = V::splat(x.offset(r as isize * x_row));
                        sums[r] = scalar.fma(block.as_ref()[c], sums[r]);
                    }
                    x = x.wrapping_offset(x_k);
                }
            }
            y = y.wrapping_add(columns);
            left -= columns;
        }
        for r in 0..MR {
            sums[r].store_masked(tile.d.offset(r as isize * tile.d_row), mask);
        }
    }
}
