//! The same bits on any number of threads and with any vectors, for whole training steps.

use fulgurite::compiler::cpu::{Isa, Parallelism, Target};
use fulgurite::compiler::{Array, TensorType};
use fulgurite::prelude::*;
use fulgurite::runtime::Program;
use fulgurite::{Lowered, lower};
use fulgurite_benches::WORKLOADS;

/// An array of `ty`: small numbers, among them what a label or a key may be.
fn sample(ty: &TensorType, seed: usize) -> Result<Array> {
    let number = |i: usize| (i * 7 + seed * 13) % 29;
    let bits = |i: usize| match ty.dtype {
        dtype if dtype.is_float() => dtype.bits(number(i) as f64 / 29.0),
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
        assert!(alone.iter().all(|x| x.to_f64_vec().iter().all(|x| x.is_finite())), "{}", workload.name);
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
