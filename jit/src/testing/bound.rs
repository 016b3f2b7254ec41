//! How far a compiled result may be from the interpreter's: a running error analysis, one bound for a whole value.
//!
//! A bound of 0 asks for equality (of numbers: `-0.0` is `0.0`, a NaN is a NaN). So are all that integers,
//! bools and movement give, and all floats whose sums and products are exact in any order. An op that would make a
//! small error a large one (a comparison, a conversion to an integer, a logarithm near 0) is rejected.
//! An index is an integer, so what is read there is exact or not as its array is.

use crate::array::Array;
use crate::error::{Error, Result};
use crate::graph::{BinaryOp, CumulativeOp, Graph, Op, OpClass, ReduceOp, ScatterOp, UnaryOp};
use crate::interp::interpret_each;
use crate::types::product;
use crate::types::scalar::FloatFormat;

/// Numbers beyond this, and errors, are rejected.
const LARGEST: f64 = 1e6;
const WORST: f64 = 1e-2;

/// The bound of an op on values with bounds, whose result is the last; `None` where nothing useful can be said.
pub type Bound = fn(&Op, &[Array], &[f64], &Array) -> Option<f64>;

/// The results of a graph, and how far others may be from each, where something can be said of all values.
///
/// # Errors
/// As [`interpret_each`].
pub fn interpreted(graph: &Graph, inputs: &[Array], bound: Bound) -> Result<(Vec<Array>, Option<Vec<f64>>)> {
    interpreted_with(graph, inputs, &vec![0.0; inputs.len()], bound)
}

/// As [`interpreted`], where correct inputs may be so far from these.
fn interpreted_with(
    graph: &Graph,
    inputs: &[Array],
    of_inputs: &[f64],
    bound: Bound,
) -> Result<(Vec<Array>, Option<Vec<f64>>)> {
    let mut values = Vec::new();
    let results = interpret_each(graph, inputs, &mut |_, value| {
        values.push(value.clone());
        Ok(())
    })?;
    let mut bounds: Vec<f64> = Vec::new();
    for (node, value) in graph.nodes.iter().zip(&values) {
        let operands: Vec<Array> = node.operands.iter().map(|x| values[x.index()].clone()).collect();
        let errors: Vec<f64> = node.operands.iter().map(|x| bounds[x.index()]).collect();
        let bound = match node.op {
            Op::Param(i) => Some(of_inputs[i]),
            _ => bound(&node.op, &operands, &errors, value),
        };
        match bound {
            Some(bound) => bounds.push(bound),
            None => return Ok((results, None)),
        }
    }
    let bounds = graph.outputs.iter().map(|x| bounds[x.index()]).collect();
    Ok((results, Some(bounds)))
}

/// The bound of all results of a loop or of a branch.
fn control(op: &Op, x: &[Array], e: &[f64], bound: Bound) -> Option<f64> {
    let number = |x: &Array| numbers(x)[0];
    match op {
        Op::While { body, num_consts } => {
            let (mut inputs, mut errors) = (x.to_vec(), e.to_vec());
            let mut worst = e.iter().fold(0.0, |a: f64, &b| a.max(b));
            while number(&inputs[*num_consts]) != 0.0 {
                let (results, bounds) = interpreted_with(body, &inputs, &errors, bound).ok()?;
                let bounds = bounds?;
                worst = bounds.iter().fold(worst, |a, &b| a.max(b));
                inputs.splice(num_consts.., results);
                errors.splice(num_consts.., bounds);
            }
            Some(worst)
        }
        Op::Cond { branches } => {
            let last = branches.len() - 1;
            let branch = &branches[(number(&x[0]).max(0.0) as usize).min(last)];
            let (_, bounds) = interpreted_with(branch, &x[1..], &e[1..], bound).ok()?;
            Some(bounds?.into_iter().fold(0.0, f64::max))
        }
        _ => scan(op, x, e, bound),
    }
}

/// The bound of all results of a loop: trip by trip.
fn scan(op: &Op, x: &[Array], e: &[f64], bound: Bound) -> Option<f64> {
    let Op::Scan { body, num_consts, num_carry, length, reverse } = op else { return None };
    let types = body.param_types();
    let carry = *num_consts..num_consts + num_carry;
    let (mut inputs, mut errors) = (x[..carry.end].to_vec(), e.to_vec());
    let mut worst = e.iter().fold(0.0, |a: f64, &b| a.max(b));
    for trip in 0..*length {
        let at = if *reverse { length - 1 - trip } else { trip };
        inputs.truncate(carry.end);
        for (ty, xs) in types.iter().zip(x).skip(carry.end) {
            let n = ty.elements();
            inputs.push(Array::from_bits(ty, &xs.to_bits().ok()?[at * n..(at + 1) * n]).ok()?);
        }
        let (results, bounds) = interpreted_with(body, &inputs, &errors, bound).ok()?;
        let bounds = bounds?;
        worst = bounds.iter().fold(worst, |a, &b| a.max(b));
        for (c, i) in carry.clone().enumerate() {
            (inputs[i], errors[i]) = (results[c].clone(), bounds[c]);
        }
    }
    Some(worst)
}

/// The bound of `op` on values `x` with bounds `e`, whose result is `result`; `None` where nothing useful can be said.
pub(super) fn bound(op: &Op, x: &[Array], e: &[f64], result: &Array) -> Option<f64> {
    if let Op::Param(_) = op {
        return Some(0.0);
    }
    if let OpClass::Control = op.class() {
        return control(op, x, e, bound);
    }
    let float = result.ty().dtype.is_float();
    let most = if float { largest(result) } else { 0.0 };
    let bound = if e.iter().all(|&e| e == 0.0) { exact(op, x, result)? } else { inexact(op, x, e, result)? };
    let fine = most <= LARGEST && bound <= WORST && (bound == 0.0 || finite(result));
    fine.then_some(bound)
}

/// The bound where all operands are exact.
fn exact(op: &Op, x: &[Array], result: &Array) -> Option<f64> {
    let rounding = rounding(result) * largest(result);
    let operands_float = x.first().is_some_and(|x| x.ty().dtype.is_float());
    match op {
        Op::Unary(op) if operands_float => match op {
            UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not | UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil => Some(0.0),
            UnaryOp::Round | UnaryOp::IsFinite | UnaryOp::Sqrt => Some(0.0),
            // The sign of a zero is not kept by the optimiser, and would be the sign of an infinity.
            UnaryOp::Rsqrt if has_zero(&x[0]) => None,
            _ => Some(rounding + f64::from(f32::MIN_POSITIVE)),
        },
        Op::Binary(op) if operands_float => match op {
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Max | BinaryOp::Min => Some(0.0),
            BinaryOp::Mul => Some(rounded_off(&x[0], &x[1], result)),
            BinaryOp::Div | BinaryOp::Rem => (!has_zero(&x[1])).then_some(0.0),
            BinaryOp::Pow | BinaryOp::Atan2 => {
                (!has_zero(&x[0]) && !has_zero(&x[1])).then_some(rounding + f64::from(f32::MIN_POSITIVE))
            }
            _ => Some(0.0),
        },
        // The bits of a zero and of a NaN are not kept.
        Op::Bitcast(_) if operands_float => (!has_zero(&x[0]) && finite(&x[0])).then_some(0.0),
        Op::Bitcast(_) if result.ty().dtype.is_float() => {
            let normal = |x: f64| x == 0.0 || (x.is_finite() && x.abs() > 1e-6);
            numbers(result).into_iter().all(normal).then_some(0.0)
        }
        Op::Reduce(ReduceOp::Sum, _) if operands_float => {
            let n = ratio(&x[0], result);
            let exact = multiples(&x[0], 64.0) && n * largest(&x[0]) * 64.0 < 2f64.powi(24);
            Some(if exact { 0.0 } else { n * n * rounding_of(&x[0]) * largest(&x[0]) })
        }
        Op::Reduce(ReduceOp::Prod, _) if operands_float => {
            let few = ratio(&x[0], result) <= 4.0 && multiples(&x[0], 4.0) && largest(&x[0]) <= 16.0;
            few.then_some(0.0)
        }
        Op::Conv(..) if !operands_float => Some(0.0),
        Op::Dot(..) | Op::Conv(..) => {
            let (mx, my, k) = (largest(&x[0]), largest(&x[1]), contracted(op, x));
            let exact = multiples(&x[0], 16.0) && multiples(&x[1], 16.0) && k * mx * my * 256.0 < 2f64.powi(24);
            Some(if exact { 0.0 } else { k * k * rounding_of(&x[0]) * mx * my })
        }
        Op::Scatter { combine: ScatterOp::Add, .. } if operands_float => {
            let (n, most) = (windows(&x[1]) + 1.0, largest(&x[0]).max(largest(&x[2])));
            let exact = multiples(&x[0], 64.0) && multiples(&x[2], 64.0) && n * most * 64.0 < digits(&x[0]);
            Some(if exact { 0.0 } else { n * n * rounding_of(&x[0]) * most })
        }
        Op::Param(_) | Op::Literal(_) | Op::Constant(_) | Op::Iota { .. } | Op::Result(_) => Some(0.0),
        Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Convert(_) | Op::Bitcast(_) => Some(0.0),
        Op::StopGradient | Op::Threefry | Op::Reduce(..) | Op::ArgReduce(..) | Op::Sort { .. } => Some(0.0),
        Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast { .. } | Op::Slice { .. } | Op::Rev(_) => Some(0.0),
        Op::Pad { .. } | Op::Concat(_) => Some(0.0),
        Op::Gather { .. } | Op::Scatter { .. } | Op::DynamicSlice { .. } | Op::DynamicUpdateSlice => Some(0.0),
        Op::Shear { .. } | Op::Unshear { .. } => Some(0.0),
        Op::Cumulative(op, axis, _) => cumulative(*op, *axis, x, 0.0, result),
        Op::Fft { .. } => Some(fourier(x, result)),
        Op::Cholesky | Op::TriangularSolve(_) | Op::Lu | Op::Solve { .. } => matrices(op, x, result),
        Op::Qr { .. } | Op::Eigh | Op::Svd { .. } => decompositions(op, x),
        Op::Scan { .. } | Op::While { .. } | Op::Cond { .. } => None,
    }
}

/// The bound of a Fourier transform of exact numbers: that of a sum of as many products.
fn fourier(x: &[Array], result: &Array) -> f64 {
    let n = 2.0 * last_extent(result);
    if n <= 2.0 { 0.0 } else { n * n * rounding_of(result) * largest(&x[0]).max(largest(&x[1])) }
}

fn last_extent(x: &Array) -> f64 {
    x.ty().shape.last().copied().unwrap_or(1) as f64
}

/// The bound of a Cholesky factor or a solution, of exact matrices with a large diagonal: substitution and the factor
/// of such a matrix are as accurate as a sum of products is. Nothing is rounded where there is but the diagonal.
fn matrices(op: &Op, x: &[Array], result: &Array) -> Option<f64> {
    let shape = &x[0].ty().shape;
    let n = shape[shape.len() - 1];
    let elements = numbers(&x[0]);
    let mut is_diagonal = true;
    for matrix in elements.chunks(n.max(1) * n.max(1)) {
        for row in 0..n {
            let at = |column: usize| (matrix[row * n + column].abs(), matrix[column * n + row].abs());
            let others = (0..n).filter(|&column| column != row).map(at);
            let sums = others.fold((0.0, 0.0), |sums, pair| (sums.0 + pair.0, sums.1 + pair.1));
            is_diagonal &= sums == (0.0, 0.0);
            let unit = matches!(op, Op::TriangularSolve(how) if how.unit_diagonal);
            let diagonal = if unit { 1.0 } else { matrix[row * n + row] };
            if diagonal < 1.0 + sums.0.max(sums.1) && !(diagonal >= 1.0 && sums == (0.0, 0.0)) {
                return None;
            }
        }
    }
    if !x.iter().all(finite) {
        return None;
    }
    let most = x.iter().map(largest).fold(largest(result), f64::max);
    // 1, 2 and 4 divide and have roots without rounding.
    let is_exact = is_diagonal && multiples(&x[0], 1.0) && [1.0, 4.0].contains(&largest(&x[0])) || elements.is_empty();
    Some(if is_exact { 0.0 } else { 16.0 * (n * n) as f64 * rounding_of(result) * most })
}

/// The bound of all results of a decomposition with orthogonal factors, of exact matrices with a large diagonal, whose
/// eigenvalues are as far from each other as its elements are large, if they are asked for: so the factors are not
/// sensitive.
fn decompositions(op: &Op, x: &[Array]) -> Option<f64> {
    let n = x[0].ty().shape[x[0].ty().rank() - 1];
    let elements = numbers(&x[0]);
    if !finite(&x[0]) {
        return None;
    }
    for matrix in elements.chunks(n.max(1) * n.max(1)) {
        let others = |row: usize| -> f64 {
            let pair = |column: usize| matrix[row * n + column].abs().max(matrix[column * n + row].abs());
            (0..n).filter(|&column| column != row).map(pair).sum()
        };
        let diagonal = |row: usize| matrix[row * n + row];
        if (0..n).any(|row| diagonal(row) < 1.0 + others(row)) {
            return None;
        }
        let needs_gaps = !matches!(op, Op::Qr { .. });
        let close = |i: usize, j: usize| (diagonal(i) - diagonal(j)).abs() < 1.0 + others(i) + others(j);
        if needs_gaps && (0..n).any(|i| (0..i).any(|j| close(i, j))) {
            return None;
        }
    }
    Some(if elements.is_empty() { 0.0 } else { 64.0 * (n * n) as f64 * rounding_of(&x[0]) * largest(&x[0]).max(1.0) })
}

/// The bound where some operand, a float, is not.
fn inexact(op: &Op, x: &[Array], e: &[f64], result: &Array) -> Option<f64> {
    let rounding = rounding(result) * largest(result) + f64::from(f32::MIN_POSITIVE);
    let worst = e.iter().fold(0.0, |a: f64, &b| a.max(b));
    let least = |x: &Array| numbers(x).into_iter().fold(f64::INFINITY, |a, b| a.min(b.abs()));
    if !x.iter().all(finite) {
        return None;
    }
    Some(match op {
        Op::Unary(op) => {
            // How much steeper than 1 the function is at most.
            let slope = match op {
                UnaryOp::Neg | UnaryOp::Abs => return Some(worst),
                UnaryOp::Sin | UnaryOp::Cos | UnaryOp::Tanh | UnaryOp::Atan | UnaryOp::Asinh => 1.0,
                UnaryOp::Sigmoid | UnaryOp::Softplus => 1.0,
                UnaryOp::Erf | UnaryOp::Erfc => 1.2,
                UnaryOp::Exp | UnaryOp::Exp2 | UnaryOp::Expm1 | UnaryOp::Sinh | UnaryOp::Cosh => {
                    1.1 * (largest(result) + 1.0)
                }
                UnaryOp::Sqrt | UnaryOp::Log | UnaryOp::Log1p | UnaryOp::Cbrt | UnaryOp::Rsqrt
                    if numbers(&x[0]).into_iter().all(|x| x > 0.1) =>
                {
                    20.0
                }
                _ => return None,
            };
            slope * worst + rounding
        }
        Op::Binary(op) => match op {
            BinaryOp::Add | BinaryOp::Sub => e[0] + e[1] + rounding,
            BinaryOp::Mul => e[0] * largest(&x[1]) + e[1] * largest(&x[0]) + e[0] * e[1] + rounding,
            BinaryOp::Div if least(&x[1]) > 0.1 => (e[0] + e[1] * largest(result)) / 0.08 + rounding,
            BinaryOp::Max | BinaryOp::Min => worst,
            _ => return None,
        },
        Op::Select if e[0] == 0.0 => worst,
        Op::Convert(to) if to.is_float() => worst + rounding,
        Op::StopGradient | Op::Reshape(_) | Op::Transpose(_) | Op::Broadcast { .. } | Op::Slice { .. } => worst,
        Op::Pad { .. } | Op::Concat(_) | Op::Rev(_) => worst,
        Op::Reduce(ReduceOp::Max | ReduceOp::Min, _) => worst,
        Op::Reduce(ReduceOp::Sum, _) => {
            let n = ratio(&x[0], result);
            n * worst + n * n * rounding_of(&x[0]) * largest(&x[0])
        }
        Op::Dot(..) | Op::Conv(..) => {
            let (mx, my, k) = (largest(&x[0]), largest(&x[1]), contracted(op, x));
            k * (e[0] * my + e[1] * mx + e[0] * e[1]) + k * k * rounding_of(&x[0]) * mx * my
        }
        Op::Fft { .. } => 2.0 * last_extent(result) * worst + fourier(x, result),
        // No element moves by more than the values do; which goes with which of another operand may change.
        Op::Sort { .. } if x.len() == 1 => worst,
        Op::Sort { keys, .. } if e[..*keys].iter().all(|&e| e == 0.0) => worst,
        Op::Scatter { combine: ScatterOp::Add, .. } => {
            let (n, most) = (windows(&x[1]) + 1.0, largest(&x[0]).max(largest(&x[2])));
            n * worst + n * n * rounding_of(&x[0]) * (most + worst)
        }
        Op::Scatter { combine: ScatterOp::Mul, .. } => return None,
        Op::Gather { .. } | Op::Scatter { .. } | Op::DynamicSlice { .. } | Op::DynamicUpdateSlice => worst,
        Op::Shear { .. } | Op::Unshear { .. } => worst,
        Op::Cumulative(op, axis, _) => return cumulative(*op, *axis, x, worst, result),
        Op::Result(_) => worst,
        Op::Param(_) | Op::Literal(_) | Op::Constant(_) | Op::Iota { .. } | Op::Compare(_) | Op::Select => return None,
        Op::Convert(_) | Op::Bitcast(_) | Op::Threefry | Op::Reduce(..) | Op::ArgReduce(..) => return None,
        Op::Sort { .. } | Op::Cholesky | Op::TriangularSolve(_) => return None,
        Op::Scan { .. } | Op::While { .. } | Op::Cond { .. } => return None,
        Op::Lu | Op::Solve { .. } | Op::Qr { .. } | Op::Eigh | Op::Svd { .. } => return None,
    })
}

/// The bound of running totals of elements of bound `e`.
fn cumulative(op: CumulativeOp, axis: usize, x: &[Array], e: f64, result: &Array) -> Option<f64> {
    if !result.ty().dtype.is_float() {
        return Some(0.0);
    }
    let (n, most) = (x[0].ty().shape[axis] as f64, largest(&x[0]));
    match op {
        CumulativeOp::Max | CumulativeOp::Min => Some(e),
        CumulativeOp::Sum => {
            let exact = e == 0.0 && multiples(&x[0], 64.0) && n * most * 64.0 < 2f64.powi(24);
            Some(if exact { 0.0 } else { n * e + n * n * rounding_of(&x[0]) * (most + e) })
        }
        CumulativeOp::Prod => (e == 0.0 && n <= 4.0 && multiples(&x[0], 4.0) && most <= 16.0).then_some(0.0),
        // No total moves by more than the elements do.
        CumulativeOp::LogSumExp => Some(e + n * rounding(result) * (largest(result) + 1.0)),
    }
}

/// The largest finite magnitude.
fn largest(x: &Array) -> f64 {
    numbers(x).into_iter().filter(|x| x.is_finite()).fold(0.0, |most, x| most.max(x.abs()))
}

fn finite(x: &Array) -> bool {
    numbers(x).into_iter().all(f64::is_finite)
}

fn has_zero(x: &Array) -> bool {
    numbers(x).contains(&0.0)
}

/// How far the exact products are from the rounded ones: a sum in the same kernel takes them before they are rounded
/// (`fma`), the interpreter takes them after.
fn rounded_off(x: &Array, y: &Array, product: &Array) -> f64 {
    let factors = numbers(x).into_iter().zip(numbers(y));
    // With one rounding at its end, the difference is exact for f64 as for f32.
    let off = factors.zip(numbers(product)).map(|((x, y), product)| x.mul_add(y, -product).abs());
    off.filter(|off| off.is_finite()).fold(0.0, f64::max)
}

/// Are all finite elements multiples of `1 / parts`?
fn multiples(x: &Array, parts: f64) -> bool {
    numbers(x).into_iter().filter(|x| x.is_finite()).all(|x| (x * parts).fract() == 0.0)
}

/// The relative error of an elementary function: a few units in the last place.
fn rounding(x: &Array) -> f64 {
    8.0 * rounding_of(x)
}

fn rounding_of(x: &Array) -> f64 {
    let fraction = x.ty().dtype.float().unwrap_or(FloatFormat::F32).fraction;
    2f64.powi(-(fraction as i32))
}

/// Below this all integers are exact: of f32, and of narrower floats.
fn digits(x: &Array) -> f64 {
    2f64.powi(x.ty().dtype.float().unwrap_or(FloatFormat::F32).fraction.min(23) as i32 + 1)
}

/// How many windows a scatter of these indices has.
fn windows(indices: &Array) -> f64 {
    let shape = &indices.ty().shape;
    product(shape[..shape.len() - 1].iter().copied()) as f64
}

/// How many elements of `x` go into one of `result`.
fn ratio(x: &Array, result: &Array) -> f64 {
    x.ty().elements() as f64 / result.ty().elements().max(1) as f64
}

/// Over how many elements a contraction sums.
fn contracted(op: &Op, x: &[Array]) -> f64 {
    match op {
        Op::Dot(axes, _) => axes.contract.iter().map(|&(a, _)| x[0].ty().shape[a] as f64).product(),
        Op::Conv(dims, _) => dims.terms(x[1].ty()) as f64,
        _ => 1.0,
    }
}

/// The bound in a program whose floats are all exact, in any order of evaluation: 0, or `None` where one is not.
/// Of numbers of so many bits before and after the point, products and sums are exact.
pub(super) fn exact_only(op: &Op, x: &[Array], e: &[f64], result: &Array) -> Option<f64> {
    if let Op::Param(_) = op {
        return Some(0.0);
    }
    if let OpClass::Control = op.class() {
        return control(op, x, e, exact_only);
    }
    let bits = |format: FloatFormat| format.fraction as i32 / 3 + 1;
    let fine = result.ty().dtype.float().is_none_or(|format| {
        let most = 2f64.powi(bits(format));
        numbers(result).into_iter().all(|x| x.abs() < most && (x * most).fract() == 0.0)
    });
    // A power of exact numbers whose result is exact is not rounded; the sign of a zero is not looked at.
    let is_power = matches!(op, Op::Binary(BinaryOp::Pow))
        && (!has_zero(&x[0]) || numbers(&x[1]).into_iter().all(|exponent| exponent > 0.0));
    (fine && (is_power || bound(op, x, e, result)? == 0.0)).then_some(0.0)
}

/// Are the results of the types that are wanted, and each element within twice its bound? Without bounds any is.
///
/// # Errors
/// The first that is not.
pub fn close(what: &str, got: &[Array], want: &[Array], bounds: Option<&[f64]>) -> Result<()> {
    for (o, (got, want)) in got.iter().zip(want).enumerate() {
        if got.ty() != want.ty() {
            return Err(Error::new(format!("{what}: result {o} is {}, not {}", got.ty(), want.ty())));
        }
        let Some(bound) = bounds.map(|bounds| bounds[o]) else { continue };
        for (i, (x, y)) in numbers(got).into_iter().zip(numbers(want)).enumerate() {
            let equal = x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= 2.0 * bound;
            if !equal {
                return Err(Error::new(format!("{what}: element {i} of result {o} is {x}, not {y} ± {bound}")));
            }
        }
    }
    Ok(())
}

/// The elements of an array, which is on the host.
fn numbers(x: &Array) -> Vec<f64> {
    x.to_f64_vec().expect("it is on the host")
}
