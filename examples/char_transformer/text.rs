//! A text as numbered letters, in windows: what stands in one, and the same one letter later.

use std::path::Path;

use fulgurite::prelude::*;
use fulgurite::trainer::ndarray::Array2;

/// Letters from one window of the training text to the next.
const STRIDE: usize = 24;

/// The windows of a text: nine tenths to train on, the end to validate.
pub(crate) struct Text {
    /// What is there, by number; the line break is first.
    pub(crate) alphabet: Vec<char>,
    train: DataLoader<(Tensor, Tensor)>,
    val: DataLoader<(Tensor, Tensor)>,
}

impl Text {
    /// # Errors
    /// If the file cannot be read, or is too short for a batch of windows.
    pub(crate) fn read(path: &Path, context: usize, batch_size: usize, seed: u64) -> Result<Text> {
        let at = |why: &dyn std::fmt::Display| Error::new(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|e| at(&e))?;
        let mut alphabet: Vec<char> = text.chars().chain(['\n']).filter(|&c| c != '\r').collect();
        alphabet.sort_unstable();
        alphabet.dedup();
        let line_break = alphabet.binary_search(&'\n').unwrap_or(0);
        alphabet[..=line_break].rotate_right(1);
        let number: std::collections::HashMap<char, i32> = alphabet.iter().copied().zip(0..).collect();
        let letters: Vec<i32> = text.chars().filter_map(|c| number.get(&c).copied()).collect();

        let (train, val) = letters.split_at(letters.len() / 10 * 9);
        let windows = |letters: &[i32], stride: usize| {
            let starts: Vec<usize> = (0..letters.len().saturating_sub(context)).step_by(stride).collect();
            let windows =
                |later: usize| Array2::from_shape_fn((starts.len(), context), |(i, j)| letters[starts[i] + j + later]);
            ArrayDataset::new((windows(0), windows(1)))
        };
        let (train, val) = (windows(train, STRIDE)?, windows(val, context)?);
        let [train, val] = [train, val].map(|data| DataLoader::new(data).batch_size(batch_size).drop_last(true));
        if train.batches() == 0 || val.batches() == 0 {
            let why = format!(
                "{} letters are not enough for windows of {context} and batches of {batch_size}",
                letters.len()
            );
            return Err(at(&why));
        }
        Ok(Text { alphabet, train: train.shuffle(true).seed(seed), val })
    }
}

impl DataModule for Text {
    type Batch = (Tensor, Tensor);

    fn train_dataloader(&self) -> Result<DataLoader<Self::Batch>> {
        Ok(self.train.clone())
    }

    fn val_dataloader(&self) -> Result<Option<DataLoader<Self::Batch>>> {
        Ok(Some(self.val.clone()))
    }
}
