//! NLTK's tagger weights, which a user may have and this crate may not ship: a pickle (`averaged_perceptron_tagger.pickle`),
//! a folder of three json files (`averaged_perceptron_tagger_eng`, NLTK 3.9 and later), or one json file of all three.

use std::collections::HashMap;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::tagger::{PerceptronTagger, Stored};
use crate::DataError;
use crate::refer::{PlainPickle, Value};

/// Largest file that is read, in bytes; NLTK's pickle has six million.
const MAX_FILE: u64 = 1 << 28;

impl PerceptronTagger {
    /// Weights from a file or folder of NLTK's.
    ///
    /// # Errors
    /// It cannot be read or is of none of the forms; the message names the file.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let named = |error: DataError| match error {
            DataError::Text(message) => DataError::format(path, message),
            other => other,
        };
        if path.is_dir() {
            let stored = (part(path, "weights")?, part(path, "tagdict")?, part(path, "classes")?);
            return Self::from_stored(stored).map_err(named);
        }
        let bytes = read(path)?;
        if bytes.trim_ascii_start().starts_with(b"[") {
            return Self::from_json(&bytes).map_err(named);
        }
        let stored = from_pickle(&bytes).map_err(|message| DataError::format(path, message))?;
        Self::from_stored(stored).map_err(named)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let length = std::fs::metadata(path).map_err(|e| DataError::read(path, e))?.len();
    if length > MAX_FILE {
        return Err(DataError::format(
            path,
            format!("{length} bytes are too many for tagger weights"),
        ));
    }
    std::fs::read(path).map_err(|e| DataError::read(path, e))
}

/// `averaged_perceptron_tagger_eng.PART.json`, or any name that ends so.
fn part<T: DeserializeOwned>(folder: &Path, part: &str) -> Result<T, DataError> {
    let ending = format!("{part}.json");
    let entries = std::fs::read_dir(folder).map_err(|e| DataError::read(folder, e))?;
    let mut names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    names.sort();
    let ends = |path: &&std::path::PathBuf| path.to_string_lossy().ends_with(&ending);
    let Some(path) = names.iter().find(ends) else {
        let message = format!(
            "holds no *{ending}; NLTK's folder averaged_perceptron_tagger_eng has three such files"
        );
        return Err(DataError::format(folder, message));
    };
    serde_json::from_slice(&read(path)?)
        .map_err(|e| DataError::format(path, format!("is not the {part} of NLTK's tagger: {e}")))
}

fn from_pickle(bytes: &[u8]) -> Result<Stored, String> {
    let pickle = PlainPickle::parse(bytes).map_err(|e| {
        format!("is neither json nor a pickle of NLTK's tagger (weights, tagdict, classes): {e}")
    })?;
    let wrong = |what: &str, found: Value| {
        format!(
            "{what}: {} stands there; give NLTK's averaged_perceptron_tagger.pickle",
            pickle.describe(found)
        )
    };
    let text = |value: Value| match pickle.text(value) {
        Some(text) => Ok(text.into_owned()),
        None => Err(wrong("a name", value)),
    };
    let dict = |what: &str, value: Value| pickle.dict(value).ok_or_else(|| wrong(what, value));
    let list = |what: &str, value: Value| pickle.list(value).ok_or_else(|| wrong(what, value));
    let &[weights, frequent, classes] = list("the whole", pickle.root())? else {
        return Err("does not hold three parts: weights, tagdict, classes".into());
    };
    // Shared rows could make the table larger than the file, but not without end.
    let mut left = 8 * bytes.len();
    let mut table = HashMap::new();
    for &(feature, row) in dict("weights", weights)? {
        let row = dict("weights of a feature", row)?;
        left = left.checked_sub(16 + row.len()).ok_or("repeats its parts without measure")?;
        let number = |value: Value| match value {
            Value::Float(number) => Ok(number),
            Value::Int(number) => Ok(number as f64),
            other => Err(wrong("a weight", other)),
        };
        let by_tag = row.iter().map(|&(tag, weight)| Ok((text(tag)?, number(weight)?)));
        table.insert(text(feature)?, by_tag.collect::<Result<_, String>>()?);
    }
    let frequent =
        dict("tagdict", frequent)?.iter().map(|&(word, tag)| Ok((text(word)?, text(tag)?)));
    let frequent = frequent.collect::<Result<_, String>>()?;
    let classes = list("classes", classes)?.iter().map(|&class| text(class));
    Ok((table, frequent, classes.collect::<Result<_, String>>()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const WEIGHTS: &str = r#"{"bias": {"NN": 0.5, "DT": -1.0}, "i word runs": {"VBZ": 3.0}}"#;

    fn tags(tagger: &PerceptronTagger) -> Vec<String> {
        tagger.tag_words(&["the", "dog", "runs"]).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn the_three_forms_say_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        let expected = ["DT", "NN", "VBZ"];

        let all = format!("[{WEIGHTS}, {{\"the\": \"DT\"}}, [\"NN\", \"DT\", \"VBZ\"]]");
        put("all.json", all.as_bytes());
        assert_eq!(
            tags(&PerceptronTagger::from_file(dir.path().join("all.json")).unwrap()),
            expected
        );

        let folder = dir.path().join("averaged_perceptron_tagger_eng");
        std::fs::create_dir(&folder).unwrap();
        let name = |part: &str| {
            format!("averaged_perceptron_tagger_eng/averaged_perceptron_tagger_eng.{part}.json")
        };
        put(&name("weights"), WEIGHTS.as_bytes());
        put(&name("tagdict"), br#"{"the": "DT"}"#);
        let error = PerceptronTagger::from_file(&folder).unwrap_err().to_string();
        assert!(error.contains("classes.json"), "{error}");
        put(&name("classes"), br#"["VBZ", "NN", "DT"]"#);
        assert_eq!(tags(&PerceptronTagger::from_file(&folder).unwrap()), expected);

        // Protocol 0, with the classes as Python 2 writes a set.
        let pickle = b"((dS'bias'\n(dS'NN'\nF0.5\nsS'DT'\nI-1\nssS'i word runs'\n(dS'VBZ'\nF3.0\nss(dS'the'\nS'DT'\ns\
            c__builtin__\nset\n((lS'NN'\naS'DT'\naS'VBZ'\natRt.";
        put("tagger.pickle", pickle);
        let path = dir.path().join("tagger.pickle");
        assert_eq!(tags(&PerceptronTagger::from_file(&path).unwrap()), expected);

        for wrong in [&pickle[..40], b"I1\n.", b"(I1\nI2\nt.", b"[1]", b"hello"] {
            put("tagger.pickle", wrong);
            let error = PerceptronTagger::from_file(&path).unwrap_err().to_string();
            assert!(error.contains("tagger.pickle"), "{error}");
        }
        assert!(PerceptronTagger::from_file(dir.path().join("gone")).is_err());
    }
}
