//! Slow paths of functions that few arguments take, as the other back ends call them: see [`Rare`].

use super::code::{Code, class};
use super::trig;
use crate::lower::lane::{LaneType, Rare};
use crate::ptx::inst::{BinaryOp, Cmp, InstOp, Operand, Reg, RegClass, Rounding, Type, UnaryOp};

/// The value of `function` for `x` and `y`.
pub(super) fn emit(code: &mut Code, function: Rare, ty: LaneType, x: Reg, y: Reg) -> Reg {
    match function {
        Rare::Rem => remainder(code, ty, x, y),
        Rare::Sin | Rare::Cos | Rare::Tan => trig::emit(code, function, ty, x),
    }
}

/// The parts of a format.
struct Format {
    /// The type of a float and of its bits in 64 bits.
    float: Type,
    /// Bits of the mantissa without the leading one.
    mantissa: u32,
    /// All bits of the exponent.
    exponent: u64,
    sign: u64,
}

impl Format {
    fn of(ty: LaneType) -> Format {
        match ty {
            LaneType::F64 => Format { float: Type::F64, mantissa: 52, exponent: 0x7ff, sign: 1 << 63 },
            _ => Format { float: Type::F32, mantissa: 23, exponent: 0xff, sign: 1 << 31 },
        }
    }
}

/// The exact remainder with the sign of `x`, by long division of the mantissas: `fmod`.
fn remainder(code: &mut Code, ty: LaneType, x: Reg, y: Reg) -> Reg {
    let format = Format::of(ty);
    let (x_bits, y_bits) = (bits(code, &format, x), bits(code, &format, y));
    let (x_mantissa, x_exponent) = parts(code, &format, x_bits);
    let (y_mantissa, y_exponent) = parts(code, &format, y_bits);
    // x is infinite or NaN, y is NaN or zero: the result is NaN. Zero is no divisor of the loop either.
    let magnitude = format.sign - 1;
    let infinite = format.exponent << format.mantissa;
    let x_magnitude = code.binary(BinaryOp::And, Type::B64, x_bits, Operand::Imm(magnitude));
    let y_magnitude = code.binary(BinaryOp::And, Type::B64, y_bits, Operand::Imm(magnitude));
    let x_odd = code.setp(Cmp::Ge, Type::U64, x_magnitude, Operand::Imm(infinite));
    let y_nan = code.setp(Cmp::Gt, Type::U64, y_magnitude, Operand::Imm(infinite));
    let y_zero = code.setp(Cmp::Eq, Type::U64, y_magnitude, Operand::Imm(0));
    let odd = code.binary(BinaryOp::Or, Type::Pred, x_odd, y_nan);
    let odd = code.binary(BinaryOp::Or, Type::Pred, odd, y_zero);
    let divisor = code.selp(Type::B64, Operand::Imm(1), y_mantissa, odd);

    // x is rest · 2^(left) · 2^(y_exponent): shift it up by as many bits as fit, and take the remainder, until none is
    // left. With a smaller exponent than that of y, x is smaller than y or has a mantissa that is shifted down.
    let left = code.binary(BinaryOp::Sub, Type::S32, x_exponent, y_exponent);
    let step = 64 - (format.mantissa + 1);
    let rest = code.mov(Type::B64, x_mantissa);
    let smaller = code.setp(Cmp::Lt, Type::U64, x_magnitude, y_magnitude);
    let skip = code.binary(BinaryOp::Or, Type::Pred, smaller, odd);
    let (top, end) = (code.label(), code.label());
    code.branch_if(skip, true, end);
    code.binary_to(rest, BinaryOp::Rem, Type::U64, rest, divisor);
    code.place(top);
    let done = code.setp(Cmp::Le, Type::S32, left, 0);
    code.branch_if(done, true, end);
    let now = code.binary(BinaryOp::Min, Type::S32, left, step);
    code.binary_to(rest, BinaryOp::Shl, Type::B64, rest, now);
    code.binary_to(rest, BinaryOp::Rem, Type::U64, rest, divisor);
    code.binary_to(left, BinaryOp::Sub, Type::S32, left, now);
    code.push(InstOp::Bra { target: top });
    code.place(end);

    // rest · 2^(y_exponent), which is a float: shifted up to have the leading bit, or as a subnormal number.
    let zeros = code.unary(UnaryOp::Clz, Type::B64, rest);
    let shift = code.binary(BinaryOp::Sub, Type::S32, zeros, 63 - format.mantissa);
    let room = code.binary(BinaryOp::Sub, Type::S32, y_exponent, 1);
    let shift = code.binary(BinaryOp::Min, Type::S32, shift, room);
    let mantissa = code.binary(BinaryOp::Shl, Type::B64, rest, shift);
    let exponent = code.binary(BinaryOp::Sub, Type::S32, y_exponent, shift);
    let has_leading = code.binary(BinaryOp::Shr, Type::U64, mantissa, format.mantissa);
    let is_normal = code.setp(Cmp::Ne, Type::U64, has_leading, Operand::Imm(0));
    let exponent = code.selp(Type::B32, exponent, 0, is_normal);
    let exponent = code.cvt(Type::U64, Type::U32, Rounding::None, exponent);
    let exponent = code.binary(BinaryOp::Shl, Type::B64, exponent, format.mantissa);
    let fraction = code.binary(BinaryOp::And, Type::B64, mantissa, Operand::Imm((1 << format.mantissa) - 1));
    let result = code.binary(BinaryOp::Or, Type::B64, exponent, fraction);
    let result = code.selp(Type::B64, x_magnitude, result, smaller);
    let sign = code.binary(BinaryOp::And, Type::B64, x_bits, Operand::Imm(format.sign));
    let result = code.binary(BinaryOp::Or, Type::B64, result, sign);
    let nan = infinite | 1 << (format.mantissa - 1);
    let result = code.selp(Type::B64, Operand::Imm(nan), result, odd);
    float(code, &format, result)
}

/// The bits of a float as a b64.
fn bits(code: &mut Code, format: &Format, x: Reg) -> Reg {
    if format.float == Type::F64 {
        let d = code.reg(RegClass::B64);
        code.push(InstOp::Mov { ty: Type::B64, d, a: x.into() });
        return d;
    }
    let d = code.reg(RegClass::B32);
    code.push(InstOp::Mov { ty: Type::B32, d, a: x.into() });
    code.cvt(Type::U64, Type::U32, Rounding::None, d)
}

/// The inverse of [`bits`].
fn float(code: &mut Code, format: &Format, x: Reg) -> Reg {
    let d = code.reg(class(format.float));
    if format.float == Type::F64 {
        code.push(InstOp::Mov { ty: Type::B64, d, a: x.into() });
    } else {
        let word = code.cvt(Type::U32, Type::U64, Rounding::None, x);
        code.push(InstOp::Mov { ty: Type::B32, d, a: word.into() });
    }
    d
}

/// The mantissa with its leading bit, a b64, and the exponent, an s32, which is 1 for subnormal numbers.
fn parts(code: &mut Code, format: &Format, bits: Reg) -> (Reg, Reg) {
    let exponent = code.binary(BinaryOp::Shr, Type::U64, bits, format.mantissa);
    let exponent = code.binary(BinaryOp::And, Type::B64, exponent, Operand::Imm(format.exponent));
    let fraction = code.binary(BinaryOp::And, Type::B64, bits, Operand::Imm((1 << format.mantissa) - 1));
    let is_normal = code.setp(Cmp::Ne, Type::U64, exponent, Operand::Imm(0));
    let leading = code.selp(Type::B64, Operand::Imm(1 << format.mantissa), Operand::Imm(0), is_normal);
    let mantissa = code.binary(BinaryOp::Or, Type::B64, fraction, leading);
    let exponent = code.cvt(Type::U32, Type::U64, Rounding::None, exponent);
    (mantissa, code.binary(BinaryOp::Max, Type::S32, exponent, 1))
}
