//! Cholesky factors and triangular systems of equations, of f32 and f64.
//!
//! An element is its initial value, minus the products in ascending order of the unknowns that they have, each rounded,
//! then divided by the pivot: tiles, vectors and tasks change no bit of it. Both routines spend their time in [`tile`],
//! whose sums are independent of each other, so that the compiler makes vectors of them.

use std::ops::{Div, Mul, Range, Sub};
use std::{ptr, slice};

use crate::fuse::{SOLVE_COLUMNS, cholesky_scratch};
use crate::graph::Triangular;

/// The rows of a tile; it has 8 columns of f32, or 4 of f64, which 16 registers of 128 bits hold with the operands.
const ROWS: usize = 4;

/// An element.
pub(super) trait Real: Copy + PartialOrd + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    const ZERO: Self;
    const NAN: Self;
    fn sqrt(self) -> Self;
}

macro_rules! reals {
    ($($ty:ident),*) => { $(
        impl Real for $ty {
            const ZERO: $ty = 0.0;
            const NAN: $ty = $ty::NAN;
            fn sqrt(self) -> $ty {
                $ty::sqrt(self)
            }
        }
    )* };
}

reals!(f32, f64);

/// A matrix as the address of its first element, and the distances of rows and of columns.
type View<T> = (*const T, [isize; 2]);

/// `c[i][j] -= a[i][k] b[k][j]` for each k, in ascending order.
///
/// # Safety
/// `a` has R rows and `depth` columns. `b` has `depth` rows and `c` has R, each of C contiguous elements; those of `c`
/// are no one else's.
#[inline(always)]
unsafe fn tile<T: Real, const R: usize, const C: usize>(
    depth: usize,
    (a, [a_row, a_column]): View<T>,
    (b, b_row): (*const T, usize),
    (c, c_row): (*mut T, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums: [[T; C]; R] = std::array::from_fn(|i| c.add(i * c_row).cast::<[T; C]>().read());
        for k in 0..depth {
            let a = a.offset(k as isize * a_column);
            let b = b.add(k * b_row).cast::<[T; C]>().read();
            for (i, sums) in sums.iter_mut().enumerate() {
                let by = *a.offset(i as isize * a_row);
                for (sum, &b) in sums.iter_mut().zip(&b) {
                    *sum = *sum - by * b;
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            c.add(i * c_row).cast::<[T; C]>().write(sums);
        }
    }
}

/// `count` elements of scratch memory, which are 0.
///
/// # Safety
/// The scratch is aligned to an element, has so many, and is no one else's as long as the result is used.
unsafe fn zeroed<'a, T: Real>(scratch: *mut u8, count: usize) -> &'a mut [T] {
    let scratch = scratch.cast::<T>();
    // SAFETY: the caller's promise; zeros are initialised, and floats.
    unsafe {
        ptr::write_bytes(scratch, 0, count);
        slice::from_raw_parts_mut(scratch, count)
    }
}

/// `to -= by from`.
fn subtract<T: Real>(to: &mut [T], by: T, from: &[T]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = *to - by * from;
    }
}

/// Factorises the matrices `tasks`, of `n` rows and columns, in tiles of C columns.
///
/// # Safety
/// The buffers, A and L, have all matrices, and `scratch` has the elements of [`cholesky_scratch`].
pub(super) unsafe fn cholesky<T: Real, const C: usize>(
    n: usize,
    buffers: [*mut u8; 2],
    scratch: *mut u8,
    tasks: Range<usize>,
) {
    let [rows, row] = cholesky_scratch(n);
    let [a, l] = buffers.map(<*mut u8>::cast::<T>);
    // SAFETY: the caller's promise.
    let u = unsafe { zeroed::<T>(scratch, rows * row) };
    for matrix in tasks {
        // SAFETY: the elements of the matrix; results overlap nothing.
        let (a, l) = unsafe {
            let start = matrix * n * n;
            (slice::from_raw_parts(a.add(start), n * n), slice::from_raw_parts_mut(l.add(start), n * n))
        };
        each_of_lower(n, |i, j| u[j * row + i] = a[i * n + j]);
        let is_definite = factorise::<T, C>(n, u, row);
        l.fill(T::ZERO);
        each_of_lower(n, |i, j| l[i * n + j] = if is_definite { u[j * row + i] } else { T::NAN });
    }
}

/// Rows and columns of the lower triangle, column by column in groups of a cache line's size.
fn each_of_lower(n: usize, mut each: impl FnMut(usize, usize)) {
    const GROUP: usize = 8;
    for first in (0..n).step_by(GROUP) {
        for i in first..n {
            for j in first..(first + GROUP).min(i + 1) {
                each(i, j);
            }
        }
    }
}

/// The factor U with Uᵀ U = A, instead of the upper triangle of A, whose rows are `row` apart. `false` if A is not
/// positive definite. What is below the diagonal, and behind it in the scratch, takes no part.
fn factorise<T: Real, const C: usize>(n: usize, u: &mut [T], row: usize) -> bool {
    for first in (0..n).step_by(ROWS) {
        // The rows above are done: subtract their products from these rows.
        for column in (first..n).step_by(C) {
            let u = u.as_mut_ptr();
            // SAFETY: the scratch has whole tiles; rows `first..` are not read.
            unsafe {
                let a = (u.add(first).cast_const(), [1, row as isize]);
                tile::<T, ROWS, C>(first, a, (u.add(column), row), (u.add(first * row + column), row));
            }
        }
        for j in first..n.min(first + ROWS) {
            let (above, here) = u.split_at_mut(j * row);
            let here = &mut here[j..n];
            for k in first..j {
                let above = &above[k * row + j..k * row + n];
                subtract(here, above[0], above);
            }
            let pivot = here[0];
            if pivot.partial_cmp(&T::ZERO) != Some(std::cmp::Ordering::Greater) {
                return false;
            }
            let root = pivot.sqrt();
            here.iter_mut().for_each(|x| *x = *x / root);
        }
    }
    true
}

/// The unknowns of the tasks: up to [`SOLVE_COLUMNS`] columns of one matrix each, in tiles of C columns.
///
/// # Safety
/// The buffers, A of `n` rows and columns, B and X of `n` times `columns` elements, have all matrices; `scratch` has
/// `n * SOLVE_COLUMNS` elements.
pub(super) unsafe fn triangular_solve<T: Real, const C: usize>(
    how: Triangular,
    [n, columns]: [usize; 2],
    buffers: [*mut u8; 3],
    scratch: *mut u8,
    tasks: Range<usize>,
) {
    let [a, b, x] = buffers.map(<*mut u8>::cast::<T>);
    // SAFETY: the caller's promise.
    let panel = unsafe { zeroed::<T>(scratch, n * SOLVE_COLUMNS) };
    // Equation i has the unknowns 0 to i: where the last equation has a single one, they are numbered from the end.
    let rows = if how.is_transposed() { [1, n as isize] } else { [n as isize, 1] };
    let (start, strides) = if how.is_forward() { (0, rows) } else { (n * n - 1, rows.map(|stride| -stride)) };
    let panels = columns.div_ceil(SOLVE_COLUMNS);
    for task in tasks {
        let (matrix, first) = (task / panels, task % panels * SOLVE_COLUMNS);
        let width = SOLVE_COLUMNS.min(columns - first);
        let at = |i: usize, column: usize| {
            let i = if how.is_forward() { i } else { n - 1 - i };
            matrix * n * columns + if how.left_side { i * columns + column } else { column * n + i }
        };
        let each = |then: &mut dyn FnMut(usize, usize)| {
            for i in 0..n {
                for c in 0..width {
                    then(i * SOLVE_COLUMNS + c, at(i, first + c));
                }
            }
        };
        // SAFETY: elements of the operand.
        each(&mut |to, from| panel[to] = unsafe { *b.add(from) });
        // SAFETY: the first element of the matrix, or its last.
        let a = unsafe { a.add(matrix * n * n + start).cast_const() };
        // SAFETY: the caller's promise.
        unsafe { substitute::<T, C>((a, strides), how.unit_diagonal, panel, width) };
        // SAFETY: elements of the result, which are this task's alone.
        each(&mut |from, to| unsafe { *x.add(to) = panel[from] });
    }
}

/// Forward substitution: the unknowns, instead of the right-hand sides in the first `width` columns of `panel`.
///
/// # Safety
/// `a` has as many rows and columns as `panel` has rows.
unsafe fn substitute<T: Real, const C: usize>(a: View<T>, is_unit: bool, panel: &mut [T], width: usize) {
    let n = panel.len() / SOLVE_COLUMNS;
    let (start, [row, column]) = a;
    // SAFETY: the caller's promise, for each row and column that this is called with.
    let of_a = |i: usize, k: usize| unsafe { start.offset(i as isize * row + k as isize * column) };
    for first in (0..n).step_by(ROWS) {
        let end = n.min(first + ROWS);
        for c in (0..width).step_by(C) {
            let x = panel[c..].as_mut_ptr();
            let mut rows = first..end;
            // SAFETY: rows of `a`; a panel has whole tiles, and its rows from `first` are not read.
            unsafe {
                if rows.len() == ROWS {
                    let to = x.add(first * SOLVE_COLUMNS);
                    let view = (of_a(first, 0), [row, column]);
                    tile::<T, ROWS, C>(first, view, (x, SOLVE_COLUMNS), (to, SOLVE_COLUMNS));
                    rows = end..end;
                }
                for i in rows {
                    let to = x.add(i * SOLVE_COLUMNS);
                    tile::<T, 1, C>(first, (of_a(i, 0), [row, column]), (x, SOLVE_COLUMNS), (to, SOLVE_COLUMNS));
                }
            }
        }
        for i in first..end {
            let (above, here) = panel.split_at_mut(i * SOLVE_COLUMNS);
            let here = &mut here[..SOLVE_COLUMNS];
            for k in first..i {
                // SAFETY: an element of the triangle.
                subtract(here, unsafe { *of_a(i, k) }, &above[k * SOLVE_COLUMNS..]);
            }
            if !is_unit {
                // SAFETY: an element of the diagonal.
                let pivot = unsafe { *of_a(i, i) };
                here.iter_mut().for_each(|x| *x = *x / pivot);
            }
        }
    }
}
