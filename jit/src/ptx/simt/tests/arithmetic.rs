//! Integers, floats and predicates, with their edges.

use super::*;

fn un(op: UnaryOp, ty: Type, flush: bool, a: u64) -> u64 {
    let to = if matches!(op, UnaryOp::Clz | UnaryOp::Popc) { Type::U32 } else { ty };
    scalar(to, &[(ty, a)], |d, x| InstOp::Unary { op, ty, flush, d, a: x[0].into() }).unwrap()
}

fn bin(op: BinaryOp, ty: Type, a: u64, b: u64) -> u64 {
    let (to, second) = match op {
        BinaryOp::MulWide if class(ty) == RegClass::B16 => (Type::U32, ty),
        BinaryOp::MulWide => (Type::U64, ty),
        BinaryOp::Shl | BinaryOp::Shr => (ty, Type::U32),
        _ => (ty, ty),
    };
    let make = |flush| {
        scalar(to, &[(ty, a), (second, b)], |d, x| InstOp::Binary { op, ty, flush, d, a: x[0].into(), b: x[1].into() })
    };
    make(false).unwrap()
}

fn bin_flush(op: BinaryOp, a: f32, b: f32) -> u64 {
    let (ty, flush) = (Type::F32, true);
    let operands = [(ty, bits32(a)), (ty, bits32(b))];
    scalar(ty, &operands, |d, x| InstOp::Binary { op, ty, flush, d, a: x[0].into(), b: x[1].into() }).unwrap()
}

fn ternary(op: TernaryOp, ty: Type, flush: bool, [a, b, c]: [u64; 3]) -> u64 {
    let to = match (op, class(ty)) {
        (TernaryOp::MadWide, RegClass::B16) => Type::U32,
        (TernaryOp::MadWide, _) => Type::U64,
        _ => ty,
    };
    scalar(to, &[(ty, a), (ty, b), (to, c)], |d, x| InstOp::Ternary {
        op,
        ty,
        flush,
        d,
        a: x[0].into(),
        b: x[1].into(),
        c: x[2].into(),
    })
    .unwrap()
}

fn cmp(cmp: Cmp, ty: Type, flush: bool, a: u64, b: u64) -> bool {
    let make = |d, x: &[Reg]| InstOp::Setp { cmp, ty, flush, d, a: x[0].into(), b: x[1].into() };
    scalar(Type::Pred, &[(ty, a), (ty, b)], make).unwrap() == 1
}

fn bits32(x: f32) -> u64 {
    u64::from(x.to_bits())
}

const NAN: u64 = 0x7fff_ffff;
const TINY: f32 = f32::MIN_POSITIVE;

#[test]
fn integers_wrap() {
    assert_eq!(bin(BinaryOp::Add, Type::U32, 0xffff_ffff, 2), 1);
    assert_eq!(bin(BinaryOp::Add, Type::S16, 0x7fff, 1), 0x8000);
    assert_eq!(bin(BinaryOp::Sub, Type::U64, 0, 1), u64::MAX);
    assert_eq!(bin(BinaryOp::Sub, Type::U16, 0, 1), 0xffff);
    assert_eq!(bin(BinaryOp::Mul, Type::U32, 0x1_0001, 0x1_0001), 0x0002_0001);
    assert_eq!(bin(BinaryOp::Mul, Type::S64, u64::MAX, 5), -5_i64 as u64);
    assert_eq!(bin(BinaryOp::Mul, Type::U16, 0xffff, 0xffff), 1);
}

#[test]
fn products_have_two_halves() {
    assert_eq!(bin(BinaryOp::MulHi, Type::U32, 0xffff_ffff, 0xffff_ffff), 0xffff_fffe);
    assert_eq!(bin(BinaryOp::MulHi, Type::S32, 0xffff_ffff, 0xffff_ffff), 0);
    assert_eq!(bin(BinaryOp::MulHi, Type::S32, 0xffff_ffff, 1), 0xffff_ffff);
    assert_eq!(bin(BinaryOp::MulHi, Type::U64, u64::MAX, u64::MAX), u64::MAX - 1);
    assert_eq!(bin(BinaryOp::MulHi, Type::S64, 1 << 63, 1 << 63), 1 << 62);
    assert_eq!(bin(BinaryOp::MulHi, Type::U16, 0xffff, 0xffff), 0xfffe);
    assert_eq!(bin(BinaryOp::MulWide, Type::U32, 0xffff_ffff, 0xffff_ffff), 0xffff_fffe_0000_0001);
    assert_eq!(bin(BinaryOp::MulWide, Type::S32, 0xffff_ffff, 3), -3_i64 as u64);
    assert_eq!(bin(BinaryOp::MulWide, Type::S16, 0xffff, 3), 0xffff_fffd);
    assert_eq!(ternary(TernaryOp::Mad, Type::U32, false, [0xffff_ffff, 2, 5]), 3);
    assert_eq!(ternary(TernaryOp::MadWide, Type::U32, false, [0xffff_ffff, 4, 8]), 0x4_0000_0004);
    assert_eq!(ternary(TernaryOp::MadWide, Type::S32, false, [0xffff_ffff, 4, 8]), 4);
    assert_eq!(ternary(TernaryOp::MadWide, Type::U16, false, [0xffff, 2, 1]), 0x1_ffff);
}

#[test]
fn quotients_are_truncated() {
    assert_eq!(bin(BinaryOp::Div, Type::S32, -7_i32 as u32 as u64, 2), -3_i32 as u32 as u64);
    assert_eq!(bin(BinaryOp::Rem, Type::S32, -7_i32 as u32 as u64, 2), -1_i32 as u32 as u64);
    assert_eq!(bin(BinaryOp::Div, Type::U64, u64::MAX, 2), u64::MAX / 2);
    assert_eq!(bin(BinaryOp::Rem, Type::U16, 0xffff, 10), 5);
    assert_eq!(bin(BinaryOp::Div, Type::S64, 1 << 63, 2), (i64::MIN / 2) as u64);
}

#[test]
fn the_lesser_and_the_greater() {
    assert_eq!(bin(BinaryOp::Min, Type::U32, 1, 0xffff_ffff), 1);
    assert_eq!(bin(BinaryOp::Min, Type::S32, 1, 0xffff_ffff), 0xffff_ffff);
    assert_eq!(bin(BinaryOp::Max, Type::S16, 1, 0xffff), 1);
    assert_eq!(bin(BinaryOp::Max, Type::U16, 1, 0xffff), 0xffff);
    assert_eq!(bin(BinaryOp::Max, Type::S64, 1, u64::MAX), 1);
}

#[test]
fn bits_are_untyped() {
    assert_eq!(bin(BinaryOp::And, Type::B16, 0xff0f, 0x0fff), 0x0f0f);
    assert_eq!(bin(BinaryOp::Or, Type::B32, 0xf000_0000, 1), 0xf000_0001);
    assert_eq!(bin(BinaryOp::Xor, Type::B64, u64::MAX, 1), u64::MAX - 1);
    assert_eq!(un(UnaryOp::Not, Type::B16, false, 1), 0xfffe);
    assert_eq!(un(UnaryOp::Not, Type::B32, false, 1), 0xffff_fffe);
    assert_eq!(un(UnaryOp::Clz, Type::B32, false, 0), 32);
    assert_eq!(un(UnaryOp::Clz, Type::B64, false, 1), 63);
    assert_eq!(un(UnaryOp::Popc, Type::B64, false, u64::MAX), 64);
    assert_eq!(un(UnaryOp::Popc, Type::B32, false, 0x8000_0001), 2);
    assert_eq!(un(UnaryOp::Brev, Type::B32, false, 1), 0x8000_0000);
    assert_eq!(un(UnaryOp::Brev, Type::B64, false, 2), 1 << 62);
    assert_eq!(un(UnaryOp::Neg, Type::S32, false, 0x8000_0000), 0x8000_0000);
    assert_eq!(un(UnaryOp::Neg, Type::S16, false, 1), 0xffff);
    assert_eq!(un(UnaryOp::Abs, Type::S64, false, -3_i64 as u64), 3);
}

#[test]
fn shifts_clamp_at_the_width() {
    for n in [32, 33, 64, 0xffff_ffff] {
        assert_eq!(bin(BinaryOp::Shl, Type::B32, 0xffff_ffff, n), 0);
        assert_eq!(bin(BinaryOp::Shr, Type::U32, 0xffff_ffff, n), 0);
        assert_eq!(bin(BinaryOp::Shr, Type::B32, 0xffff_ffff, n), 0);
        assert_eq!(bin(BinaryOp::Shr, Type::S32, 0x8000_0000, n), 0xffff_ffff);
        assert_eq!(bin(BinaryOp::Shr, Type::S32, 0x7000_0000, n), 0);
    }
    assert_eq!(bin(BinaryOp::Shl, Type::B64, 1, 63), 1 << 63);
    assert_eq!(bin(BinaryOp::Shl, Type::B64, 1, 64), 0);
    assert_eq!(bin(BinaryOp::Shr, Type::S64, 1 << 63, 63), u64::MAX);
    assert_eq!(bin(BinaryOp::Shr, Type::S64, 1 << 63, 64), u64::MAX);
    assert_eq!(bin(BinaryOp::Shr, Type::U64, 1 << 63, 63), 1);
    assert_eq!(bin(BinaryOp::Shl, Type::B16, 0xffff, 4), 0xfff0);
    assert_eq!(bin(BinaryOp::Shl, Type::B16, 0xffff, 16), 0);
    assert_eq!(bin(BinaryOp::Shr, Type::S16, 0x8000, 15), 0xffff);
    assert_eq!(bin(BinaryOp::Shr, Type::S32, 0x8000_0000, 31), 0xffff_ffff);
    assert_eq!(bin(BinaryOp::Shr, Type::S32, 0x8000_0000, 0), 0x8000_0000);
    assert_eq!(bin(BinaryOp::Shr, Type::U32, 0x8000_0000, 31), 1);
}

#[test]
fn f32_is_ieee() {
    let add = |a: f32, b: f32| bin(BinaryOp::Add, Type::F32, bits32(a), bits32(b));
    assert_eq!(add(1.0, f32::EPSILON / 2.0), bits32(1.0));
    assert_eq!(add(TINY / 2.0, TINY / 4.0), bits32(TINY / 2.0 + TINY / 4.0));
    assert_eq!(add(f32::INFINITY, f32::NEG_INFINITY), NAN);
    assert_eq!(bin(BinaryOp::Mul, Type::F32, 0xffc0_1234, bits32(1.0)), NAN);
    assert_eq!(bin(BinaryOp::Div, Type::F32, bits32(1.0), bits32(-0.0)), bits32(f32::NEG_INFINITY));
    assert_eq!(bin(BinaryOp::Div, Type::F32, 0, 0), NAN);
    assert_eq!(un(UnaryOp::Sqrt, Type::F32, false, bits32(-0.0)), bits32(-0.0));
    assert_eq!(un(UnaryOp::Sqrt, Type::F32, false, bits32(-1.0)), NAN);
    assert_eq!(un(UnaryOp::Sqrt, Type::F32, false, bits32(2.0)), bits32(2_f32.sqrt()));
    assert_eq!(un(UnaryOp::Rcp, Type::F32, false, bits32(3.0)), bits32(1.0 / 3.0));
    let (a, c) = (1.0 + f32::EPSILON, -1.0 - 2.0 * f32::EPSILON);
    let fma = ternary(TernaryOp::Fma, Type::F32, false, [bits32(a), bits32(a), bits32(c)]);
    assert_eq!(fma, bits32(f32::EPSILON * f32::EPSILON));
}

#[test]
fn flushes_keep_the_sign() {
    assert_eq!(bin_flush(BinaryOp::Add, -TINY / 2.0, -0.0), bits32(-0.0));
    assert_eq!(bin_flush(BinaryOp::Mul, -TINY, 0.5), bits32(-0.0));
    assert_eq!(bin_flush(BinaryOp::Mul, TINY / 2.0, 1e30), 0);
    assert_eq!(bin_flush(BinaryOp::Sub, 1.5 * TINY, TINY), 0);
    assert_eq!(bin_flush(BinaryOp::Div, 1.0, TINY / 2.0), bits32(f32::INFINITY));
    assert_eq!(bin_flush(BinaryOp::Max, TINY / 2.0, -1.0), 0);
    assert_eq!(un(UnaryOp::Neg, Type::F32, true, bits32(TINY / 2.0)), bits32(-0.0));
    assert_eq!(un(UnaryOp::Abs, Type::F32, true, bits32(-TINY / 2.0)), 0);
    assert_eq!(un(UnaryOp::Rcp, Type::F32, true, bits32(-TINY / 2.0)), bits32(f32::NEG_INFINITY));
    assert_eq!(un(UnaryOp::Rcp, Type::F32, true, bits32(2e38)), 0);
    assert_eq!(un(UnaryOp::Sqrt, Type::F32, true, bits32(-TINY / 2.0)), bits32(-0.0));
    assert_eq!(ternary(TernaryOp::Fma, Type::F32, true, [bits32(TINY), bits32(0.5), 0]), 0);
    assert!(cmp(Cmp::Eq, Type::F32, true, bits32(TINY / 2.0), 0));
    assert!(!cmp(Cmp::Eq, Type::F32, false, bits32(TINY / 2.0), 0));
}

#[test]
fn minima_skip_nan_and_order_zeros() {
    for (ty, nan, minus_zero, one, canonical) in [
        (Type::F32, 0xffc0_0001, 1 << 31, bits32(1.0), NAN),
        (Type::F64, 0xfff8_0000_0000_0001, 1 << 63, 1_f64.to_bits(), 0x7fff_ffff_ffff_ffff),
        (Type::F16, 0xfe01, 0x8000, 0x3c00, 0x7fff),
        (Type::Bf16, 0xffc1, 0x8000, 0x3f80, 0x7fff),
    ] {
        for op in [BinaryOp::Min, BinaryOp::Max] {
            assert_eq!(bin(op, ty, nan, one), one);
            assert_eq!(bin(op, ty, one, nan), one);
            assert_eq!(bin(op, ty, nan, nan), canonical);
        }
        for (a, b) in [(0, minus_zero), (minus_zero, 0)] {
            assert_eq!(bin(BinaryOp::Min, ty, a, b), minus_zero);
            assert_eq!(bin(BinaryOp::Max, ty, a, b), 0);
        }
        assert_eq!(bin(BinaryOp::Min, ty, minus_zero, minus_zero), minus_zero);
        assert_eq!(bin(BinaryOp::Max, ty, minus_zero, minus_zero), minus_zero);
    }
}

#[test]
fn signs_of_nan_change_as_bits() {
    assert_eq!(un(UnaryOp::Neg, Type::F32, false, 0x7fc0_1234), 0xffc0_1234);
    assert_eq!(un(UnaryOp::Abs, Type::F32, true, 0xffc0_1234), 0x7fc0_1234);
    assert_eq!(un(UnaryOp::Neg, Type::F64, false, 0x7ff8_0000_0000_0001), 0xfff8_0000_0000_0001);
    assert_eq!(un(UnaryOp::Neg, Type::Bf16, false, 0x3f80), 0xbf80);
    assert_eq!(un(UnaryOp::Abs, Type::F16x2, false, 0xbc00_3c00), 0x3c00_3c00);
}

#[test]
fn f64_keeps_subnormals() {
    let tiny = f64::MIN_POSITIVE;
    assert_eq!(bin(BinaryOp::Mul, Type::F64, tiny.to_bits(), 0.5_f64.to_bits()), (tiny / 2.0).to_bits());
    assert_eq!(bin(BinaryOp::Sub, Type::F64, f64::INFINITY.to_bits(), f64::INFINITY.to_bits()), u64::MAX >> 1);
    let third = 1.0 / 3.0_f64;
    assert_eq!(un(UnaryOp::Rcp, Type::F64, false, 3_f64.to_bits()), third.to_bits());
    assert_eq!(un(UnaryOp::Sqrt, Type::F64, false, third.to_bits()), third.sqrt().to_bits());
    let fma = ternary(TernaryOp::Fma, Type::F64, false, [third.to_bits(), 3_f64.to_bits(), (-1_f64).to_bits()]);
    assert_eq!(fma, third.mul_add(3.0, -1.0).to_bits());
}

#[test]
fn small_floats_round_once() {
    // 1 + 2^-11 is a tie; 2^-24 more, which f64 and f32 hold, is above it.
    assert_eq!(bin(BinaryOp::Add, Type::F16, 0x3c00, 0x1000), 0x3c00);
    assert_eq!(bin(BinaryOp::Add, Type::F16, 0x3c00, 0x1001), 0x3c01);
    assert_eq!(bin(BinaryOp::Add, Type::F16, 0x7bff, 0x7bff), 0x7c00);
    assert_eq!(bin(BinaryOp::Mul, Type::F16, 0x0400, 0x3800), 0x0200);
    // 1 + 2^-7 + 2^-8 and 1 + 2^-8 are ties of bf16.
    assert_eq!(ternary(TernaryOp::Fma, Type::Bf16, false, [0x3f81, 0x3f80, 0x3b80]), 0x3f82);
    assert_eq!(ternary(TernaryOp::Fma, Type::Bf16, false, [0x3f80, 0x3b80, 0x3f80]), 0x3f80);
    // So is (1 + 2^-4)^2; f64 does not hold 2^-100 beside it.
    assert_eq!(ternary(TernaryOp::Fma, Type::Bf16, false, [0x3f88, 0x3f88, 0]), 0x3f90);
    assert_eq!(ternary(TernaryOp::Fma, Type::Bf16, false, [0x3f88, 0x3f88, 0x0d80]), 0x3f91);
    assert_eq!(ternary(TernaryOp::Fma, Type::Bf16, false, [0x3f88, 0x3f88, 0x8d80]), 0x3f90);
    assert_eq!(bin(BinaryOp::Add, Type::Bf16x2, 0x3f80_3f80, 0x3f80_4000), 0x4000_4040);
    assert_eq!(bin(BinaryOp::Sub, Type::F16x2, 0x3c00_4000, 0x3c00_3c00), 0x0000_3c00);
    assert_eq!(bin(BinaryOp::Add, Type::Bf16, 0x3f80, 0x3b80), 0x3f80);
    assert_eq!(ternary(TernaryOp::Fma, Type::F16, true, [0x0001, 0x3c00, 0]), 0);
}

#[test]
fn comparisons_know_nan() {
    let (one, two, nan) = (bits32(1.0), bits32(2.0), 0xffc0_0000);
    for (ordered, unordered, less, equal, greater) in [
        (Cmp::Eq, Cmp::Equ, false, true, false),
        (Cmp::Ne, Cmp::Neu, true, false, true),
        (Cmp::Lt, Cmp::Ltu, true, false, false),
        (Cmp::Le, Cmp::Leu, true, true, false),
        (Cmp::Gt, Cmp::Gtu, false, false, true),
        (Cmp::Ge, Cmp::Geu, false, true, true),
        (Cmp::Num, Cmp::Nan, true, true, true),
    ] {
        let ty = Type::F32;
        assert_eq!(cmp(ordered, ty, false, one, two), less, "{ordered:?}");
        assert_eq!(cmp(ordered, ty, false, one, one), equal, "{ordered:?}");
        assert_eq!(cmp(ordered, ty, false, two, one), greater, "{ordered:?}");
        assert!(!cmp(ordered, ty, false, one, nan), "{ordered:?}");
        assert!(!cmp(ordered, ty, false, nan, nan), "{ordered:?}");
        assert!(cmp(unordered, ty, false, one, nan), "{unordered:?}");
        assert!(cmp(unordered, ty, false, nan, one), "{unordered:?}");
        if unordered != Cmp::Nan {
            assert_eq!(cmp(unordered, ty, false, one, two), less, "{unordered:?}");
            assert_eq!(cmp(unordered, ty, false, one, one), equal, "{unordered:?}");
        }
    }
    assert!(cmp(Cmp::Eq, Type::F32, false, 0, 1 << 31));
    assert!(cmp(Cmp::Lt, Type::S32, false, 0xffff_ffff, 0));
    assert!(!cmp(Cmp::Lt, Type::U32, false, 0xffff_ffff, 0));
    assert!(cmp(Cmp::Ge, Type::S16, false, 0, 0x8000));
    assert!(cmp(Cmp::Ne, Type::B64, false, 1 << 40, 0));
    assert!(cmp(Cmp::Gt, Type::F64, false, 2_f64.to_bits(), 1_f64.to_bits()));
    assert!(cmp(Cmp::Lt, Type::F16, false, 0x8001, 0));
}

#[test]
fn predicates_and_selections() {
    let mut k = Kernel::new(1);
    k.op(setp(Cmp::Lt, Type::U32, p(0), TID, imm(2)))
        .op(setp(Cmp::Eq, Type::U32, p(1), TID, imm(1)))
        .op(binary(BinaryOp::Xor, Type::Pred, p(2), p(0), p(1)))
        .op(unary(UnaryOp::Not, Type::Pred, p(3), p(2)))
        .op(binary(BinaryOp::And, Type::Pred, p(4), p(3), p(0)))
        .op(mov(Type::Pred, p(5), imm(1)))
        .op(binary(BinaryOp::Or, Type::Pred, p(6), p(4), p(2)))
        .op(mov(Type::U32, r(0), imm(0)))
        .op(InstOp::Selp { ty: Type::B32, d: r(1), a: imm(1), b: imm(0), p: p(2) })
        .op(InstOp::Selp { ty: Type::B32, d: r(2), a: imm(2), b: imm(0), p: p(4) })
        .op(InstOp::Selp { ty: Type::B32, d: r(3), a: imm(4), b: imm(0), p: p(6) })
        .op(binary(BinaryOp::Or, Type::B32, r(0), r(1), r(2)))
        .op(binary(BinaryOp::Or, Type::B32, r(0), r(0), r(3)))
        .when(p(5), false, mov(Type::U32, r(0), imm(99)))
        .op(element(rd(1), TID, 4, rd(0)))
        .op(st(Space::Global, Type::U32, at(rd(1)), r(0)));
    assert_eq!(k.u32s((1, 3)), [5, 6, 0]);
}

#[test]
fn halves_of_64_bits() {
    let mut k = Kernel::new(1);
    k.op(mov(Type::U32, r(0), imm(1)))
        .op(mov(Type::F32, f(0), imm(bits32(1.5))))
        .op(InstOp::Pack { d: rd(1), a: r(0), b: f(0) })
        .op(InstOp::Unpack { d: r(1), e: r(2), a: rd(1) })
        .op(InstOp::Unpack { d: r(3), e: r(1), a: rd(1) })
        .op(InstOp::ToGlobal { d: rd(2), a: rd(0) })
        .op(st(Space::Global, Type::B32, at(rd(2)), r(2)))
        .op(binary(BinaryOp::Sub, Type::U32, r(4), r(1), r(2)))
        .op(binary(BinaryOp::Add, Type::U32, r(4), r(4), r(3)))
        .op(st(Space::Global, Type::U32, Address::Reg(rd(2), 4), r(4)));
    let mut memory = Memory::new();
    let out = memory.alloc_unwritten(8);
    k.launch(&mut memory, (1, 1), &[out]).unwrap();
    assert_eq!(u32s(&memory, out, 2), [1.5_f32.to_bits(), 1]);
}

#[test]
fn special_registers() {
    let specials = [Special::Tid, Special::Ntid, Special::Ctaid, Special::Nctaid, Special::Laneid];
    for (i, special) in specials.into_iter().enumerate() {
        let mut k = Kernel::new(1);
        let global = InstOp::Ternary {
            op: TernaryOp::Mad,
            ty: Type::U32,
            flush: false,
            d: r(0),
            a: Operand::Special(Special::Ctaid),
            b: Operand::Special(Special::Ntid),
            c: TID,
        };
        k.op(global)
            .op(element(rd(1), r(0), 4, rd(0)))
            .op(mov(Type::U32, r(1), Operand::Special(special)))
            .op(st(Space::Global, Type::U32, at(rd(1)), r(1)))
            .op(InstOp::Ret);
        let expected: Vec<u32> = (0..120).map(|n: u32| [n % 40, 40, n / 40, 3, n % 40 % 32][i]).collect();
        assert_eq!(k.u32s((3, 40)), expected);
    }
}
