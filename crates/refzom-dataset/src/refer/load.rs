//! `refs(*).p` and `grefs(*).json` to records (spec section 10): what is wrong is named by record and field.

use std::path::Path;

use serde::Serialize;

use super::pickle::{PlainPickle, Value};
use crate::{DataError, Ids, RefRecord, Sentence};

/// Largest annotation file that is read, in bytes; RefCOCOg's has about 60 million.
const MAX_FILE: u64 = 1 << 28;

/// Reads the records of a pickle or of json: the content decides which, not the name.
///
/// # Errors
/// The file cannot be read, is cut short, is of another layout, or holds foreign objects
/// such as numpy numbers where plain ones belong.
pub fn load_refs(path: impl AsRef<Path>) -> Result<Vec<RefRecord>, DataError> {
    let path = path.as_ref();
    let length = std::fs::metadata(path).map_err(|e| DataError::read(path, e))?.len();
    if length > MAX_FILE {
        let message = format!("{length} bytes are too many for an annotation file");
        return Err(DataError::format(path, message));
    }
    let bytes = std::fs::read(path).map_err(|e| DataError::read(path, e))?;
    records_from_bytes(&bytes).map_err(|message| DataError::format(path, message))
}

/// Records from a pickle or from json.
pub(crate) fn records_from_bytes(bytes: &[u8]) -> Result<Vec<RefRecord>, String> {
    match as_json(bytes) {
        Some(json) => {
            serde_json::from_slice(json).map_err(|e| format!("not a list of references: {e}"))
        }
        None => records_from_pickle(bytes),
    }
}

/// What follows a byte order mark, if that is json: no pickle begins with a bracket or a brace.
pub(super) fn as_json(bytes: &[u8]) -> Option<&[u8]> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let is_json = bytes.trim_ascii_start().starts_with(b"[") || bytes.starts_with(b"{");
    is_json.then_some(bytes)
}

/// Writes records as a pickle that Python 2 and 3 read (protocol 2).
///
/// # Errors
/// The file cannot be written.
pub fn save_refs(path: impl AsRef<Path>, records: &[RefRecord]) -> Result<(), DataError> {
    save_pickle(path.as_ref(), records)
}

/// The same of anything.
pub(crate) fn save_pickle(path: &Path, records: &[impl Serialize]) -> Result<(), DataError> {
    let options = serde_pickle::SerOptions::new().proto_v2();
    let bytes = serde_pickle::to_vec(&records, options)
        .map_err(|e| DataError::format(path, format!("cannot be written as a pickle: {e}")))?;
    std::fs::write(path, bytes).map_err(|e| DataError::write(path, e))
}

fn records_from_pickle(bytes: &[u8]) -> Result<Vec<RefRecord>, String> {
    let pickle = PlainPickle::parse(bytes).map_err(|e| format!("not a readable pickle: {e}"))?;
    let Some(list) = pickle.list(pickle.root()) else {
        let found = pickle.describe(pickle.root());
        return Err(format!(
            "holds {found} instead of a list of references{}",
            remedy(&pickle, pickle.root())
        ));
    };
    // Parts may be shared, so the records can be larger than the file, but not without end.
    let mut reader = Reader { pickle: &pickle, budget: 64 * bytes.len() as u64 + (1 << 20) };
    let record = |(i, &value)| reader.record(value).map_err(|e| format!("record {i}: {e}"));
    list.iter().enumerate().map(record).collect()
}

pub(super) fn remedy(pickle: &PlainPickle, value: Value) -> &'static str {
    if pickle.is_foreign(value) {
        "; re-save the file from python with plain lists, dicts, numbers and strings, for example int(x)"
    } else {
        ""
    }
}

struct Reader<'a> {
    pickle: &'a PlainPickle,
    budget: u64,
}

type Field<T> = Result<T, String>;

impl<'a> Reader<'a> {
    fn spend(&mut self, amount: usize) -> Field<()> {
        let left = self.budget.checked_sub(amount as u64 + 16);
        self.budget = left.ok_or("the file repeats its parts without measure")?;
        Ok(())
    }

    fn record(&mut self, value: Value) -> Field<RefRecord> {
        let dict = self.dict(value)?;
        let sentences = self.required(dict, "sentences")?;
        let sentences = self.list("sentences", sentences)?;
        Ok(RefRecord {
            ref_id: self.int(dict, "ref_id")?,
            ann_id: self.ids(dict, "ann_id")?,
            image_id: self.int(dict, "image_id")?,
            category_id: self.ids(dict, "category_id")?,
            split: self.string(dict, "split")?.ok_or("split is missing")?,
            file_name: self.string(dict, "file_name")?.unwrap_or_default(),
            sent_ids: self.ids(dict, "sent_ids")?.into_vec(),
            sentences: sentences.iter().map(|&s| self.sentence(s)).collect::<Field<_>>()?,
            source: self.string(dict, "source")?,
            no_target: match self.get(dict, "no_target") {
                Some(Value::Bool(flag)) => Some(flag),
                None | Some(Value::None) => None,
                Some(other) => return Err(self.wrong("no_target", other, "a bool")),
            },
        })
    }

    fn sentence(&mut self, value: Value) -> Field<Sentence> {
        let dict = self.dict(value)?;
        let tokens = match self.get(dict, "tokens") {
            None | Some(Value::None) => Vec::new(),
            Some(list) => {
                let list = self.list("tokens", list)?;
                list.iter().map(|&token| self.text("tokens", token)).collect::<Field<_>>()?
            }
        };
        Ok(Sentence {
            tokens,
            raw: self.string(dict, "raw")?.unwrap_or_default(),
            sent: self.string(dict, "sent")?.unwrap_or_default(),
            sent_id: self.int(dict, "sent_id")?,
        })
    }

    fn dict(&mut self, value: Value) -> Field<&'a [(Value, Value)]> {
        match self.pickle.dict(value) {
            Some(pairs) => {
                self.spend(pairs.len())?;
                Ok(pairs)
            }
            _ => Err(self.wrong("it", value, "a dict")),
        }
    }

    fn get(&self, dict: &[(Value, Value)], key: &str) -> Option<Value> {
        let is_key =
            |&&(k, _): &&(Value, Value)| self.pickle.text(k).is_some_and(|text| text == key);
        dict.iter().rev().find(is_key).map(|&(_, value)| value)
    }

    fn required(&self, dict: &[(Value, Value)], key: &str) -> Field<Value> {
        self.get(dict, key).ok_or_else(|| format!("{key} is missing"))
    }

    fn wrong(&self, key: &str, value: Value, expected: &str) -> String {
        let found = self.pickle.describe(value);
        format!("{key} is {found} where {expected} belongs{}", remedy(self.pickle, value))
    }

    fn list(&mut self, key: &str, value: Value) -> Field<&'a [Value]> {
        match self.pickle.list(value) {
            Some(list) => {
                self.spend(list.len())?;
                Ok(list)
            }
            _ => Err(self.wrong(key, value, "a list")),
        }
    }

    fn int(&self, dict: &[(Value, Value)], key: &str) -> Field<i64> {
        match self.required(dict, key)? {
            Value::Int(number) => Ok(number),
            other => Err(self.wrong(key, other, "an integer")),
        }
    }

    fn ids(&mut self, dict: &[(Value, Value)], key: &str) -> Field<Ids> {
        match self.get(dict, key) {
            None | Some(Value::None) => Ok(Ids::None),
            Some(Value::Int(id)) => Ok(Ids::One(id)),
            Some(value @ Value::At(_)) if self.pickle.list(value).is_some() => {
                let list = self.list(key, value)?;
                let id = |&value| match value {
                    Value::Int(id) => Ok(id),
                    other => Err(self.wrong(key, other, "an integer")),
                };
                list.iter().map(id).collect::<Field<_>>().map(Ids::Many)
            }
            Some(other) => Err(self.wrong(key, other, "an integer or a list of them")),
        }
    }

    fn string(&mut self, dict: &[(Value, Value)], key: &str) -> Field<Option<String>> {
        match self.get(dict, key) {
            None | Some(Value::None) => Ok(None),
            Some(value) => self.text(key, value).map(Some),
        }
    }

    fn text(&mut self, key: &str, value: Value) -> Field<String> {
        match self.pickle.text(value) {
            Some(text) => {
                self.spend(text.len())?;
                Ok(text.into_owned())
            }
            _ => Err(self.wrong(key, value, "a string")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A pickle of one record whose `ann_id` is made by the given opcodes.
    fn record_with(ann_id: &[u8]) -> Vec<u8> {
        let mut bytes = b"(lp0\n(dS'ref_id'\nI1\nsS'image_id'\nI2\nsS'split'\nS'train'\ns".to_vec();
        bytes.extend(b"S'sentences'\n(l(dS'sent_id'\nI3\nsS'raw'\nS'a dog'\nsasS'ann_id'\n");
        bytes.extend(ann_id);
        bytes.extend(b"sa.");
        bytes
    }

    #[test]
    fn python_2_text_protocol_reads() {
        let records = records_from_pickle(&record_with(b"I7\n")).unwrap();
        assert_eq!(records[0].ann_id, Ids::One(7));
        assert_eq!(records[0].sentences[0].raw, "a dog");
        let records = records_from_pickle(&record_with(b"(lI7\naI8\na")).unwrap();
        assert_eq!(records[0].ann_id, Ids::Many(vec![7, 8]));
        assert_eq!(records_from_pickle(&record_with(b"N")).unwrap()[0].ann_id, Ids::None);
    }

    #[test]
    fn foreign_objects_are_named_with_the_remedy() {
        let numpy = b"cnumpy.core.multiarray\nscalar\n(S'i8'\nS'\\x07'\ntR";
        let error = records_from_pickle(&record_with(numpy)).unwrap_err();
        assert!(error.contains("record 0: ann_id"), "{error}");
        assert!(error.contains("numpy.core.multiarray.scalar"), "{error}");
        assert!(error.contains("int(x)"), "{error}");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let whole = record_with(b"(lI7\naI8\na");
        for end in 0..whole.len() {
            assert!(records_from_pickle(&whole[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn other_layouts_are_errors() {
        for bytes in [&b"I1\n."[..], b"(lI1\na.", b"(l(da."] {
            assert!(records_from_pickle(bytes).is_err());
        }
    }

    #[test]
    fn sets_are_lists_and_ordered_dicts_are_named_with_the_remedy() {
        let set = b"c__builtin__\nset\n((lI7\naI8\natR";
        let records = records_from_pickle(&record_with(set)).unwrap();
        assert_eq!(records[0].ann_id, Ids::Many(vec![7, 8]));
        for bytes in [
            &b"(lccollections\nOrderedDict\n(tRS'ref_id'\nI1\nsa."[..],
            b"cpandas.core.frame\nDataFrame\n(tR.",
        ] {
            let error = records_from_pickle(bytes).unwrap_err();
            assert!(error.contains("python object of") && error.contains("re-save"), "{error}");
        }
    }

    #[test]
    fn shared_parts_cannot_fill_the_memory() {
        // One megabyte of text, used by every one of 100,000 records.
        let mut bytes = b"X\x00\x00\x10\x00".to_vec();
        bytes.extend(vec![b'a'; 1 << 20]);
        bytes.extend(b"q\x000(l(dS'split'\nh\x00sS'sentences'\n(lsS'ref_id'\nK\x01sS'image_id'\nK\x01sq\x01a");
        for _ in 0..100_000 {
            bytes.extend(b"h\x01a");
        }
        bytes.push(b'.');
        let error = records_from_pickle(&bytes).unwrap_err();
        assert!(error.contains("without measure"), "{error}");
    }

    #[test]
    fn written_files_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let records = records_from_pickle(&record_with(b"I7\n")).unwrap();
        let path = dir.path().join("refs(x).p");
        save_refs(&path, &records).unwrap();
        assert_eq!(load_refs(&path).unwrap(), records);
        let json = dir.path().join("grefs(x).json");
        std::fs::write(&json, serde_json::to_vec(&records).unwrap()).unwrap();
        assert_eq!(load_refs(&json).unwrap(), records);
        let marked = [b"\xef\xbb\xbf".to_vec(), serde_json::to_vec(&records).unwrap()].concat();
        std::fs::write(&json, marked).unwrap();
        assert_eq!(load_refs(&json).unwrap(), records);
        assert!(load_refs(dir.path().join("none.p")).is_err());
    }
}
