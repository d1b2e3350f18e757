//! The page: order of its parts and its style sheet.

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::data::ReportData;
use super::{curves, gallery, tables};

/// The style sheet of every page that this program writes.
pub(crate) const STYLE: &str = include_str!("page.css");

/// The page as HTML text.
pub(super) fn render(data: &ReportData) -> Result<String> {
    let curves = curves::section(&data.course)?;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (data.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (data.title) }
                    @if !data.summary.is_empty() { p.summary { (data.summary) } }
                    (tables::headline(&data.headline))
                    @for remark in &data.remarks { p.remark { (remark) } }
                    (part("pictures", "Pictures", data.gallery.is_empty(), gallery::sections(&data.gallery)))
                    (part("scores", "Scores", data.tables.is_empty(), html! {
                        p.note {
                            "In percent. oIoU: summed intersections over summed unions. mIoU: mean of each sample's IoU. "
                            "P@t: share of samples with IoU of at least t. Acc: share of zero-target samples without a single predicted pixel. "
                            "gIoU, cIoU: the same two means with zero-target samples counted (right: 1, answered: 0; answered pixels join the union). "
                            "N-acc, T-acc: share of zero-target samples left empty, of targeted samples answered."
                        }
                        @for table in &data.tables { (tables::scores(table)) }
                    }))
                    (part("training", "Training", false, curves))
                    (part("reproduce", "Do it again", data.commands.is_empty(), html! {
                        @for (what, command) in &data.commands { p.note { (what) } pre { code { (command) } } }
                    }))
                    (part("environment", "Environment", data.environment.is_empty(), html! {
                        div.scroll { table.plain { tbody {
                            @for (name, value) in &data.environment { tr { th scope="row" { (name) } td { (value) } } }
                        } } }
                        @if !data.configuration.is_empty() {
                            details { summary { "Configuration (TOML)" } pre { code { (data.configuration) } } }
                        }
                    }))
                }
            }
        }
    };
    Ok(page.into_string())
}

fn part(id: &str, title: &str, empty: bool, body: Markup) -> Markup {
    html! {
        @if !empty { section id=(id) { h2 { (title) } (body) } }
    }
}
