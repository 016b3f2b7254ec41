//! Which values are materialised. All others are recomputed at each use.
//!
//! Materialised are: results; operands and results of matrix products; reductions, pads, concatenations; the operand of
//! a non-affine reshape; and elementwise values that are expensive and used more than once or repeated by a broadcast.
//! To materialise too many costs little: `merge` removes the stores that no other kernel reads.

use crate::graph::{Graph, Node, Op, OpClass, ValueId};

/// An elementwise value that is used more than once is materialised from this cost on. An add costs 1.
const EXPENSIVE: u32 = 8;

/// A value that a broadcast repeats [`REPEATS`] times or more is materialised from this cost on.
const EXPENSIVE_REPEATED: u32 = 4;

/// How often a broadcast repeats a value that counts as repeated.
const REPEATS: usize = 4;

/// An expression of a larger cost or depth is split. Depth counts because views cost nothing.
const LARGEST: u32 = 400;

/// Whether the op is a view of its operand.
pub(super) fn is_movement(op: &Op) -> bool {
    op.class() == OpClass::Movement
}

/// Whether an element of the value depends only on the elements of the operands at the same index. So it is for a
/// result of an elementwise op.
pub(super) fn is_elementwise(graph: &Graph, id: ValueId) -> bool {
    let node = graph.node(id);
    match node.op.class() {
        OpClass::Projection => is_elementwise(graph, node.operands[0]),
        class => class == OpClass::Elementwise,
    }
}

/// Whether the value is a result of an op that no loop computes: a routine or a region writes it to memory.
pub(super) fn is_opaque(graph: &Graph, id: ValueId) -> bool {
    let node = graph.node(id);
    match node.op.class() {
        OpClass::Projection => is_opaque(graph, node.operands[0]),
        class => matches!(class, OpClass::Routine | OpClass::Control),
    }
}

/// Whether a value is computed where it is used, from elements of its operands at some places.
pub(super) fn is_indexing(op: &Op) -> bool {
    op.class() == OpClass::Indexing
}

/// An elementwise value: a result of an op.
pub(super) struct Element<'g> {
    pub(super) op: &'g Op,
    pub(super) index: u32,
    pub(super) operands: &'g [ValueId],
}

/// The op and the operands of the elementwise value `id`.
pub(super) fn element(graph: &Graph, id: ValueId) -> Element<'_> {
    let node = graph.node(id);
    match node.op {
        Op::Result(index) => {
            let of = graph.node(node.operands[0]);
            Element { op: &of.op, index, operands: &of.operands }
        }
        _ => Element { op: &node.op, index: 0, operands: &node.operands },
    }
}

/// Whether an element of the scatter depends on one update at most: there is one window, or one for each element of the
/// axes that operand and indices share.
pub(super) fn is_single(graph: &Graph, node: &Node) -> bool {
    let Op::Scatter { dims, .. } = &node.op else { return true };
    let indices = graph.ty(node.operands[1]);
    let is_paired = |axis: &usize| dims.start_indices_batching_dims.contains(axis);
    (0..indices.rank() - 1).all(|axis| is_paired(&axis) || indices.shape[axis] == 1)
}

/// The value that `x` is a reshape of, through any number of reshapes.
pub(super) fn reshape_base(graph: &Graph, mut x: ValueId) -> ValueId {
    while let Op::Reshape(_) = graph.node(x).op {
        x = graph.node(x).operands[0];
    }
    x
}

/// A mask of the values that are materialised. `must_materialise` marks values that have to be.
pub(super) fn materialised(graph: &Graph, must_materialise: &[bool]) -> Vec<bool> {
    let n = graph.nodes.len();
    let mut materialised = must_materialise.to_vec();
    // How often a value is used and repeated, through the movement ops after it.
    let mut uses = vec![0u32; n];
    let mut repeats = vec![1usize; n];
    for &output in &graph.outputs {
        let base = reshape_base(graph, output);
        uses[base.index()] += 1;
        materialised[base.index()] = true;
    }
    for id in graph.ids().rev() {
        let node = graph.node(id);
        let i = id.index();
        if is_movement(&node.op) {
            let x = node.operands[0].index();
            let grown = match node.op {
                Op::Broadcast { .. } => node.ty.elements() / graph.ty(node.operands[0]).elements().max(1),
                _ => 1,
            };
            uses[x] += uses[i];
            repeats[x] = repeats[x].max(repeats[i].saturating_mul(grown));
            continue;
        }
        if matches!(node.op.class(), OpClass::Contraction | OpClass::Reduction | OpClass::Assembly)
            || is_opaque(graph, id)
        {
            materialised[i] = true;
        }
        if !is_single(graph, node) {
            materialised[i] = true;
        }
        // Each projection recomputes the op.
        let count = if node.results() > 1 { uses[i] } else { 1 };
        for x in &node.operands {
            uses[x.index()] += count;
            // The operands of an inlined expression are repeated with it.
            if is_elementwise(graph, id) && !materialised[i] {
                repeats[x.index()] = repeats[x.index()].max(repeats[i]);
            }
            if is_indexing(&node.op) && !materialised[i] {
                let grown = node.ty.elements() / graph.ty(*x).elements().max(1);
                repeats[x.index()] = repeats[x.index()].max(repeats[i].saturating_mul(grown));
            }
        }
    }
    // The value that each value is a view of.
    let mut base: Vec<usize> = Vec::with_capacity(n);
    for id in graph.ids() {
        let node = graph.node(id);
        let is_view = is_movement(&node.op) && !materialised[id.index()];
        base.push(if is_view { base[node.operands[0].index()] } else { id.index() });
        if is_opaque(graph, id) && node.op.class() != OpClass::Projection {
            node.operands.iter().for_each(|&x| materialised[reshape_base(graph, x).index()] = true);
        }
        if let Op::Dot(..) | Op::Conv(..) = node.op {
            node.operands.iter().for_each(|x| materialised[base[x.index()]] = true);
        }
    }
    let (mut cost, mut depth) = (vec![0u32; n], vec![0u32; n]);
    for id in graph.ids() {
        let node = graph.node(id);
        let i = id.index();
        let inlined = is_elementwise(graph, id) || is_indexing(&node.op);
        if materialised[i] || !(inlined || is_movement(&node.op)) {
            continue;
        }
        let inside: u32 = node.operands.iter().map(|x| cost[x.index()]).sum();
        cost[i] = inside + op_cost(&node.op);
        depth[i] = 1 + node.operands.iter().map(|x| depth[x.index()]).max().unwrap_or(0);
        // Projections are materialised, not their op.
        if node.results() > 1 {
            continue;
        }
        let is_shared = cost[i] >= EXPENSIVE && uses[i] > 1;
        let is_repeated = cost[i] >= EXPENSIVE_REPEATED && repeats[i] >= REPEATS;
        let is_expensive = inlined && (is_shared || is_repeated || cost[i] > LARGEST);
        // A reshape is read from its materialised operand.
        if is_expensive || depth[i] > LARGEST && !matches!(node.op, Op::Reshape(_)) {
            materialised[i] = true;
            (cost[i], depth[i]) = (0, 0);
        }
    }
    materialised
}

/// An estimate of the lane instructions of an op.
fn op_cost(op: &Op) -> u32 {
    match op {
        Op::Unary(op) => op.cost(),
        Op::Binary(op) => op.cost(),
        Op::Threefry => 70,
        Op::Compare(_) | Op::Select | Op::Convert(_) => 1,
        Op::Gather { .. } | Op::Scatter { .. } | Op::DynamicSlice { .. } | Op::DynamicUpdateSlice => 4,
        _ => 0,
    }
}
