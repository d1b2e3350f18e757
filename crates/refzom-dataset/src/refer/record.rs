//! One referred region and its sentences, as `refs(*).p` and `grefs(*).json` hold it (REFER, Ref-ZOM, gRefCOCO; spec section 10).
//!
//! The same structs are written by the synthetic twin, so what is written is what is read.

use serde::{Deserialize, Serialize};

use super::or_default;

/// An id, several, or none: Ref-ZOM writes `ann_id` as a number or a list, gRefCOCO always as a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "ann_id or category_id is neither an integer nor a list of integers")]
pub enum Ids {
    /// A bare number.
    One(i64),
    /// A list, which may be empty.
    Many(Vec<i64>),
    /// Python's `None`, or the key is missing.
    #[default]
    None,
}

impl Ids {
    /// The ids in order. `-1`, which gRefCOCO writes for "no target", is not an id and is left out.
    pub fn to_vec(&self) -> Vec<i64> {
        self.clone().into_vec().into_iter().filter(|&id| id != -1).collect()
    }

    /// All numbers, `-1` too.
    pub(super) fn into_vec(self) -> Vec<i64> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
            Self::None => Vec::new(),
        }
    }
}

/// One sentence about the region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentence {
    /// The cleaned sentence, split at spaces.
    #[serde(default, deserialize_with = "or_default")]
    pub tokens: Vec<String>,
    /// What the annotator typed. DMMI reads this one.
    #[serde(default, deserialize_with = "or_default")]
    pub raw: String,
    /// The cleaned sentence.
    #[serde(default, deserialize_with = "or_default")]
    pub sent: String,
    /// Unique over the file.
    pub sent_id: i64,
}

/// One referred region (none, one or several objects of an image) with its sentences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefRecord {
    /// Unique over the file.
    pub ref_id: i64,
    /// Annotations of `instances.json` whose union is the mask.
    #[serde(default)]
    pub ann_id: Ids,
    /// Image of `instances.json`.
    pub image_id: i64,
    /// COCO category, one per object or one for all.
    #[serde(default)]
    pub category_id: Ids,
    /// `train`, `val`, `test`, `testA` or `testB`.
    pub split: String,
    /// In Ref-ZOM the image file; in RefCOCO the image file with an object number appended.
    #[serde(default, deserialize_with = "or_default")]
    pub file_name: String,
    /// Ids of `sentences`, in order.
    #[serde(default, deserialize_with = "or_default")]
    pub sent_ids: Vec<i64>,
    /// At least one.
    pub sentences: Vec<Sentence>,
    /// Ref-ZOM only: `zero` means that nothing is referred to; anything else is targeted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// gRefCOCO only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_target: Option<bool>,
}

impl RefRecord {
    /// Whether the sentences refer to nothing: `source == "zero"`, `no_target`, or no annotation.
    pub fn is_zero(&self) -> bool {
        self.source.as_deref() == Some("zero")
            || self.no_target == Some(true)
            || self.ann_id.to_vec().is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn record(ann_id: Ids, source: Option<&str>) -> RefRecord {
        let sentence = Sentence {
            tokens: vec!["red".into(), "dog".into()],
            raw: "Red dog".into(),
            sent: "red dog".into(),
            sent_id: 5,
        };
        RefRecord {
            ref_id: 1,
            ann_id,
            image_id: 2,
            category_id: Ids::One(18),
            split: "train".into(),
            file_name: "a.jpg".into(),
            sent_ids: vec![5],
            sentences: vec![sentence],
            source: source.map(String::from),
            no_target: None,
        }
    }

    #[test]
    fn written_records_read_back() {
        let records = vec![
            record(Ids::One(7), Some("one")),
            record(Ids::Many(vec![7, 8]), Some("many")),
            record(Ids::Many(vec![]), Some("zero")),
            record(Ids::None, None),
        ];
        for proto2 in [true, false] {
            let options = serde_pickle::SerOptions::new();
            let options = if proto2 { options.proto_v2() } else { options };
            let bytes = serde_pickle::to_vec(&records, options).unwrap();
            let back: Vec<RefRecord> =
                serde_pickle::from_slice(&bytes, serde_pickle::DeOptions::new()).unwrap();
            assert_eq!(back, records);
        }
        let json = serde_json::to_string(&records).unwrap();
        assert_eq!(serde_json::from_str::<Vec<RefRecord>>(&json).unwrap(), records);
    }

    #[test]
    fn nothing_is_the_default_as_in_pickles() {
        let json = r#"{"ref_id": 1, "image_id": 2, "split": "train", "file_name": null, "sent_ids": null,
            "sentences": [{"sent_id": 5, "raw": null, "sent": null, "tokens": null}]}"#;
        let record: RefRecord = serde_json::from_str(json).unwrap();
        let sentence = &record.sentences[0];
        assert!(sentence.raw.is_empty() && sentence.sent.is_empty() && sentence.tokens.is_empty());
        assert!(record.file_name.is_empty() && record.sent_ids.is_empty());
    }

    #[test]
    fn ids_of_another_kind_are_named() {
        let json =
            r#"{"ref_id": 1, "ann_id": ["7"], "image_id": 2, "split": "train", "sentences": []}"#;
        let error = serde_json::from_str::<RefRecord>(json).unwrap_err().to_string();
        assert!(error.contains("ann_id or category_id is neither an integer"), "{error}");
    }

    #[test]
    fn minus_one_is_no_target() {
        assert!(record(Ids::Many(vec![-1]), None).is_zero());
        assert!(record(Ids::One(3), Some("zero")).is_zero());
        assert!(!record(Ids::One(3), None).is_zero());
    }
}
