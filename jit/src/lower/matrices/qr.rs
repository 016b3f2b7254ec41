//! QR factors by Householder reflections, with the signs of LAPACK: `H = 1 - τ v vᵀ` with `v` 1 in its first element
//! takes a column to `-sign(α) ‖x‖`, where α is its first element, and is the identity where nothing is below α.
//! Golub, Van Loan, "Matrix Computations", 4th edition, section 5.2; the conventions are those of `dgeqr2`, `dorg2r`.

use super::{Backend, Limits, Sign, identity, scale};

/// Q and R of the first operand.
#[inline(always)]
pub(super) fn factorise<B: Backend>(b: &mut B, [m, n]: [usize; 2], is_full: bool, limits: Limits) {
    let width = if is_full { m } else { m.min(n) };
    let (a, q) = (b.reals(m * n), b.reals(m * width));
    let (line, taus) = (b.reals(2 * m.max(n) + 2), b.reals(m.min(n) + 1));
    let scale = scale(b, [m, n], line, limits);
    let [zero, rows, columns, height] = [0, m, n, width].map(|i| b.index(i));
    b.grid(
        [zero, rows],
        [zero, columns],
        |_, _| (),
        |b, i, j, ()| {
            let e = b.at(i, n, j);
            let x = b.read(0, e);
            let x = b.mul(x, scale.by);
            b.store(a, e, x);
        },
    );
    reflect(b, a, [m, n], taus, line);
    b.grid(
        [zero, height],
        [zero, columns],
        |_, _| (),
        |b, i, j, ()| {
            let e = b.at(i, n, j);
            let x = b.load(a, e);
            let x = b.mul(x, scale.back);
            let (is_below, none) = (b.precedes(j, i), b.real(0.0));
            let x = b.select(is_below, none, x);
            let x = b.add(x, scale.poison);
            b.write(1, e, x);
        },
    );
    orthogonal(b, q, a, [m, n, width], taus, line);
    b.grid(
        [zero, rows],
        [zero, height],
        |_, _| (),
        |b, i, j, ()| {
            let e = b.at(i, width, j);
            let x = b.load(q, e);
            let x = b.add(x, scale.poison);
            b.write(0, e, x);
        },
    );
}

/// Makes R of `a`, with the vectors of the reflections below its diagonal. `line` has memory for a row.
#[inline(always)]
pub(super) fn reflect<B: Backend>(b: &mut B, a: B::Array, [m, n]: [usize; 2], taus: B::Array, line: B::Array) {
    let [zero, one, rows, columns, steps] = [0, 1, m, n, m.min(n)].map(|i| b.index(i));
    b.in_order(zero, steps, |b, k| {
        let (diagonal, next) = (b.at(k, n, k), b.plus(k, one));
        let (alpha, none) = (b.load(a, diagonal), b.real(0.0));
        let [below] = b.fold(next, rows, [none], |b, i, [sum]| {
            let e = b.at(i, n, k);
            let x = b.load(a, e);
            let square = b.mul(x, x);
            [b.add(sum, square)]
        });
        let square = b.mul(alpha, alpha);
        let square = b.add(square, below);
        let norm = b.sqrt(square);
        let (is_negative, is_done) = (b.less(alpha, none), b.equal(below, none));
        let opposite = b.sub(none, norm);
        let beta = b.select(is_negative, norm, opposite);
        let (change, first) = (b.sub(beta, alpha), b.sub(alpha, beta));
        let tau = b.div(change, beta);
        let (beta, tau) = (b.select(is_done, alpha, beta), b.select(is_done, none, tau));
        // All have read the column.
        b.sync();
        b.once(|b| {
            b.store(a, diagonal, beta);
            b.store(taus, k, tau);
        });
        b.each(next, rows, |b, i| {
            let e = b.at(i, n, k);
            let x = b.load(a, e);
            let quotient = b.div(x, first);
            let x = b.select(is_done, x, quotient);
            b.store(a, e, x);
        });
        apply(b, (a, n), (a, n, k), tau, m, [next, columns], line);
    });
}

/// The product of the reflections with the first columns of the identity.
#[inline(always)]
pub(super) fn orthogonal<B: Backend>(
    b: &mut B,
    q: B::Array,
    a: B::Array,
    [m, n, width]: [usize; 3],
    taus: B::Array,
    line: B::Array,
) {
    let [zero, one, columns, steps] = [0, 1, width, m.min(n)].map(|i| b.index(i));
    identity(b, q, [m, width]);
    b.in_order(zero, steps, |b, step| {
        let after = b.minus(steps, step);
        let k = b.minus(after, one);
        let tau = b.load(taus, k);
        apply(b, (q, width), (a, n, k), tau, m, [k, columns], line);
    });
}

/// Applies the reflection whose vector is column `k` of an array, below the diagonal, to columns of `to`: both are of
/// so many elements a row.
#[inline(always)]
fn apply<B: Backend>(
    b: &mut B,
    (to, width): (B::Array, usize),
    (a, n, k): (B::Array, usize, B::Index),
    tau: B::Real,
    m: usize,
    [from, end]: [B::Index; 2],
    line: B::Array,
) {
    let (one, rows) = (b.index(1), b.index(m));
    b.columns(from, end, |b, span| {
        let next = b.plus(k, one);
        b.span(span, |b, j| {
            let e = b.at(k, width, j);
            let x = b.load(to, e);
            b.store(line, j, x);
        });
        b.in_order(next, rows, |b, i| {
            let e = b.at(i, n, k);
            let v = b.load(a, e);
            b.add_row(span, Sign::Plus, v, (line, |_, j| j), (to, |b: &mut B, j| b.at(i, width, j)));
        });
        b.span(span, |b, j| {
            let sum = b.load(line, j);
            let sum = b.mul(tau, sum);
            b.store(line, j, sum);
            let e = b.at(k, width, j);
            let x = b.load(to, e);
            let x = b.sub(x, sum);
            b.store(to, e, x);
        });
        b.in_order(next, rows, |b, i| {
            let e = b.at(i, n, k);
            let v = b.load(a, e);
            b.add_row(span, Sign::Minus, v, (to, |b: &mut B, j| b.at(i, width, j)), (line, |_, j| j));
        });
    });
}
