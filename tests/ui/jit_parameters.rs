//! Parameters are trees, by value or borrowed.

use fulgurite::prelude::*;

struct Model;

impl Model {
    #[jit]
    fn method(&self, x: Tensor) -> Tensor {
        x
    }
}

#[jit]
fn mutable(x: &mut Tensor) {}

#[jit]
fn mutable_inside(x: (Tensor, &mut Tensor)) {}

#[jit]
fn slice(x: &[Tensor]) -> Tensor {
    x[0].clone()
}

#[jit]
fn reference_inside(x: Vec<&Tensor>) -> Tensor {
    x[0].clone()
}

#[jit]
fn static_reference(#[jit(static)] n: &usize) {}

#[jit]
fn other_attribute(#[jit(donate)] x: Tensor) -> Tensor {
    x
}

#[jit]
fn bare_attribute(#[jit] x: Tensor) -> Tensor {
    x
}

#[jit]
fn conditional(#[cfg(unix)] x: Tensor) -> Tensor {
    x
}
