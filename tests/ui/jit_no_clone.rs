//! What is borrowed is cloned, which shares its buffers.

use fulgurite::prelude::*;

#[derive(Tree)]
struct Model {
    weight: Tensor,
}

#[jit]
fn predict(model: &Model) -> Tensor {
    model.weight.clone()
}
