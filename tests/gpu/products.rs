//! Products and what follows them: the same bits in one kernel, at the borders of tiles and of what a follower may be.

use std::collections::HashSet;
use std::sync::Arc;

use fulgurite::compiler::fuse::{Buffer, BufferId, GemmKernel, Kernel, Kernels, Levels, Output, Source, Tap};
use fulgurite::compiler::ptx::inst::Entry;
use fulgurite::compiler::ptx::simt::{Counts, Options};
use fulgurite::compiler::ptx::{Module, Target};
use fulgurite::compiler::trace::trace;
use fulgurite::prelude::*;
use fulgurite::{Array, Precision, TensorType, lower, scan};
use fulgurite_benches::WORKLOADS;

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

/// What is executed by a product of these operands, which has the bits of the CPU.
fn executed(args: &Args, f: impl Fn(Args) -> Tensor) -> Result<Counts> {
    let graph = lower(|x| vec![f(x)], args)?.graph;
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let inputs: Vec<_> = graph.param_types().iter().map(|ty| numbers.array(ty, (-1.0, 1.0))).collect();
    let options = Options { races: false, ..Options::default() };
    Ok(run::compare(&graph, &inputs, &options).unwrap_or_else(|fault| panic!("{fault}")).counts)
}

/// Every layout of the operands, in tiles of all sizes.
#[test]
fn accesses_of_shared_memory_are_free_of_conflicts() -> Result<()> {
    for [m, n, k] in [[1024, 2048, 16], [256, 512, 32], [128, 64, 64], [64, 64, 64], [16, 48, 128], [1, 64, 256]] {
        for dtype in [DType::F32, DType::F64] {
            for [a, b] in [[false, false], [false, true], [true, false], [true, true]] {
                let (left, right) = (if a { [k, m] } else { [m, k] }, if b { [n, k] } else { [k, n] });
                if m * n > 1 << 20 && (b || dtype == DType::F64) {
                    continue;
                }
                let counts = executed(&zeros(dtype, &[&left, &right]), |x: Args| {
                    let turned = |x: &Tensor, turn| if turn { x.transpose(&[1, 0]) } else { x.clone() };
                    turned(&x[0], a).matmul(&turned(&x[1], b))
                })?;
                assert_eq!(counts.bank_conflicts, 0, "{dtype} {m} by {n} by {k}, transposed {a} {b}");
            }
        }
    }
    Ok(())
}

/// The sums of a product of these taps, as the CPU adds them: each is one chain.
fn chains(g: &GemmKernel, a: &[f32], b: &[f32]) -> Vec<u32> {
    let [batch, m, n, k] = g.extents;
    let at = |(_, offset, strides): &(BufferId, isize, [isize; 3]), tap: isize, index: [usize; 3]| {
        let place = strides.iter().zip(index).map(|(stride, i)| stride * i as isize).sum::<isize>();
        (offset + tap + place) as usize
    };
    let element = |c: usize| {
        let [z, i, j] = [c / (m * n), c / n % m, c % n];
        let terms = g.taps.iter().flat_map(|tap| (0..k).map(move |t| (tap, t)));
        let add = |sum: f32, (tap, t): (&Tap, usize)| {
            a[at(&g.a, tap.a, [z, i, t])].mul_add(b[at(&g.b, tap.b, [z, t, j])], sum)
        };
        terms.fold(0.0, add).to_bits()
    };
    (0..batch * m * n).map(element).collect()
}

/// Windows, whose taps are loops, and taps in no order.
#[test]
fn taps_are_added_in_order() -> Result<()> {
    let window = |taps: &[isize], channels: isize, n: isize| -> Vec<Tap> {
        taps.iter().enumerate().map(|(w, &a)| Tap { a: a * channels, b: w as isize * channels * n }).collect()
    };
    let (square, line) = ([0, 1, 2, 10, 11, 12, 20, 21, 22], [0, 1, 2, 3, 4]);
    let cube: Vec<isize> = square.iter().flat_map(|x| [*x, 100 + x]).collect();
    for (batch, m, n, channels, offsets) in [
        (1, 20, 5, 3, &square[..]),
        (2, 33, 36, 16, &square),
        (1, 70, 8, 70, &line),
        (1, 1, 1, 1, &cube),
        (2, 4, 4, 0, &line),
        (1, 17, 20, 4, &[3, 0, 2, 0]),
        (1, 16, 16, 8, &[5]),
    ] {
        let (rows, taps) = (m + 123, window(offsets, channels as isize, n as isize));
        let types =
            [[batch, rows, channels], [taps.len(), channels, n]].map(|shape| TensorType::new(DType::F32, &shape));
        let buffer = |ty: &TensorType, source| Buffer { ty: ty.clone(), source };
        let (ic, c) = (channels as isize, TensorType::new(DType::F32, &[batch, m, n]));
        let g = GemmKernel {
            extents: [batch, m, n, channels],
            dtype: DType::F32,
            precision: Precision::Highest,
            a: (BufferId(0), 0, [rows as isize * ic, ic, 1]),
            b: (BufferId(1), 0, [0, n as isize, 1]),
            taps: taps.into_iter().collect(),
            c: (BufferId(2), 0, [(m * n) as isize, n as isize, 1]),
            levels: Levels::default(),
        };
        let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
        let inputs = types.each_ref().map(|ty| numbers.array(ty, (-1.0, 1.0)));
        let sources = [Source::Param(0), Source::Param(1), Source::Computed];
        let kernels = Kernels {
            buffers: types.iter().chain([&c]).zip(sources).map(|(ty, source)| buffer(ty, source)).collect(),
            params: types.to_vec(),
            kernels: vec![Kernel::Gemm(g.clone())],
            outputs: vec![Output::Computed(BufferId(2), Arc::new(c))],
        };
        let module = Module::lower(kernels, &[false; 2], Target::default())?;
        let (results, _) = run::run(&module, &inputs, &Options::default())?;
        let floats = |x: Array| x.to_f64_vec().map(|x| x.into_iter().map(|x| x as f32).collect::<Vec<_>>());
        let [a, b] = inputs.map(floats);
        let (a, b) = (a?, b?);
        let bits: Vec<u32> = results[0].to_bits()?.into_iter().map(|bits| bits as u32).collect();
        assert_eq!(bits, chains(&g, &a, &b), "{g}");
    }
    Ok(())
}

/// The driver compiles each entry once.
#[test]
fn equal_kernels_share_an_entry() -> Result<()> {
    for workload in WORKLOADS {
        let module = run::lower(&(workload.lower)()?.graph, false)?;
        let (launches, entries) = (module.launches.len(), module.ptx.entries.len());
        println!("{}: {launches} launches of {entries} entries", workload.name);
        let code = |entry: &Entry| Entry { name: String::new(), ..entry.clone() };
        let distinct: HashSet<Entry> = module.ptx.entries.iter().map(code).collect();
        assert_eq!(distinct.len(), entries, "{}", workload.name);
    }
    Ok(())
}

/// A product does not move behind a kernel that updates its operand, which is in place then.
#[test]
fn updates_of_operands_stay_in_place() -> Result<()> {
    let args = zeros(DType::F32, &[&[96, 64], &[40, 96]]);
    let step = |x: Args| {
        let product = x[1].matmul(&x[0]);
        let next = &x[0] * 0.9 + 0.5;
        let sums = next.sum_axes(0);
        vec![next, (product + sums).tanh()]
    };
    let module = run::lower(&lower(step, &args)?.graph, true)?;
    assert_eq!(module.plan.aliases[0], Some(0), "{}", module.kernels);
    check("an update and a product", &args, step)
}

/// More elements than kernels count are no loop of a product either.
#[test]
fn elements_are_counted() -> Result<()> {
    let ty = |shape: &[usize]| TensorType::new(DType::F32, shape);
    let many = 1 << 16;
    let traced = trace(&[ty(&[many, 2]), ty(&[2, many])], |x| vec![(x[0].matmul(&x[1]) + 1.0).tanh()])?;
    let error = run::lower(&traced.graph, false).map(drop).expect_err("too many").to_string();
    assert!(error.contains("4294967296 is more than the 2147483647 that a GPU kernel counts"), "{error}");
    Ok(())
}
