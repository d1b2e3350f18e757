//! Records written again with other splits and everything else kept, also what [`crate::RefRecord`] has no place for.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::load::{as_json, remedy};
use super::pickle::{PlainPickle, Value};
use crate::DataError;

/// Deepest nesting of what belongs to a record.
const DEPTH: usize = 40;

/// The records of all files as plain data, each with its name of `splits`, in their order.
///
/// # Errors
/// A file cannot be read, or a record holds what is no plain data.
pub(crate) fn with_splits(files: &[PathBuf], splits: &[String]) -> Result<Vec<Json>, DataError> {
    let mut records = Vec::with_capacity(splits.len());
    for file in files {
        let bytes = std::fs::read(file).map_err(|e| DataError::read(file, e))?;
        records.extend(plain_records(&bytes).map_err(|message| DataError::format(file, message))?);
    }
    for (record, split) in records.iter_mut().zip(splits) {
        // A record may be a bare list of its fields, too.
        let Some(fields) = record.as_object_mut() else {
            let message = "holds a record without names of its fields; write it as an object";
            return Err(DataError::format(files.first().map_or(Path::new(""), |f| f), message));
        };
        fields.insert("split".into(), split.as_str().into());
    }
    Ok(records)
}

fn plain_records(bytes: &[u8]) -> Result<Vec<Json>, String> {
    if let Some(json) = as_json(bytes) {
        return serde_json::from_slice(json).map_err(|e| format!("not a list of references: {e}"));
    }
    let pickle = PlainPickle::parse(bytes).map_err(|e| format!("not a readable pickle: {e}"))?;
    // Parts may be shared, so the records can be larger than the file, but not without end.
    let mut plain = Plain { pickle: &pickle, left: 64 * bytes.len() + (1 << 20) };
    let records = pickle.list(pickle.root()).unwrap_or_default().iter().enumerate();
    records.map(|(i, &r)| plain.read(r, 0).map_err(|e| format!("record {i}: {e}"))).collect()
}

struct Plain<'a> {
    pickle: &'a PlainPickle,
    left: usize,
}

impl Plain<'_> {
    fn read(&mut self, value: Value, depth: usize) -> Result<Json, String> {
        let size = self.pickle.text(value).map_or(0, |text| text.len());
        self.left = match self.left.checked_sub(size + 16) {
            Some(left) if depth < DEPTH => left,
            _ => return Err("repeats its parts without measure".into()),
        };
        Ok(match value {
            Value::None => Json::Null,
            Value::Bool(flag) => flag.into(),
            Value::Int(number) => number.into(),
            Value::Float(number) if number.is_finite() => number.into(),
            Value::Float(number) => return Err(format!("{number} cannot be kept; take it out")),
            Value::At(_) => {
                if let Some(text) = self.pickle.text(value) {
                    text.into()
                } else if let Some(list) = self.pickle.list(value) {
                    let read = |&element| self.read(element, depth + 1);
                    list.iter().map(read).collect::<Result<Vec<_>, _>>()?.into()
                } else if let Some(pairs) = self.pickle.dict(value) {
                    let mut fields = Map::new();
                    for &(key, value) in pairs {
                        let key = self.pickle.text(key).ok_or("a key that is no text")?;
                        let read = self.read(value, depth + 1);
                        let read = read.map_err(|e| format!("{key}: {e}"))?;
                        fields.insert(key.into_owned(), read);
                    }
                    fields.into()
                } else {
                    let (found, remedy) = (self.pickle.describe(value), remedy(self.pickle, value));
                    return Err(format!("{found} cannot be kept{remedy}"));
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn plain_data_are_kept_and_others_named() {
        let record = |extra: &[u8]| [b"(l(dS'box'\n", extra, b"sa."].concat();
        let kept = plain_records(&record(b"(lI1\naF0.5\naNaI01\na(dS'a'\nVb\nsa")).unwrap();
        assert_eq!(kept, [serde_json::json!({"box": [1, 0.5, null, true, {"a": "b"}]})]);
        let error = plain_records(&record(b"cnumpy\narray\n(I1\ntR")).unwrap_err();
        assert!(error.contains("record 0: box: a python object of numpy.array"), "{error}");
        // A list inside itself.
        let error = plain_records(&record(b"(lp0\ng0\na")).unwrap_err();
        assert!(error.contains("without measure"), "{error}");
    }
}
