//! A step returns new values.

use fulgurite::prelude::*;

#[jit]
fn borrowed(x: &Tensor) -> &Tensor {
    x
}

#[jit]
fn borrowed_inside(x: &Tensor) -> (Tensor, &Tensor) {
    (x.clone(), x)
}
