//! The types that microkernels and packing are written in: a vector register, a tile of a product, and the source of a
//! packed panel.

use crate::fuse::Tap;

/// A vector register and its operations.
///
/// Every method that computes is `#[inline(always)]` in its implementations, and every caller is inlined into a
/// function with the right `#[target_feature]`. So one generic microkernel compiles to AVX-512, AVX2 and portable code.
///
/// # Safety
/// All methods require the instruction set that the implementing type stands for, and pointers
/// valid for the lanes that are read or written.
pub(super) trait SimdVector: Copy {
    /// One lane.
    type Scalar: Copy;
    /// A mask of the first lanes of a vector.
    type Mask: Copy;
    /// `WIDTH` vectors: a square block of scalars.
    type Block: AsRef<[Self]>;
    /// SimdVector per vector.
    const WIDTH: usize;
    /// Whether a masked load costs no more than an unmasked one. Then one loop serves all tiles.
    const FREE_MASK: bool;

    unsafe fn zero() -> Self;
    unsafe fn splat(from: *const Self::Scalar) -> Self;
    unsafe fn load(from: *const Self::Scalar) -> Self;
    unsafe fn store(self, to: *mut Self::Scalar);
    /// The mask of the first `lanes` lanes, from 1 to `WIDTH`.
    unsafe fn mask(lanes: usize) -> Self::Mask;
    /// SimdVector outside the mask read as zero and touch no memory.
    unsafe fn load_masked(from: *const Self::Scalar, mask: Self::Mask) -> Self;
    /// SimdVector outside the mask touch no memory.
    unsafe fn store_masked(self, to: *mut Self::Scalar, mask: Self::Mask);
    /// `self * by + onto`, rounded once.
    unsafe fn fma(self, by: Self, onto: Self) -> Self;
    /// The transpose of `rows` x `columns` scalars (each from 1 to `WIDTH`) at `from`, whose rows
    /// are contiguous, with a stride of `stride`: vector c is column c.  SimdVector after the last row repeat
    /// scalars that were read; vectors after the last column are unspecified.
    unsafe fn transpose(from: *const Self::Scalar, stride: isize, rows: usize, columns: usize) -> Self::Block;
    /// The compiled microkernel of `rows` x `vectors`, a pair that `plan::max_rows` allows.
    unsafe fn microkernel(rows: usize, vectors: usize) -> Microkernel<Self::Scalar>;
    /// The compiled [`super::tile::run_strided`] of `rows`, from 1 to `MAX_STRIDED_ROWS`.
    unsafe fn strided_microkernel(rows: usize) -> Microkernel<Self::Scalar>;
    /// The compiled [`super::pack::pack`].
    unsafe fn pack(from: PanelSource<Self::Scalar>, lanes: usize, depth: usize, to: *mut Self::Scalar, panel: usize);
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

/// The source of a panel, with the strides of its lanes and of k.
#[derive(Clone, Copy)]
pub(super) struct PanelSource<S> {
    pub(super) at: *const S,
    pub(super) lane: isize,
    pub(super) k: isize,
}

/// The arguments of a microkernel. Each element of C is one chain of `fma` in the order of the sum:
///
/// ```text
/// c[r, l] = (resume ? c[r, l] : +0)
///         + Σ_tap Σ_k a[tap.a + r·a_row + k·a_k] · b[tap.b + k·b_k + l]
/// ```
///
/// A plain product has one tap with both offsets 0.  A convolution has one tap per element of its window: A is the
/// image shifted by the tap, B the weights of the tap. The tile stays in registers over the taps of a call.
#[repr(C)]
pub(super) struct Tile<S> {
    pub(super) k: usize,
    pub(super) a: *const S,
    pub(super) a_row: isize,
    pub(super) a_k: isize,
    pub(super) b: *const S,
    pub(super) b_k: isize,
    pub(super) c: *mut S,
    pub(super) c_row: isize,
    /// The active lanes of the last vector, from 1 to the width.
    pub(super) last: usize,
    /// Whether to accumulate onto C.
    pub(super) resume: bool,
    /// Whether C exceeds the caches. Its lines are then prefetched for writing.
    pub(super) non_temporal: bool,
    /// The address to prefetch for the next tile, one cache line per step of k, and the stride of those lines.
    pub(super) prefetch: *const S,
    pub(super) prefetch_stride: isize,
    pub(super) taps: *const Tap,
    pub(super) tap_count: usize,
}

/// A compiled microkernel.
pub(super) type Microkernel<S> = unsafe fn(&Tile<S>);
