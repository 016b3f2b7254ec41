//! The discrete Fourier transform in f64: what [`Op::Fft`](crate::graph::Op::Fft) means.

use std::f64::consts::TAU;

use super::scalar::round;
use crate::types::TensorType;

/// `y[k] = Σ_j x[j] e^{-2πi jk/n}`: real and imaginary parts. By the smallest prime factor of `n`, again and again.
pub(crate) fn transform(re: &[f64], im: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let n = re.len();
    let Some(radix) = (2..=n).find(|&factor| n.is_multiple_of(factor)) else { return (re.to_vec(), im.to_vec()) };
    let m = n / radix;
    // Of the elements j = q + radix i, for each q.
    let parts: Vec<(Vec<f64>, Vec<f64>)> = (0..radix)
        .map(|q| {
            let each = |x: &[f64]| x.iter().skip(q).step_by(radix).copied().collect::<Vec<f64>>();
            transform(&each(re), &each(im))
        })
        .collect();
    let turns: Vec<(f64, f64)> =
        (0..n).map(|k| k as f64 / n as f64 * TAU).map(|angle| (libm::cos(angle), libm::sin(angle))).collect();
    let sum = |k: usize| {
        parts.iter().enumerate().fold((0.0, 0.0), |(a, b), (q, (re, im))| {
            let ((cos, sin), re, im) = (turns[q * k % n], re[k % m], im[k % m]);
            (a + re * cos + im * sin, b + im * cos - re * sin)
        })
    };
    (0..n).map(sum).unzip()
}

/// The transforms of the lines along the last axis, whose parts are `x`.
pub(super) fn fft(ty: &TensorType, inverse: bool, x: &[Vec<u64>]) -> [Vec<u64>; 2] {
    let n = ty.shape.last().copied().unwrap_or(1).max(1);
    let numbers = |x: &[u64]| x.iter().map(|&x| ty.dtype.value(x).to_f64()).collect::<Vec<f64>>();
    let [mut re, mut im] = [numbers(&x[0]), numbers(&x[1])];
    for (re, im) in re.chunks_mut(n).zip(im.chunks_mut(n)) {
        // The inverse is the transform with the parts exchanged, before and after.
        let (a, b) = if inverse { transform(im, re) } else { transform(re, im) };
        let (a, b) = if inverse { (b, a) } else { (a, b) };
        re.copy_from_slice(&a);
        im.copy_from_slice(&b);
    }
    [re, im].map(|x| x.into_iter().map(|x| round(ty.dtype, x)).collect())
}
