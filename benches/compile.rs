//! First calls of long programs: integrations by Runge and Kutta's method, unrolled into so many steps.
//!
//! `cargo bench --bench compile [-- NAME … N …]` prints for each case and number of steps how long tracing took and how
//! long the first call took as a whole, tracing included, and per step: a cost per step that grows with their number is
//! a pass that is not linear. The last column is what a later call takes. `FULGURITE_DUMP=time` before it prints what
//! each pass took.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fulgurite::prelude::*;
use fulgurite::vmap;

/// Steps of an integration, unless others are asked for.
const STEPS: [usize; 5] = [100, 200, 500, 1_000, 2_000];

/// A first call with so many steps: how long tracing took, and all of it; and a later call.
type Case = fn(usize) -> Result<[Duration; 3]>;

const CASES: &[(&str, Case)] = &[
    ("lotka", |steps| {
        let y = Tensor::from_vec(&[2], vec![1.0f32, 1.0])?;
        first_call(y, move |y| integrate(y, steps, lotka_volterra))
    }),
    ("lotka64", |steps| {
        let y = Key::new(0).uniform(&[64, 2], 0.5, 1.5);
        first_call(y, move |y| vmap(move |y: Tensor| integrate(&y, steps, lotka_volterra), 0)(y.clone()))
    }),
    ("net", |steps| {
        let net = Mlp::new(2, 2, 16, 1, Tensor::tanh, Key::new(0));
        let y = Key::new(1).uniform(&[64, 2], 0.5, 1.5);
        first_call((net, y), move |(net, y)| integrate(y, steps, |y| net.call(y)))
    }),
    ("net_grad", |steps| {
        let net = Mlp::new(2, 2, 16, 1, Tensor::tanh, Key::new(0));
        let y = Key::new(1).uniform(&[64, 2], 0.5, 1.5);
        first_call((net, y), move |(net, y)| {
            value_and_grad(|net: &Mlp| integrate(y, steps, |y| net.call(y)).square().mean())(net)
        })
    }),
];

/// Prey and predators, as f32[2].
fn lotka_volterra(y: &Tensor) -> Tensor {
    let (prey, hunters) = (y.slice_in_dim(0, 0..1), y.slice_in_dim(0, 1..2));
    let born = &prey * 1.1 - &prey * &hunters * 0.4;
    let fed = &prey * &hunters * 0.1 - &hunters * 0.4;
    Tensor::concat(&[&born, &fed], 0)
}

/// So many steps of the classical method of order four.
fn integrate(y: &Tensor, steps: usize, f: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let h = 0.01;
    let mut y = y.clone();
    for _ in 0..steps {
        let k1 = f(&y);
        let k2 = f(&(&y + &k1 * (h / 2.0)));
        let k3 = f(&(&y + &k2 * (h / 2.0)));
        let k4 = f(&(&y + &k3 * h));
        y = &y + (k1 + k2 * 2.0 + k3 * 2.0 + k4) * (h / 6.0);
    }
    y
}

fn first_call<T: Tree + Clone, O: Tree>(args: T, f: impl Fn(&T) -> O + Send + Sync + 'static) -> Result<[Duration; 3]> {
    let traced = Arc::new(Mutex::new(Duration::ZERO));
    let took = traced.clone();
    let step = Jit::with_borrowed("step", move |(): (), args: T| {
        let start = Instant::now();
        let result = f(&args);
        if let Ok(mut took) = took.lock() {
            *took = start.elapsed();
        }
        result
    });
    let call = || -> Result<Duration> {
        let start = Instant::now();
        step.call_with((), args.clone())?;
        Ok(start.elapsed())
    };
    let first = call()?;
    let mut later = (0..25).map(|_| call()).collect::<Result<Vec<Duration>>>()?;
    later.sort();
    let traced = traced.lock().map_or(Duration::ZERO, |took| *took);
    Ok([traced, first, later[later.len() / 2]])
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let (numbers, names): (Vec<&String>, Vec<&String>) = args.iter().partition(|a| a.parse::<usize>().is_ok());
    let mut counts: Vec<usize> = numbers.iter().filter_map(|a| a.parse().ok()).collect();
    if counts.is_empty() {
        counts.extend(STEPS);
    }
    println!(
        "{:10} {:>6} {:>12} {:>12} {:>12} {:>14}",
        "", "steps", "tracing ms", "first ms", "us per step", "later us"
    );
    for &(name, case) in CASES.iter().filter(|(name, _)| names.is_empty() || names.iter().any(|n| n == name)) {
        for &steps in &counts {
            let [traced, first, later] = case(steps)?.map(|took| took.as_secs_f64() * 1e6);
            let (traced, first, each) = (traced / 1e3, first / 1e3, first / steps as f64);
            println!("{name:10} {steps:6} {traced:12.1} {first:12.1} {each:12.1} {later:14.1}");
        }
    }
    Ok(())
}
