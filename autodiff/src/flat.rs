//! What the transformations share.
//!
//! Comes in: a function on trees, or a graph with values. Goes out: a function on lists of leaves and back, the trace
//! of such a function, the recorded values of a graph. No rule of an op is here.

use fulgurite_jit::graph::{Env, Graph, Op, ValueId};
use fulgurite_jit::trace::{Traced, reapply, trace};
use fulgurite_jit::{Error, Tensor, TensorType, Tree, leaves, unflatten};

/// A function on leaves. The structure of its results is stored by [`flat`].
pub(crate) type FlatFn<'a> = dyn FnMut(&[Tensor]) -> Vec<Tensor> + 'a;

/// `f`, which takes a tree like `like`, as a function on leaves. A run stores its result in
/// `structure`. Only the structure is valid: the leaves belong to a trace that has ended.
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

/// Results in the structure that [`flat`] stored.
pub(crate) fn unflat<O: Tree>(structure: Option<O>, ys: impl IntoIterator<Item = Tensor>) -> O {
    unflatten(&structure.expect("a transformation runs its function"), ys)
}

/// A copy of the tree whose leaves are handles to the same data.
pub(crate) fn copy<T: Tree>(tree: &T) -> T {
    tree.map(&mut |leaf| leaf.clone())
}

/// An error of a transformation, and the types of the results it replaces.
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

/// Traces `f` on tracers of these types.
pub(crate) fn trace_flat(inputs: &[TensorType], f: &mut FlatFn<'_>) -> Result<Traced, Failed> {
    let mut guesses = Vec::new();
    let traced = trace(inputs, |params| {
        let ys = f(params);
        guesses = types(&ys);
        ys
    });
    traced.map_err(|error| Failed { error, types: guesses })
}

/// The values that `roots` depend on, `roots` included.
pub(crate) fn live(graph: &Graph, roots: impl IntoIterator<Item = ValueId>) -> Vec<bool> {
    let mut live = vec![false; graph.nodes.len()];
    for root in roots {
        live[root.index()] = true;
    }
    for id in graph.ids().rev() {
        if live[id.index()] {
            for x in &graph.node(id).operands {
                live[x.index()] = true;
            }
        }
    }
    live
}

/// The sum of two tangents or cotangents, where `None` is zero.
pub(crate) fn add(x: Option<Tensor>, y: Option<Tensor>) -> Option<Tensor> {
    match (x, y) {
        (Some(x), Some(y)) => Some(x + y),
        (x, None) => x,
        (None, y) => y,
    }
}

/// Records the selected values of `graph` in the current trace, except those that `env` holds already. It holds the
/// inputs.
pub(crate) fn replay(graph: &Graph, selected: &[bool], env: &mut Env<Tensor>) {
    for id in graph.ids().filter(|id| selected[id.index()]) {
        if env.find(id).is_some() {
            continue;
        }
        debug_assert!(!matches!(graph.node(id).op, Op::Param(_)), "`env` holds the inputs");
        env.compute(graph, id, &[], reapply);
    }
}

/// The values that depend on those that `depends` marks and that one of `outputs` depends on.
pub(crate) fn linear_part<'a>(
    graph: &Graph,
    depends: Vec<bool>,
    outputs: impl IntoIterator<Item = &'a ValueId>,
) -> Vec<bool> {
    let live = live(graph, outputs.into_iter().copied());
    dependent(graph, depends).iter().zip(live).map(|(&depends, live)| depends && live).collect()
}

/// The values that depend on those that `depends` marks, which included.
pub(crate) fn dependent(graph: &Graph, mut depends: Vec<bool>) -> Vec<bool> {
    for id in graph.ids() {
        depends[id.index()] |= graph.node(id).operands.iter().any(|x| depends[x.index()]);
    }
    depends
}

/// The values that depend on the inputs that `is_tangent` picks.
pub(crate) fn dependent_on(graph: &Graph, is_tangent: impl Fn(usize) -> bool) -> Vec<bool> {
    let mut depends = vec![false; graph.nodes.len()];
    graph.params.iter().enumerate().for_each(|(i, param)| depends[param.index()] = is_tangent(i));
    dependent(graph, depends)
}

/// The nonlinear values that linear ones use, each once.
pub(crate) fn residuals(graph: &Graph, linear: &[bool]) -> Vec<ValueId> {
    let mut used = vec![false; graph.nodes.len()];
    for id in graph.ids().filter(|id| linear[id.index()]) {
        for x in &graph.node(id).operands {
            used[x.index()] = !linear[x.index()];
        }
    }
    graph.ids().filter(|id| used[id.index()]).collect()
}
