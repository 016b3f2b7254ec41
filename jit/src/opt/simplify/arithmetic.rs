//! Rules for arithmetic: identity and absorbing operands, reassociation of literals, signs, powers, and splat
//! constants.

use super::{Rewrite, Rule};
use crate::graph::{BinaryOp, Literal, Op, UnaryOp, ValueId};
use crate::opt::fold::{literal, on_literals};
use crate::opt::rebuild::is_commutative;
use crate::types::scalar::Scalar;

type Rewritten = Option<ValueId>;

pub(super) const RULES: &[Rule] = &[
    Rule { name: "stop_gradient", apply: stop_gradient },
    Rule { name: "equal elements", apply: equal_elements },
    Rule { name: "literal to the right", apply: literal_right },
    Rule { name: "literals together", apply: literals_together },
    Rule { name: "neutral", apply: neutral },
    Rule { name: "absorbing", apply: absorbing },
    Rule { name: "same operands", apply: same_operands },
    Rule { name: "zero minus", apply: zero_minus },
    Rule { name: "times minus one", apply: times_minus_one },
    Rule { name: "divide by a power of two", apply: divide_by_power },
    Rule { name: "double negation", apply: double_negation },
    Rule { name: "negated terms", apply: negated_terms },
    Rule { name: "negated factors", apply: negated_factors },
    Rule { name: "power", apply: power },
];

/// `stop_gradient x = x`: it matters to autodiff only, which has run.
fn stop_gradient(_: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    matches!(op, Op::StopGradient).then(|| x[0])
}

/// A constant whose elements are all equal is a splat of a literal.
fn equal_elements(w: &mut Rewrite<'_>, op: &Op, _: &[ValueId]) -> Rewritten {
    let Op::Constant(constant) = op else { return None };
    let (bytes, size) = (constant.bytes(), constant.ty().dtype.size());
    // The bytes equal themselves shifted by one element. The comparison stops at the first difference.
    let literal = literal(constant.array())?;
    if bytes[size..] != bytes[..bytes.len() - size] {
        return None;
    }
    w.full(literal, &constant.ty().shape.clone())
}

/// `c ∘ x = x ∘ c` for commutative ops: the other rules match literals on the right only.
fn literal_right(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Binary(binary) = op else { return None };
    let swaps = is_commutative(*binary) && w.literal(x[0]).is_some() && w.literal(x[1]).is_none();
    if swaps { w.add(op.clone(), &[x[1], x[0]]) } else { None }
}

/// `(x ∘ c) ∘ d = x ∘ (c ∘ d)` where `∘` is exactly associative: on integers and bools, and max and min of any type.
fn literals_together(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Binary(binary) = op else { return None };
    let associative = match binary {
        BinaryOp::Max | BinaryOp::Min | BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => true,
        BinaryOp::Add | BinaryOp::Mul => !w.dtype(x[0]).is_float(),
        BinaryOp::Sub
        | BinaryOp::Div
        | BinaryOp::Rem
        | BinaryOp::Pow
        | BinaryOp::Atan2
        | BinaryOp::Shl
        | BinaryOp::Shr
        | BinaryOp::Sar => false,
    };
    if !associative || w.op(x[0]) != op {
        return None;
    }
    let [inner, c] = w.node(x[0]).operands[..] else { return None };
    // Evaluated here rather than in `fold`, which would need a round for each link of a long chain.
    let literal = on_literals(op, &[w.literal(c)?, w.literal(x[1])?], w.dtype(c))?;
    let literal = w.full(literal, &w.shape(c).clone())?;
    w.add(op.clone(), &[inner, literal])
}

/// `x + 0 = x - 0 = x * 1 = x / 1 = x`, `x & ~0 = x | 0 = x ^ 0 = x`, `x << 0 = x >> 0 = x`, `x^1 = x`,
/// `max(x, least) = min(x, greatest) = x`.
///
/// For floats `-0 + 0` is `+0` and so is `-0 - -0`: as in XLA, the sign of that zero is not preserved. All else is
/// exact.
fn neutral(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Binary(binary) = op else { return None };
    let right = w.literal(x[1])?;
    let value = right.value();
    let is_neutral = match binary {
        BinaryOp::Add | BinaryOp::Sub => value.is(0),
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Pow => value.is(1),
        BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar => right.bits == 0,
        BinaryOp::And => right.bits == Literal::ones(right.dtype).bits,
        BinaryOp::Max => value == right.dtype.range().0,
        BinaryOp::Min => value == right.dtype.range().1,
        BinaryOp::Rem | BinaryOp::Atan2 => false,
    };
    is_neutral.then_some(x[0])
}

/// `x * 0 = x & 0 = 0` and `x | ~0 = ~0`, for integers and bools only: a float can be NaN. `x^0 = 1` holds for NaN too.
fn absorbing(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Binary(binary) = op else { return None };
    let right = w.literal(x[1])?;
    let is_absorbing = match binary {
        BinaryOp::Mul => !right.dtype.is_float() && right.bits == 0,
        BinaryOp::And => right.bits == 0,
        BinaryOp::Or => right.bits == Literal::ones(right.dtype).bits,
        BinaryOp::Pow if right.value().is(0) => {
            return w.full(Literal::new(right.dtype, 1), &w.shape(x[0]).clone());
        }
        BinaryOp::Pow
        | BinaryOp::Add
        | BinaryOp::Sub
        | BinaryOp::Div
        | BinaryOp::Rem
        | BinaryOp::Max
        | BinaryOp::Min
        | BinaryOp::Atan2
        | BinaryOp::Xor
        | BinaryOp::Shl
        | BinaryOp::Shr
        | BinaryOp::Sar => false,
    };
    is_absorbing.then_some(x[1])
}

/// `max(x, x) = min(x, x) = x & x = x | x = x`; `x - x = x ^ x = 0`, for integers and bools only, since the
/// difference of two infinities is NaN.
fn same_operands(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let Op::Binary(binary) = op else { return None };
    if x[0] != x[1] {
        return None;
    }
    let dtype = w.dtype(x[0]);
    match binary {
        BinaryOp::Max | BinaryOp::Min | BinaryOp::And | BinaryOp::Or => Some(x[0]),
        BinaryOp::Sub | BinaryOp::Xor if !dtype.is_float() => w.full(Literal::new(dtype, 0), &w.shape(x[0]).clone()),
        BinaryOp::Sub
        | BinaryOp::Xor
        | BinaryOp::Add
        | BinaryOp::Mul
        | BinaryOp::Div
        | BinaryOp::Rem
        | BinaryOp::Pow
        | BinaryOp::Atan2
        | BinaryOp::Shl
        | BinaryOp::Shr
        | BinaryOp::Sar => None,
    }
}

/// `0 - x = -x` for integers and `-0 - x = -x` for floats (not `+0 - x`, since `+0 - +0` is `+0`).
fn zero_minus(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    if *op != Op::Binary(BinaryOp::Sub) {
        return None;
    }
    let left = w.literal(x[0])?;
    let zero = if left.dtype.is_float() { Literal::new(left.dtype, -0.0) } else { Literal::new(left.dtype, 0) };
    if left == zero { w.add(Op::Unary(UnaryOp::Neg), &[x[1]]) } else { None }
}

/// `x * -1 = x / -1 = -x`
fn times_minus_one(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let applies = matches!(op, Op::Binary(BinaryOp::Mul | BinaryOp::Div)) && w.is_all(x[1], -1);
    if applies { w.add(Op::Unary(UnaryOp::Neg), &[x[0]]) } else { None }
}

/// `x / c = x * (1/c)`, exact where `c` is a power of two whose inverse is a normal number.
fn divide_by_power(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    if *op != Op::Binary(BinaryOp::Div) {
        return None;
    }
    let divisor = w.literal(x[1])?;
    let format = divisor.dtype.float()?;
    let c = format.decode(divisor.bits);
    let normal = format.least_normal()..=format.greatest();
    // The 52 low bits of an f64 are its fraction, and those of a power of two are zero.
    let is_power = c.to_bits() << 12 == 0 && normal.contains(&c.abs()) && normal.contains(&(1.0 / c).abs());
    if !is_power {
        return None;
    }
    let inverse = w.full(Literal::new(divisor.dtype, 1.0 / c), &w.shape(x[1]).clone())?;
    w.add(Op::Binary(BinaryOp::Mul), &[x[0], inverse])
}

/// `-(-x) = x` and `!(!x) = x`
fn double_negation(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    let applies = matches!(op, Op::Unary(UnaryOp::Neg | UnaryOp::Not)) && w.op(x[0]) == op;
    applies.then(|| w.operand(x[0]))
}

/// The operand of the negation `x`.
fn negated(w: &Rewrite<'_>, x: ValueId) -> Option<ValueId> {
    (*w.op(x) == Op::Unary(UnaryOp::Neg)).then(|| w.operand(x))
}

/// `x + -y = x - y`, `-x + y = y - x`, `x - -y = x + y`: a difference is defined as the sum with the negation.
fn negated_terms(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    const ADD: Op = Op::Binary(BinaryOp::Add);
    const SUB: Op = Op::Binary(BinaryOp::Sub);
    if *op != ADD && *op != SUB {
        return None;
    }
    if let Some(y) = negated(w, x[1]) {
        return w.add(if *op == ADD { SUB } else { ADD }, &[x[0], y]);
    }
    let y = negated(w, x[0]).filter(|_| *op == ADD)?;
    w.add(SUB, &[x[1], y])
}

/// `-x * -y = x * y`, `-x / -y = x / y`, `-x * c = x * -c`, `-x / c = x / -c`, `-(x * c) = x * -c`: signs are exact.
fn negated_factors(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    const MUL: Op = Op::Binary(BinaryOp::Mul);
    let (op, inner, c) = if *op == MUL || *op == Op::Binary(BinaryOp::Div) {
        let inner = negated(w, x[0])?;
        if let Some(y) = negated(w, x[1]) {
            return w.add(op.clone(), &[inner, y]);
        }
        (op, inner, x[1])
    } else if *op == Op::Unary(UnaryOp::Neg) && *w.op(x[0]) == MUL && w.has_one_use(x[0]) {
        let [inner, c] = w.node(x[0]).operands[..] else { return None };
        (&MUL, inner, c)
    } else {
        return None;
    };
    let literal = w.literal(c)?;
    let Scalar::Float(value) = literal.value() else { return None };
    let flipped = w.full(Literal::new(literal.dtype, -value), &w.shape(c).clone())?;
    w.add(op.clone(), &[inner, flipped])
}

/// `x^2 = x·x`, `x^-1 = 1/x` (both rounded once, as the power is) and `x^0.5 = √x`.
///
/// The square root differs from the power at -0 and -∞, where it gives -0 and NaN instead of +0 and +∞. NumPy and
/// PyTorch do the same.
fn power(w: &mut Rewrite<'_>, op: &Op, x: &[ValueId]) -> Rewritten {
    if *op != Op::Binary(BinaryOp::Pow) {
        return None;
    }
    let exponent = w.literal(x[1])?;
    let value = exponent.value();
    if value.is(2) {
        w.add(Op::Binary(BinaryOp::Mul), &[x[0], x[0]])
    } else if value.is(-1) {
        let one = w.full(Literal::new(exponent.dtype, 1), &w.shape(x[0]).clone())?;
        w.add(Op::Binary(BinaryOp::Div), &[one, x[0]])
    } else if value == Scalar::Float(0.5) {
        w.add(Op::Unary(UnaryOp::Sqrt), &[x[0]])
    } else {
        None
    }
}

/// An example of every rule: its name, the inputs, the value before and after.
#[cfg(test)]
pub(super) const CASES: &[super::tests::Case] = &[
    ("stop_gradient", "%0: f32[4]", "%r: f32[4] = stop_gradient %0", "%0"),
    (
        "equal elements",
        "%0: f32[]",
        "%r: f32[2,2] = constant {1.5, 1.5, 1.5, 1.5}",
        "%1: f32[] = literal 1.5; %r: f32[2,2] = broadcast_in_dim %1 [shape=2,2, dims=]",
    ),
    ("equal elements", "%0: f32[]", "%r: f32[] = constant {1.5}", "%r: f32[] = literal 1.5"),
    (
        "literal to the right",
        "%0: f32[2]",
        "%1: f32[] = literal 3.0; %2: f32[2] = broadcast_in_dim %1 [shape=2, dims=]; %r: f32[2] = mul %2, %0",
        "%1: f32[] = literal 3.0; %2: f32[2] = broadcast_in_dim %1 [shape=2, dims=]; %r: f32[2] = mul %0, %2",
    ),
    (
        "literals together",
        "%0: i32[]",
        "%1: i32[] = literal 3; %2: i32[] = add %0, %1; %3: i32[] = literal 4; %r: i32[] = add %2, %3",
        "%1: i32[] = literal 7; %r: i32[] = add %0, %1",
    ),
    ("neutral", "%0: f32[]", "%1: f32[] = literal 0.0; %r: f32[] = add %1, %0", "%0"),
    ("neutral", "%0: f32[]", "%1: f32[] = literal 0.0; %r: f32[] = sub %0, %1", "%0"),
    ("neutral", "%0: f32[]", "%1: f32[] = literal 1.0; %r: f32[] = mul %1, %0", "%0"),
    ("neutral", "%0: i32[]", "%1: i32[] = literal 1; %r: i32[] = div %0, %1", "%0"),
    ("neutral", "%0: f32[]", "%1: f32[] = literal 1.0; %r: f32[] = pow %0, %1", "%0"),
    ("neutral", "%0: f32[]", "%1: f32[] = literal -inf; %r: f32[] = max %0, %1", "%0"),
    ("neutral", "%0: i32[]", "%1: i32[] = literal 2147483647; %r: i32[] = min %0, %1", "%0"),
    ("neutral", "%0: bool[]", "%1: bool[] = literal true; %r: bool[] = and %0, %1", "%0"),
    ("neutral", "%0: u32[]", "%1: u32[] = literal 0; %r: u32[] = shift_left %0, %1", "%0"),
    (
        "absorbing",
        "%0: i32[2]",
        "%1: i32[] = literal 0; %2: i32[2] = broadcast_in_dim %1 [shape=2, dims=]; %r: i32[2] = mul %0, %2",
        "%1: i32[] = literal 0; %r: i32[2] = broadcast_in_dim %1 [shape=2, dims=]",
    ),
    ("absorbing", "%0: bool[]", "%1: bool[] = literal true; %r: bool[] = or %0, %1", "%r: bool[] = literal true"),
    ("absorbing", "%0: f32[]", "%1: f32[] = literal 0.0; %r: f32[] = pow %0, %1", "%r: f32[] = literal 1.0"),
    ("same operands", "%0: f32[2]", "%r: f32[2] = max %0, %0", "%0"),
    (
        "same operands",
        "%0: i32[2]",
        "%r: i32[2] = sub %0, %0",
        "%1: i32[] = literal 0; %r: i32[2] = broadcast_in_dim %1 [shape=2, dims=]",
    ),
    ("zero minus", "%0: i32[]", "%1: i32[] = literal 0; %r: i32[] = sub %1, %0", "%r: i32[] = neg %0"),
    ("zero minus", "%0: f32[]", "%1: f32[] = literal -0.0; %r: f32[] = sub %1, %0", "%r: f32[] = neg %0"),
    ("times minus one", "%0: f32[]", "%1: f32[] = literal -1.0; %r: f32[] = mul %0, %1", "%r: f32[] = neg %0"),
    (
        "divide by a power of two",
        "%0: f32[]",
        "%1: f32[] = literal 8.0; %r: f32[] = div %0, %1",
        "%1: f32[] = literal 0.125; %r: f32[] = mul %0, %1",
    ),
    (
        "divide by a power of two",
        "%0: f64[]",
        "%1: f64[] = literal -0.5; %r: f64[] = div %0, %1",
        "%1: f64[] = literal -2.0; %r: f64[] = mul %0, %1",
    ),
    ("double negation", "%0: f32[]", "%1: f32[] = neg %0; %r: f32[] = neg %1", "%0"),
    ("double negation", "%0: bool[]", "%1: bool[] = not %0; %r: bool[] = not %1", "%0"),
    ("negated terms", "%0: f32[]; %1: f32[]", "%2: f32[] = neg %1; %r: f32[] = add %0, %2", "%r: f32[] = sub %0, %1"),
    ("negated terms", "%0: f32[]; %1: f32[]", "%2: f32[] = neg %1; %r: f32[] = add %2, %0", "%r: f32[] = sub %0, %1"),
    ("negated terms", "%0: f32[]; %1: f32[]", "%2: f32[] = neg %1; %r: f32[] = sub %0, %2", "%r: f32[] = add %0, %1"),
    (
        "negated factors",
        "%0: f32[]; %1: f32[]",
        "%2: f32[] = neg %0; %3: f32[] = neg %1; %r: f32[] = mul %2, %3",
        "%r: f32[] = mul %0, %1",
    ),
    (
        "negated factors",
        "%0: f32[]",
        "%1: f32[] = neg %0; %2: f32[] = literal 3.0; %r: f32[] = mul %1, %2",
        "%2: f32[] = literal -3.0; %r: f32[] = mul %0, %2",
    ),
    (
        "negated factors",
        "%0: f32[]",
        "%1: f32[] = literal 3.0; %2: f32[] = mul %0, %1; %r: f32[] = neg %2",
        "%2: f32[] = literal -3.0; %r: f32[] = mul %0, %2",
    ),
    ("power", "%0: f32[]", "%1: f32[] = literal 2.0; %r: f32[] = pow %0, %1", "%r: f32[] = mul %0, %0"),
    (
        "power",
        "%0: f32[]",
        "%1: f32[] = literal -1.0; %r: f32[] = pow %0, %1",
        "%1: f32[] = literal 1.0; %r: f32[] = div %1, %0",
    ),
    ("power", "%0: f32[]", "%1: f32[] = literal 0.5; %r: f32[] = pow %0, %1", "%r: f32[] = sqrt %0"),
];
