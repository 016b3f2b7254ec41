//! The picture of the Bayesian regression: data, sampled functions, their mean and a band of two standard deviations.

use std::error::Error;
use std::path::Path;

use ndarray::{ArrayD, Axis};
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// Points on the horizontal axis from -4 to 4.
pub(crate) const GRID: usize = 100;

type Panel<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;

/// Draws sampled functions (rows of `before` and `after`, on [`GRID`] points) beside each other.
pub(crate) fn fit(
    path: &Path,
    points: &[(f32, f32)],
    before: &ArrayD<f32>,
    after: &ArrayD<f32>,
) -> Result<(), Box<dyn Error>> {
    // The backend needs a font, and machines need not have one.
    register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
        .map_err(|_| "the built-in font cannot be read")?;
    let canvas = BitMapBackend::new(path, (1400, 600)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let panels = canvas.split_evenly((1, 2));
    panel(&panels[0], "before training", points, before)?;
    panel(&panels[1], "after training", points, after)?;
    canvas.present()?;
    Ok(())
}

fn panel(area: &Panel, title: &str, points: &[(f32, f32)], functions: &ArrayD<f32>) -> Result<(), Box<dyn Error>> {
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 28))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(40)
        .build_cartesian_2d(-4f32..4f32, -3f32..3f32)?;
    chart.configure_mesh().light_line_style(WHITE).bold_line_style(BLACK.mix(0.06)).draw()?;

    let grid = |i: usize| i as f32 / (GRID - 1) as f32 * 8.0 - 4.0;
    let blue = RGBColor(31, 97, 174);
    for function in functions.outer_iter() {
        let line = function.iter().enumerate().map(|(i, &y)| (grid(i), y));
        chart.draw_series(LineSeries::new(line, blue.mix(0.06)))?;
    }
    let mean = functions.mean_axis(Axis(0)).ok_or("no functions")?;
    let std = functions.std_axis(Axis(0), 0.0);
    let edge = |sign: f32| mean.iter().zip(&std).enumerate().map(move |(i, (m, s))| (grid(i), m + sign * 2.0 * s));
    let mut band: Vec<(f32, f32)> = edge(1.0).collect();
    band.extend(edge(-1.0).collect::<Vec<_>>().into_iter().rev());
    chart.draw_series(std::iter::once(Polygon::new(band, blue.mix(0.15))))?;
    let line = mean.iter().enumerate().map(|(i, &y)| (grid(i), y));
    chart
        .draw_series(LineSeries::new(line, blue.stroke_width(3)))?
        .label("mean of 201 draws, ± 2 standard deviations")
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], blue.stroke_width(3)));
    let red = RGBColor(200, 50, 40);
    chart
        .draw_series(points.iter().map(|&p| Circle::new(p, 2, red.mix(0.7).filled())))?
        .label("data")
        .legend(move |(x, y)| Circle::new((x + 10, y), 3, red.filled()));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 16))
        .draw()?;
    Ok(())
}
