//! A dataset over arrays in memory, whose first axis is that of the examples.

use fulgurite_jit::{Element, Error, Result, Tensor, TensorType, Tree, named_leaves};

use super::{BatchBuffers, Dataset};

/// Arrays that make a dataset: an `ndarray` or a tuple of them.
///
/// The batch has the same structure, with a [`Tensor`] for each array.
pub trait HostArrays {
    /// The form of a batch.
    type Batch: Tree + Clone + Send + Sync + 'static;

    /// Moves the memory of arrays in row-major order; others are copied.
    fn into_tensors(self) -> Self::Batch;
}

impl<T: Element, D: ndarray::Dimension> HostArrays for ndarray::Array<T, D> {
    type Batch = Tensor;

    fn into_tensors(self) -> Tensor {
        self.into()
    }
}

impl HostArrays for Tensor {
    type Batch = Tensor;

    fn into_tensors(self) -> Tensor {
        self
    }
}

macro_rules! tuples {
    ($(($($t:ident $i:tt),+);)+) => { $(
        impl<$($t: HostArrays),+> HostArrays for ($($t,)+) {
            type Batch = ($($t::Batch,)+);

            fn into_tensors(self) -> Self::Batch {
                ($(self.$i.into_tensors(),)+)
            }
        }
    )+ };
}
tuples! {
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
}

/// Examples as the rows of arrays: example `i` is row `i` of each.
///
/// ```
/// use fulgurite_trainer::{ArrayDataset, DataLoader};
/// use ndarray::{Array1, Array2};
///
/// # fn main() -> fulgurite_jit::Result<()> {
/// let (x, y) = (Array2::<f32>::zeros((100, 3)), Array1::<i32>::zeros(100));
/// let loader = DataLoader::new(ArrayDataset::new((x, y))?).batch_size(16).shuffle(true);
/// assert_eq!(loader.batches(), 7); // six of 16 and one of 4; each is (f32[16,3], i32[16])
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ArrayDataset<B> {
    arrays: B,
    len: usize,
}

impl<B: Tree + Clone + Send + Sync + 'static> ArrayDataset<B> {
    /// A dataset over these arrays.
    ///
    /// # Errors
    /// When the arrays have no first axis, or do not have the same number of rows.
    pub fn new(arrays: impl HostArrays<Batch = B>) -> Result<Self> {
        Self::from_tree(arrays.into_tensors())
    }

    /// A dataset over the leaves of any tree of tensors; a batch has the same structure.
    ///
    /// # Errors
    /// As [`ArrayDataset::new`], and when there is no leaf at all.
    pub fn from_tree(arrays: B) -> Result<Self> {
        let mut len = None;
        for (name, leaf) in named_leaves(&arrays) {
            let name = if name.is_empty() { "the array".into() } else { format!("array `{name}`") };
            leaf.array().map_err(|e| e.context(format!("dataset: {name}")))?;
            let Some(&rows) = leaf.shape().first() else {
                return Err(Error::new(format!("dataset: {name} is {}, it has no axis of examples", leaf.ty())));
            };
            match len {
                None => len = Some((name, rows)),
                Some((first, expected)) if expected != rows => {
                    return Err(Error::new(format!(
                        "dataset: {name} has {rows} examples ({}), but {first} has {expected}",
                        leaf.ty()
                    )));
                }
                Some(_) => {}
            }
        }
        let (_, len) = len.ok_or_else(|| Error::new("dataset: there is no array in it"))?;
        Ok(ArrayDataset { arrays, len })
    }

    /// The arrays, as tensors with all the examples.
    pub fn arrays(&self) -> &B {
        &self.arrays
    }

    /// The examples `range`, as a new dataset (copied).
    ///
    /// # Errors
    /// When the range does not lie within the examples.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Result<Self> {
        if range.start > range.end || range.end > self.len {
            return Err(Error::new(format!("dataset: there is no range {range:?} of {} examples", self.len)));
        }
        let index =
            |i: usize| u32::try_from(i).map_err(|_| Error::new(format!("dataset: example {i} is beyond 2³² - 1")));
        let indices: Vec<u32> = range.map(index).collect::<Result<_>>()?;
        Self::from_tree(self.gather(&indices, &mut BatchBuffers::default())?)
    }
}

impl<B: Tree + Clone + Send + Sync + 'static> Dataset for ArrayDataset<B> {
    type Batch = B;

    fn len(&self) -> usize {
        self.len
    }

    fn gather(&self, indices: &[u32], buffers: &mut BatchBuffers) -> Result<B> {
        if let Some(i) = indices.iter().find(|&&i| i as usize >= self.len) {
            return Err(Error::new(format!("dataset: there is no example {i}, there are {}", self.len)));
        }
        let mut failed = None;
        let batch = self.arrays.map(&mut |leaf| {
            gather_rows(leaf, indices, buffers).unwrap_or_else(|error| {
                failed = Some(error);
                leaf.clone()
            })
        });
        failed.map_or(Ok(batch), |error| Err(error.context("dataset")))
    }
}

fn gather_rows(leaf: &Tensor, indices: &[u32], buffers: &mut BatchBuffers) -> Result<Tensor> {
    let array = leaf.array()?;
    let mut ty = TensorType::new(array.ty().dtype, &array.ty().shape);
    ty.shape[0] = indices.len();
    let row = ty.bytes().checked_div(indices.len()).unwrap_or(0);
    let bytes = array.bytes()?;
    Ok(buffers.tensor(ty, |batch| match row {
        0 => {}
        // Labels and the like: a load and a store where the size is known, a call of memcpy where it is not.
        4 => copy_rows::<4>(batch, bytes, indices),
        8 => copy_rows::<8>(batch, bytes, indices),
        16 => copy_rows::<16>(batch, bytes, indices),
        _ => {
            for (to, &i) in batch.chunks_exact_mut(row).zip(indices) {
                let from = i as usize * row;
                to.copy_from_slice(&bytes[from..from + row]);
            }
        }
    }))
}

/// Copies rows of `ROW` bytes.
fn copy_rows<const ROW: usize>(to: &mut [u8], from: &[u8], indices: &[u32]) {
    let ((to, _), (from, _)) = (to.as_chunks_mut::<ROW>(), from.as_chunks::<ROW>());
    for (to, &i) in to.iter_mut().zip(indices) {
        *to = from[i as usize];
    }
}
