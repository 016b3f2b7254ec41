//! Batched matrix products, called by address from compiled steps.
//!
//! Comes in: a [`Gemm`], planned at compile time from extents and strides; at each step, three addresses and scratch
//! memory. Goes out: C. Every element of C is the chain `acc = fma(a_k, b_k, acc)` from +0.0, over the taps of the
//! product in order, and for each over k in ascending order. The chain is the contract: blocking, packing and vector
//! width do not change a bit of the result, so AVX-512, AVX2 and portable code agree exactly, except for NaN payloads.
//!
//! Not done here: threads (but see [`gemm_range_f32`]), epilogues, and splitting k into chunks, which would change
//! results.
//!
//! - `mod.rs`: the interface; the choice of tiles, blocks and packing is `lower/gemm.rs`;
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
mod portable;
#[cfg(test)]
mod tests;
mod tile;
mod vector;

use crate::lower::machine::Isa;

pub use crate::lower::gemm::Gemm;

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
