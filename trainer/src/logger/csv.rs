//! `metrics.csv`.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fulgurite_jit::{Error, Result};

use super::Logger;

/// Writes `metrics.csv` into the folder of the run: one row per logged group of values, with step, epoch and a column
/// per metric, empty where it was not logged. A metric named `step` or `epoch` has the column `step (metric)` or
/// `epoch (metric)`.
#[derive(Debug, Default)]
pub struct CsvLogger {
    file: Option<Table>,
}

impl CsvLogger {
    /// A logger for one run.
    pub fn new() -> Self {
        CsvLogger::default()
    }
}

/// A copy has not started.
impl Clone for CsvLogger {
    fn clone(&self) -> Self {
        CsvLogger::new()
    }
}

impl Logger for CsvLogger {
    fn start(&mut self, folder: &Path) -> Result<()> {
        self.file = Some(Table::create(folder.join("metrics.csv"))?);
        Ok(())
    }

    fn log(&mut self, step: usize, epoch: usize, metrics: &[(Arc<str>, f64)]) -> Result<()> {
        match &mut self.file {
            Some(table) => table.row(step, epoch, metrics),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.file.as_mut().map_or(Ok(()), Table::flush)
    }
}

/// A CSV file to which columns can be added.
#[derive(Debug)]
struct Table {
    path: PathBuf,
    columns: Vec<Arc<str>>,
    writer: csv::Writer<File>,
    flushed: Instant,
}

/// The longest time for which rows stay in memory: what a reader, or a crash, may miss.
const STALE: Duration = Duration::from_secs(1);

impl Table {
    fn create(path: PathBuf) -> Result<Self> {
        let columns = vec![Arc::from("step"), Arc::from("epoch")];
        let file = File::create(&path).map_err(|e| failed(&path, e))?;
        let mut table = Table { path, columns, writer: csv::Writer::from_writer(file), flushed: Instant::now() };
        table.write(|writer, columns| writer.write_record(columns.iter().map(|name| name.as_bytes())))?;
        Ok(table)
    }

    fn row(&mut self, step: usize, epoch: usize, metrics: &[(Arc<str>, f64)]) -> Result<()> {
        let metrics: Vec<(Arc<str>, f64)> = metrics.iter().map(|(name, value)| (column(name), *value)).collect();
        let mut new: Vec<Arc<str>> = Vec::new();
        for (name, _) in &metrics {
            if !self.columns.contains(name) && !new.contains(name) {
                new.push(name.clone());
            }
        }
        if !new.is_empty() {
            self.add_columns(new)?;
        }
        self.write(|writer, columns| {
            let field = |name: &Arc<str>| match metrics.iter().rfind(|(logged, _)| logged == name) {
                Some((_, value)) => value.to_string(),
                None => String::new(),
            };
            let values = columns[2..].iter().map(field);
            writer.write_record([step.to_string(), epoch.to_string()].into_iter().chain(values))
        })?;
        if self.flushed.elapsed() > STALE {
            self.flush()?;
        }
        Ok(())
    }

    /// Rewrites the file with more columns, and renames the copy. Metrics of validation come later than those of
    /// training, so this happens once or twice in a run.
    fn add_columns(&mut self, new: Vec<Arc<str>>) -> Result<()> {
        self.flush()?;
        self.columns.extend(new);
        let wider = self.path.with_extension("csv.tmp");
        self.copy_to(&wider).map_err(|e| failed(&wider, e))?;
        fs::rename(&wider, &self.path).map_err(|e| failed(&self.path, e))?;
        let file = OpenOptions::new().append(true).open(&self.path).map_err(|e| failed(&self.path, e))?;
        self.writer = csv::Writer::from_writer(file);
        Ok(())
    }

    fn copy_to(&self, wider: &Path) -> std::result::Result<(), csv::Error> {
        let mut reader = csv::Reader::from_path(&self.path)?;
        let mut writer = csv::Writer::from_path(wider)?;
        writer.write_record(self.columns.iter().map(|name| name.as_bytes()))?;
        for record in reader.byte_records() {
            let mut record = record?;
            while record.len() < self.columns.len() {
                record.push_field(b"");
            }
            writer.write_byte_record(&record)?;
        }
        Ok(writer.flush()?)
    }

    fn write(
        &mut self,
        f: impl FnOnce(&mut csv::Writer<File>, &[Arc<str>]) -> std::result::Result<(), csv::Error>,
    ) -> Result<()> {
        f(&mut self.writer, &self.columns).map_err(|e| failed(&self.path, e))
    }

    fn flush(&mut self) -> Result<()> {
        self.flushed = Instant::now();
        self.writer.flush().map_err(|e| failed(&self.path, e))
    }
}

/// The column of a metric: its name, unless that is a column of the table itself.
fn column(name: &Arc<str>) -> Arc<str> {
    const METRIC: &str = " (metric)";
    // Names that already have the suffix get one more, so that no two metrics share a column.
    match name.trim_end_matches(METRIC) {
        "step" | "epoch" => format!("{name}{METRIC}").into(),
        _ => name.clone(),
    }
}

fn failed(path: &Path, e: impl std::fmt::Display) -> Error {
    Error::new(format!("cannot write {}: {e}", path.display()))
}
