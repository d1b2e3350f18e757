//! The README of a constructed set: what it holds and how it was made.

use super::plan::ZomPlan;
use crate::synthetic::KindCounts;

pub(super) fn readme(plan: &ZomPlan) -> String {
    let report = &plan.report;
    let mut rows = String::new();
    for (split, counts) in &report.chosen {
        let KindCounts { one, many, zero } = *counts;
        let (images, objects) =
            (report.images[split], report.objects.get(split).copied().unwrap_or(0));
        rows += &format!(
            "| {split} | {images} | {objects} | {} | {one} | {many} | {zero} |\n",
            counts.total()
        );
    }
    let mut sources = String::new();
    for (kind, by_source) in &report.sources {
        for (source, n) in by_source {
            sources += &format!("| {kind} | {source} | {n} |\n");
        }
    }
    let inputs: Vec<String> =
        plan.catalog.files().iter().map(|path| format!("`{}`", path.display())).collect();
    format!(
        "# A set in Ref-ZOM's layout\n\n\
        Built by `dmmi-cli data build-zom` from {} (seed {}); the settings are in `summary.json`.\n\
        Pictures and outlines keep the licences of their sources, which `instances.json` names.\n\n\
        | split | images | objects | expressions | one | many | zero |\n|---|---|---|---|---|---|---|\n{rows}\n\
        An image is in one split only. One-to-zero sentences are borrowed from images of the same split.\n\n\
        | kind | source | expressions |\n|---|---|---|\n{sources}\n\
        Of the borrowed one-to-zero sentences a person accepted {}.\n\n\
        | file | holds |\n|---|---|\n\
        | `{}` | list of records as in Ref-ZOM (pickle protocol 2): image, `ann_id` (number or list), `split`, `sentences`, `source` |\n\
        | `instances.json` | the used images with all their annotations, byte for byte as in the source |\n\
        | `provenance.jsonl` | a line a sentence: source, file, ids, template, checks, review |\n\
        | `summary.json` | settings and counts |\n",
        inputs.join(", "),
        plan.config.seed,
        report.accepted_used,
        ZomPlan::REFS,
    )
}
