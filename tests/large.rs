//! Arguments that hardly any lane has: trigonometry of large numbers, remainders of large quotients. Each vector takes
//! the branch where one of its lanes asks for it, and only that lane is changed.

use fulgurite::compiler::cpu::{Isa, Parallelism, Target};
use fulgurite::compiler::graph::{BinaryOp, Graph, Node, Op, UnaryOp};
use fulgurite::prelude::*;
use fulgurite::runtime::Program;
use fulgurite::{Array, Element};

/// What `ops` give for each of these inputs, on every set of instructions and with threads: they have to agree to the
/// bit.
fn everywhere(ops: &[Op], inputs: &[Array]) -> Vec<Array> {
    let mut graph = Graph::new();
    let params: Vec<_> = inputs.iter().map(|x| graph.param(x.ty().clone())).collect();
    for op in ops {
        let operands = params[..op.arity().expect("a fixed number")].iter().copied().collect();
        let ty = inputs[0].ty().clone();
        let id = graph.push(Node { op: op.clone(), operands, ty, location: None });
        graph.outputs.push(id);
    }
    let mut results: Option<Vec<Array>> = None;
    for (isa, threads) in Isa::available().iter().flat_map(|&isa| [(isa, 1), (isa, 2)]) {
        let target = Target { isa, threads, parallelism: Parallelism::Always };
        let program = Program::compile_for("large", &graph, &vec![false; inputs.len()], target).expect("compiles");
        let got = program.run(inputs.to_vec()).expect("memory");
        let first = results.get_or_insert_with(|| got.clone());
        for (got, first) in got.iter().zip(first) {
            let alike = |(x, y): (&f64, &f64)| x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan();
            assert!(
                got.to_f64_vec().unwrap().iter().zip(&first.to_f64_vec().unwrap()).all(alike),
                "{isa:?} {threads} threads"
            );
        }
    }
    results.expect("one set of instructions, at the least")
}

/// Small numbers with a large one at every `every`-th place.
fn mixed<T: Element>(n: usize, every: usize, small: impl Fn(usize) -> T, large: impl Fn(usize) -> T) -> Array {
    Array::from_vec(&[n], (0..n).map(|i| if i % every == every / 2 { large(i) } else { small(i) }).collect())
        .expect("n of them")
}

fn trigonometry() -> [Op; 3] {
    [UnaryOp::Sin, UnaryOp::Cos, UnaryOp::Tan].map(Op::Unary)
}

#[test]
fn trigonometry_of_large_numbers_among_small_ones() {
    // All small, one of many, one per vector, every other, all large; whole vectors and remainders.
    for (n, every) in [(0, 1), (1, 1), (1, 2), (3, 1), (7, 2), (16, 1000), (33, 16), (100, 7), (257, 2), (1000, 1)] {
        let large = |i: usize| 2f64.powi(21 + (i * 37 % 100) as i32) * (1.0 + (i % 13) as f64 / 13.0);
        let x =
            mixed(n, every, |i| (i as f32 - 50.0) * 0.37, |i| large(i) as f32 * if i % 3 == 0 { -1.0 } else { 1.0 });
        for (k, got) in everywhere(&trigonometry(), std::slice::from_ref(&x)).iter().enumerate() {
            for (x, got) in x.to_f64_vec().unwrap().into_iter().zip(got.to_f64_vec().unwrap()) {
                let want = [x.sin(), x.cos(), x.tan()][k];
                let tolerance = if x.abs() >= 2f64.powi(21) { 6.1e-8 } else { 2.4e-7 };
                assert!((got - want).abs() <= tolerance * want.abs(), "f32 {k} of {x}: {got}, not {want}");
            }
        }
        let large = |i: usize| 2f64.powi(48 + (i * 37 % 900) as i32) * (1.0 + (i % 13) as f64 / 13.0);
        let x = mixed(n, every, |i| (i as f64 - 50.0) * 0.37, large);
        for (k, got) in everywhere(&trigonometry(), std::slice::from_ref(&x)).iter().enumerate() {
            for (x, got) in x.to_f64_vec().unwrap().into_iter().zip(got.to_f64_vec().unwrap()) {
                let want = [x.sin(), x.cos(), x.tan()][k];
                assert!((got - want).abs() <= 6e-16 * want.abs(), "f64 {k} of {x}: {got}, not {want}");
            }
        }
    }
}

#[test]
fn remainders_of_large_quotients_are_exact() {
    let rem = [Op::Binary(BinaryOp::Rem)];
    for (n, every) in [(1, 1), (5, 2), (16, 1000), (33, 16), (257, 3), (1000, 1)] {
        let x = mixed(
            n,
            every,
            |i| i as f32 * 1.7 - 9.0,
            |i| 1e30 * (i as f32 + 1.1) * if i % 2 == 0 { 1.0 } else { -1.0 },
        );
        let y = mixed(n, 5, |i| 0.7 + i as f32, |i| if i % 2 == 0 { f32::INFINITY } else { 3e-20 });
        let got = &everywhere(&rem, &[x.clone(), y.clone()])[0];
        let (x, y) = (x.as_slice::<f32>().expect("f32"), y.as_slice::<f32>().expect("f32"));
        for ((x, y), got) in x.iter().zip(y).zip(got.as_slice::<f32>().expect("f32")) {
            assert_eq!(*got, x % y, "{x} % {y}");
        }
        let x = mixed(n, every, |i| i as f64 * 1.7 - 9.0, |i| -1e300 * (i as f64 + 1.1));
        let y = mixed(n, 5, |i| 0.7 + i as f64, |_| 3e-200);
        let got = &everywhere(&rem, &[x.clone(), y.clone()])[0];
        for ((x, y), got) in x.to_f64_vec().unwrap().iter().zip(y.to_f64_vec().unwrap()).zip(got.to_f64_vec().unwrap())
        {
            assert_eq!(got, x % y, "{x} % {y}");
        }
    }
    // No number by 0, of an infinity, or with NaN.
    let [inf, nan] = [f32::INFINITY, f32::NAN];
    let x = Array::from_vec(&[6], vec![5.0, inf, -inf, nan, 1.0, inf]).expect("six");
    let y = Array::from_vec(&[6], vec![0.0, 2.0, inf, 1.0, nan, 0.0]).expect("six");
    assert!(everywhere(&rem, &[x, y])[0].to_f64_vec().unwrap().iter().all(|x| x.is_nan()));
}

/// Values that live across the branch keep theirs, whatever registers and masks they are in; reductions and rows too.
#[test]
fn what_else_a_kernel_computes_is_left_alone() -> Result<()> {
    fn step(x: &Tensor, y: &Tensor) -> Tensor {
        let powers: Vec<Tensor> = (1..24).map(|k| x * (k as f64) + y).collect();
        let mask = x.greater(y);
        let (sine, cosine) = ((x * 1e9).sin(), (y * 1e9).cos());
        let sum = powers.iter().fold(sine * 0.0, |sum, p| sum + p * p.less(0.0).select(&cosine * 0.0 + 1.0, 2.0));
        let sum = mask.select(&sum, -&sum) + (x.sum_keep(1) * 1e12).sin() * 0.0;
        let mean = (sum - (x * 1e30 % 7.0) * 0.0).mean_axes(1);
        mean + x.max_axes(1)
    }
    for (rows, columns) in [(1usize, 1usize), (3, 5), (8, 33), (5, 64)] {
        for dtype in [DType::F32, DType::F64] {
            let x = Key::new(1).normal_as(&[rows, columns], dtype);
            let y = Key::new(2).normal_as(&[rows, columns], dtype);
            let within = jit(|(x, y): (Tensor, Tensor)| step(&x, &y)).call((x.clone(), y.clone()))?;
            let (within, outside) =
                (within.array()?.to_f64_vec().unwrap(), step(&x, &y).array()?.to_f64_vec().unwrap());
            for (within, outside) in within.iter().zip(&outside) {
                assert!((within - outside).abs() <= 1e-4 * outside.abs().max(1.0), "{within}, not {outside}");
            }
        }
    }
    Ok(())
}
