//! Sign, maximum, minimum, remainder, finiteness test.

use super::{LaneBinary, LaneCompare, LaneId, LaneProgram, LaneUnary, Math, Rare};

/// -1, 0 or 1 with the sign of `x`; zeros and NaN are returned as they are. Exact.
pub fn sign(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let negative = m.lt(x, 0.0);
    let y = m.select(negative, -1.0, x);
    let positive = m.lt(0.0, x);
    m.select(positive, 1.0, y)
}

/// The larger operand; NaN if either is NaN; `max(-0, 0) = 0`. Exact. One instruction if an operand is a constant other
/// than `0`, two for `0`, six otherwise.
pub fn max_nan(p: &mut LaneProgram, x: LaneId, y: LaneId) -> LaneId {
    extremum(p, x, y, LaneBinary::Max)
}

/// The smaller operand; NaN if either is NaN; `min(0, -0) = -0`. Exact. The cost is that of [`max_nan`], with `-0` for
/// `0`.
pub fn min_nan(p: &mut LaneProgram, x: LaneId, y: LaneId) -> LaneId {
    extremum(p, x, y, LaneBinary::Min)
}

fn extremum(p: &mut LaneProgram, x: LaneId, y: LaneId, op: LaneBinary) -> LaneId {
    if x == y {
        return x;
    }
    let m = &mut Math::of(p, x);
    for (x, bound) in [(x, y), (y, x)] {
        // The instruction returns the second operand of an unordered pair and of two zeros. So it returns a NaN in `x`,
        // and a zero in `x`, which is wrong only if the bound is the zero of the other sign.
        let Some(value) = m.constant(bound) else { continue };
        let winning_zero = value == 0.0 && value.is_sign_negative() == (op == LaneBinary::Min);
        if !value.is_nan() && !winning_zero {
            return m.binary(op, bound, x);
        }
        if winning_zero && op == LaneBinary::Max {
            // -0 + 0 = 0; other results are not negative and do not change.
            let y = m.binary(op, bound, x);
            return m.add(y, 0.0);
        }
    }
    // Both operand orders agree except for zeros of different signs, whose `and` (`or`) is the positive (negative)
    // zero, and for an unordered pair, whose sum is NaN.
    let one = m.binary(op, x, y);
    let other = m.binary(op, y, x);
    let (a, b) = (m.bits(one), m.bits(other));
    let joined = if op == LaneBinary::Max { m.and(a, b) } else { m.or(a, b) };
    let joined = m.as_float(joined);
    let ordered = m.eq(one, other);
    let nan = m.add(one, other);
    m.select(ordered, joined, nan)
}

/// The remainder of `x / y` with the sign of `x`, as C's `fmod`. Exact; quotients beyond 2^46 (f64: 2^104) take the
/// slow path.
///
/// A quotient `q` rounded to nearest leaves a remainder `x - q y` that is a float, so that the `fma` is exact; what it
/// leaves is at most half a unit in the last place of `q` times `y`. So a second round reaches within `y` of zero.
pub fn rem(p: &mut LaneProgram, x: LaneId, y: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let mut r = x;
    for _ in 0..2 {
        let q = m.div(r, y);
        let q = m.trunc(q);
        let negated = m.unary(LaneUnary::Neg, q);
        r = m.fma(negated, y, r);
    }
    // A quotient that was rounded up leaves a remainder of the other sign.
    let (x_bits, r_bits) = (m.bits(x), m.bits(r));
    let differ = m.xor(x_bits, r_bits);
    let differ = m.compare(LaneCompare::Lt, differ, 0i64);
    let magnitude = m.abs(y);
    let size = m.abs(r);
    let reached = m.lt(size, magnitude);
    let step = m.signed_as(magnitude, x);
    let stepped = m.add(r, step);
    let zero = m.eq(r, 0.0);
    let r = m.select(differ, stepped, r);
    // A zero takes the sign of `x`.
    let signed_zero = m.signed_as(0.0, x);
    let r = m.select(zero, signed_zero, r);
    let missed = m.unary(LaneUnary::Not, reached);
    let r = m.p.rare(Rare::Rem, missed, x, y, r);
    // x mod infinity is x, but NaN where x is infinite: there, x - x is NaN.
    let infinite = m.eq(magnitude, f64::INFINITY);
    let whole = m.sub(x, x);
    let whole = m.sub(x, whole);
    m.select(infinite, whole, r)
}

/// Whether `x` is neither infinite nor NaN.
pub fn is_finite(p: &mut LaneProgram, x: LaneId) -> LaneId {
    let m = &mut Math::of(p, x);
    let x = m.abs(x);
    m.lt(x, f64::INFINITY)
}
