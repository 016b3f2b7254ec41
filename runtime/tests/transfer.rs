//! Copies beside the programs of a GPU: of batches to it, and of results to the host. The driver is fake: what events
//! leave open happens as late as possible, or copies happen as early as possible, so that a wait that is missing gives
//! wrong bits.

use fulgurite_jit::{Array, DType, Result, Tensor, TensorType};
use fulgurite_runtime::testing::{Counts, FakeDevices, Fault, Schedule, with_fake_devices};
use fulgurite_runtime::{
    Bound, Device, Jit, copy_to_host_async, device_put, jit, prefetch_to_device, synchronize, with_device,
};

const GPU: Device = Device::Cuda(0);
const SCHEDULES: [Schedule; 2] = [Schedule::Late, Schedule::CopiesFirst];

/// Two leaves of different sizes, one of which has the size of the state.
type Batch = (Tensor, Tensor);

const ROWS: usize = 3;
const COLUMNS: usize = 40;

fn numbers(shape: &[usize], seed: usize) -> Tensor {
    let value = |i: usize| ((i * 37 + seed * 101) % 64) as f32 / 32.0 - 1.0;
    Tensor::from_vec(shape, (0..shape.iter().product()).map(value).collect()).expect("as many as the shape has")
}

fn batch(seed: usize) -> Batch {
    (numbers(&[ROWS, COLUMNS], seed), numbers(&[COLUMNS], seed + 7))
}

fn batches(count: usize) -> impl Iterator<Item = Result<Batch>> {
    (0..count).map(|i| Ok(batch(i)))
}

const BATCH_BYTES: usize = (ROWS + 1) * COLUMNS * 4;

/// A step whose result depends on all batches before.
fn step() -> Bound<Tensor, Batch, Tensor> {
    let step = |state: Tensor, (x, y): Batch| {
        let next = &state * 0.5 + (x * &y).sum_axes(0);
        (next.clone(), next.sum())
    };
    Jit::with_borrowed("step", step).bind(Tensor::from_vec(&[COLUMNS], vec![0.0f32; COLUMNS]).expect("zeros"))
}

/// The sums of so many steps, and the last state, on the processor.
fn on_cpu(steps: usize) -> Result<Vec<f32>> {
    with_device(Device::Cpu, || {
        let mut step = step();
        let mut sums = (0..steps).map(|i| step.call(batch(i))?.item()).collect::<Result<Vec<f32>>>()?;
        sums.extend(step.into_state().to_vec::<f32>()?);
        Ok(sums)
    })?
}

/// The same on a device, whose batches are copied ahead. The host waits at the end alone.
fn ahead(steps: usize, size: usize, mut after: impl FnMut(usize) -> Result<()>) -> Result<Vec<f32>> {
    let mut step = step();
    let mut sums = Vec::new();
    let mut batches = prefetch_to_device(batches(steps), size)?;
    while let Some(batch) = batches.next() {
        sums.push(copy_to_host_async(&step.call(batch?)?));
        batches.fill();
        after(sums.len())?;
    }
    let mut sums = sums.iter().map(|sum| sum.get()?.item()).collect::<Result<Vec<f32>>>()?;
    sums.extend(step.into_state().to_vec::<f32>()?);
    Ok(sums)
}

fn on_gpu<R>(schedule: Schedule, f: impl FnOnce(&FakeDevices) -> Result<R>) -> Result<R> {
    with_fake_devices(1, |fake| {
        fake.schedule(0, schedule);
        with_device(GPU, || f(fake))?
    })
}

#[test]
fn batches_that_are_copied_ahead_give_the_bits_of_the_cpu() -> Result<()> {
    let expected = on_cpu(12)?;
    for schedule in SCHEDULES {
        for size in 0..4 {
            assert_eq!(on_gpu(schedule, |_| ahead(12, size, |_| Ok(())))?, expected, "{schedule:?} {size}");
            // Where the host waits now and then.
            let waits = |i: usize| if i.is_multiple_of(3) { synchronize(GPU) } else { Ok(()) };
            assert_eq!(on_gpu(schedule, |_| ahead(12, size, waits))?, expected, "{schedule:?} {size}");
        }
    }
    assert_eq!(ahead(12, 2, |_| Ok(()))?, expected, "on the processor");
    Ok(())
}

/// That the fake driver would notice: without events, one schedule runs steps before their batches have come, the other
/// overwrites batches that steps have not read.
#[test]
fn waits_that_are_missing_are_noticed() -> Result<()> {
    let expected = on_cpu(12)?;
    for schedule in SCHEDULES {
        let result = on_gpu(schedule, |fake| {
            ahead(12, 1, |i| {
                if i == 6 {
                    fake.ignore_events(0);
                }
                Ok(())
            })
        });
        assert!(result.is_err() || result? != expected, "{schedule:?}");
    }
    Ok(())
}

#[test]
fn a_step_is_one_launch_and_its_batch_is_not_copied_on_its_stream() -> Result<()> {
    on_gpu(Schedule::Late, |fake| {
        let mut before = Counts::default();
        let mut live = 0;
        ahead(40, 1, |i| {
            let now = fake.counts(0);
            if i > 8 {
                let bytes = now.written_bytes - before.written_bytes;
                let asked = (now.launches - before.launches, now.uploads - before.uploads, bytes);
                let expected = if i == 40 { (1, 0, 0) } else { (1, 2, BATCH_BYTES) };
                assert_eq!(asked, expected, "step {i}");
                let kept = |c: &Counts| (c.writes, c.reads, c.waits, c.allocations, c.updates, c.builds, c.loads);
                assert_eq!(kept(&now), kept(&before), "step {i}");
                assert_eq!(fake.live_bytes(0), live, "two blocks for each leaf");
            }
            (before, live) = (now, fake.live_bytes(0));
            Ok(())
        })?;
        assert_eq!((before.writes, before.reads), (1, 0), "the state at the start");
        Ok(())
    })
}

#[test]
fn the_next_batch_does_not_wait_for_the_step_that_runs() -> Result<()> {
    on_gpu(Schedule::CopiesFirst, |fake| {
        let mut step = step();
        let mut batches = prefetch_to_device(batches(10), 1)?;
        for i in 0..9 {
            let batch = batches.next().expect("there are ten")?;
            // What ran before is over; the step does not begin before the host waits again.
            synchronize(GPU)?;
            step.call(batch)?;
            batches.fill();
            let steps = fake.queued(0);
            assert!(steps > 0);
            assert!(i < 2 || fake.queued_uploads(0) == 0, "step {i}");
        }
        Ok(())
    })
}

#[test]
fn memory_of_a_batch_is_written_when_the_steps_that_read_it_are_over() -> Result<()> {
    on_gpu(Schedule::CopiesFirst, |fake| {
        let mut step = step();
        let mut batches = prefetch_to_device(batches(10), 1)?;
        let mut waiting = vec![];
        for _ in 0..9 {
            step.call(batches.next().expect("there are ten")?)?;
            batches.fill();
            waiting.push(fake.queued_uploads(0));
        }
        // No step is over: only what goes to memory that none reads is copied.
        assert!(waiting.last().is_some_and(|&uploads| uploads > 0), "{waiting:?}");
        synchronize(GPU)?;
        assert_eq!(fake.queued_uploads(0), 0);
        Ok(())
    })
}

#[test]
fn copies_that_fail_are_made_later() -> Result<()> {
    let expected = on_cpu(8)?;
    for schedule in SCHEDULES {
        for fault in [Fault::Write, Fault::Lock, Fault::Event, Fault::Record, Fault::WaitFor] {
            for after in 0..8 {
                let result = on_gpu(schedule, |fake| {
                    ahead(8, 2, |i| {
                        if i % 4 == 1 {
                            fake.fail(0, fault, after);
                        }
                        Ok(())
                    })
                });
                assert_eq!(result?, expected, "{schedule:?} {fault:?} {after}");
            }
        }
        // Results that cannot be copied are kept, and read.
        for after in 0..4 {
            on_gpu(schedule, |fake| {
                let y = jit(|x: Tensor| (&x * 2.0, x.sum())).call(numbers(&[5], 1))?;
                for fault in [Fault::Read, Fault::Lock, Fault::Event, Fault::Record] {
                    fake.fail(0, fault, after);
                    let copy = copy_to_host_async(&y);
                    fake.heal(0);
                    let (doubled, _) = copy.get()?;
                    assert_eq!(doubled.array()?, (numbers(&[5], 1) * 2.0).array()?);
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

#[test]
fn without_memory_there_is_an_error_and_the_next_try_succeeds() -> Result<()> {
    let expected = on_cpu(8)?;
    for schedule in SCHEDULES {
        for at in [0, 1, 5] {
            let sums = on_gpu(schedule, |fake| {
                let (mut step, mut sums) = (step(), vec![]);
                let mut batches = prefetch_to_device(batches(8), 2)?;
                for i in 0..8 {
                    if i == at {
                        fake.fail(0, Fault::Allocate, 0);
                    }
                    let batch = batches.next().expect("there are eight")?;
                    let sum = step.call(batch.clone()).or_else(|error| {
                        assert!(error.to_string().contains("no memory for"), "{error}");
                        fake.heal(0);
                        step.call(batch)
                    })?;
                    sums.push(sum.item::<f32>()?);
                    batches.fill();
                    fake.heal(0);
                }
                sums.extend(step.into_state().to_vec::<f32>()?);
                Ok(sums)
            })?;
            assert_eq!(sums, expected, "{schedule:?} {at}");
        }
    }
    Ok(())
}

#[test]
fn a_device_that_is_lost_ends_the_loop() -> Result<()> {
    for schedule in SCHEDULES {
        for fails_at in 0..6 {
            let result = on_gpu(schedule, |fake| {
                ahead(20, 2, |i| {
                    if i == fails_at {
                        fake.fail(0, Fault::Kernel, 0);
                    }
                    if i % 4 == 3 { synchronize(GPU) } else { Ok(()) }
                })
            });
            let lost = fails_at > 0;
            match result {
                Ok(_) => assert!(!lost),
                Err(error) => assert!(error.to_string().contains("cuda:0 is lost"), "{error}"),
            }
        }
    }
    Ok(())
}

#[test]
fn errors_of_the_iterator_come_at_their_place() -> Result<()> {
    on_gpu(Schedule::Late, |_| {
        let elements = (0..5).map(|i| match i {
            2 => Err(fulgurite_jit::Error::new("no second batch")),
            i => Ok(Tensor::scalar(i as f32)),
        });
        let mut taken = vec![];
        for element in prefetch_to_device(elements, 3)? {
            taken.push(element.and_then(|x| x.item::<f32>()).map_err(|e| e.to_string()));
        }
        assert_eq!(taken, [Ok(0.0), Ok(1.0), Err("no second batch".into()), Ok(3.0), Ok(4.0)]);
        assert!(prefetch_to_device(std::iter::empty::<Result<Tensor>>(), 3)?.next().is_none());
        Ok(())
    })
}

#[test]
fn what_is_copied_to_the_host_is_what_it_was() -> Result<()> {
    let expected: Vec<Tensor> = (0..5).map(|i| numbers(&[6], 0) + (i as f32 + 1.0)).collect();
    for schedule in SCHEDULES {
        on_gpu(schedule, |fake| {
            let add = jit(|x: Tensor| x + 1.0);
            let mut x = add.call(numbers(&[6], 0))?;
            let waits = fake.counts(0).waits;
            let mut copies = vec![];
            for _ in 0..5 {
                copies.push(copy_to_host_async(&x));
                // In place.
                x = add.call(x)?;
            }
            drop(x);
            assert!(copies.iter().all(|copy| matches!(copy.is_ready(), Ok(false))));
            assert_eq!((fake.counts(0).waits - waits, fake.counts(0).copies), (0, 0));
            for (copy, expected) in copies.iter().zip(&expected).rev() {
                assert_eq!(copy.get()?.array()?, expected.array()?, "{schedule:?}");
            }
            assert_eq!(fake.counts(0).waits - waits, 1, "the others came before");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn trees_of_any_arrays() -> Result<()> {
    let arrays = || -> Result<Vec<Tensor>> {
        let mut arrays = vec![];
        for rank in 0..=8 {
            let shape: Vec<usize> = (0..rank).map(|axis| 1 + axis % 2).collect();
            arrays.push(numbers(&shape, rank));
        }
        for shape in [&[0][..], &[3, 0, 2]] {
            arrays.push(Array::zeros(&TensorType::new(DType::F64, shape))?.into());
        }
        arrays.push(Tensor::from_vec(&[3], vec![true, false, true])?);
        arrays.push(Tensor::from_vec(&[1], vec![7i32])?);
        Ok(arrays)
    };
    for schedule in SCHEDULES {
        on_gpu(schedule, |fake| {
            let there = device_put(&arrays()?)?.get()?;
            assert_eq!(fake.counts(0).writes, 0);
            for (x, y) in there.iter().zip(arrays()?) {
                assert_eq!(x.array()?.device(), GPU);
                // Those that are there stay.
                let again = device_put(x)?.get()?;
                assert!(again.array()?.buffer().is_same(x.array()?.buffer()));
                let copy = copy_to_host_async(x).get()?;
                assert_eq!((copy.array()?.device(), copy.array()?), (Device::Cpu, y.array()?));
            }
            let copies = copy_to_host_async(&there).get()?;
            for (x, y) in copies.iter().zip(arrays()?) {
                assert_eq!(x.array()?, y.array()?);
            }
            // One from the host beside one of the device; nothing at all.
            let mixed = copy_to_host_async(&(there[1].clone(), arrays()?[2].clone())).get()?;
            assert_eq!((mixed.0.array()?, mixed.1.array()?), (arrays()?[1].array()?, arrays()?[2].array()?));
            let mixed = device_put(&(there[1].clone(), arrays()?[2].clone()))?.get()?;
            assert_eq!((mixed.0.array()?, mixed.1.array()?), (arrays()?[1].array()?, arrays()?[2].array()?));
            copy_to_host_async(&()).get()?;
            device_put(&())?.get()
        })?;
    }
    Ok(())
}

#[test]
fn batches_longer_than_the_locked_memory() -> Result<()> {
    for schedule in SCHEDULES {
        on_gpu(schedule, |_| {
            let long = |i: usize| Tensor::from_vec(&[700_000], (0..700_000).map(|j| (i + j) as f32).collect());
            let batches = prefetch_to_device((0..3).map(|i| Ok((long(i)?, long(i + 1)?))), 2)?;
            for (i, batch) in batches.enumerate() {
                let (x, y) = batch?;
                assert_eq!((x.array()?, y.array()?), (long(i)?.array()?, long(i + 1)?.array()?));
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn several_threads_feed_one_device() -> Result<()> {
    let expected = on_cpu(10)?;
    for schedule in SCHEDULES {
        with_fake_devices(1, |fake| {
            fake.schedule(0, schedule);
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|_| {
                        let (fake, expected) = (fake.clone(), &expected);
                        scope.spawn(move || {
                            let sums = fake.on(|| with_device(GPU, || ahead(10, 2, |_| Ok(()))))??;
                            assert_eq!(sums, *expected);
                            Ok::<_, fulgurite_jit::Error>(())
                        })
                    })
                    .collect();
                threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
            })
        })?;
    }
    Ok(())
}

#[test]
fn elements_go_to_the_device_of_the_beginning() -> Result<()> {
    with_fake_devices(2, |_| {
        let mut batches = with_device(Device::Cuda(1), || prefetch_to_device(batches(6), 2))??;
        for i in 0..6 {
            let mut next = || batches.next().expect("there are six");
            let (x, _) = if i % 2 == 0 { with_device(GPU, next)?? } else { next()? };
            assert_eq!(x.array()?.device(), Device::Cuda(1), "element {i}");
            assert_eq!(x.to_vec::<f32>()?, batch(i).0.to_vec::<f32>()?);
        }
        Ok(())
    })
}

#[test]
fn locked_memory_of_a_long_copy_is_given_back() -> Result<()> {
    for schedule in SCHEDULES {
        on_gpu(schedule, |fake| {
            let long = Tensor::from_vec(&[1_500_000], vec![0.5f32; 1_500_000])?;
            let there = device_put(&long)?.get()?;
            let before = fake.held(0);
            for _ in 0..3 {
                let copy = copy_to_host_async(&there);
                assert_eq!(fake.held(0), before + 2, "the memory and its event");
                assert_eq!(copy.get()?.array()?, long.array()?);
                drop(copy);
                assert_eq!(fake.held(0), before);
            }
            // One that no one has waited for is used again.
            for _ in 0..3 {
                drop(copy_to_host_async(&there));
                assert_eq!(fake.held(0), before + 2);
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn everything_is_given_back() -> Result<()> {
    for schedule in SCHEDULES {
        with_fake_devices(1, |fake| {
            fake.schedule(0, schedule);
            let (transfer, copy, batches) = with_device(GPU, || {
                ahead(5, 2, |_| Ok(()))?;
                // Some that are never used.
                let mut batches = prefetch_to_device(self::batches(4), 2)?;
                batches.fill();
                let copy = copy_to_host_async(&device_put(&batch(1))?.get()?);
                Ok::<_, fulgurite_jit::Error>((device_put(&batch(0))?, copy, batches))
            })??;
            assert!(fake.held(0) > 0 && fake.live_bytes(0) > 0);
            drop(transfer);
            fake.close();
            drop((copy, batches));
            assert_eq!((fake.held(0), fake.live_bytes(0)), (0, 0));
            Ok::<_, fulgurite_jit::Error>(())
        })?;
    }
    Ok(())
}

/// Steps that own their batches write results over them, and copies go to memory that earlier results had. Some
/// batches are held, some iterators are dropped with a batch on its way.
#[test]
fn batches_are_given_away_held_and_dropped() -> Result<()> {
    let run = || -> Result<Vec<f32>> {
        let step = jit(|(state, (x, y)): (Tensor, Batch)| (&state * 0.5 + (&x * &y).sum_axes(0), x * 2.0, y + 1.0));
        let mut state = numbers(&[COLUMNS], 3);
        let (mut held, mut results) = (Vec::new(), Vec::new());
        for round in 0..4 {
            let mut batches = prefetch_to_device(batches(9), 1 + round % 2)?;
            for i in 0..6 {
                let batch = batches.next().expect("there are nine")?;
                if i % 3 == 1 {
                    held.push(batch.clone());
                }
                let (next, x, y) = step.call((state, batch))?;
                state = next;
                if i % 2 == round % 2 {
                    results.push((copy_to_host_async(&x), y));
                }
                batches.fill();
            }
        }
        let mut all = state.to_vec::<f32>()?;
        for (x, y) in results {
            all.extend(x.get()?.to_vec::<f32>()?);
            all.extend(y.to_vec::<f32>()?);
        }
        for (x, y) in held {
            all.extend(x.to_vec::<f32>()?);
            all.extend(y.to_vec::<f32>()?);
        }
        Ok(all)
    };
    let expected = with_device(Device::Cpu, run)??;
    for schedule in SCHEDULES {
        assert_eq!(on_gpu(schedule, |_| run())?, expected, "{schedule:?}");
    }
    Ok(())
}
