//! What a function under `jit`, `grad` and `vmap` may take and return.

use fulgurite::prelude::*;

fn call(x: Tensor) {
    let _ = jit(|x: Tensor| 1.0f32);
    let _ = grad(|x: &f32| Tensor::scalar(*x))(&1.0);
    let _ = vmap(|x: String| x, 0)(String::new());
}
