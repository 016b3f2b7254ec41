//! Where a run's steps run.
//!
//! Comes in: [`Accelerator`], a setting of the trainer or a text. Goes out: a run within [`with_device`].

use std::fmt;
use std::str::FromStr;

use fulgurite_jit::{Error, Result};
use fulgurite_runtime::{Device, with_device};

/// Where the steps of a run run: [`Trainer::accelerator`](crate::Trainer::accelerator).
///
/// It is read from Lightning's names too:
///
/// ```
/// use fulgurite_trainer::Accelerator;
///
/// assert_eq!("auto".parse(), Ok(Accelerator::Auto));
/// assert_eq!("cpu".parse(), Ok(Accelerator::Cpu));
/// assert_eq!("gpu".parse(), Ok(Accelerator::Cuda(0)));
/// assert_eq!("cuda:1".parse(), Ok(Accelerator::Cuda(1)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Accelerator {
    /// The device of [`with_device`] around the run, else that of `FULGURITE_DEVICE`, else a GPU if this build has the
    /// feature `cuda` and finds one, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(u32),
}

impl Accelerator {
    /// The device, unless it is found where the run starts.
    pub fn device(self) -> Option<Device> {
        match self {
            Accelerator::Auto => None,
            Accelerator::Cpu => Some(Device::Cpu),
            Accelerator::Cuda(number) => Some(Device::Cuda(number)),
        }
    }

    /// Calls `f`; compiled functions run on this device within.
    ///
    /// # Errors
    /// When there is no such device, with the reason; that of `f`.
    pub fn run<R>(self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        match self.device() {
            None => f(),
            Some(device) => with_device(device, f).map_err(|e| e.context("trainer: `accelerator`"))?,
        }
    }
}

impl From<Device> for Accelerator {
    fn from(device: Device) -> Self {
        match device {
            Device::Cpu => Accelerator::Cpu,
            Device::Cuda(number) => Accelerator::Cuda(number),
        }
    }
}

impl FromStr for Accelerator {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Accelerator::Auto),
            "gpu" => Ok(Accelerator::Cuda(0)),
            text => text.parse::<Device>().map(Accelerator::from).map_err(|_| {
                Error::new(format!(
                    "there is no accelerator {text:?}; there are `auto`, `cpu`, `gpu`, `cuda` and `cuda:1`"
                ))
            }),
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.device() {
            None => write!(f, "auto"),
            Some(device) => write!(f, "{device}"),
        }
    }
}
