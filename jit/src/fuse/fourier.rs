//! Fourier transforms as elementwise programs: a `fft` becomes passes over the lines, each of which divides what is
//! left of the transform by its radix.
//!
//! A pass is decimation in frequency with sorted output (Stockham; see Swarztrauber, "FFT algorithms for vector
//! computers", Parallel Computing 1, 1984): of a transform of `n = r m`, the element `j + m q` goes into `r` sums over
//! `q`, times `ω_n^{jk}`, of which each is an element of a transform of `m`. What has been done lies behind, so that
//! all but the first pass run along contiguous elements. Radices are up to 16, straight-line; a larger prime factor is
//! a product with the matrix of its transform, and a transform with a prime factor above [`LARGEST_PRIME`] is a
//! convolution by transforms of a power of two (Bluestein, 1970). Twiddle factors are constants, computed in f64.

use std::f64::consts::{FRAC_1_SQRT_2, TAU};

use smallvec::{SmallVec, smallvec};

use super::normalise::Emit;
use crate::array::Array;
use crate::graph::fourier;
use crate::graph::{BinaryOp, Constant, DotAxes, Literal, Node, Op, Operands, ValueId};
use crate::types::{DType, TensorType};

/// The largest prime that a pass divides by.
const LARGEST_PRIME: usize = 61;

/// The largest radix whose sums are straight-line code.
const LARGEST_RADIX: usize = 16;

/// Real and imaginary part.
type Pair = [ValueId; 2];

/// The radices of the passes of a transform of `n`; `None` if it has too large a prime factor.
fn radices(n: usize) -> Option<SmallVec<[usize; 8]>> {
    let twos = n.trailing_zeros();
    // 16 first: the passes after it then have rows of at least a vector.
    let exponents: SmallVec<[u32; 8]> = match twos {
        0 => smallvec![],
        1..=4 => smallvec![twos],
        5 => smallvec![3, 2],
        6 => smallvec![4, 2],
        _ => {
            let rest = twos - 4;
            let last: &[u32] = [&[][..], &[2, 2], &[2]][rest as usize % 3];
            let eights = (rest - last.iter().sum::<u32>()) / 3;
            std::iter::once(4).chain((0..eights).map(|_| 3)).chain(last.iter().copied()).collect()
        }
    };
    let mut all: SmallVec<[usize; 8]> = exponents.iter().map(|exponent| 1 << exponent).collect();
    let (mut rest, mut factor) = (n >> twos, 3);
    while rest > 1 {
        if factor * factor > rest {
            factor = rest;
        }
        if factor > LARGEST_PRIME {
            return None;
        }
        while rest.is_multiple_of(factor) {
            all.push(factor);
            rest /= factor;
        }
        factor += 2;
    }
    Some(all)
}

/// Cosine and sine of `k / n` of a turn.
fn turn(k: usize, n: usize) -> (f64, f64) {
    let angle = (k % n) as f64 / n as f64 * TAU;
    (libm::cos(angle), libm::sin(angle))
}

impl Emit<'_> {
    /// A `fft` of lines of at least one element: both results.
    pub(super) fn fft(&mut self, inverse: bool, x: Pair) -> Pair {
        let shape = self.ty(x[0]).shape;
        let n = shape[shape.len() - 1];
        let lines = shape[..shape.len() - 1].iter().product();
        // The inverse is the transform with the parts exchanged, before and after.
        let exchanged = |[re, im]: Pair| if inverse { [im, re] } else { [re, im] };
        let x = exchanged(x).map(|x| self.reshape(x, &[lines, n]));
        let y = self.transform(x, lines, n);
        exchanged(y.map(|y| self.reshape(y, &shape)))
    }

    /// The transforms of `[lines, n]`.
    fn transform(&mut self, mut x: Pair, lines: usize, n: usize) -> Pair {
        let Some(radices) = radices(n) else { return self.convolution(x, lines, n) };
        let (mut left, mut done) = (n, 1);
        for radix in radices {
            x = self.pass(x, [lines, left, done], radix);
            (left, done) = (left / radix, done * radix);
        }
        x.map(|x| self.reshape(x, &[lines, n]))
    }

    /// One pass over `[lines, left, done]`.
    fn pass(&mut self, x: Pair, [lines, left, done]: [usize; 3], radix: usize) -> Pair {
        let rest = left / radix;
        let x = x.map(|x| self.reshape(x, &[lines, radix, rest, done]));
        let sums = if radix <= LARGEST_RADIX {
            let part = |emit: &mut Self, q: usize, x: ValueId| {
                let part = emit.slice(x, 1, q..q + 1);
                emit.reshape(part, &[lines, rest, done])
            };
            let parts: Vec<Pair> = (0..radix).map(|q| x.map(|x| part(self, q, x))).collect();
            if radix.is_power_of_two() { self.sums_of_two(&parts) } else { self.sums_of_odd(&parts) }
        } else {
            self.sums_by_product(x, radix)
        };
        let factors = (rest > 1).then(|| {
            let factor = |i: usize| turn(i / rest * (i % rest), left);
            let dtype = self.ty(x[0]).dtype;
            let all: Vec<(f64, f64)> = (0..left).map(factor).collect();
            [all.iter().map(|f| f.0).collect(), all.iter().map(|f| f.1).collect()]
                .map(|values: Vec<f64>| self.constant(dtype, &[radix, rest], &values))
        });
        let turned: Vec<Pair> = (sums.into_iter().enumerate())
            .map(|(k, sum)| match factors {
                Some(factors) if k > 0 => {
                    let factors = factors.map(|factors| {
                        let factors = self.slice(factors, 0, k..k + 1);
                        let factors = self.reshape(factors, &[rest]);
                        self.push(Op::Broadcast { shape: smallvec![lines, rest, done], dims: smallvec![1] }, &[factors])
                    });
                    self.turned(sum, factors)
                }
                _ => sum,
            })
            .collect();
        [0, 1].map(|of| {
            let parts: Vec<ValueId> =
                turned.iter().map(|pair| self.reshape(pair[of], &[lines, rest, 1, done])).collect();
            let all = if parts.len() == 1 { parts[0] } else { self.push(Op::Concat(2), &parts) };
            self.reshape(all, &[lines, rest, radix * done])
        })
    }

    /// The transform of as many values as there are parts, a power of two: that of the even ones, and of the odd ones,
    /// turned.
    fn sums_of_two(&mut self, parts: &[Pair]) -> Vec<Pair> {
        let n = parts.len();
        if n == 1 {
            return parts.to_vec();
        }
        let each_second = |from: usize| parts.iter().skip(from).step_by(2).copied().collect::<Vec<Pair>>();
        let (even, odd) = (self.sums_of_two(&each_second(0)), self.sums_of_two(&each_second(1)));
        let (sums, differences): (Vec<Pair>, Vec<Pair>) =
            (0..n / 2).map(|k| self.butterfly(even[k], odd[k], k, n)).unzip();
        [sums, differences].concat()
    }

    /// `x + ω y` and `x - ω y`, where ω is `k / n` of a turn clockwise, less than half of one.
    fn butterfly(&mut self, x: Pair, y: Pair, k: usize, n: usize) -> (Pair, Pair) {
        let [re, im] = y;
        // ω y as a pair, and whether its imaginary part is to be subtracted.
        let (y, negative) = match 8 * k / n {
            0 if k == 0 => (y, false),
            // -i y.
            2 if 4 * k == n => ([im, re], true),
            // (1 - i) y / √2, and (-1 - i) y / √2.
            1 if 8 * k == n => {
                let (sum, difference) = (self.add(re, im), self.sub(im, re));
                ([sum, difference].map(|x| self.scaled(x, FRAC_1_SQRT_2)), false)
            }
            3 if 8 * k == 3 * n => {
                let (difference, sum) = (self.sub(im, re), self.add(re, im));
                ([difference, sum].map(|x| self.scaled(x, FRAC_1_SQRT_2)), true)
            }
            _ => {
                let (cos, sin) = turn(k, n);
                let (a, b) = (self.scaled(re, cos), self.scaled(im, sin));
                let (c, d) = (self.scaled(im, cos), self.scaled(re, sin));
                ([self.add(a, b), self.sub(c, d)], false)
            }
        };
        let real = (self.add(x[0], y[0]), self.sub(x[0], y[0]));
        let (sum, difference) = (self.add(x[1], y[1]), self.sub(x[1], y[1]));
        let imaginary = if negative { (difference, sum) } else { (sum, difference) };
        ([real.0, imaginary.0], [real.1, imaginary.1])
    }

    /// The transform of as many values as there are parts, an odd number: of the sums of those that mirror each other
    /// the cosines, of their differences the sines.
    fn sums_of_odd(&mut self, parts: &[Pair]) -> Vec<Pair> {
        let n = parts.len();
        let mirrored = |j: usize| (parts[j], parts[n - j]);
        let sums: Vec<Pair> = (1..=n / 2).map(mirrored).map(|(x, y)| [0, 1].map(|of| self.add(x[of], y[of]))).collect();
        let differences: Vec<Pair> =
            (1..=n / 2).map(mirrored).map(|(x, y)| [0, 1].map(|of| self.sub(x[of], y[of]))).collect();
        let mut all = vec![parts[0]; n];
        all[0] = sums.iter().fold(parts[0], |total, sum| [0, 1].map(|of| self.add(total[of], sum[of])));
        for k in 1..=n / 2 {
            let of_even = [0, 1].map(|of| {
                sums.iter().zip(1..).fold(parts[0][of], |total, (sum, j)| {
                    let term = self.scaled(sum[of], turn(j * k, n).0);
                    self.add(total, term)
                })
            });
            let of_odd = [0, 1].map(|of| {
                let terms: Vec<ValueId> = (differences.iter().zip(1..))
                    .map(|(difference, j)| self.scaled(difference[of], turn(j * k, n).1))
                    .collect();
                terms.into_iter().reduce(|total, term| self.add(total, term)).expect("at least three values")
            });
            all[k] = [self.add(of_even[0], of_odd[1]), self.sub(of_even[1], of_odd[0])];
            all[n - k] = [self.sub(of_even[0], of_odd[1]), self.add(of_even[1], of_odd[0])];
        }
        all
    }

    /// The transforms along axis 1 of `[lines, radix, rest, done]`, by products with a matrix.
    fn sums_by_product(&mut self, x: Pair, radix: usize) -> Vec<Pair> {
        let TensorType { dtype, shape } = self.ty(x[0]);
        let (lines, rest, done) = (shape[0], shape[2], shape[3]);
        let entries: Vec<(f64, f64)> = (0..radix * radix).map(|i| turn(i / radix * (i % radix), radix)).collect();
        let matrices = [entries.iter().map(|e| e.0).collect(), entries.iter().map(|e| e.1).collect()]
            .map(|values: Vec<f64>| self.constant(dtype, &[1, radix, radix], &values));
        let x = x.map(|x| self.reshape(x, &[lines, radix, rest * done]));
        let mut product = |matrix: ValueId, x: ValueId| {
            let matrix =
                self.push(Op::Broadcast { shape: smallvec![lines, radix, radix], dims: smallvec![0, 1, 2] }, &[matrix]);
            let axes = DotAxes { batch: smallvec![(0, 0)], contract: smallvec![(2, 1)] };
            self.push(Op::Dot(axes, None), &[matrix, x])
        };
        let [cos, sin] = matrices;
        let (a, b, c, d) = (product(cos, x[0]), product(sin, x[1]), product(cos, x[1]), product(sin, x[0]));
        let sums = [self.add(a, b), self.sub(c, d)];
        let part = |emit: &mut Self, k: usize, x: ValueId| {
            let part = emit.slice(x, 1, k..k + 1);
            emit.reshape(part, &[lines, rest, done])
        };
        (0..radix).map(|k| sums.map(|x| part(self, k, x))).collect()
    }

    /// The transform of any `n`, from `2 j k = j² + k² - (k - j)²`: a convolution with `e^{iπ j²/n}`.
    fn convolution(&mut self, x: Pair, lines: usize, n: usize) -> Pair {
        let length = (2 * n - 1).next_power_of_two();
        let dtype = self.ty(x[0]).dtype;
        // j² is taken modulo 2 n, where the turn begins again.
        let square = |j: usize| ((j as u128 * j as u128) % (2 * n) as u128) as usize;
        let chirp: Vec<(f64, f64)> = (0..n).map(|j| turn(square(j), 2 * n)).collect();
        let factors =
            [chirp.iter().map(|f| f.0).collect(), chirp.iter().map(|f| f.1).collect()].map(|values: Vec<f64>| {
                let factors = self.constant(dtype, &[n], &values);
                self.push(Op::Broadcast { shape: smallvec![lines, n], dims: smallvec![1] }, &[factors])
            });
        // The other factor of the convolution, transformed, with the scale of the inverse transform.
        let (mut re, mut im) = (vec![0.0; length], vec![0.0; length]);
        for (j, &(cos, sin)) in chirp.iter().enumerate() {
            for at in [j, (length - j) % length] {
                (re[at], im[at]) = (cos, sin);
            }
        }
        let (re, im) = fourier::transform(&re, &im);
        let other = [re, im].map(|values| {
            let values: Vec<f64> = values.iter().map(|x| x / length as f64).collect();
            let other = self.constant(dtype, &[length], &values);
            self.push(Op::Broadcast { shape: smallvec![lines, length], dims: smallvec![1] }, &[other])
        });
        let x = self.turned(x, factors);
        let x = x.map(|x| {
            let zero = self.literal(dtype, 0.0);
            let high = smallvec![0, (length - n) as isize];
            self.push(Op::Pad { low: smallvec![0, 0], high, interior: smallvec![0, 0] }, &[x, zero])
        });
        let [re, im] = self.transform(x, lines, length);
        // The product with the other factor, and the inverse transform, by exchanged parts.
        let (a, b) = (self.mul(re, other[0]), self.mul(im, other[1]));
        let (c, d) = (self.mul(re, other[1]), self.mul(im, other[0]));
        let product = [self.sub(a, b), self.add(c, d)];
        let [im, re] = self.transform([product[1], product[0]], lines, length);
        let sums = [re, im].map(|x| self.slice(x, 1, 0..n));
        self.turned(sums, factors)
    }

    /// `x` turned clockwise: times `cos - i sin`.
    fn turned(&mut self, [re, im]: Pair, [cos, sin]: Pair) -> Pair {
        let (a, b) = (self.mul(re, cos), self.mul(im, sin));
        let (c, d) = (self.mul(im, cos), self.mul(re, sin));
        [self.add(a, b), self.sub(c, d)]
    }

    fn add(&mut self, x: ValueId, y: ValueId) -> ValueId {
        self.push(Op::Binary(BinaryOp::Add), &[x, y])
    }

    fn sub(&mut self, x: ValueId, y: ValueId) -> ValueId {
        self.push(Op::Binary(BinaryOp::Sub), &[x, y])
    }

    fn mul(&mut self, x: ValueId, y: ValueId) -> ValueId {
        self.push(Op::Binary(BinaryOp::Mul), &[x, y])
    }

    fn scaled(&mut self, x: ValueId, by: f64) -> ValueId {
        let TensorType { dtype, shape } = self.ty(x);
        let by = self.full(Literal::new(dtype, by), &shape);
        self.mul(x, by)
    }

    fn literal(&mut self, dtype: DType, value: f64) -> ValueId {
        self.full(Literal::new(dtype, value), &[])
    }

    fn constant(&mut self, dtype: DType, shape: &[usize], values: &[f64]) -> ValueId {
        let ty = TensorType::new(dtype, shape);
        let bits: Vec<u64> = values.iter().map(|&x| dtype.bits(x)).collect();
        let array = Array::from_bits(&ty, &bits).expect("as many elements as the shape has");
        let constant = Constant::new(&array).expect("an array on the host");
        let location = self.node.location;
        self.graph.push(Node { op: Op::Constant(constant), operands: Operands::new(), ty, location })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn radices_multiply_to_the_length() {
        for n in 1..3000usize {
            match radices(n) {
                Some(all) => {
                    assert_eq!(all.iter().product::<usize>(), n);
                    assert!(all.iter().all(|&r| r <= LARGEST_PRIME));
                }
                None => assert!((LARGEST_PRIME + 1..=n).any(|p| n.is_multiple_of(p) && (2..p).all(|q| p % q != 0))),
            }
        }
        assert_eq!(radices(1 << 10).expect("a power of two")[..], [16, 8, 8]);
        assert_eq!(radices(1 << 11).expect("a power of two")[..], [16, 8, 4, 4]);
    }
}
