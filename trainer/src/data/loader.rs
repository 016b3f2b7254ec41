//! Batches of a dataset, in an order that depends on nothing but the seed and the epoch.

use std::sync::Arc;

use fulgurite_jit::{Error, Result, Tree};

use super::order::{Order, TABLE};
use super::{BatchBuffers, Dataset};

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

    /// Another random order in every epoch? Up to 65,536 examples are shuffled; where there are more, each place is computed
    /// as it is needed, so that neither the start of an epoch nor its memory grows with them.
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
        self.batches_of(self.examples())
    }

    fn batches_of(&self, examples: usize) -> usize {
        match (self.batch_size, self.drop_last) {
            (0, _) => 0,
            (size, true) => examples / size,
            (size, false) => examples.div_ceil(size),
        }
    }

    /// The examples of an epoch in their order: a pure function of the seed and the epoch. A random order of at most 65,536
    /// examples is kept as a list (256 KiB); of any other, nothing is stored.
    pub fn order(&self, epoch: usize) -> impl ExactSizeIterator<Item = usize> + use<B> {
        let order = self.order_of(self.examples(), epoch);
        (0..order.examples()).map(move |place| order.at(place))
    }

    fn order_of(&self, examples: usize, epoch: usize) -> Order {
        Order::new(examples, self.shuffle.then_some(self.seed), epoch)
    }

    /// The batches of epoch 0; [`Batches::seek`] goes elsewhere.
    ///
    /// # Errors
    /// When there would be none: an empty dataset, a batch size of 0, or one that `drop_last` lets nothing fill. And when
    /// the dataset has 2³² examples or more.
    pub fn iter(&self) -> Result<Batches<B>> {
        let examples = self.examples();
        let why = if examples == 0 {
            "the dataset is empty".to_string()
        } else if self.batch_size == 0 {
            "the batch size is 0; set one with `.batch_size(n)`".to_string()
        } else if self.batches_of(examples) == 0 {
            format!("{examples} examples do not fill a batch of {}, and `drop_last` drops it", self.batch_size)
        } else if u32::try_from(examples).is_err() {
            format!("{examples} examples are more than the 2³² - 1 that a loader can count")
        } else {
            let order = self.order_of(examples, 0);
            let (indices, memory) = (Vec::new(), BatchBuffers::default());
            return Ok(Batches { loader: self.clone(), order, indices, epoch: 0, next: 0, memory });
        };
        Err(Error::new(format!("data loader: {why}")))
    }

    /// What the batches depend on: two loaders that describe themselves alike give the same ones.
    pub(crate) fn fingerprint(&self) -> String {
        let DataLoader { batch_size, shuffle, drop_last, seed, .. } = self;
        let examples = self.examples();
        let how = if *shuffle && examples > TABLE { " (by a network)" } else { "" };
        format!(
            "{examples} examples, batch_size {batch_size}, shuffle {shuffle}{how}, drop_last {drop_last}, seed {seed}"
        )
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
    order: Order,
    /// The examples of the batch at hand.
    indices: Vec<u32>,
    epoch: usize,
    next: usize,
    memory: BatchBuffers,
}

impl<B: Tree + Clone> Batches<B> {
    /// Goes to batch `batch` of epoch `epoch`; both count from 0.
    pub fn seek(&mut self, epoch: usize, batch: usize) {
        if epoch != self.epoch {
            self.order.go_to(epoch);
        }
        (self.epoch, self.next) = (epoch, batch);
    }
}

/// Each batch with the number of its examples.
impl<B: Tree + Clone> Iterator for Batches<B> {
    type Item = Result<(B, usize)>;

    fn next(&mut self) -> Option<Result<(B, usize)>> {
        // As many as there were at first, whatever the dataset says by now.
        let examples = self.order.examples();
        if self.next >= self.loader.batches_of(examples) {
            return None;
        }
        let size = self.loader.batch_size;
        let start = self.next * size;
        let end = start.saturating_add(size).min(examples);
        self.indices.clear();
        self.indices.extend((start..end).map(|place| self.order.at(place) as u32));
        self.memory.start_batch();
        let batch = self.loader.dataset.gather(&self.indices, &mut self.memory);
        let named = batch.map_err(|e| e.context(format!("batch {} of epoch {}", self.next, self.epoch)));
        self.next += 1;
        Some(named.map(|batch| (batch, end - start)))
    }
}
