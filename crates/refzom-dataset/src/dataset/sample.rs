//! One sentence about one image, with the outlines of what it refers to.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::mask::Rle;
use crate::{DataError, Mask, Segmentation};

/// How many objects an expression refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// None: the right answer is an empty mask.
    Zero,
    /// One object.
    One,
    /// Two objects or more.
    Many,
}

impl TargetKind {
    /// Whether there is something to segment.
    pub fn has_target(self) -> bool {
        self != Self::Zero
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zero => "zero",
            Self::One => "one",
            Self::Many => "many",
        })
    }
}

/// One sentence about one image. Outlines are shared between the sentences of a region.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The referred region.
    pub ref_id: i64,
    /// The sentence.
    pub sentence_id: i64,
    /// The image.
    pub image_id: i64,
    /// Its file.
    pub image_path: PathBuf,
    /// Rows of the image, from `instances.json`.
    pub height: u32,
    /// Columns of the image, from `instances.json`.
    pub width: u32,
    /// The sentence as its author typed it.
    pub expression: String,
    /// How many objects are meant.
    pub kind: TargetKind,
    /// Ids of the annotations whose union is the mask; empty for [`TargetKind::Zero`].
    pub annotation_ids: Vec<i64>,
    /// Their outlines.
    pub segmentations: Vec<Arc<Segmentation>>,
    /// Split as the file names it, for example `testA`.
    pub split: String,
    /// Ref-ZOM's `source`, where given.
    pub source: Option<String>,
}

impl Sample {
    /// The mask at the size of the image, as run lengths: the union of all outlines.
    ///
    /// # Errors
    /// An outline cannot be drawn; [`crate::Dataset::load`] rejects such samples.
    pub fn rle(&self) -> Result<Rle, DataError> {
        let parts: Vec<Rle> = self
            .segmentations
            .iter()
            .map(|outline| outline.to_rle(self.height, self.width))
            .collect::<Result<_, _>>()?;
        match Rle::union(&parts) {
            Some(union) => Ok(union),
            None => Ok(Mask::zeros(self.height, self.width)?.to_rle()),
        }
    }

    /// The mask at the size of the image.
    ///
    /// # Errors
    /// As [`Sample::rle`].
    pub fn mask(&self) -> Result<Mask, DataError> {
        Ok(self.rle()?.decode())
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.expression.chars().take(80).collect();
        let dots = if shown.len() < self.expression.len() { ".." } else { "" };
        write!(
            f,
            "reference {} sentence {} \"{shown}{dots}\" of {}",
            self.ref_id,
            self.sentence_id,
            self.image_path.display()
        )
    }
}
