//! Cholesky factors and triangular systems of equations: closed forms, shapes, failures, derivatives, and that neither
//! the vectors nor the threads change a bit.

use fulgurite::linalg::{Triangular, cholesky, triangular_solve};
use fulgurite::prelude::*;
use fulgurite::{Array, TensorType, hessian};

use crate::indexing::check;

pub(crate) const LOWER: Triangular =
    Triangular { left_side: true, lower: true, transpose_a: false, unit_diagonal: false };

/// An array whose element at an index is `f` of it.
pub(crate) fn tabulate(dtype: DType, shape: &[usize], f: impl Fn(&[usize]) -> f64) -> Tensor {
    let ty = TensorType::new(dtype, shape);
    let index = |mut k: usize| {
        let mut at = vec![0; shape.len()];
        for axis in (0..shape.len()).rev() {
            (at[axis], k) = (k % shape[axis], k / shape[axis]);
        }
        at
    };
    let bits: Vec<u64> = (0..ty.elements()).map(|k| dtype.bits(f(&index(k)))).collect();
    Array::from_bits(&ty, &bits).expect("as many elements").into()
}

/// Numbers without a pattern, in -1..1.
pub(crate) fn mixed(at: &[usize]) -> f64 {
    let seed = at.iter().fold(17u64, |seed, &i| (seed ^ i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    (seed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

/// Symmetric, with a large diagonal.
pub(crate) fn definite(at: &[usize]) -> f64 {
    let [batch @ .., i, j] = at else { panic!("a matrix") };
    let off_diagonal = mixed(&[batch, &[*i.min(j), *i.max(j)][..]].concat());
    off_diagonal + if i == j { 100.0 } else { 0.0 }
}

pub(crate) fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    Ok(x.array()?.to_f64_vec().unwrap())
}

pub(crate) const ORDERS: [usize; 8] = [0, 1, 2, 4, 5, 16, 33, 100];

#[test]
fn factors_of_closed_form_are_exact() -> Result<()> {
    // The covariance of a random walk, min(i, j), has the factor that sums: 1 on and below the diagonal.
    for dtype in [DType::F32, DType::F64] {
        for n in ORDERS {
            let [walk, sums] = [
                tabulate(dtype, &[n, n], |at| (at[0].min(at[1]) + 1) as f64),
                tabulate(dtype, &[n, n], |at| f64::from(u8::from(at[1] <= at[0]))),
            ];
            let factor = jit(|a: Tensor| cholesky(&a)).call(walk.clone())?;
            assert_eq!(numbers(&factor)?, numbers(&sums)?, "{dtype}, {n}");
            assert_eq!(numbers(&cholesky(&walk))?, numbers(&sums)?, "{dtype}, {n}");
            // Solving with it takes differences.
            let b = tabulate(dtype, &[n, 11], |at| (at[0] * at[0] + at[1]) as f64);
            let x = tabulate(dtype, &[n, 11], |at| (if at[0] == 0 { at[1] } else { 2 * at[0] - 1 }) as f64);
            assert_eq!(numbers(&triangular_solve(&sums, &b, LOWER))?, numbers(&x)?, "{dtype}, {n}");
        }
    }
    Ok(())
}

#[test]
fn the_matrix_of_binomials_has_itself_as_factor() -> Result<()> {
    let binomial = |n: usize, k: usize| (0..k).fold(1.0, |c, i| c * (n - i) as f64 / (i + 1) as f64);
    let a = tabulate(DType::F64, &[9, 9], |at| binomial(at[0] + at[1], at[0]));
    let l = tabulate(DType::F64, &[9, 9], |at| if at[1] <= at[0] { binomial(at[0], at[1]) } else { 0.0 });
    assert_eq!(numbers(&cholesky(&a))?, numbers(&l)?);
    Ok(())
}

#[test]
fn factors_of_any_shape_agree_with_the_interpreter() -> Result<()> {
    let batches: [&[usize]; 5] = [&[], &[3], &[0], &[2, 0, 1], &[2, 1, 2, 1]];
    let shapes = batches.iter().flat_map(|batch| [0, 1, 2, 5].map(|n| [batch, &[n, n][..]].concat()));
    for shape in shapes.chain([vec![33, 33], vec![2, 100, 100]]) {
        for dtype in [DType::F32, DType::F64] {
            let a = tabulate(dtype, &shape, definite);
            check(&format!("cholesky of {shape:?}"), &[a], |x| vec![cholesky(&x[0])])?;
        }
    }
    Ok(())
}

#[test]
fn solutions_of_any_shape_agree_with_the_interpreter() -> Result<()> {
    let kinds = (0..16).map(|bits| {
        let [left_side, lower, transpose_a, unit_diagonal] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
        Triangular { left_side, lower, transpose_a, unit_diagonal }
    });
    let batches: [&[usize]; 4] = [&[], &[3], &[0], &[2, 1, 2, 1]];
    for (k, how) in kinds.enumerate() {
        for (i, n) in ORDERS.into_iter().enumerate() {
            for (j, dtype) in [DType::F32, DType::F64].into_iter().enumerate() {
                // Whole tasks and parts of them.
                let columns = [0, 1, 7, 8, 20][(k + i + 2 * j) % 5];
                let batch = batches[(k + i + j) % batches.len()];
                let matrix = if how.left_side { [n, columns] } else { [columns, n] };
                // Small off the diagonal, so that a diagonal of 1 does not make the unknowns grow.
                let a = tabulate(dtype, &[batch, &[n, n]].concat(), |at| definite(at) / 100.0);
                let b = tabulate(dtype, &[batch, &matrix].concat(), mixed);
                let what = format!("{how:?} of order {n} for {columns}");
                check(&what, &[a, b], |x| vec![triangular_solve(&x[0], &x[1], how)])?;
            }
        }
    }
    Ok(())
}

#[test]
fn one_column_needs_no_axis() -> Result<()> {
    let a = tabulate(DType::F64, &[2, 5, 5], definite);
    let b = tabulate(DType::F64, &[2, 5], mixed);
    for left_side in [true, false] {
        let how = Triangular { left_side, ..LOWER };
        let axis = if left_side { -1 } else { -2 };
        let x = triangular_solve(&a, &b, how);
        assert_eq!(x.shape(), b.shape());
        assert_eq!(numbers(&x)?, numbers(&triangular_solve(&a, &b.expand_dims(axis), how))?);
    }
    Ok(())
}

#[test]
fn a_matrix_that_is_not_definite_gives_nan_and_others_stay() -> Result<()> {
    for n in [1, 3, 6, 21] {
        for broken in 0..n {
            for pivot in [-1.0, 0.0, f64::NAN, f64::NEG_INFINITY] {
                let eye = |at: &[usize]| f64::from(u8::from(at[1] == at[2]));
                let is_broken = |at: &[usize]| *at == [1, broken, broken];
                let a = tabulate(DType::F32, &[3, n, n], |at| if is_broken(at) { pivot } else { eye(at) });
                let factors = numbers(&cholesky(&a))?;
                for (k, x) in factors.into_iter().enumerate() {
                    let at = [k / (n * n), k / n % n, k % n];
                    let is_nan = at[0] == 1 && at[2] <= at[1];
                    assert!(if is_nan { x.is_nan() } else { x == eye(&at) }, "{at:?} of {n}, {broken}: {x}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn the_upper_triangle_of_a_system_is_not_read() -> Result<()> {
    let a = tabulate(DType::F32, &[9, 9], |at| if at[1] > at[0] { f64::NAN } else { definite(at) });
    let b = tabulate(DType::F32, &[9, 2], mixed);
    for transpose_a in [false, true] {
        let how = Triangular { transpose_a, ..LOWER };
        let [with, without] = [&a, &a.tril()].map(|a| numbers(&triangular_solve(a, &b, how)));
        assert_eq!(with?, without?);
    }
    let unit = Triangular { unit_diagonal: true, ..LOWER };
    let unread = tabulate(DType::F32, &[9, 9], |at| if at[1] >= at[0] { f64::NAN } else { mixed(at) });
    assert!(numbers(&triangular_solve(&unread, &b, unit))?.iter().all(|x| x.is_finite()));
    Ok(())
}

#[test]
fn a_factor_of_a_constant_has_the_bits_of_any_other() -> Result<()> {
    let a = tabulate(DType::F32, &[5, 5], |at| definite(at) / 70.0);
    let inner = a.clone();
    let of_constant = jit(move |scale: Tensor| cholesky(&inner) * scale).call(Tensor::scalar(1.0f32))?;
    assert_eq!(numbers(&of_constant)?, numbers(&cholesky(&a))?);
    Ok(())
}

/// The logarithm of a normal density with this mean and covariance.
fn log_density(x: &Tensor, mean: &Tensor, covariance: &Tensor) -> Tensor {
    let factor = cholesky(covariance);
    let distance = triangular_solve(&factor, &(x - mean), LOWER);
    let n = x.elements() as f64;
    -0.5 * (distance.square().sum() + log_det(covariance) + n * std::f64::consts::TAU.ln())
}

fn log_det(a: &Tensor) -> Tensor {
    let index = |axis| Tensor::iota(DType::I32, a.shape(), axis);
    index(0).equal(index(1)).select(cholesky(a), 1.0).log().sum() * 2.0
}

pub(crate) fn assert_close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= tolerance * want.abs().max(1.0), "{got}, not {want}");
    }
}

#[test]
fn gradients_of_a_density_are_finite_differences() -> Result<()> {
    const H: f64 = 1e-5;
    let n = 4;
    let inputs = [
        tabulate(DType::F64, &[n], mixed),
        tabulate(DType::F64, &[n], |at| mixed(&[at[0] + 7])),
        tabulate(DType::F64, &[n, n], |at| definite(at) / 30.0),
    ];
    type Three = (Tensor, Tensor, Tensor);
    let density = |(x, mean, covariance): &Three| log_density(x, mean, covariance);
    let [x, mean, covariance] = inputs.clone();
    let (dx, dmean, dcovariance) = jit(move |at: Three| grad(density)(&at)).call((x, mean, covariance))?;
    for (k, gradient) in [dx, dmean, dcovariance].iter().enumerate() {
        let gradient = numbers(gradient)?;
        for (i, gradient) in gradient.iter().enumerate() {
            let moved = |h: f64| -> Result<f64> {
                let mut inputs = inputs.clone();
                let mut data = numbers(&inputs[k])?;
                data[i] += h;
                inputs[k] = Tensor::from_vec(inputs[k].shape(), data)?;
                let [x, mean, covariance] = inputs;
                Ok(numbers(&density(&(x, mean, covariance)))?[0])
            };
            assert_close(&[*gradient], &[(moved(H)? - moved(-H)?) / (2.0 * H)], 1e-8);
        }
    }
    Ok(())
}

#[test]
fn the_derivative_of_a_logarithm_of_a_determinant_is_the_inverse() -> Result<()> {
    let n = 3;
    let a = tabulate(DType::F64, &[n, n], |at| definite(at) / 40.0);
    let eye = tabulate(DType::F64, &[n, n], |at| f64::from(u8::from(at[0] == at[1])));
    let upwards = Triangular { transpose_a: true, ..LOWER };
    let inverse = jit(move |a: Tensor| {
        let factor = cholesky(&a);
        triangular_solve(&factor, &triangular_solve(&factor, &eye, LOWER), upwards)
    });
    let inverse = numbers(&inverse.call(a.clone())?)?;
    assert_close(&numbers(&grad(log_det)(&a))?, &inverse, 1e-14);
    // d(A⁻¹) = -A⁻¹ dA A⁻¹, with dA made symmetric.
    let second = numbers(&jit(|a: Tensor| hessian(log_det)(&a)).call(a.clone())?)?;
    let of = |i: usize, j: usize| inverse[i * n + j];
    let want = (0..n.pow(4)).map(|at| {
        let [i, j, k, l] = [27, 9, 3, 1].map(|stride| at / stride % n);
        -0.5 * (of(i, k) * of(l, j) + of(i, l) * of(k, j))
    });
    assert_close(&second, &want.collect::<Vec<_>>(), 1e-14);
    // A batch of gradients is what each of them is.
    let batch = tabulate(DType::F64, &[5, n, n], |at| definite(at) / 40.0);
    let gradients = numbers(&vmap(|a: Tensor| grad(log_det)(&a), 0)(batch.clone()))?;
    for (k, gradient) in gradients.chunks(n * n).enumerate() {
        assert_close(gradient, &numbers(&grad(log_det)(&batch.index_in_dim(k, 0)))?, 1e-14);
    }
    Ok(())
}
