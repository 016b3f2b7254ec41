//! Leaf by leaf over several trees of one structure, floats only. A helper of the optimisers.

use fulgurite_jit::{Tensor, Tree, leaves};

/// `f(x, others)` in place of each float leaf `x` of `tree`; other leaves stay.
#[track_caller]
pub(super) fn map_floats<P: Tree, const N: usize>(
    tree: &P,
    others: [&P; N],
    f: impl Fn(&Tensor, [&Tensor; N]) -> Tensor,
) -> P {
    let others = others.map(|other| leaves(other));
    let mut i = 0;
    tree.map(&mut |x| {
        let others: [Option<&Tensor>; N] = std::array::from_fn(|k| others[k].get(i));
        i += 1;
        // Gradients and states come from this tree's own structure; one that does not is caught where it is traced.
        if !x.dtype().is_float() || others.iter().any(Option::is_none) {
            return x.clone();
        }
        f(x, others.map(|other| other.unwrap_or(x)))
    })
}

/// Zeros in place of every leaf.
#[track_caller]
pub(super) fn zeros_like<P: Tree>(tree: &P) -> P {
    tree.map(&mut Tensor::zeros_like)
}
