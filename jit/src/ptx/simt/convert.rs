//! `cvt`: integers, f16, bf16, tf32, f32 and f64 into each other.
//!
//! A float becomes an integer of the type's range. NaN becomes 0, or the highest bit where the float is an f64 or the
//! integer has 64 bits. An integer becomes a smaller one by dropping bits, as `cvt` without `.sat` does. Conversions
//! between floats give the canonical NaN.

use super::float::{BF16, F16, F32, TF32, flushed, from_f32, from_f64, input, integer_to_odd, narrow, output, widen};
use crate::ptx::inst::{Rounding, Type};

/// A conversion that PTX has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conversion {
    to: Type,
    from: Type,
    rounding: Rounding,
    flush: bool,
    /// Bits of the destination register, to which integers are extended.
    register: u32,
}

/// What a type counts as in a conversion.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Signed(u32),
    Unsigned(u32),
    Float(u32),
}

fn class(ty: Type) -> Option<Class> {
    Some(match ty {
        Type::U8 => Class::Unsigned(8),
        Type::U16 => Class::Unsigned(16),
        Type::U32 => Class::Unsigned(32),
        Type::U64 => Class::Unsigned(64),
        Type::S8 => Class::Signed(8),
        Type::S16 => Class::Signed(16),
        Type::S32 => Class::Signed(32),
        Type::S64 => Class::Signed(64),
        Type::F16 | Type::Bf16 => Class::Float(11),
        Type::Tf32 => Class::Float(19),
        Type::F32 => Class::Float(24),
        Type::F64 => Class::Float(53),
        Type::Pred | Type::B8 | Type::B16 | Type::B32 | Type::B64 | Type::F16x2 | Type::Bf16x2 => return None,
    })
}

impl Conversion {
    /// The conversion, or `None` where PTX has none, or not with this rounding.
    pub(super) fn new(to: Type, from: Type, rounding: Rounding, flush: bool, register: u32) -> Option<Conversion> {
        if flush && to != Type::F32 && from != Type::F32 {
            return None;
        }
        let to_integral = matches!(rounding, Rounding::Rni | Rounding::Rzi | Rounding::Rmi | Rounding::Rpi);
        let to_float = matches!(rounding, Rounding::Rn | Rounding::Rz);
        if rounding == Rounding::Rna {
            let fits = to == Type::Tf32 && from == Type::F32 && !flush;
            return fits.then_some(Conversion { to, from, rounding, flush, register });
        }
        let fits = match (class(to)?, class(from)?) {
            (Class::Float(_), Class::Float(_)) if from == Type::Tf32 => false,
            (Class::Float(_), Class::Float(_)) if to == from => rounding == Rounding::None || to_integral,
            // Neither holds all values of the other.
            (Class::Float(11), Class::Float(11)) => to_float,
            (Class::Float(t), Class::Float(f)) if t < f => to_float,
            (Class::Float(_), Class::Float(_)) if to == Type::Tf32 => from == Type::F32 && to_float,
            (Class::Float(_), Class::Float(_)) => rounding == Rounding::None,
            (Class::Float(_), _) => to != Type::Tf32 && to_float,
            (_, Class::Float(_)) => from != Type::Tf32 && to_integral,
            (_, _) => rounding == Rounding::None,
        };
        fits.then_some(Conversion { to, from, rounding, flush, register })
    }

    /// The result for a register.
    pub(super) fn apply(self, bits: u64) -> u64 {
        match self.from {
            Type::U8 => self.integer(u64::from(bits as u8), false),
            Type::U16 => self.integer(u64::from(bits as u16), false),
            Type::U32 => self.integer(u64::from(bits as u32), false),
            Type::U64 => self.integer(bits, false),
            Type::S8 => self.integer(bits as i8 as u64, true),
            Type::S16 => self.integer(bits as i16 as u64, true),
            Type::S32 => self.integer(bits as i32 as u64, true),
            Type::S64 => self.integer(bits, true),
            Type::F16 => self.float(widen(bits & 0xffff, F16)),
            Type::Bf16 => self.float(widen(bits & 0xffff, BF16)),
            Type::F32 if self.flush => self.float(f64::from(input::<true>(bits))),
            Type::F32 => self.float(f64::from(input::<false>(bits))),
            Type::F64 => self.float(f64::from_bits(bits)),
            // `new` lets none of these through.
            Type::Pred | Type::B8 | Type::B16 | Type::B32 | Type::B64 | Type::F16x2 | Type::Bf16x2 | Type::Tf32 => 0,
        }
    }

    /// From 64 bits that are sign-extended if signed.
    fn integer(self, bits: u64, signed: bool) -> u64 {
        let negative = signed && (bits as i64) < 0;
        let magnitude = if negative { bits.wrapping_neg() } else { bits };
        let down = self.rounding == Rounding::Rz;
        match self.to {
            Type::F64 if down => {
                // The upper 53 bits.
                let excess = 11_u32.saturating_sub(magnitude.leading_zeros());
                let x = (magnitude >> excess << excess) as f64;
                from_f64(if negative { -x } else { x })
            }
            Type::F64 => from_f64(if signed { bits as i64 as f64 } else { bits as f64 }),
            Type::F32 if !down => from_f32(if signed { bits as i64 as f32 } else { bits as f32 }),
            Type::F32 | Type::F16 | Type::Bf16 | Type::Tf32 => self.rounded(integer_to_odd(magnitude, negative)),
            Type::U8 | Type::U16 | Type::U32 | Type::U64 | Type::S8 | Type::S16 | Type::S32 | Type::S64 => {
                self.extended(bits)
            }
            Type::Pred | Type::B8 | Type::B16 | Type::B32 | Type::B64 | Type::F16x2 | Type::Bf16x2 => 0,
        }
    }

    fn float(self, x: f64) -> u64 {
        let x = match self.rounding {
            Rounding::None | Rounding::Rn | Rounding::Rz | Rounding::Rna => x,
            Rounding::Rni => x.round_ties_even(),
            Rounding::Rzi => x.trunc(),
            Rounding::Rmi => x.floor(),
            Rounding::Rpi => x.ceil(),
        };
        // NaN is 0 only of smaller floats and integers; of others it is the highest bit of the integer.
        if let Some(Class::Signed(bits) | Class::Unsigned(bits)) = class(self.to)
            && x.is_nan()
            && (self.from == Type::F64 || bits > 32)
        {
            return self.extended(1 << (bits - 1));
        }
        // `as` saturates, and gives 0 for NaN.
        match self.to {
            Type::U8 => self.extended(u64::from(x as u8)),
            Type::U16 => self.extended(u64::from(x as u16)),
            Type::U32 => self.extended(u64::from(x as u32)),
            Type::U64 => self.extended(x as u64),
            Type::S8 => self.extended(x as i8 as u64),
            Type::S16 => self.extended(x as i16 as u64),
            Type::S32 => self.extended(x as i32 as u64),
            Type::S64 => self.extended(x as i64 as u64),
            Type::F16
            | Type::Bf16
            | Type::F32
            | Type::Tf32
            | Type::F64
            | Type::Pred
            | Type::B8
            | Type::B16
            | Type::B32
            | Type::B64
            | Type::F16x2
            | Type::Bf16x2 => self.rounded(x),
        }
    }

    fn rounded(self, x: f64) -> u64 {
        let down = self.rounding == Rounding::Rz;
        match self.to {
            Type::F16 => narrow(x, F16, down),
            Type::Bf16 => narrow(x, BF16, down),
            // The last 13 bits of a tf32 in its register are zeros, those of the NaN as well.
            Type::Tf32 if self.rounding == Rounding::Rna && x.is_finite() => {
                // Half of the last bit that stays; the carry goes where it belongs.
                u64::from((x as f32).to_bits() + 0x1000) & !0x1fff
            }
            Type::Tf32 => narrow(x, TF32, down) << 13,
            Type::F32 if down => {
                let bits = narrow(x, F32, true) as u32;
                u64::from(if self.flush { flushed(f32::from_bits(bits)).to_bits() } else { bits })
            }
            Type::F32 if self.flush => output::<true>(x as f32),
            Type::F32 => output::<false>(x as f32),
            Type::F64 => from_f64(x),
            Type::U8
            | Type::U16
            | Type::U32
            | Type::U64
            | Type::S8
            | Type::S16
            | Type::S32
            | Type::S64
            | Type::Pred
            | Type::B8
            | Type::B16
            | Type::B32
            | Type::B64
            | Type::F16x2
            | Type::Bf16x2 => 0,
        }
    }

    /// The low bits of an integer type, extended to the register.
    fn extended(self, bits: u64) -> u64 {
        let extended = match class(self.to) {
            Some(Class::Signed(n)) => ((bits << (64 - n)) as i64 >> (64 - n)) as u64,
            Some(Class::Unsigned(n)) => bits << (64 - n) >> (64 - n),
            Some(Class::Float(_)) | None => bits,
        };
        extended << (64 - self.register) >> (64 - self.register)
    }
}
