//! What [`Op::Lu`], [`Op::Solve`], [`Op::Qr`], [`Op::Eigh`] and [`Op::Svd`] mean: textbook algorithms in f64, which are
//! not those of compiled code.
//!
//! [`Op::Lu`]: crate::graph::Op::Lu
//! [`Op::Solve`]: crate::graph::Op::Solve
//! [`Op::Qr`]: crate::graph::Op::Qr
//! [`Op::Eigh`]: crate::graph::Op::Eigh
//! [`Op::Svd`]: crate::graph::Op::Svd

use smallvec::SmallVec;

use super::matrices::{extents, numbers};
use super::scalar::round;
use crate::graph::Op;
use crate::types::{TensorType, product};

/// A matrix: its rows.
type Rows = Vec<Vec<f64>>;

/// The results, of these types, of an op that decomposes the matrices of `x`, of type `ty`.
pub(super) fn decompose(op: &Op, ty: &TensorType, types: &[TensorType], x: &[u64]) -> SmallVec<[Vec<u64>; 2]> {
    let [m, n] = extents(ty);
    let x = numbers(ty, x);
    let mut results: Vec<Vec<f64>> = vec![vec![]; types.len()];
    let batch = product(ty.shape[..ty.rank() - 2].iter().copied());
    for matrix in 0..batch {
        let a: Rows = (0..m).map(|i| x[(matrix * m + i) * n..][..n].to_vec()).collect();
        let of_one: Vec<Vec<f64>> = match op {
            Op::Lu => {
                let (lu, pivots, order) = lu(a, n);
                let indices = |x: Vec<usize>| x.into_iter().map(|i| i as f64).collect();
                vec![lu.concat(), indices(pivots), indices(order)]
            }
            Op::Qr { full_matrices } => {
                let (q, r) = qr(a, n);
                let width = if *full_matrices { m } else { m.min(n) };
                vec![first_columns(&q, width).concat(), r[..width].concat()]
            }
            Op::Eigh => {
                let (values, vectors) = eigh(a);
                vec![values, vectors.concat()]
            }
            Op::Svd { full_matrices } => {
                let (u, s, vt) = svd(a, n);
                vec![first_columns(&u, if *full_matrices { m } else { n }).concat(), s, vt.concat()]
            }
            op => unreachable!("{} does not decompose matrices", op.name()),
        };
        results.iter_mut().zip(of_one).for_each(|(all, one)| all.extend(one));
    }
    let bits = |(x, ty): (Vec<f64>, &TensorType)| match ty.dtype.is_float() {
        true => x.into_iter().map(|x| round(ty.dtype, x)).collect(),
        false => x.into_iter().map(|x| ty.dtype.bits(x)).collect(),
    };
    results.into_iter().zip(types).map(bits).collect()
}

fn first_columns(a: &Rows, width: usize) -> Rows {
    a.iter().map(|row| row[..width].to_vec()).collect()
}

/// Packed factors, the row exchanged in each step, the order of the rows.
fn lu(mut a: Rows, n: usize) -> (Rows, Vec<usize>, Vec<usize>) {
    let m = a.len();
    let (mut pivots, mut order) = (vec![], (0..m).collect::<Vec<usize>>());
    for k in 0..m.min(n) {
        let pivot = (k..m).fold(k, |best, i| if a[i][k].abs() > a[best][k].abs() { i } else { best });
        a.swap(k, pivot);
        order.swap(k, pivot);
        pivots.push(pivot);
        for i in k + 1..m {
            if a[k][k] != 0.0 {
                a[i][k] /= a[k][k];
            }
            for j in k + 1..n {
                a[i][j] -= a[i][k] * a[k][j];
            }
        }
    }
    (a, pivots, order)
}

pub(super) fn solve(ty: &TensorType, transpose_a: bool, x: &[Vec<u64>]) -> Vec<u64> {
    let [n, columns] = extents(ty);
    let (a, b) = (numbers(ty, &x[0]), numbers(ty, &x[1]));
    let mut result = vec![0.0; b.len()];
    if b.is_empty() {
        return vec![];
    }
    for ((a, b), x) in a.chunks(n * n).zip(b.chunks(n * columns)).zip(result.chunks_mut(n * columns)) {
        let at = |i: usize, j: usize| if transpose_a { a[j * n + i] } else { a[i * n + j] };
        let (lu, _, order) = lu((0..n).map(|i| (0..n).map(|j| at(i, j)).collect()).collect(), n);
        for c in 0..columns {
            let mut y: Vec<f64> = order.iter().map(|&i| b[i * columns + c]).collect();
            for i in 0..n {
                y[i] -= (0..i).map(|k| lu[i][k] * y[k]).sum::<f64>();
            }
            for i in (0..n).rev() {
                y[i] = (y[i] - (i + 1..n).map(|k| lu[i][k] * y[k]).sum::<f64>()) / lu[i][i];
            }
            (0..n).for_each(|i| x[i * columns + c] = y[i]);
        }
    }
    result.into_iter().map(|x| round(ty.dtype, x)).collect()
}

/// The square Q, and R.
fn qr(mut r: Rows, n: usize) -> (Rows, Rows) {
    let m = r.len();
    let mut q = identity(m);
    for k in 0..m.min(n) {
        let alpha = r[k][k];
        let below = (k + 1..m).fold(0.0, |norm: f64, i| norm.hypot(r[i][k]));
        if below == 0.0 {
            continue;
        }
        // H = 1 - 2 v vᵀ / vᵀ v takes the column to β e.
        let beta = -alpha.hypot(below).copysign(alpha);
        let mut v = vec![0.0; m];
        (k..m).for_each(|i| v[i] = r[i][k] - if i == k { beta } else { 0.0 });
        let square: f64 = v.iter().map(|v| v * v).sum();
        for j in (0..n).skip(k) {
            let by = 2.0 * (k..m).map(|i| v[i] * r[i][j]).sum::<f64>() / square;
            (k..m).for_each(|i| r[i][j] -= by * v[i]);
        }
        for row in &mut q {
            let by = 2.0 * (k..m).map(|i| v[i] * row[i]).sum::<f64>() / square;
            (k..m).for_each(|i| row[i] -= by * v[i]);
        }
        (k + 1..m).for_each(|i| r[i][k] = 0.0);
    }
    (q, r)
}

fn identity(n: usize) -> Rows {
    (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect()
}

/// The sine and the cosine of the rotation that makes `[[x, z], [z, y]]` diagonal.
fn rotation(x: f64, y: f64, z: f64) -> (f64, f64) {
    (0.5 * (2.0 * z).atan2(x - y)).sin_cos()
}

/// Replaces columns p and q by `c p + s q` and `c q - s p`.
fn rotate(a: &mut Rows, [p, q]: [usize; 2], (s, c): (f64, f64)) {
    for row in a {
        (row[p], row[q]) = (c * row[p] + s * row[q], c * row[q] - s * row[p]);
    }
}

fn transposed(a: &Rows, n: usize) -> Rows {
    (0..n).map(|j| a.iter().map(|row| row[j]).collect()).collect()
}

/// Sweeps over all pairs of columns until none is rotated.
fn sweep(n: usize, mut rotates: impl FnMut([usize; 2]) -> bool) {
    for _ in 0..60 {
        let pairs = (0..n).flat_map(|p| (p + 1..n).map(move |q| [p, q]));
        if pairs.filter(|&pair| rotates(pair)).count() == 0 {
            break;
        }
    }
}

/// The columns of `v`, each with the largest element positive.
fn signs(v: &Rows, n: usize) -> Vec<f64> {
    let largest =
        |j: usize| v.iter().map(|row| row[j]).fold(0.0, |most: f64, x| if x.abs() > most.abs() { x } else { most });
    (0..n).map(|j| if largest(j) < 0.0 { -1.0 } else { 1.0 }).collect()
}

/// Two-sided rotations: the eigenvalues, ascending, and the eigenvectors.
fn eigh(mut a: Rows) -> (Vec<f64>, Rows) {
    let n = a.len();
    if a.iter().flatten().any(|x| !x.is_finite()) {
        return (vec![f64::NAN; n], vec![vec![f64::NAN; n]; n]);
    }
    (0..n).for_each(|i| (0..i).for_each(|j| a[j][i] = a[i][j]));
    let mut v = identity(n);
    sweep(n, |[p, q]| {
        let is_rotated = a[p][q].abs() > 1e-17 * (a[p][p].abs() + a[q][q].abs());
        if is_rotated {
            let angle = rotation(a[p][p], a[q][q], a[p][q]);
            rotate(&mut a, [p, q], angle);
            let mut rows = transposed(&a, n);
            rotate(&mut rows, [p, q], angle);
            a = rows;
            (a[p][q], a[q][p]) = (0.0, 0.0);
            rotate(&mut v, [p, q], angle);
        }
        is_rotated
    });
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[i][i].total_cmp(&a[j][j]));
    let signs = signs(&v, n);
    let vectors = v.iter().map(|row| order.iter().map(|&j| signs[j] * row[j]).collect()).collect();
    (order.iter().map(|&j| a[j][j]).collect(), vectors)
}

/// One-sided rotations: the square U, the singular values, descending, and Vᵀ.
fn svd(mut w: Rows, n: usize) -> (Rows, Vec<f64>, Rows) {
    let m = w.len();
    if w.iter().flatten().any(|x| !x.is_finite()) {
        return (vec![vec![f64::NAN; m]; m], vec![f64::NAN; n], vec![vec![f64::NAN; n]; n]);
    }
    let mut v = identity(n);
    sweep(n, |[p, q]| {
        let sum = |i: usize, j: usize| w.iter().map(|row| row[i] * row[j]).sum::<f64>();
        let (x, y, z) = (sum(p, p), sum(q, q), sum(p, q));
        let is_rotated = z.abs() > 1e-16 * (x * y).sqrt() * (m as f64).sqrt();
        if is_rotated {
            rotate(&mut w, [p, q], rotation(x, y, z));
            rotate(&mut v, [p, q], rotation(x, y, z));
        }
        is_rotated
    });
    let norms: Vec<f64> = (0..n).map(|j| w.iter().fold(0.0, |norm: f64, row| norm.hypot(row[j]))).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| norms[j].total_cmp(&norms[i]));
    let signs = signs(&v, n);
    let pick = |a: &Rows| -> Rows { a.iter().map(|row| order.iter().map(|&j| signs[j] * row[j]).collect()).collect() };
    // Also where a singular value is 0, the columns of U are orthonormal.
    let (mut u, r) = qr(pick(&w), n);
    for row in &mut u {
        (0..n).filter(|&j| r[j][j] < 0.0).for_each(|j| row[j] = -row[j]);
    }
    (u, order.iter().map(|&j| norms[j]).collect(), transposed(&pick(&v), n))
}
