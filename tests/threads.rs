//! The same bits on any number of threads and with any vectors, for whole training steps.

use fulgurite::compiler::cpu::{Isa, Parallelism, Target};
use fulgurite::compiler::fuse::{Kernel, fuse};
use fulgurite::compiler::interp::interpret;
use fulgurite::compiler::lower::lower as lower_kernels;
use fulgurite::compiler::lower::machine::Machine;
use fulgurite::compiler::opt::optimise;
use fulgurite::compiler::{Array, TensorType};
use fulgurite::prelude::*;
use fulgurite::runtime::Program;
use fulgurite::{Lowered, lower, scan};
use fulgurite_benches::WORKLOADS;

/// An array of `ty`: small numbers, among them what a label or a key may be.
fn sample(ty: &TensorType, seed: usize) -> Result<Array> {
    let number = |i: usize| (i * 7 + seed * 13) % 29;
    let bits = |i: usize| match ty.dtype {
        dtype if dtype.is_float() => dtype.bits(number(i) as f64 / 232.0),
        dtype if dtype.is_signed_int() => dtype.bits(number(i) % 10),
        dtype if dtype.is_int() => dtype.bits(number(i)),
        dtype => dtype.bits(number(i) % 2 == 0),
    };
    Array::from_bits(ty, &(0..ty.elements()).map(bits).collect::<Vec<u64>>())
}

#[test]
fn steps_are_the_same_on_any_number_of_threads() -> Result<()> {
    // The large mixer is the small one with other extents.
    for workload in WORKLOADS.iter().filter(|w| !["mixer", "elementwise_big"].contains(&w.name)) {
        let Lowered { graph, .. } = (workload.lower)()?;
        let inputs: Vec<Array> =
            graph.param_types().iter().enumerate().map(|(i, ty)| sample(ty, i)).collect::<Result<_>>()?;
        let run = |isa: Isa, threads: usize, parallelism: Parallelism| -> Result<Vec<Array>> {
            let target = Target { isa, threads, parallelism };
            let program = Program::compile_for(workload.name, &graph, &vec![false; inputs.len()], target)?;
            program.run(inputs.clone())
        };
        let alone = run(Isa::detect(), 1, Parallelism::Auto)?;
        assert!(alone.iter().all(|x| x.to_f64_vec().unwrap().iter().all(|x| x.is_finite())), "{}", workload.name);
        for threads in [2, 3, 7] {
            for parallelism in [Parallelism::Auto, Parallelism::Always] {
                let shared = run(Isa::detect(), threads, parallelism)?;
                assert!(shared == alone, "{}: {threads} threads, parallelism {parallelism:?}", workload.name);
            }
        }
        for &isa in Isa::available() {
            assert!(run(isa, 3, Parallelism::Always)? == alone, "{}: {isa:?}", workload.name);
        }
    }
    Ok(())
}

/// Arrays that are read along one axis and added up along another, in blocks of 16 and with all kinds of remainders.
#[test]
fn what_is_read_across_its_rows_is_right() -> Result<()> {
    for [batch, rows, lanes] in
        [[1, 4, 8], [2, 16, 16], [8, 16, 32], [4, 17, 33], [5, 64, 49], [16, 5, 100], [4, 100, 15]]
    {
        let normalised = |x: Tensor| {
            let y = x.transpose(&[0, 2, 1]);
            let total = (&y * &y).sum_axes(2).expand_dims(2);
            &y / (total + 1.0)
        };
        let n = batch * rows * lanes;
        let data: Vec<f32> = (0..n).map(|i| (i * 7 % 31) as f32 / 31.0 - 0.4).collect();
        let x = Tensor::from_vec(&[batch, rows, lanes], data.clone())?;
        let lowered = lower(normalised, &x)?;
        let is_staged = lowered.listing.iter().any(|kernel| kernel.loops.contains("transpose"));
        // Where threads divide the batch, and vectors are filled.
        assert_eq!(is_staged, batch >= 4 && rows >= 8, "{batch}x{rows}x{lanes}");
        let mut results = Vec::new();
        for (isa, threads) in Isa::available().iter().flat_map(|&isa| [(isa, 1), (isa, 3)]) {
            let target = Target { isa, threads, parallelism: Parallelism::Always };
            let program = Program::compile_for("across", &lowered.graph, &[false], target)?;
            let result = program.run(vec![x.array()?.clone()])?.remove(0);
            for (at, &y) in result.as_slice::<f32>()?.iter().enumerate() {
                let (b, l, r) = (at / (rows * lanes), at / rows % lanes, at % rows);
                let row = |r: usize| data[(b * rows + r) * lanes + l];
                let total: f32 = (0..rows).map(|r| row(r) * row(r)).sum();
                assert!((y - row(r) / (total + 1.0)).abs() < 1e-6, "{batch}x{rows}x{lanes}, element {at}: {y}");
            }
            results.push(result);
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{batch}x{rows}x{lanes}");
    }
    Ok(())
}

/// A broadcast that is read in another order of its axes, in two loops that are run and divided as one. What is packed
/// for them was once put between the two: then the outer one ran for both.
#[test]
fn collapsed_loops_with_transposed_reads_stay_inside_of_memory() -> Result<()> {
    let x = Key::new(0).normal(&[7, 8, 6, 1]);
    let moved = |x: &Tensor| x.broadcast_to(&[7, 8, 6, 6]).transpose(&[0, 3, 2, 1]);
    let outside = moved(&x).to_vec::<f32>()?;
    let f = jit(move |x: Tensor| moved(&x));
    for _ in 0..200 {
        assert!(f.call(x.clone())?.to_vec::<f32>()? == outside);
    }
    let (x, w) = (Key::new(1).normal(&[8, 32, 16]), Key::new(2).normal(&[4, 16, 32]));
    let product = |x: &Tensor, w: &Tensor| x.transpose(&[0, 2, 1]).expand_dims(1) * w.expand_dims(0);
    let outside = product(&x, &w).to_vec::<f32>()?;
    let f = Jit::with_borrowed("product", move |(), (x, w): (Tensor, Tensor)| product(&x, &w));
    for _ in 0..200 {
        assert!(f.call_with((), (x.clone(), w.clone()))?.to_vec::<f32>()? == outside);
    }
    Ok(())
}

/// Programs of many independent chains of ops, of a few bodies and of many extents; some depend on others. Where bodies
/// are equal, one kernel has a segment for each chain. The ops are exact, so the interpreter gives the same bits.
#[test]
fn kernels_of_several_segments_are_right() -> Result<()> {
    const EXTENTS: [usize; 15] = [0, 1, 2, 7, 8, 10, 15, 16, 17, 31, 33, 100, 1000, 4096, 5000];
    let mut joined = 0;
    for seed in 0..24_usize {
        let mut state = seed * 2 + 1;
        let mut draw = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let few = 1 + draw(EXTENTS.len());
        // Extent and body of each chain, and whether it takes a result of the chain before.
        let chains: Vec<(usize, usize, bool)> =
            (0..2 + draw(40)).map(|_| (EXTENTS[draw(few)], draw(4), draw(6) == 0)).collect();
        let program = |(xs, s): (Vec<Tensor>, Tensor)| {
            let (mut results, mut before) = (Vec::new(), s.clone());
            for (x, &(_, body, depends)) in xs.iter().zip(&chains) {
                let y = if depends { x - &before } else { x.clone() };
                results.push(match body {
                    0 => (&y + &s).maximum(&y),
                    1 => y.abs() - &s,
                    2 => (&y - 0.5).maximum(&s) * &y,
                    _ => y.maximum(0.25),
                });
                // An exact reduction beside elementwise results.
                let most = (y.maximum(0.0) * 8.0).astype(DType::I32).sum();
                before = most.minimum(5).astype(DType::F32);
                results.push(most);
            }
            results
        };
        let xs: Vec<Tensor> = chains.iter().map(|&(n, ..)| Tensor::ones(&[n])).collect();
        let lowered = lower(program, &(xs, Tensor::ones(&[])))?;
        joined +=
            lowered.kernels.kernels.iter().filter(|k| matches!(k, Kernel::Loop(k) if !k.segments.is_empty())).count();
        let graph = &lowered.graph;
        let types = graph.param_types();
        let inputs = || types.iter().enumerate().map(|(i, ty)| sample(ty, i + seed)).collect::<Result<Vec<_>>>();
        let expected = interpret(graph, &inputs()?)?;
        for (isa, threads) in Isa::available().iter().flat_map(|&isa| [(isa, 1), (isa, 3)]) {
            for parallelism in [Parallelism::Auto, Parallelism::Always] {
                for donate in [0, 1, 2] {
                    let donated: Vec<bool> =
                        (0..types.len()).map(|i| donate == 1 || donate == 2 && i % 2 == 0).collect();
                    let target = Target { isa, threads, parallelism };
                    let program = Program::compile_for("segments", graph, &donated, target)?;
                    let got = program.run(inputs()?)?;
                    assert!(got == expected, "seed {seed}, {target:?}, donated {donate}:\n{}", lowered.kernels);
                }
            }
        }
    }
    assert!(joined > 20, "{joined} kernels of several segments");
    Ok(())
}

/// A loop whose body is for one thread, in a phase of all threads: one of them runs it.
#[test]
fn a_loop_of_one_thread_runs_once() -> Result<()> {
    type Args = (Tensor, Tensor, Tensor, Tensor, Tensor);
    let step = |(a, b, c, w, x): Args| {
        // The second product lies where the first one lay.
        let body = |(a, b, c): (Tensor, Tensor, Tensor), x: Tensor| {
            let sum = (b.matmul(&w) * 0.25).tanh() + a;
            let product = sum.matmul(&w.t()) * &sum;
            ((sum, c + x, product.clone()), product)
        };
        let ((h, _, last), all) = scan(body, (a.clone(), b, c), x);
        let update = a.t().matmul(&h) * 0.01;
        (h, last, all, &w - update)
    };
    let row = || Tensor::zeros(&[1, 600]);
    let zeros = (row(), row(), row(), Tensor::zeros(&[600, 600]), Tensor::zeros(&[1, 1, 600]));
    let Lowered { graph, .. } = lower(step, &zeros)?;
    let inputs: Vec<Array> =
        graph.param_types().iter().enumerate().map(|(i, ty)| sample(ty, i)).collect::<Result<_>>()?;
    let target = |threads| Target { isa: Isa::detect(), threads, parallelism: Parallelism::Auto };
    let module = lower_kernels(fuse(&optimise(&graph)?), &[false; 5], Machine::from(target(3)))?;
    assert!(module.phases[0].parallel);
    let ranges: Vec<&[usize]> = module.ranges.iter().map(|words| &words[..2]).collect();
    assert_eq!(ranges.iter().filter(|range| range[0] < range[1]).count(), 1, "{ranges:?}");
    let program = |threads| Program::compile_for("one thread", &graph, &[false; 5], target(threads));
    let alone = program(1)?.run(inputs.clone())?;
    for threads in [2, 3] {
        assert!(program(threads)?.run(inputs.clone())? == alone, "{threads} threads");
    }
    Ok(())
}
