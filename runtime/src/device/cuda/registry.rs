//! The GPUs of this machine, opened when they are first asked for.
//!
//! Comes in: the number of a device. Goes out: the device, the same one each time. A device stays open until the
//! process ends; what could not be opened is tried again.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use fulgurite_jit::array::Device;
use fulgurite_jit::{Error, Result};

use super::cubins::Cubins;
use super::driver::{Driver, NoDriver};
use super::gpu::Gpu;

/// A driver, and its devices that are open.
pub(crate) struct Registry {
    driver: std::result::Result<Arc<dyn Driver>, NoDriver>,
    /// Where compiled modules are kept.
    cubins: Option<Arc<Cubins>>,
    open: Mutex<BTreeMap<u32, Arc<Gpu>>>,
    /// What [`Registry::find`] has found.
    found: OnceLock<Option<Arc<Gpu>>>,
}

impl Registry {
    /// The devices of a driver, or why there is none. Compiled modules are not kept.
    pub(crate) fn new(driver: std::result::Result<Arc<dyn Driver>, NoDriver>) -> Self {
        Registry { driver, cubins: None, open: Mutex::default(), found: OnceLock::new() }
    }

    /// These devices, whose compiled modules are kept.
    pub(crate) fn keeping(self, cubins: Option<Cubins>) -> Self {
        Registry { cubins: cubins.map(Arc::new), ..self }
    }

    /// These devices, of which none is found without being asked for.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn hidden(self) -> Self {
        Registry { found: OnceLock::from(None), ..self }
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
        let driver = self.driver.as_ref().map_err(|none| Error::new(format!("{}: {none}", Device::Cuda(number))))?;
        let gpu = Gpu::open(&**driver, number, self.cubins.clone())?;
        open.insert(number, gpu.clone());
        Ok(gpu)
    }

    /// The first device, if there is one that works. It is looked for once; a driver that cannot be used, or a device,
    /// is told of on standard error.
    pub(crate) fn find(&self) -> Option<Arc<Gpu>> {
        let look = || match &self.driver {
            Err(NoDriver::NotInstalled(_)) => Ok(None),
            Err(NoDriver::Unusable(why)) => Err(why.clone()),
            Ok(driver) if driver.count() == Ok(0) => Ok(None),
            Ok(_) => self.open(0).map(Some).map_err(|error| error.to_string()),
        };
        let found = self.found.get_or_init(|| {
            look().unwrap_or_else(|why| {
                eprintln!("fulgurite: programs run on the processor. {why}");
                None
            })
        });
        found.clone()
    }

    /// Forgets what is open.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn close(&self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner));
        drop(open);
    }
}

/// The devices of this machine.
static SYSTEM: LazyLock<Registry> = LazyLock::new(|| Registry::new(system_driver()).keeping(Cubins::of_environment()));

#[cfg(feature = "cuda")]
fn system_driver() -> std::result::Result<Arc<dyn Driver>, NoDriver> {
    super::driver_api::load().map(|driver| Arc::new(driver) as Arc<dyn Driver>)
}

#[cfg(not(feature = "cuda"))]
fn system_driver() -> std::result::Result<Arc<dyn Driver>, NoDriver> {
    Err(NoDriver::NotInstalled(crate::device::NO_CUDA.to_owned()))
}

/// The device of a number: of this machine, or of the driver that a test has installed.
///
/// # Errors
/// As [`Registry::open`].
pub(crate) fn open(number: u32) -> Result<Arc<Gpu>> {
    with_current(|registry| registry.open(number))
}

/// As [`Registry::find`], of this machine's devices or those that a test has installed.
pub(crate) fn find() -> Option<Arc<Gpu>> {
    with_current(Registry::find)
}

fn with_current<R>(f: impl FnOnce(&Registry) -> R) -> R {
    #[cfg(any(test, feature = "testing"))]
    if let Some(registry) = INSTALLED.with_borrow(Clone::clone) {
        return f(&registry);
    }
    f(&SYSTEM)
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
