//! `FULGURITE_DUMP` for programs on a GPU, whose driver is fake: what a child process prints.

use std::process::Command;

use fulgurite_jit::{Result, Tensor};
use fulgurite_runtime::testing::with_fake_devices;
use fulgurite_runtime::{Device, Jit, with_device};

/// What the child prints to standard error.
fn child(stages: &str) -> String {
    let this = std::env::current_exe().expect("a test has a file");
    let output = Command::new(this)
        .args(["--exact", "a_program_on_a_gpu", "--nocapture"])
        .env("FULGURITE_DUMP", stages)
        .env("FULGURITE_TEST_CHILD", "1")
        .output()
        .expect("a process starts");
    assert!(output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The child: compiles one program, and calls it often enough for times of kernels.
fn compile_one() -> Result<()> {
    let softmax = Jit::with_borrowed("softmax", |x: Tensor, (): ()| {
        let e = x.exp();
        &e / e.sum_keep(-1)
    });
    // Host data: making it compiles nothing.
    let x = Tensor::from_vec(&[4, 33], vec![0.5f32; 4 * 33])?;
    with_fake_devices(1, |_| {
        with_device(Device::Cuda(0), || (0..20).try_for_each(|_| softmax.call(x.clone()).map(drop)))?
    })
}

#[test]
fn a_program_on_a_gpu() -> Result<()> {
    if std::env::var_os("FULGURITE_TEST_CHILD").is_some() {
        return compile_one();
    }
    let ptx = child("ptx");
    assert!(ptx.contains("// softmax: PTX\n"), "{ptx}");
    assert!(ptx.contains(".version ") && ptx.contains(".visible .entry k0("), "{ptx}");
    assert_eq!(ptx.matches(".version ").count(), 1, "it is compiled once");

    let times = child("time");
    assert!(times.contains("// softmax: compile time\n") && !times.contains(".version "), "{times}");
    for stage in ["fuse", "lower", "load", "in all"] {
        let is_of = |line: &str| line.trim_start().starts_with(stage) && line.ends_with(" ms");
        assert_eq!(times.lines().filter(|line| is_of(line)).count(), 1, "{stage}: {times}");
    }
    assert!(!times.contains("time per kernel"), "the kernels of a GPU are not timed");

    let kernels = child("kernels");
    for part in ["// softmax: kernels\n", "// softmax: launches\nk0: entry 0, ", "// softmax: memory\narena "] {
        assert!(kernels.contains(part), "{part}: {kernels}");
    }
    Ok(())
}
