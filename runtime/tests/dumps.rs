//! `FULGURITE_DUMP` for programs on a GPU, whose driver is fake, and `FULGURITE_TRACE`: what a child process prints and
//! writes.

use std::path::{Path, PathBuf};
use std::process::Command;

use fulgurite_jit::{Error, Result, Tensor};
use fulgurite_runtime::testing::{Failure, Fault, with_fake_devices};
use fulgurite_runtime::{Device, Jit, with_device};

/// What the child of a test prints to standard error.
fn child(test: &str, stages: &str, trace: Option<&Path>) -> String {
    let this = std::env::current_exe().expect("a test has a file");
    let output = Command::new(this)
        .args(["--exact", test, "--nocapture"])
        .env("FULGURITE_DUMP", stages)
        .env("FULGURITE_TEST_CHILD", "1")
        .envs(trace.map(|trace| ("FULGURITE_TRACE", trace)))
        .output()
        .expect("a process starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

fn is_child() -> bool {
    std::env::var_os("FULGURITE_TEST_CHILD").is_some()
}

/// Compiles one program, and calls it.
fn softmax(device: Device, calls: usize) -> Result<()> {
    let softmax = Jit::with_borrowed("softmax", |x: Tensor, (): ()| {
        let e = x.exp();
        &e / e.sum_keep(-1)
    });
    // Host data: making it compiles nothing.
    let x = Tensor::from_vec(&[4, 33], vec![0.5f32; 4 * 33])?;
    with_device(device, || (0..calls).try_for_each(|_| softmax.call(x.clone()).map(drop)))?
}

/// The child: the same on a GPU.
fn compile_one() -> Result<()> {
    with_fake_devices(1, |fake| {
        softmax(Device::Cuda(0), 20)?;
        eprintln!("{} measured, {} graphs", fake.counts(0).timed, fake.counts(0).launches);
        Ok(())
    })
}

#[test]
fn a_program_on_a_gpu() -> Result<()> {
    if is_child() {
        return compile_one();
    }
    let child = |stages| child("a_program_on_a_gpu", stages, None);
    let ptx = child("ptx");
    assert!(ptx.contains("// softmax: PTX\n"), "{ptx}");
    assert!(ptx.contains(".version ") && ptx.contains(".visible .entry k0("), "{ptx}");
    assert_eq!(ptx.matches(".version ").count(), 1, "it is compiled once");
    assert!(ptx.contains("0 measured, 20 graphs"), "{ptx}");

    let times = child("time");
    assert!(times.contains("// softmax: compile time\n") && !times.contains(".version "), "{times}");
    for stage in ["fuse", "lower", "load", "in all"] {
        let is_of = |line: &str| line.trim_start().starts_with(stage) && line.ends_with(" ms");
        assert_eq!(times.lines().filter(|line| is_of(line)).count(), 1, "{stage}: {times}");
    }

    let kernels = child("kernels");
    for part in ["// softmax: kernels\n", "// softmax: launches\nk0: entry 0, ", "// softmax: memory\narena "] {
        assert!(kernels.contains(part), "{part}: {kernels}");
    }
    Ok(())
}

/// The fake device moves at most 8 GB/s and computes 1,024 GFLOP/s.
#[test]
fn times_of_launches() -> Result<()> {
    if is_child() {
        return compile_one();
    }
    let folder = std::env::temp_dir().join(format!("fulgurite-trace-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let trace: PathBuf = folder.join("trace.json");
    let text = child("times_of_launches", "time", Some(&trace));
    assert!(text.contains("8 measured, 12 graphs"), "one launch, in the first 8 of 20 calls: {text}");
    let title = "// softmax: time per kernel on cuda:0, each launched by itself\n";
    assert_eq!(text.matches(title).count(), 1, "{text}");
    let lines: Vec<&str> = text.split(title).nth(1).expect("the table").lines().take(2).collect();
    assert!(lines[0].contains("k0 loop [4, 33r]"), "{text}");
    assert!(lines[1].ends_with("all, on fake GPU 0: 8 GB/s, 1024 GFLOP/s"), "{text}");
    let numbers = |line: &str| -> Vec<f64> { line.split_whitespace().filter_map(|word| word.parse().ok()).collect() };
    let [us, bytes, operations, share] = numbers(lines[0])[..4] else { panic!("{text}") };
    // The argument and the result; rounding to two digits.
    let is_near = |x: f64, y: f64| (x - y).abs() <= 0.006 + 0.01 * y;
    assert!(us >= 1.0 && is_near(bytes, 2.0 * 4.0 * 4.0 * 33.0 / us / 1e3), "{text}");
    assert!(operations > 0.0 && (share - 100.0 * bytes / 8.0).abs() < 0.2, "memory is the bound: {text}");
    assert_eq!(numbers(lines[1])[..4], numbers(lines[0])[..4]);

    let json = std::fs::read_to_string(&trace).expect("the trace");
    each_is_there_once(
        &json,
        &[
            "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n",
            "\"name\":\"process_name\",\"pid\":1,\"tid\":0,\"args\":{\"name\":\"cuda:0\"}}",
            "\"name\":\"thread_name\",\"pid\":1,\"tid\":0,\"args\":{\"name\":\"softmax\"}}",
            "{\"ph\":\"X\",\"name\":\"k0 loop [4, 33r]",
            "\"ts\":0.000,\"dur\":",
            "\"args\":{\"bytes\":1056,\"operations\":",
        ],
    );
    std::fs::remove_dir_all(folder).expect("the folder is there");
    Ok(())
}

fn each_is_there_once(json: &str, parts: &[&str]) {
    for part in parts {
        assert_eq!(json.matches(part).count(), 1, "{part}: {json}");
    }
}

#[test]
fn the_processor_is_traced_too() -> Result<()> {
    if is_child() {
        // As many calls as measure kernels.
        return softmax(Device::Cpu, 8);
    }
    let trace = std::env::temp_dir().join(format!("fulgurite-trace-{}.json", std::process::id()));
    let text = child("the_processor_is_traced_too", "", Some(&trace));
    assert!(!text.contains("softmax"), "nothing is printed: {text}");
    let json = std::fs::read_to_string(&trace).expect("the trace");
    each_is_there_once(
        &json,
        &[
            "\"name\":\"process_name\",\"pid\":0,\"tid\":0,\"args\":{\"name\":\"cpu\"}}",
            "\"name\":\"thread_name\",\"pid\":0,\"tid\":0,\"args\":{\"name\":\"softmax\"}}",
            "{\"ph\":\"X\",\"name\":\"k0 loop [4, 33r]",
            "\"args\":{\"bytes\":1056,\"operations\":",
        ],
    );
    // A file that cannot be written costs a line, and no program.
    let text = child("the_processor_is_traced_too", "", Some(&trace.join("no folder")));
    assert_eq!(text.matches("fulgurite: FULGURITE_TRACE: ").count(), 1, "{text}");
    std::fs::remove_file(trace).expect("the file is there");
    Ok(())
}

/// A step that is measured and fails leaves the state, as one that is not.
#[test]
fn a_measurement_that_fails_leaves_the_state() -> Result<()> {
    if !is_child() {
        child("a_measurement_that_fails_leaves_the_state", "time", None);
        return Ok(());
    }
    let count = || {
        let add = Jit::with_borrowed("count", |total: Tensor, x: Tensor| {
            let next = total + &x;
            (next.clone(), next * 2.0)
        });
        add.bind(Tensor::scalar(0.0f32))
    };
    for fault in [Fault::Time, Fault::Allocate, Fault::Write] {
        with_fake_devices(1, |fake| {
            with_device(Device::Cuda(0), || {
                let mut counter = count();
                for i in 1..=10 {
                    let x = Tensor::scalar(i as f32);
                    if i % 3 == 0 {
                        // Nothing is measured after the eighth call that succeeds.
                        fake.fail(0, fault, 0);
                        let failed = counter.call(x.clone()).is_err();
                        assert!(fault != Fault::Time || failed == (i < 8), "{fault:?} {i}");
                        fake.heal(0);
                        if failed {
                            assert_eq!(counter.state().item::<f32>()?, ((i - 1) * i / 2) as f32);
                            counter.call(x)?;
                        }
                    } else {
                        counter.call(x)?;
                    }
                    assert_eq!(counter.state().item::<f32>()?, (i * (i + 1) / 2) as f32);
                }
                Ok::<_, Error>(())
            })?
        })?;
    }
    let lost = "cuda:0 is lost, and with it the arrays that were not read";
    for (fault, kind, message) in [
        (Fault::Kernel, None, lost),
        (Fault::Time, Some(Failure::Lost), lost),
        (Fault::Time, Some(Failure::OutOfMemory), "cuda:0: cuLaunchKernel: CUDA_ERROR_OUT_OF_MEMORY"),
    ] {
        with_fake_devices(1, |fake| {
            with_device(Device::Cuda(0), || {
                let mut counter = count();
                counter.call(Tensor::scalar(1.0f32))?;
                kind.map_or_else(|| fake.fail(0, fault, 0), |kind| fake.fail_as(0, fault, kind));
                let error = counter.call(Tensor::scalar(1.0f32)).map(drop).expect_err("it fails").to_string();
                assert!(error.contains(message), "{fault:?}: {error}");
                fake.heal(0);
                if kind == Some(Failure::OutOfMemory) {
                    counter.call(Tensor::scalar(1.0f32))?;
                    assert_eq!(counter.state().item::<f32>()?, 2.0);
                }
                Ok::<_, Error>(())
            })?
        })?;
    }
    Ok(())
}
