//! Products and what follows them: the same bits in one kernel, at the borders of tiles and of what a follower may be.

use fulgurite::compiler::fuse::Source;
use fulgurite::compiler::ptx::simt::Options;
use fulgurite::prelude::*;
use fulgurite::{lower, scan};

use super::shapes::check;
use super::{Numbers, run};

/// Extents at the borders of parts and tiles.
const EXTENTS: [usize; 9] = [0, 1, 2, 5, 16, 17, 33, 64, 68];

type Args = Vec<Tensor>;

fn zeros(dtype: DType, shapes: &[&[usize]]) -> Args {
    shapes.iter().map(|shape| Tensor::full(shape, 0.0, dtype)).collect()
}

#[test]
fn elements_of_products_go_on_in_registers() -> Result<()> {
    for m in EXTENTS {
        for n in EXTENTS {
            let args = zeros(DType::F32, &[&[m, 9], &[9, n], &[n], &[m, n]]);
            check(&format!("dense {m} by {n}"), &args, |x: Args| {
                let p = x[0].matmul(&x[1]) + &x[2];
                vec![p.tanh() + &x[3], p.greater(0.0)]
            })?;
        }
    }
    for dtype in [DType::F32, DType::F64] {
        for [batch, m, n, k] in [[3, 20, 12, 17], [2, 1, 40, 8], [5, 16, 1, 1], [1, 1, 1, 0], [2, 24, 36, 16]] {
            let args = zeros(dtype, &[&[batch, m, k], &[batch, k, n], &[batch, m, n], &[n, batch], &[m, 1]]);
            check(&format!("{dtype} {batch} by {m} by {n} by {k}"), &args, |x: Args| {
                let p = x[0].matmul(&x[1]);
                let scaled = &p * &x[2] + x[3].transpose(&[1, 0]).reshape(&[batch, 1, n]) - &x[4];
                vec![scaled.transpose(&[2, 0, 1]).exp()]
            })?;
            check(&format!("{dtype} {batch} by {m} by {n} by {k}, used twice"), &args, |x: Args| {
                let p = x[0].matmul(&x[1]);
                vec![p.tanh() * &x[2], p.sum_axes(1), p]
            })?;
            check(&format!("{dtype} {batch} by {m} by {n} by {k}, and another"), &args, |x: Args| {
                let q = (&x[0] * 2.0).matmul(&x[1]);
                vec![x[0].matmul(&x[1]) + q + &x[2]]
            })?;
        }
    }
    Ok(())
}

/// A reshape splits rows and columns; its loops do not end where those of the product do.
#[test]
fn followers_have_other_loops_than_products() -> Result<()> {
    let args = zeros(DType::F32, &[&[24, 10], &[10, 20], &[5, 96], &[4, 5, 24], &[6]]);
    check("reshaped", &args, |x: Args| {
        let p = x[0].matmul(&x[1]);
        let one = p.reshape(&[5, 96]) * &x[2];
        let two = x[0].matmul(&(&x[1] + 1.0)).reshape(&[24, 4, 5]).transpose(&[1, 2, 0]) + &x[3];
        let three = x[0].matmul(&(&x[1] + 2.0)).reshape(&[4, 6, 4, 5]) + x[4].reshape(&[6, 1, 1]);
        vec![one, two, three]
    })
}

#[test]
fn followers_in_loops_begin_anywhere() -> Result<()> {
    for (m, n) in [(1, 5), (4, 4), (6, 7), (70, 70)] {
        let args = zeros(DType::F32, &[&[m, n], &[n, n], &[3, m, n]]);
        check(&format!("a loop over {m} by {n}"), &args, |x: Args| {
            let w = x[1].clone();
            let step = move |h: Tensor, x: Tensor| {
                let h = (h.matmul(&w) + x).tanh();
                (h.clone(), h)
            };
            let (last, all) = scan(step, x[0].clone(), x[2].clone());
            vec![last, all]
        })?;
    }
    Ok(())
}

/// How many launches a step has, and how many products have no memory for their result.
fn counts(args: &Args, f: impl Fn(Args) -> Vec<Tensor>) -> Result<(usize, usize)> {
    let graph = lower(f, args)?.graph;
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let inputs: Vec<_> = graph.param_types().iter().map(|ty| numbers.array(ty, (-1.0, 1.0))).collect();
    run::compare(&graph, &inputs, &Options::default()).unwrap_or_else(|fault| panic!("{fault}"));
    let module = run::lower(&graph, true)?;
    let passed = module.kernels.buffers.iter().filter(|b| matches!(b.source, Source::Passed)).count();
    Ok((module.launches.len(), passed))
}

#[test]
fn a_product_and_what_follows_it_are_one_launch() -> Result<()> {
    let args = zeros(DType::F32, &[&[96, 128], &[128, 96], &[96], &[128, 96], &[96, 96]]);
    assert_eq!(counts(&args, |x| vec![(x[0].matmul(&x[1]) + &x[2]).tanh()])?, (1, 1), "bias and activation");
    assert_eq!(counts(&args, |x| vec![x[0].matmul(&x[1]).tanh(), x[0].matmul(&x[1])])?, (1, 0), "a result");
    let update = |x: Args| {
        let gradient = x[0].transpose(&[1, 0]).matmul(&x[4]);
        let moment = &x[3] * 0.9 + gradient * 0.1;
        vec![&x[1] - &moment * 0.01, moment]
    };
    assert_eq!(counts(&args, update)?, (1, 1), "an update");
    // The weights are read by the gradient of the input before they are updated in place.
    let both = |x: Args| {
        let input = x[4].matmul(&x[1].transpose(&[1, 0]));
        let mut results = update(x);
        results.push(input);
        results
    };
    let module = run::lower(&lower(both, &args)?.graph, true)?;
    assert_eq!(module.launches.len(), 2, "an update and another product");
    assert!(module.plan.aliases[..2].iter().all(Option::is_some), "the update is in place");
    // A product that reads what would be updated stays apart, and the update in place.
    let square = zeros(DType::F32, &[&[96, 96], &[96, 96]]);
    assert_eq!(counts(&square, |x| vec![(x[0].matmul(&x[1]) + &x[0]).tanh()])?, (2, 0), "an operand is updated");
    // A softmax is no follower, nor is a sum.
    assert_eq!(counts(&args, |x| vec![(x[0].matmul(&x[1]) + &x[2]).sum_axes(0)])?, (2, 0), "a sum");
    Ok(())
}
