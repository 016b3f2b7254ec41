//! Calls with other arguments than the function has.

use fulgurite::prelude::*;

#[jit]
fn step(model: Tensor, x: &Tensor) -> Tensor {
    &model + x
}

fn call(model: Tensor, x: Tensor) -> Result<Tensor> {
    let y: Tensor = step(model.clone(), &x);
    step(model, x)
}
