//! Results for people and programs: serde structs and Markdown tables. Shares are 0–1 in the structs and per cent in
//! the tables; what is undefined is `None`, `null` and `–`.

use serde::{Deserialize, Serialize};

use crate::gres::GresMetrics;
use crate::ris::RisMetrics;

/// The numbers of [`RisMetrics`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RisReport {
    /// Samples with a target.
    pub targets: u64,
    /// Samples without.
    pub zeros: u64,
    /// oIoU.
    pub overall_iou: Option<f64>,
    /// mIoU.
    pub mean_iou: Option<f64>,
    /// Prec@0.5, 0.6, 0.7, 0.8 and 0.9.
    pub precision: [Option<f64>; 5],
    /// Acc.
    pub zero_accuracy: Option<f64>,
}

impl From<&RisMetrics> for RisReport {
    fn from(metrics: &RisMetrics) -> Self {
        Self {
            targets: metrics.targets(),
            zeros: metrics.zeros(),
            overall_iou: metrics.overall_iou(),
            mean_iou: metrics.mean_iou(),
            precision: metrics.precision(),
            zero_accuracy: metrics.zero_accuracy(),
        }
    }
}

/// The numbers of [`GresMetrics`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GresReport {
    /// gIoU.
    pub g_iou: Option<f64>,
    /// cIoU.
    pub c_iou: Option<f64>,
    /// N-acc.
    pub no_target_accuracy: Option<f64>,
    /// T-acc.
    pub target_accuracy: Option<f64>,
    /// Pr@0.7, 0.8 and 0.9.
    pub precision: [Option<f64>; 3],
}

impl From<&GresMetrics> for GresReport {
    fn from(metrics: &GresMetrics) -> Self {
        Self {
            g_iou: metrics.g_iou(),
            c_iou: metrics.c_iou(),
            no_target_accuracy: metrics.no_target_accuracy(),
            target_accuracy: metrics.target_accuracy(),
            precision: metrics.precision(),
        }
    }
}

/// Both tables' numbers for one kind of sample, or for all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindReport {
    /// Samples.
    pub samples: u64,
    /// The RIS table.
    pub ris: RisReport,
    /// The GRES table.
    pub gres: GresReport,
}

/// Everything [`Evaluation`](crate::Evaluation) knows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationReport {
    /// All samples.
    pub overall: KindReport,
    /// Expressions with one target.
    pub one: KindReport,
    /// Expressions with several.
    pub many: KindReport,
    /// Expressions with none.
    pub zero: KindReport,
}

const RIS_HEAD: [&str; 8] =
    ["oIoU", "mIoU", "Prec@0.5", "Prec@0.6", "Prec@0.7", "Prec@0.8", "Prec@0.9", "Acc"];
const GRES_HEAD: [&str; 7] = ["gIoU", "cIoU", "N-acc", "T-acc", "Pr@0.7", "Pr@0.8", "Pr@0.9"];

impl RisReport {
    /// Header of [`Self::markdown_row`] with its rule, ending in a line break.
    pub fn markdown_header() -> String {
        head("", &RIS_HEAD)
    }

    /// One table row in per cent, without line break.
    pub fn markdown_row(&self, name: &str) -> String {
        row(name, &self.cells())
    }

    fn cells(&self) -> Vec<Option<f64>> {
        let mut cells = vec![self.overall_iou, self.mean_iou];
        cells.extend(self.precision);
        cells.push(self.zero_accuracy);
        cells
    }
}

impl GresReport {
    /// Header of [`Self::markdown_row`] with its rule, ending in a line break.
    pub fn markdown_header() -> String {
        head("", &GRES_HEAD)
    }

    /// One table row in per cent, without line break.
    pub fn markdown_row(&self, name: &str) -> String {
        row(name, &self.cells())
    }

    fn cells(&self) -> Vec<Option<f64>> {
        let mut cells = vec![self.g_iou, self.c_iou, self.no_target_accuracy, self.target_accuracy];
        cells.extend(self.precision);
        cells
    }
}

impl EvaluationReport {
    /// The overall row and those of the kinds that occur, with their names.
    pub fn kinds(&self) -> Vec<(&'static str, KindReport)> {
        let mut kinds = vec![("all", self.overall)];
        let rest =
            [("one target", self.one), ("many targets", self.many), ("no target", self.zero)];
        kinds.extend(rest.into_iter().filter(|(_, kind)| kind.samples > 0));
        kinds
    }

    /// The RIS table, overall and by kind, in per cent.
    pub fn ris_markdown(&self) -> String {
        self.table(&RIS_HEAD, |kind| kind.ris.cells())
    }

    /// The GRES table, overall and by kind, in per cent.
    pub fn gres_markdown(&self) -> String {
        self.table(&GRES_HEAD, |kind| kind.gres.cells())
    }

    fn table(&self, columns: &[&str], cells: impl Fn(&KindReport) -> Vec<Option<f64>>) -> String {
        let mut columns = columns.to_vec();
        columns.insert(0, "samples");
        let mut text = head("expressions", &columns);
        for (name, kind) in self.kinds() {
            let name = format!("{name} | {}", kind.samples);
            text += &row(&name, &cells(&kind));
            text.push('\n');
        }
        text
    }
}

fn head(first: &str, columns: &[&str]) -> String {
    format!("| {first} | {} |\n|---|{}\n", columns.join(" | "), "---:|".repeat(columns.len()))
}

fn row(name: &str, cells: &[Option<f64>]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .map(|c| c.map_or_else(|| "–".to_owned(), |x| format!("{:.2}", 100.0 * x)))
        .collect();
    format!("| {name} | {} |", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::{Evaluation, EvaluationReport, Kind, Overlap, RisReport};

    fn report() -> EvaluationReport {
        let mut evaluation = Evaluation::new();
        evaluation.add(Kind::One, Overlap { intersection: 6, predicted: 8, truth: 8 });
        evaluation.add(Kind::Zero, Overlap::default());
        evaluation.report()
    }

    #[test]
    fn tables_read_well() {
        let expected = "\
| expressions | samples | oIoU | mIoU | Prec@0.5 | Prec@0.6 | Prec@0.7 | Prec@0.8 | Prec@0.9 | Acc |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| all | 2 | 60.00 | 60.00 | 100.00 | 100.00 | 0.00 | 0.00 | 0.00 | 100.00 |
| one target | 1 | 60.00 | 60.00 | 100.00 | 100.00 | 0.00 | 0.00 | 0.00 | – |
| no target | 1 | – | – | – | – | – | – | – | 100.00 |
";
        assert_eq!(report().ris_markdown(), expected);
        assert!(
            report()
                .gres_markdown()
                .contains("| all | 2 | 80.00 | 60.00 | 100.00 | 100.00 | 0.00 |")
        );
        let row = report().overall.ris.markdown_row("ours");
        assert_eq!(
            row.matches('|').count(),
            RisReport::markdown_header().lines().next().unwrap().matches('|').count()
        );
    }

    #[test]
    fn json_keeps_undefined_apart_from_zero() {
        let json = serde_json::to_string(&report()).unwrap();
        assert!(json.contains(r#""mean_iou":null"#));
        assert_eq!(serde_json::from_str::<EvaluationReport>(&json).unwrap(), report());
    }
}
