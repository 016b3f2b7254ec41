//! Arrays in the memory of a GPU.
//!
//! Comes in: allocations, arrays from elsewhere. Goes out: arrays whose buffer is a [`CudaBuffer`], and the allocation
//! of such an array.

use std::any::Any;
use std::sync::Arc;

use fulgurite_jit::array::{Device, DeviceBuffer};
use fulgurite_jit::{Array, Result, TensorType};

use super::gpu::{Allocation, Gpu};

/// The memory of an array. The results of a program that updates an array in place are new arrays over its allocation:
/// what has been read of the old one is no copy of them.
pub(crate) struct CudaBuffer(Arc<Allocation>);

impl DeviceBuffer for CudaBuffer {
    fn device(&self) -> Device {
        self.0.gpu().device()
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn read(&self, to: &mut [u8]) -> Result<()> {
        self.0.read(to)
    }
}

/// The allocation of an array, if it is in the memory of a GPU that was opened here.
pub(crate) fn allocation(array: &Array) -> Option<&Arc<Allocation>> {
    let buffer: &dyn Any = array.buffer().device_buffer()?;
    buffer.downcast_ref().map(|CudaBuffer(allocation)| allocation)
}

/// An array over an allocation.
///
/// # Errors
/// When its type is not that of an array, or too large for the allocation.
pub(crate) fn array(ty: &Arc<TensorType>, allocation: &Arc<Allocation>) -> Result<Array> {
    Array::on_device(ty.clone(), Box::new(CudaBuffer(allocation.clone())))
}

/// A copy of an array from the host or another device, in the memory of `gpu`.
///
/// # Errors
/// When a device does not have the memory, or fails.
pub(crate) fn upload(gpu: &Arc<Gpu>, from: &Array) -> Result<Array> {
    let ty = from.ty();
    let bytes = from.bytes()?;
    let memory = gpu.allocate(bytes.len(), || format!("a copy of {ty}"))?;
    if !bytes.is_empty() {
        memory.write(bytes)?;
    }
    array(&Arc::new(ty.clone()), &memory)
}

/// Is the array in the memory of `gpu`?
pub(crate) fn is_on(gpu: &Gpu, array: &Array) -> bool {
    allocation(array).is_some_and(|allocation| std::ptr::eq(&**allocation.gpu(), gpu))
}

/// Is this array the only handle to its allocation? If so, all uses by others are before what is asked for next.
pub(crate) fn is_unique(array: &Array) -> bool {
    array.buffer().handles() == 1 && allocation(array).is_some_and(Allocation::is_unique)
}
