//! Batches of a dataset, in an order that depends only on the seed and the epoch.

use std::sync::Arc;

use fulgurite_jit::{Error, Result, Tree};

use super::Dataset;
use super::gather::Gather;
use super::order::{Order, TABLE};
use super::prefetch::Prefetch;

/// Gives the examples of a dataset in batches. A clone shares the data.
///
/// Batches of two sizes (the last may be smaller) mean that a step is compiled twice; `drop_last` avoids it.
#[derive(Clone)]
pub struct DataLoader<B> {
    dataset: Arc<dyn Dataset<Batch = B>>,
    batch_size: usize,
    shuffle: bool,
    drop_last: bool,
    seed: u64,
    prefetch: usize,
}

impl<B: Tree + Clone + Send + 'static> DataLoader<B> {
    /// Batches of one example, in order, until the builder methods say otherwise.
    pub fn new(dataset: impl Dataset<Batch = B> + 'static) -> Self {
        let dataset = Arc::new(dataset);
        DataLoader { dataset, batch_size: 1, shuffle: false, drop_last: false, seed: 0, prefetch: 0 }
    }

    /// Examples per batch.
    pub fn batch_size(self, batch_size: usize) -> Self {
        DataLoader { batch_size, ..self }
    }

    /// Whether each epoch has another random order. Up to 65,536 examples are shuffled in a table; with more, each
    /// place is computed when it is needed, so that time and memory at the start of an epoch do not grow with them.
    pub fn shuffle(self, shuffle: bool) -> Self {
        DataLoader { shuffle, ..self }
    }

    /// The seed of the random orders.
    pub fn seed(self, seed: u64) -> Self {
        DataLoader { seed, ..self }
    }

    /// Whether the last batch of an epoch is dropped where it is smaller than the others.
    pub fn drop_last(self, drop_last: bool) -> Self {
        DataLoader { drop_last, ..self }
    }

    /// Gathers up to `n` batches ahead, on a thread of the loader. The batches, their order and the exactness of a
    /// resumed run do not depend on it; an error or a panic of the dataset is the error of the batch. 0, unless set:
    /// the batch is gathered on the thread that asks for it, which is faster where that takes only a few microseconds,
    /// as with arrays in memory. Use it for datasets that read or decode files. There, ops on tensors run on the
    /// processor.
    pub fn prefetch(self, n: usize) -> Self {
        DataLoader { prefetch: n, ..self }
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

    /// The examples of an epoch in their order: a pure function of the seed and the epoch. A random order of at most
    /// 65,536 examples is a table (256 KiB); others are computed.
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
    /// When there is no batch (an empty dataset, a batch size of 0, or one that is larger than the dataset with
    /// `drop_last`), and when the dataset has 2³² examples or more.
    pub fn iter(&self) -> Result<Batches<B>> {
        let examples = self.examples();
        let reason = if examples == 0 {
            "the dataset is empty".to_string()
        } else if self.batch_size == 0 {
            "the batch size is 0; set one with `.batch_size(n)`".to_string()
        } else if self.batches_of(examples) == 0 {
            format!("{examples} examples do not fill a batch of {}, and `drop_last` drops it", self.batch_size)
        } else if u32::try_from(examples).is_err() {
            format!("{examples} examples are more than the 2³² - 1 that a loader can count")
        } else {
            return self.start(examples);
        };
        Err(Error::new(format!("data loader: {reason}")))
    }

    /// The batches of epoch 0 of so many examples.
    fn start(&self, examples: usize) -> Result<Batches<B>> {
        // With prefetching, the batches that are ready, the one in use and the one that is gathered hold their memory.
        let buffers = if self.prefetch > 0 { self.prefetch + 2 } else { 1 };
        let gather = Gather::new(self.dataset.clone(), self.batch_size, self.order_of(examples, 0), buffers);
        let count = self.batches_of(examples);
        let source = match self.prefetch {
            0 => Source::Here(gather),
            n => Source::Ahead(Prefetch::start(gather, n, count)?),
        };
        Ok(Batches { source, count, epoch: 0, next: 0 })
    }

    /// What the batches depend on: loaders with equal fingerprints give the same batches.
    pub(crate) fn fingerprint(&self) -> String {
        let DataLoader { batch_size, shuffle, drop_last, seed, .. } = self;
        let examples = self.examples();
        let how = if *shuffle && examples > TABLE { " (by a network)" } else { "" };
        format!(
            "{examples} examples, batch_size {batch_size}, shuffle {shuffle}{how}, drop_last {drop_last}, seed {seed}"
        )
    }
}

impl<B: Tree + Clone + Send + 'static> std::fmt::Debug for DataLoader<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataLoader({} examples, batch_size {})", self.dataset.len(), self.batch_size)
    }
}

/// The batches of an epoch, from a position on.
pub struct Batches<B> {
    source: Source<B>,
    /// The number of batches in an epoch. As it was at first, whatever the dataset says later.
    count: usize,
    epoch: usize,
    next: usize,
}

/// Where batches are gathered.
enum Source<B> {
    /// On the thread that asks for them.
    Here(Gather<B>),
    /// On a thread of the loader.
    Ahead(Prefetch<B>),
}

impl<B> Batches<B> {
    /// Goes to batch `batch` of epoch `epoch`; both count from 0.
    pub fn seek(&mut self, epoch: usize, batch: usize) {
        (self.epoch, self.next) = (epoch, batch);
        if let Source::Ahead(prefetch) = &mut self.source
            && batch < self.count
        {
            prefetch.request(epoch, batch);
        }
    }
}

/// Each batch with the number of its examples.
impl<B: Tree + Clone + Send + 'static> Iterator for Batches<B> {
    type Item = Result<(B, usize)>;

    fn next(&mut self) -> Option<Result<(B, usize)>> {
        if self.next >= self.count {
            return None;
        }
        let (epoch, batch) = (self.epoch, self.next);
        self.next += 1;
        Some(match &mut self.source {
            Source::Here(gather) => gather.batch(epoch, batch),
            Source::Ahead(prefetch) => prefetch.batch(epoch, batch),
        })
    }
}
