//! Line charts as inline SVG, one quantity a chart. No font file is needed: text is left to the
//! viewer. Black strokes and text are recoloured by the page's style sheet, so charts follow a dark page.

use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::palette::Colour;

/// One line.
pub(crate) struct Series {
    /// What it shows; the caller prints the legend.
    pub(crate) name: String,
    /// Of the line.
    pub(crate) colour: Colour,
    /// `(x, y)`; points that are not finite leave a gap.
    pub(crate) points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub(crate) stroke: Stroke,
}

/// How a line is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stroke {
    /// A line.
    Line,
    /// A line with a dot a point: few points, each measured.
    Dots,
    /// A pale thin line: raw values behind a smoothed line.
    Faint,
    /// A thin broken line: a target.
    Target,
}

/// A chart.
pub(crate) struct Chart {
    /// Below the x axis.
    pub(crate) x_label: String,
    /// Values on the y axis; `None` takes them from the series.
    pub(crate) y_range: Option<Range<f64>>,
    /// Drawn in order, later ones on top.
    pub(crate) series: Vec<Series>,
}

const SIZE: (u32, u32) = (420, 250);

/// The chart as an `<svg>` element, or `None` if no series has two finite points or more.
///
/// # Errors
/// If plotters cannot draw.
pub(crate) fn svg(chart: &Chart) -> Result<Option<String>> {
    let finite = || {
        let all = chart.series.iter().flat_map(|s| &s.points);
        all.filter(|(x, y)| x.is_finite() && y.is_finite()).copied()
    };
    let drawable = |s: &Series| s.stroke != Stroke::Target && s.points.len() > 1;
    if finite().count() < 2 || !chart.series.iter().any(drawable) {
        return Ok(None);
    }
    let x_range = span(finite().map(|p| p.0), 0.0);
    let y_range = chart.y_range.clone().unwrap_or_else(|| span(finite().map(|p| p.1), 0.06));
    let mut text = String::new();
    draw(chart, x_range, y_range, &mut text).map_err(|e| anyhow!("cannot draw the chart: {e}"))?;
    Ok(Some(text))
}

fn draw(
    chart: &Chart,
    x_range: Range<f64>,
    y_range: Range<f64>,
    text: &mut String,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    let decimals = decimals(&y_range);
    let x_steps = x_range.end - x_range.start; // whole steps or epochs: no label between two
    let mut context = ChartBuilder::on(&root)
        .margin(8)
        .margin_right(14)
        .x_label_area_size(38)
        .y_label_area_size(52)
        .build_cartesian_2d(x_range, y_range.clone())?;
    context
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .axis_style(BLACK.mix(0.5))
        .label_style(("sans-serif", 13))
        .x_desc(chart.x_label.as_str())
        .axis_desc_style(("sans-serif", 13))
        .x_labels(((x_steps + 1.0) as usize).clamp(2, 6))
        .y_labels(6)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| number(*y, decimals))
        .draw()?;
    for series in &chart.series {
        let [r, g, b] = series.colour;
        let colour = RGBColor(r, g, b);
        let style = match series.stroke {
            Stroke::Line | Stroke::Dots => colour.stroke_width(2),
            Stroke::Faint => colour.mix(0.3).stroke_width(1),
            Stroke::Target => colour.mix(0.9).stroke_width(1),
        };
        let clamp = |y: f64| y.clamp(y_range.start, y_range.end);
        for run in series.points.split(|(x, y)| !x.is_finite() || !y.is_finite()) {
            let points = run.iter().map(|&(x, y)| (x, clamp(y)));
            match series.stroke {
                Stroke::Target => {
                    context.draw_series(DashedLineSeries::new(points, 6, 4, style))?;
                }
                Stroke::Dots => {
                    let dots = points.clone().map(|p| Circle::new(p, 3, colour.filled()));
                    context.draw_series(LineSeries::new(points, style))?;
                    context.draw_series(dots)?;
                }
                Stroke::Line | Stroke::Faint => {
                    context.draw_series(LineSeries::new(points, style))?;
                }
            }
        }
    }
    root.present()?;
    Ok(())
}

/// Exponential moving average in both directions, hence without lag; `window` is the number of points
/// whose weights make up about two thirds of the average. Gaps (non-finite values) stay gaps.
pub(crate) fn smooth(points: &[(f64, f64)], window: f64) -> Vec<(f64, f64)> {
    let decay = 1.0 - 1.0 / window.max(1.0);
    let sweep = |values: &mut dyn Iterator<Item = f64>| -> Vec<(f64, f64)> {
        let (mut sum, mut weight) = (0.0, 0.0);
        let step = |value: f64| {
            if value.is_finite() {
                (sum, weight) = (sum * decay + value, weight * decay + 1.0);
            }
            (sum, weight)
        };
        values.map(step).collect()
    };
    let forward = sweep(&mut points.iter().map(|p| p.1));
    let mut backward = sweep(&mut points.iter().rev().map(|p| p.1));
    backward.reverse();
    let mut smoothed = Vec::with_capacity(points.len());
    for (index, &(x, y)) in points.iter().enumerate() {
        let ((fs, fw), (bs, bw)) = (forward[index], backward[index]);
        // The point itself is in both sums; count it once.
        let value = if y.is_finite() { (fs + bs - y) / (fw + bw - 1.0) } else { f64::NAN };
        smoothed.push((x, value));
    }
    smoothed
}

/// At most `limit` points, evenly picked, the last one kept: a chart of 420 units shows no more.
pub(crate) fn thin(points: &[(f64, f64)], limit: usize) -> Vec<(f64, f64)> {
    let stride = points.len().div_ceil(limit.max(1)).max(1);
    let last = points.len().saturating_sub(1);
    let keep = |(i, p): (usize, &(f64, f64))| (i % stride == 0 || i == last).then_some(*p);
    points.iter().enumerate().filter_map(keep).collect()
}

fn span(values: impl Iterator<Item = f64>, pad: f64) -> Range<f64> {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if !(low.is_finite() && high.is_finite()) {
        return 0.0..1.0;
    }
    let width = high - low;
    if width <= f64::EPSILON * high.abs().max(1e-12) {
        let half = (high.abs() * 0.5).max(0.5);
        return low - half..high + half;
    }
    // A quantity that is never negative gets no negative axis.
    let start = if low >= 0.0 { (low - pad * width).max(0.0) } else { low - pad * width };
    start..high + pad * width
}

/// Decimals that tell a sixth of the range apart; `None` for values that need an exponent.
fn decimals(range: &Range<f64>) -> Option<usize> {
    let step = (range.end - range.start) / 6.0;
    if step < 1e-3 { None } else { Some((-step.log10().floor()).max(0.0) as usize) }
}

fn number(value: f64, decimals: Option<usize>) -> String {
    match decimals {
        Some(digits) => format!("{value:.digits$}"),
        None if value == 0.0 => "0".to_owned(),
        None => format!("{value:.1e}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn line(points: Vec<(f64, f64)>) -> Chart {
        let series = Series { name: "a".into(), colour: [1, 2, 3], points, stroke: Stroke::Line };
        Chart { x_label: "step".into(), y_range: None, series: vec![series] }
    }

    #[test]
    fn draws_axis_labels_and_the_line() {
        let chart = line((0..50).map(|i| (i as f64, (i as f64).sin())).collect());
        let text = svg(&chart).unwrap().unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        assert!(text.contains("polyline") && text.contains("#010203") && text.contains("step"));
    }

    #[test]
    fn nothing_to_draw_is_no_chart() {
        assert!(svg(&line(vec![])).unwrap().is_none());
        assert!(svg(&line(vec![(0.0, 1.0)])).unwrap().is_none());
        assert!(svg(&line(vec![(0.0, f64::NAN), (1.0, f64::NAN)])).unwrap().is_none());
    }

    #[test]
    fn constants_gaps_and_extremes_are_drawn() {
        for points in [
            vec![(0.0, 0.0), (1.0, 0.0)],
            vec![(0.0, 5e-5), (1.0, f64::NAN), (2.0, 4e-5), (3.0, 1e-9)],
            vec![(0.0, -1e9), (1.0, 1e9)],
            vec![(3.0, 1.0), (3.0, 2.0)],
        ] {
            assert!(svg(&line(points)).unwrap().is_some());
        }
    }

    #[test]
    fn smoothing_keeps_constants_and_straight_middles() {
        let flat: Vec<_> = (0..20).map(|i| (i as f64, 3.0)).collect();
        assert!(smooth(&flat, 5.0).iter().all(|p| (p.1 - 3.0).abs() < 1e-12));
        let ramp: Vec<_> = (0..41).map(|i| (i as f64, i as f64)).collect();
        assert!((smooth(&ramp, 5.0)[20].1 - 20.0).abs() < 1e-9, "no lag");
        assert_eq!(smooth(&ramp, 1.0), ramp, "window 1 changes nothing");
    }

    #[test]
    fn thinning_keeps_ends() {
        let points: Vec<_> = (0..1001).map(|i| (i as f64, 0.0)).collect();
        let kept = thin(&points, 100);
        assert!(kept.len() <= 101 && kept[0].0 == 0.0 && kept[kept.len() - 1].0 == 1000.0);
        assert_eq!(thin(&points[..3], 100).len(), 3);
    }

    #[test]
    fn tick_numbers_have_as_many_decimals_as_needed() {
        assert_eq!(number(0.25, decimals(&(0.0..1.0))), "0.2");
        assert_eq!(number(30.0, decimals(&(0.0..60.0))), "30");
        assert_eq!(number(5e-5, decimals(&(0.0..5e-5))), "5.0e-5");
    }
}
