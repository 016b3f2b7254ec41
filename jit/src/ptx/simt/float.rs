//! Floats as bits: canonical NaNs, flushed subnormals, and exact rounding to the small formats.
//!
//! Values of f16, bf16 and tf32 are computed in f64 and rounded once; what f64 cannot hold is rounded to odd there
//! first, so that the second rounding sees on which side of a tie the exact value lies.
//!
//! With `.ftz`, a result is flushed if it is subnormal after rounding: one that rounds up to the least normal value is
//! that value. PTX does not say which it is.

/// The NaN that f32 arithmetic gives.
pub(super) const NAN32: u32 = 0x7fff_ffff;
/// The NaN that f64 arithmetic gives.
pub(super) const NAN64: u64 = 0x7fff_ffff_ffff_ffff;

/// A binary format of at most 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    /// Bits of the fraction.
    fraction: u32,
    /// The largest exponent of a finite value, and the bias of the encoding.
    bias: i32,
}

/// IEEE half precision.
pub(super) const F16: Format = Format { fraction: 10, bias: 15 };
/// The upper half of f32.
pub(super) const BF16: Format = Format { fraction: 7, bias: 127 };
/// The upper 19 bits of f32.
pub(super) const TF32: Format = Format { fraction: 10, bias: 127 };
/// IEEE single precision.
pub(super) const F32: Format = Format { fraction: 23, bias: 127 };

impl Format {
    /// The bits of infinity.
    fn infinity(self) -> u64 {
        ((2 * self.bias + 1) as u64) << self.fraction
    }

    fn sign(self) -> u64 {
        (2 * self.infinity() + 2 * (1 << self.fraction)) / 2
    }
}

/// `x` in a format: rounded to the nearest, ties to even, or towards zero. NaN has all bits but the sign set.
pub(super) fn narrow(x: f64, to: Format, towards_zero: bool) -> u64 {
    let sign = if x.is_sign_negative() { to.sign() } else { 0 };
    if x.is_nan() {
        return to.sign() - 1;
    }
    if x.is_infinite() {
        return sign | to.infinity();
    }
    let bits = x.to_bits() & !(1 << 63);
    let (exponent, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
    // |x| = m * 2^q.
    let (m, q) = if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
    if m == 0 {
        return sign;
    }
    let p = to.fraction as i32;
    let top = 63 - m.leading_zeros() as i32 + q;
    // The exponent of the last bit of the result.
    let last = (top - p).max(1 - to.bias - p);
    let shift = last - q;
    let kept = if shift <= 0 {
        m << -shift
    } else if shift > 60 {
        0
    } else {
        let (kept, rest, half) = (m >> shift, m & ((1 << shift) - 1), 1 << (shift - 1));
        kept + u64::from(!towards_zero && (rest > half || (rest == half && kept & 1 == 1)))
    };
    // The leading bit of a normal value adds 1 to the exponent, as does a carry.
    let magnitude = (((last + p + to.bias - 1) as u64) << p) + kept;
    if magnitude >= to.infinity() {
        return sign | (to.infinity() - u64::from(towards_zero));
    }
    sign | magnitude
}

/// The value of the bits of a format; exact.
pub(super) fn widen(bits: u64, from: Format) -> f64 {
    let negative = bits & from.sign() != 0;
    let magnitude = bits & (from.sign() - 1);
    let fraction = magnitude & ((1 << from.fraction) - 1);
    let exponent = (magnitude >> from.fraction) as i32;
    let x = if exponent == 2 * from.bias + 1 {
        if fraction == 0 { f64::INFINITY } else { f64::NAN }
    } else {
        let (m, e) = if exponent == 0 { (fraction, 1) } else { (fraction | 1 << from.fraction, exponent) };
        m as f64 * power(e - from.bias - from.fraction as i32)
    };
    if negative { -x } else { x }
}

/// 2 to a power in the range of normal f64.
fn power(e: i32) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

/// The sum, rounded to odd: if it is not exact, its last bit is 1.
pub(super) fn add_to_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    // The exact error of the sum (Knuth, TwoSum).
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    let even = sum.to_bits() & 1 == 0;
    // The exact value lies between the sum and its neighbour on the side of the error; that one is odd.
    let away = (error > 0.0) == (sum > 0.0);
    let step = if away { 1 } else { u64::MAX };
    // No branches: lanes run as vectors.
    let moves = (error != 0.0) & even & sum.is_finite();
    f64::from_bits(sum.to_bits().wrapping_add(if moves { step } else { 0 }))
}

/// `fma.rn.f32`: the product is exact in f64.
pub(super) fn fma32(a: f32, b: f32, c: f32) -> f32 {
    add_to_odd(f64::from(a) * f64::from(b), f64::from(c)) as f32
}

/// An integer as f64, rounded to odd.
pub(super) fn integer_to_odd(magnitude: u64, negative: bool) -> f64 {
    let excess = 11_u32.saturating_sub(magnitude.leading_zeros());
    let kept = magnitude >> excess << excess;
    let odd = if kept == magnitude { kept } else { kept | 1 << excess };
    let x = odd as f64;
    if negative { -x } else { x }
}

/// The f32 of a register.
pub(super) fn f32_of(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

/// The register of an f32 result.
pub(super) fn from_f32(x: f32) -> u64 {
    u64::from(if x.is_nan() { NAN32 } else { x.to_bits() })
}

/// The register of an f64 result.
pub(super) fn from_f64(x: f64) -> u64 {
    if x.is_nan() { NAN64 } else { x.to_bits() }
}

/// `x`, or a zero of its sign if it is subnormal.
pub(super) fn flushed(x: f32) -> f32 {
    let kept = if x.to_bits() & 0x7f80_0000 == 0 { 1 << 31 } else { u32::MAX };
    f32::from_bits(x.to_bits() & kept)
}

/// The f32 of a register, flushed where `FLUSH` is set.
pub(super) fn input<const FLUSH: bool>(bits: u64) -> f32 {
    if FLUSH { flushed(f32_of(bits)) } else { f32_of(bits) }
}

/// The register of an f32 result, flushed where `FLUSH` is set.
pub(super) fn output<const FLUSH: bool>(x: f32) -> u64 {
    from_f32(if FLUSH { flushed(x) } else { x })
}

/// The lesser; the one that is not NaN; -0 is less than +0.
pub(super) fn minimum(a: f64, b: f64) -> f64 {
    if a.is_nan() || b < a || (a == b && b.is_sign_negative()) { b } else { a }
}

/// The greater; the one that is not NaN; -0 is less than +0.
pub(super) fn maximum(a: f64, b: f64) -> f64 {
    if a.is_nan() || b > a || (a == b && b.is_sign_positive()) { b } else { a }
}

/// As [`minimum`].
pub(super) fn minimum32(a: f32, b: f32) -> f32 {
    if a.is_nan() || b < a || (a == b && b.is_sign_negative()) { b } else { a }
}

/// As [`maximum`].
pub(super) fn maximum32(a: f32, b: f32) -> f32 {
    if a.is_nan() || b > a || (a == b && b.is_sign_positive()) { b } else { a }
}
