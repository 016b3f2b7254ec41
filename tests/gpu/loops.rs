//! Loops whose kernels have work for several blocks: one cooperative launch, whose blocks wait for each other between
//! kernels; or one launch after the other, where there are few or the device has no cooperative ones.

use std::cell::Cell;

use fulgurite::compiler::fuse::fuse;
use fulgurite::compiler::graph::Graph;
use fulgurite::compiler::linalg::cholesky;
use fulgurite::compiler::opt::optimise;
use fulgurite::compiler::ptx::inst::{InstOp, PtxModule};
use fulgurite::compiler::ptx::simt::Options;
use fulgurite::compiler::ptx::{Cooperative, Module, Target};
use fulgurite::prelude::*;
use fulgurite::{Array, Scan, lower, scan, softmax, sort};
use fulgurite_jit::testing::{Config, program};

use super::{Numbers, ptxas, run};

/// Rows of kernels that one block does not run alone.
const ROWS: usize = 1500;

pub(crate) fn lowered(graph: &Graph, donated: bool, cooperative: Cooperative) -> Result<Module> {
    let kernels = fuse(&optimise(graph)?);
    let donated = vec![donated; kernels.params.len()];
    Module::lower(kernels, &donated, Target { cooperative, ..Target::default() })
}

fn inputs(graph: &Graph) -> Vec<Array> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    graph.param_types().iter().map(|ty| numbers.array(ty, (-1.0, 1.0))).collect()
}

/// The module of a function, which has the bits of the CPU in any order of its blocks, and so many cooperative
/// launches.
fn check<A: Tree>(name: &str, cooperative: usize, args: &A, f: impl Fn(A) -> Vec<Tensor>) -> Result<Module> {
    let graph = lower(f, args)?.graph;
    let module = run::lower(&graph, false)?;
    let count = module.launches.iter().filter(|launch| launch.cooperative).count();
    assert_eq!(count, cooperative, "{name}: {:?}", module.launches.iter().map(ToString::to_string).collect::<Vec<_>>());
    ptxas::check(name, &module.ptx);
    let inputs = inputs(&graph);
    for seed in [None, Some(1)] {
        let options = Options { order: seed, interleave: seed, ..Options::default() };
        run::compare(&graph, &inputs, &options).unwrap_or_else(|fault| panic!("{name}, order {seed:?}: {fault}"));
    }
    // A device has room for fewer blocks than a launch has at most.
    for blocks in 1..=if cooperative > 0 { 3 } else { 0 } {
        let lower = |graph: &Graph, donated: bool| {
            let mut module = run::lower(graph, donated)?;
            let resident = module.launches.iter_mut().filter(|launch| launch.cooperative);
            resident.for_each(|launch| launch.grid = launch.grid.min(blocks));
            Ok(module)
        };
        run::compare_as(&graph, &inputs, &Options::default(), lower)
            .unwrap_or_else(|fault| panic!("{name}, on {blocks} blocks: {fault}"));
    }
    Ok(module)
}

/// A loop with a kernel of rows in each trip.
fn rows((h, xs): (Tensor, Tensor)) -> Vec<Tensor> {
    vec![scan(|h: Tensor, x: Tensor| (h * x + 0.5, ()), h, xs).0]
}

fn rows_of(trips: usize) -> Result<Graph> {
    Ok(lower(rows, &(Tensor::zeros(&[ROWS]), Tensor::zeros(&[trips])))?.graph)
}

#[test]
fn a_loop_is_one_launch_however_long() -> Result<()> {
    let text = |trips: usize| -> Result<String> {
        let module = run::lower(&rows_of(trips)?, false)?;
        assert_eq!((module.launches.len(), module.launches[0].cooperative), (1, true), "{trips} trips");
        Ok(module.ptx.to_string().replace(&trips.to_string(), "TRIPS"))
    };
    assert_eq!(text(23)?, text(1_000_000)?);
    Ok(())
}

#[test]
fn few_launches_are_launches() -> Result<()> {
    let (auto, never) = (Cooperative::Auto, Cooperative::Never);
    for (trips, cooperative, launches) in [(1, auto, 1), (3, auto, 3), (40, auto, 1), (40, never, 40)] {
        let graph = rows_of(trips)?;
        let module = lowered(&graph, false, cooperative)?;
        assert_eq!(module.launches.len(), launches, "{trips} trips");
        let inputs = inputs(&graph);
        let (results, executed) = run::run(&module, &inputs, &Options::default())?;
        let (expected, _) = run::run(&lowered(&graph, false, never)?, &inputs, &Options::default())?;
        assert_eq!(results, expected, "{trips} trips");
        // One is before each trip.
        assert_eq!(executed.grid_barriers, if launches < trips { trips as u64 } else { 0 });
    }
    let error = lowered(&rows_of(100_000)?, false, never).expect_err("too many").to_string();
    assert!(error.contains("100000 launches are more than the 65536 of a run"), "{error}");
    Ok(())
}

#[test]
fn carries_lie_in_one_buffer_or_two() -> Result<()> {
    for trips in [10, 11] {
        for reverse in [false, true] {
            let name = format!("{trips} trips, reverse {reverse}");
            let xs = Tensor::zeros(&[trips, ROWS]);
            let how = Scan { reverse, ..Scan::default() };
            check(&format!("{name}, in place"), 1, &(Tensor::zeros(&[ROWS]), xs.clone()), |(h, xs)| {
                let (last, all) = how.run(|h: Tensor, x: Tensor| (&h + &x, h * x), h, xs);
                vec![last, all]
            })?;
            // What another block has written is read.
            let args = ((Tensor::zeros(&[ROWS]), Tensor::zeros(&[ROWS])), xs);
            check(&format!("{name}, exchanged"), 1, &args, |(h, xs)| {
                let step = |(a, b): (Tensor, Tensor), x: Tensor| ((b.flip(0) + &x, a * 0.5), ());
                let ((a, b), ()) = how.run(step, h, xs);
                vec![a, b]
            })?;
        }
    }
    let args = (Tensor::zeros(&[64, 64]), Tensor::zeros(&[64, 64]), Tensor::zeros(&[10]));
    check("products", 1, &args, |(h, w, xs)| {
        vec![scan(|h: Tensor, x: Tensor| ((h.matmul(&w) * x).tanh(), ()), h, xs).0]
    })
    .map(drop)
}

#[test]
fn small_kernels_are_the_first_block_s() -> Result<()> {
    let args = (Tensor::zeros(&[ROWS]), Tensor::zeros(&[9]), Tensor::zeros(&[12]));
    let module = check("large and small", 1, &args, |(h, s, xs)| {
        let step = |(h, s): (Tensor, Tensor), x: Tensor| {
            let s = softmax(&(s * &x), -1);
            let s = softmax(&s.flip(0), -1) + h.slice(&[0], &[9], &[1]);
            ((h * &x + s.sum(), s), ())
        };
        let ((h, s), ()) = scan(step, (h, s), xs);
        vec![h, s]
    })?;
    assert_eq!(module.launches.len(), 1);
    Ok(())
}

#[test]
fn loops_are_nested() -> Result<()> {
    let args = (Tensor::zeros(&[ROWS]), Tensor::zeros(&[4, 3, ROWS]));
    check("large in large", 1, &args, |(h, xs)| {
        let inner = |h: Tensor, x: Tensor| (h.flip(0) + &x, x * 2.0);
        let outer = |h: Tensor, xs: Tensor| {
            let (h, all) = scan(inner, h * 0.5, xs);
            (h, all.sum_axes(0))
        };
        let (last, all) = scan(outer, h, xs);
        vec![last, all]
    })?;
    let args = (Tensor::zeros(&[ROWS]), Tensor::zeros(&[7]), Tensor::zeros(&[11, 5, 7]));
    check("small in large", 1, &args, |(h, s, xs)| {
        let inner = |s: Tensor, x: Tensor| (s * 0.5 + x, ());
        let outer = |(h, s): (Tensor, Tensor), xs: Tensor| {
            let (s, ()) = scan(inner, s, xs);
            ((h.flip(0) + s.sum(), s), ())
        };
        let ((h, s), ()) = scan(outer, (h, s), xs);
        vec![h, s]
    })
    .map(drop)
}

#[test]
fn routines_and_segments_are_in_loops() -> Result<()> {
    let args = (Tensor::zeros(&[20, 33]), Tensor::zeros(&[12, 20, 33]));
    check("sorts", 1, &args, |(h, xs)| {
        vec![scan(|h: Tensor, x: Tensor| (sort(&[&(h * 0.5 + x)], -1, 1).remove(0), ()), h, xs).0]
    })?;
    let args = (Tensor::zeros(&[6, 8, 8]), Tensor::zeros(&[12]));
    let eye: Vec<f32> = (0..64).map(|i| if i % 9 == 0 { 1.0 } else { 0.0 }).collect();
    let eye = Tensor::from_vec(&[8, 8], eye)?;
    check("factors", 1, &args, |(h, xs)| {
        let step = |h: Tensor, x: Tensor| {
            let a = h.matmul(&h.transpose(&[0, 2, 1])) + &eye * (x + 3.0);
            (cholesky(&a), ())
        };
        vec![scan(step, h, xs).0]
    })?;
    let leaves: Vec<Tensor> = [1000, 1, 3000, 40, 700].map(|n| Tensor::zeros(&[n])).into();
    let args = (leaves, Tensor::zeros(&[12]));
    let module = check("segments", 1, &args, |(leaves, xs): (Vec<Tensor>, Tensor)| {
        let step = |leaves: Vec<Tensor>, x: Tensor| (leaves.iter().map(|h| h * &x + 0.5).collect::<Vec<_>>(), ());
        scan(step, leaves, xs).0
    })?;
    assert!(module.kernels.to_string().contains("segment"), "{}", module.kernels);
    Ok(())
}

#[test]
fn gradients_and_batches_of_loops() -> Result<()> {
    let loss = |(h, w, xs): &(Tensor, Tensor, Tensor)| {
        let w = w.clone();
        scan(move |h: Tensor, x: Tensor| ((h * &w + x).tanh(), ()), h.clone(), xs.clone()).0.square().sum()
    };
    let args = (Tensor::zeros(&[ROWS]), Tensor::zeros(&[ROWS]), Tensor::zeros(&[10, ROWS]));
    check("gradient", 2, &args, |args| {
        let (value, (h, w, xs)) = value_and_grad(loss)(&args);
        vec![value, h, w, xs]
    })?;
    let args = (Tensor::zeros(&[5, 300]), Tensor::zeros(&[12, 300]));
    check("batch", 1, &args, |(h, xs)| {
        vec![vmap(|(h, xs): (Tensor, Tensor)| scan(|h: Tensor, x: Tensor| (h.flip(0) + x, ()), h, xs).0, (0, None))((
            h, xs,
        ))]
    })
    .map(drop)
}

#[test]
fn extents_are_0_and_1() -> Result<()> {
    let step = |h: Tensor, x: Tensor| (&h + &x, h * x);
    for (shape, trips, cooperative) in
        [(&[ROWS][..], 0, 0), (&[ROWS], 1, 0), (&[0], 20, 0), (&[1], 20, 0), (&[1, ROWS, 1], 20, 1), (&[], 20, 0)]
    {
        let args = (Tensor::zeros(shape), Tensor::zeros(&[trips]));
        check(&format!("{shape:?}, {trips} trips"), cooperative, &args, |(h, xs)| {
            let (last, all) = scan(step, h, xs);
            vec![last, all]
        })?;
    }
    Ok(())
}

/// How many random programs run; `FULGURITE_GPU_PROGRAMS` and `FULGURITE_GPU_SEED` choose others.
const PROGRAMS: u64 = 60;

/// More blocks than there is work for, in every loop.
#[test]
fn random_loops_have_the_bits_of_the_cpu() {
    let first = run::number("FULGURITE_GPU_SEED", 1);
    let programs = run::number("FULGURITE_GPU_PROGRAMS", PROGRAMS);
    let loops = Cell::new(0);
    let lower = |graph: &Graph, donated| {
        let mut module = lowered(graph, donated, Cooperative::Always)?;
        for launch in module.launches.iter_mut().filter(|launch| launch.cooperative) {
            launch.grid = launch.grid.max(3);
            loops.set(loops.get() + 1);
        }
        Ok(module)
    };
    let faults = run::each(first..first + programs, |seed| {
        let (graph, inputs) = program(seed, &Config { large: 0, ..Config::COMPILED });
        let options = Options { order: Some(seed), ..Options::default() };
        run::compare_as(&graph, &inputs, &options, lower)
            .map(drop)
            .map_err(|fault| format!("seed {seed}: {fault}\n{graph}"))
    });
    println!("{} loops", loops.get());
    assert!(faults.is_empty(), "of {programs} programs {} failed\n{}", faults.len(), faults.join("\n"));
    assert!(loops.get() > 0 || run::on_device(), "some programs have loops");
}

/// What the interpreter says of a loop without some of its instructions.
fn fault(without: impl Fn(&InstOp) -> bool) -> Result<String> {
    let args = (Tensor::zeros(&[ROWS]), Tensor::zeros(&[12]));
    let graph = lower(|(h, xs)| vec![scan(|h: Tensor, x: Tensor| (h.flip(0) + x, ()), h, xs).0], &args)?.graph;
    let mut module = run::lower(&graph, false)?;
    let PtxModule { entries, .. } = &mut module.ptx;
    entries.iter_mut().for_each(|entry| entry.body.retain(|inst| !without(&inst.op)));
    Ok(run::run(&module, &inputs(&graph), &Options::default()).map(drop).expect_err("a fault").to_string())
}

#[test]
fn a_missing_part_of_a_barrier_is_found() -> Result<()> {
    for (what, error) in [
        ("fences", fault(|op| *op == InstOp::MembarGl)?),
        ("barriers of blocks", fault(|op| *op == InstOp::Bar)?),
        ("the barrier", fault(|op| matches!(op, InstOp::MembarGl | InstOp::Bar | InstOp::Atom { .. }))?),
    ] {
        assert!(
            error.contains("race: it accesses memory") || error.contains("never written"),
            "without {what}: {error}"
        );
    }
    Ok(())
}
