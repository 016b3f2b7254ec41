//! How routines on matrices are computed, once for all back ends.
//!
//! In: a [`MatrixRoutine`] and a [`Backend`], which has its operations. Out: what the back end makes of these: the
//! CPU's runs them, on one matrix or on one in each lane of vectors; the GPU's emits code, in which a block has one
//! matrix or each thread has one. So all back ends compute the same bits: each element is the same chain of operations,
//! none of which is contracted. The interpreter has other algorithms, and takes no part in this.
//!
//! Where memory is shared by threads, a value that is read by all is written before a barrier: [`Backend::each`],
//! [`Backend::grid`] and [`Backend::columns`] end with one, and [`Backend::sync`] is one.

mod jacobi;
mod lu;
mod qr;
mod triangular;

use crate::fuse::{MatrixOp, MatrixRoutine};

/// The operations of a back end.
///
/// An `Index` is the same for all matrices that are worked on together, a `Pick` is an index of each,
/// and a `Real` and a `Bool` are values of each.
pub trait Backend: Sized {
    /// An index, the same for all matrices.
    type Index: Copy;
    /// An index of each matrix.
    type Pick: Copy;
    /// An element of each matrix.
    type Real: Copy;
    /// A bool of each matrix.
    type Bool: Copy;
    /// Working memory for elements.
    type Array: Copy;
    /// Working memory for indices.
    type Picks: Copy;
    /// Some columns: see [`Backend::columns`].
    type Span: Copy;

    /// An index that is known.
    fn index(&mut self, i: usize) -> Self::Index;
    /// `i + j`.
    fn plus(&mut self, i: Self::Index, j: Self::Index) -> Self::Index;
    /// `i - j`, which is not negative.
    fn minus(&mut self, i: Self::Index, j: Self::Index) -> Self::Index;
    /// `i by + offset`.
    fn at(&mut self, i: Self::Index, by: usize, offset: Self::Index) -> Self::Index;
    /// The remainder of `i`.
    fn modulo(&mut self, i: Self::Index, by: usize) -> Self::Index;
    /// The smaller and the larger one.
    fn ordered(&mut self, i: Self::Index, j: Self::Index) -> [Self::Index; 2];
    /// `x` where `i` is 0, otherwise `y`.
    fn if_zero(&mut self, i: Self::Index, x: Self::Index, y: Self::Index) -> Self::Index;
    /// `i < j`.
    fn precedes(&mut self, i: Self::Index, j: Self::Index) -> Self::Bool;

    /// An index as one of each matrix.
    fn pick(&mut self, i: Self::Index) -> Self::Pick;
    /// `x` where it is true, otherwise `y`.
    fn select_pick(&mut self, condition: Self::Bool, x: Self::Pick, y: Self::Pick) -> Self::Pick;

    /// A constant.
    fn real(&mut self, x: f64) -> Self::Real;
    /// `x + y`.
    fn add(&mut self, x: Self::Real, y: Self::Real) -> Self::Real;
    /// `x - y`.
    fn sub(&mut self, x: Self::Real, y: Self::Real) -> Self::Real;
    /// `x y`.
    fn mul(&mut self, x: Self::Real, y: Self::Real) -> Self::Real;
    /// `x / y`.
    fn div(&mut self, x: Self::Real, y: Self::Real) -> Self::Real;
    /// The square root.
    fn sqrt(&mut self, x: Self::Real) -> Self::Real;
    /// The magnitude.
    fn abs(&mut self, x: Self::Real) -> Self::Real;
    /// `x < y`, false where one is NaN.
    fn less(&mut self, x: Self::Real, y: Self::Real) -> Self::Bool;
    /// `x = y`, false where one is NaN.
    fn equal(&mut self, x: Self::Real, y: Self::Real) -> Self::Bool;
    /// Whether one is true.
    fn or(&mut self, x: Self::Bool, y: Self::Bool) -> Self::Bool;
    /// `x` where it is true, otherwise `y`.
    fn select(&mut self, condition: Self::Bool, x: Self::Real, y: Self::Real) -> Self::Real;

    /// Memory for so many elements, whose contents are undefined.
    fn reals(&mut self, count: usize) -> Self::Array;
    /// Memory for so many indices, taken after that for elements.
    fn picks(&mut self, count: usize) -> Self::Picks;
    /// Element `i`.
    fn load(&mut self, from: Self::Array, i: Self::Index) -> Self::Real;
    /// Element `i by + offset`.
    fn load_at(&mut self, from: Self::Array, i: Self::Pick, by: usize, offset: Self::Index) -> Self::Real;
    /// Sets element `i`.
    fn store(&mut self, to: Self::Array, i: Self::Index, x: Self::Real);
    /// Sets element `i` where `condition` is true.
    fn store_if(&mut self, condition: Self::Bool, to: Self::Array, i: Self::Index, x: Self::Real);
    /// Sets element `i by + offset`.
    fn store_at(&mut self, to: Self::Array, i: Self::Pick, by: usize, offset: Self::Index, x: Self::Real);
    /// Index `i`.
    fn load_pick(&mut self, from: Self::Picks, i: Self::Index) -> Self::Pick;
    /// Index `i`.
    fn load_pick_at(&mut self, from: Self::Picks, i: Self::Pick) -> Self::Pick;
    /// Sets index `i`.
    fn store_pick(&mut self, to: Self::Picks, i: Self::Index, x: Self::Pick);
    /// Sets index `i`.
    fn store_pick_at(&mut self, to: Self::Picks, i: Self::Pick, x: Self::Pick);

    /// Element `i` of an operand.
    fn read(&mut self, operand: usize, i: Self::Index) -> Self::Real;
    /// Element `i by + offset` of an operand.
    fn read_at(&mut self, operand: usize, i: Self::Pick, by: usize, offset: Self::Index) -> Self::Real;
    /// Sets element `i` of a result.
    fn write(&mut self, result: usize, i: Self::Index, x: Self::Real);
    /// Sets element `i by + offset` of a result.
    fn write_at(&mut self, result: usize, i: Self::Pick, by: usize, offset: Self::Index, x: Self::Real);
    /// Sets element `i` of a result of indices.
    fn write_pick(&mut self, result: usize, i: Self::Index, x: Self::Pick);

    /// One iteration after the other.
    fn in_order(&mut self, from: Self::Index, to: Self::Index, f: impl FnMut(&mut Self, Self::Index));
    /// Iterations that do not depend on each other, and a barrier.
    fn each(&mut self, from: Self::Index, to: Self::Index, f: impl FnMut(&mut Self, Self::Index));
    /// For each row, and each column of it, with something of the row; none depends on another. Then a barrier.
    fn grid<R: Copy>(
        &mut self,
        rows: [Self::Index; 2],
        columns: [Self::Index; 2],
        of_row: impl FnMut(&mut Self, Self::Index) -> R,
        f: impl FnMut(&mut Self, Self::Index, Self::Index, R),
    );
    /// Work on columns that do not depend on each other: `f` has loops of [`Backend::span`] inside. Then a barrier.
    fn columns(&mut self, from: Self::Index, to: Self::Index, f: impl FnMut(&mut Self, Self::Span));
    /// For each row, and its columns as in [`Backend::columns`]; none depends on another. Then a barrier.
    fn rows(
        &mut self,
        rows: [Self::Index; 2],
        columns: [Self::Index; 2],
        f: impl FnMut(&mut Self, Self::Index, Self::Span),
    );
    /// For each of these columns.
    fn span(&mut self, columns: Self::Span, f: impl FnMut(&mut Self, Self::Index));
    /// Adds to a row of an array, or subtracts from it, another row times `by`: in these columns, `to` and `from` say
    /// which element that is. The rows have no element in common, and one column is next to the other.
    fn add_row(
        &mut self,
        columns: Self::Span,
        sign: Sign,
        by: Self::Real,
        (to, mut place): (Self::Array, impl FnMut(&mut Self, Self::Index) -> Self::Index),
        (from, mut other): (Self::Array, impl FnMut(&mut Self, Self::Index) -> Self::Index),
    ) {
        self.span(columns, |b, j| {
            let (at, e) = (other(b, j), place(b, j));
            let x = b.load(from, at);
            let product = b.mul(by, x);
            let rest = b.load(to, e);
            let rest = match sign {
                Sign::Plus => b.add(rest, product),
                Sign::Minus => b.sub(rest, product),
            };
            b.store(to, e, rest);
        });
    }
    /// As [`Backend::add_row`], with each of several other rows in order, and what it is multiplied by.
    fn add_rows(
        &mut self,
        columns: Self::Span,
        rows: [Self::Index; 2],
        sign: Sign,
        (to, mut place): (Self::Array, impl FnMut(&mut Self, Self::Index) -> Self::Index),
        (from, mut other): (Self::Array, impl FnMut(&mut Self, Self::Index, Self::Index) -> Self::Index),
        mut by: impl FnMut(&mut Self, Self::Index) -> Self::Real,
    ) {
        self.in_order(rows[0], rows[1], |b, k| {
            let by = by(b, k);
            b.add_row(columns, sign, by, (to, &mut place), (from, |b: &mut Self, j| other(b, k, j)));
        });
    }
    /// What no other thread does; without a barrier.
    fn once(&mut self, f: impl FnOnce(&mut Self));
    /// A barrier.
    fn sync(&mut self);
    /// Runs `f` where `condition` is true. Where it is for some matrices only, `f` changes nothing of the others.
    fn when(&mut self, condition: Self::Bool, f: impl FnOnce(&mut Self));
    /// Repeats `f` as long as it gives true for a matrix, and at most so often. It changes nothing of those for which
    /// it has given false.
    fn repeat(&mut self, most: usize, f: impl FnMut(&mut Self) -> Self::Bool);
    /// What becomes of `x` over the iterations, in order.
    fn fold<const N: usize>(
        &mut self,
        from: Self::Index,
        to: Self::Index,
        x: [Self::Real; N],
        f: impl FnMut(&mut Self, Self::Index, [Self::Real; N]) -> [Self::Real; N],
    ) -> [Self::Real; N];
    /// As [`Backend::fold`], with an index.
    fn fold_pick(
        &mut self,
        from: Self::Index,
        to: Self::Index,
        x: (Self::Real, Self::Pick),
        f: impl FnMut(&mut Self, Self::Index, (Self::Real, Self::Pick)) -> (Self::Real, Self::Pick),
    ) -> (Self::Real, Self::Pick);
}

/// Whether a product is added or subtracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Added.
    Plus,
    /// Subtracted.
    Minus,
}

/// Computes the routine for the matrices that the back end has.
#[inline(always)]
pub(crate) fn run<B: Backend>(b: &mut B, routine: &MatrixRoutine) {
    let [m, n] = [routine.rows, routine.columns];
    let limits = Limits::of(routine);
    match routine.what {
        MatrixOp::Cholesky => triangular::cholesky(b, n),
        MatrixOp::TriangularSolve(how) => triangular::solve(b, how, [n, routine.unknowns]),
        MatrixOp::Lu => lu::factorise(b, [m, n]),
        MatrixOp::Solve { transpose_a } => lu::solve(b, [m, routine.unknowns], transpose_a),
        MatrixOp::Qr { full_matrices } => qr::factorise(b, [m, n], full_matrices, limits),
        MatrixOp::Eigh => jacobi::eigh(b, n, limits),
        MatrixOp::Svd { full_matrices } => jacobi::svd(b, [m, n], full_matrices, limits),
    }
}

/// Where squares neither overflow nor vanish, and how small a rounding is.
#[derive(Clone, Copy)]
struct Limits {
    /// Half of the distance of 1 and the next number.
    rounding: f64,
    /// Elements of a larger magnitude are scaled down, by the inverse of `scale`.
    large: f64,
    /// If there is none of a larger magnitude, elements are scaled up, by `scale`.
    small: f64,
    /// A power of two.
    scale: f64,
}

impl Limits {
    fn of(routine: &MatrixRoutine) -> Self {
        let two = |exponent: i32| 2f64.powi(exponent);
        match routine.dtype.size() {
            4 => Limits { rounding: two(-24), large: two(50), small: two(-40), scale: two(80) },
            _ => Limits { rounding: two(-53), large: two(500), small: two(-400), scale: two(600) },
        }
    }
}

/// How a matrix is scaled before it is decomposed.
#[derive(Clone, Copy)]
struct Scale<R> {
    /// What elements are multiplied by.
    by: R,
    /// What results are multiplied by.
    back: R,
    /// NaN if an element is not finite, otherwise 0.
    poison: R,
}

/// Sets an array of `m` rows and `n` columns to the identity.
#[inline(always)]
fn identity<B: Backend>(b: &mut B, x: B::Array, [m, n]: [usize; 2]) {
    let [zero, rows, columns] = [0, m, n].map(|i| b.index(i));
    b.grid(
        [zero, rows],
        [zero, columns],
        |_, _| (),
        |b, i, j, ()| {
            let (is_before, is_after) = (b.precedes(i, j), b.precedes(j, i));
            let is_other = b.or(is_before, is_after);
            let [none, one] = [0.0, 1.0].map(|x| b.real(x));
            let (value, e) = (b.select(is_other, none, one), b.at(i, n, j));
            b.store(x, e, value);
        },
    );
}

/// Subtracts from an element of an array another one times `by`.
#[inline(always)]
fn subtract<B: Backend>(b: &mut B, x: B::Array, to: B::Index, by: B::Real, from: B::Index) {
    let other = b.load(x, from);
    let product = b.mul(by, other);
    let rest = b.load(x, to);
    let rest = b.sub(rest, product);
    b.store(x, to, rest);
}

/// The scale of the first operand, a matrix of `m` rows and `n` columns. `line` has memory for `2 n` elements.
#[inline(always)]
fn scale<B: Backend>(b: &mut B, [m, n]: [usize; 2], line: B::Array, limits: Limits) -> Scale<B::Real> {
    let [zero, rows, columns] = [0, m, n].map(|i| b.index(i));
    b.columns(zero, columns, |b, span| {
        b.span(span, |b, j| {
            let none = b.real(0.0);
            b.store(line, j, none);
            let sums = b.plus(columns, j);
            b.store(line, sums, none);
        });
        b.in_order(zero, rows, |b, i| {
            b.span(span, |b, j| {
                let e = b.at(i, n, j);
                let x = b.read(0, e);
                let size = b.abs(x);
                let most = b.load(line, j);
                let is_more = b.less(most, size);
                let most = b.select(is_more, size, most);
                b.store(line, j, most);
                let none = b.real(0.0);
                let x = b.mul(x, none);
                let sums = b.plus(columns, j);
                let sum = b.load(line, sums);
                let sum = b.add(sum, x);
                b.store(line, sums, sum);
            });
        });
    });
    let none = b.real(0.0);
    let [most, poison] = b.fold(zero, columns, [none, none], |b, j, [most, poison]| {
        let size = b.load(line, j);
        let is_more = b.less(most, size);
        let sums = b.plus(columns, j);
        let sum = b.load(line, sums);
        [b.select(is_more, size, most), b.add(poison, sum)]
    });
    // The line is overwritten behind this.
    b.sync();
    let [large, small, one] = [limits.large, limits.small, 1.0].map(|x| b.real(x));
    let [up, down] = [limits.scale, 1.0 / limits.scale].map(|x| b.real(x));
    let (is_large, is_small) = (b.less(large, most), b.less(most, small));
    let select = |b: &mut B, on_large, on_small| {
        let by = b.select(is_small, on_small, one);
        b.select(is_large, on_large, by)
    };
    let by = select(b, down, up);
    Scale { by, back: select(b, up, down), poison }
}
