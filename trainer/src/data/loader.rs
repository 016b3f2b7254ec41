//! Batches of a dataset, in an order that depends on nothing but the seed and the epoch.

use std::sync::Arc;

use fulgurite_jit::{Error, Result, Tree};

use super::{Dataset, Memory};

/// Gives the examples of a dataset in batches. Cloning is cheap, the data is shared.
///
/// Batches of two sizes (the last may be smaller) mean that a step is compiled twice; `drop_last` avoids it.
#[derive(Clone)]
pub struct DataLoader<B> {
    dataset: Arc<dyn Dataset<Batch = B>>,
    batch_size: usize,
    shuffle: bool,
    drop_last: bool,
    seed: u64,
}

impl<B: Tree + Clone> DataLoader<B> {
    /// Batches of one example, in order, until the builder methods say otherwise.
    pub fn new(dataset: impl Dataset<Batch = B> + 'static) -> Self {
        DataLoader { dataset: Arc::new(dataset), batch_size: 1, shuffle: false, drop_last: false, seed: 0 }
    }

    /// Examples per batch.
    pub fn batch_size(self, batch_size: usize) -> Self {
        DataLoader { batch_size, ..self }
    }

    /// Another random order in every epoch?
    pub fn shuffle(self, shuffle: bool) -> Self {
        DataLoader { shuffle, ..self }
    }

    /// The seed of the random orders.
    pub fn seed(self, seed: u64) -> Self {
        DataLoader { seed, ..self }
    }

    /// Leave out the last batch of an epoch where it is smaller than the others?
    pub fn drop_last(self, drop_last: bool) -> Self {
        DataLoader { drop_last, ..self }
    }

    /// How many examples the dataset has.
    pub fn examples(&self) -> usize {
        self.dataset.len()
    }

    /// How many batches an epoch has.
    pub fn batches(&self) -> usize {
        match (self.batch_size, self.drop_last) {
            (0, _) => 0,
            (size, true) => self.examples() / size,
            (size, false) => self.examples().div_ceil(size),
        }
    }

    /// The order of the examples in an epoch: a pure function of the seed and the epoch.
    pub fn order(&self, epoch: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.examples() as u32).collect();
        if self.shuffle {
            shuffle(&mut order, self.seed, epoch as u64);
        }
        order
    }

    /// The batches of epoch 0; [`Batches::seek`] goes elsewhere.
    ///
    /// # Errors
    /// When there would be none: an empty dataset, a batch size of 0, or one that `drop_last` lets nothing fill.
    pub fn iter(&self) -> Result<Batches<B>> {
        let examples = self.examples();
        let why = if examples == 0 {
            "the dataset is empty".to_string()
        } else if self.batch_size == 0 {
            "the batch size is 0; set one with `.batch_size(n)`".to_string()
        } else if self.batches() == 0 {
            format!("{examples} examples do not fill a batch of {}, and `drop_last` drops it", self.batch_size)
        } else if u32::try_from(examples).is_err() {
            format!("{examples} examples are more than the 2³² - 1 that a loader can count")
        } else {
            let order = self.order(0);
            return Ok(Batches { loader: self.clone(), order, epoch: 0, next: 0, memory: Memory::default() });
        };
        Err(Error::new(format!("data loader: {why}")))
    }

    /// What the batches depend on: two loaders that describe themselves alike give the same ones.
    pub(crate) fn describe(&self) -> String {
        let DataLoader { batch_size, shuffle, drop_last, seed, .. } = self;
        let examples = self.examples();
        format!("{examples} examples, batch_size {batch_size}, shuffle {shuffle}, drop_last {drop_last}, seed {seed}")
    }
}

impl<B: Tree + Clone> std::fmt::Debug for DataLoader<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataLoader({} examples, batch_size {})", self.dataset.len(), self.batch_size)
    }
}

/// The batches of an epoch, from a position on.
pub struct Batches<B> {
    loader: DataLoader<B>,
    order: Vec<u32>,
    epoch: usize,
    next: usize,
    memory: Memory,
}

impl<B: Tree + Clone> Batches<B> {
    /// Goes to batch `batch` of epoch `epoch`; both count from 0.
    pub fn seek(&mut self, epoch: usize, batch: usize) {
        if epoch != self.epoch && self.loader.shuffle {
            // In place: an epoch may be a few microseconds long.
            self.order.clear();
            self.order.extend(0..self.loader.examples() as u32);
            shuffle(&mut self.order, self.loader.seed, epoch as u64);
        }
        (self.epoch, self.next) = (epoch, batch);
    }
}

/// Each batch with the number of its examples.
impl<B: Tree + Clone> Iterator for Batches<B> {
    type Item = Result<(B, usize)>;

    fn next(&mut self) -> Option<Result<(B, usize)>> {
        if self.next >= self.loader.batches() {
            return None;
        }
        let size = self.loader.batch_size;
        let start = self.next * size;
        let indices = &self.order[start..(start + size).min(self.order.len())];
        self.memory.start_batch();
        let batch = self.loader.dataset.gather(indices, &mut self.memory);
        let named = batch.map_err(|e| e.context(format!("batch {} of epoch {}", self.next, self.epoch)));
        self.next += 1;
        Some(named.map(|batch| (batch, indices.len())))
    }
}

/// Fisher and Yates' shuffle with the random numbers of (seed, epoch).
fn shuffle(order: &mut [u32], seed: u64, epoch: u64) {
    // Hashed twice, so that (seed, epoch + 1) is not (seed + 1, epoch).
    let mut state = mix(mix(seed).wrapping_add(epoch));
    for i in (1..order.len()).rev() {
        state = state.wrapping_add(GOLDEN);
        // The high half of a product scales 64 random bits to 0..=i; the bias is below 2⁻³².
        let j = ((u128::from(mix(state)) * (i as u128 + 1)) >> 64) as usize;
        order.swap(i, j);
    }
}

/// 2⁶⁴ / φ, the step of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators").
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's output function.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
