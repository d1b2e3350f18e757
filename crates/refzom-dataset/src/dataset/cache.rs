//! The parsed cache: what [`super::join`] made of the annotation files, for a quick second start.

use std::path::PathBuf;

use super::join::{Joined, join};
use super::{Annotations, DatasetConfig};
use crate::DataError;

/// Joined records, the first annotation file and the image folder.
pub(super) fn joined(cfg: &DatasetConfig) -> Result<(Vec<Joined>, PathBuf, PathBuf), DataError> {
    let annotations = Annotations::open(cfg)?;
    let (file, images) = (annotations.file().to_path_buf(), annotations.images.clone());
    Ok((join(annotations), file, images))
}
