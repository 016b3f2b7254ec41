//! Whether the default types have 64 bits.
//!
//! Comes in: [`with_x64`]. Goes out: the types that weak numbers, counts and means of this thread get.

use std::cell::Cell;

use crate::types::DType;

thread_local! {
    static X64: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f`; if `enabled`, types that are chosen within have 64 bits where they have 32 otherwise: those of numbers
/// beside bools and integers, of sums of integers, of positions, and those that two types are promoted to. Types that
/// are named, as in `convert(DType::F64)`, are what they say in either case. A compiled function has a program for
/// each. JAX: `jax.enable_x64`.
///
/// ```
/// use fulgurite_jit::{DType, Tensor, with_x64};
///
/// let mask = Tensor::full(&[3], true, DType::Bool);
/// assert_eq!((&mask + 1).dtype(), DType::I32);
/// assert_eq!(with_x64(true, || &mask + 1).dtype(), DType::I64);
/// ```
pub fn with_x64<R>(enabled: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            X64.set(self.0);
        }
    }
    let _restore = Restore(X64.replace(enabled));
    f()
}

/// Whether the default types have 64 bits: that of [`with_x64`] around this call.
#[inline]
pub fn x64() -> bool {
    X64.get()
}

/// The type of integers that are of no other.
pub(super) fn default_int() -> DType {
    if x64() { DType::I64 } else { DType::I32 }
}

/// The type of floats that are of no other.
pub(super) fn default_float() -> DType {
    if x64() { DType::F64 } else { DType::F32 }
}

/// The type of sums and products of `dtype`, as in `jax.numpy`: integers narrower than the default get that, with or
/// without a sign as they have; bools are counted.
pub(super) fn summed(dtype: DType) -> DType {
    let default = default_int();
    if dtype == DType::Bool || (dtype.is_signed_int() && dtype.size() < default.size()) {
        default
    } else if dtype.is_unsigned_int() && dtype.size() < default.size() {
        if x64() { DType::U64 } else { DType::U32 }
    } else {
        dtype
    }
}
