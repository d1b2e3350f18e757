//! What happened to each tensor of a file that was loaded.

use candle_core::{Result, bail};

/// Every name of the model and of the file, in exactly one list each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// In both, same shape: copied.
    pub loaded: Vec<String>,
    /// In the model only: keeps its value.
    pub missing: Vec<String>,
    /// In the file only: unused.
    pub unexpected: Vec<String>,
    /// In both with different shapes (name, model, file): not copied.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl LoadReport {
    /// True when every name was loaded.
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
