//! Arithmetic on the registers of a warp: for an operation and a type, the function that computes all 32 lanes.
//!
//! A register holds its value in the low bits of a u64, the rest zero. Results of floats are the canonical NaN where
//! they are NaN, as on NVIDIA's GPUs; `neg` and `abs` change the sign bit alone, also of a NaN. What PTX has no
//! instruction for has no function here.

use super::float::{
    BF16, F16, Format, add_to_odd, f32_of, flushed, fma32, from_f32, from_f64, input, maximum, maximum32, minimum,
    minimum32, narrow, output, widen,
};
use crate::ptx::inst::{BinaryOp, Cmp, TernaryOp, Type, UnaryOp};

/// A register of all lanes of a warp.
pub(super) type Lanes = [u64; 32];
/// A function of one operand.
pub(super) type Map1 = fn(&Lanes, &mut Lanes);
/// A function of two operands.
pub(super) type Map2 = fn(&Lanes, &Lanes, &mut Lanes);
/// A function of three operands.
pub(super) type Map3 = fn(&Lanes, &Lanes, &Lanes, &mut Lanes);
/// A comparison: a bit for each lane.
pub(super) type Compare = fn(&Lanes, &Lanes) -> u32;

/// A function of lanes, from one of scalars.
macro_rules! each {
    (|$a:ident| $e:expr) => {{
        let f: Map1 = |a, d| {
            for (d, &$a) in d.iter_mut().zip(a) {
                *d = $e;
            }
        };
        f
    }};
    (|$a:ident, $b:ident| $e:expr) => {{
        let f: Map2 = |a, b, d| {
            for ((d, &$a), &$b) in d.iter_mut().zip(a).zip(b) {
                *d = $e;
            }
        };
        f
    }};
    (|$a:ident, $b:ident, $c:ident| $e:expr) => {{
        let f: Map3 = |a, b, c, d| {
            for (((d, &$a), &$b), &$c) in d.iter_mut().zip(a).zip(b).zip(c) {
                *d = $e;
            }
        };
        f
    }};
}

/// Two f32 as halves of a register, the first one the high half.
pub(super) fn pair(to: Type) -> Option<Map2> {
    fn halves(high: u64, low: u64, format: Format) -> u64 {
        let half = |x| narrow(f64::from(f32_of(x)), format, false);
        half(high) << 16 | half(low)
    }
    match to {
        Type::F16x2 => Some(each!(|a, b| halves(a, b, F16))),
        Type::Bf16x2 => Some(each!(|a, b| halves(a, b, BF16))),
        _ => None,
    }
}

/// A comparison of lanes, from one of scalars.
macro_rules! compare {
    (|$a:ident, $b:ident| $e:expr) => {{
        let f: Compare = |a, b| {
            let mut bits = 0;
            for (lane, (&$a, &$b)) in a.iter().zip(b).enumerate() {
                bits |= u32::from($e) << lane;
            }
            bits
        };
        f
    }};
}

/// The functions of an integer type: its name, its twice as wide type, and the unsigned types of both widths.
macro_rules! integer {
    ($unary:ident, $binary:ident, $ternary:ident, $compare:ident, $t:ty, $wide:ty, $u:ty, $wide_u:ty) => {
        fn $unary(op: UnaryOp) -> Option<Map1> {
            let signed = <$t>::MIN != 0;
            match op {
                UnaryOp::Neg if signed => Some(each!(|a| u64::from((a as $t).wrapping_neg() as $u))),
                UnaryOp::Abs if signed => Some(each!(|a| {
                    let a = a as $t;
                    u64::from(if a < 0 as $t { a.wrapping_neg() } else { a } as $u)
                })),
                UnaryOp::Neg
                | UnaryOp::Abs
                | UnaryOp::Not
                | UnaryOp::Sqrt
                | UnaryOp::Rcp
                | UnaryOp::Clz
                | UnaryOp::Popc
                | UnaryOp::Brev => None,
            }
        }

        fn $binary(op: BinaryOp) -> Option<Map2> {
            Some(match op {
                BinaryOp::Add => each!(|a, b| u64::from((a as $t).wrapping_add(b as $t) as $u)),
                BinaryOp::Sub => each!(|a, b| u64::from((a as $t).wrapping_sub(b as $t) as $u)),
                BinaryOp::Mul => each!(|a, b| u64::from((a as $t).wrapping_mul(b as $t) as $u)),
                BinaryOp::MulHi => each!(|a, b| {
                    let product = (a as $t as $wide).wrapping_mul(b as $t as $wide);
                    u64::from((product >> <$t>::BITS) as $u)
                }),
                BinaryOp::MulWide if <$t>::BITS == 64 => return None,
                BinaryOp::MulWide => each!(|a, b| (a as $t as $wide).wrapping_mul(b as $t as $wide) as $wide_u as u64),
                // Whoever calls it has checked the lanes that run.
                BinaryOp::Div => each!(|a, b| {
                    let b = b as $t;
                    if b == 0 { 0 } else { u64::from((a as $t).wrapping_div(b) as $u) }
                }),
                BinaryOp::Rem => each!(|a, b| {
                    let b = b as $t;
                    if b == 0 { 0 } else { u64::from((a as $t).wrapping_rem(b) as $u) }
                }),
                BinaryOp::Min => each!(|a, b| u64::from((a as $t).min(b as $t) as $u)),
                BinaryOp::Max => each!(|a, b| u64::from((a as $t).max(b as $t) as $u)),
                BinaryOp::Shr => each!(|a, b| {
                    let n = (b as u32).min(<$t>::BITS);
                    let half = n / 2;
                    u64::from((((a as $t) >> half) >> (n - half).min(<$t>::BITS - 1)) as $u)
                }),
                BinaryOp::And | BinaryOp::Or | BinaryOp::Xor | BinaryOp::Shl => return None,
            })
        }

        fn $ternary(op: TernaryOp) -> Option<Map3> {
            Some(match op {
                TernaryOp::Fma => return None,
                TernaryOp::Mad => {
                    each!(|a, b, c| u64::from((a as $t).wrapping_mul(b as $t).wrapping_add(c as $t) as $u))
                }
                TernaryOp::MadWide if <$t>::BITS == 64 => return None,
                TernaryOp::MadWide => each!(|a, b, c| {
                    let product = (a as $t as $wide).wrapping_mul(b as $t as $wide);
                    product.wrapping_add(c as $wide) as $wide_u as u64
                }),
            })
        }

        fn $compare(cmp: Cmp) -> Option<Compare> {
            Some(match cmp {
                Cmp::Eq => compare!(|a, b| a as $t == b as $t),
                Cmp::Ne => compare!(|a, b| a as $t != b as $t),
                Cmp::Lt => compare!(|a, b| (a as $t) < b as $t),
                Cmp::Le => compare!(|a, b| a as $t <= b as $t),
                Cmp::Gt => compare!(|a, b| a as $t > b as $t),
                Cmp::Ge => compare!(|a, b| a as $t >= b as $t),
                Cmp::Equ | Cmp::Neu | Cmp::Ltu | Cmp::Leu | Cmp::Gtu | Cmp::Geu | Cmp::Num | Cmp::Nan => return None,
            })
        }
    };
}

integer!(unary_u16, binary_u16, ternary_u16, compare_u16, u16, u32, u16, u32);
integer!(unary_s16, binary_s16, ternary_s16, compare_s16, i16, i32, u16, u32);
integer!(unary_u32, binary_u32, ternary_u32, compare_u32, u32, u64, u32, u64);
integer!(unary_s32, binary_s32, ternary_s32, compare_s32, i32, i64, u32, u64);
integer!(unary_u64, binary_u64, ternary_u64, compare_u64, u64, u128, u64, u128);
integer!(unary_s64, binary_s64, ternary_s64, compare_s64, i64, i128, u64, u128);

/// Of untyped bits.
macro_rules! bits {
    ($unary:ident, $binary:ident, $u:ty) => {
        fn $unary(op: UnaryOp) -> Option<Map1> {
            Some(match op {
                UnaryOp::Not => each!(|a| u64::from(!(a as $u))),
                UnaryOp::Clz if <$u>::BITS > 16 => each!(|a| u64::from((a as $u).leading_zeros())),
                UnaryOp::Popc if <$u>::BITS > 16 => each!(|a| u64::from((a as $u).count_ones())),
                UnaryOp::Brev if <$u>::BITS > 16 => each!(|a| u64::from((a as $u).reverse_bits())),
                UnaryOp::Neg
                | UnaryOp::Abs
                | UnaryOp::Sqrt
                | UnaryOp::Rcp
                | UnaryOp::Clz
                | UnaryOp::Popc
                | UnaryOp::Brev => return None,
            })
        }

        fn $binary(op: BinaryOp) -> Option<Map2> {
            Some(match op {
                BinaryOp::And => each!(|a, b| a & b),
                BinaryOp::Or => each!(|a, b| a | b),
                BinaryOp::Xor => each!(|a, b| a ^ b),
                BinaryOp::Shl => each!(|a, b| u64::from((a as $u).checked_shl(b as u32).unwrap_or(0))),
                BinaryOp::Shr => each!(|a, b| u64::from((a as $u).checked_shr(b as u32).unwrap_or(0))),
                BinaryOp::Add
                | BinaryOp::Sub
                | BinaryOp::Mul
                | BinaryOp::MulHi
                | BinaryOp::MulWide
                | BinaryOp::Div
                | BinaryOp::Rem
                | BinaryOp::Min
                | BinaryOp::Max => return None,
            })
        }
    };
}

bits!(unary_b16, binary_b16, u16);
bits!(unary_b32, binary_b32, u32);
bits!(unary_b64, binary_b64, u64);

fn unary_f32<const F: bool>(op: UnaryOp) -> Option<Map1> {
    fn flush<const F: bool>(bits: u32) -> u64 {
        u64::from(if F { flushed(f32::from_bits(bits)).to_bits() } else { bits })
    }
    Some(match op {
        UnaryOp::Neg => each!(|a| flush::<F>(a as u32 ^ 1 << 31)),
        UnaryOp::Abs => each!(|a| flush::<F>(a as u32 & !(1 << 31))),
        UnaryOp::Sqrt => each!(|a| output::<F>(input::<F>(a).sqrt())),
        UnaryOp::Rcp => each!(|a| output::<F>(1.0 / input::<F>(a))),
        UnaryOp::Not | UnaryOp::Clz | UnaryOp::Popc | UnaryOp::Brev => return None,
    })
}

fn binary_f32<const F: bool>(op: BinaryOp) -> Option<Map2> {
    Some(match op {
        BinaryOp::Add => each!(|a, b| output::<F>(input::<F>(a) + input::<F>(b))),
        BinaryOp::Sub => each!(|a, b| output::<F>(input::<F>(a) - input::<F>(b))),
        BinaryOp::Mul => each!(|a, b| output::<F>(input::<F>(a) * input::<F>(b))),
        BinaryOp::Div => each!(|a, b| output::<F>(input::<F>(a) / input::<F>(b))),
        BinaryOp::Min => each!(|a, b| from_f32(minimum32(input::<F>(a), input::<F>(b)))),
        BinaryOp::Max => each!(|a, b| from_f32(maximum32(input::<F>(a), input::<F>(b)))),
        BinaryOp::MulHi
        | BinaryOp::MulWide
        | BinaryOp::Rem
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Shl
        | BinaryOp::Shr => return None,
    })
}

fn ternary_f32<const F: bool>(op: TernaryOp) -> Option<Map3> {
    match op {
        TernaryOp::Fma => Some(each!(|a, b, c| output::<F>(fma32(input::<F>(a), input::<F>(b), input::<F>(c))))),
        TernaryOp::Mad | TernaryOp::MadWide => None,
    }
}

fn unary_f64(op: UnaryOp) -> Option<Map1> {
    Some(match op {
        UnaryOp::Neg => each!(|a| a ^ 1 << 63),
        UnaryOp::Abs => each!(|a| a & !(1 << 63)),
        UnaryOp::Sqrt => each!(|a| from_f64(f64::from_bits(a).sqrt())),
        UnaryOp::Rcp => each!(|a| from_f64(1.0 / f64::from_bits(a))),
        UnaryOp::Not | UnaryOp::Clz | UnaryOp::Popc | UnaryOp::Brev => return None,
    })
}

fn binary_f64(op: BinaryOp) -> Option<Map2> {
    Some(match op {
        BinaryOp::Add => each!(|a, b| from_f64(f64::from_bits(a) + f64::from_bits(b))),
        BinaryOp::Sub => each!(|a, b| from_f64(f64::from_bits(a) - f64::from_bits(b))),
        BinaryOp::Mul => each!(|a, b| from_f64(f64::from_bits(a) * f64::from_bits(b))),
        BinaryOp::Div => each!(|a, b| from_f64(f64::from_bits(a) / f64::from_bits(b))),
        BinaryOp::Min => each!(|a, b| from_f64(minimum(f64::from_bits(a), f64::from_bits(b)))),
        BinaryOp::Max => each!(|a, b| from_f64(maximum(f64::from_bits(a), f64::from_bits(b)))),
        BinaryOp::MulHi
        | BinaryOp::MulWide
        | BinaryOp::Rem
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Shl
        | BinaryOp::Shr => return None,
    })
}

fn ternary_f64(op: TernaryOp) -> Option<Map3> {
    match op {
        TernaryOp::Fma => {
            Some(each!(|a, b, c| from_f64(f64::from_bits(a).mul_add(f64::from_bits(b), f64::from_bits(c)))))
        }
        TernaryOp::Mad | TernaryOp::MadWide => None,
    }
}

/// A format of 16 bits, and whether its subnormals count as zeros.
trait Half {
    const FORMAT: Format;
    const FLUSH: bool;

    fn flush(bits: u64) -> u64 {
        if Self::FLUSH && bits & 0x7c00 == 0 { bits & 0x8000 } else { bits }
    }

    fn value(bits: u64) -> f64 {
        widen(Self::flush(bits), Self::FORMAT)
    }

    fn round(x: f64) -> u64 {
        Self::flush(narrow(x, Self::FORMAT, false))
    }
}

struct Ieee<const FLUSH: bool>;
struct Brain;

impl<const F: bool> Half for Ieee<F> {
    const FORMAT: Format = F16;
    const FLUSH: bool = F;
}

impl Half for Brain {
    const FORMAT: Format = BF16;
    const FLUSH: bool = false;
}

/// A function of one element on a register of one, or of two.
fn elements<const PACKED: bool>(f: impl Fn(u32) -> u64) -> u64 {
    if PACKED { f(0) | f(16) << 16 } else { f(0) }
}

fn unary_half<H: Half, const P: bool>(op: UnaryOp) -> Option<Map1> {
    Some(match op {
        UnaryOp::Neg => each!(|a| elements::<P>(|i| H::flush((a >> i ^ 0x8000) & 0xffff))),
        UnaryOp::Abs => each!(|a| elements::<P>(|i| H::flush(a >> i & 0x7fff))),
        UnaryOp::Sqrt | UnaryOp::Rcp | UnaryOp::Not | UnaryOp::Clz | UnaryOp::Popc | UnaryOp::Brev => return None,
    })
}

fn binary_half<H: Half, const P: bool>(op: BinaryOp) -> Option<Map2> {
    fn value<H: Half>(a: u64, i: u32) -> f64 {
        H::value(a >> i & 0xffff)
    }
    Some(match op {
        BinaryOp::Add => {
            each!(|a, b| elements::<P>(|i| H::round(add_to_odd(value::<H>(a, i), value::<H>(b, i)))))
        }
        BinaryOp::Sub => {
            each!(|a, b| elements::<P>(|i| H::round(add_to_odd(value::<H>(a, i), -value::<H>(b, i)))))
        }
        // The product of two significands of at most 11 bits is exact.
        BinaryOp::Mul => each!(|a, b| elements::<P>(|i| H::round(value::<H>(a, i) * value::<H>(b, i)))),
        BinaryOp::Min => each!(|a, b| elements::<P>(|i| H::round(minimum(value::<H>(a, i), value::<H>(b, i))))),
        BinaryOp::Max => each!(|a, b| elements::<P>(|i| H::round(maximum(value::<H>(a, i), value::<H>(b, i))))),
        BinaryOp::MulHi
        | BinaryOp::MulWide
        | BinaryOp::Div
        | BinaryOp::Rem
        | BinaryOp::And
        | BinaryOp::Or
        | BinaryOp::Xor
        | BinaryOp::Shl
        | BinaryOp::Shr => return None,
    })
}

fn ternary_half<H: Half, const P: bool>(op: TernaryOp) -> Option<Map3> {
    fn fma<H: Half>(a: u64, b: u64, c: u64) -> u64 {
        H::round(add_to_odd(H::value(a & 0xffff) * H::value(b & 0xffff), H::value(c & 0xffff)))
    }
    match op {
        TernaryOp::Fma => Some(each!(|a, b, c| elements::<P>(|i| fma::<H>(a >> i, b >> i, c >> i)))),
        TernaryOp::Mad | TernaryOp::MadWide => None,
    }
}

/// A comparison of floats, by what gives the value of a register.
macro_rules! compare_floats {
    ($cmp:expr, $value:expr) => {{
        use std::cmp::Ordering::{Equal, Greater, Less};
        Some(match $cmp {
            Cmp::Eq => compare!(|a, b| matches!($value(a).partial_cmp(&$value(b)), Some(Equal))),
            Cmp::Ne => compare!(|a, b| matches!($value(a).partial_cmp(&$value(b)), Some(Less | Greater))),
            Cmp::Lt => compare!(|a, b| matches!($value(a).partial_cmp(&$value(b)), Some(Less))),
            Cmp::Le => compare!(|a, b| matches!($value(a).partial_cmp(&$value(b)), Some(Less | Equal))),
            Cmp::Gt => compare!(|a, b| matches!($value(a).partial_cmp(&$value(b)), Some(Greater))),
            Cmp::Ge => compare!(|a, b| matches!($value(a).partial_cmp(&$value(b)), Some(Greater | Equal))),
            Cmp::Equ => compare!(|a, b| matches!($value(a).partial_cmp(&$value(b)), Some(Equal) | None)),
            Cmp::Neu => compare!(|a, b| matches!($value(a).partial_cmp(&$value(b)), Some(Less | Greater) | None)),
            Cmp::Ltu => compare!(|a, b| matches!($value(a).partial_cmp(&$value(b)), Some(Less) | None)),
            Cmp::Leu => compare!(|a, b| matches!($value(a).partial_cmp(&$value(b)), Some(Less | Equal) | None)),
            Cmp::Gtu => compare!(|a, b| matches!($value(a).partial_cmp(&$value(b)), Some(Greater) | None)),
            Cmp::Geu => compare!(|a, b| matches!($value(a).partial_cmp(&$value(b)), Some(Greater | Equal) | None)),
            Cmp::Num => compare!(|a, b| $value(a).partial_cmp(&$value(b)).is_some()),
            Cmp::Nan => compare!(|a, b| $value(a).partial_cmp(&$value(b)).is_none()),
        })
    }};
}

/// One operand. `None`: PTX has no such instruction.
pub(super) fn unary(op: UnaryOp, ty: Type, flush: bool) -> Option<Map1> {
    match (ty, flush) {
        (Type::S16, false) => unary_s16(op),
        (Type::S32, false) => unary_s32(op),
        (Type::S64, false) => unary_s64(op),
        (Type::U16, false) => unary_u16(op),
        (Type::U32, false) => unary_u32(op),
        (Type::U64, false) => unary_u64(op),
        (Type::B16, false) => unary_b16(op),
        (Type::B32, false) => unary_b32(op),
        (Type::B64, false) => unary_b64(op),
        (Type::F32, false) => unary_f32::<false>(op),
        (Type::F32, true) => unary_f32::<true>(op),
        (Type::F64, false) => unary_f64(op),
        (Type::F16, false) => unary_half::<Ieee<false>, false>(op),
        (Type::F16, true) => unary_half::<Ieee<true>, false>(op),
        (Type::F16x2, false) => unary_half::<Ieee<false>, true>(op),
        (Type::F16x2, true) => unary_half::<Ieee<true>, true>(op),
        (Type::Bf16, false) => unary_half::<Brain, false>(op),
        (Type::Bf16x2, false) => unary_half::<Brain, true>(op),
        (Type::Pred | Type::B8 | Type::U8 | Type::S8 | Type::Tf32, _) | (_, true) => None,
    }
}

/// Two operands. `None`: PTX has no such instruction.
pub(super) fn binary(op: BinaryOp, ty: Type, flush: bool) -> Option<Map2> {
    match (ty, flush) {
        (Type::S16, false) => binary_s16(op),
        (Type::S32, false) => binary_s32(op),
        (Type::S64, false) => binary_s64(op),
        (Type::U16, false) => binary_u16(op),
        (Type::U32, false) => binary_u32(op),
        (Type::U64, false) => binary_u64(op),
        (Type::B16, false) => binary_b16(op),
        (Type::B32, false) => binary_b32(op),
        (Type::B64, false) => binary_b64(op),
        (Type::F32, false) => binary_f32::<false>(op),
        (Type::F32, true) => binary_f32::<true>(op),
        (Type::F64, false) => binary_f64(op),
        (Type::F16, false) => binary_half::<Ieee<false>, false>(op),
        (Type::F16, true) => binary_half::<Ieee<true>, false>(op),
        (Type::F16x2, false) => binary_half::<Ieee<false>, true>(op),
        (Type::F16x2, true) => binary_half::<Ieee<true>, true>(op),
        (Type::Bf16, false) => binary_half::<Brain, false>(op),
        (Type::Bf16x2, false) => binary_half::<Brain, true>(op),
        (Type::Pred | Type::B8 | Type::U8 | Type::S8 | Type::Tf32, _) | (_, true) => None,
    }
}

/// Three operands. `None`: PTX has no such instruction.
pub(super) fn ternary(op: TernaryOp, ty: Type, flush: bool) -> Option<Map3> {
    match (ty, flush) {
        (Type::S16, false) => ternary_s16(op),
        (Type::S32, false) => ternary_s32(op),
        (Type::S64, false) => ternary_s64(op),
        (Type::U16, false) => ternary_u16(op),
        (Type::U32, false) => ternary_u32(op),
        (Type::U64, false) => ternary_u64(op),
        (Type::F32, false) => ternary_f32::<false>(op),
        (Type::F32, true) => ternary_f32::<true>(op),
        (Type::F64, false) => ternary_f64(op),
        (Type::F16, false) => ternary_half::<Ieee<false>, false>(op),
        (Type::F16, true) => ternary_half::<Ieee<true>, false>(op),
        (Type::F16x2, false) => ternary_half::<Ieee<false>, true>(op),
        (Type::F16x2, true) => ternary_half::<Ieee<true>, true>(op),
        (Type::Bf16, false) => ternary_half::<Brain, false>(op),
        (Type::Bf16x2, false) => ternary_half::<Brain, true>(op),
        (Type::Pred | Type::B8 | Type::U8 | Type::S8 | Type::Tf32 | Type::B16 | Type::B32 | Type::B64, _)
        | (_, true) => None,
    }
}

/// A comparison. `None`: PTX has no such instruction.
pub(super) fn comparison(cmp: Cmp, ty: Type, flush: bool) -> Option<Compare> {
    let equality = cmp == Cmp::Eq || cmp == Cmp::Ne;
    match (ty, flush) {
        (Type::S16, false) => compare_s16(cmp),
        (Type::S32, false) => compare_s32(cmp),
        (Type::S64, false) => compare_s64(cmp),
        (Type::U16, false) => compare_u16(cmp),
        (Type::U32, false) => compare_u32(cmp),
        (Type::U64, false) => compare_u64(cmp),
        (Type::B16, false) if equality => compare_u16(cmp),
        (Type::B32, false) if equality => compare_u32(cmp),
        (Type::B64, false) if equality => compare_u64(cmp),
        (Type::F32, false) => compare_floats!(cmp, f32_of),
        (Type::F32, true) => compare_floats!(cmp, input::<true>),
        (Type::F64, false) => compare_floats!(cmp, f64::from_bits),
        (Type::F16, false) => compare_floats!(cmp, <Ieee<false> as Half>::value),
        (Type::F16, true) => compare_floats!(cmp, <Ieee<true> as Half>::value),
        (Type::Bf16, false) => compare_floats!(cmp, Brain::value),
        (
            Type::Pred
            | Type::B8
            | Type::U8
            | Type::S8
            | Type::B16
            | Type::B32
            | Type::B64
            | Type::Tf32
            | Type::F16x2
            | Type::Bf16x2,
            _,
        )
        | (_, true) => None,
    }
}
