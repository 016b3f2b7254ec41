//! Loops whose number of trips the GPU alone knows, and branches: one launch, of one block or cooperative.

use fulgurite::compiler::ptx::simt::Options;
use fulgurite::compiler::ptx::{Cooperative, Module};
use fulgurite::prelude::*;
use fulgurite::{Array, cond, fori_loop, lower, scan, switch, while_loop};

use super::loops::lowered;
use super::{ptxas, run};

/// Rows of kernels that one block does not run alone.
const ROWS: usize = 1500;

fn numbers(shape: &[usize]) -> Array {
    let n: usize = shape.iter().product();
    Array::from_vec(shape, (0..n).map(|i| (i * 37 % 101) as f32 / 71.0 - 0.7).collect()).expect("as many elements")
}

/// For each number of trips or of a branch: the bits of the CPU, in any order of blocks, on any number of blocks, and
/// in one block where the device has no cooperative launches. All of it is one launch.
fn check<A: Tree>(
    name: &str,
    cooperative: bool,
    numbers: &[i32],
    args: &[Array],
    f: impl Fn(Tensor, A) -> Vec<Tensor>,
    like: A,
) -> Result<()> {
    let graph = lower(|(n, x): (Tensor, A)| f(n, x), &(Tensor::scalar(0i32), like))?.graph;
    let module = run::lower(&graph, false)?;
    let is_cooperative = module.launches.iter().any(|launch| launch.cooperative);
    assert_eq!(
        is_cooperative,
        cooperative,
        "{name}: {:?}",
        module.launches.iter().map(ToString::to_string).collect::<Vec<_>>()
    );
    if name == "nested" {
        ptxas::check_nested(name, &module.ptx)
    } else {
        ptxas::check(name, &module.ptx)
    }
    for &n in numbers {
        let inputs: Vec<Array> = std::iter::once(Array::scalar(n)).chain(args.iter().cloned()).collect();
        for seed in [None, Some(1)] {
            let options = Options { order: seed, interleave: seed, ..Options::default() };
            run::compare(&graph, &inputs, &options)
                .unwrap_or_else(|fault| panic!("{name} {n}, order {seed:?}: {fault}"));
        }
        for (blocks, how) in [(1, Cooperative::Auto), (3, Cooperative::Auto), (1, Cooperative::Never)] {
            let lower = |graph: &_, donated: bool| -> Result<Module> {
                let mut module = lowered(graph, donated, how)?;
                let resident = module.launches.iter_mut().filter(|launch| launch.cooperative);
                resident.for_each(|launch| launch.grid = launch.grid.min(blocks));
                Ok(module)
            };
            run::compare_as(&graph, &inputs, &Options::default(), lower)
                .unwrap_or_else(|fault| panic!("{name} {n}, {how:?} on {blocks} blocks: {fault}"));
        }
    }
    Ok(())
}

fn trips<C: Tree>(n: &Tensor, body: impl FnOnce(C) -> C, init: C) -> C {
    fori_loop(0, n, |_, carry| body(carry), init)
}

#[test]
fn small_loops_are_one_block_s() -> Result<()> {
    let args = [numbers(&[7]), numbers(&[7, 7])];
    let like = (Tensor::zeros(&[7]), Tensor::zeros(&[7, 7]));
    check(
        "small",
        false,
        &[0, 1, 2, 5],
        &args,
        |n, (x, w)| {
            let body = |(a, b): (Tensor, Tensor)| (b.matmul(&w), a.sin());
            let (a, b) = trips(&n, body, (x.clone(), x));
            vec![a, b]
        },
        like,
    )
}

#[test]
fn large_loops_are_cooperative() -> Result<()> {
    let args = [numbers(&[ROWS]), numbers(&[64, 64])];
    let like = (Tensor::zeros(&[ROWS]), Tensor::zeros(&[64, 64]));
    check(
        "large",
        true,
        &[0, 1, 2, 5],
        &args,
        |n, (x, w)| {
            // In place, exchanged between blocks, a product, and what is small.
            let body = |(a, b, p, s): (Tensor, Tensor, Tensor, Tensor)| {
                let s = s + b.max();
                (a * 0.5 + 1.0, b.flip(0) + &s * 0.1, p.matmul(&w).tanh(), s)
            };
            let (a, b, p, s) = trips(&n, body, (x.clone(), x, w.clone(), Tensor::scalar(0.5f32)));
            vec![a, b, p, s]
        },
        like,
    )?;
    check(
        "until small",
        false,
        &[1, 3],
        &args[..1],
        |n, x| {
            vec![while_loop(|x: &Tensor| x.abs().max().greater(0.25), |x| x.flip(0) * 0.5, x * n.convert(DType::F32))]
        },
        Tensor::zeros(&[ROWS]),
    )
}

#[test]
fn loops_are_nested() -> Result<()> {
    for rows in [5, ROWS] {
        check(
            "nested",
            rows == ROWS,
            &[0, 1, 3],
            &[numbers(&[rows]), numbers(&[3, rows])],
            |n, (x, xs)| {
                let step = |c: Tensor, x: Tensor| (trips(&n, |c: Tensor| c.flip(0) * 0.5 + &x, c), x.sum());
                let body = |c: Tensor| {
                    let (c, sums) = scan(step, c, xs.clone());
                    c + sums.sum()
                };
                vec![trips(&n, body, x)]
            },
            (Tensor::zeros(&[rows]), Tensor::zeros(&[3, rows])),
        )?;
    }
    Ok(())
}

#[test]
fn branches_run_one_at_a_time() -> Result<()> {
    for rows in [5, ROWS] {
        check(
            "branches",
            rows == ROWS,
            &[-1, 0, 1, 2, 9],
            &[numbers(&[rows])],
            |n, x| {
                let branches: [&dyn Fn(Tensor) -> (Tensor, Tensor); 3] =
                    [&|x| (x.flip(0).sin(), x.sum()), &|x| (x.clone(), Tensor::scalar(2.0f32)), &|x| {
                        (while_loop(|x: &Tensor| x.max().greater(0.1), |x| x.flip(0) * 0.5, x.clone()), x.max())
                    }];
                let (a, b) = switch(&n, branches, x * 2.0);
                // In a loop, of which trips differ.
                let body = |(a, b): (Tensor, Tensor)| {
                    let a = cond(&b.greater(1.0), |a: Tensor| a.flip(0) + 1.0, |a| a * 0.5, a);
                    (a, b - 1.0)
                };
                let (c, _) = trips(&(n + 2), body, (a.clone(), b.clone()));
                vec![a, b, c]
            },
            Tensor::zeros(&[rows]),
        )?;
    }
    Ok(())
}

#[test]
fn a_loop_is_in_the_launches_around_it() -> Result<()> {
    // Few trips of large kernels are launches, with the loop in each.
    let graph = lower(
        |(n, x, xs): (Tensor, Tensor, Tensor)| {
            let step = |c: Tensor, x: Tensor| (trips(&n, |c: Tensor| c.flip(0) * 0.5 + &x, c), ());
            vec![scan(step, x, xs).0]
        },
        &(Tensor::scalar(0i32), Tensor::zeros(&[ROWS]), Tensor::zeros(&[2, ROWS])),
    )?
    .graph;
    for how in [Cooperative::Auto, Cooperative::Never, Cooperative::Always] {
        let lower = |graph: &_, donated: bool| -> Result<Module> { lowered(graph, donated, how) };
        for n in [0, 1, 2, 3] {
            let inputs = [Array::scalar(n), numbers(&[ROWS]), numbers(&[2, ROWS])];
            run::compare_as(&graph, &inputs, &Options::default(), lower)
                .unwrap_or_else(|fault| panic!("{how:?} {n}: {fault}"));
        }
    }
    Ok(())
}
