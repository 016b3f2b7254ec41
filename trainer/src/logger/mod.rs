//! Loggers: where the metrics of a run are written.

mod csv;

use std::path::Path;
use std::sync::Arc;

use fulgurite_jit::Result;

pub use csv::CsvLogger;

/// Takes the metrics of a run. An error ends the run.
pub trait Logger: Send {
    /// The run starts. Its files go into `folder`, which exists.
    ///
    /// # Errors
    /// When the logger's files cannot be created.
    fn start(&mut self, folder: &Path) -> Result<()>;

    /// Values that were logged together, at the end of step `step` (1 is the first) of epoch `epoch` (from 0).
    ///
    /// # Errors
    /// When they cannot be written.
    fn log(&mut self, step: usize, epoch: usize, metrics: &[(Arc<str>, f64)]) -> Result<()>;

    /// The run has ended: everything is to be written.
    ///
    /// # Errors
    /// When it cannot be written.
    fn finish(&mut self) -> Result<()>;
}
