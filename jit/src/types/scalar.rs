//! Elements: their bits and their values.
//!
//! The bits of an element, in the low end of a `u64`, become its value and a value becomes bits, by the kind of the
//! element type. Integers and bools have integer values and never pass through a float. How bits lie in memory is in
//! `array`.

use std::fmt;

use crate::types::{DType, Kind};

/// The value of an element. Values of one element type compare as they do in a program.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub enum Scalar {
    /// An integer; of a bool, 0 or 1.
    Int(i128),
    /// A float.
    Float(f64),
}

macro_rules! scalar {
    ($($variant:ident: $($t:ty),*;)*) => { $($(
        impl From<$t> for Scalar {
            fn from(x: $t) -> Self {
                Scalar::$variant(x.into())
            }
        }
    )*)* };
}
scalar! {
    Int: bool, i8, u8, i16, u16, i32, i64, i128, u32, u64;
    Float: half::bf16, half::f16, f32, f64;
}

impl From<usize> for Scalar {
    fn from(x: usize) -> Self {
        Scalar::Int(x as i128)
    }
}

impl Scalar {
    /// The value as f64; integers of more than 53 bits are rounded.
    pub fn to_f64(self) -> f64 {
        match self {
            Scalar::Int(x) => x as f64,
            Scalar::Float(x) => x,
        }
    }

    /// Whether it is the integer `n`, or a float of that value.
    pub fn is(self, n: i32) -> bool {
        match self {
            Scalar::Int(x) => x == i128::from(n),
            Scalar::Float(x) => x == f64::from(n),
        }
    }

    /// Whether it is a NaN.
    pub fn is_nan(self) -> bool {
        matches!(self, Scalar::Float(x) if x.is_nan())
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Int(x) => x.fmt(f),
            Scalar::Float(x) => x.fmt(f),
        }
    }
}

impl DType {
    /// The largest bits of an element: of bool 1, of any other type all its bits.
    pub fn ones(self) -> u64 {
        match self.kind() {
            Kind::Bool => 1,
            Kind::Int { .. } | Kind::Float(_) => u64::MAX >> (u64::BITS - self.width()),
        }
    }

    /// The least and the greatest value: of floats, the infinities.
    pub fn range(self) -> (Scalar, Scalar) {
        match self.kind() {
            Kind::Bool => (Scalar::Int(0), Scalar::Int(1)),
            Kind::Int { signed: false } => (Scalar::Int(0), Scalar::Int(self.ones().into())),
            Kind::Int { signed: true } => {
                let half = 1 << (self.width() - 1);
                (Scalar::Int(-half), Scalar::Int(half - 1))
            }
            Kind::Float(_) => (Scalar::Float(f64::NEG_INFINITY), Scalar::Float(f64::INFINITY)),
        }
    }

    /// The value of the element with these bits; exact.
    pub fn value(self, bits: u64) -> Scalar {
        match self.kind() {
            Kind::Bool | Kind::Int { signed: false } => Scalar::Int(bits.into()),
            Kind::Int { signed: true } => {
                // The top bit is the sign: it fills the bits above.
                let above = u64::BITS - self.width();
                Scalar::Int(((bits << above) as i64 >> above).into())
            }
            Kind::Float(format) => Scalar::Float(format.decode(bits)),
        }
    }

    /// The bits of the element that `value` converts to, as in [`Op::Convert`](crate::graph::Op::Convert). To a float:
    /// rounded to nearest. To an integer: from an integer modulo 2^n, from a float towards zero and saturating, NaN to
    /// 0.
    /// To bool: `value != 0`.
    pub fn bits(self, value: impl Into<Scalar>) -> u64 {
        match (self.kind(), value.into()) {
            (Kind::Bool, value) => u64::from(!value.is(0)),
            (Kind::Int { .. }, Scalar::Int(x)) => x as u64 & self.ones(),
            (Kind::Int { .. }, Scalar::Float(x)) => {
                let (Scalar::Int(least), Scalar::Int(greatest)) = self.range() else {
                    unreachable!("{self} has integer bounds")
                };
                (x as i128).clamp(least, greatest) as u64 & self.ones()
            }
            (Kind::Float(format), Scalar::Int(x)) => format.encode_int(x),
            (Kind::Float(format), Scalar::Float(x)) => format.encode(x),
        }
    }
}

/// A binary floating-point format of IEEE 754: a sign, then the exponent, then the fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FloatFormat {
    /// Bits of the exponent.
    pub exponent: u32,
    /// Bits of the fraction, without the leading 1.
    pub fraction: u32,
}

impl FloatFormat {
    /// `bf16`.
    pub const BF16: FloatFormat = FloatFormat { exponent: 8, fraction: 7 };
    /// `f16`.
    pub const F16: FloatFormat = FloatFormat { exponent: 5, fraction: 10 };
    /// `f32`.
    pub const F32: FloatFormat = FloatFormat { exponent: 8, fraction: 23 };
    /// `f64`.
    pub const F64: FloatFormat = FloatFormat { exponent: 11, fraction: 52 };

    /// The bits of the exponent 0.
    pub fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    fn sign(self) -> u64 {
        1 << (self.exponent + self.fraction)
    }

    /// The bits of infinity.
    fn infinity(self) -> u64 {
        ((1 << self.exponent) - 1) << self.fraction
    }

    /// The bits of the canonical NaN: quiet, positive, without a payload.
    pub fn nan(self) -> u64 {
        self.infinity() | 1 << (self.fraction - 1)
    }

    /// Whether these bits are a NaN.
    pub fn is_nan(self, bits: u64) -> bool {
        bits & !self.sign() > self.infinity()
    }

    /// Whether these bits are a number below the normal ones, other than 0.
    pub fn is_subnormal(self, bits: u64) -> bool {
        (1..1 << self.fraction).contains(&(bits & !self.sign()))
    }

    /// The least positive normal number.
    pub fn least_normal(self) -> f64 {
        self.decode(1 << self.fraction)
    }

    /// The greatest finite number.
    pub fn greatest(self) -> f64 {
        self.decode(self.infinity() - 1)
    }

    /// The least number above `x`, which is one of this format.
    pub fn next_up(self, x: f64) -> f64 {
        let bits = self.encode(x);
        let magnitude = bits & !self.sign();
        self.decode(match magnitude {
            0 => 1,
            _ if magnitude > self.infinity() || bits == self.infinity() => bits,
            _ if bits == magnitude => bits + 1,
            _ => bits - 1,
        })
    }

    /// The number with these bits.
    pub fn decode(self, bits: u64) -> f64 {
        match self {
            FloatFormat::F32 => f32::from_bits(bits as u32).into(),
            FloatFormat::F64 => f64::from_bits(bits),
            _ => self.decode_parts(bits),
        }
    }

    /// The bits of `x`, rounded to nearest, ties to even.
    pub fn encode(self, x: f64) -> u64 {
        match self {
            FloatFormat::F32 => (x as f32).to_bits().into(),
            FloatFormat::F64 => x.to_bits(),
            _ => self.encode_parts(x),
        }
    }

    /// The bits of `x`, rounded once.
    fn encode_int(self, x: i128) -> u64 {
        if self == FloatFormat::F64 {
            return (x as f64).to_bits();
        }
        // To 53 bits, of which the last is 1 if anything is cut off ("round to odd"). Rounding these to at most 51 bits
        // gives what rounding `x` gives.
        let magnitude = x.unsigned_abs();
        let cut = (u128::BITS - magnitude.leading_zeros()).saturating_sub(53);
        let kept = magnitude >> cut;
        let odd = (kept | u128::from(kept << cut != magnitude)) << cut;
        let rounded = odd as f64;
        self.encode(if x < 0 { -rounded } else { rounded })
    }

    /// As [`FloatFormat::decode`], for a format narrower than f64.
    fn decode_parts(self, bits: u64) -> f64 {
        let magnitude = bits & !self.sign();
        let fraction = magnitude & ((1 << self.fraction) - 1);
        let exponent = (magnitude >> self.fraction) as i32;
        let value = if magnitude > self.infinity() {
            f64::NAN
        } else if magnitude == self.infinity() {
            f64::INFINITY
        } else if exponent == 0 {
            fraction as f64 * power_of_two(1 - self.bias() - self.fraction as i32)
        } else {
            power_of_two(exponent - self.bias()) * (1.0 + fraction as f64 * power_of_two(-(self.fraction as i32)))
        };
        if bits & self.sign() != 0 { -value } else { value }
    }

    /// As [`FloatFormat::encode`], for a format narrower than f64.
    fn encode_parts(self, x: f64) -> u64 {
        let sign = if x.is_sign_negative() { self.sign() } else { 0 };
        let x = x.abs();
        if !x.is_finite() {
            return sign | if x.is_nan() { self.nan() } else { self.infinity() };
        }
        // In units of the last place, which scaling by a power of two gives exactly.
        let exponent = ((x.to_bits() >> 52) as i32 - 1023).max(1 - self.bias());
        let places = (x * power_of_two(self.fraction as i32 - exponent)).round_ties_even() as u64;
        // The leading 1 of a normal number adds 1 to the exponent, and so does a carry.
        let bits = (((exponent + self.bias() - 1) as u64) << self.fraction) + places;
        sign | bits.min(self.infinity())
    }
}

/// `2^n`, a normal number.
fn power_of_two(n: i32) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    const F16: FloatFormat = FloatFormat::F16;
    const BF16: FloatFormat = FloatFormat::BF16;

    #[test]
    fn parts_round_as_the_processor_does() {
        // Every exponent of f32, the numbers between two neighbours, and those beyond either end.
        let format = FloatFormat::F32;
        let mut bits = 0x3600_0000_0000_0000u64;
        while bits < 0x4900_0000_0000_0000 {
            for x in [f64::from_bits(bits), -f64::from_bits(bits), f64::from_bits(bits & !0x1fff_ffff | 0x1000_0000)] {
                assert_eq!(format.encode_parts(x), format.encode(x), "{x:e}");
            }
            bits += 0x0000_3d5a_1234_5679;
        }
        for x in [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 3.4028235677973366e38, 1e-45, 7e-46, 5e-324] {
            assert_eq!(format.encode_parts(x), format.encode(x), "{x:e}");
            let bits = format.encode(x);
            assert_eq!(format.decode_parts(bits).to_bits(), format.decode(bits).to_bits(), "{x:e}");
        }
        assert!(format.is_nan(format.encode_parts(f64::NAN)) && format.decode_parts(format.nan()).is_nan());
    }

    #[test]
    fn every_half_reads_back() {
        for format in [F16, BF16] {
            for bits in (0..=u64::from(u16::MAX)).filter(|&bits| !format.is_nan(bits)) {
                assert_eq!(format.encode(format.decode(bits)), bits);
                assert_eq!(
                    format.is_subnormal(bits),
                    format.decode(bits) != 0.0 && { format.decode(bits).abs() < format.least_normal() }
                );
            }
        }
        assert_eq!((F16.greatest(), F16.least_normal()), (65504.0, 2f64.powi(-14)));
        assert_eq!((F16.encode(65519.9), F16.encode(65520.0)), (0x7bff, 0x7c00));
        // 1 + 2^-8 is in the middle of two; the even one is 1.
        assert_eq!((BF16.encode(1.00390625), BF16.encode(1.0117188), BF16.nan()), (0x3f80, 0x3f82, 0x7fc0));
        assert_eq!(
            (F16.next_up(1.0), F16.next_up(-0.0), F16.next_up(-1.0)),
            (1.0009765625, 2f64.powi(-24), -0.99951171875)
        );
    }

    #[test]
    fn integers_round_once() {
        // 2^54 + 2^30 + 1 through f64 would be in the middle of two f32.
        let x = (1i128 << 54) + (1 << 30) + 1;
        assert_eq!(DType::F32.bits(x), u64::from((x as f32).to_bits()));
        assert_ne!(DType::F32.bits(x), DType::F32.bits(x as f64));
        for x in [0, 1, -1, 16_777_217, i128::from(u32::MAX), i128::from(i64::MIN), i128::from(u64::MAX)] {
            assert_eq!(DType::F32.bits(x), u64::from((x as f32).to_bits()), "{x}");
            assert_eq!(DType::F64.bits(x), (x as f64).to_bits(), "{x}");
        }
    }

    #[test]
    fn values_read_back() {
        for dtype in DType::ALL {
            for bits in [0, 1, dtype.ones(), dtype.ones() >> 1, dtype.ones() / 3] {
                let value = dtype.value(bits);
                assert!(value.is_nan() || dtype.bits(value) == bits, "{dtype} {bits:#x}");
            }
            let (least, greatest) = dtype.range();
            assert!(least < greatest, "{dtype}");
        }
        assert_eq!(DType::I32.value(u64::from(u32::MAX)), Scalar::Int(-1));
        assert_eq!(DType::I32.bits(-1i64 << 33 | 5), 5);
        assert_eq!([f64::NAN, 3e9, -3e9].map(|x| DType::I32.bits(x)), [0, 0x7fff_ffff, 0x8000_0000]);
        assert_eq!([f64::NAN, -0.0, 0.25].map(|x| DType::Bool.bits(x)), [1, 0, 1]);
    }

    #[test]
    fn what_represents_what() {
        let pairs = |x: DType| DType::ALL.into_iter().filter(|&y| x.represents(y)).map(DType::name).collect::<Vec<_>>();
        assert_eq!(pairs(DType::Bool), ["bool"]);
        assert_eq!(pairs(DType::I8), ["bool", "i8"]);
        assert_eq!(pairs(DType::I32), ["bool", "i8", "u8", "i16", "u16", "i32"]);
        assert_eq!(pairs(DType::I64), ["bool", "i8", "u8", "i16", "u16", "i32", "u32", "i64"]);
        assert_eq!(pairs(DType::BF16), ["bool", "i8", "u8", "bf16"]);
        assert_eq!(pairs(DType::F16), ["bool", "i8", "u8", "f16"]);
        assert_eq!(pairs(DType::F32), ["bool", "i8", "u8", "i16", "u16", "bf16", "f16", "f32"]);
        let all = ["bool", "i8", "u8", "i16", "u16", "i32", "u32", "bf16", "f16", "f32", "f64"];
        assert_eq!(pairs(DType::F64), all);
    }
}
