//! The picture of the classifier: its accuracy over the steps, digits that it reads, and those that it misreads.

use std::path::Path;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::common::plot::{BLUE, Drawn, Panel, RED, chart, legend, line, picture};
use crate::metrics::epoch_means;

/// A digit of the validation data, and what the net takes it for.
pub(crate) struct Digit {
    /// 28 rows of 28 values, 0 to 1.
    pub(crate) pixels: Vec<f32>,
    pub(crate) label: i32,
    pub(crate) guess: i32,
}

const SIDE: usize = 28;
/// Pixels of the picture for each of a digit.
const SCALE: usize = 2;
const COLUMNS: usize = 9;

/// Draws `digits.png` in the folder of a run, whose `metrics.csv` has the accuracies.
pub(crate) fn digits(folder: &Path, digits: &[Digit]) -> fulgurite::Result<()> {
    let misread: Vec<&Digit> = digits.iter().filter(|d| d.guess != d.label).collect();
    let read = digits.iter().filter(|d| d.guess == d.label);
    picture(&folder.join("digits.png"), (1400, 600), |canvas| {
        let (left, right) = canvas.split_horizontally(690);
        let right = right.margin(12, 0, 0, 0);
        curves(&left, &std::fs::read_to_string(folder.join("metrics.csv"))?)?;
        let title = format!("{} of {} read right, among them", digits.len() - misread.len(), digits.len());
        let (upper, lower) = right.split_vertically(300);
        rows(&upper, &title, read)?;
        rows(&lower, &format!("{} misread, among them", misread.len()), misread.into_iter())
    })
}

/// Training and validation accuracy, a point per epoch.
fn curves(area: &Panel, metrics: &str) -> Drawn {
    let (train, val) = (epoch_means(metrics, "acc")?, epoch_means(metrics, "val_acc")?);
    let all = || train.iter().chain(&val);
    let (last, low) = all().fold((1.0, 1.0), |(last, low): (f32, f32), p| (last.max(p.0), low.min(p.1)));
    let mut chart = chart(area, "accuracy over steps", 0.0..last, (low * 20.0 - 0.5).floor() / 20.0..1.0)?;
    line(&mut chart, "training, with a fifth of the pixels missing (mean of each epoch)", RED, train.into_iter())?;
    line(&mut chart, "validation", BLUE, val.into_iter())?;
    legend(&mut chart)
}

/// As many digits as three rows hold, each above its reading.
fn rows<'d>(area: &Panel, title: &str, digits: impl Iterator<Item = &'d Digit>) -> Drawn {
    let area = area.titled(title, ("sans-serif", 28))?;
    let text = ("sans-serif", 16).into_font().color(&BLACK).pos(Pos::new(HPos::Center, VPos::Top));
    for (n, digit) in digits.take(3 * COLUMNS).enumerate() {
        let (x, y) = (16 + n % COLUMNS * 76, 8 + n / COLUMNS * 82);
        for (i, value) in digit.pixels.iter().enumerate() {
            let corner = (x + i % SIDE * SCALE, y + i / SIDE * SCALE);
            let corners = [(0, 0), (SCALE, SCALE)].map(|(a, b)| ((corner.0 + a) as i32, (corner.1 + b) as i32));
            let gray = 255 - (value * 255.0) as u8;
            area.draw(&Rectangle::new(corners, RGBColor(gray, gray, gray).filled()))?;
        }
        let below = ((x + SIDE * SCALE / 2) as i32, (y + SIDE * SCALE + 2) as i32);
        match digit.guess == digit.label {
            true => area.draw_text(&digit.guess.to_string(), &text, below)?,
            false => area.draw_text(&format!("{} as {}", digit.label, digit.guess), &text.color(&RED), below)?,
        }
    }
    Ok(())
}
