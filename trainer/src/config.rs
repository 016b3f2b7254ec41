//! The settings of a run, as plain data: what [`Trainer`](crate::Trainer) builds and the fit loop reads.
//!
//! Not done here: callbacks and loggers, which have a state.

use std::path::{Component, Path, PathBuf};

use fulgurite_jit::{Error, Result};

use crate::accelerator::Accelerator;

/// The settings of a run.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) max_epochs: Option<usize>,
    pub(crate) max_steps: Option<usize>,
    pub(crate) limit_train_batches: Limit,
    pub(crate) limit_val_batches: Limit,
    pub(crate) fast_dev_run: Option<usize>,
    pub(crate) log_every_n_steps: usize,
    pub(crate) check_val_every_n_epoch: usize,
    pub(crate) num_sanity_val_steps: usize,
    pub(crate) seed: u64,
    pub(crate) accelerator: Accelerator,
    pub(crate) devices: usize,
    pub(crate) precision: Option<String>,
    pub(crate) enable_progress_bar: bool,
    pub(crate) default_root_dir: PathBuf,
    pub(crate) name: String,
    pub(crate) ckpt_path: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_epochs: None,
            max_steps: None,
            limit_train_batches: Limit::All,
            limit_val_batches: Limit::All,
            fast_dev_run: None,
            log_every_n_steps: 50,
            check_val_every_n_epoch: 1,
            num_sanity_val_steps: 2,
            seed: 0,
            accelerator: Accelerator::Auto,
            devices: 1,
            precision: None,
            enable_progress_bar: true,
            default_root_dir: "runs".into(),
            name: "default".into(),
            ckpt_path: None,
        }
    }
}

impl Config {
    /// The settings with what they imply filled in.
    ///
    /// # Errors
    /// When a setting is out of its range.
    pub(crate) fn checked(&self) -> Result<Self> {
        let mut config = self.clone();
        let counts = [
            (config.log_every_n_steps, "log_every_n_steps"),
            (config.check_val_every_n_epoch, "check_val_every_n_epoch"),
            (config.fast_dev_run.unwrap_or(1), "fast_dev_run"),
        ];
        if let Some((_, name)) = counts.iter().find(|(value, _)| *value == 0) {
            return Err(Error::new(format!("trainer: `{name}` is 0, it must be at least 1")));
        }
        if config.devices != 1 {
            return Err(Error::new(format!(
                "trainer: `devices` is {}; a run takes one device so far, which `accelerator` names",
                config.devices
            )));
        }
        let mut parts = Path::new(&config.name).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(Error::new(format!(
                "trainer: the name {:?} is not that of a folder below `default_root_dir`",
                config.name
            )));
        }
        if let Some(n) = config.fast_dev_run {
            config.max_epochs = Some(1);
            config.max_steps = Some(n);
            (config.limit_train_batches, config.limit_val_batches) = (n.into(), n.into());
            config.num_sanity_val_steps = 0;
        }
        if config.max_epochs.is_none() && config.max_steps.is_none() {
            config.max_epochs = Some(1000);
        }
        Ok(config)
    }

    /// The folder that holds the versions of this run.
    pub(crate) fn parent_dir(&self) -> PathBuf {
        self.default_root_dir.join(&self.name)
    }

    /// Does the run write files? One of `fast_dev_run` does not.
    pub(crate) fn persists(&self) -> bool {
        self.fast_dev_run.is_none()
    }
}

/// A limit on the batches of an epoch: a number or a fraction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// All of them.
    All,
    /// At most so many.
    Count(i64),
    /// This fraction, 0.0 to 1.0, rounded down, but to at least one batch where it is not 0.
    Fraction(f64),
}

impl Limit {
    /// How many of `batches`; `name` is the setting's, for error messages.
    pub(crate) fn of(self, batches: usize, name: &str) -> Result<usize> {
        match self {
            Limit::All => Ok(batches),
            Limit::Count(n) => match usize::try_from(n) {
                Ok(n) => Ok(n.min(batches)),
                Err(_) => Err(Error::new(format!("trainer: `{name}` is {n}, it cannot be negative"))),
            },
            Limit::Fraction(0.0) => Ok(0),
            Limit::Fraction(fraction) if (0.0..=1.0).contains(&fraction) => {
                Ok(((batches as f64 * fraction) as usize).clamp(1.min(batches), batches))
            }
            Limit::Fraction(fraction) => Err(Error::new(format!(
                "trainer: `{name}` is {fraction}; a fraction lies in 0.0..=1.0, and a number of batches is an integer"
            ))),
        }
    }
}

impl From<i32> for Limit {
    fn from(count: i32) -> Self {
        Limit::Count(count.into())
    }
}

impl From<usize> for Limit {
    fn from(count: usize) -> Self {
        Limit::Count(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Limit {
    fn from(fraction: f64) -> Self {
        Limit::Fraction(fraction)
    }
}
