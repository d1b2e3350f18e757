//! The review page: a picture, a sentence that is meant to refer to nothing in it, why the checks let it pass; a person
//! accepts or rejects, and downloads the decisions. One self-contained file a page, no network.

use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use maud::{DOCTYPE, PreEscaped, html};
use refzom_dataset::build_zom::{Candidate, DecisionsFile, Origin, Passed, ZomPlan};
use refzom_dataset::{Orientation, load_rgb, resize_bilinear};
use serde::Serialize;

use crate::progress::bar;

const STYLE: &str = include_str!("review.css");
const SCRIPT: &str = include_str!("review.js");
/// Sentences a page: some 10 MB.
const PAGE: usize = 250;
/// Longest side of a picture, in pixels.
const SIDE: u32 = 560;

/// A sentence on the page.
#[derive(Serialize)]
struct Item<'a> {
    image_id: i64,
    file_name: &'a str,
    sentence: &'a str,
    /// Its source in words.
    source: &'static str,
    /// The sentence as it was written about the other image.
    from: &'a str,
    from_image: i64,
    /// Why it passed, a line each.
    why: Vec<String>,
    /// Whether it is used only if it is accepted.
    conflict: bool,
    /// A data address.
    picture: String,
}

/// What the script needs beside the items.
#[derive(Serialize)]
struct Page<'a> {
    format: &'static str,
    /// The browser keeps decisions under this name.
    name: String,
    file: String,
    items: Vec<Item<'a>>,
}

/// Writes `page-1.html` .. into `dir`; answers with the number of pages.
///
/// # Errors
/// A picture cannot be read or a page cannot be written.
pub(super) fn write(plan: &ZomPlan, candidates: &[&Candidate], dir: &Path) -> Result<usize> {
    if candidates.is_empty() {
        return Ok(0);
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let bar = bar(candidates.len() as u64);
    bar.set_prefix("review pages");
    let pages = candidates.len().div_ceil(PAGE);
    for (i, part) in candidates.chunks(PAGE).enumerate() {
        let mut items = Vec::with_capacity(part.len());
        for candidate in part {
            bar.inc(1);
            items.extend(item(plan, candidate)?);
        }
        let number = i + 1;
        let page = Page {
            format: DecisionsFile::FORMAT,
            name: format!("{}:{}:{number}", dir.display(), plan.config.seed),
            file: format!("decisions-{number}.json"),
            items,
        };
        let path = dir.join(format!("page-{number}.html"));
        let text = render(&page, number, pages)?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    bar.finish_and_clear();
    Ok(pages)
}

fn item<'a>(plan: &'a ZomPlan, candidate: &'a Candidate) -> Result<Option<Item<'a>>> {
    let (source, from) = match &candidate.origin {
        Origin::OtherCaption { from, .. } => ("caption of another picture", from),
        Origin::OtherExpression { from, .. } => ("expression about another picture", from),
        _ => return Ok(None),
    };
    let (Some(checks), Some(path)) = (candidate.origin.checks(), plan.picture_path(candidate))
    else {
        return Ok(None);
    };
    let image = &plan.catalog.pictures()[candidate.picture as usize];
    Ok(Some(Item {
        image_id: image.id,
        file_name: &image.file_name,
        sentence: &candidate.sentence,
        source,
        from: &from.text,
        from_image: from.image_id,
        why: why(checks, image.present.to_string()),
        conflict: checks.conflict.is_some(),
        picture: picture(&path)?,
    }))
}

fn why(checks: &Passed, present: String) -> Vec<String> {
    let mut lines = match &checks.conflict {
        Some(conflict) => vec![conflict.to_string()],
        None => vec![
            format!(
                "Head noun: {}. Not annotated here: {}.",
                checks.head,
                checks.looked_for.join(", ")
            ),
            format!(
                "None of these is mentioned in the {} sentences about this picture.",
                checks.texts
            ),
        ],
    };
    lines.push(match present.is_empty() {
        true => "Nothing is annotated in this picture.".to_owned(),
        false => format!("Annotated in this picture: {present}."),
    });
    if !checks.shared.is_empty() {
        lines.push(format!("Near miss: the sentence also speaks of {}.", checks.shared.join(", ")));
    }
    lines
}

fn picture(path: &Path) -> Result<String> {
    let rgb = load_rgb(path, Orientation::Ignore)?;
    let scale = (f64::from(SIDE) / f64::from(rgb.width().max(rgb.height()))).min(1.0);
    let side = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    let small = resize_bilinear(&rgb, side(rgb.height()), side(rgb.width()));
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 80)
        .encode_image(&small)
        .with_context(|| format!("cannot shrink {}", path.display()))?;
    Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes)))
}

fn render(page: &Page<'_>, number: usize, pages: usize) -> Result<String> {
    // "</script>" inside a sentence must not end the element.
    let data = serde_json::to_string(page)?.replace('<', "\\u003c");
    let title = format!("Review {number} of {pages}: does anything here answer to the sentence?");
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (title) }
                    div.progress { div #bar {} }
                    p #counts aria-live="polite" {}
                }
                main {
                    figure { img #picture alt="the picture to judge"; figcaption #place {} }
                    section #card {
                        p #state {}
                        blockquote #sentence {}
                        div.buttons {
                            button #accept type="button" { "Accept " kbd { "A" } small { "nothing answers to it" } }
                            button #reject type="button" { "Reject " kbd { "R" } small { "something does, or it is no sentence" } }
                        }
                        h2 { "Why it passed" }
                        ul #why {}
                        p #source {}
                        div.moves {
                            button #back type="button" { kbd { "←" } " back" }
                            button #clear type="button" { kbd { "U" } " undo" }
                            button #next type="button" { "next " kbd { "→" } }
                            button #open type="button" { "next undecided " kbd { "N" } }
                        }
                        div.save {
                            button #download type="button" { "Download decisions " kbd { "D" } }
                            label.load { "Go on from a file " input #load type="file" accept=".json,application/json"; }
                        }
                        p.note { "Decisions are kept in this browser. Give the downloaded file to " code { "dmmi-cli data build-zom --decisions" } "." }
                    }
                }
                nav #strip aria-label="all sentences" {}
                script #data type="application/json" { (PreEscaped(data)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_cannot_end_the_script() {
        let item = Item {
            image_id: 1,
            file_name: "1.jpg",
            sentence: "</script><b>dog",
            source: "caption of another picture",
            from: "x",
            from_image: 2,
            why: vec![],
            conflict: false,
            picture: String::new(),
        };
        let page = Page {
            format: DecisionsFile::FORMAT,
            name: "n".into(),
            file: "d.json".into(),
            items: vec![item],
        };
        let text = render(&page, 1, 1).unwrap();
        assert_eq!(text.matches("</script>").count(), 2);
        assert!(
            text.contains("\\u003c/script>\\u003cb>dog") && text.contains(DecisionsFile::FORMAT)
        );
        assert!(!text.contains("http"), "self-contained");
    }
}
