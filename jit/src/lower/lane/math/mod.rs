//! Elementary functions of one lane: `exp`, `tanh`, `erf_inv`, `threefry2x32` and the like, as lane instructions.
//!
//! In: a [`LaneProgram`] and operands in it. Out: the [`LaneId`] of the result, after the instructions that compute it.
//! Every function takes f32 and f64 lanes. Results are the same to the bit in every emitter: there are no tables or
//! gathers, no branches but around slow paths ([`Rare`]), and every contraction to `fma` is explicit. A function of f32
//! lanes uses 32-bit lanes only, except `lgamma`, `digamma` and the Bessel functions, which compute in f64.
//!
//! **Invariant:** NaN in, NaN out (but `pow(NaN, 0) = pow(1, NaN) = 1`); signed zeros and infinities as in C; denormal
//! f32 results are correct (the runtime flushes them to zero, as XLA does). The doc of each function gives the largest
//! error seen in units in the last place ("ulp"). For f32 that is over all floats or every third, but every 211th for
//! `rsqrt`, `erf_inv`, `lgamma`, `digamma` and random pairs for `pow` and `atan2`. f64 was tested at random points
//! only; where it is not mentioned, it was no worse. Not done here: derivatives (they are rules on the graph).
//!
//! The polynomials marked "our fit" come from a Remez exchange at 60 digits that minimises the relative error of the
//! function (not of the polynomial), holding the coefficients that must be exact. f32 coefficients were then rounded
//! one at a time from the lowest order up, refitting the rest after each; f64 ones were rounded at once.

mod basic;
mod bessel;
mod erf;
mod exp;
mod gamma;
mod log;
mod power;
mod random;
#[cfg(test)]
mod tests;
mod trig;

pub use basic::{is_finite, max_nan, min_nan, rem, sign};
pub use bessel::{bessel_i0e, bessel_i1e};
pub use erf::{erf, erf_inv, erfc};
pub use exp::{cosh, exp, exp2, expm1, sigmoid, sinh, softplus, tanh};
pub use gamma::{digamma, lgamma};
pub use log::{acosh, asinh, atanh, log, log1p};
pub use power::{cbrt, pow, powi, rsqrt};
pub use random::threefry2x32;
pub use trig::{acos, asin, atan, atan2, cos, sin, tan};

use super::{LaneBinary, LaneCompare, LaneConvert, LaneId, LaneProgram, LaneType, LaneUnary, Rare};

/// A builder of instructions in one float format: operands may be constants, integers have the width of the floats.
struct Math<'p> {
    p: &'p mut LaneProgram,
    wide: bool,
}

/// An operand of an instruction: a lane, or a constant of the format.
trait IntoLane {
    fn lane(self, m: &mut Math) -> LaneId;
}

impl IntoLane for LaneId {
    fn lane(self, _: &mut Math) -> LaneId {
        self
    }
}

/// The nearest constant of the format.
impl IntoLane for f64 {
    fn lane(self, m: &mut Math) -> LaneId {
        m.p.float(m.float_ty(), self)
    }
}

/// A constant with a value for each format.
#[derive(Clone, Copy)]
struct PerFormat(f32, f64);

impl PerFormat {
    /// Both values times a power of two.
    fn times(self, power: f64) -> PerFormat {
        PerFormat(self.0 * power as f32, self.1 * power)
    }
}

impl IntoLane for PerFormat {
    fn lane(self, m: &mut Math) -> LaneId {
        if m.wide { m.p.f64(self.1) } else { m.p.f32(self.0) }
    }
}

/// An integer of the width of the floats.
impl IntoLane for i64 {
    fn lane(self, m: &mut Math) -> LaneId {
        if m.wide { m.p.i64(self) } else { m.p.i32(self as i32) }
    }
}

impl<'p> Math<'p> {
    /// A builder in the format of `x`.
    fn of(p: &'p mut LaneProgram, x: LaneId) -> Self {
        let wide = match p.ty(x) {
            LaneType::F32 => false,
            LaneType::F64 => true,
            LaneType::I32 | LaneType::I64 | LaneType::Bool => panic!("a float function of {:?} lanes", p.ty(x)),
        };
        Math { p, wide }
    }

    fn float_ty(&self) -> LaneType {
        if self.wide { LaneType::F64 } else { LaneType::F32 }
    }

    /// The value of `x` if it is a constant.
    fn constant(&self, x: LaneId) -> Option<f64> {
        let bits = self.p.constant(x)?;
        Some(if self.wide { f64::from_bits(bits) } else { f32::from_bits(bits as u32) as f64 })
    }

    /// The number of stored bits of the significand.
    fn digits(&self) -> i64 {
        if self.wide { 52 } else { 23 }
    }

    /// The exponent bias.
    fn bias(&self) -> i64 {
        if self.wide { 1023 } else { 127 }
    }

    /// The number of bits of the format.
    fn width(&self) -> i64 {
        if self.wide { 64 } else { 32 }
    }

    /// The sign bit.
    fn sign_bit(&self) -> i64 {
        if self.wide { i64::MIN } else { i32::MIN as i64 }
    }

    /// The addend that rounds a float below 2^22 (2^51) to an integer, and leaves that integer plus `offset` in the low
    /// bits of the sum, where one unit in the last place is 1.
    fn rounder(&self, offset: i64) -> f64 {
        1.5 * 2f64.powi(self.digits() as i32) + offset as f64
    }

    /// `2^(n + k)` from the sum `t` of `n` and `rounder(bias + k)`: shifts the low bits to the exponent, which drops
    /// those of the rounder. It is 0 for `n + k = -bias` and infinity for `bias + 1`.
    fn power_of_two(&mut self, t: LaneId) -> LaneId {
        let bits = self.bits(t);
        let bits = self.shl(bits, self.digits());
        self.as_float(bits)
    }

    fn unary(&mut self, op: LaneUnary, x: impl IntoLane) -> LaneId {
        let x = x.lane(self);
        self.p.unary(op, x)
    }

    fn binary(&mut self, op: LaneBinary, x: impl IntoLane, y: impl IntoLane) -> LaneId {
        let (x, y) = (x.lane(self), y.lane(self));
        self.p.binary(op, x, y)
    }

    fn compare(&mut self, op: LaneCompare, x: impl IntoLane, y: impl IntoLane) -> LaneId {
        let (x, y) = (x.lane(self), y.lane(self));
        self.p.compare(op, x, y)
    }

    fn convert(&mut self, op: LaneConvert, x: LaneId) -> LaneId {
        self.p.convert(op, x)
    }

    fn add(&mut self, x: impl IntoLane, y: impl IntoLane) -> LaneId {
        self.binary(LaneBinary::Add, x, y)
    }

    fn sub(&mut self, x: impl IntoLane, y: impl IntoLane) -> LaneId {
        self.binary(LaneBinary::Sub, x, y)
    }

    fn mul(&mut self, x: impl IntoLane, y: impl IntoLane) -> LaneId {
        self.binary(LaneBinary::Mul, x, y)
    }

    fn div(&mut self, x: impl IntoLane, y: impl IntoLane) -> LaneId {
        self.binary(LaneBinary::Div, x, y)
    }

    fn fma(&mut self, x: impl IntoLane, y: impl IntoLane, z: impl IntoLane) -> LaneId {
        let (x, y, z) = (x.lane(self), y.lane(self), z.lane(self));
        self.p.fma(x, y, z)
    }

    fn abs(&mut self, x: impl IntoLane) -> LaneId {
        self.unary(LaneUnary::Abs, x)
    }

    fn sqrt(&mut self, x: impl IntoLane) -> LaneId {
        self.unary(LaneUnary::Sqrt, x)
    }

    fn trunc(&mut self, x: impl IntoLane) -> LaneId {
        self.unary(LaneUnary::Trunc, x)
    }

    /// `max(x, bound)`, or NaN if `x` is NaN: the instruction returns the second of an unordered pair.
    fn at_least(&mut self, x: LaneId, bound: impl IntoLane) -> LaneId {
        self.binary(LaneBinary::Max, bound, x)
    }

    /// `min(x, bound)`, or NaN if `x` is NaN.
    fn at_most(&mut self, x: LaneId, bound: impl IntoLane) -> LaneId {
        self.binary(LaneBinary::Min, bound, x)
    }

    fn lt(&mut self, x: impl IntoLane, y: impl IntoLane) -> LaneId {
        self.compare(LaneCompare::Lt, x, y)
    }

    fn eq(&mut self, x: impl IntoLane, y: impl IntoLane) -> LaneId {
        self.compare(LaneCompare::Eq, x, y)
    }

    fn select(&mut self, c: LaneId, x: impl IntoLane, y: impl IntoLane) -> LaneId {
        let (x, y) = (x.lane(self), y.lane(self));
        self.p.select(c, x, y)
    }

    fn bits(&mut self, x: LaneId) -> LaneId {
        let op = if self.wide { LaneConvert::F64Bits } else { LaneConvert::F32Bits };
        self.convert(op, x)
    }

    fn as_float(&mut self, x: LaneId) -> LaneId {
        let op = if self.wide { LaneConvert::F64FromBits } else { LaneConvert::F32FromBits };
        self.convert(op, x)
    }

    fn and(&mut self, x: impl IntoLane, y: impl IntoLane) -> LaneId {
        self.binary(LaneBinary::And, x, y)
    }

    fn or(&mut self, x: impl IntoLane, y: impl IntoLane) -> LaneId {
        self.binary(LaneBinary::Or, x, y)
    }

    fn xor(&mut self, x: impl IntoLane, y: impl IntoLane) -> LaneId {
        self.binary(LaneBinary::Xor, x, y)
    }

    fn shl(&mut self, x: LaneId, by: i64) -> LaneId {
        self.binary(LaneBinary::Shl, x, by)
    }

    /// `y` with the sign of `x`, where `y` is positive or has that sign.
    fn signed_as(&mut self, y: impl IntoLane, x: LaneId) -> LaneId {
        let y = y.lane(self);
        let bits = self.bits(x);
        let sign = self.and(bits, self.sign_bit());
        let bits = self.bits(y);
        let bits = self.or(bits, sign);
        self.as_float(bits)
    }

    /// The polynomial in `x` with these coefficients, highest order first, by Horner's rule.
    fn poly(&mut self, x: LaneId, single: &[f32], double: &[f64]) -> LaneId {
        let n = if self.wide { double.len() } else { single.len() };
        let c = |k: usize| PerFormat(single.get(k).copied().unwrap_or(0.0), double.get(k).copied().unwrap_or(0.0));
        let mut y = c(0).lane(self);
        for k in 1..n {
            y = self.fma(y, x, c(k));
        }
        y
    }
}

/// The coefficients of `a f(b x)` for those of `f(x)`, highest order first; exact if `a` and `b` are powers of two.
const fn rescaled_f32<const N: usize>(mut c: [f32; N], a: f32, b: f32) -> [f32; N] {
    let mut scale = a;
    let mut k = N;
    while k > 0 {
        k -= 1;
        c[k] *= scale;
        scale *= b;
    }
    c
}

/// [`rescaled_f32`] for f64.
const fn rescaled_f64<const N: usize>(mut c: [f64; N], a: f64, b: f64) -> [f64; N] {
    let mut scale = a;
    let mut k = N;
    while k > 0 {
        k -= 1;
        c[k] *= scale;
        scale *= b;
    }
    c
}
