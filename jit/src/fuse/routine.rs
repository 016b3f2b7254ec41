//! Routines: kernels that are library code, called by address.
//!
//! A routine works on whole row-major buffers and divides into tasks that do not depend on each other. What it computes
//! is said here; each back end has its own code.

use std::fmt;

use smallvec::SmallVec;

use super::kernel::BufferId;
use crate::types::{DType, join, product};

/// A routine and its buffers.
#[derive(Clone, Debug)]
pub struct RoutineKernel {
    /// What is computed.
    pub routine: Routine,
    /// The buffers that are read, each in full.
    pub operands: SmallVec<[BufferId; 4]>,
    /// The buffers that are written, each in full.
    pub results: SmallVec<[BufferId; 4]>,
}

/// What a routine computes. It does not depend on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Routine {
    /// Sorts lines of several arrays by the first `keys` of them: see [`Op::Sort`](crate::graph::Op::Sort). An array is
    /// `outer` x `length` x `inner`; a task is a line along the middle axis.
    Sort {
        /// The product of the extents before the sorted axis.
        outer: usize,
        /// The extent of the sorted axis.
        length: usize,
        /// The product of the extents behind it.
        inner: usize,
        /// How many arrays are keys.
        keys: usize,
        /// The element types of the arrays.
        dtypes: SmallVec<[DType; 4]>,
    },
}

impl Routine {
    /// The number of tasks. Any partition of them gives the same results.
    pub fn tasks(&self) -> usize {
        match self {
            Routine::Sort { outer, inner, .. } => outer * inner,
        }
    }

    /// Bytes of scratch memory of each concurrent call.
    pub fn scratch_bytes(&self) -> usize {
        match self {
            // An order-preserving key and an index per element; the keys of each array, if there are several.
            Routine::Sort { length, keys, .. } => length.saturating_mul(16 + 8 * keys).next_multiple_of(64),
        }
    }

    /// Roughly how many operations it takes.
    pub fn operations(&self) -> usize {
        match self {
            Routine::Sort { outer, length, inner, dtypes, .. } => {
                let steps = 4 * (length.max(&2).ilog2() as usize + dtypes.len());
                product([*outer, *inner, *length, steps])
            }
        }
    }
}

impl fmt::Display for RoutineKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.routine {
            Routine::Sort { outer, length, inner, keys, dtypes } => {
                write!(f, "sort [{outer}, {length}, {inner}] of {} by {keys}", join(dtypes, ", "))
            }
        }
    }
}
