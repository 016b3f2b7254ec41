//! What compiles.

use fulgurite::prelude::*;

#[derive(Tree, Clone)]
struct Conv<M> {
    weight: Tensor,
    bias: Option<Tensor>,
    inner: Vec<M>,
    #[tree(static)]
    stride: usize,
    #[tree(static)]
    eps: f64,
}

#[derive(Tree, Clone)]
enum Head {
    Linear(Tensor),
    None,
}

#[jit]
fn step(model: Conv<Head>, x: &Tensor, #[jit(static)] n: usize, #[jit(static)] rate: f64) -> (Conv<Head>, Tensor) {
    let _ = (n, rate);
    (model, x.clone())
}

#[jit(programs = 8)]
fn checked(x: &Tensor) -> Result<Tensor> {
    Ok(x.clone())
}
