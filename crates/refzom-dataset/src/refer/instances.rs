//! COCO's `instances.json`: images, annotations with polygons or run lengths, categories (COCO data format).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{flag, or_default};
use crate::DataError;

/// Run lengths of one mask, column by column, beginning with zeros.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "counts are neither a list of run lengths nor pycocotools' string of them"
)]
pub enum Counts {
    /// Plain numbers, as in COCO's crowd annotations.
    Plain(Vec<u32>),
    /// pycocotools' compressed string.
    Compressed(String),
}

/// The outline of one object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a segmentation is neither polygons [[x0, y0, x1, y1, ..], ..] nor run lengths {\"size\": [height, width], \"counts\": ..}"
)]
pub enum Segmentation {
    /// Polygons `[x0, y0, x1, y1, ..]` in pixels, merged by "or".
    Polygons(Vec<Vec<f64>>),
    /// Run lengths over an image of `[height, width]`.
    Rle {
        /// Height, width in pixels.
        size: [u32; 2],
        /// The runs.
        counts: Counts,
    },
    /// Several run lengths, merged by "or"; not COCO's own, but found in its relatives.
    Rles(Vec<SizedCounts>),
}

impl Default for Segmentation {
    /// No outline.
    fn default() -> Self {
        Self::Polygons(Vec::new())
    }
}

/// Run lengths with the extent they are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizedCounts {
    /// Height, width in pixels.
    pub size: [u32; 2],
    /// The runs.
    pub counts: Counts,
}

/// One image of `instances.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageEntry {
    /// Unique over the file.
    pub id: i64,
    /// Name inside the image folder.
    pub file_name: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// One object of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    /// Unique over the file.
    pub id: i64,
    /// The image it lies in.
    pub image_id: i64,
    /// An id of `categories`.
    #[serde(default)]
    pub category_id: i64,
    /// Outline of the object; none where the file has none, so that only records that mean this object are left out.
    #[serde(default, deserialize_with = "or_default")]
    pub segmentation: Segmentation,
    /// Square pixels, as annotated (not used: areas are counted from masks).
    #[serde(default, deserialize_with = "or_default")]
    pub area: f64,
    /// `[x, y, width, height]` in pixels, as annotated (not used).
    #[serde(default, deserialize_with = "or_default")]
    pub bbox: Vec<f64>,
    /// 1 for a crowd.
    #[serde(default, deserialize_with = "flag")]
    pub iscrowd: u8,
}

/// One object category.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    /// Unique over the file.
    pub id: i64,
    /// For example `person`.
    pub name: String,
    /// For example `animal`.
    #[serde(default)]
    pub supercategory: String,
}

/// The parts of `instances.json` that are needed here; other keys are ignored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Instances {
    /// Every image, also those without an object.
    pub images: Vec<ImageEntry>,
    /// Every object.
    pub annotations: Vec<Annotation>,
    /// Names of the categories.
    #[serde(default)]
    pub categories: Vec<Category>,
}

impl Instances {
    /// Reads `instances.json`.
    ///
    /// # Errors
    /// The file cannot be read or is not of this layout; the message names line and column.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|e| DataError::read(path, e))?;
        let json = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        serde_json::from_slice(json)
            .map_err(|e| DataError::format(path, format!("not COCO's instances layout: {e}")))
    }

    /// Writes `instances.json`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), DataError> {
        let path = path.as_ref();
        let json = serde_json::to_vec(self)
            .map_err(|e| DataError::format(path, format!("cannot be written as json: {e}")))?;
        std::fs::write(path, json).map_err(|e| DataError::write(path, e))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_that_are_not_used_may_hold_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("instances.json");
        let load = |rest: &str| {
            let json = format!(
                r#"{{"images": [], "annotations": [{{"id": 1, "image_id": 2, "segmentation": [], {rest}}}]}}"#
            );
            std::fs::write(&path, ["\u{feff}", &json].concat()).unwrap();
            Instances::load(&path).map(|instances| instances.annotations[0].clone())
        };
        let read = load(r#""iscrowd": null, "area": null, "bbox": null"#).unwrap();
        assert_eq!((read.iscrowd, read.area, read.bbox.len()), (0, 0.0, 0));
        assert_eq!(load(r#""iscrowd": true"#).unwrap().iscrowd, 1);
        assert_eq!(load(r#""iscrowd": 1"#).unwrap().iscrowd, 1);
        let error = load(r#""iscrowd": "no""#).unwrap_err().to_string();
        assert!(error.contains("neither 0, 1 nor a bool"), "{error}");
    }

    #[test]
    fn an_outline_may_be_missing_but_not_be_something_else() {
        let read = |outline: &str| {
            let json = format!(r#"{{"id": 1, "image_id": 2{outline}}}"#);
            serde_json::from_str::<Annotation>(&json).map(|annotation| annotation.segmentation)
        };
        for none in ["", r#", "segmentation": null"#, r#", "segmentation": []"#] {
            assert_eq!(read(none).unwrap(), Segmentation::default(), "{none}");
        }
        for wrong in ["[1, 2, 3, 4, 5, 6]", r#""a.png""#, r#"{"size": [2, 2], "counts": [0.5]}"#] {
            let error = read(&format!(r#", "segmentation": {wrong}"#)).unwrap_err().to_string();
            assert!(error.contains("a segmentation is neither polygons"), "{error}");
        }
    }
}
