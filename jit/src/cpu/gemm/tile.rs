//! The microkernel: one register tile of a product, written once for every register file.
//!
//! In comes a [`Tile`]: for each step of k, `MR` scalars of x, each broadcast, and `NV` vectors of
//! y.  Out goes the `MR` x `NV` tile of d = x·y, held in registers from the first k to the last.
//! Nothing here knows about cache blocks, packing, or which of A and B plays x: that is `nest.rs`.

use super::pack::Source;

/// A vector register and the few operations on it that products need.
///
/// Every method that computes is `#[inline(always)]` in its implementations, and every caller ends
/// up inside a function that carries the right `#[target_feature]`: that is how one generic kernel
/// compiles to AVX-512, to AVX2 and to portable code.
///
/// # Safety
/// All methods require the instruction set that the implementing type stands for, and pointers
/// valid for the lanes that are read or written.
pub(super) trait Lanes: Copy {
    /// One lane.
    type Scalar: Copy;
    /// What selects the first lanes of a vector.
    type Mask: Copy;
    /// `WIDTH` vectors: a square block of scalars.
    type Block: AsRef<[Self]>;
    /// Lanes per vector.
    const WIDTH: usize;
    /// Whether a masked load costs no more than a plain one, so that one loop serves all tiles.
    const FREE_MASK: bool;

    unsafe fn zero() -> Self;
    unsafe fn splat(from: *const Self::Scalar) -> Self;
    unsafe fn load(from: *const Self::Scalar) -> Self;
    unsafe fn store(self, to: *mut Self::Scalar);
    /// The mask of the first `lanes` lanes, from 1 to `WIDTH`.
    unsafe fn mask(lanes: usize) -> Self::Mask;
    /// Lanes outside the mask read as zero and touch no memory.
    unsafe fn load_masked(from: *const Self::Scalar, mask: Self::Mask) -> Self;
    /// Lanes outside the mask touch no memory.
    unsafe fn store_masked(self, to: *mut Self::Scalar, mask: Self::Mask);
    /// `self * by + onto`, rounded once.
    unsafe fn fma(self, by: Self, onto: Self) -> Self;
    /// The transpose of `rows` x `columns` scalars (each from 1 to `WIDTH`) at `from`, whose rows
    /// are contiguous and `stride` apart: vector c is column c.  Lanes after the last row repeat
    /// something that was read; vectors after the last column are anything.
    unsafe fn transpose(from: *const Self::Scalar, stride: isize, rows: usize, columns: usize) -> Self::Block;
    /// The compiled kernel of `rows` x `vectors`, a pair that `Isa::most_rows` allows.
    unsafe fn kernel(rows: usize, vectors: usize) -> Kernel<Self::Scalar>;
    /// The compiled [`run_strided`] of `rows`, from 1 to [`MOST_STRIDED_ROWS`].
    unsafe fn strided_kernel(rows: usize) -> Kernel<Self::Scalar>;
    /// The compiled [`super::pack::pack`].
    unsafe fn pack(from: Source<Self::Scalar>, lanes: usize, depth: usize, to: *mut Self::Scalar, panel: usize);
    /// The compiled [`super::pack::unpack`].
    unsafe fn unpack(
        from: *const Self::Scalar,
        from_row: usize,
        rows: usize,
        lanes: usize,
        to: *mut Self::Scalar,
        to_lane: isize,
    );
}

/// The most rows for which transposing y in registers, again for every tile, beats packing it.
pub(super) const MOST_STRIDED_ROWS: usize = 4;

/// One term of a batch-reduce product: where its x and its y lie, in scalars from the tile's own.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Term {
    pub(super) x: isize,
    pub(super) y: isize,
}

/// What one call of a microkernel computes, each output one chain of `fma` in the order of the sum:
///
/// ```text
/// d[r, l] = (resume ? d[r, l] : +0)
///         + Σ_term Σ_k x[term.x + r·x_row + k·x_k] · y[term.y + k·y_k + l]
/// ```
///
/// A plain product has one term with both offsets 0.  A convolution has one term for each tap of
/// its window, in the order of its k: x is the image shifted by the tap, y the weights of the tap,
/// and the tile stays in registers over the whole window.
#[repr(C)]
pub(super) struct Tile<S> {
    pub(super) k: usize,
    pub(super) x: *const S,
    pub(super) x_row: isize,
    pub(super) x_k: isize,
    pub(super) y: *const S,
    pub(super) y_k: isize,
    pub(super) d: *mut S,
    pub(super) d_row: isize,
    /// How many lanes of the last vector exist, from 1 to the width.
    pub(super) last: usize,
    /// Whether to go on from the sums in d.
    pub(super) resume: bool,
    /// Whether d is likely to lie in no cache that is near.
    pub(super) far_d: bool,
    /// What is read after this tile, a line for each step of k: from where, and from one to the next.
    pub(super) ahead: *const S,
    pub(super) ahead_step: isize,
    pub(super) terms: *const Term,
    pub(super) term_count: usize,
}

/// A compiled microkernel.
pub(super) type Kernel<S> = unsafe fn(&Tile<S>);

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
