//! Joins the refs file with `instances.json` and the image folder.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{Dataset, DatasetConfig, RejectReason, Rejected, Sample, TargetKind, count_reasons};
use crate::mask::check_extent;
use crate::{Annotation, DataError, ImageEntry, Instances, RefRecord, Segmentation, load_refs};

/// Longest sentence, in characters; the longest of Ref-ZOM has a few hundred.
const MAX_EXPRESSION: usize = 10_000;

impl Dataset {
    /// Reads a split. Records that cannot be used are returned beside the data set, with their reasons.
    ///
    /// # Errors
    /// A file is missing or unreadable, the split does not exist, or no sample remains.
    pub fn load(cfg: &DatasetConfig) -> Result<(Dataset, Vec<Rejected>), DataError> {
        let refs_path = cfg.refs_path()?;
        let images_path = cfg.images_path()?;
        let records = load_refs(&refs_path)?;
        let mut splits: BTreeMap<&str, usize> = BTreeMap::new();
        for record in &records {
            *splits.entry(&record.split).or_insert(0) += 1;
        }
        if !records.iter().any(|record| cfg.wants(&record.split)) {
            let has: Vec<String> = splits.iter().map(|(s, n)| format!("{s} ({n})")).collect();
            return Err(DataError::Empty(format!(
                "{} has no split {:?}; it has {}",
                refs_path.display(),
                cfg.split,
                if has.is_empty() { "no record at all".into() } else { has.join(", ") }
            )));
        }
        let mut joiner = Joiner::new(Instances::load(cfg.instances_path())?, images_path);
        for record in records {
            if cfg.wants(&record.split) {
                joiner.add(record);
            }
        }
        let Joiner { samples, rejected, .. } = joiner;
        if samples.is_empty() {
            let faults: Vec<String> = count_reasons(&rejected)
                .iter()
                .map(|(reason, count)| format!("{reason} ({count})"))
                .collect();
            let first = rejected.first().map(|r| format!("; first: {r}")).unwrap_or_default();
            return Err(DataError::Empty(format!(
                "every record of split {:?} in {} was rejected: {}{first}",
                cfg.split,
                refs_path.display(),
                faults.join(", ")
            )));
        }
        Ok((Dataset { samples }, rejected))
    }
}

struct Joiner {
    images: HashMap<i64, ImageEntry>,
    annotations: HashMap<i64, (i64, Arc<Segmentation>)>,
    folder: PathBuf,
    /// Paths of image files by image id, once looked for.
    found: HashMap<i64, Result<PathBuf, RejectReason>>,
    samples: Vec<Sample>,
    rejected: Vec<Rejected>,
}

impl Joiner {
    fn new(instances: Instances, folder: PathBuf) -> Self {
        let outline = |a: Annotation| (a.id, (a.image_id, Arc::new(a.segmentation)));
        Self {
            images: instances.images.into_iter().map(|image| (image.id, image)).collect(),
            annotations: instances.annotations.into_iter().map(outline).collect(),
            folder,
            found: HashMap::new(),
            samples: Vec::new(),
            rejected: Vec::new(),
        }
    }

    fn add(&mut self, record: RefRecord) {
        let reject = |sentence_id, reason| Rejected {
            ref_id: record.ref_id,
            sentence_id,
            image_id: record.image_id,
            reason,
        };
        let whole = match self.region(&record) {
            Ok(_) if record.sentences.is_empty() => Err(RejectReason::NoSentence),
            other => other,
        };
        let region = match whole {
            Ok(region) => region,
            Err(reason) => return self.rejected.push(reject(None, reason)),
        };
        for sentence in &record.sentences {
            let raw = sentence.raw.trim();
            let expression = if raw.is_empty() { sentence.sent.trim() } else { raw };
            let length = expression.chars().count();
            let id = Some(sentence.sent_id);
            if length == 0 {
                self.rejected.push(reject(id, RejectReason::EmptyExpression));
            } else if length > MAX_EXPRESSION {
                self.rejected.push(reject(id, RejectReason::EndlessExpression(length)));
            } else {
                self.samples.push(Sample {
                    sentence_id: sentence.sent_id,
                    expression: expression.to_owned(),
                    ..region.clone()
                });
            }
        }
    }

    /// Everything of a record but its sentences.
    fn region(&mut self, record: &RefRecord) -> Result<Sample, RejectReason> {
        let Some(image) = self.images.get(&record.image_id) else {
            return Err(RejectReason::MissingImageEntry);
        };
        let (height, width) = (image.height, image.width);
        check_extent(height, width).map_err(RejectReason::BadImageSize)?;

        let mut ids = if record.is_zero() { Vec::new() } else { record.ann_id.to_vec() };
        ids.sort_unstable();
        ids.dedup();
        let mut segmentations = Vec::with_capacity(ids.len());
        let mut area = 0;
        for &annotation_id in &ids {
            let Some((image_id, outline)) = self.annotations.get(&annotation_id) else {
                return Err(RejectReason::MissingAnnotation(annotation_id));
            };
            if *image_id != record.image_id {
                let image_id = *image_id;
                return Err(RejectReason::AnnotationOfOtherImage { annotation_id, image_id });
            }
            let rle = outline
                .to_rle(height, width)
                .map_err(|e| RejectReason::BadOutline { annotation_id, message: e.to_string() })?;
            area += rle.area();
            segmentations.push(Arc::clone(outline));
        }
        if !ids.is_empty() && area == 0 {
            return Err(RejectReason::EmptyMask);
        }
        let found = self
            .found
            .entry(record.image_id)
            .or_insert_with(|| find_image(&self.folder, &image.file_name, &record.file_name));
        Ok(Sample {
            ref_id: record.ref_id,
            sentence_id: 0,
            image_id: record.image_id,
            image_path: found.clone()?,
            height,
            width,
            expression: String::new(),
            kind: match ids.len() {
                0 => TargetKind::Zero,
                1 => TargetKind::One,
                _ => TargetKind::Many,
            },
            annotation_ids: ids,
            segmentations,
            split: record.split.clone(),
            source: record.source.clone(),
        })
    }
}

/// The name in `instances.json` counts; Ref-ZOM's own name is tried after it.
fn find_image(folder: &Path, listed: &str, recorded: &str) -> Result<PathBuf, RejectReason> {
    let inside = |name: &str| {
        !name.is_empty() && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)))
    };
    if !inside(listed) {
        return Err(RejectReason::UnsafeFileName(listed.chars().take(200).collect()));
    }
    let path = folder.join(listed);
    if path.is_file() {
        return Ok(path);
    }
    let other = folder.join(recorded);
    if inside(recorded) && other.is_file() {
        Ok(other)
    } else {
        Err(RejectReason::MissingImageFile(path))
    }
}
