//! Pictures of lines, one panel below the other, as SVG.
//!
//! The legend of a panel stands above its plot, so that it hides nothing.

use std::fmt::Display;
use std::path::Path;

use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

/// What tells lines apart, for colour-blind eyes too (Okabe and Ito).
pub const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(60, 60, 60),
];

const WIDTH: u32 = 960;
const PANEL_HEIGHT: u32 = 320;
const TITLE_HEIGHT: u32 = 44;
const LEGEND_HEIGHT: i32 = 46;
/// How wide a letter of the legend is, about: there are no fonts to measure it by.
const LETTER_WIDTH: usize = 7;
/// How much of a plot stays empty above its highest line.
const HEADROOM: f64 = 1.05;

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// From point to point.
    Line,
    /// The points alone.
    Dots,
}

/// One line of a panel.
#[derive(Debug)]
pub struct Line {
    /// What it is called in the legend.
    pub label: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub style: Style,
}

impl Line {
    /// A line from point to point.
    pub fn new(label: impl Display, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { label: label.to_string(), points: points.into_iter().collect(), style: Style::Line }
    }
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: &'static str,
    /// Where it begins and ends; where that is left open, it begins at 0 and ends above the largest value.
    pub range: Option<(f64, f64)>,
    /// Whether each step is ten times the one before.
    pub is_logarithmic: bool,
}

impl Axis {
    /// From 0 to what there is.
    pub fn linear(label: &'static str) -> Self {
        Self { label, range: None, is_logarithmic: false }
    }

    /// From the smallest to the largest.
    pub fn logarithmic(label: &'static str) -> Self {
        Self { label, range: None, is_logarithmic: true }
    }

    fn range_of(&self, values: impl Iterator<Item = f64>) -> (f64, f64) {
        if let Some(range) = self.range {
            return range;
        }
        let drawn = values.filter(|value| value.is_finite() && (!self.is_logarithmic || *value > 0.0));
        let (least, greatest) =
            drawn.fold((f64::MAX, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
        match (self.is_logarithmic, greatest > 0.0) {
            (_, false) => (if self.is_logarithmic { 0.1 } else { 0.0 }, 1.0),
            (false, true) => (0.0, greatest * HEADROOM),
            // Whole decades, so that the axis begins and ends at a number that is named.
            (true, true) => (10_f64.powf(least.log10().floor()), 10_f64.powf((greatest * HEADROOM).log10().ceil())),
        }
    }
}

/// One plot.
#[derive(Debug)]
pub struct Panel {
    /// What it shows.
    pub title: &'static str,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// Draws `panels` under `title` into the file at `path`.
pub fn draw(path: &Path, title: &str, panels: &[Panel]) {
    let count = u32::try_from(panels.len()).expect("a picture has a few panels");
    let canvas = SVGBackend::new(path, (WIDTH, TITLE_HEIGHT + count * PANEL_HEIGHT)).into_drawing_area();
    draw_on(&canvas, title, panels).unwrap_or_else(|error| panic!("cannot draw {}: {error}", path.display()));
    println!("{}", path.display());
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw_on(canvas: &Area<'_>, title: &str, panels: &[Panel]) -> Drawn {
    canvas.fill(&WHITE)?;
    let (head, body) = canvas.split_vertically(TITLE_HEIGHT);
    head.draw_text(title, &text(20), (16, 14))?;
    for (area, panel) in body.split_evenly((panels.len(), 1)).iter().zip(panels) {
        let (legend, plot) = area.split_vertically(LEGEND_HEIGHT);
        draw_legend(&legend, panel)?;
        let all = || panel.lines.iter().flat_map(|line| &line.points);
        let (x, y) = (panel.x.range_of(all().map(|point| point.0)), panel.y.range_of(all().map(|point| point.1)));
        let (x_line, y_line) = (x.0..x.1, y.0..y.1);
        match (panel.x.is_logarithmic, panel.y.is_logarithmic) {
            (false, false) => draw_plot(&plot, panel, x_line, y_line)?,
            (false, true) => draw_plot(&plot, panel, x_line, y_line.log_scale())?,
            (true, false) => draw_plot(&plot, panel, x_line.log_scale(), y_line)?,
            (true, true) => draw_plot(&plot, panel, x_line.log_scale(), y_line.log_scale())?,
        }
    }
    canvas.present()?;
    Ok(())
}

/// The panel's title, and below it a stroke and a name for each line.
fn draw_legend(area: &Area<'_>, panel: &Panel) -> Drawn {
    area.draw_text(panel.title, &text(16), (16, 4))?;
    let mut left = 72;
    for (line, colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
        area.draw(&Rectangle::new([(left, 32), (left + 16, 36)], colour.filled()))?;
        area.draw_text(&line.label, &text(13), (left + 22, 27))?;
        left += i32::try_from(46 + line.label.chars().count() * LETTER_WIDTH)?;
    }
    Ok(())
}

fn draw_plot<X, Y>(area: &Area<'_>, panel: &Panel, x: X, y: Y) -> Drawn
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .margin_right(24)
        .margin_top(8)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .x_desc(panel.x.label)
        .y_desc(panel.y.label)
        .label_style(text(12))
        .axis_desc_style(text(13))
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .draw()?;
    for (line, colour) in panel.lines.iter().zip(COLOURS.iter().cycle()) {
        // What cannot stand on a logarithmic axis is not drawn.
        let is_drawn =
            |(x, y): &&(f64, f64)| (*x > 0.0 || !panel.x.is_logarithmic) && (*y > 0.0 || !panel.y.is_logarithmic);
        let points = line.points.iter().filter(is_drawn).copied();
        match line.style {
            Style::Line => {
                chart.draw_series(LineSeries::new(points, colour.stroke_width(2)))?;
            }
            Style::Dots => {
                chart.draw_series(points.map(|point| Circle::new(point, 5, colour.filled())))?;
            }
        }
    }
    Ok(())
}

fn text(size: u32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}

/// A number as short as it can be read: 0.25, 40, 12k, 1.5M.
pub fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        1e9.. => (value / 1e9, "G"),
        1e6.. => (value / 1e6, "M"),
        1e4.. => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = if scaled.abs() < 10.0 { 3 } else { 1 };
    let fixed = format!("{scaled:.digits$}");
    format!("{}{unit}", fixed.trim_end_matches('0').trim_end_matches('.'))
}
