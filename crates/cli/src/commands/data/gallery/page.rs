//! The page: controls, and the data as json that its script shows page by page.

use anyhow::{Context, Result};
use maud::{DOCTYPE, PreEscaped, html};

use super::pictures::Shown;
use crate::report::STYLE;
use crate::viz::palette::{KINDS, hex};

const LOOK: &str = include_str!("gallery.css");
const SCRIPT: &str = include_str!("gallery.js");

/// What stands in the heading.
pub(super) struct Facts {
    /// The data set.
    pub(super) title: String,
    /// Expressions drawn.
    pub(super) shown: usize,
    /// Expressions of the split.
    pub(super) of: usize,
    /// Seed of the drawing.
    pub(super) seed: u64,
}

/// The page as HTML text.
///
/// # Errors
/// The data cannot be written as json.
pub(super) fn render(facts: &Facts, shown: &Shown) -> Result<String> {
    let data = serde_json::to_string(shown).context("cannot write the gallery's data")?;
    let [zero, one, many] = KINDS.map(hex);
    let drawn = if facts.shown < facts.of {
        format!("{} of {} expressions, drawn with seed {}", facts.shown, facts.of, facts.seed)
    } else {
        format!("all {} expressions", facts.of)
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Gallery of " (facts.title) }
                style { (PreEscaped(STYLE)) (PreEscaped(LOOK)) ":root{--zero:" (zero) ";--one:" (one) ";--many:" (many) "}" }
            }
            body {
                main {
                    h1 { (facts.title) }
                    p.note { (drawn) ", on " (shown.images.len()) " pictures. Every object has a colour of its own. Keys: ← → other pictures, M masks, / search." }
                    noscript { p.remark { "This page needs JavaScript to show its pictures. It loads nothing from anywhere." } }
                    form #controls {
                        input #words type="search" placeholder="words in the expression, or an id" aria-label="Search";
                        @for (kind, label) in [("zero", "no target"), ("one", "one"), ("many", "several")] {
                            label.kind { input type="checkbox" name="kind" value=(kind) checked; i class=(kind) {} (label) " " span.count data-kind=(kind) {} }
                        }
                        label { "split " select #split { option value="" { "all" } } }
                        label #source-label { "source " select #source { option value="" { "all" } } }
                        label.kind { input #masks type="checkbox" checked; "masks" }
                    }
                    nav.pages aria-label="Pages" { button type="button" data-step="-1" { "‹ back" } span.where {} button type="button" data-step="1" { "next ›" } }
                    div #cards.cards {}
                    p #none hidden { "Nothing of this kind. Loosen the filters above." }
                    nav.pages aria-label="Pages" { button type="button" data-step="-1" { "‹ back" } span.where {} button type="button" data-step="1" { "next ›" } }
                }
                dialog #large aria-label="Enlarged" {
                    div.stage {}
                    p.caption {}
                    p.turn {
                        button type="button" data-large="-1" { "‹ back" }
                        span.which {}
                        button type="button" data-large="1" { "next ›" }
                        button type="button" { "close" }
                    }
                }
                script type="application/json" id="data" { (PreEscaped(safe(&data))) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}

/// Json in which no sentence can end the script element it stands in.
fn safe(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_cannot_leave_its_json() {
        let hostile = serde_json::to_string("</script><script>alert(1)<!--").unwrap();
        let text = safe(&hostile);
        assert!(!text.contains('<'));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), "</script><script>alert(1)<!--");
    }

    #[test]
    fn the_page_is_self_contained() {
        let facts = Facts { title: "<b>".into(), shown: 1, of: 2, seed: 3 };
        let page = render(&facts, &Shown::default()).unwrap();
        for outside in ["http://", "https://", "src=\"/", "<link", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(
            page.contains("&lt;b&gt;") && page.contains("1 of 2 expressions, drawn with seed 3")
        );
    }
}
