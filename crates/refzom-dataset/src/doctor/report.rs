//! What was found, as a value, as text and as json.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use super::{Fault, Severity};
use crate::{Annotations, Format};

/// Longest example, in characters.
const MAX_EXAMPLE: usize = 240;

/// Findings as they come in.
#[derive(Debug)]
pub(super) struct Chart {
    found: BTreeMap<(Severity, Fault), (usize, Vec<String>)>,
    examples: usize,
}

impl Chart {
    pub(super) fn new(examples: usize) -> Self {
        Self { found: BTreeMap::new(), examples }
    }

    /// Counts one more; the example is only made while some are still wanted.
    pub(super) fn add(&mut self, fault: Fault, example: impl FnOnce() -> String) {
        let (count, examples) = self.found.entry((fault.severity(), fault)).or_default();
        *count += 1;
        if examples.len() < self.examples {
            let text = example();
            let cut: String = text.chars().take(MAX_EXAMPLE).collect();
            examples.push(if cut.len() < text.len() { cut + ".." } else { cut });
        }
    }

    pub(super) fn diagnosis(self, annotations: &Annotations, decoded: usize) -> Diagnosis {
        let finding = |((severity, fault), (count, examples)): ((Severity, Fault), _)| Finding {
            severity,
            fault,
            label: fault.label(),
            remedy: fault.remedy(),
            count,
            examples,
        };
        Diagnosis {
            format: annotations.format,
            files: annotations.files.iter().map(|file| file.display().to_string()).collect(),
            images: annotations.instances.images.len(),
            annotations: annotations.instances.annotations.len(),
            records: annotations.records.len(),
            sentences: annotations.records.iter().map(|r| r.sentences.len()).sum(),
            splits: annotations.splits(),
            pictures_decoded: decoded,
            findings: self.found.into_iter().map(finding).collect(),
        }
    }
}

/// One kind of fault in a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How grave it is.
    pub severity: Severity,
    /// What it is.
    pub fault: Fault,
    /// The same in words.
    pub label: &'static str,
    /// What it does, and what to do about it.
    pub remedy: &'static str,
    /// How often it occurs.
    pub count: usize,
    /// The first of them.
    pub examples: Vec<String>,
}

/// The state of a data set. [`Display`] draws it as text, serde writes it as json.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Format of the annotation files.
    pub format: Format,
    /// The annotation files.
    pub files: Vec<String>,
    /// Image entries.
    pub images: usize,
    /// Annotations.
    pub annotations: usize,
    /// Records.
    pub records: usize,
    /// Sentences.
    pub sentences: usize,
    /// Splits and their numbers of records.
    pub splits: BTreeMap<String, usize>,
    /// Images whose content was looked at without a fault.
    pub pictures_decoded: usize,
    /// Errors first, then warnings, then notes.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Kinds of fault of this gravity.
    pub fn kinds(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// How often `fault` was found.
    pub fn count(&self, fault: Fault) -> usize {
        self.findings.iter().filter(|f| f.fault == fault).map(|f| f.count).sum()
    }

    /// Whether there is no error.
    pub fn is_fit(&self) -> bool {
        self.kinds(Severity::Error) == 0
    }

    /// What the data set is fit for.
    fn verdict(&self) -> String {
        if !self.is_fit() {
            return "mend the errors first".to_owned();
        }
        if self.splits.contains_key("train") {
            return "fit for training".to_owned();
        }
        let has: Vec<&str> = self.splits.keys().map(String::as_str).collect();
        format!("fit for testing; there is no split \"train\", only {}", has.join(", "))
    }
}

impl Display for Diagnosis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.files.join(", "), self.format)?;
        writeln!(
            f,
            "{} records, {} sentences, {} images, {} annotations; {} pictures decoded",
            self.records, self.sentences, self.images, self.annotations, self.pictures_decoded
        )?;
        for finding in &self.findings {
            let severity = match finding.severity {
                Severity::Error => "ERROR",
                Severity::Warning => "warning",
                Severity::Note => "note",
            };
            writeln!(f, "\n{severity:<8} {:>7}  {}", finding.count, finding.label)?;
            for example in &finding.examples {
                writeln!(f, "{:18}{}", "", example.replace(['\n', '\r'], " "))?;
            }
            if finding.examples.len() < finding.count && !finding.examples.is_empty() {
                writeln!(f, "{:18}..", "")?;
            }
            writeln!(f, "{:18}fix: {}", "", finding.remedy)?;
        }
        let kinds = |severity, name: &str| match self.kinds(severity) {
            0 => format!("no {name}"),
            1 => format!("1 kind of {name}"),
            n => format!("{n} kinds of {name}"),
        };
        let errors = kinds(Severity::Error, "error");
        let warnings = kinds(Severity::Warning, "warning");
        writeln!(f, "\n{errors}, {warnings}: {}", self.verdict())
    }
}
