//! Batches of small matrices, and single larger ones: microseconds of decompositions and solutions.
//!
//! `FULGURITE_THREADS=1 cargo bench --bench matrices [-- NAME …]` prints a table for one thread, the variable left out
//! one for all; `benches/matrices.py` prints JAX's and PyTorch's.

use fulgurite::linalg;
use fulgurite::prelude::*;
use fulgurite_benches::median_seconds;

/// A name, and a function of positive definite matrices and of right-hand sides.
type Function = (&'static str, fn(&Tensor, &Tensor) -> Tensor);

const FUNCTIONS: &[Function] = &[
    ("cholesky", |a, _| linalg::cholesky(a)),
    ("solve", linalg::solve),
    ("solve_grad", |a, b| grad(|a: &Tensor| linalg::solve(a, b).square().sum())(a)),
    ("inv", |a, _| linalg::inv(a)),
    ("det", |a, _| linalg::det(a)),
    ("qr", |a, _| linalg::qr(a).0),
    ("eigh", |a, _| linalg::eigh(a).1),
    ("svd", |a, _| linalg::svd(a, false).0),
];

/// How many matrices, and of which order.
const SHAPES: [[usize; 2]; 8] =
    [[10_000, 2], [10_000, 3], [10_000, 4], [10_000, 8], [256, 16], [32, 32], [1, 128], [1, 512]];

fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    for [batch, n] in SHAPES {
        let x = Key::new(0).normal(&[batch, n, n]);
        let index = |axis| Tensor::iota(DType::I32, &[n, n], axis);
        let a = x.matmul(&x.t()) + index(0).equal(index(1)).convert(DType::F32) * n;
        let b = Key::new(1).normal(&[batch, n, 1]);
        for &(name, f) in FUNCTIONS.iter().filter(|(f, _)| names.is_empty() || names.iter().any(|n| n == f)) {
            let step = jit(move |(a, b): (Tensor, Tensor)| f(&a, &b));
            let us = median_seconds(|| step.call((a.clone(), b.clone())).map(drop))? * 1e6;
            println!("{name:<12} {batch:>6} x {n:<4} {us:>12.2} us");
        }
    }
    Ok(())
}
