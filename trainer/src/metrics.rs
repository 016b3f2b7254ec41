//! Metrics: what steps log, on its way to the host, and the latest value of each name there.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, OnceLock};

use fulgurite_jit::{Array, Result, Tensor, Tree};
use fulgurite_runtime::{HostCopy, copy_to_host_async};
use serde_json::{Value, json};

/// A scalar that a step has logged. The name is structure: each call of the program returns the one it was traced with.
#[derive(Clone, Debug, Tree)]
pub(crate) struct Metric {
    #[tree(static)]
    pub(crate) name: Arc<str>,
    pub(crate) value: Tensor,
}

/// The latest value of each metric, in the order in which they were first logged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<Entry>);

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    name: Arc<str>,
    value: f64,
    epoch: usize,
    /// The steps that had been taken when it was logged.
    step: usize,
}

impl Metrics {
    /// The latest value under `name`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.find(name).map(|entry| entry.value)
    }

    /// The value under `name` if it was logged in `epoch`.
    pub fn get_of_epoch(&self, name: &str, epoch: usize) -> Option<f64> {
        self.find(name).filter(|entry| entry.epoch == epoch).map(|entry| entry.value)
    }

    /// The value under `name` if it was logged after `step`, the last one.
    pub(crate) fn get_of_step(&self, name: &str, step: usize) -> Option<f64> {
        self.find(name).filter(|entry| entry.step == step).map(|entry| entry.value)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|entry| (&*entry.name, entry.value))
    }

    /// The names, for messages: `loss, acc`.
    pub fn names(&self) -> String {
        self.iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ")
    }

    /// Sets the value under `name`, as logged in `epoch` after `step` steps.
    pub(crate) fn set(&mut self, name: &Arc<str>, value: f64, epoch: usize, step: usize) {
        match self.0.iter_mut().find(|entry| entry.name == *name) {
            Some(entry) => (entry.value, entry.epoch, entry.step) = (value, epoch, step),
            None => self.0.push(Entry { name: name.clone(), value, epoch, step }),
        }
    }

    fn set_all(&mut self, values: &[(Arc<str>, f64)], epoch: usize, step: usize) {
        for (name, value) in values {
            self.set(name, *value, epoch, step);
        }
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        self.0.iter().find(|entry| &*entry.name == name)
    }

    /// For a checkpoint.
    pub(crate) fn to_json(&self) -> Value {
        let entry = |entry: &Entry| json!([&*entry.name, float_to_json(entry.value), entry.epoch, entry.step]);
        Value::Array(self.0.iter().map(entry).collect())
    }

    /// From a checkpoint; `None` where [`Metrics::to_json`] did not write it.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let entry = |entry: &Value| {
            let name = entry.get(0)?.as_str()?.into();
            let count = |i: usize| Some(entry.get(i)?.as_u64()? as usize);
            Some(Entry { name, value: float_from_json(entry.get(1)?)?, epoch: count(2)?, step: count(3).unwrap_or(0) })
        };
        value.as_array()?.iter().map(entry).collect::<Option<_>>().map(Metrics)
    }
}

impl fmt::Display for Metrics {
    /// `loss=0.1234 acc=0.9750`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (name, value)) in self.iter().enumerate() {
            let gap = if i > 0 { " " } else { "" };
            write!(f, "{gap}{name}={}", Short(value))?;
        }
        Ok(())
    }
}

/// A number in few characters, for display.
pub(crate) struct Short(pub(crate) f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Short(value) = *self;
        if value.is_finite() && value != 0.0 && !(1e-3..1e5).contains(&value.abs()) {
            write!(f, "{value:.2e}")
        } else {
            write!(f, "{value:.4}")
        }
    }
}

impl FromIterator<(Arc<str>, f64)> for Metrics {
    /// As logged in epoch 0. Of equal names the last is kept.
    fn from_iter<I: IntoIterator<Item = (Arc<str>, f64)>>(values: I) -> Self {
        let mut metrics = Metrics::default();
        for (name, value) in values {
            metrics.set(&name, value, 0, 0);
        }
        metrics
    }
}

/// Reads what a step has logged, which waits for the device.
pub(crate) fn read(metrics: &[Metric]) -> Result<Named> {
    let value = |metric: &Metric| {
        let values = metric.value.array().and_then(Array::to_f64_vec);
        let values = values.map_err(|e| e.context(format!("the metric `{}`", metric.name)))?;
        Ok((metric.name.clone(), values.first().copied().unwrap_or(f64::NAN)))
    };
    metrics.iter().map(value).collect()
}

/// Names and values.
pub(crate) type Named = Vec<(Arc<str>, f64)>;

/// What was logged after a step.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) step: usize,
    pub(crate) epoch: usize,
    /// Do loggers get it?
    pub(crate) is_logged: bool,
    pub(crate) values: Values,
}

/// Names and values, here or on their way.
#[derive(Debug)]
pub(crate) enum Values {
    /// On the host.
    Read(Named),
    /// On their way there.
    Copied(HostCopy<Vec<Metric>>),
}

impl Values {
    /// Starts to read what a step has logged.
    pub(crate) fn of(metrics: Vec<Metric>) -> Self {
        Values::Copied(copy_to_host_async(&metrics))
    }

    fn is_ready(&self) -> Result<bool> {
        match self {
            Values::Read(_) => Ok(true),
            Values::Copied(copy) => copy.is_ready(),
        }
    }

    /// Waits for them.
    pub(crate) fn get(&self) -> Result<Named> {
        match self {
            Values::Read(values) => Ok(values.clone()),
            Values::Copied(copy) => read(&copy.get()?),
        }
    }
}

/// The latest metrics of a run, of which the last records may be on their way to the host. The host waits for them when
/// it looks.
#[derive(Debug, Default)]
pub(crate) struct History {
    metrics: Metrics,
    on_the_way: VecDeque<Record>,
    /// The metrics with those on the way, once they were looked at.
    seen: OnceLock<Metrics>,
}

impl History {
    /// Nothing is on the way.
    pub(crate) fn new(metrics: Metrics) -> Self {
        History { metrics, ..History::default() }
    }

    /// Adds a record.
    pub(crate) fn push(&mut self, record: Record) {
        self.seen.take();
        self.on_the_way.push_back(record);
    }

    /// Takes the next record with its values, if they are there, or else, where `waits` says so, when they are.
    ///
    /// # Errors
    /// When a metric has no value, or the device fails.
    pub(crate) fn pop(&mut self, waits: bool) -> Result<Option<(Record, Named)>> {
        let (Some(first), Some(last)) = (self.on_the_way.front(), self.on_the_way.back()) else { return Ok(None) };
        if !first.values.is_ready()? {
            if !waits {
                return Ok(None);
            }
            // It comes after all others: the host waits once.
            last.values.get()?;
        }
        let values = first.values.get()?;
        self.metrics.set_all(&values, first.epoch, first.step);
        self.seen.take();
        Ok(self.on_the_way.pop_front().map(|record| (record, values)))
    }

    /// The latest value of each metric. While a record on the way cannot be read, those that were taken before; who
    /// takes it gets the error.
    pub(crate) fn latest(&self) -> &Metrics {
        if self.on_the_way.is_empty() {
            return &self.metrics;
        }
        if let Some(seen) = self.seen.get() {
            return seen;
        }
        let mut metrics = self.metrics.clone();
        for Record { step, epoch, values, .. } in &self.on_the_way {
            let Ok(values) = values.get() else { return &self.metrics };
            metrics.set_all(&values, *epoch, *step);
        }
        self.seen.get_or_init(|| metrics)
    }
}

/// Batches whose metrics may be on their way: the next one waits for the first of them. So many steps keep a device
/// busy, and bound the memory of the copies.
const ON_THE_WAY: usize = 64;

/// The mean of each metric over batches, weighted by their examples.
#[derive(Debug, Default)]
pub(crate) struct WeightedMean {
    /// On their way, so that the loop over the batches does not wait.
    batches: VecDeque<(Values, usize)>,
    /// Of the batches before: the names, the weighted sums, and the weights.
    sums: Vec<(Arc<str>, f64, f64)>,
}

impl WeightedMean {
    /// Adds a batch, and takes those that are there.
    pub(crate) fn add(&mut self, metrics: Vec<Metric>, examples: usize) -> Result<()> {
        self.batches.push_back((Values::of(metrics), examples));
        while let Some((values, examples)) = self.batches.front() {
            if self.batches.len() <= ON_THE_WAY && !values.is_ready()? {
                break;
            }
            let (values, examples) = (values.get()?, *examples);
            self.take(values, examples);
            self.batches.pop_front();
        }
        Ok(())
    }

    fn take(&mut self, values: Named, examples: usize) {
        let weight = examples as f64;
        for (name, value) in values {
            match self.sums.iter_mut().find(|(known, ..)| *known == name) {
                Some((_, sum, weights)) => (*sum, *weights) = (*sum + weight * value, *weights + weight),
                None => self.sums.push((name, weight * value, weight)),
            }
        }
    }

    pub(crate) fn finish(mut self) -> Result<Named> {
        if let Some((last, _)) = self.batches.back() {
            // It comes after all others: the host waits once.
            last.get()?;
        }
        for (values, examples) in std::mem::take(&mut self.batches) {
            self.take(values.get()?, examples);
        }
        Ok(self.sums.into_iter().map(|(name, sum, weights)| (name, sum / weights)).collect())
    }
}

/// A float as a JSON string, which keeps every bit, NaN and infinities.
pub(crate) fn float_to_json(value: f64) -> Value {
    Value::String(value.to_string())
}

/// What [`float_to_json`] wrote.
pub(crate) fn float_from_json(value: &Value) -> Option<f64> {
    value.as_str()?.parse().ok()
}
