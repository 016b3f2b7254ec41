//! `cvt`: saturation, NaN, all roundings, all formats.

use super::*;

fn cvt(to: Type, from: Type, rounding: Rounding, flush: bool, a: u64) -> u64 {
    scalar(to, &[(from, a)], |d, x| InstOp::Cvt { to, from, rounding, flush, d, a: x[0] }).unwrap()
}

fn from_f32(to: Type, rounding: Rounding, x: f32) -> u64 {
    cvt(to, Type::F32, rounding, false, u64::from(x.to_bits()))
}

fn from_f64(to: Type, rounding: Rounding, x: f64) -> u64 {
    cvt(to, Type::F64, rounding, false, x.to_bits())
}

#[test]
fn integers_saturate_and_nan_is_zero() {
    let rzi = Rounding::Rzi;
    for x in [f32::NAN, -f32::NAN] {
        for to in [Type::U8, Type::S8, Type::U16, Type::S16, Type::U32, Type::S32] {
            assert_eq!(from_f32(to, rzi, x), 0);
        }
        // PTX 9.0, section 9.7.9.21.
        assert_eq!([Type::U64, Type::S64].map(|to| from_f32(to, rzi, x)), [1 << 63; 2]);
        assert_eq!([Type::U32, Type::S32].map(|to| from_f64(to, rzi, x.into())), [1 << 31; 2]);
    }
    assert_eq!(from_f32(Type::U32, rzi, -1.5), 0);
    assert_eq!(from_f32(Type::U32, rzi, 1e20), 0xffff_ffff);
    assert_eq!(from_f32(Type::S32, rzi, 1e20), 0x7fff_ffff);
    assert_eq!(from_f32(Type::S32, rzi, f32::NEG_INFINITY), 0x8000_0000);
    assert_eq!(from_f32(Type::S64, rzi, -1e30), 1 << 63);
    assert_eq!(from_f32(Type::U64, rzi, f32::INFINITY), u64::MAX);
    assert_eq!(from_f32(Type::S8, rzi, -1000.0), 0xffff_ff80);
    assert_eq!(from_f32(Type::U8, rzi, 1000.0), 0xff);
    assert_eq!(from_f32(Type::S16, rzi, -1e9), 0x8000);
    assert_eq!(from_f64(Type::S32, rzi, 2147483647.9), 0x7fff_ffff);
    assert_eq!(from_f64(Type::U32, rzi, 4294967295.5), 0xffff_ffff);
}

#[test]
fn roundings_to_integers() {
    for (x, rni, rzi, rmi, rpi) in
        [(0.5, 0, 0, 0, 1), (1.5, 2, 1, 1, 2), (-0.5, 0, 0, -1, 0), (-2.5, -2, -2, -3, -2), (2.75, 3, 2, 2, 3)]
    {
        for (rounding, n) in [(Rounding::Rni, rni), (Rounding::Rzi, rzi), (Rounding::Rmi, rmi), (Rounding::Rpi, rpi)] {
            assert_eq!(from_f32(Type::S32, rounding, x), n as u32 as u64, "{x} {rounding:?}");
            let integral = f32::from_bits(from_f32(Type::F32, rounding, x) as u32);
            assert_eq!((integral, integral.is_sign_negative()), (n as f32, x < 0.0), "{x} {rounding:?}");
            assert_eq!(f64::from_bits(from_f64(Type::F64, rounding, f64::from(x))), f64::from(n));
        }
    }
}

#[test]
fn integers_become_floats() {
    let cases = [0, 1, u64::MAX, 1 << 63, (1 << 53) + 1, (1 << 24) + 1, 0x0100_0001_8000_0000, 12345678901234567];
    for x in cases {
        assert_eq!(cvt(Type::F32, Type::U64, Rounding::Rn, false, x), u64::from((x as f32).to_bits()));
        assert_eq!(cvt(Type::F32, Type::S64, Rounding::Rn, false, x), u64::from((x as i64 as f32).to_bits()));
        assert_eq!(cvt(Type::F64, Type::U64, Rounding::Rn, false, x), (x as f64).to_bits());
        let rz = f64::from_bits(cvt(Type::F64, Type::U64, Rounding::Rz, false, x));
        assert!(rz as u128 <= u128::from(x) && (rz.next_up() as u128 > u128::from(x) || rz as u128 == u128::from(x)));
        let rz = f32::from_bits(cvt(Type::F32, Type::U64, Rounding::Rz, false, x) as u32);
        assert!(rz as u128 <= u128::from(x) && (rz.next_up() as u128 > u128::from(x) || rz as u128 == u128::from(x)));
    }
    assert_eq!(cvt(Type::F32, Type::S32, Rounding::Rn, false, 0xffff_ffff), u64::from((-1_f32).to_bits()));
    assert_eq!(cvt(Type::F32, Type::U8, Rounding::Rn, false, 0x1ff), u64::from(255_f32.to_bits()));
    assert_eq!(cvt(Type::F32, Type::S8, Rounding::Rn, false, 0x1ff), u64::from((-1_f32).to_bits()));
    assert_eq!(cvt(Type::F16, Type::U32, Rounding::Rn, false, 100_000), 0x7c00);
    assert_eq!(cvt(Type::F16, Type::U32, Rounding::Rz, false, 100_000), 0x7bff);
    assert_eq!(cvt(Type::F16, Type::U32, Rounding::Rn, false, 2049), 0x6800);
    // 2^63 + 2^55 is a tie of bf16; 1 more is above it, which f64 does not hold.
    assert_eq!(cvt(Type::Bf16, Type::U64, Rounding::Rn, false, (1 << 63) + (1 << 55)), 0x5f00);
    assert_eq!(cvt(Type::Bf16, Type::U64, Rounding::Rn, false, (1 << 63) + (1 << 55) + 1), 0x5f01);
}

#[test]
fn integers_become_integers() {
    let none = Rounding::None;
    assert_eq!(cvt(Type::U64, Type::U32, none, false, 0xffff_ffff), 0xffff_ffff);
    assert_eq!(cvt(Type::S64, Type::S32, none, false, 0xffff_ffff), u64::MAX);
    assert_eq!(cvt(Type::U64, Type::S32, none, false, 0xffff_ffff), u64::MAX);
    assert_eq!(cvt(Type::U32, Type::U64, none, false, 0x1_0000_0005), 5);
    assert_eq!(cvt(Type::U8, Type::U32, none, false, 0x1ff), 0xff);
    assert_eq!(cvt(Type::S8, Type::U32, none, false, 0x1ff), 0xffff_ffff);
    assert_eq!(cvt(Type::S32, Type::S8, none, false, 0x180), 0xffff_ff80);
    assert_eq!(cvt(Type::U32, Type::U8, none, false, 0x180), 0x80);
    assert_eq!(cvt(Type::U16, Type::S32, none, false, 0xffff_fffe), 0xfffe);
    assert_eq!(cvt(Type::S32, Type::S16, none, false, 0x8000), 0xffff_8000);
}

#[test]
fn floats_become_floats() {
    let (rn, rz, none) = (Rounding::Rn, Rounding::Rz, Rounding::None);
    assert_eq!(from_f64(Type::F32, rn, 1e300), u64::from(f32::INFINITY.to_bits()));
    assert_eq!(from_f64(Type::F32, rz, -1e300), u64::from((-f32::MAX).to_bits()));
    assert_eq!(from_f64(Type::F32, rn, 0.1), u64::from(0.1_f32.to_bits()));
    assert_eq!(from_f64(Type::F32, rz, 0.1), u64::from(0.1_f32.to_bits()) - 1);
    assert_eq!(from_f64(Type::F32, rz, 1e-40), u64::from(1e-40_f32.to_bits()));
    assert_eq!(from_f64(Type::F32, rn, f64::NAN), 0x7fff_ffff);
    assert_eq!(from_f32(Type::F64, none, -f32::NAN), 0x7fff_ffff_ffff_ffff);
    assert_eq!(from_f32(Type::F64, none, 1e-40), f64::from(1e-40_f32).to_bits());
    assert_eq!(cvt(Type::F64, Type::F32, none, true, u64::from((-1e-40_f32).to_bits())), 1 << 63);
    assert_eq!(cvt(Type::F32, Type::F64, rn, true, (-1e-40_f64).to_bits()), 1 << 31);
    assert_eq!(cvt(Type::F16, Type::F32, rn, true, 1), 0);
    assert_eq!(cvt(Type::F32, Type::F32, Rounding::Rpi, true, 1), 0);
    assert_eq!(cvt(Type::F32, Type::F32, Rounding::Rpi, false, 1), u64::from(1_f32.to_bits()));
}

#[test]
fn small_floats() {
    let (rn, rz, none) = (Rounding::Rn, Rounding::Rz, Rounding::None);
    for (x, nearest, down) in [
        (1.0, 0x3c00, 0x3c00),
        (65504.0, 0x7bff, 0x7bff),
        (65519.0, 0x7bff, 0x7bff),
        (65520.0, 0x7c00, 0x7bff),
        (-1e-8, 0x8000, 0x8000),
        (2_f32.powi(-24), 1, 1),
        (2_f32.powi(-25), 0, 0),
        (1.5 * 2_f32.powi(-24), 2, 1),
        (2_f32.powi(-14) - 2_f32.powi(-26), 0x0400, 0x03ff),
        (f32::INFINITY, 0x7c00, 0x7c00),
        (f32::NAN, 0x7fff, 0x7fff),
    ] {
        assert_eq!((from_f32(Type::F16, rn, x), from_f32(Type::F16, rz, x)), (nearest, down), "{x}");
    }
    assert_eq!(from_f32(Type::Bf16, rn, f32::from_bits(0x3f80_8000)), 0x3f80);
    assert_eq!(from_f32(Type::Bf16, rn, f32::from_bits(0x3f81_8000)), 0x3f82);
    assert_eq!(from_f32(Type::Bf16, rn, f32::from_bits(0x3f80_8001)), 0x3f81);
    assert_eq!(from_f32(Type::Bf16, rz, f32::from_bits(0x3f80_ffff)), 0x3f80);
    assert_eq!(from_f32(Type::Bf16, rn, f32::MAX), 0x7f80);
    assert_eq!(from_f32(Type::Bf16, rn, f32::from_bits(0x0000_8001)), 1);
    assert_eq!(from_f32(Type::Tf32, rn, f32::from_bits(0x3f80_1000)), 0x3f80_0000);
    assert_eq!(from_f32(Type::Tf32, rn, f32::from_bits(0x3f80_3000)), 0x3f80_4000);
    for bits in 0..=0xffff_u64 {
        let (half, brain) = (
            f32::from_bits(cvt_fast(Type::F32, Type::F16, bits) as u32),
            f32::from_bits(cvt_fast(Type::F32, Type::Bf16, bits) as u32),
        );
        let back = |x: f32, to| {
            let conversion = super::super::convert::Conversion::new(to, Type::F32, rn, false, 16).unwrap();
            conversion.apply(u64::from(x.to_bits()))
        };
        if half.is_nan() {
            assert!(bits & 0x7fff > 0x7c00);
        } else {
            assert_eq!(back(half, Type::F16), bits);
        }
        if brain.is_nan() {
            assert!(bits & 0x7fff > 0x7f80);
        } else {
            assert_eq!(brain.to_bits(), (bits as u32) << 16);
            assert_eq!(back(brain, Type::Bf16), bits);
        }
    }
    assert_eq!(cvt(Type::F64, Type::F16, none, false, 0x0001), 2_f64.powi(-24).to_bits());
    assert_eq!(cvt(Type::S32, Type::F16, Rounding::Rni, false, 0xc100), -2_i32 as u32 as u64);
}

#[test]
fn operands_of_tensor_cores() {
    // Ties go away from zero.
    for (x, tf32) in [
        (0x3f80_0fff, 0x3f80_0000),
        (0x3f80_1000, 0x3f80_2000),
        (0xbf80_3000, 0xbf80_4000),
        (0x3fff_ffff, 0x4000_0000),
        (0x0000_1000, 0x0000_2000),
        (0x7f7f_ffff, 0x7f80_0000),
        (0xff80_0000, 0xff80_0000),
        (0x8000_0000, 0x8000_0000),
    ] {
        assert_eq!(from_f32(Type::Tf32, Rounding::Rna, f32::from_bits(x)), tf32, "{x:#x}");
    }
    assert!(f32::from_bits(from_f32(Type::Tf32, Rounding::Rna, f32::NAN) as u32).is_nan());
    for (to, pair) in [(Type::F16x2, 0x3c00_c000), (Type::Bf16x2, 0x3f80_c000)] {
        let operands = [1.0_f32, -2.0].map(|x| (Type::F32, u64::from(x.to_bits())));
        let bits = scalar(to, &operands, |d, x| InstOp::CvtPair { to, d, a: x[0], b: x[1] });
        assert_eq!(bits.unwrap(), pair);
    }
}

/// Without a launch.
fn cvt_fast(to: Type, from: Type, bits: u64) -> u64 {
    super::super::convert::Conversion::new(to, from, Rounding::None, false, 32).unwrap().apply(bits)
}

#[test]
fn roundings_that_do_not_exist() {
    for (to, from, rounding) in [
        (Type::F32, Type::F64, Rounding::None),
        (Type::F64, Type::F32, Rounding::Rn),
        (Type::S32, Type::F32, Rounding::Rn),
        (Type::F32, Type::S32, Rounding::None),
        (Type::U32, Type::U64, Rounding::Rzi),
        (Type::F16, Type::Bf16, Rounding::None),
    ] {
        let error = scalar(to, &[(from, 0)], |d, x| InstOp::Cvt { to, from, rounding, flush: false, d, a: x[0] });
        assert!(error.unwrap_err().to_string().ends_with("PTX has no such instruction"));
    }
}
