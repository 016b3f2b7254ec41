//! The type of an op's result, from the types of its operands: one exhaustive match, and one check that memory can hold
//! it. An error is the reason only; the caller adds the op's name and the user's line.

mod control;
mod conv;
mod indexing;
mod matrices;

pub use control::scan_types;
use smallvec::SmallVec;

use super::family::UnaryOp;
use super::op::{DotAxes, Op, OpClass};
use crate::types::{DType, MAX_BYTES, Shape, TensorType, join};

pub(super) type Inferred = Result<TensorType, String>;

/// The types of an op's results, one as a rule.
pub type Results = SmallVec<[TensorType; 1]>;

/// The types of the results of `op` applied to operands of these types. See [`infer`].
///
/// # Errors
/// Why it cannot be applied.
pub fn results(op: &Op, operands: &[&TensorType]) -> Result<Results, String> {
    let first = infer(op, operands)?;
    Ok(match op {
        Op::Sort { .. } => operands.iter().map(|&x| x.clone()).collect(),
        Op::Scan { body, num_carry, length, .. } => control::scan_results(body, *num_carry, *length)?,
        Op::Lu | Op::Qr { .. } | Op::Eigh | Op::Svd { .. } => matrices::decomposition(op, operands[0])?,
        _ => SmallVec::from_elem(first, op.results(operands.len())),
    })
}

/// The type of `op` (of its first result) applied to operands of these types, or why it cannot be applied: the operands
/// do not go together, or the result does not [pass](TensorType::check_size).
pub fn infer(op: &Op, operands: &[&TensorType]) -> Inferred {
    let ty = unchecked(op, operands)?;
    ty.check_size()?;
    Ok(ty)
}

fn unchecked(op: &Op, operands: &[&TensorType]) -> Inferred {
    match op.arity() {
        Some(n) if n != operands.len() => return Err(format!("takes {n} operands, not {}", operands.len())),
        None if operands.is_empty() && op.class() != OpClass::Control => {
            return Err("takes at least one operand".into());
        }
        _ => {}
    }
    match op {
        Op::Param(_) => Err("a parameter has no inferred type".into()),
        Op::Literal(literal) => Ok(TensorType::scalar(literal.dtype)),
        Op::Constant(constant) => Ok(constant.ty().clone()),
        Op::Iota { dtype, shape, axis } => {
            check_axis(*axis, shape.len(), || format!("shape [{}]", join(shape, ",")))?;
            check(*dtype != DType::Bool, || "cannot count in bool".into())?;
            check_counter(shape[*axis], *dtype)?;
            Ok(TensorType::new(*dtype, shape))
        }
        Op::Unary(op) => {
            let x = operands[0];
            check(op.class().contains(x.dtype), || format!("takes {}, not {x}", op.class().describe()))?;
            Ok(if *op == UnaryOp::IsFinite { x.with_dtype(DType::Bool) } else { x.clone() })
        }
        Op::Binary(op) => {
            let (x, y) = same(operands[0], operands[1])?;
            check(op.class().contains(x.dtype), || format!("takes {}, not {x} and {y}", op.class().describe()))?;
            Ok(x.clone())
        }
        Op::Compare(op) => {
            let (x, y) = same(operands[0], operands[1])?;
            check(op.class().contains(x.dtype), || format!("takes {}, not {x} and {y}", op.class().describe()))?;
            Ok(x.with_dtype(DType::Bool))
        }
        Op::Select => {
            let (pred, x, y) = (operands[0], operands[1], operands[2]);
            check(pred.dtype == DType::Bool, || format!("the predicate must be bool, not {pred}"))?;
            same(x, y)?;
            check(pred.shape == x.shape, || format!("predicate {pred} and operands {x} differ in shape"))?;
            Ok(x.clone())
        }
        Op::Convert(dtype) => Ok(operands[0].with_dtype(*dtype)),
        Op::Bitcast(dtype) => {
            let x = operands[0];
            let fits = x.dtype.size() == dtype.size() && (x.dtype == DType::Bool) == (*dtype == DType::Bool);
            check(fits, || format!("{x} and {dtype} differ in size"))?;
            Ok(x.with_dtype(*dtype))
        }
        Op::StopGradient => Ok(operands[0].clone()),
        Op::Sort { axis, keys } => {
            let x = operands[0];
            check_axis(*axis, x.rank(), || x.to_string())?;
            check((1..=operands.len()).contains(keys), || {
                format!("sorts {} operands by 1 to {} of them, not by {keys}", operands.len(), operands.len())
            })?;
            for y in operands {
                check(y.shape == x.shape, || format!("operands {x} and {y} differ in shape"))?;
            }
            check_counter(x.shape[*axis], DType::U32)?;
            Ok(x.clone())
        }
        Op::Scan { body, num_consts, num_carry, length, .. } => {
            control::scan(body, *num_consts, *num_carry, *length, operands)
        }
        Op::Cholesky => matrices::cholesky(operands[0]),
        Op::TriangularSolve(how) => matrices::triangular_solve(*how, operands[0], operands[1]),
        Op::Fft { .. } => {
            let x = operands[0];
            check(matches!(x.dtype, DType::F32 | DType::F64), || format!("takes f32 or f64, not {x}"))?;
            check(x.rank() > 0, || format!("{x} has no axis"))?;
            Ok(same(x, operands[1])?.0.clone())
        }
        Op::Lu | Op::Qr { .. } | Op::Eigh | Op::Svd { .. } => {
            Ok(matrices::decomposition(op, operands[0])?.swap_remove(0))
        }
        Op::Solve { .. } => matrices::solve(operands[0], operands[1]),
        Op::Result(_) => Err("a result of an op takes its type from the op".into()),
        Op::Threefry => {
            for x in operands {
                check(x.dtype == DType::U32, || format!("takes u32, not {x}"))?;
                same(operands[0], x)?;
            }
            Ok(operands[0].clone())
        }
        Op::Reshape(shape) => {
            let result = TensorType::new(operands[0].dtype, shape);
            result.check_size()?;
            check(result.elements() == operands[0].elements(), || {
                format!(
                    "cannot reshape {} to [{}]: {} elements are not {}",
                    operands[0],
                    join(shape, ","),
                    operands[0].elements(),
                    result.elements()
                )
            })?;
            Ok(result)
        }
        Op::Transpose(perm) => {
            let x = operands[0];
            check(perm.len() == x.rank() && (0..x.rank()).all(|axis| perm.contains(&axis)), || {
                format!("[{}] is no permutation of the axes of {x}", join(perm, ","))
            })?;
            let shape: Shape = perm.iter().map(|&axis| x.shape[axis]).collect();
            Ok(TensorType::new(x.dtype, &shape))
        }
        Op::Broadcast { shape, dims } => broadcast(operands[0], shape, dims),
        Op::Slice { start, limit, stride } => {
            let x = operands[0];
            let rank = x.rank();
            check(start.len() == rank && limit.len() == rank && stride.len() == rank, || {
                format!("needs start, limit and stride for each of the {rank} axes of {x}")
            })?;
            let mut shape = Shape::new();
            for axis in 0..rank {
                let (s, l, step) = (start[axis], limit[axis], stride[axis]);
                check(s <= l && l <= x.shape[axis] && (1..=MAX_BYTES).contains(&step), || {
                    format!("{s}..{l} by {step} is not within axis {axis} of {x}")
                })?;
                shape.push((l - s).div_ceil(step));
            }
            Ok(TensorType::new(x.dtype, &shape))
        }
        Op::Pad { low, high, interior } => {
            let (x, value) = (operands[0], operands[1]);
            let rank = x.rank();
            check(value.rank() == 0 && value.dtype == x.dtype, || {
                format!("pads {x} with a {} scalar, not {value}", x.dtype)
            })?;
            check(low.len() == rank && high.len() == rank && interior.len() == rank, || {
                format!("needs low, high and interior for each of the {rank} axes of {x}")
            })?;
            let (mut shape, mut grown) = (Shape::new(), x.clone());
            for axis in 0..rank {
                let (size, most) = padded(x.shape[axis], low[axis], high[axis], interior[axis])
                    .ok_or_else(|| format!("axis {axis} of {x} would get more elements than memory can have"))?;
                check(size >= 0, || format!("axis {axis} of {x} would get extent {size}"))?;
                shape.push(size as usize);
                grown.shape[axis] = most;
            }
            // What is cut off lies within what would fit, so positions before the cut do not overflow either.
            grown.check_size()?;
            Ok(TensorType::new(x.dtype, &shape))
        }
        Op::Concat(axis) => {
            let first = operands[0];
            check_axis(*axis, first.rank(), || first.to_string())?;
            let mut shape = first.shape.clone();
            for x in &operands[1..] {
                let fits = x.dtype == first.dtype
                    && x.rank() == first.rank()
                    && (0..x.rank()).all(|a| a == *axis || x.shape[a] == first.shape[a]);
                check(fits, || format!("{first} and {x} do not go together along axis {axis}"))?;
                shape[*axis] = shape[*axis].saturating_add(x.shape[*axis]);
            }
            Ok(TensorType::new(first.dtype, &shape))
        }
        Op::Rev(axes) => {
            check_axes(axes, operands[0])?;
            Ok(operands[0].clone())
        }
        Op::Reduce(op, axes) => {
            let x = operands[0];
            check(op.class().contains(x.dtype), || format!("takes {}, not {x}", op.class().describe()))?;
            check_axes(axes, x)?;
            check(axes.windows(2).all(|w| w[0] < w[1]), || format!("axes [{}] do not ascend", join(axes, ",")))?;
            let shape: Shape = (0..x.rank()).filter(|a| !axes.contains(a)).map(|a| x.shape[a]).collect();
            Ok(TensorType::new(x.dtype, &shape))
        }
        Op::ArgReduce(op, axis) => {
            let x = operands[0];
            check(op.class().contains(x.dtype), || format!("takes {}, not {x}", op.class().describe()))?;
            check_axis(*axis, x.rank(), || x.to_string())?;
            check(x.shape[*axis] > 0, || format!("axis {axis} of {x} is empty"))?;
            check_counter(x.shape[*axis], DType::I32)?;
            let shape: Shape = (0..x.rank()).filter(|a| a != axis).map(|a| x.shape[a]).collect();
            Ok(TensorType::new(DType::I32, &shape))
        }
        Op::Dot(axes, _) => dot(axes, operands[0], operands[1]),
        Op::Conv(dims, _) => dims.infer(operands[0], operands[1]),
        Op::Gather { dims, sizes } => dims.gather(operands[0], operands[1], sizes),
        Op::Scatter { dims, combine } => dims.scatter(*combine, operands[0], operands[1], operands[2]),
        Op::DynamicSlice { sizes } => indexing::dynamic_slice(operands, sizes),
        Op::DynamicUpdateSlice => indexing::dynamic_update_slice(operands),
    }
}

pub(super) fn check(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

/// Positions along an axis are counted as i32; in u32, and in narrower unsigned integers, they wrap.
fn check_counter(extent: usize, dtype: DType) -> Result<(), String> {
    const MOST: usize = 1 << 31;
    let wraps = dtype.is_unsigned_int() && dtype.size() <= DType::I32.size();
    check(wraps || extent <= MOST, || format!("cannot count {extent} positions in {dtype}, only {MOST}"))
}

/// The extent of a padded axis, and the extent before anything is cut off; `None` where that is more than memory can
/// have, or if it overflows.
fn padded(extent: usize, low: isize, high: isize, interior: usize) -> Option<(isize, usize)> {
    let [extent, interior, low, high] = [extent as i128, interior as i128, low as i128, high as i128];
    let spread = (extent - 1).max(0).checked_mul(interior)?.checked_add(extent)?;
    let grown = spread + low.max(0) + high.max(0);
    let most = MAX_BYTES as i128;
    if interior >= most || grown > most {
        return None;
    }
    Some((isize::try_from(spread + low + high).ok()?, grown as usize))
}

fn check_axis(axis: usize, rank: usize, of: impl FnOnce() -> String) -> Result<(), String> {
    check(axis < rank, || format!("{} has no axis {axis}", of()))
}

pub(super) fn check_axes(axes: &[usize], x: &TensorType) -> Result<(), String> {
    for (i, &axis) in axes.iter().enumerate() {
        check_axis(axis, x.rank(), || x.to_string())?;
        check(!axes[..i].contains(&axis), || format!("axis {axis} of {x} is named twice"))?;
    }
    Ok(())
}

fn same<'a>(x: &'a TensorType, y: &'a TensorType) -> Result<(&'a TensorType, &'a TensorType), String> {
    check(x.dtype == y.dtype, || format!("{x} and {y} differ in element type"))?;
    check(x.shape == y.shape, || format!("{x} and {y} differ in shape"))?;
    Ok((x, y))
}

fn broadcast(x: &TensorType, shape: &Shape, dims: &[usize]) -> Inferred {
    let cannot = |why: String| format!("cannot broadcast {x} to [{}]: {why}", join(shape, ","));
    check(dims.len() == x.rank(), || cannot(format!("{} places for {} axes", dims.len(), x.rank())))?;
    check(dims.windows(2).all(|w| w[0] < w[1]), || cannot(format!("places [{}] do not ascend", join(dims, ","))))?;
    for (axis, &dim) in dims.iter().enumerate() {
        check(dim < shape.len(), || cannot(format!("there is no axis {dim}")))?;
        check(x.shape[axis] == shape[dim] || x.shape[axis] == 1, || {
            cannot(format!("axis {axis} has extent {}, not {} or 1", x.shape[axis], shape[dim]))
        })?;
    }
    Ok(TensorType::new(x.dtype, shape))
}

fn dot(axes: &DotAxes, x: &TensorType, y: &TensorType) -> Inferred {
    let cannot = |why: String| format!("cannot contract {x} with {y}: {why}");
    check(x.dtype == y.dtype && x.dtype.is_float(), || cannot("takes two floats of one type".into()))?;
    for (side, ty) in [(0, x), (1, y)] {
        let named: Vec<usize> =
            axes.batch.iter().chain(&axes.contract).map(|p| if side == 0 { p.0 } else { p.1 }).collect();
        check_axes(&named, ty).map_err(cannot)?;
    }
    for &(a, b) in axes.batch.iter().chain(&axes.contract) {
        check(x.shape[a] == y.shape[b], || {
            format!("cannot contract {x} axis {a} with {y} axis {b} ({} ≠ {})", x.shape[a], y.shape[b])
        })?;
    }
    let batch = axes.batch.iter().map(|&(a, _)| x.shape[a]);
    let left = axes.free(0, x.rank()).into_iter().map(|a| x.shape[a]);
    let right = axes.free(1, y.rank()).into_iter().map(|a| y.shape[a]);
    let shape: Shape = batch.chain(left).chain(right).collect();
    Ok(TensorType::new(x.dtype, &shape))
}
