//! Shapes at the borders of what the emitter does: elements of loops that begin anywhere, more arrays than an entry has
//! parameters, rows longer than what a thread keeps, nothing to sort.

use fulgurite::compiler::ptx::simt::Options;
use fulgurite::prelude::*;
use fulgurite::{lower, scan, sort};

use super::{Numbers, run};

/// Compares a function of these arguments on both devices.
pub(crate) fn check<A: Tree>(name: &str, args: &A, f: impl Fn(A) -> Vec<Tensor>) -> Result<()> {
    let graph = lower(f, args)?.graph;
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let inputs: Vec<_> = graph.param_types().iter().map(|ty| numbers.array(ty, (-1.0, 1.0))).collect();
    run::compare(&graph, &inputs, &Options::default()).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    Ok(())
}

#[test]
fn elements_of_loops_begin_anywhere() -> Result<()> {
    for dtype in [DType::F32, DType::F64, DType::I32] {
        for columns in [4097, 4098, 4100, 5000] {
            let args = (Tensor::full(&[columns], 0.0, dtype), Tensor::full(&[3, columns], 0.0, dtype));
            let body = |h: Tensor, x: Tensor| (&h + &x, h * x);
            check(&format!("{dtype}[3,{columns}]"), &args, |(h, xs)| {
                let (last, all) = scan(body, h, xs);
                vec![last, all]
            })?;
        }
    }
    // A loop in a loop, whose elements are aligned, in one whose are not.
    let args = (Tensor::zeros(&[4096]), Tensor::zeros(&[2, 3, 4097]));
    check("nested", &args, |(h, xs)| {
        let inner = |h: Tensor, x: Tensor| (h + x.slice(&[0], &[4096], &[1]), ());
        let outer = |h: Tensor, xs: Tensor| (scan(inner, h, xs).0, ());
        vec![scan(outer, h, xs).0]
    })
}

#[test]
fn there_are_more_arrays_than_parameters() -> Result<()> {
    let leaves = vec![Tensor::zeros(&[3, 5]); 700];
    check("700 arrays", &leaves, |leaves: Vec<Tensor>| {
        leaves.iter().enumerate().map(|(i, x)| x.sum_axes((i % 2) as isize) * i as f64).collect()
    })
}

#[test]
fn rows_are_longer_than_what_a_thread_keeps() -> Result<()> {
    for columns in [513, 8000, 40_000] {
        check(&format!("softmax of {columns}"), &Tensor::zeros(&[2, columns]), |x: Tensor| {
            vec![softmax(&gelu(&x), -1)]
        })?;
    }
    Ok(())
}

#[test]
fn nothing_is_sorted() -> Result<()> {
    for shape in [&[3, 0][..], &[0, 3], &[0], &[1]] {
        check(&format!("sort of {shape:?}"), &Tensor::zeros(shape), |x: Tensor| sort(&[&x], -1, 1))?;
    }
    Ok(())
}
