//! MNIST, from its four files.

use std::path::{Path, PathBuf};

use fulgurite_jit::{Error, Result, Tensor};
use ndarray::{Array1, Array2};

use super::{ArrayDataset, DataLoader, DataModule, Dataset, read_idx};

/// The handwritten digits: batches of (f32\[batch, 784\] in 0..=1, i32\[batch\] labels).
///
/// The folder holds the four files of the data set, plain or with `.gz`: `train-images-idx3-ubyte`,
/// `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`. Training is on the 60,000, shuffled,
/// validation on the 10,000. Where there are only the two `t10k` files, training is on the first nine tenths of those,
/// validation on the rest.
///
/// ```
/// use fulgurite_trainer::data::MnistData;
/// let data = MnistData::new("data/mnist").batch_size(64);
/// ```
#[derive(Clone, Debug)]
pub struct MnistData {
    folder: PathBuf,
    batch_size: usize,
    seed: u64,
    drop_last: bool,
}

type Digits = ArrayDataset<(Tensor, Tensor)>;

impl MnistData {
    /// The data in this folder, in batches of 64. The files are read when a run starts.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        MnistData { folder: folder.into(), batch_size: 64, seed: 0, drop_last: false }
    }

    /// Examples per batch, of training and validation.
    pub fn batch_size(self, batch_size: usize) -> Self {
        MnistData { batch_size, ..self }
    }

    /// The seed of the order of the training examples.
    pub fn seed(self, seed: u64) -> Self {
        MnistData { seed, ..self }
    }

    /// Whether the last batch of a training epoch is dropped where it is smaller.
    pub fn drop_last(self, drop_last: bool) -> Self {
        MnistData { drop_last, ..self }
    }

    fn read(&self, part: &str) -> Result<Digits> {
        let images = read_idx(self.find(&format!("{part}-images-idx3-ubyte"))?)?;
        let labels = read_idx(self.find(&format!("{part}-labels-idx1-ubyte"))?)?;
        let Some(&examples) = images.shape().first() else {
            return Err(Error::new("MNIST: the images have no axis of examples").context(self.folder.display()));
        };
        let pixels = images.len().checked_div(examples).unwrap_or(0);
        let images: Vec<f32> = images.into_iter().map(|pixel| f32::from(pixel) / 255.0).collect();
        let images = Array2::from_shape_vec((examples, pixels), images).map_err(|e| Error::new(e.to_string()))?;
        let labels: Array1<i32> = labels.into_iter().map(i32::from).collect();
        ArrayDataset::new((images, labels)).map_err(|e| e.context(self.folder.display()))
    }

    /// The file of this name, or with `.gz`.
    fn find(&self, name: &str) -> Result<PathBuf> {
        let candidates = [self.folder.join(name), self.folder.join(format!("{name}.gz"))];
        candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| missing(&self.folder, name))
    }

    fn has_training_files(&self) -> bool {
        self.find("train-images-idx3-ubyte").is_ok() || self.find("t10k-images-idx3-ubyte").is_err()
    }
}

fn missing(folder: &Path, name: &str) -> Error {
    let place = if folder.is_dir() { "the folder has no such file" } else { "there is no such folder" };
    Error::new(format!(
        "MNIST: {} ({place}): put `{name}` or `{name}.gz` there, and the other files of the data set beside it \
         (train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte)",
        folder.display()
    ))
}

impl DataModule for MnistData {
    type Batch = (Tensor, Tensor);

    fn train_dataloader(&self) -> Result<DataLoader<Self::Batch>> {
        let digits = if self.has_training_files() {
            self.read("train")?
        } else {
            let all = self.read("t10k")?;
            let examples = all.len();
            all.slice(0..examples / 10 * 9)?
        };
        let loader = DataLoader::new(digits).batch_size(self.batch_size).shuffle(true);
        Ok(loader.seed(self.seed).drop_last(self.drop_last))
    }

    fn val_dataloader(&self) -> Result<Option<DataLoader<Self::Batch>>> {
        let all = self.read("t10k")?;
        let examples = all.len();
        let digits = if self.has_training_files() { all } else { all.slice(examples / 10 * 9..examples)? };
        Ok(Some(DataLoader::new(digits).batch_size(self.batch_size)))
    }
}
