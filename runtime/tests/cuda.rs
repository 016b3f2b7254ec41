//! Programs on GPUs. These are fake: kernels run in the SIMT interpreter, which checks every access, and the driver
//! counts its calls and fails where it is told to.

use fulgurite_jit::testing::{Config, program};
use fulgurite_jit::{Array, DType, Error, Result, Tensor, TensorType, scan};
use fulgurite_runtime::testing::{Counts, FakeDevices, Fault, compile, put, with_fake_devices, without_driver};
use fulgurite_runtime::{
    Bound, Device, Jit, Program, copy_to_host_async, jit, prefetch_to_device, synchronize, with_device,
};

const GPU: Device = Device::Cuda(0);

/// Weights of two layers and a bias.
type Params = (Tensor, Tensor, Tensor);
/// Parameters, their first and second moments, and the number of the step.
type State = (Params, Params, Params, Tensor);
type Batch = (Tensor, Tensor);

const INPUTS: usize = 5;
const HIDDEN: usize = 7;
const ROWS: usize = 6;

fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let value = |i: usize| ((i * 37 + seed * 101) % 64) as f32 / 32.0 - 1.0;
    Tensor::from_vec(shape, (0..shape.iter().product()).map(value).collect()).expect("as many as the shape has")
}

fn params(seed: usize) -> Params {
    (numbers(&[INPUTS, HIDDEN], seed), numbers(&[HIDDEN], seed + 1), numbers(&[HIDDEN, 1], seed + 2))
}

fn start() -> State {
    let zeros = || {
        let zeros = |shape: &[usize]| Tensor::from_vec(shape, vec![0.0f32; shape.iter().product()]);
        Ok::<_, Error>((zeros(&[INPUTS, HIDDEN])?, zeros(&[HIDDEN])?, zeros(&[HIDDEN, 1])?))
    };
    (params(1), zeros().expect("zeros"), zeros().expect("zeros"), Tensor::scalar(0.0f32))
}

fn batch(seed: usize) -> Batch {
    (numbers(&[ROWS, INPUTS], seed + 10), numbers(&[ROWS, 1], seed + 20))
}

/// The mean square error of a perceptron, and its gradient.
fn value_and_grad((w1, b1, w2): &Params, (x, y): &Batch) -> (Tensor, Params) {
    let h = (x.matmul(w1) + b1).tanh();
    let e = h.matmul(w2) - y;
    let de = &e * (2.0 / ROWS as f32);
    let dz = de.matmul(&w2.t()) * (1.0 - &h * &h);
    ((&e * &e).mean(), (x.t().matmul(&dz), dz.sum_axes(0), h.t().matmul(&de)))
}

fn adam((params, m, v, t): State, batch: Batch) -> (State, Tensor) {
    let (loss, grads) = value_and_grad(&params, &batch);
    let t = t + 1.0;
    let [c1, c2] = [0.9f32, 0.999].map(|b| 1.0 - (&t * b.ln()).exp());
    let next = |p: &Tensor, m: &Tensor, v: &Tensor, g: &Tensor| {
        let m = m * 0.9 + g * 0.1;
        let v = v * 0.999 + g * g * 0.001;
        let p = p - (&m / &c1) / ((&v / &c2).sqrt() + 1e-8) * 0.01;
        (p, m, v)
    };
    let (p1, m1, v1) = next(&params.0, &m.0, &v.0, &grads.0);
    let (p2, m2, v2) = next(&params.1, &m.1, &v.1, &grads.1);
    let (p3, m3, v3) = next(&params.2, &m.2, &v.2, &grads.2);
    (((p1, p2, p3), (m1, m2, m3), (v1, v2, v3), t), loss)
}

fn step() -> Jit<State, Batch, (State, Tensor)> {
    Jit::with_borrowed("adam", adam)
}

fn arrays(state: &State) -> Result<Vec<Array>> {
    fulgurite_jit::leaves(state).iter().map(|x| x.array()?.to_host()).collect()
}

/// Losses and the last state of so many steps on the processor.
fn on_cpu(steps: usize) -> Result<(Vec<f32>, Vec<Array>)> {
    with_device(Device::Cpu, || {
        let (step, mut state, mut losses) = (step(), start(), vec![]);
        for i in 0..steps {
            let (next, loss) = step.call_with(state, batch(i))?;
            state = next;
            losses.push(loss.item()?);
        }
        Ok((losses, arrays(&state)?))
    })?
}

fn on_gpu<R>(f: impl FnOnce(&FakeDevices) -> Result<R>) -> Result<R> {
    with_fake_devices(1, |fake| with_device(GPU, || f(fake))?)
}

/// The array of a tensor, moved to a device.
fn moved(x: &Tensor, device: Device) -> Result<Tensor> {
    Ok(put(x.array()?, device)?.into())
}

fn vector(data: &[f32]) -> Tensor {
    Tensor::from_vec(&[data.len()], data.to_vec()).expect("as many as the shape has")
}

fn is_on(x: &Tensor, device: Device) -> Result<bool> {
    Ok(x.array()?.device() == device)
}

#[test]
fn training_has_the_bits_of_the_cpu() -> Result<()> {
    let expected = on_cpu(6)?;
    on_gpu(|fake| {
        let (step, mut state, mut losses) = (step(), start(), vec![]);
        for i in 0..6 {
            let (next, loss) = step.call_with(state, batch(i))?;
            state = next;
            losses.push(loss.item()?);
        }
        assert!(is_on(&state.0.0, GPU)?);
        assert_eq!((losses, arrays(&state)?), expected);
        assert_eq!((step.traces(), fake.counts(0).loads, fake.counts(0).launches), (1, 1, 6));

        let mut bound = self::step().bind(start());
        let losses = (0..6).map(|i| bound.call(batch(i))?.item()).collect::<Result<Vec<f32>>>()?;
        assert_eq!((losses, arrays(&bound.state())?), expected);
        assert_eq!(fake.counts(0).copies, 0, "all states are donated");
        Ok(())
    })
}

/// What a call has asked of the driver.
fn asked(fake: &FakeDevices, call: impl FnOnce() -> Result<()>) -> Result<Counts> {
    let before = fake.counts(0);
    call()?;
    let after = fake.counts(0);
    Ok(Counts {
        allocations: after.allocations - before.allocations,
        frees: after.frees - before.frees,
        writes: after.writes - before.writes,
        uploads: after.uploads - before.uploads,
        written_bytes: 0,
        reads: after.reads - before.reads,
        downloads: after.downloads - before.downloads,
        waits: after.waits - before.waits,
        copies: after.copies - before.copies,
        compiles: after.compiles - before.compiles,
        loads: after.loads - before.loads,
        unloads: after.unloads - before.unloads,
        builds: after.builds - before.builds,
        nodes: after.nodes - before.nodes,
        destroys: after.destroys - before.destroys,
        updates: after.updates - before.updates,
        launches: after.launches - before.launches,
        timed: after.timed - before.timed,
    })
}

#[test]
fn a_step_is_one_launch() -> Result<()> {
    on_gpu(|fake| {
        let once = Counts { launches: 1, ..Counts::default() };
        // Batches on the device: nothing but the launch, as long as they are in the same place.
        let (x, y) = batch(0);
        let there = (moved(&x, GPU)?, moved(&y, GPU)?);
        let mut bound = step().bind(start());
        for i in 0..5 {
            let counts = asked(fake, || bound.call(there.clone()).map(drop))?;
            match i {
                0 => assert_eq!((counts.builds, counts.updates), (1, 0)),
                _ => assert_eq!(counts, once),
            }
        }
        // One elsewhere: the nodes that read it are updated. In turn with the first: each gets a graph.
        let other = (moved(&x, GPU)?, there.1.clone());
        let counts = asked(fake, || bound.call(other.clone()).map(drop))?;
        assert!((1..5).contains(&counts.updates) && counts.builds == 0, "{counts:?}");
        for batch in [&there, &other, &there, &other, &there] {
            bound.call(batch.clone())?;
        }
        for _ in 0..3 {
            assert_eq!(asked(fake, || bound.call(other.clone()).map(drop))?, once);
            assert_eq!(asked(fake, || bound.call(there.clone()).map(drop))?, once);
        }
        // Batches that come from anywhere have a few graphs, which are updated.
        let builds = fake.counts(0).builds;
        let many = (0..20).map(|_| Ok((moved(&x, GPU)?, there.1.clone()))).collect::<Result<Vec<_>>>()?;
        for batch in many.iter().chain(&many) {
            bound.call(batch.clone())?;
        }
        assert_eq!(fake.counts(0).builds, builds);

        // Batches from the host are copied; nothing is allocated, and they come to lie in the same place.
        let mut bound = step().bind(start());
        let step = step();
        let mut state = Some(start());
        for i in 0..6 {
            let counts = asked(fake, || bound.call(batch(i)).map(drop))?;
            let called = asked(fake, || {
                let (next, _) = step.call_with(state.take().expect("a state"), batch(i))?;
                state = Some(next);
                Ok(())
            })?;
            if i >= 2 {
                assert_eq!(counts, Counts { writes: 2, ..once });
                assert_eq!(called, Counts { writes: 2, ..once });
            }
        }
        Ok(())
    })
}

#[test]
fn calls_return_before_they_run() -> Result<()> {
    on_gpu(|fake| {
        let double = jit(|x: Tensor| x * 2.0);
        let mut x = vector(&[1.0, 2.0]);
        for _ in 0..3 {
            x = double.call(x)?;
        }
        assert_eq!((fake.counts(0).launches, fake.counts(0).reads), (3, 0));
        assert!(fake.queued(0) >= 3);
        assert_eq!(x.array()?.bytes()?, [8.0f32, 16.0].map(f32::to_ne_bytes).concat());
        assert_eq!((fake.queued(0), fake.counts(0).reads), (0, 1));
        assert_eq!(x.to_vec::<f32>()?, [8.0, 16.0]);
        assert_eq!(fake.counts(0).reads, 1, "the copy is kept");
        let y = double.call(x)?;
        assert!(fake.queued(0) > 0);
        synchronize(GPU)?;
        assert_eq!(fake.queued(0), 0);
        assert_eq!(y.to_vec::<f32>()?, [16.0, 32.0], "what was read of the argument is no copy of the result");
        Ok(())
    })
}

#[test]
fn only_what_nobody_holds_is_overwritten() -> Result<()> {
    on_gpu(|fake| {
        let step = jit(|(x, y): (Tensor, Tensor)| (&x + 1.0, &y * &x));
        let given = (moved(&vector(&[1.0, 2.0]), GPU)?, moved(&vector(&[3.0, 4.0]), GPU)?);
        let (x, y) = step.call(given.clone())?;
        assert_eq!((x.to_vec::<f32>()?, y.to_vec::<f32>()?), (vec![2.0, 3.0], vec![3.0, 8.0]));
        assert_eq!((given.0.to_vec::<f32>()?, given.1.to_vec::<f32>()?), (vec![1.0, 2.0], vec![3.0, 4.0]));
        let counts = asked(fake, || {
            let (x, y) = step.call((x, y))?;
            assert_eq!((x.to_vec::<f32>()?, y.to_vec::<f32>()?), (vec![3.0, 4.0], vec![6.0, 24.0]));
            Ok(())
        })?;
        assert_eq!(counts.copies, 0);
        // Twice the same array.
        let x = moved(&vector(&[5.0, 6.0]), GPU)?;
        let (a, b) = step.call((x.clone(), x))?;
        assert_eq!((a.to_vec::<f32>()?, b.to_vec::<f32>()?), (vec![6.0, 7.0], vec![25.0, 36.0]));
        // A result that is an argument, and one that is returned twice.
        let same = jit(|x: Tensor| {
            let y = &x + 1.0;
            (x, y.clone(), y.reshape(&[1, 2]))
        });
        let x = moved(&vector(&[1.0, 2.0]), GPU)?;
        let (x, y, z) = same.call(x)?;
        assert_eq!((x.to_vec::<f32>()?, y.to_vec::<f32>()?), (vec![1.0, 2.0], vec![2.0, 3.0]));
        assert_eq!((z.shape(), z.to_vec::<f32>()?), (&[1, 2][..], vec![2.0, 3.0]));
        let double = jit(|x: Tensor| x * 2.0);
        assert_eq!(double.call(y)?.to_vec::<f32>()?, [4.0, 6.0]);
        assert_eq!(z.to_vec::<f32>()?, [2.0, 3.0]);
        // Borrowed arguments.
        let borrowing = Jit::with_borrowed("borrowing", |x: Tensor, y: Tensor| x * &y);
        let x = moved(&vector(&[1.0, 2.0]), GPU)?;
        assert_eq!(borrowing.call_with(x.clone(), x.clone())?.to_vec::<f32>()?, [1.0, 4.0]);
        assert_eq!(x.to_vec::<f32>()?, [1.0, 2.0]);
        Ok(())
    })
}

#[test]
fn held_states_are_not_overwritten() -> Result<()> {
    on_gpu(|_| {
        let shared = vector(&[0.0, 1.0, 2.0]);
        let double = |(x, y): (Tensor, Tensor), by: Tensor| ((&x * &by, &y + &by), x.sum());
        // Two leaves with one buffer, which the test holds too.
        let mut bound: Bound<_, _, _> = Jit::with_borrowed("double", double).bind((shared.clone(), shared.clone()));
        let mut seen = vec![];
        for step in 0..4 {
            let sum = bound.call(Tensor::scalar(2.0f32))?.item::<f32>()?;
            assert_eq!(sum, 3.0 * 2f32.powi(step));
            // Some are read at once, the others when later steps have run.
            let state = bound.state();
            if step % 2 == 0 {
                state.0.to_vec::<f32>()?;
            }
            seen.push(state);
        }
        assert_eq!(shared.to_vec::<f32>()?, [0.0, 1.0, 2.0]);
        for (step, (x, y)) in seen.iter().enumerate() {
            assert_eq!(x.to_vec::<f32>()?[1], 2f32.powi(step as i32 + 1));
            assert_eq!(y.to_vec::<f32>()?[1], 1.0 + 2.0 * (step + 1) as f32);
        }
        Ok(())
    })
}

#[test]
fn arguments_come_from_anywhere() -> Result<()> {
    with_fake_devices(2, |fake| {
        let add = Jit::with_borrowed("add", |x: Tensor, y: Tensor| x + &y);
        let (x, y) = (vector(&[1.0, 2.0]), vector(&[10.0, 20.0]));
        let places = [Device::Cpu, Device::Cuda(0), Device::Cuda(1)];
        for device in places {
            for from in places {
                for other in places {
                    let (a, b) = (moved(&x, from)?, moved(&y, other)?);
                    let sum = with_device(device, || add.call_with(a.clone(), b.clone()))??;
                    assert!(is_on(&sum, device)?);
                    assert_eq!(sum.to_vec::<f32>()?, [11.0, 22.0]);
                    assert_eq!((a.to_vec::<f32>()?, b.to_vec::<f32>()?), (vec![1.0, 2.0], vec![10.0, 20.0]));
                }
            }
        }
        assert_eq!(add.traces(), 3, "one program per device");
        assert_eq!([0, 1].map(|number| fake.counts(number).loads), [1, 1]);
        // A state moves once.
        let mut bound = Jit::with_borrowed("sum", |s: Tensor, x: Tensor| (s + &x, ())).bind(moved(&x, places[1])?);
        with_device(Device::Cuda(1), || (0..3).try_for_each(|_| bound.call(y.clone())))??;
        assert!(is_on(&bound.state(), Device::Cuda(1))?);
        assert_eq!(bound.state().to_vec::<f32>()?, [31.0, 62.0]);
        Ok(())
    })
}

#[test]
fn ops_run_where_their_operands_are() -> Result<()> {
    with_fake_devices(2, |_| {
        let x = vector(&[1.0, 2.0, 3.0]);
        assert!(is_on(&with_device(Device::Cpu, || &x + 1.0)?, Device::Cpu)?);
        for number in 0..2 {
            let there = moved(&x, Device::Cuda(number))?;
            let y = (&there * &x).exp() + 1.0;
            assert!(is_on(&y, Device::Cuda(number))?);
            assert_eq!(y.array()?, ((&x * &x).exp() + 1.0).array()?);
        }
        let y = with_device(Device::Cuda(1), || &x * 2.0)?;
        assert!(is_on(&y, Device::Cuda(1))?);
        assert_eq!(y.to_vec::<f32>()?, [2.0, 4.0, 6.0]);
        Ok(())
    })
}

#[test]
fn constants_are_on_the_device_once() -> Result<()> {
    on_gpu(|fake| {
        let table = vector(&(0..50).map(|i| i as f32).collect::<Vec<_>>());
        let captured = moved(&table, GPU)?;
        let scale = moved(&Tensor::scalar(3.0f32), GPU)?;
        let f = {
            let (captured, scale) = (captured.clone(), scale.clone());
            jit(move |x: Tensor| ((&x * &captured).sum() * &scale, captured.clone()))
        };
        let x = moved(&table, GPU)?;
        let (sum, returned) = f.call(x.clone())?;
        assert_eq!(sum.item::<f32>()?, 3.0 * (0..50).map(|i| (i * i) as f32).sum::<f32>());
        assert_eq!(returned.array()?, table.array()?);
        assert!(is_on(&returned, GPU)?);
        let counts = asked(fake, || f.call(x.clone()).map(drop))?;
        assert_eq!((counts.writes, counts.reads, counts.launches), (0, 0, 1));
        // A constant that is returned is not overwritten by who takes it.
        let double = jit(|x: Tensor| x * 2.0);
        assert_eq!(double.call(returned)?.to_vec::<f32>()?[49], 98.0);
        assert_eq!(f.call(x)?.1.array()?, table.array()?);
        Ok(())
    })
}

#[test]
fn empty_arrays_and_scalars() -> Result<()> {
    on_gpu(|_| {
        let f = jit(|(x, y): (Tensor, Tensor)| (&x * 2.0, x.sum(), &y + 1, x.sum_axes(0)));
        for shape in [vec![0], vec![0, 3], vec![3, 0]] {
            let ty = TensorType::new(DType::F32, &shape);
            let x: Tensor = Array::zeros(&ty)?.into();
            let (doubled, sum, scalar, columns) = f.call((x, Tensor::scalar(1i32)))?;
            assert_eq!((doubled.shape(), doubled.to_vec::<f32>()?), (&shape[..], vec![]));
            assert_eq!((sum.item::<f32>()?, scalar.item::<i32>()?), (0.0, 2));
            assert_eq!(columns.to_vec::<f32>()?, vec![0.0; shape[1..].iter().product::<usize>()][..columns.elements()]);
        }
        // Programs that compute nothing.
        jit(|(): ()| ()).call(())?;
        assert_eq!(jit(|x: Tensor| x).call(vector(&[1.0]))?.to_vec::<f32>()?, [1.0]);
        assert_eq!(jit(|(): ()| Tensor::scalar(7.0f32)).call(())?.item::<f32>()?, 7.0);
        // Bools.
        let mask = jit(|x: Tensor| (x.greater(0.0), x.greater(0.0).any())).call(vector(&[1.0, -1.0, 2.0]))?;
        assert_eq!((mask.0.to_vec::<bool>()?, mask.1.item::<bool>()?), (vec![true, false, true], true));
        Ok(())
    })
}

#[test]
fn several_threads_at_once() -> Result<()> {
    let expected = on_cpu(4)?;
    with_fake_devices(2, |fake| {
        let shared = step();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..6)
                .map(|thread| {
                    let (fake, shared, expected) = (fake.clone(), &shared, &expected);
                    scope.spawn(move || {
                        fake.on(|| {
                            with_device(Device::Cuda(thread % 2), || {
                                let (mut state, mut losses) = (start(), vec![]);
                                for i in 0..4 {
                                    let (next, loss) = shared.call_with(state, batch(i))?;
                                    state = next;
                                    losses.push(loss);
                                }
                                let losses = losses.iter().map(Tensor::item).collect::<Result<Vec<f32>>>()?;
                                assert_eq!((losses, arrays(&state)?), *expected);
                                Ok(())
                            })?
                        })
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
        })
    })
}

/// The message of the error that there is.
fn message<R>(result: Result<R>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn devices_that_are_not_there() {
    let with = |device| message(with_device(device, || ()));
    with_fake_devices(0, |_| {
        assert_eq!(with(GPU), "cuda:0: there is no such device; this machine has no CUDA device");
    });
    with_fake_devices(1, |_| {
        let expected = "cuda:3: there is no such device; this machine has one CUDA device, cuda:0";
        assert_eq!(with(Device::Cuda(3)), expected);
        assert!(with_device(GPU, || ()).is_ok());
    });
    with_fake_devices(2, |_| {
        let expected = "cuda:2: there is no such device; this machine has 2 CUDA devices, cuda:0 to cuda:1";
        assert_eq!(with(Device::Cuda(2)), expected);
    });
    let old = "the installed driver is for CUDA 10.2 and too old: 11.4 is the least that is supported";
    without_driver(Some(old), || assert_eq!(with(GPU), format!("cuda:0: {old}")));
    if !cfg!(feature = "cuda") {
        let expected = "cuda:1: this build has no back end for NVIDIA GPUs; the feature `cuda` adds it";
        assert_eq!(with(Device::Cuda(1)), expected);
    }
}

#[test]
fn a_call_that_fails_leaves_the_state() -> Result<()> {
    let expected = on_cpu(8)?;
    // What the steps 0 and 4 meet. The first compiles and builds, the other replays, for a batch that lies elsewhere,
    // with a state that is held.
    let cases = [
        (Fault::Allocate, "no memory for", true),
        (Fault::Write, "cuda:0: cuMemcpyHtoDAsync: CUDA_ERROR_UNKNOWN (unknown error)", true),
        (Fault::Compile, "cuda:0: cuLinkAddData: CUDA_ERROR_INVALID_PTX (a PTX JIT compilation failed)", false),
        (Fault::Load, "cuda:0: cuModuleLoadData: CUDA_ERROR_INVALID_IMAGE (device kernel image is invalid)", false),
        (Fault::Build, "cuda:0: cuGraphInstantiate: CUDA_ERROR_UNKNOWN (unknown error)", false),
        (Fault::Launch, "cuda:0: cuGraphLaunch: CUDA_ERROR_UNKNOWN (unknown error)", true),
        (Fault::Copy, "cuda:0: cuMemcpyDtoDAsync: CUDA_ERROR_UNKNOWN (unknown error)", true),
        (Fault::Update, "cuda:0: cuGraphExecKernelNodeSetParams: CUDA_ERROR_UNKNOWN (unknown error)", true),
    ];
    for (fault, message, later) in cases {
        for after in 0..4 {
            on_gpu(|fake| {
                let (mut bound, mut losses, mut failures) = (step().bind(start()), vec![], 0);
                let mut held = vec![];
                for i in 0..8 {
                    let mut next = batch(i);
                    if i == 4 {
                        next.0 = moved(&next.0, GPU)?;
                        held.push((bound.state(), arrays(&bound.state())?));
                    }
                    if i == 0 || i == 4 {
                        fake.fail(0, fault, after);
                        while let Err(error) = bound.call(next.clone()) {
                            failures += 1;
                            assert!(error.to_string().contains(message), "{fault:?} {after}: {error}");
                            fake.heal(0);
                            // The same state as before, and on the next try the same results.
                            if let Some((_, values)) = held.last() {
                                assert_eq!(arrays(&bound.state())?, *values);
                            }
                            assert!(failures < 10, "{fault:?} {after}");
                        }
                        fake.heal(0);
                        losses.push(expected.0[i]);
                    } else {
                        losses.push(bound.call(next)?.item::<f32>()?);
                    }
                }
                assert_eq!((losses, arrays(&bound.into_state())?), expected, "{fault:?} {after}");
                for (state, values) in held {
                    assert_eq!(arrays(&state)?, values);
                }
                assert!(
                    failures > 0 || after > 0 || !later && ![Fault::Compile, Fault::Load].contains(&fault),
                    "{fault:?} {after}"
                );
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// A loop whose kernels have work for more blocks than are resident.
fn large_loop() -> Jit<(Tensor, Tensor), (), (Tensor, Tensor)> {
    jit(|(h, xs): (Tensor, Tensor)| {
        let step = |h: Tensor, x: Tensor| (h.flip(0) * 0.5 + &x, h.slice(&[0], &[3], &[1]) * x);
        scan(step, h, xs)
    })
}

#[test]
fn a_loop_of_large_kernels_is_one_launch() -> Result<()> {
    let args = || (numbers(&[5000], 1), numbers(&[30], 2));
    let expected = with_device(Device::Cpu, || large_loop().call(args()))??;
    on_gpu(|fake| {
        let same = |(h, sums): (Tensor, Tensor)| -> Result<()> {
            assert_eq!((h.array()?, sums.array()?), (expected.0.array()?, expected.1.array()?));
            Ok(())
        };
        let first = large_loop();
        // More blocks than have room are not asked for; what has room is asked once.
        fake.fail(0, Fault::Resident, 0);
        let error = message(first.call(args()).map(drop));
        assert!(error.contains("cuOccupancyMaxActiveBlocksPerMultiprocessor: CUDA_ERROR_UNKNOWN"), "{error}");
        same(first.call(args())?)?;
        assert_eq!((fake.counts(0).builds, fake.counts(0).nodes), (1, 1));
        // Launches that are not made leave the barrier as it was; so do other programs.
        for fault in [Fault::Launch, Fault::Update, Fault::Allocate] {
            fake.fail(0, fault, 0);
            let held = args();
            while first.call(held.clone()).is_err() {
                fake.heal(0);
            }
            fake.heal(0);
            same(first.call(args())?)?;
            same(large_loop().call(args())?)?;
        }
        Ok(())
    })
}

#[test]
fn memory_that_is_free_is_given_back_before_there_is_an_error() -> Result<()> {
    on_gpu(|fake| {
        let double = jit(|x: Tensor| x * 2.0);
        for size in [1000, 2000, 3000] {
            double.call(vector(&vec![1.0; size]))?.to_vec::<f32>()?;
        }
        let before = fake.live_bytes(0);
        assert!(before >= 6000 * 4);
        fake.fail(0, Fault::Allocate, 0);
        let error = message(double.call(vector(&vec![1.0; 5000])));
        let expected = "`";
        assert!(
            error.starts_with(expected) && error.contains("no memory for a copy of f32[5000], 20000 bytes on cuda:0, ")
        );
        assert!(
            error.contains("which has 1073741824: cuMemAllocAsync: CUDA_ERROR_OUT_OF_MEMORY (out of memory)"),
            "{error}"
        );
        assert_eq!(fake.live_bytes(0), 0);
        fake.heal(0);
        assert_eq!(double.call(vector(&vec![1.0; 5000]))?.to_vec::<f32>()?, vec![2.0; 5000]);
        Ok(())
    })
}

#[test]
fn a_read_that_fails_is_tried_again() -> Result<()> {
    on_gpu(|fake| {
        let y = jit(|x: Tensor| x * 2.0).call(vector(&[1.0]))?;
        fake.fail(0, Fault::Read, 0);
        let expected = "reading f32[1] from cuda:0: cuda:0: cuMemcpyDtoHAsync: CUDA_ERROR_UNKNOWN (unknown error)";
        assert!(message(y.to_vec::<f32>()).contains(expected));
        assert_eq!(y.to_vec::<f32>()?, [2.0]);
        Ok(())
    })
}

#[test]
fn a_device_that_is_lost_says_so() -> Result<()> {
    with_fake_devices(2, |fake| {
        let double = jit(|x: Tensor| x * 2.0);
        let call = |device, x: Tensor| with_device(device, || double.call(x))?;
        let before = call(GPU, vector(&[1.0]))?;
        assert_eq!(before.to_vec::<f32>()?, [2.0]);
        let unread = call(GPU, vector(&[1.0]))?;
        fake.fail(0, Fault::Kernel, 0);
        // The call returns before the kernel fails.
        let y = call(GPU, vector(&[2.0]))?;
        let lost = "cuda:0 is lost, and with it the arrays that were not read: cuStreamSynchronize: \
                    CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was encountered)";
        for error in [
            message(y.to_vec::<f32>()),
            message(y.to_vec::<f32>()),
            message(unread.to_vec::<f32>()),
            message(call(GPU, vector(&[3.0]))),
            message(call(GPU, y.clone())),
            message(call(Device::Cuda(1), y.clone())),
            message(moved(&vector(&[1.0]), GPU)),
            message(synchronize(GPU)),
        ] {
            assert!(error.contains(lost), "{error}");
        }
        assert_eq!(before.to_vec::<f32>()?, [2.0], "what has been read is there");
        assert_eq!(call(Device::Cuda(1), before)?.to_vec::<f32>()?, [4.0], "the other device works");
        Ok(())
    })
}

#[test]
fn everything_is_given_back_in_any_order() -> Result<()> {
    for order in 0..3 {
        with_fake_devices(1, |fake| {
            let (y, step) = with_device(GPU, || {
                let step = jit(|x: Tensor| (&x * 2.0).sum());
                Ok::<_, Error>((step.call(vector(&[1.0, 2.0]))?, step))
            })??;
            assert!(fake.live_bytes(0) > 0);
            match order {
                0 => {
                    drop(step);
                    fake.close();
                    assert_eq!(y.item::<f32>()?, 6.0);
                    drop(y);
                }
                1 => {
                    fake.close();
                    drop((y, step));
                }
                _ => {
                    assert_eq!(y.item::<f32>()?, 6.0);
                    drop((y, step));
                    fake.close();
                }
            }
            let Counts { loads, unloads, builds, destroys, allocations, frees, .. } = fake.counts(0);
            assert_eq!((loads, builds, allocations), (unloads, destroys, frees));
            assert_eq!((fake.live_bytes(0), loads), (0, 1));
            Ok::<_, Error>(())
        })?;
    }
    Ok(())
}

/// The bits of an array; one NaN is as good as another, and the processor flushes subnormal numbers of f64.
fn bits(x: &Array) -> Result<Vec<u64>> {
    let dtype = x.ty().dtype;
    let bits = x.to_bits()?.into_iter().map(|bits| match dtype.float() {
        Some(format) if format.is_nan(bits) => format.nan(),
        Some(format) if dtype == DType::F64 && format.is_subnormal(bits) => bits & 1 << 63,
        _ => bits,
    });
    Ok(bits.collect())
}

#[test]
fn random_programs_with_donated_inputs_have_the_bits_of_the_cpu() -> Result<()> {
    let config = Config { large: 0, ..Config::COMPILED };
    for seed in 1..=40u64 {
        let (graph, inputs) = program(seed, &config);
        let expected = Program::compile("cpu", &graph, &vec![false; inputs.len()])?.run(inputs.clone())?;
        let expected = expected.iter().map(bits).collect::<Result<Vec<_>>>()?;
        with_fake_devices(1, |_| {
            let donated: Vec<bool> = (0..inputs.len() as u64).map(|i| (seed >> (i % 5)) & 1 == 1).collect();
            let program = compile(&graph, &donated, GPU)?;
            // From the host; from the device, held; from the device, given away. All results are held.
            let mut results = vec![program.run(inputs.clone())?];
            let there = inputs.iter().map(|x| put(x, GPU)).collect::<Result<Vec<_>>>()?;
            results.push(program.run(there.clone())?);
            results.push(program.run(there.clone())?);
            for (x, y) in there.iter().zip(&inputs) {
                assert_eq!(bits(x)?, bits(y)?, "seed {seed}: an input that is held");
            }
            results.push(program.run(there)?);
            for results in results {
                let results = results.iter().map(bits).collect::<Result<Vec<_>>>()?;
                assert_eq!(results, expected, "seed {seed}\n{graph}");
            }
            Ok::<_, Error>(())
        })?;
    }
    Ok(())
}

/// Batches that are copied while steps run, and losses that come back while later steps do, have the values that a wait
/// for each gives.
fn copies_beside_steps(losses: &[f32]) -> Result<()> {
    let (step, mut state, mut copies) = (step(), start(), Vec::new());
    let mut batches = prefetch_to_device((0..losses.len()).map(|i| Ok(batch(i))), 2)?;
    while let Some(batch) = batches.next() {
        let (next, loss) = step.call_with(state, batch?)?;
        state = next;
        copies.push(copy_to_host_async(&loss));
        batches.fill();
    }
    let values = copies.iter().map(|copy| copy.get()?.item()).collect::<Result<Vec<f32>>>()?;
    assert_eq!(values, losses);
    Ok(())
}

/// A loop of large kernels has the values of the processor, however often it runs.
fn large_loops() -> Result<()> {
    let args = || (numbers(&[5000], 1), numbers(&[30], 2));
    let expected = with_device(Device::Cpu, || large_loop().call(args()))??;
    let looped = large_loop();
    for _ in 0..3 {
        let (h, sums) = looped.call(args())?;
        assert_eq!(h.to_vec::<f32>()?, expected.0.to_vec::<f32>()?);
        assert_eq!(sums.to_vec::<f32>()?, expected.1.to_vec::<f32>()?);
    }
    Ok(())
}

#[test]
fn what_runs_beside_steps() -> Result<()> {
    let (losses, _) = on_cpu(10)?;
    on_gpu(|_| {
        copies_beside_steps(&losses)?;
        large_loops()
    })
}

/// The same as with the fake driver, on the GPU of this machine; without one, there is a clear error.
#[test]
#[cfg(feature = "cuda")]
fn the_driver_of_this_machine() -> Result<()> {
    if let Err(error) = with_device(GPU, || ()) {
        let error = error.to_string();
        assert!(
            error.contains("driver of CUDA")
                || error.contains("driver is for CUDA")
                || error.contains("no CUDA device"),
            "{error}"
        );
        println!("skipped: {error}");
        return Ok(());
    }
    let (losses, expected) = on_cpu(6)?;
    with_device(GPU, || {
        let (step, mut state, mut bound) = (step(), start(), step().bind(start()));
        let held = start();
        for (i, expected) in losses.iter().enumerate() {
            let (next, loss) = step.call_with(state, batch(i))?;
            state = next;
            assert_eq!((loss.item::<f32>()?, bound.call(batch(i))?.item::<f32>()?), (*expected, *expected));
        }
        assert_eq!((arrays(&state)?, arrays(&bound.state())?), (expected.clone(), expected));
        let (next, _) = step.call_with((params(1), held.1.clone(), held.2.clone(), held.3.clone()), batch(7))?;
        assert!(is_on(&next.0.0, GPU)?);
        assert_eq!(arrays(&held)?, arrays(&start())?);
        // More than fits the memory that copies go through.
        let long = vector(&(0..3_000_000).map(|i| i as f32).collect::<Vec<_>>());
        for length in [1, 262_144, 262_145, 3_000_000] {
            let part = vector(&long.to_vec::<f32>()?[..length]);
            assert_eq!(moved(&part, GPU)?.array()?.bytes()?, part.array()?.bytes()?);
        }
        // 256 GiB.
        let large = jit(|x: Tensor| (0..64).map(|i| x.broadcast_to(&[1 << 15, 1 << 15]) + i).collect::<Vec<_>>());
        let error = message(large.call(Tensor::scalar(1.0f32)).map(drop));
        assert!(error.contains("no memory for result "), "{error}");
        assert!(error.contains("f32[32768,32768], 4294967296 bytes on cuda:0"), "{error}");
        copies_beside_steps(&losses)?;
        large_loops()?;
        // What was allocated before is given back.
        assert_eq!(jit(|x: Tensor| x + 1.0).call(vector(&vec![1.0; 5_000]))?.to_vec::<f32>()?, [2.0; 5_000]);
        synchronize(GPU)
    })?
}
