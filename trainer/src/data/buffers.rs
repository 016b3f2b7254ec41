//! The memory of batches, which is reused: once a step has dropped a batch, the next one is gathered into its memory.

use fulgurite_jit::{Array, Error, Tensor, TensorType};

/// Memory for the tensors of a batch, in the order in which they are requested.
#[derive(Default)]
pub struct BatchBuffers {
    arrays: Vec<Array>,
    next: usize,
}

impl BatchBuffers {
    /// A tensor of type `ty` whose bytes `fill` writes, row-major. It must write all of them: they hold values of an
    /// earlier batch. A byte of a bool other than 0 is `true`. Without memory for it, the tensor is poisoned with the
    /// error.
    pub fn tensor(&mut self, ty: TensorType, fill: impl FnOnce(&mut [u8])) -> Tensor {
        if let Err(reason) = ty.check_size() {
            return Tensor::failed(ty, Error::new(format!("batch: {reason}")));
        }
        let index = self.next;
        // Memory that is still in use is not reused. A smaller last batch fits into the memory of a full one.
        let free = self.arrays.get(index).is_some_and(|array| array.is_only(&ty));
        if !free {
            let zeros = match Array::zeros(&ty) {
                Ok(zeros) => zeros,
                Err(e) => return Tensor::failed(ty, e.context("batch")),
            };
            match self.arrays.get_mut(index) {
                Some(array) => *array = zeros,
                None => self.arrays.push(zeros),
            }
        }
        self.next += 1;
        let array = &mut self.arrays[index];
        let filled = array.refill(&ty, fill);
        debug_assert!(filled, "the memory is free and large enough");
        array.clone().into()
    }

    /// The next tensor is the first of another batch.
    pub(crate) fn start_batch(&mut self) {
        self.next = 0;
    }
}
