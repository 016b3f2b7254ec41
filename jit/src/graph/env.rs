//! What the values of a graph are to whoever interprets it: arrays, tensors, tensors with tangents.

use smallvec::{SmallVec, smallvec};

use super::{Graph, Node, Op, ValueId};

/// For each node its results, once they are known.
#[derive(Clone, Debug)]
pub struct Env<T>(Vec<SmallVec<[T; 1]>>);

impl<T> Env<T> {
    /// Nothing is known.
    pub fn new(graph: &Graph) -> Self {
        Env(graph.nodes.iter().map(|_| SmallVec::new()).collect())
    }

    /// The value of `id`, a node of one result.
    ///
    /// # Panics
    /// If it is not known: an operand comes before its users.
    pub fn get(&self, id: ValueId) -> &T {
        self.find(id).expect("operands precede their users, and are live if these are")
    }

    /// The value of `id`, if it is known.
    pub fn find(&self, id: ValueId) -> Option<&T> {
        self.0[id.index()].first()
    }

    /// Sets the value of `id`, a node of one result.
    pub fn set(&mut self, id: ValueId, value: T) {
        self.set_all(id, [value]);
    }

    /// Sets all results of `id`.
    pub fn set_all(&mut self, id: ValueId, results: impl IntoIterator<Item = T>) {
        self.0[id.index()] = results.into_iter().collect();
    }

    /// Computes the node `id`: an input is taken from `inputs`, a projection from its op, and everything else is what
    /// `apply` makes of the operands.
    pub fn compute(
        &mut self,
        graph: &Graph,
        id: ValueId,
        inputs: &[T],
        apply: impl FnOnce(&Node, &[&T]) -> SmallVec<[T; 1]>,
    ) where
        T: Clone,
    {
        let node = graph.node(id);
        let results = match (&node.op, self.projected(node)) {
            (Op::Param(i), _) => smallvec![inputs[*i].clone()],
            (_, Some(result)) => smallvec![result.clone()],
            (_, None) => {
                let operands: SmallVec<[&T; 4]> = node.operands.iter().map(|&x| self.get(x)).collect();
                apply(node, &operands)
            }
        };
        self.0[id.index()] = results;
    }

    /// Forgets the value of `id`, which is not asked for again.
    pub fn forget(&mut self, id: ValueId) {
        self.0[id.index()].clear();
    }

    /// The value of `node`, if it is a projection.
    pub fn projected(&self, node: &Node) -> Option<&T> {
        match node.op {
            Op::Result(index) => self.0[node.operands[0].index()].get(index as usize),
            _ => None,
        }
    }
}
