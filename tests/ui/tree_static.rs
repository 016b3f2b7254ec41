//! A static field is hashed and cloned; one with floats is compared by its bits.

use fulgurite::prelude::*;

struct Plain;

#[derive(Tree)]
struct NotHashed {
    weight: Tensor,
    #[tree(static)]
    options: Plain,
}

#[derive(Tree)]
struct FloatsAndMore {
    weight: Tensor,
    #[tree(static)]
    options: (f64, Plain),
}
