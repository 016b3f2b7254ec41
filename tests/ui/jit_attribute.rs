//! Arguments of the attribute, and what it is put on.

use fulgurite::prelude::*;

#[jit(static)]
fn static_argument(x: Tensor) -> Tensor {
    x
}

#[jit(programs = 0)]
fn no_programs(x: Tensor) -> Tensor {
    x
}

#[jit(keep = 3)]
fn unknown_argument(x: Tensor) -> Tensor {
    x
}

#[jit]
struct NotAFunction;

#[jit]
mod not_a_function {}
