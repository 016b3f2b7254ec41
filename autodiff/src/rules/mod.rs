//! The rules of single ops: one exhaustive `match` over the ops per transformation.
//!
//! A graph and tensors for its inputs come in; further ops are recorded in the current trace. Trees and user errors are
//! not handled here.

pub(crate) mod batch;
mod indexing;
pub(crate) mod jvp;
pub(crate) mod transpose;
