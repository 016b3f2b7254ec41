//! Optimisers against loops in f64, and what they promise about state and types. Against Optax they run in the
//! repository's `tests/vectors`.

mod common;

use common::assert_close;
use fulgurite_jit::{DType, Key, Result, Tensor, Tree};
use fulgurite_runtime::{Jit, jit};
use fulgurite_trainer::optim::schedule::*;
use fulgurite_trainer::optim::*;
use fulgurite_trainer::{apply_updates, chain};

/// Twelve compiled steps down `sum(a (p - b)²)` in f32 and f64 loops beside it: `update(g, p, t)` with t from 1.
#[track_caller]
fn check(optimizer: impl Optimizer + Clone, mut update: impl FnMut(&[f64], &[f64], i32) -> Vec<f64>) {
    let (a, b) = ([1.0, 0.3, 2.0], [0.5, -1.0, 2.0]);
    let mut p = vec![1.5, -0.25, -1.0];
    let mut params = Tensor::from_vec(&[3], p.iter().map(|&x| x as f32).collect()).expect("three");
    let mut state = optimizer.init(&params);
    let step = jit(move |(p, state)| {
        let (a, b) = (a.map(|x| x as f32).to_vec(), b.map(|x| x as f32).to_vec());
        let (a, b) = (Tensor::from_vec(&[3], a).expect("three"), Tensor::from_vec(&[3], b).expect("three"));
        let p: Tensor = p;
        let gradient = (&p - b) * a * 2.0;
        let (updates, state) = optimizer.update(gradient, state, &p);
        (apply_updates(p, updates), state)
    });
    for t in 1..=12 {
        let g: Vec<f64> = (0..3).map(|i| 2.0 * a[i] * (p[i] - b[i])).collect();
        let updates = update(&g, &p, t);
        p.iter_mut().zip(updates).for_each(|(p, u)| *p += u);
        (params, state) = step.call((params, state)).expect("a step");
        assert_close(&params, &p, 1e-5, 1e-5);
    }
    assert_eq!(step.traces(), 1, "the counter is state: no step is traced twice");
}

/// Adam's direction before the learning rate.
fn adam_loop(b1: f64, b2: f64, eps: f64, nesterov: bool) -> impl FnMut(&[f64], i32) -> Vec<f64> {
    let (mut mu, mut nu) = (vec![0.0; 3], vec![0.0; 3]);
    move |g, t| {
        (0..3)
            .map(|i| {
                mu[i] = b1 * mu[i] + (1.0 - b1) * g[i];
                nu[i] = b2 * nu[i] + (1.0 - b2) * g[i] * g[i];
                let mean = if nesterov {
                    b1 * mu[i] / (1.0 - b1.powi(t + 1)) + (1.0 - b1) * g[i] / (1.0 - b1.powi(t))
                } else {
                    mu[i] / (1.0 - b1.powi(t))
                };
                mean / ((nu[i] / (1.0 - b2.powi(t))).sqrt() + eps)
            })
            .collect()
    }
}

fn scaled(x: Vec<f64>, factor: f64) -> Vec<f64> {
    x.into_iter().map(|x| x * factor).collect()
}

#[test]
fn adam_and_its_kin() {
    let mut direction = adam_loop(0.9, 0.999, 1e-8, false);
    check(adam(0.1), |g, _, t| scaled(direction(g, t), -0.1));
    let mut direction = adam_loop(0.8, 0.95, 1e-3, true);
    check(adam(0.1).b1(0.8).b2(0.95).eps(1e-3).nesterov(true), |g, _, t| scaled(direction(g, t), -0.1));
    let mut direction = adam_loop(0.9, 0.999, 1e-8, false);
    check(adamw(0.1).weight_decay(0.01), |g, p, t| {
        direction(g, t).iter().zip(p).map(|(d, p)| -0.1 * (d + 0.01 * p)).collect()
    });
}

#[test]
fn descent_and_momentum() {
    check(sgd(0.05), |g, _, _| scaled(g.to_vec(), -0.05));
    for nesterov in [false, true] {
        let mut trace = [0.0; 3];
        check(sgd(0.05).momentum(0.9).nesterov(nesterov), |g, _, _| {
            (0..3)
                .map(|i| {
                    trace[i] = g[i] + 0.9 * trace[i];
                    -0.05 * if nesterov { g[i] + 0.9 * trace[i] } else { trace[i] }
                })
                .collect()
        });
    }
}

#[test]
fn links_of_a_chain() {
    let clipped = |g: &[f64]| {
        let norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
        if norm < 1.0 { g.to_vec() } else { g.iter().map(|g| g / norm).collect() }
    };
    check(chain![clip_by_global_norm(1.0), sgd(0.3)], |g, _, _| scaled(clipped(g), -0.3));
    let limited = |g: &[f64]| g.iter().map(|g| g.clamp(-0.5, 0.5)).collect();
    check(chain![clip(0.5), sgd(0.3)], |g, _, _| scaled(limited(g), -0.3));
    check(chain![scale(0.5), scale(-0.1)], |g, _, _| scaled(g.to_vec(), -0.05));
}

#[test]
fn rates_that_change() {
    let cosine = |t: i32| 0.05 * (1.0 + (std::f64::consts::PI * f64::from(t.min(10)) / 10.0).cos()) / 2.0;
    check(sgd(cosine_decay(0.05, 10)), |g, _, t| scaled(g.to_vec(), -cosine(t - 1)));
    let halving = Schedule::new(|count| 0.1 / (count.convert(DType::F32) + 2.0));
    check(sgd(halving), |g, _, t| scaled(g.to_vec(), -0.1 / f64::from(t + 1)));
}

#[derive(Clone, Tree)]
struct Mixed {
    weight: Tensor,
    double: Tensor,
    counter: Tensor,
    key: Key,
}

/// Integer leaves stay as they are, f64 leaves stay f64, for every optimiser.
#[test]
fn leaves_keep_their_types() -> Result<()> {
    fn run(optimizer: impl Optimizer) -> Result<()> {
        let params = Mixed {
            weight: Tensor::ones(&[2]),
            double: Tensor::full(&[2], 1.0, DType::F64),
            counter: Tensor::scalar(7i32),
            key: Key::new(5),
        };
        let step = jit(move |p: Mixed| {
            let state = optimizer.init(&p);
            let (updates, state) = optimizer.update(p.clone(), state, &p);
            (apply_updates(p, updates), state)
        });
        let (after, _) = step.call(params)?;
        assert_eq!(after.counter.item::<i32>()?, 7);
        assert_eq!(after.key.key_data().to_vec::<u32>()?, [0, 5]);
        assert_eq!(after.weight.dtype(), DType::F32);
        assert_eq!(after.double.dtype(), DType::F64);
        assert!(after.weight.to_vec::<f32>()?[0] < 1.0 && after.double.to_vec::<f64>()?[1] < 1.0);
        Ok(())
    }
    run(adam(0.1))?;
    run(adabelief(0.1))?;
    run(adadelta(0.1))?;
    run(adagrad(0.1))?;
    run(adamax(0.1))?;
    run(amsgrad(0.1))?;
    run(lamb(0.1))?;
    run(lion(0.1))?;
    run(radam(0.1))?;
    run(rmsprop(0.1).momentum(0.9))?;
    run(yogi(0.1))?;
    run(multi_steps(adam(0.1), 1))?;
    run(adamw(0.1))?;
    run(sgd(0.1).momentum(0.5))?;
    run(chain![clip_by_global_norm(0.5), clip(0.1), sgd(cosine_decay(0.1, 5))])
}

#[test]
fn norms_and_small_gradients() -> Result<()> {
    let tree = (Tensor::full(&[2], 3.0, DType::F32), (Tensor::full(&[2], 4.0, DType::F64), Tensor::scalar(9i32)));
    assert_close(&global_norm(&tree), &[50f64.sqrt()], 1e-6, 0.0);
    let small = Tensor::from_vec(&[2], vec![0.3f32, 0.4])?;
    let (same, ()) = clip_by_global_norm(1.0).update(small.clone(), (), &small);
    assert_eq!(same.to_vec::<f32>()?, [0.3, 0.4]);
    Ok(())
}

/// Schedules without a case among JAX's answers (`tests/vectors`), compiled once for all counts.
#[test]
fn schedules_of_constants() -> Result<()> {
    let steps = |count: usize| 0.1 * if count < 4 { 1.0 } else { 0.1 } * if count < 8 { 1.0 } else { 0.5 };
    let cases: [(Schedule, &dyn Fn(usize) -> f64); 2] =
        [(piecewise_constant(0.1, [(8, 0.5), (4, 0.1)]), &steps), (constant(0.1), &|_| 0.1)];
    for (schedule, expected) in cases {
        let at: Jit<Tensor, (), Tensor> = jit(move |count: Tensor| schedule.at(&count));
        for count in 0..16 {
            assert_close(&at.call(Tensor::scalar(count as i32))?, &[expected(count)], 1e-5, 1e-7);
        }
        assert_eq!(at.traces(), 1);
    }
    Ok(())
}

/// The counter neither wraps nor makes a negative step.
#[test]
fn the_counter_saturates() -> Result<()> {
    let p = Tensor::ones(&[1]);
    let state = SgdState { count: Tensor::scalar(i32::MAX), trace: None };
    let (_, state) = sgd(0.1).update(p.clone(), state, &p);
    assert_eq!(state.count.item::<i32>()?, i32::MAX);
    Ok(())
}
