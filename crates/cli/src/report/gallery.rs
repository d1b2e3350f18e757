//! Cards: the picture, truth against prediction beside it, the sentence and its score.

use maud::{Markup, html};

use super::data::{Card, Section};
use super::tables::percent;
use crate::viz::palette::{CORRECT, MISSED, WRONG, hex};

/// All sections with a legend above them.
pub(super) fn sections(sections: &[Section]) -> Markup {
    html! {
        p.legend {
            @for (colour, text) in [
                (CORRECT, "predicted and true"),
                (MISSED, "true, but missed"),
                (WRONG, "predicted, but wrong"),
            ] {
                span.key { i style=(format!("background:{}", hex(colour))) {} (text) }
            }
            span.key { i.line {} "outline of the truth" }
        }
        @for section in sections {
            h3 { (section.title) }
            p.note { (section.note) }
            div.cards { @for card in &section.cards { (card_of(card)) } }
        }
    }
}

fn card_of(card: &Card) -> Markup {
    let (width, height) = card.size;
    // The overlay may be drawn larger than the picture: only the shape is given, the page sets the size.
    let shape = format!("aspect-ratio:{width}/{height}");
    let source = |png: &str| format!("data:image/png;base64,{png}");
    html! {
        figure.card {
            div.pair {
                img src=(source(&card.picture)) style=(shape) loading="lazy" alt="picture";
                img src=(source(&card.overlay)) style=(shape) loading="lazy"
                    alt=(format!("truth against prediction: {}", answer(card)));
            }
            figcaption {
                q { (card.sentence) }
                div.facts {
                    span.badge.ok[card.right].missed[!card.right] { (answer(card)) }
                    span { (card.kind) (if card.kind == "one" { " target" } else { " targets" }) }
                    span.source { (card.source) }
                }
            }
        }
    }
}

fn answer(card: &Card) -> String {
    let mark = if card.right { "✓" } else { "✗" };
    match card.iou {
        Some(iou) => format!("{mark} IoU {}", percent(Some(iou))),
        None if card.predicted_share == 0.0 => format!("{mark} nothing found"),
        None => format!("{mark} {:.1} % of the picture", card.predicted_share * 100.0),
    }
}
