//! Elementwise ops on one element, with JAX's semantics: bit-identical for integers and bools.
//!
//! Elements come in and go out as the low bits of a `u64`, as in [`DType::bits`]. Integers are computed as integers
//! that are large enough for every type, and wrap at the end. Floats are computed in f64 and rounded once, with `libm`
//! rather than the platform's functions, so that constants fold to the same bits on every platform. For f32 this rounds
//! `+ - * /` and `sqrt` correctly, since f64 has at least 2p + 2 bits of precision. A NaN result is the canonical quiet
//! NaN, since processors differ in the NaN they produce.

use super::special;
use crate::graph::{BinaryOp, CompareOp, UnaryOp};
use crate::types::DType;
use crate::types::scalar::Scalar;

/// Applies a unary op to an element of type `dtype`.
pub(super) fn unary(op: UnaryOp, dtype: DType, x: u64) -> u64 {
    match dtype.value(x) {
        // The only unary op on bools is `not`.
        Scalar::Int(x) if dtype == DType::Bool => dtype.bits(x ^ 1),
        Scalar::Int(x) => dtype.bits(int_unary(op, x)),
        Scalar::Float(x) if op == UnaryOp::IsFinite => u64::from(x.is_finite()),
        Scalar::Float(x) => round(dtype, float_unary(op, x)),
    }
}

/// Applies a binary op to two elements of type `dtype`.
pub(super) fn binary(op: BinaryOp, dtype: DType, x: u64, y: u64) -> u64 {
    match (dtype.value(x), dtype.value(y)) {
        _ if dtype == DType::Bool => bool_binary(op, x, y),
        (Scalar::Float(x), Scalar::Float(y)) => round(dtype, float_binary(op, x, y)),
        _ => int_binary(op, dtype, x, y),
    }
}

/// Compares two elements of type `dtype`.
pub(super) fn compare(op: CompareOp, dtype: DType, x: u64, y: u64) -> bool {
    let (x, y) = (dtype.value(x), dtype.value(y));
    match op {
        CompareOp::Eq => x == y,
        CompareOp::Ne => x != y,
        CompareOp::Lt => x < y,
        CompareOp::Le => x <= y,
        CompareOp::Gt => x > y,
        CompareOp::Ge => x >= y,
    }
}

/// Converts an element of type `from` to type `to`.
pub(super) fn convert(from: DType, to: DType, x: u64) -> u64 {
    round(to, from.value(x))
}

/// Converts `x` to an element, as [`DType::bits`]; a NaN to the canonical one.
pub(super) fn round(dtype: DType, x: impl Into<Scalar>) -> u64 {
    let x = x.into();
    match dtype.float() {
        Some(format) if x.is_nan() => format.nan(),
        _ => dtype.bits(x),
    }
}

/// Both words of threefry2x32 for a key and a counter, as in JAX: Salmon et al., "Parallel random numbers: as easy as
/// 1, 2, 3" (2011), with 20 rounds.
pub(super) fn threefry(key: [u64; 2], counter: [u64; 2]) -> [u64; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let [k0, k1] = key.map(|x| x as u32);
    let schedule = [k0, k1, k0 ^ k1 ^ 0x1BD1_1BDA];
    let [mut x, mut y] = counter.map(|x| x as u32);
    x = x.wrapping_add(k0);
    y = y.wrapping_add(k1);
    for group in 0..5 {
        for rotation in ROTATIONS[group % 2] {
            x = x.wrapping_add(y);
            y = y.rotate_left(rotation) ^ x;
        }
        x = x.wrapping_add(schedule[(group + 1) % 3]);
        y = y.wrapping_add(schedule[(group + 2) % 3]).wrapping_add(group as u32 + 1);
    }
    [u64::from(x), u64::from(y)]
}

/// Binary float ops in f64. Reductions accumulate with them.
pub(super) fn float_binary(op: BinaryOp, x: f64, y: f64) -> f64 {
    match op {
        BinaryOp::Add => x + y,
        BinaryOp::Sub => x - y,
        BinaryOp::Mul => x * y,
        BinaryOp::Div => x / y,
        BinaryOp::Rem => libm::fmod(x, y),
        BinaryOp::Max => max(x, y),
        BinaryOp::Min => -max(-x, -y),
        BinaryOp::Pow => libm::pow(x, y),
        BinaryOp::Atan2 => libm::atan2(x, y),
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl | BinaryOp::Shr | BinaryOp::Sar => {
            unreachable!("a verified graph has no {} of floats", op.name())
        }
    }
}

/// The maximum. NaN propagates; +0 is larger than -0.
fn max(x: f64, y: f64) -> f64 {
    if x.is_nan() || y.is_nan() {
        f64::NAN
    } else if x > y || (x == y && x.is_sign_positive()) {
        x
    } else {
        y
    }
}

fn float_unary(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sign if x == 0.0 || x.is_nan() => x,
        UnaryOp::Sign => 1f64.copysign(x),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Exp => libm::exp(x),
        UnaryOp::Exp2 => libm::exp2(x),
        UnaryOp::Expm1 => libm::expm1(x),
        UnaryOp::Log => libm::log(x),
        UnaryOp::Log1p => libm::log1p(x),
        UnaryOp::Sin => libm::sin(x),
        UnaryOp::Cos => libm::cos(x),
        UnaryOp::Tan => libm::tan(x),
        UnaryOp::Asin => libm::asin(x),
        UnaryOp::Acos => libm::acos(x),
        UnaryOp::Atan => libm::atan(x),
        UnaryOp::Sinh => libm::sinh(x),
        UnaryOp::Cosh => libm::cosh(x),
        UnaryOp::Tanh => libm::tanh(x),
        UnaryOp::Asinh => libm::asinh(x),
        UnaryOp::Acosh => libm::acosh(x),
        UnaryOp::Atanh => libm::atanh(x),
        UnaryOp::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
        // log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), which cannot overflow.
        UnaryOp::Softplus => max(x, 0.0) + libm::log1p(libm::exp(-x.abs())),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Rsqrt => 1.0 / x.sqrt(),
        UnaryOp::Cbrt => libm::cbrt(x),
        UnaryOp::Erf => libm::erf(x),
        UnaryOp::Erfc => libm::erfc(x),
        UnaryOp::ErfInv => erf_inv(x),
        UnaryOp::Lgamma => special::lgamma(x),
        UnaryOp::Digamma => special::digamma(x),
        UnaryOp::BesselI0e => special::bessel(0, x),
        UnaryOp::BesselI1e => special::bessel(1, x),
        UnaryOp::Not | UnaryOp::IsFinite => unreachable!("{} of a float gives no float", op.name()),
    }
}

/// The inverse of the error function: the approximation of Winitzki, "A handy approximation for the error function and
/// its inverse" (2008), with an error of 4·10⁻³, then Halley's method, whose convergence is cubic.
fn erf_inv(x: f64) -> f64 {
    let rest = 1.0 - x.abs();
    if rest <= 0.0 {
        return if rest == 0.0 { f64::INFINITY.copysign(x) } else { f64::NAN };
    }
    if x == 0.0 || x.is_nan() {
        return x;
    }
    let log = libm::log(rest * (1.0 + x.abs()));
    let a = 0.147;
    let b = 2.0 / (std::f64::consts::PI * a) + log / 2.0;
    let mut y = ((b * b - log / a).sqrt() - b).sqrt();
    for _ in 0..4 {
        // f(y) = erf(y) - |x|, f' = 2/√π e^(-y²), f''/f' = -2y; Halley: y - u / (1 + u y) with u = f / f'.
        // Near 1, erfc avoids the cancellation of erf.
        let error = if x.abs() < 0.5 { libm::erf(y) - x.abs() } else { rest - libm::erfc(y) };
        let u = error / (std::f64::consts::FRAC_2_SQRT_PI * libm::exp(-y * y));
        y -= u / (1.0 + u * y);
    }
    y.copysign(x)
}

/// The result wraps to the element type.
fn int_unary(op: UnaryOp, x: i128) -> i128 {
    match op {
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sign => x.signum(),
        UnaryOp::Not => !x,
        UnaryOp::Floor
        | UnaryOp::Ceil
        | UnaryOp::Round
        | UnaryOp::IsFinite
        | UnaryOp::Exp
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
        | UnaryOp::Sqrt
        | UnaryOp::Rsqrt
        | UnaryOp::Cbrt
        | UnaryOp::Erf
        | UnaryOp::Erfc
        | UnaryOp::ErfInv
        | UnaryOp::Lgamma
        | UnaryOp::Digamma
        | UnaryOp::BesselI0e
        | UnaryOp::BesselI1e => unreachable!("a verified graph has no {} of integers", op.name()),
    }
}

/// Integer math by XLA's rules, on elements of type `dtype`. The value of an element depends on whether it has a sign.
fn int_binary(op: BinaryOp, dtype: DType, x: u64, y: u64) -> u64 {
    let (Scalar::Int(a), Scalar::Int(b)) = (dtype.value(x), dtype.value(y)) else {
        unreachable!("{dtype} is an integer type")
    };
    // The amount of a shift has no sign.
    let beyond = y >= u64::from(dtype.width());
    let result = match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a.wrapping_mul(b),
        // x / 0 has all bits set: -1, or the maximum.
        BinaryOp::Div if b == 0 => -1,
        BinaryOp::Div => a / b,
        BinaryOp::Rem if b == 0 => a,
        BinaryOp::Rem => a % b,
        BinaryOp::Max => a.max(b),
        BinaryOp::Min => a.min(b),
        BinaryOp::And => a & b,
        BinaryOp::Or => a | b,
        BinaryOp::Xor => a ^ b,
        BinaryOp::Shl | BinaryOp::Shr if beyond => 0,
        BinaryOp::Shl => a << y,
        BinaryOp::Shr => i128::from(x >> y),
        // The top bit is the sign, of unsigned integers too.
        BinaryOp::Sar => {
            let above = u64::BITS - dtype.width();
            i128::from((x << above) as i64 >> above >> y.min(63))
        }
        BinaryOp::Pow | BinaryOp::Atan2 => unreachable!("a verified graph has no {} of integers", op.name()),
    };
    dtype.bits(result)
}

fn bool_binary(op: BinaryOp, x: u64, y: u64) -> u64 {
    match op {
        BinaryOp::And => x & y,
        BinaryOp::Or => x | y,
        BinaryOp::Xor => x ^ y,
        BinaryOp::Add
        | BinaryOp::Sub
        | BinaryOp::Mul
        | BinaryOp::Div
        | BinaryOp::Rem
        | BinaryOp::Max
        | BinaryOp::Min
        | BinaryOp::Pow
        | BinaryOp::Atan2
        | BinaryOp::Shl
        | BinaryOp::Shr
        | BinaryOp::Sar => unreachable!("a verified graph has no {} of truth values", op.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_follow_xla() {
        let bits = |x: i32| DType::I32.bits(x);
        let signed = |op, x: i32, y: i32| int_binary(op, DType::I32, bits(x), bits(y)) as i32;
        let unsigned = |op, x: u32, y: u32| int_binary(op, DType::U32, x.into(), y.into()) as u32;
        assert_eq!(signed(BinaryOp::Div, 7, 0), -1);
        assert_eq!(signed(BinaryOp::Div, i32::MIN, -1), i32::MIN);
        assert_eq!(signed(BinaryOp::Div, -7, 2), -3);
        assert_eq!(signed(BinaryOp::Rem, -7, 0), -7);
        assert_eq!(signed(BinaryOp::Rem, i32::MIN, -1), 0);
        assert_eq!(signed(BinaryOp::Rem, -7, 2), -1);
        assert_eq!(unsigned(BinaryOp::Div, 7, 0), u32::MAX);
        assert_eq!(unsigned(BinaryOp::Rem, 7, 0), 7);
        assert_eq!(unsigned(BinaryOp::Shl, 7, 32), 0);
        assert_eq!(unsigned(BinaryOp::Shr, 7, 99), 0);
        assert_eq!(signed(BinaryOp::Sar, -7, 32), -1);
        assert_eq!(signed(BinaryOp::Shl, 7, -1), 0);
        assert_eq!(signed(BinaryOp::Max, -7, 1), 1);
        assert_eq!(unsigned(BinaryOp::Sar, 1 << 31, 31), u32::MAX);
        assert_eq!(unsigned(BinaryOp::Mul, u32::MAX, u32::MAX), 1);
        assert_eq!(unary(UnaryOp::Abs, DType::I32, bits(i32::MIN)), bits(i32::MIN));
        assert_eq!(unary(UnaryOp::Neg, DType::U32, 1), u64::from(u32::MAX));
        assert_eq!(unary(UnaryOp::Not, DType::U32, 1), u64::from(u32::MAX - 1));
    }

    #[test]
    fn conversions_saturate_or_wrap() {
        let f32 = |x: f32| u64::from(x.to_bits());
        assert_eq!(convert(DType::F32, DType::I32, f32(f32::NAN)), 0);
        assert_eq!(convert(DType::F32, DType::I32, f32(3e9)), i32::MAX as u64);
        assert_eq!(convert(DType::F32, DType::U32, f32(-3.0)), 0);
        assert_eq!(convert(DType::F32, DType::I32, f32(-1.9)), u64::from(u32::MAX));
        assert_eq!(convert(DType::I32, DType::U32, u64::from(-3i32 as u32)), u64::from(-3i32 as u32));
        assert_eq!(convert(DType::F32, DType::Bool, f32(f32::NAN)), 1);
        assert_eq!(convert(DType::F32, DType::Bool, f32(-0.0)), 0);
        assert_eq!(convert(DType::I32, DType::F32, 16_777_217), f32(16_777_216.0));
    }

    #[test]
    fn signs_of_zero_and_nan() {
        let positive_zero = |x: f64| x == 0.0 && x.is_sign_positive();
        assert!(positive_zero(max(-0.0, 0.0)) && positive_zero(max(0.0, -0.0)));
        assert!(!positive_zero(float_binary(BinaryOp::Min, 0.0, -0.0)));
        assert!(max(f64::NAN, 1.0).is_nan() && float_binary(BinaryOp::Min, 1.0, f64::NAN).is_nan());
        assert!(!positive_zero(float_unary(UnaryOp::Sign, -0.0)));
        assert!(float_unary(UnaryOp::Sign, f64::NAN).is_nan());
        assert_eq!([0.5, 1.5, 2.5, -0.5].map(|x| float_unary(UnaryOp::Round, x)), [0.0, 2.0, 2.0, 0.0]);
        assert_eq!(float_unary(UnaryOp::Softplus, 1e4), 1e4);
        assert!(float_unary(UnaryOp::Softplus, f64::NAN).is_nan());
        // 0 / 0 gives the canonical NaN, whichever one the processor produces.
        assert_eq!(binary(BinaryOp::Div, DType::F32, 0, 0), 0x7fc0_0000);
    }

    #[test]
    fn erf_inv_inverts() {
        for i in 1..200 {
            let y = f64::from(i) * 0.02;
            let x = libm::erf(y);
            let found = erf_inv(x);
            // Near 1 an ulp of x corresponds to many ulps of y.
            let slope = std::f64::consts::FRAC_2_SQRT_PI * libm::exp(-y * y);
            assert!((found - y).abs() <= 4e-16 * y.max(1.0) + 2e-16 / slope, "{y}: {found}");
            assert_eq!(erf_inv(-x), -found);
        }
        assert_eq!(erf_inv(1.0), f64::INFINITY);
        assert_eq!(erf_inv(-1.0), f64::NEG_INFINITY);
        assert!(erf_inv(1.5).is_nan() && erf_inv(f64::NAN).is_nan());
        assert!(erf_inv(-0.0).is_sign_negative());
        assert!((erf_inv(1e-300) / 1e-300 - 0.886_226_925_452_758).abs() < 1e-15);
    }

    #[test]
    fn threefry_known_answers() {
        // From the test vectors of the Random123 library.
        let ones = u64::from(u32::MAX);
        assert_eq!(threefry([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([ones, ones], [ones, ones]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(threefry([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
    }
}
