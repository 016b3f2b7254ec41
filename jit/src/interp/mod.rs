//! The reference interpreter: it defines the semantics of a graph.
//!
//! A graph and its inputs come in, its results go out, computed one element at a time. Compiled code is tested against
//! it, constant folding uses it, and anomaly detection runs a step in it again. It is simple rather than fast. An
//! element is represented by its bits. Float math is done in f64 and rounded once; sums and products of floats
//! accumulate in f64. For integers, bools, data movement and random bits the results are bit-identical to those of
//! compiled code. For floats they are *not*: compiled code accumulates in f32, in another order.

mod control;
mod conv;
mod factors;
mod fourier;
mod index;
mod matrices;
mod scalar;
pub(crate) mod sort;
mod special;
mod windows;

use smallvec::{SmallVec, smallvec};

use crate::array::{Array, check_available};
use crate::error::{Error, Result};
use crate::graph::{
    ArgOp, BinaryOp, CompareOp, DotAxes, Env, Graph, Literal, Op, OpClass, ReduceOp, ValueId, results, verify,
};
use crate::types::{DType, Shape, TensorType, row_major_strides};

/// The results of `graph` for these inputs.
///
/// # Errors
/// If the number or types of the inputs do not match, the graph does not verify, or memory is not available.
pub fn interpret(graph: &Graph, inputs: &[Array]) -> Result<Vec<Array>> {
    interpret_each(graph, inputs, &mut |_, _| Ok(()))
}

/// As [`interpret`], and calls `each` with every value once it is computed. An error of `each` ends the evaluation.
///
/// # Errors
/// As [`interpret`], or that of `each`.
pub fn interpret_each(
    graph: &Graph,
    inputs: &[Array],
    each: &mut dyn FnMut(ValueId, &Array) -> Result<()>,
) -> Result<Vec<Array>> {
    verify(graph, "building the graph to interpret")?;
    if inputs.len() != graph.params.len() {
        return Err(Error::new(format!("interpret: {} inputs for a graph of {}", inputs.len(), graph.params.len())));
    }
    for (i, (input, &param)) in inputs.iter().zip(&graph.params).enumerate() {
        if input.ty() != graph.ty(param) {
            return Err(Error::new(format!("interpret: input {i} is {}, not {}", input.ty(), graph.ty(param))));
        }
    }
    evaluate(graph, inputs, each)
}

/// As [`interpret_each`], of a verified graph on inputs of its types.
fn evaluate(
    graph: &Graph,
    inputs: &[Array],
    each: &mut dyn FnMut(ValueId, &Array) -> Result<()>,
) -> Result<Vec<Array>> {
    // Values are dropped after their last use, so that training steps fit into memory.
    let mut uses = graph.uses();
    let mut env: Env<Array> = Env::new(graph);
    for id in graph.ids() {
        let node = graph.node(id);
        // The interpreter uses eight bytes per element.
        check_available(node.ty.elements().saturating_mul(8), || node.ty.to_string())
            .map_err(|e| e.context(node.op.name()))?;
        let results: SmallVec<[Array; 1]> = match env.projected(node) {
            Some(result) => smallvec![result.clone()],
            None => {
                let operands: SmallVec<[&Array; 4]> = node.operands.iter().map(|&x| env.get(x)).collect();
                let types: SmallVec<[&TensorType; 4]> = operands.iter().map(|x| x.ty()).collect();
                match &node.op {
                    Op::Param(i) => smallvec![inputs[*i].clone()],
                    op if node.results() == 1 && op.class() != OpClass::Control => {
                        smallvec![apply(op, &node.ty, &operands)?]
                    }
                    op => several(op, &results(op, &types).map_err(Error::new)?, &operands)?,
                }
            }
        };
        // Of several results, the first: each is shown where it is projected.
        each(id, &results[0])?;
        for &x in &node.operands {
            uses[x.index()] -= 1;
            if uses[x.index()] == 0 {
                env.forget(x);
            }
        }
        if uses[id.index()] > 0 {
            env.set_all(id, results);
        }
    }
    Ok(graph.outputs.iter().map(|&x| env.get(x).clone()).collect())
}

/// The results, of these types, of an op that may have several.
fn several(op: &Op, types: &[TensorType], operands: &[&Array]) -> Result<SmallVec<[Array; 1]>> {
    if let Op::While { .. } | Op::Cond { .. } = op {
        return control::control(op, operands);
    }
    let x: SmallVec<[Vec<u64>; 4]> = operands.iter().map(|a| a.to_bits()).collect::<Result<_>>()?;
    let results: SmallVec<[Vec<u64>; 2]> = match op {
        Op::Threefry => {
            let words = |i: usize| scalar::threefry([x[0][i], x[1][i]], [x[2][i], x[3][i]]);
            let words: Vec<[u64; 2]> = (0..x[0].len()).map(words).collect();
            [0, 1].map(|word| words.iter().map(|words| words[word]).collect()).into()
        }
        Op::Sort { axis, keys } => sort::sort(&types[0].shape, *axis, *keys, types, &x),
        Op::Fft { inverse } => fourier::fft(&types[0], *inverse, &x).into(),
        Op::Lu | Op::Qr { .. } | Op::Eigh | Op::Svd { .. } => factors::decompose(op, operands[0].ty(), types, &x[0]),
        Op::Scan { .. } => scan(op, types, x)?,
        _ => unreachable!("{} has one result", op.name()),
    };
    types.iter().zip(&results).map(|(ty, bits)| Array::from_bits(ty, bits)).collect()
}

/// The results of a scan, of these types: the body for each trip.
fn scan(op: &Op, types: &[TensorType], operands: SmallVec<[Vec<u64>; 4]>) -> Result<SmallVec<[Vec<u64>; 2]>> {
    let Op::Scan { body, num_consts, num_carry, length, reverse } = op else { unreachable!("a scan") };
    let params = body.param_types();
    let mut results: SmallVec<[Vec<u64>; 2]> = types.iter().map(|ty| vec![0; ty.elements()]).collect();
    let carry = *num_consts..num_consts + num_carry;
    let mut inputs: Vec<Array> = (params.iter().zip(&operands).take(carry.end))
        .map(|(ty, bits)| Array::from_bits(ty, bits))
        .collect::<Result<_>>()?;
    let element = |ty: &TensorType, i: usize| i * ty.elements()..(i + 1) * ty.elements();
    for trip in 0..*length {
        let i = if *reverse { length - 1 - trip } else { trip };
        inputs.truncate(carry.end);
        for (ty, bits) in params.iter().zip(&operands).skip(carry.end) {
            inputs.push(Array::from_bits(ty, &bits[element(ty, i)])?);
        }
        let mut outputs = evaluate(body, &inputs, &mut |_, _| Ok(()))?;
        for (y, result) in outputs.split_off(*num_carry).iter().zip(&mut results[*num_carry..]) {
            result[element(y.ty(), i)].copy_from_slice(&y.to_bits()?);
        }
        inputs.splice(carry.clone(), outputs);
    }
    for (result, carry) in results.iter_mut().zip(&inputs[carry]) {
        *result = carry.to_bits()?;
    }
    Ok(results)
}

/// The result, of this type, of an op that has one.
fn apply(op: &Op, ty: &TensorType, operands: &[&Array]) -> Result<Array> {
    let x: SmallVec<[Vec<u64>; 4]> = operands.iter().map(|a| a.to_bits()).collect::<Result<_>>()?;
    let from = |i: usize| operands[i].ty();
    let count = ty.elements();
    let bits: Vec<u64> = match op {
        Op::Sort { axis, keys } => {
            let types = [ty.clone()];
            sort::sort(&ty.shape, *axis, *keys, &types, &x).swap_remove(0)
        }
        Op::Cholesky => matrices::cholesky(ty, &x[0]),
        Op::TriangularSolve(how) => matrices::triangular_solve(ty, *how, &x),
        Op::Solve { transpose_a } => factors::solve(ty, *transpose_a, &x),
        Op::Lu | Op::Qr { .. } | Op::Eigh | Op::Svd { .. } => unreachable!("{} has several results", op.name()),
        Op::Fft { .. } | Op::While { .. } | Op::Cond { .. } => unreachable!("{} is handled before", op.name()),
        Op::Param(_) | Op::Result(_) | Op::Threefry | Op::Scan { .. } => {
            unreachable!("{} is handled before", op.name())
        }
        Op::Constant(constant) => return Ok(constant.array().clone()),
        Op::Literal(literal) => vec![literal.bits],
        Op::Iota { dtype, axis, .. } => (0..count).map(|i| dtype.bits(unflatten(i, &ty.shape)[*axis])).collect(),
        Op::Unary(op) => x[0].iter().map(|&x| scalar::unary(*op, from(0).dtype, x)).collect(),
        Op::Binary(op) => x[0].iter().zip(&x[1]).map(|(&x, &y)| scalar::binary(*op, ty.dtype, x, y)).collect(),
        Op::Compare(op) => {
            let dtype = from(0).dtype;
            x[0].iter().zip(&x[1]).map(|(&x, &y)| u64::from(scalar::compare(*op, dtype, x, y))).collect()
        }
        Op::Select => (0..count).map(|i| if x[0][i] != 0 { x[1][i] } else { x[2][i] }).collect(),
        Op::Convert(to) => x[0].iter().map(|&x| scalar::convert(from(0).dtype, *to, x)).collect(),
        // The same bits in row-major order, as another element type or shape.
        Op::Bitcast(_) | Op::StopGradient | Op::Reshape(_) => x[0].clone(),
        Op::Transpose(perm) => pick(ty, &x[0], from(0), |at, source| {
            for (i, &axis) in perm.iter().enumerate() {
                source[axis] = at[i];
            }
        }),
        Op::Broadcast { dims, .. } => pick(ty, &x[0], from(0), |at, source| {
            for (axis, &dim) in dims.iter().enumerate() {
                source[axis] = if from(0).shape[axis] == 1 { 0 } else { at[dim] };
            }
        }),
        Op::Slice { start, stride, .. } => pick(ty, &x[0], from(0), |at, source| {
            for axis in 0..at.len() {
                source[axis] = start[axis] + at[axis] * stride[axis];
            }
        }),
        Op::Rev(axes) => pick(ty, &x[0], from(0), |at, source| {
            for axis in 0..at.len() {
                source[axis] = if axes.contains(&axis) { ty.shape[axis] - 1 - at[axis] } else { at[axis] };
            }
        }),
        Op::Pad { low, interior, .. } => pad(ty, &x[0], from(0), x[1][0], low, interior),
        Op::Concat(axis) => concat(ty, &x, operands, *axis),
        Op::Reduce(op, axes) => reduce(ty, &x[0], from(0), *op, axes),
        Op::ArgReduce(op, axis) => arg_reduce(ty, &x[0], from(0), *op, *axis),
        Op::Cumulative(op, axis, reverse) => windows::cumulative(ty, &x[0], *op, *axis, *reverse),
        Op::Shear { axis, by, stride, step, .. } => pick(ty, &x[0], from(0), |at, source| {
            source.copy_from_slice(at);
            source[*axis] = stride * at[*axis] + step * at[*by];
        }),
        Op::Unshear { axis, by, stride, step, .. } => {
            windows::unshear(ty, &x[0], from(0), [*axis, *by], [*stride, *step])
        }
        Op::Dot(axes, _) => dot(ty, &x, [from(0), from(1)], axes),
        Op::Conv(dims, _) => conv::conv(ty, &x, [from(0), from(1)], dims),
        Op::Gather { dims, sizes } => index::gather(ty, &x, operands, dims, sizes),
        Op::Scatter { dims, combine } => index::scatter(ty, &x, operands, dims, *combine),
        Op::DynamicSlice { .. } => index::dynamic_slice(ty, &x, operands),
        Op::DynamicUpdateSlice => index::dynamic_update_slice(ty, &x, operands),
    };
    Array::from_bits(ty, &bits)
}

/// The index along each axis of the element at row-major position `i`.
pub(super) fn unflatten(mut i: usize, shape: &[usize]) -> Shape {
    let mut at = Shape::from_elem(0, shape.len());
    for axis in (0..shape.len()).rev() {
        at[axis] = i % shape[axis];
        i /= shape[axis];
    }
    at
}

/// The inverse of [`unflatten`].
fn flatten(at: &[usize], shape: &[usize]) -> usize {
    at.iter().zip(shape).fold(0, |i, (&at, &extent)| i * extent + at)
}

/// Data movement: each element of the result is an element of the operand, whose index `find` computes from that of the
/// result.
fn pick(ty: &TensorType, x: &[u64], from: &TensorType, find: impl Fn(&[usize], &mut [usize])) -> Vec<u64> {
    let mut source = Shape::from_elem(0, from.rank());
    let element = |i| {
        find(&unflatten(i, &ty.shape), &mut source);
        x[flatten(&source, &from.shape)]
    };
    (0..ty.elements()).map(element).collect()
}

fn pad(ty: &TensorType, x: &[u64], from: &TensorType, value: u64, low: &[isize], interior: &[usize]) -> Vec<u64> {
    let mut result = vec![value; ty.elements()];
    'elements: for (i, &x) in x.iter().enumerate() {
        let mut at = unflatten(i, &from.shape);
        for axis in 0..at.len() {
            // Negative padding crops elements.
            let position = low[axis] + (at[axis] * (interior[axis] + 1)) as isize;
            if position < 0 || position as usize >= ty.shape[axis] {
                continue 'elements;
            }
            at[axis] = position as usize;
        }
        result[flatten(&at, &ty.shape)] = x;
    }
    result
}

fn concat(ty: &TensorType, x: &[Vec<u64>], operands: &[&Array], axis: usize) -> Vec<u64> {
    let mut result = vec![0; ty.elements()];
    let mut start = 0;
    for (x, operand) in x.iter().zip(operands) {
        let shape = &operand.ty().shape;
        for (i, &x) in x.iter().enumerate() {
            let mut at = unflatten(i, shape);
            at[axis] += start;
            result[flatten(&at, &ty.shape)] = x;
        }
        start += shape[axis];
    }
    result
}

/// The binary op of a reduction, and its identity.
fn combiner(op: ReduceOp, dtype: DType) -> (BinaryOp, Literal) {
    let binary = match op {
        ReduceOp::Sum => BinaryOp::Add,
        ReduceOp::Prod => BinaryOp::Mul,
        ReduceOp::Max => BinaryOp::Max,
        ReduceOp::Min => BinaryOp::Min,
        ReduceOp::And => BinaryOp::And,
        ReduceOp::Or => BinaryOp::Or,
    };
    (binary, op.identity(dtype))
}

fn reduce(ty: &TensorType, x: &[u64], from: &TensorType, op: ReduceOp, axes: &[usize]) -> Vec<u64> {
    let position = |i: usize| {
        let at = unflatten(i, &from.shape);
        let kept: Shape = (0..at.len()).filter(|axis| !axes.contains(axis)).map(|axis| at[axis]).collect();
        flatten(&kept, &ty.shape)
    };
    let (op, start) = combiner(op, ty.dtype);
    if ty.dtype.is_float() {
        let mut result = vec![start.value().to_f64(); ty.elements()];
        for (i, &x) in x.iter().enumerate() {
            let result = &mut result[position(i)];
            *result = scalar::float_binary(op, *result, ty.dtype.value(x).to_f64());
        }
        return result.into_iter().map(|x| scalar::round(ty.dtype, x)).collect();
    }
    let mut result = vec![start.bits; ty.elements()];
    for (i, &x) in x.iter().enumerate() {
        let result = &mut result[position(i)];
        *result = scalar::binary(op, ty.dtype, *result, x);
    }
    result
}

fn arg_reduce(ty: &TensorType, x: &[u64], from: &TensorType, op: ArgOp, axis: usize) -> Vec<u64> {
    let better = match op {
        ArgOp::Max => CompareOp::Gt,
        ArgOp::Min => CompareOp::Lt,
    };
    let dtype = from.dtype;
    let best = |i: usize| {
        let mut at = unflatten(i, &ty.shape);
        at.insert(axis, 0);
        let mut along = |k: usize| {
            at[axis] = k;
            x[flatten(&at, &from.shape)]
        };
        let mut best = 0;
        for k in 1..from.shape[axis] {
            let (x, y) = (along(k), along(best));
            // The first of equal elements wins, and the first NaN wins over numbers.
            let wins = dtype.value(x).is_nan() || scalar::compare(better, dtype, x, y);
            if wins && !dtype.value(y).is_nan() {
                best = k;
            }
        }
        best as u64
    };
    (0..ty.elements()).map(best).collect()
}

fn dot(ty: &TensorType, x: &[Vec<u64>], from: [&TensorType; 2], axes: &DotAxes) -> Vec<u64> {
    let side = |side: usize| -> Side {
        let pick = |&(a, b): &(usize, usize)| if side == 0 { a } else { b };
        let strides = row_major_strides(&from[side].shape);
        let stride = |pair| strides[pick(pair)];
        let extents: Shape = axes.contract.iter().map(|pair| from[side].shape[pick(pair)]).collect();
        let contracted = axes.contract.iter().map(stride).collect::<Shape>();
        Side {
            values: x[side].iter().map(|&x| ty.dtype.value(x).to_f64()).collect(),
            batch: axes.batch.iter().map(stride).collect(),
            free: axes.free(side, from[side].rank()).iter().map(|&axis| strides[axis]).collect(),
            along: (0..extents.iter().product()).map(|k| offset(&unflatten(k, &extents), &contracted)).collect(),
        }
    };
    let (left, right) = (side(0), side(1));
    let element = |i: usize| {
        // The axes of the result: batch, free axes of the left, free axes of the right.
        let at = unflatten(i, &ty.shape);
        let (batch, free) = at.split_at(left.batch.len());
        let (free_left, free_right) = free.split_at(left.free.len());
        let start_left = offset(batch, &left.batch) + offset(free_left, &left.free);
        let start_right = offset(batch, &right.batch) + offset(free_right, &right.free);
        let product = |(&a, &b): (&usize, &usize)| left.values[start_left + a] * right.values[start_right + b];
        let sum = left.along.iter().zip(&right.along).map(product).fold(0.0, |sum, product| sum + product);
        scalar::round(ty.dtype, sum)
    };
    (0..ty.elements()).map(element).collect()
}

/// An operand of a contraction: its elements, the strides of its batch and free axes, and the offsets of the elements
/// that are summed for one element of the result.
struct Side {
    values: Vec<f64>,
    batch: Shape,
    free: Shape,
    along: Vec<usize>,
}

fn offset(at: &[usize], strides: &[usize]) -> usize {
    at.iter().zip(strides).map(|(&at, &stride)| at * stride).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::array::Element;
    use crate::graph::{parse, samples};

    /// Evaluates the graph `text`, which has one result.
    fn run<T: Element>(text: &str, inputs: &[Array]) -> Vec<T> {
        interpret(&parse(text).unwrap(), inputs).unwrap()[0].as_slice::<T>().unwrap().to_vec()
    }

    fn array<T: Element>(shape: &[usize], data: &[T]) -> Array {
        Array::from_vec(shape, data.to_vec()).unwrap()
    }

    #[test]
    fn every_sample_evaluates() {
        for sample in samples() {
            let graph = sample.graph();
            let inputs: Vec<Array> = sample.operands.iter().map(|ty| Array::zeros(ty).unwrap()).collect();
            let types: Vec<_> = interpret(&graph, &inputs).unwrap().iter().map(|x| x.ty().clone()).collect();
            assert_eq!(types, graph.output_types(), "{graph}");
        }
    }

    #[test]
    fn movement() {
        let x = array(&[2, 3], &[0, 1, 2, 3, 4, 5]);
        let one = |op: &str, ty: &str| {
            run::<i32>(
                &format!("fn f(%0: i32[2,3]) -> ({ty}) {{\n%1: {ty} = {op}\nreturn %1\n}}"),
                std::slice::from_ref(&x),
            )
        };
        assert_eq!(one("transpose %0 [perm=1,0]", "i32[3,2]"), [0, 3, 1, 4, 2, 5]);
        assert_eq!(one("reshape %0 [shape=3,2]", "i32[3,2]"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(one("slice %0 [start=0,0, limit=2,3, stride=1,2]", "i32[2,2]"), [0, 2, 3, 5]);
        assert_eq!(one("rev %0 [axes=1]", "i32[2,3]"), [2, 1, 0, 5, 4, 3]);
        assert_eq!(one("concatenate %0, %0 [axis=1]", "i32[2,6]"), [0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]);
        assert_eq!(
            one("broadcast_in_dim %0 [shape=2,2,3, dims=1,2]", "i32[2,2,3]"),
            [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]
        );
        assert_eq!(one("reduce_sum %0 [axes=0]", "i32[3]"), [3, 5, 7]);
        assert_eq!(one("reduce_max %0 [axes=0,1]", "i32[]"), [5]);
        assert_eq!(one("argmax %0 [axis=1]", "i32[2]"), [2, 2]);
        let padded = run::<i32>(
            "fn f(%0: i32[3], %1: i32[]) -> (i32[6]) {\n%2: i32[6] = pad %0, %1 [low=-1, high=2, interior=1]\nreturn %2\n}",
            &[array(&[3], &[1, 2, 3]), Array::scalar(9)],
        );
        assert_eq!(padded, [9, 2, 9, 3, 9, 9]);
    }

    #[test]
    fn contractions() {
        let x = array(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let y = array(&[3, 2], &[1.0f32, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let product = run::<f32>(
            "fn f(%0: f32[2,3], %1: f32[3,2]) -> (f32[2,2]) {\n\
             %2: f32[2,2] = dot_general %0, %1 [batch=, contract=1:0]\nreturn %2\n}",
            &[x.clone(), y.clone()],
        );
        assert_eq!(product, [4.0, 5.0, 10.0, 11.0]);
        let batched = run::<f32>(
            "fn f(%0: f32[2,3], %1: f32[3,2]) -> (f32[2]) {\n\
             %2: f32[2] = dot_general %0, %1 [batch=0:1, contract=1:0]\nreturn %2\n}",
            &[x, y],
        );
        assert_eq!(batched, [4.0, 11.0]);
    }

    #[test]
    fn nan_wins_and_nothing_has_an_identity() {
        let x = array(&[2, 2], &[1.0f32, f32::NAN, -0.0, 0.0]);
        let one = |op: &str, ty: &str| format!("fn f(%0: f32[2,2]) -> ({ty}) {{\n%1: {ty} = {op}\nreturn %1\n}}");
        assert_eq!(run::<i32>(&one("argmax %0 [axis=1]", "i32[2]"), std::slice::from_ref(&x)), [1, 0]);
        assert_eq!(run::<i32>(&one("argmin %0 [axis=1]", "i32[2]"), std::slice::from_ref(&x)), [1, 0]);
        let max = run::<f32>(&one("reduce_max %0 [axes=1]", "f32[2]"), &[x]);
        assert!(max[0].is_nan() && max[1].is_sign_positive());
        let none = |op: &str| {
            let text = format!("fn f(%0: i32[2,0]) -> (i32[2]) {{\n%1: i32[2] = {op} %0 [axes=1]\nreturn %1\n}}");
            run::<i32>(&text, &[array::<i32>(&[2, 0], &[])])[0]
        };
        let names = ["reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or"];
        assert_eq!(names.map(none), [0, 1, i32::MIN, i32::MAX, -1, 0]);
    }

    #[test]
    fn wrong_inputs_are_errors() {
        let graph = parse("fn f(%0: f32[2]) -> (f32[2]) {\nreturn %0\n}").unwrap();
        assert_eq!(interpret(&graph, &[]).unwrap_err().to_string(), "interpret: 0 inputs for a graph of 1");
        let error = interpret(&graph, &[Array::scalar(1.0f32)]).unwrap_err();
        assert_eq!(error.to_string(), "interpret: input 0 is f32[], not f32[2]");
    }
}
