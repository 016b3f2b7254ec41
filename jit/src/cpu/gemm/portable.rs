//! The portable register file: a vector is an array of 16 bytes of scalars, with `mul_add`.
//!
//! Comes in: the generic microkernels, packing and loop nest. Goes out: their portable instances, with the same results
//! to the bit as the AVX instances. On AArch64, whose baseline has fused multiply-add and 128-bit vectors, the compiler
//! vectorises the arrays to NEON. On targets without fused multiply-add (baseline x86-64), `mul_add` is a slow library
//! call.

use super::Gemm;
use super::nest;
use super::pack;
use super::tile;
use super::vector::{Microkernel, PanelSource, SimdVector, Tile};

/// # Safety
/// See [`super::gemm_range_f32`].
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
    unsafe { nest::range::<[f32; 4]>(g, a, b, c, scratch, begin, end) }
}

/// # Safety
/// See [`super::gemm_range_f64`].
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
    unsafe { nest::range::<[f64; 2]>(g, a, b, c, scratch, begin, end) }
}

unsafe fn tile<V: SimdVector, const MR: usize, const NV: usize>(tile: &Tile<V::Scalar>) {
    // SAFETY: the caller's promise.
    unsafe { tile::run::<V, MR, NV>(tile) }
}

unsafe fn strided<V: SimdVector, const MR: usize>(tile: &Tile<V::Scalar>) {
    // SAFETY: the caller's promise.
    unsafe { tile::run_strided::<V, MR>(tile) }
}

/// The scalar operations of a vector.
trait Scalar: Copy {
    const ZERO: Self;
    fn fma(self, by: Self, onto: Self) -> Self;
}

impl Scalar for f32 {
    const ZERO: f32 = 0.0;
    #[inline(always)]
    fn fma(self, by: f32, onto: f32) -> f32 {
        self.mul_add(by, onto)
    }
}

impl Scalar for f64 {
    const ZERO: f64 = 0.0;
    #[inline(always)]
    fn fma(self, by: f64, onto: f64) -> f64 {
        self.mul_add(by, onto)
    }
}

// SAFETY: of every block below: the trait asks its callers for valid pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<S: Scalar, const N: usize> SimdVector for [S; N] {
    type Scalar = S;
    type Mask = usize;
    type Block = [Self; N];
    const WIDTH: usize = N;
    const FREE_MASK: bool = false;

    #[inline(always)]
    unsafe fn zero() -> Self {
        [S::ZERO; N]
    }
    #[inline(always)]
    unsafe fn splat(from: *const S) -> Self {
        unsafe { [*from; N] }
    }
    #[inline(always)]
    unsafe fn load(from: *const S) -> Self {
        unsafe { from.cast::<[S; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut S) {
        unsafe { to.cast::<[S; N]>().write_unaligned(self) }
    }
    #[inline(always)]
    unsafe fn mask(lanes: usize) -> usize {
        lanes
    }
    #[inline(always)]
    unsafe fn load_masked(from: *const S, mask: usize) -> Self {
        unsafe { core::array::from_fn(|lane| if lane < mask { *from.add(lane) } else { S::ZERO }) }
    }
    #[inline(always)]
    unsafe fn store_masked(self, to: *mut S, mask: usize) {
        for lane in 0..N {
            if lane < mask {
                unsafe { *to.add(lane) = self[lane] }
            }
        }
    }
    #[inline(always)]
    unsafe fn fma(self, by: Self, onto: Self) -> Self {
        core::array::from_fn(|lane| self[lane].fma(by[lane], onto[lane]))
    }
    #[inline(always)]
    unsafe fn transpose(from: *const S, stride: isize, rows: usize, columns: usize) -> [Self; N] {
        let at = |row: usize, column: usize| {
            if row < rows && column < columns {
                unsafe { *from.offset(row as isize * stride).add(column) }
            } else {
                S::ZERO
            }
        };
        core::array::from_fn(|column| core::array::from_fn(|row| at(row, column)))
    }
    /// `rows` is from 1 to `max_rows(isa)[vectors - 1]`.
    #[inline(always)]
    #[rustfmt::skip]
    unsafe fn microkernel(rows: usize, vectors: usize) -> Microkernel<S> {
        let microkernels: &[Microkernel<S>] = match vectors {
            1 => const {
                &[
                    tile::<Self, 1, 1>, tile::<Self, 2, 1>, tile::<Self, 3, 1>, tile::<Self, 4, 1>,
                    tile::<Self, 5, 1>, tile::<Self, 6, 1>, tile::<Self, 7, 1>, tile::<Self, 8, 1>,
                ]
            },
            2 => const {
                &[
                    tile::<Self, 1, 2>, tile::<Self, 2, 2>, tile::<Self, 3, 2>, tile::<Self, 4, 2>,
                    tile::<Self, 5, 2>, tile::<Self, 6, 2>, tile::<Self, 7, 2>, tile::<Self, 8, 2>,
                ]
            },
            3 => const {
                &[
                    tile::<Self, 1, 3>, tile::<Self, 2, 3>, tile::<Self, 3, 3>, tile::<Self, 4, 3>,
                    tile::<Self, 5, 3>, tile::<Self, 6, 3>,
                ]
            },
            _ => const {
                &[
                    tile::<Self, 1, 4>, tile::<Self, 2, 4>, tile::<Self, 3, 4>, tile::<Self, 4, 4>,
                    tile::<Self, 5, 4>,
                ]
            },
        };
        unsafe { *microkernels.get_unchecked(rows - 1) }
    }
    #[inline(always)]
    unsafe fn strided_microkernel(rows: usize) -> Microkernel<S> {
        let microkernels = [strided::<Self, 1>, strided::<Self, 2>, strided::<Self, 3>, strided::<Self, 4>];
        unsafe { *microkernels.get_unchecked(rows - 1) }
    }
    #[inline(always)]
    unsafe fn pack(from: PanelSource<S>, lanes: usize, depth: usize, to: *mut S, panel: usize) {
        unsafe { pack::pack::<Self>(from, lanes, depth, to, panel) }
    }
    #[inline(always)]
    unsafe fn unpack(from: *const S, from_row: usize, rows: usize, lanes: usize, to: *mut S, to_lane: isize) {
        unsafe { pack::unpack::<Self>(from, from_row, rows, lanes, to, to_lane) }
    }
}
