//! GPUs without a GPU, for tests: the feature `testing`.
//!
//! Comes in: a number of devices. Goes out: [`FakeDevices`], which the runtime takes for those of this machine, with
//! counts of what it asks of them, and with faults.

use std::path::Path;
use std::sync::Arc;

use fulgurite_jit::array::Device;
use fulgurite_jit::graph::Graph;
use fulgurite_jit::{Array, Result};

use crate::device::cuda::cubins::Cubins;
use crate::device::cuda::driver::NoDriver;
use crate::device::cuda::fake::{FakeDevice, FakeDriver};
use crate::device::cuda::registry::{Registry, with_registry};
use crate::device::select::{Opened, expect_others};
use crate::program::Program;

pub use crate::device::cuda::fake::{Counts, Failure, Fault, Schedule};

/// Bytes of compiled modules that fake GPUs keep.
const KEPT_BYTES: u64 = 1 << 20;

/// Fake GPUs.
#[derive(Clone)]
pub struct FakeDevices {
    driver: Arc<FakeDriver>,
    registry: Arc<Registry>,
}

/// Calls `f` with `count` fake GPUs in place of this machine's, on this thread. On other threads, [`FakeDevices::on`]
/// does the same. Programs run on them where they are asked to.
pub fn with_fake_devices<R>(count: u32, f: impl FnOnce(&FakeDevices) -> R) -> R {
    with(count, Registry::hidden, f)
}

/// As [`with_fake_devices`], of which compiled modules are kept in a folder.
pub fn with_kept_modules<R>(count: u32, folder: &Path, f: impl FnOnce(&FakeDevices) -> R) -> R {
    let cubins = Cubins::new(folder.into(), KEPT_BYTES);
    with(count, |registry| registry.hidden().keeping(Some(cubins)), f)
}

/// As [`with_fake_devices`], on a machine where programs run on the first of them unless they are asked not to.
pub fn with_found_devices<R>(count: u32, f: impl FnOnce(&FakeDevices) -> R) -> R {
    with(count, |registry| registry, f)
}

fn with<R>(count: u32, adapt: impl FnOnce(Registry) -> Registry, f: impl FnOnce(&FakeDevices) -> R) -> R {
    let driver = Arc::new(FakeDriver::new(count));
    let registry = Arc::new(adapt(Registry::new(Ok(driver.clone()))));
    expect_others();
    let devices = FakeDevices { driver, registry };
    devices.on(|| f(&devices))
}

/// Calls `f` on a machine whose driver cannot be used, for the reason `why`; without a reason, it has none.
pub fn without_driver<R>(why: Option<&str>, f: impl FnOnce() -> R) -> R {
    let none = why
        .map_or_else(|| NoDriver::NotInstalled("there is no driver".into()), |why| NoDriver::Unusable(why.to_owned()));
    expect_others();
    with_registry(&Arc::new(Registry::new(Err(none))), f)
}

impl FakeDevices {
    /// Calls `f` with these devices in place of this machine's, on this thread.
    pub fn on<R>(&self, f: impl FnOnce() -> R) -> R {
        with_registry(&self.registry, f)
    }

    /// Closes the devices: programs and arrays that are there keep theirs, and who asks again gets new ones.
    pub fn close(&self) {
        self.registry.close();
    }

    fn device(&self, number: usize) -> &FakeDevice {
        &self.driver.devices[number]
    }

    /// How often each call was made of a device.
    pub fn counts(&self, number: usize) -> Counts {
        self.device(number).counts()
    }

    /// Bytes of a device that were not given back to the driver.
    pub fn live_bytes(&self, number: usize) -> usize {
        self.device(number).live_bytes()
    }

    /// Copies and launches of a device that no one has waited for.
    pub fn queued(&self, number: usize) -> usize {
        self.device(number).queued()
    }

    /// Copies on the stream of copies of a device that were not done.
    pub fn queued_uploads(&self, number: usize) -> usize {
        self.device(number).queued_uploads()
    }

    /// Events and locked memory of a device that were not given back to the driver.
    pub fn held(&self, number: usize) -> usize {
        self.device(number).held()
    }

    /// When what is queued on a device is done.
    pub fn schedule(&self, number: usize, schedule: Schedule) {
        self.device(number).schedule(schedule);
    }

    /// The streams of a device no longer wait for each other.
    pub fn ignore_events(&self, number: usize) {
        self.device(number).ignore_events();
    }

    /// Makes a call of a device fail after `after` more of its kind.
    pub fn fail(&self, number: usize, fault: Fault, after: usize) {
        self.device(number).fail(fault, after);
    }

    /// Makes the next call of a device fail in another way than it would; if memory is missing, those after it too.
    pub fn fail_as(&self, number: usize, fault: Fault, failure: Failure) {
        self.device(number).fail_as(fault, failure);
    }

    /// No call of a device fails any more, unless a kernel has failed.
    pub fn heal(&self, number: usize) {
        self.device(number).heal();
    }
}

/// A program on `device`; see [`Program::compile`].
///
/// # Errors
/// As [`Program::compile`]; when there is no such device, or it fails.
pub fn compile(graph: &Graph, donated: &[bool], device: Device) -> Result<Program> {
    Program::compile_tuned("test", graph, donated, &Opened::open(device)?)
}

/// A copy of an array on `device`; itself, if it is there.
///
/// # Errors
/// When there is no such device, its memory is not available, or a device fails.
pub fn put(array: &Array, device: Device) -> Result<Array> {
    Opened::open(device)?.put(array)
}
