//! The memory of batches, used again: once a step is done with a batch, the next one is gathered into its place.

use fulgurite_jit::{Array, Error, Tensor, TensorType};

/// Lends memory for the tensors of a batch, in the order in which they are asked for.
#[derive(Default)]
pub struct Memory {
    arrays: Vec<Array>,
    next: usize,
}

impl Memory {
    /// A tensor of type `ty` whose bytes `fill` writes, row-major; all of them, since they hold what an earlier batch
    /// left there. For truth values, every byte must be 0 or 1. Where there is no memory for it, the tensor is poisoned
    /// with that error.
    pub fn tensor(&mut self, ty: TensorType, fill: impl FnOnce(&mut [u8])) -> Tensor {
        if let Err(why) = ty.check_size() {
            return Tensor::failed(ty, Error::new(format!("batch: {why}")));
        }
        let (place, bytes) = (self.next, ty.bytes());
        let zeros = || Array::zeros(&ty).map_err(|e| Tensor::failed(ty.clone(), e.context("batch")));
        if place == self.arrays.len() {
            match zeros() {
                Ok(array) => self.arrays.push(array),
                Err(failed) => return failed,
            }
        }
        let array = &mut self.arrays[place];
        // A ragged last batch fits into the memory of a full one.
        if *array.ty() != ty && array.buffer().len() >= bytes {
            *array = Array::new(ty.clone(), array.buffer().clone());
        }
        // Memory that something still holds is left to it.
        let is_free = *array.ty() == ty && array.buffer_mut().is_some();
        if !is_free {
            *array = match zeros() {
                Ok(array) => array,
                Err(failed) => return failed,
            };
        }
        self.next += 1;
        if let Some(buffer) = array.buffer_mut() {
            fill(&mut buffer.bytes_mut()[..bytes]);
        }
        array.clone().into()
    }

    /// The next tensor is the first of another batch.
    pub(crate) fn start_batch(&mut self) {
        self.next = 0;
    }
}
