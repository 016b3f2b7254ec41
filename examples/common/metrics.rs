//! What a run has logged, read for pictures.

use crate::common::plot::Drawn;

/// The mean of a column of `metrics.csv` in each epoch, with the last step of it.
pub(crate) fn epoch_means(metrics: &str, name: &str) -> Drawn<Vec<(f32, f32)>> {
    let mut rows = metrics.lines().map(|row| row.split(',').collect::<Vec<_>>());
    let header = rows.next().ok_or("metrics.csv is empty")?;
    let rows: Vec<Vec<&str>> = rows.collect();
    let column = |name: &str| header.iter().position(|&column| column == name).ok_or(format!("no column {name}"));
    let (step, epoch, column) = (column("step")?, column("epoch")?, column(name)?);
    let mean = |rows: &[Vec<&str>]| {
        let values: Vec<f32> = rows.iter().filter_map(|row| row.get(column)?.parse().ok()).collect();
        let last: f32 = rows.last()?.get(step)?.parse().ok()?;
        (!values.is_empty()).then(|| (last, values.iter().sum::<f32>() / values.len() as f32))
    };
    Ok(rows.chunk_by(|a, b| a.get(epoch) == b.get(epoch)).filter_map(mean).collect())
}
