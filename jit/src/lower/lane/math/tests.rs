//! Errors in units in the last place, special values, and instruction counts.

use std::f64::consts::FRAC_PI_2;

use super::*;
use crate::lower::lane::{LaneOp, run};

type Function = fn(&mut LaneProgram, LaneId) -> LaneId;

/// A function of one operand: what it should be, and the most units in the last place it may be off in f32 and f64.
struct Case {
    name: &'static str,
    function: Function,
    reference: fn(f64) -> f64,
    single: f64,
    double: f64,
    /// The most instructions for f32, reinterpreted bits not counted.
    count: usize,
}

const fn case(
    name: &'static str,
    function: Function,
    reference: fn(f64) -> f64,
    single: f64,
    double: f64,
    count: usize,
) -> Case {
    Case { name, function, reference, single, double, count }
}

/// The libraries' own errors, about one unit, are in the f64 bounds.
const CASES: [Case; 24] = [
    case("exp", exp, libm::exp, 1.7, 2.5, 16),
    case("exp2", exp2, libm::exp2, 1.3, 2.5, 15),
    case("expm1", expm1, libm::expm1, 1.6, 3.0, 18),
    case("log", log, libm::log, 1.1, 2.5, 25),
    case("log1p", log1p, libm::log1p, 1.7, 2.5, 28),
    case("sin", sin, libm::sin, 1.6, 2.5, 25),
    case("cos", cos, libm::cos, 1.6, 2.5, 25),
    case("tan", tan, libm::tan, 2.0, 3.5, 32),
    case("tanh", tanh, libm::tanh, 4.9, 3.5, 17),
    case("sigmoid", sigmoid, |x| libm::exp(x.min(0.0)) / (1.0 + libm::exp(-x.abs())), 2.0, 4.0, 16),
    case("softplus", softplus, |x| x.max(0.0) + libm::log1p(libm::exp(-x.abs())), 1.9, 4.0, 28),
    case("erf", erf, libm::erf, 1.6, 2.5, 25),
    case("erfc", erfc, libm::erfc, 3.4, 5.0, 47),
    case("rsqrt", rsqrt, |x| 1.0 / x.sqrt(), 1.5, 2.0, 2),
    case("cbrt", cbrt, libm::cbrt, 0.8, 2.0, 27),
    case("asin", asin, libm::asin, 1.4, 3.0, 19),
    case("acos", acos, libm::acos, 1.4, 3.0, 22),
    case("atan", atan, libm::atan, 2.0, 3.0, 18),
    case("sinh", sinh, libm::sinh, 1.7, 3.5, 27),
    case("cosh", cosh, libm::cosh, 1.4, 3.0, 17),
    case("asinh", asinh, libm::asinh, 1.8, 4.0, 41),
    // The library's function does not know that its domain ends at 1.
    case("acosh", acosh, |x| if x < 1.0 { f64::NAN } else { libm::acosh(x) }, 1.7, 4.0, 39),
    case("atanh", atanh, libm::atanh, 1.9, 4.0, 38),
    case("sign", sign, |x| if x == 0.0 || x.is_nan() { x } else { x.signum() }, 0.0, 0.0, 4),
];

fn single(function: Function) -> impl Fn(f32) -> f32 {
    let mut p = LaneProgram::new();
    let x = p.input(0, LaneType::F32);
    let y = function(&mut p, x);
    move |x| f32::from_bits(run(&p, &[x.to_bits() as u64], &[y])[0] as u32)
}

fn double(function: Function) -> impl Fn(f64) -> f64 {
    let mut p = LaneProgram::new();
    let x = p.input(0, LaneType::F64);
    let y = function(&mut p, x);
    move |x| f64::from_bits(run(&p, &[x.to_bits()], &[y])[0])
}

type Function2 = fn(&mut LaneProgram, LaneId, LaneId) -> LaneId;

fn single2(function: Function2) -> impl Fn(f32, f32) -> f32 {
    let mut p = LaneProgram::new();
    let (x, y) = (p.input(0, LaneType::F32), p.input(1, LaneType::F32));
    let z = function(&mut p, x, y);
    move |x, y| f32::from_bits(run(&p, &[x.to_bits() as u64, y.to_bits() as u64], &[z])[0] as u32)
}

fn double2(function: Function2) -> impl Fn(f64, f64) -> f64 {
    let mut p = LaneProgram::new();
    let (x, y) = (p.input(0, LaneType::F64), p.input(1, LaneType::F64));
    let z = function(&mut p, x, y);
    move |x, y| f64::from_bits(run(&p, &[x.to_bits(), y.to_bits()], &[z])[0])
}

/// How far the f32 `y` is from `exact`, in units in the last place of the latter.
fn ulps(y: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if y.is_nan() || exact.is_nan() || y.is_infinite() || rounded.is_infinite() || exact == 0.0 {
        let same = y.to_bits() == rounded.to_bits() || (y.is_nan() && exact.is_nan());
        // The largest float and infinity are neighbours.
        let near = y.abs().min(rounded.abs()) == f32::MAX && y.is_sign_negative() == exact.is_sign_negative();
        return match (same, near) {
            (true, _) => 0.0,
            (false, true) => 1.0,
            (false, false) => f64::INFINITY,
        };
    }
    let exponent = ((exact.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(-126);
    (y as f64 - exact).abs() / 2f64.powi(exponent - 23)
}

/// [`ulps`] of f64, from a reference that is an f64 itself.
fn ulps_f64(y: f64, exact: f64) -> f64 {
    if y.to_bits() == exact.to_bits() || (y.is_nan() && exact.is_nan()) {
        return 0.0;
    }
    let unit = exact.abs().next_up() - exact.abs();
    (y - exact).abs() / unit
}

/// A fixed stream of random bits (xorshift).
fn random_bits() -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Every 39,883rd float (a prime), and some where functions change.
fn floats() -> impl Iterator<Item = f32> {
    let all = (0..=u32::MAX).step_by(39_883).map(f32::from_bits);
    let dense = (-6000..6000).map(|k| k as f32 / 997.0);
    let wide = (-6000..6000).map(|k| k as f32 / 53.0);
    let denormal = (0..200).map(|k| f32::from_bits(k * k * 211));
    all.chain(dense).chain(wide).chain(denormal)
}

/// Asserts the bounds of [`CASES`] in f32, for a share of them, so that tests can run in parallel.
fn sweep(share: usize) {
    for case in CASES.iter().skip(share).step_by(4) {
        let f = single(case.function);
        let mut worst = (0.0, 0.0);
        for x in floats() {
            let y = f(x);
            let error = ulps(y, (case.reference)(x as f64));
            if error > worst.0 {
                worst = (error, x);
            }
        }
        assert!(worst.0 <= case.single, "{}: {} ulp at {:e}", case.name, worst.0, worst.1);
    }
}

#[test]
fn f32_errors_0() {
    sweep(0);
}

#[test]
fn f32_errors_1() {
    sweep(1);
}

#[test]
fn f32_errors_2() {
    sweep(2);
}

#[test]
fn f32_errors_3() {
    sweep(3);
}

#[test]
fn f64_errors() {
    for case in &CASES {
        let f = double(case.function);
        let mut next = random_bits();
        let mut worst = (0.0, 0.0);
        for k in 0..4000 {
            let unit = next() as f64 / u64::MAX as f64;
            let x = match k % 4 {
                0 => 2.0 * unit - 1.0,
                1 => 20.0 * unit - 10.0,
                2 => 1400.0 * unit - 700.0,
                _ => (0.5 - unit).signum() * 2f64.powf(80.0 * unit - 40.0),
            };
            let error = ulps_f64(f(x), (case.reference)(x));
            if error > worst.0 {
                worst = (error, x);
            }
        }
        assert!(worst.0 <= case.double, "{}: {} ulp at {:e}", case.name, worst.0, worst.1);
    }
}

/// Bits of `jnp.tanh` (JAX 0.10.2, on a CPU with fused multiply-add).
#[test]
fn tanh_has_the_bits_of_xla() {
    let f = single(tanh);
    for (x, bits) in [
        (0.00039, 0x39cc78ea),
        (0.00041, 0x39d6f542),
        (0.03, 0x3cf5afb1),
        (-0.25, 0xbe7acbf5),
        (0.7, 0x3f1ab7d9),
        (-1.1, 0xbf4ced82),
        (1.9, 0x3f74cbfb),
        (-2.7, 0xbf7db2aa),
        (3.3, 0x3f7f4def),
        (-4.2, 0xbf7fe28a),
        (5.2128, 0x3f7ffc21),
        (-6.6, 0xbf7fffc1),
        (7.1, 0x3f7fffe9),
        (-7.5, 0xbf7ffff6),
        (7.9, 0x3f7ffffc),
        (7.99, 0x3f7ffffc),
        (7.9988, 0x3f7ffffd),
        (8.5, 0x3f800000),
        (-1e+30, 0xbf800000),
    ] {
        assert_eq!(f(x).to_bits(), bits, "tanh({x:e})");
    }
}

#[test]
fn instruction_counts() {
    for case in &CASES {
        let mut p = LaneProgram::new();
        let x = p.input(0, LaneType::F32);
        let y = (case.function)(&mut p, x);
        assert!(p.insts.iter().all(|i| !matches!(i.ty, LaneType::F64 | LaneType::I64)), "{} has wide lanes", case.name);
        let count = count(&p, y);
        assert_eq!(count, case.count, "{}", case.name);
    }
    let mut p = LaneProgram::new();
    let x = p.input(0, LaneType::F32);
    let y = erf_inv(&mut p, x);
    assert_eq!(count(&p, y), 41);
}

fn count(p: &LaneProgram, root: LaneId) -> usize {
    let live = p.live(&[root]);
    let bits = |op: LaneOp| {
        use LaneConvert::*;
        matches!(op, LaneOp::Convert(F32Bits | F32FromBits, _))
    };
    let counted = |op: LaneOp| !matches!(op, LaneOp::Const(_) | LaneOp::Input(_)) && !bits(op);
    p.insts.iter().zip(live).filter(|(inst, live)| *live && counted(inst.op)).count()
}

#[test]
fn special_values() {
    const INF: f64 = f64::INFINITY;
    const NAN: f64 = f64::NAN;
    // At 0, -0, infinity, -infinity, 1e30 (f64: 1e300), and minus that.
    let expected: [(&str, [f64; 6]); 19] = [
        ("exp", [1.0, 1.0, INF, 0.0, INF, 0.0]),
        ("exp2", [1.0, 1.0, INF, 0.0, INF, 0.0]),
        ("expm1", [0.0, -0.0, INF, -1.0, INF, -1.0]),
        ("tanh", [0.0, -0.0, 1.0, -1.0, 1.0, -1.0]),
        ("sigmoid", [0.5, 0.5, 1.0, 0.0, 1.0, 0.0]),
        ("erf", [0.0, -0.0, 1.0, -1.0, 1.0, -1.0]),
        ("erfc", [1.0, 1.0, 0.0, 2.0, 0.0, 2.0]),
        ("erf_inv", [0.0, -0.0, NAN, NAN, NAN, NAN]),
        ("asin", [0.0, -0.0, NAN, NAN, NAN, NAN]),
        ("acos", [FRAC_PI_2, FRAC_PI_2, NAN, NAN, NAN, NAN]),
        ("atan", [0.0, -0.0, FRAC_PI_2, -FRAC_PI_2, FRAC_PI_2, -FRAC_PI_2]),
        ("sinh", [0.0, -0.0, INF, -INF, INF, -INF]),
        ("cosh", [1.0, 1.0, INF, INF, INF, INF]),
        ("atanh", [0.0, -0.0, NAN, NAN, NAN, NAN]),
        ("rsqrt", [INF, -INF, 0.0, NAN, 1e-15, NAN]),
        ("cbrt", [0.0, -0.0, INF, -INF, 1e10, -1e10]),
        ("sign", [0.0, -0.0, 1.0, -1.0, 1.0, -1.0]),
        ("lgamma", [INF, INF, INF, INF, 6.807755278982137e31, INF]),
        ("digamma", [NAN, NAN, INF, NAN, 69.07755278982137, NAN]),
    ];
    for (name, values) in expected {
        let function = match name {
            "erf_inv" => erf_inv as Function,
            "lgamma" => lgamma,
            "digamma" => digamma,
            _ => CASES.iter().find(|case| case.name == name).expect("a case").function,
        };
        let (f, g) = (single(function), double(function));
        assert!(f(f32::NAN).is_nan() && g(NAN).is_nan(), "{name}(NaN)");
        for (k, x) in [0.0, -0.0, INF, -INF, 1e30, -1e30].into_iter().enumerate() {
            let y = f(x as f32);
            assert!(ulps(y, values[k] as f32 as f64) <= 1.0, "f32 {name}({x:e}) = {y:e}");
            let y = g(x);
            let close = (y - values[k]).abs() <= 1e-15 * values[k].abs()
                && y.is_sign_negative() == values[k].is_sign_negative();
            assert!(close || y == values[k] || (y.is_nan() && values[k].is_nan()), "f64 {name}({x:e}) = {y:e}");
        }
    }
    for (function, x, y) in [
        (log as Function, 0.0, -INF),
        (log, -0.0, -INF),
        (log, -1.0, NAN),
        (log, -INF, NAN),
        (log, INF, INF),
        (log, 1.0, 0.0),
        (log1p, -1.0, -INF),
        (log1p, -2.0, NAN),
        (log1p, -INF, NAN),
        (log1p, INF, INF),
        (log1p, -0.0, -0.0),
        (softplus, INF, INF),
        (softplus, -INF, 0.0),
        (asinh, -0.0, -0.0),
        (asinh, -INF, -INF),
        (acosh, 1.0, 0.0),
        (acosh, INF, INF),
        (atanh, 1.0, INF),
        (atanh, -1.0, -INF),
        (erf_inv, 1.0, INF),
        (erf_inv, -1.0, -INF),
        (lgamma, -3.0, INF),
        (lgamma, 1.0, 0.0),
        (lgamma, 2.0, 0.0),
        (digamma, -3.0, NAN),
    ] {
        let (a, b) = (single(function)(x as f32), double(function)(x));
        assert!(ulps(a, y) == 0.0, "f32 at {x}: {a} for {y}");
        assert!(b.to_bits() == y.to_bits() || (b.is_nan() && y.is_nan()), "f64 at {x}: {b} for {y}");
    }
    for function in [log as Function, log1p, softplus, asinh, acosh] {
        assert!(single(function)(f32::NAN).is_nan() && double(function)(NAN).is_nan());
    }
}

#[test]
fn exp2_is_exact_at_integers() {
    let (f, g) = (single(exp2), double(exp2));
    for n in -160..140 {
        assert_eq!(f(n as f32), libm::exp2(n as f64) as f32, "{n}");
    }
    for n in -1100..1100 {
        assert_eq!(g(n as f64), libm::exp2(n as f64), "{n}");
    }
}

/// Against a step of Newton's method from the result, in f64; Giles' polynomials themselves are off by 3 ulp.
#[test]
fn erf_inv_inverts_erf() {
    let newton = |x: f64, y: f64| {
        let slope = std::f64::consts::FRAC_2_SQRT_PI * libm::exp(-y * y);
        let excess =
            if x.abs() < 0.5 { libm::erf(y) - x } else { x.signum() * ((1.0 - x.abs()) - libm::erfc(y.abs())) };
        y - excess / slope
    };
    let (f, g) = (single(erf_inv), double(erf_inv));
    for x in floats().filter(|x| x.abs() < 1.0 && x.abs() > 1e-30) {
        let y = f(x);
        let error = ulps(y, newton(x as f64, y as f64));
        assert!(error < 4.2, "erf_inv({x:e}) = {y:e}: {error} ulp");
        let x = x as f64 * 0.999_999_95;
        let y = g(x);
        let error = ulps_f64(y, newton(x, y));
        assert!(error < 6.0, "erf_inv({x:e}) = {y:e}: {error} ulp");
    }
}

#[test]
fn gamma_functions() {
    // By the recurrence to 20, and the asymptotic series from there.
    fn digamma_reference(x: f64) -> f64 {
        if x < 0.0 {
            let fraction = x - x.round();
            return digamma_reference(1.0 - x) - std::f64::consts::PI / (std::f64::consts::PI * fraction).tan();
        }
        let (mut y, mut sum) = (x, 0.0);
        while y < 20.0 {
            sum += 1.0 / y;
            y += 1.0;
        }
        let z = 1.0 / (y * y);
        let series = z * (1.0 / 12.0 - z * (1.0 / 120.0 - z * (1.0 / 252.0 - z * (1.0 / 240.0 - z / 132.0))));
        y.ln() - 0.5 / y - series - sum
    }
    let cases = [(lgamma as Function, libm::lgamma as fn(f64) -> f64), (digamma, digamma_reference)];
    for (function, reference) in cases {
        let (f, g) = (single(function), double(function));
        for k in -5000..20000 {
            let x = k as f32 / 997.0;
            if x <= 0.0 && x == x.floor() {
                continue;
            }
            let expected = reference(x as f64);
            let (a, b) = (f(x) as f64, g(x as f64));
            assert!((a - expected).abs() <= 1e-12 + 2e-7 * expected.abs(), "f32 at {x}: {a} for {expected}");
            assert!((b - expected).abs() <= 2e-13 + 2e-14 * expected.abs(), "f64 at {x}: {b} for {expected}");
        }
        for k in 0..100 {
            let x = 10f64.powi(k - 30);
            let expected = reference(x);
            let b = g(x);
            assert!((b - expected).abs() <= 4e-15 * expected.abs(), "f64 at {x}: {b} for {expected}");
        }
    }
}

#[test]
fn bessel_functions() {
    // By the power series, and from 30 on by the asymptotic one.
    fn reference(order: f64, x: f64) -> f64 {
        let a = x.abs();
        let (mut term, mut sum) = (if order == 0.0 { 1.0 } else { a / 2.0 }, 0.0);
        let mut tail = 1.0;
        let far = a >= 30.0;
        let mut series = 0.0;
        for k in 1..100 {
            let k = f64::from(k);
            sum += term;
            term *= a * a / (4.0 * k * (k + order));
            if k < 20.0 {
                series += tail;
                tail *= ((2.0 * k - 1.0).powi(2) - 4.0 * order) / (8.0 * a * k);
            }
        }
        let y = if far { series / (2.0 * std::f64::consts::PI * a).sqrt() } else { sum * (-a).exp() };
        if order == 1.0 { y.copysign(x) } else { y }
    }
    for (order, function) in [(0.0, bessel_i0e as Function), (1.0, bessel_i1e)] {
        let (f, g) = (single(function), double(function));
        for k in -9000..9000 {
            let x = k as f32 / 97.0;
            let expected = reference(order, f64::from(x));
            assert!(ulps(f(x), expected) <= 0.51, "f32 of order {order} at {x}: {}", f(x));
            let b = g(f64::from(x));
            assert!((b - expected).abs() <= 3e-15 * expected.abs(), "f64 of order {order} at {x}: {b} for {expected}");
        }
        for x in [1e3, 1e10, 1e30] {
            let expected = reference(order, x);
            assert!((g(x) / expected - 1.0).abs() <= 3e-15, "f64 of order {order} at {x}");
        }
        for x in [f64::INFINITY, f64::NEG_INFINITY] {
            assert!(g(x) == 0.0 && f(x as f32) == 0.0, "at infinity");
        }
        assert!(g(f64::NAN).is_nan() && f(f32::NAN).is_nan());
    }
    assert!(double(bessel_i1e)(-0.0).is_sign_negative());
}

const EDGES: [f32; 16] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    2.0,
    -2.0,
    0.5,
    -1.5,
    3.0,
    1e-45,
    -1e-38,
    3e38,
    16777217.0,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

#[test]
fn pow_cases() {
    let (f, g) = (single2(pow), double2(pow));
    for x in EDGES {
        for y in EDGES {
            let exact = libm::pow(x as f64, y as f64);
            assert!(ulps(f(x, y), exact) <= 1.9, "f32 pow({x:e}, {y:e}) = {:e} for {exact:e}", f(x, y));
            let power = g(x as f64, y as f64);
            assert!(ulps_f64(power, exact) <= 2.4, "f64 pow({x:e}, {y:e}) = {power:e} for {exact:e}");
        }
    }
    let mut next = random_bits();
    for k in 0..300_000 {
        let (a, b) = (next(), next());
        let (x, y) = match k % 3 {
            0 => (f32::from_bits(a as u32), f32::from_bits(b as u32)),
            1 => ((a % 100_000) as f32 / 1000.0, (b % 100_000) as f32 / 1000.0 - 50.0),
            _ => (1.0 + (a % 2000) as f32 * f32::EPSILON, (b % 200_000) as f32 * 8000.0 - 8e8),
        };
        let exact = libm::pow(x as f64, y as f64);
        assert!(ulps(f(x, y), exact) <= 1.9, "f32 pow({x:e}, {y:e}) = {:e} for {exact:e}", f(x, y));
        let (x, y) = (x as f64, y as f64);
        if (1e-300..1e300).contains(&exact.abs()) {
            let power = g(x, y);
            assert!(ulps_f64(power, exact) <= 2.4, "f64 pow({x:e}, {y:e}) = {power:e} for {exact:e}");
        }
    }
}

#[test]
fn powi_cases() {
    for (n, x, expected) in [
        (0, f32::NAN, 1.0),
        (1, 1.5, 1.5),
        (-1, 4.0, 0.25),
        (2, -3.0, 9.0),
        (3, -2.0, -8.0),
        (-2, 2.0, 0.25),
        (7, 2.0, 128.0),
        (i32::MIN, -1.0, 1.0),
    ] {
        let mut p = LaneProgram::new();
        let input = p.input(0, LaneType::F32);
        let y = powi(&mut p, input, n);
        assert_eq!(f32::from_bits(run(&p, &[x.to_bits() as u64], &[y])[0] as u32), expected);
    }
}

#[test]
fn atan2_cases() {
    let (f, g) = (single2(atan2), double2(atan2));
    let mut pairs: Vec<(f32, f32)> = EDGES.iter().flat_map(|&y| EDGES.map(|x| (y, x))).collect();
    let mut next = random_bits();
    for k in 0..300_000 {
        let (a, b) = (next(), next());
        pairs.push(match k % 2 {
            0 => (f32::from_bits(a as u32), f32::from_bits(b as u32)),
            _ => ((a % 20_000) as f32 / 1000.0 - 10.0, (b % 20_000) as f32 / 1000.0 - 10.0),
        });
    }
    for (y, x) in pairs {
        let exact = libm::atan2(y as f64, x as f64);
        assert!(ulps(f(y, x), exact) <= 2.1, "f32 atan2({y:e}, {x:e}) = {:e} for {exact:e}", f(y, x));
        let angle = g(y as f64, x as f64);
        assert!(ulps_f64(angle, exact) <= 3.0, "f64 atan2({y:e}, {x:e}) = {angle:e} for {exact:e}");
    }
}

#[test]
fn extrema() {
    let (greater, lesser) = (single2(max_nan), single2(min_nan));
    for x in EDGES {
        for y in EDGES {
            let expected = |max: bool| {
                if x.is_nan() || y.is_nan() {
                    f32::NAN
                } else if x == y {
                    // Of two zeros, the positive is larger.
                    f32::from_bits(if max { x.to_bits() & y.to_bits() } else { x.to_bits() | y.to_bits() })
                } else if (x < y) == max {
                    y
                } else {
                    x
                }
            };
            let by_constant = |function: Function2, swap: bool| {
                let mut p = LaneProgram::new();
                let (a, b) = (p.input(0, LaneType::F32), p.f32(y));
                let z = if swap { function(&mut p, b, a) } else { function(&mut p, a, b) };
                f32::from_bits(run(&p, &[x.to_bits() as u64], &[z])[0] as u32)
            };
            for (max, function) in [(true, max_nan as Function2), (false, min_nan)] {
                let direct = if max { greater(x, y) } else { lesser(x, y) };
                for z in [direct, by_constant(function, false), by_constant(function, true)] {
                    let expected = expected(max);
                    let same = z.to_bits() == expected.to_bits() || (z.is_nan() && expected.is_nan());
                    assert!(same, "of {x:e} and {y:e}: {z:e} for {expected:e}");
                }
            }
        }
    }
}

#[test]
fn remainders() {
    let (f, g) = (single2(rem), double2(rem));
    let mut pairs: Vec<(f32, f32)> = EDGES.iter().flat_map(|&x| EDGES.map(|y| (x, y))).collect();
    let mut next = random_bits();
    for _ in 0..20_000 {
        let (a, b) = (next(), next());
        pairs.push((f32::from_bits(a as u32), f32::from_bits(b as u32)));
        // Next to a multiple.
        let y = 1.0 + (b % (1 << 23)) as f32 * f32::EPSILON;
        let multiple = (a % 5000) as f32 * y;
        pairs.push((f32::from_bits(multiple.to_bits().saturating_add(b as u32 >> 30).saturating_sub(1)), y));
    }
    for (x, y) in pairs {
        let same = |r: f64, exact: f64| r.to_bits() == exact.to_bits() || (r.is_nan() && exact.is_nan());
        let r = f(x, y);
        assert!(same(r as f64, (x % y) as f64), "{x:e} % {y:e} = {r:e} for {:e}", x % y);
        let r = g(x as f64, y as f64);
        assert!(same(r, x as f64 % y as f64), "{x:e} % {y:e} = {r:e}");
    }
}

/// Beyond what one reduction reaches: correctly rounded values, which JAX's differ from by an ulp at most.
#[test]
fn trigonometry_of_large_arguments() {
    let singles: [(f32, [f32; 3]); 5] = [
        (2097152.0, [0.6238443851470947, 0.7815485596656799, 0.7982158064842224]),
        (2097153.0, [0.9947150349617004, -0.1026744693517685, -9.6880464553833]),
        (1e10, [-0.48750603199005127, 0.8731196522712708, -0.558349609375]),
        (1e30, [-0.791163444519043, -0.6116048097610474, 1.2935861349105835]),
        (f32::MAX, [-0.5218765139579773, 0.8530210256576538, -0.6117979288101196]),
    ];
    let doubles: [(f64, [f64; 3]); 4] = [
        (281474976710656.0, [0.12949601773888192, 0.9915799420065793, 0.13059564060647638]),
        (1e22, [-0.8522008497671888, 0.523214785395139, -1.6287782256068988]),
        (1e300, [-0.8178819121159085, -0.5753861119575491, 1.4214488238747245]),
        (f64::MAX, [0.004961954789184062, -0.9999876894265599, -0.004962015874444895]),
    ];
    for (k, function) in [sin as Function, cos, tan].into_iter().enumerate() {
        let (f, g) = (single(function), double(function));
        let sign = |negative: bool| if negative && k != 1 { -1.0 } else { 1.0 };
        for negative in [false, true] {
            for (x, want) in singles {
                assert_eq!(f(if negative { -x } else { x }), want[k] * sign(negative) as f32, "f32 {x}");
            }
            for (x, want) in doubles {
                let (got, want) = (g(if negative { -x } else { x }), want[k] * sign(negative));
                assert!((got - want).abs() <= 2e-16 * want.abs(), "f64 {x}: {got}, not {want}");
            }
        }
        let zero = if k == 1 { 1.0 } else { 0.0 };
        assert_eq!((f(0.0), g(0.0)), (zero as f32, zero));
        assert_eq!(g(-0.0).is_sign_negative(), k != 1);
        for x in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            assert!(f(x as f32).is_nan() && g(x).is_nan());
        }
    }
}

#[test]
fn finiteness() {
    for x in EDGES {
        let mut p = LaneProgram::new();
        let input = p.input(0, LaneType::F32);
        let y = is_finite(&mut p, input);
        assert_eq!(run(&p, &[x.to_bits() as u64], &[y])[0] == 1, x.is_finite());
    }
}

/// The known answers of Random123 (`kat_vectors`).
#[test]
fn threefry_known_answers() {
    let mut p = LaneProgram::new();
    let [k0, k1, c0, c1] = [0, 1, 2, 3].map(|n| p.input(n, LaneType::I32));
    let (x, y) = threefry2x32(&mut p, k0, k1, c0, c1);
    for (inputs, expected) in [
        ([0, 0, 0, 0], [0x6b20_0159, 0x99ba_4efe]),
        ([0xffff_ffff; 4], [0x1cb9_96fc, 0xbb00_2be7]),
        ([0x1319_8a2e, 0x0370_7344, 0x243f_6a88, 0x85a3_08d3], [0xc492_3a9c, 0x483d_f7a0]),
    ] {
        assert_eq!(run(&p, &inputs, &[x, y]), expected);
    }
    // A rotation keeps the form that emitters look for.
    let rotations = p.insts.iter().filter(|inst| {
        let LaneOp::Binary(LaneBinary::Or, high, low) = inst.op else { return false };
        match (p.insts[high.index()].op, p.insts[low.index()].op) {
            (LaneOp::Binary(LaneBinary::Shl, x, left), LaneOp::Binary(LaneBinary::Shr, y, right)) => {
                let shift = |id| p.constant(id).expect("a constant shift");
                x == y && shift(left) + shift(right) == 32
            }
            _ => false,
        }
    });
    assert_eq!(rotations.count(), 20);
}

#[test]
fn constants_fold_to_what_runs() {
    for case in &CASES {
        for x in [0.3f32, 0.9, 1.7, -0.4, 12.5] {
            let mut p = LaneProgram::new();
            let constant = p.f32(x);
            let y = (case.function)(&mut p, constant);
            let folded = p.constant(y).map(|bits| f32::from_bits(bits as u32));
            let ran = single(case.function)(x);
            let folded = folded.unwrap_or_else(|| panic!("{} does not fold", case.name));
            assert!(folded.to_bits() == ran.to_bits() || (folded.is_nan() && ran.is_nan()), "{}", case.name);
        }
    }
}
