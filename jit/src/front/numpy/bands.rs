//! Diagonals and triangles of matrices: taken by slices of the flat matrix, built by padding between elements.
//!
//! Definitions are those of `jax.numpy`; `k` numbers diagonals, the main one being 0 and those above it positive.

use std::panic::Location;

use smallvec::SmallVec;

use crate::front::operand::resolve;
use crate::front::tensor::Tensor;
use crate::types::{Axes, DType, Shape};

/// The number of elements of diagonal `k` of an `n` by `m` matrix, and the position of the first.
fn diagonal_of([n, m]: [usize; 2], k: isize) -> (usize, usize) {
    let (down, right) = if k < 0 { (k.unsigned_abs(), 0) } else { (0, k as usize) };
    let length = n.saturating_sub(down).min(m.saturating_sub(right));
    (length, if length == 0 { 0 } else { down * m + right })
}

impl Tensor {
    /// Diagonal `offset` of the matrices along two axes, which are removed; the diagonal is the last axis:
    /// `jax.numpy.diagonal`. Negative axes count from the end.
    #[track_caller]
    pub fn diagonal(&self, offset: isize, axis1: isize, axis2: isize) -> Self {
        let (rank, location) = (self.rank(), Location::caller());
        let (a, b) = match (resolve(axis1, rank), resolve(axis2, rank)) {
            (Some(a), Some(b)) if a != b => (a, b),
            (Some(_), Some(_)) => {
                return self.reject("diagonal", format!("axis {axis1} is named twice"), location);
            }
            (None, _) => return self.no_axis("diagonal", axis1, location),
            (_, None) => return self.no_axis("diagonal", axis2, location),
        };
        let others: Axes = (0..rank).filter(|&axis| axis != a && axis != b).collect();
        let perm: Axes = others.iter().copied().chain([a, b]).collect();
        let (n, m) = (self.shape()[a], self.shape()[b]);
        let (length, first) = diagonal_of([n, m], offset);
        let mut flat: Shape = others.iter().map(|&axis| self.shape()[axis]).collect();
        flat.push(n * m);
        let limit = if length == 0 { 0 } else { first + (length - 1) * (m + 1) + 1 };
        let mut range: [Shape; 3] =
            [SmallVec::from_elem(0, flat.len()), flat.clone(), SmallVec::from_elem(1, flat.len())];
        let last = flat.len() - 1;
        (range[0][last], range[1][last], range[2][last]) = (first.min(limit), limit, m + 1);
        self.transpose(&perm).reshape(&flat).slice(&range[0], &range[1], &range[2])
    }

    /// Of a vector the matrix with it as diagonal `k`, of a matrix its diagonal `k`: `jax.numpy.diag`.
    #[track_caller]
    pub fn diag(&self, k: isize) -> Self {
        match self.rank() {
            1 => self.diagflat(k),
            2 => self.diagonal(k, 0, 1),
            _ => self.reject("diag", format!("takes a vector or a matrix, not {}", self.ty()), Location::caller()),
        }
    }

    /// The matrix with these elements, row-major, as diagonal `k`: `jax.numpy.diagflat`.
    #[track_caller]
    pub fn diagflat(&self, k: isize) -> Self {
        let n = self.size() + k.unsigned_abs();
        let (length, first) = diagonal_of([n, n], k);
        if length == 0 {
            return Tensor::full(&[n, n], 0, self.dtype());
        }
        let behind = n * n - (first + (length - 1) * (n + 1) + 1);
        let zero = Tensor::literal(0, self.dtype());
        self.ravel().pad(zero, &[first as isize], &[behind as isize], &[n]).reshape(&[n, n])
    }

    /// The matrices along the last two axes with zeros above diagonal `k`: `jax.numpy.tril(x, k)`.
    #[track_caller]
    pub fn tril_k(&self, k: isize) -> Self {
        self.triangle("tril", k, true)
    }

    /// The upper triangle of a matrix, or of the matrices along the last two axes: zeros below the diagonal.
    #[track_caller]
    pub fn triu(&self) -> Self {
        self.triu_k(0)
    }

    /// The matrices along the last two axes with zeros below diagonal `k`: `jax.numpy.triu(x, k)`.
    #[track_caller]
    pub fn triu_k(&self, k: isize) -> Self {
        self.triangle("triu", k - 1, false)
    }

    /// Zeros above diagonal `k`, or on it and below.
    #[track_caller]
    fn triangle(&self, op: &str, k: isize, lower: bool) -> Self {
        let [.., n, m] = *self.shape() else {
            return self.reject(op, format!("takes matrices, not {}", self.ty()), Location::caller());
        };
        let mask = tri(n, m, k, DType::Bool);
        let (x, zero) = (self, self.zeros_like());
        if lower { mask.select(x, zero) } else { mask.select(zero, x) }
    }
}

/// An `n` by `m` matrix with ones up to diagonal `k` and zeros above it: `jax.numpy.tri`.
#[track_caller]
pub fn tri(n: usize, m: usize, k: isize, dtype: DType) -> Tensor {
    let k = k.clamp(-(n as isize), m as isize) as i32;
    let index = |axis| Tensor::iota(DType::I32, &[n, m], axis);
    (index(0) + k).greater_equal(index(1)).convert(dtype)
}

/// An `n` by `m` matrix with ones on diagonal `k` and zeros elsewhere: `jax.numpy.eye`.
#[track_caller]
pub fn eye(n: usize, m: usize, k: isize, dtype: DType) -> Tensor {
    let k = k.clamp(-(n as isize), m as isize) as i32;
    let index = |axis| Tensor::iota(DType::I32, &[n, m], axis);
    (index(0) + k).equal(index(1)).convert(dtype)
}

/// The rows and columns, i32, of the elements of an `n` by `m` matrix that [`Tensor::tril_k`] keeps, row by row:
/// `jax.numpy.tril_indices`.
#[track_caller]
pub fn tril_indices(n: usize, k: isize, m: usize) -> [Tensor; 2] {
    indices(n, m, |row, column| column <= row + k)
}

/// The rows and columns, i32, of the elements of an `n` by `m` matrix that [`Tensor::triu_k`] keeps, row by row:
/// `jax.numpy.triu_indices`.
#[track_caller]
pub fn triu_indices(n: usize, k: isize, m: usize) -> [Tensor; 2] {
    indices(n, m, |row, column| column >= row + k)
}

#[track_caller]
fn indices(n: usize, m: usize, keeps: impl Fn(isize, isize) -> bool) -> [Tensor; 2] {
    let mut kept = [Vec::new(), Vec::new()];
    for row in 0..n {
        for column in (0..m).filter(|&column| keeps(row as isize, column as isize)) {
            kept[0].push(row as i32);
            kept[1].push(column as i32);
        }
    }
    kept.map(|indices| ndarray::Array1::from(indices).into())
}
