//! The memory of batches, used again: once a step is done with a batch, the next one is gathered into its place.

use fulgurite_jit::{Array, Error, Tensor, TensorType};

/// Lends memory for the tensors of a batch, in the order in which they are asked for.
#[derive(Default)]
pub struct BatchBuffers {
    arrays: Vec<Array>,
    next: usize,
}

impl BatchBuffers {
    /// A tensor of type `ty` whose bytes `fill` writes, row-major; all of them, since they hold what an earlier batch
    /// left there. Of truth values, every byte but 0 is `true`. Where there is no memory for it, the tensor is poisoned
    /// with that error.
    pub fn tensor(&mut self, ty: TensorType, fill: impl FnOnce(&mut [u8])) -> Tensor {
        if let Err(why) = ty.check_size() {
            return Tensor::failed(ty, Error::new(format!("batch: {why}")));
        }
        let place = self.next;
        // BatchBuffers that something still holds is left to it. A ragged last batch fits into the memory of a full one.
        let free = self.arrays.get(place).is_some_and(|array| array.is_only(&ty));
        if !free {
            let zeros = match Array::zeros(&ty) {
                Ok(zeros) => zeros,
                Err(e) => return Tensor::failed(ty, e.context("batch")),
            };
            match self.arrays.get_mut(place) {
                Some(array) => *array = zeros,
                None => self.arrays.push(zeros),
            }
        }
        self.next += 1;
        let array = &mut self.arrays[place];
        let filled = array.refill(&ty, fill);
        debug_assert!(filled, "the memory is free and large enough");
        array.clone().into()
    }

    /// The next tensor is the first of another batch.
    pub(crate) fn start_batch(&mut self) {
        self.next = 0;
    }
}
