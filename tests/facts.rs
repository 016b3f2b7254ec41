//! Facts about performance that do not depend on the clock: traces, kernels, memory.

mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};

use fulgurite::compiler::array::allocations;
use fulgurite::compiler::cpu::{Isa, Parallelism, Target};
use fulgurite::compiler::fuse::Kernel;
use fulgurite::compiler::lower::lower as lower_kernels;
use fulgurite::prelude::*;
use fulgurite::{Lowered, conv, lower};
use fulgurite_benches::{Run, WORKLOADS};

/// Tests that count what the whole process does run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(name: &str) -> Run {
    let workload = WORKLOADS.iter().find(|w| w.name == name).expect("a workload");
    assert!(workload.flops > 0.0 && workload.bytes > 0.0);
    (workload.start)()
}

// ---- traces

#[test]
fn a_function_is_traced_once_per_kind_of_arguments() -> Result<()> {
    let _alone = alone();
    let f = jit(|(x, Static(n), bias): (Tensor, Static<usize>, Option<Tensor>)| {
        let y = x * n;
        bias.map_or_else(|| y.clone(), |bias| &y + bias)
    });
    let ones = |n: usize| Tensor::ones(&[n]);
    let traces = |x: Tensor, n: usize, bias: Option<Tensor>| -> Result<usize> {
        f.call((x, Static(n), bias))?;
        Ok(f.traces())
    };
    assert_eq!(traces(ones(4), 2, None)?, 1);
    assert_eq!(traces(ones(4), 2, None)?, 1);
    assert_eq!(traces(ones(5), 2, None)?, 2, "another shape");
    assert_eq!(traces(ones(4).convert(DType::I32), 2, None)?, 3, "another element type");
    assert_eq!(traces(ones(4), 3, None)?, 4, "another static value");
    assert_eq!(traces(ones(4), 3, Some(ones(4)))?, 5, "another structure");
    assert_eq!(traces(ones(5), 2, None)?, 5);
    assert_eq!(traces(ones(4), 3, Some(ones(4)))?, 5);
    Ok(())
}

#[test]
fn a_compiled_function_inside_another_becomes_part_of_it() -> Result<()> {
    let _alone = alone();
    let inner = std::sync::Arc::new(jit(|x: Tensor| (&x * 2.0).tanh()));
    let x = Tensor::ones(&[8]);
    // Inside of a trace a call cannot fail: its mistakes are the trace's.
    let around = |inner: &Jit<Tensor, (), Tensor>, x: Tensor| inner.call(x + 1.0).expect("part of a trace") * 3.0;
    let nested = lower(|x: Tensor| around(&inner, x), &x)?;
    assert_eq!(inner.traces(), 0, "it is not traced by itself");
    let plain = lower(|x: Tensor| ((x + 1.0) * 2.0).tanh() * 3.0, &x)?;
    assert_eq!(nested.kernels.to_string(), plain.kernels.to_string());

    let outer = jit({
        let inner = inner.clone();
        move |x: Tensor| around(&inner, x)
    });
    let got = outer.call(x)?.to_vec::<f32>()?;
    assert_eq!((outer.traces(), inner.traces()), (1, 0));
    assert!(got.iter().all(|y| (y - 3.0 * 4f32.tanh()).abs() < 1e-5), "{got:?}");
    Ok(())
}

// ---- kernels

fn kernels<A: Tree, O: Tree>(f: impl Fn(A) -> O, args: A) -> Result<usize> {
    Ok(lower(f, &args)?.kernels.kernels.len())
}

#[test]
fn what_belongs_together_is_one_kernel() -> Result<()> {
    let _alone = alone();
    let x = || Tensor::ones(&[64, 512]);
    assert_eq!(kernels(|x: Tensor| gelu(&(x * 2.0 + 1.0)), x())?, 1, "elementwise");
    assert_eq!(kernels(|x: Tensor| softmax(&x, -1), x())?, 1, "softmax");
    assert_eq!(kernels(|x: Tensor| log_softmax(&x, -1), x())?, 1, "log softmax");
    let norm = |(x, g, b): (Tensor, Tensor, Tensor)| {
        let (mean, var) = (x.mean_keep(-1), x.var_keep(-1));
        (x - mean) * (var + 1e-5).rsqrt() * g + b
    };
    assert_eq!(kernels(norm, (x(), Tensor::ones(&[512]), Tensor::zeros(&[512])))?, 1, "layer norm");
    let optimizer = adam(1e-3);
    let params = Tensor::ones(&[1000]);
    let state = optimizer.init(&params);
    let update = move |(params, state, grads): (Tensor, _, Tensor)| {
        let (updates, state) = optimizer.update(grads, state, &params);
        (apply_updates(params, updates), state)
    };
    // The bias corrections and the counter are separate scalars.
    let lowered = lower(update, &(params.clone(), state, params))?;
    let large = lowered.kernels.kernels.iter().filter(|k| stores(k).any(|n| n == 1000)).count();
    assert_eq!(large, 1, "an update by Adam\n{}", lowered.kernels);
    Ok(())
}

/// The sizes of what a kernel stores.
fn stores(kernel: &Kernel) -> impl Iterator<Item = usize> {
    let (extents, count): (Vec<usize>, usize) = match kernel {
        Kernel::Loop(kernel) => {
            let rows = kernel.dims.iter().filter(|d| !d.reduced).map(|d| d.extent).collect();
            (rows, kernel.stores.len())
        }
        Kernel::Gemm(gemm) => (gemm.extents[..3].to_vec(), 1),
        Kernel::Routine(_) | Kernel::Region(_) => (vec![], 0),
    };
    std::iter::repeat_n(extents.iter().product(), count)
}

/// The kernels of a step of each workload. A regression shows in the review of the stored text.
#[test]
fn kernels_of_the_workloads() -> Result<()> {
    let _alone = alone();
    let mut text = String::from(
        "# workload: loop kernels, matrix products, stores, values; bytes moved, operations, bytes of the arena; phases\n",
    );
    for workload in WORKLOADS {
        let Lowered { kernels, .. } = (workload.lower)()?;
        let (mut loops, mut gemms, mut stores, mut values, mut bytes, mut operations) = (0, 0, 0, 0, 0, 0);
        for (k, kernel) in kernels.kernels.iter().enumerate() {
            bytes += kernels.bytes_moved(k);
            operations += kernels.operations(k);
            match kernel {
                Kernel::Loop(kernel) => {
                    loops += 1;
                    stores += kernel.stores.len();
                    values += kernel.values.len();
                }
                Kernel::Gemm(_) => gemms += 1,
                Kernel::Routine(_) | Kernel::Region(_) => {}
            }
        }
        let donated = vec![false; kernels.params.len()];
        let target = |threads| Target { isa: Isa::Portable, threads, parallelism: Parallelism::Auto };
        let arena = lower_kernels(kernels.clone(), &donated, target(1).into())?.plan.arena;
        let name = workload.name;
        text += &format!("{name}: {loops} loops, {gemms} gemms, {stores} stores, {values} values; ");
        text += &format!("{bytes} moved, {operations} operations, {arena} in the arena; ");
        let phases = lower_kernels(kernels, &donated, target(2).into())?.phases;
        let tiled = phases.iter().flat_map(|phase| &phase.groups).filter(|group| group.tiles.is_some()).count();
        text += &format!("{} phases, {tiled} tiled groups on two threads\n", phases.len());
    }
    common::golden("kernels.txt", &text);
    Ok(())
}

// ---- memory

/// A convolution stores its operand with the padding around it, and no windows of it, which are nine times as much.
#[test]
fn windows_are_not_stored() -> Result<()> {
    let _alone = alone();
    let (images, kernel) = (Tensor::ones(&[8, 32, 32, 64]), Tensor::ones(&[3, 3, 64, 64]));
    let step = |(x, w): (Tensor, Tensor)| {
        let how = conv::Conv {
            padding: conv::Padding::Same,
            dimension_numbers: Some(["NHWC", "HWIO", "NHWC"]),
            ..conv::Conv::default()
        };
        let loss = |(x, w): &(Tensor, Tensor)| conv::conv_general_dilated(x, w, how).square().sum();
        value_and_grad(loss)(&(x, w))
    };
    let lowered = lower(step, &(images, kernel))?;
    let target = Target { isa: Isa::Portable, threads: 1, parallelism: Parallelism::Auto };
    let kernels = lowered.kernels;
    let arena = lower_kernels(kernels.clone(), &[false; 2], target.into())?.plan.arena;
    let (image, padded) = (8 * 32 * 32 * 64 * 4, 8 * 34 * 34 * 64 * 4);
    assert!(arena < 2 * padded + 2 * image, "{arena} bytes, of images of {image} and {padded}\n{kernels}");
    let taps = |kernel: &Kernel| if let Kernel::Gemm(gemm) = kernel { gemm.taps.len() } else { 0 };
    assert!(kernels.kernels.iter().any(|kernel| taps(kernel) > 1), "{kernels}");
    Ok(())
}

#[test]
fn a_step_allocates_nothing() -> Result<()> {
    let _alone = alone();
    for name in ["bnn", "mlp_tiny", "adam_many", "elementwise"] {
        let mut step = start(name);
        // Some results take turns in a few buffers, which are made in the first steps.
        for _ in 0..20 {
            step()?;
        }
        let before = allocations();
        for _ in 0..100 {
            step()?;
        }
        assert_eq!(allocations() - before, 0, "{name}");
    }
    let mut other = fulgurite_benches::mlp_with_batch(4);
    other()
}

/// Resident memory of this process, in KiB.
#[cfg(target_os = "linux")]
fn resident() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().map_err(|_| Error::new(format!("VmRSS is {line:?}")))
}

#[cfg(target_os = "linux")]
#[test]
fn many_steps_take_no_more_memory_than_few() -> Result<()> {
    let _alone = alone();
    let mut step = start("mlp_tiny");
    for _ in 0..1_000 {
        step()?;
    }
    let before = resident()?;
    for _ in 0..100_000 {
        step()?;
    }
    let grown = resident()?.saturating_sub(before);
    assert!(grown < 256, "{grown} KiB more after 100,000 steps");
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn a_dropped_function_gives_its_memory_back() -> Result<()> {
    let _alone = alone();
    let compile = |n: usize| {
        // Five kernels of different code, each with a matrix product between.
        let f = jit(move |x: Tensor| {
            let layer = |x: Tensor, m: usize| softmax(&(x * n).erf(), -1).matmul(&Tensor::ones(&[32 * m, 32 * m + 32]));
            (1..6).fold(x, layer)
        });
        f.call(Tensor::ones(&[16, 32])).map(|_| f)
    };
    let many = || (0..200).map(compile).collect::<Result<Vec<_>>>();
    drop(many()?);
    let before = resident()?;
    let held = many()?;
    let while_held = resident()? - before;
    drop(held);
    for _ in 0..3 {
        drop(many()?);
    }
    let after = resident()?.saturating_sub(before);
    assert!(while_held > 1_000, "200 functions take {while_held} KiB only: is this still measured?");
    assert!(after < while_held / 4, "of {while_held} KiB for 200 functions, {after} are left after four times as many");
    Ok(())
}

fn address(x: &Tensor) -> Result<usize> {
    Ok(x.array()?.buffer().start() as usize)
}

#[test]
fn state_that_is_given_away_is_updated_in_place() -> Result<()> {
    let _alone = alone();
    let optimizer = adam(1e-3);
    let params = (Tensor::from_vec(&[3], vec![1.0f32, 2.0, 3.0])?, Tensor::from_vec(&[2, 2], vec![1.0f32; 4])?);
    let mut state = (params.clone(), adam(1e-3).init(&params));
    drop(params);
    type State = ((Tensor, Tensor), fulgurite::trainer::optim::AdamState<(Tensor, Tensor)>);
    let step = jit(move |(params, state): State| {
        let loss = |(a, b): &(Tensor, Tensor)| a.square().sum() + b.square().sum();
        let (updates, state) = optimizer.update(grad(loss)(&params), state, &params);
        (apply_updates(params, updates), state)
    });
    // The first call copies leaves that share memory (the moments' zeros); from then on each stays where it is.
    state = step.call(state)?;
    let places = |state: &State| leaves(state).iter().map(address).collect::<Result<Vec<_>>>();
    let first = places(&state)?;
    let before = allocations();
    for _ in 0..10 {
        state = step.call(state)?;
        assert_eq!(places(&state)?, first);
    }
    assert_eq!(allocations(), before);
    assert_eq!(step.traces(), 1);
    Ok(())
}

#[test]
fn what_others_hold_is_not_overwritten() -> Result<()> {
    let _alone = alone();
    let twice = jit(|x: Tensor| x * 2.0);
    let x = Tensor::from_vec(&[3], vec![1.0f32, 2.0, 3.0])?;
    let at = address(&x)?;
    let y = twice.call(x.clone())?;
    assert_ne!(address(&y)?, at, "somebody still holds x");
    assert_eq!((x.to_vec::<f32>()?, y.to_vec::<f32>()?), (vec![1.0, 2.0, 3.0], vec![2.0, 4.0, 6.0]));
    let y = twice.call(x)?;
    assert_eq!(address(&y)?, at, "the last handle was given away");
    assert_eq!(y.to_vec::<f32>()?, [2.0, 4.0, 6.0]);

    // The same tensor twice, and the same tensor donated and borrowed.
    let sum = jit(|(x, y): (Tensor, Tensor)| (&x + &y, x * 3.0, y * 5.0));
    let x = Tensor::from_vec(&[2], vec![1.0f32, 2.0])?;
    let (a, b, c) = sum.call((x.clone(), x))?;
    let all = (a.to_vec::<f32>()?, b.to_vec::<f32>()?, c.to_vec::<f32>()?);
    assert_eq!(all, (vec![2.0, 4.0], vec![3.0, 6.0], vec![5.0, 10.0]));

    let lend = Jit::with_borrowed("lend", |x: Tensor, y: Tensor| (&x + &y, y * 2.0));
    let (x, y) = (Tensor::from_vec(&[2], vec![1.0f32, 2.0])?, Tensor::from_vec(&[2], vec![5.0f32, 6.0])?);
    let place = address(&y)?;
    let (a, b) = lend.call_with(x, y.clone())?;
    assert_eq!((a.to_vec::<f32>()?, b.to_vec::<f32>()?), (vec![6.0, 8.0], vec![10.0, 12.0]));
    assert_eq!(y.to_vec::<f32>()?, [5.0, 6.0]);
    // Even the last handle: what is borrowed is not written to.
    let (_, b) = lend.call_with(Tensor::ones(&[2]), y)?;
    assert_ne!(address(&b)?, place);

    // Results that are read later are not overwritten by later calls.
    let mut kept = Vec::new();
    for i in 0..20 {
        kept.push(twice.call(Tensor::from_vec(&[2], vec![i as f32, 1.0])?)?);
    }
    for (i, y) in kept.iter().enumerate() {
        assert_eq!(y.to_vec::<f32>()?, [2.0 * i as f32, 2.0]);
    }
    Ok(())
}
