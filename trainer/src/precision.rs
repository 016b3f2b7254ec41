//! What the products of a run's steps are computed in.
//!
//! Comes in: a name of Lightning's or torch's. Goes out: a run within [`with_matmul_precision`].

use fulgurite_jit::{Error, Precision, Result, with_matmul_precision};

/// The names: of Lightning's `precision`, then of torch's `set_float32_matmul_precision`.
const NAMES: [(&str, Precision); 5] = [
    ("32-true", Precision::Highest),
    ("bf16-mixed", Precision::Bf16),
    ("highest", Precision::Highest),
    ("high", Precision::Tf32),
    ("medium", Precision::Bf16),
];

/// The precision of a name.
///
/// # Errors
/// When there is none, with those that there are.
pub(crate) fn parse(name: &str) -> Result<Precision> {
    let found = NAMES.iter().find(|(known, _)| *known == name);
    found.map(|(_, precision)| *precision).ok_or_else(|| {
        let names: Vec<String> = NAMES.iter().map(|(name, _)| format!("`{name}`")).collect();
        Error::new(format!("trainer: `precision` is {name:?}; there are {}", names.join(", ")))
    })
}

/// Calls `f`; products have this precision within, where there is one.
pub(crate) fn within<R>(precision: Option<Precision>, f: impl FnOnce() -> R) -> R {
    match precision {
        None => f(),
        Some(precision) => with_matmul_precision(precision, f),
    }
}
