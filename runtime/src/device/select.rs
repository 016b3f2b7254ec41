//! Which device a program runs on.
//!
//! Comes in: [`with_device`], `FULGURITE_DEVICE`, the operands of an op. Goes out: an [`Opened`] device. Devices are
//! opened when they are first asked for.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use fulgurite_jit::array::{Device, any_elsewhere};
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

    /// Are all arrays of the process in its memory? One load.
    #[inline]
    pub(crate) fn holds_all(&self) -> bool {
        matches!(self, Opened::Cpu) && !any_elsewhere()
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
    let device = Opened::open(device)?;
    if !matches!(device, Opened::Cpu) {
        expect_others();
    }
    let _restore = Restore(CHOSEN.replace(Some(device)));
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

/// Which devices the programs of this process may run on, as far as calls have found out: one of the three below.
static KNOWN: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
/// The processor alone: nothing has chosen another device, and there is none to be found.
const HOST_ALONE: u8 = 1;
/// Others too, from then on.
const OTHERS: u8 = 2;

/// Has every later call look for its device.
pub(crate) fn expect_others() {
    KNOWN.store(OTHERS, Relaxed);
}

/// The [identity](Opened::id) of the [current] device. Where there is the processor alone, it costs one load.
///
/// # Errors
/// As [`current`].
#[inline]
pub(crate) fn current_id() -> Result<u64> {
    if KNOWN.load(Relaxed) == HOST_ALONE { Ok(0) } else { look() }
}

/// [`current_id`], of a process that may have other devices.
#[inline(never)]
fn look() -> Result<u64> {
    let device = current()?;
    let is_host_alone = || match requested() {
        Ok(Request::Device(device)) => *device == Device::Cpu,
        // Nothing is opened here: what `current` has not looked for, it may find later.
        Ok(Request::Auto) => !cfg!(feature = "cuda") || CHOSEN.with_borrow(Option::is_none),
        Err(_) => false,
    };
    if matches!(device, Opened::Cpu) && is_host_alone() {
        // Not if another thread has just chosen one.
        let _ = KNOWN.compare_exchange(UNKNOWN, HOST_ALONE, Relaxed, Relaxed);
    }
    Ok(device.id())
}

/// The device that programs of this thread run on: that of [`with_device`], else that of `FULGURITE_DEVICE`, else a GPU
/// if there is one that works, else the processor.
///
/// # Errors
/// When `FULGURITE_DEVICE` is no device, or one that cannot be opened.
pub(crate) fn current() -> Result<Opened> {
    if let Some(chosen) = CHOSEN.with_borrow(Clone::clone) {
        return Ok(chosen);
    }
    match requested() {
        Ok(Request::Device(device)) => Opened::open(*device).map_err(|e| e.context("FULGURITE_DEVICE")),
        Ok(Request::Auto) => Ok(super::find().map_or(Opened::Cpu, Opened::Other)),
        Err(error) => Err(error.clone()),
    }
}

/// What `FULGURITE_DEVICE` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// What there is.
    Auto,
    /// A device.
    Device(Device),
}

/// What `FULGURITE_DEVICE` asks for, which is read once.
fn requested() -> &'static Result<Request> {
    static REQUEST: OnceLock<Result<Request>> = OnceLock::new();
    REQUEST.get_or_init(|| std::env::var("FULGURITE_DEVICE").map_or(Ok(Request::Auto), |text| parse(&text)))
}

/// What a text asks for: `cpu`, `cuda`, `cuda:1` or `auto`.
fn parse(text: &str) -> Result<Request> {
    match text.trim() {
        "" | "auto" => Ok(Request::Auto),
        text => text.parse().map(Request::Device).map_err(|_| {
            Error::new(format!("FULGURITE_DEVICE is {text:?}; it names a device as `cpu`, `cuda`, `cuda:1` or `auto`"))
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
            ("", Some(Request::Auto)),
            (" auto", Some(Request::Auto)),
            ("cpu", Some(Request::Device(Device::Cpu))),
            (" cuda ", Some(Request::Device(Device::Cuda(0)))),
            ("cuda:0", Some(Request::Device(Device::Cuda(0)))),
            ("cuda:17", Some(Request::Device(Device::Cuda(17)))),
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
        assert_eq!(
            error.message(),
            "FULGURITE_DEVICE is \"gpu\"; it names a device as `cpu`, `cuda`, `cuda:1` or `auto`"
        );
    }
}
