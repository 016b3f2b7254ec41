//! One function through every stage: `cargo run --release --example hello`.
//!
//! Traces `mean((x + 2)² + 3)`, prints the graph, the kernels, the loops, the machine code and the PTX, the graph of
//! its gradient, and what both compute.

use fulgurite::prelude::*;
use fulgurite::{compiler, lower};

fn f(x: &Tensor) -> Tensor {
    ((x + 2.0).square() + 3.0).mean()
}

fn main() -> Result<()> {
    let x = Tensor::from_vec(&[8], vec![0.0f32, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5])?;
    println!("==== f(x) = mean((x + 2)^2 + 3), stage by stage\n");
    let lowered = lower(|x: Tensor| f(&x), &x)?;
    println!("{lowered}");
    println!("-- PTX, for a GPU\n{}", lowered.ptx()?.ptx);

    println!("==== its gradient\n");
    let gradient = lower(|x: Tensor| grad(f)(&x), &x)?;
    println!("{}\n{}", gradient.optimised, gradient.kernels);

    let value = jit(|x: Tensor| f(&x)).call(x.clone())?;
    let slope = jit(|x: Tensor| grad(f)(&x)).call(x.clone())?;
    println!("==== results\nx       = {x}\nf(x)    = {value}\nf'(x)   = {slope}");

    // The same by the reference interpreter.
    println!("interpreted: {}", compiler::interp::interpret(&lowered.graph, &[x.into_array()?])?[0]);
    Ok(())
}
