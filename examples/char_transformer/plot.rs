//! The picture of the transformer: its loss over the steps.

use std::path::Path;

use crate::common::plot::{BLUE, Drawn, RED, chart, legend, line, picture};
use crate::metrics::epoch_means;

/// Draws `loss.png` in the folder of a run, whose `metrics.csv` has the losses.
pub(crate) fn losses(folder: &Path) -> fulgurite::Result<()> {
    picture(&folder.join("loss.png"), (900, 600), |canvas| {
        let metrics = std::fs::read_to_string(folder.join("metrics.csv"))?;
        curves(canvas, epoch_means(&metrics, "loss")?, epoch_means(&metrics, "val_loss")?)
    })
}

fn curves(canvas: &crate::common::plot::Panel, train: Vec<(f32, f32)>, val: Vec<(f32, f32)>) -> Drawn {
    let all = || train.iter().chain(&val);
    let (last, high) = all().fold((1.0, 1.0), |(last, high): (f32, f32), p| (last.max(p.0), high.max(p.1)));
    let mut chart = chart(canvas, "nats per letter, over steps", 0.0..last, 0.0..high * 1.05)?;
    line(&mut chart, "training (mean of each epoch)", RED, train.into_iter())?;
    line(&mut chart, "validation", BLUE, val.into_iter())?;
    legend(&mut chart)
}
