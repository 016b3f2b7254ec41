//! The picture of the Bayesian regression: data, sampled functions, their mean and a band of two standard deviations.

use std::path::Path;

use ndarray::{ArrayD, Axis};
use plotters::prelude::*;

use crate::common::plot::{BLUE, Drawn, Panel, RED, chart, legend, line, picture};

/// Points on the horizontal axis from -4 to 4.
pub(crate) const GRID: usize = 100;

/// Draws sampled functions (rows of `before` and `after`, on [`GRID`] points) beside each other.
pub(crate) fn fit(
    path: &Path,
    points: &[(f32, f32)],
    before: &ArrayD<f32>,
    after: &ArrayD<f32>,
) -> fulgurite::Result<()> {
    picture(path, (1400, 600), |canvas| {
        let panels = canvas.split_evenly((1, 2));
        panel(&panels[0], "before training", points, before)?;
        panel(&panels[1], "after training", points, after)
    })
}

fn panel(area: &Panel, title: &str, points: &[(f32, f32)], functions: &ArrayD<f32>) -> Drawn {
    let mut chart = chart(area, title, -4.0..4.0, -3.0..3.0)?;
    let grid = |i: usize| i as f32 / (GRID - 1) as f32 * 8.0 - 4.0;
    for function in functions.outer_iter() {
        let line = function.iter().enumerate().map(|(i, &y)| (grid(i), y));
        chart.draw_series(LineSeries::new(line, BLUE.mix(0.06)))?;
    }
    let mean = functions.mean_axis(Axis(0)).ok_or("no functions")?;
    let std = functions.std_axis(Axis(0), 0.0);
    let edge = |sign: f32| mean.iter().zip(&std).enumerate().map(move |(i, (m, s))| (grid(i), m + sign * 2.0 * s));
    let mut band: Vec<(f32, f32)> = edge(1.0).collect();
    band.extend(edge(-1.0).collect::<Vec<_>>().into_iter().rev());
    chart.draw_series(std::iter::once(Polygon::new(band, BLUE.mix(0.15))))?;
    let means = mean.iter().enumerate().map(|(i, &y)| (grid(i), y));
    line(&mut chart, "mean of 201 draws, ± 2 standard deviations", BLUE, means)?;
    chart
        .draw_series(points.iter().map(|&p| Circle::new(p, 2, RED.mix(0.7).filled())))?
        .label("data")
        .legend(move |(x, y)| Circle::new((x + 10, y), 3, RED.filled()));
    legend(&mut chart)
}
