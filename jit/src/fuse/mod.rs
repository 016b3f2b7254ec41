//! Fusion: graph in, kernels out. It decides what is stored.
//!
//! Four steps, a file each: `normalise` brings contractions into one form (`dots`) and divides long reductions
//! (`reductions`); `store` decides which values are stored at all; `build` makes a kernel for each of them, with
//! everything that is not stored inlined as expressions over the kernel's loops; `merge` joins kernels over the same
//! loops, whereupon most stores between them vanish (softmax becomes one kernel). Matrix products are kernels of their
//! own, over strided views of their operands.
//!
//! Not done here: memory (`memory`), loop order and vectors (`loops`).

mod build;
mod canonicalise;
mod index;
mod kernel;
mod materialise;
mod merge;
mod normalise;
mod reductions;

pub use index::Affine;
pub use kernel::{
    Buffer, BufferId, Dim, GemmKernel, Kernel, KernelOp, KernelValue, Kernels, LoopKernel, Output, Slot, Source, Store,
};
pub use reductions::{Order, PARTIALS};

use crate::graph::Graph;

/// The kernels that compute `graph`.
pub fn fuse(graph: &Graph) -> Kernels {
    let graph = normalise::normalise(graph);
    merge::merge(build::build(&graph))
}
