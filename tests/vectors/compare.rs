//! Compares a tensor with the one expected, as `numpy.testing.assert_allclose` does.

use fulgurite::Tensor;

/// Are all elements within `atol + rtol |want|`, and the types equal? NaN equals NaN, an infinity itself, -0 equals 0.
pub(crate) fn compare(got: &Tensor, want: &Tensor, rtol: f64, atol: f64) -> Result<(), String> {
    if got.ty() != want.ty() {
        return Err(format!("{} instead of {}", got.ty(), want.ty()));
    }
    let elements = |x: &Tensor| x.array().map(|array| array.to_f64_vec().unwrap()).map_err(|error| error.to_string());
    let (got, want) = (elements(got)?, elements(want)?);
    // By how much an element misses; infinite where there is no saying.
    let miss = |(&got, &want): (&f64, &f64)| match (got - want).abs() {
        _ if got == want || (got.is_nan() && want.is_nan()) => 0.0,
        error if error.is_finite() => error - (atol + rtol * want.abs()),
        _ => f64::INFINITY,
    };
    let misses: Vec<f64> = got.iter().zip(&want).map(miss).collect();
    let wrong = misses.iter().filter(|&&miss| miss > 0.0).count();
    let worst = (0..misses.len()).max_by(|&i, &j| misses[i].total_cmp(&misses[j]));
    match worst {
        Some(i) if wrong > 0 => Err(format!(
            "{wrong} of {} elements differ (rtol {rtol:e}, atol {atol:e}); worst is element {i}: got {:e}, want {:e}",
            misses.len(),
            got[i],
            want[i],
        )),
        _ => Ok(()),
    }
}

#[test]
fn what_is_equal() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let differs =
        |got: f32, want: f32, rtol, atol| compare(&Tensor::scalar(got), &Tensor::scalar(want), rtol, atol).is_err();
    assert!([(nan, nan), (inf, inf), (0.0, -0.0)].into_iter().all(|(x, y)| !differs(x, y, 0.0, 0.0)));
    let different = [(nan, 0.0), (0.0, nan), (inf, -inf), (1.0, inf), (inf, 1.0), (nan, inf)];
    assert!(different.into_iter().all(|(x, y)| differs(x, y, 0.1, 0.1)));
    assert!(differs(1.0f32.next_up(), 1.0, 0.0, 0.0) && !differs(1.0f32.next_up(), 1.0, 2e-7, 0.0));
    assert!(differs(0.3, 0.0, 0.5, 0.2) && !differs(0.3, 0.4, 0.0, 0.2) && !differs(0.3, 0.4, 0.5, 0.0));
    let types = compare(&Tensor::scalar(1i32), &Tensor::scalar(1u32), 1.0, 1.0);
    assert_eq!(types.expect_err("other types"), "i32[] instead of u32[]");
    let shapes = compare(&Tensor::zeros(&[2, 1]), &Tensor::zeros(&[2]), 1.0, 1.0);
    assert!(shapes.is_err());
}
