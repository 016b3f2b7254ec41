//! Integers: counts of bits, divisors, powers. Bits of floats: signs, exponents, neighbours.
//!
//! Definitions are those of `jax.lax` and `jax.numpy`.

use std::panic::Location;

use crate::error::Error;
use crate::front::loops::while_loop;
use crate::front::operand::{Operand, promote_numbers, promote_types, reject};
use crate::front::tensor::Tensor;
use crate::types::DType;
use crate::types::scalar::FloatFormat;

// ---- integers

/// A pattern of bits, as a number of `dtype`.
fn pattern(dtype: DType, bits: u64) -> Tensor {
    Tensor::literal(bits & dtype.ones(), dtype)
}

impl Tensor {
    /// The number of bits that are 1, of integers, in their type: `jax.lax.population_count`.
    ///
    /// # Errors
    /// The result stands for an error for other types.
    #[track_caller]
    pub fn population_count(&self) -> Self {
        let dtype = self.dtype();
        if !dtype.is_int() {
            let why = format!("takes integers, not {}", self.ty());
            return self.reject("population_count", why, Location::caller());
        }
        let masked = |x: &Tensor, by: u32, mask: u64| x.shift_right_logical(by).and(pattern(dtype, mask));
        // The counts of pairs of bits, of groups of 4 and of bytes; then of all bytes, in the top one.
        let pairs = self - masked(self, 1, 0x5555_5555_5555_5555);
        let fours = masked(&pairs, 0, 0x3333_3333_3333_3333) + masked(&pairs, 2, 0x3333_3333_3333_3333);
        let bytes = masked(&(&fours + fours.shift_right_logical(4)), 0, 0x0f0f_0f0f_0f0f_0f0f);
        (bytes * pattern(dtype, 0x0101_0101_0101_0101)).shift_right_logical(dtype.width() - 8)
    }

    /// The number of bits that are 0 above the highest that is 1, of integers, in their type: `jax.lax.clz`.
    ///
    /// # Errors
    /// The result stands for an error for other types.
    #[track_caller]
    pub fn clz(&self) -> Self {
        let width = self.dtype().width();
        if !self.dtype().is_int() {
            return self.reject("clz", format!("takes integers, not {}", self.ty()), Location::caller());
        }
        // All bits below the highest become 1.
        let shifts = (0..).map(|i| 1u32 << i).take_while(|&by| by < width);
        let filled = shifts.fold(self.clone(), |x, by| x.or(x.shift_right_logical(by)));
        filled.bitwise_not().population_count()
    }

    /// `x^n` of integers, which wraps: `jax.numpy.power`. For a negative `n`, what JAX's loop over its bits gives.
    #[track_caller]
    pub(in crate::front) fn power_of_ints(&self, n: &Tensor) -> Self {
        let zero = n.zeros_like();
        let step = |(power, base, n): (Tensor, Tensor, Tensor)| {
            let is_odd = n.and(1).not_equal(0);
            (is_odd.select(&power * &base, &power), &base * &base, n.shift_right_logical(1))
        };
        let init = (self.ones_like(), self.clone(), n.clone());
        while_loop(|(_, _, n)| n.not_equal(&zero).any(), step, init).0
    }
}

/// The greatest common divisor of integers, not negative; of 0 and 0 it is 0: `jax.numpy.gcd`.
///
/// # Errors
/// The result stands for an error for other types.
#[track_caller]
pub fn gcd(x: &Tensor, y: &Tensor) -> Tensor {
    let (x, y) = promote_numbers("gcd", x.operand(), y.operand());
    if !x.dtype().is_int() {
        let why = format!("takes integers, not {} and {}", x.ty(), y.ty());
        return reject(&[&x, &y], Error::op("gcd", why, Location::caller()));
    }
    let magnitude = |x: &Tensor| if x.dtype().is_signed_int() { x.abs() } else { x.clone() };
    let step = |(x, y): (Tensor, Tensor)| {
        let is_done = y.equal(0);
        (is_done.select(&x, &y), is_done.select(&y, &x % is_done.select(1, &y)))
    };
    while_loop(|(_, y)| y.not_equal(0).any(), step, (magnitude(&x), magnitude(&y))).0
}

/// The least common multiple of integers, not negative; of 0 it is 0: `jax.numpy.lcm`.
///
/// # Errors
/// As [`gcd`].
#[track_caller]
pub fn lcm(x: &Tensor, y: &Tensor) -> Tensor {
    let (x, y) = promote_numbers("lcm", x.operand(), y.operand());
    let divisor = gcd(&x, &y);
    let product = &x * (&y / divisor.equal(0).select(1, &divisor));
    if product.dtype().is_signed_int() { product.abs() } else { product }
}

// ---- floats

/// A float's format and its bits, as signed integers.
fn float_bits(x: &Tensor) -> Option<(FloatFormat, Tensor)> {
    let format = x.dtype().float()?;
    Some((format, x.bitcast(x.dtype().int_of_size(true))))
}

/// The power of two of an i32 between the least and the greatest exponent of normal numbers.
fn power_of_two(format: FloatFormat, dtype: DType, exponent: &Tensor) -> Tensor {
    let places = (exponent + format.bias()).convert(dtype.int_of_size(true));
    places.shift_left(format.fraction).bitcast(dtype)
}

impl Tensor {
    /// Whether the sign bit is set; of integers, whether they are negative: `jax.numpy.signbit`.
    #[track_caller]
    pub fn signbit(&self) -> Self {
        match float_bits(self) {
            Some((_, bits)) => bits.less(0),
            None if self.dtype() == DType::Bool => Tensor::full(self.shape(), false, DType::Bool),
            None => self.less(0),
        }
    }

    /// The magnitude of this with the sign of `sign`: `jax.numpy.copysign`. Integers are converted to floats.
    #[track_caller]
    pub fn copysign(&self, sign: impl Operand) -> Self {
        let (x, sign) = promote_types(self.inexact().operand(), sign.operand());
        let magnitude = x.abs();
        sign.signbit().select(-&magnitude, &magnitude)
    }

    /// Mantissas in 0.5..1, with the sign of the number, and exponents, i32, of `mantissa * 2^exponent`:
    /// `jax.numpy.frexp`. Of 0, infinities and NaN: themselves, and 0.
    #[track_caller]
    pub fn frexp(&self) -> [Self; 2] {
        let x = self.inexact();
        let Some((format, bits)) = float_bits(&x) else { return [x.clone(), x] };
        let ints = bits.dtype();
        let ones = (1u64 << format.exponent) - 1;
        let exponent = bits.shift_right_logical(format.fraction).and(pattern(ints, ones)).convert(DType::I32);
        let of_half = pattern(ints, (format.bias() as u64 - 1) << format.fraction);
        let mantissa = bits.and(pattern(ints, !(ones << format.fraction))).or(of_half).bitcast(x.dtype());
        let has_none = x.equal(0.0).or(x.is_finite().logical_not());
        [has_none.select(&x, mantissa), has_none.select(0, exponent - (format.bias() - 1))]
    }

    /// `x * 2^exponent`, for integer exponents: `jax.numpy.ldexp`.
    ///
    /// # Errors
    /// The result stands for an error if the exponents are no integers.
    #[track_caller]
    pub fn ldexp(&self, exponent: impl Operand) -> Self {
        let (x, exponent) = (self.inexact(), exponent.operand().into_tensor(DType::I32));
        let Some(format) = x.dtype().float().filter(|_| exponent.dtype().is_int()) else {
            let why = format!("takes integer exponents, not {}", exponent.ty());
            return reject(&[self, &exponent], Error::op("ldexp", why, Location::caller()));
        };
        // In three steps, each by a normal power of two: a finite number needs no more.
        let most = format.bias();
        let mut rest = exponent.clip(-3 * most, 3 * most).convert(DType::I32);
        let mut result = x;
        for _ in 0..3 {
            let step = rest.clip(1 - most, most);
            result = &result * power_of_two(format, result.dtype(), &step);
            rest = rest - step;
        }
        result
    }

    /// The fraction and the integer part, both with the sign of the number: `jax.numpy.modf`.
    #[track_caller]
    pub fn modf(&self) -> [Self; 2] {
        let x = self.inexact();
        let whole = x.trunc();
        [&x - &whole, whole]
    }

    /// The float next to this one in the direction of `towards`: `jax.numpy.nextafter`. Programs take the numbers next
    /// to 0, which are subnormal, for 0.
    #[track_caller]
    pub fn nextafter(&self, towards: impl Operand) -> Self {
        let (x, y) = promote_types(self.inexact().operand(), towards.operand());
        let Some((_, bits)) = float_bits(&x) else { return x };
        let outwards = x.less(&y).equal(x.greater(0.0));
        let next = outwards.select(&bits + 1, &bits - 1).bitcast(x.dtype());
        let least = Tensor::literal(1, bits.dtype()).bitcast(x.dtype());
        let from_zero = y.less(0.0).select(-&least, &least);
        let moved = x.equal(0.0).select(from_zero, next);
        let is_nan = x.not_equal(&x).or(y.not_equal(&y));
        is_nan.select(&x + &y, x.equal(&y).select(&y, moved))
    }

    /// 0 below 0, 1 above 0, and `at_zero` at 0: `jax.numpy.heaviside`.
    #[track_caller]
    pub fn heaviside(&self, at_zero: impl Operand) -> Self {
        let (x, at_zero) = promote_types(self.inexact().operand(), at_zero.operand());
        x.less(0).select(0, x.greater(0).select(1, x.isnan().select(&x, at_zero)))
    }

    /// Floats rounded to those of a format with so many bits of exponent and of mantissa, in their type:
    /// `jax.lax.reduce_precision`. What is too large becomes infinite, what is below the normal numbers 0.
    ///
    /// # Errors
    /// The result stands for an error for other types, and for a format without an exponent.
    #[track_caller]
    pub fn reduce_precision(&self, exponent_bits: u32, mantissa_bits: u32) -> Self {
        let Some((format, bits)) = float_bits(self).filter(|_| exponent_bits > 0) else {
            let why = format!("takes floats and an exponent of some bits, not {} and {exponent_bits}", self.ty());
            return self.reject("reduce_precision", why, Location::caller());
        };
        let ints = bits.dtype();
        let cut = format.fraction.saturating_sub(mantissa_bits);
        let mut rounded = bits;
        if cut > 0 {
            // To nearest, ties to even.
            let odd = rounded.shift_right_logical(cut).and(1);
            rounded = (rounded + pattern(ints, (1 << (cut - 1)) - 1) + odd).and(pattern(ints, !((1 << cut) - 1)));
        }
        let mut result = rounded.bitcast(self.dtype());
        if exponent_bits < format.exponent {
            let bias = (1i32 << (exponent_bits - 1)) - 1;
            let (beyond, least) = (2f64.powi(bias + 1), 2f64.powi(1 - bias));
            let magnitude = result.abs();
            let infinity = Tensor::literal(f64::INFINITY, self.dtype()).copysign(self);
            let zero = self.zeros_like().copysign(self);
            result = magnitude.greater_equal(beyond).select(infinity, magnitude.less(least).select(zero, &result));
        }
        self.not_equal(self).select(self, result)
    }
}
