//! Random steps of the extents at which the emitter changes its ways: products and what takes their elements, long
//! rows, tiles, scatters; also in loops of one launch, with donated inputs, and by tensor cores.

use std::cell::RefCell;

use fulgurite::compiler::fuse::fuse;
use fulgurite::compiler::graph::Graph;
use fulgurite::compiler::opt::optimise;
use fulgurite::compiler::ptx::simt::Options;
use fulgurite::compiler::ptx::{Cooperative, Module, Target};
use fulgurite::prelude::*;
use fulgurite::{Array, Precision, lower, relu, scan, softmax, where_, with_matmul_precision};

use super::shapes::check;
use super::{Numbers, run};

/// Rows and columns.
const EXTENTS: [usize; 12] = [1, 2, 3, 4, 16, 17, 20, 33, 64, 65, 130, 600];

/// The most operations of a product.
const OPERATIONS: usize = 2_000_000;

/// How many random steps run; `FULGURITE_GPU_PROGRAMS` and `FULGURITE_GPU_SEED` choose others.
const PROGRAMS: u64 = 20;

fn below(numbers: &mut Numbers, n: usize) -> usize {
    ((numbers.next() * n as f64) as usize).min(n - 1)
}

/// The state, three matrices of `m` by `n`; a weight and a bias; indices of rows; an input for each trip.
type Args = (Vec<Tensor>, (Tensor, Tensor), Tensor, Tensor);

/// Adds a value to those that there are.
fn add(numbers: &mut Numbers, pool: &mut Vec<Tensor>, (w, b): &(Tensor, Tensor), i: &Tensor) {
    let [x, y] = [(); 2].map(|()| pool[below(numbers, pool.len())].clone());
    let turned = |x: Tensor| x.transpose(&[1, 0]).reshape(y.shape());
    let new = match below(numbers, 17) {
        0 => (x.matmul(w) + b).tanh(),
        1 => relu(&(x.matmul(w) + b)) + &y,
        2 => x.matmul(&w.t()) * &y,
        3 => softmax(&x, -1) + &y * 0.5,
        4 => (&x - x.mean_keep(-1)) * (x.var_keep(-1) + 1e-2).rsqrt(),
        5 => &x * x.sum_axes(0).tanh(),
        6 => turned(x) + &y,
        7 => x.at(i).add(&y),
        8 => x.at(i).set(&(&y * 2.0)),
        9 => x.take(i, 0) - &y,
        10 => where_(&x.greater(0.0), &y, &x) * 0.5,
        11 => x.flip(0) + &y,
        12 => {
            let product = x.matmul(w);
            pool.push(product.tanh().square() - &y);
            product * 0.25
        }
        13 => (x.t().matmul(&y) * 0.1).sum_axes(0).tanh() + &x,
        14 => x.matmul(&x.t()).tanh().matmul(&y) * 0.1,
        15 => x.sum_keep(-1) * y.max_keep(-1) + &x * &y,
        _ => turned(x.matmul(w)).tanh() + x.max_axes(0),
    };
    pool.push(new);
}

/// A step, some of them with a loop, some with an update of the weight.
fn step(seed: u64, precision: Precision) -> Result<Graph> {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    for _ in 0..8 {
        numbers.next();
    }
    let [m, n] = loop {
        let [m, n] = [(); 2].map(|()| EXTENTS[below(&mut numbers, EXTENTS.len())]);
        if m * n * n.max(m) <= OPERATIONS {
            break [m, n];
        }
    };
    let trips = below(&mut numbers, 7).saturating_sub(2);
    let values = 1 + below(&mut numbers, 6);
    let updates = below(&mut numbers, 3) == 0;
    let args = (
        vec![Tensor::zeros(&[m, n]); 3],
        (Tensor::zeros(&[n, n]), Tensor::zeros(&[n])),
        Tensor::full(&[m], 0.0, DType::I32),
        Tensor::zeros(&[trips.max(1), m, n]),
    );
    let numbers = RefCell::new(numbers);
    let step = |(state, weights, i, xs): Args| {
        let last = |mut pool: Vec<Tensor>| {
            (0..values).for_each(|_| add(&mut numbers.borrow_mut(), &mut pool, &weights, &i));
            pool.split_off(pool.len() - 3)
        };
        let mut results = if trips == 0 {
            last(state.clone())
        } else {
            let body = |mut h: Vec<Tensor>, x: Tensor| {
                h.push(x);
                let next = last(h);
                let out = next[2].clone();
                (next, out)
            };
            let (mut results, out) = scan(body, state.clone(), xs);
            results.push(out);
            results
        };
        if updates {
            results.push(&weights.0 - state[0].t().matmul(&results[0]) * 0.01);
        }
        results
    };
    Ok(with_matmul_precision(precision, || lower(step, &args))?.graph)
}

/// Whole numbers are indices, of which some are out of range.
fn inputs(graph: &Graph, seed: u64) -> Vec<Array> {
    let mut numbers = Numbers(seed | 1);
    let rows = graph.param_types()[0].shape[0] as f64;
    let range = |dtype: DType| if dtype.is_int() { (-1.0, rows) } else { (-1.0, 1.0) };
    graph.param_types().iter().map(|ty| numbers.array(ty, range(ty.dtype))).collect()
}

/// The module of a step, for more blocks than it has work for, or for few.
fn module(graph: &Graph, donated: bool, seed: u64, target: Target) -> Result<Module> {
    let kernels = fuse(&optimise(graph)?);
    let donated = vec![donated; kernels.params.len()];
    let mut module = Module::lower(kernels, &donated, target)?;
    for launch in module.launches.iter_mut().filter(|launch| launch.cooperative) {
        launch.grid = if seed.is_multiple_of(5) { launch.grid.max(3) } else { launch.grid.min(1 + seed as u32 % 4) };
    }
    Ok(module)
}

fn seeds() -> std::ops::Range<u64> {
    let first = run::number("FULGURITE_GPU_SEED", 1);
    first..first + run::number("FULGURITE_GPU_PROGRAMS", PROGRAMS)
}

#[test]
fn random_steps_have_the_bits_of_the_cpu() {
    let faults = run::each(seeds(), |seed| {
        let graph = step(seed, Precision::Highest).map_err(|e| format!("seed {seed}: {e}"))?;
        let options = Options { order: Some(seed), interleave: Some(seed), ..Options::default() };
        let target = Target {
            cooperative: if seed.is_multiple_of(3) { Cooperative::Auto } else { Cooperative::Always },
            multiprocessors: if seed.is_multiple_of(2) { 132 } else { 1 },
            ..Target::default()
        };
        let lower = |graph: &Graph, donated| module(graph, donated, seed, target);
        let compared = run::compare_as(&graph, &inputs(&graph, seed), &options, lower);
        compared.map(drop).map_err(|fault| format!("seed {seed}: {fault}\n{graph}"))
    });
    assert!(faults.is_empty(), "{} steps failed\n{}", faults.len(), faults.join("\n"));
}

/// By tensor cores the bits are those of any other order of blocks, with and without donation and cooperative launches.
#[test]
fn random_steps_by_tensor_cores_have_the_same_bits() {
    let faults = run::each(seeds(), |seed| {
        let run = || -> Result<bool> {
            let graph = step(seed, Precision::ALL[1 + seed as usize % 3])?;
            let inputs = inputs(&graph, seed);
            let run = |donated, options: &Options, cooperative| {
                let target = Target { capability: 80, cooperative, multiprocessors: 1 + 131 * (seed as u32 % 2) };
                let (results, _) = run::run(&module(&graph, donated, seed, target)?, &inputs, options)?;
                results.iter().map(Array::to_bits).collect::<Result<Vec<_>>>()
            };
            let options = Options { order: Some(seed), interleave: Some(seed), ..Options::default() };
            Ok(run(false, &Options::default(), Cooperative::Always)? == run(true, &options, Cooperative::Never)?)
        };
        match run() {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("seed {seed}: the bits are others")),
            Err(e) => Err(format!("seed {seed}: {e}")),
        }
    });
    assert!(faults.is_empty(), "{} steps failed\n{}", faults.len(), faults.join("\n"));
}

/// A sum takes a product before it is rounded where the processor computes both in one block, and nowhere else.
#[test]
fn products_are_rounded_where_the_processor_rounds_them() -> Result<()> {
    for [m, n] in [[5, 7], [130, 40], [40, 1], [1, 40], [3, 600], [70, 70], [160, 160]] {
        let args = (Tensor::zeros(&[m, 1]), Tensor::zeros(&[m, n]), Tensor::zeros(&[n]), Tensor::zeros(&[]));
        let check = |name: &str, f: fn(&Tensor, &Tensor, &Tensor, &Tensor) -> Tensor| {
            check(&format!("{name}, {m} by {n}"), &args, |(x, y, z, s): (Tensor, Tensor, Tensor, Tensor)| {
                vec![f(&x, &y, &z, &s)]
            })
        };
        check("rows", |x, y, _, _| x * x + y)?;
        check("columns", |_, y, z, _| z * z + y)?;
        check("scalars", |_, y, z, s| s * s + y + (s * s + z))?;
        check("transposed", |x, y, z, _| (x * x + y + z * z).t())?;
        check("sums", |x, y, z, _| (x * x + y).sum_axes(-1) + (z * z + y * y).sum_axes(-1))?;
        check("sweeps", |x, y, _, _| x * x + y.exp() * y + y.sum_keep(-1) * y.max_keep(-1))?;
        check("an epilogue", |x, y, z, _| (x * x + y.matmul(&y.t().matmul(y)) + z * z).t())?;
    }
    check("long rows", &(Tensor::zeros(&[2, 12_000]), Tensor::zeros(&[12_000])), |(x, y)| {
        let product = x.exp() * &y;
        let sum = product.sum_keep(-1);
        vec![product + &x * sum]
    })?;
    // Segments of one kernel.
    for extents in [[1, 1, 1], [1, 5000, 3]] {
        let args = (Tensor::zeros(&[]), extents.map(|n| Tensor::zeros(&[n])).to_vec());
        check(&format!("segments of {extents:?}"), &args, |(s, xs): (Tensor, Vec<Tensor>)| {
            xs.iter().map(|x| &s * &s + x).collect()
        })?;
    }
    for [m, n] in [[2, 16], [40, 3], [50, 1]] {
        let args = (Tensor::zeros(&[m, n]), Tensor::full(&[300], 0.0, DType::I32), Tensor::zeros(&[300, n]));
        check(&format!("updates of {m} by {n}"), &args, |(x, i, y)| {
            vec![x.at(&i).add(&(&y * &y)), x.at(&i).add(&(y.sum_keep(-1) * y.max_keep(-1)))]
        })?;
    }
    Ok(())
}
