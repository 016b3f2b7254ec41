//! Compiled modules that are kept on disk: what a later process, of the same device and driver, need not compile.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fulgurite_jit::{Error, Result, Tensor};
use fulgurite_runtime::testing::{Failure, FakeDevices, Fault, with_fake_devices, with_kept_modules};
use fulgurite_runtime::{Device, Jit, jit, with_device};

/// An empty folder below the temporary one.
fn empty(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("fulgurite-kept-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    folder
}

/// The files of a folder, by their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// A function on a device.
fn run(device: Device) -> Result<Vec<f32>> {
    let x = Tensor::from_vec(&[5], vec![1.0f32, 2.0, 3.0, 4.0, 5.0])?;
    with_device(device, || jit(|x: Tensor| &x * &x + x.sum()).call(x)?.to_vec())?
}

const GPU: Device = Device::Cuda(0);
const EXPECTED: [f32; 5] = [16.0, 19.0, 24.0, 31.0, 40.0];

/// Runs the function on a new fake device, as a new process would. How many modules were compiled, and loaded?
fn start(folder: &Path, prepare: impl FnOnce(&FakeDevices)) -> (usize, usize) {
    with_kept_modules(1, folder, |fake| {
        prepare(fake);
        assert_eq!(run(GPU).expect("it runs"), EXPECTED);
        (fake.counts(0).compiles, fake.counts(0).loads)
    })
}

#[test]
fn a_module_is_compiled_once() -> Result<()> {
    let folder = empty("once");
    assert_eq!(start(&folder, |_| ()), (1, 1));
    let kept = files(&folder);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(start(&folder, |_| ()), (0, 1));
    // Another device has another module.
    with_kept_modules(2, &folder, |fake| {
        assert_eq!(run(Device::Cuda(1))?, EXPECTED);
        assert_eq!((fake.counts(1).compiles, files(&folder).len()), (1, 2));
        Ok::<_, Error>(())
    })?;
    // Nothing is kept unless there is a folder for it.
    with_fake_devices(1, |fake| {
        assert_eq!(run(GPU)?, EXPECTED);
        assert_eq!(run(GPU)?, EXPECTED);
        assert_eq!((fake.counts(0).compiles, files(&folder).len()), (2, 2));
        Ok::<_, Error>(())
    })?;
    fs::remove_dir_all(&folder).expect("the folder is there");
    Ok(())
}

#[test]
fn what_is_damaged_or_not_taken_is_compiled_again() {
    let folder = empty("damaged");
    start(&folder, |_| ());
    let file = files(&folder).remove(0);
    let whole = fs::read(&file).expect("a file");
    for damaged in [&b""[..], b"foreign", &whole[..whole.len() / 2], &whole[1..]] {
        fs::write(&file, damaged).expect("it can be written");
        assert_eq!(start(&folder, |_| ()), (1, 1));
        assert!(fs::read(&file).expect("a file") == whole, "it is whole again");
        assert_eq!(start(&folder, |_| ()), (0, 1));
    }
    // The driver does not take it.
    assert_eq!(start(&folder, |fake| fake.fail(0, Fault::Load, 0)), (1, 1));
    // A folder that is a file keeps nothing.
    assert_eq!(start(&file, |_| ()), (1, 1));
    fs::remove_dir_all(&folder).expect("the folder is there");
}

#[test]
fn a_module_that_fails_is_not_kept() {
    let folder = empty("fails");
    with_kept_modules(1, &folder, |fake| {
        fake.fail(0, Fault::Compile, 0);
        let error = run(GPU).expect_err("it does not compile").to_string();
        assert!(error.contains("cuda:0: cuLinkAddData: CUDA_ERROR_INVALID_PTX"), "{error}");
        assert_eq!(files(&folder).len(), 0);
        // The device is as it was.
        assert_eq!(run(GPU).expect("it runs"), EXPECTED);
        assert_eq!(files(&folder).len(), 1);
    });
    fs::remove_dir_all(&folder).expect("the folder is there");
}

#[test]
fn errors_of_the_driver_leave_the_state() -> Result<()> {
    let folder = empty("errors");
    let count = || {
        let add = Jit::with_borrowed("count", |total: Tensor, x: Tensor| {
            let next = total + &x;
            (next.clone(), next * 2.0)
        });
        add.bind(Tensor::scalar(1.0f32))
    };
    let missing = "cuda:0: cu";
    let lost = "cuda:0 is lost, and with it the arrays that were not read: cu";
    // A module that has to be compiled, and one that is kept.
    for (is_kept, fault) in [(false, Fault::Compile), (false, Fault::Load), (true, Fault::Load)] {
        for (kind, message) in [(Failure::OutOfMemory, missing), (Failure::Lost, lost)] {
            let folder = folder.join(format!("{fault:?} {kind:?} {is_kept}"));
            let call = |fails: bool| {
                with_kept_modules(1, &folder, |fake| {
                    let mut counter = count();
                    if fails {
                        fake.fail_as(0, fault, kind);
                        let error = with_device(GPU, || counter.call(Tensor::scalar(2.0f32)).map(drop))?;
                        let error = error.expect_err("it fails").to_string();
                        assert!(error.contains(message), "{fault:?} {kind:?}: {error}");
                        assert_eq!(counter.state().item::<f32>()?, 1.0);
                        fake.heal(0);
                    }
                    let device = if fails && kind == Failure::Lost { Device::Cpu } else { GPU };
                    with_device(device, || counter.call(Tensor::scalar(2.0f32)).map(drop))??;
                    assert_eq!(counter.state().item::<f32>()?, 3.0, "{fault:?} {kind:?}");
                    Ok::<_, Error>(())
                })
            };
            if is_kept {
                call(false)?;
            }
            call(true)?;
            call(false)?;
        }
    }
    fs::remove_dir_all(&folder).expect("the folder is there");
    Ok(())
}

#[test]
fn several_processes_at_once() {
    const CHILD: &str = "FULGURITE_TEST_CHILD";
    if let Some(folder) = std::env::var_os(CHILD) {
        start(Path::new(&folder), |_| ());
        println!("it ran.");
        return;
    }
    let folder = empty("processes");
    let child = |_| {
        let mut command = Command::new(std::env::current_exe().expect("a test has a file"));
        command.args(["--exact", "several_processes_at_once", "--nocapture"]).env(CHILD, &folder);
        command.stdout(std::process::Stdio::piped()).spawn().expect("a process starts")
    };
    for child in (0..4).map(child).collect::<Vec<_>>() {
        let output = child.wait_with_output().expect("it ends");
        assert!(String::from_utf8_lossy(&output.stdout).contains("it ran."));
    }
    assert_eq!(files(&folder).len(), 1, "one module, and nothing that was being written");
    assert_eq!(start(&folder, |_| ()), (0, 1));
    fs::remove_dir_all(&folder).expect("the folder is there");
}
