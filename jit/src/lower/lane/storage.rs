//! How elements are stored, and the lanes that they are computed in: the second table of element types.
//!
//! An element type and bits or a lane come in, the same in the other form go out. A type that is narrower than its lane
//! is widened after loads and narrowed before stores, by instructions of the lane program: emitters move
//! [raw lanes](LaneType::raw) only. Results of ops are rounded (or wrapped) to an element, so that fusion changes no
//! result. A new way of storing elements needs an arm in each match over [`Storage`], and one in the loads and stores
//! of every emitter. The ops themselves are not here.

use super::{LaneBinary as B, LaneCompare as C, LaneConvert as V, LaneId, LaneProgram, LaneType};
use crate::types::scalar::FloatFormat;
use crate::types::{DType, Kind};

/// How an element lies in memory, compared with its raw lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// The bits of the lane.
    Lane,
    /// A mask, as a byte that is 0 or 1.
    Byte,
    /// So many low bytes of an I32 lane, 1 or 2. Loads fill the others with zeros, stores ignore them.
    Low(usize),
}

/// The lane of an element type, and how it is stored. In its lane an element narrower than that has its value.
fn row(dtype: DType) -> (LaneType, Storage) {
    match dtype {
        DType::Bool => (LaneType::Bool, Storage::Byte),
        DType::I8 | DType::U8 => (LaneType::I32, Storage::Low(1)),
        DType::I32 | DType::U32 => (LaneType::I32, Storage::Lane),
        DType::I64 | DType::U64 => (LaneType::I64, Storage::Lane),
        DType::I16 | DType::U16 => (LaneType::I32, Storage::Low(2)),
        DType::BF16 | DType::F16 => (LaneType::F32, Storage::Low(2)),
        DType::F32 => (LaneType::F32, Storage::Lane),
        DType::F64 => (LaneType::F64, Storage::Lane),
    }
}

impl LaneType {
    /// The lane type that elements are computed in.
    pub fn of(dtype: DType) -> LaneType {
        row(dtype).0
    }

    /// The lane type that loads give and stores take.
    pub fn raw(dtype: DType) -> LaneType {
        match row(dtype) {
            (ty, Storage::Lane | Storage::Byte) => ty,
            (_, Storage::Low(_)) => LaneType::I32,
        }
    }
}

impl Storage {
    /// How elements of `dtype` are stored.
    pub fn of(dtype: DType) -> Storage {
        row(dtype).1
    }
}

/// The bits of a lane that holds the element with these bits.
pub fn to_lane(dtype: DType, bits: u64) -> u64 {
    match Storage::of(dtype) {
        Storage::Lane | Storage::Byte => bits,
        Storage::Low(_) => wide(dtype).bits(dtype.value(bits)),
    }
}

/// The inverse of [`to_lane`].
pub fn from_lane(dtype: DType, bits: u64) -> u64 {
    match Storage::of(dtype) {
        Storage::Lane | Storage::Byte => bits,
        Storage::Low(_) => dtype.bits(wide(dtype).value(bits)),
    }
}

/// The element type whose bits are those of the lane of `dtype`; of bool, i32.
pub fn wide(dtype: DType) -> DType {
    match (Storage::of(dtype), dtype.kind()) {
        (Storage::Lane, _) => dtype,
        (Storage::Byte, _) | (Storage::Low(_), Kind::Bool | Kind::Int { signed: true }) => DType::I32,
        (Storage::Low(_), Kind::Int { signed: false }) => DType::U32,
        (Storage::Low(_), Kind::Float(_)) => DType::F32,
    }
}

/// The element of a loaded raw lane.
pub fn widened(p: &mut LaneProgram, dtype: DType, raw: LaneId) -> LaneId {
    match (Storage::of(dtype), dtype.kind()) {
        (Storage::Lane | Storage::Byte, _) => raw,
        (Storage::Low(_), Kind::Bool | Kind::Int { .. }) => extended(p, dtype, raw, dtype.is_signed_int()),
        (Storage::Low(_), Kind::Float(FloatFormat::BF16)) => {
            let bits = shifted(p, B::Shl, raw, 16);
            p.convert(V::F32FromBits, bits)
        }
        (Storage::Low(_), Kind::Float(_)) => widened_f16(p, raw),
    }
}

/// The raw lane of an element that is to be stored. Its upper bytes are zero.
pub fn narrowed(p: &mut LaneProgram, dtype: DType, x: LaneId) -> LaneId {
    match (Storage::of(dtype), dtype.kind()) {
        (Storage::Lane | Storage::Byte, _) => x,
        (Storage::Low(_), Kind::Bool | Kind::Int { .. }) => extended(p, dtype, x, false),
        (Storage::Low(_), Kind::Float(FloatFormat::BF16)) => {
            let bits = p.convert(V::F32Bits, x);
            shifted(p, B::Shr, bits, 16)
        }
        (Storage::Low(_), Kind::Float(_)) => narrowed_f16(p, x),
    }
}

/// The result `x` of an op, rounded (or wrapped) to an element of `dtype`.
pub fn rounded(p: &mut LaneProgram, dtype: DType, x: LaneId) -> LaneId {
    match (Storage::of(dtype), dtype.kind()) {
        (Storage::Lane | Storage::Byte, _) => x,
        (Storage::Low(_), Kind::Bool | Kind::Int { .. }) => extended(p, dtype, x, dtype.is_signed_int()),
        (Storage::Low(_), Kind::Float(FloatFormat::BF16)) => rounded_bf16(p, x),
        (Storage::Low(_), Kind::Float(_)) => rounded_f16(p, x),
    }
}

/// The integer `x` of type `dtype`, extended to its lane from its own bits: by copies of the top bit if `signed`, else
/// by zeros.
pub(super) fn extended(p: &mut LaneProgram, dtype: DType, x: LaneId, signed: bool) -> LaneId {
    match Storage::of(dtype) {
        Storage::Lane | Storage::Byte => x,
        Storage::Low(_) if signed => {
            let above = 32 - dtype.width() as i32;
            let top = shifted(p, B::Shl, x, above);
            shifted(p, B::Sar, top, above)
        }
        Storage::Low(_) => masked(p, x, dtype.ones() as i32),
    }
}

/// The bits of the element `x` of type `from` as an element of type `to`, of the same size.
pub(super) fn bitcast(p: &mut LaneProgram, from: DType, to: DType, x: LaneId) -> LaneId {
    use LaneType::{Bool, F32, F64, I32, I64};
    let raw = narrowed(p, from, x);
    let raw = match (LaneType::raw(from), LaneType::raw(to)) {
        (F32, F32) | (F64, F64) | (I32, I32) | (I64, I64) | (Bool, Bool) => raw,
        (F32, I32) => p.convert(V::F32Bits, raw),
        (I32, F32) => p.convert(V::F32FromBits, raw),
        (F64, I64) => p.convert(V::F64Bits, raw),
        (I64, F64) => p.convert(V::F64FromBits, raw),
        (F32 | I32, F64 | I64 | Bool) | (F64 | I64, F32 | I32 | Bool) | (Bool, F32 | F64 | I32 | I64) => {
            unreachable!("a verified graph has no bitcast of {from} to {to}")
        }
    };
    widened(p, to, raw)
}

/// The element type that a reduction of `dtype` accumulates in: that of the whole lane; of bool, an integer.
pub fn accumulator(dtype: DType) -> DType {
    wide(dtype)
}

/// An element of `dtype` as one of its accumulator's type.
pub fn to_accumulator(p: &mut LaneProgram, dtype: DType, x: LaneId) -> LaneId {
    match Storage::of(dtype) {
        Storage::Lane | Storage::Low(_) => x,
        Storage::Byte => p.convert(V::BoolToI32, x),
    }
}

/// The inverse of [`to_accumulator`], rounded.
pub fn from_accumulator(p: &mut LaneProgram, dtype: DType, x: LaneId) -> LaneId {
    match Storage::of(dtype) {
        Storage::Lane | Storage::Low(_) => rounded(p, dtype, x),
        Storage::Byte => {
            let zero = p.i32(0);
            p.compare(C::Ne, x, zero)
        }
    }
}

// ---- floats of 16 bits

fn shifted(p: &mut LaneProgram, op: B, x: LaneId, by: i32) -> LaneId {
    let by = p.i32(by);
    p.binary(op, x, by)
}

fn masked(p: &mut LaneProgram, x: LaneId, mask: i32) -> LaneId {
    let mask = p.i32(mask);
    p.binary(B::And, x, mask)
}

/// An f32 rounded to the nearest bf16, ties to even: half a unit in the last place, less one bit where that is even, is
/// added to the bits. NaN keeps its upper bits, which are quiet.
fn rounded_bf16(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let bits = p.convert(V::F32Bits, x);
    let last = shifted(p, B::Shr, bits, 16);
    let odd = masked(p, last, 1);
    let half = p.i32(0x7fff);
    let up = p.add(half, odd);
    let sum = p.add(bits, up);
    let is_nan = p.compare(C::Ne, x, x);
    let quiet = p.i32(0x40_0000);
    let nan = p.binary(B::Or, bits, quiet);
    let sum = p.select(is_nan, nan, sum);
    let kept = masked(p, sum, 0xffff_0000_u32 as i32);
    p.convert(V::F32FromBits, kept)
}

/// An f32 rounded to the nearest f16, ties to even. A number of exponent e rounds to multiples of 2^(e-10), as adding
/// and subtracting 2^(e+13) does; below 2^-14, the least normal number, to multiples of 2^-24.
fn rounded_f16(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let bits = p.convert(V::F32Bits, x);
    let sign = masked(p, bits, i32::MIN);
    let magnitude = masked(p, bits, i32::MAX);
    let exponent = masked(p, bits, 0x7f80_0000);
    let least = p.i32((127 - 14) << 23);
    let exponent = p.binary(B::SMax, exponent, least);
    let thirteen = p.i32(13 << 23);
    let shift = p.add(exponent, thirteen);
    let (magnitude, shift) = (p.convert(V::F32FromBits, magnitude), p.convert(V::F32FromBits, shift));
    let sum = p.add(magnitude, shift);
    let result = p.sub(sum, shift);
    // From the middle between the largest number and the next one on.
    let (beyond, infinity) = (p.f32(65520.0), p.f32(f32::INFINITY));
    let overflows = p.compare(C::Le, beyond, magnitude);
    let result = p.select(overflows, infinity, result);
    // The exponent of a NaN overflows above.
    let is_nan = p.compare(C::Ne, x, x);
    let result = p.select(is_nan, magnitude, result);
    let result = p.convert(V::F32Bits, result);
    let result = p.binary(B::Or, result, sign);
    p.convert(V::F32FromBits, result)
}

/// The f32 of the bits of an f16.
fn widened_f16(p: &mut LaneProgram, raw: LaneId) -> LaneId {
    let sign = masked(p, raw, 0x8000);
    let sign = shifted(p, B::Shl, sign, 16);
    let magnitude = masked(p, raw, 0x7fff);
    let (infinity, normal) = (p.i32(0x7c00), p.i32(0x400));
    // The exponents of f32 are larger by 112; that of infinity and NaN, the largest, by twice that.
    let (by, again) = (p.i32(112 << 23), p.i32(224 << 23));
    let is_finite = p.compare(C::Lt, magnitude, infinity);
    let by = p.select(is_finite, by, again);
    let places = shifted(p, B::Shl, magnitude, 13);
    let bits = p.add(places, by);
    // Below the normal numbers it is a multiple of 2^-24.
    let multiple = p.convert(V::I32ToF32, magnitude);
    let unit = p.f32(2f32.powi(-24));
    let small = p.mul(multiple, unit);
    let small = p.convert(V::F32Bits, small);
    let is_small = p.compare(C::Lt, magnitude, normal);
    let bits = p.select(is_small, small, bits);
    let bits = p.binary(B::Or, bits, sign);
    p.convert(V::F32FromBits, bits)
}

/// The bits of the f16 that the f32 `x` is.
fn narrowed_f16(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let bits = p.convert(V::F32Bits, x);
    let sign = shifted(p, B::Shr, bits, 16);
    let sign = masked(p, sign, 0x8000);
    let magnitude = masked(p, bits, i32::MAX);
    let places = shifted(p, B::Shr, magnitude, 13);
    let (normal, by) = (p.i32((127 - 14) << 23), p.i32(112 << 10));
    let result = p.sub(places, by);
    let absolute = p.convert(V::F32FromBits, magnitude);
    let units = p.f32(2f32.powi(24));
    let small = p.mul(absolute, units);
    let small = p.convert(V::F32ToI32, small);
    let is_small = p.compare(C::Lt, magnitude, normal);
    let result = p.select(is_small, small, result);
    let (infinite, infinity) = (p.i32(0x7f80_0000), p.i32(0x7c00));
    let is_infinite = p.compare(C::Le, infinite, magnitude);
    let result = p.select(is_infinite, infinity, result);
    let (nan, is_nan) = (p.i32(0x7e00), p.compare(C::Ne, x, x));
    let result = p.select(is_nan, nan, result);
    p.binary(B::Or, result, sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::lane::run;

    /// A program of one input, run on some bits.
    fn on(ty: LaneType, f: impl Fn(&mut LaneProgram, LaneId) -> LaneId) -> impl Fn(u64) -> u64 {
        let mut p = LaneProgram::new();
        let x = p.input(0, ty);
        let y = f(&mut p, x);
        move |bits| run(&p, &[bits], &[y])[0]
    }

    #[test]
    fn every_narrow_element_reads_back() {
        for dtype in DType::ALL.into_iter().filter(|&d| matches!(Storage::of(d), Storage::Low(_))) {
            let load = on(LaneType::I32, |p, x| widened(p, dtype, x));
            let store = on(LaneType::of(dtype), |p, x| narrowed(p, dtype, x));
            let round = on(LaneType::of(dtype), |p, x| rounded(p, dtype, x));
            for bits in 0..=dtype.ones() {
                if dtype.value(bits).is_nan() {
                    assert!(dtype.value(store(load(bits))).is_nan(), "{dtype} {bits:#x}");
                    assert!(wide(dtype).value(round(load(bits))).is_nan(), "{dtype} {bits:#x}");
                    continue;
                }
                assert_eq!(load(bits), to_lane(dtype, bits), "{dtype} {bits:#x}");
                assert_eq!(from_lane(dtype, load(bits)), bits, "{dtype} {bits:#x}");
                assert_eq!(store(load(bits)), bits, "{dtype} {bits:#x}");
                assert_eq!(round(load(bits)), load(bits), "{dtype} {bits:#x}");
            }
        }
    }

    #[test]
    fn results_round_to_nearest() {
        for dtype in [DType::BF16, DType::F16] {
            let round = on(LaneType::F32, |p, x| rounded(p, dtype, x));
            let mut bits = 0u32;
            loop {
                for near in [bits, bits | 0xfff, bits & !0xfff, bits & !0xfff | 0x1000, bits & !0xffff | 0x8000] {
                    let x = f32::from_bits(near);
                    let expected = dtype.bits(x);
                    let found = from_lane(dtype, round(near.into()));
                    // Programs flush what is subnormal in f32.
                    if !x.is_nan() && !x.is_subnormal() {
                        assert_eq!(found, expected, "{dtype} {x:e}");
                    }
                }
                bits = match bits.checked_add(0x1_2345) {
                    Some(next) => next,
                    None => break,
                };
            }
            for x in
                [65504f32, 65519.996, 65520.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 2f32.powi(-25)]
            {
                assert_eq!(from_lane(dtype, round(x.to_bits().into())), dtype.bits(x), "{dtype} {x:e}");
            }
            assert!(dtype.value(from_lane(dtype, round(f32::NAN.to_bits().into()))).is_nan());
            assert!(dtype.value(from_lane(dtype, round(0xffff_ffff))).is_nan());
        }
    }
}
