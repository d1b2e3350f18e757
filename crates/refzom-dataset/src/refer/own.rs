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

use serde::{Deserialize, Serialize};

use super::SizedCounts;

/// One line of one's own set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnRecord {
    /// File name, counted from the image folder.
    pub image: String,
    /// The sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// Several sentences for the same target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expressions: Vec<String>,
    /// The target. The key must be there: without it a misspelt name would mean "refers to nothing".
    #[serde(default, with = "presence", skip_serializing_if = "Option::is_none")]
    pub mask: Option<Option<OwnMask>>,
    /// Several objects, instead of `mask`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masks: Option<Vec<OwnMask>>,
    /// Split; by default what the file is named for, else `train`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Name of the object's class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
}

/// The mask of one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// Tells `"mask": null` from no `mask`.
mod presence {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Option<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().and_then(Option::as_ref).serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Option::<T>::deserialize(deserializer).map(Some)
    }
}
