//! The special functions against values of mpmath, in the interpreter.

use super::*;
use crate::array::Array;
use crate::front::trace::trace;
use crate::interp::interpret;

/// Evaluates `f` at f64 operands.
fn at<const N: usize>(xs: [f64; N], f: impl FnOnce(&[Tensor]) -> Tensor) -> f64 {
    let inputs: Vec<Array> = xs.iter().map(|&x| Array::from_vec(&[], vec![x]).expect("a scalar")).collect();
    let types: Vec<_> = inputs.iter().map(|x| x.ty().clone()).collect();
    let traced = trace(&types, |xs| vec![f(xs)]).expect("a function");
    interpret(&traced.graph, &inputs).expect("a value")[0].to_f64_vec().expect("floats")[0]
}

/// Asserts a relative error.
fn close(name: &str, got: f64, want: f64, error: f64) {
    assert!((got / want - 1.0).abs() <= error || got == want, "{name}: {got:e} for {want:e}");
}

mod values;
use values::*;

/// A function, and its values at arguments.
type Row<'a> = (&'a str, fn(&Tensor) -> Tensor, &'a [(f64, f64)]);

#[test]
fn values_of_f64() {
    for &(a, x, p, q) in GAMMAINC {
        let error = 1e-13 * (a / 10.0).max(1.0);
        close(&format!("gammainc({a}, {x})"), at([a, x], |x| gammainc(&x[0], &x[1])), p, error);
        // Below the mode it is 1 less the other.
        let error = if x < a + 1.0 { error + 2e-16 / q } else { error };
        close(&format!("gammaincc({a}, {x})"), at([a, x], |x| gammaincc(&x[0], &x[1])), q, error);
    }
    for &(a, x, by_a) in GRAD_A {
        let got = at([a, x], |x| igamma_grad_a(&x[0], &x[1]));
        close(&format!("igamma_grad_a({a}, {x})"), got, by_a, 1e-11);
    }
    for &(a, b, x, y) in BETAINC {
        let got = at([a, b, x], |x| betainc(&x[0], &x[1], &x[2]));
        close(&format!("betainc({a}, {b}, {x})"), got, y, 2e-12);
    }
    for &(a, b, y) in BETALN {
        close(&format!("betaln({a}, {b})"), at([a, b], |x| betaln(&x[0], &x[1])), y, 1e-13);
    }
    for &(s, q, y) in ZETA {
        close(&format!("zeta({s}, {q})"), at([s, q], |x| zeta(&x[0], &x[1])), y, 1e-13);
    }
    let unary: [Row; 8] = [
        ("expi", expi, EXPI),
        ("exp1", exp1, EXP1),
        ("exp3", |x| expn(3, x), EXP3),
        ("spence", spence, SPENCE),
        ("erfcx", erfcx, ERFCX),
        ("log_ndtr", log_ndtr, LOG_NDTR),
        ("ndtri", ndtri, NDTRI),
        ("trigamma", |x| polygamma(1, x), TRIGAMMA),
    ];
    for (name, f, values) in unary {
        for &(x, y) in values {
            close(&format!("{name}({x})"), at([x], |x| f(&x[0])), y, 1e-13);
        }
    }
}

#[test]
fn edges() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let cases: [Row; 8] = [
        ("exp1", exp1, &[(0.0, inf), (-1.0, nan), (inf, 0.0), (nan, nan)]),
        ("exp3", |x| expn(3, x), &[(0.0, 0.5), (-1.0, nan), (inf, 0.0)]),
        ("expi", expi, &[(0.0, -inf), (inf, inf), (-inf, 0.0), (nan, nan)]),
        ("spence", spence, &[(-1.0, nan), (1.0, 0.0), (nan, nan)]),
        ("log_ndtr", log_ndtr, &[(-inf, -inf), (inf, 0.0), (nan, nan)]),
        ("ndtri", ndtri, &[(0.0, -inf), (1.0, inf), (1.5, nan), (nan, nan), (0.5, 0.0)]),
        ("trigamma", |x| polygamma(1, x), &[(0.0, inf), (-3.0, inf), (inf, 0.0), (nan, nan)]),
        ("gamma", gamma, &[(0.0, inf), (-0.0, -inf), (-2.0, nan), (inf, inf), (-inf, nan)]),
    ];
    for (name, f, values) in cases {
        for &(x, want) in values {
            let got = at([x], |x| f(&x[0]));
            assert!(got == want || (got.is_nan() && want.is_nan()), "{name}({x}) = {got}, not {want}");
        }
    }
    for (a, x, p) in [(1.0, 0.0, 0.0), (1.0, inf, 1.0), (0.0, 1.0, nan), (1.0, -1.0, nan), (nan, 1.0, nan)] {
        let got = at([a, x], |x| gammainc(&x[0], &x[1]));
        assert!(got == p || (got.is_nan() && p.is_nan()), "gammainc({a}, {x}) = {got}");
    }
    for (a, b, x, p) in [(2.0, 3.0, 0.0, 0.0), (2.0, 3.0, 1.0, 1.0), (0.0, 1.0, 0.5, nan), (1.0, 1.0, 1.1, nan)] {
        let got = at([a, b, x], |x| betainc(&x[0], &x[1], &x[2]));
        assert!(got == p || (got.is_nan() && p.is_nan()), "betainc({a}, {b}, {x}) = {got}");
    }
}

#[test]
fn shapes_that_do_not_fit_are_an_error() {
    let types = [Array::from_vec(&[2], vec![1.0f32; 2]), Array::from_vec(&[3], vec![1.0f32; 3])];
    let types: Vec<_> = types.into_iter().map(|x| x.expect("a vector").ty().clone()).collect();
    let error = trace(&types, |x| vec![gammainc(&x[0], &x[1])]).expect_err("no common shape");
    assert!(error.to_string().contains("gammainc: cannot broadcast f32[2] and f32[3] to one shape"), "{error}");
}
