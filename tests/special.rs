//! Special functions and densities as a user calls them: shapes, element types, derivatives, mistakes.

use fulgurite::{DType, Tensor, grad, jit, special, stats, vmap};

/// A function of two operands.
type Function = fn(&Tensor, &Tensor) -> Tensor;

const FUNCTIONS: [(&str, Function); 6] = [
    ("gammainc", special::gammainc),
    ("betaln", special::betaln),
    ("zeta", |q, s| special::zeta(&(s + 1.0), q)),
    ("betainc", |a, x| special::betainc(a, &(a + 1.0), &(x * 0.1))),
    ("expi", |x, y| special::expi(&(x * y))),
    ("norm", |x, y| stats::norm::logcdf(x, y, 2.0)),
];

/// The elements of the result for `x` and `y` of this shape.
fn of_shape(f: Function, shape: &[usize], dtype: DType) -> Vec<f64> {
    let n: usize = shape.iter().product();
    let values = |from: f64| -> Vec<f64> { (0..n).map(|i| from + 0.3 * i as f64).collect() };
    let tensor = |values| Tensor::from_vec(shape, values).expect("a tensor").convert(dtype);
    let result = jit(move |(x, y): (Tensor, Tensor)| f(&x, &y)).call((tensor(values(0.4)), tensor(values(0.7))));
    let result = result.expect("a value");
    assert_eq!((result.shape(), result.dtype()), (shape, dtype));
    result.array().expect("data").to_f64_vec().expect("floats")
}

#[test]
fn any_shape_and_element_type() {
    for (name, f) in FUNCTIONS {
        let flat = of_shape(f, &[6], DType::F64);
        assert!(flat.iter().all(|y| y.is_finite()), "{name}: {flat:?}");
        for shape in [&[2, 3][..], &[6, 1], &[1, 1, 2, 1, 1, 3, 1, 1]] {
            assert_eq!(of_shape(f, shape, DType::F64), flat, "{name} of {shape:?}");
        }
        assert_eq!(of_shape(f, &[], DType::F64), flat[..1], "{name} of a scalar");
        assert!(of_shape(f, &[0, 3], DType::F64).is_empty(), "{name} of nothing");
        for (single, double) in of_shape(f, &[6], DType::F32).into_iter().zip(&flat) {
            assert!((single - double).abs() <= 1e-5 * double.abs(), "{name}: {single} in f32, {double} in f64");
        }
    }
}

#[test]
fn derivatives_are_those_of_the_values() {
    let scalar = |x: f64| Tensor::scalar(x);
    let value = |x: Tensor| x.item::<f64>().expect("a scalar");
    for (name, f) in FUNCTIONS {
        for (a, b) in [(0.7, 0.9), (2.5, 1.3), (3.1, 6.0)] {
            let at = move |a: f64, b: f64| value(f(&scalar(a), &scalar(b)));
            let step = 1e-5;
            let expected = (at(a + step, b) - at(a - step, b)) / (2.0 * step);
            let got = value(grad(|x: &Tensor| f(x, &scalar(b)))(&scalar(a)));
            assert!((got - expected).abs() <= 1e-8 * (1.0 + expected.abs()), "{name}: {got} for {expected}");
            let second = value(grad(|x: &Tensor| grad(|x: &Tensor| f(x, &scalar(b)))(x))(&scalar(a)));
            let slope = |x: f64| value(grad(|x: &Tensor| f(x, &scalar(b)))(&scalar(x)));
            let expected = (slope(a + step) - slope(a - step)) / (2.0 * step);
            assert!((second - expected).abs() <= 1e-6 * (1.0 + expected.abs()), "{name}: {second} for {expected}");
        }
    }
}

#[test]
fn a_batch_of_cases_is_each_case() {
    let rows = Tensor::from_vec(&[3, 2], vec![0.5f32, 1.0, 2.0, 3.0, 4.0, 20.0]).expect("rows");
    let f = |row: Tensor| special::gammaincc(&row, &(&row * 1.5));
    assert_eq!(vmap(f, 0)(rows.clone()).to_vec::<f32>().unwrap(), f(rows).to_vec::<f32>().unwrap());
}

#[test]
fn integers_and_numbers_are_parameters() {
    let k = Tensor::from_vec(&[3], vec![0i32, 2, -1]).expect("counts");
    let log = stats::poisson::logpmf(&k, 2.0, 0.0).to_vec::<f32>().expect("floats");
    let expected = [-2.0, 2.0 * 2f32.ln() - 2f32.ln() - 2.0, f32::NEG_INFINITY];
    assert!(log.iter().zip(expected).all(|(x, y)| *x == y || (x - y).abs() < 1e-6), "{log:?}");
}

#[test]
fn densities_add_up_to_one() {
    // Midpoints: no density begins at one.
    let x = Tensor::arange(DType::F64, 40_001) * 1e-3 - 20.0005;
    let sum = |density: Tensor| density.sum().item::<f64>().expect("a number") * 1e-3;
    let densities = [
        ("norm", stats::norm::pdf(&x, 0.5, 1.5)),
        ("laplace", stats::laplace::pdf(&x, 0.5, 1.0)),
        ("logistic", stats::logistic::pdf(&x, 0.0, 0.5)),
        ("gumbel_r", stats::gumbel_r::pdf(&x, 0.0, 0.7)),
        ("gumbel_l", stats::gumbel_l::pdf(&x, 0.0, 0.7)),
        ("gennorm", stats::gennorm::pdf(&x, 1.5)),
        ("gamma", stats::gamma::pdf(&x, 2.5, -1.0, 0.8)),
        ("chi2", stats::chi2::pdf(&x, 4.0, -3.0, 0.5)),
        ("truncnorm", stats::truncnorm::pdf(&x, -1.0, 2.0, 0.5, 1.5)),
        ("beta", stats::beta::pdf(&x, 2.5, 3.0, -1.0, 4.0)),
        ("pareto", stats::pareto::pdf(&x, 3.0, -1.0, 2.0)),
        ("expon", stats::expon::pdf(&x, 1.0, 0.7)),
    ];
    for (name, density) in densities {
        let total = sum(density);
        assert!((total - 1.0).abs() < 2e-3, "{name}: {total}");
    }
}

#[test]
fn distribution_functions_are_integrals() {
    let at = |x: f64| Tensor::scalar(x);
    let item = |x: Tensor| x.item::<f64>().expect("a number");
    type One = fn(&Tensor) -> Tensor;
    let pairs: [(&str, One, One, f64); 11] = [
        ("norm", |x| stats::norm::cdf(x, 0.1, 1.2), |x| stats::norm::pdf(x, 0.1, 1.2), 0.6),
        ("cauchy", |x| stats::cauchy::cdf(x, 0.1, 1.2), |x| stats::cauchy::pdf(x, 0.1, 1.2), 0.6),
        ("laplace", |x| stats::laplace::cdf(x, 0.1, 1.2), |x| stats::laplace::pdf(x, 0.1, 1.2), 0.6),
        ("logistic", |x| stats::logistic::cdf(x, 0.1, 1.2), |x| stats::logistic::pdf(x, 0.1, 1.2), 0.6),
        ("gumbel_l", |x| stats::gumbel_l::cdf(x, 0.1, 1.2), |x| stats::gumbel_l::pdf(x, 0.1, 1.2), 0.6),
        ("gumbel_r", |x| stats::gumbel_r::cdf(x, 0.1, 1.2), |x| stats::gumbel_r::pdf(x, 0.1, 1.2), 0.6),
        ("gamma", |x| stats::gamma::cdf(x, 2.0, 0.1, 1.2), |x| stats::gamma::pdf(x, 2.0, 0.1, 1.2), 0.6),
        ("beta", |x| stats::beta::cdf(x, 2.0, 3.0, 0.1, 1.2), |x| stats::beta::pdf(x, 2.0, 3.0, 0.1, 1.2), 0.6),
        ("chi2", |x| stats::chi2::cdf(x, 3.0, 0.1, 1.2), |x| stats::chi2::pdf(x, 3.0, 0.1, 1.2), 0.6),
        ("pareto", |x| stats::pareto::cdf(x, 3.0, 0.1, 1.2), |x| stats::pareto::pdf(x, 3.0, 0.1, 1.2), 1.9),
        (
            "truncnorm",
            |x| stats::truncnorm::cdf(x, -1.0, 2.0, 0.1, 1.2),
            |x| stats::truncnorm::pdf(x, -1.0, 2.0, 0.1, 1.2),
            0.6,
        ),
    ];
    for (name, cdf, pdf, x) in pairs {
        let (slope, density) = (item(grad(cdf)(&at(x))), item(pdf(&at(x))));
        assert!((slope / density - 1.0).abs() < 1e-10, "{name}: {slope} for {density}");
    }
    let quantiles: [(&str, One, One); 5] = [
        ("norm", |x| stats::norm::cdf(x, 0.1, 1.2), |q| stats::norm::ppf(q, 0.1, 1.2)),
        ("cauchy", |x| stats::cauchy::cdf(x, 0.1, 1.2), |q| stats::cauchy::ppf(q, 0.1, 1.2)),
        ("gumbel_r", |x| stats::gumbel_r::cdf(x, 0.1, 1.2), |q| stats::gumbel_r::ppf(q, 0.1, 1.2)),
        ("pareto", |x| stats::pareto::cdf(x, 3.0, 0.1, 1.2), |q| stats::pareto::ppf(q, 3.0, 0.1, 1.2)),
        ("expon", |x| stats::expon::cdf(x, 0.1, 1.2), |q| stats::expon::ppf(q, 0.1, 1.2)),
    ];
    for (name, cdf, ppf) in quantiles {
        let q = item(cdf(&ppf(&at(0.3))));
        assert!((q - 0.3).abs() < 1e-12, "{name}: {q}");
    }
}

#[test]
fn mistakes_are_errors() {
    let pair = (Tensor::zeros(&[2]), Tensor::zeros(&[3]));
    let error = jit(|(x, y): (Tensor, Tensor)| special::gammainc(&x, &y)).call(pair.clone()).expect_err("shapes");
    assert!(error.to_string().contains("gammainc: cannot broadcast f32[2] and f32[3]"), "{error}");
    let error = jit(|(x, y): (Tensor, Tensor)| stats::norm::logpdf(&x, &y, 1.0)).call(pair).expect_err("shapes");
    assert!(error.to_string().contains("norm.logpdf: cannot broadcast f32[2] and f32[3]"), "{error}");
}
