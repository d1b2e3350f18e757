//! Records that cannot be used, as values: they are counted and listed, not fatal, unless nothing remains.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A record, or one sentence of it, that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The referred region.
    pub ref_id: i64,
    /// The sentence, if the fault lies in one sentence.
    pub sentence_id: Option<i64>,
    /// The image it names.
    pub image_id: i64,
    /// Its split; empty for a line of one's own set of which not even that could be read.
    pub split: String,
    /// Why.
    pub reason: RejectReason,
}

/// Why a record was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RejectReason {
    /// A line of one's own set that is no record.
    BadLine(String),
    /// `instances.json` has no such image.
    MissingImageEntry,
    /// The image file does not exist.
    MissingImageFile(PathBuf),
    /// The image's name is absolute or leads out of the image folder.
    UnsafeFileName(String),
    /// The image's announced size is empty or too large.
    BadImageSize(String),
    /// `instances.json` has no such annotation.
    MissingAnnotation(i64),
    /// The annotation lies in another image.
    AnnotationOfOtherImage {
        /// The annotation.
        annotation_id: i64,
        /// The image it lies in.
        image_id: i64,
    },
    /// The outline cannot be drawn.
    BadOutline {
        /// The annotation.
        annotation_id: i64,
        /// What is wrong.
        message: String,
    },
    /// A mask file of one's own set that cannot be used.
    BadMaskFile(String),
    /// A target is announced but no pixel lies inside its outlines.
    EmptyMask,
    /// The record has no sentence.
    NoSentence,
    /// The sentence holds nothing but space.
    EmptyExpression,
    /// The sentence has more characters than any sentence.
    EndlessExpression(usize),
}

impl RejectReason {
    /// The fault without its particulars, for counting.
    pub fn label(&self) -> &'static str {
        match self {
            Self::BadLine(_) => "line that is no record",
            Self::MissingImageEntry => "image not in instances.json",
            Self::MissingImageFile(_) => "image file missing",
            Self::UnsafeFileName(_) => "image name leads out of the image folder",
            Self::BadImageSize(_) => "impossible image size",
            Self::MissingAnnotation(_) => "annotation id without annotation",
            Self::AnnotationOfOtherImage { .. } => "annotation of another image",
            Self::BadOutline { .. } => "outline that cannot be drawn",
            Self::BadMaskFile(_) => "mask file that cannot be used",
            Self::EmptyMask => "target without a pixel",
            Self::NoSentence => "no sentence",
            Self::EmptyExpression => "empty expression",
            Self::EndlessExpression(_) => "expression beyond all length",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())?;
        match self {
            Self::MissingImageFile(path) => write!(f, ": {}", path.display()),
            Self::UnsafeFileName(name) => write!(f, ": {name:?}"),
            Self::BadImageSize(message) | Self::BadLine(message) | Self::BadMaskFile(message) => {
                write!(f, ": {message}")
            }
            Self::MissingAnnotation(id) => write!(f, ": {id}"),
            Self::AnnotationOfOtherImage { annotation_id, image_id } => {
                write!(f, ": {annotation_id} lies in image {image_id}")
            }
            Self::BadOutline { annotation_id, message } => {
                write!(f, ": annotation {annotation_id}: {message}")
            }
            Self::EndlessExpression(length) => write!(f, ": {length} characters"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let RejectReason::BadLine(message) = &self.reason {
            return write!(f, "line {}: {message}", self.ref_id);
        }
        write!(f, "reference {}", self.ref_id)?;
        if let Some(id) = self.sentence_id {
            write!(f, " sentence {id}")?;
        }
        write!(f, " (image {}): {}", self.image_id, self.reason)
    }
}

/// How often each fault occurs, by name of the fault.
pub fn count_reasons(rejected: &[Rejected]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for one in rejected {
        *counts.entry(one.reason.label()).or_insert(0) += 1;
    }
    counts
}
