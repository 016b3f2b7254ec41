//! Routines: precompiled library code that drivers call by address.
//!
//! Comes in: a [`Routine`], the addresses of its buffers, a range of its tasks. Goes out: those tasks' results. Nothing
//! is allocated here. The results do not depend on the partition of the tasks.

mod lanes;
mod matrices;
mod sort;

use crate::fuse::Routine;
use crate::types::DType;

/// Runs tasks `begin..end` of a routine; `end` is clamped to their number.
///
/// # Safety
/// - `buffers` points to the addresses of the operands, then of the results, each valid for what the routine says.
/// - `scratch` is aligned to 64 bytes and has [`Routine::scratch_bytes`], for this call alone.
/// - No other call runs one of the tasks at the same time.
pub(super) unsafe extern "C" fn run_routine(
    routine: *const Routine,
    buffers: *const *mut u8,
    scratch: *mut u8,
    begin: usize,
    end: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let routine = &*routine;
        let tasks = begin..end.min(routine.tasks());
        match routine {
            Routine::Sort { length, inner, keys, dtypes, .. } => {
                let buffers = std::slice::from_raw_parts(buffers, 2 * dtypes.len());
                sort::sort(*length, *inner, *keys, dtypes, buffers, scratch, tasks);
            }
            Routine::Cholesky { order, dtype, .. } => {
                let buffers = *buffers.cast::<[*mut u8; 2]>();
                match dtype {
                    DType::F32 => matrices::cholesky::<f32, 8>(*order, buffers, scratch, tasks),
                    DType::F64 => matrices::cholesky::<f64, 4>(*order, buffers, scratch, tasks),
                    _ => unreachable!("a verified graph has matrices of f32 and f64, not of {dtype}"),
                }
            }
            Routine::TriangularSolve { how, order, columns, dtype, .. } => {
                let buffers = *buffers.cast::<[*mut u8; 3]>();
                let extents = [*order, *columns];
                match dtype {
                    DType::F32 => matrices::triangular_solve::<f32, 8>(*how, extents, buffers, scratch, tasks),
                    DType::F64 => matrices::triangular_solve::<f64, 4>(*how, extents, buffers, scratch, tasks),
                    _ => unreachable!("a verified graph has matrices of f32 and f64, not of {dtype}"),
                }
            }
            Routine::Matrices(routine) => lanes::run_matrices(routine, buffers, scratch, tasks),
        }
    }
}
