//! The discrete Fourier transform in f64: what [`Op::Fft`](super::Op::Fft) means, and how its constants are made.

use std::f64::consts::TAU;

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
