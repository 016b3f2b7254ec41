//! A generic type is a tree if its parameters are.

use fulgurite::prelude::*;

#[derive(Tree)]
struct Pair<M> {
    a: M,
    b: Vec<M>,
}

fn takes_a_tree(_: &impl Tree) {}

fn call(good: &Pair<Tensor>, bad: &Pair<u8>) {
    takes_a_tree(good);
    takes_a_tree(bad);
}
