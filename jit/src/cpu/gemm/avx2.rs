//! The 256-bit register file: 16 registers of 8 `f32` or 4 `f64`, with FMA and masked loads.
//!
//! Comes in: the generic microkernels, packing and loop nest. Goes out: their AVX2 instances.  Blocking is not
//! decided here, except for the tiles that fit the registers: `rows * vectors` accumulators, `vectors` of B and one
//! broadcast of A in 16.

use super::Gemm;
use super::nest;
use super::pack;
use super::tile;
use super::vector::{Microkernel, PanelSource, SimdVector, Tile};
use core::arch::x86_64::*;

/// # Safety
/// See [`super::gemm_range_f32`]; and the machine has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn range_f32(
    g: &Gemm,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    scratch: *mut u8,
    begin: usize,
    end: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { nest::range::<__m256>(g, a, b, c, scratch, begin, end) }
}

/// # Safety
/// See [`super::gemm_range_f64`]; and the machine has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn range_f64(
    g: &Gemm,
    a: *const f64,
    b: *const f64,
    c: *mut f64,
    scratch: *mut u8,
    begin: usize,
    end: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { nest::range::<__m256d>(g, a, b, c, scratch, begin, end) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn tile<V: SimdVector, const MR: usize, const NV: usize>(tile: &Tile<V::Scalar>) {
    // SAFETY: the caller's promise.
    unsafe { tile::run::<V, MR, NV>(tile) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn strided<V: SimdVector, const MR: usize>(tile: &Tile<V::Scalar>) {
    // SAFETY: the caller's promise.
    unsafe { tile::run_strided::<V, MR>(tile) }
}

#[target_feature(enable = "avx2,fma")]
#[inline(never)]
unsafe fn pack<V: SimdVector>(
    from: PanelSource<V::Scalar>,
    lanes: usize,
    depth: usize,
    to: *mut V::Scalar,
    panel: usize,
) {
    // SAFETY: the caller's promise.
    unsafe { pack::pack::<V>(from, lanes, depth, to, panel) }
}

#[target_feature(enable = "avx2,fma")]
#[inline(never)]
unsafe fn unpack<V: SimdVector>(
    from: *const V::Scalar,
    from_row: usize,
    rows: usize,
    lanes: usize,
    to: *mut V::Scalar,
    to_lane: isize,
) {
    // SAFETY: the caller's promise.
    unsafe { pack::unpack::<V>(from, from_row, rows, lanes, to, to_lane) }
}

/// # Safety
/// `rows` is from 1 to `max_rows(isa)[vectors - 1]`.
#[inline(always)]
#[rustfmt::skip]
unsafe fn microkernel<V: SimdVector>(rows: usize, vectors: usize) -> Microkernel<V::Scalar> {
    let microkernels: &[Microkernel<V::Scalar>] = match vectors {
        1 => const {
            &[
                tile::<V, 1, 1>, tile::<V, 2, 1>, tile::<V, 3, 1>, tile::<V, 4, 1>,
                tile::<V, 5, 1>, tile::<V, 6, 1>, tile::<V, 7, 1>, tile::<V, 8, 1>,
            ]
        },
        2 => const {
            &[
                tile::<V, 1, 2>, tile::<V, 2, 2>, tile::<V, 3, 2>, tile::<V, 4, 2>,
                tile::<V, 5, 2>, tile::<V, 6, 2>,
            ]
        },
        3 => const { &[tile::<V, 1, 3>, tile::<V, 2, 3>, tile::<V, 3, 3>] },
        _ => const { &[tile::<V, 1, 4>, tile::<V, 2, 4>] },
    };
    // SAFETY: the caller's promise.
    unsafe { *microkernels.get_unchecked(rows - 1) }
}

// SAFETY: of every block below: the trait asks its callers for AVX2 with FMA and for valid
// pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl SimdVector for __m256 {
    type Scalar = f32;
    type Mask = __m256i;
    type Block = [Self; 8];
    const WIDTH: usize = 8;
    const FREE_MASK: bool = false;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { _mm256_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        unsafe { _mm256_broadcast_ss(&*from) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn mask(lanes: usize) -> __m256i {
        unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
    }
    #[inline(always)]
    unsafe fn load_masked(from: *const f32, mask: __m256i) -> Self {
        unsafe { _mm256_maskload_ps(from, mask) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, to: *mut f32, mask: __m256i) {
        unsafe { _mm256_maskstore_ps(to, mask, self) }
    }
    #[inline(always)]
    unsafe fn fma(self, by: Self, onto: Self) -> Self {
        unsafe { _mm256_fmadd_ps(self, by, onto) }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: isize, rows: usize, columns: usize) -> [Self; 8] {
        unsafe {
            let mut x = [_mm256_setzero_ps(); 8];
            let mask = Self::mask(columns);
            let mut row = from;
            for r in 0..8 {
                x[r] = if columns == 8 { Self::load(row) } else { Self::load_masked(row, mask) };
                row = row.wrapping_offset(if r + 1 < rows { stride } else { 0 });
            }
            // First 4x4 within each 128-bit half: then x[4g + j] holds, in half q, rows 4g..4g+4 of
            // column 4q + j.
            for g in [0, 4] {
                let (lo, hi) = (_mm256_unpacklo_ps(x[g], x[g + 1]), _mm256_unpackhi_ps(x[g], x[g + 1]));
                let (lo2, hi2) = (_mm256_unpacklo_ps(x[g + 2], x[g + 3]), _mm256_unpackhi_ps(x[g + 2], x[g + 3]));
                let pairs = [lo, lo2, hi, hi2].map(|v| _mm256_castps_pd(v));
                x[g] = _mm256_castpd_ps(_mm256_unpacklo_pd(pairs[0], pairs[1]));
                x[g + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(pairs[0], pairs[1]));
                x[g + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(pairs[2], pairs[3]));
                x[g + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(pairs[2], pairs[3]));
            }
            // Then the 2x2 of halves.
            let mut out = [_mm256_setzero_ps(); 8];
            for j in 0..4 {
                out[j] = _mm256_permute2f128_ps::<0x20>(x[j], x[4 + j]);
                out[4 + j] = _mm256_permute2f128_ps::<0x31>(x[j], x[4 + j]);
            }
            out
        }
    }
    #[inline(always)]
    unsafe fn microkernel(rows: usize, vectors: usize) -> Microkernel<f32> {
        unsafe { microkernel::<Self>(rows, vectors) }
    }
    #[inline(always)]
    unsafe fn strided_microkernel(rows: usize) -> Microkernel<f32> {
        let microkernels = [strided::<Self, 1>, strided::<Self, 2>, strided::<Self, 3>, strided::<Self, 4>];
        unsafe { *microkernels.get_unchecked(rows - 1) }
    }
    #[inline(always)]
    unsafe fn pack(from: PanelSource<f32>, lanes: usize, depth: usize, to: *mut f32, panel: usize) {
        unsafe { pack::<Self>(from, lanes, depth, to, panel) }
    }
    #[inline(always)]
    unsafe fn unpack(from: *const f32, from_row: usize, rows: usize, lanes: usize, to: *mut f32, to_lane: isize) {
        unsafe { unpack::<Self>(from, from_row, rows, lanes, to, to_lane) }
    }
}

// SAFETY: of every block below: the trait asks its callers for AVX2 with FMA and for valid
// pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl SimdVector for __m256d {
    type Scalar = f64;
    type Mask = __m256i;
    type Block = [Self; 4];
    const WIDTH: usize = 4;
    const FREE_MASK: bool = false;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { _mm256_setzero_pd() }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f64) -> Self {
        unsafe { _mm256_broadcast_sd(&*from) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f64) -> Self {
        unsafe { _mm256_loadu_pd(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f64) {
        unsafe { _mm256_storeu_pd(to, self) }
    }
    #[inline(always)]
    unsafe fn mask(lanes: usize) -> __m256i {
        unsafe { _mm256_cmpgt_epi64(_mm256_set1_epi64x(lanes as i64), _mm256_setr_epi64x(0, 1, 2, 3)) }
    }
    #[inline(always)]
    unsafe fn load_masked(from: *const f64, mask: __m256i) -> Self {
        unsafe { _mm256_maskload_pd(from, mask) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, to: *mut f64, mask: __m256i) {
        unsafe { _mm256_maskstore_pd(to, mask, self) }
    }
    #[inline(always)]
    unsafe fn fma(self, by: Self, onto: Self) -> Self {
        unsafe { _mm256_fmadd_pd(self, by, onto) }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f64, stride: isize, rows: usize, columns: usize) -> [Self; 4] {
        unsafe {
            let mut x = [_mm256_setzero_pd(); 4];
            let mask = Self::mask(columns);
            let mut row = from;
            for r in 0..4 {
                x[r] = if columns == 4 { Self::load(row) } else { Self::load_masked(row, mask) };
                row = row.wrapping_offset(if r + 1 < rows { stride } else { 0 });
            }
            // First 2x2 within each 128-bit half, then the 2x2 of halves.
            for g in [0, 2] {
                (x[g], x[g + 1]) = (_mm256_unpacklo_pd(x[g], x[g + 1]), _mm256_unpackhi_pd(x[g], x[g + 1]));
            }
            [
                _mm256_permute2f128_pd::<0x20>(x[0], x[2]),
                _mm256_permute2f128_pd::<0x20>(x[1], x[3]),
                _mm256_permute2f128_pd::<0x31>(x[0], x[2]),
                _mm256_permute2f128_pd::<0x31>(x[1], x[3]),
            ]
        }
    }
    #[inline(always)]
    unsafe fn microkernel(rows: usize, vectors: usize) -> Microkernel<f64> {
        unsafe { microkernel::<Self>(rows, vectors) }
    }
    #[inline(always)]
    unsafe fn strided_microkernel(rows: usize) -> Microkernel<f64> {
        let microkernels = [strided::<Self, 1>, strided::<Self, 2>, strided::<Self, 3>, strided::<Self, 4>];
        unsafe { *microkernels.get_unchecked(rows - 1) }
    }
    #[inline(always)]
    unsafe fn pack(from: PanelSource<f64>, lanes: usize, depth: usize, to: *mut f64, panel: usize) {
        unsafe { pack::<Self>(from, lanes, depth, to, panel) }
    }
    #[inline(always)]
    unsafe fn unpack(from: *const f64, from_row: usize, rows: usize, lanes: usize, to: *mut f64, to_lane: isize) {
        unsafe { unpack::<Self>(from, from_row, rows, lanes, to, to_lane) }
    }
}
