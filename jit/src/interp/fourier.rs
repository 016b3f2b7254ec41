//! Fourier transforms of lines: see [`transform`].

use super::scalar::round;
use crate::graph::fourier::transform;
use crate::types::TensorType;

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
