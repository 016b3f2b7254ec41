//! Forward mode: the tangent of every op.
//!
//! Comes in: a graph, and for each of its inputs a tensor and, unless it is zero, a tangent. Goes out: the results and
//! their tangents, recorded in the current trace. In the rules `x, y` are operands, `z` is the op's result, `dx, dy`
//! are tangents; `None` is a tangent that is zero for all values. Only floats have tangents.
//!
//! Every rule is linear in the tangents and applies only ops to them that `transpose` has a rule for, so reverse mode
//! needs no further derivatives. Where a derivative is not defined, the value is that of JAX.

#![deny(clippy::wildcard_enum_match_arm)]

use std::f64::consts::{FRAC_2_SQRT_PI, LN_2, PI};

use fulgurite_jit::control::{body_types, record_scan};
use fulgurite_jit::graph::infer::scan_types;
use fulgurite_jit::graph::{BinaryOp, Env, Graph, Node, Op, ReduceOp, ScatterOp, UnaryOp};
use fulgurite_jit::trace::{apply_all, poison, reapply, trace};
use fulgurite_jit::types::Axes;
use fulgurite_jit::{DType, Scan, Tensor, special};
use smallvec::SmallVec;

use crate::flat::{add, live};
use crate::rules::dual::{Dual, duals, flattened, tangents};
use crate::rules::scatter::Scatter;
use crate::rules::{control, cumulative, factors, linalg};

/// Records `graph` and its tangents in the current trace.
pub(crate) fn jvp(graph: &Graph, inputs: &[Dual]) -> Vec<Dual> {
    let live = live(graph, graph.outputs.iter().copied());
    let mut env: Env<Dual> = Env::new(graph);
    for id in graph.ids().filter(|id| live[id.index()]) {
        env.compute(graph, id, inputs, apply);
    }
    graph.outputs.iter().map(|&x| env.get(x).clone()).collect()
}

/// The results of a node and their tangents.
fn apply(node: &Node, operands: &[&Dual]) -> SmallVec<[Dual; 1]> {
    let has_tangent = operands.iter().any(|operand| operand.dx.is_some());
    if let Op::Sort { axis, keys } = node.op
        && has_tangent
    {
        return sort(operands, axis, keys, node);
    }
    if let Op::Fft { .. } = node.op
        && has_tangent
    {
        // Linear in both parts.
        let [x, dx] = [|dual: &&Dual| dual.x.clone(), |dual: &&Dual| dual.tangent()]
            .map(|of| operands.iter().map(of).collect::<SmallVec<[Tensor; 2]>>());
        let [xs, dxs] = [x, dx].map(|x| reapply(node, &x.iter().collect::<Vec<_>>()));
        return xs.into_iter().zip(dxs).map(|(x, dx)| Dual { x, dx: Some(dx) }).collect();
    }
    if let Op::Scan { body, num_consts, num_carry, length, reverse } = &node.op
        && has_tangent
    {
        let trips = Scan { length: Some(*length), reverse: *reverse };
        return scan(node, body, operands, [*num_consts, *num_carry], trips);
    }
    if let (Op::While { body, num_consts }, true) = (&node.op, has_tangent) {
        return control::while_jvp(node, body, operands, *num_consts, jvp);
    }
    if let (Op::Cond { branches }, true) = (&node.op, has_tangent) {
        return control::cond_jvp(node, branches, operands, jvp);
    }
    let xs = reapply(node, &operands.iter().map(|operand| &operand.x).collect::<Vec<_>>());
    if let (Op::Lu | Op::Qr { .. } | Op::Eigh | Op::Svd { .. }, [Dual { dx: Some(da), .. }]) = (&node.op, operands) {
        let tangents = factors::tangents(node, &operands[0].x, &xs, da);
        return xs.into_iter().zip(tangents).map(|(x, dx)| Dual { x, dx }).collect();
    }
    let dual = |x: Tensor| {
        let dx = if has_tangent { tangent(node, operands, &x) } else { None };
        Dual { x, dx }
    };
    xs.into_iter().map(dual).collect()
}

/// Sorting permutes each line, and the tangents with it. The permutation `p` is the sorted positions, result `i` being
/// element `p[i]`; sorting by its inverse applies it, and is linear in what is not a key.
fn sort(operands: &[&Dual], axis: usize, keys: usize, node: &Node) -> SmallVec<[Dual; 1]> {
    let apply = |op: Op, operands: &[&Tensor]| apply_all(op, operands, node.location_or_caller());
    let positions = Tensor::iota(DType::I32, operands[0].x.shape(), axis);
    let mut xs: Vec<&Tensor> = operands.iter().map(|operand| &operand.x).collect();
    xs.push(&positions);
    let mut sorted = apply(Op::Sort { axis, keys }, &xs);
    let p = sorted.pop().expect("the positions");
    let inverse = apply(Op::Sort { axis, keys: 1 }, &[&p, &positions]).swap_remove(1);
    let tangents: Vec<&Tensor> = operands.iter().filter_map(|operand| operand.dx.as_ref()).collect();
    let mut permuted = apply(Op::Sort { axis, keys: 1 }, &[&[&inverse], &tangents[..]].concat()).into_iter().skip(1);
    let dual = |(x, operand): (Tensor, &&Dual)| Dual { x, dx: operand.dx.as_ref().and_then(|_| permuted.next()) };
    sorted.into_iter().zip(operands).map(dual).collect()
}

/// A loop with the tangents of its carry and its elements beside them. A value of the carry has a tangent if it has one
/// before or after a trip.
fn scan(
    node: &Node,
    body: &Graph,
    operands: &[&Dual],
    [num_consts, num_carry]: [usize; 2],
    trips: Scan,
) -> SmallVec<[Dual; 1]> {
    let (consts, rest) = operands.split_at(num_consts);
    let (init, xs) = rest.split_at(num_carry);
    let mut carry_has = tangents(init);
    let xs_has = tangents(xs);
    let xs = flattened(xs, &xs_has);
    loop {
        let before = carry_has.clone();
        let carry = flattened(init, &before);
        let mut ys_has = Vec::new();
        let traced = trace(&body_types(&carry, &xs), |params| {
            let (carry, xs) = params.split_at(carry.len());
            let params = duals(carry, &before).into_iter().chain(duals(xs, &xs_has));
            let results = jvp(body, &consts.iter().map(|&x| x.clone()).chain(params).collect::<Vec<_>>());
            let results: Vec<&Dual> = results.iter().collect();
            let (carry, ys) = results.split_at(num_carry);
            carry_has.iter_mut().zip(tangents(carry)).for_each(|(has, after)| *has |= after);
            ys_has = tangents(ys);
            [flattened(carry, &before), flattened(ys, &ys_has)].concat()
        });
        if before != carry_has {
            continue;
        }
        return match traced {
            Ok(traced) => {
                let results = record_scan(traced, &carry, &xs, trips, node.location_or_caller());
                let (carry, ys) = results.split_at(carry.len());
                duals(carry, &before).into_iter().chain(duals(ys, &ys_has)).collect()
            }
            Err(error) => scan_types(body, num_carry, trips.length.unwrap_or(0))
                .into_iter()
                .map(|ty| Dual { x: poison(ty, error.clone()), dx: None })
                .collect(),
        };
    }
}

/// The tangent of `z`, the result of a node some of whose operands have tangents.
fn tangent(node: &Node, operands: &[&Dual], z: &Tensor) -> Option<Tensor> {
    match &node.op {
        // No operands, or constant where differentiable, or constant by definition.
        Op::Param(_)
        | Op::Literal(_)
        | Op::Constant(_)
        | Op::Iota { .. }
        | Op::Compare(_)
        | Op::ArgReduce(..)
        | Op::Bitcast(_)
        | Op::Threefry
        | Op::StopGradient
        | Op::Result(_) => None,
        Op::Sort { .. } | Op::Fft { .. } | Op::Scan { .. } | Op::While { .. } | Op::Cond { .. } => {
            unreachable!("{} is handled before", node.op.name())
        }
        Op::Lu | Op::Qr { .. } | Op::Eigh | Op::Svd { .. } => {
            unreachable!("{} is handled before", node.op.name())
        }

        // Linear: the op applies to the tangent.
        Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Broadcast { .. }
        | Op::Slice { .. }
        | Op::Rev(_)
        | Op::Shear { .. }
        | Op::Unshear { .. } => Some(linear(node, &[operands[0].dx.as_ref()?])),
        Op::Concat(_) | Op::Pad { .. } => {
            let tangents: Vec<Tensor> = operands.iter().map(|operand| operand.tangent()).collect();
            Some(linear(node, &tangents.iter().collect::<Vec<_>>()))
        }
        Op::Select => {
            let (on_true, on_false) = (operands[1].tangent(), operands[2].tangent());
            Some(linear(node, &[&operands[0].x, &on_true, &on_false]))
        }
        // Linear in the elements for given indices.
        Op::Gather { .. } | Op::DynamicSlice { .. } => {
            let mut xs: SmallVec<[&Tensor; 4]> = operands.iter().map(|operand| &operand.x).collect();
            xs[0] = operands[0].dx.as_ref()?;
            Some(linear(node, &xs))
        }
        Op::Scatter { dims, combine: combine @ (ScatterOp::Mul | ScatterOp::Min | ScatterOp::Max) } => {
            let [x, indices, updates] = [0, 1, 2].map(|i| &operands[i].x);
            let scatter = Scatter { dims, x, indices, updates };
            scatter.tangent(*combine, operands[0].dx.as_ref(), operands[2].dx.as_ref(), z)
        }
        Op::Scatter { .. } | Op::DynamicUpdateSlice => {
            // The elements, and the updates: the last operand of the one, the second of the other.
            let updates = if let Op::Scatter { .. } = node.op { 2 } else { 1 };
            let (dx, du) = (operands[0].tangent(), operands[updates].tangent());
            let mut xs: SmallVec<[&Tensor; 4]> = operands.iter().map(|operand| &operand.x).collect();
            (xs[0], xs[updates]) = (&dx, &du);
            Some(linear(node, &xs))
        }
        Op::Cholesky => Some(linalg::tangent_of_cholesky(z, operands[0].dx.as_ref()?)),
        Op::TriangularSolve(how) => {
            let (a, b) = (operands[0], operands[1]);
            linalg::tangent_of_solution(*how, &a.x, z, a.dx.as_ref(), b.dx.as_ref())
        }
        Op::Solve { transpose_a } => {
            let (a, b) = (operands[0], operands[1]);
            factors::tangent_of_solution(*transpose_a, &a.x, z, a.dx.as_ref(), b.dx.as_ref())
        }
        Op::Convert(dtype) => dtype.is_float().then_some(operands[0].dx.as_ref()?.convert(*dtype)),

        Op::Unary(op) => unary(*op, &operands[0].x, operands[0].dx.as_ref()?, z),
        Op::Binary(op) => {
            let ([Dual { x, dx }, Dual { x: y, dx: dy }], []) = operands.split_first_chunk()? else { return None };
            binary(*op, x, y, dx.as_ref(), dy.as_ref(), z)
        }
        Op::Cumulative(op, axis, reverse) => {
            Some(cumulative::tangent(*op, *axis, *reverse, &operands[0].x, operands[0].dx.as_ref()?, binary))
        }
        Op::Reduce(op, axes) => reduce(*op, node, axes, &operands[0].x, operands[0].dx.as_ref()?, z),
        Op::Dot(axes, precision) => {
            // (x + dx)·(y + dy) = x·y + dx·y + x·dy + higher.
            let (x, y) = (&operands[0], &operands[1]);
            let left = x.dx.as_ref().map(|dx| dx.dot_general_in(&y.x, axes.clone(), *precision));
            let right = y.dx.as_ref().map(|dy| x.x.dot_general_in(dy, axes.clone(), *precision));
            add(left, right)
        }
        // As a product: bilinear.
        Op::Conv(..) => {
            let (x, w) = (&operands[0], &operands[1]);
            let left = x.dx.as_ref().map(|dx| linear(node, &[dx, &w.x]));
            let right = w.dx.as_ref().map(|dw| linear(node, &[&x.x, dw]));
            add(left, right)
        }
    }
}

/// A linear op of tangents.
fn linear(node: &Node, tangents: &[&Tensor]) -> Tensor {
    reapply(node, tangents).swap_remove(0)
}

/// Elementwise ops of one operand: `dx` times the derivative at `x`, written with the result `z` where that is cheaper.
fn unary(op: UnaryOp, x: &Tensor, dx: &Tensor, z: &Tensor) -> Option<Tensor> {
    Some(match op {
        UnaryOp::Sign | UnaryOp::Not | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::IsFinite => {
            return None;
        }
        UnaryOp::Neg => -dx,
        // 1 at 0, and -1 at NaN, as in JAX.
        UnaryOp::Abs => dx * x.greater_equal(0.0).select(Tensor::literal(1.0, x.dtype()), -1.0),
        UnaryOp::Exp => dx * z,
        UnaryOp::Exp2 => dx * (z * LN_2),
        UnaryOp::Expm1 => dx * (z + 1.0),
        UnaryOp::Log => dx / x,
        UnaryOp::Log1p => dx / (x + 1.0),
        UnaryOp::Sin => dx * x.cos(),
        UnaryOp::Cos => dx * -x.sin(),
        // tan' = 1 / cos² = (cos² + sin²) / cos².
        UnaryOp::Tan => dx * (z.square() + 1.0),
        // From x = sin z: dx = cos z dz, cos z = √(1 - x²).
        UnaryOp::Asin => dx * one_minus_square(x).rsqrt(),
        UnaryOp::Acos => dx * -one_minus_square(x).rsqrt(),
        UnaryOp::Atan => dx / (x.square() + 1.0),
        UnaryOp::Sinh => dx * x.cosh(),
        UnaryOp::Cosh => dx * x.sinh(),
        UnaryOp::Tanh => dx * one_minus_square(z),
        // From x = sinh z: dx = cosh z dz, cosh z = √(x² + 1); and so on.
        UnaryOp::Asinh => dx * (x.square() + 1.0).rsqrt(),
        UnaryOp::Acosh => dx * ((x - 1.0) * (x + 1.0)).rsqrt(),
        UnaryOp::Atanh => dx / one_minus_square(x),
        // z = 1 / (1 + e⁻ˣ): z' = e⁻ˣ z² = z (1 - z).
        UnaryOp::Sigmoid => dx * (z * (1.0_f64 - z)),
        // log(1 + eˣ)' = eˣ / (1 + eˣ).
        UnaryOp::Softplus => dx * x.sigmoid(),
        UnaryOp::Sqrt => dx * (0.5_f64 / z),
        // (x^-½)' = -½ x^-½ / x.
        UnaryOp::Rsqrt => dx * (z / x * -0.5),
        // From x = z³: dx = 3 z² dz.
        UnaryOp::Cbrt => dx / (z.square() * 3.0),
        UnaryOp::Erf => dx * ((-x.square()).exp() * FRAC_2_SQRT_PI),
        UnaryOp::Erfc => dx * ((-x.square()).exp() * -FRAC_2_SQRT_PI),
        // From x = erf z: dx = 2/√π e^(-z²) dz.
        UnaryOp::ErfInv => dx * (z.square().exp() * (PI.sqrt() / 2.0)),
        UnaryOp::Lgamma => dx * x.digamma(),
        UnaryOp::Digamma => dx * special::polygamma(1, x),
        // I0' = I1, and that of e^-|x|.
        UnaryOp::BesselI0e => dx * (x.bessel_i1e() - x.sign() * z),
        // I1' = I0 - I1 / x, which is 1/2 at 0.
        UnaryOp::BesselI1e => {
            let zero = x.equal(0.0);
            let safe = zero.select(1.0, x);
            dx * zero.select(0.5, safe.bessel_i0e() - z * (safe.sign() + safe.recip()))
        }
    })
}

/// `1 - x²` as a product, which stays exact near ±1.
fn one_minus_square(x: &Tensor) -> Tensor {
    (1.0_f64 - x) * (x + 1.0)
}

/// Elementwise ops of two operands.
fn binary(
    op: BinaryOp,
    x: &Tensor,
    y: &Tensor,
    dx: Option<&Tensor>,
    dy: Option<&Tensor>,
    z: &Tensor,
) -> Option<Tensor> {
    match op {
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar => None,
        BinaryOp::Add => add(dx.cloned(), dy.cloned()),
        BinaryOp::Sub => match (dx, dy) {
            (Some(dx), Some(dy)) => Some(dx - dy),
            (dx, None) => dx.cloned(),
            (None, Some(dy)) => Some(-dy),
        },
        BinaryOp::Mul => add(dx.map(|dx| dx * y), dy.map(|dy| dy * x)),
        BinaryOp::Div => match (dx, dy) {
            // From z y = x: dz y + z dy = dx.
            (Some(dx), Some(dy)) => Some((dx - dy * z) / y),
            (Some(dx), None) => Some(dx / y),
            (None, Some(dy)) => Some(dy * -(z / y)),
            (None, None) => None,
        },
        // z = x - y q with a whole q, constant between its jumps. Not the truncated quotient: near a jump it may round
        // to the next q.
        BinaryOp::Rem => add(dx.cloned(), dy.map(|dy| dy * -((x - z) / y).round())),
        // The tangent of the selected operand, half of each where they are equal.
        BinaryOp::Max | BinaryOp::Min => {
            let weight = |x: &Tensor, y: &Tensor| {
                let of_x = y.equal(z).select(Tensor::literal(0.5, x.dtype()), 1.0);
                x.equal(z).select(of_x, 0.0)
            };
            add(dx.map(|dx| dx * weight(x, y)), dy.map(|dy| dy * weight(y, x)))
        }
        // z = e^(y log x). ∂x: y x^(y-1). At x = y = 0 that is 0 · ∞: NaN, as in JAX, but 0 where the exponent is not
        // differentiated, as in JAX's `integer_pow`; the base is replaced there. ∂y: z log x, which tends to 0 as x
        // does; there the logarithm is replaced by log 1.
        BinaryOp::Pow => {
            let by_x = || {
                let base = match dy {
                    None => x.equal(0.0).and(y.equal(0.0)).select(1.0, x),
                    Some(_) => x.clone(),
                };
                y * base.pow(y - 1.0)
            };
            let by_y = || x.equal(0.0).select(1.0, x).log() * z;
            add(dx.map(|dx| dx * by_x()), dy.map(|dy| dy * by_y()))
        }
        // The angle of the point (y, x): (y dx - x dy) / (x² + y²).
        BinaryOp::Atan2 => {
            let norm = x.square() + y.square();
            add(dx.map(|dx| dx * (y / &norm)), dy.map(|dy| dy * -(x / &norm)))
        }
    }
}

/// Reductions over `axes`.
fn reduce(op: ReduceOp, node: &Node, axes: &[usize], x: &Tensor, dx: &Tensor, z: &Tensor) -> Option<Tensor> {
    match op {
        ReduceOp::And | ReduceOp::Or => None,
        ReduceOp::Sum => Some(linear(node, &[dx])),
        ReduceOp::Prod => Some(tangent_of_product(x, dx, axes)),
        // The tangent of the extreme element; of several equal ones, the mean of theirs. Where NaN is the extreme, no
        // element equals it, and the tangent (times 0, over 0) and every cotangent (over 0, times 0) is NaN.
        ReduceOp::Max | ReduceOp::Min => {
            let axes = Axes::from_slice(axes);
            let kept: Axes = (0..x.rank()).filter(|axis| !axes.contains(axis)).collect();
            let extreme = x.equal(z.broadcast_in_dim(x.shape(), &kept)).convert(x.dtype());
            let count = extreme.sum_axes(&axes);
            Some((dx * extreme).sum_axes(&axes) / count)
        }
    }
}

/// The tangent of the product over `axes`: the elements are halved and multiplied repeatedly, by the product rule,
/// which does not divide by an element that may be 0. As in JAX, whose roundings matter where terms cancel.
fn tangent_of_product(x: &Tensor, dx: &Tensor, axes: &[usize]) -> Tensor {
    // The reduced axes become one, in front.
    let kept: Axes = (0..x.rank()).filter(|axis| !axes.contains(axis)).collect();
    let perm: Axes = axes.iter().chain(&kept).copied().collect();
    let kept: Vec<usize> = kept.iter().map(|&axis| x.shape()[axis]).collect();
    let mut shape = vec![axes.iter().map(|&axis| x.shape()[axis]).product()];
    shape.extend(&kept);
    if shape[0] == 0 {
        return Tensor::full(&kept, 0.0, x.dtype());
    }
    let flat = |x: &Tensor| x.transpose(&perm).reshape(&shape);
    let (mut x, mut dx) = (flat(x), flat(dx));
    while x.shape()[0] > 1 {
        let (count, half) = (x.shape()[0], x.shape()[0].div_ceil(2));
        let halves = |x: &Tensor, neutral: f64| {
            let mut rest = x.slice_in_dim(0, half..count);
            if rest.shape()[0] < half {
                let mut high = vec![0; x.rank()];
                high[0] = 1;
                rest = rest.pad(neutral, &vec![0; x.rank()], &high, &vec![0; x.rank()]);
            }
            (x.slice_in_dim(0, 0..half), rest)
        };
        let ((x1, x2), (dx1, dx2)) = (halves(&x, 1.0), halves(&dx, 0.0));
        dx = dx1 * &x2 + &x1 * dx2;
        x = x1 * x2;
    }
    dx.reshape(&kept)
}

/// The permutation that undoes `perm`.
pub(crate) fn inverse(perm: &[usize]) -> Axes {
    let mut inverse = Axes::from_elem(0, perm.len());
    for (i, &axis) in perm.iter().enumerate() {
        inverse[axis] = i;
    }
    inverse
}
