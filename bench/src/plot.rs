//! Bars with the range of the rounds on them.

use std::path::Path;

use anyhow::Context;
use plotters::prelude::*;

/// One bar.
pub struct Bar {
    /// Written below it.
    pub label: String,
    /// The median.
    pub value: f64,
    /// The least and the most of all rounds.
    pub range: [f64; 2],
}

const SIZE: (u32, u32) = (1100, 420);
const FILL: RGBColor = RGBColor(0x3b, 0x7d, 0xa8);

/// Writes an SVG; its folder is made if it is not there.
pub fn bars(path: &Path, title: &str, unit: &str, bars: &[Bar]) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
    }
    draw(path, title, unit, bars)
        .map_err(|error| anyhow::anyhow!("cannot draw {}: {error}", path.display()))
}

fn draw(
    path: &Path,
    title: &str,
    unit: &str,
    bars: &[Bar],
) -> Result<(), Box<dyn std::error::Error>> {
    let most = bars.iter().map(|bar| bar.range[1]).fold(0.0, f64::max) * 1.15;
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..bars.len() as f64, 0.0..most)?;
    chart.configure_mesh().disable_x_mesh().x_labels(0).y_desc(unit).draw()?;
    for (number, bar) in bars.iter().enumerate() {
        let (left, middle, right) = (number as f64 + 0.2, number as f64 + 0.5, number as f64 + 0.8);
        chart.draw_series([Rectangle::new([(left, 0.0), (right, bar.value)], FILL.filled())])?;
        let [least, greatest] = bar.range;
        chart.draw_series([PathElement::new(vec![(middle, least), (middle, greatest)], BLACK)])?;
        let place = |height: f64, text: String| {
            let (x, y) = chart.backend_coord(&(middle, height));
            let width = 6 * text.len() as i32 / 2;
            (text, (x - width, y))
        };
        let (text, (x, y)) = place(greatest, format!("{:.2}", bar.value));
        area.draw(&Text::new(text, (x, y - 18), ("sans-serif", 14)))?;
        let (text, (x, y)) = place(0.0, bar.label.clone());
        area.draw(&Text::new(text, (x, y + 6), ("sans-serif", 13)))?;
    }
    area.present()?;
    Ok(())
}
