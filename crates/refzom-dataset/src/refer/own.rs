//! One's own set: a json object a line, or a table with the same columns.
//!
//! | field | content |
//! |---|---|
//! | `image` | file name, counted from the image folder |
//! | `expression` | the sentence; or `expressions`, a list of them for the same target |
//! | `mask` | one object: a PNG file (whatever is not black is the target), polygons `[[x0, y0, x1, ..], ..]`, or run lengths `{"size": [h, w], "counts": ..}`; `null` (in a table: nothing) if the sentence refers to nothing |
//! | `masks` | instead of `mask`, a list of such for several objects |
//! | `split` | `train`, `val`, `test`, `testA`, ..; by default what the file is named for, else `train` |
//! | `category` | name of the object's class |
//!
//! Other keys and columns are ignored, unless they look like one of these: a misspelt `split` would train on what is to be
//! tested on.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::SizedCounts;

/// The keys of a line.
const KEYS: [&str; 7] =
    ["image", "expression", "expressions", "mask", "masks", "split", "category"];

/// What a mask may be.
const FORMS: &str = "the name of a PNG file, polygons [[x0, y0, x1, y1, ..], ..] or run lengths {\"size\": [height, width], \"counts\": ..}";

/// One line of one's own set.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OwnRecord {
    /// File name, counted from the image folder.
    pub image: String,
    /// The sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// Several sentences for the same target.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expressions: Vec<String>,
    /// The target; within, `None` is `null`. The key must be there: without it a misspelt name would mean "refers to nothing".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<Option<OwnMask>>,
    /// Several objects, instead of `mask`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masks: Option<Vec<OwnMask>>,
    /// Split; by default what the file is named for, else `train`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Name of the object's class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
}

impl OwnRecord {
    /// Sets one field; the error names it.
    fn set(&mut self, key: &str, value: Value) -> Result<(), String> {
        // A mask of null means that nothing is meant; any other null is as good as no key.
        if value.is_null() && key != "mask" && KEYS.contains(&key) {
            return Ok(());
        }
        match key {
            "image" => self.image = text(key, value)?,
            "expression" => self.expression = Some(text(key, value)?),
            "expressions" => {
                let texts = list(key, value)?.into_iter();
                let texts = texts.map(|one| text("one of expressions", one));
                self.expressions = texts.collect::<Result<_, _>>()?;
            }
            "mask" => self.mask = Some(mask_or_null(value)?),
            "masks" => {
                let wrong = |found| format!("one of masks is {found}; give {FORMS}");
                let masks = list(key, value)?.into_iter();
                let masks = masks.map(|one| OwnMask::of_json(one).map_err(wrong));
                self.masks = Some(masks.collect::<Result<_, _>>()?);
            }
            "split" => self.split = Some(text(key, value)?),
            "category" => self.category = Some(text(key, value)?),
            _ => {
                if let Some(known) = misspelt(key, &KEYS) {
                    return Err(format!(
                        "has the unknown key {key:?}; is {known} meant? rename or delete it"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The known name that another one looks like: one slip away, two for names of more than five letters.
pub(super) fn misspelt<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name = name.trim().to_lowercase();
    let slips = |known: &str| strsim::damerau_levenshtein(&name, known);
    let allowed = |known: &str| if known.len() > 5 { 2 } else { 1 };
    // Nothing so long is a slip away from a name.
    let short = name.chars().count() <= 40;
    known
        .iter()
        .copied()
        .filter(|known| short && slips(known) <= allowed(known))
        .min_by_key(|k| slips(k))
}

impl<'de> Deserialize<'de> for OwnRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

/// Reads the fields one by one, so that every fault is told of a field.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = OwnRecord;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with image, expression and mask")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<OwnRecord, A::Error> {
        let mut record = OwnRecord::default();
        let mut seen: Vec<String> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let value: Value = map.next_value()?;
            if seen.contains(&key) {
                return Err(A::Error::custom(format!("names {key} twice; delete one of them")));
            }
            record.set(&key, value).map_err(A::Error::custom)?;
            seen.push(key);
        }
        if record.image.is_empty() {
            return Err(A::Error::custom("names no image"));
        }
        Ok(record)
    }
}

/// The mask of one object.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum OwnMask {
    /// A PNG of the image's size, counted from the annotation file's folder: whatever is not black is the target.
    File(String),
    /// Run lengths, plain or compressed.
    Rle(SizedCounts),
    /// Polygons in pixels.
    Polygons(Vec<Vec<f64>>),
    /// One polygon in pixels.
    Polygon(Vec<f64>),
}

impl OwnMask {
    /// The mask; if it is none, what it is instead.
    fn of_json(value: Value) -> Result<Self, &'static str> {
        match value {
            Value::String(name) => Ok(Self::File(name)),
            Value::Array(items) => match numbers(&items) {
                Some(points) if !points.is_empty() => Ok(Self::Polygon(points)),
                _ => {
                    let polygons = items.iter().map(|one| numbers(one.as_array()?));
                    let polygons: Option<Vec<Vec<f64>>> = polygons.collect();
                    polygons.map(Self::Polygons).ok_or("a list of other things than coordinates")
                }
            },
            object @ Value::Object(_) => serde_json::from_value(object)
                .map(Self::Rle)
                .map_err(|_| "an object without size and counts that can be read"),
            other => Err(kind(&other)),
        }
    }
}

impl<'de> Deserialize<'de> for OwnMask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = |found| D::Error::custom(format!("a mask is {found}; give {FORMS}"));
        Self::of_json(Value::deserialize(deserializer)?).map_err(wrong)
    }
}

fn mask_or_null(value: Value) -> Result<Option<OwnMask>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let wrong =
        |found| format!("mask is {found}; give {FORMS}, or null if the sentence refers to nothing");
    OwnMask::of_json(value).map(Some).map_err(wrong)
}

fn numbers(items: &[Value]) -> Option<Vec<f64>> {
    items.iter().map(Value::as_f64).collect()
}

fn text(key: &str, value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(format!("{key} is {}; give a text in quotes", kind(&other))),
    }
}

fn list(key: &str, value: Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(format!("{key} is {}; give a list in brackets", kind(&other))),
    }
}

/// What a value is, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Counts;

    fn mask(json: &str) -> Option<Option<OwnMask>> {
        let line = format!("{{\"image\": \"a.jpg\", \"mask\": {json}}}");
        serde_json::from_str::<OwnRecord>(&line).unwrap().mask
    }

    #[test]
    fn every_kind_of_mask_reads_and_is_written_as_it_was() {
        let runs = SizedCounts { size: [2, 3], counts: Counts::Compressed("06".into()) };
        let plain = SizedCounts { size: [2, 3], counts: Counts::Plain(vec![0, 6]) };
        for (json, expected) in [
            ("null", None),
            ("\"m.png\"", Some(OwnMask::File("m.png".into()))),
            ("{\"size\":[2,3],\"counts\":\"06\"}", Some(OwnMask::Rle(runs))),
            ("{\"size\":[2,3],\"counts\":[0,6]}", Some(OwnMask::Rle(plain))),
            ("[[1.0,2.5],[3.0,4.0]]", Some(OwnMask::Polygons(vec![vec![1., 2.5], vec![3., 4.]]))),
            ("[1.0,2.5]", Some(OwnMask::Polygon(vec![1., 2.5]))),
            ("[]", Some(OwnMask::Polygons(Vec::new()))),
        ] {
            assert_eq!(mask(json), Some(expected), "{json}");
            let record =
                OwnRecord { image: "a.jpg".into(), mask: mask(json), ..OwnRecord::default() };
            let written = format!("{{\"image\":\"a.jpg\",\"mask\":{json}}}");
            assert_eq!(serde_json::to_string(&record).unwrap(), written);
        }
        // Not run lengths of size [6, 8], as a list of fields would be.
        let polygons = Some(OwnMask::Polygons(vec![vec![6., 8.], vec![0., 6., 42.]]));
        assert_eq!(mask("[[6, 8], [0, 6, 42]]"), Some(polygons));
    }

    #[test]
    fn faults_name_the_field_and_what_it_may_be() {
        let error = |fields: &str| {
            let line = format!("{{\"image\": \"a.jpg\", {fields}}}");
            serde_json::from_str::<OwnRecord>(&line).unwrap_err().to_string()
        };
        for (fields, parts) in [
            ("\"maks\": \"x\"", ["unknown key \"maks\"", "is mask meant"]),
            ("\"spilt\": \"val\"", ["unknown key \"spilt\"", "is split meant"]),
            ("\"expression\": 7", ["expression is a number", "a text in quotes"]),
            ("\"expressions\": \"x\"", ["expressions is a text", "a list"]),
            ("\"expressions\": [\"x\", null]", ["one of expressions is null", "a text"]),
            ("\"mask\": 7", ["mask is a number", "PNG file, polygons"]),
            ("\"mask\": {\"size\": [1]}", ["mask is an object without", "or null"]),
            ("\"mask\": [[1, \"x\"]]", ["mask is a list of other things", "run lengths"]),
            ("\"masks\": [null]", ["one of masks is null", "run lengths"]),
            ("\"split\": [\"val\"]", ["split is a list", "a text in quotes"]),
            ("\"image\": \"b.jpg\"", ["names image twice", "delete"]),
        ] {
            let error = error(fields);
            assert!(parts.iter().all(|part| error.contains(part)), "{fields}: {error}");
            assert!(!error.contains("Own") && !error.contains("enum"), "{error}");
        }
        let error = serde_json::from_str::<OwnRecord>("{\"mask\": null}").unwrap_err();
        assert!(error.to_string().contains("names no image"), "{error}");
        assert!(serde_json::from_str::<OwnRecord>("[1]").is_err());
    }
}
