//! How long something takes.

use std::time::{Duration, Instant};

use fulgurite::Result;

/// Seconds of a run: the median of nine groups of some 20 ms.
///
/// # Errors
/// That of a run.
pub fn median_seconds(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let start = Instant::now();
    run()?;
    let one = start.elapsed().max(Duration::from_nanos(20)).as_secs_f64();
    let count = ((0.02 / one) as usize).clamp(1, 1_000_000);
    let mut groups = Vec::new();
    for _ in 0..9 {
        let start = Instant::now();
        for _ in 0..count {
            run()?;
        }
        groups.push(start.elapsed().as_secs_f64() / count as f64);
    }
    groups.sort_by(f64::total_cmp);
    Ok(groups[groups.len() / 2])
}
