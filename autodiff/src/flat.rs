//! From functions on trees to functions on lists of leaves, which the transformations work on, and back; and what the
//! transformations share: running a graph, and failing.

use fulgurite_jit::graph::{Graph, Op, ValueId};
use fulgurite_jit::trace::{Traced, reapply, trace};
use fulgurite_jit::{Error, Tensor, TensorType, Tree, leaves, unflatten};

/// A function on leaves. It leaves the structure of its results behind, see [`flat`].
pub(crate) type FlatFn<'a> = dyn FnMut(&[Tensor]) -> Vec<Tensor> + 'a;

/// `f`, which takes a tree like `like`, as a function on leaves. When it has run, its result is in `structure`; only
/// the structure of that is of use, as the leaves belong to a trace that has ended.
pub(crate) fn flat<'a, T: Tree, O: Tree>(
    mut f: impl FnMut(T) -> O + 'a,
    like: &'a T,
    structure: &'a mut Option<O>,
) -> impl FnMut(&[Tensor]) -> Vec<Tensor> + 'a {
    move |xs| {
        let y = f(unflatten(like, xs.iter().cloned()));
        let ys = leaves(&y);
        *structure = Some(y);
        ys
    }
}

/// Results in the structure that a function called through [`flat`] has left behind.
pub(crate) fn unflat<O: Tree>(structure: Option<O>, ys: impl IntoIterator<Item = Tensor>) -> O {
    unflatten(&structure.expect("a transformation always runs its function"), ys)
}

/// The same tree again; its leaves are handles to the same data.
pub(crate) fn copy<T: Tree>(tree: &T) -> T {
    tree.map(&mut |leaf| leaf.clone())
}

/// Why a function could not be transformed, and the types that its results would have had.
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) types: Vec<TensorType>,
}

impl Failed {
    /// Poisoned tensors in place of the results.
    pub(crate) fn results(&self) -> Vec<Tensor> {
        failed(&self.error, &self.types)
    }
}

/// Poisoned tensors of these types.
pub(crate) fn failed<'a>(error: &Error, types: impl IntoIterator<Item = &'a TensorType>) -> Vec<Tensor> {
    types.into_iter().map(|ty| Tensor::failed(ty.clone(), error.clone())).collect()
}

/// The types of tensors.
pub(crate) fn types(tensors: &[Tensor]) -> Vec<TensorType> {
    tensors.iter().map(|x| x.ty().clone()).collect()
}

/// Traces `f` on stand-ins of these types.
pub(crate) fn trace_flat(inputs: &[TensorType], f: &mut FlatFn<'_>) -> Result<Traced, Failed> {
    let mut guesses = Vec::new();
    let traced = trace(inputs, |params| {
        let ys = f(params);
        guesses = types(&ys);
        ys
    });
    traced.map_err(|error| Failed { error, types: guesses })
}

/// Which values do `roots` depend on? They themselves are among them.
pub(crate) fn needed(graph: &Graph, roots: impl IntoIterator<Item = ValueId>) -> Vec<bool> {
    let mut needed = vec![false; graph.nodes.len()];
    for root in roots {
        needed[root.index()] = true;
    }
    for id in graph.ids().rev() {
        if needed[id.index()] {
            for x in &graph.node(id).operands {
                needed[x.index()] = true;
            }
        }
    }
    needed
}

/// The sum of two tangents or cotangents, where `None` is zero.
pub(crate) fn add(x: Option<Tensor>, y: Option<Tensor>) -> Option<Tensor> {
    match (x, y) {
        (Some(x), Some(y)) => Some(x + y),
        (x, None) => x,
        (None, y) => y,
    }
}

/// Records the chosen values of `graph` in the current trace. Those that `values` holds already (the inputs, at the
/// least) are left as they are.
pub(crate) fn replay(graph: &Graph, chosen: &[bool], values: &mut [Option<Tensor>]) {
    for id in graph.ids().filter(|id| chosen[id.index()]) {
        if values[id.index()].is_some() {
            continue;
        }
        let node = graph.node(id);
        debug_assert!(!matches!(node.op, Op::Param(_)), "inputs are given");
        let operands: Vec<&Tensor> = node.operands.iter().map(|x| at(values, *x)).collect();
        values[id.index()] = Some(reapply(node, &operands));
    }
}

/// The tensor that stands for a value that has been recorded.
pub(crate) fn at(values: &[Option<Tensor>], id: ValueId) -> &Tensor {
    values[id.index()].as_ref().expect("operands come before what is made of them, and are needed if it is")
}
