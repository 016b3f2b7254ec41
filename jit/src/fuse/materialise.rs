//! Which values are stored. A value that is not stored is computed where it is used, as often as it is used.
//!
//! Stored are: results, operands and results of matrix products, reductions, pads, concatenations; what a division-like
//! reshape needs; and elementwise values that are dear and used more than once (or repeated by a broadcast). Storing
//! too much costs little: `merge` removes the stores that nobody outside a kernel reads.

use crate::graph::{BinaryOp, Graph, Op, OpClass, UnaryOp, ValueId};

/// From this cost on an elementwise value that is used more than once is stored. An add costs 1.
const DEAR: u32 = 8;

/// From this cost on a value that a broadcast repeats [`REPEATS`] times or more is stored.
const DEAR_REPEATED: u32 = 4;

/// How often a broadcast must repeat a value for it to count.
const REPEATS: usize = 4;

/// A longer expression than this is cut, by its cost or by how deep it is, since what costs nothing may be deep too.
const LONGEST: u32 = 400;

/// Is the op only another view of its operand?
pub(super) fn is_movement(op: &Op) -> bool {
    op.class() == OpClass::Movement
}

/// Is a value of the op computed element by element from elements at the same place? A result of an elementwise op is.
pub(super) fn is_elementwise(op: &Op) -> bool {
    matches!(op.class(), OpClass::Elementwise | OpClass::Projection)
}

/// An elementwise value: which result of which op, of what.
pub(super) struct Element<'g> {
    pub(super) op: &'g Op,
    pub(super) index: u32,
    pub(super) operands: &'g [ValueId],
}

/// What the elementwise value `id` is computed by.
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

/// The value that `x` is a plain reshape of (through any number of reshapes).
pub(super) fn reshape_base(graph: &Graph, mut x: ValueId) -> ValueId {
    while let Op::Reshape(_) = graph.node(x).op {
        x = graph.node(x).operands[0];
    }
    x
}

/// A mask of the values that are stored. `forced` are values that must be.
pub(super) fn stored(graph: &Graph, forced: &[bool]) -> Vec<bool> {
    let n = graph.nodes.len();
    let mut stored = forced.to_vec();
    // How often a value is used, and how much it is repeated, seen through the movement ops after it.
    let mut uses = vec![0u32; n];
    let mut repeats = vec![1usize; n];
    for &output in &graph.outputs {
        let base = reshape_base(graph, output);
        uses[base.index()] += 1;
        stored[base.index()] = true;
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
        if matches!(node.op.class(), OpClass::Contraction | OpClass::Reduction | OpClass::Assembly) {
            stored[i] = true;
        }
        // Each result of an op is computed by itself where it is used.
        let count = if node.op.results() > 1 { uses[i] } else { 1 };
        for x in &node.operands {
            uses[x.index()] += count;
            // What is repeated inside an expression is repeated with it.
            if is_elementwise(&node.op) && !stored[i] {
                repeats[x.index()] = repeats[x.index()].max(repeats[i]);
            }
        }
    }
    // What each value is a view of.
    let mut base: Vec<usize> = Vec::with_capacity(n);
    for id in graph.ids() {
        let node = graph.node(id);
        let is_view = is_movement(&node.op) && !stored[id.index()];
        base.push(if is_view { base[node.operands[0].index()] } else { id.index() });
        if let Op::Dot(_) = node.op {
            node.operands.iter().for_each(|x| stored[base[x.index()]] = true);
        }
    }
    let (mut cost, mut depth) = (vec![0u32; n], vec![0u32; n]);
    for id in graph.ids() {
        let node = graph.node(id);
        let i = id.index();
        if stored[i] || !(is_elementwise(&node.op) || is_movement(&node.op)) {
            continue;
        }
        let inside: u32 = node.operands.iter().map(|x| cost[x.index()]).sum();
        cost[i] = inside + op_cost(&node.op);
        depth[i] = 1 + node.operands.iter().map(|x| depth[x.index()]).max().unwrap_or(0);
        let dear = cost[i] >= DEAR && uses[i] > 1;
        let dear_repeated = cost[i] >= DEAR_REPEATED && repeats[i] >= REPEATS;
        let is_dear =
            is_elementwise(&node.op) && node.op.results() == 1 && (dear || dear_repeated || cost[i] > LONGEST);
        // A reshape is read where its operand is stored.
        let is_deep = depth[i] > LONGEST && node.op.results() == 1 && !matches!(node.op, Op::Reshape(_));
        if is_dear || is_deep {
            stored[i] = true;
            (cost[i], depth[i]) = (0, 0);
        }
    }
    stored
}

/// Roughly how many lane instructions an op takes.
fn op_cost(op: &Op) -> u32 {
    match op {
        Op::Unary(op) => match op {
            UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round => 1,
            UnaryOp::Sign | UnaryOp::IsFinite => 3,
            UnaryOp::Sqrt => 5,
            UnaryOp::Rsqrt => 8,
            UnaryOp::Exp
            | UnaryOp::Exp2
            | UnaryOp::Expm1
            | UnaryOp::Log
            | UnaryOp::Log1p
            | UnaryOp::Sin
            | UnaryOp::Cos
            | UnaryOp::Tan
            | UnaryOp::Asin
            | UnaryOp::Acos
            | UnaryOp::Atan
            | UnaryOp::Sinh
            | UnaryOp::Cosh
            | UnaryOp::Tanh
            | UnaryOp::Asinh
            | UnaryOp::Acosh
            | UnaryOp::Atanh
            | UnaryOp::Sigmoid
            | UnaryOp::Softplus
            | UnaryOp::Cbrt
            | UnaryOp::Erf
            | UnaryOp::Erfc
            | UnaryOp::ErfInv => 20,
        },
        Op::Binary(op) => match op {
            BinaryOp::Add
            | BinaryOp::Sub
            | BinaryOp::Mul
            | BinaryOp::And
            | BinaryOp::Or
            | BinaryOp::Xor
            | BinaryOp::Shl
            | BinaryOp::Shr
            | BinaryOp::Sar => 1,
            BinaryOp::Max | BinaryOp::Min => 2,
            BinaryOp::Div => 4,
            BinaryOp::Rem => 10,
            BinaryOp::Pow => 60,
            BinaryOp::Atan2 => 30,
        },
        Op::Threefry => 70,
        Op::Compare(_) | Op::Select | Op::Convert(_) => 1,
        _ => 0,
    }
}
