//! Long programs: what is unrolled into thousands of ops compiles, runs and is right, whatever the ops are.
//!
//! That compiling takes time in proportion is seen in what is counted here and in the passes' own tests;
//! `cargo bench --bench compile` measures it.

use fulgurite::compiler::cpu::{Isa, Parallelism, Target};
use fulgurite::compiler::fuse::{Kernel, fuse};
use fulgurite::compiler::graph::Graph;
use fulgurite::compiler::interp::interpret;
use fulgurite::compiler::opt::optimise;
use fulgurite::compiler::trace::trace;
use fulgurite::prelude::*;
use fulgurite::runtime::Program;
use fulgurite::{Array, TensorType};

/// A function of an array that is as long as the number says.
type Long = fn(&Tensor, usize) -> Tensor;

/// So many times `f`, which is told which time it is.
fn again(x: &Tensor, times: usize, f: impl Fn(Tensor, usize) -> Tensor) -> Tensor {
    (0..times).fold(x.clone(), f)
}

/// Long programs by what makes them long, and the shape of their argument.
const PROGRAMS: &[(&str, &[usize], Long)] = &[
    ("a sum", &[4], |x, n| again(x, n, |y, _| &y + x)),
    ("a product of scalars", &[], |x, n| again(x, n, |y, _| y * 0.9999)),
    ("constants, all different", &[4], |x, n| again(x, n, |y, i| y * (1.0 - i as f64 * 1e-8))),
    ("a dear function", &[20], |x, n| again(x, n, |y, _| y.sin())),
    ("ops that cost nothing", &[4], |x, n| again(x, n, |y, _| y.stop_gradient())),
    ("views", &[5, 3], |x, n| again(x, n, |y, i| if i % 2 == 0 { y.rev(&[0]) } else { y.t().rev(&[1]).t() })),
    ("reshapes that need storage", &[4, 6], |x, n| again(x, n, |y, _| y.t().reshape(&[4, 6]))),
    ("repetitions", &[3], |x, n| {
        again(x, n, |y, i| y.expand_dims(0).broadcast_to(&[2 + i % 2, 3]).slice_in_dim(0, 1..2).reshape(&[3]))
    }),
    ("concatenations", &[4], |x, n| {
        again(x, n, |y, _| Tensor::concat(&[&y.slice_in_dim(0, 1..4), &y.slice_in_dim(0, 0..1)], 0))
    }),
    ("reductions", &[40], |x, n| again(x, n, |y, _| x * y.mean() + 0.1)),
    ("matrix products", &[3, 3], |x, n| again(x, n, |y, _| x.matmul(&y))),
    ("a fan", &[4], |x, n| (0..n).fold(x.clone(), |y, i| y + (x * i as f64).sin())),
    ("many parts", &[4], |x, n| {
        let parts: Vec<Tensor> = (0..n).map(|i| (x * i as f64).sum_keep(0)).collect();
        Tensor::concat(&parts.iter().collect::<Vec<_>>(), 0)
    }),
    ("a scan", &[4], |x, n| {
        let mut state = x.slice_in_dim(0, 0..1);
        let states: Vec<Tensor> = (0..n)
            .map(|i| {
                state = &state * 0.5 + x.slice_in_dim(0, i % 4..i % 4 + 1);
                state.clone()
            })
            .collect();
        Tensor::concat(&states.iter().collect::<Vec<_>>(), 0)
    }),
];

/// An array of small numbers.
fn sample(ty: &TensorType) -> Result<Array> {
    Array::from_vec(&ty.shape, (0..ty.elements()).map(|i| (i * 7 % 29) as f32 / 87.0 + 0.01).collect())
}

fn graph_of(shape: &[usize], f: impl Fn(&Tensor) -> Tensor) -> Result<Graph> {
    Ok(trace(&[TensorType::new(DType::F32, shape)], |xs| vec![f(&xs[0])])?.graph)
}

/// Compiles and runs for one thread, and compares with the interpreter.
fn check(name: &str, graph: &Graph) -> Result<()> {
    let inputs: Vec<Array> = graph.param_types().iter().map(sample).collect::<Result<_>>()?;
    let got = Program::compile_for(name, graph, &[false], Target::one_thread())?.run(inputs.clone())?.remove(0);
    let want = interpret(graph, &inputs)?.remove(0);
    assert_eq!(got.ty(), want.ty(), "{name}");
    for (got, want) in got.to_f64_vec().unwrap().into_iter().zip(want.to_f64_vec().unwrap()) {
        let close = (got - want).abs() <= 1e-4 * want.abs() + 1e-6;
        assert!(close || got == want, "{name}: {got}, not {want}");
    }
    Ok(())
}

#[test]
fn programs_of_twenty_thousand_ops_compile_and_are_right() -> Result<()> {
    for (name, shape, f) in PROGRAMS {
        check(name, &graph_of(shape, |x| f(x, 20_000))?)?;
    }
    Ok(())
}

#[test]
fn long_programs_have_derivatives() -> Result<()> {
    for (name, shape, f) in PROGRAMS {
        check(name, &graph_of(shape, |x| grad(|x: &Tensor| f(x, 2_000).square().sum())(x))?)?;
        check(name, &graph_of(shape, |x| jvp(|x: &Tensor| f(x, 2_000), x, x).1)?)?;
        check(name, &graph_of(shape, |x| vmap(|x: Tensor| f(&x, 500), 0)(x.expand_dims(0)))?)?;
    }
    Ok(())
}

/// A step of gradient descent on a net that is the vector field of so many steps of Euler's method.
fn training(steps: usize) -> Result<Graph> {
    let net = Mlp::new(2, 2, 16, 1, Tensor::tanh, Key::new(0));
    graph_of(&[64, 2], |x| {
        let loss = |net: &Mlp| again(x, steps, |y, _| &y + net.call(&y) * 0.1).square().mean();
        let gradient = grad(loss)(&net);
        leaves(&gradient).iter().fold(x * 0.0, |sum, leaf| sum + leaf.sum())
    })
}

#[test]
fn long_steps_are_the_same_on_any_number_of_threads() -> Result<()> {
    let graph = training(60)?;
    let inputs: Vec<Array> = graph.param_types().iter().map(sample).collect::<Result<_>>()?;
    let run = |isa: Isa, threads: usize, parallelism: Parallelism| -> Result<(Vec<Array>, usize)> {
        let program = Program::compile_for("long", &graph, &[true], Target { isa, threads, parallelism })?;
        Ok((program.run(inputs.clone())?, program.kernels().kernels.len()))
    };
    let (alone, kernels) = run(Isa::detect(), 1, Parallelism::Auto)?;
    assert!(kernels > 500, "the driver of {kernels} kernels is in pieces");
    for threads in [2, 3] {
        for parallelism in [Parallelism::Auto, Parallelism::Always] {
            assert!(
                run(Isa::detect(), threads, parallelism)?.0 == alone,
                "{threads} threads, parallelism {parallelism:?}"
            );
        }
    }
    for &isa in Isa::available() {
        assert!(run(isa, 3, Parallelism::Always)?.0 == alone, "{isa:?}");
    }
    check("a long step", &graph)
}

#[test]
fn what_a_long_program_becomes_grows_with_its_length_alone() -> Result<()> {
    for (name, shape, f) in PROGRAMS {
        let kernels = |n: usize| -> Result<usize> {
            let graph = optimise(&graph_of(shape, |x| f(x, n))?)?;
            let kernels = fuse(&graph).kernels;
            let longest = kernels.iter().map(|kernel| match kernel {
                Kernel::Loop(kernel) => kernel.values.len(),
                Kernel::Gemm(_) | Kernel::Routine(_) | Kernel::Region(_) => 1,
            });
            let longest = longest.max().unwrap_or(0);
            assert!(longest <= 1_000, "{name}: a kernel of {longest} values");
            Ok(kernels.len())
        };
        let (short, long) = (kernels(1_000)?, kernels(4_000)?);
        assert!(long <= 4 * short + 10, "{name}: {short} kernels become {long}");
    }
    Ok(())
}
