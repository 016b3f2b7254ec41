//! Rebuilds a graph value by value, with hash-consing.
//!
//! A pass walks over the old graph and maps each value to a value of the new graph. Values with the same op and
//! operands are merged. Not done: values without users are not removed; `dce` removes them.

use std::hash::BuildHasher;
use std::panic::Location;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::graph::{BinaryOp, Graph, Node, Op, Operands, ValueId};
use crate::types::TensorType;

/// Walks over `graph` in order. `step` gets each node with its operands in the new graph, and returns the value that
/// replaces it.
pub(super) fn rebuild(graph: &Graph, mut step: impl FnMut(&mut Rebuild, &Node, Operands) -> ValueId) -> Graph {
    let count = graph.nodes.len();
    let mut new = Rebuild { uses: Vec::with_capacity(count), ..Rebuild::default() };
    new.graph.nodes.reserve(count);
    new.table.reserve(count, |_| unreachable!("the table is empty"));
    let uses = graph.uses();
    let mut remap: Vec<ValueId> = Vec::with_capacity(count);
    for (node, uses) in graph.nodes.iter().zip(uses) {
        let operands = node.operands.iter().map(|x| remap[x.index()]).collect();
        new.location = node.location;
        let value = step(&mut new, node, operands);
        new.uses[value.index()] += uses;
        remap.push(value);
    }
    new.graph.params = graph.params.iter().map(|x| remap[x.index()]).collect();
    new.graph.outputs = graph.outputs.iter().map(|x| remap[x.index()]).collect();
    new.graph
}

/// The new graph under construction.
#[derive(Default)]
pub(super) struct Rebuild {
    graph: Graph,
    table: HashTable<ValueId>,
    hasher: DefaultHashBuilder,
    /// The source location of values that are added.
    location: Option<&'static Location<'static>>,
    /// For each value, the number of uses of the old values that map to it.
    uses: Vec<u32>,
}

impl Rebuild {
    /// The graph so far, without its inputs and results.
    pub(super) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Whether `x` has at most one use. An old value that is mapped to `x` later can add uses.
    pub(super) fn has_one_use(&self, x: ValueId) -> bool {
        self.uses[x.index()] <= 1
    }

    /// The value of this op on these operands: an existing one, or a new one.
    pub(super) fn intern(&mut self, op: Op, operands: Operands, ty: TensorType) -> ValueId {
        let nodes = &self.graph.nodes;
        let hasher = &self.hasher;
        let hash = key_hash(hasher, &op, &operands);
        let equal = |&id: &ValueId| {
            let node = &nodes[id.index()];
            node.op == op && canonical_operands(&op, &node.operands) == canonical_operands(&op, &operands)
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
    hasher.hash_one((op, canonical_operands(op, operands)))
}

/// The operands as a key of the table: sorted for commutative ops. The node keeps its order.
fn canonical_operands(op: &Op, operands: &Operands) -> Operands {
    let mut operands = Operands::from_slice(operands);
    if let Op::Binary(op) = op
        && is_commutative(*op)
    {
        operands.sort_unstable();
    }
    operands
}

/// Whether `x op y` and `y op x` are bit-identical.
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
