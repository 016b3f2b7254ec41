//! Parameters that are no trees.

use fulgurite::prelude::*;

#[jit]
fn number(x: Tensor, rate: f32) -> Tensor {
    x
}

#[jit]
fn name(x: Tensor, name: &String) -> Tensor {
    x
}
