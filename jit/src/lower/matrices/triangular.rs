//! Cholesky factors and triangular systems of small matrices, with the bits of the routines of larger ones: an element
//! is its initial value, minus the products in ascending order of the unknowns, each rounded, then divided by the
//! pivot.

use super::{Backend, subtract};
use crate::graph::Triangular;

/// The lower factor of the first operand.
#[inline(always)]
pub(super) fn cholesky<B: Backend>(b: &mut B, n: usize) {
    let (a, failed) = (b.reals(n * n), b.reals(1));
    let [zero, one, rows] = [0, 1, n].map(|i| b.index(i));
    b.grid(
        [zero, rows],
        [zero, rows],
        |_, _| (),
        |b, i, j, ()| {
            let e = b.at(i, n, j);
            let x = b.read(0, e);
            b.store(a, e, x);
        },
    );
    b.once(|b| {
        let none = b.real(0.0);
        b.store(failed, zero, none);
    });
    b.in_order(zero, rows, |b, k| {
        let (diagonal, next) = (b.at(k, n, k), b.plus(k, one));
        let (pivot, none) = (b.load(a, diagonal), b.real(0.0));
        let is_positive = b.less(none, pivot);
        let root = b.sqrt(pivot);
        b.sync();
        b.once(|b| {
            let before = b.load(failed, zero);
            let failure = b.real(1.0);
            let now = b.select(is_positive, before, failure);
            b.store(failed, zero, now);
        });
        b.each(k, rows, |b, i| {
            let e = b.at(i, n, k);
            let x = b.load(a, e);
            let x = b.div(x, root);
            b.store(a, e, x);
        });
        b.grid(
            [next, rows],
            [next, rows],
            |b, i| {
                let e = b.at(i, n, k);
                b.load(a, e)
            },
            |b, i, j, by| {
                let (above, e) = (b.at(j, n, k), b.at(i, n, j));
                subtract(b, a, e, by, above);
            },
        );
    });
    b.sync();
    let (failure, none) = (b.load(failed, zero), b.real(0.0));
    let is_failed = b.less(none, failure);
    b.grid(
        [zero, rows],
        [zero, rows],
        |_, _| (),
        |b, i, j, ()| {
            let e = b.at(i, n, j);
            let [none, nan] = [0.0, f64::NAN].map(|x| b.real(x));
            let x = b.load(a, e);
            let x = b.select(is_failed, nan, x);
            let is_above = b.precedes(i, j);
            let x = b.select(is_above, none, x);
            b.write(0, e, x);
        },
    );
}

/// The X with A X = B or X A = B, of the operands A and B.
#[inline(always)]
pub(super) fn solve<B: Backend>(b: &mut B, how: Triangular, [n, unknowns]: [usize; 2]) {
    let x = b.reals(n * unknowns);
    let [zero, one, rows, columns] = [0, 1, n, unknowns].map(|i| b.index(i));
    // Equation i has the unknowns 0 to i: where the last equation has a single one, they are numbered from the end.
    let numbered = |b: &mut B, i: B::Index| match how.is_forward() {
        true => i,
        false => {
            let rest = b.minus(rows, i);
            b.minus(rest, one)
        }
    };
    let of_a = |b: &mut B, i: B::Index, k: B::Index| {
        let (i, k) = if how.is_transposed() { (k, i) } else { (i, k) };
        let e = b.at(i, n, k);
        b.read(0, e)
    };
    let outside = |b: &mut B, i: B::Index, c: B::Index| match how.left_side {
        true => b.at(i, unknowns, c),
        false => b.at(c, n, i),
    };
    b.columns(zero, columns, |b, span| {
        b.in_order(zero, rows, |b, i| {
            let row = numbered(b, i);
            b.span(span, |b, c| {
                let (from, to) = (outside(b, row, c), b.at(i, unknowns, c));
                let value = b.read(1, from);
                b.store(x, to, value);
            });
            b.in_order(zero, i, |b, k| {
                let other = numbered(b, k);
                let by = of_a(b, row, other);
                b.span(span, |b, c| {
                    let (from, to) = (b.at(k, unknowns, c), b.at(i, unknowns, c));
                    let known = b.load(x, from);
                    let product = b.mul(by, known);
                    let rest = b.load(x, to);
                    let rest = b.sub(rest, product);
                    b.store(x, to, rest);
                });
            });
            let pivot = if how.unit_diagonal { b.real(1.0) } else { of_a(b, row, row) };
            b.span(span, |b, c| {
                let (from, to) = (b.at(i, unknowns, c), outside(b, row, c));
                let mut value = b.load(x, from);
                if !how.unit_diagonal {
                    value = b.div(value, pivot);
                    b.store(x, from, value);
                }
                b.write(0, to, value);
            });
        });
    });
}
