//! A static value is hashed and cloned.

use fulgurite::prelude::*;

#[derive(Clone)]
struct Options {
    rate: f64,
}

#[jit]
fn not_hashed(x: Tensor, #[jit(static)] options: Options) -> Tensor {
    x
}

#[jit]
fn floats_and_more(x: Tensor, #[jit(static)] options: (f64, Options)) -> Tensor {
    x
}
