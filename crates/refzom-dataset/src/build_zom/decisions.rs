//! What a person decided on the review page, read back.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::DataError;

/// What a person says of a sentence that is meant to refer to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It refers to nothing in this image.
    Accept,
    /// Something in the image answers to it, or it is no sentence to ask with.
    Reject,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The image.
    pub image_id: i64,
    /// The sentence, as the page shows it.
    pub sentence: String,
    /// The verdict.
    pub verdict: Verdict,
}

/// The file that the review page downloads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionsFile {
    /// [`DecisionsFile::FORMAT`].
    pub format: String,
    /// The decisions.
    pub decisions: Vec<Decision>,
}

impl DecisionsFile {
    /// What `format` says.
    pub const FORMAT: &'static str = "dmmi-zom-decisions-1";
}

/// All decisions, by image and sentence.
#[derive(Clone, Debug, Default)]
pub struct Decisions {
    by_sentence: HashMap<(i64, String), Verdict>,
    accepted: HashMap<i64, usize>,
    /// Sentences that were both accepted and rejected; they count as rejected.
    pub contradictory: usize,
}

impl Decisions {
    /// Reads the files of one or several people.
    ///
    /// # Errors
    /// A file cannot be read or is none of the review page's.
    pub fn read(files: &[PathBuf]) -> Result<Self, DataError> {
        let mut decisions = Self::default();
        for path in files {
            let file = read_file(path)?;
            for decision in file.decisions {
                decisions.add(decision);
            }
        }
        Ok(decisions)
    }

    /// Adds one decision; of two different ones the rejection stays.
    pub fn add(&mut self, decision: Decision) {
        let key = (decision.image_id, decision.sentence.to_lowercase());
        let before = self.by_sentence.get(&key).copied();
        let verdict = match before {
            Some(before) if before != decision.verdict => {
                self.contradictory += 1;
                Verdict::Reject
            }
            _ => decision.verdict,
        };
        let accepted = self.accepted.entry(decision.image_id).or_insert(0);
        *accepted += usize::from(verdict == Verdict::Accept);
        *accepted -= usize::from(before == Some(Verdict::Accept));
        self.by_sentence.insert(key, verdict);
    }

    /// The verdict on a sentence about an image, if there is one.
    pub fn verdict(&self, image_id: i64, sentence: &str) -> Option<Verdict> {
        self.by_sentence.get(&(image_id, sentence.to_lowercase())).copied()
    }

    /// How many sentences about an image were accepted.
    pub fn accepted(&self, image_id: i64) -> usize {
        self.accepted.get(&image_id).copied().unwrap_or(0)
    }

    /// How many sentences were accepted in all.
    pub fn accepted_total(&self) -> usize {
        self.accepted.values().sum()
    }

    /// Number of sentences decided on.
    pub fn len(&self) -> usize {
        self.by_sentence.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_sentence.is_empty()
    }
}

fn read_file(path: &Path) -> Result<DecisionsFile, DataError> {
    let bytes = std::fs::read(path).map_err(|e| DataError::read(path, e))?;
    let file: DecisionsFile = serde_json::from_slice(&bytes).map_err(|e| {
        DataError::format(
            path,
            format!("is no decisions file; download it from the review page: {e}"),
        )
    })?;
    if file.format != DecisionsFile::FORMAT {
        let message =
            format!("has the format {:?} instead of {:?}", file.format, DecisionsFile::FORMAT);
        return Err(DataError::format(path, message));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_of_two_people_join_and_rejection_wins() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let format = DecisionsFile::FORMAT;
        let a = write(
            "a.json",
            &format!(
                r#"{{"format": "{format}", "decisions": [{{"image_id": 1, "sentence": "A dog", "verdict": "accept"}},
            {{"image_id": 2, "sentence": "a cat", "verdict": "accept"}}]}}"#
            ),
        );
        let b = write(
            "b.json",
            &format!(
                r#"{{"format": "{format}", "decisions": [{{"image_id": 1, "sentence": "a dog", "verdict": "reject"}}]}}"#
            ),
        );
        let decisions = Decisions::read(&[a, b]).unwrap();
        assert_eq!((decisions.len(), decisions.contradictory), (2, 1));
        assert_eq!(
            (decisions.accepted(1), decisions.accepted(2), decisions.accepted_total()),
            (0, 1, 1)
        );
        assert_eq!(decisions.verdict(1, "a DOG"), Some(Verdict::Reject));
        assert_eq!(decisions.verdict(2, "a cat"), Some(Verdict::Accept));
        assert_eq!(decisions.verdict(3, "a cat"), None);
        let bad = write("c.json", r#"{"format": "x", "decisions": []}"#);
        assert!(Decisions::read(&[bad]).unwrap_err().to_string().contains(format));
        let bad = write("d.json", "[]");
        assert!(Decisions::read(&[bad]).unwrap_err().to_string().contains("review page"));
    }
}
