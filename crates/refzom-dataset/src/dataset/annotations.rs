//! Everything the annotation files of a folder hold, in REFER's terms whatever their format: for joining, converting, checking.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{DatasetConfig, Format, Rejected};
use crate::refer::{OwnSet, read_own};
use crate::{DataError, Instances, RefRecord, load_refs};

/// The records of all splits with the images and outlines they name; nothing is joined or checked yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotations {
    /// What the files were.
    pub format: Format,
    /// The annotation files, `instances.json` not among them.
    pub files: Vec<PathBuf>,
    /// `instances.json`, for the formats that have one.
    pub instances_file: Option<PathBuf>,
    /// One referred region each, in the order of the file.
    pub records: Vec<RefRecord>,
    /// Images, outlines and categories; made up with new ids for one's own sets.
    pub instances: Instances,
    /// The image folder.
    pub images: PathBuf,
    /// Lines of one's own set that are no record; `ref_id` is the number of the line.
    pub rejected: Vec<Rejected>,
    /// Mask and image files that the content depends on besides the annotation files (one's own sets).
    pub(super) depends_on: Vec<PathBuf>,
}

impl Annotations {
    /// Reads the files that `cfg` names; its split is not looked at.
    ///
    /// # Errors
    /// A file is missing or unreadable, of another format, or there is no image folder.
    pub fn open(cfg: &DatasetConfig) -> Result<Self, DataError> {
        let located = cfg.located()?;
        if located.format.has_instances() {
            let images = cfg.images_path()?;
            let mut records = Vec::new();
            for file in &located.files {
                records.extend(load_refs(file)?);
            }
            let instances_file = cfg.instances_path();
            return Ok(Self {
                format: located.format,
                files: located.files,
                records,
                instances: Instances::load(&instances_file)?,
                instances_file: Some(instances_file),
                images,
                rejected: Vec::new(),
                depends_on: Vec::new(),
            });
        }
        let images = match &cfg.images {
            Some(_) => Some(cfg.images_path()?),
            None => None,
        };
        let OwnSet { records, instances, images, rejected, depends_on } =
            read_own(located.format, &located.files, cfg.base(), images)?;
        Ok(Self {
            format: located.format,
            files: located.files,
            instances_file: None,
            records,
            instances,
            images,
            rejected,
            depends_on,
        })
    }

    /// The names of the splits and their numbers of records.
    pub fn splits(&self) -> BTreeMap<String, usize> {
        let mut splits = BTreeMap::new();
        for record in &self.records {
            *splits.entry(record.split.clone()).or_insert(0) += 1;
        }
        splits
    }

    /// The first annotation file, for messages.
    pub fn file(&self) -> &Path {
        self.files.first().map_or(&self.images, |file| file)
    }
}
