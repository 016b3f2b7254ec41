//! Sines, cosines and tangents of large arguments.
//!
//! In: an argument of any size. Out: the result of `libm`, which the other back ends call: the argument is reduced to
//! `n π/2 + r` with `|r| ≤ π/4`, and the polynomials of FreeBSD's msun (k_sin.c, k_cos.c, k_tan.c) are evaluated in the
//! order of their sources. The reduction is that of Payne and Hanek ("Radian reduction for trigonometric functions",
//! 1983) in integers: the mantissa times those 192 bits of 2/π that count modulo 4.

use super::code::Code;
use crate::lower::lane::{LaneType, Rare};
use crate::ptx::inst::{BinaryOp, Cmp, InstOp, Operand, Reg, RegClass, Rounding, Type, UnaryOp};

/// The bits of 2/π behind the point.
const TWO_OVER_PI: [u64; 20] = [
    0xa2f9836e4e441529,
    0xfc2757d1f534ddc0,
    0xdb6295993c439041,
    0xfe5163abdebbc561,
    0xb7246e3a424dd2e0,
    0x06492eea09d1921c,
    0xfe1deb1cb129a73e,
    0xe88235f52ebb4484,
    0xe99c7026b45f7e41,
    0x3991d639835339f4,
    0x9c845f8bbdf9283b,
    0x1ff897ffde05980f,
    0xef2f118b5a0a6d1f,
    0x6d367ecf27cb09b7,
    0x4f463f669e5fea2d,
    0x7527bac7ebe5f17b,
    0x3d0739f78a5292ea,
    0x6bfb5fb11f8d5d08,
    0x56033046fc7b6bab,
    0xf0cfbc209af4361d,
];

/// π/2 times 2¹²⁷.
const FRAC_PI_2: [u64; 2] = [0xc90fdaa22168c234, 0xc4c6628b80dc1cd1];

const SIN: [f64; 6] = [
    -1.66666666666666324348e-01,
    8.33333333332248946124e-03,
    -1.98412698298579493134e-04,
    2.75573137070700676789e-06,
    -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
];
const COS: [f64; 6] = [
    4.16666666666666019037e-02,
    -1.38888888888741095749e-03,
    2.48015872894767294178e-05,
    -2.75573143513906633035e-07,
    2.08757232129817482790e-09,
    -1.13596475577881948265e-11,
];
const TAN: [f64; 13] = [
    3.33333333333334091986e-01,
    1.33333333333201242699e-01,
    5.39682539762260521377e-02,
    2.18694882948595424599e-02,
    8.86323982359930005737e-03,
    3.59207910759131235356e-03,
    1.45620945432529025516e-03,
    5.88041240820264096874e-04,
    2.46463134818469906812e-04,
    7.81794442939557092300e-05,
    7.14072491382608190305e-05,
    -1.85586374855275456654e-05,
    2.59073051863633712884e-05,
];

/// π/4 in two parts, and where the tangent is that of the difference to it.
const FRAC_PI_4: [f64; 2] = [7.85398163397448278999e-01, 3.06161699786838301793e-17];
const TAN_IS_BIG: u64 = 0x3fe5_9428 << 32;

/// The sine, cosine or tangent of `x`; `x` is at least 2¹³ or so, infinite or NaN.
pub(super) fn emit(code: &mut Code, function: Rare, ty: LaneType, x: Reg) -> Reg {
    let wide = if ty == LaneType::F32 { code.cvt(Type::F64, Type::F32, Rounding::None, x) } else { x };
    let x_bits = bits_of(code, wide);
    let magnitude = code.binary(BinaryOp::And, Type::B64, x_bits, Operand::Imm(u64::MAX >> 1));
    let words = if ty == LaneType::F32 { 6 } else { TWO_OVER_PI.len() };
    let Reduced { n, high, low } = reduce(code, magnitude, words);
    let mut e = Expressions { code };
    let value = match function {
        Rare::Sin | Rare::Cos => {
            let (sine, cosine) = (e.sin(high, low), e.cos(high, low));
            // sin(n π/2 + r) is sin r, cos r, -sin r, -cos r; the cosine is one step ahead.
            let n = if function == Rare::Cos { e.code.binary(BinaryOp::Add, Type::S64, n, Operand::Imm(1)) } else { n };
            let odd = e.code.binary(BinaryOp::And, Type::B64, n, Operand::Imm(1));
            let is_odd = e.code.setp(Cmp::Ne, Type::U64, odd, Operand::Imm(0));
            let value = e.code.selp(Type::F64, cosine, sine, is_odd);
            let second = e.code.binary(BinaryOp::And, Type::B64, n, Operand::Imm(2));
            let sign = e.code.binary(BinaryOp::Shl, Type::B64, second, 62);
            e.with_sign(value, sign)
        }
        _ => {
            let odd = e.code.binary(BinaryOp::And, Type::B64, n, Operand::Imm(1));
            let is_odd = e.code.setp(Cmp::Ne, Type::U64, odd, Operand::Imm(0));
            e.tan(high, low, is_odd)
        }
    };
    // Sine and tangent are odd.
    let value = if function == Rare::Cos {
        value
    } else {
        let sign = e.code.binary(BinaryOp::And, Type::B64, x_bits, Operand::Imm(1 << 63));
        e.with_sign(value, sign)
    };
    let infinite = e.code.setp(Cmp::Ge, Type::U64, magnitude, Operand::Imm(0x7ff << 52));
    let value = e.code.selp(Type::F64, Operand::Imm(f64::NAN.to_bits()), value, infinite);
    if ty == LaneType::F32 { code.cvt(Type::F32, Type::F64, Rounding::Rn, value) } else { value }
}

/// An argument as `n π/2 + high + low`, `n` modulo 4.
struct Reduced {
    n: Reg,
    high: Reg,
    low: Reg,
}

/// Reduces the float with these bits, which is at least 1; `words` words of 2/π reach for it.
fn reduce(code: &mut Code, magnitude: Reg, words: usize) -> Reduced {
    let and = |code: &mut Code, x: Reg, mask: u64| code.binary(BinaryOp::And, Type::B64, x, Operand::Imm(mask));
    let exponent = code.binary(BinaryOp::Shr, Type::U64, magnitude, 52);
    let exponent = code.cvt(Type::U32, Type::U64, Rounding::None, exponent);
    let mantissa = and(code, magnitude, (1 << 52) - 1);
    let mantissa = code.binary(BinaryOp::Or, Type::B64, mantissa, Operand::Imm(1 << 52));
    // x is mantissa · 2^(exponent - 1075). With a word of zeros before 2/π, the bits that count begin at bit
    // exponent - 1075 - 2 + 64: those before give multiples of 4 quarter turns.
    let first = code.binary(BinaryOp::Sub, Type::S32, exponent, 1075 - 62);
    let first = code.binary(BinaryOp::Max, Type::S32, first, 0);
    let word = code.binary(BinaryOp::Shr, Type::U32, first, 6);
    let shift = code.binary(BinaryOp::And, Type::B32, first, 63);
    let back = code.binary(BinaryOp::Sub, Type::U32, 64, shift);
    let table: Vec<u64> = std::iter::once(0).chain(TWO_OVER_PI).take(words).collect();
    let [a, b, c, d] = [0, 1, 2, 3].map(|n| {
        let mut value = code.mov(Type::U64, Operand::Imm(table[n]));
        for (i, &entry) in table.iter().enumerate().skip(n + 1) {
            let is_this = code.setp(Cmp::Eq, Type::U32, word, (i - n) as u32);
            value = code.selp(Type::B64, Operand::Imm(entry), value, is_this);
        }
        value
    });
    let [high, middle, low] = [(a, b), (b, c), (c, d)].map(|(x, y)| {
        let x = code.binary(BinaryOp::Shl, Type::B64, x, shift);
        let y = code.binary(BinaryOp::Shr, Type::U64, y, back);
        code.binary(BinaryOp::Or, Type::B64, x, y)
    });
    // The low 192 bits of the product.
    let lows = [high, middle, low].map(|x| code.binary(BinaryOp::Mul, Type::U64, mantissa, x));
    let highs = [middle, low].map(|x| code.binary(BinaryOp::MulHi, Type::U64, mantissa, x));
    let r2 = lows[2];
    let r1 = code.binary(BinaryOp::Add, Type::U64, lows[1], highs[1]);
    let carry = code.setp(Cmp::Lt, Type::U64, r1, lows[1]);
    let carry = code.selp(Type::B64, Operand::Imm(1), Operand::Imm(0), carry);
    let r0 = code.binary(BinaryOp::Add, Type::U64, lows[0], highs[0]);
    let r0 = code.binary(BinaryOp::Add, Type::U64, r0, carry);
    // Two bits of quarter turns, the rest a fraction of one; to the nearest quarter turn.
    let n = code.binary(BinaryOp::Shr, Type::U64, r0, 62);
    let half = code.binary(BinaryOp::Shr, Type::U64, r0, 61);
    let half = and(code, half, 1);
    let n = code.binary(BinaryOp::Add, Type::U64, n, half);
    let is_negative = code.setp(Cmp::Ne, Type::U64, half, Operand::Imm(0));
    let funnel = |code: &mut Code, x: Reg, y: Reg| {
        let x = code.binary(BinaryOp::Shl, Type::B64, x, 2);
        let y = code.binary(BinaryOp::Shr, Type::U64, y, 62);
        code.binary(BinaryOp::Or, Type::B64, x, y)
    };
    let (f0, f1) = (funnel(code, r0, r1), funnel(code, r1, r2));
    let f2 = code.binary(BinaryOp::Shl, Type::B64, r2, 2);
    // The magnitude of a negative fraction; one in the last of so many bits does not matter.
    let magnitude = [f0, f1, f2].map(|x| {
        let flipped = code.unary(UnaryOp::Not, Type::B64, x);
        code.selp(Type::B64, flipped, x, is_negative)
    });
    // Shifted up to have its leading bit in the first word; a fraction is at least 2⁻⁶⁴ or so.
    let zeros = code.unary(UnaryOp::Clz, Type::B64, magnitude[0]);
    let zeros = code.binary(BinaryOp::Min, Type::U32, zeros, 63);
    let back = code.binary(BinaryOp::Sub, Type::U32, 64, zeros);
    let [a0, a1] = [0, 1].map(|i| {
        let x = code.binary(BinaryOp::Shl, Type::B64, magnitude[i], zeros);
        let y = code.binary(BinaryOp::Shr, Type::U64, magnitude[i + 1], back);
        code.binary(BinaryOp::Or, Type::B64, x, y)
    });
    // Times π/2, 128 bits of it.
    let [c0, c1] = FRAC_PI_2.map(Operand::Imm);
    let high = code.binary(BinaryOp::MulHi, Type::U64, a0, c0);
    let mut low = code.binary(BinaryOp::Mul, Type::U64, a0, c0);
    let mut carries = high;
    for (x, c) in [(a0, c1), (a1, c0)] {
        let more = code.binary(BinaryOp::MulHi, Type::U64, x, c);
        let sum = code.binary(BinaryOp::Add, Type::U64, low, more);
        let carry = code.setp(Cmp::Lt, Type::U64, sum, more);
        let carry = code.selp(Type::B64, Operand::Imm(1), Operand::Imm(0), carry);
        carries = code.binary(BinaryOp::Add, Type::U64, carries, carry);
        low = sum;
    }
    let word = carries;
    let mut e = Expressions { code };
    // The nearest float of the first word, and the rest.
    let first = e.cvt(Type::U64, word, Rounding::Rn);
    let whole = e.code.reg(RegClass::B64);
    e.code.push(InstOp::Cvt {
        to: Type::U64,
        from: Type::F64,
        rounding: Rounding::Rzi,
        flush: false,
        d: whole,
        a: first,
    });
    let rest = e.code.binary(BinaryOp::Sub, Type::S64, word, whole);
    let rest = e.cvt(Type::S64, rest, Rounding::Rn);
    let last = e.cvt(Type::U64, low, Rounding::Rn);
    let last = e.mul(last, 2f64.powi(-64));
    let second = e.add(rest, last);
    // The words are 2^(1 - 64) of the fraction's unit, which the shift has moved. 2^-k has the exponent 1023 - k.
    let exponent = e.code.binary(BinaryOp::Sub, Type::S32, 1023 - 63, zeros);
    let exponent = e.code.cvt(Type::U64, Type::U32, Rounding::None, exponent);
    let scale = e.code.binary(BinaryOp::Shl, Type::B64, exponent, 52);
    let scale = float_of(e.code, scale);
    let sign = e.code.selp(Type::B64, Operand::Imm(1 << 63), Operand::Imm(0), is_negative);
    let [high, low] = [first, second].map(|x| {
        let x = e.mul(x, scale);
        e.with_sign(x, sign)
    });
    Reduced { n, high, low }
}

fn bits_of(code: &mut Code, x: Reg) -> Reg {
    let d = code.reg(RegClass::B64);
    code.push(InstOp::Mov { ty: Type::B64, d, a: x.into() });
    d
}

fn float_of(code: &mut Code, x: Reg) -> Reg {
    let d = code.reg(RegClass::F64);
    code.push(InstOp::Mov { ty: Type::B64, d, a: x.into() });
    d
}

/// An operand of an expression of f64.
#[derive(Clone, Copy)]
struct Term(Operand);

impl From<Reg> for Term {
    fn from(x: Reg) -> Self {
        Term(x.into())
    }
}

impl From<f64> for Term {
    fn from(x: f64) -> Self {
        Term(Operand::Imm(x.to_bits()))
    }
}

/// Expressions of f64.
struct Expressions<'a> {
    code: &'a mut Code,
}

impl Expressions<'_> {
    fn binary(&mut self, op: BinaryOp, x: impl Into<Term>, y: impl Into<Term>) -> Reg {
        self.code.binary(op, Type::F64, x.into().0, y.into().0)
    }

    fn add(&mut self, x: impl Into<Term>, y: impl Into<Term>) -> Reg {
        self.binary(BinaryOp::Add, x, y)
    }

    fn sub(&mut self, x: impl Into<Term>, y: impl Into<Term>) -> Reg {
        self.binary(BinaryOp::Sub, x, y)
    }

    fn mul(&mut self, x: impl Into<Term>, y: impl Into<Term>) -> Reg {
        self.binary(BinaryOp::Mul, x, y)
    }

    fn div(&mut self, x: impl Into<Term>, y: impl Into<Term>) -> Reg {
        self.binary(BinaryOp::Div, x, y)
    }

    fn cvt(&mut self, from: Type, x: Reg, rounding: Rounding) -> Reg {
        self.code.cvt(Type::F64, from, rounding, x)
    }

    /// `x` with its sign flipped where the top bit of `sign` is set.
    fn with_sign(&mut self, x: Reg, sign: Reg) -> Reg {
        let bits = bits_of(self.code, x);
        let bits = self.code.binary(BinaryOp::Xor, Type::B64, bits, sign);
        float_of(self.code, bits)
    }

    /// `c[0] + x (c[1] + x (c[2] + …))`.
    fn horner(&mut self, x: Reg, c: &[f64]) -> Reg {
        let (last, rest) = c.split_last().expect("a polynomial has coefficients");
        let mut sum = Term::from(*last);
        for &c in rest.iter().rev() {
            let product = self.mul(x, sum);
            sum = self.add(c, product).into();
        }
        self.code.in_register(Type::F64, sum.0)
    }

    fn sin(&mut self, x: Reg, y: Reg) -> Reg {
        let z = self.mul(x, x);
        let w = self.mul(z, z);
        let (first, second) = (self.horner(z, &SIN[1..4]), self.horner(z, &SIN[4..6]));
        let zw = self.mul(z, w);
        let second = self.mul(zw, second);
        let r = self.add(first, second);
        let v = self.mul(z, x);
        let half = self.mul(0.5, y);
        let vr = self.mul(v, r);
        let inner = self.sub(half, vr);
        let inner = self.mul(z, inner);
        let inner = self.sub(inner, y);
        let cubic = self.mul(v, SIN[0]);
        let rest = self.sub(inner, cubic);
        self.sub(x, rest)
    }

    fn cos(&mut self, x: Reg, y: Reg) -> Reg {
        let z = self.mul(x, x);
        let w = self.mul(z, z);
        let (first, second) = (self.horner(z, &COS[..3]), self.horner(z, &COS[3..]));
        let first = self.mul(z, first);
        let ww = self.mul(w, w);
        let second = self.mul(ww, second);
        let r = self.add(first, second);
        let half = self.mul(0.5, z);
        let w = self.sub(1.0, half);
        let lost = self.sub(1.0, w);
        let lost = self.sub(lost, half);
        let zr = self.mul(z, r);
        let xy = self.mul(x, y);
        let rest = self.sub(zr, xy);
        let rest = self.add(lost, rest);
        self.add(w, rest)
    }

    /// The tangent of `x + y`, or its negative reciprocal where `is_odd`.
    fn tan(&mut self, x: Reg, y: Reg, is_odd: Reg) -> Reg {
        let bits = bits_of(self.code, x);
        let sign = self.code.binary(BinaryOp::And, Type::B64, bits, Operand::Imm(1 << 63));
        let magnitude = self.code.binary(BinaryOp::And, Type::B64, bits, Operand::Imm(0x7fff_ffff << 32));
        let is_big = self.code.setp(Cmp::Ge, Type::U64, magnitude, Operand::Imm(TAN_IS_BIG));
        let (positive, low) = (self.with_sign(x, sign), self.with_sign(y, sign));
        let (first, second) = (self.sub(FRAC_PI_4[0], positive), self.sub(FRAC_PI_4[1], low));
        let mirrored = self.add(first, second);
        let x = self.code.selp(Type::F64, mirrored, x, is_big);
        let y = self.code.selp(Type::F64, Operand::Imm(0), y, is_big);

        let z = self.mul(x, x);
        let w = self.mul(z, z);
        let every_other = |from: usize| -> Vec<f64> { TAN[from..].iter().step_by(2).copied().collect() };
        let r = self.horner(w, &every_other(1));
        let v = self.horner(w, &every_other(2));
        let v = self.mul(z, v);
        let s = self.mul(z, x);
        let sum = self.add(r, v);
        let sum = self.mul(s, sum);
        let sum = self.add(sum, y);
        let sum = self.mul(z, sum);
        let first = self.add(y, sum);
        let cubic = self.mul(s, TAN[0]);
        let r = self.add(first, cubic);
        let w = self.add(x, r);

        // Near π/4, from the tangent of the difference to it.
        let s = self.code.selp(Type::F64, Operand::Imm((-1f64).to_bits()), Operand::Imm(1f64.to_bits()), is_odd);
        let square = self.mul(w, w);
        let ws = self.add(w, s);
        let quotient = self.div(square, ws);
        let inner = self.sub(r, quotient);
        let inner = self.add(x, inner);
        let twice = self.mul(2.0, inner);
        let near = self.sub(s, twice);
        let near = self.with_sign(near, sign);

        // -1/w, whose error is made up for.
        let zero_low = |e: &mut Self, x: Reg| {
            let bits = bits_of(e.code, x);
            let bits = e.code.binary(BinaryOp::And, Type::B64, bits, Operand::Imm(u64::MAX << 32));
            float_of(e.code, bits)
        };
        let w0 = zero_low(self, w);
        let difference = self.sub(w0, x);
        let v = self.sub(r, difference);
        let a = self.div(-1.0, w);
        let a0 = zero_low(self, a);
        let (product, rest) = (self.mul(a0, w0), self.mul(a0, v));
        let sum = self.add(1.0, product);
        let sum = self.add(sum, rest);
        let sum = self.mul(a, sum);
        let reciprocal = self.add(a0, sum);
        let far = self.code.selp(Type::F64, reciprocal, w, is_odd);
        self.code.selp(Type::F64, near, far, is_big)
    }
}
