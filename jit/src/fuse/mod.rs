//! Fusion: graph in, kernels out. It decides which values are materialised, that is, stored in memory.
//!
//! Five steps. `normalise` brings contractions into one form (`canonicalise`) and splits long reductions
//! (`reductions`). `materialise` decides which values are materialised. `build` makes a kernel for each of them; all
//! other values are inlined as expressions over the loops of the kernel. `merge` fuses kernels over the same loops,
//! after which most stores between them are dead (softmax becomes one kernel). `segments` joins small kernels of equal
//! bodies over different buffers. Matrix products are separate kernels, over strided views of their operands.
//!
//! Not done here: loop order and vectors (`loops`), memory planning (`memory`).

mod buffer;
mod build;
mod canonicalise;
mod convolution;
mod fourier;
mod index;
mod kernel;
mod materialise;
mod matrices;
mod merge;
mod normalise;
mod reductions;
mod routine;
mod segments;

pub use index::{Affine, Index};
pub use kernel::{
    Buffer, BufferId, Control, Dim, GemmKernel, Kernel, KernelOp, KernelValue, Kernels, Level, Levels, LoopKernel,
    Order, Output, PARTIALS, RegionKernel, Segment, Slot, Source, Store, Tap,
};
pub use matrices::{MatrixOp, MatrixRoutine, MatrixWork};
pub use routine::{Routine, RoutineKernel, SOLVE_COLUMNS, cholesky_scratch};

use crate::graph::Graph;

/// The kernels that compute `graph`.
pub fn fuse(graph: &Graph) -> Kernels {
    joined(build::build(&normalise::normalise(graph)))
}

/// The kernels of single values, joined.
fn joined(kernels: Kernels) -> Kernels {
    segments::join(merge::merge(kernels))
}
