//! The 512-bit register file: 32 registers of 16 `f32` or 8 `f64`, with mask registers.
//!
//! Comes in: the generic microkernels, packing and loop nest. Goes out: their AVX-512 instances.  Blocking is not
//! decided here, except for the tiles that fit the registers: `rows * vectors` accumulators, `vectors` of B and one
//! broadcast of A in 32.

use super::Gemm;
use super::nest;
use super::pack;
use super::tile;
use super::vector::{Microkernel, PanelSource, SimdVector, Tile};
use core::arch::x86_64::*;

/// # Safety
/// See [`super::gemm_range_f32`]; and the machine has AVX-512F.
#[target_feature(enable = "avx512f")]
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
    unsafe { nest::range::<__m512>(g, a, b, c, scratch, begin, end) }
}

/// # Safety
/// See [`super::gemm_range_f64`]; and the machine has AVX-512F.
#[target_feature(enable = "avx512f")]
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
    unsafe { nest::range::<__m512d>(g, a, b, c, scratch, begin, end) }
}

#[target_feature(enable = "avx512f")]
unsafe fn tile<V: SimdVector, const MR: usize, const NV: usize>(tile: &Tile<V::Scalar>) {
    // SAFETY: the caller's promise.
    unsafe { tile::run::<V, MR, NV>(tile) }
}

#[target_feature(enable = "avx512f")]
unsafe fn strided<V: SimdVector, const MR: usize>(tile: &Tile<V::Scalar>) {
    // SAFETY: the caller's promise.
    unsafe { tile::run_strided::<V, MR>(tile) }
}

#[target_feature(enable = "avx512f")]
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

#[target_feature(enable = "avx512f")]
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
                tile::<V, 9, 1>, tile::<V, 10, 1>, tile::<V, 11, 1>, tile::<V, 12, 1>,
                tile::<V, 13, 1>, tile::<V, 14, 1>,
            ]
        },
        2 => const {
            &[
                tile::<V, 1, 2>, tile::<V, 2, 2>, tile::<V, 3, 2>, tile::<V, 4, 2>,
                tile::<V, 5, 2>, tile::<V, 6, 2>, tile::<V, 7, 2>, tile::<V, 8, 2>,
                tile::<V, 9, 2>, tile::<V, 10, 2>, tile::<V, 11, 2>, tile::<V, 12, 2>,
                tile::<V, 13, 2>, tile::<V, 14, 2>,
            ]
        },
        3 => const {
            &[
                tile::<V, 1, 3>, tile::<V, 2, 3>, tile::<V, 3, 3>, tile::<V, 4, 3>,
                tile::<V, 5, 3>, tile::<V, 6, 3>, tile::<V, 7, 3>, tile::<V, 8, 3>,
            ]
        },
        _ => const {
            &[
                tile::<V, 1, 4>, tile::<V, 2, 4>, tile::<V, 3, 4>, tile::<V, 4, 4>,
                tile::<V, 5, 4>, tile::<V, 6, 4>,
            ]
        },
    };
    // SAFETY: the caller's promise.
    unsafe { *microkernels.get_unchecked(rows - 1) }
}

// SAFETY: of every block below: the trait asks its callers for AVX-512F and for valid pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl SimdVector for __m512 {
    type Scalar = f32;
    type Mask = __mmask16;
    type Block = [Self; 16];
    const WIDTH: usize = 16;
    const FREE_MASK: bool = true;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f32) -> Self {
        unsafe { _mm512_set1_ps(*from) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn mask(lanes: usize) -> __mmask16 {
        (0xffff_u32 >> (16 - lanes)) as __mmask16
    }
    #[inline(always)]
    unsafe fn load_masked(from: *const f32, mask: __mmask16) -> Self {
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, to: *mut f32, mask: __mmask16) {
        unsafe { _mm512_mask_storeu_ps(to, mask, self) }
    }
    #[inline(always)]
    unsafe fn fma(self, by: Self, onto: Self) -> Self {
        unsafe { _mm512_fmadd_ps(self, by, onto) }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: isize, rows: usize, columns: usize) -> [Self; 16] {
        unsafe {
            let mut x = [_mm512_setzero_ps(); 16];
            let mask = Self::mask(columns);
            let mut row = from;
            for r in 0..16 {
                x[r] = if columns == 16 { Self::load(row) } else { Self::load_masked(row, mask) };
                row = row.wrapping_offset(if r + 1 < rows { stride } else { 0 });
            }
            // First 4x4 within each 128-bit quarter: then x[4g + j] holds, in quarter q, rows
            // 4g..4g+4 of column 4q + j.
            for g in [0, 4, 8, 12] {
                let (lo, hi) = (_mm512_unpacklo_ps(x[g], x[g + 1]), _mm512_unpackhi_ps(x[g], x[g + 1]));
                let (lo2, hi2) = (_mm512_unpacklo_ps(x[g + 2], x[g + 3]), _mm512_unpackhi_ps(x[g + 2], x[g + 3]));
                let pairs = [lo, lo2, hi, hi2].map(|v| _mm512_castps_pd(v));
                x[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(pairs[0], pairs[1]));
                x[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(pairs[0], pairs[1]));
                x[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(pairs[2], pairs[3]));
                x[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(pairs[2], pairs[3]));
            }
            // Then the 4x4 of quarters.
            let mut out = [_mm512_setzero_ps(); 16];
            for j in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(x[j], x[4 + j]);
                let even2 = _mm512_shuffle_f32x4::<0x88>(x[8 + j], x[12 + j]);
                let odd = _mm512_shuffle_f32x4::<0xdd>(x[j], x[4 + j]);
                let odd2 = _mm512_shuffle_f32x4::<0xdd>(x[8 + j], x[12 + j]);
                out[j] = _mm512_shuffle_f32x4::<0x88>(even, even2);
                out[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd, odd2);
                out[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even, even2);
                out[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd, odd2);
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

// SAFETY: of every block below: the trait asks its callers for AVX-512F and for valid pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl SimdVector for __m512d {
    type Scalar = f64;
    type Mask = __mmask8;
    type Block = [Self; 8];
    const WIDTH: usize = 8;
    const FREE_MASK: bool = true;

    #[inline(always)]
    unsafe fn zero() -> Self {
        unsafe { _mm512_setzero_pd() }
    }
    #[inline(always)]
    unsafe fn splat(from: *const f64) -> Self {
        unsafe { _mm512_set1_pd(*from) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f64) -> Self {
        unsafe { _mm512_loadu_pd(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f64) {
        unsafe { _mm512_storeu_pd(to, self) }
    }
    #[inline(always)]
    unsafe fn mask(lanes: usize) -> __mmask8 {
        (0xff_u32 >> (8 - lanes)) as __mmask8
    }
    #[inline(always)]
    unsafe fn load_masked(from: *const f64, mask: __mmask8) -> Self {
        unsafe { _mm512_maskz_loadu_pd(mask, from) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, to: *mut f64, mask: __mmask8) {
        unsafe { _mm512_mask_storeu_pd(to, mask, self) }
    }
    #[inline(always)]
    unsafe fn fma(self, by: Self, onto: Self) -> Self {
        unsafe { _mm512_fmadd_pd(self, by, onto) }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const f64, stride: isize, rows: usize, columns: usize) -> [Self; 8] {
        unsafe {
            let mut x = [_mm512_setzero_pd(); 8];
            let mask = Self::mask(columns);
            let mut row = from;
            for r in 0..8 {
                x[r] = if columns == 8 { Self::load(row) } else { Self::load_masked(row, mask) };
                row = row.wrapping_offset(if r + 1 < rows { stride } else { 0 });
            }
            // First 2x2 within each 128-bit quarter, then the 4x4 of quarters, as for f32.
            for g in [0, 2, 4, 6] {
                (x[g], x[g + 1]) = (_mm512_unpacklo_pd(x[g], x[g + 1]), _mm512_unpackhi_pd(x[g], x[g + 1]));
            }
            let mut out = [_mm512_setzero_pd(); 8];
            for j in 0..2 {
                let even = _mm512_shuffle_f64x2::<0x88>(x[j], x[2 + j]);
                let even2 = _mm512_shuffle_f64x2::<0x88>(x[4 + j], x[6 + j]);
                let odd = _mm512_shuffle_f64x2::<0xdd>(x[j], x[2 + j]);
                let odd2 = _mm512_shuffle_f64x2::<0xdd>(x[4 + j], x[6 + j]);
                out[j] = _mm512_shuffle_f64x2::<0x88>(even, even2);
                out[2 + j] = _mm512_shuffle_f64x2::<0x88>(odd, odd2);
                out[4 + j] = _mm512_shuffle_f64x2::<0xdd>(even, even2);
                out[6 + j] = _mm512_shuffle_f64x2::<0xdd>(odd, odd2);
            }
            out
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
