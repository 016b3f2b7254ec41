//! What microkernels and copies are written in: the operations of a vector register, a tile of a product, and where a
//! panel comes from.

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

/// Where a panel comes from.
#[derive(Clone, Copy)]
pub(super) struct Source<S> {
    pub(super) at: *const S,
    pub(super) lane: isize,
    pub(super) k: isize,
}

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
