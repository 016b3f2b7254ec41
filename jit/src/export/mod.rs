//! Graphs as programs of others.

mod regions;
mod stablehlo;
mod writer;

pub use stablehlo::stablehlo;
