//! Functions of matrices: powers and the exponential.

use super::{MatrixNorm, identity, inv, matrix_norm, product, square};
use crate::front::control::Scan;
use crate::front::tensor::Tensor;
use crate::graph::Op;
use crate::types::DType;

/// The power `n` of matrices, of the inverses where it is negative: `jax.numpy.linalg.matrix_power`.
///
/// `a` has shape `[…, k, k]`. The power 0 is the identity.
///
/// # Errors
/// The result stands for an error if the matrices are not square.
#[track_caller]
pub fn matrix_power(a: &Tensor, n: i32) -> Tensor {
    let a = match square("matrix_power", a) {
        Ok((a, _)) => a,
        Err(error) => return error,
    };
    let mut square = if n < 0 { inv(&a) } else { a.clone() };
    let (mut rest, mut power) = (n.unsigned_abs(), None);
    // Of the binary digits, from the last on.
    while rest > 0 {
        if rest % 2 == 1 {
            power = Some(match power {
                None => square.clone(),
                Some(power) => product(&power, &square),
            });
        }
        rest /= 2;
        if rest > 0 {
            square = product(&square, &square);
        }
    }
    match power {
        Some(power) => power,
        None => identity(&a),
    }
}

/// The coefficients of the diagonal Padé approximant of the exponential, and the norm up to which it has all bits:
/// Higham, "The scaling and squaring method for the matrix exponential revisited", SIAM J. Matrix Anal. Appl. 26 (2005),
/// table 2.3 and (2.10); the bound for f32 is that for a unit roundoff of 2⁻²⁴.
fn pade(dtype: DType) -> (&'static [f64], f64) {
    match dtype {
        DType::F64 => (
            &[
                64_764_752_532_480_000.0,
                32_382_376_266_240_000.0,
                7_771_770_303_897_600.0,
                1_187_353_796_428_800.0,
                129_060_195_264_000.0,
                10_559_470_521_600.0,
                670_442_572_800.0,
                33_522_128_640.0,
                1_323_241_920.0,
                40_840_800.0,
                960_960.0,
                16_380.0,
                182.0,
                1.0,
            ],
            5.371_920_351_148_152,
        ),
        _ => (&[17_297_280.0, 8_648_640.0, 1_995_840.0, 277_200.0, 25_200.0, 1_512.0, 56.0, 1.0], 3.925_724_783_138_66),
    }
}

/// The most squarings.
const MAX_SQUARINGS: usize = 16;

/// The exponentials of matrices, `1 + A + A² / 2 + …`: `jax.scipy.linalg.expm`.
///
/// `a` has shape `[…, n, n]`. It is scaled down by a power of two, the Padé approximant of order 7 (f32) or 13 (f64) is
/// taken, and squared as often; a matrix whose norm is above about 2¹⁸ gives NaN.
///
/// # Errors
/// The result stands for an error if the matrices are not square.
#[track_caller]
pub fn expm(a: &Tensor) -> Tensor {
    let a = match square("expm", a) {
        Ok((a, 0)) => return a,
        Ok((a, _)) => a,
        Err(error) => return error,
    };
    let (c, limit) = pade(a.dtype());
    let norm = matrix_norm(&a.stop_gradient(), MatrixNorm::One).expand_dims(-1).expand_dims(-1);
    let squarings = ((&norm / limit).log() / std::f64::consts::LN_2).ceil().maximum(0.0);
    let is_large = squarings.greater(MAX_SQUARINGS as f64);
    let squarings = is_large.select(0.0, &squarings);
    let a = is_large.select(f64::NAN, &a * (-&squarings).exp2());
    // Odd and even powers: U = A (c₁ + c₃ A² + …), V = c₀ + c₂ A² + …; e^A = (V - U)⁻¹ (V + U).
    let (one, a2) = (identity(&a), product(&a, &a));
    let mut powers = vec![one, a2.clone()];
    let direct = if c.len() > 8 { 3 } else { c.len() / 2 - 1 };
    for _ in 1..direct {
        let next = product(&powers[powers.len() - 1], &a2);
        powers.push(next);
    }
    let mut sums = Vec::new();
    for parity in [1, 0] {
        let mut sum = &powers[0] * c[parity];
        for (k, power) in powers.iter().enumerate().skip(1) {
            sum = sum + power * c[2 * k + parity];
        }
        if c.len() > 8 {
            // The higher powers are products with A⁶.
            let mut high = &powers[1] * c[8 + parity];
            for (k, power) in powers.iter().enumerate().skip(2) {
                high = high + power * c[6 + 2 * k + parity];
            }
            sum = sum + product(&powers[3], &high);
        }
        sums.push(sum);
    }
    let (u, v) = (product(&a, &sums[0]), &sums[1]);
    let location = std::panic::Location::caller();
    let r = crate::front::trace::apply(Op::Solve { transpose_a: false }, &[&(v - &u), &(v + &u)], location);
    let squared = |r: Tensor, step: Tensor| {
        let is_due = squarings.greater(step.convert(squarings.dtype()));
        (is_due.select(product(&r, &r), &r), ())
    };
    let steps = Tensor::arange(DType::I32, MAX_SQUARINGS);
    Scan { length: Some(MAX_SQUARINGS), reverse: false }.run(squared, r, steps).0
}
