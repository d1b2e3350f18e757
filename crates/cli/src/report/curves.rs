//! The charts of a run: each loss term on its own axis (their sizes differ by a hundred), validation
//! scores on a common 0-1 axis, the learning rate.

use anyhow::Result;
use maud::{Markup, PreEscaped, html};

use super::data::{Course, StepPoint};
use crate::viz::curves::{Chart, Series, Stroke, smooth, svg, thin};
use crate::viz::palette::{hex, series};

/// Most points of a line: the charts are 420 units wide.
const POINTS: usize = 400;

/// Takes one term out of a step.
type Term = fn(&StepPoint) -> f64;

/// All charts that have data.
///
/// # Errors
/// If plotters cannot draw.
pub(super) fn section(course: &Course) -> Result<Markup> {
    let mut figures = Vec::new();
    figures.extend(scores(course)?);
    let losses: [(&str, Term); 4] = [
        ("Total loss", |s| s.total),
        ("Segmentation loss", |s| s.segmentation),
        ("Similarity loss (erased words)", |s| s.similarity),
        ("Contrastive loss", |s| s.contrastive),
    ];
    for (index, (title, value)) in losses.into_iter().enumerate() {
        figures.extend(loss(course, title, value, index)?);
    }
    figures.extend(learning_rate(course)?);
    Ok(html! {
        @if figures.is_empty() { p.note { "No training steps were recorded." } }
        div.charts { @for figure in &figures { (figure) } }
    })
}

fn loss(course: &Course, title: &str, value: Term, index: usize) -> Result<Option<Markup>> {
    let raw: Vec<_> = course.steps.iter().map(|s| (s.step as f64, value(s))).collect();
    let smoothed = smooth(&raw, raw.len() as f64 / 60.0);
    let line = |name: &str, points: &[(f64, f64)], stroke| Series {
        name: name.to_owned(),
        colour: series(index),
        points: thin(points, POINTS),
        stroke,
    };
    let lines =
        vec![line("each step", &raw, Stroke::Faint), line("smoothed", &smoothed, Stroke::Line)];
    figure(title, Chart { x_label: "step".into(), y_range: None, series: lines })
}

fn learning_rate(course: &Course) -> Result<Option<Markup>> {
    let points: Vec<_> = course.steps.iter().map(|s| (s.step as f64, s.learning_rate)).collect();
    let line = Series {
        name: "learning rate".into(),
        colour: series(0),
        points: thin(&points, POINTS),
        stroke: Stroke::Line,
    };
    figure("Learning rate", Chart { x_label: "step".into(), y_range: None, series: vec![line] })
}

fn scores(course: &Course) -> Result<Option<Markup>> {
    let mut lines = Vec::new();
    for (index, line) in course.scores.iter().enumerate() {
        let (Some(first), Some(last)) = (line.points.first(), line.points.last()) else { continue };
        if let Some(target) = line.target {
            lines.push(Series {
                name: "target".to_owned(),
                colour: series(index),
                points: vec![(first.0, target), (last.0, target)],
                stroke: Stroke::Target,
            });
        }
        lines.push(Series {
            name: line.name.clone(),
            colour: series(index),
            points: line.points.clone(),
            stroke: Stroke::Dots,
        });
    }
    let chart = Chart { x_label: "epoch".into(), y_range: Some(0.0..1.0), series: lines };
    figure("Validation scores", chart)
}

fn figure(title: &str, chart: Chart) -> Result<Option<Markup>> {
    let Some(drawing) = svg(&chart)? else { return Ok(None) };
    Ok(Some(html! {
        figure.chart {
            figcaption {
                b { (title) }
                @if chart.series.len() > 1 {
                    span.keys {
                        @for line in chart.series.iter().filter(|line| line.stroke != Stroke::Target) {
                            span.key {
                                i.faint[line.stroke == Stroke::Faint] style=(format!("background:{}", hex(line.colour))) {}
                                (line.name)
                            }
                        }
                        @if chart.series.iter().any(|line| line.stroke == Stroke::Target) {
                            span.key { "- - target" }
                        }
                    }
                }
            }
            div role="img" aria-label=(title) { (PreEscaped(drawing)) }
        }
    }))
}
