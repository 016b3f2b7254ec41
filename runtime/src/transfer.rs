//! Copies between the host and a device, beside the programs that run there.
//!
//! Comes in: trees of arrays. Goes out: [`Transfer`] and [`HostCopy`], which give the same trees elsewhere, and
//! [`PrefetchToDevice`], which keeps the next elements of an iterator on their way. On the processor there is nothing
//! to copy, and all of it is ready at once.

use std::collections::VecDeque;
use std::fmt;
use std::iter::Fuse;

use fulgurite_jit::array::Device;
use fulgurite_jit::{Array, Result, Tensor, Tree, leaves, unflatten};

use crate::device::select::{Opened, current};
use crate::device::{Download, Upload, holder};

/// Starts to copy the arrays of a tree to the device of [`with_device`](crate::with_device), and returns. A GPU copies
/// them beside the programs that were called before; [`Transfer::get`] gives them to later ones. Arrays that are there
/// already stay. JAX: `jax.device_put`.
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_runtime::{device_put, jit};
///
/// let double = jit(|x: Tensor| x * 2.0);
/// let x = device_put(&Tensor::scalar(4.0f32))?;
/// // Programs that are called here do not wait for the copy.
/// assert_eq!(double.call(x.get()?)?.item::<f32>()?, 8.0);
/// # Ok::<(), fulgurite_jit::Error>(())
/// ```
///
/// # Errors
/// When the device cannot be opened, does not have the memory, or fails; when a leaf has no data.
pub fn device_put<T: Tree>(tree: &T) -> Result<Transfer<T>> {
    put_on(&current()?, tree)
}

/// [`device_put`], to this device.
fn put_on<T: Tree>(device: &Opened, tree: &T) -> Result<Transfer<T>> {
    let arrays = arrays(tree)?;
    let from_host = |x: &&Array| x.device() == Device::Cpu;
    let (copies, upload) = match device {
        Opened::Other(other) if arrays.iter().any(|x| from_host(&x)) => {
            let sources: Vec<&Array> = arrays.iter().filter(from_host).collect();
            let (copies, upload) = other.clone().put_ahead(&sources)?;
            (copies, Some(upload))
        }
        Opened::Cpu | Opened::Other(_) => (Vec::new(), None),
    };
    let mut copies = copies.into_iter();
    let place = |x: &Array| match upload.is_some() && from_host(&x) {
        true => copies.next().map_or_else(|| device.put(x), Ok),
        false => device.put(x),
    };
    let placed = arrays.iter().map(place).collect::<Result<Vec<_>>>()?;
    Ok(Transfer { tree: unflatten(tree, placed.into_iter().map(Tensor::from)), upload })
}

/// The arrays of a tree.
fn arrays<T: Tree>(tree: &T) -> Result<Vec<Array>> {
    leaves(tree).into_iter().map(Tensor::into_array).collect()
}

/// A tree on its way to a device: [`device_put`].
pub struct Transfer<T> {
    tree: T,
    upload: Option<Box<dyn Upload>>,
}

impl<T> Transfer<T> {
    /// The tree on the device. Programs that are called from now on run when it is there; the host does not wait.
    ///
    /// # Errors
    /// When the device fails.
    pub fn get(self) -> Result<T> {
        if let Some(upload) = self.upload {
            upload.before_programs()?;
        }
        Ok(self.tree)
    }
}

/// Starts to copy the arrays of a tree to the host, and returns. They are read as they are now, whatever is called
/// later, and their memory is free at once. JAX: `jax.Array.copy_to_host_async`.
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_runtime::{copy_to_host_async, jit};
///
/// let y = jit(|x: Tensor| x * 2.0).call(Tensor::scalar(4.0f32))?;
/// let y = copy_to_host_async(&y);
/// // The host works on.
/// assert_eq!(y.get()?.item::<f32>()?, 8.0);
/// # Ok::<(), fulgurite_jit::Error>(())
/// ```
pub fn copy_to_host_async<T: Tree>(tree: &T) -> HostCopy<T> {
    // Where no copy can be started, the arrays are kept: who reads them waits, or learns why.
    let kept = || HostCopy { tree: tree.map(&mut Tensor::clone), download: None };
    let Ok(arrays) = arrays(tree) else { return kept() };
    let Some(device) = arrays.first().and_then(holder) else { return kept() };
    let Ok(download) = device.fetch(&arrays.iter().collect::<Vec<_>>()) else { return kept() };
    let nothing = Tensor::scalar(0.0f32);
    HostCopy { tree: unflatten(tree, arrays.iter().map(|_| nothing.clone())), download: Some(download) }
}

/// A tree on its way to the host: [`copy_to_host_async`].
pub struct HostCopy<T> {
    /// The tree, or one of its structure, whose arrays are copied.
    tree: T,
    download: Option<Box<dyn Download>>,
}

impl<T> fmt::Debug for HostCopy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostCopy")
    }
}

impl<T: Tree> HostCopy<T> {
    /// Is it there? JAX: `jax.Array.is_ready`.
    ///
    /// # Errors
    /// When the device fails.
    pub fn is_ready(&self) -> Result<bool> {
        self.download.as_ref().map_or(Ok(true), |download| download.is_ready())
    }

    /// The tree on the host. Waits for it. A tree that is there already, or could not be copied, is given as it is.
    ///
    /// # Errors
    /// When the device fails, or the host has no memory for it.
    pub fn get(&self) -> Result<T> {
        Ok(match &self.download {
            Some(download) => unflatten(&self.tree, download.wait()?.into_iter().map(Tensor::from)),
            None => self.tree.map(&mut Tensor::clone),
        })
    }
}

/// The elements of an iterator on the device of [`with_device`](crate::with_device) at this call. On a GPU the next
/// `size` are on their way there while programs run; on the processor each is taken when it is asked for. 2 is enough
/// for a loop of steps: one that is used and one that is copied. An element that cannot be copied ahead is given as it
/// is, and copied by the program that takes it. flax: `flax.jax_utils.prefetch_to_device`.
///
/// ```
/// use fulgurite_jit::Tensor;
/// use fulgurite_runtime::{jit, prefetch_to_device};
///
/// let square = jit(|x: Tensor| &x * &x);
/// let batches = (0..4).map(|i| Ok(Tensor::scalar(i as f32)));
/// for (i, batch) in prefetch_to_device(batches, 2)?.enumerate() {
///     assert_eq!(square.call(batch?)?.item::<f32>()?, (i * i) as f32);
/// }
/// # Ok::<(), fulgurite_jit::Error>(())
/// ```
///
/// # Errors
/// When the device cannot be opened.
pub fn prefetch_to_device<T: Tree, I: IntoIterator<Item = Result<T>>>(
    iterator: I,
    size: usize,
) -> Result<PrefetchToDevice<T, I::IntoIter>> {
    let device = current()?;
    let size = if matches!(device, Opened::Cpu) { 0 } else { size };
    Ok(PrefetchToDevice { elements: iterator.into_iter().fuse(), device, ahead: VecDeque::new(), size })
}

/// An iterator whose elements are on their way to a device: [`prefetch_to_device`].
pub struct PrefetchToDevice<T, I> {
    elements: Fuse<I>,
    device: Opened,
    ahead: VecDeque<Result<Transfer<T>>>,
    /// How many are on their way.
    size: usize,
}

impl<T: Tree, I: Iterator<Item = Result<T>>> PrefetchToDevice<T, I> {
    /// Takes elements of the iterator until `size` are on their way. [`Iterator::next`] does it too; a loop calls this
    /// after a program, so that the program does not start later by the time that it takes.
    pub fn fill(&mut self) {
        // What follows an error is not looked at before the error is.
        while self.ahead.len() < self.size && !matches!(self.ahead.back(), Some(Err(_))) {
            let Some(element) = self.elements.next() else { break };
            self.ahead.push_back(element.map(|tree| match put_on(&self.device, &tree) {
                Ok(transfer) => transfer,
                Err(_) => Transfer { tree, upload: None },
            }));
        }
    }
}

impl<T: Tree, I: Iterator<Item = Result<T>>> Iterator for PrefetchToDevice<T, I> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        if self.size == 0 {
            return self.elements.next();
        }
        self.fill();
        Some(self.ahead.pop_front()?.and_then(Transfer::get))
    }
}
