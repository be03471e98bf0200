//! Line charts as SVG. Their text is left to the font of the program that shows them.

use std::error::Error;
use std::path::Path;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

/// A line.
#[derive(Clone, Debug)]
pub struct Series {
    /// The name in the legend.
    pub name: String,
    /// The points, from left to right.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A line through `points`.
    pub fn new(name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        Self { name: name.into(), points: points.into_iter().collect() }
    }
}

/// The horizontal or the vertical axis.
#[derive(Clone, Debug)]
pub struct Axis {
    label: String,
    is_log: bool,
    is_bytes: bool,
    from_zero: bool,
    /// The values with a tick; empty: round numbers.
    ticks: Vec<f64>,
}

impl Axis {
    /// A linear scale from 0, with ticks at round numbers.
    pub fn linear(label: &str) -> Self {
        Self { label: label.into(), is_log: false, is_bytes: false, from_zero: true, ticks: Vec::new() }
    }

    /// A linear scale from 0 to `greatest` at least, so that several panels have the same axis.
    pub fn up_to(label: &str, greatest: f64) -> Self {
        Self { from_zero: true, ..Self::at(label, linear_ticks(greatest)) }
    }

    /// A linear scale with these ticks.
    pub fn at(label: &str, ticks: Vec<f64>) -> Self {
        Self { from_zero: false, ticks, ..Self::linear(label) }
    }

    /// A logarithmic scale. Without ticks it gets round numbers.
    pub fn log(label: &str, ticks: Vec<f64>) -> Self {
        Self { is_log: true, from_zero: false, ticks, ..Self::linear(label) }
    }

    /// A logarithmic scale of numbers of bytes.
    pub fn log_bytes(label: &str, ticks: Vec<f64>) -> Self {
        Self { is_bytes: true, ..Self::log(label, ticks) }
    }

    /// The axis for these values, as the drawing library takes it.
    pub fn scale(&self, values: impl Iterator<Item = f64>) -> Scale {
        let values: Vec<f64> = values.filter(|value| value.is_finite() && (!self.is_log || *value > 0.0)).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Without values any range will do.
        let (least, greatest) = if values.is_empty() { (1.0, 10.0) } else { (least, greatest) };
        let mut ticks = self.ticks.clone();
        if ticks.is_empty() {
            ticks = if self.is_log { log_ticks(least, greatest) } else { linear_ticks(greatest) };
        }
        let (least, greatest) =
            (least.min(*ticks.first().unwrap_or(&least)), greatest.max(*ticks.last().unwrap_or(&greatest)));
        let least = if self.from_zero { 0.0 } else { least };
        let (from, to) = (self.position(least), self.position(greatest));
        // No point may lie on the frame, and no range may be empty.
        let margin = ((to - from) * 0.04).max(1e-3);
        let from = if self.from_zero { from } else { from - margin };
        Scale { from, to: to + margin, ticks: ticks.iter().map(|tick| self.position(*tick)).collect() }
    }

    /// The position of a value on the scale.
    fn position(&self, value: f64) -> f64 {
        if self.is_log { value.log10() } else { value }
    }

    /// The text of the tick at a position.
    pub fn text(&self, position: f64) -> String {
        let value = if self.is_log { 10_f64.powf(position) } else { position };
        // A logarithm and its inverse lose the last digits.
        let value = if value >= 1.0 { (value * 100.0).round() / 100.0 } else { value };
        match (self.is_bytes, value) {
            (true, value) if value >= f64::from(1 << 20) => format!("{:.0} MiB", value / f64::from(1 << 20)),
            (true, value) if value >= 1_024.0 => format!("{:.0} KiB", value / 1_024.0),
            (true, value) => format!("{value:.0} B"),
            (false, value) if value >= 1_000.0 => thousands(value),
            (false, value) => format!("{}", (value * 1e4).round() / 1e4),
        }
    }
}

/// A number with commas: 12,345.
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// About five round numbers, from 0 to beyond `greatest`.
fn linear_ticks(greatest: f64) -> Vec<f64> {
    // Without a value above 0 any range will do.
    let greatest = if greatest > 0.0 { greatest } else { 1.0 };
    let rough = greatest / 5.0;
    let unit = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|times| times * unit).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(unit);
    (0_u8..8).map(|times| f64::from(times) * step).take_while(|tick| *tick < greatest + step).collect()
}

/// 1, 2, 5, 10 and so on; powers of ten alone where these are too many.
fn log_ticks(least: f64, greatest: f64) -> Vec<f64> {
    const MANY: usize = 9;
    let decades = || -> std::ops::RangeInclusive<i16> {
        #[allow(clippy::cast_possible_truncation)]
        let decade = |value: f64| value.log10().floor() as i16;
        decade(least)..=decade(greatest) + 1
    };
    let fits = |tick: &f64| (least / 2.5..=greatest * 2.5).contains(tick);
    let fine: Vec<f64> = decades()
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|times| times * 10_f64.powi(decade.into())))
        .filter(fits)
        .collect();
    if fine.len() <= MANY {
        return fine;
    }
    decades().map(|decade| 10_f64.powi(decade.into())).collect()
}

/// A range with its ticks, in positions.
pub struct Scale {
    from: f64,
    to: f64,
    /// The positions of the ticks.
    pub ticks: Vec<f64>,
}

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let part = (value - self.from) / (self.to - self.from);
        #[allow(clippy::cast_possible_truncation)]
        let pixels = (f64::from(limit.1 - limit.0) * part).round() as i32;
        limit.0 + pixels
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

/// One chart.
#[derive(Clone, Debug)]
pub struct Panel {
    /// The title.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
}

/// The size of one panel, in pixels.
const WIDTH: u32 = 800;
const HEIGHT: u32 = 400;
/// The height of title and legend.
const HEAD_HEIGHT: u32 = 64;
/// The width of a letter in the legend, estimated: the font is not known here.
const LETTER_WIDTH: usize = 8;
/// The most points of a line that are drawn as dots, too.
const DOTTED_POINTS_MAX: usize = 20;
/// Colours that differ for colour-blind readers and in print (Okabe and Ito).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
];
const GRID: RGBColor = RGBColor(225, 225, 225);
const TEXT: RGBColor = RGBColor(40, 40, 40);

/// Draws the panels in rows of `columns`.
pub fn draw(path: &Path, columns: usize, panels: &[Panel]) -> Result<(), Box<dyn Error>> {
    let rows = panels.len().div_ceil(columns);
    let size = (WIDTH * u32::try_from(columns)?, HEIGHT * u32::try_from(rows)?);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in std::iter::zip(root.split_evenly((rows, columns)), panels) {
        let (head, plot) = area.split_vertically(HEAD_HEIGHT);
        draw_head(&head, panel)?;
        draw_plot(&plot, panel)?;
    }
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn font(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&TEXT)
}

/// Draws the title and, below it, the legend. Above the plot it hides no line.
fn draw_head(area: &Area<'_>, panel: &Panel) -> Result<(), Box<dyn Error>> {
    area.draw_text(&panel.title, &font(19), (16, 14))?;
    let mut left = 98;
    for (line, colour) in std::iter::zip(&panel.series, COLOURS.into_iter().cycle()) {
        area.draw(&PathElement::new([(left, 52), (left + 22, 52)], colour.stroke_width(3)))?;
        area.draw_text(&line.name, &font(14), (left + 30, 45))?;
        left += i32::try_from(60 + line.name.chars().count() * LETTER_WIDTH)?;
    }
    Ok(())
}

fn draw_plot(area: &Area<'_>, panel: &Panel) -> Result<(), Box<dyn Error>> {
    let Panel { x, y, series, .. } = panel;
    let points = || series.iter().flat_map(|line| &line.points);
    let horizontal = x.scale(points().map(|(x, _)| *x));
    let vertical = y.scale(points().map(|(_, y)| *y));
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .margin_right(30)
        .margin_top(6)
        .x_label_area_size(46)
        .y_label_area_size(84)
        .build_cartesian_2d(horizontal, vertical)?;
    chart
        .configure_mesh()
        .x_desc(&x.label)
        .y_desc(&y.label)
        .x_label_formatter(&|position| x.text(*position))
        .y_label_formatter(&|position| y.text(*position))
        .label_style(font(14))
        .axis_desc_style(font(15))
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(TEXT)
        .draw()?;
    for (line, colour) in std::iter::zip(series, COLOURS.into_iter().cycle()) {
        let dots: Vec<(f64, f64)> = line
            .points
            .iter()
            .filter(|(_, value)| !y.is_log || *value > 0.0)
            .map(|(left, up)| (x.position(*left), y.position(*up)))
            .collect();
        chart.draw_series(LineSeries::new(dots.clone(), colour.stroke_width(2)))?;
        if dots.len() <= DOTTED_POINTS_MAX {
            chart.draw_series(dots.into_iter().map(|dot| Circle::new(dot, 4, colour.filled())))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Axis, Panel, Series, draw};

    fn texts(axis: &Axis, values: &[f64]) -> Vec<String> {
        axis.scale(values.iter().copied()).ticks.into_iter().map(|position| axis.text(position)).collect()
    }

    #[test]
    fn ticks_are_few_and_round() {
        assert_eq!(texts(&Axis::linear(""), &[120.0, 9_300.0]), ["0", "2,000", "4,000", "6,000", "8,000", "10,000"]);
        assert_eq!(texts(&Axis::linear(""), &[0.3]), ["0", "0.1", "0.2", "0.3"]);
        assert_eq!(texts(&Axis::log("", vec![]), &[0.8, 12.0]), ["0.5", "1", "2", "5", "10", "20"]);
        assert_eq!(texts(&Axis::log("", vec![]), &[3.0, 12_000.0]), ["1", "10", "100", "1,000", "10,000", "100,000"]);
        let sizes = vec![64.0, 1_024.0, f64::from(1 << 20)];
        assert_eq!(texts(&Axis::log_bytes("", sizes.clone()), &sizes), ["64 B", "1 KiB", "1 MiB"]);
    }

    #[test]
    fn picture_without_values_can_be_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty.svg");
        let series = vec![Series::new("Set", [])];
        let panel = Panel { title: "none".into(), x: Axis::linear("x"), y: Axis::log("y", vec![]), series };
        draw(&path, 1, &[panel]).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("none"));
    }

    #[test]
    fn picture_bears_its_labels_and_legend() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.svg");
        let line = |name: &str| Series::new(name, [(1.0, 10.0), (64.0, 0.0), (256.0, 700.0)]);
        let panel = Panel {
            title: "a title".into(),
            x: Axis::log("in flight", vec![1.0, 64.0, 256.0]),
            y: Axis::log("a second", vec![]),
            series: vec![line("Set"), line("Get")],
        };
        draw(&path, 2, &[panel.clone(), panel]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        for part in ["a title", "in flight", "a second", "Set", "Get", "256", "1,000"] {
            assert!(text.contains(part), "no {part:?}");
        }
    }
}
