//! Which device a program runs on.
//!
//! Comes in: [`with_device`], `FULGURITE_DEVICE`, the operands of an op. Goes out: an [`Opened`] device. Devices are
//! opened when they are first asked for.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use fulgurite_jit::array::Device;
use fulgurite_jit::{Array, Error, Result};

use super::Accelerator;

/// A device that is open.
#[derive(Clone)]
pub(crate) enum Opened {
    /// The processor.
    Cpu,
    /// Another device.
    Other(Arc<dyn Accelerator>),
}

impl Opened {
    /// Opens a device.
    ///
    /// # Errors
    /// When this build has no back end for it, there is no such device, or it fails.
    pub(crate) fn open(device: Device) -> Result<Opened> {
        match device {
            Device::Cpu => Ok(Opened::Cpu),
            Device::Cuda(number) => super::open_cuda(number).map(Opened::Other),
        }
    }

    /// Which device it is.
    pub(crate) fn device(&self) -> Device {
        match self {
            Opened::Cpu => Device::Cpu,
            Opened::Other(other) => other.device(),
        }
    }

    /// Tells it from every other device that was opened in this process; 0 for the processor.
    #[inline]
    pub(crate) fn id(&self) -> u64 {
        match self {
            Opened::Cpu => 0,
            Opened::Other(other) => other.id(),
        }
    }

    /// Is the array in its memory?
    #[inline]
    pub(crate) fn holds(&self, array: &Array) -> bool {
        match self {
            Opened::Cpu => array.device() == Device::Cpu,
            Opened::Other(other) => other.holds(array),
        }
    }

    /// A copy of the array in its memory; itself, if it is there. JAX: `jax.device_put`.
    ///
    /// # Errors
    /// When memory for the copy is not available, or a device fails.
    pub(crate) fn put(&self, array: &Array) -> Result<Array> {
        match self {
            Opened::Cpu => array.to_host(),
            Opened::Other(other) if other.holds(array) => Ok(array.clone()),
            Opened::Other(other) => other.clone().put(array),
        }
    }
}

thread_local! {
    /// The device of [`with_device`].
    static CHOSEN: RefCell<Option<Opened>> = const { RefCell::new(None) };
}

/// Calls `f`; compiled functions, and ops whose operands are on the host, run on `device` within. It holds for this
/// thread. Arrays are moved to a device when a program there takes them; what it returns stays there until it is read.
/// A [`Bound`](crate::Bound) state stays where its program first ran. JAX: `jax.default_device`.
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_runtime::{Device, jit, with_device};
///
/// let square = jit(|x: Tensor| &x * &x);
/// let y = with_device(Device::Cpu, || square.call(Tensor::scalar(3.0f32)))??;
/// assert_eq!(y.item::<f32>()?, 9.0);
/// # Ok::<(), fulgurite_jit::Error>(())
/// ```
///
/// # Errors
/// When there is no such device: no driver, too old a driver, no device of the number, a build without the feature
/// `cuda`; when it cannot be opened.
pub fn with_device<R>(device: Device, f: impl FnOnce() -> R) -> Result<R> {
    struct Restore(Option<Opened>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CHOSEN.set(self.0.take());
        }
    }
    let _restore = Restore(CHOSEN.replace(Some(Opened::open(device)?)));
    Ok(f())
}

/// Waits until `device` has done all that it was asked for. A call returns before its program has run, and reading a
/// result waits for it; who measures times waits for the device. JAX: `jax.block_until_ready`.
///
/// # Errors
/// As [`with_device`]; when a program has failed on the device.
pub fn synchronize(device: Device) -> Result<()> {
    match Opened::open(device)? {
        Opened::Cpu => Ok(()),
        Opened::Other(other) => other.synchronize(),
    }
}

/// The device that programs of this thread run on: that of [`with_device`], else that of `FULGURITE_DEVICE`, else the
/// processor.
///
/// # Errors
/// When `FULGURITE_DEVICE` is no device, or one that cannot be opened.
#[inline]
pub(crate) fn current() -> Result<Opened> {
    match CHOSEN.with_borrow(Clone::clone) {
        Some(chosen) => Ok(chosen),
        None => from_environment(),
    }
}

/// The device of `FULGURITE_DEVICE`, which is read once.
fn from_environment() -> Result<Opened> {
    static DEVICE: OnceLock<Result<Device>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| std::env::var("FULGURITE_DEVICE").map_or(Ok(Device::Cpu), |text| parse(&text)));
    match device {
        Ok(Device::Cpu) => Ok(Opened::Cpu),
        Ok(device) => Opened::open(*device).map_err(|e| e.context("FULGURITE_DEVICE")),
        Err(error) => Err(error.clone()),
    }
}

/// The device that a text names: `cpu`, `cuda` or `cuda:1`.
fn parse(text: &str) -> Result<Device> {
    match text.trim() {
        "" => Ok(Device::Cpu),
        text => text.parse().map_err(|_| {
            Error::new(format!("FULGURITE_DEVICE is {text:?}; it names a device as `cpu`, `cuda` or `cuda:1`"))
        }),
    }
}

/// The device that an op with these operands runs on: the first of theirs that is not the host, else the
/// [current](current) one.
///
/// # Errors
/// As [`current`].
pub(crate) fn of_operands(operands: &[Array]) -> Result<Opened> {
    let elsewhere = operands.iter().filter(|x| x.device() != Device::Cpu).find_map(super::holder);
    elsewhere.map_or_else(current, |holder| Ok(Opened::Other(holder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices() {
        for (text, device) in [
            ("", Some(Device::Cpu)),
            ("cpu", Some(Device::Cpu)),
            (" cuda ", Some(Device::Cuda(0))),
            ("cuda:0", Some(Device::Cuda(0))),
            ("cuda:17", Some(Device::Cuda(17))),
            ("cuda:", None),
            ("cuda:-1", None),
            ("cuda:+1", None),
            ("cuda:99999999999", None),
            ("gpu", None),
            ("cuda0", None),
        ] {
            assert_eq!(parse(text).ok(), device, "{text:?}");
        }
        let error = parse("gpu").unwrap_err();
        assert_eq!(error.message(), "FULGURITE_DEVICE is \"gpu\"; it names a device as `cpu`, `cuda` or `cuda:1`");
    }
}
