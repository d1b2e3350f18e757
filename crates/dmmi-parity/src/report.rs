//! What was compared and with what verdict.

use std::fmt::Write as _;
use std::io::Write as _;

use candle_core::{DType, Device};
use serde::Serialize;

/// Arithmetic of the run under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// What training uses; judged by the reference's own f32 noise.
    F32,
    /// Tells wrong equations from rounding: what is left is the rounding of the stored values.
    F64,
    /// Mixed precision: bf16 activations over f32 parameters. Networks only, and of them what rounding to 8 bits leaves
    /// comparable: size and elements of the maps of every stage, and the first losses, within [`BF16`]. Sums that cancel,
    /// pixels between two equal logits and single gradients of a network with made-up weights are noise in such arithmetic.
    Bf16,
}

/// Tolerance of a relative error in mixed precision: a hundred roundings to 8 bits, one after another.
pub const BF16: f64 = 0.15;

impl Precision {
    /// Type of the parameters.
    pub fn parameters(self) -> DType {
        if self == Self::F64 { DType::F64 } else { DType::F32 }
    }

    /// Type of the activations.
    pub fn activations(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F64 => DType::F64,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// One quantity.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The case it belongs to.
    pub case: String,
    /// What was compared, and by which statistic.
    pub name: String,
    /// How far off we are; not finite when the values are not, or are missing.
    pub error: f64,
    /// How far off we may be.
    pub tolerance: f64,
    /// `error <= tolerance`.
    pub ok: bool,
    /// Why it missed, where a number does not tell.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// All verdicts of a run, in order.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Arithmetic of the run.
    pub precision: Precision,
    /// Where networks and their parts are computed.
    #[serde(skip)]
    pub device: Device,
    /// The quantities.
    pub lines: Vec<Line>,
    /// What was found but not compared, and why.
    pub remarks: Vec<String>,
    #[serde(skip)]
    case: String,
    #[serde(skip)]
    filter: Option<String>,
    #[serde(skip)]
    print: Printing,
}

/// What goes to standard output while a run proceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Printing {
    /// Every quantity.
    All,
    /// Misses and remarks.
    Misses,
    /// Nothing.
    Nothing,
}

impl Report {
    /// An empty report. With a filter, only quantities whose name contains it are judged.
    pub fn new(precision: Precision, filter: Option<String>, print: Printing) -> Self {
        let (lines, remarks) = (Vec::new(), Vec::new());
        let device = Device::Cpu;
        Self { precision, device, lines, remarks, case: String::new(), filter, print }
    }

    /// The same for a run on `device`.
    pub fn on(mut self, device: &Device) -> Self {
        self.device = device.clone();
        self
    }

    /// Starts a case.
    pub fn enter(&mut self, case: &str) {
        self.case = case.to_string();
    }

    /// Whether quantities of this name are judged.
    pub fn wants(&self, name: &str) -> bool {
        if self.precision == Precision::Bf16 {
            let noisy = name.starts_with("grad ")
                || name.starts_with("delta")
                || (name.starts_with("train.loss") && !name.ends_with("before step 0"))
                || (name.starts_with("buffer ") && !name.contains("@1 "))
                || name.contains("mask")
                || [" max", " min", " sum", " probe"].iter().any(|end| name.ends_with(end));
            if noisy {
                return false;
            }
        }
        self.filter.as_ref().is_none_or(|part| name.contains(part.as_str()))
    }

    /// Judges one quantity: a miss unless `error <= tolerance` (so NaN is one).
    pub fn judge(&mut self, name: &str, error: f64, tolerance: f64) {
        // The recorded noise is a CPU's; cuDNN's f32 convolutions may transform their inputs (Winograd), which adds as much.
        let tolerance = if self.device.is_cpu() { tolerance } else { 2.0 * tolerance };
        self.push(name, error, tolerance, error <= tolerance, String::new());
    }

    /// A miss that no number describes.
    pub fn miss(&mut self, name: &str, why: impl Into<String>) {
        self.push(name, f64::INFINITY, 0.0, false, why.into());
    }

    /// Something that was found but not compared.
    pub fn remark(&mut self, text: impl Into<String>) {
        let text = text.into();
        if self.print != Printing::Nothing {
            say(&format!("{text}\n"));
        }
        self.remarks.push(text);
    }

    fn push(&mut self, name: &str, error: f64, tolerance: f64, ok: bool, note: String) {
        if !self.wants(name) {
            return;
        }
        let line =
            Line { case: self.case.clone(), name: name.to_string(), error, tolerance, ok, note };
        if self.print == Printing::All || (!ok && self.print == Printing::Misses) {
            say(&line.text());
        }
        self.lines.push(line);
    }

    /// Quantities that missed.
    pub fn misses(&self) -> usize {
        self.lines.iter().filter(|l| !l.ok).count()
    }

    /// One line a case, and the worst quantity of each.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let mut cases: Vec<&str> = self.lines.iter().map(|l| l.case.as_str()).collect();
        cases.dedup();
        for case in cases {
            let lines = || self.lines.iter().filter(|l| l.case == case);
            let missed = lines().filter(|l| !l.ok).count();
            let worst = lines()
                .filter(|l| l.tolerance > 0.0)
                .max_by(|a, b| a.ratio().total_cmp(&b.ratio()));
            let _ = write!(
                text,
                "{case}: {} of {} quantities agree",
                lines().count() - missed,
                lines().count()
            );
            if let Some(w) = worst {
                let _ = write!(
                    text,
                    "; closest to its tolerance: {} at {:.0} %",
                    w.name,
                    100.0 * w.ratio()
                );
            }
            text.push('\n');
        }
        text
    }
}

impl Line {
    /// Error as a part of the tolerance.
    pub fn ratio(&self) -> f64 {
        self.error / self.tolerance
    }

    /// `case  name  error  tolerance  verdict`.
    fn text(&self) -> String {
        let verdict = if self.ok { "ok" } else { "MISS" };
        let mut text = format!(
            "{:<18} {:<76} {:>9.2e} {:>9.2e}  {verdict}",
            self.case, self.name, self.error, self.tolerance
        );
        if !self.note.is_empty() {
            let _ = write!(text, "  {}", self.note);
        }
        text.push('\n');
        text
    }
}

/// Writes to standard output; a closed pipe ends the printing, not the run.
fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_a_miss_and_the_filter_narrows() {
        let mut report = Report::new(Precision::F32, Some("grad".into()), Printing::Nothing);
        report.enter("case");
        report.judge("loss", 1.0, 0.0);
        report.judge("grad a", f64::NAN, 1.0);
        report.judge("grad b", 1.0, 1.0);
        assert_eq!((report.lines.len(), report.misses()), (2, 1));
        assert!(report.summary().contains("1 of 2"));
    }
}
