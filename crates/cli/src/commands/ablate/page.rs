//! The table of an `ablate` as one HTML file with bars; no scripts, no other files.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::table::{NOTE, scores, shown};
use super::{Row, Written};
use crate::progress::{count, duration, percent};
use crate::viz::palette::{hex, series};

const STYLE: &str = include_str!("../../report/page.css");
const BARS: &str = ".bars{display:grid;grid-template-columns:minmax(9em,20em) 1fr;gap:12px 16px;align-items:center}.bars .track{display:flex;align-items:center;gap:6px;height:15px;font-size:.8rem;margin:2px 0}.bars .fill{height:100%;border-radius:2px}.bars .what{font-size:.85rem;color:var(--dim)}";
/// The scores drawn as bars.
const DRAWN: [&str; 3] = ["oIoU", "mIoU", "Acc"];

/// The page as HTML text.
pub(super) fn render(written: &Written<'_>) -> String {
    let rows = written.rows;
    let names: Vec<&str> =
        rows.first().map(scores).unwrap_or_default().into_iter().map(|(name, _)| name).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "DMMI ablations" }
                style { (PreEscaped(STYLE)) (PreEscaped(BARS)) }
            }
            body { main {
                h1 { "DMMI ablations" }
                p.summary {
                    (rows.len()) " configurations on the same synthetic data (" (written.data) "), seed "
                    (written.settings.seed) ", on " (written.device) ". " (NOTE)
                }
                p.legend {
                    @for (i, name) in DRAWN.into_iter().enumerate() {
                        span.key { i style=(format!("background:{}", hex(series(i)))) {} (name) }
                    }
                }
                div.bars { @for row in rows { (bars(row)) } }
                h2 { "Scores" }
                div.scroll { table {
                    thead { tr {
                        th scope="col" { "ablation" }
                        th.number scope="col" { "parameters" }
                        @for name in &names { th.number scope="col" { (name) } }
                        th.number scope="col" { "training" }
                    } }
                    tbody { @for row in rows { tr {
                        th scope="row" { (shown(row)) }
                        td.number { (count(row.outcome.parameters)) }
                        @for (_, score) in scores(row) { td.number { (percent(score)) } }
                        td.number { (duration(row.outcome.training_seconds)) }
                    } } }
                } }
            } }
        }
    };
    page.into_string()
}

fn bars(row: &Row) -> Markup {
    let found = scores(row);
    let value = |name: &str| found.iter().find(|(n, _)| *n == name).and_then(|(_, score)| *score);
    html! {
        div { b { (shown(row)) } div.what { (row.title) } }
        div {
            @for (i, name) in DRAWN.into_iter().enumerate() {
                div.track role="img" aria-label=(format!("{name} {}", percent(value(name)))) {
                    div.fill style=(format!(
                        "width:calc((100% - 4em) * {:.4});background:{}",
                        value(name).unwrap_or(0.0),
                        hex(series(i))
                    )) {}
                    span { (percent(value(name))) }
                }
            }
        }
    }
}
