//! Loops that end by what they compute, and branches: on every instruction set and several numbers of threads against
//! the interpreter, their derivatives and batches, their errors, and what they compile to.

use fulgurite::compiler::cpu::{Isa, Parallelism, Target};
use fulgurite::compiler::fuse::{Control, Kernel};
use fulgurite::compiler::trace::trace;
use fulgurite::prelude::*;
use fulgurite::runtime::Program;
use fulgurite::{Array, cond, fori_loop, jvp, lower, map, scan, switch, vjp, while_loop};

use crate::scan::{check, close, floats};

/// A loop of so many trips over a carry.
fn trips<C: Tree>(n: &Tensor, body: impl FnOnce(C) -> C, init: C) -> C {
    fori_loop(0, n, |_, carry| body(carry), init)
}

fn counts() -> Vec<Tensor> {
    [0, 1, 2, 3, 6].map(|n: i32| Tensor::scalar(n)).to_vec()
}

#[test]
fn a_loop_of_any_number_of_trips() -> Result<()> {
    for n in counts() {
        check("a scalar", &[n.clone(), Tensor::scalar(1.5f32)], 1e-6, |x| {
            vec![trips(&x[0], |c: Tensor| c * 1.25 + 0.5, x[1].clone())]
        })?;
        // In two buffers, in one, exchanged, unchanged, without elements, of every type, constant behind a trip.
        let inputs = [n.clone(), floats(&[5]), floats(&[5, 5]), Tensor::zeros(&[0, 3]), Tensor::scalar(true)];
        check("carries", &inputs, 1e-5, |x| {
            type Carry = (Tensor, Tensor, Tensor, (Tensor, Tensor, Tensor));
            let body = |(a, b, w, (empty, flag, one)): Carry| {
                let next = a.matmul(&w).tanh();
                (b, next, w, (empty * 2.0, flag.logical_not(), (one * 0.0 + 1.0)))
            };
            let init = (x[1].clone(), &x[1] * 2.0, x[2].clone(), (x[3].clone(), x[4].clone(), x[1].clone()));
            let (a, b, w, (empty, flag, one)) = trips(&x[0], body, init);
            vec![a, b, w, empty, flag, one]
        })?;
    }
    Ok(())
}

#[test]
fn loops_are_nested() -> Result<()> {
    for n in counts() {
        let inputs = [n, floats(&[4]), floats(&[3, 4])];
        check("a loop in a loop", &inputs, 1e-5, |x| {
            let inner = |c: Tensor| while_loop(|c: &Tensor| c.abs().max().less(2.0), |c| c * 1.5 + 0.1, c);
            vec![trips(&x[0], |c: Tensor| inner(c * 0.25), x[1].clone())]
        })?;
        check("a scan in a loop, a loop in a scan", &inputs, 1e-5, |x| {
            let sum = |c: Tensor, v: Tensor| (&c * 0.5 + v, c.sum());
            let outer = trips(&x[0], |c: Tensor| scan(sum, c, x[2].clone()).0, x[1].clone());
            let step = |c: Tensor, v: Tensor| (trips(&x[0], |c: Tensor| c.sin() + &v, c), v.sum());
            let (last, sums) = scan(step, x[1].clone(), x[2].clone());
            vec![outer, last, sums]
        })?;
    }
    Ok(())
}

#[test]
fn large_bodies_run_on_all_threads() -> Result<()> {
    for n in [0, 1, 4, 5] {
        let inputs = [Tensor::scalar(n), floats(&[300, 300]), floats(&[300])];
        check("large", &inputs, 1e-3, |x| {
            let body = |(h, s, large): (Tensor, Tensor, Tensor)| {
                let next = x[1].matmul(&(&h * 0.05)).tanh() + &s * 0.1;
                (next.clone(), next.flip(0), (large.t() * 0.5) + next)
            };
            let (h, s, large) = trips(&x[0], body, (x[2].clone(), x[2].cos(), x[1].clone()));
            vec![h, s, large]
        })?;
    }
    // The predicate is a reduction of what all threads write.
    check("until small", &[floats(&[300, 500]) * 100.0], 1e-4, |x| {
        let more = |s: &(Tensor, Tensor)| s.0.abs().max().greater(1.0);
        let (x, n) = while_loop(more, |(x, n)| (x.flip(1) * 0.5, n + 1), (x[0].clone(), Tensor::scalar(0i32)));
        vec![x, n]
    })
}

#[test]
fn a_carry_that_is_given_away_is_updated_in_place() -> Result<()> {
    let types = [Tensor::scalar(3i32).ty().clone(), floats(&[64]).ty().clone()];
    let graph = trace(&types, |x| vec![trips(&x[0], |c: Tensor| c * 2.0, x[1].clone())])?.graph;
    for &isa in Isa::available() {
        let target = Target { isa, threads: 2, parallelism: Parallelism::Auto };
        let program = Program::compile_for("loop", &graph, &[false, true], target)?;
        for n in [0, 3] {
            let x: Vec<f32> = (0..64).map(|i| i as f32).collect();
            let want: Vec<f32> = x.iter().map(|x| x * f32::powi(2.0, n)).collect();
            let got = program.run(vec![Array::scalar(n), Array::from_vec(&[64], x)?])?;
            assert_eq!(got[0].as_slice::<f32>()?, want);
        }
    }
    Ok(())
}

#[test]
fn examples_that_have_ended_are_left_alone() -> Result<()> {
    let n = Tensor::from_vec(&[4], vec![3i32, 0, 5, 1])?;
    let x = floats(&[4, 3]);
    let f = |n: Tensor, x: Tensor| trips(&n, |c: Tensor| c.sin() * 1.5, x);
    let batched = vmap(|(n, x): (Tensor, Tensor)| f(n, x), (0, 0))((n.clone(), x.clone()));
    let one = |i: usize| f(n.index_in_dim(i, 0), x.index_in_dim(i, 0));
    let all: Vec<Tensor> = (0..4).map(one).collect();
    close("a batch of bounds", &batched, &Tensor::stack(&all.iter().collect::<Vec<_>>(), 0), 1e-6);
    // Of no examples.
    let none = vmap(|(n, x): (Tensor, Tensor)| f(n, x), (0, 0))((n.slice_in_dim(0, 0..0), x.slice_in_dim(0, 0..0)));
    assert_eq!(none.shape(), [0, 3]);
    check("a batch", &[n, x], 1e-6, |x| {
        vec![vmap(|(n, x): (Tensor, Tensor)| f(n, x), (0, 0))((x[0].clone(), x[1].clone()))]
    })
}

#[test]
fn derivatives_of_loops() -> Result<()> {
    let x = floats(&[3]);
    let f = |x: &Tensor| while_loop(|c: &Tensor| c.square().sum().less(50.0), |c| &c * 1.5 + x * 0.1, x.clone());
    let unrolled = |x: &Tensor| {
        let mut c = x.clone();
        while c.square().sum().item::<f32>().expect("data") < 50.0 {
            c = &c * 1.5 + x * 0.1;
        }
        c
    };
    let (y, dy) = jvp(f, &x, &x.ones_like());
    close("the value", &y, &unrolled(&x), 1e-6);
    // It is linear in x as long as the number of trips is the same.
    let h = 1e-3;
    let moved = (unrolled(&(&x + h)) - unrolled(&(&x - h))) / (2.0 * h);
    close("the tangent", &dy, &moved, 1e-3);
    // In reverse there is none, and the error says so; but what does not depend on the loop has one.
    let error = grad(|x: &Tensor| f(x).sum())(&x).array().expect_err("no transpose").to_string();
    assert!(error.contains("reverse-mode differentiation does not work") && error.contains("control.rs"), "{error}");
    let stopped = grad(|x: &Tensor| (f(x).stop_gradient() * x).sum())(&x);
    close("a constant factor", &stopped, &y, 1e-6);
    // Between numbers it is a scan.
    let power = grad(|x: &Tensor| fori_loop(0, 3, |_, c: Tensor| c * x, x.clone()).sum())(&x);
    close("a power", &power, &(x.powi(3) * 4.0), 1e-5);
    Ok(())
}

#[test]
fn branches_run_one_at_a_time() -> Result<()> {
    let branch = |x: &[Tensor]| {
        let (large, small) = (x[2].clone(), x[1].clone());
        let product = |(a, b): (Tensor, Tensor)| (a.matmul(&a).tanh(), b * 2.0);
        let same = |(a, b): (Tensor, Tensor)| (a, b);
        let sums = |(a, b): (Tensor, Tensor)| (&a + a.sum_axes(0), b + a.sum());
        let (a, b) = switch(&x[0], [&product, &same, &sums], (large, small));
        vec![a, b]
    };
    for n in [8, 300] {
        for index in [-3, 0, 1, 2, 7] {
            let inputs = [Tensor::scalar(index), floats(&[5]), floats(&[n, n])];
            check(&format!("branch {index} of {n}"), &inputs, 1e-3, branch)?;
        }
    }
    // In loops, and loops in them.
    for n in counts() {
        check("branches and loops", &[n, floats(&[6])], 1e-5, |x| {
            let body = |c: Tensor| {
                let halve = |c: Tensor| while_loop(|c: &Tensor| c.max().greater(0.5), |c| c * 0.5, c);
                cond(&c.max().greater(1.0), halve, |c| c * 3.0 + 0.1, c)
            };
            vec![trips(&x[0], body, x[1].clone())]
        })?;
    }
    Ok(())
}

#[test]
fn derivatives_of_branches_are_those_of_one() -> Result<()> {
    let f = |p: &Tensor, x: &Tensor, w: &Tensor| {
        let yes = |x: Tensor| x.sqrt() * w;
        let no = |x: Tensor| (&x * &x).sin() + w.sum();
        cond(p, yes, no, x.clone())
    };
    let (x, w) = (floats(&[4]), floats(&[4]) + 2.0);
    let args = (x.clone(), w.clone());
    for (p, chosen) in [(false, true), (true, false)].map(|(p, no)| (Tensor::scalar(p), no)) {
        let x = if chosen { x.clone() } else { x.abs() };
        let args = (x.clone(), w.clone());
        let direct = |(x, w): &(Tensor, Tensor)| {
            if chosen { (x * x).sin() + w.sum() } else { x.sqrt() * w }
        };
        let branch = |(x, w): &(Tensor, Tensor)| f(&p, x, w);
        let (dx, dw) = vjp(branch, &args).1(&x);
        let (ex, ew) = vjp(direct, &args).1(&x);
        close("in x", &dx, &ex, 1e-5);
        close("in w", &dw, &ew, 1e-5);
        let second = grad(|x: &Tensor| grad(|x: &Tensor| f(&p, x, &w).sum())(x).square().sum())(&x);
        let direct = |x: &Tensor| direct(&(x.clone(), w.clone())).sum();
        close("twice", &second, &grad(|x: &Tensor| grad(direct)(x).square().sum())(&x), 1e-4);
    }
    // A batch of predicates runs both.
    let p = Tensor::from_vec(&[4], vec![true, false, true, false])?;
    let batched = vmap(|(p, x): (Tensor, Tensor)| cond(&p, |x: Tensor| x * 2.0, |x| x * 3.0, x), (0, 0));
    let want = p.select(&args.0 * 2.0, &args.0 * 3.0);
    close("a batch", &batched((p, args.0.clone())), &want, 0.0);
    Ok(())
}

#[test]
fn what_is_not_needed_is_taken_out() -> Result<()> {
    let region = |lowered: &fulgurite::Lowered| {
        let of = |kernel: &Kernel| if let Kernel::Region(region) = kernel { Some(region.clone()) } else { None };
        lowered.kernels.kernels.iter().filter_map(of).collect::<Vec<_>>()
    };
    let args = (Tensor::scalar(3i32), floats(&[8, 8]), floats(&[8]));
    let lowered = lower(
        |(n, w, x): (Tensor, Tensor, Tensor)| {
            let body = |(c, _, unused): (Tensor, Tensor, Tensor)| (c.matmul(&w.matmul(&w)), x.clone(), unused * 2.0);
            trips(&n, body, (x.clone(), x.clone(), x.clone())).0
        },
        &args,
    )?;
    let regions = region(&lowered);
    // Whether there is a trip, its number, and one value; the product of the matrices is before the loop.
    assert!(
        matches!(regions[..], [ref region] if region.control == Control::While { num_carry: 3 }),
        "{}",
        lowered.kernels
    );
    let gemms = regions[0].body.kernels.iter().filter(|k| matches!(k, Kernel::Gemm(_))).count();
    assert_eq!(gemms, 1, "{}", lowered.kernels);
    // A loop that never begins, and a branch that is known.
    let none = lower(|x: Tensor| while_loop(|_: &Tensor| Tensor::scalar(false), |x| x * 2.0, x), &args.2)?;
    assert!(region(&none).is_empty(), "{}", none.kernels);
    let known = lower(|x: Tensor| cond(&Tensor::scalar(true), |x: Tensor| x.sin(), |x| x.cos(), x), &args.2)?;
    assert!(region(&known).is_empty(), "{}", known.kernels);
    Ok(())
}

#[test]
fn mistakes_are_errors_that_name_the_line() {
    let error = |x: Tensor| x.array().expect_err("an error").to_string();
    let x = floats(&[2]);
    let message = error(while_loop(|c: &Tensor| c.greater(0.0), |c| c, x.clone()));
    assert!(message.contains("while_loop: cond_fun gives bool[2], not a scalar bool"), "{message}");
    assert!(message.contains("control.rs"), "{message}");
    let message = error(while_loop(|c: &Tensor| c.sum(), |c| c, x.clone()));
    assert!(message.contains("cond_fun gives f32[], not a scalar bool"), "{message}");
    let grows = |c: Tensor| Tensor::concat(&[&c, &c], 0);
    let message = error(while_loop(|c: &Tensor| c.sum().less(0.0), grows, x.clone()));
    assert!(message.contains("the carry is f32[2] before a trip and f32[4] after it"), "{message}");
    let message = error(fori_loop(0, 3, |_, c: Tensor| c.greater(0.0), x.clone()));
    assert!(message.contains("fori_loop: the carry is f32[2] before a trip and bool[2] after it"), "{message}");
    let message = error(fori_loop(0, &x, |_, c: Tensor| c, x.clone()));
    assert!(message.contains("fori_loop: a bound is f32[2], not a scalar integer"), "{message}");
    let message = error(cond(&x.greater(0.0), |c: Tensor| c, |c| c, x.clone()));
    assert!(message.contains("cond: what to run is bool[2], not a scalar"), "{message}");
    let yes = Tensor::scalar(true);
    let message = error(cond(&yes, |c: Tensor| c.sum(), |c| c, x.clone()));
    assert!(message.contains("the result is f32[2] in false_fun and f32[] in true_fun"), "{message}");
    let message = error(switch(&x.sum(), [&|c: Tensor| c, &|c: Tensor| c * 2.0], x.clone()));
    assert!(message.contains("switch: the index is f32[], not an integer"), "{message}");
    let message = error(map(|c: Tensor| c, Tensor::scalar(1.0f32)));
    assert!(message.contains("map: xs is f32[], which has no axis"), "{message}");
    // The first mistake comes first.
    let message = error(while_loop(|c: &Tensor| c.sum().less(0.0), |c| c.matmul(&floats(&[3])), x));
    assert!(message.contains("cannot contract f32[2] axis 0 with f32[3] axis 0"), "{message}");
}
