//! Singular values and the eigenvalues of symmetric matrices, by one-sided Jacobi rotations.
//!
//! Rotations of pairs of columns make the columns of `W = A V` orthogonal: Hestenes, "Inversion of matrices by
//! biorthogonalization and related results" (1958); the larger of two columns comes first, after de Rijk, "A one-sided
//! Jacobi algorithm for computing the singular value decomposition on a vector computer" (1989). Then the norms of the
//! columns are the singular values, and QR factors of W have U, also where singular values are 0. It is as accurate as
//! LAPACK's drivers or more; the pairs of a round are independent of each other.
//!
//! A symmetric A is made positive definite first, by a multiple of the identity; its eigenvalues are Rayleigh
//! quotients.

use super::{Backend, Limits, Scale, identity, qr, scale};

/// The most sweeps over all pairs; a few more than ten are needed for the largest matrices.
const SWEEPS: usize = 30;

/// Columns, each of so many contiguous elements.
type Columns<A> = (A, usize);

/// The sums of squares of columns `p` and `q`, and of the products of their elements: four partial sums each.
#[inline(always)]
fn sums<B: Backend>(b: &mut B, (w, m): Columns<B::Array>, p: B::Index, q: B::Index) -> [B::Real; 3] {
    const PARTS: usize = 4;
    let none = b.real(0.0);
    let zero = b.index(0);
    let (p, q) = (b.at(p, m, zero), b.at(q, m, zero));
    let add = |b: &mut B, sums: &mut [B::Real; 3 * PARTS], part: usize, at: B::Index| {
        let (p, q) = (b.plus(p, at), b.plus(q, at));
        let (x, y) = (b.load(w, p), b.load(w, q));
        for (kind, [x, y]) in [[x, x], [y, y], [x, y]].into_iter().enumerate() {
            let product = b.mul(x, y);
            sums[PARTS * kind + part] = b.add(sums[PARTS * kind + part], product);
        }
    };
    let whole = b.index(m / PARTS);
    let mut all = b.fold(zero, whole, [none; 3 * PARTS], |b, group, mut sums| {
        for part in 0..PARTS {
            let offset = b.index(part);
            let at = b.at(group, PARTS, offset);
            add(b, &mut sums, part, at);
        }
        sums
    });
    for part in 0..m % PARTS {
        let at = b.index(m / PARTS * PARTS + part);
        add(b, &mut all, part, at);
    }
    [0, 1, 2].map(|kind| {
        let [w, x, y, z] = [0, 1, 2, 3].map(|part| all[PARTS * kind + part]);
        let (left, right) = (b.add(w, x), b.add(y, z));
        b.add(left, right)
    })
}

/// Rotates `n` columns until they are orthogonal, and those of `v` with them; the largest becomes the first, or the
/// last one. `flags` has memory for n elements.
#[inline(always)]
fn orthogonalise<B: Backend>(
    b: &mut B,
    w: Columns<B::Array>,
    v: Columns<B::Array>,
    n: usize,
    is_ascending: bool,
    flags: B::Array,
    limits: Limits,
) {
    if n < 2 {
        return;
    }
    // A tournament: in each round every column is in one pair, but for one where n is odd.
    let rounds = (n - 1) | 1;
    let [zero, all_rounds, last] = [0, rounds, n - 1].map(|i| b.index(i));
    let (first, end) = (b.index(n % 2), b.index((rounds - 1) / 2 + 1));
    let tolerance = 2.0 * limits.rounding * (w.1 as f64).sqrt();
    b.repeat(SWEEPS, |b| {
        b.each(first, end, |b, t| {
            let none = b.real(0.0);
            b.store(flags, t, none);
        });
        b.in_order(zero, all_rounds, |b, round| {
            b.each(first, end, |b, t| {
                let (ahead, back) = (b.plus(round, t), b.plus(round, all_rounds));
                let back = b.minus(back, t);
                let (p, q) = (b.modulo(ahead, rounds), b.modulo(back, rounds));
                let q = b.if_zero(t, last, q);
                let [p, q] = b.ordered(p, q);
                let is_changed = rotate(b, [w, v], [p, q], is_ascending, tolerance, limits);
                let one = b.real(1.0);
                b.store_if(is_changed, flags, t, one);
            });
        });
        let none = b.real(0.0);
        let [changes] = b.fold(first, end, [none], |b, t, [changes]| {
            let flag = b.load(flags, t);
            [b.add(changes, flag)]
        });
        b.sync();
        b.less(none, changes)
    });
}

/// Makes two columns orthogonal and orders them; whether there was something to do.
#[inline(always)]
fn rotate<B: Backend>(
    b: &mut B,
    [w, v]: [Columns<B::Array>; 2],
    [p, q]: [B::Index; 2],
    is_ascending: bool,
    tolerance: f64,
    limits: Limits,
) -> B::Bool {
    let [pp, qq, pq] = sums(b, w, p, q);
    let (norm_p, norm_q, size) = (b.sqrt(pp), b.sqrt(qq), b.abs(pq));
    let tolerance = b.real(tolerance);
    let least = b.mul(tolerance, norm_p);
    let least = b.mul(least, norm_q);
    let is_rotated = b.less(least, size);
    let is_swapped = if is_ascending { b.less(qq, pp) } else { b.less(pp, qq) };
    let is_changed = b.or(is_rotated, is_swapped);
    b.when(is_changed, |b| {
        // Golub, Van Loan, section 8.5.2: the smaller root of t² + 2 ζ t - 1 = 0 is the tangent of the angle.
        let [none, half, one, limit] = [0.0, 0.5, 1.0, 1.0 / limits.rounding].map(|x| b.real(x));
        let (difference, twice) = (b.sub(qq, pp), b.add(pq, pq));
        let zeta = b.div(difference, twice);
        let size = b.abs(zeta);
        let square = b.mul(zeta, zeta);
        let square = b.add(square, one);
        let root = b.sqrt(square);
        let sum = b.add(size, root);
        let (t, small) = (b.div(one, sum), b.div(half, size));
        let is_small = b.less(limit, size);
        let t = b.select(is_small, small, t);
        let (is_negative, opposite) = (b.less(zeta, none), b.sub(none, t));
        let t = b.select(is_negative, opposite, t);
        let square = b.mul(t, t);
        let square = b.add(square, one);
        let root = b.sqrt(square);
        let cosine = b.div(one, root);
        let sine = b.mul(cosine, t);
        let (c, s) = (b.select(is_rotated, cosine, one), b.select(is_rotated, sine, none));
        for (array, length) in [w, v] {
            let [zero, end] = [0, length].map(|i| b.index(i));
            let (at_p, at_q) = (b.at(p, length, zero), b.at(q, length, zero));
            b.in_order(zero, end, |b, i| {
                let (at_p, at_q) = (b.plus(at_p, i), b.plus(at_q, i));
                let (x, y) = (b.load(array, at_p), b.load(array, at_q));
                let (cx, sy, sx, cy) = (b.mul(c, x), b.mul(s, y), b.mul(s, x), b.mul(c, y));
                let (x, y) = (b.sub(cx, sy), b.add(sx, cy));
                let (first, second) = (b.select(is_swapped, y, x), b.select(is_swapped, x, y));
                b.store_if(is_changed, array, at_p, first);
                b.store_if(is_changed, array, at_q, second);
            });
        }
    });
    is_changed
}

/// -1 where the largest element of column `j` of `v`, the first of several, is negative; otherwise 1.
#[inline(always)]
fn sign<B: Backend>(b: &mut B, v: B::Array, n: usize, j: B::Index) -> B::Real {
    let [zero, columns] = [0, n].map(|i| b.index(i));
    let start = b.at(j, n, zero);
    let none = b.real(0.0);
    // The largest element with its sign: the index is not needed.
    let [_, largest] = b.fold(zero, columns, [none, none], |b, i, [most, largest]| {
        let e = b.plus(start, i);
        let x = b.load(v, e);
        let size = b.abs(x);
        let is_more = b.less(most, size);
        [b.select(is_more, size, most), b.select(is_more, x, largest)]
    });
    let [one, opposite] = [1.0, -1.0].map(|x| b.real(x));
    let is_negative = b.less(largest, none);
    b.select(is_negative, opposite, one)
}

/// Multiplies column `j` by a number.
#[inline(always)]
fn multiply<B: Backend>(b: &mut B, (array, length): Columns<B::Array>, j: B::Index, by: B::Real) {
    let [zero, end] = [0, length].map(|i| b.index(i));
    let start = b.at(j, length, zero);
    b.in_order(zero, end, |b, i| {
        let e = b.plus(start, i);
        let x = b.load(array, e);
        let x = b.mul(x, by);
        b.store(array, e, x);
    });
}

/// The decomposition of the first operand, which has at least as many rows as columns.
#[inline(always)]
pub(super) fn svd<B: Backend>(b: &mut B, [m, n]: [usize; 2], is_full: bool, limits: Limits) {
    let width = if is_full { m } else { n };
    let (w, a, v, u) = (b.reals(m * n), b.reals(m * n), b.reals(n * n), b.reals(m * width));
    let (line, taus, norms) = (b.reals(2 * m.max(n) + 2), b.reals(n + 1), b.reals(n + 1));
    let Scale { by, back, poison } = scale(b, [m, n], line, limits);
    let [zero, rows, columns, end] = [0, m, n, width].map(|i| b.index(i));
    b.grid(
        [zero, rows],
        [zero, columns],
        |_, _| (),
        |b, i, j, ()| {
            let (from, to) = (b.at(i, n, j), b.at(j, m, i));
            let x = b.read(0, from);
            let x = b.mul(x, by);
            b.store(w, to, x);
        },
    );
    identity(b, v, [n, n]);
    orthogonalise(b, (w, m), (v, n), n, false, line, limits);
    b.each(zero, columns, |b, j| {
        let sign = sign(b, v, n, j);
        multiply(b, (v, n), j, sign);
        multiply(b, (w, m), j, sign);
        let [square, ..] = sums(b, (w, m), j, j);
        let norm = b.sqrt(square);
        b.store(norms, j, norm);
        let norm = b.mul(norm, back);
        let norm = b.add(norm, poison);
        b.write(1, j, norm);
    });
    b.grid(
        [zero, columns],
        [zero, columns],
        |_, _| (),
        |b, i, j, ()| {
            let e = b.at(i, n, j);
            let x = b.load(v, e);
            let x = b.add(x, poison);
            b.write(2, e, x);
        },
    );
    b.grid(
        [zero, rows],
        [zero, columns],
        |_, _| (),
        |b, i, j, ()| {
            let (from, to) = (b.at(j, m, i), b.at(i, n, j));
            let x = b.load(w, from);
            b.store(a, to, x);
        },
    );
    // The columns of Q are those of W, divided by their norms, but for signs, which are those of the diagonal of R.
    qr::reflect(b, a, [m, n], taus, line);
    qr::orthogonal(b, u, a, [m, n, width], taus, line);
    b.each(zero, columns, |b, j| {
        let e = b.at(j, n, j);
        let (x, none) = (b.load(a, e), b.real(0.0));
        let is_negative = b.less(x, none);
        let [one, opposite] = [1.0, -1.0].map(|x| b.real(x));
        let sign = b.select(is_negative, opposite, one);
        b.store(line, j, sign);
    });
    b.each(columns, end, |b, j| {
        let one = b.real(1.0);
        b.store(line, j, one);
    });
    b.grid(
        [zero, rows],
        [zero, end],
        |_, _| (),
        |b, i, j, ()| {
            let e = b.at(i, width, j);
            let (x, sign) = (b.load(u, e), b.load(line, j));
            let x = b.mul(x, sign);
            let x = b.add(x, poison);
            b.write(0, e, x);
        },
    );
}

/// The eigenvalues, ascending, and the eigenvectors of the first operand, whose lower triangle is read.
#[inline(always)]
pub(super) fn eigh<B: Backend>(b: &mut B, n: usize, limits: Limits) {
    let (a, w, v) = (b.reals(n * n), b.reals(n * n), b.reals(n * n));
    let (line, values) = (b.reals(2 * n + 2), b.reals(n + 1));
    let Scale { by, back, poison } = scale(b, [n, n], line, limits);
    let [zero, one, columns] = [0, 1, n].map(|i| b.index(i));
    b.grid(
        [zero, columns],
        [zero, columns],
        |_, _| (),
        |b, i, j, ()| {
            let [column, row] = b.ordered(i, j);
            let (from, to) = (b.at(row, n, column), b.at(i, n, j));
            let x = b.read(0, from);
            let x = b.mul(x, by);
            b.store(a, to, x);
        },
    );
    // No eigenvalue is larger than the largest sum of magnitudes of a row.
    b.each(zero, columns, |b, i| {
        let none = b.real(0.0);
        let start = b.at(i, n, zero);
        let [sum] = b.fold(zero, columns, [none], |b, j, [sum]| {
            let e = b.plus(start, j);
            let x = b.load(a, e);
            let size = b.abs(x);
            [b.add(sum, size)]
        });
        b.store(line, i, sum);
    });
    let none = b.real(0.0);
    let [bound] = b.fold(zero, columns, [none], |b, i, [most]| {
        let sum = b.load(line, i);
        let is_more = b.less(most, sum);
        [b.select(is_more, sum, most)]
    });
    let shift = b.add(bound, bound);
    b.grid(
        [zero, columns],
        [zero, columns],
        |_, _| (),
        |b, i, j, ()| {
            let (is_before, is_after) = (b.precedes(i, j), b.precedes(j, i));
            let is_other = b.or(is_before, is_after);
            let e = b.at(i, n, j);
            let x = b.load(a, e);
            let shifted = b.add(x, shift);
            let x = b.select(is_other, x, shifted);
            b.store(w, e, x);
        },
    );
    identity(b, v, [n, n]);
    orthogonalise(b, (w, n), (v, n), n, true, line, limits);
    b.each(zero, columns, |b, j| {
        let sign = sign(b, v, n, j);
        let start = b.at(j, n, zero);
        let none = b.real(0.0);
        let [value, square] = b.fold(zero, columns, [none, none], |b, i, [value, square]| {
            let row = b.at(i, n, zero);
            let [product] = b.fold(zero, columns, [none], |b, k, [sum]| {
                let (of_a, of_v) = (b.plus(row, k), b.plus(start, k));
                let (x, y) = (b.load(a, of_a), b.load(v, of_v));
                let product = b.mul(x, y);
                [b.add(sum, product)]
            });
            let e = b.plus(start, i);
            let x = b.load(v, e);
            let (of_value, of_square) = (b.mul(x, product), b.mul(x, x));
            [b.add(value, of_value), b.add(square, of_square)]
        });
        let quotient = b.div(value, square);
        b.store(values, j, quotient);
        let norm = b.sqrt(square);
        let by = b.div(sign, norm);
        multiply(b, (v, n), j, by);
    });
    // Values that are equal but for rounding ascend too.
    b.once(|b| {
        b.in_order(one, columns, |b, j| {
            let before = b.minus(j, one);
            let (x, y) = (b.load(values, before), b.load(values, j));
            let is_more = b.less(y, x);
            let y = b.select(is_more, x, y);
            b.store(values, j, y);
        });
    });
    b.sync();
    b.each(zero, columns, |b, j| {
        let x = b.load(values, j);
        let x = b.mul(x, back);
        let x = b.add(x, poison);
        b.write(0, j, x);
    });
    b.grid(
        [zero, columns],
        [zero, columns],
        |_, _| (),
        |b, i, j, ()| {
            let from = b.at(j, n, i);
            let x = b.load(v, from);
            let (x, to) = (b.add(x, poison), b.at(i, n, j));
            b.write(1, to, x);
        },
    );
}
