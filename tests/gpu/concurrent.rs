//! Concurrent kernels: which are one launch, and that they have the bits of the CPU in any order of blocks.

use fulgurite::compiler::ptx::Module;
use fulgurite::compiler::ptx::simt::Options;
use fulgurite::prelude::*;
use fulgurite::{lower, softmax};

use super::{Numbers, run};

type Args = Vec<Tensor>;

/// The blocks of each launch of a program, which has the bits of the CPU.
fn blocks(shapes: &[&[usize]], donated: bool, f: impl Fn(Args) -> Vec<Tensor>) -> Result<(Vec<u32>, Module)> {
    let args: Args = shapes.iter().map(|shape| Tensor::zeros(shape)).collect();
    let graph = lower(f, &args)?.graph;
    let mut numbers = Numbers(0x1357_9bdf_0246_8ace);
    let inputs: Vec<_> = graph.param_types().iter().map(|ty| numbers.array(ty, (-1.0, 1.0))).collect();
    for seed in [None, Some(1), Some(2)] {
        let options = Options { order: seed, interleave: seed, ..Options::default() };
        run::compare(&graph, &inputs, &options).unwrap_or_else(|fault| panic!("{fault}"));
    }
    let module = run::lower(&graph, donated)?;
    Ok((module.launches.iter().map(|launch| launch.grid).collect(), module))
}

#[test]
fn independent_kernels_are_one_launch() -> Result<()> {
    let shapes: [&[usize]; 5] = [&[8192], &[96, 64], &[64, 80], &[120, 40], &[3, 1500]];
    let (launches, _) = blocks(&shapes, false, |x| {
        vec![x[0].exp(), x[1].matmul(&x[2]), x[3].tanh().sum_axes(1), softmax(&x[4], 1), x[4].sin()]
    })?;
    assert_eq!(launches.len(), 1, "{launches:?}");
    Ok(())
}

#[test]
fn kernels_that_need_each_other_are_not() -> Result<()> {
    // A product, then two kernels that read all of it.
    let (launches, _) = blocks(&[&[96, 64], &[64, 96]], false, |x| {
        let y = x[0].matmul(&x[1]);
        vec![y.sum_axes(1), y.transpose(&[1, 0]).matmul(&y)]
    })?;
    assert_eq!(launches.len(), 2, "{launches:?}");
    Ok(())
}

#[test]
fn large_kernels_are_launches() -> Result<()> {
    let (launches, _) = blocks(&[&[1 << 18], &[1 << 17]], false, |x| vec![x[0].exp(), x[1].sin()])?;
    assert_eq!(launches, [256, 128]);
    Ok(())
}

/// What updates an argument stays in place beside others that read it only if these come before.
#[test]
fn updates_stay_in_place() -> Result<()> {
    let (launches, module) = blocks(&[&[8192], &[8192]], true, |x| vec![&x[0] + 1.0, x[0].cos() * &x[1]])?;
    assert_eq!(module.plan.aliases.iter().flatten().count(), 2, "{launches:?}");
    Ok(())
}
