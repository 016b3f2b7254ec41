//! How elements are stored, and the lanes that they are computed in: the second table of element types.
//!
//! An element type and bits or a lane come in, the same in the other form go out. A type that is narrower than its lane
//! is widened by loads and rounded by stores, and rounded after every op, so that fusion changes no result. Each
//! function is an exhaustive match over [`Storage`]: a new way of storing elements needs an arm in each, and one in the
//! loads and stores of every emitter. The ops themselves are not here.

use super::{LaneCompare, LaneConvert, LaneId, LaneProgram, LaneType};
use crate::types::DType;

/// How an element lies in memory, compared with its lane in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// The bits of the lane.
    Lane,
    /// A mask, as a byte that is 0 or 1.
    Byte,
}

/// The lane of an element type, and how it is stored.
fn row(dtype: DType) -> (LaneType, Storage) {
    match dtype {
        DType::Bool => (LaneType::Bool, Storage::Byte),
        DType::I32 | DType::U32 => (LaneType::I32, Storage::Lane),
        DType::F32 => (LaneType::F32, Storage::Lane),
        DType::F64 => (LaneType::F64, Storage::Lane),
    }
}

impl LaneType {
    /// The lane type of an element type.
    pub fn of(dtype: DType) -> LaneType {
        row(dtype).0
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
    }
}

/// The inverse of [`to_lane`].
pub fn from_lane(dtype: DType, bits: u64) -> u64 {
    match Storage::of(dtype) {
        Storage::Lane | Storage::Byte => bits,
    }
}

/// The result `x` of an op, rounded (or wrapped) to an element of `dtype`.
pub(super) fn rounded(_: &mut LaneProgram, dtype: DType, x: LaneId) -> LaneId {
    match Storage::of(dtype) {
        Storage::Lane | Storage::Byte => x,
    }
}

/// The integer `x` of type `dtype`, extended to its lane from its own bits: by copies of the top bit if `signed`, else
/// by zeros.
pub(super) fn extended(_: &mut LaneProgram, dtype: DType, x: LaneId, _signed: bool) -> LaneId {
    match Storage::of(dtype) {
        Storage::Lane | Storage::Byte => x,
    }
}

/// The bits of the element `x` of type `from` as an element of type `to`, of the same size.
pub(super) fn bitcast(p: &mut LaneProgram, from: DType, to: DType, x: LaneId) -> LaneId {
    use LaneType::{Bool, F32, F64, I32, I64};
    match (Storage::of(from), Storage::of(to)) {
        (Storage::Lane | Storage::Byte, Storage::Lane | Storage::Byte) => {
            match (LaneType::of(from), LaneType::of(to)) {
                (F32, F32) | (F64, F64) | (I32, I32) | (I64, I64) | (Bool, Bool) => x,
                (F32, I32) => p.convert(LaneConvert::F32Bits, x),
                (I32, F32) => p.convert(LaneConvert::F32FromBits, x),
                (F64, I64) => p.convert(LaneConvert::F64Bits, x),
                (I64, F64) => p.convert(LaneConvert::F64FromBits, x),
                (F32 | I32, F64 | I64 | Bool) | (F64 | I64, F32 | I32 | Bool) | (Bool, F32 | F64 | I32 | I64) => {
                    unreachable!("a verified graph has no bitcast of {from} to {to}")
                }
            }
        }
    }
}

/// The element type that a reduction of `dtype` accumulates in: of bool, an integer.
pub fn accumulator(dtype: DType) -> DType {
    match Storage::of(dtype) {
        Storage::Lane => dtype,
        Storage::Byte => DType::I32,
    }
}

/// An element of `dtype` as one of its accumulator's type.
pub fn to_accumulator(p: &mut LaneProgram, dtype: DType, x: LaneId) -> LaneId {
    match Storage::of(dtype) {
        Storage::Lane => x,
        Storage::Byte => p.convert(LaneConvert::BoolToI32, x),
    }
}

/// The inverse of [`to_accumulator`].
pub fn from_accumulator(p: &mut LaneProgram, dtype: DType, x: LaneId) -> LaneId {
    match Storage::of(dtype) {
        Storage::Lane => x,
        Storage::Byte => {
            let zero = p.i32(0);
            p.compare(LaneCompare::Ne, x, zero)
        }
    }
}
