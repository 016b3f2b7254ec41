//! Fields that are no trees, of a struct and of an enum.

use fulgurite::prelude::*;

#[derive(Tree)]
struct Layer {
    weight: Tensor,
    stride: usize,
}

#[derive(Tree)]
enum Head {
    Named(Tensor, String),
}

#[derive(Tree)]
struct Borrowed<'a> {
    weight: &'a Tensor,
}
