//! A union does not say which field it holds.

use fulgurite::prelude::*;

#[derive(Tree)]
union Either {
    a: std::mem::ManuallyDrop<Tensor>,
    b: u32,
}
