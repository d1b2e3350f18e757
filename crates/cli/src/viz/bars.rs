//! Stacked bars as SVG, several panels on a sheet. No font file is needed: text is left to the viewer.

use maud::{Markup, html};

use super::palette::{Colour, hex};

/// One panel.
pub(crate) struct Panel {
    /// Above the bars.
    pub(crate) title: String,
    /// Below the title, smaller.
    pub(crate) note: String,
    /// From left to right.
    pub(crate) bars: Vec<Bar>,
}

/// One bar: what stands below it, and its parts from the bottom up.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) parts: Vec<(usize, Colour)>,
}

impl Bar {
    fn total(&self) -> usize {
        self.parts.iter().map(|(count, _)| count).sum()
    }
}

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 14.0;
const TOP: f64 = 66.0;
const BOTTOM: f64 = 30.0;

/// All panels, `columns` in a row, as a whole `<svg>`. `paper`: a background, for a file of its own;
/// without it the text has the colour of the page around it.
pub(crate) fn sheet(panels: &[Panel], columns: usize, paper: Option<&str>) -> Markup {
    let columns = columns.clamp(1, panels.len().max(1));
    let rows = panels.len().div_ceil(columns);
    let (width, height) = (WIDTH * columns as f64, HEIGHT * rows as f64);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox=(format!("0 0 {width} {height}"))
            width=(width) height=(height) font-family="system-ui, sans-serif" font-size="12" fill="currentColor" {
            @if let Some(paper) = paper { rect width=(width) height=(height) fill=(paper) {} }
            @for (i, panel) in panels.iter().enumerate() {
                g transform=(format!("translate({} {})", (i % columns) as f64 * WIDTH, (i / columns) as f64 * HEIGHT)) {
                    (draw(panel))
                }
            }
        }
    }
}

fn draw(panel: &Panel) -> Markup {
    let most = panel.bars.iter().map(Bar::total).max().unwrap_or(0).max(1) as f64;
    let slot = (WIDTH - 2.0 * LEFT) / panel.bars.len().max(1) as f64;
    // Few bars do not become walls.
    let thick = (slot * 0.8).min(60.0);
    let (ground, tall) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM - TOP);
    // A count above every bar, unless the counts would run into each other.
    let digits = most.log10() as usize + 1;
    let counts_fit = digits as f64 * 6.6 < slot + 1.0;
    html! {
        text x=(LEFT) y="24" font-size="15" font-weight="600" { (panel.title) }
        text x=(LEFT) y="42" opacity="0.7" { (panel.note) }
        @for (i, bar) in panel.bars.iter().enumerate() {
            @let x = LEFT + slot * (i as f64 + 0.5);
            @for (below, count, colour) in stacked(bar) {
                rect x=(short(x - thick / 2.0)) width=(short(thick)) fill=(hex(colour))
                    y=(short(ground - tall * (below + count) as f64 / most)) height=(short(tall * count as f64 / most)) {
                    title { (bar.label) ": " (count) }
                }
            }
            @if counts_fit && bar.total() > 0 {
                text x=(short(x)) y=(short(ground - tall * bar.total() as f64 / most - 4.0)) text-anchor="middle" font-size="11" { (bar.total()) }
            }
            text x=(short(x)) y=(ground + 15.0) text-anchor="middle" font-size="11" { (bar.label) }
        }
        line x1=(LEFT) x2=(WIDTH - LEFT) y1=(ground) y2=(ground) stroke="currentColor" stroke-opacity="0.5" {}
    }
}

/// `(below, count, colour)` of the parts that are seen.
fn stacked(bar: &Bar) -> impl Iterator<Item = (usize, usize, Colour)> {
    bar.parts
        .iter()
        .scan(0, |sum, &(count, colour)| {
            let below = *sum;
            *sum += count;
            Some((below, count, colour))
        })
        .filter(|(_, count, _)| *count > 0)
}

fn short(number: f64) -> String {
    format!("{number:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(counts: &[usize]) -> Panel {
        let bar = |(i, &n): (usize, &usize)| Bar {
            label: format!("<{i}>"),
            parts: vec![(n, [1, 2, 3]), (0, [9, 9, 9]), (n, [4, 5, 6])],
        };
        Panel {
            title: "a & b".into(),
            note: String::new(),
            bars: counts.iter().enumerate().map(bar).collect(),
        }
    }

    #[test]
    fn parts_stand_on_each_other_and_text_is_escaped() {
        let svg = sheet(&[panel(&[1, 2])], 2, Some("#fff")).into_string();
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;1&gt;"), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 1 + 4, "paper and seen parts: {svg}");
        // The tallest bar ends below the title and begins on the ground.
        assert!(svg.contains("y=\"66.0\"") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn empty_panels_are_drawn() {
        assert!(sheet(&[panel(&[])], 2, None).into_string().contains("<svg"));
        assert!(sheet(&[panel(&[0])], 1, None).into_string().contains("</svg>"));
        assert!(sheet(&[], 2, None).into_string().contains("</svg>"));
    }
}
