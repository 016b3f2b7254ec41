//! Loops: `scan` against the same trips one by one, its derivatives and batches, its errors, and what it compiles to.

use fulgurite::compiler::cpu::{Isa, Parallelism, Target};
use fulgurite::compiler::fuse::Kernel;
use fulgurite::compiler::graph::parse;
use fulgurite::compiler::interp::interpret;
use fulgurite::compiler::trace::trace;
use fulgurite::prelude::*;
use fulgurite::runtime::Program;
use fulgurite::{Array, DType, Key, Scan, TensorType, hessian, jvp, lower, scan, vjp};

pub(crate) fn floats(shape: &[usize]) -> Tensor {
    let n: usize = shape.iter().product();
    Tensor::from_vec(shape, (0..n).map(|i| (i * 37 % 101) as f32 / 71.0 - 0.7).collect()).expect("as many elements")
}

fn doubles(shape: &[usize]) -> Tensor {
    floats(shape).convert(DType::F64)
}

pub(crate) fn close(what: &str, x: &Tensor, y: &Tensor, tolerance: f64) {
    assert_eq!(x.ty(), y.ty(), "{what}");
    let (x, y) = (x.array().expect("data").to_f64_vec().unwrap(), y.array().expect("data").to_f64_vec().unwrap());
    for (i, (x, y)) in x.iter().zip(&y).enumerate() {
        assert!((x - y).abs() <= tolerance * y.abs().max(1.0), "{what}: element {i} is {x}, not {y}");
    }
}

/// The trips one by one.
fn unrolled(f: impl Fn(Tensor, Tensor) -> (Tensor, Tensor), init: Tensor, xs: &Tensor) -> (Tensor, Tensor) {
    let (mut carry, mut ys) = (init, Vec::new());
    for i in 0..xs.shape()[0] {
        let (next, y) = f(carry, xs.index_in_dim(i, 0));
        carry = next;
        ys.push(y);
    }
    (carry, Tensor::stack(&ys.iter().collect::<Vec<_>>(), 0))
}

/// Compiled for every instruction set and several numbers of threads: the same bits; and interpreted.
pub(crate) fn check(what: &str, inputs: &[Tensor], tolerance: f64, f: impl Fn(&[Tensor]) -> Vec<Tensor>) -> Result<()> {
    let arrays: Vec<Array> = inputs.iter().map(|x| x.array().cloned()).collect::<Result<_>>()?;
    let types: Vec<TensorType> = arrays.iter().map(|x| x.ty().clone()).collect();
    let graph = trace(&types, |xs| f(xs))?.graph;
    let want = interpret(&graph, &arrays)?;
    let mut first: Option<Vec<Vec<u64>>> = None;
    for &isa in Isa::available() {
        for (threads, parallelism) in [(1, Parallelism::Auto), (3, Parallelism::Always), (2, Parallelism::Auto)] {
            let target = Target { isa, threads, parallelism };
            let program = Program::compile_for("loop", &graph, &vec![false; arrays.len()], target)?;
            let got = program.run(arrays.clone())?;
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                let what = format!("{what}, result {i}, {isa:?}, {threads} threads");
                close(&what, &Tensor::from(got.clone()), &Tensor::from(want.clone()), tolerance);
            }
            let bits: Vec<Vec<u64>> = got.iter().map(Array::to_bits).collect::<Result<_>>()?;
            assert_eq!(*first.get_or_insert_with(|| bits.clone()), bits, "{what}: {isa:?} on {threads} threads");
        }
    }
    Ok(())
}

fn cell(w: &Tensor) -> impl Fn(Tensor, Tensor) -> (Tensor, Tensor) {
    let w = w.clone();
    move |h, x| {
        let next = (h.matmul(&w) + x).tanh();
        (next.clone(), next.square().sum())
    }
}

#[test]
fn loops_give_what_their_trips_give() -> Result<()> {
    let xs = floats(&[7, 4]);
    check("cumulative sum", std::slice::from_ref(&xs), 1e-6, |x| {
        let (sum, sums) = scan(|s: Tensor, x: Tensor| (&s + &x, &s + &x), Tensor::zeros(&[4]), x[0].clone());
        vec![sum, sums]
    })?;
    let (sum, sums) = scan(|s: Tensor, x: Tensor| (&s + &x, &s + &x), Tensor::zeros(&[4]), xs.clone());
    close("the last carry", &sum, &xs.sum_axes(0), 1e-6);
    close("the last sum", &sums.index_in_dim(6, 0), &sum, 0.0);
    let back = Scan { reverse: true, ..Scan::default() };
    let (_, sums) = back.run(|s: Tensor, x: Tensor| (&s + &x, &s + &x), Tensor::zeros(&[4]), xs.clone());
    close("the first sum", &sums.index_in_dim(0, 0), &xs.sum_axes(0), 1e-6);
    // No elements, no carry, no results.
    let four = Scan { length: Some(4), ..Scan::default() };
    let (x, ()) = four.run(|x: Tensor, ()| (x * 2.0, ()), Tensor::scalar(3.0f32), ());
    assert_eq!(x.to_vec::<f32>()?, [48.0]);
    let ((), ys) = scan(|(), x: Tensor| ((), x.sum()), (), xs.clone());
    close("a map", &ys, &xs.sum_axes(1), 1e-6);
    let ((), ()) = four.run(|(), ()| ((), ()), (), ());
    let ((), ones) = four.run(|(), ()| ((), Tensor::ones(&[2])), (), ());
    assert_eq!(ones.to_vec::<f32>()?, [1.0; 8]);
    Ok(())
}

#[test]
fn carries_may_be_anything() -> Result<()> {
    // Swapped, unchanged, constant, returned twice; of every type.
    let inputs = [floats(&[5]), floats(&[5]) * 2.0, Tensor::from_vec(&[2], vec![3i32, 4])?, floats(&[6, 5])];
    for length in [1, 2, 3, 6] {
        check(&format!("{length} trips"), &inputs, 1e-6, |x| {
            let init = (x[0].clone(), x[1].clone(), x[2].clone(), x[2].greater(3), x[0].clone());
            let body = |(a, b, n, flag, _): (Tensor, Tensor, Tensor, Tensor, Tensor), x: Tensor| {
                let y = (a.clone(), b.clone(), &a + &x, Tensor::ones(&[3]));
                ((b, a, &n + 1, flag.logical_not(), Tensor::ones(&[5])), y)
            };
            let xs = x[3].slice_in_dim(0, 0..length);
            let ((a, b, n, flag, one), (ya, yb, yc, yd)) = scan(body, init, xs);
            vec![a, b, n, flag, one, ya, yb, yc, yd]
        })?;
    }
    // Random keys.
    let normal = |key: Key, ()| {
        let [next, now] = key.split();
        (next, now.normal(&[3]))
    };
    let (key, draws) = Scan { length: Some(2), ..Scan::default() }.run(normal, Key::new(7), ());
    let [next, now] = Key::new(7).split();
    close("the first draws", &draws.index_in_dim(0, 0), &now.normal(&[3]), 0.0);
    let [last, now] = next.split();
    close("the second draws", &draws.index_in_dim(1, 0), &now.normal(&[3]), 0.0);
    assert_eq!(key.key_data().to_vec::<u32>()?, last.key_data().to_vec::<u32>()?);
    Ok(())
}

#[test]
fn extents_of_zero_and_one_and_high_ranks() -> Result<()> {
    for shape in [&[0, 3][..], &[1, 3], &[3, 0], &[1, 1], &[2, 1, 1, 3, 1, 2, 1, 2], &[2, 1, 0, 3, 1, 2, 1, 2], &[4]] {
        check(&format!("{shape:?}"), &[floats(shape), floats(&shape[1..])], 1e-6, |x| {
            let (carry, ys) =
                scan(|c: Tensor, x: Tensor| (&c * &x + 0.5, (x.sum(), &c - &x)), x[1].clone(), x[0].clone());
            vec![carry, ys.0, ys.1]
        })?;
        let loss = |(x, c): &(Tensor, Tensor)| {
            let (carry, ys) = scan(|c: Tensor, x: Tensor| (&c * &x + 0.5, (&c * &x).sin()), c.clone(), x.clone());
            carry.sum() + ys.sum()
        };
        let inputs = (floats(shape), floats(&shape[1..]));
        let (dx, dc) = grad(loss)(&inputs);
        assert_eq!((dx.shape(), dc.shape()), (shape, &shape[1..]));
        dx.to_vec::<f32>()?;
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_the_trips() -> Result<()> {
    let (w, h, xs) = (doubles(&[3, 3]), doubles(&[3]), doubles(&[5, 3]));
    let looped = |(w, h, xs): &(Tensor, Tensor, Tensor)| {
        let (h, ys) = scan(cell(w), h.clone(), xs.clone());
        (h * 0.3).sum() + (&ys * &ys).sum()
    };
    let one_by_one = |(w, h, xs): &(Tensor, Tensor, Tensor)| {
        let (h, ys) = unrolled(cell(w), h.clone(), xs);
        (h * 0.3).sum() + (&ys * &ys).sum()
    };
    let at = || (w.clone(), h.clone(), xs.clone());
    let (a, b) = (grad(looped)(&at()), grad(one_by_one)(&at()));
    close("by w", &a.0, &b.0, 1e-12);
    close("by h", &a.1, &b.1, 1e-12);
    close("by xs", &a.2, &b.2, 1e-12);
    let direction = || (w.sin(), h.cos(), xs.sin());
    let (a, b) = (jvp(looped, &at(), &direction()), jvp(one_by_one, &at(), &direction()));
    close("the tangent", &a.1, &b.1, 1e-12);
    let by_h = |f: &dyn Fn(&(Tensor, Tensor, Tensor)) -> Tensor| {
        hessian(|h: &Tensor| f(&(w.clone(), h.clone(), xs.clone())))(&h)
    };
    close("the Hessian", &by_h(&looped), &by_h(&one_by_one), 1e-10);
    // A gradient inside of a loop, and a loop of gradient steps that is differentiated.
    let descend = |start: Tensor, loops: bool| {
        let step = |x: Tensor, _: Tensor| {
            let g = grad(|x: &Tensor| (x.sin() * x).sum())(&x);
            (&x - g * 0.1, x.sum())
        };
        let (x, ys) =
            if loops { scan(step, start, Tensor::zeros(&[4])) } else { unrolled(step, start, &Tensor::zeros(&[4])) };
        x.square().sum() + ys.sum()
    };
    let start = doubles(&[3]);
    close(
        "through descent",
        &grad(|x: &Tensor| descend(x.clone(), true))(&start),
        &grad(|x: &Tensor| descend(x.clone(), false))(&start),
        1e-12,
    );
    Ok(())
}

#[test]
fn nested_loops_and_batches() -> Result<()> {
    let nested = |(w, xs): &(Tensor, Tensor)| {
        let outer = |h: Tensor, row: Tensor| {
            let (h, ys) = scan(|h: Tensor, x: Tensor| ((&h * w + &x).tanh(), (&h * &x).sum()), h, row);
            let (back, _) =
                Scan { reverse: true, ..Scan::default() }.run(|b: Tensor, y: Tensor| (b * 0.5 + y, ()), ys.sum(), ys);
            (h, back)
        };
        let (h, ys) = scan(outer, Tensor::ones(&[3]).convert(w.dtype()), xs.clone());
        h.sum() + ys.square().sum()
    };
    let flat = |(w, xs): &(Tensor, Tensor)| {
        let (mut h, mut total) = (Tensor::ones(&[3]).convert(w.dtype()), Tensor::zeros(&[]).convert(w.dtype()));
        for i in 0..2 {
            let mut ys = Vec::new();
            for j in 0..4 {
                let x = xs.index_in_dim(i, 0).index_in_dim(j, 0);
                ys.push((&h * &x).sum());
                h = (&h * w + &x).tanh();
            }
            let ys = Tensor::stack(&ys.iter().collect::<Vec<_>>(), 0);
            let mut back = ys.sum();
            for j in (0..4).rev() {
                back = back * 0.5 + ys.index_in_dim(j, 0);
            }
            total = total + back.square();
        }
        h.sum() + total
    };
    let at = || (doubles(&[3]), doubles(&[2, 4, 3]));
    close("the value", &nested(&at()), &flat(&at()), 1e-12);
    let (a, b) = (grad(nested)(&at()), grad(flat)(&at()));
    close("by w", &a.0, &b.0, 1e-12);
    close("by xs", &a.1, &b.1, 1e-12);
    // A batch of gradients of nested loops.
    let (ws, xs) = (doubles(&[6, 3]), doubles(&[2, 4, 3]));
    let batched = vmap(|at: (Tensor, Tensor)| grad(nested)(&at), (0, None))((ws.clone(), xs.clone()));
    for i in 0..6 {
        let one = grad(flat)(&(ws.index_in_dim(i, 0), xs.clone()));
        close("an example by w", &batched.0.index_in_dim(i, 0), &one.0, 1e-12);
        close("an example by xs", &batched.1.index_in_dim(i, 0), &one.1, 1e-12);
    }
    // The carry becomes a batch in the second trip.
    let (x, c) = (doubles(&[5, 4]), doubles(&[]));
    let sums = vmap(|(c, x): (Tensor, Tensor)| scan(|c: Tensor, x: Tensor| (&c + &x, c), c, x), (None, 0))((
        c.clone(),
        x.clone(),
    ));
    let one = scan(|c: Tensor, x: Tensor| (&c + &x, c), c, x.index_in_dim(3, 0));
    close("a carry", &sums.0.index_in_dim(3, 0), &one.0, 0.0);
    close("its history", &sums.1.index_in_dim(3, 0), &one.1, 0.0);
    Ok(())
}

#[test]
fn large_bodies_run_on_all_threads() -> Result<()> {
    // The products and the elementwise ops of a trip are divided between threads.
    let inputs = [floats(&[128, 128]) * 0.1, floats(&[96, 128]), floats(&[5, 96, 128])];
    check("a large recurrence", &inputs, 1e-4, |x| {
        let (h, ys) = scan(cell(&x[0]), x[1].clone(), x[2].clone());
        vec![h, ys]
    })?;
    check("its gradients", &inputs, 1e-3, |x| {
        let loss = |(w, h): &(Tensor, Tensor)| scan(cell(w), h.clone(), x[2].clone()).1.sum();
        let (dw, dh) = grad(loss)(&(x[0].clone(), x[1].clone()));
        vec![dw, dh]
    })
}

#[test]
fn a_loop_is_one_kernel_of_any_length() -> Result<()> {
    let text = |length: usize| -> Result<(String, usize)> {
        let step = move |(w, h, x): (Tensor, Tensor, Tensor)| {
            let body = |h: Tensor, ()| ((h.matmul(&w) + &x).tanh(), ());
            Scan { length: Some(length), ..Scan::default() }.run(body, h, ()).0
        };
        let lowered = lower(step, &(floats(&[8, 8]), floats(&[8]), floats(&[8])))?;
        Ok((lowered.kernels.to_string().replace(&length.to_string(), "n"), lowered.kernels.kernels.len()))
    };
    let (short, count) = text(1000)?;
    assert_eq!(count, 1, "{short}");
    assert_eq!(short, text(100_000)?.0);
    Ok(())
}

/// The only region of a program, and how many kernels run outside of it.
fn region(lowered: &fulgurite::Lowered) -> (fulgurite::compiler::fuse::RegionKernel, usize) {
    let kernels = &lowered.kernels.kernels;
    let regions: Vec<_> =
        kernels.iter().filter_map(|k| if let Kernel::Region(r) = k { Some(r) } else { None }).collect();
    assert_eq!(regions.len(), 1, "{}", lowered.kernels);
    (regions[0].clone(), kernels.len() - 1)
}

#[test]
fn what_does_not_change_is_not_in_the_loop() -> Result<()> {
    // The product of constants is computed once, the carry that stays is a constant, an unused result is dropped.
    let step = |(w, h): (Tensor, Tensor)| {
        let body = |(h, same): (Tensor, Tensor), ()| (((&h * &same).matmul(&w.matmul(&w)), same), h.exp());
        let ((h, same), _) = Scan { length: Some(9), ..Scan::default() }.run(body, (h.clone(), h * 0.5), ());
        (h, same)
    };
    let lowered = lower(step, &(floats(&[8, 8]), floats(&[8])))?;
    let (region, outside) = region(&lowered);
    assert_eq!(region.results.len(), 1, "{}", lowered.kernels);
    assert_eq!(region.body.kernels.iter().filter(|k| matches!(k, Kernel::Gemm(_))).count(), 1, "{}", lowered.kernels);
    assert!(outside >= 2, "{}", lowered.kernels);
    Ok(())
}

#[test]
fn mistakes_are_errors_that_name_the_line() {
    let error = |x: Tensor| x.to_vec::<f32>().expect_err("an error").to_string();
    let x = floats(&[3, 2]);
    let grown = |c: Tensor, x: Tensor| (Tensor::stack(&[&c, &x], 0), ());
    let message = error(scan(grown, Tensor::zeros(&[2]), x.clone()).0);
    assert!(
        message.contains("scan: the carry is f32[2] before a trip and f32[2,2] after it")
            && message.contains("scan.rs"),
        "{message}"
    );
    let message = error(scan(|c: Tensor, _: Tensor| (c.convert(DType::F64), ()), Tensor::scalar(0.0f32), x.clone()).0);
    assert!(message.contains("f32[] before a trip and f64[] after it"), "{message}");
    // The results have the shapes that they would have.
    let failed = scan(|c: Tensor, x: Tensor| (c.convert(DType::F64), x), Tensor::scalar(0.0f32), x.clone()).1;
    assert_eq!(failed.shape(), [3, 2]);
    let lists = |mut c: Vec<Tensor>, x: Tensor| {
        c.push(x);
        (c, ())
    };
    let message = error(scan(lists, vec![Tensor::zeros(&[2])], x.clone()).0.swap_remove(0));
    assert!(message.contains("another structure"), "{message}");
    let pair = (x.clone(), floats(&[4]));
    let message = error(scan(|c: Tensor, _: (Tensor, Tensor)| (c, ()), Tensor::scalar(0.0f32), pair).0);
    assert!(message.contains("xs.1 is f32[4], of 4 elements, but xs.0 is f32[3,2], of 3"), "{message}");
    let message = error(scan(|c: Tensor, _: Tensor| (c, ()), Tensor::scalar(0.0f32), Tensor::scalar(1.0f32)).0);
    assert!(message.contains("xs is f32[], which has no axis to loop over"), "{message}");
    let message = error(scan(|c: Tensor, ()| (c, ()), Tensor::scalar(0.0f32), ()).0);
    assert!(message.contains("there is no length"), "{message}");
    let five = Scan { length: Some(5), ..Scan::default() };
    let message = error(five.run(|c: Tensor, _: Tensor| (c, ()), Tensor::scalar(0.0f32), x.clone()).0);
    assert!(message.contains("xs is f32[3,2], of 3 elements, but the length is 5"), "{message}");
    // A mistake in the body is what is told, and where it is.
    let message = error(scan(|c: Tensor, x: Tensor| (c.matmul(&x), ()), floats(&[3]), x.clone()).0);
    assert!(message.contains("scan.rs") && !message.contains("before a trip"), "{message}");
    let huge = Scan { length: Some(usize::MAX / 2), ..Scan::default() };
    let message = error(huge.run(|c: Tensor, ()| (c.clone(), c), Tensor::zeros(&[8]), ()).1);
    assert!(message.contains("larger than"), "{message}");
}

#[test]
fn a_loop_prints_as_it_reads() -> Result<()> {
    // A body lists its constants first, though they are found last.
    let types = [TensorType::new(DType::F32, &[2]), TensorType::new(DType::F32, &[4, 2])];
    let graph = trace(&types, |x| {
        let (w, v) = (x[0].exp(), x[0].sin());
        let (c, ys) = scan(|c: Tensor, x: Tensor| (&c * &v + &x, c.sum() * &w), x[0].clone(), x[1].clone());
        vec![c, ys]
    })?
    .graph;
    let read = parse(&graph.to_string())?;
    assert_eq!(read.to_string(), graph.to_string());
    assert_eq!(read, graph);
    Ok(())
}

#[test]
fn pullbacks_run_backwards() -> Result<()> {
    let xs = doubles(&[6]);
    let (y, pull) =
        vjp(|xs: &Tensor| scan(|p: Tensor, x: Tensor| (&p * &x, p), Tensor::scalar(1.0f64), xs.clone()).0, &xs);
    let got = pull(&Tensor::scalar(1.0f64));
    let product: f64 = xs.to_vec::<f64>()?.iter().product();
    close("the product", &y, &Tensor::scalar(product), 1e-14);
    close("its gradient", &got, &(Tensor::scalar(product) / &xs), 1e-12);
    Ok(())
}
