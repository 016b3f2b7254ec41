//! The GPUs of this machine, opened when they are first asked for.
//!
//! Comes in: the number of a device. Goes out: the device, the same one each time. A device stays open until the
//! process ends; what could not be opened is tried again.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use fulgurite_jit::array::Device;
use fulgurite_jit::{Error, Result};

use super::driver::Driver;
use super::gpu::Gpu;

/// A driver, and its devices that are open.
pub(crate) struct Registry {
    /// Or why there is none.
    driver: std::result::Result<Arc<dyn Driver>, String>,
    open: Mutex<BTreeMap<u32, Arc<Gpu>>>,
}

impl Registry {
    /// The devices of a driver, or why there is none.
    pub(crate) fn new(driver: std::result::Result<Arc<dyn Driver>, String>) -> Self {
        Registry { driver, open: Mutex::default() }
    }

    /// The device of a number.
    ///
    /// # Errors
    /// When there is no driver or no such device, or the driver fails.
    pub(crate) fn open(&self, number: u32) -> Result<Arc<Gpu>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gpu) = open.get(&number) {
            return Ok(gpu.clone());
        }
        let driver = self.driver.as_ref().map_err(|why| Error::new(format!("{}: {why}", Device::Cuda(number))))?;
        let gpu = Gpu::open(&**driver, number)?;
        open.insert(number, gpu.clone());
        Ok(gpu)
    }

    /// Forgets what is open.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn close(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        drop(open);
    }
}

/// The devices of this machine.
static SYSTEM: LazyLock<Registry> = LazyLock::new(|| Registry::new(system_driver()));

#[cfg(feature = "cuda")]
fn system_driver() -> std::result::Result<Arc<dyn Driver>, String> {
    super::driver_api::load().map(|driver| Arc::new(driver) as Arc<dyn Driver>)
}

#[cfg(not(feature = "cuda"))]
fn system_driver() -> std::result::Result<Arc<dyn Driver>, String> {
    Err(crate::device::NO_CUDA.to_owned())
}

/// The device of a number: of this machine, or of the driver that a test has installed.
///
/// # Errors
/// As [`Registry::open`].
pub(crate) fn open(number: u32) -> Result<Arc<Gpu>> {
    #[cfg(any(test, feature = "testing"))]
    if let Some(registry) = INSTALLED.with_borrow(Clone::clone) {
        return registry.open(number);
    }
    SYSTEM.open(number)
}

#[cfg(any(test, feature = "testing"))]
thread_local! {
    static INSTALLED: std::cell::RefCell<Option<Arc<Registry>>> = const { std::cell::RefCell::new(None) };
}

/// Calls `f` with the devices of `registry` in place of this machine's, on this thread.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn with_registry<R>(registry: &Arc<Registry>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<Registry>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            INSTALLED.set(self.0.take());
        }
    }
    let _restore = Restore(INSTALLED.replace(Some(registry.clone())));
    f()
}
