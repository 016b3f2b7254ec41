//! Results that are no trees, and errors of another kind.

use fulgurite::prelude::*;

#[jit]
fn number(x: Tensor) -> f32 {
    1.0
}

#[jit]
fn other_error(x: Tensor) -> std::result::Result<Tensor, String> {
    Ok(x)
}
