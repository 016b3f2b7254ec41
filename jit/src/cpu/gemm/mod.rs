//! Batched matrix products, called by address from compiled steps.
//!
//! Comes in: a [`Gemm`], planned at compile time from extents and strides; at each step, three addresses and scratch
//! memory. Goes out: C. Every element of C is the chain `acc = fma(a_k, b_k, acc)` over k in ascending order from +0.0.
//! The chain is the contract: blocking, packing and vector width do not change a bit of the result, so AVX-512, AVX2
//! and portable code agree exactly, except for NaN payloads.
//!
//! Not done here: threads (but see [`gemm_range_f32`]), epilogues, and splitting k into chunks, which would change
//! results.
//!
//! - `mod.rs`: the interface; `plan.rs`: the choice of tiles, blocks and packing;
//! - `nest.rs`: the loops that follow the plan; `tile.rs`: the microkernels; `pack.rs`: packing;
//! - `vector.rs`: the vector type; `avx512.rs`, `avx2.rs`, `portable.rs`: the register files.

#![allow(
    clippy::needless_range_loop,
    reason = "loops over registers have constant trip counts and index several arrays at once"
)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod nest;
mod pack;
mod plan;
mod portable;
#[cfg(test)]
mod tests;
mod tile;
mod vector;

use super::isa::Isa;

/// A batch of products `C[i] = A[i]·B[i]`, `i < batch`, each `m` x `k` times `k` x `n`, with
/// strides in elements, and its plan.
///
/// Strides are arbitrary: 0 repeats an operand, and a transposed operand has its strides exchanged.
#[repr(C)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gemm {
    /// The number of products.
    pub batch: usize,
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B: the contracted axis.
    pub k: usize,
    /// Strides of A along batch, m, k.
    pub a: [isize; 3],
    /// Strides of B along batch, k, n.
    pub b: [isize; 3],
    /// Strides of C along batch, m, n; the last is 1.
    pub c: [isize; 3],
    /// The instruction set it runs on.
    pub isa: Isa,

    // The plan: the product as run, c[r, l] = Σ_k a[r, k]·b[k, l]. A is broadcast and B is read in vectors of columns.
    // `run_a`, `run_b` and `run_c` are the operands as run.
    /// Whether the transposed problem is run: A is the caller's B, and B the caller's A.
    transposed: bool,
    /// Bytes of an element.
    element: usize,
    /// The batch that remains after it is collapsed into rows or columns if strides allow.
    run_batch: usize,
    rows: usize,
    columns: usize,
    /// Strides of A along batch, row, k.
    run_a: [isize; 3],
    /// Strides of B along batch, k, column.
    run_b: [isize; 3],
    /// Strides of C along batch, row, column.
    run_c: [isize; 3],
    /// Full tiles have `tile_rows` rows (the first `full_tiles` of `row_tiles`), edge tiles one row less. So no edge
    /// tile is much smaller than the others.
    tile_rows: usize,
    full_tiles: usize,
    row_tiles: usize,
    /// Vectors of a full panel of columns.
    tile_vectors: usize,
    /// The block of columns that shares one packed block of B, and the number of blocks.
    column_block: usize,
    column_blocks: usize,
    /// The block of k.
    k_block: usize,
    /// Whether A is packed into scratch memory.
    pack_a: bool,
    /// The number of tiles whose rows of A are packed together.
    packed_tiles: usize,
    /// Whether B is packed into scratch memory.
    pack_b: bool,
    /// Whether B has strided columns and contiguous k, and is transposed in registers instead of packed.
    strided: bool,
    /// Whether C exceeds the second-level cache.
    non_temporal: bool,
    /// Whether C is buffered in scratch memory and copied out, because its columns as run are strided.
    buffered_c: bool,
    b_pack_bytes: usize,
    a_pack_bytes: usize,
    c_buffer_bytes: usize,
}

impl Gemm {
    /// Plans a product.  `element_size` is 4 for `f32` and 8 for `f64`.  `collapse_batch` allows the batch to be
    /// collapsed into rows or columns. Otherwise every product of the batch has the same number of tasks, in order.
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
        collapse_batch: bool,
    ) -> Gemm {
        plan::plan(batch, m, n, k, a, b, c, element_size, isa, collapse_batch)
    }

    /// Bytes of scratch memory of each concurrent call.
    pub fn scratch_bytes(&self) -> usize {
        self.b_pack_bytes + self.a_pack_bytes + self.c_buffer_bytes
    }

    /// The number of floating-point operations; a multiply-add counts as two. Saturates.
    pub fn flops(&self) -> u64 {
        crate::types::product([2, self.batch, self.m, self.n, self.k]) as u64
    }

    /// The number of tasks.  Any partition of `0..tasks()` into ranges, run in any order or concurrently, each with its
    /// own scratch memory, gives the same C.  Few long ranges pack less than many short ones.
    pub fn tasks(&self) -> usize {
        self.run_batch * self.column_blocks * self.row_tiles
    }
}

/// Computes the part of C of tasks `begin..end` of [`Gemm::tasks`], for `f32`. `end` is clamped to the number of tasks.
///
/// # Safety
/// - `gemm` points to a [`Gemm`] made by [`Gemm::new`] with element size 4, for an instruction set
///   that this machine has.
/// - `a` and `b` are readable, and `c` writable, wherever extents and strides reach; `c` overlaps
///   neither itself nor the others.
/// - `scratch` is 64-byte aligned, [`Gemm::scratch_bytes`] long, and not accessed by others during the
///   call.
/// - No task runs twice concurrently.
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

/// Computes the part of C of tasks `begin..end` of [`Gemm::tasks`], for `f64`.
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
