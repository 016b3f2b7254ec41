//! Where programs run if nothing in the program says so: `FULGURITE_DEVICE`, and a GPU that is found. What is found is
//! kept for the process, so each case is a child process.

use std::process::Command;

use fulgurite_jit::{Result, Tensor};
use fulgurite_runtime::testing::{Fault, with_fake_devices, with_found_devices, without_driver};
use fulgurite_runtime::{Device, jit, synchronize, with_device};

/// What a child of a case prints to standard output and standard error, whose `FULGURITE_DEVICE` is `device`.
fn child(case: &str, device: Option<&str>) -> (String, String) {
    let this = std::env::current_exe().expect("a test has a file");
    let mut command = Command::new(this);
    command.args(["--exact", "places", "--nocapture"]).env("FULGURITE_TEST_CHILD", case).env_remove("FULGURITE_DEVICE");
    command.envs(device.map(|device| ("FULGURITE_DEVICE", device)));
    let output = command.output().expect("a process starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Prints where a program and an op run, and a program where the processor is chosen.
fn run() {
    let double = jit(|x: Tensor| x * 2.0);
    for _ in 0..2 {
        let x = || Tensor::from_vec(&[1], vec![1.0f32]);
        match x().and_then(|x| double.call(x)).and_then(|y| Ok((y.to_vec::<f32>()?, y.into_array()?.device()))) {
            Ok((y, device)) => println!("it runs on {device}: {y:?}."),
            Err(error) => println!("error: {error}."),
        }
        let device = x().map(|x| x + 1.0).and_then(|y| Ok(y.into_array()?.device()));
        println!("an op: {device:?}.");
    }
    let there = with_device(Device::Cpu, || double.call(Tensor::scalar(1.0f32))?.into_array());
    println!("with_device: {}.", there.and_then(|x| x).map_or_else(|e| e.to_string(), |x| x.device().to_string()));
}

fn case(name: &str) {
    match name {
        "hidden" => with_fake_devices(2, |_| run()),
        "found" => with_found_devices(2, |_| run()),
        "none" => with_found_devices(0, |_| run()),
        "unusable" => without_driver(Some("the installed driver is for CUDA 10.2 and too old"), run),
        "no driver" => without_driver(None, run),
        "broken" => with_found_devices(1, |fake| {
            fake.fail(0, Fault::Open, 0);
            run();
        }),
        _ => unreachable!("{name}"),
    }
}

#[test]
fn places() {
    if let Ok(name) = std::env::var("FULGURITE_TEST_CHILD") {
        return case(&name);
    }
    let cpu = "it runs on cpu: [2.0].";
    let gpu = "it runs on cuda:0: [2.0].";
    for (name, device, expected, told) in [
        ("hidden", None, cpu, None),
        ("hidden", Some(""), cpu, None),
        ("hidden", Some("auto"), cpu, None),
        ("hidden", Some("cpu"), cpu, None),
        ("hidden", Some("cuda"), gpu, None),
        ("hidden", Some("cuda:1"), "it runs on cuda:1: [2.0].", None),
        (
            "hidden",
            Some("tpu"),
            "error: FULGURITE_DEVICE is \"tpu\"; it names a device as `cpu`, `cuda`, `cuda:1` or `auto`.",
            None,
        ),
        (
            "hidden",
            Some("cuda:2"),
            "error: FULGURITE_DEVICE: cuda:2: there is no such device; this machine has 2 CUDA devices, cuda:0 to \
             cuda:1.",
            None,
        ),
        ("found", None, gpu, None),
        ("found", Some("auto"), gpu, None),
        ("found", Some("cpu"), cpu, None),
        ("found", Some("cuda:1"), "it runs on cuda:1: [2.0].", None),
        ("none", None, cpu, None),
        ("none", Some("auto"), cpu, None),
        ("no driver", None, cpu, None),
        ("no driver", Some("auto"), cpu, None),
        ("no driver", Some("cuda"), "error: FULGURITE_DEVICE: cuda:0: there is no driver.", None),
        ("unusable", None, cpu, Some("the installed driver is for CUDA 10.2 and too old")),
        ("unusable", Some("cpu"), cpu, None),
        (
            "unusable",
            Some("cuda"),
            "error: FULGURITE_DEVICE: cuda:0: the installed driver is for CUDA 10.2 and too old.",
            None,
        ),
        ("broken", None, cpu, Some("cuda:0: cuDevicePrimaryCtxRetain: CUDA_ERROR_UNKNOWN (unknown error)")),
    ] {
        let (out, err) = child(name, device);
        assert_eq!(out.matches(expected).count(), 2, "{name} {device:?}: {out}{err}");
        if let Some(place) = expected.strip_prefix("it runs on ") {
            let place = if place.starts_with("cpu") { "Cpu" } else { "Cuda" };
            assert_eq!(out.matches(&format!("an op: Ok({place}")).count(), 2, "{name} {device:?}: {out}{err}");
        }
        assert!(out.contains("with_device: cpu."), "{name} {device:?}: {out}{err}");
        let told = told.map_or(String::new(), |why| format!("fulgurite: programs run on the processor. {why}\n"));
        assert_eq!(err.matches("fulgurite: ").count(), usize::from(!told.is_empty()), "{name} {device:?}: {err}");
        assert!(err.contains(&told), "{name} {device:?}: {err}");
    }
}

/// A thread that has chosen a device keeps it, whatever others have found out about the process.
#[test]
fn the_processor_alone_is_no_promise() -> Result<()> {
    let double = jit(|x: Tensor| x * 2.0);
    let place = |x: f32| double.call(Tensor::scalar(x))?.into_array().map(|y| y.device());
    assert_eq!(place(1.0)?, Device::Cpu);
    assert_eq!(place(2.0)?, Device::Cpu);
    with_fake_devices(1, |_| {
        let there = with_device(Device::Cuda(0), || double.call(Tensor::scalar(3.0f32)))??;
        assert_eq!(there.clone().into_array()?.device(), Device::Cuda(0));
        // An array elsewhere comes to where the program runs.
        let back = double.call(there)?;
        assert_eq!((back.item::<f32>()?, back.into_array()?.device()), (12.0, Device::Cpu));
        assert_eq!(place(4.0)?, Device::Cpu);
        synchronize(Device::Cuda(0))
    })
}
