//! What happened to each tensor of a file that was loaded.

use std::collections::BTreeMap;
use std::fmt;

use candle_core::{Result, bail};

/// Every name of the model and of the file, in exactly one list each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// In both, same shape: copied. Names of the model.
    pub loaded: Vec<String>,
    /// Of these, what was changed to fit (name, how): a resized table.
    pub adapted: Vec<(String, String)>,
    /// In the file only, and known not to be needed (name, reason).
    pub ignored: Vec<(String, String)>,
    /// In the model only, and known to be lacking in such files (name, reason): keeps its value.
    pub kept: Vec<(String, String)>,
    /// In the model only: keeps its value.
    pub missing: Vec<String>,
    /// In the file only: unused.
    pub unexpected: Vec<String>,
    /// In both with different shapes (name, model, file): not copied.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl LoadReport {
    /// True when every name was loaded, or is known not to be needed.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }

    /// The report itself when complete.
    ///
    /// # Errors
    /// Otherwise, naming the first few of each kind.
    pub fn strict(self) -> Result<Self> {
        if self.is_complete() {
            return Ok(self);
        }
        let few = |names: &[String]| {
            let mut s = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            if names.len() > 3 {
                s.push_str(", ..");
            }
            s
        };
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(format!("{} missing ({})", self.missing.len(), few(&self.missing)));
        }
        if !self.unexpected.is_empty() {
            parts.push(format!("{} unexpected ({})", self.unexpected.len(), few(&self.unexpected)));
        }
        if !self.mismatched.is_empty() {
            let names: Vec<String> = self
                .mismatched
                .iter()
                .map(|(n, model, file)| format!("{n}: model {model:?}, file {file:?}"))
                .collect();
            parts.push(format!("{} of another shape ({})", names.len(), few(&names)));
        }
        bail!("the weights do not fit the model: {}", parts.join("; "))
    }
}

/// A line a list; names with a known reason are counted by it, the others named.
impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loaded {}", self.loaded.len())?;
        for (title, list) in [
            ("adapted", &self.adapted),
            ("not needed", &self.ignored),
            ("first values", &self.kept),
        ] {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            list.iter().for_each(|(_, why)| *counts.entry(why).or_default() += 1);
            for (why, n) in counts {
                write!(f, "; {title} {n} ({why})")?;
            }
        }
        let mismatched = self
            .mismatched
            .iter()
            .map(|(name, model, file)| format!("{name}: model {model:?}, file {file:?}"));
        let lists = [
            ("missing", self.missing.clone()),
            ("unexpected", self.unexpected.clone()),
            ("mismatched", mismatched.collect()),
        ];
        for (title, names) in lists {
            write!(f, "; {title} {}", names.len())?;
            if !names.is_empty() {
                write!(f, " ({})", names.join(", "))?;
            }
        }
        Ok(())
    }
}
