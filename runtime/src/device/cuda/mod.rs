//! NVIDIA GPUs.
//!
//! Comes in: kernels, then arrays. Goes out: a [`CudaExecutable`], arrays in the memory of a GPU. `driver` has the
//! calls of CUDA as traits, `driver_api` makes them, `functions` are those that are called, and `fake` is a driver
//! without a GPU, for tests. `gpu` owns what a driver gives, `cubins` keeps what it has compiled, `buffer` makes arrays
//! of memory, `transfer` copies them beside the steps, `executable` runs programs, `profile` says what their times
//! mean, `registry` finds and opens devices.

mod buffer;
pub(crate) mod cubins;
pub(crate) mod driver;
#[cfg(feature = "cuda")]
mod driver_api;
mod executable;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fake;
#[cfg(feature = "cuda")]
mod functions;
mod gpu;
mod locked;
mod profile;
pub(crate) mod registry;
mod rotation;
mod transfer;

use std::sync::Arc;

use fulgurite_jit::array::Device;
use fulgurite_jit::fuse::Kernels;
use fulgurite_jit::{Array, Result};

use super::{Accelerator, Download, Executable, Upload};
use executable::CudaExecutable;
use gpu::Gpu;
use transfer::{CudaDownload, CudaUpload};

impl Accelerator for Gpu {
    fn device(&self) -> Device {
        Gpu::device(self)
    }

    fn id(&self) -> u64 {
        Gpu::id(self)
    }

    fn holds(&self, array: &Array) -> bool {
        buffer::is_on(self, array)
    }

    fn put(self: Arc<Self>, array: &Array) -> Result<Array> {
        buffer::upload(&self, array)
    }

    fn put_ahead(self: Arc<Self>, arrays: &[&Array]) -> Result<(Vec<Array>, Box<dyn Upload>)> {
        let (copies, upload) = CudaUpload::start(&self, arrays)?;
        Ok((copies, Box::new(upload)))
    }

    fn fetch(self: Arc<Self>, arrays: &[&Array]) -> Result<Box<dyn Download>> {
        Ok(Box::new(CudaDownload::start(&self, arrays)?))
    }

    fn compile(self: Arc<Self>, name: &str, kernels: Kernels, donated: &[bool]) -> Result<Box<dyn Executable>> {
        Ok(Box::new(CudaExecutable::compile(&self, name, kernels, donated)?))
    }

    fn synchronize(&self) -> Result<()> {
        self.wait()
    }
}

/// The GPU that holds an array, if it was opened here.
pub(crate) fn holder(array: &Array) -> Option<Arc<dyn Accelerator>> {
    buffer::allocation(array).map(|allocation| allocation.gpu().clone() as Arc<dyn Accelerator>)
}
