//! Batched matrix products, called by address from compiled steps.
//!
//! In comes a [`Gemm`], decided once at compile time from extents and strides; then, at each step,
//! three addresses and some scratch.  Out comes C, every element of it the chain
//! `acc = fma(a_k, b_k, acc)` over k in ascending order from +0.0.  That chain is the contract:
//! blocking, packing and vector width change speed and never a bit of the result, so AVX-512, AVX2
//! and portable code agree exactly (but for which NaN a NaN is).
//!
//! Not done here: threads (but see [`gemm_range_f32`]), epilogues, and the cutting of very long k
//! into chunks, which is the planner's, since it changes results.
//!
//! - `mod.rs`: what callers see; `plan.rs`: the choice of tiles, blocks and packing;
//! - `nest.rs`: the loops that follow the plan; `tile.rs`: the microkernels; `pack.rs`: copies;
//! - `avx512.rs`, `avx2.rs`, `portable.rs`: the register files.

#![allow(
    clippy::needless_range_loop,
    reason = "loops over registers have constant trip counts and index several arrays at once"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod lanes;
mod nest;
mod pack;
mod plan;
mod portable;
#[cfg(test)]
mod tests;
mod tile;

use super::isa::Isa;

/// A batch of products `C[i] = A[i]·B[i]`, `i < batch`, each `m` x `k` times `k` x `n`, with
/// strides in elements, and how it will be run.
///
/// Strides may be anything: 0 repeats an operand, transposed operands just have their strides
/// exchanged.
#[repr(C)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// How many products.
    pub batch: usize,
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B: the summed axis.
    pub k: usize,
    /// Strides of A along batch, m, k.
    pub a: [isize; 3],
    /// Strides of B along batch, k, n.
    pub b: [isize; 3],
    /// Strides of C along batch, m, n; the last is 1.
    pub c: [isize; 3],
    /// The instruction set it runs on.
    pub isa: Isa,

    // What follows is the plan: the product as it is run, d[r, l] = Σ_k x[r, k]·y[k, l], where x is
    // broadcast and y is read in vectors of lanes.
    /// Whether x is B and y is A, so that lanes run along m.
    swapped: bool,
    /// Bytes in an element.
    element: usize,
    /// Products left after the batch was folded into rows or lanes where strides allow.
    products: usize,
    rows: usize,
    lanes: usize,
    /// Strides of x along product, row, k.
    x: [isize; 3],
    /// Strides of y along product, k, lane.
    y: [isize; 3],
    /// Strides of d along product, row, lane.
    d: [isize; 3],
    /// Tiles are `tile_rows` high (the first `tall_tiles` of `row_tiles`) or one less (the others),
    /// so that no tile is left with a sliver.
    tile_rows: usize,
    tall_tiles: usize,
    row_tiles: usize,
    /// Vectors in a full panel of lanes.
    tile_vectors: usize,
    /// Lanes that are run together, over one packed block of y.
    lane_block: usize,
    lane_blocks: usize,
    /// Steps of k that are run together.
    depth_block: usize,
    /// Whether x and y are copied to scratch in the order in which kernels read them.
    pack_x: bool,
    /// Tiles whose rows of x are packed together.
    packed_tiles: usize,
    pack_y: bool,
    /// Whether y, contiguous along k, is transposed in registers instead.
    strided: bool,
    /// Whether C is larger than the nearer caches.
    far_d: bool,
    /// Whether d is made in scratch and then scattered, because lanes are not contiguous in C.
    staged: bool,
    y_pack_bytes: usize,
    x_pack_bytes: usize,
    stage_bytes: usize,
}

impl Gemm {
    /// Plans a product.  `element_size` is 4 for `f32` and 8 for `f64`.  Unless the batch may be
    /// folded, each of its products has as many tasks as the others, in order.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        batch: usize,
        m: usize,
        n: usize,
        k: usize,
        a: [isize; 3],
        b: [isize; 3],
        c: [isize; 3],
        element_size: usize,
        isa: Isa,
        may_fold: bool,
    ) -> Gemm {
        plan::plan(batch, m, n, k, a, b, c, element_size, isa, may_fold)
    }

    /// How much scratch each concurrent call needs.
    pub fn scratch_bytes(&self) -> usize {
        self.y_pack_bytes + self.x_pack_bytes + self.stage_bytes
    }

    /// Floating-point operations, a multiplication and an addition each counting as one; as many as can be counted.
    pub fn flops(&self) -> u64 {
        crate::types::product([2, self.batch, self.m, self.n, self.k]) as u64
    }

    /// How many tasks the work divides into.  Any split of `0..tasks()` into ranges, run in any
    /// order or at once, each with its own scratch, gives the same C; few long ranges pack less
    /// than many short.
    pub fn tasks(&self) -> usize {
        self.products * self.lane_blocks * self.row_tiles
    }
}

/// The part of C that tasks `begin..end` of [`Gemm::tasks`] make, for `f32`: what one thread runs. An end beyond the
/// last task means all of them.
///
/// # Safety
/// - `gemm` points to a [`Gemm`] made by [`Gemm::new`] with element size 4, for an instruction set
///   that this machine has.
/// - `a` and `b` are readable, and `c` writable, wherever extents and strides reach; `c` overlaps
///   neither itself nor the others.
/// - `scratch` is 64-byte aligned and [`Gemm::scratch_bytes`] long, and no one else's during the
///   call.
/// - No task runs twice at once.
pub unsafe extern "C" fn gemm_range_f32(
    gemm: *const Gemm,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    scratch: *mut u8,
    begin: usize,
    end: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let gemm = &*gemm;
        match gemm.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::range_f32(gemm, a, b, c, scratch, begin, end),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::range_f32(gemm, a, b, c, scratch, begin, end),
            _ => portable::range_f32(gemm, a, b, c, scratch, begin, end),
        }
    }
}

/// The part of C that tasks `begin..end` of [`Gemm::tasks`] make, for `f64`.
///
/// # Safety
/// As for [`gemm_range_f32`], with element size 8.
pub unsafe extern "C" fn gemm_range_f64(
    gemm: *const Gemm,
    a: *const f64,
    b: *const f64,
    c: *mut f64,
    scratch: *mut u8,
    begin: usize,
    end: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let gemm = &*gemm;
        match gemm.isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::range_f64(gemm, a, b, c, scratch, begin, end),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::range_f64(gemm, a, b, c, scratch, begin, end),
            _ => portable::range_f64(gemm, a, b, c, scratch, begin, end),
        }
    }
}
