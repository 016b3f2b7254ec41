//! Devices, and their memory.
//!
//! The compiler and this crate work on the host. A back end with memory of another kind implements [`DeviceBuffer`];
//! its arrays are handed about as any other, and the first read copies them to the host.

use std::any::Any;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::error::{Error, Result};

/// Where a program runs and its arrays are. It is part of the signature of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor, with its threads. Its memory is the host's.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => write!(f, "cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// Reads what is displayed, or `cuda`, which is `cuda:0`.
    fn from_str(text: &str) -> Result<Self> {
        // `parse` takes a sign too.
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        match text {
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            text => text
                .strip_prefix("cuda:")
                .and_then(number)
                .map(Device::Cuda)
                .ok_or_else(|| Error::new(format!("there is no device {text:?}"))),
        }
    }
}

/// Whether there has been an array on a device other than the host. Who holds one has seen it become true.
static ANY_ELSEWHERE: AtomicBool = AtomicBool::new(false);

/// Whether there has been an array on a device other than the host in this process: one load, for calls that would ask
/// each of their arrays.
#[inline]
pub fn any_elsewhere() -> bool {
    ANY_ELSEWHERE.load(Relaxed)
}

/// Notes an array on a device other than the host.
pub(super) fn note_elsewhere() {
    ANY_ELSEWHERE.store(true, Relaxed);
}

/// Memory on a device. Dropping it frees it.
pub trait DeviceBuffer: Any + Send + Sync {
    /// The device, which is not the host. It is asked once.
    fn device(&self) -> Device;

    /// The size in bytes.
    fn bytes(&self) -> usize;

    /// Copies the first bytes to the host, as many as `to` has. Waits until they are written.
    ///
    /// # Errors
    /// When the device fails.
    fn read(&self, to: &mut [u8]) -> Result<()>;
}
