//! A step is a plain function.

use fulgurite::prelude::*;

#[jit]
async fn asynchronous(x: Tensor) -> Tensor {
    x
}

#[jit]
const fn constant(x: Tensor) -> Tensor {
    x
}

#[jit]
unsafe fn not_safe(x: Tensor) -> Tensor {
    x
}

#[jit]
extern "C" fn foreign(x: Tensor) -> Tensor {
    x
}

#[jit]
fn generic<T: Tree>(x: T) -> T {
    x
}

#[jit]
fn lifetimes<'a>(x: &'a Tensor) -> Tensor {
    x.clone()
}

#[jit]
fn conditional(x: Tensor) -> Tensor
where
    Tensor: Tree,
{
    x
}

#[jit]
fn open_parameter(x: impl Tree) -> Tensor {
    Tensor::zeros(&[1])
}

#[jit]
fn open_result(x: Tensor) -> impl Tree {
    x
}
