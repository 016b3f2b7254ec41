//! Builds a graph anew from an old one, value by value, without ever adding the same value twice.
//!
//! Every pass that changes values is a walk over the old graph that says what each value becomes. Equal values (same
//! op, same operands) become one here, by hashing. Nothing is removed: values that lost their users stay until `dce`.

use std::hash::BuildHasher;
use std::panic::Location;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::graph::{BinaryOp, Graph, Node, Op, Operands, ValueId};
use crate::types::TensorType;

/// Walks over `graph` in order: `step` adds to the new graph what becomes of each node, whose operands it gets as
/// values of the new graph.
pub(super) fn rebuild(graph: &Graph, mut step: impl FnMut(&mut Rebuild, &Node, Operands) -> ValueId) -> Graph {
    let count = graph.nodes.len();
    let mut new = Rebuild { uses: Vec::with_capacity(count), ..Rebuild::default() };
    new.graph.nodes.reserve(count);
    new.table.reserve(count, |_| unreachable!("the table is empty"));
    let uses = graph.uses();
    let mut becomes: Vec<ValueId> = Vec::with_capacity(count);
    for (node, uses) in graph.nodes.iter().zip(uses) {
        let operands = node.operands.iter().map(|x| becomes[x.index()]).collect();
        new.location = node.location;
        let value = step(&mut new, node, operands);
        new.uses[value.index()] += uses;
        becomes.push(value);
    }
    new.graph.params = graph.params.iter().map(|x| becomes[x.index()]).collect();
    new.graph.outputs = graph.outputs.iter().map(|x| becomes[x.index()]).collect();
    new.graph
}

/// The new graph so far.
#[derive(Default)]
pub(super) struct Rebuild {
    graph: Graph,
    table: HashTable<ValueId>,
    hasher: DefaultHashBuilder,
    /// The user's line that values added now come from.
    location: Option<&'static Location<'static>>,
    /// For each value, the uses of the old values that became it.
    uses: Vec<u32>,
}

impl Rebuild {
    /// The graph so far; its inputs and results are not listed yet.
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Has `x` at most one user, as far as is known? (An old value that becomes `x` later may have more.)
    pub(super) fn is_single(&self, x: ValueId) -> bool {
        self.uses[x.index()] <= 1
    }

    /// The value of this op on these operands: the one there is, or a new one.
    pub(super) fn intern(&mut self, op: Op, operands: Operands, ty: TensorType) -> ValueId {
        let nodes = &self.graph.nodes;
        let hasher = &self.hasher;
        let hash = key_hash(hasher, &op, &operands);
        let equal = |&id: &ValueId| {
            let node = &nodes[id.index()];
            node.op == op && in_order(&op, &node.operands) == in_order(&op, &operands)
        };
        if let Some(&id) = self.table.find(hash, equal) {
            return id;
        }
        let id = ValueId(nodes.len() as u32);
        self.table.insert_unique(hash, id, |&id| key_hash(hasher, &nodes[id.index()].op, &nodes[id.index()].operands));
        self.uses.push(0);
        self.graph.push(Node { op, operands, ty, location: self.location })
    }
}

fn key_hash(hasher: &DefaultHashBuilder, op: &Op, operands: &Operands) -> u64 {
    hasher.hash_one((op, in_order(op, operands)))
}

/// The operands as the key of the table: x·y and y·x are one value. The value itself keeps the order it came in.
fn in_order(op: &Op, operands: &Operands) -> Operands {
    let mut operands = Operands::from_slice(operands);
    if let Op::Binary(op) = op
        && is_commutative(*op)
    {
        operands.sort_unstable();
    }
    operands
}

/// Is `x op y` the same as `y op x`, to the bit?
pub(super) fn is_commutative(op: BinaryOp) -> bool {
    match op {
        BinaryOp::Add
        | BinaryOp::Mul
        | BinaryOp::Max
        | BinaryOp::Min
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor => true,
        BinaryOp::Sub
        | BinaryOp::Div
        | BinaryOp::Rem
        | BinaryOp::Pow
        | BinaryOp::Atan2
        | BinaryOp::Shl
        | BinaryOp::Shr
        | BinaryOp::Sar => false,
    }
}
