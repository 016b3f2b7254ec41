//! Rules for elementwise ops without arithmetic: `select`, conversions and bitcasts; and for elementwise ops on
//! broadcasts, which move before the broadcast.

use super::{Rewrite, Rule};
use crate::graph::{Node, Op, OpClass, UnaryOp, ValueId};
use crate::types::DType;

type Rewritten = Option<ValueId>;

pub(super) const RULES: &[Rule] = &[
    Rule { name: "select by a constant", apply: select_constant },
    Rule { name: "select of equals", apply: select_equals },
    Rule { name: "select by a negation", apply: select_negation },
    Rule { name: "select of truth values", apply: select_bool },
    Rule { name: "convert to the same", apply: convert_same },
    Rule { name: "convert twice", apply: convert_twice },
    Rule { name: "bitcast to the same", apply: bitcast_same },
    Rule { name: "bitcast twice", apply: bitcast_twice },
    Rule { name: "broadcast last", apply: broadcast_last },
];

/// `true ? x : y = x` and `false ? x : y = y`
fn select_constant(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    if *op != Op::Select {
        return None;
    }
    let pred = w.literal(x[0])?;
    Some(if pred.bits != 0 { x[1] } else { x[2] })
}

/// `p ? x : x = x`
fn select_equals(_: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    (*op == Op::Select && x[1] == x[2]).then(|| x[1])
}

/// `!p ? x : y = p ? y : x`
fn select_negation(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let applies = *op == Op::Select && *w.op(x[0]) == Op::Unary(UnaryOp::Not);
    if applies { w.add(Op::Select, &[w.operand(x[0]), x[2], x[1]]) } else { None }
}

/// `p ? true : false = p` and `p ? false : true = !p`
fn select_bool(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    if *op != Op::Select || w.dtype(x[1]) != DType::Bool {
        return None;
    }
    match (w.literal(x[1])?.bits, w.literal(x[2])?.bits) {
        (1, 0) => Some(x[0]),
        (0, 1) => w.add(Op::Unary(UnaryOp::Not), &[x[0]]),
        _ => None,
    }
}

/// A conversion to the same type.
fn convert_same(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    matches!(op, Op::Convert(to) if *to == w.dtype(x[0])).then(|| x[0])
}

/// `to C (to B x) = to C x` where `B` represents every value of `x`, and the conversion to `C` does not depend on `B`:
/// an integer through a float to another type of integer does, since conversions between integers wrap, and those from
/// floats saturate.
fn convert_twice(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Convert(to) = *op else { return None };
    let Op::Convert(by) = *w.op(x[0]) else { return None };
    let inner = w.operand(x[0]);
    let from = w.dtype(inner);
    let saturates = from.is_int() && by.is_float() && to.is_int() && to != from;
    let exact = by.represents(from) && !saturates;
    if exact { w.add(Op::Convert(to), &[inner]) } else { None }
}

/// A bitcast to the same type.
fn bitcast_same(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    matches!(op, Op::Bitcast(to) if *to == w.dtype(x[0])).then(|| x[0])
}

/// `as C (as B x) = as C x`
fn bitcast_twice(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let applies = matches!(op, Op::Bitcast(_)) && matches!(w.op(x[0]), Op::Bitcast(_));
    if applies { w.add(op.clone(), &[w.operand(x[0])]) } else { None }
}

/// `f(broadcast x, broadcast y) = broadcast f(x, y)` for elementwise `f`, if the operands are broadcast along the same
/// axes: computed once per element before the broadcast. Scalars are broadcast along all axes and match any operand.
fn broadcast_last(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    match op.class() {
        // One of several results.
        OpClass::Projection => {
            let Node { op: of, operands, .. } = w.node(x[0]).clone();
            if of.class() == OpClass::Elementwise { broadcast_result(w, &of, &operands, Some(op)) } else { None }
        }
        OpClass::Elementwise if op.results(x.len()) == 1 => broadcast_result(w, op, x, None),
        _ => None,
    }
}

/// As [`broadcast_last`]; `projection` is the result that is asked for, where there are several.
fn broadcast_result(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId], projection: Option<&Op>) -> Rewritten {
    let shape = w.shape(x[0]).clone();
    // The operand that is not a splat determines the broadcast axes.
    let model = *x.iter().find(|&&x| w.splat(x).is_none()).unwrap_or(&x[0]);
    let Op::Broadcast { dims, .. } = w.op(model) else { return None };
    let dims = dims.clone();
    let small = w.shape(w.operand(model)).clone();
    if small.iter().product::<usize>() >= shape.iter().product() {
        return None;
    }
    let repeats = Op::Broadcast { shape: shape.clone(), dims: dims.clone() };
    let agrees = |x: ValueId| *w.op(x) == repeats && *w.shape(w.operand(x)) == small;
    if !x.iter().all(|&x| w.splat(x).is_some() || agrees(x)) {
        return None;
    }
    let mut operands = Vec::with_capacity(x.len());
    for &x in x {
        operands.push(match w.splat(x) {
            Some(scalar) => w.broadcast(scalar, &small, &[])?,
            None => w.operand(x),
        });
    }
    let mut result = w.add(op.clone(), &operands)?;
    if let Some(projection) = projection {
        result = w.add(projection.clone(), &[result])?;
    }
    w.broadcast(result, &shape, &dims)
}

/// An example of every rule: its name, the inputs, the value before and after.
#[cfg(test)]
pub(super) const CASES: &[super::tests::Case] = &[
    (
        "select by a constant",
        "%0: f32[2]; %1: f32[2]",
        "%2: bool[] = literal false; %3: bool[2] = broadcast_in_dim %2 [shape=2, dims=]; %r: f32[2] = select %3, %0, %1",
        "%1",
    ),
    ("select of equals", "%0: bool[]; %1: f32[]", "%r: f32[] = select %0, %1, %1", "%1"),
    (
        "select by a negation",
        "%0: bool[]; %1: f32[]; %2: f32[]",
        "%3: bool[] = not %0; %r: f32[] = select %3, %1, %2",
        "%r: f32[] = select %0, %2, %1",
    ),
    (
        "select of truth values",
        "%0: bool[]",
        "%1: bool[] = literal false; %2: bool[] = literal true; %r: bool[] = select %0, %1, %2",
        "%r: bool[] = not %0",
    ),
    ("convert to the same", "%0: i32[]", "%r: i32[] = convert %0 [dtype=i32]", "%0"),
    (
        "convert twice",
        "%0: bool[]",
        "%1: i32[] = convert %0 [dtype=i32]; %r: f32[] = convert %1 [dtype=f32]",
        "%r: f32[] = convert %0 [dtype=f32]",
    ),
    ("convert twice", "%0: f32[]", "%1: f64[] = convert %0 [dtype=f64]; %r: f32[] = convert %1 [dtype=f32]", "%0"),
    ("bitcast to the same", "%0: i32[]", "%r: i32[] = bitcast %0 [dtype=i32]", "%0"),
    ("bitcast twice", "%0: f32[]", "%1: u32[] = bitcast %0 [dtype=u32]; %r: f32[] = bitcast %1 [dtype=f32]", "%0"),
    (
        "broadcast last",
        "%0: f32[]; %1: f32[]",
        "%2: f32[4] = broadcast_in_dim %0 [shape=4, dims=]; %3: f32[4] = broadcast_in_dim %1 [shape=4, dims=]; \
         %r: f32[4] = mul %2, %3",
        "%2: f32[] = mul %0, %1; %r: f32[4] = broadcast_in_dim %2 [shape=4, dims=]",
    ),
    (
        "broadcast last",
        "%0: f32[3]; %1: f32[]",
        "%2: f32[3,4] = broadcast_in_dim %0 [shape=3,4, dims=0]; %3: f32[3,4] = broadcast_in_dim %1 [shape=3,4, dims=]; \
         %r: bool[3,4] = lt %3, %2",
        "%2: f32[3] = broadcast_in_dim %1 [shape=3, dims=]; %3: bool[3] = lt %2, %0; \
         %r: bool[3,4] = broadcast_in_dim %3 [shape=3,4, dims=0]",
    ),
];
