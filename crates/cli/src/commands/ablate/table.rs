//! The table of an `ablate`, for a terminal and as Markdown.

use std::fmt::Write as _;

use super::Row;
use crate::progress::{count, duration, percent};

/// Names and values (0-1) of a row's scores.
pub(super) fn scores(row: &Row) -> Vec<(&'static str, Option<f64>)> {
    let gres = row.outcome.test.gres_scores();
    let gres = gres.into_iter().filter(|(name, _)| ["gIoU", "cIoU"].contains(name));
    row.outcome.test.ris_scores().into_iter().chain(gres).collect()
}

/// What a row is called: its name, and whose run it shares.
pub(super) fn shown(row: &Row) -> String {
    match &row.same_as {
        Some(other) => format!("{} (= {other})", row.name),
        None => row.name.clone(),
    }
}

/// What a reader of the numbers must know.
pub(super) const NOTE: &str = "Percent, test split, at model size. One seed a row: differences of a few points are within what another seed changes.";

/// For a terminal.
pub(super) fn text(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| shown(row).len()).max().unwrap_or(0).max(8) + 1;
    let mut text = format!("{:<width$}{:>10}", "ablation", "params");
    for (name, _) in rows.first().map(scores).unwrap_or_default() {
        let _ = write!(text, "{name:>7}");
    }
    text.push_str("  training\n");
    for row in rows {
        let _ = write!(text, "{:<width$}{:>10}", shown(row), count(row.outcome.parameters));
        for (_, score) in scores(row) {
            let _ = write!(text, "{:>7}", percent(score));
        }
        let _ = writeln!(text, "  {}", duration(row.outcome.training_seconds));
    }
    text.push('\n');
    for row in rows {
        let _ = writeln!(text, "{:<width$}{}", row.name, row.title);
    }
    let _ = writeln!(text, "\n{NOTE}");
    text
}

/// As Markdown.
pub(super) fn markdown(rows: &[Row]) -> String {
    let names: Vec<&str> =
        rows.first().map(scores).unwrap_or_default().into_iter().map(|(name, _)| name).collect();
    let mut text = format!(
        "| ablation | what changes | parameters | {} | training |\n|---|---|--:|{}--:|\n",
        names.join(" | "),
        "--:|".repeat(names.len())
    );
    for row in rows {
        let values: Vec<String> = scores(row).iter().map(|(_, score)| percent(*score)).collect();
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            shown(row),
            row.title.replace('|', "\\|"),
            count(row.outcome.parameters),
            values.join(" | "),
            duration(row.outcome.training_seconds)
        );
    }
    let _ = writeln!(text, "\n{NOTE}");
    text
}
