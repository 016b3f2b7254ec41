//! Devices, and arrays whose memory is on one.
//!
//! The compiler and this crate work on the host. A back end with memory of another kind implements [`DeviceBuffer`];
//! its arrays are handed about as any other, and the first read copies them to the host.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::buffer::Buffer;
use crate::error::Result;
use crate::types::{DType, TensorType};

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

/// Memory on a device. Dropping it frees it.
pub trait DeviceBuffer: Any + Send + Sync {
    /// The device.
    fn device(&self) -> Device;

    /// The size in bytes.
    fn bytes(&self) -> usize;

    /// Copies the first bytes to the host, as many as `to` has. Waits until they are written.
    ///
    /// # Errors
    /// When the device fails.
    fn read(&self, to: &mut [u8]) -> Result<()>;
}

/// The memory of an array on a device, with its copy on the host.
pub(super) struct Remote {
    /// The type that the array was created with. Other arrays of the same memory have as many elements of its type.
    ty: Arc<TensorType>,
    buffer: Box<dyn DeviceBuffer>,
    /// What the first read of the array has copied. It stays until the memory is freed or overwritten.
    host: OnceLock<Buffer>,
}

impl Remote {
    pub(super) fn new(ty: Arc<TensorType>, buffer: Box<dyn DeviceBuffer>) -> Self {
        Remote { ty, buffer, host: OnceLock::new() }
    }

    pub(super) fn device(&self) -> Device {
        self.buffer.device()
    }

    pub(super) fn get(&self) -> &dyn DeviceBuffer {
        &*self.buffer
    }

    /// For writing: the copy on the host is dropped.
    pub(super) fn get_mut(&mut self) -> &mut dyn DeviceBuffer {
        self.host.take();
        &mut *self.buffer
    }

    /// The copy on the host.
    pub(super) fn host(&self) -> Result<&Buffer> {
        if self.host.get().is_none() {
            let copy = self.copy()?;
            // Another thread may have been faster; the bytes are the same.
            self.host.get_or_init(|| copy);
        }
        Ok(self.host.get().expect("it has been copied"))
    }

    /// A new copy on the host.
    pub(super) fn copy(&self) -> Result<Buffer> {
        let (ty, device) = (&self.ty, self.device());
        let mut copy = Buffer::zeroed(ty.bytes(), || format!("a copy of {ty} from {device}"))?;
        self.buffer.read(copy.bytes_mut()).map_err(|e| e.context(format_args!("reading {ty} from {device}")))?;
        if ty.dtype == DType::Bool {
            super::normalise_bools(copy.bytes_mut());
        }
        Ok(copy)
    }
}
