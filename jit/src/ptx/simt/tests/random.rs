//! Random programs, straight and with branches and loops, against the evaluation of one thread at a time.

use super::super::float::{self, fma32, narrow, widen};
use super::*;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, n: u32) -> u32 {
        (self.next() % u64::from(n)) as u32
    }

    /// Bits that are often an edge.
    fn bits(&mut self) -> u32 {
        const EDGES: [u32; 12] = [
            0,
            1,
            0x8000_0000,
            0xffff_ffff,
            0x7fff_ffff,
            0x7f80_0000,
            0xff80_0000,
            0x0080_0000,
            0x0000_0001,
            0x8000_0001,
            0x3f80_0000,
            0x7fc0_0000,
        ];
        if self.below(3) == 0 {
            EDGES[self.below(12) as usize]
        } else {
            self.next() as u32 ^ (self.next() as u32) << 16
        }
    }
}

const N: u32 = 8;

/// The program as a function of the values of `r0..r8` and `f0..f8`.
enum Step {
    Integer(BinaryOp, bool, u32, u32, u32),
    Float(BinaryOp, bool, u32, u32, u32),
    Fma(bool, u32, u32, u32, u32),
    ToFloat(u32, u32),
    ToInteger(u32, u32),
    Select(Cmp, u32, u32, u32),
}

fn draw(random: &mut Random) -> Step {
    let integers =
        [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::MulHi, BinaryOp::Min, BinaryOp::Max, BinaryOp::Shr];
    let floats = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Div, BinaryOp::Min, BinaryOp::Max];
    let cmps = [Cmp::Lt, Cmp::Geu, Cmp::Eq, Cmp::Neu];
    let (d, a, b) = (random.below(N), random.below(N), random.below(N));
    match random.below(6) {
        0 => Step::Integer(integers[random.below(7) as usize], random.below(2) == 0, d, a, b),
        1 => Step::Float(floats[random.below(6) as usize], random.below(2) == 0, d, a, b),
        2 => Step::Fma(random.below(2) == 0, d, a, b, random.below(N)),
        3 => Step::ToFloat(d, a),
        4 => Step::ToInteger(d, a),
        _ => Step::Select(cmps[random.below(4) as usize], d, a, b),
    }
}

fn emit(k: &mut Kernel, step: &Step) {
    match *step {
        Step::Integer(op, signed, d, a, b) => {
            let ty = if signed { Type::S32 } else { Type::U32 };
            k.op(binary(op, ty, r(d), r(a), r(b)));
        }
        Step::Float(op, flush, d, a, b) => {
            k.op(InstOp::Binary { op, ty: Type::F32, flush, d: f(d), a: f(a).into(), b: f(b).into() });
        }
        Step::Fma(flush, d, a, b, c) => {
            let (a, b, c) = (f(a).into(), f(b).into(), f(c).into());
            k.op(InstOp::Ternary { op: TernaryOp::Fma, ty: Type::F32, flush, d: f(d), a, b, c });
        }
        Step::ToFloat(d, a) => {
            k.op(mov(Type::B32, f(d), r(a)));
        }
        Step::ToInteger(d, a) => {
            let (to, from, rounding) = (Type::S32, Type::F32, Rounding::Rzi);
            k.op(InstOp::Cvt { to, from, rounding, flush: false, d: r(d), a: f(a) });
        }
        Step::Select(cmp, d, a, b) => {
            k.op(setp(cmp, Type::F32, p(0), f(a), f(b)));
            k.op(InstOp::Selp { ty: Type::F32, d: f(d), a: f(a).into(), b: f(b).into(), p: p(0) });
        }
    }
}

fn flush(on: bool, x: f32) -> f32 {
    if on && x.abs() < f32::MIN_POSITIVE { if x.is_sign_negative() { -0.0 } else { 0.0 } } else { x }
}

fn canonical(x: f32) -> f32 {
    if x.is_nan() { f32::from_bits(0x7fff_ffff) } else { x }
}

fn evaluate(step: &Step, ints: &mut [u32], floats: &mut [f32]) {
    match *step {
        Step::Integer(op, signed, d, a, b) => {
            let (a, b) = (ints[a as usize], ints[b as usize]);
            let (sa, sb) = (i64::from(a as i32), i64::from(b as i32));
            let (ua, ub) = (u64::from(a), u64::from(b));
            ints[d as usize] = match (op, signed) {
                (BinaryOp::Add, _) => (ua + ub) as u32,
                (BinaryOp::Sub, _) => (sa - sb) as u32,
                (BinaryOp::Mul, _) => (ua * ub) as u32,
                (BinaryOp::MulHi, true) => ((sa * sb) >> 32) as u32,
                (BinaryOp::MulHi, false) => ((ua * ub) >> 32) as u32,
                (BinaryOp::Min, true) => sa.min(sb) as u32,
                (BinaryOp::Min, false) => ua.min(ub) as u32,
                (BinaryOp::Max, true) => sa.max(sb) as u32,
                (BinaryOp::Max, false) => ua.max(ub) as u32,
                (_, true) => (sa >> ub.min(32)) as u32,
                (_, false) => (ua >> ub.min(32)) as u32,
            };
        }
        Step::Float(op, on, d, a, b) => {
            let (a, b) = (flush(on, floats[a as usize]), flush(on, floats[b as usize]));
            let sorted = |a: f32, b: f32| {
                if a == b {
                    if a.is_sign_negative() { (a, b) } else { (b, a) }
                } else if a < b {
                    (a, b)
                } else {
                    (b, a)
                }
            };
            let x = match op {
                BinaryOp::Add => a + b,
                BinaryOp::Sub => a - b,
                BinaryOp::Mul => a * b,
                BinaryOp::Div => a / b,
                _ if a.is_nan() => b,
                _ if b.is_nan() => a,
                BinaryOp::Min => sorted(a, b).0,
                _ => sorted(a, b).1,
            };
            floats[d as usize] = canonical(flush(on, x));
        }
        Step::Fma(on, d, a, b, c) => {
            let [a, b, c] = [a, b, c].map(|i| flush(on, floats[i as usize]));
            floats[d as usize] = canonical(flush(on, a.mul_add(b, c)));
        }
        Step::ToFloat(d, a) => floats[d as usize] = f32::from_bits(ints[a as usize]),
        Step::ToInteger(d, a) => ints[d as usize] = floats[a as usize] as i32 as u32,
        Step::Select(cmp, d, a, b) => {
            let (x, y) = (floats[a as usize], floats[b as usize]);
            let holds = match cmp {
                Cmp::Lt => x < y,
                Cmp::Eq => x == y,
                Cmp::Geu => x >= y || x.is_nan() || y.is_nan(),
                _ => x != y,
            };
            floats[d as usize] = if holds { x } else { y };
        }
    }
}

#[test]
fn random_programs() {
    let threads = 77;
    for seed in 1..=300_u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let steps: Vec<Step> = (0..30).map(|_| draw(&mut random)).collect();
        let inputs: Vec<u32> = (0..threads * 2 * N).map(|_| random.bits()).collect();
        let mut k = Kernel::new(2);
        let stride = u64::from(8 * N);
        k.op(element(rd(2), TID, stride, rd(0))).op(element(rd(3), TID, stride, rd(1)));
        for i in 0..N {
            k.op(ld(Space::Global, Type::U32, r(i), Address::Reg(rd(3), 4 * i as i32)));
            k.op(ld(Space::Global, Type::F32, f(i), Address::Reg(rd(3), 4 * (N + i) as i32)));
        }
        steps.iter().for_each(|step| emit(&mut k, step));
        for i in 0..N {
            k.op(st(Space::Global, Type::U32, Address::Reg(rd(2), 4 * i as i32), r(i)));
            k.op(st(Space::Global, Type::F32, Address::Reg(rd(2), 4 * (N + i) as i32), f(i)));
        }
        let mut memory = Memory::new();
        let out = memory.alloc_unwritten(4 * inputs.len());
        let input = memory.alloc(&bytes_of(&inputs));
        let options = Options { interleave: (seed % 2 == 0).then_some(seed), ..Options::default() };
        k.launch_with(&mut memory, (1, threads), &[out, input], &options).unwrap();
        let results = u32s(&memory, out, inputs.len());
        for (input, result) in inputs.chunks_exact(2 * N as usize).zip(results.chunks_exact(2 * N as usize)) {
            let mut ints = input[..N as usize].to_vec();
            let mut floats: Vec<f32> = input[N as usize..].iter().map(|&x| f32::from_bits(x)).collect();
            steps.iter().for_each(|step| evaluate(step, &mut ints, &mut floats));
            ints.extend(floats.iter().map(|x| x.to_bits()));
            assert_eq!(ints, result, "seed {seed}");
        }
    }
}

#[test]
fn fma_and_rounding_are_those_of_the_processor() {
    let mut random = Random(7);
    for _ in 0..500_000 {
        let [mut a, mut b, c] = [0; 3].map(|_| f32::from_bits(random.bits()));
        if random.below(2) == 0 {
            // A product near the third operand.
            a = (1.0 + (random.next() & 0xfff) as f32 * f32::EPSILON) * c.abs().sqrt();
            b = -(1.0 + (random.next() & 0xfff) as f32 * f32::EPSILON) * c / a;
        }
        assert_eq!(canonical(fma32(a, b, c)).to_bits(), canonical(a.mul_add(b, c)).to_bits(), "{a:?} {b:?} {c:?}");
        // Exponents in and around the range of f32.
        let exponent = 1023 - 160 + u64::from(random.below(300));
        let fraction = random.next() << 11 >> 12 & !(random.next() & random.next());
        let x = f64::from_bits(u64::from(random.below(2)) << 63 | exponent << 52 | fraction);
        assert_eq!(narrow(x, float::F32, false), u64::from((x as f32).to_bits()), "{x:?}");
        let down = widen(narrow(x, float::F32, true), float::F32);
        assert!(down.abs() <= x.abs() && f64::from((down as f32).abs().next_up()) > x.abs(), "{x:?}");
    }
}

/// A statement on `r0..r8`.
enum Statement {
    Set(BinaryOp, u32, u32, u32),
    If(u32, u32, Vec<Statement>, Vec<Statement>),
    /// As many trips as the last two bits of a register say.
    Loop(u32, Vec<Statement>),
}

fn draw_statements(random: &mut Random, depth: u32) -> Vec<Statement> {
    let ops = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Max];
    (0..1 + random.below(4))
        .map(|_| match random.below(if depth == 3 { 2 } else { 4 }) {
            2 => Statement::If(
                random.below(N),
                random.below(N),
                draw_statements(random, depth + 1),
                draw_statements(random, depth + 1),
            ),
            3 => Statement::Loop(random.below(N), draw_statements(random, depth + 1)),
            _ => {
                let op = ops[random.below(4) as usize];
                Statement::Set(op, random.below(N), random.below(N), random.below(N))
            }
        })
        .collect()
}

/// Emits statements; `labels` and `trips` count the labels and the registers of loops.
fn emit_statements(k: &mut Kernel, statements: &[Statement], labels: &mut u32, trips: u32) {
    for statement in statements {
        let label = *labels;
        match statement {
            Statement::Set(op, d, a, b) => {
                k.op(binary(*op, Type::U32, r(*d), r(*a), r(*b)));
            }
            Statement::If(a, b, then, otherwise) => {
                *labels += 2;
                k.op(setp(Cmp::Lt, Type::U32, p(0), r(*a), r(*b))).bra_when(p(0), false, label);
                emit_statements(k, then, labels, trips);
                k.bra(label + 1).label(label);
                emit_statements(k, otherwise, labels, trips);
                k.label(label + 1);
            }
            Statement::Loop(a, body) => {
                *labels += 2;
                let left = r(20 + trips);
                k.op(binary(BinaryOp::And, Type::B32, left, r(*a), imm(3)))
                    .label(label)
                    .op(setp(Cmp::Eq, Type::U32, p(1), left, imm(0)))
                    .bra_when(p(1), true, label + 1)
                    .op(binary(BinaryOp::Sub, Type::U32, left, left, imm(1)));
                emit_statements(k, body, labels, trips + 1);
                k.bra(label).label(label + 1);
            }
        }
    }
}

fn evaluate_statements(statements: &[Statement], ints: &mut [u32]) {
    for statement in statements {
        match statement {
            Statement::Set(op, d, a, b) => {
                evaluate(&Step::Integer(*op, false, *d, *a, *b), ints, &mut []);
            }
            Statement::If(a, b, then, otherwise) => {
                let holds = ints[*a as usize] < ints[*b as usize];
                evaluate_statements(if holds { then } else { otherwise }, ints);
            }
            Statement::Loop(a, body) => {
                for _ in 0..ints[*a as usize] & 3 {
                    evaluate_statements(body, ints);
                }
            }
        }
    }
}

#[test]
fn random_branches() {
    let threads = 64;
    for seed in 1..=200_u64 {
        let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let statements = draw_statements(&mut random, 0);
        let inputs: Vec<u32> = (0..threads * N).map(|_| random.bits()).collect();
        let mut k = Kernel::new(2);
        let stride = u64::from(4 * N);
        k.op(element(rd(2), TID, stride, rd(0))).op(element(rd(3), TID, stride, rd(1)));
        for i in 0..N {
            k.op(ld(Space::Global, Type::U32, r(i), Address::Reg(rd(3), 4 * i as i32)));
        }
        let mut labels = 0;
        for statement in &statements {
            emit_statements(&mut k, std::slice::from_ref(statement), &mut labels, 0);
            // All lanes are together again, and a block may wait.
            k.op(InstOp::BarWarp { mask: ALL }).op(InstOp::Bar);
        }
        for i in 0..N {
            k.op(st(Space::Global, Type::U32, Address::Reg(rd(2), 4 * i as i32), r(i)));
        }
        let mut memory = Memory::new();
        let out = memory.alloc_unwritten(4 * inputs.len());
        let input = memory.alloc(&bytes_of(&inputs));
        let options = Options { interleave: (seed % 2 == 0).then_some(seed), ..Options::default() };
        k.launch_with(&mut memory, (1, threads), &[out, input], &options).unwrap();
        let results = u32s(&memory, out, inputs.len());
        for (input, result) in inputs.chunks_exact(N as usize).zip(results.chunks_exact(N as usize)) {
            let mut ints = input.to_vec();
            evaluate_statements(&statements, &mut ints);
            assert_eq!(ints, result, "seed {seed}");
        }
    }
}
