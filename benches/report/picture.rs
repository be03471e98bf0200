//! Pictures of figures: lines over an axis, as SVG. The text in them is drawn by whoever shows them, in a font of
//! theirs.

use std::error::Error;
use std::path::Path;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

/// A line.
#[derive(Clone, Debug)]
pub struct Series {
    /// As the legend names it.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// One of the two directions.
#[derive(Clone, Debug)]
pub struct Axis {
    label: String,
    is_log: bool,
    is_bytes: bool,
    from_zero: bool,
    /// Where it has a mark; none given: at round numbers.
    ticks: Vec<f64>,
}

impl Axis {
    /// Even distances, marks at round numbers.
    pub fn linear(label: &str) -> Self {
        Self { label: label.into(), is_log: false, is_bytes: false, from_zero: true, ticks: Vec::new() }
    }

    /// Even distances, marks at `ticks`.
    pub fn at(label: &str, ticks: Vec<f64>) -> Self {
        Self { from_zero: false, ticks, ..Self::linear(label) }
    }

    /// Even ratios.
    pub fn log(label: &str, ticks: Vec<f64>) -> Self {
        Self { is_log: true, from_zero: false, ticks, ..Self::linear(label) }
    }

    /// Even ratios, marks at numbers of bytes.
    pub fn log_bytes(label: &str, ticks: Vec<f64>) -> Self {
        Self { is_bytes: true, ..Self::log(label, ticks) }
    }

    /// Begins at 0.
    pub fn begun_at_zero(self) -> Self {
        Self { from_zero: true, ..self }
    }

    /// The axis for `values`, as the drawing library wants it.
    pub fn scale(&self, values: impl Iterator<Item = f64>) -> Scale {
        let values: Vec<f64> = values.filter(|value| value.is_finite() && (!self.is_log || *value > 0.0)).collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Without values any axis will do.
        let (least, greatest) = if values.is_empty() { (1.0, 10.0) } else { (least, greatest) };
        let mut ticks = self.ticks.clone();
        if ticks.is_empty() {
            ticks = if self.is_log { log_ticks(least, greatest) } else { linear_ticks(greatest) };
        }
        let (least, greatest) =
            (least.min(*ticks.first().unwrap_or(&least)), greatest.max(*ticks.last().unwrap_or(&greatest)));
        let least = if self.from_zero { 0.0 } else { least };
        let (from, to) = (self.place(least), self.place(greatest));
        // So that no point lies on the frame, and no range is empty.
        let margin = ((to - from) * 0.04).max(1e-3);
        let from = if self.from_zero { from } else { from - margin };
        Scale { from, to: to + margin, ticks: ticks.iter().map(|tick| self.place(*tick)).collect() }
    }

    /// Where a value is.
    fn place(&self, value: f64) -> f64 {
        if self.is_log { value.log10() } else { value }
    }

    /// What is written at a place.
    pub fn text(&self, place: f64) -> String {
        let value = if self.is_log { 10_f64.powf(place) } else { place };
        // What a logarithm has blurred.
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

/// 12,345.
fn thousands(value: f64) -> String {
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

/// Round numbers from 0 to beyond `greatest`, about five.
fn linear_ticks(greatest: f64) -> Vec<f64> {
    let rough = greatest / 5.0;
    let unit = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|times| times * unit).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(unit);
    (0_u8..8).map(|times| f64::from(times) * step).take_while(|tick| *tick < greatest + step).collect()
}

/// 1, 2, 5, 10 and so on, or powers of ten alone where there would be many.
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

/// A range with marks.
pub struct Scale {
    from: f64,
    to: f64,
    /// Where the marks are.
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

/// A diagram.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// What it shows.
    pub series: Vec<Series>,
}

/// The size of one panel.
const WIDTH: u32 = 760;
const HEIGHT: u32 = 440;
/// How much of a panel's height the legend takes: its frame, and each line's name.
const LEGEND_PART: f64 = 0.06;
const LEGEND_PART_PER_LINE: f64 = 0.06;
/// Colours that are told apart by those who do not see all, and in print (Okabe and Ito).
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];
const GRID: RGBColor = RGBColor(225, 225, 225);
const TEXT: RGBColor = RGBColor(40, 40, 40);

/// Draws panels side by side.
pub fn draw(path: &Path, panels: &[Panel]) -> Result<(), Box<dyn Error>> {
    let count = u32::try_from(panels.len())?;
    let root = SVGBackend::new(path, (WIDTH * count, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in std::iter::zip(root.split_evenly((1, panels.len())), panels) {
        draw_panel(&area, panel)?;
    }
    root.present()?;
    Ok(())
}

fn draw_panel(area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>, panel: &Panel) -> Result<(), Box<dyn Error>> {
    let Panel { title, x, y, series } = panel;
    let points = || series.iter().flat_map(|line| &line.points);
    let horizontal = x.scale(points().map(|(x, _)| *x));
    let mut vertical = y.scale(points().map(|(_, y)| *y));
    // Room for the legend above every line.
    vertical.to += (vertical.to - vertical.from) * (LEGEND_PART + LEGEND_PART_PER_LINE * series.len() as f64);
    let font = |size: i32| ("sans-serif", size).into_font().color(&TEXT);
    let mut chart = ChartBuilder::on(area)
        .caption(title, font(19))
        .margin(14)
        .margin_right(30)
        .x_label_area_size(52)
        .y_label_area_size(84)
        .build_cartesian_2d(horizontal, vertical)?;
    chart
        .configure_mesh()
        .x_desc(&x.label)
        .y_desc(&y.label)
        .x_label_formatter(&|place| x.text(*place))
        .y_label_formatter(&|place| y.text(*place))
        .label_style(font(14))
        .axis_desc_style(font(15))
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(TEXT)
        .draw()?;
    for (line, colour) in std::iter::zip(series, COLOURS.into_iter().cycle()) {
        let places: Vec<(f64, f64)> = line
            .points
            .iter()
            .filter(|(_, value)| !y.is_log || *value > 0.0)
            .map(|(left, up)| (x.place(*left), y.place(*up)))
            .collect();
        chart
            .draw_series(LineSeries::new(places.clone(), colour.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(left, up)| PathElement::new([(left, up), (left + 22, up)], colour.stroke_width(2)));
        chart.draw_series(PointSeries::of_element(places, 4, colour.filled(), &|place, size, style| {
            Circle::new(place, size, style)
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .margin(12)
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .label_font(font(14))
        .draw()?;
    Ok(())
}
