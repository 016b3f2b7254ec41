//! The attribute marks static fields.

use fulgurite::prelude::*;

#[derive(Tree)]
struct Skipped {
    #[tree(skip)]
    a: Tensor,
}

#[derive(Tree)]
struct Bare {
    #[tree]
    a: Tensor,
}

#[derive(Tree)]
#[tree(static)]
struct Whole {
    a: Tensor,
}

#[derive(Tree)]
enum Variant {
    #[tree(static)]
    A(Tensor),
}
