//! Maps over the float leaves of several trees of one structure.

use std::panic::Location;

use fulgurite_jit::{Error, Tensor, Tree, leaves, named_leaves};

/// `tree` with `f(x, others)` in place of each float leaf `x`; other leaves are not changed. Where one of the others
/// has another structure or other shapes (the state or the gradients of another model), the result is poisoned with an
/// error that names the first leaf that does not fit.
#[track_caller]
pub(super) fn map_floats<P: Tree, const N: usize>(
    tree: &P,
    others: [&P; N],
    f: impl Fn(&Tensor, [&Tensor; N]) -> Tensor,
) -> P {
    let location = Location::caller();
    let all = others.map(|other| leaves(other));
    let own = leaves(tree);
    let fault = all.iter().zip(others).find_map(|(leaves, other)| {
        let fits = |i: &usize| match (own.get(*i), leaves.get(*i)) {
            (Some(x), Some(y)) => x.shape() == y.shape(),
            _ => false,
        };
        let i = (0..own.len().max(leaves.len())).find(|i| !fits(i))?;
        Some(misfit(&named_leaves(tree), &named_leaves(other), i))
    });
    let mut i = 0;
    tree.map(&mut |x| {
        i += 1;
        match &fault {
            Some(reason) => Tensor::failed(x.ty().clone(), Error::op("optimizer", reason, location)),
            None if !x.dtype().is_float() => x.clone(),
            None => f(x, std::array::from_fn(|k| &all[k][i - 1])),
        }
    })
}

/// The error message for leaf `i` of two trees that does not fit.
fn misfit(own: &[(String, Tensor)], other: &[(String, Tensor)], i: usize) -> String {
    let show = |tree: &[(String, Tensor)]| match tree.get(i) {
        Some((name, leaf)) if name.is_empty() => leaf.ty().to_string(),
        Some((name, leaf)) => format!("`{name}`: {}", leaf.ty()),
        None => format!("only {} leaves", tree.len()),
    };
    let (own, other) = (show(own), show(other));
    format!(
        "gradients, updates, state and parameters are not of one model: leaf {i} is {own} in one, {other} in another"
    )
}

/// Zeros in place of every leaf.
#[track_caller]
pub(super) fn zeros_like<P: Tree>(tree: &P) -> P {
    tree.map(&mut Tensor::zeros_like)
}
