//! Where a run runs: the whole of `fit` on a GPU without a GPU, whose kernels run in the SIMT interpreter and whose
//! driver counts its calls.

mod common;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use common::{Curve, bytes, data, folder, message, points, quiet};
use fulgurite_jit::{Error, Key, Precision, Result, Tensor, matmul_precision, with_matmul_precision};
use fulgurite_runtime::testing::{
    Counts, FakeDevices, Fault, Schedule, with_fake_devices, with_found_devices, without_driver,
};
use fulgurite_runtime::{Device, with_device};
use fulgurite_trainer::data::BatchBuffers;
use fulgurite_trainer::nn::Mlp;
use fulgurite_trainer::{
    Accelerator, Callback, CsvLogger, DataLoader, Dataset, EarlyStopping, FitResult, HookCx, LightningModule,
    ModelCheckpoint, Optimizer, StepCx, Trainer,
};

const GPU: Accelerator = Accelerator::Cuda(0);

/// Epochs of five steps, each of which is saved; validated and logged, until a loss is no longer the least.
fn trainer(folder: &Path) -> Trainer {
    quiet(folder)
        .max_epochs(4)
        .log_every_n_steps(2)
        .logger(CsvLogger::new())
        .callback(ModelCheckpoint::last().every_n_train_steps(1))
        .callback(ModelCheckpoint::best("val_loss"))
        .callback(EarlyStopping::new("loss").patience(1).min_delta(10.0))
}

/// What a run gives: the result, and its files.
type Outcome = (FitResult<Mlp>, Vec<(PathBuf, Vec<u8>)>);

fn outcome(result: FitResult<Mlp>) -> Result<Outcome> {
    let folder = result.folder.clone().expect("the run has files");
    let mut files = Vec::new();
    for part in ["", "checkpoints"] {
        for entry in std::fs::read_dir(folder.join(part))? {
            let path = entry?.path();
            if path.is_file() {
                let name = path.strip_prefix(&folder).expect("a file of the folder").to_path_buf();
                files.push((name, std::fs::read(&path)?));
            }
        }
    }
    files.sort();
    assert!(files.len() >= 3, "metrics.csv and two checkpoints");
    Ok((result, files))
}

#[track_caller]
fn assert_same((a, files_a): &Outcome, (b, files_b): &Outcome) {
    assert_eq!(bytes(&a.model), bytes(&b.model));
    assert_eq!((&a.metrics, a.step, a.epoch, &a.stopped), (&b.metrics, b.step, b.epoch, &b.stopped));
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(files_a), names(files_b));
    for ((name, x), (_, y)) in files_a.iter().zip(files_b) {
        assert!(x == y, "{} differs", name.display());
    }
}

/// Ends the run with an error after a step, as a crash would.
#[derive(Clone)]
struct Crash {
    at: usize,
}

impl Callback for Crash {
    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        if cx.run.step() == self.at { Err(Error::new("crash")) } else { Ok(()) }
    }
}

#[test]
fn a_run_on_a_gpu_ends_with_the_bits_of_the_cpu() -> Result<()> {
    let on_cpu = folder();
    let expected = outcome(trainer(on_cpu.path()).accelerator(Accelerator::Cpu).fit(&Curve, &data())?)?;
    assert_eq!((expected.0.step, expected.0.stopped.is_some()), (10, true), "it stops early");
    for schedule in [Schedule::Late, Schedule::CopiesFirst] {
        with_fake_devices(1, |fake| {
            fake.schedule(0, schedule);
            let folder = folder();
            assert_same(&outcome(trainer(folder.path()).accelerator(GPU).fit(&Curve, &data())?)?, &expected);
            Ok::<_, Error>(())
        })?;
    }
    with_fake_devices(1, |_| {
        let whole = folder();
        let result = trainer(whole.path()).accelerator(GPU).fit(&Curve, &data())?;
        assert_eq!(result.model.layers[0].weight.array()?.device(), Device::Cuda(0), "it is read when it is needed");
        assert_same(&outcome(result)?, &expected);

        // Stopped within an epoch, and resumed there; on the other device too.
        for [first, second] in [[GPU, GPU], [GPU, Accelerator::Cpu], [Accelerator::Cpu, GPU]] {
            let folder = folder();
            let crash = trainer(folder.path()).callback(Crash { at: 8 }).accelerator(first).fit(&Curve, &data());
            assert_eq!(message(crash.map(drop)), "crash");
            let last = folder.path().join("test/version_0/checkpoints/last.safetensors");
            let resumed = trainer(folder.path()).ckpt_path(last).accelerator(second).fit(&Curve, &data())?;
            assert_eq!(bytes(&resumed.model), bytes(&expected.0.model), "{first} {second}");
            assert_eq!(resumed.metrics, expected.0.metrics, "{first} {second}");
        }

        let model = &expected.0.model;
        let scores = |on| quiet(whole.path()).accelerator(on).validate(&Curve, model, &data());
        assert_eq!(scores(GPU)?, scores(Accelerator::Cpu)?);
        Ok(())
    })
}

/// Writes down what the driver was asked for until the end of each step.
#[derive(Clone)]
struct Witness {
    fake: FakeDevices,
    steps: Arc<Mutex<Vec<(usize, Counts)>>>,
}

impl Callback for Witness {
    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        self.steps.lock().expect("no test panics with it").push((cx.run.step(), self.fake.counts(0)));
        Ok(())
    }
}

#[test]
fn a_step_is_one_launch_and_the_host_waits_once_an_epoch() -> Result<()> {
    with_fake_devices(1, |fake| {
        let folder = folder();
        let witness = Witness { fake: fake.clone(), steps: Arc::default() };
        // Epochs of four full batches.
        let (train, val) = data();
        let trainer = quiet(folder.path()).max_epochs(3).log_every_n_steps(3).num_sanity_val_steps(0);
        let trainer = trainer.limit_train_batches(4).logger(CsvLogger::new()).callback(witness.clone());
        trainer.accelerator(GPU).fit(&Curve, &(train.drop_last(true), val))?;
        let steps = witness.steps.lock().expect("no test panics with it");
        assert_eq!(steps.len(), 12);
        for pair in steps.windows(2) {
            let ((_, before), (step, after)) = (pair[0], pair[1]);
            let validates = step % 4 == 1;
            // One per batch of validation, which has three, comes before the first step of an epoch.
            let launches = if validates { 4 } else { 1 };
            assert_eq!(after.launches - before.launches, launches, "step {step}");
            // `size` and `loss` of the steps that are due, `val_loss` of each batch.
            let due = if step % 3 == 0 || step % 4 == 0 { 2 } else { 0 };
            let downloads = if validates { due + 3 } else { due };
            assert_eq!(after.downloads - before.downloads, downloads, "step {step}");
            // The scores of a validation, with what was logged before.
            assert_eq!((after.reads, after.waits - before.waits), (0, usize::from(validates)), "step {step}");
            if step > 5 && !validates {
                // The next batch is copied beside the step; nothing is allocated, compiled or built.
                let uploads = if step % 4 == 0 { 0 } else { 2 };
                assert_eq!(after.uploads - before.uploads, uploads, "step {step}");
                let kept = |c: &Counts| (c.writes, c.allocations, c.copies, c.loads, c.builds, c.updates);
                assert_eq!(kept(&after), kept(&before), "step {step}");
            }
        }
        Ok(())
    })
}

/// Without validation the host waits when an epoch ends, whose metrics the loggers get in their order.
#[test]
fn metrics_come_late_and_are_all_there() -> Result<()> {
    let (train, _) = data();
    let run = |accelerator| -> Result<(Vec<u8>, FitResult<Mlp>)> {
        let folder = folder();
        let trainer = quiet(folder.path()).max_epochs(3).log_every_n_steps(1).logger(CsvLogger::new());
        let result = trainer.accelerator(accelerator).fit(&Curve, &train)?;
        Ok((std::fs::read(folder.path().join("test/version_0/metrics.csv"))?, result))
    };
    let (expected, on_cpu) = run(Accelerator::Cpu)?;
    with_fake_devices(1, |fake| {
        let (csv, result) = run(GPU)?;
        assert_eq!((csv, &result.metrics), (expected, &on_cpu.metrics));
        assert_eq!((fake.counts(0).reads, fake.counts(0).waits), (0, 3));
        assert_eq!(bytes(&result.model), bytes(&on_cpu.model));
        Ok(())
    })
}

/// [`Curve`], with the precision of its products as a metric.
#[derive(Clone)]
struct Precise;

/// The place of a precision among all of them, from 1; 0 where none is set.
fn place() -> Tensor {
    let place = matmul_precision().and_then(|set| Precision::ALL.iter().position(|precision| *precision == set));
    Tensor::scalar(place.map_or(0.0f32, |place| place as f32 + 1.0))
}

impl LightningModule for Precise {
    type Model = Mlp;
    type Batch = (Tensor, Tensor);

    fn init(&self, key: Key) -> Mlp {
        Curve.init(key)
    }

    fn configure_optimizers(&self) -> impl Optimizer {
        Curve.configure_optimizers()
    }

    fn training_step(&self, model: &Mlp, batch: &Self::Batch, cx: &mut StepCx) -> Tensor {
        cx.log("precision", place());
        Curve.training_step(model, batch, cx)
    }

    fn validation_step(&self, _: &Mlp, _: &Self::Batch, cx: &mut StepCx) {
        cx.log("val_precision", place());
    }
}

#[test]
fn precisions_by_the_names_of_lightning_and_torch() -> Result<()> {
    let folder = folder();
    let trainer = || quiet(folder.path()).max_steps(6).accelerator(Accelerator::Cpu);
    let run = |trainer: Trainer, expected: f64| -> Result<Vec<u8>> {
        let result = trainer.max_epochs(1).fit(&Precise, &data())?;
        let metrics = ["precision", "val_precision"].map(|name| result.metrics.get(name));
        assert_eq!(metrics, [Some(expected); 2]);
        Ok(bytes(&result.model))
    };
    let expected = run(trainer(), 0.0)?;
    for (name, place) in [("32-true", 1.0), ("highest", 1.0), ("high", 2.0), ("bf16-mixed", 3.0), ("medium", 3.0)] {
        assert_eq!(run(trainer().precision(name), place)?, expected, "{name}: the processor computes with all bits");
    }
    // Where the trainer says nothing, what is said around the run holds.
    with_matmul_precision(Precision::F16, || run(trainer(), 4.0))?;
    with_matmul_precision(Precision::F16, || run(trainer().precision("32-true"), 1.0))?;
    for name in ["16-mixed", "16-true", "64-true", "tf32", ""] {
        let list = "there are `32-true`, `bf16-mixed`, `highest`, `high`, `medium`";
        let error = message(trainer().precision(name).fit(&Precise, &data()).map(drop));
        assert_eq!(error, format!("trainer: `precision` is {name:?}; {list}"));
    }
    Ok(())
}

/// The step, the latest loss, and that of the step.
type Seen = (usize, Option<f64>, f64);

/// Looks at the metrics of some steps, and at those of the step itself.
#[derive(Clone)]
struct Look {
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Callback for Look {
    fn reads_metrics(&self, step: usize) -> bool {
        step == 7
    }

    fn on_train_batch_end(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        let step = cx.run.step();
        if [3, 4, 7, 9].contains(&step) {
            let latest = cx.run.metrics().get("loss");
            let own = cx.run.step_metrics()?.iter().find(|(name, _)| &**name == "loss").expect("a loss").1;
            cx.run.log("seen", own);
            assert_eq!(cx.run.metrics().get("seen"), Some(own));
            self.seen.lock().expect("no test panics with it").push((step, latest, own));
        }
        Ok(())
    }
}

#[test]
fn hooks_see_the_same_metrics_on_every_device() -> Result<()> {
    let run = |accelerator| {
        let (folder, look) = (folder(), Look { seen: Arc::default() });
        let trainer = quiet(folder.path()).max_epochs(2).log_every_n_steps(4).logger(CsvLogger::new());
        let result = trainer.callback(look.clone()).accelerator(accelerator).fit(&Curve, &data())?;
        let csv = std::fs::read(folder.path().join("test/version_0/metrics.csv"))?;
        let seen = look.seen.lock().expect("no test panics with it").clone();
        Ok::<_, Error>((seen, csv, result.metrics))
    };
    let expected = run(Accelerator::Cpu)?;
    let [(3, None, _), (4, Some(x), y), (7, Some(z), w), (9, Some(v), _)] = expected.0[..] else {
        panic!("{expected:?}")
    };
    assert!(x == y && z == w && v != z, "{expected:?}");
    with_fake_devices(1, |_| {
        assert_eq!(run(GPU)?, expected);
        Ok(())
    })
}

/// Makes a call of the driver fail at a step.
#[derive(Clone)]
struct Break {
    fake: FakeDevices,
    fault: Fault,
    at: usize,
}

impl Callback for Break {
    fn on_train_batch_start(&mut self, cx: &mut HookCx<'_>) -> Result<()> {
        if cx.run.step() == self.at {
            self.fake.fail(0, self.fault, 0);
        }
        Ok(())
    }

    fn on_train_batch_end(&mut self, _: &mut HookCx<'_>) -> Result<()> {
        self.fake.heal(0);
        Ok(())
    }
}

#[test]
fn copies_that_fail_beside_a_step_change_nothing_and_a_lost_device_ends_the_run() -> Result<()> {
    let folder = folder();
    let trainer = || quiet(folder.path()).max_epochs(2).log_every_n_steps(2);
    let expected = trainer().accelerator(Accelerator::Cpu).fit(&Curve, &data())?;
    for at in [0, 1, 4, 7] {
        for fault in [Fault::Write, Fault::Lock, Fault::Event, Fault::Record, Fault::WaitFor, Fault::Read] {
            with_fake_devices(1, |fake| {
                let broken = Break { fake: fake.clone(), fault, at };
                let result = trainer().callback(broken).accelerator(GPU).fit(&Curve, &data())?;
                assert_eq!(bytes(&result.model), bytes(&expected.model), "{fault:?} {at}");
                assert_eq!(result.metrics, expected.metrics, "{fault:?} {at}");
                Ok::<_, Error>(())
            })?;
        }
        with_fake_devices(1, |fake| {
            let broken = Break { fake: fake.clone(), fault: Fault::Kernel, at };
            let error = message(trainer().callback(broken).accelerator(GPU).fit(&Curve, &data()).map(drop));
            assert!(error.contains("cuda:0 is lost"), "{at}: {error}");
        });
    }
    Ok(())
}

#[test]
fn which_device_it_is() -> Result<()> {
    let folder = folder();
    let trainer = || quiet(folder.path()).fast_dev_run(1);
    let on = |trainer: Trainer| -> Result<Device> {
        let result = trainer.fit(&Curve, &data())?;
        Ok(result.model.layers[0].weight.array()?.device())
    };
    with_fake_devices(2, |_| {
        assert_eq!(on(trainer())?, Device::Cpu);
        assert_eq!(on(trainer().accelerator(Accelerator::Cuda(1)).devices(1))?, Device::Cuda(1));
        assert_eq!(on(trainer().accelerator("gpu".parse::<Accelerator>()?))?, Device::Cuda(0));
        // What is said around the run holds where the trainer says nothing.
        with_device(Device::Cuda(1), || {
            assert_eq!(on(trainer())?, Device::Cuda(1));
            assert_eq!(on(trainer().accelerator(Accelerator::Cpu))?, Device::Cpu);
            assert_eq!(on(trainer().accelerator(Device::Cuda(0)))?, Device::Cuda(0));
            Ok(())
        })?
    })
}

#[test]
fn a_long_validation_has_bounded_memory_of_the_host() -> Result<()> {
    let (folder, model) = (folder(), Mlp::new(2, 1, 8, 2, fulgurite_jit::gelu, Key::new(0)));
    let scores = |on, batches| {
        let data = (data().0, DataLoader::new(points(batches)));
        quiet(folder.path()).accelerator(on).validate(&Curve, &model, &data)
    };
    for schedule in [Schedule::Late, Schedule::CopiesFirst] {
        let held = |batches| {
            let expected = scores(Accelerator::Cpu, batches)?;
            with_fake_devices(1, |fake| {
                fake.schedule(0, schedule);
                assert_eq!(scores(GPU, batches)?, expected);
                Ok::<_, Error>(fake.held(0))
            })
        };
        // No more than 64 batches are on their way.
        assert_eq!(held(200)?, held(400)?);
    }
    Ok(())
}

/// Gathers with an op on tensors, and says where it ran.
#[derive(Clone)]
struct Ops(FakeDevices);

impl Dataset for Ops {
    type Batch = Tensor;

    fn len(&self) -> usize {
        4
    }

    fn gather(&self, indices: &[u32], _: &mut BatchBuffers) -> Result<Tensor> {
        self.0.on(|| {
            let gathered = Tensor::from_vec(&[indices.len()], indices.to_vec())? + 1u32;
            assert_eq!(gathered.array()?.device(), Device::Cpu);
            Ok(gathered)
        })
    }
}

#[test]
fn ops_of_a_dataset_run_on_the_processor_on_the_thread_of_prefetch() -> Result<()> {
    with_found_devices(1, |fake| {
        let batches = DataLoader::new(Ops(fake.clone())).batch_size(2).prefetch(1).iter()?;
        let numbers = batches.map(|batch| batch?.0.to_vec::<u32>()).collect::<Result<Vec<_>>>()?;
        assert_eq!(numbers, [[1, 2], [3, 4]]);
        Ok(())
    })
}

#[test]
fn auto_finds_a_gpu() -> Result<()> {
    let folder = folder();
    let on = |accelerator: Accelerator| -> Result<Device> {
        let result = quiet(folder.path()).fast_dev_run(1).accelerator(accelerator).fit(&Curve, &data())?;
        Ok(result.model.layers[0].weight.array()?.device())
    };
    // What is asked of the process holds before what is found.
    let asked = std::env::var("FULGURITE_DEVICE").ok().and_then(|name| name.parse::<Device>().ok());
    with_found_devices(2, |_| {
        assert_eq!(on(Accelerator::Auto)?, asked.unwrap_or(Device::Cuda(0)));
        assert_eq!(on("auto".parse()?)?, asked.unwrap_or(Device::Cuda(0)));
        assert_eq!((on(Accelerator::Cpu)?, on(Accelerator::Cuda(1))?), (Device::Cpu, Device::Cuda(1)));
        Ok::<_, Error>(())
    })?;
    with_found_devices(0, |_| {
        assert_eq!(on(Accelerator::Auto)?, asked.unwrap_or(Device::Cpu));
        Ok(())
    })
}

#[test]
fn devices_that_are_not_there() {
    let folder = folder();
    let fails = |trainer: Trainer| {
        let fit = message(trainer.fit(&Curve, &data()).map(drop));
        let model = Mlp::new(2, 1, 8, 2, fulgurite_jit::gelu, fulgurite_jit::Key::new(0));
        assert_eq!(message(trainer.validate(&Curve, &model, &data()).map(drop)), fit);
        fit
    };
    let trainer = || quiet(folder.path());
    with_fake_devices(1, |_| {
        assert_eq!(
            fails(trainer().accelerator(Accelerator::Cuda(3))),
            "trainer: `accelerator`: cuda:3: there is no such device; this machine has one CUDA device, cuda:0"
        );
    });
    without_driver(Some("there is no driver of CUDA"), || {
        assert_eq!(fails(trainer().accelerator(GPU)), "trainer: `accelerator`: cuda:0: there is no driver of CUDA");
    });
    for devices in [0, 2] {
        let expected =
            format!("trainer: `devices` is {devices}; a run takes one device so far, which `accelerator` names");
        assert_eq!(fails(trainer().devices(devices)), expected);
    }
}

#[test]
fn names_of_accelerators() {
    for (text, accelerator) in [
        ("auto", Some(Accelerator::Auto)),
        ("cpu", Some(Accelerator::Cpu)),
        ("gpu", Some(Accelerator::Cuda(0))),
        ("cuda", Some(Accelerator::Cuda(0))),
        ("cuda:17", Some(Accelerator::Cuda(17))),
        ("", None),
        ("cuda:", None),
        ("cuda:+1", None),
        ("cuda:99999999999", None),
        ("tpu", None),
    ] {
        assert_eq!(text.parse::<Accelerator>().ok(), accelerator, "{text:?}");
        if let Some(accelerator) = accelerator {
            assert_eq!(accelerator.to_string().parse(), Ok(accelerator));
        }
    }
    let error = "tpu".parse::<Accelerator>().map(|_| ());
    assert_eq!(message(error), "there is no accelerator \"tpu\"; there are `auto`, `cpu`, `gpu`, `cuda` and `cuda:1`");
}
