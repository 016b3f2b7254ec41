//! Helpers for pictures: a canvas with a font, charts that look alike, their legends.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf32;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// What drawing may fail with.
pub(crate) type Drawn<T = ()> = Result<T, Box<dyn Error>>;

/// A part of a picture.
pub(crate) type Panel<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// A chart on a panel.
pub(crate) type Chart<'a, 'b> = ChartContext<'a, BitMapBackend<'b>, Cartesian2d<RangedCoordf32, RangedCoordf32>>;

pub(crate) const BLUE: RGBColor = RGBColor(31, 97, 174);
pub(crate) const RED: RGBColor = RGBColor(200, 50, 40);

/// Draws a picture of this size on white, writes it to `path` and prints that.
pub(crate) fn picture(path: &Path, size: (u32, u32), draw: impl FnOnce(&Panel) -> Drawn) -> fulgurite::Result<()> {
    let drawn = || -> Drawn {
        // The backend needs a font, and machines need not have one.
        register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
            .map_err(|_| "the built-in font cannot be read")?;
        let canvas = BitMapBackend::new(path, size).into_drawing_area();
        canvas.fill(&WHITE)?;
        draw(&canvas)?;
        canvas.present()?;
        Ok(())
    };
    drawn().map_err(|e| fulgurite::Error::new(format!("{}: {e}", path.display())))?;
    println!("{}", path.display());
    Ok(())
}

/// An empty chart with a title, axes and a light mesh.
pub(crate) fn chart<'a, 'b>(area: &'a Panel<'b>, title: &str, x: Range<f32>, y: Range<f32>) -> Drawn<Chart<'a, 'b>> {
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 28))
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(40)
        .build_cartesian_2d(x, y)?;
    chart.configure_mesh().light_line_style(WHITE).bold_line_style(BLACK.mix(0.06)).draw()?;
    Ok(chart)
}

/// A line with its label.
pub(crate) fn line<'a, 'b: 'a>(
    chart: &mut Chart<'a, 'b>,
    label: &str,
    color: RGBColor,
    points: impl Iterator<Item = (f32, f32)>,
) -> Drawn {
    chart
        .draw_series(LineSeries::new(points, color.stroke_width(3)))?
        .label(label)
        .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(3)));
    Ok(())
}

/// The labels of what was drawn so far, in the lower right corner.
pub(crate) fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>) -> Drawn {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 16))
        .draw()?;
    Ok(())
}
