//! Data on the host: datasets, loaders that give batches, readers of files.
//!
//! In: `ndarray`s, or anything that implements [`Dataset`]. Out: batches, which are trees of tensors. The order of the
//! examples is a pure function of (seed, epoch), so a position in the data is two numbers, and a resumed run gets the
//! same batches as one that was not interrupted.

mod arrays;
pub(crate) mod bounded;
mod buffers;
mod gather;
mod idx;
mod loader;
mod mnist;
mod order;
mod prefetch;

use fulgurite_jit::{Result, Tree};

pub use arrays::{ArrayDataset, HostArrays};
pub use buffers::BatchBuffers;
pub use idx::read_idx;
pub use loader::{Batches, DataLoader};
pub use mnist::MnistData;

/// Examples that can be gathered into batches.
///
/// [`ArrayDataset`] is one over arrays in memory; write another for examples that are computed or read as needed. A
/// dataset that depends on `indices` alone makes resumption exact.
pub trait Dataset: Send + Sync {
    /// A batch: a tree of tensors, usually with one row for each example.
    type Batch: Tree + Clone + Send + 'static;

    /// How many examples there are.
    fn len(&self) -> usize;

    /// Are there none?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The examples at `indices` (each below [`Dataset::len`]) as a batch. `buffers` reuses the memory of earlier
    /// batches; tensors made in another way are allowed.
    ///
    /// # Errors
    /// Any failure, such as a file that cannot be read. It ends the run.
    fn gather(&self, indices: &[u32], buffers: &mut BatchBuffers) -> Result<Self::Batch>;
}

/// The data of a run: a loader for training, and optionally one for validation.
///
/// A [`DataLoader`] is one by itself, and so is a pair (training, validation) of them.
pub trait DataModule {
    /// The batches of the loaders.
    type Batch: Tree + Clone + Send + 'static;

    /// The batches to train on. Called once, at the start of a run: files are read here.
    ///
    /// # Errors
    /// When the data cannot be loaded. The message should say what is missing and where it belongs.
    fn train_dataloader(&self) -> Result<DataLoader<Self::Batch>>;

    /// The batches to validate on, if any. Called once, at the start of a run.
    ///
    /// # Errors
    /// As [`DataModule::train_dataloader`].
    fn val_dataloader(&self) -> Result<Option<DataLoader<Self::Batch>>> {
        Ok(None)
    }
}

impl<B: Tree + Clone + Send + 'static> DataModule for DataLoader<B> {
    type Batch = B;

    fn train_dataloader(&self) -> Result<DataLoader<B>> {
        Ok(self.clone())
    }
}

impl<B: Tree + Clone + Send + 'static> DataModule for (DataLoader<B>, DataLoader<B>) {
    type Batch = B;

    fn train_dataloader(&self) -> Result<DataLoader<B>> {
        Ok(self.0.clone())
    }

    fn val_dataloader(&self) -> Result<Option<DataLoader<B>>> {
        Ok(Some(self.1.clone()))
    }
}
