//! The precision of contractions.
//!
//! Comes in: [`with_matmul_precision`]. Goes out: the precision that contractions of this thread are recorded with.

use std::cell::Cell;

use crate::graph::Precision;

thread_local! {
    static PRECISION: Cell<Option<Precision>> = const { Cell::new(None) };
}

/// Calls `f`; contractions that this thread records or evaluates within have `precision`, and so have their
/// derivatives. It decides what a GPU with tensor cores computes with; a processor computes with all bits. A compiled
/// function has a program for each precision that it is called within. JAX: `jax.default_matmul_precision`.
///
/// ```
/// use fulgurite_jit::{Precision, Tensor, trace::trace, with_matmul_precision};
///
/// let ty = Tensor::zeros(&[2, 2]).ty().clone();
/// let traced = trace(&[ty.clone(), ty], |x| {
///     vec![with_matmul_precision(Precision::Tf32, || x[0].matmul(&x[1])), x[0].matmul(&x[1])]
/// })?;
/// let text = traced.graph.to_string();
/// assert_eq!(text.matches("dot_general").count(), 2);
/// assert_eq!(text.matches("precision=tf32").count(), 1);
/// # Ok::<(), fulgurite_jit::Error>(())
/// ```
pub fn with_matmul_precision<R>(precision: Precision, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Precision>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PRECISION.set(self.0);
        }
    }
    let _restore = Restore(PRECISION.replace(Some(precision)));
    f()
}

/// The precision of [`with_matmul_precision`] around this call.
#[inline]
pub fn matmul_precision() -> Option<Precision> {
    PRECISION.get()
}
