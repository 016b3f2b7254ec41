//! Decompositions and what is built on them: that they are what they say, at all extents; that a matrix has the same
//! bits alone and in a batch; what is singular or not finite; derivatives where they are hard.

use fulgurite::linalg::{self, MatrixNorm, Transpose};
use fulgurite::prelude::*;
use fulgurite::{hessian, jacrev};

use crate::indexing::check;
use crate::linalg::{LOWER, assert_close, definite, mixed, numbers, tabulate};

/// Extents of matrices: without elements, small, larger than what is small, not a multiple of anything.
const EXTENTS: [[usize; 2]; 13] =
    [[0, 0], [3, 0], [0, 2], [1, 1], [1, 4], [4, 1], [3, 3], [8, 8], [9, 9], [7, 3], [5, 12], [33, 33], [40, 21]];

fn tolerance(dtype: DType) -> f64 {
    if dtype == DType::F64 { 1e-12 } else { 2e-4 }
}

/// Is this the identity?
fn assert_identity(what: &str, x: &Tensor, tolerance: f64) -> Result<()> {
    let n = x.shape()[1];
    for (k, x) in numbers(x)?.into_iter().enumerate() {
        let want = f64::from(u8::from(k / n == k % n));
        assert!((x - want).abs() < tolerance, "{what}: {x} at {}, {}", k / n, k % n);
    }
    Ok(())
}

fn assert_equal(what: &str, x: &Tensor, y: &Tensor, tolerance: f64) -> Result<()> {
    assert_eq!(x.ty(), y.ty(), "{what}");
    for (k, (x, y)) in numbers(x)?.into_iter().zip(numbers(y)?).enumerate() {
        assert!((x - y).abs() < tolerance * y.abs().max(1.0), "{what}: {x}, not {y}, at {k}");
    }
    Ok(())
}

#[test]
fn factors_are_what_they_say() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for [m, n] in EXTENTS {
            let what = format!("{dtype} {m} x {n}");
            let (a, tolerance) = (tabulate(dtype, &[m, n], mixed), tolerance(dtype));
            // A[p] = L U.
            let (lu, pivots, order) = linalg::lu(&a);
            assert_eq!((pivots.shape(), order.shape()), (&[m.min(n)][..], &[m][..]), "{what}");
            if m * n > 0 {
                let k = m.min(n);
                let (l, u) = (lu.slice_in_dim(1, 0..k).tril(), lu.slice_in_dim(0, 0..k));
                let index = |x: &Tensor, axis| Tensor::iota(DType::I32, x.shape(), axis);
                let l = index(&l, 0).equal(index(&l, 1)).select(1.0, l);
                let u = index(&u, 0).less_equal(index(&u, 1)).select(u, 0.0);
                assert!(numbers(&l)?.iter().all(|x| x.abs() <= 1.0), "{what}: pivots are the largest elements");
                assert_equal(&what, &l.matmul(&u), &a.take(&order, 0), tolerance)?;
                assert_eq!(numbers(&linalg::lu_pivots_to_permutation(&pivots, m))?, numbers(&order)?, "{what}");
            }
            // A = Q R.
            for (q, r) in [linalg::qr(&a), linalg::qr_complete(&a)] {
                assert_identity(&what, &q.t().matmul(&q), tolerance)?;
                assert_equal(&what, &q.matmul(&r), &a, tolerance)?;
                let lower = numbers(&r)?.into_iter().enumerate().filter(|(k, _)| k / n.max(1) > k % n.max(1));
                assert!(lower.into_iter().all(|(_, x)| x == 0.0), "{what}");
            }
            // A = U s Vᵀ.
            for full in [false, true] {
                let (u, s, vt) = linalg::svd(&a, full);
                assert_identity(&what, &u.t().matmul(&u), tolerance)?;
                assert_identity(&what, &vt.matmul(&vt.t()), tolerance)?;
                let k = m.min(n);
                let scaled = u.slice_in_dim(1, 0..k) * s.expand_dims(0);
                assert_equal(&what, &scaled.matmul(&vt.slice_in_dim(0, 0..k)), &a, tolerance)?;
                assert!(numbers(&s)?.windows(2).all(|w| w[0] >= w[1] && w[1] >= 0.0), "{what}");
            }
            if m == n {
                let (w, v) = linalg::eigh(&a);
                let symmetric = (&a + a.t()) / 2.0;
                assert_identity(&what, &v.t().matmul(&v), tolerance)?;
                assert_equal(&what, &(&v * w.expand_dims(0)).matmul(&v.t()), &symmetric, tolerance)?;
                assert!(numbers(&w)?.windows(2).all(|w| w[0] <= w[1]), "{what}");
                let b = tabulate(dtype, &[n, 5], mixed);
                let a = tabulate(dtype, &[n, n], |at| definite(at) / 50.0 + mixed(at));
                assert_equal(&what, &a.matmul(&linalg::solve(&a, &b)), &b, tolerance)?;
                assert_identity(&what, &a.matmul(&linalg::inv(&a)), tolerance)?;
                let (lu, pivots) = linalg::lu_factor(&a);
                let back = linalg::lu_solve((&lu, &pivots), &b, Transpose::Yes);
                assert_equal(&what, &a.t().matmul(&back), &b, tolerance)?;
            }
        }
    }
    Ok(())
}

#[test]
fn batches_of_any_rank_agree_with_the_interpreter() -> Result<()> {
    let batches: [&[usize]; 6] = [&[], &[3], &[0], &[19], &[2, 0, 1], &[2, 1, 2, 1, 1, 5]];
    for batch in batches {
        for n in [0, 1, 2, 5, 11] {
            let shape = [batch, &[n, n]].concat();
            for dtype in [DType::F32, DType::F64] {
                let a = tabulate(dtype, &shape, |at| definite(at) / 30.0);
                let b = tabulate(dtype, &[batch, &[n, 2]].concat(), mixed);
                let what = format!("{dtype} {shape:?}");
                check(&format!("solve {what}"), &[a.clone(), b], |x| vec![linalg::solve(&x[0], &x[1])])?;
                check(&format!("cholesky {what}"), std::slice::from_ref(&a), |x| vec![linalg::cholesky(&x[0])])?;
                check(&format!("lu {what}"), &[a], |x| {
                    let (lu, pivots, order) = linalg::lu(&x[0]);
                    vec![lu, pivots, order]
                })?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_matrix_has_the_same_bits_alone_and_in_a_batch() -> Result<()> {
    type Op = fn(&Tensor) -> Vec<Tensor>;
    let ops: [(&str, Op); 7] = [
        ("cholesky", |a| vec![linalg::cholesky(a)]),
        ("triangular_solve", |a| vec![linalg::triangular_solve(a, &a.t(), LOWER)]),
        ("inv", |a| vec![linalg::inv(a)]),
        ("det", |a| vec![linalg::det(a)]),
        ("qr", |a| {
            let (q, r) = linalg::qr(a);
            vec![q, r]
        }),
        ("eigh", |a| {
            let (w, v) = linalg::eigh(a);
            vec![w, v]
        }),
        ("svd", |a| {
            let (u, s, vt) = linalg::svd(a, false);
            vec![u, s, vt]
        }),
    ];
    for dtype in [DType::F32, DType::F64] {
        for n in [1, 2, 3, 4, 8] {
            let batch = tabulate(dtype, &[21, n, n], |at| definite(at) / 40.0);
            for (name, op) in ops {
                let all = jit(move |a: Tensor| op(&a)).call(batch.clone())?;
                for k in [0, 7, 16, 20] {
                    let alone = jit(move |a: Tensor| op(&a)).call(batch.index_in_dim(k, 0))?;
                    for (all, alone) in all.iter().zip(&alone) {
                        let bits =
                            |x: &Tensor| -> Result<Vec<u64>> { Ok(numbers(x)?.iter().map(|x| x.to_bits()).collect()) };
                        assert_eq!(bits(&all.index_in_dim(k, 0))?, bits(alone)?, "{name} of {dtype}, {n}, matrix {k}");
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn what_is_not_finite_gives_nan_and_ends() -> Result<()> {
    for (n, count) in [(3, 1), (3, 9), (12, 1)] {
        for bad in [f64::NAN, f64::INFINITY] {
            let a = tabulate(DType::F32, &[count, n, n], |at| if *at == [0, 1, 1] { bad } else { mixed(at) });
            let (w, v) = linalg::eigh(&a);
            let (u, s, vt) = linalg::svd(&a, false);
            let (q, r) = linalg::qr(&a);
            for x in [w, v, u, s, vt, q] {
                for (k, matrix) in numbers(&x)?.chunks(x.elements() / count).enumerate() {
                    assert!(matrix.iter().all(|x| x.is_nan() == (k == 0)), "{n}, {k}: {matrix:?}");
                }
            }
            assert!(numbers(&r)?[0].is_nan());
            let x = numbers(&linalg::solve(&a, &tabulate(DType::F32, &[n], mixed)))?;
            assert!(bad.is_infinite() || x[..n].iter().any(|x| x.is_nan()), "{x:?}");
        }
    }
    Ok(())
}

#[test]
fn what_is_singular_has_factors() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for [m, n] in [[4, 4], [9, 5], [12, 12]] {
            // Rank 2, and rank 0.
            for rank in [2.0, 0.0] {
                let a = tabulate(dtype, &[m, n], |at| rank * (at[0] as f64 + 1.0) + rank * (at[1] * at[0] % 3) as f64);
                let (u, s, vt) = linalg::svd(&a, false);
                let tolerance = 100.0 * tolerance(dtype);
                assert_identity("u", &u.t().matmul(&u), tolerance)?;
                assert_equal("a", &(u * s.expand_dims(0)).matmul(&vt), &a, tolerance)?;
                let inverse = linalg::pinv(&a, Some(1e-4));
                assert_equal("pinv", &a.matmul(&inverse).matmul(&a), &a, tolerance)?;
                let found = numbers(&linalg::matrix_rank(&a, Some(1e-4)))?[0];
                assert!(if rank == 0.0 { found == 0.0 } else { (1.0..4.0).contains(&found) }, "{found}");
            }
        }
    }
    let singular = Tensor::from_vec(&[2, 2], vec![1.0f64, 2.0, 2.0, 4.0])?;
    assert!(numbers(&linalg::inv(&singular))?.iter().all(|x| !x.is_finite()));
    let (sign, logdet) = linalg::slogdet(&singular);
    assert_eq!((numbers(&sign)?, numbers(&logdet)?), (vec![0.0], vec![f64::NEG_INFINITY]));
    assert_eq!(numbers(&linalg::cond(&singular, Some(MatrixNorm::One)))?, [f64::INFINITY]);
    Ok(())
}

#[test]
fn large_and_small_elements_neither_overflow_nor_vanish() -> Result<()> {
    for (dtype, sizes) in [(DType::F32, [1e30, 1e-30]), (DType::F64, [1e290, 1e-290])] {
        for size in sizes {
            let a = tabulate(dtype, &[6, 4], |at| size * mixed(at));
            let one = tabulate(dtype, &[6, 4], mixed);
            let values = |x: &Tensor| numbers(&linalg::svdvals(x));
            let scaled: Vec<f64> = values(&a)?.iter().map(|s| s / size).collect();
            assert_close(&scaled, &values(&one)?, tolerance(dtype));
            let (q, _) = linalg::qr(&a);
            assert_identity("q", &q.t().matmul(&q), tolerance(dtype))?;
            let square = a.slice_in_dim(0, 0..4);
            let (w, v) = linalg::eigh(&square);
            assert_identity("v", &v.t().matmul(&v), tolerance(dtype))?;
            assert!(numbers(&w)?.iter().all(|w| (w / size).abs() < 4.0));
        }
    }
    Ok(())
}

#[test]
fn eigenvalues_of_closed_form() -> Result<()> {
    // The second difference has 2 - 2 cos(π k / (n + 1)).
    let n = 30;
    let difference = |at: &[usize]| match at[0].abs_diff(at[1]) {
        0 => 2.0,
        1 => -1.0,
        _ => 0.0,
    };
    let want: Vec<f64> =
        (1..=n).map(|k| 2.0 - 2.0 * (std::f64::consts::PI * k as f64 / (n + 1) as f64).cos()).collect();
    for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-13)] {
        let a = tabulate(dtype, &[n, n], difference);
        assert_close(&numbers(&linalg::eigvalsh(&a))?, &want, tolerance);
        let mut singular = numbers(&linalg::svdvals(&a))?;
        singular.reverse();
        assert_close(&singular, &want, tolerance);
    }
    let diagonal = Tensor::from_vec(&[3, 3], vec![3.0f32, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 2.0])?;
    assert_eq!(numbers(&linalg::eigvalsh(&diagonal))?, [-1.0, 2.0, 3.0]);
    Ok(())
}

#[test]
fn derivatives_where_they_are_hard() -> Result<()> {
    // The determinant of a matrix of rank n - 1: its gradient is the matrix of cofactors.
    let a = tabulate(DType::F64, &[4, 4], |at| if at[0] == 3 { 2.0 * mixed(&[0, at[1]]) } else { mixed(at) });
    let gradient = numbers(&grad(|a: &Tensor| linalg::det(a))(&a))?;
    let cofactor = |i: usize, j: usize| -> Result<f64> {
        let data = numbers(&a)?;
        let rest: Vec<f64> = (0..16).filter(|k| k / 4 != i && k % 4 != j).map(|k| data[k]).collect();
        let minor = numbers(&linalg::det(&Tensor::from_vec(&[3, 3], rest)?))?[0];
        Ok(if (i + j).is_multiple_of(2) { minor } else { -minor })
    };
    for (k, got) in gradient.iter().enumerate() {
        let want = cofactor(k / 4, k % 4)?;
        assert!((got - want).abs() < 1e-12, "{got}, not {want}");
    }
    // The pseudo-inverse of an orthogonal matrix, whose singular values are equal: with weights B it is -A⁻ᵀ B A⁻ᵀ.
    let eye = tabulate(DType::F64, &[3, 3], |at| f64::from(u8::from(at[0] == at[1])));
    let b = tabulate(DType::F64, &[3, 3], mixed);
    let weight = b.clone();
    let gradient = grad(move |a: &Tensor| (linalg::pinv(a, None) * &weight).sum())(&eye);
    assert_equal("pinv", &gradient, &-&b, 1e-12)?;
    // Eigenvalues of equal size have derivatives; so has a function of the spectrum by the exponential.
    let sum = grad(|a: &Tensor| linalg::eigvalsh(a).sum())(&eye);
    assert_identity("trace", &sum, 1e-12)?;
    let exponential = grad(|a: &Tensor| linalg::expm(a).sum())(&tabulate(DType::F64, &[3, 3], |_| 0.0));
    assert_close(&numbers(&exponential)?, &[1.0; 9], 1e-12);
    // A solution inside a loss, twice differentiated, at an order whose factors are shared.
    let n = 11;
    let a = tabulate(DType::F64, &[n, n], |at| definite(at) / 50.0);
    let b = tabulate(DType::F64, &[n], mixed);
    let loss = move |b: &Tensor| linalg::solve(&a, b).square().sum();
    let (jacobian, matrix) = (jacrev(grad(loss.clone()))(&b), hessian(loss)(&b));
    assert_equal("hessian", &jacobian, &matrix, 1e-12)?;
    Ok(())
}

#[test]
fn functions_of_matrices() -> Result<()> {
    let turn = |x: f64| Tensor::from_vec(&[2, 2], vec![0.0, -x, x, 0.0]);
    for x in [1e-3, 1.0, 30.0] {
        let rotation = numbers(&linalg::expm(&turn(x)?))?;
        assert_close(&rotation, &[x.cos(), -x.sin(), x.sin(), x.cos()], 1e-11);
    }
    assert!(numbers(&linalg::expm(&turn(1e9)?))?.iter().all(|x| x.is_nan()));
    assert_eq!(linalg::expm(&Tensor::zeros(&[2, 0, 0])).shape(), [2, 0, 0]);
    let a = tabulate(DType::F64, &[3, 3], |at| definite(at) / 90.0);
    let cube = a.matmul(&a).matmul(&a);
    assert_equal("cube", &linalg::matrix_power(&a, 3), &cube, 1e-13)?;
    assert_identity("cube", &linalg::matrix_power(&a, -3).matmul(&cube), 1e-12)?;
    // Equations with a tridiagonal matrix, whose pivots are exchanged.
    let n = 6;
    let band = |at: &[usize]| if at[0].abs_diff(at[1]) <= 1 { mixed(at) } else { 0.0 };
    let a = tabulate(DType::F64, &[2, n, n], |at| band(&at[1..]) * (1.0 + at[0] as f64));
    let of = |shift: isize| {
        let line = linalg::diagonal(&a, shift);
        let edge = Tensor::full(&[2, 1], 0.0, DType::F64);
        match shift {
            -1 => Tensor::concat(&[&edge, &line], 1),
            1 => Tensor::concat(&[&line, &edge], 1),
            _ => line,
        }
    };
    let b = tabulate(DType::F64, &[2, n, 3], mixed);
    let x = linalg::tridiagonal_solve(&of(-1), &of(0), &of(1), &b);
    assert_equal("tridiagonal", &x, &linalg::solve(&a, &b), 1e-9)?;
    // Tensors as equations.
    let a = tabulate(DType::F64, &[2, 3, 6], |at| mixed(at) + if at[0] * 3 + at[1] == at[2] { 4.0 } else { 0.0 });
    let b = tabulate(DType::F64, &[2, 3], mixed);
    let x = linalg::tensorsolve(&a, &b);
    assert_equal("tensorsolve", &linalg::tensordot(&a, &x, &[(-1, 0)]), &b, 1e-12)?;
    assert_equal("tensorinv", &linalg::tensordot(&linalg::tensorinv(&a, 2), &b, &[(1, 0), (2, 1)]), &x, 1e-12)
}

#[test]
fn one_matrix_for_a_batch_of_equations() -> Result<()> {
    let a = tabulate(DType::F64, &[4, 4], |at| definite(at) / 50.0);
    let b = tabulate(DType::F64, &[3, 2, 4, 5], mixed);
    let x = linalg::solve(&a, &b);
    assert_equal(
        "b",
        &a.matmul(&x.index_in_dim(1, 0).index_in_dim(1, 0)),
        &b.index_in_dim(1, 0).index_in_dim(1, 0),
        1e-12,
    )?;
    let vectors = linalg::solve(&tabulate(DType::F64, &[7, 4, 4], definite), &tabulate(DType::F64, &[4], mixed));
    assert_eq!(vectors.shape(), [7, 4]);
    let (factor, lower) = linalg::cho_factor(&a, true);
    assert_equal("cho_solve", &linalg::cho_solve((&factor, lower), &b), &x, 1e-12)?;
    // Integers become f32.
    let whole = Tensor::from_vec(&[2, 2], vec![2i32, 0, 0, 4])?;
    assert_eq!(numbers(&linalg::inv(&whole))?, [0.5, 0.0, 0.0, 0.25]);
    Ok(())
}

#[test]
fn mistakes_are_errors_of_the_op() {
    let (square, wide, vector) = (Tensor::zeros(&[3, 3]), Tensor::zeros(&[2, 3]), Tensor::zeros(&[4]));
    let mistakes: [(&str, Tensor); 12] = [
        ("solve", linalg::solve(&square, &vector)),
        ("solve", linalg::solve(&wide, &vector)),
        ("inv", linalg::inv(&wide)),
        ("det", linalg::det(&vector)),
        ("lu", linalg::lu(&vector).0),
        ("qr", linalg::qr(&vector).1),
        ("eigh", linalg::eigh(&wide).0),
        ("expm", linalg::expm(&wide)),
        ("kron", linalg::multi_dot(&[])),
        ("cross", linalg::cross(&vector, &vector, -1)),
        ("tensordot", linalg::tensordot(&wide, &wide, &[(0, 5)])),
        ("vander", linalg::vander(&wide, 2, false)),
    ];
    for (name, result) in mistakes {
        let error = result.error().unwrap_or_else(|| panic!("{name} is no error"));
        let name = if name == "kron" { "multi_dot" } else { name };
        assert!(error.to_string().contains(name), "{error}");
    }
    let tall = Tensor::zeros(&[4, 2]);
    let error =
        jit(|a: Tensor| grad(|a: &Tensor| linalg::qr_complete(a).0.sum())(&a)).call(tall).expect_err("no derivative");
    assert!(error.to_string().contains("has no derivative"), "{error}");
}
