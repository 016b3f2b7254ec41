//! Copies beside the steps: of batches to a device, and of metrics to the host.
//!
//! Comes in: arrays. Goes out: arrays elsewhere, for which programs or the host wait when they need them.
//!
//! A batch is copied on the stream of copies while the step before it runs. Before it is handed out, the stream of the
//! steps is told to wait for its event; memory that was dropped is written again when the steps that may read it are
//! over (see `rotation`). What comes to the host is copied behind the step on its stream: it is a few bytes, and its
//! memory is free for the next step at once.

use std::sync::Arc;

use fulgurite_jit::{Array, Error, Result, TensorType};

use super::buffer::{allocation, array};
use super::gpu::{Allocation, Event, Gpu};
use super::locked::Locked;
use crate::device::{Download, Upload};

/// Copies to a device.
pub(crate) struct CudaUpload {
    copied: Event,
}

impl CudaUpload {
    /// Starts to copy arrays from the host. Gives the copies, for [later](Upload::before_programs) programs.
    ///
    /// # Errors
    /// When the device does not have the memory, or fails.
    pub(crate) fn start(gpu: &Arc<Gpu>, arrays: &[&Array]) -> Result<(Vec<Array>, CudaUpload)> {
        let mut is_ready = true;
        let mut allocate = |x: &&Array| {
            let (memory, ready) = gpu.allocate_ahead(x.ty().bytes(), || format!("a copy of {}", x.ty()))?;
            is_ready &= ready;
            Ok(memory)
        };
        let memory = arrays.iter().map(&mut allocate).collect::<Result<Vec<_>>>()?;
        if !is_ready {
            gpu.follow_steps()?;
        }
        for (x, memory) in arrays.iter().zip(&memory) {
            memory.write_ahead(x.bytes()?)?;
        }
        let copied = gpu.copies_so_far()?;
        if gpu.has_resting() {
            gpu.follow_steps()?;
        }
        let on_device = |(x, memory): (&&Array, &Arc<Allocation>)| array(&Arc::new(x.ty().clone()), memory);
        let copies = arrays.iter().zip(&memory).map(on_device).collect::<Result<_>>()?;
        Ok((copies, CudaUpload { copied }))
    }
}

impl Upload for CudaUpload {
    fn before_programs(&self) -> Result<()> {
        self.copied.before_steps()
    }
}

/// Arrays that are copied to the host.
pub(crate) struct CudaDownload {
    gpu: Arc<Gpu>,
    types: Vec<TensorType>,
    /// Their bytes, one after the other.
    locked: Locked,
}

impl CudaDownload {
    /// Starts to copy arrays of a device.
    ///
    /// # Errors
    /// When an array is elsewhere, the device does not lock the memory, or fails.
    pub(crate) fn start(gpu: &Arc<Gpu>, arrays: &[&Array]) -> Result<CudaDownload> {
        let elsewhere = |x: &Array| Error::new(format!("{} is on {}, not on {}", x.ty(), x.device(), gpu.device()));
        let mut parts = Vec::with_capacity(arrays.len());
        for x in arrays {
            let memory = allocation(x).filter(|memory| Arc::ptr_eq(memory.gpu(), gpu)).ok_or_else(|| elsewhere(x))?;
            parts.push((&**memory, x.ty().bytes()));
        }
        let locked = gpu.download(&parts)?;
        let types = arrays.iter().map(|x| x.ty().clone()).collect();
        Ok(CudaDownload { gpu: gpu.clone(), types, locked })
    }
}

impl Download for CudaDownload {
    fn is_ready(&self) -> Result<bool> {
        self.gpu.is_copied(self.locked)
    }

    fn wait(&self) -> Result<Vec<Array>> {
        if !self.is_ready()? {
            self.gpu.join(self.locked)?;
        }
        let mut offset = 0;
        let on_host = |ty: &TensorType| {
            let mut bytes = vec![0; ty.bytes()];
            // SAFETY: the copy is done, and these bytes are inside of it: it has those of all types in turn.
            unsafe { self.gpu.take_locked(self.locked, offset, &mut bytes) };
            offset += bytes.len();
            Array::from_bytes(ty, &bytes)
        };
        self.types.iter().map(on_host).collect()
    }
}

impl Drop for CudaDownload {
    fn drop(&mut self) {
        self.gpu.keep_locked(self.locked);
    }
}
