//! Headline numbers and score tables. Scores are printed in percent with two decimals, as in papers.

use maud::{Markup, html};

use super::data::{Headline, ScoreTable};

/// Tiles: a number, its target, whether it is reached.
pub(super) fn headline(numbers: &[Headline]) -> Markup {
    html! {
        div.tiles {
            @for number in numbers {
                div.tile {
                    div.name { (number.name) }
                    div.value { (percent(number.value)) }
                    @if let (Some(target), Some(reached)) = (number.target, number.reached()) {
                        div.bar role="presentation" {
                            div.fill.ok[reached].missed[!reached] style=(width(number.value)) {}
                            div.mark style=(format!("left:{:.2}%", target.clamp(0.0, 1.0) * 100.0)) {}
                        }
                        div.verdict.ok[reached].missed[!reached] { (verdict(number.value, target, reached)) }
                    }
                    div.meaning { (number.meaning) }
                }
            }
        }
    }
}

fn width(value: Option<f64>) -> String {
    format!("width:{:.2}%", value.unwrap_or(0.0).clamp(0.0, 1.0) * 100.0)
}

fn verdict(value: Option<f64>, target: f64, reached: bool) -> String {
    let goal = format!("target {:.2}", target * 100.0);
    match value {
        None => format!("✗ not measured, {goal}"),
        Some(_) if reached => format!("✓ {goal} reached"),
        Some(value) => format!("✗ {:.2} points below the {goal}", (target - value) * 100.0),
    }
}

/// One table.
pub(super) fn scores(table: &ScoreTable) -> Markup {
    html! {
        h3 { (table.title) }
        div.scroll {
            table {
                thead { tr {
                    th scope="col" { "expressions" }
                    th.number scope="col" { "samples" }
                    @for column in &table.columns { th.number scope="col" { (column) } }
                } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            th scope="row" { (row.group) }
                            td.number { (row.samples) }
                            @for score in &row.scores { td.number { (percent(*score)) } }
                        }
                    }
                }
            }
        }
    }
}

/// `0.7512` as `75.12`; an en dash where there is no score.
pub(super) fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{:.2}", value * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_say_by_how_much() {
        assert_eq!(verdict(Some(0.78), 0.75, true), "✓ target 75.00 reached");
        assert_eq!(verdict(Some(0.731), 0.75, false), "✗ 1.90 points below the target 75.00");
        assert_eq!(verdict(None, 0.85, false), "✗ not measured, target 85.00");
    }

    #[test]
    fn missing_scores_are_dashes() {
        assert_eq!(percent(None), "–");
        assert_eq!(percent(Some(1.0)), "100.00");
    }
}
