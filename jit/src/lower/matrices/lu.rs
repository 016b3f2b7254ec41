//! LU factors with partial pivoting, and solutions by them.
//!
//! An element of a factor is that of the matrix, minus the products in ascending order, each rounded; of L it is then
//! divided by the pivot. Golub, Van Loan, "Matrix Computations", 4th edition, algorithm 3.4.1.

use super::{Backend, Sign, subtract};

/// The columns of a panel.
const PANEL: usize = 16;

/// Packed factors, and the order of their rows.
struct Factors<A, P> {
    a: A,
    order: P,
}

/// The factors of the first operand, packed; the rows that were exchanged; the order of the rows.
#[inline(always)]
pub(super) fn factorise<B: Backend>(b: &mut B, [m, n]: [usize; 2]) {
    let factors = eliminate(b, [m, n], true);
    let [zero, rows, columns] = [0, m, n].map(|i| b.index(i));
    b.grid(
        [zero, rows],
        [zero, columns],
        |_, _| (),
        |b, i, j, ()| {
            let e = b.at(i, n, j);
            let x = b.load(factors.a, e);
            b.write(0, e, x);
        },
    );
    b.each(zero, rows, |b, i| {
        let row = b.load_pick(factors.order, i);
        b.write_pick(2, i, row);
    });
}

/// The factors of the first operand in working memory. The rows that are exchanged are a result, if that is wanted.
#[inline(always)]
fn eliminate<B: Backend>(b: &mut B, [m, n]: [usize; 2], writes_pivots: bool) -> Factors<B::Array, B::Picks> {
    let a = b.reals(m * n);
    let order = b.picks(m);
    let [zero, one, rows, columns, steps] = [0, 1, m, n, m.min(n)].map(|i| b.index(i));
    b.each(zero, rows, |b, i| {
        let row = b.pick(i);
        b.store_pick(order, i, row);
    });
    b.grid(
        [zero, rows],
        [zero, columns],
        |_, _| (),
        |b, i, j, ()| {
            let e = b.at(i, n, j);
            let x = b.read(0, e);
            b.store(a, e, x);
        },
    );
    // A panel of columns is factorised, then its products are subtracted from what is behind it: the order of the
    // products of an element stays.
    let panels = b.index(m.min(n).div_ceil(PANEL));
    b.in_order(zero, panels, |b, panel| {
        let start = b.at(panel, PANEL, zero);
        let width = b.index(PANEL);
        let end = b.plus(start, width);
        let [end, _] = b.ordered(end, steps);
        b.in_order(start, end, |b, k| {
            let diagonal = b.at(k, n, k);
            let next = b.plus(k, one);
            // The first of the largest elements on and below the diagonal.
            let x = b.load(a, diagonal);
            let (size, here) = (b.abs(x), b.pick(k));
            let (_, pivot) = b.fold_pick(next, rows, (size, here), |b, i, (most, pivot)| {
                let e = b.at(i, n, k);
                let x = b.load(a, e);
                let (size, row) = (b.abs(x), b.pick(i));
                let is_more = b.less(most, size);
                (b.select(is_more, size, most), b.select_pick(is_more, row, pivot))
            });
            b.sync();
            b.once(|b| {
                if writes_pivots {
                    b.write_pick(1, k, pivot);
                }
                let (x, y) = (b.load_pick(order, k), b.load_pick_at(order, pivot));
                b.store_pick(order, k, y);
                b.store_pick_at(order, pivot, x);
            });
            b.each(zero, columns, |b, j| {
                let e = b.at(k, n, j);
                let (x, y) = (b.load(a, e), b.load_at(a, pivot, n, j));
                b.store(a, e, y);
                b.store_at(a, pivot, n, j, x);
            });
            // A column of zeros stays: the factor is singular.
            let pivot = b.load(a, diagonal);
            let none = b.real(0.0);
            let is_zero = b.equal(pivot, none);
            b.each(next, rows, |b, i| {
                let e = b.at(i, n, k);
                let x = b.load(a, e);
                let quotient = b.div(x, pivot);
                let x = b.select(is_zero, x, quotient);
                b.store(a, e, x);
            });
            b.grid(
                [next, rows],
                [next, end],
                |b, i| {
                    let e = b.at(i, n, k);
                    b.load(a, e)
                },
                |b, i, j, by| {
                    let (above, e) = (b.at(k, n, j), b.at(i, n, j));
                    subtract(b, a, e, by, above);
                },
            );
        });
        // The products of elements (i, k) and (k, j) are subtracted from (i, j).
        let update = |b: &mut B, i: B::Index, end: B::Index, span: B::Span| {
            let of = |b: &mut B, k: B::Index| {
                let e = b.at(i, n, k);
                b.load(a, e)
            };
            let (to, from) = (|b: &mut B, j| b.at(i, n, j), |b: &mut B, k, j| b.at(k, n, j));
            b.add_rows(span, [start, end], Sign::Minus, (a, to), (a, from), of);
        };
        b.columns(end, columns, |b, span| b.in_order(start, end, |b, i| update(b, i, i, span)));
        b.rows([end, rows], [end, columns], |b, i, span| update(b, i, end, span));
    });
    Factors { a, order }
}

/// The X with A X = B, or Aᵀ X = B, of the operands A and B.
#[inline(always)]
pub(super) fn solve<B: Backend>(b: &mut B, [n, unknowns]: [usize; 2], is_transposed: bool) {
    const RIGHT: usize = 1;
    let x = b.reals(n * unknowns);
    let Factors { a, order } = eliminate(b, [n, n], false);
    let [zero, one, rows, columns] = [0, 1, n, unknowns].map(|i| b.index(i));
    b.columns(zero, columns, |b, span| {
        // The right-hand sides, in the order of the factors' rows.
        b.in_order(zero, rows, |b, i| {
            let row = if is_transposed { b.pick(i) } else { b.load_pick(order, i) };
            b.span(span, |b, c| {
                let value = b.read_at(RIGHT, row, unknowns, c);
                let e = b.at(i, unknowns, c);
                b.store(x, e, value);
            });
        });
        // Equation i minus some unknowns.
        let minus = |b: &mut B, i: B::Index, known: [B::Index; 2]| {
            let of = |b: &mut B, k: B::Index| {
                let e = if is_transposed { b.at(k, n, i) } else { b.at(i, n, k) };
                b.load(a, e)
            };
            let (to, from) = (|b: &mut B, c| b.at(i, unknowns, c), |b: &mut B, k, c| b.at(k, unknowns, c));
            b.add_rows(span, known, Sign::Minus, (x, to), (x, from), of);
        };
        let divide = |b: &mut B, i: B::Index| {
            let e = b.at(i, n, i);
            let pivot = b.load(a, e);
            b.span(span, |b, c| {
                let e = b.at(i, unknowns, c);
                let rest = b.load(x, e);
                let value = b.div(rest, pivot);
                b.store(x, e, value);
            });
        };
        // Forward with L, which has ones on the diagonal, or with Uᵀ; backward with U or with Lᵀ.
        b.in_order(zero, rows, |b, i| {
            minus(b, i, [zero, i]);
            if is_transposed {
                divide(b, i);
            }
        });
        b.in_order(zero, rows, |b, step| {
            let after = b.minus(rows, step);
            let i = b.minus(after, one);
            minus(b, i, [after, rows]);
            if !is_transposed {
                divide(b, i);
            }
        });
        b.in_order(zero, rows, |b, i| {
            let row = if is_transposed { b.load_pick(order, i) } else { b.pick(i) };
            b.span(span, |b, c| {
                let e = b.at(i, unknowns, c);
                let value = b.load(x, e);
                b.write_at(0, row, unknowns, c, value);
            });
        });
    });
}
