//! Lowers elementwise ops to lane instructions: one exhaustive match over the scalar families.
//!
//! In: an op, the element type and the operands. Out: the result, after its instructions. Movement ops and reductions
//! are not lowered here.

use super::storage::{accumulator, bitcast, extended, rounded, to_lane};
use super::{
    LaneBinary as B, LaneCompare as C, LaneConvert as V, LaneId, LaneOp, LaneProgram, LaneType, LaneUnary as U, math,
};
use crate::graph::{BinaryOp, CompareOp, Literal, Op, OpClass, ReduceOp, UnaryOp};
use crate::types::{DType, Kind};

/// A constant.
pub fn literal(p: &mut LaneProgram, literal: Literal) -> LaneId {
    p.bits(LaneType::of(literal.dtype), to_lane(literal.dtype, literal.bits))
}

/// The instructions of result `index` of the elementwise `op`. `dtype` is the element type of the operand that
/// [`Op::typed_operand`] names. `None` when `op` is not elementwise.
pub fn lower(p: &mut LaneProgram, op: &Op, index: u32, dtype: DType, args: &[LaneId]) -> Option<LaneId> {
    Some(match op {
        Op::Unary(UnaryOp::IsFinite) => math::is_finite(p, args[0]),
        Op::Unary(op) => {
            let x = unary(p, *op, dtype, args[0]);
            // What only changes a sign or cuts a fraction off gives no other digits.
            let is_exact = matches!(
                op,
                UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round
            );
            if is_exact && dtype.is_float() { x } else { rounded(p, dtype, x) }
        }
        Op::Binary(op) => {
            let x = binary(p, *op, dtype, args[0], args[1]);
            let is_exact = matches!(op, BinaryOp::Max | BinaryOp::Min);
            if is_exact && dtype.is_float() { x } else { rounded(p, dtype, x) }
        }
        Op::Compare(op) => compare(p, *op, dtype, args[0], args[1]),
        Op::Select => p.select(args[0], args[1], args[2]),
        Op::Convert(to) => convert(p, dtype, *to, args[0]),
        Op::Bitcast(to) => bitcast(p, dtype, *to, args[0]),
        Op::StopGradient => args[0],
        Op::Threefry => {
            let (a, b) = math::threefry2x32(p, args[0], args[1], args[2], args[3]);
            if index == 0 { a } else { b }
        }
        _ => {
            debug_assert!(op.class() != OpClass::Elementwise, "{} has no lane program", op.name());
            return None;
        }
    })
}

/// One step of a reduction: accumulates `x` into `acc`, both of the type that `dtype` [accumulates in](accumulator).
pub fn accumulate(p: &mut LaneProgram, op: ReduceOp, dtype: DType, acc: LaneId, x: LaneId) -> LaneId {
    let op = match op {
        ReduceOp::Sum => return p.add(acc, x),
        ReduceOp::Prod => BinaryOp::Mul,
        ReduceOp::Max => BinaryOp::Max,
        ReduceOp::Min => BinaryOp::Min,
        ReduceOp::And => BinaryOp::And,
        ReduceOp::Or => BinaryOp::Or,
    };
    binary(p, op, accumulator(dtype), acc, x)
}

/// The identity of a reduction as the bits of a lane. A bool is reduced as the integer 0 or 1.
pub fn identity(op: ReduceOp, dtype: DType) -> u64 {
    match (op, dtype) {
        // A bool is reduced as an integer.
        (ReduceOp::Min, DType::Bool) => u64::from(u32::MAX),
        _ => to_lane(dtype, op.identity(dtype).bits),
    }
}

fn unary(p: &mut LaneProgram, op: UnaryOp, dtype: DType, x: LaneId) -> LaneId {
    match op {
        UnaryOp::Neg => p.unary(U::Neg, x),
        UnaryOp::Abs => p.unary(U::Abs, x),
        UnaryOp::Sign if dtype.is_float() => math::sign(p, x),
        UnaryOp::Sign => {
            // max(-1, min(1, x))
            let (one, minus) = (p.int(p.ty(x), 1), p.int(p.ty(x), -1));
            let below = p.binary(B::SMin, x, one);
            p.binary(B::SMax, below, minus)
        }
        UnaryOp::Not => p.unary(U::Not, x),
        UnaryOp::Floor => p.unary(U::Floor, x),
        UnaryOp::Ceil => p.unary(U::Ceil, x),
        UnaryOp::Round => p.unary(U::Nearest, x),
        UnaryOp::IsFinite => unreachable!("it has no result of the type of its operand"),
        UnaryOp::Exp => math::exp(p, x),
        UnaryOp::Exp2 => math::exp2(p, x),
        UnaryOp::Expm1 => math::expm1(p, x),
        UnaryOp::Log => math::log(p, x),
        UnaryOp::Log1p => math::log1p(p, x),
        UnaryOp::Sin => math::sin(p, x),
        UnaryOp::Cos => math::cos(p, x),
        UnaryOp::Tan => math::tan(p, x),
        UnaryOp::Asin => math::asin(p, x),
        UnaryOp::Acos => math::acos(p, x),
        UnaryOp::Atan => math::atan(p, x),
        UnaryOp::Sinh => math::sinh(p, x),
        UnaryOp::Cosh => math::cosh(p, x),
        UnaryOp::Tanh => math::tanh(p, x),
        UnaryOp::Asinh => math::asinh(p, x),
        UnaryOp::Acosh => math::acosh(p, x),
        UnaryOp::Atanh => math::atanh(p, x),
        UnaryOp::Sigmoid => math::sigmoid(p, x),
        UnaryOp::Softplus => math::softplus(p, x),
        UnaryOp::Sqrt => p.unary(U::Sqrt, x),
        UnaryOp::Rsqrt => math::rsqrt(p, x),
        UnaryOp::Cbrt => math::cbrt(p, x),
        UnaryOp::Erf => math::erf(p, x),
        UnaryOp::Erfc => math::erfc(p, x),
        UnaryOp::ErfInv => math::erf_inv(p, x),
        UnaryOp::Lgamma => math::lgamma(p, x),
        UnaryOp::Digamma => math::digamma(p, x),
        UnaryOp::BesselI0e => math::bessel_i0e(p, x),
        UnaryOp::BesselI1e => math::bessel_i1e(p, x),
    }
}

fn binary(p: &mut LaneProgram, op: BinaryOp, dtype: DType, x: LaneId, y: LaneId) -> LaneId {
    let unsigned = dtype.is_unsigned_int();
    let pick = |signed: B, other: B| if unsigned { other } else { signed };
    match op {
        BinaryOp::Add if dtype.is_float() => add(p, [x, y], [false; 2]),
        BinaryOp::Add => p.add(x, y),
        BinaryOp::Sub => p.sub(x, y),
        BinaryOp::Mul => p.mul(x, y),
        BinaryOp::Div if dtype.is_float() => p.div(x, y),
        BinaryOp::Div => p.binary(pick(B::SDiv, B::UDiv), x, y),
        BinaryOp::Rem if dtype.is_float() => math::rem(p, x, y),
        BinaryOp::Rem => p.binary(pick(B::SRem, B::URem), x, y),
        BinaryOp::Max if dtype.is_float() => math::max_nan(p, x, y),
        BinaryOp::Max => p.binary(pick(B::SMax, B::UMax), x, y),
        BinaryOp::Min if dtype.is_float() => math::min_nan(p, x, y),
        BinaryOp::Min => p.binary(pick(B::SMin, B::UMin), x, y),
        BinaryOp::Pow => math::pow(p, x, y),
        BinaryOp::Atan2 => math::atan2(p, x, y),
        BinaryOp::And => p.binary(B::And, x, y),
        BinaryOp::Or => p.binary(B::Or, x, y),
        BinaryOp::Xor => p.binary(B::Xor, x, y),
        BinaryOp::Shl => shift(p, B::Shl, dtype, x, y),
        BinaryOp::Shr => {
            let x = extended(p, dtype, x, false);
            shift(p, B::Shr, dtype, x, y)
        }
        BinaryOp::Sar => {
            // An amount of all bits or more (it is unsigned) acts as one less: every bit is the sign.
            let x = extended(p, dtype, x, true);
            let most = p.int(p.ty(x), dtype.width() as i32 - 1);
            let amount = p.binary(B::UMin, y, most);
            p.binary(B::Sar, x, amount)
        }
    }
}

/// `x + y` of floats, contracted to `fma(a, b, c)` if one operand is a product, unless it is `rounded`: one rounding
/// less, as LLVM contracts for XLA.
pub fn add(p: &mut LaneProgram, [x, y]: [LaneId; 2], rounded: [bool; 2]) -> LaneId {
    let product = |v: LaneId, rounded: bool| match p.insts[v.index()].op {
        LaneOp::Binary(B::Mul, a, b) if !rounded => Some((a, b)),
        _ => None,
    };
    match (product(x, rounded[0]), product(y, rounded[1])) {
        (Some((a, b)), _) => p.fma(a, b, y),
        (None, Some((a, b))) => p.fma(a, b, x),
        (None, None) => p.add(x, y),
    }
}

/// A shift that is 0 if the amount is that of all bits or more.
fn shift(p: &mut LaneProgram, op: B, dtype: DType, x: LaneId, y: LaneId) -> LaneId {
    let (ty, width) = (p.ty(x), dtype.width() as i32);
    let (width, mask, zero) = (p.int(ty, width), p.int(ty, width - 1), p.int(ty, 0));
    let fits = p.compare(C::ULt, y, width);
    let amount = p.binary(B::And, y, mask);
    let shifted = p.binary(op, x, amount);
    p.select(fits, shifted, zero)
}

fn compare(p: &mut LaneProgram, op: CompareOp, dtype: DType, x: LaneId, y: LaneId) -> LaneId {
    let (x, y) = if dtype == DType::Bool { (p.convert(V::BoolToI32, x), p.convert(V::BoolToI32, y)) } else { (x, y) };
    let unsigned = dtype.is_unsigned_int();
    match op {
        CompareOp::Eq => p.compare(C::Eq, x, y),
        CompareOp::Ne => p.compare(C::Ne, x, y),
        CompareOp::Lt => p.compare(if unsigned { C::ULt } else { C::Lt }, x, y),
        CompareOp::Le => p.compare(if unsigned { C::ULe } else { C::Le }, x, y),
        CompareOp::Gt => p.compare(if unsigned { C::ULt } else { C::Lt }, y, x),
        CompareOp::Ge => p.compare(if unsigned { C::ULe } else { C::Le }, y, x),
    }
}

fn convert(p: &mut LaneProgram, from: DType, to: DType, x: LaneId) -> LaneId {
    let ty = LaneType::of(to);
    match (from.kind(), to.kind()) {
        _ if from == to => x,
        (Kind::Bool, Kind::Bool) => x,
        (Kind::Bool, Kind::Int { .. }) => {
            let x = p.convert(V::BoolToI32, x);
            if ty == LaneType::I64 { p.convert(V::U32ToI64, x) } else { x }
        }
        (Kind::Bool, Kind::Float(_)) => {
            let (one, zero) = (p.float(ty, 1.0), p.float(ty, 0.0));
            p.select(x, one, zero)
        }
        (_, Kind::Bool) => {
            let zero = p.bits(LaneType::of(from), 0);
            p.compare(C::Ne, x, zero)
        }
        (Kind::Int { signed }, Kind::Int { .. }) => {
            let x = match (p.ty(x), ty) {
                (LaneType::I32, LaneType::I64) => p.convert(if signed { V::I32ToI64 } else { V::U32ToI64 }, x),
                (LaneType::I64, LaneType::I32) => p.convert(V::I64ToI32, x),
                _ => x,
            };
            rounded(p, to, x)
        }
        (Kind::Int { signed }, Kind::Float(_)) => int_to_float(p, signed, to, x),
        (Kind::Float(_), Kind::Int { signed }) => float_to_int(p, signed, to, x),
        (Kind::Float(_), Kind::Float(_)) => float_to_float(p, to, x),
    }
}

fn float_to_float(p: &mut LaneProgram, to: DType, x: LaneId) -> LaneId {
    match (p.ty(x), to) {
        (LaneType::F32, DType::F64) => p.convert(V::F32ToF64, x),
        (LaneType::F64, DType::F32) => p.convert(V::F64ToF32, x),
        (LaneType::F64, DType::BF16 | DType::F16) => {
            let x = rounded_to_odd(p, x);
            rounded(p, to, x)
        }
        _ => rounded(p, to, x),
    }
}

/// An f64 as an f32 whose last bit is 1 if anything is cut off. Rounding that to 16 bits gives what rounding the f64
/// once gives.
fn rounded_to_odd(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let nearest = p.convert(V::F64ToF32, x);
    let back = p.convert(V::F32ToF64, nearest);
    let (of_x, of_back) = (p.unary(U::Abs, x), p.unary(U::Abs, back));
    let (is_above, is_below) = (p.compare(C::Lt, of_x, of_back), p.compare(C::Lt, of_back, of_x));
    let bits = p.convert(V::F32Bits, nearest);
    let one = p.i32(1);
    let below = p.sub(bits, one);
    let cut = p.select(is_above, below, bits);
    let odd = p.binary(B::Or, cut, one);
    let is_inexact = p.binary(B::Or, is_above, is_below);
    let bits = p.select(is_inexact, odd, bits);
    p.convert(V::F32FromBits, bits)
}

fn int_to_float(p: &mut LaneProgram, signed: bool, to: DType, x: LaneId) -> LaneId {
    let pick = |of_signed: V, other: V| if signed { of_signed } else { other };
    match (p.ty(x), to) {
        (LaneType::I32, DType::F32) => p.convert(pick(V::I32ToF32, V::U32ToF32), x),
        (LaneType::I32, DType::F64) => p.convert(pick(V::I32ToF64, V::U32ToF64), x),
        (_, DType::F32) => p.convert(pick(V::I64ToF32, V::U64ToF32), x),
        (_, DType::F64) => p.convert(pick(V::I64ToF64, V::U64ToF64), x),
        (LaneType::I32, _) => {
            let exact = p.convert(pick(V::I32ToF64, V::U32ToF64), x);
            float_to_float(p, to, exact)
        }
        _ => {
            // At most 53 bits, of which the last is 1 if anything is cut off, are exact in f64.
            let (low, cut, zero, bit) = (p.i64(0xfff), p.i64(!0xfff), p.i64(0), p.i64(0x800));
            let rest = p.binary(B::And, x, low);
            let kept = p.binary(B::And, x, cut);
            let has_rest = p.compare(C::Ne, rest, zero);
            let rest_bit = p.select(has_rest, bit, zero);
            let odd = p.binary(B::Or, kept, rest_bit);
            // Small ones are exact as they are.
            let sign = p.i64(53);
            let above = p.binary(if signed { B::Sar } else { B::Shr }, x, sign);
            let minus = p.i64(-1);
            let (is_zero, is_minus) = (p.compare(C::Eq, above, zero), p.compare(C::Eq, above, minus));
            let is_small = if signed { p.binary(B::Or, is_zero, is_minus) } else { is_zero };
            let x = p.select(is_small, x, odd);
            let exact = p.convert(pick(V::I64ToF64, V::U64ToF64), x);
            float_to_float(p, to, exact)
        }
    }
}

/// Towards zero and saturating; NaN gives 0.
fn float_to_int(p: &mut LaneProgram, signed: bool, to: DType, x: LaneId) -> LaneId {
    let pick = |of_signed: V, other: V| if signed { of_signed } else { other };
    match (p.ty(x), to.size()) {
        (LaneType::F32, 4) => p.convert(pick(V::F32ToI32, V::F32ToU32), x),
        (LaneType::F64, 4) => p.convert(pick(V::F64ToI32, V::F64ToU32), x),
        (LaneType::F32, 8) => {
            let x = p.convert(V::F32ToF64, x);
            p.convert(pick(V::F64ToI64, V::F64ToU64), x)
        }
        (_, 8) => p.convert(pick(V::F64ToI64, V::F64ToU64), x),
        (ty, _) => {
            let x = p.convert(if ty == LaneType::F32 { V::F32ToI32 } else { V::F64ToI32 }, x);
            let (least, greatest) = to.range();
            let bound = |p: &mut LaneProgram, value| p.bits(LaneType::I32, DType::I32.bits(value));
            let (least, greatest) = (bound(p, least), bound(p, greatest));
            let x = p.binary(B::SMax, x, least);
            p.binary(B::SMin, x, greatest)
        }
    }
}
